#include <math.h>

#include "attention/attention.h"
#include "num/half.h"

/* Algorithm 0 of Dao et al. (2022) for one query and head: all scores, their maximum, their sum, the weighted values.
 * Two passes over the scores instead of a matrix of them: the oracle needs no memory. */
typedef struct row {
    const nb_attention_spec *spec;
    const float *q, *k; /* k: of the kv head at position 0 */
    size_t stride;      /* between positions of k */
    size_t head;
    int64_t position; /* of the query */
} row;

/* as Falcon's PyTorch code multiplies tensors of BF16 */
static double rounded_product(float slope, int64_t position)
{
    float p = nb_bf16_to_f32(nb_f32_to_bf16((float)position));
    return (double)nb_bf16_to_f32(nb_f32_to_bf16(slope * p));
}

static double bias(const row *r, int64_t j)
{
    const nb_attention_bias *b = &r->spec->bias;
    int64_t after = j - r->position;
    double sum = 0;
    if (b->slopes && b->rounded > 0)
        sum += (double)b->rounded *
               (rounded_product(b->slopes[r->head], j) - rounded_product(b->slopes[r->head], r->position));
    else if (b->slopes)
        sum -= (double)b->slopes[r->head] * fabs((double)after);
    if (b->near) {
        int64_t reach = b->reach, at = after < -reach ? -reach : after > reach ? reach : after;
        sum += (double)b->near[r->head * (size_t)(2 * reach + 1) + (size_t)(at + reach)];
    }
    return sum;
}

static double score(const row *r, size_t j)
{
    double s = 0;
    for (int d = 0; d < r->spec->k_dim; d++)
        s += (double)r->q[d] * (double)r->k[j * r->stride + (size_t)d];
    s *= (double)r->spec->scale;
    double cap = (double)r->spec->softcap;
    return (cap > 0 ? cap * tanh(s / cap) : s) + bias(r, (int64_t)j);
}

static void attend_row(const row *r, const float *v, size_t v_stride, size_t begin, size_t end, const float *sink,
                       float *out)
{
    double top = sink ? (double)*sink : -INFINITY, sum = 0, o[1024] = {0};
    for (size_t j = begin; j < end; j++)
        top = fmax(top, score(r, j));
    if (sink)
        sum = exp((double)*sink - top);
    for (size_t j = begin; j < end; j++) {
        double p = exp(score(r, j) - top);
        sum += p;
        for (int d = 0; d < r->spec->v_dim; d++)
            o[d] += p * (double)v[j * v_stride + (size_t)d];
    }
    for (int d = 0; d < r->spec->v_dim; d++)
        out[d] = sum > 0 ? (float)(o[d] / sum) : 0.0f;
}

void nb_attention_oracle(const nb_attention_spec *spec, const float *q, const float *k, const float *v,
                           size_t n_queries, int64_t position, size_t n_positions, float *out)
{
    size_t heads = (size_t)spec->heads, kv_heads = (size_t)spec->kv_heads, group = heads / kv_heads;
    size_t k_dim = (size_t)spec->k_dim, v_dim = (size_t)spec->v_dim;
    for (size_t i = 0; i < n_queries; i++)
        for (size_t h = 0; h < heads; h++) {
            int64_t at = position + (int64_t)i, begin = 0, end = (int64_t)n_positions;
            int64_t after = spec->causal ? 1 : spec->window;
            if (after > 0 && after < end - at)
                end = at + after;
            if (spec->window > 0 && at - spec->window + 1 > 0)
                begin = at - spec->window + 1;
            row r = {spec, q + (i * heads + h) * k_dim, k + h / group * k_dim, kv_heads * k_dim, h, at};
            attend_row(&r, v + h / group * v_dim, kv_heads * v_dim, (size_t)begin,
                       end > begin ? (size_t)end : (size_t)begin, spec->sinks ? &spec->sinks[h] : NULL,
                       out + (i * heads + h) * v_dim);
        }
}
