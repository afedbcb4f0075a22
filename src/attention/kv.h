/* kv.h - where the parts of a page are. A page holds for each kv head: keys, scales of keys (Q8_0, Q4_0), values, scales of
 * values; every part begins at a multiple of 64 bytes. Codes of Q8_0 lie in fours, of dims of a key, and of positions of a dim
 * of values, as instructions that add up four products of bytes want them (codes.h), and 32 keys or dims side by side, so that
 * these read a page in its order; a key's are stored as code + 128, unsigned. In a block of 32 of Q4_0, dims t and t + 16 share
 * a byte, t low. */
#ifndef NB_ATTENTION_KV_H
#define NB_ATTENTION_KV_H

#include "attention/attention.h"

#define NB_KV_BLOCK 32 /* values a scale of Q8_0 and Q4_0 */

typedef struct nb_kv_head {
    void *k;           /* [k_dim][NB_PAGE]; Q8_0: [NB_PAGE / 32][k_dim / 4][32][4]; Q4_0: [k_dim / 2][NB_PAGE] */
    uint16_t *k_scale; /* [k_dim / 32][NB_PAGE], F16 */
    void *v;           /* [NB_PAGE][v_dim]; Q8_0: [v_dim / 32][NB_PAGE / 4][32][4]; Q4_0: [NB_PAGE][v_dim / 2] */
    uint16_t *v_scale; /* [v_dim / 32][NB_PAGE], F16 */
} nb_kv_head;

static inline bool nb_kv_scaled(nb_type type) { return type == NB_TYPE_Q8_0 || type == NB_TYPE_Q4_0; }

/* Asks for what lies `ahead` bytes from p, where it will be read next. */
static inline void nb_kv_ask(const void *p, ptrdiff_t ahead) { __builtin_prefetch((const char *)p + ahead, 0, 2); }

/* Where Q8_0's codes are */
static inline size_t nb_kv_q8_key(size_t slot, size_t d, size_t k_dim)
{
    return slot / 32 * k_dim * 32 + d / 4 * 128 + slot % 32 * 4 + d % 4;
}
static inline size_t nb_kv_q8_value(size_t slot, size_t d)
{
    return d / 32 * NB_PAGE * 32 + slot / 4 * 128 + d % 32 * 4 + slot % 4;
}

/* of n values, without scales */
static inline size_t nb_kv_value_bytes(nb_type type, size_t n)
{
    return type == NB_TYPE_F32 ? 4 * n : type == NB_TYPE_Q8_0 ? n : type == NB_TYPE_Q4_0 ? n / 2 : 2 * n;
}

static inline size_t nb_kv_part_bytes(const nb_kv_layout *layout, int dim)
{
    size_t bytes = nb_kv_value_bytes(layout->type, (size_t)dim * NB_PAGE);
    if (nb_kv_scaled(layout->type))
        bytes += (size_t)dim / NB_KV_BLOCK * NB_PAGE * sizeof(uint16_t);
    return bytes;
}

static inline size_t nb_kv_head_bytes(const nb_kv_layout *layout)
{
    return nb_kv_part_bytes(layout, layout->k_dim) + nb_kv_part_bytes(layout, layout->v_dim);
}

static inline nb_kv_head nb_kv_head_at(const nb_kv_layout *layout, const void *page, int kv_head)
{
    char *k = (char *)(uintptr_t)page + (size_t)kv_head * nb_kv_head_bytes(layout);
    char *v = k + nb_kv_part_bytes(layout, layout->k_dim);
    return (nb_kv_head){k, (uint16_t *)(k + nb_kv_value_bytes(layout->type, (size_t)layout->k_dim * NB_PAGE)), v,
                        (uint16_t *)(v + nb_kv_value_bytes(layout->type, (size_t)layout->v_dim * NB_PAGE))};
}

/* Q8_0's and Q4_0's rotation of a head (Hadamard, QuaRot: Ashkboos et al. 2024), its own inverse: each run of the largest power
 * of two that divides n, at least 32. Products of rotated vectors are those of the vectors; an outlier is spread over its run. */
void nb_kv_rotate(float *x, size_t n);

#endif
