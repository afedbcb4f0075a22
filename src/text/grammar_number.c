/* grammar_number.c - JSON's numbers as texts: those in a range, and the multiples of one. Digits are compared one by one with
 * those of the bounds, so that nothing is rounded. */
#include <stdlib.h>

#include "text/grammar_regular.h"

enum {
    WHOLE_DIGITS = 18, /* that a number may have, where no bound has more: fits 64 bits */
    FRACTION_DIGITS = 17,
    EXACT_DIGITS = 15, /* that any double tells apart: of fractions near a bound, and of multiples */
    BOUND_DIGITS = 400,
    MULTIPLE_STATES = 8192,
    MULTIPLE_FRACTION = 32
};

/* ---- decimals ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* All digits of the text, and where the point is, counted from the first of them. */
static void read_digits(nb_str text, char *digits, long *count, long *point)
{
    size_t i = text.n > 0 && text.p[0] == '-';
    long exponent = 0;
    *count = 0;
    *point = -1;
    for (; i < text.n && (is_digit(text.p[i]) || text.p[i] == '.'); i++)
        if (text.p[i] == '.')
            *point = *count;
        else
            digits[(*count)++] = text.p[i];
    if (*point < 0)
        *point = *count;
    if (i < text.n) { /* the exponent */
        bool negative = i + 1 < text.n && text.p[i + 1] == '-';
        for (i++; i < text.n; i++)
            if (is_digit(text.p[i]) && exponent < 100000)
                exponent = 10 * exponent + (text.p[i] - '0');
        *point += negative ? -exponent : exponent;
    }
}

nb_status nb_decimal_read(nb_str text, nb_arena *arena, nb_decimal *out, nb_error *err)
{
    char digits[2 * BOUND_DIGITS];
    long count, point, first = 0;
    if (text.n > sizeof digits)
        return nb_fail(err, NB_ERR_LIMIT, "the number %.*s is too long", NB_STR_ARG(text));
    read_digits(text, digits, &count, &point);
    while (first < count && digits[first] == '0')
        first++;
    while (count > first && digits[count - 1] == '0')
        count--;
    *out = (nb_decimal){.negative = text.n > 0 && text.p[0] == '-' && count > first};
    if (count == first)
        return NB_OK;
    /* zeros between the point and the digits, on one side or the other */
    long whole = point - first > 0 ? point - first : 0, before = point < first ? first - point : 0;
    long after = point > count ? point - count : 0, total = before + (count - first) + after;
    if (total > BOUND_DIGITS || whole > BOUND_DIGITS)
        return nb_fail(err, NB_ERR_LIMIT, "the number %.*s has more than %d digits", NB_STR_ARG(text), BOUND_DIGITS);
    out->digits = nb_arena_alloc(arena, (size_t)total, 1);
    if (!out->digits)
        return nb_fail_memory(err, "a number", (size_t)total);
    memset(out->digits, '0', (size_t)total);
    memcpy(out->digits + before, digits + first, (size_t)(count - first));
    out->whole = (size_t)whole;
    out->count = (size_t)total;
    return NB_OK;
}

static int digit_at(const nb_decimal *d, size_t i) { return i < d->count ? d->digits[i] - '0' : 0; }

static int compare_size(const nb_decimal *a, const nb_decimal *b)
{
    if (a->whole != b->whole)
        return a->whole < b->whole ? -1 : 1;
    for (size_t i = 0; i < a->count || i < b->count; i++)
        if (digit_at(a, i) != digit_at(b, i))
            return digit_at(a, i) < digit_at(b, i) ? -1 : 1;
    return 0;
}

int nb_decimal_compare(const nb_decimal *a, const nb_decimal *b)
{
    if (a->negative != b->negative)
        return a->negative ? -1 : 1;
    return a->negative ? compare_size(b, a) : compare_size(a, b);
}

bool nb_decimal_is_whole(const nb_decimal *d) { return d->count <= d->whole; }

/* ---- a range ---- */

typedef struct sizes { /* numbers without a sign */
    nb_regular *r;
    uint32_t end;
    const nb_decimal *low, *high;
    bool above, below, whole, exact;
    size_t length, most; /* digits before the point; in all */
    uint32_t *states;    /* [(most + 1) * 4] by digits read and which bounds still hold; UINT32_MAX: not made */
} sizes;

/* With the digits read so far and zeros for the rest: still within the bounds that hold? */
static bool may_stop(const sizes *z, size_t i, bool at_low, bool at_high)
{
    bool rest_low = false, rest_high = false;
    for (size_t k = i; z->low && k < z->low->count; k++)
        rest_low |= digit_at(z->low, k) != 0;
    for (size_t k = i; z->high && k < z->high->count; k++)
        rest_high |= digit_at(z->high, k) != 0;
    return !(at_low && (rest_low || z->above)) && !(at_high && z->below && !rest_high);
}

static uint32_t size_state(sizes *z, size_t i, bool at_low, bool at_high);

static void add_digits(sizes *z, uint32_t from, size_t i, bool at_low, bool at_high)
{
    int first = at_low ? digit_at(z->low, i) : 0, last = at_high ? digit_at(z->high, i) : 9;
    for (int d = i == 0 && z->length > 1 && first == 0 ? 1 : first; d <= last; d++) {
        bool low = at_low && d == digit_at(z->low, i), high = at_high && d == digit_at(z->high, i);
        nb_regular_chars(z->r, from, size_state(z, i + 1, low, high), '0' + (uint32_t)d, '0' + (uint32_t)d);
    }
}

/* The state after i digits; at_low, at_high: they are the bound's own. */
static uint32_t size_state(sizes *z, size_t i, bool at_low, bool at_high)
{
    uint32_t *known = &z->states[i * 4 + at_low * 2 + at_high];
    if (*known != UINT32_MAX)
        return *known;
    uint32_t s = *known = nb_regular_state(z->r);
    if (z->r->status != NB_OK)
        return s;
    if (i >= z->length && may_stop(z, i, at_low, at_high))
        nb_regular_empty(z->r, s, z->end);
    if (i < z->length) {
        add_digits(z, s, i, at_low, at_high);
    } else if (i < z->most && !z->whole) {
        uint32_t from = s;
        if (i == z->length) {
            from = nb_regular_state(z->r);
            nb_regular_chars(z->r, s, from, '.', '.');
        }
        add_digits(z, from, i, at_low, at_high);
    }
    return s;
}

/* A zero before the point is a digit here: 0.5 has one digit before the point, and a bound of 0.5 is brought to that. */
static bool with_zero(const nb_decimal *d, nb_arena *arena, nb_decimal *out)
{
    *out = *d;
    if (d->whole > 0)
        return true;
    out->digits = nb_arena_alloc(arena, d->count + 1, 1);
    if (!out->digits)
        return false;
    out->digits[0] = '0';
    if (d->count > 0)
        memcpy(out->digits + 1, d->digits, d->count);
    out->whole = 1;
    out->count = d->count + 1;
    return true;
}

/* Numbers without sign from low to high (NULL: no bound). */
static nb_status add_sizes(sizes z, uint32_t start, nb_arena *arena)
{
    nb_decimal low, high;
    if ((z.low && !with_zero(z.low, arena, &low)) || (z.high && !with_zero(z.high, arena, &high)))
        return nb_fail_memory(z.r->err, "a number", BOUND_DIGITS);
    z.low = z.low ? &low : NULL;
    z.high = z.high ? &high : NULL;
    size_t shortest = z.low ? low.whole : 1, longest = z.exact ? EXACT_DIGITS : WHOLE_DIGITS;
    longest = nb_max_size(longest, shortest + 1);
    if (z.high)
        longest = nb_min_size(longest, high.whole);
    for (z.length = shortest; z.length <= longest && z.r->status == NB_OK; z.length++) {
        bool at_low = z.low && low.whole == z.length, at_high = z.high && high.whole == z.length;
        size_t fraction = z.exact ? EXACT_DIGITS - nb_min_size(z.length, EXACT_DIGITS) : FRACTION_DIGITS;
        if (at_low && low.count > low.whole)
            fraction = nb_max_size(fraction, low.count - low.whole + 1);
        if (at_high && high.count > high.whole)
            fraction = nb_max_size(fraction, high.count - high.whole + 1);
        z.most = z.length + (z.whole ? 0 : fraction);
        z.states = NB_ARRAY(arena, uint32_t, (z.most + 1) * 4);
        if (!z.states)
            return nb_fail_memory(z.r->err, "a number", z.most * 16);
        memset(z.states, 0xFF, (z.most + 1) * 4 * sizeof *z.states);
        nb_regular_empty(z.r, start, size_state(&z, 0, at_low, at_high));
    }
    return z.r->status;
}

/* Any number at all may have an exponent. */
static void add_exponent(nb_regular *r, uint32_t from, uint32_t to)
{
    uint32_t e = nb_regular_state(r), sign = nb_regular_state(r), digit = nb_regular_state(r);
    nb_regular_empty(r, from, to);
    nb_regular_chars(r, from, e, 'e', 'e');
    nb_regular_chars(r, from, e, 'E', 'E');
    nb_regular_chars(r, e, sign, '+', '+');
    nb_regular_chars(r, e, sign, '-', '-');
    nb_regular_empty(r, e, sign);
    nb_regular_chars(r, sign, digit, '0', '9');
    nb_regular_chars(r, digit, to, '0', '9');
    nb_regular_empty(r, digit, to);
}

static nb_status add_range(const nb_number_range *n, nb_regular *r, uint32_t start, uint32_t end, nb_arena *arena)
{
    static const nb_decimal zero = {0};
    bool any = !n->low && !n->high && !n->whole;
    uint32_t sized = any ? nb_regular_state(r) : end;
    if (any)
        add_exponent(r, sized, end);
    sizes z = {.r = r, .end = sized, .whole = n->whole, .exact = n->exact || (!any && !n->whole)};
    if (!n->high || !n->high->negative) { /* zero and up */
        z.low = n->low && !n->low->negative ? n->low : &zero;
        z.above = n->low && !n->low->negative && n->above;
        z.high = n->high;
        z.below = n->high && n->below;
        NB_TRY(add_sizes(z, start, arena));
    }
    if (!n->low || n->low->negative) { /* below zero: sizes, the other way round */
        uint32_t minus = nb_regular_state(r);
        nb_regular_chars(r, start, minus, '-', '-');
        z.low = n->high && n->high->negative ? n->high : &zero;
        z.above = !n->high || !n->high->negative || n->below;
        z.high = n->low;
        z.below = n->low && n->above;
        NB_TRY(add_sizes(z, minus, arena));
    }
    return r->status;
}

nb_status nb_number_dfa(const nb_number_range *range, nb_arena *arena, nb_dfa **out, nb_error *err)
{
    nb_regular r = {.err = err};
    nb_arena scratch = {0};
    uint32_t start = nb_regular_state(&r), end = nb_regular_state(&r);
    *out = NULL;
    nb_status status = add_range(range, &r, start, end, &scratch);
    if (status == NB_OK)
        status = nb_regular_dfa(&r, start, end, UINT32_MAX, arena, out);
    nb_regular_free(&r);
    nb_arena_free(&scratch);
    return status;
}

/* ---- multiples ---- */

/* A text is the number of its digits over a power of ten. After f digits of the fraction, with the number r modulo m, it is
 * a multiple of m / 10^q when r 10^(q - f) is one of m. More digits than q are not written. */
nb_status nb_multiple_dfa(const nb_decimal *of, nb_arena *arena, nb_dfa **out, nb_error *err)
{
    nb_regular r = {.err = err};
    size_t q = of->count > of->whole ? of->count - of->whole : 0;
    uint64_t m = 0;
    *out = NULL;
    for (size_t i = 0; i < nb_max_size(of->whole, of->count) && m <= MULTIPLE_STATES; i++)
        m = 10 * m + (uint64_t)digit_at(of, i);
    if (m == 0 || q >= MULTIPLE_FRACTION || m * (q + 1) > MULTIPLE_STATES)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "multiples of a number of so many digits are not supported");
    uint32_t start = nb_regular_state(&r), first = nb_regular_state(&r), end = nb_regular_state(&r);
    uint32_t at[MULTIPLE_FRACTION];
    nb_regular_chars(&r, start, first, '-', '-');
    nb_regular_empty(&r, start, first);
    for (size_t f = 0; f <= q; f++) /* m states each, one after another */
        for (uint64_t k = 0; k < m; k++) {
            uint32_t s = nb_regular_state(&r);
            if (k == 0)
                at[f] = s;
        }
    for (uint32_t d = 0; d < 10; d++)
        nb_regular_chars(&r, first, at[0] + (uint32_t)(d % m), '0' + d, '0' + d);
    for (size_t f = 0; f <= q; f++)
        for (uint64_t k = 0; k < m; k++) {
            uint64_t rest = k;
            for (size_t i = f; i < q; i++)
                rest = rest * 10 % m;
            uint32_t s = at[f] + (uint32_t)k, dot = f == 0 && q > 0 ? nb_regular_state(&r) : s;
            if (rest == 0)
                nb_regular_empty(&r, s, end);
            if (dot != s)
                nb_regular_chars(&r, s, dot, '.', '.');
            for (uint32_t d = 0; d < 10; d++) {
                uint64_t next = (10 * k + d) % m;
                if (f == 0)
                    nb_regular_chars(&r, s, at[0] + (uint32_t)next, '0' + d, '0' + d);
                if (f < q)
                    nb_regular_chars(&r, dot, at[f + 1] + (uint32_t)next, '0' + d, '0' + d);
            }
        }
    nb_status status = nb_regular_dfa(&r, start, end, UINT32_MAX, arena, out);
    nb_regular_free(&r);
    return status;
}
