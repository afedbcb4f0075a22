/* flash_lanes.h - attention over plain arrays for one instruction-set level, which defines FLASH_TABLE: flash, forward and
 * backward, and standard. Which keys of a tile a row sees is 64 bits. */
#include "attention/flash.h"
#include "attention/pairs.h"
#include "attention/tile_lanes.h"

typedef struct flash {
    const nb_flash_job *job;
    const nb_flash_plan *plan;
    const nb_attention_params *p;
    size_t rows, k_dim, v_dim, depth, state_floats;
    float scale; /* what makes products scores, in units of log2 or of the soft cap */
    float *q, *scores, *states;
    soft soft;
    bool bent; /* scores are more than products */
} flash;

#define PACK_STRIDE 528 /* floats of a row of 512 dims; not a power of two, for the cache's sake */

static size_t row_place(const flash *f, size_t row) { return f->job->query + row / f->job->heads; }
static size_t row_head(const flash *f, size_t row) { return f->job->head + row % f->job->heads; }

/* ---- matrices turned: y[c][r] = x[r][c] ---- */

/* Of LANES by LANES: each step moves the high bit of a place in a row to the low end of the row's number, and back. */
LANES_INLINE void turn_square(const float *x, size_t x_stride, float *y, size_t y_stride)
{
    lanes v[LANES], next[LANES];
    LANES_UNROLL
    for (size_t i = 0; i < LANES; i++)
        v[i] = lanes_load(x + i * x_stride);
    LANES_UNROLL
    for (size_t step = 1; step < LANES; step *= 2) {
        LANES_UNROLL
        for (size_t i = 0; i < LANES / 2; i++) {
            next[2 * i] = lanes_zip_low(v[i], v[i + LANES / 2]);
            next[2 * i + 1] = lanes_zip_high(v[i], v[i + LANES / 2]);
        }
        LANES_UNROLL
        for (size_t i = 0; i < LANES; i++)
            v[i] = next[i];
    }
    LANES_UNROLL
    for (size_t i = 0; i < LANES; i++)
        lanes_store(y + i * y_stride, v[i]);
}

static void turn_few(const float *x, size_t x_stride, size_t rows, size_t columns, float *y, size_t y_stride)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            y[c * y_stride + r] = x[r * x_stride + c];
}

static void turn(const float *x, size_t x_stride, size_t rows, size_t columns, float *y, size_t y_stride)
{
    size_t whole = columns / LANES * LANES;
    for (; rows >= LANES; rows -= LANES, x += LANES * x_stride, y += LANES) {
        for (size_t c = 0; c < whole; c += LANES)
            turn_square(x + c, x_stride, y + c * y_stride, y_stride);
        turn_few(x + whole, x_stride, LANES, columns - whole, y + whole * y_stride, y_stride);
    }
    turn_few(x, x_stride, rows, columns, y, y_stride);
}

static void flash_load(nb_float type, const void *x, size_t at, size_t n, float scale, float *to)
{
    size_t d = 0;
    for (; d + LANES <= n; d += LANES) {
        lanes v = type == NB_FLOAT_F32   ? lanes_load((const float *)x + at + d)
                  : type == NB_FLOAT_F16 ? lanes_load_f16((const uint16_t *)x + at + d)
                                         : lanes_load_bf16((const uint16_t *)x + at + d);
        lanes_store(to + d, v * scale);
    }
    for (; d < n; d++)
        to[d] = nb_float_at(x, type, at + d) * scale;
}

/* n values of bfloat16 in pairs; the last is zero when n is odd */
static void copy_pairs(const uint16_t *x, size_t n, float *to)
{
    memset(to + n / 2, 0, n % 2 * sizeof *to);
    memcpy(to, x, n * sizeof *x);
}

static void flash_begin(flash *f, const nb_flash_job *job)
{
    const nb_attention_params *p = job->plan->p;
    nb_flash_areas at = nb_flash_areas_of(p);
    *f = (flash){.job = job, .plan = job->plan, .p = p};
    f->rows = job->queries * job->heads;
    f->k_dim = p->k_dim;
    f->depth = nb_flash_depth(job->plan);
    f->scale = p->softcap > 0 ? p->scale / p->softcap : p->scale * LANES_LOG2E;
    f->v_dim = p->v_dim;
    f->state_floats = nb_attend_state_floats((int)p->v_dim);
    f->q = job->scratch + at.q;
    f->scores = job->scratch + at.scores;
    f->states = job->scratch + at.states;
    f->bent = p->softcap > 0 || p->slopes || p->bias || (p->mask && p->mask_fill > -INFINITY);
    f->soft = (soft){0.0f, true, job->plan->v_pad, nb_round_up(p->v_dim, LANES)};
}

static void flash_queries(const flash *f)
{
    const nb_attention_params *p = f->p;
    for (size_t r = 0; r < f->rows; r++) {
        size_t at = nb_rule_at(&p->q, f->job->batch, row_head(f, r), nb_flash_query(f->plan, row_place(f, r)));
        if (f->plan->pairs)
            copy_pairs((const uint16_t *)f->job->q + at, f->k_dim, f->q + r * f->depth);
        else
            flash_load(p->type, f->job->q, at, f->k_dim, f->scale, f->q + r * f->depth);
    }
}

/* ---- which keys of a tile a row sees ---- */

/* bits [begin, end) of the tile's 64, for places of keys */
LANES_INLINE uint64_t range_bits(uint64_t begin, uint64_t end, uint64_t first)
{
    begin = begin > first ? begin - first : 0;
    end = end > first ? end - first : 0;
    if (begin >= end || begin >= NB_PAGE)
        return 0;
    uint64_t below_end = end >= NB_PAGE ? ~UINT64_C(0) : (UINT64_C(1) << end) - 1;
    return below_end & ~((UINT64_C(1) << begin) - 1);
}

static uint64_t mask_bits(const uint8_t *mask, const uint32_t *key_at, size_t first, size_t count)
{
    uint64_t bits = 0;
    if (key_at) {
        for (size_t n = 0; n < count; n++)
            bits |= (uint64_t)(mask[key_at[first + n]] != 0) << n;
        return bits;
    }
#if LANES == 16
    if (count == NB_PAGE) {
        __m512i all = _mm512_loadu_si512(mask + first);
        return _mm512_test_epi8_mask(all, all);
    }
#endif
    for (size_t n = 0; n < count; n++)
        bits |= (uint64_t)(mask[first + n] != 0) << n;
    return bits;
}

static size_t tile_keys(const flash *f, size_t tile) { return nb_min_size(NB_PAGE, f->p->keys - tile * NB_PAGE); }

static uint64_t seen_bits(const flash *f, size_t row, size_t tile)
{
    const nb_attention_params *p = f->p;
    const nb_flash_row *r = nb_flash_row_of(f->plan, f->job->batch, row_place(f, row));
    size_t first = tile * NB_PAGE;
    uint64_t bits = 0;
    if (r->scattered)
        for (size_t n = 0; n < tile_keys(f, tile); n++)
            bits |= (uint64_t)(f->plan->key_at[first + n] < r->before) << n;
    else
        bits = range_bits(0, r->specials, first) | range_bits(r->begin, r->end, first);
    if (bits && p->mask && p->mask_fill == -INFINITY)
        bits &= mask_bits(p->mask + nb_rule_at(&p->mask_stride, f->job->batch, row_head(f, row),
                                               nb_flash_query(f->plan, row_place(f, row))),
                          f->plan->key_at, first, tile_keys(f, tile));
    return bits;
}

LANES_INLINE lanes keep_bits(lanes v, uint64_t bits, size_t at)
{
#if LANES == 16
    return _mm512_mask_blend_ps((__mmask16)(bits >> at), _mm512_set1_ps(-INFINITY), v);
#else
#if LANES == 8
    const lanes_mask one = {1, 2, 4, 8, 16, 32, 64, 128};
#else
    const lanes_mask one = {1, 2, 4, 8};
#endif
    int32_t here = (int32_t)(bits >> at & 0xff);
    return lanes_select((lanes_mask)((one & here) != 0), v, lanes_set(-INFINITY));
#endif
}

/* ---- scores of a block of rows over a tile ---- */

/* A score in units of log2; the lowest number stays one. */
static float in_log2(float x) { return (x < -0x1p127f && x > -INFINITY ? -0x1p127f : x) * LANES_LOG2E; }

static void bend_row(const flash *f, size_t row, size_t tile, float *s)
{
    const nb_attention_params *p = f->p;
    size_t first = tile * NB_PAGE, count = tile_keys(f, tile), head = row_head(f, row), batch = f->job->batch;
    size_t query = nb_flash_query(f->plan, row_place(f, row));
    const uint32_t *key_at = f->plan->key_at;
    for (size_t n = 0; n < NB_PAGE && p->softcap > 0; n += LANES)
        lanes_store(s + n, lanes_tanh(lanes_load(s + n)) * (p->softcap * LANES_LOG2E));
    if (p->slopes) {
        float slope = p->slopes[head] * LANES_LOG2E;
        int64_t position = (int64_t)query + p->offset;
        for (size_t n = 0; n < count; n++)
            s[n] -= slope * fabsf((float)((int64_t)(key_at ? key_at[first + n] : first + n) - position));
    }
    if (p->bias) {
        const float *bias = p->bias + nb_rule_at(&p->bias_stride, batch, head, query);
        for (size_t n = 0; n < count; n++) {
            float b = bias[key_at ? key_at[first + n] : first + n], scaled = in_log2(b);
            s[n] = fabsf(b) >= NB_RULE_REPLACES ? scaled : s[n] + scaled;
        }
    }
    if (p->mask && p->mask_fill > -INFINITY) {
        const uint8_t *mask = p->mask + nb_rule_at(&p->mask_stride, batch, head, query);
        for (size_t n = 0; n < count; n++)
            s[n] = mask[key_at ? key_at[first + n] : first + n] ? s[n] : in_log2(p->mask_fill);
    }
}

#define SCORE_DIMS 128 /* of one chain of additions: longer ones lose digits */

/* c[r][*] = a[r][*] b for all of m->n */
static void multiply_chains(size_t rows, product m)
{
    size_t left = m.n;
    float part[BLOCK_ROWS_MAX * NB_PAGE], *c = m.c;
    m.n = nb_min_size(left, SCORE_DIMS);
    multiply(FLOATS, rows, &m);
    size_t c_stride = m.c_stride;
    m.c = part;
    m.c_stride = NB_PAGE;
    while ((left -= m.n) > 0) {
        m.a += m.n;
        m.b = (const float *)m.b + m.n * m.b_stride;
        m.n = nb_min_size(left, SCORE_DIMS);
        multiply(FLOATS, rows, &m);
        for (size_t r = 0; r < rows; r++)
            for (size_t n = 0; n < m.columns; n += LANES)
                lanes_store(c + r * c_stride + n,
                            lanes_load(c + r * c_stride + n) + lanes_load(part + r * NB_PAGE + n));
    }
}

/* The same of pairs, times scale. One chain: 256 additions at most */
static void multiply_pairs(size_t rows, const product *m, float scale)
{
#if LANES == 16
    nb_pairs pairs = {.a = (const uint32_t *)(const void *)m->a,
                      .a_stride = m->a_stride,
                      .b = m->b,
                      .b_stride = m->b_stride,
                      .n = m->n,
                      .scale = scale,
                      .c = m->c,
                      .c_stride = m->c_stride,
                      .columns = m->columns};
    nb_pairs_dot(rows, &pairs);
#else /* only a plan of the level above asks for them */
    (void)rows;
    (void)m;
    (void)scale;
#endif
}

/* s[r][*] = scores of rows [row, row + rows) for the vectors of the tile that hold seen keys */
static void score_block(const flash *f, size_t row, size_t rows, size_t tile, uint64_t any, float *s, size_t s_stride)
{
    size_t kv = nb_rule_kv_head(f->p, f->job->head);
    size_t low = (size_t)__builtin_ctzll(any) / LANES * LANES;
    size_t high = nb_round_up(64 - (size_t)__builtin_clzll(any), LANES);
    product m = {.a = f->q + row * f->depth,
                 .a_stride = f->depth,
                 .b = f->plan->k_tiles + nb_flash_tile(f->plan, f->job->batch, kv, tile) * f->depth * NB_PAGE + low,
                 .b_stride = NB_PAGE,
                 .n = f->depth,
                 .c = s + low,
                 .c_stride = s_stride,
                 .columns = high - low};
    if (f->plan->pairs)
        multiply_pairs(rows, &m, f->scale);
    else
        multiply_chains(rows, m);
    for (size_t r = 0; r < rows && f->bent; r++)
        bend_row(f, row + r, tile, s + r * s_stride);
}

static void hide_bits(float *s, uint64_t bits)
{
    for (size_t n = 0; n < NB_PAGE; n += LANES)
        lanes_store(s + n, keep_bits(lanes_load(s + n), bits, n));
}

static void drop_weights(const flash *f, size_t row, size_t tile, float *s)
{
    nb_rule_dropout drop = nb_rule_dropout_of(f->p, f->job->batch, row_head(f, row),
                                              nb_flash_query(f->plan, row_place(f, row)));
    for (size_t n = 0; n < tile_keys(f, tile); n++)
        s[n] *= nb_rule_kept(&drop, (uint32_t)nb_flash_key(f->plan, tile * NB_PAGE + n));
}

/* c[r][*] += weights of rows over the keys of the tile that any row sees, times their values */
static void value_block(const flash *f, size_t rows, size_t tile, uint64_t any, const float *s, size_t s_stride,
                        float *c)
{
    size_t kv = nb_rule_kv_head(f->p, f->job->head), pad = f->plan->v_pad;
    size_t low = (size_t)__builtin_ctzll(any), high = 64 - (size_t)__builtin_clzll(any);
    product m = {.a = s + low,
                 .a_stride = s_stride,
                 .b = f->plan->v_tiles + (nb_flash_tile(f->plan, f->job->batch, kv, tile) * NB_PAGE + low) * pad,
                 .b_stride = pad,
                 .n = high - low,
                 .c = c,
                 .c_stride = f->state_floats,
                 .columns = f->soft.v_columns,
                 .add = true};
    multiply(FLOATS, rows, &m);
}

static uint64_t block_bits(const flash *f, size_t row, size_t rows, size_t tile, uint64_t *bits)
{
    uint64_t any = 0;
    for (size_t r = 0; r < rows; r++)
        any |= bits[r] = seen_bits(f, row + r, tile);
    return any;
}

/* ---- flash ---- */

static bool forward_block(const flash *f, size_t row, size_t rows, size_t tile)
{
    uint64_t bits[BLOCK_ROWS_MAX], any = block_bits(f, row, rows, tile, bits);
    if (!any)
        return false;
    score_block(f, row, rows, tile, any, f->scores, NB_PAGE);
    for (size_t r = 0; r < rows; r++) {
        float *s = f->scores + r * NB_PAGE;
        if (!bits[r]) {
            memset(s, 0, NB_PAGE * sizeof *s);
            continue;
        }
        if (~bits[r])
            hide_bits(s, bits[r]);
        soften_tile(&f->soft, s, f->states + (row + r) * f->state_floats, false);
        if (f->p->dropout > 0)
            drop_weights(f, row + r, tile, s);
    }
    value_block(f, rows, tile, any, f->scores, NB_PAGE, f->states + row * f->state_floats);
    return true;
}

static bool forward_tile(const flash *f, size_t block, size_t tile)
{
    bool visited = false;
    for (size_t row = 0; row < f->rows; row += block)
        visited |= forward_block(f, row, nb_min_size(f->rows - row, block), tile);
    return visited;
}

static void forward_write(const flash *f, size_t row, const float *state)
{
    const nb_attention_params *p = f->p;
    size_t head = row_head(f, row), query = nb_flash_query(f->plan, row_place(f, row)), batch = f->job->batch;
    size_t at = (batch * p->heads + head) * p->queries + query;
    const float *now = state + f->soft.v_pad;
    float top = now[NB_ATTEND_TOP], sum = lanes_sum(lanes_load(now + NB_ATTEND_SUM_LANES)), shrink = 1.0f;
    if (p->sinks) {
        float sink = p->sinks[head] * LANES_LOG2E, highest = sink > top ? sink : top;
        shrink = exp2_of(top - base_of(highest), true);
        sum = sum * shrink + exp2_of(sink - base_of(highest), true);
        top = highest;
    }
    if (!f->job->out) {
        f->job->sums[at].top = base_of(top);
        f->job->sums[at].scale = sum == 0.0f ? 0.0f : 1 / sum;
        return;
    }
    float *out = f->job->out + nb_rule_at(&p->out, batch, head, query);
    lanes scale = lanes_set(sum == 0.0f ? 0.0f : shrink / sum);
    size_t d = 0;
    for (; d + LANES <= f->v_dim; d += LANES)
        lanes_store(out + d, lanes_load(state + d) * scale);
    if (d < f->v_dim)
        lanes_store_n(out + d, lanes_load(state + d) * scale, f->v_dim - d);
    if (f->job->lse)
        f->job->lse[at] = lse_of(top, sum);
}

static void flash_forward(nb_flash_job *job)
{
    flash f;
    flash_begin(&f, job);
    flash_queries(&f);
    memset(f.states, 0, f.rows * f.state_floats * sizeof *f.states);
    for (size_t r = 0; r < f.rows; r++)
        f.states[r * f.state_floats + f.soft.v_pad + NB_ATTEND_TOP] = -INFINITY;
    size_t block = f.rows <= BLOCK_ROWS_MAX ? f.rows : BLOCK_ROWS;
    nb_flash_range range = nb_flash_range_of(f.plan, job->batch, job->query, job->queries);
    for (size_t tile = nb_flash_next(&range, 0); tile < f.plan->tiles; tile = nb_flash_next(&range, tile + 1))
        job->visited += forward_tile(&f, block, tile);
    for (size_t r = 0; r < f.rows; r++)
        forward_write(&f, r, f.states + r * f.state_floats);
}

/* ---- standard: three steps over a matrix of all scores of the job's rows ---- */

static void standard_scores(const flash *f, float *matrix, size_t stride)
{
    for (size_t row = 0; row < f->rows; row += BLOCK_ROWS) {
        size_t rows = nb_min_size(f->rows - row, BLOCK_ROWS);
        float *to = matrix + row * stride;
        for (size_t tile = 0; tile < f->plan->tiles; tile++, to += NB_PAGE) {
            score_block(f, row, rows, tile, ~UINT64_C(0), to, stride);
            for (size_t r = 0; r < rows; r++)
                hide_bits(to + r * stride, seen_bits(f, row + r, tile));
        }
    }
}

/* The weights in place of a row's scores; its log-sum-exp. */
static void standard_row(const flash *f, size_t row, float *s, size_t n)
{
    const nb_attention_params *p = f->p;
    float sink = p->sinks ? p->sinks[row_head(f, row)] * LANES_LOG2E : -INFINITY;
    lanes most = lanes_set(sink), sums = lanes_set(0.0f);
    for (size_t i = 0; i < n; i += LANES)
        most = lanes_max(lanes_load(s + i), most);
    float top = lanes_top(most), base = base_of(top);
    for (size_t i = 0; i < n; i += LANES) {
        lanes e = lanes_exp2(lanes_load(s + i) - base, true);
        lanes_store(s + i, e);
        sums += e;
    }
    float sum = lanes_sum(sums) + (p->sinks ? exp2_of(sink - base, true) : 0.0f), scale = sum > 0 ? 1 / sum : 0;
    for (size_t i = 0; i < n; i += LANES)
        lanes_store(s + i, lanes_load(s + i) * scale);
    size_t query = nb_flash_query(f->plan, row_place(f, row));
    if (f->job->lse)
        f->job->lse[(f->job->batch * p->heads + row_head(f, row)) * p->queries + query] = lse_of(base, sum);
    for (size_t tile = 0; tile < f->plan->tiles && p->dropout > 0; tile++)
        drop_weights(f, row, tile, s + tile * NB_PAGE);
}

/* A row of the matrix, keys in their own order, for the caller */
static void standard_show(const flash *f, size_t row, const float *s, float unit, float *to)
{
    const nb_attention_params *p = f->p;
    size_t query = nb_flash_query(f->plan, row_place(f, row));
    to += ((f->job->batch * p->heads + row_head(f, row)) * p->queries + query) * p->keys;
    for (size_t j = 0; j < p->keys; j++)
        to[nb_flash_key(f->plan, j)] = s[j] * unit;
}

static void flash_standard(nb_flash_job *job)
{
    flash f;
    flash_begin(&f, job);
    flash_queries(&f);
    size_t stride = f.plan->tiles * NB_PAGE;
    standard_scores(&f, job->matrix, stride);
    for (size_t r = 0; r < f.rows; r++) {
        if (job->scores)
            standard_show(&f, r, job->matrix + r * stride, 0.69314718055994531f, job->scores);
        standard_row(&f, r, job->matrix + r * stride, stride);
        if (job->alphas)
            standard_show(&f, r, job->matrix + r * stride, 1.0f, job->alphas);
    }
    memset(f.states, 0, f.rows * f.state_floats * sizeof *f.states);
    for (size_t row = 0; row < f.rows; row += BLOCK_ROWS)
        for (size_t tile = 0; tile < f.plan->tiles; tile++)
            value_block(&f, nb_min_size(f.rows - row, BLOCK_ROWS), tile, ~UINT64_C(0),
                        job->matrix + row * stride + tile * NB_PAGE, stride, f.states + row * f.state_floats);
    for (size_t r = 0; r < f.rows; r++) {
        size_t query = nb_flash_query(f.plan, row_place(&f, r));
        memcpy(job->out + nb_rule_at(&f.p->out, job->batch, row_head(&f, r), query), f.states + r * f.state_floats,
               f.v_dim * sizeof(float));
    }
}

/* ---- backward ---- */

typedef struct backward {
    flash f;
    float *plain_q, *dout, *p, *ds, *pt, *dst, *sum_k, *sum_v;
} backward;

static void backward_begin(backward *b, const nb_flash_job *job)
{
    flash_begin(&b->f, job);
    nb_flash_areas at = nb_flash_areas_of(b->f.p);
    float *s = job->scratch;
    b->plain_q = s + at.plain_q;
    b->dout = s + at.dout;
    b->p = s + at.p;
    b->ds = s + at.ds;
    b->pt = s + at.pt;
    b->dst = s + at.dst;
    b->sum_k = s + at.sum_k;
    b->sum_v = s + at.sum_v;
}

/* The rows' gradients of out; their queries as they are, too, if asked for. */
static void backward_rows(backward *b, bool plain)
{
    const flash *f = &b->f;
    const nb_attention_params *p = f->p;
    flash_queries(f);
    for (size_t r = 0; r < f->rows; r++) {
        size_t query = nb_flash_query(f->plan, row_place(f, r)), head = row_head(f, r), batch = f->job->batch;
        float *dout = b->dout + r * f->plan->v_pad, *q = b->plain_q + r * f->plan->k_pad;
        memset(dout, 0, f->plan->v_pad * sizeof *dout);
        memcpy(dout, f->job->dout + nb_rule_at(&p->out, batch, head, query), f->v_dim * sizeof *dout);
        if (plain) {
            memset(q, 0, f->plan->k_pad * sizeof *q);
            flash_load(p->type, f->job->q, nb_rule_at(&p->q, batch, head, query), f->k_dim, 1.0f, q);
        }
    }
}

/* By how much a score moves when scale q.k does: the soft cap's slope, nothing where a mask has put its own. */
static void slope_row(const flash *f, size_t row, size_t tile, const float *tanh_of, float *ds)
{
    const nb_attention_params *p = f->p;
    for (size_t n = 0; n < NB_PAGE && p->softcap > 0; n++)
        ds[n] *= 1 - tanh_of[n] * tanh_of[n];
    if (p->mask && p->mask_fill > -INFINITY) {
        const uint8_t *mask = p->mask + nb_rule_at(&p->mask_stride, f->job->batch, row_head(f, row),
                                                   nb_flash_query(f->plan, row_place(f, row)));
        for (size_t n = 0; n < tile_keys(f, tile); n++)
            if (!mask[nb_flash_key(f->plan, tile * NB_PAGE + n)])
                ds[n] = 0;
    }
}

/* One row: scores s become weights p (dropped out), ds holds the gradient of the dropped weight and becomes that of the
 * score. */
static void backward_row(const flash *f, size_t row, size_t tile, uint64_t bits, float *s, float *ds)
{
    const nb_attention_params *p = f->p;
    size_t at = (f->job->batch * p->heads + row_head(f, row)) * p->queries + nb_flash_query(f->plan, row_place(f, row));
    const nb_flash_sum *sum = &f->job->sums[at];
    float tanh_of[NB_PAGE], kept[NB_PAGE];
    for (size_t n = 0; n < NB_PAGE; n += LANES) {
        lanes_store(kept + n, lanes_set(1.0f));
        if (p->softcap > 0)
            lanes_store(tanh_of + n, lanes_tanh(lanes_load(s + n)));
    }
    if (f->bent)
        bend_row(f, row, tile, s);
    hide_bits(s, bits);
    if (p->dropout > 0)
        drop_weights(f, row, tile, kept);
    for (size_t n = 0; n < NB_PAGE; n += LANES) {
        lanes w = lanes_exp2(lanes_load(s + n) - sum->top, true) * sum->scale, keep = lanes_load(kept + n);
        lanes_store(s + n, w * keep);
        lanes_store(ds + n, w * (lanes_load(ds + n) * keep - sum->mean));
    }
    slope_row(f, row, tile, tanh_of, ds);
}

/* p and ds, [rows][NB_PAGE], of the job's rows over a tile. False when no row sees a key of it. */
static bool backward_tile(const backward *b, size_t tile)
{
    const flash *f = &b->f;
    size_t kv = nb_rule_kv_head(f->p, f->job->head), at = nb_flash_tile(f->plan, f->job->batch, kv, tile);
    bool visited = false;
    for (size_t row = 0; row < f->rows; row += BLOCK_ROWS) {
        size_t rows = nb_min_size(f->rows - row, BLOCK_ROWS);
        uint64_t bits[BLOCK_ROWS_MAX], any = block_bits(f, row, rows, tile, bits);
        float *s = b->p + row * NB_PAGE, *ds = b->ds + row * NB_PAGE;
        if (!any) {
            memset(s, 0, rows * NB_PAGE * sizeof *s);
            memset(ds, 0, rows * NB_PAGE * sizeof *ds);
            continue;
        }
        visited = true;
        product m = {.a = f->q + row * f->k_dim,
                     .a_stride = f->k_dim,
                     .b = f->plan->k_tiles + at * f->k_dim * NB_PAGE,
                     .b_stride = NB_PAGE,
                     .n = f->k_dim,
                     .c = s,
                     .c_stride = NB_PAGE,
                     .columns = NB_PAGE};
        multiply_chains(rows, m);
        m.a = b->dout + row * f->plan->v_pad;
        m.a_stride = f->plan->v_pad;
        m.b = f->plan->v_columns + at * f->v_dim * NB_PAGE;
        m.n = f->v_dim;
        m.c = ds;
        multiply_chains(rows, m);
        for (size_t r = 0; r < rows; r++)
            backward_row(f, row + r, tile, bits[r], s + r * NB_PAGE, ds + r * NB_PAGE);
    }
    return visited;
}

/* c [n][columns] += a [n][m] b [m][columns] for any n; rows of c lie c_stride apart */
static void add_product(const float *a, size_t n, size_t m, const float *b, size_t columns, float *c, size_t c_stride)
{
    for (size_t row = 0; row < n; row += BLOCK_ROWS) {
        product all = {.a = a + row * NB_PAGE,
                       .a_stride = NB_PAGE,
                       .b = b,
                       .b_stride = columns,
                       .n = m,
                       .c = c + row * c_stride,
                       .c_stride = c_stride,
                       .columns = columns,
                       .add = true};
        multiply(FLOATS, nb_min_size(n - row, BLOCK_ROWS), &all);
    }
}

static void flash_backward_q(nb_flash_job *job)
{
    backward b;
    backward_begin(&b, job);
    backward_rows(&b, false);
    const flash *f = &b.f;
    const nb_attention_params *p = f->p;
    size_t pad = f->plan->k_pad, kv = nb_rule_kv_head(p, job->head);
    memset(b.sum_k, 0, f->rows * pad * sizeof *b.sum_k);
    nb_flash_range range = nb_flash_range_of(f->plan, job->batch, job->query, job->queries);
    for (size_t tile = nb_flash_next(&range, 0); tile < f->plan->tiles; tile = nb_flash_next(&range, tile + 1)) {
        if (!backward_tile(&b, tile))
            continue;
        job->visited++;
        add_product(b.ds, f->rows, NB_PAGE,
                    f->plan->k_rows + nb_flash_tile(f->plan, job->batch, kv, tile) * NB_PAGE * pad, pad, b.sum_k, pad);
    }
    for (size_t r = 0; r < f->rows; r++) {
        float *dq = job->dq + nb_rule_at(&p->q, job->batch, row_head(f, r), nb_flash_query(f->plan, row_place(f, r)));
        for (size_t d = 0; d < f->k_dim; d++)
            dq[d] = b.sum_k[r * pad + d] * p->scale;
    }
}

static void flash_backward_kv(nb_flash_job *job)
{
    backward b;
    nb_flash_job part = *job;
    const nb_flash_plan *plan = job->plan;
    const nb_attention_params *p = plan->p;
    size_t kv = nb_rule_kv_head(p, job->head), group = p->heads / p->kv_heads, kp = plan->k_pad, vp = plan->v_pad;
    backward_begin(&b, &part);
    memset(b.sum_k, 0, NB_PAGE * kp * sizeof *b.sum_k);
    memset(b.sum_v, 0, NB_PAGE * vp * sizeof *b.sum_v);
    for (part.query = 0; part.query < p->queries; part.query += part.queries) {
        size_t end = part.query < plan->plain_queries ? plan->plain_queries : p->queries;
        part.queries = nb_min_size(NB_PAGE, end - part.query);
        nb_flash_range range = nb_flash_range_of(plan, job->batch, part.query, part.queries);
        if (nb_flash_next(&range, job->tile) != job->tile)
            continue;
        for (size_t h = 0; h < group; h++) {
            part.head = kv * group + h;
            backward_begin(&b, &part);
            backward_rows(&b, true);
            if (!backward_tile(&b, job->tile))
                continue;
            job->visited++;
            turn(b.p, NB_PAGE, b.f.rows, NB_PAGE, b.pt, NB_PAGE);
            turn(b.ds, NB_PAGE, b.f.rows, NB_PAGE, b.dst, NB_PAGE);
            add_product(b.pt, NB_PAGE, b.f.rows, b.dout, vp, b.sum_v, vp);
            add_product(b.dst, NB_PAGE, b.f.rows, b.plain_q, kp, b.sum_k, kp);
            if (job->merged)
                add_product(b.ds, b.f.rows, NB_PAGE,
                            plan->k_rows + nb_flash_tile(plan, job->batch, kv, job->tile) * NB_PAGE * kp, kp,
                            job->dq + nb_rule_at(&p->q, job->batch, part.head, part.query), p->q.row);
        }
    }
    for (size_t n = 0; n < nb_min_size(NB_PAGE, p->keys - job->tile * NB_PAGE); n++) {
        size_t key = nb_flash_key(plan, job->tile * NB_PAGE + n);
        float *dk = job->dk + nb_rule_at(&p->k, job->batch, kv, key);
        for (size_t d = 0; d < p->k_dim; d++)
            dk[d] = b.sum_k[n * kp + d] * p->scale;
        memcpy(job->dv + nb_rule_at(&p->v, job->batch, kv, key), b.sum_v + n * vp, p->v_dim * sizeof(float));
    }
}

/* All tiles of a kv head one after another: dq gathers where the caller wants it, in the order of flash_backward_q. */
static void flash_backward_head(nb_flash_job *job)
{
    const nb_attention_params *p = job->plan->p;
    size_t group = p->heads / p->kv_heads, head = nb_rule_kv_head(p, job->head) * group;
    job->merged = true;
    for (size_t r = 0; r < group * p->queries; r++)
        memset(job->dq + nb_rule_at(&p->q, job->batch, head + r / p->queries, r % p->queries), 0,
               p->k_dim * sizeof(float));
    for (job->tile = 0; job->tile < job->plan->tiles; job->tile++)
        flash_backward_kv(job);
    for (size_t r = 0; r < group * p->queries; r++) {
        float *dq = job->dq + nb_rule_at(&p->q, job->batch, head + r / p->queries, r % p->queries);
        for (size_t d = 0; d < p->k_dim; d++)
            dq[d] *= p->scale;
    }
}

/* ---- tiles ---- */

/* Key `place` of the tiles as a row of floats or pairs, its value as floats. Keys past the last, and those that are padding, are
 * zeros: what lies there may be anything. */
static void pack_row(const nb_flash_job *job, size_t place, float *k_row, float *v_row)
{
    const nb_flash_plan *plan = job->plan;
    const nb_attention_params *p = plan->p;
    size_t key = place < p->keys ? nb_flash_key(plan, place) : p->keys, depth = nb_flash_depth(plan);
    if (key >= nb_rule_keys(p, job->batch)) {
        memset(k_row, 0, depth * sizeof *k_row);
        memset(v_row, 0, plan->v_pad * sizeof *v_row);
        return;
    }
    size_t k_at = nb_rule_at(&p->k, job->batch, job->head, key);
    if (plan->pairs)
        copy_pairs((const uint16_t *)job->k + k_at, p->k_dim, k_row);
    else
        flash_load(p->type, job->k, k_at, p->k_dim, 1.0f, k_row);
    flash_load(p->type, job->v, nb_rule_at(&p->v, job->batch, job->head, key), p->v_dim, 1.0f, v_row);
    memset(v_row + p->v_dim, 0, (plan->v_pad - p->v_dim) * sizeof *v_row);
}

static void flash_pack(const nb_flash_job *job)
{
    const nb_flash_plan *plan = job->plan;
    const nb_attention_params *p = plan->p;
    size_t at = nb_flash_tile(plan, job->batch, job->head, job->tile), kp = plan->k_pad, vp = plan->v_pad;
    size_t depth = nb_flash_depth(plan);
    float *k_tile = plan->k_tiles + at * depth * NB_PAGE, *v_tile = plan->v_tiles + at * NB_PAGE * vp;
    float rows[LANES * PACK_STRIDE];
    for (size_t n = 0; n < NB_PAGE; n += LANES) {
        for (size_t i = 0; i < LANES; i++)
            pack_row(job, job->tile * NB_PAGE + n + i, rows + i * PACK_STRIDE, v_tile + (n + i) * vp);
        turn(rows, PACK_STRIDE, LANES, depth, k_tile + n, NB_PAGE);
        for (size_t i = 0; i < LANES && plan->k_rows; i++) {
            float *row = plan->k_rows + (at * NB_PAGE + n + i) * kp;
            memset(row, 0, kp * sizeof *row);
            memcpy(row, rows + i * PACK_STRIDE, p->k_dim * sizeof *row);
        }
    }
    if (plan->v_columns)
        turn(v_tile, vp, NB_PAGE, p->v_dim, plan->v_columns + at * p->v_dim * NB_PAGE, NB_PAGE);
}

const nb_flash_table FLASH_TABLE = {.pack = flash_pack,
                                    .forward = flash_forward,
                                    .standard = flash_standard,
                                    .backward_q = flash_backward_q,
                                    .backward_kv = flash_backward_kv,
                                    .backward_head = flash_backward_head};
