/* /v1/chat/completions: from JSON to a job; and what /v1/completions has in common with it. */
#include <stdlib.h>

#include "server/openai.h"
#include "server/routes.h"

enum { MESSAGES = 65536, BIASES = 65536 };

void nb_openai_free(nb_openai_request *q)
{
    nb_api_close(&q->api);
    free(q);
}

/* ---- in common ---- */

static void read_bias(nb_openai_request *q)
{
    nb_body *b = &q->api.body;
    const char *key;
    json_t *v, *map = nb_body_object(b, b->root, "logit_bias");
    size_t n = json_object_size(map), i = 0;
    nb_logit_bias *biases = n && n <= BIASES ? NB_ARRAY(&b->arena, nb_logit_bias, n) : NULL;
    if (n && !biases)
        nb_body_fail(b, "\"logit_bias\" may have at most %d tokens", BIASES);
    if (!biases)
        return;
    json_object_foreach(map, key, v)
    {
        char *end;
        long id = strtol(key, &end, 10);
        if (end == key || *end || id < 0 || id > INT32_MAX)
            nb_body_fail(b, "\"logit_bias\" has the key \"%.50s\", which is no token id", key);
        else if (!json_is_number(v) || json_number_value(v) < -100 || json_number_value(v) > 100)
            nb_body_fail(b, "\"logit_bias\" of token %ld has to be a number between -100 and 100", id);
        else
            biases[i++] = (nb_logit_bias){(int32_t)id, (float)json_number_value(v)};
    }
    q->api.job.task.sampling.bias = biases;
    q->api.job.task.sampling.bias_count = i;
}

static void read_penalty(nb_body *b, const char *key, float *out)
{
    double value;
    if (!nb_body_number(b, b->root, key, &value))
        return;
    if (!(value >= -2 && value <= 2))
        nb_body_fail(b, "\"%s\" has to be between -2 and 2", key);
    *out = (float)value;
}

static void read_limits(nb_openai_request *q)
{
    nb_body *b = &q->api.body;
    nb_task_params *t = &q->api.job.task;
    int64_t n = 1, seed;
    nb_body_int(b, b->root, "max_tokens", &t->max_tokens);
    nb_body_int(b, b->root, "max_completion_tokens", &t->max_tokens);
    if (nb_body_int(b, b->root, "seed", &seed))
        t->sampling.seed = seed < 0 ? NB_SEED_RANDOM : (uint64_t)seed;
    if (nb_body_int(b, b->root, "n", &n) && (n < 1 || n > NB_OPENAI_CHOICES))
        nb_body_fail(b, "\"n\" has to be between 1 and %d", NB_OPENAI_CHOICES);
    q->n = (size_t)n;
    const json_t *options = nb_body_object(b, b->root, "stream_options");
    nb_body_bool(b, options, "include_usage", &q->include_usage);
}

/* Of both routes, with what means nothing here: who asks, what may be stored, how soon it may run. */
static const char known[] =
    " model messages prompt suffix echo best_of stream stream_options temperature top_p top_k min_p repeat_penalty "
    "max_tokens max_completion_tokens seed n stop logit_bias frequency_penalty presence_penalty logprobs top_logprobs "
    "response_format grammar tools tool_choice parallel_tool_calls functions function_call reasoning_effort reasoning "
    "chat_template_kwargs modalities audio web_search_options prediction user metadata store service_tier "
    "safety_identifier prompt_cache_key prompt_cache_retention ";

nb_openai_request *nb_openai_read(nb_http_request *r, bool is_chat)
{
    nb_openai_request *q = calloc(1, sizeof *q);
    if (!q) {
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        return NULL;
    }
    nb_body *b = &q->api.body;
    q->is_chat = is_chat;
    q->prompt_count = q->n = 1;
    nb_api_read(r, &q->api);
    if (b->status == NB_OK) {
        nb_sampler_params *s = &q->api.job.task.sampling;
        nb_api_pass_over(r, b, known);
        read_limits(q);
        read_bias(q);
        read_penalty(b, "frequency_penalty", &s->frequency_penalty);
        read_penalty(b, "presence_penalty", &s->presence_penalty);
        nb_api_stops(&q->api, "stop");
    }
    if (b->status == NB_OK)
        return q;
    nb_http_fail(r, 0, &b->error);
    nb_openai_free(q);
    return NULL;
}

/* ---- messages ---- */

static void read_calls(nb_body *b, const json_t *message, nb_job_message *out)
{
    const json_t *list = nb_body_array(b, message, "tool_calls"), *v;
    size_t i, n = json_array_size(list);
    nb_past_call *calls = n ? NB_ARRAY(&b->arena, nb_past_call, n) : NULL;
    if (!calls)
        return;
    json_array_foreach(list, i, v)
    {
        const json_t *function = nb_body_object(b, v, "function");
        if (!nb_body_text(b, function, "name", &calls[i].name))
            nb_body_fail(b, "a tool call has no function.name");
        nb_body_text(b, v, "id", &calls[i].id);
        nb_body_text(b, function, "arguments", &calls[i].arguments);
    }
    out->calls = calls;
    out->call_count = n;
}

static bool is_role(nb_str role)
{
    return nb_str_eqz(role, "system") || nb_str_eqz(role, "developer") || nb_str_eqz(role, "user") ||
           nb_str_eqz(role, "assistant") || nb_str_eqz(role, "tool");
}

static void read_message(nb_body *b, const json_t *v, nb_job_message *messages, size_t i)
{
    nb_job_message *m = &messages[i];
    if (!json_is_object(v) || !nb_body_text(b, v, "role", &m->role)) {
        nb_body_fail(b, "message %zu has no role", i);
        return;
    }
    if (!is_role(m->role))
        nb_body_fail(b, "message %zu has the role \"%.*s\"; there are system, developer, user, assistant and tool", i,
                     NB_STR_ARG(m->role));
    m->content = nb_api_content(b, json_object_get(v, "content"), "refusal", NULL);
    if (m->content.n == 0)
        nb_body_text(b, v, "refusal", &m->content);
    static const char *const old[] = {"function_call", NULL};
    nb_api_refuse(b, v, old, " any more: send \"tool_calls\"");
    if (!nb_body_text(b, v, "reasoning_content", &m->thinking))
        nb_body_text(b, v, "reasoning", &m->thinking);
    if (nb_str_eqz(m->role, "tool")) {
        if (!nb_body_text(b, v, "tool_call_id", &m->tool_call_id))
            nb_body_fail(b, "message %zu is a tool's and has no tool_call_id", i);
        if (!nb_body_text(b, v, "name", &m->tool_name))
            m->tool_name = nb_api_tool_name(messages, i, m->tool_call_id);
    }
    read_calls(b, v, m);
}

static void read_messages(nb_openai_request *q)
{
    nb_body *b = &q->api.body;
    const json_t *list = nb_body_array(b, b->root, "messages"), *v;
    size_t i, n = json_array_size(list);
    if (n == 0)
        nb_body_fail(b, "\"messages\" is missing or empty");
    if (n > MESSAGES)
        nb_body_fail(b, "at most %d messages are taken", MESSAGES);
    nb_job_message *messages = b->status == NB_OK ? NB_ARRAY(&b->arena, nb_job_message, n) : NULL;
    if (!messages) {
        nb_body_fail(b, "out of memory");
        return;
    }
    json_array_foreach(list, i, v) read_message(b, v, messages, i);
    q->api.job.messages = messages;
    q->api.job.message_count = n;
}

/* ---- tools ---- */

static void read_tools(nb_openai_request *q)
{
    nb_body *b = &q->api.body;
    const json_t *tools = nb_body_array(b, b->root, "tools"), *v;
    size_t i;
    json_array_foreach(tools, i, v)
    {
        const json_t *function = json_is_object(v) ? nb_body_object(b, v, "function") : NULL;
        nb_str name;
        if (!nb_body_text(b, function, "name", &name) || name.n == 0)
            nb_body_fail(b, "tool %zu has no function.name", i);
        nb_body_object(b, function, "parameters");
    }
    if (json_array_size(tools) > 0)
        q->api.job.tools = nb_body_dump(b, tools);
    nb_body_bool(b, b->root, "parallel_tool_calls", &q->api.job.parallel_calls);
}

/* ---- the reply's form ---- */

static void read_format(nb_openai_request *q)
{
    nb_body *b = &q->api.body;
    nb_job_params *p = &q->api.job;
    const json_t *format = nb_body_object(b, b->root, "response_format"), *schema = NULL;
    nb_str type = {0};
    if (!format)
        return;
    if (!nb_body_text(b, format, "type", &type)) {
        nb_body_fail(b, "\"response_format\" has no type");
    } else if (nb_str_eqz(type, "json_schema")) {
        schema = nb_body_object(b, nb_body_object(b, format, "json_schema"), "schema");
        if (!schema)
            nb_body_fail(b, "\"response_format\" has no json_schema.schema");
    } else if (nb_str_eqz(type, "json_object")) {
        schema = nb_body_object(b, format, "schema");
        p->schema = NB_STR("{\"type\":\"object\"}");
    } else if (!nb_str_eqz(type, "text")) {
        nb_body_fail(b, "\"response_format\" has the type \"%.*s\"; there are text, json_object and json_schema",
                     NB_STR_ARG(type));
    }
    if (schema)
        p->schema = nb_body_dump(b, schema);
    if (p->schema.n && p->grammar.n)
        nb_body_fail(b, "\"response_format\" and \"grammar\" exclude each other");
}

static void read_logprobs(nb_openai_request *q)
{
    nb_body *b = &q->api.body;
    bool wanted = false;
    int64_t top = 0;
    nb_body_bool(b, b->root, "logprobs", &wanted);
    if (nb_body_int(b, b->root, "top_logprobs", &top) && (top < 0 || top > NB_OPENAI_TOP))
        nb_body_fail(b, "\"top_logprobs\" has to be between 0 and %d", NB_OPENAI_TOP);
    if (top > 0 && !wanted)
        nb_body_fail(b, "\"top_logprobs\" needs \"logprobs\" to be true");
    q->api.job.task.logprobs = wanted ? (int)top : -1;
}

static void read_thinking(nb_openai_request *q)
{
    nb_body *b = &q->api.body;
    nb_str effort;
    if (nb_body_text(b, b->root, "reasoning_effort", &effort) ||
        nb_body_text(b, nb_body_object(b, b->root, "reasoning"), "effort", &effort))
        nb_api_effort(&q->api, effort);
    const json_t *variables = nb_body_object(b, b->root, "chat_template_kwargs");
    if (variables)
        q->api.job.template_kwargs = nb_body_dump(b, variables);
}

/* What would be dropped in silence otherwise. */
static void refuse_others(nb_body *b)
{
    static const char *const old[] = {"functions", "function_call", NULL}, *const missing[] = {
                                                                               "audio", "web_search_options", NULL};
    const json_t *v;
    size_t i;
    nb_api_refuse(b, b->root, old, " any more: send \"tools\" and \"tool_choice\"");
    nb_api_refuse(b, b->root, missing, "");
    json_array_foreach(nb_body_array(b, b->root, "modalities"), i,
                       v) if (!json_is_string(v) || !nb_str_eqz(nb_body_str(v), "text"))
        nb_body_fail(b, "\"modalities\" has something else than \"text\", which is all that is supported");
}

void nb_openai_read_chat(nb_openai_request *q)
{
    refuse_others(&q->api.body);
    read_messages(q);
    read_tools(q);
    nb_api_tool_choice(&q->api.body, &q->api.job);
    read_format(q);
    read_logprobs(q);
    read_thinking(q);
}

void nb_route_openai_chat(nb_http_request *r)
{
    nb_openai_request *q = nb_openai_read(r, true);
    if (!q)
        return;
    nb_openai_read_chat(q);
    nb_openai_answer(r, q);
}
