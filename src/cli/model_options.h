/* model_options.h - the options that commands with a model share: how to open it, its session, its sampling. */
#ifndef NB_CLI_MODEL_OPTIONS_H
#define NB_CLI_MODEL_OPTIONS_H

#include "cli/adapter_options.h"
#include "cli/load_options.h"
#include "cli/rope_options.h"

typedef struct nb_model_options {
    nb_model_params model;
    nb_session_params session;
    int64_t context;
    nb_load_options load;
    nb_adapter_options adapters;
    nb_rope_options rope;
} nb_model_options;

nb_model_options nb_model_options_defaults(void);

/* Rows for an nb_option table; O is an nb_model_options. */
#define NB_MODEL_ADAPTER_ROW(O) NB_ADAPTER_OPTION_ROW((O).adapters, "a LoRA adapter, GGUF or PEFT (may be repeated)")
/* clang-format off */
#define NB_MODEL_OPTION_ROWS(O)                                                                                        \
    {"threads", 't', NB_OPTION_INT, &(O).model.threads, "N", "threads (default: one a processor)"},                    \
    {"ctx", 'c', NB_OPTION_I64, &(O).context, "N", "context in tokens (default: the model's, at most 8192)"},          \
    {"kv-type", 0, NB_OPTION_STRING, &(O).session.kv_type, "T", "type of the key-value cache: f32, f16, bf16, q8_0, q4_0"},  \
    {"exact", 0, NB_OPTION_FLAG, &(O).model.exact, NULL, "float32 throughout: slow, the reference"},                   \
    {"repack", 0, NB_OPTION_FLAG, &(O).model.repack, NULL, "copy weights into a faster layout (default; --no-repack)"}, \
    {"pre", 0, NB_OPTION_STRING, &(O).model.pre_tokenizer, "NAME", "pre-tokenizer, when the file names none that is known"}, \
    NB_MODEL_ADAPTER_ROW(O),                                                                                           \
    {"allow-long-context", 0, NB_OPTION_FLAG, &(O).session.allow_long, NULL, "let --ctx be more than the model takes"}, \
    NB_ROPE_OPTION_ROWS((O).rope),                                                                                     \
    NB_LOAD_OPTION_ROWS((O).load)
/* clang-format on */

/* Checks what the parser cannot and fills session.context. Returns -1 to go on, else the exit code. */
int nb_model_options_finish(const char *command, nb_model_options *options);

/* "1,2,3" as ids; commas and spaces separate. */
nb_status nb_parse_ids(const char *text, int32_t **ids, size_t *count, nb_error *err);

/* Everything on standard input. */
nb_status nb_read_stdin(nb_buf *out, nb_error *err);

#endif
