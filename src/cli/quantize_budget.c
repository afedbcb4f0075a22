/* Asking for a result: the options, the text, and what is told about the choice. */
#include "cli/quantize_budget.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "measure/budget.h"

/* ---- what is asked for ---- */

bool nb_quantize_budget_given(const nb_quantize_budget *b) { return b->size || b->bits || b->divergence; }

static bool parse_positive(const char *text, double *number)
{
    char *end;
    *number = strtod(text, &end);
    return end != text && *end == '\0' && *number > 0 && *number < 1e6;
}

int nb_quantize_budget_finish(nb_quantize_budget *b)
{
    if ((b->size != NULL) + (b->bits != NULL) + (b->divergence != NULL) > 1)
        return nb_report_usage("quantize", "--size, --bpw and --kld exclude each other");
    if (b->size && !nb_parse_bytes(b->size, &b->bytes))
        return nb_report_usage("quantize", "--size %s: give a size such as 500M or 2G", b->size);
    if (b->bits && !parse_positive(b->bits, &b->bits_asked))
        return nb_report_usage("quantize", "--bpw %s: give bits a weight, such as 4.5", b->bits);
    if (b->divergence && !parse_positive(b->divergence, &b->divergence_asked))
        return nb_report_usage("quantize", "--kld %s: give a mean KL divergence, such as 0.01", b->divergence);
    if (b->divergence && !b->text_path)
        return nb_report_usage("quantize", "--kld needs the text to measure on: give --text FILE");
    if (!nb_quantize_budget_given(b) && (b->text_path || b->chunks || b->window))
        return nb_report_usage("quantize", "--text, --chunks and --ctx go with --size, --bpw or --kld");
    if (b->chunks < 0 || b->chunks == 1)
        return nb_report_usage("quantize", "--chunks %lld: give 2 windows or more, one of which is held back",
                               (long long)b->chunks);
    return -1;
}

void nb_quantize_budget_name(const nb_quantize_budget *b, char name[64])
{
    snprintf(name, 64, "%s%s%s", b->divergence ? "kld" : "",
             b->size   ? b->size
             : b->bits ? b->bits
                       : b->divergence,
             b->bits ? "bpw" : "");
}

/* ---- what is told ---- */

typedef struct shown {
    nb_progress *progress;
    char what[64];
} shown;

static int on_progress(void *user, const char *what, size_t done, size_t all)
{
    shown *s = user;
    if (s->progress && strcmp(s->what, what) != 0) {
        nb_progress_end(s->progress, true);
        s->progress = NULL;
    }
    if (!s->progress) {
        snprintf(s->what, sizeof s->what, "%s", what);
        s->progress = nb_progress_start(s->what, all, strncmp(what, "measuring types", 15) == 0 ? "types" : "windows");
    }
    nb_progress_at(s->progress, done);
    return nb_interrupted();
}

static void print_choice(const nb_quantize_budget *b, const nb_budget_result *r)
{
    printf("expected KL     %.3g   (a sum over tensors; sensitivities %s)\n", r->expected,
           b->text_path ? "measured on the text" : "from the table");
    if (!b->divergence)
        return;
    printf("KL divergence   %.6f on %zu windows, after %zu models\n", r->divergence, r->windows, r->rounds);
    printf("held back       %.6f on %zu windows of the last tenth of the text\n", r->held_back, r->held_back_windows);
}

/* With a text the table is the measurement that the choice rests on. */
static void print_sensitivities(const nb_budget_result *r)
{
    printf("sensitivity     KL divergence for each 1 %% of relative error of a tensor, in the first, middle, last "
           "third\n");
    for (size_t i = 0; i < r->kind_count; i++) {
        const nb_budget_kind *k = &r->kinds[i];
        printf("  %-20.*s", NB_STR_ARG(k->name));
        for (int d = 0; d < NB_BUDGET_THIRDS; d++)
            if (k->sensitivity[d] > 0)
                printf(" %10.3g", k->sensitivity[d] / 100);
        printf("\n");
    }
}

/* ---- the work ---- */

static nb_status choose(nb_quantize_budget *b, const nb_source *s, const char *in, const nb_quantize_params *p,
                        nb_str text, nb_error *err)
{
    shown display = {0};
    nb_budget_result result;
    nb_budget_params budget = {
        .in = in,
        .quantize = p,
        .bytes = b->bytes,
        .bits = b->bits_asked,
        .divergence = b->divergence_asked,
        .text = text,
        .window = (size_t)b->window,
        .windows = (size_t)b->chunks,
        .model = nb_model_defaults(),
        .session = nb_session_defaults(),
        .progress = on_progress,
        .user = &display,
    };
    budget.model.threads = p->threads;
    nb_status status = nb_budget_types(s, &budget, b->types, &result, err);
    nb_progress_end(display.progress, status == NB_OK);
    if (status == NB_OK && p->dry_run && b->text_path)
        print_sensitivities(&result);
    if (status == NB_OK)
        print_choice(b, &result);
    return status;
}

nb_status nb_quantize_budget_choose(nb_quantize_budget *b, const nb_source *s, const char *in, nb_quantize_params *p,
                                    nb_error *err)
{
    nb_buf text = {0};
    b->types = calloc(s->tensor_count + 1, sizeof *b->types);
    if (!b->types)
        return nb_fail_memory(err, in, s->tensor_count * sizeof *b->types);
    nb_status status = b->text_path ? nb_file_read(b->text_path, (size_t)1 << 30, &text, err) : NB_OK;
    if (status == NB_OK)
        status = choose(b, s, in, p, b->text_path ? nb_buf_view(&text) : (nb_str){0}, err);
    nb_buf_free(&text);
    if (status == NB_OK) {
        p->mix = NULL;
        p->types = b->types;
    }
    return status;
}

void nb_quantize_budget_free(nb_quantize_budget *b) { free(b->types); }
