/* Writers at once, threads and processes: whatever they create, copy and delete, every manifest that is there names blobs that are
 * there; and when all have ended nothing is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/library.h"
#include "store/write.h"
#include "support/folder.h"
#include "support/sanitized.h"
#include "support/whole_store.h"

#ifdef NB_SANITIZED
enum { ROUNDS = 40 };
#else
enum { ROUNDS = 150 };
#endif
enum { WRITERS = 4, NAMES = 3, TEXTS = 5 };

static char root[300];
static atomic_bool stop_reading;

static int make(void **state)
{
    (void)state;
    unsetenv("OLLAMA_NOPRUNE");
    snprintf(root, sizeof root, "%s", temporary_directory());
    return 0;
}

static int clean(void **state)
{
    (void)state;
    char command[400];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

/* one step; 0: as it should be */
static int step(unsigned random)
{
    nb_store *s;
    nb_error err = {0};
    nb_arena arena = {0};
    nb_layer config, layers[2];
    nb_name name, other;
    char text[40], a[20], b[20];
    snprintf(text, sizeof text, "text %u", random / 7 % TEXTS);
    snprintf(a, sizeof a, "m%u", random / 100 % NAMES);
    snprintf(b, sizeof b, "m%u", random / 1000 % NAMES);
    nb_name_parse(nb_str_of(a), &name, NULL);
    nb_name_parse(nb_str_of(b), &other, NULL);
    nb_status status = nb_store_open(root, &s, &err);
    if (status == NB_OK && random % 4 < 2) {
        status = nb_blob_put(s, nb_str_of(text), "a", &arena, &layers[0], &err);
        if (status == NB_OK)
            status = nb_blob_put(s, NB_STR("the same for all"), "b", &arena, &layers[1], &err);
        if (status == NB_OK)
            status = nb_blob_put(s, NB_STR("{}"), "c", &arena, &config, &err);
        if (status == NB_OK)
            status = nb_model_put(s, &name, &config, layers, 2, &err);
    } else if (status == NB_OK && random % 4 == 2) {
        status = nb_model_copy(s, &name, &other, &err);
    } else if (status == NB_OK) {
        status = nb_model_delete(s, &name, &err);
    }
    nb_store_close(s);
    nb_arena_free(&arena);
    if (status == NB_OK || (status == NB_ERR_NOT_FOUND && random % 4 >= 2 && strstr(err.message, "not found")))
        return 0;
    fprintf(stderr, "%s\n", err.message);
    return 1;
}

static void *write_some(void *seed)
{
    unsigned random = 12345 * (unsigned)(uintptr_t)seed;
    intptr_t bad = 0;
    for (int i = 0; i < ROUNDS && !bad; i++) {
        random = random * 1664525 + 1013904223;
        bad = step(random >> 8);
    }
    return (void *)bad;
}

/* A manifest whose blob is missing has to be gone or another one. */
static int look(const char *name)
{
    char path[500];
    static const char *const kinds[] = {"gone", "gone too", "still gone"};
    snprintf(path, sizeof path, "%s/manifests/registry.ollama.ai/library/%s/latest", root, name);
    for (int attempt = 0; attempt < 3; attempt++) {
        nb_manifest *m, *again;
        bool missing = false, same = false;
        if (nb_manifest_read(path, &m, NULL) != NB_OK)
            return 0;
        for (size_t i = 0; i < m->count; i++) {
            char blob[500];
            snprintf(blob, sizeof blob, "%s/blobs/sha256-%.64s", root, m->layers[i].digest.p + 7);
            missing |= access(blob, F_OK) != 0;
        }
        if (missing && nb_manifest_read(path, &again, NULL) == NB_OK) {
            same = strcmp(m->digest, again->digest) == 0;
            nb_manifest_free(again);
        }
        nb_manifest_free(m);
        if (!same)
            return 0;
        fprintf(stderr, "%s: a blob is %s\n", name, kinds[attempt]); /* it may have gone and come back meanwhile */
    }
    return 1;
}

static void *read_some(void *unused)
{
    (void)unused;
    intptr_t bad = 0;
    while (!atomic_load(&stop_reading) && !bad)
        for (unsigned i = 0; i < NAMES; i++) {
            char name[20];
            snprintf(name, sizeof name, "m%u", i);
            bad |= look(name);
        }
    return (void *)bad;
}

static void check_end(void)
{
    static ws_store w;
    nb_store *s;
    nb_error err;
    if (!ws_whole(&w, root))
        fail_msg("%s", w.why);
    assert_int_equal(nb_store_open(root, &s, &err), NB_OK);
    nb_store_close(s);
    if (!ws_whole(&w, root) || !ws_clean(&w))
        fail_msg("%s", w.why);
}

static void threads(void **state)
{
    (void)state;
    pthread_t writers[WRITERS], reader;
    void *bad;
    atomic_store(&stop_reading, false);
    assert_int_equal(pthread_create(&reader, NULL, read_some, NULL), 0);
    for (uintptr_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_some, (void *)(i + 1)), 0);
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i], &bad);
        assert_null(bad);
    }
    atomic_store(&stop_reading, true);
    pthread_join(reader, &bad);
    assert_null(bad);
    check_end();
}

static void processes(void **state)
{
    (void)state;
    pid_t writers[WRITERS];
    for (uintptr_t i = 0; i < WRITERS; i++) {
        writers[i] = fork();
        if (writers[i] == 0)
            _exit(write_some((void *)(i + 11)) ? 1 : 0);
        assert_true(writers[i] > 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        int status;
        waitpid(writers[i], &status, 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    check_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(processes, make, clean),
                                       cmocka_unit_test_setup_teardown(threads, make, clean)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
