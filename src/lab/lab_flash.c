/* flash: attention that makes the matrix of scores, and attention that never does, side by side. */
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "draw/svg.h"
#include "lab/lab_measure.h"
#include "lab/lab_model.h"

enum { DIM = 64, CHECKED = 128, SMALL = 256, SMALL_DIM = 32, TILES = 8 };
static const size_t lengths[] = {128, 256, 512, 1024, 2048, 4096, 8192};
enum { LENGTHS = sizeof lengths / sizeof *lengths, SIDES = 2 };
#define SECONDS_A_POINT 0.2

static const char *const names[SIDES] = {"standard", "flash"};

/* ---- softmax in pieces ---- */

enum { PIECE = 3 };

typedef struct piece { /* of a row of scores */
    double x[PIECE], most, f[PIECE], sum;
} piece;

static void weigh(nb_lab *lab, int which, piece *p)
{
    p->most = fmax(fmax(p->x[0], p->x[1]), p->x[2]);
    for (size_t i = 0; i < PIECE; i++)
        p->sum += p->f[i] = exp(p->x[i] - p->most);
    nb_lab_code(lab, "x%d = [%.2f %.2f %.2f]: m%d = %.2f", which, p->x[0], p->x[1], p->x[2], which, p->most);
    nb_lab_code(lab, "     f%d = exp(x%d - m%d) = [%.3f %.3f %.3f], l%d = %.3f", which, which, which, p->f[0], p->f[1],
                p->f[2], which, p->sum);
}

static void show_softmax(nb_lab *lab, uint64_t seed)
{
    nb_rng r;
    piece p[2] = {{.sum = 0}};
    double sum = 0, off = 0;
    nb_lab_section(lab, "softmax", "A softmax in pieces");
    nb_lab_say(lab,
               "Softmax divides by a sum over the whole row of scores. It need not see the row at once: each piece "
               "keeps its largest score m, its weights f and their sum l, and two pieces join when both are "
               "shrunk to the larger m.");
    nb_rng_seed(&r, seed);
    for (size_t i = 0; i < 2 * PIECE; i++)
        sum += exp(p[i / PIECE].x[i % PIECE] = round(100 * nb_lab_normal(&r)) / 100);
    weigh(lab, 1, &p[0]);
    weigh(lab, 2, &p[1]);
    double m = fmax(p[0].most, p[1].most), shrink[2] = {exp(p[0].most - m), exp(p[1].most - m)};
    double l = shrink[0] * p[0].sum + shrink[1] * p[1].sum, y[2 * PIECE];
    for (size_t i = 0; i < 2 * PIECE; i++) {
        y[i] = shrink[i / PIECE] * p[i / PIECE].f[i % PIECE] / l;
        off = fmax(off, fabs(y[i] - exp(p[i / PIECE].x[i % PIECE]) / sum));
    }
    nb_lab_code(lab, "m = max(m1, m2) = %.2f", m);
    nb_lab_code(lab, "l = exp(m1 - m) l1 + exp(m2 - m) l2 = %.3f x %.3f + %.3f x %.3f = %.3f", shrink[0], p[0].sum,
                shrink[1], p[1].sum, l);
    nb_lab_code(lab, "softmax = [exp(m1 - m) f1, exp(m2 - m) f2] / l");
    nb_lab_code(lab, "        = [%.3f %.3f %.3f %.3f %.3f %.3f]", y[0], y[1], y[2], y[3], y[4], y[5]);
    nb_lab_fact(lab, "sum", "sum of the six", NB_LAB_FIXED, 6, y[0] + y[1] + y[2] + y[3] + y[4] + y[5], NULL);
    nb_lab_fact(lab, "difference", "off from the softmax of the whole row by", NB_LAB_DIGITS, 2, off, NULL);
}

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
    double error[SIDES][LENGTHS];
    nb_attention_stats last; /* of flash */
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
    c.p = nb_attention_defaults(1, 1, DIM, CHECKED, n); /* without a mask each query is on its own */
    NB_TRY(nb_attention_exact(&c.p, c.q, c.k, c.v, exact, NULL, err));
    c.p = nb_attention_defaults(1, 1, DIM, n, n);
    s->length[at] = (double)n;
    for (size_t i = 0; i < SIDES; i++) {
        c.flash = i == 1;
        NB_TRY(nb_lab_time(run_call, &c, SECONDS_A_POINT, &s->seconds[i][at], err));
        s->moved[i][at] = (double)c.stats.bytes_moved;
        s->scratch[i][at] = (double)c.stats.scratch_bytes;
        s->error[i][at] = largest_error(c.out, exact, (size_t)CHECKED * DIM);
    }
    s->last = c.stats;
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
    double *exact = NB_ARRAY(nb_lab_arena(lab), double, CHECKED *DIM);
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
               "them, errors of the first %d tokens against float64.",
               DIM, CHECKED);
    nb_lab_code(lab, "Algorithm 0, standard         Algorithm 1, FlashAttention");
    nb_lab_code(lab, "S = Q K^T      write S        for each tile j of keys and values:");
    nb_lab_code(lab, "P = softmax(S) read S,          for each tile i of queries:");
    nb_lab_code(lab, "               write P            S = Q_i K_j^T, stays close by");
    nb_lab_code(lab, "O = P V        read P             m_i = max(m_i, S)    P = exp(S - m_i)");
    nb_lab_code(lab, "                                  l_i, O_i: shrink, add sum(P), P V_j");
    nb_lab_fact(lab, "tile_rows", "queries of a tile, in the library", NB_LAB_COUNT, 0, (double)s.last.tile_rows, NULL);
    nb_lab_fact(lab, "tile_keys", "keys of a tile", NB_LAB_COUNT, 0, (double)s.last.tile_keys, NULL);
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

static void run_tiled(tiled *t, size_t rows, size_t keys)
{
    t->moved = 0;
    for (size_t i = 0; i < SMALL; i++) {
        t->top[i] = -INFINITY;
        t->sum[i] = 0;
    }
    memset(t->out, 0, sizeof t->out);
    for (size_t j = 0; j < SMALL; j += keys) {
        size_t end = nb_min_size(j + keys, SMALL);
        t->moved += 2 * (end - j) * SMALL_DIM; /* keys, values */
        for (size_t i = 0; i < SMALL; i += rows) {
            size_t last = nb_min_size(i + rows, SMALL);
            /* queries; outputs, sums, maxima there and back */
            t->moved += (last - i) * (SMALL_DIM + 2 * (SMALL_DIM + 2));
            for (size_t row = i; row < last; row++)
                step(t, row, j, end);
        }
    }
}

/* The paper's tile where the level-1 cache is what is close: M floats. */
static void show_paper_tile(nb_lab *lab, tiled *t, double standard)
{
    long bytes = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    size_t floats = bytes > 0 ? (size_t)bytes / sizeof(float) : 0;
    size_t keys = (floats + 4 * SMALL_DIM - 1) / (4 * SMALL_DIM), rows = nb_min_size(keys, SMALL_DIM);
    if (floats == 0) /* the system does not say */
        return;
    nb_lab_say(lab, "The paper's rule, with this processor's level-1 cache, M = %zu floats:", floats);
    nb_lab_code(lab, "B_c = ceil(M / 4d) = ceil(%zu / %d) = %zu keys", floats, 4 * SMALL_DIM, keys);
    nb_lab_code(lab, "B_r = min(B_c, d) = %zu queries", rows);
    run_tiled(t, rows, keys);
    nb_lab_fact(lab, "paper_keys", "B_c", NB_LAB_COUNT, 0, (double)keys, "keys");
    nb_lab_fact(lab, "paper_rows", "B_r", NB_LAB_COUNT, 0, (double)rows, "queries");
    nb_lab_fact(lab, "paper_share", "moves, of standard's bytes,", NB_LAB_PERCENT, 1,
                (double)(t->moved * sizeof(float)) / standard, NULL);
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
        run_tiled(t, blocks[i], blocks[i]);
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
    show_paper_tile(lab, t, standard);
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
    show_softmax(lab, (uint64_t)p->seed);
    NB_TRY(show_sides(lab, &r, err));
    NB_TRY(show_blocks(lab, &r, err));
    show_order(lab);
    return NB_OK;
}
