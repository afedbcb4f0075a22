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
#include "support/templates.h"

static ts_server server;
static char made[5][400]; /* models */

/* name.gguf as the tiny model with what `put` writes */
static inline bool make_model(char path[400], const char *name, void (*put)(nb_gguf_writer *w, const void *user))
{
    static const char tiny[] = NB_TEST_DATA "/archs/llama-2-mha.gguf";
    nb_error err = {0};
    snprintf(path, 400, "%s", nb_folder_path(name));
    if (gguf_edit_write(tiny, path, put, tiny, &err) == NB_OK)
        return true;
    fprintf(stderr, "%s\n", err.message);
    return false;
}

static inline int open_server(void **state)
{
    if (nb_folder_make(state) != 0 || !make_model(made[0], "tiny.gguf", put_tools_template) ||
        !make_model(made[1], "thinker.gguf", put_thinking_template) ||
        !make_model(made[2], "infill.gguf", put_infill_by_name) ||
        !make_model(made[3], "infill-keys.gguf", put_infill_by_key) ||
        !make_model(made[4], "lister.gguf", put_bare_tools_template))
        return -1;
    const char *const files[] = {made[0],
                                 made[1],
                                 made[2],
                                 made[3],
                                 made[4],
                                 NB_TEST_DATA "/archs/bert.gguf",
                                 NB_TEST_DATA "/hf/xlm-roberta-ranker"};
    nb_http_params p = {0};
    ts_start(&server, files, 7, &p, NULL);
    return 0;
}

static inline int close_server(void **state)
{
    ts_stop(&server);
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        remove(made[i]);
    return nb_folder_remove(state);
}

/* ---- asking ---- */

static inline json_t *post(const char *path, int status, const char *body)
{
    hc_reply r = hc_post(server.port, path, body);
    json_t *root = json_loadb(r.body, r.bytes, JSON_ALLOW_NUL, NULL);
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

/* The events of a stream as an array: each "event:" line has the name that its data's type has. */
static inline json_t *post_events(const char *path, const char *body)
{
    char line[40000], name[100] = "";
    hc_connection c;
    json_t *events = json_array();
    assert_true(hc_open(&c, server.port, "POST", path, NULL, body));
    assert_int_equal(c.status, 200);
    while (hc_line(&c, line, sizeof line)) {
        if (strncmp(line, "event: ", 7) == 0) {
            snprintf(name, sizeof name, "%.90s", line + 7);
        } else if (line[0]) {
            assert_memory_equal(line, "data: ", 6);
            json_t *event = json_loads(line + 6, JSON_ALLOW_NUL, NULL);
            assert_non_null(event);
            assert_string_equal(text_at(event, "type"), name);
            json_array_append_new(events, event);
        }
    }
    assert_true(c.whole);
    hc_hang_up(&c);
    return events;
}

#endif
