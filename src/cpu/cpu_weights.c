/* Weights as the CPU wants them: matrices packed where that pays, else left in the file; vectors as aligned floats. */
#include "cpu/cpu.h"
#include "cpu/cpu_internal.h"

#include <stdlib.h>

typedef struct use { /* how the plan uses a weight */
    bool matrix, embedded, vector;
    bool experts; /* a stack of matrices */
} use;

static void find_uses(const nb_plan *plan, use *uses)
{
    for (size_t i = 0; i < plan->op_count; i++) {
        const nb_op *op = &plan->ops[i];
        int weights[3], n = nb_op_matrices(op, weights);
        for (int w = 0; w < n; w++) {
            uses[weights[w]].matrix = true;
            uses[weights[w]].experts = op->kind == NB_OP_EXPERTS;
        }
        const int biases[] = {op->bias, op->experts.gate_bias, op->experts.up_bias, op->experts.down_bias,
                              op->experts.choice};
        for (int b = 0; b < (op->kind == NB_OP_EXPERTS ? 5 : 1); b++)
            if (biases[b] >= 0)
                uses[biases[b]].vector = true;
        if (op->weight < 0 || n > 0)
            continue;
        if (op->kind == NB_OP_EMBED)
            uses[op->weight].embedded = true;
        else
            uses[op->weight].vector = true;
    }
}

/* Each expert's matrix is packed by itself: its rows begin a tile. */
static size_t matrices_of(const nb_gguf_tensor *t, const use *u) { return u->experts ? (size_t)t->dims[2] : 1; }
static size_t rows_of(const nb_gguf_tensor *t, const use *u)
{
    return (size_t)(t->dims[1] * t->dims[2] * t->dims[3]) / matrices_of(t, u);
}
static size_t values_of(const nb_gguf_tensor *t) { return (size_t)(t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]); }

static bool is_packed(const nb_gguf_tensor *t, const use *u, const nb_weights_params *params)
{
    return u->matrix && params->repack && !params->exact &&
           nb_matmul_packs((nb_type)t->type->id, rows_of(t, u), (size_t)t->dims[0]);
}

/* bytes of our own copy of weight i, 64-byte multiples; 0: used in place */
static bool copy_bytes(const nb_model_def *m, size_t i, const use *u, const nb_weights_params *params, size_t *bytes)
{
    const nb_gguf_tensor *t = m->weights[i].tensor;
    *bytes = 0;
    if (u->vector)
        *bytes = nb_round_up(values_of(t) * sizeof(float), 64);
    else if (is_packed(t, u, params)) {
        if (!nb_packed_bytes((nb_type)t->type->id, rows_of(t, u), (size_t)t->dims[0], bytes) || *bytes > SIZE_MAX - 64)
            return false;
        return nb_mul(nb_round_up(*bytes, 64), matrices_of(t, u), bytes);
    }
    return true;
}

/* of NB_OP_UNBIAS, 64-byte multiples */
static size_t shared_key_bytes(const nb_plan *plan, const nb_op *op)
{
    return op->kind == NB_OP_UNBIAS ? nb_round_up(plan->buffers[op->in].width * sizeof(float), 64) : 0;
}

static nb_status count_memory(const nb_model_def *m, const nb_plan *plan, const use *uses,
                              const nb_weights_params *params, nb_memory *memory, nb_error *err)
{
    size_t copied = 0, mapped = 0;
    for (size_t i = 0; i < plan->op_count; i++)
        copied += shared_key_bytes(plan, &plan->ops[i]);
    for (size_t i = 0; i < m->weight_count; i++) {
        size_t bytes;
        if (!copy_bytes(m, i, &uses[i], params, &bytes) || !nb_add(copied, bytes, &copied))
            return nb_fail(err, NB_ERR_LIMIT, "%s: its weights do not fit any memory", nb_gguf_path(m->gguf));
        if (uses[i].embedded || (uses[i].matrix && !is_packed(m->weights[i].tensor, &uses[i], params)))
            mapped += m->weights[i].tensor->bytes;
    }
    memory->weights_copied = copied;
    memory->weights_mapped = mapped;
    return NB_OK;
}

nb_status nb_cpu_weights_memory(const nb_model_def *m, const nb_plan *plan, const nb_weights_params *params,
                                nb_memory *memory, nb_error *err)
{
    use *uses = calloc(m->weight_count, sizeof *uses);
    if (!uses)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    find_uses(plan, uses);
    nb_status status = count_memory(m, plan, uses, params, memory, err);
    free(uses);
    return status;
}

typedef struct packing {
    nb_weights *w;
    const use *uses;
} packing;

/* a member's share of the tiles of all matrices of a tensor */
static void pack_share(const nb_weight *weight, const use *u, const nb_cpu_weight *w, int member, int members)
{
    const nb_gguf_tensor *t = weight->tensor;
    size_t rows = rows_of(t, u), tiles = (rows + NB_TILE_ROWS - 1) / NB_TILE_ROWS, matrices = matrices_of(t, u);
    size_t begin, end;
    nb_team_share(tiles * matrices, 1, member, members, &begin, &end);
    while (begin < end) {
        size_t matrix = begin / tiles, first = begin % tiles, last = nb_min_size(tiles, first + (end - begin));
        const void *from = weight->each ? weight->each[matrix]->data
                                        : (const char *)t->data + t->bytes / matrices * matrix;
        nb_pack((nb_type)t->type->id, from, rows, (size_t)t->dims[0], (char *)(uintptr_t)w->data + w->stride * matrix,
                first, last);
        begin += last - first;
    }
}

const void *nb_cpu_expert_rows(const nb_cpu_weight *w, const nb_gguf_tensor *t, size_t expert, size_t row)
{
    size_t rows = (size_t)t->dims[1], tile = 0, of_row = t->bytes / (rows * (size_t)t->dims[2]);
    if (w->packed && nb_packed_bytes((nb_type)t->type->id, NB_TILE_ROWS, (size_t)t->dims[0], &tile))
        of_row = tile / NB_TILE_ROWS;
    if (w->each)
        return (const char *)w->each[expert]->data + of_row * row;
    return (const char *)w->data + w->stride * expert + of_row * row;
}

/* row by row: some types' rows have an end of their own */
static void unpack(const nb_gguf_tensor *t, float *out)
{
    size_t columns = (size_t)t->dims[0], rows = values_of(t) / columns;
    for (size_t r = 0; r < rows; r++)
        t->type->dequantize((const char *)t->data + t->bytes / rows * r, out + r * columns, columns);
}

static void pack_member(void *context, int member, int members)
{
    const packing *p = context;
    const nb_model_def *m = p->w->model;
    for (size_t i = 0; i < m->weight_count; i++) {
        const nb_gguf_tensor *t = m->weights[i].tensor;
        const nb_cpu_weight *w = &p->w->weight[i];
        if (p->uses[i].vector) {
            if (member == (int)(i % (size_t)members))
                unpack(t, (float *)(uintptr_t)w->data);
        } else if (w->packed) {
            pack_share(&m->weights[i], &p->uses[i], w, member, members);
        }
    }
}

static nb_status place_weights(nb_weights *w, const use *uses, nb_error *err)
{
    const nb_model_def *m = w->model;
    nb_memory memory = {0};
    NB_TRY(count_memory(m, w->plan, uses, &w->params, &memory, err));
    w->bytes = memory.weights_copied;
    w->memory = w->bytes ? nb_pages_alloc(w->bytes) : NULL;
    if (w->bytes && !w->memory)
        return nb_fail(err, NB_ERR_MEMORY,
                       "%s: no memory for %zu bytes of packed weights; --no-repack uses the file in place",
                       nb_gguf_path(m->gguf), w->bytes);
    char *next = w->memory;
    for (size_t i = 0; i < m->weight_count; i++) {
        size_t bytes = 0;
        if (!copy_bytes(m, i, &uses[i], &w->params, &bytes))
            return nb_fail(err, NB_ERR_INTERNAL, "weights changed size");
        const nb_gguf_tensor *t = m->weights[i].tensor;
        bool packed = bytes && !uses[i].vector;
        w->weight[i] = (nb_cpu_weight){bytes ? next : t->data, packed,
                                       (packed ? bytes : t->bytes) / matrices_of(t, &uses[i]),
                                       packed ? NULL : m->weights[i].each};
        if (bytes)
            next += bytes; /* there may be no memory at all */
    }
    for (size_t i = 0; i < w->plan->op_count; i++) {
        const nb_op *op = &w->plan->ops[i];
        size_t bytes = shared_key_bytes(w->plan, op);
        if (bytes) {
            w->shared_key[op->layer] = (float *)(void *)next;
            next += bytes;
        }
    }
    return NB_OK;
}

static void fill_shared_keys(nb_weights *w)
{
    for (size_t i = 0; i < w->plan->op_count; i++) {
        const nb_op *op = &w->plan->ops[i];
        if (op->kind == NB_OP_UNBIAS)
            nb_model_shared_key(w->model, op->layer, w->weight[op->bias].data, w->shared_key[op->layer]);
    }
}

/* the model file's pages of what was copied are not needed any more */
static void release_file_pages(const nb_weights *w, const use *uses)
{
    for (size_t i = 0; i < w->model->weight_count - w->model->adapter_weights; i++) {
        const nb_weight *weight = &w->model->weights[i];
        for (size_t e = 0;
             w->weight[i].packed && !uses[i].embedded && e < (weight->each ? (size_t)weight->tensor->dims[2] : 1);
             e++) {
            const nb_gguf_tensor *t = weight->each ? weight->each[e] : weight->tensor;
            nb_map_dont_need(nb_gguf_map(w->model->gguf, t->shard), (size_t)t->offset, t->bytes);
        }
    }
}

void nb_cpu_weights_free(nb_weights *w)
{
    if (!w)
        return;
    nb_team_free(w->team);
    nb_program_free(&w->program);
    nb_pages_free(w->memory, w->bytes);
    free(w->weight);
    free(w->shared_key);
    free(w);
}

static nb_status weights_fill(nb_weights *w, use *uses, nb_error *err)
{
    find_uses(w->plan, uses);
    NB_TRY(nb_cpu_lower(w->model, w->plan, &w->params, &w->program, err));
    NB_TRY(nb_team_new(w->params.threads, w->params.pin, &w->team, err));
    NB_TRY(place_weights(w, uses, err));
    nb_team_run(w->team, pack_member, &(packing){w, uses});
    fill_shared_keys(w);
    release_file_pages(w, uses);
    return NB_OK;
}

nb_status nb_cpu_weights_new(const nb_model_def *m, const nb_plan *plan, const nb_weights_params *params,
                             nb_weights **out, nb_error *err)
{
    *out = NULL;
    nb_weights *w = calloc(1, sizeof *w);
    use *uses = calloc(m->weight_count, sizeof *uses);
    if (w) {
        w->weight = calloc(m->weight_count, sizeof *w->weight);
        w->shared_key = calloc((size_t)m->h.layers, sizeof *w->shared_key);
    }
    nb_status status = NB_OK;
    if (!w || !uses || !w->weight || !w->shared_key)
        status = nb_fail(err, NB_ERR_MEMORY, "out of memory");
    else {
        w->model = m;
        w->plan = plan;
        w->params = *params;
        status = weights_fill(w, uses, err);
    }
    free(uses);
    if (status != NB_OK) {
        nb_cpu_weights_free(w);
        return status;
    }
    *out = w;
    return NB_OK;
}
