/* /rerank: how well texts answer a query, by a model that ranks; the best first. */
#include <stdlib.h>

#include "server/api_request.h"
#include "server/routes.h"

enum { DOCUMENTS = 65536 };

typedef struct ranking {
    nb_api_request api;
    nb_str query;
    nb_embed_input *texts;
    size_t count, wanted;
    float *scores;
    size_t tokens;
    bool return_texts;
} ranking;

typedef struct place {
    size_t index;
    float score;
} place;

static void read_ranking(ranking *k)
{
    nb_body *b = &k->api.body;
    const json_t *list = nb_body_array(b, b->root, "documents"), *v;
    size_t i, n;
    int64_t top = INT64_MAX;
    if (!list)
        list = nb_body_array(b, b->root, "texts");
    n = json_array_size(list);
    if (!nb_body_text(b, b->root, "query", &k->query))
        nb_body_fail(b, "\"query\" is missing");
    if (n == 0 || n > DOCUMENTS)
        nb_body_fail(b, "\"documents\" has to be a list of 1 to %d texts", DOCUMENTS);
    if (nb_body_int(b, b->root, "top_n", &top) && top < 1)
        nb_body_fail(b, "\"top_n\" has to be positive");
    nb_body_bool(b, b->root, "return_documents", &k->return_texts);
    k->texts = b->status == NB_OK ? NB_ARRAY(&b->arena, nb_embed_input, n) : NULL;
    k->scores = k->texts ? NB_ARRAY(&b->arena, float, n) : NULL;
    if (!k->scores) {
        nb_body_fail(b, "out of memory");
        return;
    }
    json_array_foreach(list, i, v)
    {
        nb_str text = {0};
        if (json_is_string(v))
            text = nb_body_str(v);
        else if (!json_is_object(v) || !nb_body_text(b, v, "text", &text))
            nb_body_fail(b, "document %zu has to be a text or an object with \"text\"", i);
        k->texts[i] = (nb_embed_input){.text = text.p, .bytes = text.n};
    }
    k->count = n;
    k->wanted = (uint64_t)top < n ? (size_t)top : n;
}

static nb_status compute(nb_http_request *r, ranking *k, nb_error *err)
{
    nb_served *m;
    nb_embed_params p = nb_embed_defaults();
    k->api.job.load.embed = true;
    NB_TRY(nb_service_acquire(nb_http_service(r), k->api.job.model, &k->api.job.load, nb_http_gone, r, &m, err));
    size_t labels = nb_model_labels(nb_served_model(m));
    nb_status status = NB_OK;
    if (labels > 1)
        status = nb_fail(err, NB_ERR_UNSUPPORTED, "%.*s tells %zu labels apart; ranking takes a model with one",
                         NB_STR_ARG(k->api.job.model), labels);
    else
        status = nb_service_rank(nb_http_service(r), m, k->query.p, k->query.n, k->texts, k->count, &p, k->scores,
                                 &k->tokens, err);
    nb_http_count(r, nb_str_of(nb_entry_text(nb_served_entry(m))), &(nb_task_stats){.prompt_tokens = k->tokens});
    nb_service_release(nb_http_service(r), m, INT64_MIN);
    return status;
}

static int by_score(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static nb_status write_ranking(ranking *k, nb_buf *out, nb_error *err)
{
    place *places = NB_ARRAY(&k->api.body.arena, place, k->count);
    if (!places)
        return nb_fail_memory(err, "a ranking", k->count * sizeof *places);
    for (size_t i = 0; i < k->count; i++)
        places[i] = (place){i, k->scores[i]};
    qsort(places, k->count, sizeof *places, by_score);
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    nb_api_put_str(&j, "model", k->api.job.model);
    nb_json_put_z(&j, "object", "list");
    nb_json_key(&j, "results");
    nb_json_open(&j, '[');
    for (size_t i = 0; i < k->wanted; i++) {
        const nb_embed_input *text = &k->texts[places[i].index];
        nb_json_open(&j, '{');
        nb_json_put_uint(&j, "index", places[i].index);
        nb_json_key(&j, "relevance_score");
        nb_json_f32(&j, places[i].score);
        if (k->return_texts) {
            nb_json_key(&j, "document");
            nb_json_open(&j, '{');
            nb_api_put_str(&j, "text", (nb_str){text->text, text->bytes});
            nb_json_close(&j, '}');
        }
        nb_json_close(&j, '}');
    }
    nb_json_close(&j, ']');
    nb_json_key(&j, "usage");
    nb_json_open(&j, '{');
    nb_json_put_uint(&j, "prompt_tokens", k->tokens);
    nb_json_put_uint(&j, "total_tokens", k->tokens);
    nb_json_close(&j, '}');
    nb_json_close(&j, '}');
    return NB_OK;
}

void nb_route_rerank(nb_http_request *r)
{
    ranking k = {0};
    nb_body *b = &k.api.body;
    nb_buf out = {0};
    nb_api_read(r, &k.api);
    if (b->status == NB_OK)
        read_ranking(&k);
    if (b->status == NB_OK)
        b->status = compute(r, &k, &b->error);
    if (b->status == NB_OK)
        b->status = write_ranking(&k, &out, &b->error);
    if (b->status == NB_OK)
        nb_http_json(r, 200, &out);
    else
        nb_http_fail(r, 0, &b->error);
    nb_api_close(&k.api);
}
