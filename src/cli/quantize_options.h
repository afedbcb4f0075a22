/* quantize_options.h - the options that commands share which write a model with other tensor types, and the work itself. */
#ifndef NB_CLI_QUANTIZE_OPTIONS_H
#define NB_CLI_QUANTIZE_OPTIONS_H

#include "cli/quantize_budget.h"
#include "convert/open.h"
#include "convert/quantize.h"

typedef struct nb_quantize_options {
    nb_quantize_params params;
    nb_imatrix *imatrix;
    nb_type_pattern *patterns;
    char *expressions; /* of the patterns */
    const char *imatrix_path, *rounding, *output_type, *embedding_type, *split;
    nb_option_list tensor_types, overrides;
    bool merge_shards;
    const nb_load_params *load; /* NULL, or how a directory is quantized before it is converted */
    bool type_is_default;       /* then what is quantized already becomes Q8_0 */
    const nb_model_adapter *adapters; /* merged into the model first */
    size_t adapter_count;
    nb_quantize_budget budget;
} nb_quantize_options;

/* Rows for an nb_option table; O is an nb_quantize_options. */
/* clang-format off */
#define NB_QUANTIZE_OPTION_ROWS(O)                                                                                     \
    {"imatrix", 0, NB_OPTION_STRING, &(O).imatrix_path, "FILE", "importance of each column ('nibble imatrix')"},       \
    {"rounding", 0, NB_OPTION_STRING, &(O).rounding, "HOW", "feedback (default with moments), search or nearest"},       \
    {"tensor-type", 0, NB_OPTION_LIST, &(O).tensor_types, "REGEX=TYPE", "matrices of that name get that type"},        \
    {"output-type", 0, NB_OPTION_STRING, &(O).output_type, "TYPE", "of the output matrix"},                            \
    {"output-tensor-type", 0, NB_OPTION_STRING, &(O).output_type, "TYPE", "the same"},                                 \
    {"embedding-type", 0, NB_OPTION_STRING, &(O).embedding_type, "TYPE", "of the token embedding"},                    \
    {"token-embedding-type", 0, NB_OPTION_STRING, &(O).embedding_type, "TYPE", "the same"},                            \
    {"pure", 0, NB_OPTION_FLAG, &(O).params.pure, NULL, "one type for all matrices"},                                  \
    {"keep-output", 0, NB_OPTION_FLAG, &(O).params.keep_output, NULL, "leave the output matrix as it is"},             \
    {"leave-output-tensor", 0, NB_OPTION_FLAG, &(O).params.keep_output, NULL, "the same"},                             \
    {"override-kv", 0, NB_OPTION_LIST, &(O).overrides, "KEY=TYPE:VALUE", "metadata; TYPE int, float, bool, str"},      \
    {"dry-run", 0, NB_OPTION_FLAG, &(O).params.dry_run, NULL, "print each tensor's type and the exact size"},          \
    {"split-max-size", 0, NB_OPTION_STRING, &(O).split, "N[M|G]", "shards of at most so many bytes"},                  \
    {"threads", 't', NB_OPTION_INT, &(O).params.threads, "N", "threads (default: one a processor)"}
/* clang-format on */

/* "no such type" with the nearest name; returns the exit code. */
int nb_quantize_unknown(const char *command, const char *name);

/* Checks what the parser cannot and fills params. Returns -1 to go on, else the exit code. */
int nb_quantize_options_finish(const char *command, nb_quantize_options *o);

/* in: a GGUF file or a directory. Prints what became of it. */
nb_status nb_quantize_run(nb_quantize_options *o, const char *in, const char *out, nb_error *err);

void nb_quantize_options_free(nb_quantize_options *o);

#endif
