/* Anthropic's routes over a socket: blocks, events, tools, stop reasons, counts and errors. */
#include "support/api_server.h"

#define MESSAGES "/v1/messages"
#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"hello there\"}]"
#define TOOL                                                                                                           \
    "\"tools\":[{\"name\":\"weather\",\"description\":\"x\",\"input_schema\":{\"type\":\"object\",\"properties\":{"    \
    "\"city\":{\"enum\":[\"Paris\",\"Rome\"]}},\"required\":[\"city\"],\"additionalProperties\":false}}]"

/* Puts the events of a stream together as a client does: a message as it comes at once. */
static json_t *assemble(const json_t *events)
{
    json_t *message = NULL, *event, *block = NULL;
    char text[8192] = "";
    size_t i, open = 0;
    json_array_foreach(events, i, event)
    {
        const char *type = text_at(event, "type");
        if (strcmp(type, "message_start") == 0) {
            assert_int_equal(i, 0);
            message = json_deep_copy(at(event, "message"));
        } else if (strcmp(type, "content_block_start") == 0) {
            assert_int_equal(int_at(event, "index"), json_array_size(at(message, "content")));
            assert_int_equal(open++, 0);
            block = json_deep_copy(at(event, "content_block"));
            json_array_append_new(json_object_get(message, "content"), block);
            text[0] = 0;
        } else if (strcmp(type, "content_block_delta") == 0) {
            const char *kind = text_at(event, "delta/type");
            const char *piece = strcmp(kind, "text_delta") == 0         ? text_at(event, "delta/text")
                                : strcmp(kind, "input_json_delta") == 0 ? text_at(event, "delta/partial_json")
                                                                        : text_at(event, "delta/thinking");
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s", piece);
        } else if (strcmp(type, "content_block_stop") == 0) {
            assert_int_equal(open--, 1);
            if (strcmp(text_at(block, "type"), "tool_use") == 0)
                json_object_set_new(block, "input", json_loads(text, 0, NULL));
            else
                json_object_set_new(block, text_at(block, "type"), json_string(text));
        } else if (strcmp(type, "message_delta") == 0) {
            json_object_update(message, json_object_get(event, "delta"));
            json_object_update(json_object_get(message, "usage"), json_object_get(event, "usage"));
        } else {
            assert_string_equal(type, "message_stop");
            assert_int_equal(i + 1, json_array_size(events));
        }
    }
    assert_int_equal(open, 0);
    assert_non_null(message);
    return message;
}

/* Asks twice, with and without a stream: the same content, reason and tokens. Seeds make it so. */
static json_t *ask_of(const char *model, const char *fields)
{
    char body[4000];
    snprintf(body, sizeof body, "{\"model\":\"%s\",%s}", model, fields);
    json_t *whole = post(MESSAGES, 200, body);
    snprintf(body, sizeof body, "{\"model\":\"%s\",\"stream\":true,%s}", model, fields);
    json_t *events = post_events(MESSAGES, body), *message = assemble(events), *event;
    size_t k, pieces = 0;
    json_array_foreach(events, k, event)
        pieces += json_object_get(json_object_get(event, "delta"), "partial_json") != NULL;
    if (strcmp(text_at(message, "stop_reason"), "tool_use") == 0) /* an input comes while it is written */
        assert_true(pieces > 3);
    const json_t *calls = at(whole, "content");
    for (size_t i = 0; i < json_array_size(calls); i++) { /* ids are made anew */
        json_object_del(json_array_get(calls, i), "id");
        json_object_del(json_array_get(at(message, "content"), i), "id");
    }
    assert_true(json_equal(at(whole, "content"), at(message, "content")));
    assert_true(json_equal(at(whole, "stop_reason"), at(message, "stop_reason")));
    assert_true(json_equal(at(whole, "stop_sequence"), at(message, "stop_sequence")));
    assert_int_equal(int_at(whole, "usage/output_tokens"), int_at(message, "usage/output_tokens"));
    assert_int_equal(int_at(whole, "usage/input_tokens") + int_at(whole, "usage/cache_read_input_tokens"),
                     int_at(message, "usage/input_tokens") + int_at(message, "usage/cache_read_input_tokens"));
    json_decref(message);
    json_decref(events);
    return whole;
}

static json_t *ask(const char *fields) { return ask_of("tiny", fields); }

static void thinking(void **state)
{
    (void)state;
    json_t *r = ask_of("thinker", "\"max_tokens\":12,\"temperature\":0,\"thinking\":{\"type\":\"enabled\","
                                  "\"budget_tokens\":1024}," USER);
    assert_int_equal(json_array_size(at(r, "content")), 1);
    assert_string_equal(text_at(r, "content/0/type"), "thinking");
    assert_true(strlen(text_at(r, "content/0/thinking")) > 5);
    assert_string_equal(text_at(r, "content/0/signature"), "");
    json_decref(r);
}

static void texts(void **state)
{
    (void)state;
    json_t *r = ask("\"max_tokens\":12,\"temperature\":0," USER);
    assert_string_equal(text_at(r, "type"), "message");
    assert_string_equal(text_at(r, "role"), "assistant");
    assert_memory_equal(text_at(r, "id"), "msg_", 4);
    assert_int_equal(json_array_size(at(r, "content")), 1);
    assert_string_equal(text_at(r, "content/0/type"), "text");
    assert_true(strlen(text_at(r, "content/0/text")) > 5);
    assert_string_equal(text_at(r, "stop_reason"), "max_tokens");
    assert_true(json_is_null(at(r, "stop_sequence")));
    assert_int_equal(int_at(r, "usage/output_tokens"), 12);
    json_t *count = post("/v1/messages/count_tokens", 200, "{\"model\":\"tiny\"," USER "}");
    assert_true(int_at(count, "input_tokens") > 5);
    assert_int_equal(int_at(count, "input_tokens"),
                     int_at(r, "usage/input_tokens") + int_at(r, "usage/cache_read_input_tokens"));
    json_decref(count);
    json_decref(r);
}

static void stop_sequences(void **state)
{
    (void)state;
    json_t *r = ask("\"max_tokens\":60,\"temperature\":0,\"grammar\":\"root ::= \\\"alpha beta gamma delta\\\"\","
                    "\"stop_sequences\":[\"never\",\" gam\"]," USER);
    assert_string_equal(text_at(r, "content/0/text"), "alpha beta");
    assert_string_equal(text_at(r, "stop_reason"), "stop_sequence");
    assert_string_equal(text_at(r, "stop_sequence"), " gam");
    json_decref(r);
    r = ask("\"max_tokens\":60,\"temperature\":0,\"grammar\":\"root ::= \\\"alpha beta\\\"\"," USER);
    assert_string_equal(text_at(r, "content/0/text"), "alpha beta");
    assert_string_equal(text_at(r, "stop_reason"), "end_turn");
    json_decref(r);
}

static void tools(void **state)
{
    static const char *const choices[] = {"{\"type\":\"any\",\"disable_parallel_tool_use\":true}",
                                          "{\"type\":\"tool\",\"name\":\"weather\"}"};
    char fields[2000];
    (void)state;
    for (int i = 0; i < 2; i++) {
        snprintf(fields, sizeof fields, "\"max_tokens\":100,\"temperature\":0,\"tool_choice\":%s," TOOL "," USER,
                 choices[i]);
        json_t *r = ask(fields);
        assert_int_equal(json_array_size(at(r, "content")), 1);
        assert_string_equal(text_at(r, "content/0/type"), "tool_use");
        assert_string_equal(text_at(r, "content/0/name"), "weather");
        const char *city = text_at(r, "content/0/input/city");
        assert_true(strcmp(city, "Paris") == 0 || strcmp(city, "Rome") == 0);
        assert_string_equal(text_at(r, "stop_reason"), "tool_use");
        json_decref(r);
    }
    /* a call and its result go back in, and a system text in parts: what the model is shown is what it costs */
    json_t *with = post(
        "/v1/messages/count_tokens", 200,
        "{\"model\":\"tiny\",\"system\":[{\"type\":\"text\",\"text\":\"be \"},{\"type\":\"text\",\"text\":"
        "\"brief\"}],\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\","
        "\"content\":[{\"type\":\"text\",\"text\":\"so\"},{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":"
        "\"weather\",\"input\":{\"city\":\"Rome\"}}]},{\"role\":\"user\",\"content\":[{\"type\":"
        "\"tool_result\",\"tool_use_id\":\"t1\",\"content\":[{\"type\":\"text\",\"text\":\"sunny\"}]},{"
        "\"type\":\"text\",\"text\":\"and?\"}]}]}");
    json_t *shown = post("/tokenize", 200,
                         "{\"model\":\"tiny\",\"add_special\":true,\"content\":\"[system]be brief[user]hi"
                         "[assistant]so<tool_call>\\n{\\\"name\\\": \\\"weather\\\", \\\"arguments\\\": {\\\"city\\\": "
                         "\\\"Rome\\\"}}\\n</tool_call>[tool]sunny[user]and?[assistant]\"}");
    assert_int_equal(int_at(with, "input_tokens"), json_array_size(at(shown, "tokens")));
    json_decref(with);
    json_decref(shown);
}

/* Some call has to come, and others may follow it, each with an id of its own and what its schema asks for. This model likes to
 * go on. */
static void several_calls(void **state)
{
    (void)state;
    json_t *r = ask("\"max_tokens\":1500,\"temperature\":0,\"tool_choice\":{\"type\":\"any\"}," TOOL "," USER);
    const json_t *calls = at(r, "content"), *call;
    size_t i, n = json_array_size(calls);
    assert_true(n >= 2 && n <= NB_CALLS_MOST);
    assert_string_equal(text_at(r, "stop_reason"), "tool_use");
    json_array_foreach(calls, i, call)
    {
        assert_string_equal(text_at(call, "type"), "tool_use");
        assert_string_equal(text_at(call, "name"), "weather");
        assert_non_null(strstr("Paris Rome", text_at(call, "input/city")));
    }
    json_decref(r);
}

/* What says that a tool failed reaches the model: the prompt is the one whose result begins so. */
static void failed_tools(void **state)
{
    static const struct {
        const char *result, *shown;
    } cases[] = {{"\"content\":\"no wind\",\"is_error\":true", "Error: no wind"},
                 {"\"content\":[{\"type\":\"text\",\"text\":\"no wind\"}],\"is_error\":true", "Error: no wind"},
                 {"\"is_error\":true", "Error"},
                 {"\"content\":\"no wind\",\"is_error\":false", "no wind"}};
    static const char request[] =
        "{\"model\":\"tiny\",\"max_tokens\":1,\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{"
        "\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"weather\",\"input\":{}}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t1\",%s}]}]}";
    char body[2000], shown[200];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(body, sizeof body, request, cases[i].result);
        json_t *r = post("/v1/messages/count_tokens", 200, body);
        snprintf(shown, sizeof shown, "\"content\":\"%s\"", cases[i].shown);
        snprintf(body, sizeof body, request, shown);
        json_t *same = post("/v1/messages/count_tokens", 200, body);
        assert_int_equal(int_at(r, "input_tokens"), int_at(same, "input_tokens"));
        json_decref(r);
        json_decref(same);
    }
    snprintf(body, sizeof body, request, "\"is_error\":\"yes\"");
    json_decref(post("/v1/messages/count_tokens", 400, body));
}

static void formats(void **state)
{
    (void)state;
    json_t *r = ask("\"max_tokens\":100,\"temperature\":0,\"output_config\":{\"format\":{\"type\":\"json_schema\","
                    "\"schema\":{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[17]}},\"required\":[\"a\"],"
                    "\"additionalProperties\":false}}}," USER);
    json_t *value = json_loads(text_at(r, "content/0/text"), 0, NULL);
    assert_int_equal(int_at(value, "a"), 17);
    json_decref(value);
    json_decref(r);
}

static void errors(void **state)
{
    static const struct {
        int status;
        const char *body, *words;
    } cases[] = {
        {400, "[]", "object"},
        {404, "{\"model\":\"none\",\"max_tokens\":5," USER "}", "none"},
        {400, "{\"model\":\"tiny\"," USER "}", "max_tokens"},
        {400, "{\"model\":\"tiny\",\"max_tokens\":0," USER "}", "max_tokens"},
        {400, "{\"model\":\"tiny\",\"max_tokens\":5}", "messages"},
        {400, "{\"model\":\"tiny\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\"}]}", "content"},
        {400,
         "{\"model\":\"tiny\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}",
         "images"},
        {400, "{\"model\":\"tiny\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":[7]}]}", "type"},
        {400, "{\"model\":\"tiny\",\"max_tokens\":5,\"tools\":[{\"name\":\"x\"}]," USER "}", "input_schema"},
        {400, "{\"model\":\"tiny\",\"max_tokens\":5,\"tool_choice\":{\"type\":\"some\"}," USER "}", "tool_choice"},
        {400, "{\"model\":\"tiny\",\"max_tokens\":5,\"tool_choice\":{\"type\":\"any\"}," USER "}", "tool"},
        {400, "{\"model\":\"tiny\",\"max_tokens\":5,\"stop_sequences\":{}," USER "}", "stop_sequences"},
        {400, "{\"model\":\"tiny\",\"max_tokens\":5,\"thinking\":{\"type\":\"deep\"}," USER "}", "thinking"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *r = post(MESSAGES, cases[i].status, cases[i].body);
        if (!strstr(text_at(r, "error/message"), cases[i].words))
            fail_msg("%s: %s", cases[i].body, text_at(r, "error/message"));
        assert_string_equal(text_at(r, "type"), "error");
        assert_string_equal(text_at(r, "error/type"),
                            cases[i].status == 404 ? "not_found_error" : "invalid_request_error");
        json_decref(r);
    }
}

/* ---- models ---- */

static json_t *list(const char *arguments, int status)
{
    char path[400];
    snprintf(path, sizeof path, "/v1/models%s", arguments);
    hc_reply r = hc_ask(server.port, "GET", path, "anthropic-version: 2023-06-01\r\n", NULL);
    json_t *root = json_loadb(r.body, r.bytes, JSON_ALLOW_NUL, NULL);
    if (r.status != status || !root)
        fail_msg("%s: status %d, %s", path, r.status, r.body);
    hc_free(&r);
    return root;
}

static void models(void **state)
{
    enum { ALL = 7 };
    char next[300] = "", path[300];
    (void)state;
    json_t *all = list("", 200);
    const json_t *data = at(all, "data");
    assert_int_equal(json_array_size(data), ALL);
    assert_true(json_is_false(at(all, "has_more")));
    assert_string_equal(text_at(all, "first_id"), text_at(all, "data/0/id"));
    assert_string_equal(text_at(all, "last_id"), text_at(all, "data/6/id"));
    for (size_t i = 0; i < ALL; i++) {
        const json_t *m = json_array_get(data, i);
        int year, month, day, hour, minute, second, end = 0;
        assert_string_equal(text_at(m, "type"), "model");
        assert_true(strlen(text_at(m, "display_name")) > 3);
        assert_int_equal(sscanf(text_at(m, "created_at"), "%4d-%2d-%2dT%2d:%2d:%2dZ%n", &year, &month, &day, &hour,
                                &minute, &second, &end),
                         6);
        assert_true(end == 20 && year > 2000);
        snprintf(path, sizeof path, "/%s", text_at(m, "id"));
        json_t *one = list(path, 200);
        assert_true(json_equal(one, m));
        json_decref(one);
    }
    for (size_t from = 0; from < ALL; from += 4) { /* pages forwards */
        json_t *page = list(from ? next : "?limit=4", 200);
        assert_int_equal(json_array_size(at(page, "data")), from ? 3 : 4);
        assert_true(json_equal(at(page, "data/0"), json_array_get(data, from)));
        assert_true(json_is_true(at(page, "has_more")) == (from == 0));
        snprintf(next, sizeof next, "?limit=4&after_id=%s", text_at(page, "last_id"));
        json_decref(page);
    }
    json_t *page = list(next, 200); /* behind the last */
    assert_true(json_array_size(at(page, "data")) == 0 && json_is_null(at(page, "first_id")) &&
                json_is_null(at(page, "last_id")) && json_is_false(at(page, "has_more")));
    json_decref(page);
    for (size_t before = 5; before == 5 || before == 1; before -= 4) { /* and backwards */
        snprintf(path, sizeof path, "?limit=4&before_id=%s", text_at(json_array_get(data, before), "id"));
        page = list(path, 200);
        assert_int_equal(json_array_size(at(page, "data")), before == 5 ? 4 : 1);
        assert_true(json_equal(at(page, "data/0"), json_array_get(data, before == 5)));
        assert_true(json_is_true(at(page, "has_more")) == (before == 5));
        json_decref(page);
        if (before == 1)
            break;
    }
    static const char *const bad[] = {"?limit=0", "?limit=1001",      "?limit=x",
                                      "?limit=",  "?after_id=nobody", "?before_id=a&after_id=b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *r = list(bad[i], 400);
        assert_string_equal(text_at(r, "type"), "error");
        assert_string_equal(text_at(r, "error/type"), "invalid_request_error");
        json_decref(r);
    }
    json_t *none = list("/nobody", 404);
    assert_string_equal(text_at(none, "type"), "error");
    assert_string_equal(text_at(none, "error/type"), "not_found_error");
    json_decref(none);
    json_decref(all);
    hc_reply r = hc_get(server.port, "/v1/models"); /* OpenAI's, without that header */
    assert_true(r.status == 200 && strstr(r.body, "\"object\":\"list\""));
    hc_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),  cmocka_unit_test(thinking),      cmocka_unit_test(stop_sequences),
        cmocka_unit_test(tools),  cmocka_unit_test(several_calls), cmocka_unit_test(failed_tools),
        cmocka_unit_test(models), cmocka_unit_test(formats),       cmocka_unit_test(errors)};
    return cmocka_run_group_tests(tests, open_server, close_server);
}
