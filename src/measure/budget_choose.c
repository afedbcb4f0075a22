/* The least loss for each size, over all combinations of types: the knapsack problem with one choice a tensor, solved by
 * tensors over sizes (Dudzinski and Walukiewicz 1987, section 3). Sizes are rounded to cells, to the nearest, so that what
 * is lost by it does not add up: a sum of 300 tensors is off by 5 cells of 16384. What is taken is checked exactly. */
#include <math.h>

#include "measure/budget_internal.h"

enum { CELLS = 16384, MOST_OPTIONS_BYTES = 512 << 20 };

static size_t cost_of(const nb_budget_table *t, const nb_budget_tensor *tensor, size_t option)
{
    return (size_t)((double)(tensor->options[option].bytes - tensor->options[0].bytes) / t->unit + 0.5);
}

/* Adds a tensor: before, [cells], is the least loss of those before it. */
static void add_tensor(const nb_budget_table *t, size_t tensor, const double *before, double *after)
{
    const nb_budget_tensor *free_one = &t->budget->tensors[tensor];
    unsigned char *options = t->options + tensor * t->cells;
    for (size_t i = 0; i < t->cells; i++)
        after[i] = INFINITY;
    for (size_t o = 0; o < free_one->count; o++) {
        size_t cost = cost_of(t, free_one, o);
        double more = free_one->sensitivity * free_one->options[o].error;
        for (size_t i = cost; i < t->cells; i++) {
            double loss = before[i - cost] + more;
            if (loss < after[i]) {
                after[i] = loss;
                options[i] = (unsigned char)o;
            }
        }
    }
}

nb_status nb_budget_table_make(const nb_budget *b, nb_arena *arena, nb_budget_table *t, nb_error *err)
{
    *t = (nb_budget_table){.budget = b};
    for (size_t i = 0; i < b->count; i++) {
        t->least += b->tensors[i].options[0].bytes;
        t->most += b->tensors[i].options[b->tensors[i].count - 1].bytes;
    }
    size_t cells = CELLS;
    while (b->count && cells > 1024 && cells > MOST_OPTIONS_BYTES / b->count)
        cells /= 2;
    t->unit = (double)(t->most - t->least) / (double)cells;
    t->unit = t->unit < 1 ? 1 : t->unit;
    t->cells = (size_t)((double)(t->most - t->least) / t->unit) + b->count + 1;
    t->loss = NB_ARRAY(arena, double, t->cells);
    double *other = NB_ARRAY(arena, double, t->cells);
    t->left = NB_ARRAY(arena, double, t->cells);
    t->options = NB_ARRAY(arena, unsigned char, (b->count + 1) * t->cells);
    if (!t->loss || !other || !t->left || !t->options)
        return nb_fail_memory(err, b->source->path, (b->count + 1) * t->cells);
    for (size_t i = 1; i < t->cells; i++)
        t->loss[i] = INFINITY;
    for (size_t i = 0; i < b->count; i++) {
        double *before = t->loss;
        add_tensor(t, i, before, other);
        t->loss = other;
        other = before;
    }
    return NB_OK;
}

/* Sets the types of a cell; their exact bytes. */
static uint64_t take(const nb_budget_table *t, size_t cell)
{
    uint64_t bytes = 0;
    for (size_t i = t->budget->count; i-- > 0;) {
        const nb_budget_tensor *tensor = &t->budget->tensors[i];
        size_t option = t->options[i * t->cells + cell];
        t->budget->types[tensor->index] = tensor->options[option].type;
        bytes += tensor->options[option].bytes;
        cell -= cost_of(t, tensor, option);
    }
    return bytes;
}

bool nb_budget_table_by_bytes(const nb_budget_table *t, uint64_t low, uint64_t high)
{
    double slack = (double)t->budget->count / 2 + 1; /* no sum of roundings is more */
    double from = ((double)low - (double)t->least) / t->unit - slack;
    double to = ((double)high - (double)t->least) / t->unit + slack;
    if (high < t->least || to < 0)
        return false;
    memcpy(t->left, t->loss, t->cells * sizeof *t->left);
    size_t first = from > 0 ? (size_t)from : 0, end = (size_t)to + 1;
    end = end < t->cells ? end : t->cells;
    while (first < end) {
        size_t best = first;
        for (size_t i = first; i < end; i++)
            best = t->left[i] < t->left[best] ? i : best;
        if (isinf(t->left[best]))
            return false;
        uint64_t bytes = take(t, best);
        if (bytes >= low && bytes <= high)
            return true;
        t->left[best] = INFINITY; /* its types are outside, though the cell is not */
    }
    return false;
}

void nb_budget_table_by_loss(const nb_budget_table *t, double low, double high)
{
    size_t least = 0, i = 0;
    while (i < t->cells && !(t->loss[i] >= low && t->loss[i] <= high))
        i++;
    for (size_t k = 0; k < t->cells && t->loss[least] > high; k++)
        least = t->loss[k] < t->loss[least] ? k : least;
    take(t, i < t->cells ? i : least);
}

double nb_budget_loss(const nb_budget *b)
{
    double loss = 0;
    for (size_t i = 0; i < b->count; i++) {
        const nb_budget_tensor *t = &b->tensors[i];
        for (size_t o = 0; o < t->count; o++)
            if (t->options[o].type == b->types[t->index])
                loss += t->sensitivity * t->options[o].error;
    }
    return loss;
}
