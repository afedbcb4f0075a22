/* The reader of *.logits.bin: the models' files read whole, damaged ones are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/logits_file.h"

static const struct {
    const char *path;
    int32_t vocabulary;
} files[] = {
    {NB_TEST_DATA "/archs/llama-2-mha.logits.bin", 640},
    {NB_TEST_DATA "/archs/llama-3.2-rope-scaled.logits.bin", 512},
    {NB_TEST_DATA "/archs/llama-mqa-wide-head.logits.bin", 509},
    {NB_TEST_DATA "/archs/mistral-sliding.logits.bin", 640},
    {NB_TEST_DATA "/archs/qwen2.logits.bin", 512},
    {NB_TEST_DATA "/archs/gemma-3.logits.bin", 640},
};

static void test_files_are_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        nb_logits_file f;
        assert_true(nb_logits_read(files[i].path, &f));
        assert_int_equal(f.sequences, 2);
        assert_int_equal(f.tokens, 48);
        assert_int_equal(f.vocabulary, files[i].vocabulary);
        for (int32_t s = 0; s < f.sequences; s++)
            for (int32_t t = 0; t < f.tokens; t++) {
                assert_in_range(nb_logits_ids(&f, s)[t], 0, f.vocabulary - 1);
                for (int32_t v = 0; v < f.vocabulary; v++) /* also false for NaN */
                    assert_true(nb_logits_at(&f, s, t)[v] > -1000 && nb_logits_at(&f, s, t)[v] < 1000);
            }
        assert_ptr_equal(nb_logits_at(&f, 1, 47) + f.vocabulary, f.logits + (size_t)2 * 48 * (size_t)f.vocabulary);
        nb_logits_free(&f);
    }
}

/* writes a file with the header 1, 2, 3 and `numbers` of the 8 numbers that belong after it */
static bool read_damaged(size_t numbers, int32_t tokens)
{
    char path[] = "/tmp/nibble-logits-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    const int32_t words[16] = {1, tokens, 3, 5, 6};
    FILE *out = fdopen(fd, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(words, sizeof *words, 3 + numbers, out), 3 + numbers);
    fclose(out);
    nb_logits_file f;
    bool ok = nb_logits_read(path, &f);
    if (ok) {
        assert_int_equal(nb_logits_ids(&f, 0)[1], 6);
        nb_logits_free(&f);
    }
    assert_null(f.ids);
    assert_null(f.logits);
    unlink(path);
    return ok;
}

static void test_damaged_files(void **state)
{
    (void)state;
    nb_logits_file f;
    assert_false(nb_logits_read("/nowhere/at/all", &f));
    assert_true(read_damaged(8, 2));
    assert_false(read_damaged(7, 2));
    assert_false(read_damaged(9, 2));
    assert_false(read_damaged(8, -2));
    assert_false(read_damaged(8, 0));
    assert_false(read_damaged(8, INT32_MAX));
}

static void test_nmse(void **state)
{
    (void)state;
    const float want[2] = {3, 4}, got[2] = {3, 3};
    assert_true(nb_nmse(want, want, 2) == 0);
    assert_true(nb_nmse(got, want, 2) == 1.0 / 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_are_whole),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_nmse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
