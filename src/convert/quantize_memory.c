/* A quantized model that lies in memory instead of in a file: an nb_gguf whose metadata is ours, whose kept tensors are the
 * source's own memory, and whose other tensors share one block. */
#include <stdlib.h>

#include "convert/quantize_internal.h"
#include "format/gguf_parse.h"

typedef struct holder { /* what the nb_gguf frees when it is closed */
    nb_source *source;
    nb_quantize_values values;
    unsigned char *memory;
    size_t bytes;
} holder;

static void release(void *owner)
{
    holder *h = owner;
    nb_pages_free(h->memory, h->bytes);
    nb_arena_free(&h->values.arena);
    free(h->values.items);
    nb_source_free(h->source);
    free(h);
}

/* A tensor that keeps its type and is mapped is borrowed; the others get their place in the block. */
static nb_status place_tensors(nb_gguf *g, holder *h, const nb_type_info *const *types, nb_quantize_job *jobs,
                               size_t *job_count, nb_error *err)
{
    const nb_source *s = h->source;
    size_t at = 0;
    for (size_t i = 0; i < s->tensor_count; i++) {
        const nb_source_tensor *t = &s->tensors[i];
        nb_gguf_tensor *out = &g->tensors[i];
        *out = (nb_gguf_tensor){.name = t->name, .type = types[i], .n_dims = t->n_dims, .data = t->data};
        memcpy(out->dims, t->dims, sizeof t->dims);
        size_t row = 0, end;
        nb_type_row_bytes(types[i], t->dims[0], &row);
        if (!nb_mul(row, (size_t)nb_source_rows(t), &out->bytes) || !nb_add(out->bytes, 64 + at, &end))
            return nb_fail_memory(err, s->path, SIZE_MAX);
        if (types[i] == t->type && t->data)
            continue;
        jobs[(*job_count)++] = (nb_quantize_job){.tensor = i, .type = types[i]};
        out->offset = at;
        at += nb_round_up(out->bytes, 64);
    }
    h->bytes = at;
    h->memory = at ? nb_pages_alloc(at) : NULL;
    if (at && !h->memory)
        return nb_fail_memory(err, s->path, at);
    for (size_t i = 0; i < *job_count; i++) {
        nb_gguf_tensor *out = &g->tensors[jobs[i].tensor];
        jobs[i].memory = h->memory + out->offset;
        out->data = jobs[i].memory;
    }
    return NB_OK;
}

static nb_status fill(nb_gguf *g, holder *h, const nb_quantize_params *p, nb_error *err)
{
    const nb_source *s = h->source;
    const nb_type_info **types = calloc(s->tensor_count + 1, sizeof *types);
    nb_quantize_job *jobs = calloc(s->tensor_count + 1, sizeof *jobs);
    nb_quantize_result result;
    size_t job_count = 0;
    nb_status status = types && jobs ? NB_OK : nb_fail_memory(err, s->path, s->tensor_count * sizeof *jobs);
    if (status == NB_OK)
        status = nb_quantize_plan(s, p, types, &result, err);
    if (status == NB_OK)
        status = nb_quantize_values_make(s, p, types, &h->values, err);
    if (status == NB_OK)
        status = place_tensors(g, h, types, jobs, &job_count, err);
    if (status == NB_OK)
        status = nb_quantize_rows(s, p, jobs, job_count, NULL, NULL, err);
    free(types);
    free(jobs);
    return status;
}

nb_status nb_quantize_to_memory(nb_source *s, const nb_quantize_params *p, nb_gguf **out, nb_error *err)
{
    nb_gguf *g = NULL;
    holder *h = calloc(1, sizeof *h);
    *out = NULL;
    if (!h) {
        nb_source_free(s);
        return nb_fail_memory(err, "a model in memory", sizeof *h);
    }
    h->source = s;
    nb_status status = nb_gguf_new(s->path, s->tensor_count, &g, err);
    if (status != NB_OK) {
        release(h);
        return status;
    }
    nb_gguf_own(g, h, release);
    status = fill(g, h, p, err);
    if (status == NB_OK)
        status = nb_gguf_finish(g, h->values.items, h->values.count, err);
    if (status == NB_OK)
        *out = g;
    else
        nb_gguf_close(g);
    return status;
}
