/* vec_lanes.h - the code of vec.h, written once over lanes. A file of one level defines VEC_TABLE and includes it.
 *
 * Every loop takes whole vectors and then one partial vector through the same arithmetic. Sums run in 4 x LANES
 * fixed lanes, element i always in the same one, so a row's result depends on the row alone. */
#include "kernel/lanes_math.h"
#include "kernel/vec_table.h"

/* for (each vector at i of n) { count: lanes in use } */
#define VEC_EACH(n) for (size_t i = 0, count; i < (n) && (count = (n)-i < LANES ? (n)-i : LANES); i += LANES)

LANES_INLINE lanes load(const float *p, size_t count)
{
    return count == LANES ? lanes_load(p) : lanes_load_n(p, count);
}

LANES_INLINE void store(float *p, lanes v, size_t count)
{
    if (count == LANES)
        lanes_store(p, v);
    else
        lanes_store_n(p, v, count);
}

typedef struct sums {
    lanes part[4];
} sums;

LANES_INLINE float sums_total(const sums *s)
{
    return lanes_sum((s->part[0] + s->part[1]) + (s->part[2] + s->part[3]));
}

/* sum of (a - shift)(b - shift) */
LANES_INLINE float product_sum(const float *a, const float *b, float shift, size_t n)
{
    sums s = {{lanes_set(0), lanes_set(0), lanes_set(0), lanes_set(0)}};
    lanes minus = lanes_set(shift);
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        LANES_UNROLL
        for (int j = 0; j < 4; j++)
            s.part[j] = lanes_fma(lanes_load(a + i + j * LANES) - minus, lanes_load(b + i + j * LANES) - minus,
                                  s.part[j]);
    }
    for (int j = 0; i + LANES <= n; i += LANES, j++)
        s.part[j] = lanes_fma(lanes_load(a + i) - minus, lanes_load(b + i) - minus, s.part[j]);
    float total = sums_total(&s);
    if (i < n) {
        float left[LANES], right[LANES];
        for (size_t j = 0; j < LANES; j++) {
            left[j] = i + j < n ? a[i + j] - shift : 0.0f;
            right[j] = i + j < n ? b[i + j] - shift : 0.0f;
        }
        total += lanes_sum(lanes_load(left) * lanes_load(right));
    }
    return total;
}

static float vec_dot(const float *a, const float *b, size_t n) { return product_sum(a, b, 0.0f, n); }

static void vec_rmsnorm(const float *x, const float *w, size_t n, float eps, float *y)
{
    float scale = 1.0f / sqrtf(product_sum(x, x, 0.0f, n) / (float)n + eps);
    if (w)
        VEC_EACH(n) store(y + i, load(x + i, count) * scale * load(w + i, count), count);
    else
        VEC_EACH(n) store(y + i, load(x + i, count) * scale, count);
}

static void vec_layernorm(const float *x, const float *w, const float *b, size_t n, float eps, float *y)
{
    lanes sum = lanes_set(0.0f);
    VEC_EACH(n) sum += load(x + i, count);
    float mean = lanes_sum(sum) / (float)n;
    float scale = 1.0f / sqrtf(product_sum(x, x, mean, n) / (float)n + eps);
    VEC_EACH(n)
    {
        lanes v = (load(x + i, count) - mean) * scale;
        if (w)
            v *= load(w + i, count);
        if (b)
            v += load(b + i, count);
        store(y + i, v, count);
    }
}

#define VEC_GATED(name, expression)                                                                                    \
    static void vec_##name(const float *gate, const float *up, size_t n, float *y)                                     \
    {                                                                                                                  \
        VEC_EACH(n)                                                                                                    \
        {                                                                                                              \
            lanes x = load(gate + i, count), v = (expression);                                                         \
            if (up)                                                                                                    \
                v *= load(up + i, count);                                                                              \
            store(y + i, v, count);                                                                                    \
        }                                                                                                              \
    }

/* 0.5 x (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks & Gimpel 2016) */
LANES_INLINE lanes gelu_tanh(lanes x)
{
    lanes twice = x * 1.5957691216057308f * lanes_fma(x * 0.044715f, x, lanes_set(1.0f));
    return x * lanes_sigmoid(twice);
}

VEC_GATED(silu_mul, x *lanes_sigmoid(x))
VEC_GATED(gelu_tanh_mul, gelu_tanh(x))
VEC_GATED(gelu_erf_mul, x *lanes_normal_cdf(x))
VEC_GATED(relu_mul, lanes_max(lanes_set(0.0f), x))
VEC_GATED(relu2_mul, lanes_max(lanes_set(0.0f), x) *lanes_max(lanes_set(0.0f), x))

static void vec_xielu(const float *x, const float parameters[4], size_t n, float *y)
{
    lanes p = lanes_set(parameters[0]), negative = lanes_set(parameters[1]), b = lanes_set(parameters[2]);
    lanes least = lanes_set(parameters[3]);
    VEC_EACH(n)
    {
        lanes v = load(x + i, count), m = lanes_min(least, v);
        lanes above = p * v * v, below = negative * (lanes_expm1_less(m) + (m - v));
        store(y + i, lanes_fma(b, v, lanes_select(lanes_less(lanes_set(0.0f), v), above, below)), count);
    }
}

/* not-a-number passes: it is the second operand */
static void vec_clamped_mul(const float *gate, const float *up, size_t n, float *y)
{
    lanes most = lanes_set(7.0f), least = lanes_set(-7.0f);
    VEC_EACH(n)
    {
        lanes x = lanes_min(most, load(gate + i, count)), u = lanes_set(0.0f);
        if (up)
            u = lanes_min(most, lanes_max(least, load(up + i, count)));
        store(y + i, (u + 1.0f) * (x * lanes_sigmoid(x * 1.702f)), count);
    }
}

static void vec_add_scaled(const float *a, const float *b, float s, size_t n, float *y)
{
    VEC_EACH(n) store(y + i, lanes_fma(load(b + i, count), lanes_set(s), load(a + i, count)), count);
}

static void vec_scale(const float *x, float s, size_t n, float *y)
{
    VEC_EACH(n) store(y + i, load(x + i, count) * s, count);
}

static void vec_softcap(const float *x, float cap, size_t n, float *y)
{
    VEC_EACH(n) store(y + i, lanes_tanh(load(x + i, count) / cap) * cap, count);
}

static float vec_max(const float *x, size_t n)
{
    lanes a = lanes_set(-INFINITY), b = a; /* the second operand stays where the first is a NaN */
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        a = lanes_max(lanes_load(x + i), a);
        b = lanes_max(lanes_load(x + i + LANES), b);
    }
    float top = lanes_top(lanes_max(a, b));
    for (; i < n; i++)
        top = x[i] > top ? x[i] : top;
    return top;
}

/* The sum of a vocabulary would lose digits in float lanes: they are emptied into a double every 64 vectors. */
static float vec_exp_sum(const float *x, float shift, size_t n, float *y)
{
    double total = 0;
    for (size_t from = 0; from < n; from += 64 * LANES) {
        size_t left = n - from, piece = left < 64 * LANES ? left : 64 * LANES;
        lanes sum = lanes_set(0.0f);
        VEC_EACH(piece)
        {
            lanes v = lanes_exp(load(x + from + i, count) - shift);
            store(y + from + i, v, count);
            sum += count == LANES ? v : lanes_load_n(y + from + i, count);
        }
        total += (double)lanes_sum(sum);
    }
    return (float)total;
}

/* Pairs half apart: vectors of the first half with vectors of the second. */
static void rope_halves(float *x, const float *cos_sin, size_t half)
{
    size_t i = 0;
    for (; i + LANES <= half; i += LANES) {
        lanes a = lanes_load(cos_sin + 2 * i), b = lanes_load(cos_sin + 2 * i + LANES);
        lanes c = lanes_even(a, b), s = lanes_odd(a, b), p = lanes_load(x + i), q = lanes_load(x + half + i);
        lanes_store(x + i, p * c - q * s);
        lanes_store(x + half + i, p * s + q * c);
    }
    for (; i < half; i++) {
        float c = cos_sin[2 * i], s = cos_sin[2 * i + 1], p = x[i], q = x[half + i];
        x[i] = p * c - q * s;
        x[half + i] = p * s + q * c;
    }
}

static void rope_neighbours(float *x, const float *cos_sin, size_t half)
{
    size_t i = 0;
    for (; i + LANES <= half; i += LANES) {
        lanes a = lanes_load(cos_sin + 2 * i), b = lanes_load(cos_sin + 2 * i + LANES);
        lanes u = lanes_load(x + 2 * i), v = lanes_load(x + 2 * i + LANES);
        lanes c = lanes_even(a, b), s = lanes_odd(a, b), p = lanes_even(u, v), q = lanes_odd(u, v);
        lanes first = p * c - q * s, second = p * s + q * c;
        lanes_store(x + 2 * i, lanes_zip_low(first, second));
        lanes_store(x + 2 * i + LANES, lanes_zip_high(first, second));
    }
    for (; i < half; i++) {
        float c = cos_sin[2 * i], s = cos_sin[2 * i + 1], p = x[2 * i], q = x[2 * i + 1];
        x[2 * i] = p * c - q * s;
        x[2 * i + 1] = p * s + q * c;
    }
}

static void vec_rope(float *x, const float *cos_sin, size_t rot, int neox)
{
    if (neox)
        rope_halves(x, cos_sin, rot / 2);
    else
        rope_neighbours(x, cos_sin, rot / 2);
}

const nb_vec_table VEC_TABLE = {
#define NB_VEC(name, type, give, params, args) .name = vec_##name,
#include "kernel/kernels.def"
#undef NB_VEC
};
