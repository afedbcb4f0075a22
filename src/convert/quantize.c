#define _GNU_SOURCE
#include "convert/quantize.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "convert/quantize_internal.h"

nb_quantize_params nb_quantize_defaults(void) { return (nb_quantize_params){.rounding = NB_ROUND_SEARCH, .feedback = true}; }

/* ---- names of files ---- */

/* "DIR/NAME" of "DIR/NAME.gguf" and of "DIR/NAME-00001-of-00003.gguf" */
static nb_str stem_of(const char *out)
{
    static const char shard[] = "-ddddd-of-ddddd";
    enum { SHARD = sizeof shard - 1, SUFFIX = 5 };
    nb_str s = nb_str_of(out);
    if (s.n < SUFFIX || strcmp(out + s.n - SUFFIX, ".gguf") != 0)
        return s;
    s.n -= SUFFIX;
    bool is = s.n > SHARD;
    for (size_t i = 0; is && i < SHARD; i++) {
        char c = s.p[s.n - SHARD + i];
        is = shard[i] == 'd' ? c >= '0' && c <= '9' : c == shard[i];
    }
    s.n -= is ? SHARD : 0;
    return s;
}

static char *path_of(const char *out, size_t file, size_t files)
{
    char *path;
    nb_str stem = stem_of(out);
    if (files == 1)
        return strdup(out);
    return asprintf(&path, "%.*s-%05zu-of-%05zu.gguf", (int)stem.n, stem.p, file + 1, files) < 0 ? NULL : path;
}

/* Refused before any work: a place that cannot be written, or that the source lies in. */
static nb_status check_target(const nb_source *s, const char *path, nb_error *err)
{
    struct stat to, from;
    if (stat(path, &to) != 0)
        return NB_OK;
    if (!S_ISREG(to.st_mode))
        return nb_fail(err, NB_ERR_IO, "%s: is not a regular file; give the name of a file to write", path);
    for (int i = 0; i < s->file_count || i == 0; i++) {
        const char *file = s->files ? s->files[i] : s->path;
        if (stat(file, &from) == 0 && from.st_dev == to.st_dev && from.st_ino == to.st_ino)
            return nb_fail(err, NB_ERR_ARGUMENT, "%s: is what is read; give the output another name", path);
    }
    return NB_OK;
}

/* ---- into files ---- */

typedef struct output {
    nb_quantize_files files;
    nb_gguf_writer **writers;
    nb_quantize_job *jobs;
    size_t job_count;
} output;

static void output_free(output *o)
{
    for (size_t i = 0; o->writers && i < o->files.count; i++)
        nb_gguf_writer_abort(o->writers[i]);
    free(o->writers);
    free(o->jobs);
    nb_quantize_files_free(&o->files);
}

static nb_status open_file(output *o, size_t file, const nb_source *s, const char *out,
                           const nb_type_info *const *types, nb_error *err)
{
    const nb_quantize_file *f = &o->files.items[file];
    char *path = path_of(out, file, o->files.count);
    if (!path)
        return nb_fail_memory(err, out, strlen(out));
    nb_status status = check_target(s, path, err);
    if (status == NB_OK)
        status = nb_gguf_writer_open(path, 0, &o->writers[file], err);
    free(path);
    if (status != NB_OK)
        return status;
    nb_quantize_files_put(&o->files, file, s, types, o->writers[file]);
    for (size_t i = 0; i < f->count; i++)
        o->jobs[o->job_count++] = (nb_quantize_job){
            .tensor = f->tensors[i], .type = types[f->tensors[i]], .writer = o->writers[file], .place = i};
    return nb_gguf_writer_begin(o->writers[file], err);
}

static nb_status write_all(output *o, const nb_source *s, const char *out, const nb_quantize_params *p,
                           const nb_type_info *const *types, nb_quantize_progress_fn *progress, void *user,
                           nb_error *err)
{
    NB_TRY(nb_quantize_files_make(s, p, types, &o->files, err));
    o->writers = calloc(o->files.count, sizeof *o->writers);
    o->jobs = calloc(s->tensor_count + 1, sizeof *o->jobs);
    if (!o->writers || !o->jobs)
        return nb_fail_memory(err, out, s->tensor_count * sizeof *o->jobs);
    for (size_t i = 0; i < o->files.count; i++)
        NB_TRY(open_file(o, i, s, out, types, err));
    NB_TRY(nb_quantize_rows(s, p, o->jobs, o->job_count, progress, user, err));
    /* the first one last: without it the others do not open */
    for (size_t i = o->files.count; i-- > 0;) {
        nb_gguf_writer *w = o->writers[i];
        o->writers[i] = NULL;
        NB_TRY(nb_gguf_writer_commit(w, err));
    }
    return NB_OK;
}

nb_status nb_quantize(const nb_source *s, const char *out, const nb_quantize_params *p,
                      nb_quantize_progress_fn *progress, void *user, nb_quantize_result *result, nb_error *err)
{
    output o = {0};
    nb_quantize_result unasked;
    const nb_type_info **types = calloc(s->tensor_count + 1, sizeof *types);
    if (!types)
        return nb_fail_memory(err, s->path, s->tensor_count * sizeof *types);
    nb_status status = nb_quantize_plan(s, p, types, result ? result : &unasked, err);
    if (status == NB_OK)
        status = write_all(&o, s, out, p, types, progress, user, err);
    output_free(&o);
    free(types);
    return status;
}
