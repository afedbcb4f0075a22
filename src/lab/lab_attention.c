/* attention: dot products and why they are scaled, softmax, alphas, masks; the alphas of a real model on the user's sentence. */
#include <stdio.h>
#include <stdlib.h>

#include "lab/lab_alphas.h"
#include "text/utf8.h"

enum { DRAWS = 10000, TOKENS = 5, DIM = 2, KEYS = 16, MOST_SHOWN = 32 };

/* Head #0 of the lecture's picture of queries, keys and values: five tokens, two dimensions. */
static const float head_q[TOKENS * DIM] = {0.23f, 0.03f, 0.27f, 0.61f, 0.79f, 0.23f, 0.11f, 0.10f, 0.07f, 0.01f};
static const float head_k[TOKENS * DIM] = {0.08f, 0.41f, 0.70f, 0.77f, 0.77f, 0.29f, 0.94f, 0.36f, 0.76f, 1.00f};
static const float head_v[TOKENS * DIM] = {0.54f, 0.80f, 0.81f, 0.42f, 0.81f, 0.47f, 0.69f, 0.89f, 0.19f, 0.39f};

/* ---- one dot product, and many ---- */

static void show_dot(nb_lab *lab)
{
    const float *q = head_q + 4, *k = head_k + 6; /* query 2, key 3 */
    double dot = (double)q[0] * (double)k[0] + (double)q[1] * (double)k[1];
    double nq = hypot((double)q[0], (double)q[1]), nk = hypot((double)k[0], (double)k[1]);
    nb_lab_section(lab, "dot", "The dot product: how alike two vectors are");
    nb_lab_say(lab, "A query asks, keys answer: their dot product grows with their lengths and with the cosine of the "
                    "angle between "
                    "them. Query 2 and key 3 of the lecture's head 0:");
    nb_lab_code(lab, "Q.K = %.2f x %.2f + %.2f x %.2f = %.4f", (double)q[0], (double)k[0], (double)q[1], (double)k[1],
                dot);
    nb_lab_code(lab, "cos(angle) |Q| |K| = %.4f x %.4f x %.4f = %.4f", dot / (nq * nk), nq, nk,
                dot / (nq * nk) * nq * nk);
    nb_lab_fact(lab, "dot", "dot product", NB_LAB_FIXED, 4, dot, NULL);
    nb_lab_fact(lab, "cosine", "cosine", NB_LAB_FIXED, 4, dot / (nq * nk), NULL);
}

static double draw_dot(nb_rng *r, size_t d)
{
    double sum = 0;
    for (size_t i = 0; i < d; i++)
        sum += nb_lab_normal(r) * nb_lab_normal(r);
    return sum;
}

/* The largest of the softmax of scores. */
static double largest_share(const double *scores, size_t n, double factor)
{
    double most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, scores[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp(factor * (scores[i] - most));
    return 1 / sum;
}

static void show_variance(nb_lab *lab, uint64_t seed)
{
    static const size_t dims[] = {2, 4, 10, 16, 32, 64, 128};
    enum { COUNT = sizeof dims / sizeof *dims };
    static const nb_lab_column columns[] = {{"d_k", "d_k", NB_LAB_COUNT, 0},
                                            {"variance", "variance of Q.K", NB_LAB_FIXED, 2},
                                            {"scaled", "of Q.K / root(d_k)", NB_LAB_FIXED, 3},
                                            {"share", "largest alpha of 16", NB_LAB_FIXED, 3},
                                            {"share_scaled", "the same, scaled", NB_LAB_FIXED, 3}};
    double x[COUNT], variance[COUNT], scaled[COUNT];
    nb_rng r;
    nb_rng_seed(&r, seed);
    nb_lab_section(lab, "variance", "Why scores are divided by the root of d_k");
    nb_lab_say(
        lab,
        "%d dot products of random vectors for each length: their variance is that length. Unscaled, long vectors give "
        "scores so far apart that softmax hands nearly everything to one key, and learns nothing from the others. "
        "Divided by the root of d_k, the variance is 1 whatever the length.",
        DRAWS);
    nb_lab_table *t = nb_lab_table_begin(lab, "draws", columns, 5);
    for (size_t c = 0; c < COUNT; c++) {
        double sum = 0, squares = 0, share[2] = {0}, scores[KEYS], root = sqrt((double)dims[c]);
        for (size_t i = 0; i < DRAWS; i++) {
            double dot = scores[i % KEYS] = draw_dot(&r, dims[c]);
            sum += dot;
            squares += dot * dot;
            if (i % KEYS == KEYS - 1) {
                share[0] += largest_share(scores, KEYS, 1) * KEYS / DRAWS;
                share[1] += largest_share(scores, KEYS, 1 / root) * KEYS / DRAWS;
            }
        }
        x[c] = (double)dims[c];
        variance[c] = (squares - sum * sum / DRAWS) / (DRAWS - 1);
        scaled[c] = variance[c] / x[c];
        nb_lab_cell(t, x[c]);
        nb_lab_cell(t, variance[c]);
        nb_lab_cell(t, scaled[c]);
        nb_lab_cell(t, share[0]);
        nb_lab_cell(t, share[1]);
    }
    nb_lab_chart *chart = nb_lab_chart_begin(lab, "variance", (nb_lab_axis){.label = "d_k", .log = true},
                                             (nb_lab_axis){.label = "variance", .log = true});
    nb_lab_caption(lab, "Variance of dot products of vectors from the normal distribution");
    nb_lab_series(chart, "Q.K", NB_LAB_LINE, x, variance, COUNT);
    nb_lab_series(chart, "Q.K / root(d_k)", NB_LAB_LINE, x, scaled, COUNT);
}

/* ---- the lecture's head ---- */

static const char *const token_names[TOKENS] = {"0", "1", "2", "3", "4"};

static void put_alphas(nb_lab *lab, const char *key, const float *values, const char *caption)
{
    nb_lab_grid g = {.rows = TOKENS,
                     .columns = TOKENS,
                     .row_label = "query",
                     .column_label = "key",
                     .row_names = token_names,
                     .column_names = token_names,
                     .limit = 1,
                     .from_zero = true,
                     .digits = 2};
    nb_lab_grid_add(lab, key, &g, values);
    nb_lab_caption(lab, "%s", caption);
}

static nb_status show_head(nb_lab *lab, nb_error *err)
{
    nb_attention_params p = nb_attention_defaults(1, 1, DIM, TOKENS, TOKENS);
    float scores[TOKENS * TOKENS], alphas[TOKENS * TOKENS], out[TOKENS * DIM];
    NB_TRY(nb_attention_standard(&p, head_q, head_k, head_v, out, NULL, scores, alphas, NULL, NULL, err));
    nb_lab_section(lab, "head", "Scores, alphas, context vectors");
    nb_lab_say(lab, "Softmax makes shares of a row of scores: each row of alphas sums to 1. A context vector is the "
                    "values' average by those "
                    "shares. Head 0 of the lecture, five tokens in two dimensions:");
    nb_lab_code(lab, "alphas[0] = softmax(Q0.K0 / root(2), Q0.K1 / root(2), ...)");
    nb_lab_code(lab, "          = softmax(%.3f, %.3f, %.3f, %.3f, %.3f)", (double)scores[0], (double)scores[1],
                (double)scores[2], (double)scores[3], (double)scores[4]);
    nb_lab_code(lab, "          = %.3f %.3f %.3f %.3f %.3f", (double)alphas[0], (double)alphas[1], (double)alphas[2],
                (double)alphas[3], (double)alphas[4]);
    nb_lab_code(lab, "context[0] = %.3f V0 + %.3f V1 + ... = (%.3f, %.3f)", (double)alphas[0], (double)alphas[1],
                (double)out[0], (double)out[1]);
    nb_lab_grid g = {.rows = TOKENS,
                     .columns = TOKENS,
                     .row_names = token_names,
                     .column_names = token_names,
                     .digits = 2,
                     .row_label = "query",
                     .column_label = "key"};
    nb_lab_grid_add(lab, "scores", &g, scores);
    nb_lab_caption(lab, "Scores: Q.K / root(2)");
    put_alphas(lab, "alphas", alphas, "Alphas: each row sums to 1");
    return NB_OK;
}

static nb_status show_masks(nb_lab *lab, nb_error *err)
{
    static const struct {
        const char *key, *caption;
        bool causal;
        int64_t left;
        size_t sinks, keys;
    } masks[] = {{"causal", "Causal: no query sees a later key", true, -1, 0, TOKENS},
                 {"window", "Sliding window of 2", true, 1, 0, TOKENS},
                 {"sink", "Window of 2, and the first token as a sink", true, 1, 1, TOKENS},
                 {"padding", "Padding: the last two keys are not there", false, -1, 0, TOKENS - 2}};
    nb_lab_section(lab, "masks", "Masks: keys that are not seen");
    nb_lab_say(lab, "A mask replaces scores before the softmax by minus infinity (or -1e9): their share is 0, and the "
                    "others share what "
                    "was theirs.");
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        nb_attention_params p = nb_attention_defaults(1, 1, DIM, TOKENS, TOKENS);
        float alphas[TOKENS * TOKENS], out[TOKENS * DIM];
        p.causal = masks[i].causal;
        p.left = masks[i].left;
        p.sink_tokens = masks[i].sinks;
        p.key_lengths = &masks[i].keys;
        NB_TRY(nb_attention_standard(&p, head_q, head_k, head_v, out, NULL, NULL, alphas, NULL, NULL, err));
        put_alphas(lab, masks[i].key, alphas, masks[i].caption);
    }
    return NB_OK;
}

/* ---- a real model ---- */

/* A token as it can be shown: control characters and spaces made visible, about 14 columns; half code points are none. */
static const char *token_text(nb_lab *lab, const nb_lab_reading *r, size_t i)
{
    char text[64], shown[64];
    size_t bytes = 0, n = 0, step;
    uint32_t c;
    if (nb_detokenize(r->model, &r->tokens.id[i], 1, text, sizeof text, &bytes, NULL) != NB_OK)
        bytes = 0;
    bytes = nb_min_size(bytes, sizeof text);
    for (size_t k = 0, shows = 0; k < bytes && shows < 14; k += nb_max_size(step, 1)) {
        step = nb_utf8_decode((const unsigned char *)text + k, bytes - k, &c);
        if (step == 0)
            continue;
        if (c <= 0x20 || c == 0x7f)
            shown[n] = c == ' ' ? '_' : '?';
        else
            memcpy(shown + n, text + k, step);
        n += step;
        shows += step > 2 ? 2 : 1;
    }
    if (n == 0)
        n = (size_t)snprintf(shown, sizeof shown, "#%d", r->tokens.id[i]);
    return nb_arena_strdup(nb_lab_arena(lab), (nb_str){shown, n});
}

typedef struct habits { /* of one head, averages over queries */
    double first, itself, before, bits;
} habits;

static habits habits_of(const nb_lab_alphas *a, size_t head)
{
    habits h = {0};
    double n = (double)a->tokens;
    for (size_t i = 0; i < a->tokens; i++) {
        const float *row = a->alphas + (head * a->tokens + i) * a->tokens;
        h.first += (double)row[0] / n;
        h.itself += (double)row[i] / n;
        h.before += i ? (double)row[i - 1] / n : 0;
        for (size_t j = 0; j < a->tokens; j++)
            h.bits -= row[j] > 0 ? (double)row[j] * log2((double)row[j]) / n : 0;
    }
    return h;
}

/* The head that spreads its attention most: the one with the most to see. */
static size_t choose_head(const nb_lab_alphas *a)
{
    size_t best = 0;
    for (size_t h = 1; h < a->heads; h++)
        if (habits_of(a, h).bits > habits_of(a, best).bits)
            best = h;
    return best;
}

static void put_heads(nb_lab *lab, const nb_lab_alphas *a)
{
    static const nb_lab_column columns[] = {{"head", "head", NB_LAB_COUNT, 0},
                                            {"first", "to the first token", NB_LAB_PERCENT, 1},
                                            {"before", "to the one before", NB_LAB_PERCENT, 1},
                                            {"itself", "to itself", NB_LAB_PERCENT, 1},
                                            {"bits", "entropy, bits", NB_LAB_FIXED, 2}};
    nb_lab_table *t = nb_lab_table_begin(lab, "heads", columns, 5);
    for (size_t i = 0; i < a->heads; i++) {
        habits h = habits_of(a, i);
        nb_lab_cell(t, (double)i);
        nb_lab_cell(t, h.first);
        nb_lab_cell(t, h.before);
        nb_lab_cell(t, h.itself);
        nb_lab_cell(t, h.bits);
    }
    nb_lab_caption(lab, "Where the heads of this layer look, on average over the tokens (the first ones have few to "
                        "choose from, and shares overlap)");
}

static nb_status put_real(nb_lab *lab, const nb_lab_params *p, nb_lab_reading *r, const char *path, nb_error *err)
{
    nb_lab_alphas a;
    const char *names[MOST_SHOWN];
    int layers = r->model->def->h.layers, layer = p->layer < 0 ? layers / 2 : (int)p->layer;
    if (p->layer >= layers || p->layer < -1)
        return nb_fail(err, NB_ERR_ARGUMENT, "--layer %lld: the model has layers 0 to %d", (long long)p->layer,
                       layers - 1);
    r->tokens.count = nb_min_size(r->tokens.count, MOST_SHOWN);
    NB_TRY(nb_lab_alphas_of(r, layer, &a, err));
    if (p->head >= (int64_t)a.heads || p->head < -1)
        return nb_fail(err, NB_ERR_ARGUMENT, "--head %lld: the layer has heads 0 to %zu", (long long)p->head,
                       a.heads - 1);
    size_t head = p->head < 0 ? choose_head(&a) : (size_t)p->head;
    for (size_t i = 0; i < a.tokens; i++)
        if (!(names[i] = token_text(lab, r, i)))
            return nb_fail_memory(err, "names", 16);
    nb_lab_fact_text(lab, "model", "model", "%s", nb_lab_base_name(path));
    nb_lab_fact(lab, "layer", "layer", NB_LAB_COUNT, 0, layer, NULL);
    nb_lab_fact(lab, "head", "head", NB_LAB_COUNT, 0, (double)head, NULL);
    nb_lab_fact(lab, "head_count", "heads", NB_LAB_COUNT, 0, (double)a.heads, NULL);
    nb_lab_fact(lab, "kv_heads", "key and value heads", NB_LAB_COUNT, 0, (double)a.kv_heads, NULL);
    nb_lab_fact(lab, "error", "contexts made with these alphas, off from the model's own by", NB_LAB_DIGITS, 2, a.error,
                NULL);
    nb_lab_grid g = {.rows = a.tokens,
                     .columns = a.tokens,
                     .row_label = "query",
                     .column_label = "key",
                     .row_names = names,
                     .column_names = names,
                     .limit = 1,
                     .from_zero = true,
                     .digits = -1};
    nb_lab_grid_add(lab, "alphas", &g, a.alphas + head * a.tokens * a.tokens);
    nb_lab_caption(lab, "Alphas of layer %d, head %zu: which earlier tokens (columns) each token (row) looks at", layer,
                   head);
    put_heads(lab, &a);
    return NB_OK;
}

static nb_status show_model(nb_lab *lab, const nb_lab_params *p, const char *path, nb_error *err)
{
    nb_lab_reading r;
    const char *text = p->text ? p->text : "The animal did not cross the street because it was too tired.";
    nb_lab_section(lab, "model", "A real model reads a sentence");
    nb_lab_say(
        lab,
        "Its queries and keys are made again from what its matrices read (the first %d tokens). Many heads give most "
        "of their "
        "attention to the first token: it is where a head looks that has nothing to look for. --layer and --head "
        "choose others, --text is your own sentence.",
        MOST_SHOWN);
    nb_status status = nb_lab_reading_open(path, text, 6, true, &r, err);
    if (status == NB_OK)
        status = put_real(lab, p, &r, path, err);
    if (status == NB_ERR_UNSUPPORTED) {
        nb_lab_say(lab, "Not here: %s: %s.", nb_lab_base_name(path), err ? err->message : "");
        status = NB_OK;
    }
    nb_lab_reading_close(&r);
    return status;
}

nb_status nb_lab_attention(const nb_lab_params *p, nb_lab *lab, nb_error *err)
{
    char path[1024];
    show_dot(lab);
    show_variance(lab, (uint64_t)p->seed);
    NB_TRY(show_head(lab, err));
    NB_TRY(show_masks(lab, err));
    if (nb_lab_find_model(p, NB_LAB_WRITER, path, err) == NB_OK)
        return show_model(lab, p, path, err);
    nb_lab_section(lab, "model", "A real model reads a sentence");
    nb_lab_say(lab,
               "No model is here. --model FILE, or `tools/fetch-model smollm2-135m`, shows the alphas of its heads.");
    return NB_OK;
}
