/* The hand-written scanners against the expressions they stand for, and the classes of characters against PCRE2's. */
/* cmocka.h needs the others first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

#include "support/cases.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

static bool matches(const char *expression, nb_str s)
{
    static struct {
        const char *expression;
        pcre2_code *code;
    } known[8];
    int number, i = 0;
    PCRE2_SIZE where;
    while (known[i].expression && known[i].expression != expression)
        i++;
    if (!known[i].code) {
        known[i].expression = expression;
        known[i].code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &number,
                                      &where, NULL);
        assert_non_null(known[i].code);
    }
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    int rc = pcre2_match(known[i].code, (PCRE2_SPTR)s.p, s.n, 0, PCRE2_ANCHORED, data, NULL);
    pcre2_match_data_free(data);
    return rc >= 0;
}

/* PCRE2 and utf8proc may know different versions of Unicode: characters that one of them holds unassigned may differ. */
static void test_classes(void **state)
{
    (void)state;
    static const char letter[] = "\\p{L}", number[] = "\\p{N}", space[] = "\\p{White_Space}", unassigned[] = "\\p{Cn}";
    nb_buf text = {0};
    size_t assigned = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000)
            continue;
        nb_buf_clear(&text);
        nb_buf_utf8(&text, c);
        nb_str s = nb_buf_view(&text);
        size_t step;
        nb_char_class want = matches(letter, s)   ? NB_CHAR_LETTER
                             : matches(number, s) ? NB_CHAR_NUMBER
                             : matches(space, s)  ? NB_CHAR_SPACE
                                                  : NB_CHAR_OTHER;
        nb_char_class got = nb_char_at((const unsigned char *)s.p, s.n, &step);
        assert_int_equal(step, s.n);
        assert_int_equal(got, nb_char_class_of(c));
        bool known = !matches(unassigned, s) && utf8proc_category((utf8proc_int32_t)c) != UTF8PROC_CATEGORY_CN;
        assigned += known;
        if (known && got != want)
            fail_msg("U+%04X: class %d, PCRE2 says %d", c, got, want);
    }
    assert_true(assigned > 280000);
    nb_buf_free(&text);
}

static uint64_t seed = 88172645463325252u;

/* characters that both libraries know, in runs that the expressions care about; some bytes that are not UTF-8 */
static void random_text(nb_buf *text)
{
    static const char *const pieces[] = {
        "'s", "'S",   "'ll",  "'Re", "'\xC5\xBF", " ",     "  ", "\n", "\r\n", "\t", "\xC2\xA0", "\xE3\x80\x80",
        "a",  "word", "Wort", "7",   "42",        "12345", "!",  "?!", "...",  "'",  "\xC2\x85", "\xE1\xA0\x8E"};
    static const uint32_t ranges[][2] = {{0x20, 0x7E},     {0xA0, 0x24F},    {0x391, 0x3A1},   {0x410, 0x44F},
                                         {0x660, 0x669},   {0x904, 0x939},   {0x2000, 0x2027}, {0x2150, 0x2188},
                                         {0x3041, 0x3096}, {0x4E00, 0x9FEF}, {0xAC00, 0xD7A3}, {0x1F300, 0x1F5FF}};
    nb_buf_clear(text);
    for (uint64_t n = nb_random(&seed) % 24 + 1; n > 0; n--) {
        uint64_t r = nb_random(&seed);
        if (r % 8 < 5)
            nb_buf_z(text, pieces[(r >> 8) % (sizeof pieces / sizeof *pieces)]);
        else if (r % 64 == 7)
            nb_buf_char(text, (char)(r >> 8));
        else {
            const uint32_t *range = ranges[(r >> 8) % (sizeof ranges / sizeof *ranges)];
            nb_buf_utf8(text, range[0] + (uint32_t)((r >> 32) % (range[1] - range[0] + 1)));
        }
    }
}

static void test_scanners(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};
    nb_buf text = {0};
    nb_words words = {0};
    nb_error err;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        nb_pretokenizer *p;
        assert_int_equal(nb_pretokenizer_new(nb_str_of(names[i]), &p, &err), NB_OK);
        nb_scan_fn *scan = nb_pretokenizer_scan(p);
        assert_non_null(scan);
        for (int k = 0; k < 60000; k++) {
            random_text(&text);
            assert_int_equal(nb_pretokenizer_split(p, nb_buf_view(&text), &words, &err), NB_OK);
            size_t at = 0;
            for (size_t w = 0; w < words.count; w++) {
                at += scan((const unsigned char *)text.data + at, text.len - at);
                if (at != words.end[w])
                    fail_msg("%s: '%s': word %zu ends at %zu, by the expression at %u", names[i], text.data, w, at,
                             words.end[w]);
            }
            assert_int_equal(at, text.len);
        }
        nb_pretokenizer_free(p);
    }
    nb_words_free(&words);
    nb_buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_classes), cmocka_unit_test(test_scanners)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
