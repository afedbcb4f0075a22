/* service.h - the models of a server and the one engine thread that runs them. Any thread may submit; results come by
 * callbacks on the engine thread, which a stream (stream.h) hands over to the thread that waits for them. A loader thread maps,
 * checks and warms models, so that loading one does not stall the tokens of others.
 *
 * Models are loaded when first asked for, within a memory budget: the least recently used idle one goes first. Each stays for
 * its keep-alive after its last request. */
#ifndef NB_SERVER_SERVICE_H
#define NB_SERVER_SERVICE_H

#include "engine/scheduler.h"
#include "store/library.h"

typedef struct nb_service nb_service;
typedef struct nb_served nb_served; /* a model that is loaded, or being loaded; counted */

typedef struct nb_service_params {
    uint64_t memory;       /* bytes of all loaded models; 0: 90 % of what the machine has */
    size_t max_models;     /* loaded at once; 0: as memory allows */
    size_t replies;        /* at once of one model (OLLAMA_NUM_PARALLEL); 0: 16 */
    size_t queue;          /* requests that wait, at most; 0: 512 */
    size_t context;        /* default for models (OLLAMA_CONTEXT_LENGTH); 0: trained length or what memory holds */
    size_t most_context;   /* of models nobody asks a context for, in place of the trained length; 0: no less */
    bool trained_only;     /* a context longer than the model was trained for is refused */
    int64_t keep_alive_ns; /* default; < 0: for ever */
    int64_t load_timeout_ns;
    int threads;
    const char *kv_type;
    bool no_reuse; /* every prompt is computed whole */
    bool debug;    /* the log says more: each request as it begins and ends, and why a model is loaded */
    const nb_model_params
        *model; /* how models are opened, threads and a stored model's adapters aside; NULL: the defaults */
    void (*log)(void *user, const char *line); /* one line, from any thread; may be NULL */
    void *log_user;
} nb_service_params;

nb_status nb_service_new(nb_library *library, const nb_service_params *params, nb_service **out, nb_error *err);
/* Takes no more requests; lets running ones finish for grace_ns, then ends them. */
void nb_service_stop(nb_service *s, int64_t grace_ns);
void nb_service_free(nb_service *s); /* stops first */

/* One line for the operator's log, from any thread. */
void nb_service_say(const nb_service *s, const char *format, ...) NB_PRINTF(2, 3);
void nb_service_debug(const nb_service *s, const char *format, ...) NB_PRINTF(2, 3); /* where it is to say more */

/* ---- models ---- */

typedef struct
    nb_load_options { /* what a request asks for at load time; another value than the loaded one's loads anew */
    size_t context;   /* 0: the default */
    int threads;      /* 0: the service's */
    bool embed;       /* for embeddings only: no cache is taken */
    bool any_context; /* nothing is written: a loaded one will do, whatever its context */
} nb_load_options;

/* Waits (at most the load timeout) until the model is loaded, loading it when needed; counts as a use until released.
 * NB_ERR_NOT_FOUND: no such model; NB_ERR_LIMIT: it does not fit the memory (the message says what would);
 * NB_ERR_CANCELLED: gone() said that the caller's client has left. */
nb_status nb_service_acquire(nb_service *s, nb_str name, const nb_load_options *options, bool (*gone)(void *),
                             void *user, nb_served **out, nb_error *err);
/* keep_alive_ns: from now on, for this model; 0 unloads it when its last request ends; INT64_MIN: as it is. */
void nb_service_release(nb_service *s, nb_served *m, int64_t keep_alive_ns);

nb_model *nb_served_model(const nb_served *m);
nb_entry *nb_served_entry(const nb_served *m);
size_t nb_served_context(const nb_served *m);
int64_t nb_served_load_ns(const nb_served *m); /* what loading took */

typedef struct nb_served_info { /* of /api/ps */
    char name[NB_NAME_TEXT], digest[NB_DIGEST_TEXT];
    uint64_t bytes;
    int64_t expires_at_ns; /* since 1970; INT64_MAX: never */
    size_t context, requests;
    nb_scheduler_load load;
    nb_entry *entry; /* retained for the caller */
} nb_served_info;
/* At most `room`; returns how many there are. */
size_t nb_service_list(nb_service *s, nb_served_info *out, size_t room);

/* ---- requests ---- */

typedef enum nb_grammar_kind {
    NB_GRAMMAR_SCHEMA,
    NB_GRAMMAR_GBNF,
    NB_GRAMMAR_TAGGED /* a schema of tool calls: at least one, each between <tool_call> and </tool_call> */
} nb_grammar_kind;
enum { NB_CALLS_MOST = 16 }; /* of NB_GRAMMAR_TAGGED */

/* A grammar of the model's replies. Compiled once for the same text; what masks learn is kept with it.
 * Errors are those of nb_grammar_from_*. Release it when the request has been submitted. */
typedef struct nb_served_grammar nb_served_grammar;
nb_status nb_service_grammar(nb_served *m, nb_grammar_kind kind, nb_str text, nb_served_grammar **out, nb_error *err);
void nb_service_grammar_release(nb_served_grammar *g); /* NULL is fine */

/* As nb_scheduler_add, on the engine thread; callbacks come from there. Waits until it is in line (a step at most).
 * params->grammar is not looked at. NB_ERR_LIMIT with *busy: the queue is full. The model is in use until the task's on_end
 * has returned. */
nb_status nb_service_submit(nb_service *s, nb_served *m, const nb_task_params *params, nb_served_grammar *grammar,
                            uint64_t *ticket, bool *busy, nb_error *err);
void nb_service_cancel(nb_service *s, uint64_t ticket); /* ends within one step; unknown tickets are passed over */

/* As nb_embed and nb_rank, on the caller's thread, one call a model at a time, between the steps of replies. */
nb_status nb_service_embed(nb_service *s, nb_served *m, const nb_embed_input *inputs, size_t count,
                           const nb_embed_params *params, float *out, size_t *tokens, nb_error *err);
nb_status nb_service_rank(nb_service *s, nb_served *m, const char *query, size_t query_bytes,
                          const nb_embed_input *texts, size_t count, const nb_embed_params *params, float *scores,
                          size_t *tokens, nb_error *err);

typedef struct nb_service_load { /* for metrics */
    size_t models, running, waiting;
    double cache_usage; /* 0..1, of the fullest model */
    uint64_t requests, prompt_tokens, reused_tokens, tokens, failures, cancelled, refused;
} nb_service_load;
nb_service_load nb_service_look(nb_service *s);

enum { NB_HISTOGRAM_BOUNDS = 22 };
typedef struct nb_histogram { /* of seconds */
    const double *bounds;     /* ascending */
    size_t bound_count;
    uint64_t counts[NB_HISTOGRAM_BOUNDS + 1]; /* up to each bound and above the one before; then what is above all */
    double sum;
} nb_histogram;

typedef struct nb_model_load { /* of a model since the service began, whether it is loaded now or not */
    char name[NB_NAME_TEXT];
    size_t running, waiting;
    double cache_usage;
    nb_histogram first; /* from asking to the first token */
    nb_histogram next;  /* from each token to the next one of the same reply */
} nb_model_load;
/* At most `room`; returns how many there are. */
size_t nb_service_look_models(nb_service *s, nb_model_load *out, size_t room);

#endif
