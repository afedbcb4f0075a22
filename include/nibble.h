/* nibble.h - the public C API of libnibble: the only header that is installed.
 *
 * Every function that can fail returns an nb_status (0 is success) and takes an nb_error as its last
 * argument, which may be NULL; on failure it says what, where and what to do. The library never exits,
 * aborts or prints. Handles are opaque; whoever opens one closes it. A model may be shared by threads;
 * a session belongs to one thread at a time.
 */
#ifndef NIBBLE_H
#define NIBBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NB_API __attribute__((visibility("default")))
#define NB_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define NB_API
#define NB_PRINTF(fmt, args)
#endif

#define NB_VERSION "0.1.0"

/* ---- status ------------------------------------------------------------------------------------- */

typedef enum nb_status {
    NB_OK = 0,
    NB_ERR_ARGUMENT,    /* the caller asked for something that makes no sense */
    NB_ERR_MEMORY,      /* an allocation failed */
    NB_ERR_IO,          /* the system refused to read or write */
    NB_ERR_NOT_FOUND,   /* no such file, model, tensor or key */
    NB_ERR_FORMAT,      /* the file is damaged or not what it claims to be */
    NB_ERR_UNSUPPORTED, /* well formed, but not something this build can do */
    NB_ERR_LIMIT,       /* a stated limit (context, steps, depth, size) was reached */
    NB_ERR_CANCELLED,   /* the caller's callback asked to stop */
    NB_ERR_INTERNAL     /* a bug of ours */
} nb_status;

typedef struct nb_error {
    nb_status code;
    char message[1024]; /* one line: what happened, where, what to do; always terminated */
} nb_error;

/* "out of memory", "not found", ...: the class of a status, in plain words. Never NULL. */
NB_API const char *nb_status_name(nb_status status);

/* The library's version, as NB_VERSION of the header it was built with. */
NB_API const char *nb_version(void);

/* ---- models ------------------------------------------------------------------------------------- */

typedef struct nb_model nb_model;

typedef struct nb_model_params {
    int threads;               /* 1..256; 0: one a processor */
    bool pin_threads;          /* bind threads to processors: for programs that do nothing else */
    bool repack;               /* copy weights into a faster layout where that pays (default) */
    bool exact;                /* dequantize weights to float32 and add in float32: slow, the reference */
    const char *pre_tokenizer; /* overrides the file's tokenizer.ggml.pre; NULL: the file's */
} nb_model_params;

NB_API nb_model_params nb_model_defaults(void);

/* Opens a GGUF file (or the first shard of several): checks it, binds its tensors, packs its weights. */
NB_API nb_status nb_model_open(const char *path, const nb_model_params *params, nb_model **model, nb_error *err);
NB_API void nb_model_close(nb_model *model); /* after its sessions; NULL is fine */

NB_API size_t nb_model_vocabulary(const nb_model *model);  /* logits a row */
NB_API size_t nb_model_context(const nb_model *model);     /* positions it was trained for */
NB_API bool nb_model_has_chat(const nb_model *model);      /* a chat template came with it */
NB_API bool nb_model_ends_reply(const nb_model *model, int32_t id);

/* ---- text and tokens ---------------------------------------------------------------------------- */

enum {
    NB_TEXT_PLAIN = 0,
    NB_TEXT_ADD_SPECIAL = 1,  /* BOS and the like, where the vocabulary asks for them */
    NB_TEXT_PARSE_SPECIAL = 2 /* control tokens written out in the text become their ids */
};

/* Writes at most `capacity` ids and sets *count to all there are (call again with room when it is larger). */
NB_API nb_status nb_tokenize(const nb_model *model, const char *text, size_t bytes, unsigned flags, int32_t *ids, size_t capacity,
                             size_t *count, nb_error *err);
/* Writes at most `capacity` bytes (not terminated) and sets *bytes to all there are. */
NB_API nb_status nb_detokenize(const nb_model *model, const int32_t *ids, size_t count, char *text, size_t capacity, size_t *bytes,
                               nb_error *err);

typedef struct nb_message {
    const char *role; /* "system", "user", "assistant", "tool" */
    const char *content;
} nb_message;

/* Renders a conversation with the model's own template, ready for an answer. Writes at most `capacity` bytes and sets
 * *bytes to all there are. NB_ERR_UNSUPPORTED when the model has no template. */
NB_API nb_status nb_chat_prompt(const nb_model *model, const nb_message *messages, size_t count, char *text, size_t capacity,
                                size_t *bytes, nb_error *err);

/* ---- sessions ----------------------------------------------------------------------------------- */

typedef struct nb_session nb_session;

typedef struct nb_session_params {
    size_t context;      /* positions; 0: the model's own, at most 8192 */
    size_t batch;        /* tokens computed together, at most; 0: 512 */
    size_t outputs;      /* rows of logits a step can give, at most `batch`; 0: 1 */
    const char *kv_type; /* "f32", "f16", "bf16", "q8_0"; NULL: f16 (f32 in an exact model) */
} nb_session_params;

typedef enum nb_logits { NB_LOGITS_NONE, NB_LOGITS_LAST, NB_LOGITS_ALL } nb_logits;

NB_API nb_session_params nb_session_defaults(void);
NB_API nb_status nb_session_open(nb_model *model, const nb_session_params *params, nb_session **session, nb_error *err);
NB_API void nb_session_close(nb_session *session); /* NULL is fine */

/* Appends tokens and computes them. NB_LOGITS_LAST: a row for the last one; NB_LOGITS_ALL: a row a token, count at most
 * the session's `outputs`. NB_ERR_LIMIT when the context is full: nothing is computed then. */
NB_API nb_status nb_session_eval(nb_session *session, const int32_t *ids, size_t count, nb_logits logits, nb_error *err);
/* Row i of the last call's logits: [vocabulary], owned by the session, valid until its next call. NULL past the end. */
NB_API const float *nb_session_row(const nb_session *session, size_t i);
NB_API size_t nb_session_position(const nb_session *session); /* tokens held */
NB_API size_t nb_session_capacity(const nb_session *session); /* positions of its context */
/* How many of these ids, from the first on, are what the session holds already. */
NB_API size_t nb_session_match(const nb_session *session, const int32_t *ids, size_t count);
/* Forgets everything from `position` on. NB_ERR_UNSUPPORTED when window layers no longer hold what would be needed. */
NB_API nb_status nb_session_rewind(nb_session *session, size_t position, nb_error *err);

/* ---- embeddings --------------------------------------------------------------------------------- */

/* How the vectors of a text's tokens (the model's last hidden states, after its final norm) become one. */
typedef enum nb_pooling {
    NB_POOLING_MODEL, /* as the file says; else the mean where every token sees the whole text, the last one otherwise */
    NB_POOLING_MEAN,
    NB_POOLING_CLS,   /* of the first token */
    NB_POOLING_LAST   /* of the last token */
} nb_pooling;

typedef enum nb_normalize { NB_NORMALIZE_MODEL, NB_NORMALIZE_NO, NB_NORMALIZE_YES } nb_normalize;

typedef struct nb_embed_params {
    nb_pooling pooling;     /* NB_POOLING_MODEL */
    nb_normalize normalize; /* to a length of 1; NB_NORMALIZE_MODEL: unless the file says no */
    bool truncate;          /* cut a text that is longer than the model's positions; else it is NB_ERR_LIMIT */
    size_t batch;           /* tokens computed together; 0: 512. A text that every token sees whole is never cut by it */
} nb_embed_params;

typedef struct nb_embed_input { /* a text, with the model's special tokens added; or, where ids is not NULL, its ids as they are */
    const char *text;
    size_t bytes;
    const int32_t *ids;
    size_t count;
} nb_embed_input;

NB_API nb_embed_params nb_embed_defaults(void);
NB_API size_t nb_model_embedding(const nb_model *model); /* floats of an embedding */

/* Computes an embedding of each input into out [count][nb_model_embedding]. Any model can: an encoder, or a decoder
 * without its head. Inputs of different lengths share steps without padding, and none changes another's result. *tokens
 * (may be NULL) is set to the tokens computed. NB_ERR_ARGUMENT for an input without tokens or an id outside the vocabulary;
 * errors name the input, counted from 0. Takes memory for the call alone; threads may call it at once on one model. */
NB_API nb_status nb_embed(nb_model *model, const nb_embed_input *inputs, size_t count, const nb_embed_params *params, float *out,
                          size_t *tokens, nb_error *err);

/* ---- sampling and generation -------------------------------------------------------------------- */

typedef struct nb_logit_bias {
    int32_t id;
    float bias;
} nb_logit_bias;

/* Stages run in llama.cpp's default order: bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature. */
typedef struct nb_sampler_params {
    uint64_t seed;             /* NB_SEED_RANDOM: a fresh one */
    float temperature;         /* <= 0: greedy */
    float dynatemp_range, dynatemp_exponent;
    int top_k;                 /* <= 0: off */
    float top_p;               /* >= 1: off */
    float min_p;               /* <= 0: off */
    float typical_p;           /* >= 1: off */
    float top_n_sigma;         /* < 0: off */
    float xtc_probability, xtc_threshold;
    int repeat_last_n;         /* 0: off, -1: all */
    float repeat_penalty;      /* 1: off */
    float frequency_penalty, presence_penalty; /* 0: off */
    float dry_multiplier;      /* 0: off */
    float dry_base;
    int dry_allowed_length, dry_penalty_last_n;
    const char *const *dry_breakers; /* NULL: the default four */
    size_t dry_breaker_count;
    int mirostat;              /* 0, 1 or 2 */
    float mirostat_tau, mirostat_eta;
    const nb_logit_bias *bias;
    size_t bias_count;
    int min_keep;
    const char *order;         /* semicolon-separated stage names; NULL: the default order */
} nb_sampler_params;

#define NB_SEED_RANDOM UINT64_MAX

NB_API nb_sampler_params nb_sampler_defaults(void);

typedef enum nb_stop_reason { NB_STOP_END, NB_STOP_STRING, NB_STOP_LENGTH, NB_STOP_CONTEXT, NB_STOP_CALLER } nb_stop_reason;

/* Receives text as it becomes certain: whole code points, never part of a stop string. Non-zero ends the reply. */
typedef int nb_text_fn(void *user, const char *text, size_t bytes);

typedef struct nb_generate_params {
    nb_sampler_params sampling;
    int64_t max_tokens;          /* < 0: until the end or a full context */
    const char *const *stops;    /* stop strings */
    size_t stop_count;
    bool special;                /* write control tokens out, too */
    bool ignore_end;             /* go on past end-of-reply tokens (benchmarks) */
    nb_text_fn *on_text;         /* may be NULL */
    void *user;
} nb_generate_params;

typedef struct nb_generate_stats {
    size_t prompt_tokens, tokens;
    double prompt_seconds, seconds; /* seconds: of the tokens after the first */
    double first_token_seconds;     /* from the call to the first token */
    nb_stop_reason reason;
    uint64_t seed;                  /* as used */
} nb_generate_stats;

NB_API nb_generate_params nb_generate_defaults(void);

/* Computes the prompt (appended to what the session holds) and generates a reply. stats may be NULL. */
NB_API nb_status nb_generate(nb_session *session, const int32_t *prompt, size_t count, const nb_generate_params *params,
                             nb_generate_stats *stats, nb_error *err);

#ifdef __cplusplus
}
#endif
#endif
