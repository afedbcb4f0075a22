/* /, /api/version, tags, ps, show, embed and embeddings. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/embedding.h"
#include "server/ollama.h"
#include "server/options_use.h"
#include "server/routes.h"

enum { LOADED = 64, INPUTS = 65536 };

void nb_route_root(nb_http_request *r)
{
    nb_http_reply(r, 200, "text/plain; charset=utf-8", NB_STR("Ollama is running"));
}

/* Clients compare it with Ollama's own: the release whose API this is. */
void nb_route_version(nb_http_request *r)
{
    nb_buf out = {0};
    nb_json j = nb_json_begin(&out, false);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "version", "0.32.0");
    nb_json_put_z(&j, "nibble", nb_version());
    nb_json_close(&j, '}');
    nb_http_json(r, 200, &out);
}

static void put_str(nb_json *j, const char *key, nb_str value)
{
    nb_json_key(j, key);
    nb_json_str(j, value);
}

static void put_capabilities(nb_json *j, unsigned capabilities)
{
    nb_json_key(j, "capabilities");
    nb_json_open(j, '[');
    for (int i = 0; i < NB_CAPABILITIES; i++)
        if (capabilities >> i & 1)
            nb_json_z(j, nb_capability_name(i));
    nb_json_close(j, ']');
}

static const nb_details *details_of(nb_entry *e)
{
    static const nb_details none;
    const nb_details *d;
    return nb_entry_details(e, &d, NULL) == NB_OK ? d : &none;
}

/* sizes: with those that only a list has */
static void put_details(nb_json *j, nb_entry *e, bool sizes)
{
    const nb_details *d = details_of(e);
    nb_json_key(j, "details");
    nb_json_open(j, '{');
    put_str(j, "parent_model", d->parent_model);
    put_str(j, "format", d->format);
    put_str(j, "family", d->family);
    nb_json_key(j, "families");
    nb_json_open(j, '[');
    for (size_t i = 0; i < d->family_count; i++)
        nb_json_str(j, d->families[i]);
    nb_json_close(j, ']');
    put_str(j, "parameter_size", d->parameter_size);
    put_str(j, "quantization_level", d->quantization_level);
    if (sizes && d->context_length)
        nb_json_put_uint(j, "context_length", d->context_length);
    if (sizes && d->embedding_length)
        nb_json_put_uint(j, "embedding_length", d->embedding_length);
    nb_json_close(j, '}');
}

static void put_entry(nb_json *j, nb_entry *e)
{
    nb_json_put_z(j, "name", nb_entry_text(e));
    nb_json_put_z(j, "model", nb_entry_text(e));
}

nb_status nb_ollama_tags(nb_library *library, nb_buf *out, nb_ollama_problem_fn *problem, void *user, nb_error *err)
{
    nb_entry_list *list;
    NB_TRY(nb_library_list(library, &list, err));
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    nb_json_key(&j, "models");
    nb_json_open(&j, '[');
    for (size_t i = 0; i < nb_entry_list_count(list); i++) {
        nb_entry *e = nb_entry_list_at(list, i);
        struct timespec modified = nb_entry_modified(e);
        char text[40];
        nb_time_text((int64_t)modified.tv_sec * 1000000000 + modified.tv_nsec, text);
        nb_json_open(&j, '{');
        put_entry(&j, e);
        nb_json_put_z(&j, "modified_at", text);
        nb_json_put_uint(&j, "size", nb_entry_size(e));
        nb_json_put_z(&j, "digest", nb_entry_digest(e));
        put_details(&j, e, true);
        put_capabilities(&j, details_of(e)->capabilities);
        nb_json_close(&j, '}');
    }
    nb_json_close(&j, ']');
    nb_json_close(&j, '}');
    for (size_t i = 0; i < nb_entry_list_problems(list); i++)
        problem(user, nb_entry_list_problem(list, i));
    nb_entry_list_release(list);
    return out->failed ? nb_fail_memory(err, "the list of models", out->len) : NB_OK;
}

static void log_problem(void *service, const char *text) { nb_service_say(service, "%s", text); }

void nb_route_tags(nb_http_request *r)
{
    nb_error err;
    nb_buf out = {0};
    if (nb_ollama_tags(nb_http_library(r), &out, log_problem, nb_http_service(r), &err) == NB_OK) {
        nb_http_json(r, 200, &out);
        return;
    }
    nb_buf_free(&out);
    nb_http_fail(r, 0, &err);
}

void nb_route_ps(nb_http_request *r)
{
    nb_served_info info[LOADED];
    nb_buf out = {0};
    size_t n = nb_min_size(nb_service_list(nb_http_service(r), info, LOADED), LOADED);
    nb_json j = nb_json_begin(&out, false);
    nb_json_open(&j, '{');
    nb_json_key(&j, "models");
    nb_json_open(&j, '[');
    for (size_t i = 0; i < n; i++) {
        char text[40];
        bool never = info[i].expires_at_ns == INT64_MAX;
        nb_time_text(never ? nb_time_now() + (int64_t)1000000000 * 86400 * 36525 : info[i].expires_at_ns, text);
        nb_json_open(&j, '{');
        put_entry(&j, info[i].entry);
        nb_json_put_uint(&j, "size", info[i].bytes);
        nb_json_put_z(&j, "digest", info[i].digest);
        put_details(&j, info[i].entry, false);
        nb_json_put_z(&j, "expires_at", text);
        nb_json_put_uint(&j, "size_vram", 0);
        nb_json_put_uint(&j, "context_length", info[i].context);
        nb_json_close(&j, '}');
        nb_entry_release(info[i].entry);
    }
    nb_json_close(&j, ']');
    nb_json_close(&j, '}');
    nb_http_json(r, 200, &out);
}

/* ---- show ---- */

static void put_texts(nb_json *j, nb_entry *e, const nb_contents *c, nb_buf *text)
{
    nb_buf_clear(text);
    for (size_t i = 0; i < c->license_count; i++) {
        if (i)
            nb_buf_char(text, '\n');
        nb_buf_str(text, c->licenses[i]);
    }
    if (text->len)
        put_str(j, "license", nb_buf_view(text));
    nb_buf_clear(text);
    if (nb_entry_modelfile(e, text, NULL) == NB_OK)
        put_str(j, "modelfile", nb_buf_view(text));
    nb_buf_clear(text);
    if (nb_entry_parameters(e, text, NULL) == NB_OK && text->len)
        put_str(j, "parameters", nb_buf_view(text));
    nb_str source;
    bool is_go;
    if (nb_entry_template(e, &source, &is_go, NULL) == NB_OK && source.n)
        put_str(j, "template", source);
    if (c->system.n)
        put_str(j, "system", c->system);
    if (c->message_count) {
        nb_json_key(j, "messages");
        nb_json_open(j, '[');
        for (size_t i = 0; i < c->message_count; i++) {
            nb_json_open(j, '{');
            put_str(j, "role", c->messages[i].role);
            put_str(j, "content", c->messages[i].content);
            nb_json_close(j, '}');
        }
        nb_json_close(j, ']');
    }
}

nb_status nb_ollama_show(nb_entry *e, bool verbose, nb_buf *out, nb_error *err)
{
    const nb_contents *c;
    nb_source *source = NULL;
    char modified[40];
    nb_buf text = {0};
    NB_TRY(nb_entry_contents(e, &c, err));
    NB_TRY(nb_entry_open(e, &source, err));
    struct timespec t = nb_entry_modified(e);
    nb_time_text((int64_t)t.tv_sec * 1000000000 + t.tv_nsec, modified);
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    put_texts(&j, e, c, &text);
    put_details(&j, e, false);
    nb_json_key(&j, "model_info");
    nb_model_info_write(source, details_of(e)->parameters, verbose, &j);
    nb_json_key(&j, "tensors");
    nb_tensors_write(source, &j);
    put_capabilities(&j, details_of(e)->capabilities);
    nb_json_put_z(&j, "modified_at", modified);
    if (c->config.requires_.n)
        put_str(&j, "requires", c->config.requires_);
    nb_json_close(&j, '}');
    out->failed |= text.failed;
    nb_source_free(source);
    nb_buf_free(&text);
    return out->failed ? nb_fail_memory(err, "what a model says", out->len) : NB_OK;
}

static void show(nb_http_request *r, nb_entry *e, bool verbose)
{
    nb_error err;
    nb_buf out = {0};
    if (nb_ollama_show(e, verbose, &out, &err) == NB_OK) {
        nb_http_json(r, 200, &out);
        return;
    }
    nb_buf_free(&out);
    nb_http_fail(r, 0, &err);
}

void nb_route_show(nb_http_request *r)
{
    nb_body b;
    nb_str model = {0};
    bool verbose = false;
    nb_entry *e;
    nb_body_open(&b, nb_http_body(r));
    if (b.status == NB_OK && !nb_body_text(&b, b.root, "model", &model) && !nb_body_text(&b, b.root, "name", &model))
        nb_body_fail(&b, "\"model\" is missing");
    if (b.status == NB_OK)
        nb_body_bool(&b, b.root, "verbose", &verbose);
    if (b.status == NB_OK)
        b.status = nb_library_find(nb_http_library(r), model, &e, &b.error);
    if (b.status == NB_OK) {
        show(r, e, verbose);
        nb_entry_release(e);
    } else {
        nb_http_fail(r, 0, &b.error);
    }
    nb_body_close(&b);
}

/* ---- embeddings ---- */

typedef struct embedding {
    nb_ollama_request q; /* first: who frees it frees all */
    nb_embedding made;
    double start;
} embedding;

static void read_inputs(embedding *e, const char *key)
{
    nb_body *b = &e->q.body;
    const json_t *v = json_object_get(b->root, key), *item;
    size_t i, n = json_is_array(v) ? json_array_size(v) : json_is_string(v);
    if (!json_is_string(v) && !json_is_array(v) && v && !json_is_null(v))
        nb_body_fail(b, "\"%s\" has to be a text or a list of texts", key);
    if (n > INPUTS)
        nb_body_fail(b, "at most %d texts are taken", INPUTS);
    e->made.inputs = NB_ARRAY(&b->arena, nb_embed_input, n + 1);
    if (!e->made.inputs || b->status != NB_OK)
        return;
    e->made.count = n;
    if (json_is_string(v))
        e->made.inputs[0] = (nb_embed_input){.text = json_string_value(v), .bytes = json_string_length(v)};
    json_array_foreach(v, i, item)
    {
        if (!json_is_string(item))
            nb_body_fail(b, "\"%s\" %zu has to be a text", key, i);
        e->made.inputs[i] = (nb_embed_input){.text = json_string_value(item), .bytes = json_string_length(item)};
    }
}

static void write_embeddings(embedding *e, bool old, nb_buf *out)
{
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    if (old) {
        nb_json_key(&j, "embedding");
        if (e->made.count) {
            nb_embedding_write(&e->made, 0, &j);
        } else {
            nb_json_open(&j, '[');
            nb_json_close(&j, ']');
        }
    } else {
        put_str(&j, "model", e->q.model);
        nb_json_key(&j, "embeddings");
        nb_json_open(&j, '[');
        for (size_t i = 0; i < e->made.count; i++)
            nb_embedding_write(&e->made, i, &j);
        nb_json_close(&j, ']');
        nb_json_put_int(&j, "total_duration", (int64_t)((nb_seconds() - e->start) * 1e9));
        nb_json_put_int(&j, "load_duration", (int64_t)((e->made.loaded - e->start) * 1e9));
        nb_json_put_uint(&j, "prompt_eval_count", e->made.tokens);
    }
    if (e->made.truncated)
        nb_json_put_uint(&j, "truncated", e->made.truncated);
    nb_json_close(&j, '}');
}

static void embed(nb_http_request *r, bool old)
{
    embedding *e = calloc(1, sizeof *e);
    int64_t dimensions = 0;
    nb_error err;
    nb_buf out = {0};
    if (!e) {
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        return;
    }
    e->start = nb_seconds();
    if (!nb_ollama_read(r, &e->q)) /* which frees it */
        return;
    read_inputs(e, old ? "prompt" : "input");
    if (nb_body_int(&e->q.body, e->q.body.root, "dimensions", &dimensions) && dimensions < 1)
        nb_body_fail(&e->q.body, "\"dimensions\" has to be positive");
    e->made.wanted = (size_t)dimensions;
    e->made.truncate = e->q.job.overflow == NB_OVERFLOW_TRUNCATE;
    if (e->q.body.status != NB_OK) {
        nb_ollama_refuse(r, &e->q);
        return;
    }
    const nb_job_params *p = &e->q.job;
    if (nb_embedding_compute(r, e->q.model, &p->load, p->keep_alive_ns, &e->made, &err) == NB_OK) {
        write_embeddings(e, old, &out);
        nb_http_json(r, 200, &out);
    } else {
        nb_http_fail(r, e->made.busy ? 503 : 0, &err);
    }
    free(e->made.out);
    nb_ollama_free(&e->q);
}

void nb_route_embed(nb_http_request *r) { embed(r, false); }
void nb_route_embeddings(nb_http_request *r) { embed(r, true); }
