/* create_read.c - a Modelfile as what is to be created: its paths found, its parameters put together. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "store/create.h"

typedef struct reading {
    const nb_modelfile *m;
    const char *folder;
    nb_arena *arena;
    nb_create_params *out;
    nb_error *err;
    nb_create_file *files, *adapters;
    nb_str *licenses;
    nb_stored_message *messages;
    nb_param *params;
} reading;

/* "~/x" is in the home folder, "x" in the Modelfile's; NULL: no memory */
static const char *full_path(const reading *r, nb_str value)
{
    nb_buf path = {0};
    const char *home = getenv("HOME");
    if (value.n && value.p[0] == '~' && (value.n == 1 || value.p[1] == '/') && home)
        nb_buf_printf(&path, "%s%.*s", home, (int)value.n - 1, value.p + 1);
    else if (value.p[0] == '/')
        nb_buf_str(&path, value);
    else
        nb_buf_printf(&path, "%s/%.*s", r->folder, (int)value.n, value.p);
    const char *kept = path.failed ? NULL : nb_arena_strdup(r->arena, nb_buf_view(&path));
    nb_buf_free(&path);
    return kept;
}

static bool looks_like_path(nb_str s)
{
    nb_name name;
    return s.p[0] == '/' || s.p[0] == '.' || s.p[0] == '~' || (s.n > 5 && memcmp(s.p + s.n - 5, ".gguf", 5) == 0) ||
           nb_name_parse(s, &name, NULL) != NB_OK;
}

static nb_status find_file(const reading *r, const nb_modelfile_line *l, nb_create_file *out)
{
    struct stat st;
    out->path = full_path(r, l->value);
    if (!out->path)
        return nb_fail_memory(r->err, "a path", l->value.n);
    if (stat(out->path, &st) == 0)
        return NB_OK;
    return nb_fail(r->err, errno == ENOENT ? NB_ERR_NOT_FOUND : NB_ERR_IO, "(line %d): %s: %s; check the path", l->line,
                   out->path, strerror(errno));
}

static nb_status read_from(reading *r, const nb_modelfile_line *l)
{
    nb_create_file file = {0};
    nb_create_params *p = r->out;
    nb_status status = find_file(r, l, &file);
    if (status == NB_OK)
        r->files[p->file_count++] = file;
    if (status != NB_ERR_NOT_FOUND || looks_like_path(l->value))
        return status;
    if (p->from.n)
        return nb_fail(r->err, NB_ERR_ARGUMENT, "(line %d): a model is made from one other, here from %.*s and %.*s",
                       l->line, NB_STR_ARG(p->from), NB_STR_ARG(l->value));
    p->from = l->value;
    return NB_OK;
}

/* The last of a name holds; stop strings add up. */
static void add_param(reading *r, const nb_param *param)
{
    size_t n = r->out->param_count, at = 0;
    while (at < n && (param->in_array || !nb_str_eq(r->params[at].key, param->key)))
        at++;
    r->params[at] = *param;
    r->out->param_count = nb_max_size(n, at + 1);
}

static nb_status read_line(reading *r, const nb_modelfile_line *l)
{
    nb_create_params *p = r->out;
    switch (l->command) {
    case NB_MODELFILE_FROM: return read_from(r, l);
    case NB_MODELFILE_ADAPTER: return find_file(r, l, &r->adapters[p->adapter_count++]);
    case NB_MODELFILE_DRAFT: return find_file(r, l, &p->draft);
    case NB_MODELFILE_TEMPLATE:
        p->has_template = true;
        p->go_template = l->value;
        break;
    case NB_MODELFILE_SYSTEM:
        p->has_system = true;
        p->system = l->value;
        break;
    case NB_MODELFILE_RENDERER: p->renderer = l->value; break;
    case NB_MODELFILE_PARSER: p->parser = l->value; break;
    case NB_MODELFILE_REQUIRES: p->requires_ = l->value; break;
    case NB_MODELFILE_PARAMETER: add_param(r, &l->param); break;
    case NB_MODELFILE_LICENSE: r->licenses[p->license_count++] = l->value; break;
    case NB_MODELFILE_MESSAGE: r->messages[p->message_count++] = (nb_stored_message){l->key, l->value}; break;
    }
    return NB_OK;
}

nb_status nb_create_read(const nb_modelfile *m, const char *folder, nb_arena *arena, nb_create_params *out,
                         nb_error *err)
{
    size_t n = m->count + 1;
    nb_error own;
    reading r = {.m = m, .folder = folder, .arena = arena, .out = out, .err = err ? err : &own};
    r.files = NB_ARRAY(arena, nb_create_file, n);
    r.adapters = NB_ARRAY(arena, nb_create_file, n);
    r.licenses = NB_ARRAY(arena, nb_str, n);
    r.messages = NB_ARRAY(arena, nb_stored_message, n);
    r.params = NB_ARRAY(arena, nb_param, n);
    if (!r.files || !r.adapters || !r.licenses || !r.messages || !r.params)
        return nb_fail_memory(err, "Modelfile", n * sizeof *r.params);
    out->files = r.files;
    out->adapters = r.adapters;
    out->licenses = r.licenses;
    out->messages = r.messages;
    for (size_t i = 0; i < m->count; i++)
        NB_TRY(read_line(&r, &m->lines[i]));
    nb_param *sorted;
    NB_TRY(nb_params_merge(NULL, 0, r.params, out->param_count, arena, &sorted, &out->param_count, err));
    out->params = sorted;
    return NB_OK;
}
