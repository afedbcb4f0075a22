/* cases.h - files of test cases, one a line: fields with spaces between them, texts in hex ("-" is the empty one). */
#ifndef NB_TESTS_CASES_H
#define NB_TESTS_CASES_H

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

typedef struct nb_cases {
    nb_buf file;
    size_t at;
} nb_cases;

static inline bool nb_cases_open(nb_cases *c, const char *name) /* below tests/data */
{
    char path[1024];
    nb_error err;
    *c = (nb_cases){0};
    snprintf(path, sizeof path, "%s/%s", NB_TEST_DATA, name);
    if (nb_file_read(path, 64u << 20, &c->file, &err) == NB_OK)
        return true;
    fprintf(stderr, "%s\n", err.message);
    return false;
}

static inline bool nb_cases_next(nb_cases *c, nb_str *line)
{
    if (c->at >= c->file.len)
        return false;
    const char *begin = c->file.data + c->at, *end = memchr(begin, '\n', c->file.len - c->at);
    *line = (nb_str){begin, end ? (size_t)(end - begin) : c->file.len - c->at};
    c->at += line->n + 1;
    return true;
}

static inline void nb_cases_close(nb_cases *c) { nb_buf_free(&c->file); }

static inline nb_str nb_case_field(nb_str *line) /* takes the next field off the line; empty at its end */
{
    size_t n = 0;
    while (n < line->n && line->p[n] != ' ')
        n++;
    nb_str field = {line->p, n};
    n += n < line->n;
    line->p += n;
    line->n -= n;
    return field;
}

static inline uint64_t nb_case_number(nb_str *line, int base)
{
    char text[32] = {0};
    nb_str field = nb_case_field(line);
    memcpy(text, field.p, nb_min_size(field.n, sizeof text - 1));
    return strtoull(text, NULL, base);
}

static inline void nb_case_text(nb_str *line, nb_buf *text) /* replaces what text held; never leaves it NULL */
{
    nb_str hex = nb_case_field(line);
    nb_buf_clear(text);
    nb_buf_reserve(text, 1);
    for (size_t i = 0; i + 1 < hex.n; i += 2) {
        char digits[3] = {hex.p[i], hex.p[i + 1], 0};
        nb_buf_char(text, (char)strtoul(digits, NULL, 16));
    }
}

/* random numbers that are the same everywhere (xorshift64) */
static inline uint64_t nb_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

#endif
