/* line_history.h - what was entered before: in memory, and a line each in a file that other processes append to as well. */
#ifndef NB_CLI_LINE_HISTORY_H
#define NB_CLI_LINE_HISTORY_H

#include "base/mem.h"

typedef struct nb_history nb_history;

/* path: of the file, made with its folders when first written to; NULL: only this process's. A file that cannot be read or
 * written is done without. NULL: out of memory. */
nb_history *nb_history_open(const char *path);
void nb_history_close(nb_history *h);            /* NULL is fine */
void nb_history_add(nb_history *h, nb_str text); /* the same again, and empty ones, are passed over */
size_t nb_history_count(const nb_history *h);
nb_str nb_history_at(const nb_history *h, size_t i); /* 0: the oldest */

#endif
