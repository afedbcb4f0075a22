/* /api/blobs, /api/copy and /api/delete. Names and digests come from anybody: they become paths in nb_store_path alone, and what
 * is told of files is whether a blob of a whole digest is there. */
#include "server/store_routes.h"

#include <stdlib.h>

#include "server/body.h"
#include "server/routes.h"

enum { KEEP_SECONDS = 24 * 3600 }; /* of a blob that was sent before it is said what for */

nb_status nb_http_store(const nb_http_request *r, nb_store **out, nb_error *err)
{
    const char *root = nb_library_root(nb_http_library(r));
    *out = NULL;
    if (!*root)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "this server has no model store: it was started with --no-store");
    return nb_store_open(root, out, err);
}

/* ---- blobs ---- */

typedef struct upload {
    nb_store *store;
    nb_blob *blob; /* NULL: it is there already, and what comes is passed over */
} upload;

static void end_upload(void *kept)
{
    upload *u = kept;
    nb_blob_abandon(u->blob);
    nb_store_close(u->store);
    free(u);
}

static nb_status begin_upload(nb_http_request *r, upload **out, nb_error *err)
{
    uint64_t size;
    upload *u = calloc(1, sizeof *u);
    *out = u;
    if (!u)
        return nb_fail_memory(err, "a blob", sizeof *u);
    nb_http_keep(r, u, end_upload);
    NB_TRY(nb_http_store(r, &u->store, err));
    nb_status status = nb_blob_find(u->store, nb_http_rest(r), &size, err);
    return status == NB_ERR_NOT_FOUND ? nb_blob_begin(u->store, &u->blob, err) : status;
}

nb_status nb_take_blob(nb_http_request *r, nb_str piece, nb_error *err)
{
    upload *u = nb_http_kept(r);
    if (!u)
        NB_TRY(begin_upload(r, &u, err));
    return u->blob ? nb_blob_write(u->blob, piece.p, piece.n, err) : NB_OK;
}

static nb_status finish_upload(nb_http_request *r, int *answer, nb_error *err)
{
    upload *u = nb_http_kept(r);
    nb_arena arena = {0};
    nb_layer layer;
    if (!u) /* of no bytes */
        NB_TRY(begin_upload(r, &u, err));
    *answer = 200;
    if (!u->blob)
        return NB_OK;
    nb_blob *blob = u->blob;
    u->blob = NULL;
    nb_status status = nb_blob_finish(blob, nb_http_rest(r), &arena, &layer, err);
    if (status == NB_OK)
        status = nb_blob_keep(u->store, layer.digest, KEEP_SECONDS, err);
    nb_arena_free(&arena);
    *answer = 201;
    return status;
}

void nb_route_blob(nb_http_request *r)
{
    int answer;
    nb_error err;
    if (finish_upload(r, &answer, &err) == NB_OK)
        nb_http_reply(r, answer, "text/plain", NB_STR(""));
    else
        nb_http_fail(r, 0, &err);
}

void nb_route_blob_head(nb_http_request *r)
{
    nb_store *store;
    nb_error err;
    uint64_t size;
    nb_status status = nb_http_store(r, &store, &err);
    if (status == NB_OK)
        status = nb_blob_find(store, nb_http_rest(r), &size, &err);
    nb_store_close(store);
    if (status == NB_OK)
        nb_http_reply(r, 200, "text/plain", NB_STR(""));
    else
        nb_http_fail(r, 0, &err);
}

/* ---- names ---- */

static void read_name(nb_body *b, const char *key, const char *other, nb_name *out)
{
    nb_str text;
    if (b->status != NB_OK)
        return;
    if (!nb_body_text(b, b->root, key, &text) && !(other && nb_body_text(b, b->root, other, &text)))
        nb_body_fail(b, "\"%s\" is missing", key);
    if (b->status == NB_OK)
        b->status = nb_name_parse(text, out, &b->error);
}

static void answer_empty(nb_http_request *r, nb_body *b)
{
    if (b->status == NB_OK)
        nb_http_reply(r, 200, "application/json", NB_STR(""));
    else
        nb_http_fail(r, 0, &b->error);
    nb_body_close(b);
}

void nb_route_copy(nb_http_request *r)
{
    nb_body b;
    nb_name from, to;
    nb_store *store = NULL;
    nb_body_open(&b, nb_http_body(r));
    read_name(&b, "source", NULL, &from);
    read_name(&b, "destination", NULL, &to);
    if (b.status == NB_OK)
        b.status = nb_http_store(r, &store, &b.error);
    if (b.status == NB_OK)
        b.status = nb_model_copy(store, &from, &to, &b.error);
    nb_store_close(store);
    answer_empty(r, &b);
}

void nb_route_delete(nb_http_request *r)
{
    nb_body b;
    nb_name name;
    nb_store *store = NULL;
    nb_body_open(&b, nb_http_body(r));
    read_name(&b, "model", "name", &name);
    if (b.status == NB_OK)
        b.status = nb_http_store(r, &store, &b.error);
    if (b.status == NB_OK)
        b.status = nb_model_delete(store, &name, &b.error);
    nb_store_close(store);
    answer_empty(r, &b);
}
