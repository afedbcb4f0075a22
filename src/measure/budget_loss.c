/* From the errors of tensors to the divergence of the model: to first order a sum over tensors, each error times a
 * sensitivity, which the tensors of one kind (ffn_down) in one third of the layers share.
 *
 * Measured on a text: one kind at a time, and one third of the layers at a time, takes a type of about 1 % error, the rest stays
 * as it is, and the divergence is taken on a few windows. Sensitivity = that of its kind times that of its third, fitted
 * to those dozen divergences. Without a text it comes from the table below. */
#include <math.h>
#include <stdio.h>

#include "measure/budget_internal.h"

enum { FIT_ROUNDS = 50 };

/* Divergence for each 1 of relative error of all tensors of a kind together, and how the thirds of the layers share it:
 * geometric means of what the method below measured, on 1000 to 2000 tokens of English, with importance matrices:
 *
 *                     embedding  output  q     k     v     output  gate  up    down   first : middle : last third
 *   SmolLM2 135M      15 (tied)          1.35  2.34  2.54  1.91    2.94  3.84  6.91   0.84  : 1.01 : 1.18
 *   Gemma 3 270M      10 (tied)          1.45  1.88  6.49  2.85    2.92  5.92  7.24   1.30  : 0.98 : 0.78
 *   Qwen 2.5 0.5B     0.48       2.2     0.43  1.43  1.69  1.04    1.58  1.66  11.8   3.29  : 0.54 : 0.56
 *
 * (Gemma without one, from a file of 7.4 bits a weight.) Models differ by factors of three: a text pays. */
static const struct {
    const char *kind;
    double sensitivity;
} table[] = {
    {"token_embd", 0.48}, {"output", 2.2},       {"attn_q", 0.94},   {"attn_k", 1.85}, {"attn_v", 3.03},
    {"attn_qkv", 5.8},    {"attn_output", 1.78}, {"ffn_gate", 2.39}, {"ffn_up", 3.35}, {"ffn_down", 8.38},
};
static const double tied_embedding = 12.4, other_kinds = 2, table_thirds[NB_BUDGET_THIRDS] = {1.53, 0.81, 0.80};

static double of_kind(const nb_budget *b, nb_str kind)
{
    if (nb_str_eqz(kind, "token_embd") && !nb_source_find_tensor(b->source, NB_STR("output.weight")))
        return tied_embedding;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (nb_str_eqz(kind, table[i].kind))
            return table[i].sensitivity;
    return other_kinds;
}

/* A kind stands in no third when it is outside of the layers. */
static bool in_layers(const nb_budget *b, const nb_budget_tensor *t)
{
    return nb_str_starts(b->source->tensors[t->index].name, NB_STR("blk."));
}

void nb_budget_sensitivity_default(nb_budget *b)
{
    double counts[NB_BUDGET_KINDS] = {0};
    for (size_t i = 0; i < b->count; i++)
        counts[b->tensors[i].kind] += 1;
    for (size_t i = 0; i < b->count; i++) {
        nb_budget_tensor *t = &b->tensors[i];
        double third = in_layers(b, t) ? table_thirds[t->third] : 1;
        t->sensitivity = of_kind(b, b->kinds[t->kind]) * third / counts[t->kind];
    }
}

/* ---- measuring ---- */

typedef struct fit {
    nb_budget *budget;
    const nb_type_info **types;                              /* of a model that is measured */
    double *errors;                                          /* [count] of the types the tensors take in turn */
    double kinds[NB_BUDGET_KINDS], thirds[NB_BUDGET_THIRDS]; /* divergences that were measured */
    double kind_factors[NB_BUDGET_KINDS], third_factors[NB_BUDGET_THIRDS]; /* what explains them */
    bool layered;                                                          /* there are thirds to tell apart */
} fit;

/* The option of about 1 % error. */
static const nb_budget_option *typical(const nb_budget_tensor *t)
{
    const nb_budget_option *best = NULL;
    double nearest = INFINITY;
    for (size_t i = 0; i < t->count; i++) {
        double error = t->options[i].error, distance = error > 0 ? fabs(log(error / 0.01)) : INFINITY;
        if (distance < nearest) {
            nearest = distance;
            best = &t->options[i];
        }
    }
    return best;
}

/* One model: of a kind (third < 0), or of a third of the layers (kind < 0). */
static nb_status measure_group(fit *f, nb_budget_judge *j, int kind, int third, size_t round, size_t rounds,
                               double *divergence, nb_error *err)
{
    nb_budget *b = f->budget;
    char what[64];
    double errors = 0;
    for (size_t i = 0; i < b->count; i++) {
        const nb_budget_tensor *t = &b->tensors[i];
        const nb_budget_option *o = typical(t);
        bool in = kind >= 0 ? t->kind == (size_t)kind : in_layers(b, t) && t->third == (size_t)third;
        in = in && o;
        f->types[t->index] = in ? o->type : b->source->tensors[t->index].type;
        errors += in ? o->error : 0;
        f->errors[i] = o ? o->error : 0;
    }
    *divergence = 0;
    if (!(errors > 0))
        return NB_OK;
    snprintf(what, sizeof what, "measuring sensitivity %zu of %zu", round, rounds);
    NB_TRY(nb_budget_judge_types(j, f->types, false, NB_BUDGET_WINDOWS, what, divergence, err));
    *divergence = *divergence > 1e-9 ? *divergence : 1e-9;
    return NB_OK;
}

/* Alternates: factors of kinds that explain their divergences with those of thirds, and the other way round. */
static void fit_factors(fit *f)
{
    const nb_budget *b = f->budget;
    for (size_t d = 0; d < NB_BUDGET_THIRDS; d++)
        f->third_factors[d] = 1;
    for (int round = 0; round < FIT_ROUNDS; round++) {
        double kinds[NB_BUDGET_KINDS] = {0}, thirds[NB_BUDGET_THIRDS] = {0}, mean = 0;
        for (size_t i = 0; i < b->count; i++)
            kinds[b->tensors[i].kind] += f->errors[i] *
                                         (in_layers(b, &b->tensors[i]) ? f->third_factors[b->tensors[i].third] : 1);
        for (size_t k = 0; k < b->kind_count; k++)
            f->kind_factors[k] = kinds[k] > 0 ? f->kinds[k] / kinds[k] : 0;
        for (size_t i = 0; i < b->count; i++)
            if (in_layers(b, &b->tensors[i]))
                thirds[b->tensors[i].third] += f->errors[i] * f->kind_factors[b->tensors[i].kind];
        if (!f->layered)
            return;
        for (size_t d = 0; d < NB_BUDGET_THIRDS; d++) {
            f->third_factors[d] = thirds[d] > 0 && f->thirds[d] > 0 ? f->thirds[d] / thirds[d] : 1;
            mean += log(f->third_factors[d]) / NB_BUDGET_THIRDS;
        }
        for (size_t d = 0; d < NB_BUDGET_THIRDS; d++)
            f->third_factors[d] /= exp(mean);
    }
}

static nb_status measure_all(fit *f, nb_budget_judge *j, nb_error *err)
{
    const nb_budget *b = f->budget;
    size_t rounds = b->kind_count + (f->layered ? NB_BUDGET_THIRDS : 0), round = 0;
    for (size_t k = 0; k < b->kind_count; k++)
        NB_TRY(measure_group(f, j, (int)k, -1, ++round, rounds, &f->kinds[k], err));
    for (int d = 0; d < NB_BUDGET_THIRDS && f->layered; d++)
        NB_TRY(measure_group(f, j, -1, d, ++round, rounds, &f->thirds[d], err));
    return NB_OK;
}

nb_status nb_budget_sensitivity_measure(nb_budget *b, nb_budget_judge *j, nb_error *err)
{
    fit f = {.budget = b};
    f.types = NB_ARRAY(&b->arena, const nb_type_info *, b->source->tensor_count + 1);
    f.errors = NB_ARRAY(&b->arena, double, b->count + 1);
    if (!f.types || !f.errors)
        return nb_fail_memory(err, b->source->path, b->source->tensor_count * sizeof *f.types);
    for (size_t i = 0; i < b->source->tensor_count; i++)
        f.types[i] = b->source->tensors[i].type;
    bool seen[NB_BUDGET_THIRDS] = {false};
    for (size_t i = 0; i < b->count; i++)
        seen[b->tensors[i].third] |= in_layers(b, &b->tensors[i]);
    f.layered = seen[0] && seen[1] && seen[2];
    NB_TRY(measure_all(&f, j, err));
    fit_factors(&f);
    for (size_t i = 0; i < b->count; i++) {
        nb_budget_tensor *t = &b->tensors[i];
        double found = f.kind_factors[t->kind] * (in_layers(b, t) ? f.third_factors[t->third] : 1);
        if (found > 0) /* no error of the kind could be made: the table's word stands */
            t->sensitivity = found;
    }
    return NB_OK;
}
