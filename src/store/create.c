/* create.c - a model's layers gathered, its texts and configuration written, its manifest last. */
#include "store/create.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json_write.h"
#include "hf/hf_missing.h"
#include "store/create_files.h"
#include "store/create_internal.h"
#include "store/digest.h"
#include "store/entry.h"
#include "text/gotemplate.h"

/* ---- what is told ---- */

nb_status nb_creation_tell(const nb_creation *c, const char *what, uint64_t done, uint64_t total, nb_error *err)
{
    if (!c->p->status || c->p->status(c->p->user, what, done, total))
        return NB_OK;
    return nb_fail(err, NB_ERR_CANCELLED, "stopped while it was %s", what);
}

nb_status nb_creation_say(const nb_creation *c, nb_error *err, const char *format, ...)
{
    char line[400];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return nb_creation_tell(c, line, 0, 0, err);
}

bool nb_creation_copied(void *creation, uint64_t done, uint64_t total)
{
    return nb_creation_tell(creation, "copying model", done, total, NULL) == NB_OK;
}

bool nb_creation_hashed(void *creation, uint64_t done, uint64_t total)
{
    return nb_creation_tell(creation, "hashing model", done, total, NULL) == NB_OK;
}

/* ---- layers ---- */

nb_status nb_creation_add(nb_creation *c, const nb_layer *layer, nb_error *err)
{
    if (c->count == c->room) {
        size_t room = c->room ? 2 * c->room : 16;
        nb_layer *bigger = NB_ARRAY(&c->arena, nb_layer, room);
        if (!bigger)
            return nb_fail_memory(err, "layers", room * sizeof *bigger);
        if (c->count)
            memcpy(bigger, c->layers, c->count * sizeof *bigger);
        c->layers = bigger;
        c->room = room;
    }
    c->layers[c->count++] = *layer;
    return NB_OK;
}

static nb_status add_model(nb_creation *c, const nb_layer *layer, nb_error *err)
{
    nb_layer *kept = NB_NEW(&c->arena, nb_layer);
    if (!kept)
        return nb_fail_memory(err, "layers", sizeof *kept);
    *kept = *layer;
    c->model = kept;
    return nb_creation_add(c, layer, err);
}

static nb_status put_text(nb_creation *c, const char *media, nb_str text, nb_layer *layer, nb_error *err)
{
    return nb_blob_put(c->store, text, media, &c->arena, layer, err);
}

static nb_status add_text(nb_creation *c, const char *media, nb_str text, nb_error *err)
{
    nb_layer layer;
    if (text.n == 0)
        return NB_OK;
    NB_TRY(put_text(c, media, text, &layer, err));
    return nb_creation_add(c, &layer, err);
}

static bool is_media(const nb_layer *l, const char *media) { return nb_str_eqz(l->media, media); }

static void drop(nb_creation *c, const char *media)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++)
        if (!is_media(&c->layers[i], media))
            c->layers[kept++] = c->layers[i];
    c->count = kept;
}

nb_status nb_creation_blob(nb_creation *c, nb_str digest, const char **path, nb_error *err)
{
    nb_buf text = {0};
    nb_status status = nb_store_path(nb_store_path_of(c->store), NULL, digest, &text, err);
    if (status == NB_OK && !(*path = nb_arena_strdup(&c->arena, nb_buf_view(&text))))
        status = nb_fail_memory(err, "a path in the model store", text.len);
    nb_buf_free(&text);
    return status;
}

/* ---- GGUF files ---- */

typedef enum what { MODEL, SHARDED, PROJECTOR, ADAPTER } what;

static nb_status look(const char *path, what *out, nb_error *err)
{
    nb_source *s;
    NB_TRY(nb_source_open_gguf(path, &s, err));
    nb_str type = nb_source_text(s, "general.type"), architecture = nb_source_text(s, "general.architecture");
    *out = nb_str_eqz(type, "adapter")                                      ? ADAPTER
           : nb_str_eqz(architecture, "clip") || nb_str_eqz(type, "mmproj") ? PROJECTOR
           : s->file_count > 1                                              ? SHARDED
                                                                            : MODEL;
    nb_source_free(s);
    return NB_OK;
}

static nb_status add_gguf(nb_creation *c, const char *path, nb_error *err)
{
    what is;
    nb_layer layer;
    NB_TRY(look(path, &is, err));
    if (is == ADAPTER)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: is an adapter, not a model; name it with ADAPTER", path);
    if (is != PROJECTOR && c->model)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: is a second model; a model is made of one", path);
    if (is == SHARDED || (is == MODEL && c->wish.given)) {
        NB_TRY(nb_creation_convert(c, path, &layer, err));
        return add_model(c, &layer, err);
    }
    NB_TRY(nb_blob_import(c->store, path, is == PROJECTOR ? NB_MEDIA("projector") : NB_MEDIA("model"), c->p->link,
                          &c->arena, &layer, nb_creation_copied, c, err));
    return is == PROJECTOR ? nb_creation_add(c, &layer, err) : add_model(c, &layer, err);
}

static nb_status add_gguf_in(void *creation, const char *path, nb_error *err) { return add_gguf(creation, path, err); }

/* Beside a checkpoint: GGUF files of the same model, which it is not made of, and what it sees with. */
static nb_status add_projector_in(void *creation, const char *path, nb_error *err)
{
    what is;
    return look(path, &is, NULL) == NB_OK && is == PROJECTOR ? add_gguf(creation, path, err) : NB_OK;
}

/* A checkpoint, with the projectors that lie there, or a folder of GGUF files: the first shard of each, all else whole. */
static nb_status add_directory(nb_creation *c, const char *path, nb_error *err)
{
    nb_layer layer;
    size_t found = 0;
    if (!nb_hf_holds(path, "config.json")) {
        NB_TRY(nb_create_each_gguf(path, add_gguf_in, c, &found, err));
        return found ? NB_OK : nb_hf_no_config(path, err);
    }
    if (c->model)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: is a second model; a model is made of one", path);
    NB_TRY(nb_creation_convert(c, path, &layer, err));
    NB_TRY(add_model(c, &layer, err));
    return nb_create_each_gguf(path, add_projector_in, c, &found, err);
}

static nb_status add_path(nb_creation *c, const char *path, nb_error *err)
{
    return nb_hf_is_directory(path) ? add_directory(c, path, err) : add_gguf(c, path, err);
}

/* ---- a client's files ---- */

/* True for one GGUF file, which its blob is as it lies; others are read together, under their names. */
static bool stands_alone(const nb_create_file *f)
{
    nb_str n = f->name;
    bool gguf = n.n >= 5 && memcmp(n.p + n.n - 5, ".gguf", 5) == 0;
    return gguf && !nb_create_is_shard(n);
}

static nb_status add_sent(nb_creation *c, const nb_create_file *files, size_t count,
                          nb_status (*add)(nb_creation *c, const char *path, nb_error *err), nb_error *err)
{
    const char *path;
    bool together = false;
    for (size_t i = 0; i < count; i++) {
        uint64_t size;
        if (files[i].path)
            continue;
        NB_TRY(nb_create_check_name(files[i].name, err));
        if (nb_blob_find(c->store, files[i].digest, &size, err) != NB_OK)
            return nb_fail_prefix(err, err ? err->code : NB_ERR_NOT_FOUND, "%.*s", NB_STR_ARG(files[i].name));
        together |= !stands_alone(&files[i]);
    }
    for (size_t i = 0; i < count; i++) {
        if (!files[i].path && together)
            continue;
        path = files[i].path;
        if (!path)
            NB_TRY(nb_creation_blob(c, files[i].digest, &path, err));
        NB_TRY(add(c, path, err));
    }
    if (!together)
        return NB_OK;
    NB_TRY(nb_create_link_files(c->store, files, count, &c->scratch, err));
    nb_status status = add(c, c->scratch.data, err);
    nb_create_remove_files(&c->scratch);
    return status;
}

/* ---- what it is made from ---- */

static nb_status take_base(nb_creation *c, nb_error *err)
{
    nb_library_params where = {.root = nb_store_path_of(c->store)};
    NB_TRY(nb_library_open(&where, &c->library, err));
    NB_TRY(nb_library_find(c->library, c->p->from, &c->base, err));
    NB_TRY(nb_entry_check(c->base, err));
    NB_TRY(nb_entry_contents(c->base, &c->contents, err));
    const nb_manifest *m = c->base->manifest;
    for (size_t i = 0; i < m->count; i++) {
        nb_layer l = m->layers[i];
        bool model = is_media(&l, NB_MEDIA("model"));
        l.from = NB_STR(""); /* what a model was made from does not change what it is */
        l.found = true;
        if (model && c->contents->model && c->wish.given)
            NB_TRY(nb_creation_convert(c, c->contents->model, &l, err));
        NB_TRY(model && c->contents->model ? add_model(c, &l, err) : nb_creation_add(c, &l, err));
    }
    return NB_OK;
}

static nb_status gather(nb_creation *c, nb_error *err)
{
    NB_TRY(nb_creation_say(c, err, "gathering model components"));
    if (c->p->from.n)
        NB_TRY(take_base(c, err));
    NB_TRY(add_sent(c, c->p->files, c->p->file_count, add_path, err));
    if (c->model || (c->p->from.n && !c->wish.given))
        return NB_OK;
    if (c->p->from.n)
        return nb_fail(err, NB_ERR_ARGUMENT, "%.*s has no GGUF model to quantize", NB_STR_ARG(c->p->from));
    return nb_fail(err, NB_ERR_ARGUMENT,
                   "there is no model to create it of; name a model, a GGUF file or a checkpoint");
}

static nb_status add_adapter(nb_creation *c, const char *path, nb_error *err)
{
    nb_layer layer;
    NB_TRY(nb_creation_adapter(c, path, c->p->link, &layer, err));
    return nb_creation_add(c, &layer, err);
}

static nb_status add_draft(nb_creation *c, nb_error *err)
{
    const nb_create_file *f = &c->p->draft;
    const char *path = f->path;
    nb_layer layer;
    what is;
    if (!path && f->digest.n == 0)
        return NB_OK;
    if (!path)
        NB_TRY(nb_creation_blob(c, f->digest, &path, err));
    NB_TRY(look(path, &is, err));
    if (is != MODEL)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: a draft is one GGUF file of a model", path);
    drop(c, NB_MEDIA("draft"));
    NB_TRY(
        nb_blob_import(c->store, path, NB_MEDIA("draft"), c->p->link, &c->arena, &layer, nb_creation_copied, c, err));
    return nb_creation_add(c, &layer, err);
}

/* ---- texts ---- */

static nb_status add_template(nb_creation *c, nb_error *err)
{
    nb_gotemplate *t = NULL;
    if (!c->p->has_template)
        return NB_OK;
    drop(c, NB_MEDIA("template"));
    drop(c, NB_MEDIA("prompt"));
    if (nb_gotemplate_compile(c->p->go_template, &t, err) != NB_OK)
        return nb_fail_prefix(err, NB_ERR_ARGUMENT, "the template is no Go template");
    nb_gotemplate_free(t);
    return add_text(c, NB_MEDIA("template"), c->p->go_template, err);
}

static nb_status add_params(nb_creation *c, nb_error *err)
{
    nb_param *params;
    size_t count;
    nb_buf text = {0};
    const nb_contents *base = c->contents;
    NB_TRY(nb_params_merge(base ? base->params : NULL, base ? base->param_count : 0, c->p->params, c->p->param_count,
                           &c->arena, &params, &count, err));
    drop(c, NB_MEDIA("params"));
    if (count == 0)
        return NB_OK;
    nb_params_write(params, count, &text);
    nb_status status = text.failed ? nb_fail_memory(err, "parameters", text.len)
                                   : add_text(c, NB_MEDIA("params"), nb_buf_view(&text), err);
    nb_buf_free(&text);
    return status;
}

static nb_status add_messages(nb_creation *c, nb_error *err)
{
    nb_buf text = {0};
    nb_json j = nb_json_begin(&text, false);
    j.html = true;
    if (c->p->message_count == 0)
        return NB_OK;
    drop(c, NB_MEDIA("messages"));
    nb_json_open(&j, '[');
    for (size_t i = 0; i < c->p->message_count; i++) {
        nb_json_open(&j, '{');
        nb_json_key(&j, "role");
        nb_json_str(&j, c->p->messages[i].role);
        nb_json_key(&j, "content");
        nb_json_str(&j, c->p->messages[i].content);
        nb_json_close(&j, '}');
    }
    nb_json_close(&j, ']');
    nb_buf_char(&text, '\n');
    nb_status status = text.failed ? nb_fail_memory(err, "messages", text.len)
                                   : add_text(c, NB_MEDIA("messages"), nb_buf_view(&text), err);
    nb_buf_free(&text);
    return status;
}

static nb_status add_texts(nb_creation *c, nb_error *err)
{
    NB_TRY(add_template(c, err));
    if (c->p->has_system) {
        drop(c, NB_MEDIA("system"));
        NB_TRY(add_text(c, NB_MEDIA("system"), c->p->system, err));
    }
    for (size_t i = 0; i < c->p->license_count; i++)
        NB_TRY(add_text(c, NB_MEDIA("license"), c->p->licenses[i], err));
    NB_TRY(add_params(c, err));
    return add_messages(c, err);
}

/* ---- the configuration ---- */

static void put_str(nb_json *j, const char *key, nb_str value, bool always)
{
    if (!always && value.n == 0)
        return;
    nb_json_key(j, key);
    nb_json_str(j, value);
}

/* "v0.14.0" or "0.14.0", with what semantic versions may have behind */
static nb_status check_requires(nb_str *s, nb_error *err)
{
    nb_str given = *s;
    char text[64] = "";
    int end = 0, part[3];
    if (given.n == 0)
        return NB_OK;
    if (s->p[0] == 'v' || s->p[0] == 'V')
        *s = (nb_str){s->p + 1, s->n - 1};
    if (s->n > 0 && s->n < sizeof text && s->p[0] >= '0' && s->p[0] <= '9')
        memcpy(text, s->p, s->n);
    if (sscanf(text, "%6d.%6d.%6d%n", &part[0], &part[1], &part[2], &end) == 3 && end > 0 && part[1] >= 0 &&
        part[2] >= 0 && (text[end] == 0 || text[end] == '-' || text[end] == '+'))
        return NB_OK;
    return nb_fail(err, NB_ERR_ARGUMENT, "'%.*s' is no version to require; write one such as 0.14.0",
                   NB_STR_ARG(given));
}

/* The model's architecture and those of its projectors. */
static nb_status put_families(nb_creation *c, nb_str family, nb_json *j, nb_error *err)
{
    nb_json_key(j, "model_families");
    nb_json_open(j, '[');
    nb_json_str(j, family);
    for (size_t i = 0; i < c->count; i++) {
        const char *path;
        nb_source *s;
        if (!is_media(&c->layers[i], NB_MEDIA("projector")))
            continue;
        NB_TRY(nb_creation_blob(c, c->layers[i].digest, &path, err));
        NB_TRY(nb_source_open_gguf(path, &s, err));
        nb_json_str(j, nb_source_text(s, "general.architecture"));
        nb_source_free(s);
    }
    nb_json_close(j, ']');
    return NB_OK;
}

static nb_status put_facts(nb_creation *c, nb_json *j, nb_error *err)
{
    const char *path;
    nb_source *s;
    nb_facts f;
    NB_TRY(nb_creation_blob(c, c->model->digest, &path, err));
    NB_TRY(nb_source_open_gguf(path, &s, err));
    nb_status status = nb_facts_read(s, &c->arena, &f, err);
    nb_source_free(s);
    NB_TRY(status);
    nb_json_put_z(j, "model_format", "gguf");
    put_str(j, "model_family", f.architecture, true);
    NB_TRY(put_families(c, f.architecture, j, err));
    nb_json_put_z(j, "model_type", f.parameter_size);
    nb_json_put_z(j, "file_type", f.quantization);
    return NB_OK;
}

static void put_texts(nb_json *j, const char *key, const nb_str *texts, size_t count)
{
    nb_json_key(j, key);
    nb_json_open(j, '[');
    for (size_t i = 0; i < count; i++)
        nb_json_str(j, texts[i]);
    nb_json_close(j, ']');
}

/* What holds no GGUF file is described as it was. */
static void put_base_facts(const nb_config *b, nb_json *j)
{
    put_str(j, "model_format", b->format, true);
    put_str(j, "model_family", b->family, true);
    put_texts(j, "model_families", b->families, b->family_count);
    put_str(j, "model_type", b->type, true);
    put_str(j, "file_type", b->file_type, true);
}

static void put_remote(const nb_config *b, nb_json *j)
{
    put_str(j, "remote_host", b->remote_host, false);
    put_str(j, "remote_model", b->remote_model, false);
    if (b->capability_count)
        put_texts(j, "capabilities", b->capabilities, b->capability_count);
    if (b->context_length)
        nb_json_put_uint(j, "context_length", b->context_length);
    if (b->embedding_length)
        nb_json_put_uint(j, "embedding_length", b->embedding_length);
}

static nb_status write_config(nb_creation *c, nb_buf *out, nb_error *err)
{
    static const nb_config none;
    const nb_config *b = c->contents ? &c->contents->config : &none;
    nb_json j = nb_json_begin(out, false);
    j.html = true;
    nb_json_open(&j, '{');
    if (c->model)
        NB_TRY(put_facts(c, &j, err));
    else
        put_base_facts(b, &j);
    put_str(&j, "renderer", c->p->renderer.n ? c->p->renderer : b->renderer, false);
    put_str(&j, "parser", c->p->parser.n ? c->p->parser : b->parser, false);
    put_str(&j, "requires", c->requires_.n ? c->requires_ : b->requires_, false);
    if (!c->model)
        put_remote(b, &j);
    nb_json_put_z(&j, "architecture", "amd64"); /* on every machine: registries want one, models have none */
    nb_json_put_z(&j, "os", "linux");
    nb_json_close(&j, '}');
    nb_buf_char(out, '\n');
    return out->failed ? nb_fail_memory(err, "configuration", out->len) : NB_OK;
}

/* ---- all of it ---- */

/* One order whatever it was made of, the one in which Ollama adds them: the same layers are the same model. */
static int rank(const nb_layer *l)
{
    static const char *const order[] = {NB_MEDIA("projector"), NB_MEDIA("adapter"), NB_MEDIA("draft"),
                                        NB_MEDIA("template"),  NB_MEDIA("prompt"),  NB_MEDIA("system"),
                                        NB_MEDIA("license"),   NB_MEDIA("params"),  NB_MEDIA("messages")};
    for (int i = 0; i < (int)(sizeof order / sizeof *order); i++)
        if (is_media(l, order[i]))
            return i + 1;
    return 0;
}

static void sort_layers(nb_layer *l, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        nb_layer x = l[i];
        size_t j = i;
        for (; j > 0 && rank(&l[j - 1]) > rank(&x); j--)
            l[j] = l[j - 1];
        l[j] = x;
    }
}

static nb_status create(nb_creation *c, nb_error *err)
{
    nb_layer config;
    nb_buf text = {0};
    NB_TRY(nb_create_wish_read(c->p->quantize, c->p->text.n > 0, &c->wish, err));
    c->requires_ = c->p->requires_;
    NB_TRY(check_requires(&c->requires_, err));
    NB_TRY(gather(c, err));
    NB_TRY(add_sent(c, c->p->adapters, c->p->adapter_count, add_adapter, err));
    NB_TRY(add_draft(c, err));
    NB_TRY(add_texts(c, err));
    sort_layers(c->layers, c->count);
    for (size_t i = 0; i < c->count; i++)
        NB_TRY(nb_creation_say(c, err, "%s %.*s", c->layers[i].found ? "using existing layer" : "creating new layer",
                               NB_STR_ARG(c->layers[i].digest)));
    nb_status status = write_config(c, &text, err);
    if (status == NB_OK)
        status = put_text(c, "application/vnd.docker.container.image.v1+json", nb_buf_view(&text), &config, err);
    nb_buf_free(&text);
    NB_TRY(status);
    NB_TRY(nb_creation_say(c, err, "writing manifest"));
    NB_TRY(nb_model_put(c->store, &c->p->name, &config, c->layers, c->count, err));
    return nb_creation_say(c, err, "success");
}

nb_status nb_create(nb_store *s, const nb_create_params *params, nb_error *err)
{
    nb_error own;
    nb_creation c = {.store = s, .p = params};
    nb_status status = create(&c, err ? err : &own);
    nb_create_remove_files(&c.scratch);
    nb_entry_release(c.base);
    nb_library_close(c.library);
    nb_arena_free(&c.arena);
    nb_buf_free(&c.scratch);
    return status;
}
