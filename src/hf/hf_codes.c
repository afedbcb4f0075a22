/* Codes and scales: where they lie, whether they can be right, and which types hold them. */
#include "hf/hf_codes.h"

#include <math.h>
#include <stdlib.h>

#include "hf/hf_unpack.h"
#include "num/fp8.h"

/* ---- shapes ---- */

nb_status nb_hf_packed_of(const nb_checkpoint_tensor *t, unsigned bits, uint64_t lines, uint64_t count, bool down,
                          nb_hf_packed *out, nb_error *err)
{
    size_t unit = nb_dtype_bytes(t->dtype);
    uint64_t words = (count * bits + 8 * unit - 1) / (8 * unit), rows = down ? words : lines;
    uint64_t columns = down ? lines : words;
    if (count > 1ull << 40 || lines > 1ull << 40)
        return nb_hf_bad_part(t, err, "is too large");
    if ((unit != 1 && unit != 4) || t->dtype == NB_DTYPE_F32 || t->dtype == NB_DTYPE_BOOL)
        return nb_hf_bad_part(t, err, "holds %s, not codes", nb_dtype_name(t->dtype));
    bool shaped = t->n_dims == 2 ? t->dims[0] == rows && t->dims[1] == columns
                                 : t->n_dims < 2 && t->values == rows * columns && (rows == 1 || columns == 1);
    if (!shaped || !t->contiguous || t->values == 0)
        return nb_hf_bad_part(t, err,
                              "is not a matrix of %llu x %llu, as %u bits of %llu codes in each of %llu lines need",
                              (unsigned long long)rows, (unsigned long long)columns, bits, (unsigned long long)count,
                              (unsigned long long)lines);
    *out = (nb_hf_packed){.data = t->data,
                          .unit = unit,
                          .bits = bits,
                          .across = down ? unit : columns * unit,
                          .along = down ? columns * unit : unit,
                          .flip = t->dtype == NB_DTYPE_I8 ? 0x80 : 0};
    return NB_OK;
}

static bool is_scale(const nb_checkpoint_tensor *t, bool exponents)
{
    return t->dtype == NB_DTYPE_F16 || t->dtype == NB_DTYPE_BF16 || t->dtype == NB_DTYPE_F32 ||
           t->dtype == NB_DTYPE_F8_E8M0 || (exponents && t->dtype == NB_DTYPE_U8);
}

nb_status nb_hf_codes_scales(nb_hf_codes *c, const nb_checkpoint_tensor *scale, uint64_t blocks, uint64_t groups,
                             bool down, nb_error *err)
{
    uint64_t rows = down ? groups : blocks, columns = down ? blocks : groups;
    bool shaped = scale->n_dims == 2
                      ? scale->dims[0] == rows && scale->dims[1] == columns
                      : scale->n_dims < 2 && scale->values == rows * columns && (rows == 1 || columns == 1);
    if (!is_scale(scale, c->exponents) || !scale->contiguous || !shaped)
        return nb_hf_bad_part(scale, err, "is not a matrix of %llu x %llu scales in floating point",
                              (unsigned long long)rows, (unsigned long long)columns);
    c->scale = scale;
    c->scale_row = down ? 1 : groups;
    c->scale_group = down ? blocks : 1;
    return NB_OK;
}

nb_status nb_hf_group_size(const nb_tree *tree, const nb_node *n, uint64_t otherwise, uint64_t *out, nb_error *err)
{
    *out = n ? 0 : otherwise;
    return n && !(n->kind == '0' && n->num == -1) ? nb_node_u64(tree, n, 1, 1 << 24, out, err) : NB_OK;
}

nb_status nb_hf_codes_order(nb_hf *h, nb_hf_codes *c, const nb_checkpoint_tensor *order, uint64_t columns,
                            nb_error *err)
{
    bool plain = true;
    if (order->dtype != NB_DTYPE_I32 || order->n_dims != 1 || !order->contiguous || order->values != columns)
        return nb_hf_bad_part(order, err, "is not %llu values of I32", (unsigned long long)columns);
    uint32_t *group_of = NB_ARRAY(&h->arena, uint32_t, (size_t)columns);
    if (!group_of)
        return nb_fail_memory(err, order->file, (size_t)columns * sizeof *group_of);
    memcpy(group_of, order->data, (size_t)columns * sizeof *group_of);
    for (size_t i = 0; i < columns; i++) {
        if (group_of[i] >= c->groups)
            return nb_hf_bad_part(order, err, "has %d at %zu: there are %zu groups", (int)group_of[i], i, c->groups);
        plain = plain && group_of[i] == i / c->group;
    }
    c->group_of = plain ? NULL : group_of;
    return NB_OK;
}

/* ---- values ---- */

typedef struct looks {      /* of a weight's scales and zero points */
    bool all_f16, near_f16; /* numbers of F16 without a rounding; neither too large nor subnormal there */
    bool centered;          /* all zero points are half of the codes */
} looks;

static nb_status look_at_scales(const nb_hf_codes *c, looks *s, nb_error *err)
{
    float piece[256];
    s->all_f16 = s->near_f16 = true;
    for (uint64_t i = 0; i < c->scale->values; i += 256) {
        size_t n = (size_t)(c->scale->values - i < 256 ? c->scale->values - i : 256);
        nb_hf_scales(c, i, 1, n, piece);
        for (size_t k = 0; k < n; k++) {
            float x = fabsf(piece[k]);
            if (!isfinite(x))
                return nb_hf_bad_part(c->scale, err, "is no number at value %llu", (unsigned long long)(i + k));
            s->all_f16 = s->all_f16 && nb_f16_to_f32(nb_f32_to_f16(x)) == x;
            s->near_f16 = s->near_f16 && x < 0x1p11f && (x >= 0x1p-14f || x == 0);
        }
    }
    return NB_OK;
}

static nb_status look_at_zeros(const nb_hf_linear *l, const nb_hf_codes *c, looks *s, nb_error *err)
{
    uint8_t piece[256];
    unsigned half = 1u << (c->code.bits - 1), most = 2 * half - 1;
    uint64_t blocks = (l->rows + c->block_rows - 1) / c->block_rows;
    s->centered = c->has_zeros || c->middle == half;
    for (size_t g = 0; c->has_zeros && g < c->groups; g++)
        for (uint64_t r = 0; r < blocks; r += sizeof piece) {
            size_t n = nb_min_size(sizeof piece, (size_t)(blocks - r));
            nb_hf_unpack(&c->zero, g, r, n, 1, piece);
            for (size_t k = 0; k < n; k++) {
                unsigned zero = (piece[k] + c->zero_add) & 255 & c->zero_mask;
                if (zero > most)
                    return nb_hf_bad_part(c->zeros, err, "has a zero point beyond %u bits in row %llu of the weight",
                                          c->code.bits, (unsigned long long)((r + k) * c->block_rows));
                s->centered = s->centered && zero == half;
            }
        }
    return NB_OK;
}

/* ---- types ---- */

/* Every 32 values of a row lie in one group. */
static bool has_blocks(const nb_hf_linear *l, const nb_hf_codes *c)
{
    return l->columns % 32 == 0 && !c->group_of && (c->group % 32 == 0 || c->groups == 1);
}

static nb_type choose_type(const nb_hf_linear *l, const nb_hf_codes *c, const looks *s, bool packed)
{
    unsigned bits = c->code.bits;
    nb_type plain = !packed ? NB_TYPE_F32 : c->scale->dtype == NB_DTYPE_F16 ? NB_TYPE_F16 : NB_TYPE_BF16;
    if (!has_blocks(l, c))
        return plain;
    if (c->kind != NB_HF_INTEGER)
        return c->kind == NB_HF_E2M1 && c->exponents ? NB_TYPE_MXFP4 : plain;
    if (!s->all_f16 && !(packed && s->near_f16))
        return plain;
    if (bits < 4 || (bits == 4 && s->centered)) /* x = d * (q - 8), |q - 8| <= 8 */
        return NB_TYPE_Q4_0;
    if (bits == 4 && packed)
        return NB_TYPE_Q4_1;
    return bits < 8 || s->centered ? NB_TYPE_Q8_0 : plain;
}

nb_status nb_hf_codes_finish(nb_hf_linear *l, const nb_hf_codes *c, nb_error *err)
{
    looks s = {0};
    NB_TRY(look_at_scales(c, &s, err));
    NB_TRY(look_at_zeros(l, c, &s, err));
    l->codes = c;
    l->types[NB_HF_FLOATS] = nb_type_get(NB_TYPE_F32);
    l->types[NB_HF_STORED] = nb_type_get(choose_type(l, c, &s, false));
    l->types[NB_HF_PACKED] = nb_type_get(choose_type(l, c, &s, true));
    return NB_OK;
}
