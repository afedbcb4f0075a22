/* LLM.int8() for one token at a time: large activations beside small ones, against the product in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernel/matmul.h"

enum { ROWS = 40, K = 320, TOKENS = 27 }; /* two tiles and a half, more than a piece, three panels and a rest */
static const float THRESHOLD = 6;

static uint32_t random_state = 5;

static float random_float(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(int32_t)random_state * 0x1p-31f;
}

typedef struct problem {
    nb_block_int8 weights[ROWS][K / 32];
    float x[TOKENS][K];
    float y[TOKENS][ROWS];
} problem;

/* Token t has outliers of 300 in every block of 32, at other places than its neighbours; `blind` rows do not look there. */
static problem *make_problem(bool blind)
{
    problem *p = calloc(1, sizeof *p);
    assert_non_null(p);
    for (int r = 0; r < ROWS; r++)
        for (int b = 0; b < K / 32; b++) {
            p->weights[r][b].d = 0.01f + 0.001f * (float)(r + b);
            for (int i = 0; i < 32; i++)
                p->weights[r][b].qs[i] = blind && i < TOKENS ? 0 : (int8_t)(random_float() * 127);
        }
    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < K; i++)
            p->x[t][i] = i % 32 == t ? (i % 64 < 32 ? 300.0f : -311.0f) : random_float();
    return p;
}

static void *aligned(size_t bytes)
{
    void *p = aligned_alloc(64, nb_round_up(bytes + 64, 64));
    assert_non_null(p);
    memset(p, 0xee, nb_round_up(bytes + 64, 64));
    return p;
}

/* tokens [first, first + n) */
static void run(const problem *p, nb_act_format format, float threshold, bool packed, size_t first, size_t n,
                float y[][ROWS])
{
    size_t bytes;
    assert_true(nb_packed_bytes(NB_TYPE_INT8, ROWS, K, &bytes));
    void *act = aligned(nb_act_bytes(format, K, n)), *tiles = aligned(bytes);
    void *scratch = aligned(nb_matmul_scratch(NB_TYPE_INT8, format, K, n));
    size_t panels = nb_act_panels(n), half = panels / 2;
    nb_pack(NB_TYPE_INT8, p->weights, ROWS, K, tiles, 0, (ROWS + 15) / 16);
    if (format == NB_ACT_INT8) {
        nb_act_write_int8(p->x[first], K, n, K, half, panels, threshold, act);
        nb_act_write_int8(p->x[first], K, n, K, 0, half, threshold, act);
    } else {
        nb_act_write(format, p->x[first], K, n, K, 0, panels, 0, K, act);
    }
    nb_matmul m = {.type = NB_TYPE_INT8,
                   .packed = packed,
                   .weights = packed ? tiles : (const void *)p->weights,
                   .rows = ROWS,
                   .k = K,
                   .format = format,
                   .act = act,
                   .n_tokens = n,
                   .y = y[0],
                   .y_stride = ROWS,
                   .scratch = scratch};
    nb_matmul_run(&m, 0, ROWS);
    free(act);
    free(tiles);
    free(scratch);
}

static double error_of(const problem *p)
{
    double difference = 0, power = 0;
    for (int t = 0; t < TOKENS; t++)
        for (int r = 0; r < ROWS; r++) {
            double want = 0;
            for (int i = 0; i < K; i++)
                want += (double)p->x[t][i] * (double)p->weights[r][i / 32].qs[i % 32] * (double)p->weights[r][i / 32].d;
            difference += ((double)p->y[t][r] - want) * ((double)p->y[t][r] - want);
            power += want * want;
        }
    return difference / power;
}

static void each_level(void (*check)(problem *p, bool blind))
{
    for (int level = 0; level <= (int)nb_cpu_best(); level++)
        for (int blind = 0; blind < 2; blind++) {
            nb_cpu_set_level((nb_cpu_level)level);
            problem *p = make_problem(blind);
            check(p, blind);
            free(p);
        }
    nb_cpu_set_level(nb_cpu_best());
}

/* In 8 bits beside 300 the small values have a step of 2.4: where the rows look at them alone, nothing is left. */
static void check_loss(problem *p, bool blind)
{
    run(p, NB_ACT_INT8, THRESHOLD, true, 0, TOKENS, p->y);
    double left_out = error_of(p);
    run(p, NB_ACT_Q8, 0, true, 0, TOKENS, p->y);
    double left_in = error_of(p);
    if (!(left_out < (blind ? 5e-5 : 1e-8)) || !(left_in > (blind ? 0.5 : 1e-6)))
        fail_msg("NMSE %g with outliers left out, %g with them in 8 bits", left_out, left_in);
}

static void test_loss(void **state)
{
    (void)state;
    each_level(check_loss);
}

/* Each token by itself, by twos, packed or not: the same bits. At 0.4 most values are outliers, at 1000 none. */
static void check_invariance(problem *p, bool blind)
{
    static float other[TOKENS][ROWS];
    static const float thresholds[] = {0.4f, 0.9f, 6, 1000};
    (void)blind;
    for (int i = 0; i < 4; i++) {
        run(p, NB_ACT_INT8, thresholds[i], true, 0, TOKENS, p->y);
        for (int packed = 0; packed < 2; packed++)
            for (size_t step = 1; step <= TOKENS; step = step * 3 + 1) {
                memset(other, 0xee, sizeof other);
                for (size_t t = 0; t < TOKENS; t += step)
                    run(p, NB_ACT_INT8, thresholds[i], packed, t, nb_min_size(step, TOKENS - t), other + t);
                assert_memory_equal(other, p->y, sizeof other);
            }
    }
    run(p, NB_ACT_Q8, 0, true, 0, TOKENS, other);
    assert_memory_equal(other, p->y, sizeof other);
}

static void test_invariance(void **state)
{
    (void)state;
    each_level(check_invariance);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_loss), cmocka_unit_test(test_invariance)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
