/* Every type of types.def against gguf-py (for Q8_1, Q8_K, Q1_0, Q2_0, F64 and integers: the formula in numpy):
 * random blocks, all bytes alike, and special numbers in every scale. tools/make_quant_vectors.py has the cases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "quant/quant.h"
#include "support/digest.h"

typedef struct test_case {
    char type[16], fill[4], patches[128];
    unsigned blocks;
    unsigned long long seed, digest;
} test_case;

static void patch(const char *patches, uint8_t *raw, size_t blocks, size_t block_bytes)
{
    while (*patches != '-' && *patches) {
        char *at;
        size_t offset = strtoul(patches, &at, 10);
        assert_int_equal(*at++, ':');
        for (unsigned byte; sscanf(at, "%2x", &byte) == 1; at += 2, offset++) {
            assert_true(offset < block_bytes);
            for (size_t b = 0; b < blocks; b++)
                raw[b * block_bytes + offset] = (uint8_t)byte;
        }
        patches = *at == ',' ? at + 1 : at;
    }
}

static void check(const test_case *c)
{
    const nb_type_info *type = nb_type_by_name(nb_str_of(c->type));
    assert_non_null(type);
    size_t bytes = c->blocks * type->block_bytes, n = c->blocks * type->block_values;
    uint8_t *raw = malloc(bytes);
    float *x = malloc((n + 1) * sizeof *x);
    assert_non_null(raw);
    assert_non_null(x);
    if (c->fill[0] == '-')
        nb_seeded_bytes(c->seed, raw, bytes);
    else
        memset(raw, (int)strtoul(c->fill, NULL, 16), bytes);
    patch(c->patches, raw, c->blocks, type->block_bytes);
    x[n] = 12345.0f;
    type->dequantize(raw, x, n);
    nb_digest d = {0};
    nb_digest_floats(&d, x, n);
    float after = x[n];
    free(raw);
    free(x);
    if (d.sum != c->digest)
        fail_msg("%s, seed %llu, fill %s, patches %s: other numbers than expected", c->type, c->seed, c->fill,
                 c->patches);
    assert_true(after == 12345.0f);
}

static void test_every_type(void **state)
{
    (void)state;
    FILE *f = fopen(NB_TEST_DATA "/quant/dequantize.txt", "r");
    assert_non_null(f);
    int seen[NB_TYPE_LIMIT] = {0};
    test_case c;
    while (fscanf(f, "%15s %u %llu %3s %127s %llx", c.type, &c.blocks, &c.seed, c.fill, c.patches, &c.digest) == 6) {
        check(&c);
        seen[nb_type_by_name(nb_str_of(c.type))->id]++;
    }
    assert_true(feof(f));
    fclose(f);
    for (uint32_t id = 0; id < NB_TYPE_FILE_LIMIT; id++) /* our own: test_bnb.c */
        assert_true(nb_type_get(id) ? seen[id] >= 7 : seen[id] == 0);
}

static void test_nothing_to_do(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < NB_TYPE_LIMIT; id++)
        if (nb_type_get(id))
            nb_type_get(id)->dequantize(NULL, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_type), cmocka_unit_test(test_nothing_to_do)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
