/* Tasks: in line, running, ended. */
#include "engine/scheduler_internal.h"

#include <stdlib.h>

#include "base/clock.h"

enum { REPLIES = 16, STEP_TOKENS = 512, MOST_REPLIES = 1024, TOP = 20 };

/* ---- lists ---- */

void nb_task_unlink(nb_task_list *list, nb_reply_task *t)
{
    *(t->before ? &t->before->next : &list->first) = t->next;
    *(t->next ? &t->next->before : &list->last) = t->before;
    t->next = t->before = NULL;
    list->count--;
}

void nb_task_append(nb_task_list *list, nb_reply_task *t)
{
    t->before = list->last;
    *(list->last ? &list->last->next : &list->first) = t;
    list->last = t;
    list->count++;
}

void nb_task_prepend(nb_task_list *list, nb_reply_task *t)
{
    t->next = list->first;
    *(list->first ? &list->first->before : &list->last) = t;
    list->first = t;
    list->count++;
}

/* ---- memory ---- */

static nb_status page_bytes(const nb_model *m, nb_context_params cp, size_t bytes[NB_GROUPS], nb_error *err)
{
    nb_memory one = {0};
    NB_TRY(m->backend->context_memory(m->def, &m->plan, &m->weights_params, &cp, &one, err));
    for (int g = 0; g < NB_GROUPS; g++) {
        nb_context_params larger = cp;
        nb_memory more = {0};
        larger.pages[g]++;
        NB_TRY(m->backend->context_memory(m->def, &m->plan, &m->weights_params, &larger, &more, err));
        bytes[g] = cp.max_pages[g] ? more.cache - one.cache : 0;
    }
    return NB_OK;
}

/* Pages of both groups for so many contexts: window layers keep their rings, and as many again for prefixes. */
static void take_contexts(nb_context_params *cp, size_t replies)
{
    cp->pages[NB_GROUP_GLOBAL] = replies * cp->max_pages[NB_GROUP_GLOBAL];
    cp->pages[NB_GROUP_LOCAL] = 2 * replies * cp->max_pages[NB_GROUP_LOCAL];
}

/* As many pages as the bytes hold: rings first, then prefixes and global layers in the ratio of their layers' needs. */
static nb_status take_bytes(const nb_model *m, nb_context_params *cp, size_t replies, size_t bytes, nb_error *err)
{
    size_t page[NB_GROUPS], rings = replies * cp->max_pages[NB_GROUP_LOCAL];
    NB_TRY(page_bytes(m, *cp, page, err));
    size_t fixed = rings * page[NB_GROUP_LOCAL], least = cp->max_pages[NB_GROUP_GLOBAL] * page[NB_GROUP_GLOBAL];
    if (bytes < fixed || bytes - fixed < least)
        return nb_fail(
            err, NB_ERR_LIMIT,
            "a cache of %zu bytes does not hold one context of %zu positions, which takes %zu; use a smaller "
            "context or fewer replies at once",
            bytes, cp->max_positions, fixed + least);
    size_t rest = bytes - fixed;
    if (page[NB_GROUP_GLOBAL] == 0) {
        cp->pages[NB_GROUP_LOCAL] = rings + (page[NB_GROUP_LOCAL] ? rest / page[NB_GROUP_LOCAL] : 0);
        return NB_OK;
    }
    size_t spare = page[NB_GROUP_LOCAL] ? (rest - least) / 4 / page[NB_GROUP_LOCAL] : 0;
    cp->pages[NB_GROUP_LOCAL] = rings + spare;
    cp->pages[NB_GROUP_GLOBAL] = (rest - spare * page[NB_GROUP_LOCAL]) / page[NB_GROUP_GLOBAL];
    return NB_OK;
}

static nb_status plan(const nb_model *m, const nb_scheduler_params *p, nb_context_params *cp, nb_error *err)
{
    size_t replies = nb_min_size(p->replies ? p->replies : REPLIES, MOST_REPLIES);
    nb_session_params session = {.context = p->context ? p->context : m->def->h.context,
                                 .batch = nb_max_size(p->step_tokens ? p->step_tokens : STEP_TOKENS, replies),
                                 .kv_type = p->kv_type,
                                 .allow_long = p->allow_long};
    NB_TRY(nb_session_plan(m, &session, cp, err));
    cp->max_tokens = nb_max_size(cp->max_tokens, replies);
    cp->max_outputs = cp->max_spans = replies;
    if (!p->cache_bytes) {
        take_contexts(cp, replies);
        return NB_OK;
    }
    nb_status status = take_bytes(m, cp, replies, p->cache_bytes, err);
    for (size_t context = cp->max_positions / 2; status == NB_ERR_LIMIT && !p->context && context >= 512;
         context /= 2) {
        session.context = context;
        size_t tokens = cp->max_tokens;
        NB_TRY(nb_session_plan(m, &session, cp, err));
        cp->max_tokens = nb_max_size(nb_min_size(tokens, context), replies);
        cp->max_outputs = cp->max_spans = replies;
        status = take_bytes(m, cp, replies, p->cache_bytes, err);
    }
    return status;
}

nb_status nb_scheduler_memory(const nb_model *model, const nb_scheduler_params *params, nb_memory *memory,
                              nb_error *err)
{
    nb_context_params cp;
    NB_TRY(plan(model, params, &cp, err));
    return nb_session_memory(model, &cp, memory, err);
}

/* ---- making one ---- */

static nb_status fill(nb_scheduler *s, const nb_scheduler_params *params, nb_error *err)
{
    NB_TRY(plan(s->model, params, &s->cp, err));
    NB_TRY(s->model->backend->context_new(s->model->weights, &s->cp, &s->context, err));
    s->model->backend->watch(s->context, params->given_up, params->given_up_user);
    NB_TRY(nb_page_pool_new(s->cp.pages, &s->pages, err));
    size_t seen = s->model->def->h.window > 0 ? (size_t)s->model->def->h.window - 1 : 0;
    s->reuse = !params->no_reuse;
    s->window_blocks = s->cp.max_pages[NB_GROUP_LOCAL] ? (seen + NB_PAGE - 1) / NB_PAGE : 0;
    s->tokens = calloc(s->cp.max_tokens, sizeof *s->tokens);
    s->spans = calloc(s->cp.max_spans, sizeof *s->spans);
    s->outputs = calloc(s->cp.max_outputs, sizeof *s->outputs);
    s->rows = calloc(s->cp.max_outputs, sizeof *s->rows);
    s->top = calloc(TOP, sizeof *s->top);
    if (!s->tokens || !s->spans || !s->outputs || !s->rows || !s->top)
        return nb_fail_memory(err, "a scheduler", s->cp.max_tokens * sizeof *s->tokens);
    return NB_OK;
}

nb_status nb_scheduler_new(nb_model *model, const nb_scheduler_params *params, nb_scheduler **out, nb_error *err)
{
    *out = NULL;
    if (!model->weights)
        return nb_fail(err, NB_ERR_ARGUMENT, "the model was opened for a look only");
    nb_scheduler *s = calloc(1, sizeof *s);
    if (!s)
        return nb_fail_memory(err, "a scheduler", sizeof *s);
    s->model = model;
    nb_status status = fill(s, params, err);
    if (status != NB_OK) {
        nb_scheduler_free(s);
        return status;
    }
    *out = s;
    return NB_OK;
}

void nb_scheduler_free(nb_scheduler *s)
{
    if (!s)
        return;
    while (s->running.first)
        nb_scheduler_cancel(s, s->running.first);
    while (s->waiting.first)
        nb_scheduler_cancel(s, s->waiting.first);
    if (s->context)
        s->model->backend->context_free(s->context);
    nb_page_pool_delete(s->pages);
    free(s->tokens);
    free(s->spans);
    free(s->outputs);
    free(s->rows);
    free(s->top);
    free(s);
}

size_t nb_scheduler_context(const nb_scheduler *s) { return s->cp.max_positions; }

nb_scheduler_load nb_scheduler_look(const nb_scheduler *s)
{
    int g = s->cp.pages[NB_GROUP_GLOBAL] ? NB_GROUP_GLOBAL : NB_GROUP_LOCAL;
    nb_scheduler_load load = s->load;
    load.running = s->running.count;
    load.waiting = s->waiting.count;
    load.pages = nb_page_count(s->pages, g);
    load.pages_kept = nb_page_kept(s->pages, g);
    load.pages_used = load.pages - nb_page_unused(s->pages, g) - load.pages_kept;
    return load;
}

/* ---- tasks ---- */

static void free_task(nb_reply_task *t)
{
    nb_task_free_text(t);
    nb_arena_free(&t->arena);
    free(t);
}

static nb_status check_prompt(const nb_scheduler *s, const nb_task_params *p, nb_error *err)
{
    size_t vocabulary = s->model->def->h.vocab;
    if (p->prompt_count == 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "the prompt has no tokens");
    if (p->prompt_count >= s->cp.max_positions && !p->shift)
        return nb_fail(err, NB_ERR_LIMIT,
                       "the prompt has %zu tokens; the context holds %zu, and a reply needs some of them",
                       p->prompt_count, s->cp.max_positions);
    if (p->prompt_count > s->cp.max_positions)
        return nb_fail(err, NB_ERR_LIMIT, "the prompt has %zu tokens; the context holds %zu", p->prompt_count,
                       s->cp.max_positions);
    for (size_t i = 0; i < p->prompt_count; i++)
        if (p->prompt[i] < 0 || (size_t)p->prompt[i] >= vocabulary)
            return nb_fail(err, NB_ERR_ARGUMENT, "token %zu of the prompt is %d; ids are 0 to %zu", i, p->prompt[i],
                           vocabulary - 1);
    return NB_OK;
}

static nb_status fill_task(nb_scheduler *s, nb_reply_task *t, nb_error *err)
{
    size_t context = s->cp.max_positions + 1; /* the last token is chosen, not computed */
    t->ids = NB_ARRAY(&t->arena, int32_t, context);
    for (int g = 0; g < NB_GROUPS; g++) {
        t->pages[g] = NB_ARRAY(&t->arena, uint32_t, s->cp.max_pages[g] + 1);
        if (t->pages[g])
            memset(t->pages[g], 0xff, (s->cp.max_pages[g] + 1) * sizeof *t->pages[g]);
    }
    if (!t->ids || !t->pages[0] || !t->pages[1])
        return nb_fail_memory(err, "a reply", context * sizeof *t->ids);
    memcpy(t->ids, t->p.prompt, t->p.prompt_count * sizeof *t->ids);
    t->count = t->prompt = t->stats.prompt_tokens = t->p.prompt_count;
    t->node = t->tail = NB_NODE_NONE;
    return nb_task_prepare_text(s, t, err);
}

nb_status nb_scheduler_add(nb_scheduler *s, const nb_task_params *params, nb_reply_task **task, nb_error *err)
{
    *task = NULL;
    NB_TRY(check_prompt(s, params, err));
    nb_reply_task *t = calloc(1, sizeof *t);
    if (!t)
        return nb_fail_memory(err, "a reply", sizeof *t);
    t->p = *params;
    nb_status status = fill_task(s, t, err);
    if (status != NB_OK) {
        free_task(t);
        return status;
    }
    t->p.prompt = NULL;
    t->p.stops = t->p.markers = NULL;
    t->added = nb_seconds();
    nb_task_append(&s->waiting, t);
    *task = t;
    return NB_OK;
}

void nb_task_finish(nb_scheduler *s, nb_reply_task *t, nb_task_end end, const nb_error *error)
{
    double now = nb_seconds();
    nb_task_unlink(t->running ? &s->running : &s->waiting, t);
    nb_task_publish_tail(s, t);
    nb_task_drop_pages(s, t);
    t->stats.end = end;
    t->stats.seed = t->sampler ? nb_sampler_seed(t->sampler) : 0;
    t->stats.queued_seconds = (t->counted ? t->began : now) - t->added;
    if (t->counted)
        t->stats.prompt_seconds = (t->stats.tokens ? t->first : now) - t->began;
    if (t->stats.tokens)
        t->stats.seconds = now - t->first;
    if (error)
        t->stats.error = *error;
    nb_grammar_state_free(t->grammar); /* from here on others may free what it is a state of */
    t->grammar = NULL;
    if (t->p.on_end)
        t->p.on_end(t->p.user, nb_buf_view(&t->certain), &t->stats);
    free_task(t);
}

void nb_scheduler_cancel(nb_scheduler *s, nb_reply_task *t)
{
    nb_buf_clear(&t->certain);
    nb_task_finish(s, t, NB_TASK_CANCELLED, NULL);
}

/* ---- a step ---- */

/* the oldest one in line of the user who has the fewest replies running */
static nb_reply_task *next_in_line(const nb_scheduler *s)
{
    nb_reply_task *best = NULL;
    size_t fewest = SIZE_MAX;
    for (nb_reply_task *t = s->waiting.first; t; t = t->next) {
        size_t mine = 0;
        for (const nb_reply_task *r = s->running.first; r; r = r->next)
            mine += r->p.user_key == t->p.user_key;
        if (t->again) /* was running already */
            return t;
        if (mine < fewest) {
            fewest = mine;
            best = t;
        }
    }
    return best;
}

/* whether its whole text and a block more fit in pages that nobody else needs */
static bool has_room(const nb_scheduler *s, const nb_reply_task *t)
{
    size_t need = nb_min_size(t->count / NB_PAGE + 2, s->cp.max_pages[NB_GROUP_GLOBAL]);
    return s->running.count == 0 ||
           nb_page_unused(s->pages, NB_GROUP_GLOBAL) + nb_page_kept(s->pages, NB_GROUP_GLOBAL) >= need;
}

static void admit(nb_scheduler *s)
{
    while (s->running.count < s->cp.max_spans) {
        nb_reply_task *t = next_in_line(s);
        if (!t || !has_room(s, t))
            return;
        nb_task_unlink(&s->waiting, t);
        nb_task_append(&s->running, t);
        t->running = true;
        if (!t->counted)
            t->began = nb_seconds();
        t->counted = true;
        nb_task_reuse(s, t);
    }
}

static void fail_all(nb_scheduler *s, const nb_error *error)
{
    while (s->running.first) {
        nb_buf_clear(&s->running.first->certain);
        nb_task_finish(s, s->running.first, NB_TASK_FAILED, error);
    }
}

nb_status nb_scheduler_step(nb_scheduler *s, bool *worked, nb_error *err)
{
    nb_error error;
    admit(s);
    *worked = nb_scheduler_form(s);
    if (!*worked)
        return NB_OK;
    pthread_mutex_lock(&s->model->lock);
    nb_status status = s->model->backend->run(s->context, &s->batch, &error);
    pthread_mutex_unlock(&s->model->lock);
    if (status == NB_ERR_CANCELLED)
        return NB_OK;
    if (status != NB_OK) {
        fail_all(s, &error);
        if (err)
            *err = error;
        return status;
    }
    s->load.steps++;
    for (nb_reply_task *t = s->running.first; t; t = t->next) {
        if (t->position < t->prompt && !t->again)
            s->load.prompt_tokens += nb_min_size(t->chunk, t->prompt - t->position);
        t->position += t->chunk;
        nb_task_publish(s, t);
    }
    for (size_t i = 0; i < s->batch.n_outputs; i++)
        nb_task_take_row(s, s->rows[i], s->model->backend->logits(s->context, i));
    return NB_OK;
}
