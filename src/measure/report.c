/* Measures what a report shows: one file after the other, never two candidates open at once. */
#include "measure/report.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "convert/open.h"
#include "measure/kept.h"
#include "measure/report_page.h"

enum { SAMPLE_VALUES = 1 << 22 }; /* of the chosen tensor, for its histograms */

static nb_status tell(const nb_report_params *p, const char *what, size_t done, size_t all, nb_error *err)
{
    if (p->progress && p->progress(p->user, what, done, all))
        return nb_fail(err, NB_ERR_CANCELLED, "stopped while %s", what);
    return NB_OK;
}

/* ---- names ---- */

nb_str nb_report_name(const char *path)
{
    nb_str name = nb_str_of(path);
    while (name.n > 1 && name.p[name.n - 1] == '/')
        name.n--;
    for (size_t i = name.n; i > 0; i--)
        if (name.p[i - 1] == '/' && name.n > 1)
            return (nb_str){name.p + i, name.n - i};
    return name;
}

static nb_str stem_of(const char *path)
{
    nb_str name = nb_report_name(path), suffix = NB_STR(".gguf");
    if (name.n > suffix.n && memcmp(name.p + name.n - suffix.n, suffix.p, suffix.n) == 0)
        name.n -= suffix.n;
    return name;
}

/* what all names begin with, up to a separator */
static size_t common_prefix(const nb_report_params *p)
{
    nb_str first = stem_of(p->paths[0]);
    size_t common = p->count > 1 ? first.n : 0;
    for (size_t i = 1; i < p->count; i++) {
        nb_str name = stem_of(p->paths[i]);
        size_t same = 0;
        while (same < common && same < name.n && name.p[same] == first.p[same])
            same++;
        common = same;
    }
    while (common > 0 && !strchr("-._ ", first.p[common - 1]))
        common--;
    return common;
}

static void name_files(nb_report *r)
{
    size_t skip = common_prefix(r->params);
    for (size_t i = 0; i < r->params->count; i++) {
        nb_str name = stem_of(r->params->paths[i]);
        if (skip < name.n)
            name = (nb_str){name.p + skip, name.n - skip};
        snprintf(r->files[i].name, sizeof r->files[i].name, "%.*s", NB_STR_ARG(name));
    }
}

/* ---- opening ---- */

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

/* of a directory's weights: its safetensors, or else its torch files */
static uint64_t directory_bytes(const char *path)
{
    uint64_t sum[2] = {0};
    DIR *d = opendir(path);
    char file[1024];
    struct stat info;
    for (struct dirent *e; d && (e = readdir(d));) {
        bool torch = ends_in(e->d_name, ".bin") || ends_in(e->d_name, ".pt") || ends_in(e->d_name, ".pth");
        if (!torch && !ends_in(e->d_name, ".safetensors"))
            continue;
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        if (stat(file, &info) == 0 && S_ISREG(info.st_mode))
            sum[torch] += (uint64_t)info.st_size;
    }
    if (d)
        closedir(d);
    return sum[0] ? sum[0] : sum[1];
}

/* A directory's quantized matrices come as they are run. */
static nb_status open_source(const char *path, const nb_report_params *p, nb_source **out, nb_error *err)
{
    nb_hf_params params = {.packed = true, .threads = p->model.threads};
    return nb_hf_is_model(path) ? nb_hf_open_as(path, &params, out, err) : nb_source_open_gguf(path, out, err);
}

static nb_status bytes_of(const char *path, uint64_t *bytes, nb_error *err)
{
    nb_gguf *g;
    if (nb_hf_is_model(path)) {
        *bytes = directory_bytes(path);
        return NB_OK;
    }
    NB_TRY(nb_gguf_open(path, &g, err));
    *bytes = nb_gguf_file_bytes(g);
    nb_gguf_close(g);
    return NB_OK;
}

static nb_status open_files(nb_report *r, nb_error *err)
{
    r->files = NB_ARRAY(&r->arena, nb_report_file, r->params->count);
    if (!r->files)
        return nb_fail_memory(err, "a report", r->params->count * sizeof *r->files);
    NB_TRY(bytes_of(r->params->base, &r->base_bytes, err));
    for (size_t i = 0; i < r->params->count; i++) {
        r->files[i].path = r->params->paths[i];
        r->files[i].directory = nb_hf_is_model(r->files[i].path);
        NB_TRY(bytes_of(r->files[i].path, &r->files[i].file_bytes, err));
    }
    name_files(r);
    return open_source(r->params->base, r->params, &r->base, err);
}

/* ---- weights ---- */

static nb_status compare_file(nb_report *r, nb_report_file *f, nb_team *team, nb_error *err)
{
    nb_source *s;
    NB_TRY(open_source(f->path, r->params, &s, err));
    nb_status status = nb_loss_measure(r->base, s, r->params->weights, team, &r->arena, &f->loss, err);
    nb_source_free(s);
    return status;
}

static nb_status compare_files(nb_report *r, nb_error *err)
{
    nb_team *team;
    size_t n = r->params->count;
    NB_TRY(nb_team_new(r->params->model.threads, false, &team, err));
    nb_status status = NB_OK;
    for (size_t i = 0; i < n && status == NB_OK; i++) {
        status = compare_file(r, &r->files[i], team, err);
        if (status == NB_OK)
            status = tell(r->params, "comparing tensors", i + 1, n, err);
    }
    nb_team_free(team);
    return status;
}

/* ---- the chosen tensor ---- */

static nb_status choose_tensor(nb_report *r, nb_error *err)
{
    char name[64];
    int layers = 0;
    const nb_loss *loss = &r->files[0].loss;
    for (size_t i = 0; i < loss->count; i++)
        if (loss->tensors[i].layer >= layers)
            layers = loss->tensors[i].layer + 1;
    snprintf(name, sizeof name, "blk.%d.ffn_down.weight", layers / 2);
    nb_str wanted = nb_str_of(r->params->tensor ? r->params->tensor : name);
    for (size_t i = 0; i < loss->count; i++)
        if (nb_str_eq(loss->tensors[i].name, wanted))
            r->tensor = loss->tensors[i].name;
    if (!r->tensor.p && r->params->tensor)
        return nb_fail(err, NB_ERR_NOT_FOUND, "%s has no matrix '%s'; `nibble inspect --tensors` lists them",
                       r->base->path, r->params->tensor);
    if (!r->tensor.p && loss->count)
        r->tensor = loss->tensors[loss->count / 2].name;
    if (!r->tensor.p)
        return nb_fail(err, NB_ERR_FORMAT, "%s has no matrices", r->base->path);
    return NB_OK;
}

static double rms_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum / (double)n);
}

static void fill_values(const nb_report *r, const float *x, size_t n, size_t columns, double limit,
                        nb_report_values *out)
{
    out->limit = limit > 0 ? limit : 1;
    out->rms = rms_of(x, n);
    for (size_t i = 0; i < n; i++) {
        double at = ((double)x[i] / out->limit + 1) / 2 * NB_REPORT_BINS;
        if (at >= 0 && at < NB_REPORT_BINS)
            out->bins[(size_t)at] += 100.0 / (double)n;
    }
    for (size_t i = 0; i < r->patch_rows; i++)
        memcpy(out->patch + i * r->patch_columns, x + i * columns, r->patch_columns * sizeof *x);
}

static nb_status read_sample(const nb_report *r, const nb_source *s, size_t rows, float *out, nb_error *err)
{
    const nb_source_tensor *t = nb_source_find_tensor(s, r->tensor);
    return nb_source_floats(s, (size_t)(t - s->tensors), 0, rows, out, err);
}

static double worst_error(const nb_report *r)
{
    double worst = 0;
    for (size_t i = 0; i < r->params->count; i++) {
        const nb_tensor_loss *t = nb_report_tensor(r, &r->files[i]);
        worst = fmax(worst, sqrt(t->error / (double)t->values));
    }
    return worst;
}

static nb_status sample_file(nb_report *r, nb_report_file *f, size_t rows, size_t columns, const float *x, float *q,
                             nb_error *err)
{
    nb_source *s;
    f->values = NB_NEW(&r->arena, nb_report_values);
    f->errors = NB_NEW(&r->arena, nb_report_values);
    if (!f->values || !f->errors)
        return nb_fail_memory(err, "a report", sizeof *f->values);
    NB_TRY(open_source(f->path, r->params, &s, err));
    nb_status status = read_sample(r, s, rows, q, err);
    nb_source_free(s);
    NB_TRY(status);
    fill_values(r, q, rows * columns, columns, r->original->limit, f->values);
    for (size_t j = 0; j < rows * columns; j++)
        q[j] -= x[j];
    fill_values(r, q, rows * columns, columns, 3 * worst_error(r), f->errors);
    return NB_OK;
}

static nb_status sample_files(nb_report *r, size_t rows, size_t columns, float *x, float *q, nb_error *err)
{
    NB_TRY(read_sample(r, r->base, rows, x, err));
    r->original = NB_NEW(&r->arena, nb_report_values);
    if (!r->original)
        return nb_fail_memory(err, "a report", sizeof *r->original);
    fill_values(r, x, rows * columns, columns, 4 * rms_of(x, rows * columns), r->original);
    for (size_t i = 0; i < r->params->count; i++)
        NB_TRY(sample_file(r, &r->files[i], rows, columns, x, q, err));
    return NB_OK;
}

static nb_status sample_tensor(nb_report *r, nb_error *err)
{
    NB_TRY(choose_tensor(r, err));
    const nb_source_tensor *t = nb_source_find_tensor(r->base, r->tensor);
    size_t columns = (size_t)t->dims[0], rows = (size_t)nb_source_rows(t);
    r->tensor_values = (uint64_t)rows * columns;
    rows = nb_min_size(rows, nb_max_size(SAMPLE_VALUES / columns, 1));
    r->sampled = (uint64_t)rows * columns;
    r->patch_rows = nb_min_size(rows, NB_REPORT_PATCH);
    r->patch_columns = nb_min_size(columns, NB_REPORT_PATCH);
    float *x = calloc(2 * rows, columns * sizeof *x);
    if (!x)
        return nb_fail_memory(err, "a tensor", 2 * rows * columns * sizeof *x);
    nb_status status = sample_files(r, rows, columns, x, x + rows * columns, err);
    free(x);
    return status;
}

/* ---- divergence ---- */

typedef struct turn { /* of a model: the base's is 0 */
    const nb_report_params *params;
    size_t index, count;
} turn;

static int on_window(void *user, size_t done, size_t all)
{
    const turn *t = user;
    const nb_report_params *p = t->params;
    return p->progress ? p->progress(p->user, "evaluating", t->index * all + done, t->count * all) : 0;
}

/* The base stays open only when what it predicts is too much to keep. */
static nb_status evaluate_base(nb_report *r, nb_evaluate_params *e, nb_model **base, nb_kept *kept, nb_error *err)
{
    const nb_report_params *p = r->params;
    NB_TRY(nb_model_open(p->base, &p->model, base, err));
    e->window = nb_min_size(p->window, nb_model_context(*base));
    if (!nb_kept_fits(*base, p->windows ? p->windows : p->text.n / e->window, e->window)) {
        e->base = *base;
        return NB_OK;
    }
    NB_TRY(nb_kept_make(*base, p->text, e, kept, err));
    nb_model_close(*base);
    *base = NULL;
    e->base_file = kept->path;
    return NB_OK;
}

static nb_status evaluate_file(nb_report *r, nb_report_file *f, const nb_evaluate_params *e, nb_error *err)
{
    nb_model *model;
    NB_TRY(nb_model_open(f->path, &r->params->model, &model, err));
    nb_status status = nb_evaluate_models(&model, 1, r->params->text, e, &f->found, err);
    nb_model_close(model);
    return status;
}

static nb_status evaluate(nb_report *r, nb_error *err)
{
    const nb_report_params *p = r->params;
    turn t = {p, 0, p->count + 1};
    nb_evaluate_params e = {.windows = p->windows, .options = &p->session, .progress = on_window, .user = &t};
    nb_model *base = NULL;
    nb_kept kept = {0};
    if (!p->text.p)
        return NB_OK;
    nb_status status = evaluate_base(r, &e, &base, &kept, err);
    for (size_t i = 0; i < p->count && status == NB_OK; i++) {
        t.index = i + 1;
        status = evaluate_file(r, &r->files[i], &e, err);
    }
    nb_model_close(base);
    nb_kept_close(&kept);
    return status;
}

/* ---- all of it ---- */

const nb_tensor_loss *nb_report_tensor(const nb_report *r, const nb_report_file *f)
{
    size_t i = 0;
    while (!nb_str_eq(f->loss.tensors[i].name, r->tensor))
        i++;
    return &f->loss.tensors[i];
}

double nb_report_loss(const nb_report *r, const nb_report_file *f)
{
    return r->params->text.p ? f->found.kl_mean
                             : nb_loss_relative(&f->loss, NB_LOSS_ALL_LAYERS, (nb_str){0}, r->params->weights != NULL);
}

bool nb_report_on_frontier(const nb_report *r, size_t file)
{
    const nb_report_file *f = &r->files[file];
    double loss = nb_report_loss(r, f);
    for (size_t i = 0; i < r->params->count; i++) {
        const nb_report_file *o = &r->files[i];
        double other = nb_report_loss(r, o);
        bool no_worse = o->file_bytes <= f->file_bytes && other <= loss;
        if (no_worse && (o->file_bytes < f->file_bytes || other < loss))
            return false;
    }
    return true;
}

nb_status nb_report_write(const nb_report_params *params, nb_buf *html, nb_error *err)
{
    nb_report r = {.params = params};
    nb_status status = open_files(&r, err);
    if (status == NB_OK)
        status = compare_files(&r, err);
    if (status == NB_OK)
        status = sample_tensor(&r, err);
    if (status == NB_OK)
        status = evaluate(&r, err);
    if (status == NB_OK)
        nb_report_page(&r, html);
    if (status == NB_OK && html->failed)
        status = nb_fail_memory(err, "a report", html->len);
    nb_source_free(r.base);
    nb_arena_free(&r.arena);
    return status;
}
