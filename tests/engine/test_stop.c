/* Streamed search against naive search of the whole text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/stop.h"

static uint64_t state = 88172645463325252u;
static size_t any(size_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (size_t)(state >> 11) % below;
}

static nb_stop *make(const char *const *strings, size_t count)
{
    nb_stop *s;
    assert_int_equal(nb_stop_new(strings, count, &s, NULL), NB_OK);
    return s;
}

static void push(nb_stop *s, const char *text, const char *expected, bool stops)
{
    nb_buf out = {0};
    assert_int_equal(nb_stop_push(s, nb_str_of(text), &out), stops);
    assert_string_equal(nb_buf_view(&out).p, expected);
    nb_buf_free(&out);
}

static void flush(nb_stop *s, const char *expected, bool stops)
{
    nb_buf out = {0};
    assert_int_equal(nb_stop_flush(s, &out), stops);
    assert_string_equal(nb_buf_view(&out).p, expected);
    nb_buf_free(&out);
}

static void a_string_may_span_pieces(void **unused)
{
    (void)unused;
    nb_stop *s = make((const char *const[]){"</answer>"}, 1);
    push(s, "It is 4", "It is 4", false);
    push(s, "2. <", "2. ", false);
    push(s, "b> </ans", "<b> ", false);
    push(s, "wer", "", false);
    push(s, ">!", "", true);
    nb_stop_free(s);
}

static void held_text_is_minimal(void **unused)
{
    (void)unused;
    nb_stop *s = make((const char *const[]){"</answer>"}, 1);
    push(s, "a</ans", "a", false);
    push(s, "we", "", false);
    push(s, "</", "</answe", false);
    push(s, "answer>more", "", true);
    assert_int_equal(nb_stop_which(s), 0);
    push(s, "and more", "", true);
    flush(s, "", true);
    nb_stop_reset(s);
    assert_int_equal(nb_stop_which(s), -1);
    push(s, "x</", "x", false);
    flush(s, "</", false);
    nb_stop_free(s);
}

static void the_first_begin_wins(void **unused)
{
    (void)unused;
    nb_stop *s = make((const char *const[]){"bc", "abcd", "", "abcde", NULL}, 5);
    push(s, "xabc", "x", false); /* "bc" is there, but "abcd" would begin before it */
    push(s, "d", "", true);
    assert_int_equal(nb_stop_which(s), 1);
    nb_stop_reset(s);
    push(s, "xabc", "x", false);
    push(s, "y", "a", true);
    assert_int_equal(nb_stop_which(s), 0);
    nb_stop_reset(s);
    push(s, "xabc", "x", false);
    flush(s, "a", true);
    assert_int_equal(nb_stop_which(s), 0);
    nb_stop_free(s);
}

static void without_strings_text_passes(void **unused)
{
    (void)unused;
    nb_stop *s = make(NULL, 0);
    push(s, "anything", "anything", false);
    push(s, "", "", false);
    flush(s, "", false);
    nb_stop_free(s);
}

/* The earliest begin, then the shortest string, then the first of equal ones. */
static size_t naive(nb_str text, char strings[][8], size_t count, int *which)
{
    *which = -1;
    for (size_t at = 0; at < text.n; at++) {
        size_t shortest = SIZE_MAX;
        for (size_t i = 0; i < count; i++) {
            size_t n = strlen(strings[i]);
            if (n > 0 && n < shortest && nb_str_starts((nb_str){text.p + at, text.n - at}, (nb_str){strings[i], n})) {
                shortest = n;
                *which = (int)i;
            }
        }
        if (*which >= 0)
            return at;
    }
    return text.n;
}

/* Nothing is held that could have been told: the text held could still become a stop string. */
static void assert_needed(nb_str held, char strings[][8], size_t count)
{
    bool needed = held.n == 0;
    for (size_t i = 0; i < count; i++)
        needed |= strlen(strings[i]) > 0 && strncmp(strings[i], held.p, nb_min_size(held.n, strlen(strings[i]))) == 0;
    assert_true(needed);
}

static void random_texts_stop_where_naive_search_does(void **unused)
{
    (void)unused;
    int found = 0;
    for (int round = 0; round < 30000; round++) {
        char strings[4][8] = {{0}}, text[64];
        const char *list[4];
        size_t count = any(5), n = any(sizeof text), letters = 1 + any(3);
        for (size_t i = 0; i < count; i++) {
            for (size_t j = 0, length = any(7); j < length; j++)
                strings[i][j] = (char)('a' + any(letters));
            list[i] = strings[i];
        }
        for (size_t i = 0; i < n; i++)
            text[i] = (char)('a' + any(letters + 1));
        int which;
        size_t end = naive((nb_str){text, n}, strings, count, &which);
        nb_stop *s = make(list, count);
        nb_buf out = {0};
        bool stopped = false;
        for (size_t at = 0, piece; at < n && !stopped; at += piece) {
            piece = 1 + any(nb_min_size(n - at, 9));
            stopped = nb_stop_push(s, (nb_str){text + at, piece}, &out);
            if (!stopped)
                assert_needed((nb_str){text + out.len, at + piece - out.len}, strings, count);
        }
        stopped = nb_stop_flush(s, &out);
        assert_int_equal(stopped, which >= 0);
        assert_int_equal(nb_stop_which(s), which);
        assert_true(nb_str_eq(nb_buf_view(&out), (nb_str){text, end}));
        found += stopped;
        nb_buf_free(&out);
        nb_stop_free(s);
    }
    assert_in_range(found, 5000, 25000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_string_may_span_pieces),
        cmocka_unit_test(held_text_is_minimal),
        cmocka_unit_test(the_first_begin_wins),
        cmocka_unit_test(without_strings_text_passes),
        cmocka_unit_test(random_texts_stop_where_naive_search_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
