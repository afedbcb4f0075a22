/* quantize.h - a source written as GGUF with other tensor types: the type of each tensor is chosen by a mix (mix.h), by
 * patterns, or by the caller; rows are read, quantized on a team of threads and written in order. Memory holds a few
 * hundred rows whatever the model's size. The output appears under its name when it is whole. */
#ifndef NB_CONVERT_QUANTIZE_H
#define NB_CONVERT_QUANTIZE_H

#include "convert/mix.h"
#include "format/imatrix.h"
#include "format/source.h"

/* Matrices in whose name the regular expression (PCRE2) is found get the type; the first pattern that fits wins. */
typedef struct nb_type_pattern {
    const char *expression;
    const nb_type_info *type;
} nb_type_pattern;

typedef struct nb_quantize_params {
    const nb_mix *mix; /* NULL only with `types` */
    nb_rounding rounding;
    bool feedback;                                    /* round with error feedback where the imatrix has second moments */
    const nb_imatrix *imatrix;                        /* NULL: none */
    const char *imatrix_name;                         /* recorded in the file */
    const nb_type_info *output_type, *embedding_type; /* NULL: the mix's */
    const nb_type_pattern *patterns;
    size_t pattern_count;
    const nb_type_info *const *types; /* NULL, or the type of each tensor of the source: then nothing else chooses */
    bool pure;                        /* the mix's first type for all matrices */
    bool keep_output;                 /* output.weight as it is */
    bool allow_requantize;            /* of tensors that are quantized already */
    bool keep_split;                  /* as many files as the source has */
    uint64_t split_bytes;             /* of a file, header included, where no single tensor is larger; 0: no limit */
    /* "KEY=TYPE:VALUE"; TYPE: int, float, bool, str, which keep an existing number's width, or GGUF's own (u8 ... f64) */
    const char *const *override_kv;
    size_t override_count;
    bool dry_run; /* nb_quantize_plan says what would be, also where something is missing to do it */
    int threads;  /* 0: one a processor */
} nb_quantize_params;

nb_quantize_params nb_quantize_defaults(void); /* a mix is still to be set */

typedef struct nb_quantize_result {
    uint64_t bytes, source_bytes; /* of all tensors */
    uint64_t file_bytes;          /* of all files, headers included */
    uint64_t values;
    size_t quantized; /* tensors that change their type */
    size_t fallbacks; /* tensors whose columns did not fit the mix's type */
    size_t files;
    bool needs_imatrix; /* only after a dry run: without one these types are refused */
} nb_quantize_result;

/* What `types` would be: one a tensor of the source; its own for those that stay. Also checks that every one can be made,
 * and fills *result with the exact sizes. */
nb_status nb_quantize_plan(const nb_source *s, const nb_quantize_params *p, const nb_type_info **types,
                           nb_quantize_result *result, nb_error *err);

/* Called from one thread; done and all in bytes of the source. Non-zero cancels. */
typedef int nb_quantize_progress_fn(void *user, nb_str tensor, uint64_t done, uint64_t all);

/* out: "NAME.gguf"; several files are NAME-00001-of-0000N.gguf. No file of the source may be among them. A value that is not
 * finite, or too large for its new type, is an error that names tensor, row and column. The bytes do not depend on the
 * number of threads. */
nb_status nb_quantize(const nb_source *s, const char *out, const nb_quantize_params *p,
                      nb_quantize_progress_fn *progress, void *user, nb_quantize_result *result, nb_error *err);

/* The same into memory: a GGUF as if it had been opened from a file. Tensors that keep their type and lie in a mapped file are
 * not copied. Takes the source (frees it on failure too); it lives as long as *out. */
nb_status nb_quantize_to_memory(nb_source *s, const nb_quantize_params *p, nb_gguf **out, nb_error *err);

#endif
