/* bfloat16 inputs at the ends of what the type holds, at every level: zeros of both signs, subnormal, huge, infinite and no
 * numbers, against the definition in float64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/specs.h"
#include "base/cpu.h"

#define QUERIES 9
#define KEYS 70
#define DIM 33 /* odd: the last pair is half empty */

typedef struct io {
    uint16_t q[QUERIES * DIM], k[KEYS * DIM], v[KEYS * DIM];
    nb_attention_params p;
    double want[QUERIES * DIM];
    float out[QUERIES * DIM], lse[QUERIES];
} io;

static io io_new(void)
{
    io x = {.p = nb_attention_defaults(1, 1, DIM, QUERIES, KEYS)};
    x.p.type = NB_FLOAT_BF16;
    for (size_t i = 0; i < KEYS * DIM; i++) {
        if (i < QUERIES * DIM)
            x.q[i] = nb_f32_to_bf16(normal_at(1, i));
        x.k[i] = nb_f32_to_bf16(normal_at(2, i));
        x.v[i] = nb_f32_to_bf16(normal_at(3, i));
    }
    return x;
}

static void run(io *x)
{
    assert_int_equal(nb_attention_exact(&x->p, x->q, x->k, x->v, x->want, NULL, NULL), NB_OK);
    memset(x->out, 0xff, sizeof x->out);
    assert_int_equal(nb_attention_flash(&x->p, x->q, x->k, x->v, x->out, x->lse, NULL, NULL, NULL), NB_OK);
}

/* Rows [first, last) are near the definition. */
static void check(const io *x, size_t first, size_t last, double bound, const char *what)
{
    for (size_t i = first * DIM; i < last * DIM; i++)
        if (!(fabs((double)x->out[i] - x->want[i]) <= bound))
            fail_msg("%s at %s: out[%zu] is %.9g, not %.9g", what, nb_cpu_level_name(nb_cpu_current()), i,
                     (double)x->out[i], x->want[i]);
}

static void fill(uint16_t *x, size_t n, uint16_t value)
{
    for (size_t i = 0; i < n; i++)
        x[i] = value;
}

static void at_levels(void (*test)(void))
{
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        test();
    }
    nb_cpu_set_level(nb_cpu_best());
}

/* A query or a key of them scores 0, whether they count as what they are or as 0; a value of them comes out as it is. */
static void check_small(void)
{
    static const uint16_t small[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x007f, 0x807f, 0x0080};
    for (size_t s = 0; s < sizeof small / sizeof *small; s++) {
        io x = io_new();
        fill(x.q + 2 * DIM, DIM, small[s]);
        fill(x.k + 64 * DIM, 2 * DIM, small[s]);
        for (size_t i = 0; i < 5 * DIM; i += 2) /* beside others, in either place of a pair */
            x.q[4 * DIM + i] = x.k[3 * DIM + i + (i / 2 & 1)] = small[s];
        run(&x);
        check(&x, 0, QUERIES, 2e-6, "small queries and keys");
        assert_true(fabs((double)x.lse[2] - log(KEYS)) < 1e-6);

        x = io_new();
        fill(x.v, KEYS * DIM, small[s]);
        run(&x);
        check(&x, 0, QUERIES, KEYS * 0x1p-149, "small values"); /* a rounding a key */
    }
}

static void test_small(void **state)
{
    (void)state;
    at_levels(check_small);
}

/* Scores of 1e4 to 1e36: the largest takes all. Values are summed before they are
 * divided, so those of 70 keys may be up to a 128th of the largest float. */
static void check_huge(void)
{
    static const float sizes[] = {1e2f, 1e9f, 1e18f};
    for (size_t s = 0; s < 3; s++) {
        io x = io_new();
        for (size_t i = 0; i < QUERIES * DIM; i++)
            x.q[i] = nb_f32_to_bf16(sizes[s]);
        for (size_t key = 0; key < KEYS; key++)
            fill(x.k + key * DIM, DIM, nb_f32_to_bf16(key == 66 ? sizes[s] : (float)(key % 9) * -0.1f * sizes[s]));
        run(&x);
        check(&x, 0, QUERIES, 2e-6, "huge scores");
        for (size_t d = 0; d < DIM; d++)
            assert_true(x.out[3 * DIM + d] == nb_bf16_to_f32(x.v[66 * DIM + d]));
    }
    io x = io_new();
    for (size_t i = 0; i < KEYS * DIM; i++)
        x.v[i] = i % 2 ? 0x7bff : 0xfbff;
    run(&x);
    check(&x, 0, QUERIES, 2e-6 * 0x1p121, "huge values");
}

static void test_huge(void **state)
{
    (void)state;
    at_levels(check_huge);
}

/* A score of -inf hides a key; one that is no number, or inf, spoils its row; an infinite or bad value its column. */
static void check_infinite(void)
{
    io x = io_new();
    for (size_t r = 0; r < QUERIES; r++)
        x.q[r * DIM + 32] = nb_f32_to_bf16(1.5f);
    x.k[5 * DIM + 32] = x.k[69 * DIM + 32] = 0xff80; /* -inf */
    run(&x);
    check(&x, 0, QUERIES, 2e-6, "scores of -inf");

    static const uint16_t bad[] = {0x7f80, 0x7fc0, 0xffc1};
    for (size_t b = 0; b < 3; b++) {
        x = io_new();
        fill(x.q + 7 * DIM, DIM, bad[b]);
        run(&x);
        check(&x, 0, 7, 2e-6, "rows beside a bad query");
        check(&x, 8, 9, 2e-6, "rows beside a bad query");
        for (size_t d = 0; d < DIM; d++)
            assert_true(isnan(x.out[7 * DIM + d]));

        x = io_new();
        x.v[40 * DIM + 6] = bad[b];
        run(&x);
        for (size_t i = 0; i < QUERIES * DIM; i++)
            assert_true(i % DIM == 6 ? b ? isnan(x.out[i]) : x.out[i] == INFINITY
                                     : fabs((double)x.out[i] - x.want[i]) <= 2e-6);
    }
}

static void test_infinite(void **state)
{
    (void)state;
    at_levels(check_infinite);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_small), cmocka_unit_test(test_huge),
                                       cmocka_unit_test(test_infinite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
