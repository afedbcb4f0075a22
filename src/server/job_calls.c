#include "server/job_calls.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

bool nb_job_must_call(const nb_job_params *p)
{
    return p->tool_choice == NB_TOOL_REQUIRED || p->tool_choice == NB_TOOL_NAMED;
}

bool nb_job_may_call_more(const nb_job_params *p) { return p->parallel_calls && p->tool_choice != NB_TOOL_NAMED; }

/* A tool's schema becomes a part of another one: its references ("#", "#/$defs/City") get the way there before them. named: the
 * object's keys are names, not words of a schema. */
static void move_references(json_t *at, const char *base, bool named)
{
    static const char *const data[] = {"const", "enum", "default", "examples", "example", NULL};
    static const char *const names[] = {"properties",  "patternProperties", "$defs",
                                        "definitions", "dependentSchemas",  NULL};
    const char *key;
    json_t *v;
    size_t i;
    json_object_foreach(at, key, v)
    {
        const char *to = !named && strcmp(key, "$ref") == 0 ? json_string_value(v) : NULL;
        if (to && to[0] == '#' && (to[1] == 0 || to[1] == '/'))
            json_object_set_new(at, key, json_sprintf("%s%s", base, to + 1));
        else if (named || !nb_str_one_of(nb_str_of(key), data))
            move_references(v, base, !named && nb_str_one_of(nb_str_of(key), names));
    }
    json_array_foreach(at, i, v) move_references(v, base, false);
}

/* The call of a tool, whose arguments' schema goes among the definitions. */
static json_t *call_of(json_t *name, const json_t *parameters, json_t *definitions)
{
    char key[24], base[40];
    json_t *own = json_is_object(parameters) ? json_deep_copy(parameters) : json_pack("{s:s}", "type", "object");
    snprintf(key, sizeof key, "%zu", json_object_size(definitions));
    snprintf(base, sizeof base, "#/$defs/%s", key);
    move_references(own, base, false);
    json_object_del(own, "$id"); /* it is no document of its own any more */
    json_object_set_new(definitions, key, own);
    return json_pack("{s:s, s:{s:{s:O}, s:{s:s}}, s:[s,s], s:b}", "type", "object", "properties", "name", "const", name,
                     "arguments", "$ref", base, "required", "name", "arguments", "additionalProperties", 0);
}

nb_status nb_job_call_schema(const nb_job_params *p, bool or_list, nb_buf *out, nb_error *err)
{
    json_error_t problem;
    json_t *tools = json_loadb(p->tools.p, p->tools.n, JSON_ALLOW_NUL, &problem), *tool;
    json_t *any = json_array(), *definitions = json_object();
    size_t i;
    json_array_foreach(tools, i, tool)
    {
        json_t *function = json_object_get(tool, "function"), *name = json_object_get(function, "name");
        nb_str text = {json_string_value(name), json_string_length(name)};
        if (text.p && (p->tool_choice != NB_TOOL_NAMED || nb_str_eq(text, p->tool_name)))
            json_array_append_new(any, call_of(name, json_object_get(function, "parameters"), definitions));
    }
    bool found = json_array_size(any) > 0;
    if (or_list)
        json_array_append_new(any, json_pack("{s:s, s:{s:o}, s:i, s:i}", "type", "array", "items", "anyOf",
                                             json_copy(any), "minItems", 1, "maxItems", NB_CALLS_MOST));
    json_t *schema = json_pack("{s:o, s:o}", "anyOf", any, "$defs", definitions);
    char *text = json_dumps(schema, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(schema);
    json_decref(tools);
    nb_buf_z(out, text ? text : "");
    out->failed |= !text;
    free(text);
    if (!found)
        return nb_fail(err, NB_ERR_ARGUMENT,
                       p->tool_choice == NB_TOOL_NAMED ? "tool_choice names '%.*s', which is not among the tools"
                                                       : "tool_choice asks for a call, and there are no tools%.*s",
                       NB_STR_ARG(p->tool_name));
    return out->failed ? nb_fail_memory(err, "a schema", 0) : NB_OK;
}
