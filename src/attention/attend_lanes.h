/* attend_lanes.h - attention over the pages of one kv head, written once over lanes. A file of one level defines
 * ATTEND_TABLE and includes it.
 *
 * Scores: s[key] = fma(q[d], k[d][key], s) over d in order, q scaled beforehand, a lane a key. Output: o[d] =
 * fma(p[key], v[key][d], o[d]) over the seen keys in order, a lane a d. Both are the same small matrix product, whose
 * blocking (rows, vectors) changes speed and never a bit. Stored values become floats exactly, so taking them from
 * the page and taking them from a converted tile are equal too. */
#include "attention/attend.h"
#include "kernel/lanes_math.h"

#define BLOCK_ROWS 6
#if LANES == 16
#define BLOCK_VECTORS 4 /* 24 sums, 4 vectors of b and a broadcast in 32 registers */
#else
#define BLOCK_VECTORS 2 /* 12, 2 and 1 in 16 */
#endif

typedef enum source { FROM_F32, FROM_F16, FROM_BF16, SOURCES } source;

LANES_INLINE lanes load_from(source from, const void *b, size_t i)
{
    return from == FROM_F32   ? lanes_load((const float *)b + i)
           : from == FROM_F16 ? lanes_load_f16((const uint16_t *)b + i)
                              : lanes_load_bf16((const uint16_t *)b + i);
}

/* c[r][*] (+)= sum over i < n, in order, of a[r][i] b[i][*] */
typedef struct product {
    const float *a;
    size_t a_stride;
    const void *b;
    size_t b_stride, n;
    float *c;
    size_t c_stride, columns; /* columns: a multiple of LANES */
    bool add;
} product;

LANES_INLINE void multiply_block(source from, size_t rows, size_t vectors, const product *m, size_t column)
{
    lanes sum[BLOCK_ROWS][BLOCK_VECTORS];
    const float *a = m->a;
    size_t a_stride = m->a_stride, b_stride = m->b_stride, n = m->n;
    const void *b = m->b;
    float *c = m->c + column;
    LANES_UNROLL
    for (size_t r = 0; r < rows; r++)
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++)
            sum[r][v] = m->add ? lanes_load(c + r * m->c_stride + v * LANES) : lanes_set(0.0f);
    for (size_t i = 0; i < n; i++) {
        lanes right[BLOCK_VECTORS];
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++)
            right[v] = load_from(from, b, i * b_stride + column + v * LANES);
        LANES_UNROLL
        for (size_t r = 0; r < rows; r++) {
            lanes left = lanes_set(a[r * a_stride + i]);
            LANES_UNROLL
            for (size_t v = 0; v < vectors; v++)
                sum[r][v] = lanes_fma(left, right[v], sum[r][v]);
        }
    }
    LANES_UNROLL
    for (size_t r = 0; r < rows; r++)
        LANES_UNROLL
        for (size_t v = 0; v < vectors; v++)
            lanes_store(c + r * m->c_stride + v * LANES, sum[r][v]);
}

#define MULTIPLY(from, rows)                                                                                           \
    static void multiply_##from##_##rows(const product *m)                                                             \
    {                                                                                                                  \
        size_t column = 0;                                                                                             \
        for (; column + BLOCK_VECTORS * LANES <= m->columns; column += BLOCK_VECTORS * LANES)                          \
            multiply_block(from, rows, BLOCK_VECTORS, m, column);                                                      \
        for (; column < m->columns; column += LANES)                                                                   \
            multiply_block(from, rows, 1, m, column);                                                                  \
    }
#define MULTIPLY_ALL(from)                                                                                             \
    MULTIPLY(from, 1) MULTIPLY(from, 2) MULTIPLY(from, 3) MULTIPLY(from, 4) MULTIPLY(from, 5) MULTIPLY(from, 6)
#define MULTIPLY_ROW(from)                                                                                             \
    {                                                                                                                  \
        multiply_##from##_1, multiply_##from##_2, multiply_##from##_3, multiply_##from##_4, multiply_##from##_5,       \
            multiply_##from##_6                                                                                        \
    }
MULTIPLY_ALL(FROM_F32)
MULTIPLY_ALL(FROM_F16)
MULTIPLY_ALL(FROM_BF16)

static void multiply(source from, size_t rows, const product *m)
{
    static void (*const by_rows[SOURCES][BLOCK_ROWS])(const product *) = {
        MULTIPLY_ROW(FROM_F32), MULTIPLY_ROW(FROM_F16), MULTIPLY_ROW(FROM_BF16)};
    by_rows[from][rows - 1](m);
}

/* ---- one job ---- */

typedef struct work {
    const nb_attend_job *job;
    size_t rows, k_dim, v_dim, v_pad, v_columns, state_floats;
    float *q, *k_tile, *v_tile, *scores;
    float cap; /* the soft cap in units of log2, or 0 */
    const void *k, *v; /* of the current tile: floats or the page's own */
    source k_from, v_from;
    size_t v_stride;
    int64_t begin[NB_ATTEND_ROWS_MAX], end[NB_ATTEND_ROWS_MAX]; /* keys seen by each row */
} work;

static float exp2_of(float x, bool exact) { return lanes_exp2(lanes_set(x), exact)[0]; }

/* what scores are measured from: the largest, or 0 while there is none */
static float base_of(float top) { return top == -INFINITY ? 0.0f : top; }

static void work_begin(work *w, const nb_attend_job *job)
{
    const nb_attention_spec *spec = job->spec;
    nb_attend_areas at = nb_attend_areas_of(spec);
    float *scratch = job->scratch;
    w->job = job;
    w->rows = job->queries * (size_t)job->heads;
    w->k_dim = (size_t)spec->k_dim;
    w->v_dim = (size_t)spec->v_dim;
    w->v_pad = nb_attend_v_pad(spec->v_dim);
    w->v_columns = nb_round_up(w->v_dim, LANES);
    w->state_floats = nb_attend_state_floats(spec->v_dim);
    w->q = scratch + at.q;
    w->k_tile = scratch + at.k;
    w->v_tile = scratch + at.v;
    w->scores = scratch + at.scores;
    float scale = spec->softcap > 0 ? spec->scale / spec->softcap : spec->scale * LANES_LOG2E;
    w->cap = spec->softcap > 0 ? spec->softcap * LANES_LOG2E : 0.0f;
    float *to = w->q;
    for (size_t r = 0; r < w->rows; r++, to += w->k_dim) {
        size_t query = job->query + r / (size_t)job->heads, head = (size_t)job->head + r % (size_t)job->heads;
        const float *from = job->span->q + query * job->span->q_stride + head * w->k_dim;
        for (size_t d = 0; d < w->k_dim; d++)
            to[d] = from[d] * scale;
        nb_attend_seen(spec, job->span, job->span->position + (int64_t)query, &w->begin[r], &w->end[r]);
    }
}

/* ---- a tile of keys and values ---- */

static void convert(source from, const void *src, size_t n, float *dst)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(dst + i, load_from(from, src, i));
    for (; i < n; i++)
        dst[i] = from == FROM_F32   ? ((const float *)src)[i]
                 : from == FROM_F16 ? nb_f16_to_f32(((const uint16_t *)src)[i])
                                    : nb_bf16_to_f32(((const uint16_t *)src)[i]);
}

static void convert_k_q8(const nb_kv_head *head, size_t k_dim, float *dst)
{
    for (size_t g = 0; g < k_dim / NB_KV_BLOCK; g++)
        for (size_t key = 0; key < NB_PAGE; key += LANES) {
            lanes scale = lanes_load_f16(head->k_scale + g * NB_PAGE + key);
            const int8_t *from = (const int8_t *)head->k + g * NB_KV_BLOCK * NB_PAGE + key;
            float *to = dst + g * NB_KV_BLOCK * NB_PAGE + key;
            for (size_t d = 0; d < NB_KV_BLOCK; d++)
                lanes_store(to + d * NB_PAGE, lanes_load_i8(from + d * NB_PAGE) * scale);
        }
}

static void convert_v_q8(const nb_kv_head *head, size_t v_dim, size_t key, float *dst)
{
    const int8_t *from = (const int8_t *)head->v + key * v_dim;
    for (size_t g = 0; g < v_dim / NB_KV_BLOCK; g++) {
        lanes scale = lanes_set(nb_f16_to_f32(head->v_scale[key * (v_dim / NB_KV_BLOCK) + g]));
        for (size_t d = g * NB_KV_BLOCK; d < (g + 1) * NB_KV_BLOCK; d += LANES)
            lanes_store(dst + d, lanes_load_i8(from + d) * scale);
    }
}

/* Makes w->k and w->v the tile's: the page's own values where they are multiplied once or are floats already, else
 * floats in scratch. Values outside [begin, end) may never have been written and are not touched. */
static void tile_open(work *w, int64_t tile, int64_t begin, int64_t end)
{
    const nb_attend_job *job = w->job;
    const void *page = job->span->pages[(size_t)tile % job->span->page_count];
    nb_kv_head head = nb_kv_head_at(job->layout, page, job->head / (job->spec->heads / job->spec->kv_heads));
    nb_type type = job->layout->type;
    source from = type == NB_TYPE_F16 ? FROM_F16 : type == NB_TYPE_BF16 ? FROM_BF16 : FROM_F32;
    bool direct = type == NB_TYPE_F32 || (w->rows <= BLOCK_ROWS && type != NB_TYPE_Q8_0);
    w->k = head.k;
    w->k_from = w->v_from = from;
    w->v = head.v;
    w->v_stride = w->v_dim;
    if (!direct) {
        if (type == NB_TYPE_Q8_0)
            convert_k_q8(&head, w->k_dim, w->k_tile);
        else
            convert(from, head.k, w->k_dim * NB_PAGE, w->k_tile);
        w->k = w->k_tile;
        w->k_from = FROM_F32;
    }
    if (direct && w->v_dim % LANES == 0)
        return;
    for (int64_t key = begin; key < end; key++) {
        float *to = w->v_tile + (size_t)key * w->v_pad;
        if (type == NB_TYPE_Q8_0)
            convert_v_q8(&head, w->v_dim, (size_t)key, to);
        else
            convert(from, (const char *)head.v + (size_t)key * w->v_dim * nb_kv_value_bytes(type), w->v_dim, to);
        for (size_t d = w->v_dim; d < w->v_columns; d++)
            to[d] = 0.0f;
    }
    w->v = w->v_tile;
    w->v_from = FROM_F32;
    w->v_stride = w->v_pad;
}

/* ---- the online softmax of a row over keys [begin, end) of a tile ---- */

LANES_INLINE lanes hide(lanes s, size_t key, size_t begin, size_t end)
{
    lanes index = lanes_set((float)key), hidden = lanes_set(-INFINITY);
    static const float count[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    index += lanes_load(count);
    s = lanes_select(lanes_less(index, lanes_set((float)begin)), hidden, s);
    return lanes_select(lanes_less(index, lanes_set((float)end)), s, hidden);
}

/* s: scores in, weights out; the state's top, sums and values follow */
static void soften(const work *w, float *s, size_t begin, size_t end, float *state)
{
    size_t first = begin / LANES * LANES;
    lanes top = lanes_set(-INFINITY);
    for (size_t key = first; key < end; key += LANES) {
        lanes v = lanes_load(s + key);
        if (w->cap > 0)
            v = lanes_tanh(v) * w->cap;
        if (key < begin || key + LANES > end)
            v = hide(v, key, begin, end);
        lanes_store(s + key, v);
        top = lanes_max(v, top); /* a NaN does not count */
    }
    bool exact = w->job->exact;
    float *now = state + w->v_pad, old = now[NB_ATTEND_TOP], highest = lanes_top(top);
    lanes sum = lanes_load(now + NB_ATTEND_SUM_LANES);
    if (highest > old) {
        float shrink = exp2_of(old - highest, exact);
        now[NB_ATTEND_TOP] = highest;
        sum *= shrink;
        for (size_t d = 0; d < w->v_columns; d += LANES)
            lanes_store(state + d, lanes_load(state + d) * shrink);
    }
    lanes base = lanes_set(base_of(now[NB_ATTEND_TOP]));
    for (size_t key = first; key < end; key += LANES) {
        lanes p = lanes_exp2(lanes_load(s + key) - base, exact);
        lanes_store(s + key, p);
        sum += p;
    }
    lanes_store(now + NB_ATTEND_SUM_LANES, sum);
}

/* o[r] += p[r][begin..end) v for `rows` rows at once */
static void add_values(const work *w, size_t rows, const float *p, size_t begin, size_t end, float *state)
{
    if (begin >= end)
        return;
    size_t value_bytes = w->v_from == FROM_F32 ? sizeof(float) : sizeof(uint16_t);
    product m = {p + begin,      NB_PAGE,     (const char *)w->v + begin * w->v_stride * value_bytes, w->v_stride, end - begin, state,
                 w->state_floats, w->v_columns, true};
    multiply(w->v_from, rows, &m);
}

/* Rows [row, row + rows) over the open tile. Each row takes its own keys: those all rows see together, the ragged ends
 * (the diagonal, the window's edge) row by row. */
static void attend_block(const work *w, size_t row, size_t rows, int64_t tile, float *states)
{
    size_t begin[BLOCK_ROWS], end[BLOCK_ROWS], low = NB_PAGE, high = 0, shared = 0, shared_end = NB_PAGE;
    for (size_t r = 0; r < rows; r++) {
        int64_t b = w->begin[row + r] - tile * NB_PAGE, e = w->end[row + r] - tile * NB_PAGE;
        end[r] = e < 0 ? 0 : e > NB_PAGE ? NB_PAGE : (size_t)e;
        begin[r] = b < 0 ? 0 : b > (int64_t)end[r] ? end[r] : (size_t)b;
        shared = nb_max_size(shared, begin[r]);
        shared_end = nb_min_size(shared_end, end[r]);
        if (begin[r] < end[r]) {
            low = nb_min_size(low, begin[r] / LANES * LANES);
            high = nb_max_size(high, nb_round_up(end[r], LANES));
        }
    }
    if (low >= high)
        return;
    size_t value_bytes = w->k_from == FROM_F32 ? sizeof(float) : sizeof(uint16_t);
    product m = {w->q + row * w->k_dim, w->k_dim,   (const char *)w->k + low * value_bytes, NB_PAGE, w->k_dim,
                 w->scores + low,       NB_PAGE, high - low,                             false};
    multiply(w->k_from, rows, &m);
    float *state = states + row * w->state_floats;
    for (size_t r = 0; r < rows; r++)
        if (begin[r] < end[r])
            soften(w, w->scores + r * NB_PAGE, begin[r], end[r], state + r * w->state_floats);
    if (shared >= shared_end) {
        for (size_t r = 0; r < rows; r++)
            add_values(w, 1, w->scores + r * NB_PAGE, begin[r], end[r], state + r * w->state_floats);
        return;
    }
    for (size_t r = 0; r < rows; r++)
        add_values(w, 1, w->scores + r * NB_PAGE, begin[r], shared, state + r * w->state_floats);
    add_values(w, rows, w->scores, shared, shared_end, state);
    for (size_t r = 0; r < rows; r++)
        add_values(w, 1, w->scores + r * NB_PAGE, shared_end, end[r], state + r * w->state_floats);
}

/* ---- chunks ---- */

static void state_clear(const work *w, float *state)
{
    memset(state, 0, w->state_floats * sizeof *state);
    state[w->v_pad + NB_ATTEND_TOP] = -INFINITY;
}

static void attend_chunk(work *w, int64_t chunk, float *states)
{
    for (size_t r = 0; r < w->rows; r++)
        state_clear(w, states + r * w->state_floats);
    const int64_t tiles = NB_ATTENTION_CHUNK / NB_PAGE;
    int64_t first = w->begin[0], last = w->end[w->rows - 1];
    for (int64_t tile = chunk * tiles; tile < (chunk + 1) * tiles; tile++) {
        int64_t begin = first - tile * NB_PAGE, end = last - tile * NB_PAGE;
        begin = begin < 0 ? 0 : begin;
        end = end > NB_PAGE ? NB_PAGE : end;
        if (begin >= end)
            continue;
        tile_open(w, tile, begin, end);
        for (size_t row = 0; row < w->rows; row += BLOCK_ROWS)
            attend_block(w, row, nb_min_size(w->rows - row, BLOCK_ROWS), tile, states);
    }
    for (size_t r = 0; r < w->rows; r++) {
        float *now = states + r * w->state_floats + w->v_pad;
        now[NB_ATTEND_SUM] = lanes_sum(lanes_load(now + NB_ATTEND_SUM_LANES));
    }
}

/* Log-sum-exp: a state joins the total of the chunks before it. Into an empty total it is copied by the same
 * arithmetic, and an empty state changes nothing. */
static void state_merge(const work *w, float *total, const float *state)
{
    float *now = total + w->v_pad;
    const float *then = state + w->v_pad;
    if (then[NB_ATTEND_SUM] == 0.0f)
        return;
    float top = then[NB_ATTEND_TOP] > now[NB_ATTEND_TOP] ? then[NB_ATTEND_TOP] : now[NB_ATTEND_TOP];
    float a = exp2_of(now[NB_ATTEND_TOP] - base_of(top), w->job->exact);
    float b = exp2_of(then[NB_ATTEND_TOP] - base_of(top), w->job->exact);
    now[NB_ATTEND_TOP] = top;
    now[NB_ATTEND_SUM] = now[NB_ATTEND_SUM] * a + then[NB_ATTEND_SUM] * b;
    for (size_t d = 0; d < w->v_columns; d += LANES)
        lanes_store(total + d, lanes_load(total + d) * a + lanes_load(state + d) * b);
}

static void state_write(const work *w, size_t row, float *state)
{
    const nb_attend_job *job = w->job;
    size_t query = job->query + row / (size_t)job->heads, head = (size_t)job->head + row % (size_t)job->heads;
    float *out = job->span->out + query * job->span->out_stride + head * w->v_dim;
    float top = state[w->v_pad + NB_ATTEND_TOP], sum = state[w->v_pad + NB_ATTEND_SUM], shrink = 1.0f;
    if (job->spec->sinks) {
        float sink = job->spec->sinks[head] * LANES_LOG2E, highest = sink > top ? sink : top;
        shrink = exp2_of(top - base_of(highest), job->exact);
        sum = sum * shrink + exp2_of(sink - base_of(highest), job->exact);
    }
    lanes scale = lanes_set(sum == 0.0f ? 0.0f : shrink / sum);
    size_t d = 0;
    for (; d + LANES <= w->v_dim; d += LANES)
        lanes_store(out + d, lanes_load(state + d) * scale);
    if (d < w->v_dim)
        lanes_store_n(out + d, lanes_load(state + d) * scale, w->v_dim - d);
}

static void attend(const nb_attend_job *job)
{
    work w;
    work_begin(&w, job);
    if (job->partial) {
        attend_chunk(&w, job->chunk_begin, job->partial);
        return;
    }
    nb_attend_areas at = nb_attend_areas_of(job->spec);
    float *total = (float *)job->scratch + at.total, *states = (float *)job->scratch + at.chunk;
    attend_chunk(&w, job->chunk_begin, total);
    for (int64_t chunk = job->chunk_begin + 1; chunk < job->chunk_end; chunk++) {
        attend_chunk(&w, chunk, states);
        for (size_t r = 0; r < w.rows; r++)
            state_merge(&w, total + r * w.state_floats, states + r * w.state_floats);
    }
    for (size_t r = 0; r < w.rows; r++)
        state_write(&w, r, total + r * w.state_floats);
}

static void merge(const nb_attend_job *job)
{
    work w;
    work_begin(&w, job);
    for (size_t r = 0; r < w.rows; r++) {
        float *total = job->partial + r * w.state_floats;
        for (int64_t chunk = 1; chunk < job->chunk_end - job->chunk_begin; chunk++)
            state_merge(&w, total, total + (size_t)chunk * job->partial_chunk);
        state_write(&w, r, total);
    }
}

/* ---- storing ---- */

static void store_q8(const float *x, size_t n, int8_t *q, size_t q_step, uint16_t *scale, size_t scale_step)
{
    for (size_t g = 0; g < n / NB_KV_BLOCK; g++, x += NB_KV_BLOCK) {
        float top = 0, taint = 0; /* 0 x is not 0 for an infinity or a NaN: the block then reads back as NaN */
        for (size_t i = 0; i < NB_KV_BLOCK; i++) {
            top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
            taint += x[i] * 0.0f;
        }
        float d = top / 127 < 65504.0f ? top / 127 : 65504.0f, inverse = d > 0 && taint == 0 ? 1 / d : 0;
        inverse = inverse > 3.0e38f ? 0 : inverse;
        scale[g * scale_step] = nb_f32_to_f16(d + taint);
        for (size_t i = 0; i < NB_KV_BLOCK; i++) {
            float y = rintf(taint == 0 ? x[i] * inverse : 1.0f);
            q[(g * NB_KV_BLOCK + i) * q_step] = (int8_t)(y > 127 ? 127 : y < -127 ? -127 : y);
        }
    }
}

static void narrow(nb_type type, const float *x, size_t n, uint16_t *y)
{
    size_t i = 0;
    if (type == NB_TYPE_F16)
        for (; i + LANES <= n; i += LANES)
            lanes_store_f16(y + i, lanes_load(x + i));
    for (; i < n; i++)
        y[i] = type == NB_TYPE_F16 ? nb_f32_to_f16(x[i]) : nb_f32_to_bf16(x[i]);
}

static void store_head(const nb_kv_layout *layout, const nb_kv_head *head, size_t slot, const float *k, const float *v)
{
    size_t k_dim = (size_t)layout->k_dim, v_dim = (size_t)layout->v_dim;
    uint16_t half[1024];
    switch ((int)layout->type) {
    case NB_TYPE_F32:
        for (size_t d = 0; d < k_dim; d++)
            ((float *)head->k)[d * NB_PAGE + slot] = k[d];
        memcpy((float *)head->v + slot * v_dim, v, v_dim * sizeof *v);
        break;
    case NB_TYPE_Q8_0:
        store_q8(k, k_dim, (int8_t *)head->k + slot, NB_PAGE, (uint16_t *)head->k_scale + slot, NB_PAGE);
        store_q8(v, v_dim, (int8_t *)head->v + slot * v_dim, 1, (uint16_t *)head->v_scale + slot * (v_dim / NB_KV_BLOCK), 1);
        break;
    default:
        narrow(layout->type, k, k_dim, half);
        for (size_t d = 0; d < k_dim; d++)
            ((uint16_t *)head->k)[d * NB_PAGE + slot] = half[d];
        narrow(layout->type, v, v_dim, (uint16_t *)head->v + slot * v_dim);
    }
}

static void store(const nb_kv_layout *layout, void *page, int slot, const float *k, const float *v, int head_begin,
                  int head_end)
{
    for (int h = head_begin; h < head_end; h++) {
        nb_kv_head head = nb_kv_head_at(layout, page, h);
        store_head(layout, &head, (size_t)slot, k + (size_t)h * (size_t)layout->k_dim,
                   v + (size_t)h * (size_t)layout->v_dim);
    }
}

const nb_attend_table ATTEND_TABLE = {.store = store, .attend = attend, .merge = merge};
