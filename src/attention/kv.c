#include "attention/kv.h"

#include <math.h>

#include "attention/attend.h"
#include "num/half.h"

bool nb_kv_layout_ok(const nb_kv_layout *layout)
{
    int k = layout->k_dim, v = layout->v_dim;
    if (layout->kv_heads < 1 || layout->kv_heads > 1 << 16 || k < 1 || k > 1024 || v < 1 || v > 1024)
        return false;
    switch ((int)layout->type) {
    case NB_TYPE_F32:
    case NB_TYPE_F16:
    case NB_TYPE_BF16: return true;
    case NB_TYPE_Q4_0:
    case NB_TYPE_Q8_0: return k % NB_KV_BLOCK == 0 && v % NB_KV_BLOCK == 0;
    default: return false;
    }
}

size_t nb_kv_page_bytes(const nb_kv_layout *layout) { return (size_t)layout->kv_heads * nb_kv_head_bytes(layout); }

void nb_kv_store(const nb_kv_layout *layout, void *page, int slot, const float *k, const float *v, int head_begin,
                 int head_end)
{
    nb_attend_table_current()->store(layout, page, slot, k, v, head_begin, head_end);
}

void nb_kv_rotate(float *x, size_t n)
{
    size_t run = n & (~n + 1);
    float scale = (float)(1 / sqrt((double)run));
    for (float *end = x + n; x < end; x += run) {
        for (size_t half = 1; half < run; half *= 2)
            for (size_t i = 0; i < run; i += 2 * half)
                for (size_t j = i; j < i + half; j++) {
                    float a = x[j], b = x[j + half];
                    x[j] = a + b;
                    x[j + half] = a - b;
                }
        for (size_t i = 0; i < run; i++)
            x[i] *= scale;
    }
}

/* Value d of a vector whose values lie `step` bytes apart. */
static float nibble_at(const uint8_t *codes, size_t step, size_t d, uint16_t scale)
{
    size_t within = d % NB_KV_BLOCK;
    uint8_t byte = codes[(d / NB_KV_BLOCK * (NB_KV_BLOCK / 2) + within % (NB_KV_BLOCK / 2)) * step];
    return (float)((within < NB_KV_BLOCK / 2 ? byte & 15 : byte >> 4) - 8) * nb_f16_to_f32(scale);
}

static float value_at(nb_type type, const void *values, size_t i)
{
    switch ((int)type) {
    case NB_TYPE_F32: return ((const float *)values)[i];
    case NB_TYPE_F16: return nb_f16_to_f32(((const uint16_t *)values)[i]);
    default: return nb_bf16_to_f32(((const uint16_t *)values)[i]);
    }
}

void nb_kv_load(const nb_kv_layout *layout, const void *page, int slot, int kv_head, float *k, float *v)
{
    nb_kv_head h = nb_kv_head_at(layout, page, kv_head);
    bool scaled = nb_kv_scaled(layout->type);
    size_t s = (size_t)slot;
    if (layout->type == NB_TYPE_Q4_0) {
        for (size_t d = 0; d < (size_t)layout->k_dim; d++)
            k[d] = nibble_at((const uint8_t *)h.k + s, NB_PAGE, d, h.k_scale[d / NB_KV_BLOCK * NB_PAGE + s]);
        for (size_t d = 0; d < (size_t)layout->v_dim; d++)
            v[d] = nibble_at((const uint8_t *)h.v + s * (size_t)layout->v_dim / 2, 1, d,
                             h.v_scale[d / NB_KV_BLOCK * NB_PAGE + s]);
    } else if (scaled) {
        for (size_t d = 0; d < (size_t)layout->k_dim; d++)
            k[d] = (float)(((const uint8_t *)h.k)[nb_kv_q8_key(s, d, (size_t)layout->k_dim)] - 128) *
                   nb_f16_to_f32(h.k_scale[d / NB_KV_BLOCK * NB_PAGE + s]);
        for (size_t d = 0; d < (size_t)layout->v_dim; d++)
            v[d] = (float)((const int8_t *)h.v)[nb_kv_q8_value(s, d)] *
                   nb_f16_to_f32(h.v_scale[d / NB_KV_BLOCK * NB_PAGE + s]);
    } else {
        for (size_t d = 0; d < (size_t)layout->k_dim; d++)
            k[d] = value_at(layout->type, h.k, d * NB_PAGE + s);
        for (size_t d = 0; d < (size_t)layout->v_dim; d++)
            v[d] = value_at(layout->type, h.v, s * (size_t)layout->v_dim + d);
    }
    if (scaled) {
        nb_kv_rotate(k, (size_t)layout->k_dim);
        nb_kv_rotate(v, (size_t)layout->v_dim);
    }
}
