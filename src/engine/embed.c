/* Embeddings: texts through the layers without the head, several in a step, one vector made of each.
 *
 * A step is packed with spans of whole texts, without padding between them. A text that every token sees whole must be in
 * one step; a causal one may go on in the next. Pages of the cache are taken in turn from a ring that holds the texts of
 * two steps, so nothing is ever moved or freed. */
#include "engine/embed_prompt.h"
#include "engine/engine.h"
#include "format/embedding_keys.h"

#include <math.h>
#include <stdlib.h>

enum { DEFAULT_BATCH = 512, MOST_SPANS = 128 };

nb_embed_params nb_embed_defaults(void) { return (nb_embed_params){.normalize = NB_NORMALIZE_MODEL}; }

size_t nb_model_embedding(const nb_model *m) { return m->embed_head.width; }
size_t nb_model_labels(const nb_model *m) { return m->classifier.count ? m->classifier.width : 0; }

typedef struct piece {    /* a span of the step */
    size_t text, outputs; /* whose; wanted rows */
} piece;

typedef struct embedding {
    nb_model *model;
    nb_pooling pooling;
    bool normalize;
    size_t width; /* of hidden states */
    nb_str prompt;
    const nb_str *query; /* of pairs; NULL: single texts */
    const nb_embed_head *head;
    bool typed; /* pairs, of a model that tells the second text from the first */
    size_t cut; /* where the file says that a text ends which is cut; 0: at the model's positions */
    nb_ids *texts;
    size_t count;
    double *pooled; /* [count][width] */

    nb_context_params params;
    nb_context *context;
    size_t text, done; /* where the next step begins: tokens of `text` that are computed */
    uint32_t *tables;  /* [max_spans + 1][max_pages]: of text i at i % (max_spans + 1) */
    size_t next_page;  /* counts up; page numbers are its remainder */
    int32_t *tokens;
    uint8_t *types; /* of pairs, where the model tells the second text from the first; else NULL */
    uint32_t *outputs;
    nb_span *spans;
    piece *pieces;
    nb_batch batch;
} embedding;

/* ---- what to compute ---- */

static nb_status choose_pooling(embedding *e, const nb_embed_params *params, nb_error *err)
{
    const nb_hparams *h = &e->model->def->h;
    e->pooling = params->pooling;
    if (e->pooling == NB_POOLING_MODEL && h->pooling == NB_POOL_RANK)
        return nb_fail(
            err, NB_ERR_UNSUPPORTED,
            "%s: this model ranks pairs of texts (--rank) and has no embeddings of its own; choose a pooling",
            nb_gguf_path(e->model->gguf));
    if (e->pooling == NB_POOLING_MODEL)
        e->pooling = h->pooling == NB_POOL_MEAN   ? NB_POOLING_MEAN
                     : h->pooling == NB_POOL_CLS  ? NB_POOLING_CLS
                     : h->pooling == NB_POOL_LAST ? NB_POOLING_LAST
                     : h->causal                  ? NB_POOLING_LAST
                                                  : NB_POOLING_MEAN;
    e->normalize = params->normalize == NB_NORMALIZE_MODEL ? h->normalize : params->normalize == NB_NORMALIZE_YES;
    return NB_OK;
}

/* what is too long loses its end, but not the token that closes a text (SEP, EOS) */
static nb_status fit_text(const embedding *e, size_t i, const nb_embed_params *p, nb_error *err)
{
    size_t most = e->model->def->h.context;
    if (p->truncate && e->cut > 0)
        most = nb_min_size(most, e->cut);
    nb_ids *ids = &e->texts[i];
    if (ids->count == 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "text %zu is empty: this model makes no tokens of it", i);
    for (size_t k = 0; k < ids->count; k++)
        if (ids->id[k] < 0 || (size_t)ids->id[k] >= e->model->def->h.vocab)
            return nb_fail(err, NB_ERR_ARGUMENT, "text %zu: token %zu is %d; ids are 0 to %zu", i, k, ids->id[k],
                           e->model->def->h.vocab - 1);
    if (ids->count <= most)
        return NB_OK;
    if (!p->truncate)
        return nb_fail(err, NB_ERR_LIMIT,
                       "text %zu has %zu tokens, more than the %zu this model takes; cut it, or have it cut (truncate)",
                       i, ids->count, most);
    if (p->truncated)
        *p->truncated += ids->count - most;
    int32_t last = ids->id[ids->count - 1];
    if (nb_tokenizer_type(e->model->tokenizer, last) == NB_TOKEN_CONTROL)
        ids->id[most - 1] = last;
    ids->count = most;
    return NB_OK;
}

static nb_status encode(const embedding *e, nb_str text, nb_ids *ids, nb_error *err)
{
    nb_buf joined = {0};
    if (e->prompt.n == 0)
        return nb_tokenizer_encode(e->model->tokenizer, text, NB_ENCODE_ADD_SPECIAL, ids, err);
    nb_buf_add(&joined, e->prompt.p, e->prompt.n);
    nb_buf_add(&joined, text.p, text.n);
    nb_status status = joined.failed ? nb_fail_memory(err, "a text", text.n)
                                     : nb_tokenizer_encode(e->model->tokenizer, nb_buf_view(&joined),
                                                           NB_ENCODE_ADD_SPECIAL, ids, err);
    nb_buf_free(&joined);
    return status;
}

/* WordPiece: CLS query SEP text SEP */
static bool is_wordpiece(const nb_model *m)
{
    nb_str kind = {0};
    return nb_gguf_get_str(m->gguf, "tokenizer.ggml.model", &kind, NULL) == NB_OK && nb_str_eqz(kind, "bert");
}

/* [BOS] query [EOS] [SEP] text [EOS]; SEP where the tokenizer puts one between */
static nb_status encode_pair(const embedding *e, nb_str text, nb_ids *ids, nb_error *err)
{
    const nb_vocab *v = nb_tokenizer_vocab(e->model->tokenizer);
    bool separated = false, words = is_wordpiece(e->model), ends = words || v->add_eos;
    int32_t end = words ? v->sep : v->eos;
    if (!words && nb_gguf_find(e->model->gguf, "tokenizer.ggml.add_sep_token"))
        NB_TRY(nb_gguf_get_bool(e->model->gguf, "tokenizer.ggml.add_sep_token", &separated, err));
    NB_TRY(nb_tokenizer_encode(e->model->tokenizer, *e->query, NB_ENCODE_ADD_SPECIAL, ids, err));
    if (separated && v->sep >= 0 && !nb_ids_add(ids, v->sep))
        return nb_fail_memory(err, "a pair", text.n);
    NB_TRY(nb_tokenizer_encode(e->model->tokenizer, text, NB_ENCODE_PLAIN, ids, err));
    if (ends && end >= 0 && !nb_ids_add(ids, end))
        return nb_fail_memory(err, "a pair", text.n);
    return NB_OK;
}

static nb_status read_input(const embedding *e, const nb_embed_input *input, nb_ids *ids, nb_error *err)
{
    nb_str text = {input->text, input->bytes};
    if (!input->ids)
        return e->query ? encode_pair(e, text, ids, err) : encode(e, text, ids, err);
    for (size_t i = 0; i < input->count; i++)
        if (!nb_ids_add(ids, input->ids[i]))
            return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    return NB_OK;
}

static nb_status read_inputs(embedding *e, const nb_embed_input *inputs, const nb_embed_params *params, size_t *tokens,
                             nb_error *err)
{
    uint64_t cut = 0;
    NB_TRY(nb_embed_prompt(e->model->gguf, params->prompt_name, &e->prompt, err));
    if (nb_gguf_find(e->model->gguf, NB_EMBEDDING_LENGTH))
        NB_TRY(nb_gguf_get_u64(e->model->gguf, NB_EMBEDDING_LENGTH, &cut, err));
    e->cut = (size_t)cut;
    e->texts = calloc(e->count, sizeof *e->texts);
    if (!e->texts)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    *tokens = 0;
    for (size_t i = 0; i < e->count; i++) {
        NB_TRY(read_input(e, &inputs[i], &e->texts[i], err));
        NB_TRY(fit_text(e, i, params, err));
        *tokens += e->texts[i].count;
    }
    return NB_OK;
}

static size_t pages_of(size_t tokens) { return (tokens + NB_PAGE - 1) / NB_PAGE; }

static void plan_context(embedding *e, size_t tokens, size_t batch)
{
    size_t longest = 0, layers[NB_GROUPS];
    bool causal = e->model->def->h.causal;
    for (size_t i = 0; i < e->count; i++)
        longest = nb_max_size(longest, e->texts[i].count);
    nb_context_params *p = &e->params;
    p->max_tokens = nb_min_size(batch ? batch : DEFAULT_BATCH, tokens);
    if (!causal)
        p->max_tokens = nb_max_size(p->max_tokens, longest);
    p->max_spans = nb_min_size(nb_min_size(e->count, MOST_SPANS), p->max_tokens);
    p->max_outputs = e->pooling == NB_POOLING_MEAN ? p->max_tokens : p->max_spans;
    p->max_positions = longest;
    p->hidden = true;
    /* what every token sees whole is computed once: the cache's precision costs nothing */
    p->kv_type = e->model->weights_params.exact || !causal ? NB_TYPE_F32 : NB_TYPE_F16;
    nb_cache_groups(e->model->def, layers);
    for (int g = 0; g < NB_GROUPS; g++) {
        p->max_pages[g] = layers[g] ? pages_of(longest) : 0;
        p->pages[g] = layers[g] ? 2 * pages_of(longest) + pages_of(p->max_tokens) + p->max_spans : 0;
    }
}

static nb_status make_context(embedding *e, nb_error *err)
{
    const nb_context_params *p = &e->params;
    NB_TRY(e->model->backend->context_new(e->model->weights, p, &e->context, err));
    e->tables = calloc((p->max_spans + 1) * pages_of(p->max_positions), sizeof *e->tables);
    e->tokens = calloc(p->max_tokens, sizeof *e->tokens);
    e->outputs = calloc(p->max_outputs, sizeof *e->outputs);
    e->types = e->typed ? calloc(p->max_tokens, sizeof *e->types) : NULL;
    e->spans = calloc(p->max_spans, sizeof *e->spans);
    e->pieces = calloc(p->max_spans, sizeof *e->pieces);
    e->pooled = calloc(e->count, e->width * sizeof *e->pooled);
    if (!e->tables || !e->tokens || (e->typed && !e->types) || !e->outputs || !e->spans || !e->pieces || !e->pooled)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    return NB_OK;
}

/* ---- a step ---- */

static uint32_t *table_of(embedding *e, size_t text)
{
    size_t most = pages_of(e->params.max_positions);
    return e->tables + text % (e->params.max_spans + 1) * most;
}

static void take_pages(embedding *e, size_t text)
{
    size_t ring = nb_max_size(e->params.pages[NB_GROUP_GLOBAL], e->params.pages[NB_GROUP_LOCAL]);
    uint32_t *table = table_of(e, text);
    for (size_t i = 0; i < pages_of(e->texts[text].count); i++)
        table[i] = (uint32_t)(e->next_page++ % ring);
}

/* rows that the pooling wants of tokens [done, done + n) of a text */
static size_t want_outputs(embedding *e, size_t first, size_t n, bool begins, bool ends)
{
    size_t before = e->batch.n_outputs;
    if (e->pooling == NB_POOLING_MEAN)
        for (size_t i = 0; i < n; i++)
            e->outputs[e->batch.n_outputs++] = (uint32_t)(first + i);
    else if (e->pooling == NB_POOLING_CLS ? begins : ends)
        e->outputs[e->batch.n_outputs++] = (uint32_t)(e->pooling == NB_POOLING_CLS ? first : first + n - 1);
    return e->batch.n_outputs - before;
}

/* what follows the first SEP is the second text's: its type is 1. Texts of these models are whole in a step. */
static void set_types(const embedding *e, const nb_ids *ids, uint8_t *types)
{
    int32_t sep = nb_tokenizer_vocab(e->model->tokenizer)->sep;
    uint8_t type = 0;
    for (size_t i = 0; i < ids->count; i++) {
        types[i] = type;
        type |= ids->id[i] == sep;
    }
}

static void add_span(embedding *e, size_t n)
{
    const nb_ids *ids = &e->texts[e->text];
    nb_batch *b = &e->batch;
    bool begins = e->done == 0, ends = e->done + n == ids->count;
    if (begins)
        take_pages(e, e->text);
    nb_span *span = &e->spans[b->n_spans];
    *span = (nb_span){.first = b->n_tokens, .count = n, .position = (int64_t)e->done, .length = ids->count};
    for (int g = 0; g < NB_GROUPS; g++) {
        span->pages[g] = table_of(e, e->text);
        span->page_count[g] = e->params.max_pages[g] ? pages_of(ids->count) : 0;
    }
    size_t outputs = want_outputs(e, b->n_tokens, n, begins, ends);
    e->pieces[b->n_spans++] = (piece){e->text, outputs};
    memcpy(e->tokens + b->n_tokens, ids->id + e->done, n * sizeof *ids->id);
    if (e->types)
        set_types(e, ids, e->types + b->n_tokens);
    b->n_tokens += n;
    e->done = ends ? 0 : e->done + n;
    e->text += ends;
}

static void fill_step(embedding *e)
{
    e->batch = (nb_batch){.tokens = e->tokens, .types = e->types, .spans = e->spans, .outputs = e->outputs};
    while (e->text < e->count && e->batch.n_spans < e->params.max_spans) {
        size_t left = e->texts[e->text].count - e->done, room = e->params.max_tokens - e->batch.n_tokens;
        if (room == 0 || (left > room && !e->model->def->h.causal))
            return;
        add_span(e, nb_min_size(left, room));
    }
}

static void collect(embedding *e)
{
    size_t row = 0;
    for (size_t s = 0; s < e->batch.n_spans; s++) {
        const piece *p = &e->pieces[s];
        double *sum = e->pooled + p->text * e->width;
        for (size_t i = 0; i < p->outputs; i++) {
            const float *x = e->model->backend->logits(e->context, row++);
            for (size_t k = 0; k < e->width; k++)
                sum[k] += (double)x[k];
        }
    }
}

static nb_status run_all(embedding *e, nb_error *err)
{
    while (e->text < e->count) {
        fill_step(e);
        pthread_mutex_lock(&e->model->lock);
        nb_status status = e->model->backend->run(e->context, &e->batch, err);
        pthread_mutex_unlock(&e->model->lock);
        if (status != NB_OK)
            return status;
        collect(e);
    }
    return NB_OK;
}

/* one text's vector to a length of 1, where that is wanted, as floats */
static void write_vector(const embedding *e, const double *x, size_t width, float *out)
{
    double square = 0;
    for (size_t i = 0; i < width; i++)
        square += x[i] * x[i];
    double scale = e->normalize && square > 0 ? 1 / sqrt(square) : 1;
    for (size_t i = 0; i < width; i++)
        out[i] = (float)(x[i] * scale);
}

/* sums become means, pass the dense layers, and are written */
static nb_status finish(embedding *e, float *out, nb_error *err)
{
    const nb_embed_head *head = e->head;
    double *made = NULL;
    for (size_t t = 0; e->pooling == NB_POOLING_MEAN && t < e->count; t++)
        for (size_t i = 0; i < e->width; i++)
            e->pooled[t * e->width + i] /= (double)e->texts[t].count;
    NB_TRY(nb_embed_head_run(head, e->pooled, e->count, &made, err));
    for (size_t t = 0; t < e->count; t++)
        write_vector(e, (made ? made : e->pooled) + t * head->width, head->width, out + t * head->width);
    free(made);
    return NB_OK;
}

static void embedding_free(embedding *e)
{
    if (e->context)
        e->model->backend->context_free(e->context);
    for (size_t i = 0; e->texts && i < e->count; i++)
        nb_ids_free(&e->texts[i]);
    free(e->texts);
    free(e->tables);
    free(e->tokens);
    free(e->types);
    free(e->outputs);
    free(e->spans);
    free(e->pieces);
    free(e->pooled);
}

static nb_status compute(embedding *e, const nb_embed_input *inputs, const nb_embed_params *params, float *out,
                         size_t *tokens, nb_error *err)
{
    size_t total = 0;
    nb_status status = e->count > 0 ? read_inputs(e, inputs, params, &total, err) : NB_OK;
    if (status == NB_OK && e->count > 0) {
        plan_context(e, total, params->batch);
        status = make_context(e, err);
        if (status == NB_OK)
            status = run_all(e, err);
        if (status == NB_OK)
            status = finish(e, out, err);
    }
    if (status == NB_OK && tokens)
        *tokens = total;
    embedding_free(e);
    return status;
}

static nb_status begin(embedding *e, nb_model *m, size_t count, nb_error *err)
{
    *e = (embedding){.model = m, .count = count, .width = m->plan.buffers[m->plan.hidden].width};
    return m->weights ? NB_OK : nb_fail(err, NB_ERR_ARGUMENT, "the model was opened for a look only");
}

nb_status nb_embed(nb_model *m, const nb_embed_input *inputs, size_t count, const nb_embed_params *params, float *out,
                   size_t *tokens, nb_error *err)
{
    nb_embed_params defaults = nb_embed_defaults();
    embedding e;
    params = params ? params : &defaults;
    NB_TRY(begin(&e, m, count, err));
    e.head = &m->embed_head;
    NB_TRY(choose_pooling(&e, params, err));
    return compute(&e, inputs, params, out, tokens, err);
}

nb_status nb_rank(nb_model *m, const char *query, size_t bytes, const nb_embed_input *texts, size_t count,
                  const nb_embed_params *params, float *scores, size_t *tokens, nb_error *err)
{
    nb_embed_params own = params ? *params : nb_embed_defaults();
    nb_str text = {query, bytes};
    embedding e;
    NB_TRY(begin(&e, m, count, err));
    if (m->classifier.count == 0)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: does not rank pairs of texts: it has no cls.output.weight",
                       nb_gguf_path(m->gguf));
    e.head = &m->classifier;
    e.query = &text;
    e.pooling = NB_POOLING_CLS;
    int types = nb_model_weight(m->def, -1, NB_TOKEN_TYPES);
    e.typed = types >= 0 && m->def->weights[types].tensor->dims[1] > 1 && !m->def->h.causal && is_wordpiece(m);
    own.prompt_name = "";
    return compute(&e, texts, &own, scores, tokens, err);
}
