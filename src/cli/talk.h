/* talk.h - somebody to talk to: a model in this process (talk_here.c: the server's own service and jobs, without its HTTP) or on a
 * running server (talk_server.c). Templates, parameters, messages and thinking are honoured by one code in either case. */
#ifndef NB_CLI_TALK_H
#define NB_CLI_TALK_H

#include <jansson.h>

#include "base/mem.h"

typedef struct nb_talker nb_talker;

typedef struct nb_talk_message {
    nb_str role, content, thinking;
} nb_talk_message;

typedef struct nb_talk_request {
    const nb_talk_message *messages; /* the last one is the user's */
    size_t count;
    const json_t *options;   /* in Ollama's words; NULL: none */
    const json_t *format;    /* "json" or a schema; NULL: any text */
    int think;               /* -1: as the model does */
    const char *think_level; /* NULL or "low", "medium", "high" */
    const char *keep_alive;  /* NULL: the server's */
    bool raw;                /* the last message as it is, without a template */
    bool strict;             /* what does not fit the context is refused; else the oldest messages go */
    void (*said)(void *user, bool thinking, nb_str text);
    bool (*stopped)(void *user); /* looked at ten times a second: true ends the reply */
    void *user;
} nb_talk_request;

typedef enum nb_talk_end { NB_TALK_DONE, NB_TALK_LENGTH, NB_TALK_CONTEXT, NB_TALK_STOPPED } nb_talk_end;

typedef struct nb_talk_stats {
    nb_talk_end end;
    size_t context;   /* positions; 0: unknown */
    size_t truncated; /* tokens of the request that were left out */
    size_t prompt_tokens, reused_tokens, tokens;
    double total, load, prompt, reply; /* seconds */
    bool has_seed;
    uint64_t seed;
} nb_talk_stats;

/* What a model in this process is run with beyond what a server can be told. */
typedef struct nb_talk_here {
    nb_model_params model;
    nb_session_params session;
    void (*sample)(void *user, nb_sampler_params *sampling); /* puts further wishes over the options'; may be NULL */
    void *sample_user;
    bool special, ignore_end;
} nb_talk_here;

/* A file, directory, or name in the store. NB_ERR_NOT_FOUND: there is none. */
nb_status nb_talk_open_here(const char *model, const nb_talk_here *params, nb_talker **out, nb_error *err);
/* On the server that OLLAMA_HOST names. NB_ERR_NOT_FOUND: it has no such model. */
nb_status nb_talk_open_server(const char *model, nb_talker **out, nb_error *err);
void nb_talk_close(nb_talker *t); /* NULL is fine */

const char *nb_talk_model(const nb_talker *t); /* as it was named */
bool nb_talk_has_template(const nb_talker *t); /* it takes conversations */
bool nb_talk_writes(const nb_talker *t);       /* false: it makes embeddings only */
bool nb_talk_limits(
    const nb_talker *t); /* a reply that is NB_TALK_LENGTH met the model's num_predict, not a full context */
/* /api/show of it; the caller's. */
nb_status nb_talk_show(nb_talker *t, json_t **out, nb_error *err);

/* Has the model ready for a request like this (whose messages are not looked at). NB_ERR_CANCELLED when `stopped` says so. */
nb_status nb_talk_load(nb_talker *t, const nb_talk_request *request, nb_error *err);
/* One reply. Stopping it is no error. */
nb_status nb_talk(nb_talker *t, const nb_talk_request *request, nb_talk_stats *stats, nb_error *err);

/* Makes a model of this one under another name: with a system message (NULL: its own), options and messages. */
typedef struct nb_talk_save {
    const char *name;
    const char *system;
    const json_t *options;
    const nb_talk_message *messages;
    size_t count;
} nb_talk_save;
nb_status nb_talk_save_as(nb_talker *t, const nb_talk_save *save, nb_error *err);

/* ---- for talk_*.c ---- */
struct nb_talker {
    nb_status (*talk)(nb_talker *t, const nb_talk_request *request, nb_talk_stats *stats, nb_error *err);
    nb_status (*load)(nb_talker *t, const nb_talk_request *request, nb_error *err);
    nb_status (*show)(nb_talker *t, json_t **out, nb_error *err);
    nb_status (*save)(nb_talker *t, const nb_talk_save *save, nb_error *err);
    void (*close)(nb_talker *t);
    char *model;
    bool has_template, limits, embeds;
};

#endif
