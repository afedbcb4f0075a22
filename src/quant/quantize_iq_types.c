/* The quantizers of IQ1, IQ2 and IQ3: rows cut into batches, what the search found put into blocks. */
#include "num/half.h"
#include "quant/iq_grids.h"
#include "quant/quantize_iq.h"
#include "quant/quantize_iq_input.h"

enum { BLOCK = 256 };

static int is_signed(const iq_format *f) { return f->signs == IQ_SIGNS_IN_ENTRY || f->signs == IQ_SIGNS_IN_ENTRY_8; }

/* Lanes beyond n values are 0. */
static void load(const iq_format *f, const float *x, const nb_quantize_weights *weights, size_t from, size_t n,
                 iq_batch *b)
{
    float energy = 0;
    for (int lane = 0; lane < IQ_LANES; lane++) {
        size_t first = from + (size_t)(lane * f->values);
        if (first < n && (lane == 0 || first % weights->group == 0)) /* once a group */
            energy = nb_quantize_energy(weights, first);
        unsigned negative = 0;
        for (int i = 0; i < f->values; i++) {
            size_t at = first + (size_t)i;
            float v = at < n ? nb_quantize_tame(x[at], NB_QUANTIZE_LIMIT) : 0;
            negative |= (unsigned)(v < 0) << i % 8;
            b->x[i][lane] = v < 0 && !is_signed(f) ? -v : v;
            b->w[i][lane] = at < n ? nb_quantize_weight(weights, at, energy) : 1;
            if (i % 8 == 7) {
                b->odd[i / 8][lane] = (float)__builtin_parity(negative);
                b->negative[i / 8][lane] = (uint8_t)negative;
                negative = 0;
            }
        }
    }
}

static void quantize(const iq_format *f, iq_pack_fn *pack, size_t block_bytes, const float *x, const float *weight,
                     size_t n, nb_rounding rounding, void *dst)
{
    iq_book book;
    iq_batch batch;
    iq_found found;
    nb_quantize_weights weights = nb_quantize_weights_of(x, rounding == NB_ROUND_NEAREST ? NULL : weight, n, BLOCK);
    size_t step = (size_t)(IQ_LANES * f->values);
    nb_iq_book_make(f, &book);
    for (size_t i = 0; i < n; i += step) {
        load(f, x, &weights, i, n, &batch);
        nb_iq_search(f, &book, &batch, rounding, &found);
        for (size_t at = 0; at < step && i + at < n; at += BLOCK)
            pack(f, &batch, &found, (int)at / f->values, (uint8_t *)dst + (i + at) / BLOCK * block_bytes);
    }
}

/* ---- what blocks hold ---- */

static unsigned index_of(const iq_format *f, uint32_t code)
{
    uint16_t entry = nb_iq_entry(f, code);
    unsigned low = 0, high = (unsigned)f->entries;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (f->grid[middle] <= entry)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* of eight values, bit i for value i */
static unsigned signs_of(const iq_format *f, const iq_batch *b, const iq_found *found, int lane, int eight)
{
    int turned = nb_iq_turned(f, b, found->code, lane, eight);
    return b->negative[eight][lane] ^ (turned < 0 ? 0u : 1u << turned);
}

static void put_u16(uint8_t *to, unsigned v)
{
    to[0] = (uint8_t)v;
    to[1] = (uint8_t)(v >> 8);
}

/* nibble i of bytes that were 0 */
static void put_nibble(uint8_t *to, int i, unsigned v) { to[i / 2] = (uint8_t)(to[i / 2] | v << i % 2 * 4); }

static void pack_iq2_xxs(const iq_format *f, const iq_batch *b, const iq_found *found, int first, void *dst)
{
    nb_block_iq2_xxs y = {.d = nb_f32_to_f16(found->d[first])};
    for (int sub = 0; sub < 8; sub++) {
        int lane = first + sub;
        uint32_t rest = (uint32_t)found->l[lane] << 28;
        for (int g = 0; g < 4; g++) {
            rest |= (signs_of(f, b, found, lane, g) & 127) << g * 7;
            y.qs[sub * 4 + g / 2] |= (uint16_t)(index_of(f, found->code[g][lane]) << g % 2 * 8);
        }
        y.qs[sub * 4 + 2] = (uint16_t)rest;
        y.qs[sub * 4 + 3] = (uint16_t)(rest >> 16);
    }
    memcpy(dst, &y, sizeof y);
}

static void pack_iq2_xs(const iq_format *f, const iq_batch *b, const iq_found *found, int first, void *dst)
{
    nb_block_iq2_xs y = {.d = nb_f32_to_f16(found->d[first])};
    for (int g = 0; g < 32; g++) {
        unsigned index = index_of(f, found->code[g % 2][first + g / 2]);
        y.qs[g] = (uint16_t)(index | (signs_of(f, b, found, first + g / 2, g % 2) & 127) << 9);
    }
    for (int sub = 0; sub < 16; sub++)
        put_nibble(y.scales, sub, (unsigned)found->l[first + sub]);
    memcpy(dst, &y, sizeof y);
}

static void pack_iq2_s(const iq_format *f, const iq_batch *b, const iq_found *found, int first, void *dst)
{
    nb_block_iq2_s y = {.d = nb_f32_to_f16(found->d[first])};
    for (int g = 0; g < 32; g++) {
        unsigned index = index_of(f, found->code[g % 2][first + g / 2]);
        y.qs[g] = (uint8_t)index;
        y.qh[g / 4] |= (uint8_t)(index >> 8 << g % 4 * 2);
        y.qs[32 + g] = b->negative[g % 2][first + g / 2];
    }
    for (int sub = 0; sub < 16; sub++)
        put_nibble(y.scales, sub, (unsigned)found->l[first + sub]);
    memcpy(dst, &y, sizeof y);
}

static void pack_iq3_xxs(const iq_format *f, const iq_batch *b, const iq_found *found, int first, void *dst)
{
    nb_block_iq3_xxs y = {.d = nb_f32_to_f16(found->d[first])};
    for (int sub = 0; sub < 8; sub++) {
        int lane = first + sub;
        uint32_t rest = (uint32_t)found->l[lane] << 28;
        for (int e = 0; e < 8; e++)
            y.qs[sub * 8 + e] = (uint8_t)index_of(f, found->code[e][lane]);
        for (int g = 0; g < 4; g++)
            rest |= (signs_of(f, b, found, lane, g) & 127) << g * 7;
        put_u16(y.qs + 64 + sub * 4, rest);
        put_u16(y.qs + 66 + sub * 4, rest >> 16);
    }
    memcpy(dst, &y, sizeof y);
}

static void pack_iq3_s(const iq_format *f, const iq_batch *b, const iq_found *found, int first, void *dst)
{
    nb_block_iq3_s y = {.d = nb_f32_to_f16(found->d[first])};
    for (int k = 0; k < 64; k++) {
        unsigned index = index_of(f, found->code[k % 8][first + k / 8]);
        y.qs[k] = (uint8_t)index;
        y.qh[k / 8] |= (uint8_t)(index >> 8 << k % 8);
    }
    for (int g = 0; g < 32; g++)
        y.signs[g] = b->negative[g % 4][first + g / 4];
    for (int sub = 0; sub < 8; sub++)
        put_nibble(y.scales, sub, (unsigned)found->l[first + sub]);
    memcpy(dst, &y, sizeof y);
}

static void pack_iq1_s(const iq_format *f, const iq_batch *b, const iq_found *found, int first, void *dst)
{
    (void)b;
    nb_block_iq1_s y = {.d = nb_f32_to_f16(found->d[first])};
    for (int sub = 0; sub < 8; sub++) {
        int lane = first + sub;
        unsigned high = (unsigned)found->l[lane] << 12 | (found->code[0][lane] & IQ_CODE_DOWN ? 0x8000u : 0);
        for (int g = 0; g < 4; g++) {
            unsigned index = index_of(f, found->code[g][lane]);
            y.qs[sub * 4 + g] = (uint8_t)index;
            high |= index >> 8 << g * 3;
        }
        y.qh[sub] = (uint16_t)high;
    }
    memcpy(dst, &y, sizeof y);
}

static void pack_iq1_m(const iq_format *f, const iq_batch *b, const iq_found *found, int first, void *dst)
{
    (void)b;
    nb_block_iq1_m y = {0};
    unsigned words[4], d = nb_f32_to_f16(found->d[first]);
    for (int i = 0; i < 4; i++)
        words[i] = (d >> i * 4 & 15) << 12;
    for (int g = 0; g < 32; g++) {
        int lane = first + g / 2;
        unsigned index = index_of(f, found->code[g % 2][lane]);
        y.qs[g] = (uint8_t)index;
        put_nibble(y.qh, g, index >> 8 | (found->code[g % 2][lane] & IQ_CODE_DOWN ? 8u : 0));
        words[g / 8] |= (unsigned)found->l[lane] << g % 8 / 2 * 3;
    }
    for (int i = 0; i < 4; i++)
        put_u16(y.scales + i * 2, words[i]);
    memcpy(dst, &y, sizeof y);
}

/* ---- the formats ---- */

#define IQ2_LEVELS                                                                                                     \
    {                                                                                                                  \
        1, 25 / 8.0f, 43 / 8.0f                                                                                        \
    }

static const iq_format iq2_xxs = {iq2_xxs_grid, 256, IQ_SIGNS_EVEN, 3, IQ2_LEVELS, 32, 15, 0.65f, 1.25f};
static const iq_format iq2_xs = {iq2_xs_grid, 512, IQ_SIGNS_EVEN, 3, IQ2_LEVELS, 16, 15, 0.65f, 1.25f};
static const iq_format iq2_s = {iq2_s_grid, 1024, IQ_SIGNS_FREE, 3, IQ2_LEVELS, 16, 15, 0.65f, 1.25f};
static const iq_format iq3_xxs = {iq3_xxs_grid, 256, IQ_SIGNS_EVEN, 8,    {1, 3, 5, 7, 9, 11, 13, 15.5f},
                                  32,           15,  0.65f,         1.25f};
static const iq_format iq3_s = {iq3_s_grid, 512, IQ_SIGNS_FREE, 8, {1, 3, 5, 7, 9, 11, 13, 15}, 32, 15, 0.65f, 1.25f};
static const iq_format iq1_s = {iq1_grid, 2048, IQ_SIGNS_IN_ENTRY, 3, {-1, 0, 1}, 32, 7, 0.35f, 0.95f};
static const iq_format iq1_m = {iq1_grid, 2048, IQ_SIGNS_IN_ENTRY_8, 3, {-1, 0, 1}, 16, 7, 0.35f, 0.95f};

const iq_format *nb_iq_format_of(nb_type type)
{
    switch ((int)type) {
    case NB_TYPE_IQ1_S: return &iq1_s;
    case NB_TYPE_IQ1_M: return &iq1_m;
    case NB_TYPE_IQ2_XXS: return &iq2_xxs;
    case NB_TYPE_IQ2_XS: return &iq2_xs;
    case NB_TYPE_IQ2_S: return &iq2_s;
    case NB_TYPE_IQ3_XXS: return &iq3_xxs;
    case NB_TYPE_IQ3_S: return &iq3_s;
    default: return NULL;
    }
}

iq_pack_fn *nb_iq_pack_of(nb_type type)
{
    switch ((int)type) {
    case NB_TYPE_IQ1_S: return pack_iq1_s;
    case NB_TYPE_IQ1_M: return pack_iq1_m;
    case NB_TYPE_IQ2_XXS: return pack_iq2_xxs;
    case NB_TYPE_IQ2_XS: return pack_iq2_xs;
    case NB_TYPE_IQ2_S: return pack_iq2_s;
    case NB_TYPE_IQ3_XXS: return pack_iq3_xxs;
    case NB_TYPE_IQ3_S: return pack_iq3_s;
    default: return NULL;
    }
}

#define QUANTIZER(type)                                                                                                \
    void nb_quantize_##type(const float *x, const float *weight, size_t n, nb_rounding rounding, void *dst)            \
    {                                                                                                                  \
        quantize(&type, pack_##type, sizeof(nb_block_##type), x, weight, n, rounding, dst);                            \
    }

QUANTIZER(iq2_xxs)
QUANTIZER(iq2_xs)
QUANTIZER(iq2_s)
QUANTIZER(iq3_xxs)
QUANTIZER(iq3_s)
QUANTIZER(iq1_s)
QUANTIZER(iq1_m)
