/* options.h - the parameters of a model (PARAMETER in a Modelfile, "options" in a request): read from JSON as they stand, and
 * as typed options. options.def has a row an option. */
#ifndef NB_STORE_OPTIONS_H
#define NB_STORE_OPTIONS_H

#include "base/mem.h"

/* One parameter as it was written; an array is as many of them under one key. */
typedef enum nb_param_kind {
    NB_PARAM_NULL,
    NB_PARAM_BOOL,
    NB_PARAM_NUMBER,
    NB_PARAM_TEXT,
    NB_PARAM_OTHER
} nb_param_kind;
typedef struct nb_param {
    nb_str key;
    nb_param_kind kind;
    bool in_array;
    bool yes;
    double number;
    nb_str text;
} nb_param;

/* A JSON object of parameters, sorted by key; equal keys stay in their order. `name`: the file's, for messages. */
nb_status nb_params_read(const char *name, nb_str json, nb_arena *arena, nb_param **out, size_t *count, nb_error *err);

/* One parameter as a Modelfile's PARAMETER says it: "temperature 0.7". NB_ERR_ARGUMENT: there is no such one, or the text is
 * no value of its type. Texts are not copied. */
nb_status nb_param_parse(nb_str key, nb_str text, nb_param *out, nb_error *err);
/* Those of `over`, and those of `base` whose keys it has not, sorted as nb_params_read does. Texts are not copied. */
nb_status nb_params_merge(const nb_param *base, size_t base_count, const nb_param *over, size_t over_count,
                          nb_arena *arena, nb_param **out, size_t *count, nb_error *err);
/* Appends a JSON object of sorted parameters, as a store keeps them. */
void nb_params_write(const nb_param *params, size_t count, nb_buf *out);

/* Appends a line a parameter as `ollama show --parameters` does: the key, padded to 30 columns, and the value, texts in
 * quotes. Numbers are written so that they can be read back: 1048576, where Ollama writes 1.048576e+06. */
void nb_params_print(const nb_param *params, size_t count, nb_buf *out);
/* Appends the value alone, as it stands after PARAMETER. */
void nb_param_value(const nb_param *p, nb_buf *out);

/* Typed; `given` has bit NB_OPTION_name of each one that was said. */
enum {
#define NB_OPTION(name, kind, fallback) NB_OPTION_##name,
#define NB_OPTION_NOTHING(name)
#include "store/options.def"
#undef NB_OPTION
#undef NB_OPTION_NOTHING
    NB_OPTIONS
};
_Static_assert(NB_OPTIONS <= 64, "a bit an option");

#define NB_OPTION_TYPE_INT(name) int64_t name;
#define NB_OPTION_TYPE_NUMBER(name) double name;
#define NB_OPTION_TYPE_BOOL(name) bool name;
#define NB_OPTION_TYPE_STRINGS(name)                                                                                   \
    const nb_str *name;                                                                                                \
    size_t name##_count;
typedef struct nb_options {
    uint64_t given;
#define NB_OPTION(name, kind, fallback) NB_OPTION_TYPE_##kind(name)
#define NB_OPTION_NOTHING(name)
#include "store/options.def"
#undef NB_OPTION
#undef NB_OPTION_NOTHING
} nb_options;

nb_options nb_options_defaults(void);

/* Told of a parameter that changes nothing: `known` when it is one of Ollama's that means nothing here. */
typedef void nb_option_idle_fn(void *user, nb_str key, bool known);

/* Puts parameters over what `options` says; null leaves a value as it is. A wrong type is NB_ERR_ARGUMENT in Ollama's words;
 * fractions of integers are cut off, as it does. Strings live as long as `params` and `arena`. */
nb_status nb_options_apply(nb_options *options, const nb_param *params, size_t count, nb_arena *arena,
                           nb_option_idle_fn *idle, void *user, nb_error *err);

#endif
