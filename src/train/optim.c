/* 8-bit optimizers (Dettmers et al. 2022): states in blocks of 256, decoded, updated and encoded again block by block, so
 * that a step moves two bytes a value and state instead of eight. */
#include "train/optim.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/cpu.h"
#include "num/half.h"

enum { BLOCK = 256 };

struct nb_optimizer {
    nb_optimizer_kind kind;
    nb_optimizer_params params;
    size_t n;
    uint64_t steps;
    nb_optimizer_state state[2]; /* the second is empty where the kind has one only */
    void *memory;                /* of the states */
};

/* signed for the first state, unsigned for the second; the same for all optimizers */
static nb_bnb_index indexes[2];
static pthread_once_t indexes_made = PTHREAD_ONCE_INIT;

static void make_indexes(void)
{
    for (int i = 0; i < 2; i++)
        nb_bnb_index_map(nb_bnb_map8(i == 0), &indexes[i]);
}

/* ---- life ---- */

static bool is_adam(nb_optimizer_kind kind) { return kind == NB_OPTIMIZER_ADAM || kind == NB_OPTIMIZER_ADAMW; }

nb_optimizer_params nb_optimizer_defaults(nb_optimizer_kind kind)
{
    nb_optimizer_params p = {1e-3, 0.9, 0.999, 1e-8, 0, 4096};
    switch (kind) {
    case NB_OPTIMIZER_ADAM: break;
    case NB_OPTIMIZER_ADAMW: p.weight_decay = 1e-2; break;
    case NB_OPTIMIZER_LION: p.learning_rate = 1e-4, p.beta2 = 0.99; break;
    case NB_OPTIMIZER_MOMENTUM: break;
    case NB_OPTIMIZER_RMSPROP: p.learning_rate = 1e-2, p.beta1 = 0.99; break;
    case NB_OPTIMIZER_ADAGRAD: p.learning_rate = 1e-2, p.epsilon = 1e-10; break;
    }
    return p;
}

static nb_status check_params(nb_optimizer_kind kind, const nb_optimizer_params *p, nb_error *err)
{
    if ((unsigned)kind > NB_OPTIMIZER_ADAGRAD)
        return nb_fail(err, NB_ERR_ARGUMENT, "%d is not a kind of optimizer", (int)kind);
    bool fine = p->learning_rate >= 0 && p->learning_rate < INFINITY && p->beta1 >= 0 && p->beta1 < 1 &&
                p->beta2 >= 0 && p->beta2 < 1 && p->epsilon >= 0 && p->epsilon < INFINITY && p->weight_decay >= 0 &&
                p->weight_decay < INFINITY;
    if (!fine)
        return nb_fail(
            err, NB_ERR_ARGUMENT,
            "an optimizer with rate %g, betas %g and %g, epsilon %g, weight decay %g: give betas in [0, 1), the "
            "others finite and not negative",
            p->learning_rate, p->beta1, p->beta2, p->epsilon, p->weight_decay);
    return NB_OK;
}

/* one piece of memory: for each state its float32 values, or its absmax and codes */
static bool take_states(nb_optimizer *o)
{
    bool eight = o->n >= o->params.min_8bit_size;
    size_t blocks = nb_bnb_blocks(o->n, BLOCK), states = is_adam(o->kind) ? 2 : 1, floats, bytes;
    if (!nb_mul(o->n, 2 * sizeof(float), &floats)) /* more than either form takes */
        return false;
    floats = eight ? blocks : o->n;
    bytes = floats * sizeof(float) + (eight ? nb_round_up(o->n, 64) : 0);
    char *p = o->memory = calloc(states, bytes + 64);
    for (size_t i = 0; p && i < states; i++, p += bytes) {
        if (eight)
            o->state[i] = (nb_optimizer_state){(uint8_t *)p + floats * sizeof(float), (float *)(void *)p, NULL};
        else
            o->state[i] = (nb_optimizer_state){NULL, NULL, (float *)(void *)p};
    }
    return p != NULL;
}

nb_status nb_optimizer_new(nb_optimizer_kind kind, const nb_optimizer_params *params, size_t n,
                           nb_optimizer **optimizer, nb_error *err)
{
    *optimizer = NULL;
    nb_optimizer_params p = params ? *params : nb_optimizer_defaults(kind);
    NB_TRY(check_params(kind, &p, err));
    nb_optimizer *o = calloc(1, sizeof *o);
    if (o)
        *o = (nb_optimizer){.kind = kind, .params = p, .n = n};
    if (!o || !take_states(o)) {
        free(o);
        return nb_fail_memory(err, "an optimizer's states", n);
    }
    pthread_once(&indexes_made, make_indexes);
    *optimizer = o;
    return NB_OK;
}

void nb_optimizer_free(nb_optimizer *optimizer)
{
    if (optimizer)
        free(optimizer->memory);
    free(optimizer);
}

void nb_optimizer_set_learning_rate(nb_optimizer *optimizer, double learning_rate)
{
    optimizer->params.learning_rate = learning_rate;
}

nb_optimizer_state nb_optimizer_state_of(nb_optimizer *optimizer, int which)
{
    return which == 1 || which == 2 ? optimizer->state[which - 1] : (nb_optimizer_state){0};
}

uint64_t nb_optimizer_steps(const nb_optimizer *optimizer) { return optimizer->steps; }
void nb_optimizer_set_steps(nb_optimizer *optimizer, uint64_t steps) { optimizer->steps = steps; }

/* ---- a step ---- */

typedef struct step {
    const nb_optimizer *o;
    nb_optim_rule rule;
    const nb_optim_loops *rules;
    const nb_bnb_loops *loops;
    float *p;
    const float *g;
} step;

static const nb_optim_loops *loops_now(void)
{
    static const nb_optim_loops *const levels[NB_CPU_LEVELS] = {
        [NB_CPU_REF] = &nb_optim_loops_ref,
#if defined(__x86_64__)
        [NB_CPU_AVX2] = &nb_optim_loops_avx2,
        [NB_CPU_FMA] = &nb_optim_loops_avx2, /* nothing here is fused */
        [NB_CPU_AVX512] = &nb_optim_loops_avx512,
#endif
    };
    nb_cpu_level level = nb_cpu_current();
    while (!levels[level]) /* a level that has no file of its own takes the one below */
        level--;
    return levels[level];
}

static nb_optim_rule rule_of(const nb_optimizer *o, uint64_t t)
{
    const nb_optimizer_params *p = &o->params;
    double rate = p->learning_rate, decay = p->weight_decay;
    nb_optim_rule r = {.kind = o->kind,
                       .keep1 = (float)p->beta1,
                       .keep2 = (float)p->beta2,
                       .take1 = (float)(1 - p->beta1),
                       .take2 = (float)(1 - p->beta2),
                       .epsilon = (float)p->epsilon,
                       .first = t == 1};
    if (is_adam(o->kind)) {
        r.root_scale = (float)(1 / sqrt(1 - pow(p->beta2, (double)t)));
        r.rate = (float)(rate / (1 - pow(p->beta1, (double)t)));
    } else {
        r.rate = (float)rate;
    }
    r.decay = (float)(is_adam(o->kind) || o->kind == NB_OPTIMIZER_LION ? 1 - rate * decay : decay);
    if (o->kind == NB_OPTIMIZER_ADAGRAD)
        r.keep1 = r.take1 = 1;
    return r;
}

/* Codes are the nearest at the block's absmax, as in bitsandbytes. The scale kept with a first state is then the one with
 * the least squared error for these codes, which differs by some 1e-4: after ten steps of Adam the values are 0.3 % nearer
 * to a float32 run. The second state keeps its absmax: none of its codes may stray. */
static void encode(const step *s, int which, size_t b, const float *x, size_t n)
{
    const nb_optimizer_state *state = &s->o->state[which];
    uint8_t *codes = state->codes + b * BLOCK;
    float most = nb_f32_of_bits(s->loops->largest(x, n)), decoded[BLOCK];
    if (n == BLOCK)
        s->loops->encode8(x, n, nb_bnb_factor(most), &indexes[which], codes);
    else
        for (size_t i = 0; i < n; i++)
            codes[i] = nb_bnb_nearest(&indexes[which], most > 0 ? x[i] / most : 0.0f);
    if (which == 0 && most > 0x1p-60f && most < 0x1p60f) { /* so that no sum overflows or vanishes */
        s->loops->decode8(codes, n, nb_bnb_map8(true), 1.0f, decoded);
        most = s->rules->fit(x, decoded, n);
    }
    state->absmax[b] = most;
}

static bool step_blocks(void *context, size_t begin, size_t end)
{
    const step *s = context;
    float values[2][BLOCK];
    for (size_t b = begin; b < end; b++) {
        size_t at = b * BLOCK, n = nb_min_size(BLOCK, s->o->n - at);
        const nb_optimizer_state *state = s->o->state;
        if (state[0].values) {
            s->rules->update(&s->rule, n, s->p + at, s->g + at, state[0].values + at,
                             state[1].values ? state[1].values + at : NULL);
            continue;
        }
        int states = state[1].codes ? 2 : 1;
        for (int i = 0; i < states; i++)
            s->loops->decode8(state[i].codes + at, n, nb_bnb_map8(i == 0), state[i].absmax[b], values[i]);
        s->rules->update(&s->rule, n, s->p + at, s->g + at, values[0], values[1]);
        for (int i = 0; i < states; i++)
            encode(s, i, b, values[i], n);
    }
    return true;
}

static bool check_blocks(void *context, size_t begin, size_t end)
{
    const step *s = context;
    size_t at = begin * BLOCK, n = nb_min_size(end * BLOCK, s->o->n) - at;
    return s->loops->largest(s->g + at, n) < 0x7f800000u;
}

nb_status nb_optimizer_step(nb_optimizer *optimizer, float *values, const float *gradients, nb_team *team,
                            nb_error *err)
{
    size_t blocks = nb_bnb_blocks(optimizer->n, BLOCK);
    step s = {.o = optimizer, .rules = loops_now(), .loops = nb_bnb_loops_now(), .p = values, .g = gradients};
    s.rule = rule_of(optimizer, optimizer->steps + 1);
    if (!nb_bnb_share(team, blocks, 16, check_blocks, &s))
        return nb_bnb_fail_not_finite(gradients, NB_FLOAT_F32, optimizer->n, err);
    optimizer->steps++;
    nb_bnb_share(team, blocks, 16, step_blocks, &s);
    return NB_OK;
}
