/* packaging/nibble.service.in as it is installed: systemd takes it without a word, and finds it well shut in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/folder.h"

static char unit[400];

/* As cmake --install writes it; @bindir@ is where the program under test lies. */
static int write_unit(void **state)
{
    char line[1000], bindir[] = NB_TEST_BINARY;
    if (nb_folder_make(state) != 0)
        return -1;
    *strrchr(bindir, '/') = 0;
    snprintf(unit, sizeof unit, "%s", nb_folder_path("nibble.service"));
    FILE *in = fopen(NB_TEST_DATA "/../../packaging/nibble.service.in", "r"), *out = fopen(unit, "w");
    if (!in || !out)
        return -1;
    while (fgets(line, sizeof line, in)) {
        char *at = strstr(line, "@bindir@");
        if (at)
            fprintf(out, "%.*s%s%s", (int)(at - line), line, bindir, at + strlen("@bindir@"));
        else
            fputs(line, out);
    }
    fclose(in);
    return fclose(out);
}

static int remove_unit(void **state)
{
    remove(unit);
    return nb_folder_remove(state);
}

/* The exit status; what it printed is in output. */
static int run(const char *what, char *output, size_t room)
{
    char command[600];
    snprintf(command, sizeof command, "systemd-analyze %s %s 2>&1", what, unit);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    output[fread(output, 1, room - 1, f)] = 0;
    return pclose(f);
}

static void verifies(void **state)
{
    char output[4000];
    (void)state;
    int status = run("verify --man=no", output, sizeof output);
    if (status != 0 || strstr(output, "nibble.service"))
        fail_msg("status %d: %s", status, output);
}

/* Of 100: what a service could do to the machine; without any of the unit's limits it is 96. */
static void is_shut_in(void **state)
{
    char output[20000];
    (void)state;
    if (run("security --offline=true --no-pager --threshold=20", output, sizeof output) != 0)
        fail_msg("%s", strrchr(output, 'O') ? strstr(output, "Overall") : output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(verifies), cmocka_unit_test(is_shut_in)};
    return cmocka_run_group_tests(tests, write_unit, remove_unit);
}
