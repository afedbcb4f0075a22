/* /v1/completions, /v1/embeddings and /v1/models. */
#include <stdlib.h>

#include "server/anthropic.h"
#include "server/embedding.h"
#include "server/openai.h"
#include "server/options_use.h"
#include "server/routes.h"

enum { PROMPTS = 1024, INPUTS = 65536 };

/* ---- texts or ids, one or many ---- */

static bool is_ids(const json_t *v) { return json_is_array(v) && json_is_integer(json_array_get(v, 0)); }

static void read_one(nb_body *b, const char *key, const json_t *v, nb_openai_prompt *out)
{
    const json_t *id;
    size_t i, n = json_array_size(v);
    if (json_is_string(v)) {
        out->text = nb_body_str(v);
        return;
    }
    int32_t *ids = is_ids(v) ? NB_ARRAY(&b->arena, int32_t, n) : NULL;
    if (!ids) {
        nb_body_fail(b, "\"%s\" has to be a text, a list of token ids, or a list of these", key);
        return;
    }
    json_array_foreach(v, i, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            nb_body_fail(b, "\"%s\" has something among its token ids that is none", key);
        ids[i] = (int32_t)json_integer_value(id);
    }
    out->ids = ids;
    out->count = n;
}

static nb_openai_prompt *read_prompts(nb_body *b, const char *key, size_t most, size_t *count)
{
    const json_t *v = json_object_get(b->root, key);
    bool many = json_is_array(v) && !is_ids(v);
    size_t n = many ? json_array_size(v) : 1;
    if (!v || json_is_null(v) || n == 0)
        nb_body_fail(b, "\"%s\" is missing or empty", key);
    if (n > most)
        nb_body_fail(b, "\"%s\" may have at most %zu entries", key, most);
    nb_openai_prompt *out = b->status == NB_OK ? NB_ARRAY(&b->arena, nb_openai_prompt, n) : NULL;
    if (!out) {
        nb_body_fail(b, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        read_one(b, key, many ? json_array_get(v, i) : v, &out[i]);
    *count = n;
    return out;
}

/* ---- completions ---- */

static void read_completion(nb_openai_request *q)
{
    nb_body *b = &q->api.body;
    nb_job_params *p = &q->api.job;
    int64_t top, best;
    q->prompts = read_prompts(b, "prompt", PROMPTS, &q->prompt_count);
    p->is_prompt = true;
    nb_body_text(b, b->root, "suffix", &p->suffix);
    p->raw = p->suffix.n == 0;
    nb_body_bool(b, b->root, "echo", &q->echo);
    if (nb_body_int(b, b->root, "logprobs", &top)) {
        if (top < 0 || top > NB_OPENAI_TOP)
            nb_body_fail(b, "\"logprobs\" has to be between 0 and %d", NB_OPENAI_TOP);
        p->task.logprobs = (int)top;
        if (q->echo)
            nb_body_fail(b, "\"logprobs\" of the prompt are not supported; leave out \"echo\"");
    }
    if (nb_body_int(b, b->root, "best_of", &best) && best != (int64_t)q->n)
        nb_body_fail(b, "\"best_of\" is not supported unless it equals \"n\"");
}

void nb_route_openai_completions(nb_http_request *r)
{
    nb_openai_request *q = nb_openai_read(r, false);
    if (!q)
        return;
    read_completion(q);
    nb_openai_answer(r, q);
}

/* ---- embeddings ---- */

typedef struct embedding {
    nb_api_request api;
    nb_embedding made;
    bool base64;
} embedding;

static void read_embedding(embedding *e)
{
    nb_body *b = &e->api.body;
    nb_str format = NB_STR("float");
    int64_t dimensions = 0;
    nb_openai_prompt *prompts = read_prompts(b, "input", INPUTS, &e->made.count);
    nb_body_text(b, b->root, "encoding_format", &format);
    e->base64 = nb_str_eqz(format, "base64");
    if (!e->base64 && !nb_str_eqz(format, "float"))
        nb_body_fail(b, "\"encoding_format\" has to be \"float\" or \"base64\"");
    if (nb_body_int(b, b->root, "dimensions", &dimensions) && dimensions < 1)
        nb_body_fail(b, "\"dimensions\" has to be positive");
    e->made.wanted = (size_t)dimensions;
    e->made.inputs = b->status == NB_OK ? NB_ARRAY(&b->arena, nb_embed_input, e->made.count) : NULL;
    if (!e->made.inputs) {
        nb_body_fail(b, "out of memory");
        return;
    }
    for (size_t i = 0; i < e->made.count; i++)
        e->made.inputs[i] = (nb_embed_input){
            .text = prompts[i].text.p, .bytes = prompts[i].text.n, .ids = prompts[i].ids, .count = prompts[i].count};
}

static void put_base64(nb_buf *out, const void *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0);
        nb_buf_char(out, digits[v >> 18]);
        nb_buf_char(out, digits[v >> 12 & 63]);
        nb_buf_char(out, left > 1 ? digits[v >> 6 & 63] : '=');
        nb_buf_char(out, left > 2 ? digits[v & 63] : '=');
    }
}

static void put_vector(const embedding *e, size_t i, nb_json *j)
{
    nb_json_key(j, "embedding");
    if (e->base64) {
        nb_buf text = {0};
        put_base64(&text, e->made.out + i * e->made.width, nb_embedding_size(&e->made) * sizeof *e->made.out);
        nb_json_str(j, nb_buf_view(&text));
        j->out->failed |= text.failed;
        nb_buf_free(&text);
        return;
    }
    nb_embedding_write(&e->made, i, j);
}

static void write_embeddings(const embedding *e, nb_buf *out)
{
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "object", "list");
    nb_json_key(&j, "data");
    nb_json_open(&j, '[');
    for (size_t i = 0; i < e->made.count; i++) {
        nb_json_open(&j, '{');
        nb_json_put_z(&j, "object", "embedding");
        nb_json_put_uint(&j, "index", i);
        put_vector(e, i, &j);
        nb_json_close(&j, '}');
    }
    nb_json_close(&j, ']');
    nb_api_put_str(&j, "model", e->api.job.model);
    nb_json_key(&j, "usage");
    nb_json_open(&j, '{');
    nb_json_put_uint(&j, "prompt_tokens", e->made.tokens);
    nb_json_put_uint(&j, "total_tokens", e->made.tokens);
    nb_json_close(&j, '}');
    nb_json_close(&j, '}');
}

void nb_route_openai_embeddings(nb_http_request *r)
{
    embedding e = {0};
    nb_body *b = &e.api.body;
    nb_buf out = {0};
    nb_api_read(r, &e.api);
    if (b->status == NB_OK)
        read_embedding(&e);
    if (b->status == NB_OK)
        b->status = nb_embedding_compute(r, e.api.job.model, &e.api.job.load, INT64_MIN, &e.made, &b->error);
    if (b->status == NB_OK) {
        write_embeddings(&e, &out);
        nb_http_json(r, 200, &out);
    } else {
        nb_http_fail(r, e.made.busy ? 503 : 0, &b->error);
    }
    free(e.made.out);
    nb_api_close(&e.api);
}

/* ---- models ---- */

static void put_model(nb_json *j, nb_entry *e)
{
    nb_json_open(j, '{');
    nb_json_put_z(j, "id", nb_entry_text(e));
    nb_json_put_z(j, "object", "model");
    nb_json_put_int(j, "created", (int64_t)nb_entry_modified(e).tv_sec);
    nb_json_put_z(j, "owned_by", "library");
    nb_json_close(j, '}');
}

void nb_route_openai_models(nb_http_request *r)
{
    nb_entry_list *list;
    nb_error err;
    nb_buf out = {0};
    if (nb_http_flavor_of(r) == NB_FLAVOR_ANTHROPIC) {
        nb_anthropic_models(r);
        return;
    }
    if (nb_library_list(nb_http_library(r), &list, &err) != NB_OK) {
        nb_http_fail(r, 0, &err);
        return;
    }
    nb_json j = nb_json_begin(&out, false);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "object", "list");
    nb_json_key(&j, "data");
    nb_json_open(&j, '[');
    for (size_t i = 0; i < nb_entry_list_count(list); i++)
        put_model(&j, nb_entry_list_at(list, i));
    nb_json_close(&j, ']');
    nb_json_close(&j, '}');
    nb_entry_list_release(list);
    nb_http_json(r, 200, &out);
}

void nb_route_openai_model(nb_http_request *r)
{
    nb_entry *e;
    nb_error err;
    nb_buf out = {0};
    if (nb_library_find(nb_http_library(r), nb_http_rest(r), &e, &err) != NB_OK) {
        nb_http_fail(r, 0, &err);
        return;
    }
    nb_json j = nb_json_begin(&out, false);
    if (nb_http_flavor_of(r) == NB_FLAVOR_ANTHROPIC)
        nb_anthropic_put_model(&j, e);
    else
        put_model(&j, e);
    nb_entry_release(e);
    nb_http_json(r, 200, &out);
}
