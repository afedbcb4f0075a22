/* Talking to a model on a running server. */
#include <stdlib.h>

#include "base/clock.h"
#include "cli/api_client.h"
#include "cli/models.h"
#include "cli/talk.h"

typedef struct remote {
    nb_talker base;
    nb_client *api;
} remote;

typedef struct stream {
    const nb_talk_request *request;
    nb_talk_stats *stats;
    bool stopped, ended;
} stream;

/* ---- replies ---- */

static double seconds_at(const json_t *line, const char *key)
{
    return json_number_value(json_object_get(line, key)) * 1e-9;
}

static size_t count_at(const json_t *line, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(line, key));
    return n > 0 ? (size_t)n : 0;
}

static void take_end(stream *s, const json_t *line)
{
    nb_talk_stats *t = s->stats;
    s->ended = true;
    t->end = strcmp(nb_models_text(line, "done_reason"), "length") == 0 ? NB_TALK_LENGTH : NB_TALK_DONE;
    t->truncated = count_at(line, "truncated");
    t->prompt_tokens = count_at(line, "prompt_eval_count");
    t->tokens = count_at(line, "eval_count");
    t->total = seconds_at(line, "total_duration");
    t->load = seconds_at(line, "load_duration");
    t->prompt = seconds_at(line, "prompt_eval_duration");
    t->reply = seconds_at(line, "eval_duration");
}

static void say(const stream *s, bool thinking, const json_t *text)
{
    if (json_string_length(text))
        s->request->said(s->request->user, thinking, (nb_str){json_string_value(text), json_string_length(text)});
}

static bool on_line(void *user, const json_t *line)
{
    stream *s = user;
    const json_t *message = json_object_get(line, "message");
    say(s, true, json_object_get(message ? message : line, "thinking"));
    say(s, false, message ? json_object_get(message, "content") : json_object_get(line, "response"));
    if (json_is_true(json_object_get(line, "done")))
        take_end(s, line);
    return true;
}

static bool is_stopped(void *user)
{
    stream *s = user;
    s->stopped |= s->request->stopped && s->request->stopped(s->request->user);
    return s->stopped;
}

static json_t *text_of(nb_str s) { return json_stringn(s.p, s.n); }

static json_t *messages_of(const nb_talk_message *messages, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        const nb_talk_message *m = &messages[i];
        json_t *one = json_pack("{s:o, s:o}", "role", text_of(m->role), "content", text_of(m->content));
        if (m->thinking.n)
            json_object_set_new(one, "thinking", text_of(m->thinking));
        json_array_append_new(list, one);
    }
    return list;
}

/* "300" is a number of seconds; "5m" a duration */
static void put_keep_alive(json_t *body, const nb_talk_request *q)
{
    char *end;
    if (!q->keep_alive)
        return;
    double seconds = strtod(q->keep_alive, &end);
    json_object_set_new(body, "keep_alive", *end ? json_string(q->keep_alive) : json_real(seconds));
}

static json_t *body_of(const remote *r, const nb_talk_request *q)
{
    json_t *body = json_pack("{s:s, s:b, s:b, s:b}", "model", r->base.model, "stream", 1, "truncate", !q->strict,
                             "shift", 0);
    if (q->raw) {
        json_object_set_new(body, "prompt", text_of(q->messages[q->count - 1].content));
        json_object_set_new(body, "raw", json_true());
    } else {
        json_object_set_new(body, "messages", messages_of(q->messages, q->count));
    }
    json_object_set(body, "options", (json_t *)(uintptr_t)q->options);
    json_object_set(body, "format", (json_t *)(uintptr_t)q->format);
    if (q->think_level)
        json_object_set_new(body, "think", json_string(q->think_level));
    else if (q->think >= 0)
        json_object_set_new(body, "think", json_boolean(q->think));
    put_keep_alive(body, q);
    return body;
}

static nb_status talk(nb_talker *t, const nb_talk_request *q, nb_talk_stats *stats, nb_error *err)
{
    remote *r = (remote *)t;
    stream s = {.request = q, .stats = stats};
    json_t *body = body_of(r, q);
    if (!body)
        return nb_fail_memory(err, "a request", 0);
    double start = nb_seconds();
    nb_status status = nb_client_do(
        r->api, &(nb_client_call){"POST", q->raw ? "/api/generate" : "/api/chat", body, on_line, &s, is_stopped}, err);
    json_decref(body);
    if (status == NB_ERR_CANCELLED && s.stopped) {
        stats->end = NB_TALK_STOPPED;
        stats->total = nb_seconds() - start;
        return NB_OK;
    }
    if (status == NB_OK && !s.ended)
        return nb_fail(err, NB_ERR_IO, "%s broke off in mid-reply", nb_client_url(r->api));
    return status;
}

/* A request without a prompt loads the model, with the options that go for loading. */
static nb_status load(nb_talker *t, const nb_talk_request *q, nb_error *err)
{
    remote *r = (remote *)t;
    stream s = {.request = q};
    json_t *body = json_pack("{s:s, s:b}", "model", t->model, "stream", 0);
    json_object_set(body, "options", (json_t *)(uintptr_t)q->options);
    put_keep_alive(body, q);
    nb_status status = body ? nb_client_do(r->api,
                                           &(nb_client_call){"POST", "/api/generate", body, NULL, &s, is_stopped}, err)
                            : nb_fail_memory(err, "a request", 0);
    json_decref(body);
    return status;
}

/* ---- what else it is asked for ---- */

static nb_status show(nb_talker *t, json_t **out, nb_error *err)
{
    remote *r = (remote *)t;
    json_t *body = json_pack("{s:s}", "model", t->model);
    nb_status status = body ? nb_client_ask(r->api, "POST", "/api/show", body, out, err)
                            : nb_fail_memory(err, "a request", 0);
    json_decref(body);
    return status;
}

static nb_status save(nb_talker *t, const nb_talk_save *s, nb_error *err)
{
    remote *r = (remote *)t;
    json_t *shown = NULL, *body = json_pack("{s:s, s:s}", "model", s->name, "from", t->model);
    if (s->system)
        json_object_set_new(body, "system", json_string(s->system));
    if (json_object_size(s->options))
        json_object_set(body, "parameters", (json_t *)(uintptr_t)s->options);
    if (s->count) { /* what the model itself says was said, and then what was */
        json_t *all = show(t, &shown, NULL) == NB_OK ? json_incref(json_object_get(shown, "messages")) : NULL;
        json_t *said = messages_of(s->messages, s->count);
        all = all ? all : json_array();
        json_array_extend(all, said);
        json_object_set_new(body, "messages", all);
        json_decref(said);
        json_decref(shown);
    }
    nb_status status = body ? nb_client_ask(r->api, "POST", "/api/create", body, NULL, err)
                            : nb_fail_memory(err, "a request", 0);
    json_decref(body);
    return status;
}

static void close_remote(nb_talker *t)
{
    remote *r = (remote *)t;
    nb_client_close(r->api);
    free(r);
}

nb_status nb_talk_open_server(const char *model, nb_talker **out, nb_error *err)
{
    remote *r = calloc(1, sizeof *r);
    json_t *shown = NULL;
    *out = NULL;
    if (!r)
        return nb_fail_memory(err, "a conversation", sizeof *r);
    r->base = (nb_talker){
        .talk = talk, .load = load, .show = show, .save = save, .close = close_remote, .model = strdup(model)};
    nb_status status = r->base.model ? nb_client_open(&r->api, err) : nb_fail_memory(err, "a conversation", 0);
    if (status == NB_OK)
        status = show(&r->base, &shown, err);
    r->base.has_template = *nb_models_text(shown, "template") != 0;
    r->base.embeds = nb_models_can(shown, "embedding") && !nb_models_can(shown, "completion");
    r->base.limits = strstr(nb_models_text(shown, "parameters"), "num_predict") != NULL;
    json_decref(shown);
    if (status != NB_OK) {
        nb_talk_close(&r->base);
        return status;
    }
    *out = &r->base;
    return NB_OK;
}
