/* The options of quantizing, and the work once they are read. */
#include "cli/quantize_options.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cli/command.h"
#include "convert/merge.h"
#include "convert/source_loss.h"

/* ---- what is asked for ---- */

int nb_quantize_unknown(const char *command, const char *name)
{
    nb_nearest nearest = {.given = name};
    nb_buf list = {0};
    for (size_t i = 0; i < nb_mix_count(); i++) {
        nb_nearest_offer(&nearest, nb_mix_name(nb_mix_at(i)));
        nb_buf_printf(&list, "%s%s", i ? " " : "", nb_mix_name(nb_mix_at(i)));
    }
    int code = nearest.best
                   ? nb_report_usage(command, "'%s' is no type; did you mean %s?", name, nearest.best)
                   : nb_report_usage(command, "'%s' is no type; there are: %s", name, list.data ? list.data : "");
    nb_buf_free(&list);
    return code;
}

static int take_type(const char *command, const char *option, const char *name, const nb_type_info **type)
{
    if (name && !(*type = nb_type_by_name(nb_str_of(name))))
        return nb_report_usage(command, "--%s %s: no such tensor type", option, name);
    return -1;
}

/* REGEX=TYPE; the expression may have a '=' of its own */
static int take_patterns(const char *command, nb_quantize_options *o)
{
    nb_buf all = {0};
    const nb_option_list *list = &o->tensor_types;
    o->patterns = calloc(list->count + 1, sizeof *o->patterns);
    for (size_t i = 0; i < list->count; i++)
        nb_buf_add(&all, list->items[i], strlen(list->items[i]) + 1);
    o->expressions = all.data;
    if (!o->patterns || all.failed)
        return nb_report_usage(command, "out of memory");
    for (size_t i = 0, at = 0; i < list->count; i++) {
        char *text = o->expressions + at, *equals = strrchr(text, '=');
        at += strlen(text) + 1;
        if (!equals || equals == text)
            return nb_report_usage(command, "--tensor-type %s: give REGEX=TYPE", list->items[i]);
        *equals = '\0';
        o->patterns[i].expression = text;
        int code = take_type(command, "tensor-type", equals + 1, &o->patterns[i].type);
        if (code >= 0)
            return code;
    }
    o->params.patterns = o->patterns;
    o->params.pattern_count = list->count;
    return -1;
}

int nb_quantize_options_finish(const char *command, nb_quantize_options *o)
{
    nb_quantize_params *p = &o->params;
    if (o->rounding && strcmp(o->rounding, "nearest") == 0)
        p->rounding = NB_ROUND_NEAREST;
    else if (o->rounding && strcmp(o->rounding, "search") == 0)
        p->feedback = false;
    else if (o->rounding && strcmp(o->rounding, "feedback") != 0)
        return nb_report_usage(command, "--rounding %s: there are feedback, search and nearest", o->rounding);
    if (o->split && !nb_parse_bytes(o->split, &p->split_bytes))
        return nb_report_usage(command, "--split-max-size %s: give a size such as 500M or 2G", o->split);
    if ((o->merge_shards && (o->split || p->keep_split)) || (o->split && p->keep_split))
        return nb_report_usage(command, "--merge-shards, --keep-split and --split-max-size exclude each other");
    if (p->threads < 0 || p->threads > 256)
        return nb_report_usage(command, "--threads %d: give 1 to 256", p->threads);
    p->override_kv = o->overrides.items;
    p->override_count = o->overrides.count;
    int code = take_type(command, "output-type", o->output_type, &p->output_type);
    if (code < 0)
        code = take_type(command, "embedding-type", o->embedding_type, &p->embedding_type);
    return code < 0 ? take_patterns(command, o) : code;
}

/* ---- what is told ---- */

static int on_progress(void *user, nb_str tensor, uint64_t done, uint64_t all)
{
    nb_progress **p = user;
    (void)tensor;
    if (!*p)
        *p = nb_progress_start("quantizing", all, "B");
    nb_progress_at(*p, done);
    return nb_interrupted();
}

static void print_plan(const nb_source *s, const nb_type_info *const *types)
{
    for (size_t i = 0; i < s->tensor_count; i++) {
        const nb_source_tensor *t = &s->tensors[i];
        char shape[96];
        int n = snprintf(shape, sizeof shape, "%llu", (unsigned long long)t->dims[0]);
        for (uint32_t d = 1; d < t->n_dims; d++)
            n += snprintf(shape + n, sizeof shape - (size_t)n, " x %llu", (unsigned long long)t->dims[d]);
        if (types[i] == t->type)
            printf("%-40.*s %-20s %s\n", NB_STR_ARG(t->name), shape, t->type->name);
        else
            printf("%-40.*s %-20s %s -> %s\n", NB_STR_ARG(t->name), shape, t->type->name, types[i]->name);
    }
}

static void print_result(const nb_quantize_result *r, const char *out, double seconds)
{
    char from[24], to[24], time[24];
    nb_format_bytes(r->source_bytes, from);
    nb_format_bytes(r->bytes, to);
    nb_format_seconds(seconds, time);
    if (out)
        printf("file            %s%s\n", out, r->files > 1 ? " (the first of its shards is -00001-of-...)" : "");
    printf("file size       %llu bytes", (unsigned long long)r->file_bytes);
    if (r->files > 1)
        printf(" in %zu files", r->files);
    printf("\ntensors         %s -> %s, %.3f bits a weight\nchanged         %zu tensors\n", from, to,
           r->values ? (double)r->bytes * 8 / (double)r->values : 0, r->quantized);
    if (r->fallbacks)
        printf("fallbacks       %zu tensors, whose columns do not fit the type of the others\n", r->fallbacks);
    if (out)
        printf("time            %s\n", time);
}

/* ---- the work ---- */

static nb_status dry_run(const nb_quantize_options *o, const nb_source *s, nb_error *err)
{
    nb_quantize_result result;
    const nb_type_info **types = calloc(s->tensor_count + 1, sizeof *types);
    nb_status status = types ? nb_quantize_plan(s, &o->params, types, &result, err)
                             : nb_fail_memory(err, s->path, s->tensor_count * sizeof *types);
    if (status == NB_OK) {
        print_plan(s, types);
        print_result(&result, NULL, 0);
        if (result.needs_imatrix)
            nb_note("these types need an importance matrix: make one with 'nibble imatrix', give it with --imatrix");
    }
    free(types);
    return status;
}

static nb_status open_source(nb_quantize_options *o, const char *in, nb_source **s, bool *again, nb_error *err)
{
    nb_write_source how = {.load = o->load,
                           .keep_types = o->type_is_default && !nb_quantize_budget_given(&o->budget),
                           .threads = o->params.threads};
    NB_TRY(nb_source_open_to_write(in, &how, s, err));
    *again = how.again;
    if (how.mix && o->type_is_default)
        o->params.mix = how.mix;
    return NB_OK;
}

/* What the second quantization lost. */
static nb_status print_loss(const nb_source *s, const char *out, nb_error *err)
{
    nb_source *made;
    double loss = 0;
    NB_TRY(nb_source_open_gguf(out, &made, err));
    nb_status status = nb_source_loss(s, made, &loss, err);
    nb_source_free(made);
    if (status == NB_OK)
        printf("loss            %.3g, squared error of the tensors against what bitsandbytes dequantizes to, relative\n",
               loss);
    return status;
}

nb_status nb_quantize_run(nb_quantize_options *o, const char *in, const char *out, nb_error *err)
{
    nb_source *s = NULL;
    bool again = false;
    nb_quantize_result result;
    nb_progress *progress = NULL;
    if (o->imatrix_path) {
        NB_TRY(nb_imatrix_open(o->imatrix_path, &o->imatrix, err));
        o->params.imatrix = o->imatrix;
        o->params.imatrix_name = o->imatrix_path;
    }
    NB_TRY(open_source(o, in, &s, &again, err));
    if (o->adapter_count) {
        bool keep = o->params.mix == nb_mix_by_name(NB_STR("COPY"));
        NB_TRY(nb_source_merge(s, o->adapters, o->adapter_count, keep, &s, err));
    }
    nb_status status = NB_OK;
    if (nb_quantize_budget_given(&o->budget))
        status = nb_quantize_budget_choose(&o->budget, s, in, &o->params, err);
    if (status == NB_OK && o->params.dry_run) {
        status = dry_run(o, s, err);
    } else if (status == NB_OK) {
        double start = nb_seconds();
        status = nb_quantize(s, out, &o->params, on_progress, &progress, &result, err);
        nb_progress_end(progress, status == NB_OK);
        if (status == NB_OK)
            print_result(&result, out, nb_seconds() - start);
        if (status == NB_OK && again && result.files == 1)
            status = print_loss(s, out, err);
    }
    nb_source_free(s);
    return status;
}

void nb_quantize_options_free(nb_quantize_options *o)
{
    nb_imatrix_free(o->imatrix);
    nb_quantize_budget_free(&o->budget);
    free(o->patterns);
    free(o->expressions);
}
