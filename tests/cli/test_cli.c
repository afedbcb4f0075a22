/* The program as a user meets it: what each call prints on which stream, and how it ends. No shell is between. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "nibble.h"

typedef struct result {
    int exit_code; /* 128 + signal when one ended it */
    char out[8192], err[8192];
} result;

static char *const environment[] = {"PATH=/usr/bin:/bin", "TERM=xterm", NULL};

static void read_back(FILE *file, char text[8192])
{
    rewind(file);
    text[fread(text, 1, 8191, file)] = '\0';
    fclose(file);
}

static int wait_for(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* runs nibble with the words; standard output goes to out_fd, or is collected when that is -1 */
static result run_to(int out_fd, char *const *env, const char *const *words)
{
    result r = {0};
    char *argv[16] = {"nibble"};
    for (int i = 1; *words; i++, words++)
        argv[i] = (char *)(uintptr_t)*words;
    FILE *out = tmpfile(), *err = tmpfile();
    assert_true(out && err);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out_fd >= 0 ? out_fd : fileno(out), 1);
    posix_spawn_file_actions_adddup2(&actions, fileno(err), 2);
    pid_t child;
    assert_int_equal(posix_spawn(&child, NB_TEST_BINARY, &actions, NULL, argv, env), 0);
    posix_spawn_file_actions_destroy(&actions);
    r.exit_code = wait_for(child);
    read_back(out, r.out);
    read_back(err, r.err);
    return r;
}

#define RUN(...) run_to(-1, environment, (const char *const[]){__VA_ARGS__, NULL})

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

static void test_version(void **state)
{
    (void)state;
    static const char *const spellings[] = {"version", "--version", "-V"};
    for (size_t i = 0; i < 3; i++) {
        result r = RUN(spellings[i]);
        assert_int_equal(r.exit_code, 0);
        assert_string_equal(r.err, "");
        assert_memory_equal(r.out, "nibble " NB_VERSION "\n", strlen("nibble " NB_VERSION "\n"));
        assert_contains(r.out, "\ncompiler: ");
        assert_contains(r.out, "\ncpu: ");
    }
}

static void test_help(void **state)
{
    (void)state;
    result alone = RUN(NULL), help = RUN("help"), option = RUN("--help");
    assert_int_equal(help.exit_code, 0);
    assert_string_equal(help.err, "");
    assert_memory_equal(help.out, "usage: nibble COMMAND [OPTIONS] [ARGUMENTS]\n", 44);
    assert_contains(help.out, "\n  version    print the version");
    assert_contains(help.out, "\n  help       print this help");
    assert_int_equal(alone.exit_code, 0);
    assert_string_equal(alone.out, help.out);
    assert_string_equal(option.out, help.out);
}

static void test_help_of_a_command(void **state)
{
    (void)state;
    result a = RUN("help", "version"), b = RUN("version", "--help"), c = RUN("version", "-h");
    assert_int_equal(a.exit_code, 0);
    assert_string_equal(a.out, "usage: nibble version [OPTIONS]\n"
                               "print the version, the compiler and the instruction-set level in use\n\n"
                               "options:\n"
                               "  -h, --help                print this help\n");
    assert_string_equal(a.out, b.out);
    assert_string_equal(a.out, c.out);
}

/* every command of the help has a help of its own */
static void test_help_of_every_command(void **state)
{
    (void)state;
    result all = RUN("help");
    int count = 0;
    for (char *line = strtok(strstr(all.out, "commands:\n") + 10, "\n"); line && line[0] == ' ';
         line = strtok(NULL, "\n")) {
        char name[32];
        assert_int_equal(sscanf(line, "%31s", name), 1);
        result r = RUN("help", name);
        assert_int_equal(r.exit_code, 0);
        assert_string_equal(r.err, "");
        assert_contains(r.out, "usage: nibble ");
        assert_contains(r.out, name);
        assert_contains(r.out, "--help");
        count++;
    }
    assert_true(count >= 2);
}

static void test_unknown_command(void **state)
{
    (void)state;
    result r = RUN("verison");
    assert_int_equal(r.exit_code, 2);
    assert_string_equal(r.out, "");
    assert_string_equal(r.err, "nibble: error: unknown command 'verison'; did you mean 'version'?\n"
                               "'nibble help' lists the commands.\n");
    r = RUN("help", "hlep");
    assert_int_equal(r.exit_code, 2);
    assert_contains(r.err, "unknown command 'hlep'; did you mean 'help'?");
    r = RUN("qqqqqqqq");
    assert_int_equal(r.exit_code, 2);
    assert_string_equal(r.err, "nibble: error: unknown command 'qqqqqqqq'\n'nibble help' lists the commands.\n");
}

static void test_unknown_option(void **state)
{
    (void)state;
    result r = RUN("version", "--hepl");
    assert_int_equal(r.exit_code, 2);
    assert_string_equal(r.out, "");
    assert_string_equal(r.err, "nibble: error: unknown option '--hepl'; did you mean '--help'?\n"
                               "'nibble version --help' lists its options.\n");
    assert_int_equal(RUN("--frob").exit_code, 2);
    assert_int_equal(RUN("version", "surplus").exit_code, 2);
    assert_int_equal(RUN("help", "version", "surplus").exit_code, 2);
}

static void test_wrong_cpu_mask(void **state)
{
    (void)state;
    static char *const env[] = {"NIBBLE_CPU=pentium", NULL};
    result r = run_to(-1, env, (const char *const[]){"version", NULL});
    assert_int_equal(r.exit_code, 2);
    assert_contains(r.err, "NIBBLE_CPU=pentium");
    static char *const ref[] = {"NIBBLE_CPU=ref", NULL};
    r = run_to(-1, ref, (const char *const[]){"version", NULL});
    assert_int_equal(r.exit_code, 0);
    assert_contains(r.out, "level ref (best ");
}

static void test_closed_pipe_is_quiet(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    result r = run_to(ends[1], environment, (const char *const[]){"help", NULL});
    close(ends[1]);
    assert_int_equal(r.exit_code, 0);
    assert_string_equal(r.err, "");
}

static void test_full_disk_is_an_error(void **state)
{
    (void)state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(full >= 0);
    result r = run_to(full, environment, (const char *const[]){"help", NULL});
    close(full);
    assert_int_equal(r.exit_code, 1);
    assert_string_equal(r.err, "nibble: error: cannot write to standard output: No space left on device\n");
}

/* on a terminal the word "error" is red, unless NO_COLOR or TERM=dumb asks for plain text */
static void run_on_terminal(char *const *env, char text[8192])
{
    int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    int user = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(user >= 0);
    char *argv[] = {"nibble", "frob", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd <= 2; fd++)
        posix_spawn_file_actions_adddup2(&actions, user, fd);
    pid_t child;
    assert_int_equal(posix_spawn(&child, NB_TEST_BINARY, &actions, NULL, argv, env), 0);
    posix_spawn_file_actions_destroy(&actions);
    assert_int_equal(wait_for(child), 2);
    ssize_t n = read(terminal, text, 8191);
    assert_true(n > 0);
    text[n] = '\0';
    close(user);
    close(terminal);
}

static void test_color(void **state)
{
    (void)state;
    char text[8192];
    run_on_terminal(environment, text);
    assert_contains(text, "nibble: \033[1;31merror:\033[0m unknown command 'frob'");
    static char *const no_color[] = {"TERM=xterm", "NO_COLOR=1", NULL};
    run_on_terminal(no_color, text);
    assert_contains(text, "nibble: error: unknown command 'frob'");
    static char *const dumb[] = {"TERM=dumb", NULL};
    run_on_terminal(dumb, text);
    assert_contains(text, "nibble: error: unknown command 'frob'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_help_of_a_command),
        cmocka_unit_test(test_help_of_every_command),
        cmocka_unit_test(test_unknown_command),
        cmocka_unit_test(test_unknown_option),
        cmocka_unit_test(test_wrong_cpu_mask),
        cmocka_unit_test(test_closed_pipe_is_quiet),
        cmocka_unit_test(test_full_disk_is_an_error),
        cmocka_unit_test(test_color),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
