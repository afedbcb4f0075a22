/* file.h - read-only mapped files. Only regular files are opened: a FIFO, device or directory is refused before
 * anything is read from it. */
#ifndef NB_BASE_FILE_H
#define NB_BASE_FILE_H

#include "base/mem.h"

typedef struct nb_map {
    const unsigned char *data; /* NULL when the file is empty */
    size_t size;
} nb_map;

/* Maps the whole of path. Errors name the path and the remedy. */
nb_status nb_map_open(const char *path, nb_map *map, nb_error *err);
void nb_map_close(nb_map *map);

/* Tells the system that [offset, offset + bytes) will be read soon, or is not needed any more. Hints only. */
void nb_map_will_need(const nb_map *map, size_t offset, size_t bytes);
void nb_map_dont_need(const nb_map *map, size_t offset, size_t bytes);

/* Reads a whole regular file of at most `limit` bytes into out. */
nb_status nb_file_read(const char *path, size_t limit, nb_buf *out, nb_error *err);

/* A file that appears under its name only when whole: written to a temporary name beside it, synced, renamed. */
typedef struct nb_writer nb_writer;
nb_status nb_writer_open(const char *path, nb_writer **out, nb_error *err);
nb_status nb_writer_write(nb_writer *w, const void *bytes, size_t n, nb_error *err);
/* Writes anywhere: over earlier bytes (headers whose sizes are known at the end), or behind them. Any number of threads. */
nb_status nb_writer_patch(nb_writer *w, uint64_t offset, const void *bytes, size_t n, nb_error *err);
nb_status nb_writer_commit(nb_writer *w, nb_error *err); /* frees w, on failure too (then nothing is left behind) */
void nb_writer_abort(nb_writer *w);                      /* removes the temporary file, frees w; NULL is fine */

#endif
