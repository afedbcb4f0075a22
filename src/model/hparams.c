#include "model/hparams.h"

#include <math.h>
#include <stdio.h>

/* "ARCH.NAME" in key; false when it does not fit */
static bool arch_key(const nb_gguf *g, const char *name, char key[128])
{
    nb_str arch = {0};
    if (nb_gguf_get_str(g, "general.architecture", &arch, NULL) != NB_OK)
        return false;
    int n = snprintf(key, 128, "%.*s.%s", NB_STR_ARG(arch), name);
    return n > 0 && n < 128;
}

nb_status nb_arch_get_i64(const nb_gguf *g, const char *name, bool required, int64_t least, int64_t most, int64_t *out,
                          nb_error *err)
{
    char key[128];
    int64_t value;
    if (!arch_key(g, name, key))
        return nb_fail(err, NB_ERR_FORMAT, "%s: general.architecture is missing or too long", nb_gguf_path(g));
    const nb_gguf_value *v = nb_gguf_find(g, key);
    if (!v && !required)
        return NB_OK;
    if (v && v->kind == NB_GGUF_ARRAY) { /* one value a layer: accepted when all are equal */
        if (v->count == 0 || v->element == NB_GGUF_STRING || v->element == NB_GGUF_BOOL || v->element == NB_GGUF_F32 ||
            v->element == NB_GGUF_F64)
            return nb_fail(err, NB_ERR_FORMAT, "%s: %s is not a list of whole numbers", nb_gguf_path(g), key);
        value = nb_gguf_elem_i64(v, 0);
        for (size_t i = 1; i < v->count; i++)
            if (nb_gguf_elem_i64(v, i) != value)
                return nb_fail(err, NB_ERR_UNSUPPORTED,
                               "%s: %s differs between layers (%lld, then %lld), which is not supported yet",
                               nb_gguf_path(g), key, (long long)value, (long long)nb_gguf_elem_i64(v, i));
    } else {
        NB_TRY(nb_gguf_get_i64(g, key, &value, err));
    }
    if (value < least || value > most)
        return nb_fail(err, NB_ERR_FORMAT, "%s: %s is %lld; it must be %lld to %lld", nb_gguf_path(g), key,
                       (long long)value, (long long)least, (long long)most);
    *out = value;
    return NB_OK;
}

nb_status nb_arch_get_f64(const nb_gguf *g, const char *name, bool required, double *out, nb_error *err)
{
    char key[128];
    double value;
    if (!arch_key(g, name, key))
        return nb_fail(err, NB_ERR_FORMAT, "%s: general.architecture is missing or too long", nb_gguf_path(g));
    if (!nb_gguf_find(g, key) && !required)
        return NB_OK;
    NB_TRY(nb_gguf_get_f64(g, key, &value, err));
    if (!isfinite(value))
        return nb_fail(err, NB_ERR_FORMAT, "%s: %s is not a finite number", nb_gguf_path(g), key);
    *out = value;
    return NB_OK;
}

nb_status nb_arch_get_bool(const nb_gguf *g, const char *name, bool *out, nb_error *err)
{
    char key[128];
    if (!arch_key(g, name, key) || !nb_gguf_find(g, key))
        return NB_OK;
    return nb_gguf_get_bool(g, key, out, err);
}

nb_status nb_arch_get_str(const nb_gguf *g, const char *name, nb_str *out, nb_error *err)
{
    char key[128];
    if (!arch_key(g, name, key) || !nb_gguf_find(g, key))
        return NB_OK;
    return nb_gguf_get_str(g, key, out, err);
}

nb_status nb_arch_get_activation(const nb_gguf *g, nb_activation *out, nb_error *err)
{
    static const struct {
        const char *name;
        nb_activation activation;
    } names[] = {{"", NB_SILU}, /* absent */
                 {"silu", NB_SILU},
                 {"swish", NB_SILU},
                 {"gelu", NB_GELU_ERF},
                 {"gelu_new", NB_GELU_TANH},
                 {"gelu_fast", NB_GELU_TANH},
                 {"gelu_pytorch_tanh", NB_GELU_TANH},
                 {"relu", NB_RELU}};
    nb_str name = {0};
    size_t i = 0;
    NB_TRY(nb_arch_get_str(g, "hidden_activation", &name, err));
    while (i < sizeof names / sizeof *names && !nb_str_eqz(name, names[i].name))
        i++;
    if (i == sizeof names / sizeof *names)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: hidden_activation is \"%.*s\"; gelu, gelu_pytorch_tanh, relu and silu are known",
                       nb_gguf_path(g), NB_STR_ARG(name));
    if (i > 0)
        *out = names[i].activation;
    return NB_OK;
}

nb_status nb_arch_get_window_pattern(const nb_gguf *g, int usual, nb_hparams *h, nb_error *err)
{
    static const char name[] = "attention.sliding_window_pattern";
    char key[128];
    const nb_gguf_value *v = arch_key(g, name, key) ? nb_gguf_find(g, key) : NULL;
    int64_t pattern = usual;
    h->window_pattern = usual;
    if (!v || v->kind != NB_GGUF_ARRAY || v->element != NB_GGUF_BOOL) {
        NB_TRY(nb_arch_get_i64(g, name, false, 1, NB_LAYERS_MOST, &pattern, err));
        h->window_pattern = (int)pattern;
        return NB_OK;
    }
    if (v->count < (size_t)h->layers)
        return nb_fail(err, NB_ERR_FORMAT, "%s: %s has %llu values for %d layers", nb_gguf_path(g), key,
                       (unsigned long long)v->count, h->layers);
    h->window_list = true;
    for (int i = 0; i < h->layers; i++)
        if (v->data[i])
            h->window_layers[i / 8] |= (unsigned char)(1 << i % 8);
    return NB_OK;
}

nb_status nb_arch_get_alibi(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    double most = (double)h->alibi;
    NB_TRY(nb_arch_get_f64(g, "attention.max_alibi_bias", false, &most, err));
    if (most < 0 || most > 64)
        return nb_fail(err, NB_ERR_FORMAT, "%s: attention.max_alibi_bias is %g; it must be 0 to 64", nb_gguf_path(g),
                       most);
    h->alibi = (float)most;
    return NB_OK;
}

nb_status nb_arch_get_clamp(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    double most = 0;
    NB_TRY(nb_arch_get_f64(g, "attention.clamp_kqv", false, &most, err));
    if (most < 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s: attention.clamp_kqv is %g; it must be above 0", nb_gguf_path(g), most);
    h->qkv_clamp = (float)most;
    return NB_OK;
}

static nb_status read_int(const nb_gguf *g, const char *name, bool required, int64_t least, int64_t most, int *out,
                          nb_error *err)
{
    int64_t value = *out;
    NB_TRY(nb_arch_get_i64(g, name, required, least, most, &value, err));
    *out = (int)value;
    return NB_OK;
}

static nb_status read_shapes(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    NB_TRY(read_int(g, "block_count", true, 1, NB_LAYERS_MOST, &h->layers, err));
    NB_TRY(read_int(g, "embedding_length", true, 1, 1 << 20, &h->embd, err));
    NB_TRY(read_int(g, "feed_forward_length", true, 1, 1 << 22, &h->ff, err));
    NB_TRY(read_int(g, "attention.head_count", true, 1, 1 << 14, &h->heads, err));
    h->kv_heads = h->heads;
    NB_TRY(read_int(g, "attention.head_count_kv", false, 1, 1 << 14, &h->kv_heads, err));
    if (h->heads % h->kv_heads != 0)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: attention.head_count %d is not a multiple of attention.head_count_kv %d", nb_gguf_path(g),
                       h->heads, h->kv_heads);
    h->k_dim = h->v_dim = h->embd / h->heads;
    NB_TRY(read_int(g, "attention.key_length", false, 1, 1024, &h->k_dim, err));
    NB_TRY(read_int(g, "attention.value_length", false, 1, 1024, &h->v_dim, err));
    if (h->k_dim < 1 || h->k_dim > 1024 || h->v_dim < 1 || h->v_dim > 1024)
        return nb_fail(
            err, NB_ERR_FORMAT,
            "%s: embedding_length %d over attention.head_count %d makes heads of %d values; they have 1 to 1024",
            nb_gguf_path(g), h->embd, h->heads, h->embd / h->heads);
    int64_t context = 0;
    NB_TRY(nb_arch_get_i64(g, "context_length", true, 1, (int64_t)1 << 40, &context, err));
    h->context = (size_t)context;
    return NB_OK;
}

/* a number above 0; a missing one keeps *out */
static nb_status read_positive(const nb_gguf *g, const char *name, double *out, nb_error *err)
{
    double value = 1;
    NB_TRY(nb_arch_get_f64(g, name, false, &value, err));
    if (value <= 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s: %s is %g; it must be above 0", nb_gguf_path(g), name, value);
    return nb_arch_get_f64(g, name, false, out, err);
}

static nb_status read_scaling_type(const nb_gguf *g, nb_rope *rope, nb_error *err)
{
    static const struct {
        const char *name;
        nb_rope_scaling scaling;
    } types[] = {
        {"none", NB_ROPE_NONE}, {"linear", NB_ROPE_LINEAR}, {"yarn", NB_ROPE_YARN}, {"longrope", NB_ROPE_LONGROPE}};
    char key[128];
    nb_str type = NB_STR("linear"); /* of files that give a factor alone */
    if (arch_key(g, "rope.scaling.type", key) && nb_gguf_find(g, key))
        NB_TRY(nb_gguf_get_str(g, key, &type, err));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (nb_str_eqz(type, types[i].name)) {
            rope->scaling = types[i].scaling;
            return NB_OK;
        }
    return nb_fail(err, NB_ERR_UNSUPPORTED,
                   "%s: rope.scaling.type \"%.*s\" is not known (none, linear, yarn, longrope are)", nb_gguf_path(g),
                   NB_STR_ARG(type));
}

/* YaRN's factor of cos and sin is 0.1 ln(factor) + 1 (section 3.4), over the same with the file's multiplier of the logarithm,
 * unless the file has its own */
static nb_status read_yarn(const nb_gguf *g, nb_rope *rope, nb_error *err)
{
    double multiplier = 0, logarithm = rope->factor > 1 ? 0.1 * log(rope->factor) : 0;
    bool rounded = true;
    NB_TRY(nb_arch_get_f64(g, "rope.scaling.yarn_log_multiplier", false, &multiplier, err));
    NB_TRY(nb_arch_get_bool(g, "rope.scaling.yarn_truncate", &rounded, err));
    if (multiplier < 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s: rope.scaling.yarn_log_multiplier is %g; it must be 0 or above",
                       nb_gguf_path(g), multiplier);
    double own = (logarithm + 1) / (multiplier * logarithm + 1);
    rope->yarn_exact = !rounded;
    NB_TRY(read_positive(g, "rope.scaling.yarn_beta_fast", &rope->beta_fast, err));
    NB_TRY(read_positive(g, "rope.scaling.yarn_beta_slow", &rope->beta_slow, err));
    NB_TRY(read_positive(g, "rope.scaling.yarn_attn_factor", &own, err));
    rope->attention_factor = own * (rope->attention_factor > 0 ? rope->attention_factor : 1);
    return NB_OK;
}

static nb_status read_scaling(const nb_gguf *g, size_t context, nb_rope *rope, nb_error *err)
{
    double linear = 0;
    NB_TRY(read_scaling_type(g, rope, err));
    NB_TRY(nb_arch_get_f64(g, "rope.scale_linear", false, &linear, err)); /* the factor's older name; 0: none */
    rope->factor = linear > 0 ? linear : 1;
    rope->original_context = (double)context;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    NB_TRY(read_positive(g, "rope.scaling.factor", &rope->factor, err));
    NB_TRY(read_positive(g, "rope.scaling.original_context_length", &rope->original_context, err));
    NB_TRY(read_positive(g, "rope.scaling.attn_factor", &rope->attention_factor, err));
    if (rope->scaling == NB_ROPE_LINEAR && rope->factor == 1)
        rope->scaling = NB_ROPE_NONE;
    return rope->scaling == NB_ROPE_YARN ? read_yarn(g, rope, err) : NB_OK;
}

/* docs/gguf-keys.md: the base grows with sequences longer than the context; there is no other scaling then */
static nb_status read_dynamic(const nb_gguf *g, nb_rope *rope, nb_error *err)
{
    double factor = 1;
    NB_TRY(read_positive(g, "rope.scaling.dynamic_factor", &factor, err));
    if (rope->scaling == NB_ROPE_NONE && factor > 1) {
        rope->scaling = NB_ROPE_DYNAMIC;
        rope->factor = factor;
    }
    return NB_OK;
}

static nb_status read_rope(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    int dim = h->k_dim;
    NB_TRY(read_int(g, "rope.dimension_count", false, 2, h->k_dim, &dim, err));
    if (dim % 2 != 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s: rope.dimension_count %d is odd", nb_gguf_path(g), dim);
    h->rope.dim = (size_t)dim;
    h->rope.base = 10000;
    NB_TRY(nb_arch_get_f64(g, "rope.freq_base", false, &h->rope.base, err));
    if (h->rope.base <= 1)
        return nb_fail(err, NB_ERR_FORMAT, "%s: rope.freq_base is %g; it must be above 1", nb_gguf_path(g),
                       h->rope.base);
    NB_TRY(read_scaling(g, h->context, &h->rope, err));
    NB_TRY(read_dynamic(g, &h->rope, err));
    if (h->rope.scaling == NB_ROPE_YARN || h->rope.scaling == NB_ROPE_DYNAMIC)
        h->context = nb_max_size(h->context, nb_rope_stretched(&h->rope));
    if (h->rope.scaling == NB_ROPE_LONGROPE && h->rope.factor == 1)
        h->rope.factor = fmax(1, (double)h->context / h->rope.original_context);
    return NB_OK;
}

/* how embeddings are made of the hidden states */
static nb_status read_embedding(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    int64_t pooling = NB_POOL_NONE;
    NB_TRY(nb_arch_get_i64(g, "pooling_type", false, NB_POOL_NONE, NB_POOL_RANK, &pooling, err));
    h->pooling = (nb_pooling_type)pooling;
    return nb_arch_get_bool(g, "embedding_normalize", &h->normalize, err);
}

static nb_status read_experts(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    NB_TRY(read_int(g, "expert_count", false, 0, 4096, &h->experts, err));
    if (h->experts == 0)
        return NB_OK;
    NB_TRY(read_int(g, "expert_used_count", true, 1, h->experts, &h->experts_used, err));
    NB_TRY(read_int(g, "expert_group_count", false, 0, NB_EXPERT_GROUPS_MOST, &h->expert_groups, err));
    h->expert_groups_used = h->expert_groups;
    NB_TRY(read_int(g, "expert_group_used_count", false, 0, h->expert_groups, &h->expert_groups_used, err));
    if (h->expert_groups > 0 && (h->experts % h->expert_groups != 0 || h->expert_groups_used == 0 ||
                                 h->experts / h->expert_groups * h->expert_groups_used < h->experts_used))
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: expert_group_count %d, of which expert_group_used_count is %d, does not fit %d experts of which a "
                       "token takes %d",
                       nb_gguf_path(g), h->expert_groups, h->expert_groups_used, h->experts, h->experts_used);
    NB_TRY(read_int(g, "expert_feed_forward_length", false, 1, 1 << 22, &h->expert_ff, err));
    return read_int(g, "expert_shared_feed_forward_length", false, 0, 1 << 22, &h->shared_ff, err);
}

/* what overrides the family's rule */
static nb_status read_routing(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    int64_t gating = h->expert_gating;
    double scale = h->expert_scale;
    if (h->experts == 0)
        return NB_OK;
    if (h->expert_ff == 0)
        h->expert_ff = h->ff;
    NB_TRY(nb_arch_get_i64(g, "expert_gating_func", false, NB_GATING_SOFTMAX, NB_GATING_SOFTMAX_CHOSEN, &gating, err));
    NB_TRY(nb_arch_get_bool(g, "expert_weights_norm", &h->expert_norm, err));
    NB_TRY(nb_arch_get_f64(g, "expert_weights_scale", false, &scale, err));
    if (scale < 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s: expert_weights_scale is %g; it must be above 0", nb_gguf_path(g),
                       scale);
    h->expert_gating = (nb_expert_gating)gating;
    h->expert_scale = scale > 0 ? (float)scale : 1; /* 0 stands for none */
    return NB_OK;
}

nb_status nb_hparams_read(const nb_gguf *g, const nb_arch *arch, nb_hparams *h, nb_error *err)
{
    *h = (nb_hparams){.embd_scale = 1,
                      .residual_scale = 1,
                      .logit_scale = 1,
                      .norm_first = true,
                      .expert_gating = NB_GATING_SOFTMAX,
                      .expert_norm = true,
                      .expert_scale = 1,
                      .causal = !(arch->traits & NB_ARCH_BIDIRECTIONAL),
                      .normalize = true};
    const char *epsilon = arch->traits & NB_ARCH_LAYER_NORM ? "attention.layer_norm_epsilon"
                                                            : "attention.layer_norm_rms_epsilon";
    double eps = 0, scale = 0;
    int64_t window = 0;
    NB_TRY(read_shapes(g, h, err));
    h->token_width = h->embd;
    if (!(arch->traits & NB_ARCH_POSITIONS))
        NB_TRY(read_rope(g, h, err));
    NB_TRY(nb_arch_get_f64(g, epsilon, true, &eps, err));
    if (eps < 0 || eps > 1)
        return nb_fail(err, NB_ERR_FORMAT, "%s: %s is %g; it must be 0 to 1", nb_gguf_path(g), epsilon, eps);
    NB_TRY(read_embedding(g, h, err));
    NB_TRY(nb_arch_get_bool(g, "attention.causal", &h->causal, err));
    NB_TRY(nb_arch_get_i64(g, "attention.sliding_window", false, 0, INT32_MAX, &window, err));
    h->norm_eps = (float)eps;
    h->window = window;
    h->attention_scale = 1 / sqrtf((float)h->k_dim);
    h->rope_local = h->rope;
    NB_TRY(nb_arch_get_f64(g, "attention.scale", false, &scale, err));
    if (scale < 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s: attention.scale is %g; it must be above 0", nb_gguf_path(g), scale);
    if (arch->traits & NB_ARCH_EXPERTS)
        NB_TRY(read_experts(g, h, err));
    NB_TRY(arch->read ? arch->read(g, h, err) : NB_OK);
    NB_TRY(read_routing(g, h, err));
    if (scale > 0) /* the file knows better than the family's rule */
        h->attention_scale = (float)scale;
    return NB_OK;
}
