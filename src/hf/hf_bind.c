/* The tensors of a checkpoint under GGUF's names, and their rows as GGUF wants them. */
#include <stdio.h>
#include <stdlib.h>

#include "hf/hf_quant.h"
#include "hf/hf_rows.h"
#include "hf/hf_wrapped.h"

/* ---- which tensors ---- */

const nb_type_info *nb_hf_type_of(nb_dtype dtype)
{
    switch (dtype) {
    case NB_DTYPE_F16: return nb_type_get(NB_TYPE_F16);
    case NB_DTYPE_BF16:
    case NB_DTYPE_F8_E4M3: /* all their values are numbers of BF16 */
    case NB_DTYPE_F8_E5M2: return nb_type_get(NB_TYPE_BF16);
    case NB_DTYPE_F32:
    case NB_DTYPE_F64: return nb_type_get(NB_TYPE_F32);
    default: return NULL;
    }
}

static bool ends_in(nb_str s, nb_str end) { return s.n >= end.n && memcmp(s.p + s.n - end.n, end.p, end.n) == 0; }

static nb_status grow(nb_hf *h, nb_error *err)
{
    if (h->source.tensor_count < h->tensor_cap)
        return NB_OK;
    size_t cap = h->tensor_cap ? h->tensor_cap * 2 : 256;
    nb_source_tensor *tensors = realloc(h->tensors, cap * sizeof *tensors);
    if (!tensors)
        return nb_fail_memory(err, "tensors", cap * sizeof *tensors);
    h->tensors = tensors;
    h->source.tensors = tensors;
    nb_hf_made *made = realloc(h->made, cap * sizeof *made);
    if (!made)
        return nb_fail_memory(err, "tensors", cap * sizeof *made);
    h->made = made;
    h->tensor_cap = cap;
    return NB_OK;
}

nb_status nb_hf_add(nb_hf *h, const nb_source_tensor *tensor, const nb_hf_made *made, nb_error *err)
{
    NB_TRY(grow(h, err));
    h->made[h->source.tensor_count] = *made;
    h->tensors[h->source.tensor_count++] = *tensor;
    return NB_OK;
}

static nb_status bad_shape(const nb_checkpoint_tensor *t, nb_error *err, const char *what)
{
    return nb_fail(err, NB_ERR_FORMAT, "%s: tensor '%.*s' %s; it is not the one of this architecture", t->file,
                   NB_STR_ARG(t->name), what);
}

/* rows of a head for the permutations */
static nb_status head_rows(const nb_hf *h, const nb_checkpoint_tensor *t, nb_hf_change change, uint64_t all, uint64_t *rows,
                           nb_error *err)
{
    uint64_t heads = 1;
    NB_TRY(nb_hf_config_u64(h, "num_attention_heads|n_head|n_heads", 1, 1 << 16, &heads, err));
    if (change == NB_HF_PERMUTE_K)
        NB_TRY(nb_hf_config_u64(h, "num_key_value_heads|n_kv_heads", 1, 1 << 16, &heads, err));
    if (all % (heads * 2) != 0)
        return bad_shape(t, err, "cannot be cut into heads of an even number of rows");
    *rows = all / heads;
    return NB_OK;
}

/* what the rows say: heads of queries as many as config.json has, and a key and a value for each group of them */
static nb_status set_groups(const nb_hf *h, const nb_checkpoint_tensor *t, uint64_t rows, nb_hf_made *made,
                            nb_error *err)
{
    uint64_t heads = 1;
    NB_TRY(nb_hf_head_dim(h, &made->head, err));
    NB_TRY(nb_hf_config_u64(h, "num_attention_heads|n_head|n_heads", 1, 1 << 16, &heads, err));
    uint64_t all = rows / made->head;
    if (rows % made->head != 0 || all <= heads || (all - heads) % 2 != 0 || heads % ((all - heads) / 2) != 0)
        return bad_shape(t, err, "cannot be cut into heads of queries, keys and values");
    made->groups = (all - heads) / 2;
    made->queries = heads / made->groups;
    if (made->groups == 1) /* they are in order */
        made->change = NB_HF_AS_IS;
    return NB_OK;
}

/* the rows of one of the three, and where they begin */
static nb_status set_split(const nb_hf *h, unsigned flags, uint64_t *rows, nb_hf_made *made, nb_error *err)
{
    nb_hf_change change = made->change;
    NB_TRY(set_groups(h, made->from, *rows, made, err));
    uint64_t keys = made->groups * made->head, queries = keys * made->queries;
    if (made->head % 2 != 0)
        return bad_shape(made->from, err, "cannot be cut into heads of an even number of rows");
    made->change = change;
    made->first = change == NB_HF_SPLIT_Q ? 0 : change == NB_HF_SPLIT_K ? queries : queries + keys;
    *rows = change == NB_HF_SPLIT_Q ? queries : keys;
    if (flags & NB_HF_IN_ORDER)
        made->groups = 1;
    return NB_OK;
}

static nb_status set_quarter(uint64_t *rows, nb_hf_made *made, nb_error *err)
{
    enum { Q, V, K, THIRDS, QUARTERS };
    uint64_t third = made->change == NB_HF_SPLIT_Q ? Q : made->change == NB_HF_SPLIT_V ? V : K;
    if (*rows % (THIRDS * QUARTERS) != 0)
        return bad_shape(made->from, err, "cannot be cut into quarters of queries, values and keys");
    made->head = *rows / (THIRDS * QUARTERS);
    made->groups = QUARTERS;
    made->queries = 1;
    made->first = third * QUARTERS * made->head;
    made->change = NB_HF_SPLIT_V; /* rows stay in their order */
    *rows /= THIRDS;
    return NB_OK;
}

static nb_status set_shape(const nb_hf_made *made, nb_source_tensor *out, nb_error *err)
{
    const nb_checkpoint_tensor *t = made->from;
    if (made->linear) {
        out->n_dims = 2;
        out->dims[0] = made->linear->columns;
        out->dims[1] = made->linear->rows;
        out->dims[2] = out->dims[3] = 1;
        return NB_OK;
    }
    if (t->n_dims > 4)
        return bad_shape(t, err, "has more than 4 dimensions");
    if (t->values == 0)
        return bad_shape(t, err, "is empty");
    out->n_dims = t->n_dims ? t->n_dims : 1;
    for (uint32_t d = 0; d < 4; d++)
        out->dims[d] = d < t->n_dims ? t->dims[t->n_dims - 1 - d] : 1;
    if (made->change == NB_HF_SKIP_2) {
        if (t->n_dims != 2 || t->dims[0] < 3)
            return bad_shape(t, err, "has no rows left when the first two are taken off");
        out->dims[1] -= 2;
    }
    if (made->change == NB_HF_TRANSPOSE) {
        out->dims[0] = t->dims[0];
        out->dims[1] = t->dims[1];
    }
    return NB_OK;
}

static const void *mapped(const nb_hf_made *made, const nb_source_tensor *out)
{
    const nb_checkpoint_tensor *t = made->from;
    size_t size = nb_dtype_bytes(t->dtype);
    if (made->linear || !t->contiguous || size != out->type->block_bytes || nb_hf_type_of(t->dtype) != out->type ||
        (uintptr_t)t->data % size != 0)
        return NULL;
    if (made->change == NB_HF_SKIP_2)
        return (const char *)t->data + 2 * out->dims[0] * size;
    return made->change == NB_HF_AS_IS ? t->data : NULL;
}

/* the matrix seen the other way */
static const nb_checkpoint_tensor *transposed(nb_hf *h, const nb_checkpoint_tensor *t)
{
    nb_checkpoint_tensor *view = NB_NEW(&h->arena, nb_checkpoint_tensor);
    if (!view)
        return NULL;
    *view = *t;
    view->contiguous = false;
    for (int d = 0; d < 2; d++) {
        view->dims[d] = t->dims[1 - d];
        view->stride[d] = t->stride[1 - d];
    }
    return view;
}

/* what of it is quantized, or shall be */
static nb_status find_linear(nb_hf *h, const char *gguf, nb_hf_made *made, nb_error *err)
{
    const nb_checkpoint_tensor *t = made->from;
    if (made->change == NB_HF_TRANSPOSE && t->n_dims != 2)
        made->change = NB_HF_AS_IS;
    if (h->quant)
        NB_TRY(h->quant->find(h, t, &made->linear, err));
    if (!made->linear && h->params.load) {
        const nb_checkpoint_tensor *seen = made->change == NB_HF_TRANSPOSE ? transposed(h, t) : t;
        if (!seen)
            return nb_fail_memory(err, "tensors", sizeof *t);
        NB_TRY(nb_hf_load_find(h, gguf, seen, &made->linear, err));
    }
    if (made->linear && made->change == NB_HF_TRANSPOSE) /* quantized rows are the outputs always */
        made->change = NB_HF_AS_IS;
    return NB_OK;
}

nb_hf_form nb_hf_form_of(const nb_hf_params *p)
{
    return p->packed ? NB_HF_PACKED : p->stored ? NB_HF_STORED : NB_HF_FLOATS;
}

static nb_status add_tensor(nb_hf *h, nb_str name, const nb_checkpoint_tensor *t, nb_hf_change change, unsigned flags,
                            nb_error *err)
{
    bool f32 = flags & NB_HF_ALL_F32 || change == NB_HF_UNIT_ROWS;
    NB_TRY(grow(h, err));
    nb_hf_made made = {.from = t, .change = change};
    nb_source_tensor out = {.name = {nb_arena_strdup(&h->arena, name), name.n}, .type = nb_hf_type_of(t->dtype)};
    if (!out.name.p)
        return nb_fail_memory(err, "tensors", name.n);
    NB_TRY(find_linear(h, out.name.p, &made, err));
    if (made.linear)
        out.type = nb_hf_linear_type(made.linear, nb_hf_form_of(&h->params));
    if (!out.type)
        return nb_fail(
            err, NB_ERR_UNSUPPORTED,
            "%s: tensor '%.*s' holds %s, not floating-point numbers: the checkpoint is quantized or damaged; "
            "convert the one it was made from",
            t->file, NB_STR_ARG(t->name), nb_dtype_name(t->dtype));
    NB_TRY(set_shape(&made, &out, err));
    if (made.linear && (change == NB_HF_ADD_1 || change == NB_HF_UNIT_ROWS || change == NB_HF_SKIP_2))
        return bad_shape(t, err, "is quantized");
    if ((f32 && (!made.linear || made.linear->codes)) || out.n_dims < 2 || ends_in(name, NB_STR("_norm.weight")) || !ends_in(name, NB_STR(".weight")))
        out.type = nb_type_get(NB_TYPE_F32);
    if (change == NB_HF_PERMUTE_Q || change == NB_HF_PERMUTE_K)
        NB_TRY(head_rows(h, t, change, out.dims[out.n_dims < 2 ? 0 : 1], &made.head, err));
    uint64_t *rows = &out.dims[out.n_dims < 2 ? 0 : 1];
    if (change == NB_HF_GROUPED)
        NB_TRY(set_groups(h, t, *rows, &made, err));
    if (change == NB_HF_SPLIT_Q || change == NB_HF_SPLIT_K || change == NB_HF_SPLIT_V)
        NB_TRY(flags & NB_HF_IN_FOURS ? set_quarter(rows, &made, err) : set_split(h, flags, rows, &made, err));
    out.data = mapped(&made, &out);
    h->made[h->source.tensor_count] = made;
    h->tensors[h->source.tensor_count++] = out;
    return NB_OK;
}

nb_status nb_hf_add_tensor(nb_hf *h, const char *name, const nb_checkpoint_tensor *t, nb_error *err)
{
    NB_TRY(grow(h, err));
    nb_hf_made made = {.from = t, .change = NB_HF_AS_IS};
    nb_str copy = {nb_arena_strdup(&h->arena, nb_str_of(name)), strlen(name)};
    nb_source_tensor out = {.name = copy, .type = nb_hf_type_of(t->dtype)};
    if (!copy.p)
        return nb_fail_memory(err, "tensors", copy.n);
    if (!out.type)
        return bad_shape(t, err, "holds no floating-point numbers");
    NB_TRY(set_shape(&made, &out, err));
    if (out.n_dims < 2)
        out.type = nb_type_get(NB_TYPE_F32);
    out.data = mapped(&made, &out);
    h->made[h->source.tensor_count] = made;
    h->tensors[h->source.tensor_count++] = out;
    return NB_OK;
}

nb_status nb_hf_add_floats(nb_hf *h, const char *name, const float *values, uint64_t count, nb_error *err)
{
    NB_TRY(grow(h, err));
    float *copy = NB_ARRAY(&h->arena, float, count);
    if (!copy)
        return nb_fail_memory(err, name, count * sizeof *copy);
    memcpy(copy, values, count * sizeof *copy);
    h->made[h->source.tensor_count] = (nb_hf_made){0};
    h->tensors[h->source.tensor_count++] = (nb_source_tensor){
        .name = nb_str_of(name), .type = nb_type_get(NB_TYPE_F32), .n_dims = 1, .dims = {count, 1, 1, 1}, .data = copy};
    return NB_OK;
}

/* ---- names ---- */

/* a table's name with its block, prefix and end; false: too long */
static bool spell(const nb_hf *h, const char *name, int block, const char *end, char out[256])
{
    nb_str digits = {0};
    char number[16];
    size_t n = 0;
    if (*name == '~') {
        n = strlen(h->prefix);
        if (n >= 256)
            return false;
        memcpy(out, h->prefix, n);
        name++;
    }
    digits = (nb_str){number, (size_t)snprintf(number, sizeof number, "%d", block)};
    const char *hole = strstr(name, "%d");
    size_t before = hole ? (size_t)(hole - name) : strlen(name);
    const char *rest = hole ? hole + 2 : "";
    int m = snprintf(out + n, 256 - n, "%.*s%.*s%s%s", (int)before, name, hole ? (int)digits.n : 0, digits.p, rest,
                     end);
    return m > 0 && n + (size_t)m < 256;
}

static const nb_checkpoint_tensor *find(const nb_hf *h, const char *hf, int block, const char *end)
{
    static const char wrapper[] = "language_model.";
    char name[256 + sizeof wrapper];
    if (!spell(h, hf, block, end, name))
        return NULL;
    const nb_checkpoint_tensor *t = nb_checkpoint_find(h->checkpoint, nb_str_of(name));
    if (t || !h->wrapped || *hf == '~')
        return t;
    memmove(name + sizeof wrapper - 1, name, strlen(name) + 1); /* the head */
    memcpy(name, wrapper, sizeof wrapper - 1);
    return nb_checkpoint_find(h->checkpoint, nb_str_of(name));
}

/* the older ends of layer norms */
static const nb_checkpoint_tensor *find_part(const nb_hf *h, const char *hf, int block, bool bias)
{
    const nb_checkpoint_tensor *t = find(h, hf, block, bias ? ".bias" : ".weight");
    for (const char *const *e = h->quant && !bias ? h->quant->ends : NULL; e && *e && !t; e++)
        t = find(h, hf, block, *e);
    t = t ? t : find(h, hf, block, bias ? ".beta" : ".gamma");
    return t ? t : find(h, hf, block, bias ? "_bias" : ""); /* a parameter without a layer of its own */
}

static nb_status absent(const nb_hf *h, const nb_hf_tensor_row *row, int block, bool bias, nb_error *err)
{
    char name[256] = "";
    spell(h, row->hf, block, bias ? ".bias" : ".weight", name);
    return nb_fail(err, NB_ERR_FORMAT, "%s: has no tensor '%s', which %.*s needs; download the checkpoint again",
                   h->dir, name, NB_STR_ARG(h->class_name));
}

static nb_status bind_part(nb_hf *h, const nb_hf_tensor_row *row, int block, bool bias, bool optional, nb_error *err)
{
    char name[256];
    const nb_checkpoint_tensor *t = find_part(h, row->hf, block, bias);
    if (!t)
        return optional ? NB_OK : absent(h, row, block, bias, err);
    if (!spell(h, row->gguf, block, bias ? ".bias" : ".weight", name))
        return nb_fail(err, NB_ERR_INTERNAL, "%s: the name of a tensor is too long", row->gguf);
    bool plain = bias && row->change == NB_HF_ADD_1; /* weights alone have it */
    return add_tensor(h, nb_str_of(name), t, plain ? NB_HF_AS_IS : row->change, row->flags, err);
}

static nb_status bind_row(nb_hf *h, const nb_hf_tensor_row *row, int block, nb_error *err)
{
    bool tied = row->flags & NB_HF_TIED && nb_hf_config_flag(h, "tie_word_embeddings", h->arch->tied);
    bool sparse = false;
    if (row->flags & (NB_HF_SPARSE | NB_HF_DENSE))
        NB_TRY(nb_hf_is_sparse(h, block, &sparse, err));
    if (tied || row->flags & (sparse ? NB_HF_DENSE : NB_HF_SPARSE))
        return NB_OK;
    if (row->change == NB_HF_NUMBERS)
        return NB_OK;
    if (row->change >= NB_HF_EXPERTS)
        return nb_hf_bind_experts(h, row, block, err);
    bool optional = row->flags & (NB_HF_OPTIONAL | NB_HF_TIED);
    NB_TRY(bind_part(h, row, block, false, optional, err));
    if (!(row->flags & (NB_HF_BIAS | NB_HF_BIAS_OPTIONAL)))
        return NB_OK;
    return bind_part(h, row, block, true, optional || row->flags & NB_HF_BIAS_OPTIONAL, err);
}

/* ---- nothing is left over ---- */

typedef const nb_checkpoint_tensor *tensor_ptr;

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)(*(const tensor_ptr *)a), y = (uintptr_t)(*(const tensor_ptr *)b);
    return (x > y) - (x < y);
}

/* what tensors are made from, by address */
static nb_status list_used(const nb_hf *h, tensor_ptr **out, size_t *count, nb_error *err)
{
    size_t n = 0, all = 1;
    for (size_t i = 0; i < h->source.tensor_count; i++)
        all += h->made[i].stack && h->made[i].stack->each ? h->made[i].stack->experts : 1;
    tensor_ptr *used = malloc(all * sizeof *used);
    if (!used)
        return nb_fail_memory(err, "tensors", all * sizeof *used);
    for (size_t i = 0; i < h->source.tensor_count; i++) {
        const nb_hf_stack *s = h->made[i].stack;
        for (uint64_t e = 0; s && s->each && e < s->experts; e++)
            used[n++] = s->each[e];
        if (!s || !s->each)
            used[n++] = h->made[i].from;
    }
    qsort(used, n, sizeof *used, by_address);
    *out = used;
    *count = n;
    return NB_OK;
}

static bool is_ignored(const nb_hf *h, nb_str name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias",
                                       ".attn.masked_bias",     ".attn.bias",             "position_ids"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (ends_in(name, nb_str_of(ends[i])))
            return true;
    for (const char *const *p = h->arch->ignored; p && *p; p++)
        if (**p == '*' ? ends_in(name, nb_str_of(*p + 1)) : nb_str_starts(name, nb_str_of(*p)))
            return true;
    if (h->wrapped && !nb_str_starts(name, nb_str_of(h->prefix)))
        return true; /* what sees */
    if (nb_str_starts(name, nb_str_of(h->prefix)) && h->prefix[0]) {
        nb_str rest = {name.p + strlen(h->prefix), name.n - strlen(h->prefix)};
        for (const char *const *p = h->arch->ignored; p && *p; p++)
            if (nb_str_starts(rest, nb_str_of(*p)))
                return true;
    }
    return false;
}

/* a tied head that is there all the same */
static bool is_tied(const nb_hf *h, nb_str name)
{
    char spelt[256];
    if (!nb_hf_config_flag(h, "tie_word_embeddings", h->arch->tied))
        return false;
    for (const nb_hf_tensor_row *row = h->arch->tensors; row->gguf; row++)
        if (row->flags & NB_HF_TIED && spell(h, row->hf, 0, ".weight", spelt) && nb_str_eqz(name, spelt))
            return true;
    return false;
}

/* Of the layers behind the last, which predict further tokens. */
static bool predicts(const nb_hf *h, nb_str name)
{
    uint64_t blocks = 0, layer = 0;
    char begin[64];
    int n = snprintf(begin, sizeof begin, "%slayers.", h->prefix);
    if (!nb_hf_config(h, "num_nextn_predict_layers") || n < 0 || (size_t)n >= sizeof begin ||
        !nb_str_starts(name, nb_str_of(begin)) || nb_hf_config_u64(h, NB_HF_BLOCKS, 1, 4096, &blocks, NULL) != NB_OK)
        return false;
    for (size_t i = (size_t)n; i < name.n && name.p[i] >= '0' && name.p[i] <= '9' && layer < 1 << 20; i++)
        layer = layer * 10 + (uint64_t)(name.p[i] - '0');
    return layer >= blocks;
}

static nb_status check_left_over(const nb_hf *h, nb_error *err)
{
    size_t n = 0;
    nb_status status = NB_OK;
    tensor_ptr *used = NULL; /* for gcc, which does not see that an error leaves */
    NB_TRY(list_used(h, &used, &n, err));
    for (size_t i = 0; i < nb_checkpoint_count(h->checkpoint) && status == NB_OK; i++) {
        tensor_ptr t = nb_checkpoint_at(h->checkpoint, i);
        if (bsearch(&t, used, n, sizeof *used, by_address) || is_ignored(h, t->name) || is_tied(h, t->name) || predicts(h, t->name) ||
            (h->quant && h->quant->is_part(h, t->name)))
            continue;
        status = nb_fail(
            err, NB_ERR_UNSUPPORTED,
            "%s: tensor '%.*s' is none of %.*s with this config.json; a model that needs it is not supported",
            t->file, NB_STR_ARG(t->name), NB_STR_ARG(h->class_name));
    }
    free(used);
    return status;
}

static nb_status find_prefix(nb_hf *h, nb_error *err)
{
    for (const char *const *p = h->wrapped ? nb_hf_wrapped_prefixes : h->arch->prefixes; *p; p++) {
        h->prefix = *p;
        if (find_part(h, h->arch->tensors[0].hf, 0, false))
            return NB_OK;
    }
    h->prefix = h->arch->prefixes[0];
    return absent(h, &h->arch->tensors[0], 0, false, err);
}

nb_status nb_hf_bind(nb_hf *h, nb_error *err)
{
    uint64_t blocks = 0;
    NB_TRY(nb_hf_config_u64(h, "num_hidden_layers|n_layer|n_layers|num_layers", 1, 4096, &blocks, err));
    NB_TRY(find_prefix(h, err));
    for (const nb_hf_tensor_row *row = h->arch->tensors; row->gguf;) {
        const nb_hf_tensor_row *end = row;
        while (end->gguf && strstr(end->gguf, "%d"))
            end++;
        if (end == row) {
            NB_TRY(bind_row(h, row++, 0, err));
            continue;
        }
        for (int block = 0; block < (int)blocks; block++)
            for (const nb_hf_tensor_row *r = row; r < end; r++)
                NB_TRY(bind_row(h, r, block, err));
        row = end;
    }
    return check_left_over(h, err);
}
