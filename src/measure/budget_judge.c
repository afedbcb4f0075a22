/* Divergence of whole models from the source: each is quantized into memory and reads the text. What the source predicted
 * is computed once and kept in a file that has no name. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "convert/open.h"
#include "measure/budget_internal.h"
#include "measure/evaluate.h"
#include "measure/windows.h"

/* Kept logits take 2 bytes a token of the vocabulary for each scored token of the text. Beyond this the source predicts
 * again each time, which doubles the work. */
static const uint64_t most_kept_bytes = UINT64_C(4) << 30;

typedef struct part { /* of the text */
    nb_str text;
    size_t windows;
    int kept; /* the file of logits; -1: none */
} part;

struct nb_budget_judge {
    const nb_budget *budget;
    size_t window;
    part parts[2];  /* what is used for choices; what is held back */
    nb_model *base; /* NULL when all is kept */
};

/* ---- the text ---- */

/* The beginning of the last tenth, at the end of a line or else of a word or else of a code point. */
static size_t cut_of(nb_str text)
{
    size_t from = text.n - text.n / 10;
    for (const char *end = "\n "; *end; end++)
        for (size_t i = from; i < text.n - text.n / 20; i++)
            if (text.p[i] == *end)
                return i + 1;
    while (from < text.n && ((unsigned char)text.p[from] & 0xC0) == 0x80)
        from++;
    return from;
}

static nb_status cut_part(nb_budget_judge *j, bool held_back, size_t most, nb_error *err)
{
    part *p = &j->parts[held_back];
    nb_windows windows = {0};
    nb_status status = nb_windows_cut(j->base, p->text, j->window, most, &windows, err);
    p->windows = windows.count;
    nb_windows_free(&windows);
    if (status == NB_OK)
        return NB_OK;
    return nb_fail_prefix(err, status, held_back ? "the tenth of the text that is held back" : "the text");
}

static nb_status cut_text(nb_budget_judge *j, nb_error *err)
{
    const nb_budget_params *p = j->budget->params;
    size_t cut = cut_of(p->text), held_back = (p->windows + 9) / 10;
    size_t used = p->windows > 1 ? p->windows - held_back : p->windows;
    j->parts[0].text = (nb_str){p->text.p, cut};
    j->parts[1].text = (nb_str){p->text.p + cut, p->text.n - cut};
    if (!(p->divergence > 0)) /* only sensitivities are measured */
        return cut_part(j, false, used ? nb_min_size(used, NB_BUDGET_WINDOWS) : NB_BUDGET_WINDOWS, err);
    NB_TRY(cut_part(j, false, used, err));
    return cut_part(j, true, held_back, err);
}

/* ---- the source ---- */

static int on_window(void *user, size_t done, size_t all)
{
    const void *const *context = user;
    return nb_budget_progress(context[0], context[1], done, all, NULL) != NB_OK;
}

static nb_status evaluate(nb_budget_judge *j, nb_model *model, const part *p, const nb_evaluate_params *with,
                          const char *what, nb_evaluation *found, nb_error *err)
{
    const void *context[] = {j->budget, what};
    nb_evaluate_params e = *with;
    e.options = &j->budget->params->session;
    e.progress = on_window;
    e.user = context;
    if (!e.base_file)
        e.window = j->window;
    return nb_evaluate_models(&model, 1, e.base_file ? (nb_str){0} : p->text, &e, found, err);
}

/* Opens the file and takes its name away: whatever becomes of us, nothing stays. */
static int open_nameless(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    unlink(path);
    return fd;
}

static nb_status keep(nb_budget_judge *j, part *p, const char *what, nb_error *err)
{
    const char *folder = getenv("TMPDIR");
    char path[512], file[540];
    nb_evaluation found;
    int n = snprintf(path, sizeof path, "%s/nibble-XXXXXX", folder && *folder ? folder : "/tmp");
    if (n < 0 || (size_t)n >= sizeof path || !mkdtemp(path))
        return nb_fail(err, NB_ERR_IO, "%s: no folder for temporary files can be made there; set TMPDIR", path);
    snprintf(file, sizeof file, "%s/logits", path);
    nb_evaluate_params save = {.windows = p->windows, .save = file};
    nb_status status = evaluate(j, j->base, p, &save, what, &found, err);
    if (status == NB_OK && (p->kept = open_nameless(file)) < 0)
        status = nb_fail(err, NB_ERR_IO, "%s: cannot be opened", file);
    rmdir(path);
    return status;
}

static nb_status keep_all(nb_budget_judge *j, nb_error *err)
{
    uint64_t row = 8 + 2 * (uint64_t)nb_model_vocabulary(j->base);
    uint64_t windows = j->parts[0].windows + j->parts[1].windows;
    if (windows > most_kept_bytes / row / j->window)
        return NB_OK;
    NB_TRY(keep(j, &j->parts[0], "reading the text", err));
    if (j->parts[1].windows)
        NB_TRY(keep(j, &j->parts[1], "reading the text held back", err));
    nb_model_close(j->base);
    j->base = NULL;
    return NB_OK;
}

/* ---- judging ---- */

nb_status nb_budget_judge_new(const nb_budget *b, nb_budget_judge **out, nb_error *err)
{
    enum { DEFAULT_WINDOW = 512 };
    const nb_budget_params *p = b->params;
    nb_budget_judge *j = calloc(1, sizeof *j);
    *out = NULL;
    if (!j)
        return nb_fail_memory(err, p->in, sizeof *j);
    j->budget = b;
    j->parts[0].kept = j->parts[1].kept = -1;
    nb_status status = nb_model_open(p->in, &p->model, &j->base, err);
    if (status == NB_OK) {
        j->window = p->window ? p->window : nb_min_size(DEFAULT_WINDOW, nb_model_context(j->base));
        status = cut_text(j, err);
    }
    if (status == NB_OK)
        status = keep_all(j, err);
    if (status == NB_OK)
        *out = j;
    else
        nb_budget_judge_free(j);
    return status;
}

void nb_budget_judge_free(nb_budget_judge *j)
{
    if (!j)
        return;
    for (int i = 0; i < 2; i++)
        if (j->parts[i].kept >= 0)
            close(j->parts[i].kept);
    nb_model_close(j->base);
    free(j);
}

size_t nb_budget_judge_windows(const nb_budget_judge *j, bool held_back) { return j->parts[held_back].windows; }

static nb_status open_types(const nb_budget *b, const nb_type_info *const *types, nb_model **out, nb_error *err)
{
    nb_quantize_params q = *b->params->quantize;
    nb_source *s;
    nb_gguf *g;
    q.mix = NULL;
    q.types = types;
    q.dry_run = false;
    q.keep_split = false;
    q.split_bytes = 0;
    q.override_count = 0; /* what is written into the file's metadata is not what is measured */
    NB_TRY(nb_source_open(b->params->in, &s, err));
    NB_TRY(nb_quantize_to_memory(s, &q, &g, err));
    return nb_model_open_gguf(g, &b->params->model, out, err);
}

nb_status nb_budget_judge_types(nb_budget_judge *j, const nb_type_info *const *types, bool held_back, size_t windows,
                                const char *what, double *divergence, nb_error *err)
{
    const part *p = &j->parts[held_back];
    char path[64];
    nb_model *model;
    nb_evaluation found;
    nb_evaluate_params with = {.windows = windows ? nb_min_size(windows, p->windows) : p->windows, .base = j->base};
    snprintf(path, sizeof path, "/proc/self/fd/%d", p->kept);
    if (p->kept >= 0)
        with.base_file = path;
    NB_TRY(open_types(j->budget, types, &model, err));
    nb_status status = evaluate(j, model, p, &with, what, &found, err);
    nb_model_close(model);
    if (status == NB_OK)
        *divergence = found.kl_mean;
    return status;
}
