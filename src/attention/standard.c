/* Algorithm 0: a head's whole matrix of scores, its softmax, its product with the values. */
#include "attention/flash.h"

typedef struct standard {
    nb_flash_plan plan;
    nb_flash_job job; /* what all jobs share */
    float *scratch;
    size_t scratch_floats, rows; /* a member's; rows: of a job */
} standard;

/* Rows of a head's matrix are a member's as many as fit its states at a time. */
static void run_head(void *context, int member, int members)
{
    const standard *s = context;
    size_t begin, end;
    nb_team_share(s->plan.p->queries, 1, member, members, &begin, &end);
    for (size_t i = begin; i < end; i += s->rows) {
        nb_flash_job job = s->job;
        job.query = i;
        job.queries = nb_min_size(s->rows, end - i);
        job.matrix += i * s->plan.tiles * NB_PAGE;
        job.scratch = s->scratch + (size_t)member * s->scratch_floats;
        nb_flash_table_current()->standard(&job);
    }
}

static void run_heads(standard *s, nb_team *team)
{
    const nb_attention_params *p = s->plan.p;
    for (size_t b = 0; b < p->batch; b++)
        for (size_t h = 0; h < p->heads; h++) {
            s->job.batch = b;
            s->job.head = h;
            if (team)
                nb_team_run(team, run_head, s);
            else
                run_head(s, 0, 1);
        }
}

static void count(const standard *s, nb_attention_stats *stats)
{
    const nb_attention_params *p = s->plan.p;
    uint64_t heads = (uint64_t)p->batch * p->heads, size = nb_float_bytes(p->type);
    uint64_t matrix = heads * p->queries * p->keys * sizeof(float);
    uint64_t rows = heads * p->queries, keys = heads * p->keys;
    stats->tile_rows = s->rows;
    stats->tile_keys = NB_PAGE;
    stats->tiles_visited = heads * ((p->queries + s->rows - 1) / s->rows) * s->plan.tiles;
    stats->tiles_skipped = 0;
    /* as the paper counts: scores written, read and written as weights, read again */
    stats->bytes_moved = 4 * matrix + (rows + keys) * p->k_dim * size + keys * p->v_dim * size + rows * p->v_dim * 4;
    stats->scratch_bytes = s->plan.bytes;
}

nb_status nb_attention_standard(const nb_attention_params *p, const void *q, const void *k, const void *v, float *out,
                                float *lse, float *scores, float *alphas, nb_attention_stats *stats, nb_team *team,
                                nb_error *err)
{
    NB_TRY(nb_rule_check(p, err));
    size_t members = team ? (size_t)nb_team_size(team) : 1, matrix, values;
    standard s = {.rows = nb_flash_max_rows(p), .scratch_floats = nb_round_up(nb_flash_areas_of(p).end, 16)};
    NB_TRY(nb_flash_plan_new(p, false, &s.plan, err));
    values = members * s.scratch_floats;
    if (!nb_mul(p->queries, s.plan.tiles * NB_PAGE, &matrix) || matrix > SIZE_MAX / 8 - values) {
        nb_flash_plan_free(&s.plan);
        return nb_fail_memory(err, "the matrix of scores", SIZE_MAX);
    }
    size_t bytes = (matrix + values) * sizeof(float);
    s.scratch = nb_flash_floats(matrix + values);
    s.plan.bytes += bytes;
    if (!s.scratch) {
        nb_flash_plan_free(&s.plan);
        return nb_fail_memory(err, "the matrix of scores", bytes);
    }
    nb_flash_pack(&s.plan, k, v, team);
    s.job = (nb_flash_job){.plan = &s.plan, .q = q, .out = out, .lse = lse, .heads = 1, .matrix = s.scratch + values};
    s.job.scores = scores;
    s.job.alphas = alphas;
    run_heads(&s, team);
    if (stats)
        count(&s, stats);
    nb_flash_floats_free(s.scratch, matrix + values);
    nb_flash_plan_free(&s.plan);
    return NB_OK;
}
