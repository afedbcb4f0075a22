/* stop.h - stop strings in streamed text. Text goes in piece by piece, however a string is cut by the pieces; what can no
 * longer be part of a stop string comes out. The match that begins first wins; of those that begin together, the one
 * that is complete first. */
#ifndef NB_ENGINE_STOP_H
#define NB_ENGINE_STOP_H

#include "base/mem.h"

typedef struct nb_stop nb_stop;

/* The strings are copied; empty ones match nothing. */
nb_status nb_stop_new(const char *const *strings, size_t count, nb_stop **out, nb_error *err);
void nb_stop_free(nb_stop *s); /* NULL is fine */

/* Appends to `certain` the text before any stop string. True: one was found; neither it nor what follows ever comes
 * out. Out of memory sets certain->failed. */
bool nb_stop_push(nb_stop *s, nb_str text, nb_buf *certain);
/* The end: what was held back is only text now, unless a stop string lies in it (true). */
bool nb_stop_flush(nb_stop *s, nb_buf *certain);
int nb_stop_which(const nb_stop *s); /* the index of the string found, -1: none yet */
void nb_stop_reset(nb_stop *s);      /* for a new text */

#endif
