/* What `nibble plan` says against what the process takes: mmap is counted by putting our own in its place. */
#define _GNU_SOURCE
/* cmocka.h needs these first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <jansson.h>

#include "engine/engine.h"
#include "support/cached.h"

static size_t anonymous_bytes, anonymous_maps;

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (flags & MAP_ANONYMOUS) {
        anonymous_bytes += bytes;
        anonymous_maps++;
    }
    long p = syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
    return (void *)p; /* the C library's syscall gives -1, MAP_FAILED, on an error */
}

/* one number of `nibble plan FILE OPTIONS --json` */
static size_t planned(const char *path, const char *options, const char *key)
{
    char command[2048];
    snprintf(command, sizeof command, "%s plan '%s' %s --json", NB_TEST_BINARY, path, options);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    json_error_t err;
    json_t *root = json_loadf(f, 0, &err);
    pclose(f);
    assert_non_null(root);
    json_t *value = json_object_get(root, key);
    assert_true(json_is_integer(value));
    size_t n = (size_t)json_integer_value(value);
    json_decref(root);
    return n;
}

static void check(const char *name, const char *options, nb_model_params params, nb_session_params session)
{
    char path[1024];
    nb_error err;
    nb_model *m;
    nb_session *s;
    nb_cached("models", name, path);
    anonymous_bytes = 0;
    if (nb_model_open(path, &params, &m, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(anonymous_bytes, planned(path, options, "weights_copied"));
    anonymous_bytes = anonymous_maps = 0;
    assert_int_equal(nb_session_open(m, &session, &s, &err), NB_OK);
    assert_int_equal(anonymous_maps, 1); /* one allocation a session */
    assert_int_equal(anonymous_bytes, planned(path, options, "session"));
    printf("%s %s: %zu bytes of weights, %zu of session, as planned\n", name, options,
           planned(path, options, "weights_copied"), anonymous_bytes);
    nb_session_close(s);
    nb_model_close(m);
}

static void test_plan(void **state)
{
    (void)state;
    nb_model_params two = nb_model_defaults(), three = two, exact = two, in_place = two;
    two.threads = exact.threads = in_place.threads = 2;
    three.threads = 3;
    exact.exact = true;
    in_place.repack = false;
    check("smollm2-135m-instruct-q4_1.gguf", "-t 2", two, nb_session_defaults());
    check("smollm2-135m-instruct-q4_1.gguf", "-t 3 --ctx 1000 --kv-type q8_0", three,
          (nb_session_params){.context = 1000, .kv_type = "q8_0"});
    check("smollm2-135m-instruct-q4_1.gguf", "-t 2 --no-repack", in_place, nb_session_defaults());
    check("gemma-3-270m-q4_k_m.gguf", "-t 2 --ctx 4096", two, (nb_session_params){.context = 4096});
    check("gemma-3-270m-q4_k_m.gguf", "-t 2 --exact --ctx 4096", exact, (nb_session_params){.context = 4096});
}

/* window layers keep their window only: a context eight times as long costs the 15 window layers nothing more */
static void test_window_layers_stay_small(void **state)
{
    (void)state;
    char path[1024];
    nb_cached("models", "gemma-3-270m-q4_k_m.gguf", path);
    size_t short_cache = planned(path, "--ctx 4096", "cache"), long_cache = planned(path, "--ctx 32768", "cache");
    size_t page = 64 * 256 * 2 * 2; /* positions, head dimension, K and V, F16 */
    assert_int_equal(long_cache - short_cache, 3 * (32768 - 4096) / 64 * page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plan), cmocka_unit_test(test_window_layers_stay_small)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
