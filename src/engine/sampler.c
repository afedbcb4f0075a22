#include "engine/sampler.h"

#include <ctype.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/cpu.h"
#include "engine/sampler_impl.h"

nb_sampler_params nb_sampler_defaults(void)
{
    return (nb_sampler_params){
        .seed = NB_SEED_RANDOM,
        .temperature = 0.8f,
        .dynatemp_exponent = 1,
        .top_k = 40,
        .top_p = 0.95f,
        .min_p = 0.05f,
        .typical_p = 1,
        .top_n_sigma = -1,
        .xtc_threshold = 0.1f,
        .repeat_last_n = 64,
        .repeat_penalty = 1,
        .dry_base = 1.75f,
        .dry_allowed_length = 2,
        .dry_penalty_last_n = 64,
        .mirostat_tau = 5,
        .mirostat_eta = 0.1f,
    };
}

/* ---- the order of the stages ---- */

static const char STAGE_NAMES[] = "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature";

/* As llama.cpp spells them: case, '_' and '-' do not matter, and some have a second name. */
static bool stage_of(nb_str name, stage *out)
{
    static const struct {
        const char *name;
        stage which;
    } known[] = {
        {"penalties", STAGE_PENALTIES},
        {"dry", STAGE_DRY},
        {"topnsigma", STAGE_TOP_N_SIGMA},
        {"topk", STAGE_TOP_K},
        {"typp", STAGE_TYPICAL},
        {"typ", STAGE_TYPICAL},
        {"topp", STAGE_TOP_P},
        {"nucleus", STAGE_TOP_P},
        {"minp", STAGE_MIN_P},
        {"xtc", STAGE_XTC},
        {"temp", STAGE_TEMPERATURE},
        {"temperature", STAGE_TEMPERATURE},
    };
    char plain[16];
    size_t n = 0;
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '_' || name.p[i] == '-')
            continue;
        if (n + 1 == sizeof plain)
            return false;
        plain[n++] = (char)tolower((unsigned char)name.p[i]);
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (nb_str_eqz((nb_str){plain, n}, known[i].name)) {
            *out = known[i].which;
            return true;
        }
    return false;
}

static nb_status read_order(nb_sampler *s, const char *order, nb_error *err)
{
    bool seen[STAGES] = {false};
    while (*order) {
        nb_str name = {order, strcspn(order, ";")};
        stage which;
        if (!stage_of(name, &which))
            return nb_fail(err, NB_ERR_ARGUMENT, "unknown sampler \"%.*s\": the samplers are %s", NB_STR_ARG(name),
                           STAGE_NAMES);
        if (seen[which])
            return nb_fail(err, NB_ERR_ARGUMENT, "sampler \"%.*s\" is named twice: name each once", NB_STR_ARG(name));
        seen[which] = true;
        s->stages[s->stage_count++] = which;
        order += name.n;
        if (*order == ';' && *++order == 0)
            return nb_fail(err, NB_ERR_ARGUMENT, "the order of samplers ends in ';': name one after it, or remove it");
    }
    return NB_OK;
}

static bool penalizes(const nb_sampler_params *p)
{
    return p->repeat_last_n != 0 && (p->repeat_penalty != 1 || p->frequency_penalty != 0 || p->presence_penalty != 0);
}

static bool is_dry(const nb_sampler_params *p)
{
    return p->dry_multiplier != 0 && p->dry_base >= 1 && p->dry_penalty_last_n != 0;
}

static bool stage_is_on(const nb_sampler *s, stage which)
{
    const nb_sampler_params *p = &s->p;
    bool cuts = p->mirostat == 0; /* mirostat does its own */
    switch (which) {
    case STAGE_PENALTIES: return penalizes(p);
    case STAGE_DRY: return is_dry(p);
    case STAGE_TOP_N_SIGMA: return cuts && p->top_n_sigma > 0;
    case STAGE_TOP_K: return cuts && p->top_k > 0 && (size_t)p->top_k < s->vocabulary;
    case STAGE_TYPICAL: return cuts && p->typical_p < 1;
    case STAGE_TOP_P: return cuts && p->top_p < 1;
    case STAGE_MIN_P: return cuts && p->min_p > 0;
    case STAGE_XTC: return cuts && p->xtc_probability > 0 && p->xtc_threshold <= 0.5f;
    case STAGE_TEMPERATURE: return p->temperature != 1 || p->dynatemp_range > 0;
    case STAGES: break;
    }
    return false;
}

/* Only stages that do something stay; before a temperature of zero, those that never remove the best go too. */
static void drop_idle_stages(nb_sampler *s)
{
    int kept = 0;
    for (int i = 0; i < s->stage_count; i++) {
        stage which = s->stages[i];
        if (!stage_is_on(s, which))
            continue;
        if (which == STAGE_TEMPERATURE && s->p.temperature <= 0 && s->p.dynatemp_range <= 0)
            while (kept > 0 && (s->stages[kept - 1] == STAGE_TOP_K || s->stages[kept - 1] == STAGE_TOP_P ||
                                s->stages[kept - 1] == STAGE_MIN_P || s->stages[kept - 1] == STAGE_TOP_N_SIGMA))
                kept--;
        s->stages[kept++] = which;
    }
    s->stage_count = kept;
}

/* ---- making one ---- */

static nb_status check_numbers(const nb_sampler_params *p, nb_error *err)
{
    const struct {
        const char *name;
        float value, least;
    } numbers[] = {
        {"temperature", p->temperature, -INFINITY},
        {"dynatemp_range", p->dynatemp_range, -INFINITY},
        {"dynatemp_exponent", p->dynatemp_exponent, 0},
        {"top_p", p->top_p, -INFINITY},
        {"min_p", p->min_p, -INFINITY},
        {"typical_p", p->typical_p, -INFINITY},
        {"top_n_sigma", p->top_n_sigma, -INFINITY},
        {"xtc_probability", p->xtc_probability, -INFINITY},
        {"xtc_threshold", p->xtc_threshold, -INFINITY},
        {"repeat_penalty", p->repeat_penalty, 1e-30f},
        {"frequency_penalty", p->frequency_penalty, -INFINITY},
        {"presence_penalty", p->presence_penalty, -INFINITY},
        {"dry_multiplier", p->dry_multiplier, -INFINITY},
        {"dry_base", p->dry_base, -INFINITY},
        {"dry_allowed_length", (float)p->dry_allowed_length, 0},
        {"mirostat_tau", p->mirostat_tau, -INFINITY},
        {"mirostat_eta", p->mirostat_eta, -INFINITY},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (!isfinite(numbers[i].value))
            return nb_fail(err, NB_ERR_ARGUMENT, "%s must be a finite number", numbers[i].name);
        if (numbers[i].value < numbers[i].least)
            return nb_fail(err, NB_ERR_ARGUMENT, "%s is %g: it must be %s", numbers[i].name, (double)numbers[i].value,
                           numbers[i].least > 0 ? "greater than 0" : "0 or more");
    }
    if (p->mirostat < 0 || p->mirostat > 2)
        return nb_fail(err, NB_ERR_ARGUMENT, "mirostat is %d: 0 is off, 1 and 2 are its versions", p->mirostat);
    return NB_OK;
}

static nb_status check(const nb_sampler_params *p, size_t vocabulary, nb_error *err)
{
    if (vocabulary == 0 || vocabulary > SAMPLER_VOCABULARY_MAX)
        return nb_fail(err, NB_ERR_LIMIT, "a vocabulary of %zu tokens: the sampler takes 1 to %d", vocabulary,
                       SAMPLER_VOCABULARY_MAX);
    for (size_t i = 0; i < p->bias_count; i++) {
        if (p->bias[i].id < 0 || (size_t)p->bias[i].id >= vocabulary)
            return nb_fail(err, NB_ERR_ARGUMENT, "logit bias for token %d, but the vocabulary is 0 to %zu",
                           p->bias[i].id, vocabulary - 1);
        if (isnan(p->bias[i].bias))
            return nb_fail(err, NB_ERR_ARGUMENT, "logit bias of token %d is not a number", p->bias[i].id);
    }
    return check_numbers(p, err);
}

static uint64_t random_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) { /* early in boot: time must do */
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    return seed == NB_SEED_RANDOM ? 0 : seed;
}

static nb_status reserve(nb_sampler *s, const nb_sampler_params *p, nb_error *err)
{
    size_t n = s->vocabulary;
    s->logit = NB_ARRAY(&s->arena, float, n);
    s->id = NB_ARRAY(&s->arena, int32_t, n);
    s->key = NB_ARRAY(&s->arena, uint64_t, n);
    s->weight = NB_ARRAY(&s->arena, uint64_t, n);
    s->block = NB_ARRAY(&s->arena, float, (n + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK);
    s->block_weight = NB_ARRAY(&s->arena, uint64_t, (n + SAMPLER_BLOCK - 1) / SAMPLER_BLOCK);
    s->bias = NB_ARRAY(&s->arena, nb_logit_bias, p->bias_count);
    if (!s->logit || !s->id || !s->key || !s->weight || !s->block || !s->block_weight || !s->bias)
        return nb_fail_memory(err, "the sampler", n * 25);
    if (p->bias_count > 0)
        memcpy(s->bias, p->bias, p->bias_count * sizeof *p->bias);
    return NB_OK;
}

static nb_status fill(nb_sampler *s, const nb_sampler_params *p, const nb_tokenizer *tokenizer, nb_error *err)
{
    NB_TRY(read_order(s, p->order ? p->order : STAGE_NAMES, err));
    drop_idle_stages(s);
    NB_TRY(reserve(s, p, err));
    if (penalizes(p))
        NB_TRY(nb_sampler_penalties_new(s, err));
    if (is_dry(p))
        NB_TRY(nb_sampler_dry_new(s, p, tokenizer, err));
    s->log_min_p = p->min_p < 1 ? nb_log((double)p->min_p) : 0;
    nb_sampler_reset(s);
    return NB_OK;
}

nb_status nb_sampler_new(const nb_sampler_params *params, size_t vocabulary, const nb_tokenizer *tokenizer,
                         nb_sampler **out, nb_error *err)
{
    *out = NULL;
    NB_TRY(check(params, vocabulary, err));
    nb_sampler *s = calloc(1, sizeof *s);
    if (!s)
        return nb_fail_memory(err, "the sampler", sizeof *s);
    s->p = *params;
    s->p.dry_breakers = NULL;
    s->p.bias = NULL;
    s->p.order = NULL;
    if (s->p.seed == NB_SEED_RANDOM)
        s->p.seed = random_seed();
    s->vocabulary = vocabulary;
    s->lanes = &nb_sampler_lanes_ref;
#if defined(__x86_64__)
    if (nb_cpu_current() >= NB_CPU_AVX2)
        s->lanes = &nb_sampler_lanes_avx2;
#endif
    nb_status status = fill(s, params, tokenizer, err);
    if (status == NB_OK)
        *out = s;
    else
        nb_sampler_free(s);
    return status;
}

void nb_sampler_free(nb_sampler *s)
{
    if (s)
        nb_arena_free(&s->arena);
    free(s);
}

/* ---- using it ---- */

static size_t draw(nb_sampler *s)
{
    uint64_t weight;
    return nb_sampler_draw(s, nb_sampler_total(s), &weight);
}

/* Chooses among the candidates. */
static int32_t pick(nb_sampler *s)
{
    nb_sampler_bias(s);
    for (int i = 0; i < s->stage_count; i++)
        nb_sampler_stage(s, s->stages[i]);
    size_t chosen = 0;
    if (s->n > 1)
        chosen = s->p.mirostat ? nb_sampler_mirostat(s) : draw(s);
    return s->whole ? (int32_t)chosen : s->id[chosen];
}

int32_t nb_sampler_pick(nb_sampler *s, const float *logits)
{
    s->x = logits;
    s->n = s->vocabulary;
    s->whole = true;
    s->scanned = false;
    return pick(s);
}

int32_t nb_sampler_pick_allowed(nb_sampler *s, const float *logits, const uint32_t *allowed)
{
    size_t n = 0;
    for (size_t w = 0; w < (s->vocabulary + 31) / 32; w++)
        for (uint32_t bits = allowed[w]; bits; bits &= bits - 1, n++) {
            s->id[n] = (int32_t)(w * 32) + __builtin_ctz(bits);
            s->logit[n] = logits[s->id[n]];
        }
    nb_sampler_kept(s, n);
    return pick(s);
}

void nb_sampler_accept(nb_sampler *s, int32_t id)
{
    if (id < 0 || (size_t)id >= s->vocabulary)
        return;
    nb_sampler_penalties_accept(&s->penalties, id);
    nb_sampler_dry_accept(&s->dry, id);
}

void nb_sampler_reset(nb_sampler *s)
{
    nb_rng_seed(&s->rng, s->p.seed);
    nb_rng_seed(&s->xtc_rng, ~s->p.seed);
    s->mu = 2 * (double)s->p.mirostat_tau;
    nb_sampler_penalties_reset(s);
    nb_sampler_dry_reset(&s->dry);
}

uint64_t nb_sampler_seed(const nb_sampler *s) { return s->p.seed; }
