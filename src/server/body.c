#include "server/body.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void nb_body_fail(nb_body *b, const char *format, ...)
{
    va_list args;
    if (b->status != NB_OK)
        return;
    b->status = b->error.code = NB_ERR_ARGUMENT;
    va_start(args, format);
    vsnprintf(b->error.message, sizeof b->error.message, format, args);
    va_end(args);
}

void nb_body_open(nb_body *b, nb_str text)
{
    json_error_t problem;
    *b = (nb_body){0};
    if (text.n == 0) {
        nb_body_fail(b, "the body is empty; send a JSON object");
        return;
    }
    b->root = json_loadb(text.p, text.n, JSON_ALLOW_NUL | JSON_DECODE_ANY, &problem);
    if (!b->root)
        nb_body_fail(b, "the body is no JSON: line %d, column %d: %s", problem.line, problem.column, problem.text);
    else if (!json_is_object(b->root))
        nb_body_fail(b, "the body has to be a JSON object");
}

void nb_body_close(nb_body *b)
{
    json_decref(b->root);
    nb_arena_free(&b->arena);
}

static const json_t *find(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return v && !json_is_null(v) ? v : NULL;
}

nb_str nb_body_str(const json_t *text) { return (nb_str){json_string_value(text), json_string_length(text)}; }

bool nb_body_text(nb_body *b, const json_t *object, const char *key, nb_str *out)
{
    const json_t *v = find(object, key);
    if (v && !json_is_string(v))
        nb_body_fail(b, "\"%s\" has to be a string", key);
    if (!v || !json_is_string(v))
        return false;
    *out = nb_body_str(v);
    return true;
}

bool nb_body_bool(nb_body *b, const json_t *object, const char *key, bool *out)
{
    const json_t *v = find(object, key);
    if (v && !json_is_boolean(v))
        nb_body_fail(b, "\"%s\" has to be true or false", key);
    if (!v || !json_is_boolean(v))
        return false;
    *out = json_is_true(v);
    return true;
}

bool nb_body_number(nb_body *b, const json_t *object, const char *key, double *out)
{
    const json_t *v = find(object, key);
    if (v && !json_is_number(v))
        nb_body_fail(b, "\"%s\" has to be a number", key);
    if (!v || !json_is_number(v))
        return false;
    *out = json_number_value(v);
    return true;
}

bool nb_body_int(nb_body *b, const json_t *object, const char *key, int64_t *out)
{
    double value = 0;
    if (!nb_body_number(b, object, key, &value))
        return false;
    if (json_is_integer(find(object, key))) {
        *out = json_integer_value(find(object, key));
        return true;
    }
    if (value != floor(value) || fabs(value) > 9e15) {
        nb_body_fail(b, "\"%s\" has to be a whole number", key);
        return false;
    }
    *out = (int64_t)value;
    return true;
}

static json_t *typed(nb_body *b, const json_t *object, const char *key, json_type type, const char *what)
{
    json_t *v = json_object_get(object, key);
    if (!v || json_is_null(v))
        return NULL;
    if (json_typeof(v) == type)
        return v;
    nb_body_fail(b, "\"%s\" has to be %s", key, what);
    return NULL;
}

json_t *nb_body_object(nb_body *b, const json_t *object, const char *key)
{
    return typed(b, object, key, JSON_OBJECT, "an object");
}
json_t *nb_body_array(nb_body *b, const json_t *object, const char *key)
{
    return typed(b, object, key, JSON_ARRAY, "a list");
}

nb_str nb_body_dump(nb_body *b, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);
    const char *copy = text ? nb_arena_strdup(&b->arena, nb_str_of(text)) : NULL;
    free(text);
    if (!copy && b->status == NB_OK)
        b->status = nb_fail_memory(&b->error, "a request", 0);
    return nb_str_of(copy ? copy : "");
}
