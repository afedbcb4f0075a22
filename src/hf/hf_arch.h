/* hf_arch.h - how the checkpoints of an architecture become GGUF and GGUF becomes checkpoints: a row in archs.def, and a file
 * hf_NAME.c with two tables, one of tensors and one of configuration keys, and a function for what tables cannot say. Both
 * directions read the same tables. */
#ifndef NB_HF_HF_ARCH_H
#define NB_HF_HF_ARCH_H

#include "hf/hf_json.h"

typedef struct nb_hf nb_hf;
struct nb_hf_exporter;
struct nb_json;

/* what becomes of a tensor's values on the way to GGUF */
typedef enum nb_hf_change {
    NB_HF_AS_IS,
    NB_HF_PERMUTE_Q, /* rows of each head: halves (i, i + half) become neighbours (2i, 2i + 1); attention.head_count heads */
    NB_HF_PERMUTE_K, /* the same with attention.head_count_kv heads */
    NB_HF_ADD_1,     /* norms that multiply by 1 + weight; float32 */
    NB_HF_UNIT_ROWS, /* each row scaled to length 1; float32 */
    NB_HF_SKIP_2,    /* without its first two rows */
    NB_HF_TRANSPOSE, /* a matrix whose columns are the outputs (transformers' Conv1D); vectors stay */
    NB_HF_GROUPED,   /* queries, keys and values in one: each key head's queries, then it, then its values; in GGUF all
                        queries, then all keys, then all values */
    /* queries, keys or values of one tensor of all three, in the order of GROUPED; pairs of queries and keys become neighbours */
    NB_HF_SPLIT_Q,
    NB_HF_SPLIT_K,
    NB_HF_SPLIT_V,
    /* one tensor for all experts: from one for each ("%e" in the name), or one of all. Gate and up may be in one: then
     * (with NB_HF_BIAS_OPTIONAL also "NAME_bias", made the same way) */
    NB_HF_EXPERTS,      /* all rows of an expert */
    NB_HF_EXPERTS_GATE, /* the first half */
    NB_HF_EXPERTS_UP,   /* the second */
    /* from one of all, in which a matrix has inputs by outputs unless it is quantized: */
    NB_HF_EXPERTS_TURNED, /* all rows of an expert */
    NB_HF_EXPERTS_EVEN,   /* the first, third, ... */
    NB_HF_EXPERTS_ODD,    /* the others */
    NB_HF_HEADS,        /* from a vector for each head ("%e" in the name) a tensor with a row for each; float32 */
    /* a number of each block; in GGUF a list of them, which is metadata: `configure` reads them */
    NB_HF_NUMBERS
} nb_hf_change;

typedef enum nb_hf_tensor_flags {
    NB_HF_OPTIONAL = 1,
    NB_HF_BIAS = 2,          /* has a .bias beside its .weight, made the same way (NB_HF_ADD_1 excepted) */
    NB_HF_BIAS_OPTIONAL = 4, /* may have one */
    NB_HF_TIED = 8,          /* not there, and passed over if it is, when tie_word_embeddings is true */
    NB_HF_ALL_F32 = 16,      /* float32 in the GGUF file although it has rows and columns */
    NB_HF_SPARSE = 32,       /* in layers with experts only */
    NB_HF_DENSE = 64,        /* in the others only */
    NB_HF_IN_ORDER = 128,    /* NB_HF_SPLIT: of all queries, then all keys, then all values */
    NB_HF_IN_FOURS = 512,    /* NB_HF_SPLIT: four times a quarter of the queries, of the values, of the keys; pairs are
                                neighbours already */
    NB_HF_BARE = 256         /* the checkpoint's name has no ".weight" behind it, that of a bias "_bias"; a number's has no dimension */
} nb_hf_tensor_flags;

/* Names are without ".weight" and ".bias"; %d is the block. '~' begins the checkpoint's name with one of the architecture's
 * prefixes, the same for all. Names of experts' tensors may be several, "|" between them: the first that is there is taken. */
typedef struct nb_hf_tensor_row {
    const char *gguf, *hf; /* the first row's tensor finds the prefix */
    nb_hf_change change;
    unsigned flags;
} nb_hf_tensor_row;

typedef enum nb_hf_kind { NB_HF_U32, NB_HF_F32, NB_HF_BOOL, NB_HF_STR } nb_hf_kind;

/* A key of config.json that becomes a key of the file. */
typedef struct nb_hf_key_row {
    const char *gguf;   /* behind "ARCHITECTURE." */
    const char *config; /* names that it has had, "|" between them; the first is written back */
    nb_hf_kind kind;
    const char
        *otherwise; /* what transformers takes when it is absent, as text; NULL: it must be there; "": then no key */
} nb_hf_key_row;

typedef struct nb_hf_arch {
    const char *gguf;            /* general.architecture */
    const char *const *classes;  /* of config.json's "architectures"; the first is written back; ends with NULL */
    const char *model_type;      /* written back */
    const char *const *prefixes; /* of names that begin with '~'; ends with NULL */
    const nb_hf_tensor_row *tensors;
    const nb_hf_key_row *keys;
    const char *const *ignored; /* tensors whose names begin so, or end so after a '*', are passed over; ends with NULL */
    bool tied;                                       /* tie_word_embeddings when config.json does not say */
    nb_status (*configure)(nb_hf *h, nb_error *err); /* the other keys and checks; NULL: none */
    const struct nb_hf_arch *(*instead)(const nb_hf *h); /* what models of this class are by their config.json; NULL: this */
    /* members of config.json that the table of keys does not have (export_internal.h); NULL: GGUF files of this architecture
     * are not written as directories */
    void (*put)(struct nb_hf_exporter *x, struct nb_json *j);
    /* On the way out, of rows with one name of GGUF's: another one has this block's tensor; NULL: there are none such */
    bool (*passes)(struct nb_hf_exporter *x, const nb_hf_tensor_row *row, uint64_t block);
} nb_hf_arch;

const nb_hf_arch *nb_hf_arch_of_class(nb_str name); /* "LlamaForCausalLM"; NULL when unknown */
const nb_hf_arch *nb_hf_arch_of_gguf(nb_str name);  /* "llama"; NULL when unknown */
const nb_hf_arch *nb_hf_arch_at(size_t i);          /* in the order of the rows; NULL past the end */

/* Row r of a GGUF tensor is this row of the checkpoint's, heads of `head` rows each; and the way back. */
static inline uint64_t nb_hf_permuted(uint64_t r, uint64_t head)
{
    uint64_t i = r % head;
    return r - i + i % 2 * (head / 2) + i / 2;
}
static inline uint64_t nb_hf_unpermuted(uint64_t r, uint64_t head)
{
    uint64_t i = r % head;
    return r - i + i % (head / 2) * 2 + i / (head / 2);
}
/* The same for NB_HF_GROUPED: groups of so many queries, a key and a value, each `head` rows. */
static inline uint64_t nb_hf_ungrouped(uint64_t r, uint64_t head, uint64_t queries, uint64_t groups)
{
    uint64_t at = r / head, of = at / groups; /* keys: queries; values: queries + 1 */
    return of < queries ? (at / queries * (queries + 2) + at % queries) * head + r % head
                        : (at % groups * (queries + 2) + of) * head + r % head;
}

#endif
