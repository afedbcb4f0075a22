/* Pulling from a registry that drops, stalls, lies, redirects and asks for tokens: what arrives is what was promised, to the byte, or
 * there is a clear refusal and nothing is listed; tokens stay at their host; kill -9 costs little. Contents are compared with
 * the files that the server (Python, hashlib) says it sends. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "registry/registry.h"
#include "store/library.h"
#include "store/write.h"
#include "support/hostile.h"
#include "support/whole_store.h"

static hostile server;
static char store[96];

static int begin(void **state)
{
    (void)state;
    hostile_alone();
    if (!hostile_start(&server)) {
        fprintf(stderr, "%s/output says why the server did not start\n", server.folder);
        return -1;
    }
    snprintf(store, sizeof store, "%s/store", server.folder);
    return 0;
}

static int end(void **state)
{
    (void)state;
    hostile_stop(&server);
    return 0;
}

static int fresh_store(void **state)
{
    (void)state;
    hostile_remove(store);
    hostile_forget(&server);
    return 0;
}

static nb_transfer_params quick(void)
{
    return (nb_transfer_params){
        .root = store, .attempts = 4, .backoff_ms = 20, .stall_seconds = 20, .connections = 4, .part_bytes = 512 << 10};
}

static const char *name_of(const char *how)
{
    static char name[128];
    snprintf(name, sizeof name, "%s/t/%s:latest", server.at, how);
    return name;
}

static nb_status pull(const char *how, nb_error *err)
{
    nb_transfer_params p = quick();
    *err = (nb_error){0};
    return nb_pull(name_of(how), &p, NULL, err);
}

static bool listed(const char *how)
{
    nb_library *l;
    nb_entry *e = NULL;
    assert_int_equal(nb_library_open(&(nb_library_params){.root = store}, &l, NULL), NB_OK);
    bool is = nb_library_find(l, nb_str_of(name_of(how)), &e, NULL) == NB_OK;
    nb_entry_release(e);
    nb_library_close(l);
    return is;
}

static void read_whole(const char *path, nb_buf *out)
{
    nb_error err;
    if (nb_file_read(path, 64 << 20, out, &err) != NB_OK)
        fail_msg("%s", err.message);
}

/* The model's blob is what the server has under `content`. */
static void check_content(const char *how, const char *content)
{
    nb_library *l;
    nb_entry *e = NULL;
    const nb_contents *c = NULL;
    nb_buf got = {0}, wanted = {0};
    char path[160];
    nb_error err;
    assert_int_equal(nb_library_open(&(nb_library_params){.root = store}, &l, NULL), NB_OK);
    if (nb_library_find(l, nb_str_of(name_of(how)), &e, &err) != NB_OK || nb_entry_contents(e, &c, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_non_null(c->model);
    read_whole(c->model, &got);
    snprintf(path, sizeof path, "%s/content/%s", server.folder, content);
    read_whole(path, &wanted);
    assert_int_equal(got.len, wanted.len);
    assert_memory_equal(got.data, wanted.data, got.len);
    nb_buf_free(&got);
    nb_buf_free(&wanted);
    nb_entry_release(e);
    nb_library_close(l);
}

static void pulls(const char *how)
{
    nb_error err;
    if (pull(how, &err) != NB_OK)
        fail_msg("%s: %s", how, err.message);
    check_content(how, "model");
}

/* Fails with this code and these words, names the host, and leaves no model. */
static void refuses(const char *how, nb_status code, const char *words)
{
    nb_error err;
    nb_status status = pull(how, &err);
    if (status != code || err.code != code || !strstr(err.message, words) || strlen(err.message) < 20)
        fail_msg("%s: %d '%s', not %d '%s'", how, status, err.message, code, words);
    assert_false(listed(how));
}

/* ---- servers that mean well ---- */

static void pulls_from_a_good_registry(void **state)
{
    (void)state;
    pulls("good");
    hostile_count c = hostile_asked(&server, "A", "/blobs/");
    assert_int_equal(c.bytes, (3 << 20) + 59);
    assert_int_equal(c.requests, 6 + 1); /* parts of 512 KiB, and the configuration */
    hostile_forget(&server);
    pulls("good"); /* all is there: only the manifest is asked for */
    assert_int_equal(hostile_asked(&server, "A", "/blobs/").requests, 0);
    assert_int_equal(hostile_asked(&server, "A", "/manifests/").requests, 1);
}

static void takes_all_from_a_server_without_ranges(void **state)
{
    (void)state;
    pulls("noranges");
    hostile_remove(store);
    pulls("norangesdrop"); /* begins anew after each drop */
}

static void survives_drops_stalls_and_refusals(void **state)
{
    (void)state;
    pulls("drop");
    hostile_remove(store);
    hostile_forget(&server);
    pulls("busy");
    assert_int_equal(hostile_asked(&server, "A", "/manifests/").requests, 4);
    hostile_remove(store);
    nb_error err;
    nb_transfer_params p = quick();
    p.stall_seconds = 1;
    if (nb_pull(name_of("stall"), &p, NULL, &err) != NB_OK)
        fail_msg("stall: %s", err.message);
    check_content("stall", "model");
    hostile_remove(store);
    for (int i = 0; i < 20 && pull("flaky", &err) != NB_OK; i++) /* goes on where it was */
        ;
    check_content("flaky", "model");
}

static void follows_all_five_redirects(void **state)
{
    static const char *const how[] = {"redirect301", "redirect302", "redirect303", "redirect307", "redirect308"};
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        pulls(how[i]);
        assert_true(hostile_asked(&server, "B", how[i]).requests == 1); /* the manifest's */
        assert_true(hostile_asked(&server, "B", "/cdn/blob/").requests >= 6);
        hostile_remove(store);
        hostile_forget(&server);
    }
}

static void asks_anew_when_an_address_expires(void **state)
{
    (void)state;
    pulls("expire");
    assert_true(hostile_asked(&server, "A", "/blobs/").requests >= 3);
}

/* ---- tokens ---- */

static void gets_a_token_and_keeps_it_at_home(void **state)
{
    (void)state;
    pulls("auth");
    assert_int_equal(hostile_asked(&server, "A", "/token").requests, 1);
    assert_int_equal(hostile_asked(&server, "A", "/token").with_token, 0);
    hostile_remove(store);
    hostile_forget(&server);
    pulls("authcdn");
    assert_true(hostile_asked(&server, "A", "/blobs/").with_token >= 1);
    assert_true(hostile_asked(&server, "B", "/cdn/").requests >= 6);
    assert_int_equal(hostile_asked(&server, "B", "").with_token, 0);
    hostile_remove(store);
    pulls("authrenew"); /* which loses its worth on the way */
}

static void asks_no_other_host_for_a_token(void **state)
{
    (void)state;
    refuses("foreign", NB_ERR_ARGUMENT, "another host");
    assert_int_equal(hostile_asked(&server, "B", "").requests, 0);
}

/* ---- servers that do not ---- */

static void refuses_what_is_not_there(void **state)
{
    nb_error err;
    nb_transfer_params p = quick();
    (void)state;
    refuses("none", NB_ERR_NOT_FOUND, "404");
    refuses("dead", NB_ERR_IO, "broke off");
    refuses("deadblob", NB_ERR_IO, "broke off");
    refuses("broken", NB_ERR_IO, "500");
    assert_int_equal(nb_pull("http://127.0.0.1:1/t/m", &p, NULL, &err), NB_ERR_IO);
    assert_non_null(strstr(err.message, "127.0.0.1:1 cannot be reached"));
    assert_int_equal(nb_pull("../x", &p, NULL, &err), NB_ERR_ARGUMENT);
    char name[128]; /* TLS is spoken unless the name or an option says otherwise */
    snprintf(name, sizeof name, "127.0.0.1:%d/t/good", server.a);
    assert_int_equal(nb_pull(name, &p, NULL, &err), NB_ERR_IO);
    assert_non_null(strstr(err.message, "--insecure"));
    p.insecure = true;
    assert_int_equal(nb_pull(name, &p, NULL, &err), NB_OK);
}

static void refuses_bad_manifests(void **state)
{
    (void)state;
    refuses("bomb", NB_ERR_FORMAT, "compressed");
    refuses("endless", NB_ERR_FORMAT, "larger");
    assert_true(hostile_asked(&server, "A", "endless").bytes < 32 << 20);
    refuses("traversal", NB_ERR_FORMAT, "digest");
    refuses("huge", NB_ERR_FORMAT, "cannot be");
    refuses("full", NB_ERR_LIMIT, "free");
    refuses("image", NB_ERR_UNSUPPORTED, "no model");
    refuses("nojson", NB_ERR_FORMAT, "");
    refuses("wrongdigest", NB_ERR_FORMAT, "digest");
    refuses("loop", NB_ERR_FORMAT, "redirects");
    refuses("nowhere", NB_ERR_FORMAT, "no address");
    assert_int_equal(hostile_asked(&server, "A", "/blobs/").requests, 0);
}

static void refuses_lies(void **state)
{
    (void)state;
    refuses("liefirst", NB_ERR_FORMAT, "asked for");
    refuses("lielast", NB_ERR_FORMAT, "asked for");
    refuses("lietotal", NB_ERR_FORMAT, "said");
    refuses("norange206", NB_ERR_FORMAT, "206");
    refuses("liemore", NB_ERR_FORMAT, "more bytes");
    refuses("lielength", NB_ERR_FORMAT, "bytes");
    refuses("zip", NB_ERR_FORMAT, "compressed");
    refuses("liecontent", NB_ERR_FORMAT, "digest");
    hostile_remove(store);
    refuses("liecontentonce", NB_ERR_FORMAT, "digest");
    pulls("liecontentonce"); /* nothing of the damaged blob was kept */
}

/* ---- being cut off ---- */

static void wait_for_bytes(const char *how, long long wanted)
{
    char path[200];
    struct stat s;
    (void)how;
    snprintf(path, sizeof path, "find %s/.nibble/partial -name '*.part' -print -quit 2>/dev/null", store);
    for (int i = 0; i < 600; i++) {
        char file[300] = "";
        FILE *f = popen(path, "r");
        bool found = f && fgets(file, sizeof file, f);
        if (f)
            pclose(f);
        file[strcspn(file, "\n")] = 0;
        if (found && stat(file, &s) == 0 && (long long)s.st_blocks * 512 >= wanted)
            return;
        hostile_sleep(50);
    }
    fail_msg("nothing arrives");
}

static void goes_on_after_kill_9(void **state)
{
    nb_error err;
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        pull("slow", &err);
        _exit(0);
    }
    wait_for_bytes("slow", 12 << 20);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_false(listed("slow"));
    hostile_sleep(500); /* the server notices */
    long long before = hostile_asked(&server, "A", "/blobs/").bytes;
    assert_true(before < 24 << 20);
    if (pull("slow", &err) != NB_OK)
        fail_msg("%s", err.message);
    check_content("slow", "large");
    long long all = hostile_asked(&server, "A", "/blobs/").bytes, again = all - (24 << 20);
    print_message("          %lld of %d bytes were fetched twice\n", again, 24 << 20);
    assert_true(again >= 0 && again < 8 << 20); /* what 0.4 s bring here, and what was on its way */
}

static bool stop_soon(void *user)
{
    double *until = user;
    return nb_seconds() > *until;
}

static void stops_at_once(void **state)
{
    double start = nb_seconds(), until = start + 1;
    nb_transfer_params p = quick();
    nb_error err;
    (void)state;
    p.stop = stop_soon;
    p.user = &until;
    assert_int_equal(nb_pull(name_of("sluggish"), &p, NULL, &err), NB_ERR_CANCELLED);
    assert_true(nb_seconds() - start < 3);
    assert_false(listed("sluggish"));
}

static void two_processes_share_one_download(void **state)
{
    nb_error err;
    int result;
    (void)state;
    pid_t child = fork();
    if (child == 0)
        _exit(pull("large", &err) == NB_OK ? 0 : 1);
    if (pull("large", &err) != NB_OK)
        fail_msg("%s", err.message);
    waitpid(child, &result, 0);
    assert_int_equal(result, 0);
    check_content("large", "large");
    assert_int_equal(hostile_asked(&server, "A", "/large/blobs/").bytes, (24 << 20) + 59);
}

/* Another process creates, removes and cleans all the time: neither what arrives nor what has arrived is taken away. */
static void survives_who_removes_and_cleans(void **state)
{
    static ws_store w;
    nb_error err;
    int result;
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 2; i++)
            if (pull("slow", &err) != NB_OK || pull("good", &err) != NB_OK) {
                fprintf(stderr, "%s\n", err.message);
                _exit(1);
            }
        _exit(0);
    }
    nb_name good;
    nb_name_parse(nb_str_of(name_of("good")), &good, NULL);
    int removed = 0;
    while (waitpid(child, &result, WNOHANG) == 0) {
        nb_store *s;
        assert_int_equal(nb_store_open(store, &s, &err), NB_OK);
        removed += nb_model_delete(s, &good, &err) == NB_OK;
        assert_int_equal(nb_store_clean(s, NULL, &err), NB_OK);
        nb_store_close(s);
        if (!ws_whole(&w, store))
            fail_msg("%s", w.why);
        hostile_sleep(3);
    }
    assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    check_content("slow", "large");
    long long bytes = hostile_asked(&server, "A", "/slow/blobs/").bytes; /* not fetched twice: it stayed */
    assert_true(bytes >= 24 << 20 && bytes < (24 << 20) + 1000);
    assert_true(removed <= 2);
}

/* ---- several clients of one process ---- */

typedef struct heard {
    int events, successes;
    uint64_t completed;
} heard;

static void hear(void *user, const nb_transfer_event *e)
{
    heard *h = user;
    h->events++;
    h->successes += strcmp(e->status, "success") == 0;
    if (e->digest)
        h->completed = e->completed;
}

static void clients_share_and_the_last_one_stops_it(void **state)
{
    nb_transfer_params p = quick();
    nb_shared *a, *b;
    nb_error err;
    heard x = {0}, y = {0};
    uint64_t seen = 0, seen_b = 0;
    bool over = false;
    (void)state;
    assert_int_equal(nb_shared_join(false, name_of("large"), &p, &a, &err), NB_OK);
    assert_int_equal(nb_shared_join(false, name_of("large"), &p, &b, &err), NB_OK);
    assert_ptr_equal(a, b);
    while (!over)
        if (nb_shared_wait(a, &seen, 100, hear, &x, &over, &err) != NB_OK)
            fail_msg("%s", err.message);
    assert_int_equal(x.successes, 1);
    assert_int_equal(nb_shared_wait(b, &seen_b, 0, hear, &y, &over, &err), NB_OK); /* all at once, the last state */
    assert_true(over && y.successes == 1 && y.events >= 4);
    nb_shared_leave(a);
    nb_shared_leave(b);
    check_content("large", "large");

    double start = nb_seconds();
    assert_int_equal(nb_shared_join(false, name_of("sluggish"), &p, &a, &err), NB_OK);
    assert_int_equal(nb_shared_join(false, name_of("sluggish"), &p, &b, &err), NB_OK);
    nb_shared_leave(a);
    hostile_sleep(300);
    over = false;
    seen = 0;
    assert_int_equal(nb_shared_wait(b, &seen, 100, hear, &x, &over, &err), NB_OK);
    assert_false(over); /* one still waits */
    nb_shared_leave(b);
    assert_true(nb_seconds() - start < 5);
    assert_false(listed("sluggish"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(pulls_from_a_good_registry, fresh_store),
        cmocka_unit_test_setup(takes_all_from_a_server_without_ranges, fresh_store),
        cmocka_unit_test_setup(survives_drops_stalls_and_refusals, fresh_store),
        cmocka_unit_test_setup(follows_all_five_redirects, fresh_store),
        cmocka_unit_test_setup(asks_anew_when_an_address_expires, fresh_store),
        cmocka_unit_test_setup(gets_a_token_and_keeps_it_at_home, fresh_store),
        cmocka_unit_test_setup(asks_no_other_host_for_a_token, fresh_store),
        cmocka_unit_test_setup(refuses_what_is_not_there, fresh_store),
        cmocka_unit_test_setup(refuses_bad_manifests, fresh_store),
        cmocka_unit_test_setup(refuses_lies, fresh_store),
        cmocka_unit_test_setup(goes_on_after_kill_9, fresh_store),
        cmocka_unit_test_setup(stops_at_once, fresh_store),
        cmocka_unit_test_setup(two_processes_share_one_download, fresh_store),
        cmocka_unit_test_setup(survives_who_removes_and_cleans, fresh_store),
        cmocka_unit_test_setup(clients_share_and_the_last_one_stops_it, fresh_store),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
