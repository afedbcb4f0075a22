#include "hf/hf_linear.h"

#include <stdlib.h>

#include "base/team.h"
#include "hf/hf_codes.h"
#include "num/half.h"

const nb_type_info *nb_hf_linear_type(const nb_hf_linear *l, nb_hf_form form)
{
    bool packed = form == NB_HF_PACKED;
    static const nb_type plain[] = {
        [NB_FLOAT_F32] = NB_TYPE_F32, [NB_FLOAT_F16] = NB_TYPE_F16, [NB_FLOAT_BF16] = NB_TYPE_BF16};
    if (l->codes)
        return l->types[form];
    if (packed && l->int8 && l->columns % 32 == 0)
        return nb_type_get(NB_TYPE_INT8);
    if (l->quanto)
        return nb_type_get(plain[l->dtype]);
    /* each 64 values of a row then lie in one block, and the engine has these two maps only */
    if (packed && !l->int8 && l->columns % 64 == 0 && l->block % 64 == 0 &&
        memcmp(l->map, nb_bnb_map4(l->code), 16 * sizeof(float)) == 0)
        return nb_type_get(l->code == NB_CODE_NF4 ? NB_TYPE_NF4 : NB_TYPE_FP4);
    return nb_type_get(plain[l->dtype]);
}

static nb_status failed(const nb_hf_linear *l, uint64_t first, nb_status status, const nb_error *why, nb_error *err)
{
    const nb_checkpoint_tensor *t = l->weight;
    return nb_fail(err, status, "%s: tensor '%.*s', from value %llu on: %.300s; leave its module out (skip modules)",
                   t->file, NB_STR_ARG(t->name), (unsigned long long)first, why->message);
}

/* ---- 4 bits ---- */

static nb_status unnest(const nb_hf_linear *l, size_t begin, size_t blocks, float *absmax, nb_error *err)
{
    for (size_t i = 0; i < blocks; i++) /* blocks of blocks begin anywhere */
        NB_TRY(nb_bnb_unnest(l->nested_codes + begin + i, l->nested_absmax + (begin + i) / l->nested_block,
                             l->nested_map, l->nested_offset, 1, 1, absmax + i, err));
    return NB_OK;
}

/* The floats that codes are made from. */
static void read_floats(const nb_hf_linear *l, uint64_t first, size_t n, float *values)
{
    nb_checkpoint_read_f32(l->weight, first, n, values);
    for (size_t i = 0; l->taken == NB_FLOAT_F16 && i < n; i++)
        values[i] = nb_f16_to_f32(nb_f32_to_f16(values[i]));
    for (size_t i = 0; l->taken == NB_FLOAT_BF16 && i < n; i++)
        values[i] = nb_bf16_to_f32(nb_f32_to_bf16(values[i]));
}

static nb_status make_span(const nb_hf_linear *l, nb_hf_linear_span *s, nb_error *err)
{
    nb_error why;
    read_floats(l, s->first, s->values, s->value);
    nb_status status = nb_bnb_quantize_4bit(s->value, NB_FLOAT_F32, s->values, l->code, l->block, s->packed_room,
                                            s->absmax_room, NULL, &why);
    s->packed = s->packed_room;
    s->absmax = s->absmax_room;
    return status == NB_OK ? NB_OK : failed(l, s->first, status, &why, err);
}

nb_status nb_hf_linear_span_load(const nb_hf_linear *l, size_t begin, size_t blocks, nb_hf_linear_span *s,
                                 nb_error *err)
{
    s->first = begin * l->block;
    s->values = nb_min_size(blocks * l->block, (size_t)nb_hf_linear_values(l) - s->first);
    if (l->made) {
        NB_TRY(make_span(l, s, err));
    } else {
        s->packed = (const uint8_t *)l->weight->data + s->first / 2;
        s->absmax = l->absmax ? l->absmax + begin : s->absmax_room;
    }
    return l->nested_codes ? unnest(l, begin, blocks, s->absmax_room, err) : NB_OK;
}

/* Values [low, high) of a span, of whole blocks of `type`, as it or as floats */
static nb_status put_span(const nb_hf_linear *l, nb_hf_linear_span *s, size_t low, size_t high,
                          const nb_type_info *type, char *dst, nb_error *err)
{
    if (type->block_values == 1) {
        NB_TRY(
            nb_bnb_dequantize_4bit(s->packed, s->absmax, l->map, l->block, s->values, s->value, l->dtype, NULL, err));
        memcpy(dst, (const char *)s->value + (low - s->first) * type->block_bytes, (high - low) * type->block_bytes);
        return NB_OK;
    }
    for (size_t at = low; at < high; at += 64, dst += sizeof(nb_block_bnb4)) {
        nb_block_bnb4 b = {.d = s->absmax[(at - s->first) / l->block]};
        memcpy(b.qs, s->packed + (at - s->first) / 2, sizeof b.qs);
        memcpy(dst, &b, sizeof b);
    }
    return NB_OK;
}

static nb_status read_4bit(const nb_hf_linear *l, size_t first, size_t end, const nb_type_info *type, char *dst,
                           nb_error *err)
{
    nb_hf_linear_span s;
    size_t together = NB_HF_LINEAR_SPAN / l->block, last = (end - 1) / l->block;
    for (size_t b = first / l->block; b <= last; b += together) {
        NB_TRY(nb_hf_linear_span_load(l, b, nb_min_size(together, last + 1 - b), &s, err));
        size_t low = nb_max_size(first, s.first), high = nb_min_size(end, s.first + s.values);
        NB_TRY(put_span(l, &s, low, high, type, dst, err));
        dst += (high - low) / type->block_values * type->block_bytes;
    }
    return NB_OK;
}

/* bitsandbytes' AVX-512 kernel (0.50.2) takes the scale of value k of row r from absmax[r * (columns / block) + k / block].
 * That is another block's where columns are no multiple of a block; its plain code and CUDA take the right one. No model that
 * we know of has such columns, test models do. */
static bool has_other_scales(const nb_hf_linear *l)
{
    return l->as_cpu && l->columns % l->block != 0 && l->columns % 16 == 0 && l->block < 2048;
}

static nb_status read_as_cpu(const nb_hf_linear *l, uint64_t row, const nb_type_info *type, char *dst, nb_error *err)
{
    nb_hf_linear_span codes, scale;
    size_t all = nb_hf_linear_blocks(l);
    for (size_t k = 0; k < l->columns; k += l->block) {
        size_t n = nb_min_size(l->block, (size_t)l->columns - k), at = (size_t)(row * l->columns) + k;
        size_t b = at / l->block, other = (size_t)row * (size_t)(l->columns / l->block) + k / l->block;
        NB_TRY(nb_hf_linear_span_load(l, b, nb_min_size(2, all - b), &codes, err));
        NB_TRY(nb_hf_linear_span_load(l, other, 1, &scale, err));
        NB_TRY(nb_bnb_dequantize_4bit(codes.packed + (at - codes.first) / 2, scale.absmax, l->map, l->block, n,
                                      scale.value, l->dtype, NULL, err));
        memcpy(dst + k * type->block_bytes, scale.value, n * type->block_bytes);
    }
    return NB_OK;
}

/* ---- double quantization on the way ---- */

typedef struct scales {
    const nb_hf_linear *l;
    float *absmax;
    nb_status status[256];
    nb_error err[256];
} scales;

static void find_scales(void *context, int member, int members)
{
    scales *c = context;
    nb_hf_linear_span s;
    size_t begin, end, together = NB_HF_LINEAR_SPAN / c->l->block;
    nb_team_share(nb_hf_linear_blocks(c->l), together, member, members, &begin, &end);
    for (size_t b = begin; b < end && c->status[member] == NB_OK; b += together) {
        size_t n = nb_min_size(together, end - b);
        c->status[member] = nb_hf_linear_span_load(c->l, b, n, &s, &c->err[member]);
        if (c->status[member] == NB_OK)
            memcpy(c->absmax + b, s.absmax, n * sizeof *s.absmax);
    }
}

nb_status nb_hf_linear_nest(nb_hf_linear *l, uint8_t *codes, float *nested_absmax, nb_team *team, nb_error *err)
{
    size_t blocks = nb_hf_linear_blocks(l);
    nb_status status = NB_OK;
    scales *c = calloc(1, sizeof *c);
    float *absmax = malloc(blocks * sizeof *absmax);
    if (c && absmax) {
        c->l = l;
        c->absmax = absmax;
        nb_team_run(team, find_scales, c);
        for (int i = 0; i < nb_team_size(team) && status == NB_OK; i++)
            if (c->status[i] != NB_OK)
                status = nb_fail(err, c->status[i], "%s", c->err[i].message);
        if (status == NB_OK)
            status = nb_bnb_nest(absmax, blocks, codes, nested_absmax, &l->nested_offset, err);
    } else {
        status = nb_fail_memory(err, "scales of blocks", blocks * sizeof *absmax);
    }
    free(absmax);
    free(c);
    NB_TRY(status);
    l->nested_codes = codes;
    l->nested_absmax = nested_absmax;
    l->nested_map = nb_bnb_map8(true);
    l->nested_block = NB_HF_LINEAR_NEST;
    return NB_OK;
}

/* ---- 8 bits ---- */

nb_status nb_hf_linear_row8(const nb_hf_linear *l, uint64_t row, float *values, int8_t *room, const int8_t **codes,
                            float *scale, nb_error *err)
{
    nb_error why;
    size_t n = (size_t)l->columns;
    if (!l->made) {
        *codes = (const int8_t *)l->weight->data + row * n;
        *scale = l->scale[row];
        return NB_OK;
    }
    read_floats(l, row * n, n, values);
    *codes = room;
    nb_status status = nb_bnb_quantize_int8(values, NB_FLOAT_F32, 1, n, room, scale, NULL, &why);
    return status == NB_OK ? NB_OK : failed(l, row * n, status, &why, err);
}

static nb_status put_row8(const nb_hf_linear *l, const int8_t *codes, float scale, const nb_type_info *type, char *dst,
                          nb_error *err)
{
    size_t n = (size_t)l->columns;
    if (type->block_values == 1 && l->quanto)
        return nb_hf_quanto_row8(l, codes, scale, dst);
    if (type->block_values == 1)
        return nb_bnb_dequantize_int8(codes, &scale, 1, n, dst, l->dtype, NULL, err);
    for (size_t i = 0; i < n; i += 32, dst += sizeof(nb_block_int8)) {
        nb_block_int8 b = {.d = l->quanto ? scale : scale / 127.0f};
        memcpy(b.qs, codes + i, sizeof b.qs);
        memcpy(dst, &b, sizeof b);
    }
    return NB_OK;
}

static nb_status read_8bit(const nb_hf_linear *l, uint64_t row, uint64_t count, const nb_type_info *type, char *dst,
                           nb_error *err)
{
    size_t n = (size_t)l->columns, bytes = n / type->block_values * type->block_bytes;
    nb_status status = NB_OK;
    float *values = malloc(n * (sizeof *values + 1));
    if (!values)
        return nb_fail_memory(err, "a row of weights", n * (sizeof *values + 1));
    for (uint64_t r = row; r < row + count && status == NB_OK; r++, dst += bytes) {
        const int8_t *codes;
        float scale;
        status = nb_hf_linear_row8(l, r, values, (int8_t *)(values + n), &codes, &scale, err);
        if (status == NB_OK)
            status = put_row8(l, codes, scale, type, dst, err);
    }
    free(values);
    return status;
}

nb_status nb_hf_linear_read(const nb_hf_linear *l, uint64_t row, uint64_t count, const nb_type_info *type, void *dst,
                            nb_error *err)
{
    if (count == 0)
        return NB_OK;
    if (l->codes)
        return nb_hf_codes_read(l, row, count, type, dst, err);
    if (l->int8)
        return read_8bit(l, row, count, type, dst, err);
    if (l->quanto)
        return nb_hf_quanto_rows4(l, row, count, dst);
    for (uint64_t r = 0; has_other_scales(l) && r < count; r++)
        NB_TRY(read_as_cpu(l, row + r, type, (char *)dst + r * l->columns * type->block_bytes, err));
    if (has_other_scales(l))
        return NB_OK;
    return read_4bit(l, (size_t)(row * l->columns), (size_t)((row + count) * l->columns), type, dst, err);
}
