/* Anthropic's /v1/messages: from a job's events to blocks of a content, as events of a stream or all at once. */
#include <stdlib.h>

#include "server/anthropic.h"

typedef enum block { BLOCK_NONE, BLOCK_THINKING, BLOCK_TEXT } block;

typedef struct answer {
    nb_http_request *request;
    nb_api_request *q;
    nb_job *job;
    nb_buf content;             /* without a stream: blocks that are whole */
    nb_buf text;                /* without a stream: of the open block */
    nb_buf id, name, arguments; /* of the call that is being written; arguments: without a stream */
    block open;
    size_t blocks; /* begun */
    size_t prompt_tokens;
    bool begun;
    char message_id[NB_API_ID];
} answer;

static void free_answer(void *state)
{
    answer *a = state;
    nb_job_free(a->job);
    nb_anthropic_free(a->q);
    nb_buf *buffers[] = {&a->content, &a->text, &a->id, &a->name, &a->arguments};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        nb_buf_free(buffers[i]);
    free(a);
}

/* ---- JSON ---- */

static void put_usage(nb_json *j, const answer *a, const nb_task_stats *s)
{
    size_t cached = s ? s->reused_tokens : 0;
    nb_json_key(j, "usage");
    nb_json_open(j, '{');
    nb_json_put_uint(j, "input_tokens", a->prompt_tokens - cached);
    nb_json_put_uint(j, "cache_creation_input_tokens", 0);
    nb_json_put_uint(j, "cache_read_input_tokens", cached);
    nb_json_put_uint(j, "output_tokens", s ? s->tokens : 0);
    nb_json_close(j, '}');
}

static void put_reason(nb_json *j, const answer *a, const nb_task_stats *s, bool called)
{
    const char *reason = "end_turn";
    nb_str stop = {0};
    if (s->end == NB_TASK_LENGTH || s->end == NB_TASK_CONTEXT)
        reason = "max_tokens";
    else if (called)
        reason = "tool_use";
    else if (s->end == NB_TASK_STRING && s->which >= 0 && (size_t)s->which < a->q->stop_count)
        stop = nb_str_of(a->q->job.task.stops[s->which]);
    nb_json_put_z(j, "stop_reason", stop.p ? "stop_sequence" : reason);
    nb_json_key(j, "stop_sequence");
    if (stop.p)
        nb_json_str(j, stop);
    else
        nb_json_null(j);
}

static void put_head(nb_json *j, const answer *a)
{
    nb_json_put_z(j, "id", a->message_id);
    nb_json_put_z(j, "type", "message");
    nb_json_put_z(j, "role", "assistant");
    nb_api_put_str(j, "model", a->q->job.model);
}

static nb_json begin_event(nb_buf *text, const char *type)
{
    nb_json j = nb_json_begin(text, false);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "type", type);
    return j;
}

static void end_event(nb_json *j, const char *type, nb_buf *out)
{
    nb_json_close(j, '}');
    nb_api_event(out, type, j->out);
    nb_buf_free(j->out);
}

/* ---- blocks ---- */

/* The fields of a block of text or thinking. */
static void put_text_block(nb_json *j, block kind, nb_str text)
{
    bool thinking = kind == BLOCK_THINKING;
    nb_json_open(j, '{');
    nb_json_put_z(j, "type", thinking ? "thinking" : "text");
    nb_api_put_str(j, thinking ? "thinking" : "text", text);
    if (thinking)
        nb_json_put_z(j, "signature", "");
    nb_json_close(j, '}');
}

static void put_call_block(nb_json *j, const answer *a, nb_str input)
{
    nb_json_open(j, '{');
    nb_json_put_z(j, "type", "tool_use");
    nb_api_put_str(j, "id", nb_buf_view(&a->id));
    nb_api_put_str(j, "name", nb_buf_view(&a->name));
    nb_api_put_raw(j, "input", input);
    nb_json_close(j, '}');
}

static nb_json next_block(answer *a)
{
    if (a->content.len)
        nb_buf_char(&a->content, ',');
    return nb_json_begin(&a->content, false);
}

static void put_start(answer *a, nb_buf *out, block kind)
{
    nb_buf text = {0};
    nb_json j = begin_event(&text, "content_block_start");
    nb_json_put_uint(&j, "index", a->blocks++);
    nb_json_key(&j, "content_block");
    if (kind == BLOCK_NONE)
        put_call_block(&j, a, NB_STR("{}"));
    else
        put_text_block(&j, kind, NB_STR(""));
    end_event(&j, "content_block_start", out);
}

static void put_delta(const answer *a, nb_buf *out, const char *type, const char *key, nb_str value)
{
    nb_buf text = {0};
    nb_json j = begin_event(&text, "content_block_delta");
    nb_json_put_uint(&j, "index", a->blocks - 1);
    nb_json_key(&j, "delta");
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "type", type);
    nb_api_put_str(&j, key, value);
    nb_json_close(&j, '}');
    end_event(&j, "content_block_delta", out);
}

static void put_stop(const answer *a, nb_buf *out)
{
    nb_buf text = {0};
    nb_json j = begin_event(&text, "content_block_stop");
    nb_json_put_uint(&j, "index", a->blocks - 1);
    end_event(&j, "content_block_stop", out);
}

/* out: of a stream; NULL without one. */
static void close_block(answer *a, nb_buf *out)
{
    if (a->open != BLOCK_NONE && out) {
        put_stop(a, out);
    } else if (a->open != BLOCK_NONE) {
        nb_json j = next_block(a);
        put_text_block(&j, a->open, nb_buf_view(&a->text));
        a->content.failed |= a->text.failed;
        nb_buf_clear(&a->text);
    }
    a->open = BLOCK_NONE;
}

static void add_text(answer *a, nb_buf *out, block kind, nb_str text)
{
    if (a->open != kind) {
        close_block(a, out);
        a->open = kind;
        if (out)
            put_start(a, out, kind);
    }
    if (!out)
        nb_buf_str(&a->text, text);
    else if (kind == BLOCK_TEXT)
        put_delta(a, out, "text_delta", "text", text);
    else
        put_delta(a, out, "thinking_delta", "thinking", text);
}

static void begin_call(answer *a, nb_buf *out, const nb_reply_event *e)
{
    nb_buf_clear(&a->id);
    nb_buf_clear(&a->name);
    nb_buf_clear(&a->arguments);
    nb_buf_str(&a->id, e->id);
    nb_buf_str(&a->name, e->name);
    if (!out)
        return;
    close_block(a, out);
    put_start(a, out, BLOCK_NONE);
    out->failed |= a->id.failed || a->name.failed;
}

/* Without a stream: the call is whole. */
static void add_call(answer *a)
{
    close_block(a, NULL);
    nb_json j = next_block(a);
    put_call_block(&j, a, a->arguments.len ? nb_buf_view(&a->arguments) : NB_STR("{}"));
    a->content.failed |= a->id.failed || a->name.failed || a->arguments.failed;
}

/* In a stream a call that breaks off stays as far as it goes. */
static void add_reply(answer *a, nb_buf *out, const nb_reply_event *e)
{
    switch (e->kind) {
    case NB_REPLY_CONTENT:
        if (e->text.n)
            add_text(a, out, BLOCK_TEXT, e->text);
        break;
    case NB_REPLY_THINKING:
        if (e->text.n)
            add_text(a, out, BLOCK_THINKING, e->text);
        break;
    case NB_REPLY_CALL: begin_call(a, out, e); break;
    case NB_REPLY_ARGUMENTS:
        if (out)
            put_delta(a, out, "input_json_delta", "partial_json", e->arguments);
        else
            nb_buf_str(&a->arguments, e->arguments);
        break;
    case NB_REPLY_CALL_END:
    case NB_REPLY_CALL_VOID:
        if (out)
            put_stop(a, out);
        else if (e->kind == NB_REPLY_CALL_END)
            add_call(a);
        break;
    case NB_REPLY_MARKUP: break;
    }
}

/* ---- answers ---- */

static void put_begin(answer *a, nb_buf *out)
{
    nb_buf text = {0};
    nb_json j = begin_event(&text, "message_start");
    nb_json_key(&j, "message");
    nb_json_open(&j, '{');
    put_head(&j, a);
    nb_api_put_raw(&j, "content", NB_STR("[]"));
    nb_api_put_raw(&j, "stop_reason", NB_STR("null"));
    nb_api_put_raw(&j, "stop_sequence", NB_STR("null"));
    put_usage(&j, a, NULL);
    nb_json_close(&j, '}');
    end_event(&j, "message_start", out);
    a->begun = true;
}

static void put_end(answer *a, nb_buf *out, const nb_job_event *event)
{
    nb_buf text = {0};
    close_block(a, out);
    nb_json j = begin_event(&text, "message_delta");
    nb_json_key(&j, "delta");
    nb_json_open(&j, '{');
    put_reason(&j, a, &event->stats, event->called);
    nb_json_close(&j, '}');
    put_usage(&j, a, &event->stats);
    end_event(&j, "message_delta", out);
    text = (nb_buf){0};
    j = begin_event(&text, "message_stop");
    end_event(&j, "message_stop", out);
}

static bool more(void *state, nb_buf *out)
{
    answer *a = state;
    nb_job_event event;
    nb_error err;
    nb_buf text = {0};
    if (!a->begun)
        put_begin(a, out);
    while (out->len == 0 || nb_job_ready(a->job)) {
        if (nb_job_next(a->job, &event, &err) != NB_OK) {
            nb_http_write_error(NB_FLAVOR_ANTHROPIC, 500, err.message, &text);
            nb_api_event(out, "error", &text);
            nb_buf_free(&text);
            return false;
        }
        if (event.kind == NB_JOB_END) {
            put_end(a, out, &event);
            return false;
        }
        if (event.kind == NB_JOB_REPLY)
            add_reply(a, out, &event.reply);
    }
    return true;
}

static void answer_at_once(answer *a)
{
    nb_job_event event = {.kind = NB_JOB_REPLY};
    nb_error err;
    nb_buf out = {0};
    while (event.kind != NB_JOB_END) {
        if (nb_job_next(a->job, &event, &err) != NB_OK) {
            nb_http_fail(a->request, 0, &err);
            return;
        }
        if (event.kind == NB_JOB_REPLY)
            add_reply(a, NULL, &event.reply);
    }
    close_block(a, NULL);
    nb_json j = nb_json_begin(&out, false);
    nb_json_open(&j, '{');
    put_head(&j, a);
    nb_json_key(&j, "content");
    nb_buf_char(&out, '[');
    nb_buf_str(&out, nb_buf_view(&a->content));
    nb_buf_char(&out, ']');
    j.after_key = false; /* written by hand */
    out.failed |= a->content.failed;
    put_reason(&j, a, &event.stats, event.called);
    put_usage(&j, a, &event.stats);
    nb_json_close(&j, '}');
    nb_http_json(a->request, 200, &out);
}

void nb_anthropic_answer(nb_http_request *r, nb_api_request *q)
{
    bool busy = false;
    nb_error err;
    answer *a = calloc(1, sizeof *a);
    if (!a) {
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        nb_anthropic_free(q);
        return;
    }
    *a = (answer){.request = r, .q = q};
    nb_api_id("msg_", a->message_id);
    q->job.stream_arguments = q->stream;
    if (nb_job_start(nb_http_service(r), &q->job, &a->job, &busy, &err) != NB_OK) {
        nb_http_fail(r, busy ? 503 : 0, &err);
        free_answer(a);
        return;
    }
    nb_job_ids(a->job, &a->prompt_tokens); /* nothing of the reply is among them yet */
    if (q->stream) {
        nb_http_stream(r, "text/event-stream", more, free_answer, a);
    } else {
        answer_at_once(a);
        free_answer(a);
    }
}
