/* The layers of the lecture against its PyTorch classes with the same weights (tools/make_attention_layer_vectors.py), and what
 * they refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/cache.h"
#include "base/cpu.h"

#define CASES 12

static FILE *file;

static float *numbers(size_t n)
{
    float *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(fscanf(file, "%f", &x[i]), 1);
    return x;
}

static nb_projection projection(size_t outputs, size_t inputs)
{
    const float *weight = numbers(outputs * inputs);
    return (nb_projection){weight, numbers(outputs)};
}

static void projection_free(const nb_projection *p)
{
    free((void *)(uintptr_t)p->weight);
    free((void *)(uintptr_t)p->bias);
}

static void near(const float *want, const float *got, size_t n, const char *what, int at)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(want[i] - got[i]) <= 2e-6f))
            fail_msg("case %d: %s[%zu] is %.9g, not %.9g", at, what, i, (double)got[i], (double)want[i]);
}

/* Twice: the second call may find nothing of the first. */
static void check_forward(nb_attention_layer *layer, const size_t n[9], int at)
{
    size_t batch = n[5], length = n[6], queries = n[7], inputs = n[3], count, rows = batch * queries;
    float *keys = numbers(batch * length * inputs), *query = numbers(rows * inputs);
    float *mask_values = n[8] ? numbers(rows * length) : NULL;
    uint8_t *mask = n[8] ? malloc(rows * length) : NULL;
    for (size_t i = 0; mask && i < rows * length; i++)
        mask[i] = mask_values[i] > 0;
    size_t width = nb_attention_layer_width(layer);
    float *want = numbers(rows * width), *alphas = numbers(rows * n[1] * length),
          *out = malloc(rows * width * sizeof *out);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(nb_attention_layer_init_keys(layer, keys, batch, length, NULL), NB_OK);
        assert_int_equal(nb_attention_layer_forward(layer, query, queries, mask, out, NULL), NB_OK);
        near(want, out, rows * width, "out", at);
        const float *got = nb_attention_layer_alphas(layer, &count);
        assert_int_equal(count, rows * n[1] * length);
        near(alphas, got, count, "alphas", at);
    }
    void *all[] = {keys, query, mask_values, mask, want, alphas, out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void check_case(int at)
{
    size_t n[9];
    for (int i = 0; i < 9; i++)
        assert_int_equal(fscanf(file, "%zu", &n[i]), 1);
    size_t sets = n[0] == NB_ATTENTION_SEPARATE ? n[1] : 1, width = n[0] == NB_ATTENTION_SEPARATE ? n[1] * n[2] : n[2];
    nb_projection query[4], key[4], value[4], out = {NULL, NULL};
    for (size_t s = 0; s < sets; s++) {
        query[s] = projection(n[2], n[3]);
        key[s] = projection(n[2], n[3]);
        value[s] = projection(n[2], n[3]);
    }
    if (n[0] != NB_ATTENTION_SINGLE)
        out = projection(n[2], width);
    nb_attention_layer_params p = {.kind = (nb_attention_layer_kind)n[0],
                                   .heads = n[1],
                                   .d_model = n[2],
                                   .input_dim = n[3],
                                   .proj_values = n[4] != 0,
                                   .query = query,
                                   .key = key,
                                   .value = n[4] ? value : NULL,
                                   .out = out.weight ? &out : NULL};
    nb_attention_layer *layer;
    assert_int_equal(nb_attention_layer_new(&p, &layer, NULL), NB_OK);
    check_forward(layer, n, at);
    nb_attention_layer_free(layer);
    for (size_t s = 0; s < sets; s++) {
        projection_free(&query[s]);
        projection_free(&key[s]);
        projection_free(&value[s]);
    }
    projection_free(&out);
}

static void test_pytorch(void **state)
{
    (void)state;
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        file = fopen(NB_TEST_DATA "/attention/layers.txt", "r");
        assert_non_null(file);
        for (int at = 0; at < CASES; at++)
            check_case(at);
        assert_int_equal(fscanf(file, " %*c"), EOF);
        fclose(file);
    }
    nb_cpu_set_level(nb_cpu_best());
}

static void refused(nb_attention_layer_params p, const char *word)
{
    nb_attention_layer *layer;
    nb_error err;
    assert_int_equal(nb_attention_layer_new(&p, &layer, &err), NB_ERR_ARGUMENT);
    assert_null(layer);
    assert_non_null(strstr(err.message, word));
}

static void test_refused(void **state)
{
    (void)state;
    const float weight[64] = {0};
    nb_projection all[2] = {{weight, NULL}, {weight, NULL}};
    nb_attention_layer_params p = {NB_ATTENTION_CHUNKED, 2, 4, 4, true, 0, 0, all, all, all, all}, bad;
    bad = p, bad.heads = 3, refused(bad, "multiple");
    bad = p, bad.input_dim = 5, refused(bad, "as wide");
    bad = p, bad.out = NULL, refused(bad, "missing");
    bad = p, bad.kind = NB_ATTENTION_SINGLE, refused(bad, "a single one has 1");
    bad = p, bad.kind = NB_ATTENTION_SEPARATE, bad.proj_values = false, bad.input_dim = 3, refused(bad, "do not fit");
    nb_attention_layer *layer;
    nb_error err;
    float out[8];
    size_t count = 1;
    assert_int_equal(nb_attention_layer_new(&p, &layer, NULL), NB_OK);
    assert_null(nb_attention_layer_alphas(layer, &count));
    assert_int_equal(count, 0);
    assert_int_equal(nb_attention_layer_forward(layer, weight, 1, NULL, out, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "init_keys"));
    assert_int_equal(nb_attention_layer_init_keys(layer, weight, 1, 0, &err), NB_ERR_ARGUMENT);
    nb_attention_layer_free(layer);
    nb_attention_layer_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pytorch), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
