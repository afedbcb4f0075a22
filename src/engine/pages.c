#include "engine/pages.h"

#include <stdlib.h>

typedef struct node {
    uint64_t kind;
    uint32_t parent, next; /* next: in its bucket, or among the unused ones */
    uint32_t page[NB_GROUPS];
    uint32_t children, holders; /* nodes behind it; sequences that go on from it */
    uint64_t used;              /* when */
    bool lives;
    uint32_t count; /* tokens; below NB_PAGE: unfinished */
    int32_t tokens[NB_PAGE];
} node;

typedef struct pool {
    uint32_t *holders; /* [count] */
    uint32_t *unused;  /* a stack */
    size_t count, unused_count;
} pool;

struct nb_page_pool {
    pool pools[NB_GROUPS];
    node *nodes;
    uint32_t *buckets;
    size_t node_count, bucket_mask;
    uint32_t unused; /* the first of the nodes that hold nothing */
    uint64_t clock;
};

static nb_status make_pool(pool *p, size_t count, nb_error *err)
{
    p->count = p->unused_count = count;
    p->holders = calloc(count + 1, sizeof *p->holders);
    p->unused = calloc(count + 1, sizeof *p->unused);
    if (!p->holders || !p->unused)
        return nb_fail_memory(err, "pages", count * sizeof *p->holders);
    for (size_t i = 0; i < count; i++) /* the first page is taken first */
        p->unused[i] = (uint32_t)(count - 1 - i);
    return NB_OK;
}

nb_status nb_page_pool_new(const size_t count[NB_GROUPS], nb_page_pool **out, nb_error *err)
{
    nb_page_pool *p = *out = calloc(1, sizeof *p);
    nb_status status = p ? NB_OK : nb_fail_memory(err, "pages", sizeof *p);
    for (int g = 0; g < NB_GROUPS && status == NB_OK; g++)
        status = make_pool(&p->pools[g], count[g], err);
    if (status == NB_OK) {
        p->node_count = nb_max_size(count[NB_GROUP_GLOBAL], count[NB_GROUP_LOCAL]);
        p->bucket_mask = 1;
        while (p->bucket_mask < 2 * p->node_count)
            p->bucket_mask *= 2;
        p->nodes = calloc(p->node_count + 1, sizeof *p->nodes);
        p->buckets = malloc(p->bucket_mask * sizeof *p->buckets);
        if (!p->nodes || !p->buckets)
            status = nb_fail_memory(err, "prefixes", p->node_count * sizeof *p->nodes);
    }
    if (status != NB_OK) {
        nb_page_pool_delete(p);
        *out = NULL;
        return status;
    }
    memset(p->buckets, 0xff, p->bucket_mask-- * sizeof *p->buckets);
    for (size_t i = 0; i < p->node_count; i++)
        p->nodes[i].next = i + 1 < p->node_count ? (uint32_t)(i + 1) : NB_NODE_NONE;
    p->unused = p->node_count ? 0 : NB_NODE_NONE;
    return NB_OK;
}

void nb_page_pool_delete(nb_page_pool *p)
{
    if (!p)
        return;
    for (int g = 0; g < NB_GROUPS; g++) {
        free(p->pools[g].holders);
        free(p->pools[g].unused);
    }
    free(p->nodes);
    free(p->buckets);
    free(p);
}

/* ---- pages ---- */

void nb_page_hold(nb_page_pool *p, int group, uint32_t page) { p->pools[group].holders[page]++; }

void nb_page_leave(nb_page_pool *p, int group, uint32_t page)
{
    pool *q = &p->pools[group];
    if (page != NB_PAGE_NONE && --q->holders[page] == 0)
        q->unused[q->unused_count++] = page;
}

/* held by the tree alone */
static bool is_kept(const nb_page_pool *p, const node *n, int group)
{
    return n->lives && n->page[group] != NB_PAGE_NONE && p->pools[group].holders[n->page[group]] == 1;
}

/* All behind one parent are in one bucket. */
static uint32_t *bucket_of(const nb_page_pool *p, uint64_t kind, uint32_t parent)
{
    uint64_t h = (kind ^ parent) * 0x9e3779b97f4a7c15u;
    return &p->buckets[(h ^ h >> 29) & p->bucket_mask];
}

static void forget(nb_page_pool *p, uint32_t at)
{
    node *n = &p->nodes[at];
    uint32_t *link = bucket_of(p, n->kind, n->parent);
    while (*link != at)
        link = &p->nodes[*link].next;
    *link = n->next;
    if (n->parent != NB_NODE_NONE)
        p->nodes[n->parent].children--;
    for (int g = 0; g < NB_GROUPS; g++)
        if (n->page[g] != NB_PAGE_NONE)
            nb_page_leave(p, g, n->page[g]);
    n->lives = false;
    n->next = p->unused;
    p->unused = at;
}

/* The oldest node that nothing needs: a leaf, for whole nodes; any, for a window page. */
static uint32_t oldest(const nb_page_pool *p, int group, bool whole)
{
    uint32_t best = NB_NODE_NONE;
    for (uint32_t i = 0; i < p->node_count; i++) {
        const node *n = &p->nodes[i];
        if (!n->lives || (whole && (n->children || n->holders)) || (group >= 0 && !is_kept(p, n, group)))
            continue;
        if (best == NB_NODE_NONE || n->used < p->nodes[best].used)
            best = i;
    }
    return best;
}

uint32_t nb_page_take(nb_page_pool *p, int group)
{
    pool *q = &p->pools[group];
    if (q->unused_count == 0) {
        uint32_t at = oldest(p, group, group == NB_GROUP_GLOBAL);
        if (at == NB_NODE_NONE)
            return NB_PAGE_NONE;
        if (group == NB_GROUP_GLOBAL) {
            forget(p, at);
        } else {
            nb_page_leave(p, group, p->nodes[at].page[group]);
            p->nodes[at].page[group] = NB_PAGE_NONE;
        }
    }
    uint32_t page = q->unused[--q->unused_count];
    q->holders[page] = 1;
    return page;
}

size_t nb_page_count(const nb_page_pool *p, int group) { return p->pools[group].count; }
size_t nb_page_unused(const nb_page_pool *p, int group) { return p->pools[group].unused_count; }

size_t nb_page_kept(const nb_page_pool *p, int group)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->node_count; i++)
        kept += is_kept(p, &p->nodes[i], group);
    return kept;
}

/* ---- prefixes ---- */

uint32_t nb_prefix_find(const nb_page_pool *p, uint64_t kind, uint32_t parent, const int32_t *tokens)
{
    uint32_t at = *bucket_of(p, kind, parent);
    while (at != NB_NODE_NONE) {
        const node *n = &p->nodes[at];
        if (n->kind == kind && n->parent == parent && n->count == NB_PAGE &&
            memcmp(n->tokens, tokens, sizeof n->tokens) == 0)
            return at;
        at = n->next;
    }
    return NB_NODE_NONE;
}

uint32_t nb_prefix_near(const nb_page_pool *p, uint64_t kind, uint32_t parent, const int32_t *tokens, size_t count,
                        bool window, size_t *common)
{
    uint32_t best = NB_NODE_NONE;
    *common = 0;
    for (uint32_t at = *bucket_of(p, kind, parent); at != NB_NODE_NONE; at = p->nodes[at].next) {
        const node *n = &p->nodes[at];
        size_t most = nb_min_size(count, n->count), same = 0;
        if (n->kind != kind || n->parent != parent || (window && n->page[NB_GROUP_LOCAL] == NB_PAGE_NONE))
            continue;
        while (same < most && n->tokens[same] == tokens[same])
            same++;
        if (same > *common) {
            best = at;
            *common = same;
        }
    }
    return best;
}

/* What is found may lack a window page that the sequence has. */
static void complete(nb_page_pool *p, node *n, const uint32_t page[NB_GROUPS])
{
    if (n->page[NB_GROUP_LOCAL] != NB_PAGE_NONE || page[NB_GROUP_LOCAL] == NB_PAGE_NONE)
        return;
    n->page[NB_GROUP_LOCAL] = page[NB_GROUP_LOCAL];
    nb_page_hold(p, NB_GROUP_LOCAL, page[NB_GROUP_LOCAL]);
}

/* A node for it, in its bucket; NB_NODE_NONE: all are needed. */
static uint32_t make(nb_page_pool *p, uint64_t kind, uint32_t parent, const int32_t *tokens, size_t count,
                     const uint32_t page[NB_GROUPS])
{
    uint32_t at = p->unused;
    if (at == NB_NODE_NONE) { /* nodes of which only window pages were left */
        at = oldest(p, -1, true);
        if (at == NB_NODE_NONE)
            return NB_NODE_NONE;
        forget(p, at);
    }
    node *n = &p->nodes[at];
    p->unused = n->next;
    uint32_t *bucket = bucket_of(p, kind, parent);
    *n = (node){.kind = kind, .parent = parent, .next = *bucket, .lives = true, .count = (uint32_t)count};
    memcpy(n->tokens, tokens, count * sizeof *tokens);
    *bucket = at;
    for (int g = 0; g < NB_GROUPS; g++) {
        n->page[g] = page[g];
        if (page[g] != NB_PAGE_NONE)
            nb_page_hold(p, g, page[g]);
    }
    if (parent != NB_NODE_NONE)
        p->nodes[parent].children++;
    return at;
}

uint32_t nb_prefix_add(nb_page_pool *p, uint64_t kind, uint32_t parent, const int32_t *tokens, size_t count,
                       const uint32_t page[NB_GROUPS])
{
    size_t common;
    bool whole = count == NB_PAGE;
    uint32_t at = whole ? nb_prefix_find(p, kind, parent, tokens)
                        : nb_prefix_near(p, kind, parent, tokens, count, page[NB_GROUP_LOCAL] != NB_PAGE_NONE, &common);
    if (!whole && at != NB_NODE_NONE && common == count) {
        p->nodes[at].used = ++p->clock;
        return NB_NODE_NONE;
    }
    if (!whole || at == NB_NODE_NONE)
        at = make(p, kind, parent, tokens, count, page);
    if (at == NB_NODE_NONE)
        return NB_NODE_NONE;
    if (whole)
        complete(p, &p->nodes[at], page);
    nb_prefix_hold(p, at);
    return at;
}

void nb_prefix_drop(nb_page_pool *p, uint32_t at) { forget(p, at); }

uint32_t nb_prefix_page(nb_page_pool *p, uint32_t at, int group)
{
    p->nodes[at].used = ++p->clock;
    return p->nodes[at].page[group];
}

void nb_prefix_hold(nb_page_pool *p, uint32_t at)
{
    p->nodes[at].holders++;
    p->nodes[at].used = ++p->clock;
}

void nb_prefix_leave(nb_page_pool *p, uint32_t at)
{
    if (at != NB_NODE_NONE)
        p->nodes[at].holders--;
}
