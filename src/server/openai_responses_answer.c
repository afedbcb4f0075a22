/* /v1/responses: from a job's events to items of an output, as events of a stream or all at once. */
#include <stdlib.h>
#include <time.h>

#include "server/openai_responses.h"

typedef enum item_kind { ITEM_NONE, ITEM_REASONING, ITEM_MESSAGE, ITEM_CALL } item_kind;

typedef struct answer {
    nb_http_request *request;
    nb_responses_request *q;
    nb_job *job;
    nb_buf *stream;        /* where events go; NULL without a stream */
    nb_buf output;         /* items that are whole */
    nb_buf text, logprobs; /* of the open item; text: a call's arguments */
    nb_buf news;           /* logprobs of tokens whose text has not come yet */
    nb_buf call_id, name;  /* of the open call */
    item_kind open;
    size_t items; /* begun */
    uint64_t events;
    int64_t created, completed;
    bool begun;
    bool broken; /* the open call broke off */
    char id[NB_API_ID], item_id[NB_API_ID];
    nb_task_stats stats;
    size_t thinking_tokens;
    const char *status, *failure;
} answer;

static void free_answer(void *state)
{
    answer *a = state;
    nb_buf *buffers[] = {&a->output, &a->text, &a->logprobs, &a->news, &a->call_id, &a->name};
    nb_job_free(a->job);
    nb_responses_free(a->q);
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        nb_buf_free(buffers[i]);
    free(a);
}

/* ---- events ---- */

/* The event's type and number. */
static nb_json begin_event(answer *a, nb_buf *text, const char *type)
{
    nb_json j = nb_json_begin(text, false);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "type", type);
    nb_json_put_uint(&j, "sequence_number", a->events++);
    return j;
}

static void end_event(answer *a, nb_json *j, const char *type)
{
    nb_json_close(j, '}');
    nb_api_event(a->stream, type, j->out);
    nb_buf_free(j->out);
}

/* Where in the output something happens; part: of a content. */
static void put_place(const answer *a, nb_json *j, bool part)
{
    nb_json_put_z(j, "item_id", a->item_id);
    nb_json_put_uint(j, "output_index", a->items - 1);
    if (part)
        nb_json_put_uint(j, "content_index", 0);
}

static void put_list(nb_json *j, const char *key, nb_str items)
{
    nb_json_key(j, key);
    nb_buf_char(j->out, '[');
    nb_buf_str(j->out, items);
    nb_buf_char(j->out, ']');
    j->after_key = false; /* written by hand */
}

/* ---- the response ---- */

static void put_usage(const answer *a, nb_json *j)
{
    const nb_task_stats *s = &a->stats;
    nb_json_key(j, "usage");
    if (!a->completed) {
        nb_json_null(j);
        return;
    }
    nb_json_open(j, '{');
    nb_json_put_uint(j, "input_tokens", s->prompt_tokens);
    nb_json_key(j, "input_tokens_details");
    nb_json_open(j, '{');
    nb_json_put_uint(j, "cached_tokens", s->reused_tokens);
    nb_json_put_uint(j, "cache_write_tokens", 0);
    nb_json_close(j, '}');
    nb_json_put_uint(j, "output_tokens", s->tokens);
    nb_json_key(j, "output_tokens_details");
    nb_json_open(j, '{');
    nb_json_put_uint(j, "reasoning_tokens", a->thinking_tokens);
    nb_json_close(j, '}');
    nb_json_put_uint(j, "total_tokens", s->prompt_tokens + s->tokens);
    nb_json_close(j, '}');
}

/* What the request said, as it said it, or what holds where it said nothing. */
static void put_request(answer *a, nb_json *j)
{
    static const struct {
        const char *key, *otherwise;
    } fields[] = {{"instructions", "null"},
                  {"max_output_tokens", "null"},
                  {"metadata", "{}"},
                  {"parallel_tool_calls", "true"},
                  {"temperature", "1.0"},
                  {"text", "{\"format\":{\"type\":\"text\"}}"},
                  {"tool_choice", "\"auto\""},
                  {"tools", "[]"},
                  {"top_logprobs", "0"},
                  {"top_p", "1.0"},
                  {"truncation", "\"disabled\""},
                  {"reasoning", "{\"effort\":null,\"summary\":null}"},
                  {"user", "null"}};
    nb_body *b = &a->q->api.body;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const json_t *v = json_object_get(b->root, fields[i].key);
        nb_api_put_raw(j, fields[i].key, v && !json_is_null(v) ? nb_body_dump(b, v) : nb_str_of(fields[i].otherwise));
    }
    nb_api_put_raw(j, "background", NB_STR("false"));
    nb_api_put_raw(j, "previous_response_id", NB_STR("null"));
    nb_api_put_raw(j, "store", NB_STR("false"));
}

/* Its fields, without the brackets around them. */
static void put_response(answer *a, nb_json *j)
{
    nb_json_put_z(j, "id", a->id);
    nb_json_put_z(j, "object", "response");
    nb_json_put_int(j, "created_at", a->created);
    nb_json_key(j, "completed_at");
    if (a->completed)
        nb_json_int(j, a->completed);
    else
        nb_json_null(j);
    nb_json_put_z(j, "status", a->status);
    nb_json_key(j, "error");
    if (a->failure) {
        nb_json_open(j, '{');
        nb_json_put_z(j, "code", "server_error");
        nb_json_put_z(j, "message", a->failure);
        nb_json_close(j, '}');
    } else {
        nb_json_null(j);
    }
    nb_api_put_raw(j, "incomplete_details",
                   strcmp(a->status, "incomplete") == 0 ? NB_STR("{\"reason\":\"max_output_tokens\"}")
                                                        : NB_STR("null"));
    nb_api_put_str(j, "model", a->q->api.job.model);
    put_list(j, "output", nb_buf_view(&a->output));
    put_request(a, j);
    put_usage(a, j);
}

static void say_response(answer *a, const char *type)
{
    nb_buf text = {0};
    nb_json j = begin_event(a, &text, type);
    nb_json_key(&j, "response");
    nb_json_open(&j, '{');
    put_response(a, &j);
    nb_json_close(&j, '}');
    end_event(a, &j, type);
}

/* ---- items ---- */

static void put_part(const answer *a, nb_json *j, nb_str text, nb_str logprobs)
{
    nb_json_open(j, '{');
    nb_json_put_z(j, "type", a->open == ITEM_REASONING ? "reasoning_text" : "output_text");
    nb_api_put_str(j, "text", text);
    if (a->open == ITEM_MESSAGE) {
        put_list(j, "annotations", NB_STR(""));
        put_list(j, "logprobs", logprobs);
    }
    nb_json_close(j, '}');
}

/* The open item; whole: with what it holds. */
static void put_item(const answer *a, nb_json *j, bool whole)
{
    static const char *const types[] = {
        [ITEM_NONE] = "", [ITEM_REASONING] = "reasoning", [ITEM_MESSAGE] = "message", [ITEM_CALL] = "function_call"};
    nb_json_open(j, '{');
    nb_json_put_z(j, "id", a->item_id);
    nb_json_put_z(j, "type", types[a->open]);
    nb_json_put_z(j, "status", !whole ? "in_progress" : a->broken ? "incomplete" : "completed");
    if (a->open == ITEM_CALL) {
        nb_api_put_str(j, "call_id", nb_buf_view(&a->call_id));
        nb_api_put_str(j, "name", nb_buf_view(&a->name));
        nb_api_put_str(j, "arguments", whole ? nb_buf_view(&a->text) : NB_STR(""));
    } else {
        if (a->open == ITEM_MESSAGE)
            nb_json_put_z(j, "role", "assistant");
        else
            put_list(j, "summary", NB_STR(""));
        nb_json_key(j, "content");
        nb_json_open(j, '[');
        if (whole)
            put_part(a, j, nb_buf_view(&a->text), nb_buf_view(&a->logprobs));
        nb_json_close(j, ']');
    }
    nb_json_close(j, '}');
}

static void say_item(answer *a, const char *type, bool whole)
{
    nb_buf text = {0};
    nb_json j = begin_event(a, &text, type);
    nb_json_put_uint(&j, "output_index", a->items - 1);
    nb_json_key(&j, "item");
    put_item(a, &j, whole);
    end_event(a, &j, type);
}

static void say_part(answer *a, const char *type, bool whole)
{
    nb_buf text = {0};
    nb_json j = begin_event(a, &text, type);
    put_place(a, &j, true);
    nb_json_key(&j, "part");
    put_part(a, &j, whole ? nb_buf_view(&a->text) : NB_STR(""), whole ? nb_buf_view(&a->logprobs) : NB_STR(""));
    end_event(a, &j, type);
}

static void say_text(answer *a, const char *type, const char *key, nb_str value, nb_str logprobs)
{
    nb_buf text = {0};
    nb_json j = begin_event(a, &text, type);
    put_place(a, &j, a->open != ITEM_CALL);
    if (a->open == ITEM_CALL && strcmp(key, "arguments") == 0)
        nb_api_put_str(&j, "name", nb_buf_view(&a->name));
    nb_api_put_str(&j, key, value);
    if (a->open == ITEM_MESSAGE)
        put_list(&j, "logprobs", logprobs);
    end_event(a, &j, type);
}

static void open_item(answer *a, item_kind kind)
{
    static const char *const prefixes[] = {
        [ITEM_NONE] = "", [ITEM_REASONING] = "rs_", [ITEM_MESSAGE] = "msg_", [ITEM_CALL] = "fc_"};
    a->open = kind;
    a->items++;
    nb_api_id(prefixes[kind], a->item_id);
    nb_buf_clear(&a->text);
    nb_buf_clear(&a->logprobs);
    if (!a->stream)
        return;
    say_item(a, "response.output_item.added", false);
    if (kind != ITEM_CALL)
        say_part(a, "response.content_part.added", false);
}

static void say_done(answer *a)
{
    static const char *const types[] = {[ITEM_NONE] = "",
                                        [ITEM_REASONING] = "response.reasoning_text.done",
                                        [ITEM_MESSAGE] = "response.output_text.done",
                                        [ITEM_CALL] = "response.function_call_arguments.done"};
    say_text(a, types[a->open], a->open == ITEM_CALL ? "arguments" : "text", nb_buf_view(&a->text),
             nb_buf_view(&a->logprobs));
    if (a->open != ITEM_CALL)
        say_part(a, "response.content_part.done", true);
    say_item(a, "response.output_item.done", true);
}

static void close_item(answer *a)
{
    if (a->open == ITEM_NONE)
        return;
    if (a->stream)
        say_done(a);
    if (a->output.len)
        nb_buf_char(&a->output, ',');
    nb_json j = nb_json_begin(&a->output, false);
    put_item(a, &j, true);
    a->output.failed |= a->text.failed || a->logprobs.failed || a->call_id.failed || a->name.failed;
    a->open = ITEM_NONE;
}

static void add_text(answer *a, item_kind kind, nb_str text)
{
    static const char *const types[] = {[ITEM_NONE] = "",
                                        [ITEM_REASONING] = "response.reasoning_text.delta",
                                        [ITEM_MESSAGE] = "response.output_text.delta",
                                        [ITEM_CALL] = "response.function_call_arguments.delta"};
    if (a->open != kind) {
        close_item(a);
        open_item(a, kind);
    }
    nb_buf_str(&a->text, text);
    if (kind == ITEM_MESSAGE && a->news.len) {
        if (a->logprobs.len)
            nb_buf_char(&a->logprobs, ',');
        nb_buf_str(&a->logprobs, nb_buf_view(&a->news));
    }
    if (a->stream)
        say_text(a, types[kind], "delta", text, nb_buf_view(&a->news));
    nb_buf_clear(&a->news);
}

static void add_reply(answer *a, const nb_reply_event *e)
{
    switch (e->kind) {
    case NB_REPLY_CONTENT:
        if (e->text.n)
            add_text(a, ITEM_MESSAGE, e->text);
        break;
    case NB_REPLY_THINKING:
        if (e->text.n)
            add_text(a, ITEM_REASONING, e->text);
        break;
    case NB_REPLY_CALL:
        close_item(a);
        nb_buf_clear(&a->call_id);
        nb_buf_clear(&a->name);
        nb_buf_str(&a->call_id, e->id);
        nb_buf_str(&a->name, e->name);
        open_item(a, ITEM_CALL);
        break;
    case NB_REPLY_ARGUMENTS: add_text(a, ITEM_CALL, e->arguments); break;
    case NB_REPLY_CALL_END:
        if (a->text.len == 0)
            add_text(a, ITEM_CALL, NB_STR("{}"));
        close_item(a);
        break;
    case NB_REPLY_CALL_VOID:
        a->broken = true;
        close_item(a);
        a->broken = false;
        break;
    case NB_REPLY_MARKUP: break;
    }
}

/* ---- answers ---- */

/* A reply without a word is a message all the same. */
static void end(answer *a, const nb_job_event *event)
{
    if (a->items == 0)
        open_item(a, ITEM_MESSAGE);
    close_item(a);
    a->stats = event->stats;
    a->thinking_tokens = event->thinking_tokens;
    a->completed = (int64_t)time(NULL);
    bool cut = event->stats.end == NB_TASK_LENGTH || event->stats.end == NB_TASK_CONTEXT;
    a->status = cut ? "incomplete" : "completed";
    if (a->stream)
        say_response(a, cut ? "response.incomplete" : "response.completed");
}

/* The next event of the job; *more: it was not the last. */
static nb_status take(answer *a, bool *more, nb_error *err)
{
    nb_job_event event;
    NB_TRY(nb_job_next(a->job, &event, err));
    *more = event.kind != NB_JOB_END;
    if (event.kind == NB_JOB_END)
        end(a, &event);
    else if (event.kind == NB_JOB_REPLY)
        add_reply(a, &event.reply);
    else
        nb_api_put_logprob(&a->news, a->job, &event.token, true);
    return NB_OK;
}

static bool more(void *state, nb_buf *out)
{
    answer *a = state;
    nb_error err;
    bool goes_on = true;
    a->stream = out;
    if (!a->begun) {
        a->begun = true;
        say_response(a, "response.created");
        say_response(a, "response.in_progress");
    }
    while (goes_on && (out->len == 0 || nb_job_ready(a->job)))
        if (take(a, &goes_on, &err) != NB_OK) {
            a->status = "failed";
            a->failure = err.message;
            say_response(a, "response.failed");
            goes_on = false;
        }
    out->failed |= a->output.failed || a->news.failed;
    return goes_on;
}

static void answer_at_once(answer *a)
{
    nb_error err;
    nb_buf out = {0};
    bool goes_on = true;
    while (goes_on)
        if (take(a, &goes_on, &err) != NB_OK) {
            nb_http_fail(a->request, 0, &err);
            return;
        }
    nb_json j = nb_json_begin(&out, false);
    nb_json_open(&j, '{');
    put_response(a, &j);
    nb_json_close(&j, '}');
    out.failed |= a->output.failed || a->news.failed;
    nb_http_json(a->request, 200, &out);
}

void nb_responses_answer(nb_http_request *r, nb_responses_request *q)
{
    bool busy = false;
    nb_error err;
    answer *a = calloc(1, sizeof *a);
    if (!a) {
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        nb_responses_free(q);
        return;
    }
    *a = (answer){.request = r, .q = q, .status = "in_progress", .created = (int64_t)time(NULL)};
    nb_api_id("resp_", a->id);
    q->api.job.stream_arguments = q->api.stream;
    if (nb_job_start(nb_http_service(r), &q->api.job, &a->job, &busy, &err) != NB_OK) {
        nb_http_fail(r, busy ? 503 : 0, &err);
        free_answer(a);
        return;
    }
    if (q->api.stream) {
        nb_http_stream(r, "text/event-stream", more, free_answer, a);
    } else {
        answer_at_once(a);
        free_answer(a);
    }
}
