/* nibble report BASE Q...: one page about what quantizing costs. */
#include <stdio.h>

#include "base/file.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "measure/report.h"

enum { DEFAULT_WINDOW = 512, DEFAULT_WINDOWS = 16 };

typedef struct report_options {
    nb_model_options model;
    const char *text, *out, *tensor, *imatrix;
    int64_t chunks;
} report_options;

typedef struct shown { /* progress of one phase */
    nb_progress *progress;
    const char *what;
} shown;

static int on_progress(void *user, const char *what, size_t done, size_t all)
{
    shown *s = user;
    if (s->what != what) {
        nb_progress_end(s->progress, true);
        s->progress = nb_progress_start(what, all, what[0] == 'e' ? "windows" : "files");
        s->what = what;
    }
    nb_progress_at(s->progress, done);
    return nb_interrupted();
}

/* the command as it can be typed again */
static void quote(nb_buf *out, int argc, char **argv)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
    nb_buf_z(out, "nibble");
    for (int i = 0; i < argc; i++) {
        bool simple = argv[i][0] && argv[i][strspn(argv[i], plain)] == '\0';
        nb_buf_z(out, simple ? " " : " '");
        for (const char *p = argv[i]; *p; p++)
            nb_buf_z(out, *p == '\'' ? "'\\''" : (char[]){*p, 0});
        nb_buf_z(out, simple ? "" : "'");
    }
}

static nb_status make_page(const report_options *o, nb_report_params *p, nb_error *err)
{
    shown s = {0};
    nb_buf html = {0}, text = {0};
    nb_imatrix *weights = NULL;
    nb_status status = NB_OK;
    if (o->text) {
        status = nb_file_read(o->text, (size_t)1 << 30, &text, err);
        p->text = nb_buf_view(&text);
    }
    if (status == NB_OK && o->imatrix)
        status = nb_imatrix_open(o->imatrix, &weights, err);
    p->weights = weights;
    p->user = &s;
    if (status == NB_OK)
        status = nb_report_write(p, &html, err);
    nb_progress_end(s.progress, status == NB_OK);
    if (status == NB_OK)
        status = nb_write_page(o->out, &html, err);
    nb_imatrix_free(weights);
    nb_buf_free(&text);
    nb_buf_free(&html);
    return status;
}

static int run_report(const report_options *o, int argc, char **argv, const char *command)
{
    nb_error err;
    nb_report_params p = {.base = argv[1],
                          .paths = argv + 2,
                          .count = (size_t)argc - 2,
                          .text_name = o->text,
                          .window = o->model.session.context ? o->model.session.context : DEFAULT_WINDOW,
                          .windows = (size_t)o->chunks,
                          .tensor = o->tensor,
                          .weights_name = o->imatrix,
                          .command = command,
                          .model = o->model.model,
                          .session = o->model.session,
                          .progress = on_progress};
    nb_interrupt_watch();
    return make_page(o, &p, &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}

int nb_cmd_report(int argc, char **argv)
{
    report_options o = {.model = nb_model_options_defaults(), .chunks = DEFAULT_WINDOWS};
    nb_buf command = {0};
    nb_option options[] = {
        {"out", 'o', NB_OPTION_STRING, &o.out, "FILE", "where the page goes (HTML)"},
        {"text", 0, NB_OPTION_STRING, &o.text, "FILE", "measure the divergence on this text"},
        {"chunks", 0, NB_OPTION_I64, &o.chunks, "N", "windows of the text (default: 16; 0: all)"},
        {"tensor", 0, NB_OPTION_STRING, &o.tensor, "NAME", "draw this one (default: ffn_down of the middle layer)"},
        {"imatrix", 0, NB_OPTION_STRING, &o.imatrix, "FILE",
         "weigh the weights' errors by this importance matrix, too"},
        NB_MODEL_OPTION_ROWS(o.model),
        {.name = ""},
    };
    quote(&command, argc, argv); /* before the parser takes it apart */
    int code = nb_options_parse("report", options, &argc, argv);
    if (code < 0)
        code = nb_model_options_finish("report", &o.model);
    if (code < 0 && (argc < 3 || !o.out))
        code = nb_report_usage("report", "give the source, one quantized file or more, and -o FILE");
    if (code < 0 && o.chunks < 0)
        code = nb_report_usage("report", "--chunks %lld: give a number of windows", (long long)o.chunks);
    if (code < 0)
        code = run_report(&o, argc, argv, nb_buf_view(&command).p);
    nb_buf_free(&command);
    return code;
}
