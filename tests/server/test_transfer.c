/* /api/pull and /api/push against the misbehaving registry: lines as Ollama's clients read them, errors as lines or statuses, one
 * download for all clients of a model, which ends when the last one leaves. */
#include "support/server.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/hostile.h"

static hostile registry;
static ts_server server;
static char store[96];

static int begin(void **state)
{
    (void)state;
    nb_error err;
    hostile_alone();
    if (!hostile_start(&registry))
        return -1;
    snprintf(store, sizeof store, "%s/store", registry.folder);
    nb_http_params h = {.host = "127.0.0.1"};
    nb_service_params s = {.threads = 1};
    if (nb_library_open(&(nb_library_params){.root = store}, &server.library, &err) != NB_OK ||
        nb_service_new(server.library, &s, &server.service, &err) != NB_OK ||
        nb_http_start(server.service, server.library, &h, &server.http, &err) != NB_OK)
        return -1;
    server.port = nb_http_port(server.http);
    return 0;
}

static int end(void **state)
{
    (void)state;
    ts_stop(&server);
    hostile_stop(&registry);
    return 0;
}

static const char *body_of(const char *how, bool stream)
{
    static char body[300];
    snprintf(body, sizeof body, "{\"model\":\"%s/t/%s\",\"stream\":%s}", registry.at, how, stream ? "true" : "false");
    return body;
}

/* Every line is JSON; the last one is returned, *counted has those with a digest. */
static json_t *read_lines(char *text, int *counted)
{
    json_t *last = NULL;
    *counted = 0;
    for (char *rest = NULL, *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_decref(last);
        last = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_true(json_is_object(last));
        if (json_object_get(last, "digest")) {
            (*counted)++;
            assert_true(json_is_integer(json_object_get(last, "total")));
            assert_int_equal(strncmp(json_string_value(json_object_get(last, "status")), "pulling ", 8), 0);
        }
    }
    assert_non_null(last);
    return last;
}

static void streams_lines_to_success(void **state)
{
    int counted;
    (void)state;
    hc_reply r = hc_post(server.port, "/api/pull", body_of("good", true));
    assert_int_equal(r.status, 200);
    assert_non_null(strstr(r.body, "{\"status\":\"pulling manifest\"}"));
    json_t *last = read_lines(r.body, &counted);
    assert_string_equal(json_string_value(json_object_get(last, "status")), "success");
    assert_true(counted >= 2);
    json_decref(last);
    hc_free(&r);
    r = hc_get(server.port, "/api/tags");
    assert_non_null(strstr(r.body, "/t/good:latest"));
    hc_free(&r);
    r = hc_post(server.port, "/api/pull", body_of("good", false));
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "{\"status\":\"success\"}\n");
    hc_free(&r);
}

static void says_what_failed(void **state)
{
    int counted;
    (void)state;
    hc_reply r = hc_post(server.port, "/api/pull", body_of("none", true));
    assert_int_equal(r.status, 200); /* the stream had begun */
    json_t *last = read_lines(r.body, &counted);
    assert_non_null(strstr(json_string_value(json_object_get(last, "error")), "404"));
    json_decref(last);
    hc_free(&r);
    r = hc_post(server.port, "/api/pull", body_of("none", false));
    assert_int_equal(r.status, 404);
    hc_free(&r);
    static const char *const bad[] = {"{}", "{\"model\":\"../x\"}", "{\"model\":3}", "[]", "{\"model\":\"a\\u0000b\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        r = hc_post(server.port, "/api/pull", bad[i]);
        assert_int_equal(r.status, 400);
        hc_free(&r);
        r = hc_post(server.port, "/api/push", bad[i]);
        assert_int_equal(r.status, 400);
        hc_free(&r);
    }
    r = hc_post(server.port, "/api/push", body_of("nothing", false));
    assert_int_equal(r.status, 404);
    hc_free(&r);
}

/* What a model is made from is pulled first; the pull's own end is not the request's. */
static void create_pulls_what_is_missing(void **state)
{
    char body[400];
    int lines = 0;
    (void)state;
    snprintf(body, sizeof body, "{\"model\":\"mine\",\"from\":\"%s/t/real\",\"system\":\"hi\"}", registry.at);
    hc_reply r = hc_post(server.port, "/api/create", body);
    assert_int_equal(r.status, 200);
    const char *pulling = strstr(r.body, "{\"status\":\"pulling manifest\"}"),
               *gathering = strstr(r.body, "{\"status\":\"gathering model components\"}");
    assert_true(pulling && gathering && pulling < gathering);
    for (const char *p = r.body; (p = strstr(p, "\"success\"")); p++)
        lines++;
    assert_int_equal(lines, 1);
    json_t *last = json_loads(strrchr(r.body, '{'), JSON_ALLOW_NUL, NULL);
    assert_string_equal(json_string_value(json_object_get(last, "status")), "success");
    json_decref(last);
    hc_free(&r);
    r = hc_get(server.port, "/api/tags");
    assert_non_null(strstr(r.body, "\"mine:latest\""));
    assert_non_null(strstr(r.body, "/t/real:latest"));
    hc_free(&r);
    hostile_forget(&registry);
    r = hc_post(server.port, "/api/create", body); /* now it is there */
    assert_null(strstr(r.body, "pulling"));
    hc_free(&r);
    assert_int_equal(hostile_asked(&registry, "A", "").requests, 0);

    snprintf(body, sizeof body, "{\"model\":\"x\",\"from\":\"%s/t/none\",\"stream\":false}", registry.at);
    r = hc_post(server.port, "/api/create", body);
    assert_int_equal(r.status, 404);
    assert_non_null(strstr(r.body, "is not in the store, and pulling it failed: "));
    hc_free(&r);
    snprintf(body, sizeof body, "{\"model\":\"x\",\"from\":\"%s/t/nojson\"}", registry.at);
    r = hc_post(server.port, "/api/create", body); /* the stream has begun, or has not */
    assert_non_null(strstr(r.body, "{\"error\":"));
    hc_free(&r);
    r = hc_get(server.port, "/api/tags");
    assert_null(strstr(r.body, "\"x:latest\""));
    hc_free(&r);
}

static void *pull_large(void *out)
{
    char body[300];
    snprintf(body, sizeof body, "{\"model\":\"%s/t/large\"}", registry.at);
    *(hc_reply *)out = hc_post(server.port, "/api/pull", body);
    return NULL;
}

static void clients_share_one_download(void **state)
{
    pthread_t threads[3];
    hc_reply replies[3];
    (void)state;
    hostile_forget(&registry);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pull_large, &replies[i]), 0);
    for (int i = 0; i < 3; i++) {
        int counted;
        pthread_join(threads[i], NULL);
        json_t *last = read_lines(replies[i].body, &counted);
        assert_string_equal(json_string_value(json_object_get(last, "status")), "success");
        json_decref(last);
        hc_free(&replies[i]);
    }
    assert_int_equal(hostile_asked(&registry, "A", "/large/blobs/").bytes, 24 << 20); /* the configuration was there */
}

static void ends_when_nobody_waits(void **state)
{
    hc_connection c;
    char line[600];
    (void)state;
    assert_true(hc_open(&c, server.port, "POST", "/api/pull", NULL, body_of("sluggish", true)));
    assert_true(hc_line(&c, line, sizeof line));
    assert_non_null(strstr(line, "pulling manifest"));
    hc_hang_up(&c);
    hostile_sleep(3000);
    hostile_forget(&registry);
    hostile_sleep(2000);
    assert_int_equal(hostile_asked(&registry, "A", "/sluggish/").requests,
                     0); /* which would take 20 s and many parts */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_lines_to_success),     cmocka_unit_test(says_what_failed),
        cmocka_unit_test(create_pulls_what_is_missing), cmocka_unit_test(clients_share_one_download),
        cmocka_unit_test(ends_when_nobody_waits),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
