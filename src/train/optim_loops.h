/* optim_loops.h - the rules of the optimizers, compiled at each level: OPTIM_LOOPS names the table. Plain loops that
 * compilers vectorize; multiplications and additions are not fused, so that every level gives the same values. */
#include <math.h>

#include "train/optim.h"

static void adam(const nb_optim_rule *r, size_t n, float *restrict p, const float *restrict g, float *restrict m,
                 float *restrict v)
{
    for (size_t i = 0; i < n; i++) {
        m[i] = m[i] * r->keep1 + r->take1 * g[i];
        v[i] = v[i] * r->keep2 + r->take2 * (g[i] * g[i]);
        p[i] = p[i] * r->decay - r->rate * (m[i] / (sqrtf(v[i]) * r->root_scale + r->epsilon));
    }
}

static void lion(const nb_optim_rule *r, size_t n, float *restrict p, const float *restrict g, float *restrict m)
{
    for (size_t i = 0; i < n; i++) {
        float towards = m[i] * r->keep1 + r->take1 * g[i];
        float sign = towards > 0 ? 1.0f : towards < 0 ? -1.0f : 0.0f;
        p[i] = p[i] * r->decay - r->rate * sign;
        m[i] = m[i] * r->keep2 + r->take2 * g[i];
    }
}

static void momentum(const nb_optim_rule *r, size_t n, float *restrict p, const float *restrict g, float *restrict m)
{
    float keep = r->first ? 0.0f : r->keep1;
    for (size_t i = 0; i < n; i++) {
        m[i] = m[i] * keep + (g[i] + r->decay * p[i]);
        p[i] = p[i] - r->rate * m[i];
    }
}

/* RMSprop and Adagrad differ in what they keep and take: Adagrad adds up */
static void by_root(const nb_optim_rule *r, size_t n, float *restrict p, const float *restrict g, float *restrict m)
{
    for (size_t i = 0; i < n; i++) {
        float d = g[i] + r->decay * p[i];
        m[i] = m[i] * r->keep1 + r->take1 * (d * d);
        p[i] = p[i] - r->rate * (d / (sqrtf(m[i]) + r->epsilon));
    }
}

static void update(const nb_optim_rule *r, size_t n, float *p, const float *g, float *m, float *v)
{
    switch (r->kind) {
    case NB_OPTIMIZER_ADAM:
    case NB_OPTIMIZER_ADAMW: adam(r, n, p, g, m, v); break;
    case NB_OPTIMIZER_LION: lion(r, n, p, g, m); break;
    case NB_OPTIMIZER_MOMENTUM: momentum(r, n, p, g, m); break;
    case NB_OPTIMIZER_RMSPROP:
    case NB_OPTIMIZER_ADAGRAD: by_root(r, n, p, g, m); break;
    }
}

/* sixteen sums whatever the level, so that all levels add in one order */
static float fit(const float *x, const float *codes, size_t n)
{
    float products[16] = {0}, squares[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) {
            products[j] += x[i + j] * codes[i + j];
            squares[j] += codes[i + j] * codes[i + j];
        }
    for (size_t j = 0; i < n; i++, j++) {
        products[j] += x[i] * codes[i];
        squares[j] += codes[i] * codes[i];
    }
    for (size_t half = 8; half; half /= 2)
        for (size_t j = 0; j < half; j++) {
            products[j] += products[j + half];
            squares[j] += squares[j + half];
        }
    return products[0] / squares[0];
}

const nb_optim_loops OPTIM_LOOPS = {update, fit};
