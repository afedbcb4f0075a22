#define _GNU_SOURCE
#include "hf/export.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "format/safetensors_write.h"
#include "hf/export_internal.h"
#include "num/half.h"

typedef struct item { /* a tensor to write */
    size_t from;      /* in the source */
    nb_str name;      /* there */
    nb_hf_change change;
    uint64_t head; /* rows of a head, for the permutations */
    uint64_t first, rows; /* of the source's: an expert's are a matrix of their own; rows 0: all */
} item;

typedef struct list {
    item *items;
    size_t count, capacity;
    bool *used; /* [tensor of the source] */
    uint64_t bytes;
} list;

/* ---- values of the source ---- */

const nb_gguf_value *nb_hf_export_find(const nb_hf_exporter *x, const char *name)
{
    char key[160];
    if (name[0] != '.')
        return nb_source_find(x->s, name);
    snprintf(key, sizeof key, "%s%s", x->arch->gguf, name);
    return nb_source_find(x->s, key);
}

static bool is_number(const nb_gguf_value *v)
{
    return v && v->kind != NB_GGUF_STRING && v->kind != NB_GGUF_ARRAY && v->kind != NB_GGUF_BOOL;
}

bool nb_hf_export_u64(const nb_hf_exporter *x, const char *name, uint64_t *out)
{
    const nb_gguf_value *v = nb_hf_export_find(x, name);
    if (!is_number(v) || v->kind == NB_GGUF_F32 || v->kind == NB_GGUF_F64)
        return false;
    *out = nb_gguf_elem_u64(v, 0);
    return true;
}

bool nb_hf_export_f64(const nb_hf_exporter *x, const char *name, double *out)
{
    const nb_gguf_value *v = nb_hf_export_find(x, name);
    if (!is_number(v) || !isfinite(nb_gguf_elem_f64(v, 0)))
        return false;
    *out = nb_gguf_elem_f64(v, 0);
    return true;
}

bool nb_hf_export_str(const nb_hf_exporter *x, const char *name, nb_str *out)
{
    const nb_gguf_value *v = nb_hf_export_find(x, name);
    if (!v || v->kind != NB_GGUF_STRING)
        return false;
    *out = (nb_str){(const char *)v->data, v->bytes};
    return true;
}

bool nb_hf_export_flag(const nb_hf_exporter *x, const char *name, bool otherwise)
{
    const nb_gguf_value *v = nb_hf_export_find(x, name);
    return v && v->kind == NB_GGUF_BOOL ? v->data[0] != 0 : otherwise;
}

nb_status nb_hf_export_strings(nb_hf_exporter *x, const char *name, nb_str **out, size_t *count, nb_error *err)
{
    const nb_gguf_value *v = nb_hf_export_find(x, name);
    *count = 0;
    if (!v || v->kind != NB_GGUF_ARRAY || v->element != NB_GGUF_STRING)
        return NB_OK;
    nb_str *table = NB_ARRAY(&x->arena, nb_str, v->count + 1);
    const unsigned char *p = v->data;
    if (!table)
        return nb_fail_memory(err, name, v->count * sizeof *table);
    for (size_t i = 0; i < v->count; i++) {
        uint64_t n;
        memcpy(&n, p, sizeof n);
        table[i] = (nb_str){(const char *)p + 8, (size_t)n};
        p += 8 + n;
    }
    *out = table;
    *count = v->count;
    return NB_OK;
}

nb_status nb_hf_export_file(const nb_hf_exporter *x, const char *name, const nb_buf *text, nb_error *err)
{
    char *path;
    nb_writer *w;
    if (text->failed || asprintf(&path, "%s/%s", x->dir, name) < 0)
        return nb_fail_memory(err, name, text->len);
    nb_status status = nb_writer_open(path, &w, err);
    free(path);
    NB_TRY(status);
    status = nb_writer_write(w, text->data, text->len, err);
    if (status == NB_OK)
        return nb_writer_commit(w, err);
    nb_writer_abort(w);
    return status;
}

/* ---- which tensors ---- */

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

static uint64_t head_rows(const nb_hf_exporter *x, nb_hf_change change, const nb_source_tensor *t)
{
    uint64_t rows = t->n_dims == 1 ? t->dims[0] : t->dims[1];
    uint64_t heads = change == NB_HF_PERMUTE_Q ? x->heads : x->kv_heads;
    return rows % (2 * heads) == 0 ? rows / heads : 0;
}

static nb_status add_item(nb_hf_exporter *x, list *l, item it, nb_error *err)
{
    const nb_source_tensor *t = &x->s->tensors[it.from];
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? l->capacity * 2 : 256;
        item *grown = realloc(l->items, capacity * sizeof *grown);
        if (!grown)
            return nb_fail_memory(err, "tensors", capacity * sizeof *grown);
        l->items = grown;
        l->capacity = capacity;
    }
    if (it.name.n == 0)
        return nb_fail_memory(err, "tensors", t->name.n);
    l->used[it.from] = true;
    l->bytes += (it.rows ? it.rows : nb_source_rows(t)) * t->dims[0] * nb_dtype_bytes(x->dtype);
    l->items[l->count++] = it;
    return NB_OK;
}

/* a matrix for each expert */
static nb_status add_experts(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, nb_error *err)
{
    nb_str gguf = spell(x, row->gguf, block, 0, ".weight");
    const nb_source_tensor *t = nb_source_find_tensor(x->s, gguf);
    if (!t)
        return nb_fail(err, NB_ERR_FORMAT, "%s: has no tensor '%.*s'; the file is not whole: convert the model again",
                       x->s->path, NB_STR_ARG(gguf));
    for (uint64_t e = 0; e < t->dims[2]; e++) {
        item it = {.from = (size_t)(t - x->s->tensors), .name = spell(x, row->hf, block, e, ".weight")};
        it.first = e * t->dims[1];
        it.rows = t->dims[1];
        NB_TRY(add_item(x, l, it, err));
    }
    return NB_OK;
}

static nb_status add_part(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, const char *end,
                          bool *found, nb_error *err)
{
    nb_str gguf = spell(x, row->gguf, block, 0, end);
    const nb_source_tensor *t = nb_source_find_tensor(x->s, gguf);
    *found = t != NULL;
    if (!t)
        return NB_OK;
    item it = {.from = (size_t)(t - x->s->tensors), .name = spell(x, row->hf, block, 0, end), .change = row->change};
    if (row->change == NB_HF_TRANSPOSE && t->n_dims != 2)
        it.change = NB_HF_AS_IS;
    if (row->change == NB_HF_PERMUTE_Q || row->change == NB_HF_PERMUTE_K) {
        it.head = head_rows(x, row->change, t);
        if (it.head == 0)
            return nb_fail(err, NB_ERR_FORMAT,
                           "%s: the rows of tensor '%.*s' are not whole heads; convert the model again", x->s->path,
                           NB_STR_ARG(gguf));
    }
    return add_item(x, l, it, err);
}

bool nb_hf_export_is_sparse(nb_hf_exporter *x, uint64_t block)
{
    return nb_source_find_tensor(x->s, spell(x, "blk.%d.ffn_gate_inp", block, 0, ".weight")) != NULL;
}

static nb_status add_row(nb_hf_exporter *x, list *l, const nb_hf_tensor_row *row, uint64_t block, nb_error *err)
{
    bool weight, bias;
    if (row->flags & (NB_HF_SPARSE | NB_HF_DENSE) &&
        row->flags & (nb_hf_export_is_sparse(x, block) ? NB_HF_DENSE : NB_HF_SPARSE))
        return NB_OK;
    if (row->change == NB_HF_EXPERTS || row->change == NB_HF_EXPERTS_GATE || row->change == NB_HF_EXPERTS_UP)
        return add_experts(x, l, row, block, err);
    NB_TRY(add_part(x, l, row, block, ".weight", &weight, err));
    NB_TRY(add_part(x, l, row, block, ".bias", &bias, err));
    if (row->flags & NB_HF_TIED)
        x->tied = !weight;
    else if (!weight && !(row->flags & NB_HF_OPTIONAL))
        return nb_fail(err, NB_ERR_FORMAT, "%s: has no tensor '%.*s'; the file is not whole: convert the model again",
                       x->s->path, NB_STR_ARG(spell(x, row->gguf, block, 0, ".weight")));
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

static nb_status list_tensors(nb_hf_exporter *x, list *l, nb_error *err)
{
    l->used = calloc(x->s->tensor_count + 1, sizeof *l->used);
    if (!l->used)
        return nb_fail_memory(err, "tensors", x->s->tensor_count);
    for (const nb_hf_tensor_row *row = x->arch->tensors; row->gguf; row++) {
        uint64_t blocks = strstr(row->gguf, "%d") ? x->blocks : 1;
        for (uint64_t block = 0; block < blocks; block++)
            NB_TRY(add_row(x, l, row, block, err));
    }
    for (size_t i = 0; i < x->s->tensor_count; i++)
        if (!l->used[i] && !is_said_elsewhere(x->s->tensors[i].name))
            return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: tensor '%.*s' has no place in a %s checkpoint of Hugging Face",
                           x->s->path, NB_STR_ARG(x->s->tensors[i].name), x->arch->classes[0]);
    return NB_OK;
}

/* ---- values ---- */

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

typedef struct room { /* for rows on their way */
    void *codes;
    float *values, *turned;
    void *out;
} room;

static void room_free(room *r)
{
    free(r->codes);
    free(r->values);
    free(r->turned);
    free(r->out);
}

/* Rows [row, row + count) of the checkpoint's tensor. */
static nb_status read_rows(const nb_hf_exporter *x, const item *it, uint64_t row, uint64_t count, room *r,
                           nb_error *err)
{
    const nb_source_tensor *t = &x->s->tensors[it->from];
    size_t row_bytes, n = t->dims[0];
    nb_type_row_bytes(t->type, n, &row_bytes);
    if (it->head && t->n_dims > 1) {
        for (uint64_t i = 0; i < count; i++)
            NB_TRY(x->s->read(x->s, it->from, nb_hf_unpermuted(row + i, it->head), 1, (char *)r->codes + i * row_bytes,
                              err));
    } else {
        NB_TRY(x->s->read(x->s, it->from, row, count, r->codes, err));
    }
    for (uint64_t i = 0; i < count; i++)
        t->type->dequantize((const char *)r->codes + i * row_bytes, r->values + i * n, n);
    if (it->head && t->n_dims == 1) { /* a bias: its values are the rows */
        memcpy(r->turned, r->values, n * sizeof *r->turned);
        for (size_t i = 0; i < n; i++)
            r->values[i] = r->turned[nb_hf_unpermuted(i, it->head)];
    }
    for (size_t i = 0; it->change == NB_HF_ADD_1 && i < n * count; i++)
        r->values[i] -= 1;
    return NB_OK;
}

typedef struct progress {
    nb_hf_export_progress_fn *call;
    void *user;
    uint64_t done, all;
} progress;

static nb_status report(const nb_hf_exporter *x, const item *it, size_t bytes, progress *p, nb_error *err)
{
    p->done += bytes;
    if (p->call && p->call(p->user, it->name, p->done, p->all))
        return nb_fail(err, NB_ERR_CANCELLED, "%s: cancelled", x->dir);
    return NB_OK;
}

/* The matrix the other way, whole: rows that are columns need all of them. */
static nb_status write_transposed(const nb_hf_exporter *x, const item *it, nb_safetensors_writer *w, progress *p,
                                  nb_error *err)
{
    const nb_source_tensor *t = &x->s->tensors[it->from];
    size_t row_bytes, n = t->dims[0], rows = (size_t)nb_source_rows(t);
    nb_type_row_bytes(t->type, n, &row_bytes);
    char *codes = malloc(row_bytes * rows);
    float *values = malloc(n * sizeof *values), *turned = malloc(n * rows * sizeof *turned);
    nb_status status = codes && values && turned ? x->s->read(x->s, it->from, 0, rows, codes, err)
                                                 : nb_fail_memory(err, "a matrix", n * rows * 2 * sizeof *turned);
    for (size_t r = 0; status == NB_OK && r < rows; r++) {
        t->type->dequantize(codes + r * row_bytes, values, n);
        for (size_t k = 0; k < n; k++)
            turned[k * rows + r] = values[k];
    }
    free(codes);
    free(values);
    void *out = status == NB_OK ? malloc(n * rows * sizeof *turned) : NULL;
    if (status == NB_OK && !out)
        status = nb_fail_memory(err, "a matrix", n * rows * sizeof *turned);
    if (status == NB_OK && !narrow(x->dtype, turned, n * rows, out))
        status = nb_fail(err, NB_ERR_UNSUPPORTED,
                         "%s: tensor '%.*s' has a value that is too large for F16; give --type BF16 or F32", x->s->path,
                         NB_STR_ARG(t->name));
    if (status == NB_OK)
        status = nb_safetensors_data(w, out, n * rows * nb_dtype_bytes(x->dtype), err);
    free(turned);
    free(out);
    return status == NB_OK ? report(x, it, n * rows * nb_dtype_bytes(x->dtype), p, err) : status;
}

static nb_status write_rows(const nb_hf_exporter *x, const item *it, nb_safetensors_writer *w, uint64_t step, room *r,
                            progress *p, nb_error *err)
{
    const nb_source_tensor *t = &x->s->tensors[it->from];
    uint64_t rows = it->first + (it->rows ? it->rows : nb_source_rows(t));
    for (uint64_t row = it->first; row < rows; row += step) {
        uint64_t count = rows - row < step ? rows - row : step;
        size_t n = (size_t)(count * t->dims[0]), bytes = n * nb_dtype_bytes(x->dtype);
        NB_TRY(read_rows(x, it, row, count, r, err));
        if (!narrow(x->dtype, r->values, n, r->out))
            return nb_fail(err, NB_ERR_UNSUPPORTED,
                           "%s: tensor '%.*s' has a value in row %" PRIu64 " to %" PRIu64
                           " that is too large for F16; give --type BF16 or F32",
                           x->s->path, NB_STR_ARG(t->name), row, row + count - 1);
        NB_TRY(nb_safetensors_data(w, r->out, bytes, err));
        if (x->s->forget && !it->head)
            x->s->forget(x->s, it->from, row, count);
        NB_TRY(report(x, it, bytes, p, err));
    }
    return NB_OK;
}

static nb_status write_tensor(const nb_hf_exporter *x, const item *it, nb_safetensors_writer *w, progress *p,
                              nb_error *err)
{
    enum { VALUES = 1 << 18 }; /* at a time */
    const nb_source_tensor *t = &x->s->tensors[it->from];
    size_t row_bytes, n = t->dims[0];
    uint64_t step = n >= VALUES ? 1 : VALUES / n;
    if (!nb_type_row_bytes(t->type, n, &row_bytes))
        return nb_fail(err, NB_ERR_FORMAT, "%s: rows of tensor '%.*s' are not whole blocks", x->s->path,
                       NB_STR_ARG(t->name));
    if (it->change == NB_HF_TRANSPOSE)
        return write_transposed(x, it, w, p, err);
    step = step < nb_source_rows(t) ? step : nb_source_rows(t);
    room r = {malloc(row_bytes * step), malloc(n * step * sizeof(float)), malloc(n * sizeof(float)),
              malloc(n * step * sizeof(float))};
    nb_status status = r.codes && r.values && r.turned && r.out
                           ? write_rows(x, it, w, step, &r, p, err)
                           : nb_fail_memory(err, "rows", n * step * sizeof(float) * 3);
    room_free(&r);
    return status;
}

static nb_status write_tensors(const nb_hf_exporter *x, const list *l, uint64_t shard_bytes, progress *p, nb_error *err)
{
    nb_safetensors_writer *w;
    nb_status status = NB_OK;
    NB_TRY(nb_safetensors_writer_open(x->dir, shard_bytes, &w, err));
    for (size_t i = 0; i < l->count; i++) {
        const nb_source_tensor *t = &x->s->tensors[l->items[i].from];
        uint64_t dims[4];
        uint32_t n_dims = l->items[i].rows ? 2 : t->n_dims;
        for (uint32_t d = 0; d < n_dims; d++)
            dims[d] = t->dims[n_dims - 1 - d];
        if (l->items[i].change == NB_HF_TRANSPOSE) {
            dims[0] = t->dims[0];
            dims[1] = t->dims[1];
        }
        nb_safetensors_put(w, l->items[i].name, x->dtype, n_dims, dims);
    }
    for (size_t i = 0; i < l->count && status == NB_OK; i++)
        status = write_tensor(x, &l->items[i], w, p, err);
    if (status == NB_OK)
        return nb_safetensors_writer_commit(w, err);
    nb_safetensors_writer_abort(w);
    return status;
}

/* ---- the whole ---- */

bool nb_hf_exports(nb_str architecture)
{
    const nb_hf_arch *arch = nb_hf_arch_of_gguf(architecture);
    return arch && arch->put;
}

/* of most values; what is quantized fits F16 as well as it can be told */
static nb_dtype choose_dtype(const nb_source *s)
{
    uint64_t values[3] = {0}; /* F32, BF16, others */
    for (size_t i = 0; i < s->tensor_count; i++) {
        uint32_t id = s->tensors[i].type->id;
        values[id == NB_TYPE_F32    ? 0
               : id == NB_TYPE_BF16 ? 1
                                    : 2] += nb_source_rows(&s->tensors[i]) * s->tensors[i].dims[0];
    }
    if (values[1] >= values[0] && values[1] >= values[2])
        return NB_DTYPE_BF16;
    return values[0] >= values[2] ? NB_DTYPE_F32 : NB_DTYPE_F16;
}

static nb_status missing(const nb_hf_exporter *x, const char *key, nb_error *err)
{
    return nb_fail(err, NB_ERR_FORMAT, "%s: has no %s%s of a size that can be; convert the model again", x->s->path,
                   x->arch->gguf, key);
}

static nb_status read_shape(nb_hf_exporter *x, nb_error *err)
{
    const nb_source_tensor *embedding = nb_source_find_tensor(x->s, NB_STR("token_embd.weight"));
    uint64_t window = 0, experts = 0;
    if (!nb_hf_export_u64(x, ".block_count", &x->blocks) || x->blocks == 0 || x->blocks > 4096)
        return missing(x, ".block_count", err);
    if (!nb_hf_export_u64(x, ".embedding_length", &x->width) || x->width == 0)
        return missing(x, ".embedding_length", err);
    if (!nb_hf_export_u64(x, ".attention.head_count", &x->heads) || x->heads == 0 || x->heads > 1 << 16)
        return missing(x, ".attention.head_count", err);
    x->kv_heads = x->heads;
    nb_hf_export_u64(x, ".attention.head_count_kv", &x->kv_heads);
    if (x->kv_heads == 0 || x->kv_heads > x->heads)
        return missing(x, ".attention.head_count_kv", err);
    x->head_dim = x->width / x->heads;
    nb_hf_export_u64(x, ".attention.key_length", &x->head_dim);
    nb_hf_export_u64(x, ".expert_count", &experts);
    if (experts && strcmp(x->arch->gguf, "llama") == 0)
        x->arch = nb_hf_arch_of_class(NB_STR("MixtralForCausalLM"));
    x->mistral = strcmp(x->arch->model_type, "llama") == 0 &&
                 nb_hf_export_u64(x, ".attention.sliding_window", &window);
    x->class_name = x->arch->classes[0];
    x->model_type = x->arch->model_type;
    if (x->mistral) {
        x->class_name = "MistralForCausalLM";
        x->model_type = "mistral";
    }
    if (nb_str_eqz(nb_str_of(x->arch->gguf), "olmo2") && nb_hf_export_u64(x, ".attention.sliding_window", &window)) {
        x->class_name = "Olmo3ForCausalLM";
        x->model_type = "olmo3";
    }
    x->vocabulary = embedding ? embedding->dims[1] : 0;
    for (uint64_t block = 0; block < x->blocks && x->expert_ff == 0; block++) {
        const nb_source_tensor *up = nb_source_find_tensor(x->s, spell(x, "blk.%d.ffn_up_exps", block, 0, ".weight"));
        const nb_source_tensor *shared = nb_source_find_tensor(x->s,
                                                               spell(x, "blk.%d.ffn_up_shexp", block, 0, ".weight"));
        x->expert_ff = up ? up->dims[1] : 0;
        x->shared_ff = shared ? shared->dims[1] : 0;
    }
    return NB_OK;
}

static nb_status make_directory(const char *dir, nb_error *err)
{
    if (mkdir(dir, 0777) == 0 || errno == EEXIST)
        return NB_OK;
    return nb_fail(err, NB_ERR_IO, "%s: cannot make the directory: %s", dir, strerror(errno));
}

static nb_status export(nb_hf_exporter *x, list *l, uint64_t shard_bytes, progress *p, nb_error *err)
{
    NB_TRY(read_shape(x, err));
    NB_TRY(list_tensors(x, l, err));
    if (x->mistral && (x->attention_bias || x->mlp_bias))
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: has a window and biases, which no class of transformers has together", x->s->path);
    p->all = l->bytes;
    NB_TRY(make_directory(x->dir, err));
    NB_TRY(nb_hf_export_tokenizer(x, err));
    NB_TRY(write_tensors(x, l, shard_bytes, p, err));
    return nb_hf_export_config(x, err);
}

static nb_status not_exported(const nb_source *s, nb_str name, nb_error *err)
{
    nb_buf known = {0};
    for (size_t i = 0; nb_hf_arch_at(i); i++) {
        nb_str row = nb_str_of(nb_hf_arch_at(i)->gguf);
        if (nb_hf_exports(row) && nb_hf_arch_of_gguf(row) == nb_hf_arch_at(i)) /* several rows may have one name */
            nb_buf_printf(&known, "%s%.*s", known.len ? ", " : "", NB_STR_ARG(row));
    }
    nb_fail(err, NB_ERR_UNSUPPORTED, "%s: models of architecture '%.*s' are not written as directories; these are: %.*s",
            s->path, NB_STR_ARG(name), (int)known.len, known.len ? known.data : "");
    nb_buf_free(&known);
    return NB_ERR_UNSUPPORTED;
}

nb_status nb_hf_export(const nb_source *s, const char *dir, const nb_hf_export_params *params,
                       nb_hf_export_progress_fn *call, void *user, nb_hf_export_result *result, nb_error *err)
{
    const nb_gguf_value *v = nb_source_find(s, "general.architecture");
    nb_str name = v && v->kind == NB_GGUF_STRING ? (nb_str){(const char *)v->data, v->bytes} : NB_STR("");
    nb_hf_exporter x = {.s = s, .dir = dir, .arch = nb_hf_arch_of_gguf(name), .dtype = choose_dtype(s)};
    list l = {0};
    progress p = {call, user, 0, 0};
    if (!nb_hf_exports(name) || !x.arch)
        return not_exported(s, name, err);
    if (params->type &&
        (params->type->id == NB_TYPE_F32 || params->type->id == NB_TYPE_F16 || params->type->id == NB_TYPE_BF16))
        x.dtype = params->type->id == NB_TYPE_F32   ? NB_DTYPE_F32
                  : params->type->id == NB_TYPE_F16 ? NB_DTYPE_F16
                                                    : NB_DTYPE_BF16;
    else if (params->type)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: a directory of Hugging Face cannot hold %s; give --type F32, F16 or BF16", dir,
                       params->type->name);
    nb_status status = export(&x, &l, params->shard_bytes, &p, err);
    if (result)
        *result = (nb_hf_export_result){x.dtype, l.bytes, l.count};
    free(l.items);
    free(l.used);
    nb_arena_free(&x.arena);
    return status;
}
