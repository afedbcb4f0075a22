#include "format/checkpoint_parse.h"
#include "num/fp8.h"

/* Data may lie at any byte and with any strides: values go through a small aligned buffer unless they lie well. */

static const struct dtype_row {
    const char *name;
    size_t bytes;
} dtypes[NB_DTYPES] = {
    [NB_DTYPE_BOOL] = {"BOOL", 1},       [NB_DTYPE_U8] = {"U8", 1},           [NB_DTYPE_I8] = {"I8", 1},
    [NB_DTYPE_U16] = {"U16", 2},         [NB_DTYPE_I16] = {"I16", 2},         [NB_DTYPE_U32] = {"U32", 4},
    [NB_DTYPE_I32] = {"I32", 4},         [NB_DTYPE_U64] = {"U64", 8},         [NB_DTYPE_I64] = {"I64", 8},
    [NB_DTYPE_F8_E4M3] = {"F8_E4M3", 1}, [NB_DTYPE_F8_E5M2] = {"F8_E5M2", 1}, [NB_DTYPE_F8_E8M0] = {"F8_E8M0", 1},
    [NB_DTYPE_F16] = {"F16", 2},         [NB_DTYPE_BF16] = {"BF16", 2},       [NB_DTYPE_F32] = {"F32", 4},
    [NB_DTYPE_F64] = {"F64", 8},
};

const char *nb_dtype_name(nb_dtype dtype) { return (unsigned)dtype < NB_DTYPES ? dtypes[dtype].name : "unknown"; }
size_t nb_dtype_bytes(nb_dtype dtype) { return (unsigned)dtype < NB_DTYPES ? dtypes[dtype].bytes : 0; }

bool nb_dtype_by_name(nb_str name, nb_dtype *out)
{
    for (int i = 0; i < NB_DTYPES; i++)
        if (nb_str_eqz(name, dtypes[i].name)) {
            *out = (nb_dtype)i;
            return true;
        }
    return false;
}

bool nb_checkpoint_shape(nb_checkpoint_tensor *t)
{
    size_t values = 1, bytes, stride = 1;
    bool empty = false;
    for (uint32_t i = 0; i < t->n_dims; i++)
        empty = empty || t->dims[i] == 0;
    for (uint32_t i = t->n_dims; i-- > 0;) { /* zeros do not hide an overflow of the others */
        t->stride[i] = stride;
        if (!nb_mul(values, t->dims[i] ? t->dims[i] : 1, &values) || values > INT64_MAX)
            return false;
        stride = values;
    }
    t->values = empty ? 0 : values;
    t->contiguous = true;
    return nb_mul(values, nb_dtype_bytes(t->dtype), &bytes) && bytes <= INT64_MAX;
}

/* ---- values in their own dtype ---- */

static void gather(const unsigned char *src, uint64_t stride, size_t bytes, uint64_t n, unsigned char *dst)
{
    for (uint64_t i = 0; i < n; i++)
        memcpy(dst + i * bytes, src + i * stride * bytes, bytes);
}

void nb_checkpoint_read_raw(const nb_checkpoint_tensor *t, uint64_t first, uint64_t count, void *dst)
{
    size_t bytes = nb_dtype_bytes(t->dtype);
    unsigned char *to = dst;
    if (count == 0)
        return;
    if (t->contiguous || t->n_dims == 0) {
        memcpy(to, (const unsigned char *)t->data + first * bytes, count * bytes);
        return;
    }
    uint32_t last = t->n_dims - 1;
    while (count > 0) { /* a row of the last dimension after the other */
        uint64_t column = first % t->dims[last], rest = first / t->dims[last], offset = column * t->stride[last];
        uint64_t n = t->dims[last] - column < count ? t->dims[last] - column : count;
        for (uint32_t i = last; i-- > 0;) {
            offset += rest % t->dims[i] * t->stride[i];
            rest /= t->dims[i];
        }
        const unsigned char *src = (const unsigned char *)t->data + offset * bytes;
        if (t->stride[last] == 1)
            memcpy(to, src, n * bytes);
        else
            gather(src, t->stride[last], bytes, n, to);
        to += n * bytes;
        first += n;
        count -= n;
    }
}

/* ---- values as float32 ---- */

#define CONVERT(type, expression)                                                                                      \
    {                                                                                                                  \
        const type *x = src;                                                                                           \
        for (size_t i = 0; i < n; i++)                                                                                 \
            dst[i] = (expression);                                                                                     \
        break;                                                                                                         \
    }

static void convert(nb_dtype dtype, const void *src, size_t n, float *dst) /* src is aligned */
{
    switch (dtype) {
    case NB_DTYPE_F32: memcpy(dst, src, n * sizeof *dst); break;
    case NB_DTYPE_F16: nb_f16_to_f32_row(src, dst, n); break;
    case NB_DTYPE_BF16: nb_bf16_to_f32_row(src, dst, n); break;
    case NB_DTYPE_F64: CONVERT(double, (float)x[i])
    case NB_DTYPE_F8_E4M3: CONVERT(uint8_t, nb_f8_e4m3_to_f32(x[i]))
    case NB_DTYPE_F8_E5M2: CONVERT(uint8_t, nb_f8_e5m2_to_f32(x[i]))
    case NB_DTYPE_F8_E8M0: CONVERT(uint8_t, nb_f8_e8m0_to_f32(x[i]))
    case NB_DTYPE_BOOL: CONVERT(uint8_t, x[i] != 0)
    case NB_DTYPE_U8: CONVERT(uint8_t, x[i])
    case NB_DTYPE_I8: CONVERT(int8_t, x[i])
    case NB_DTYPE_U16: CONVERT(uint16_t, x[i])
    case NB_DTYPE_I16: CONVERT(int16_t, x[i])
    case NB_DTYPE_U32: CONVERT(uint32_t, (float)x[i])
    case NB_DTYPE_I32: CONVERT(int32_t, (float)x[i])
    case NB_DTYPE_U64: CONVERT(uint64_t, (float)x[i])
    case NB_DTYPE_I64: CONVERT(int64_t, (float)x[i])
    case NB_DTYPES: break;
    }
}

void nb_checkpoint_read_f32(const nb_checkpoint_tensor *t, uint64_t first, uint64_t count, float *dst)
{
    enum { STEP = 1024 };
    _Alignas(16) unsigned char buffer[STEP * sizeof(double)];
    size_t bytes = nb_dtype_bytes(t->dtype);
    const unsigned char *data = t->data;
    if (t->contiguous && (uintptr_t)data % bytes == 0) {
        if (count > 0)
            convert(t->dtype, data + first * bytes, count, dst);
        return;
    }
    while (count > 0) {
        uint64_t n = count < STEP ? count : STEP;
        nb_checkpoint_read_raw(t, first, n, buffer);
        convert(t->dtype, buffer, n, dst);
        first += n;
        dst += n;
        count -= n;
    }
}

void nb_checkpoint_forget(const nb_checkpoint *c, const nb_checkpoint_tensor *t, uint64_t first, uint64_t count)
{
    size_t bytes = nb_dtype_bytes(t->dtype);
    if (!t->contiguous)
        return;
    for (size_t i = 0; i < c->file_count; i++)
        if (c->files[i].path == t->file)
            nb_map_dont_need(&c->files[i].map,
                             (size_t)((const unsigned char *)t->data - c->files[i].map.data) + first * bytes,
                             count * bytes);
}
