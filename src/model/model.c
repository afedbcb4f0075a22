#include "model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/hparams.h"
#include "num/half.h"

#define NB_ARCH(name, known) extern const nb_arch nb_arch_##name;
#include "model/arch.def"
#undef NB_ARCH

static const nb_arch *const archs[] = {
#define NB_ARCH(name, known) &nb_arch_##name,
#include "model/arch.def"
#undef NB_ARCH
};

static const char *const known_models[] = {
#define NB_ARCH(name, known) known,
#include "model/arch.def"
#undef NB_ARCH
};

size_t nb_arch_count(void) { return sizeof archs / sizeof *archs; }
const nb_arch *nb_arch_at(size_t i) { return archs[i]; }
const char *nb_arch_known(size_t i) { return known_models[i]; }

const nb_arch *nb_arch_find(nb_str name)
{
    for (size_t i = 0; i < nb_arch_count(); i++)
        if (nb_str_eqz(name, archs[i]->name))
            return archs[i];
    return NULL;
}

static nb_status find_arch(const nb_gguf *g, const nb_arch **arch, nb_error *err)
{
    nb_str name = {0};
    nb_buf known = {0};
    if (nb_gguf_get_str(g, "general.architecture", &name, err) != NB_OK)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: general.architecture is missing: this GGUF file does not say what model it holds",
                       nb_gguf_path(g));
    *arch = nb_arch_find(name);
    if (*arch)
        return NB_OK;
    for (size_t i = 0; i < nb_arch_count(); i++)
        nb_buf_printf(&known, "%s%s", i ? ", " : "", archs[i]->name);
    nb_fail(err, NB_ERR_UNSUPPORTED, "%s: architecture \"%.*s\" is not supported; these are: %s", nb_gguf_path(g),
            NB_STR_ARG(name), known.data ? known.data : "");
    nb_buf_free(&known);
    return NB_ERR_UNSUPPORTED;
}

/* the vocabulary's size is what the embedding says; the metadata, when present, must agree */
static nb_status read_vocab(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    const nb_gguf_tensor *t = nb_gguf_find_tensor(g, NB_STR("token_embd.weight"));
    if (!t)
        return nb_fail(err, NB_ERR_FORMAT, "%s: tensor token_embd.weight is missing", nb_gguf_path(g));
    if (t->n_dims != 2 || t->dims[1] == 0 || t->dims[1] > INT32_MAX)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: token_embd.weight has %u dimensions and %llu rows; a matrix with a row a token is expected",
                       nb_gguf_path(g), t->n_dims, (unsigned long long)t->dims[1]);
    h->vocab = (size_t)t->dims[1];
    return NB_OK;
}

static uint64_t dim_size(const nb_hparams *h, nb_dim dim)
{
    switch (dim) {
    case NB_DIM_NONE: return 1;
    case NB_DIM_EMBD: return (uint64_t)h->embd;
    case NB_DIM_FF: return (uint64_t)h->ff;
    case NB_DIM_Q: return (uint64_t)h->heads * (uint64_t)h->k_dim;
    case NB_DIM_K: return (uint64_t)h->kv_heads * (uint64_t)h->k_dim;
    case NB_DIM_V: return (uint64_t)h->kv_heads * (uint64_t)h->v_dim;
    case NB_DIM_O: return (uint64_t)h->heads * (uint64_t)h->v_dim;
    case NB_DIM_K_HEAD: return (uint64_t)h->k_dim;
    case NB_DIM_HEADS: return (uint64_t)h->heads;
    case NB_DIM_KV_HEADS: return (uint64_t)h->kv_heads;
    case NB_DIM_ROPE: return h->rope.dim / 2;
    case NB_DIM_VOCAB: return h->vocab;
    case NB_DIM_TOKEN: return (uint64_t)h->token_width;
    case NB_DIM_POSITIONS: return h->context;
    case NB_DIM_ANY: return 0;
    case NB_DIM_QKV: return dim_size(h, NB_DIM_Q) + dim_size(h, NB_DIM_K) + dim_size(h, NB_DIM_V);
    case NB_DIM_GATE_UP: return 2 * (uint64_t)h->ff;
    case NB_DIM_ONE: return 1;
    case NB_DIM_EXPERTS: return (uint64_t)h->experts;
    case NB_DIM_EXPERT_FF: return (uint64_t)h->expert_ff;
    case NB_DIM_SHARED_FF: return (uint64_t)h->shared_ff;
    case NB_DIM_RANGES: return 32;
    case NB_DIM_LATENT: return (uint64_t)h->latent;
    case NB_DIM_ROTATED: return h->rope.dim;
    case NB_DIM_LATENT_KEY: return (uint64_t)h->k_dim;
    case NB_DIM_Q_RANK: return (uint64_t)h->q_rank;
    case NB_DIM_KEY_PLAIN: return (uint64_t)h->key_plain;
    case NB_DIM_HEADS_KEY: return (uint64_t)h->heads * ((uint64_t)h->key_plain + h->rope.dim);
    case NB_DIM_HEADS_LATENT: return (uint64_t)h->heads * (uint64_t)h->latent;
    case NB_DIM_HEADS_VALUE: return (uint64_t)h->heads * (uint64_t)h->head_value;
    case NB_DIM_HEADS_BOTH: return (uint64_t)h->heads * ((uint64_t)h->key_plain + (uint64_t)h->head_value);
    }
    return 0;
}

static nb_status check_tensor(const nb_model_def *m, const nb_tensor_row *row, const nb_gguf_tensor *t, nb_error *err)
{
    const char *path = nb_gguf_path(m->gguf);
    bool matrix = row->rows != NB_DIM_NONE;
    nb_dim whole = row->whole ? row->whole : matrix ? row->rows : row->columns;
    uint64_t columns = dim_size(&m->h, matrix ? row->columns : whole),
             rows = dim_size(&m->h, matrix ? whole : NB_DIM_NONE);
    uint64_t got_rows = t->dims[1] * t->dims[2] * t->dims[3];
    bool stack = row->flags & NB_TENSOR_STACK;
    if (row->rows == NB_DIM_ANY && got_rows > 0)
        rows = got_rows;
    bool fits = !stack || !matrix || t->dims[1] == rows; /* each expert has its own */
    if (stack)
        rows *= (uint64_t)m->h.experts;
    if (t->dims[0] != columns || got_rows != rows || !fits || (!matrix && !stack && t->n_dims != 1))
        return nb_fail(err, NB_ERR_FORMAT, "%s: tensor %.*s is [%llu x %llu]; the metadata asks for [%llu x %llu]",
                       path, NB_STR_ARG(t->name), (unsigned long long)t->dims[0], (unsigned long long)got_rows,
                       (unsigned long long)columns, (unsigned long long)rows);
    if (!matrix && t->type->id != NB_TYPE_F32 && t->type->id != NB_TYPE_F16 && t->type->id != NB_TYPE_BF16)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: tensor %.*s has type %s; a vector must be F32, F16 or BF16", path,
                       NB_STR_ARG(t->name), t->type->name);
    if (!t->type->dequantize)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: tensor %.*s has type %s, which cannot be computed with", path,
                       NB_STR_ARG(t->name), t->type->name);
    return NB_OK;
}

/* The part of a tensor that several roles share: rows of a matrix, values of a vector. It stays where it is. */
static nb_status take_part(nb_model_def *m, const nb_tensor_row *row, const nb_gguf_tensor **t, nb_error *err)
{
    nb_gguf_tensor *part = NB_ARRAY(&m->arena, nb_gguf_tensor, 1);
    if (!part)
        return nb_fail(err, NB_ERR_MEMORY, "%s: out of memory", nb_gguf_path(m->gguf));
    bool matrix = row->rows != NB_DIM_NONE;
    uint64_t count = dim_size(&m->h, matrix ? row->rows : row->columns), first = 0;
    for (int i = 0; i < 2; i++)
        first += row->after[i] ? dim_size(&m->h, row->after[i]) : 0;
    size_t unit = (*t)->bytes / (size_t)dim_size(&m->h, row->whole); /* bytes of a row or a value: divides evenly */
    *part = **t;
    part->dims[0] = matrix ? part->dims[0] : count;
    part->dims[1] = matrix ? count : 1;
    part->dims[2] = part->dims[3] = 1;
    part->bytes = (size_t)count * unit;
    part->offset += first * unit;
    part->data = (const char *)(*t)->data + (size_t)first * unit;
    *t = part;
    return NB_OK;
}

/* A stack as older files have it, "ffn_up.3.weight" for "ffn_up_exps.weight": its matrices one by one. Nothing becomes of w when
 * they are not there. */
static nb_status find_split(nb_model_def *m, const char *name, nb_weight *w, nb_error *err)
{
    const char *cut = strstr(name, "_exps.weight");
    size_t experts = (size_t)m->h.experts, e = 0;
    const nb_gguf_tensor **each = cut ? NB_ARRAY(&m->arena, const nb_gguf_tensor *, experts + 1) : NULL;
    nb_gguf_tensor *all = cut ? NB_NEW(&m->arena, nb_gguf_tensor) : NULL;
    char *copy = cut ? nb_arena_strdup(&m->arena, nb_str_of(name)) : NULL;
    if (!cut)
        return NB_OK;
    if (!all || !each || !copy)
        return nb_fail(err, NB_ERR_MEMORY, "%s: out of memory", nb_gguf_path(m->gguf));
    for (; e < experts; e++) {
        char one[96];
        snprintf(one, sizeof one, "%.*s.%zu.weight", (int)(cut - name), name, e);
        each[e] = nb_gguf_find_tensor(m->gguf, nb_str_of(one));
        if (!each[0])
            return NB_OK;
        if (!each[e] || each[e]->n_dims != 2 || each[e]->type != each[0]->type ||
            memcmp(each[e]->dims, each[0]->dims, sizeof each[0]->dims) != 0)
            return nb_fail(err, NB_ERR_FORMAT, "%s: tensor %s is missing or unlike that of the first expert",
                           nb_gguf_path(m->gguf), one);
    }
    if (experts == 0)
        return NB_OK;
    *all = *each[0];
    all->name = nb_str_of(copy);
    all->n_dims = 3;
    all->dims[2] = experts;
    all->data = NULL;
    if (!nb_mul(all->bytes, experts, &all->bytes))
        return nb_fail(err, NB_ERR_FORMAT, "%s: the experts of %s fit no memory", nb_gguf_path(m->gguf), name);
    w->tensor = all;
    w->each = each;
    return NB_OK;
}

static nb_status bind_row(nb_model_def *m, const nb_tensor_row *row, int layer, nb_error *err)
{
    char name[96];
    snprintf(name, sizeof name, row->name, layer);
    const nb_gguf_tensor *t = nb_gguf_find_tensor(m->gguf, nb_str_of(name));
    int slot = (layer < 0 ? m->h.layers : layer) * NB_ROLES + (int)row->role;
    bool sparse = layer >= 0 && nb_model_weight(m, layer, NB_FFN_ROUTER) >= 0;
    if (row->flags & (sparse ? NB_TENSOR_DENSE : NB_TENSOR_SPARSE))
        return NB_OK;
    if (m->index[slot] >= 0 || (!t && (row->flags & NB_TENSOR_OPTIONAL))) /* in a shared tensor already, or absent */
        return NB_OK;
    nb_weight w = {.role = row->role, .layer = layer};
    if (!t && row->flags & NB_TENSOR_STACK) {
        NB_TRY(find_split(m, name, &w, err));
        t = w.tensor;
    }
    if (!t)
        return nb_fail(err, NB_ERR_FORMAT, "%s: tensor %s is missing; architecture %s needs it", nb_gguf_path(m->gguf),
                       name, m->arch->name);
    uint64_t own = dim_size(&m->h, row->rows);
    if (row->whole && t->dims[1] == own && row->rows != NB_DIM_NONE)
        return NB_OK; /* a single tensor under the shared one's name (ffn_up): a later row takes it */
    NB_TRY(check_tensor(m, row, t, err));
    if (row->whole)
        NB_TRY(take_part(m, row, &t, err));
    m->index[slot] = (int)m->weight_count;
    w.tensor = t;
    m->weights[m->weight_count++] = w;
    return NB_OK;
}

static nb_status bind_all(nb_model_def *m, nb_error *err)
{
    size_t rows = 0, slots = ((size_t)m->h.layers + 1) * NB_ROLES;
    while (m->arch->tensors[rows].name)
        rows++;
    m->weights = NB_ARRAY(&m->arena, nb_weight, rows * ((size_t)m->h.layers + 1));
    m->index = NB_ARRAY(&m->arena, int, slots);
    if (!m->weights || !m->index)
        return nb_fail(err, NB_ERR_MEMORY, "%s: out of memory", nb_gguf_path(m->gguf));
    for (size_t i = 0; i < slots; i++)
        m->index[i] = -1;
    for (size_t r = 0; r < rows; r++) {
        const nb_tensor_row *row = &m->arch->tensors[r];
        if (!(row->flags & NB_TENSOR_LAYER))
            NB_TRY(bind_row(m, row, -1, err));
        else
            for (int layer = 0; layer < m->h.layers; layer++)
                NB_TRY(bind_row(m, row, layer, err));
    }
    return NB_OK;
}

/* a small vector of the file as floats in the model's arena, checked to be finite and positive */
static nb_status load_factors(nb_model_def *m, nb_role role, const float **out, nb_error *err)
{
    int id = nb_model_weight(m, -1, role);
    if (id < 0)
        return NB_OK;
    const nb_gguf_tensor *t = m->weights[id].tensor;
    size_t n = (size_t)t->dims[0];
    float *factors = NB_ARRAY(&m->arena, float, n);
    if (!factors)
        return nb_fail(err, NB_ERR_MEMORY, "%s: out of memory", nb_gguf_path(m->gguf));
    t->type->dequantize(t->data, factors, n);
    for (size_t i = 0; i < n; i++)
        if (!(factors[i] > 0) || !isfinite(factors[i]))
            return nb_fail(err, NB_ERR_FORMAT, "%s: tensor %.*s: value %zu is not a positive number",
                           nb_gguf_path(m->gguf), NB_STR_ARG(t->name), i);
    *out = factors;
    return NB_OK;
}

static nb_status load_rope_factors(nb_model_def *m, nb_error *err)
{
    NB_TRY(load_factors(m, NB_ROPE_FREQS, &m->h.rope.freq_factors, err));
    NB_TRY(load_factors(m, NB_ROPE_FACTORS_SHORT, &m->h.rope.freq_factors, err));
    NB_TRY(load_factors(m, NB_ROPE_FACTORS_LONG, &m->h.rope.freq_factors_long, err));
    if (m->h.rope.scaling == NB_ROPE_LONGROPE && (!m->h.rope.freq_factors || !m->h.rope.freq_factors_long))
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: rope.scaling.type is longrope, but tensors rope_factors_short.weight and "
                       "rope_factors_long.weight are missing",
                       nb_gguf_path(m->gguf));
    if (m->h.rope_local.scaling == m->h.rope.scaling && m->h.rope_local.base == m->h.rope.base)
        m->h.rope_local = m->h.rope;
    return NB_OK;
}

static nb_status check_projections(const nb_model_def *m, nb_error *err)
{
    bool in = nb_model_weight(m, -1, NB_TOKEN_PROJ) >= 0, out = nb_model_weight(m, -1, NB_OUTPUT_PROJ) >= 0;
    if (m->h.token_width == m->h.embd || (in && out))
        return NB_OK;
    return nb_fail(err, NB_ERR_FORMAT,
                   "%s: tokens have %d values and the model %d, but token_embd_proj_in.weight or output_proj.weight is "
                   "missing",
                   nb_gguf_path(m->gguf), m->h.token_width, m->h.embd);
}

/* the expert that all tokens pass is whole */
static nb_status check_shared(const nb_model_def *m, nb_error *err)
{
    static const nb_role roles[] = {NB_FFN_GATE_SHARED, NB_FFN_UP_SHARED, NB_FFN_DOWN_SHARED};
    static const char *const names[] = {"ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"};
    for (int layer = 0; layer < m->h.layers; layer++) {
        int found = 0;
        for (int i = 0; i < 3; i++)
            found += nb_model_weight(m, layer, roles[i]) >= 0;
        for (int i = 0; found > 0 && i < 3; i++)
            if (nb_model_weight(m, layer, roles[i]) < 0)
                return nb_fail(err, NB_ERR_FORMAT, "%s: tensor blk.%d.%s.weight is missing; the other ones are there",
                               nb_gguf_path(m->gguf), layer, names[i]);
    }
    return NB_OK;
}

/* latent attention is whole: its matrices stand in one tensor or in two, and queries have a rank or not */
static nb_status check_latents(const nb_model_def *m, nb_error *err)
{
    for (int layer = 0; m->h.latent && layer < m->h.layers; layer++) {
        bool both = nb_model_weight(m, layer, NB_ATTN_KV_B) >= 0, keys = nb_model_weight(m, layer, NB_ATTN_K_B) >= 0,
             values = nb_model_weight(m, layer, NB_ATTN_V_B) >= 0, ranked = m->h.q_rank > 0,
             rank = nb_model_weight(m, layer, NB_ATTN_Q_A) >= 0, norm = nb_model_weight(m, layer, NB_ATTN_Q_A_NORM) >= 0,
             latent = nb_model_weight(m, layer, NB_ATTN_LATENT) >= 0 &&
                      nb_model_weight(m, layer, NB_ATTN_LATENT_ROPE) >= 0;
        const char *missing = !latent                  ? "attn_kv_a_mqa"
                              : !both && !keys         ? values ? "attn_k_b" : "attn_kv_b"
                              : !both && !values       ? "attn_v_b"
                              : ranked && !rank        ? "attn_q_a"
                              : ranked && !norm        ? "attn_q_a_norm"
                                                       : NULL;
        if (missing)
            return nb_fail(err, NB_ERR_FORMAT, "%s: tensor blk.%d.%s.weight is missing or of another shape than the metadata asks for; architecture %s needs it",
                           nb_gguf_path(m->gguf), layer, missing, m->arch->name);
    }
    return NB_OK;
}

/* One branch after the other, but the second's norm is the first's: the file lacks it. */
static nb_status check_norms(const nb_model_def *m, nb_error *err)
{
    for (int layer = 0; !m->h.parallel && layer < m->h.layers; layer++) {
        int first = nb_model_weight(m, layer, NB_ATTN_NORM), second = nb_model_weight(m, layer, NB_FFN_NORM);
        if (first >= 0 && second >= 0 && m->weights[first].tensor == m->weights[second].tensor)
            return nb_fail(err, NB_ERR_FORMAT,
                           "%s: tensor blk.%d.ffn_norm.weight is missing; use_parallel_residual is false",
                           nb_gguf_path(m->gguf), layer);
    }
    return NB_OK;
}

/* the slopes of ALiBi */
static nb_status make_slopes(nb_model_def *m, nb_error *err)
{
    nb_hparams *h = &m->h;
    if (h->alibi == 0)
        return NB_OK;
    float *slopes = NB_ARRAY(&m->arena, float, (size_t)h->heads);
    if (!slopes)
        return nb_fail(err, NB_ERR_MEMORY, "%s: out of memory", nb_gguf_path(m->gguf));
    nb_attention_slopes(h->heads, (double)h->alibi, slopes);
    for (int i = 0; h->alibi_rounded && i < h->heads; i++)
        slopes[i] = nb_bf16_to_f32(nb_f32_to_bf16(slopes[i]));
    h->bias.slopes = slopes;
    h->bias.rounded = h->alibi_rounded ? h->attention_scale : 0;
    return NB_OK;
}

/* The range of keys so far after their query: half of the 32 for keys before it, half for those behind; of these 8 are single
 * distances, and the others grow by the root of 2 up to 128 (Raffel et al. 2020, as MPNet has it). */
static int range_of(int after)
{
    int n = after < 0 ? -after : after, range = n;
    if (n >= 8)
        for (range = 8; range < 15 && n * n >= 64 << (range - 7); range++)
            continue;
    return after > 0 ? range + 16 : range;
}

/* NB_ATTN_RELATIVE by distance */
static nb_status spread_relative(nb_model_def *m, nb_error *err)
{
    enum { REACH = 128, RANGES = 32 };
    int id = nb_model_weight(m, -1, NB_ATTN_RELATIVE);
    if (id < 0)
        return NB_OK;
    const nb_gguf_tensor *t = m->weights[id].tensor;
    size_t heads = (size_t)m->h.heads, row_bytes = t->bytes / RANGES;
    float *ranges = NB_ARRAY(&m->arena, float, heads *RANGES);
    float *near = NB_ARRAY(&m->arena, float, heads *(2 * REACH + 1));
    if (!ranges || !near)
        return nb_fail(err, NB_ERR_MEMORY, "%s: out of memory", nb_gguf_path(m->gguf));
    for (size_t i = 0; i < RANGES; i++)
        t->type->dequantize((const char *)t->data + i * row_bytes, ranges + i * heads, heads);
    for (size_t h = 0; h < heads; h++)
        for (int after = -REACH; after <= REACH; after++)
            near[h * (2 * REACH + 1) + (size_t)(after + REACH)] = ranges[(size_t)range_of(after) * heads + h];
    m->h.bias.near = near;
    m->h.bias.reach = REACH;
    return NB_OK;
}

static nb_status model_fill(nb_model_def *m, nb_error *err)
{
    NB_TRY(find_arch(m->gguf, &m->arch, err));
    NB_TRY(nb_hparams_read(m->gguf, m->arch, &m->h, err));
    NB_TRY(read_vocab(m->gguf, &m->h, err));
    /* every layer has tensors of its own: an absurd count is refused before anything is sized by it */
    if ((size_t)m->h.layers > nb_gguf_tensor_count(m->gguf))
        return nb_fail(err, NB_ERR_FORMAT, "%s: block_count is %d, but the file has only %zu tensors",
                       nb_gguf_path(m->gguf), m->h.layers, nb_gguf_tensor_count(m->gguf));
    NB_TRY(bind_all(m, err));
    NB_TRY(check_projections(m, err));
    NB_TRY(check_shared(m, err));
    NB_TRY(check_norms(m, err));
    NB_TRY(check_latents(m, err));
    NB_TRY(load_rope_factors(m, err));
    NB_TRY(make_slopes(m, err));
    NB_TRY(spread_relative(m, err));
    for (size_t i = 0; i < nb_gguf_tensor_count(m->gguf); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(m->gguf, i);
        m->parameters += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
    }
    return NB_OK;
}

nb_status nb_model_def_new(const nb_gguf *g, nb_model_def **out, nb_error *err)
{
    *out = NULL;
    nb_model_def *m = calloc(1, sizeof *m);
    if (!m)
        return nb_fail(err, NB_ERR_MEMORY, "%s: out of memory", nb_gguf_path(g));
    m->gguf = g;
    nb_status status = model_fill(m, err);
    if (status != NB_OK) {
        nb_model_def_free(m);
        return status;
    }
    *out = m;
    return NB_OK;
}

void nb_model_def_free(nb_model_def *m)
{
    if (!m)
        return;
    nb_arena_free(&m->arena);
    free(m);
}

int nb_model_weight(const nb_model_def *m, int layer, nb_role role)
{
    return m->index[(layer < 0 ? m->h.layers : layer) * NB_ROLES + (int)role];
}

uint64_t nb_model_dim(const nb_model_def *m, nb_dim dim) { return dim_size(&m->h, dim); }

bool nb_model_layer_is_local(const nb_model_def *m, int layer)
{
    if (m->h.window == 0)
        return false;
    if (m->h.window_list)
        return m->h.window_layers[layer / 8] >> layer % 8 & 1;
    return m->h.window_pattern == 0 || (layer + 1) % m->h.window_pattern != 0;
}

const nb_rope *nb_model_layer_rope(const nb_model_def *m, int layer)
{
    return nb_model_layer_is_local(m, layer) ? &m->h.rope_local : &m->h.rope;
}

bool nb_model_layer_rotates(const nb_model_def *m, int layer)
{
    if (m->h.rope_window_only && !nb_model_layer_is_local(m, layer))
        return false;
    return m->h.rope.dim > 0 && (m->h.rope_skip == 0 || (layer + 1) % m->h.rope_skip != 0);
}

nb_attention_spec nb_model_attention(const nb_model_def *m, int layer)
{
    const nb_hparams *h = &m->h;
    return (nb_attention_spec){.heads = h->heads,
                               .kv_heads = h->kv_heads,
                               .k_dim = h->k_dim,
                               .v_dim = h->v_dim,
                               .scale = h->attention_scale,
                               .softcap = h->attention_softcap,
                               .window = nb_model_layer_is_local(m, layer) ? h->window : 0,
                               .causal = m->h.causal,
                               .bias = h->bias};
}

void nb_model_shared_key(const nb_model_def *m, int layer, const float *bias, float *shared)
{
    const nb_rope *rope = nb_model_layer_rope(m, layer);
    size_t k_dim = (size_t)m->h.k_dim, n = (size_t)m->h.kv_heads * k_dim, pairs = rope->dim / 2;
    bool turns = nb_model_layer_rotates(m, layer);
    float frequency[512], magnitude = 1; /* a head has at most 1024 values */
    if (turns)
        nb_rope_frequencies(rope, 1, frequency, &magnitude);
    for (size_t i = 0; i < n; i++) {
        size_t d = i % k_dim, pair = rope->neox ? d % nb_max_size(pairs, 1) : d / 2;
        bool turned = turns && d < rope->dim;
        double angle = turned ? (double)frequency[pair] * (double)m->h.context : 0;
        shared[i] = !turned ? bias[i] : angle <= M_PI / 3 ? magnitude * bias[i] : 0;
    }
}
