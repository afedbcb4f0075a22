#include "attention/rule.h"

#define DIM_MOST 512
#define LENGTH_MOST ((size_t)1 << 30)
#define DILATION_MOST 65536

nb_attention_params nb_attention_defaults(size_t heads, size_t kv_heads, size_t dim, size_t queries, size_t keys)
{
    nb_attention_params p = {.batch = 1, .heads = heads, .kv_heads = kv_heads, .k_dim = dim, .v_dim = dim};
    p.queries = queries;
    p.keys = keys;
    p.q = p.out = (nb_attention_stride){queries * heads * dim, dim, heads * dim};
    p.k = p.v = (nb_attention_stride){keys * kv_heads * dim, dim, kv_heads * dim};
    p.scale = dim ? (float)(1 / sqrt((double)dim)) : 1.0f;
    p.offset = (int64_t)keys - (int64_t)queries;
    p.left = p.right = -1;
    p.dilation = 1;
    p.mask_fill = -INFINITY;
    return p;
}

/* The last value of an array must have an index. */
static bool stride_fits(const nb_attention_params *p, const nb_attention_stride *s, size_t heads, size_t rows,
                        size_t width)
{
    size_t a, b, c, end;
    return rows == 0 ||
           (nb_mul(p->batch - 1, s->batch, &a) && nb_mul(heads - 1, s->head, &b) && nb_mul(rows - 1, s->row, &c) &&
            nb_add(a, b, &a) && nb_add(a, c, &a) && nb_add(a, width, &end) && end <= SIZE_MAX / 16);
}

static nb_status check_shape(const nb_attention_params *p, nb_error *err)
{
    if (p->batch < 1 || p->heads < 1 || p->kv_heads < 1 || p->heads > 65536 || p->batch > LENGTH_MOST ||
        p->heads % p->kv_heads != 0)
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "attention: %zu batches, %zu heads, %zu kv heads: give 1 or more of each, at most 65536 heads, "
                       "heads a multiple of kv heads",
                       p->batch, p->heads, p->kv_heads);
    if (p->k_dim < 1 || p->k_dim > DIM_MOST || p->v_dim < 1 || p->v_dim > DIM_MOST)
        return nb_fail(err, NB_ERR_ARGUMENT, "attention: head dims of %zu and %zu: give 1 to %d", p->k_dim, p->v_dim,
                       DIM_MOST);
    if (p->queries > LENGTH_MOST || p->keys > LENGTH_MOST)
        return nb_fail(err, NB_ERR_ARGUMENT, "attention: %zu queries and %zu keys: give at most %zu", p->queries,
                       p->keys, LENGTH_MOST);
    if (p->type != NB_FLOAT_F32 && p->type != NB_FLOAT_F16 && p->type != NB_FLOAT_BF16)
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "attention: %d is not a float type; give NB_FLOAT_F32, NB_FLOAT_F16 or NB_FLOAT_BF16",
                       (int)p->type);
    bool fits = stride_fits(p, &p->q, p->heads, p->queries, p->k_dim) &&
                stride_fits(p, &p->k, p->kv_heads, p->keys, p->k_dim) &&
                stride_fits(p, &p->v, p->kv_heads, p->keys, p->v_dim) &&
                stride_fits(p, &p->out, p->heads, p->queries, p->v_dim) &&
                (!p->mask || stride_fits(p, &p->mask_stride, p->heads, p->queries, p->keys)) &&
                (!p->bias || stride_fits(p, &p->bias_stride, p->heads, p->queries, p->keys));
    return fits ? NB_OK : nb_fail(err, NB_ERR_ARGUMENT, "attention: strides lead past any memory");
}

nb_status nb_rule_check(const nb_attention_params *p, nb_error *err)
{
    NB_TRY(check_shape(p, err));
    if (!isfinite(p->scale) || !isfinite(p->softcap) || p->softcap < 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "attention: scale %g, soft cap %g: give finite ones, the cap 0 or more",
                       (double)p->scale, (double)p->softcap);
    if (p->dilation < 1 || p->dilation > DILATION_MOST)
        return nb_fail(err, NB_ERR_ARGUMENT, "attention: a dilation of %zu: give 1 to %d", p->dilation, DILATION_MOST);
    int64_t most = (int64_t)LENGTH_MOST;
    if (p->offset < -most || p->offset > most || p->left > most || p->right > most)
        return nb_fail(err, NB_ERR_ARGUMENT, "attention: an offset or window past %zu positions", LENGTH_MOST);
    if (p->global_count && !p->globals)
        return nb_fail(err, NB_ERR_ARGUMENT, "attention: %zu global tokens, but no list of them", p->global_count);
    for (size_t i = 1; i < p->global_count; i++)
        if (p->globals[i - 1] >= p->globals[i])
            return nb_fail(err, NB_ERR_ARGUMENT,
                           "attention: global tokens %zu and %zu are at %u and %u: give them in "
                           "ascending order",
                           i - 1, i, p->globals[i - 1], p->globals[i]);
    if (!(p->dropout >= 0 && p->dropout < 1))
        return nb_fail(err, NB_ERR_ARGUMENT, "attention: a dropout of %g: give 0 or more, less than 1",
                       (double)p->dropout);
    if (p->mask && !(p->mask_fill <= 0x1p100f)) /* -INFINITY, or a number */
        return nb_fail(err, NB_ERR_ARGUMENT, "attention: masked scores become %g: give -INFINITY or a number",
                       (double)p->mask_fill);
    return NB_OK;
}

bool nb_rule_is_global(const nb_attention_params *p, int64_t position)
{
    size_t low = 0, high = p->global_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((int64_t)p->globals[middle] < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->global_count && (int64_t)p->globals[low] == position;
}

bool nb_rule_seen(const nb_attention_params *p, size_t batch, int64_t position, size_t key)
{
    int64_t j = (int64_t)key, step = (int64_t)p->dilation;
    if (key >= nb_rule_keys(p, batch) || (p->causal && j > position))
        return false;
    if (!nb_rule_windowed(p) || key < p->sink_tokens || nb_rule_is_global(p, j) || nb_rule_is_global(p, position))
        return true;
    return (position - j) % step == 0 && (p->left < 0 || position - j <= p->left * step) &&
           (p->right < 0 || j - position <= p->right * step);
}
