#include "cli/api_client.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/env.h"
#include "cli/address.h"

enum { LONGEST_LINE = 256 << 20, LOOK_MS = 100, CONNECT_MS = 2000 };

struct nb_client {
    char url[320];
    bool local, named;
    CURL *easy;
    CURLM *multi;
    struct curl_slist *headers;
    const char *authorities; /* a file */
};

typedef struct exchange {
    const nb_client_call *call;
    nb_client *api;
    nb_buf line;
    nb_status status;
    nb_error *err;
} exchange;

/* ---- answers ---- */

/* {"error": "..."} or {"error": {"message": "..."}}; NULL: it is none */
static const char *error_of(const json_t *line)
{
    const json_t *error = json_object_get(line, "error");
    return json_string_value(json_is_object(error) ? json_object_get(error, "message") : error);
}

static long code_of(const exchange *x)
{
    long code = 0;
    curl_easy_getinfo(x->api->easy, CURLINFO_RESPONSE_CODE, &code);
    return code;
}

static nb_status status_of(long code)
{
    switch (code) {
    case 404: return NB_ERR_NOT_FOUND;
    case 429:
    case 503: return NB_ERR_LIMIT;
    default: return code >= 500 ? NB_ERR_IO : NB_ERR_ARGUMENT;
    }
}

static nb_status take_line(exchange *x)
{
    long code = code_of(x);
    nb_str text = nb_buf_view(&x->line);
    while (text.n && (text.p[text.n - 1] == '\r' || text.p[text.n - 1] == ' '))
        text.n--;
    json_error_t problem;
    json_t *line = text.n ? json_loadb(text.p, text.n, JSON_DECODE_ANY, &problem) : NULL;
    const char *error = error_of(line);
    nb_status status = NB_OK;
    if (code >= 400 && !error)
        status = nb_fail(x->err, status_of(code), "%s%s answers %ld: %.*s", x->api->url, x->call->path, code,
                         NB_STR_ARG(text));
    else if (error)
        status = nb_fail(x->err, code >= 400 ? status_of(code) : NB_ERR_IO, "%s", error);
    else if (text.n && !line)
        status = nb_fail(x->err, NB_ERR_FORMAT, "%s%s: the answer is no JSON (%s)", x->api->url, x->call->path,
                         problem.text);
    else if (line && x->call->line && !x->call->line(x->call->user, line))
        status = nb_fail(x->err, NB_ERR_CANCELLED, "stopped");
    json_decref(line);
    nb_buf_clear(&x->line);
    return status;
}

static size_t on_bytes(char *bytes, size_t one, size_t n, void *user)
{
    exchange *x = user;
    (void)one;
    for (size_t at = 0; at < n && x->status == NB_OK;) {
        const char *end = memchr(bytes + at, '\n', n - at);
        size_t length = end ? (size_t)(end - bytes) - at : n - at;
        nb_buf_add(&x->line, bytes + at, length);
        at += length + (end != NULL);
        if (x->line.failed || x->line.len > LONGEST_LINE)
            x->status = nb_fail_memory(x->err, "an answer", x->line.len);
        else if (end && code_of(x) < 400)
            x->status = take_line(x);
    }
    return x->status == NB_OK ? n : 0;
}

/* ---- calls ---- */

static nb_status fail_transfer(exchange *x, CURLcode code)
{
    const char *why = curl_easy_strerror(code);
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_OPERATION_TIMEDOUT)
        return nb_fail(x->err, NB_ERR_IO,
                       "no server answers at %s (%s); 'nibble serve' starts one, OLLAMA_HOST names another",
                       x->api->url, why);
    if (code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING)
        return nb_fail(x->err, NB_ERR_IO,
                       "the server at %s broke off in the middle of its answer (%s); does it still run?", x->api->url,
                       why);
    return nb_fail(x->err, NB_ERR_IO, "%s%s: %s", x->api->url, x->call->path, why);
}

static nb_status transfer(exchange *x)
{
    int running = 1, left;
    CURLM *multi = x->api->multi;
    CURLMcode code = curl_multi_add_handle(multi, x->api->easy);
    bool cancelled = false;
    while (code == CURLM_OK && running && !cancelled) {
        code = curl_multi_perform(multi, &running);
        if (code == CURLM_OK && running)
            code = curl_multi_poll(multi, NULL, 0, LOOK_MS, NULL);
        cancelled = running && x->call->cancelled && x->call->cancelled(x->call->user);
    }
    CURLcode result = CURLE_OK;
    const CURLMsg *message = curl_multi_info_read(multi, &left);
    if (message && message->msg == CURLMSG_DONE)
        result = message->data.result;
    nb_status status = x->status;
    if (cancelled)
        status = nb_fail(x->err, NB_ERR_CANCELLED, "stopped");
    else if (status == NB_OK && code != CURLM_OK)
        status = nb_fail(x->err, NB_ERR_IO, "%s: %s", x->api->url, curl_multi_strerror(code));
    else if (status == NB_OK && result != CURLE_OK)
        status = fail_transfer(x, result);
    else if (status == NB_OK && (x->line.len || code_of(x) >= 400))
        status = take_line(x);
    curl_multi_remove_handle(multi, x->api->easy);
    return status;
}

static void prepare(nb_client *a, const nb_client_call *call, const char *body, exchange *x, long timeout_ms)
{
    char url[400];
    CURL *easy = a->easy;
    snprintf(url, sizeof url, "%s%s", a->url, call->path);
    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, a->headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
    if (a->local)
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    if (a->authorities)
        curl_easy_setopt(easy, CURLOPT_CAINFO, a->authorities);
    if (body) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
    }
}

static nb_status call_within(nb_client *a, const nb_client_call *call, long timeout_ms, nb_error *err)
{
    exchange x = {.call = call, .api = a, .err = err};
    char *body = call->body ? json_dumps(call->body, JSON_COMPACT) : NULL;
    if (call->body && !body)
        return nb_fail_memory(err, "a request", 0);
    prepare(a, call, body, &x, timeout_ms);
    nb_status status = transfer(&x);
    nb_buf_free(&x.line);
    free(body);
    return status;
}

nb_status nb_client_do(nb_client *a, const nb_client_call *call, nb_error *err) { return call_within(a, call, 0, err); }

static bool keep_line(void *user, const json_t *line)
{
    json_t **out = user;
    json_decref(*out);
    *out = json_incref((json_t *)(uintptr_t)line);
    return true;
}

nb_status nb_client_ask(nb_client *a, const char *method, const char *path, const json_t *body, json_t **out,
                        nb_error *err)
{
    json_t *answer = NULL;
    nb_status status = nb_client_do(a, &(nb_client_call){method, path, body, keep_line, &answer, NULL}, err);
    if (status == NB_OK && out && !answer)
        status = nb_fail(err, NB_ERR_FORMAT, "%s%s answers nothing", a->url, path);
    if (status != NB_OK || !out)
        json_decref(answer);
    else
        *out = answer;
    return status;
}

nb_client_server nb_client_look(nb_client *a)
{
    json_t *answer = NULL;
    nb_client_call call = {"GET", "/api/version", NULL, keep_line, &answer, NULL};
    nb_client_server s = {.named = a->named};
    nb_error err;
    long code = 0;
    s.answers = call_within(a, &call, CONNECT_MS, &err) == NB_OK && answer;
    if (!s.answers && curl_easy_getinfo(a->easy, CURLINFO_RESPONSE_CODE, &code) == CURLE_OK)
        s.answers = code > 0; /* it wants a key, say: the next call will tell */
    s.is_nibble = json_object_get(answer, "nibble") != NULL;
    json_decref(answer);
    return s;
}

/* ---- opening ---- */

static bool is_local(const char *host)
{
    return strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

/* What a server listens on is not always what one connects to. */
static void write_url(nb_client *a, nb_address *at)
{
    if (strcmp(at->host, "0.0.0.0") == 0)
        snprintf(at->host, sizeof at->host, "127.0.0.1");
    if (strcmp(at->host, "::") == 0)
        snprintf(at->host, sizeof at->host, "::1");
    int port = at->port >= 0 ? at->port : at->secure ? 443 : at->scheme ? 80 : NB_ADDRESS_PORT;
    bool six = strchr(at->host, ':') != NULL;
    snprintf(a->url, sizeof a->url, "http%s://%s%s%s:%d", at->secure ? "s" : "", six ? "[" : "", at->host,
             six ? "]" : "", port);
    a->local = is_local(at->host);
}

static bool add_headers(nb_client *a)
{
    const char *key = nb_env_text("NIBBLE_API_KEY") ? nb_env_text("NIBBLE_API_KEY") : nb_env_text("OLLAMA_API_KEY");
    nb_buf header = {0};
    nb_buf_printf(&header, "Authorization: Bearer %s", key ? key : "");
    a->headers = curl_slist_append(NULL, "Content-Type: application/json");
    struct curl_slist *more = a->headers && key && !header.failed ? curl_slist_append(a->headers, header.data) : NULL;
    bool whole = a->headers && !header.failed && (!key || more);
    nb_buf_free(&header);
    return whole;
}

nb_status nb_client_open(nb_client **out, nb_error *err)
{
    const char *given = nb_env_text("OLLAMA_HOST");
    nb_address at = {.host = "127.0.0.1", .port = -1};
    *out = NULL;
    if (given && !nb_address_parse(given, &at))
        return nb_fail(err, NB_ERR_ARGUMENT, "OLLAMA_HOST=%s is no address; give HOST, HOST:PORT or [::1]:PORT", given);
    nb_client *a = curl_global_init(CURL_GLOBAL_DEFAULT) == 0 ? calloc(1, sizeof *a) : NULL;
    if (!a)
        return nb_fail_memory(err, "a connection", sizeof *a);
    a->named = given != NULL;
    a->authorities = nb_env_text("SSL_CERT_FILE");
    write_url(a, &at);
    a->easy = curl_easy_init();
    a->multi = curl_multi_init();
    if (!a->easy || !a->multi || !add_headers(a)) {
        nb_client_close(a);
        return nb_fail_memory(err, "a connection", 0);
    }
    *out = a;
    return NB_OK;
}

void nb_client_close(nb_client *a)
{
    if (!a)
        return;
    curl_slist_free_all(a->headers);
    curl_easy_cleanup(a->easy);
    curl_multi_cleanup(a->multi);
    free(a);
}

const char *nb_client_url(const nb_client *a) { return a->url; }
