/* /api/create: the request read, the model created on a thread of its own, and what that says sent line by line. A request names
 * models and blobs, never paths: what files there are is nobody's business. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "server/ollama.h"
#include "server/routes.h"
#include "server/store_routes.h"
#include "store/create.h"
#include "store/library.h"

enum { WAIT_MS = 100, FIRST_MS = 300 };

typedef struct creating {
    nb_http_request *request;
    nb_body body;
    nb_create_params params;
    nb_quantize_params quantize;
    nb_store *store;
    bool stream, started;
    pthread_t thread;
    atomic_bool cancelled;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    nb_buf lines; /* not yet sent */
    size_t count; /* of lines, ever */
    bool done;
    nb_status status;
    nb_error err;
} creating;

/* ---- the request ---- */

/* {"model.safetensors": "sha256:..."} */
static const nb_create_file *read_files(nb_body *b, const char *key, size_t *count)
{
    const char *name;
    json_t *digest, *object = nb_body_object(b, b->root, key);
    size_t n = json_object_size(object), i = 0;
    nb_create_file *files = NB_ARRAY(&b->arena, nb_create_file, n + 1);
    if (!files)
        nb_body_fail(b, "out of memory");
    *count = n;
    json_object_foreach(object, name, digest)
    {
        if (!json_is_string(digest))
            nb_body_fail(b, "\"%s\": the digest of %.200s has to be a string", key, name);
        else if (files)
            files[i++] = (nb_create_file){.name = nb_str_of(name), .digest = nb_body_str(digest)};
    }
    return files;
}

/* a text, or a list of texts */
static void read_licenses(nb_body *b, nb_create_params *p)
{
    const json_t *v = json_object_get(b->root, "license"), *one;
    size_t i, n = json_is_array(v) ? json_array_size(v) : 1;
    if (!v || json_is_null(v))
        return;
    nb_str *list = NB_ARRAY(&b->arena, nb_str, n + 1);
    if (!list)
        nb_body_fail(b, "out of memory");
    else if (json_is_string(v))
        list[p->license_count++] = nb_body_str(v);
    else if (!json_is_array(v))
        nb_body_fail(b, "\"license\" has to be a text or a list of texts");
    else
        json_array_foreach(v, i, one)
        {
            if (!json_is_string(one))
                nb_body_fail(b, "\"license\" %zu has to be a text", i);
            else
                list[p->license_count++] = nb_body_str(one);
        }
    p->licenses = list;
}

static void read_messages(nb_body *b, nb_create_params *p)
{
    json_t *list = nb_body_array(b, b->root, "messages"), *one;
    size_t i;
    nb_stored_message *messages = NB_ARRAY(&b->arena, nb_stored_message, json_array_size(list) + 1);
    if (!messages)
        nb_body_fail(b, "out of memory");
    json_array_foreach(list, i, one)
    {
        nb_stored_message m = {NB_STR(""), NB_STR("")};
        if (!json_is_object(one))
            nb_body_fail(b, "\"messages\" %zu has to be an object", i);
        else if (!nb_body_text(b, one, "role", &m.role))
            nb_body_fail(b, "\"messages\" %zu has no role", i);
        nb_body_text(b, one, "content", &m.content);
        if (b->status == NB_OK)
            messages[p->message_count++] = m;
    }
    p->messages = messages;
}

static void read_parameters(nb_body *b, nb_create_params *p)
{
    nb_param *given, *sorted;
    size_t n;
    json_t *object = nb_body_object(b, b->root, "parameters");
    nb_options o = nb_options_defaults();
    if (!object || b->status != NB_OK)
        return;
    b->status = nb_params_read("parameters", nb_body_dump(b, object), &b->arena, &given, &n, &b->error);
    for (size_t i = 0; b->status == NB_OK && i < n; i++)
        if (given[i].kind == NB_PARAM_OTHER)
            nb_body_fail(b, "the parameter %.*s is no number, text, boolean or list of texts",
                         NB_STR_ARG(given[i].key));
    if (b->status == NB_OK)
        b->status = nb_options_apply(&o, given, n, &b->arena, NULL, NULL, &b->error);
    if (b->status == NB_OK)
        b->status = nb_params_merge(NULL, 0, given, n, &b->arena, &sorted, &p->param_count, &b->error);
    p->params = b->status == NB_OK ? sorted : NULL;
}

static void read_quantize(nb_body *b, creating *c)
{
    nb_str wish = NB_STR("");
    if (!nb_body_text(b, b->root, "quantize", &wish))
        nb_body_text(b, b->root, "quantization", &wish);
    if (!(c->params.quantize = nb_arena_strdup(&b->arena, wish)))
        nb_body_fail(b, "out of memory");
    nb_body_text(b, b->root, "text", &c->params.text);
    nb_body_bool(b, b->root, "allow_requantize", &c->quantize.allow_requantize);
    c->params.options = &c->quantize;
}

static void read_request(creating *c)
{
    nb_body *b = &c->body;
    nb_create_params *p = &c->params;
    nb_str model;
    if (!nb_body_text(b, b->root, "model", &model) && !nb_body_text(b, b->root, "name", &model))
        nb_body_fail(b, "\"model\" is missing");
    if (b->status == NB_OK)
        b->status = nb_name_parse(model, &p->name, &b->error);
    if (b->status != NB_OK)
        return;
    nb_body_bool(b, b->root, "stream", &c->stream);
    nb_body_text(b, b->root, "from", &p->from);
    p->files = read_files(b, "files", &p->file_count);
    p->adapters = read_files(b, "adapters", &p->adapter_count);
    p->has_template = nb_body_text(b, b->root, "template", &p->go_template) && p->go_template.n;
    p->has_system = nb_body_text(b, b->root, "system", &p->system) && p->system.n;
    nb_body_text(b, b->root, "renderer", &p->renderer);
    nb_body_text(b, b->root, "parser", &p->parser);
    nb_body_text(b, b->root, "requires", &p->requires_);
    read_licenses(b, p);
    read_messages(b, p);
    read_parameters(b, p);
    read_quantize(b, c);
    if (p->from.n == 0 && p->file_count == 0)
        nb_body_fail(b, "neither 'from' or 'files' was specified");
}

/* ---- the work ---- */

enum { LINES_MOST = 1 << 20 }; /* a client that does not read misses progress */

/* What it is made from arrives: told as /api/pull tells it, but for the end, which is not this request's. */
static void on_pull(void *user, const nb_transfer_event *e)
{
    creating *c = user;
    if (!e->digest && strcmp(e->status, "success") == 0)
        return;
    pthread_mutex_lock(&c->lock);
    if (c->lines.len < LINES_MOST)
        nb_http_transfer_line(e, &c->lines);
    c->count++;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

/* A model that the store lacks is pulled, by all who ask for it at once together. */
static nb_status need_base(creating *c, nb_error *err)
{
    nb_entry *e;
    nb_shared *shared = NULL;
    uint64_t seen = 0;
    nb_library *library = nb_http_library(c->request);
    if (c->params.from.n == 0)
        return NB_OK;
    nb_status status = nb_library_find(library, c->params.from, &e, err);
    if (status == NB_OK)
        nb_entry_release(e);
    if (status != NB_ERR_NOT_FOUND)
        return status;
    const char *name = nb_arena_strdup(&c->body.arena, c->params.from);
    if (!name)
        return nb_fail_memory(err, "a name", c->params.from.n);
    nb_transfer_params p = {.root = nb_library_root(library)};
    status = nb_shared_join(false, name, &p, &shared, err);
    for (bool over = false; status == NB_OK && !over;)
        status = atomic_load(&c->cancelled) ? nb_fail(err, NB_ERR_CANCELLED, "the client left")
                                            : nb_shared_wait(shared, &seen, WAIT_MS, on_pull, c, &over, err);
    nb_shared_leave(shared);
    return status == NB_OK ? NB_OK : nb_fail_prefix(err, status, "%s is not in the store, and pulling it failed", name);
}

static bool on_status(void *user, const char *status, uint64_t done, uint64_t total)
{
    creating *c = user;
    pthread_mutex_lock(&c->lock);
    if (c->lines.len < LINES_MOST) {
        nb_json j = nb_json_begin(&c->lines, false);
        nb_json_open(&j, '{');
        nb_json_put_z(&j, "status", status);
        if (total) {
            nb_json_put_uint(&j, "total", total);
            nb_json_put_uint(&j, "completed", done);
        }
        nb_json_close(&j, '}');
        nb_buf_char(&c->lines, '\n');
    }
    c->count++;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return !atomic_load(&c->cancelled);
}

static void *work(void *state)
{
    creating *c = state;
    nb_error err = {0};
    nb_status status = need_base(c, &err);
    if (status == NB_OK)
        status = nb_create(c->store, &c->params, &err);
    pthread_mutex_lock(&c->lock);
    c->status = status;
    c->err = err;
    c->done = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* With the lock held: until something is new, or so long. */
static void wait_a_while(creating *c, int ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += ms * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    if (nb_http_gone(c->request))
        atomic_store(&c->cancelled, true);
    pthread_cond_timedwait(&c->changed, &c->lock, &t);
}

static void free_creating(void *state)
{
    creating *c = state;
    atomic_store(&c->cancelled, true); /* no effect on what is done */
    if (c->started)
        pthread_join(c->thread, NULL);
    nb_store_close(c->store);
    nb_body_close(&c->body);
    nb_buf_free(&c->lines);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->changed);
    free(c);
}

/* ---- the answer ---- */

static bool more(void *state, nb_buf *out)
{
    creating *c = state;
    pthread_mutex_lock(&c->lock);
    while (!c->done && c->lines.len == 0)
        wait_a_while(c, WAIT_MS);
    nb_buf_str(out, nb_buf_view(&c->lines));
    out->failed |= c->lines.failed;
    nb_buf_clear(&c->lines);
    bool done = c->done;
    if (done && c->status != NB_OK) {
        nb_http_write_error(NB_FLAVOR_OLLAMA, nb_http_status_of(&c->err), c->err.message, out);
        nb_buf_char(out, '\n');
    }
    pthread_mutex_unlock(&c->lock);
    return !done;
}

/* What fails at once, or without a stream, is told by the reply's status. */
static bool answer_now(creating *c)
{
    nb_buf out = {0};
    nb_json j = nb_json_begin(&out, false);
    pthread_mutex_lock(&c->lock);
    for (int waited = 0; !c->done && (!c->stream || (c->count < 2 && waited < FIRST_MS)); waited += WAIT_MS)
        wait_a_while(c, WAIT_MS);
    bool now = c->done && (c->status != NB_OK || !c->stream);
    pthread_mutex_unlock(&c->lock);
    if (!now)
        return false;
    if (c->status != NB_OK) {
        nb_http_fail(c->request, 0, &c->err);
        return true;
    }
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "status", "success");
    nb_json_close(&j, '}');
    nb_http_json(c->request, 200, &out);
    return true;
}

void nb_route_create(nb_http_request *r)
{
    creating *c = calloc(1, sizeof *c);
    if (!c) {
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        return;
    }
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    c->request = r;
    c->stream = true;
    c->quantize = nb_quantize_defaults();
    c->params.status = on_status;
    c->params.user = c;
    nb_body_open(&c->body, nb_http_body(r));
    if (c->body.status == NB_OK)
        read_request(c);
    if (c->body.status == NB_OK)
        c->body.status = nb_http_store(r, &c->store, &c->body.error);
    if (c->body.status == NB_OK) {
        c->started = pthread_create(&c->thread, NULL, work, c) == 0;
        if (!c->started)
            nb_body_fail(&c->body, "no thread to create the model on; try again later");
    }
    if (c->body.status != NB_OK) {
        nb_http_fail(r, 0, &c->body.error);
        free_creating(c);
    } else if (answer_now(c)) {
        free_creating(c);
    } else {
        nb_http_stream(r, "application/x-ndjson", more, free_creating, c);
    }
}
