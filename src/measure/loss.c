#include "measure/loss.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK_ROWS = 32 };

static size_t index_of(const nb_source *s, const nb_source_tensor *t) { return (size_t)(t - s->tensors); }

nb_status nb_source_floats(const nb_source *s, size_t tensor, uint64_t row, uint64_t count, float *out, nb_error *err)
{
    const nb_source_tensor *t = &s->tensors[tensor];
    size_t row_bytes, bytes;
    if (!nb_type_row_bytes(t->type, t->dims[0], &row_bytes) || !nb_mul(row_bytes, (size_t)count, &bytes))
        return nb_fail(err, NB_ERR_LIMIT, "%s: rows of '%.*s' do not fit memory", s->path, NB_STR_ARG(t->name));
    void *raw = aligned_alloc(64, nb_round_up(bytes + 1, 64));
    if (!raw)
        return nb_fail_memory(err, s->path, bytes);
    nb_status status = s->read(s, tensor, row, count, raw, err);
    if (status == NB_OK)
        t->type->dequantize(raw, out, (size_t)(count * t->dims[0]));
    free(raw);
    return status;
}

/* ---- one tensor, by blocks of rows ---- */

typedef struct sums {
    double error, norm, weighted_error, weighted_norm;
} sums;

typedef struct comparison {
    const nb_source *base, *quantized;
    size_t base_tensor, quantized_tensor;
    float **weights; /* [matrices][columns]; NULL: none */
    sums *blocks;
    size_t block_count;
    nb_status *status; /* [members] */
    nb_error *errors;
} comparison;

static void add_row(const float *x, const float *q, const float *weight, size_t n, sums *s)
{
    double error = 0, norm = 0, weighted_error = 0, weighted_norm = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = (double)x[i] - (double)q[i], square = (double)x[i] * (double)x[i];
        error += difference * difference;
        norm += square;
        if (weight) {
            weighted_error += (double)weight[i] * difference * difference;
            weighted_norm += (double)weight[i] * square;
        }
    }
    s->error += error;
    s->norm += norm;
    s->weighted_error += weighted_error;
    s->weighted_norm += weighted_norm;
}

static nb_status compare_block(const comparison *c, size_t block, float *x, float *q, nb_error *err)
{
    const nb_source_tensor *t = &c->base->tensors[c->base_tensor];
    size_t columns = (size_t)t->dims[0];
    uint64_t row = block * BLOCK_ROWS, rows = nb_source_rows(t) - row;
    rows = rows < BLOCK_ROWS ? rows : BLOCK_ROWS;
    NB_TRY(nb_source_floats(c->base, c->base_tensor, row, rows, x, err));
    NB_TRY(nb_source_floats(c->quantized, c->quantized_tensor, row, rows, q, err));
    for (size_t i = 0; i < rows; i++)
        add_row(x + i * columns, q + i * columns, c->weights ? c->weights[(row + i) / t->dims[1]] : NULL, columns,
                &c->blocks[block]);
    return NB_OK;
}

static void compare_member(void *context, int member, int members)
{
    comparison *c = context;
    size_t begin, end, values = BLOCK_ROWS * (size_t)c->base->tensors[c->base_tensor].dims[0];
    nb_team_share(c->block_count, 1, member, members, &begin, &end);
    float *x = begin < end ? malloc(2 * values * sizeof *x) : NULL;
    if (begin < end && !x)
        c->status[member] = nb_fail_memory(&c->errors[member], "rows of a tensor", 2 * values * sizeof *x);
    for (size_t i = begin; i < end && c->status[member] == NB_OK; i++)
        c->status[member] = compare_block(c, i, x, x + values, &c->errors[member]);
    free(x);
}

static nb_status run_comparison(comparison *c, nb_team *team, nb_tensor_loss *out, nb_error *err)
{
    nb_team_run(team, compare_member, c);
    for (int i = 0; i < nb_team_size(team); i++)
        if (c->status[i] != NB_OK) {
            if (err)
                *err = c->errors[i];
            return c->status[i];
        }
    for (size_t i = 0; i < c->block_count; i++) {
        out->error += c->blocks[i].error;
        out->norm += c->blocks[i].norm;
        out->weighted_error += c->blocks[i].weighted_error;
        out->weighted_norm += c->blocks[i].weighted_norm;
    }
    return NB_OK;
}

/* the importance of each matrix's columns; NULL where there is none that fits */
static bool find_weights(const nb_source_tensor *t, const nb_imatrix *importance, nb_arena *arena, float ***out)
{
    const nb_imatrix_entry *e = importance ? nb_imatrix_find(importance, t->name) : NULL;
    size_t columns = (size_t)t->dims[0], matrices = (size_t)(t->dims[2] * t->dims[3]);
    *out = NULL;
    if (!e)
        return true;
    float **weights = NB_ARRAY(arena, float *, matrices);
    for (size_t i = 0; weights && i < matrices; i++) {
        weights[i] = NB_ARRAY(arena, float, columns);
        if (!weights[i])
            return false;
        if (!nb_imatrix_weights_of(e, columns, matrices, i, weights[i]))
            return true;
    }
    *out = weights;
    return weights != NULL;
}

static nb_status compare_tensor(const nb_source *base, const nb_source_tensor *t, const nb_source *quantized,
                                const nb_imatrix *importance, nb_team *team, nb_tensor_loss *out, nb_error *err)
{
    const nb_source_tensor *q = nb_source_find_tensor(quantized, t->name);
    nb_arena scratch = {0};
    size_t members = (size_t)nb_team_size(team), bytes;
    comparison c = {.base = base, .quantized = quantized, .base_tensor = index_of(base, t)};
    if (!q || memcmp(q->dims, t->dims, sizeof t->dims) != 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s has no tensor '%.*s' of the shape it has in %s: not the same model",
                       quantized->path, NB_STR_ARG(t->name), base->path);
    c.quantized_tensor = index_of(quantized, q);
    c.block_count = (size_t)((nb_source_rows(t) + BLOCK_ROWS - 1) / BLOCK_ROWS);
    c.blocks = NB_ARRAY(&scratch, sums, c.block_count);
    c.status = NB_ARRAY(&scratch, nb_status, members);
    c.errors = NB_ARRAY(&scratch, nb_error, members);
    bool ready = c.blocks && c.status && c.errors && find_weights(t, importance, &scratch, &c.weights) &&
                 nb_type_row_bytes(q->type, q->dims[0], &bytes);
    nb_status status = ready ? NB_OK : nb_fail_memory(err, base->path, c.block_count * sizeof(sums));
    if (status == NB_OK) {
        out->type = q->type;
        out->values = nb_source_rows(t) * t->dims[0];
        out->bytes = nb_source_rows(t) * bytes;
        status = run_comparison(&c, team, out, err);
    }
    if (base->forget)
        base->forget(base, c.base_tensor, 0, nb_source_rows(t));
    nb_arena_free(&scratch);
    return status;
}

/* ---- all tensors ---- */

/* "blk.12.attn_q.weight" is layer 12, kind "attn_q" */
static void name_parts(nb_tensor_loss *t)
{
    nb_str name = t->name, suffix = NB_STR(".weight");
    t->layer = -1;
    if (nb_str_starts(name, NB_STR("blk."))) {
        size_t at = 4;
        int layer = 0;
        for (; at < name.n && name.p[at] >= '0' && name.p[at] <= '9' && layer < 100000; at++)
            layer = layer * 10 + (name.p[at] - '0');
        if (at > 4 && at < name.n && name.p[at] == '.') {
            t->layer = layer;
            name = (nb_str){name.p + at + 1, name.n - at - 1};
        }
    }
    if (name.n > suffix.n && memcmp(name.p + name.n - suffix.n, suffix.p, suffix.n) == 0)
        name.n -= suffix.n;
    t->kind = name;
}

static void add_sizes(const nb_source *quantized, nb_loss *out)
{
    for (size_t i = 0; i < quantized->tensor_count; i++) {
        const nb_source_tensor *t = &quantized->tensors[i];
        size_t bytes;
        if (!nb_type_row_bytes(t->type, t->dims[0], &bytes))
            continue;
        out->values += nb_source_rows(t) * t->dims[0];
        out->bytes += nb_source_rows(t) * bytes;
    }
}

nb_status nb_loss_measure(const nb_source *base, const nb_source *quantized, const nb_imatrix *importance,
                          nb_team *team, nb_arena *arena, nb_loss *out, nb_error *err)
{
    *out = (nb_loss){.tensors = NB_ARRAY(arena, nb_tensor_loss, base->tensor_count + 1)};
    if (!out->tensors)
        return nb_fail_memory(err, base->path, base->tensor_count * sizeof *out->tensors);
    for (size_t i = 0; i < base->tensor_count; i++) {
        const nb_source_tensor *t = &base->tensors[i];
        nb_tensor_loss *loss = &out->tensors[out->count];
        if (t->n_dims < 2)
            continue;
        loss->name = t->name;
        name_parts(loss);
        NB_TRY(compare_tensor(base, t, quantized, importance, team, loss, err));
        out->count++;
    }
    add_sizes(quantized, out);
    return NB_OK;
}

double nb_loss_relative(const nb_loss *loss, int layer, nb_str kind, bool weighted)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < loss->count; i++) {
        const nb_tensor_loss *t = &loss->tensors[i];
        if ((layer != NB_LOSS_ALL_LAYERS && t->layer != layer) || (kind.p && !nb_str_eq(t->kind, kind)))
            continue;
        error += weighted ? t->weighted_error : t->error;
        norm += weighted ? t->weighted_norm : t->norm;
    }
    return norm > 0 ? error / norm : NAN;
}
