/* NF4 and FP4 in blocks, plain and with their absmax quantized in turn (QLoRA). */
#include "quant/bnb.h"

#include "num/half.h"
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* Larger outputs go past the caches: a core would else read every line before it overwrites it. */
enum { STREAM_BYTES = 12 << 20 };

/* codes by rank; FP4 has two codes that mean 0: only 0 is written */
static const uint8_t nf4_by_rank[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const uint8_t fp4_by_rank[16] = {11, 10, 13, 12, 15, 14, 9, 0, 0, 1, 6, 7, 4, 5, 2, 3};

size_t nb_bnb_blocks(size_t n, size_t block) { return block ? n / block + (n % block != 0) : 0; }

/* ---- quantize ---- */

typedef struct quantize4 {
    const void *x;
    nb_float type;
    size_t n, block;
    const uint8_t *by_rank;
    float middle[15];
    uint8_t *packed;
    float *absmax;
    const nb_bnb_loops *loops;
} quantize4;

static uint8_t code_of(const quantize4 *q, float x)
{
    int rank = 0;
    for (int i = 0; i < 15; i++)
        rank += x > q->middle[i];
    return q->by_rank[rank];
}

/* the partial last block: divided by absmax, which is never 0, as bitsandbytes does it */
static void quantize_partial(const quantize4 *q, const float *x, size_t n, float absmax, size_t b)
{
    absmax = absmax > 1e-38f ? absmax : 1e-38f;
    q->absmax[b] = absmax;
    uint8_t *to = q->packed + b * q->block / 2;
    for (size_t i = 0; i < n; i += 2) {
        uint8_t high = code_of(q, x[i] / absmax), low = code_of(q, i + 1 < n ? x[i + 1] / absmax : 0.0f);
        to[i / 2] = (uint8_t)(high << 4 | low);
    }
}

static bool quantize_blocks(void *context, size_t begin, size_t end)
{
    const quantize4 *q = context;
    float room[NB_BNB_BLOCK_MOST];
    for (size_t b = begin; b < end; b++) {
        size_t at = b * q->block, n = nb_min_size(q->block, q->n - at);
        const float *x = nb_bnb_floats(q->loops, q->x, q->type, at, n, room);
        uint32_t top = q->loops->largest(x, n);
        if (top >= 0x7f800000u)
            return false;
        float absmax = nb_f32_of_bits(top);
        if (n < q->block) {
            quantize_partial(q, x, n, absmax, b);
        } else {
            q->absmax[b] = absmax;
            q->loops->encode4(x, n, nb_bnb_factor(absmax), q->middle, q->by_rank, q->packed + at / 2);
        }
    }
    return true;
}

nb_status nb_bnb_quantize_4bit(const void *x, nb_float type, size_t n, nb_code4 code, size_t block, uint8_t *packed,
                               float *absmax, nb_team *team, nb_error *err)
{
    NB_TRY(nb_bnb_check_type(type, err));
    NB_TRY(nb_bnb_check_block(block, 32, err));
    if (code != NB_CODE_NF4 && code != NB_CODE_FP4)
        return nb_fail(err, NB_ERR_ARGUMENT, "%d is not a 4-bit code; give NB_CODE_NF4 or NB_CODE_FP4", (int)code);
    quantize4 q = {
        x, type, n, block, code == NB_CODE_FP4 ? fp4_by_rank : nf4_by_rank, {0}, packed, absmax, nb_bnb_loops_now()};
    const float *map = nb_bnb_map4(code);
    for (int i = 0; i < 15; i++)
        q.middle[i] = (map[q.by_rank[i]] + map[q.by_rank[i + 1]]) / 2.0f;
    size_t grain = nb_max_size(1, 4096 / block);
    if (!nb_bnb_share(team, nb_bnb_blocks(n, block), grain, quantize_blocks, &q))
        return nb_bnb_fail_not_finite(x, type, n, err);
    return NB_OK;
}

/* ---- dequantize ---- */

typedef struct dequantize4 {
    const uint8_t *packed;
    const float *absmax, *map;
    size_t block, n;
    void *y;
    nb_float type;
    bool stream;
    const nb_bnb_loops *loops;
} dequantize4;

/* the partial last block */
static void dequantize_partial(const dequantize4 *q, size_t b)
{
    float room[NB_BNB_BLOCK_MOST];
    size_t at = b * q->block, n = q->n - at;
    float *y = nb_bnb_target(q->y, q->type, at, room);
    for (size_t i = 0; i < n; i++) {
        unsigned two = q->packed[(at + i) / 2];
        y[i] = q->map[i % 2 ? two & 15 : two >> 4] * q->absmax[b];
    }
    nb_bnb_store(q->loops, room, q->y, q->type, at, n);
}

static bool dequantize_blocks(void *context, size_t begin, size_t end)
{
    const dequantize4 *q = context;
    size_t whole = nb_min_size(end, q->n / q->block), at = begin * q->block, blocks = whole > begin ? whole - begin : 0;
    if (q->type == NB_FLOAT_F32)
        q->loops->decode4(q->packed + at / 2, q->absmax + begin, q->map, q->block, blocks, (float *)q->y + at,
                          q->stream);
    else
        q->loops->decode4_half(q->packed + at / 2, q->absmax + begin, q->map, q->block, blocks, (uint16_t *)q->y + at,
                               q->type == NB_FLOAT_BF16, q->stream);
    if (end > whole)
        dequantize_partial(q, end - 1);
#if defined(__x86_64__)
    if (q->stream)
        _mm_sfence(); /* streamed stores are seen by others after this */
#endif
    return true;
}

nb_status nb_bnb_dequantize_4bit(const uint8_t *packed, const float *absmax, const float *map, size_t block, size_t n,
                                 void *y, nb_float type, nb_team *team, nb_error *err)
{
    NB_TRY(nb_bnb_check_type(type, err));
    NB_TRY(nb_bnb_check_block(block, 32, err));
    dequantize4 q = {
        packed, absmax, map, block, n, y, type, n > STREAM_BYTES / nb_float_bytes(type), nb_bnb_loops_now()};
    nb_bnb_share(team, nb_bnb_blocks(n, block), nb_max_size(1, 4096 / block), dequantize_blocks, &q);
    return NB_OK;
}

/* ---- double quantization ---- */

enum { NEST_BLOCK = 256 };

/* bitsandbytes' CPU kernel looks codes up in a table of 65,536 places; here, where bytes are compared, so is it done, but a
 * zero stays one. What that moves an absmax is at most 1.5e-5 of the largest difference: a code is 7e-3 of it. Its other
 * backends take the nearest code of all: 1 in 500 is another. */
static float place_of(float x)
{
    return x == 0 ? 0.0f : (float)(int32_t)((x + 1.0f) * 32767.5f + 0.5f) / 32767.5f - 1.0f;
}

nb_status nb_bnb_nest(const float *absmax, size_t count, uint8_t *codes, float *nested_absmax, float *offset,
                      nb_error *err)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)absmax[i];
    *offset = count ? (float)(sum / (double)count) : 0.0f;
    nb_bnb_index index;
    const nb_bnb_loops *loops = nb_bnb_loops_now();
    nb_bnb_index_map(nb_bnb_map8(true), &index);
    for (size_t at = 0; at < count; at += NEST_BLOCK) {
        size_t n = nb_min_size(NEST_BLOCK, count - at);
        float less[NEST_BLOCK];
        for (size_t i = 0; i < n; i++)
            less[i] = absmax[at + i] - *offset;
        uint32_t top = loops->largest(less, n);
        if (top >= 0x7f800000u)
            return nb_bnb_fail_not_finite(absmax, NB_FLOAT_F32, count, err);
        float most = nested_absmax[at / NEST_BLOCK] = nb_f32_of_bits(top);
        for (size_t i = 0; i < n; i++)
            less[i] = place_of(n == NEST_BLOCK ? less[i] * nb_bnb_factor(most) : most > 0 ? less[i] / most : 0.0f);
        loops->encode8(less, n, 1.0f, &index, codes + at);
    }
    return NB_OK;
}

nb_status nb_bnb_unnest(const uint8_t *codes, const float *nested_absmax, const float *map, float offset, size_t block,
                        size_t count, float *absmax, nb_error *err)
{
    if (block == 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "nested blocks of 0 values do not exist; give what the file says (256)");
    for (size_t i = 0; i < count; i++)
        absmax[i] = map[codes[i]] * nested_absmax[i / block] + offset;
    return NB_OK;
}
