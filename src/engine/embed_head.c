#include "engine/embed_head.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

/* ---- reading ---- */

static nb_status read_activation(const nb_gguf *g, int module, bool *tanh_out, nb_error *err)
{
    char key[128];
    nb_str arch, name;
    NB_TRY(nb_gguf_get_str(g, "general.architecture", &arch, err));
    int n = snprintf(key, sizeof key, "%.*s.dense_%d_activation", NB_STR_ARG(arch), module);
    *tanh_out = false;
    if (n < 0 || (size_t)n >= sizeof key || !nb_gguf_find(g, key))
        return NB_OK;
    NB_TRY(nb_gguf_get_str(g, key, &name, err));
    *tanh_out = nb_str_eqz(name, "tanh");
    if (!*tanh_out && !nb_str_eqz(name, "identity"))
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: %s is \"%.*s\"; identity and tanh are known", nb_gguf_path(g), key,
                       NB_STR_ARG(name));
    return NB_OK;
}

static nb_status check_layer(const nb_gguf *g, const nb_embed_layer *l, size_t in, nb_error *err)
{
    const nb_gguf_tensor *w = l->weight, *b = l->bias;
    uint64_t rows = w->dims[1] * w->dims[2] * w->dims[3];
    if (w->n_dims > 2 || w->dims[0] != in || rows == 0 || rows > INT32_MAX || !w->type->dequantize)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: tensor %.*s is [%llu x %llu] of %s; a matrix over the %zu values before it is expected",
                       nb_gguf_path(g), NB_STR_ARG(w->name), (unsigned long long)w->dims[0], (unsigned long long)rows,
                       w->type->name, in);
    if (b && (b->n_dims != 1 || b->dims[0] != rows || !b->type->dequantize))
        return nb_fail(err, NB_ERR_FORMAT, "%s: tensor %.*s is not a vector of %llu values", nb_gguf_path(g),
                       NB_STR_ARG(b->name), (unsigned long long)rows);
    return NB_OK;
}

/* the next layer, of these tensors; *found false: the file has none */
static nb_status add_layer(const nb_gguf *g, const char *name, nb_embed_head *head, bool *found, nb_error *err)
{
    nb_embed_layer *l = &head->layers[head->count];
    char weight[40], bias[40];
    snprintf(weight, sizeof weight, "%s.weight", name);
    snprintf(bias, sizeof bias, "%s.bias", name);
    *l = (nb_embed_layer){nb_gguf_find_tensor(g, nb_str_of(weight)), nb_gguf_find_tensor(g, nb_str_of(bias)), false};
    *found = l->weight != NULL;
    if (!*found)
        return NB_OK;
    NB_TRY(check_layer(g, l, head->width, err));
    head->width = (size_t)l->weight->dims[1];
    head->count++;
    return NB_OK;
}

nb_status nb_embed_head_read(const nb_gguf *g, size_t width, nb_embed_head *head, nb_error *err)
{
    bool found = true;
    *head = (nb_embed_head){.width = width};
    for (int module = 2; module < 2 + NB_EMBED_LAYERS; module++) {
        char name[32];
        snprintf(name, sizeof name, "dense_%d", module);
        NB_TRY(add_layer(g, name, head, &found, err));
        if (!found)
            break;
        NB_TRY(read_activation(g, module, &head->layers[head->count - 1].tanh, err));
    }
    return NB_OK;
}

nb_status nb_embed_classifier_read(const nb_gguf *g, size_t width, nb_embed_head *head, nb_error *err)
{
    bool two, whole;
    *head = (nb_embed_head){.width = width};
    NB_TRY(add_layer(g, "cls", head, &two, err));
    if (two)
        head->layers[0].tanh = true;
    NB_TRY(add_layer(g, "cls.output", head, &whole, err));
    if (two && !whole)
        return nb_fail(err, NB_ERR_FORMAT, "%s: tensor cls.output.weight is missing: cls.weight needs it",
                       nb_gguf_path(g));
    return NB_OK;
}

/* ---- running ---- */

/* y [count][rows] = layer of x [count][columns]; row: room for one of the matrix, then for the bias */
static void run_layer(const nb_embed_layer *l, const double *x, size_t count, float *row, double *y)
{
    size_t columns = (size_t)l->weight->dims[0], rows = (size_t)l->weight->dims[1], bytes = l->weight->bytes / rows;
    float *bias = row + columns;
    if (l->bias)
        l->bias->type->dequantize(l->bias->data, bias, rows);
    for (size_t r = 0; r < rows; r++) {
        l->weight->type->dequantize((const char *)l->weight->data + r * bytes, row, columns);
        for (size_t i = 0; i < count; i++) {
            double sum = l->bias ? (double)bias[r] : 0;
            for (size_t k = 0; k < columns; k++)
                sum += (double)row[k] * x[i * columns + k];
            y[i * rows + r] = l->tanh ? tanh(sum) : sum;
        }
    }
}

nb_status nb_embed_head_run(const nb_embed_head *head, const double *vectors, size_t count, double **out, nb_error *err)
{
    double *last = NULL;
    for (size_t i = 0; i < head->count; i++) {
        const nb_embed_layer *l = &head->layers[i];
        size_t columns = (size_t)l->weight->dims[0], rows = (size_t)l->weight->dims[1], bytes;
        bool fits = nb_mul(count, rows, &bytes) && nb_mul(bytes, sizeof(double), &bytes);
        double *y = fits ? malloc(bytes ? bytes : 1) : NULL;
        float *row = malloc((columns + rows) * sizeof *row);
        if (y && row)
            run_layer(l, last ? last : vectors, count, row, y);
        free(row);
        free(last);
        last = y;
        if (!y || !row) {
            free(last);
            return nb_fail(err, NB_ERR_MEMORY, "no memory for %zu embeddings of %zu values", count, rows);
        }
    }
    *out = last;
    return NB_OK;
}
