/* Rotary positions back into rope_theta and rope_scaling. Llama 3's scaling stands in a GGUF file as a tensor of factors, one for
 * each pair that turns; the four numbers they came from are found again and checked against all factors.
 * Source of the formula: config.json of Llama 3.1 as transformers reads it. */
#include <math.h>

#include "hf/export_internal.h"
#include "hf/hf_rows.h"

typedef struct llama3 {
    float factor, low, high, original;
} llama3;

/* in float32, as the model's own code and the importer */
static float frequency_factor(const llama3 *p, float wave)
{
    float smooth = (p->original / wave - p->low) / (p->high - p->low);
    if (wave < p->original / p->high)
        return 1;
    if (wave > p->original / p->low)
        return p->factor;
    return 1 / ((1 - smooth) / p->factor + smooth);
}

static float wave_of(double base, uint64_t i, uint64_t pairs)
{
    return (float)(2 * 3.14159265358979323846) / (1.0f / powf((float)base, (float)(2 * i) / (float)(2 * pairs)));
}

static bool reproduces(const llama3 *p, const float *factors, uint64_t pairs, double base)
{
    for (uint64_t i = 0; i < pairs; i++) {
        float got = frequency_factor(p, wave_of(base, i, pairs));
        if (!(fabsf(got - factors[i]) <= 1e-5f * factors[i]))
            return false;
    }
    return true;
}

/* With low 1 and high 4, as all models have them, one factor between the ends gives the original context; without such a
 * one every original context between the ends is the same, and Llama's own is tried first. */
static bool solve(const float *factors, uint64_t pairs, double base, llama3 *p)
{
    float least = 8192, most = 8192;
    *p = (llama3){.factor = 1, .low = 1, .high = 4, .original = 8192};
    for (uint64_t i = 0; i < pairs; i++)
        p->factor = fmaxf(p->factor, factors[i]);
    if (p->factor <= 1 || reproduces(p, factors, pairs, base))
        return p->factor > 1;
    for (uint64_t i = 0; i < pairs; i++) {
        float wave = wave_of(base, i, pairs), smooth = (1 / factors[i] - 1 / p->factor) / (1 - 1 / p->factor);
        if (factors[i] == 1)
            least = i == 0 ? 4 * wave : fmaxf(least, 4 * wave);
        else if (factors[i] == p->factor)
            most = fminf(most, wave);
        p->original = roundf(wave * (smooth * (p->high - p->low) + p->low));
        if (factors[i] > 1 && factors[i] < p->factor && reproduces(p, factors, pairs, base))
            return true;
    }
    p->original = roundf((least + most) / 2);
    return reproduces(p, factors, pairs, base);
}

static nb_status put_llama3(nb_hf_exporter *x, nb_json *j, size_t tensor, double base, nb_error *err)
{
    const nb_source_tensor *t = &x->s->tensors[tensor];
    uint64_t pairs = t->dims[0];
    llama3 p;
    float *factors = NB_ARRAY(&x->arena, float, pairs);
    if (!factors)
        return nb_fail_memory(err, "rope factors", pairs * sizeof *factors);
    if (t->type->id != NB_TYPE_F32 || pairs != x->head_dim / 2)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: rope_freqs.weight is not one float32 for each pair of a head; convert the model "
                       "again",
                       x->s->path);
    NB_TRY(x->s->read(x->s, tensor, 0, 1, factors, err));
    if (!solve(factors, pairs, base, &p))
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: rope_freqs.weight follows no formula that config.json can name",
                       x->s->path);
    nb_json_key(j, "rope_scaling");
    nb_json_open(j, '{');
    nb_json_put_z(j, "rope_type", "llama3");
    nb_json_key(j, "factor");
    nb_hf_export_float(j, p.factor);
    nb_json_key(j, "low_freq_factor");
    nb_hf_export_float(j, p.low);
    nb_json_key(j, "high_freq_factor");
    nb_hf_export_float(j, p.high);
    nb_json_put_uint(j, "original_max_position_embeddings", (uint64_t)p.original);
    nb_json_close(j, '}');
    return NB_OK;
}

static void put_number(nb_json *j, const char *key, double value)
{
    nb_json_key(j, key);
    nb_hf_export_float(j, value);
}

static nb_status put_factors(nb_hf_exporter *x, nb_json *j, const char *tensor, const char *name, nb_error *err)
{
    const nb_source_tensor *t = nb_source_find_tensor(x->s, nb_str_of(tensor));
    if (!t || t->type->id != NB_TYPE_F32 || t->n_dims != 1)
        return nb_fail(err, NB_ERR_FORMAT, "%s: %s is not there as a vector of F32; convert the model again",
                       x->s->path, tensor);
    float *factors = NB_ARRAY(&x->arena, float, t->dims[0]);
    if (!factors)
        return nb_fail_memory(err, "rope factors", t->dims[0] * sizeof *factors);
    NB_TRY(x->s->read(x->s, (size_t)(t - x->s->tensors), 0, 1, factors, err));
    nb_json_key(j, name);
    nb_json_open(j, '[');
    for (uint64_t i = 0; i < t->dims[0]; i++)
        nb_hf_export_float(j, (double)factors[i]);
    nb_json_close(j, ']');
    return NB_OK;
}

/* original_max_position_embeddings stands outside, too: Phi 3's classes look there */
static nb_status put_longrope(nb_hf_exporter *x, nb_json *j, nb_error *err)
{
    uint64_t original = 0, context = 0;
    double attention = 0, rule = 1;
    if (!nb_hf_export_u64(x, ".rope.scaling.original_context_length", &original) || original == 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s: has no %s.rope.scaling.original_context_length; convert the model again",
                       x->s->path, x->arch->gguf);
    nb_json_put_uint(j, "original_max_position_embeddings", original);
    nb_json_key(j, "rope_scaling");
    nb_json_open(j, '{');
    nb_json_put_z(j, "rope_type", "longrope");
    nb_json_put_uint(j, "original_max_position_embeddings", original);
    nb_hf_export_u64(x, ".context_length", &context);
    if (context > original && original > 1)
        rule = sqrt(1 + log((double)context / (double)original) / log((double)original));
    if (nb_hf_export_f64(x, ".rope.scaling.attn_factor", &attention) && fabs(attention - rule) > 1e-6)
        put_number(j, "attention_factor", attention); /* else what everyone makes of the two lengths */
    NB_TRY(put_factors(x, j, "rope_factors_short.weight", "short_factor", err));
    NB_TRY(put_factors(x, j, "rope_factors_long.weight", "long_factor", err));
    nb_json_close(j, '}');
    return NB_OK;
}

/* what the file says beside factor and original length; GGUF has the factor of cos and sin over 0.1 ln(factor) + 1 */
static void put_yarn(nb_hf_exporter *x, nb_json *j, double factor)
{
    double value, own = 0, multiplier = 0, more = 1, logarithm = factor > 1 ? 0.1 * log(factor) : 0;
    if (nb_hf_export_f64(x, ".rope.scaling.yarn_beta_fast", &value))
        put_number(j, "beta_fast", value);
    if (nb_hf_export_f64(x, ".rope.scaling.yarn_beta_slow", &value))
        put_number(j, "beta_slow", value);
    bool multiplied = nb_hf_export_f64(x, ".rope.scaling.yarn_log_multiplier", &multiplier);
    bool given = nb_hf_export_f64(x, ".rope.scaling.yarn_attn_factor", &own);
    bool other = nb_hf_export_f64(x, ".rope.scaling.attn_factor", &more);
    double attention = more * (given ? own : (logarithm + 1) / (multiplier * logarithm + 1));
    if (strcmp(x->arch->gguf, "deepseek2") == 0) { /* the multiplier is of the scores, and a tenth */
        attention = more * (multiplier > 0 ? 1 : logarithm + 1);
        if (multiplier > 0)
            put_number(j, "mscale_all_dim", 10 * multiplier);
    }
    if (multiplied || given || other) /* 1, but for what float32 lost of it: most models' */
        nb_json_put_num(j, "attention_factor", fabs(attention - 1) < 2e-7 ? 1 : attention);
    bool otherwise = strcmp(x->arch->gguf, "gpt-oss") != 0; /* what readers take without the key */
    if (!nb_hf_export_flag(x, ".rope.scaling.yarn_truncate", otherwise)) {
        nb_json_key(j, "truncate");
        nb_json_bool(j, false);
    }
}

static nb_status put_scaling(nb_hf_exporter *x, nb_json *j, nb_str type, double factor, nb_error *err)
{
    uint64_t original;
    double temperature;
    if (nb_str_eqz(type, "longrope"))
        return put_longrope(x, j, err);
    if (!nb_str_eqz(type, "linear") && !nb_str_eqz(type, "yarn") && !nb_str_eqz(type, "dynamic"))
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: the rope scaling '%.*s' is not written; linear, dynamic, yarn and longrope are", x->s->path,
                       NB_STR_ARG(type));
    nb_json_key(j, "rope_scaling");
    nb_json_open(j, '{');
    nb_json_key(j, "rope_type");
    nb_json_str(j, type);
    nb_json_key(j, "type"); /* for models' own code */
    nb_json_str(j, type);
    put_number(j, "factor", factor);
    if (nb_hf_export_u64(x, ".rope.scaling.original_context_length", &original))
        nb_json_put_uint(j, "original_max_position_embeddings", original);
    if (nb_str_eqz(type, "yarn"))
        put_yarn(x, j, factor);
    if (nb_hf_export_f64(x, ".attention.temperature_scale", &temperature))
        put_number(j, "llama_4_scaling_beta", temperature);
    nb_json_close(j, '}');
    return NB_OK;
}

/* said aloud where transformers takes a scaling when it is not */
static void put_none(const nb_hf_exporter *x, nb_json *j)
{
    double temperature;
    uint64_t context = 0;
    bool tempered = nb_hf_export_f64(x, ".attention.temperature_scale", &temperature);
    if (!tempered && strcmp(x->arch->gguf, "gpt-oss") != 0 && strcmp(x->arch->gguf, "apertus") != 0)
        return;
    nb_json_key(j, "rope_scaling");
    nb_json_open(j, '{');
    nb_json_put_z(j, "rope_type", "default");
    nb_hf_export_u64(x, ".context_length", &context);
    if (tempered) {
        nb_json_put_uint(j, "original_max_position_embeddings", context);
        put_number(j, "llama_4_scaling_beta", temperature);
    }
    nb_json_close(j, '}');
}

void nb_hf_put_partial_rope(const nb_hf_exporter *x, nb_json *j, const char *name)
{
    uint64_t turned = x->head_dim;
    nb_hf_export_u64(x, ".rope.dimension_count", &turned);
    put_number(j, name, (double)turned / (double)x->head_dim);
}

nb_status nb_hf_export_rope(nb_hf_exporter *x, nb_json *j, nb_error *err)
{
    bool gemma = strcmp(x->arch->model_type, "gemma3_text") == 0;
    double base = gemma ? 1000000 : 10000, local = 10000;
    nb_str type;
    const nb_source_tensor *freqs = nb_source_find_tensor(x->s, NB_STR("rope_freqs.weight"));
    nb_hf_export_f64(x, ".rope.freq_base", &base);
    nb_hf_export_f64(x, ".rope.freq_base_swa", &local);
    nb_json_key(j, "rope_theta");
    nb_hf_export_float(j, base);
    if (gemma) {
        nb_json_key(j, "rope_local_base_freq");
        nb_hf_export_float(j, local);
    }
    if (freqs)
        return put_llama3(x, j, (size_t)(freqs - x->s->tensors), base, err);
    double factor = 1;
    if (nb_hf_export_f64(x, ".rope.scaling.dynamic_factor", &factor) && factor > 1)
        return put_scaling(x, j, NB_STR("dynamic"), factor, err);
    nb_hf_export_f64(x, ".rope.scaling.factor", &factor);
    if (nb_hf_export_str(x, ".rope.scaling.type", &type) && !nb_str_eqz(type, "none"))
        return put_scaling(x, j, type, factor, err);
    put_none(x, j);
    return NB_OK;
}
