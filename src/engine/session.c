/* A session: one sequence, its pages, its steps. */
#include "engine/engine.h"

#include <stdlib.h>

enum { DEFAULT_CONTEXT = 8192, DEFAULT_BATCH = 512 };

nb_session_params nb_session_defaults(void) { return (nb_session_params){0}; }

static nb_status read_kv_type(const nb_model *m, const char *name, nb_type *type, nb_error *err)
{
    const nb_type_info *info = name ? nb_type_by_name(nb_str_of(name)) : NULL;
    *type = m->weights_params.exact ? NB_TYPE_F32 : NB_TYPE_F16;
    if (!name)
        return NB_OK;
    if (!info || (info->id != NB_TYPE_F32 && info->id != NB_TYPE_F16 && info->id != NB_TYPE_BF16 &&
                  info->id != NB_TYPE_Q8_0 && info->id != NB_TYPE_Q4_0))
        return nb_fail(err, NB_ERR_ARGUMENT, "cache type \"%.40s\" is not one of f32, f16, bf16, q8_0, q4_0", name);
    *type = (nb_type)info->id;
    return NB_OK;
}

static nb_status check_context(const nb_model *m, size_t context, bool allowed, nb_error *err)
{
    size_t most = m->def->h.context;
    if (context <= most)
        return NB_OK;
    if (nb_model_weight(m->def, -1, NB_POSITION_EMBD) >= 0)
        return nb_fail(err, NB_ERR_LIMIT,
                       "a context of %zu is more than the %zu positions this model has; use at most that", context,
                       most);
    if (allowed)
        return NB_OK;
    return nb_fail(
        err, NB_ERR_LIMIT,
        "a context of %zu is more than the %zu positions this model was trained for; use at most that, stretch "
        "them (--rope-scaling yarn --rope-scale %zu), or insist (--allow-long-context)",
        context, most, (context + most - 1) / most);
}

nb_status nb_session_plan(const nb_model *m, const nb_session_params *params, nb_context_params *out, nb_error *err)
{
    if (m->plan.logits < 0 || !m->def->h.causal)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: a %s model reads whole texts and makes embeddings of them; it writes none (nibble embed)",
                       nb_gguf_path(m->gguf), m->def->arch->name);
    size_t context = params->context ? params->context : nb_min_size(m->def->h.context, DEFAULT_CONTEXT);
    size_t batch = nb_min_size(params->batch ? params->batch : DEFAULT_BATCH, context);
    NB_TRY(check_context(m, context, params->allow_long, err));
    *out = (nb_context_params){.max_tokens = batch,
                               .max_outputs = nb_min_size(params->outputs ? params->outputs : 1, batch),
                               .max_spans = 1,
                               .max_positions = context};
    NB_TRY(read_kv_type(m, params->kv_type, &out->kv_type, err));
    size_t all = (context + NB_PAGE - 1) / NB_PAGE;
    /* a step's queries see up to window - 1 positions before its first: the ring holds both, and a part of a page at
     * either end */
    size_t ring = ((size_t)m->def->h.window + batch + NB_PAGE - 1) / NB_PAGE + 1, layers[NB_GROUPS];
    nb_cache_groups(m->def, layers);
    out->pages[NB_GROUP_GLOBAL] = out->max_pages[NB_GROUP_GLOBAL] = layers[NB_GROUP_GLOBAL] ? all : 0;
    out->pages[NB_GROUP_LOCAL] = out->max_pages[NB_GROUP_LOCAL] = layers[NB_GROUP_LOCAL] ? nb_min_size(ring, all) : 0;
    return NB_OK;
}

nb_status nb_session_memory(const nb_model *m, const nb_context_params *params, nb_memory *memory, nb_error *err)
{
    *memory = (nb_memory){0};
    NB_TRY(m->backend->weights_memory(m->def, &m->plan, &m->weights_params, memory, err));
    return m->backend->context_memory(m->def, &m->plan, &m->weights_params, params, memory, err);
}

static nb_status session_fill(nb_session *s, const nb_session_params *params, nb_error *err)
{
    NB_TRY(nb_session_plan(s->model, params, &s->params, err));
    /* the context first: it is the largest, and what does not fit is refused before anything is filled */
    NB_TRY(s->model->backend->context_new(s->model->weights, &s->params, &s->context, err));
    for (int g = 0; g < NB_GROUPS; g++) {
        s->pages[g] = calloc(s->params.max_pages[g] + 1, sizeof *s->pages[g]);
        if (!s->pages[g])
            return nb_fail(err, NB_ERR_MEMORY, "out of memory");
        for (size_t i = 0; i < s->params.max_pages[g]; i++) /* one sequence owns the whole pool */
            s->pages[g][i] = (uint32_t)i;
    }
    s->outputs = calloc(s->params.max_outputs, sizeof *s->outputs);
    s->tokens = calloc(s->params.max_positions, sizeof *s->tokens);
    if (!s->outputs || !s->tokens)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    return NB_OK;
}

nb_status nb_session_open(nb_model *m, const nb_session_params *params, nb_session **out, nb_error *err)
{
    nb_session_params defaults = nb_session_defaults();
    *out = NULL;
    if (!m->weights)
        return nb_fail(err, NB_ERR_ARGUMENT, "the model was opened for a look only");
    nb_session *s = calloc(1, sizeof *s);
    if (!s)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    s->model = m;
    nb_status status = session_fill(s, params ? params : &defaults, err);
    if (status != NB_OK) {
        nb_session_close(s);
        return status;
    }
    *out = s;
    return NB_OK;
}

void nb_session_close(nb_session *s)
{
    if (!s)
        return;
    if (s->context)
        s->model->backend->context_free(s->context);
    for (int g = 0; g < NB_GROUPS; g++)
        free(s->pages[g]);
    free(s->outputs);
    free(s->tokens);
    free(s);
}

static nb_status check_ids(const nb_session *s, const int32_t *ids, size_t count, nb_logits logits, nb_error *err)
{
    size_t vocabulary = s->model->def->h.vocab;
    if (count == 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "no tokens to compute");
    if (logits == NB_LOGITS_ALL && count > s->params.max_outputs)
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "logits of %zu tokens are asked for; this session gives at most %zu at a time", count,
                       s->params.max_outputs);
    if (count > s->params.max_positions - s->position)
        return nb_fail(err, NB_ERR_LIMIT,
                       "the context is full: %zu positions hold %zu tokens and %zu more do not fit; use a larger --ctx",
                       s->params.max_positions, s->position, count);
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= vocabulary)
            return nb_fail(err, NB_ERR_ARGUMENT, "token %zu is %d; ids are 0 to %zu", i, ids[i], vocabulary - 1);
    return NB_OK;
}

static nb_status run_chunk(nb_session *s, const int32_t *ids, size_t count, size_t first_output, nb_error *err)
{
    nb_span span = {.first = 0, .count = count, .position = (int64_t)s->position, .length = s->length};
    for (int g = 0; g < NB_GROUPS; g++) {
        span.pages[g] = s->pages[g];
        span.page_count[g] = s->params.max_pages[g];
    }
    s->rows = count - first_output;
    for (size_t i = 0; i < s->rows; i++)
        s->outputs[i] = (uint32_t)(first_output + i);
    nb_batch batch = {
        .tokens = ids, .n_tokens = count, .spans = &span, .n_spans = 1, .outputs = s->outputs, .n_outputs = s->rows};
    pthread_mutex_lock(&s->model->lock);
    nb_status status = s->model->backend->run(s->context, &batch, err);
    pthread_mutex_unlock(&s->model->lock);
    if (status == NB_OK) {
        size_t ring = s->params.max_pages[NB_GROUP_LOCAL] * NB_PAGE;
        memmove(s->tokens + s->position, ids, count * sizeof *ids); /* computing again, they are these */
        s->position += count;
        if (ring && s->position > ring) /* a position shares its slot with the one `ring` later */
            s->oldest = nb_max_size(s->oldest, s->position - ring);
    }
    return status;
}

/* Where frequencies follow the length: true when what is held turned by others than a text of `end` tokens does, and that
 * counts. Dynamic scaling lets keys be as the text grows; after going back they would be those of another text. */
static bool choose_kind(nb_session *s, size_t end)
{
    const nb_rope *const ropes[NB_GROUPS] = {&s->model->def->h.rope, &s->model->def->h.rope_local};
    bool stale = false;
    for (int g = 0; g < NB_GROUPS; g++) {
        size_t kind = nb_rope_kind(ropes[g], end);
        stale |= kind != s->kind[g] && (s->rewound || ropes[g]->scaling == NB_ROPE_LONGROPE);
        s->kind[g] = kind;
    }
    s->rewound = false;
    return stale && s->position > 0;
}

/* what is held, once more */
static nb_status compute_again(nb_session *s, nb_error *err)
{
    size_t held = s->position;
    s->position = s->oldest = 0;
    for (size_t done = 0; done < held;) {
        size_t n = nb_min_size(held - done, s->params.max_tokens);
        NB_TRY(run_chunk(s, s->tokens + done, n, n, err));
        done += n;
    }
    return NB_OK;
}

nb_status nb_session_eval(nb_session *s, const int32_t *ids, size_t count, nb_logits logits, nb_error *err)
{
    NB_TRY(check_ids(s, ids, count, logits, err));
    s->length = s->position + count;
    if (choose_kind(s, s->length))
        NB_TRY(compute_again(s, err));
    for (size_t done = 0; done < count;) {
        size_t n = nb_min_size(count - done, s->params.max_tokens);
        bool last = done + n == count;
        size_t first_output = logits == NB_LOGITS_ALL ? 0 : logits == NB_LOGITS_LAST && last ? n - 1 : n;
        NB_TRY(run_chunk(s, ids + done, n, first_output, err));
        done += n;
    }
    return NB_OK;
}

const float *nb_session_row(const nb_session *s, size_t i)
{
    return i < s->rows ? s->model->backend->logits(s->context, i) : NULL;
}

size_t nb_session_match(const nb_session *s, const int32_t *ids, size_t count)
{
    size_t same = 0;
    while (same < s->position && same < count && s->tokens[same] == ids[same])
        same++;
    return same;
}

size_t nb_session_position(const nb_session *s) { return s->position; }
size_t nb_session_capacity(const nb_session *s) { return s->params.max_positions; }

nb_status nb_session_rewind(nb_session *s, size_t position, nb_error *err)
{
    if (position > s->position)
        return nb_fail(err, NB_ERR_ARGUMENT, "cannot go back to position %zu: only %zu are held", position,
                       s->position);
    /* the query at `position` sees window - 1 positions before it; what was overwritten stays so after going back */
    size_t seen = s->model->def->h.window > 0 ? (size_t)s->model->def->h.window - 1 : 0;
    if (position && s->oldest && position < s->oldest + seen)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "cannot go back to position %zu: the window layers hold no positions before %zu any more",
                       position, s->oldest);
    s->rewound |= position < s->position;
    s->position = position;
    s->oldest = position ? s->oldest : 0;
    s->rows = 0;
    return NB_OK;
}
