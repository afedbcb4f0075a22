/* feedback_lanes.h - the body of a level's nb_feedback_table: include with FEEDBACK defined as its name. */
#include "quant/feedback_table.h"
#include "quant/quant_lanes.h"

#if defined(__AVX512F__)
enum { TILE = 8 };
#else
enum { TILE = 2 }; /* sixteen registers of half a vector */
#endif

QV_INLINE void outer_tile(const float *a, size_t lda, const float *b, size_t ldb, size_t count, float *c, size_t ldc)
{
    qv sum[TILE][2];
    for (int m = 0; m < TILE; m++)
        for (int n = 0; n < 2; n++)
            sum[m][n] = qv_load(c + (size_t)m * ldc + 16 * n);
    for (size_t r = 0; r < count; r++, a += lda, b += ldb) {
        qv left = qv_load(b), right = qv_load(b + 16);
        for (int m = 0; m < TILE; m++) {
            qv factor = qv_set(a[m]);
            sum[m][0] += factor * left;
            sum[m][1] += factor * right;
        }
    }
    for (int m = 0; m < TILE; m++)
        for (int n = 0; n < 2; n++)
            qv_store(c + (size_t)m * ldc + 16 * n, sum[m][n]);
}

static void outer(const float *a, size_t lda, const float *b, size_t ldb, size_t count, float *c, size_t ldc)
{
    for (size_t m = 0; m < NB_FEEDBACK_PANEL; m += TILE)
        outer_tile(a + m, lda, b, ldb, count, c + m * ldc, ldc);
}

/* the code nearest to y, as a float, and its level */
QV_INLINE qv nearest(const nb_feedback_step *s, qv y, qv *level)
{
    if (!s->level) {
        qv top = qv_set((float)(s->levels - 1));
        *level = qv_round(qv_clamp(y, qv_set(0), top));
        return *level;
    }
    qv code = qv_set(0);
    *level = qv_set(s->level[0]);
    for (int i = 1; i < s->levels; i++) {
        qi above = (qi)(y > qv_set(0.5f * (s->level[i - 1] + s->level[i])));
        code = qv_select(above, qv_set((float)i), code);
        *level = qv_select(above, qv_set(s->level[i]), *level);
    }
    return code;
}

static void step(const nb_feedback_step *s)
{
    for (int half = 0; half < 2; half++) {
        qv delta[NB_FEEDBACK_PANEL];
        qv base = qv_load(s->base + 16 * half), scale = qv_load(s->scale + 16 * half);
        qv inverse = qv_ratio(qv_set(1), scale);
        for (int j = 0; j < NB_FEEDBACK_PANEL; j++) {
            qv t = qv_load(s->t + j * NB_FEEDBACK_ROWS + 16 * half), level;
            for (int i = 0; i < j; i++)
                t += qv_set(s->u[i * NB_FEEDBACK_PANEL + j]) * delta[i];
            qi code = qv_to_int(nearest(s, (t - base) * inverse, &level));
            delta[j] = qv_load(s->w + j * NB_FEEDBACK_ROWS + 16 * half) - (base + scale * level);
            qv_store(s->delta + j * NB_FEEDBACK_ROWS + 16 * half, delta[j]);
            for (int lane = 0; lane < 16; lane++)
                s->codes[j * NB_FEEDBACK_ROWS + 16 * half + lane] = (uint8_t)code[lane];
        }
    }
}

const nb_feedback_table FEEDBACK = {outer, step};
