/* The entries of an importance matrix, and what it was made from. */
#include "format/imatrix.h"

#include <math.h>
#include <stdlib.h>

#include "format/imatrix_parse.h"
#include "num/half.h"

typedef struct kept_moments {
    nb_moments m; /* first: entries point here */
    size_t users; /* entries */
    uint16_t *own;
    nb_moments_file *file; /* else they lie in it */
} kept_moments;

struct nb_imatrix {
    nb_arena arena;             /* entries, names, values, texts */
    nb_imatrix_entry **entries; /* sorted by name */
    size_t count, cap;
    nb_str *texts;
    size_t text_count, text_cap;
    uint32_t chunks, chunk_tokens;
    bool failed; /* a text's name had no room */
};

nb_status nb_imatrix_new(nb_imatrix **out, nb_error *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? NB_OK : nb_fail_memory(err, "an importance matrix", sizeof **out);
}

void nb_moments_file_leave(nb_moments_file *file)
{
    if (!file || --file->users > 0)
        return;
    nb_map_close(&file->map);
    free(file);
}

static kept_moments *kept(const nb_imatrix_entry *e) { return (kept_moments *)(uintptr_t)e->moments; }

static void drop_moments(nb_imatrix_entry *e)
{
    kept_moments *k = kept(e);
    e->moments = NULL;
    if (!k || --k->users > 0)
        return;
    nb_moments_file_leave(k->file);
    free(k->own);
    free(k);
}

void nb_imatrix_free(nb_imatrix *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->count; i++)
        drop_moments(m->entries[i]);
    nb_arena_free(&m->arena);
    free(m->entries);
    free(m->texts);
    free(m);
}

static int compare(nb_str a, nb_str b)
{
    int order = memcmp(a.p, b.p, nb_min_size(a.n, b.n));
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

/* where name is, or belongs */
static size_t place_of(const nb_imatrix *m, nb_str name, bool *found)
{
    size_t low = 0, high = m->count;
    *found = false;
    if (high && compare(m->entries[high - 1]->name, name) < 0) /* files are sorted: entries come at the end */
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(m->entries[middle]->name, name);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool grow(void **items, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return true;
    size_t more = *cap ? *cap * 2 : 64;
    void *p = realloc(*items, more * size);
    if (!p)
        return false;
    *items = p;
    *cap = more;
    return true;
}

nb_status nb_imatrix_add(nb_imatrix *m, nb_str name, size_t columns, size_t matrices, nb_imatrix_entry **out,
                         nb_error *err)
{
    bool found;
    size_t values, at = place_of(m, name, &found);
    *out = NULL;
    if (name.n == 0 || columns == 0 || matrices == 0 || !nb_mul(columns, matrices, &values))
        return nb_fail(err, NB_ERR_ARGUMENT, "an entry '%.*s' of %zu columns and %zu matrices makes no sense",
                       NB_STR_ARG(name), columns, matrices);
    if (found)
        return nb_fail(err, NB_ERR_ARGUMENT, "tensor '%.*s' has two entries", NB_STR_ARG(name));
    if (m->count == NB_IMATRIX_MAX_ENTRIES)
        return nb_fail(err, NB_ERR_LIMIT, "an importance matrix has at most %d entries", NB_IMATRIX_MAX_ENTRIES);
    nb_imatrix_entry *e = NB_NEW(&m->arena, nb_imatrix_entry);
    if (e) {
        e->name = (nb_str){nb_arena_strdup(&m->arena, name), name.n};
        e->sum = NB_ARRAY(&m->arena, float, values);
        e->count = NB_ARRAY(&m->arena, float, matrices);
    }
    if (!e || !e->name.p || !e->sum || !e->count || !grow((void **)&m->entries, m->count, &m->cap, sizeof *m->entries))
        return nb_fail_memory(err, "an importance matrix", values * sizeof(float));
    e->columns = columns;
    e->matrices = matrices;
    memmove(m->entries + at + 1, m->entries + at, (m->count - at) * sizeof *m->entries);
    m->entries[at] = e;
    m->count++;
    *out = e;
    return NB_OK;
}

size_t nb_imatrix_count(const nb_imatrix *m) { return m->count; }
const nb_imatrix_entry *nb_imatrix_at(const nb_imatrix *m, size_t i) { return m->entries[i]; }

nb_imatrix_entry *nb_imatrix_entry_of(nb_imatrix *m, nb_str name)
{
    bool found;
    size_t at = place_of(m, name, &found);
    return found ? m->entries[at] : NULL;
}

const nb_imatrix_entry *nb_imatrix_find(const nb_imatrix *m, nb_str name)
{
    return nb_imatrix_entry_of((nb_imatrix *)(uintptr_t)m, name);
}

static void means(const float *sum, float count, size_t n, float *weight)
{
    for (size_t i = 0; i < n; i++)
        weight[i] = count > 0 ? sum[i] / count : 1;
}

void nb_imatrix_weights(const nb_imatrix_entry *e, size_t matrix, float *weight)
{
    means(e->sum + matrix * e->columns, e->count[matrix], e->columns, weight);
}

bool nb_imatrix_weights_of(const nb_imatrix_entry *e, size_t columns, size_t matrices, size_t matrix, float *weight)
{
    size_t values;
    bool same = e->columns == columns && e->matrices == matrices;
    if (!nb_mul(columns, matrices, &values) || matrix >= matrices ||
        (!same && (e->matrices != 1 || e->columns != values)))
        return false;
    means(e->sum + matrix * columns, e->count[same ? matrix : 0], columns, weight);
    return true;
}

/* ---- moments ---- */

size_t nb_moments_block(size_t columns, size_t most)
{
    size_t grain = columns % 256 ? 32 : 256;
    if (columns == 0 || columns % 32)
        return 0;
    size_t parts = (columns + nb_max_size(most, 256) - 1) / nb_max_size(most, 256);
    return nb_round_up((columns + parts - 1) / parts, grain);
}

static size_t triangle(size_t n) { return n * (n + 1) / 2; }

size_t nb_moments_values(size_t columns, size_t block)
{
    return columns / block * triangle(block) + triangle(columns % block);
}

static nb_status give_moments(nb_imatrix_entry *e, size_t block, kept_moments **out, nb_error *err)
{
    *out = NULL;
    if (e->matrices != 1 || block == 0 || block % 32 || e->columns % 32)
        return nb_fail(err, NB_ERR_ARGUMENT, "'%.*s' cannot have second moments of %zu columns", NB_STR_ARG(e->name),
                       block);
    kept_moments *k = calloc(1, sizeof *k);
    if (!k)
        return nb_fail_memory(err, "second moments", sizeof *k);
    drop_moments(e);
    k->m.columns = e->columns;
    k->m.block = block;
    k->users = 1;
    e->moments = &k->m;
    *out = k;
    return NB_OK;
}

nb_status nb_imatrix_add_moments(nb_imatrix_entry *e, size_t block, uint16_t **correlation, nb_error *err)
{
    kept_moments *k;
    NB_TRY(give_moments(e, block, &k, err));
    size_t values = nb_moments_values(e->columns, block);
    k->own = *correlation = calloc(values, sizeof **correlation);
    k->m.correlation = k->own;
    if (k->own)
        return NB_OK;
    drop_moments(e);
    return nb_fail_memory(err, "second moments", values * sizeof **correlation);
}

nb_status nb_imatrix_map_moments(nb_imatrix_entry *e, size_t block, const uint16_t *correlation, nb_moments_file *file,
                                 nb_error *err)
{
    kept_moments *k;
    NB_TRY(give_moments(e, block, &k, err));
    k->m.correlation = correlation;
    k->file = file;
    file->users++;
    return NB_OK;
}

nb_status nb_imatrix_share_moments(nb_imatrix_entry *e, const nb_imatrix_entry *of, nb_error *err)
{
    if (!of->moments || of->columns != e->columns || e->matrices != 1)
        return nb_fail(err, NB_ERR_ARGUMENT, "'%.*s' and '%.*s' do not read the same columns", NB_STR_ARG(e->name),
                       NB_STR_ARG(of->name));
    kept(of)->users++;
    drop_moments(e);
    e->moments = of->moments;
    return NB_OK;
}

/* ---- merging ---- */

/* correlations of block [first, first + n) from both: sums of products are added */
static void mix_triangle(const nb_imatrix_entry *a, const nb_imatrix_entry *b, float unit, size_t first, size_t n,
                         uint16_t *to)
{
    const uint16_t *x = a->moments->correlation + nb_moments_at(a->moments, first);
    const uint16_t *y = b->moments->correlation + nb_moments_at(b->moments, first);
    const float *s = a->sum + first, *t = b->sum + first;
    for (size_t i = 0, at = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++, at++) {
            float sum = nb_f16_to_f32(x[at]) * sqrtf(s[i] * s[j]) + unit * nb_f16_to_f32(y[at]) * sqrtf(t[i] * t[j]);
            float most = sqrtf((s[i] + unit * t[i]) * (s[j] + unit * t[j]));
            to[at] = nb_f32_to_f16(most > 0 ? sum / most : 0);
        }
}

static float seen(const nb_imatrix_entry *e) { return e->count[0]; }

/* before the sums are added */
static nb_status merge_moments(nb_imatrix_entry *e, const nb_imatrix_entry *from, float unit, nb_error *err)
{
    uint16_t *to;
    if (seen(e) == 0 && from->moments)
        return nb_imatrix_share_moments(e, from, err);
    if (!e->moments && (!from->moments || seen(from) == 0))
        return NB_OK;
    if (!from->moments || !e->moments || from->moments->block != e->moments->block)
        return nb_fail(
            err, NB_ERR_ARGUMENT,
            "'%.*s' has second moments of %zu columns in one file and of %zu in another; make both with the same "
            "--moments",
            NB_STR_ARG(e->name), e->moments ? e->moments->block : 0, from->moments ? from->moments->block : 0);
    nb_imatrix_entry both = *e;
    both.moments = NULL;
    size_t block = e->moments->block;
    NB_TRY(nb_imatrix_add_moments(&both, block, &to, err));
    for (size_t first = 0; first < e->columns; first += block)
        mix_triangle(e, from, unit, first, nb_min_size(block, e->columns - first),
                     to + nb_moments_at(both.moments, first));
    drop_moments(e);
    e->moments = both.moments;
    return NB_OK;
}

/* the entry of m that takes what `from` holds: its own, or a new one */
static nb_status entry_for(nb_imatrix *m, const nb_imatrix_entry *from, nb_imatrix_entry **out, nb_error *err)
{
    bool found;
    size_t at = place_of(m, from->name, &found);
    if (!found)
        return nb_imatrix_add(m, from->name, from->columns, from->matrices, out, err);
    *out = m->entries[at];
    if ((*out)->columns * (*out)->matrices != from->columns * from->matrices)
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "'%.*s' has %zu columns and %zu matrices in one file, %zu and %zu in another: they are not of "
                       "the same model",
                       NB_STR_ARG(from->name), (*out)->columns, (*out)->matrices, from->columns, from->matrices);
    return NB_OK;
}

/* gives an entry with one count the shape of one with a count a matrix */
static nb_status split_entry(nb_imatrix *m, nb_imatrix_entry *e, size_t matrices, nb_error *err)
{
    float *count = NB_ARRAY(&m->arena, float, matrices);
    if (!count)
        return nb_fail_memory(err, "an importance matrix", matrices * sizeof *count);
    for (size_t i = 0; i < matrices; i++)
        count[i] = e->count[0];
    e->columns /= matrices;
    e->matrices = matrices;
    e->count = count;
    return NB_OK;
}

static nb_status merge_entry(nb_imatrix *m, const nb_imatrix_entry *from, float unit, nb_error *err)
{
    nb_imatrix_entry *e;
    NB_TRY(entry_for(m, from, &e, err));
    if (e->matrices == 1 && from->matrices > 1)
        NB_TRY(split_entry(m, e, from->matrices, err));
    if (e->matrices != from->matrices && from->matrices != 1)
        return nb_fail(err, NB_ERR_ARGUMENT, "'%.*s' has %zu matrices in one file and %zu in another",
                       NB_STR_ARG(e->name), e->matrices, from->matrices);
    if (e->matrices == 1)
        NB_TRY(merge_moments(e, from, unit, err));
    for (size_t i = 0; i < e->columns * e->matrices; i++)
        e->sum[i] += unit * from->sum[i];
    for (size_t i = 0; i < e->matrices; i++)
        e->count[i] += unit * from->count[from->matrices == 1 ? 0 : i];
    return NB_OK;
}

nb_status nb_imatrix_merge(nb_imatrix *m, const nb_imatrix *src, uint32_t chunk_tokens, nb_error *err)
{
    float unit = src->chunk_tokens ? 1 : (float)chunk_tokens;
    uint32_t chunks;
    for (size_t i = 0; i < src->count; i++)
        NB_TRY(merge_entry(m, src->entries[i], unit, err));
    if (__builtin_add_overflow(m->chunks, src->chunks, &chunks))
        chunks = UINT32_MAX;
    uint32_t tokens = m->chunk_tokens ? m->chunk_tokens : src->chunk_tokens ? src->chunk_tokens : chunk_tokens;
    for (size_t i = 0; i < src->text_count; i++)
        nb_imatrix_set_origin(m, src->texts[i], chunks, tokens);
    nb_imatrix_set_origin(m, NB_STR(""), chunks, tokens);
    return NB_OK;
}

/* ---- where it comes from ---- */

void nb_imatrix_set_origin(nb_imatrix *m, nb_str text_name, uint32_t chunks, uint32_t chunk_tokens)
{
    m->chunks = chunks;
    m->chunk_tokens = chunk_tokens;
    if (text_name.n == 0)
        return;
    const char *copy = nb_arena_strdup(&m->arena, text_name);
    if (copy && grow((void **)&m->texts, m->text_count, &m->text_cap, sizeof *m->texts))
        m->texts[m->text_count++] = (nb_str){copy, text_name.n};
    else
        m->failed = true;
}

uint32_t nb_imatrix_chunks(const nb_imatrix *m) { return m->chunks; }
uint32_t nb_imatrix_chunk_tokens(const nb_imatrix *m) { return m->chunk_tokens; }
size_t nb_imatrix_texts(const nb_imatrix *m) { return m->text_count; }
nb_str nb_imatrix_text(const nb_imatrix *m, size_t i) { return m->texts[i]; }
bool nb_imatrix_failed(const nb_imatrix *m) { return m->failed; }
