/* Which tensors' types are free, and what each type does to them: a sample of rows, spread evenly, is quantized as the
 * file's would be. A unit of work is a tensor in one type, so sums have one order however many threads there are. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "convert/quantize_internal.h"
#include "measure/budget_internal.h"
#include "measure/loss.h"

/* Rows a tensor: more of narrow ones. The errors of whole tensors differ from such a sample's by 1 or 2 %, types by 20 %. */
enum { SAMPLE_VALUES = 96 << 10, LEAST_ROWS = 32, MOST_ROWS = 128, ALIGNMENT = 32 };

/* Those marked are poor without an importance matrix. */
static const struct {
    enum nb_type type;
    bool needs_importance;
} candidates[] = {
    {NB_TYPE_IQ1_S, true}, {NB_TYPE_IQ1_M, true},   {NB_TYPE_IQ2_XXS, true}, {NB_TYPE_IQ2_XS, true},
    {NB_TYPE_IQ2_S, true}, {NB_TYPE_Q2_K, false},   {NB_TYPE_IQ3_XXS, true}, {NB_TYPE_IQ3_S, true},
    {NB_TYPE_Q3_K, false}, {NB_TYPE_IQ4_XS, false}, {NB_TYPE_IQ4_NL, false}, {NB_TYPE_Q4_0, false},
    {NB_TYPE_Q4_K, false}, {NB_TYPE_Q4_1, false},   {NB_TYPE_Q5_0, false},   {NB_TYPE_Q5_K, false},
    {NB_TYPE_Q5_1, false}, {NB_TYPE_Q6_K, false},   {NB_TYPE_Q8_0, false},   {NB_TYPE_F16, false},
};
_Static_assert(sizeof candidates / sizeof *candidates < NB_BUDGET_OPTIONS, "one more is the source's own type");

/* ---- which tensors ---- */

static bool padded_bytes(const nb_source_tensor *t, const nb_type_info *type, uint64_t *bytes)
{
    size_t row, all;
    if (!nb_type_row_bytes(type, t->dims[0], &row) || !nb_mul(row, (size_t)nb_source_rows(t), &all) ||
        all > SIZE_MAX - ALIGNMENT)
        return false;
    *bytes = nb_round_up(all, ALIGNMENT);
    return true;
}

static void offer(nb_budget_tensor *t, const nb_type_info *type, uint64_t bytes, double error)
{
    t->options[t->count++] = (nb_budget_option){type, bytes, error};
}

static void offer_candidates(const nb_budget *b, nb_budget_tensor *t)
{
    const nb_source_tensor *tensor = &b->source->tensors[t->index];
    bool important = nb_quantize_importance(b->params->quantize, tensor) != NULL;
    uint64_t own = 0, bytes;
    padded_bytes(tensor, tensor->type, &own);
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        const nb_type_info *type = nb_type_get(candidates[i].type);
        bool allowed = important || !candidates[i].needs_importance;
        if (allowed && padded_bytes(tensor, type, &bytes) && bytes < own)
            offer(t, type, bytes, 0);
    }
    offer(t, tensor->type, own, 0);
}

/* "ffn_down" and 3 of "blk.3.ffn_down.weight"; layer -1: none. */
static nb_str kind_of(nb_str name, int *layer)
{
    size_t at = 0, end = name.n;
    *layer = -1;
    if (nb_str_starts(name, NB_STR("blk."))) {
        int number = 0;
        for (at = 4; at < name.n && at < 10 && name.p[at] >= '0' && name.p[at] <= '9'; at++)
            number = number * 10 + (name.p[at] - '0');
        *layer = number;
        at += at < name.n;
    }
    while (end > at && name.p[end - 1] != '.')
        end--;
    return (nb_str){name.p + at, (end > at ? end - 1 : name.n) - at};
}

/* The last kind is for all that come when the others are taken. */
static size_t kind_index(nb_budget *b, nb_str kind)
{
    for (size_t i = 0; i < b->kind_count; i++)
        if (nb_str_eq(b->kinds[i], kind))
            return i;
    if (b->kind_count == NB_BUDGET_KINDS)
        return NB_BUDGET_KINDS - 1;
    b->kinds[b->kind_count] = kind;
    return b->kind_count++;
}

static void add_tensors(nb_budget *b, const nb_type_info *const *one, const nb_type_info *const *other)
{
    const nb_source *s = b->source;
    int layers = 0, layer;
    for (size_t i = 0; i < s->tensor_count; i++) {
        kind_of(s->tensors[i].name, &layer);
        layers = layer >= layers ? layer + 1 : layers;
    }
    for (size_t i = 0; i < s->tensor_count; i++) {
        const nb_source_tensor *t = &s->tensors[i];
        b->types[i] = one[i];
        size_t row = 0;
        b->values += t->dims[0] * nb_source_rows(t);
        if (one[i] == other[i]) {
            nb_type_row_bytes(one[i], t->dims[0], &row);
            b->fixed_bytes += row * nb_source_rows(t);
            continue;
        }
        nb_budget_tensor *free_one = &b->tensors[b->count++];
        free_one->index = i;
        free_one->kind = kind_index(b, kind_of(t->name, &layer));
        free_one->third = layer < 0 ? 0 : (size_t)(layer * NB_BUDGET_THIRDS / layers);
        offer_candidates(b, free_one);
    }
}

/* What two mixes of one type each agree on is not ours to choose: vectors, patterns' and kept tensors. */
static nb_status find_tensors(nb_budget *b, nb_error *err)
{
    const nb_source *s = b->source;
    nb_quantize_params q = *b->params->quantize;
    nb_quantize_result ignored;
    const nb_type_info **one = NB_ARRAY(&b->arena, const nb_type_info *, s->tensor_count + 1);
    const nb_type_info **other = NB_ARRAY(&b->arena, const nb_type_info *, s->tensor_count + 1);
    b->tensors = NB_ARRAY(&b->arena, nb_budget_tensor, s->tensor_count + 1);
    if (!one || !other || !b->tensors)
        return nb_fail_memory(err, s->path, s->tensor_count * sizeof *b->tensors);
    q.types = NULL;
    q.pure = true;
    q.dry_run = false;
    q.mix = nb_mix_by_name(NB_STR("Q8_0"));
    NB_TRY(nb_quantize_plan(s, &q, one, &ignored, err));
    q.mix = nb_mix_by_name(NB_STR("Q4_0"));
    NB_TRY(nb_quantize_plan(s, &q, other, &ignored, err));
    add_tensors(b, one, other);
    return NB_OK;
}

/* ---- errors ---- */

typedef struct work {
    nb_budget *budget;
    size_t *firsts; /* [count + 1] units before each tensor */
    size_t units, columns, most_bytes;
    atomic_size_t next, done;
    atomic_bool stop;
    atomic_flag failed;
    nb_status status;
    nb_error error;
} work;

typedef struct scratch {
    float *x, *y, *weight;
    void *codes;
} scratch;

static double error_of(const float *x, const float *y, const float *weight, size_t n, double *norm)
{
    double error = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double w = weight ? (double)weight[i] : 1, d = (double)x[i] - (double)y[i];
        error += w * d * d;
        squares += w * (double)x[i] * (double)x[i];
    }
    *norm += squares;
    return error;
}

static const float *weight_of(const nb_imatrix_entry *e, const nb_source_tensor *t, uint64_t row, float *weight)
{
    size_t columns = (size_t)t->dims[0], i = 0;
    if (!e || !nb_imatrix_weights_of(e, columns, (size_t)(t->dims[2] * t->dims[3]), (size_t)(row / t->dims[1]), weight))
        return NULL;
    while (i < columns && !(weight[i] > 0))
        i++;
    return i < columns ? weight : NULL;
}

static nb_status measure_option(const nb_budget *b, size_t tensor, size_t option, scratch *m, nb_error *err)
{
    nb_budget_tensor *free_one = &b->tensors[tensor];
    nb_budget_option *o = &free_one->options[option];
    const nb_source_tensor *t = &b->source->tensors[free_one->index];
    const nb_imatrix_entry *e = nb_quantize_importance(b->params->quantize, t);
    size_t columns = (size_t)t->dims[0];
    uint64_t rows = nb_source_rows(t), sample = SAMPLE_VALUES / columns;
    sample = sample < LEAST_ROWS ? LEAST_ROWS : sample > MOST_ROWS ? MOST_ROWS : sample;
    sample = sample < rows ? sample : rows;
    double error = 0, norm = 0;
    for (uint64_t i = 0; i < sample; i++) {
        /* in the middle of each of `sample` equal parts; in two steps, which do not overflow */
        uint64_t row = rows / sample * i + (rows % sample * i + rows / 2) / sample;
        const float *weight = weight_of(e, t, row, m->weight);
        NB_TRY(nb_source_floats(b->source, free_one->index, row, 1, m->x, err));
        o->type->quantize(m->x, weight, columns, b->params->quantize->rounding, m->codes);
        o->type->dequantize(m->codes, m->y, columns);
        error += error_of(m->x, m->y, weight, columns, &norm);
    }
    o->error = norm > 0 ? error / norm : 0;
    return NB_OK;
}

static size_t tensor_of(const work *w, size_t unit)
{
    size_t low = 0, high = w->budget->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        *(w->firsts[middle] <= unit ? &low : &high) = middle;
    }
    return low;
}

static void stop(work *w, nb_status status, const nb_error *error)
{
    if (!atomic_flag_test_and_set(&w->failed)) {
        w->status = status;
        w->error = *error;
    }
    atomic_store(&w->stop, true);
}

static void member_run(void *context, int member, int members)
{
    work *w = context;
    nb_error error;
    (void)members;
    float *x = malloc(3 * w->columns * sizeof *x);
    scratch m = {.x = x, .y = x + w->columns, .weight = x + 2 * w->columns, .codes = aligned_alloc(64, w->most_bytes)};
    if (!x || !m.codes)
        stop(w, nb_fail_memory(&error, "rows of a tensor", 4 * w->columns * sizeof *x), &error);
    while (!atomic_load_explicit(&w->stop, memory_order_relaxed)) {
        size_t unit = atomic_fetch_add(&w->next, 1);
        if (unit >= w->units)
            break;
        size_t tensor = tensor_of(w, unit);
        nb_status status = measure_option(w->budget, tensor, unit - w->firsts[tensor], &m, &error);
        size_t done = atomic_fetch_add(&w->done, 1) + 1;
        if (status == NB_OK && member == 0)
            status = nb_budget_progress(w->budget, "measuring types", done, w->units, &error);
        if (status != NB_OK)
            stop(w, status, &error);
    }
    free(m.codes);
    free(x);
}

static nb_status measure(nb_budget *b, nb_error *err)
{
    work w = {.budget = b, .columns = 1, .failed = ATOMIC_FLAG_INIT};
    nb_team *team;
    w.firsts = NB_ARRAY(&b->arena, size_t, b->count + 1);
    if (!w.firsts)
        return nb_fail_memory(err, b->source->path, b->count * sizeof *w.firsts);
    for (size_t i = 0; i < b->count; i++) {
        w.firsts[i] = w.units;
        w.units += b->tensors[i].count - 1; /* the last is as it is */
        w.columns = nb_max_size(w.columns, (size_t)b->source->tensors[b->tensors[i].index].dims[0]);
    }
    w.columns = nb_round_up(w.columns, 16);
    w.most_bytes = nb_round_up(w.columns * sizeof(float), 64); /* no candidate has more than float32 */
    if (w.units == 0)
        return NB_OK;
    NB_TRY(nb_team_new(b->params->quantize->threads, false, &team, err));
    nb_team_run(team, member_run, &w);
    nb_team_free(team);
    if (w.status != NB_OK && err)
        *err = w.error;
    return w.status;
}

static int compare_options(const void *a, const void *b)
{
    const nb_budget_option *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    if (x->error < y->error || x->error > y->error)
        return x->error < y->error ? -1 : 1;
    return (x->type->id > y->type->id) - (x->type->id < y->type->id);
}

/* Leaves out what is larger and no better than another, and what is not finite. */
static void keep_useful(nb_budget_tensor *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->count; i++)
        if (isfinite(t->options[i].error))
            t->options[n++] = t->options[i];
    qsort(t->options, n, sizeof *t->options, compare_options);
    t->count = 0;
    for (size_t i = 0; i < n; i++)
        if (t->count == 0 || t->options[i].error < t->options[t->count - 1].error)
            t->options[t->count++] = t->options[i];
}

nb_status nb_budget_measure_errors(nb_budget *b, nb_error *err)
{
    NB_TRY(find_tensors(b, err));
    NB_TRY(measure(b, err));
    for (size_t i = 0; i < b->count; i++)
        keep_useful(&b->tensors[i]);
    return NB_OK;
}
