#include "text/merge.h"

enum { SHORT = 24 }; /* symbols up to which scanning for the least priority beats the queue */

bool nb_merger_reserve(nb_merger *m, size_t symbols)
{
    if (!nb_grown_reserve(&m->memory, symbols, sizeof *m->symbols))
        return false;
    m->symbols = m->memory.p;
    return true;
}

void nb_merger_free(nb_merger *m)
{
    nb_grown_free(&m->memory);
    nb_grown_free(&m->nodes);
    nb_merge_queue_free(&m->queue);
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

/* ---- long words: a linked list of symbols, a queue of (priority, left symbol). What two symbols join to is asked again
 * when their turn comes: keeping it would cost more in memory traffic than it saves. ---- */
typedef struct nb_merge_node {
    int32_t prev, next; /* -1: none */
} node;

static node *node_at(const nb_merger *m, int32_t i) { return (node *)m->nodes.p + i; }

static bool push_pair(nb_merger *m, int32_t left, nb_pair_fn *pair, const void *context)
{
    int32_t right = left < 0 ? -1 : node_at(m, left)->next, id;
    uint32_t priority;
    return right < 0 || !pair(context, &m->symbols[left], &m->symbols[right], &priority, &id) ||
           nb_merge_queue_push(&m->queue, priority, (uint32_t)left);
}

static bool start_long(nb_merger *m, nb_pair_fn *pair, const void *context)
{
    size_t n = m->count;
    if (!nb_grown_reserve(&m->nodes, n, sizeof(node)))
        return false;
    nb_merge_queue_start(&m->queue, n);
    for (size_t i = 0; i < n; i++)
        *node_at(m, (int32_t)i) = (node){.prev = (int32_t)i - 1, .next = i + 1 < n ? (int32_t)i + 1 : -1};
    for (size_t i = 0; i < n; i++)
        if (!push_pair(m, (int32_t)i, pair, context))
            return false;
    return true;
}

static bool merge_long(nb_merger *m, nb_pair_fn *pair, const void *context)
{
    uint32_t priority, at, now;
    int got = -1;
    if (!start_long(m, pair, context))
        return false;
    while ((got = nb_merge_queue_pop(&m->queue, &priority, &at)) > 0) {
        int32_t left = (int32_t)at, right = node_at(m, left)->next, id;
        nb_symbol *a = &m->symbols[left];
        if (a->bytes == 0 || right < 0 || !pair(context, a, &m->symbols[right], &now, &id) || now != priority)
            continue; /* one of the two was joined since; the new pair has its own entry */
        a->id = id;
        a->bytes += m->symbols[right].bytes;
        m->symbols[right].bytes = 0;
        int32_t next = node_at(m, right)->next;
        node_at(m, left)->next = next;
        if (next >= 0)
            node_at(m, next)->prev = left;
        if (!push_pair(m, node_at(m, left)->prev, pair, context) || !push_pair(m, left, pair, context))
            return false;
    }
    size_t kept = 0;
    for (int32_t i = 0; i >= 0; i = node_at(m, i)->next)
        m->symbols[kept++] = m->symbols[i];
    m->count = kept;
    return got == 0;
}

bool nb_merger_run(nb_merger *m, nb_pair_fn *pair, const void *context)
{
    if (m->count <= SHORT) {
        merge_short(m, pair, context);
        return true;
    }
    return merge_long(m, pair, context);
}
