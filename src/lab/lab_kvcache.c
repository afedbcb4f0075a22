/* kvcache: keys and values that are kept: what that saves, what it takes, and what fewer bits of it cost. */
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "lab/lab_model.h"
#include "lab/lab_reading.h"
#include "measure/score.h"

static const char *const types[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};
enum { TYPES = sizeof types / sizeof *types, F32 = 0 };

static const size_t lengths[] = {16, 32, 64, 128, 256, 512};
enum { LENGTHS = sizeof lengths / sizeof *lengths, STEPS = 24, SCORED = 160, ROWS = 32 };
#define SCORED_WORK 16e9  /* tokens times parameters: in float32, large models read fewer tokens */
#define WITH_SECONDS 0.3  /* as long the step with a cache is measured again, up to STEPS times */
#define WITHOUT_AGAIN 0.5 /* seconds up to which it is measured twice */
#define WITHOUT_MOST 2.5  /* seconds of a token without a cache; longer texts are left out */

typedef struct look {
    nb_lab *lab;
    nb_model *model;
    nb_ids ids;    /* of the text */
    int32_t *text; /* [length] the text again and again */
    size_t length;
    size_t count; /* tokens of it that are scored */
} look;

static nb_status open_session(const look *k, size_t context, size_t outputs, const char *type, nb_session **session,
                              nb_error *err)
{
    nb_session_params p = nb_session_defaults();
    p.context = context;
    p.outputs = outputs;
    p.kv_type = type;
    return nb_session_open(k->model, &p, session, err);
}

static nb_status repeat_text(look *k, size_t length, nb_error *err)
{
    k->text = NB_ARRAY(nb_lab_arena(k->lab), int32_t, length);
    k->length = length;
    if (!k->text)
        return nb_fail_memory(err, "tokens", length * sizeof *k->text);
    for (size_t i = 0; i < length; i++)
        k->text[i] = k->ids.id[i % k->ids.count];
    return NB_OK;
}

/* ---- with and without ---- */

static nb_status time_eval(nb_session *s, const int32_t *ids, size_t count, double *seconds, nb_error *err)
{
    double start = nb_seconds();
    NB_TRY(nb_session_eval(s, ids, count, NB_LOGITS_LAST, err));
    *seconds = nb_seconds() - start;
    return NB_OK;
}

/* Seconds of the token after `length` others: with the cache, the best of some in a row; without, of computing all, the
 * better of two. */
static nb_status time_token(const look *k, nb_session *s, size_t length, double *with, double *without, nb_error *err)
{
    *with = INFINITY;
    *without = INFINITY;
    for (int i = 0; i < 2 && (i == 0 || *without < WITHOUT_AGAIN); i++) {
        double seconds;
        NB_TRY(nb_session_rewind(s, 0, err));
        NB_TRY(time_eval(s, k->text, length + 1, &seconds, err));
        *without = fmin(*without, seconds);
    }
    double start = nb_seconds();
    for (size_t i = 1; i <= STEPS && (i < 4 || nb_seconds() - start < WITH_SECONDS); i++) {
        double seconds;
        NB_TRY(time_eval(s, k->text + length + i, 1, &seconds, err));
        *with = fmin(*with, seconds);
    }
    return NB_OK;
}

static void put_speed(nb_lab *lab, const double *with, const double *without, size_t count)
{
    static const nb_lab_column columns[] = {
        {"length", "tokens before", NB_LAB_COUNT, 0},  {"with", "with cache", NB_LAB_SECONDS, 0},
        {"without", "without", NB_LAB_SECONDS, 0},     {"speed_with", "tokens/s with", NB_LAB_FIXED, 1},
        {"speed_without", "without", NB_LAB_FIXED, 1}, {"gain", "times", NB_LAB_FIXED, 1}};
    double x[LENGTHS], a[LENGTHS], b[LENGTHS];
    nb_lab_table *t = nb_lab_table_begin(lab, "speed", columns, 6);
    nb_lab_caption(lab, "The next token of a text");
    for (size_t i = 0; i < count; i++) {
        x[i] = (double)lengths[i];
        a[i] = 1 / with[i];
        b[i] = 1 / without[i];
        nb_lab_cell(t, x[i]);
        nb_lab_cell(t, with[i]);
        nb_lab_cell(t, without[i]);
        nb_lab_cell(t, a[i]);
        nb_lab_cell(t, b[i]);
        nb_lab_cell(t, without[i] / with[i]);
    }
    nb_lab_chart *chart = nb_lab_chart_begin(lab, "speed", (nb_lab_axis){.label = "tokens before", .log = true},
                                             (nb_lab_axis){.label = "tokens a second", .log = true});
    nb_lab_caption(lab, "Speed of writing, with and without the cache");
    nb_lab_series(chart, "with", NB_LAB_LINE, x, a, count);
    nb_lab_series(chart, "without", NB_LAB_LINE, x, b, count);
}

static nb_status show_speed(const look *k, nb_error *err)
{
    nb_session *s = NULL;
    double with[LENGTHS], without[LENGTHS];
    size_t count = 0;
    nb_status status = open_session(k, k->length, 1, "f16", &s, err);
    while (status == NB_OK && count < LENGTHS && lengths[count] + STEPS < k->length &&
           (count == 0 || 2 * without[count - 1] < WITHOUT_MOST)) {
        status = time_token(k, s, lengths[count], &with[count], &without[count], err);
        count += status == NB_OK;
    }
    nb_session_close(s);
    if (status == NB_OK)
        put_speed(k->lab, with, without, count);
    return status;
}

static void explain(nb_lab *lab)
{
    enum { WRITTEN = 512 };
    nb_lab_section(lab, "speed", "Why keys and values are kept");
    nb_lab_say(lab, "A token's query meets the keys and values of all tokens before it. These never change, since no "
                    "token sees a later one. Kept, they are computed once and a new token costs one step of the "
                    "model; forgotten, the whole text goes through it again for each token:");
    nb_lab_code(lab, "%d tokens with a cache:    %d steps of one token", WRITTEN, WRITTEN);
    nb_lab_code(lab, "%d tokens without: 1 + 2 + ... + %d = %d", WRITTEN, WRITTEN, WRITTEN * (WRITTEN + 1) / 2);
}

/* ---- bytes, pages ---- */

/* Bytes of the cache of a session for `context` positions. NAN: this model cannot keep that type. */
static double session_bytes(const look *k, const char *type, size_t context)
{
    nb_session_params p = nb_session_defaults();
    nb_context_params plan;
    nb_memory memory;
    p.context = context;
    p.kv_type = type;
    bool can = nb_session_plan(k->model, &p, &plan, NULL) == NB_OK &&
               nb_session_memory(k->model, &plan, &memory, NULL) == NB_OK;
    return can ? (double)memory.cache : NAN;
}

static void show_bytes(const look *k)
{
    static const nb_lab_column columns[] = {{"type", "type", NB_LAB_TEXT, 0},
                                            {"bits", "bits a value", NB_LAB_FIXED, 2},
                                            {"token", "a token", NB_LAB_BYTES, 0},
                                            {"page", "a page of all layers", NB_LAB_BYTES, 0},
                                            {"context", "its whole context", NB_LAB_BYTES, 0}};
    const nb_hparams *h = &k->model->def->h;
    nb_lab *lab = k->lab;
    double values = (double)h->layers * h->kv_heads * (h->k_dim + h->v_dim), x[TYPES], y[TYPES];
    nb_lab_section(lab, "bytes", "What it takes");
    nb_lab_code(lab, "%d layers x %d kv heads x (%d + %d) = %.0f values a token", h->layers, h->kv_heads, h->k_dim,
                h->v_dim, values);
    nb_lab_say(lab,
               "The cache is made of pages of %d positions, each with its keys and values side by side. Q8_0 and "
               "Q4_0 keep a scale for each 32 values. Bytes as the engine takes them for one page, and for the "
               "model's context of %zu tokens:",
               NB_PAGE, h->context);
    nb_lab_fact(lab, "values", "values a token", NB_LAB_COUNT, 0, values, NULL);
    nb_lab_fact(lab, "context", "context", NB_LAB_COUNT, 0, (double)h->context, "tokens");
    if (h->window > 0)
        nb_lab_fact(lab, "window", "some or all layers keep only their window of", NB_LAB_COUNT, 0, (double)h->window,
                    "tokens");
    nb_lab_table *t = nb_lab_table_begin(lab, "types", columns, 5);
    for (size_t i = 0; i < TYPES; i++) {
        double page = session_bytes(k, types[i], NB_PAGE), all = session_bytes(k, types[i], h->context);
        nb_lab_cell_text(t, "%s", types[i]);
        nb_lab_cell(t, 8 * page / NB_PAGE / values);
        nb_lab_cell(t, page / NB_PAGE);
        nb_lab_cell(t, page);
        nb_lab_cell(t, all);
        x[i] = (double)i;
        y[i] = page / NB_PAGE * 1e-3;
    }
    nb_lab_chart *chart = nb_lab_chart_begin(lab, "types",
                                             (nb_lab_axis){.label = "type", .names = types, .name_count = TYPES},
                                             (nb_lab_axis){.label = "kB a token"});
    nb_lab_caption(lab, "What the cache takes for a token");
    nb_lab_series(chart, "bytes", NB_LAB_BARS, x, y, TYPES);
}

static nb_status show_pages(const look *k, nb_error *err)
{
    static const size_t positions[] = {1, 63, 64, 65, 1000, 4096};
    static const nb_lab_column columns[] = {{"positions", "tokens", NB_LAB_COUNT, 0},
                                            {"pages", "pages", NB_LAB_COUNT, 0},
                                            {"bytes", "bytes, a layer", NB_LAB_BYTES, 0},
                                            {"unused", "unused", NB_LAB_PERCENT, 1}};
    const nb_hparams *h = &k->model->def->h;
    nb_kv_layout layout = nb_cache_layout(k->model->def, NB_TYPE_F16);
    double page = (double)nb_kv_page_bytes(&layout);
    nb_lab *lab = k->lab;
    nb_lab_section(lab, "pages", "Pages");
    nb_lab_say(lab, "A text grows token by token; its cache grows by pages, which need not lie side by side. At most "
                    "one page is not full, whatever the length, and pages go back one by one. Room taken for the "
                    "longest possible text at once would stand empty for most of them.");
    nb_lab_table *t = nb_lab_table_begin(lab, "pages", columns, 4);
    nb_lab_caption(lab, "Pages of a layer in F16, of %.0f bytes each", page);
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        nb_kv_cache *cache;
        size_t n = positions[i], values = nb_max_size((size_t)h->k_dim, (size_t)h->v_dim) * (size_t)h->kv_heads;
        NB_TRY(nb_kv_cache_new("f16", (size_t)h->kv_heads, (size_t)h->k_dim, (size_t)h->v_dim, n, &cache, err));
        float *zeros = NB_ARRAY(nb_lab_arena(lab), float, values *n);
        nb_status status = zeros ? nb_kv_cache_append(cache, zeros, zeros, n, err)
                                 : nb_fail_memory(err, "keys", values * n * sizeof *zeros);
        double bytes = (double)nb_kv_cache_bytes(cache);
        nb_kv_cache_free(cache);
        NB_TRY(status);
        nb_lab_cell(t, (double)n);
        nb_lab_cell(t, bytes / page);
        nb_lab_cell(t, bytes);
        nb_lab_cell(t, 1 - (double)n * page / NB_PAGE / bytes);
    }
    return NB_OK;
}

/* ---- prefix ---- */

typedef struct prefix {
    size_t all, shared;
    double fresh, again, difference;
} prefix;

/* Two prompts that begin alike and end in other tokens: the second from the first's cache, then from nothing. */
static nb_status reuse(const look *k, nb_session *s, prefix *f, nb_error *err)
{
    int32_t second[SCORED];
    size_t vocabulary = nb_model_vocabulary(k->model), ends = nb_max_size(f->all / 10, 1);
    float *row = NB_ARRAY(nb_lab_arena(k->lab), float, vocabulary);
    if (!row)
        return nb_fail_memory(err, "logits", vocabulary * sizeof *row);
    for (size_t i = 0; i < f->all; i++)
        second[i] = k->text[i < f->all - ends ? i : f->all - 1 - i + f->all - ends];
    if (second[f->all - ends] == k->text[f->all - ends])
        second[f->all - ends] = (second[f->all - ends] + 1) % (int32_t)vocabulary;
    NB_TRY(nb_session_eval(s, k->text, f->all, NB_LOGITS_LAST, err));
    f->shared = nb_session_match(s, second, f->all);
    NB_TRY(nb_session_rewind(s, f->shared, err));
    NB_TRY(time_eval(s, second + f->shared, f->all - f->shared, &f->again, err));
    memcpy(row, nb_session_row(s, 0), vocabulary * sizeof *row);
    NB_TRY(nb_session_rewind(s, 0, err));
    NB_TRY(time_eval(s, second, f->all, &f->fresh, err));
    for (size_t i = 0; i < vocabulary; i++)
        f->difference = fmax(f->difference, fabs((double)row[i] - (double)nb_session_row(s, 0)[i]));
    return NB_OK;
}

static nb_status show_prefix(const look *k, nb_error *err)
{
    nb_lab *lab = k->lab;
    nb_session *s;
    prefix f = {.all = nb_min_size(SCORED, k->length)};
    NB_TRY(open_session(k, f.all, 1, "f16", &s, err));
    nb_status status = reuse(k, s, &f, err);
    nb_session_close(s);
    NB_TRY(status);
    nb_lab_section(lab, "prefix", "A beginning that was read before");
    nb_lab_say(lab, "Two prompts begin alike, as turns of a conversation do, or questions about one document. What "
                    "they share is in the cache already; only the rest is computed. The numbers that come out are the "
                    "same.");
    nb_lab_fact(lab, "tokens", "tokens of each prompt", NB_LAB_COUNT, 0, (double)f.all, NULL);
    nb_lab_fact(lab, "shared", "shared with the first, from the cache", NB_LAB_COUNT, 0, (double)f.shared, NULL);
    nb_lab_fact(lab, "fresh", "the second, computed whole", NB_LAB_SECONDS, 0, f.fresh, NULL);
    nb_lab_fact(lab, "again", "the second, after what is shared", NB_LAB_SECONDS, 0, f.again, NULL);
    nb_lab_fact(lab, "gain", "so much faster", NB_LAB_FIXED, 1, f.fresh / f.again, "times");
    nb_lab_fact(lab, "difference", "largest difference of a logit", NB_LAB_DIGITS, 2, f.difference, NULL);
    return NB_OK;
}

/* ---- fewer bits ---- */

typedef struct cost {
    nb_session *session; /* NULL: not for this model */
    double nll, divergence, off;
} cost;

/* Rows of the last step, predictions of the tokens from `next` on. */
static void score(const look *k, cost c[TYPES], size_t rows, size_t next, float *scratch)
{
    size_t n = nb_model_vocabulary(k->model);
    for (size_t r = 0; r < rows && next + r < k->count; r++) {
        const float *base = nb_session_row(c[F32].session, r);
        nb_prediction b = nb_predict(base, n, false, scratch);
        for (size_t i = 0; i < TYPES; i++) {
            if (!c[i].session)
                continue;
            const float *row = nb_session_row(c[i].session, r);
            nb_prediction p = nb_predict(row, n, false, scratch);
            c[i].nll += p.log_sum - (double)row[k->text[next + r]];
            c[i].divergence += i == F32 ? 0 : nb_divergence(&b, &p, n, scratch);
            for (size_t v = 0; v < n; v++)
                c[i].off = fmax(c[i].off, fabs((double)row[v] - (double)base[v]));
        }
    }
}

static nb_status read_text(const look *k, cost c[TYPES], float *scratch, nb_error *err)
{
    for (size_t i = 0; i < k->count; i += ROWS) {
        size_t rows = nb_min_size(ROWS, k->count - i);
        for (size_t t = 0; t < TYPES; t++)
            if (c[t].session)
                NB_TRY(nb_session_eval(c[t].session, k->text + i, rows, NB_LOGITS_ALL, err));
        score(k, c, rows, i + 1, scratch);
    }
    return NB_OK;
}

static nb_status measure_types(const look *k, cost c[TYPES], nb_error *err)
{
    float *scratch = NB_ARRAY(nb_lab_arena(k->lab), float, 2 * nb_model_vocabulary(k->model));
    if (!scratch)
        return nb_fail_memory(err, "predictions", 2 * nb_model_vocabulary(k->model) * sizeof *scratch);
    for (size_t i = 0; i < TYPES; i++) {
        nb_status opened = open_session(k, nb_max_size(k->count, ROWS), ROWS, types[i], &c[i].session, err);
        if (i == F32)
            NB_TRY(opened);
        if (opened != NB_OK)
            c[i].session = NULL;
    }
    return read_text(k, c, scratch, err);
}

static void put_types(nb_lab *lab, const cost c[TYPES], double scored)
{
    static const nb_lab_column columns[] = {{"type", "type", NB_LAB_TEXT, 0},
                                            {"perplexity", "perplexity", NB_LAB_FIXED, 4},
                                            {"change", "change", NB_LAB_PERCENT, 3},
                                            {"divergence", "divergence, nats", NB_LAB_DIGITS, 3},
                                            {"logit", "a logit is off by up to", NB_LAB_DIGITS, 3}};
    double x[TYPES], y[TYPES];
    nb_lab_table *t = nb_lab_table_begin(lab, "types", columns, 5);
    for (size_t i = 0; i < TYPES; i++) {
        bool there = c[i].session != NULL;
        double perplexity = there ? exp(c[i].nll / scored) : NAN;
        nb_lab_cell_text(t, "%s", types[i]);
        nb_lab_cell(t, perplexity);
        nb_lab_cell(t, perplexity / exp(c[F32].nll / scored) - 1);
        nb_lab_cell(t, there ? c[i].divergence / scored : NAN);
        nb_lab_cell(t, there ? c[i].off : NAN);
        x[i] = (double)i;
        y[i] = there && i != F32 ? c[i].divergence / scored * 1e3 : NAN;
    }
    nb_lab_chart *chart = nb_lab_chart_begin(lab, "types",
                                             (nb_lab_axis){.label = "type", .names = types, .name_count = TYPES},
                                             (nb_lab_axis){.label = "divergence, 1/1000 nat", .log = true});
    nb_lab_caption(lab, "How far predictions move from those with a cache in F32");
    nb_lab_series(chart, "divergence", NB_LAB_POINTS, x, y, TYPES);
}

/* With all else in float32: the rounding of activations to 8 bits would drown what the cache's types do. */
static nb_status show_types(look *k, const char *path, nb_error *err)
{
    nb_model_params params = nb_model_defaults();
    cost c[TYPES] = {0};
    nb_lab *lab = k->lab;
    nb_lab_section(lab, "types", "Fewer bits: what they cost");
    params.exact = true;
    nb_model_close(k->model);
    k->model = NULL;
    nb_status status = nb_model_open(path, &params, &k->model, err);
    if (status == NB_OK)
        status = measure_types(k, c, err);
    if (status == NB_OK) {
        nb_lab_say(lab,
                   "The model reads %zu tokens with its cache in each type and all else in float32. Perplexity is how "
                   "many tokens it "
                   "hesitates between; on a text this short it moves up or down by chance, so the divergence "
                   "of its predictions from those with F32 is the better measure.",
                   k->count);
        put_types(lab, c, (double)(k->count - 1));
    }
    for (size_t i = 0; i < TYPES; i++)
        nb_session_close(c[i].session);
    return status;
}

static nb_status show_model(look *k, const char *path, nb_error *err)
{
    const nb_hparams *h = &k->model->def->h;
    size_t most = nb_min_size(lengths[LENGTHS - 1] + STEPS + 1, nb_model_context(k->model));
    size_t scored = (size_t)(SCORED_WORK / (double)k->model->def->parameters);
    scored = nb_min_size(nb_max_size(scored, 16), SCORED);
    k->count = nb_min_size(nb_min_size(k->ids.count, scored), nb_model_context(k->model));
    if (k->count < 8)
        return nb_fail(err, NB_ERR_ARGUMENT, "--text: %zu tokens; give 8 or more", k->count);
    if (!h->causal)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "the model reads whole texts at once and keeps no cache");
    NB_TRY(repeat_text(k, nb_max_size(most, k->count), err));
    NB_TRY(show_speed(k, err));
    show_bytes(k);
    NB_TRY(show_pages(k, err));
    NB_TRY(show_prefix(k, err));
    return show_types(k, path, err);
}

static nb_status read_model(nb_lab *lab, const nb_lab_params *p, const char *path, nb_error *err)
{
    nb_model_params params = nb_model_defaults();
    look k = {.lab = lab};
    nb_lab_fact_text(lab, "model", "model", "%s", nb_lab_base_name(path));
    NB_TRY(nb_model_open(path, &params, &k.model, err));
    nb_status status = nb_tokenizer_encode(k.model->tokenizer, nb_str_of(p->text ? p->text : nb_lab_default_text),
                                           NB_ENCODE_ADD_SPECIAL, &k.ids, err);
    if (status == NB_OK)
        status = show_model(&k, path, err);
    nb_ids_free(&k.ids);
    nb_model_close(k.model);
    return status;
}

nb_status nb_lab_kvcache(const nb_lab_params *p, nb_lab *lab, nb_error *err)
{
    char path[1024];
    explain(lab);
    if (nb_lab_find_model(p, NB_LAB_WRITER, path, err) == NB_OK)
        return read_model(lab, p, path, err);
    nb_lab_section(lab, "model", "A real model");
    nb_lab_say(lab, "No model is here. --model FILE, or `tools/fetch-model smollm2-135m`, shows what it gains.");
    return NB_OK;
}
