/* Plain C for what moves data: packing, its inverse, transposition, panels of activations. */
#include "kernel/matmul_tile.h"
#include "num/half.h"

/* the words of one row's block, in the order of the packed tile's codes; and back */
static void to_tile_order(const nb_tile_type *t, uint32_t *w)
{
    if (t->order == NB_FIFTH_BITS)
        w[0] = nb_fifth_spread(w[0]);
    for (size_t i = 1; t->order == NB_PAIRS && i < t->words; i += 4) {
        uint32_t low[2], high[2];
        nb_pairs_split(w[i], w[i + 2], low);
        nb_pairs_split(w[i + 1], w[i + 3], high);
        memcpy(w + i, low, sizeof low);
        memcpy(w + i + 2, high, sizeof high);
    }
}

static void to_file_order(const nb_tile_type *t, uint32_t *w)
{
    if (t->order == NB_FIFTH_BITS)
        w[0] = nb_fifth_gather(w[0]);
    for (size_t i = 1; t->order == NB_PAIRS && i < t->words; i += 4) {
        uint32_t file[4];
        nb_pairs_join(w + i, &file[0], &file[2]);
        nb_pairs_join(w + i + 2, &file[1], &file[3]);
        memcpy(w + i, file, sizeof file);
    }
}

enum { WORDS_MAX = 52 };

static void pack_row(const nb_tile_type *t, const uint8_t *in, size_t r, uint8_t *out)
{
    uint32_t w[WORDS_MAX];
    memcpy(out + 2 * r, in + t->d_at, (size_t)t->d_bytes);
    if (nb_tile_has_min(t))
        memcpy(out + 32 + 2 * r, in + t->m_at, 2);
    memcpy(w, in + t->words_at, 4 * (size_t)t->words);
    to_tile_order(t, w);
    for (size_t i = 0; i < t->words; i++)
        memcpy(out + nb_tile_head(t) + 64 * nb_word_place(t, i) + 4 * r, &w[i], 4);
}

void nb_pack_ref(const nb_tile_type *t, const uint8_t *src, size_t row_bytes, size_t n_rows, size_t blocks, void *tile)
{
    uint8_t *out = tile;
    memset(out, 0, 16 * (size_t)t->packed_bytes * blocks);
    for (size_t b = 0; b < blocks; b++, out += 16 * (size_t)t->packed_bytes)
        for (size_t r = 0; r < n_rows; r++) {
            const uint8_t *in = src + r * row_bytes + b * t->file_bytes;
            if (t->float_bytes)
                memcpy(out + r * t->float_bytes, in, t->float_bytes);
            else
                pack_row(t, in, r, out);
        }
}

void nb_unpack_rows(const nb_tile_type *t, const uint8_t *tile, size_t blocks, uint8_t *rows, size_t row_bytes)
{
    for (size_t b = 0; b < blocks; b++, tile += 16 * (size_t)t->packed_bytes)
        for (size_t r = 0; r < NB_TILE_ROWS; r++) {
            uint8_t *out = rows + r * row_bytes + b * t->file_bytes;
            uint32_t w[WORDS_MAX];
            memcpy(out + t->d_at, tile + 2 * r, (size_t)t->d_bytes);
            if (nb_tile_has_min(t))
                memcpy(out + t->m_at, tile + 32 + 2 * r, 2);
            for (size_t i = 0; i < t->words; i++)
                memcpy(&w[i], tile + nb_tile_head(t) + 64 * nb_word_place(t, i) + 4 * r, 4);
            to_file_order(t, w);
            memcpy(out + t->words_at, w, 4 * (size_t)t->words);
        }
}

void nb_transpose16_ref(const float *rows, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t lane = 0; lane < 16; lane++)
            out[i * 16 + lane] = rows[lane * n + i];
}

/* The scale of 32 values, and what to multiply them by. The largest magnitude is found among the bits, so that a NaN
 * counts as largest; it or an infinity becomes the scale and so reaches the result. Magnitudes below 2^-100 are 0. */
static float q8_scale(const float *x, float *inverse)
{
    uint32_t most = 0;
    for (int i = 0; i < 32; i++) {
        uint32_t magnitude = nb_f32_bits(x[i]) & 0x7fffffff;
        most = magnitude > most ? magnitude : most;
    }
    float absmax = nb_f32_of_bits(most);
    bool usable = absmax >= 0x1p-100f && absmax <= 0x1.fffffep127f;
    *inverse = usable ? 127.0f / absmax : 0;
    return absmax < 0x1p-100f ? 0 : absmax / 127.0f;
}

static void q8_block(const float *x, size_t t, size_t width, uint8_t *record)
{
    float inverse, scale = q8_scale(x, &inverse);
    int32_t minus = 0, minus_low = 0;
    for (size_t i = 0; i < 32; i++) {
        float v = inverse != 0 ? x[i] * inverse : 0;
        int q = (int)((v + 0x1.8p23f) - 0x1.8p23f); /* rounds half to even */
        minus -= q;
        minus_low -= i < 16 ? q : 0;
        record[(i / 4 * width + t) * 4 + i % 4] = (uint8_t)q;
    }
    memcpy(record + 32 * width + 4 * t, &minus, 4);
    memcpy(record + 36 * width + 4 * t, &minus_low, 4);
    memcpy(record + 40 * width + 4 * t, &scale, 4);
}

void nb_act_q8_ref(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, uint8_t *panel)
{
    static const float zeros[32];
    for (size_t k = k_begin; k < k_end; k += 32)
        for (size_t t = 0; t < width; t++)
            q8_block(t < n ? x[t] + k : zeros, t, width, panel + k / 32 * NB_PANEL_Q8_BYTES * width);
}

void nb_act_f32_ref(const float *const *x, size_t n, size_t width, size_t k_begin, size_t k_end, float *panel)
{
    for (size_t k = k_begin; k < k_end; k++)
        for (size_t t = 0; t < width; t++)
            panel[k * width + t] = t < n ? x[t][k] : 0;
}
