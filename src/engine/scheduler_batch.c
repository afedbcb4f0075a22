/* The batch of a step: who gets how many tokens, their pages, and what is shared. */
#include "engine/scheduler_internal.h"

/* ---- rotary scalings that follow the length ---- */

static const nb_rope *rope_of(const nb_scheduler *s, int group)
{
    const nb_hparams *h = &s->model->def->h;
    return group == NB_GROUP_LOCAL ? &h->rope_local : &h->rope;
}

/* Keys stay as they were when the text grows: then it is computed in the same portions whenever it is computed again. */
static bool grows(const nb_scheduler *s)
{
    return rope_of(s, NB_GROUP_GLOBAL)->scaling == NB_ROPE_DYNAMIC ||
           rope_of(s, NB_GROUP_LOCAL)->scaling == NB_ROPE_DYNAMIC;
}

/* The length that the next tokens of a task are turned for. */
static size_t length_of(const nb_scheduler *s, const nb_reply_task *t)
{
    if (!grows(s))
        return t->count;
    return t->position < t->prompt ? t->prompt : t->position + 1;
}

static size_t most_now(const nb_scheduler *s, const nb_reply_task *t)
{
    if (!grows(s))
        return t->count - t->position;
    return t->position < t->prompt ? t->prompt - t->position : 1;
}

/* What is computed under other frequencies than the text now has is computed again. */
static void follow_length(nb_scheduler *s, nb_reply_task *t)
{
    size_t kind[NB_GROUPS];
    for (int g = 0; g < NB_GROUPS; g++)
        kind[g] = nb_rope_kind(rope_of(s, g), length_of(s, t));
    if (memcmp(kind, t->kind, sizeof kind) == 0)
        return;
    memcpy(t->kind, kind, sizeof kind);
    if (t->position > 0 && !grows(s)) {
        nb_task_drop_pages(s, t);
        nb_task_reuse(s, t);
    }
}

/* ---- pages ---- */

static bool take_block(nb_scheduler *s, nb_reply_task *t)
{
    uint32_t page[NB_GROUPS] = {NB_PAGE_NONE, NB_PAGE_NONE};
    for (int g = 0; g < NB_GROUPS; g++) {
        if (s->cp.max_pages[g] == 0)
            continue;
        uint32_t *slot = &t->pages[g][t->blocks % s->cp.max_pages[g]];
        nb_page_leave(s->pages, g, *slot); /* of a window layer: nobody looks back so far */
        *slot = NB_PAGE_NONE;
        page[g] = nb_page_take(s->pages, g);
        if (page[g] == NB_PAGE_NONE) {
            if (g > 0)
                nb_page_leave(s->pages, 0, page[0]);
            return false;
        }
    }
    for (int g = 0; g < NB_GROUPS; g++)
        if (s->cp.max_pages[g])
            t->pages[g][t->blocks % s->cp.max_pages[g]] = page[g];
    t->blocks++;
    return true;
}

static bool take_blocks(nb_scheduler *s, nb_reply_task *t)
{
    while (t->blocks * NB_PAGE < t->position + t->chunk)
        if (!take_block(s, t))
            return false;
    return true;
}

void nb_task_drop_pages(nb_scheduler *s, nb_reply_task *t)
{
    for (int g = 0; g < NB_GROUPS; g++)
        for (size_t i = 0; t->pages[g] && i < s->cp.max_pages[g]; i++) {
            nb_page_leave(s->pages, g, t->pages[g][i]);
            t->pages[g][i] = NB_PAGE_NONE;
        }
    nb_prefix_leave(s->pages, t->node);
    nb_prefix_leave(s->pages, t->tail);
    t->node = t->tail = NB_NODE_NONE;
    t->position = t->blocks = t->known = 0;
}

/* Back into line, at its front: its text so far is its prompt then. */
static void put_back(nb_scheduler *s, nb_reply_task *t)
{
    nb_task_unlink(&s->running, t);
    nb_task_drop_pages(s, t);
    t->running = false;
    t->again = true;
    nb_task_prepend(&s->waiting, t);
}

/* ---- sharing ---- */

static bool shares(const nb_scheduler *s) { return s->reuse && !grows(s); }

static uint64_t kind_of(const nb_reply_task *t)
{
    return (uint64_t)t->kind[NB_GROUP_GLOBAL] | (uint64_t)t->kind[NB_GROUP_LOCAL] << 32;
}

/* Blocks of its text that are known, window pages at their end included; not all of it: the last token is computed. */
static size_t known_blocks(const nb_scheduler *s, const nb_reply_task *t)
{
    uint32_t node = NB_NODE_NONE;
    size_t best = 0, with_window = 0;
    for (size_t b = 0; (b + 1) * NB_PAGE < t->count; b++) {
        node = nb_prefix_find(s->pages, kind_of(t), node, t->ids + b * NB_PAGE);
        if (node == NB_NODE_NONE)
            break;
        with_window = nb_prefix_page(s->pages, node, NB_GROUP_LOCAL) != NB_PAGE_NONE ? with_window + 1 : 0;
        if (with_window >= nb_min_size(b + 1, s->window_blocks))
            best = b + 1;
    }
    return best;
}

static void share_blocks(nb_scheduler *s, nb_reply_task *t, size_t blocks)
{
    for (size_t b = 0; b < blocks; b++) {
        uint32_t node = nb_prefix_find(s->pages, kind_of(t), t->node, t->ids + b * NB_PAGE);
        for (int g = 0; g < NB_GROUPS; g++) {
            if (s->cp.max_pages[g] == 0 || (g == NB_GROUP_LOCAL && b + s->window_blocks < blocks))
                continue;
            uint32_t page = nb_prefix_page(s->pages, node, g);
            nb_page_hold(s->pages, g, page);
            t->pages[g][b % s->cp.max_pages[g]] = page;
        }
        nb_prefix_hold(s->pages, node);
        nb_prefix_leave(s->pages, t->node);
        t->node = node;
    }
    t->blocks = t->known = blocks;
    t->position = blocks * NB_PAGE;
}

/* Where the text goes on as the beginning of a known block does, that is copied. */
static void copy_tail(nb_scheduler *s, nb_reply_task *t)
{
    uint32_t from[NB_GROUPS];
    size_t common, block = t->blocks, most = nb_min_size(t->count - 1 - t->position, NB_PAGE);
    uint32_t node = nb_prefix_near(s->pages, kind_of(t), t->node, t->ids + t->position, most,
                                   s->cp.max_pages[NB_GROUP_LOCAL] > 0, &common);
    if (node == NB_NODE_NONE)
        return;
    for (int g = 0; g < NB_GROUPS; g++) { /* taking pages must not take these */
        from[g] = nb_prefix_page(s->pages, node, g);
        if (s->cp.max_pages[g])
            nb_page_hold(s->pages, g, from[g]);
    }
    bool taken = take_block(s, t);
    for (int g = 0; g < NB_GROUPS; g++) {
        if (s->cp.max_pages[g] == 0)
            continue;
        if (taken)
            s->model->backend->copy_page(s->context, g, from[g], t->pages[g][block % s->cp.max_pages[g]]);
        nb_page_leave(s->pages, g, from[g]);
    }
    t->position += taken ? common : 0;
}

void nb_task_reuse(nb_scheduler *s, nb_reply_task *t)
{
    for (int g = 0; g < NB_GROUPS; g++)
        t->kind[g] = nb_rope_kind(rope_of(s, g), length_of(s, t));
    if (!shares(s))
        return;
    share_blocks(s, t, known_blocks(s, t));
    copy_tail(s, t);
    if (!t->again) {
        t->stats.reused_tokens = t->position;
        s->load.reused_tokens += t->position;
    }
}

/* The tokens of its next block that are computed, `count` of them. */
static uint32_t publish_block(nb_scheduler *s, nb_reply_task *t, size_t count)
{
    uint32_t page[NB_GROUPS] = {NB_PAGE_NONE, NB_PAGE_NONE};
    if (t->tail != NB_NODE_NONE)
        nb_prefix_drop(s->pages, t->tail); /* it was the beginning of this */
    t->tail = NB_NODE_NONE;
    if (s->cp.max_pages[NB_GROUP_LOCAL] && t->known + s->cp.max_pages[NB_GROUP_LOCAL] < t->blocks)
        return NB_NODE_NONE; /* there was no node in time: its window page has another block by now */
    for (int g = 0; g < NB_GROUPS; g++)
        if (s->cp.max_pages[g])
            page[g] = t->pages[g][t->known % s->cp.max_pages[g]];
    return nb_prefix_add(s->pages, kind_of(t), t->node, t->ids + t->known * NB_PAGE, count, page);
}

static void publish_blocks(nb_scheduler *s, nb_reply_task *t)
{
    while (shares(s) && (t->known + 1) * NB_PAGE <= t->position) {
        uint32_t node = publish_block(s, t, NB_PAGE);
        if (node == NB_NODE_NONE)
            return;
        nb_prefix_leave(s->pages, t->node);
        t->node = node;
        t->known++;
    }
}

void nb_task_publish_tail(nb_scheduler *s, nb_reply_task *t)
{
    publish_blocks(s, t);
    if (shares(s) && t->known * NB_PAGE < t->position && t->position < (t->known + 1) * NB_PAGE)
        t->tail = publish_block(s, t, t->position - t->known * NB_PAGE);
}

void nb_task_publish(nb_scheduler *s, nb_reply_task *t)
{
    if (t->chunk && t->position == t->prompt)
        nb_task_publish_tail(s, t);
    else
        publish_blocks(s, t);
}

/* ---- who gets what ---- */

/* One token for each reply that goes on; returns how many. */
static size_t give_replies(nb_scheduler *s)
{
    size_t given = 0;
    for (nb_reply_task *t = s->running.first; t; t = t->next) {
        follow_length(s, t);
        t->chunk = t->count - t->position == 1;
        given += t->chunk;
    }
    return given;
}

static nb_reply_task *shortest_prompt(const nb_scheduler *s)
{
    nb_reply_task *best = NULL;
    for (nb_reply_task *t = s->running.first; t; t = t->next)
        if (t->chunk == 0 && (!best || most_now(s, t) < most_now(s, best)))
            best = t;
    return best;
}

/* little to compute: most of it was known, or it is a line */
static bool is_short(const nb_reply_task *t) { return t->prompt - t->stats.reused_tokens <= NB_PAGE && !t->again; }

/* Prompts: the oldest one always gets a quarter, so that it comes to its end; then the shortest first, so that a long one
 * delays nobody. A step that has short ones stays short, too: they would wait for all that is computed beside them. */
static void give_prompts(nb_scheduler *s, size_t left)
{
    nb_reply_task *oldest = s->running.first;
    while (oldest && oldest->chunk)
        oldest = oldest->next;
    if (!oldest)
        return;
    if (is_short(shortest_prompt(s)))
        left = nb_min_size(left, NB_PAGE);
    size_t quarter = nb_min_size(most_now(s, oldest), nb_max_size(left / 4, nb_min_size(left, 1)));
    left -= quarter;
    for (nb_reply_task *t; left > 0 && (t = shortest_prompt(s));) {
        size_t most = most_now(s, t) - (t == oldest ? quarter : 0);
        t->chunk = nb_min_size(most, left) + (t == oldest ? quarter : 0);
        left -= nb_min_size(most, left);
        quarter = t == oldest ? 0 : quarter;
        if (t->chunk == 0) /* the oldest had all it needs */
            break;
    }
    if (oldest->chunk == 0)
        oldest->chunk = quarter;
}

static void put_span(nb_scheduler *s, nb_reply_task *t)
{
    nb_batch *b = &s->batch;
    nb_span *span = &s->spans[b->n_spans++];
    *span = (nb_span){
        .first = b->n_tokens, .count = t->chunk, .position = (int64_t)t->position, .length = length_of(s, t)};
    for (int g = 0; g < NB_GROUPS; g++) {
        span->pages[g] = t->pages[g];
        span->page_count[g] = s->cp.max_pages[g];
    }
    memcpy(s->tokens + b->n_tokens, t->ids + t->position, t->chunk * sizeof *s->tokens);
    b->n_tokens += t->chunk;
    if (t->position + t->chunk == t->count) {
        s->rows[b->n_outputs] = t;
        s->outputs[b->n_outputs++] = (uint32_t)(b->n_tokens - 1);
    }
}

/* Pages for all; false: some had to go back into line, and the shares are to be given anew. */
static bool take_pages(nb_scheduler *s)
{
    for (nb_reply_task *t = s->running.first; t; t = t->next)
        if (t->chunk && !take_blocks(s, t)) {
            put_back(s, s->running.last);
            return false;
        }
    return true;
}

bool nb_scheduler_form(nb_scheduler *s)
{
    do {
        size_t replies = give_replies(s);
        give_prompts(s, s->cp.max_tokens - replies);
    } while (!take_pages(s));
    s->batch = (nb_batch){.tokens = s->tokens, .spans = s->spans, .outputs = s->outputs};
    for (nb_reply_task *t = s->running.first; t; t = t->next)
        if (t->chunk)
            put_span(s, t);
    return s->batch.n_tokens > 0;
}
