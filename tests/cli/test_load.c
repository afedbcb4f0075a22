/* --load-in-4bit, --load-in-8bit and convert --to bitsandbytes-...: what is accepted, said and written. */
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

#include "support/command.h"
#include "support/folder.h"

#define PLAIN "'" NB_TEST_DATA "/hf/qwen2'"
#define SAVED "'" NB_TEST_DATA "/bitsandbytes/qwen2-int8'"
#define LOGITS "logits --ids 1,2,3 --out a.npy "

static char *run(int expected, const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "cd '%s' && '%s' %s 2>&1", nb_folder, NB_TEST_BINARY, arguments);
    return run_command(command, arguments, expected);
}

static void remove_file(const char *name) { assert_int_equal(unlink(nb_folder_path(name)), 0); }

static void test_accepted(void **state)
{
    (void)state;
    assert_string_equal(run(0, LOGITS PLAIN " --load-in-4bit --bnb-4bit-quant-type nf4 --bnb-4bit-use-double-quant"),
                        "");
    assert_string_equal(
        run(0, LOGITS PLAIN " --load-in-8bit --llm-int8-threshold 2.5 --llm-int8-skip-modules 'fc1,layers.0'"), "");
    expect(run(0, LOGITS PLAIN " --load-in-4bit --bnb-4bit-compute-dtype bfloat16"),
           "--bnb-4bit-compute-dtype: without effect");
    expect(run(0, LOGITS PLAIN " --load-in-4bit --bnb-4bit-quant-storage uint8"),
           "--bnb-4bit-quant-storage: without effect");
    expect(run(0, LOGITS PLAIN " --load-in-8bit --llm-int8-enable-fp32-cpu-offload"),
           "--llm-int8-enable-fp32-cpu-offload: without effect");
    expect(run(0, LOGITS PLAIN " --load-in-8bit --llm-int8-has-fp16-weight"),
           "--llm-int8-has-fp16-weight: without effect");
    assert_string_equal(run(0, LOGITS "'" NB_TEST_DATA "/archs/qwen2.gguf' --load-in-4bit"), "");
    remove_file("a.npy");
    static const char *const commands[] = {"run -n 4 --seed 1 --raw ", "bench ", "plan ", "embed "};
    for (int i = 0; i < 4; i++) {
        char command[512];
        snprintf(command, sizeof command, "%s" PLAIN " %s --load-in-4bit", commands[i],
                 i == 0 || i == 3 ? "Hello" : "");
        run(0, command);
    }
}

static void test_refused(void **state)
{
    (void)state;
    expect(run(2, LOGITS PLAIN " --load-in-4bit --load-in-8bit"), "exclude each other");
    expect(run(2, LOGITS PLAIN " --bnb-4bit-quant-type nf4"), "say how --load-in-4bit is done");
    expect(run(2, LOGITS PLAIN " --load-in-4bit --llm-int8-threshold 5"), "say how --load-in-8bit is done");
    expect(run(2, LOGITS PLAIN " --load-in-4bit --bnb-4bit-quant-type int4"), "there are fp4 and nf4");
    expect(run(2, LOGITS PLAIN " --load-in-4bit --bnb-4bit-compute-dtype half"), "float32, float16 and bfloat16");
    expect(run(2, LOGITS PLAIN " --load-in-8bit --llm-int8-threshold -2"), "give a number from 0 on");
    expect(run(2, LOGITS PLAIN " --llm-int8-skip-modules a"), "goes with --load-in-8bit");
    expect(run(2, LOGITS PLAIN " --load-in-8bit --llm-int8-skip-modules a,,b"), "a name between the commas");
    expect(run(1, LOGITS PLAIN " --load-in-8bit --llm-int8-skip-modules 'a('"), "the module to skip 'a('");
    expect(run(1, LOGITS SAVED " --load-in-8bit"), "is quantized already; run it without --load-in-4bit");
    expect(run(1, LOGITS "'" NB_TEST_DATA "/archs/qwen2.gguf' --load-in-4bit --bnb-4bit-use-double-quant"),
           "are for directories of Hugging Face");
    expect(run(2, "convert " PLAIN " dir --to gptq"), "there are bitsandbytes-nf4");
    expect(run(2, "convert " PLAIN " dir --to bitsandbytes-nf4 --bnb-4bit-quant-type fp4"), "says already which type");
    expect(run(2, "convert " PLAIN " dir --to bitsandbytes-nf4 --type Q8_0"), "can be F32, F16 or BF16");
    expect(run(1, "convert " SAVED " dir --to bitsandbytes-nf4"), "is quantized already");
    expect(run(1, "convert " PLAIN " dir --to bitsandbytes-nf4 --llm-int8-skip-modules '.*'"), "skip fewer modules");
    assert_int_not_equal(access(nb_folder_path("dir"), F_OK), 0);
}

static void test_written(void **state)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        expect(run(0, i ? "convert " PLAIN " dir --load-in-8bit" : "convert " PLAIN " dir --to bitsandbytes-int8"),
               "dir: 21 linear layers quantized, 80 tensors, ");
        run(0, LOGITS "dir");
        remove_file("a.npy");
        expect(run(0, "convert dir out.gguf"), "loss            2.");
        expect(run(0, "inspect out.gguf"), "Q8_0");
        remove_file("out.gguf");
        for (int f = 0; f < 4; f++) {
            char name[64];
            snprintf(name, sizeof name, "dir/%s", files[f]);
            remove_file(name);
        }
        unlink(nb_folder_path("dir/cases.json"));
        assert_int_equal(rmdir(nb_folder_path("dir")), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_written),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
