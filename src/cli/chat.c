#include "cli/chat.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/reply_print.h"
#include "store/options.h"

nb_chat nb_chat_new(void) { return (nb_chat){.options = json_object(), .think = -1, .word_wrap = true}; }

void nb_chat_free(nb_chat *c)
{
    nb_talk_close(c->talker);
    nb_chat_forget(c, 0);
    free(c->messages);
    free(c->system);
    json_decref(c->options);
    json_decref(c->format);
}

/* ---- what was said ---- */

static void free_text(nb_str s) { free((char *)(uintptr_t)s.p); }

void nb_chat_forget(nb_chat *c, size_t from)
{
    while (c->count > from) {
        nb_talk_message *m = &c->messages[--c->count];
        free_text(m->content);
        free_text(m->thinking);
    }
}

static bool copy(nb_str from, nb_str *to)
{
    char *text = malloc(from.n + 1);
    if (!text)
        return false;
    if (from.n)
        memcpy(text, from.p, from.n);
    text[from.n] = 0;
    *to = (nb_str){text, from.n};
    return true;
}

nb_status nb_chat_add(nb_chat *c, const char *role, nb_str content, nb_str thinking, nb_error *err)
{
    if (c->count == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 16;
        nb_talk_message *messages = realloc(c->messages, cap * sizeof *messages);
        if (!messages)
            return nb_fail_memory(err, "a conversation", cap * sizeof *messages);
        c->messages = messages;
        c->cap = cap;
    }
    nb_talk_message m = {.role = nb_str_of(role)};
    if (!copy(content, &m.content) || !copy(thinking, &m.thinking)) {
        free_text(m.content);
        return nb_fail_memory(err, "a message", content.n);
    }
    c->messages[c->count++] = m;
    return NB_OK;
}

/* ---- numbers after a reply ---- */

/* "1.5s", "312.4ms", "2m3.1s" */
static void format_duration(double seconds, char text[32])
{
    if (seconds < 1)
        snprintf(text, 32, "%.3fms", seconds * 1e3);
    else if (seconds < 60)
        snprintf(text, 32, "%.3fs", seconds);
    else
        snprintf(text, 32, "%dm%.1fs", (int)(seconds / 60), fmod(seconds, 60));
}

static void note_duration(const char *name, double seconds)
{
    char text[32];
    format_duration(seconds, text);
    nb_note("%-21s %s", name, text);
}

static double rate(size_t count, double seconds) { return seconds > 0 ? (double)count / seconds : 0; }

static void print_stats(const nb_talk_stats *s)
{
    note_duration("total duration:", s->total);
    if (s->end == NB_TALK_STOPPED) /* before it could be counted */
        return;
    note_duration("load duration:", s->load);
    nb_note("%-21s %zu token(s)", "prompt eval count:", s->prompt_tokens);
    if (s->reused_tokens)
        nb_note("%-21s %zu token(s)", "known already:", s->reused_tokens);
    note_duration("prompt eval duration:", s->prompt);
    nb_note("%-21s %.2f tokens/s", "prompt eval rate:", rate(s->prompt_tokens - s->reused_tokens, s->prompt));
    nb_note("%-21s %zu token(s)", "eval count:", s->tokens);
    note_duration("eval duration:", s->reply);
    nb_note("%-21s %.2f tokens/s", "eval rate:", rate(s->tokens > 1 ? s->tokens - 1 : 0, s->reply));
    if (s->has_seed)
        nb_note("%-21s %llu", "seed:", (unsigned long long)s->seed);
}

/* What did not fit is always told. */
static void tell_context(const nb_chat *c, const nb_talk_stats *s)
{
    const char *remedy = c->going_on ? "/set parameter num_ctx N makes it larger, /clear begins anew"
                                     : "--ctx makes it larger";
    if (s->truncated)
        nb_note("(the context is full: %zu tokens of the oldest messages were left out; %s)", s->truncated, remedy);
    if (s->end == NB_TALK_CONTEXT)
        nb_note("(the reply ends here: the context of %zu tokens is full; %s)", s->context, remedy);
    else if (s->end == NB_TALK_LENGTH && !nb_talk_limits(c->talker) && !json_object_get(c->options, "num_predict"))
        nb_note("(the reply was cut off: the context is full; %s)", remedy);
}

/* ---- replies ---- */

typedef struct listener {
    nb_reply_print print;
    bool stopped;
} listener;

static void on_said(void *user, bool thinking, nb_str text)
{
    nb_reply_print_said(&((listener *)user)->print, thinking, text);
}

static bool on_look(void *user)
{
    listener *l = user;
    nb_reply_print_wait(&l->print);
    l->stopped |= nb_interrupted() || l->print.failed;
    return l->stopped;
}

static nb_talk_request request_of(const nb_chat *c, listener *l)
{
    return (nb_talk_request){.options = c->options,
                             .format = c->format,
                             .think = c->think,
                             .think_level = *c->think_level ? c->think_level : NULL,
                             .keep_alive = c->keep_alive,
                             .raw = c->raw,
                             .strict = !c->going_on,
                             .said = on_said,
                             .stopped = on_look,
                             .user = l};
}

static nb_status ask(nb_chat *c, listener *l, nb_talk_stats *stats, nb_error *err)
{
    nb_talk_request q = request_of(c, l);
    nb_talk_message *messages = calloc(c->count + 1, sizeof *messages);
    if (!messages)
        return nb_fail_memory(err, "a conversation", 0);
    if (c->system)
        messages[q.count++] = (nb_talk_message){.role = NB_STR("system"), .content = nb_str_of(c->system)};
    for (size_t i = 0; i < c->count; i++)
        messages[q.count++] = c->messages[i];
    q.messages = messages;
    nb_reply_print_begin(&l->print, c->word_wrap, c->hide_thinking);
    nb_status status = nb_talk(c->talker, &q, stats, err);
    free(messages);
    nb_reply_print_end(&l->print);
    return status;
}

static nb_status keep_reply(nb_chat *c, const listener *l, nb_error *err)
{
    if (l->print.content.failed || l->print.thinking.failed)
        return nb_fail_memory(err, "a reply", l->print.content.len);
    return nb_chat_add(c, "assistant", nb_buf_view(&l->print.content), nb_buf_view(&l->print.thinking), err);
}

nb_status nb_chat_say(nb_chat *c, nb_str text, nb_error *err)
{
    if (text.n == 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "the prompt is empty; say something");
    size_t before = c->count;
    listener l = {0};
    nb_talk_stats stats = {0};
    NB_TRY(nb_chat_add(c, "user", text, NB_STR(""), err));
    nb_interrupted(); /* an earlier one */
    nb_status status = ask(c, &l, &stats, err);
    if (status == NB_OK)
        status = keep_reply(c, &l, err);
    if (status != NB_OK && !c->going_on && err && strstr(err->message, "the context of") && !strstr(err->message, "--"))
        snprintf(err->message + strlen(err->message), sizeof err->message - strlen(err->message),
                 "; --ctx makes it larger");
    bool nothing = stats.end == NB_TALK_STOPPED && l.print.content.len == 0;
    if (status != NB_OK || nothing)
        nb_chat_forget(c, before);
    if (status == NB_OK) {
        tell_context(c, &stats);
        if (c->verbose)
            print_stats(&stats);
    }
    nb_reply_print_free(&l.print);
    return status;
}

nb_status nb_chat_load(nb_chat *c, nb_error *err)
{
    listener l = {0};
    nb_talk_request q = request_of(c, &l);
    nb_reply_print_begin(&l.print, false, true);
    nb_status status = nb_talk_load(c->talker, &q, err);
    nb_reply_print_end(&l.print);
    nb_reply_print_free(&l.print);
    return status;
}

/* ---- options ---- */

static json_t *value_of(const nb_param *p)
{
    switch (p->kind) {
    case NB_PARAM_BOOL: return json_boolean(p->yes);
    case NB_PARAM_NUMBER:
        return p->number == trunc(p->number) && fabs(p->number) < 9e15 ? json_integer((json_int_t)p->number)
                                                                       : json_real(p->number);
    default: return json_stringn(p->text.p, p->text.n);
    }
}

static nb_status read_values(const char *name, const char *const *values, size_t count, json_t *list, nb_param *last,
                             nb_error *err)
{
    for (size_t i = 0; i < count; i++) {
        NB_TRY(nb_param_parse(nb_str_of(name), nb_str_of(values[i]), last, err));
        json_t *value = value_of(last);
        if (!value)
            return nb_fail(err, NB_ERR_ARGUMENT, "parameter '%s': the text is no UTF-8", name);
        json_array_append_new(list, value);
    }
    return last->in_array || count == 1
               ? NB_OK
               : nb_fail(err, NB_ERR_ARGUMENT, "parameter '%s' wants one value, not %zu", name, count);
}

nb_status nb_chat_set(nb_chat *c, const char *name, const char *const *values, size_t count, nb_error *err)
{
    nb_param last = {0};
    json_t *list = json_array();
    nb_status status = read_values(name, values, count, list, &last, err);
    if (status == NB_OK)
        json_object_set(c->options, name, last.in_array ? list : json_array_get(list, 0));
    json_decref(list);
    return status;
}
