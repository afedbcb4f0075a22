#include "store/manifest.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/json_read.h"
#include "store/digest.h"

/* Far more than any model has: manifests with a layer a tensor have thousands, licenses are tens of kilobytes. */
#define MANIFEST_BYTES ((size_t)16 << 20)
#define TEXT_BYTES ((size_t)8 << 20)
#define LAYERS 100000
#define CONTENTS_BYTES ((size_t)256 << 20)

/* ---- JSON, as Go reads it: null is an absent value ---- */

static bool is_null(nb_json_reader *r)
{
    if (nb_json_read_peek(r) != 'n')
        return false;
    nb_json_read_skip(r);
    return true;
}

static nb_str read_text(nb_json_reader *r) { return is_null(r) ? NB_STR("") : nb_json_read_str(r); }

static uint64_t read_count(nb_json_reader *r) { return is_null(r) ? 0 : nb_json_read_u64(r); }

/* a growing array in an arena: twice the room when it is full */
static void *grow(nb_json_reader *r, void *items, size_t count, size_t size, size_t most)
{
    if (count >= most) {
        nb_json_read_fail(r, r->at, NB_ERR_LIMIT, "there are more than %zu of them", most);
        return NULL;
    }
    if (count & (count - 1) || (count > 0 && count < 4))
        return items;
    void *bigger = nb_arena_array(r->arena, count ? 2 * count : 4, size);
    if (!bigger)
        nb_json_read_fail(r, r->at, NB_ERR_MEMORY, "out of memory for %zu of them", 2 * count);
    else if (count)
        memcpy(bigger, items, count * size);
    return bigger;
}

static void read_texts(nb_json_reader *r, nb_str **out, size_t *count)
{
    if (is_null(r))
        return;
    nb_json_read_enter(r, '[');
    while (nb_json_read_more(r)) {
        nb_str *list = grow(r, *out, *count, sizeof **out, 1000);
        if (!list)
            return;
        *out = list;
        list[(*count)++] = read_text(r);
    }
}

/* ---- the manifest ---- */

static void check_layer(nb_json_reader *r, size_t at, const nb_layer *l, bool needed)
{
    nb_buf path = {0};
    nb_error why;
    if (r->status != NB_OK || (!needed && l->digest.n == 0))
        return;
    if (nb_store_path("", NULL, l->digest, &path, &why) != NB_OK)
        nb_json_read_fail(r, at, why.code == NB_ERR_ARGUMENT ? NB_ERR_FORMAT : why.code, "a layer's %s; %s",
                          why.message, "pull or create the model again");
    nb_buf_free(&path);
}

static void read_layer(nb_json_reader *r, nb_layer *l, bool needed)
{
    size_t at = r->at;
    nb_json_read_enter(r, '{');
    while (nb_json_read_more(r)) {
        nb_str key = nb_json_read_key(r);
        if (nb_str_eqz(key, "mediaType"))
            l->media = read_text(r);
        else if (nb_str_eqz(key, "digest"))
            l->digest = read_text(r);
        else if (nb_str_eqz(key, "size"))
            l->size = read_count(r);
        else if (nb_str_eqz(key, "from"))
            l->from = read_text(r);
        else if (nb_str_eqz(key, "name"))
            l->name = read_text(r);
        else
            nb_json_read_skip(r);
    }
    check_layer(r, at, l, needed);
}

static void read_layers(nb_json_reader *r, nb_manifest *m)
{
    if (is_null(r))
        return;
    nb_json_read_enter(r, '[');
    while (nb_json_read_more(r)) {
        nb_layer *list = grow(r, m->layers, m->count, sizeof *list, LAYERS);
        if (!list)
            return;
        m->layers = list;
        read_layer(r, &list[m->count++], true);
    }
}

static void read_manifest(nb_json_reader *r, nb_manifest *m)
{
    bool config = false, layers = false;
    uint64_t version = 2;
    nb_json_read_enter(r, '{');
    while (nb_json_read_more(r)) {
        size_t at = r->at;
        nb_str key = nb_json_read_key(r);
        bool *seen = nb_str_eqz(key, "config") ? &config : nb_str_eqz(key, "layers") ? &layers : NULL;
        if (seen && *seen)
            nb_json_read_fail(r, at, NB_ERR_FORMAT, "\"%.*s\" is there twice; pull or create the model again",
                              NB_STR_ARG(key));
        if (seen)
            *seen = true;
        if (seen == &config && is_null(r))
            continue;
        if (seen == &config)
            read_layer(r, &m->config, false);
        else if (seen == &layers)
            read_layers(r, m);
        else if (nb_str_eqz(key, "schemaVersion"))
            version = read_count(r);
        else
            nb_json_read_skip(r);
    }
    if (version != 2)
        nb_json_read_fail(r, 0, NB_ERR_UNSUPPORTED, "schemaVersion is %llu; only 2 is read",
                          (unsigned long long)version);
    nb_json_read_end(r);
}

static void add_sizes(nb_json_reader *r, nb_manifest *m)
{
    m->size = m->config.size;
    for (size_t i = 0; i < m->count; i++)
        if (__builtin_add_overflow(m->size, m->layers[i].size, &m->size) || m->size > INT64_MAX)
            nb_json_read_fail(r, 0, NB_ERR_FORMAT, "the sizes of the layers do not fit 63 bits");
}

nb_status nb_manifest_parse(const char *path, nb_str text, nb_manifest **out, nb_error *err)
{
    *out = NULL;
    nb_manifest *m = calloc(1, sizeof *m);
    char *copy = m ? nb_arena_strdup(&m->arena, text) : NULL; /* names point into it */
    if (!copy) {
        nb_manifest_free(m);
        return nb_fail_memory(err, "manifest", text.n);
    }
    nb_json_reader r = nb_json_read_begin(path, (nb_str){copy, text.n}, &m->arena, err);
    read_manifest(&r, m);
    add_sizes(&r, m);
    nb_status status = r.status;
    if (status == NB_OK)
        status = nb_digest_bytes(text.p, text.n, m->digest, err);
    if (status == NB_OK)
        *out = m;
    else
        nb_manifest_free(m);
    return status;
}

nb_status nb_manifest_read(const char *path, nb_manifest **out, nb_error *err)
{
    nb_buf text = {0};
    *out = NULL;
    nb_status status = nb_file_read(path, MANIFEST_BYTES, &text, err);
    if (status == NB_OK)
        status = nb_manifest_parse(path, nb_buf_view(&text), out, err);
    nb_buf_free(&text);
    return status;
}

void nb_manifest_free(nb_manifest *m)
{
    if (m)
        nb_arena_free(&m->arena);
    free(m);
}

/* ---- the configuration ---- */

static void read_config_value(nb_json_reader *r, nb_str key, nb_config *c)
{
    const struct {
        const char *key;
        nb_str *to;
    } texts[] = {{"model_format", &c->format}, {"model_family", &c->family},     {"model_type", &c->type},
                 {"file_type", &c->file_type}, {"renderer", &c->renderer},       {"parser", &c->parser},
                 {"requires", &c->requires_},  {"remote_host", &c->remote_host}, {"remote_model", &c->remote_model}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (nb_str_eqz(key, texts[i].key)) {
            *texts[i].to = read_text(r);
            return;
        }
    if (nb_str_eqz(key, "model_families"))
        read_texts(r, &c->families, &c->family_count);
    else if (nb_str_eqz(key, "capabilities"))
        read_texts(r, &c->capabilities, &c->capability_count);
    else if (nb_str_eqz(key, "context_length"))
        c->context_length = read_count(r);
    else if (nb_str_eqz(key, "embedding_length"))
        c->embedding_length = read_count(r);
    else
        nb_json_read_skip(r);
}

nb_status nb_config_parse(const char *path, nb_str text, nb_arena *arena, nb_config *out, nb_error *err)
{
    *out = (nb_config){0};
    nb_json_reader r = nb_json_read_begin(path, text, arena, err);
    nb_json_read_enter(&r, '{');
    while (nb_json_read_more(&r)) {
        nb_str key = nb_json_read_key(&r);
        read_config_value(&r, key, out);
    }
    return nb_json_read_end(&r);
}

/* ---- layers ---- */

typedef struct opening {
    const char *root;
    nb_contents *c;
    nb_error *err;
} opening;

static nb_status blob_path(opening *o, nb_str digest, const char **out)
{
    nb_buf path = {0};
    nb_status status = nb_store_path(o->root, NULL, digest, &path, o->err);
    if (status == NB_OK && !(*out = nb_arena_strdup(&o->c->arena, nb_buf_view(&path))))
        status = nb_fail_memory(o->err, "path", path.len);
    nb_buf_free(&path);
    return status;
}

static nb_status blob_text(opening *o, const nb_layer *l, const char **path, nb_str *out)
{
    nb_buf text = {0};
    NB_TRY(blob_path(o, l->digest, path));
    nb_status status = nb_file_read(*path, TEXT_BYTES, &text, o->err);
    if (status == NB_ERR_NOT_FOUND)
        status = nb_fail(o->err, NB_ERR_IO, "%s: this layer (%.*s) is missing; pull or create the model again", *path,
                         NB_STR_ARG(l->media));
    if (status == NB_OK) {
        const char *copy = nb_arena_strdup(&o->c->arena, nb_buf_view(&text));
        *out = (nb_str){copy, text.len};
        if (!copy)
            status = nb_fail_memory(o->err, "layer", text.len);
    }
    nb_buf_free(&text);
    return status;
}

static nb_status read_messages(opening *o, const char *path, nb_str text)
{
    nb_contents *c = o->c;
    nb_json_reader r = nb_json_read_begin(path, text, &c->arena, o->err);
    c->messages = NULL;
    c->message_count = 0;
    if (is_null(&r))
        return nb_json_read_end(&r);
    nb_json_read_enter(&r, '[');
    while (nb_json_read_more(&r)) {
        nb_stored_message m = {NB_STR(""), NB_STR("")}, *list;
        nb_json_read_enter(&r, '{');
        while (nb_json_read_more(&r)) {
            nb_str key = nb_json_read_key(&r);
            if (nb_str_eqz(key, "role"))
                m.role = read_text(&r);
            else if (nb_str_eqz(key, "content"))
                m.content = read_text(&r);
            else
                nb_json_read_skip(&r);
        }
        list = grow(&r, c->messages, c->message_count, sizeof *list, LAYERS);
        if (!list)
            break;
        c->messages = list;
        list[c->message_count++] = m;
    }
    return nb_json_read_end(&r);
}

/* one more in a list that has room for all layers */
static nb_status add_path(opening *o, const nb_layer *l, size_t layers, const char ***list, size_t *count)
{
    if (!*list && !(*list = NB_ARRAY(&o->c->arena, const char *, layers)))
        return nb_fail_memory(o->err, "layers", layers * sizeof **list);
    return blob_path(o, l->digest, &(*list)[(*count)++]);
}

static nb_status read_license(opening *o, const nb_layer *l, size_t layers)
{
    nb_contents *c = o->c;
    const char *path;
    if (!c->licenses && !(c->licenses = NB_ARRAY(&c->arena, nb_str, layers)))
        return nb_fail_memory(o->err, "licenses", layers * sizeof *c->licenses);
    return blob_text(o, l, &path, &c->licenses[c->license_count++]);
}

static nb_status read_layer_of(opening *o, const nb_layer *l, size_t layers)
{
    static const char prefix[] = "application/vnd.ollama.image.";
    nb_contents *c = o->c;
    const char *path;
    nb_str text;
    if (!nb_str_starts(l->media, nb_str_of(prefix)))
        return NB_OK;
    nb_str what = {l->media.p + sizeof prefix - 1, l->media.n - (sizeof prefix - 1)};
    if (nb_str_eqz(what, "model")) {
        c->parent = l->from;
        return blob_path(o, l->digest, &c->model);
    }
    if (nb_str_eqz(what, "draft"))
        return blob_path(o, l->digest, &c->draft);
    if (nb_str_eqz(what, "adapter"))
        return add_path(o, l, layers, &c->adapters, &c->adapter_count);
    if (nb_str_eqz(what, "projector"))
        return add_path(o, l, layers, &c->projectors, &c->projector_count);
    if (nb_str_eqz(what, "template") || nb_str_eqz(what, "prompt")) {
        c->has_template = true;
        return blob_text(o, l, &path, &c->go_template);
    }
    if (nb_str_eqz(what, "system"))
        return blob_text(o, l, &path, &c->system);
    if (nb_str_eqz(what, "license"))
        return read_license(o, l, layers);
    if (nb_str_eqz(what, "params")) {
        NB_TRY(blob_text(o, l, &path, &text));
        return nb_params_read(path, text, &c->arena, &c->params, &c->param_count, o->err);
    }
    if (nb_str_eqz(what, "messages")) {
        NB_TRY(blob_text(o, l, &path, &text));
        return read_messages(o, path, text);
    }
    return NB_OK;
}

nb_status nb_contents_read(const char *root, const nb_manifest *m, nb_contents **out, nb_error *err)
{
    *out = NULL;
    nb_contents *c = calloc(1, sizeof *c);
    if (!c)
        return nb_fail_memory(err, "model's layers", sizeof *c);
    opening o = {root, c, err};
    nb_status status = NB_OK;
    const char *path;
    nb_str text;
    c->arena.limit = CONTENTS_BYTES;
    c->parent = c->go_template = c->system = NB_STR("");
    if (m->config.digest.n && (status = blob_text(&o, &m->config, &path, &text)) == NB_OK)
        status = nb_config_parse(path, text, &c->arena, &c->config, err);
    for (size_t i = 0; i < m->count && status == NB_OK; i++)
        status = read_layer_of(&o, &m->layers[i], m->count);
    if (status == NB_OK)
        *out = c;
    else
        nb_contents_free(c);
    return status;
}

void nb_contents_free(nb_contents *c)
{
    if (c)
        nb_arena_free(&c->arena);
    free(c);
}
