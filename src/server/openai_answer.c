/* Chat completions and completions: from the events of one job a choice to JSON, an event a piece or all at once. */
#include <stdlib.h>
#include <time.h>

#include "server/openai.h"
#include "text/utf8.h"

enum { LISTS = 4 }; /* logprobs of a chat: one list; of a completion: tokens, their logprobs, alternatives, offsets */

typedef struct choice {
    nb_job *job;
    nb_buf content, thinking, calls, logprobs[LISTS]; /* of what was not sent yet */
    nb_buf id, name, arguments;                       /* without a stream: of the call that is being written */
    bool begun, over, called;
    size_t thinking_tokens;
    size_t text_points; /* code points of the tokens so far, for offsets */
    nb_task_stats stats;
} choice;

typedef struct answer {
    nb_http_request *request;
    nb_openai_request *q;
    choice *choices;
    size_t count, open, turn;
    int64_t created;
    char id[NB_API_ID];
} answer;

static void free_answer(void *state)
{
    answer *a = state;
    for (size_t i = 0; i < a->count; i++) {
        choice *c = &a->choices[i];
        nb_job_free(c->job);
        nb_buf *buffers[] = {&c->content, &c->thinking, &c->calls, &c->id, &c->name, &c->arguments};
        for (size_t k = 0; k < sizeof buffers / sizeof *buffers; k++)
            nb_buf_free(buffers[k]);
        for (size_t k = 0; k < LISTS; k++)
            nb_buf_free(&c->logprobs[k]);
    }
    free(a->choices);
    nb_openai_free(a->q);
    free(a);
}

/* ---- logprobs ---- */

/* A key of a completion's alternatives: bytes that are no text have a name, so that no two are alike. */
static void put_key(nb_json *j, nb_str piece)
{
    nb_buf name = {0};
    uint32_t point;
    bool is_text = true;
    for (size_t i = 0, n; is_text && i < piece.n; i += n) {
        n = nb_utf8_decode((const unsigned char *)piece.p + i, piece.n - i, &point);
        is_text = n > 0 && point;
    }
    nb_buf_z(&name, "bytes:");
    for (size_t i = 0; i < piece.n; i++)
        nb_buf_printf(&name, "\\x%02x", (unsigned char)piece.p[i]);
    nb_json_key_str(j, is_text ? piece : nb_buf_view(&name));
    nb_buf_free(&name);
}

static size_t count_points(nb_str text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++)
        n += ((unsigned char)text.p[i] & 0xC0) != 0x80;
    return n;
}

static void add_logprob(choice *c, const nb_token_event *e)
{
    nb_json j[LISTS];
    nb_buf text = {0};
    for (size_t i = 0; i < LISTS; i++) {
        if (c->logprobs[i].len)
            nb_buf_char(&c->logprobs[i], ',');
        j[i] = nb_json_begin(&c->logprobs[i], false);
    }
    nb_json_str(&j[0], e->piece);
    nb_json_f32(&j[1], e->logprob);
    nb_json_open(&j[2], '{');
    for (size_t i = 0; i < e->top_count; i++) {
        put_key(&j[2], nb_api_piece(c->job, e->top[i].id, &text));
        nb_json_f32(&j[2], e->top[i].logprob);
    }
    nb_json_close(&j[2], '}');
    nb_json_uint(&j[3], c->text_points);
    c->text_points += count_points(e->piece);
    nb_buf_free(&text);
}

static void put_list(nb_json *j, const char *key, nb_buf *items)
{
    nb_json_key(j, key);
    nb_buf_char(j->out, '[');
    nb_buf_str(j->out, nb_buf_view(items));
    nb_buf_char(j->out, ']');
    j->after_key = false; /* written by hand */
    j->out->failed |= items->failed;
    nb_buf_clear(items);
}

static void put_logprobs(answer *a, choice *c, nb_json *j)
{
    static const char *const keys[LISTS] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};
    nb_json_key(j, "logprobs");
    if (c->logprobs[0].len == 0) {
        nb_json_null(j);
        return;
    }
    nb_json_open(j, '{');
    if (a->q->is_chat)
        put_list(j, "content", &c->logprobs[0]);
    for (size_t i = 0; !a->q->is_chat && i < LISTS; i++)
        put_list(j, keys[i], &c->logprobs[i]);
    nb_json_close(j, '}');
}

/* ---- what the jobs say ---- */

/* A call that is whole: of an answer at once. */
static void end_call(choice *c)
{
    if (c->calls.len)
        nb_buf_char(&c->calls, ',');
    nb_json j = nb_json_begin(&c->calls, false);
    nb_json_open(&j, '{');
    nb_api_put_str(&j, "id", nb_buf_view(&c->id));
    nb_json_put_z(&j, "type", "function");
    nb_json_key(&j, "function");
    nb_json_open(&j, '{');
    nb_api_put_str(&j, "name", nb_buf_view(&c->name));
    nb_api_put_str(&j, "arguments", c->arguments.len ? nb_buf_view(&c->arguments) : NB_STR("{}"));
    nb_json_close(&j, '}');
    nb_json_close(&j, '}');
}

/* A stream's delta of a call: that it begins, or more of its arguments. One that breaks off stays as far as it goes. */
static void add_delta(choice *c, const nb_reply_event *e)
{
    bool begins = e->kind == NB_REPLY_CALL;
    nb_json j = nb_json_begin(&c->calls, false);
    nb_json_open(&j, '{');
    nb_json_put_int(&j, "index", e->index);
    if (begins) {
        nb_api_put_str(&j, "id", e->id);
        nb_json_put_z(&j, "type", "function");
    }
    nb_json_key(&j, "function");
    nb_json_open(&j, '{');
    if (begins)
        nb_api_put_str(&j, "name", e->name);
    nb_api_put_str(&j, "arguments", begins ? NB_STR("") : e->arguments);
    nb_json_close(&j, '}');
    nb_json_close(&j, '}');
}

static void add_call(choice *c, const nb_reply_event *e)
{
    nb_buf_clear(&c->id);
    nb_buf_clear(&c->name);
    nb_buf_clear(&c->arguments);
    nb_buf_str(&c->id, e->id);
    nb_buf_str(&c->name, e->name);
}

static void add_reply(answer *a, choice *c, const nb_reply_event *e)
{
    bool stream = a->q->api.stream;
    switch (e->kind) {
    case NB_REPLY_CONTENT: nb_buf_str(&c->content, e->text); break;
    case NB_REPLY_THINKING: nb_buf_str(&c->thinking, e->text); break;
    case NB_REPLY_CALL: stream ? add_delta(c, e) : add_call(c, e); break;
    case NB_REPLY_ARGUMENTS: stream ? add_delta(c, e) : nb_buf_str(&c->arguments, e->arguments); break;
    case NB_REPLY_CALL_END:
        if (!stream)
            end_call(c);
        break;
    case NB_REPLY_CALL_VOID:
    case NB_REPLY_MARKUP: break;
    }
}

/* The next event of a choice. */
static nb_status take(answer *a, choice *c, nb_error *err)
{
    nb_job_event event;
    NB_TRY(nb_job_next(c->job, &event, err));
    if (event.kind == NB_JOB_REPLY) {
        add_reply(a, c, &event.reply);
    } else if (event.kind == NB_JOB_TOKEN && a->q->is_chat) {
        nb_api_put_logprob(&c->logprobs[0], c->job, &event.token, true);
    } else if (event.kind == NB_JOB_TOKEN) {
        add_logprob(c, &event.token);
    } else {
        c->over = true;
        c->called = event.called;
        c->stats = event.stats;
        c->thinking_tokens = event.thinking_tokens;
        a->open--;
    }
    return NB_OK;
}

static bool has_news(const choice *c) { return c->content.len || c->thinking.len || c->calls.len; }

/* ---- JSON ---- */

static void put_head(const answer *a, nb_json *j)
{
    const char *object = !a->q->is_chat     ? "text_completion"
                         : a->q->api.stream ? "chat.completion.chunk"
                                            : "chat.completion";
    nb_json_open(j, '{');
    nb_json_put_z(j, "id", a->id);
    nb_json_put_z(j, "object", object);
    nb_json_put_int(j, "created", a->created);
    nb_api_put_str(j, "model", a->q->api.job.model);
    nb_json_put_z(j, "system_fingerprint", "fp_nibble");
}

/* One prompt's tokens count once, however many choices it has. */
static void put_usage(const answer *a, nb_json *j)
{
    size_t prompt = 0, cached = 0, tokens = 0, thinking = 0;
    for (size_t i = 0; i < a->count; i++) {
        thinking += a->choices[i].thinking_tokens;
        tokens += a->choices[i].stats.tokens;
        if (i % a->q->n == 0) {
            prompt += a->choices[i].stats.prompt_tokens;
            cached += a->choices[i].stats.reused_tokens;
        }
    }
    nb_json_key(j, "usage");
    nb_json_open(j, '{');
    nb_json_put_uint(j, "prompt_tokens", prompt);
    nb_json_put_uint(j, "completion_tokens", tokens);
    nb_json_put_uint(j, "total_tokens", prompt + tokens);
    nb_json_key(j, "prompt_tokens_details");
    nb_json_open(j, '{');
    nb_json_put_uint(j, "cached_tokens", cached);
    nb_json_close(j, '}');
    nb_json_key(j, "completion_tokens_details");
    nb_json_open(j, '{');
    nb_json_put_uint(j, "reasoning_tokens", thinking);
    nb_json_close(j, '}');
    nb_json_close(j, '}');
}

static void put_message(answer *a, choice *c, nb_json *j)
{
    bool whole = !a->q->api.stream;
    nb_json_key(j, whole ? "message" : "delta");
    nb_json_open(j, '{');
    if (whole || !c->begun)
        nb_json_put_z(j, "role", "assistant");
    if (whole && c->called && c->content.len == 0) {
        nb_json_key(j, "content");
        nb_json_null(j);
    } else if (whole || !c->begun || c->content.len) {
        nb_api_put_str(j, "content", nb_buf_view(&c->content));
    }
    if (c->thinking.len) {
        nb_api_put_str(j, "reasoning_content", nb_buf_view(&c->thinking));
        nb_api_put_str(j, "reasoning", nb_buf_view(&c->thinking));
    }
    if (c->calls.len)
        put_list(j, "tool_calls", &c->calls);
    nb_json_close(j, '}');
}

static const char *finish_reason(const choice *c)
{
    if (c->stats.end == NB_TASK_LENGTH || c->stats.end == NB_TASK_CONTEXT)
        return "length";
    return c->called ? "tool_calls" : "stop";
}

static void put_choice(answer *a, size_t i, nb_json *j)
{
    choice *c = &a->choices[i];
    nb_json_open(j, '{');
    nb_json_put_uint(j, "index", i);
    j->out->failed |= c->content.failed || c->thinking.failed || c->calls.failed || c->id.failed || c->name.failed ||
                      c->arguments.failed;
    if (a->q->is_chat)
        put_message(a, c, j);
    else
        nb_api_put_str(j, "text", nb_buf_view(&c->content));
    put_logprobs(a, c, j);
    nb_json_key(j, "finish_reason");
    if (c->over)
        nb_json_z(j, finish_reason(c));
    else
        nb_json_null(j);
    nb_json_close(j, '}');
    nb_buf_clear(&c->content);
    nb_buf_clear(&c->thinking);
    c->begun = true;
}

/* ---- streams ---- */

static void put_chunk(answer *a, size_t i, nb_buf *out)
{
    nb_buf text = {0};
    nb_json j = nb_json_begin(&text, false);
    put_head(a, &j);
    nb_json_key(&j, "choices");
    nb_json_open(&j, '[');
    if (i < a->count)
        put_choice(a, i, &j);
    nb_json_close(&j, ']');
    if (i == a->count) {
        put_usage(a, &j);
    } else if (a->q->include_usage) {
        nb_json_key(&j, "usage");
        nb_json_null(&j);
    }
    nb_json_close(&j, '}');
    nb_api_event(out, NULL, &text);
    nb_buf_free(&text);
}

static bool put_failure(const nb_error *err, nb_buf *out)
{
    nb_buf text = {0};
    nb_http_write_error(NB_FLAVOR_OPENAI, 500, err->message, &text);
    nb_api_event(out, NULL, &text);
    nb_buf_free(&text);
    return false;
}

/* Choices take turns; each says first that it begins, and last why it ends. */
static bool more(void *state, nb_buf *out)
{
    answer *a = state;
    nb_error err;
    while (a->open) {
        size_t i = a->turn;
        choice *c = &a->choices[i];
        if (c->over) {
            a->turn = (i + 1) % a->count;
            continue;
        }
        if (c->begun || !a->q->is_chat) {
            if (out->len && !nb_job_ready(c->job))
                return true;
            if (take(a, c, &err) != NB_OK)
                return put_failure(&err, out);
            if (c->over && has_news(c)) { /* the end has a chunk of its own */
                c->over = false;
                put_chunk(a, i, out);
                c->over = true;
            } else if (!c->over && !has_news(c)) {
                continue;
            }
        }
        put_chunk(a, i, out);
        a->turn = (i + 1) % a->count;
    }
    if (a->q->include_usage)
        put_chunk(a, a->count, out);
    nb_buf_z(out, "data: [DONE]\n\n");
    return false;
}

static void answer_at_once(answer *a)
{
    nb_error err;
    nb_buf out = {0};
    nb_status status = NB_OK;
    for (size_t i = 0; i < a->count; i++)
        while (status == NB_OK && !a->choices[i].over)
            status = take(a, &a->choices[i], &err);
    if (status != NB_OK) {
        nb_http_fail(a->request, 0, &err);
        return;
    }
    nb_json j = nb_json_begin(&out, false);
    put_head(a, &j);
    nb_json_key(&j, "choices");
    nb_json_open(&j, '[');
    for (size_t i = 0; i < a->count; i++)
        put_choice(a, i, &j);
    nb_json_close(&j, ']');
    put_usage(a, &j);
    nb_json_close(&j, '}');
    nb_http_json(a->request, 200, &out);
}

/* ---- starting ---- */

/* Choices of a prompt have seeds one after the other: the first is the text that the seed gives alone. */
static nb_status start_choice(answer *a, size_t i, bool *busy, nb_error *err)
{
    nb_job_params p = a->q->api.job;
    p.stream_arguments = a->q->api.stream;
    if (!a->q->is_chat) {
        const nb_openai_prompt *prompt = &a->q->prompts[i / a->q->n];
        p.prompt = prompt->text;
        p.context = prompt->ids;
        p.context_count = prompt->count;
    }
    if (p.task.sampling.seed != NB_SEED_RANDOM)
        p.task.sampling.seed = (p.task.sampling.seed + i % a->q->n) % NB_SEED_RANDOM;
    return nb_job_start(nb_http_service(a->request), &p, &a->choices[i].job, busy, err);
}

/* What comes before a completion, where it is asked for. */
static void echo(answer *a, size_t i)
{
    const nb_openai_prompt *prompt = &a->q->prompts[i / a->q->n];
    choice *c = &a->choices[i];
    nb_str text = prompt->text;
    nb_buf decoded = {0};
    if (prompt->ids) {
        const nb_tokenizer *t = nb_served_model(nb_job_served(c->job))->tokenizer;
        if (nb_tokenizer_decode(t, prompt->ids, prompt->count, true, &decoded, NULL) == NB_OK)
            text = nb_buf_view(&decoded);
    }
    nb_buf_str(&c->content, text);
    c->text_points = count_points(text);
    nb_buf_free(&decoded);
}

static nb_status start(answer *a, bool *busy, nb_error *err)
{
    a->choices = calloc(a->count, sizeof *a->choices);
    if (!a->choices) {
        nb_status status = nb_fail_memory(err, "a reply", a->count * sizeof *a->choices);
        a->count = 0;
        return status;
    }
    for (size_t i = 0; i < a->count; i++) {
        NB_TRY(start_choice(a, i, busy, err));
        if (a->q->echo)
            echo(a, i);
    }
    return NB_OK;
}

void nb_openai_answer(nb_http_request *r, nb_openai_request *q)
{
    bool busy = false;
    nb_error err = q->api.body.error;
    answer *a = q->api.body.status == NB_OK ? calloc(1, sizeof *a) : NULL;
    if (!a) {
        if (q->api.body.status == NB_OK)
            nb_fail_memory(&err, "a reply", sizeof *a);
        nb_http_fail(r, 0, &err);
        nb_openai_free(q);
        return;
    }
    *a = (answer){.request = r, .q = q, .count = q->n * q->prompt_count, .created = (int64_t)time(NULL)};
    a->open = a->count;
    nb_api_id(q->is_chat ? "chatcmpl-" : "cmpl-", a->id);
    if (start(a, &busy, &err) != NB_OK) {
        nb_http_fail(r, busy ? 503 : 0, &err);
        free_answer(a);
    } else if (q->api.stream) {
        nb_http_stream(r, "text/event-stream", more, free_answer, a);
    } else {
        answer_at_once(a);
        free_answer(a);
    }
}
