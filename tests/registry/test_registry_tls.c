/* Pulling over https: who is not certified by an authority of this machine or of the user's is refused, so is a certificate of another
 * host and one that has expired; a token goes to its scheme, host and port alone; and from https nothing leads to http. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "registry/registry.h"
#include "store/library.h"
#include "support/hostile.h"

#define AUTHORITY NB_TEST_DATA "/registry/tls/ca.pem"

static hostile server;
static char store[96], home[96];

static int begin(void **state)
{
    (void)state;
    hostile_alone();
    if (!hostile_start(&server))
        return -1;
    snprintf(store, sizeof store, "%s/store", server.folder);
    snprintf(home, sizeof home, "%s/hf", server.folder);
    setenv("HF_HOME", home, 1);
    return 0;
}

static int end(void **state)
{
    (void)state;
    hostile_stop(&server);
    return 0;
}

static int fresh(void **state)
{
    (void)state;
    hostile_remove(store);
    hostile_remove(home);
    hostile_forget(&server);
    unsetenv("CURL_CA_BUNDLE");
    setenv("SSL_CERT_FILE", AUTHORITY, 1);
    return 0;
}

static nb_status pull(int port, const char *how, nb_error *err)
{
    char name[128];
    nb_transfer_params p = {.root = store, .attempts = 3, .backoff_ms = 20, .connections = 3, .part_bytes = 1 << 20};
    *err = (nb_error){0};
    snprintf(name, sizeof name, "127.0.0.1:%d/t/%s", port, how);
    return nb_pull(name, &p, NULL, err);
}

static bool listed(int port, const char *how)
{
    nb_library *l;
    nb_entry *e = NULL;
    char name[128];
    snprintf(name, sizeof name, "127.0.0.1:%d/t/%s", port, how);
    assert_int_equal(nb_library_open(&(nb_library_params){.root = store}, &l, NULL), NB_OK);
    bool is = nb_library_find(l, nb_str_of(name), &e, NULL) == NB_OK;
    nb_entry_release(e);
    nb_library_close(l);
    return is;
}

static void pulls(int port, const char *how)
{
    nb_error err;
    if (pull(port, how, &err) != NB_OK)
        fail_msg("%s: %s", how, err.message);
    assert_true(listed(port, how));
}

static void refuses(int port, const char *how, nb_status code, const char *words)
{
    nb_error err;
    nb_status status = pull(port, how, &err);
    if (status != code || !strstr(err.message, words))
        fail_msg("%s: %d '%s', not %d '%s'", how, status, err.message, code, words);
    assert_false(listed(port, how));
}

static void trusts_the_authority_that_is_given(void **state)
{
    (void)state;
    pulls(server.t, "good");
    hostile_remove(store);
    setenv("CURL_CA_BUNDLE", AUTHORITY, 1);
    setenv("SSL_CERT_FILE", "", 1);
    pulls(server.t, "good");
}

/* And says so at once: trying again does not help. */
static void refuses_who_is_not_certified(void **state)
{
    double start = nb_seconds();
    (void)state;
    refuses(server.w, "good", NB_ERR_IO, "certificate");
    refuses(server.x, "good", NB_ERR_IO, "certificate");
    unsetenv("SSL_CERT_FILE"); /* the system's: they do not know the tests' */
    refuses(server.t, "good", NB_ERR_IO, "certificate");
    setenv("SSL_CERT_FILE", "/nonexistent/ca.pem", 1);
    refuses(server.t, "good", NB_ERR_IO, "/nonexistent/ca.pem");
    assert_true(nb_seconds() - start < 20);
    for (const char *letter = "TWX"; *letter; letter++)
        assert_int_equal(hostile_asked(&server, (char[]){*letter, 0}, "").requests, 0);
}

static void keeps_the_token_at_its_place(void **state)
{
    (void)state;
    pulls(server.t, "authport"); /* another port */
    assert_true(hostile_asked(&server, "T", "/blobs/").with_token >= 1);
    assert_true(hostile_asked(&server, "U", "/cdn/authport").requests >= 1);
    assert_int_equal(hostile_asked(&server, "U", "").with_token, 0);
    hostile_remove(store);
    pulls(server.t, "authhost"); /* another name, the same port */
    assert_true(hostile_asked(&server, "T", "/cdn/authhost").requests >= 1);
    assert_int_equal(hostile_asked(&server, "T", "/cdn/authhost").with_token, 0);
    assert_int_equal(hostile_asked(&server, "T", "/token").with_token, 0);
}

static void goes_from_https_to_nothing_less(void **state)
{
    nb_error err;
    char name[128];
    nb_transfer_params p = {.root = store, .attempts = 3, .backoff_ms = 20};
    (void)state;
    refuses(server.t, "authdown", NB_ERR_ARGUMENT, "without TLS");
    assert_int_equal(hostile_asked(&server, "A", "").requests, 0);
    hostile_remove(store);
    snprintf(name, sizeof name, "%s/t/authup", server.at); /* the other way it may, without the token */
    if (nb_pull(name, &p, NULL, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_true(hostile_asked(&server, "A", "/blobs/").with_token >= 1);
    assert_true(hostile_asked(&server, "T", "/cdn/authup").requests >= 1);
    assert_int_equal(hostile_asked(&server, "T", "/cdn/authup").with_token, 0);
}

/* The hub's token, by https and over its redirect to where the file lies. */
static void the_hub_is_no_exception(void **state)
{
    char endpoint[64];
    nb_error err;
    nb_transfer_params p = {.root = store, .attempts = 3, .backoff_ms = 20};
    (void)state;
    snprintf(endpoint, sizeof endpoint, "https://127.0.0.1:%d", server.t);
    setenv("HF_ENDPOINT", endpoint, 1);
    setenv("HF_TOKEN", "hf_secret", 1);
    /* the file lies at http: the hub is not followed there */
    assert_int_equal(nb_pull("hf://u/gated", &p, NULL, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "without TLS"));
    assert_true(hostile_asked(&server, "T", "/resolve/").with_token >= 1);
    assert_int_equal(hostile_asked(&server, "B", "").requests, 0);
    unsetenv("HF_ENDPOINT");
    unsetenv("HF_TOKEN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(trusts_the_authority_that_is_given, fresh),
        cmocka_unit_test_setup(refuses_who_is_not_certified, fresh),
        cmocka_unit_test_setup(keeps_the_token_at_its_place, fresh),
        cmocka_unit_test_setup(goes_from_https_to_nothing_less, fresh),
        cmocka_unit_test_setup(the_hub_is_no_exception, fresh),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
