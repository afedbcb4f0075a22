/* Rows that are rounded with error feedback (quant/feedback.h), after all others. Tensors that read the same inputs are done
 * together: the moments are factored once, by all threads, then each thread takes the next band of rows. */
#include "convert/quantize_rows.h"
#include "num/half.h"
#include "quant/feedback.h"

enum { BAND = NB_FEEDBACK_ROWS };

/* What is added to the moments. SmolLM2 in Q4_0, moments of 26,600 tokens, KL divergence of 16 windows of another text, by
 * (floor, damping): search 0.1359; (.01, .01) .0855, (.1, .1) .0745, (1, 1) .0894, (.3, .03) .1044, (.03, .3) .0601,
 * (.01, .3) .0589, (.003, .3) .0594, (.001, .6) .0588, (.01, 1) .0626, (0, .3) .0670. */
static const float moments_floor = 0.01f, moments_damping = 0.3f;

typedef struct group { /* the tensors with the same moments */
    nb_rows_work *w;
    nb_team *team;
    const nb_imatrix_entry *importance;
    nb_feedback *blocks; /* of columns */
    size_t block_count;
    unsigned char *members; /* memory of each */
    size_t x_bytes, in_bytes, out_bytes, scratch_bytes;
    float *correlations, *rms, *panel, *factors;
    size_t first; /* column of the block that is being factored */
    uint64_t bands;
    atomic_ullong next;
} group;

/* ---- which ---- */

bool nb_rows_are_fed(const nb_quantize_params *p, const nb_source_tensor *t, const nb_type_info *type,
                     const nb_imatrix_entry *importance)
{
    const nb_moments *m = importance ? importance->moments : NULL;
    return m && p->feedback && p->rounding == NB_ROUND_SEARCH && m->columns == t->dims[0] &&
           t->dims[2] * t->dims[3] == 1 && nb_feedback_can(type) && m->block % type->block_values == 0 &&
           m->columns % type->block_values == 0;
}

static bool is_of(const group *g, const nb_rows_part *p)
{
    return p->fed && p->importance->moments == g->importance->moments;
}

static uint64_t bands_of(const nb_rows_part *p) { return (p->rows + BAND - 1) / BAND; }

static size_t members_bytes(const group *g) { return g->x_bytes + g->in_bytes + g->out_bytes + g->scratch_bytes; }

/* ---- factoring ---- */

static void factor_member(void *context, int member, int members)
{
    const group *g = context;
    const nb_moments *m = g->importance->moments;
    nb_feedback *f = &g->blocks[g->first / m->block];
    const uint16_t *triangle = m->correlation + nb_moments_at(m, g->first);
    for (size_t i = (size_t)member; i < f->columns; i += (size_t)members)
        nb_f16_to_f32_row(triangle + i * (i + 1) / 2, g->correlations + i * f->columns, i + 1);
    nb_team_barrier(g->team);
    nb_feedback_input in = {f, g->correlations, g->rms + g->first, g->panel, moments_floor, moments_damping};
    nb_feedback_make(&in, g->team, member, members);
}

static void factor(group *g)
{
    const nb_moments *m = g->importance->moments;
    float *at = g->factors;
    nb_imatrix_weights(g->importance, 0, g->rms);
    for (size_t i = 0; i < m->columns; i++)
        g->rms[i] = __builtin_sqrtf(g->rms[i]);
    g->block_count = 0;
    for (g->first = 0; g->first < m->columns; g->first += m->block) {
        size_t n = nb_min_size(m->block, m->columns - g->first);
        g->blocks[g->block_count++] = (nb_feedback){n, at + n, at};
        at += n + nb_feedback_panels(n);
        nb_team_run(g->team, factor_member, g);
    }
}

/* ---- bands ---- */

typedef struct band_memory {
    float *x;
    unsigned char *in, *out, *scratch;
} band_memory;

static nb_status load_band(const group *g, size_t job, uint64_t row, uint64_t rows, const band_memory *m,
                           int32_t *largest, nb_error *err)
{
    const nb_rows_part *p = &g->w->parts[job];
    size_t columns = (size_t)p->tensor->dims[0];
    const unsigned char *in;
    NB_TRY(nb_rows_read(g->w, job, row, rows, m->in, &in, err));
    for (uint64_t r = 0; r < rows; r++) {
        float *to = m->x + r * columns;
        const float *x;
        NB_TRY(nb_rows_load(g->w, p, row + r, in + r * p->in_row, to, &x, &largest[r], err));
        if (x != to)
            memcpy(to, x, columns * sizeof *to);
    }
    return NB_OK;
}

static nb_status do_band(const group *g, size_t job, uint64_t row, uint64_t rows, const band_memory *m, nb_error *err)
{
    const nb_rows_part *p = &g->w->parts[job];
    const nb_type_info *type = g->w->jobs[job].type;
    size_t columns = (size_t)p->tensor->dims[0];
    int32_t largest[BAND];
    NB_TRY(load_band(g, job, row, rows, m, largest, err));
    for (size_t b = 0, first = 0; b < g->block_count; first += g->blocks[b++].columns)
        nb_feedback_round(&g->blocks[b], type, m->x + first, columns, (size_t)rows,
                          m->out + first / type->block_values * type->block_bytes, p->out_row, m->scratch);
    for (uint64_t r = 0; r < rows; r++)
        if (largest[r] > NB_ROWS_LARGEST_HALF)
            NB_TRY(nb_rows_check(g->w, job, row + r, m->out + r * p->out_row, m->x, err));
    return nb_rows_put(g->w, job, row, m->out, (size_t)rows * p->out_row, err);
}

/* the job of a band of the group; *band becomes its number in the tensor */
static size_t job_of(const group *g, uint64_t *band)
{
    for (size_t i = 0;; i++) {
        const nb_rows_part *p = &g->w->parts[i];
        if (is_of(g, p) && *band < bands_of(p))
            return i;
        *band -= is_of(g, p) ? bands_of(p) : 0;
    }
}

static void member_run(void *context, int member, int members)
{
    group *g = context;
    unsigned char *at = g->members + (size_t)member * members_bytes(g);
    band_memory m = {(float *)(void *)at, at + g->x_bytes, at + g->x_bytes + g->in_bytes,
                     at + g->x_bytes + g->in_bytes + g->out_bytes};
    (void)members;
    while (!atomic_load_explicit(&g->w->stop, memory_order_relaxed)) {
        uint64_t unit = atomic_fetch_add(&g->next, 1), band = unit;
        if (unit >= g->bands)
            return;
        size_t job = job_of(g, &band);
        nb_rows_part *p = &g->w->parts[job];
        uint64_t row = band * BAND, rows = p->rows - row < BAND ? p->rows - row : BAND;
        nb_error error;
        nb_status status = do_band(g, job, row, rows, &m, &error);
        if (status != NB_OK)
            nb_rows_fail(g->w, unit, status, &error);
        atomic_fetch_add(&g->w->done, rows * p->in_row);
        if (member == 0)
            nb_rows_report(g->w, p);
    }
}

static void forget(const group *g)
{
    const nb_source *s = g->w->source;
    for (size_t i = 0; i < g->w->count && s->forget; i++)
        if (is_of(g, &g->w->parts[i]))
            s->forget(s, g->w->jobs[i].tensor, 0, g->w->parts[i].rows);
}

static void do_group(group *g)
{
    atomic_store(&g->next, 0);
    g->bands = 0;
    for (size_t i = 0; i < g->w->count; i++)
        g->bands += is_of(g, &g->w->parts[i]) ? bands_of(&g->w->parts[i]) : 0;
    factor(g);
    nb_team_run(g->team, member_run, g);
    forget(g);
}

/* ---- all ---- */

typedef struct sizes { /* the largest of all groups */
    size_t columns, block, blocks, factors;
} sizes;

static void measure(group *g, sizes *s)
{
    for (size_t i = 0; i < g->w->count; i++) {
        const nb_rows_part *p = &g->w->parts[i];
        if (!p->fed)
            continue;
        const nb_moments *m = p->importance->moments;
        size_t blocks = (m->columns + m->block - 1) / m->block;
        s->columns = nb_max_size(s->columns, m->columns);
        s->block = nb_max_size(s->block, m->block);
        s->blocks = nb_max_size(s->blocks, blocks);
        s->factors = nb_max_size(s->factors, blocks * (m->block + nb_feedback_panels(m->block)));
        g->x_bytes = nb_max_size(g->x_bytes, BAND * m->columns * sizeof(float));
        g->out_bytes = nb_max_size(g->out_bytes, nb_round_up(BAND * p->out_row, 64));
        if (!p->tensor->data)
            g->in_bytes = nb_max_size(g->in_bytes, nb_round_up(BAND * p->in_row, 64));
    }
    g->scratch_bytes = nb_round_up(nb_feedback_scratch(s->block), 64);
}

/* Tensors in their order; what shares a group with one goes with it. */
static void do_groups(group *g)
{
    nb_rows_work *w = g->w;
    for (size_t i = 0; i < w->count && !atomic_load(&w->stop); i++) {
        bool done = !w->parts[i].fed;
        for (size_t j = 0; j < i && !done; j++)
            done = w->parts[j].fed && w->parts[j].importance->moments == w->parts[i].importance->moments;
        if (done)
            continue;
        g->importance = w->parts[i].importance;
        do_group(g);
    }
}

nb_status nb_quantize_fed_rows(nb_rows_work *w, nb_team *team, nb_error *err)
{
    group g = {.w = w, .team = team};
    sizes s = {0};
    measure(&g, &s);
    if (s.columns == 0)
        return NB_OK;
    size_t members = (size_t)nb_team_size(team) * members_bytes(&g);
    size_t floats = s.block * s.block + s.columns + NB_FEEDBACK_FACTOR * s.block + s.factors;
    size_t bytes = members + nb_round_up(floats * sizeof(float), 64) + s.blocks * sizeof *g.blocks;
    g.members = nb_pages_alloc(bytes);
    if (!g.members)
        return nb_fail_memory(err, "rounding with feedback", bytes);
    g.correlations = (float *)(void *)(g.members + members);
    g.rms = g.correlations + s.block * s.block;
    g.panel = g.rms + s.columns;
    g.factors = g.panel + NB_FEEDBACK_FACTOR * s.block;
    g.blocks = (nb_feedback *)(void *)(g.members + members + nb_round_up(floats * sizeof(float), 64));
    do_groups(&g);
    nb_pages_free(g.members, bytes);
    return NB_OK;
}
