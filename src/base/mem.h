/* mem.h - checked arithmetic on sizes, slices, growable buffers, arenas. Nothing here aborts: what can
 * fail says so, a buffer or arena by a sticky flag that is looked at once at the end. */
#ifndef NB_BASE_MEM_H
#define NB_BASE_MEM_H

#include <stdarg.h>
#include <string.h>

#include "base/status.h"

/* ---- sizes: true on success, false when the result does not fit ---- */
static inline bool nb_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline bool nb_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline size_t nb_round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }
static inline size_t nb_min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t nb_max_size(size_t a, size_t b) { return a > b ? a : b; }

/* ---- nb_str: bytes that somebody else owns; not terminated, may hold zeros ---- */
typedef struct nb_str {
    const char *p;
    size_t n;
} nb_str;

#define NB_STR(literal) ((nb_str){("" literal), sizeof(literal) - 1})
/* for printf("%.*s", NB_STR_ARG(s)) */
#define NB_STR_ARG(s) (int)((s).n > 200 ? 200 : (s).n), (s).p

static inline nb_str nb_str_of(const char *z) { return (nb_str){z, z ? strlen(z) : 0}; }
static inline bool nb_str_eq(nb_str a, nb_str b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }
static inline bool nb_str_eqz(nb_str a, const char *z) { return nb_str_eq(a, nb_str_of(z)); }
static inline bool nb_str_one_of(nb_str s, const char *const *words) /* NULL ends them */
{
    while (*words && !nb_str_eqz(s, *words))
        words++;
    return *words != NULL;
}
static inline bool nb_str_starts(nb_str s, nb_str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

/* ---- nb_buf: growable bytes. {0} is a valid empty one; data is always terminated once non-NULL.
 * After a failed allocation `failed` stays set, later appends do nothing, and the contents are as they were. ---- */
typedef struct nb_buf {
    char *data;
    size_t len, cap;
    bool failed;
} nb_buf;

bool nb_buf_reserve(nb_buf *b, size_t extra); /* room for extra more bytes and a terminator */
void nb_buf_add(nb_buf *b, const void *bytes, size_t n);
void nb_buf_str(nb_buf *b, nb_str s);
void nb_buf_z(nb_buf *b, const char *z);
void nb_buf_char(nb_buf *b, char c);
void nb_buf_printf(nb_buf *b, const char *format, ...) NB_PRINTF(2, 3);
void nb_buf_utf8(nb_buf *b, uint32_t code_point);
void nb_buf_clear(nb_buf *b); /* empties it, keeps the memory, clears `failed` */
void nb_buf_free(nb_buf *b);
static inline nb_str nb_buf_view(const nb_buf *b) { return (nb_str){b->data ? b->data : "", b->len}; }

/* ---- nb_arena: many small pieces with one end. {0} is a valid empty one. ---- */
typedef struct nb_arena {
    struct nb_arena_block *head;
    size_t used;  /* bytes handed out */
    size_t limit; /* 0: none; else an allocation past it fails */
} nb_arena;

void *nb_arena_alloc(nb_arena *a, size_t bytes, size_t align); /* zeroed; NULL when memory or limit is out */
void *nb_arena_array(nb_arena *a, size_t count, size_t size);  /* zeroed, overflow-checked, aligned to 16 */
char *nb_arena_strdup(nb_arena *a, nb_str s);                  /* terminated copy */
void nb_arena_free(nb_arena *a);
#define NB_NEW(arena, type) ((type *)nb_arena_alloc((arena), sizeof(type), _Alignof(type)))
#define NB_ARRAY(arena, type, n) ((type *)nb_arena_array((arena), (n), sizeof(type)))

/* ---- big aligned blocks for weights, cache and scratch: 64-byte aligned, huge pages asked for, zero pages.
 * NULL when the system has no room. nb_pages_bytes: what a request really takes. ---- */
void *nb_pages_alloc(size_t bytes);
void nb_pages_free(void *p, size_t bytes);

#endif
