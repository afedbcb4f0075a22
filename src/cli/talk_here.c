/* Talking to a model in this process: the server's service with one model and one reply at a time. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/env.h"
#include "cli/cli.h"
#include "cli/models.h"
#include "cli/talk.h"
#include "server/options_use.h"
#include "store/create.h"

enum { MOST_CONTEXT = 8192 };

typedef struct here {
    nb_talker base;
    nb_talk_here params;
    nb_library *library;
    nb_service *service;
    nb_entry *entry;
} here;

/* ---- replies ---- */

/* Options as JSON text; empty: none. Free it. */
static char *options_text(const nb_talk_request *q)
{
    return json_object_size(q->options) ? json_dumps(q->options, JSON_COMPACT) : strdup("");
}

static char *schema_text(const nb_talk_request *q)
{
    if (!q->format)
        return strdup("");
    return json_is_string(q->format) ? strdup("{\"type\":\"object\"}") : json_dumps(q->format, JSON_COMPACT);
}

static void fill_job(const here *h, const nb_talk_request *q, nb_job_message *messages, nb_job_params *p)
{
    p->model = nb_str_of(nb_entry_text(h->entry));
    for (size_t i = 0; i < q->count; i++)
        messages[i] = (nb_job_message){
            .role = q->messages[i].role, .content = q->messages[i].content, .thinking = q->messages[i].thinking};
    p->messages = messages;
    p->message_count = q->count;
    if (q->raw) {
        p->is_prompt = p->raw = true;
        p->prompt = q->messages[q->count - 1].content;
        p->message_count = 0;
    }
    p->think = q->think_level ? 1 : q->think;
    p->think_level = nb_str_of(q->think_level ? q->think_level : "");
    p->overflow = q->strict ? NB_OVERFLOW_ERROR : NB_OVERFLOW_TRUNCATE;
    p->task.special = h->params.special;
    p->task.ignore_end = h->params.ignore_end;
    p->gone = q->stopped;
    p->gone_user = q->user;
    if (h->params.sample)
        h->params.sample(h->params.sample_user, &p->task.sampling);
}

static void take_end(const nb_job *j, const nb_task_stats *s, nb_talk_stats *out)
{
    out->end = s->end == NB_TASK_LENGTH ? NB_TALK_LENGTH : s->end == NB_TASK_CONTEXT ? NB_TALK_CONTEXT : NB_TALK_DONE;
    out->prompt_tokens = s->prompt_tokens;
    out->reused_tokens = s->reused_tokens;
    out->tokens = s->tokens;
    out->prompt = s->prompt_seconds;
    out->reply = s->seconds;
    out->seed = s->seed;
    out->has_seed = true;
    out->truncated = nb_job_truncated(j) + s->shifted_tokens;
}

static nb_status listen(nb_job *j, const nb_talk_request *q, nb_talk_stats *stats, nb_error *err)
{
    nb_job_event event;
    for (;;) {
        NB_TRY(nb_job_next(j, &event, err));
        if (event.kind == NB_JOB_REPLY &&
            (event.reply.kind == NB_REPLY_CONTENT || event.reply.kind == NB_REPLY_THINKING))
            q->said(q->user, event.reply.kind == NB_REPLY_THINKING, event.reply.text);
        if (event.kind == NB_JOB_END) {
            take_end(j, &event.stats, stats);
            return NB_OK;
        }
    }
}

static nb_status run_job(here *h, const nb_job_params *p, const nb_talk_request *q, nb_talk_stats *stats, nb_error *err)
{
    nb_job *j;
    bool busy;
    NB_TRY(nb_job_start(h->service, p, &j, &busy, err));
    stats->load = (double)nb_job_load_ns(j) * 1e-9;
    stats->context = nb_served_context(nb_job_served(j));
    stats->truncated = nb_job_truncated(j);
    nb_status status = listen(j, q, stats, err);
    nb_job_free(j);
    return status;
}

static nb_status talk(nb_talker *t, const nb_talk_request *q, nb_talk_stats *stats, nb_error *err)
{
    here *h = (here *)t;
    nb_arena arena = {0};
    nb_job_params p = nb_job_defaults();
    nb_job_message *messages = NB_ARRAY(&arena, nb_job_message, q->count + 1);
    char *options = options_text(q), *schema = schema_text(q);
    double start = nb_seconds();
    nb_status status = messages && options && schema ? NB_OK : nb_fail_memory(err, "a request", 0);
    if (status == NB_OK)
        status = nb_use_options(h->service, h->entry, nb_str_of(options), &arena, &p, err);
    if (status == NB_OK) {
        fill_job(h, q, messages, &p);
        p.schema = nb_str_of(schema);
        status = run_job(h, &p, q, stats, err);
    }
    stats->total = nb_seconds() - start;
    if (status == NB_ERR_CANCELLED) {
        stats->end = NB_TALK_STOPPED;
        status = NB_OK;
    }
    free(options);
    free(schema);
    nb_arena_free(&arena);
    return status;
}

static nb_status load(nb_talker *t, const nb_talk_request *q, nb_error *err)
{
    here *h = (here *)t;
    nb_served *m;
    nb_arena arena = {0};
    nb_job_params p = nb_job_defaults();
    char *options = options_text(q);
    nb_status status = options ? nb_use_options(h->service, h->entry, nb_str_of(options), &arena, &p, err)
                               : nb_fail_memory(err, "a request", 0);
    if (status == NB_OK)
        status = nb_service_acquire(h->service, nb_str_of(nb_entry_text(h->entry)), &p.load, q->stopped, q->user, &m,
                                    err);
    if (status == NB_OK)
        nb_service_release(h->service, m, INT64_MIN);
    if (status == NB_ERR_CANCELLED)
        nb_fail(err, status, "stopped while %s was being loaded", t->model);
    nb_arena_free(&arena);
    free(options);
    return status;
}

/* ---- what else it is asked for ---- */

static nb_status show(nb_talker *t, json_t **out, nb_error *err)
{
    return nb_models_describe(((here *)t)->entry, false, out, err);
}

static nb_status find(here *h, const char *model, nb_error *err)
{
    bool path = nb_models_is_path(model);
    nb_library_params p = {.no_store = path, .files = &model, .file_count = path};
    nb_entry_list *list;
    NB_TRY(nb_library_open(&p, &h->library, err));
    if (!path)
        return nb_library_find(h->library, nb_str_of(model), &h->entry, err);
    NB_TRY(nb_library_list(h->library, &list, err));
    h->entry = nb_entry_retain(nb_entry_list_at(list, 0));
    nb_entry_list_release(list);
    return NB_OK;
}

static void note_line(void *user, const char *line)
{
    (void)user;
    nb_note("%s", line);
}

/* Its threads leave Ctrl-C to the one that talks. */
static nb_status start(here *h, nb_error *err)
{
    size_t context;
    sigset_t signals, before;
    NB_TRY(nb_env_count("OLLAMA_CONTEXT_LENGTH", &context, err));
    nb_service_params p = {.memory = UINT64_MAX / 4, /* a model larger than memory runs, if slowly */
                           .replies = 1,
                           .context = context,
                           .most_context = MOST_CONTEXT,
                           .trained_only = h->params.session.context &&
                                           !h->params.session.allow_long, /* what a model says of itself holds */
                           .keep_alive_ns = -1,
                           .threads = h->params.model.threads,
                           .kv_type = h->params.session.kv_type ? h->params.session.kv_type
                                                                : nb_env_text("OLLAMA_KV_CACHE_TYPE"),
                           .model = &h->params.model,
                           .debug = nb_env_flag("OLLAMA_DEBUG"),
                           .log = nb_env_flag("OLLAMA_DEBUG") ? note_line : NULL};
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGWINCH);
    sigaddset(&signals, SIGTSTP);
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    nb_status status = nb_service_new(h->library, &p, &h->service, err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

static void close_here(nb_talker *t)
{
    here *h = (here *)t;
    nb_service_free(h->service);
    nb_entry_release(h->entry);
    nb_library_close(h->library);
    free(h);
}

/* ---- saving ---- */

/* What the model itself says was said, and then what was. */
static nb_status all_messages(const here *h, const nb_talk_save *s, nb_arena *arena, nb_create_params *p, nb_error *err)
{
    const nb_contents *own;
    NB_TRY(nb_entry_contents(h->entry, &own, err));
    if (s->count == 0)
        return NB_OK; /* its own stay */
    nb_stored_message *all = NB_ARRAY(arena, nb_stored_message, own->message_count + s->count);
    if (!all)
        return nb_fail_memory(err, "messages", 0);
    for (size_t i = 0; i < own->message_count; i++)
        all[i] = own->messages[i];
    for (size_t i = 0; i < s->count; i++)
        all[own->message_count + i] = (nb_stored_message){s->messages[i].role, s->messages[i].content};
    p->messages = all;
    p->message_count = own->message_count + s->count;
    return NB_OK;
}

static nb_status create(const here *h, const nb_create_params *p, nb_error *err)
{
    nb_store *store;
    const char *root = nb_library_root(h->library);
    NB_TRY(nb_store_open(*root ? root : NULL, &store, err));
    nb_status status = nb_create(store, p, err);
    nb_store_close(store);
    return status;
}

static nb_status save(nb_talker *t, const nb_talk_save *s, nb_error *err)
{
    here *h = (here *)t;
    nb_arena arena = {0};
    nb_param *params = NULL;
    char *options = s->options ? json_dumps(s->options, JSON_COMPACT) : NULL;
    nb_create_file file = {.path = h->base.model};
    nb_create_params p = {.has_system = s->system != NULL, .system = nb_str_of(s->system)};
    if (nb_entry_kind_of(h->entry) == NB_ENTRY_STORED)
        p.from = nb_str_of(nb_entry_text(h->entry));
    else
        p.files = &file;
    p.file_count = p.files != NULL;
    nb_status status = nb_name_parse(nb_str_of(s->name), &p.name, err);
    if (status == NB_OK && options)
        status = nb_params_read("options", nb_str_of(options), &arena, &params, &p.param_count, err);
    p.params = params;
    if (status == NB_OK)
        status = all_messages(h, s, &arena, &p, err);
    if (status == NB_OK)
        status = create(h, &p, err);
    nb_arena_free(&arena);
    free(options);
    return status;
}

/* ---- opening ---- */

nb_status nb_talk_open_here(const char *model, const nb_talk_here *params, nb_talker **out, nb_error *err)
{
    here *h = calloc(1, sizeof *h);
    nb_str source = {0};
    bool is_go;
    const nb_details *details;
    *out = NULL;
    if (!h)
        return nb_fail_memory(err, "a conversation", sizeof *h);
    h->base = (nb_talker){.talk = talk,
                          .load = load,
                          .show = show,
                          .save = save,
                          .close = close_here,
                          .model = strdup(model),
                          .limits = true};
    h->params = *params;
    h->params.model.pin_threads = false; /* who opens the model is not who computes */
    nb_status status = h->base.model ? find(h, model, err) : nb_fail_memory(err, "a conversation", 0);
    if (status == NB_OK)
        status = nb_entry_template(h->entry, &source, &is_go, err);
    h->base.has_template = source.n > 0;
    if (status == NB_OK)
        status = nb_entry_details(h->entry, &details, err);
    if (status == NB_OK) {
        h->base.embeds = (details->capabilities & (NB_CAN_EMBED | NB_CAN_COMPLETE)) == NB_CAN_EMBED;
        status = start(h, err);
    }
    if (status != NB_OK) {
        nb_talk_close(&h->base);
        return status;
    }
    *out = &h->base;
    return NB_OK;
}
