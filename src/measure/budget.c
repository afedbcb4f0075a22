#include "measure/budget.h"

#include <math.h>
#include <stdlib.h>

#include "measure/budget_internal.h"

/* A file may be so much smaller than asked, the loss that a search tries so much less; a divergence so much less, where the search stops, and at all. */
static const double size_below = 0.01, loss_below = 0.03, divergence_aim = 0.97, divergence_enough = 0.93,
                    divergence_below = 0.9;
enum { MOST_ROUNDS = 12, SIZE_ROUNDS = 8 };

nb_status nb_budget_progress(const nb_budget *b, const char *what, size_t done, size_t all, nb_error *err)
{
    const nb_budget_params *p = b->params;
    if (p->progress && p->progress(p->user, what, done, all) != 0)
        return nb_fail(err, NB_ERR_CANCELLED, "cancelled; nothing was written");
    return NB_OK;
}

/* ---- a size ---- */

static nb_status plan(const nb_budget *b, nb_quantize_result *size, nb_error *err)
{
    nb_quantize_params q = *b->params->quantize;
    q.mix = NULL;
    q.types = b->types;
    const nb_type_info **same = calloc(b->source->tensor_count + 1, sizeof *same);
    nb_status status = same ? nb_quantize_plan(b->source, &q, same, size, err)
                            : nb_fail_memory(err, b->source->path, b->source->tensor_count * sizeof *same);
    free(same);
    return status;
}

/* Whether all free tensors are the smallest, or the largest, they can be. */
static nb_status plan_extreme(nb_budget *b, bool largest, nb_quantize_result *size, nb_error *err)
{
    for (size_t i = 0; i < b->count; i++) {
        const nb_budget_tensor *t = &b->tensors[i];
        b->types[t->index] = t->options[largest ? t->count - 1 : 0].type;
    }
    return plan(b, size, err);
}

/* What the budget is about. */
static double measure_of(const nb_budget *b, const nb_quantize_result *size)
{
    return b->params->bytes ? (double)size->file_bytes : 8 * (double)size->bytes / (double)size->values;
}

static nb_status out_of_reach(nb_budget *b, const char *why, nb_error *err)
{
    nb_quantize_result least, most;
    const nb_budget_params *p = b->params;
    NB_TRY(plan_extreme(b, false, &least, err));
    NB_TRY(plan_extreme(b, true, &most, err));
    if (p->bytes)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: %llu bytes %s; files of %llu to %llu bytes can be made", p->in,
                       (unsigned long long)p->bytes, why, (unsigned long long)least.file_bytes,
                       (unsigned long long)most.file_bytes);
    return nb_fail(err, NB_ERR_ARGUMENT, "%s: %g bits a weight %s; %.4f to %.4f can be had", p->in, p->bits, why,
                   measure_of(b, &least), measure_of(b, &most));
}

static nb_status choose_size(nb_budget *b, const nb_budget_table *t, nb_budget_result *out, nb_error *err)
{
    const nb_budget_params *p = b->params;
    nb_quantize_result least, most;
    NB_TRY(plan_extreme(b, false, &least, err));
    NB_TRY(plan_extreme(b, true, &most, err));
    double target = p->bytes ? (double)p->bytes : p->bits, scale = p->bytes ? 1 : (double)b->values / 8;
    if (target < measure_of(b, &least) || target * (1 - size_below) > measure_of(b, &most))
        return out_of_reach(b, "is out of reach", err);
    /* from what is asked to bytes of free tensors: padding and headers are nearly the same for all choices */
    double beside = measure_of(b, &least) * scale - (double)t->least, over = 0;
    for (int round = 0; round < SIZE_ROUNDS; round++) {
        double high = target * scale - beside - over, low = target * scale * (1 - size_below) - beside - over;
        if (high < 0 || !nb_budget_table_by_bytes(t, low > 0 ? (uint64_t)ceil(low) : 0, (uint64_t)high))
            break;
        NB_TRY(plan(b, &out->size, err));
        double found = measure_of(b, &out->size);
        if (found <= target && found >= target * (1 - size_below))
            return NB_OK;
        over += (found - (found > target ? target : target * (1 - size_below))) * scale;
    }
    return out_of_reach(b, "is a size that no choice of types comes within 1 % of", err);
}

/* ---- a divergence ---- */

typedef struct point { /* of the search: logarithms of the loss that was expected and of what was found */
    double expected, found;
} point;

typedef struct search {
    nb_budget *budget;
    nb_budget_judge *judge;
    const nb_budget_table *table;
    const nb_type_info **best; /* of the largest divergence that is not too much */
    double best_found;
    point low, high;    /* around what is asked; found is not finite before there is one */
    double least, most; /* losses that can be expected at all */
} search;

static nb_status judge_loss(search *s, double expected, double *found, nb_budget_result *out, nb_error *err)
{
    nb_budget *b = s->budget;
    nb_budget_table_by_loss(s->table, expected * (1 - loss_below), expected);
    NB_TRY(nb_budget_judge_types(s->judge, b->types, false, 0, "measuring divergence", found, err));
    out->rounds++;
    if (*found <= b->params->divergence && *found > s->best_found) {
        s->best_found = *found;
        memcpy(s->best, b->types, b->source->tensor_count * sizeof *s->best);
    }
    return NB_OK;
}

/* Where log(found) would be log(target): on the line through both points, or beside one of them with slope 1. */
static double next_expected(const search *s, double target)
{
    bool low = isfinite(s->low.found), high = isfinite(s->high.found);
    if (!low && !high)
        return log(target);
    if (!low || !high)
        return (low ? s->low.expected - s->low.found : s->high.expected - s->high.found) + log(target);
    double share = (log(target) - s->low.found) / (s->high.found - s->low.found);
    share = share < 0.05 ? 0.05 : share > 0.95 ? 0.95 : share;
    return s->low.expected + share * (s->high.expected - s->low.expected);
}

static nb_status divergence_out_of_reach(search *s, nb_budget_result *out, nb_error *err)
{
    const nb_budget_params *p = s->budget->params;
    double least, most;
    NB_TRY(judge_loss(s, s->least, &least, out, err));
    NB_TRY(judge_loss(s, s->most, &most, out, err));
    return nb_fail(err, NB_ERR_ARGUMENT,
                   "%s: a divergence of %g is out of reach; the types that fit give %.3g to %.3g, in steps", p->in,
                   p->divergence, fmax(least, 0), most);
}

static nb_status run_search(search *s, nb_budget_result *out, nb_error *err)
{
    double target = s->budget->params->divergence, aim = target * divergence_aim;
    for (int round = 0; round < MOST_ROUNDS && s->best_found < target * divergence_enough; round++) {
        double x = next_expected(s, aim), found;
        bool at_least = x <= log(s->least), at_most = x >= log(s->most);
        x = at_least ? log(s->least) : at_most ? log(s->most) : x;
        NB_TRY(judge_loss(s, exp(x), &found, out, err));
        point *end = found > target ? &s->high : &s->low;
        *end = (point){x, log(found > 1e-12 ? found : 1e-12)};
        if ((at_least && found > target) || (at_most && found < target * divergence_below))
            break;
    }
    return s->best_found >= target * divergence_below ? NB_OK : divergence_out_of_reach(s, out, err);
}

static nb_status choose_divergence(nb_budget *b, const nb_budget_table *t, nb_budget_judge *judge,
                                   nb_budget_result *out, nb_error *err)
{
    search s = {.budget = b,
                .judge = judge,
                .table = t,
                .best = NB_ARRAY(&b->arena, const nb_type_info *, b->source->tensor_count + 1),
                .low = {0, -INFINITY},
                .high = {0, INFINITY},
                .best_found = -1};
    if (!s.best)
        return nb_fail_memory(err, b->source->path, b->source->tensor_count * sizeof *s.best);
    nb_budget_table_by_loss(t, 0, 0);
    s.least = nb_budget_loss(b);
    nb_budget_table_by_loss(t, 0, INFINITY);
    s.most = nb_budget_loss(b);
    NB_TRY(run_search(&s, out, err));
    memcpy(b->types, s.best, b->source->tensor_count * sizeof *s.best);
    out->divergence = s.best_found;
    out->windows = nb_budget_judge_windows(judge, false);
    out->held_back_windows = nb_budget_judge_windows(judge, true);
    NB_TRY(nb_budget_judge_types(judge, b->types, true, 0, "measuring what is held back", &out->held_back, err));
    return plan(b, &out->size, err);
}

/* ---- all of it ---- */

static void tell_sensitivities(const nb_budget *b, nb_budget_result *out)
{
    out->kind_count = b->kind_count;
    for (size_t k = 0; k < b->kind_count; k++)
        out->kinds[k].name = b->kinds[k];
    for (size_t i = 0; i < b->count; i++)
        out->kinds[b->tensors[i].kind].sensitivity[b->tensors[i].third] = b->tensors[i].sensitivity;
}

static nb_status choose(nb_budget *b, nb_budget_judge **judge, nb_budget_result *out, nb_error *err)
{
    const nb_budget_params *p = b->params;
    nb_budget_table table;
    NB_TRY(nb_budget_measure_errors(b, err));
    nb_budget_sensitivity_default(b);
    if (p->text.p) {
        NB_TRY(nb_budget_judge_new(b, judge, err));
        NB_TRY(nb_budget_sensitivity_measure(b, *judge, err));
    }
    NB_TRY(nb_budget_table_make(b, &b->arena, &table, err));
    if (p->divergence > 0)
        NB_TRY(choose_divergence(b, &table, *judge, out, err));
    else
        NB_TRY(choose_size(b, &table, out, err));
    out->expected = nb_budget_loss(b);
    tell_sensitivities(b, out);
    return NB_OK;
}

nb_status nb_budget_types(const nb_source *s, const nb_budget_params *params, const nb_type_info **types,
                          nb_budget_result *out, nb_error *err)
{
    nb_budget b = {.source = s, .params = params, .types = types};
    nb_budget_judge *judge = NULL;
    *out = (nb_budget_result){0};
    int asked = (params->bytes > 0) + (params->bits > 0) + (params->divergence > 0);
    if (asked != 1 || (params->divergence > 0 && !params->text.p))
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: one budget has to be given, and for a divergence a text", params->in);
    nb_status status = choose(&b, &judge, out, err);
    nb_budget_judge_free(judge);
    nb_arena_free(&b.arena);
    return status;
}
