/* /api/generate and /api/chat: from a job's events to JSON, a line an event or all at once. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "server/api_request.h"
#include "server/ollama.h"

enum { LOADED = 64 };

int64_t nb_time_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void nb_time_text(int64_t ns, char text[40])
{
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm t;
    gmtime_r(&seconds, &t);
    size_t n = strftime(text, 40, "%Y-%m-%dT%H:%M:%S", &t);
    n += (size_t)snprintf(text + n, 40 - n, ".%09lld", (long long)(ns % 1000000000));
    while (text[n - 1] == '0') /* as Go writes it */
        n--;
    snprintf(text + n - (text[n - 1] == '.'), 3, "Z");
}

typedef struct answer {
    nb_http_request *request;
    nb_service *service;
    nb_ollama_request *q;
    nb_job *job;
    bool is_chat, over;
    double start;
    nb_buf content, thinking, calls, logprobs; /* of what was not sent yet */
    nb_buf id, name, arguments;
} answer;

static void free_answer(void *state)
{
    answer *a = state;
    nb_job_free(a->job);
    nb_ollama_free(a->q);
    nb_buf *buffers[] = {&a->content, &a->thinking, &a->calls, &a->logprobs, &a->id, &a->name, &a->arguments};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        nb_buf_free(buffers[i]);
    free(a);
}

/* ---- parts ---- */

/* JSON without the white space between its words: models write it over several lines, and an answer is a line. */
static void put_compact(nb_buf *out, nb_str json)
{
    bool in_string = false;
    for (size_t i = 0; i < json.n; i++) {
        char c = json.p[i];
        if (in_string || (c != ' ' && c != '\n' && c != '\t' && c != '\r'))
            nb_buf_char(out, c);
        if (in_string && c == '\\' && i + 1 < json.n)
            nb_buf_char(out, json.p[++i]);
        else if (c == '"')
            in_string = !in_string;
    }
}

static void end_call(answer *a, int index)
{
    if (a->calls.len)
        nb_buf_char(&a->calls, ',');
    nb_json j = nb_json_begin(&a->calls, false);
    nb_json_open(&j, '{');
    nb_api_put_str(&j, "id", nb_buf_view(&a->id));
    nb_json_key(&j, "function");
    nb_json_open(&j, '{');
    nb_json_put_int(&j, "index", index);
    nb_json_key(&j, "name");
    nb_json_str(&j, nb_buf_view(&a->name));
    nb_json_key(&j, "arguments");
    put_compact(&a->calls, a->arguments.len ? nb_buf_view(&a->arguments) : NB_STR("{}"));
    nb_buf_z(&a->calls, "}}");
}

static void add_reply(answer *a, const nb_reply_event *e)
{
    switch (e->kind) {
    case NB_REPLY_CONTENT: nb_buf_str(&a->content, e->text); break;
    case NB_REPLY_THINKING: nb_buf_str(&a->thinking, e->text); break;
    case NB_REPLY_CALL:
        nb_buf_clear(&a->id);
        nb_buf_str(&a->id, e->id);
        nb_buf_clear(&a->name);
        nb_buf_clear(&a->arguments);
        nb_buf_str(&a->name, e->name);
        break;
    case NB_REPLY_ARGUMENTS: nb_buf_str(&a->arguments, e->arguments); break;
    case NB_REPLY_CALL_END: end_call(a, e->index); break;
    case NB_REPLY_CALL_VOID:
    case NB_REPLY_MARKUP: break;
    }
}

static bool has_news(const answer *a) { return a->content.len || a->thinking.len || a->calls.len; }

static void put_array(nb_buf *out, nb_json *j, const char *key, nb_buf *items)
{
    if (items->len == 0)
        return;
    nb_json_key(j, key);
    nb_buf_char(out, '[');
    nb_buf_str(out, nb_buf_view(items));
    nb_buf_char(out, ']');
    j->after_key = false; /* written by hand */
    nb_buf_clear(items);
}

/* What there is, up to the closing bracket. */
static void put_head(answer *a, nb_buf *out, nb_json *j)
{
    char now[40];
    nb_time_text(nb_time_now(), now);
    nb_json_open(j, '{');
    nb_json_key(j, "model");
    nb_json_str(j, a->q->model);
    nb_json_put_z(j, "created_at", now);
    if (a->is_chat) {
        nb_json_key(j, "message");
        nb_json_open(j, '{');
        nb_json_put_z(j, "role", "assistant");
    }
    nb_json_key(j, a->is_chat ? "content" : "response");
    nb_json_str(j, nb_buf_view(&a->content));
    if (a->thinking.len) {
        nb_json_key(j, "thinking");
        nb_json_str(j, nb_buf_view(&a->thinking));
    }
    put_array(out, j, "tool_calls", &a->calls);
    if (a->is_chat)
        nb_json_close(j, '}');
    put_array(out, j, "logprobs", &a->logprobs);
    nb_buf_clear(&a->content);
    nb_buf_clear(&a->thinking);
}

static int64_t ns(double seconds) { return (int64_t)(seconds * 1e9); }

static void put_end(answer *a, nb_json *j, const nb_task_stats *s)
{
    bool length = s->end == NB_TASK_LENGTH || s->end == NB_TASK_CONTEXT;
    nb_json_key(j, "done");
    nb_json_bool(j, true);
    nb_json_put_z(j, "done_reason", length ? "length" : "stop");
    if (!a->is_chat && !a->q->job.raw) {
        size_t count;
        const int32_t *ids = nb_job_ids(a->job, &count);
        nb_json_key(j, "context");
        nb_json_open(j, '[');
        for (size_t i = 0; i < count; i++)
            nb_json_int(j, ids[i]);
        nb_json_close(j, ']');
    }
    nb_json_put_int(j, "total_duration", ns(nb_seconds() - a->start));
    nb_json_put_int(j, "load_duration", nb_job_load_ns(a->job));
    nb_json_put_uint(j, "prompt_eval_count", s->prompt_tokens);
    nb_json_put_int(j, "prompt_eval_duration", ns(s->prompt_seconds));
    nb_json_put_uint(j, "eval_count", s->tokens);
    nb_json_put_int(j, "eval_duration", ns(s->seconds));
    if (nb_job_truncated(a->job) + s->shifted_tokens)
        nb_json_put_uint(j, "truncated", nb_job_truncated(a->job) + s->shifted_tokens);
}

static void put_line(answer *a, nb_buf *out, const nb_task_stats *end)
{
    nb_json j = nb_json_begin(out, false);
    put_head(a, out, &j);
    if (end) {
        put_end(a, &j, end);
    } else {
        nb_json_key(&j, "done");
        nb_json_bool(&j, false);
    }
    nb_json_close(&j, '}');
    nb_buf_char(out, '\n');
}

/* The next event. False: the reply is over, or failed. */
static bool take(answer *a, nb_job_event *event, nb_status *status, nb_error *err)
{
    *status = nb_job_next(a->job, event, err);
    if (*status != NB_OK)
        return false;
    if (event->kind == NB_JOB_REPLY)
        add_reply(a, &event->reply);
    else if (event->kind == NB_JOB_TOKEN)
        nb_api_put_logprob(&a->logprobs, a->job, &event->token, false);
    return event->kind != NB_JOB_END;
}

/* ---- streams ---- */

static bool more(void *state, nb_buf *out)
{
    answer *a = state;
    nb_job_event event;
    nb_status status;
    nb_error err;
    while (take(a, &event, &status, &err)) {
        if (has_news(a))
            put_line(a, out, NULL);
        if (out->len && !nb_job_ready(a->job))
            return true;
    }
    if (status == NB_OK) {
        if (event.stats.shifted_tokens) /* the head is gone already */
            nb_service_say(a->service, "a reply outgrew its context; %zu tokens before it were forgotten",
                           event.stats.shifted_tokens);
        put_line(a, out, &event.stats);
    } else {
        nb_http_write_error(NB_FLAVOR_OLLAMA, 500, err.message, out);
        nb_buf_char(out, '\n');
    }
    return false;
}

static void answer_at_once(answer *a)
{
    nb_job_event event;
    nb_status status;
    nb_error err;
    nb_buf out = {0};
    while (take(a, &event, &status, &err))
        ;
    if (status == NB_OK) {
        nb_api_tell_truncated(a->request, nb_job_truncated(a->job) + event.stats.shifted_tokens);
        put_line(a, &out, &event.stats);
        out.failed |= a->content.failed || a->thinking.failed || a->calls.failed || a->logprobs.failed;
        nb_http_json(a->request, 200, &out);
    } else {
        nb_http_fail(a->request, 0, &err);
    }
    free_answer(a);
}

/* ---- nothing to say: load or unload ---- */

static bool is_empty(const nb_job_params *p, bool is_chat)
{
    return is_chat ? p->message_count == 0 : p->prompt.n == 0 && p->suffix.n == 0 && p->context_count == 0;
}

/* A model that is asked to go is not loaded for it. */
static bool is_loaded(nb_service *s, const char *name)
{
    nb_served_info info[LOADED];
    size_t n = nb_min_size(nb_service_list(s, info, LOADED), LOADED);
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        found |= strcmp(info[i].name, name) == 0;
        nb_entry_release(info[i].entry);
    }
    return found;
}

/* Loads the model, or lets it go. */
static nb_status load(nb_http_request *r, const nb_ollama_request *q, nb_error *err)
{
    nb_served *m;
    nb_entry *e;
    nb_service *s = nb_http_service(r);
    if (q->job.keep_alive_ns == 0) {
        NB_TRY(nb_library_find(nb_http_library(r), q->model, &e, err));
        bool loaded = is_loaded(s, nb_entry_text(e));
        nb_entry_release(e);
        if (!loaded)
            return NB_OK;
    }
    nb_load_options options = q->job.load;
    options.any_context = q->job.keep_alive_ns == 0;
    NB_TRY(nb_service_acquire(s, q->model, &options, nb_http_gone, r, &m, err));
    nb_service_release(s, m, q->job.keep_alive_ns);
    return NB_OK;
}

static void answer_load(nb_http_request *r, nb_ollama_request *q, bool is_chat)
{
    nb_error err;
    nb_buf out = {0};
    char now[40];
    bool unload = q->job.keep_alive_ns == 0;
    double start = nb_seconds();
    if (load(r, q, &err) != NB_OK) {
        nb_http_fail(r, err.code == NB_ERR_LIMIT ? 503 : 0, &err);
        nb_ollama_free(q);
        return;
    }
    nb_time_text(nb_time_now(), now);
    nb_json j = nb_json_begin(&out, false);
    nb_json_open(&j, '{');
    nb_json_key(&j, "model");
    nb_json_str(&j, q->model);
    nb_json_put_z(&j, "created_at", now);
    if (is_chat) {
        nb_json_key(&j, "message");
        nb_json_open(&j, '{');
        nb_json_put_z(&j, "role", "assistant");
        nb_json_put_z(&j, "content", "");
        nb_json_close(&j, '}');
    } else {
        nb_json_put_z(&j, "response", "");
    }
    nb_json_key(&j, "done");
    nb_json_bool(&j, true);
    nb_json_put_z(&j, "done_reason", unload ? "unload" : "load");
    nb_json_put_int(&j, "total_duration", ns(nb_seconds() - start));
    nb_json_close(&j, '}');
    nb_buf_char(&out, '\n');
    nb_http_json(r, 200, &out);
    nb_ollama_free(q);
}

void nb_ollama_answer(nb_http_request *r, nb_ollama_request *q, bool is_chat)
{
    bool busy;
    nb_error err;
    if (is_empty(&q->job, is_chat)) {
        answer_load(r, q, is_chat);
        return;
    }
    answer *a = calloc(1, sizeof *a);
    nb_status status = a ? NB_OK : nb_fail_memory(&err, "a reply", sizeof *a);
    busy = false;
    if (a) {
        *a = (answer){.request = r, .service = nb_http_service(r), .q = q, .is_chat = is_chat, .start = nb_seconds()};
        status = nb_job_start(nb_http_service(r), &q->job, &a->job, &busy, &err);
    }
    if (status != NB_OK) {
        nb_http_fail(r, busy ? 503 : 0, &err);
        if (a)
            free_answer(a);
        else
            nb_ollama_free(q);
        return;
    }
    if (!q->stream) {
        answer_at_once(a);
        return;
    }
    nb_api_tell_truncated(r, nb_job_truncated(a->job));
    nb_http_stream(r, "application/x-ndjson", more, free_answer, a);
}
