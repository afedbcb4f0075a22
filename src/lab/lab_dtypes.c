/* dtypes: the bits of numbers, the limits of formats, and what is lost on the way to a smaller one. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "convert/open.h"
#include "kernel/ceiling.h"
#include "lab/lab_model.h"
#include "measure/loss.h"
#include "num/number.h"

enum { PRODUCT_LENGTH = 1000, SPREAD_LENGTH = 20000, SAMPLE_VALUES = 1 << 20, SHOWN_TENSORS = 8, MAX_LINE = 512 };

/* ---- one number in one format ---- */

typedef enum form { ZERO, SUBNORMAL, NORMAL, WHOLE, CLIPPED, INFINITE, NO_NUMBER } form;
static const char *const form_names[] = {"zero", "subnormal", "normal", "whole", "clipped", "infinite", "NaN"};

typedef struct stored {
    uint64_t code;
    double value, below, above; /* neighbours; NaN: none that is finite */
    form form;
} stored;

static bool is_float(nb_number f) { return !nb_number_get(f).is_integer; }

/* Overflow as a cast has it: infinity or NaN where the format can say so; whole numbers are clipped. */
static uint64_t encode(nb_number f, double x)
{
    return nb_number_encode(f, x, is_float(f) ? NB_OVERFLOW_SPECIAL : NB_OVERFLOW_SATURATE);
}

/* The number one code further from `code` (up or down), among the finite ones. */
static double neighbour(nb_number f, uint64_t code, bool up)
{
    nb_number_info i = nb_number_get(f);
    double value = nb_number_decode(f, code);
    if (!isfinite(value) || value == (up ? i.max : i.min))
        return NAN;
    uint64_t sign = i.is_signed && !i.is_integer ? (uint64_t)1 << (i.bits - 1) : 0, magnitude = code & ~sign;
    if (!sign)
        return nb_number_decode(f, up ? code + 1 : code - 1);
    if (magnitude == 0)
        return up ? i.least : -i.least;
    return nb_number_decode(f, (code & sign) | (((code & sign) != 0) == up ? magnitude - 1 : magnitude + 1));
}

static form form_of(const nb_number_info *i, double x, double value)
{
    if (isnan(value))
        return NO_NUMBER;
    if (isinf(value))
        return INFINITE;
    if (!i->has_nan && (x > i->max || x < i->min))
        return CLIPPED;
    if (i->is_integer)
        return value == 0 ? ZERO : WHOLE;
    return value == 0 ? ZERO : fabs(value) < i->least_normal ? SUBNORMAL : NORMAL;
}

static stored store(nb_number f, double x)
{
    nb_number_info i = nb_number_get(f);
    stored s = {.code = encode(f, x)};
    s.value = nb_number_decode(f, s.code);
    s.form = form_of(&i, x, s.value);
    s.below = neighbour(f, s.code, false);
    s.above = neighbour(f, s.code, true);
    return s;
}

/* "0101..." and "seee...fff" */
static void bits_of(nb_number f, uint64_t code, char bits[72], char fields[72])
{
    nb_number_info i = nb_number_get(f);
    int first_fraction = i.bits - i.mantissa_bits;
    for (int b = 0; b < i.bits; b++) {
        bits[b] = code >> (i.bits - 1 - b) & 1 ? '1' : '0';
        fields[b] = b == 0 && i.is_signed ? 's' : i.is_integer ? 'i' : b < first_fraction ? 'e' : 'f';
    }
    bits[i.bits] = fields[i.bits] = '\0';
}

/* ---- a value in every format ---- */

/* The formula of a finite float, with its numbers. */
static void say_formula(nb_lab *lab, nb_number f, const stored *s)
{
    nb_number_info i = nb_number_get(f);
    uint64_t fraction = s->code & (((uint64_t)1 << i.mantissa_bits) - 1);
    uint64_t exponent = s->code >> i.mantissa_bits & (((uint64_t)1 << i.exponent_bits) - 1);
    unsigned sign = i.is_signed ? (unsigned)(s->code >> (i.bits - 1) & 1) : 0;
    double share = ldexp((double)fraction, -i.mantissa_bits);
    if (s->form == NO_NUMBER || s->form == INFINITE)
        nb_lab_code(lab, "%s: E = %llu, all ones: %s", i.name, (unsigned long long)exponent, form_names[s->form]);
    else if (!i.has_zero)
        nb_lab_code(lab, "%s: 2^(E - %d), E = %llu: %.9g", i.name, i.bias, (unsigned long long)exponent, s->value);
    else if (exponent == 0)
        nb_lab_code(lab, "%s: (-1)^%u F 2^%d, F = %.7g: %.9g", i.name, sign, 1 - i.bias, share, s->value);
    else
        nb_lab_code(lab, "%s: (-1)^%u (1 + F) 2^(E - %d), F = %.7g, E = %llu: %.9g", i.name, sign, i.bias, share,
                    (unsigned long long)exponent, s->value);
}

static void show_bits(nb_lab *lab, nb_number chosen, double x)
{
    const nb_number shown[] = {NB_NUMBER_F32, NB_NUMBER_F16, NB_NUMBER_BF16, chosen};
    size_t count = chosen == NB_NUMBER_F32 || chosen == NB_NUMBER_F16 || chosen == NB_NUMBER_BF16 ? 3 : 4;
    char bits[72], fields[72], note[80];
    nb_lab_boxes *boxes = nb_lab_boxes_begin(lab, "bits");
    for (size_t i = 0; i < count; i++) {
        stored s = store(shown[i], x);
        bits_of(shown[i], s.code, bits, fields);
        snprintf(note, sizeof note, "%.9g, %s", s.value, form_names[s.form]);
        nb_lab_boxes_row(boxes, nb_number_get(shown[i]).name, bits, fields, note);
    }
    nb_lab_caption(lab, "%.9g: its sign, its exponent, its fraction", x);
    for (size_t i = 0; i < count; i++) {
        stored s = store(shown[i], x);
        if (is_float(shown[i]))
            say_formula(lab, shown[i], &s);
    }
}

static void show_everywhere(nb_lab *lab, double x)
{
    static const nb_lab_column columns[] = {{"format", "format", NB_LAB_TEXT, 0},
                                            {"code", "code", NB_LAB_TEXT, 0},
                                            {"stored", "stored", NB_LAB_DIGITS, 9},
                                            {"kind", "kind", NB_LAB_TEXT, 0},
                                            {"relative_error", "relative error", NB_LAB_DIGITS, 3}};
    nb_lab_table *t = nb_lab_table_begin(lab, "formats", columns, 5);
    for (int f = 0; f < NB_NUMBERS; f++) {
        nb_number_info i = nb_number_get(f);
        stored s = store(f, x);
        double error = s.value == x ? 0 : isfinite(s.value) && x != 0 ? fabs(s.value - x) / fabs(x) : NAN;
        nb_lab_cell_text(t, "%s", i.name);
        nb_lab_cell_text(t, "%0*llx", (i.bits + 3) / 4, (unsigned long long)s.code);
        nb_lab_cell(t, s.value);
        nb_lab_cell_text(t, "%s", form_names[s.form]);
        nb_lab_cell(t, error);
    }
    nb_lab_caption(lab, "%.9g in every format", x);
}

static void show_neighbours(nb_lab *lab, double x)
{
    static const nb_lab_column columns[] = {{"format", "format", NB_LAB_TEXT, 0},
                                            {"below", "one below", NB_LAB_DIGITS, 9},
                                            {"stored", "stored", NB_LAB_DIGITS, 9},
                                            {"above", "one above", NB_LAB_DIGITS, 9},
                                            {"step", "step up", NB_LAB_DIGITS, 3}};
    nb_lab_table *t = nb_lab_table_begin(lab, "neighbours", columns, 5);
    for (int f = 0; f < NB_NUMBERS; f++) {
        stored s = store(f, x);
        if (!is_float(f))
            continue;
        nb_lab_cell_text(t, "%s", nb_number_get(f).name);
        nb_lab_cell(t, s.below);
        nb_lab_cell(t, s.value);
        nb_lab_cell(t, s.above);
        nb_lab_cell(t, s.above - s.value);
    }
    nb_lab_caption(lab, "Its neighbours: between two of them there is nothing");
}

static nb_status show_value(nb_lab *lab, size_t index, const char *text, nb_number chosen, nb_error *err)
{
    char key[32], *end;
    double x = strtod(text, &end);
    if (end == text || *end)
        return nb_fail(err, NB_ERR_ARGUMENT, "'%s' is not a number; give values as 0.1 or 6.5e4", text);
    snprintf(key, sizeof key, "value_%zu", index + 1);
    nb_lab_section(lab, key, "The number %s", text);
    show_bits(lab, chosen, x);
    show_everywhere(lab, x);
    show_neighbours(lab, x);
    return NB_OK;
}

/* ---- limits ---- */

static void show_integers(nb_lab *lab)
{
    static const nb_lab_column columns[] = {{"format", "format", NB_LAB_TEXT, 0},
                                            {"bits", "bits", NB_LAB_COUNT, 0},
                                            {"min", "min", NB_LAB_TEXT, 0},
                                            {"max", "max", NB_LAB_TEXT, 0}};
    nb_lab_section(lab, "iinfo", "Whole numbers: their ranges (iinfo)");
    nb_lab_say(lab, "n bits without a sign hold 0 to 2^n - 1. In two's complement the first bit counts -2^(n-1), so n "
                    "bits hold -2^(n-1) to 2^(n-1) - 1: one more below zero than above.");
    nb_lab_table *t = nb_lab_table_begin(lab, "iinfo", columns, 4);
    for (int f = 0; f < NB_NUMBERS; f++) {
        nb_number_info i = nb_number_get(f);
        if (!i.is_integer)
            continue;
        nb_lab_cell_text(t, "%s", i.name);
        nb_lab_cell(t, i.bits);
        nb_lab_cell_text(t, "%lld", (long long)i.integer_min);
        nb_lab_cell_text(t, "%llu", (unsigned long long)i.integer_max);
    }
}

static void show_floats(nb_lab *lab)
{
    static const nb_lab_column columns[] = {
        {"format", "format", NB_LAB_TEXT, 0},      {"bits", "bits", NB_LAB_COUNT, 0},
        {"exponent_bits", "exp", NB_LAB_COUNT, 0}, {"fraction_bits", "frac", NB_LAB_COUNT, 0},
        {"max", "max", NB_LAB_DIGITS, 4},          {"least_normal", "least normal", NB_LAB_DIGITS, 4},
        {"least", "least > 0", NB_LAB_DIGITS, 4},  {"epsilon", "epsilon", NB_LAB_DIGITS, 4}};
    nb_lab_section(lab, "finfo", "Floating point: range and precision (finfo)");
    nb_lab_say(lab,
               "Exponent bits buy range, fraction bits buy precision. Epsilon is the step from 1 to the next number: "
               "halving it takes one more fraction bit. Below the least normal number the step stays the same "
               "(subnormal numbers), so precision runs out bit by bit.");
    nb_lab_table *t = nb_lab_table_begin(lab, "finfo", columns, 8);
    for (int f = 0; f < NB_NUMBERS; f++) {
        nb_number_info i = nb_number_get(f);
        if (i.is_integer)
            continue;
        nb_lab_cell_text(t, "%s", i.name);
        nb_lab_cell(t, i.bits);
        nb_lab_cell(t, i.exponent_bits);
        nb_lab_cell(t, i.mantissa_bits);
        nb_lab_cell(t, i.max);
        nb_lab_cell(t, i.least_normal);
        nb_lab_cell(t, i.least);
        nb_lab_cell(t, i.epsilon);
    }
}

/* ---- number lines of what has at most 8 bits ---- */

static const nb_number small_formats[] = {NB_NUMBER_I4,      NB_NUMBER_F4_E2M1, NB_NUMBER_F6_E2M3,
                                          NB_NUMBER_F6_E3M2, NB_NUMBER_F8_E4M3, NB_NUMBER_F8_E5M2,
                                          NB_NUMBER_UE4M3,   NB_NUMBER_F8_E8M0, NB_NUMBER_I8};
enum { SMALL_FORMATS = sizeof small_formats / sizeof *small_formats };

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The different finite numbers of a format, ascending. */
static size_t numbers_of(nb_number f, double values[256])
{
    size_t n = 0, kept = 0, codes = (size_t)1 << nb_number_get(f).bits;
    for (size_t code = 0; code < codes; code++) {
        double x = nb_number_decode(f, code);
        if (isfinite(x))
            values[n++] = x + 0.0; /* one zero, not two */
    }
    qsort(values, n, sizeof *values, compare);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || values[i] != values[kept - 1])
            values[kept++] = values[i];
    return kept;
}

static void list_fp4(nb_lab *lab)
{
    char line[MAX_LINE];
    double values[256];
    size_t n = numbers_of(NB_NUMBER_F4_E2M1, values);
    int at = snprintf(line, sizeof line, "f4_e2m1:");
    for (size_t i = 0; i < n; i++)
        at += snprintf(line + at, sizeof line - (size_t)at, " %g", values[i]);
    nb_lab_code(lab, "%s", line);
}

static void show_lines(nb_lab *lab)
{
    static const nb_lab_column columns[] = {
        {"format", "format", NB_LAB_TEXT, 0},     {"numbers", "numbers", NB_LAB_COUNT, 0},
        {"to_one", "in (0, 1]", NB_LAB_COUNT, 0}, {"above_one", "above 1", NB_LAB_COUNT, 0},
        {"least", "least > 0", NB_LAB_DIGITS, 4}, {"max", "max", NB_LAB_DIGITS, 4},
        {"octaves", "octaves", NB_LAB_FIXED, 1}};
    double values[256];
    nb_lab_section(lab, "lines", "All numbers of the small formats");
    nb_lab_say(
        lab,
        "Whole numbers are evenly spaced. Floats are evenly spaced only between two powers of two: each octave has "
        "as many as the one below it, twice as far apart. E8M0 is nothing but powers of two: a scale.");
    list_fp4(lab);
    nb_lab_table *t = nb_lab_table_begin(lab, "lines", columns, 7);
    nb_lab_strokes *near = nb_lab_strokes_begin(lab, "near_zero", (nb_lab_axis){.label = "value", .lo = -10, .hi = 10});
    nb_lab_caption(lab, "Between -10 and 10. A stroke is a number that the format has.");
    nb_lab_strokes *all = nb_lab_strokes_begin(
        lab, "positive", (nb_lab_axis){.label = "value, logarithmic", .log = true, .lo = 1e-6, .hi = 1e5});
    nb_lab_caption(lab, "The positive numbers from 10^-6 to 10^5, each octave as wide as the other.");
    for (size_t f = 0; f < SMALL_FORMATS; f++) {
        size_t n = numbers_of(small_formats[f], values), to_one = 0, above_one = 0;
        nb_number_info i = nb_number_get(small_formats[f]);
        double least = i.is_integer ? 1 : i.least;
        for (size_t k = 0; k < n; k++) {
            to_one += values[k] > 0 && values[k] <= 1;
            above_one += values[k] > 1;
        }
        nb_lab_cell_text(t, "%s", i.name);
        nb_lab_cell(t, (double)n);
        nb_lab_cell(t, (double)to_one);
        nb_lab_cell(t, (double)above_one);
        nb_lab_cell(t, least);
        nb_lab_cell(t, i.max);
        nb_lab_cell(t, log2(i.max / least));
        nb_lab_strokes_row(near, i.name, values, n);
        nb_lab_strokes_row(all, i.name, values, n);
    }
}

/* ---- downcasting ---- */

static const nb_number cast_to[] = {NB_NUMBER_F32,     NB_NUMBER_F16,     NB_NUMBER_BF16,
                                    NB_NUMBER_F8_E4M3, NB_NUMBER_F8_E5M2, NB_NUMBER_F4_E2M1};
enum { CASTS = sizeof cast_to / sizeof *cast_to };

typedef struct loss {
    size_t over, under, subnormal, kept; /* too large; to zero though it was none; in precision that runs out; finite */
    double error, norm;                  /* sums of squares of the kept */
} loss;

static loss cast(nb_number f, const float *x, size_t n)
{
    nb_number_info i = nb_number_get(f);
    loss l = {0};
    for (size_t k = 0; k < n; k++) {
        double value = (double)x[k], y = nb_number_decode(f, encode(f, value));
        form became = form_of(&i, value, y);
        if (became == NO_NUMBER || became == INFINITE || became == CLIPPED) {
            l.over++;
            continue;
        }
        l.under += y == 0 && value != 0;
        l.subnormal += became == SUBNORMAL;
        l.kept++;
        l.error += (y - value) * (y - value);
        l.norm += value * value;
    }
    return l;
}

static const nb_lab_column cast_columns[] = {
    {"format", "format", NB_LAB_TEXT, 0},          {"bytes", "memory", NB_LAB_BYTES, 0},
    {"overflow", "too large", NB_LAB_PERCENT, 2},  {"underflow", "became 0", NB_LAB_PERCENT, 2},
    {"subnormal", "subnormal", NB_LAB_PERCENT, 2}, {"relative_error", "error of the rest", NB_LAB_DIGITS, 3},
};

static void draw_casts(nb_lab *lab, const loss *losses, size_t n)
{
    const char *names[CASTS];
    double at[CASTS], over[CASTS], under[CASTS], subnormal[CASTS];
    for (size_t f = 0; f < CASTS; f++) {
        names[f] = nb_number_get(cast_to[f]).name;
        at[f] = (double)f;
        over[f] = 100 * (double)losses[f].over / (double)n;
        under[f] = 100 * (double)losses[f].under / (double)n;
        subnormal[f] = 100 * (double)losses[f].subnormal / (double)n;
    }
    nb_lab_chart *c = nb_lab_chart_begin(lab, "shares",
                                         (nb_lab_axis){.label = "format", .names = names, .name_count = CASTS},
                                         (nb_lab_axis){.label = "% of the values", .lo = 0, .hi = 100});
    nb_lab_caption(lab, "What becomes of %zu values in each format", n);
    nb_lab_series(c, "too large", NB_LAB_BARS, at, over, CASTS);
    nb_lab_series(c, "became 0", NB_LAB_BARS, at, under, CASTS);
    nb_lab_series(c, "subnormal", NB_LAB_BARS, at, subnormal, CASTS);
}

static void put_casts(nb_lab *lab, const float *x, size_t n, double values)
{
    loss losses[CASTS];
    nb_lab_table *t = nb_lab_table_begin(lab, "casts", cast_columns, 6);
    for (size_t f = 0; f < CASTS; f++) {
        nb_number_info i = nb_number_get(cast_to[f]);
        loss l = losses[f] = cast(cast_to[f], x, n);
        nb_lab_cell_text(t, "%s", i.name);
        nb_lab_cell(t, values * i.bits / 8);
        nb_lab_cell(t, (double)l.over / (double)n);
        nb_lab_cell(t, (double)l.under / (double)n);
        nb_lab_cell(t, (double)l.subnormal / (double)n);
        nb_lab_cell(t, l.norm > 0 ? sqrt(l.error / l.norm) : NAN);
    }
    draw_casts(lab, losses, n);
}

static void show_spread(nb_lab *lab, uint64_t seed, float *x)
{
    nb_rng r;
    nb_rng_seed(&r, seed);
    for (size_t i = 0; i < SPREAD_LENGTH; i++)
        x[i] = (float)(nb_lab_normal(&r) * pow(10, -8 + 16 * nb_rng_unit(&r)));
    nb_lab_section(lab, "range", "Downcasting: range lost");
    nb_lab_say(
        lab,
        "%d random numbers with sizes from 10^-8 to 10^8 lose both ends in formats with few exponent bits. BF16 keeps "
        "the range of F32 and gives up precision; F16 the other way round. The error is the root mean square "
        "relative to what was neither too large nor cut off.",
        SPREAD_LENGTH);
    put_casts(lab, x, SPREAD_LENGTH, SPREAD_LENGTH);
}

/* x . x of numbers in [0, 1), as in the lecture */
static void show_product(nb_lab *lab, uint64_t seed, float *x)
{
    static const nb_lab_column columns[] = {{"format", "format", NB_LAB_TEXT, 0},
                                            {"product", "x . x", NB_LAB_DIGITS, 9},
                                            {"relative_error", "error", NB_LAB_DIGITS, 3},
                                            {"bytes", "memory", NB_LAB_BYTES, 0}};
    double exact = 0;
    nb_rng r;
    nb_rng_seed(&r, seed);
    for (size_t i = 0; i < PRODUCT_LENGTH; i++) {
        x[i] = (float)nb_rng_unit(&r);
        exact += (double)x[i] * (double)x[i];
    }
    nb_lab_section(lab, "precision", "Downcasting: precision lost");
    nb_lab_say(
        lab,
        "A tensor of %d random numbers in [0, 1), downcast, times itself. Its values, and the result, are rounded to "
        "the format; the sum between is kept in F64, as hardware keeps it in F32.",
        PRODUCT_LENGTH);
    nb_lab_table *t = nb_lab_table_begin(lab, "products", columns, 4);
    for (size_t f = 0; f < CASTS; f++) {
        double sum = 0;
        for (size_t i = 0; i < PRODUCT_LENGTH; i++)
            sum += pow(nb_number_decode(cast_to[f], encode(cast_to[f], (double)x[i])), 2);
        sum = nb_number_decode(cast_to[f], encode(cast_to[f], sum));
        nb_lab_cell_text(t, "%s", nb_number_get(cast_to[f]).name);
        nb_lab_cell(t, sum);
        nb_lab_cell(t, fabs(sum - exact) / exact);
        nb_lab_cell(t, PRODUCT_LENGTH * nb_number_get(cast_to[f]).bits / 8.0);
    }
    nb_lab_caption(lab, "Exact: %.9g", exact);
}

static nb_status show_casts(nb_lab *lab, uint64_t seed, nb_error *err)
{
    float *x = calloc(SPREAD_LENGTH, sizeof *x);
    if (!x)
        return nb_fail_memory(err, "random numbers", SPREAD_LENGTH * sizeof *x);
    show_product(lab, seed, x);
    show_spread(lab, seed, x);
    free(x);
    return NB_OK;
}

/* ---- what fewer bits buy ---- */

enum { READ_BYTES = 256 << 20 };

typedef struct machine { /* what it can do at best, measured: bytes and operations a second; 0: no instruction for it */
    double read, f32, bf16, int8;
} machine;

static nb_status measure(machine *m, nb_error *err)
{
    nb_team *team;
    NB_TRY(nb_team_new(0, false, &team, err));
    char *data = nb_pages_alloc(READ_BYTES);
    if (data) {
        memset(data, 1, READ_BYTES);
        m->read = nb_ceiling_read(team, data, READ_BYTES, 2);
        m->f32 = nb_ceiling_f32(team, nb_cpu_current());
        m->bf16 = nb_ceiling_bf16(team, nb_cpu_current());
        m->int8 = nb_ceiling_int8(team, nb_cpu_current());
        nb_pages_free(data, READ_BYTES);
    }
    nb_team_free(team);
    return data ? NB_OK : nb_fail_memory(err, "what is read", READ_BYTES);
}

static nb_status show_gain(nb_lab *lab, nb_error *err)
{
    static const nb_number formats[] = {NB_NUMBER_F32, NB_NUMBER_F16, NB_NUMBER_BF16, NB_NUMBER_I8, NB_NUMBER_I4};
    static const nb_lab_column columns[] = {{"format", "format", NB_LAB_TEXT, 0},
                                            {"bytes", "memory", NB_LAB_BYTES, 0},
                                            {"seconds", "to read it once", NB_LAB_SECONDS, 0},
                                            {"operations", "10^9 operations /s", NB_LAB_COUNT, 0}};
    machine m = {0};
    NB_TRY(measure(&m, err));
    nb_lab_section(lab, "gain", "Why quantize: what fewer bits buy on this machine");
    nb_lab_say(lab,
               "A model that writes a token reads all its weights: half the bits, half the memory, half the time. "
               "Where the processor "
               "has instructions for small formats, arithmetic is faster too. Measured here and now: reading %d MB "
               "from memory, and "
               "multiplications and additions from registers, on all processors.",
               READ_BYTES >> 20);
    nb_lab_table *t = nb_lab_table_begin(lab, "formats", columns, 4);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        nb_number_info f = nb_number_get(formats[i]);
        double rate = formats[i] == NB_NUMBER_F32    ? m.f32
                      : formats[i] == NB_NUMBER_BF16 ? m.bf16
                      : formats[i] == NB_NUMBER_I8   ? m.int8
                                                     : 0;
        nb_lab_cell_text(t, "%s", f.name);
        nb_lab_cell(t, 1e9 * f.bits / 8);
        nb_lab_cell(t, m.read > 0 ? 1e9 * f.bits / 8 / m.read : NAN);
        nb_lab_cell(t, rate > 0 ? round(rate / 1e9) : NAN);
    }
    nb_lab_caption(lab, "A billion parameters (-: not measured, or no instruction for it)");
    nb_lab_fact(lab, "read", "read bandwidth", NB_LAB_BYTES, 0, m.read, "a second");
    return NB_OK;
}

/* ---- a model ---- */

static void list_parameters(nb_lab *lab, const nb_source *s)
{
    static const nb_lab_column columns[] = {{"name", "parameter", NB_LAB_TEXT, 0},
                                            {"dtype", "dtype", NB_LAB_TEXT, 0},
                                            {"shape", "shape", NB_LAB_TEXT, 0},
                                            {"values", "values", NB_LAB_COUNT, 0}};
    nb_lab_table *t = nb_lab_table_begin(lab, "parameters", columns, 4);
    for (size_t i = 0; i < s->tensor_count && i < SHOWN_TENSORS; i++) {
        const nb_source_tensor *p = &s->tensors[i];
        nb_lab_cell_text(t, "%.*s", NB_STR_ARG(p->name));
        nb_lab_cell_text(t, "%s", p->type->name);
        if (p->n_dims > 1)
            nb_lab_cell_text(t, "%llu x %llu", (unsigned long long)nb_source_rows(p), (unsigned long long)p->dims[0]);
        else
            nb_lab_cell_text(t, "%llu", (unsigned long long)p->dims[0]);
        nb_lab_cell(t, (double)p->dims[0] * (double)nb_source_rows(p));
    }
    nb_lab_caption(lab, "The first %zu of %zu parameters", nb_min_size(SHOWN_TENSORS, s->tensor_count),
                   s->tensor_count);
}

static void sum_types(nb_lab *lab, const nb_source *s, double *values, double *bytes)
{
    static const nb_lab_column columns[] = {{"dtype", "dtype", NB_LAB_TEXT, 0},
                                            {"parameters", "parameters", NB_LAB_COUNT, 0},
                                            {"values", "values", NB_LAB_COUNT, 0},
                                            {"bytes", "memory", NB_LAB_BYTES, 0}};
    nb_lab_table *t = nb_lab_table_begin(lab, "types", columns, 4);
    *values = *bytes = 0;
    for (uint32_t id = 0; id < NB_TYPE_LIMIT; id++) {
        double own = 0, count = 0;
        const nb_type_info *type = nb_type_get(id);
        for (size_t i = 0; i < s->tensor_count; i++)
            if (type && s->tensors[i].type == type) {
                count++;
                own += (double)s->tensors[i].dims[0] * (double)nb_source_rows(&s->tensors[i]);
            }
        if (count == 0)
            continue;
        double size = own / type->block_values * type->block_bytes;
        nb_lab_cell_text(t, "%s", type->name);
        nb_lab_cell(t, count);
        nb_lab_cell(t, own);
        nb_lab_cell(t, size);
        *values += own;
        *bytes += size;
    }
    nb_lab_fact(lab, "values", "parameters in all", NB_LAB_COUNT, 0, *values, NULL);
    nb_lab_fact(lab, "bytes", "memory footprint", NB_LAB_BYTES, 0, *bytes, NULL);
}

/* Up to SAMPLE_VALUES of the matrices' values, evenly from all of them. */
static nb_status sample(const nb_source *s, double values, float *x, size_t *n, nb_error *err)
{
    double every = fmax(1, values / SAMPLE_VALUES), next = 0, row_number = 0;
    *n = 0;
    for (size_t i = 0; i < s->tensor_count; i++) {
        const nb_source_tensor *t = &s->tensors[i];
        for (uint64_t row = 0; t->n_dims > 1 && row < nb_source_rows(t); row++, row_number++) {
            if (row_number < next || *n + t->dims[0] > SAMPLE_VALUES)
                continue;
            NB_TRY(nb_source_floats(s, i, row, 1, x + *n, err));
            *n += t->dims[0];
            next += every;
        }
    }
    return NB_OK;
}

static nb_status cast_model(nb_lab *lab, const nb_source *s, double values, nb_error *err)
{
    size_t n;
    float *x = calloc(SAMPLE_VALUES, sizeof *x);
    if (!x)
        return nb_fail_memory(err, "weights", SAMPLE_VALUES * sizeof *x);
    nb_status status = sample(s, values, x, &n, err);
    if (status == NB_OK && n > 0) {
        nb_lab_say(
            lab,
            "Its weights, downcast (%zu values of its matrices, rows taken evenly from all of them): real weights are "
            "small and close together. 16 bits hold them; with few bits most are too small to be anything "
            "but 0. That is what a scale is for: see the topic linear.",
            n);
        put_casts(lab, x, n, values);
    }
    free(x);
    return status;
}

static nb_status show_model(nb_lab *lab, const char *path, nb_error *err)
{
    nb_source *s;
    double values, bytes;
    NB_TRY(nb_source_open(path, &s, err));
    nb_lab_section(lab, "model", "A model's parameters");
    nb_lab_say(lab,
               "A parameter is a tensor of numbers that training found. Each has a data type; values times bits / 8 is "
               "what it takes in memory.");
    nb_lab_fact_text(lab, "model", "model", "%s", nb_lab_base_name(path));
    list_parameters(lab, s);
    sum_types(lab, s, &values, &bytes);
    nb_status status = cast_model(lab, s, values, err);
    nb_source_free(s);
    return status;
}

/* ---- all of it ---- */

static nb_status choose_format(const char *name, nb_number *out, nb_error *err)
{
    *out = NB_NUMBER_F32;
    if (!name)
        return NB_OK;
    for (int f = 0; f < NB_NUMBERS; f++)
        if (strcasecmp(nb_number_get(f).name, name) == 0) {
            *out = f;
            return NB_OK;
        }
    return nb_fail(err, NB_ERR_ARGUMENT, "there is no number format '%s'; `nibble lab dtypes` shows all of them", name);
}

nb_status nb_lab_dtypes(const nb_lab_params *p, nb_lab *lab, nb_error *err)
{
    static const char *const preset[] = {"0.1", "70000"};
    char path[1024];
    nb_number chosen;
    NB_TRY(choose_format(p->format, &chosen, err));
    size_t count = p->argument_count ? p->argument_count : 2;
    for (size_t i = 0; i < count; i++)
        NB_TRY(show_value(lab, i, p->argument_count ? p->arguments[i] : preset[i], chosen, err));
    show_integers(lab);
    show_floats(lab);
    show_lines(lab);
    NB_TRY(show_casts(lab, (uint64_t)p->seed, err));
    NB_TRY(show_gain(lab, err));
    if (nb_lab_find_model(p, NB_LAB_WEIGHTS, path, err) == NB_OK)
        return show_model(lab, path, err);
    nb_lab_section(lab, "model", "A model's parameters");
    nb_lab_say(
        lab,
        "No model is here. --model FILE, or `tools/fetch-model minilm`, shows the dtypes of real parameters and what "
        "downcasting does to them.");
    return NB_OK;
}
