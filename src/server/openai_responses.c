/* /v1/responses: from JSON to a job. */
#include "server/openai_responses.h"

#include <stdlib.h>

#include "server/openai.h"
#include "server/routes.h"

enum { ITEMS = 65536 };

void nb_responses_free(nb_responses_request *q)
{
    nb_api_close(&q->api);
    free(q);
}

/* ---- input ---- */

/* Items become messages: an assistant's reasoning, message and calls are one. */
typedef struct reader {
    nb_body *b;
    nb_job_message *out;
    nb_past_call *calls; /* those of one message lie side by side */
    size_t count, call_count;
} reader;

static nb_job_message *add(reader *r, nb_str role)
{
    nb_job_message *m = &r->out[r->count++];
    m->role = role;
    return m;
}

/* The assistant's message that goes on; a new one when what is to come stands before what is there. */
static nb_job_message *assistant(reader *r, bool says)
{
    nb_job_message *m = r->count ? &r->out[r->count - 1] : NULL;
    if (m && nb_str_eqz(m->role, "assistant") && !(says && (m->content.n || m->call_count)))
        return m;
    return add(r, NB_STR("assistant"));
}

static void read_message(reader *r, const json_t *v, size_t index)
{
    nb_body *b = r->b;
    nb_str role = {0};
    if (!nb_body_text(b, v, "role", &role)) {
        nb_body_fail(b, "\"input\" %zu is a message without a role", index);
        return;
    }
    if (!nb_str_eqz(role, "system") && !nb_str_eqz(role, "developer") && !nb_str_eqz(role, "user") &&
        !nb_str_eqz(role, "assistant"))
        nb_body_fail(b, "\"input\" %zu has the role \"%.*s\"; there are system, developer, user and assistant", index,
                     NB_STR_ARG(role));
    bool replies = nb_str_eqz(role, "assistant");
    nb_job_message *m = replies ? assistant(r, true) : add(r, role);
    m->content = nb_api_content(b, json_object_get(v, "content"), replies ? "output_text" : "input_text", "refusal");
}

static void read_call(reader *r, const json_t *v, size_t index)
{
    nb_job_message *m = assistant(r, false);
    nb_past_call *c = &r->calls[r->call_count++];
    if (!nb_body_text(r->b, v, "call_id", &c->id) || !nb_body_text(r->b, v, "name", &c->name))
        nb_body_fail(r->b, "\"input\" %zu: a function_call has to have call_id, name and arguments", index);
    nb_body_text(r->b, v, "arguments", &c->arguments);
    m->calls = m->call_count ? m->calls : c;
    m->call_count++;
}

static void read_output(reader *r, const json_t *v, size_t index)
{
    nb_str id = {0};
    if (!nb_body_text(r->b, v, "call_id", &id))
        nb_body_fail(r->b, "\"input\" %zu: a function_call_output has to have call_id and output", index);
    nb_str name = nb_api_tool_name(r->out, r->count, id);
    nb_job_message *m = add(r, NB_STR("tool"));
    m->tool_call_id = id;
    m->tool_name = name;
    m->content = nb_api_content(r->b, json_object_get(v, "output"), "input_text", "output_text");
}

/* What an earlier reply thought; a summary where that is all there is. */
static void read_reasoning(reader *r, const json_t *v)
{
    const json_t *content = nb_body_array(r->b, v, "content");
    if (json_array_size(content) == 0)
        content = nb_body_array(r->b, v, "summary");
    nb_str text = nb_api_content(r->b, content, "reasoning_text", "summary_text");
    if (text.n)
        assistant(r, true)->thinking = text;
}

static void read_item(reader *r, const json_t *v, size_t index)
{
    nb_str type = NB_STR("message");
    if (!json_is_object(v))
        nb_body_fail(r->b, "\"input\" %zu has to be an object", index);
    else
        nb_body_text(r->b, v, "type", &type);
    if (r->b->status != NB_OK)
        return;
    if (nb_str_eqz(type, "message"))
        read_message(r, v, index);
    else if (nb_str_eqz(type, "function_call"))
        read_call(r, v, index);
    else if (nb_str_eqz(type, "function_call_output"))
        read_output(r, v, index);
    else if (nb_str_eqz(type, "reasoning"))
        read_reasoning(r, v);
    else if (nb_str_eqz(type, "item_reference"))
        nb_body_fail(r->b, "\"input\" %zu refers to an item, and this server keeps none; send the item itself", index);
    else
        nb_body_fail(r->b,
                     "\"input\" %zu has the type \"%.*s\"; there are message, function_call, function_call_output and "
                     "reasoning",
                     index, NB_STR_ARG(type));
}

static void read_input(nb_api_request *q)
{
    nb_body *b = &q->body;
    const json_t *input = json_object_get(b->root, "input"), *v;
    size_t i, n = json_is_string(input) ? 1 : json_array_size(input);
    reader r = {.b = b};
    if (n == 0)
        nb_body_fail(b, "\"input\" is missing or empty; it has to be a text or a list of items");
    if (n > ITEMS)
        nb_body_fail(b, "\"input\" may have at most %d items", ITEMS);
    if (b->status != NB_OK)
        return;
    r.out = NB_ARRAY(&b->arena, nb_job_message, n);
    r.calls = NB_ARRAY(&b->arena, nb_past_call, n);
    if (!r.out || !r.calls) {
        b->status = nb_fail_memory(&b->error, "messages", n * sizeof *r.out);
        return;
    }
    if (json_is_string(input))
        add(&r, NB_STR("user"))->content = nb_body_str(input);
    json_array_foreach(input, i, v) read_item(&r, v, i);
    q->job.messages = r.out;
    q->job.message_count = r.count;
    q->job.has_system = nb_body_text(b, b->root, "instructions", &q->job.system) && q->job.system.n;
}

/* ---- tools ---- */

static void read_tools(nb_api_request *q)
{
    nb_body *b = &q->body;
    const json_t *list = nb_body_array(b, b->root, "tools"), *v;
    size_t i;
    json_t *tools = json_array();
    json_array_foreach(list, i, v)
    {
        nb_str type = {0}, name = {0}, description = {0};
        if (!json_is_object(v) || !nb_body_text(b, v, "type", &type))
            nb_body_fail(b, "tool %zu has no type", i);
        else if (!nb_str_eqz(type, "function"))
            nb_body_fail(b, "tool %zu has the type \"%.*s\"; a server's own tools are not supported, only \"function\"",
                         i, NB_STR_ARG(type));
        else if (!nb_body_text(b, v, "name", &name) || name.n == 0)
            nb_body_fail(b, "tool %zu has no name", i);
        nb_body_text(b, v, "description", &description);
        const json_t *parameters = nb_body_object(b, v, "parameters");
        if (b->status == NB_OK)
            json_array_append_new(tools, nb_api_tool(name, description, parameters));
    }
    if (json_array_size(tools) > 0)
        q->job.tools = nb_body_dump(b, tools);
    json_decref(tools);
    nb_body_bool(b, b->root, "parallel_tool_calls", &q->job.parallel_calls);
}

/* ---- the rest ---- */

static void read_format(nb_api_request *q)
{
    nb_body *b = &q->body;
    const json_t *format = nb_body_object(b, nb_body_object(b, b->root, "text"), "format"), *schema;
    nb_str type = {0};
    if (!format)
        return;
    if (!nb_body_text(b, format, "type", &type)) {
        nb_body_fail(b, "\"text\".format has no type");
    } else if (nb_str_eqz(type, "json_schema")) {
        schema = nb_body_object(b, format, "schema");
        if (schema)
            q->job.schema = nb_body_dump(b, schema);
        else
            nb_body_fail(b, "\"text\".format has no schema");
    } else if (nb_str_eqz(type, "json_object")) {
        q->job.schema = NB_STR("{\"type\":\"object\"}");
    } else if (!nb_str_eqz(type, "text")) {
        nb_body_fail(b, "\"text\".format has the type \"%.*s\"; there are text, json_object and json_schema",
                     NB_STR_ARG(type));
    }
    if (q->job.schema.n && q->job.grammar.n)
        nb_body_fail(b, "\"text\".format and \"grammar\" exclude each other");
}

static void read_include(nb_responses_request *q)
{
    nb_body *b = &q->api.body;
    const json_t *list = nb_body_array(b, b->root, "include"), *v;
    size_t i;
    int64_t top = 0;
    json_array_foreach(list, i, v)
    {
        nb_str what = nb_body_str(v);
        if (json_is_string(v) && nb_str_eqz(what, "message.output_text.logprobs"))
            q->logprobs = true;
        else if (!json_is_string(v) || !nb_str_eqz(what, "reasoning.encrypted_content")) /* it comes in the clear */
            nb_body_fail(b, "\"include\" has something else than message.output_text.logprobs");
    }
    if (nb_body_int(b, b->root, "top_logprobs", &top) && (top < 0 || top > NB_OPENAI_TOP))
        nb_body_fail(b, "\"top_logprobs\" has to be between 0 and %d", NB_OPENAI_TOP);
    if (top > 0 && !q->logprobs)
        nb_body_fail(b, "\"top_logprobs\" needs message.output_text.logprobs in \"include\"");
    q->api.job.task.logprobs = q->logprobs ? (int)top : -1;
}

/* What only a server that remembers can do. */
static void refuse_memory(nb_body *b)
{
    static const char *const keys[] = {"previous_response_id", "conversation", "prompt"};
    bool yes = false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const json_t *v = json_object_get(b->root, keys[i]);
        if (v && !json_is_null(v))
            nb_body_fail(b, "\"%s\" is not supported: this server keeps nothing; send the earlier items in \"input\"",
                         keys[i]);
    }
    if (nb_body_bool(b, b->root, "store", &yes) && yes)
        nb_body_fail(b, "\"store\" is not supported: this server keeps nothing; leave it out or send false");
    if (nb_body_bool(b, b->root, "background", &yes) && yes)
        nb_body_fail(b, "\"background\" is not supported: this server keeps nothing; use \"stream\"");
}

static void read_limits(nb_api_request *q)
{
    nb_body *b = &q->body;
    nb_task_params *t = &q->job.task;
    nb_str text;
    int64_t seed;
    if (nb_body_int(b, b->root, "max_output_tokens", &t->max_tokens) && t->max_tokens < 1)
        nb_body_fail(b, "\"max_output_tokens\" has to be positive");
    if (nb_body_int(b, b->root, "seed", &seed))
        t->sampling.seed = seed < 0 ? NB_SEED_RANDOM : (uint64_t)seed;
    if (nb_body_text(b, nb_body_object(b, b->root, "reasoning"), "effort", &text))
        nb_api_effort(q, text);
    text = NB_STR("disabled");
    nb_body_text(b, b->root, "truncation", &text);
    if (nb_str_eqz(text, "auto"))
        q->job.overflow = NB_OVERFLOW_TRUNCATE;
    else if (!nb_str_eqz(text, "disabled"))
        nb_body_fail(b, "\"truncation\" has to be \"auto\" or \"disabled\"");
}

static const char known[] =
    " model input instructions tools tool_choice max_tool_calls parallel_tool_calls text include top_logprobs "
    "max_output_tokens seed reasoning truncation previous_response_id conversation prompt store background stream "
    "stream_options temperature top_p top_k min_p repeat_penalty grammar metadata user service_tier safety_identifier "
    "prompt_cache_key prompt_cache_retention ";

void nb_route_responses(nb_http_request *r)
{
    nb_responses_request *q = calloc(1, sizeof *q);
    if (!q) {
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        return;
    }
    nb_body *b = &q->api.body;
    nb_api_read(r, &q->api);
    if (b->status == NB_OK) {
        nb_api_pass_over(r, b, known);
        refuse_memory(b);
        read_input(&q->api);
        read_tools(&q->api);
        nb_api_tool_choice(b, &q->api.job);
        read_format(&q->api);
        read_include(q);
        read_limits(&q->api);
    }
    if (b->status == NB_OK) {
        nb_responses_answer(r, q);
    } else {
        nb_http_fail(r, 0, &b->error);
        nb_responses_free(q);
    }
}

/* Nothing is kept: whatever is asked for by its id is not there. */
void nb_route_response(nb_http_request *r)
{
    nb_error err;
    nb_fail(&err, NB_ERR_NOT_FOUND, "there is no response '%.*s': this server keeps none", NB_STR_ARG(nb_http_rest(r)));
    nb_http_fail(r, 0, &err);
}
