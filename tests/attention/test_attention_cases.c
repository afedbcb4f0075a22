/* Every form of attention over plain arrays, exact, standard and flash, forward and backward, against PyTorch's float64 in 200
 * stored cases (tools/make_attention_cases.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "attention/specs.h"
#include "base/cpu.h"

#define CASES 200

static float *stored, *stored_at, *stored_end;

static char *field(const char *line, const char *name, char *room)
{
    char key[32];
    snprintf(key, sizeof key, " %s=", name);
    const char *at = strstr(line, key);
    assert_non_null(at);
    at += strlen(key);
    size_t n = strcspn(at, " \n");
    assert_true(n < 64);
    memcpy(room, at, n);
    room[n] = 0;
    return room;
}

static double number(const char *line, const char *name)
{
    char room[64];
    return strtod(field(line, name, room), NULL);
}

static size_t size(const char *line, const char *name) { return (size_t)number(line, name); }

static size_t list(const char *line, const char *name, size_t *values)
{
    char room[64], *at = field(line, name, room), *end;
    size_t n = 0;
    for (; *at; at = *end ? end + 1 : end)
        values[n++] = (size_t)strtoul(at, &end, 10);
    return n;
}

static spec read_spec(const char *line)
{
    spec s = {.seed = (uint64_t)number(line, "seed")};
    nb_attention_params *p = &s.p;
    size_t b = size(line, "batch"), h = size(line, "heads"), g = size(line, "kv_heads"), lq = size(line, "queries"),
           lk = size(line, "keys"), values[16];
    *p = nb_attention_defaults(h, g, size(line, "k_dim"), lq, lk);
    p->batch = b;
    p->v_dim = size(line, "v_dim");
    p->v = (nb_attention_stride){lk * g * p->v_dim, p->v_dim, g * p->v_dim};
    p->out = (nb_attention_stride){lq * h * p->v_dim, p->v_dim, h * p->v_dim};
    p->type = (nb_float)size(line, "type");
    p->offset = (int64_t)number(line, "offset");
    p->causal = number(line, "causal") > 0;
    p->left = (int64_t)number(line, "left");
    p->right = (int64_t)number(line, "right");
    p->dilation = size(line, "dilation");
    p->sink_tokens = size(line, "sink_tokens");
    p->softcap = (float)number(line, "softcap");
    p->dropout = (float)number(line, "dropout");
    p->seed = s.seed + 20;
    p->global_count = list(line, "globals", values);
    p->globals = s.globals = malloc(16 * sizeof *s.globals);
    for (size_t i = 0; i < p->global_count; i++)
        s.globals[i] = (uint32_t)values[i];
    s.lengths = malloc(16 * sizeof *s.lengths);
    p->key_lengths = list(line, "lengths", s.lengths) ? s.lengths : NULL;
    return s;
}

static void read_arrays(const char *line, spec *s)
{
    nb_attention_params *p = &s->p;
    size_t one = p->queries * p->keys, all = p->heads * one;
    if (number(line, "mask") > 0) {
        p->mask = s->mask = malloc(one);
        p->mask_stride.row = p->keys;
        p->mask_fill = (float)number(line, "fill");
        for (size_t i = 0; i < one; i++)
            s->mask[i] = hash_at(s->seed + 10, i) % 10 < 6 && i / p->keys % 7 != 3;
    }
    if (number(line, "bias") > 0) {
        p->bias = s->bias = malloc(all * sizeof *s->bias);
        p->bias_stride = (nb_attention_stride){0, one, p->keys};
        for (size_t i = 0; i < all; i++)
            s->bias[i] = i / p->keys % p->queries % 5 == 2 ? -1e9f
                         : hash_at(s->seed + 12, i) % 10   ? normal_at(s->seed + 11, i)
                                                           : -INFINITY;
    }
    if (number(line, "slopes") > 0) {
        p->slopes = s->slopes = malloc(p->heads * sizeof *s->slopes);
        for (size_t h = 0; h < p->heads; h++)
            s->slopes[h] = (float)exp2(-(double)(h + 1));
    }
    if (number(line, "sinks") > 0) {
        p->sinks = s->sinks = malloc(p->heads * sizeof *s->sinks);
        for (size_t h = 0; h < p->heads; h++)
            s->sinks[h] = normal_at(s->seed + 13, h);
    }
}

static const float *take(size_t n)
{
    const float *at = stored_at;
    assert_true(n <= (size_t)(stored_end - stored_at));
    stored_at += n;
    return at;
}

/* got is off by at most `bound` where stored values are 1 or less, and in proportion where they are more */
static void near(const float *want, const float *got, size_t n, double bound, const char *what, const char *line)
{
    for (size_t i = 0; i < n; i++) {
        double size = fmax(1, fabs((double)want[i]));
        if (want[i] != got[i] && !(fabs((double)want[i] - (double)got[i]) <= bound * size))
            fail_msg("%s[%zu] at %s is %.9g, not %.9g: %s", what, i, nb_cpu_level_name(nb_cpu_current()),
                     (double)got[i], (double)want[i], line);
    }
}

static void narrowed(const double *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)x[i];
}

typedef struct wanted {
    const float *all[5]; /* out, lse, dq, dk, dv */
    size_t count[5];
    const char *line;
} wanted;

static const char *const names[] = {"out", "lse", "dq", "dk", "dv"};

static void check_exact(const spec *s, const wanted *w, void *const in[3], const float *dout)
{
    double *x[5];
    for (int i = 0; i < 5; i++)
        x[i] = calloc(w->count[i] + 1, sizeof **x);
    assert_int_equal(nb_attention_exact(&s->p, in[0], in[1], in[2], x[0], x[1], NULL), NB_OK);
    assert_int_equal(nb_attention_exact_backward(&s->p, in[0], in[1], in[2], dout, x[2], x[3], x[4], NULL), NB_OK);
    for (int i = 0; i < 5; i++) {
        float *y = malloc((w->count[i] + 1) * sizeof *y);
        narrowed(x[i], w->count[i], y);
        near(w->all[i], y, w->count[i], 1.2e-7, names[i], w->line);
        free(y);
        free(x[i]);
    }
}

static void check_float(const spec *s, const wanted *w, void *const in[3], const float *dout)
{
    float *x[5];
    for (int i = 0; i < 5; i++)
        x[i] = calloc(w->count[i] + 1, sizeof **x);
    assert_int_equal(nb_attention_standard(&s->p, in[0], in[1], in[2], x[0], x[1], NULL, NULL, NULL, NULL, NULL),
                     NB_OK);
    near(w->all[0], x[0], w->count[0], 3e-6, "standard out", w->line);
    near(w->all[1], x[1], w->count[1], 3e-6, "standard lse", w->line);
    assert_int_equal(nb_attention_flash(&s->p, in[0], in[1], in[2], x[0], x[1], NULL, NULL, NULL), NB_OK);
    assert_int_equal(
        nb_attention_flash_backward(&s->p, in[0], in[1], in[2], x[0], x[1], dout, x[2], x[3], x[4], NULL, NULL, NULL),
        NB_OK);
    for (int i = 0; i < 5; i++) {
        near(w->all[i], x[i], w->count[i], i < 2 ? 3e-6 : 1e-5, names[i], w->line);
        free(x[i]);
    }
}

static void check_case(const char *line)
{
    spec s = read_spec(line);
    read_arrays(line, &s);
    const nb_attention_params *p = &s.p;
    size_t q = p->batch * p->queries * p->heads, k = p->batch * p->keys * p->kv_heads;
    wanted w = {.count = {q * p->v_dim, q, q * p->k_dim, k * p->k_dim, k * p->v_dim}, .line = line};
    assert_true(number(line, "grad") > 0);
    for (int i = 0; i < 5; i++)
        w.all[i] = take(w.count[i]);
    void *in[3];
    for (uint64_t i = 0; i < 3; i++)
        in[i] = inputs(s.seed + i, w.count[i + 2], p->type);
    float *dout = inputs(s.seed + 3, w.count[0], NB_FLOAT_F32);
    check_exact(&s, &w, in, dout);
    for (int level = 0; level <= (int)nb_cpu_best(); level++) {
        nb_cpu_set_level((nb_cpu_level)level);
        check_float(&s, &w, in, dout);
    }
    nb_cpu_set_level(nb_cpu_best());
    for (int i = 0; i < 3; i++)
        free(in[i]);
    free(dout);
    spec_free(&s);
}

static void test_pytorch(void **state)
{
    (void)state;
    char line[600] = " ";
    FILE *f = fopen(NB_TEST_DATA "/attention/cases.txt", "r");
    assert_non_null(f);
    int cases = 0;
    for (; fgets(line + 1, sizeof line - 1, f); cases++)
        check_case(line);
    fclose(f);
    assert_int_equal(cases, CASES);
    assert_true(stored_at == stored_end);
}

static int begin(void **state)
{
    (void)state;
    FILE *f = fopen(NB_TEST_DATA "/attention/cases.bin", "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0)
        return 1;
    size_t bytes = (size_t)ftell(f);
    rewind(f);
    stored = stored_at = malloc(bytes);
    bool whole = fread(stored, 1, bytes, f) == bytes;
    stored_end = stored + bytes / sizeof *stored;
    fclose(f);
    return !whole;
}

static int end(void **state)
{
    (void)state;
    free(stored);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pytorch)};
    return cmocka_run_group_tests(tests, begin, end);
}
