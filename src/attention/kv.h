/* kv.h - where the parts of a page are. A page holds for each kv head: keys, scales of keys (Q8_0), values, scales of
 * values (Q8_0); every part begins at a multiple of 64 bytes. */
#ifndef NB_ATTENTION_KV_H
#define NB_ATTENTION_KV_H

#include "attention/attention.h"

#define NB_KV_BLOCK 32 /* values a scale of Q8_0 */

typedef struct nb_kv_head {
    void *k;           /* [k_dim][NB_PAGE] */
    uint16_t *k_scale; /* [k_dim / 32][NB_PAGE], F16 */
    void *v;           /* [NB_PAGE][v_dim] */
    uint16_t *v_scale; /* [NB_PAGE][v_dim / 32], F16 */
} nb_kv_head;

static inline size_t nb_kv_value_bytes(nb_type type) { return type == NB_TYPE_F32 ? 4 : type == NB_TYPE_Q8_0 ? 1 : 2; }

static inline size_t nb_kv_part_bytes(const nb_kv_layout *layout, int dim)
{
    size_t bytes = (size_t)dim * NB_PAGE * nb_kv_value_bytes(layout->type);
    if (layout->type == NB_TYPE_Q8_0)
        bytes += (size_t)dim / NB_KV_BLOCK * NB_PAGE * sizeof(uint16_t);
    return bytes;
}

static inline nb_kv_head nb_kv_head_at(const nb_kv_layout *layout, const void *page, int kv_head)
{
    size_t k_bytes = nb_kv_part_bytes(layout, layout->k_dim), v_bytes = nb_kv_part_bytes(layout, layout->v_dim);
    char *k = (char *)(uintptr_t)page + (size_t)kv_head * (k_bytes + v_bytes), *v = k + k_bytes;
    size_t value_bytes = nb_kv_value_bytes(layout->type) * NB_PAGE;
    return (nb_kv_head){k, (uint16_t *)(k + (size_t)layout->k_dim * value_bytes), v,
                        (uint16_t *)(v + (size_t)layout->v_dim * value_bytes)};
}

#endif
