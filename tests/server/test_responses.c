/* OpenAI's /v1/responses over a socket: items, events and their numbers, what goes back in, and what is refused. */
#include "support/api_server.h"

#define RESPONSES "/v1/responses"
#define TOOL                                                                                                           \
    "\"tools\":[{\"type\":\"function\",\"name\":\"weather\",\"parameters\":{\"type\":\"object\",\"properties\":{"      \
    "\"city\":{\"enum\":[\"Paris\",\"Rome\"]}},\"required\":[\"city\"],\"additionalProperties\":false}}]"

/* The events of a stream, numbered as they come. */
static json_t *stream(const char *body)
{
    json_t *events = post_events(RESPONSES, body);
    const json_t *event;
    size_t i;
    json_array_foreach(events, i, event) assert_int_equal(int_at(event, "sequence_number"), i);
    return events;
}

/* An item without its id, which is made anew. */
static json_t *without_ids(const json_t *output)
{
    json_t *copy = json_deep_copy(output);
    for (size_t i = 0; i < json_array_size(copy); i++) {
        json_object_del(json_array_get(copy, i), "id");
        json_object_del(json_array_get(copy, i), "call_id");
    }
    return copy;
}

/* What the deltas of one output put together say, against what its done event says. */
static void check_deltas(const json_t *events, const char *kind, const char *key)
{
    char text[20000] = "", delta[100], done[100];
    const json_t *event;
    size_t i;
    snprintf(delta, sizeof delta, "response.%s.delta", kind);
    snprintf(done, sizeof done, "response.%s.done", kind);
    json_array_foreach(events, i, event)
    {
        if (strcmp(text_at(event, "type"), delta) == 0)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s", text_at(event, "delta"));
        if (strcmp(text_at(event, "type"), done) == 0) {
            assert_string_equal(text, text_at(event, key));
            text[0] = 0;
        }
    }
    assert_string_equal(text, "");
}

/* Asks twice, with and without a stream: the same output, status and tokens. */
static json_t *ask(const char *fields)
{
    char body[4000];
    snprintf(body, sizeof body, "{\"temperature\":0,%s}", fields);
    json_t *whole = post(RESPONSES, 200, body);
    snprintf(body, sizeof body, "{\"temperature\":0,\"stream\":true,%s}", fields);
    json_t *events = stream(body);
    size_t n = json_array_size(events);
    const json_t *last = json_array_get(events, n - 1);
    assert_string_equal(text_at(json_array_get(events, 0), "type"), "response.created");
    assert_string_equal(text_at(json_array_get(events, 0), "response/status"), "in_progress");
    assert_string_equal(text_at(json_array_get(events, 1), "type"), "response.in_progress");
    assert_string_equal(text_at(last, "response/status"), text_at(whole, "status"));
    assert_string_equal(text_at(last, "type") + strlen("response."), text_at(whole, "status"));
    assert_int_equal(int_at(last, "response/usage/output_tokens"), int_at(whole, "usage/output_tokens"));
    json_t *a = without_ids(at(whole, "output")), *b = without_ids(at(last, "response/output"));
    assert_true(json_equal(a, b));
    json_decref(a);
    json_decref(b);
    check_deltas(events, "output_text", "text");
    check_deltas(events, "reasoning_text", "text");
    check_deltas(events, "function_call_arguments", "arguments");
    json_decref(events);
    return whole;
}

static void texts(void **state)
{
    (void)state;
    json_t *r = ask("\"model\":\"tiny\",\"input\":\"hello there\",\"max_output_tokens\":12");
    json_t *chat = post("/v1/chat/completions", 200,
                        "{\"model\":\"tiny\",\"temperature\":0,\"max_tokens\":12,\"messages\":[{\"role\":\"user\","
                        "\"content\":\"hello there\"}]}");
    assert_string_equal(text_at(r, "object"), "response");
    assert_memory_equal(text_at(r, "id"), "resp_", 5);
    assert_string_equal(text_at(r, "status"), "incomplete");
    assert_string_equal(text_at(r, "incomplete_details/reason"), "max_output_tokens");
    assert_string_equal(text_at(r, "output/0/type"), "message");
    assert_string_equal(text_at(r, "output/0/content/0/type"), "output_text");
    assert_string_equal(text_at(r, "output/0/content/0/text"), text_at(chat, "choices/0/message/content"));
    assert_int_equal(int_at(r, "usage/output_tokens"), 12);
    assert_int_equal(int_at(r, "usage/input_tokens"), int_at(chat, "usage/prompt_tokens"));
    assert_int_equal(int_at(r, "usage/total_tokens"), int_at(r, "usage/input_tokens") + 12);
    json_decref(chat);
    json_decref(r);
    r = ask("\"model\":\"tiny\",\"input\":\"x\",\"grammar\":\"root ::= \\\"all of it\\\"\",\"metadata\":{\"a\":\"b\"}");
    assert_string_equal(text_at(r, "status"), "completed");
    assert_true(json_is_null(at(r, "incomplete_details")));
    assert_string_equal(text_at(r, "output/0/content/0/text"), "all of it");
    assert_string_equal(text_at(r, "metadata/a"), "b");
    json_decref(r);
    r = ask(
        "\"model\":\"tiny\",\"input\":\"x\",\"max_output_tokens\":200,\"text\":{\"format\":{\"type\":\"json_schema\","
        "\"name\":\"x\",\"schema\":{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[17]}},\"required\":[\"a\"],"
        "\"additionalProperties\":false}}}");
    json_t *value = json_loads(text_at(r, "output/0/content/0/text"), 0, NULL);
    assert_int_equal(int_at(value, "a"), 17);
    json_decref(value);
    json_decref(r);
    r = ask("\"model\":\"tiny\",\"input\":\"x\",\"max_output_tokens\":4,\"include\":[\"message.output_text.logprobs\"],"
            "\"top_logprobs\":2");
    assert_true(json_array_size(at(r, "output/0/content/0/logprobs")) >= 3);
    assert_int_equal(json_array_size(at(r, "output/0/content/0/logprobs/0/top_logprobs")), 2);
    json_decref(r);
}

static int count_type(const json_t *events, const char *type)
{
    const json_t *event;
    size_t i;
    int n = 0;
    json_array_foreach(events, i, event) n += strcmp(text_at(event, "type"), type) == 0;
    return n;
}

/* Arguments come while they are written; a call that is cut off is an item that is not complete. */
static void streamed_calls(void **state)
{
    static const char fields[] =
        "{\"model\":\"tiny\",\"input\":\"x\",\"temperature\":0,\"stream\":true,\"max_output_tokens\":"
        "%d,\"grammar\":\"root ::= \\\"{\\\\\\\"name\\\\\\\":\\\\\\\"weather\\\\\\\",\\\\\\\"arguments\\\\\\\":"
        "{\\\\\\\"city\\\\\\\":\\\\\\\"a long name of a city\\\\\\\"}}\\\"\"," TOOL "}";
    char body[2000];
    (void)state;
    snprintf(body, sizeof body, fields, 200);
    json_t *events = stream(body);
    const json_t *last = json_array_get(events, json_array_size(events) - 1);
    assert_true(count_type(events, "response.function_call_arguments.delta") > 4);
    assert_int_equal(count_type(events, "response.function_call_arguments.done"), 1);
    check_deltas(events, "function_call_arguments", "arguments");
    assert_string_equal(text_at(last, "response/output/0/arguments"), "{\"city\":\"a long name of a city\"}");
    assert_string_equal(text_at(last, "response/output/0/status"), "completed");
    json_decref(events);
    snprintf(body, sizeof body, fields, 40);
    events = stream(body);
    last = json_array_get(events, json_array_size(events) - 1);
    check_deltas(events, "function_call_arguments", "arguments");
    assert_int_equal(json_array_size(at(last, "response/output")), 1);
    assert_string_equal(text_at(last, "response/output/0/type"), "function_call");
    assert_string_equal(text_at(last, "response/output/0/status"), "incomplete");
    assert_memory_equal(text_at(last, "response/output/0/arguments"), "{\"", 2);
    assert_string_equal(text_at(last, "response/status"), "incomplete");
    json_decref(events);
}

static void calls(void **state)
{
    static const char *const choices[] = {"\"required\",\"parallel_tool_calls\":false",
                                          "{\"type\":\"function\",\"name\":\"weather\"}"};
    char fields[2000];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        snprintf(fields, sizeof fields,
                 "\"model\":\"tiny\",\"input\":\"x\",\"max_output_tokens\":100,\"tool_choice\":%s," TOOL, choices[i]);
        json_t *r = ask(fields);
        assert_int_equal(json_array_size(at(r, "output")), 1);
        assert_string_equal(text_at(r, "output/0/type"), "function_call");
        assert_string_equal(text_at(r, "output/0/name"), "weather");
        assert_string_equal(text_at(r, "output/0/status"), "completed");
        assert_true(strlen(text_at(r, "output/0/call_id")) >= 9);
        json_t *arguments = json_loads(text_at(r, "output/0/arguments"), 0, NULL);
        assert_non_null(strstr("Paris Rome", text_at(arguments, "city")));
        json_decref(arguments);
        json_decref(r);
    }
    /* what was thought, said, called and answered is what a chat is given: as many tokens */
    json_t *r = post(
        RESPONSES, 200,
        "{\"model\":\"tiny\",\"max_output_tokens\":1,\"instructions\":\"be brief\",\"input\":[{\"role\":\"user\","
        "\"content\":\"hi\"},{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\","
        "\"text\":\"so\"}]},{\"type\":\"function_call\",\"call_id\":\"c1\",\"name\":\"weather\",\"arguments\":"
        "\"{\\\"city\\\":\\\"Rome\\\"}\"},{\"type\":\"function_call_output\",\"call_id\":\"c1\",\"output\":\"sunny\"}]"
        "}");
    json_t *chat = post(
        "/apply-template", 200,
        "{\"model\":\"tiny\",\"messages\":[{\"role\":\"system\",\"content\":\"be brief\"},{\"role\":\"user\","
        "\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"so\",\"tool_calls\":[{\"id\":\"c1\",\"type\":"
        "\"function\",\"function\":{\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Rome\\\"}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"sunny\"}]}");
    json_t *body = json_pack("{s:s, s:b, s:O}", "model", "tiny", "add_special", 1, "content", at(chat, "prompt"));
    char *dumped = json_dumps(body, 0);
    json_t *ids = post("/tokenize", 200, dumped);
    assert_int_equal(int_at(r, "usage/input_tokens"), json_array_size(at(ids, "tokens")));
    free(dumped);
    json_decref(ids);
    json_decref(body);
    json_decref(chat);
    json_decref(r);
}

static void reasoning(void **state)
{
    (void)state;
    json_t *r = ask("\"model\":\"thinker\",\"input\":\"x\",\"max_output_tokens\":12");
    assert_string_equal(text_at(r, "output/0/type"), "reasoning");
    assert_string_equal(text_at(r, "output/0/content/0/type"), "reasoning_text");
    assert_true(strlen(text_at(r, "output/0/content/0/text")) > 5);
    assert_int_equal(int_at(r, "usage/output_tokens_details/reasoning_tokens"), int_at(r, "usage/output_tokens"));
    json_decref(r);
    r = ask("\"model\":\"tiny\",\"input\":\"x\",\"max_output_tokens\":12");
    assert_int_equal(int_at(r, "usage/output_tokens_details/reasoning_tokens"), 0);
    json_decref(r);
}

static void errors(void **state)
{
    static const struct {
        int status;
        const char *fields, *words;
    } cases[] = {
        {404, "\"model\":\"none\",\"input\":\"x\"", "none"},
        {400, "\"model\":\"tiny\"", "input"},
        {400, "\"model\":\"tiny\",\"input\":[]", "input"},
        {400, "\"model\":\"tiny\",\"input\":7", "input"},
        {400, "\"model\":\"tiny\",\"input\":[7]", "object"},
        {400, "\"model\":\"tiny\",\"input\":[{\"content\":\"x\"}]", "role"},
        {400, "\"model\":\"tiny\",\"input\":[{\"role\":\"robot\",\"content\":\"x\"}]", "robot"},
        {400, "\"model\":\"tiny\",\"input\":[{\"type\":\"item_reference\",\"id\":\"x\"}]", "item"},
        {400, "\"model\":\"tiny\",\"input\":[{\"type\":\"computer_call\"}]", "computer_call"},
        {400, "\"model\":\"tiny\",\"input\":[{\"type\":\"function_call\",\"name\":\"x\"}]", "call_id"},
        {400, "\"model\":\"tiny\",\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]", "images"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"previous_response_id\":\"resp_1\"", "previous_response_id"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"conversation\":\"conv_1\"", "conversation"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"store\":true", "store"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"background\":true", "background"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"max_output_tokens\":0", "max_output_tokens"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"truncation\":\"some\"", "truncation"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"tools\":[{\"type\":\"web_search\"}]", "web_search"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"tools\":[{\"type\":\"function\"}]", "name"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"tool_choice\":\"some\"", "tool_choice"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"text\":{\"format\":{\"type\":\"xml\"}}", "xml"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"text\":{\"format\":{\"type\":\"json_schema\"}}", "schema"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"reasoning\":{\"effort\":\"high\"}", "thinking"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"include\":[\"everything\"]", "include"},
        {400, "\"model\":\"tiny\",\"input\":\"x\",\"top_logprobs\":3", "include"},
    };
    char body[600];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(body, sizeof body, "{%s}", cases[i].fields);
        json_t *r = post(RESPONSES, cases[i].status, body);
        if (!strstr(text_at(r, "error/message"), cases[i].words))
            fail_msg("%s: %s", body, text_at(r, "error/message"));
        json_decref(r);
    }
    hc_reply r = hc_get(server.port, RESPONSES "/resp_1");
    assert_int_equal(r.status, 404);
    hc_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts), cmocka_unit_test(calls), cmocka_unit_test(reasoning),
                                       cmocka_unit_test(streamed_calls), cmocka_unit_test(errors)};
    return cmocka_run_group_tests(tests, open_server, close_server);
}
