#include "server/api_request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "server/options_use.h"

enum { STOPS = 256, PASSED_OVER = 400 };

/* ---- the model ---- */

static void read_model(nb_http_request *r, nb_api_request *q)
{
    nb_body *b = &q->body;
    nb_entry_list *list;
    if (b->status != NB_OK || nb_body_text(b, b->root, "model", &q->job.model) || b->status != NB_OK)
        return;
    b->status = nb_library_list(nb_http_library(r), &list, &b->error);
    if (b->status != NB_OK)
        return;
    size_t n = nb_entry_list_count(list);
    const char *name = n == 1 ? nb_arena_strdup(&b->arena, nb_str_of(nb_entry_text(nb_entry_list_at(list, 0)))) : NULL;
    nb_entry_list_release(list);
    if (name)
        q->job.model = nb_str_of(name);
    else
        nb_body_fail(b, "\"model\" is missing; this server has %zu, /v1/models lists them", n);
}

static nb_status read_parameters(nb_http_request *r, nb_api_request *q, nb_error *err)
{
    nb_entry *entry;
    NB_TRY(nb_library_find(nb_http_library(r), q->job.model, &entry, err));
    nb_status status = nb_use_options(nb_http_service(r), entry, NB_STR(""), &q->body.arena, &q->job, err);
    nb_entry_release(entry);
    return status;
}

static void read_float(nb_body *b, const char *key, double least, double most, float *out)
{
    double value;
    if (!nb_body_number(b, b->root, key, &value))
        return;
    if (!(value >= least && value <= most))
        nb_body_fail(b, "\"%s\" has to be between %g and %g", key, least, most);
    *out = (float)value;
}

/* Temperature and top_p are the API's where the request does not say, not the model's. */
static void read_sampling(nb_api_request *q)
{
    nb_body *b = &q->body;
    nb_sampler_params *s = &q->job.task.sampling;
    int64_t k;
    s->temperature = s->top_p = 1;
    read_float(b, "temperature", 0, 100, &s->temperature);
    read_float(b, "top_p", 0, 1, &s->top_p);
    read_float(b, "min_p", 0, 1, &s->min_p);
    read_float(b, "repeat_penalty", 0, 100, &s->repeat_penalty);
    if (nb_body_int(b, b->root, "top_k", &k))
        s->top_k = k < 0 ? 0 : (int)(k > INT32_MAX ? INT32_MAX : k);
}

void nb_api_read(nb_http_request *r, nb_api_request *q)
{
    nb_body *b = &q->body;
    nb_body_open(b, nb_http_body(r));
    q->job = nb_job_defaults();
    q->job.overflow = NB_OVERFLOW_ERROR;
    q->job.gone = nb_http_gone;
    q->job.count = nb_http_count;
    q->job.gone_user = r;
    read_model(r, q);
    if (b->status == NB_OK)
        b->status = read_parameters(r, q, &b->error);
    q->job.task.user_key = nb_http_user(r);
    if (b->status != NB_OK)
        return;
    read_sampling(q);
    nb_body_bool(b, b->root, "stream", &q->stream);
    nb_body_text(b, b->root, "grammar", &q->job.grammar);
}

void nb_api_close(nb_api_request *q) { nb_body_close(&q->body); }

/* ---- fields ---- */

void nb_api_pass_over(nb_http_request *r, const nb_body *b, const char *known)
{
    const char *key;
    json_t *v;
    char word[44];
    nb_buf list = {0};
    json_object_foreach(b->root, key, v)
    {
        snprintf(word, sizeof word, " %.40s ", key);
        if (!json_is_null(v) && !strstr(known, word) && list.len < PASSED_OVER)
            nb_buf_printf(&list, "%s%.40s", list.len ? ", " : "", key);
    }
    if (list.len)
        nb_service_say(nb_http_service(r), "fields without effect here: %.*s%s", NB_STR_ARG(nb_buf_view(&list)),
                       list.len < PASSED_OVER ? "" : ", ...");
    nb_buf_free(&list);
}

static bool asks(const json_t *v)
{
    return v && !json_is_null(v) && !json_is_false(v) && !(json_is_array(v) && json_array_size(v) == 0) &&
           !(json_is_string(v) && (json_string_length(v) == 0 || nb_str_eqz(nb_body_str(v), "none")));
}

void nb_api_refuse(nb_body *b, const json_t *object, const char *const *fields, const char *instead)
{
    for (; *fields; fields++)
        if (asks(json_object_get(object, *fields)))
            nb_body_fail(b, "\"%s\" is not supported%s", *fields, instead);
}

void nb_api_stops(nb_api_request *q, const char *key)
{
    nb_body *b = &q->body;
    nb_task_params *t = &q->job.task;
    const json_t *v = json_object_get(b->root, key), *item;
    size_t i, n = json_is_array(v) ? json_array_size(v) : json_is_string(v);
    if (v && !json_is_null(v) && !json_is_string(v) && !json_is_array(v))
        nb_body_fail(b, "\"%s\" has to be a string or a list of strings", key);
    if (n > STOPS)
        nb_body_fail(b, "\"%s\" may have at most %d strings", key, STOPS);
    if (n == 0 || b->status != NB_OK)
        return;
    const char **stops = NB_ARRAY(&b->arena, const char *, n);
    if (!stops) {
        b->status = nb_fail_memory(&b->error, "stop strings", n * sizeof *stops);
        return;
    }
    for (i = 0; i < n; i++) {
        item = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_string(item) || strlen(json_string_value(item)) != json_string_length(item))
            nb_body_fail(b, "\"%s\" has to be a string or a list of strings, without zero bytes", key);
        else if (json_string_length(item) > 0)
            stops[i] = json_string_value(item);
    }
    size_t kept = 0;
    for (i = 0; i < n; i++)
        if (stops[i])
            stops[kept++] = stops[i];
    t->stops = stops;
    t->stop_count = q->stop_count = kept;
}

static nb_str part_text(nb_body *b, const json_t *part, const char *type2, const char *type3)
{
    nb_str type = {0}, text = NB_STR("");
    if (!nb_body_text(b, part, "type", &type))
        nb_body_fail(b, "a part of a content has no \"type\"");
    else if (nb_str_starts(type, NB_STR("image")) || nb_str_eqz(type, "input_image"))
        nb_body_fail(b, "images are not supported yet; send text only");
    else if (!nb_str_eqz(type, "text") && !(type2 && nb_str_eqz(type, type2)) && !(type3 && nb_str_eqz(type, type3)))
        nb_body_fail(b, "a content has a part of the type \"%.*s\"; only text is supported", NB_STR_ARG(type));
    else if (!nb_body_text(b, part, nb_str_eqz(type, "refusal") ? "refusal" : "text", &text))
        nb_body_fail(b, "a part of a content has no text");
    return text;
}

nb_str nb_api_content(nb_body *b, const json_t *content, const char *type2, const char *type3)
{
    const json_t *part;
    nb_buf joined = {0};
    size_t i;
    if (!content || json_is_null(content))
        return NB_STR("");
    if (json_is_string(content))
        return nb_body_str(content);
    if (!json_is_array(content)) {
        nb_body_fail(b, "\"content\" has to be a string or a list of parts");
        return NB_STR("");
    }
    json_array_foreach(content, i, part) nb_buf_str(&joined, part_text(b, part, type2, type3));
    const char *copy = joined.failed ? NULL : nb_arena_strdup(&b->arena, nb_buf_view(&joined));
    nb_str text = {copy ? copy : "", copy ? joined.len : 0};
    nb_buf_free(&joined);
    if (!copy && b->status == NB_OK)
        b->status = nb_fail_memory(&b->error, "a message", 0);
    return text;
}

void nb_api_effort(nb_api_request *q, nb_str effort)
{
    static const struct {
        const char *name, *level;
    } levels[] = {{"none", ""},         {"minimal", "low"}, {"low", "low"},
                  {"medium", "medium"}, {"high", "high"},   {"xhigh", "high"}};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (nb_str_eqz(effort, levels[i].name)) {
            q->job.think = i > 0;
            q->job.think_level = nb_str_of(levels[i].level);
            return;
        }
    nb_body_fail(&q->body, "\"%.*s\" is no effort; there are none, minimal, low, medium, high, xhigh",
                 NB_STR_ARG(effort));
}

void nb_api_tool_choice(nb_body *b, nb_job_params *p)
{
    static const char *const words[] = {
        [NB_TOOL_AUTO] = "auto", [NB_TOOL_NONE] = "none", [NB_TOOL_REQUIRED] = "required"};
    const json_t *v = json_object_get(b->root, "tool_choice"), *function = json_object_get(v, "function");
    if (!v || json_is_null(v))
        return;
    for (int i = NB_TOOL_AUTO; json_is_string(v) && i <= NB_TOOL_REQUIRED; i++)
        if (nb_str_eqz(nb_body_str(v), words[i])) {
            p->tool_choice = (nb_tool_choice)i;
            return;
        }
    if (json_is_object(v) && nb_body_text(b, function ? function : v, "name", &p->tool_name))
        p->tool_choice = NB_TOOL_NAMED;
    else
        nb_body_fail(b, "\"tool_choice\" has to be \"auto\", \"none\", \"required\" or {\"type\": \"function\", with "
                        "the function's name}");
}

nb_str nb_api_tool_name(const nb_job_message *messages, size_t count, nb_str id)
{
    for (size_t i = count; id.n && i-- > 0;)
        for (size_t k = 0; k < messages[i].call_count; k++)
            if (nb_str_eq(messages[i].calls[k].id, id))
                return messages[i].calls[k].name;
    return NB_STR("");
}

json_t *nb_api_tool(nb_str name, nb_str description, const json_t *parameters)
{
    json_t *function = json_object();
    json_object_set_new(function, "name", json_stringn(name.p, name.n));
    if (description.n)
        json_object_set_new(function, "description", json_stringn(description.p, description.n));
    json_object_set_new(function, "parameters",
                        parameters ? json_deep_copy(parameters)
                                   : json_pack("{s:s, s:{}}", "type", "object", "properties"));
    return json_pack("{s:s, s:o}", "type", "function", "function", function);
}

/* ---- replies ---- */

void nb_api_id(const char *prefix, char id[NB_API_ID])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char random[24];
    if (getrandom(random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random) { /* early in boot: time must do */
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        for (size_t i = 0; i < sizeof random; i++)
            random[i] = (unsigned char)((uint64_t)t.tv_nsec * (i + 1) * 0x9E3779B97F4A7C15u >> 56);
    }
    int n = snprintf(id, NB_API_ID, "%.20s", prefix);
    for (size_t i = 0; i < sizeof random; i++)
        id[n + (int)i] = letters[random[i] % (sizeof letters - 1)];
    id[n + (int)sizeof random] = 0;
}

void nb_api_put_raw(nb_json *j, const char *key, nb_str json)
{
    nb_json_key(j, key);
    nb_buf_str(j->out, json);
    j->after_key = false; /* written by hand */
}

void nb_api_put_str(nb_json *j, const char *key, nb_str value)
{
    nb_json_key(j, key);
    nb_json_str(j, value);
}

nb_str nb_api_piece(const nb_job *job, int32_t id, nb_buf *text)
{
    const nb_tokenizer *t = nb_served_model(nb_job_served(job))->tokenizer;
    nb_buf_clear(text);
    if (nb_tokenizer_bytes(t, id, text, NULL) != NB_OK || text->len == 0)
        nb_buf_str(text, nb_tokenizer_piece(t, id));
    return nb_buf_view(text);
}

static void put_token(nb_json *j, nb_str piece, float logprob)
{
    nb_api_put_str(j, "token", piece);
    nb_json_key(j, "logprob");
    nb_json_f32(j, logprob);
    nb_json_key(j, "bytes");
    nb_json_open(j, '[');
    for (size_t i = 0; i < piece.n; i++)
        nb_json_int(j, (unsigned char)piece.p[i]);
    nb_json_close(j, ']');
}

void nb_api_put_logprob(nb_buf *list, const nb_job *job, const nb_token_event *e, bool always)
{
    nb_buf text = {0};
    if (list->len)
        nb_buf_char(list, ',');
    nb_json j = nb_json_begin(list, false);
    nb_json_open(&j, '{');
    put_token(&j, e->piece, e->logprob);
    if (e->top_count || always) {
        nb_json_key(&j, "top_logprobs");
        nb_json_open(&j, '[');
        for (size_t i = 0; i < e->top_count; i++) {
            nb_json_open(&j, '{');
            put_token(&j, nb_api_piece(job, e->top[i].id, &text), e->top[i].logprob);
            nb_json_close(&j, '}');
        }
        nb_json_close(&j, ']');
    }
    nb_json_close(&j, '}');
    list->failed |= text.failed;
    nb_buf_free(&text);
}

void nb_api_tell_truncated(nb_http_request *r, size_t tokens)
{
    char text[60];
    if (tokens == 0)
        return;
    snprintf(text, sizeof text, "%zu tokens", tokens);
    nb_http_set(r, "X-Nibble-Truncated", text);
    nb_service_say(nb_http_service(r), "a request had %zu tokens too many for its context; they were left out", tokens);
}

void nb_api_event(nb_buf *out, const char *event, const nb_buf *json)
{
    if (event)
        nb_buf_printf(out, "event: %s\n", event);
    nb_buf_z(out, "data: ");
    nb_buf_str(out, nb_buf_view(json));
    nb_buf_z(out, "\n\n");
    out->failed |= json->failed;
}
