/* Rows of a weight of codes. */
#include "hf/hf_unpack.h"

#include <math.h>
#include <stdlib.h>

#include "num/fp8.h"
#include "quant/blocks.h"

enum { TOGETHER = 8 }; /* rows: as many as a word of a column holds (AWQ) */

static uint32_t load(const unsigned char *p, size_t unit)
{
    uint32_t w;
    if (unit == 1)
        return *p;
    memcpy(&w, p, sizeof w);
    return w;
}

/* codes that go over the ends of words */
static void unpack_stream(const nb_hf_packed *p, const unsigned char *line, uint64_t first, size_t n, size_t step,
                          uint8_t *dst)
{
    unsigned width = (unsigned)(8 * p->unit), mask = (1u << p->bits) - 1;
    for (size_t i = 0; i < n; i++) {
        uint64_t bit = (first + i) * p->bits;
        unsigned shift = (unsigned)(bit % width);
        const unsigned char *at = line + bit / width * p->along;
        uint32_t code = load(at, p->unit) >> shift;
        if (shift + p->bits > width)
            code |= load(at + p->along, p->unit) << (width - shift);
        dst[i * step] = (uint8_t)((code & mask) ^ p->flip);
    }
}

void nb_hf_unpack(const nb_hf_packed *p, uint64_t line, uint64_t first, size_t n, size_t step, uint8_t *dst)
{
    unsigned each = (unsigned)(8 * p->unit / p->bits), mask = (1u << p->bits) - 1;
    const unsigned char *at = p->data + line * p->across;
    if (each * p->bits != 8 * p->unit) {
        unpack_stream(p, at, first, n, step, dst);
        return;
    }
    for (size_t i = 0; i < n;) {
        unsigned k = (unsigned)((first + i) % each);
        uint32_t word = load(at + (first + i) / each * p->along, p->unit);
        for (; k < each && i < n; k++, i++)
            dst[i * step] = (uint8_t)((word >> p->bits * (p->place ? p->place[k] : k) & mask) ^ p->flip);
    }
}

void nb_hf_scales(const nb_hf_codes *c, uint64_t first, uint64_t step, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++, first += step)
        if (c->scale->dtype == NB_DTYPE_U8)
            dst[i] = nb_f8_e8m0_to_f32(((const uint8_t *)c->scale->data)[first]);
        else
            nb_checkpoint_read_f32(c->scale, first, 1, dst + i);
}

/* ---- rows ---- */

typedef struct room {   /* of a few rows while they are made */
    uint8_t *code;      /* [TOGETHER, columns] */
    float *value;       /* [columns] */
    float *scale;       /* [groups], of one row, as are those below */
    int *zero;          /* [groups] */
    uint8_t *zero_code; /* [groups] */
} room;

static nb_status take_room(const nb_hf_linear *l, room *r, nb_error *err)
{
    size_t columns = (size_t)l->columns, groups = l->codes->groups;
    size_t bytes = columns * (sizeof *r->value + TOGETHER) + groups * (sizeof *r->scale + sizeof *r->zero + 1);
    r->value = malloc(bytes);
    if (!r->value)
        return nb_fail_memory(err, "rows of weights", bytes);
    r->scale = r->value + columns;
    r->zero = (int *)(r->scale + groups);
    r->zero_code = (uint8_t *)(r->zero + groups);
    r->code = r->zero_code + groups;
    return NB_OK;
}

static void load_codes(const nb_hf_linear *l, uint64_t row, size_t rows, room *r)
{
    const nb_hf_codes *c = l->codes;
    size_t columns = (size_t)l->columns;
    for (size_t i = 0; !c->by_column && i < rows; i++)
        nb_hf_unpack(&c->code, row + i, 0, columns, 1, r->code + i * columns);
    for (size_t i = 0; c->by_column && i < columns; i++)
        nb_hf_unpack(&c->code, i, row, rows, columns, r->code + i);
}

/* scales and zero points of a row */
static void load_scales(const nb_hf_linear *l, uint64_t row, room *r)
{
    const nb_hf_codes *c = l->codes;
    uint64_t block = row / c->block_rows;
    nb_hf_scales(c, block * c->scale_row, c->scale_group, c->groups, r->scale);
    for (size_t g = 0; g < c->groups; g++) {
        if (c->has_zeros)
            nb_hf_unpack(&c->zero, g, block, 1, 1, r->zero_code + g);
        r->zero[g] = c->has_zeros ? (int)((r->zero_code[g] + c->zero_add) & 255 & c->zero_mask) : (int)c->middle;
    }
}

static void plain_values(nb_hf_code_kind kind, const uint8_t *code, size_t n, float *value)
{
    static const float e2m1[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    for (size_t i = 0; kind == NB_HF_INTEGER && i < n; i++)
        value[i] = (float)code[i];
    for (size_t i = 0; kind == NB_HF_E4M3 && i < n; i++)
        value[i] = nb_f8_e4m3_to_f32(code[i]);
    for (size_t i = 0; kind == NB_HF_E5M2 && i < n; i++)
        value[i] = nb_f8_e5m2_to_f32(code[i]);
    for (size_t i = 0; kind == NB_HF_E2M1 && i < n; i++)
        value[i] = e2m1[code[i] & 15];
}

/* The row as floats in r->value; false: not all are numbers. */
static bool make_values(const nb_hf_linear *l, const uint8_t *code, room *r)
{
    const nb_hf_codes *c = l->codes;
    size_t columns = (size_t)l->columns;
    float sum = 0;
    plain_values(c->kind, code, columns, r->value);
    if (c->group_of) {
        for (size_t i = 0; i < columns; i++)
            r->value[i] = (r->value[i] - (float)r->zero[c->group_of[i]]) * r->scale[c->group_of[i]];
    } else {
        for (size_t g = 0, i = 0; g < c->groups; g++) {
            float zero = (float)r->zero[g], scale = r->scale[g];
            for (size_t end = nb_min_size(columns, (g + 1) * c->group); i < end; i++)
                r->value[i] = (r->value[i] - zero) * scale;
        }
    }
    for (size_t i = 0; i < columns; i++)
        sum += r->value[i] * 0.0f;
    return sum == 0;
}

/* 32 values of a row, from column `at` on, as a block of that type; the type was chosen so that they fit. */
static void put_block(const nb_hf_linear *l, const room *r, const uint8_t *code, size_t at, nb_type type, void *dst)
{
    size_t g = at / l->codes->group;
    int zero = r->zero[g], shift = type == NB_TYPE_Q4_0 ? 8 - zero : 0;
    float d = r->scale[g];
    if (type == NB_TYPE_Q8_0) {
        nb_block_q8_0 b = {.d = nb_f32_to_f16(d)};
        for (int i = 0; i < 32; i++)
            b.qs[i] = (int8_t)(code[i] - zero);
        memcpy(dst, &b, sizeof b);
        return;
    }
    uint8_t qs[16];
    for (int i = 0; i < 16; i++)
        qs[i] = (uint8_t)((code[i] + shift) | (code[i + 16] + shift) << 4);
    if (type == NB_TYPE_Q4_0) {
        nb_block_q4_0 b = {.d = nb_f32_to_f16(d)};
        memcpy(b.qs, qs, sizeof qs);
        memcpy(dst, &b, sizeof b);
    } else if (type == NB_TYPE_Q4_1) {
        nb_block_q4_1 b = {.d = nb_f32_to_f16(d), .m = nb_f32_to_f16(-d * (float)zero)};
        memcpy(b.qs, qs, sizeof qs);
        memcpy(dst, &b, sizeof b);
    } else {
        nb_block_mxfp4 b = {.e = (uint8_t)(nb_f32_bits(d) >> 23)}; /* 2^-127, which is subnormal, is code 0 */
        memcpy(b.qs, qs, sizeof qs);
        memcpy(dst, &b, sizeof b);
    }
}

static nb_status put_row(const nb_hf_linear *l, uint64_t row, const uint8_t *code, room *r, const nb_type_info *type,
                         char *dst, nb_error *err)
{
    size_t columns = (size_t)l->columns;
    load_scales(l, row, r);
    if (type->block_values == 32) {
        for (size_t at = 0; at < columns; at += 32, dst += type->block_bytes)
            put_block(l, r, code + at, at, (nb_type)type->id, dst);
        return NB_OK;
    }
    if (!make_values(l, code, r))
        return nb_hf_bad_part(l->weight, err, "is no number in row %llu", (unsigned long long)row);
    if (type->id == NB_TYPE_F32)
        memcpy(dst, r->value, columns * sizeof *r->value);
    else
        (type->id == NB_TYPE_F16 ? nb_f32_to_f16_row : nb_f32_to_bf16_row)(r->value, (uint16_t *)(void *)dst, columns);
    return NB_OK;
}

nb_status nb_hf_codes_read(const nb_hf_linear *l, uint64_t row, uint64_t count, const nb_type_info *type, void *dst,
                           nb_error *err)
{
    size_t columns = (size_t)l->columns, bytes = columns / type->block_values * type->block_bytes;
    uint64_t end = row + count;
    char *to = dst;
    room r = {0};
    NB_TRY(take_room(l, &r, err));
    nb_status status = NB_OK;
    while (row < end && status == NB_OK) {
        size_t rows = nb_min_size(TOGETHER - (size_t)(row % TOGETHER), (size_t)(end - row));
        load_codes(l, row, rows, &r);
        for (size_t i = 0; i < rows && status == NB_OK; i++, to += bytes)
            status = put_row(l, row + i, r.code + i * columns, &r, type, to, err);
        row += rows;
    }
    free(r.value);
    return status;
}
