/* attend_lanes.h - attention over the pages of one kv head, written once over lanes. A file of one level defines
 * ATTEND_TABLE and includes it.
 *
 * Scores: s[key] = fma(q[d], k[d][key], s) over d in order, q scaled beforehand, a lane a key. Output: o[d] =
 * fma(p[key], v[key][d], o[d]) over the seen keys in order, a lane a d. Both are the same small matrix product, whose
 * blocking (rows, vectors) changes speed and never a bit. Stored values become floats exactly, so taking them from
 * the page and taking them from a converted tile are equal too. Q8_0 and Q4_0 have products of their own (code_lanes.h),
 * always from the page; of Q8_0 with AVX-512 in integers (codes.h), where a row's bits are its own, too. */
#include "attention/code_lanes.h"

/* ---- one job ---- */

typedef struct work {
    const nb_attend_job *job;
    size_t rows, kv_rows, k_dim, v_dim, v_pad, v_columns, state_floats, head_bytes;
    int kv_head, last_kv_head;
    float *q, *k_tile, *v_tile, *scores, *weights, *steps;
    uint32_t *split; /* q in integers, if it goes with codes that are multiplied as such */
    size_t split_words;
    bool odd_rows, odd[NB_ATTEND_ROWS_MAX]; /* queries that no integers are: infinite or NaN */
    bool coded; /* keys and values are codes of rotated heads: queries must be rotated, and outputs back */
    coding coding;
    soft soft;
    bool biased; /* scores gain by the distance to their key: after early_cap, the softmax's place being too late */
    float early_cap;
    const void *k, *v; /* of the current tile: floats, or the page's own and their scales */
    const uint16_t *k_scale, *v_scale;
    source k_from, v_from;
    size_t v_stride;
    ptrdiff_t ahead; /* from these parts of a page to those that are read next; 0: right behind, or none */
    int64_t begin[NB_ATTEND_ROWS_MAX], end[NB_ATTEND_ROWS_MAX]; /* keys seen by each row */
} work;

static void work_begin(work *w, const nb_attend_job *job)
{
    const nb_attention_spec *spec = job->spec;
    nb_attend_areas at = nb_attend_areas_of(spec);
    float *scratch = job->scratch;
    w->job = job;
    size_t group = (size_t)(spec->heads / spec->kv_heads);
    w->rows = job->queries * (size_t)job->heads;
    w->kv_rows = (size_t)job->heads > group ? group : w->rows;
    w->kv_head = job->head / (int)group;
    w->last_kv_head = (job->head + job->heads - 1) / (int)group;
    w->head_bytes = nb_kv_head_bytes(job->layout);
    w->k_dim = (size_t)spec->k_dim;
    w->v_dim = (size_t)spec->v_dim;
    w->v_pad = nb_attend_v_pad(spec->v_dim);
    w->v_columns = nb_round_up(w->v_dim, LANES);
    w->state_floats = nb_attend_state_floats(spec->v_dim);
    w->q = scratch + at.q;
    w->k_tile = scratch + at.k;
    w->v_tile = scratch + at.v;
    w->scores = scratch + at.scores;
    w->weights = scratch + at.weights;
    w->steps = scratch + at.steps;
    w->split = NULL;
    w->coded = nb_kv_scaled(job->layout->type);
    w->coding = job->layout->type == NB_TYPE_Q4_0 ? CODES_4 : CODES_8;
    float scale = spec->softcap > 0 ? spec->scale / spec->softcap : spec->scale * LANES_LOG2E;
    float cap = spec->softcap > 0 ? spec->softcap * LANES_LOG2E : 0.0f;
    w->biased = spec->bias.slopes || spec->bias.near;
    w->soft = (soft){w->biased ? 0.0f : cap, job->exact, w->v_pad, w->v_columns};
    w->early_cap = w->biased ? cap : 0.0f;
    float *to = w->q;
    for (size_t r = 0; r < w->rows; r++, to += w->k_dim) {
        size_t query = job->query + r / (size_t)job->heads, head = (size_t)job->head + r % (size_t)job->heads;
        const float *from = job->span->q + query * job->span->q_stride + head * w->k_dim;
        size_t d = 0;
        for (; d + LANES <= w->k_dim; d += LANES)
            lanes_store(to + d, lanes_load(from + d) * scale);
        for (; d < w->k_dim; d++)
            to[d] = from[d] * scale;
        if (w->coded)
            nb_kv_rotate(to, w->k_dim);
        nb_attend_seen(spec, job->span, job->span->position + (int64_t)query, &w->begin[r], &w->end[r]);
    }
}

/* ---- codes in integers ---- */

#if LANES == 16
static void split_queries(work *w, float *room)
{
    w->odd_rows = false;
    if (!w->coded || w->coding != CODES_8)
        return;
    w->split_words = w->k_dim / NB_KV_BLOCK * NB_CODES_BLOCK;
    w->split = (uint32_t *)(void *)room;
    for (size_t r = 0; r < w->rows; r++) {
        w->odd[r] = !nb_codes_split(w->q + r * w->k_dim, w->k_dim, w->split + r * w->split_words);
        w->odd_rows = w->odd_rows || w->odd[r];
    }
}

/* Scores of all keys of the tile */
static void score_split(const work *w, size_t row, size_t rows)
{
    nb_codes k = {w->k, w->k_scale, w->k_dim, w->ahead};
    nb_codes_dot(rows, w->split + row * w->split_words, w->split_words, &k, w->scores);
    for (size_t r = 0; w->odd_rows && r < rows; r++) {
        if (!w->odd[row + r])
            continue;
        coded m = {.a = w->q + (row + r) * w->k_dim,
                   .b = w->k,
                   .n = w->k_dim,
                   .scale = w->k_scale,
                   .c = w->scores + r * NB_PAGE};
        score_codes(CODES_8, 1, &m);
    }
}

/* The block of dims of a row whose weights are no finite numbers: as floats, and with them what comes of it */
static void add_odd(const work *w, size_t r, size_t block, size_t begin, size_t end, float *state)
{
    float weights[NB_PAGE] = {0};
    for (size_t key = begin; key < end; key++)
        weights[key] = w->scores[r * NB_PAGE + key] * nb_f16_to_f32(w->v_scale[block * NB_PAGE + key]);
    coded m = {.a = weights,
               .b = (const uint8_t *)w->v + nb_kv_q8_value(0, block * NB_KV_BLOCK),
               .n = NB_PAGE,
               .c = state + r * w->state_floats + block * NB_KV_BLOCK,
               .columns = NB_KV_BLOCK};
    add_codes(CODES_8, 1, &m);
}

/* Each row takes its own keys [begin[r], end[r]) of the tile. */
static void add_split(const work *w, size_t rows, const size_t *begin, const size_t *end, float *state)
{
    uint64_t seen[BLOCK_ROWS_MAX];
    uint32_t odd[1024 / NB_KV_BLOCK];
    for (size_t r = 0; r < rows; r++)
        seen[r] = begin[r] < end[r] ? (UINT64_MAX >> (NB_PAGE - (end[r] - begin[r]))) << begin[r] : 0;
    nb_codes_sum m = {.v = {w->v, w->v_scale, w->v_dim, w->ahead},
                      .p = w->scores,
                      .seen = seen,
                      .parts = (uint32_t *)(void *)w->weights,
                      .scale = w->steps,
                      .state = state,
                      .state_stride = w->state_floats,
                      .odd = odd};
    if (!nb_codes_add(rows, &m))
        return;
    for (size_t block = 0; block < w->v_dim / NB_KV_BLOCK; block++)
        for (size_t r = 0; r < rows; r++)
            if (odd[block] >> r & 1)
                add_odd(w, r, block, begin[r], end[r], state);
}
#else
static void split_queries(work *w, float *room) { (void)w, (void)room; }
#endif

/* ---- a tile of keys and values ---- */

/* n values as floats, whole vectors of them: zeros after the last */
static void convert(source from, const void *src, size_t n, float *dst)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        lanes_store(dst + i, load_from(from, src, i));
    if (i < n) {
        float part[LANES] = {0};
        memcpy(part, (const char *)src + i * source_bytes(from), (n - i) * source_bytes(from));
        lanes_store(dst + i, load_from(from, part, 0));
    }
}

/* [rows][columns] as floats in rows of to_stride */
static void convert_rows(source from, const void *b, size_t rows, size_t columns, float *to, size_t to_stride)
{
    for (size_t i = 0; i < rows; i++, to += to_stride)
        convert(from, (const char *)b + i * columns * source_bytes(from), columns, to);
}

static source source_of(nb_type type, bool once)
{
    switch ((int)type) {
    case NB_TYPE_F16: return PAGE_F16;
    case NB_TYPE_BF16: return PAGE_BF16;
    default: return once ? PAGE_F32 : FLOATS;
    }
}

static const char *page_at(const nb_attention_span *span, int64_t tile)
{
    return span->pages[(size_t)tile < span->page_count ? (size_t)tile : (size_t)tile % span->page_count];
}

/* Makes w->k and w->v the tile's: the page's own values where they are multiplied once or are floats or codes, else floats in
 * scratch. Values of keys outside [begin, end) may never have been written and are not read. */
static void tile_open(work *w, int64_t tile, int kv_head, size_t begin, size_t end)
{
    const nb_attend_job *job = w->job;
    const char *page = page_at(job->span, tile);
    bool last = (tile + 1) * NB_PAGE >= job->span->n_positions, reads_on = w->kv_rows < w->rows;
    if (reads_on && w->coded && kv_head < w->last_kv_head)
        w->ahead = (ptrdiff_t)w->head_bytes;
    else if (last || (reads_on && !w->coded))
        w->ahead = 0;
    else
        w->ahead = page_at(job->span, tile + 1) - page + (ptrdiff_t)w->head_bytes * (w->kv_head - kv_head);
    nb_kv_head head = nb_kv_head_at(job->layout, page + (size_t)kv_head * w->head_bytes, 0);
    bool once = w->kv_rows <= BLOCK_ROWS_MAX;
    w->k = head.k;
    w->v = head.v;
    w->k_scale = head.k_scale;
    w->v_scale = head.v_scale;
    if (w->coded)
        return;
    w->k_from = w->v_from = source_of(job->layout->type, once);
    w->v_stride = w->v_dim;
    if (!once && w->k_from != FLOATS) {
        convert_rows(w->k_from, w->k, w->k_dim, NB_PAGE, w->k_tile, NB_PAGE);
        w->k = w->k_tile;
        w->k_from = FLOATS;
    }
    if (w->v_dim % LANES != 0 || (!once && w->v_from != FLOATS)) {
        const char *from = (const char *)w->v + begin * w->v_dim * source_bytes(w->v_from);
        convert_rows(w->v_from, from, end - begin, w->v_dim, w->v_tile + begin * w->v_pad, w->v_pad);
        w->v = w->v_tile;
        w->v_from = FLOATS;
        w->v_stride = w->v_pad;
    }
}

/* ---- what scores gain by distance: key `first` is key 0 of the tile, `at` the query's position ---- */

static void bias_slopes(float slope, int64_t first, int64_t at, float *bias)
{
    float offset = (float)(first - at); /* exact up to 2^24 */
    for (int key = 0; key < NB_PAGE; key++)
        bias[key] = -slope * fabsf(offset + (float)key);
}

static float round_bf16(float x) { return nb_bf16_to_f32(nb_f32_to_bf16(x)); }

/* Differences of two of them, so that a score stays small where it counts: softmax does not see what all keys have. */
static void bias_rounded(float slope, float scale, int64_t first, int64_t at, float *bias)
{
    float own = round_bf16(slope * round_bf16((float)at));
    for (int key = 0; key < NB_PAGE; key++)
        bias[key] = (round_bf16(slope * round_bf16((float)(first + key))) - own) * scale;
}

static void bias_near(const float *near, int64_t reach, int64_t first, int64_t at, float *bias)
{
    for (int key = 0; key < NB_PAGE; key++) {
        int64_t after = first + key - at;
        after = after < -reach ? -reach : after > reach ? reach : after;
        bias[key] += near[after + reach] * LANES_LOG2E;
    }
}

/* Scores of a row for keys [low, high) of the tile, whole vectors. */
static void add_bias(const work *w, size_t row, int64_t tile, size_t low, size_t high, float *s)
{
    const nb_attend_job *job = w->job;
    const nb_attention_bias *b = &job->spec->bias;
    size_t head = (size_t)job->head + row % (size_t)job->heads;
    int64_t at = job->span->position + (int64_t)(row / (size_t)job->heads + job->query), first = tile * NB_PAGE;
    float bias[NB_PAGE] = {0};
    if (b->slopes && b->rounded > 0)
        bias_rounded(b->slopes[head], b->rounded * LANES_LOG2E, first, at, bias);
    else if (b->slopes)
        bias_slopes(b->slopes[head] * LANES_LOG2E, first, at, bias);
    if (b->near)
        bias_near(b->near + head * (size_t)(2 * b->reach + 1), b->reach, first, at, bias);
    for (size_t key = low; key < high; key += LANES) {
        lanes v = lanes_load(s + key);
        if (w->early_cap > 0)
            v = lanes_tanh(v) * w->early_cap;
        lanes_store(s + key, v + lanes_load(bias + key));
    }
}

/* Inlined, it would cost the others' rows registers. */
static __attribute__((noinline)) void bend_block(const work *w, size_t row, size_t rows, int64_t tile, size_t low,
                                                 size_t high)
{
    for (size_t r = 0; r < rows; r++)
        add_bias(w, row + r, tile, low, high, w->scores + r * NB_PAGE);
}

/* ---- the products of a block of rows with the open tile ---- */

/* Scores of rows [row, row + rows) for keys [low, high), whole vectors, or, of codes, for all keys */
static void score_keys(const work *w, size_t row, size_t rows, size_t low, size_t high)
{
    const float *q = w->q + row * w->k_dim;
#if LANES == 16
    if (w->split) {
        score_split(w, row, rows);
        return;
    }
#endif
    if (w->coded) {
        coded m = {.a = q,
                   .a_stride = w->k_dim,
                   .b = w->k,
                   .n = w->k_dim,
                   .scale = w->k_scale,
                   .ahead = w->ahead,
                   .c = w->scores,
                   .c_stride = NB_PAGE};
        score_codes(w->coding, rows, &m);
        return;
    }
    product m = {.a = q,
                 .a_stride = w->k_dim,
                 .b = (const char *)w->k + low * source_bytes(w->k_from),
                 .b_stride = NB_PAGE,
                 .n = w->k_dim,
                 .ahead = w->ahead,
                 .c = w->scores + low,
                 .c_stride = NB_PAGE,
                 .columns = high - low};
    multiply(w->k_from, rows, &m);
}

/* weights[block][r][key] = p[r][key] times the value's scale for keys [begin, end), and 0 beside them to the whole four. */
static void scale_weights(const work *w, size_t rows, const float *p, size_t begin, size_t end)
{
    float *to = w->weights;
    for (size_t block = 0; block < w->v_dim / NB_KV_BLOCK; block++, to += WEIGHTS_STRIDE)
        for (size_t key = begin / LANES * LANES; key < end; key += LANES) {
            lanes scale = lanes_load_f16(w->v_scale + block * NB_PAGE + key);
            if (key % 32 == 0)
                nb_kv_ask(w->v_scale + block * NB_PAGE + key, w->ahead);
            for (size_t r = 0; r < rows; r++)
                lanes_store(to + r * NB_PAGE + key, lanes_load(p + r * NB_PAGE + key) * scale);
        }
    for (size_t i = 0; (begin % 4 || end % 4) && i < w->v_dim / NB_KV_BLOCK * rows; i++) {
        float *row = w->weights + i / rows * WEIGHTS_STRIDE + i % rows * NB_PAGE;
        for (size_t key = begin / 4 * 4; key < begin; key++)
            row[key] = 0;
        for (size_t key = end; key % 4 != 0; key++)
            row[key] = 0;
    }
}

/* o[r] += p[r][begin..end) v for `rows` rows at once */
static void add_values(const work *w, size_t rows, const float *p, size_t begin, size_t end, float *state)
{
    if (begin >= end)
        return;
    if (w->coded) {
        bool fours = w->coding == CODES_8;
        scale_weights(w, rows, p, begin, end);
        begin = fours ? begin / 4 * 4 : begin;
        end = fours ? nb_round_up(end, 4) : end;
        coded m = {.a = w->weights + begin,
                   .a_stride = NB_PAGE,
                   .b = (const uint8_t *)w->v + (fours ? nb_kv_q8_value(begin, 0) : begin * w->v_dim / 2),
                   .b_stride = w->v_dim / 2,
                   .n = end - begin,
                   .ahead = w->ahead,
                   .c = state,
                   .c_stride = w->state_floats,
                   .columns = w->v_dim};
        add_codes(w->coding, rows, &m);
        return;
    }
    product m = {.a = p + begin,
                 .a_stride = NB_PAGE,
                 .b = (const char *)w->v + begin * w->v_stride * source_bytes(w->v_from),
                 .b_stride = w->v_stride,
                 .n = end - begin,
                 .ahead = w->ahead,
                 .c = state,
                 .c_stride = w->state_floats,
                 .columns = w->v_columns,
                 .add = true};
    multiply(w->v_from, rows, &m);
}

/* Rows [row, row + rows) over the open tile. Each row takes its own keys: those all rows see together, the ragged ends
 * (the diagonal, the window's edge) row by row. */
static void attend_block(const work *w, size_t row, size_t rows, int64_t tile, float *states)
{
    size_t begin[BLOCK_ROWS_MAX], end[BLOCK_ROWS_MAX], low = NB_PAGE, high = 0, shared = 0, shared_end = NB_PAGE;
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
    score_keys(w, row, rows, low, high);
    float *state = states + row * w->state_floats;
    if (w->biased)
        bend_block(w, row, rows, tile, low, high);
    for (size_t r = 0; r < rows; r++)
        if (begin[r] < end[r])
            soften(&w->soft, w->scores + r * NB_PAGE, begin[r], end[r], state + r * w->state_floats);
#if LANES == 16
    if (w->split) {
        add_split(w, rows, begin, end, state);
        return;
    }
#endif
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
    size_t block = w->kv_rows <= BLOCK_ROWS_MAX ? w->kv_rows : w->coded ? BLOCK_ROWS_MAX : BLOCK_ROWS;
    int64_t first = w->begin[0], last = w->end[w->rows - 1];
    for (int64_t tile = chunk * tiles; tile < (chunk + 1) * tiles; tile++) {
        int64_t begin = first - tile * NB_PAGE, end = last - tile * NB_PAGE;
        begin = begin < 0 ? 0 : begin;
        end = end > NB_PAGE ? NB_PAGE : end;
        if (begin >= end)
            continue;
        int kv_head = w->kv_head;
        for (size_t row = 0; row < w->rows; row += w->kv_rows) {
            tile_open(w, tile, kv_head++, (size_t)begin, (size_t)end);
            for (size_t r = 0; r < w->kv_rows; r += block)
                attend_block(w, row + r, nb_min_size(w->kv_rows - r, block), tile, states);
        }
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
        top = highest;
    }
    lanes scale = lanes_set(sum == 0.0f ? 0.0f : shrink / sum);
    size_t d = 0;
    for (; d + LANES <= w->v_dim; d += LANES)
        lanes_store(out + d, lanes_load(state + d) * scale);
    if (d < w->v_dim)
        lanes_store_n(out + d, lanes_load(state + d) * scale, w->v_dim - d);
    if (w->coded)
        nb_kv_rotate(out, w->v_dim);
    if (job->span->lse)
        job->span->lse[head * job->span->n_queries + query] = lse_of(top, sum);
}

static void attend(const nb_attend_job *job)
{
    work w;
    nb_attend_areas at = nb_attend_areas_of(job->spec);
    work_begin(&w, job);
    split_queries(&w, (float *)job->scratch + at.split);
    if (job->partial) {
        attend_chunk(&w, job->chunk_begin, job->partial);
        return;
    }
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

static void store_q8(const float *x, size_t n, int8_t *q, uint16_t *scale)
{
    for (size_t g = 0; g < n / NB_KV_BLOCK; g++, x += NB_KV_BLOCK) {
        float top = 0, taint = 0; /* 0 x is not 0 for an infinity or a NaN: the block then reads back as NaN */
        for (size_t i = 0; i < NB_KV_BLOCK; i++) {
            top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
            taint += x[i] * 0.0f;
        }
        float d = top / 127 < 65504.0f ? top / 127 : 65504.0f, inverse = d > 0 && taint == 0 ? 1 / d : 0;
        inverse = inverse > 3.0e38f ? 0 : inverse;
        scale[g * NB_PAGE] = nb_f32_to_f16(d + taint);
        for (size_t i = 0; i < NB_KV_BLOCK; i++) {
            float y = rintf(taint == 0 ? x[i] * inverse : 1.0f);
            q[g * NB_KV_BLOCK + i] = (int8_t)(y > 127 ? 127 : y < -127 ? -127 : y);
        }
    }
}

/* Codes 0..15 of x = (code - 8) d, d the value of largest magnitude / -8, as GGUF's Q4_0 has it. */
static void store_q4(const float *x, size_t n, uint8_t *q, size_t q_step, uint16_t *scale, size_t scale_step)
{
    for (size_t g = 0; g < n / NB_KV_BLOCK; g++, x += NB_KV_BLOCK) {
        float top = 0, taint = 0; /* as above */
        for (size_t i = 0; i < NB_KV_BLOCK; i++) {
            top = fabsf(x[i]) > fabsf(top) ? x[i] : top;
            taint += x[i] * 0.0f;
        }
        float d = top / -8, most = 65504.0f;
        d = d > most ? most : d < -most ? -most : d;
        float inverse = d != 0 && taint == 0 ? 1 / d : 0;
        inverse = fabsf(inverse) > 3.0e38f ? 0 : inverse;
        scale[g * scale_step] = nb_f32_to_f16(d + taint);
        for (size_t i = 0; i < NB_KV_BLOCK / 2; i++) {
            float low = rintf(taint == 0 ? x[i] * inverse : 0.0f), high = x[i + NB_KV_BLOCK / 2];
            high = rintf(taint == 0 ? high * inverse : 0.0f);
            int a = (int)(low > 7 ? 7 : low < -8 ? -8 : low) + 8, b = (int)(high > 7 ? 7 : high < -8 ? -8 : high) + 8;
            q[(g * NB_KV_BLOCK / 2 + i) * q_step] = (uint8_t)(a | b << 4);
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

/* A rotated copy. */
static const float *turned(const float *x, size_t n, float *room)
{
    memcpy(room, x, n * sizeof *x);
    nb_kv_rotate(room, n);
    return room;
}

static void store_head(const nb_kv_layout *layout, const nb_kv_head *head, size_t slot, const float *k, const float *v)
{
    size_t k_dim = (size_t)layout->k_dim, v_dim = (size_t)layout->v_dim;
    uint16_t half[1024];
    float wide[1024];
    int8_t codes[1024];
    switch ((int)layout->type) {
    case NB_TYPE_F32:
        for (size_t d = 0; d < k_dim; d++)
            ((float *)head->k)[d * NB_PAGE + slot] = k[d];
        memcpy((float *)head->v + slot * v_dim, v, v_dim * sizeof *v);
        break;
    case NB_TYPE_Q4_0:
        store_q4(turned(k, k_dim, wide), k_dim, (uint8_t *)head->k + slot, NB_PAGE, (uint16_t *)head->k_scale + slot,
                 NB_PAGE);
        store_q4(turned(v, v_dim, wide), v_dim, (uint8_t *)head->v + slot * v_dim / 2, 1,
                 (uint16_t *)head->v_scale + slot, NB_PAGE);
        break;
    case NB_TYPE_Q8_0:
        store_q8(turned(k, k_dim, wide), k_dim, codes, (uint16_t *)head->k_scale + slot);
        for (size_t d = 0; d < k_dim; d++)
            ((uint8_t *)head->k)[nb_kv_q8_key(slot, d, k_dim)] = (uint8_t)(codes[d] + 128);
        store_q8(turned(v, v_dim, wide), v_dim, codes, (uint16_t *)head->v_scale + slot);
        for (size_t d = 0; d < v_dim; d++)
            ((int8_t *)head->v)[nb_kv_q8_value(slot, d)] = codes[d];
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
