#include "model/adapt.h"

#include <math.h>
#include <stdio.h>

enum {
    MOST_RANKS = 16,   /* different ones: each takes a buffer for tokens and one for wanted outputs */
    MOST_PARTS = 3,    /* roles that share a tensor */
    MOST_LAYERS = 9999 /* in a name */
};

/* ---- room ---- */

/* The arrays of weights and pairs with room for `pairs` more. */
static nb_status grow(nb_model_def *m, const nb_adapter *a, nb_error *err)
{
    size_t more = 0, weights = 0;
    if (!nb_mul(a->count, 2 * MOST_PARTS, &more) || !nb_add(m->weight_count, more, &weights))
        return nb_fail_memory(err, a->path, SIZE_MAX);
    nb_weight *w = NB_ARRAY(&m->arena, nb_weight, weights);
    nb_adapted *pairs = NB_ARRAY(&m->arena, nb_adapted, m->adapted_count + MOST_PARTS * a->count);
    if (!w || !pairs)
        return nb_fail_memory(err, a->path, weights * sizeof *w);
    memcpy(w, m->weights, m->weight_count * sizeof *w);
    if (m->adapted_count)
        memcpy(pairs, m->adapted, m->adapted_count * sizeof *pairs);
    m->weights = w;
    m->adapted = pairs;
    return NB_OK;
}

static int add_weight(nb_model_def *m, const nb_gguf_tensor *t, int layer)
{
    m->weights[m->weight_count] = (nb_weight){.tensor = t, .role = NB_ROLES, .layer = layer};
    m->adapter_weights++;
    return (int)m->weight_count++;
}

/* ---- which matrix ---- */

/* the N of "blk.N.", -1: of the whole model */
static int layer_of(nb_str name)
{
    int layer = 0;
    if (!nb_str_starts(name, NB_STR("blk.")))
        return -1;
    for (size_t i = 4; i < name.n && name.p[i] >= '0' && name.p[i] <= '9' && layer <= MOST_LAYERS; i++)
        layer = layer * 10 + (name.p[i] - '0');
    return layer;
}

static bool is_row(const nb_tensor_row *row, int layer, nb_str name)
{
    char text[96];
    if (row->rows == NB_DIM_NONE || (layer >= 0) != ((row->flags & NB_TENSOR_LAYER) != 0))
        return false;
    int n = snprintf(text, sizeof text, row->name, layer);
    return n > 0 && (size_t)n < sizeof text && nb_str_eq(name, (nb_str){text, (size_t)n});
}

/* the weight that a row stands for; a head that is the token embedding's is that, where it is multiplied */
static int weight_of(const nb_model_def *m, const nb_tensor_row *row, int layer)
{
    int id = nb_model_weight(m, layer, row->role);
    return id < 0 && row->role == NB_OUTPUT ? nb_model_weight(m, -1, NB_TOKEN_EMBD) : id;
}

typedef struct binding {
    nb_model_def *m;
    const nb_adapter *adapter;
    const nb_adapter_pair *pair;
    float scale;
    int layer, a;         /* a: the weight of A, -1: not yet */
    const nb_weight *saw; /* of that name, whether it fits or not */
} binding;

static nb_status refuse(const binding *b, nb_error *err, const char *why)
{
    return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: tensor '%.*s' is for '%.*s': %s", b->adapter->path,
                   NB_STR_ARG(b->pair->a->name), NB_STR_ARG(b->pair->name), why);
}

static nb_status wrong_shape(const binding *b, const nb_gguf_tensor *t, nb_error *err)
{
    return nb_fail(
        err, NB_ERR_FORMAT,
        "%s: tensors '%.*s' and '%.*s' make a matrix of %llu x %llu, but '%.*s' of %s is %llu x %llu; give the "
        "model that the adapter was trained on",
        b->adapter->path, NB_STR_ARG(b->pair->a->name), NB_STR_ARG(b->pair->b->name),
        (unsigned long long)b->pair->a->dims[0], (unsigned long long)b->pair->b->dims[1], NB_STR_ARG(b->pair->name),
        nb_gguf_path(b->m->gguf), (unsigned long long)t->dims[0], (unsigned long long)t->dims[1]);
}

/* the rows of B that are a part's */
static const nb_gguf_tensor *rows_of_b(const binding *b, const nb_tensor_row *row)
{
    const nb_gguf_tensor *whole = b->pair->b;
    if (!row->whole)
        return whole;
    size_t row_bytes = 0, first = 0;
    for (int i = 0; i < 2; i++)
        first += row->after[i] ? (size_t)nb_model_dim(b->m, row->after[i]) : 0;
    nb_gguf_tensor *part = NB_NEW(&b->m->arena, nb_gguf_tensor);
    if (!part || !nb_type_row_bytes(whole->type, whole->dims[0], &row_bytes))
        return NULL;
    *part = *whole;
    part->dims[1] = nb_model_dim(b->m, row->rows);
    part->bytes = (size_t)part->dims[1] * row_bytes;
    part->offset += first * row_bytes;
    part->data = (const char *)whole->data + first * row_bytes;
    return part;
}

/* Binds the pair, or its rows, to the weight of a row of the table. *bound: it fits this row. */
static nb_status bind_row(binding *b, const nb_tensor_row *row, bool *bound, nb_error *err)
{
    int id = weight_of(b->m, row, b->layer);
    const nb_gguf_tensor *t = id < 0 ? NULL : b->m->weights[id].tensor;
    if (row->role == NB_TOKEN_EMBD || row->role == NB_POSITION_EMBD || row->role == NB_TOKEN_TYPES)
        return refuse(b, err, "adapters of embeddings are not supported; merge it where it was trained");
    if (!t)
        return NB_OK;
    b->saw = &b->m->weights[id];
    if (t->dims[2] * t->dims[3] != 1)
        return refuse(b, err, "adapters of experts are not supported; merge it where it was trained");
    uint64_t rows = row->whole ? nb_model_dim(b->m, row->whole) : t->dims[1];
    if (b->pair->b->dims[1] != rows || b->pair->a->dims[0] != t->dims[0])
        return NB_OK;
    const nb_gguf_tensor *part = rows_of_b(b, row);
    if (!part)
        return nb_fail_memory(err, b->adapter->path, sizeof *part);
    if (b->a < 0)
        b->a = add_weight(b->m, b->pair->a, b->layer);
    int own = add_weight(b->m, part, b->layer);
    b->m->adapted[b->m->adapted_count++] = (nb_adapted){id, b->a, own, b->scale * b->pair->scale};
    *bound = true;
    return NB_OK;
}

static nb_status bind_pair(binding *b, nb_error *err)
{
    bool known = false, bound = false;
    b->layer = layer_of(b->pair->name);
    b->a = -1;
    b->saw = NULL;
    if (b->layer < b->m->h.layers)
        for (const nb_tensor_row *row = b->m->arch->tensors; row->name; row++)
            if (is_row(row, b->layer, b->pair->name)) {
                known = true;
                NB_TRY(bind_row(b, row, &bound, err));
            }
    if (bound)
        return NB_OK;
    if (known && b->saw)
        return wrong_shape(b, b->saw->tensor, err);
    return nb_fail(err, NB_ERR_ARGUMENT,
                   "%s: tensor '%.*s' is for '%.*s', which is no matrix of %s (%s, %d layers); give the model that the "
                   "adapter was trained on",
                   b->adapter->path, NB_STR_ARG(b->pair->a->name), NB_STR_ARG(b->pair->name), nb_gguf_path(b->m->gguf),
                   b->m->arch->name, b->m->h.layers);
}

/* ---- all of an adapter ---- */

static uint64_t rank_of(const nb_model_def *m, size_t i) { return m->weights[m->adapted[i].a].tensor->dims[1]; }

static nb_status check_ranks(const nb_model_def *m, const nb_adapter *a, nb_error *err)
{
    uint64_t ranks[MOST_RANKS];
    size_t count = 0;
    for (size_t i = 0; i < m->adapted_count; i++) {
        size_t j = 0;
        while (j < count && ranks[j] != rank_of(m, i))
            j++;
        if (j == MOST_RANKS)
            return nb_fail(err, NB_ERR_LIMIT,
                           "%s: adapters of more than %d different ranks together; merge some of them (nibble convert "
                           "--merge)",
                           a->path, MOST_RANKS);
        ranks[j] = rank_of(m, i);
        count = nb_max_size(count, j + 1);
    }
    return NB_OK;
}

nb_status nb_model_adapt(nb_model_def *m, const nb_adapter *a, float scale, nb_error *err)
{
    binding b = {.m = m, .adapter = a, .scale = scale};
    if (!nb_str_eqz(a->architecture, m->arch->name))
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: is an adapter of a %.*s model, and %s is %s", a->path,
                       NB_STR_ARG(a->architecture), nb_gguf_path(m->gguf), m->arch->name);
    if (!isfinite(scale))
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: a scale of %g; give a number", a->path, (double)scale);
    NB_TRY(grow(m, a, err));
    for (size_t i = 0; i < a->count; i++) {
        b.pair = &a->pairs[i];
        if (!isfinite(scale * b.pair->scale))
            return nb_fail(err, NB_ERR_ARGUMENT, "%s: a scale of %g times alpha is too large", a->path, (double)scale);
        NB_TRY(bind_pair(&b, err));
    }
    return check_ranks(m, a, err);
}

/* ---- the plan ---- */

/* a buffer of that width, shared by all pairs of that rank */
static int rank_buffer(nb_plan *p, size_t rank, bool outputs)
{
    static const char name[] = "adapter", of_outputs[] = "out_adapter";
    for (int i = 0; i < p->buffer_count; i++)
        if ((p->buffers[i].name == name || p->buffers[i].name == of_outputs) && p->buffers[i].width == rank &&
            p->buffers[i].outputs == outputs)
            return i;
    return nb_plan_buffer_new(p, outputs ? of_outputs : name, rank, outputs);
}

/* The buffer holds scale * a in already: the parts of a fused tensor share their A. */
static bool is_there(const nb_plan *p, const nb_op *a, float scale)
{
    bool scaled = scale == 1;
    for (size_t i = p->op_count; i-- > 0 && p->ops[i].layer == a->layer && p->ops[i].out != a->in;) {
        const nb_op *op = &p->ops[i];
        if (op->out != a->out)
            continue;
        if (op->kind == NB_OP_MATMUL)
            return scaled && op->weight == a->weight && op->in == a->in;
        if (op->kind != NB_OP_SCALE || op->scale != scale)
            return false;
        scaled = true;
    }
    return false;
}

/* the buffer = scale * a in */
static void emit_a(nb_plan *p, const nb_op *a, float scale)
{
    if (is_there(p, a, scale))
        return;
    nb_emit_op(p, *a);
    nb_op op = {.kind = NB_OP_SCALE, .layer = a->layer, .in2 = -1, .weight = -1, .bias = -1, .scale = scale};
    op.in = op.out = a->out;
    if (scale != 1)
        nb_emit_op(p, op);
}

void nb_emit_adapted(nb_plan *p, const nb_model_def *m, const nb_op *product)
{
    for (size_t i = 0; i < m->adapted_count; i++) {
        const nb_adapted *pair = &m->adapted[i];
        if (pair->weight != product->weight || pair->scale == 0 || p->failed)
            continue;
        nb_op op = {.kind = NB_OP_MATMUL, .layer = product->layer, .in = product->in, .in2 = -1, .bias = -1};
        int buffer = rank_buffer(p, (size_t)rank_of(m, i), p->buffers[product->out].outputs);
        op.out = buffer;
        op.weight = pair->a;
        emit_a(p, &op, pair->scale);
        op.in = buffer;
        op.out = product->out;
        op.weight = pair->b;
        op.add = true;
        nb_emit_op(p, op);
    }
}

nb_status nb_plan_check_adapted(const nb_plan *p, const nb_model_def *m, nb_error *err)
{
    for (size_t i = 0; i < m->adapted_count; i++) {
        bool found = m->adapted[i].scale == 0;
        for (size_t k = 0; k < p->op_count && !found; k++)
            found = p->ops[k].kind == NB_OP_MATMUL && p->ops[k].weight == m->adapted[i].b;
        if (!found)
            return nb_fail(
                err, NB_ERR_UNSUPPORTED,
                "%s: tensor '%.*s' has an adapter, but %s models do not use it as a matrix; merge the adapter "
                "where it was trained",
                nb_gguf_path(m->gguf), NB_STR_ARG(m->weights[m->adapted[i].weight].tensor->name), m->arch->name);
    }
    return NB_OK;
}
