/* Options are parsed as their header says: anywhere, in every spelling, with a usage error for everything else. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/command.h"

typedef struct values {
    bool verbose, repack;
    int tokens;
    int64_t offset;
    uint64_t seed;
    float temp;
    const char *out;
    nb_option_list stops;
} values;

static char messages[4096]; /* what the last parse printed on stderr */

/* parses the NULL-terminated words after argv[0]; the remaining arguments are joined with '|' into rest */
static int parse(values *v, char rest[256], const char *const *words)
{
    const nb_option options[] = {
        {"verbose", 'v', NB_OPTION_FLAG, &v->verbose, NULL, "say more"},
        {"repack", 'r', NB_OPTION_FLAG, &v->repack, NULL, "copy weights"},
        {"tokens", 'n', NB_OPTION_INT, &v->tokens, "N", "tokens"},
        {"offset", 0, NB_OPTION_I64, &v->offset, "N", "offset"},
        {"seed", 's', NB_OPTION_U64, &v->seed, "N", "seed"},
        {"temp", 't', NB_OPTION_FLOAT, &v->temp, "T", "temperature"},
        {"out", 'o', NB_OPTION_STRING, &v->out, "FILE", "file"},
        {"stop", 0, NB_OPTION_LIST, &v->stops, "TEXT", "stop at"},
        {.name = ""},
    };
    char *argv[32] = {"test"};
    int argc = 1;
    for (; *words; words++)
        argv[argc++] = (char *)(uintptr_t)*words;

    FILE *file = tmpfile();
    assert_non_null(file);
    int saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    int code = nb_options_parse("test", options, &argc, argv);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    messages[fread(messages, 1, sizeof messages - 1, file)] = '\0';
    fclose(file);

    rest[0] = '\0';
    for (int i = 1; code < 0 && i < argc; i++)
        snprintf(rest + strlen(rest), 256 - strlen(rest), "%s%s", i > 1 ? "|" : "", argv[i]);
    return code;
}

#define PARSE(v, rest, ...) parse(v, rest, (const char *const[]){__VA_ARGS__, NULL})

static void test_every_spelling(void **state)
{
    (void)state;
    values v = {.repack = true};
    char rest[256];
    assert_int_equal(PARSE(&v, rest, "model", "--tokens=12", "-v", "hello", "--seed", "18446744073709551615", "-t0.5",
                           "-o", "-", "--no-repack", "--offset", "-9223372036854775808", "world"),
                     -1);
    assert_string_equal(rest, "model|hello|world");
    assert_true(v.verbose);
    assert_false(v.repack);
    assert_int_equal(v.tokens, 12);
    assert_true(v.offset == INT64_MIN);
    assert_true(v.seed == UINT64_MAX);
    assert_true(v.temp == 0.5f);
    assert_string_equal(v.out, "-");
}

static void test_letters_together(void **state)
{
    (void)state;
    values v = {0};
    char rest[256];
    assert_int_equal(PARSE(&v, rest, "-vrn7", "x"), -1);
    assert_true(v.verbose && v.repack);
    assert_int_equal(v.tokens, 7);
    assert_string_equal(rest, "x");
}

static void test_negative_numbers_are_values(void **state)
{
    (void)state;
    values v = {0};
    char rest[256];
    assert_int_equal(PARSE(&v, rest, "--temp", "-1.5", "-n", "-1", "-3", "-2.5e3"), -1);
    assert_true(v.temp == -1.5f);
    assert_int_equal(v.tokens, -1);
    assert_string_equal(rest, "-3|-2.5e3");
}

static void test_lists_keep_their_order(void **state)
{
    (void)state;
    values v = {0};
    char rest[256];
    assert_int_equal(PARSE(&v, rest, "--stop", "a", "m", "--stop=", "--stop", "--like-an-option", "--stop=-v"), -1);
    assert_int_equal(v.stops.count, 4);
    assert_string_equal(v.stops.items[0], "a");
    assert_string_equal(v.stops.items[1], "");
    assert_string_equal(v.stops.items[2], "--like-an-option");
    assert_string_equal(v.stops.items[3], "-v");
    assert_string_equal(rest, "m");
    free(v.stops.items);
}

static void test_two_dashes_end_the_options(void **state)
{
    (void)state;
    values v = {0};
    char rest[256];
    assert_int_equal(PARSE(&v, rest, "-", "--", "-v", "--nonsense", "--"), -1);
    assert_false(v.verbose);
    assert_string_equal(rest, "-|-v|--nonsense|--");
}

static void expect_usage(const char *message, const char *first, const char *second)
{
    values v = {0};
    char rest[256];
    assert_int_equal(PARSE(&v, rest, first, second), NB_EXIT_USAGE);
    if (!strstr(messages, message))
        fail_msg("'%s' is not in '%s'", message, messages);
    assert_non_null(strstr(messages, "'nibble test --help' lists its options."));
    free(v.stops.items);
}

static void test_wrong_usage(void **state)
{
    (void)state;
    expect_usage("unknown option '--tokesn'; did you mean '--tokens'?", "--tokesn", "3");
    expect_usage("unknown option '--sed'; did you mean '--seed'?", "--sed=1", NULL);
    expect_usage("unknown option '--verb'; did you mean '--verbose'?", "--verb", NULL);
    expect_usage("unknown option '--zzzzzzzz'\n", "--zzzzzzzz", NULL);
    expect_usage("unknown option '-x'", "-vx", NULL);
    expect_usage("option --tokens needs a value (N)", "--tokens", NULL);
    expect_usage("option --out needs a value (FILE), but '--verbose' follows; write --out=--verbose", "-o",
                 "--verbose");
    expect_usage("option --verbose takes no value", "--verbose=1", NULL);
    expect_usage("option --no-repack takes no value", "--no-repack=1", NULL);
    expect_usage("unknown option '--no-seed'", "--no-seed", NULL);
}

static void test_wrong_numbers(void **state)
{
    (void)state;
    static const char *const bad_ints[] = {"", "x", "1x", "1.5", "0x10", " 1", "2147483648", "-2147483649"};
    for (size_t i = 0; i < sizeof bad_ints / sizeof *bad_ints; i++)
        expect_usage("option --tokens wants a whole number, not '", "--tokens", bad_ints[i]);
    expect_usage("wants a whole number, not '9223372036854775808'", "--offset", "9223372036854775808");
    static const char *const bad_u64[] = {"-1", "+1", "18446744073709551616", ""};
    for (size_t i = 0; i < sizeof bad_u64 / sizeof *bad_u64; i++)
        expect_usage("option --seed wants a whole number from 0, not '", "--seed", bad_u64[i]);
    static const char *const bad_floats[] = {"nan", "inf", "1e99", "0.5x", ""};
    for (size_t i = 0; i < sizeof bad_floats / sizeof *bad_floats; i++)
        expect_usage("option --temp wants a number, not '", "--temp", bad_floats[i]);
}

static void test_messages_cannot_steer_the_terminal(void **state)
{
    (void)state;
    expect_usage("not '?[2J?\xc3\xa9'", "--tokens", "\033[2J\xc2\x9b\xc3\xa9");
}

static void test_edit_distance(void **state)
{
    (void)state;
    assert_int_equal(nb_edit_distance("", ""), 0);
    assert_int_equal(nb_edit_distance("", "abc"), 3);
    assert_int_equal(nb_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(nb_edit_distance("saturday", "sunday"), 3);
    assert_int_equal(nb_edit_distance("ca", "ac"), 1);  /* a swap is one edit */
    assert_int_equal(nb_edit_distance("ca", "abc"), 3); /* but no letter is edited twice */
    assert_int_equal(nb_edit_distance("verison", "version"), 1);
    char longest[65];
    memset(longest, 'a', sizeof longest);
    longest[64] = '\0';
    assert_true(nb_edit_distance(longest, "a") == SIZE_MAX);
    assert_true(nb_edit_distance("a", longest) == SIZE_MAX);
    assert_int_equal(nb_edit_distance(longest + 1, "a"), 62);
}

static void test_units(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {{0, "0 B"},
                 {999, "999 B"},
                 {1000, "1.00 kB"},
                 {9994, "9.99 kB"},
                 {9996, "10.0 kB"},
                 {98362432, "98.4 MB"},
                 {999949999, "1.00 GB"},
                 {1117320768, "1.12 GB"},
                 {UINT64_MAX, "18.4 EB"}};
    char text[24];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        nb_format_bytes(sizes[i].bytes, text);
        assert_string_equal(text, sizes[i].text);
    }
    static const struct {
        double seconds;
        const char *text;
    } times[] = {{-1, "0 ms"},           {0.0124, "12 ms"},     {1, "1.00 s"},
                 {12.34, "12.3 s"},      {59.96, "1 min 00 s"}, {65, "1 min 05 s"},
                 {3599.6, "1 h 00 min"}, {3720, "1 h 02 min"},  {1e300, "forever"}};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        nb_format_seconds(times[i].seconds, text);
        assert_string_equal(text, times[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_spelling),
        cmocka_unit_test(test_letters_together),
        cmocka_unit_test(test_negative_numbers_are_values),
        cmocka_unit_test(test_lists_keep_their_order),
        cmocka_unit_test(test_two_dashes_end_the_options),
        cmocka_unit_test(test_wrong_usage),
        cmocka_unit_test(test_wrong_numbers),
        cmocka_unit_test(test_messages_cannot_steer_the_terminal),
        cmocka_unit_test(test_edit_distance),
        cmocka_unit_test(test_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
