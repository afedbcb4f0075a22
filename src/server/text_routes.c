/* /tokenize, /detokenize and /apply-template: what a model makes of a text before it computes anything. */
#include "server/openai.h"
#include "server/routes.h"

/* A whole number of 0 or more and no wider than an id. */
static bool is_id(const json_t *v)
{
    return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= INT32_MAX;
}

static nb_status acquire(nb_http_request *r, nb_api_request *q, nb_served **m, nb_error *err)
{
    q->job.load.any_context = true;
    return nb_service_acquire(nb_http_service(r), q->job.model, &q->job.load, nb_http_gone, r, m, err);
}

/* ---- tokenize ---- */

static void put_piece(nb_json *j, const nb_tokenizer *t, int32_t id)
{
    nb_buf piece = {0};
    nb_json_open(j, '{');
    nb_json_put_int(j, "id", id);
    if (nb_tokenizer_decode(t, &id, 1, true, &piece, NULL) == NB_OK)
        nb_api_put_str(j, "piece", nb_buf_view(&piece));
    nb_json_close(j, '}');
    nb_buf_free(&piece);
}

static void write_ids(const nb_tokenizer *t, const nb_ids *ids, bool pieces, nb_buf *out)
{
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    nb_json_key(&j, "tokens");
    nb_json_open(&j, '[');
    for (size_t i = 0; i < ids->count; i++) {
        if (pieces)
            put_piece(&j, t, ids->id[i]);
        else
            nb_json_int(&j, ids->id[i]);
    }
    nb_json_close(&j, ']');
    nb_json_close(&j, '}');
}

void nb_route_tokenize(nb_http_request *r)
{
    nb_api_request q = {0};
    nb_body *b = &q.body;
    nb_str text = {0};
    bool special = false, parse = true, pieces = false;
    nb_served *m;
    nb_ids ids = {0};
    nb_buf out = {0};
    nb_api_read(r, &q);
    if (b->status == NB_OK && !nb_body_text(b, b->root, "content", &text))
        nb_body_fail(b, "\"content\" is missing");
    nb_body_bool(b, b->root, "add_special", &special);
    nb_body_bool(b, b->root, "parse_special", &parse);
    nb_body_bool(b, b->root, "with_pieces", &pieces);
    if (b->status == NB_OK && (b->status = acquire(r, &q, &m, &b->error)) == NB_OK) {
        const nb_tokenizer *t = nb_served_model(m)->tokenizer;
        unsigned flags = (special ? NB_ENCODE_ADD_SPECIAL : 0u) | (parse ? NB_ENCODE_PARSE_SPECIAL : 0u);
        b->status = nb_tokenizer_encode(t, text, flags, &ids, &b->error);
        if (b->status == NB_OK)
            write_ids(t, &ids, pieces, &out);
        nb_service_release(nb_http_service(r), m, INT64_MIN);
    }
    if (b->status == NB_OK)
        nb_http_json(r, 200, &out);
    else
        nb_http_fail(r, 0, &b->error);
    nb_ids_free(&ids);
    nb_api_close(&q);
}

/* ---- detokenize ---- */

static void read_ids(nb_body *b, nb_ids *ids)
{
    const json_t *list = nb_body_array(b, b->root, "tokens"), *v;
    size_t i;
    if (!list)
        nb_body_fail(b, "\"tokens\" is missing");
    json_array_foreach(list, i, v)
    {
        if (!is_id(v))
            nb_body_fail(b, "\"tokens\" has to be a list of token ids; number %zu is none", i);
        else if (!nb_ids_add(ids, (int32_t)json_integer_value(v)))
            nb_body_fail(b, "out of memory");
    }
}

void nb_route_detokenize(nb_http_request *r)
{
    nb_api_request q = {0};
    nb_body *b = &q.body;
    nb_served *m;
    nb_ids ids = {0};
    nb_buf text = {0}, out = {0};
    nb_api_read(r, &q);
    if (b->status == NB_OK)
        read_ids(b, &ids);
    if (b->status == NB_OK && (b->status = acquire(r, &q, &m, &b->error)) == NB_OK) {
        b->status = nb_tokenizer_decode(nb_served_model(m)->tokenizer, ids.id, ids.count, true, &text, &b->error);
        nb_service_release(nb_http_service(r), m, INT64_MIN);
    }
    if (b->status == NB_OK) {
        nb_json j = nb_json_begin(&out, false);
        nb_json_open(&j, '{');
        nb_api_put_str(&j, "content", nb_buf_view(&text));
        nb_json_close(&j, '}');
        out.failed |= text.failed;
        nb_http_json(r, 200, &out);
    } else {
        nb_http_fail(r, 0, &b->error);
    }
    nb_buf_free(&text);
    nb_ids_free(&ids);
    nb_api_close(&q);
}

/* ---- templates ---- */

void nb_route_apply_template(nb_http_request *r)
{
    nb_openai_request *q = nb_openai_read(r, true);
    nb_buf prompt = {0}, out = {0};
    nb_ids ids = {0};
    if (!q)
        return;
    nb_body *b = &q->api.body;
    nb_openai_read_chat(q);
    if (b->status == NB_OK)
        b->status = nb_job_render(nb_http_service(r), &q->api.job, &prompt, &ids, &b->error);
    if (b->status == NB_OK) {
        nb_json j = nb_json_begin(&out, false);
        nb_json_open(&j, '{');
        nb_api_put_str(&j, "prompt", nb_buf_view(&prompt));
        nb_json_close(&j, '}');
        nb_http_json(r, 200, &out);
    } else {
        nb_http_fail(r, 0, &b->error);
    }
    nb_buf_free(&prompt);
    nb_ids_free(&ids);
    nb_openai_free(q);
}
