/* nibble run MODEL [PROMPT...]: one answer, or a chat; here, or on a running server that has the model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/models.h"
#include "cli/prompt.h"
#include "cli/pull_missing.h"
#include "cli/run_options.h"

typedef struct run_options {
    nb_model_options model;
    nb_run_options sampling;
    const char *system, *format, *think, *keep_alive;
    bool raw, verbose, special, ignore_end, hide_thinking, no_wrap, insecure, server;
} run_options;

/* ---- where the model is ---- */

static bool only_here(const run_options *o)
{
    const nb_model_options *m = &o->model;
    return nb_run_options_only_here(&o->sampling) || o->special || o->ignore_end || m->model.exact ||
           !m->model.repack || m->model.pre_tokenizer || m->model.load || m->model.rope || m->model.adapter_count ||
           m->session.kv_type || m->session.allow_long;
}

static void sample(void *user, nb_sampler_params *s) { nb_run_options_sample(user, s); }

static nb_status open_here(const run_options *o, const char *model, nb_talker **out, nb_error *err)
{
    nb_talk_here here = {.model = o->model.model,
                         .session = o->model.session,
                         .sample = sample,
                         .sample_user = (void *)(uintptr_t)&o->sampling,
                         .special = o->special,
                         .ignore_end = o->ignore_end};
    return nb_talk_open_here(model, &here, out, err);
}

/* Which server there is to ask, if any; the caller's. */
static nb_status find_server(const run_options *o, const char *model, nb_client **client, nb_client_server *server,
                             nb_error *err)
{
    *server = (nb_client_server){0};
    *client = NULL;
    if (only_here(o) || !o->server)
        return NB_OK;
    NB_TRY(nb_client_open(client, err));
    *server = nb_client_look(*client);
    if (server->named && !server->answers)
        nb_note("no server answers at %s; looking for %s here", nb_client_url(*client), model);
    return NB_OK;
}

static bool is_hub_path(const char *model) { return strncmp(model, "hf://", 5) == 0; }

/* What is nowhere is fetched: by the server that is to run it, else into the store here. */
static nb_status pull(const run_options *o, const char *model, nb_client *server, nb_talker **out, nb_error *err)
{
    nb_buf where = {0};
    const char *end = strrchr(model, '.');
    if (end && strcmp(end, ".gguf") == 0 && !is_hub_path(model))
        return nb_fail(err, NB_ERR_NOT_FOUND, "%s: there is no such file", model);
    nb_status status = server ? nb_pull_there(server, model, o->insecure, err)
                              : nb_pull_here(model, o->insecure, &where, err);
    if (status == NB_OK)
        status = server ? nb_talk_open_server(model, out, err) : open_here(o, where.len ? where.data : model, out, err);
    else if (status != NB_ERR_CANCELLED)
        nb_fail_prefix(err, status, "model '%s' not found here, and it cannot be pulled", model);
    nb_buf_free(&where);
    return status;
}

/* A server that is ours, or that the user named, comes first: its model may be loaded, and is in memory once. One of another
 * make at the usual place is asked only for what the store here lacks. */
static nb_status open_name(const run_options *o, const char *model, nb_client *client, const nb_client_server *server,
                           nb_talker **out, nb_error *err)
{
    bool first = server->answers && (server->is_nibble || server->named);
    nb_status status = first ? nb_talk_open_server(model, out, err) : NB_ERR_NOT_FOUND;
    if (status == NB_ERR_NOT_FOUND)
        status = open_here(o, model, out, err);
    if (status == NB_ERR_NOT_FOUND && server->answers && !first)
        status = nb_talk_open_server(model, out, err);
    return status == NB_ERR_NOT_FOUND ? pull(o, model, first ? client : NULL, out, err) : status;
}

static nb_status open_any(const run_options *o, const char *model, nb_talker **out, nb_error *err)
{
    nb_client *client;
    nb_client_server server;
    if (is_hub_path(model))
        return pull(o, model, NULL, out, err);
    if (nb_models_is_path(model))
        return open_here(o, model, out, err);
    nb_status status = find_server(o, model, &client, &server, err);
    if (status == NB_OK)
        status = open_name(o, model, client, &server, out, err);
    nb_client_close(client);
    return status;
}

static nb_status open_model(void *user, const char *model, nb_talker **out, nb_error *err)
{
    NB_TRY(open_any(user, model, out, err));
    if (nb_talk_writes(*out))
        return NB_OK;
    nb_talk_close(*out);
    *out = NULL;
    return nb_fail(err, NB_ERR_UNSUPPORTED,
                   "%s writes no text but makes embeddings: 'nibble embed %s TEXT' prints one, /api/embed serves them",
                   model, model);
}

/* ---- the prompt ---- */

/* the words of the command line, after what was piped in */
static nb_status gather_prompt(int argc, char **argv, nb_buf *prompt, nb_error *err)
{
    if (!isatty(STDIN_FILENO))
        NB_TRY(nb_read_stdin(prompt, err));
    for (int i = 2; i < argc; i++)
        nb_buf_printf(prompt, "%s%s", i > 2 ? " " : prompt->len ? "\n" : "", argv[i]);
    return prompt->failed ? nb_fail(err, NB_ERR_MEMORY, "out of memory") : NB_OK;
}

static nb_status add_system(nb_chat *c, const run_options *o, nb_error *err)
{
    if (!o->system)
        return NB_OK;
    if (o->raw || !nb_talk_has_template(c->talker)) {
        nb_note("--system has no effect: without a chat template the prompt is completed as it is");
        return NB_OK;
    }
    c->system = strdup(o->system);
    return c->system ? NB_OK : nb_fail_memory(err, "a message", 0);
}

static nb_status run_chat(nb_chat *c, run_options *o, int argc, char **argv, int *code, nb_error *err)
{
    nb_buf prompt = {0};
    bool talk = argc < 3 && isatty(STDIN_FILENO);
    NB_TRY(nb_run_options_say(&o->sampling, c->options, err));
    nb_status status = talk ? NB_OK : gather_prompt(argc, argv, &prompt, err);
    if (status == NB_OK)
        status = open_model(o, argv[1], &c->talker, err);
    if (status == NB_OK)
        status = add_system(c, o, err);
    *code = NB_EXIT_OK;
    if (status == NB_OK && talk)
        *code = nb_prompt(c);
    else if (status == NB_OK)
        status = nb_chat_say(c, nb_buf_view(&prompt), err);
    nb_buf_free(&prompt);
    return status;
}

/* ---- options ---- */

static int read_format(const char *text, json_t **out)
{
    json_error_t problem;
    if (!text || !*text)
        return -1;
    *out = strcmp(text, "json") == 0 ? json_string("json") : json_loads(text, 0, &problem);
    if (*out && !json_is_string(*out) && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
    }
    return *out ? -1 : nb_report_usage("run", "--format %.60s: give json, or a JSON schema", text);
}

static int read_think(const char *text, nb_chat *c)
{
    if (!text)
        return -1;
    c->think = strcmp(text, "false") != 0;
    if (*text == 0 || strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        return -1;
    if (strcmp(text, "low") != 0 && strcmp(text, "medium") != 0 && strcmp(text, "high") != 0)
        return nb_report_usage("run", "--think=%s: give true, false, low, medium or high", text);
    snprintf(c->think_level, sizeof c->think_level, "%s", text);
    return -1;
}

static int run_parsed(run_options *o, int argc, char **argv)
{
    nb_error err;
    nb_chat c = nb_chat_new();
    int code = nb_model_options_finish("run", &o->model);
    if (code < 0)
        code = nb_run_options_finish(&o->sampling);
    if (code < 0)
        code = read_format(o->format, &c.format);
    if (code < 0)
        code = read_think(o->think, &c);
    o->sampling.context = o->model.context;
    o->sampling.threads = o->model.model.threads;
    c.open = open_model;
    c.open_user = o;
    c.keep_alive = o->keep_alive;
    c.raw = o->raw;
    c.verbose = o->verbose;
    c.hide_thinking = o->hide_thinking;
    c.word_wrap = !o->no_wrap;
    nb_interrupt_watch();
    if (code < 0 && run_chat(&c, o, argc, argv, &code, &err) != NB_OK)
        code = nb_report_error(&err);
    nb_chat_free(&c);
    nb_run_options_free(&o->sampling);
    return code;
}

int nb_cmd_run(int argc, char **argv)
{
    run_options o = {.model = nb_model_options_defaults(), .sampling = nb_run_options_unsaid(), .server = true};
    nb_option options[] = {
        {"system", 0, NB_OPTION_STRING, &o.system, "TEXT", "the system message"},
        {"raw", 0, NB_OPTION_FLAG, &o.raw, NULL, "complete the prompt as it is, without the chat template"},
        {"verbose", 'v', NB_OPTION_FLAG, &o.verbose, NULL, "counts and rates after the reply"},
        {"format", 0, NB_OPTION_STRING, &o.format, "FORMAT", "replies are JSON: json, or a JSON schema"},
        {"think", 0, NB_OPTION_MAYBE, &o.think, "LEVEL", "think first: true, false, low, medium, high"},
        {"hidethinking", 0, NB_OPTION_FLAG, &o.hide_thinking, NULL, "do not show what the model thinks"},
        {"nowordwrap", 0, NB_OPTION_FLAG, &o.no_wrap, NULL, "do not break replies at words"},
        {"keepalive", 0, NB_OPTION_STRING, &o.keep_alive, "TIME", "how long a server keeps the model: 5m, 0, -1"},
        {"insecure", 0, NB_OPTION_FLAG, &o.insecure, NULL, "pull a missing model without TLS or its checks"},
        {"server", 0, NB_OPTION_FLAG, &o.server, NULL,
         "ask a running server that has the model (default; --no-server)"},
        {"special", 0, NB_OPTION_FLAG, &o.special, NULL, "write control tokens out"},
        {"ignore-eos", 0, NB_OPTION_FLAG, &o.ignore_end, NULL, "go on past the end of the reply"},
        NB_RUN_OPTION_ROWS(o.sampling),
        NB_MODEL_OPTION_ROWS(o.model),
        {.name = ""},
    };
    int code = nb_options_parse("run", options, &argc, argv);
    if (code >= 0)
        return code;
    code = argc < 2 ? nb_report_usage("run", "which model? give a name or a GGUF file; 'nibble list' names models")
                    : run_parsed(&o, argc, argv);
    nb_options_free(options);
    return code;
}
