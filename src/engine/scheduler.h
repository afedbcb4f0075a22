/* scheduler.h - many replies at once from one model: continuous batching. In each step every running reply gets one token and
 * what is left of the step's tokens is filled with prompts, so that a long prompt delays nobody; K and V lie in pages of a
 * pool that sequences share where they begin alike (pages are counted, a page that others hold is never written). A reply
 * depends on its own parameters alone: not on its neighbours, nor on what was reused.
 *
 * One thread at a time uses a scheduler; nothing here waits, and a step allocates nothing that grows with use. Window layers:
 * a prefix that is kept for reuse keeps the window's pages at its end, or is computed again from there. */
#ifndef NB_ENGINE_SCHEDULER_H
#define NB_ENGINE_SCHEDULER_H

#include "engine/engine.h"
#include "text/grammar.h"

typedef struct nb_scheduler nb_scheduler;
typedef struct nb_reply_task nb_reply_task;

typedef struct nb_scheduler_params {
    size_t replies;     /* computed at once, at most; 0: 16 */
    size_t step_tokens; /* of a step; 0: 512 */
    size_t context;     /* positions of one sequence, at most; 0: the model's own, at most what cache_bytes hold */
    size_t
        cache_bytes; /* of all pages, rounded down to whole ones, enough for one context at least; 0: `replies` contexts */
    const char *kv_type; /* as nb_session_params */
    bool no_reuse;       /* every prompt is computed whole */
    bool allow_long;
    /* Asked many times in a step, on its thread: true gives the step up. What it would have computed is computed by the next. */
    bool (*given_up)(void *user);
    void *given_up_user;
} nb_scheduler_params;

nb_status nb_scheduler_new(nb_model *model, const nb_scheduler_params *params, nb_scheduler **out, nb_error *err);
/* Tasks end first (NB_TASK_CANCELLED). NULL is fine. The model stays open. */
void nb_scheduler_free(nb_scheduler *s);

/* To the byte, before anything is taken (weights_* are the model's own). */
nb_status nb_scheduler_memory(const nb_model *model, const nb_scheduler_params *params, nb_memory *memory,
                              nb_error *err);
size_t nb_scheduler_context(const nb_scheduler *s); /* positions of one sequence */

/* ---- replies ---- */

typedef struct nb_top_token {
    int32_t id;
    float logprob;
} nb_top_token;

/* A token of a reply. Text comes when it is certain (nb_generate), so that a token's event may have none, or that of those
 * before it as well. */
typedef struct nb_token_event {
    int32_t id;
    nb_str text;             /* certain text, whole code points; empty for most ends */
    nb_str piece;            /* the token's own bytes */
    float logprob;           /* of the token before sampling's stages; only with `logprobs` */
    const nb_top_token *top; /* `logprobs` of them, the likeliest first */
    size_t top_count;
} nb_token_event;

typedef enum nb_task_end {
    NB_TASK_STOP,    /* the model's own end, or the grammar's */
    NB_TASK_STRING,  /* a stop string: `which` */
    NB_TASK_LENGTH,  /* max_tokens */
    NB_TASK_CONTEXT, /* the context is full */
    NB_TASK_CANCELLED,
    NB_TASK_FAILED /* `error` */
} nb_task_end;

typedef struct nb_task_stats {
    nb_task_end end;
    int which;             /* stop string */
    size_t prompt_tokens;  /* the whole prompt */
    size_t reused_tokens;  /* of it, found in the cache */
    size_t tokens;         /* of the reply, the ending one not counted */
    size_t shifted_tokens; /* forgotten from the middle (shift) */
    double queued_seconds; /* from nb_scheduler_add to its first step */
    double prompt_seconds; /* from then to the first token */
    double seconds;        /* from the first token to the end */
    uint64_t seed;         /* as used */
    nb_error error;
} nb_task_stats;

/* Both are called within nb_scheduler_step (or _cancel, _free), and must not block or call the scheduler. Views are good until
 * they return. `on_end` is the last call: the task uses nothing of its parameters, its grammar or its model from there on. */
typedef void nb_task_token_fn(void *user, const nb_token_event *event);
typedef void nb_task_end_fn(void *user, nb_str last_text, const nb_task_stats *stats);

typedef struct nb_task_params { /* all is copied, the grammar cache excepted */
    const int32_t *prompt;
    size_t prompt_count; /* at least 1, fewer than the context */
    nb_sampler_params sampling;
    int64_t max_tokens; /* < 0: until the end or a full context */
    const char *const *stops;
    size_t stop_count;
    bool special;               /* write control tokens out, too */
    bool goes_on;               /* in the line of the prompt: the space that its first token begins with stays */
    const char *const *markers; /* control tokens whose text is written out in any case (nb_reply_markers) */
    size_t marker_count;
    bool ignore_end;
    int logprobs;              /* < 0: none; else with that many alternatives, at most 20 */
    nb_grammar_cache *grammar; /* NULL: none; used by the scheduler's thread until on_end */
    bool shift;                /* a full context forgets half of what is after the first `keep` tokens and goes on */
    size_t keep;
    uint64_t user_key;          /* prompts of different users take turns; those of one wait for each other */
    nb_task_token_fn *on_token; /* may be NULL */
    nb_task_end_fn *on_end;
    void *user;
} nb_task_params;

/* NB_ERR_ARGUMENT: the prompt is empty or holds unknown ids; NB_ERR_LIMIT: it does not fit the context (the message has both
 * numbers). Waits in line where `replies` run already. */
nb_status nb_scheduler_add(nb_scheduler *s, const nb_task_params *params, nb_reply_task **task, nb_error *err);
void nb_scheduler_cancel(nb_scheduler *s, nb_reply_task *task); /* before its on_end was called */

/* One step; false: there was nothing to do. A failing task ends alone; an error here is the backend's own and ends all. */
nb_status nb_scheduler_step(nb_scheduler *s, bool *worked, nb_error *err);

typedef struct nb_scheduler_load {
    size_t running, waiting;
    size_t pages, pages_used, pages_kept; /* kept: of ended replies, for reuse; taken when needed */
    uint64_t steps, prompt_tokens, reused_tokens, tokens;
} nb_scheduler_load;
nb_scheduler_load nb_scheduler_look(const nb_scheduler *s);

#endif
