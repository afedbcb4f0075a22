/* Every allocation of the reader and the writer fails once: an out-of-memory error, nothing leaked (the leak checker's
 * part), nothing crashed, no file left. The sources are compiled in here with their allocator replaced. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long countdown; /* the allocation that fails, from 1; 0: none */

static bool fails(void) { return countdown > 0 && --countdown == 0; }
static void *failing_malloc(size_t n) { return fails() ? NULL : malloc(n); }
static void *failing_calloc(size_t n, size_t size) { return fails() ? NULL : calloc(n, size); }
static void *failing_realloc(void *p, size_t n) { return fails() ? NULL : realloc(p, n); }
static char *failing_strdup(const char *s) { return fails() ? NULL : strdup(s); }

#define malloc failing_malloc
#define calloc failing_calloc
#define realloc failing_realloc
#undef strdup
#define strdup failing_strdup
#include "../../src/base/mem.c"
#include "../../src/format/gguf.c"
#include "../../src/format/gguf_parse.c"
#include "../../src/format/gguf_write.c"
#undef malloc
#undef calloc
#undef realloc
#undef strdup

#include "gguf_builder.h"

#define VECTOR NB_TEST_DATA "/format/gguf-py.gguf"

static void reader(void **state)
{
    (void)state;
    nb_status status = NB_ERR_MEMORY;
    long n = 0;
    while (status != NB_OK) {
        nb_gguf *g;
        nb_error err = {0};
        nb_str *strings;
        nb_arena arena = {0};
        size_t count;
        countdown = ++n;
        status = nb_gguf_open(VECTOR, &g, &err);
        if (status == NB_OK)
            status = nb_gguf_get_strings(g, "t.strings", &arena, &strings, &count, &err);
        if (status != NB_OK && (status != NB_ERR_MEMORY || !strstr(err.message, "out of memory")))
            fail_msg("allocation %ld: %s", n, err.message);
        nb_arena_free(&arena);
        nb_gguf_close(g);
    }
    assert_true(n > 8);
}

static nb_status copy(const nb_gguf *g, const char *path, nb_error *err)
{
    nb_gguf_writer *w;
    nb_str strings[] = {NB_STR("a"), NB_STR("b")};
    NB_TRY(nb_gguf_writer_open(path, 64, &w, err));
    for (size_t i = 0; i < nb_gguf_value_count(g); i++)
        nb_gguf_put_value(w, nb_gguf_value_at(g, i));
    for (uint32_t i = 0; i < 100; i++) {
        char key[16];
        snprintf(key, sizeof key, "key.%u", i);
        nb_gguf_put_u32(w, key, i);
    }
    nb_gguf_put_strings(w, "strings", strings, 2);
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        nb_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dims);
    }
    nb_status status = NB_OK;
    for (size_t i = 0; i < nb_gguf_tensor_count(g) && status == NB_OK; i++)
        status = nb_gguf_writer_data(w, nb_gguf_tensor_at(g, i)->data, nb_gguf_tensor_at(g, i)->bytes, err);
    if (status == NB_OK)
        return nb_gguf_writer_commit(w, err);
    nb_gguf_writer_abort(w);
    return status;
}

static void writer(void **state)
{
    (void)state;
    nb_status status = NB_ERR_MEMORY;
    nb_gguf *g;
    char *directory = temporary_directory(), path[400];
    assert_non_null(directory);
    snprintf(path, sizeof path, "%s/copy.gguf", directory);
    countdown = 0;
    assert_int_equal(nb_gguf_open(VECTOR, &g, NULL), NB_OK);
    long n = 0;
    while (status != NB_OK) {
        nb_error err = {0};
        countdown = ++n;
        status = copy(g, path, &err);
        if (status != NB_OK && (status != NB_ERR_MEMORY || !strstr(err.message, "out of memory")))
            fail_msg("allocation %ld: %s", n, err.message);
        assert_int_equal(access(path, F_OK), status == NB_OK ? 0 : -1);
    }
    assert_true(n > 8);
    countdown = 0;
    nb_gguf_close(g);
    unlink(path);
    assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reader), cmocka_unit_test(writer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
