/* The tensors of a PEFT directory as pairs under GGUF's names. */
#include "hf/hf_adapter.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/checkpoint.h"
#include "hf/hf_adapter_config.h"
#include "hf/hf_arch.h"
#include "hf/hf_missing.h"

bool nb_hf_is_adapter(const char *path) { return nb_hf_is_directory(path); }

typedef struct reader {
    const nb_adapter_base *base;
    nb_hf_adapter_config config;
    nb_checkpoint *checkpoint;
    nb_adapter *adapter;
} reader;

/* ---- names ---- */

static const char a_end[] = ".lora_A.weight", b_end[] = ".lora_B.weight";

static bool ends_in(nb_str s, const char *end)
{
    size_t n = strlen(end);
    return s.n > n && memcmp(s.p + s.n - n, end, n) == 0;
}

static bool holds(nb_str s, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= s.n; i++)
        if (memcmp(s.p + i, part, n) == 0)
            return true;
    return false;
}

/* "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": the module of the model that was trained */
static nb_str module_of(nb_str name, const char *end)
{
    static const char wrapper[] = "base_model.model.";
    name.n -= strlen(end);
    if (nb_str_starts(name, nb_str_of(wrapper)))
        name = (nb_str){name.p + sizeof wrapper - 1, name.n - (sizeof wrapper - 1)};
    return name;
}

/* Whether `module` is the table's name with that prefix and some block. */
static bool is_named(nb_str module, const char *name, const char *prefix, int *block)
{
    size_t at = 0;
    *block = -1;
    if (*name == '~') {
        if (!nb_str_starts(module, nb_str_of(prefix)))
            return false;
        at = strlen(prefix);
        name++;
    }
    while (*name && at < module.n) {
        if (*block < 0 && name[0] == '%' && name[1] == 'd') {
            size_t digits = 0;
            for (*block = 0; at < module.n && module.p[at] >= '0' && module.p[at] <= '9' && digits < 5; at++, digits++)
                *block = *block * 10 + (module.p[at] - '0');
            if (digits == 0)
                return false;
            name += 2;
        } else if (*name++ != module.p[at++]) {
            return false;
        }
    }
    return !*name && at == module.n;
}

static bool names(const nb_hf_arch *arch, const nb_hf_tensor_row *row, nb_str module, int *block)
{
    for (const char *const *p = arch->prefixes; *p; p++)
        if (is_named(module, row->hf, *p, block))
            return true;
    return false;
}

/* The row of the tables of this architecture that names the module, behind `last` (NULL: the first); NULL: none does. */
static const nb_hf_tensor_row *find_row(const reader *r, nb_str module, const nb_hf_tensor_row *last, int *block)
{
    bool passed = last == NULL;
    for (size_t i = 0; nb_hf_arch_at(i); i++) {
        const nb_hf_arch *arch = nb_hf_arch_at(i);
        bool here = nb_str_eqz(r->base->architecture, arch->gguf);
        for (const nb_hf_tensor_row *row = arch->tensors; here && row->gguf; row++) {
            if (passed && names(arch, row, module, block))
                return row;
            passed = passed || row == last;
        }
        if (here && last && passed) /* rows of one module are in one table */
            return NULL;
    }
    return NULL;
}

static bool spell(reader *r, const nb_hf_tensor_row *row, int block, nb_str *name)
{
    char text[128];
    const char *hole = strstr(row->gguf, "%d");
    int n = hole ? snprintf(text, sizeof text, "%.*s%d%s.weight", (int)(hole - row->gguf), row->gguf, block, hole + 2)
                 : snprintf(text, sizeof text, "%s.weight", row->gguf);
    if (n < 0 || (size_t)n >= sizeof text)
        return false;
    *name = (nb_str){nb_arena_strdup(&r->adapter->arena, (nb_str){text, (size_t)n}), (size_t)n};
    return name->p != NULL;
}

/* ---- tensors ---- */

static nb_status refuse(const nb_checkpoint_tensor *t, nb_error *err, const char *why)
{
    return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: tensor '%.*s' %s", t->file, NB_STR_ARG(t->name), why);
}

static const nb_type_info *type_of(const nb_checkpoint_tensor *t)
{
    switch (t->dtype) {
    case NB_DTYPE_F16: return nb_type_get(NB_TYPE_F16);
    case NB_DTYPE_BF16: return nb_type_get(NB_TYPE_BF16);
    case NB_DTYPE_F32:
    case NB_DTYPE_F64:
    case NB_DTYPE_F8_E4M3:
    case NB_DTYPE_F8_E5M2: return nb_type_get(NB_TYPE_F32);
    default: return NULL;
    }
}

typedef struct order {   /* of rows in the model's files, which follow from its heads */
    nb_hf_change change; /* NB_HF_AS_IS: the checkpoint's */
    uint64_t head, queries, groups;
    uint64_t first, rows; /* those of B that are meant: gate and up may be in one */
} order;

static uint64_t origin(const order *o, uint64_t r)
{
    return o->change == NB_HF_GROUPED ? nb_hf_ungrouped(r, o->head, o->queries, o->groups)
           : o->change == NB_HF_AS_IS ? o->first + r
                                      : nb_hf_permuted(r, o->head);
}

static void read_ordered(const nb_checkpoint_tensor *t, const order *o, float *out)
{
    uint64_t columns = t->dims[1];
    for (uint64_t r = 0; r < o->rows; r++)
        nb_checkpoint_read_f32(t, origin(o, r) * columns, columns, out + r * columns);
}

/* A matrix of the checkpoint as GGUF has it: in place where that is possible, else made as float32. */
static nb_status take_matrix(reader *r, const nb_checkpoint_tensor *t, const order *o, const nb_gguf_tensor **out,
                             nb_error *err)
{
    nb_gguf_tensor *m = NB_NEW(&r->adapter->arena, nb_gguf_tensor);
    if (!m)
        return nb_fail_memory(err, t->file, sizeof *m);
    if (t->n_dims != 2)
        return refuse(t, err, "is no matrix: adapters of convolutions and experts are not supported");
    if (!type_of(t))
        return refuse(t, err, "does not hold floating-point numbers; save the adapter as float32, float16 or bfloat16");
    *m = (nb_gguf_tensor){.name = t->name, .type = type_of(t), .n_dims = 2, .dims = {t->dims[1], o->rows, 1, 1}};
    *out = m;
    if (o->rows == t->dims[0] && o->change == NB_HF_AS_IS && t->contiguous &&
        nb_dtype_bytes(t->dtype) == m->type->block_bytes) {
        m->data = t->data;
    } else {
        float *values = NB_ARRAY(&r->adapter->arena, float, o->rows * t->dims[1]);
        if (!values)
            return nb_fail_memory(err, t->file, (size_t)t->values * sizeof *values);
        read_ordered(t, o, values);
        m->data = values;
        m->type = nb_type_get(NB_TYPE_F32);
    }
    m->bytes = (size_t)(o->rows * t->dims[1]) * m->type->block_bytes;
    return NB_OK;
}

#define OTHER_FORM                                                                                                     \
    "is of a tensor that is stored in another form in GGUF files; merge it with peft's merge_and_unload and convert "  \
    "the "                                                                                                             \
    "model"

static nb_status find_order(const reader *r, const nb_hf_tensor_row *row, const nb_checkpoint_tensor *b, order *o,
                            nb_error *err)
{
    uint64_t heads = r->base->heads, kv_heads = r->base->kv_heads, rows = b->n_dims ? b->dims[0] : 0, all = 0;
    *o = (order){.change = row->change, .rows = rows};
    switch (row->change) {
    case NB_HF_EXPERTS_GATE: /* a pair of halves; of experts they are no matrix */
    case NB_HF_EXPERTS_UP:
        if (b->n_dims != 2 || rows % 2 != 0 || !strstr(row->gguf, "_shexp"))
            return refuse(b, err, OTHER_FORM);
        o->rows = rows / 2;
        o->first = row->change == NB_HF_EXPERTS_UP ? o->rows : 0;
        o->change = NB_HF_AS_IS;
        return NB_OK;
    case NB_HF_AS_IS: return NB_OK;
    case NB_HF_TRANSPOSE: /* the weights alone: PEFT has A and B of a Conv1D (fan_in_fan_out) as of a linear layer */
        o->change = NB_HF_AS_IS;
        return NB_OK;
    case NB_HF_PERMUTE_Q: all = heads; break;
    case NB_HF_PERMUTE_K: all = kv_heads; break;
    case NB_HF_GROUPED:
        all = kv_heads && heads % kv_heads == 0 ? heads + 2 * kv_heads : 0;
        o->groups = kv_heads;
        o->queries = kv_heads ? heads / kv_heads : 0;
        break;
    default: return refuse(b, err, OTHER_FORM);
    }
    bool pairs = row->change != NB_HF_GROUPED; /* of rows in a head */
    if (all == 0 || rows == 0 || rows % (pairs ? 2 * all : all) != 0)
        return nb_fail(
            err, NB_ERR_FORMAT,
            "%s: tensor '%.*s' has %llu rows, which cannot be cut into %llu heads; the adapter is of another "
            "model: give the one it was trained on",
            b->file, NB_STR_ARG(b->name), (unsigned long long)rows, (unsigned long long)all);
    o->head = rows / all;
    return NB_OK;
}

static nb_status unknown(const reader *r, const nb_checkpoint_tensor *t, nb_error *err)
{
    bool table = false;
    for (size_t i = 0; nb_hf_arch_at(i); i++)
        table |= nb_str_eqz(r->base->architecture, nb_hf_arch_at(i)->gguf);
    if (!table)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: PEFT's names of modules are not known for %.*s models; give the adapter as a GGUF file",
                       r->adapter->path, NB_STR_ARG(r->base->architecture));
    if (holds(t->name, ".experts."))
        return refuse(t, err,
                      "is of an expert: adapters of experts are not supported; merge it with peft's "
                      "merge_and_unload and convert the model");
    return nb_fail(
        err, NB_ERR_UNSUPPORTED,
        "%s: tensor '%.*s' is of no matrix that %.*s models have; give the model that the adapter was trained on",
        t->file, NB_STR_ARG(t->name), NB_STR_ARG(r->base->architecture));
}

static nb_status add_row(reader *r, const nb_hf_tensor_row *row, int block, const nb_checkpoint_tensor *a,
                         const nb_checkpoint_tensor *b, nb_error *err)
{
    nb_adapter_pair pair = {0};
    order rows, as_is = {.change = NB_HF_AS_IS, .rows = a->n_dims ? a->dims[0] : 0};
    NB_TRY(find_order(r, row, b, &rows, err));
    if (!spell(r, row, block, &pair.name))
        return nb_fail_memory(err, a->file, a->name.n);
    NB_TRY(take_matrix(r, a, &as_is, &pair.a, err));
    NB_TRY(take_matrix(r, b, &rows, &pair.b, err));
    NB_TRY(nb_hf_adapter_scale(&r->config, module_of(a->name, a_end), pair.a->dims[1], &pair.scale, err));
    return nb_adapter_add(r->adapter, pair, err);
}

/* the tensor of the module, or those that its halves became */
static nb_status add_pair(reader *r, const nb_checkpoint_tensor *a, const nb_checkpoint_tensor *b, nb_error *err)
{
    nb_str module = module_of(a->name, a_end);
    int block;
    const nb_hf_tensor_row *row = find_row(r, module, NULL, &block);
    if (!row)
        return unknown(r, a, err);
    NB_TRY(add_row(r, row, block, a, b, err));
    bool halves = row->change == NB_HF_EXPERTS_GATE;
    row = halves ? find_row(r, module, row, &block) : NULL;
    return row ? add_row(r, row, block, a, b, err) : NB_OK;
}

/* Of a head with an adapter PEFT saves the model's own matrix, too, unless told not to; it was not trained. */
static bool is_base_copy(const reader *r, nb_str name)
{
    static const char end[] = ".base_layer.weight";
    char text[600];
    if (!ends_in(name, end))
        return false;
    int n = snprintf(text, sizeof text, "%.*s%s", (int)(name.n - (sizeof end - 1)), name.p, a_end);
    return n > 0 && (size_t)n < sizeof text && nb_checkpoint_find(r->checkpoint, (nb_str){text, (size_t)n});
}

static nb_status add_tensor(reader *r, const nb_checkpoint_tensor *t, nb_error *err)
{
    char name[600];
    bool is_a = ends_in(t->name, a_end), is_b = ends_in(t->name, b_end);
    if (holds(t->name, ".lora_embedding_"))
        return refuse(t, err,
                      "is an adapter of an embedding, which is not supported; merge it with peft's "
                      "merge_and_unload and convert the model");
    if (holds(t->name, ".lora_magnitude_vector"))
        return refuse(t, err,
                      "is DoRA's, which is not supported; merge it with peft's merge_and_unload and convert the "
                      "model");
    if (is_base_copy(r, t->name))
        return NB_OK;
    if (!is_a && !is_b)
        return refuse(t, err,
                      "is no lora_A or lora_B: whole modules in adapters are not supported; merge them with "
                      "peft's merge_and_unload and convert the model");
    size_t end = sizeof a_end - 1;
    int n = snprintf(name, sizeof name, "%.*s%s", (int)(t->name.n - end), t->name.p, is_a ? b_end : a_end);
    const nb_checkpoint_tensor *other = n > 0 && (size_t)n < sizeof name
                                            ? nb_checkpoint_find(r->checkpoint, (nb_str){name, (size_t)n})
                                            : NULL;
    if (!other)
        return nb_fail(err, NB_ERR_FORMAT, "%s: tensor '%.*s' is there, but its %s is not; get the adapter again",
                       t->file, NB_STR_ARG(t->name), is_a ? "lora_B" : "lora_A");
    return is_a ? add_pair(r, t, other, err) : NB_OK;
}

/* ---- the directory ---- */

static void close_checkpoint(void *owner) { nb_checkpoint_close(owner); }

static nb_status open_weights(reader *r, const char *path, nb_error *err)
{
    static const char *const names[] = {"adapter_model.safetensors", "adapter_model.bin"};
    char file[4096];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (nb_hf_holds(path, names[i])) {
            snprintf(file, sizeof file, "%s/%s", path, names[i]);
            return nb_checkpoint_open(file, &r->checkpoint, err);
        }
    return nb_fail(err, NB_ERR_NOT_FOUND, "%s: has no %s and no %s; get the whole adapter", path, names[0], names[1]);
}

static nb_status read_all(reader *r, const char *path, nb_error *err)
{
    if (!nb_hf_holds(path, "adapter_config.json"))
        return nb_hf_no_adapter(path, err);
    NB_TRY(nb_hf_adapter_config_read(path, &r->config, err));
    NB_TRY(open_weights(r, path, err));
    nb_status status = nb_adapter_new(path, r->base->architecture, &r->adapter, err);
    if (status != NB_OK) {
        nb_checkpoint_close(r->checkpoint);
        return status;
    }
    r->adapter->owner = r->checkpoint;
    r->adapter->release = close_checkpoint;
    for (size_t i = 0; i < nb_checkpoint_count(r->checkpoint); i++)
        NB_TRY(add_tensor(r, nb_checkpoint_at(r->checkpoint, i), err));
    if (r->adapter->count == 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s: has no tensors of LoRA; get the adapter again", path);
    return NB_OK;
}

nb_status nb_hf_adapter_open(const char *path, const nb_adapter_base *base, nb_adapter **out, nb_error *err)
{
    reader r = {.base = base};
    nb_status status = read_all(&r, path, err);
    nb_hf_adapter_config_free(&r.config);
    *out = NULL;
    if (status == NB_OK)
        *out = r.adapter;
    else
        nb_adapter_free(r.adapter);
    return status;
}
