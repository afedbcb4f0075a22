/* A mixture of experts: which ones a token is for, their tokens side by side, and their matrices, each read once a step.
 *
 * The team meets between the parts: routing, a token a share; activations of each expert's tokens; gate, up and activation,
 * an expert's block of columns at a time; down, a block of columns of all experts at a time, so that what they add to a token
 * is summed in the order of their numbers whoever shares the step. Only the weights of experts that were chosen are read. */
#include <assert.h>
#include <math.h>

#include "cpu/cpu_internal.h"
#include "kernel/vec.h"

enum { BLOCK = 128, BLOCK_BYTES = 64 << 10 };

typedef struct job {
    nb_context *x;
    const nb_op *op;
    nb_expert_room *room;
    const nb_hparams *h;
    size_t rows, width; /* tokens or wanted outputs; values of one */
    int member, members;
} job;

/* ---- memory ---- */

/* Bytes of the panels of `pairs` rows that are shared out among experts in any way. A panel of 1..7 is up to 3 wider, which
 * is 3 of 5 at most; each expert's begin at a multiple of 64. */
static size_t panels_bytes(nb_act_format format, size_t k, size_t pairs, size_t experts)
{
    size_t active = nb_min_size(pairs, experts), wider = nb_min_size(3 * active, (3 * pairs + 4) / 5);
    return (pairs + wider) * (nb_act_bytes(format, k, NB_PANEL_TOKENS) / NB_PANEL_TOKENS) + active * 64;
}

static bool same_input(const nb_model_def *m, const nb_op *op, const nb_weights_params *params)
{
    return op->experts.gate < 0 ||
           nb_cpu_weight_format(m, op->experts.gate, params) == nb_cpu_weight_format(m, op->experts.up, params);
}

void nb_experts_layout(nb_carver *c, const nb_experts_need *need, nb_expert_room *room, size_t *buffers)
{
    const nb_model_def *m = need->model;
    size_t rows = 0, in = 0, in2 = 0, down = 0, experts = (size_t)m->h.experts, ff = (size_t)m->h.expert_ff;
    for (size_t i = 0; i < need->op_count; i++) {
        const nb_op *op = &need->plan->ops[i];
        if (op->kind != NB_OP_EXPERTS)
            continue;
        size_t n = need->plan->buffers[op->out].outputs ? need->outputs : need->tokens;
        size_t pairs = n * (size_t)m->h.experts_used, embd = need->plan->buffers[op->in].width;
        rows = nb_max_size(rows, n);
        in = nb_max_size(in, panels_bytes(nb_cpu_weight_format(m, op->experts.up, need->params), embd, pairs, experts));
        if (!same_input(m, op, need->params))
            in2 = nb_max_size(
                in2, panels_bytes(nb_cpu_weight_format(m, op->experts.gate, need->params), embd, pairs, experts));
        down = nb_max_size(down,
                           panels_bytes(nb_cpu_weight_format(m, op->experts.down, need->params), ff, pairs, experts));
    }
    if (rows == 0)
        return;
    size_t pairs = rows * (size_t)m->h.experts_used;
    room->chosen = nb_carve(c, pairs, sizeof *room->chosen, buffers);
    room->weight = nb_carve(c, pairs, sizeof *room->weight, buffers);
    room->row = nb_carve(c, pairs, sizeof *room->row, buffers);
    room->row_weight = nb_carve(c, pairs, sizeof *room->row_weight, buffers);
    room->expert = nb_carve(c, experts, sizeof *room->expert, buffers);
    room->count = nb_carve(c, experts, sizeof *room->count, buffers);
    room->claims = nb_carve(c, 2, sizeof *room->claims, buffers);
    room->in = nb_carve(c, 1, in, buffers);
    room->in2 = nb_carve(c, 1, in2, buffers);
    room->down = nb_carve(c, 1, down, buffers);
    room->hidden = nb_carve(c, pairs, ff * sizeof(float), buffers);
    room->sums_count = nb_max_size(rows * BLOCK, 2 * experts);
    room->sums = nb_carve(c, (size_t)need->members, nb_round_up(room->sums_count * sizeof(float), 64), buffers);
}

static float *sums_of(const job *j)
{
    return (float *)(void *)((char *)j->room->sums +
                             (size_t)j->member * nb_round_up(j->room->sums_count * sizeof(float), 64));
}

/* ---- routing ---- */

/* y = softmax(x), or the logistic function of each */
static void probabilities(const float *x, size_t n, bool sigmoid, float *y)
{
    float most = nb_vec_max(x, n), sum = 0;
    for (size_t i = 0; i < n; i++) {
        y[i] = sigmoid ? 1 / (1 + expf(-x[i])) : expf(x[i] - most);
        sum += y[i];
    }
    for (size_t i = 0; i < n && !sigmoid; i++)
        y[i] /= sum;
}

/* The `used` largest of n values, the first of equal ones first; not-a-number is never larger. */
static void choose(const float *p, size_t n, size_t used, uint32_t *chosen)
{
    for (size_t k = 0; k < used; k++) {
        size_t best = n;
        for (size_t i = 0; i < n; i++) {
            bool taken = false;
            if (best < n && !(p[i] > p[best]))
                continue;
            for (size_t l = 0; l < k && !taken; l++)
                taken = chosen[l] == i;
            if (!taken)
                best = i;
        }
        chosen[k] = (uint32_t)best;
    }
}

/* the largest of n values, or with `two` the two largest together */
static float group_score(const float *p, size_t n, bool two)
{
    float first = -INFINITY, second = n > 1 ? -INFINITY : 0;
    for (size_t i = 0; i < n; i++)
        if (p[i] > first) {
            second = n > 1 ? first : 0;
            first = p[i];
        } else if (p[i] > second && n > 1) {
            second = p[i];
        }
    return two ? first + second : first;
}

/* Experts of all but the best groups become `least`: DeepSeek-V2's rule is by a group's best expert (section 2.2.2), V3's, where
 * weights are logistic functions, by the best two. */
static void keep_groups(const nb_hparams *h, float *p, float least)
{
    size_t groups = (size_t)h->expert_groups, used = (size_t)h->expert_groups_used, n = (size_t)h->experts / groups;
    uint32_t chosen[NB_EXPERT_GROUPS_MOST];
    float score[NB_EXPERT_GROUPS_MOST] = {0}; /* for gcc, which does not see that all are written */
    for (size_t g = 0; g < groups; g++)
        score[g] = group_score(p + g * n, n, h->expert_gating == NB_GATING_SIGMOID);
    choose(score, groups, used, chosen);
    for (size_t g = 0; g < groups; g++) {
        bool kept = false;
        for (size_t k = 0; k < used; k++)
            kept = kept || chosen[k] == g;
        for (size_t i = 0; i < n && !kept; i++)
            p[g * n + i] = least;
    }
}

/* what experts are chosen by, where that is not the weights p that they get */
static const float *choices(const nb_hparams *h, const float *p, const float *added, float *room)
{
    size_t n = (size_t)h->experts;
    if (!added && h->expert_groups < 2)
        return p;
    for (size_t i = 0; i < n; i++)
        room[i] = p[i] + (added ? added[i] : 0);
    if (h->expert_groups > 1)
        keep_groups(h, room, h->expert_gating == NB_GATING_SIGMOID ? -INFINITY : 0);
    return room;
}

static void weigh(const nb_hparams *h, const float *p, size_t used, const uint32_t *chosen, float *weight)
{
    float sum = 0;
    for (size_t k = 0; k < used; k++)
        weight[k] = p[chosen[k]];
    if (h->expert_gating == NB_GATING_SOFTMAX_CHOSEN)
        probabilities(weight, used, false, weight);
    for (size_t k = 0; k < used; k++)
        sum += weight[k];
    float scale = h->expert_norm ? h->expert_scale / fmaxf(sum, 1e-20f) : h->expert_scale;
    for (size_t k = 0; k < used; k++)
        weight[k] *= scale;
}

/* by their numbers */
static void sort_chosen(size_t used, uint32_t *chosen, float *weight)
{
    for (size_t i = 1; i < used; i++)
        for (size_t k = i; k > 0 && chosen[k] < chosen[k - 1]; k--) {
            uint32_t c = chosen[k];
            float w = weight[k];
            chosen[k] = chosen[k - 1], weight[k] = weight[k - 1];
            chosen[k - 1] = c, weight[k - 1] = w;
        }
}

static void route(const job *j, size_t begin, size_t end)
{
    size_t n = (size_t)j->h->experts, used = (size_t)j->h->experts_used;
    float *room = sums_of(j);
    const float *added = j->op->experts.choice < 0 ? NULL : j->x->weights->weight[j->op->experts.choice].data;
    for (size_t i = begin; i < end; i++) {
        const float *logits = j->x->buffer[j->op->in2] + i * n, *p = logits;
        uint32_t *chosen = j->room->chosen + i * used;
        float *weight = j->room->weight + i * used;
        if (j->h->expert_gating != NB_GATING_SOFTMAX_CHOSEN) {
            probabilities(logits, n, j->h->expert_gating == NB_GATING_SIGMOID, room);
            p = room;
        }
        choose(choices(j->h, p, added, room + n), n, used, chosen);
        weigh(j->h, p, used, chosen, weight);
        sort_chosen(used, chosen, weight);
    }
}

static size_t panels_of(const nb_context *x, int weight, size_t k, size_t n)
{
    nb_act_format format = nb_cpu_weight_format(x->weights->model, weight, &x->weights->params);
    return nb_round_up(nb_act_bytes(format, k, n), 64);
}

/* The rows of each expert one after the other. A single token's activations are the same for all its experts. */
static void group(const job *j)
{
    nb_expert_room *room = j->room;
    size_t n = (size_t)j->h->experts, pairs = j->rows * (size_t)j->h->experts_used, active = 0, at = 0;
    size_t in = 0, in2 = 0, down = 0, used = (size_t)j->h->experts_used;
    const nb_op_experts *e = &j->op->experts;
    memset(room->count, 0, n * sizeof *room->count);
    for (size_t i = 0; i < pairs; i++)
        room->count[room->chosen[i]]++;
    for (size_t i = 0; i < n; i++) {
        size_t count = room->count[i];
        room->count[i] = (uint32_t)at; /* from here on: where its next row goes */
        if (count == 0)
            continue;
        room->expert[active++] = (nb_expert_rows){(uint32_t)i, at, count, in, in2, down};
        at += count;
        if (j->rows > 1) {
            in += panels_of(j->x, e->up, j->width, count);
            in2 += e->gate < 0 ? 0 : panels_of(j->x, e->gate, j->width, count);
        }
        down += panels_of(j->x, e->down, (size_t)j->h->expert_ff, count);
    }
    for (size_t i = 0; i < pairs; i++) {
        size_t to = room->count[room->chosen[i]]++;
        room->row[to] = (uint32_t)(i / used);
        room->row_weight[to] = room->weight[i];
    }
    room->active = active;
    for (int i = 0; i < 2; i++)
        atomic_store_explicit(&room->claims[i].taken, 0, memory_order_relaxed);
}

/* ---- activations ---- */

static void write_input(const job *j, int weight, const nb_expert_rows *e, size_t offset, size_t panel, char *out)
{
    nb_act_format format = nb_cpu_weight_format(j->x->weights->model, weight, &j->x->weights->params);
    nb_act_write_rows(format, j->x->buffer[j->op->in], j->width, j->room->row + e->first, e->count, j->width, panel,
                      panel + 1, 0, j->width, out + offset);
}

static bool has_second_input(const job *j)
{
    return !same_input(j->x->weights->model, j->op, &j->x->weights->params);
}

static void write_inputs(const job *j, int member, int members)
{
    size_t all = 0, begin, end, panel = 0, active = j->rows > 1 ? j->room->active : 1;
    bool second = has_second_input(j);
    for (size_t a = 0; a < active; a++)
        all += nb_act_panels(j->room->expert[a].count);
    nb_team_share(all, 1, member, members, &begin, &end);
    for (size_t a = 0; a < active; a++) {
        const nb_expert_rows *e = &j->room->expert[a];
        for (size_t p = 0; p < nb_act_panels(e->count); p++, panel++) {
            if (panel < begin || panel >= end)
                continue;
            write_input(j, j->op->experts.up, e, e->in, p, j->room->in);
            if (second)
                write_input(j, j->op->experts.gate, e, e->in2, p, j->room->in2);
        }
    }
}

/* ---- the matrices ---- */

/* y [count][columns] = columns [begin, end) of an expert's matrix by its rows' activations */
static void multiply(const job *j, int weight, int bias, const nb_expert_rows *e, const char *act, size_t begin,
                     size_t end, float *y, size_t y_stride)
{
    nb_context *x = j->x;
    const nb_gguf_tensor *t = x->weights->model->weights[weight].tensor;
    const nb_cpu_weight *w = &x->weights->weight[weight];
    size_t k = (size_t)t->dims[0], rows = (size_t)t->dims[1];
    const float *b = bias < 0 ? NULL : (const float *)x->weights->weight[bias].data + e->expert * rows + begin;
    nb_matmul m = {.type = (nb_type)t->type->id,
                   .packed = w->packed,
                   .weights = nb_cpu_expert_rows(w, t, e->expert, begin),
                   .rows = end - begin,
                   .k = k,
                   .format = nb_cpu_weight_format(x->weights->model, weight, &x->weights->params),
                   .act = act,
                   .n_tokens = e->count,
                   .y = y,
                   .y_stride = y_stride,
                   .bias = b,
                   .scratch = x->scratch + (size_t)j->member * x->scratch_bytes};
    nb_matmul_run(&m, 0, end - begin);
}

/* columns that are worked on at once: few where few tokens share the weights, so that all members have some */
static size_t block_of(const job *j, int weight, size_t matrices)
{
    const nb_gguf_tensor *t = j->x->weights->model->weights[weight].tensor;
    size_t bytes = t->bytes / (size_t)(t->dims[1] * t->dims[2]) * matrices;
    if (j->rows > NB_PANEL_TOKENS)
        return BLOCK;
    return nb_min_size(BLOCK, nb_round_up(BLOCK_BYTES / (bytes + 1) + 1, 32));
}

static size_t take(nb_claim *claim)
{
    return (size_t)atomic_fetch_add_explicit(&claim->taken, 1, memory_order_relaxed);
}

/* hidden = activation(gate in) * up in, and its activations for down */
static void run_hidden(const job *j, const nb_expert_rows *e, size_t begin, size_t end)
{
    const nb_op_experts *w = &j->op->experts;
    size_t ff = (size_t)j->h->expert_ff, columns = end - begin;
    float *hidden = j->room->hidden + e->first * ff, *up = w->gate < 0 ? hidden + begin : sums_of(j);
    size_t up_stride = w->gate < 0 ? ff : columns;
    bool second = has_second_input(j);
    if (w->gate >= 0)
        multiply(j, w->gate, w->gate_bias, e, second ? j->room->in2 + e->in2 : j->room->in + e->in, begin, end,
                 hidden + begin, ff);
    multiply(j, w->up, w->up_bias, e, j->room->in + e->in, begin, end, up, up_stride);
    for (size_t i = 0; i < e->count; i++)
        nb_cpu_activate(j->op->activation, hidden + i * ff + begin, w->gate < 0 ? NULL : up + i * up_stride, columns,
                        hidden + i * ff + begin);
    nb_act_write(nb_cpu_weight_format(j->x->weights->model, w->down, &j->x->weights->params), hidden, ff, e->count, ff,
                 0, nb_act_panels(e->count), begin, end, j->room->down + e->down);
}

static void run_all_hidden(const job *j)
{
    size_t ff = (size_t)j->h->expert_ff, block = block_of(j, j->op->experts.up, 2);
    size_t blocks = (ff + block - 1) / block, all = blocks * j->room->active;
    for (size_t unit = take(&j->room->claims[0]); unit < all; unit = take(&j->room->claims[0])) {
        size_t begin = unit % blocks * block;
        run_hidden(j, &j->room->expert[unit / blocks], begin, nb_min_size(ff, begin + block));
    }
}

static void run_down(const job *j, size_t begin, size_t end)
{
    float *out = j->x->buffer[j->op->out], *sums = sums_of(j);
    size_t columns = end - begin;
    for (size_t i = 0; i < j->rows; i++)
        memset(out + i * j->width + begin, 0, columns * sizeof *out);
    for (size_t a = 0; a < j->room->active; a++) {
        const nb_expert_rows *e = &j->room->expert[a];
        multiply(j, j->op->experts.down, j->op->experts.down_bias, e, j->room->down + e->down, begin, end, sums,
                 columns);
        for (size_t i = 0; i < e->count; i++) {
            float *y = out + j->room->row[e->first + i] * j->width + begin;
            nb_vec_add_scaled(y, sums + i * columns, j->room->row_weight[e->first + i], columns, y);
        }
    }
}

static void run_all_down(const job *j)
{
    size_t block = block_of(j, j->op->experts.down, j->room->active), blocks = (j->width + block - 1) / block;
    for (size_t b = take(&j->room->claims[1]); b < blocks; b = take(&j->room->claims[1]))
        run_down(j, b * block, nb_min_size(j->width, (b + 1) * block));
}

/* ---- the tap ---- */

static void show_input(const job *j, int weight)
{
    size_t begin, end;
    nb_team_share(j->width, 16, j->member, j->members, &begin, &end);
    for (size_t a = 0; weight >= 0 && begin < end && a < j->room->active; a++) {
        const nb_expert_rows *e = &j->room->expert[a];
        for (size_t i = 0; i < e->count; i++)
            j->x->tap(j->x->tap_user, weight, e->expert,
                      j->x->buffer[j->op->in] + j->room->row[e->first + i] * j->width + begin, j->width, 1, begin,
                      end - begin);
    }
}

static void show_hidden(const job *j)
{
    size_t begin, end, ff = (size_t)j->h->expert_ff;
    nb_team_share(ff, 16, j->member, j->members, &begin, &end);
    for (size_t a = 0; begin < end && a < j->room->active; a++) {
        const nb_expert_rows *e = &j->room->expert[a];
        j->x->tap(j->x->tap_user, j->op->experts.down, e->expert, j->room->hidden + e->first * ff + begin, ff, e->count,
                  begin, end - begin);
    }
}

void nb_cpu_run_experts(nb_context *x, const nb_op *op, size_t rows, int member, int members)
{
    job j = {x, op, &x->experts, &x->weights->model->h, rows, x->weights->plan->buffers[op->in].width, member, members};
    nb_team *team = x->weights->team;
    size_t begin, end;
    if (rows == 0)
        return;
    bool alone = rows == 1; /* no work to share before the matrices: member 0 does it */
    nb_team_share(rows, 1, member, members, &begin, &end);
    if (!alone)
        route(&j, begin, end);
    if (!alone)
        nb_team_barrier(team);
    if (alone && member == 0)
        route(&j, 0, 1);
    if (member == 0)
        group(&j);
    if (alone && member == 0)
        write_inputs(&j, 0, 1);
    nb_team_barrier(team);
    if (x->tap) {
        show_input(&j, op->experts.gate);
        show_input(&j, op->experts.up);
    }
    if (!alone) {
        write_inputs(&j, member, members);
        nb_team_barrier(team);
    }
    run_all_hidden(&j);
    nb_team_barrier(team);
    if (x->tap)
        show_hidden(&j);
    run_all_down(&j);
}
