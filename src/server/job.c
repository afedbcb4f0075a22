/* A job: what the engine thread says is kept in line until the http thread asks for it; there it is taken apart into content,
 * thinking and calls. */
#include "server/job.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "server/job_calls.h"
#include "server/job_prompt.h"
#include "server/service_internal.h"

enum { MARKERS = 64, LOOK_MS = 100, LOOK_EVENTS = 16 };

/* What the engine said; texts and alternatives lie behind it. */
typedef struct item {
    struct item *next;
    bool is_end;
    nb_token_event token;
    nb_str last_text;
    nb_task_stats stats;
} item;

typedef struct ready { /* an event with its texts copied */
    struct ready *next;
    nb_job_event event;
} ready;

struct nb_job {
    nb_service *service;
    nb_served *served;
    nb_job_prompt prompt;
    nb_reply *reply;
    uint64_t ticket;
    bool submitted, parallel, cancelled, ended, wants_tokens;
    int64_t keep_alive_ns, load_ns;
    bool (*gone)(void *user);
    void (*count)(void *user, nb_str model, const nb_task_stats *stats);
    void *gone_user;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t said;
    item *first, **last;
    nb_task_stats stats; /* when it is over */
    bool over;           /* the engine has said the last */
    bool unsaid;         /* for want of memory */
    /* the http thread's */
    bool short_of_memory;
    item *current;
    bool thinks;         /* what came last */
    size_t fed, thought; /* tokens; those up to the last that was thinking */
    size_t taken;        /* of what the engine said */
    nb_arena arena;      /* of ready */
    ready *events, **events_last;
    nb_error error;
};

nb_job_params nb_job_defaults(void)
{
    nb_job_params p = {.parallel_calls = true, .think = -1, .keep_alive_ns = INT64_MIN};
    p.task.sampling = nb_sampler_defaults();
    p.task.max_tokens = -1;
    p.task.logprobs = -1;
    return p;
}

/* ---- on the engine thread ---- */

static char *put(char *at, nb_str from, nb_str *to)
{
    if (from.n)
        memcpy(at, from.p, from.n);
    *to = (nb_str){at, from.n};
    return at + from.n;
}

static void say(nb_job *j, item *i)
{
    pthread_mutex_lock(&j->lock);
    if (i) {
        *j->last = i;
        j->last = &i->next;
    } else {
        j->unsaid = true;
    }
    pthread_mutex_unlock(&j->lock);
    pthread_cond_signal(&j->said); /* whoever wakes up finds the lock free; the job stays until on_end */
}

static void on_token(void *user, const nb_token_event *e)
{
    nb_job *j = user;
    size_t top = e->top_count * sizeof *e->top;
    item *i = malloc(sizeof *i + top + e->text.n + e->piece.n);
    if (i) {
        *i = (item){.token = *e};
        if (top)
            memcpy(i + 1, e->top, top);
        i->token.top = (const nb_top_token *)(const void *)(i + 1);
        put(put((char *)(i + 1) + top, e->text, &i->token.text), e->piece, &i->token.piece);
    }
    say(j, i);
}

static void on_end(void *user, nb_str last_text, const nb_task_stats *stats)
{
    nb_job *j = user;
    item *i = malloc(sizeof *i + last_text.n);
    if (i) {
        *i = (item){.is_end = true, .stats = *stats};
        put((char *)(i + 1), last_text, &i->last_text);
    }
    pthread_mutex_lock(&j->lock);
    if (i) {
        *j->last = i;
        j->last = &i->next;
    }
    j->unsaid |= !i;
    j->stats = *stats;
    j->over = true;
    pthread_cond_signal(&j->said);
    pthread_mutex_unlock(&j->lock);
}

/* ---- events ---- */

static void copy_text(nb_job *j, nb_str *text)
{
    char *copy = text->n ? nb_arena_strdup(&j->arena, *text) : NULL;
    if (!copy && text->n)
        j->short_of_memory = true;
    *text = (nb_str){copy ? copy : "", copy ? text->n : 0};
}

static ready *add_event(nb_job *j, nb_job_event_kind kind)
{
    ready *r = NB_NEW(&j->arena, ready);
    if (!r) {
        j->short_of_memory = true;
        return NULL;
    }
    r->event.kind = kind;
    *j->events_last = r;
    j->events_last = &r->next;
    return r;
}

static void on_reply(void *user, const nb_reply_event *e)
{
    nb_job *j = user;
    if (j->cancelled) /* one call was asked for, and came */
        return;
    ready *r = add_event(j, NB_JOB_REPLY);
    if (!r)
        return;
    r->event.reply = *e;
    if (e->kind == NB_REPLY_THINKING || (j->thinks && e->kind == NB_REPLY_MARKUP))
        j->thought = j->fed;
    j->thinks = e->kind == NB_REPLY_THINKING;
    copy_text(j, &r->event.reply.text);
    copy_text(j, &r->event.reply.id);
    copy_text(j, &r->event.reply.name);
    copy_text(j, &r->event.reply.arguments);
    if (e->kind == NB_REPLY_CALL_END && !j->parallel) {
        j->cancelled = true;
        nb_service_cancel(j->service, j->ticket);
    }
}

static nb_status take_token(nb_job *j, const item *i, nb_error *err)
{
    if (j->wants_tokens) {
        ready *r = add_event(j, NB_JOB_TOKEN);
        if (r)
            r->event.token = i->token;
    }
    j->fed++;
    if (!nb_ids_add(&j->prompt.ids, i->token.id))
        return nb_fail_memory(err, "a reply", j->prompt.ids.count * sizeof(int32_t));
    return nb_reply_feed(j->reply, i->token.text, err);
}

static nb_status take_end(nb_job *j, const item *i, nb_error *err)
{
    NB_TRY(nb_reply_feed(j->reply, i->last_text, err));
    NB_TRY(nb_reply_finish(j->reply, err));
    ready *r = add_event(j, NB_JOB_END);
    if (!r)
        return nb_fail_memory(err, "a reply", sizeof *r);
    r->event.stats = i->stats;
    r->event.called = nb_reply_calls(j->reply) > 0;
    r->event.thinking_tokens = j->thinks ? j->fed : j->thought;
    if (j->cancelled && i->stats.end == NB_TASK_CANCELLED)
        r->event.stats.end = NB_TASK_STOP;
    return NB_OK;
}

/* with the lock held: there is something to take, or there will be nothing more */
static bool has_said(const nb_job *j) { return j->first || j->over || j->unsaid; }

static bool is_gone(nb_job *j) { return j->gone && j->gone(j->gone_user); }

/* the next thing that the engine said */
static nb_status wait_item(nb_job *j, item **out, nb_error *err)
{
    nb_status status = NB_OK;
    *out = NULL;
    pthread_mutex_lock(&j->lock);
    bool look = ++j->taken % LOOK_EVENTS == 0 || (!j->first && !j->over);
    pthread_mutex_unlock(&j->lock);
    if (look && is_gone(j))
        return nb_fail(err, NB_ERR_CANCELLED, "the client left");
    pthread_mutex_lock(&j->lock);
    while (!has_said(j) && status == NB_OK) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += LOOK_MS * 1000000L;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&j->said, &j->lock, &t);
        if (!j->first && is_gone(j))
            status = nb_fail(err, NB_ERR_CANCELLED, "the client left");
    }
    if (status == NB_OK && j->unsaid) /* what comes after it would be another text */
        status = nb_fail_memory(err, "a reply", 0);
    if (status == NB_OK)
        *out = j->first;
    if (*out) {
        j->first = j->first->next;
        if (!j->first)
            j->last = &j->first;
    } else if (status == NB_OK) {
        status = nb_fail(err, NB_ERR_NOT_FOUND, "the reply is over");
    }
    pthread_mutex_unlock(&j->lock);
    return status;
}

nb_status nb_job_next(nb_job *j, nb_job_event *event, nb_error *err)
{
    if (j->ended)
        return nb_fail(err, NB_ERR_NOT_FOUND, "the reply is over");
    while (!j->events) {
        free(j->current);
        j->current = NULL;
        nb_arena_free(&j->arena);
        j->arena = (nb_arena){0};
        j->events_last = &j->events;
        NB_TRY(wait_item(j, &j->current, err));
        NB_TRY(j->current->is_end ? take_end(j, j->current, err) : take_token(j, j->current, err));
        if (j->short_of_memory)
            return nb_fail_memory(err, "a reply", 0);
    }
    *event = j->events->event;
    j->events = j->events->next;
    j->ended = event->kind == NB_JOB_END;
    if (j->ended && event->stats.end == NB_TASK_FAILED) {
        if (err)
            *err = event->stats.error;
        return event->stats.error.code ? event->stats.error.code : NB_ERR_INTERNAL;
    }
    return NB_OK;
}

bool nb_job_ready(nb_job *j)
{
    if (j->events)
        return true;
    pthread_mutex_lock(&j->lock);
    bool said = has_said(j);
    pthread_mutex_unlock(&j->lock);
    return said;
}

/* ---- starting ---- */

static nb_status make_grammar(nb_job *j, const nb_job_params *p, nb_served_grammar **out, nb_error *err)
{
    nb_buf schema = {0};
    nb_status status = NB_OK;
    *out = NULL;
    if (nb_job_must_call(p)) {
        bool more = nb_job_may_call_more(p), tagged = more && (j->prompt.format.calls >> NB_CALL_TAG & 1);
        status = nb_job_call_schema(p, more && !tagged, &schema, err);
        if (status == NB_OK)
            status = nb_service_grammar(j->served, tagged ? NB_GRAMMAR_TAGGED : NB_GRAMMAR_SCHEMA, nb_buf_view(&schema),
                                        out, err);
        j->prompt.format = (nb_reply_format){.calls = 1ull << (tagged ? NB_CALL_TAG : NB_CALL_BARE)};
        j->prompt.thinking_open = false;
    } else if (p->schema.n || p->grammar.n) {
        status = nb_service_grammar(j->served, p->grammar.n ? NB_GRAMMAR_GBNF : NB_GRAMMAR_SCHEMA,
                                    p->grammar.n ? p->grammar : p->schema, out, err);
        j->prompt.thinking_open = false;
    }
    nb_buf_free(&schema);
    return status;
}

static nb_status make_parser(nb_job *j, const nb_job_params *p, nb_error *err)
{
    bool held = p->schema.n || (p->grammar.n && !p->tools.n); /* with tools, a grammar may well describe calls */
    bool plain = !j->prompt.chats || (held && !nb_job_must_call(p));
    if (p->tools
            .n) /* models that forget their tags (Qwen2.5-Coder): the names are looked at, so other JSON stays content */
        j->prompt.format.calls |= 1ull << NB_CALL_BARE | 1ull << NB_CALL_FENCE;
    nb_reply_params r = {.format = plain ? (nb_reply_format){0} : j->prompt.format,
                         .tools = p->tool_choice == NB_TOOL_NONE ? NB_STR("") : p->tools,
                         .keep_thinking = p->keep_thinking,
                         .thinking_open = j->prompt.thinking_open,
                         .stream_arguments = p->stream_arguments,
                         .seed = j->ticket ^ (uint64_t)(uintptr_t)j,
                         .event = on_reply,
                         .user = j};
    return nb_reply_new(&r, &j->reply, err);
}

static nb_status submit(nb_job *j, const nb_job_params *p, bool *busy, nb_error *err)
{
    const char *markers[MARKERS];
    nb_served_grammar *grammar;
    nb_task_params t = p->task;
    NB_TRY(make_grammar(j, p, &grammar, err));
    nb_status status = make_parser(j, p, err);
    t.prompt = j->prompt.ids.id;
    t.prompt_count = j->prompt.ids.count;
    t.goes_on = !j->prompt.chats;
    t.on_token = on_token;
    t.on_end = on_end;
    t.user = j;
    if (j->prompt.chats) {
        t.markers = markers;
        t.marker_count = nb_min_size(nb_reply_markers(&j->prompt.format, markers, MARKERS), MARKERS);
    }
    if (status == NB_OK)
        status = nb_service_submit(j->service, j->served, &t, grammar, &j->ticket, busy, err);
    nb_service_grammar_release(grammar);
    j->submitted = status == NB_OK;
    if (status == NB_OK)
        nb_service_debug(j->service, "%s: request %llu of %zu tokens%s, at most %lld to follow",
                         nb_entry_text(nb_served_entry(j->served)), (unsigned long long)j->ticket, j->prompt.ids.count,
                         grammar ? " with a grammar" : "", (long long)t.max_tokens);
    return status;
}

nb_status nb_job_start(nb_service *s, const nb_job_params *p, nb_job **out, bool *busy, nb_error *err)
{
    pthread_condattr_t clock;
    nb_job *j = calloc(1, sizeof *j);
    *out = NULL;
    *busy = false;
    if (!j)
        return nb_fail_memory(err, "a request", sizeof *j);
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&j->said, &clock);
    pthread_condattr_destroy(&clock);
    j->service = s;
    j->last = &j->first;
    j->events_last = &j->events;
    j->parallel = nb_job_may_call_more(p);
    j->wants_tokens = p->task.logprobs >= 0;
    j->keep_alive_ns = p->keep_alive_ns;
    j->gone = p->gone;
    j->count = p->count;
    j->gone_user = p->gone_user;
    double start = nb_seconds();
    nb_status status = nb_service_acquire(s, p->model, &p->load, p->gone, p->gone_user, &j->served, err);
    j->load_ns = (int64_t)((nb_seconds() - start) * 1e9);
    *busy = status == NB_ERR_LIMIT; /* no room for the model now, or the server stops */
    if (status == NB_OK)
        status = nb_job_prompt_make(j->served, p, &j->prompt, err);
    if (status == NB_OK)
        status = submit(j, p, busy, err);
    if (status != NB_OK) {
        nb_job_free(j);
        return status;
    }
    *out = j;
    return NB_OK;
}

void nb_job_free(nb_job *j)
{
    if (!j)
        return;
    if (j->submitted) {
        pthread_mutex_lock(&j->lock);
        bool over = j->over;
        pthread_mutex_unlock(&j->lock);
        if (!over)
            nb_service_cancel(j->service, j->ticket);
        pthread_mutex_lock(&j->lock);
        while (!j->over)
            pthread_cond_wait(&j->said, &j->lock);
        pthread_mutex_unlock(&j->lock);
    }
    if (j->count && j->served)
        j->count(j->gone_user, nb_str_of(nb_entry_text(nb_served_entry(j->served))), j->submitted ? &j->stats : NULL);
    while (j->first) {
        item *i = j->first;
        j->first = i->next;
        free(i);
    }
    free(j->current);
    nb_arena_free(&j->arena);
    nb_reply_free(j->reply);
    nb_job_prompt_free(&j->prompt);
    if (j->served)
        nb_service_release(j->service, j->served, j->keep_alive_ns);
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->said);
    free(j);
}

size_t nb_job_truncated(const nb_job *j) { return j->prompt.truncated; }
int64_t nb_job_load_ns(const nb_job *j) { return j->load_ns; }
nb_served *nb_job_served(const nb_job *j) { return j->served; }

const int32_t *nb_job_ids(const nb_job *j, size_t *count)
{
    *count = j->prompt.ids.count;
    return j->prompt.ids.id;
}

nb_status nb_job_render(nb_service *s, const nb_job_params *p, nb_buf *prompt, nb_ids *ids, nb_error *err)
{
    nb_served *m;
    nb_job_prompt made;
    nb_job_params whole = *p; /* also what fits no context has a length */
    whole.overflow = NB_OVERFLOW_KEEP;
    whole.load.any_context = true;
    NB_TRY(nb_service_acquire(s, p->model, &whole.load, p->gone, p->gone_user, &m, err));
    nb_status status = nb_job_prompt_make(m, &whole, &made, err);
    nb_service_release(s, m, p->keep_alive_ns);
    NB_TRY(status);
    *prompt = made.text;
    *ids = made.ids;
    return NB_OK;
}
