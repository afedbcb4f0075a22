/* Conversations through the templates of SmolLM2 and Qwen2.5, as Python's jinja2 renders them, and the interface's
 * own promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* The allocations of the two files and of jansson are counted, and one of them can be made to fail. */
static _Thread_local long allocations, failing = -1; /* of this thread: others may render at the same time */
static bool json_failed; /* it was one of jansson's, whose lexer may then lose a byte or call the text invalid */
static void *counted_calloc(size_t n, size_t size);
static void *counted_realloc(void *p, size_t size);
static void *counted_malloc(size_t size)
{
    json_failed |= allocations == failing;
    return allocations++ == failing ? NULL : malloc(size);
}
static void *counted_calloc(size_t n, size_t size) { return allocations++ == failing ? NULL : calloc(n, size); }
static void *counted_realloc(void *p, size_t size) { return allocations++ == failing ? NULL : realloc(p, size); }
#define calloc counted_calloc
#define realloc counted_realloc
#include "../../src/base/mem.c"
#include "../../src/text/chat.c"
#undef calloc
#undef realloc

#define MESSAGES 16

static nb_str text_of(const json_t *s) { return (nb_str){json_string_value(s), json_string_length(s)}; }

/* A conversation of models.json as the interface takes it; the strings belong to `owned`. */
typedef struct conversation {
    nb_chat_message messages[MESSAGES];
    nb_chat_input input;
    char *owned[MESSAGES + 1];
    size_t owned_count;
} conversation;

static nb_str dumped(conversation *c, const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    assert_non_null(text);
    c->owned[c->owned_count++] = text;
    return nb_str_of(text);
}

static void take(conversation *c, const json_t *variables)
{
    const json_t *messages = json_object_get(variables, "messages"), *message,
                 *tools = json_object_get(variables, "tools");
    size_t i;
    *c = (conversation){0};
    assert_true(json_array_size(messages) <= MESSAGES);
    json_array_foreach(messages, i, message)
    {
        json_t *extra = json_copy((json_t *)(uintptr_t)message);
        json_object_del(extra, "role");
        json_object_del(extra, "content");
        c->messages[i] = (nb_chat_message){.role = text_of(json_object_get(message, "role")),
                                           .content = text_of(json_object_get(message, "content"))};
        if (json_object_size(extra))
            c->messages[i].extra = dumped(c, extra);
        json_decref(extra);
    }
    c->input = (nb_chat_input){
        .messages = c->messages,
        .count = json_array_size(messages),
        .bos_token = text_of(json_object_get(variables, "bos_token")),
        .eos_token = text_of(json_object_get(variables, "eos_token")),
        .add_generation_prompt = json_is_true(json_object_get(variables, "add_generation_prompt"))};
    if (json_is_array(tools))
        c->input.tools = dumped(c, tools);
}

static void release(conversation *c)
{
    for (size_t i = 0; i < c->owned_count; i++)
        free(c->owned[i]);
}

static nb_template *compiled(const char *name)
{
    char path[1024], source[8192];
    snprintf(path, sizeof path, "%s/chat/%s.jinja", NB_TEST_DATA, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(source, 1, sizeof source, f);
    fclose(f);
    assert_in_range(n, 1, sizeof source - 1);
    nb_template *t;
    nb_error err;
    if (nb_template_compile((nb_str){source, n}, &t, &err) != NB_OK)
        fail_msg("%s: %s", name, err.message);
    return t;
}

static json_t *vectors(void)
{
    json_error_t error;
    json_t *rows = json_load_file(NB_TEST_DATA "/chat/models.json", 0, &error);
    if (!rows)
        fail_msg("models.json: %s", error.text);
    return rows;
}

static void real_templates(void **state)
{
    (void)state;
    nb_template *smollm2 = compiled("smollm2"), *qwen = compiled("qwen2.5");
    json_t *rows = vectors(), *row;
    size_t i, wrong = 0, rendered = 0;
    json_array_foreach(rows, i, row)
    {
        bool is_qwen = strcmp(json_string_value(json_array_get(row, 0)), "qwen2.5") == 0;
        const json_t *want = json_array_get(row, 2);
        conversation c;
        nb_buf out = {0};
        nb_error err = {0};
        take(&c, json_array_get(row, 1));
        nb_status status = nb_template_render(is_qwen ? qwen : smollm2, &c.input, &out, &err);
        if (json_is_null(want) ? status == NB_OK : status != NB_OK || !nb_str_eq(nb_buf_view(&out), text_of(want))) {
            wrong++;
            print_error("row %zu: got %s%s\nwanted %s\n", i, err.message, out.data ? out.data : "",
                        json_string_value(want));
        }
        rendered += status == NB_OK;
        nb_buf_free(&out);
        release(&c);
    }
    assert_int_equal(wrong, 0);
    assert_true(rendered >= 70);
    json_decref(rows);
    nb_template_free(smollm2);
    nb_template_free(qwen);
}

/* ---- the interface ---- */

static nb_status render(const char *source, const nb_chat_input *input, nb_buf *out, nb_error *err)
{
    nb_template *t;
    *err = (nb_error){0};
    NB_TRY(nb_template_compile(nb_str_of(source), &t, err));
    nb_status status = nb_template_render(t, input, out, err);
    nb_template_free(t);
    return status;
}

static void renders(const char *source, const nb_chat_input *input, const char *want)
{
    nb_buf out = {0};
    nb_error err;
    if (render(source, input, &out, &err) != NB_OK)
        fail_msg("%s: %s", source, err.message);
    assert_string_equal(nb_buf_view(&out).p, want);
    nb_buf_free(&out);
}

static void refuses(const nb_chat_input *input, nb_status status, const char *message)
{
    nb_buf out = {0};
    nb_error err;
    nb_buf_z(&out, "before");
    assert_int_equal(render("{{ messages }}", input, &out, &err), status);
    if (!strstr(err.message, message))
        fail_msg("'%s' does not say '%s'", err.message, message);
    assert_string_equal(out.data, "before");
    nb_buf_free(&out);
}

static void variables(void **state)
{
    (void)state;
    const nb_chat_message m[] = {{NB_STR("user"), NB_STR("hi"), NB_STR("{\"name\":\"Ann\",\"z\":1,\"a\":2}")}};
    nb_chat_input in = {.messages = m,
                        .count = 1,
                        .bos_token = NB_STR("<s>"),
                        .eos_token = NB_STR("</s>"),
                        .add_generation_prompt = true,
                        .now = 1753000000};
    renders("{{ messages[0] | tojson }}", &in,
            "{\"role\": \"user\", \"content\": \"hi\", \"name\": \"Ann\", \"z\": 1, \"a\": 2}");
    renders("{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ tools }}{{ documents }}", &in,
            "<s></s>TrueNoneNone");
    renders("{{ strftime_now('%Y-%m-%d') }}", &in, "2025-07-20");
    in.variables = NB_STR("{\"enable_thinking\": false, \"bos_token\": \"B\", \"documents\": [1]}");
    renders("{{ enable_thinking }}{{ bos_token }}{{ documents }}", &in, "FalseB[1]");
    in.now = 0;
    renders("{{ strftime_now('%d %b %Y') }}", &in, "01 Jan 1970");
    in.tools = NB_STR("[{\"z\": 1.0, \"a\": 123456789012, \"m\": 0.1}]");
    renders("{{ tools | tojson }}", &in, "[{\"z\": 1.0, \"a\": 123456789012, \"m\": 0.1}]");
}

static void bad_input(void **state)
{
    (void)state;
    nb_chat_message m[] = {{NB_STR("user"), NB_STR("hi"), NB_STR("{\"name\":")}};
    nb_chat_input in = {.messages = m, .count = 1};
    refuses(&in, NB_ERR_FORMAT, "a message's further fields: not valid JSON");
    m[0].extra = NB_STR("[1]");
    refuses(&in, NB_ERR_ARGUMENT, "a message's further fields must be a JSON object");
    m[0].extra = (nb_str){0};
    in.tools = NB_STR("{}");
    refuses(&in, NB_ERR_ARGUMENT, "the tools must be a JSON array");
    in.tools = NB_STR("[\"\xFF\"]");
    refuses(&in, NB_ERR_FORMAT, "the tools: not valid JSON");
    in.tools = (nb_str){0};
    in.variables = NB_STR("1");
    refuses(&in, NB_ERR_ARGUMENT, "the template's variables must be a JSON object");

    nb_template *t = NULL;
    nb_error err;
    nb_str huge = {malloc((size_t)5 << 20), (size_t)5 << 20};
    assert_non_null(huge.p);
    memset((char *)(uintptr_t)huge.p, 'x', huge.n);
    assert_int_equal(nb_template_compile(huge, &t, &err), NB_ERR_LIMIT);
    assert_null(t);
    free((char *)(uintptr_t)huge.p);
    nb_template_free(NULL);
}

static void appends(void **state)
{
    (void)state;
    const nb_chat_message m[] = {{NB_STR("user"), NB_STR("hi"), {0}}};
    const nb_chat_input in = {.messages = m, .count = 1};
    nb_buf out = {0};
    nb_error err;
    nb_buf_z(&out, "a");
    assert_int_equal(render("{{ messages[0].content }}", &in, &out, &err), NB_OK);
    assert_string_equal(out.data, "ahi");
    nb_buf_free(&out);
}

/* ---- one template, several threads ---- */

typedef struct job {
    const nb_template *template;
    const nb_chat_input *input;
    nb_str want;
    int wrong;
} job;

static void *work(void *context)
{
    job *w = context;
    for (int i = 0; i < 50; i++) {
        nb_buf out = {0};
        w->wrong += nb_template_render(w->template, w->input, &out, NULL) != NB_OK ||
                    !nb_str_eq(nb_buf_view(&out), w->want);
        nb_buf_free(&out);
    }
    return NULL;
}

/* The row of models.json with the most tool calls for Qwen. */
static const json_t *longest_row(const json_t *rows)
{
    const json_t *best = NULL, *row;
    size_t i;
    json_array_foreach(rows, i, row) if (!best || json_string_length(json_array_get(row, 2)) >
                                                      json_string_length(json_array_get(best, 2))) best = row;
    return best;
}

static void shared_by_threads(void **state)
{
    (void)state;
    json_t *rows = vectors();
    const json_t *row = longest_row(rows);
    nb_template *t = compiled("qwen2.5");
    conversation c;
    take(&c, json_array_get(row, 1));
    pthread_t threads[4];
    job jobs[4];
    for (int i = 0; i < 4; i++) {
        jobs[i] = (job){t, &c.input, text_of(json_array_get(row, 2)), 0};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].wrong, 0);
    }
    release(&c);
    nb_template_free(t);
    json_decref(rows);
}

/* ---- memory ---- */

/* Compiles and renders; whatever fails is out of memory and leaves nothing behind. */
static nb_status whole_run(nb_str source, const nb_chat_input *input, nb_str want)
{
    nb_template *t = NULL;
    nb_buf out = {0};
    nb_error err = {0};
    nb_status status = nb_template_compile(source, &t, &err);
    if (status == NB_OK)
        status = nb_template_render(t, input, &out, &err);
    nb_template_free(t);
    bool right = status == NB_OK ? nb_str_eq(nb_buf_view(&out), want) : status == NB_ERR_MEMORY && out.len == 0;
    if (!right && !json_failed) {
        print_error("allocation %ld: %s\n%s\n", failing, err.message, out.data ? out.data : "");
        status = NB_ERR_INTERNAL;
    }
    nb_buf_free(&out);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char source[] =
        "{% macro m(a, b=[1, 2]) %}{{ a }}{{ b | map('string') | join('-') }}{% endmacro %}{% set x %}{{ m('q') }}{% "
        "endset %}"
        "{% set ns = namespace(n=0) %}{% for t in tools %}{% set ns.n = ns.n + loop.index %}{{ t | tojson(indent=2) }}"
        "{{ t.function.name.upper() ~ ns.n }}{% endfor %}{{ x }}{{ messages | map(attribute='role') | unique | sort | "
        "list }}"
        "{{ '%s-%5.1f' % ('a', 2) }}{{ '{:>4}'.format(1) }}{{ 'x' * 100000 }}{{ {'a': 1} }}{{ 'a b c'.split() }}"
        "{{ '[1, {\"a\": \"b\"}]' | from_json }}{{ 'x' | indent(2, true) }}{{ html | default('<b>') | e }}";
    json_t *rows = vectors();
    conversation c;
    take(&c, json_array_get(longest_row(rows), 1));
    nb_buf want = {0};
    nb_error err;
    if (render(source, &c.input, &want, &err) != NB_OK)
        fail_msg("%s", err.message);
    json_set_alloc_funcs(counted_malloc, free);
    long n = 0;
    nb_status status;
    do {
        allocations = 0;
        json_failed = false;
        failing = n++;
        status = whole_run(nb_str_of(source), &c.input, nb_buf_view(&want));
        assert_int_not_equal(status, NB_ERR_INTERNAL);
    } while (allocations > failing);
    failing = -1;
    json_set_alloc_funcs(malloc, free);
    assert_int_equal(status, NB_OK);
    assert_true(n > 50);
    nb_buf_free(&want);
    release(&c);
    json_decref(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_templates),    cmocka_unit_test(variables),
        cmocka_unit_test(bad_input),         cmocka_unit_test(appends),
        cmocka_unit_test(shared_by_threads), cmocka_unit_test(every_allocation_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
