/* Pre-tokenizers: words against the `tokenizers` package, and no byte lost whatever the text. */
/* cmocka.h needs the others first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "support/cases.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"

static nb_pretokenizer *make(nb_str name)
{
    nb_pretokenizer *p;
    nb_error err;
    if (nb_pretokenizer_new(name, &p, &err) != NB_OK)
        fail_msg("%s", err.message);
    return p;
}

static void test_words(void **state)
{
    (void)state;
    nb_cases cases;
    nb_str line, last = NB_STR("");
    nb_buf text = {0};
    nb_words words = {0};
    nb_pretokenizer *p = NULL;
    size_t families = 0, checked = 0;
    assert_true(nb_cases_open(&cases, "tokenizers/words.cases"));
    while (nb_cases_next(&cases, &line)) {
        nb_str name = nb_case_field(&line);
        if (!nb_str_eq(name, last)) {
            nb_pretokenizer_free(p);
            p = make(last = name);
            families++;
        }
        nb_case_text(&line, &text);
        assert_int_equal(nb_pretokenizer_split(p, nb_buf_view(&text), &words, NULL), NB_OK);
        for (size_t w = 0; w < words.count; w++) {
            uint64_t want = nb_case_number(&line, 10);
            if (words.end[w] != want)
                fail_msg("%.*s: '%s': word %zu ends at %u, not %u", NB_STR_ARG(name), text.data, w, words.end[w],
                         (unsigned)want);
        }
        assert_int_equal(line.n, 0);
        checked++;
    }
    assert_int_equal(families, 27);
    assert_int_equal(checked, 27 * 40);
    nb_pretokenizer_free(p);
    nb_words_free(&words);
    nb_buf_free(&text);
    nb_cases_close(&cases);
}

static void fill(nb_buf *text, int kind, size_t n)
{
    static const char *const units[] = {"a", " ",   "\xF0\x9F\xA6\x99", "7", "\n", "\xE6\x97\xA5",
                                        "!", "a b", "\xCC\x81"};
    uint64_t seed = 99;
    nb_buf_clear(text);
    while (text->len < n)
        if (kind == 9)
            nb_buf_char(text, (char)nb_random(&seed));
        else
            nb_buf_z(text, units[kind]);
}

/* Ends grow to the text's length, for every name, on what makes expressions backtrack and on bytes that are not UTF-8. */
static void test_nothing_lost(void **state)
{
    (void)state;
    const char *const *names;
    size_t count = nb_pretokenizer_names(&names);
    nb_buf text = {0};
    nb_words words = {0};
    assert_true(count > 80);
    for (size_t i = 0; i < count; i++) {
        nb_pretokenizer *p = make(nb_str_of(names[i]));
        for (int kind = 0; kind < 10; kind++) {
            nb_error err = {0};
            fill(&text, kind, 20000);
            if (nb_pretokenizer_split(p, nb_buf_view(&text), &words, &err) != NB_OK)
                fail_msg("%s, kind %d: %s", names[i], kind, err.message);
            for (size_t w = 0; w < words.count; w++)
                assert_true(words.end[w] > (w ? words.end[w - 1] : 0));
            assert_int_equal(words.end[words.count - 1], text.len);
        }
        nb_pretokenizer_free(p);
    }
    nb_words_free(&words);
    nb_buf_free(&text);
}

/* Deep backtracking goes past the JIT's small stack: a slower way, the same words. */
static void test_deep(void **state)
{
    (void)state;
    nb_buf text = {0};
    nb_words words = {0};
    nb_error err = {0};
    static const char *const names[] = {"kimi-k2", "exaone-moe", "tekken", "gpt-4o"};
    fill(&text, 0, 2000000);
    for (size_t i = 0; i < 4; i++) {
        nb_pretokenizer *p = make(nb_str_of(names[i]));
        if (nb_pretokenizer_split(p, nb_buf_view(&text), &words, &err) != NB_OK)
            fail_msg("%s: %s", names[i], err.message);
        assert_int_equal(words.count, 1);
        assert_int_equal(words.end[0], text.len);
        nb_pretokenizer_free(p);
    }
    nb_words_free(&words);
    nb_buf_free(&text);
}

static void test_unknown_name(void **state)
{
    (void)state;
    nb_pretokenizer *p;
    nb_error err;
    assert_int_equal(nb_pretokenizer_new(NB_STR("qwen22"), &p, &err), NB_ERR_UNSUPPORTED);
    assert_null(p);
    assert_non_null(strstr(err.message, "'qwen22'"));
    assert_non_null(strstr(err.message, "--pre"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words), cmocka_unit_test(test_nothing_lost),
                                       cmocka_unit_test(test_deep), cmocka_unit_test(test_unknown_name)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
