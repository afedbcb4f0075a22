/* nibble create NAME [-f FILE]: a model of the store, made as a Modelfile says. Works on the store itself: a server that runs
 * sees the new model by itself. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cli/command.h"
#include "cli/pull_missing.h"
#include "format/imatrix.h"
#include "store/create.h"
#include "store/library.h"

/* ---- what is told ---- */

typedef struct shown {
    nb_progress *progress;
    char what[200];
} shown;

static bool on_status(void *user, const char *status, uint64_t done, uint64_t total)
{
    shown *s = user;
    if (s->progress && (total == 0 || strcmp(s->what, status) != 0)) {
        nb_progress_end(s->progress, true);
        s->progress = NULL;
    }
    if (total == 0) {
        nb_note("%s", status);
    } else {
        if (!s->progress) {
            bool bytes = strncmp(status, "quantizing", 10) == 0 || strncmp(status, "converting", 10) == 0 ||
                         strncmp(status, "copying", 7) == 0 || strncmp(status, "hashing", 7) == 0;
            snprintf(s->what, sizeof s->what, "%s", status);
            s->progress = nb_progress_start(status, total, bytes ? "B" : "steps");
        }
        nb_progress_at(s->progress, done);
    }
    return !nb_interrupted();
}

/* ---- what is given ---- */

typedef struct create_options {
    const char *file, *quantize, *text_path, *imatrix_path;
    bool link, allow_requantize;
    int threads;
} create_options;

enum { MODELFILE_MOST = 16 << 20 };

/* "-", or what can only be read once, as <(a command) is: paths in it are from the current folder */
static bool is_piped(const char *path)
{
    struct stat st;
    return strcmp(path, "-") == 0 || strcmp(path, "/dev/stdin") == 0 ||
           (stat(path, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)));
}

static nb_status read_piped(const char *path, nb_buf *text, nb_error *err)
{
    char part[4096];
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "re");
    if (!f)
        return nb_fail(err, NB_ERR_IO, "cannot open: %s", strerror(errno));
    for (size_t n; text->len <= MODELFILE_MOST && (n = fread(part, 1, sizeof part, f)) > 0;)
        nb_buf_add(text, part, n);
    nb_status status = ferror(f)      ? nb_fail(err, NB_ERR_IO, "cannot read: %s", strerror(errno))
                       : text->failed ? nb_fail_memory(err, "Modelfile", text->len)
                       : text->len > MODELFILE_MOST
                           ? nb_fail(err, NB_ERR_LIMIT, "what is piped in is larger than any Modelfile")
                           : NB_OK;
    if (!is_stdin)
        fclose(f);
    return status == NB_OK ? NB_OK : nb_fail_prefix(err, status, "%s", path);
}

/* Without -f the file is called Modelfile. */
static nb_status read_modelfile(const char *path, nb_modelfile *m, nb_error *err)
{
    nb_buf text = {0};
    nb_status status = is_piped(path) ? read_piped(path, &text, err) : nb_file_read(path, MODELFILE_MOST, &text, err);
    if (status == NB_OK && (status = nb_modelfile_parse(nb_buf_view(&text), m, err)) != NB_OK)
        status = nb_fail_prefix(err, status, "%s", path);
    nb_buf_free(&text);
    return status;
}

/* the folder that paths in a Modelfile are from: its own */
static char *folder_of(const char *path)
{
    const char *slash = is_piped(path) ? NULL : strrchr(path, '/');
    return !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

/* What it is made from is fetched when it is not in the store. */
static nb_status need_base(const nb_create_params *p, nb_arena *arena, nb_error *err)
{
    nb_library *library;
    nb_entry *e;
    if (p->from.n == 0)
        return NB_OK;
    NB_TRY(nb_library_open(&(nb_library_params){0}, &library, err));
    nb_status status = nb_library_find(library, p->from, &e, err);
    if (status == NB_OK)
        nb_entry_release(e);
    nb_library_close(library);
    const char *name = status == NB_ERR_NOT_FOUND ? nb_arena_strdup(arena, p->from) : NULL;
    if (!name)
        return status;
    status = nb_pull_here(name, false, NULL, err);
    return status == NB_OK ? NB_OK : nb_fail_prefix(err, status, "%s is not in the store, and pulling it failed", name);
}

static nb_status create(const create_options *o, nb_create_params *p, nb_arena *arena, nb_error *err)
{
    nb_modelfile m = {0};
    nb_store *store = NULL;
    nb_imatrix *imatrix = NULL;
    nb_buf text = {0};
    nb_quantize_params quantize = nb_quantize_defaults();
    char *folder = folder_of(o->file);
    nb_status status = folder ? read_modelfile(o->file, &m, err) : nb_fail_memory(err, o->file, 1);
    nb_interrupt_watch(); /* not before: who waits for a pipe is ended by the signal itself */
    if (status == NB_OK && (status = nb_create_read(&m, folder, arena, p, err)) != NB_OK)
        status = nb_fail_prefix(err, status, "%s", o->file);
    if (status == NB_OK && o->text_path)
        status = nb_file_read(o->text_path, (size_t)1 << 30, &text, err);
    if (status == NB_OK && o->imatrix_path)
        status = nb_imatrix_open(o->imatrix_path, &imatrix, err);
    quantize.imatrix = imatrix;
    quantize.imatrix_name = o->imatrix_path;
    quantize.allow_requantize = o->allow_requantize;
    quantize.threads = o->threads;
    p->options = &quantize;
    p->quantize = o->quantize;
    p->text = o->text_path ? nb_buf_view(&text) : (nb_str){0};
    p->link = o->link;
    if (status == NB_OK)
        status = need_base(p, arena, err);
    if (status == NB_OK)
        status = nb_store_open(NULL, &store, err);
    if (status == NB_OK)
        status = nb_create(store, p, err);
    nb_store_close(store);
    nb_imatrix_free(imatrix);
    nb_buf_free(&text);
    nb_modelfile_free(&m);
    free(folder);
    return status;
}

int nb_cmd_create(int argc, char **argv)
{
    create_options o = {.file = "Modelfile"};
    shown s = {0};
    nb_create_params p = {.status = on_status, .user = &s};
    nb_arena arena = {0};
    nb_error err;
    const nb_option options[] = {
        {"file", 'f', NB_OPTION_STRING, &o.file, "FILE",
         "the Modelfile (default: Modelfile; - or a FIFO reads it from a pipe)"},
        {"quantize", 'q', NB_OPTION_STRING, &o.quantize, "WISH",
         "a type such as Q4_K_M, a size such as 300M, bpw=4.5, or kld=0.05 (with --text)"},
        {"text", 0, NB_OPTION_STRING, &o.text_path, "FILE", "what a size or divergence is measured on"},
        {"imatrix", 0, NB_OPTION_STRING, &o.imatrix_path, "FILE", "importance of each column ('nibble imatrix')"},
        {"allow-requantize", 0, NB_OPTION_FLAG, &o.allow_requantize, NULL, "also from quantized tensors"},
        {"link", 0, NB_OPTION_FLAG, &o.link, NULL, "GGUF files by hard links: no copy, but the file must not change"},
        {"threads", 't', NB_OPTION_INT, &o.threads, "N", "threads (default: one a processor)"},
        {.name = ""},
    };
    int code = nb_options_parse("create", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc != 2)
        code = nb_report_usage("create", "give the name of the new model, such as my-model or me/my-model:v1");
    else if (o.threads < 0 || o.threads > 256)
        code = nb_report_usage("create", "--threads %d: give 1 to 256", o.threads);
    else if (o.text_path && !o.quantize)
        code = nb_report_usage("create", "--text goes with --quantize");
    else if (nb_name_parse(nb_str_of(argv[1]), &p.name, &err) != NB_OK)
        code = nb_report_error(&err);
    if (code < 0) {
        nb_status status = create(&o, &p, &arena, &err);
        nb_progress_end(s.progress, status == NB_OK);
        code = status == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
    }
    nb_arena_free(&arena);
    nb_options_free(options);
    return code;
}
