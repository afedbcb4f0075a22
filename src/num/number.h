/* number.h - the number formats as data: their limits, and conversion of one number by the format's definition. Exact for every
 * format and every double; for rows of numbers in a hurry see half.h and fp8.h, which are tested against this. */
#ifndef NB_NUM_NUMBER_H
#define NB_NUM_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

typedef enum nb_number {
#define NB_FLOAT(id, name, bits, exponent, mantissa, bias, sign, special) NB_NUMBER_##id,
#define NB_INTEGER(id, name, bits, sign) NB_NUMBER_##id,
#include "num/numbers.def"
#undef NB_FLOAT
#undef NB_INTEGER
    NB_NUMBERS
} nb_number;

typedef struct nb_number_info {
    const char *name;
    int bits;
    bool is_integer, is_signed;
    /* floats, as finfo gives them (integers: 0) */
    int exponent_bits, mantissa_bits, bias;
    bool has_infinity, has_nan, has_zero;
    double max, min; /* the largest and the lowest finite number; of integers too, rounded where a double is shorter */
    double epsilon;  /* from 1 to the next number */
    double least_normal; /* "tiny" */
    double least;        /* the least positive number: subnormal where there are such */
    double resolution;   /* 10^-(decimal digits that always hold) */
    /* integers, as iinfo gives them (floats: 0) */
    int64_t integer_min;
    uint64_t integer_max;
} nb_number_info;

nb_number_info nb_number_get(nb_number format);

/* What becomes of a number whose rounded value is past the largest. */
typedef enum nb_overflow {
    NB_OVERFLOW_SATURATE, /* the largest finite number of its sign; infinities too */
    NB_OVERFLOW_SPECIAL   /* infinity where the format has it, else NaN, else as above; integers wrap around */
} nb_overflow;

/* The code (in the low `bits` bits) of x rounded half to even; integers: of x rounded half to even to a whole number.
 * NaN: a quiet NaN with x's sign; where the format has none, negative zero (as ml_dtypes does), integers 0.
 * E8M0 takes the magnitude; the nearest power of two, the larger one of two equally near; 0 is 2^-127.
 * UE4M3 has no sign: what is below zero becomes zero. */
uint64_t nb_number_encode(nb_number format, double x, nb_overflow overflow);

/* The number that a code stands for; bits above the format's are ignored. I64 and U64: rounded to a double. */
double nb_number_decode(nb_number format, uint64_t code);

#endif
