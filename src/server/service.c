/* The models of a server: found, loaded by a thread of their own, kept while they are used and a while after. */
#include "server/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/clock.h"
#include "server/job_prompt.h"
#include "server/service_internal.h"

enum { REPLIES = 16, QUEUE = 512, GOOD_CONTEXT = 8192, REPLY_TOKENS = 4096 };
static const int64_t second = 1000000000, forever = INT64_MAX;
static const double QUIET_SECONDS = 1; /* without a request, before memory is tidied */

static void say(const nb_service *s, const char *format, va_list args)
{
    char line[1400];
    if (!s->p.log)
        return;
    vsnprintf(line, sizeof line, format, args);
    s->p.log(s->p.log_user, line);
}

void nb_service_say(const nb_service *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(s, format, args);
    va_end(args);
}

void nb_service_debug(const nb_service *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (s->p.debug)
        say(s, format, args);
    va_end(args);
}

/* Waits at most that long; the clock of both conditions is the monotonic one. */
static void wait_a_while(pthread_cond_t *c, pthread_mutex_t *lock, double seconds)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t ns = t.tv_nsec + (int64_t)((seconds < 3600 ? seconds : 3600) * 1e9);
    t.tv_sec += (time_t)(ns / second);
    t.tv_nsec = (long)(ns % second);
    pthread_cond_timedwait(c, lock, &t);
}

/* ---- one model ---- */

static void free_served(nb_served *m)
{
    nb_scheduler_free(m->scheduler);
    nb_served_free_grammars(m);
    nb_prompt_template_free(m->chat);
    nb_model_close(m->model);
    nb_entry_release(m->entry);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->embed_lock);
    free(m);
}

static nb_served *new_served(nb_service *s, nb_entry *e, const nb_load_options *o)
{
    nb_served *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->service = s;
    m->entry = nb_entry_retain(e);
    m->options = *o;
    m->keep_alive_ns = s->p.keep_alive_ns;
    m->released = nb_seconds();
    m->counts = nb_counts_take(s, nb_entry_text(e));
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->embed_lock, NULL);
    return m;
}

static void unlink_served(nb_service *s, nb_served *m)
{
    nb_served **at = &s->models;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
}

void nb_served_leave(nb_served *m)
{
    m->users--;
    m->released = nb_seconds();
    if (m->users == 0) {
        pthread_cond_broadcast(&m->service->changed);
        pthread_cond_signal(&m->service->ordered);
    }
}

static double expires_in(const nb_served *m, double now)
{
    if (m->users || m->state != NB_SERVED_READY || (m->keep_alive_ns < 0 && !m->expires_now))
        return 1e9;
    return m->expires_now ? 0 : m->released + (double)m->keep_alive_ns * 1e-9 - now;
}

/* ---- loading ---- */

/* The context of who asks for none, where memory holds it. */
static size_t usual_context(const nb_service *s, const nb_served *m)
{
    size_t trained = nb_model_context(m->model);
    return s->p.context ? s->p.context : s->p.most_context ? nb_min_size(trained, s->p.most_context) : trained;
}

/* The cache: one context at least; room for all replies at a usual length, as far as the memory goes. */
static nb_status plan_cache(const nb_service *s, const nb_served *m, uint64_t room, nb_scheduler_params *p,
                            uint64_t *bytes, nb_error *err)
{
    nb_memory one;
    size_t trained = nb_model_context(m->model), wanted = m->options.context ? m->options.context : s->p.context;
    *p = (nb_scheduler_params){.replies = s->p.replies,
                               .kv_type = s->p.kv_type,
                               .allow_long = wanted > trained && !s->p.trained_only,
                               .no_reuse = s->p.no_reuse};
    nb_scheduler_params single = *p;
    single.replies = 1;
    for (p->context = wanted ? wanted : usual_context(s, m);; p->context /= 2) {
        single.context = p->context;
        NB_TRY(nb_scheduler_memory(m->model, &single, &one, err));
        uint64_t fixed = one.weights_copied + one.weights_mapped + one.buffers + one.scratch + one.tables;
        size_t contexts = nb_max_size(1, (s->p.replies * REPLY_TOKENS + p->context - 1) / p->context);
        for (; contexts > 0; contexts /= 2) {
            p->cache_bytes = one.cache * contexts;
            nb_memory all;
            if (nb_scheduler_memory(m->model, p, &all, err) != NB_OK)
                continue;
            *bytes = fixed + all.cache + (all.buffers - one.buffers) + (all.scratch - one.scratch);
            if (*bytes <= room)
                return NB_OK;
        }
        if (wanted || p->context < 1024)
            return nb_fail(
                err, NB_ERR_LIMIT,
                "%s: weights of %.1f GB and a context of %zu do not fit the %.1f GB that models may take; use a "
                "smaller num_ctx or model, or give the server more memory",
                nb_entry_text(m->entry), (double)(one.weights_copied + one.weights_mapped) * 1e-9, p->context,
                (double)room * 1e-9);
    }
}

static uint64_t taken(const nb_service *s, const nb_served *but, size_t *count)
{
    uint64_t bytes = 0;
    *count = 0;
    for (const nb_served *m = s->models; m; m = m->next)
        if (m != but && m->state == NB_SERVED_READY) {
            bytes += m->bytes;
            ++*count;
        }
    return bytes;
}

static nb_served *longest_idle(const nb_service *s)
{
    nb_served *best = NULL;
    for (nb_served *m = s->models; m; m = m->next)
        if (m->state == NB_SERVED_READY && m->users == 0 && (!best || m->released < best->released))
            best = m;
    return best;
}

/* With the lock held, which it leaves while memory is given back. */
static void unload(nb_service *s, nb_served *m, const char *why)
{
    m->state = NB_SERVED_LEAVING;
    unlink_served(s, m);
    nb_counts_leave(m->counts);
    pthread_mutex_unlock(&s->lock);
    nb_service_say(s, "%s: unloaded (%s)", nb_entry_text(m->entry), why);
    free_served(m);
    pthread_mutex_lock(&s->lock);
    pthread_cond_broadcast(&s->changed);
}

/* Until so many bytes are free. With the lock held. */
static nb_status make_room(nb_service *s, const nb_served *m, uint64_t bytes, nb_error *err)
{
    double deadline = nb_seconds() + (double)s->p.load_timeout_ns * 1e-9;
    for (size_t count;;) {
        uint64_t others = taken(s, m, &count);
        if (others + bytes <= s->p.memory && (s->p.max_models == 0 || count < s->p.max_models))
            return NB_OK;
        nb_served *idle = longest_idle(s);
        if (idle) {
            unload(s, idle, "another model needs its memory");
        } else if (nb_seconds() > deadline || s->stopping) {
            return nb_fail(err, NB_ERR_LIMIT,
                           "%s: needs %.1f GB; %zu models in use hold %.1f of %.1f GB; try again later",
                           nb_entry_text(m->entry), (double)bytes * 1e-9, count, (double)others * 1e-9,
                           (double)s->p.memory * 1e-9);
        } else {
            wait_a_while(&s->ordered, &s->lock, 0.1);
        }
    }
}

/* One token through all layers: the weights are in memory then. */
static nb_status warm(nb_served *m, nb_error *err)
{
    nb_reply_task *task;
    int32_t id = 0;
    bool worked;
    nb_task_params p = {.prompt = &id, .prompt_count = 1, .sampling = nb_sampler_defaults(), .logprobs = -1};
    NB_TRY(nb_scheduler_add(m->scheduler, &p, &task, err));
    return nb_scheduler_step(m->scheduler, &worked, err);
}

static nb_status look(nb_service *s, nb_served *m, nb_error *err)
{
    const nb_contents *contents;
    nb_model_params params = s->p.model ? *s->p.model : nb_model_defaults();
    NB_TRY(nb_entry_check(m->entry, err));
    NB_TRY(nb_entry_contents(m->entry, &contents, err));
    size_t count = contents->adapter_count + params.adapter_count;
    nb_model_adapter *adapters = calloc(count + 1, sizeof *adapters);
    if (!adapters)
        return nb_fail_memory(err, "adapters", count * sizeof *adapters);
    for (size_t i = 0; i < count; i++)
        adapters[i] = i < contents->adapter_count ? (nb_model_adapter){contents->adapters[i], 1}
                                                  : params.adapters[i - contents->adapter_count];
    params.threads = m->options.threads ? m->options.threads : s->p.threads;
    params.adapters = adapters;
    params.adapter_count = count;
    nb_status status = contents->model ? nb_model_look(contents->model, &params, &m->model, err)
                                       : nb_fail(err, NB_ERR_UNSUPPORTED, "%s has no model file of its own",
                                                 nb_entry_text(m->entry));
    free(adapters);
    return status;
}

/* Nobody asked for a context so short. */
static void say_short_context(const nb_service *s, const nb_served *m)
{
    size_t context = nb_scheduler_context(m->scheduler), trained = nb_model_context(m->model);
    if (m->options.context || s->p.context || context >= GOOD_CONTEXT)
        return;
    nb_service_say(s, "%s: the context is %zu of %zu positions: %s", nb_entry_text(m->entry), context, trained,
                   context < trained ? "memory holds no more" : "the model was trained for no more");
}

static nb_status load(nb_service *s, nb_served *m, nb_error *err)
{
    nb_scheduler_params p = {0};
    NB_TRY(look(s, m, err));
    bool writes = !m->options.embed && m->model->plan.logits >= 0 && m->model->def->h.causal;
    if (writes) {
        NB_TRY(plan_cache(s, m, s->p.memory, &p, &m->bytes, err));
    } else {
        nb_memory memory = {0};
        NB_TRY(
            m->model->backend->weights_memory(m->model->def, &m->model->plan, &m->model->weights_params, &memory, err));
        m->bytes = memory.weights_copied + memory.weights_mapped;
    }
    pthread_mutex_lock(&s->lock);
    nb_status status = make_room(s, m, m->bytes, err);
    pthread_mutex_unlock(&s->lock);
    NB_TRY(status);
    NB_TRY(nb_model_fill(m->model, err));
    if (!writes)
        return NB_OK;
    p.given_up = nb_service_gives_up;
    p.given_up_user = m;
    NB_TRY(nb_scheduler_new(m->model, &p, &m->scheduler, err));
    say_short_context(s, m);
    return warm(m, err);
}

static void load_one(nb_service *s, nb_served *m)
{
    double start = nb_seconds();
    nb_error error = {0};
    pthread_mutex_unlock(&s->lock);
    nb_status status = load(s, m, &error);
    if (error.code == NB_ERR_FORMAT) /* a damaged file is no fault of the request's */
        error.code = NB_ERR_IO;
    m->load_ns = (int64_t)((nb_seconds() - start) * 1e9);
    if (status == NB_OK) /* without the lock: a log may be slow */
        nb_service_say(s, "%s: loaded in %.2f s, %.2f GB", nb_entry_text(m->entry), (double)m->load_ns * 1e-9,
                       (double)m->bytes * 1e-9);
    else
        nb_service_say(s, "%s: not loaded after %.2f s: %s", nb_entry_text(m->entry), (double)m->load_ns * 1e-9,
                       error.message);
    pthread_mutex_lock(&s->lock);
    m->error = error;
    m->state = status == NB_OK ? NB_SERVED_READY : NB_SERVED_FAILED;
    m->released = nb_seconds();
    pthread_cond_broadcast(&s->changed);
}

/* the next thing for the loader; *seconds: until there may be one */
static nb_served *next_order(nb_service *s, double *seconds)
{
    double now = nb_seconds();
    *seconds = 60;
    for (nb_served *m = s->models; m; m = m->next) {
        double left = expires_in(m, now);
        if (m->state == NB_SERVED_LOADING || left <= 0 || (m->state == NB_SERVED_FAILED && m->users == 0))
            return m;
        *seconds = left < *seconds ? left : *seconds;
    }
    return NULL;
}

/* What many requests at once took lies in pieces all over the heap: when they are over, it goes back to the system. With the
 * lock held; true: it was left meanwhile, so that there may be orders. *seconds: until it is to be looked at again. */
static bool give_memory_back(nb_service *s, double *seconds)
{
    double quiet = nb_seconds() - s->ended;
    if (s->ticket_count || s->load.requests == s->given_back)
        return false;
    if (quiet < QUIET_SECONDS) {
        *seconds = *seconds < QUIET_SECONDS - quiet ? *seconds : QUIET_SECONDS - quiet;
        return false;
    }
    s->given_back = s->load.requests;
    pthread_mutex_unlock(&s->lock);
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    pthread_mutex_lock(&s->lock);
    return true;
}

static void *loader_thread(void *service)
{
    nb_service *s = service;
    pthread_mutex_lock(&s->lock);
    while (!s->over) {
        double seconds;
        nb_served *m = next_order(s, &seconds);
        if (!m && give_memory_back(s, &seconds))
            continue;
        if (!m)
            wait_a_while(&s->ordered, &s->lock, seconds);
        else if (m->state == NB_SERVED_LOADING)
            load_one(s, m);
        else
            unload(s, m, m->state == NB_SERVED_FAILED ? "it failed" : "its time is over");
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- acquiring ---- */

/* Who asks for no context gets the usual one, not a shorter one that somebody else has asked for. */
static bool fits_context(const nb_service *s, const nb_served *m, const nb_load_options *o)
{
    if (o->embed || o->any_context || o->context == m->options.context)
        return true;
    if (o->context || m->state != NB_SERVED_READY)
        return false;
    return m->options.context >= usual_context(s, m);
}

static bool fits(const nb_service *s, const nb_served *m, const nb_entry *e, const nb_load_options *o)
{
    return (m->state == NB_SERVED_LOADING || m->state == NB_SERVED_READY) && !m->expires_now &&
           strcmp(nb_entry_digest(m->entry), nb_entry_digest(e)) == 0 &&
           strcmp(nb_entry_text(m->entry), nb_entry_text(e)) == 0 && (!m->options.embed || o->embed) &&
           fits_context(s, m, o) && (o->threads == 0 || o->threads == m->options.threads);
}

/* The model, loaded, being loaded or ordered now; one user more. Another one of the same entry goes when it is idle. */
static nb_served *order(nb_service *s, nb_entry *e, const nb_load_options *o)
{
    for (nb_served *m = s->models; m; m = m->next)
        if (fits(s, m, e, o)) {
            m->users++;
            return m;
        }
    for (nb_served *m = s->models; m; m = m->next)
        if (strcmp(nb_entry_text(m->entry), nb_entry_text(e)) == 0) {
            m->expires_now = true;
            nb_service_debug(s, "%s: what is loaded has another context, number of threads or file, and goes",
                             nb_entry_text(e));
        }
    nb_service_debug(s, "%s: to be loaded, context %zu, threads %d (0: the default)%s", nb_entry_text(e), o->context,
                     o->threads, o->embed ? ", for embeddings" : "");
    nb_served *m = new_served(s, e, o);
    if (!m)
        return NULL;
    m->users = 1;
    m->next = s->models;
    s->models = m;
    pthread_cond_signal(&s->ordered);
    return m;
}

static nb_status wait_loaded(nb_service *s, nb_served *m, bool (*gone)(void *), void *user, nb_error *err)
{
    double deadline = nb_seconds() + (double)s->p.load_timeout_ns * 1e-9 + 2; /* the loader itself knows more */
    while (m->state == NB_SERVED_LOADING && !s->stopping) {
        wait_a_while(&s->changed, &s->lock, 0.1);
        if (m->state != NB_SERVED_LOADING)
            break;
        if (gone && gone(user))
            return nb_fail(err, NB_ERR_CANCELLED, "the client left while %s was loading", nb_entry_text(m->entry));
        if (nb_seconds() > deadline)
            return nb_fail(err, NB_ERR_LIMIT, "%s was not loaded within %lld s (OLLAMA_LOAD_TIMEOUT)",
                           nb_entry_text(m->entry), (long long)(s->p.load_timeout_ns / second));
    }
    if (m->state == NB_SERVED_READY)
        return NB_OK;
    if (m->state == NB_SERVED_LOADING)
        return nb_fail(err, NB_ERR_LIMIT, "the server is stopping; try again later");
    if (err)
        *err = m->error;
    return m->error.code ? m->error.code : NB_ERR_INTERNAL;
}

nb_status nb_service_acquire(nb_service *s, nb_str name, const nb_load_options *options, bool (*gone)(void *),
                             void *user, nb_served **out, nb_error *err)
{
    nb_entry *e;
    *out = NULL;
    NB_TRY(nb_library_find(s->library, name, &e, err));
    pthread_mutex_lock(&s->lock);
    nb_served *m = s->stopping ? NULL : order(s, e, options);
    nb_status status;
    if (m)
        status = wait_loaded(s, m, gone, user, err);
    else
        status = s->stopping ? nb_fail(err, NB_ERR_LIMIT, "the server is stopping; try again later")
                             : nb_fail_memory(err, "a model", sizeof *m);
    if (m && status != NB_OK)
        nb_served_leave(m);
    pthread_mutex_unlock(&s->lock);
    nb_entry_release(e);
    if (status == NB_OK)
        *out = m;
    return status;
}

void nb_service_release(nb_service *s, nb_served *m, int64_t keep_alive_ns)
{
    pthread_mutex_lock(&s->lock);
    if (keep_alive_ns != INT64_MIN)
        m->keep_alive_ns = keep_alive_ns;
    nb_served_leave(m);
    pthread_mutex_unlock(&s->lock);
}

nb_model *nb_served_model(const nb_served *m) { return m->model; }
nb_entry *nb_served_entry(const nb_served *m) { return m->entry; }
size_t nb_served_context(const nb_served *m)
{
    return m->scheduler ? nb_scheduler_context(m->scheduler) : nb_model_context(m->model);
}
int64_t nb_served_load_ns(const nb_served *m) { return m->load_ns; }

static int64_t expires_at(const nb_served *m)
{
    struct timespec now;
    if (m->keep_alive_ns < 0)
        return forever;
    clock_gettime(CLOCK_REALTIME, &now);
    double left = (m->users ? nb_seconds() : m->released) + (double)m->keep_alive_ns * 1e-9 - nb_seconds();
    return (int64_t)now.tv_sec * second + now.tv_nsec + (int64_t)(left * 1e9);
}

size_t nb_service_list(nb_service *s, nb_served_info *out, size_t room)
{
    size_t count = 0;
    pthread_mutex_lock(&s->lock);
    for (nb_served *m = s->models; m; m = m->next) {
        if (m->state != NB_SERVED_READY || m->expires_now)
            continue;
        if (count < room) {
            nb_served_info *i = &out[count];
            *i = (nb_served_info){.bytes = m->bytes,
                                  .expires_at_ns = expires_at(m),
                                  .context = nb_served_context(m),
                                  .requests = m->users,
                                  .load = m->load,
                                  .entry = nb_entry_retain(m->entry)};
            snprintf(i->name, sizeof i->name, "%s", nb_entry_text(m->entry));
            snprintf(i->digest, sizeof i->digest, "%s", nb_entry_digest(m->entry));
        }
        count++;
    }
    pthread_mutex_unlock(&s->lock);
    return count;
}

/* ---- the service ---- */

static void fill_defaults(nb_service_params *p)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (p->memory == 0 && pages > 0 && size > 0)
        p->memory = (uint64_t)pages * (uint64_t)size / 10 * 9;
    p->replies = p->replies ? p->replies : REPLIES;
    p->queue = p->queue ? p->queue : QUEUE;
    p->keep_alive_ns = p->keep_alive_ns ? p->keep_alive_ns : 300 * second;
    p->load_timeout_ns = p->load_timeout_ns > 0 ? p->load_timeout_ns : 300 * second;
}

static nb_status start(nb_service *s, nb_error *err)
{
    s->started[0] = pthread_create(&s->engine, NULL, nb_service_engine_thread, s) == 0;
    s->started[1] = pthread_create(&s->loader, NULL, loader_thread, s) == 0;
    return s->started[0] && s->started[1] ? NB_OK : nb_fail(err, NB_ERR_MEMORY, "the system gives no more threads");
}

nb_status nb_service_new(nb_library *library, const nb_service_params *params, nb_service **out, nb_error *err)
{
    pthread_condattr_t clock;
    nb_service *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return nb_fail_memory(err, "a service", sizeof *s);
    s->library = library;
    s->p = *params;
    fill_defaults(&s->p);
    s->last_command = &s->commands;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &clock);
    pthread_cond_init(&s->wanted, &clock);
    pthread_cond_init(&s->ordered, &clock);
    pthread_condattr_destroy(&clock);
    nb_status status = start(s, err);
    if (status != NB_OK) {
        nb_service_free(s);
        return status;
    }
    *out = s;
    return NB_OK;
}

void nb_service_stop(nb_service *s, int64_t grace_ns)
{
    double deadline = nb_seconds() + (double)grace_ns * 1e-9;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->changed);
    while (s->ticket_count && nb_seconds() < deadline)
        wait_a_while(&s->changed, &s->lock, 0.05);
    s->ending = true;
    pthread_cond_signal(&s->wanted);
    while (s->ticket_count)
        wait_a_while(&s->changed, &s->lock, 0.05);
    pthread_mutex_unlock(&s->lock);
}

void nb_service_free(nb_service *s)
{
    if (!s)
        return;
    if (s->started[0] && s->started[1])
        nb_service_stop(s, 0);
    pthread_mutex_lock(&s->lock);
    s->over = true;
    pthread_cond_broadcast(&s->wanted);
    pthread_cond_broadcast(&s->ordered);
    pthread_mutex_unlock(&s->lock);
    if (s->started[0])
        pthread_join(s->engine, NULL);
    if (s->started[1])
        pthread_join(s->loader, NULL);
    pthread_mutex_lock(&s->lock); /* no thread looks at a model any more */
    while (s->models)
        unload(s, s->models, "the server stops");
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    pthread_cond_destroy(&s->wanted);
    pthread_cond_destroy(&s->ordered);
    nb_counts_free(s);
    free(s);
}
