#include "text/merge.h"

#include <stdlib.h>

enum { SHORT = 24 }; /* symbols up to which scanning for the least priority beats the heap */

bool nb_merger_reserve(nb_merger *m, size_t symbols)
{
    if (symbols <= m->cap)
        return true;
    size_t cap = m->cap ? m->cap : 64;
    while (cap < symbols)
        cap *= 2;
    nb_symbol *grown = realloc(m->symbols, cap * sizeof *grown);
    if (!grown)
        return false;
    m->symbols = grown;
    m->cap = cap;
    return true;
}

void nb_merger_free(nb_merger *m)
{
    free(m->symbols);
    free(m->nodes);
    free(m->heap);
    *m = (nb_merger){0};
}

/* ---- short words ---- */
static void merge_short(nb_merger *m, nb_pair_fn *pair, const void *context)
{
    uint32_t priority[SHORT];
    int32_t joined[SHORT]; /* of symbol i and the next one; -1: they do not join */
    nb_symbol *s = m->symbols;
    size_t n = m->count;
    for (size_t i = 0; i + 1 < n; i++)
        if (!pair(context, &s[i], &s[i + 1], &priority[i], &joined[i]))
            joined[i] = -1;
    while (n > 1) {
        size_t best = n;
        for (size_t i = 0; i + 1 < n; i++)
            if (joined[i] >= 0 && (best == n || priority[i] < priority[best]))
                best = i;
        if (best == n)
            break;
        s[best].id = joined[best];
        s[best].bytes += s[best + 1].bytes;
        n--;
        for (size_t i = best + 1; i < n; i++) {
            s[i] = s[i + 1];
            priority[i] = i + 1 < n ? priority[i + 1] : 0;
            joined[i] = i + 1 < n ? joined[i + 1] : -1;
        }
        if (best > 0 && !pair(context, &s[best - 1], &s[best], &priority[best - 1], &joined[best - 1]))
            joined[best - 1] = -1;
        if (best + 1 >= n || !pair(context, &s[best], &s[best + 1], &priority[best], &joined[best]))
            joined[best] = -1;
    }
    m->count = n;
}

/* ---- long words: a linked list of symbols, a heap of (priority, left symbol) ---- */
typedef struct nb_merge_node {
    int32_t prev, next; /* -1: none */
    uint32_t priority;
    int32_t joined; /* id of this symbol and the next one together; -1: they do not join */
} node;

static bool heap_push(nb_merger *m, uint64_t key)
{
    if (m->heap_count == m->heap_cap) {
        size_t cap = m->heap_cap ? m->heap_cap * 2 : 256;
        uint64_t *grown = realloc(m->heap, cap * sizeof *grown);
        if (!grown)
            return false;
        m->heap = grown;
        m->heap_cap = cap;
    }
    size_t i = m->heap_count++;
    for (; i > 0 && m->heap[(i - 1) / 4] > key; i = (i - 1) / 4)
        m->heap[i] = m->heap[(i - 1) / 4];
    m->heap[i] = key;
    return true;
}

static uint64_t heap_pop(nb_merger *m)
{
    uint64_t *h = m->heap, top = h[0], last = h[--m->heap_count];
    size_t n = m->heap_count, i = 0;
    for (;;) {
        size_t child = 4 * i + 1, least = child;
        if (child >= n)
            break;
        for (size_t k = child + 1; k < child + 4 && k < n; k++)
            if (h[k] < h[least])
                least = k;
        if (h[least] >= last)
            break;
        h[i] = h[least];
        i = least;
    }
    h[i] = last;
    return top;
}

/* looks at symbol i and its right neighbour again */
static bool renew(nb_merger *m, int32_t i, nb_pair_fn *pair, const void *context)
{
    node *a = &m->nodes[i];
    if (a->next < 0 || !pair(context, &m->symbols[i], &m->symbols[a->next], &a->priority, &a->joined)) {
        a->joined = -1;
        return true;
    }
    return heap_push(m, (uint64_t)a->priority << 32 | (uint32_t)i);
}

static bool merge_long(nb_merger *m, nb_pair_fn *pair, const void *context)
{
    size_t n = m->count;
    if (n > m->node_cap) {
        node *grown = realloc(m->nodes, n * sizeof *grown);
        if (!grown)
            return false;
        m->nodes = grown;
        m->node_cap = n;
    }
    m->heap_count = 0;
    for (size_t i = 0; i < n; i++)
        m->nodes[i] = (node){.prev = (int32_t)i - 1, .next = i + 1 < n ? (int32_t)i + 1 : -1, .joined = -1};
    for (size_t i = 0; i < n; i++)
        if (!renew(m, (int32_t)i, pair, context))
            return false;
    while (m->heap_count > 0) {
        uint64_t key = heap_pop(m);
        int32_t left = (int32_t)(uint32_t)key;
        node *a = &m->nodes[left];
        if (a->joined < 0 || a->priority != key >> 32)
            continue; /* its pair has changed since; the new one has its own entry */
        node *b = &m->nodes[a->next];
        m->symbols[left].id = a->joined;
        m->symbols[left].bytes += m->symbols[a->next].bytes;
        m->symbols[a->next].bytes = 0;
        b->joined = -1;
        a->next = b->next;
        if (b->next >= 0)
            m->nodes[b->next].prev = left;
        if ((a->prev >= 0 && !renew(m, a->prev, pair, context)) || !renew(m, left, pair, context))
            return false;
    }
    size_t kept = 0;
    for (int32_t i = 0; i >= 0; i = m->nodes[i].next)
        m->symbols[kept++] = m->symbols[i];
    m->count = kept;
    return true;
}

bool nb_merger_run(nb_merger *m, nb_pair_fn *pair, const void *context)
{
    if (m->count <= SHORT) {
        merge_short(m, pair, context);
        return true;
    }
    return merge_long(m, pair, context);
}
