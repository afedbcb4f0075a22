/* Rows from a source to where they go. Work is cut into units of a few rows; each thread takes the next unit, brings its rows
 * to float32, looks at them, quantizes them and puts them in their place in the file. So all are busy at all times, nothing
 * waits in order, and memory holds one unit a thread. Units are taken in order, so that the first of several bad values
 * is the one that is told, however many threads there are. */
#include "convert/quantize_rows.h"

#include <stdlib.h>

#include "num/half.h"

enum {
    UNIT_VALUES = 64 << 10, /* 128 KiB of F16: rows stay in the second cache; 0.2 s of the slowest search */
    UNIT_BYTES = 1 << 20,   /* of a tensor that is copied */
    FORGET_UNITS = 64       /* mapped memory is given back by so many: each time, other cores are interrupted */
};

typedef struct member_memory {
    float *x, *weight; /* a row */
    unsigned char *in, *out;
    size_t weighted_job; /* whose importance is in `weight`, and which of its matrices */
    uint64_t weighted_matrix;
    bool weighted; /* `weight` says something */
} member_memory;

typedef nb_rows_part part;
typedef nb_rows_work work;

/* ---- values ---- */

static const int32_t float_infinity = 0x7f800000; /* bits of float32 */

/* The largest magnitude of n floats, as bits: not finite from float_infinity on. */
static int32_t largest_f32(const float *x, size_t n)
{
    int32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t bits = (int32_t)(nb_f32_bits(x[i]) & 0x7fffffff);
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

static int16_t largest_16(const uint16_t *x, size_t n)
{
    int16_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        int16_t bits = (int16_t)(x[i] & 0x7fff);
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

/* Whether n values of a plain type are finite; other types are taken as they are. */
static bool are_finite(const nb_type_info *type, const void *x, size_t n)
{
    switch (type->id) {
    case NB_TYPE_F32: return largest_f32(x, n) < float_infinity;
    case NB_TYPE_F16: return largest_16(x, n) < 0x7c00;
    case NB_TYPE_BF16: return largest_16(x, n) < 0x7f80;
    default: return true;
    }
}

static nb_status not_finite(const work *w, const part *p, uint64_t row, const float *x, nb_error *err)
{
    uint64_t column = 0;
    while (column + 1 < p->tensor->dims[0] && largest_f32(x + column, 1) < float_infinity)
        column++;
    return nb_fail(
        err, NB_ERR_FORMAT,
        "%s: tensor '%.*s' has %g at row %llu, column %llu; get the model again, or convert it again from its "
        "original (BF16 or F32 where F16 overflowed)",
        w->source->path, NB_STR_ARG(p->tensor->name), (double)x[column], (unsigned long long)row,
        (unsigned long long)column);
}

static nb_status too_large(const work *w, const part *p, uint64_t row, const nb_type_info *type, nb_error *err)
{
    return nb_fail(err, NB_ERR_FORMAT,
                   "%s: tensor '%.*s', row %llu: values are too large for %s; give this tensor another type with "
                   "--tensor-type, BF16 or F32",
                   w->source->path, NB_STR_ARG(p->tensor->name), (unsigned long long)row, type->name);
}

/* ---- one unit ---- */

static const float *weight_of(const part *p, size_t job, uint64_t row, member_memory *m)
{
    if (!p->importance)
        return NULL;
    const nb_source_tensor *t = p->tensor;
    uint64_t matrix = row / t->dims[1];
    if (m->weighted_job != job || m->weighted_matrix != matrix) {
        size_t columns = (size_t)t->dims[0], matrices = (size_t)(t->dims[2] * t->dims[3]);
        m->weighted = nb_imatrix_weights_of(p->importance, columns, matrices, (size_t)matrix, m->weight) &&
                      largest_f32(m->weight, columns) > 0;
        m->weighted_job = job;
        m->weighted_matrix = matrix;
    }
    return m->weighted ? m->weight : NULL;
}

nb_status nb_rows_load(const work *w, const part *p, uint64_t row, const unsigned char *in, float *room,
                       const float **x, int32_t *largest, nb_error *err)
{
    size_t n = (size_t)p->tensor->dims[0];
    *x = (const float *)(const void *)in;
    if (p->tensor->type->id != NB_TYPE_F32) {
        p->tensor->type->dequantize(in, room, n);
        *x = room;
    }
    *largest = largest_f32(*x, n);
    return *largest < float_infinity ? NB_OK : not_finite(w, p, row, *x, err);
}

nb_status nb_rows_check(const work *w, size_t job, uint64_t row, const void *out, float *room, nb_error *err)
{
    const nb_type_info *to = w->jobs[job].type;
    size_t n = (size_t)w->parts[job].tensor->dims[0];
    to->dequantize(out, room, n); /* a half-precision scale may have overflowed; halves themselves may be cut off */
    return to->id != NB_TYPE_F16 && largest_f32(room, n) < float_infinity ? NB_OK
                                                                          : too_large(w, &w->parts[job], row, to, err);
}

static nb_status quantize_row(const work *w, size_t job, uint64_t row, const unsigned char *in, unsigned char *out,
                              member_memory *m, nb_error *err)
{
    const part *p = &w->parts[job];
    const float *x;
    int32_t largest;
    NB_TRY(nb_rows_load(w, p, row, in, m->x, &x, &largest, err));
    w->jobs[job].type->quantize(x, weight_of(p, job, row, m), (size_t)p->tensor->dims[0], w->params->rounding, out);
    return largest <= NB_ROWS_LARGEST_HALF ? NB_OK : nb_rows_check(w, job, row, out, m->x, err);
}

static nb_status look_at_copied(const work *w, const part *p, uint64_t row, uint64_t rows, const unsigned char *in,
                                member_memory *m, nb_error *err)
{
    size_t n = (size_t)p->tensor->dims[0];
    for (uint64_t r = 0; r < rows; r++, in += p->in_row)
        if (!are_finite(p->tensor->type, in, n)) {
            p->tensor->type->dequantize(in, m->x, n);
            return not_finite(w, p, row + r, m->x, err);
        }
    return NB_OK;
}

nb_status nb_rows_put(const work *w, size_t job, uint64_t row, const unsigned char *bytes, size_t n, nb_error *err)
{
    const nb_quantize_job *j = &w->jobs[job];
    size_t offset = (size_t)row * w->parts[job].out_row;
    if (!j->memory)
        return nb_gguf_writer_place(j->writer, j->place, offset, bytes, n, err);
    if (bytes != j->memory + offset)
        memcpy(j->memory + offset, bytes, n);
    return NB_OK;
}

nb_status nb_rows_read(const work *w, size_t job, uint64_t row, uint64_t rows, void *room, const unsigned char **in,
                       nb_error *err)
{
    const part *p = &w->parts[job];
    *in = room;
    if (!p->tensor->data)
        return w->source->read(w->source, w->jobs[job].tensor, row, rows, room, err);
    *in = (const unsigned char *)p->tensor->data + (size_t)row * p->in_row;
    return NB_OK;
}

static nb_status do_rows(const work *w, size_t job, uint64_t row, uint64_t rows, member_memory *m, nb_error *err)
{
    const part *p = &w->parts[job];
    const unsigned char *in;
    NB_TRY(nb_rows_read(w, job, row, rows, m->in, &in, err));
    if (p->copied) {
        if (w->look)
            NB_TRY(look_at_copied(w, p, row, rows, in, m, err));
        return nb_rows_put(w, job, row, in, (size_t)rows * p->in_row, err);
    }
    unsigned char *memory = w->jobs[job].memory, *out = memory ? memory + (size_t)row * p->out_row : m->out;
    for (uint64_t r = 0; r < rows; r++)
        NB_TRY(quantize_row(w, job, row + r, in + (size_t)r * p->in_row, out + (size_t)r * p->out_row, m, err));
    return nb_rows_put(w, job, row, out, (size_t)rows * p->out_row, err);
}

/* ---- a member of the team ---- */

static size_t job_of(const work *w, uint64_t unit)
{
    size_t low = 0, high = w->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        *(w->parts[middle].first_unit <= unit ? &low : &high) = middle;
    }
    return low;
}

/* Gives mapped memory back, a while behind those who read; who is slower than that maps it again. */
static void forget(const work *w, size_t job, uint64_t unit)
{
    const part *p = &w->parts[job];
    uint64_t index = unit - p->first_unit, units = (p->rows + p->unit_rows - 1) / p->unit_rows;
    if (!w->source->forget)
        return;
    if (index + 1 == units)
        w->source->forget(w->source, w->jobs[job].tensor, 0, p->rows);
    else if (index >= 2 * FORGET_UNITS && index % FORGET_UNITS == 0)
        w->source->forget(w->source, w->jobs[job].tensor, (index - 2 * FORGET_UNITS) * p->unit_rows,
                          FORGET_UNITS * p->unit_rows);
}

void nb_rows_fail(work *w, uint64_t unit, nb_status status, const nb_error *error)
{
    pthread_mutex_lock(&w->lock);
    if (unit < w->failed_unit) {
        w->failed_unit = unit;
        w->status = status;
        w->error = *error;
    }
    pthread_mutex_unlock(&w->lock);
    atomic_store(&w->stop, true);
}

void nb_rows_report(work *w, const part *p)
{
    nb_error error;
    if (w->progress && w->progress(w->user, p->tensor->name, atomic_load(&w->done), w->source_bytes) != 0)
        nb_rows_fail(w, UINT64_MAX - 1, nb_fail(&error, NB_ERR_CANCELLED, "cancelled; nothing was written"), &error);
}

static void member_run(void *context, int member, int members)
{
    work *w = context;
    unsigned char *memory = w->memory + (size_t)member * w->member_bytes;
    member_memory m = {
        .x = (float *)(void *)memory,
        .weight = (float *)(void *)(memory + w->x_bytes),
        .in = memory + 2 * w->x_bytes,
        .out = memory + 2 * w->x_bytes + w->in_bytes,
        .weighted_job = SIZE_MAX,
    };
    (void)members;
    while (!atomic_load_explicit(&w->stop, memory_order_relaxed)) {
        uint64_t unit = atomic_fetch_add(&w->next, 1);
        if (unit >= w->units)
            return;
        size_t job = job_of(w, unit);
        const part *p = &w->parts[job];
        uint64_t row = (unit - p->first_unit) * p->unit_rows;
        uint64_t rows = p->unit_rows < p->rows - row ? p->unit_rows : p->rows - row;
        nb_error error;
        nb_status status = do_rows(w, job, row, rows, &m, &error);
        if (status != NB_OK)
            nb_rows_fail(w, unit, status, &error);
        forget(w, job, unit);
        atomic_fetch_add(&w->done, rows * p->in_row);
        if (member == 0)
            nb_rows_report(w, p);
    }
}

/* ---- all of it ---- */

static nb_status cut(work *w, nb_error *err)
{
    size_t columns = 1;
    for (size_t i = 0; i < w->count; i++) {
        const nb_quantize_job *j = &w->jobs[i];
        part *p = &w->parts[i];
        p->tensor = &w->source->tensors[j->tensor];
        p->copied = j->type == p->tensor->type;
        p->importance = p->copied ? NULL : nb_quantize_importance(w->params, p->tensor);
        p->rows = nb_source_rows(p->tensor);
        if (!nb_type_row_bytes(p->tensor->type, p->tensor->dims[0], &p->in_row) ||
            !nb_type_row_bytes(j->type, p->tensor->dims[0], &p->out_row))
            return nb_fail(err, NB_ERR_INTERNAL, "%s: tensor '%.*s' does not fit %s", w->source->path,
                           NB_STR_ARG(p->tensor->name), j->type->name);
        p->fed = !p->copied && nb_rows_are_fed(w->params, p->tensor, j->type, p->importance);
        uint64_t unit = p->copied ? UNIT_BYTES / (p->in_row ? p->in_row : 1) : UNIT_VALUES / p->tensor->dims[0];
        p->unit_rows = unit ? unit : 1;
        p->first_unit = w->units;
        w->source_bytes += p->rows * p->in_row;
        if (p->fed)
            continue;
        w->units += (p->rows + p->unit_rows - 1) / p->unit_rows;
        columns = nb_max_size(columns, (size_t)p->tensor->dims[0]);
        uint64_t most = p->unit_rows < p->rows ? p->unit_rows : p->rows;
        if (!p->tensor->data)
            w->in_bytes = nb_max_size(w->in_bytes, nb_round_up((size_t)most * p->in_row, 64));
        if (!p->copied && !j->memory)
            w->out_bytes = nb_max_size(w->out_bytes, nb_round_up((size_t)most * p->out_row, 64));
    }
    w->x_bytes = nb_round_up(columns * sizeof(float), 64);
    w->member_bytes = 2 * w->x_bytes + w->in_bytes + w->out_bytes;
    return NB_OK;
}

static nb_status run_plain(work *w, nb_team *team, nb_error *err)
{
    size_t bytes = 0;
    nb_status status = nb_mul((size_t)nb_team_size(team), w->member_bytes, &bytes) ? NB_OK : NB_ERR_MEMORY;
    w->memory = status == NB_OK ? nb_pages_alloc(bytes) : NULL;
    if (!w->memory)
        return nb_fail_memory(err, "the rows of all threads", bytes);
    nb_team_run(team, member_run, w);
    if (!atomic_load(&w->stop)) /* the others may have been quick, and the first member had nothing to tell */
        nb_rows_report(w, &w->parts[w->count - 1]);
    nb_pages_free(w->memory, bytes);
    return NB_OK;
}

static nb_status run(work *w, nb_error *err)
{
    nb_team *team;
    NB_TRY(nb_team_new(w->params->threads, false, &team, err));
    nb_status status = w->units > 0 ? run_plain(w, team, err) : NB_OK;
    if (status == NB_OK && w->status == NB_OK)
        status = nb_quantize_fed_rows(w, team, err);
    nb_team_free(team);
    if (status == NB_OK && w->status != NB_OK) {
        status = w->status;
        if (err)
            *err = w->error;
    }
    return status;
}

nb_status nb_quantize_rows(const nb_source *s, const nb_quantize_params *p, const nb_quantize_job *jobs, size_t count,
                           nb_quantize_progress_fn *progress, void *user, nb_error *err)
{
    work w = {
        .source = s,
        .params = p,
        .jobs = jobs,
        .count = count,
        .look = p->types || nb_mix_type(p->mix),
        .progress = progress,
        .user = user,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .failed_unit = UINT64_MAX,
    };
    if (count == 0)
        return NB_OK;
    w.parts = calloc(count, sizeof *w.parts);
    if (!w.parts)
        return nb_fail_memory(err, s->path, count * sizeof *w.parts);
    nb_status status = cut(&w, err);
    if (status == NB_OK)
        status = run(&w, err);
    free(w.parts);
    return status;
}
