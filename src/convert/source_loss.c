#include "convert/source_loss.h"

#include <stdlib.h>

typedef struct room {
    void *rows;
    float *x, *y;
} room;

static nb_status read_row(const nb_source *s, size_t i, uint64_t row, void *bytes, float *out, nb_error *err)
{
    NB_TRY(s->read(s, i, row, 1, bytes, err));
    s->tensors[i].type->dequantize(bytes, out, (size_t)s->tensors[i].dims[0]);
    if (s->forget)
        s->forget(s, i, row, 1);
    return NB_OK;
}

static nb_status add_tensor(const nb_source *s, size_t i, const nb_source *made, size_t k, double sums[2],
                            nb_error *err)
{
    const nb_source_tensor *t = &s->tensors[i];
    size_t n = (size_t)t->dims[0], a = 0, b = 0;
    nb_status status = NB_OK;
    nb_type_row_bytes(t->type, n, &a);
    nb_type_row_bytes(made->tensors[k].type, n, &b);
    room r = {malloc(nb_max_size(a, b)), malloc(n * sizeof(float)), malloc(n * sizeof(float))};
    if (!r.rows || !r.x || !r.y)
        status = nb_fail_memory(err, "rows", n * 3 * sizeof(float));
    for (uint64_t row = 0; row < nb_source_rows(t) && status == NB_OK; row++) {
        status = read_row(s, i, row, r.rows, r.x, err);
        if (status == NB_OK)
            status = read_row(made, k, row, r.rows, r.y, err);
        for (size_t c = 0; c < n && status == NB_OK; c++) {
            double d = (double)r.x[c] - (double)r.y[c];
            sums[0] += d * d;
            sums[1] += (double)r.x[c] * (double)r.x[c];
        }
    }
    free(r.rows);
    free(r.x);
    free(r.y);
    return status;
}

nb_status nb_source_loss(const nb_source *s, const nb_source *made, double *loss, nb_error *err)
{
    double sums[2] = {0};
    for (size_t i = 0; i < s->tensor_count; i++) {
        const nb_source_tensor *t = &s->tensors[i], *m = nb_source_find_tensor(made, t->name);
        if (!m || memcmp(m->dims, t->dims, sizeof t->dims) != 0)
            return nb_fail(err, NB_ERR_FORMAT, "%s: has no tensor '%.*s' of the shape that %s has", made->path,
                           NB_STR_ARG(t->name), s->path);
        if (m->type != t->type)
            NB_TRY(add_tensor(s, i, made, (size_t)(m - made->tensors), sums, err));
    }
    *loss = sums[1] > 0 ? sums[0] / sums[1] : 0;
    return NB_OK;
}
