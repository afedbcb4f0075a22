/* grammar_schema_text.c - strings: patterns, formats and lengths as one automaton. */
#include "text/grammar_schema.h"

static nb_status narrow(nb_schema *s, const json_t *node, const char *key, nb_shape *shape, nb_dfa *dfa)
{
    nb_dfa *both = dfa;
    if (shape->has_text)
        NB_TRY(nb_schema_at(s, nb_dfa_both(shape->text, dfa, false, &s->arena, &both, s->err), node, key));
    shape->has_text = true;
    shape->text = both;
    return NB_OK;
}

static nb_status pattern(nb_schema *s, const json_t *node, nb_shape *shape)
{
    const json_t *v = json_object_get(node, "pattern");
    nb_dfa *dfa;
    if (!v)
        return NB_OK;
    if (!json_is_string(v))
        return nb_schema_fail(s, node, "pattern", NB_ERR_ARGUMENT, "a regular expression should be here, as a string");
    NB_TRY(nb_schema_at(s, nb_regex_dfa(nb_json_text(v), &s->arena, &dfa, s->err), node, "pattern"));
    return narrow(s, node, "pattern", shape, dfa);
}

static bool is_number_format(const json_t *v)
{
    static const char *const known[] = {"int8",  "uint8",  "int16", "uint16", "int32", "uint32",
                                        "int64", "uint64", "uint",  "float",  "double"};
    for (size_t i = 0; json_is_string(v) && i < sizeof known / sizeof *known; i++)
        if (nb_str_eqz(nb_json_text(v), known[i]))
            return true;
    return false;
}

static nb_status format(nb_schema *s, const json_t *node, nb_shape *shape)
{
    static const struct {
        const char *name, *expression;
    } known[] = {
#define NB_FORMAT(name, expression) {name, expression},
#define NB_FORMAT_ANY(name) {name, NULL},
#include "text/grammar_formats.def"
#undef NB_FORMAT
#undef NB_FORMAT_ANY
    };
    const json_t *v = json_object_get(node, "format");
    nb_dfa *dfa;
    if (!v)
        return NB_OK;
    for (size_t i = 0; json_is_string(v) && i < sizeof known / sizeof *known; i++)
        if (nb_str_eqz(nb_json_text(v), known[i].name)) {
            if (!known[i].expression)
                return NB_OK;
            NB_TRY(
                nb_schema_at(s, nb_regex_dfa(nb_str_of(known[i].expression), &s->arena, &dfa, s->err), node, "format"));
            return narrow(s, node, "format", shape, dfa);
        }
    if ((shape->types & NB_JSON_WHOLE) && is_number_format(v))
        return NB_OK;
    return nb_schema_fail(s, node, "format", NB_ERR_UNSUPPORTED, "this format is not supported: use a pattern");
}

nb_status nb_schema_text(nb_schema *s, const nb_term *t, nb_shape *shape)
{
    for (size_t i = 0; i < t->count; i++) {
        NB_TRY(pattern(s, t->atoms[i], shape));
        NB_TRY(format(s, t->atoms[i], shape));
    }
    if (!shape->has_text || shape->text->count == 0 || (shape->min_length == 0 && shape->max_length == SIZE_MAX))
        return NB_OK;
    size_t least, most;
    NB_TRY(nb_dfa_lengths(shape->text, &least, &most, s->err));
    if (least >= shape->min_length && most <= shape->max_length)
        return NB_OK; /* the pattern sees to it */
    nb_dfa *length;
    const char *key = shape->max_length != SIZE_MAX ? "maxLength" : "minLength";
    size_t high = most <= shape->max_length ? SIZE_MAX : shape->max_length;
    NB_TRY(nb_schema_at(s, nb_dfa_length(shape->min_length, high, &s->arena, &length, s->err), t->atoms[0], key));
    return narrow(s, t->atoms[0], key, shape, length);
}

nb_status nb_schema_words(nb_schema *s, const nb_str *words, size_t count, nb_dfa **out)
{
    nb_regular r = {.err = s->err};
    uint32_t start = nb_regular_state(&r), end = nb_regular_state(&r);
    for (size_t i = 0; i < count; i++)
        nb_regular_empty(&r, nb_regular_text(&r, start, words[i]), end);
    nb_status status = nb_regular_dfa(&r, start, end, UINT32_MAX, &s->arena, out);
    nb_regular_free(&r);
    return status;
}

nb_status nb_schema_strings(nb_schema *s, const nb_term *t, const nb_shape *shape, nb_dfa **out)
{
    if (shape->chosen || !(shape->types & NB_JSON_STRING)) {
        nb_str *words = NB_ARRAY(&s->arena, nb_str, shape->value_count);
        size_t n = 0;
        if (!words)
            return nb_schema_memory(s);
        for (size_t i = 0; i < shape->value_count; i++)
            if (json_is_string(shape->values[i]))
                words[n++] = nb_json_text(shape->values[i]);
        return nb_schema_words(s, words, n, out);
    }
    if (!shape->has_text) {
        NB_TRY(nb_schema_at(s, nb_dfa_length(shape->min_length, shape->max_length, &s->arena, out, s->err),
                            t->count ? t->atoms[0] : NULL, NULL));
        return NB_OK;
    }
    *out = shape->text;
    return NB_OK;
}
