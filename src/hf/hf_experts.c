/* Experts: which layers have them, their matrices as one tensor, and rows of that tensor as they are asked for. Norms of heads,
 * one for each, are such a tensor too. */
#include <stdio.h>

#include "hf/hf_quant.h"

enum { EXPERTS = 4096, NAME = 256 };

/* ---- which layers ---- */

#define EXPERT_COUNT "num_experts|num_local_experts"

static bool is_listed(const nb_node *list, int block)
{
    for (const nb_node *n = list ? list->list.first : NULL; n; n = n->next)
        if (n->kind == '0' && n->num == (double)block)
            return true;
    return false;
}

nb_status nb_hf_is_sparse(const nb_hf *h, int block, bool *is, nb_error *err)
{
    uint64_t step = 1, experts = 0;
    NB_TRY(nb_hf_config_u64(h, EXPERT_COUNT, 0, EXPERTS, &experts, err));
    NB_TRY(nb_hf_config_u64(h, "decoder_sparse_step", 1, UINT32_MAX, &step, err));
    const nb_node *dense = nb_hf_config(h, "mlp_only_layers");
    if (dense && dense->kind != '[')
        return nb_tree_bad(&h->config, dense, err, NB_ERR_FORMAT, "is not a list of layers");
    *is = experts > 0 && !is_listed(dense, block) && ((uint64_t)block + 1) % step == 0;
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
            m = snprintf(out + n, NAME - n, "%llu", *++c == 'd' ? (unsigned long long)block : (unsigned long long)expert);
        else
            m = snprintf(out + n, NAME - n, "%c", *c);
        if (m < 0 || (n += (size_t)m) >= NAME)
            return false;
    }
    int m = snprintf(out + n, NAME - n, "%s", end);
    return m >= 0 && n + (size_t)m < NAME;
}

static const nb_checkpoint_tensor *find(const nb_hf *h, const char *name, int block, uint64_t expert)
{
    char spelt[NAME];
    const nb_checkpoint_tensor *t = NULL;
    if (spell(h, name, block, expert, ".weight", spelt))
        t = nb_checkpoint_find(h->checkpoint, nb_str_of(spelt));
    if (!t && !strstr(name, "%e") && spell(h, name, block, expert, "", spelt)) /* parameters without a layer of their own */
        t = nb_checkpoint_find(h->checkpoint, nb_str_of(spelt));
    return t;
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

/* ---- stacks ---- */

/* a tensor of n_dims for each expert */
static nb_status take_each(nb_hf *h, const char *name, int block, const nb_checkpoint_tensor *first, uint32_t n_dims,
                           nb_hf_stack *s, nb_error *err)
{
    const nb_checkpoint_tensor **each = NB_ARRAY(&h->arena, const nb_checkpoint_tensor *, s->experts);
    if (!each)
        return nb_fail_memory(err, "experts", s->experts * sizeof *each);
    if (first->n_dims != n_dims)
        return bad_shape(first, err, n_dims == 1 ? "is no vector" : "is no matrix");
    for (uint64_t e = 0; e < s->experts; e++) {
        each[e] = find(h, name, block, e);
        if (!each[e])
            return absent(h, name, block, e, err);
        if (each[e]->n_dims != n_dims || each[e]->dtype != first->dtype ||
            memcmp(each[e]->dims, first->dims, n_dims * sizeof *first->dims) != 0)
            return bad_shape(each[e], err, "is unlike that of the first expert or head");
    }
    s->each = each;
    s->rows = n_dims == 1 ? 1 : first->dims[0];
    s->columns = first->dims[n_dims - 1];
    return NB_OK;
}

/* one tensor of all; where it holds gate and up, the row's half. A matrix is of the one that all tokens pass */
static nb_status take_fused(const nb_checkpoint_tensor *t, nb_hf_change change, nb_hf_stack *s, nb_error *err)
{
    bool pair = change != NB_HF_EXPERTS;
    bool single = t->n_dims == 2;
    if (single)
        s->experts = 1;
    uint64_t rows = single ? t->dims[0] : t->n_dims == 3 ? t->dims[1] : 0;
    if (rows == 0 || (!single && t->dims[0] != s->experts) || (pair && rows % 2 != 0))
        return bad_shape(t, err, "does not have a matrix for each expert");
    s->source_rows = rows;
    s->rows = rows / (pair ? 2 : 1);
    s->columns = t->dims[t->n_dims - 1];
    s->first = change == NB_HF_EXPERTS_UP ? s->rows : 0;
    return NB_OK;
}

static nb_status add_stack(nb_hf *h, const nb_hf_tensor_row *row, int block, const nb_checkpoint_tensor *t,
                           nb_hf_stack *s, nb_error *err)
{
    char name[NAME];
    nb_hf_made made = {.from = t, .change = row->change, .stack = s};
    const nb_hf_linear *linear = NULL;
    if (!spell(h, row->gguf, block, 0, ".weight", name))
        return nb_fail(err, NB_ERR_INTERNAL, "%s: the name of a tensor is too long", row->gguf);
    nb_source_tensor out = {.name = nb_str_of(name),
                            .type = nb_hf_type_of(t->dtype),
                            .n_dims = t->n_dims == 2 && !s->each ? 2 : 3,
                            .dims = {s->columns, s->rows, s->experts, 1}};
    if (row->change == NB_HF_HEADS && out.type) {
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
    if (h->quant)
        NB_TRY(h->quant->find(h, t, &linear, err));
    if (!out.type || linear)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: tensor '%.*s' holds %s, not floating-point numbers: experts that are quantized already are "
                       "not read; convert the checkpoint they were made from",
                       t->file, NB_STR_ARG(t->name), nb_dtype_name(t->dtype));
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
    NB_TRY(take_each(h, row->hf, block, first, 1, s, err));
    return add_stack(h, row, block, first, s, err);
}

nb_status nb_hf_bind_experts(nb_hf *h, const nb_hf_tensor_row *row, int block, nb_error *err)
{
    nb_hf_stack *s = NB_NEW(&h->arena, nb_hf_stack);
    if (!s)
        return nb_fail_memory(err, "experts", sizeof *s);
    if (row->change == NB_HF_HEADS)
        return bind_heads(h, row, block, s, err);
    NB_TRY(nb_hf_config_u64(h, EXPERT_COUNT, 1, EXPERTS, &s->experts, err));
    for (const char *name = row->hf; name; name = next_name(name)) {
        const nb_checkpoint_tensor *t = find(h, name, block, 0);
        if (!t)
            continue;
        bool each = strstr(name, "%e") && (!strchr(name, '|') || strstr(name, "%e") < strchr(name, '|'));
        NB_TRY(each ? take_each(h, name, block, t, 2, s, err) : take_fused(t, row->change, s, err));
        return add_stack(h, row, block, t, s, err);
    }
    return row->flags & NB_HF_OPTIONAL ? NB_OK : absent(h, row->hf, block, 0, err);
}

/* ---- rows ---- */

/* Rows count over all experts, one after the other. */
void nb_hf_read_stack(const nb_source_tensor *out, const nb_hf_made *made, uint64_t row, uint64_t count, char *dst)
{
    const nb_hf_stack *s = made->stack;
    size_t row_bytes = s->columns * out->type->block_bytes;
    while (count > 0) {
        uint64_t expert = row / s->rows, at = row % s->rows, n = s->rows - at < count ? s->rows - at : count;
        const nb_checkpoint_tensor *t = s->each ? s->each[expert] : made->from;
        uint64_t first = s->each ? at : expert * s->source_rows + s->first + at;
        nb_hf_read_values(out, t, first * s->columns, n * s->columns, dst);
        row += n, count -= n, dst += n * row_bytes;
    }
}

void nb_hf_forget_stack(const nb_hf *h, const nb_hf_made *made, uint64_t row, uint64_t count)
{
    const nb_hf_stack *s = made->stack;
    while (s->each && count > 0) { /* the halves of a fused one lie beside each other: the other is needed yet */
        uint64_t at = row % s->rows, n = s->rows - at < count ? s->rows - at : count;
        nb_checkpoint_forget(h->checkpoint, s->each[row / s->rows], at * s->columns, n * s->columns);
        row += n, count -= n;
    }
}
