/* nibble create, cp and rm as a user meets them: what they print, how they end, what they say is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nibble.h"
#include "support/command.h"
#include "support/folder.h"

#define SOURCE NB_TEST_DATA "/archs/llama-2-mha.gguf"

static char folder[260];

static int make(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", temporary_directory());
    return 0;
}

static int clean(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static char *run(int expected, const char *format, ...) NB_PRINTF(2, 3);
static char *run(int expected, const char *format, ...)
{
    char arguments[2000], command[3000];
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    snprintf(command, sizeof command, "cd '%s' && export OLLAMA_MODELS='%s/store' && N='%s' && ( %s ) 2>&1", folder,
             folder, NB_TEST_BINARY, arguments);
    return run_command(command, arguments, expected);
}

static void creates(void **state)
{
    (void)state;
    const char *text = run(0, "printf 'FROM " SOURCE "\\nSYSTEM hi\\n' > Modelfile && $N create mine");
    expect(text, "gathering model components\n");
    expect(text, "copying model: 483 kB/483 kB, ");
    expect(text, "creating new layer sha256:a3f98c747db195438d64722a60ed1fad8024f47371ab3fc6040c6bd77d24c702\n");
    expect(text, "\nwriting manifest\nsuccess\n");
    /* of a pipe; paths are from the Modelfile's folder */
    expect(run(0, "printf 'FROM mine\\nSYSTEM ho' | $N create me/yours:v2 -f -"),
           "using existing layer sha256:a3f98c747db195438d64722a60ed1fad8024f47371ab3fc6040c6bd77d24c702\n");
    run(0, "export N && bash -c '$N create piped -f <(printf \"FROM mine\\nSYSTEM ho\")' && printf 'FROM mine' | $N "
           "create stdin -f "
           "/dev/stdin && printf 'FROM mine' > in && $N create in -f /dev/stdin < in && mkfifo pipe && { cp " SOURCE
           " here.gguf; echo FROM ./here.gguf > pipe & $N create fifo -f pipe; }");
    expect(run(1, "$N create x -f /dev/null"), "/dev/null: ");
    run(0, "mkdir sub && cp " SOURCE " sub/m.gguf && echo 'FROM ./m.gguf' > sub/M && $N create third --file sub/M");
    expect(run(0, "$N create small -f sub/M -q q8_0"), "quantizing BF16 model to Q8_0");
    expect(run(0, "$N create sized -f sub/M --quantize 300k"), "measuring types");
    run(0, "$N create linked -f sub/M --link && test sub/m.gguf -ef store/blobs/sha256-"
           "a3f98c747db195438d64722a60ed1fad8024f47371ab3fc6040c6bd77d24c702");
    /* what Ollama expects to find */
    run(0, "python3 -c 'import json,hashlib\n"
           "m=json.load(open(\"store/manifests/registry.ollama.ai/me/yours/v2\"))\n"
           "for l in [m[\"config\"]]+m[\"layers\"]:\n"
           "    b=open(\"store/blobs/\"+l[\"digest\"].replace(\":\",\"-\"),\"rb\").read()\n"
           "    assert len(b)==l[\"size\"] and \"sha256:\"+hashlib.sha256(b).hexdigest()==l[\"digest\"]\n"
           "assert m[\"layers\"][1][\"mediaType\"]==\"application/vnd.ollama.image.system\"'");
}

/* A reflink is tried; where there is none the file is read once, which is when it is hashed and copied. */
static void reads_a_file_once(void **state)
{
    (void)state;
    run(0, "cp " SOURCE " m.gguf && echo FROM ./m.gguf > M && ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o trace -y -e "
           "trace=ioctl,read,pread64,readv,copy_file_range,sendfile,splice $N create x -f M");
    run(0, "grep -q 'ioctl([0-9]*<.*/store/.nibble/new/[^>]*>, .*FICLONE, [0-9]*)' trace");
    run(0, "test $(grep -v ioctl trace | grep '(.*/m.gguf>' | sed 's/.* = //' | awk '{ n += $1 } END { print n }') "
           "-eq $(stat -c %%s m.gguf)");
}

static void copies_and_removes(void **state)
{
    (void)state;
    run(0, "echo FROM " SOURCE " | $N create a -f -");
    expect(run(0, "$N cp a b/c:d"), "copied 'a' to 'b/c:d'\n");
    expect(run(1, "$N cp nobody x"), "nibble: error: model 'nobody:latest' not found\n");
    expect(run(1, "$N cp a '../x'"), "invalid model name '../x'");
    expect(run(0, "$N rm A"), "deleted 'A'\n");
    run(0, "test -e store/blobs/sha256-a3f98c747db195438d64722a60ed1fad8024f47371ab3fc6040c6bd77d24c702");
    const char *text = run(1, "$N rm a b/c:d");
    expect(text, "nibble: error: model 'a:latest' not found\n");
    expect(text, "deleted 'b/c:d'\n");
    run(0, "test -z \"$(ls store/blobs store/manifests | grep -v :)\"");
}

static void usage(void **state)
{
    (void)state;
    const char *text;
    static const struct {
        int code;
        const char *words, *part;
    } rows[] = {
        {2, "create", "give the name of the new model"},
        {2, "create a b", "give the name of the new model"},
        {1, "create 'a b' -f x", "invalid model name 'a b'"},
        {1, "create x", "Modelfile: cannot open: No such file or directory"},
        {1, "create x -f nowhere", "nowhere: cannot open"},
        {2, "create x --text y", "--text goes with --quantize"},
        {2, "create x --threads 999", "give 1 to 256"},
        {2, "cp a", "give the name of a model and its other name"},
        {2, "rm", "give the names of the models to remove"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect(run(rows[i].code, "$N %s", rows[i].words), rows[i].part);
    expect(run(1, "printf 'FROM x\\nFOO y\\n' > M; $N create x -f M"), "M: (line 2): 'FOO' is no command");
    expect(run(1, "printf 'FROM " SOURCE "\\n' > M; $N create x -f M -q kld=0.1"), "needs the text to measure on");
    expect(run(1, "printf 'FROM " SOURCE "\\n' > M; $N create x -f M -q Q7"), "'Q7' is nothing to quantize to");
    /* a part of one is none */
    expect(run(1, "(echo FROM " SOURCE "; yes LICENSE word) | head -c 17M | $N create x -f -"), "larger than any");
    expect(run(1, "(echo FROM " SOURCE "; yes LICENSE word) | head -c 17M > M; $N create x -f M"), "M: ");
    text = run(1, "echo FROM localhost:1/me/nobody > M; $N create x -f M"); /* nobody listens there */
    expect(text, "localhost:1/me/nobody is not in the store, and pulling it failed: ");
    run(0, "test ! -e store/manifests/registry.ollama.ai");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, clean)
    const struct CMUnitTest tests[] = {TEST(creates), TEST(reads_a_file_once), TEST(copies_and_removes), TEST(usage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
