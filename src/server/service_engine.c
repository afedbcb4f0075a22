/* The engine thread: it alone touches schedulers. It takes what was asked for, gives every model with work a step, and sleeps
 * when there is none. */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "server/service_internal.h"

/* A request that runs: between the caller's callbacks and the scheduler's. */
struct nb_ticket {
    nb_ticket *next;
    nb_service *service;
    nb_served *model;
    nb_served_grammar *grammar;
    nb_reply_task *task;
    uint64_t number;
    nb_task_token_fn *on_token;
    nb_task_end_fn *on_end;
    void *user;
    double before; /* when it was asked for, or had its last token */
    bool began;
};

static void on_token(void *user, const nb_token_event *event)
{
    nb_ticket *t = user;
    double now = nb_seconds();
    pthread_mutex_lock(&t->service->lock);
    if (t->model->counts)
        nb_histogram_add(t->began ? &t->model->counts->load.next : &t->model->counts->load.first, now - t->before);
    pthread_mutex_unlock(&t->service->lock);
    t->before = now;
    t->began = true;
    if (t->on_token)
        t->on_token(t->user, event);
}

static void count_end(nb_service *s, const nb_task_stats *stats)
{
    s->load.requests++;
    s->ended = nb_seconds();
    s->load.prompt_tokens += stats->prompt_tokens;
    s->load.reused_tokens += stats->reused_tokens;
    s->load.tokens += stats->tokens;
    s->load.failures += stats->end == NB_TASK_FAILED;
    s->load.cancelled += stats->end == NB_TASK_CANCELLED;
}

static void on_end(void *user, nb_str last_text, const nb_task_stats *stats)
{
    nb_ticket *t = user;
    nb_service *s = t->service;
    nb_ticket **at = &s->tickets;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    if (t->on_end)
        t->on_end(t->user, last_text, stats);
    nb_service_grammar_release(t->grammar);
    pthread_mutex_lock(&s->lock);
    count_end(s, stats);
    s->ticket_count--;
    nb_served_leave(t->model);
    pthread_mutex_unlock(&s->lock);
    nb_service_debug(s, "request %llu: %zu tokens of %zu were known, %zu follow after %.3f s",
                     (unsigned long long)t->number, stats->reused_tokens, stats->prompt_tokens, stats->tokens,
                     stats->queued_seconds);
    free(t);
}

/* ---- commands ---- */

static nb_status add(nb_service *s, nb_command *c, nb_error *err)
{
    nb_ticket *t = calloc(1, sizeof *t);
    if (!t)
        return nb_fail_memory(err, "a request", sizeof *t);
    nb_task_params p = *c->params;
    *t = (nb_ticket){s->tickets, s,        c->model, c->grammar, NULL, c->ticket,
                     p.on_token, p.on_end, p.user,   c->since,   false};
    p.on_token = on_token;
    p.on_end = on_end;
    p.user = t;
    p.grammar = c->grammar ? c->grammar->cache : NULL;
    nb_status status = nb_scheduler_add(c->model->scheduler, &p, &t->task, err);
    if (status != NB_OK) {
        free(t);
        return status;
    }
    s->tickets = t;
    return NB_OK;
}

static void cancel(nb_service *s, uint64_t number)
{
    for (nb_ticket *t = s->tickets; t; t = t->next)
        if (t->number == number) {
            nb_scheduler_cancel(t->model->scheduler, t->task);
            return;
        }
}

/* With the lock held, which it leaves while it works. */
static void take_commands(nb_service *s)
{
    while (s->commands) {
        nb_command *c = s->commands;
        s->commands = c->next;
        if (!s->commands)
            s->last_command = &s->commands;
        pthread_mutex_unlock(&s->lock);
        if (c->params) {
            c->status = add(s, c, &c->error);
        } else {
            cancel(s, c->ticket);
            atomic_fetch_sub(&s->cancels, 1);
            free(c); /* nobody waits for it */
            c = NULL;
        }
        pthread_mutex_lock(&s->lock);
        if (c) {
            c->model->asking--;
            c->model->load = nb_scheduler_look(c->model->scheduler); /* it is in line: the queue is as long as it is */
            c->done = true;
            pthread_cond_broadcast(&s->changed);
        }
    }
}

/* ---- steps ---- */

static bool is_cancelled(const nb_service *s, uint64_t number)
{
    for (const nb_command *c = s->commands; c; c = c->next)
        if (!c->params && c->ticket == number)
            return true;
    return false;
}

/* Within a step of the model: whether all its requests are to be cancelled. A step for others as well goes on. */
bool nb_service_gives_up(void *served)
{
    const nb_served *m = served;
    nb_service *s = m->service;
    if (atomic_load_explicit(&s->cancels, memory_order_relaxed) == 0)
        return false;
    pthread_mutex_lock(&s->lock);
    bool all = m->state == NB_SERVED_READY; /* else this is the loader's first step, and tickets are the engine's */
    for (const nb_ticket *t = s->tickets; t && all; t = t->next)
        all = t->model != m || is_cancelled(s, t->number);
    pthread_mutex_unlock(&s->lock);
    return all;
}

/* One step of each model that has work. With the lock held, which it leaves meanwhile; a model with tasks has users, so it and
 * its place in the list stay. */
static bool step_models(nb_service *s)
{
    bool any = false;
    for (nb_served *m = s->models; m; m = m->next) {
        if (m->state != NB_SERVED_READY || !m->scheduler)
            continue;
        if (m->users == 0) { /* the last task may have been cancelled since */
            m->load = nb_scheduler_look(m->scheduler);
            continue;
        }
        nb_error error;
        bool worked, others = m->embedding > 0;
        m->users++;
        pthread_mutex_unlock(&s->lock);
        if (nb_scheduler_step(m->scheduler, &worked, &error) != NB_OK)
            nb_service_say(s, "%s: a step failed: %s", nb_entry_text(m->entry), error.message);
        nb_scheduler_load load = nb_scheduler_look(m->scheduler);
        if (worked && others) /* who unlocks and locks again at once would never let them in */
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        pthread_mutex_lock(&s->lock);
        m->load = load;
        nb_served_leave(m);
        any |= worked;
    }
    return any;
}

static void end_all(nb_service *s)
{
    pthread_mutex_unlock(&s->lock);
    while (s->tickets)
        nb_scheduler_cancel(s->tickets->model->scheduler, s->tickets->task);
    pthread_mutex_lock(&s->lock);
}

void *nb_service_engine_thread(void *service)
{
    nb_service *s = service;
    pthread_mutex_lock(&s->lock);
    while (!s->over) {
        take_commands(s);
        if (s->ending)
            end_all(s);
        if (!step_models(s) && !s->commands && !s->over && !(s->ending && s->ticket_count))
            pthread_cond_wait(&s->wanted, &s->lock);
    }
    take_commands(s); /* who left as it ended is still in line */
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- for any thread ---- */

static void put_command(nb_service *s, nb_command *c)
{
    c->next = NULL;
    *s->last_command = c;
    s->last_command = &c->next;
}

static bool is_full(const nb_service *s)
{
    size_t waiting = 0;
    for (const nb_served *m = s->models; m; m = m->next)
        waiting += m->load.waiting + m->asking;
    return waiting >= s->p.queue;
}

nb_status nb_service_submit(nb_service *s, nb_served *m, const nb_task_params *params, nb_served_grammar *grammar,
                            uint64_t *ticket, bool *busy, nb_error *err)
{
    nb_command c = {.model = m, .params = params, .grammar = grammar, .since = nb_seconds()};
    *busy = false;
    if (!m->scheduler)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s makes embeddings; it writes no text", nb_entry_text(m->entry));
    pthread_mutex_lock(&s->lock);
    if (s->stopping || is_full(s)) {
        *busy = true;
        s->load.refused++;
        nb_status status = s->stopping
                               ? nb_fail(err, NB_ERR_LIMIT, "the server is stopping; try again later")
                               : nb_fail(err, NB_ERR_LIMIT, "%zu requests wait already; try again later", s->p.queue);
        pthread_mutex_unlock(&s->lock);
        return status;
    }
    if (grammar)
        atomic_fetch_add(&grammar->users, 1);
    m->users++;
    m->asking++;
    s->ticket_count++;
    *ticket = c.ticket = ++s->next_ticket;
    put_command(s, &c);
    pthread_mutex_unlock(&s->lock);
    pthread_cond_signal(&s->wanted); /* without the lock, which it would only wait for */
    pthread_mutex_lock(&s->lock);
    while (!c.done)
        pthread_cond_wait(&s->changed, &s->lock);
    if (c.status != NB_OK) {
        s->ticket_count--;
        nb_served_leave(m);
    }
    pthread_mutex_unlock(&s->lock);
    if (c.status != NB_OK) {
        nb_service_grammar_release(grammar);
        if (err)
            *err = c.error;
    }
    return c.status;
}

void nb_service_cancel(nb_service *s, uint64_t ticket)
{
    nb_command *c = calloc(1, sizeof *c);
    if (!c) /* it ends by itself */
        return;
    c->ticket = ticket;
    pthread_mutex_lock(&s->lock);
    atomic_fetch_add(&s->cancels, 1);
    put_command(s, c);
    pthread_mutex_unlock(&s->lock);
    pthread_cond_signal(&s->wanted);
}

/* ---- embeddings ---- */

static void take_turn(nb_service *s, nb_served *m)
{
    pthread_mutex_lock(&s->lock);
    m->embedding++;
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_lock(&m->embed_lock);
}

static void end_turn(nb_service *s, nb_served *m)
{
    pthread_mutex_unlock(&m->embed_lock);
    pthread_mutex_lock(&s->lock);
    m->embedding--;
    pthread_mutex_unlock(&s->lock);
}

nb_status nb_service_embed(nb_service *s, nb_served *m, const nb_embed_input *inputs, size_t count,
                           const nb_embed_params *params, float *out, size_t *tokens, nb_error *err)
{
    take_turn(s, m);
    nb_status status = nb_embed(m->model, inputs, count, params, out, tokens, err);
    end_turn(s, m);
    return status;
}

nb_status nb_service_rank(nb_service *s, nb_served *m, const char *query, size_t query_bytes,
                          const nb_embed_input *texts, size_t count, const nb_embed_params *params, float *scores,
                          size_t *tokens, nb_error *err)
{
    take_turn(s, m);
    nb_status status = nb_rank(m->model, query, query_bytes, texts, count, params, scores, tokens, err);
    end_turn(s, m);
    return status;
}
