/* Buffers, arenas, checked sizes, JSON: what a caller may rely on. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json_write.h"

static void test_checked_sizes(void **state)
{
    (void)state;
    size_t out = 0;
    assert_true(nb_add(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
    assert_false(nb_add(SIZE_MAX, 1, &out));
    assert_true(nb_mul(SIZE_MAX / 3, 3, &out));
    assert_false(nb_mul(SIZE_MAX / 3 + 1, 3, &out));
    assert_int_equal(nb_round_up(0, 64), 0);
    assert_int_equal(nb_round_up(65, 64), 128);
}

static void test_buffer_grows_and_stays_terminated(void **state)
{
    (void)state;
    nb_buf b = {0};
    assert_string_equal(nb_buf_view(&b).p, "");
    for (int i = 0; i < 10000; i++)
        nb_buf_printf(&b, "%d,", i);
    assert_false(b.failed);
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4 + 9000 * 5);
    assert_int_equal(b.data[b.len], 0);
    assert_memory_equal(b.data, "0,1,2,3,", 8);
    assert_string_equal(b.data + b.len - 10, "9998,9999,");
    nb_buf_clear(&b);
    assert_int_equal(b.len, 0);
    nb_buf_str(&b, NB_STR("a\0b"));
    assert_memory_equal(b.data, "a\0b", 4);
    nb_buf_free(&b);
}

static void test_buffer_remembers_a_failure(void **state)
{
    (void)state;
    nb_buf b = {0};
    nb_buf_z(&b, "kept");
    assert_false(nb_buf_reserve(&b, SIZE_MAX - 2));
    assert_true(b.failed);
    nb_buf_z(&b, "dropped");
    assert_string_equal(b.data, "kept");
    nb_buf_clear(&b);
    nb_buf_z(&b, "again");
    assert_false(b.failed);
    assert_string_equal(b.data, "again");
    nb_buf_free(&b);
}

static void test_utf8(void **state)
{
    (void)state;
    nb_buf b = {0};
    static const uint32_t points[] = {0x24, 0xa2, 0x7ff, 0x800, 0x20ac, 0xffff, 0x10000, 0x10ffff};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++)
        nb_buf_utf8(&b, points[i]);
    assert_string_equal(b.data,
                        "$\xc2\xa2\xdf\xbf\xe0\xa0\x80\xe2\x82\xac\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
    nb_buf_free(&b);
}

/* Zeroed also where the memory was used before; no piece overlaps another. */
static void fill_arena(void)
{
    enum { PIECES = 3000 };
    static const size_t aligns[] = {1, 2, 8, 16, 64, 256};
    static struct {
        unsigned char *p;
        size_t bytes;
    } piece[PIECES];
    nb_arena a = {0};
    for (size_t i = 0; i < PIECES; i++) {
        size_t bytes = 1 + i * 37 % 1000 + (i % 500 == 0 ? 100000 : i % 7 == 0 ? 3000 : 0), align = aligns[i % 6];
        unsigned char *p = nb_arena_alloc(&a, bytes, align);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % align, 0);
        for (size_t k = 0; k < bytes; k++)
            assert_true(p[k] == 0);
        memset(p, (int)(i % 255 + 1), bytes);
        piece[i].p = p;
        piece[i].bytes = bytes;
    }
    for (size_t i = 0; i < PIECES; i++)
        for (size_t k = 0; k < piece[i].bytes; k++)
            assert_true(piece[i].p[k] == i % 255 + 1);
    nb_arena_free(&a);
}

static void test_arena(void **state)
{
    (void)state;
    nb_arena a;
    for (int round = 0; round < 3; round++)
        fill_arena();
    a = (nb_arena){.limit = 1000};
    assert_non_null(nb_arena_alloc(&a, 600, 1));
    assert_null(nb_arena_alloc(&a, 401, 1));
    assert_non_null(nb_arena_alloc(&a, 400, 1));
    assert_null(nb_arena_array(&a, SIZE_MAX / 2, 3));
    nb_arena_free(&a);
}

static void test_pages(void **state)
{
    (void)state;
    size_t bytes = 5u << 20;
    unsigned char *p = nb_pages_alloc(bytes);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_true(p[0] == 0 && p[bytes - 1] == 0);
    p[bytes - 1] = 1;
    nb_pages_free(p, bytes);
    assert_null(nb_pages_alloc(SIZE_MAX / 2));
}

static void test_errors(void **state)
{
    (void)state;
    nb_error err;
    assert_int_equal(nb_fail(&err, NB_ERR_FORMAT, "byte %d", 7), NB_ERR_FORMAT);
    assert_int_equal(nb_fail_prefix(&err, NB_ERR_IO, "file %s", "x"), NB_ERR_IO);
    assert_string_equal(err.message, "file x: byte 7");
    assert_int_equal(err.code, NB_ERR_IO);
    char longest[3000];
    memset(longest, 'y', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    nb_fail(&err, NB_ERR_LIMIT, "%s", longest);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    nb_fail_prefix(&err, NB_ERR_LIMIT, "%s", longest);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_int_equal(nb_fail(NULL, NB_ERR_MEMORY, "nobody listens"), NB_ERR_MEMORY);
    assert_int_equal(nb_fail_memory(&err, "a cache", 12), NB_ERR_MEMORY);
    assert_non_null(strstr(err.message, "12 bytes"));
}

static void test_json(void **state)
{
    (void)state;
    nb_buf b = {0};
    nb_json j = nb_json_begin(&b, false);
    nb_json_open(&j, '{');
    nb_json_key(&j, "list");
    nb_json_open(&j, '[');
    nb_json_int(&j, INT64_MIN);
    nb_json_uint(&j, UINT64_MAX);
    nb_json_num(&j, 0.1);
    nb_json_f32(&j, 0.1f);
    nb_json_num(&j, (double)NAN);
    nb_json_num(&j, (double)-INFINITY);
    nb_json_bool(&j, true);
    nb_json_null(&j);
    nb_json_close(&j, ']');
    nb_json_key(&j, "none");
    nb_json_open(&j, '{');
    nb_json_close(&j, '}');
    nb_json_key(&j, "text");
    nb_json_str(&j, NB_STR("\"\\\n\t\r\x01\0\xc3\xa9 \xff \xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x82"));
    nb_json_close(&j, '}');
    assert_false(b.failed);
    assert_string_equal(b.data,
                        "{\"list\":[-9223372036854775808,18446744073709551615,0.1,0.1,null,null,true,null],\"none\":{},"
                        "\"text\":\"\\\"\\\\\\n\\t\\r\\u0001\\u0000\xc3\xa9 "
                        "\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd "
                        "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\"}");
    nb_buf_clear(&b);
    j = nb_json_begin(&b, true);
    nb_json_open(&j, '{');
    nb_json_key(&j, "a");
    nb_json_open(&j, '[');
    nb_json_int(&j, 1);
    nb_json_int(&j, 2);
    nb_json_close(&j, ']');
    nb_json_close(&j, '}');
    assert_string_equal(b.data, "{\n  \"a\": [\n    1,\n    2\n  ]\n}");
    nb_buf_clear(&b);
    j = nb_json_begin(&b, false);
    j.html = true; /* what Go's json.Marshal gives */
    nb_json_str(&j, NB_STR("<a>&\b\f\xe2\x80\xa8\xe2\x80\xa9\xff\x7f\xe2\x80\xa7\0'"));
    assert_string_equal(b.data, "\"\\u003ca\\u003e\\u0026\\b\\f\\u2028\\u2029\xef\xbf\xbd\x7f\xe2\x80\xa7\\u0000'\"");
    nb_buf_free(&b);
}

static void test_shortest_numbers(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } known[] = {{0.1, "0.1"},       {1.0 / 3, "0.3333333333333333"},
                 {1e21, "1e+21"},    {-0.0, "-0"},
                 {5e-324, "5e-324"}, {1.7976931348623157e308, "1.7976931348623157e+308"},
                 {100, "1e+02"},     {123456789, "123456789"}};
    char text[32];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        nb_format_double(known[i].value, text);
        assert_true(strtod(text, NULL) == known[i].value);
        assert_true(strlen(text) <= strlen(known[i].text));
    }
    nb_format_double(0.1, text);
    assert_string_equal(text, "0.1");
    nb_format_double(1.0 / 3, text);
    assert_string_equal(text, "0.3333333333333333");
    nb_format_float(16777216.0f / 3, text);
    assert_string_equal(text, "5592405.5");
    uint32_t bits = 1;
    for (int i = 0; i < 20000; i++) {
        bits = bits * 1664525u + 1013904223u;
        float value;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        nb_format_float(value, text);
        assert_true(strtof(text, NULL) == value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checked_sizes),
        cmocka_unit_test(test_buffer_grows_and_stays_terminated),
        cmocka_unit_test(test_buffer_remembers_a_failure),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_shortest_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
