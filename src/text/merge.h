/* merge.h - the loop that byte-level BPE and SentencePiece BPE share: neighbours are joined, the pair of least priority
 * first, the leftmost of equals first, until no pair can be joined. Short words by scanning, long ones with a queue. */
#ifndef NB_TEXT_MERGE_H
#define NB_TEXT_MERGE_H

#include "text/merge_queue.h"

typedef struct nb_symbol {
    int32_t id; /* -1: a character that is no token */
    uint32_t start, bytes;
} nb_symbol;

/* Whether a and its right neighbour b join, with what priority (less is earlier) and to which id. */
typedef bool nb_pair_fn(const void *context, const nb_symbol *a, const nb_symbol *b, uint32_t *priority, int32_t *id);

typedef struct nb_merger { /* {0} is a valid empty one */
    nb_symbol *symbols;    /* in `memory` */
    size_t count;
    nb_grown memory, nodes;
    nb_merge_queue queue;
} nb_merger;

bool nb_merger_reserve(nb_merger *m, size_t symbols); /* room for that many in all */

/* Joins what can be joined in m->symbols[0..count); false when memory is out. */
bool nb_merger_run(nb_merger *m, nb_pair_fn *pair, const void *context);
void nb_merger_free(nb_merger *m);

#endif
