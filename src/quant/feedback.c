/* Rounding with error feedback: the blocks of a band of rows, one block of columns after the other. */
#include "quant/feedback.h"

#include "base/cpu.h"
#include "quant/feedback_table.h"
#include "quant/quantize_iq.h"

enum { ROWS = NB_FEEDBACK_ROWS, PANEL = NB_FEEDBACK_PANEL, BLOCK = 256, SUB = 16 };

const nb_feedback_table *nb_feedback_level(void)
{
#if defined(__x86_64__)
    nb_cpu_level level = nb_cpu_current();
    if (level >= NB_CPU_AVX512)
        return &nb_feedback_avx512;
    if (level >= NB_CPU_AVX2)
        return &nb_feedback_avx2;
#endif
    return &nb_feedback_ref;
}

bool nb_feedback_can(const nb_type_info *type) { return nb_feedback_type_of(type->id) || nb_iq_rows_can(type->id); }

/* A row's value is in lane r of the arrays of [ROWS]. */
typedef struct band {
    const nb_feedback *f;
    const nb_feedback_table *level;
    const nb_type_info *type;
    const nb_feedback_type *codes; /* NULL: entries of a code book */
    nb_iq_rows *iq;
    size_t rows, n;         /* n: values of a block */
    float *w, *t, *delta;   /* [f->columns][ROWS] */
    float *values, *weight; /* [rows][n]: a block of each row, one after the other */
    uint8_t *blocks;
    float base[BLOCK / SUB][ROWS], scale[BLOCK / SUB][ROWS];
    uint8_t code[BLOCK][ROWS];
} band;

static size_t lanes_bytes(size_t columns) { return columns * ROWS * sizeof(float); }

/* the largest block: 256 values of at most 4 bytes */
static size_t block_room(void) { return (size_t)ROWS * BLOCK * sizeof(float); }

size_t nb_feedback_scratch(size_t columns)
{
    return nb_round_up(sizeof(band), 64) + 3 * lanes_bytes(columns) + 3 * block_room() +
           nb_round_up(nb_iq_rows_bytes(), 64);
}

static void lay_out(band *b, unsigned char *at)
{
    float **lanes[] = {&b->w, &b->t, &b->delta};
    at += nb_round_up(sizeof *b, 64);
    for (size_t i = 0; i < 3; i++, at += lanes_bytes(b->f->columns))
        *lanes[i] = (float *)(void *)at;
    b->values = (float *)(void *)at;
    b->weight = (float *)(void *)(at + block_room());
    b->blocks = at + 2 * block_room();
    b->iq = (nb_iq_rows *)(void *)(at + 3 * block_room());
}

/* ---- one block of columns ---- */

/* Panels of the block: their weights, and what the columns before the block give them. */
static void gather(band *b, size_t first)
{
    memcpy(b->t + first * ROWS, b->w + first * ROWS, lanes_bytes(b->n));
    for (size_t k = first; k < first + b->n && first > 0; k += PANEL)
        b->level->outer(b->f->panels + nb_feedback_panels(k), PANEL, b->delta, ROWS, first, b->t + k * ROWS, ROWS);
}

/* The type's own search on the weights as they are now, by what is left of each column. */
static void search(band *b, size_t first)
{
    for (size_t r = 0; r < b->rows; r++)
        for (size_t i = 0; i < b->n; i++) {
            b->values[r * b->n + i] = b->t[(first + i) * ROWS + r];
            b->weight[r * b->n + i] = b->f->weight[first + i];
        }
    b->type->quantize(b->values, b->weight, b->rows * b->n, NB_ROUND_SEARCH, b->blocks);
}

/* all codes of all blocks */
static void fill_codes(band *b, int code)
{
    uint8_t codes[BLOCK];
    memset(codes, code, sizeof codes);
    for (size_t r = 0; r < b->rows; r++)
        b->codes->put(codes, b->blocks + r * b->type->block_bytes);
    b->type->dequantize(b->blocks, b->values, b->rows * b->n);
}

/* What each 16 values of each row are: base + scale * level. Found by what the lowest and the highest code mean. */
static void find_scales(band *b)
{
    int last = b->codes->level ? b->codes->one : b->codes->levels - 1;
    memset(b->base, 0, sizeof b->base);
    memset(b->scale, 0, sizeof b->scale);
    if (!b->codes->level) {
        fill_codes(b, 0);
        for (size_t r = 0; r < b->rows; r++)
            for (size_t i = 0; i < b->n; i += SUB)
                b->base[i / SUB][r] = b->values[r * b->n + i];
    }
    fill_codes(b, last);
    for (size_t r = 0; r < b->rows; r++)
        for (size_t i = 0; i < b->n; i += SUB) {
            float most = b->values[r * b->n + i];
            b->scale[i / SUB][r] = b->codes->level ? most : (most - b->base[i / SUB][r]) / (float)last;
        }
}

static void put_codes(band *b)
{
    uint8_t codes[BLOCK];
    for (size_t r = 0; r < b->rows; r++) {
        for (size_t i = 0; i < b->n; i++)
            codes[i] = b->code[i][r];
        b->codes->put(codes, b->blocks + r * b->type->block_bytes);
    }
}

/* what the columns of the block before column k give to a panel */
static const float *update_panel(band *b, size_t first, size_t k)
{
    const float *panel = b->f->panels + nb_feedback_panels(k);
    if (k > first)
        b->level->outer(panel + first * PANEL, PANEL, b->delta + first * ROWS, ROWS, k - first, b->t + k * ROWS, ROWS);
    return panel + k * PANEL;
}

static void round_values(band *b, size_t first)
{
    find_scales(b);
    for (size_t k = first; k < first + b->n; k += PANEL) {
        size_t at = k - first;
        b->level->step(&(nb_feedback_step){
            .u = update_panel(b, first, k),
            .w = b->w + k * ROWS,
            .t = b->t + k * ROWS,
            .base = b->base[at / SUB],
            .scale = b->scale[at / SUB],
            .level = b->codes->level,
            .levels = b->codes->levels,
            .delta = b->delta + k * ROWS,
            .codes = b->code[at],
        });
    }
    put_codes(b);
}

/* Eight columns at once, by the nearest entries of the code book. */
static void round_entries(band *b, size_t first)
{
    float value[PANEL][ROWS];
    nb_iq_rows_begin(b->iq, b->type->id, b->blocks, b->rows);
    for (size_t k = first; k < first + b->n; k += PANEL) {
        update_panel(b, first, k);
        nb_iq_rows_eight(b->iq, (int)(k - first) / PANEL, b->t + k * ROWS, b->f->weight + k, &value[0][0]);
        for (size_t i = 0; i < (size_t)(PANEL * ROWS); i++)
            b->delta[k * ROWS + i] = b->w[k * ROWS + i] - (&value[0][0])[i];
    }
    nb_iq_rows_end(b->iq, b->blocks);
}

static void round_block(band *b, size_t first)
{
    gather(b, first);
    search(b, first);
    if (b->codes)
        round_values(b, first);
    else
        round_entries(b, first);
}

void nb_feedback_round(const nb_feedback *f, const nb_type_info *type, const float *x, size_t x_stride, size_t rows,
                       void *dst, size_t dst_stride, void *scratch)
{
    band *b = scratch;
    size_t bytes = type->block_bytes;
    b->f = f;
    b->level = nb_feedback_level();
    b->type = type;
    b->codes = nb_feedback_type_of(type->id);
    b->rows = rows;
    b->n = nb_max_size(type->block_values, NB_FEEDBACK_GRAIN);
    lay_out(b, scratch);
    memset(b->w, 0, lanes_bytes(f->columns));
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < f->columns; i++)
            b->w[i * ROWS + r] = x[r * x_stride + i];
    for (size_t first = 0; first < f->columns; first += b->n) {
        round_block(b, first);
        for (size_t r = 0; r < rows; r++)
            memcpy((uint8_t *)dst + r * dst_stride + first / b->n * bytes, b->blocks + r * bytes, bytes);
    }
}
