/* sparse: patterns of attention that leave keys out: what each token sees, in one layer and through several, and what that saves. */
#include <math.h>
#include <stdio.h>

#include "lab/lab_measure.h"

typedef struct pattern {
    const char *key, *name;
    bool causal;
    int64_t left, right; /* as nb_attention_params has them */
    size_t dilation, sinks;
    size_t globals; /* so many, evenly spread from the first token on */
} pattern;

enum { GLOBALS_MOST = 16 };

/* The parameters of one head of a pattern; they point to `globals`. */
static nb_attention_params params_of(const pattern *p, size_t length, size_t dim, uint32_t globals[GLOBALS_MOST])
{
    nb_attention_params a = nb_attention_defaults(1, 1, dim, length, length);
    for (size_t i = 0; i < p->globals; i++)
        globals[i] = (uint32_t)(i * length / p->globals);
    a.causal = p->causal;
    a.left = p->left;
    a.right = p->right;
    a.dilation = p->dilation;
    a.sink_tokens = p->sinks;
    a.globals = globals;
    a.global_count = p->globals;
    return a;
}

/* seen: [length][length], 1 where the library gives a key a weight. */
static nb_status seen_by(nb_lab *lab, const pattern *p, size_t length, float **seen, nb_error *err)
{
    uint32_t globals[GLOBALS_MOST];
    nb_attention_params a = params_of(p, length, 1, globals);
    float *zeros = NB_ARRAY(nb_lab_arena(lab), float, length), *out = NB_ARRAY(nb_lab_arena(lab), float, length);
    *seen = NB_ARRAY(nb_lab_arena(lab), float, length *length);
    if (!zeros || !out || !*seen)
        return nb_fail_memory(err, "a pattern", length * length * sizeof(float));
    NB_TRY(nb_attention_standard(&a, zeros, zeros, zeros, out, NULL, NULL, *seen, NULL, NULL, err));
    for (size_t i = 0; i < length * length; i++)
        (*seen)[i] = (*seen)[i] > 0;
    return NB_OK;
}

/* ---- patterns ---- */

enum { TOKENS = 16, WINDOW = 4 };

static const pattern drawn[] = {
    {"full", "Full: every token sees every other", false, -1, -1, 1, 0, 0},
    {"causal", "Causal: no token sees a later one", true, -1, -1, 1, 0, 0},
    {"sliding", "Sliding window of 4: itself and the 3 before", true, WINDOW - 1, -1, 1, 0, 0},
    {"two_sided", "Two-sided window: 2 before, 2 after", false, 2, 2, 1, 0, 0},
    {"dilated", "Dilated: 4 keys, every other one", true, WINDOW - 1, -1, 2, 0, 0},
    {"global", "Two-sided window, tokens 0 and 8 global", false, 2, 2, 1, 0, 2},
    {"sinks", "Sliding window of 4, the first 2 are sinks", true, WINDOW - 1, -1, 1, 2, 0}};
enum { DRAWN = sizeof drawn / sizeof *drawn };
static const char *const token_names[TOKENS] = {"0", "1", "2",  "3",  "4",  "5",  "6",  "7",
                                                "8", "9", "10", "11", "12", "13", "14", "15"};

static void put_pattern_row(nb_lab_table *t, const char *key, const float *seen)
{
    double pairs = 0, most = 0;
    for (size_t i = 0; i < TOKENS; i++) {
        double row = 0;
        for (size_t j = 0; j < TOKENS; j++)
            row += (double)seen[i * TOKENS + j];
        pairs += row;
        most = fmax(most, row);
    }
    nb_lab_cell_text(t, "%s", key);
    nb_lab_cell(t, pairs);
    nb_lab_cell(t, pairs / (TOKENS * TOKENS));
    nb_lab_cell(t, most);
}

static nb_status show_patterns(nb_lab *lab, nb_error *err)
{
    static const nb_lab_column columns[] = {{"pattern", "pattern", NB_LAB_TEXT, 0},
                                            {"pairs", "pairs seen", NB_LAB_COUNT, 0},
                                            {"share", "of all", NB_LAB_PERCENT, 1},
                                            {"most", "most keys of a token", NB_LAB_COUNT, 0}};
    float *seen[DRAWN];
    nb_lab_section(lab, "patterns", "Who may look at whom");
    nb_lab_say(lab,
               "Each picture has a query a row and a key a column, %d tokens; dark: the query sees the key. A window "
               "keeps the near ones, dilation spreads as many further out, global tokens see all and are seen by all, "
               "sinks are first tokens that stay visible when the window has moved on. The pictures are what the "
               "library's weights say, given equal scores.",
               TOKENS);
    for (size_t i = 0; i < DRAWN; i++)
        NB_TRY(seen_by(lab, &drawn[i], TOKENS, &seen[i], err));
    nb_lab_table *t = nb_lab_table_begin(lab, "pairs", columns, 4);
    for (size_t i = 0; i < DRAWN; i++)
        put_pattern_row(t, drawn[i].key, seen[i]);
    for (size_t i = 0; i < DRAWN; i++) {
        nb_lab_grid g = {.rows = TOKENS,
                         .columns = TOKENS,
                         .row_label = "query",
                         .column_label = "key",
                         .row_names = token_names,
                         .column_names = token_names,
                         .limit = 1,
                         .from_zero = true,
                         .digits = -1};
        nb_lab_grid_add(lab, drawn[i].key, &g, seen[i]);
        nb_lab_caption(lab, "%s", drawn[i].name);
    }
    return NB_OK;
}

/* ---- through several layers ---- */

enum { LAYERS = 8, LONG = 64 };

static const pattern stacked[] = {{"sliding", "sliding", true, WINDOW - 1, -1, 1, 0, 0},
                                  {"dilated", "dilated by 2", true, WINDOW - 1, -1, 2, 0, 0},
                                  {"doubling", "dilation doubles", true, WINDOW - 1, -1, 1, 0, 0},
                                  {"sinks", "with 2 sinks", true, WINDOW - 1, -1, 1, 2, 0},
                                  {"global", "with 4 global", true, WINDOW - 1, -1, 1, 0, 4}};
enum { STACKED = sizeof stacked / sizeof *stacked };

/* What the last token's state hangs on after each layer: reach [LAYERS][LONG]. From the top down: a layer's tokens are
 * those that the tokens above them see. */
static nb_status reach_of(nb_lab *lab, const pattern *p, float *reach, nb_error *err)
{
    float *seen[LAYERS] = {0};
    bool doubles = strcmp(p->key, "doubling") == 0;
    for (size_t l = 0; l < LAYERS; l++) {
        pattern now = *p;
        now.dilation = doubles ? (size_t)1 << l : p->dilation;
        if (l == 0 || doubles)
            NB_TRY(seen_by(lab, &now, LONG, &seen[l], err));
        else
            seen[l] = seen[0];
    }
    for (size_t layers = 1; layers <= LAYERS; layers++) {
        bool needed[LONG] = {[LONG - 1] = true};
        for (size_t l = layers; l-- > 0;) {
            bool below[LONG] = {0};
            for (size_t i = 0; i < LONG; i++)
                for (size_t j = 0; needed[i] && j < LONG; j++)
                    below[j] |= seen[l][i * LONG + j] > 0;
            memcpy(needed, below, sizeof needed);
        }
        for (size_t j = 0; j < LONG; j++)
            reach[(layers - 1) * LONG + j] = needed[j];
    }
    return NB_OK;
}

static void put_reach(nb_lab *lab, float (*reach)[LAYERS * LONG])
{
    nb_lab_column columns[1 + STACKED] = {{"layers", "layers", NB_LAB_COUNT, 0}};
    double x[LAYERS], y[STACKED][LAYERS] = {0};
    for (size_t i = 0; i < STACKED; i++)
        columns[1 + i] = (nb_lab_column){stacked[i].key, stacked[i].name, NB_LAB_COUNT, 0};
    nb_lab_table *t = nb_lab_table_begin(lab, "reach", columns, 1 + STACKED);
    nb_lab_caption(lab, "Tokens, of %d, that the last one's state hangs on", LONG);
    for (size_t l = 0; l < LAYERS; l++) {
        x[l] = (double)l + 1;
        nb_lab_cell(t, x[l]);
        for (size_t i = 0; i < STACKED; i++) {
            for (size_t j = 0; j < LONG; j++)
                y[i][l] += (double)reach[i][l * LONG + j];
            nb_lab_cell(t, y[i][l]);
        }
    }
    nb_lab_chart *chart = nb_lab_chart_begin(lab, "reach", (nb_lab_axis){.label = "layers"},
                                             (nb_lab_axis){.label = "tokens reached", .lo = 0, .hi = LONG});
    nb_lab_caption(lab, "What the last of %d tokens sees through layers with a window of %d", LONG, WINDOW);
    for (size_t i = 0; i < STACKED; i++)
        nb_lab_series(chart, stacked[i].name, NB_LAB_LINE, x, y[i], LAYERS);
}

static nb_status show_layers(nb_lab *lab, nb_error *err)
{
    static const char *const names[LAYERS] = {"1", "2", "3", "4", "5", "6", "7", "8"};
    float reach[STACKED][LAYERS * LONG];
    nb_lab_section(lab, "layers", "Through several layers everyone sees further");
    nb_lab_say(lab,
               "A token's neighbour has looked at its own neighbours one layer below. So what a token can know of "
               "grows with each layer, here for the last of %d tokens:",
               LONG);
    nb_lab_code(lab, "sliding:            1 + layers x (window - 1) = 1 + %d x %d = %d tokens", LAYERS, WINDOW - 1,
                1 + LAYERS * (WINDOW - 1));
    nb_lab_code(lab, "dilation 1, 2, 4..: 1 + (2^layers - 1) x (window - 1), at most all");
    nb_lab_say(lab,
               "Dilation by 2 in every layer reaches as many tokens at most, twice as far and with every other one "
               "left out; doubled from layer to layer it leaves none out. Sinks add themselves only. Global "
               "tokens have seen everything before them: who sees one knows of all that in two layers.");
    for (size_t i = 0; i < STACKED; i++)
        NB_TRY(reach_of(lab, &stacked[i], reach[i], err));
    put_reach(lab, reach);
    for (size_t i = 0; i < STACKED; i++) {
        nb_lab_grid g = {.rows = LAYERS,
                         .columns = LONG,
                         .row_label = "layers",
                         .column_label = "token",
                         .row_names = names,
                         .limit = 1,
                         .from_zero = true,
                         .digits = -1};
        nb_lab_grid_add(lab, stacked[i].key, &g, reach[i]);
        nb_lab_caption(lab, "What the last token sees through 1 to %d layers: %s", LAYERS, stacked[i].name);
    }
    return NB_OK;
}

/* ---- cost ---- */

enum { DIM = 64, SPAN = 256, CHECKED = 512 };
static const size_t lengths[] = {512, 1024, 2048, 4096, 8192, 16384};
enum { LENGTHS = sizeof lengths / sizeof *lengths };
#define SECONDS_A_POINT 0.2

static const pattern costed[] = {{"dense", "causal, dense", true, -1, -1, 1, 0, 0},
                                 {"sliding", "window 256", true, SPAN - 1, -1, 1, 0, 0},
                                 {"dilated", "64 keys, by 4", true, SPAN / 4 - 1, -1, 4, 0, 0},
                                 {"global", "256, 16 global", true, SPAN - 1, -1, 1, 0, GLOBALS_MOST}};
enum { COSTED = sizeof costed / sizeof *costed };

typedef struct call {
    nb_attention_params a;
    const float *q, *k, *v;
    float *out;
    nb_attention_stats stats;
} call;

static nb_status run_call(void *context, nb_error *err)
{
    call *c = context;
    return nb_attention_flash(&c->a, c->q, c->k, c->v, c->out, NULL, &c->stats, NULL, err);
}

typedef struct costs {
    double length[LENGTHS], seconds[COSTED][LENGTHS], tiles[COSTED][LENGTHS], scratch[COSTED][LENGTHS];
    double moved[COSTED][LENGTHS], matrix[LENGTHS];
    double difference; /* from the standard algorithm */
    size_t tile_rows, tile_keys;
} costs;

static nb_status compare(nb_lab *lab, const pattern *p, call c, double *most, nb_error *err)
{
    uint32_t globals[GLOBALS_MOST];
    float *out = NB_ARRAY(nb_lab_arena(lab), float, CHECKED *DIM);
    if (!out)
        return nb_fail_memory(err, "a comparison", CHECKED * DIM * sizeof *out);
    c.a = params_of(p, CHECKED, DIM, globals);
    NB_TRY(run_call(&c, err));
    NB_TRY(nb_attention_standard(&c.a, c.q, c.k, c.v, out, NULL, NULL, NULL, NULL, NULL, err));
    for (size_t i = 0; i < CHECKED * DIM; i++)
        *most = fmax(*most, fabs((double)out[i] - (double)c.out[i]));
    return NB_OK;
}

static nb_status measure(nb_lab *lab, uint64_t seed, costs *m, nb_error *err)
{
    size_t values = lengths[LENGTHS - 1] * DIM;
    float *q, *k, *v, *out;
    nb_rng r;
    nb_rng_seed(&r, seed);
    NB_TRY(nb_lab_normals(lab, &r, values, &q, err));
    NB_TRY(nb_lab_normals(lab, &r, values, &k, err));
    NB_TRY(nb_lab_normals(lab, &r, values, &v, err));
    if (!(out = NB_ARRAY(nb_lab_arena(lab), float, values)))
        return nb_fail_memory(err, "outputs", values * sizeof *out);
    call c = {.q = q, .k = k, .v = v, .out = out};
    for (size_t i = 0; i < COSTED; i++) {
        NB_TRY(compare(lab, &costed[i], c, &m->difference, err));
        for (size_t n = 0; n < LENGTHS; n++) {
            uint32_t globals[GLOBALS_MOST];
            c.a = params_of(&costed[i], lengths[n], DIM, globals);
            NB_TRY(nb_lab_time(run_call, &c, SECONDS_A_POINT, &m->seconds[i][n], err));
            m->length[n] = (double)lengths[n];
            m->tiles[i][n] = (double)c.stats.tiles_visited;
            m->scratch[i][n] = (double)c.stats.scratch_bytes;
            m->moved[i][n] = (double)c.stats.bytes_moved;
            m->matrix[n] = m->length[n] * m->length[n] * sizeof(float);
            m->tile_rows = c.stats.tile_rows;
            m->tile_keys = c.stats.tile_keys;
        }
    }
    return NB_OK;
}

static void put_costs(nb_lab *lab, const char *key, const char *what, nb_lab_style style, double (*values)[LENGTHS],
                      const costs *m, const double *matrix)
{
    nb_lab_column columns[2 + COSTED] = {{"length", "tokens", NB_LAB_COUNT, 0}};
    size_t n = 1;
    for (size_t i = 0; i < COSTED; i++)
        columns[n++] = (nb_lab_column){costed[i].key, costed[i].name, style, 0};
    if (matrix)
        columns[n++] = (nb_lab_column){"matrix", "all scores", style, 0};
    nb_lab_table *t = nb_lab_table_begin(lab, key, columns, n);
    nb_lab_caption(lab, "%s", what);
    for (size_t l = 0; l < LENGTHS; l++) {
        nb_lab_cell(t, m->length[l]);
        for (size_t i = 0; i < COSTED; i++)
            nb_lab_cell(t, values[i][l]);
        if (matrix)
            nb_lab_cell(t, matrix[l]);
    }
}

static void draw_costs(nb_lab *lab, const char *key, const char *caption, const char *axis, double (*values)[LENGTHS],
                       const costs *m, const double *matrix)
{
    nb_lab_chart *chart = nb_lab_chart_begin(lab, key, (nb_lab_axis){.label = "tokens", .log = true},
                                             (nb_lab_axis){.label = axis, .log = true});
    nb_lab_caption(lab, "%s", caption);
    for (size_t i = 0; i < COSTED; i++)
        nb_lab_series(chart, costed[i].name, NB_LAB_LINE, m->length, values[i], LENGTHS);
    if (matrix)
        nb_lab_series(chart, "all scores (not kept)", NB_LAB_LINE, m->length, matrix, LENGTHS);
}

static bool is_dense(const pattern *p) { return p->left < 0; }

/* Dense: a line over the square of the length; the others: over the length. */
static nb_lab_line fit_of(const costs *m, size_t i, const double *y)
{
    double x[LENGTHS];
    for (size_t l = 0; l < LENGTHS; l++)
        x[l] = is_dense(&costed[i]) ? m->length[l] * m->length[l] : m->length[l];
    return nb_lab_fit(x, y, LENGTHS);
}

/* Times as points, and the lines fitted to them, of patterns `first` to `end` - 1; milliseconds. */
static void draw_fits(nb_lab *lab, const char *key, const char *caption, const costs *m, size_t first, size_t end)
{
    enum { MANY = 64 };
    double x[MANY], y[MANY], from = m->length[0], to = m->length[LENGTHS - 1];
    char name[64];
    nb_lab_chart *chart = nb_lab_chart_begin(lab, key, (nb_lab_axis){.label = "tokens"},
                                             (nb_lab_axis){.label = "time, ms"});
    nb_lab_caption(lab, "%s", caption);
    for (size_t i = first; i < end; i++) {
        nb_lab_line line = fit_of(m, i, m->seconds[i]);
        for (size_t k = 0; k < MANY; k++) {
            x[k] = from + (to - from) * (double)k / (MANY - 1);
            y[k] = line.base + line.slope * x[k] * (is_dense(&costed[i]) ? x[k] : 1);
        }
        snprintf(name, sizeof name, "%s: fit", costed[i].name);
        nb_lab_series(chart, costed[i].name, NB_LAB_POINTS, m->length, m->seconds[i], LENGTHS);
        nb_lab_series(chart, name, NB_LAB_LINE, x, y, MANY);
    }
}

static void put_fits(nb_lab *lab, const costs *m)
{
    static const nb_lab_column columns[] = {
        {"pattern", "pattern", NB_LAB_TEXT, 0},       {"time_power", "p, time", NB_LAB_FIXED, 2},
        {"tiles_power", "p, tiles", NB_LAB_FIXED, 2}, {"over", "time's line", NB_LAB_TEXT, 0},
        {"slope", "b, ns", NB_LAB_DIGITS, 3},         {"r2", "R^2", NB_LAB_FIXED, 5},
        {"r2_tiles", "R^2, tiles", NB_LAB_FIXED, 5}};
    nb_lab_table *t = nb_lab_table_begin(lab, "fits", columns, 7);
    nb_lab_caption(lab, "How time and tiles grow: as the length L to the power p (by logarithms); then a line by least "
                        "squares, over the square of L for dense attention, over L for the others");
    for (size_t i = 0; i < COSTED; i++) {
        nb_lab_line line = fit_of(m, i, m->seconds[i]);
        nb_lab_cell_text(t, "%s", costed[i].name);
        nb_lab_cell(t, nb_lab_power(m->length, m->seconds[i], LENGTHS));
        nb_lab_cell(t, nb_lab_power(m->length, m->tiles[i], LENGTHS));
        nb_lab_cell_text(t, "%s", is_dense(&costed[i]) ? "a + b L^2" : "a + b L");
        nb_lab_cell(t, 1e9 * line.slope);
        nb_lab_cell(t, line.r2);
        nb_lab_cell(t, fit_of(m, i, m->tiles[i]).r2);
    }
}

/* For figures. */
static void to_round_units(costs *m)
{
    for (size_t l = 0; l < LENGTHS; l++) {
        m->matrix[l] *= 1e-6;
        for (size_t i = 0; i < COSTED; i++) {
            m->seconds[i][l] *= 1e3;
            m->scratch[i][l] *= 1e-6;
        }
    }
}

static nb_status show_cost(nb_lab *lab, uint64_t seed, nb_error *err)
{
    costs m = {.difference = 0};
    NB_TRY(measure(lab, seed, &m, err));
    nb_lab_section(lab, "cost", "What it saves: time and memory against length");
    nb_lab_say(lab,
               "One head of %d values, random queries, keys and values, through the library's flash attention, which "
               "computes tiles of %zu queries by %zu keys and skips those of which nothing is seen. Twice the tokens: "
               "four times the tiles when dense, twice with a window. Time is that of one processor, the best of "
               "several calls; memory is what a call takes besides its inputs. A matrix of all scores, which nobody "
               "keeps here, stands beside it.",
               DIM, m.tile_rows, m.tile_keys);
    nb_lab_fact(lab, "tile_rows", "queries of a tile", NB_LAB_COUNT, 0, (double)m.tile_rows, NULL);
    nb_lab_fact(lab, "tile_keys", "keys of a tile", NB_LAB_COUNT, 0, (double)m.tile_keys, NULL);
    nb_lab_fact(lab, "window", "window", NB_LAB_COUNT, 0, SPAN, "keys");
    nb_lab_fact(lab, "difference", "largest difference from standard attention, 512 tokens", NB_LAB_DIGITS, 2,
                m.difference, NULL);
    put_costs(lab, "time", "Time of a call", NB_LAB_SECONDS, m.seconds, &m, NULL);
    put_costs(lab, "tiles", "Tiles computed", NB_LAB_COUNT, m.tiles, &m, NULL);
    put_costs(lab, "moved", "Bytes read and written", NB_LAB_BYTES, m.moved, &m, NULL);
    put_costs(lab, "memory", "Memory", NB_LAB_BYTES, m.scratch, &m, m.matrix);
    put_fits(lab, &m);
    to_round_units(&m);
    draw_costs(lab, "time", "Time of a call", "time, ms", m.seconds, &m, NULL);
    draw_fits(lab, "fit_dense", "Dense: a + b L^2", &m, 0, 1);
    draw_fits(lab, "fit_windows", "Windows: a + b L", &m, 1, COSTED);
    draw_costs(lab, "tiles", "Tiles computed", "tiles", m.tiles, &m, NULL);
    draw_costs(lab, "memory", "Memory besides inputs and output", "MB", m.scratch, &m, m.matrix);
    return NB_OK;
}

nb_status nb_lab_sparse(const nb_lab_params *p, nb_lab *lab, nb_error *err)
{
    NB_TRY(show_patterns(lab, err));
    NB_TRY(show_layers(lab, err));
    return show_cost(lab, (uint64_t)p->seed, err);
}
