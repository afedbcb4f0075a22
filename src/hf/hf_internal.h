/* hf_internal.h - a model directory while it is opened and read: what the files of this folder share. */
#ifndef NB_HF_HF_INTERNAL_H
#define NB_HF_HF_INTERNAL_H

#include "format/checkpoint.h"
#include "format/source.h"
#include "hf/hf.h"
#include "hf/hf_arch.h"
#include "hf/hf_linear.h"

enum { NB_HF_CONFIG_BYTES = 16 << 20, NB_HF_TOKENIZER_BYTES = 512 << 20, NB_HF_MODULES = 8 };

typedef struct nb_hf_stack { /* the matrices or biases of a layer's experts, or the norms of its heads */
    const nb_checkpoint_tensor *const *each; /* [experts]; NULL: all are in one tensor, */
    nb_checkpoint_tensor view;               /* of whose floats these are [experts, rows, columns], */
    const nb_hf_linear *const *linear;       /* or this is the one of `each`, or of all: quantized; NULL: floats */
    uint64_t source_rows, first, step;       /* of all: row r of expert e is row e * source_rows + first + r * step */
    uint64_t experts, rows, columns;
} nb_hf_stack;

typedef struct nb_hf_quant nb_hf_quant; /* hf_quant.h */

typedef struct nb_hf_made { /* where a tensor's values come from */
    const nb_checkpoint_tensor *from;
    nb_hf_change change;
    uint64_t head; /* rows of a head, for the permutations */
    uint64_t groups, queries; /* NB_HF_GROUPED, _SPLIT: key heads, and queries of each */
    uint64_t first;           /* NB_HF_SPLIT: its row among all queries, then keys, then values */
    const nb_hf_stack *stack; /* NULL: one matrix */
    const nb_hf_linear *linear; /* NULL: values are those of `from`; else quantized in the checkpoint, or on the way */
} nb_hf_made;

struct nb_hf {
    nb_source source; /* the first member: a source is cast to its nb_hf */
    nb_hf_params params;
    const nb_hf_quant *quant; /* how config.json says that the checkpoint is quantized; NULL: not */
    const void *quant_state;  /* what its nb_hf_quant keeps */
    nb_tree quant_file;       /* quantize_config.json, where config.json says nothing of it */
    nb_tree qmap;             /* quanto_qmap.json of optimum-quanto */
    nb_team *team;  /* NULL: not needed */
    nb_arena arena;
    char *dir;
    nb_tree config;
    const nb_node *text; /* text_config, or the root */
    const nb_hf_arch *arch;
    nb_str class_name;
    bool wrapped; /* the text of a model of more than that: hf_wrapped.h */
    const char *prefix; /* of names that begin with '~' */
    nb_checkpoint *checkpoint;
    nb_checkpoint *modules[NB_HF_MODULES]; /* dense layers of sentence-transformers */
    nb_gguf_value *values; /* source.values, to grow */
    size_t value_cap;
    nb_source_tensor *tensors; /* source.tensors, to grow */
    nb_hf_made *made;          /* [tensor] */
    size_t tensor_cap;
    char key[128]; /* of nb_hf_key */
    bool failed;   /* a `put` had no memory */
};

/* ---- config.json: `names` are alternatives, "|" between them; text_config first, then the root ---- */
const nb_node *nb_hf_config(const nb_hf *h, const char *names);
bool nb_hf_config_is_null(const nb_hf *h, const char *name); /* it is there, and null */
bool nb_hf_config_flag(const nb_hf *h, const char *names, bool otherwise);
/* *out keeps its value when the key is absent. */
nb_status nb_hf_config_u64(const nb_hf *h, const char *names, uint64_t least, uint64_t most, uint64_t *out,
                           nb_error *err);
nb_status nb_hf_config_f64(const nb_hf *h, const char *names, double *out, nb_error *err);
/* NB_ERR_UNSUPPORTED unless the string of the key is one of `wanted` ("a|b") or absent. */
nb_status nb_hf_expect(const nb_hf *h, const char *names, const char *wanted, nb_error *err);

/* ---- metadata: a key put twice takes the later value ---- */
void nb_hf_put_u32(nb_hf *h, const char *key, uint32_t value);
void nb_hf_put_f32(nb_hf *h, const char *key, double value);
void nb_hf_put_bool(nb_hf *h, const char *key, bool value);
void nb_hf_put_str(nb_hf *h, const char *key, nb_str value);
void nb_hf_put_strings(nb_hf *h, const char *key, const nb_str *values, size_t count);
void nb_hf_put_array(nb_hf *h, const char *key, nb_gguf_kind element, const void *values, size_t count, size_t size);
const char *nb_hf_key(nb_hf *h, const char *name); /* "ARCHITECTURE.name", until the next call */
bool nb_hf_has(const nb_hf *h, const char *key);

/* ---- the parts ---- */
/* rope.*: bases, scaling, factors; both styles of config.json. dim: values of a head that turn; base: what transformers takes
 * when config.json has none. */
nb_status nb_hf_rope(nb_hf *h, uint64_t dim, double base, nb_error *err);
nb_status nb_hf_sentence(nb_hf *h, nb_error *err); /* sentence-transformers' files, once all else is read */
void nb_hf_set_readers(nb_hf *h);                 /* source.read and forget */
void nb_hf_arch_classes(nb_buf *out);             /* names of what is known, for messages */
nb_status nb_hf_keys(nb_hf *h, nb_error *err);    /* keys of the architecture's table */
nb_status nb_hf_bind(nb_hf *h, nb_error *err);    /* tensors by the architecture's table */
nb_status nb_hf_card(nb_hf *h, nb_error *err);    /* general.* */
/* What is to be made of a weight of the checkpoint, on the way, under this name of GGUF's; NULL: nothing. */
nb_status nb_hf_load_find(nb_hf *h, const char *gguf, const nb_checkpoint_tensor *weight, const nb_hf_linear **out, nb_error *err);

/* Experts: hf_experts.c. */
nb_status nb_hf_is_sparse(const nb_hf *h, int block, bool *is, nb_error *err); /* the layer has some */
nb_status nb_hf_bind_experts(nb_hf *h, const nb_hf_tensor_row *row, int block, nb_error *err);
nb_status nb_hf_read_stack(const nb_source_tensor *out, const nb_hf_made *made, uint64_t row, uint64_t count, char *dst,
                           nb_error *err);
void nb_hf_forget_stack(const nb_hf *h, const nb_hf_made *made, uint64_t row, uint64_t count);
/* Values [first, first + count) of a tensor in out's type. */
void nb_hf_read_values(const nb_source_tensor *out, const nb_checkpoint_tensor *t, uint64_t first, uint64_t count,
                       void *dst);
nb_hf_form nb_hf_form_of(const nb_hf_params *params); /* of quantized weights */
const nb_type_info *nb_hf_type_of(nb_dtype dtype); /* that holds its numbers; NULL: they are no floats */
nb_status nb_hf_add(nb_hf *h, const nb_source_tensor *tensor, const nb_hf_made *made, nb_error *err);

/* tokenizer.*; vocab_size: rows of the embedding, 0 when unknown. */
nb_status nb_hf_tokenizer(nb_hf *h, uint64_t vocab_size, nb_error *err);

/* A tensor of another checkpoint than the model's own, which must stay open, as it is. */
nb_status nb_hf_add_tensor(nb_hf *h, const char *name, const nb_checkpoint_tensor *t, nb_error *err);
/* A tensor that is in no file: rope_freqs and the like. values are copied. */
nb_status nb_hf_add_floats(nb_hf *h, const char *name, const float *values, uint64_t count, nb_error *err);

#endif
