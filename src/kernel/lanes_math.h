/* lanes_math.h - exponentials, tanh and erfc of a vector of floats. Polynomials are least-maximum fits of the relative
 * error (Lawson's iteration); the error named is the polynomial's, the result is within two units in the last place. */
#ifndef NB_KERNEL_LANES_MATH_H
#define NB_KERNEL_LANES_MATH_H

#include "kernel/lanes.h"

#define LANES_LOG2E 1.44269504088896341f

/* e^x: 3e-9 on [-ln2/2, ln2/2] (Cody and Waite's reduction). Overflows to infinity, underflows through subnormals. */
LANES_INLINE lanes lanes_exp(lanes x)
{
    x = lanes_min(lanes_set(90.0f), lanes_max(lanes_set(-110.0f), x)); /* a NaN passes: it is the second operand */
    lanes n = lanes_round(x * LANES_LOG2E);
    lanes r = lanes_fnma(n, lanes_set(0.693359375f), x);
    r = lanes_fnma(n, lanes_set(-2.12194440e-4f), r);
    lanes p = lanes_fma(lanes_set(0.0013814610280437477f), r, lanes_set(0.008368711147387345f));
    p = lanes_fma(p, r, lanes_set(0.04166838749350257f));
    p = lanes_fma(p, r, lanes_set(0.16666520678886665f));
    p = lanes_fma(p, r, lanes_set(0.4999999345095652f));
    p = lanes_fma(p, r * r, r) + 1.0f;
    return lanes_pow2(p, n);
}

/* e^x - 1 - x: what is left of the series from x^2 / 2 on, to 2e-9 for |x| < 0.5, where the difference would lose its digits */
LANES_INLINE lanes lanes_expm1_less(lanes x)
{
    lanes p = lanes_fma(lanes_set(1.0f / 40320), x, lanes_set(1.0f / 5040));
    p = lanes_fma(p, x, lanes_set(1.0f / 720));
    p = lanes_fma(p, x, lanes_set(1.0f / 120));
    p = lanes_fma(p, x, lanes_set(1.0f / 24));
    p = lanes_fma(p, x, lanes_set(1.0f / 6));
    p = lanes_fma(p, x, lanes_set(0.5f));
    return lanes_select(lanes_less(lanes_abs(x), lanes_set(0.5f)), p * x * x, lanes_exp(x) - 1.0f - x);
}

/* 2^x for x <= 0 (0 below -126 or so): 9e-8, or 5e-11 when exact. A NaN stays one. */
LANES_INLINE lanes lanes_exp2(lanes x, int exact)
{
    x = lanes_max(lanes_set(-160.0f), x);
    lanes n = lanes_round(x), f = x - n, p;
    if (exact) {
        p = lanes_fma(lanes_set(1.5196156094585377e-05f), f, lanes_set(0.00015466756346637487f));
        p = lanes_fma(p, f, lanes_set(0.0013333935057345152f));
        p = lanes_fma(p, f, lanes_set(0.00961803813196919f));
        p = lanes_fma(p, f, lanes_set(0.05550410365989209f));
        p = lanes_fma(p, f, lanes_set(0.2402265106656175f));
        p = lanes_fma(p, f, lanes_set(0.6931471807045326f));
    } else {
        p = lanes_fma(lanes_set(0.0013264726899438154f), f, lanes_set(0.009671512660566808f));
        p = lanes_fma(p, f, lanes_set(0.05550733744243389f));
        p = lanes_fma(p, f, lanes_set(0.24022242084919193f));
        p = lanes_fma(p, f, lanes_set(0.6931469775984714f));
    }
    p = lanes_fma(p, f, lanes_set(1.0f));
    return lanes_pow2(p, n);
}

/* tanh: y + y^3 P(y^2) to 4e-9 for |y| < 0.625, else 1 - 2 / (e^2y + 1) */
LANES_INLINE lanes lanes_tanh(lanes x)
{
    lanes y = lanes_abs(x), z = x * x;
    lanes p = lanes_fma(lanes_set(-0.005704986327500884f), z, lanes_set(0.020639086568201542f));
    p = lanes_fma(p, z, lanes_set(-0.053739714845801416f));
    p = lanes_fma(p, z, lanes_set(0.13331442194748855f));
    p = lanes_fma(p, z, lanes_set(-0.3333328194185376f));
    lanes small = lanes_fma(p * z, x, x);
    lanes big = 1.0f - 2.0f / (lanes_exp(y + y) + 1.0f);
    return lanes_select(lanes_less(y, lanes_set(0.625f)), small, lanes_sign_of(big, x));
}

/* 1 / (1 + e^-x), with e^x on the negative side so that the small end keeps its digits */
LANES_INLINE lanes lanes_sigmoid(lanes x)
{
    lanes e = lanes_exp(0.0f - lanes_abs(x));
    return lanes_select(lanes_less(x, lanes_set(0.0f)), e, lanes_set(1.0f)) / (1.0f + e);
}

/* The normal distribution's cumulative function, erfc(-x / sqrt 2) / 2: e^(-x^2/2) times a polynomial in
 * t = 1 / (1 + |x| / (3 sqrt 2)) for the tail (1.4e-9); what x^2 loses by rounding is put back. */
LANES_INLINE lanes lanes_normal_cdf(lanes x)
{
    static const float c[11] = {2.069663838475072e-06f, 0.1879902305583926f,   0.18912311007911442f,
                                0.16901251197132583f,   0.20063742797831752f,  -0.021863210094355656f,
                                0.43515804090739363f,   -0.47472394441553134f, 0.5584822163834028f,
                                -0.3010763797982819f,   0.05725792815444632f};
    lanes a = lanes_min(lanes_set(20.0f), lanes_abs(x));
    lanes t = 1.0f / lanes_fma(a, lanes_set(0.23570226039551584f), lanes_set(1.0f));
    lanes p = lanes_set(c[10]);
    LANES_UNROLL
    for (int i = 9; i >= 0; i--)
        p = lanes_fma(p, t, lanes_set(c[i]));
    lanes square = a * a, lost = lanes_fnma(a, a, square); /* square - a^2: zero at levels without FMA */
    lanes tail = lanes_exp(square * -0.5f);
    tail = lanes_fma(tail, lost * 0.5f, tail) * p * 0.5f;
    return lanes_select(lanes_less(x, lanes_set(0.0f)), tail, 1.0f - tail);
}

#endif
