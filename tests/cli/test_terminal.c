/* Ctrl-C and progress: the first interrupt is only noted, a second one soon after ends the process. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/cli.h"

static void test_interrupt_is_noted_once(void **state)
{
    (void)state;
    nb_interrupt_watch();
    assert_false(nb_interrupted());
    raise(SIGINT);
    assert_true(nb_interrupted());
    assert_false(nb_interrupted());
}

static int status_after_interrupts(int count, useconds_t between)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        nb_interrupt_watch();
        for (int i = 0; i < count; i++) {
            raise(SIGINT);
            nb_interrupted();
            usleep(between);
        }
        _exit(7);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void test_second_interrupt_ends_the_process(void **state)
{
    (void)state;
    int status = status_after_interrupts(2, 1000);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
}

static void test_slow_interrupts_do_not_end_the_process(void **state)
{
    (void)state;
    int status = status_after_interrupts(2, 1100000);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* what runs a progress of 1000 prints on a standard error that is no terminal */
static void run_progress(uint64_t total, uint64_t done, const char *unit, bool finished, char text[512])
{
    FILE *file = tmpfile();
    assert_non_null(file);
    int saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    nb_progress *p = nb_progress_start("evaluating", total, unit);
    for (uint64_t i = 0; i <= done; i += done / 10 + 1)
        nb_progress_at(p, i);
    nb_progress_at(p, done);
    nb_progress_end(p, finished);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    text[fread(text, 1, 511, file)] = '\0';
    fclose(file);
}

static void test_progress_is_one_plain_line(void **state)
{
    (void)state;
    char text[512];
    run_progress(1000, 1000, "tokens", true, text);
    assert_memory_equal(text, "evaluating: 1000/1000 tokens, ", 30);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_null(strchr(text, '\033'));
    assert_null(strchr(text, '\r'));
    run_progress(98362432, 50000000, "B", false, text);
    assert_memory_equal(text, "evaluating: 50.0 MB/98.4 MB, ", 29);
    run_progress(0, 0, "B", true, text);
    assert_memory_equal(text, "evaluating: 0 B/0 B, ", 21);
    nb_progress_at(NULL, 1);
    nb_progress_end(NULL, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interrupt_is_noted_once),
        cmocka_unit_test(test_second_interrupt_ends_the_process),
        cmocka_unit_test(test_slow_interrupts_do_not_end_the_process),
        cmocka_unit_test(test_progress_is_one_plain_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
