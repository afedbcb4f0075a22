/* Which tensors a directory gets, by the tables that checkpoints are read with, and their values, made as they are written: a
 * tensor of the checkpoint is made of up to three of the source, row by row. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "format/safetensors_write.h"
#include "hf/export_tensors.h"
#include "num/half.h"

typedef struct nb_hf_item item;
typedef struct nb_hf_items list;

/* ---- names ---- */

/* a table's name, the first of several: '~' is the prefix, %d the block, %e the expert */
static nb_str spell(nb_hf_exporter *x, const char *name, uint64_t block, uint64_t expert, const char *end)
{
    nb_buf text = {0};
    for (const char *c = name; *c && *c != '|'; c++) {
        if (*c == '~' && c == name)
            nb_buf_z(&text, x->arch->prefixes[0]);
        else if (c[0] == '%' && (c[1] == 'd' || c[1] == 'e'))
            nb_buf_printf(&text, "%" PRIu64, *++c == 'd' ? block : expert);
        else
            nb_buf_char(&text, *c);
    }
    nb_buf_z(&text, end);
    nb_str s = text.failed ? NB_STR("") : nb_buf_view(&text);
    s.p = nb_arena_strdup(&x->arena, s);
    nb_buf_free(&text);
    return s.p ? s : NB_STR("");
}

/* the tensor of a row; NULL: it is not there */
static const nb_source_tensor *find(nb_hf_exporter *x, const nb_hf_tensor_row *row, uint64_t block, const char *end)
{
    return nb_source_find_tensor(x->s, spell(x, row->gguf, block, 0, end));
}

const nb_source_tensor *nb_hf_export_tensor(nb_hf_exporter *x, const char *gguf, uint64_t block)
{
    return nb_source_find_tensor(x->s, spell(x, gguf, block, 0, ".weight"));
}

bool nb_hf_export_is_sparse(nb_hf_exporter *x, uint64_t block)
{
    return nb_hf_export_tensor(x, "blk.%d.ffn_gate_inp", block) != NULL;
}

/* what stands behind the checkpoint's name of a row */
static const char *own_end(const nb_hf_tensor_row *row, const char *end)
{
    return !(row->flags & NB_HF_BARE) ? end : strcmp(end, ".bias") == 0 ? "_bias" : "";
}

static size_t index_of(const nb_hf_exporter *x, const nb_source_tensor *t) { return (size_t)(t - x->s->tensors); }

static nb_status absent(nb_hf_exporter *x, const nb_hf_tensor_row *row, uint64_t block, nb_error *err)
{
    if (strcmp(row->gguf, "blk.%d.attn_kv_b") == 0 && nb_hf_export_tensor(x, "blk.%d.attn_k_b", block))
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: has the matrices of keys and values apart (attn_k_b, attn_v_b), which are not written as one; "
                       "convert the model's own directory",
                       x->s->path);
    return nb_fail(err, NB_ERR_FORMAT, "%s: has no tensor '%.*s'; the file is not whole: convert the model again",
                   x->s->path, NB_STR_ARG(spell(x, row->gguf, block, 0, ".weight")));
}

static nb_status bad_heads(const nb_hf_exporter *x, const nb_source_tensor *t, nb_error *err)
{
    return nb_fail(err, NB_ERR_FORMAT, "%s: the rows of tensor '%.*s' are not whole heads; convert the model again",
                   x->s->path, NB_STR_ARG(t->name));
}

static nb_status no_matrix(const nb_hf_exporter *x, const nb_source_tensor *t, nb_error *err)
{
    return nb_fail(err, NB_ERR_FORMAT, "%s: tensor '%.*s' has %u dimensions, which cannot be; convert the model again",
                   x->s->path, NB_STR_ARG(t->name), t->n_dims);
}

static nb_status unlike(const nb_hf_exporter *x, const nb_source_tensor *a, const nb_source_tensor *b, nb_error *err)
{
    return nb_fail(err, NB_ERR_FORMAT, "%s: tensors '%.*s' and '%.*s' are unlike each other; convert the model again",
                   x->s->path, NB_STR_ARG(a->name), NB_STR_ARG(b->name));
}

/* ---- the list ---- */

void nb_hf_items_free(list *l)
{
    free(l->items);
    *l = (list){0};
}

/* the checkpoint's shape, until a change makes it another: GGUF's, the other way round */
static item new_item(const nb_hf_exporter *x, const nb_source_tensor *t, nb_str name, nb_hf_change change)
{
    item it = {.name = name, .change = change, .n_dims = t->n_dims};
    it.from[0] = index_of(x, t);
    for (uint32_t d = 0; d < t->n_dims; d++)
        it.dims[d] = t->dims[t->n_dims - 1 - d];
    return it;
}

static nb_status add_item(nb_hf_exporter *x, list *l, const item *it, nb_error *err)
{
    uint64_t values = 1;
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? l->capacity * 2 : 256;
        item *grown = realloc(l->items, capacity * sizeof *grown);
        if (!grown)
            return nb_fail_memory(err, "tensors", capacity * sizeof *grown);
        l->items = grown;
        l->capacity = capacity;
    }
    if (it->name.n == 0)
        return nb_fail_memory(err, "tensors", sizeof *it);
    for (uint32_t d = 0; d < it->n_dims; d++)
        values *= it->dims[d];
    for (int i = 0; !it->is_number && (i < it->parts || i == 0); i++)
        x->used[it->from[i]] = true;
    l->bytes += values * nb_dtype_bytes(x->dtype);
    l->items[l->count++] = *it;
    return NB_OK;
}

nb_status nb_hf_items_add(nb_hf_exporter *x, list *l, const nb_source_tensor *t, const char *name, nb_error *err)
{
    item it = new_item(x, t, spell(x, name, 0, 0, ""), NB_HF_AS_IS);
    return add_item(x, l, &it, err);
}

/* a matrix for each expert */
static nb_status add_each(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, const nb_source_tensor *t,
                          uint64_t block, nb_error *err)
{
    for (uint64_t e = 0; e < t->dims[2]; e++) {
        item it = new_item(x, t, spell(x, row->hf, block, e, ".weight"), NB_HF_EXPERTS);
        it.n_dims = 2;
        it.dims[0] = t->dims[1];
        it.dims[1] = t->dims[0];
        it.first = e * t->dims[1];
        NB_TRY(add_item(x, l, &it, err));
    }
    return NB_OK;
}

/* a vector for each head */
static nb_status add_heads(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, nb_error *err)
{
    const nb_source_tensor *t = find(x, row, block, ".weight");
    if (!t)
        return row->flags & NB_HF_OPTIONAL ? NB_OK : absent(x, row, block, err);
    for (uint64_t e = 0; e < t->dims[1]; e++) {
        item it = new_item(x, t, spell(x, row->hf, block, e, ".weight"), NB_HF_EXPERTS);
        it.n_dims = 1;
        it.dims[0] = t->dims[0];
        it.first = e;
        NB_TRY(add_item(x, l, &it, err));
    }
    return NB_OK;
}

/* gate and up, whose rows are halves of each matrix of one tensor */
static nb_status add_halves(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, const nb_source_tensor *gate,
                            uint64_t block, nb_error *err)
{
    const nb_hf_tensor_row *other = x->arch->tensors;
    while (other->gguf && (other->change != NB_HF_EXPERTS_UP || strcmp(other->hf, row->hf) != 0))
        other++;
    const nb_source_tensor *up = other->gguf ? find(x, other, block, ".weight") : NULL;
    if (!up)
        return absent(x, other->gguf ? other : row, block, err);
    if (gate->n_dims < 2)
        return no_matrix(x, gate, err);
    if (memcmp(gate->dims, up->dims, sizeof gate->dims) != 0)
        return unlike(x, gate, up, err);
    item it = new_item(x, gate, spell(x, row->hf, block, 0, ".weight"), NB_HF_EXPERTS_GATE);
    it.from[1] = index_of(x, up);
    it.parts = 2;
    it.head = gate->dims[1];
    it.dims[it.n_dims - 2] *= 2;
    return add_item(x, l, &it, err);
}

static nb_status add_experts(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, nb_error *err)
{
    bool each = strstr(row->hf, "%e") && (!strchr(row->hf, '|') || strstr(row->hf, "%e") < strchr(row->hf, '|'));
    const nb_source_tensor *t = find(x, row, block, ".weight");
    if (!t)
        return row->flags & NB_HF_OPTIONAL ? NB_OK : absent(x, row, block, err);
    if (each)
        return add_each(x, l, row, t, block, err);
    if (row->change == NB_HF_EXPERTS_GATE)
        return add_halves(x, l, row, t, block, err);
    if (row->change == NB_HF_EXPERTS_UP) /* with its gate */
        return NB_OK;
    item it = new_item(x, t, spell(x, row->hf, block, 0, ".weight"), NB_HF_AS_IS);
    return add_item(x, l, &it, err);
}

/* experts' matrices with their inputs as rows, of two tensors turn by turn; likewise their biases */
static nb_status add_turned(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, const char *end,
                            nb_error *err)
{
    const nb_hf_tensor_row *odd = row->change == NB_HF_EXPERTS_EVEN ? row + 1 : row;
    const nb_source_tensor *t = find(x, row, block, end), *other = find(x, odd, block, end);
    bool bias = strcmp(end, ".bias") == 0;
    if (!t && !other && bias)
        return NB_OK;
    if (!t || !other)
        return absent(x, t ? odd : row, block, err);
    if (t->n_dims != (bias ? 2 : 3) || t->n_dims != other->n_dims)
        return no_matrix(x, t->n_dims == (bias ? 2 : 3) ? other : t, err);
    if (memcmp(t->dims, other->dims, sizeof t->dims) != 0)
        return unlike(x, t, other, err);
    item it = new_item(x, t, spell(x, row->hf, block, 0, own_end(row, end)), NB_HF_EXPERTS_TURNED);
    it.from[1] = index_of(x, other);
    it.parts = odd == row ? 1 : 2;
    if (!bias) {
        it.dims[1] = t->dims[0];
        it.dims[2] = t->dims[1];
    }
    it.dims[it.n_dims - 1] *= (uint64_t)it.parts;
    return add_item(x, l, &it, err);
}

/* queries, keys and values, whose rows are heads of one tensor */
static nb_status add_split(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, const char *end,
                           nb_error *err)
{
    const nb_source_tensor *t[3];
    bool bias = strcmp(end, ".bias") == 0;
    uint64_t rows[3];
    for (int i = 0; i < 3; i++) {
        t[i] = find(x, row + i, block, end);
        if (!t[i] && (!bias || (i > 0 && t[0])))
            return absent(x, row + i, block, err);
        if (!t[i])
            return NB_OK;
        if (t[i]->n_dims != (bias ? 1 : 2))
            return no_matrix(x, t[i], err);
        rows[i] = t[i]->dims[bias ? 0 : 1];
        if (!bias && t[i]->dims[0] != t[0]->dims[0])
            return unlike(x, t[0], t[i], err);
    }
    item it = new_item(x, t[0], spell(x, row->hf, block, 0, own_end(row, end)), NB_HF_SPLIT_Q);
    it.head = rows[0] / x->heads;
    it.groups = row->flags & NB_HF_IN_ORDER ? 0 : x->kv_heads;
    it.queries = x->heads / x->kv_heads;
    it.heads = x->heads;
    it.kv_heads = x->kv_heads;
    if (it.head == 0 || it.head % 2 != 0 || rows[0] != x->heads * it.head || rows[1] != x->kv_heads * it.head ||
        rows[2] != rows[1] || x->heads % x->kv_heads != 0)
        return bad_heads(x, t[0], err);
    it.parts = 3;
    it.from[1] = index_of(x, t[1]);
    it.from[2] = index_of(x, t[2]);
    it.dims[0] = rows[0] + 2 * rows[1];
    x->attention_bias = x->attention_bias || bias;
    return add_item(x, l, &it, err);
}

/* a number of the list that the row's key has; a list of one holds for all blocks */
static nb_status add_number(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, nb_error *err)
{
    const nb_gguf_value *v = nb_source_find(x->s, row->gguf);
    bool is_list = v && v->kind == NB_GGUF_ARRAY;
    nb_gguf_kind kind = is_list ? v->element : v ? v->kind : NB_GGUF_STRING;
    if ((kind != NB_GGUF_F32 && kind != NB_GGUF_F64) || (is_list && v->count != x->blocks))
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: has no %s, a number or one for each of %" PRIu64 " blocks; convert the model again",
                       x->s->path, row->gguf, x->blocks);
    item it = {.name = spell(x, row->hf, block, 0, ""),
               .is_number = true,
               .number = (float)nb_gguf_elem_f64(v, is_list ? (size_t)block : 0)};
    it.n_dims = row->flags & NB_HF_BARE ? 0 : 1;
    it.dims[0] = 1;
    return add_item(x, l, &it, err);
}

/* what of the row's change is to be known of this tensor */
static nb_status set_change(const nb_hf_exporter *x, const nb_source_tensor *t, item *it, nb_error *err)
{
    uint64_t rows = t->n_dims == 1 ? t->dims[0] : t->dims[1], heads = x->heads;
    bool turned = it->change != NB_HF_AS_IS && it->change != NB_HF_ADD_1;
    if (turned && (t->n_dims > 2 || (it->change == NB_HF_SKIP_2 && t->n_dims != 2)))
        return no_matrix(x, t, err);
    switch (it->change) {
    case NB_HF_TRANSPOSE:
        if (t->n_dims != 2)
            it->change = NB_HF_AS_IS;
        it->dims[0] = t->dims[0];
        it->dims[1] = t->dims[1];
        return NB_OK;
    case NB_HF_SKIP_2: it->dims[0] += 2; return NB_OK;
    case NB_HF_PERMUTE_K: heads = x->kv_heads; /* fall through */
    case NB_HF_PERMUTE_Q: it->head = rows % (2 * heads) == 0 ? rows / heads : 0; break;
    case NB_HF_GROUPED:
        heads += 2 * x->kv_heads;
        it->head = rows % heads == 0 && x->heads % x->kv_heads == 0 ? rows / heads : 0;
        it->groups = x->kv_heads;
        it->queries = x->heads / x->kv_heads;
        break;
    default: return NB_OK;
    }
    return it->head ? NB_OK : bad_heads(x, t, err);
}

/* Queries, keys or values of a file that has the three in one, in that order: older ones of Phi 2. */
static nb_status add_third(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, const char *end,
                           bool *found, nb_error *err)
{
    static const char *const thirds[] = {"blk.%d.attn_q", "blk.%d.attn_k", "blk.%d.attn_v"};
    const nb_source_tensor *t = nb_source_find_tensor(x->s, spell(x, "blk.%d.attn_qkv", block, 0, end));
    int third = 0;
    while (third < 3 && strcmp(row->gguf, thirds[third]) != 0)
        third++;
    if (!t || third == 3 || row->change != NB_HF_AS_IS)
        return NB_OK;
    uint64_t rows = t->n_dims == 1 ? t->dims[0] : t->dims[1], all = x->heads + 2 * x->kv_heads;
    if (t->n_dims > 2 || rows % all != 0)
        return bad_heads(x, t, err);
    item it = new_item(x, t, spell(x, row->hf, block, 0, end), NB_HF_AS_IS);
    it.head = rows / all;
    it.first = third == 0 ? 0 : (x->heads + (third == 2 ? x->kv_heads : 0)) * it.head;
    it.dims[0] = (third ? x->kv_heads : x->heads) * it.head;
    *found = true;
    return add_item(x, l, &it, err);
}

static nb_status add_part(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, const char *end,
                          bool *found, nb_error *err)
{
    const nb_source_tensor *t = find(x, row, block, end);
    *found = t != NULL;
    if (!t)
        return add_third(x, l, row, block, end, found, err);
    bool plain = row->change == NB_HF_ADD_1 && strcmp(end, ".bias") == 0; /* weights alone have it */
    item it = new_item(x, t, spell(x, row->hf, block, 0, own_end(row, end)), plain ? NB_HF_AS_IS : row->change);
    NB_TRY(set_change(x, t, &it, err));
    return add_item(x, l, &it, err);
}

typedef nb_status add_fn(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, const char *end,
                         nb_error *err);

static nb_status add_row(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, nb_error *err)
{
    bool weight, bias;
    if (row->flags & (NB_HF_SPARSE | NB_HF_DENSE) &&
        row->flags & (nb_hf_export_is_sparse(x, block) ? NB_HF_DENSE : NB_HF_SPARSE))
        return NB_OK;
    if (x->arch->passes && x->arch->passes(x, row, block))
        return NB_OK;
    if (row->change == NB_HF_HEADS)
        return add_heads(x, l, row, block, err);
    if (row->change == NB_HF_NUMBERS)
        return add_number(x, l, row, block, err);
    if (row->change == NB_HF_SPLIT_K || row->change == NB_HF_SPLIT_V || row->change == NB_HF_EXPERTS_ODD)
        return NB_OK; /* with the row before */
    if (row->change == NB_HF_SPLIT_Q || row->change == NB_HF_EXPERTS_EVEN || row->change == NB_HF_EXPERTS_TURNED) {
        add_fn *add = row->change == NB_HF_SPLIT_Q ? add_split : add_turned;
        NB_TRY(add(x, l, row, block, ".weight", err));
        return add(x, l, row, block, ".bias", err);
    }
    if (row->change == NB_HF_EXPERTS || row->change == NB_HF_EXPERTS_GATE || row->change == NB_HF_EXPERTS_UP)
        return add_experts(x, l, row, block, err);
    NB_TRY(add_part(x, l, row, block, ".weight", &weight, err));
    NB_TRY(add_part(x, l, row, block, ".bias", &bias, err));
    if (row->flags & NB_HF_TIED)
        x->tied = !weight;
    else if (!weight && !(row->flags & NB_HF_OPTIONAL))
        return absent(x, row, block, err);
    if (bias && row->flags & NB_HF_BIAS_OPTIONAL) {
        bool mlp = strstr(row->hf, ".mlp.") != NULL;
        x->mlp_bias = x->mlp_bias || mlp;
        x->attention_bias = x->attention_bias || !mlp;
    }
    return NB_OK;
}

/* What the configuration says instead. */
static bool is_said_elsewhere(nb_str name)
{
    return nb_str_eqz(name, "rope_freqs.weight") || nb_str_starts(name, NB_STR("rope_factors_"));
}

nb_status nb_hf_items_list(nb_hf_exporter *x, list *l, nb_error *err)
{
    for (const nb_hf_tensor_row *row = x->arch->tensors; row->gguf; row++) {
        uint64_t blocks = strstr(row->hf, "%d") ? x->blocks : 1;
        for (uint64_t block = 0; block < blocks; block++)
            NB_TRY(add_row(x, l, row, block, err));
    }
    for (size_t i = 0; i < x->s->tensor_count; i++)
        if (!x->used[i] && !is_said_elsewhere(x->s->tensors[i].name))
            return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: tensor '%.*s' has no place in a %s checkpoint of Hugging Face",
                           x->s->path, NB_STR_ARG(x->s->tensors[i].name), x->class_name);
    return NB_OK;
}

/* ---- rows ---- */

typedef struct place { /* of a row of the checkpoint in the source */
    size_t tensor;
    uint64_t row, run; /* run: so many rows from there on follow one another in both */
    bool none;         /* nowhere: zeros */
} place;

static uint64_t grouped(const item *it, uint64_t at) /* head `at` of the checkpoint's in GGUF's order */
{
    uint64_t group = at / (it->queries + 2), i = at % (it->queries + 2);
    return i < it->queries ? group * it->queries + i : i * it->groups + group;
}

static place in_thirds(const item *it, uint64_t r)
{
    uint64_t at = r / it->head, i = r % it->head, third = 0;
    at = it->groups ? grouped(it, at) : at;
    if (at >= it->heads) {
        third = (at - it->heads) / it->kv_heads + 1;
        at = (at - it->heads) % it->kv_heads;
    }
    if (third == 2)
        return (place){.tensor = it->from[2], .row = at * it->head + i, .run = it->head - i};
    return (place){.tensor = it->from[third], .row = nb_hf_unpermuted(at * it->head + i, it->head), .run = 1};
}

static place locate(const item *it, uint64_t r)
{
    place p = {.tensor = it->from[0], .row = it->first + r, .run = UINT64_MAX};
    switch (it->change) {
    case NB_HF_SPLIT_Q: return in_thirds(it, r);
    case NB_HF_PERMUTE_Q:
    case NB_HF_PERMUTE_K:
        p.row = nb_hf_unpermuted(r, it->head);
        p.run = 1;
        break;
    case NB_HF_GROUPED:
        p.row = grouped(it, r / it->head) * it->head + r % it->head;
        p.run = it->head - r % it->head;
        break;
    case NB_HF_EXPERTS_GATE:
        p.tensor = it->from[r / it->head % 2];
        p.row = r / (2 * it->head) * it->head + r % it->head;
        p.run = it->head - r % it->head;
        break;
    case NB_HF_SKIP_2:
        p.none = r < 2;
        p.row = r < 2 ? 0 : r - 2;
        p.run = r < 2 ? 2 - r : UINT64_MAX;
        break;
    default: break;
    }
    return p;
}

typedef struct room { /* for rows on their way */
    void *codes;
    float *values;
    void *out;
} room;

static void room_free(room *r)
{
    free(r->codes);
    free(r->values);
    free(r->out);
}

static nb_status dequantize(const nb_hf_exporter *x, const place *p, uint64_t count, void *codes, float *out,
                            nb_error *err)
{
    const nb_source_tensor *t = &x->s->tensors[p->tensor];
    size_t row_bytes = 0, n = t->dims[0];
    if (p->none) {
        memset(out, 0, count * n * sizeof *out);
        return NB_OK;
    }
    nb_type_row_bytes(t->type, n, &row_bytes);
    NB_TRY(x->s->read(x->s, p->tensor, p->row, count, codes, err));
    for (uint64_t i = 0; i < count; i++)
        t->type->dequantize((const char *)codes + i * row_bytes, out + i * n, n);
    if (x->s->forget && p->run > 1)
        x->s->forget(x->s, p->tensor, p->row, count);
    return NB_OK;
}

/* a bias: its values go where the rows of its matrix go */
static nb_status read_vector(const nb_hf_exporter *x, const item *it, room *r, nb_error *err)
{
    for (int k = 0; k < it->parts || k == 0; k++) {
        place whole = {.tensor = it->from[k], .run = 1};
        size_t n = x->s->tensors[whole.tensor].dims[0];
        float *all = malloc(n * sizeof *all);
        nb_status status = all ? dequantize(x, &whole, 1, r->codes, all, err) : nb_fail_memory(err, "a bias", n);
        for (uint64_t i = 0; status == NB_OK && i < it->dims[0]; i++) {
            place p = locate(it, i);
            if (p.tensor == whole.tensor)
                r->values[i] = all[p.row];
        }
        free(all);
        NB_TRY(status);
    }
    return NB_OK;
}

/* Rows [row, row + count) of the checkpoint's tensor. */
static nb_status read_rows(const nb_hf_exporter *x, const item *it, uint64_t row, uint64_t count, room *r,
                           nb_error *err)
{
    size_t n = x->s->tensors[it->from[0]].dims[0];
    if (it->head && it->n_dims == 1)
        return read_vector(x, it, r, err);
    for (uint64_t i = 0; i < count;) {
        place p = locate(it, row + i);
        uint64_t run = count - i < p.run ? count - i : p.run;
        NB_TRY(dequantize(x, &p, run, r->codes, r->values + i * n, err));
        i += run;
    }
    for (size_t i = 0; it->change == NB_HF_ADD_1 && i < n * count; i++)
        r->values[i] -= 1;
    return NB_OK;
}

/* ---- writing ---- */

static bool narrow(nb_dtype dtype, const float *src, size_t n, void *dst) /* false: one became infinite */
{
    bool fits = true;
    uint16_t *h = dst;
    if (dtype == NB_DTYPE_F32) {
        memcpy(dst, src, n * sizeof *src);
        return true;
    }
    if (dtype == NB_DTYPE_BF16) {
        nb_f32_to_bf16_row(src, h, n);
        return true;
    }
    nb_f32_to_f16_row(src, h, n);
    for (size_t i = 0; i < n; i++)
        fits = fits && ((h[i] & 0x7fff) != 0x7c00 || isinf(src[i]));
    return fits;
}

static nb_status report(const nb_hf_exporter *x, const item *it, size_t bytes, nb_hf_progress *p, nb_error *err)
{
    p->done += bytes;
    if (p->call && p->call(p->user, it->name, p->done, p->all))
        return nb_fail(err, NB_ERR_CANCELLED, "%s: cancelled", x->dir);
    return NB_OK;
}

static nb_status too_large(const nb_hf_exporter *x, const item *it, nb_error *err)
{
    return nb_fail(err, NB_ERR_UNSUPPORTED,
                   "%s: tensor '%.*s' has a value that is too large for F16; give --type BF16 or F32", x->s->path,
                   NB_STR_ARG(x->s->tensors[it->from[0]].name));
}

/* ---- matrices the other way, each whole: rows that are columns need all of them ---- */

/* how many there are in one of the source's tensors, and rows of each there; biases are a row each */
static uint64_t matrix_rows(const item *it, const nb_source_tensor *t)
{
    return it->change == NB_HF_TRANSPOSE || it->n_dims == 3 ? t->dims[1] : 1;
}

/* matrix `i`, of several tensors' rows turn by turn */
static nb_status turn(const nb_hf_exporter *x, const item *it, uint64_t i, char *codes, float *values, float *turned,
                      nb_error *err)
{
    size_t parts = it->parts ? (size_t)it->parts : 1, row_bytes;
    for (size_t part = 0; part < parts; part++) {
        const nb_source_tensor *t = &x->s->tensors[it->from[part]];
        size_t n = t->dims[0], rows = (size_t)matrix_rows(it, t);
        nb_type_row_bytes(t->type, n, &row_bytes);
        NB_TRY(x->s->read(x->s, it->from[part], i * rows, rows, codes, err));
        for (size_t r = 0; r < rows; r++) {
            t->type->dequantize(codes + r * row_bytes, values, n);
            for (size_t k = 0; k < n; k++)
                turned[(k * rows + r) * parts + part] = values[k];
        }
    }
    return NB_OK;
}

static nb_status write_turned(const nb_hf_exporter *x, const item *it, nb_safetensors_writer *w, size_t row_bytes,
                              nb_hf_progress *p, nb_error *err)
{
    const nb_source_tensor *t = &x->s->tensors[it->from[0]];
    size_t parts = it->parts ? (size_t)it->parts : 1, rows = (size_t)matrix_rows(it, t), n = t->dims[0] * rows * parts,
           bytes = n * nb_dtype_bytes(x->dtype);
    char *codes = malloc(row_bytes * rows);
    float *values = malloc(t->dims[0] * sizeof *values), *turned = malloc(n * sizeof *turned),
          *out = malloc(n * sizeof *out);
    nb_status status =
        codes && values && turned && out ? NB_OK : nb_fail_memory(err, "a matrix", n * 2 * sizeof *turned);
    for (uint64_t i = 0; status == NB_OK && i < nb_source_rows(t) / rows; i++) {
        status = turn(x, it, i, codes, values, turned, err);
        if (status == NB_OK && !narrow(x->dtype, turned, n, out))
            status = too_large(x, it, err);
        if (status == NB_OK)
            status = nb_safetensors_data(w, out, bytes, err);
        if (status == NB_OK)
            status = report(x, it, bytes, p, err);
    }
    free(codes);
    free(values);
    free(turned);
    free(out);
    return status;
}

static nb_status write_number(const nb_hf_exporter *x, const item *it, nb_safetensors_writer *w, nb_hf_progress *p,
                              nb_error *err)
{
    float out;
    size_t bytes = nb_dtype_bytes(x->dtype);
    narrow(x->dtype, &it->number, 1, &out);
    NB_TRY(nb_safetensors_data(w, &out, bytes, err));
    return report(x, it, bytes, p, err);
}

static uint64_t rows_of(const item *it)
{
    uint64_t rows = 1;
    for (uint32_t d = 0; d + 1 < it->n_dims; d++)
        rows *= it->dims[d];
    return rows;
}

static nb_status write_rows(const nb_hf_exporter *x, const item *it, nb_safetensors_writer *w, uint64_t step, room *r,
                            nb_hf_progress *p, nb_error *err)
{
    uint64_t rows = rows_of(it), columns = it->dims[it->n_dims - 1];
    for (uint64_t row = 0; row < rows; row += step) {
        uint64_t count = rows - row < step ? rows - row : step;
        size_t n = (size_t)(count * columns), bytes = n * nb_dtype_bytes(x->dtype);
        NB_TRY(read_rows(x, it, row, count, r, err));
        if (!narrow(x->dtype, r->values, n, r->out))
            return too_large(x, it, err);
        NB_TRY(nb_safetensors_data(w, r->out, bytes, err));
        NB_TRY(report(x, it, bytes, p, err));
    }
    return NB_OK;
}

static nb_status write_tensor(const nb_hf_exporter *x, const item *it, nb_safetensors_writer *w, nb_hf_progress *p,
                              nb_error *err)
{
    enum { VALUES = 1 << 18 }; /* at a time */
    size_t row_bytes = 0, most = 0;
    if (it->is_number)
        return write_number(x, it, w, p, err);
    uint64_t n = it->dims[it->n_dims - 1], step = n >= VALUES ? 1 : VALUES / n;
    for (int i = 0; i < it->parts || i == 0; i++) {
        const nb_source_tensor *t = &x->s->tensors[it->from[i]];
        if (!nb_type_row_bytes(t->type, t->dims[0], &row_bytes))
            return nb_fail(err, NB_ERR_FORMAT, "%s: rows of tensor '%.*s' are not whole blocks", x->s->path,
                           NB_STR_ARG(t->name));
        most = nb_max_size(most, row_bytes);
    }
    if (it->change == NB_HF_TRANSPOSE || it->change == NB_HF_EXPERTS_TURNED)
        return write_turned(x, it, w, most, p, err);
    step = step < rows_of(it) ? step : rows_of(it);
    room r = {malloc(most * step), malloc(n * step * sizeof(float)), malloc(n * step * sizeof(float))};
    nb_status status = r.codes && r.values && r.out ? write_rows(x, it, w, step, &r, p, err)
                                                    : nb_fail_memory(err, "rows", n * step * sizeof(float) * 3);
    room_free(&r);
    return status;
}

nb_status nb_hf_items_write(const nb_hf_exporter *x, const list *l, const char *dir, uint64_t shard_bytes,
                            nb_hf_progress *p, nb_error *err)
{
    nb_safetensors_writer *w;
    nb_status status = NB_OK;
    NB_TRY(nb_safetensors_writer_open(dir, shard_bytes, &w, err));
    for (size_t i = 0; i < l->count; i++)
        nb_safetensors_put(w, l->items[i].name, x->dtype, l->items[i].n_dims, l->items[i].dims);
    for (size_t i = 0; i < l->count && status == NB_OK; i++)
        status = write_tensor(x, &l->items[i], w, p, err);
    if (status == NB_OK)
        return nb_safetensors_writer_commit(w, err);
    nb_safetensors_writer_abort(w);
    return status;
}
