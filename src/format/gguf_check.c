#include "format/gguf_check.h"

/* all exponent bits set: an infinity or NaN; as integers, the loop is vectorized */
static bool any_bad(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return bad != 0;
}

static void note_bad(const nb_gguf_tensor *t, const float *x, size_t n, uint64_t first, nb_gguf_check *out)
{
    for (size_t i = 0; i < n; i++) {
        if (!any_bad(&x[i], 1) || out->bad++ > 0)
            continue;
        out->row = (first + i) / t->dims[0];
        out->column = (first + i) % t->dims[0];
        out->offset = t->offset + (first + i) / t->type->block_values * t->type->block_bytes;
        out->value = x[i];
    }
}

void nb_gguf_check_tensor(const nb_gguf_tensor *t, nb_gguf_check *out)
{
    enum { STEP = 4096 }; /* values: a multiple of every block, small enough for the first cache */
    float x[STEP];
    *out = (nb_gguf_check){.decoded = t->type->dequantize != NULL};
    if (!out->decoded)
        return;
    uint64_t total = t->bytes / t->type->block_bytes * t->type->block_values;
    for (uint64_t at = 0; at < total; at += STEP) {
        size_t n = total - at < STEP ? (size_t)(total - at) : STEP;
        const unsigned char *src = t->data;
        t->type->dequantize(src + at / t->type->block_values * t->type->block_bytes, x, n);
        if (any_bad(x, n))
            note_bad(t, x, n, at, out);
    }
}
