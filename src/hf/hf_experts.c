/* Experts: which layers have them, their matrices as one tensor, and rows of that tensor as they are asked for. Norms of heads,
 * one for each, are such a tensor too. */
#include <stdio.h>

#include "hf/hf_quant.h"

enum { EXPERTS = 4096, NAME = 256 };

/* ---- which layers ---- */

#define EXPERT_COUNT "num_experts|num_local_experts|n_routed_experts"

static bool is_listed(const nb_node *list, int block)
{
    for (const nb_node *n = list ? list->list.first : NULL; n; n = n->next)
        if (n->kind == '0' && n->num == (double)block)
            return true;
    return false;
}

nb_status nb_hf_is_sparse(const nb_hf *h, int block, bool *is, nb_error *err)
{
    uint64_t step = 1, experts = 0, first = strcmp(h->arch->model_type, "deepseek_v3") == 0 ? 3 : 0;
    NB_TRY(nb_hf_config_u64(h, EXPERT_COUNT, 0, EXPERTS, &experts, err));
    NB_TRY(nb_hf_config_u64(h, "decoder_sparse_step", 1, UINT32_MAX, &step, err));
    NB_TRY(nb_hf_config_u64(h, "first_k_dense_replace", 0, UINT32_MAX, &first, err));
    const nb_node *dense = nb_hf_config(h, "mlp_only_layers");
    if (dense && dense->kind != '[')
        return nb_tree_bad(&h->config, dense, err, NB_ERR_FORMAT, "is not a list of layers");
    *is = experts > 0 && !is_listed(dense, block) && ((uint64_t)block + 1) % step == 0 &&
          (uint64_t)block >= first;
    return NB_OK;
}

/* ---- names ---- */

/* one of the names of a row ("|" between them), up to its end: "%d" is the block, "%e" the expert */
static bool spell(const nb_hf *h, const char *name, int block, uint64_t expert, const char *end, char out[NAME])
{
    size_t n = 0;
    for (const char *c = name; *c && *c != '|'; c++) {
        int m = 0;
        if (*c == '~' && c == name)
            m = snprintf(out + n, NAME - n, "%s", h->prefix);
        else if (c[0] == '%' && (c[1] == 'd' || c[1] == 'e'))
            m = snprintf(out + n, NAME - n, "%llu",
                         *++c == 'd' ? (unsigned long long)block : (unsigned long long)expert);
        else
            m = snprintf(out + n, NAME - n, "%c", *c);
        if (m < 0 || (n += (size_t)m) >= NAME)
            return false;
    }
    int m = snprintf(out + n, NAME - n, "%s", end);
    return m >= 0 && n + (size_t)m < NAME;
}

static const nb_checkpoint_tensor *find_end(const nb_hf *h, const char *name, int block, uint64_t expert,
                                            const char *end)
{
    char spelt[NAME];
    return spell(h, name, block, expert, end, spelt) ? nb_checkpoint_find(h->checkpoint, nb_str_of(spelt)) : NULL;
}

/* The name is of one expert's, not of all. */
static bool is_each(const char *name)
{
    const char *hole = strstr(name, "%e");
    return hole && hole < name + strcspn(name, "|");
}

/* a matrix or a vector, quantized or not */
static const nb_checkpoint_tensor *find(const nb_hf *h, const char *name, int block, uint64_t expert)
{
    const nb_checkpoint_tensor *t = find_end(h, name, block, expert, ".weight");
    for (const char *const *e = h->quant ? h->quant->ends : NULL; e && *e && !t; e++)
        t = find_end(h, name, block, expert, *e);
    return t || is_each(name) ? t : find_end(h, name, block, expert, ""); /* parameters without a layer of their own */
}

static const char *next_name(const char *name)
{
    const char *bar = strchr(name, '|');
    return bar ? bar + 1 : NULL;
}

static nb_status absent(const nb_hf *h, const char *name, int block, uint64_t expert, nb_error *err)
{
    char spelt[NAME] = "";
    spell(h, name, block, expert, ".weight", spelt);
    return nb_fail(err, NB_ERR_FORMAT, "%s: has no tensor '%s', which %.*s needs; download the checkpoint again",
                   h->dir, spelt, NB_STR_ARG(h->class_name));
}

static nb_status bad_shape(const nb_checkpoint_tensor *t, nb_error *err, const char *what)
{
    return nb_fail(err, NB_ERR_FORMAT, "%s: tensor '%.*s' %s; it is not the one of this architecture", t->file,
                   NB_STR_ARG(t->name), what);
}

/* ---- stacks: from a tensor for each expert ---- */

/* The quantized matrices that `count` tensors are part of: none, when the first is of floats. load: they are linear layers,
 * which may be quantized on the way. */
static nb_status find_linears(nb_hf *h, const nb_checkpoint_tensor *const *from, uint64_t count, bool load,
                              nb_hf_stack *s, nb_error *err)
{
    const nb_hf_linear *first = NULL;
    if (h->quant)
        NB_TRY(h->quant->find(h, from[0], &first, err));
    if (!first && load)
        NB_TRY(nb_hf_load_find(h, "", from[0], &first, err));
    if (!first)
        return NB_OK;
    const nb_hf_linear **linear = NB_ARRAY(&h->arena, const nb_hf_linear *, count);
    if (!linear)
        return nb_fail_memory(err, "experts", count * sizeof *linear);
    linear[0] = first;
    for (uint64_t e = 1; e < count; e++) {
        NB_TRY(h->quant->find(h, from[e], &linear[e], err));
        if (!linear[e] || linear[e]->rows != first->rows || linear[e]->columns != first->columns)
            return bad_shape(from[e], err, "is unlike that of the first expert");
    }
    s->linear = linear;
    s->rows = first->rows;
    s->columns = first->columns;
    return NB_OK;
}

/* floats of n_dims each, all of one shape */
static nb_status check_each(uint32_t n_dims, nb_hf_stack *s, nb_error *err)
{
    const nb_checkpoint_tensor *first = s->each[0];
    if (first->n_dims != n_dims)
        return bad_shape(first, err, n_dims == 1 ? "is no vector" : "is no matrix");
    for (uint64_t e = 1; e < s->experts; e++)
        if (s->each[e]->n_dims != n_dims || s->each[e]->dtype != first->dtype ||
            memcmp(s->each[e]->dims, first->dims, n_dims * sizeof *first->dims) != 0)
            return bad_shape(s->each[e], err, "is unlike that of the first expert or head");
    s->rows = n_dims == 1 ? 1 : first->dims[0];
    s->columns = first->dims[n_dims - 1];
    return NB_OK;
}

static nb_status take_each(nb_hf *h, const char *name, int block, uint32_t n_dims, nb_hf_stack *s, nb_error *err)
{
    const nb_checkpoint_tensor **each = NB_ARRAY(&h->arena, const nb_checkpoint_tensor *, s->experts);
    if (!each)
        return nb_fail_memory(err, "experts", s->experts * sizeof *each);
    for (uint64_t e = 0; e < s->experts; e++) {
        each[e] = find(h, name, block, e);
        if (!each[e])
            return absent(h, name, block, e, err);
    }
    s->each = each;
    if (n_dims == 2)
        NB_TRY(find_linears(h, each, s->experts, false, s, err));
    return s->linear ? NB_OK : check_each(n_dims, s, err);
}

/* ---- and from one tensor of all; a matrix is of the one that all tokens pass ---- */

/* which of its rows, or of a bias's values, a row of the table has: all, a half, or every second */
static bool take_half(nb_hf_change change, uint64_t all, nb_hf_stack *s)
{
    bool mixed = change == NB_HF_EXPERTS_EVEN || change == NB_HF_EXPERTS_ODD;
    bool pair = mixed || change == NB_HF_EXPERTS_GATE || change == NB_HF_EXPERTS_UP;
    bool second = change == NB_HF_EXPERTS_UP || change == NB_HF_EXPERTS_ODD;
    s->source_rows = all;
    s->rows = all / (pair ? 2 : 1);
    s->step = mixed ? 2 : 1;
    s->first = !second ? 0 : mixed ? 1 : s->rows;
    return all > 0 && (!pair || all % 2 == 0);
}

/* Rows of quantized matrices: they are the outputs always. */
static nb_status take_quantized(nb_hf_change change, const nb_checkpoint_tensor *t, nb_hf_stack *s, nb_error *err)
{
    uint64_t all = s->linear[0]->rows;
    bool other = t->n_dims > 2 && t->dims[0] != s->experts;
    if (other || all % s->experts != 0 || !take_half(change, all / s->experts, s))
        return bad_shape(t, err, "does not have a matrix for each expert");
    return NB_OK;
}

static nb_status take_all(nb_hf *h, const nb_checkpoint_tensor *t, nb_hf_change change, nb_hf_stack *s, nb_error *err)
{
    bool turned = change >= NB_HF_EXPERTS_TURNED, single = t->n_dims == 2;
    uint32_t row = turned ? t->n_dims - 1 : t->n_dims - 2, column = turned ? t->n_dims - 2 : t->n_dims - 1;
    if (single)
        s->experts = 1;
    NB_TRY(find_linears(h, &t, 1, single, s, err));
    if (s->linear)
        return take_quantized(change, t, s, err);
    if ((!single && (t->n_dims != 3 || t->dims[0] != s->experts)) || !take_half(change, t->dims[row], s))
        return bad_shape(t, err, "does not have a matrix for each expert");
    s->columns = t->dims[column];
    s->view = *t;
    s->view.contiguous = t->contiguous && !turned && s->rows == s->source_rows;
    s->view.n_dims = 3;
    memcpy(s->view.dims, (uint64_t[]){s->experts, s->rows, s->columns}, 3 * sizeof *s->view.dims);
    memcpy(s->view.stride, (uint64_t[]){single ? 0 : t->stride[0], t->stride[row] * s->step, t->stride[column]},
           3 * sizeof *s->view.stride);
    s->view.data = (const char *)t->data + s->first * t->stride[row] * nb_dtype_bytes(t->dtype);
    return NB_OK;
}

static nb_status take_bias(const nb_checkpoint_tensor *t, nb_hf_change change, nb_hf_stack *s, nb_error *err)
{
    if (t->n_dims != 2 || t->dims[0] != s->experts || !take_half(change, t->dims[1], s))
        return bad_shape(t, err, "does not have a vector for each expert");
    s->columns = s->rows;
    s->rows = 1;
    s->view = *t;
    s->view.contiguous = false;
    s->view.dims[1] = s->columns;
    s->view.stride[1] = t->stride[1] * s->step;
    s->view.data = (const char *)t->data + s->first * t->stride[1] * nb_dtype_bytes(t->dtype);
    return NB_OK;
}

/* ---- the tensor that they become ---- */

/* A type that holds the rows of both, which are of one checkpoint and form; NULL: none does. */
static const nb_type_info *type_of_both(const nb_hf_linear *l, const nb_type_info *a, const nb_type_info *b)
{
    bool blocks = a->block_values == 32 && b->block_values == 32;
    bool eight = a->id == NB_TYPE_Q8_0 || b->id == NB_TYPE_Q8_0;
    if (a == b)
        return a;
    if (!l->codes)
        return NULL;
    return nb_type_get(blocks ? (eight ? NB_TYPE_Q8_0 : NB_TYPE_Q4_1) : NB_TYPE_F32);
}

static const nb_type_info *type_of(const nb_hf *h, const nb_checkpoint_tensor *t, const nb_hf_stack *s)
{
    nb_hf_form form = nb_hf_form_of(&h->params);
    const nb_type_info *type = s->linear ? nb_hf_linear_type(s->linear[0], form) : nb_hf_type_of(t->dtype);
    for (uint64_t e = 1; s->linear && s->each && type && e < s->experts; e++)
        type = type_of_both(s->linear[e], type, nb_hf_linear_type(s->linear[e], form));
    return type;
}

static nb_status add_stack(nb_hf *h, const nb_hf_tensor_row *row, int block, const nb_checkpoint_tensor *t, bool vector,
                           bool bias, nb_hf_stack *s, nb_error *err)
{
    char name[NAME];
    nb_hf_made made = {.from = t, .change = row->change, .stack = s};
    if (!spell(h, row->gguf, block, 0, bias ? ".bias" : ".weight", name))
        return nb_fail(err, NB_ERR_INTERNAL, "%s: the name of a tensor is too long", row->gguf);
    nb_source_tensor out = {.name = nb_str_of(name),
                            .type = type_of(h, t, s),
                            .n_dims = t->n_dims == 2 && !s->each ? 2 : 3,
                            .dims = {s->columns, s->rows, s->experts, 1}};
    if (!out.type)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: tensor '%.*s' holds %s, not floating-point numbers, or is quantized unlike other experts; "
                       "convert the checkpoint it was made from",
                       t->file, NB_STR_ARG(t->name), nb_dtype_name(t->dtype));
    if (vector) {
        out.type = nb_type_get(NB_TYPE_F32);
        out.n_dims = 2;
        out.dims[1] = s->experts;
        out.dims[2] = 1;
    }
    out.name.p = nb_arena_strdup(&h->arena, out.name);
    if (!out.name.p)
        return nb_fail_memory(err, "tensors", out.name.n);
    if (t->values == 0)
        return bad_shape(t, err, "is empty");
    return nb_hf_add(h, &out, &made, err);
}

/* as many as there are: what reads the file knows how many heads there must be */
static nb_status bind_heads(nb_hf *h, const nb_hf_tensor_row *row, int block, nb_hf_stack *s, nb_error *err)
{
    const nb_checkpoint_tensor *first = find(h, row->hf, block, 0);
    while (s->experts < EXPERTS && find(h, row->hf, block, s->experts))
        s->experts++;
    if (!first)
        return row->flags & NB_HF_OPTIONAL ? NB_OK : absent(h, row->hf, block, 0, err);
    NB_TRY(take_each(h, row->hf, block, 1, s, err));
    return add_stack(h, row, block, first, true, false, s, err);
}

static nb_status bind_bias(nb_hf *h, const nb_hf_tensor_row *row, int block, nb_error *err)
{
    const nb_checkpoint_tensor *t = find_end(h, row->hf, block, 0, "_bias");
    nb_hf_stack *s = NB_NEW(&h->arena, nb_hf_stack);
    if (!s)
        return nb_fail_memory(err, "experts", sizeof *s);
    if (!t)
        return NB_OK;
    NB_TRY(nb_hf_config_u64(h, EXPERT_COUNT, 1, EXPERTS, &s->experts, err));
    NB_TRY(take_bias(t, row->change, s, err));
    return add_stack(h, row, block, t, true, true, s, err);
}

nb_status nb_hf_bind_experts(nb_hf *h, const nb_hf_tensor_row *row, int block, nb_error *err)
{
    nb_hf_stack *s = NB_NEW(&h->arena, nb_hf_stack);
    if (!s)
        return nb_fail_memory(err, "experts", sizeof *s);
    if (row->change == NB_HF_HEADS)
        return bind_heads(h, row, block, s, err);
    NB_TRY(nb_hf_config_u64(h, EXPERT_COUNT, 0, EXPERTS, &s->experts, err)); /* 0: halves of a matrix in a dense model */
    for (const char *name = row->hf; name; name = next_name(name)) {
        const nb_checkpoint_tensor *t = find(h, name, block, 0);
        if (!t)
            continue;
        if (s->experts == 0 && (is_each(name) || t->n_dims != 2))
            return bad_shape(t, err, "is of experts, of which config.json has none");
        NB_TRY(is_each(name) ? take_each(h, name, block, 2, s, err) : take_all(h, t, row->change, s, err));
        NB_TRY(add_stack(h, row, block, t, false, false, s, err));
        return row->flags & NB_HF_BIAS_OPTIONAL ? bind_bias(h, row, block, err) : NB_OK;
    }
    return row->flags & NB_HF_OPTIONAL ? NB_OK : absent(h, row->hf, block, 0, err);
}

/* ---- rows ---- */

/* rows [at, at + count) of an expert */
static nb_status read_rows(const nb_source_tensor *out, const nb_hf_stack *s, uint64_t expert, uint64_t at,
                           uint64_t count, size_t row_bytes, char *dst, nb_error *err)
{
    if (!s->linear) {
        const nb_checkpoint_tensor *t = s->each ? s->each[expert] : &s->view;
        nb_hf_read_values(out, t, (s->each ? at : expert * s->rows + at) * s->columns, count * s->columns, dst);
        return NB_OK;
    }
    if (s->each)
        return nb_hf_linear_read(s->linear[expert], at, count, out->type, dst, err);
    uint64_t first = expert * s->source_rows + s->first + at * s->step, n = s->step == 1 ? count : 1;
    for (uint64_t r = 0; r < count; r += n)
        NB_TRY(nb_hf_linear_read(s->linear[0], first + r * s->step, n, out->type, dst + r * row_bytes, err));
    return NB_OK;
}

/* Rows count over all experts, one after the other. */
nb_status nb_hf_read_stack(const nb_source_tensor *out, const nb_hf_made *made, uint64_t row, uint64_t count, char *dst,
                           nb_error *err)
{
    const nb_hf_stack *s = made->stack;
    size_t row_bytes = s->columns / out->type->block_values * out->type->block_bytes;
    while (count > 0) {
        uint64_t expert = row / s->rows, at = row % s->rows, n = s->rows - at < count ? s->rows - at : count;
        NB_TRY(read_rows(out, s, expert, at, n, row_bytes, dst, err));
        row += n, count -= n, dst += n * row_bytes;
    }
    return NB_OK;
}

void nb_hf_forget_stack(const nb_hf *h, const nb_hf_made *made, uint64_t row, uint64_t count)
{
    const nb_hf_stack *s = made->stack;
    while (s->each && count > 0) { /* of one tensor for all the other half is needed yet */
        uint64_t at = row % s->rows, n = s->rows - at < count ? s->rows - at : count;
        const nb_checkpoint_tensor *t = s->each[row / s->rows];
        if (!s->linear)
            nb_checkpoint_forget(h->checkpoint, t, at * s->columns, n * s->columns);
        else if (at + n == s->rows) /* codes may lie down the columns: all were needed to the last row */
            nb_checkpoint_forget(h->checkpoint, t, 0, t->values);
        row += n, count -= n;
    }
}
