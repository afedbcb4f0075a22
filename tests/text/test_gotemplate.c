/* Go templates against what Go's text/template makes of them, with Ollama's data (tests/data/text), and what no template
 * may do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/file.h"
#include "text/gotemplate.h"

enum { NOW = 1753000000 };
#define DATA NB_TEST_DATA "/text/"

static json_t *load(const char *path)
{
    json_error_t error;
    json_t *json = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (!json)
        fail_msg("%s: %s", path, error.text);
    return json;
}

static nb_str str_of(const json_t *json) { return (nb_str){json_string_value(json), json_string_length(json)}; }

static json_t *key(const json_t *object, const char *name) { return json_object_get(object, name); }

/* ---- the language ---- */

/* "parse LINE" or "run LINE", as the vectors name an error */
static void kind_of(const char *when, const nb_error *err, char kind[64])
{
    unsigned line = 0;
    sscanf(err->message, "template line %u", &line);
    snprintf(kind, 64, "%s %u", when, line);
}

static nb_status render_data(nb_str source, nb_str data, nb_buf *out, char kind[64], nb_error *err)
{
    nb_gotemplate *t;
    *err = (nb_error){0};
    nb_status status = nb_gotemplate_compile(source, &t, err);
    if (status != NB_OK) {
        kind_of("parse", err, kind);
        return status;
    }
    status = nb_gotemplate_render_data(t, data, NOW, out, err);
    kind_of("run", err, kind);
    nb_gotemplate_free(t);
    return status;
}

/* One [template, text] or [template, null, kind of error, Go's words]; says what differs. */
static int case_differs(const json_t *row, nb_str data)
{
    const json_t *want = json_array_get(row, 1);
    nb_str source = str_of(json_array_get(row, 0));
    nb_buf out = {0};
    nb_error err;
    char kind[64];
    bool failed = render_data(source, data, &out, kind, &err) != NB_OK, wrong;
    if (json_is_null(want))
        wrong = !failed || strcmp(kind, json_string_value(json_array_get(row, 2))) != 0 || out.len;
    else
        wrong = failed || !nb_str_eq(nb_buf_view(&out), str_of(want));
    if (wrong)
        print_error("%.*s\n  wanted %s %s\n  got    %.*s %s\n", NB_STR_ARG(source),
                    json_is_null(want) ? json_string_value(json_array_get(row, 2)) : json_string_value(want),
                    json_is_null(want) ? json_string_value(json_array_get(row, 3)) : "", NB_STR_ARG(nb_buf_view(&out)),
                    failed ? err.message : "");
    nb_buf_free(&out);
    return wrong;
}

static void language(void **state)
{
    (void)state;
    json_t *file = load(DATA "gotemplate_language.json"), *row;
    size_t i, wrong = 0;
    json_array_foreach(key(file, "cases"), i, row) { wrong += (size_t)case_differs(row, str_of(key(file, "data"))); }
    assert_int_equal(wrong, 0);
    assert_true(i >= 1350);
    json_decref(file);
}

/* ---- conversations ---- */

typedef struct conversation {
    nb_gotemplate_input input;
    nb_chat_message messages[16];
    char *texts[17]; /* JSON that the input points to */
    size_t text_count;
} conversation;

static nb_str json_text(conversation *c, const json_t *json)
{
    return json ? nb_str_of(c->texts[c->text_count++] = json_dumps(json, JSON_ENCODE_ANY)) : NB_STR("");
}

static void read_conversation(const json_t *json, conversation *c)
{
    const json_t *think = key(json, "think"), *m;
    size_t i;
    *c = (conversation){.input = {.prompt = str_of(key(json, "prompt")),
                                  .suffix = str_of(key(json, "suffix")),
                                  .think = json_is_true(think),
                                  .think_set = think != NULL,
                                  .think_level = str_of(key(json, "think_level")),
                                  .now = NOW}};
    c->input.tools = json_text(c, key(json, "tools"));
    json_array_foreach(key(json, "messages"), i, m)
    {
        assert_true(i < 16);
        c->messages[i] = (nb_chat_message){str_of(key(m, "role")), str_of(key(m, "content")), json_text(c, m)};
        c->input.count = i + 1;
    }
    c->input.messages = c->messages;
}

static void free_conversation(conversation *c)
{
    while (c->text_count)
        free(c->texts[--c->text_count]);
}

/* as the vectors have long outputs: "LENGTH DIGEST", FNV-1a of 64 bits */
static void digest(nb_str s, char text[64])
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 0x100000001b3u;
    snprintf(text, 64, "%zu %016llx", s.n, (unsigned long long)h);
}

static size_t output_differs(const nb_gotemplate *t, const char *name, const char *what, const json_t *json,
                             const json_t *want, bool digested)
{
    conversation c;
    nb_buf out = {0};
    nb_error err = {0};
    char text[64];
    read_conversation(json, &c);
    nb_status status = nb_gotemplate_render(t, &c.input, &out, &err);
    free_conversation(&c);
    nb_str got = nb_buf_view(&out);
    digest(got, text);
    if (digested)
        got = nb_str_of(text);
    bool wrong = json_is_null(want) ? status == NB_OK : status != NB_OK || !nb_str_eq(got, str_of(want));
    if (wrong)
        print_error("%s, %s:\n  wanted %s\n  got    %.*s %s\n", name, what,
                    json_is_null(want) ? "an error" : json_string_value(want), NB_STR_ARG(nb_buf_view(&out)),
                    err.message);
    nb_buf_free(&out);
    return wrong;
}

static size_t names_differ(const nb_gotemplate *t, const char *name, const json_t *want)
{
    static const char *const names[] = {"messages", "response", "suffix", "system", "thinking", "toolcalls", "tools"};
    const json_t *used = key(want, "uses"), *entry;
    size_t wrong = 0, i;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        bool expected = false;
        json_array_foreach(used, i, entry) expected |= strcmp(json_string_value(entry), names[n]) == 0;
        if (nb_gotemplate_uses(t, names[n]) != expected)
            wrong++, print_error("%s: uses %s? wanted %d\n", name, names[n], expected);
    }
    return wrong;
}

static size_t tags_differ(const nb_gotemplate *t, const char *name, const json_t *want)
{
    const json_t *tags = key(want, "thinking");
    nb_str prefix = nb_gotemplate_tool_prefix(t), wanted = str_of(key(want, "tool_prefix"));
    nb_str open, close, first = str_of(json_array_get(tags, 0)), last = str_of(json_array_get(tags, 1));
    bool both = nb_gotemplate_thinking_tags(t, &open, &close);
    bool wrong = !nb_str_eq(prefix, wanted) || !nb_str_eq(open, first) || !nb_str_eq(close, last) ||
                 both != (first.n && last.n);
    if (wrong)
        print_error("%s: wanted prefix '%.*s', tags '%.*s' '%.*s', got '%.*s', '%.*s' '%.*s'\n", name,
                    NB_STR_ARG(wanted), NB_STR_ARG(first), NB_STR_ARG(last), NB_STR_ARG(prefix), NB_STR_ARG(open),
                    NB_STR_ARG(close));
    return wrong;
}

static size_t answers_differ(const char *name, nb_str source, bool file, const json_t *conversations,
                             const json_t *want)
{
    nb_gotemplate *t;
    nb_error err = {0};
    const char *what;
    json_t *json;
    assert_non_null(want);
    if (nb_gotemplate_compile(source, &t, &err) != NB_OK) {
        if (!key(want, "error"))
            print_error("%s: %s\n", name, err.message);
        return !key(want, "error");
    }
    assert_null(key(want, "error"));
    size_t wrong = names_differ(t, name, want) + tags_differ(t, name, want);
    json_object_foreach((json_t *)(uintptr_t)conversations, what, json)
    {
        wrong += output_differs(t, name, what, json, key(key(want, "outputs"), what), file);
    }
    nb_gotemplate_free(t);
    return wrong;
}

static void modelfiles(void **state)
{
    (void)state;
    json_t *in = load(DATA "gotemplate_conversations.json"), *answers = load(DATA "gotemplate_ollama.json"), *want;
    const char *name;
    size_t wrong = 0, count = 0;
    json_object_foreach(answers, name, want)
    {
        char path[1024];
        nb_map map = {0};
        nb_error err = {0};
        nb_str source = str_of(key(key(in, "templates"), name));
        bool file = !source.p;
        snprintf(path, sizeof path, DATA "%s", name);
        if (file && nb_map_open(path, &map, &err) != NB_OK)
            fail_msg("%s", err.message);
        if (file)
            source = (nb_str){(const char *)map.data, map.size};
        wrong += answers_differ(name, source, file, key(in, "conversations"), want);
        if (file)
            nb_map_close(&map);
        count++;
    }
    assert_int_equal(wrong, 0);
    assert_true(count >= 140);
    json_decref(in);
    json_decref(answers);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(language),
        cmocka_unit_test(modelfiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
