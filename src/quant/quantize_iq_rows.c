/* Super-blocks of many rows whose scales are known, rounded eight values at a time: a row a lane, so that what a row's
 * rounding left over can go to its next eight. */
#include "num/half.h"
#include "quant/quantize_iq.h"
#include "quant/quantize_iq_input.h"

enum { ROOM = 32, BLOCK = 256 };

typedef struct row { /* its super-block as the packers want it: a sub-block a lane */
    iq_batch batch;
    iq_found found;
} row;

struct nb_iq_rows {
    const iq_format *f;
    iq_format eight; /* the same with sub-blocks of eight values */
    iq_book book;
    iq_choose_fn *choose;
    iq_pack_fn *pack;
    size_t rows, block_bytes;
    row row[ROOM];
};

size_t nb_iq_rows_bytes(void) { return sizeof(nb_iq_rows); }

bool nb_iq_rows_can(uint32_t type)
{
    const iq_format *f = nb_iq_format_of((nb_type)type);
    return f && (f->signs == IQ_SIGNS_FREE || f->signs == IQ_SIGNS_EVEN);
}

static int nibble(const uint8_t *bytes, int i) { return bytes[i / 2] >> i % 2 * 4 & 15; }

/* l of sub-block `sub`; every block begins with d */
static int scale_number(uint32_t type, const void *block, int sub)
{
    switch (type) {
    case NB_TYPE_IQ2_XXS: return ((const nb_block_iq2_xxs *)block)->qs[sub * 4 + 3] >> 12;
    case NB_TYPE_IQ2_XS: return nibble(((const nb_block_iq2_xs *)block)->scales, sub);
    case NB_TYPE_IQ2_S: return nibble(((const nb_block_iq2_s *)block)->scales, sub);
    case NB_TYPE_IQ3_XXS: return ((const nb_block_iq3_xxs *)block)->qs[64 + sub * 4 + 3] >> 4;
    default: return nibble(((const nb_block_iq3_s *)block)->scales, sub);
    }
}

void nb_iq_rows_begin(nb_iq_rows *s, uint32_t type, const void *blocks, size_t rows)
{
    s->f = nb_iq_format_of((nb_type)type);
    s->eight = *s->f;
    s->eight.values = 8;
    s->choose = nb_iq_choose();
    s->pack = nb_iq_pack_of((nb_type)type);
    s->rows = rows;
    s->block_bytes = nb_type_get(type)->block_bytes;
    nb_iq_book_make(s->f, &s->book);
    memset(s->row, 0, sizeof s->row);
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *block = (const uint8_t *)blocks + r * s->block_bytes;
        uint16_t d;
        memcpy(&d, block, sizeof d);
        for (int sub = 0; sub < BLOCK / s->f->values; sub++) {
            s->row[r].found.d[sub] = nb_f16_to_f32(d);
            s->row[r].found.l[sub] = scale_number(type, block, sub);
        }
    }
}

/* t[8][ROOM] from lane `first` on */
static void load(const nb_iq_rows *s, int sub, const float *t, const float *weight, size_t first, iq_batch *b,
                 float scale[IQ_LANES])
{
    for (int lane = 0; lane < IQ_LANES; lane++) {
        const iq_found *found = &s->row[first + (size_t)lane].found;
        unsigned negative = 0;
        for (int i = 0; i < 8; i++) {
            float x = nb_quantize_tame(t[(size_t)i * ROOM + first + (size_t)lane], NB_QUANTIZE_LIMIT);
            negative |= (unsigned)(x < 0) << i;
            b->x[i][lane] = x < 0 ? -x : x;
            b->w[i][lane] = weight[i];
        }
        b->negative[0][lane] = (uint8_t)negative;
        b->odd[0][lane] = (float)__builtin_parity(negative);
        scale[lane] = found->d[sub] * (float)(2 * found->l[sub] + 1);
    }
}

/* Keeps what was chosen for a lane where its super-block's packer will look, and says what it stands for. */
static void keep(nb_iq_rows *s, size_t r, int sub, int eight, const iq_batch *b, const iq_found *chosen, int lane,
                 float scale, float *value)
{
    row *to = &s->row[r];
    int entries = s->f->levels == 8 ? 2 : 1, turned = nb_iq_turned(&s->eight, b, chosen->code, lane, 0);
    float q[8];
    nb_iq_levels(&s->eight, chosen->code, lane, 0, q);
    for (int e = 0; e < entries; e++)
        to->found.code[eight * entries + e][sub] = chosen->code[e][lane];
    to->batch.negative[eight][sub] = b->negative[0][lane];
    to->batch.odd[eight][sub] = b->odd[0][lane];
    for (int i = 0; i < 8; i++) {
        to->batch.x[eight * 8 + i][sub] = b->x[i][lane];
        to->batch.w[eight * 8 + i][sub] = b->w[i][lane];
        bool negative = (b->negative[0][lane] >> i & 1) != (i == turned);
        value[(size_t)i * ROOM + r] = negative ? -scale * q[i] : scale * q[i];
    }
}

void nb_iq_rows_eight(nb_iq_rows *s, int eight, const float *t, const float *weight, float *value)
{
    int sub = eight * 8 / s->f->values, within = eight * 8 % s->f->values / 8;
    float mean = 0, w[8];
    for (int i = 0; i < 8; i++)
        mean += weight[i] / 8;
    for (int i = 0; i < 8; i++)
        w[i] = mean > 0 ? weight[i] / mean + 1e-6f : 1;
    for (size_t first = 0; first < ROOM; first += IQ_LANES) {
        iq_batch b;
        float scale[IQ_LANES], cost[IQ_LANES];
        iq_found chosen;
        load(s, sub, t, w, first, &b, scale);
        s->choose(&s->eight, &s->book, &b, scale, cost, chosen.code);
        for (int lane = 0; lane < IQ_LANES; lane++)
            keep(s, first + (size_t)lane, sub, within, &b, &chosen, lane, scale[lane], value);
    }
}

void nb_iq_rows_end(nb_iq_rows *s, void *blocks)
{
    for (size_t r = 0; r < s->rows; r++)
        s->pack(s->f, &s->row[r].batch, &s->row[r].found, 0, (uint8_t *)blocks + r * s->block_bytes);
}
