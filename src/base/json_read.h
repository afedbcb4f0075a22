/* json_read.h - reads JSON strictly, value by value, from bytes in memory: no tree and no allocations but for strings with
 * escapes. The text is hostile until read: nesting is limited, strings are valid UTF-8, numbers are JSON's. The first failure
 * is kept ("FILE: byte AT: ..."), after it every call gives an empty value and loops end. Twice the same key is the caller's to
 * refuse: only it knows the keys. Source: RFC 8259.
 *
 *     nb_json_read_enter(&r, '{');
 *     while (nb_json_read_more(&r)) {
 *         nb_str key = nb_json_read_key(&r);
 *         ... read or skip the value
 *     } */
#ifndef NB_BASE_JSON_READ_H
#define NB_BASE_JSON_READ_H

#include "base/mem.h"

enum { NB_JSON_DEPTH = 64 };

typedef struct nb_json_reader {
    const char *name; /* of the file, for messages */
    nb_str text;
    uint64_t base;   /* where the text begins in its file */
    nb_arena *arena; /* for strings with escapes; all others point into the text */
    nb_error *err;
    nb_status status; /* sticky */
    size_t at;
    int depth;
    bool fresh; /* nothing read yet behind the bracket */
    char open[NB_JSON_DEPTH];
} nb_json_reader;

static inline nb_json_reader nb_json_read_begin(const char *name, nb_str text, nb_arena *arena, nb_error *err)
{
    return (nb_json_reader){.name = name, .text = text, .arena = arena, .err = err};
}

/* What comes next: '{' '[' '"' 't' 'f' 'n', '0' for a number; 0 at the end, after a failure and for anything else. */
char nb_json_read_peek(nb_json_reader *r);

void nb_json_read_enter(nb_json_reader *r, char bracket); /* '{' or '[' */
bool nb_json_read_more(nb_json_reader *r);                /* another member or element; false consumes the bracket */
nb_str nb_json_read_key(nb_json_reader *r);
nb_str nb_json_read_str(nb_json_reader *r);
uint64_t nb_json_read_u64(nb_json_reader *r); /* no sign, fraction or exponent */
double nb_json_read_num(nb_json_reader *r);
bool nb_json_read_bool(nb_json_reader *r);
void nb_json_read_skip(nb_json_reader *r);     /* any value, checked all the same */
nb_status nb_json_read_end(nb_json_reader *r); /* nothing but white space follows; the reader's status */

/* A failure of the caller's at byte `at` of the text; the first one stays. */
void nb_json_read_fail(nb_json_reader *r, size_t at, nb_status code, const char *format, ...) NB_PRINTF(4, 5);

#endif
