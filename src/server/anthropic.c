/* Anthropic's /v1/messages and /v1/messages/count_tokens: from JSON to a job. */
#include "server/anthropic.h"

#include <stdlib.h>

#include "server/routes.h"

enum { MESSAGES = 65536 };

void nb_anthropic_free(nb_api_request *q)
{
    nb_api_close(q);
    free(q);
}

/* ---- messages ---- */

/* What a request's messages become: a tool's results come before what the user says with them. */
typedef struct reader {
    nb_body *b;
    nb_job_message *out;
    size_t count;
} reader;

static nb_str append(nb_body *b, nb_str to, nb_str more)
{
    if (to.n == 0)
        return more;
    char *text = NB_ARRAY(&b->arena, char, to.n + more.n + 1);
    if (!text) {
        nb_body_fail(b, "out of memory");
        return to;
    }
    memcpy(text, to.p, to.n);
    if (more.n)
        memcpy(text + to.n, more.p, more.n);
    return (nb_str){text, to.n + more.n};
}

static void read_use(reader *r, const json_t *block, nb_past_call *call)
{
    const json_t *input = nb_body_object(r->b, block, "input");
    if (!nb_body_text(r->b, block, "id", &call->id) || !nb_body_text(r->b, block, "name", &call->name))
        nb_body_fail(r->b, "a tool_use has to have id, name and input");
    if (input)
        call->arguments = nb_body_dump(r->b, input);
}

/* No template has a place for it, so a result that is an error says so in its text: "Error: " comes before it. */
static void read_result(reader *r, const json_t *block)
{
    nb_job_message *m = &r->out[r->count];
    bool failed = false;
    m->role = NB_STR("tool");
    if (!nb_body_text(r->b, block, "tool_use_id", &m->tool_call_id))
        nb_body_fail(r->b, "a tool_result has no tool_use_id");
    m->content = nb_api_content(r->b, json_object_get(block, "content"), NULL, NULL);
    if (nb_body_bool(r->b, block, "is_error", &failed) && failed)
        m->content = m->content.n ? append(r->b, NB_STR("Error: "), m->content) : NB_STR("Error");
    m->tool_name = nb_api_tool_name(r->out, r->count, m->tool_call_id);
    r->count++;
}

static void read_block(reader *r, const json_t *block, nb_job_message *m, nb_past_call *calls)
{
    nb_str type = {0}, text;
    if (!nb_body_text(r->b, block, "type", &type)) {
        nb_body_fail(r->b, "a block of a content has no \"type\"");
    } else if (nb_str_eqz(type, "text")) {
        if (nb_body_text(r->b, block, "text", &text))
            m->content = append(r->b, m->content, text);
        else
            nb_body_fail(r->b, "a block of text has no \"text\"");
    } else if (nb_str_eqz(type, "thinking")) {
        if (nb_body_text(r->b, block, "thinking", &text))
            m->thinking = append(r->b, m->thinking, text);
    } else if (nb_str_eqz(type, "tool_use")) {
        read_use(r, block, &calls[m->call_count++]);
        m->calls = calls;
    } else if (nb_str_eqz(type, "tool_result")) {
        read_result(r, block);
    } else if (nb_str_eqz(type, "image")) {
        nb_body_fail(r->b, "images are not supported yet; send text only");
    } else if (!nb_str_eqz(type, "redacted_thinking")) {
        nb_body_fail(r->b, "a content has a block of the type \"%.*s\", which is not supported", NB_STR_ARG(type));
    }
}

static void read_message(reader *r, const json_t *v, size_t index)
{
    nb_body *b = r->b;
    nb_job_message m = {0};
    const json_t *content = json_object_get(v, "content"), *block;
    size_t i, n = json_array_size(content);
    if (!json_is_object(v) || !nb_body_text(b, v, "role", &m.role)) {
        nb_body_fail(b, "message %zu has no role", index);
        return;
    }
    if (!nb_str_eqz(m.role, "user") && !nb_str_eqz(m.role, "assistant") && !nb_str_eqz(m.role, "system"))
        nb_body_fail(b, "message %zu has the role \"%.*s\"; there are user and assistant", index, NB_STR_ARG(m.role));
    if (json_is_string(content))
        m.content = nb_body_str(content);
    else if (!json_is_array(content))
        nb_body_fail(b, "message %zu: \"content\" has to be a string or a list of blocks", index);
    nb_past_call *calls = NB_ARRAY(&b->arena, nb_past_call, n + 1);
    if (!calls)
        nb_body_fail(b, "out of memory");
    size_t before = r->count;
    for (i = 0; b->status == NB_OK && i < n; i++) {
        block = json_array_get(content, i);
        read_block(r, block, &m, calls);
    }
    if (r->count == before || m.content.n || m.call_count)
        r->out[r->count++] = m;
}

static size_t count_blocks(const json_t *list)
{
    const json_t *v;
    size_t i, n = 0;
    json_array_foreach(list, i, v) n += json_array_size(json_object_get(v, "content")) + 1;
    return n;
}

static void read_messages(nb_api_request *q)
{
    nb_body *b = &q->body;
    const json_t *list = nb_body_array(b, b->root, "messages"), *v;
    size_t i, n = count_blocks(list);
    reader r = {.b = b};
    if (n == 0)
        nb_body_fail(b, "\"messages\" is missing or empty");
    if (n > MESSAGES)
        nb_body_fail(b, "at most %d messages and blocks are taken", MESSAGES);
    r.out = b->status == NB_OK ? NB_ARRAY(&b->arena, nb_job_message, n) : NULL;
    if (!r.out) {
        nb_body_fail(b, "out of memory");
        return;
    }
    json_array_foreach(list, i, v) read_message(&r, v, i);
    q->job.messages = r.out;
    q->job.message_count = r.count;
    const json_t *system = json_object_get(b->root, "system");
    q->job.system = nb_api_content(b, system, NULL, NULL);
    q->job.has_system = q->job.system.n > 0;
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
        nb_str name = {0}, description = {0};
        if (!json_is_object(v) || !nb_body_text(b, v, "name", &name) || name.n == 0)
            nb_body_fail(b, "tool %zu has no name", i);
        nb_body_text(b, v, "description", &description);
        const json_t *schema = nb_body_object(b, v, "input_schema");
        if (!schema)
            nb_body_fail(b, "tool %zu has no input_schema; tools that a server runs itself are not supported", i);
        if (b->status == NB_OK)
            json_array_append_new(tools, nb_api_tool(name, description, schema));
    }
    if (json_array_size(tools) > 0)
        q->job.tools = nb_body_dump(b, tools);
    json_decref(tools);
}

static void read_tool_choice(nb_api_request *q)
{
    nb_body *b = &q->body;
    nb_job_params *p = &q->job;
    const json_t *choice = nb_body_object(b, b->root, "tool_choice");
    nb_str type = {0};
    bool alone = false;
    if (!choice)
        return;
    nb_body_text(b, choice, "type", &type);
    if (nb_body_bool(b, choice, "disable_parallel_tool_use", &alone))
        p->parallel_calls = !alone;
    if (nb_str_eqz(type, "any"))
        p->tool_choice = NB_TOOL_REQUIRED;
    else if (nb_str_eqz(type, "none"))
        p->tool_choice = NB_TOOL_NONE;
    else if (nb_str_eqz(type, "tool") && nb_body_text(b, choice, "name", &p->tool_name))
        p->tool_choice = NB_TOOL_NAMED;
    else if (!nb_str_eqz(type, "auto"))
        nb_body_fail(b, "\"tool_choice\" has to have the type auto, any, none, or tool with a name");
}

/* ---- the rest ---- */

static void read_thinking(nb_api_request *q)
{
    nb_body *b = &q->body;
    const json_t *thinking = nb_body_object(b, b->root, "thinking");
    nb_str type = {0};
    int64_t budget;
    if (!thinking)
        return;
    nb_body_text(b, thinking, "type", &type);
    nb_body_int(b, thinking, "budget_tokens", &budget);
    if (nb_str_eqz(type, "enabled"))
        q->job.think = 1;
    else if (nb_str_eqz(type, "disabled"))
        q->job.think = 0;
    else if (!nb_str_eqz(type, "adaptive"))
        nb_body_fail(b, "\"thinking\" has to have the type enabled, adaptive or disabled");
}

static void read_format(nb_api_request *q)
{
    nb_body *b = &q->body;
    const json_t *config = nb_body_object(b, b->root, "output_config");
    const json_t *format = nb_body_object(b, config ? config : b->root, config ? "format" : "output_format");
    nb_str type = {0};
    if (!format)
        return;
    const json_t *schema = nb_body_object(b, format, "schema");
    if (!nb_body_text(b, format, "type", &type) || !nb_str_eqz(type, "json_schema") || !schema)
        nb_body_fail(b, "the output's format has to have the type json_schema and a schema");
    else
        q->job.schema = nb_body_dump(b, schema);
}

static const char known[] = " model messages max_tokens stop_sequences system tools tool_choice thinking output_config "
                            "output_format temperature top_p top_k min_p repeat_penalty stream grammar mcp_servers "
                            "container metadata service_tier cache_control inference_geo ";

nb_api_request *nb_anthropic_read(nb_http_request *r, bool runs)
{
    nb_api_request *q = calloc(1, sizeof *q);
    if (!q) {
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        return NULL;
    }
    nb_body *b = &q->body;
    nb_api_read(r, q);
    if (b->status == NB_OK) {
        static const char *const missing[] = {"mcp_servers", "container", NULL};
        nb_api_pass_over(r, b, known);
        nb_api_refuse(b, b->root, missing, "");
        int64_t *most = &q->job.task.max_tokens;
        bool given = nb_body_int(b, b->root, "max_tokens", most);
        if (runs && (!given || *most < 1))
            nb_body_fail(b, "\"max_tokens\" is missing or not positive");
        nb_api_stops(q, "stop_sequences");
        read_messages(q);
        read_tools(q);
        read_tool_choice(q);
        read_thinking(q);
        read_format(q);
    }
    if (b->status == NB_OK)
        return q;
    nb_http_fail(r, 0, &b->error);
    nb_anthropic_free(q);
    return NULL;
}

void nb_route_messages(nb_http_request *r)
{
    nb_api_request *q = nb_anthropic_read(r, true);
    if (q)
        nb_anthropic_answer(r, q);
}

void nb_route_count_tokens(nb_http_request *r)
{
    nb_api_request *q = nb_anthropic_read(r, false);
    nb_buf prompt = {0}, out = {0};
    nb_ids ids = {0};
    nb_error err;
    if (!q)
        return;
    if (nb_job_render(nb_http_service(r), &q->job, &prompt, &ids, &err) == NB_OK) {
        nb_json j = nb_json_begin(&out, false);
        nb_json_open(&j, '{');
        nb_json_put_uint(&j, "input_tokens", ids.count);
        nb_json_close(&j, '}');
        nb_http_json(r, 200, &out);
    } else {
        nb_http_fail(r, 0, &err);
    }
    nb_buf_free(&prompt);
    nb_ids_free(&ids);
    nb_anthropic_free(q);
}
