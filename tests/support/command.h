/* command.h - runs a shell command as a user would, and looks at what it prints. */
#ifndef NB_TESTS_COMMAND_H
#define NB_TESTS_COMMAND_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

/* What it prints, good until the next call; the test fails when it does not exit with `expected`. shown: its name then. */
static inline char *run_command(const char *command, const char *shown, int expected)
{
    static char text[1 << 16];
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    text[fread(text, 1, sizeof text - 1, pipe)] = '\0';
    int status = pclose(pipe), code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    if (code != expected)
        fail_msg("%s: exit %d, not %d:\n%s", shown, code, expected, text);
    return text;
}

static inline void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

#endif
