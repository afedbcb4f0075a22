#define _GNU_SOURCE
#include "convert/mix.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* ---- the table of mixes ---- */

enum {
#define NB_MIX(name, file_type, type, output, embedding) MIX_##name,
#include "convert/mixes.def"
#undef NB_MIX
    MIX_COPY,
    MIX_COUNT
};

struct nb_mix {
    const char *name;
    uint32_t file_type;
    enum nb_type type, output, embedding;
};

static const nb_mix mixes[MIX_COUNT] = {
#define NB_MIX(name, file_type, type, output, embedding)                                                               \
    {#name, file_type, NB_TYPE_##type, NB_TYPE_##output, NB_TYPE_##embedding},
#include "convert/mixes.def"
#undef NB_MIX
    {"COPY", UINT32_MAX, NB_TYPE_LIMIT, NB_TYPE_LIMIT, NB_TYPE_LIMIT},
};

size_t nb_mix_count(void) { return MIX_COUNT; }
const nb_mix *nb_mix_at(size_t i) { return &mixes[i]; }
const char *nb_mix_name(const nb_mix *mix) { return mix->name; }
uint32_t nb_mix_file_type(const nb_mix *mix) { return mix->file_type; }
const nb_type_info *nb_mix_type(const nb_mix *mix) { return nb_type_get(mix->type); }

static bool same_name(nb_str a, const char *b) { return strlen(b) == a.n && strncasecmp(a.p, b, a.n) == 0; }

const nb_mix *nb_mix_by_name(nb_str name)
{
    static const struct {
        const char *name;
        int mix;
    } aliases[] = {{"Q3_K", MIX_Q3_K_M}, {"Q4_K", MIX_Q4_K_M}, {"Q5_K", MIX_Q5_K_M}};
    uint32_t number = 0;
    bool digits = name.n > 0 && name.n < 4;
    for (size_t i = 0; digits && i < name.n; i++) {
        digits = name.p[i] >= '0' && name.p[i] <= '9';
        number = number * 10 + (uint32_t)(name.p[i] - '0');
    }
    for (size_t i = 0; i < MIX_COUNT; i++)
        if (same_name(name, mixes[i].name) || (digits && number == mixes[i].file_type))
            return &mixes[i];
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (same_name(name, aliases[i].name))
            return &mixes[aliases[i].mix];
    return NULL;
}

const nb_mix *nb_mix_named(nb_str name, bool *pure)
{
    const nb_mix *mix = nb_mix_by_name(name);
    const nb_type_info *type = mix ? NULL : nb_type_by_name(name);
    if (!type)
        return mix;
    *pure = true; /* MXFP4: a type that has no file type of its own name */
    return nb_mix_of_type(type);
}

const nb_mix *nb_mix_of_type(const nb_type_info *type)
{
    for (size_t i = 0; i < MIX_COPY; i++) /* small mixes stand before larger ones of the same type */
        if (nb_type_get(mixes[i].type) == type)
            return &mixes[i];
    return NULL;
}

/* ---- kinds of matrices ---- */

enum kind {
    OTHER = 0,
    OUTPUT = 1,
    EMBEDDING = 2,
    ATTN_V = 4, /* also where it is fused with others */
    ATTN_K = 8,
    ATTN_Q = 16,
    ATTN_OUTPUT = 32,
    FFN_UP = 64,
    FFN_GATE = 128,
    FFN_DOWN = 256,
    ANY = 511
};

static bool has(nb_str name, const char *word) { return memmem(name.p, name.n, word, strlen(word)) != NULL; }

static enum kind kind_of(nb_str name)
{
    static const struct {
        const char *word;
        enum kind kind;
    } words[] = {
        {"attn_qkv.weight", ATTN_V}, {"attn_kv_b.weight", ATTN_V}, {"attn_v.weight", ATTN_V},
        {"attn_k.weight", ATTN_K},   {"attn_q.weight", ATTN_Q},    {"attn_output.weight", ATTN_OUTPUT},
        {"ffn_up", FFN_UP},          {"ffn_gate", FFN_GATE},       {"ffn_down", FFN_DOWN},
    };
    if (nb_str_eqz(name, "output.weight"))
        return OUTPUT;
    if (nb_str_eqz(name, "token_embd.weight") || nb_str_eqz(name, "per_layer_token_embd.weight"))
        return EMBEDDING;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (has(name, words[i].word))
            return words[i].kind;
    return OTHER;
}

/* Only matrices, and stacks of them, are quantized. */
static bool stays(const nb_source_tensor *t, const nb_mix_options *options)
{
    static const char *const words[] = {
#define NB_MIX_KEEP(word) word,
#include "convert/mixes.def"
#undef NB_MIX_KEEP
    };
    static const nb_str weight = {"weight", 6};
    bool matrix = t->dims[1] > 1 || t->dims[2] > 1 || t->dims[3] > 1;
    if (!matrix || t->name.n < weight.n || !nb_str_eq((nb_str){t->name.p + t->name.n - weight.n, weight.n}, weight))
        return true;
    if (nb_str_eqz(t->name, "position_embd.weight") || nb_str_eqz(t->name, "token_types.weight") ||
        (options->keep_output && nb_str_eqz(t->name, "output.weight")))
        return true;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (has(t->name, words[i]))
            return true;
    return false;
}

/* N of "blk.N.", -1 where there is none */
static int layer_of(nb_str name)
{
    enum { HEAD = 4 };
    size_t i = HEAD;
    int layer = 0;
    if (!nb_str_starts(name, NB_STR("blk.")))
        return -1;
    for (; i < name.n && i < HEAD + 6 && name.p[i] >= '0' && name.p[i] <= '9'; i++)
        layer = layer * 10 + (name.p[i] - '0');
    return i > HEAD && i < name.n && name.p[i] == '.' ? layer : -1;
}

/* ---- what the rules look at ---- */

typedef struct model {
    const nb_source *source;
    const nb_mix *mix;
    const nb_mix_options *options;
    bool falcon;
    bool wide;        /* 70B: eight heads share a value projection, which may then have more bits for little */
    bool tied;        /* the embedding is the output too */
    uint64_t experts; /* a layer */
    uint64_t gqa;     /* heads a key and value head; of the first layer */
    int layers, attn_v_count;
    int attn_v, up, gate, down; /* matrices seen so far */
} model;

/* A number of the architecture's metadata, the first one of an array. */
static uint64_t number(const nb_source *s, nb_str arch, const char *key, uint64_t missing)
{
    char full[128];
    int n = snprintf(full, sizeof full, "%.*s.%s", NB_STR_ARG(arch), key);
    const nb_gguf_value *v = n < (int)sizeof full ? nb_source_find(s, full) : NULL;
    bool usable = v && v->count > 0 && v->element != NB_GGUF_STRING && v->element != NB_GGUF_ARRAY;
    return usable ? nb_gguf_elem_u64(v, 0) : missing;
}

static bool is_wide(nb_str arch, int layers, bool shared_heads, uint64_t experts)
{
    if (nb_str_eqz(arch, "llama"))
        return layers == 80 && shared_heads && experts != 8;
    return (layers == 80 && (nb_str_eqz(arch, "deci") || nb_str_eqz(arch, "olmo") || nb_str_eqz(arch, "qwen2"))) ||
           (layers == 68 && nb_str_eqz(arch, "jais2"));
}

static model look_at(const nb_mix *mix, const nb_source *s, const nb_mix_options *options)
{
    model m = {.source = s, .mix = mix, .options = options, .tied = true};
    nb_str arch = nb_source_text(s, "general.architecture");
    uint64_t heads = number(s, arch, "attention.head_count", 0),
             shared = number(s, arch, "attention.head_count_kv", heads), layers = number(s, arch, "block_count", 0);
    m.layers = layers < 1000000 ? (int)layers : 1000000;
    m.experts = number(s, arch, "expert_count", 0);
    m.gqa = shared ? heads / shared : 0;
    m.falcon = nb_str_eqz(arch, "falcon");
    m.wide = is_wide(arch, m.layers, heads != shared, m.experts);
    for (size_t i = 0; i < s->tensor_count; i++) {
        enum kind kind = kind_of(s->tensors[i].name);
        m.attn_v_count += kind == ATTN_V;
        m.tied = m.tied && kind != OUTPUT;
    }
    return m;
}

/* ---- rules ---- */

enum layers { ALL, FIRST_2, FIRST_4, FIRST_8TH, FIRST_16TH, MIDDLE, MORE };

enum when { ALWAYS, IMATRIX, NO_IMATRIX, FALCON, NOT_FALCON, GQA4, EXPERTS4, EXPERTS8, STACKED };

#define M(name) (UINT64_C(1) << MIX_##name)
#define EVERY UINT64_MAX
#define LOW (M(IQ1_S) | M(IQ1_M) | M(IQ2_XXS) | M(IQ2_XS) | M(IQ2_S) | M(IQ2_M))
#define NB_TYPE_OF_MIX NB_TYPE_LIMIT

static const struct rule {
    uint64_t mixes;
    int kinds;
    enum layers layers;
    enum when when;
    enum nb_type type;
} rules[] = {
#define NB_MIX_RULE(mixes, kinds, layers, when, type) {mixes, kinds, layers, when, NB_TYPE_##type},
#include "convert/mixes.def"
#undef NB_MIX_RULE
};

/* Layer i of n. MORE: the first and the last eighth, and every third between. */
static bool layer_fits(enum layers layers, int i, int n)
{
    switch (layers) {
    case ALL: return true;
    case FIRST_2: return i < 2;
    case FIRST_4: return i < 4;
    case FIRST_8TH: return i < n / 8;
    case FIRST_16TH: return i < n / 16;
    case MIDDLE: return i >= n / 8 && i < 7 * n / 8;
    case MORE: return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    }
    return false;
}

static bool holds(const model *m, enum when when, const nb_source_tensor *t)
{
    switch (when) {
    case ALWAYS: return true;
    case IMATRIX: return m->options->imatrix;
    case NO_IMATRIX: return !m->options->imatrix;
    case FALCON: return m->falcon;
    case NOT_FALCON: return !m->falcon;
    case GQA4: return m->gqa >= 4;
    case EXPERTS4: return m->experts >= 4;
    case EXPERTS8: return m->experts == 8;
    case STACKED: return t->dims[2] > 1;
    }
    return false;
}

/* The place of a matrix among its kind, counted as llama-quantize counts: by the layer in its name where a model has experts,
 * whose matrices come in no order. */
static void place_of(model *m, const nb_source_tensor *t, enum kind kind, bool low, int *place, int *of)
{
    int *counter = kind == ATTN_V     ? &m->attn_v
                   : kind == FFN_UP   ? &m->up
                   : kind == FFN_GATE ? &m->gate
                   : kind == FFN_DOWN ? &m->down
                                      : NULL;
    int layer = layer_of(t->name);
    *of = kind == ATTN_V ? m->attn_v_count : m->layers;
    *place = counter ? (*counter)++ : 0;
    if (counter && kind != ATTN_V && m->experts > 1 && !low && layer >= 0)
        *place = layer;
}

static enum nb_type type_of_output(const model *m, const nb_source_tensor *t)
{
    if (m->options->output_type)
        return (enum nb_type)m->options->output_type->id;
    bool fits = t->dims[0] % nb_mix_type(m->mix)->block_values == 0;
    return m->falcon || !fits ? NB_TYPE_Q8_0 : m->mix->output;
}

static enum nb_type type_by_rules(model *m, const nb_source_tensor *t, enum kind kind)
{
    uint64_t mix = UINT64_C(1) << (m->mix - mixes);
    bool low = (mix & LOW) != 0;
    int place, of;
    if (kind == OUTPUT || (kind == EMBEDDING && m->tied))
        return type_of_output(m, t);
    if (kind == EMBEDDING && (mix & M(MXFP4_MOE)) == 0)
        return m->mix->embedding;
    place_of(m, t, kind, low, &place, &of);
    enum nb_type type = m->mix->type;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const struct rule *r = &rules[i];
        bool of_kind = r->kinds == ANY || (r->kinds & (int)kind) != 0;
        if ((r->mixes & mix) == 0 || !of_kind || !layer_fits(r->layers, place, of) || !holds(m, r->when, t))
            continue;
        type = r->type == NB_TYPE_OF_MIX ? type : r->type;
        break;
    }
    bool more = m->wide && kind == ATTN_V && !low;
    return more && (type == NB_TYPE_Q3_K || type == NB_TYPE_Q4_K) ? NB_TYPE_Q5_K : type;
}

static const nb_type_info *fitting(const nb_type_info *type, uint64_t columns, size_t *fallbacks)
{
    static const enum nb_type instead[][2] = {
#define NB_MIX_FALLBACK(type, other) {NB_TYPE_##type, NB_TYPE_##other},
#include "convert/mixes.def"
#undef NB_MIX_FALLBACK
    };
    if (columns % type->block_values == 0)
        return type;
    ++*fallbacks;
    for (size_t i = 0; i < sizeof instead / sizeof *instead; i++)
        if (instead[i][0] == type->id && columns % nb_type_get(instead[i][1])->block_values == 0)
            return nb_type_get(instead[i][1]);
    return nb_type_get(NB_TYPE_F16);
}

static const nb_type_info *choose(model *m, size_t i, size_t *fallbacks)
{
    const nb_source_tensor *t = &m->source->tensors[i];
    const nb_mix_options *o = m->options;
    const nb_type_info *type = nb_mix_type(m->mix);
    enum kind kind = kind_of(t->name);
    if (stays(t, o))
        return t->type;
    if (kind == EMBEDDING && o->embedding_type)
        type = o->embedding_type;
    else if (kind == OUTPUT && o->output_type)
        type = o->output_type;
    else if (o->chosen && o->chosen[i])
        type = o->chosen[i];
    else if (type->block_values > 1 && !o->pure)
        type = nb_type_get(type_by_rules(m, t, kind));
    return fitting(type, t->dims[0], fallbacks);
}

/* ---- in llama-quantize's order, which its counting needs: by layer, then by name ---- */

static int compare_tensors(const void *a, const void *b, void *source)
{
    const nb_source *s = source;
    nb_str x = s->tensors[*(const uint32_t *)a].name, y = s->tensors[*(const uint32_t *)b].name;
    int p = layer_of(x), q = layer_of(y), c = p == q ? memcmp(x.p, y.p, nb_min_size(x.n, y.n)) : 0;
    if (p != q)
        return p < q ? -1 : 1;
    return c != 0 ? c : (x.n > y.n) - (x.n < y.n);
}

nb_status nb_mix_types(const nb_mix *mix, const nb_source *s, const nb_mix_options *options, const nb_type_info **types,
                       size_t *fallbacks, nb_error *err)
{
    *fallbacks = 0;
    if (mix == &mixes[MIX_COPY]) {
        for (size_t i = 0; i < s->tensor_count; i++)
            types[i] = s->tensors[i].type;
        return NB_OK;
    }
    uint32_t *order = malloc((s->tensor_count + 1) * sizeof *order);
    if (!order)
        return nb_fail_memory(err, s->path, s->tensor_count * sizeof *order);
    for (size_t i = 0; i < s->tensor_count; i++)
        order[i] = (uint32_t)i;
    qsort_r(order, s->tensor_count, sizeof *order, compare_tensors, (void *)(uintptr_t)s);
    model m = look_at(mix, s, options);
    for (size_t i = 0; i < s->tensor_count; i++)
        types[order[i]] = choose(&m, order[i], fallbacks);
    free(order);
    return NB_OK;
}

bool nb_mix_needs_imatrix(const nb_mix *mix, nb_str tensor, const nb_type_info *type)
{
    static const enum nb_type needy[] = {NB_TYPE_IQ1_S,  NB_TYPE_IQ1_M, NB_TYPE_IQ2_XXS,
                                         NB_TYPE_IQ2_XS, NB_TYPE_IQ2_S, NB_TYPE_IQ3_XXS};
    enum kind kind = kind_of(tensor);
    if (kind == OUTPUT || kind == EMBEDDING)
        return false;
    for (size_t i = 0; i < sizeof needy / sizeof *needy; i++)
        if (type->id == needy[i])
            return true;
    return type->id == NB_TYPE_Q2_K && mix == &mixes[MIX_Q2_K_S];
}
