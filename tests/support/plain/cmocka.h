/* cmocka.h - stands in for cmocka where it cannot be linked (cross builds: Debian's package would need a foreign
 * architecture added to the machine). Found before the real one by the include path of such builds only; it has the part
 * of cmocka's interface that tests of base, num, quant, kernel and format use, and the same closing lines. */
#ifndef NB_TESTS_PLAIN_CMOCKA_H
#define NB_TESTS_PLAIN_CMOCKA_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*CMUnitTestFunction)(void **state);
typedef int (*CMFixtureFunction)(void **state);

struct CMUnitTest {
    const char *name;
    CMUnitTestFunction test_func;
    CMFixtureFunction setup_func, teardown_func;
    void *initial_state;
};

#define cmocka_unit_test(f)                                                                                            \
    {                                                                                                                  \
#f, f, NULL, NULL, NULL                                                                                        \
    }
#define cmocka_unit_test_setup(f, setup)                                                                               \
    {                                                                                                                  \
#f, f, setup, NULL, NULL                                                                                       \
    }
#define cmocka_unit_test_teardown(f, teardown)                                                                         \
    {                                                                                                                  \
#f, f, NULL, teardown, NULL                                                                                    \
    }
#define cmocka_unit_test_setup_teardown(f, setup, teardown)                                                            \
    {                                                                                                                  \
#f, f, setup, teardown, NULL                                                                                   \
    }
#define cmocka_unit_test_prestate(f, state)                                                                            \
    {                                                                                                                  \
#f, f, NULL, NULL, state                                                                                       \
    }
#define cmocka_unit_test_prestate_setup_teardown(f, setup, teardown, state)                                            \
    {                                                                                                                  \
#f, f, setup, teardown, state                                                                                  \
    }

static jmp_buf plain_leave_test;

__attribute__((noreturn, format(printf, 3, 4))) static inline void plain_fail(const char *file, int line,
                                                                              const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n%s:%d: error: Failure!\n", file, line);
    longjmp(plain_leave_test, 1);
}

#define plain_check(condition, ...) ((condition) ? (void)0 : plain_fail(__FILE__, __LINE__, __VA_ARGS__))
#define fail() plain_fail(__FILE__, __LINE__, "fail()")
#define fail_msg(...) plain_fail(__FILE__, __LINE__, __VA_ARGS__)
#define print_message(...) printf(__VA_ARGS__)
#define print_error(...) fprintf(stderr, __VA_ARGS__)

#define assert_true(c) plain_check(!!(c), "%s is not true", #c)
#define assert_false(c) plain_check(!(c), "%s is not false", #c)
#define assert_non_null(p) plain_check((p) != NULL, "%s is NULL", #p)
#define assert_null(p) plain_check((p) == NULL, "%s is not NULL", #p)

static inline void plain_check_int(uintmax_t a, uintmax_t b, int equal, const char *file, int line)
{
    if ((a == b) != equal)
        plain_fail(file, line, "%#" PRIxMAX " %s %#" PRIxMAX, a, equal ? "!=" : "==", b);
}

static inline void plain_check_float(double a, double b, double epsilon, int equal, const char *file, int line)
{
    double difference = a > b ? a - b : b - a;
    if ((a == b || difference <= epsilon) != equal)
        plain_fail(file, line, "%.17g %s %.17g (epsilon %.17g)", a, equal ? "!=" : "==", b, epsilon);
}

static inline void plain_check_bytes(const void *a, const void *b, size_t n, int equal, const char *file, int line)
{
    const unsigned char *p = a, *q = b;
    size_t i = 0;
    while (i < n && p[i] == q[i])
        i++;
    if ((i == n) != equal)
        plain_fail(file, line, equal ? "bytes differ at %zu of %zu" : "bytes are equal up to %zu of %zu", i, n);
}

static inline void plain_check_string(const char *a, const char *b, int equal, const char *file, int line)
{
    if ((strcmp(a, b) == 0) != equal)
        plain_fail(file, line, "\"%s\" %s \"%s\"", a, equal ? "!=" : "==", b);
}

static inline void plain_check_range(uintmax_t value, uintmax_t low, uintmax_t high, const char *file, int line)
{
    if (value < low || value > high)
        plain_fail(file, line, "%" PRIuMAX " is not in %" PRIuMAX "..%" PRIuMAX, value, low, high);
}

#define assert_int_equal(a, b) plain_check_int((uintmax_t)(a), (uintmax_t)(b), 1, __FILE__, __LINE__)
#define assert_int_not_equal(a, b) plain_check_int((uintmax_t)(a), (uintmax_t)(b), 0, __FILE__, __LINE__)
#define assert_ptr_equal(a, b) plain_check_int((uintptr_t)(a), (uintptr_t)(b), 1, __FILE__, __LINE__)
#define assert_ptr_not_equal(a, b) plain_check_int((uintptr_t)(a), (uintptr_t)(b), 0, __FILE__, __LINE__)
#define assert_float_equal(a, b, e) plain_check_float((double)(a), (double)(b), (double)(e), 1, __FILE__, __LINE__)
#define assert_float_not_equal(a, b, e) plain_check_float((double)(a), (double)(b), (double)(e), 0, __FILE__, __LINE__)
#define assert_memory_equal(a, b, n) plain_check_bytes(a, b, n, 1, __FILE__, __LINE__)
#define assert_memory_not_equal(a, b, n) plain_check_bytes(a, b, n, 0, __FILE__, __LINE__)
#define assert_string_equal(a, b) plain_check_string(a, b, 1, __FILE__, __LINE__)
#define assert_string_not_equal(a, b) plain_check_string(a, b, 0, __FILE__, __LINE__)
#define assert_in_range(v, low, high)                                                                                  \
    plain_check_range((uintmax_t)(v), (uintmax_t)(low), (uintmax_t)(high), __FILE__, __LINE__)

/* 1 when the test passed */
static inline int plain_run_test(const struct CMUnitTest *test, void *group_state)
{
    void *own = test->initial_state ? test->initial_state : group_state;
    volatile int passed = 0;
    printf("[ RUN      ] %s\n", test->name);
    fflush(stdout);
    if (setjmp(plain_leave_test) == 0) {
        plain_check(!test->setup_func || test->setup_func(&own) == 0, "the setup failed");
        test->test_func(&own);
        passed = 1;
    }
    if (setjmp(plain_leave_test) == 0)
        plain_check(!test->teardown_func || test->teardown_func(&own) == 0, "the teardown failed");
    else
        passed = 0;
    printf(passed ? "[       OK ] %s\n" : "[  FAILED  ] %s\n", test->name);
    return passed;
}

/* Returns the number of failed tests, as cmocka does. */
static inline int plain_run_group(const struct CMUnitTest *tests, size_t count, CMFixtureFunction setup,
                                  CMFixtureFunction teardown)
{
    void *state = NULL;
    int passed = 0;
    printf("[==========] Running %zu test(s).\n", count);
    if (!setup || setup(&state) == 0)
        for (size_t i = 0; i < count; i++)
            passed += plain_run_test(&tests[i], state);
    int failed = (int)count - passed;
    if (teardown && teardown(&state) != 0)
        failed++;
    printf("[==========] %zu test(s) run.\n[  PASSED  ] %d test(s).\n", count, passed);
    if (failed)
        printf("[  FAILED  ] %d test(s).\n", failed);
    return failed;
}

#define cmocka_run_group_tests(tests, setup, teardown)                                                                 \
    plain_run_group(tests, sizeof(tests) / sizeof(tests)[0], setup, teardown)
#define cmocka_run_group_tests_name(name, tests, setup, teardown) cmocka_run_group_tests(tests, setup, teardown)

#endif
