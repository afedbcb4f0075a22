/* Attention and its gradients in float64, as they are written down: a row of scores at a time. */
#include <stdlib.h>

#include "attention/rule.h"

typedef struct exact {
    const nb_attention_params *p;
    const void *q, *k, *v;
    double *score, *weight; /* [keys]: -INFINITY where hidden; after the softmax */
    double *slope;          /* [keys]: of the score by scale q.k */
    double *kept;           /* [keys]: 0 or the growth, by dropout */
    double lse;
} exact;

static double dot(nb_float type, const void *a, size_t a_at, const void *b, size_t b_at, size_t n)
{
    double sum = 0;
    for (size_t d = 0; d < n; d++)
        sum += (double)nb_float_at(a, type, a_at + d) * (double)nb_float_at(b, type, b_at + d);
    return sum;
}

static void score_key(exact *e, size_t batch, size_t head, size_t query, size_t j)
{
    const nb_attention_params *p = e->p;
    int64_t position = (int64_t)query + p->offset;
    e->slope[j] = 0;
    e->score[j] = -INFINITY;
    if (!nb_rule_seen(p, batch, position, j))
        return;
    if (nb_rule_masked(p, batch, head, query, j)) {
        e->score[j] = (double)p->mask_fill;
        return;
    }
    double s = (double)p->scale * dot(p->type, e->q, nb_rule_at(&p->q, batch, head, query), e->k,
                                      nb_rule_at(&p->k, batch, nb_rule_kv_head(p, head), j), p->k_dim);
    double cap = (double)p->softcap, bend = cap > 0 ? tanh(s / cap) : 0;
    e->slope[j] = 1 - bend * bend;
    s = cap > 0 ? cap * bend : s;
    if (p->slopes)
        s -= (double)p->slopes[head] * fabs((double)(position - (int64_t)j));
    float bias = p->bias ? p->bias[nb_rule_at(&p->bias_stride, batch, head, query) + j] : 0.0f;
    e->score[j] = fabsf(bias) >= NB_RULE_REPLACES ? (double)bias : s + (double)bias;
}

static void soften_row(exact *e, size_t batch, size_t head, size_t query)
{
    const nb_attention_params *p = e->p;
    double top = p->sinks ? (double)p->sinks[head] : -INFINITY, sum = 0;
    nb_rule_dropout drop = nb_rule_dropout_of(p, batch, head, query);
    for (size_t j = 0; j < p->keys; j++) {
        score_key(e, batch, head, query, j);
        top = fmax(top, e->score[j]);
        e->kept[j] = p->dropout > 0 ? (double)nb_rule_kept(&drop, (uint32_t)j) : 1;
    }
    if (top == -INFINITY)
        top = 0;
    for (size_t j = 0; j < p->keys; j++)
        sum += e->weight[j] = exp(e->score[j] - top);
    if (p->sinks)
        sum += exp((double)p->sinks[head] - top);
    for (size_t j = 0; j < p->keys && sum > 0; j++)
        e->weight[j] /= sum;
    e->lse = sum > 0 ? top + log(sum) : -INFINITY;
}

static nb_status exact_begin(exact *e, const nb_attention_params *p, const void *q, const void *k, const void *v,
                             nb_error *err)
{
    NB_TRY(nb_rule_check(p, err));
    *e = (exact){.p = p, .q = q, .k = k, .v = v};
    size_t bytes = (p->keys + 1) * 4 * sizeof(double);
    e->score = malloc(bytes);
    if (!e->score)
        return nb_fail_memory(err, "a row of scores", bytes);
    e->weight = e->score + p->keys;
    e->slope = e->weight + p->keys;
    e->kept = e->slope + p->keys;
    return NB_OK;
}

static void add_values(const exact *e, size_t batch, size_t head, double *out)
{
    const nb_attention_params *p = e->p;
    for (size_t d = 0; d < p->v_dim; d++)
        out[d] = 0;
    for (size_t j = 0; j < p->keys; j++) {
        size_t at = nb_rule_at(&p->v, batch, nb_rule_kv_head(p, head), j);
        for (size_t d = 0; d < p->v_dim && e->weight[j] > 0; d++)
            out[d] += e->weight[j] * e->kept[j] * (double)nb_float_at(e->v, p->type, at + d);
    }
}

nb_status nb_attention_exact(const nb_attention_params *p, const void *q, const void *k, const void *v, double *out,
                             double *lse, nb_error *err)
{
    exact e;
    NB_TRY(exact_begin(&e, p, q, k, v, err));
    for (size_t b = 0; b < p->batch; b++)
        for (size_t h = 0; h < p->heads; h++)
            for (size_t i = 0; i < p->queries; i++) {
                soften_row(&e, b, h, i);
                add_values(&e, b, h, out + nb_rule_at(&p->out, b, h, i));
                if (lse)
                    lse[(b * p->heads + h) * p->queries + i] = e.lse;
            }
    free(e.score);
    return NB_OK;
}

static void clear(const nb_attention_params *p, const nb_attention_stride *s, size_t heads, size_t rows, size_t width,
                  double *x)
{
    for (size_t b = 0; b < p->batch; b++)
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < rows; i++)
                memset(x + nb_rule_at(s, b, h, i), 0, width * sizeof *x);
}

/* What one row of weights gives to the gradients of its query and of all keys and values (Dao et al. 2022, appendix B.2). */
static void backward_row(const exact *e, size_t batch, size_t head, size_t query, const float *dout, double *dq,
                         double *dk, double *dv)
{
    const nb_attention_params *p = e->p;
    size_t kv = nb_rule_kv_head(p, head), q_at = nb_rule_at(&p->q, batch, head, query);
    double mean = 0, *dweight = e->score; /* scores are not needed any more */
    dout += nb_rule_at(&p->out, batch, head, query);
    for (size_t j = 0; j < p->keys; j++) {
        size_t at = nb_rule_at(&p->v, batch, kv, j);
        dweight[j] = 0;
        for (size_t d = 0; d < p->v_dim && e->weight[j] > 0; d++) {
            dweight[j] += e->kept[j] * (double)dout[d] * (double)nb_float_at(e->v, p->type, at + d);
            dv[at + d] += e->weight[j] * e->kept[j] * (double)dout[d];
        }
        mean += e->weight[j] * dweight[j];
    }
    for (size_t j = 0; j < p->keys; j++) {
        double ds = e->weight[j] * (dweight[j] - mean) * e->slope[j] * (double)p->scale;
        size_t at = nb_rule_at(&p->k, batch, kv, j);
        for (size_t d = 0; d < p->k_dim && ds != 0; d++) {
            dq[q_at + d] += ds * (double)nb_float_at(e->k, p->type, at + d);
            dk[at + d] += ds * (double)nb_float_at(e->q, p->type, q_at + d);
        }
    }
}

nb_status nb_attention_exact_backward(const nb_attention_params *p, const void *q, const void *k, const void *v,
                                      const float *dout, double *dq, double *dk, double *dv, nb_error *err)
{
    exact e;
    NB_TRY(exact_begin(&e, p, q, k, v, err));
    clear(p, &p->q, p->heads, p->queries, p->k_dim, dq);
    clear(p, &p->k, p->kv_heads, p->keys, p->k_dim, dk);
    clear(p, &p->v, p->kv_heads, p->keys, p->v_dim, dv);
    for (size_t b = 0; b < p->batch; b++)
        for (size_t h = 0; h < p->heads; h++)
            for (size_t i = 0; i < p->queries; i++) {
                soften_row(&e, b, h, i);
                backward_row(&e, b, h, i, dout, dq, dk, dv);
            }
    free(e.score);
    return NB_OK;
}
