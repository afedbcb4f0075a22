/* Rows of a directory's tensors, made as they are asked for. */
#include <math.h>

#include "hf/hf_codes.h"
#include "num/half.h"

/* where value or row r of the GGUF tensor lies in the checkpoint's */
static uint64_t origin(const nb_hf_made *made, uint64_t r)
{
    switch (made->change) {
    case NB_HF_PERMUTE_Q:
    case NB_HF_PERMUTE_K: return nb_hf_permuted(r, made->head);
    case NB_HF_SKIP_2: return r + 2;
    case NB_HF_GROUPED: return nb_hf_ungrouped(r, made->head, made->queries, made->groups);
    case NB_HF_SPLIT_Q:
    case NB_HF_SPLIT_K:
        return nb_hf_ungrouped(made->first + nb_hf_permuted(r, made->head), made->head, made->queries, made->groups);
    case NB_HF_SPLIT_V: return nb_hf_ungrouped(made->first + r, made->head, made->queries, made->groups);
    case NB_HF_EXPERTS: /* nb_hf_read_stack */
    case NB_HF_EXPERTS_GATE:
    case NB_HF_EXPERTS_UP:
    case NB_HF_EXPERTS_TURNED:
    case NB_HF_EXPERTS_EVEN:
    case NB_HF_EXPERTS_ODD:
    case NB_HF_HEADS:
    case NB_HF_NUMBERS:
    case NB_HF_AS_IS:
    case NB_HF_TRANSPOSE:
    case NB_HF_UNIT_ROWS:
    case NB_HF_ADD_1: break;
    }
    return r;
}

static void read_bf16(const nb_checkpoint_tensor *t, uint64_t first, uint64_t count, uint16_t *dst)
{
    float piece[256];
    for (uint64_t i = 0; i < count;) {
        uint64_t n = count - i < 256 ? count - i : 256;
        nb_checkpoint_read_f32(t, first + i, n, piece);
        for (uint64_t k = 0; k < n; k++)
            dst[i + k] = nb_f32_to_bf16(piece[k]);
        i += n;
    }
}

void nb_hf_read_values(const nb_source_tensor *out, const nb_checkpoint_tensor *t, uint64_t first, uint64_t count,
                       void *dst)
{
    if (out->type->id == NB_TYPE_F32) {
        nb_checkpoint_read_f32(t, first, count, dst);
    } else if (t->dtype == NB_DTYPE_F16 || t->dtype == NB_DTYPE_BF16) {
        nb_checkpoint_read_raw(t, first, count, dst);
    } else {
        read_bf16(t, first, count, dst);
    }
}

/* values [first, first + count) of the checkpoint's tensor in the source's type */
static void read_values(const nb_source_tensor *out, const nb_hf_made *made, uint64_t first, uint64_t count, void *dst)
{
    float *y = dst;
    nb_hf_read_values(out, made->from, first, count, dst);
    for (uint64_t i = 0; made->change == NB_HF_ADD_1 && i < count; i++) /* float32 */
        y[i] += 1;
}

static void read_unit_rows(const nb_source_tensor *out, const nb_hf_made *made, uint64_t row, uint64_t count, float *dst)
{
    uint64_t columns = out->dims[0];
    read_values(out, made, row * columns, count * columns, dst);
    for (float *y = dst; y < dst + count * columns; y += columns) {
        double squares = 0;
        for (uint64_t i = 0; i < columns; i++)
            squares += (double)y[i] * (double)y[i];
        float length = fmaxf((float)sqrt(squares), 1e-12f);
        for (uint64_t i = 0; i < columns; i++)
            y[i] /= length;
    }
}

/* Rows that are the checkpoint's columns: a few of each of its rows at a time, so that its lines in the cache are read
 * once for all of them. */
static void read_columns(const nb_source_tensor *out, const nb_hf_made *made, uint64_t row, uint64_t count, char *dst)
{
    enum { TOGETHER = 64 };
    _Alignas(float) char piece[TOGETHER * sizeof(float)];
    size_t size = out->type->block_bytes;
    uint64_t columns = out->dims[0], all = out->dims[1];
    for (uint64_t done = 0; done < count;) {
        uint64_t n = count - done < TOGETHER ? count - done : TOGETHER;
        for (uint64_t k = 0; k < columns; k++) {
            read_values(out, made, k * all + row + done, n, piece);
            for (uint64_t i = 0; i < n; i++)
                memcpy(dst + ((done + i) * columns + k) * size, piece + i * size, size);
        }
        done += n;
    }
}

static nb_status read_linear(const nb_source_tensor *out, const nb_hf_made *made, uint64_t row, uint64_t count, char *dst,
                             nb_error *err)
{
    size_t bytes = 0;
    if (made->change == NB_HF_AS_IS)
        return nb_hf_linear_read(made->linear, row, count, out->type, dst, err);
    nb_type_row_bytes(out->type, out->dims[0], &bytes);
    for (uint64_t r = 0; r < count; r++)
        NB_TRY(nb_hf_linear_read(made->linear, origin(made, row + r), 1, out->type, dst + r * bytes, err));
    return NB_OK;
}

static nb_status read_rows(const nb_source *s, size_t i, uint64_t row, uint64_t count, void *dst, nb_error *err)
{
    const nb_hf *h = (const nb_hf *)s;
    const nb_source_tensor *out = &h->source.tensors[i];
    const nb_hf_made *made = &h->made[i];
    size_t size = out->type->block_bytes, columns = out->dims[0];
    if (made->linear)
        return read_linear(out, made, row, count, dst, err);
    if (made->stack)
        return nb_hf_read_stack(out, made, row, count, dst, err);
    if (out->data) {
        memcpy(dst, (const char *)out->data + row * columns * size, count * columns * size);
    } else if (made->change == NB_HF_AS_IS || made->change == NB_HF_ADD_1) {
        read_values(out, made, row * columns, count * columns, dst);
    } else if (made->change == NB_HF_UNIT_ROWS) {
        read_unit_rows(out, made, row, count, dst);
    } else if (made->change == NB_HF_TRANSPOSE) {
        read_columns(out, made, row, count, dst);
    } else if (out->n_dims == 1) { /* a bias: its values are permuted like the rows of its matrix */
        for (size_t k = 0; k < columns; k++)
            read_values(out, made, origin(made, k), 1, (char *)dst + k * size);
    } else {
        for (uint64_t r = 0; r < count; r++)
            read_values(out, made, origin(made, row + r) * columns, columns, (char *)dst + r * columns * size);
    }
    return NB_OK;
}

static void forget(const nb_source *s, size_t i, uint64_t row, uint64_t count)
{
    const nb_hf *h = (const nb_hf *)s;
    uint64_t columns = h->source.tensors[i].dims[0];
    const nb_checkpoint_tensor *from = h->made[i].from;
    const nb_hf_linear *l = h->made[i].linear;
    uint64_t first = row * columns, values = count * columns;
    if (h->made[i].stack) {
        nb_hf_forget_stack(h, &h->made[i], row, count);
        return;
    }
    if (l && l->codes && !nb_hf_codes_in_rows(l->codes)) { /* all of it is needed to the last row */
        if (row + count < nb_source_rows(&h->source.tensors[i]))
            return;
        first = 0;
        values = l->rows * l->columns;
    }
    if (l && !l->made && !l->int8) { /* several of its values are one of the file's */
        uint64_t each = nb_hf_linear_values(l) / from->values;
        first /= each;
        values /= each;
        values = first < from->values ? values : 0;
    }
    if (from && h->made[i].change != NB_HF_TRANSPOSE) /* all rows lie in all of its pages */
        nb_checkpoint_forget(h->checkpoint, from, first, values);
}

void nb_hf_set_readers(nb_hf *h)
{
    h->source.read = read_rows;
    h->source.forget = forget;
}
