/* Layers of attention with their projections: three kinds, one arrangement: what is projected lies as [batch][rows][heads][dim],
 * so that one call of attention serves all heads. */
#include <stdlib.h>

#include "attention/rule.h"
#include "kernel/vec.h"

struct nb_attention_layer {
    nb_attention_layer_params params;
    nb_projection *projections; /* copies: query [n], key [n], value [n] or none, out */
    size_t sets;                /* n: heads for SEPARATE, else 1 */
    size_t dim, v_dim;          /* of a head */
    float *keys;                /* as they came, [batch][length][input_dim] */
    float *k, *v;               /* [batch][length][heads][dim]; v: keys, where values are not projected */
    size_t batch, length;
    float *alphas;
    size_t alpha_count;
};

static nb_status check(const nb_attention_layer_params *p, nb_error *err)
{
    bool kind = p->kind == NB_ATTENTION_SINGLE || p->kind == NB_ATTENTION_SEPARATE || p->kind == NB_ATTENTION_CHUNKED;
    if (!kind || p->heads < 1 || p->heads > 4096 || p->d_model < 1 || p->d_model > 65536 || p->input_dim < 1 ||
        p->input_dim > 65536 || (p->kind == NB_ATTENTION_SINGLE && p->heads != 1))
        return nb_fail(
            err, NB_ERR_ARGUMENT,
            "attention layer: kind %d, %zu heads, d_model %zu, input_dim %zu: give a kind, 1 to 4096 heads (a "
            "single one has 1) and dims of 1 to 65536",
            (int)p->kind, p->heads, p->d_model, p->input_dim);
    if (p->kind == NB_ATTENTION_CHUNKED &&
        (p->d_model % p->heads != 0 || p->input_dim != p->d_model || !p->proj_values))
        return nb_fail(
            err, NB_ERR_ARGUMENT,
            "attention layer: %zu heads are chunks of d_model %zu, inputs have %zu: d_model must be a multiple "
            "of heads, and inputs as wide; values are projected",
            p->heads, p->d_model, p->input_dim);
    if (p->kind == NB_ATTENTION_SEPARATE && !p->proj_values && p->input_dim != p->d_model)
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "attention layer: values of %zu that are not projected do not fit an output projection of %zu a "
                       "head",
                       p->input_dim, p->d_model);
    if (!p->query || !p->key || (p->proj_values && !p->value) || (p->kind != NB_ATTENTION_SINGLE && !p->out))
        return nb_fail(err, NB_ERR_ARGUMENT, "attention layer: a projection is missing");
    return NB_OK;
}

nb_status nb_attention_layer_new(const nb_attention_layer_params *params, nb_attention_layer **layer, nb_error *err)
{
    *layer = NULL;
    NB_TRY(check(params, err));
    nb_attention_layer *l = calloc(1, sizeof *l);
    size_t sets = params->kind == NB_ATTENTION_SEPARATE ? params->heads : 1;
    nb_projection *copies = malloc((3 * sets + 1) * sizeof *copies);
    if (!l || !copies) {
        free(l);
        free(copies);
        return nb_fail_memory(err, "an attention layer", (3 * sets + 1) * sizeof *copies);
    }
    l->params = *params;
    l->projections = copies;
    l->sets = sets;
    l->dim = params->kind == NB_ATTENTION_CHUNKED ? params->d_model / params->heads : params->d_model;
    l->v_dim = params->proj_values ? l->dim : params->input_dim;
    memcpy(copies, params->query, sets * sizeof *copies);
    memcpy(copies + sets, params->key, sets * sizeof *copies);
    if (params->proj_values)
        memcpy(copies + 2 * sets, params->value, sets * sizeof *copies);
    if (params->kind != NB_ATTENTION_SINGLE)
        copies[3 * sets] = *params->out;
    *layer = l;
    return NB_OK;
}

static void free_keys(nb_attention_layer *l)
{
    free(l->keys);
    if (l->params.proj_values)
        free(l->v);
    free(l->k);
    l->keys = l->k = l->v = NULL;
    l->batch = l->length = 0;
}

void nb_attention_layer_free(nb_attention_layer *layer)
{
    if (!layer)
        return;
    free_keys(layer);
    free(layer->alphas);
    free(layer->projections);
    free(layer);
}

/* y[row][0 .. outputs) = W x[row] + b, rows of y `stride` apart */
static void project(const nb_projection *w, const float *x, size_t rows, size_t inputs, size_t outputs, float *y,
                    size_t stride)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t o = 0; o < outputs; o++)
            y[r * stride + o] = nb_vec_dot(w->weight + o * inputs, x + r * inputs, inputs) +
                                (w->bias ? w->bias[o] : 0.0f);
}

/* x [rows][input_dim] to [rows][heads][dim] by the sets' projections */
static void project_heads(const nb_attention_layer *l, const nb_projection *sets, const float *x, size_t rows, float *y)
{
    size_t width = l->params.heads * l->dim, outputs = width / l->sets;
    for (size_t s = 0; s < l->sets; s++)
        project(&sets[s], x, rows, l->params.input_dim, outputs, y + s * outputs, width);
}

static float *floats(size_t a, size_t b, size_t c)
{
    size_t n;
    return nb_mul(a, b, &n) && nb_mul(n, c, &n) && n < SIZE_MAX / sizeof(float) ? malloc((n + 1) * sizeof(float))
                                                                                : NULL;
}

nb_status nb_attention_layer_init_keys(nb_attention_layer *layer, const float *keys, size_t batch, size_t length,
                                       nb_error *err)
{
    nb_attention_layer *l = layer;
    size_t width = l->params.heads * l->dim, inputs = l->params.input_dim;
    if (batch < 1 || length < 1)
        return nb_fail(err, NB_ERR_ARGUMENT, "attention layer: %zu batches of %zu keys: give 1 or more", batch, length);
    free_keys(l);
    l->keys = floats(batch, length, inputs);
    l->k = floats(batch, length, width);
    l->v = l->params.proj_values ? floats(batch, length, width) : l->keys;
    if (!l->keys || !l->k || !l->v) {
        free_keys(l);
        return nb_fail_memory(err, "a layer's keys", batch * length * (2 * width + inputs) * sizeof(float));
    }
    l->batch = batch;
    l->length = length;
    memcpy(l->keys, keys, batch * length * inputs * sizeof *keys);
    project_heads(l, l->projections + l->sets, keys, batch * length, l->k);
    if (l->params.proj_values)
        project_heads(l, l->projections + 2 * l->sets, keys, batch * length, l->v);
    return NB_OK;
}

static nb_attention_params attention_of(const nb_attention_layer *l, size_t queries, const uint8_t *mask)
{
    size_t heads = l->params.heads, inputs = l->params.input_dim;
    nb_attention_params p = nb_attention_defaults(heads, heads, l->dim, queries, l->length);
    p.batch = l->batch;
    p.v_dim = l->v_dim;
    p.out = (nb_attention_stride){queries * heads * l->v_dim, l->v_dim, heads * l->v_dim};
    if (!l->params.proj_values)
        p.v = (nb_attention_stride){l->length * inputs, 0, inputs};
    p.mask = mask;
    p.mask_stride = (nb_attention_stride){queries * l->length, 0, l->length};
    p.mask_fill = -1e9f;
    p.dropout = l->params.dropout;
    p.seed = l->params.seed;
    return p;
}

/* [batch][heads][rest] to [heads][batch][rest] */
static void heads_first(const float *from, size_t batch, size_t heads, size_t rest, float *to)
{
    for (size_t b = 0; b < batch; b++)
        for (size_t h = 0; h < heads; h++)
            memcpy(to + (h * batch + b) * rest, from + (b * heads + h) * rest, rest * sizeof *to);
}

static nb_status attend(nb_attention_layer *l, const float *q, size_t queries, const uint8_t *mask, float *contexts,
                        nb_error *err)
{
    size_t heads = l->params.heads, rest = queries * l->length, count = l->batch * heads * rest;
    nb_attention_params p = attention_of(l, queries, mask);
    float *alphas = floats(l->batch * heads, queries, l->length);
    nb_status status = alphas ? nb_attention_standard(&p, q, l->k, l->v, contexts, NULL, NULL, alphas, NULL, NULL, err)
                              : nb_fail_memory(err, "a layer's alphas", count * sizeof(float));
    if (status == NB_OK && l->params.kind == NB_ATTENTION_SEPARATE && l->batch > 1) {
        float *turned = floats(l->batch * heads, queries, l->length);
        if (turned)
            heads_first(alphas, l->batch, heads, rest, turned);
        else
            status = nb_fail_memory(err, "a layer's alphas", count * sizeof(float));
        free(alphas);
        alphas = turned;
    }
    if (status != NB_OK) {
        free(alphas);
        return status;
    }
    free(l->alphas);
    l->alphas = alphas;
    l->alpha_count = count;
    return NB_OK;
}

size_t nb_attention_layer_width(const nb_attention_layer *layer)
{
    return layer->params.kind == NB_ATTENTION_SINGLE ? layer->v_dim : layer->params.d_model;
}

nb_status nb_attention_layer_forward(nb_attention_layer *layer, const float *query, size_t queries, const uint8_t *mask,
                                     float *out, nb_error *err)
{
    nb_attention_layer *l = layer;
    size_t heads = l->params.heads, width = heads * l->v_dim, rows;
    if (!l->k)
        return nb_fail(err, NB_ERR_ARGUMENT, "attention layer: no keys; call nb_attention_layer_init_keys first");
    if (queries < 1 || !nb_mul(queries, l->batch, &rows))
        return nb_fail(err, NB_ERR_ARGUMENT, "attention layer: %zu queries: give 1 or more", queries);
    float *q = floats(rows, heads, l->dim), *contexts = floats(rows, heads, l->v_dim);
    nb_status status = NB_OK;
    if (!q || !contexts)
        status = nb_fail_memory(err, "a layer's queries", rows * (heads * l->dim + width) * sizeof(float));
    if (status == NB_OK) {
        project_heads(l, l->projections, query, rows, q);
        status = attend(l, q, queries, mask, contexts, err);
    }
    if (status == NB_OK && l->params.kind == NB_ATTENTION_SINGLE)
        memcpy(out, contexts, rows * width * sizeof *out);
    else if (status == NB_OK)
        project(&l->projections[3 * l->sets], contexts, rows, width, l->params.d_model, out, l->params.d_model);
    free(q);
    free(contexts);
    return status;
}

const float *nb_attention_layer_alphas(const nb_attention_layer *layer, size_t *count)
{
    *count = layer->alpha_count;
    return layer->alphas;
}
