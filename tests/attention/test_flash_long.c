/* Long sequences: errors against float64 at lengths of models, and the tiles that windows visit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/specs.h"
#include "base/cpu.h"
#include "base/team.h"

typedef struct io {
    void *q, *k, *v;
    float *out;
} io;

static io io_new(const nb_attention_params *p)
{
    size_t q = p->batch * p->q.batch, k = p->batch * p->k.batch;
    return (io){inputs(1, q, p->type), inputs(2, k, p->type), inputs(3, k, p->type), calloc(q + 1, sizeof(float))};
}

static void io_free(io *x)
{
    free(x->q);
    free(x->k);
    free(x->v);
    free(x->out);
}

/* 72 queries from `first` on, causal, over `keys` keys */
static void check_error(nb_float type, size_t dim, size_t keys, int64_t first, double bound)
{
    nb_attention_params p = nb_attention_defaults(2, 1, dim, 72, keys);
    p.type = type;
    p.causal = true;
    p.offset = first;
    io x = io_new(&p);
    size_t n = 2 * 72 * dim;
    double *want = calloc(n, sizeof *want), worst = 0;
    assert_int_equal(nb_attention_exact(&p, x.q, x.k, x.v, want, NULL, NULL), NB_OK);
    assert_int_equal(nb_attention_flash(&p, x.q, x.k, x.v, x.out, NULL, NULL, NULL, NULL), NB_OK);
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fabs(want[i] - (double)x.out[i]));
    if (!(worst <= bound))
        fail_msg("%zu keys from %lld, dim %zu, type %d, %s: off by %g", keys, (long long)first, dim, (int)type,
                 nb_cpu_level_name(nb_cpu_current()), worst);
    free(want);
    io_free(&x);
}

static void test_errors(void **state)
{
    (void)state;
    static const size_t dims[] = {64, 128, 256};
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        for (int d = 0; d < 3; d++)
            for (int type = 0; type < 3; type++) {
                check_error((nb_float)type, dims[d], 2048, 0, 2e-6);
                check_error((nb_float)type, dims[d], 2048, 1976, 2e-6);
            }
        check_error(NB_FLOAT_F32, 64, NB_TEST_SLOW ? 4096 : 16384, NB_TEST_SLOW ? 4024 : 16312, 1e-5);
    }
    nb_cpu_set_level(nb_cpu_best());
}

static nb_attention_stats stats_of(const nb_attention_params *p)
{
    io x = io_new(p);
    nb_attention_stats s;
    assert_int_equal(nb_attention_flash(p, x.q, x.k, x.v, x.out, NULL, &s, NULL, NULL), NB_OK);
    io_free(&x);
    return s;
}

/* Twice the length is twice the tiles of a window, dilated or not, and about twice the scratch; four times the tiles where
 * all is seen. What is visited and what is skipped is all there is. */
static void test_tiles(void **state)
{
    (void)state;
    nb_attention_stats dense[2], window[2], dilated[2], global[2];
    for (size_t i = 0; i < 2; i++) {
        size_t length = 3072 << i;
        const uint32_t first = 0;
        nb_attention_params p = nb_attention_defaults(1, 1, 4, length, length);
        dense[i] = stats_of(&p);
        p.causal = true;
        p.left = 127;
        window[i] = stats_of(&p);
        p.dilation = 8;
        dilated[i] = stats_of(&p);
        p.globals = &first;
        p.global_count = 1;
        global[i] = stats_of(&p);
        assert_int_equal(dense[i].tiles_visited, length / dense[i].tile_rows * (length / 64));
        assert_int_equal(dense[i].tiles_skipped, 0);
        assert_int_equal(window[i].tiles_visited + window[i].tiles_skipped, dense[i].tiles_visited);
    }
    assert_int_equal(dense[1].tiles_visited, 4 * dense[0].tiles_visited);
    assert_true(window[1].tiles_visited <= 2 * window[0].tiles_visited + 4);
    assert_true(window[0].tiles_visited <= 3072 / 192 * 6);
    assert_true(dilated[1].tiles_visited <= 2 * dilated[0].tiles_visited + 32);
    assert_true(dilated[1].tiles_visited <= window[1].tiles_visited + 32);
    assert_true(global[1].tiles_visited <= dilated[1].tiles_visited * 3 / 2 + 6144 / 64);
    assert_true(dense[1].scratch_bytes < 5 * dense[0].scratch_bytes / 2);
    assert_true(dense[1].bytes_moved > 3 * dense[0].bytes_moved && window[1].bytes_moved < 3 * window[0].bytes_moved);
}

/* A team changes nothing, to the bit. */
static void test_team(void **state)
{
    (void)state;
    nb_team *team;
    nb_attention_params p = nb_attention_defaults(4, 2, 40, 500, 700);
    p.causal = true;
    p.left = 300;
    io x = io_new(&p), y = io_new(&p);
    assert_int_equal(nb_team_new(3, false, &team, NULL), NB_OK);
    assert_int_equal(nb_attention_flash(&p, x.q, x.k, x.v, x.out, NULL, NULL, NULL, NULL), NB_OK);
    assert_int_equal(nb_attention_flash(&p, x.q, x.k, x.v, y.out, NULL, NULL, team, NULL), NB_OK);
    assert_memory_equal(x.out, y.out, p.q.batch * sizeof *x.out);
    nb_team_free(team);
    io_free(&x);
    io_free(&y);
}

/* Nor backward, where 1 and 2 members make weights once and 3 twice; 41 dims are never made once. */
static void test_team_backward(void **state)
{
    (void)state;
    static const size_t dims[] = {48, 41};
    for (int d = 0; d < 2; d++) {
        nb_attention_params p = nb_attention_defaults(8, 4, dims[d], 150, 200);
        p.causal = true;
        p.offset = 50;
        io x = io_new(&p);
        size_t n = p.q.batch, m = p.k.batch;
        float *lse = calloc(8 * 150, sizeof *lse), *dout = inputs(4, n, NB_FLOAT_F32), *got[3];
        double *want = calloc(n + 2 * m, sizeof *want), *out = calloc(n, sizeof *out);
        assert_int_equal(nb_attention_flash(&p, x.q, x.k, x.v, x.out, lse, NULL, NULL, NULL), NB_OK);
        assert_int_equal(nb_attention_exact(&p, x.q, x.k, x.v, out, NULL, NULL), NB_OK);
        assert_int_equal(nb_attention_exact_backward(&p, x.q, x.k, x.v, dout, want, want + n, want + n + m, NULL),
                         NB_OK);
        for (int members = 1; members <= 3; members++) {
            nb_team *team;
            nb_attention_stats s;
            assert_int_equal(nb_team_new(members, false, &team, NULL), NB_OK);
            float *g = got[members - 1] = calloc(n + 2 * m, sizeof *g);
            assert_int_equal(
                nb_attention_flash_backward(&p, x.q, x.k, x.v, x.out, lse, dout, g, g + n, g + n + m, &s, team, NULL),
                NB_OK);
            assert_int_equal(s.tiles_visited + s.tiles_skipped, 8 * 3 * 4 * (members == 3 || dims[d] == 41 ? 2 : 1));
            assert_memory_equal(g, got[0], (n + 2 * m) * sizeof *g);
            nb_team_free(team);
        }
        for (size_t i = 0; i < n + 2 * m; i++)
            assert_true(fabs(want[i] - (double)got[0][i]) <= 1e-5);
        for (int i = 0; i < 3; i++)
            free(got[i]);
        free(lse);
        free(dout);
        free(want);
        free(out);
        io_free(&x);
    }
}

static void refused(nb_attention_params p, const char *word)
{
    nb_error err;
    float x[64] = {0};
    assert_int_equal(nb_attention_flash(&p, x, x, x, x, NULL, NULL, NULL, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, word));
    assert_int_equal(nb_attention_standard(&p, x, x, x, x, NULL, NULL, NULL, NULL, NULL, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_attention_exact(&p, x, x, x, NULL, NULL, &err), NB_ERR_ARGUMENT);
}

static void test_refused(void **state)
{
    (void)state;
    const uint32_t down[] = {3, 2};
    nb_attention_params p = nb_attention_defaults(2, 1, 8, 2, 2), bad;
    bad = p, bad.kv_heads = 0, refused(bad, "kv heads");
    bad = p, bad.heads = 3, bad.kv_heads = 2, refused(bad, "multiple");
    bad = p, bad.k_dim = 513, refused(bad, "1 to 512");
    bad = p, bad.v_dim = 0, refused(bad, "1 to 512");
    bad = p, bad.type = (nb_float)7, refused(bad, "float type");
    bad = p, bad.queries = SIZE_MAX, refused(bad, "queries");
    bad = p, bad.q.row = SIZE_MAX / 2, bad.q.head = SIZE_MAX / 2 + 9, refused(bad, "strides");
    bad = p, bad.dilation = 0, refused(bad, "dilation");
    bad = p, bad.dropout = 1, refused(bad, "dropout");
    bad = p, bad.scale = NAN, refused(bad, "scale");
    bad = p, bad.softcap = -1, refused(bad, "cap");
    bad = p, bad.offset = INT64_MIN, refused(bad, "offset");
    bad = p, bad.global_count = 1, refused(bad, "no list");
    bad = p, bad.globals = down, bad.global_count = 2, refused(bad, "ascending");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_errors), cmocka_unit_test(test_tiles),
                                       cmocka_unit_test(test_team), cmocka_unit_test(test_team_backward),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
