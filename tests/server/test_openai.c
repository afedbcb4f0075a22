/* OpenAI's routes over a socket: what streams is what comes at once, what a request asks of a reply holds, and what is wrong is
 * said in the API's form. */
#include "support/api_server.h"

#define CHAT "/v1/chat/completions"
#define USER "\"messages\":[{\"role\":\"user\",\"content\":\"hello there\"}]"
#define WEATHER                                                                                                        \
    "{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{\"type\":\"object\","                   \
    "\"properties\":{\"city\":{\"enum\":[\"Paris\",\"Rome\"]}},\"required\":[\"city\"],"                               \
    "\"additionalProperties\":false}}}"
#define TOOLS "\"tools\":[" WEATHER ",{\"type\":\"function\",\"function\":{\"name\":\"clock\"}}]"

/* The events of a stream as an array; it has to end with [DONE]. */
static json_t *stream(const char *path, const char *body)
{
    char line[20000];
    hc_connection c;
    json_t *events = json_array();
    bool done = false;
    assert_true(hc_open(&c, server.port, "POST", path, NULL, body));
    assert_int_equal(c.status, 200);
    while (hc_line(&c, line, sizeof line)) {
        assert_false(done && line[0]);
        if (!line[0])
            continue;
        assert_memory_equal(line, "data: ", 6);
        done = strcmp(line + 6, "[DONE]") == 0;
        json_t *event = done ? NULL : json_loads(line + 6, JSON_ALLOW_NUL, NULL);
        assert_true(done || event);
        if (event)
            json_array_append_new(events, event);
    }
    assert_true(done && c.whole);
    hc_hang_up(&c);
    return events;
}

/* The pieces of a choice's text put together. */
static void join(const json_t *events, long long choice, const char *path, char *text, size_t room)
{
    const json_t *event, *part;
    size_t i, k, n = 0;
    text[0] = 0;
    json_array_foreach(events, i, event) json_array_foreach(json_object_get(event, "choices"), k, part)
    {
        const char *piece = json_string_value(at(part, path));
        if (piece && json_integer_value(json_object_get(part, "index")) == choice)
            n += (size_t)snprintf(text + n, room - n, "%s", piece);
    }
}

/* ---- chats ---- */

static void streams_what_comes_at_once(void **state)
{
    char text[8192];
    (void)state;
    json_t *whole = post(CHAT, 200, "{\"model\":\"tiny\"," USER ",\"seed\":7,\"max_tokens\":20}");
    json_t *events = stream(CHAT, "{\"model\":\"tiny\"," USER ",\"seed\":7,\"max_tokens\":20,\"stream\":true,"
                                  "\"stream_options\":{\"include_usage\":true}}");
    size_t n = json_array_size(events);
    assert_true(n > 4);
    join(events, 0, "delta/content", text, sizeof text);
    assert_true(strlen(text) > 5);
    assert_string_equal(text, text_at(whole, "choices/0/message/content"));
    assert_string_equal(text_at(whole, "object"), "chat.completion");
    assert_string_equal(text_at(whole, "choices/0/message/role"), "assistant");
    assert_string_equal(text_at(whole, "choices/0/finish_reason"), "length");
    assert_string_equal(text_at(json_array_get(events, 0), "choices/0/delta/role"), "assistant");
    assert_string_equal(text_at(json_array_get(events, 0), "object"), "chat.completion.chunk");
    assert_true(json_is_null(at(json_array_get(events, 0), "choices/0/finish_reason")));
    assert_string_equal(text_at(json_array_get(events, n - 2), "choices/0/finish_reason"), "length");
    const json_t *last = json_array_get(events, n - 1);
    assert_int_equal(json_array_size(at(last, "choices")), 0);
    assert_int_equal(int_at(last, "usage/completion_tokens"), 20);
    assert_int_equal(int_at(whole, "usage/completion_tokens"), 20);
    assert_true(int_at(whole, "usage/prompt_tokens") > 5);
    assert_int_equal(int_at(whole, "usage/total_tokens"), int_at(whole, "usage/prompt_tokens") + 20);
    assert_int_equal(int_at(last, "usage/prompt_tokens"), int_at(whole, "usage/prompt_tokens"));
    assert_true(int_at(last, "usage/prompt_tokens_details/cached_tokens") < int_at(last, "usage/prompt_tokens"));
    json_decref(whole);
    json_decref(events);
}

static void choices(void **state)
{
    char text[2][8192];
    (void)state;
    json_t *one = post(CHAT, 200, "{\"model\":\"tiny\"," USER ",\"seed\":3,\"max_tokens\":16}");
    json_t *two = post(CHAT, 200, "{\"model\":\"tiny\"," USER ",\"seed\":3,\"max_tokens\":16,\"n\":2}");
    json_t *events = stream(CHAT, "{\"model\":\"tiny\"," USER ",\"seed\":3,\"max_tokens\":16,\"n\":2,\"stream\":true}");
    assert_int_equal(json_array_size(at(two, "choices")), 2);
    assert_int_equal(int_at(two, "choices/1/index"), 1);
    assert_string_equal(text_at(one, "choices/0/message/content"), text_at(two, "choices/0/message/content"));
    assert_string_not_equal(text_at(two, "choices/1/message/content"), text_at(two, "choices/0/message/content"));
    json_t *next = post(CHAT, 200, "{\"model\":\"tiny\"," USER ",\"seed\":4,\"max_tokens\":16}");
    assert_string_equal(text_at(two, "choices/1/message/content"), text_at(next, "choices/0/message/content"));
    assert_int_equal(int_at(two, "usage/completion_tokens"),
                     int_at(one, "usage/completion_tokens") + int_at(next, "usage/completion_tokens"));
    json_decref(next);
    assert_int_equal(int_at(two, "usage/prompt_tokens"), int_at(one, "usage/prompt_tokens"));
    for (int i = 0; i < 2; i++)
        join(events, i, "delta/content", text[i], sizeof text[i]);
    assert_string_equal(text[0], text_at(two, "choices/0/message/content"));
    assert_string_equal(text[1], text_at(two, "choices/1/message/content"));
    json_decref(one);
    json_decref(two);
    json_decref(events);
}

static void check_call(const json_t *call)
{
    const char *text = text_at(call, "function/arguments"), *city;
    json_t *arguments = json_loads(text, 0, NULL);
    assert_string_equal(text_at(call, "type"), "function");
    assert_string_equal(text_at(call, "function/name"), "weather");
    assert_true(strlen(text_at(call, "id")) >= 9);
    assert_true(json_is_object(arguments));
    city = text_at(arguments, "city");
    assert_true(strcmp(city, "Paris") == 0 || strcmp(city, "Rome") == 0);
    json_decref(arguments);
}

/* The call of this index as a client puts it together: it begins with all but its arguments, which come in at least so many
 * deltas. NULL: there is none. */
static json_t *streamed_call(const json_t *events, int index, int least)
{
    json_t *whole = NULL, *event;
    char text[4096] = "";
    size_t i;
    int deltas = 0;
    json_array_foreach(events, i, event)
    {
        const json_t *list = at(event, "choices/0/delta/tool_calls"), *delta = json_array_get(list, 0);
        if (!delta || int_at(delta, "index") != index)
            continue;
        assert_int_equal(json_array_size(list), 1);
        if (!whole) {
            whole = json_deep_copy(delta);
            assert_string_equal(text_at(delta, "function/arguments"), "");
            continue;
        }
        assert_null(at(delta, "id"));
        assert_null(at(delta, "function/name"));
        deltas++;
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s", text_at(delta, "function/arguments"));
    }
    assert_true(deltas >= least);
    if (whole)
        json_object_set_new(json_object_get(whole, "function"), "arguments", json_string(text));
    return whole;
}

/* Of many replies in which some call has to come, some have several and some have one, as each seed has it; with
 * parallel_tool_calls false all have one. */
static void several_calls(const char *model)
{
    size_t most[2] = {0}, least[2] = {100, 100};
    char body[2000];
    for (int seed = 0; seed < 24; seed++) {
        bool alone = seed % 2;
        snprintf(body, sizeof body,
                 "{\"model\":\"%s\"," USER ",\"tools\":[" WEATHER
                 "],\"seed\":%d,\"temperature\":1.5,\"max_tokens\":1600,"
                 "\"tool_choice\":\"required\",\"parallel_tool_calls\":%s}",
                 model, seed / 2, alone ? "false" : "true");
        json_t *r = post(CHAT, 200, body);
        const json_t *calls = at(r, "choices/0/message/tool_calls"), *call;
        size_t i, n = json_array_size(calls);
        assert_string_equal(text_at(r, "choices/0/finish_reason"), "tool_calls");
        json_array_foreach(calls, i, call) check_call(call);
        most[alone] = n > most[alone] ? n : most[alone];
        least[alone] = n < least[alone] ? n : least[alone];
        json_decref(r);
    }
    if (least[0] != 1 || most[0] < 2 || most[0] > NB_CALLS_MOST || least[1] != 1 || most[1] != 1)
        fail_msg("%s: %zu to %zu calls, and %zu to %zu where one was asked for", model, least[0], most[0], least[1],
                 most[1]);
}

/* Schemas of tools that refer to parts of themselves, as clients make them of types: each means its own parts, also beside another
 * tool's of the same name; what only looks like a reference stays. */
static void referring_tools(void **state)
{
    static const char *const choices[] = {"\"required\"", "\"required\",\"parallel_tool_calls\":false",
                                          "{\"type\":\"function\",\"function\":{\"name\":\"second\"}}"};
    static const char request[] =
        "{\"model\":\"%s\"," USER
        ",\"seed\":%d,\"max_tokens\":250,\"tool_choice\":%s,\"tools\":[{\"type\":\"function\",\"function\":{\"name\":"
        "\"first\",\"parameters\":{\"$id\":\"https://example.com/"
        "first\",\"type\":\"object\",\"properties\":{\"default\":{"
        "\"$ref\":\"#/$defs/"
        "City\"}},\"required\":[\"default\"],\"additionalProperties\":false,\"$defs\":{\"City\":{\"enum\":["
        "\"Rome\"]}}}}},{\"type\":\"function\",\"function\":{\"name\":\"second\",\"parameters\":{\"type\":\"object\","
        "\"properties\":{\"at\":{\"$ref\":\"#/definitions/"
        "City\"},\"in\":{\"anyOf\":[{\"type\":\"null\"},{\"$ref\":\"#\"}]},"
        "\"as\":{\"const\":{\"$ref\":\"#/x\"}}},\"required\":[\"at\",\"in\",\"as\"],\"additionalProperties\":false,"
        "\"definitions\":{\"City\":{\"enum\":[\"Paris\"]}}}}}]}";
    char body[2000];
    int calls[2] = {0};
    (void)state;
    for (int k = 0; k < 12; k++) {
        snprintf(body, sizeof body, request, k % 2 ? "tiny" : "lister", k, choices[k % 3]);
        json_t *r = post(CHAT, 200, body), *call;
        size_t i;
        json_array_foreach(at(r, "choices/0/message/tool_calls"), i, call)
        {
            json_t *v = json_loads(text_at(call, "function/arguments"), 0, NULL);
            bool second = strcmp(text_at(call, "function/name"), "second") == 0;
            assert_non_null(v);
            assert_string_equal(text_at(v, second ? "at" : "default"), second ? "Paris" : "Rome");
            for (const json_t *in = v; second && json_is_object(in); in = at(in, "in")) {
                assert_string_equal(text_at(in, "at"), "Paris");
                assert_string_equal(text_at(in, "as/$ref"), "#/x");
            }
            calls[second]++;
            json_decref(v);
        }
        json_decref(r);
    }
    assert_true(calls[0] > 0 && calls[1] > 0);
}

static void tools(void **state)
{
    static const char named[] = "{\"model\":\"tiny\"," USER "," TOOLS
                                ",\"seed\":1,\"max_tokens\":200,\"tool_choice\":{\"type\":\"function\",\"function\":"
                                "{\"name\":\"weather\"}}%s}";
    char body[2000];
    (void)state;
    snprintf(body, sizeof body, named, "");
    json_t *r = post(CHAT, 200, body);
    assert_int_equal(json_array_size(at(r, "choices/0/message/tool_calls")), 1);
    check_call(at(r, "choices/0/message/tool_calls/0"));
    assert_true(json_is_null(at(r, "choices/0/message/content")));
    assert_string_equal(text_at(r, "choices/0/finish_reason"), "tool_calls");
    json_decref(r);
    snprintf(body, sizeof body, named, ",\"stream\":true");
    r = stream(CHAT, body);
    json_t *call = streamed_call(r, 0, 4);
    check_call(call);
    assert_null(streamed_call(r, 1, 0));
    assert_string_equal(text_at(json_array_get(r, json_array_size(r) - 1), "choices/0/finish_reason"), "tool_calls");
    json_decref(call);
    json_decref(r);
    /* "required" yields some of those that there are; with one tool it is that one, as often as wanted, or once */
    r = post(CHAT, 200,
             "{\"model\":\"tiny\"," USER
             ",\"seed\":5,\"max_tokens\":200,\"tool_choice\":\"required\",\"tools\":[{\"type\":"
             "\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{\"type\":\"object\",\"properties\":{"
             "\"city\":{\"enum\":[\"Rome\"]}},\"required\":[\"city\"],\"additionalProperties\":false}}}]}");
    check_call(at(r, "choices/0/message/tool_calls/0"));
    json_decref(r);
    several_calls("tiny");   /* in tags, one after the other */
    several_calls("lister"); /* or in a list */
    /* a call and its result go back in */
    r = post(CHAT, 200,
             "{\"model\":\"tiny\",\"max_tokens\":4,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
             "\"text\":"
             "\"hi\"}]},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"abc\",\"type\":\"function\","
             "\"function\":{\"name\":\"weather\",\"arguments\":\"{\\\"city\\\":\\\"Rome\\\"}\"}}]},{\"role\":\"tool\","
             "\"tool_call_id\":\"abc\",\"content\":\"sunny\"}]}");
    assert_int_equal(int_at(r, "usage/completion_tokens"), 4);
    json_decref(r);
}

#define CALL_OF(name) "{\"name\": \"" name "\", \"arguments\": {\"city\": \"Rome\"}}"

/* A chat whose reply is this text: a grammar has no other. */
static char *chat_body(const char *text, bool streams, int most)
{
    char grammar[1000] = "root ::= \"";
    size_t n = strlen(grammar);
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\n')
            grammar[n++] = '\\';
        grammar[n++] = *c == '\n' ? 'n' : *c;
    }
    grammar[n] = '"';
    json_t *body = json_loads("{\"model\":\"tiny\",\"max_tokens\":200," USER "," TOOLS "}", 0, NULL);
    json_object_set_new(body, "grammar", json_string(grammar));
    json_object_set_new(body, "stream", json_boolean(streams));
    json_object_set_new(body, "max_tokens", json_integer(most));
    char *dumped = json_dumps(body, 0);
    json_decref(body);
    return dumped;
}

static json_t *chat_saying(const char *text)
{
    char *body = chat_body(text, false, 200);
    json_t *r = post(CHAT, 200, body);
    free(body);
    return r;
}

static json_t *stream_saying(const char *text, int most)
{
    char *body = chat_body(text, true, most);
    json_t *events = stream(CHAT, body);
    free(body);
    return events;
}

static void check_stream(const json_t *events, const char *content, const char *reason)
{
    char text[8192];
    join(events, 0, "delta/content", text, sizeof text);
    assert_string_equal(text, content);
    assert_string_equal(text_at(json_array_get(events, json_array_size(events) - 1), "choices/0/finish_reason"),
                        reason);
}

/* Arguments come while they are written; what breaks off stays as far as it goes, and nothing that no JSON begins with comes. */
static void streamed_calls(void **state)
{
    (void)state;
    json_t *events = stream_saying("One moment.\n<tool_call>\n" CALL_OF(
                                       "weather") "\n</tool_call>\n<tool_call>\n" CALL_OF("weather") "\n</tool_call>",
                                   200);
    json_t *first = streamed_call(events, 0, 4), *second = streamed_call(events, 1, 4);
    check_call(first);
    check_call(second);
    assert_string_not_equal(text_at(first, "id"), text_at(second, "id"));
    assert_string_equal(text_at(second, "function/arguments"), "{\"city\": \"Rome\"}");
    check_stream(events, "One moment.", "tool_calls");
    json_decref(first);
    json_decref(second);
    json_decref(events);
    static const char broken[] = "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": Rome}}</tool_call>";
    events = stream_saying(broken, 200);
    first = streamed_call(events, 0, 1);
    assert_string_equal(text_at(first, "function/arguments"), "{\"city\": ");
    check_stream(events, broken, "stop");
    json_decref(first);
    json_decref(events);
    events = stream_saying("{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome and so on and so on\"}}", 40);
    first = streamed_call(events, 0, 1);
    assert_memory_equal(text_at(first, "function/arguments"), "{\"", 2);
    assert_null(strstr(text_at(first, "function/arguments"), "}"));
    check_stream(events, "", "length");
    json_decref(first);
    json_decref(events);
}

/* A call without the tags that the template shows is one as well, when it names a tool; other JSON is what is said. */
static void bare_calls(void **state)
{
    static const char *const calls[] = {CALL_OF("weather"), "```json\n" CALL_OF("weather") "\n```",
                                        "So:\n```json\n" CALL_OF("weather") "\n```",
                                        "<tool_call>\n" CALL_OF("weather") "\n</tool_call>"};
    static const char *const others[] = {CALL_OF("nobody"), "```json\n{\"city\": \"Rome\"}\n```", "{\"weather\": 1}",
                                         "```json\n" CALL_OF("nobody") "\n```"};
    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        json_t *r = chat_saying(calls[i]);
        assert_int_equal(json_array_size(at(r, "choices/0/message/tool_calls")), 1);
        check_call(at(r, "choices/0/message/tool_calls/0"));
        assert_string_equal(text_at(r, "choices/0/finish_reason"), "tool_calls");
        json_decref(r);
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        json_t *r = chat_saying(others[i]);
        assert_null(at(r, "choices/0/message/tool_calls"));
        assert_string_equal(text_at(r, "choices/0/message/content"), others[i]);
        json_decref(r);
    }
}

/* Text before and after what is missing, between the tokens that names or metadata tell. */
static void infill(void **state)
{
    (void)state;
    static const char *const models[] = {"infill", "infill-keys"};
    static const char *const marks[][3] = {{"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},
                                           {"<prefix here>", "<suffix here>", "<middle here>"}};
    char body[600];
    for (size_t i = 0; i < 2; i++) {
        snprintf(body, sizeof body,
                 "{\"model\":\"%s\",\"prompt\":\"ab\",\"suffix\":\"yz\",\"temperature\":0,\"max_tokens\":9}",
                 models[i]);
        json_t *filled = post("/v1/completions", 200, body);
        snprintf(body, sizeof body, "{\"model\":\"%s\",\"prompt\":\"%sab%syz%s\",\"temperature\":0,\"max_tokens\":9}",
                 models[i], marks[i][0], marks[i][1], marks[i][2]);
        json_t *plain = post("/v1/completions", 200, body);
        assert_string_equal(text_at(filled, "choices/0/text"), text_at(plain, "choices/0/text"));
        assert_int_equal(int_at(filled, "usage/prompt_tokens"), int_at(plain, "usage/prompt_tokens"));
        snprintf(body, sizeof body, "{\"model\":\"%s\"}", models[i]);
        json_t *shown = post("/api/show", 200, body);
        char *capabilities = json_dumps(at(shown, "capabilities"), 0);
        assert_non_null(strstr(capabilities, "\"insert\""));
        free(capabilities);
        json_decref(shown);
        json_decref(filled);
        json_decref(plain);
    }
    json_t *none = post("/v1/completions", 400, "{\"model\":\"tiny\",\"prompt\":\"ab\",\"suffix\":\"yz\"}");
    assert_non_null(strstr(text_at(none, "error/message"), "insert"));
    json_decref(none);
}

static void thinking(void **state)
{
    char text[2][8192];
    (void)state;
    json_t *whole = post(CHAT, 200, "{\"model\":\"thinker\"," USER ",\"seed\":7,\"max_tokens\":12}");
    json_t *events = stream(CHAT, "{\"model\":\"thinker\"," USER ",\"seed\":7,\"max_tokens\":12,\"stream\":true}");
    assert_true(strlen(text_at(whole, "choices/0/message/reasoning_content")) > 5);
    assert_string_equal(text_at(whole, "choices/0/message/content"), "");
    join(events, 0, "delta/reasoning_content", text[0], sizeof text[0]);
    join(events, 0, "delta/reasoning", text[1], sizeof text[1]);
    assert_string_equal(text[0], text_at(whole, "choices/0/message/reasoning_content"));
    assert_string_equal(text[0], text[1]);
    json_decref(whole);
    json_decref(events);
    /* what an earlier reply thought goes back in */
    whole = post("/apply-template", 200,
                 "{\"model\":\"thinker\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
                 "\"reasoning_content\":\"hm\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"}]}");
    assert_string_equal(text_at(whole, "prompt"), "[user]a[assistant]<think>hm</think>b[user]c[assistant]<think>");
    json_decref(whole);
    /* of a model that cannot, it is refused */
    json_decref(post(CHAT, 400, "{\"model\":\"tiny\"," USER ",\"reasoning_effort\":\"low\"}"));
    json_decref(post(CHAT, 200, "{\"model\":\"tiny\"," USER ",\"reasoning_effort\":\"none\",\"max_tokens\":1}"));
}

static void formats(void **state)
{
    (void)state;
    json_t *r = post(CHAT, 200,
                     "{\"model\":\"tiny\"," USER ",\"seed\":1,\"max_tokens\":200,\"response_format\":{\"type\":"
                     "\"json_schema\",\"json_schema\":{\"name\":\"x\",\"schema\":{\"type\":\"object\",\"properties\":{"
                     "\"a\":{\"enum\":[17]},\"b\":{\"type\":\"boolean\"}},\"required\":[\"a\",\"b\"],"
                     "\"additionalProperties\":false}}}}");
    json_t *value = json_loads(text_at(r, "choices/0/message/content"), 0, NULL);
    assert_int_equal(int_at(value, "a"), 17);
    assert_true(json_is_boolean(at(value, "b")));
    assert_string_equal(text_at(r, "choices/0/finish_reason"), "stop");
    json_decref(value);
    json_decref(r);
    r = post(CHAT, 200,
             "{\"model\":\"tiny\"," USER ",\"seed\":1,\"max_tokens\":3,\"response_format\":{\"type\":"
             "\"json_object\"}}");
    assert_int_equal(text_at(r, "choices/0/message/content")[0], '{');
    json_decref(r);
}

static void logprobs(void **state)
{
    char text[4000] = "";
    (void)state;
    json_t *r = post(CHAT, 200,
                     "{\"model\":\"tiny\"," USER ",\"temperature\":0,\"max_tokens\":6,\"logprobs\":true,"
                     "\"top_logprobs\":3}");
    const json_t *list = at(r, "choices/0/logprobs/content"), *item;
    size_t i, k, n = 0;
    assert_int_equal(json_array_size(list), 6);
    json_array_foreach(list, i, item)
    {
        const json_t *top = json_object_get(item, "top_logprobs");
        double own = json_number_value(json_object_get(item, "logprob")), before = 0;
        assert_int_equal(json_array_size(top), 3);
        for (k = 0; k < 3; k++) {
            double p = json_number_value(at(json_array_get(top, k), "logprob"));
            assert_true(p < 0 && p <= before);
            before = p;
        }
        assert_true(own == json_number_value(at(top, "0/logprob"))); /* greedy: the likeliest */
    }
    json_decref(r);
    /* the tokens' bytes are the text's */
    r = post(CHAT, 200,
             "{\"model\":\"tiny\"," USER ",\"max_tokens\":50,\"logprobs\":true,\"grammar\":\"root ::= [a-z]{30}\"}");
    json_array_foreach(at(r, "choices/0/logprobs/content"), i, item)
    {
        const json_t *bytes = json_object_get(item, "bytes");
        for (k = 0; k < json_array_size(bytes); k++)
            text[n++] = (char)json_integer_value(json_array_get(bytes, k));
    }
    assert_int_equal(strlen(text_at(r, "choices/0/message/content")), 30);
    assert_string_equal(text, text_at(r, "choices/0/message/content"));
    json_decref(r);
    r = post(CHAT, 200, "{\"model\":\"tiny\"," USER ",\"max_tokens\":2}");
    assert_true(json_is_null(at(r, "choices/0/logprobs")));
    json_decref(r);
}

/* A token that is pushed up is all that comes; the same one pushed down never does. */
static void bias(void **state)
{
    (void)state;
    char body[600];
    json_t *ids = post("/tokenize", 200, "{\"model\":\"tiny\",\"content\":\"Q\"}");
    size_t n = json_array_size(at(ids, "tokens"));
    long long id = json_integer_value(json_array_get(at(ids, "tokens"), n - 1));
    snprintf(body, sizeof body,
             "{\"model\":\"tiny\"," USER ",\"max_tokens\":5,\"seed\":1,\"logit_bias\":{\"%lld\":100}}", id);
    json_t *r = post(CHAT, 200, body);
    assert_string_equal(text_at(r, "choices/0/message/content"), "QQQQQ");
    json_decref(r);
    json_decref(ids);
}

static void stops(void **state)
{
    (void)state;
    json_t *r = post(CHAT, 200, "{\"model\":\"tiny\"," USER ",\"temperature\":0,\"max_tokens\":30}");
    const char *text = text_at(r, "choices/0/message/content");
    char stop[4] = "", body[600], escaped[20];
    size_t from = strlen(text) / 2;
    while (from + 3 < strlen(text) && ((unsigned char)text[from] < 32 || (unsigned char)text[from] > 126 ||
                                       (unsigned char)text[from + 1] < 32 || (unsigned char)text[from + 1] > 126))
        from++;
    memcpy(stop, text + from, 2);
    json_t *as_json = json_string(stop);
    char *dumped = json_dumps(as_json, JSON_ENCODE_ANY);
    snprintf(escaped, sizeof escaped, "%s", dumped);
    size_t kept = (size_t)(strstr(text, stop) - text);
    for (int list = 0; list < 2; list++) {
        snprintf(body, sizeof body, "{\"model\":\"tiny\"," USER ",\"temperature\":0,\"max_tokens\":30,\"stop\":%s%s%s}",
                 list ? "[\"never ever\"," : "", escaped, list ? "]" : "");
        json_t *cut = post(CHAT, 200, body);
        const char *short_text = text_at(cut, "choices/0/message/content");
        assert_int_equal(strlen(short_text), kept);
        assert_memory_equal(short_text, text, kept);
        assert_string_equal(text_at(cut, "choices/0/finish_reason"), "stop");
        json_decref(cut);
    }
    free(dumped);
    json_decref(as_json);
    json_decref(r);
}

/* ---- what is wrong ---- */

static void errors(void **state)
{
    static const struct {
        int status;
        const char *body, *words;
    } cases[] = {
        {400, "{", "JSON"},
        {400, "{" USER "}", "model"},
        {404, "{\"model\":\"none\"," USER "}", "none"},
        {400, "{\"model\":\"tiny\"}", "messages"},
        {400, "{\"model\":\"tiny\",\"messages\":\"hi\"}", "messages"},
        {400, "{\"model\":\"tiny\",\"messages\":[{\"role\":\"king\",\"content\":\"x\"}]}", "king"},
        {400, "{\"model\":\"tiny\",\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "tool_call_id"},
        {400,
         "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":"
         "{\"url\":\"data:x\"}}]}]}",
         "images"},
        {400, "{\"model\":\"tiny\"," USER ",\"temperature\":\"hot\"}", "temperature"},
        {400, "{\"model\":\"tiny\"," USER ",\"temperature\":-1}", "temperature"},
        {400, "{\"model\":\"tiny\"," USER ",\"stop\":7}", "stop"},
        {400, "{\"model\":\"tiny\"," USER ",\"n\":0}", "\"n\""},
        {400, "{\"model\":\"tiny\"," USER ",\"max_tokens\":1.5}", "max_tokens"},
        {400, "{\"model\":\"tiny\"," USER ",\"logit_bias\":{\"a\":1}}", "logit_bias"},
        {400, "{\"model\":\"tiny\"," USER ",\"logit_bias\":{\"1\":101}}", "logit_bias"},
        {400, "{\"model\":\"tiny\"," USER ",\"logit_bias\":{\"640\":1}}", "640"},
        {400, "{\"model\":\"tiny\"," USER ",\"top_logprobs\":3}", "logprobs"},
        {400, "{\"model\":\"tiny\"," USER ",\"tool_choice\":\"maybe\"}", "tool_choice"},
        {400, "{\"model\":\"tiny\"," USER ",\"tool_choice\":\"required\"}", "tool"},
        {400,
         "{\"model\":\"tiny\"," USER "," TOOLS ",\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":"
         "\"other\"}}}",
         "other"},
        {400, "{\"model\":\"tiny\"," USER ",\"response_format\":{\"type\":\"xml\"}}", "xml"},
        {400, "{\"model\":\"tiny\"," USER ",\"reasoning_effort\":\"much\"}", "much"},
        {400, "{\"model\":\"tiny\"," USER ",\"functions\":[{\"name\":\"f\"}]}", "functions"},
        {400, "{\"model\":\"tiny\"," USER ",\"function_call\":\"auto\"}", "function_call"},
        {400, "{\"model\":\"tiny\"," USER ",\"web_search_options\":{}}", "web_search_options"},
        {400, "{\"model\":\"tiny\"," USER ",\"modalities\":[\"text\",\"audio\"]}", "modalities"},
        {400,
         "{\"model\":\"tiny\",\"messages\":[{\"role\":\"assistant\",\"function_call\":{\"name\":\"f\",\"arguments\":\"{"
         "}\"}}]}",
         "function_call"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *r = post(CHAT, cases[i].status, cases[i].body);
        if (!strstr(text_at(r, "error/message"), cases[i].words))
            fail_msg("%s: %s", cases[i].body, text_at(r, "error/message"));
        assert_string_equal(text_at(r, "error/type"),
                            cases[i].status == 404 ? "not_found_error" : "invalid_request_error");
        json_decref(r);
    }
    /* fields that nobody knows are passed over */
    json_decref(post(CHAT, 200, "{\"model\":\"tiny\"," USER ",\"max_tokens\":1,\"store\":true,\"xyz\":{}}"));
}

/* What does not fit is an error with both numbers. */
static void overflow(void **state)
{
    char *body = malloc(20000), *end = body;
    (void)state;
    end += sprintf(end, "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"");
    for (int i = 0; i < 2000; i++)
        end += sprintf(end, "%d ", i % 10);
    sprintf(end, "\"}]}");
    json_t *r = post(CHAT, 400, body);
    assert_non_null(strstr(text_at(r, "error/message"), "512"));
    json_decref(r);
    static const char *const others[][2] = {{"/v1/completions", "\"prompt\""}, /* with the counts of tokens */
                                            {"/v1/responses", "\"input\""},
                                            {"/v1/messages", "\"max_tokens\":5,\"messages\""}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        bool messages = strstr(others[i][1], "messages") != NULL;
        end = body + sprintf(body, "{\"model\":\"tiny\",%s:%s\"", others[i][1],
                             messages ? "[{\"role\":\"user\",\"content\":" : "");
        for (int k = 0; k < 2000; k++)
            end += sprintf(end, "%d ", k % 10);
        sprintf(end, messages ? "\"}]}" : "\"}");
        r = post(others[i][0], 400, body);
        const char *said = strstr(text_at(r, "error/message"), " tokens; the context of ");
        assert_true(said && strstr(said, "512"));
        json_decref(r);
    }
    free(body);
}

/* ---- the other routes ---- */

static void completions(void **state)
{
    char text[8192];
    (void)state;
    json_t *one = post("/v1/completions", 200, "{\"model\":\"tiny\",\"prompt\":\"abc\",\"seed\":2,\"max_tokens\":9}");
    json_t *more = post("/v1/completions", 200,
                        "{\"model\":\"tiny\",\"prompt\":[\"xy\",\"abc\"],\"seed\":2,\"max_tokens\":9,\"n\":2}");
    json_t *events = stream("/v1/completions", "{\"model\":\"tiny\",\"prompt\":\"abc\",\"seed\":2,\"max_tokens\":9,"
                                               "\"stream\":true}");
    join(events, 0, "text", text, sizeof text);
    assert_string_equal(text, text_at(one, "choices/0/text"));
    assert_true(strlen(text) > 2);
    assert_int_equal(json_array_size(at(more, "choices")), 4);
    assert_string_equal(text_at(more, "choices/2/text"), text);
    assert_string_not_equal(text_at(more, "choices/3/text"), text);
    assert_string_equal(text_at(one, "object"), "text_completion");
    assert_int_equal(int_at(more, "usage/completion_tokens"), 36);
    assert_string_equal(text_at(one, "choices/0/finish_reason"), "length");
    json_decref(more);
    more = post("/v1/completions", 200,
                "{\"model\":\"tiny\",\"prompt\":\"abc\",\"seed\":2,\"max_tokens\":9,\"echo\":true}");
    assert_memory_equal(text_at(more, "choices/0/text"), "abc", 3);
    assert_string_equal(text_at(more, "choices/0/text") + 3, text);
    json_decref(more);
    more = post("/v1/completions", 200,
                "{\"model\":\"tiny\",\"prompt\":\"abc\",\"max_tokens\":50,\"logprobs\":0,\"grammar\":"
                "\"root ::= [a-z]{9}\"}");
    size_t n = json_array_size(at(more, "choices/0/logprobs/tokens")), from = 0;
    assert_true(n > 0 && (long long)n == int_at(more, "usage/completion_tokens"));
    assert_int_equal(json_array_size(at(more, "choices/0/logprobs/token_logprobs")), n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(json_integer_value(json_array_get(at(more, "choices/0/logprobs/text_offset"), i)), from);
        const char *piece = json_string_value(json_array_get(at(more, "choices/0/logprobs/tokens"), i));
        assert_memory_equal(text_at(more, "choices/0/text") + from, piece, strlen(piece));
        from += strlen(piece);
    }
    assert_int_equal(from, 9);
    json_decref(more);
    more = post("/v1/completions", 200,
                "{\"model\":\"tiny\",\"prompt\":\"abc\",\"seed\":2,\"max_tokens\":1,\"logprobs\":2}");
    assert_int_equal(json_object_size(at(more, "choices/0/logprobs/top_logprobs/0")), 2);
    json_decref(more);
    json_decref(one);
    /* ids are the prompt that the text is */
    json_t *ids = post("/tokenize", 200, "{\"model\":\"tiny\",\"content\":\"abc\",\"add_special\":true}");
    json_t *body = json_pack("{s:s, s:O, s:i, s:i}", "model", "tiny", "prompt", at(ids, "tokens"), "seed", 2,
                             "max_tokens", 9);
    char *dumped = json_dumps(body, 0);
    one = post("/v1/completions", 200, dumped);
    assert_string_equal(text_at(one, "choices/0/text"), text);
    free(dumped);
    json_decref(body);
    json_decref(ids);
    json_decref(one);
    json_decref(events);
    one = post("/v1/completions", 200, "{\"model\":\"tiny\",\"prompt\":\"abc\",\"max_tokens\":0,\"echo\":true}");
    assert_string_equal(text_at(one, "choices/0/text"), "abc");
    json_decref(one);
    json_decref(post("/v1/completions", 400, "{\"model\":\"tiny\"}"));
    json_decref(post("/v1/completions", 400, "{\"model\":\"tiny\",\"prompt\":7}"));
    json_decref(post("/v1/completions", 400, "{\"model\":\"tiny\",\"prompt\":[99999]}"));
    json_decref(post("/v1/completions", 400, "{\"model\":\"tiny\",\"prompt\":\"a\",\"best_of\":3}"));
    json_decref(post("/v1/completions", 400, "{\"model\":\"tiny\",\"prompt\":\"a\",\"suffix\":\"b\"}"));
}

/* The scores are those that the model gives each text alone; the best comes first. */
static void rankings(void **state)
{
    static const char *const texts[] = {"a b c", "permission", "hello"};
    char body[400];
    double scores[3];
    (void)state;
    for (int i = 0; i < 3; i++) {
        snprintf(body, sizeof body, "{\"model\":\"xlm-roberta-ranker\",\"query\":\"a b\",\"documents\":[\"%s\"]}",
                 texts[i]);
        json_t *r = post("/rerank", 200, body);
        scores[i] = json_number_value(at(r, "results/0/relevance_score"));
        json_decref(r);
    }
    json_t *all = post(
        "/v1/rerank", 200,
        "{\"model\":\"xlm-roberta-ranker\",\"query\":\"a b\",\"documents\":[\"a b c\",{\"text\":\"permission\"},"
        "\"hello\"],\"return_documents\":true}");
    double before = 1e30;
    assert_int_equal(json_array_size(at(all, "results")), 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *one = json_array_get(at(all, "results"), i);
        double score = json_number_value(at(one, "relevance_score")), own = scores[int_at(one, "index")];
        assert_true(score <= before && score - own < 1e-5 && own - score < 1e-5);
        assert_string_equal(text_at(one, "document/text"), texts[int_at(one, "index")]);
        before = score;
    }
    assert_true(scores[0] != scores[1] && int_at(all, "usage/prompt_tokens") > 6);
    json_t *two = post(
        "/rerank", 200,
        "{\"model\":\"xlm-roberta-ranker\",\"query\":\"a b\",\"documents\":[\"a b c\",\"permission\",\"hello\"],"
        "\"top_n\":2}");
    assert_int_equal(json_array_size(at(two, "results")), 2);
    assert_int_equal(int_at(two, "results/0/index"), int_at(all, "results/0/index"));
    json_decref(all);
    json_decref(two);
    json_decref(post("/rerank", 400, "{\"model\":\"tiny\",\"query\":\"a\",\"documents\":[\"b\"]}"));
    json_decref(post("/rerank", 400, "{\"model\":\"xlm-roberta-ranker\",\"query\":\"a\",\"documents\":[]}"));
    json_decref(post("/rerank", 400, "{\"model\":\"xlm-roberta-ranker\",\"documents\":[\"b\"]}"));
}

static void from_base64(const char *text, unsigned char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned bits = 0, have = 0;
    for (; *text && *text != '='; text++) {
        bits = bits << 6 | (unsigned)(strchr(digits, *text) - digits);
        have += 6;
        if (have >= 8)
            *out++ = (unsigned char)(bits >> (have -= 8));
    }
}

static void embeddings(void **state)
{
    (void)state;
    float values[2048];
    double sum = 0;
    json_t *r = post("/v1/embeddings", 200, "{\"model\":\"bert\",\"input\":[\"a b\",\"c\"]}");
    json_t *packed = post("/v1/embeddings", 200, "{\"model\":\"bert\",\"input\":\"c\",\"encoding_format\":\"base64\"}");
    json_t *cut = post("/v1/embeddings", 200, "{\"model\":\"bert\",\"input\":\"c\",\"dimensions\":4}");
    const json_t *v = at(r, "data/1/embedding");
    size_t n = json_array_size(v);
    assert_true(n > 8 && n < 2048 && json_array_size(at(r, "data")) == 2);
    assert_int_equal(strlen(text_at(packed, "data/0/embedding")), (n * 4 + 2) / 3 * 4);
    from_base64(text_at(packed, "data/0/embedding"), (unsigned char *)values);
    for (size_t i = 0; i < n; i++) {
        double x = json_number_value(json_array_get(v, i));
        sum += x * x;
        assert_true(x - (double)values[i] < 1e-5 && (double)values[i] - x < 1e-5);
    }
    assert_true(sum > 0.9999 && sum < 1.0001);
    sum = 0;
    assert_int_equal(json_array_size(at(cut, "data/0/embedding")), 4);
    for (size_t i = 0; i < 4; i++)
        sum += json_number_value(json_array_get(at(cut, "data/0/embedding"), i)) *
               json_number_value(json_array_get(at(cut, "data/0/embedding"), i));
    assert_true(sum > 0.9999 && sum < 1.0001);
    assert_true(int_at(r, "usage/prompt_tokens") > int_at(packed, "usage/prompt_tokens"));
    assert_int_equal(int_at(r, "data/1/index"), 1);
    json_decref(r);
    json_decref(packed);
    json_decref(cut);
    json_decref(post("/v1/embeddings", 400, "{\"model\":\"bert\",\"input\":{}}"));
    json_decref(post("/v1/embeddings", 400, "{\"model\":\"bert\",\"input\":\"c\",\"dimensions\":100000}"));
    json_decref(post("/v1/embeddings", 400, "{\"model\":\"bert\",\"input\":\"c\",\"encoding_format\":\"int8\"}"));
}

static json_t *get(const char *path, int status)
{
    hc_reply r = hc_get(server.port, path);
    json_t *root = json_loadb(r.body, r.bytes, JSON_ALLOW_NUL, NULL);
    assert_int_equal(r.status, status);
    assert_non_null(root);
    hc_free(&r);
    return root;
}

static void models(void **state)
{
    (void)state;
    json_t *list = get("/v1/models", 200), *one = get("/v1/models/tiny", 200), *none = get("/v1/models/none", 404);
    assert_int_equal(json_array_size(at(list, "data")), 7);
    assert_string_equal(text_at(one, "object"), "model");
    assert_memory_equal(text_at(one, "id"), "tiny", 4);
    assert_true(int_at(one, "created") > 1000000000);
    assert_string_equal(text_at(none, "error/type"), "not_found_error");
    json_decref(list);
    json_decref(one);
    json_decref(none);
}

static void texts(void **state)
{
    (void)state;
    json_t *r = post("/tokenize", 200,
                     "{\"model\":\"tiny\",\"content\":\"hello <s>\",\"with_pieces\":true,"
                     "\"add_special\":true}");
    size_t n = json_array_size(at(r, "tokens"));
    assert_int_equal(int_at(r, "tokens/0/id"), 1);
    assert_int_equal(json_integer_value(at(json_array_get(at(r, "tokens"), n - 1), "id")), 1); /* parsed as the token */
    json_decref(r);
    r = post("/tokenize", 200, "{\"model\":\"tiny\",\"content\":\"hello you\"}");
    json_t *body = json_pack("{s:s, s:O}", "model", "tiny", "tokens", at(r, "tokens"));
    char *dumped = json_dumps(body, 0);
    json_t *back = post("/detokenize", 200, dumped);
    assert_non_null(strstr(text_at(back, "content"), "hello you"));
    free(dumped);
    json_decref(body);
    json_decref(back);
    json_decref(r);
    r = post("/apply-template", 200, "{\"model\":\"tiny\"," USER "," TOOLS "}");
    assert_string_equal(text_at(r, "prompt"), "T:weather clock [user]hello there[assistant]");
    json_decref(r);
    /* what a last message of the assistant says is gone on with, but where replies begin with thinking */
    r = post(
        "/apply-template", 200,
        "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":"
        "\"Once upon\"}]}");
    assert_string_equal(text_at(r, "prompt"), "[user]a[assistant]Once upon");
    json_decref(r);
    r = post("/apply-template", 200,
             "{\"model\":\"thinker\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
             "\"content\":"
             "\"Once\"}]}");
    assert_string_equal(text_at(r, "prompt"), "[user]a[assistant]Once[assistant]<think>");
    json_decref(r);
    r = post(
        "/apply-template", 200,
        "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"refusal\":"
        "\"No.\"},{\"role\":\"user\",\"content\":\"b\"}]}");
    assert_string_equal(text_at(r, "prompt"), "[user]a[assistant]No.[user]b[assistant]");
    json_decref(r);
    json_decref(post("/tokenize", 400, "{\"model\":\"tiny\"}"));
    json_decref(post("/detokenize", 400, "{\"model\":\"tiny\",\"tokens\":[-1]}"));
    json_decref(post("/detokenize", 400, "{\"model\":\"tiny\",\"tokens\":[100000]}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(streams_what_comes_at_once),
                                       cmocka_unit_test(choices),
                                       cmocka_unit_test(tools),
                                       cmocka_unit_test(referring_tools),
                                       cmocka_unit_test(streamed_calls),
                                       cmocka_unit_test(bare_calls),
                                       cmocka_unit_test(infill),
                                       cmocka_unit_test(thinking),
                                       cmocka_unit_test(formats),
                                       cmocka_unit_test(logprobs),
                                       cmocka_unit_test(bias),
                                       cmocka_unit_test(stops),
                                       cmocka_unit_test(errors),
                                       cmocka_unit_test(overflow),
                                       cmocka_unit_test(completions),
                                       cmocka_unit_test(embeddings),
                                       cmocka_unit_test(models),
                                       cmocka_unit_test(rankings),
                                       cmocka_unit_test(texts)};
    return cmocka_run_group_tests(tests, open_server, close_server);
}
