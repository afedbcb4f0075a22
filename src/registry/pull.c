/* A model from a registry: its manifest, then blob after blob, each by many connections, then the manifest's file. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "registry/download.h"
#include "registry/hub.h"
#include "registry/place.h"
#include "store/digest.h"
#include "store/write.h"

enum { MANIFEST_MAX = 4 << 20, WAIT_MS = 200, KEEP_SECONDS = 7 * 24 * 3600 };
static const uint64_t blob_most = (uint64_t)1 << 46; /* larger than any disk: the size is a lie */

typedef struct blob {
    const nb_layer *layer;
    char digest[7 + NB_DIGEST_TEXT]; /* "sha256:..." */
    nb_buf path;                     /* where its download grows */
} blob;

typedef struct pull {
    const nb_transfer_params *p;
    const nb_name *name;
    nb_web *web;
    nb_store *store;
    nb_buf bytes; /* of the manifest */
    nb_manifest *manifest;
    blob *blobs;
    size_t count;
} pull;

/* ---- the manifest ---- */

static nb_status check_manifest_digest(const nb_answer *a, nb_error *err)
{
    char hex[NB_DIGEST_TEXT];
    nb_str said = nb_answer_field(a, NB_FIELD_CONTENT_DIGEST), body = nb_buf_view(&a->body);
    if (!nb_str_starts(said, NB_STR("sha256:")))
        return NB_OK;
    NB_TRY(nb_digest_bytes(body.p, body.n, hex, err));
    if (nb_str_eqz((nb_str){said.p + 7, said.n - 7}, hex))
        return NB_OK;
    return nb_fail(err, NB_ERR_FORMAT, "%.*s: the manifest has another digest than the registry says; try again",
                   NB_STR_ARG(nb_url_host(a->url.data)));
}

static nb_status get_manifest(pull *x, nb_error *err)
{
    static const char *const headers[] = {
        "Accept: application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json",
        NULL};
    nb_buf url = {0};
    nb_answer a = {0};
    char text[NB_NAME_TEXT], what[NB_NAME_TEXT + 16];
    nb_buf_printf(&url, "/v2/%s/%s/manifests/%s", x->name->space, x->name->model, x->name->tag);
    nb_request q = {.method = "GET", .url = url.data, .headers = headers, .limit = MANIFEST_MAX};
    nb_name_print(x->name, text);
    snprintf(what, sizeof what, "the model %s", text);
    nb_status status = url.failed ? nb_fail_memory(err, "an address", url.len) : nb_web_send(x->web, &q, &a, err);
    if (status == NB_OK && a.status != 200)
        status = nb_answer_fail(&a, what, err);
    if (status == NB_OK && a.fields[NB_FIELD_CONTENT_ENCODING].len)
        status = nb_fail(err, NB_ERR_FORMAT, "%.*s: the manifest is compressed, though that was not asked for",
                         NB_STR_ARG(nb_url_host(a.url.data)));
    if (status == NB_OK)
        status = check_manifest_digest(&a, err);
    if (status == NB_OK) {
        x->bytes = a.body;
        a.body = (nb_buf){0};
        snprintf(what, sizeof what, "the manifest of %s", text);
        status = nb_manifest_parse(what, nb_buf_view(&x->bytes), &x->manifest, err);
    }
    nb_answer_free(&a);
    nb_buf_free(&url);
    return status;
}

/* ---- what is to be fetched ---- */

static bool there(const pull *x, const blob *b)
{
    uint64_t size;
    return nb_blob_find(x->store, b->layer->digest, &size, NULL) == NB_OK && size == b->layer->size;
}

static bool known(const pull *x, nb_str digest)
{
    for (size_t i = 0; i < x->count; i++)
        if (nb_str_eq(digest, x->blobs[i].layer->digest))
            return true;
    return false;
}

static nb_status add_blob(pull *x, const nb_layer *layer, nb_error *err)
{
    blob *b = &x->blobs[x->count];
    if (known(x, layer->digest))
        return NB_OK;
    b->layer = layer;
    if (layer->size > blob_most)
        return nb_fail(err, NB_ERR_FORMAT, "%s: the manifest speaks of a blob of %" PRIu64 " bytes, which cannot be",
                       x->name->host, layer->size);
    NB_TRY(nb_store_partial(x->store, layer->digest, &b->path, err));
    snprintf(b->digest, sizeof b->digest, "sha256:%s", b->path.data + b->path.len - 64);
    x->count++;
    return NB_OK;
}

static nb_status list_blobs(pull *x, nb_error *err)
{
    const nb_manifest *m = x->manifest;
    bool model = false;
    x->blobs = calloc(m->count + 1, sizeof *x->blobs);
    if (!x->blobs)
        return nb_fail_memory(err, "a list of blobs", (m->count + 1) * sizeof *x->blobs);
    for (size_t i = 0; i < m->count; i++) {
        model |= nb_str_starts(m->layers[i].media, NB_STR("application/vnd.ollama.image."));
        NB_TRY(add_blob(x, &m->layers[i], err));
    }
    if (!model || m->config.digest.n == 0)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s/%s/%s is no model: its manifest is of something else",
                       x->name->host, x->name->space, x->name->model);
    return add_blob(x, &m->config, err);
}

/* Before anything is fetched. */
static nb_status check_space(const pull *x, nb_error *err)
{
    struct statvfs v;
    uint64_t needed = 0;
    for (size_t i = 0; i < x->count; i++)
        if (!there(x, &x->blobs[i]))
            needed += x->blobs[i].layer->size - nb_partial_there(x->blobs[i].path.data, x->blobs[i].layer->size);
    if (statvfs(nb_store_path_of(x->store), &v) != 0)
        return NB_OK;
    uint64_t left = (uint64_t)v.f_bavail * v.f_frsize;
    if (needed <= left)
        return NB_OK;
    return nb_fail(err, NB_ERR_LIMIT,
                   "%s: %" PRIu64 " MB are to come and %" PRIu64 " MB are free; remove models, or set OLLAMA_MODELS",
                   nb_store_path_of(x->store), needed / 1000000 + 1, left / 1000000);
}

/* ---- one blob ---- */

typedef struct telling {
    const pull *x;
    const blob *b;
    char status[64];
} telling;

static bool tell(void *user, uint64_t done, uint64_t total)
{
    const telling *t = user;
    nb_transfer_tell(t->x->p, t->status, t->b->digest, total, done);
    return true;
}

/* The partial file; *out stays NULL when the blob is there, perhaps by another process or thread meanwhile. */
static nb_status open_partial(const pull *x, telling *t, nb_partial **out, nb_error *err)
{
    const blob *b = t->b;
    *out = NULL;
    while (!there(x, b)) {
        NB_TRY(nb_partial_open(b->path.data, b->layer->size, x->p->part_bytes, out, err));
        if (*out && there(x, b)) { /* who had it open was done between the two */
            nb_partial_remove(*out);
            *out = NULL;
        }
        if (*out)
            return NB_OK;
        tell(t, nb_partial_there(b->path.data, b->layer->size), b->layer->size);
        NB_TRY(nb_transfer_sleep(x->p, WAIT_MS, err));
    }
    nb_partial_forget(b->path.data);
    return NB_OK;
}

static bool go_on(void *user, uint64_t done, uint64_t total)
{
    const nb_transfer_params *p = user;
    (void)done;
    (void)total;
    return !p->stop || !p->stop(p->user);
}

/* Checks the digest of what arrived and makes it a blob. */
static nb_status adopt(pull *x, const blob *b, nb_partial *p, nb_error *err)
{
    nb_arena arena = {0};
    nb_layer layer;
    nb_transfer_tell(x->p, "verifying sha256 digest", NULL, 0, 0);
    NB_TRY(
        nb_blob_keep(x->store, b->layer->digest, KEEP_SECONDS, err)); /* a pull cut off later need not fetch it again */
    nb_status status = nb_blob_adopt(x->store, nb_partial_data(p), nb_str_of(b->digest), "", &arena, &layer, go_on,
                                     (void *)(uintptr_t)x->p, err);
    nb_arena_free(&arena);
    if (status == NB_ERR_FORMAT)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: what arrived as the blob %.19s has another digest: it was damaged or exchanged on the way; "
                       "it is removed, pull again to fetch it anew",
                       x->name->host, b->digest);
    return status;
}

static nb_status fetch(pull *x, const blob *b, nb_error *err)
{
    telling t = {.x = x, .b = b};
    nb_partial *p;
    nb_buf url = {0};
    char what[64];
    nb_transfer_status("pulling", b->layer->digest, t.status);
    nb_transfer_status("the blob", b->layer->digest, what);
    NB_TRY(open_partial(x, &t, &p, err));
    if (!p) {
        tell(&t, b->layer->size, b->layer->size);
        return NB_OK;
    }
    tell(&t, nb_partial_done(p), b->layer->size);
    nb_buf_printf(&url, "/v2/%s/%s/blobs/%s", x->name->space, x->name->model, b->digest);
    nb_download d = {.url = url.data, .what = what, .tell = tell, .user = &t};
    nb_status status = url.failed ? nb_fail_memory(err, "an address", url.len) : nb_download_run(x->web, &d, p, err);
    bool arrived = status == NB_OK;
    if (arrived)
        status = adopt(x, b, p, err);
    if (status == NB_OK)
        nb_partial_taken(p);
    else if (arrived && status == NB_ERR_FORMAT)
        nb_partial_remove(p);
    else
        nb_partial_close(p);
    nb_buf_free(&url);
    return status;
}

/* ---- the whole ---- */

static nb_status run(pull *x, nb_error *err)
{
    nb_transfer_tell(x->p, "pulling manifest", NULL, 0, 0);
    NB_TRY(get_manifest(x, err));
    NB_TRY(nb_store_open(x->p->root, &x->store, err)); /* a name that nobody has leaves no folders */
    NB_TRY(list_blobs(x, err));
    NB_TRY(check_space(x, err));
    for (size_t i = 0; i < x->count; i++)
        NB_TRY(fetch(x, &x->blobs[i], err));
    nb_transfer_tell(x->p, "writing manifest", NULL, 0, 0);
    NB_TRY(nb_model_put_bytes(x->store, x->name, nb_buf_view(&x->bytes), err));
    nb_transfer_tell(x->p, "success", NULL, 0, 0);
    return NB_OK;
}

nb_status nb_pull(const char *text, const nb_transfer_params *p, nb_buf *where, nb_error *err)
{
    nb_name name;
    pull x = {.p = p, .name = &name};
    if (strncmp(text, NB_HUB_SCHEME, strlen(NB_HUB_SCHEME)) == 0)
        return nb_hub_pull(text, p, where, err);
    NB_TRY(nb_name_parse(nb_str_of(text), &name, err));
    nb_status status = nb_place_open(&name, p, &x.web, err);
    if (status == NB_OK)
        status = run(&x, err);
    for (size_t i = 0; x.blobs && i <= x.manifest->count; i++)
        nb_buf_free(&x.blobs[i].path);
    free(x.blobs);
    nb_manifest_free(x.manifest);
    nb_buf_free(&x.bytes);
    nb_store_close(x.store);
    nb_web_close(x.web);
    return status;
}
