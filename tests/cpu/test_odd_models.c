/* A real tiny model of every architecture, made odd in one place: each key that any of them has, with numbers at the ends of
 * their types and values of other kinds, and missing; each tensor turned, with one more row or column, of another type, and
 * missing. What does not load says why and names the file; what loads runs a step. Nothing here names an architecture, a key or
 * a tensor: those of a new row are walked with its vectors. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "cpu/cpu.h"
#include "support/archs.h"
#include "support/folder.h"
#include "support/gguf_edit.h"

enum { TOKENS = 3, MOST_KEYS = 256, LIST = 1024, LIMIT_MS = 2000, LIMIT_BYTES = 64 << 20 };

static nb_archs_list models;
static char path[400];

/* what stands behind "ARCHITECTURE." in any of the files */
static char suffixes[MOST_KEYS][96];
static size_t suffix_count;

static size_t runs, refusals;

/* ---- the files ---- */

static nb_gguf *open_file(const char *file)
{
    nb_error err;
    nb_gguf *g;
    if (nb_gguf_open(file, &g, &err) != NB_OK)
        fail_msg("%s", err.message);
    return g;
}

static const char *file_of(size_t model)
{
    static char file[512];
    snprintf(file, sizeof file, "%s/archs/%s.gguf", NB_TEST_DATA, models.names[model]);
    return file;
}

static nb_str architecture_of(const nb_gguf *g)
{
    nb_str name = {0};
    assert_int_equal(nb_gguf_get_str(g, "general.architecture", &name, NULL), NB_OK);
    return name;
}

static bool knows(nb_str suffix)
{
    for (size_t i = 0; i < suffix_count; i++)
        if (nb_str_eqz(suffix, suffixes[i]))
            return true;
    return false;
}

static void collect(const nb_gguf *g)
{
    nb_str arch = architecture_of(g);
    for (size_t i = 0; i < nb_gguf_value_count(g); i++) {
        nb_str key = nb_gguf_value_at(g, i)->key;
        if (key.n <= arch.n + 1 || memcmp(key.p, arch.p, arch.n) != 0 || key.p[arch.n] != '.')
            continue;
        nb_str suffix = {key.p + arch.n + 1, key.n - arch.n - 1};
        assert_true(suffix_count < MOST_KEYS && suffix.n < sizeof *suffixes);
        if (!knows(suffix))
            snprintf(suffixes[suffix_count++], sizeof *suffixes, "%.*s", NB_STR_ARG(suffix));
    }
}

/* the smallest file of an architecture; -1: none */
static int smallest(const nb_arch *arch)
{
    int best = -1;
    off_t size = 0;
    for (size_t i = 0; i < models.count; i++) {
        struct stat s;
        nb_gguf *g = open_file(file_of(i));
        assert_int_equal(stat(file_of(i), &s), 0);
        if (nb_str_eqz(architecture_of(g), arch->name) && (best < 0 || s.st_size < size)) {
            best = (int)i;
            size = s.st_size;
        }
        nb_gguf_close(g);
    }
    return best;
}

typedef struct whole { /* a file and what it lacks */
    const nb_gguf *g;
    const char *arch;
} whole;

/* A key without its last letter is another one, at the same place in their order: so a key is taken away, or, written so into
 * the file, can be put there. */
static void put_absent(nb_gguf_writer *w, const void *user)
{
    const whole *f = user;
    for (size_t i = 0; i < suffix_count; i++) {
        char key[160];
        snprintf(key, sizeof key, "%s.%.100s", f->arch, suffixes[i]);
        if (nb_gguf_find(f->g, key))
            continue;
        key[strlen(key) - 1] = 0;
        nb_gguf_put_u32(w, key, 0);
    }
}

/* ---- what becomes of one ---- */

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static nb_status run_step(const nb_model_def *m, const nb_plan *plan, nb_weights *weights, nb_error *err)
{
    static const int32_t ids[TOKENS] = {0};
    static const uint32_t page[1] = {0}, outputs[TOKENS] = {0, 1, 2};
    size_t n = nb_min_size(TOKENS, m->h.context);
    nb_context *x;
    nb_memory memory = {0};
    nb_weights_params wp = {.threads = 1, .exact = true};
    nb_context_params p = {.max_tokens = n,
                           .max_outputs = n,
                           .max_spans = 1,
                           .max_positions = n,
                           .pages = {1, 1},
                           .max_pages = {1, 1},
                           .kv_type = NB_TYPE_F32,
                           .hidden = plan->logits < 0};
    NB_TRY(nb_backend_cpu.context_memory(m, plan, &wp, &p, &memory, err));
    assert_true(memory.cache + memory.buffers + memory.scratch + memory.tables < LIMIT_BYTES);
    NB_TRY(nb_backend_cpu.context_new(weights, &p, &x, err));
    nb_span span = {.count = n, .pages = {page, page}, .page_count = {1, 1}};
    nb_batch batch = {.tokens = ids, .n_tokens = n, .spans = &span, .n_spans = 1, .outputs = outputs, .n_outputs = n};
    nb_status status = nb_backend_cpu.run(x, &batch, err);
    if (status == NB_OK)
        assert_non_null(nb_backend_cpu.logits(x, n - 1));
    nb_backend_cpu.context_free(x);
    return status;
}

static nb_status load_and_run(const nb_gguf *g, nb_error *err)
{
    nb_model_def *m = NULL;
    nb_plan plan = {0};
    nb_weights *weights = NULL;
    nb_weights_params wp = {.threads = 1, .exact = true};
    nb_status status = nb_model_def_new(g, &m, err);
    if (status == NB_OK)
        status = nb_plan_build(m, &plan, err);
    if (status == NB_OK)
        status = nb_backend_cpu.weights_new(m, &plan, &wp, &weights, err);
    if (status == NB_OK)
        status = run_step(m, &plan, weights, err);
    if (weights)
        nb_backend_cpu.weights_free(weights);
    nb_plan_free(&plan);
    nb_model_def_free(m);
    return status;
}

static nb_status try_model(const nb_gguf *g, nb_str what, const char *way)
{
    nb_error err = {0};
    double start = cpu_ms();
    nb_status status = load_and_run(g, &err);
    runs += status == NB_OK;
    refusals += status != NB_OK;
    if (cpu_ms() - start > LIMIT_MS)
        fail_msg("%.*s, %s: took %.0f ms", NB_STR_ARG(what), way, cpu_ms() - start);
    if (status != NB_OK && (err.code != status || !err.message[0]))
        fail_msg("%.*s, %s: fails without a message", NB_STR_ARG(what), way);
    return status;
}

/* ---- keys ---- */

static unsigned char zeros[LIST * 4], ones[LIST * 4]; /* lists: all bits 0, all bits 1 */

typedef struct odd {
    const char *name;
    nb_gguf_kind kind, element;
    size_t count, bytes;
    const void *data;
} odd;

static const uint32_t u32s[] = {0, 1, 2, 3, UINT32_MAX, INT32_MAX};
static const uint64_t u64s[] = {UINT64_MAX, (uint64_t)INT64_MAX, (uint64_t)1 << 63};
static const float f32s[] = {0, 1, -1, FLT_MAX, -FLT_MAX, FLT_MIN, NAN, INFINITY};

static const odd odds[] = {
    {"u32 0", NB_GGUF_U32, 0, 1, 4, &u32s[0]},
    {"u32 1", NB_GGUF_U32, 0, 1, 4, &u32s[1]},
    {"u32 2", NB_GGUF_U32, 0, 1, 4, &u32s[2]},
    {"u32 3", NB_GGUF_U32, 0, 1, 4, &u32s[3]},
    {"u32 most", NB_GGUF_U32, 0, 1, 4, &u32s[4]},
    {"i32 most", NB_GGUF_I32, 0, 1, 4, &u32s[5]},
    {"i32 -1", NB_GGUF_I32, 0, 1, 4, &u32s[4]},
    {"u64 most", NB_GGUF_U64, 0, 1, 8, &u64s[0]},
    {"i64 most", NB_GGUF_I64, 0, 1, 8, &u64s[1]},
    {"i64 least", NB_GGUF_I64, 0, 1, 8, &u64s[2]},
    {"f32 0", NB_GGUF_F32, 0, 1, 4, &f32s[0]},
    {"f32 1", NB_GGUF_F32, 0, 1, 4, &f32s[1]},
    {"f32 -1", NB_GGUF_F32, 0, 1, 4, &f32s[2]},
    {"f32 most", NB_GGUF_F32, 0, 1, 4, &f32s[3]},
    {"f32 least", NB_GGUF_F32, 0, 1, 4, &f32s[4]},
    {"f32 smallest", NB_GGUF_F32, 0, 1, 4, &f32s[5]},
    {"f32 nan", NB_GGUF_F32, 0, 1, 4, &f32s[6]},
    {"f32 infinite", NB_GGUF_F32, 0, 1, 4, &f32s[7]},
    {"false", NB_GGUF_BOOL, 0, 1, 1, zeros},
    {"true", NB_GGUF_BOOL, 0, 1, 1, &u32s[1]},
    {"empty string", NB_GGUF_STRING, 0, 1, 0, "x"},
    {"string", NB_GGUF_STRING, 0, 1, 1, "x"},
    {"empty list", NB_GGUF_ARRAY, NB_GGUF_U32, 0, 0, zeros},
    {"list of u32 0", NB_GGUF_ARRAY, NB_GGUF_U32, LIST, sizeof zeros, zeros},
    {"list of u32 most", NB_GGUF_ARRAY, NB_GGUF_U32, LIST, sizeof ones, ones},
    {"list of one u32", NB_GGUF_ARRAY, NB_GGUF_U32, 1, 4, &u32s[1]},
    {"list of false", NB_GGUF_ARRAY, NB_GGUF_BOOL, LIST, LIST, zeros},
    {"list of f32 nan", NB_GGUF_ARRAY, NB_GGUF_F32, LIST, sizeof ones, ones},
};
enum { ODDS = sizeof odds / sizeof *odds };

static void walk_key(nb_gguf *g, const char *arch, const char *suffix)
{
    char key[160];
    snprintf(key, sizeof key, "%.50s.%.100s", arch, suffix);
    bool here = nb_gguf_find(g, key);
    char absent[160];
    snprintf(absent, sizeof absent, "%.*s", (int)strlen(key) - 1, key);
    nb_gguf_value *v = (nb_gguf_value *)(uintptr_t)nb_gguf_find(g, here ? key : absent);
    assert_non_null(v);
    nb_gguf_value before = *v;
    for (size_t i = 0; i < ODDS; i++) {
        v->key = nb_str_of(key);
        v->kind = odds[i].kind;
        v->element = odds[i].element;
        v->count = odds[i].count;
        v->data = odds[i].data;
        v->bytes = odds[i].bytes;
        try_model(g, v->key, odds[i].name);
    }
    *v = before;
    v->key = nb_str_of(absent);
    try_model(g, nb_str_of(key), "missing");
    *v = before;
}

/* ---- tensors ---- */

typedef enum damage { TURNED, A_ROW, A_COLUMN, TWICE, INTEGERS, HALF, QUANTIZED, NO_TENSOR, DAMAGES } damage;

static const char *const damages[] = {"turned", "a row more", "a column more", "twice",
                                      "I32",    "F16",        "Q8_0",          "missing"};

static void damage_tensor(nb_gguf_tensor *t, damage d)
{
    static const char *const types[] = {[INTEGERS] = "I32", [HALF] = "F16", [QUANTIZED] = "Q8_0"};
    static _Alignas(64) unsigned char data[8 << 20]; /* what it is now as long as */
    uint64_t columns = t->dims[0];
    size_t row;
    if (d == TURNED) {
        t->dims[0] = t->dims[1];
        t->dims[1] = columns;
        t->n_dims = t->n_dims < 2 ? 2 : t->n_dims;
    } else if (d == A_ROW) {
        t->dims[1]++;
        t->n_dims = t->n_dims < 2 ? 2 : t->n_dims;
    } else if (d == A_COLUMN) {
        t->dims[0]++;
    } else if (d == TWICE) {
        t->dims[3] *= 2;
        t->n_dims = 4;
    } else if (d == NO_TENSOR) {
        t->name.n--;
        return;
    } else {
        t->type = nb_type_by_name(nb_str_of(types[d]));
    }
    if (!nb_type_row_bytes(t->type, t->dims[0], &row)) /* no file can hold it */
        t->type = nb_type_by_name(NB_STR("I32"));
    assert_true(nb_type_row_bytes(t->type, t->dims[0], &row));
    t->bytes = row * (size_t)(t->dims[1] * t->dims[2] * t->dims[3]);
    assert_true(t->bytes <= sizeof data);
    t->data = data;
}

static void walk_tensors(nb_gguf *g)
{
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++) {
        nb_gguf_tensor *t = (nb_gguf_tensor *)(uintptr_t)nb_gguf_tensor_at(g, i), before = *t;
        for (damage d = TURNED; d < DAMAGES; d++) {
            damage_tensor(t, d);
            try_model(g, before.name, damages[d]);
            *t = before;
        }
    }
}

/* ---- all of them ---- */

static bool walk(const nb_arch *arch)
{
    int model = smallest(arch);
    nb_error err;
    size_t ran = runs, refused = refusals;
    if (model < 0)
        return false;
    nb_gguf *g = open_file(file_of((size_t)model));
    whole f = {g, arch->name};
    if (gguf_edit_write(file_of((size_t)model), path, put_absent, &f, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_gguf_close(g);
    g = open_file(path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(try_model(g, nb_str_of(arch->name), "as it is"), NB_OK);
    for (size_t i = 0; i < suffix_count; i++)
        walk_key(g, arch->name, suffixes[i]);
    walk_tensors(g);
    nb_gguf_close(g);
    printf("%-16s %-28s %5zu ran, %5zu refused\n", arch->name, models.names[model], runs - ran, refusals - refused);
    return true;
}

static void test_odd_models(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "%s", nb_folder_path("odd.gguf"));
    memset(ones, 0xff, sizeof ones);
    for (size_t i = 0; i < models.count; i++) {
        nb_gguf *g = open_file(file_of(i));
        collect(g);
        nb_gguf_close(g);
    }
    size_t missing = 0;
    for (size_t a = 0; a < nb_arch_count(); a++)
        if (!walk(nb_arch_at(a))) {
            printf("%s: no model among the tests' data\n", nb_arch_at(a)->name);
            missing++;
        }
    printf("%zu keys; %zu ran, %zu were refused\n", suffix_count, runs, refusals);
    assert_true(runs > 0 && refusals > 0);
    assert_int_equal(missing, 0);
}

int main(void)
{
    nb_archs_find(NB_TEST_DATA, NB_TEST_DATA "/archs", ".gguf", &models);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_odd_models, nb_folder_make, nb_folder_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
