/* nibble imatrix MODEL --text F: collects an importance matrix, or merges those that there are. */
#include <stdio.h>

#include "base/file.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "measure/calibrate.h"

enum { DEFAULT_WINDOW = 512 };

typedef struct imatrix_options {
    nb_model_options model;
    const char *text, *out, *format;
    int64_t chunks, moments;
    bool output;
    nb_option_list merged;
} imatrix_options;

static int on_window(void *user, size_t done, size_t all)
{
    nb_progress **p = user;
    if (!*p)
        *p = nb_progress_start("collecting", all, "windows");
    nb_progress_at(*p, done);
    return nb_interrupted();
}

static nb_status collect(const char *path, const imatrix_options *o, size_t window, nb_imatrix **out, nb_error *err)
{
    nb_model *m = NULL;
    nb_buf text = {0};
    nb_progress *progress = NULL;
    nb_status status = nb_file_read(o->text, (size_t)1 << 30, &text, err);
    if (status == NB_OK)
        status = nb_model_open(path, &o->model.model, &m, err);
    if (status == NB_OK) {
        nb_calibrate_params p = {.window = nb_min_size(window, nb_model_context(m)),
                                 .windows = (size_t)o->chunks,
                                 .output = o->output,
                                 .moments = (size_t)o->moments,
                                 .text_name = o->text,
                                 .options = &o->model.session,
                                 .progress = on_window,
                                 .user = &progress};
        status = nb_calibrate(m, nb_buf_view(&text), &p, out, err);
    }
    nb_progress_end(progress, status == NB_OK);
    nb_model_close(m);
    nb_buf_free(&text);
    return status;
}

static nb_status merge_file(nb_imatrix *all, const char *path, size_t window, nb_error *err)
{
    nb_imatrix *one;
    NB_TRY(nb_imatrix_open(path, &one, err));
    nb_status status = nb_imatrix_merge(all, one, (uint32_t)window, err);
    nb_imatrix_free(one);
    return status == NB_OK ? status : nb_fail_prefix(err, status, "%s", path);
}

/* the files in their order, then what the text gives */
static nb_status gather(const char *path, const imatrix_options *o, nb_imatrix *all, nb_error *err)
{
    size_t window = o->model.session.context ? o->model.session.context : DEFAULT_WINDOW;
    nb_imatrix *fresh = NULL;
    nb_status status = NB_OK;
    for (size_t i = 0; i < o->merged.count && status == NB_OK; i++)
        status = merge_file(all, o->merged.items[i], window, err);
    if (status == NB_OK && path)
        status = collect(path, o, window, &fresh, err);
    if (status == NB_OK && fresh)
        status = nb_imatrix_merge(all, fresh, (uint32_t)window, err);
    nb_imatrix_free(fresh);
    return status;
}

static void report(const nb_imatrix *m, const char *out)
{
    size_t silent = 0, matrices = 0;
    for (size_t i = 0; i < nb_imatrix_count(m); i++) {
        const nb_imatrix_entry *e = nb_imatrix_at(m, i);
        matrices += e->matrices;
        for (size_t j = 0; j < e->matrices; j++)
            silent += e->count[j] == 0;
    }
    nb_note("%s: %zu tensors, %u chunks of %u tokens", out, nb_imatrix_count(m), nb_imatrix_chunks(m),
            nb_imatrix_chunk_tokens(m));
    if (silent)
        nb_note("%zu of %zu matrices were reached by no token; a longer or more varied text reaches more", silent,
                matrices);
}

static nb_status run_imatrix(const char *path, const imatrix_options *o, nb_imatrix_form form, nb_error *err)
{
    nb_imatrix *all;
    NB_TRY(nb_imatrix_new(&all, err));
    nb_status status = gather(path, o, all, err);
    if (status == NB_OK)
        status = nb_imatrix_write(all, o->out, form, err);
    if (status == NB_OK)
        report(all, o->out);
    nb_imatrix_free(all);
    return status;
}

static int check_usage(int argc, const imatrix_options *o, nb_imatrix_form *form)
{
    bool files_only = argc == 1 && !o->text && o->merged.count;
    if (!files_only && (argc != 2 || !o->text))
        return nb_report_usage("imatrix", "give one model and --text FILE, or only --in-file FILE");
    if (o->chunks < 0)
        return nb_report_usage("imatrix", "--chunks %lld: give a number of windows", (long long)o->chunks);
    if (o->moments != 0 && (o->moments < 256 || o->moments > 16384))
        return nb_report_usage("imatrix", "--moments %lld: give a number of columns from 256 to 16384",
                               (long long)o->moments);
    if (o->moments && strcmp(o->format, "gguf") != 0)
        return nb_report_usage("imatrix", "--format %s has no place for moments; take gguf", o->format);
    *form = strcmp(o->format, "binary") == 0 || strcmp(o->format, "dat") == 0 ? NB_IMATRIX_BINARY : NB_IMATRIX_GGUF;
    if (*form == NB_IMATRIX_GGUF && strcmp(o->format, "gguf") != 0)
        return nb_report_usage("imatrix", "--format %s: give gguf or binary", o->format);
    return -1;
}

int nb_cmd_imatrix(int argc, char **argv)
{
    imatrix_options o = {.model = nb_model_options_defaults(), .out = "imatrix.gguf", .format = "gguf"};
    nb_imatrix_form form;
    nb_option options[] = {
        {"text", 0, NB_OPTION_STRING, &o.text, "FILE", "the text to read"},
        {"out", 'o', NB_OPTION_STRING, &o.out, "FILE", "where to write (default: imatrix.gguf)"},
        {"chunks", 0, NB_OPTION_I64, &o.chunks, "N", "only the first N windows"},
        {"format", 0, NB_OPTION_STRING, &o.format, "FORM", "gguf (default), or binary: llama.cpp's older one"},
        {"moments", 0, NB_OPTION_I64, &o.moments, "N",
         "also how columns go together, in blocks of at most N (say 1024): quantize then rounds with feedback"},
        {"process-output", 0, NB_OPTION_FLAG, &o.output, NULL, "the output matrix too"},
        {"in-file", 0, NB_OPTION_LIST, &o.merged, "FILE", "add this importance matrix (may be repeated)"},
        NB_MODEL_OPTION_ROWS(o.model),
        {.name = ""},
    };
    int code = nb_options_parse("imatrix", options, &argc, argv);
    if (code >= 0)
        return code;
    code = nb_model_options_finish("imatrix", &o.model);
    if (code < 0)
        code = check_usage(argc, &o, &form);
    if (code < 0) {
        nb_error err;
        nb_interrupt_watch();
        code = run_imatrix(argc == 2 ? argv[1] : NULL, &o, form, &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
    }
    nb_options_free(options);
    return code;
}
