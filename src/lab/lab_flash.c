/* flash: attention that makes the matrix of scores, and attention that never does, side by side. */
#include <math.h>
#include <stdio.h>

#include "draw/svg.h"
#include "lab/lab_measure.h"

enum { DIM = 64, EXACT_MOST = 1024, SMALL = 256, SMALL_DIM = 32, TILES = 8 };
static const size_t lengths[] = {128, 256, 512, 1024, 2048, 4096};
enum { LENGTHS = sizeof lengths / sizeof *lengths, SIDES = 2 };
#define SECONDS_A_POINT 0.2

static const char *const names[SIDES] = {"standard", "flash"};

/* ---- both, as the library has them ---- */

typedef struct call {
    bool flash;
    nb_attention_params p;
    const float *q, *k, *v;
    float *out;
    nb_attention_stats stats;
} call;

static nb_status run_call(void *context, nb_error *err)
{
    call *c = context;
    if (c->flash)
        return nb_attention_flash(&c->p, c->q, c->k, c->v, c->out, NULL, &c->stats, NULL, err);
    return nb_attention_standard(&c->p, c->q, c->k, c->v, c->out, NULL, NULL, NULL, &c->stats, NULL, err);
}

typedef struct sides {
    double length[LENGTHS], seconds[SIDES][LENGTHS], moved[SIDES][LENGTHS], scratch[SIDES][LENGTHS];
    double error[SIDES][LENGTHS]; /* NaN: not compared */
} sides;

static double largest_error(const float *got, const double *want, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)got[i] - want[i]));
    return most;
}

static nb_status measure_length(size_t at, call c, double *exact, sides *s, nb_error *err)
{
    size_t n = lengths[at];
    c.p = nb_attention_defaults(1, 1, DIM, n, n);
    if (n <= EXACT_MOST)
        NB_TRY(nb_attention_exact(&c.p, c.q, c.k, c.v, exact, NULL, err));
    s->length[at] = (double)n;
    for (size_t i = 0; i < SIDES; i++) {
        c.flash = i == 1;
        NB_TRY(nb_lab_time(run_call, &c, SECONDS_A_POINT, &s->seconds[i][at], err));
        s->moved[i][at] = (double)c.stats.bytes_moved;
        s->scratch[i][at] = (double)c.stats.scratch_bytes;
        s->error[i][at] = n <= EXACT_MOST ? largest_error(c.out, exact, n * DIM) : NAN;
    }
    return NB_OK;
}

static void put_sides(nb_lab *lab, const char *key, const char *caption, nb_lab_style style, double (*y)[LENGTHS],
                      const sides *s)
{
    const nb_lab_column columns[] = {{"length", "tokens", NB_LAB_COUNT, 0},
                                     {"standard", "standard", style, 2},
                                     {"flash", "flash", style, 2},
                                     {"ratio", "standard / flash", NB_LAB_FIXED, 2}};
    nb_lab_table *t = nb_lab_table_begin(lab, key, columns, 4);
    nb_lab_caption(lab, "%s", caption);
    for (size_t n = 0; n < LENGTHS; n++) {
        nb_lab_cell(t, s->length[n]);
        nb_lab_cell(t, y[0][n]);
        nb_lab_cell(t, y[1][n]);
        nb_lab_cell(t, y[0][n] / y[1][n]);
    }
}

static void draw_sides(nb_lab *lab, const char *key, const char *caption, const char *axis, double unit,
                       double (*y)[LENGTHS], const sides *s)
{
    nb_lab_chart *chart = nb_lab_chart_begin(lab, key, (nb_lab_axis){.label = "tokens", .log = true},
                                             (nb_lab_axis){.label = axis, .log = true});
    nb_lab_caption(lab, "%s", caption);
    for (size_t i = 0; i < SIDES; i++) {
        double scaled[LENGTHS];
        for (size_t n = 0; n < LENGTHS; n++)
            scaled[n] = y[i][n] * unit;
        nb_lab_series(chart, names[i], NB_LAB_LINE, s->length, scaled, LENGTHS);
    }
}

static nb_status show_sides(nb_lab *lab, nb_rng *r, nb_error *err)
{
    size_t most = lengths[LENGTHS - 1] * DIM;
    float *q, *k, *v;
    sides s;
    NB_TRY(nb_lab_normals(lab, r, most, &q, err));
    NB_TRY(nb_lab_normals(lab, r, most, &k, err));
    NB_TRY(nb_lab_normals(lab, r, most, &v, err));
    float *out = NB_ARRAY(nb_lab_arena(lab), float, most);
    double *exact = NB_ARRAY(nb_lab_arena(lab), double, EXACT_MOST *DIM);
    if (!out || !exact)
        return nb_fail_memory(err, "outputs", most * sizeof *out);
    for (size_t n = 0; n < LENGTHS; n++)
        NB_TRY(measure_length(n, (call){.q = q, .k = k, .v = v, .out = out}, exact, &s, err));
    nb_lab_section(lab, "sides", "Side by side");
    nb_lab_say(lab,
               "Standard attention writes all scores to memory, reads them for the softmax, writes the weights, reads "
               "them again. Flash attention takes a tile of queries and a tile of keys at a time, keeps for each "
               "query the largest score so far, the sum of the weights and their weighted values, and shrinks the "
               "last two when a larger score comes. One head of %d values, one processor; bytes as the library counts "
               "them, errors against float64 up to %d tokens.",
               DIM, EXACT_MOST);
    put_sides(lab, "moved", "Bytes moved", NB_LAB_BYTES, s.moved, &s);
    put_sides(lab, "memory", "Memory besides inputs and output", NB_LAB_BYTES, s.scratch, &s);
    put_sides(lab, "time", "Time of a call", NB_LAB_SECONDS, s.seconds, &s);
    put_sides(lab, "error", "Largest error", NB_LAB_DIGITS, s.error, &s);
    draw_sides(lab, "moved", "Bytes moved", "MB", 1e-6, s.moved, &s);
    draw_sides(lab, "memory", "Memory besides inputs and output", "MB", 1e-6, s.scratch, &s);
    draw_sides(lab, "time", "Time of a call", "time, ms", 1e3, s.seconds, &s);
    return NB_OK;
}

/* ---- Algorithm 1 as the paper has it, with every float that is read or written counted ---- */

typedef struct tiled {
    const float *q, *k, *v;
    float out[SMALL * SMALL_DIM], sum[SMALL], top[SMALL];
    size_t moved; /* floats */
} tiled;

/* One query against the keys of a tile. */
static void step(tiled *t, size_t i, size_t begin, size_t end)
{
    float scores[SMALL], top = t->top[i], sum = 0, *out = t->out + i * SMALL_DIM;
    for (size_t j = begin; j < end; j++) {
        float s = 0;
        for (size_t d = 0; d < SMALL_DIM; d++)
            s += t->q[i * SMALL_DIM + d] * t->k[j * SMALL_DIM + d];
        scores[j] = s / sqrtf(SMALL_DIM);
        top = fmaxf(top, scores[j]);
    }
    float shrink = expf(t->top[i] - top), before = t->sum[i] * shrink;
    for (size_t j = begin; j < end; j++)
        sum += scores[j] = expf(scores[j] - top);
    for (size_t d = 0; d < SMALL_DIM; d++) {
        float x = out[d] * before;
        for (size_t j = begin; j < end; j++)
            x += scores[j] * t->v[j * SMALL_DIM + d];
        out[d] = x / (before + sum);
    }
    t->top[i] = top;
    t->sum[i] = before + sum;
}

static void run_tiled(tiled *t, size_t block)
{
    t->moved = 0;
    for (size_t i = 0; i < SMALL; i++) {
        t->top[i] = -INFINITY;
        t->sum[i] = 0;
    }
    memset(t->out, 0, sizeof t->out);
    for (size_t j = 0; j < SMALL; j += block) {
        t->moved += 2 * block * SMALL_DIM; /* keys, values */
        for (size_t i = 0; i < SMALL; i += block) {
            t->moved += block * (SMALL_DIM + 2 * (SMALL_DIM + 2)); /* queries; outputs, sums, maxima there and back */
            for (size_t row = i; row < i + block; row++)
                step(t, row, j, j + block);
        }
    }
}

static nb_status show_blocks(nb_lab *lab, nb_rng *r, nb_error *err)
{
    static const size_t blocks[] = {8, 16, 32, 64, 128, 256};
    enum { BLOCKS = sizeof blocks / sizeof *blocks };
    static const nb_lab_column columns[] = {{"block", "block", NB_LAB_COUNT, 0},
                                            {"chip", "kept close by", NB_LAB_BYTES, 0},
                                            {"moved", "bytes moved", NB_LAB_BYTES, 0},
                                            {"share", "of standard's", NB_LAB_PERCENT, 1},
                                            {"error", "largest error", NB_LAB_DIGITS, 2}};
    size_t n = (size_t)SMALL * SMALL_DIM;
    double x[BLOCKS], y[BLOCKS], level[BLOCKS];
    double standard = 4.0 * (4.0 * SMALL * SMALL + 4.0 * SMALL * SMALL_DIM);
    float *q, *k, *v;
    NB_TRY(nb_lab_normals(lab, r, n, &q, err));
    NB_TRY(nb_lab_normals(lab, r, n, &k, err));
    NB_TRY(nb_lab_normals(lab, r, n, &v, err));
    tiled *t = NB_NEW(nb_lab_arena(lab), tiled);
    double *exact = NB_ARRAY(nb_lab_arena(lab), double, n);
    if (!t || !exact)
        return nb_fail_memory(err, "tiles", sizeof *t);
    nb_attention_params p = nb_attention_defaults(1, 1, SMALL_DIM, SMALL, SMALL);
    NB_TRY(nb_attention_exact(&p, q, k, v, exact, NULL, err));
    *t = (tiled){.q = q, .k = k, .v = v};
    nb_lab_section(lab, "blocks", "How large a tile should be");
    nb_lab_say(lab,
               "The paper's Algorithm 1, written out plainly, %d tokens of %d values: for each tile of keys and "
               "values all tiles of queries pass, with their outputs so far. The larger the tiles, the fewer passes: "
               "so they are made as large as what is fast and close to the processor holds (keys, values, queries, "
               "outputs, scores of a tile); very small ones move more than the matrix would. The result does not "
               "change but for rounding.",
               SMALL, SMALL_DIM);
    nb_lab_fact(lab, "standard", "standard attention moves", NB_LAB_BYTES, 0, standard, NULL);
    nb_lab_table *table = nb_lab_table_begin(lab, "blocks", columns, 5);
    for (size_t i = 0; i < BLOCKS; i++) {
        run_tiled(t, blocks[i]);
        x[i] = (double)blocks[i];
        y[i] = 1e-6 * (double)(t->moved * sizeof(float));
        level[i] = 1e-6 * standard;
        nb_lab_cell(table, x[i]);
        nb_lab_cell(table, (4 * x[i] * SMALL_DIM + x[i] * x[i]) * sizeof(float));
        nb_lab_cell(table, (double)(t->moved * sizeof(float)));
        nb_lab_cell(table, (double)(t->moved * sizeof(float)) / standard);
        nb_lab_cell(table, largest_error(t->out, exact, n));
    }
    nb_lab_chart *chart = nb_lab_chart_begin(lab, "blocks", (nb_lab_axis){.label = "rows of a tile", .log = true},
                                             (nb_lab_axis){.label = "MB moved", .log = true});
    nb_lab_caption(lab, "Bytes moved by size of a tile");
    nb_lab_series(chart, "Algorithm 1", NB_LAB_LINE, x, y, BLOCKS);
    nb_lab_series(chart, "standard", NB_LAB_LINE, x, level, BLOCKS);
    return NB_OK;
}

/* ---- the order of tiles, moving ---- */

/* A square that is pale, then full from `begin` to `end` of a round of so many seconds, then half. */
static void put_tile(nb_buf *out, double x, double y, double side, int series, int seconds, double begin, double end)
{
    nb_buf_printf(out,
                  "<rect class=\"box s%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill-opacity=\"0.5\">",
                  series, x, y, side - 3, side - 3);
    nb_buf_printf(
        out,
        "<animate attributeName=\"fill-opacity\" dur=\"%ds\" repeatCount=\"indefinite\" calcMode=\"discrete\" "
        "values=\"0.12;1;0.45\" keyTimes=\"0;%.4f;%.4f\"/></rect>\n",
        seconds, begin, end);
}

static void show_order(nb_lab *lab)
{
    enum { SIDE = 34, LEFT = 110, TOP = 70, COUNT = TILES * TILES, ROUND = 16 };
    double size = TOP + TILES * SIDE + 30, width = LEFT + TILES * SIDE + 30;
    nb_buf svg = {0};
    nb_lab_section(lab, "order", "Tile after tile");
    nb_lab_say(
        lab,
        "The matrix of scores is never there: one tile of it is, at a time. The page (-o FILE.html) shows "
        "the order of the paper: a tile of keys and values stays, the tiles of queries pass by it with their running "
        "maximum and sum; then comes the next tile of keys. The library turns the loops, as FlashAttention-2 does: "
        "queries stay, keys pass by, and outputs are written once.");
    nb_svg_open(&svg, "The order in which flash attention visits tiles", width, size);
    nb_svg_label(&svg, LEFT + TILES * SIDE / 2.0, 20, "middle", "axis", "keys and values");
    nb_svg_label(&svg, 8, TOP + TILES * SIDE / 2.0, "start", "axis", "queries");
    for (int j = 0; j < TILES; j++) {
        put_tile(&svg, LEFT + j * SIDE, TOP - SIDE - 6, SIDE, 1, ROUND, (double)(j * TILES + 0.01) / COUNT,
                 (double)(j + 1) * TILES / (COUNT + 0.01));
        for (int i = 0; i < TILES; i++)
            put_tile(&svg, LEFT + j * SIDE, TOP + i * SIDE, SIDE, 0, ROUND, (j * TILES + i + 0.01) / COUNT,
                     (j * TILES + i + 1) / (COUNT + 0.01));
    }
    for (int i = 0; i < TILES; i++)
        put_tile(&svg, LEFT - SIDE - 6, TOP + i * SIDE, SIDE, 2, ROUND / TILES, (i + 0.01) / TILES,
                 (i + 1) / (TILES + 0.01));
    nb_buf_z(&svg, "</svg>\n");
    nb_lab_art(lab, "order", width, size, &svg);
    nb_lab_caption(lab,
                   "Scores of %d by %d tiles, of which one exists at a time; orange: keys and values, green: "
                   "queries and outputs",
                   TILES, TILES);
    nb_buf_free(&svg);
}

nb_status nb_lab_flash(const nb_lab_params *p, nb_lab *lab, nb_error *err)
{
    nb_rng r;
    nb_rng_seed(&r, (uint64_t)p->seed);
    NB_TRY(show_sides(lab, &r, err));
    NB_TRY(show_blocks(lab, &r, err));
    show_order(lab);
    return NB_OK;
}
