#include "server/embedding.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/api_request.h"

/* A part of a normalised vector is normalised anew. */
static void cut(nb_embedding *e)
{
    for (size_t i = 0; e->wanted && i < e->count; i++) {
        float *v = e->out + i * e->width;
        double sum = 0;
        for (size_t k = 0; k < e->wanted; k++)
            sum += (double)v[k] * (double)v[k];
        for (size_t k = 0; k < e->wanted && sum > 0; k++)
            v[k] = (float)((double)v[k] / sqrt(sum));
    }
}

nb_status nb_embedding_compute(nb_http_request *r, nb_str model, const nb_load_options *options, int64_t keep_alive_ns,
                               nb_embedding *e, nb_error *err)
{
    nb_service *s = nb_http_service(r);
    nb_served *m;
    nb_embed_params p = nb_embed_defaults();
    nb_load_options load = *options;
    p.truncate = e->truncate;
    p.truncated = &e->truncated;
    p.normalize = NB_NORMALIZE_YES;
    load.embed = true;
    nb_status status = nb_service_acquire(s, model, &load, nb_http_gone, r, &m, err);
    e->busy = status == NB_ERR_LIMIT;
    NB_TRY(status);
    e->loaded = nb_seconds();
    e->width = nb_model_embedding(nb_served_model(m));
    if (e->wanted > e->width)
        status = nb_fail(err, NB_ERR_ARGUMENT, "\"dimensions\" is %zu; the model has %zu", e->wanted, e->width);
    if (status == NB_OK && e->count) {
        e->out = calloc(e->count * e->width, sizeof *e->out);
        status = e->out ? nb_service_embed(s, m, e->inputs, e->count, &p, e->out, &e->tokens, err)
                        : nb_fail_memory(err, "embeddings", e->count * e->width * sizeof *e->out);
    }
    nb_http_count(r, nb_str_of(nb_entry_text(nb_served_entry(m))), &(nb_task_stats){.prompt_tokens = e->tokens});
    nb_service_release(s, m, keep_alive_ns);
    if (status == NB_OK)
        cut(e);
    if (status == NB_OK)
        nb_api_tell_truncated(r, e->truncated);
    return status;
}

void nb_embedding_write(const nb_embedding *e, size_t i, nb_json *j)
{
    const float *v = e->out + i * e->width;
    nb_json_open(j, '[');
    for (size_t k = 0; k < nb_embedding_size(e); k++)
        nb_json_f32(j, v[k]);
    nb_json_close(j, ']');
}
