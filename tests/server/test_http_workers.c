/* The threads that serve connections, over a libmicrohttpd that answers all alike: none is lost where threads cannot begin, where
 * there are more connections than threads, or where clients leave; all ends when it is stopped. */
#include "support/http_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "server/http_workers.h"

enum { CLIENTS = 20, ASKS = 40 };

static atomic_uint opened, failing; /* failing: of so many that are opened one is; 0: none fails */

static enum MHD_Result answer(void *user, struct MHD_Connection *c, const char *path, const char *method,
                              const char *version, const char *data, size_t *size, void **state)
{
    static char text[] = "fine";
    struct MHD_Response *r = MHD_create_response_from_buffer(4, text, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result done = MHD_queue_response(c, 200, r);
    (void)user, (void)path, (void)method, (void)version, (void)data, (void)size, (void)state;
    MHD_destroy_response(r);
    return done;
}

static struct MHD_Daemon *open_http(void *user)
{
    (void)user;
    unsigned n = atomic_fetch_add(&opened, 1), one_of = atomic_load(&failing);
    if (one_of && n % one_of != 0)
        return NULL;
    return MHD_start_daemon(MHD_USE_NO_LISTEN_SOCKET | MHD_USE_EPOLL, 0, NULL, NULL, answer, NULL, MHD_OPTION_END);
}

static int listen_at(int *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&at, size) == 0 && listen(fd, 128) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static size_t descriptors(void)
{
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

typedef struct client {
    pthread_t thread;
    int port, answered;
} client;

/* Every fourth one does not wait for its answer. */
static void *ask(void *of)
{
    static const char head[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client *c = of;
    for (int i = 0; i < ASKS; i++) {
        hc_connection h = {.fd = hc_connect(c->port)};
        hc_send(h.fd, head, sizeof head - 1);
        c->answered += i % 4 == 0 || (hc_read_head(&h, false) && h.status == 200);
        hc_hang_up(&h);
    }
    return NULL;
}

static void check(size_t most, unsigned one_of)
{
    client clients[CLIENTS];
    nb_workers *w;
    nb_error err = {0};
    int port;
    size_t before = descriptors();
    nb_workers_params p = {.fd = listen_at(&port), .most = most, .open = open_http};
    atomic_store(&failing, 0);
    assert_int_equal(nb_workers_new(&p, &w, &err), NB_OK);
    atomic_store(&failing, one_of);
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = (client){.port = port};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, ask, &clients[i]), 0);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        pthread_join(clients[i].thread, NULL);
        assert_int_equal(clients[i].answered, ASKS);
    }
    int idle = hc_connect(port); /* one that says nothing does not hold up the end */
    assert_true(idle >= 0);
    if (one_of)
        nb_workers_quiesce(w);
    nb_workers_stop(w);
    nb_workers_free(w);
    assert_int_equal(hc_connect(port), -1);
    close(idle);
    assert_int_equal(descriptors(), before);
}

static void plenty(void **state)
{
    (void)state;
    check(64, 0);
}

static void few(void **state)
{
    (void)state;
    check(3, 0);
    check(1, 0);
}

static void failing_threads(void **state)
{
    (void)state;
    check(64, 3);
    check(64, UINT32_MAX);
}

/* Where none can be had at the start, the message says so, and the socket is closed. */
static void none(void **state)
{
    nb_workers *w;
    nb_error err = {0};
    int port;
    (void)state;
    size_t before = descriptors();
    nb_workers_params p = {.fd = listen_at(&port), .most = 8, .open = open_http};
    atomic_store(&failing, 2);
    assert_int_equal(nb_workers_new(&p, &w, &err), NB_ERR_MEMORY);
    assert_null(w);
    assert_non_null(strstr(err.message, "no more threads"));
    assert_int_equal(hc_connect(port), -1);
    assert_int_equal(descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(plenty), cmocka_unit_test(few),
                                       cmocka_unit_test(failing_threads), cmocka_unit_test(none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
