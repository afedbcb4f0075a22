/* api_server.h - for tests of the APIs with JSON bodies: one server over a tiny model whose template shows tools, and looks into
 * its replies. */
#ifndef NB_TESTS_API_SERVER_H
#define NB_TESTS_API_SERVER_H

#include "support/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "support/folder.h"
#include "support/gguf_edit.h"

static ts_server server;
static char model_path[400], thinker_path[400];

/* A template that shows tools and calls, as Qwen's does. */
static inline void put_template(nb_gguf_writer *w, const void *user)
{
    (void)user;
    nb_gguf_put_str(w, "tokenizer.chat_template",
                    NB_STR("{% if tools %}T:{% for t in tools %}{{ t.function.name }} {% endfor %}\n{% endif %}"
                           "{% for m in messages %}[{{ m.role }}]{{ m.content or '' }}{% if m.tool_calls %}"
                           "{% for c in m.tool_calls %}<tool_call>\n{\"name\": \"{{ c.function.name }}\", "
                           "\"arguments\": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}{% endif %}\n"
                           "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"));
}

/* Replies of this one begin inside their thinking. */
static inline void put_thinking(nb_gguf_writer *w, const void *user)
{
    (void)user;
    nb_gguf_put_str(w, "tokenizer.chat_template",
                    NB_STR("{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content %}<think>"
                           "{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{% endfor %}"
                           "{% if add_generation_prompt %}[assistant]<think>{% endif %}"));
}

static inline int open_server(void **state)
{
    nb_error err = {0};
    if (nb_folder_make(state) != 0)
        return -1;
    snprintf(model_path, sizeof model_path, "%s", nb_folder_path("tiny.gguf"));
    if (gguf_edit_write(NB_TEST_DATA "/archs/llama-2-mha.gguf", model_path, put_template, NULL, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    snprintf(thinker_path, sizeof thinker_path, "%s", nb_folder_path("thinker.gguf"));
    if (gguf_edit_write(NB_TEST_DATA "/archs/llama-2-mha.gguf", thinker_path, put_thinking, NULL, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    const char *const files[] = {model_path, thinker_path, NB_TEST_DATA "/archs/bert.gguf",
                                 NB_TEST_DATA "/hf/xlm-roberta-ranker"};
    nb_http_params p = {0};
    ts_start(&server, files, 4, &p, NULL);
    return 0;
}

static inline int close_server(void **state)
{
    ts_stop(&server);
    remove(model_path);
    remove(thinker_path);
    return nb_folder_remove(state);
}

/* ---- asking ---- */

static inline json_t *post(const char *path, int status, const char *body)
{
    hc_reply r = hc_post(server.port, path, body);
    json_t *root = json_loadb(r.body, r.bytes, 0, NULL);
    if (r.status != status || !root)
        fail_msg("%s: status %d, %s", body, r.status, r.body);
    hc_free(&r);
    return root;
}

static inline const json_t *at(const json_t *root, const char *path) /* "choices/0/message" */
{
    char copy[200], *save = NULL;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save))
        root = json_is_array(root) ? json_array_get(root, (size_t)atoi(part)) : json_object_get(root, part);
    return root;
}

static inline const char *text_at(const json_t *root, const char *path)
{
    const char *text = json_string_value(at(root, path));
    if (!text)
        fail_msg("no text at %s of %s", path, json_dumps(root, 0));
    return text;
}

static inline long long int_at(const json_t *root, const char *path)
{
    if (!json_is_integer(at(root, path)))
        fail_msg("no number at %s of %s", path, json_dumps(root, 0));
    return json_integer_value(at(root, path));
}

#endif
