/* sampler_math.h - the arithmetic of sampling that must give the same bits everywhere: a generator, and exp, log and
 * pow made of nothing but IEEE additions, multiplications and divisions (a libm's last bit differs between systems). */
#ifndef NB_ENGINE_SAMPLER_MATH_H
#define NB_ENGINE_SAMPLER_MATH_H

#include <math.h>
#include <stdint.h>

/* xoshiro256++ 1.0 (Blackman & Vigna 2019), seeded through splitmix64 as its authors advise. */
typedef struct nb_rng {
    uint64_t s[4];
} nb_rng;

static inline void nb_rng_seed(nb_rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += UINT64_C(0x9E3779B97F4A7C15);
        z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
        r->s[i] = z ^ z >> 31;
    }
}

static inline uint64_t nb_rng_next(nb_rng *r)
{
    uint64_t *s = r->s, sum = s[0] + s[3];
    uint64_t result = (sum << 23 | sum >> 41) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

/* A whole number in [0, below): the high half of a product, no division, no rejection. Each number's share is off by
 * at most 2^-64, which sums of weights below 2^63 never notice. */
static inline uint64_t nb_rng_below(nb_rng *r, uint64_t below)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)nb_rng_next(r) * below >> 64);
}

/* In [0, 1), 53 bits. */
static inline double nb_rng_unit(nb_rng *r) { return (double)(nb_rng_next(r) >> 11) * 0x1p-53; }

/* e^x; relative error below 1e-15. */
static inline double nb_exp(double x)
{
    if (!(x > -745))
        return 0;
    if (x > 710)
        return INFINITY;
    double n = (x * 1.4426950408889634074 + 0x1.8p52) - 0x1.8p52;
    double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10, sum = 1;
    for (int i = 14; i > 0; i--)
        sum = 1 + sum * r / i;
    return ldexp(sum, (int)n);
}

/* The natural logarithm of x > 0 (-inf for 0 and below); relative error below 1e-15. */
static inline double nb_log(double x)
{
    if (!(x > 0))
        return -INFINITY;
    if (x > 1.7976931348623157e308)
        return INFINITY;
    int e;
    double m = frexp(x, &e);
    if (m < 0.70710678118654752440) {
        m *= 2;
        e--;
    }
    double f = (m - 1) / (m + 1), f2 = f * f, sum = 0;
    for (int i = 25; i > 0; i -= 2)
        sum = sum * f2 + 1.0 / i;
    return 2 * f * sum + e * 0.69314718055994530942;
}

/* x^y for x >= 0 */
static inline double nb_pow(double x, double y) { return y == 0 ? 1 : nb_exp(y * nb_log(x)); }

/* x^n by squaring */
static inline double nb_powi(double x, unsigned n)
{
    double result = 1;
    for (; n; n >>= 1, x *= x)
        if (n & 1)
            result *= x;
    return result;
}

#endif
