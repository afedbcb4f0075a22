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
    NB_DIM_HEADS,
    NB_DIM_KV_HEADS,
    NB_DIM_ROPE, /* rotated pairs of a head */
    NB_DIM_VOCAB,
    NB_DIM_TOKEN,     /* columns of the token embedding: EMBD unless the file says otherwise */
    NB_DIM_POSITIONS, /* the trained context */
    NB_DIM_ANY,       /* one or more: the tensor says */
    NB_DIM_QKV,       /* Q + K + V */
    NB_DIM_GATE_UP,   /* 2 FF */
    NB_DIM_ONE,
    NB_DIM_EXPERTS,   /* of a layer */
    NB_DIM_EXPERT_FF, /* of one of them */
    NB_DIM_SHARED_FF, /* of the one that all tokens pass */
    NB_DIM_RANGES,    /* of distances that NB_ATTN_RELATIVE tells apart: 32 */
    /* of latent attention */
    NB_DIM_LATENT,
    NB_DIM_ROTATED,       /* values of a key that turn */
    NB_DIM_LATENT_KEY,    /* the two together */
    NB_DIM_Q_RANK,
    NB_DIM_KEY_PLAIN,     /* values of a head's key that do not turn */
    NB_DIM_HEADS_KEY,     /* heads * (these and those that turn) */
    NB_DIM_HEADS_LATENT,  /* heads * LATENT */
    NB_DIM_HEADS_VALUE,   /* heads * values of a head */
    NB_DIM_HEADS_BOTH     /* heads * (KEY_PLAIN + values of a head) */
} nb_dim;

/* Roles a tensor can play. */
typedef enum nb_role {
    NB_TOKEN_EMBD,
    NB_TOKEN_PROJ, /* from the token embedding's width to the model's */
    NB_TOKEN_TYPES,
    NB_POSITION_EMBD,
    NB_EMBD_NORM,
    NB_EMBD_NORM_BIAS,
    NB_OUTPUT,
    NB_OUTPUT_BIAS,
    NB_OUTPUT_NORM,
    NB_OUTPUT_NORM_BIAS,
    NB_OUTPUT_PROJ, /* and back */
    NB_ROPE_FREQS,
    NB_ROPE_FACTORS_SHORT,
    NB_ROPE_FACTORS_LONG,
    NB_ATTN_NORM,
    NB_ATTN_NORM_BIAS,
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
    NB_ATTN_Q_NORM_BIAS,
    NB_ATTN_K_NORM_BIAS,
    NB_ATTN_RELATIVE, /* of the whole model: what each head adds for a range of distances between key and query */
    NB_ATTN_POST_NORM,
    NB_ATTN_Q_A, /* latent attention (DeepSeek-V2 section 2.1): to the queries' rank, where they have one */
    NB_ATTN_Q_A_NORM,
    NB_ATTN_LATENT, /* to what keys and values are made of, */
    NB_ATTN_LATENT_NORM,
    NB_ATTN_LATENT_ROPE, /* and to the part of all heads' keys that turns */
    NB_ATTN_KV_B,        /* a head's keys' rows, then its values', head by head; or apart: */
    NB_ATTN_K_B,         /* keys, turned: from a head's values to the latent's */
    NB_ATTN_V_B,
    NB_ATTN_SINKS, /* a logit for each head that joins the softmax without a value */
    NB_FFN_NORM,
    NB_FFN_NORM_BIAS,
    NB_FFN_GATE,
    NB_FFN_UP,
    NB_FFN_DOWN,
    NB_FFN_GATE_BIAS,
    NB_FFN_UP_BIAS,
    NB_FFN_DOWN_BIAS,
    NB_FFN_POST_NORM,
    NB_FFN_ROUTER, /* a logit for each expert: a layer that has one has experts */
    NB_FFN_ROUTER_BIAS,
    NB_FFN_ROUTER_CHOICE, /* added to the weights of all experts while some are chosen, and not after that */
    NB_FFN_GATE_EXPERTS,
    NB_FFN_UP_EXPERTS,
    NB_FFN_DOWN_EXPERTS,
    NB_FFN_GATE_EXPERTS_BIAS,
    NB_FFN_UP_EXPERTS_BIAS,
    NB_FFN_DOWN_EXPERTS_BIAS,
    NB_FFN_GATE_SHARED, /* the expert that all tokens pass */
    NB_FFN_UP_SHARED,
    NB_FFN_DOWN_SHARED,
    NB_FFN_SHARED_ROUTER, /* its sigmoid scales what that expert adds */
    NB_ROLES
} nb_role;

/* SPARSE: in layers with a router only, and needed there. DENSE: in the others. STACK: one for each expert in one tensor. */
enum {
    NB_TENSOR_LAYER = 1,
    NB_TENSOR_OPTIONAL = 2,
    NB_TENSOR_SPARSE = 4,
    NB_TENSOR_DENSE = 8,
    NB_TENSOR_STACK = 16
};

typedef struct nb_tensor_row { /* a row of an architecture's table; columns is the contiguous size */
    nb_role role;
    const char *name; /* "blk.%d.attn_q.weight" with NB_TENSOR_LAYER */
    nb_dim columns, rows;
    unsigned flags;
    nb_dim
        whole; /* NB_DIM_NONE: the tensor is this row's alone. Else it has so many rows (a vector: values), several */
    nb_dim after[2]; /* roles share them, and this one's come after those of `after` */
} nb_tensor_row;

/* Rows of a table. LAYER: one a layer. OPTIONAL: some files lack it. */
#define NB_TENSOR_ROW(r, n, c, rs, f)                                                                                  \
    {                                                                                                                  \
        .role = r, .name = n, .columns = c, .rows = rs, .flags = f                                                     \
    }
#define NB_TENSOR(r, n, c, rs) NB_TENSOR_ROW(r, n, c, rs, 0)
#define NB_OPTIONAL(r, n, c, rs) NB_TENSOR_ROW(r, n, c, rs, NB_TENSOR_OPTIONAL)
#define NB_LAYER(r, n, c, rs) NB_TENSOR_ROW(r, "blk.%d." n, c, rs, NB_TENSOR_LAYER)
#define NB_LAYER_OPTIONAL(r, n, c, rs) NB_TENSOR_ROW(r, "blk.%d." n, c, rs, NB_TENSOR_LAYER | NB_TENSOR_OPTIONAL)

/* A layer's MLP where some layers of a family, or some files, have experts instead; the router comes first. */
#define NB_DENSE(r, n, c, rs) NB_TENSOR_ROW(r, "blk.%d." n, c, rs, NB_TENSOR_LAYER | NB_TENSOR_DENSE)
#define NB_SPARSE(r, n, c, rs, more) NB_TENSOR_ROW(r, "blk.%d." n, c, rs, NB_TENSOR_LAYER | NB_TENSOR_SPARSE | (more))
#define NB_EXPERTS                                                                                                     \
    NB_LAYER_OPTIONAL(NB_FFN_ROUTER, "ffn_gate_inp.weight", NB_DIM_EMBD, NB_DIM_EXPERTS),                              \
        NB_SPARSE(NB_FFN_GATE_EXPERTS, "ffn_gate_exps.weight", NB_DIM_EMBD, NB_DIM_EXPERT_FF, NB_TENSOR_STACK),        \
        NB_SPARSE(NB_FFN_UP_EXPERTS, "ffn_up_exps.weight", NB_DIM_EMBD, NB_DIM_EXPERT_FF, NB_TENSOR_STACK),            \
        NB_SPARSE(NB_FFN_DOWN_EXPERTS, "ffn_down_exps.weight", NB_DIM_EXPERT_FF, NB_DIM_EMBD, NB_TENSOR_STACK)
/* Biases of the router and of the experts' matrices, one for each expert. */
#define NB_EXPERT_BIASES                                                                                               \
    NB_LAYER_OPTIONAL(NB_FFN_ROUTER_BIAS, "ffn_gate_inp.bias", NB_DIM_EXPERTS, NB_DIM_NONE),                           \
        NB_SPARSE(NB_FFN_GATE_EXPERTS_BIAS, "ffn_gate_exps.bias", NB_DIM_EXPERT_FF, NB_DIM_NONE, NB_BIAS_STACK),       \
        NB_SPARSE(NB_FFN_UP_EXPERTS_BIAS, "ffn_up_exps.bias", NB_DIM_EXPERT_FF, NB_DIM_NONE, NB_BIAS_STACK),           \
        NB_SPARSE(NB_FFN_DOWN_EXPERTS_BIAS, "ffn_down_exps.bias", NB_DIM_EMBD, NB_DIM_NONE, NB_BIAS_STACK)
#define NB_BIAS_STACK (NB_TENSOR_STACK | NB_TENSOR_OPTIONAL)
#define NB_SHARED_EXPERT(more)                                                                                         \
    NB_SPARSE(NB_FFN_GATE_SHARED, "ffn_gate_shexp.weight", NB_DIM_EMBD, NB_DIM_SHARED_FF, more),                       \
        NB_SPARSE(NB_FFN_UP_SHARED, "ffn_up_shexp.weight", NB_DIM_EMBD, NB_DIM_SHARED_FF, more),                       \
        NB_SPARSE(NB_FFN_DOWN_SHARED, "ffn_down_shexp.weight", NB_DIM_SHARED_FF, NB_DIM_EMBD, more)

/* Queries, keys and values, or gate and up, in one tensor: where a file has it, it stands for the single ones. These rows
 * come before those of the single tensors. */
#define NB_PART(r, n, c, rs, w, ...)                                                                                   \
    {                                                                                                                  \
        .role = r, .name = "blk.%d." n, .columns = c, .rows = rs, .flags = NB_TENSOR_LAYER | NB_TENSOR_OPTIONAL,       \
        .whole = w, .after = {                                                                                         \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }
#define NB_FUSED_QKV                                                                                                   \
    NB_PART(NB_ATTN_Q, "attn_qkv.weight", NB_DIM_EMBD, NB_DIM_Q, NB_DIM_QKV, NB_DIM_NONE),                             \
        NB_PART(NB_ATTN_K, "attn_qkv.weight", NB_DIM_EMBD, NB_DIM_K, NB_DIM_QKV, NB_DIM_Q),                            \
        NB_PART(NB_ATTN_V, "attn_qkv.weight", NB_DIM_EMBD, NB_DIM_V, NB_DIM_QKV, NB_DIM_Q, NB_DIM_K),                  \
        NB_PART(NB_ATTN_Q_BIAS, "attn_qkv.bias", NB_DIM_Q, NB_DIM_NONE, NB_DIM_QKV, NB_DIM_NONE),                      \
        NB_PART(NB_ATTN_K_BIAS, "attn_qkv.bias", NB_DIM_K, NB_DIM_NONE, NB_DIM_QKV, NB_DIM_Q),                         \
        NB_PART(NB_ATTN_V_BIAS, "attn_qkv.bias", NB_DIM_V, NB_DIM_NONE, NB_DIM_QKV, NB_DIM_Q, NB_DIM_K)
#define NB_FUSED_GATE_UP                                                                                               \
    NB_PART(NB_FFN_GATE, "ffn_up.weight", NB_DIM_EMBD, NB_DIM_FF, NB_DIM_GATE_UP, NB_DIM_NONE),                        \
        NB_PART(NB_FFN_UP, "ffn_up.weight", NB_DIM_EMBD, NB_DIM_FF, NB_DIM_GATE_UP, NB_DIM_FF)

/* Rows that most families have: the embedding and the head, which may be the same; the four matrices of attention, their biases where a file has them, an MLP with a gate, and
 * one without, whose biases a file may have. */
#define NB_ENDS_ROWS                                                                                                   \
    NB_TENSOR(NB_TOKEN_EMBD, "token_embd.weight", NB_DIM_EMBD, NB_DIM_VOCAB),                                          \
        NB_TENSOR(NB_OUTPUT_NORM, "output_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),                                     \
        NB_OPTIONAL(NB_OUTPUT, "output.weight", NB_DIM_EMBD, NB_DIM_VOCAB)
#define NB_ATTENTION_ROWS                                                                                              \
    NB_LAYER(NB_ATTN_Q, "attn_q.weight", NB_DIM_EMBD, NB_DIM_Q),                                                       \
        NB_LAYER(NB_ATTN_K, "attn_k.weight", NB_DIM_EMBD, NB_DIM_K),                                                   \
        NB_LAYER(NB_ATTN_V, "attn_v.weight", NB_DIM_EMBD, NB_DIM_V),                                                   \
        NB_LAYER(NB_ATTN_O, "attn_output.weight", NB_DIM_O, NB_DIM_EMBD)
#define NB_ATTENTION_BIASES                                                                                            \
    NB_LAYER_OPTIONAL(NB_ATTN_Q_BIAS, "attn_q.bias", NB_DIM_Q, NB_DIM_NONE),                                           \
        NB_LAYER_OPTIONAL(NB_ATTN_K_BIAS, "attn_k.bias", NB_DIM_K, NB_DIM_NONE),                                       \
        NB_LAYER_OPTIONAL(NB_ATTN_V_BIAS, "attn_v.bias", NB_DIM_V, NB_DIM_NONE),                                       \
        NB_LAYER_OPTIONAL(NB_ATTN_O_BIAS, "attn_output.bias", NB_DIM_EMBD, NB_DIM_NONE)
#define NB_GATED_MLP_ROWS                                                                                              \
    NB_LAYER(NB_FFN_GATE, "ffn_gate.weight", NB_DIM_EMBD, NB_DIM_FF),                                                  \
        NB_LAYER(NB_FFN_UP, "ffn_up.weight", NB_DIM_EMBD, NB_DIM_FF),                                                  \
        NB_LAYER(NB_FFN_DOWN, "ffn_down.weight", NB_DIM_FF, NB_DIM_EMBD)
#define NB_MLP_ROWS                                                                                                    \
    NB_LAYER(NB_FFN_UP, "ffn_up.weight", NB_DIM_EMBD, NB_DIM_FF),                                                      \
        NB_LAYER(NB_FFN_DOWN, "ffn_down.weight", NB_DIM_FF, NB_DIM_EMBD),                                              \
        NB_LAYER_OPTIONAL(NB_FFN_UP_BIAS, "ffn_up.bias", NB_DIM_FF, NB_DIM_NONE),                                      \
        NB_LAYER_OPTIONAL(NB_FFN_DOWN_BIAS, "ffn_down.bias", NB_DIM_EMBD, NB_DIM_NONE)

typedef enum nb_activation {
    NB_SILU,
    NB_GELU_TANH,
    NB_GELU_ERF,
    NB_RELU,
    NB_RELU_SQUARED,
    NB_XIELU,
    NB_CLAMPED_SWIGLU
} nb_activation;

/* What a router's logits become, as files number it (expert_gating_func): weights of all experts of which the largest are
 * taken, or those of the largest logits alone. */
typedef enum nb_expert_gating { NB_GATING_SOFTMAX = 1, NB_GATING_SIGMOID, NB_GATING_SOFTMAX_CHOSEN } nb_expert_gating;

/* How a text's vectors become one, as files number it (pooling_type). */
typedef enum nb_pooling_type { NB_POOL_NONE, NB_POOL_MEAN, NB_POOL_CLS, NB_POOL_LAST, NB_POOL_RANK } nb_pooling_type;

enum { NB_LAYERS_MOST = 4096, NB_EXPERT_GROUPS_MOST = 256 };

typedef struct nb_hparams {
    int layers, embd, ff, heads, kv_heads, k_dim, v_dim;
    size_t vocab, context; /* trained context */
    int token_width;       /* columns of the token embedding; embd */
    float norm_eps;
    bool norm_first; /* norms before attention and MLP; else after the sum with what went in */
    bool parallel;   /* attention and MLP both read what the layer is given, and are added to it together */
    nb_activation activation;
    const nb_gguf_value *xielu[4];           /* XIELU: alpha_p, alpha_n before softplus, beta, eps; one number, or one a layer */
    float embd_scale;                        /* of the embedding; 1 */
    float residual_scale;                    /* of what attention and MLP add; 1 */
    float logit_scale;                       /* of the logits; 1 */
    float attention_scale;                   /* of q.k */
    float attention_softcap, output_softcap; /* 0: none */
    float alibi;            /* scores fall with the distance (ALiBi), the last slope being 2^-this; 0: none */
    bool alibi_rounded;     /* as Falcon computes it: in BF16, and scaled as scores are */
    nb_attention_bias bias; /* made of these two, or of NB_ATTN_RELATIVE */
    float qkv_clamp;        /* queries, keys and values are cut to -this .. this; 0: not */
    bool clamp_normed;      /* queries and keys once they are normed */
    bool bare_norms;        /* norms have no weights */
    bool causal;                             /* false: every token sees the whole text, in one step */
    nb_pooling_type pooling;                 /* NONE: the file does not say */
    bool normalize;                          /* embeddings are scaled to length 1 */
    int64_t window;                          /* of window layers; 0: none */
    int window_pattern; /* layer i is global when (i + 1) % pattern == 0; 0: all layers have the window */
    bool window_list;   /* window_layers tells instead: bit i % 8 of byte i / 8 is set when layer i has the window */
    unsigned char window_layers[NB_LAYERS_MOST / 8];
    bool rope_window_only; /* global layers do not rotate */
    nb_rope rope;       /* of global layers; dim 0: nothing is rotated */
    nb_rope rope_local; /* of window layers */
    bool rope_first;    /* queries and keys are normed after they are rotated */
    float temperature;  /* queries at position p are scaled by 1 + temperature * ln(1 + floor(p / temperature_length)) */
    size_t temperature_length; /* above 0 when temperature is not */
    int rope_skip;      /* nothing is rotated in layer i when (i + 1) % rope_skip == 0; 0: in all layers it is */
    int experts, experts_used;      /* of a layer, and by a token; 0: none */
    int expert_groups, expert_groups_used; /* only experts of the best groups are chosen; 0: all are one group */
    int expert_ff, shared_ff;
    int latent; /* latent attention: keys are [the part that turns, latent], values the latent, of one kv head; 0: none */
    int q_rank; /* 0: queries are made at once */
    int key_plain, head_value; /* of a head, once made of the latent: values of its key that do not turn; of its value */
    nb_expert_gating expert_gating; /* softmax */
    bool expert_norm;               /* a token's weights are scaled to a sum of 1 */
    float expert_scale;             /* and by this; 1 */
} nb_hparams;

typedef struct nb_model_def nb_model_def;
struct nb_plan;

/* What sets families apart before their tensors are looked at. */
enum {
    NB_ARCH_LAYER_NORM = 1,   /* norms take the mean out and may have biases; else RMSNorm */
    NB_ARCH_POSITIONS = 2,    /* positions are no rotary ones: a vector for each, or ALiBi */
    NB_ARCH_EXPERTS = 8,      /* layers may have experts */
    NB_ARCH_BIDIRECTIONAL = 4 /* every token sees the whole text, unless the file says otherwise */
};

typedef struct nb_arch {
    const char *name;             /* general.architecture */
    const nb_tensor_row *tensors; /* ends with a NULL name */
    /* Reads what is not common to all; the common ones are read already. NULL: nothing. */
    nb_status (*read)(const nb_gguf *g, nb_hparams *h, nb_error *err);
    /* Emits the ops of a step into the plan. */
    void (*build)(const nb_model_def *model, struct nb_plan *plan);
    unsigned traits; /* NB_ARCH_... */
} nb_arch;

const nb_arch *nb_arch_find(nb_str name); /* NULL when there is none */
size_t nb_arch_count(void);
const nb_arch *nb_arch_at(size_t i);
const char *nb_arch_known(size_t i); /* models of it that people know by name: "Qwen 1.5, 2, 2.5" */

typedef struct nb_weight {
    const nb_gguf_tensor *tensor; /* the file's, or in the model's arena: a part of one */
    nb_role role;
    int layer; /* -1: of the whole model */
    const nb_gguf_tensor *const *each; /* NULL, or of a stack whose matrices lie apart: one for each expert. `tensor` is then
                                        * what they would be together, without data */
} nb_weight;

typedef struct nb_adapted { /* a LoRA pair on a matrix (adapt.h): out += scale * b (a in) */
    int weight, a, b;       /* weights of the model: the matrix, and the pair's own */
    float scale;
} nb_adapted;

struct nb_model_def {
    const nb_gguf *gguf;
    const nb_arch *arch;
    nb_hparams h;
    nb_weight *weights;
    size_t weight_count;
    size_t adapter_weights; /* so many of them, the last ones, are of adapters and lie in their files */
    nb_adapted *adapted;
    size_t adapted_count;
    int *index; /* [(layers + 1)][NB_ROLES]: weight of (layer, role), -1 absent; row `layers` is the whole model's */
    uint64_t parameters; /* values in all tensors */
    nb_arena arena;
};

/* Binds g (which must outlive the model) to its architecture. Every shape, type and hyperparameter is checked; what is
 * missing or wrong is named. */
nb_status nb_model_def_new(const nb_gguf *g, nb_model_def **out, nb_error *err);
/* Before a plan or a backend has seen the model: scales its rotary positions as asked for, not as its file says. */
nb_status nb_hparams_scale_rope(nb_hparams *h, const nb_rope_params *params, nb_error *err);
void nb_model_def_free(nb_model_def *m);

/* The id of a tensor, -1 when the file has none. layer -1: of the whole model. */
int nb_model_weight(const nb_model_def *m, int layer, nb_role role);
uint64_t nb_model_dim(const nb_model_def *m, nb_dim dim); /* NB_DIM_ANY: 0 */
bool nb_model_layer_is_local(const nb_model_def *m, int layer);
const nb_rope *nb_model_layer_rope(const nb_model_def *m, int layer); /* as a layer of its kind rotates, where it does */
bool nb_model_layer_rotates(const nb_model_def *m, int layer); /* queries and keys turn with their position */
nb_attention_spec nb_model_attention(const nb_model_def *m, int layer);

/* The part of the bias of a layer's keys that all keys share, [kv_heads][k_dim]: all of it where nothing turns; of pairs that turn,
 * those that do so by at most a sixth of a circle within the trained context; 0 elsewhere. A softmax does not see what is taken from
 * all keys alike (its scores all change by one number), but a cache of few bits does: biases of Qwen 2 are up to 200, and what
 * varies is about 1. */
void nb_model_shared_key(const nb_model_def *m, int layer, const float *bias, float *shared);

/* Helpers of arch files: typed keys "ARCH.NAME"; a missing one keeps *out. */
nb_status nb_arch_get_i64(const nb_gguf *g, const char *name, bool required, int64_t least, int64_t most, int64_t *out,
                          nb_error *err);
nb_status nb_arch_get_f64(const nb_gguf *g, const char *name, bool required, double *out, nb_error *err);
nb_status nb_arch_get_bool(const nb_gguf *g, const char *name, bool *out, nb_error *err);
nb_status nb_arch_get_str(const nb_gguf *g, const char *name, nb_str *out, nb_error *err);
/* What more than one family reads. */
nb_status nb_arch_read_granite(const nb_gguf *g, nb_hparams *h, nb_error *err);
/* hidden_activation, by transformers' names: gelu (exact), gelu_new, gelu_fast, gelu_pytorch_tanh, relu, silu, swish. */
nb_status nb_arch_get_activation(const nb_gguf *g, nb_activation *out, nb_error *err);
/* attention.max_alibi_bias, and attention.clamp_kqv; 0: none. Without the first h->alibi stays. */
nb_status nb_arch_get_alibi(const nb_gguf *g, nb_hparams *h, nb_error *err);
nb_status nb_arch_get_clamp(const nb_gguf *g, nb_hparams *h, nb_error *err);
/* Which layers have the window: attention.sliding_window_pattern, a number (each so many'th layer is global) or a list of
 * bool, one a layer (true: it has the window). usual: what holds without the key. */
nb_status nb_arch_get_window_pattern(const nb_gguf *g, int usual, nb_hparams *h, nb_error *err);

#endif
