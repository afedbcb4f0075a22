/* JSON text to values, through jansson. */
#include <jansson.h>

#include "text/jinja_text.h"

static nb_jval from_json(nb_jinja *j, const json_t *json);

static nb_jval from_object(nb_jinja *j, const json_t *json)
{
    nb_jval dict = nb_jdict_new(j);
    json_t *object = (json_t *)(uintptr_t)json; /* jansson's iterators take no const */
    for (void *at = json_object_iter(object); at && nb_jok(j); at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        nb_str name = {key, json_object_iter_key_len(at)};
        nb_jdict_set(j, dict.u.dict, nb_jstr_copy(j, name), from_json(j, json_object_iter_value(at)));
    }
    return dict;
}

static nb_jval from_array(nb_jinja *j, const json_t *json)
{
    nb_jval list = nb_jlist_new(j, NB_J_LIST, json_array_size(json));
    for (size_t i = 0; i < json_array_size(json) && nb_jok(j); i++)
        nb_jlist_push(j, list, from_json(j, json_array_get(json, i)));
    return list;
}

static nb_jval from_json(nb_jinja *j, const json_t *json)
{
    nb_jval v = nb_jnone();
    if (!nb_jenter(j))
        return v;
    switch (json_typeof(json)) {
    case JSON_OBJECT: v = from_object(j, json); break;
    case JSON_ARRAY: v = from_array(j, json); break;
    case JSON_STRING: v = nb_jstr_copy(j, (nb_str){json_string_value(json), json_string_length(json)}); break;
    case JSON_INTEGER: v = nb_jint(json_integer_value(json)); break;
    case JSON_REAL: v = nb_jfloat(json_real_value(json)); break;
    case JSON_TRUE: v = nb_jbool(true); break;
    case JSON_FALSE: v = nb_jbool(false); break;
    case JSON_NULL: break;
    }
    nb_jleave(j);
    return v;
}

bool nb_jparse_json(nb_jinja *j, nb_str text, nb_jval *out, nb_error *err)
{
    json_error_t error = {0}; /* jansson says nothing when it runs out of memory */
    json_t *json = json_loadb(text.p ? text.p : "", text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!json) {
        bool memory = !error.text[0] || json_error_code(&error) == json_error_out_of_memory;
        if (memory)
            nb_fail_memory(err, "JSON", text.n);
        else
            nb_fail(err, NB_ERR_FORMAT, "not valid JSON: %s (line %d, column %d)", error.text, error.line,
                    error.column);
        return false;
    }
    *out = from_json(j, json);
    json_decref(json);
    return nb_jok(j);
}
