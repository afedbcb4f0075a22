/* What goes into which file: all into one, as the source's files do, or as many as keep a size. Shards are llama.cpp's: the
 * first one has all metadata, the others only which they are. */
#include <stdlib.h>

#include "convert/quantize_internal.h"

void nb_quantize_files_free(nb_quantize_files *files)
{
    nb_arena_free(&files->values.arena);
    free(files->values.items);
    free(files->tensors);
    free(files->items);
    *files = (nb_quantize_files){0};
}

void nb_quantize_files_put(const nb_quantize_files *files, size_t file, const nb_source *s,
                           const nb_type_info *const *types, nb_gguf_writer *w)
{
    const nb_quantize_file *f = &files->items[file];
    for (size_t i = 0; file == 0 && i < files->values.count; i++)
        nb_gguf_put_value(w, &files->values.items[i]);
    if (files->count > 1) {
        nb_gguf_put_u16(w, "split.no", (uint16_t)file);
        nb_gguf_put_u16(w, "split.count", (uint16_t)files->count);
        nb_gguf_put_i32(w, "split.tensors.count", (int32_t)s->tensor_count);
    }
    for (size_t i = 0; i < f->count; i++) {
        const nb_source_tensor *t = &s->tensors[f->tensors[i]];
        nb_gguf_put_tensor(w, t->name, types[f->tensors[i]], t->n_dims, t->dims);
    }
}

static nb_status measure(const nb_quantize_files *files, size_t file, const nb_source *s,
                         const nb_type_info *const *types, uint64_t *bytes, nb_error *err)
{
    nb_gguf_writer *w;
    NB_TRY(nb_gguf_writer_measure(&w, err));
    nb_quantize_files_put(files, file, s, types, w);
    *bytes = nb_gguf_writer_bytes(w);
    nb_gguf_writer_abort(w);
    return NB_OK;
}

/* ---- who goes where ---- */

static nb_quantize_file *new_file(nb_quantize_files *files, size_t first)
{
    nb_quantize_file *f = &files->items[files->count++];
    *f = (nb_quantize_file){.tensors = files->tensors + first};
    return f;
}

static void as_the_source(nb_quantize_files *files, const nb_source *s)
{
    size_t n = 0;
    for (int i = 0; i < s->file_count || i == 0; i++) {
        nb_quantize_file *f = new_file(files, n);
        for (size_t t = 0; t < s->tensor_count; t++)
            if (s->tensors[t].file == i) {
                files->tensors[n++] = t;
                f->count++;
            }
    }
}

/* What a tensor adds to a file at most: its row in the table, and its data up to the next multiple of the alignment. */
static uint64_t tensor_bytes(const nb_source_tensor *t, const nb_type_info *type)
{
    enum { ROW = 8 + 63 + 4 + 4 * 8 + 4 + 8, ALIGNMENT = 32 };
    size_t row = 0;
    nb_type_row_bytes(type, t->dims[0], &row);
    return ROW + row * nb_source_rows(t) + ALIGNMENT;
}

static nb_status by_size(nb_quantize_files *files, const nb_source *s, const nb_type_info *const *types, uint64_t limit,
                         nb_error *err)
{
    enum { SHARD_KEYS = 256 };
    uint64_t header, used;
    nb_quantize_file *f = new_file(files, 0);
    NB_TRY(measure(files, 0, s, types, &header, err)); /* no tensors yet: the metadata */
    used = header + SHARD_KEYS;
    for (size_t i = 0; i < s->tensor_count; i++) {
        uint64_t bytes = tensor_bytes(&s->tensors[i], types[i]);
        if (used + bytes > limit && f->count > 0) {
            f = new_file(files, i);
            used = SHARD_KEYS;
        }
        files->tensors[i] = i;
        f->count++;
        used += bytes;
    }
    return NB_OK;
}

nb_status nb_quantize_files_make(const nb_source *s, const nb_quantize_params *p, const nb_type_info *const *types,
                                 nb_quantize_files *out, nb_error *err)
{
    enum { MAX_FILES = UINT16_MAX };
    *out = (nb_quantize_files){0};
    size_t most = s->tensor_count + (size_t)s->file_count + 1;
    NB_TRY(nb_quantize_values_make(s, p, types, &out->values, err));
    out->tensors = calloc(most, sizeof *out->tensors);
    out->items = calloc(most, sizeof *out->items);
    if (!out->tensors || !out->items)
        return nb_fail_memory(err, s->path, most * sizeof *out->items);
    if (p->keep_split)
        as_the_source(out, s);
    else
        NB_TRY(by_size(out, s, types, p->split_bytes ? p->split_bytes : UINT64_MAX, err));
    if (out->count > MAX_FILES)
        return nb_fail(err, NB_ERR_LIMIT, "%s: %zu files, more than the %d that a format allows; split less", s->path,
                       out->count, MAX_FILES);
    for (size_t i = 0; i < out->count; i++) {
        uint64_t bytes;
        NB_TRY(measure(out, i, s, types, &bytes, err));
        out->bytes += bytes;
    }
    return NB_OK;
}
