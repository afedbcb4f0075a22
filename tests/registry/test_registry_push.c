/* Pushing: to Debian's docker-registry, whence another store pulls the same bytes; and to a registry that drops pieces, loses
 * uploads and sends pieces elsewhere. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/file.h"
#include "registry/registry.h"
#include "store/library.h"
#include "store/write.h"
#include "support/hostile.h"

static hostile server;
static char here[96], there[96], registry[96];
static pid_t docker;

static nb_transfer_params in(const char *store)
{
    return (nb_transfer_params){
        .root = store, .attempts = 4, .backoff_ms = 20, .connections = 4, .part_bytes = 1 << 20};
}

static void good(nb_status status, const nb_error *err)
{
    if (status != NB_OK)
        fail_msg("%s", err->message);
}

/* A store with the model t/NAME at `host`: a GGUF of 150 kB from the tests' data, and a blob of 70 MB of zeros and ones, so that there are
 * several pieces. */
static void make_model(const char *host, const char *model, bool large)
{
    nb_store *s;
    nb_error err;
    nb_arena arena = {0};
    nb_layer layers[2], config;
    char name[200], path[160];
    nb_name n;
    good(nb_store_open(here, &s, &err), &err);
    good(nb_blob_import(s, NB_TEST_DATA "/archs/llama-2-mha.gguf", "application/vnd.ollama.image.model", false, &arena,
                        &layers[0], NULL, NULL, &err),
         &err);
    good(nb_blob_put(s, NB_STR("{\"model_format\":\"gguf\",\"model_family\":\"llama\"}"),
                     "application/vnd.docker.container.image.v1+json", &arena, &config, &err),
         &err);
    if (large) {
        snprintf(path, sizeof path, "%s/large", server.folder);
        FILE *f = fopen(path, "w");
        for (int i = 0; i < 70000; i++)
            fprintf(f, "%0999d\n", i);
        assert_int_equal(fclose(f), 0);
        good(nb_blob_import(s, path, "application/vnd.ollama.image.adapter", false, &arena, &layers[1], NULL, NULL,
                            &err),
             &err);
    }
    snprintf(name, sizeof name, "%s/t/%s:v1", host, model);
    good(nb_name_parse(nb_str_of(name), &n, &err), &err);
    good(nb_model_put(s, &n, &config, layers, large ? 2 : 1, &err), &err);
    nb_arena_free(&arena);
    nb_store_close(s);
}

/* ---- docker-registry ---- */

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool bound = bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && getsockname(fd, (struct sockaddr *)&a, &n) == 0;
    close(fd);
    return bound ? ntohs(a.sin_port) : -1;
}

static bool answers(int port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool is = connect(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return is;
}

static bool start_docker(void)
{
    char config[128], output[128];
    int port = free_port();
    snprintf(config, sizeof config, "%s/docker.yml", server.folder);
    snprintf(output, sizeof output, "%s/docker.out", server.folder);
    FILE *f = fopen(config, "w");
    fprintf(f,
            "version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %s/docker}\n"
            "http: {addr: \"127.0.0.1:%d\"}\n",
            server.folder, port);
    fclose(f);
    char *argv[] = {"docker-registry", "serve", config, NULL};
    docker = hostile_spawn(argv, output);
    snprintf(registry, sizeof registry, "http://127.0.0.1:%d", port);
    for (int i = 0; i < 600; i++) {
        if (answers(port))
            return true;
        hostile_sleep(50);
    }
    return false;
}

static int begin(void **state)
{
    (void)state;
    hostile_alone();
    if (!hostile_start(&server) || !start_docker()) {
        fprintf(stderr, "%s: python3 or docker-registry (Debian's package of this name) did not start\n",
                server.folder);
        return -1;
    }
    snprintf(here, sizeof here, "%s/here", server.folder);
    snprintf(there, sizeof there, "%s/there", server.folder);
    return 0;
}

static int end(void **state)
{
    (void)state;
    hostile_end(docker);
    hostile_stop(&server);
    return 0;
}

static void read_manifest(const char *store, const char *name, nb_buf *out)
{
    nb_name n;
    nb_buf path = {0};
    nb_error err;
    good(nb_name_parse(nb_str_of(name), &n, &err), &err);
    good(nb_store_path(store, &n, NB_STR(""), &path, &err), &err);
    good(nb_file_read(path.data, 1 << 20, out, &err), &err);
    nb_buf_free(&path);
}

static void check_same(const char *name)
{
    nb_buf a = {0}, b = {0};
    nb_manifest *m;
    nb_error err;
    read_manifest(here, name, &a);
    read_manifest(there, name, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    good(nb_manifest_parse(name, nb_buf_view(&b), &m, &err), &err);
    for (size_t i = 0; i < m->count; i++) {
        char command[700];
        snprintf(command, sizeof command,
                 "cd %s/blobs && h=sha256-%.*s && test $(sha256sum $h | cut -c 1-64) = ${h#sha256-}", there, 64,
                 m->layers[i].digest.p + 7);
        assert_int_equal(system(command), 0);
    }
    nb_manifest_free(m);
    nb_buf_free(&a);
    nb_buf_free(&b);
}

static void goes_through_docker_registry(void **state)
{
    nb_error err;
    char name[160];
    nb_transfer_params p = in(here), q = in(there);
    (void)state;
    make_model(registry, "real", true);
    snprintf(name, sizeof name, "%s/t/real:v1", registry);
    good(nb_push(name, &p, &err), &err);
    good(nb_push(name, &p, &err), &err); /* all is there: still success */
    good(nb_pull(name, &q, NULL, &err), &err);
    check_same(name);
    /* the model runs from the other store's bytes: the library reads it */
    nb_library *l;
    nb_entry *e;
    const nb_facts *facts;
    good(nb_library_open(&(nb_library_params){.root = there}, &l, &err), &err);
    good(nb_library_find(l, nb_str_of(name), &e, &err), &err);
    good(nb_entry_facts(e, &facts, &err), &err);
    assert_true(nb_str_eqz(facts->architecture, "llama"));
    nb_entry_release(e);
    nb_library_close(l);
    /* another name's host, the same registry */
    q.registry = registry;
    good(nb_pull("example.invalid/t/real:v1", &q, NULL, &err), &err);
    assert_int_equal(nb_pull("example.invalid/t/other:v1", &q, NULL, &err), NB_ERR_NOT_FOUND);
}

static bool same_as_pushed(const char *digest)
{
    char command[400];
    snprintf(command, sizeof command, "cmp -s %s/pushed-%s %s/blobs/%s", server.folder, digest, here, digest);
    return system(command) == 0;
}

static void push_to_hostile(const char *model)
{
    nb_error err;
    nb_manifest *m;
    nb_buf bytes = {0}, pushed = {0};
    char name[160], path[160];
    nb_transfer_params p = in(here);
    make_model(server.at, model, true);
    snprintf(name, sizeof name, "%s/t/%s:v1", server.at, model);
    good(nb_push(name, &p, &err), &err);
    read_manifest(here, name, &bytes);
    snprintf(path, sizeof path, "%s/pushed-%s", server.folder, model);
    good(nb_file_read(path, 1 << 20, &pushed, &err), &err);
    assert_int_equal(bytes.len, pushed.len);
    assert_memory_equal(bytes.data, pushed.data, bytes.len);
    good(nb_manifest_parse(name, nb_buf_view(&bytes), &m, &err), &err);
    assert_int_equal(m->count, 2);
    for (size_t i = 0; i < m->count; i++) {
        char digest[80];
        snprintf(digest, sizeof digest, "sha256-%.64s", m->layers[i].digest.p + 7);
        assert_true(same_as_pushed(digest));
        snprintf(path, sizeof path, "%s/pushed-%s", server.folder, digest);
        unlink(path); /* for the next test */
    }
    nb_manifest_free(m);
    nb_buf_free(&bytes);
    nb_buf_free(&pushed);
}

static void survives_dropped_pieces(void **state)
{
    (void)state;
    push_to_hostile("pushdrop");
    push_to_hostile("pushlost");
}

/* ---- killed ---- */

typedef struct killing {
    uint64_t at; /* bytes of the large blob; UINT64_MAX: before the manifest */
} killing;

static void kill_here(void *user, const nb_transfer_event *e)
{
    const killing *k = user;
    if (e->digest ? e->total == 70000000 && e->completed >= k->at : strcmp(e->status, "pushing manifest") == 0)
        raise(SIGKILL);
}

static void push_and_die(const char *name, uint64_t at)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        killing k = {at};
        nb_transfer_params p = in(here);
        nb_error err;
        p.tell = kill_here;
        p.user = &k;
        nb_push(name, &p, &err);
        _exit(0);
    }
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static bool pushed(const char *what)
{
    char path[160];
    snprintf(path, sizeof path, "%s/pushed-%s", server.folder, what);
    return access(path, F_OK) == 0;
}

/* Whenever it dies: no manifest is there, what is there is not sent again, and only the blob that was on its way is begun anew. */
static void goes_on_after_kill_9(void **state)
{
    static const uint64_t points[] = {0, 40000000, UINT64_MAX};
    nb_error err;
    nb_transfer_params p = in(here);
    char name[160], digest[2][80];
    nb_buf bytes = {0};
    nb_manifest *m;
    (void)state;
    make_model(server.at, "pushkill", true);
    snprintf(name, sizeof name, "%s/t/pushkill:v1", server.at);
    read_manifest(here, name, &bytes);
    good(nb_manifest_parse(name, nb_buf_view(&bytes), &m, &err), &err);
    for (int i = 0; i < 2; i++)
        snprintf(digest[i], sizeof digest[i], "sha256-%.64s", m->layers[i].digest.p + 7);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        char path[200];
        snprintf(path, sizeof path, "rm -f %s/pushed-pushkill %s/pushed-sha256-*", server.folder, server.folder);
        assert_int_equal(system(path), 0);
        hostile_forget(&server);
        push_and_die(name, points[i]);
        hostile_sleep(200);
        assert_false(pushed("pushkill")); /* the manifest's */
        assert_true(pushed(digest[0]));
        assert_true(pushed(digest[1]) == (points[i] == UINT64_MAX));
        hostile_forget(&server);
        good(nb_push(name, &p, &err), &err);
        assert_true(pushed("pushkill") && same_as_pushed(digest[0]) && same_as_pushed(digest[1]));
        /* what arrived is asked for, not ended a second time; the large one is, unless it arrived */
        assert_int_equal(hostile_asked(&server, "A", digest[0] + 7).requests, 1);
        assert_int_equal(hostile_asked(&server, "A", digest[1] + 7).requests, points[i] == UINT64_MAX ? 1 : 2);
    }
    for (int i = 0; i < 2; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/pushed-%s", server.folder, digest[i]);
        unlink(path); /* for the next test */
    }
    nb_manifest_free(m);
    nb_buf_free(&bytes);
}

static void sends_pieces_elsewhere_without_the_token(void **state)
{
    (void)state;
    push_to_hostile("pushaway");
    assert_true(hostile_asked(&server, "B", "/part/").requests >= 3);
    assert_int_equal(hostile_asked(&server, "B", "/part/").with_token, 0);
}

static void says_what_is_wrong(void **state)
{
    nb_error err;
    nb_transfer_params p = in(here);
    (void)state;
    assert_int_equal(nb_push("nobody/has-this", &p, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "nobody/has-this"));
    assert_int_equal(nb_push("http://127.0.0.1:1/t/real:v1", &p, &err), NB_ERR_NOT_FOUND);
    make_model("http://127.0.0.1:1", "real", false);
    assert_int_equal(nb_push("http://127.0.0.1:1/t/real:v1", &p, &err), NB_ERR_IO);
    assert_non_null(strstr(err.message, "127.0.0.1:1 cannot be reached"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_through_docker_registry), cmocka_unit_test(survives_dropped_pieces),
        cmocka_unit_test(goes_on_after_kill_9),         cmocka_unit_test(sends_pieces_elsewhere_without_the_token),
        cmocka_unit_test(says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
