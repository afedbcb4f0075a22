/* safetensors.h - reads the test data that Python wrote as safetensors: a length, a JSON header, the tensors. For our own
 * files only: it trusts them more than src/format does, and needs nothing but libc, so that all modules' tests can use it. */
#ifndef NB_TESTS_SAFETENSORS_H
#define NB_TESTS_SAFETENSORS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

typedef struct nb_vectors {
    nb_buf file;
    size_t data; /* where the tensors begin */
    size_t at;   /* for nb_vectors_next */
} nb_vectors;

typedef struct nb_vector {
    char name[96], dtype[8];
    size_t dims[4], n_dims, n; /* n: values */
    const void *p;
} nb_vector;

static inline bool nb_vectors_open(nb_vectors *v, const char *name) /* below tests/data */
{
    char path[1024];
    nb_error err;
    uint64_t header;
    *v = (nb_vectors){0};
    snprintf(path, sizeof path, "%s/%s", NB_TEST_DATA, name);
    if (nb_file_read(path, 64u << 20, &v->file, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        return false;
    }
    memcpy(&header, v->file.data, 8);
    v->data = 8 + (size_t)header;
    v->at = 8;
    return v->data <= v->file.len;
}

static inline void nb_vectors_close(nb_vectors *v) { nb_buf_free(&v->file); }

/* the tensor whose entry, "name":{"dtype":...}, begins at `at` or later; at its end *after */
static inline bool nb_vector_parse(const nb_vectors *v, size_t at, nb_vector *t, size_t *after)
{
    const char *from = v->file.data + at, *end = v->file.data + v->data, *entry = from;
    while (entry < end && strncmp(entry, ":{\"dtype\":\"", 11) != 0)
        entry++;
    if (entry >= end)
        return false;
    const char *name = entry - 1;
    while (name > from && name[-1] != '"')
        name--;
    *t = (nb_vector){.n = 1};
    memcpy(t->name, name, nb_min_size((size_t)(entry - 1 - name), sizeof t->name - 1));
    sscanf(entry + 11, "%7[A-Z0-9]", t->dtype);
    char *p = strstr(entry, "\"shape\":[");
    for (p += 9; *p != ']' && t->n_dims < 4; p += *p == ',')
        t->n *= t->dims[t->n_dims++] = strtoul(p, &p, 10);
    p = strstr(p, "\"data_offsets\":[");
    t->p = v->file.data + v->data + strtoul(p + 16, &p, 10);
    *after = (size_t)(p - v->file.data);
    return true;
}

static inline bool nb_vectors_next(nb_vectors *v, nb_vector *t) { return nb_vector_parse(v, v->at, t, &v->at); }

/* All zero, with p NULL, when there is no such tensor. */
static inline nb_vector nb_vectors_get(const nb_vectors *v, const char *name)
{
    nb_vector t;
    for (size_t at = 8; nb_vector_parse(v, at, &t, &at);)
        if (strcmp(t.name, name) == 0)
            return t;
    return (nb_vector){0};
}

/* STEM followed by SUFFIX; fails loudly */
static inline nb_vector nb_vectors_need(const nb_vectors *v, const char *stem, const char *suffix)
{
    char name[192];
    snprintf(name, sizeof name, "%s%s", stem, suffix);
    nb_vector t = nb_vectors_get(v, name);
    if (!t.p) {
        fprintf(stderr, "no tensor %s in the test data\n", name);
        abort();
    }
    return t;
}

#endif
