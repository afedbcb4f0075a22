/* The store of tests/data/store, which Python wrote as Ollama does: what lists, details, texts and metadata say of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>

#include "store/library.h"

#define ROOT NB_TEST_DATA "/store"

static json_t *expected;
static nb_library *library;

static int open_all(void **state)
{
    (void)state;
    nb_error err;
    expected = json_load_file(ROOT "/expected.json", 0, NULL);
    if (!expected || nb_library_open(&(nb_library_params){.root = ROOT}, &library, &err) != NB_OK)
        return -1;
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    nb_library_close(library);
    json_decref(expected);
    return 0;
}

static const char *text_of(const json_t *row, const char *key) { return json_string_value(json_object_get(row, key)); }
static long long int_of(const json_t *row, const char *key) { return json_integer_value(json_object_get(row, key)); }

static nb_entry *find(const char *name)
{
    nb_entry *e;
    nb_error err;
    if (nb_library_find(library, nb_str_of(name), &e, &err) != NB_OK)
        fail_msg("%s", err.message);
    return e;
}

static void is(nb_str got, const char *want)
{
    if (!nb_str_eqz(got, want))
        fail_msg("%.*s, not %s", (int)got.n, got.p, want);
}

#define EACH(i, row)                                                                                                   \
    size_t i;                                                                                                          \
    json_t *row;                                                                                                       \
    json_array_foreach(expected, i, row)

static void lists(void **state)
{
    (void)state;
    nb_entry_list *list;
    nb_error err;
    assert_int_equal(nb_library_list(library, &list, &err), NB_OK);
    assert_int_equal(nb_entry_list_count(list), json_array_size(expected));
    assert_int_equal(nb_entry_list_problems(list), 0);
    EACH(i, row)
    {
        int found = 0;
        for (size_t j = 0; j < nb_entry_list_count(list); j++) {
            nb_entry *e = nb_entry_list_at(list, j);
            if (strcmp(nb_entry_text(e), text_of(row, "name")) != 0)
                continue;
            found++;
            assert_string_equal(nb_entry_digest(e), text_of(row, "digest"));
            assert_int_equal(nb_entry_size(e), int_of(row, "size"));
            assert_int_equal(nb_entry_kind_of(e), NB_ENTRY_STORED);
            assert_true(nb_entry_modified(e).tv_sec > 1700000000);
        }
        assert_int_equal(found, 1);
    }
    nb_entry_list_release(list);
}

static void details(void **state)
{
    (void)state;
    EACH(i, row)
    {
        const nb_details *d;
        size_t j;
        json_t *word;
        unsigned bits = 0;
        nb_entry *e = find(text_of(row, "name"));
        assert_int_equal(nb_entry_details(e, &d, NULL), NB_OK);
        is(d->format, text_of(row, "format"));
        is(d->family, text_of(row, "family"));
        is(d->parameter_size, text_of(row, "parameter_size"));
        is(d->quantization_level, text_of(row, "quantization"));
        is(d->parent_model, text_of(row, "parent"));
        assert_int_equal(d->context_length, int_of(row, "context_length"));
        assert_int_equal(d->embedding_length, int_of(row, "embedding_length"));
        assert_int_equal(d->parameters, int_of(row, "parameters"));
        assert_int_equal(d->family_count, json_array_size(json_object_get(row, "families")));
        json_array_foreach(json_object_get(row, "families"), j, word) is(d->families[j], json_string_value(word));
        json_array_foreach(json_object_get(row, "capabilities"), j, word)
        {
            for (int b = 0; b < NB_CAPABILITIES; b++)
                if (strcmp(nb_capability_name(b), json_string_value(word)) == 0)
                    bits |= 1u << b;
        }
        assert_int_equal(d->capabilities, bits);
        nb_entry_release(e);
    }
}

static void texts(void **state)
{
    (void)state;
    EACH(i, row)
    {
        const nb_contents *c;
        size_t j;
        json_t *one;
        bool go;
        nb_str template;
        nb_entry *e = find(text_of(row, "name"));
        assert_int_equal(nb_entry_contents(e, &c, NULL), NB_OK);
        is(c->system, text_of(row, "system"));
        assert_int_equal(c->license_count, json_array_size(json_object_get(row, "license")));
        json_array_foreach(json_object_get(row, "license"), j, one) is(c->licenses[j], json_string_value(one));
        assert_int_equal(c->message_count, json_array_size(json_object_get(row, "messages")));
        json_array_foreach(json_object_get(row, "messages"), j, one)
        {
            is(c->messages[j].role, text_of(one, "role"));
            is(c->messages[j].content, text_of(one, "content"));
        }
        nb_status status = nb_entry_template(e, &template, &go, NULL);
        if (text_of(row, "template")) {
            assert_int_equal(status, NB_OK);
            is(template, text_of(row, "template"));
            assert_int_equal(go, json_is_true(json_object_get(row, "go")));
        } else {
            assert_int_equal(status, NB_ERR_UNSUPPORTED); /* it runs elsewhere */
        }
        nb_entry_release(e);
    }
}

/* with the store's path where the file has ROOT */
static void modelfiles(void **state)
{
    (void)state;
    EACH(i, row)
    {
        nb_buf got = {0}, want = {0};
        nb_entry *e = find(text_of(row, "name"));
        const char *text = text_of(row, "modelfile"), *mark = strstr(text, "{ROOT}");
        assert_int_equal(nb_entry_modelfile(e, &got, NULL), NB_OK);
        nb_buf_add(&want, text, mark ? (size_t)(mark - text) : strlen(text));
        if (mark)
            nb_buf_printf(&want, "%s%s", ROOT, mark + 6);
        assert_string_equal(got.data, want.data);
        nb_buf_clear(&got);
        nb_buf_z(&got, "");
        assert_int_equal(nb_entry_parameters(e, &got, NULL), NB_OK);
        assert_string_equal(got.data, text_of(row, "parameters_text"));
        nb_buf_free(&got);
        nb_buf_free(&want);
        nb_entry_release(e);
    }
}

static void same_json(const nb_buf *got, const json_t *want, bool sorted)
{
    json_t *value = json_loads(got->data, 0, NULL);
    if (!json_equal(value, want))
        fail_msg("%s\nis not\n%s", got->data, json_dumps(want, 0));
    const char *last = "", *key;
    json_t *member;
    if (sorted)
        json_object_foreach(value, key, member)
        {
            assert_true(strcmp(last, key) < 0);
            last = key;
        }
    json_decref(value);
}

static void metadata(void **state)
{
    (void)state;
    EACH(i, row)
    {
        nb_source *s;
        nb_error err = {0};
        nb_entry *e = find(text_of(row, "name"));
        nb_status status = nb_entry_open(e, &s, &err);
        if (json_is_null(json_object_get(row, "model_info"))) {
            assert_int_equal(status, NB_ERR_UNSUPPORTED);
            assert_non_null(strstr(err.message, "example.com"));
        } else {
            static const char *const keys[] = {"model_info", "model_info_verbose"};
            assert_int_equal(status, NB_OK);
            for (int verbose = 0; verbose < 2; verbose++) {
                nb_buf got = {0};
                nb_json j = nb_json_begin(&got, false);
                nb_model_info_write(s, (uint64_t)int_of(row, "parameters"), verbose, &j);
                same_json(&got, json_object_get(row, keys[verbose]), true);
                nb_buf_free(&got);
            }
            nb_buf got = {0};
            nb_json j = nb_json_begin(&got, false);
            nb_tensors_write(s, &j);
            same_json(&got, json_object_get(row, "tensors"), false);
            nb_buf_free(&got);
            nb_source_free(s);
        }
        nb_entry_release(e);
    }
}

static void idle(void *user, nb_str key, bool known) { nb_buf_printf(user, "%.*s %d\n", NB_STR_ARG(key), known); }

static void options(void **state)
{
    (void)state;
    const nb_contents *c;
    nb_error err = {0};
    nb_options o = nb_options_defaults();
    nb_arena arena = {0};
    nb_buf told = {0};
    nb_entry *e = find("tiny");
    assert_int_equal(nb_entry_contents(e, &c, NULL), NB_OK);
    assert_true(o.num_keep == 4 && o.seed == -1 && o.top_k == 40 && o.temperature == 0.8 && o.top_p == 0.9 &&
                o.use_mmap);
    assert_int_equal(nb_options_apply(&o, c->params, c->param_count, &arena, NULL, NULL, NULL), NB_OK);
    assert_true(o.num_ctx == 4096 && o.seed == 1048576 && o.temperature == 0.7 && o.stop_count == 2);
    is(o.stop[0], "<|im_end|>");
    is(o.stop[1], "say \"x\"\n");
    assert_true(o.given >> NB_OPTION_temperature & 1);
    assert_false(o.given >> NB_OPTION_top_k & 1);

    static const char request[] =
        "{\"num_gpu\": 99, \"top_k\": 7.9, \"stop\": [], \"temperature\": null, \"nonsense\": {\"a\": 1}}";
    nb_param *p;
    size_t n;
    assert_int_equal(nb_params_read("options", nb_str_of(request), &arena, &p, &n, &err), NB_OK);
    assert_int_equal(nb_options_apply(&o, p, n, &arena, idle, &told, &err), NB_OK);
    assert_true(o.top_k == 7 && o.stop_count == 0 && o.temperature == 0.7);
    assert_string_equal(told.data, "nonsense 0\nnum_gpu 1\n");

    static const char *const wrong[][2] = {
        {"{\"num_ctx\": \"4096\"}", "option \"num_ctx\" must be of type integer"},
        {"{\"temperature\": true}", "option \"temperature\" must be of type float32"},
        {"{\"use_mmap\": 1}", "option \"use_mmap\" must be of type boolean"},
        {"{\"stop\": \"x\"}", "option \"stop\" must be of type array"},
        {"{\"stop\": [\"x\", 1]}", "option \"stop\" must be of an array of strings"},
        {"{\"top_k\": [1]}", "option \"top_k\" must be of type integer"},
        {"{\"seed\": 1e300}", "does not fit"},
        {"{\"seed\": 1, \"seed\": 2}", "twice"},
        {"[1]", "an object"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        nb_status status = nb_params_read("options", nb_str_of(wrong[i][0]), &arena, &p, &n, &err);
        if (status == NB_OK)
            status = nb_options_apply(&o, p, n, &arena, NULL, NULL, &err);
        assert_int_not_equal(status, NB_OK);
        assert_non_null(strstr(err.message, wrong[i][1]));
    }
    nb_buf_free(&told);
    nb_arena_free(&arena);
    nb_entry_release(e);
}

static void sizes(void **state)
{
    (void)state; /* as Ollama's HumanNumber prints them */
    static const struct {
        uint64_t count;
        const char *text;
    } rows[] = {{0, "0"},
                {999, "999"},
                {1000, "1K"},
                {26214, "26K"},
                {125000000, "125M"},
                {134515008, "134.52M"},
                {500500000, "500.50M"},
                {1000000000, "1B"},
                {2800000000, "2.8B"},
                {1000000001, "1.0B"},
                {1235814432, "1.2B"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[24];
        nb_parameter_size(rows[i].count, text);
        assert_string_equal(text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists),    cmocka_unit_test(details), cmocka_unit_test(texts), cmocka_unit_test(modelfiles),
        cmocka_unit_test(metadata), cmocka_unit_test(options), cmocka_unit_test(sizes)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
