/* nibble pull as a user sees it: bars on a terminal, plain lines elsewhere; and what it fetched from the hub listed, shown, copied, run
 * and removed like any model. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <regex.h>

#include "nibble.h"
#include "support/command.h"
#include "support/hostile.h"
#include "support/terminal.h"

static hostile server;
static char store[128], store_env[160], hub_env[160], endpoint[160];

static int begin(void **state)
{
    (void)state;
    if (!hostile_start(&server))
        return -1;
    snprintf(store, sizeof store, "%s/store", server.folder);
    snprintf(store_env, sizeof store_env, "OLLAMA_MODELS=%s", store);
    snprintf(hub_env, sizeof hub_env, "HF_HOME=%s/hf", server.folder);
    snprintf(endpoint, sizeof endpoint, "HF_ENDPOINT=%s", server.at);
    return 0;
}

static int end(void **state)
{
    (void)state;
    hostile_stop(&server);
    return 0;
}

static char *run(int expected, const char *format, ...) NB_PRINTF(2, 3);
static char *run(int expected, const char *format, ...)
{
    char arguments[1000], command[2000];
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    snprintf(command, sizeof command,
             "cd %s && export no_proxy='*' OLLAMA_HOST=127.0.0.1:1 %s %s %s && N='%s' && ( %s ) 2>&1", server.folder,
             store_env, hub_env, endpoint, NB_TEST_BINARY, arguments);
    return run_command(command, arguments, expected);
}

static bool matches(const char *text, const char *expression)
{
    regex_t compiled;
    assert_int_equal(regcomp(&compiled, expression, REG_EXTENDED | REG_NOSUB | REG_NEWLINE), 0);
    bool is = regexec(&compiled, text, 0, NULL, 0) == 0;
    regfree(&compiled);
    return is;
}

static void assert_matches(const char *text, const char *expression)
{
    if (!matches(text, expression))
        fail_msg("'%s' is not like:\n%s", text, expression);
}

/* Blobs of 25 MB and 59 bytes at 2 MB/s a connection: percent, bar, bytes, rate and time left in one row, which is drawn again. */
static void draws_a_bar_a_blob(void **state)
{
    static terminal t;
    char name[100];
    (void)state;
    for (int columns = 100; columns >= 40; columns -= 60) {
        run(0, "rm -rf store");
        snprintf(name, sizeof name, "%s/t/slow", server.at);
        char *argv[] = {(char[]){NB_TEST_BINARY}, "pull", name, NULL};
        char *environment[] = {"PATH=/usr/bin:/bin", "TERM=xterm", "HOME=/nonexistent", "no_proxy=*", store_env, NULL};
        tt_start(&t, columns, 24, NULL, NULL, argv, environment);
        bool drawn = false;
        for (double give_up = tt_now() + 60; !drawn && tt_now() < give_up; tt_read(&t, 20))
            drawn = matches(tt_row(&t, 1), columns == 100
                                               ? "^pulling [0-9a-f]{12}: +[0-9]{1,2}% ▕█*[▏▎▍▌▋▊▉]? *▏ "
                                                 " *[0-9.]+ [KM]B/ 25 MB +[0-9.]+ [KM]B/s +[0-9]+s$"
                                               : "^pulling [0-9a-f]{3,}: +[0-9]{1,2}%  +[0-9.]+ [KM]B/s +[0-9]+s$");
        if (!drawn)
            tt_dump(&t);
        assert_true(drawn);
        assert_int_equal(tt_end(&t), 0);
        assert_string_equal(tt_row(&t, 0), "pulling manifest");
        assert_matches(tt_row(&t, 1), columns == 100 ? "^pulling [0-9a-f]{12}: 100% ▕█{36}▏  25 MB$"
                                                     : "^pulling [0-9a-f]{12}: 100%  25 MB$");
        int row = 2;
        while (row < 23 && !strstr(tt_row(&t, row), "pulling "))
            row++;
        assert_matches(tt_row(&t, row), "^pulling [0-9a-f]{12}: 100% .* 59 B$"); /* a row a blob: none was broken */
        while (row < 23 && strcmp(tt_row(&t, row), "success") != 0)
            row++;
        assert_string_equal(tt_row(&t, row), "success");
        assert_true(row <= 6);
        assert_non_null(strchr(t.all, '\r'));
    }
}

static bool a_row_matches(const terminal *t, const char *expression)
{
    for (int y = 0; y < t->rows; y++)
        if (matches(tt_row(t, y), expression))
            return true;
    return false;
}

/* The same of what goes out: 25 MB at 8 MB/s. */
static void draws_what_is_pushed(void **state)
{
    static terminal t;
    char name[100];
    (void)state;
    run(0, "rm -rf store && $N pull %s/t/slow && $N cp %s/t/slow %s/t/pushslow", server.at, server.at, server.at);
    for (int columns = 100; columns >= 40; columns -= 60) {
        const char *bar = columns == 100 ? "^pushing [0-9a-f]{12}: +[0-9]{1,2}% ▕█*[▏▎▍▌▋▊▉]? *▏ "
                                           " *[0-9.]+ [KM]B/ 25 MB +[0-9.]+ [KM]B/s +[0-9]+s$"
                                         : "^pushing [0-9a-f]{3,}: +[0-9]{1,2}%  +[0-9.]+ [KM]B/s +[0-9]+s$";
        run(0, "rm -f pushed-*");
        snprintf(name, sizeof name, "%s/t/pushslow", server.at);
        char *argv[] = {(char[]){NB_TEST_BINARY}, "push", name, NULL};
        char *environment[] = {"PATH=/usr/bin:/bin", "TERM=xterm", "HOME=/nonexistent", "no_proxy=*", store_env, NULL};
        tt_start(&t, columns, 24, NULL, NULL, argv, environment);
        bool drawn = false;
        for (double give_up = tt_now() + 60; !drawn && tt_now() < give_up; tt_read(&t, 20))
            drawn = a_row_matches(&t, bar);
        if (!drawn)
            tt_dump(&t);
        assert_true(drawn);
        assert_int_equal(tt_end(&t), 0);
        assert_true(a_row_matches(&t, columns == 100 ? "^pushing [0-9a-f]{12}: 100% ▕█{36}▏  25 MB$"
                                                     : "^pushing [0-9a-f]{12}: 100%  25 MB$"));
        assert_true(a_row_matches(&t, "^pushing manifest$") && a_row_matches(&t, "^success$"));
        run(0, "cmp pushed-pushslow store/manifests/127.0.0.1*/t/pushslow/latest && for b in store/blobs/*; do cmp $b "
               "pushed-${b##*/} || exit 1; done");
    }
}

static void says_it_in_lines_elsewhere(void **state)
{
    (void)state;
    run(0, "rm -rf store");
    const char *text = run(0, "$N pull %s/t/slow", server.at);
    assert_matches(text, "^pulling manifest$");
    assert_matches(text, "^pulling [0-9a-f]{12}: 100% 25 MB$");
    assert_matches(text, "^pulling [0-9a-f]{12}: 100% 59 B$");
    assert_matches(text, "^writing manifest$");
    assert_matches(text, "^success$");
    assert_null(strchr(text, '\r'));
    assert_null(strchr(text, '\033'));
    assert_null(strstr(text, "▕"));
}

static void treats_the_hubs_models_as_others(void **state)
{
    (void)state;
    run(0, "rm -rf store");
    assert_matches(run(0, "$N pull hf://u/real/tiny-BF16.gguf"), "^listed as hf.co/u/real:BF16$");
    assert_matches(run(0, "$N list"), "^hf.co/u/real:BF16    [0-9a-f]{12}    482 KB    .* ago    $");
    assert_matches(run(0, "$N show hf.co/u/real:BF16"), "^    architecture +llama +$");
    assert_matches(run(0, "$N show hf.co/u/real:BF16 --modelfile"), "^FROM .*/blobs/sha256-[0-9a-f]{64}$");
    run(0, "$N run hf.co/u/real:BF16 hello --temp 0 -n 3 > one && test -s one");
    run(0, "$N cp hf.co/u/real:BF16 mine && $N run mine hello --temp 0 -n 3 > two && cmp one two");
    run(0, "$N rm hf.co/u/real:BF16 mine");
    assert_false(matches(run(0, "$N list"), "real|mine"));
    run(0, "test -z \"$(ls store/blobs)\" && test -s hf/hub/models--u--real/snapshots/*/tiny-BF16.gguf");
    /* fetched already: only its name comes back, not one byte of the file */
    hostile_forget(&server);
    run(0, "$N pull hf://u/real/tiny-BF16.gguf && $N list | grep -q real");
    assert_int_equal(hostile_asked(&server, "A", "/resolve/").requests, 0);
    /* by the registry's protocol: from where HF_ENDPOINT says, and from a registry that is named beside */
    run(0, "$N pull hf.co/t/good && $N list | grep -q '^hf.co/t/good:latest'");
    run(0, "$N pull hf.co/t/real --registry %s && $N list | grep -q '^hf.co/t/real:latest'", server.at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_a_bar_a_blob),
        cmocka_unit_test(draws_what_is_pushed),
        cmocka_unit_test(says_it_in_lines_elsewhere),
        cmocka_unit_test(treats_the_hubs_models_as_others),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
