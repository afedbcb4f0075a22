/* partial.h - a file that arrives in parts, in any order, and outlives its process: FINAL.part holds the bytes, FINAL.ranges
 * which of them are there. A thread of its own first syncs the bytes and then, by rename, writes down what was synced: after a
 * crash at any moment, of the machine too, the record names written bytes only. One process at a time has a file open. */
#ifndef NB_REGISTRY_PARTIAL_H
#define NB_REGISTRY_PARTIAL_H

#include "base/mem.h"

typedef struct nb_part {
    uint64_t begin, end; /* parts lie one behind the other */
    uint64_t done;       /* bytes from begin on that are there */
} nb_part;

typedef struct nb_partial nb_partial;

/* Begins, or goes on where the record says when it is of a file of this size. *out is NULL, with NB_OK, while another process or
 * thread has it open. part_bytes: 0 for what suits the size. */
nb_status nb_partial_open(const char *path, uint64_t size, uint64_t part_bytes, nb_partial **out, nb_error *err);
/* Writes down what is there, lets others at it. NULL is fine. */
void nb_partial_close(nb_partial *p);

size_t nb_partial_count(const nb_partial *p);
nb_part nb_partial_part(const nb_partial *p, size_t i); /* of the thread that writes */
uint64_t nb_partial_size(const nb_partial *p);
uint64_t nb_partial_done(const nb_partial *p);    /* in all parts */
const char *nb_partial_data(const nb_partial *p); /* the path of the bytes */

/* The next bytes of part i, never beyond its end. One thread. */
nb_status nb_partial_write(nb_partial *p, size_t i, const void *bytes, size_t n, nb_error *err);
/* Forgets all bytes; `one`: there is one part from now on. */
nb_status nb_partial_restart(nb_partial *p, bool one, nb_error *err);

/* SHA-256 of the whole file; `git`: SHA-1 of a git blob of these bytes. hex: 65 bytes. stop may be NULL. */
nb_status nb_partial_hash(nb_partial *p, bool git, bool (*stop)(void *user), void *user, char hex[65], nb_error *err);
/* Syncs and gives the file its name; closes p, on failure too. The caller has checked the content. */
nb_status nb_partial_commit(nb_partial *p, nb_error *err);
/* Closes p, whose bytes somebody else has given a name. */
void nb_partial_taken(nb_partial *p);
/* Removes the bytes and the record; closes p. */
void nb_partial_remove(nb_partial *p);

/* What who was killed right after that left of `path`'s record. */
void nb_partial_forget(const char *path);

/* What a record says, for tests and fuzzing: parts in arena, or NULL when it is none of a file of this size. */
nb_part *nb_partial_parse(nb_str text, uint64_t size, nb_arena *arena, size_t *count);
/* Bytes of `path` that a record says are there already; 0 without one. */
uint64_t nb_partial_there(const char *path, uint64_t size);

#endif
