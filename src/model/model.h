/* model.h - a model as its file describes it: architecture, hyperparameters, tensors bound and checked. Immutable once
 * made; holds no weights of its own (they stay in the file; a backend makes what it needs of them).
 *
 * An architecture is a row in arch.def and a file arch_NAME.c: a table of tensors and a function that emits the plan. */
#ifndef NB_MODEL_MODEL_H
#define NB_MODEL_MODEL_H

#include "attention/attention.h"
#include "format/gguf.h"
#include "model/rope.h"

/* Symbolic sizes of tensor tables. */
typedef enum nb_dim {
    NB_DIM_NONE, /* no such dimension (vectors have one) */
    NB_DIM_EMBD,
    NB_DIM_FF,
    NB_DIM_Q,      /* heads * k_dim */
    NB_DIM_K,      /* kv heads * k_dim */
    NB_DIM_V,      /* kv heads * v_dim */
    NB_DIM_O,      /* heads * v_dim */
    NB_DIM_K_HEAD, /* k_dim */
    NB_DIM_ROPE,   /* rotated pairs of a head */
    NB_DIM_VOCAB
} nb_dim;

/* Roles a tensor can play. */
typedef enum nb_role {
    NB_TOKEN_EMBD,
    NB_OUTPUT,
    NB_OUTPUT_NORM,
    NB_ROPE_FREQS,
    NB_ROPE_FACTORS_SHORT,
    NB_ROPE_FACTORS_LONG,
    NB_ATTN_NORM,
    NB_ATTN_Q,
    NB_ATTN_K,
    NB_ATTN_V,
    NB_ATTN_O,
    NB_ATTN_Q_BIAS,
    NB_ATTN_K_BIAS,
    NB_ATTN_V_BIAS,
    NB_ATTN_O_BIAS,
    NB_ATTN_Q_NORM,
    NB_ATTN_K_NORM,
    NB_ATTN_POST_NORM,
    NB_FFN_NORM,
    NB_FFN_GATE,
    NB_FFN_UP,
    NB_FFN_DOWN,
    NB_FFN_GATE_BIAS,
    NB_FFN_UP_BIAS,
    NB_FFN_DOWN_BIAS,
    NB_FFN_POST_NORM,
    NB_ROLES
} nb_role;

enum { NB_TENSOR_LAYER = 1, NB_TENSOR_OPTIONAL = 2 };

typedef struct nb_tensor_row { /* a row of an architecture's table; columns is the contiguous size */
    nb_role role;
    const char *name; /* "blk.%d.attn_q.weight" with NB_TENSOR_LAYER */
    nb_dim columns, rows;
    unsigned flags;
} nb_tensor_row;

typedef struct nb_hparams {
    int layers, embd, ff, heads, kv_heads, k_dim, v_dim;
    size_t vocab, context; /* trained context */
    float norm_eps;
    float embd_scale;                        /* of the embedding; 1 */
    float attention_scale;                   /* of q.k */
    float attention_softcap, output_softcap; /* 0: none */
    int64_t window;                          /* of window layers; 0: none */
    int window_pattern; /* layer i is global when (i + 1) % pattern == 0; 0: all layers have the window */
    nb_rope rope;       /* of global layers */
    nb_rope rope_local; /* of window layers */
} nb_hparams;

typedef struct nb_model_def nb_model_def;
struct nb_plan;

typedef struct nb_arch {
    const char *name;             /* general.architecture */
    const nb_tensor_row *tensors; /* ends with a NULL name */
    /* Reads what is not common to all; the common ones are read already. NULL: nothing. */
    nb_status (*read)(const nb_gguf *g, nb_hparams *h, nb_error *err);
    /* Emits the ops of a step into the plan. */
    void (*build)(const nb_model_def *model, struct nb_plan *plan);
} nb_arch;

const nb_arch *nb_arch_find(nb_str name); /* NULL when there is none */
size_t nb_arch_count(void);
const nb_arch *nb_arch_at(size_t i);

typedef struct nb_weight {
    const nb_gguf_tensor *tensor;
    nb_role role;
    int layer; /* -1: of the whole model */
} nb_weight;

struct nb_model_def {
    const nb_gguf *gguf;
    const nb_arch *arch;
    nb_hparams h;
    nb_weight *weights;
    size_t weight_count;
    int *index; /* [(layers + 1)][NB_ROLES]: weight of (layer, role), -1 absent; row `layers` is the whole model's */
    uint64_t parameters; /* values in all tensors */
    nb_arena arena;
};

/* Binds g (which must outlive the model) to its architecture. Every shape, type and hyperparameter is checked; what is
 * missing or wrong is named. */
nb_status nb_model_def_new(const nb_gguf *g, nb_model_def **out, nb_error *err);
void nb_model_def_free(nb_model_def *m);

/* The id of a tensor, -1 when the file has none. layer -1: of the whole model. */
int nb_model_weight(const nb_model_def *m, int layer, nb_role role);
bool nb_model_layer_is_local(const nb_model_def *m, int layer);
nb_attention_spec nb_model_attention(const nb_model_def *m, int layer);

/* Helpers of arch files: typed keys "ARCH.NAME"; a missing one keeps *out. */
nb_status nb_arch_get_i64(const nb_gguf *g, const char *name, bool required, int64_t least, int64_t most, int64_t *out,
                          nb_error *err);
nb_status nb_arch_get_f64(const nb_gguf *g, const char *name, bool required, double *out, nb_error *err);

#endif
