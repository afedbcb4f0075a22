/* The clients that people use (tools/fetch-clients) against `nibble serve`: SmolLM2, tiny models that know tools, thinking and
 * text in the middle, and a model of embeddings. */
/* cmocka.h needs these first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "support/serve.h"

#include "support/cached.h"
#include "support/folder.h"
#include "support/templates.h"

#define TINY NB_TEST_DATA "/archs/llama-2-mha.gguf"

static const struct {
    const char *name;
    void (*put)(nb_gguf_writer *w, const void *user);
} tiny[] = {
    {"tools.gguf", put_tools_template}, {"thinker.gguf", put_thinking_template}, {"infill.gguf", put_infill_by_name}};
enum { TINIES = sizeof tiny / sizeof *tiny };

static serve_process server;
static char python[1024];

static int begin(void **state)
{
    static char paths[TINIES][400], real[1024];
    const char *files[TINIES + 3] = {real};
    nb_error err = {0};
    nb_cached("clients", "bin/python", python);
    nb_cached("models", "smollm2-135m-instruct-q4_1.gguf", real);
    if (access(python, X_OK) != 0 || access(real, R_OK) != 0) {
        fprintf(stderr, "%s or %s is missing: run tools/fetch-clients and tools/fetch-model smollm2-135m\n", python,
                real);
        return -1;
    }
    if (nb_folder_make(state) != 0)
        return -1;
    for (size_t i = 0; i < TINIES; i++) {
        snprintf(paths[i], sizeof paths[i], "%s", nb_folder_path(tiny[i].name));
        if (gguf_edit_write(TINY, paths[i], tiny[i].put, TINY, &err) != NB_OK) {
            fprintf(stderr, "%s\n", err.message);
            return -1;
        }
        files[i + 1] = paths[i];
    }
    files[TINIES + 1] = NB_TEST_DATA "/archs/bert.gguf";
    return serve_start(&server, files) ? 0 : -1;
}

static int end(void **state)
{
    serve_stop(&server);
    for (size_t i = 0; i < TINIES; i++)
        remove(nb_folder_path(tiny[i].name));
    return nb_folder_remove(state);
}

static void run(const char *script, const char *models)
{
    char command[3000];
    snprintf(command, sizeof command, "'%s' -B '%s/../clients/%s' %s smollm2-135m-instruct-q4_1 tools thinker %s",
             python, NB_TEST_DATA, script, server.url, models);
    if (system(command) != 0)
        fail_msg("%s failed", command);
}

static void ollama(void **state)
{
    (void)state;
    run("ollama_client.py", "infill bert");
}

static void openai(void **state)
{
    (void)state;
    run("openai_client.py", "infill bert");
}

static void anthropic(void **state)
{
    (void)state;
    run("anthropic_client.py", "");
}

/* Every command of docs/api.md runs, and its answer has the keys that the page shows. */
static void api_page(void **state)
{
    char command[3000];
    (void)state;
    snprintf(command, sizeof command, "'%s' -B '%s/../clients/api_page.py' %s '%s/../../docs/api.md'", python,
             NB_TEST_DATA, server.url, NB_TEST_DATA);
    if (system(command) != 0)
        fail_msg("%s failed", command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ollama), cmocka_unit_test(openai), cmocka_unit_test(anthropic),
                                       cmocka_unit_test(api_page)};
    return cmocka_run_group_tests(tests, begin, end);
}
