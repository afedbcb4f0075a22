#include "text/merge_queue.h"

#include <stdlib.h>

enum { HEAP_ONLY = 2048, CHUNK = 14 }; /* entries below which lists do not pay; positions in a cache line */

#define NONE UINT32_MAX

typedef struct nb_merge_list {
    uint32_t priority, first, last; /* chunks; first NONE: empty */
    uint32_t greatest;              /* position so far */
    bool used, sorted;
} list;

typedef struct nb_merge_chunk {
    uint32_t next, count, position[CHUNK];
} chunk;

void nb_merge_queue_free(nb_merge_queue *q)
{
    nb_grown_free(&q->heap);
    nb_grown_free(&q->batch);
    nb_grown_free(&q->chunks);
    nb_grown_free(&q->waiting);
    free(q->lists);
    *q = (nb_merge_queue){0};
}

void nb_merge_queue_start(nb_merge_queue *q, size_t expected)
{
    q->heap_count = q->batch_at = q->batch_count = q->chunk_count = q->waiting_count = q->list_count = 0;
    q->current = expected <= HEAP_ONLY ? UINT32_MAX : 0;
    q->free_chunk = NONE;
    if (expected > HEAP_ONLY && q->lists)
        memset(q->lists, 0, (q->list_mask + 1) * sizeof *q->lists);
}

/* ---- the heap of what is due now ---- */
static bool heap_push(nb_merge_queue *q, uint64_t key)
{
    if (!nb_grown_reserve(&q->heap, q->heap_count + 1, sizeof key))
        return false;
    uint64_t *h = q->heap.p;
    size_t i = q->heap_count++;
    for (; i > 0 && h[(i - 1) / 4] > key; i = (i - 1) / 4)
        h[i] = h[(i - 1) / 4];
    h[i] = key;
    return true;
}

static uint64_t heap_pop(nb_merge_queue *q)
{
    uint64_t *h = q->heap.p, top = h[0], last = h[--q->heap_count];
    size_t n = q->heap_count, i = 0;
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

/* ---- the heap of waiting priorities ---- */
static bool waiting_push(nb_merge_queue *q, uint32_t priority)
{
    if (!nb_grown_reserve(&q->waiting, q->waiting_count + 1, sizeof priority))
        return false;
    uint32_t *h = q->waiting.p;
    size_t i = q->waiting_count++;
    for (; i > 0 && h[(i - 1) / 2] > priority; i = (i - 1) / 2)
        h[i] = h[(i - 1) / 2];
    h[i] = priority;
    return true;
}

static uint32_t waiting_pop(nb_merge_queue *q)
{
    uint32_t *h = q->waiting.p, top = h[0], last = h[--q->waiting_count];
    size_t n = q->waiting_count, i = 0;
    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && h[child + 1] < h[child])
            child++;
        if (h[child] >= last)
            break;
        h[i] = h[child];
        i = child;
    }
    h[i] = last;
    return top;
}

/* ---- lists ---- */
static list *find_list(const nb_merge_queue *q, uint32_t priority) /* or the empty place for it */
{
    size_t i = (priority * 0x9E3779B97F4A7C15u >> 32) & q->list_mask;
    while (q->lists[i].used && q->lists[i].priority != priority)
        i = (i + 1) & q->list_mask;
    return &q->lists[i];
}

static bool more_lists(nb_merge_queue *q)
{
    nb_merge_queue old = *q;
    size_t cap = old.lists ? (old.list_mask + 1) * 2 : 256;
    q->lists = calloc(cap, sizeof *q->lists);
    if (!q->lists) {
        q->lists = old.lists;
        return false;
    }
    q->list_mask = cap - 1;
    for (size_t i = 0; old.lists && i <= old.list_mask; i++)
        if (old.lists[i].used)
            *find_list(q, old.lists[i].priority) = old.lists[i];
    free(old.lists);
    return true;
}

static chunk *chunk_at(const nb_merge_queue *q, uint32_t i) { return (chunk *)q->chunks.p + i; }

static uint32_t new_chunk(nb_merge_queue *q)
{
    uint32_t i = q->free_chunk;
    if (i != NONE)
        q->free_chunk = chunk_at(q, i)->next;
    else if (!nb_grown_reserve(&q->chunks, q->chunk_count + 1, sizeof(chunk)))
        return NONE;
    else
        i = (uint32_t)q->chunk_count++;
    chunk_at(q, i)->next = NONE;
    chunk_at(q, i)->count = 0;
    return i;
}

static bool list_add(nb_merge_queue *q, uint32_t priority, uint32_t position)
{
    if ((!q->lists || q->list_count * 2 > q->list_mask) && !more_lists(q))
        return false;
    list *l = find_list(q, priority);
    if (!l->used) {
        *l = (list){.priority = priority, .first = NONE, .last = NONE, .used = true};
        q->list_count++;
    }
    if (l->first == NONE) {
        l->first = l->last = new_chunk(q);
        l->sorted = true;
        l->greatest = 0;
        if (l->first == NONE || !waiting_push(q, priority))
            return false;
    } else if (chunk_at(q, l->last)->count == CHUNK) {
        uint32_t next = new_chunk(q);
        if (next == NONE)
            return false;
        chunk_at(q, l->last)->next = next;
        l->last = next;
    }
    chunk *c = chunk_at(q, l->last);
    c->position[c->count++] = position;
    l->sorted = l->sorted && position >= l->greatest;
    l->greatest = position > l->greatest ? position : l->greatest;
    return true;
}

static bool sort_batch(nb_merge_queue *q, uint32_t greatest) /* by digits of 11 bits */
{
    size_t start[2049];
    nb_grown other = {0};
    if (!nb_grown_reserve(&other, q->batch_count, sizeof(uint32_t)))
        return false;
    for (int shift = 0; shift < 32 && greatest >> shift; shift += 11) {
        const uint32_t *from = q->batch.p;
        uint32_t *to = other.p;
        memset(start, 0, sizeof start);
        for (size_t i = 0; i < q->batch_count; i++)
            start[(from[i] >> shift & 2047) + 1]++;
        for (int d = 0; d < 2048; d++)
            start[d + 1] += start[d];
        for (size_t i = 0; i < q->batch_count; i++)
            to[start[from[i] >> shift & 2047]++] = from[i];
        nb_grown swap = q->batch;
        q->batch = other;
        other = swap;
    }
    nb_grown_free(&other);
    return true;
}

/* few: by insertion, where clearing the counters of the other way would take longer */
static void sort_few(uint32_t *p, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        uint32_t x = p[i];
        size_t k = i;
        for (; k > 0 && p[k - 1] > x; k--)
            p[k] = p[k - 1];
        p[k] = x;
    }
}

/* makes the list of the least waiting priority the current one */
static bool take_list(nb_merge_queue *q)
{
    uint32_t priority = waiting_pop(q);
    list *l = find_list(q, priority);
    q->batch_at = q->batch_count = 0;
    for (uint32_t i = l->first, next; i != NONE; i = next) {
        chunk *c = chunk_at(q, i);
        if (!nb_grown_reserve(&q->batch, q->batch_count + CHUNK, sizeof *c->position))
            return false;
        memcpy((uint32_t *)q->batch.p + q->batch_count, c->position, c->count * sizeof *c->position);
        q->batch_count += c->count;
        next = c->next;
        c->next = q->free_chunk;
        q->free_chunk = i;
    }
    if (!l->sorted && q->batch_count <= 64)
        sort_few(q->batch.p, q->batch_count);
    else if (!l->sorted && !sort_batch(q, l->greatest))
        return false;
    l->first = l->last = NONE;
    q->current = priority;
    return true;
}

bool nb_merge_queue_push(nb_merge_queue *q, uint32_t priority, uint32_t position)
{
    bool due = q->current == UINT32_MAX || (q->batch_count > 0 && priority <= q->current);
    return due ? heap_push(q, (uint64_t)priority << 32 | position) : list_add(q, priority, position);
}

int nb_merge_queue_pop(nb_merge_queue *q, uint32_t *priority, uint32_t *position)
{
    if (q->heap_count == 0 && q->batch_at == q->batch_count) {
        if (q->waiting_count == 0)
            return 0;
        if (!take_list(q))
            return -1;
    }
    const uint64_t *heap = q->heap.p;
    const uint32_t *batch = q->batch.p;
    uint64_t key = q->batch_at < q->batch_count ? q->current << 32 | batch[q->batch_at] : UINT64_MAX;
    if (q->heap_count > 0 && heap[0] <= key)
        key = heap_pop(q);
    else
        q->batch_at++;
    *priority = (uint32_t)(key >> 32);
    *position = (uint32_t)key;
    return 1;
}
