/* /api/pull and /api/push: a line of JSON a step, or the last one alone. All clients that
 * wait for the same transfer share it. */
#include <stdlib.h>
#include <time.h>

#include "server/ollama.h"
#include "server/routes.h"
#include "server/store_routes.h"

enum { WAIT_MS = 100, LINE_MS = 60 };

typedef struct transfer {
    nb_http_request *request;
    nb_body body;
    char *name;
    bool stream, insecure;
    nb_buf *out; /* while lines are written */
    nb_shared *shared;
    uint64_t seen;
} transfer;

static void free_transfer(void *state)
{
    transfer *t = state;
    nb_shared_leave(t->shared);
    nb_body_close(&t->body);
    free(t->name);
    free(t);
}

void nb_http_transfer_line(const nb_transfer_event *e, nb_buf *out)
{
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "status", e->status);
    if (e->digest) {
        nb_json_put_z(&j, "digest", e->digest);
        nb_json_put_uint(&j, "total", e->total);
        if (e->completed)
            nb_json_put_uint(&j, "completed", e->completed);
    }
    nb_json_close(&j, '}');
    nb_buf_char(out, '\n');
}

static void write_event(void *user, const nb_transfer_event *e)
{
    transfer *t = user;
    nb_http_transfer_line(e, t->out);
}

static void write_failure(nb_http_request *r, const nb_error *err, nb_buf *out)
{
    nb_http_write_error(nb_http_flavor_of(r), nb_http_status_of(err), err->message, out);
    nb_buf_char(out, '\n');
}

static transfer *read_request(nb_http_request *r)
{
    transfer *t = calloc(1, sizeof *t);
    nb_str model = {0};
    nb_body *b = t ? &t->body : NULL;
    if (!t) {
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        return NULL;
    }
    t->request = r;
    t->stream = true;
    nb_body_open(b, nb_http_body(r));
    if (b->status == NB_OK && !nb_body_text(b, b->root, "model", &model) && !nb_body_text(b, b->root, "name", &model))
        nb_body_fail(b, "\"model\" is missing");
    if (b->status == NB_OK) {
        nb_body_bool(b, b->root, "stream", &t->stream);
        nb_body_bool(b, b->root, "insecure", &t->insecure);
    }
    if (b->status == NB_OK && memchr(model.p, 0, model.n))
        nb_body_fail(b, "\"model\" holds a zero byte");
    if (b->status == NB_OK && !(t->name = strndup(model.p, model.n)))
        nb_body_fail(b, "out of memory");
    if (b->status != NB_OK) {
        nb_http_fail(r, 0, &b->error);
        free_transfer(t);
        return NULL;
    }
    return t;
}

static nb_transfer_params params_of(const transfer *t)
{
    return (nb_transfer_params){.root = nb_library_root(nb_http_library(t->request)), .insecure = t->insecure};
}

/* A server without a store has nothing to pull into or push from. */
static bool has_store(transfer *t)
{
    if (*nb_library_root(nb_http_library(t->request)))
        return true;
    nb_http_fail(t->request, 400,
                 &(nb_error){NB_ERR_UNSUPPORTED, "this server runs without a model store (--no-store)"});
    free_transfer(t);
    return false;
}

/* ---- answers ---- */

static bool more(void *state, nb_buf *out)
{
    transfer *t = state;
    nb_error err;
    bool over = false;
    t->out = out;
    while (out->len == 0 && !over && !out->failed) {
        if (nb_http_gone(t->request))
            return false;
        nb_status status = nb_shared_wait(t->shared, &t->seen, WAIT_MS, write_event, t, &over, &err);
        if (status != NB_OK)
            write_failure(t->request, &err, out);
    }
    if (!over) /* not a line a packet */
        nanosleep(&(struct timespec){.tv_nsec = LINE_MS * 1000000L}, NULL);
    return !over;
}

static void ignore_event(void *user, const nb_transfer_event *e)
{
    (void)user;
    (void)e;
}

/* Without a stream: the client waits for the last line. */
static void answer_at_the_end(transfer *t)
{
    nb_error err = {0};
    nb_status status = NB_OK;
    nb_buf out = {0};
    for (bool over = false; !over && status == NB_OK;) {
        if (nb_http_gone(t->request))
            status = nb_fail(&err, NB_ERR_CANCELLED, "the client left");
        else
            status = nb_shared_wait(t->shared, &t->seen, WAIT_MS, ignore_event, NULL, &over, &err);
    }
    if (status == NB_OK) {
        t->out = &out;
        write_event(t, &(nb_transfer_event){.status = "success"});
        nb_http_json(t->request, 200, &out);
    } else {
        nb_http_fail(t->request, 0, &err);
    }
    free_transfer(t);
}

static void answer(nb_http_request *r, bool push)
{
    transfer *t = read_request(r);
    nb_error err;
    nb_name name;
    if (!t || !has_store(t))
        return;
    nb_transfer_params p = params_of(t);
    bool hub = !push && strncmp(t->name, "hf://", 5) == 0;
    nb_status status = hub ? NB_OK : nb_name_parse(nb_str_of(t->name), &name, &err);
    if (status == NB_OK)
        status = nb_shared_join(push, t->name, &p, &t->shared, &err);
    if (status != NB_OK) {
        nb_http_fail(r, 0, &err);
        free_transfer(t);
    } else if (t->stream) {
        nb_http_stream(r, "application/x-ndjson", more, free_transfer, t);
    } else {
        answer_at_the_end(t);
    }
}

void nb_route_pull(nb_http_request *r) { answer(r, false); }
void nb_route_push(nb_http_request *r) { answer(r, true); }
