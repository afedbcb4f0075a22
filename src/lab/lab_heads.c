/* heads: MHA, GQA, MQA: what sharing keys and values among query heads saves in parameters, cache and time. */
#include <math.h>
#include <stdio.h>

#include "engine/engine.h"
#include "kernel/matmul.h"
#include "lab/lab_measure.h"
#include "lab/lab_model.h"

enum { DIM = 32, HEADS = 4, CHUNK = 512 };
static const size_t lengths[] = {128, 256, 512, 1024, 2048, 4096, 8192, 16384};
enum { LENGTHS = sizeof lengths / sizeof *lengths };
#define PREFILL_MOST 6.0 /* seconds of one call; what is expected to take longer is left out */
#define SECONDS_A_POINT 0.1

typedef struct shape {
    const char *key;
    size_t width, heads, kv_heads, k_dim, v_dim;
} shape;

typedef struct shares { /* values of its matrices */
    double q, k, v, o;
} shares;

static shares parameters_of(const shape *s)
{
    double width = (double)s->width;
    return (shares){width * (double)(s->heads * s->k_dim), width * (double)(s->kv_heads * s->k_dim),
                    width * (double)(s->kv_heads * s->v_dim), width * (double)(s->heads * s->v_dim)};
}

static double total_of(shares p) { return p.q + p.k + p.v + p.o; }

/* Bytes that the cache of one layer takes, F16. */
static double cache_bytes(const shape *s, double positions)
{
    return positions * (double)s->kv_heads * (double)(s->k_dim + s->v_dim) * sizeof(uint16_t);
}

/* ---- a layer of random weights ---- */

typedef struct random_layer {
    shape s;
    const float *wq, *wk, *wv, *wo;
    const float *x; /* [most][width] */
    float *q, *k, *v, *context, *y;
    void *act, *scratch;
    nb_kv_cache *cache;
    size_t length; /* of a call */
} random_layer;

static nb_status take(size_t bytes, void **out, nb_error *err)
{
    *out = nb_pages_alloc(bytes);
    return *out ? NB_OK : nb_fail_memory(err, "a layer of attention", bytes);
}

/* y[count][rows] = x[count][k] W^T */
static void project(const random_layer *l, const float *x, size_t count, const float *weights, size_t rows, size_t k,
                    float *y)
{
    for (size_t i = 0; i < count; i += CHUNK) {
        size_t n = nb_min_size(CHUNK, count - i);
        nb_act_write(NB_ACT_F32, x + i * k, k, n, k, 0, nb_act_panels(n), 0, k, l->act);
        nb_matmul m = {.type = NB_TYPE_F32, .weights = weights, .rows = rows, .k = k, .format = NB_ACT_F32};
        m.act = l->act;
        m.n_tokens = n;
        m.y = y + i * rows;
        m.y_stride = rows;
        m.scratch = l->scratch;
        nb_matmul_run(&m, 0, rows);
    }
}

static void project_in(random_layer *l, const float *x, size_t count)
{
    const shape *s = &l->s;
    project(l, x, count, l->wq, s->heads * s->k_dim, s->width, l->q);
    project(l, x, count, l->wk, s->kv_heads * s->k_dim, s->width, l->k);
    project(l, x, count, l->wv, s->kv_heads * s->v_dim, s->width, l->v);
}

static nb_attention_params params_of(const shape *s, size_t queries, size_t keys)
{
    nb_attention_params p = nb_attention_defaults(s->heads, s->kv_heads, s->k_dim, queries, keys);
    p.v_dim = s->v_dim;
    p.v = (nb_attention_stride){keys * s->kv_heads * s->v_dim, s->v_dim, s->kv_heads * s->v_dim};
    p.out = (nb_attention_stride){queries * s->heads * s->v_dim, s->v_dim, s->heads * s->v_dim};
    p.causal = true;
    return p;
}

static nb_status prefill(void *context, nb_error *err)
{
    random_layer *l = context;
    nb_attention_params p = params_of(&l->s, l->length, l->length);
    project_in(l, l->x, l->length);
    NB_TRY(nb_attention_flash(&p, l->q, l->k, l->v, l->context, NULL, NULL, NULL, err));
    project(l, l->context, l->length, l->wo, l->s.width, l->s.heads * l->s.v_dim, l->y);
    return NB_OK;
}

/* One token after length - 1 others. */
static nb_status decode(void *context, nb_error *err)
{
    random_layer *l = context;
    nb_attention_params p = params_of(&l->s, 1, l->length);
    project_in(l, l->x, 1);
    nb_kv_cache_truncate(l->cache, l->length - 1);
    NB_TRY(nb_kv_cache_append(l->cache, l->k, l->v, 1, err));
    NB_TRY(nb_attention_decode(l->cache, &p, l->q, l->context, NULL, NULL, err));
    project(l, l->context, 1, l->wo, l->s.width, l->s.heads * l->s.v_dim, l->y);
    return NB_OK;
}

typedef struct times {
    double prefill[LENGTHS], decode[LENGTHS], cache[LENGTHS]; /* seconds; NaN: left out; bytes */
} times;

/* Everything of a layer lies in one piece of memory. */
static size_t layer_values(const shape *s, size_t most)
{
    size_t in = s->width, q = s->heads * s->k_dim, k = s->kv_heads * s->k_dim, v = s->kv_heads * s->v_dim;
    size_t o = s->heads * s->v_dim;
    return in * (q + k + v + o) + most * (2 * in + q + k + v + o) + 10 * 16;
}

static const float *place(float **next, size_t count, nb_rng *r, float scale)
{
    float *x = *next;
    *next += nb_round_up(count, 16);
    for (size_t i = 0; r && i < count; i++)
        x[i] = scale * (float)(2 * nb_rng_unit(r) - 1);
    return x;
}

static void place_layer(random_layer *l, float *next, size_t most, nb_rng *r)
{
    const shape *s = &l->s;
    size_t q = s->heads * s->k_dim, k = s->kv_heads * s->k_dim, v = s->kv_heads * s->v_dim, o = s->heads * s->v_dim;
    float scale = sqrtf(3.0f / (float)s->width);
    l->wq = place(&next, s->width * q, r, scale);
    l->wk = place(&next, s->width * k, r, scale);
    l->wv = place(&next, s->width * v, r, scale);
    l->wo = place(&next, s->width * o, r, scale);
    l->x = place(&next, s->width * most, r, 1.7f);
    l->q = (float *)place(&next, q * most, NULL, 0);
    l->k = (float *)place(&next, k * most, NULL, 0);
    l->v = (float *)place(&next, v * most, NULL, 0);
    l->context = (float *)place(&next, o * most, NULL, 0);
    l->y = (float *)place(&next, s->width * most, NULL, 0);
}

static nb_status measure_layer(random_layer *l, times *t, nb_error *err)
{
    size_t most = lengths[LENGTHS - 1];
    project_in(l, l->x, most); /* what the cache is filled with */
    NB_TRY(nb_kv_cache_append(l->cache, l->k, l->v, most, err));
    for (size_t i = LENGTHS; i-- > 0;) { /* the cache is cut from the longest to the shortest */
        l->length = lengths[i];
        NB_TRY(nb_lab_time(decode, l, SECONDS_A_POINT, &t->decode[i], err));
        t->cache[i] = (double)nb_kv_cache_bytes(l->cache);
    }
    for (size_t i = 0; i < LENGTHS; i++) {
        l->length = lengths[i];
        t->prefill[i] = NAN;
        if (i == 0 || 4 * t->prefill[i - 1] < PREFILL_MOST) /* false after a NaN */
            NB_TRY(nb_lab_time(prefill, l, SECONDS_A_POINT, &t->prefill[i], err));
    }
    return NB_OK;
}

static nb_status measure(const shape *s, uint64_t seed, times *t, nb_error *err)
{
    size_t most = lengths[LENGTHS - 1], k_most = nb_max_size(s->width, s->heads * s->v_dim);
    size_t values = layer_values(s, most) * sizeof(float), act = nb_act_bytes(NB_ACT_F32, k_most, CHUNK);
    size_t scratch = nb_matmul_scratch(NB_TYPE_F32, NB_ACT_F32, k_most, CHUNK) + 64;
    random_layer l = {.s = *s};
    void *memory = NULL;
    nb_rng r;
    nb_rng_seed(&r, seed);
    nb_status status = take(values, &memory, err);
    if (status == NB_OK)
        status = take(act, &l.act, err);
    if (status == NB_OK)
        status = take(scratch, &l.scratch, err);
    if (status == NB_OK)
        status = nb_kv_cache_new("f16", s->kv_heads, s->k_dim, s->v_dim, most, &l.cache, err);
    if (status == NB_OK) {
        place_layer(&l, memory, most, &r);
        status = measure_layer(&l, t, err);
    }
    nb_kv_cache_free(l.cache);
    nb_pages_free(l.scratch, scratch);
    nb_pages_free(l.act, act);
    nb_pages_free(memory, values);
    return status;
}

/* ---- random layers ---- */

static const shape kinds[] = {{"MHA", HEADS *DIM, HEADS, HEADS, DIM, DIM},
                              {"GQA", HEADS *DIM, HEADS, 2, DIM, DIM},
                              {"MQA", HEADS *DIM, HEADS, 1, DIM, DIM}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void show_projections(nb_lab *lab)
{
    static const nb_lab_column columns[] = {{"kind", "kind", NB_LAB_TEXT, 0},
                                            {"heads", "heads", NB_LAB_COUNT, 0},
                                            {"kv_heads", "kv heads", NB_LAB_COUNT, 0},
                                            {"q", "W_q", NB_LAB_COUNT, 0},
                                            {"k", "W_k", NB_LAB_COUNT, 0},
                                            {"v", "W_v", NB_LAB_COUNT, 0},
                                            {"o", "W_o", NB_LAB_COUNT, 0},
                                            {"all", "parameters", NB_LAB_COUNT, 0},
                                            {"cache", "cache, token", NB_LAB_BYTES, 0}};
    nb_lab_section(lab, "projections", "Fewer heads of keys and values");
    nb_lab_say(lab,
               "Multi-head attention (MHA) gives each query head keys and values of its own. Grouped-query attention "
               "(GQA) lets several query heads share one head of them, multi-query attention (MQA) all. Queries and "
               "outputs stay as they are; W_k, W_v and what the cache keeps of a token shrink by heads / kv heads. A "
               "layer of width %d, %d query heads of %d values, cache in F16:",
               HEADS * DIM, HEADS, DIM);
    nb_lab_code(lab, "W_q, W_o: width x heads x dim    = %d x %d x %d = %d", HEADS * DIM, HEADS, DIM,
                HEADS * DIM * HEADS * DIM);
    nb_lab_code(lab, "W_k, W_v: width x kv heads x dim = %d x %zu x %d = %zu (GQA)", HEADS * DIM, kinds[1].kv_heads,
                DIM, HEADS * DIM * kinds[1].kv_heads * DIM);
    nb_lab_code(lab, "cache:    2 x kv heads x dim x 2 bytes = %.0f bytes a token (GQA)", cache_bytes(&kinds[1], 1));
    nb_lab_table *t = nb_lab_table_begin(lab, "parameters", columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < KINDS; i++) {
        shares p = parameters_of(&kinds[i]);
        nb_lab_cell_text(t, "%s", kinds[i].key);
        nb_lab_cell(t, (double)kinds[i].heads);
        nb_lab_cell(t, (double)kinds[i].kv_heads);
        nb_lab_cell(t, p.q);
        nb_lab_cell(t, p.k);
        nb_lab_cell(t, p.v);
        nb_lab_cell(t, p.o);
        nb_lab_cell(t, total_of(p));
        nb_lab_cell(t, cache_bytes(&kinds[i], 1));
    }
}

static void put_times(nb_lab *lab, const times t[KINDS])
{
    static const nb_lab_column columns[] = {
        {"length", "tokens", NB_LAB_COUNT, 0},           {"prefill_mha", "prefill MHA", NB_LAB_SECONDS, 0},
        {"prefill_gqa", "GQA", NB_LAB_SECONDS, 0},       {"prefill_mqa", "MQA", NB_LAB_SECONDS, 0},
        {"decode_mha", "decode MHA", NB_LAB_SECONDS, 0}, {"decode_gqa", "GQA", NB_LAB_SECONDS, 0},
        {"decode_mqa", "MQA", NB_LAB_SECONDS, 0}};
    nb_lab_table *table = nb_lab_table_begin(lab, "times", columns, 7);
    for (size_t n = 0; n < LENGTHS; n++) {
        nb_lab_cell(table, (double)lengths[n]);
        for (size_t i = 0; i < KINDS; i++)
            nb_lab_cell(table, t[i].prefill[n]);
        for (size_t i = 0; i < KINDS; i++)
            nb_lab_cell(table, t[i].decode[n]);
    }
    nb_lab_caption(lab,
                   "All tokens at once (prefill; -: would take over %g s here), and one more token after them (decode)",
                   PREFILL_MOST);
}

static void put_caches(nb_lab *lab, const times t[KINDS])
{
    nb_lab_column columns[1 + KINDS] = {{"length", "tokens", NB_LAB_COUNT, 0}};
    for (size_t i = 0; i < KINDS; i++)
        columns[1 + i] = (nb_lab_column){kinds[i].key, kinds[i].key, NB_LAB_BYTES, 0};
    nb_lab_table *table = nb_lab_table_begin(lab, "caches", columns, 1 + KINDS);
    nb_lab_caption(lab, "Bytes of the cache's pages, one layer");
    for (size_t n = 0; n < LENGTHS; n++) {
        nb_lab_cell(table, (double)lengths[n]);
        for (size_t i = 0; i < KINDS; i++)
            nb_lab_cell(table, t[i].cache[n]);
    }
}

static void draw(nb_lab *lab, const char *key, const char *caption, const char *axis, const double *const y[],
                 const char *const *names, size_t count)
{
    double x[LENGTHS];
    for (size_t n = 0; n < LENGTHS; n++)
        x[n] = (double)lengths[n];
    nb_lab_chart *chart = nb_lab_chart_begin(lab, key, (nb_lab_axis){.label = "tokens", .log = true},
                                             (nb_lab_axis){.label = axis, .log = true});
    nb_lab_caption(lab, "%s", caption);
    for (size_t i = 0; i < count; i++)
        nb_lab_series(chart, names[i], NB_LAB_LINE, x, y[i], LENGTHS);
}

/* For figures. */
static void to_round_units(times *t)
{
    for (size_t n = 0; n < LENGTHS; n++) {
        t->prefill[n] *= 1e3;
        t->decode[n] *= 1e3;
        t->cache[n] *= 1e-6;
    }
}

static nb_status show_time(nb_lab *lab, uint64_t seed, nb_error *err)
{
    static const char *const names[] = {"MHA, 4 kv heads", "GQA, 2", "MQA, 1"};
    times t[KINDS];
    for (size_t i = 0; i < KINDS; i++)
        NB_TRY(measure(&kinds[i], seed, &t[i], err));
    nb_lab_section(lab, "time", "Where that saves time, and where not");
    nb_lab_say(lab, "Such layers with random weights: projections, attention, output projection, on one processor, the "
                    "best of several calls. Prefill makes as many products of queries and keys whoever shares them, "
                    "so only the smaller projections help. Decode reads the whole cache for a single token, so fewer "
                    "bytes there are less time, the more the longer the text.");
    put_times(lab, t);
    put_caches(lab, t);
    size_t last = LENGTHS - 1;
    nb_lab_fact(lab, "decode_gqa", "the 16'384th token: MHA takes, of GQA's time,", NB_LAB_FIXED, 2,
                t[0].decode[last] / t[1].decode[last], "times");
    nb_lab_fact(lab, "decode_mqa", "and of MQA's time,", NB_LAB_FIXED, 2, t[0].decode[last] / t[2].decode[last],
                "times");
    for (size_t i = 0; i < KINDS; i++)
        to_round_units(&t[i]);
    draw(lab, "prefill", "Prefill of a layer", "time, ms",
         (const double *const[]){t[0].prefill, t[1].prefill, t[2].prefill}, names, KINDS);
    draw(lab, "decode", "One more token", "time, ms", (const double *const[]){t[0].decode, t[1].decode, t[2].decode},
         names, KINDS);
    draw(lab, "cache", "Cache of a layer, F16", "MB", (const double *const[]){t[0].cache, t[1].cache, t[2].cache},
         names, KINDS);
    return NB_OK;
}

/* ---- a real architecture ---- */

static const char *kind_of(const nb_hparams *h)
{
    return h->latent > 0 ? "latent" : h->kv_heads == h->heads ? "MHA" : h->kv_heads == 1 ? "MQA" : "GQA";
}

/* Values in the attention of all layers, biases and norms of heads included, as the file has them. */
static double counted_parameters(const nb_model_def *def)
{
    static const nb_role roles[] = {
        NB_ATTN_Q,      NB_ATTN_K,      NB_ATTN_V,        NB_ATTN_O,      NB_ATTN_Q_BIAS,      NB_ATTN_K_BIAS,
        NB_ATTN_V_BIAS, NB_ATTN_O_BIAS, NB_ATTN_Q_NORM,   NB_ATTN_K_NORM, NB_ATTN_Q_NORM_BIAS, NB_ATTN_K_NORM_BIAS,
        NB_ATTN_SINKS,  NB_ATTN_Q_A,    NB_ATTN_Q_A_NORM, NB_ATTN_LATENT, NB_ATTN_LATENT_NORM, NB_ATTN_LATENT_ROPE,
        NB_ATTN_KV_B,   NB_ATTN_K_B,    NB_ATTN_V_B};
    double sum = 0;
    for (int layer = 0; layer < def->h.layers; layer++)
        for (size_t r = 0; r < sizeof roles / sizeof *roles; r++) {
            int w = nb_model_weight(def, layer, roles[r]);
            if (w >= 0) {
                const uint64_t *d = def->weights[w].tensor->dims;
                sum += (double)d[0] * (double)d[1] * (double)d[2];
            }
        }
    return sum;
}

/* Of all layers; those with a window keep no more than it. */
static double model_cache(const nb_model_def *def, const shape *s, size_t length)
{
    double sum = 0;
    for (int layer = 0; layer < def->h.layers; layer++) {
        int64_t window = nb_model_attention(def, layer).window;
        sum += cache_bytes(s, window > 0 ? fmin((double)window, (double)length) : (double)length);
    }
    return sum;
}

static void put_model_facts(nb_lab *lab, const nb_model_def *def, const char *path)
{
    const nb_hparams *h = &def->h;
    double parameters = counted_parameters(def);
    nb_lab_fact_text(lab, "model", "model", "%s", nb_lab_base_name(path));
    nb_lab_fact_text(lab, "kind", "kind", "%s", kind_of(h));
    nb_lab_fact(lab, "layers", "layers", NB_LAB_COUNT, 0, h->layers, NULL);
    nb_lab_fact(lab, "heads", "query heads", NB_LAB_COUNT, 0, h->heads, NULL);
    nb_lab_fact(lab, "kv_heads", "key and value heads", NB_LAB_COUNT, 0, h->kv_heads, NULL);
    nb_lab_fact(lab, "k_dim", "values of a head", NB_LAB_COUNT, 0, h->k_dim, NULL);
    nb_lab_fact(lab, "width", "width", NB_LAB_COUNT, 0, h->embd, NULL);
    nb_lab_fact(lab, "parameters", "parameters of attention", NB_LAB_COUNT, 0, parameters, NULL);
    nb_lab_fact(lab, "share", "of all parameters", NB_LAB_PERCENT, 1, parameters / (double)def->parameters, NULL);
    if (h->window > 0)
        nb_lab_fact(lab, "window", "window of some or all layers", NB_LAB_COUNT, 0, (double)h->window, "tokens");
}

static void put_model_tables(nb_lab *lab, const nb_model_def *def, const shape shapes[KINDS], times *t)
{
    static const nb_lab_column columns[] = {{"length", "tokens", NB_LAB_COUNT, 0},
                                            {"cache", "cache", NB_LAB_BYTES, 0},
                                            {"mha", "were it MHA", NB_LAB_BYTES, 0},
                                            {"mqa", "were it MQA", NB_LAB_BYTES, 0},
                                            {"prefill", "prefill, a layer", NB_LAB_SECONDS, 0},
                                            {"decode", "decode, a layer", NB_LAB_SECONDS, 0}};
    double cache[KINDS][LENGTHS];
    nb_lab_table *table = nb_lab_table_begin(lab, "lengths", columns, 6);
    nb_lab_caption(lab,
                   "The cache of all layers in F16, and the time of a layer of this shape with random weights in "
                   "float32 that sees everything (-: would take over %g s here)",
                   PREFILL_MOST);
    for (size_t n = 0; n < LENGTHS; n++) {
        nb_lab_cell(table, (double)lengths[n]);
        for (size_t i = 0; i < KINDS; i++) {
            cache[i][n] = model_cache(def, &shapes[i], lengths[n]);
            nb_lab_cell(table, cache[i][n]);
            cache[i][n] *= 1e-6; /* for the figure */
        }
        nb_lab_cell(table, t->prefill[n]);
        nb_lab_cell(table, t->decode[n]);
    }
    to_round_units(t);
    draw(lab, "cache", "The model's cache, F16", "MB", (const double *const[]){cache[0], cache[1], cache[2]},
         (const char *const[]){"as it is", "were it MHA", "were it MQA"}, KINDS);
    draw(lab, "time", "A layer of its shape", "time, ms", (const double *const[]){t->prefill, t->decode},
         (const char *const[]){"prefill of all", "decode of one more"}, 2);
}

static nb_status put_model(nb_lab *lab, const nb_model_def *def, const char *path, uint64_t seed, nb_error *err)
{
    const nb_hparams *h = &def->h;
    shape shapes[KINDS];
    times t;
    for (size_t i = 0; i < KINDS; i++)
        shapes[i] = (shape){
            "", (size_t)h->embd, (size_t)h->heads, (size_t)h->kv_heads, (size_t)h->k_dim, (size_t)h->v_dim};
    shapes[1].kv_heads = shapes[1].heads;
    shapes[2].kv_heads = 1;
    put_model_facts(lab, def, path);
    if (h->latent > 0 || !h->causal) {
        nb_lab_say(lab, "Not followed further: %s.",
                   h->latent > 0 ? "latent attention keeps one vector of a token for all heads, from which it makes "
                                   "their keys and values"
                                 : "the model reads whole texts at once and keeps no cache");
        return NB_OK;
    }
    nb_lab_code(lab, "cache: %d layers x %d kv heads x (%d + %d) x 2 bytes = %.0f bytes a token", h->layers,
                h->kv_heads, h->k_dim, h->v_dim, model_cache(def, &shapes[0], 1));
    NB_TRY(measure(&shapes[0], seed, &t, err));
    put_model_tables(lab, def, shapes, &t);
    return NB_OK;
}

nb_status nb_lab_heads(const nb_lab_params *p, nb_lab *lab, nb_error *err)
{
    char path[1024];
    nb_model *model = NULL;
    nb_model_params params = nb_model_defaults();
    show_projections(lab);
    NB_TRY(show_time(lab, (uint64_t)p->seed, err));
    nb_lab_section(lab, "model", "A real model's heads");
    if (nb_lab_find_model(p, NB_LAB_WRITER, path, err) != NB_OK) {
        nb_lab_say(lab, "No model is here. --model FILE, or `tools/fetch-model smollm2-135m`, shows one's numbers.");
        return NB_OK;
    }
    NB_TRY(nb_model_look(path, &params, &model, err));
    nb_status status = put_model(lab, model->def, path, (uint64_t)p->seed, err);
    nb_model_close(model);
    return status;
}
