/* Rotary positions: rope_theta and rope_scaling of older config.json, rope_parameters of newer ones.
 * Sources: Peng et al. 2023 (YaRN); Ding et al. 2024 (LongRoPE); the scaling of Llama 3.1 as its config describes it. */
#include <math.h>

#include "hf/hf_rows.h"

typedef struct scaling {
    const nb_node *params; /* rope_parameters or rope_scaling; NULL */
    double base, factor, original, alpha;
    nb_str type;
} scaling;

/* a number of the parameters; keeps *out when it is absent */
static nb_status number(const nb_hf *h, const nb_node *params, const char *key, double *out, nb_error *err)
{
    const nb_node *n = nb_node_get(params, key);
    if (n && (n->kind != '0' || !isfinite((float)n->num)))
        return nb_tree_bad(&h->config, n, err, NB_ERR_FORMAT, "is not a number of float32; correct it");
    if (n)
        *out = n->num;
    return NB_OK;
}

static nb_status put_optional(nb_hf *h, const nb_node *params, const char *config, const char *gguf, nb_error *err)
{
    double value = NAN;
    NB_TRY(number(h, params, config, &value, err));
    if (!isnan(value))
        nb_hf_put_f32(h, nb_hf_key(h, gguf), value);
    return NB_OK;
}

static void put_scaling(nb_hf *h, const char *type, const scaling *s)
{
    nb_hf_put_str(h, nb_hf_key(h, "rope.scaling.type"), nb_str_of(type));
    if (s->factor > 0)
        nb_hf_put_f32(h, nb_hf_key(h, "rope.scaling.factor"), s->factor);
}

static nb_status put_original(nb_hf *h, const scaling *s, nb_error *err)
{
    if (!(s->original >= 1 && s->original <= UINT32_MAX))
        return nb_tree_bad(&h->config, s->params, err, NB_ERR_FORMAT,
                           "has no original_max_position_embeddings of 1 or more, which its scaling needs");
    nb_hf_put_u32(h, nb_hf_key(h, "rope.scaling.original_context_length"), (uint32_t)s->original);
    return NB_OK;
}

/* The factor of cos and sin that the parameters give, over 0.1 ln(factor) + 1, which readers of GGUF make of the factor. */
static nb_status yarn_attention(nb_hf *h, const scaling *s, nb_error *err)
{
    double logarithm = s->factor > 1 ? 0.1 * log(s->factor) : 0, attention = NAN, mscale = 0, all = 0;
    NB_TRY(number(h, s->params, "mscale", &mscale, err));
    NB_TRY(number(h, s->params, "mscale_all_dim", &all, err));
    if (mscale > 0 && all > 0)
        attention = (mscale * logarithm + 1) / (all * logarithm + 1);
    NB_TRY(number(h, s->params, "attn_factor", &attention, err));
    NB_TRY(number(h, s->params, "attention_factor", &attention, err));
    if (isnan(attention))
        return NB_OK;
    if (!(attention > 0))
        return nb_tree_bad(&h->config, s->params, err, NB_ERR_FORMAT, "has a factor of attention that is not above 0");
    nb_hf_put_f32(h, nb_hf_key(h, "rope.scaling.attn_factor"), attention / (logarithm + 1));
    return NB_OK;
}

static nb_status yarn(nb_hf *h, const scaling *s, nb_error *err)
{
    const nb_node *rounded = nb_node_get(s->params, "truncate");
    put_scaling(h, "yarn", s);
    NB_TRY(put_original(h, s, err));
    if (rounded && rounded->kind == 'f')
        nb_hf_put_bool(h, nb_hf_key(h, "rope.scaling.yarn_truncate"), false);
    NB_TRY(yarn_attention(h, s, err));
    NB_TRY(put_optional(h, s->params, "extrapolation_factor", "rope.scaling.yarn_ext_factor", err));
    NB_TRY(put_optional(h, s->params, "beta_fast", "rope.scaling.yarn_beta_fast", err));
    return put_optional(h, s->params, "beta_slow", "rope.scaling.yarn_beta_slow", err);
}

/* Llama 3.1: waves that are long against the first training's context are slowed by the factor, short ones stay */
static nb_status llama3(nb_hf *h, const scaling *s, uint64_t dim, nb_error *err)
{
    double low = 1, high = 4, original = s->original >= 1 ? s->original : 8192, factor = s->factor > 0 ? s->factor : 8;
    NB_TRY(number(h, s->params, "low_freq_factor", &low, err));
    NB_TRY(number(h, s->params, "high_freq_factor", &high, err));
    if (!(low > 0) || !(high > low))
        return nb_tree_bad(&h->config, s->params, err, NB_ERR_FORMAT,
                           "needs low_freq_factor above 0 and high_freq_factor above that; correct them");
    float *factors = NB_ARRAY(&h->arena, float, dim / 2);
    if (!factors)
        return nb_fail_memory(err, "rope factors", dim * sizeof(float));
    for (uint64_t i = 0; i < dim / 2; i++) { /* in float32, as the model's own code */
        float frequency = 1.0f / powf((float)s->base, (float)(2 * i) / (float)dim);
        float wave = (float)(2 * 3.14159265358979323846) / frequency;
        float smooth = ((float)original / wave - (float)low) / (float)(high - low);
        if (wave < (float)(original / high))
            factors[i] = 1;
        else if (wave > (float)(original / low))
            factors[i] = (float)factor;
        else
            factors[i] = 1 / ((1 - smooth) / (float)factor + smooth);
    }
    return nb_hf_add_floats(h, "rope_freqs.weight", factors, dim / 2, err);
}

static nb_status factor_list(nb_hf *h, const scaling *s, const char *config, const char *gguf, uint64_t dim,
                             nb_error *err)
{
    const nb_node *list = nb_node_get_kind(s->params, config, '[');
    if (!list || list->list.count != dim / 2)
        return nb_tree_bad(&h->config, list ? list : s->params, err, NB_ERR_FORMAT,
                           "must hold %llu numbers in %s: one for each pair that turns", (unsigned long long)dim / 2,
                           config);
    float *values = NB_ARRAY(&h->arena, float, dim / 2);
    if (!values)
        return nb_fail_memory(err, "rope factors", dim * sizeof(float));
    size_t i = 0;
    for (const nb_node *n = list->list.first; n; n = n->next) {
        if (n->kind != '0' || !(n->num > 0) || !isfinite((float)n->num))
            return nb_tree_bad(&h->config, n, err, NB_ERR_FORMAT, "is not a factor above 0; correct it");
        values[i++] = (float)n->num;
    }
    return nb_hf_add_floats(h, gguf, values, dim / 2, err);
}

static nb_status longrope(nb_hf *h, const scaling *s, uint64_t dim, nb_error *err)
{
    uint64_t context = 0;
    NB_TRY(nb_hf_config_u64(h, "max_position_embeddings", 1, UINT32_MAX, &context, err));
    NB_TRY(put_original(h, s, err));
    double scale = s->factor > 0 ? s->factor : (double)context / s->original;
    double attention = scale > 1 && s->original > 1 ? sqrt(1 + log(scale) / log(s->original)) : 1;
    NB_TRY(number(h, s->params, "attention_factor", &attention, err));
    nb_hf_put_str(h, nb_hf_key(h, "rope.scaling.type"), NB_STR("longrope"));
    nb_hf_put_f32(h, nb_hf_key(h, "rope.scaling.attn_factor"), attention);
    NB_TRY(factor_list(h, s, "long_factor", "rope_factors_long.weight", dim, err));
    return factor_list(h, s, "short_factor", "rope_factors_short.weight", dim, err);
}

static nb_status read_scaling(const nb_hf *h, scaling *s, nb_error *err)
{
    const nb_node *full = nb_node_get_kind(s->params, "full_attention", '{');
    const nb_node *type;
    s->params = full ? full : s->params;
    type = nb_node_get(s->params, "rope_type");
    type = type ? type : nb_node_get(s->params, "type");
    if (type)
        NB_TRY(nb_node_str(&h->config, type, &s->type, err));
    NB_TRY(nb_hf_config_f64(h, "rope_theta|rotary_emb_base", &s->base, err));
    NB_TRY(number(h, s->params, "rope_theta", &s->base, err));
    if (!(s->base > 1))
        return nb_fail(err, NB_ERR_FORMAT, "%s: rope_theta is %g; it must be above 1", h->config.path, s->base);
    NB_TRY(number(h, s->params, "factor", &s->factor, err));
    NB_TRY(number(h, s->params, "alpha", &s->alpha, err));
    double context = 0;
    NB_TRY(nb_hf_config_f64(h, "max_position_embeddings", &context, err));
    s->original = context; /* then what is among the parameters; what stands beside them counts most */
    NB_TRY(number(h, s->params, "original_max_position_embeddings", &s->original, err));
    NB_TRY(nb_hf_config_f64(h, "original_max_position_embeddings", &s->original, err));
    if (nb_str_eqz(s->type, "yarn") && s->factor == 0 && s->original > 0)
        s->factor = context / s->original;
    return NB_OK;
}

/* the base of window layers, where they have their own */
static nb_status local_base(nb_hf *h, const nb_node *params, nb_error *err)
{
    double local = NAN;
    NB_TRY(nb_hf_config_f64(h, "rope_local_base_freq|local_rope_theta", &local, err));
    NB_TRY(number(h, nb_node_get_kind(params, "sliding_attention", '{'), "rope_theta", &local, err));
    if (!isnan(local))
        nb_hf_put_f32(h, nb_hf_key(h, "rope.freq_base_swa"), local);
    return NB_OK;
}

nb_status nb_hf_rope(nb_hf *h, uint64_t dim, double base, nb_error *err)
{
    scaling s = {.params = nb_hf_config(h, "rope_parameters|rope_scaling"), .base = base, .type = NB_STR("default")};
    if (s.params && s.params->kind != '{')
        return nb_tree_bad(&h->config, s.params, err, NB_ERR_FORMAT, "is not an object; correct it");
    NB_TRY(local_base(h, s.params, err));
    NB_TRY(read_scaling(h, &s, err));
    nb_hf_put_f32(h, nb_hf_key(h, "rope.freq_base"), s.base);
    bool sections = nb_str_eqz(s.type, "mrope") && h->wrapped; /* of height and width, which texts do not have */
    if (nb_str_eqz(s.type, "default") || nb_str_eqz(s.type, "none") || sections)
        return NB_OK;
    if (nb_str_eqz(s.type, "dynamic") && s.alpha > 0 && dim > 2) { /* Hunyuan's: of texts of all lengths */
        nb_hf_put_f32(h, nb_hf_key(h, "rope.freq_base"),
                      s.base * pow(s.alpha, (double)dim / (double)(dim - 2)));
        return NB_OK;
    }
    if (nb_str_eqz(s.type, "dynamic") && s.factor >= 1) {
        nb_hf_put_f32(h, nb_hf_key(h, "rope.scaling.dynamic_factor"), s.factor);
        return NB_OK;
    }
    if (nb_str_eqz(s.type, "linear") && s.factor > 0) {
        put_scaling(h, "linear", &s);
        return NB_OK;
    }
    if (nb_str_eqz(s.type, "yarn") && nb_node_get(s.params, "long_factor")) /* Phi 3's older word for it */
        return longrope(h, &s, dim, err);
    if (nb_str_eqz(s.type, "yarn") && s.factor > 0)
        return yarn(h, &s, err);
    if (nb_str_eqz(s.type, "llama3"))
        return llama3(h, &s, dim, err);
    if (nb_str_eqz(s.type, "longrope") || nb_str_eqz(s.type, "su"))
        return longrope(h, &s, dim, err);
    return nb_tree_bad(&h->config, s.params, err, NB_ERR_UNSUPPORTED,
                       "asks for the scaling \"%.*s\"%s; linear, dynamic, yarn, longrope and llama3 are known",
                       NB_STR_ARG(s.type), s.factor > 0 ? "" : " and gives no factor above 0");
}

nb_status nb_hf_partial_rope(nb_hf *h, const char *names, double otherwise, nb_error *err)
{
    uint64_t dim = 0;
    const nb_node *params = nb_hf_config(h, "rope_parameters|rope_scaling");
    NB_TRY(nb_hf_config_f64(h, names, &otherwise, err));
    NB_TRY(number(h, params, "partial_rotary_factor", &otherwise, err));
    if (!(otherwise > 0 && otherwise <= 1))
        return nb_fail(err, NB_ERR_FORMAT, "%s: partial_rotary_factor is %g; it must be above 0 and at most 1",
                       h->config.path, otherwise);
    NB_TRY(nb_hf_head_dim(h, &dim, err));
    dim = (uint64_t)(otherwise * (double)dim);
    nb_hf_put_u32(h, nb_hf_key(h, "rope.dimension_count"), (uint32_t)dim);
    return nb_hf_rope(h, dim, 10000, err);
}
