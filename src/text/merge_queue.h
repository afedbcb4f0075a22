/* merge_queue.h - a priority queue of (priority, position), least first. Long inputs have many entries of few priorities:
 * these wait in a list for each priority, which is taken whole and in the order of positions when its turn comes, so the
 * time stays linear where a heap of millions leaves the caches. What is due before the rest of that list goes to a heap. */
#ifndef NB_TEXT_MERGE_QUEUE_H
#define NB_TEXT_MERGE_QUEUE_H

#include "base/grown.h"

typedef struct nb_merge_queue { /* {0} is a valid empty one */
    nb_grown heap;              /* uint64_t: priority << 32 | position, of priorities up to `current` */
    size_t heap_count;
    uint64_t current; /* the list being taken; UINT32_MAX: everything goes to the heap */
    nb_grown batch;   /* uint32_t: its positions, sorted */
    size_t batch_at, batch_count;
    struct nb_merge_list *lists; /* hash by priority */
    size_t list_count, list_mask;
    nb_grown chunks; /* of the lists */
    size_t chunk_count;
    uint32_t free_chunk;
    nb_grown waiting; /* uint32_t: heap of the priorities whose lists are not empty */
    size_t waiting_count;
} nb_merge_queue;

void nb_merge_queue_start(nb_merge_queue *q, size_t expected);                     /* empties it */
bool nb_merge_queue_push(nb_merge_queue *q, uint32_t priority, uint32_t position); /* false: memory is out */
/* 1 and the least entry, 0 when there is none, -1 when memory is out. */
int nb_merge_queue_pop(nb_merge_queue *q, uint32_t *priority, uint32_t *position);
void nb_merge_queue_free(nb_merge_queue *q);

#endif
