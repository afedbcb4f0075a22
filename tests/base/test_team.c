/* The thread team: every member runs every region, barriers hold, shares cover the work once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/team.h"

enum { MOST = 8 };

typedef struct shared {
    nb_team *team;
    int runs[MOST]; /* plain on purpose: ThreadSanitizer watches that regions and barriers order them */
    int steps[MOST];
    int wrong;
} shared;

static void count_run(void *context, int member, int members)
{
    shared *s = context;
    s->runs[member]++;
    if (members != nb_team_size(s->team))
        s->wrong++;
}

static void test_every_member_runs_every_region(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        shared s = {0};
        assert_int_equal(nb_team_new(threads, false, &s.team, NULL), NB_OK);
        assert_int_equal(nb_team_size(s.team), threads);
        for (int i = 0; i < 300; i++) {
            nb_team_run(s.team, count_run, &s);
            if (i % 100 == 50)
                usleep(2000); /* long enough for the workers to sleep */
        }
        nb_team_free(s.team);
        for (int m = 0; m < MOST; m++)
            assert_int_equal(s.runs[m], m < threads ? 300 : 0);
        assert_int_equal(s.wrong, 0);
    }
}

static void step_together(void *context, int member, int members)
{
    shared *s = context;
    for (int i = 1; i <= 50; i++) {
        s->steps[member] = i;
        nb_team_barrier(s->team);
        for (int m = 0; m < members; m++)
            if (s->steps[m] != i)
                s->runs[member]++;
        nb_team_barrier(s->team);
    }
}

static void test_barriers_hold(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 4; threads++) {
        shared s = {0};
        assert_int_equal(nb_team_new(threads, true, &s.team, NULL), NB_OK);
        for (int i = 0; i < 4; i++)
            nb_team_run(s.team, step_together, &s);
        nb_team_free(s.team);
        for (int m = 0; m < threads; m++)
            assert_int_equal(s.runs[m], 0);
    }
}

static void test_shares_cover_the_work_once(void **state)
{
    (void)state;
    static const size_t grains[] = {1, 8, 16, 33};
    for (size_t items = 0; items < 200; items += 7)
        for (size_t g = 0; g < 4; g++)
            for (int members = 1; members <= 9; members++) {
                size_t at = 0;
                for (int m = 0; m < members; m++) {
                    size_t begin, end;
                    nb_team_share(items, grains[g], m, members, &begin, &end);
                    assert_int_equal(begin, at);
                    assert_true(end >= begin && (end % grains[g] == 0 || end == items));
                    at = end;
                }
                assert_int_equal(at, items);
            }
}

static void test_wrong_sizes_are_refused(void **state)
{
    (void)state;
    nb_error err;
    nb_team *team;
    assert_int_equal(nb_team_new(-1, false, &team, &err), NB_ERR_ARGUMENT);
    assert_null(team);
    assert_int_equal(nb_team_new(257, false, &team, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "1 to 256"));
    nb_team_free(NULL);
    assert_int_equal(nb_team_new(0, false, &team, &err), NB_OK);
    assert_int_equal(nb_team_size(team), nb_cpu_count());
    nb_team_free(team);
}

static void test_levels(void **state)
{
    (void)state;
    nb_error err;
    setenv("NIBBLE_CPU", "pentium", 1);
    assert_int_equal(nb_cpu_check_env(&err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "ref, avx2, fma, avx512 or bf16"));
    setenv("NIBBLE_CPU", "ref", 1);
    assert_int_equal(nb_cpu_check_env(&err), NB_OK);
    assert_int_equal(nb_cpu_current(), NB_CPU_REF);
    for (nb_cpu_level level = NB_CPU_REF; level < NB_CPU_LEVELS; level++) {
        nb_cpu_set_level(level);
        assert_int_equal(nb_cpu_current(), level < nb_cpu_best() ? level : nb_cpu_best());
    }
    assert_string_equal(nb_cpu_level_name(NB_CPU_FMA), "fma");
    assert_true(strlen(nb_cpu_model()) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_member_runs_every_region),
        cmocka_unit_test(test_barriers_hold),
        cmocka_unit_test(test_shares_cover_the_work_once),
        cmocka_unit_test(test_wrong_sizes_are_refused),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
