/* Two hundred clients that stream at once, fifty that leave in mid-stream, fifty that take a byte a second: every stream that
 * is read is whole and is what it is alone, and the server is as empty afterwards as before. Over a tiny model, so that it
 * runs under the sanitizers too; tests/real/test_real_load.c does the same with a real one and looks at the memory. */
#include "support/load.h"
#include "support/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/clock.h"

static const char *const files[] = {NB_TEST_DATA "/archs/llama-2-mha.gguf", NB_TEST_DATA "/archs/gemma-3.gguf"};
enum { ASKS = 12, READ = 200, LEAVE = 50, CRAWL = 50, TOKENS = 32 };

/* Both models (one has window layers), two APIs, prompts of different lengths of which many begin alike. */
static void write_asks(ld_ask asks[ASKS])
{
    char prompt[300];
    for (int i = 0; i < ASKS; i++) {
        const char *model = i % 4 == 3 ? "gemma-3" : "llama-2-mha";
        snprintf(prompt, sizeof prompt, "%.*s %c%d", i % 3 * 60,
                 "the same beginning of a text that is long enough to fill more than one block of the cache, which all "
                 "of these have in common, and more",
                 'a' + i, i * 37);
        asks[i] = (ld_ask){.path = i % 2 ? "/api/generate" : "/v1/completions"};
        if (i % 2)
            snprintf(asks[i].body, sizeof asks[i].body,
                     "{\"model\":\"%s\",\"prompt\":\"%s\",\"raw\":true,\"grammar\":\"root ::= [a-z ]{40}\",\"options\":"
                     "{\"seed\":%d,\"temperature\":1.5,\"num_predict\":%d}}",
                     model, prompt, i, TOKENS);
        else
            snprintf(asks[i].body, sizeof asks[i].body,
                     "{\"model\":\"%s\",\"prompt\":\"%s\",\"stream\":true,\"grammar\":\"root ::= [a-z ]{40}\","
                     "\"seed\":%d,\"temperature\":1.5,\"max_tokens\":%d}",
                     model, prompt, i, TOKENS);
    }
}

static void wait_empty(nb_service *s)
{
    double end = nb_seconds() + 60;
    for (nb_service_load l = nb_service_look(s); l.running || l.waiting; l = nb_service_look(s)) {
        assert_true(nb_seconds() < end);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    nb_served_info info[4];
    size_t n = nb_service_list(s, info, 4);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(info[i].load.pages_used, 0);
        assert_int_equal(info[i].requests, 0);
        nb_entry_release(info[i].entry);
    }
    assert_int_equal(n, 2);
}

static void storm(void **state)
{
    static ld_ask asks[ASKS];
    ts_server s;
    (void)state;
    write_asks(asks);
    ts_start(&s, files, 2, NULL,
             &(nb_service_params){.threads = 1}); /* two would wait for each other on a busy machine */
    ld_alone(s.port, asks, ASKS);
    ld_result r = ld_run(s.port, asks, ASKS, (size_t[]){READ, LEAVE, CRAWL});
    assert_int_equal(r.whole, READ + CRAWL);
    assert_int_equal(r.crawled, CRAWL);
    assert_int_equal(r.left, LEAVE);
    wait_empty(s.service);
    nb_service_load l = nb_service_look(s.service);
    assert_int_equal(l.requests, ASKS + READ + LEAVE + CRAWL);
    assert_int_equal(l.failures, 0);
    ld_forget(asks, ASKS);
    ts_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(storm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
