/* nibble create, rm and pull, killed at every system call that changes a file or its name (by strace's fault injection): what is listed
 * afterwards is whole, digest by digest, and the next writer leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/library.h"
#include "store/write.h"
#include "support/folder.h"
#include "support/hostile.h"
#include "support/sanitized.h"
#include "support/whole_store.h"

#define SOURCE NB_TEST_DATA "/convert/source.gguf"
#define CALLS                                                                                                          \
    "openat,open,creat,write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"   \
    "mkdir,mkdirat,rmdir,ftruncate,ioctl,utimensat,symlink,symlinkat"

#define SENDS "sendto,sendmsg"

enum { POINTS = 400 };
#ifdef NB_SANITIZED
enum { STRIDE = 9 }; /* of the points: there, a start takes long */
#else
enum { STRIDE = 1 };
#endif

static char folder[260];

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", temporary_directory());
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* which would trace it, too */
    unsetenv("OLLAMA_NOPRUNE");
    return 0;
}

static int clean(void **state)
{
    (void)state;
    char command[400];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static int run(const char *format, ...) NB_PRINTF(1, 2);
static int run(const char *format, ...)
{
    char command[3000];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- where to kill ---- */

typedef struct point {
    char call[24];
    int number; /* of this call, from 1 */
} point;

/* Calls that change nothing: what is only read, what goes to the terminal. */
static bool changes(const char *call, const char *rest)
{
    if (strcmp(call, "openat") == 0 || strcmp(call, "open") == 0)
        return strstr(rest, "O_CREAT") || strstr(rest, "O_TRUNC");
    if (strcmp(call, "ioctl") == 0)
        return strstr(rest, "FICLONE") != NULL;
    if (strcmp(call, "write") == 0 || strcmp(call, "writev") == 0)
        return strncmp(rest, "1,", 2) != 0 && strncmp(rest, "2,", 2) != 0;
    return true;
}

static size_t read_points(const char *log, point *out)
{
    static const char names[] = SENDS "," CALLS;
    int counts[32] = {0};
    long main_thread = 0;
    size_t n = 0;
    char line[4096];
    FILE *f = fopen(log, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char *call = line + strspn(line, "0123456789 "), *open = strchr(call, '('), *name;
        long thread = strtol(line, NULL, 10);
        main_thread = main_thread ? main_thread : thread;
        if (!open || thread != main_thread) /* strace counts each thread's calls for themselves */
            continue;
        *open = 0;
        char all[sizeof names], *save = NULL;
        memcpy(all, names, sizeof names);
        int i = 0;
        for (name = strtok_r(all, ",", &save); name && strcmp(name, call) != 0; name = strtok_r(NULL, ",", &save))
            i++;
        assert_non_null(name);
        counts[i]++;
        if (!changes(call, open + 1))
            continue;
        assert_true(n < POINTS);
        snprintf(out[n].call, sizeof out[n].call, "%s", call);
        out[n++].number = counts[i];
    }
    fclose(f);
    return n;
}

/* ---- before and after ---- */

static bool listed(const char *root, const char *name)
{
    nb_library *l;
    nb_entry *e;
    bool is = false;
    assert_int_equal(nb_library_open(&(nb_library_params){.root = root}, &l, NULL), NB_OK);
    if (nb_library_find(l, nb_str_of(name), &e, NULL) == NB_OK) {
        is = true;
        nb_entry_release(e);
    }
    nb_library_close(l);
    return is;
}

/* must, may: names that have to be listed, and the one that may be */
static void check(const char *root, const point *p, const char *must, const char *may, bool always)
{
    static ws_store w;
    nb_store *s;
    nb_error err;
    if (!ws_whole(&w, root))
        fail_msg("killed at %s %d: %s", p->call, p->number, w.why);
    size_t models = w.models;
    if (must && !listed(root, must))
        fail_msg("killed at %s %d: %s is gone", p->call, p->number, must);
    if (always && !listed(root, may))
        fail_msg("killed at %s %d: %s is gone", p->call, p->number, may);
    assert_true(models <= (size_t)(must != NULL) + 1);
    /* the next writer cleans up */
    if (nb_store_open(root, &s, &err) != NB_OK)
        fail_msg("killed at %s %d: %s", p->call, p->number, err.message);
    nb_store_close(s);
    if (!ws_whole(&w, root) || !ws_clean(&w) || w.models != models)
        fail_msg("killed at %s %d, then cleaned: %s", p->call, p->number, w.why);
}

/* before: the store as it is before each run; NULL: none. always: `may` is there whatever happens, new or old */
static void kill_everywhere(const char *before, const char *words, const char *must, const char *may, bool always)
{
    static point points[POINTS];
    char store[300], log[300], command[1500];
    snprintf(store, sizeof store, "%s/store", folder);
    snprintf(log, sizeof log, "%s/log", folder);
    snprintf(command, sizeof command, "cd '%s' && OLLAMA_MODELS='%s' strace -f -qq -o '%s' -e trace=" CALLS, folder,
             store, log);
    assert_int_equal(run("rm -rf '%s'", store), 0);
    if (before)
        assert_int_equal(run("cp -a '%s' '%s'", before, store), 0);
    assert_int_equal(run("%s '%s' %s > /dev/null 2>&1", command, NB_TEST_BINARY, words), 0);
    size_t count = read_points(log, points);
    assert_true(count > 10);
    for (size_t i = 0; i < count; i += STRIDE) {
        assert_int_equal(run("rm -rf '%s'", store), 0);
        if (before)
            assert_int_equal(run("cp -a '%s' '%s'", before, store), 0);
        int code = run("%s -e inject=%s:signal=KILL:when=%d '%s' %s > /dev/null 2>&1", command, points[i].call,
                       points[i].number, NB_TEST_BINARY, words);
        if (code != 128 + SIGKILL)
            fail_msg("at %s %d: exit code %d, not killed", points[i].call, points[i].number, code);
        check(store, &points[i], must, may, always);
    }
    /* and what was cut off last can simply be done again */
    assert_int_equal(
        run("cd '%s' && OLLAMA_MODELS='%s' '%s' create again -f Modelfile 2> /dev/null", folder, store, NB_TEST_BINARY),
        0);
    assert_true(listed(store, "again"));
}

/* ---- pull ---- */

/* A registry's model: killed anywhere it is whole or not listed, the next pull makes it whole, and the one after that has nothing to
 * do. How its bytes arrive is chance: a late write of them may not come again, then the pull ends. */
static void pull_everywhere(const hostile *server, const char *words, const char *name, const char *hub)
{
    static point points[POINTS];
    static ws_store w;
    nb_store *s;
    char store[300], log[300], command[1500];
    size_t killed = 0, tried = 0;
    snprintf(store, sizeof store, "%s/store", folder);
    snprintf(log, sizeof log, "%s/log", folder);
    snprintf(command, sizeof command,
             "cd '%s' && HF_HOME='%s' HF_ENDPOINT='%s' OLLAMA_MODELS='%s' strace -f -qq -o '%s' -e trace=" CALLS,
             folder, hub, server->at, store, log);
    assert_int_equal(run("rm -rf '%s' '%s'", store, hub), 0);
    assert_int_equal(run("%s '%s' %s > /dev/null 2>&1", command, NB_TEST_BINARY, words), 0);
    assert_true(listed(store, name));
    size_t count = read_points(log, points), writes = 0;
    assert_true(count > 10);
    for (size_t i = 0; i < count; i += STRIDE) {
        if (strcmp(points[i].call, "pwrite64") == 0 && writes++ % 5) /* bytes behind bytes: every fifth */
            continue;
        assert_int_equal(run("rm -rf '%s' '%s'", store, hub), 0);
        int code = run("%s -e inject=%s:signal=KILL:when=%d '%s' %s > /dev/null 2>&1", command, points[i].call,
                       points[i].number, NB_TEST_BINARY, words);
        if (code != 128 + SIGKILL && code != 0)
            fail_msg("at %s %d: exit code %d", points[i].call, points[i].number, code);
        tried++;
        killed += code != 0;
        if (!ws_whole(&w, store) || w.models > 1)
            fail_msg("killed at %s %d: %s", points[i].call, points[i].number, w.why);
        int again = run("cd '%s' && HF_HOME='%s' HF_ENDPOINT='%s' OLLAMA_MODELS='%s' '%s' %s > '%s' 2>&1", folder, hub,
                        server->at, store, NB_TEST_BINARY, words, log);
        assert_int_equal(nb_store_open(store, &s, NULL),
                         NB_OK); /* the next writer, where the pull had nothing to write */
        nb_store_close(s);
        if (again != 0 || !ws_whole(&w, store) || w.models != 1 || !ws_clean(&w) || !listed(store, name)) {
            run("cat '%s' >&2", log);
            fail_msg("killed at %s %d, then pulled (%d): %zu models, %s", points[i].call, points[i].number, again,
                     w.models, w.why);
        }
        if (run("test -z \"$(find '%s' '%s' -name '*.part' -o -name '*.ranges*' 2> /dev/null)\"", store, hub) != 0)
            fail_msg("killed at %s %d, then pulled: a part stays", points[i].call, points[i].number);
    }
    print_message("          killed at %zu of %zu points\n", killed, tried);
    assert_true(killed * 4 >= tried * 3);
}

static void pulled(void **state)
{
    (void)state;
    hostile server;
    char words[200], name[100], hub[300];
    setenv("no_proxy", "*", 1);
    assert_true(hostile_start(&server));
    snprintf(hub, sizeof hub, "%s/hub", folder);
    snprintf(name, sizeof name, "%s/t/real", server.at);
    snprintf(words, sizeof words, "pull %s", name);
    pull_everywhere(&server, words, name, hub);
    pull_everywhere(&server, "pull hf://u/real/tiny-BF16.gguf", "hf.co/u/real:BF16", hub);
    hostile_stop(&server);
}

static void write_modelfile(const char *system);

/* ---- push ---- */

/* Whatever a registry has: no manifest names a blob that it has not, and what it has is whole. */
static void check_pushed(const hostile *server, const char *store, const char *manifest, bool must, const point *p)
{
    if (run("test -e %s/pushed-pushhere", server->folder) != 0) {
        if (must)
            fail_msg("killed at %s %d, then pushed: there is no manifest", p->call, p->number);
    } else if (run("cmp -s %s/pushed-pushhere '%s' && for b in '%s'/blobs/*; do test -e %s/pushed-${b##*/} || exit 1; "
                   "done",
                   server->folder, manifest, store, server->folder) != 0) {
        fail_msg("killed at %s %d: a manifest without all of its blobs", p->call, p->number);
    }
    if (run("for b in $(ls -d %s/pushed-sha256-* 2> /dev/null); do cmp -s $b '%s'/blobs/${b##*/pushed-} || exit 1; "
            "done",
            server->folder, store) != 0)
        fail_msg("killed at %s %d: half a blob", p->call, p->number);
}

/* A push that is killed at every call that sends or changes a file: the store here stays as it was, and the next push makes the
 * registry whole. When threads send is chance; where a call does not come again, the push ends. */
static void pushed(void **state)
{
    static point points[POINTS];
    static ws_store w;
    (void)state;
    hostile server;
    char name[100], store[300], log[300], manifest[500], command[1500], words[200];
    size_t killed = 0;
    setenv("no_proxy", "*", 1);
    assert_true(hostile_start(&server));
    snprintf(store, sizeof store, "%s/store", folder);
    snprintf(log, sizeof log, "%s/log", folder);
    snprintf(name, sizeof name, "%s/t/pushhere", server.at);
    snprintf(manifest, sizeof manifest, "%s/manifests/127.0.0.1:%d/t/pushhere/latest", store, server.a);
    snprintf(words, sizeof words, "push --insecure %s", name);
    write_modelfile("pushed");
    assert_int_equal(run("cd '%s' && OLLAMA_MODELS='%s' '%s' create %s -f Modelfile 2> /dev/null", folder, store,
                         NB_TEST_BINARY, name),
                     0);
    snprintf(command, sizeof command, "OLLAMA_MODELS='%s' strace -f -qq -o '%s' -e trace=" SENDS "," CALLS, store, log);
    assert_int_equal(run("%s '%s' %s > /dev/null 2>&1", command, NB_TEST_BINARY, words), 0);
    size_t count = read_points(log, points), tried = 0;
    for (size_t i = 0; i < count; i += STRIDE, tried++) {
        assert_int_equal(run("rm -f %s/pushed-*", server.folder), 0);
        int code = run("%s -e inject=%s:signal=KILL:when=%d '%s' %s > /dev/null 2>&1", command, points[i].call,
                       points[i].number, NB_TEST_BINARY, words);
        if (code != 128 + SIGKILL && code != 0)
            fail_msg("at %s %d: exit code %d", points[i].call, points[i].number, code);
        killed += code != 0;
        hostile_sleep(50); /* what was sent arrives */
        check_pushed(&server, store, manifest, false, &points[i]);
        if (run("OLLAMA_MODELS='%s' '%s' %s > '%s' 2>&1", store, NB_TEST_BINARY, words, log) != 0) {
            run("cat '%s' >&2", log);
            fail_msg("killed at %s %d: then it cannot be pushed", points[i].call, points[i].number);
        }
        check_pushed(&server, store, manifest, true, &points[i]);
        if (!ws_whole(&w, store) || w.models != 1 || !ws_clean(&w))
            fail_msg("killed at %s %d: %s", points[i].call, points[i].number, w.why);
    }
    print_message("          killed at %zu of %zu points\n", killed, tried);
    assert_true(count > 5 && killed * 4 >= tried * 3);
    hostile_stop(&server);
}

/* ---- power loss ---- */

/* Whatever of it reaches the disk: what a manifest names is there before the manifest is (power_loss.py). */
static void in_order(const char *hub, const char *endpoint, const char *words)
{
    char log[300];
    snprintf(log, sizeof log, "%s/log", folder);
    assert_int_equal(run("cd '%s' && HF_HOME='%s' HF_ENDPOINT='%s' OLLAMA_MODELS='%s/models/store' strace -f -qq -y -o "
                         "'%s' -e trace=" CALLS " '%s' %s > /dev/null 2>&1",
                         folder, hub, endpoint, folder, log, NB_TEST_BINARY, words),
                     0);
    if (run("python3 '" NB_TEST_DATA "/../cli/power_loss.py' '%s' '%s' '%s/models/store' >&2", log, folder, folder) !=
        0)
        fail_msg("'%s' is not safe from a loss of power", words);
}

static void power_is_lost(void **state)
{
    (void)state;
    hostile server;
    char words[200], hub[300], old[400];
    setenv("no_proxy", "*", 1);
    assert_true(hostile_start(&server));
    snprintf(hub, sizeof hub, "%s/hub", folder);
    write_modelfile("first");
    in_order(hub, server.at, "create a/first:v1 -f Modelfile");
    in_order(hub, server.at, "cp a/first:v1 host.example/b/second:v2");
    write_modelfile("changed");
    in_order(hub, server.at, "create a/first:v1 -f Modelfile");
    assert_int_equal(run("cp '" SOURCE "' '%s/m.gguf' && echo 'FROM ./m.gguf' > '%s/Linked'", folder, folder), 0);
    in_order(hub, server.at, "rm a/first:v1 host.example/b/second:v2");
    in_order(hub, server.at, "create linked -f Linked --link");
    in_order(hub, server.at, "create small -f Linked -q q8_0");
    snprintf(words, sizeof words, "pull %s/t/real", server.at);
    in_order(hub, server.at, words);
    in_order(hub, server.at, "pull hf://u/real/tiny-BF16.gguf");
    /* the judge judges: the same without its syncs */
    snprintf(old, sizeof old, "sed -i '/sync/d' '%s/log'", folder);
    assert_int_equal(run("%s", old), 0);
    assert_int_not_equal(run("python3 '" NB_TEST_DATA "/../cli/power_loss.py' '%s/log' '%s' '%s/models/store' 2> "
                             "/dev/null",
                             folder, folder, folder),
                         0);
    hostile_stop(&server);
}

static void write_modelfile(const char *system)
{
    char path[300];
    snprintf(path, sizeof path, "%s/Modelfile", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "FROM %s\nSYSTEM %s\n", SOURCE, system);
    fclose(f);
}

/* Into a store that is not there yet. */
static void new_store(void **state)
{
    (void)state;
    write_modelfile("first");
    kill_everywhere(NULL, "create first -f Modelfile", NULL, "first", false);
}

/* Over a model of the same name, beside one that shares its file. */
static void over_another(void **state)
{
    (void)state;
    char before[300];
    snprintf(before, sizeof before, "%s/before", folder);
    write_modelfile("old");
    assert_int_equal(run("cd '%s' && OLLAMA_MODELS='%s' '%s' create model -f Modelfile 2> /dev/null && "
                         "OLLAMA_MODELS='%s' '%s' create beside -f Modelfile 2> /dev/null",
                         folder, before, NB_TEST_BINARY, before, NB_TEST_BINARY),
                     0);
    write_modelfile("new");
    kill_everywhere(before, "create model -f Modelfile --link", "beside", "model", true);
    kill_everywhere(before, "rm model", "beside", "model", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(new_store, make, clean),
                                       cmocka_unit_test_setup_teardown(over_another, make, clean),
                                       cmocka_unit_test_setup_teardown(pulled, make, clean),
                                       cmocka_unit_test_setup_teardown(pushed, make, clean),
                                       cmocka_unit_test_setup_teardown(power_is_lost, make, clean)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
