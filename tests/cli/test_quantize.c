/* nibble quantize: what it prints, how it ends; the memory that a file of 2 GB takes; what a kill leaves. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "format/gguf_write.h"
#include "num/half.h"
#include "support/command.h"
#include "support/folder.h"
#include "support/sanitized.h"

#define SOURCE NB_TEST_DATA "/convert/source.gguf"

static nb_error err;

static char *run(int expected, const char *format, ...)
{
    char arguments[1024], command[1400];
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    snprintf(command, sizeof command, "cd '%s' && '%s' %s 2>&1", nb_folder, NB_TEST_BINARY, arguments);
    return run_command(command, arguments, expected);
}

static void remove_file(const char *name)
{
    if (unlink(nb_folder_path(name)) != 0)
        fail_msg("%s is not there", name);
}

static void prints(void **state)
{
    (void)state;
    const char *text = run(0, "quantize '%s' out.gguf q8_0", SOURCE);
    expect(text, "\nfile            out.gguf\n");
    expect(text, "\ntensors         9.98 kB -> 4.15 kB, 10.380 bits a weight\nchanged         3 tensors\n");
    struct stat st;
    char size[64];
    assert_int_equal(stat(nb_folder_path("out.gguf"), &st), 0);
    snprintf(size, sizeof size, "\nfile size       %lld bytes\n", (long long)st.st_size);
    expect(text, size);
    text = run(0, "quantize --dry-run '%s' Q8_0", SOURCE); /* the exact size, and nothing is written */
    expect(text, size);
    expect(text, "blk.0.attn_q.weight                      256 x 4              F16 -> Q8_0\n");
    expect(text, "blk.0.attn_norm.weight                   256                  F32\n");
    text = run(0, "quantize --dry-run '%s' Q4_K_M --tensor-type 'attn_.*=q6_k' --embedding-type bf16", SOURCE);
    expect(text, "attn_q.weight                      256 x 4              F16 -> Q6_K\n");
    expect(text, "token_embd.weight                        256 x 6              F32 -> BF16\n");
    expect(text, "ffn_down_exps.weight               64 x 3 x 2           BF16 -> Q8_0\n"); /* for Q6_K: 64 columns */
    expect(text, "fallbacks       1 tensors");
    text = run(0, "quantize --dry-run '%s' IQ2_XS", SOURCE);
    expect(text, "need an importance matrix");
    expect(run(0, "inspect out.gguf"), "Q8_0");
    remove_file("out.gguf");
}

static void names_its_output(void **state)
{
    (void)state;
    run(0, "quantize '%s' m.gguf copy", SOURCE);
    expect(run(0, "quantize m.gguf Q4_0"), "file            m-Q4_0.gguf\n");
    run(0, "quantize m.gguf --split-max-size 4k");
    remove_file("m-00001-of-00003.gguf");
    remove_file("m-00002-of-00003.gguf");
    remove_file("m-00003-of-00003.gguf");
    run(0, "quantize m.gguf s.gguf --split-max-size 4k");
    expect(run(1, "quantize --merge-shards s-00001-of-00003.gguf s-00001-of-00003.gguf"), "is what is read");
    run(0, "quantize --merge-shards s-00001-of-00003.gguf");
    run(0, "quantize s-00001-of-00003.gguf t.gguf Q8_0 --keep-split");
    char same[512];
    snprintf(same, sizeof same, "cd '%s' && cmp m.gguf s.gguf", nb_folder);
    assert_int_equal(system(same), 0);
    static const char *const made[] = {"m.gguf",
                                       "m-Q4_0.gguf",
                                       "s.gguf",
                                       "s-00001-of-00003.gguf",
                                       "s-00002-of-00003.gguf",
                                       "s-00003-of-00003.gguf",
                                       "t-00001-of-00003.gguf",
                                       "t-00002-of-00003.gguf",
                                       "t-00003-of-00003.gguf"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        remove_file(made[i]);
}

static void usage(void **state)
{
    (void)state;
    static const struct {
        const char *arguments, *part;
    } rows[] = {
        {"quantize", "give a model"},
        {"quantize a.gguf", "give a model"},
        {"quantize a.gguf b.gguf Q4_KM", "did you mean Q4_K_M?"},
        {"quantize a.gguf b.gguf zzzzzzzzzzzz", "there are: Q1_0 Q2_0 Q4_0"},
        {"quantize a.gguf b.gguf c.gguf Q4_0", "give a model"},
        {"quantize a.gguf b.gguf Q4_0 --rounding up", "there are feedback, search and nearest"},
        {"quantize a.gguf b.gguf Q4_0 --tensor-type attn_q", "give REGEX=TYPE"},
        {"quantize a.gguf b.gguf Q4_0 --tensor-type attn_q=q99", "no such tensor type"},
        {"quantize a.gguf b.gguf Q4_0 --output-type Q4_K_M", "no such tensor type"},
        {"quantize a.gguf b.gguf Q4_0 --split-max-size 0", "give a size"},
        {"quantize a.gguf b.gguf Q4_0 --split-max-size 5Q", "give a size"},
        {"quantize a.gguf b.gguf Q4_0 --keep-split --merge-shards", "exclude each other"},
        {"quantize a.gguf b.gguf Q4_0 -t 1000", "give 1 to 256"},
        {"quantize a.gguf b.gguf --size 1M --bpw 4", "exclude each other"},
        {"quantize a.gguf b.gguf --size all", "give a size such as 500M"},
        {"quantize a.gguf b.gguf --bpw 4bit", "give bits a weight"},
        {"quantize a.gguf b.gguf --kld -1 --text t", "give a mean KL divergence"},
        {"quantize a.gguf b.gguf --kld 0.1", "give --text FILE"},
        {"quantize a.gguf b.gguf --kld 0.1 --text t --chunks 1", "one of which is held back"},
        {"quantize a.gguf b.gguf Q4_0 --text t", "go with --size, --bpw or --kld"},
        {"quantize a.gguf b.gguf Q4_0 --size 1M", "no type"},
        {"quantize a.gguf b.gguf --size 1M --pure", "nothing to choose"},
        {"inspect a.gguf --set a=b", "go together"},
        {"inspect a.gguf -o b.gguf", "go together"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect(run(2, "%s", rows[i].arguments), rows[i].part);
    expect(run(1, "quantize none.gguf b.gguf Q4_0"), "none.gguf: cannot open");
}

static double number_after(const char *text, const char *label)
{
    expect(text, label);
    return strtod(strstr(text, label) + strlen(label), NULL);
}

/* What is printed is what was asked for, and what `nibble eval` finds of the file. */
static void takes_budgets(void **state)
{
    (void)state;
    struct stat st;
    const char *model = "'" NB_TEST_DATA "/archs/qwen2.gguf'",
               *with = "--text '" NB_TEST_DATA "/measure/text.txt' -c 32";
    const char *text = run(0, "quantize %s size.gguf --size 150k", model);
    expect(text, "expected KL ");
    expect(text, "sensitivities from the table");
    assert_int_equal(stat(nb_folder_path("size.gguf"), &st), 0);
    assert_in_range(st.st_size, 148500, 150000);
    remove_file("size.gguf");
    text = run(0, "quantize %s --dry-run --bpw 6 %s --tensor-type attn_v=f16", model, with);
    expect(text, "blk.1.attn_v.weight                      64 x 32              F32 -> F16\n");
    expect(text, "\n  ffn_down ");
    expect(text, "sensitivities measured on the text");
    double bits = number_after(text, " kB, ");
    assert_true(bits <= 6 && bits >= 5.94);
    text = run(0, "quantize %s kl.gguf --kld 0.05 --chunks 12 %s", model, with);
    double found = number_after(text, "\nKL divergence   ");
    assert_true(found <= 0.05 && found >= 0.045);
    expect(text, " on 10 windows, after ");
    expect(text, " on 2 windows of the last tenth of the text\n");
    double again = number_after(run(0, "eval kl.gguf --base %s --chunks 10 %s", model, with), "\nKL divergence   ");
    assert_true(again > 0.99 * found && again < 1.01 * found);
    remove_file("kl.gguf");
    expect(run(1, "quantize %s no.gguf --size 1k", model), "1000 bytes is out of reach; files of ");
    expect(run(1, "quantize %s no.gguf --kld 1000 --chunks 3 %s", model, with), "is out of reach; the types that fit");
}

static void sets_metadata(void **state)
{
    (void)state;
    run(0,
        "inspect '%s' --set general.name='new=name' --set llama.block_count=7 --set my.flag=true --set my.size=-12 "
        "--set my.rate=0.25 --set my.text=hello --set my.byte=u8:3 -o set.gguf",
        SOURCE);
    static const struct {
        const char *key;
        nb_gguf_kind kind;
        double number;
        const char *text;
    } rows[] = {
        {"general.name", NB_GGUF_STRING, 0, "new=name"},
        {"llama.block_count", NB_GGUF_U32, 7, NULL},
        {"my.flag", NB_GGUF_BOOL, 1, NULL},
        {"my.size", NB_GGUF_I32, -12, NULL},
        {"my.rate", NB_GGUF_F32, 0.25, NULL},
        {"my.text", NB_GGUF_STRING, 0, "hello"},
        {"my.byte", NB_GGUF_U8, 3, NULL},
    };
    nb_gguf *g;
    nb_str value;
    assert_int_equal(nb_gguf_open(nb_folder_path("set.gguf"), &g, &err), NB_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const nb_gguf_value *v = nb_gguf_find(g, rows[i].key);
        assert_non_null(v);
        assert_int_equal(v->kind, rows[i].kind);
        if (rows[i].text) {
            assert_int_equal(nb_gguf_get_str(g, rows[i].key, &value, &err), NB_OK);
            assert_true(nb_str_eqz(value, rows[i].text));
        } else {
            assert_true(nb_gguf_elem_f64(v, 0) == rows[i].number);
        }
    }
    nb_gguf_close(g);
    expect(run(0, "inspect set.gguf --check"), "4 of 4 tensors decoded");
    expect(run(1, "inspect '%s' --set tokenizer.ggml.tokens=a -o other.gguf", SOURCE), "is an array");
    expect(run(1, "inspect '%s' --set llama.block_count=seven -o other.gguf", SOURCE), "not a whole number");
    expect(run(1, "inspect set.gguf --set a=b -o set.gguf"), "is what is read");
    remove_file("set.gguf");
}

/* ---- a large sparse file ---- */

#if NB_TEST_SLOW || defined(NB_SANITIZED)
enum { TENSORS = 1 };
#else
enum { TENSORS = 8 }; /* 2 GiB */
#endif
enum { COLUMNS = 4096, ROWS = 32768, SEED_ROWS = (64 << 20) / (2 * COLUMNS), LIMIT_KIB = 64 << 10 };

/* Every 64 MiB a row has values; all others are holes of the file. */
static void seed_row(size_t tensor, size_t row, float *x)
{
    for (size_t i = 0; i < COLUMNS; i++)
        x[i] = (float)((int)((i + 1) * (tensor * 31 + row + 7) % 15) - 7) /
               8.0f; /* multiples of a step: exact in Q4_0 */
    for (size_t i = 0; i < COLUMNS; i += 32)
        x[i] = -1;
}

static void make_sparse(const char *path)
{
    static float x[COLUMNS];
    static uint16_t half[COLUMNS];
    nb_gguf_writer *w;
    char name[32];
    assert_int_equal(nb_gguf_writer_open(path, 0, &w, &err), NB_OK);
    nb_gguf_put_str(w, "general.architecture", NB_STR("llama"));
    nb_gguf_put_u32(w, "llama.block_count", TENSORS);
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "blk.%d.ffn_up.weight", i);
        nb_gguf_put_tensor(w, nb_str_of(name), nb_type_get(NB_TYPE_F16), 2, (uint64_t[]){COLUMNS, ROWS});
    }
    /* the data is left out, which the writer would not have: its header is taken alone */
    uint64_t bytes = nb_gguf_writer_bytes(w);
    uint64_t start = bytes - (uint64_t)TENSORS * COLUMNS * ROWS * 2;
    assert_int_equal(nb_gguf_writer_begin(w, &err), NB_OK);
    nb_gguf_writer_place(w, 0, 0, half, sizeof half, &err);
    char part[300] = "";
    DIR *d = opendir(nb_folder);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (strstr(e->d_name, "sparse.gguf.part"))
            snprintf(part, sizeof part, "%s/%s", nb_folder, e->d_name);
    closedir(d);
    assert_int_equal(link(part, path), 0);
    nb_gguf_writer_abort(w);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0 && pwrite(fd, "GGUF", 4, 0) == 4 && ftruncate(fd, (off_t)bytes) == 0);
    for (size_t t = 0; t < TENSORS; t++)
        for (size_t r = 0; r < ROWS; r += SEED_ROWS) {
            seed_row(t, r, x);
            nb_f32_to_f16_row(x, half, COLUMNS);
            uint64_t at = start + ((uint64_t)t * ROWS + r) * COLUMNS * 2;
            assert_int_equal(pwrite(fd, half, sizeof half, (off_t)at), sizeof half);
        }
    close(fd);
}

static pid_t start(const char *in, const char *out)
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        dup2(null, 2);
        execl(NB_TEST_BINARY, "nibble", "quantize", in, out, "Q4_0", (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* KiB of anonymous memory now; -1 when the process has none any more */
static long anonymous_kib(pid_t pid)
{
    char path[64], line[128];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        sscanf(line, "RssAnon: %ld", &kib);
    if (f)
        fclose(f);
    return kib;
}

static void check_sparse(const char *path)
{
    static float want[COLUMNS], got[COLUMNS];
    nb_gguf *g;
    if (nb_gguf_open(path, &g, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(nb_gguf_tensor_count(g), TENSORS);
    for (size_t t = 0; t < TENSORS; t++) {
        const nb_gguf_tensor *tensor = nb_gguf_tensor_at(g, t);
        assert_string_equal(tensor->type->name, "Q4_0");
        for (size_t r = 0; r < ROWS; r += SEED_ROWS / 2) {
            memset(want, 0, sizeof want);
            if (r % SEED_ROWS == 0)
                seed_row(t, r, want);
            tensor->type->dequantize((const char *)tensor->data + r * (COLUMNS / 32 * 18), got, COLUMNS);
            for (size_t i = 0; i < COLUMNS; i++)
                assert_true(got[i] == want[i]); /* -0 is a zero */
        }
    }
    nb_gguf_close(g);
}

static void little_memory(void **state)
{
    (void)state;
    char *in = strdup(nb_folder_path("sparse.gguf")), *out = strdup(nb_folder_path("out.gguf"));
    long peak = 0, now;
    int status = 0;
    make_sparse(in);
    pid_t pid = start(in, out);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        now = anonymous_kib(pid);
        peak = now > peak ? now : peak;
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(peak > 0);
#ifndef NB_SANITIZED
    if (peak > LIMIT_KIB)
        fail_msg("%ld KiB of anonymous memory", peak);
#endif
    check_sparse(out);
    unlink(out);
    free(in);
    free(out);
}

/* What is killed on the way leaves nothing under the name, and nothing that opens beside it. */
static void killed(void **state)
{
    (void)state;
    char *in = strdup(nb_folder_path("sparse.gguf")), *out = strdup(nb_folder_path("out.gguf")), path[512];
    int status, left = 0;
    struct stat st;
    nb_gguf *g;
    pid_t pid = start(in, out);
    for (bool begun = false; !begun;) {
        DIR *d = opendir(nb_folder);
        for (struct dirent *e; (e = readdir(d)) != NULL;)
            begun = begun || strstr(e->d_name, ".part-");
        closedir(d);
    }
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(stat(out, &st), -1);
    DIR *d = opendir(nb_folder);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (!strstr(e->d_name, ".part-"))
            continue;
        snprintf(path, sizeof path, "%s/%s", nb_folder, e->d_name);
        assert_int_equal(nb_gguf_open(path, &g, &err), NB_ERR_FORMAT);
        unlink(path);
        left++;
    }
    closedir(d);
    assert_int_equal(left, 1);
    /* Ctrl-C leaves nothing at all */
    pid = start(in, out);
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    kill(pid, SIGINT);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(stat(out, &st), -1);
    unlink(in);
    free(in);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints),        cmocka_unit_test(names_its_output), cmocka_unit_test(usage),
        cmocka_unit_test(sets_metadata), cmocka_unit_test(little_memory),    cmocka_unit_test(killed),
        cmocka_unit_test(takes_budgets),
    };
    return cmocka_run_group_tests(tests, nb_folder_make, nb_folder_remove);
}
