/* IQ1, IQ2 and IQ3: the error against libggml's on the same rows and weights, the choice of entries against trying all,
 * the same bytes at every instruction-set level, the plain formula's error, and rows that no model has. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "quant/quantize_iq.h"
#include "support/digest.h"
#include "support/quality.h"

/* Error of a round trip of 0.1 + 2 cos i, root of the summed squares over n, that a correct quantizer stays under. */
static const struct {
    nb_type type;
    double bound;
} types[] = {
    {NB_TYPE_IQ1_S, 0.025},  {NB_TYPE_IQ1_M, 0.025},   {NB_TYPE_IQ2_XXS, 0.0075}, {NB_TYPE_IQ2_XS, 0.0075},
    {NB_TYPE_IQ2_S, 0.0075}, {NB_TYPE_IQ3_XXS, 0.005}, {NB_TYPE_IQ3_S, 0.004},
};
enum { TYPES = sizeof types / sizeof types[0] };

static bool mine(const nb_type_info *type)
{
    for (int i = 0; i < TYPES; i++)
        if (type->id == types[i].type)
            return true;
    return false;
}

static void test_quality(void **state)
{
    (void)state;
    assert_int_equal(quality_check(mine), TYPES * 6);
}

static void test_bounds(void **state)
{
    (void)state;
    static float x[4096], back[4096];
    static _Alignas(64) uint8_t blocks[4096];
    for (int i = 0; i < 4096; i++)
        x[i] = (float)(0.1 + 2 * cos(i));
    for (int t = 0; t < TYPES * 2; t++) {
        const nb_type_info *type = nb_type_get(types[t / 2].type);
        type->quantize(x, NULL, 4096, (nb_rounding)(t % 2), blocks);
        type->dequantize(blocks, back, 4096);
        double sum = 0;
        for (int i = 0; i < 4096; i++)
            sum += ((double)back[i] - (double)x[i]) * ((double)back[i] - (double)x[i]);
        if (!(sqrt(sum) / 4096 < types[t / 2].bound))
            fail_msg("%s, rounding %d: %g", type->name, t % 2, sqrt(sum) / 4096);
    }
}

static void test_same_bytes_at_every_level(void **state)
{
    (void)state;
    const quality_rows *rows = quality_rows_read();
    static uint8_t expected[QUALITY_COLUMNS], got[QUALITY_COLUMNS];
    for (int t = 0; t < TYPES; t++) {
        const nb_type_info *type = nb_type_get(types[t].type);
        size_t columns = 256 * 5, bytes = 5 * type->block_bytes; /* an odd number of super-blocks */
        for (int level = 0; level <= (int)nb_cpu_best(); level++) {
            nb_cpu_set_level((nb_cpu_level)level);
            type->quantize(rows->x[9], rows->importance, columns, NB_ROUND_SEARCH, level ? got : expected);
            if (level)
                assert_memory_equal(got, expected, bytes);
        }
        nb_cpu_set_level(nb_cpu_best());
    }
}

static void test_hostile_rows(void **state)
{
    (void)state;
    for (int t = 0; t < TYPES; t++)
        quality_check_hostile(nb_type_get(types[t].type));
}

/* ---- entries: against trying every one, with every choice of signs ---- */

static float random_in(uint64_t *seed, float low, float high)
{
    *seed = nb_mix64(*seed + 1);
    return low + (high - low) * (float)(*seed >> 40) * 0x1p-24f;
}

/* the least cost of eight values at `at` of a lane, entries and signs chosen together; move: of IQ1 */
static double least_of_eight(const iq_format *f, const iq_batch *b, int at, int lane, float scale, float move)
{
    double even[2] = {0, 0}, turned[2] = {0, 0};
    int size = f->levels == 8 ? 4 : 8, parts = 8 / size;
    for (int part = 0; part < parts; part++) {
        even[part] = turned[part] = 1e300;
        for (int e = 0; e < f->entries; e++) {
            double cost = 0, extra = 1e300;
            for (int i = 0; i < size; i++) {
                float level = f->level[f->levels == 8 ? f->grid[e] >> i * 4 & 7 : f->grid[e] >> i * 2 & 3] + move;
                double x = (double)b->x[at + part * size + i][lane], w = (double)b->w[at + part * size + i][lane];
                double q = (double)(scale * level);
                cost += w * (x - q) * (x - q);
                extra = fmin(extra, w * ((x + q) * (x + q) - (x - q) * (x - q)));
            }
            even[part] = fmin(even[part], cost);
            turned[part] = fmin(turned[part], cost + extra);
        }
    }
    if (f->signs == IQ_SIGNS_EVEN && b->odd[at / 8][lane] > 0)
        return parts == 1 ? turned[0] : fmin(even[0] + turned[1], turned[0] + even[1]);
    return even[0] + (parts == 1 ? 0 : even[1]);
}

static double least_of_lane(const iq_format *f, const iq_batch *b, int lane, float scale)
{
    double sum[3] = {0, 0, 0};
    bool moved = f->signs == IQ_SIGNS_IN_ENTRY || f->signs == IQ_SIGNS_IN_ENTRY_8;
    for (int at = 0; at < f->values; at += 8) {
        double up = least_of_eight(f, b, at, lane, scale, moved ? 0.125f : 0);
        double down = moved ? least_of_eight(f, b, at, lane, scale, -0.125f) : up;
        sum[0] += up;
        sum[1] += down;
        sum[2] += fmin(up, down);
    }
    return f->signs == IQ_SIGNS_IN_ENTRY ? fmin(sum[0], sum[1]) : sum[2];
}

static void test_nearest_entries(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int t = 0; t < TYPES; t++) {
        const iq_format *f = nb_iq_format_of(types[t].type);
        assert_non_null(f);
        iq_book book;
        iq_batch b;
        float scale[IQ_LANES], cost[IQ_LANES];
        uint32_t code[IQ_ENTRIES][IQ_LANES];
        nb_iq_book_make(f, &book);
        for (int lane = 0; lane < IQ_LANES; lane++) {
            scale[lane] = random_in(&seed, 0.05f, 0.6f);
            for (int i = 0; i < f->values; i++) {
                b.x[i][lane] = random_in(&seed, f->level[0] < 0 ? -1.5f : 0, f->level[0] < 0 ? 1.5f : 3);
                b.w[i][lane] = random_in(&seed, 0.01f, 2);
                b.odd[i / 8][lane] = (float)(random_in(&seed, 0, 1) < 0.5f);
            }
        }
        nb_iq_choose_ref(f, &book, &b, scale, cost, code);
        for (int lane = 0; lane < IQ_LANES; lane++) {
            double least = least_of_lane(f, &b, lane, scale[lane]);
            if (fabs((double)cost[lane] - least) > 1e-4 * least)
                fail_msg("type %d, lane %d: cost %g, the least is %g", (int)types[t].type, lane, (double)cost[lane],
                         least);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quality),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_same_bytes_at_every_level),
        cmocka_unit_test(test_hostile_rows),
        cmocka_unit_test(test_nearest_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
