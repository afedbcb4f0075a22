/* A model to a registry: HEAD asks for each blob, POST begins an upload, PATCH sends pieces, PUT names the digest; then the
 * manifest. A broken piece is asked about, and sent on from where the registry has it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "registry/fields.h"
#include "registry/place.h"
#include "store/library.h"
#include "store/manifest.h"

enum { MANIFEST_MAX = 4 << 20, ANSWER = 64 << 10 };
static const uint64_t piece_bytes = 32 << 20;

typedef struct push {
    const nb_transfer_params *p;
    const nb_name *name;
    nb_web *web;
    nb_buf root;
} push;

typedef struct upload {
    push *x;
    const nb_layer *layer;
    int fd;
    uint64_t at; /* bytes that the registry has */
    nb_buf url;  /* where the next request goes */
    char status[64], digest[80];
} upload;

static void say(const upload *u, uint64_t done)
{
    nb_transfer_tell(u->x->p, u->status, u->digest, u->layer->size, done);
}

static bool sent(void *user, uint64_t bytes)
{
    const upload *u = user;
    say(u, u->at + bytes);
    return !nb_web_stopped(u->x->web);
}

/* Location, where the upload goes on; some say it in a field of their own. */
static nb_status take_location(upload *u, nb_answer *a, nb_error *err)
{
    nb_buf *own = &a->fields[NB_FIELD_UPLOAD_LOCATION], *general = &a->fields[NB_FIELD_LOCATION];
    if (own->len) {
        nb_buf t = *own;
        *own = *general;
        *general = t;
    }
    return general->len ? nb_web_redirect(u->x->web, a, &u->url, err) : NB_OK;
}

static nb_status has_blob(upload *u, bool *has, nb_error *err)
{
    nb_buf url = {0};
    nb_answer a = {0};
    nb_buf_printf(&url, "/v2/%s/%s/blobs/%s", u->x->name->space, u->x->name->model, u->digest);
    nb_request q = {.method = "HEAD", .url = url.data, .limit = ANSWER};
    nb_status status = url.failed ? nb_fail_memory(err, "an address", url.len) : nb_web_send(u->x->web, &q, &a, err);
    *has = a.status == 200;
    if (status == NB_OK && a.status != 200 && a.status != 404)
        status = nb_answer_fail(&a, "asking for a blob", err);
    nb_answer_free(&a);
    nb_buf_free(&url);
    return status;
}

static nb_status begin(upload *u, bool *has, nb_error *err)
{
    nb_buf url = {0};
    nb_answer a = {0};
    u->at = 0;
    nb_buf_printf(&url, "/v2/%s/%s/blobs/uploads/", u->x->name->space, u->x->name->model);
    nb_request q = {.method = "POST", .url = url.data, .limit = ANSWER, .stay = true};
    nb_status status = url.failed ? nb_fail_memory(err, "an address", url.len) : nb_web_send(u->x->web, &q, &a, err);
    *has = a.status == 201;
    if (status == NB_OK && a.status != 201 && a.status != 202)
        status = nb_answer_fail(&a, "beginning an upload", err);
    if (status == NB_OK && a.status == 202) {
        nb_buf_clear(&u->url);
        status = take_location(u, &a, err);
        if (status == NB_OK && u->url.len == 0)
            status = nb_fail(err, NB_ERR_FORMAT, "%.*s: it takes an upload without saying where; is it a registry?",
                             NB_STR_ARG(nb_url_host(a.url.data)));
    }
    nb_answer_free(&a);
    nb_buf_free(&url);
    return status;
}

/* After a piece that broke off: how much arrived. *lost: the registry knows nothing of the upload any more. */
static nb_status ask(upload *u, bool *lost, nb_error *err)
{
    nb_answer a = {0};
    uint64_t held = 0;
    nb_request q = {.method = "GET", .url = u->url.data, .limit = ANSWER, .stay = true};
    nb_status status = nb_web_send(u->x->web, &q, &a, err);
    *lost = a.status == 404 || a.status == 405 || a.status == 410;
    if (status == NB_OK && !*lost && a.status != 200 && a.status != 202 && a.status != 204)
        status = nb_answer_fail(&a, "asking how much of an upload arrived", err);
    if (status == NB_OK && !*lost) {
        nb_str range = nb_answer_field(&a, NB_FIELD_RANGE);
        if (!nb_upload_range_parse(range, &held) || held > u->layer->size)
            *lost = true;
        /* "0-0" is one byte, and what registries say of an upload that has none */
        u->at = held <= 1 ? 0 : held;
        *lost |= held == 1;
        if (!*lost)
            status = take_location(u, &a, err);
    }
    nb_answer_free(&a);
    return status;
}

static nb_status send_piece(upload *u, uint64_t n, const char *method, nb_answer *a, nb_error *err)
{
    char range[80];
    snprintf(range, sizeof range, "Content-Range: %" PRIu64 "-%" PRIu64, u->at, u->at + n - 1);
    const char *headers[] = {"Content-Type: application/octet-stream", range, NULL};
    const char *bare[] = {"Content-Type:", NULL};
    bool patch = strcmp(method, "PATCH") == 0;
    nb_request q = {.method = method,
                    .url = u->url.data,
                    .headers = patch ? headers : bare,
                    .fd = u->fd,
                    .fd_at = u->at,
                    .fd_bytes = n,
                    .sent = sent,
                    .user = u,
                    .limit = ANSWER,
                    .stay = true,
                    .once = true};
    return nb_web_send(u->x->web, &q, a, err);
}

/* The registry wants the piece elsewhere (as ollama.com does): it goes there by PUT, without the token, and the upload goes on
 * where Docker-Upload-Location says. */
static nb_status send_elsewhere(upload *u, uint64_t n, nb_answer *a, nb_error *err)
{
    nb_buf next = {0}, own = a->fields[NB_FIELD_UPLOAD_LOCATION];
    nb_answer b = {0};
    nb_buf_str(&next, own.len ? nb_buf_view(&own) : nb_buf_view(&u->url));
    nb_status status = nb_web_redirect(u->x->web, a, &u->url, err);
    if (status == NB_OK)
        status = send_piece(u, n, "PUT", &b, err);
    if (status == NB_OK && b.status >= 300)
        status = nb_answer_fail(&b, "sending a piece", err);
    if (status == NB_OK) { /* relative to the registry, not to where the piece went */
        nb_buf_clear(&a->fields[NB_FIELD_LOCATION]);
        nb_buf_str(&a->fields[NB_FIELD_LOCATION], nb_buf_view(&next));
        status = nb_web_redirect(u->x->web, a, &u->url, err);
    }
    nb_answer_free(&b);
    nb_buf_free(&next);
    return status;
}

/* One piece, and what became of it: NB_OK with more in u->at, or with *broken. */
static nb_status next_piece(upload *u, bool *broken, int *pause_ms, int tries, nb_error *err)
{
    uint64_t left = u->layer->size - u->at, n = left < piece_bytes ? left : piece_bytes;
    nb_answer a = {0};
    nb_status status = send_piece(u, n, "PATCH", &a, err);
    *broken = status == NB_ERR_IO || (status == NB_OK && (nb_web_is_passing(a.status) || a.status == 416));
    *pause_ms = nb_web_pause(u->x->web, tries + 1, &a);
    if (*broken) {
        if (status == NB_OK)
            nb_answer_fail(&a, "sending a piece", err);
        status = NB_OK;
    } else if (status == NB_OK && (a.status == 307 || a.status == 308)) {
        status = send_elsewhere(u, n, &a, err);
        u->at += n;
    } else if (status == NB_OK && a.status >= 200 && a.status < 300) {
        status = take_location(u, &a, err);
        u->at += n;
    } else if (status == NB_OK) {
        status = nb_answer_fail(&a, "sending a piece", err);
    }
    nb_answer_free(&a);
    return status;
}

static nb_status send_pieces(upload *u, bool *has, nb_error *err)
{
    int most = nb_web_params_of(u->x->web)->attempts, tries = 0, pause_ms;
    while (u->at < u->layer->size && !*has) {
        bool broken, lost = false;
        NB_TRY(next_piece(u, &broken, &pause_ms, tries, err));
        if (!broken) {
            tries = 0;
            say(u, u->at);
            continue;
        }
        if (++tries >= most)
            return err ? err->code : NB_ERR_IO; /* what broke it */
        NB_TRY(nb_transfer_sleep(u->x->p, pause_ms, err));
        NB_TRY(ask(u, &lost, err));
        if (lost)
            NB_TRY(begin(u, has, err));
    }
    return NB_OK;
}

static nb_status finish(upload *u, nb_error *err)
{
    nb_buf url = {0};
    nb_answer a = {0};
    static const char *const headers[] = {"Content-Type: application/octet-stream", NULL};
    bool query = memchr(u->url.data, '?', u->url.len) != NULL;
    nb_buf_printf(&url, "%s%cdigest=sha256%%3A%s", u->url.data, query ? '&' : '?', u->digest + 7);
    nb_request q = {.method = "PUT", .url = url.data, .headers = headers, .limit = ANSWER, .stay = true};
    nb_status status = url.failed ? nb_fail_memory(err, "an address", url.len) : nb_web_send(u->x->web, &q, &a, err);
    bool has = a.status >= 200 && a.status < 300;
    if (status == NB_OK && a.status == 404) /* an earlier try of this request may have been the one that counted */
        status = has_blob(u, &has, err);
    if (status == NB_OK && !has)
        status = nb_answer_fail(&a, "ending an upload", err);
    nb_answer_free(&a);
    nb_buf_free(&url);
    return status;
}

static nb_status open_blob(upload *u, nb_error *err)
{
    nb_buf path = {0};
    struct stat s;
    nb_status status = nb_store_path(u->x->root.data, NULL, u->layer->digest, &path, err);
    if (status == NB_OK) {
        snprintf(u->digest, sizeof u->digest, "sha256:%s", path.data + path.len - 64);
        u->fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (u->fd < 0)
            status = nb_fail(err, NB_ERR_IO, "%s: cannot be read: %s; pull or create the model again", path.data,
                             strerror(errno));
        else if (fstat(u->fd, &s) != 0 || !S_ISREG(s.st_mode) || (uint64_t)s.st_size != u->layer->size)
            status = nb_fail(err, NB_ERR_FORMAT, "%s: has not the size that the manifest says; create the model again",
                             path.data);
    }
    nb_buf_free(&path);
    return status;
}

static nb_status send_blob(push *x, const nb_layer *layer, nb_error *err)
{
    upload u = {.x = x, .layer = layer, .fd = -1};
    bool has = false;
    nb_transfer_status("pushing", layer->digest, u.status);
    nb_status status = open_blob(&u, err);
    if (status == NB_OK) {
        say(&u, 0);
        status = has_blob(&u, &has, err);
    }
    if (status == NB_OK && !has)
        status = begin(&u, &has, err);
    if (status == NB_OK && !has)
        status = send_pieces(&u, &has, err);
    if (status == NB_OK && !has)
        status = finish(&u, err);
    if (status == NB_OK)
        say(&u, layer->size);
    if (u.fd >= 0)
        close(u.fd);
    nb_buf_free(&u.url);
    return status;
}

static nb_status send_manifest(push *x, nb_str bytes, nb_error *err)
{
    static const char *const headers[] = {"Content-Type: application/vnd.docker.distribution.manifest.v2+json", NULL};
    nb_buf url = {0};
    nb_answer a = {0};
    nb_buf_printf(&url, "/v2/%s/%s/manifests/%s", x->name->space, x->name->model, x->name->tag);
    nb_request q = {.method = "PUT", .url = url.data, .headers = headers, .body = bytes, .limit = ANSWER, .stay = true};
    nb_transfer_tell(x->p, "pushing manifest", NULL, 0, 0);
    nb_status status = url.failed ? nb_fail_memory(err, "an address", url.len) : nb_web_send(x->web, &q, &a, err);
    if (status == NB_OK && (a.status < 200 || a.status >= 300))
        status = nb_answer_fail(&a, "sending the manifest", err);
    nb_answer_free(&a);
    nb_buf_free(&url);
    return status;
}

static nb_status run(push *x, nb_error *err)
{
    nb_manifest *m = NULL;
    nb_buf path = {0}, bytes = {0};
    nb_transfer_tell(x->p, "retrieving manifest", NULL, 0, 0);
    nb_status status = nb_store_path(x->root.data, x->name, NB_STR(""), &path, err);
    if (status == NB_OK && access(path.data, F_OK) != 0) {
        char text[NB_NAME_TEXT];
        nb_name_print(x->name, text);
        status = nb_fail(err, NB_ERR_NOT_FOUND,
                         "model '%s' not found; 'nibble cp' gives a model the name it is pushed to", text);
    }
    if (status == NB_OK)
        status = nb_file_read(path.data, MANIFEST_MAX, &bytes, err);
    if (status == NB_OK)
        status = nb_manifest_parse(path.data, nb_buf_view(&bytes), &m, err);
    for (size_t i = 0; status == NB_OK && i < m->count; i++)
        status = send_blob(x, &m->layers[i], err);
    if (status == NB_OK && m->config.digest.n)
        status = send_blob(x, &m->config, err);
    if (status == NB_OK)
        status = send_manifest(x, nb_buf_view(&bytes), err);
    if (status == NB_OK)
        nb_transfer_tell(x->p, "success", NULL, 0, 0);
    nb_manifest_free(m);
    nb_buf_free(&path);
    nb_buf_free(&bytes);
    return status;
}

nb_status nb_push(const char *text, const nb_transfer_params *p, nb_error *err)
{
    nb_name name;
    push x = {.p = p, .name = &name};
    NB_TRY(nb_name_parse(nb_str_of(text), &name, err));
    nb_status status = NB_OK;
    if (p->root)
        nb_buf_z(&x.root, p->root);
    else
        status = nb_store_root(&x.root, err);
    if (status == NB_OK && x.root.failed)
        status = nb_fail_memory(err, "a path", x.root.len);
    if (status == NB_OK)
        status = nb_place_open(&name, p, &x.web, err);
    if (status == NB_OK)
        status = run(&x, err);
    nb_web_close(x.web);
    nb_buf_free(&x.root);
    return status;
}
