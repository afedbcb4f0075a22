/* nibble inspect: the text of a file of gguf-py, its JSON read by another parser, damage and values that are not finite
 * reported. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <jansson.h>

#include "format/gguf_write.h"

#define VECTOR NB_TEST_DATA "/format/gguf-py.gguf"

/* what the command prints on both streams, and how it ends */
static char *run(const char *arguments, int *code)
{
    static char text[65536];
    char command[1024];
    snprintf(command, sizeof command, "'%s' inspect %s 2>&1", NB_TEST_BINARY, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    text[fread(text, 1, sizeof text - 1, pipe)] = '\0';
    int status = pclose(pipe);
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    return text;
}

static void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

static void as_text(void **state)
{
    (void)state;
    int code;
    const char *text = run("--tensors --check '" VECTOR "'", &code);
    assert_int_equal(code, 0);
    expect(text, "GGUF version 3, 1.70 kB, 5 tensors, 21 metadata values\n");
    expect(text, "\n  name            T\xc3\xa4st \xe6\xa8\xa1\xe5\x9e\x8b\n");
    expect(text, "\n  architecture    llama\n  parameters      416\n  bits a weight   13.77\n");
    expect(text, "\n  F16               1          192      384 B     53.6 %              16\n"
                 "  Q8_0              1          192      204 B     28.5 %             8.5\n");
    expect(text, "\n  all               5          416      716 B    100.0 %           13.77\n");
    expect(text, "\n  t.u64                 u64     18446744073709551615\n");
    expect(text, "\n  t.f32                 f32     0.1\n");
    expect(text, "\n  t.empty               string  \"\"\n");
    expect(text, "\n  t.bools               bool[3]  true, false, true\n");
    expect(text, "\n  half                 F16      32 x 3 x 2         384 B           960\n");
    expect(text, "\n  5 of 5 tensors decoded, all values are finite\n");
    assert_null(strchr(text, '\033'));
    for (const char *line = text + strcspn(text, "\n") + 1; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 84); /* 80 columns; the file's name is longer than its columns in bytes */
}

static void as_json(void **state)
{
    (void)state;
    int code;
    json_error_t error;
    char *text = run("--json --tensors --check '" VECTOR "'", &code);
    char *largest = strstr(text, "18446744073709551615");
    assert_non_null(largest);
    memcpy(largest, " 9223372036854775807", 20); /* the most this parser reads */
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (code != 0 || !root)
        fail_msg("exit %d: %s", code, error.text);
    const char *name, *type, *fourth;
    json_int_t parameters, low, columns, decoded;
    double f64, bits;
    int no, unpacked = json_unpack_ex(
                root, &error, 0,
                "{s:s, s:I, s:f, s:{s:{s:s, s:f}, s:{s:b}, s:{s:I}, s:{s:[s,s,s,s]}}, s:[{s:[I]}], s:{s:I}}", "name",
                &name, "parameters", &parameters, "bits_a_weight", &bits, "metadata", "t.f64", "type", &type, "value",
                &f64, "t.no", "value", &no, "t.i64", "value", &low, "t.strings", "first", &fourth, &fourth, &fourth,
                &fourth, "tensors", "shape", &columns, "check", "tensors_decoded", &decoded);
    if (unpacked != 0)
        fail_msg("%s", error.text);
    assert_string_equal(name, "T\xc3\xa4st \xe6\xa8\xa1\xe5\x9e\x8b");
    assert_string_equal(type, "f64");
    assert_string_equal(fourth, "<|end|>");
    assert_true(parameters == 416 && f64 == 0.1 && no == 0 && low == INT64_MIN && columns == 5 && decoded == 5);
    assert_true(bits == 716 * 8.0 / 416);
    json_decref(root);
}

/* a file whose strings try to steer the terminal, and whose weights hold a NaN */
static void bad_values(void **state)
{
    (void)state;
    char path[] = "/tmp/nibble-inspect-XXXXXX", arguments[64];
    int code, fd = mkstemp(path);
    nb_gguf_writer *w;
    nb_error err = {0};
    const uint32_t nan_bits = 0x7fc00000;
    float x[6 * 4] = {0};
    assert_true(fd >= 0);
    close(fd);
    memcpy(&x[4 * 4 + 2], &nan_bits, 4);
    assert_int_equal(nb_gguf_writer_open(path, 0, &w, &err), NB_OK);
    nb_gguf_put_str(w, "general.name", NB_STR("red \033[31m\xc2\x9b\xe2\x80\xae\n\xff end"));
    nb_gguf_put_str(w, "tokenizer.chat_template", NB_STR("{{ a }}\n\t\033]0;title\007{{ b }}"));
    nb_gguf_put_tensor(w, NB_STR("good"), nb_type_get(NB_TYPE_F32), 1, (uint64_t[]){4});
    nb_gguf_put_tensor(w, NB_STR("blk.3.ffn_up.weight"), nb_type_get(NB_TYPE_F32), 2, (uint64_t[]){4, 5});
    assert_int_equal(nb_gguf_writer_data(w, x, 16, &err), NB_OK);
    assert_int_equal(nb_gguf_writer_data(w, x + 4, 80, &err), NB_OK);
    assert_int_equal(nb_gguf_writer_commit(w, &err), NB_OK);
    snprintf(arguments, sizeof arguments, "--check %s", path);
    const char *text = run(arguments, &code);
    assert_int_equal(code, 1);
    expect(text, "\n  blk.3.ffn_up.weight: 1 value is not finite; the first, nan, at row 3, column 2 (byte ");
    expect(text, "\n  2 of 2 tensors decoded\n");
    expect(text, "\n  name            red \\x1b[31m\\xc2\\x9b\\xe2\\x80\\xae\\n\\xff end\n");
    expect(text, "\ntemplate\n  {{ a }}\n  \t\\x1b]0;title\\x07{{ b }}\n");
    snprintf(arguments, sizeof arguments, "--check --json %s", path);
    expect(run(arguments, &code), "\"tensor\": \"blk.3.ffn_up.weight\"");
    assert_int_equal(code, 1);
    snprintf(arguments, sizeof arguments, "%s", path);
    run(arguments, &code);
    assert_int_equal(code, 0);
    unlink(path);
}

static void a_directory(void **state)
{
    (void)state;
    int code;
    const char *text = run("'" NB_TEST_DATA "/hf/arcee-biased' --tensors", &code);
    expect(text, "a directory of Hugging Face, as it runs, ");
    expect(text, "architecture    arcee\n");
    expect(text, "blk.0.attn_q.weight");
    assert_int_equal(code, 0);
}

static void failures(void **state)
{
    (void)state;
    int code;
    expect(run("/dev/zero", &code), "nibble: error: /dev/zero: is a device; give a regular file\n");
    assert_int_equal(code, 1);
    expect(run("'" NB_TEST_DATA "/../cli/test_inspect.c'", &code), "test_inspect.c: byte 0: no 'GGUF' at the start");
    assert_int_equal(code, 1);
    expect(run("", &code), "give a GGUF file or a directory");
    assert_int_equal(code, 2);
    expect(run("a b", &code), "not 2");
    assert_int_equal(code, 2);
    expect(run("--tensor a", &code), "--tensors");
    assert_int_equal(code, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_text),
        cmocka_unit_test(as_json),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(a_directory),
        cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
