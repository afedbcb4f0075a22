/* Writes both forms of importance matrices, as llama.cpp's tools read them. */
#include <math.h>
#include <stdlib.h>

#include "format/gguf_write.h"
#include "format/imatrix_parse.h"

/* ---- GGUF ---- */

static void put_texts(nb_gguf_writer *w, const nb_imatrix *m, nb_str *texts)
{
    size_t n = nb_imatrix_texts(m);
    for (size_t i = 0; i < n; i++)
        texts[i] = nb_imatrix_text(m, i);
    nb_gguf_put_strings(w, "imatrix.datasets", texts, n);
}

static void put_part(nb_gguf_writer *w, const nb_imatrix_entry *e, const char *suffix, nb_type type, uint64_t columns,
                     uint64_t rows)
{
    nb_buf name = {0};
    nb_buf_str(&name, e->name);
    nb_buf_z(&name, suffix);
    nb_gguf_put_tensor(w, nb_buf_view(&name), nb_type_get(type), 2, (uint64_t[]){columns, rows});
    nb_buf_free(&name);
}

/* The first entry with the same moments: it is written with them. NULL: there are none. */
static const nb_imatrix_entry *keeper(const nb_imatrix *m, const nb_imatrix_entry *e)
{
    for (size_t i = 0; e->moments && i < nb_imatrix_count(m); i++)
        if (nb_imatrix_at(m, i)->moments == e->moments)
            return nb_imatrix_at(m, i);
    return NULL;
}

static void put_entry(nb_gguf_writer *w, const nb_imatrix *m, const nb_imatrix_entry *e)
{
    put_part(w, e, NB_IMATRIX_SUMS, NB_TYPE_F32, e->columns, e->matrices);
    put_part(w, e, NB_IMATRIX_COUNTS, NB_TYPE_F32, 1, e->matrices);
    if (keeper(m, e) == e)
        put_part(w, e, NB_IMATRIX_MOMENTS, NB_TYPE_F16, nb_moments_values(e->columns, e->moments->block), 1);
}

/* Which entries have another's moments, and the columns of all blocks: what the tensors do not say. */
static void put_moments(nb_gguf_writer *w, const nb_imatrix *m, nb_str *names)
{
    size_t count = nb_imatrix_count(m), shared = 0, kept = 0;
    nb_str *of = names + count;
    uint32_t *block = (uint32_t *)(void *)(of + count);
    for (size_t i = 0; i < count; i++) {
        const nb_imatrix_entry *e = nb_imatrix_at(m, i), *first = keeper(m, e);
        if (first == e) {
            block[kept++] = (uint32_t)e->moments->block;
        } else if (first) {
            names[shared] = e->name;
            of[shared++] = first->name;
        }
    }
    if (kept == 0)
        return;
    nb_gguf_put_array(w, NB_IMATRIX_BLOCKS, NB_GGUF_U32, block, kept);
    nb_gguf_put_strings(w, NB_IMATRIX_SHARED, names, shared);
    nb_gguf_put_strings(w, NB_IMATRIX_SHARED_OF, of, shared);
}

static nb_status write_entries(nb_gguf_writer *w, const nb_imatrix *m, nb_error *err)
{
    for (size_t i = 0; i < nb_imatrix_count(m); i++)
        put_entry(w, m, nb_imatrix_at(m, i));
    for (size_t i = 0; i < nb_imatrix_count(m); i++) {
        const nb_imatrix_entry *e = nb_imatrix_at(m, i);
        NB_TRY(nb_gguf_writer_data(w, e->sum, e->columns * e->matrices * sizeof *e->sum, err));
        NB_TRY(nb_gguf_writer_data(w, e->count, e->matrices * sizeof *e->count, err));
        if (keeper(m, e) == e)
            NB_TRY(nb_gguf_writer_data(w, e->moments->correlation,
                                       nb_moments_values(e->columns, e->moments->block) * sizeof(uint16_t), err));
    }
    return NB_OK;
}

static nb_status write_gguf(const nb_imatrix *m, const char *path, nb_error *err)
{
    nb_gguf_writer *w;
    size_t room = nb_imatrix_texts(m) + 3 * nb_imatrix_count(m) + 1;
    nb_str *texts = calloc(room, sizeof *texts);
    if (!texts)
        return nb_fail_memory(err, path, room * sizeof *texts);
    nb_status status = nb_gguf_writer_open(path, 0, &w, err);
    if (status == NB_OK) {
        nb_gguf_put_str(w, "general.type", NB_STR("imatrix"));
        put_texts(w, m, texts);
        nb_gguf_put_u32(w, "imatrix.chunk_count", nb_imatrix_chunks(m));
        nb_gguf_put_u32(w, "imatrix.chunk_size", nb_imatrix_chunk_tokens(m));
        put_moments(w, m, texts);
        status = write_entries(w, m, err);
        if (status == NB_OK)
            status = nb_gguf_writer_commit(w, err);
        else
            nb_gguf_writer_abort(w);
    }
    free(texts);
    return status;
}

/* ---- the older form ---- */

static float most(const nb_imatrix_entry *e)
{
    float count = 0;
    for (size_t i = 0; i < e->matrices; i++)
        count = fmaxf(count, e->count[i]);
    return count;
}

static void add_int(nb_buf *b, size_t value)
{
    int32_t n = (int32_t)nb_min_size(value, INT32_MAX);
    nb_buf_add(b, &n, sizeof n);
}

/* the means, times the chunks that were seen */
static void add_entry(nb_buf *b, const nb_imatrix_entry *e, uint32_t chunk_tokens)
{
    float calls = chunk_tokens ? ceilf(most(e) / (float)chunk_tokens) : most(e);
    calls = fminf(calls, 1 << 30);
    add_int(b, e->name.n);
    nb_buf_str(b, e->name);
    add_int(b, (size_t)calls);
    add_int(b, e->columns * e->matrices);
    for (size_t i = 0; i < e->columns * e->matrices; i++) {
        float count = e->count[i / e->columns];
        float value = count > 0 ? e->sum[i] / count * calls : calls;
        nb_buf_add(b, &value, sizeof value);
    }
}

static nb_status write_binary(const nb_imatrix *m, const char *path, nb_error *err)
{
    nb_buf b = {0};
    nb_writer *w;
    size_t entries = 0, texts = nb_imatrix_texts(m);
    nb_str text = texts ? nb_imatrix_text(m, texts - 1) : NB_STR("");
    NB_TRY(nb_writer_open(path, &w, err));
    for (size_t i = 0; i < nb_imatrix_count(m); i++)
        entries += most(nb_imatrix_at(m, i)) > 0;
    add_int(&b, entries);
    nb_status status = NB_OK;
    for (size_t i = 0; i < nb_imatrix_count(m) && status == NB_OK; i++) {
        if (most(nb_imatrix_at(m, i)) == 0)
            continue;
        add_entry(&b, nb_imatrix_at(m, i), nb_imatrix_chunk_tokens(m));
        if (!b.failed)
            status = nb_writer_write(w, b.data, b.len, err);
        b.len = 0;
    }
    add_int(&b, nb_imatrix_chunks(m));
    add_int(&b, text.n);
    nb_buf_str(&b, text);
    if (status == NB_OK)
        status = b.failed ? nb_fail_memory(err, path, b.len) : nb_writer_write(w, b.data, b.len, err);
    nb_buf_free(&b);
    if (status != NB_OK) {
        nb_writer_abort(w);
        return status;
    }
    return nb_writer_commit(w, err);
}

nb_status nb_imatrix_write(const nb_imatrix *m, const char *path, nb_imatrix_form form, nb_error *err)
{
    if (nb_imatrix_failed(m))
        return nb_fail_memory(err, path, 0);
    return form == NB_IMATRIX_BINARY ? write_binary(m, path, err) : write_gguf(m, path, err);
}
