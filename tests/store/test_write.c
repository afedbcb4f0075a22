/* What changes a store: blobs, manifests, copies and deletions, what is cleaned when, and what a later reader makes of it. The
 * digests are sha256sum's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

#include "base/file.h"
#include "store/library.h"
#include "store/write.h"
#include "support/folder.h"

#define ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" /* of "abc" */
#define MODEL "application/vnd.ollama.image.model"
#define CONFIG "application/vnd.docker.container.image.v1+json"
#define GGUF NB_TEST_DATA "/archs/llama-2-mha.gguf"

static char root[300];
static nb_arena arena;

static int make(void **state)
{
    (void)state;
    unsetenv("OLLAMA_NOPRUNE");
    snprintf(root, sizeof root, "%s/store", temporary_directory());
    return 0;
}

static int clean(void **state)
{
    (void)state;
    char command[600];
    nb_arena_free(&arena);
    snprintf(command, sizeof command, "rm -rf '%.*s'", (int)strlen(root) - 6, root);
    return system(command);
}

static void ok(nb_status status, const nb_error *err)
{
    if (status != NB_OK)
        fail_msg("%d: %s", status, err->message);
}

static nb_store *open_store(void)
{
    nb_store *s;
    nb_error err;
    ok(nb_store_open(root, &s, &err), &err);
    return s;
}

static const char *in_root(const char *name)
{
    static char path[4][700];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", root, name);
    return path[turn];
}

static const char *blob_path(nb_str digest)
{
    char name[100];
    snprintf(name, sizeof name, "blobs/sha256-%.64s", digest.p + 7);
    return in_root(name);
}

static int files_in(const char *folder)
{
    DIR *d = opendir(in_root(folder));
    int count = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static nb_name name_of(const char *text)
{
    nb_name name;
    nb_error err;
    ok(nb_name_parse(nb_str_of(text), &name, &err), &err);
    return name;
}

static nb_layer put(nb_store *s, const char *text, const char *media)
{
    nb_layer layer;
    nb_error err;
    ok(nb_blob_put(s, nb_str_of(text), media, &arena, &layer, &err), &err);
    return layer;
}

/* a model of a configuration and one layer */
static void put_model(nb_store *s, const char *name, const char *text)
{
    nb_error err;
    nb_name as = name_of(name);
    nb_layer config = put(s, "{}", CONFIG), layer = put(s, text, "application/vnd.ollama.image.license");
    ok(nb_model_put(s, &as, &config, &layer, 1, &err), &err);
}

static bool listed(const char *name)
{
    nb_library *l;
    nb_entry *e = NULL;
    nb_error err;
    ok(nb_library_open(&(nb_library_params){.root = root}, &l, &err), &err);
    nb_status status = nb_library_find(l, nb_str_of(name), &e, &err);
    assert_true(status == NB_OK || status == NB_ERR_NOT_FOUND);
    nb_entry_release(e);
    nb_library_close(l);
    return status == NB_OK;
}

static bool same_file(const char *path, const char *text)
{
    nb_buf got = {0};
    bool same = nb_file_read(path, 1 << 20, &got, NULL) == NB_OK && nb_str_eqz(nb_buf_view(&got), text);
    nb_buf_free(&got);
    return same;
}

static void blobs(void **state)
{
    (void)state;
    nb_error err;
    nb_layer layer = {0};
    nb_blob *b;
    uint64_t size;
    nb_store *s = open_store();
    assert_string_equal(nb_store_path_of(s), root);
    ok(nb_blob_begin(s, &b, &err), &err);
    for (int i = 0; i < 3; i++)
        ok(nb_blob_write(b, &"abc"[i], 1, &err), &err);
    ok(nb_blob_finish(b, NB_STR(ABC), &arena, &layer, &err), &err);
    assert_true(nb_str_eqz(layer.digest, ABC) && layer.size == 3);
    assert_true(same_file(blob_path(layer.digest), "abc"));
    ok(nb_blob_find(s, NB_STR(ABC), &size, &err), &err);
    assert_int_equal(size, 3);
    /* digests as files are called, and in capitals, are the same; nothing else is one */
    ok(nb_blob_find(s, NB_STR("sha256-BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), &size, &err),
       &err);
    assert_int_equal(nb_blob_find(s, NB_STR("sha256:ba7816bf"), &size, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_blob_find(s,
                                  NB_STR("sha256:../../../../../../../../../../../../../../../../../../../etc/passwd"),
                                  &size, &err),
                     NB_ERR_ARGUMENT);
    /* another digest than announced: nothing stays */
    ok(nb_blob_begin(s, &b, &err), &err);
    ok(nb_blob_write(b, "abd", 3, &err), &err);
    assert_int_equal(nb_blob_finish(b, NB_STR(ABC), &arena, &layer, &err), NB_ERR_FORMAT);
    assert_non_null(strstr(err.message, "not " ABC " as announced"));
    ok(nb_blob_begin(s, &b, &err), &err);
    nb_blob_abandon(b);
    assert_int_equal(files_in(".nibble/new"), 0);
    assert_int_equal(files_in("blobs"), 1);
    /* small and large writes in one blob: sha256sum of 2 MiB of 'a', "b", 1 MiB - 1 of 'a' */
    char *many = malloc(2 << 20);
    assert_non_null(many);
    memset(many, 'a', 2 << 20);
    ok(nb_blob_begin(s, &b, &err), &err);
    ok(nb_blob_write(b, many, 2 << 20, &err), &err);
    ok(nb_blob_write(b, "b", 1, &err), &err);
    ok(nb_blob_write(b, many, (1 << 20) - 1, &err), &err);
    ok(nb_blob_finish(b, NB_STR(""), &arena, &layer, &err), &err);
    assert_int_equal(layer.size, 3 << 20);
    char command[900];
    snprintf(command, sizeof command, "test \"$(sha256sum < '%s' | cut -c-64)\" = %.64s", blob_path(layer.digest),
             layer.digest.p + 7);
    assert_int_equal(system(command), 0);
    free(many);
    nb_store_close(s);
}

static bool count_calls(void *user, uint64_t done, uint64_t total)
{
    assert_true(done <= total);
    ++*(int *)user;
    return true;
}

static bool stop_at_once(void *user, uint64_t done, uint64_t total)
{
    (void)user, (void)done, (void)total;
    return false;
}

static void imports(void **state)
{
    (void)state;
    nb_error err;
    nb_layer a, b, c;
    int calls = 0;
    struct stat source, blob;
    nb_store *s = open_store();
    ok(nb_blob_import(s, GGUF, MODEL, false, &arena, &a, count_calls, &calls, &err), &err);
    assert_true(calls >= 1 && nb_str_eqz(a.media, MODEL));
    char command[900];
    snprintf(command, sizeof command, "cmp '%s' '%s' && test \"$(sha256sum < '%s' | cut -c-64)\" = %.64s", GGUF,
             blob_path(a.digest), GGUF, a.digest.p + 7);
    assert_int_equal(system(command), 0);
    assert_true(stat(GGUF, &source) == 0 && stat(blob_path(a.digest), &blob) == 0 && source.st_ino != blob.st_ino);
    /* a blob of the store is itself */
    char path[700];
    snprintf(path, sizeof path, "%s", blob_path(a.digest));
    ok(nb_blob_import(s, path, MODEL, false, &arena, &b, stop_at_once, NULL, &err), &err);
    assert_true(nb_str_eq(a.digest, b.digest) && a.size == b.size);
    assert_int_equal(nb_blob_import(s, GGUF, MODEL, false, &arena, &c, stop_at_once, NULL, &err), NB_ERR_CANCELLED);
    assert_int_equal(nb_blob_import(s, "/nowhere", MODEL, false, &arena, &c, NULL, NULL, &err), NB_ERR_NOT_FOUND);
    assert_int_equal(nb_blob_import(s, "/dev/zero", MODEL, false, &arena, &c, NULL, NULL, &err), NB_ERR_IO);
    assert_int_equal(nb_blob_import(s, root, MODEL, true, &arena, &c, NULL, NULL, &err), NB_ERR_IO);
    assert_int_equal(files_in(".nibble/new"), 0);
    /* a finished file moves in */
    nb_buf scratch = {0};
    ok(nb_store_scratch(s, &scratch, &err), &err);
    snprintf(command, sizeof command, "printf abc > '%s'", scratch.data);
    assert_int_equal(system(command), 0);
    assert_int_equal(nb_blob_adopt(s, scratch.data, a.digest, MODEL, &arena, &c, NULL, NULL, &err), NB_ERR_FORMAT);
    assert_int_equal(access(scratch.data, F_OK), 0);
    ok(nb_blob_adopt(s, scratch.data, NB_STR(ABC), MODEL, &arena, &c, NULL, NULL, &err), &err);
    assert_true(c.size == 3 && access(scratch.data, F_OK) != 0 && same_file(blob_path(c.digest), "abc"));
    nb_buf_free(&scratch);
    nb_store_close(s);
}

/* A hard link is the same file; when that changes, it is named and not opened. */
static void links(void **state)
{
    (void)state;
    nb_error err;
    nb_layer layer, again;
    nb_library *l;
    nb_entry *e;
    nb_source *source;
    uint64_t size;
    struct stat a, b;
    char file[400], command[900];
    snprintf(file, sizeof file, "%.*s/model.gguf", (int)strlen(root) - 6, root);
    snprintf(command, sizeof command, "cp '%s' '%s'; chmod u+w '%s'", GGUF, file, file);
    assert_int_equal(system(command), 0);
    nb_store *s = open_store();
    nb_layer config = put(s, "{}", CONFIG);
    nb_name name = name_of("linked");
    ok(nb_blob_import(s, file, MODEL, true, &arena, &layer, NULL, NULL, &err), &err);
    assert_true(stat(file, &a) == 0 && stat(blob_path(layer.digest), &b) == 0 && a.st_ino == b.st_ino &&
                a.st_nlink == 2);
    ok(nb_model_put(s, &name, &config, &layer, 1, &err), &err);
    ok(nb_blob_import(s, file, MODEL, true, &arena, &again, NULL, NULL, &err), &err); /* twice is as once */
    assert_int_equal(files_in(".nibble/new"), 0);
    ok(nb_library_open(&(nb_library_params){.root = root}, &l, &err), &err);
    ok(nb_library_find(l, NB_STR("linked"), &e, &err), &err);
    ok(nb_entry_open(e, &source, &err), &err);
    nb_source_free(source);
    /* a changed time is a change */
    assert_int_equal(utime(file, &(struct utimbuf){1, 1}), 0);
    assert_int_equal(nb_entry_open(e, &source, &err), NB_ERR_IO);
    assert_non_null(strstr(err.message, file));
    assert_non_null(strstr(err.message, "has changed since; create the model again"));
    assert_int_equal(nb_blob_find(s, layer.digest, &size, &err), NB_ERR_NOT_FOUND);
    assert_int_equal(nb_model_put(s, &name, &config, &layer, 1, &err), NB_ERR_NOT_FOUND);
    /* created again by a copy it is whole, and the file is nobody's business any more */
    ok(nb_blob_import(s, GGUF, MODEL, false, &arena, &again, NULL, NULL, &err), &err);
    assert_true(nb_str_eq(again.digest, layer.digest));
    ok(nb_entry_open(e, &source, &err), &err);
    nb_source_free(source);
    nb_entry_release(e);
    nb_library_close(l);
    /* with the model goes the record */
    ok(nb_blob_import(s, file, MODEL, true, &arena, &layer, NULL, NULL, &err), &err);
    assert_int_equal(files_in(".nibble/linked/blobs"), 1);
    ok(nb_model_delete(s, &name, &err), &err);
    assert_int_equal(files_in(".nibble/linked/blobs"), 0);
    assert_int_equal(access(file, F_OK), 0);
    nb_store_close(s);
    unlink(file);
}

static void models(void **state)
{
    (void)state;
    nb_error err;
    char command[900];
    nb_store *s = open_store();
    put_model(s, "first", "one");
    put_model(s, "example.com/me/second:v1", "two");
    assert_true(listed("first") && listed("example.com/me/second:v1"));
    assert_int_equal(access(in_root("manifests/registry.ollama.ai/library/first/latest"), F_OK), 0);
    assert_int_equal(access(in_root("manifests/example.com/me/second/v1"), F_OK), 0);
    assert_int_equal(files_in("blobs"), 3);
    assert_int_equal(files_in(".nibble/pending/blobs"), 0);
    /* other letters' case is the same model; what only it named goes */
    put_model(s, "FIRST", "three");
    assert_int_equal(files_in("manifests/registry.ollama.ai/library"), 1);
    assert_int_equal(files_in("blobs"), 3);
    nb_name first = name_of("First"), copy = name_of("me/copy"), second = name_of("example.com/me/second:v1");
    ok(nb_model_copy(s, &first, &copy, &err), &err);
    snprintf(command, sizeof command, "cmp '%s' '%s'", in_root("manifests/registry.ollama.ai/library/first/latest"),
             in_root("manifests/registry.ollama.ai/me/copy/latest"));
    assert_int_equal(system(command), 0);
    ok(nb_model_delete(s, &first, &err), &err);
    assert_false(listed("first"));
    assert_int_equal(access(in_root("manifests/registry.ollama.ai/library"), F_OK), -1);
    assert_int_equal(files_in("blobs"), 3); /* the copy has them */
    ok(nb_model_delete(s, &copy, &err), &err);
    assert_int_equal(files_in("blobs"), 2);
    assert_int_equal(nb_model_delete(s, &copy, &err), NB_ERR_NOT_FOUND);
    assert_string_equal(err.message, "model 'me/copy:latest' not found");
    assert_int_equal(nb_model_copy(s, &copy, &first, &err), NB_ERR_NOT_FOUND);
    ok(nb_model_delete(s, &second, &err), &err);
    assert_int_equal(files_in("blobs"), 0);
    assert_int_equal(files_in("manifests"), 0);
    nb_store_close(s);
}

static void refuses(void **state)
{
    (void)state;
    nb_error err;
    nb_store *s = open_store();
    nb_name name = name_of("bad");
    nb_layer config = put(s, "{}", CONFIG), missing = config, wrong = config;
    missing.digest = NB_STR(ABC);
    wrong.size++;
    assert_int_equal(nb_model_put(s, &name, &config, &missing, 1, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, ABC));
    assert_int_equal(nb_model_put(s, &name, &config, &wrong, 1, &err), NB_ERR_FORMAT);
    assert_int_equal(nb_model_put_bytes(s, &name, NB_STR("{\"layers\":[{\"digest\":\"sha256:../../x\"}]}"), &err),
                     NB_ERR_FORMAT);
    strcpy(name.space, "../..");
    assert_int_equal(nb_model_put(s, &name, &config, NULL, 0, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_model_delete(s, &name, &err), NB_ERR_ARGUMENT);
    assert_false(listed("bad"));
    nb_store_close(s);
    nb_store *none;
    assert_int_equal(nb_store_open("/dev/null/store", &none, &err), NB_ERR_IO);
    assert_int_equal(nb_store_open("", &none, &err), NB_ERR_ARGUMENT);
}

/* What nobody writes any more goes; what another writer may be about to name, and what Ollama wrote, stays. */
static void cleans(void **state)
{
    (void)state;
    nb_error err;
    uint64_t bytes;
    char command[900];
    nb_store *a = open_store(), *b = open_store();
    nb_layer mine = put(a, "mine", "x");
    nb_blob *half;
    ok(nb_blob_begin(a, &half, &err), &err);
    assert_int_equal(files_in(".nibble/new"), 1);
    ok(nb_store_clean(b, &bytes, &err), &err); /* a is at work */
    assert_int_equal(bytes, 0);
    assert_int_equal(access(blob_path(mine.digest), F_OK), 0);
    nb_store_close(b);
    put_model(a, "keeps", "text");
    snprintf(command, sizeof command, "printf theirs > '%s'; printf x > '%s'",
             in_root("blobs/sha256-1111111111111111111111111111111111111111111111111111111111111111"),
             in_root(".nibble/new/left-behind"));
    assert_int_equal(system(command), 0);
    nb_blob_abandon(half);
    nb_layer sent = put(a, "sent by a client", "x");
    ok(nb_blob_keep(a, sent.digest, 3600, &err), &err);
    nb_store_close(a);
    setenv("OLLAMA_NOPRUNE", "1", 1);
    nb_store_close(open_store());
    assert_int_equal(files_in(".nibble/new"), 1);
    unsetenv("OLLAMA_NOPRUNE");
    /* a manifest that cannot be read might name anything */
    snprintf(command, sizeof command, "mkdir -p '%s' && : > '%s'", in_root("manifests/h/n/broken"),
             in_root("manifests/h/n/broken/x"));
    assert_int_equal(system(command), 0);
    a = open_store();
    assert_int_equal(nb_store_clean(a, &bytes, &err), NB_ERR_FORMAT);
    assert_int_equal(access(blob_path(mine.digest), F_OK), 0);
    nb_store_close(a);
    nb_name broken = name_of("h/n/broken:x");
    a = open_store();
    ok(nb_model_delete(a, &broken, &err), &err);
    nb_store_close(a);
    nb_store_close(open_store());
    assert_int_equal(access(blob_path(mine.digest), F_OK), -1);
    assert_int_equal(access(blob_path(sent.digest), F_OK), 0);
    assert_int_equal(files_in(".nibble/new"), 0);
    assert_int_equal(
        access(in_root("blobs/sha256-1111111111111111111111111111111111111111111111111111111111111111"), F_OK), 0);
    assert_true(listed("keeps"));
    assert_int_equal(files_in("blobs"), 4);
    /* two layers of one digest are one blob, which stays while either names it */
    a = open_store();
    nb_name twice = name_of("twice");
    nb_layer config = put(a, "{}", CONFIG), same[2] = {put(a, "same", "x"), put(a, "same", "y")};
    ok(nb_model_put(a, &twice, &config, same, 2, &err), &err);
    assert_int_equal(access(blob_path(same[0].digest), F_OK), 0);
    ok(nb_model_put(a, &twice, &config, same, 1, &err), &err);
    assert_int_equal(access(blob_path(same[0].digest), F_OK), 0);
    nb_store_close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blobs, make, clean),   cmocka_unit_test_setup_teardown(imports, make, clean),
        cmocka_unit_test_setup_teardown(links, make, clean),   cmocka_unit_test_setup_teardown(models, make, clean),
        cmocka_unit_test_setup_teardown(refuses, make, clean), cmocka_unit_test_setup_teardown(cleans, make, clean)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
