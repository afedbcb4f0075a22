#include "num/number.h"

#include <math.h>

/* what the codes of the largest exponent mean */
typedef enum special { NB_IEEE, NB_FINITE_NAN, NB_FINITE, NB_POWER } special;

typedef struct format {
    const char *name;
    int bits, exponent, mantissa, bias;
    bool sign, integer;
    special special;
} format;

static const format formats[NB_NUMBERS] = {
#define NB_FLOAT(id, name, bits, exponent, mantissa, bias, sign, special)                                              \
    {name, bits, exponent, mantissa, bias, sign, false, special},
#define NB_INTEGER(id, name, bits, sign) {name, bits, 0, 0, 0, sign, true, NB_FINITE},
#include "num/numbers.def"
#undef NB_FLOAT
#undef NB_INTEGER
};

static uint64_t mask(int bits) { return bits >= 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1; }

static uint64_t sign_bit(const format *f) { return f->sign ? (uint64_t)1 << (f->bits - 1) : 0; }

/* the largest positive code that is a finite number */
static uint64_t largest_code(const format *f)
{
    uint64_t all = mask(f->exponent + f->mantissa);
    return f->special == NB_IEEE ? all - mask(f->mantissa) - 1 : f->special == NB_FINITE ? all : all - 1;
}

static uint64_t nan_code(const format *f)
{
    switch (f->special) {
    case NB_IEEE: return (mask(f->exponent) << f->mantissa) | (uint64_t)1 << (f->mantissa - 1);
    case NB_FINITE: return 0;
    default: return mask(f->exponent + f->mantissa);
    }
}

/* ---- decoding ---- */

static double decode_integer(const format *f, uint64_t code)
{
    code &= mask(f->bits);
    if (f->sign && code & sign_bit(f))
        return (double)(int64_t)(code | ~mask(f->bits));
    return (double)code;
}

static double decode_magnitude(const format *f, uint64_t code)
{
    int exponent = (int)(code >> f->mantissa);
    uint64_t fraction = code & mask(f->mantissa);
    if (f->special == NB_POWER)
        return ldexp(1, exponent - f->bias);
    if (exponent == 0)
        return ldexp((double)fraction, 1 - f->bias - f->mantissa);
    return ldexp((double)(fraction | (uint64_t)1 << f->mantissa), exponent - f->bias - f->mantissa);
}

double nb_number_decode(nb_number number, uint64_t code)
{
    const format *f = &formats[number];
    if (f->integer)
        return decode_integer(f, code);
    bool negative = (code & sign_bit(f)) != 0;
    uint64_t magnitude = code & mask(f->exponent + f->mantissa);
    double x;
    if (magnitude <= largest_code(f))
        x = decode_magnitude(f, magnitude);
    else
        x = f->special == NB_IEEE && (magnitude & mask(f->mantissa)) == 0 ? INFINITY : NAN;
    return negative ? -x : x;
}

/* ---- encoding ---- */

static uint64_t encode_integer(const format *f, double x, nb_overflow overflow)
{
    double whole = rint(x), past = ldexp(1, f->bits - f->sign), least = f->sign ? -past : 0;
    if (isnan(x))
        return 0;
    if (whole >= least && whole < past)
        return (f->sign ? (uint64_t)(int64_t)whole : (uint64_t)whole) & mask(f->bits);
    if (overflow == NB_OVERFLOW_SATURATE)
        return whole < 0 ? sign_bit(f) : mask(f->bits - f->sign);
    double rest = fmod(whole, ldexp(1, f->bits)); /* exact; NaN for an infinity */
    if (isnan(rest))
        return 0;
    return (rest < 0 ? 0 - (uint64_t)-rest : (uint64_t)rest) & mask(f->bits);
}

/* the nearest power of two; half way between two goes up */
static uint64_t encode_power(const format *f, double x, nb_overflow overflow)
{
    int exponent;
    if (isnan(x))
        return nan_code(f);
    double significand = frexp(fabs(x), &exponent); /* in [0.5, 1) */
    int64_t code = isinf(x) ? INT64_MAX : (int64_t)exponent - 1 + (significand >= 0.75) + f->bias;
    if (x == 0 || code < 0)
        return 0;
    if (code > (int64_t)largest_code(f))
        return overflow == NB_OVERFLOW_SATURATE ? largest_code(f) : nan_code(f);
    return (uint64_t)code;
}

/* |x| rounded half to even as if there were no largest exponent, as a code that may be past the largest */
static uint64_t encode_magnitude(const format *f, double x)
{
    int exponent;
    frexp(x, &exponent);
    exponent -= 1; /* x = 1.f * 2^exponent */
    if (x == 0 || exponent < 1 - f->bias)
        exponent = 1 - f->bias;
    uint64_t steps = (uint64_t)rint(ldexp(x, f->mantissa - exponent)); /* with the leading one, 0 .. 2^(mantissa + 1) */
    return ((uint64_t)(exponent + f->bias - 1) << f->mantissa) + steps;
}

uint64_t nb_number_encode(nb_number number, double x, nb_overflow overflow)
{
    const format *f = &formats[number];
    if (f->integer)
        return encode_integer(f, x, overflow);
    if (f->special == NB_POWER)
        return encode_power(f, x, overflow);
    uint64_t sign = signbit(x) ? sign_bit(f) : 0;
    if (isnan(x))
        return f->special == NB_FINITE ? sign_bit(f) : nan_code(f) | sign;
    if (!f->sign && x < 0)
        return 0;
    uint64_t code = isinf(x) ? UINT64_MAX : encode_magnitude(f, fabs(x));
    if (code <= largest_code(f))
        return code | sign;
    if (overflow == NB_OVERFLOW_SATURATE || f->special == NB_FINITE)
        return largest_code(f) | sign;
    return (f->special == NB_IEEE ? largest_code(f) + 1 : nan_code(f)) | sign;
}

/* ---- limits ---- */

nb_number_info nb_number_get(nb_number number)
{
    const format *f = &formats[number];
    nb_number_info i = {.name = f->name, .bits = f->bits, .is_integer = f->integer, .is_signed = f->sign};
    if (f->integer) {
        i.integer_max = mask(f->bits - f->sign);
        i.integer_min = f->sign ? -(int64_t)(i.integer_max) - 1 : 0;
        i.max = (double)i.integer_max;
        i.min = (double)i.integer_min;
        i.has_zero = true;
        return i;
    }
    i.exponent_bits = f->exponent;
    i.mantissa_bits = f->mantissa;
    i.bias = f->bias;
    i.has_infinity = f->special == NB_IEEE;
    i.has_nan = f->special != NB_FINITE;
    i.has_zero = f->special != NB_POWER;
    i.max = nb_number_decode(number, largest_code(f));
    i.min = f->sign ? -i.max : i.has_zero ? 0 : nb_number_decode(number, 0);
    i.epsilon = ldexp(1, -f->mantissa);
    i.least_normal = ldexp(1, f->special == NB_POWER ? -f->bias : 1 - f->bias);
    i.least = ldexp(i.least_normal, -f->mantissa);
    i.resolution = pow(10, -floor(f->mantissa * 0.30102999566398120));
    return i;
}
