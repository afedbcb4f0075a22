/* The routes of Ollama's API over tiny models: shapes, statuses and words as its clients read them; texts that are the same
 * streamed, whole, seeded and continued; numbers that are true. */
#include "support/server.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/file.h"
#include "support/gguf_edit.h"
#include "support/schema_check.h"

static ts_server server;
static char folder[] = "/tmp/nibble-ollama-XXXXXX", with_tools[64], with_thinking[64];

/* ---- models: two get the templates of others ---- */

static void put_template(nb_gguf_writer *w, const void *path)
{
    nb_buf text = {0};
    assert_int_equal(nb_file_read(path, 1 << 20, &text, NULL), NB_OK);
    nb_gguf_put_str(w, "tokenizer.chat_template", nb_buf_view(&text));
    nb_buf_free(&text);
}

static void add_template(char path[64], const char *name, const char *source)
{
    nb_error err;
    snprintf(path, 64, "%s/%s.gguf", folder, name);
    if (gguf_edit_write(NB_TEST_DATA "/archs/llama-2-mha.gguf", path, put_template, source, &err) != NB_OK)
        fail_msg("%s", err.message);
}

/* ---- the log: what it says of texts that do not fit ---- */

static atomic_size_t left_out, forgotten;

static void note(void *user, const char *line)
{
    (void)user;
    left_out += strstr(line, "tokens too many for its context; they were left out") != NULL;
    forgotten += strstr(line, "outgrew its context") != NULL;
}

static int begin(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    add_template(with_tools, "tools", NB_TEST_DATA "/reply/qwen3.jinja");
    add_template(with_thinking, "thinks", NB_TEST_DATA "/reply/deepseek-r1-distill.jinja");
    const char *files[] = {NB_TEST_DATA "/archs/llama-2-mha.gguf", NB_TEST_DATA "/archs/qwen2.gguf",
                           NB_TEST_DATA "/archs/bert.gguf", with_tools, with_thinking};
    ts_start(&server, files, 5, NULL, &(nb_service_params){.log = note});
    return 0;
}

static int end(void **state)
{
    (void)state;
    ts_stop(&server);
    unlink(with_tools);
    unlink(with_thinking);
    return rmdir(folder);
}

/* ---- asking ---- */

/* The reply as JSON. The body is written like a printf format with ' for ". */
static json_t *ask(const char *path, int status, const char *format, ...) NB_PRINTF(3, 4);
static char asked[20000];

static void write_body(const char *format, va_list args)
{
    int n = vsnprintf(asked, sizeof asked, format, args);
    assert_true(n >= 0 && (size_t)n < sizeof asked);
    for (char *c = asked; *c; c++)
        *c = *c == '\'' ? '"' : *c;
}

static json_t *ask(const char *path, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_body(format, args);
    va_end(args);
    hc_reply r = hc_post(server.port, path, asked);
    json_t *root = json_loadb(r.body, r.bytes, JSON_ALLOW_NUL, NULL);
    if (r.status != status || !root || !r.whole)
        fail_msg("%s: %d: %s", asked, r.status, r.body);
    hc_free(&r);
    return root;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static int64_t number_of(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    if (!json_is_integer(v))
        fail_msg("%s is no integer", key);
    return json_integer_value(v);
}

static bool yes(const json_t *object, const char *key)
{
    assert_true(json_is_boolean(json_object_get(object, key)));
    return json_is_true(json_object_get(object, key));
}

static void check_time(const json_t *object, const char *key)
{
    struct tm t = {0};
    const char *rest = strptime(text_of(object, key), "%Y-%m-%dT%H:%M:%S", &t);
    assert_non_null(rest);
    assert_true(rest[0] == '.' && rest[strlen(rest) - 1] == 'Z');
    double age = difftime(time(NULL), timegm(&t));
    assert_true(age >= -1 && age < 3600);
}

/* What a reply's last object says of itself. */
static void check_end(const json_t *o, const char *reason)
{
    check_time(o, "created_at");
    assert_true(yes(o, "done"));
    assert_string_equal(text_of(o, "done_reason"), reason);
    int64_t prompt = number_of(o, "prompt_eval_duration"), eval = number_of(o, "eval_duration");
    assert_true(prompt > 0 && eval >= 0 && number_of(o, "load_duration") >= 0);
    assert_true(number_of(o, "total_duration") >= prompt + eval);
    assert_true(number_of(o, "prompt_eval_count") > 0);
}

/* All lines of a stream, one by one: the texts of `key` (inside "message" for chat) put together. */
static json_t *stream(const char *path, const char *body, char *text, size_t room)
{
    static char line[400000];
    hc_connection c;
    char value[512];
    json_t *last = NULL;
    size_t n = 0;
    assert_true(hc_open(&c, server.port, "POST", path, NULL, body));
    assert_int_equal(c.status, 200);
    assert_string_equal(hc_header(c.head, "Content-Type", value), "application/x-ndjson");
    while (hc_line(&c, line, sizeof line)) {
        assert_true(!last || !yes(last, "done")); /* nothing behind the end */
        json_decref(last);
        last = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(last);
        check_time(last, "created_at");
        const json_t *message = json_object_get(last, "message");
        n += (size_t)snprintf(text + n, room - n, "%s",
                              message ? text_of(message, "content") : text_of(last, "response"));
        assert_true(n < room);
    }
    assert_true(c.whole && last && yes(last, "done"));
    hc_hang_up(&c);
    return last;
}

/* ---- generate ---- */

#define FIXED "'options':{'temperature':0,'num_predict':%d}"

static void generate(void **state)
{
    char text[4000];
    (void)state;
    double start = nb_seconds();
    json_t *whole = ask("/api/generate", 200, "{'model':'llama-2-mha','prompt':'some words','stream':false," FIXED "}",
                        20);
    check_end(whole, "length");
    assert_true((double)number_of(whole, "total_duration") * 1e-9 <= nb_seconds() - start);
    assert_int_equal(number_of(whole, "eval_count"), 20);
    assert_string_equal(text_of(whole, "model"), "llama-2-mha");
    assert_int_equal(json_array_size(json_object_get(whole, "context")),
                     number_of(whole, "prompt_eval_count") + number_of(whole, "eval_count"));
    json_t *last = stream("/api/generate",
                          "{\"model\":\"llama-2-mha\",\"prompt\":\"some words\","
                          "\"options\":{\"temperature\":0,\"num_predict\":20}}",
                          text, sizeof text);
    check_end(last, "length");
    assert_string_equal(text, text_of(whole, "response"));
    assert_true(json_equal(json_object_get(last, "context"), json_object_get(whole, "context")));
    json_t *raw = ask("/api/generate", 200,
                      "{'model':'llama-2-mha','prompt':'some words','raw':true,'stream':false," FIXED "}", 20);
    assert_string_equal(text_of(raw, "response"), text); /* this model has no template */
    assert_null(json_object_get(raw, "context"));
    json_decref(whole);
    json_decref(last);
    json_decref(raw);
}

/* A reply in two halves, the second from the first one's context, is the reply in one. */
static void contexts(void **state)
{
    char joined[4000];
    (void)state;
    json_t *whole = ask("/api/generate", 200, "{'model':'llama-2-mha','prompt':'once upon','stream':false," FIXED "}",
                        16);
    json_t *half = ask("/api/generate", 200, "{'model':'llama-2-mha','prompt':'once upon','stream':false," FIXED "}",
                       8);
    char *ids = json_dumps(json_object_get(half, "context"), JSON_COMPACT);
    json_t *rest = ask("/api/generate", 200,
                       "{'model':'llama-2-mha','context':%s,'prompt':'','stream':false," FIXED "}", ids, 8);
    assert_true(json_equal(json_object_get(whole, "context"), json_object_get(rest, "context")));
    snprintf(joined, sizeof joined, "%s%s", text_of(half, "response"), text_of(rest, "response"));
    assert_string_equal(joined, text_of(whole, "response"));
    json_decref(ask("/api/generate", 400, "{'model':'llama-2-mha','prompt':'x','context':[1,99999],'stream':false}"));
    json_decref(ask("/api/generate", 400, "{'model':'llama-2-mha','prompt':'x','context':[-1],'stream':false}"));
    json_decref(ask("/api/generate", 400, "{'model':'llama-2-mha','prompt':'x','context':['a'],'stream':false}"));
    free(ids);
    json_decref(whole);
    json_decref(half);
    json_decref(rest);
}

static int64_t prompt_tokens(const char *fields)
{
    json_t *r = ask("/api/generate", 200, "{'stream':false," FIXED ",%s}", 1, fields);
    int64_t n = number_of(r, "prompt_eval_count");
    json_decref(r);
    return n;
}

/* Templates and system texts make the prompt: texts that are equal have as many tokens and the same reply. */
static void templates(void **state)
{
    (void)state;
    json_t *own = ask("/api/generate", 200, "{'model':'qwen2','prompt':'hi','system':'be','stream':false," FIXED "}",
                      12);
    json_t *go = ask("/api/generate", 200,
                     "{'model':'qwen2','prompt':'hi','system':'be','stream':false,'template':'<|im_start|>system\\n{{ "
                     ".System }}<|im_end|>\\n<|im_start|>user\\n{{ .Prompt "
                     "}}<|im_end|>\\n<|im_start|>assistant\\n'," FIXED "}",
                     12);
    json_t *raw = ask("/api/generate", 200,
                      "{'model':'qwen2','raw':true,'stream':false,'prompt':'<|im_start|>system\\nbe<|im_end|>\\n<|im_"
                      "start|>user\\nhi<|im_end|>\\n<|im_start|>assistant\\n'," FIXED "}",
                      12);
    assert_string_equal(text_of(own, "response"), text_of(go, "response"));
    assert_string_equal(text_of(own, "response"), text_of(raw, "response"));
    assert_int_equal(number_of(own, "prompt_eval_count"), number_of(go, "prompt_eval_count"));
    json_t *chat = ask("/api/chat", 200,
                       "{'model':'qwen2','messages':[{'role':'system','content':'be'},{'role':'user','content':'hi'}],"
                       "'stream':false," FIXED "}",
                       12);
    assert_string_equal(text_of(json_object_get(chat, "message"), "content"), text_of(raw, "response"));
    json_decref(own);
    json_decref(go);
    json_decref(raw);
    json_decref(chat);
    json_decref(ask("/api/generate", 400, "{'model':'qwen2','prompt':'hi','template':'{{ .Prompt','stream':false}"));
    /* text before and after: by a template that knows it, or by tokens that this model lacks */
    assert_true(
        prompt_tokens("'model':'qwen2','prompt':'a','suffix':'b c d','template':'{{ .Prompt }} and {{ .Suffix }}'") >
        prompt_tokens("'model':'qwen2','prompt':'a','suffix':'b','template':'{{ .Prompt }} and {{ .Suffix }}'"));
    json_t *none = ask("/api/generate", 400, "{'model':'qwen2','prompt':'a','suffix':'b','stream':false}");
    assert_non_null(strstr(text_of(none, "error"), "does not support insert"));
    json_decref(none);
}

static void options(void **state)
{
    (void)state;
    json_t *r[4];
    for (int i = 0; i < 4; i++)
        r[i] = ask("/api/generate", 200,
                   "{'model':'llama-2-mha','prompt':'x','stream':false,'options':{'seed':%d,'temperature':1.5,"
                   "'num_predict':24}}",
                   i < 2 ? 7 : 6 + i);
    assert_string_equal(text_of(r[0], "response"), text_of(r[1], "response"));
    assert_true(strcmp(text_of(r[0], "response"), text_of(r[2], "response")) != 0);
    assert_true(strcmp(text_of(r[2], "response"), text_of(r[3], "response")) != 0);
    for (int i = 0; i < 4; i++)
        json_decref(r[i]);
    json_t *whole = ask("/api/generate", 200,
                        "{'model':'llama-2-mha','prompt':'x','stream':false,'grammar':'root ::= \\'abcabcdef\\'',"
                        "'options':{'num_predict':40}}");
    assert_string_equal(text_of(whole, "response"), "abcabcdef");
    check_end(whole, "stop");
    json_decref(whole);
    whole = ask("/api/generate", 200,
                "{'model':'llama-2-mha','prompt':'x','stream':false,'grammar':'root ::= \\'abcabcdef\\'',"
                "'options':{'num_predict':40,'stop':['cd','zz']}}");
    assert_string_equal(text_of(whole, "response"), "abcab");
    check_end(whole, "stop");
    json_decref(whole);
    json_decref(ask("/api/generate", 200, /* what means nothing is taken */
                    "{'model':'llama-2-mha','prompt':'x','stream':false,'options':{'num_predict':1,'num_gpu':99,"
                    "'low_vram':true,'tfs_z':1,'never_heard_of':'it'}}"));
}

static void logprobs(void **state)
{
    (void)state;
    json_t *r = ask("/api/generate", 200,
                    "{'model':'llama-2-mha','prompt':'some','stream':false,'logprobs':true,'top_logprobs':3," FIXED "}",
                    6);
    const json_t *list = json_object_get(r, "logprobs"), *v, *top;
    char joined[1000] = "";
    size_t i, k;
    assert_int_equal(json_array_size(list), number_of(r, "eval_count"));
    json_array_foreach(list, i, v)
    {
        double before = 0;
        strcat(joined, text_of(v, "token"));
        assert_true(json_number_value(json_object_get(v, "logprob")) <= 0);
        assert_int_equal(json_array_size(json_object_get(v, "top_logprobs")), 3);
        json_array_foreach(json_object_get(v, "top_logprobs"), k, top)
        {
            double p = json_number_value(json_object_get(top, "logprob"));
            assert_true(p <= before);
            before = p;
            assert_true(json_is_array(json_object_get(top, "bytes")));
        }
        assert_string_equal(text_of(json_array_get(json_object_get(v, "top_logprobs"), 0), "token"),
                            text_of(v, "token"));
    }
    assert_string_equal(joined, text_of(r, "response")); /* the first one's space as well */
    json_decref(r);
    r = ask("/api/generate", 200, "{'model':'llama-2-mha','prompt':'some','stream':false," FIXED "}", 2);
    assert_null(json_object_get(r, "logprobs"));
    json_decref(r);
    json_decref(ask("/api/generate", 400, "{'model':'llama-2-mha','prompt':'x','top_logprobs':21}"));
}

static void formats(void **state)
{
    static const char schema[] =
        "{'type':'object','properties':{'name':{'type':'string','maxLength':8},'n':{'type':'integer','minimum':3,"
        "'maximum':99},'tags':{'type':'array','items':{'enum':['a','b']},'maxItems':3}},"
        "'required':['name','n','tags'],'additionalProperties':false}";
    char text[sizeof schema];
    (void)state;
    for (size_t i = 0; i < sizeof schema; i++)
        text[i] = schema[i] == '\'' ? '"' : schema[i];
    json_t *rules = json_loads(text, 0, NULL);
    for (int seed = 0; seed < 8; seed++) {
        json_t *r = ask("/api/generate", 200,
                        "{'model':'qwen2','prompt':'x','stream':false,'format':%s,"
                        "'options':{'seed':%d,'temperature':2}}",
                        schema, seed);
        json_t *value = json_loads(text_of(r, "response"), 0, NULL);
        if (!value || !sc_fits(rules, rules, value))
            fail_msg("%s", text_of(r, "response"));
        check_end(r, "stop");
        json_decref(value);
        json_decref(r);
    }
    json_decref(rules);
    json_t *r = ask("/api/chat", 200,
                    "{'model':'qwen2','messages':[{'role':'user','content':'x'}],'stream':false,'format':'json',"
                    "'options':{'seed':1,'num_predict':30}}");
    assert_int_equal(text_of(json_object_get(r, "message"), "content")[0], '{');
    json_decref(r);
    json_decref(ask("/api/generate", 400, "{'model':'qwen2','prompt':'x','format':'xml','stream':false}"));
    json_decref(ask("/api/generate", 400, "{'model':'qwen2','prompt':'x','format':{'type':7},'stream':false}"));
    json_decref(ask("/api/generate", 400,
                    "{'model':'qwen2','prompt':'x','format':'json','grammar':'root ::= \\'a\\'','stream':false}"));
    json_decref(ask("/api/generate", 400, "{'model':'qwen2','prompt':'x','grammar':'root ::= [','stream':false}"));
}

/* ---- models in memory ---- */

static bool in_ps(const char *name)
{
    bool found = false;
    hc_reply r = hc_get(server.port, "/api/ps");
    json_t *root = json_loads(r.body, JSON_ALLOW_NUL, NULL), *m;
    size_t i;
    json_array_foreach(json_object_get(root, "models"), i, m)
    {
        if (strcmp(text_of(m, "name"), name) != 0)
            continue;
        found = true;
        assert_true(number_of(m, "size") > 100000 && number_of(m, "context_length") > 0);
        assert_int_equal(strlen(text_of(m, "digest")), 64);
        const char *expires = text_of(m, "expires_at"); /* zeros at the end of the fraction are left out */
        size_t n = strlen(expires);
        assert_true(n >= strlen("2026-11-23T04:05:06Z") && n <= strlen("2026-11-23T04:05:06.123456789Z"));
        assert_true(expires[10] == 'T' && expires[n - 1] == 'Z');
    }
    json_decref(root);
    hc_free(&r);
    return found;
}

static void wait_unloaded(const char *name)
{
    for (double limit = nb_seconds() + 10; in_ps(name);) {
        assert_true(nb_seconds() < limit);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

/* Seconds until a model goes, as /api/ps says. */
static double stays(const char *name)
{
    hc_reply r = hc_get(server.port, "/api/ps");
    json_t *root = json_loads(r.body, JSON_ALLOW_NUL, NULL), *m;
    double seconds = -1;
    size_t i;
    json_array_foreach(json_object_get(root, "models"), i, m)
    {
        struct tm t = {0};
        if (strcmp(text_of(m, "name"), name) == 0 && strptime(text_of(m, "expires_at"), "%Y-%m-%dT%H:%M:%S", &t))
            seconds = difftime(timegm(&t), time(NULL));
    }
    json_decref(root);
    hc_free(&r);
    return seconds;
}

static void keeps_alive(void **state)
{
    static const struct {
        const char *value;
        double seconds;
    } cases[] = {{"'5m'", 300},  {"300", 300},     {"'1h30m'", 5400}, {"-1", 1e9},
                 {"'-1m'", 1e9}, {"7200.5", 7200}, {"'24h'", 86400}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_decref(ask("/api/generate", 200, "{'model':'thinks','keep_alive':%s}", cases[i].value));
        double got = stays("thinks:latest"), want = cases[i].seconds;
        if (want < 1e9 ? got > want + 2 || got < want - 30 : got < 1e9)
            fail_msg("keep_alive %s: it stays %.0f s", cases[i].value, got);
    }
    json_decref(ask("/api/generate", 200, "{'model':'thinks','keep_alive':0}"));
    wait_unloaded("thinks:latest");
}

static void loads(void **state)
{
    (void)state;
    wait_unloaded("thinks:latest");
    json_t *r = ask("/api/generate", 200, "{'model':'thinks','keep_alive':0}");
    assert_string_equal(text_of(r, "done_reason"), "unload");
    assert_false(in_ps("thinks:latest")); /* it was not loaded for that */
    json_decref(r);
    r = ask("/api/generate", 200, "{'model':'thinks'}");
    assert_true(yes(r, "done") && strcmp(text_of(r, "done_reason"), "load") == 0 && text_of(r, "response")[0] == 0);
    json_decref(r);
    assert_true(in_ps("thinks:latest"));
    r = ask("/api/chat", 200, "{'model':'thinks','messages':[],'keep_alive':0}");
    assert_string_equal(text_of(r, "done_reason"), "unload");
    assert_string_equal(text_of(json_object_get(r, "message"), "role"), "assistant");
    json_decref(r);
    wait_unloaded("thinks:latest");
    json_decref(ask("/api/chat", 200, "{'model':'thinks','keep_alive':'50ms'}"));
    wait_unloaded("thinks:latest");
    json_decref(ask("/api/chat", 400, "{'model':'thinks','keep_alive':'soon'}"));
    json_decref(ask("/api/generate", 404, "{'model':'nobody','keep_alive':0}"));
}

static void lists(void **state)
{
    (void)state;
    hc_reply r = hc_get(server.port, "/api/tags");
    json_t *root = json_loads(r.body, JSON_ALLOW_NUL, NULL), *m;
    size_t i;
    assert_int_equal(json_array_size(json_object_get(root, "models")), 5);
    json_array_foreach(json_object_get(root, "models"), i, m)
    {
        const json_t *details = json_object_get(m, "details"), *can = json_object_get(m, "capabilities");
        assert_string_equal(text_of(m, "name"), text_of(m, "model"));
        assert_true(number_of(m, "size") > 100000 && strlen(text_of(m, "digest")) == 64);
        assert_string_equal(text_of(details, "format"), "gguf");
        bool embeds = strcmp(text_of(m, "name"), "bert:latest") == 0, found = false;
        for (size_t k = 0; k < json_array_size(can); k++)
            found |= strcmp(json_string_value(json_array_get(can, k)), embeds ? "embedding" : "completion") == 0;
        assert_true(found);
        assert_true(number_of(details, "context_length") > 0 && number_of(details, "embedding_length") > 0);
    }
    json_decref(root);
    hc_free(&r);
    json_t *brief = ask("/api/show", 200, "{'model':'qwen2'}"),
           *long_one = ask("/api/show", 200, "{'name':'qwen2','verbose':true}");
    assert_int_equal(json_array_size(json_object_get(json_object_get(brief, "model_info"), "tokenizer.ggml.tokens")),
                     0);
    assert_int_equal(json_array_size(json_object_get(json_object_get(long_one, "model_info"), "tokenizer.ggml.tokens")),
                     512);
    assert_string_equal(text_of(json_object_get(brief, "model_info"), "general.architecture"), "qwen2");
    assert_true(strstr(text_of(brief, "modelfile"), "FROM ") && strstr(text_of(brief, "template"), "<|im_start|>"));
    assert_true(json_array_size(json_object_get(long_one, "tensors")) > 5);
    assert_true(json_equal(json_object_get(long_one, "tensors"), json_object_get(brief, "tensors")));
    assert_null(json_object_get(json_object_get(brief, "details"), "context_length"));
    json_decref(brief);
    json_decref(long_one);
    r = hc_get(server.port, "/api/version");
    root = json_loads(r.body, JSON_ALLOW_NUL, NULL);
    int major = -1, minor = -1;
    assert_int_equal(sscanf(text_of(root, "version"), "%d.%d.", &major, &minor), 2);
    json_decref(root);
    hc_free(&r);
}

/* ---- chat ---- */

static void chats(void **state)
{
    char text[4000];
    (void)state;
    json_t *whole = ask("/api/chat", 200,
                        "{'model':'qwen2','messages':[{'role':'user','content':'hello'}],'stream':false," FIXED "}",
                        16);
    json_t *last = stream("/api/chat",
                          "{\"model\":\"qwen2\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}],"
                          "\"options\":{\"temperature\":0,\"num_predict\":16}}",
                          text, sizeof text);
    const json_t *message = json_object_get(whole, "message");
    assert_string_equal(text_of(message, "role"), "assistant");
    assert_string_equal(text_of(message, "content"), text);
    assert_int_equal(number_of(whole, "eval_count"), number_of(last, "eval_count"));
    check_end(last, text_of(whole, "done_reason"));
    json_decref(whole);
    json_decref(last);
}

#define TOOL                                                                                                           \
    "{'type':'function','function':{'name':'get_weather','description':'The weather of a city','parameters':"          \
    "{'type':'object','properties':{'city':{'type':'string'}},'required':['city']}}}"

static int64_t chat_tokens(const char *model, const char *messages, const char *more)
{
    json_t *r = ask("/api/chat", 200,
                    "{'model':'%s','stream':false,'messages':[%s]%s,'options':{'num_ctx':1024,'num_predict':1}}", model,
                    messages, more);
    int64_t n = number_of(r, "prompt_eval_count");
    json_decref(r);
    return n;
}

static void tools(void **state)
{
    static const char user[] = "{'role':'user','content':'weather in Rome?'}";
    (void)state;
    int64_t bare = chat_tokens("tools", user, ""), shown = chat_tokens("tools", user, ",'tools':[" TOOL "]");
    assert_true(shown > bare + 50); /* the template told of it */
    int64_t told = chat_tokens(
        "tools",
        "{'role':'user','content':'weather in Rome?'},{'role':'assistant','content':'','tool_calls'"
        ":[{'function':{'name':'get_weather','arguments':{'city':'Rome'}}}]},"
        "{'role':'tool','tool_name':'get_weather','content':'sunny'}",
        ",'tools':[" TOOL "]");
    assert_true(told > shown + 20);
    json_t *r = ask("/api/chat", 400, "{'model':'qwen2','messages':[%s],'tools':[" TOOL "]}", user);
    assert_non_null(strstr(text_of(r, "error"), "does not support tools"));
    json_decref(r);
}

/* A model may write a call over several lines; an answer is one line all the same, and holds what the call says. */
static void calls_in_lines(void **state)
{
    static const char grammar[] =
        "root ::= \"<tool_call>\\n{\\\"name\\\": \\\"get_weather\\\",\\n \\\"arguments\\\": {\\n  "
        "\\\"city\\\": \\\"New  \\\\\\\" York\\\",\\n\\t\\\"n\\\": [1, 2]\\n }}\\n</tool_call>\"";
    (void)state;
    json_t *body = json_pack("{s:s, s:s, s:[{s:s, s:s}], s:{s:i}, s:[{s:{s:s}}]}", "model", "tools", "grammar", grammar,
                             "messages", "role", "user", "content", "x", "options", "num_predict", 300, "tools",
                             "function", "name", "get_weather");
    char *dumped = json_dumps(body, 0);
    hc_connection c;
    json_t *call = NULL;
    assert_true(hc_open(&c, server.port, "POST", "/api/chat", NULL, dumped));
    while (hc_line(&c, asked, sizeof asked)) {
        json_t *line = json_loads(asked, JSON_ALLOW_NUL, NULL);
        assert_non_null(line);
        const json_t *calls = json_object_get(json_object_get(line, "message"), "tool_calls");
        if (calls)
            call = json_deep_copy(json_array_get(calls, 0));
        json_decref(line);
    }
    hc_hang_up(&c);
    assert_non_null(call);
    assert_true(strlen(text_of(call, "id")) >= 9);
    const json_t *arguments = json_object_get(json_object_get(call, "function"), "arguments");
    assert_string_equal(text_of(arguments, "city"), "New  \" York");
    assert_int_equal(json_array_size(json_object_get(arguments, "n")), 2);
    json_decref(call);
    json_decref(body);
    free(dumped);
}

static void thinking(void **state)
{
    (void)state;
    json_t *r = ask(
        "/api/chat", 200,
        "{'model':'thinks','messages':[{'role':'user','content':'x'}],'think':true,'stream':false," FIXED "}", 10);
    const json_t *message = json_object_get(r, "message");
    assert_true(text_of(message, "content")[0] == 0 && text_of(message, "thinking")[0] != 0);
    json_decref(r);
    r = ask("/api/chat", 400, "{'model':'qwen2','messages':[{'role':'user','content':'x'}],'think':true}");
    assert_non_null(strstr(text_of(r, "error"), "does not support thinking"));
    json_decref(r);
    json_decref(ask("/api/chat", 400, "{'model':'thinks','messages':[{'role':'user','content':'x'}],'think':'much'}"));
}

/* ---- what does not fit ---- */

static void overflows(void **state)
{
    char prompt[1300] = "", value[512];
    (void)state;
    for (int i = 0; i < 120; i++)
        strcat(prompt, "word ");
    int64_t all = 0;
    json_t *r = ask("/api/generate", 200,
                    "{'model':'llama-2-mha','raw':true,'prompt':'%s','stream':false,'options':{'num_predict':1}}",
                    prompt);
    all = number_of(r, "prompt_eval_count");
    assert_null(json_object_get(r, "truncated"));
    json_decref(r);
    assert_true(all > 64);
    snprintf(asked, sizeof asked,
             "{\"model\":\"llama-2-mha\",\"raw\":true,\"prompt\":\"%s\",\"stream\":false,"
             "\"options\":{\"num_predict\":1,\"num_ctx\":64}}",
             prompt);
    hc_reply h = hc_post(server.port, "/api/generate", asked);
    assert_int_equal(h.status, 200);
    r = json_loads(h.body, JSON_ALLOW_NUL, NULL);
    int64_t kept = number_of(r, "prompt_eval_count");
    assert_true(kept < 64);
    assert_int_equal(number_of(r, "truncated"), all - kept);
    assert_non_null(hc_header(h.head, "X-Nibble-Truncated", value));
    assert_int_equal(atoll(value), all - kept);
    json_decref(r);
    hc_free(&h);
    r = ask("/api/generate", 400,
            "{'model':'llama-2-mha','raw':true,'prompt':'%s','truncate':false,'stream':false,'options':{'num_ctx':64}}",
            prompt);
    snprintf(value, sizeof value, "%lld tokens", (long long)all);
    assert_non_null(strstr(text_of(r, "error"), value));
    json_decref(r);
    setenv("NIBBLE_STRICT_CONTEXT", "1", 1);
    json_decref(ask("/api/generate", 400,
                    "{'model':'llama-2-mha','raw':true,'prompt':'%s','stream':false,'options':{'num_ctx':64}}",
                    prompt));
    unsetenv("NIBBLE_STRICT_CONTEXT");
    /* a reply that grows beyond: shifted and told, or ended */
    r = ask("/api/generate", 200,
            "{'model':'llama-2-mha','raw':true,'prompt':'x','stream':false,'grammar':'root ::= [ab]{200}',"
            "'options':{'num_ctx':64,'num_predict':100}}");
    assert_int_equal(number_of(r, "eval_count"), 100);
    assert_true(number_of(r, "truncated") > 0);
    json_decref(r);
    r = ask("/api/generate", 200,
            "{'model':'llama-2-mha','raw':true,'prompt':'x','stream':false,'grammar':'root ::= [ab]{200}',"
            "'shift':false,'options':{'num_ctx':64,'num_predict':100}}");
    assert_true(number_of(r, "eval_count") < 64);
    check_end(r, "length");
    json_decref(r);
    /* who asks for no context does not get the short one of those before */
    r = ask("/api/generate", 200,
            "{'model':'llama-2-mha','raw':true,'prompt':'%s','stream':false,'options':{'num_predict':1}}", prompt);
    assert_int_equal(number_of(r, "prompt_eval_count"), all);
    assert_null(json_object_get(r, "truncated"));
    json_decref(r);
}

/* Asks, streamed and not. Some tokens were left out: that is in the last chunk, in the head where that is possible, in one
 * line of the log. Returns how many. */
static int64_t told(const char *path, const char *body, bool in_head)
{
    char value[512];
    int64_t count = 0;
    for (int streams = 0; streams < 2; streams++) {
        size_t lines = left_out + forgotten;
        snprintf(asked, sizeof asked, "{\"stream\":%s,%s}", streams ? "true" : "false", body);
        hc_reply h = hc_post(server.port, path, asked);
        if (h.status != 200)
            fail_msg("%d: %s", h.status, h.body);
        while (h.bytes && h.body[h.bytes - 1] == '\n')
            h.body[--h.bytes] = 0;
        const char *last = strrchr(h.body, '\n');
        json_t *r = json_loads(last ? last + 1 : h.body, JSON_ALLOW_NUL, NULL); /* a chance reply may hold one */
        assert_true(number_of(r, "truncated") > 0 && (!streams || number_of(r, "truncated") == count));
        count = number_of(r, "truncated");
        bool headed = hc_header(h.head, "X-Nibble-Truncated", value) != NULL;
        assert_int_equal(headed, !streams || in_head);
        assert_true(!headed || atoll(value) == count);
        assert_int_equal(left_out + forgotten, lines + 1);
        json_decref(r);
        hc_free(&h);
    }
    return count;
}

/* Nothing is left out in silence, by any way that a text can be too long; NIBBLE_STRICT_CONTEXT makes each of them an error. */
static void never_silent(void **state)
{
    static char words[3000], body[9000];
    static const char *const ends[] = {"'options':{'num_predict':2,'num_ctx':64,'temperature':0}",
                                       "'options':{'num_predict':2,'num_ctx':64,'temperature':0},'truncate':true"};
    (void)state;
    words[0] = 0;
    for (int i = 0; i < 100; i++)
        strcat(words, "word ");
    json_t *r;
    for (size_t i = 0; i < 2; i++) {
        char end[200];
        snprintf(end, sizeof end, "%s", ends[i]);
        for (char *p = end; *p; p++)
            *p = *p == '\'' ? '"' : *p;
        snprintf(body, sizeof body, "\"model\":\"llama-2-mha\",\"prompt\":\"%s\",%s", words, end);
        told("/api/generate", body, true);
        snprintf(body, sizeof body, "\"model\":\"llama-2-mha\",\"prompt\":\"x\",\"context\":[%s5],%s",
                 "5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,"
                 "5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,",
                 end);
        assert_true(told("/api/generate", body, true) >= 71 - 63);
        snprintf(body, sizeof body,
                 "\"model\":\"llama-2-mha\",\"messages\":[{\"role\":\"system\",\"content\":\"be\"},{\"role\":"
                 "\"user\",\"content\":\"%s\"},{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"user\","
                 "\"content\":\"b\"}],%s",
                 words, end);
        assert_true(told("/api/chat", body, true) > 60);
    }
    assert_true(told("/api/generate",
                     "\"model\":\"llama-2-mha\",\"raw\":true,\"prompt\":\"x\",\"grammar\":\"root ::= [ab]{200}\","
                     "\"options\":{\"num_ctx\":64,\"num_predict\":100,\"seed\":1}",
                     false) > 0);
    size_t lines = left_out;
    char value[512];
    snprintf(asked, sizeof asked, "{\"model\":\"bert\",\"input\":[\"%s%s%s\",\"word\"]}", words, words, words);
    hc_reply h = hc_post(server.port, "/api/embed", asked);
    assert_int_equal(h.status, 200);
    r = json_loads(h.body, JSON_ALLOW_NUL, NULL);
    assert_true(number_of(r, "truncated") > 0);
    assert_non_null(hc_header(h.head, "X-Nibble-Truncated", value));
    assert_int_equal(atoll(value), number_of(r, "truncated"));
    assert_int_equal(left_out, lines + 1);
    json_decref(r);
    hc_free(&h);
    r = ask("/api/embed", 200, "{'model':'bert','input':'word'}");
    assert_null(json_object_get(r, "truncated"));
    json_decref(r);
    setenv("NIBBLE_STRICT_CONTEXT", "1", 1);
    json_decref(ask("/api/embed", 400, "{'model':'bert','input':'%s%s%s'}", words, words, words));
    json_decref(ask("/api/generate", 400, "{'model':'llama-2-mha','prompt':'%s','options':{'num_ctx':64}}", words));
    json_decref(ask("/api/chat", 400,
                    "{'model':'llama-2-mha','messages':[{'role':'user','content':'%s'},{'role':'user','content':'b'}],"
                    "'options':{'num_ctx':64}}",
                    words));
    r = ask("/api/generate", 200, /* and a reply ends where the context does */
            "{'model':'llama-2-mha','raw':true,'prompt':'x','stream':false,'grammar':'root ::= [ab]{200}',"
            "'options':{'num_ctx':64,'num_predict':100}}");
    assert_true(number_of(r, "eval_count") < 64 && !json_object_get(r, "truncated"));
    check_end(r, "length");
    json_decref(r);
    unsetenv("NIBBLE_STRICT_CONTEXT");
}

/* ---- embeddings ---- */

static void check_norm(const json_t *vector, size_t n)
{
    double sum = 0;
    assert_int_equal(json_array_size(vector), n);
    for (size_t i = 0; i < n; i++)
        sum += pow(json_number_value(json_array_get(vector, i)), 2);
    assert_true(fabs(sum - 1) < 1e-5);
}

static void embeds(void **state)
{
    (void)state;
    json_t *one = ask("/api/embed", 200, "{'model':'bert','input':'some words'}"),
           *two = ask("/api/embed", 200, "{'model':'bert','input':['others','some words']}"),
           *part = ask("/api/embed", 200, "{'model':'bert','input':'some words','dimensions':8}"),
           *old = ask("/api/embeddings", 200, "{'model':'bert','prompt':'some words'}");
    const json_t *list = json_object_get(one, "embeddings"), *v = json_array_get(list, 0);
    size_t n = json_array_size(v);
    assert_true(json_array_size(list) == 1 && n >= 16);
    check_norm(v, n);
    assert_int_equal(json_array_size(json_object_get(two, "embeddings")), 2);
    for (size_t i = 0; i < n; i++) {
        double a = json_number_value(json_array_get(v, i));
        const json_t *b = json_array_get(json_array_get(json_object_get(two, "embeddings"), 1), i);
        assert_true(fabs(a - json_number_value(b)) < 1e-5);
    }
    check_norm(json_array_get(json_object_get(part, "embeddings"), 0), 8);
    assert_true(number_of(two, "prompt_eval_count") > number_of(one, "prompt_eval_count"));
    assert_true(number_of(one, "total_duration") >= number_of(one, "load_duration"));
    assert_int_equal(json_array_size(json_object_get(old, "embedding")), n);
    json_decref(one);
    json_decref(two);
    json_decref(part);
    json_decref(old);
    one = ask("/api/embed", 200, "{'model':'bert','input':[]}");
    assert_int_equal(json_array_size(json_object_get(one, "embeddings")), 0);
    json_decref(one);
    one = ask("/api/embed", 200, "{'model':'llama-2-mha','input':'a decoder has them too'}");
    assert_int_equal(json_array_size(json_object_get(one, "embeddings")), 1);
    json_decref(one);
    json_decref(ask("/api/embed", 400, "{'model':'bert','input':7}"));
    json_decref(ask("/api/embed", 400, "{'model':'bert','input':['a',7]}"));
    json_decref(ask("/api/embed", 400, "{'model':'bert','input':'a','dimensions':100000}"));
    json_decref(ask("/api/embed", 400, "{'model':'bert','input':'a','dimensions':0}"));
    char text[2100] = "";
    for (int i = 0; i < 400; i++)
        strcat(text, "man ");
    json_decref(ask("/api/embed", 200, "{'model':'bert','input':'%s'}", text));
    json_decref(ask("/api/embed", 400, "{'model':'bert','input':'%s','truncate':false}", text));
}

/* ---- errors ---- */

static void errors(void **state)
{
    static const struct {
        const char *path, *body, *words;
    } cases[] = {{"/api/generate", "'prompt':7", "\"prompt\" has to be a string"},
                 {"/api/generate", "'prompt':'x','stream':'no'", "\"stream\" has to be true or false"},
                 {"/api/generate", "'prompt':'x','raw':true,'system':'y'",
                  "raw mode does not support template, system, or context"},
                 {"/api/generate", "'prompt':'x','raw':true,'context':[1]", "raw mode does not support"},
                 {"/api/generate", "'prompt':'x','images':['aGk=']", "images"},
                 {"/api/generate", "'prompt':'x','options':{'temperature':'hot'}",
                  "option \"temperature\" must be of type float"},
                 {"/api/generate", "'prompt':'x','options':{'stop':'a'}", "option \"stop\" must be of"},
                 {"/api/generate", "'prompt':'x','options':[1]", "\"options\" has to be an object"},
                 {"/api/generate", "'prompt':'x','format':7", "\"format\""},
                 {"/api/generate", "'prompt':'x','keep_alive':{}", "\"keep_alive\""},
                 {"/api/chat", "'messages':{}", "\"messages\" has to be a list"},
                 {"/api/chat", "'messages':['x']", "message 0 has no role"},
                 {"/api/chat", "'messages':[{'content':'x'}]", "message 0 has no role"},
                 {"/api/chat", "'messages':[{'role':'nobody','content':'x'}]", "invalid role: nobody"},
                 {"/api/chat", "'messages':[{'role':'user','content':7}]", "\"content\""},
                 {"/api/chat", "'messages':[{'role':'user','content':'x','images':['aGk=']}]", "images"},
                 {"/api/chat", "'messages':[{'role':'user','content':'x'}],'tools':7", "\"tools\" has to be a list"},
                 {"/api/chat", "'messages':[{'role':'assistant','tool_calls':[{}]}]", "function.name"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *r = ask(cases[i].path, 400, "{'model':'qwen2',%s}", cases[i].body);
        if (!strstr(text_of(r, "error"), cases[i].words))
            fail_msg("%s: %s", cases[i].body, text_of(r, "error"));
        json_decref(r);
    }
    json_t *r = ask("/api/generate", 404, "{'model':'x','prompt':'y'}");
    assert_string_equal(text_of(r, "error"), "model 'x' not found");
    json_decref(r);
    r = ask("/api/generate", 400, "{'model':'bert','prompt':'y'}");
    assert_non_null(strstr(text_of(r, "error"), "writes no text"));
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generate),  cmocka_unit_test(contexts),       cmocka_unit_test(templates),
        cmocka_unit_test(options),   cmocka_unit_test(logprobs),       cmocka_unit_test(formats),
        cmocka_unit_test(loads),     cmocka_unit_test(lists),          cmocka_unit_test(chats),
        cmocka_unit_test(tools),     cmocka_unit_test(calls_in_lines), cmocka_unit_test(thinking),
        cmocka_unit_test(overflows), cmocka_unit_test(never_silent),   cmocka_unit_test(keeps_alive),
        cmocka_unit_test(embeds),    cmocka_unit_test(errors)};
    return cmocka_run_group_tests(tests, begin, end);
}
