/* /api/generate and /api/chat: from JSON to a job. */

#include "base/env.h"
#include "server/api_request.h"
#include "server/ollama.h"
#include "server/options_use.h"
#include "server/routes.h"

enum { MESSAGES = 65536 };

void nb_ollama_refuse(nb_http_request *r, nb_ollama_request *q)
{
    nb_http_fail(r, 0, &q->body.error);
    nb_ollama_free(q);
}

void nb_ollama_free(nb_ollama_request *q)
{
    nb_body_close(&q->body);
    free(q);
}

static void read_keep_alive(nb_ollama_request *q)
{
    nb_body *b = &q->body;
    const json_t *v = json_object_get(b->root, "keep_alive");
    if (!v || json_is_null(v))
        return;
    if (json_is_number(v))
        q->job.keep_alive_ns = nb_duration_seconds(json_number_value(v));
    else if (!json_is_string(v) || !nb_duration_parse(nb_body_str(v), &q->job.keep_alive_ns))
        nb_body_fail(b, "\"keep_alive\" has to be seconds or a duration such as \"5m\"");
}

static void read_format(nb_ollama_request *q)
{
    nb_body *b = &q->body;
    const json_t *v = json_object_get(b->root, "format");
    nb_body_text(b, b->root, "grammar", &q->job.grammar);
    if (!v || json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0))
        return;
    if (q->job.grammar.n)
        nb_body_fail(b, "\"format\" and \"grammar\" cannot both be asked for");
    else if (json_is_object(v))
        q->job.schema = nb_body_dump(b, v);
    else if (json_is_string(v) && nb_str_eqz(nb_body_str(v), "json"))
        q->job.schema = NB_STR("{\"type\":\"object\"}");
    else
        nb_body_fail(b, "\"format\" has to be \"json\" or a JSON schema");
}

static void read_think(nb_ollama_request *q)
{
    nb_body *b = &q->body;
    const json_t *v = json_object_get(b->root, "think");
    if (!v || json_is_null(v))
        return;
    if (json_is_boolean(v)) {
        q->job.think = json_is_true(v);
    } else if (json_is_string(v)) {
        q->job.think_level = nb_body_str(v);
        q->job.think = 1;
        if (!nb_str_eqz(q->job.think_level, "low") && !nb_str_eqz(q->job.think_level, "medium") &&
            !nb_str_eqz(q->job.think_level, "high"))
            nb_body_fail(b, "\"think\" has to be true, false, \"low\", \"medium\" or \"high\"");
    } else {
        nb_body_fail(b, "\"think\" has to be true, false, \"low\", \"medium\" or \"high\"");
    }
}

/* What does not fit is cut off, and a full context shifts, unless the request or the operator says otherwise; the reply tells. */
static void read_overflow(nb_ollama_request *q)
{
    bool truncate = true, shift = true;
    nb_body_bool(&q->body, q->body.root, "truncate", &truncate);
    nb_body_bool(&q->body, q->body.root, "shift", &shift);
    if (nb_env_flag("NIBBLE_STRICT_CONTEXT"))
        truncate = shift = false;
    q->job.overflow = truncate ? NB_OVERFLOW_TRUNCATE : NB_OVERFLOW_ERROR;
    q->job.task.shift = shift;
}

static void read_logprobs(nb_ollama_request *q)
{
    bool wanted = false;
    int64_t top = 0;
    nb_body_bool(&q->body, q->body.root, "logprobs", &wanted);
    if (nb_body_int(&q->body, q->body.root, "top_logprobs", &top) && (top < 0 || top > 20))
        nb_body_fail(&q->body, "\"top_logprobs\" has to be between 0 and 20");
    q->logprobs = wanted || top > 0 ? top : -1;
    q->job.task.logprobs = (int)q->logprobs;
}

static nb_status read_options(nb_http_request *r, nb_ollama_request *q, nb_error *err)
{
    nb_entry *entry;
    const json_t *options = nb_body_object(&q->body, q->body.root, "options");
    nb_str text = options ? nb_body_dump(&q->body, options) : NB_STR("");
    if (q->body.status != NB_OK)
        return q->body.status;
    NB_TRY(nb_library_find(nb_http_library(r), q->model, &entry, err));
    nb_status status = nb_use_options(nb_http_service(r), entry, text, &q->body.arena, &q->job, err);
    nb_entry_release(entry);
    return status;
}

static const char known[] =
    " model name prompt input dimensions suffix system template context raw images messages tools tool_choice stream "
    "format grammar keep_alive options think truncate shift logprobs top_logprobs ";

bool nb_ollama_read(nb_http_request *r, nb_ollama_request *q)
{
    nb_body *b = &q->body;
    nb_body_open(b, nb_http_body(r));
    q->job = nb_job_defaults();
    q->stream = true;
    if (b->status == NB_OK && !nb_body_text(b, b->root, "model", &q->model) &&
        !nb_body_text(b, b->root, "name", &q->model))
        nb_body_fail(b, "\"model\" is missing");
    if (b->status == NB_OK) {
        nb_api_pass_over(r, b, known);
        nb_body_bool(b, b->root, "stream", &q->stream);
        read_keep_alive(q);
        read_format(q);
        read_think(q);
        read_overflow(q);
        read_logprobs(q);
    }
    if (b->status == NB_OK)
        b->status = read_options(r, q, &b->error);
    q->job.model = q->model;
    q->job.gone = nb_http_gone;
    q->job.count = nb_http_count;
    q->job.gone_user = r;
    q->job.task.user_key = nb_http_user(r);
    if (b->status == NB_OK)
        return true;
    nb_ollama_refuse(r, q);
    return false;
}

/* ---- generate ---- */

static void refuse_images(nb_body *b, const json_t *object)
{
    const json_t *images = nb_body_array(b, object, "images");
    if (json_array_size(images) > 0)
        nb_body_fail(b, "images are not supported yet; send text only");
}

static void read_context(nb_ollama_request *q)
{
    nb_body *b = &q->body;
    const json_t *list = nb_body_array(b, b->root, "context"), *v;
    size_t i, n = json_array_size(list);
    int32_t *ids = n ? NB_ARRAY(&b->arena, int32_t, n) : NULL;
    if (n == 0 || !ids)
        return;
    json_array_foreach(list, i, v)
    {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)
            nb_body_fail(b, "\"context\" has to be a list of token ids");
        ids[i] = (int32_t)json_integer_value(v);
    }
    q->job.context = ids;
    q->job.context_count = n;
}

static void read_generate(nb_ollama_request *q)
{
    nb_body *b = &q->body;
    nb_job_params *p = &q->job;
    p->is_prompt = true;
    nb_body_text(b, b->root, "prompt", &p->prompt);
    nb_body_text(b, b->root, "suffix", &p->suffix);
    p->has_system = nb_body_text(b, b->root, "system", &p->system) && p->system.n;
    p->has_template = nb_body_text(b, b->root, "template", &p->go_template) && p->go_template.n;
    nb_body_bool(b, b->root, "raw", &p->raw);
    read_context(q);
    refuse_images(b, b->root);
    if (p->raw && (p->has_system || p->has_template || p->context_count))
        nb_body_fail(b, "raw mode does not support template, system, or context");
}

void nb_route_generate(nb_http_request *r)
{
    nb_ollama_request *q = calloc(1, sizeof *q);
    if (!q) {
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        return;
    }
    if (!nb_ollama_read(r, q))
        return;
    read_generate(q);
    if (q->body.status != NB_OK)
        nb_ollama_refuse(r, q);
    else
        nb_ollama_answer(r, q, false);
}

/* ---- chat ---- */

static void read_calls(nb_body *b, const json_t *message, nb_job_message *out)
{
    const json_t *list = nb_body_array(b, message, "tool_calls"), *v;
    size_t i, n = json_array_size(list);
    nb_past_call *calls = n ? NB_ARRAY(&b->arena, nb_past_call, n) : NULL;
    if (!calls)
        return;
    json_array_foreach(list, i, v)
    {
        const json_t *function = nb_body_object(b, v, "function"), *arguments = json_object_get(function, "arguments");
        if (!nb_body_text(b, function, "name", &calls[i].name))
            nb_body_fail(b, "a tool call has no function.name");
        nb_body_text(b, v, "id", &calls[i].id);
        if (json_is_object(arguments))
            calls[i].arguments = nb_body_dump(b, arguments);
        else if (json_is_string(arguments))
            calls[i].arguments = nb_body_str(arguments);
        else if (arguments && !json_is_null(arguments))
            nb_body_fail(b, "a tool call's arguments have to be an object");
    }
    out->calls = calls;
    out->call_count = n;
}

static void read_messages(nb_ollama_request *q)
{
    nb_body *b = &q->body;
    const json_t *list = nb_body_array(b, b->root, "messages"), *v;
    size_t i, n = json_array_size(list);
    if (n > MESSAGES)
        nb_body_fail(b, "at most %d messages are taken", MESSAGES);
    nb_job_message *messages = NB_ARRAY(&b->arena, nb_job_message, n + 1);
    if (!messages) {
        nb_body_fail(b, "out of memory");
        return;
    }
    json_array_foreach(list, i, v)
    {
        nb_job_message *m = &messages[i];
        if (!json_is_object(v) || !nb_body_text(b, v, "role", &m->role)) {
            nb_body_fail(b, "message %zu has no role", i);
            return;
        }
        if (!nb_str_eqz(m->role, "system") && !nb_str_eqz(m->role, "user") && !nb_str_eqz(m->role, "assistant") &&
            !nb_str_eqz(m->role, "tool") && !nb_str_eqz(m->role, "developer"))
            nb_body_fail(b, "invalid role: %.*s, must be one of \"user\", \"assistant\", \"system\", or \"tool\"",
                         NB_STR_ARG(m->role));
        nb_body_text(b, v, "content", &m->content);
        nb_body_text(b, v, "thinking", &m->thinking);
        nb_body_text(b, v, "tool_name", &m->tool_name);
        nb_body_text(b, v, "tool_call_id", &m->tool_call_id);
        read_calls(b, v, m);
        refuse_images(b, v);
    }
    q->job.messages = messages;
    q->job.message_count = n;
}

void nb_route_chat(nb_http_request *r)
{
    nb_ollama_request *q = calloc(1, sizeof *q);
    if (!q) {
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        return;
    }
    if (!nb_ollama_read(r, q))
        return;
    read_messages(q);
    const json_t *tools = nb_body_array(&q->body, q->body.root, "tools");
    if (json_array_size(tools) > 0)
        q->job.tools = nb_body_dump(&q->body, tools);
    nb_api_tool_choice(&q->body, &q->job); /* Ollama has none, and passes it over */
    if (q->body.status != NB_OK)
        nb_ollama_refuse(r, q);
    else
        nb_ollama_answer(r, q, true);
}
