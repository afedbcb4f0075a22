/* json_write.h - writes JSON into an nb_buf: commas and escapes are its business, nesting is the caller's.
 * Numbers are the shortest text that reads back equal (0.1, not 0.10000000000000001); NaN and infinities become null.
 * Bytes that are not UTF-8 become U+FFFD. */
#ifndef NB_BASE_JSON_WRITE_H
#define NB_BASE_JSON_WRITE_H

#include "base/mem.h"

typedef struct nb_json {
    nb_buf *out;
    bool pretty; /* newlines and two spaces of indent */
    bool html;   /* <, >, &, U+2028 and U+2029 as escapes: Go's encoder does that, and digests of its output are names */
    int depth;
    bool first;     /* nothing written yet at this level */
    bool after_key; /* a value must follow */
} nb_json;

static inline nb_json nb_json_begin(nb_buf *out, bool pretty)
{
    return (nb_json){.out = out, .pretty = pretty, .first = true};
}
void nb_json_open(nb_json *j, char bracket);  /* '{' or '[' */
void nb_json_close(nb_json *j, char bracket); /* '}' or ']' */
void nb_json_key(nb_json *j, const char *key);
void nb_json_key_str(nb_json *j, nb_str key);
void nb_json_str(nb_json *j, nb_str value);
void nb_json_z(nb_json *j, const char *value);
void nb_json_int(nb_json *j, int64_t value);
void nb_json_uint(nb_json *j, uint64_t value);
void nb_json_num(nb_json *j, double value); /* shortest for a double */
void nb_json_f32(nb_json *j, float value);  /* shortest for a float */
void nb_json_bool(nb_json *j, bool value);
void nb_json_null(nb_json *j);

/* a key and its value */
static inline void nb_json_put_z(nb_json *j, const char *key, const char *value)
{
    nb_json_key(j, key);
    nb_json_z(j, value);
}
static inline void nb_json_put_int(nb_json *j, const char *key, int64_t value)
{
    nb_json_key(j, key);
    nb_json_int(j, value);
}
static inline void nb_json_put_uint(nb_json *j, const char *key, uint64_t value)
{
    nb_json_key(j, key);
    nb_json_uint(j, value);
}
static inline void nb_json_put_num(nb_json *j, const char *key, double value)
{
    nb_json_key(j, key);
    nb_json_num(j, value);
}

/* The shortest decimal text that reads back as exactly `value`; at most 32 bytes with terminator. */
void nb_format_double(double value, char text[32]);
void nb_format_float(float value, char text[32]);

#endif
