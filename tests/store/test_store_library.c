/* Libraries that change: what is added, changed and removed is seen by the next call, what stays stays the same object; loose
 * files and directories; look-up; many threads at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "store/library.h"
#include "support/folder.h"

#define GGUF NB_TEST_DATA "/archs/llama-2-mha.gguf"
#define DIRECTORY NB_TEST_DATA "/hf/llama-2-mha"

static char root[300];

static int make(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "%s", temporary_directory());
    return 0;
}

static int clean(void **state)
{
    (void)state;
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static const char *path_of(const char *name)
{
    static char path[800];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static void put(const char *name, const char *text)
{
    char command[900];
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s')\"", path_of(name));
    assert_int_equal(system(command), 0);
    FILE *f = fopen(path_of(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

#define MANIFEST(size)                                                                                                 \
    "{\"schemaVersion\":2,\"layers\":[{\"mediaType\":\"x\",\"digest\":\"sha256:" ZEROS "\",\"size\":" size "}]}"
#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define MODEL(name) "manifests/registry.ollama.ai/library/" name

static nb_library *open_root(void)
{
    nb_library *l;
    nb_error err;
    if (nb_library_open(&(nb_library_params){.root = root}, &l, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_string_equal(nb_library_root(l), root);
    return l;
}

static nb_entry_list *list_of(nb_library *l)
{
    nb_entry_list *list;
    nb_error err;
    if (nb_library_list(l, &list, &err) != NB_OK)
        fail_msg("%s", err.message);
    return list;
}

static void expect_size(nb_library *l, const char *name, long long size)
{
    nb_entry *e = NULL;
    nb_error err = {0};
    nb_status status = nb_library_find(l, nb_str_of(name), &e, &err);
    if (size < 0) {
        assert_int_equal(status, NB_ERR_NOT_FOUND);
        assert_null(e);
        assert_non_null(strstr(err.message, "not found"));
        return;
    }
    if (status != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(nb_entry_size(e), size);
    nb_entry_release(e);
}

static void settle(void) { usleep(80000); } /* longer than what a file's time may lag */

static void changes(void **state)
{
    (void)state;
    nb_library *l = open_root(); /* nothing there yet: no store is an empty one */
    nb_entry_list *list = list_of(l), *again;
    assert_int_equal(nb_entry_list_count(list), 0);
    nb_entry_list_release(list);
    expect_size(l, "a", -1);
    put(MODEL("a/latest"), MANIFEST("1"));
    expect_size(l, "a", 1);
    put(MODEL("a/latest"), MANIFEST("2")); /* in place, at once, of the same length */
    expect_size(l, "a", 2);
    put(MODEL("a/other"), MANIFEST("3"));
    put("manifests/hf.co/user/Repo/Q4_K_M", MANIFEST("4"));
    expect_size(l, "A:Other", 3);
    expect_size(l, "HF.co/User/repo:q4_k_m", 4);
    settle();
    list_of(l);
    list = list_of(l);
    assert_int_equal(nb_entry_list_count(list), 3);
    nb_entry *kept = nb_entry_retain(nb_entry_list_at(list, 0));
    again = list_of(l);
    assert_ptr_equal(list, again); /* nothing changed: the same object */
    nb_entry_list_release(again);
    nb_entry_list_release(list);
    nb_entry_list_release(list); /* the first of the two above */
    put(MODEL("b/latest"), MANIFEST("5"));
    list = list_of(l);
    assert_int_equal(nb_entry_list_count(list), 4);
    assert_string_equal(nb_entry_text(nb_entry_list_at(list, 0)), "b:latest"); /* the newest first */
    int same = 0;
    for (size_t i = 0; i < 4; i++)
        same += nb_entry_list_at(list, i) == kept; /* what did not change is the same object */
    assert_int_equal(same, 1);
    unlink(path_of(MODEL("a/latest")));
    expect_size(l, "a", -1);
    nb_library_close(l);
    assert_int_equal(nb_entry_list_count(list), 4); /* a list outlives what it is of */
    nb_entry_list_release(list);
    assert_true(nb_entry_size(kept) > 0);
    nb_entry_release(kept);
}

static void letters(void **state)
{
    (void)state;
    put(MODEL("Mixed/latest"), MANIFEST("1"));
    put(MODEL("mixed/latest"), MANIFEST("2"));
    nb_library *l = open_root();
    expect_size(l, "Mixed", 1);
    expect_size(l, "mixed", 2);
    nb_entry *e;
    assert_int_equal(nb_library_find(l, NB_STR("MIXED"), &e, NULL), NB_OK);
    nb_entry_release(e);
    nb_library_close(l);
}

static void problems(void **state)
{
    (void)state;
    put(MODEL("good/latest"), MANIFEST("1"));
    put(MODEL("bad/latest"), "{");
    put(MODEL("bad name/latest"), MANIFEST("1"));
    put(MODEL(".hidden/latest"), MANIFEST("1"));
    put(MODEL("good/.DS_Store"), "x");
    put("manifests/stray", "x");
    put("manifests/registry.ollama.ai/library/deep/er/est", MANIFEST("1"));
    assert_int_equal(symlink(root, path_of(MODEL("loop"))), 0);
    assert_int_equal(symlink("/nowhere", path_of(MODEL("good/gone"))), 0);
    put(MODEL("fifo/x"), "x");
    assert_int_equal(mkfifo(path_of(MODEL("fifo/latest")), 0644), 0);
    nb_library *l = open_root();
    nb_entry_list *list = list_of(l);
    nb_entry *e;
    nb_error err;
    assert_int_equal(nb_entry_list_count(list), 1);
    assert_string_equal(nb_entry_text(nb_entry_list_at(list, 0)), "good:latest");
    int seen = 0;
    for (size_t i = 0; i < nb_entry_list_problems(list); i++) {
        const char *p = nb_entry_list_problem(list, i);
        seen |= strstr(p, "bad/latest: byte") ? 1 : 0;
        seen |= strstr(p, "bad name/latest: is no model name") ? 2 : 0;
        seen |= strstr(p, "fifo/latest: is a FIFO") ? 4 : 0;
    }
    assert_int_equal(seen, 7);
    assert_int_equal(nb_library_find(l, NB_STR("bad"), &e, &err), NB_ERR_FORMAT); /* it is there, and this is why not */
    assert_non_null(strstr(err.message, "bad/latest"));
    assert_int_equal(nb_library_find(l, NB_STR("../bad"), &e, &err), NB_ERR_ARGUMENT);
    nb_entry_list_release(list);
    nb_library_close(l);
    put("file", "");
    assert_int_equal(nb_library_open(&(nb_library_params){.root = path_of("file")}, &l, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "OLLAMA_MODELS"));
}

static void where(void **state)
{
    (void)state;
    nb_buf path = {0};
    setenv("OLLAMA_MODELS", " \"/a b\" ", 1);
    assert_int_equal(nb_store_root(&path, NULL), NB_OK);
    assert_string_equal(path.data, "/a b");
    nb_buf_clear(&path);
    setenv("OLLAMA_MODELS", "", 1);
    setenv("HOME", "/home/x", 1);
    assert_int_equal(nb_store_root(&path, NULL), NB_OK);
    assert_string_equal(path.data, "/home/x/.ollama/models");
    nb_buf_clear(&path);
    unsetenv("OLLAMA_MODELS");
    unsetenv("HOME");
    nb_error err;
    assert_int_equal(nb_store_root(&path, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "OLLAMA_MODELS"));
    nb_buf_free(&path);
}

/* ---- loose files ---- */

static nb_status open_files(const char *const *files, size_t count, nb_library **l, nb_error *err)
{
    return nb_library_open(&(nb_library_params){.no_store = true, .files = files, .file_count = count}, l, err);
}

static void copy_to(const char *name)
{
    char command[1200];
    snprintf(command, sizeof command, "cp '%s' '%s'", GGUF, path_of(name));
    assert_int_equal(system(command), 0);
}

static void loose(void **state)
{
    (void)state;
    nb_library *l;
    nb_error err;
    nb_entry *e;
    const nb_details *d;
    nb_source *s;
    const char *files[] = {GGUF, DIRECTORY "/"};
    copy_to("My model.Q8_0.gguf");
    files[0] = strdup(path_of("My model.Q8_0.gguf"));
    if (open_files(files, 2, &l, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_string_equal(nb_library_root(l), "");
    assert_int_equal(nb_library_find(l, NB_STR("my-model.q8_0"), &e, &err), NB_OK);
    assert_string_equal(nb_entry_text(e), "My-model.Q8_0:latest");
    assert_int_equal(strlen(nb_entry_digest(e)), 64);
    struct stat st;
    assert_int_equal(stat(files[0], &st), 0);
    assert_int_equal(nb_entry_size(e), st.st_size);
    assert_int_equal(nb_entry_details(e, &d, &err), NB_OK);
    assert_true(nb_str_eqz(d->format, "gguf") && nb_str_eqz(d->family, "llama") && d->family_count == 1);
    assert_true(d->parameters > 1000 && d->context_length > 0 && d->embedding_length > 0 && d->parameter_size.n);
    assert_true(d->capabilities & NB_CAN_COMPLETE);
    assert_int_equal(nb_entry_open(e, &s, &err), NB_OK);
    nb_source_free(s);
    nb_buf text = {0};
    assert_int_equal(nb_entry_modelfile(e, &text, &err), NB_OK);
    assert_non_null(strstr(text.data, "FROM /"));
    nb_buf_free(&text);
    /* the directory of which the file was made counts the same parameters */
    nb_entry *dir;
    const nb_details *dd;
    assert_int_equal(nb_library_find(l, NB_STR("llama-2-mha"), &dir, &err), NB_OK);
    assert_int_equal(nb_entry_kind_of(dir), NB_ENTRY_DIRECTORY);
    assert_int_equal(nb_entry_details(dir, &dd, &err), NB_OK);
    assert_true(nb_str_eqz(dd->format, "safetensors") && nb_str_eqz(dd->family, "llama"));
    assert_int_equal(dd->parameters, d->parameters);
    assert_true(nb_entry_size(dir) > 1000);
    nb_entry_release(dir);
    /* replaced: another entry; gone: a problem */
    char old[65];
    strcpy(old, nb_entry_digest(e));
    nb_entry_release(e);
    settle();
    assert_int_equal(truncate(files[0], st.st_size - 1), 0);
    assert_int_equal(nb_library_find(l, NB_STR("My-model.Q8_0"), &e, &err), NB_OK);
    assert_string_not_equal(nb_entry_digest(e), old);
    assert_int_equal(nb_entry_details(e, &d, &err), NB_OK); /* damaged: listed, with nothing known */
    assert_int_equal(d->parameters, 0);
    assert_int_not_equal(nb_entry_open(e, &s, &err), NB_OK);
    nb_entry_release(e);
    unlink(files[0]);
    assert_int_equal(nb_library_find(l, NB_STR("My-model.Q8_0"), &e, &err), NB_ERR_NOT_FOUND);
    nb_entry_list *list = list_of(l);
    assert_true(nb_entry_list_count(list) == 1 && nb_entry_list_problems(list) == 1);
    nb_entry_list_release(list);
    nb_library_close(l);
    free((char *)files[0]);
}

static void loose_refused(void **state)
{
    (void)state;
    nb_library *l;
    nb_error err;
    char *a, *b;
    copy_to("x.gguf");
    a = strdup(path_of("x.gguf"));
    put("sub/X.gguf", "");
    b = strdup(path_of("sub/X.gguf"));
    assert_int_equal(open_files((const char *[]){a, b}, 2, &l, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "would both be named"));
    assert_int_equal(open_files((const char *[]){"/nowhere/x.gguf"}, 1, &l, &err), NB_ERR_NOT_FOUND);
    assert_int_not_equal(open_files((const char *[]){root}, 1, &l, &err), NB_OK);
    assert_non_null(strstr(err.message, "config.json"));
    assert_int_equal(open_files((const char *[]){"/dev/zero"}, 1, &l, &err), NB_ERR_ARGUMENT);
    /* it hides the stored model of its name */
    put(MODEL("X/latest"), MANIFEST("1"));
    put(MODEL("y/latest"), MANIFEST("1"));
    assert_int_equal(
        nb_library_open(&(nb_library_params){.root = root, .files = (const char *[]){a}, .file_count = 1}, &l, &err),
        NB_OK);
    nb_entry_list *list = list_of(l);
    assert_int_equal(nb_entry_list_count(list), 2);
    nb_entry *e;
    assert_int_equal(nb_library_find(l, NB_STR("X"), &e, &err), NB_OK);
    assert_int_equal(nb_entry_kind_of(e), NB_ENTRY_FILE);
    nb_entry_release(e);
    nb_entry_list_release(list);
    nb_library_close(l);
    free(a);
    free(b);
}

/* ---- threads ---- */

static void *ask(void *user)
{
    nb_library *l = user;
    for (int i = 0; i < 60; i++) {
        nb_entry_list *list;
        nb_entry *e;
        const nb_details *d;
        const nb_contents *c;
        assert_int_equal(nb_library_list(l, &list, NULL), NB_OK);
        for (size_t j = 0; j < nb_entry_list_count(list); j++)
            assert_int_equal(nb_entry_contents(nb_entry_list_at(list, j), &c, NULL), NB_OK);
        nb_entry_list_release(list);
        assert_int_equal(nb_library_find(l, NB_STR("x"), &e, NULL), NB_OK);
        assert_int_equal(nb_entry_details(e, &d, NULL), NB_OK);
        assert_true(d->parameters > 0);
        nb_entry_release(e);
    }
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    nb_library *l;
    nb_error err;
    pthread_t team[4];
    copy_to("x.gguf");
    const char *file = strdup(path_of("x.gguf"));
    put(MODEL("a/latest"), MANIFEST("0"));
    assert_int_equal(nb_library_open(&(nb_library_params){.root = root, .files = &file, .file_count = 1}, &l, &err),
                     NB_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&team[i], NULL, ask, l), 0);
    for (int i = 0; i < 40; i++) {
        char name[100];
        snprintf(name, sizeof name, MODEL("a/t%d"), i);
        put(name, MANIFEST("0"));
    }
    for (int i = 0; i < 4; i++)
        pthread_join(team[i], NULL);
    nb_entry_list *list = list_of(l);
    assert_int_equal(nb_entry_list_count(list), 42);
    nb_entry_list_release(list);
    nb_library_close(l);
    free((char *)(uintptr_t)file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(changes, make, clean),
                                       cmocka_unit_test_setup_teardown(letters, make, clean),
                                       cmocka_unit_test_setup_teardown(problems, make, clean),
                                       cmocka_unit_test(where),
                                       cmocka_unit_test_setup_teardown(loose, make, clean),
                                       cmocka_unit_test_setup_teardown(loose_refused, make, clean),
                                       cmocka_unit_test_setup_teardown(threads, make, clean)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
