#define _GNU_SOURCE
#include "cli/inspect_set.h"

#include <stdio.h>
#include <stdlib.h>

#include "convert/quantize.h"

static const char *guess(const char *value)
{
    char *end;
    for (int kind = 0; kind < NB_GGUF_KINDS; kind++) {
        const char *name = nb_gguf_kind_name((nb_gguf_kind)kind);
        if (strncmp(value, name, strlen(name)) == 0 && value[strlen(name)] == ':')
            return ""; /* it is said */
    }
    if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0)
        return "bool:";
    size_t digits = strspn(value + (value[0] == '-'), "0123456789");
    if (digits > 0 && value[digits + (value[0] == '-')] == '\0')
        return "int:";
    strtod(value, &end);
    return end != value && *end == '\0' ? "float:" : "str:";
}

/* KEY=VALUE as KEY=TYPE:VALUE; NULL when memory is out or there is no way (*err says which). */
static char *typed(const nb_source *s, const char *text, nb_error *err)
{
    const char *equals = strchr(text, '=');
    const nb_gguf_value *old = NULL;
    char *out, kind[32];
    if (!equals) {
        nb_fail(err, NB_ERR_ARGUMENT, "--set %s: give KEY=VALUE", text);
        return NULL;
    }
    for (size_t i = 0; i < s->value_count && !old; i++)
        old = nb_str_eq(s->values[i].key, (nb_str){text, (size_t)(equals - text)}) ? &s->values[i] : NULL;
    if (old && old->kind == NB_GGUF_ARRAY) {
        nb_fail(err, NB_ERR_UNSUPPORTED, "%s: '%.*s' is an array, which cannot be set", s->path, NB_STR_ARG(old->key));
        return NULL;
    }
    snprintf(kind, sizeof kind, "%s%s", old ? nb_gguf_kind_name(old->kind) : guess(equals + 1), old ? ":" : "");
    if (asprintf(&out, "%.*s%s%s", (int)(equals + 1 - text), text, kind, equals + 1) >= 0)
        return out;
    nb_fail_memory(err, "--set", strlen(text));
    return NULL;
}

nb_status nb_inspect_set(const char *path, const char *out, const nb_option_list *sets, nb_error *err)
{
    nb_source *s;
    NB_TRY(nb_source_open_gguf(path, &s, err));
    char **overrides = calloc(sets->count + 1, sizeof *overrides);
    nb_status status = overrides ? NB_OK : nb_fail_memory(err, path, sets->count * sizeof *overrides);
    for (size_t i = 0; i < sets->count && status == NB_OK; i++) {
        overrides[i] = typed(s, sets->items[i], err);
        status = overrides[i] ? NB_OK : err->code;
    }
    nb_quantize_params p = nb_quantize_defaults();
    p.mix = nb_mix_by_name(NB_STR("COPY"));
    p.override_kv = (const char *const *)overrides;
    p.override_count = sets->count;
    if (status == NB_OK)
        status = nb_quantize(s, out, &p, NULL, NULL, NULL, err);
    for (size_t i = 0; overrides && i < sets->count; i++)
        free(overrides[i]);
    free(overrides);
    nb_source_free(s);
    return status;
}
