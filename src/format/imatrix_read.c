/* Reads both forms of importance matrices. A file is hostile until read: sums and counts are finite and not negative
 * once they are in an entry. */
#include <math.h>
#include <stdlib.h>

#include "format/gguf_parse.h"
#include "format/imatrix_parse.h"

static bool usable(const float *x, size_t n, size_t *bad)
{
    for (*bad = 0; *bad < n; ++*bad)
        if (!(x[*bad] >= 0) || isinf(x[*bad]))
            return false;
    return true;
}

static nb_status check_values(const char *path, const nb_imatrix_entry *e, nb_error *err)
{
    size_t bad;
    if (!usable(e->sum, e->columns * e->matrices, &bad))
        return nb_fail(err, NB_ERR_FORMAT, "%s: '%.*s': sum %zu is %g; sums of squares are finite and not negative",
                       path, NB_STR_ARG(e->name), bad, (double)e->sum[bad]);
    if (!usable(e->count, e->matrices, &bad))
        return nb_fail(err, NB_ERR_FORMAT, "%s: '%.*s': count %zu is %g; counts are finite and not negative", path,
                       NB_STR_ARG(e->name), bad, (double)e->count[bad]);
    return NB_OK;
}

static nb_status add_entry(nb_imatrix *m, nb_str name, size_t columns, size_t matrices, const char *path,
                           nb_imatrix_entry **out, nb_error *err)
{
    nb_status status = nb_imatrix_add(m, name, columns, matrices, out, err);
    if (status == NB_OK)
        return status;
    return nb_fail_prefix(err, status == NB_ERR_ARGUMENT ? NB_ERR_FORMAT : status, "%s", path);
}

/* ---- GGUF: tensors NAME.in_sum2, NAME.counts and, for some, NAME.moments ---- */

static const nb_str sum_suffix = {NB_IMATRIX_SUMS, sizeof NB_IMATRIX_SUMS - 1},
                    count_suffix = {NB_IMATRIX_COUNTS, sizeof NB_IMATRIX_COUNTS - 1},
                    moment_suffix = {NB_IMATRIX_MOMENTS, sizeof NB_IMATRIX_MOMENTS - 1};

static bool strip(nb_str *name, nb_str suffix)
{
    if (name->n < suffix.n || memcmp(name->p + name->n - suffix.n, suffix.p, suffix.n) != 0)
        return false;
    name->n -= suffix.n;
    return true;
}

static const nb_gguf_tensor *partner(const nb_gguf *g, nb_str name, nb_str suffix)
{
    char text[NB_GGUF_MAX_TENSOR_NAME];
    if (name.n + suffix.n > sizeof text)
        return NULL;
    memcpy(text, name.p, name.n);
    memcpy(text + name.n, suffix.p, suffix.n);
    return nb_gguf_find_tensor(g, (nb_str){text, name.n + suffix.n});
}

static nb_status read_pair(const nb_gguf *g, nb_str name, const nb_gguf_tensor *sums, nb_imatrix *m, nb_error *err)
{
    const nb_gguf_tensor *counts = partner(g, name, count_suffix);
    const char *path = nb_gguf_path(g);
    nb_imatrix_entry *e;
    if (!counts)
        return nb_fail(err, NB_ERR_FORMAT, "%s: '%.*s.in_sum2' has no '.counts' beside it", path, NB_STR_ARG(name));
    if (sums->type->id != NB_TYPE_F32 || counts->type->id != NB_TYPE_F32)
        return nb_fail(err, NB_ERR_FORMAT, "%s: sums and counts of '%.*s' are %s and %s; both have to be F32", path,
                       NB_STR_ARG(name), sums->type->name, counts->type->name);
    size_t values = sums->bytes / sizeof(float), matrices = counts->bytes / sizeof(float);
    if (matrices == 0 || values == 0 || values % matrices)
        return nb_fail(err, NB_ERR_FORMAT, "%s: '%.*s' has %zu sums, which %zu counts do not divide", path,
                       NB_STR_ARG(name), values, matrices);
    NB_TRY(add_entry(m, name, values / matrices, matrices, path, &e, err));
    memcpy(e->sum, sums->data, sums->bytes);
    memcpy(e->count, counts->data, counts->bytes);
    return check_values(path, e, err);
}

static uint32_t read_u32(const nb_gguf *g, const char *key)
{
    uint64_t value = 0;
    if (nb_gguf_get_u64(g, key, &value, NULL) != NB_OK || value > UINT32_MAX)
        return 0;
    return (uint32_t)value;
}

static nb_status read_origin(const nb_gguf *g, nb_imatrix *m, nb_error *err)
{
    nb_arena arena = {0};
    nb_str *texts = NULL;
    size_t count = 0;
    uint32_t chunks = read_u32(g, "imatrix.chunk_count"), tokens = read_u32(g, "imatrix.chunk_size");
    nb_status status = nb_gguf_find(g, "imatrix.datasets")
                           ? nb_gguf_get_strings(g, "imatrix.datasets", &arena, &texts, &count, err)
                           : NB_OK;
    nb_imatrix_set_origin(m, NB_STR(""), chunks, tokens ? tokens : 1);
    for (size_t i = 0; i < count; i++)
        nb_imatrix_set_origin(m, texts[i], chunks, tokens ? tokens : 1);
    nb_arena_free(&arena);
    return status;
}

/* file NULL: the bytes are copied */
static nb_status read_moments(const nb_gguf *g, const nb_gguf_tensor *t, nb_str name, uint64_t block,
                              nb_moments_file *file, nb_imatrix *m, nb_error *err)
{
    nb_imatrix_entry *e = nb_imatrix_entry_of(m, name);
    const char *path = nb_gguf_path(g);
    uint16_t *copy;
    if (!e || e->matrices != 1 || t->type->id != NB_TYPE_F16 || block == 0 || block % 32 || block > e->columns ||
        e->columns % 32 || t->bytes != nb_moments_values(e->columns, (size_t)block) * sizeof(uint16_t))
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: '%.*s' holds %zu bytes of %s, not correlations of the entry's columns; make the file again",
                       path, NB_STR_ARG(t->name), t->bytes, t->type->name);
    const uint16_t *values = t->data;
    for (size_t i = 0; i < t->bytes / sizeof *values; i++)
        if ((values[i] & 0x7fff) > 0x3c01) /* a little over 1 */
            return nb_fail(err, NB_ERR_FORMAT, "%s: '%.*s': correlation %zu is not between -1 and 1", path,
                           NB_STR_ARG(t->name), i);
    if (file)
        return nb_imatrix_map_moments(e, (size_t)block, values, file, err);
    NB_TRY(nb_imatrix_add_moments(e, (size_t)block, &copy, err));
    memcpy(copy, values, t->bytes);
    return NB_OK;
}

static nb_status share_moments(const nb_gguf *g, nb_imatrix *m, nb_error *err)
{
    nb_arena arena = {0};
    nb_str *names = NULL, *of = NULL;
    size_t count = 0, others = 0;
    if (!nb_gguf_find(g, NB_IMATRIX_SHARED))
        return NB_OK;
    nb_status status = nb_gguf_get_strings(g, NB_IMATRIX_SHARED, &arena, &names, &count, err);
    if (status == NB_OK)
        status = nb_gguf_get_strings(g, NB_IMATRIX_SHARED_OF, &arena, &of, &others, err);
    if (status == NB_OK && count != others)
        status = nb_fail(err, NB_ERR_FORMAT, "%s: %zu entries share the moments of %zu; make the file again",
                         nb_gguf_path(g), count, others);
    for (size_t i = 0; i < count && status == NB_OK; i++) {
        nb_imatrix_entry *e = nb_imatrix_entry_of(m, names[i]), *from = nb_imatrix_entry_of(m, of[i]);
        if (!e || !from || nb_imatrix_share_moments(e, from, NULL) != NB_OK)
            status = nb_fail(err, NB_ERR_FORMAT, "%s: '%.*s' cannot have the moments of '%.*s'; make the file again",
                             nb_gguf_path(g), NB_STR_ARG(names[i]), NB_STR_ARG(of[i]));
    }
    nb_arena_free(&arena);
    return status;
}

static nb_status read_all_moments(const nb_gguf *g, nb_moments_file *file, nb_imatrix *m, nb_error *err)
{
    const nb_gguf_value *blocks = nb_gguf_find(g, NB_IMATRIX_BLOCKS);
    size_t at = 0;
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        nb_str name = t->name;
        if (!strip(&name, moment_suffix))
            continue;
        uint64_t block = 0;
        if (blocks && blocks->kind == NB_GGUF_ARRAY && blocks->element == NB_GGUF_U32 && at < blocks->count)
            block = nb_gguf_elem_u64(blocks, at);
        at++;
        NB_TRY(read_moments(g, t, name, block, file, m, err));
    }
    return share_moments(g, m, err);
}

static nb_status read_gguf(const nb_gguf *g, nb_moments_file *file, nb_imatrix *m, nb_error *err)
{
    nb_str kind = NB_STR("imatrix");
    const char *path = nb_gguf_path(g);
    nb_gguf_get_str(g, "general.type", &kind, NULL);
    if (!nb_str_eqz(kind, "imatrix"))
        return nb_fail(err, NB_ERR_FORMAT, "%s is a file of type '%.*s', not an importance matrix", path,
                       NB_STR_ARG(kind));
    NB_TRY(read_origin(g, m, err));
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        nb_str name = t->name;
        if (strip(&name, sum_suffix))
            NB_TRY(read_pair(g, name, t, m, err));
        else if (strip(&name, count_suffix) && !partner(g, name, sum_suffix))
            return nb_fail(err, NB_ERR_FORMAT, "%s: '%.*s.counts' has no '.in_sum2' beside it", path, NB_STR_ARG(name));
    }
    return read_all_moments(g, file, m, err);
}

/* ---- the older form: entries, chunks, the text's name; little-endian ---- */

typedef struct cursor {
    const char *path;
    const unsigned char *data;
    size_t size, at;
} cursor;

static nb_status take(cursor *c, void *to, size_t n, const char *what, nb_error *err)
{
    if (n > c->size - c->at)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: byte %zu: %s should take %zu bytes and %zu are left; this is not an importance matrix, or "
                       "not all of one",
                       c->path, c->at, what, n, c->size - c->at);
    memcpy(to, c->data + c->at, n);
    c->at += n;
    return NB_OK;
}

static nb_status take_int(cursor *c, int32_t least, int32_t most, const char *what, int32_t *out, nb_error *err)
{
    size_t at = c->at;
    NB_TRY(take(c, out, sizeof *out, what, err));
    if (*out < least || *out > most)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: byte %zu: %s is %d, not %d to %d; this is not an importance matrix, or it is damaged",
                       c->path, at, what, *out, least, most);
    return NB_OK;
}

static nb_status read_entry(cursor *c, nb_imatrix *m, nb_error *err)
{
    char name[NB_IMATRIX_MAX_NAME];
    int32_t bytes = 0, calls = 0, values = 0;
    nb_imatrix_entry *e;
    NB_TRY(take_int(c, 1, sizeof name, "the length of a name", &bytes, err));
    NB_TRY(take(c, name, (size_t)bytes, "a tensor's name", err));
    const char *problem = nb_gguf_name_problem((nb_str){name, (size_t)bytes}, sizeof name);
    if (problem)
        return nb_fail(err, NB_ERR_FORMAT, "%s: byte %zu: a tensor's name %s", c->path, c->at - (size_t)bytes, problem);
    NB_TRY(take_int(c, 0, INT32_MAX, "a number of calls", &calls, err));
    NB_TRY(take_int(c, 1, INT32_MAX, "a number of values", &values, err));
    if ((size_t)values > (c->size - c->at) / sizeof(float))
        return nb_fail(err, NB_ERR_FORMAT, "%s: byte %zu: %d values of '%.*s' are said to follow, %zu bytes do",
                       c->path, c->at, values, bytes, name, c->size - c->at);
    NB_TRY(add_entry(m, (nb_str){name, (size_t)bytes}, (size_t)values, 1, c->path, &e, err));
    NB_TRY(take(c, e->sum, (size_t)values * sizeof(float), "values", err));
    e->count[0] = (float)(calls ? calls : 1); /* 0: the values are means already */
    return check_values(c->path, e, err);
}

static nb_status read_binary(cursor *c, nb_imatrix *m, nb_error *err)
{
    int32_t entries, chunks = 0, bytes = 0;
    nb_str text = {0};
    NB_TRY(take_int(c, 1, NB_IMATRIX_MAX_ENTRIES, "the number of entries", &entries, err));
    for (int32_t i = 0; i < entries; i++)
        NB_TRY(read_entry(c, m, err));
    if (c->at < c->size) /* the earliest files end here */
        NB_TRY(take_int(c, 0, INT32_MAX, "the number of chunks", &chunks, err));
    if (c->at < c->size) {
        NB_TRY(take_int(c, 0, 4096, "the length of the text's name", &bytes, err));
        text = (nb_str){(const char *)c->data + c->at, (size_t)bytes};
        if (text.n != c->size - c->at)
            return nb_fail(err, NB_ERR_FORMAT, "%s: byte %zu: the text's name has %d bytes and %zu are left", c->path,
                           c->at, bytes, c->size - c->at);
    }
    nb_imatrix_set_origin(m, text, (uint32_t)chunks, 0);
    return NB_OK;
}

/* ---- either ---- */

static nb_status finish(const char *path, nb_status status, nb_imatrix *m, nb_imatrix **out, nb_error *err)
{
    if (status == NB_OK && nb_imatrix_count(m) == 0)
        status = nb_fail(err, NB_ERR_FORMAT, "%s holds no entries of an importance matrix", path);
    if (status == NB_OK && nb_imatrix_failed(m))
        status = nb_fail_memory(err, path, 0);
    if (status != NB_OK)
        nb_imatrix_free(m);
    else
        *out = m;
    return status;
}

static bool is_gguf(const void *bytes, size_t size) { return size >= 4 && memcmp(bytes, "GGUF", 4) == 0; }

static nb_status open_bytes(const char *name, const void *bytes, size_t size, nb_moments_file *file, nb_imatrix **out,
                            nb_error *err)
{
    nb_imatrix *m;
    nb_gguf *g = NULL;
    *out = NULL;
    NB_TRY(nb_imatrix_new(&m, err));
    nb_status status;
    if (is_gguf(bytes, size)) {
        status = nb_gguf_open_memory(name, bytes, size, &g, err);
        if (status == NB_OK)
            status = read_gguf(g, file, m, err);
        nb_gguf_close(g);
    } else {
        status = read_binary(&(cursor){name, bytes, size, 0}, m, err);
    }
    return finish(name, status, m, out, err);
}

nb_status nb_imatrix_open_memory(const char *name, const void *bytes, size_t size, nb_imatrix **out, nb_error *err)
{
    return open_bytes(name, bytes, size, NULL, out, err);
}

nb_status nb_imatrix_open(const char *path, nb_imatrix **out, nb_error *err)
{
    nb_moments_file *file = calloc(1, sizeof *file);
    *out = NULL;
    if (!file)
        return nb_fail_memory(err, path, sizeof *file);
    file->users = 1; /* this function */
    nb_status status = nb_map_open(path, &file->map, err);
    if (status == NB_OK)
        status = open_bytes(path, file->map.data, file->map.size, file, out, err);
    nb_moments_file_leave(file);
    return status;
}
