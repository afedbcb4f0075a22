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

/* How the linear layers of a model are quantized while they are read, as bitsandbytes does: each block of 64 values in 4 bits,
 * or rows in 8 bits (LLM.int8()). Embeddings, norms and biases stay. */
typedef enum nb_load_form { NB_LOAD_NF4, NB_LOAD_FP4, NB_LOAD_INT8 } nb_load_form;

typedef struct nb_load_params {
    nb_load_form form;
    bool double_quant;       /* 4 bits: the scales of blocks in 8 bits, too */
    float int8_threshold;    /* 8 bits: activations from here on are multiplied in float; 0: none */
    const char *const *skip; /* names of modules that stay, as transformers takes them: "lm_head", "mlp.fc1", "layers.0" */
    size_t skip_count;       /* 0: the output head and what is tied to it stay */
} nb_load_params;

NB_API nb_load_params nb_load_defaults(nb_load_form form); /* no double quantization, a threshold of 6 */

/* A LoRA adapter to be applied while the model runs: W x + scale * B (A x), scale times what the adapter's own alpha says. A
 * GGUF adapter (general.type adapter, as llama.cpp writes it) or a PEFT directory (adapter_config.json and
 * adapter_model.safetensors or .bin); of the model's architecture and shapes, or NB_ERR_ARGUMENT, NB_ERR_FORMAT and
 * NB_ERR_UNSUPPORTED name file and tensor. Source: Hu et al. 2021 (LoRA); rank-stabilized: Kalajdzievski 2023. */
typedef struct nb_model_adapter {
    const char *path;
    float scale; /* 1: as it was trained; 0: checked, and results are those of the model alone, to the bit */
} nb_model_adapter;

/* How rotary positions are scaled, instead of what the file says. 0 and NULL: the file's. A model then takes original_context *
 * factor positions. Sources: Chen et al. 2023 (linear); Peng et al. 2023 (YaRN); "dynamic" is the NTK-aware scaling that grows
 * with the length of a sequence, as in transformers. */
typedef struct nb_rope_params {
    const char *scaling;     /* "none", "linear", "yarn", "dynamic" */
    double factor;           /* how many times as long; 1 or more */
    double base;             /* theta; more than 1 */
    size_t original_context; /* positions the model was trained for */
    double attention_factor; /* yarn: of cos and sin; 0: 0.1 ln(factor) + 1 */
    double beta_fast, beta_slow; /* yarn: 32 and 1 where the file has none */
} nb_rope_params;

typedef struct nb_model_params {
    int threads;               /* 1..256; 0: one a processor */
    bool pin_threads;          /* bind threads to processors: for programs that do nothing else */
    bool repack;               /* copy weights into a faster layout where that pays (default) */
    bool exact;                /* dequantize weights to float32 and add in float32: slow, the reference */
    const char *pre_tokenizer; /* overrides the file's tokenizer.ggml.pre; NULL: the file's */
    const nb_load_params *load; /* quantizes while reading; NULL: weights are used as they are stored */
    const nb_model_adapter *adapters; /* any number of them, added up; needed until the model is open */
    size_t adapter_count;
    const nb_rope_params *rope; /* NULL: the file's scaling */
} nb_model_params;

NB_API nb_model_params nb_model_defaults(void);

/* Opens a GGUF file (or the first shard of several): checks it, binds its tensors, packs its weights. */
NB_API nb_status nb_model_open(const char *path, const nb_model_params *params, nb_model **model, nb_error *err);
NB_API void nb_model_close(nb_model *model); /* after its sessions; NULL is fine */

NB_API size_t nb_model_vocabulary(const nb_model *model);  /* logits a row */
NB_API size_t nb_model_context(const nb_model *model);     /* positions it was trained for, or is scaled to */
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
    const char *kv_type; /* "f32", "f16", "bf16", "q8_0", "q4_0"; NULL: f16 (f32 in an exact model) */
    bool allow_long;     /* context may be more than nb_model_context, where positions are not learned one by one */
} nb_session_params;

typedef enum nb_logits { NB_LOGITS_NONE, NB_LOGITS_LAST, NB_LOGITS_ALL } nb_logits;

NB_API nb_session_params nb_session_defaults(void);
NB_API nb_status nb_session_open(nb_model *model, const nb_session_params *params, nb_session **session, nb_error *err);
NB_API void nb_session_close(nb_session *session); /* NULL is fine */

/* Appends tokens and computes them. NB_LOGITS_LAST: a row for the last one; NB_LOGITS_ALL: a row a token, count at most
 * the session's `outputs`. NB_ERR_LIMIT when the context is full: nothing is computed then.
 * Where the scaling of rotary positions follows the length of a sequence, the length at the end of this call counts: longrope
 * computes what the session holds again when it crosses the model's original length; with dynamic scaling, keys stay as they
 * were computed (as transformers' generate does both). */
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
    bool truncate;          /* cut a text that is longer than sentence-transformers' max_seq_length, where the file says
                             * one, or the model's positions; else only more than the positions are NB_ERR_LIMIT */
    size_t *truncated;      /* the tokens that were cut off are added to it; may be NULL */
    size_t batch;           /* tokens computed together; 0: 512. A text that every token sees whole is never cut by it */
    /* One of the prompts that the file names (sentence-transformers' "query", "document"): its text is put before each
     * text. NULL: the file's default, if it has one; "": none. NB_ERR_ARGUMENT names those that there are. */
    const char *prompt_name;
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
 * without its head, and then through the dense layers of sentence-transformers that the file has. Inputs of different
 * lengths share steps without padding, and none changes another's result. *tokens
 * (may be NULL) is set to the tokens computed. NB_ERR_ARGUMENT for an input without tokens or an id outside the vocabulary;
 * errors name the input, counted from 0. Takes memory for the call alone; threads may call it at once on one model. */
NB_API nb_status nb_embed(nb_model *model, const nb_embed_input *inputs, size_t count, const nb_embed_params *params, float *out,
                          size_t *tokens, nb_error *err);

/* Scores of a label: how well each text answers the query, by a model that ranks pairs (bge-reranker, MS MARCO's and other
 * classifiers of RoBERTa's and BERT's kind). They are the classifier's own numbers (logits): 1 / (1 + exp(-x)) makes a likelihood of one. Writes scores
 * [count][nb_model_labels]; nb_model_labels is 0 for a model that does not rank, and nb_rank then NB_ERR_UNSUPPORTED. Of
 * params (NULL: the defaults) truncate, which cuts the text, and batch count; all else is as nb_embed has it. An input's ids
 * are a whole pair's; of BERT's kind, those behind the first separator are the second text's. */
NB_API size_t nb_model_labels(const nb_model *model);
NB_API nb_status nb_rank(nb_model *model, const char *query, size_t query_bytes, const nb_embed_input *texts, size_t count,
                         const nb_embed_params *params, float *scores, size_t *tokens, nb_error *err);

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

/* ---- threads ------------------------------------------------------------------------------------ */

/* Threads that run one call at a time; a call that takes a team may be given NULL: it then runs on the caller's thread
 * alone. Results do not depend on the team. One thread at a time may use a team. */
typedef struct nb_team nb_team;

/* threads: 1..256, 0: one a processor; pin: bind them to processors. */
NB_API nb_status nb_team_new(int threads, bool pin, nb_team **team, nb_error *err);
NB_API void nb_team_free(nb_team *team); /* NULL is fine */

/* ---- bitsandbytes: 4-bit and 8-bit blocks, LLM.int8() -------------------------------------------- */

/* The arithmetic of bitsandbytes 0.50 on plain arrays. A tensor is taken in row-major order as n values in blocks of
 * `block`; blocks may cross rows, the last one may be partial. Sources: Dettmers et al. 2023 (QLoRA), 2022 (8-bit
 * optimizers, LLM.int8()). Values must be finite: NB_ERR_ARGUMENT names the first that is not. Arrays do not overlap. */

typedef enum nb_float { NB_FLOAT_F32, NB_FLOAT_F16, NB_FLOAT_BF16 } nb_float; /* the type behind a void pointer */

typedef enum nb_code4 {
    NB_CODE_NF4, /* quantiles of the normal distribution */
    NB_CODE_FP4  /* sign, two exponent bits, one mantissa bit */
} nb_code4;

NB_API const float *nb_bnb_map4(nb_code4 code);      /* [16]: what each code stands for, at absmax 1 */
NB_API const float *nb_bnb_map8(bool with_negatives); /* [256], ascending: the dynamic map, signed or unsigned */

/* Numbers of blocks: of n values, n / block rounded up. */
NB_API size_t nb_bnb_blocks(size_t n, size_t block);

/* x: n values; block: 32, 64, 128 ... 4096; packed: (n + 1) / 2 bytes, value 2i in the high half of byte i (a missing
 * last one counts as 0); absmax: one float a block. Codes are the nearest in the map, ties towards the lower value, of
 * x * (1 / absmax) in float32, and of x / absmax in a partial last block. */
NB_API nb_status nb_bnb_quantize_4bit(const void *x, nb_float type, size_t n, nb_code4 code, size_t block, uint8_t *packed,
                                      float *absmax, nb_team *team, nb_error *err);
/* y[i] = map[code of i] * absmax[i / block] in float32, rounded half to even to `type`. map: [16], as stored with the
 * codes (nb_bnb_map4 for the usual two). */
NB_API nb_status nb_bnb_dequantize_4bit(const uint8_t *packed, const float *absmax, const float *map, size_t block, size_t n,
                                        void *y, nb_float type, nb_team *team, nb_error *err);

/* 8-bit blocks with any ascending map of 256. block: 64, 128 ... 4096; codes: n bytes; absmax: one float a block. Codes
 * are the nearest in the map, ties towards the lower value; zero becomes the code nearest to zero. */
NB_API nb_status nb_bnb_quantize_8bit(const void *x, nb_float type, size_t n, const float *map, size_t block, uint8_t *codes,
                                      float *absmax, nb_team *team, nb_error *err);
NB_API nb_status nb_bnb_dequantize_8bit(const uint8_t *codes, const float *absmax, const float *map, size_t block, size_t n,
                                        void *y, nb_float type, nb_team *team, nb_error *err);

/* Double quantization: the absmax of 4-bit blocks, less their mean (*offset), in 8-bit blocks of 256 with the signed
 * dynamic map. codes: count bytes; nested_absmax: nb_bnb_blocks(count, 256) floats. */
NB_API nb_status nb_bnb_nest(const float *absmax, size_t count, uint8_t *codes, float *nested_absmax, float *offset, nb_error *err);
/* absmax[i] = map[codes[i]] * nested_absmax[i / block] + offset; block: what the file says, 256 as a rule. */
NB_API nb_status nb_bnb_unnest(const uint8_t *codes, const float *nested_absmax, const float *map, float offset, size_t block,
                               size_t count, float *absmax, nb_error *err);

/* y = W x + bias for one token, W in 4 bits: sums in float32, their order fixed by the instruction-set level. With 16-bit
 * types AVX-512 takes x and map as 15-bit integers (x at the largest magnitude of each 128 values), which is
 * finer than those types: well below what a map in BF16 is off by. */
typedef struct nb_weight_4bit {
    const uint8_t *packed; /* rows * columns values as nb_bnb_quantize_4bit packs them */
    const float *absmax;   /* one a block (not nested) */
    const float *map;      /* [16] */
    size_t rows, columns;  /* outputs, inputs */
    size_t block;          /* 32, 64, 128 ... 4096 */
} nb_weight_4bit;

/* x: [columns], y: [rows], bias: [rows] or NULL, all of `type`. Fastest when columns is a multiple of block. */
NB_API nb_status nb_linear_4bit(const nb_weight_4bit *w, const void *x, const void *bias, void *y, nb_float type, nb_team *team,
                                nb_error *err);

/* The same weight in an order of its own, made once, from which a token is computed faster: a copy of as many bytes (rows
 * rounded up to 64), after which *w is not needed. columns must be a multiple of block: NB_ERR_ARGUMENT. */
typedef struct nb_packed_4bit nb_packed_4bit;
NB_API nb_status nb_pack_4bit(const nb_weight_4bit *w, nb_team *team, nb_packed_4bit **packed, nb_error *err);
NB_API void nb_packed_4bit_free(nb_packed_4bit *packed); /* NULL is fine */
/* As nb_linear_4bit; the order of the sums, and with AVX-512 and 16-bit types the scale of x (in integers, 13 bits
 * or more at the largest magnitude of each 64 values), differ. */
NB_API nb_status nb_linear_packed_4bit(const nb_packed_4bit *w, const void *x, const void *bias, void *y, nb_float type,
                                       nb_team *team, nb_error *err);

/* LLM.int8(): a row of weights or activations becomes int8 with the row's largest magnitude `scale` (not divided by 127):
 * codes = round_half_even(v * 127 / scale), v the value rounded to F16. codes: [rows][columns]; scale: [rows]. */
NB_API nb_status nb_bnb_quantize_int8(const void *x, nb_float type, size_t rows, size_t columns, int8_t *codes, float *scale,
                                      nb_team *team, nb_error *err);
/* y = codes * scale / 127, [rows][columns] of `type` */
NB_API nb_status nb_bnb_dequantize_int8(const int8_t *codes, const float *scale, size_t rows, size_t columns, void *y,
                                        nb_float type, nb_team *team, nb_error *err);
/* Activations: the same, but values with |v| >= threshold (> 0; 6 as a rule) are left out of the scale, and each column
 * that holds one in any row is 0 in all codes; these columns are listed in ascending order in outliers[0 .. *count)
 * (room for `columns`). */
NB_API nb_status nb_bnb_quantize_int8_outliers(const void *x, nb_float type, size_t rows, size_t columns, float threshold,
                                               int8_t *codes, float *scale, uint32_t *outliers, size_t *count, nb_error *err);

typedef struct nb_weight_int8 {
    const int8_t *codes;  /* [rows][columns] */
    const float *scale;   /* [rows], bitsandbytes' SCB */
    size_t rows, columns; /* outputs, inputs; at most 133,143 columns: sums are int32 */
} nb_weight_int8;

/* The whole layer: y = [tokens][rows]; x: [tokens][columns]; bias: [rows] or NULL; all of `type`. threshold 0: no
 * outliers. int8 products are added as integers and scaled by scale_x * scale_w / (127 * 127) in float32, the bias is
 * added, the sum rounded to `type`; then the outlier columns' products (weights dequantized to `type`) are added and the
 * sum is rounded again. Which columns are outliers depends on all tokens of the call, as in bitsandbytes. */
NB_API nb_status nb_linear_int8(const nb_weight_int8 *w, const void *x, size_t tokens, const void *bias, float threshold, void *y,
                                nb_float type, nb_team *team, nb_error *err);

/* ---- linear quantization ------------------------------------------------------------------------- */

/* Codes that stand for evenly spaced numbers (int2, int4, int8), or float8. A matrix [rows][columns] has one scale for all of
 * it, one a row, one a column, or one for each `group` values along a row or a column. Arithmetic is float32, one rounding an
 * operation, so that numbers equal PyTorch's. Source: Jacob et al. 2018 (affine, integer zero point); optimum-quanto 0.2
 * (shift). */
typedef enum nb_linear_code { NB_LINEAR_INT8, NB_LINEAR_INT4, NB_LINEAR_INT2, NB_LINEAR_F8_E4M3, NB_LINEAR_F8_E5M2 } nb_linear_code;

typedef enum nb_linear_form {
    NB_LINEAR_SYMMETRIC, /* x = scale * q; scale = max |x| / qmax, q = clamp(round(x / scale), qmin, qmax) */
    NB_LINEAR_AFFINE,    /* x = scale * (q - zero): scale = (max - min) / (qmax - qmin), zero = round(qmin - min / scale) and
                            q = round(x / scale + zero), both clamped to qmin..qmax: signed integers */
    NB_LINEAR_SHIFT      /* x = scale * q - shift: quanto's: q = clamp(round((x + shift) / scale), 0, 2^bits - 1), shift = -min */
} nb_linear_form;

typedef enum nb_linear_axis { NB_LINEAR_TENSOR, NB_LINEAR_ROW, NB_LINEAR_COLUMN } nb_linear_axis;

typedef struct nb_linear_params {
    nb_linear_code code;
    nb_linear_form form; /* float8: symmetric only */
    nb_linear_axis axis; /* what has a scale of its own */
    size_t group;        /* 0: the whole row or column; else a divisor of its length */
} nb_linear_params;

NB_API int nb_linear_bits(nb_linear_code code);
/* The whole numbers that codes of this form span; NB_ERR_ARGUMENT for float8. */
NB_API nb_status nb_linear_limits(nb_linear_code code, nb_linear_form form, int *qmin, int *qmax, nb_error *err);
/* How many scales a matrix has: 1, rows * (columns / group) or columns * (rows / group), in this order of indices; 0 when the
 * group does not divide. */
NB_API size_t nb_linear_scales(const nb_linear_params *p, size_t rows, size_t columns);

/* The scale, and the zero point (AFFINE, a whole number) or shift (SHIFT) of numbers between min and max. A range of no extent
 * gives scale 1, or max |x| / qmax. offset: unused by SYMMETRIC, may be NULL then. */
NB_API nb_status nb_linear_scale(nb_linear_code code, nb_linear_form form, float min, float max, float *scale, float *offset,
                                 nb_error *err);

/* scale, offset: [nb_linear_scales], made from each group's own smallest and largest value. codes: one byte a value, two's
 * complement for signed integers, the code itself for float8. Values must be finite. */
NB_API nb_status nb_linear_quantize(const nb_linear_params *p, const float *x, size_t rows, size_t columns, int8_t *codes,
                                    float *scale, float *offset, nb_error *err);
/* The same with scales that the caller has (static ranges). */
NB_API nb_status nb_linear_encode(const nb_linear_params *p, const float *x, size_t rows, size_t columns, const float *scale,
                                  const float *offset, int8_t *codes, nb_error *err);
NB_API nb_status nb_linear_dequantize(const nb_linear_params *p, const int8_t *codes, const float *scale, const float *offset,
                                      size_t rows, size_t columns, float *x, nb_error *err);

/* n codes of 2, 4 or 8 bits into (n * bits + 7) / 8 bytes, the first one in the lowest bits: 1 0 3 2 of 2 bits is 177. */
NB_API nb_status nb_linear_pack(const int8_t *codes, size_t n, int bits, uint8_t *packed, nb_error *err);
/* signs: codes are two's complement (AFFINE and SYMMETRIC), else 0 .. 2^bits - 1. */
NB_API nb_status nb_linear_unpack(const uint8_t *packed, size_t n, int bits, bool signs, int8_t *codes, nb_error *err);

/* A range for activations from a sample of n values. PERCENTILE: the middle `share` of them (0 < share <= 1); of the magnitudes
 * when symmetric (then min = -max). MSE: the part of the whole range, in hundredths, whose codes have the least squared error. */
typedef enum nb_linear_range { NB_LINEAR_MIN_MAX, NB_LINEAR_PERCENTILE, NB_LINEAR_MSE } nb_linear_range;
NB_API nb_status nb_linear_calibrate(nb_linear_range method, nb_linear_code code, nb_linear_form form, const float *x, size_t n,
                                     double share, float *min, float *max, nb_error *err);

/* A linear layer with quantized weights. */
typedef struct nb_linear_weight {
    nb_linear_params params;
    const int8_t *codes;  /* [rows][columns], one a byte */
    const float *scale, *offset;
    size_t rows, columns; /* outputs, inputs */
} nb_linear_weight;

typedef enum nb_linear_activation {
    NB_LINEAR_A32,       /* as they are */
    NB_LINEAR_A16,       /* rounded to binary16 */
    NB_LINEAR_ABF16,     /* rounded to bfloat16 */
    NB_LINEAR_A8_STATIC, /* int8, symmetric, with the caller's scale for all */
    NB_LINEAR_A8_DYNAMIC /* int8, symmetric, with a scale a token: max |x| / 127 */
} nb_linear_activation;

/* y[tokens][rows] = x[tokens][columns] W^T + bias. 8-bit activations want int8 SYMMETRIC weights whose scales are one a tensor
 * or one a row: their products are added as integers. Sums of other kinds are float64, rounded once. bias: [rows] or NULL;
 * activation_scale: of NB_LINEAR_A8_STATIC. */
NB_API nb_status nb_linear_forward(const nb_linear_weight *w, const float *x, size_t tokens, const float *bias,
                                   nb_linear_activation activation, float activation_scale, float *y, nb_error *err);

/* ---- attention ----------------------------------------------------------------------------------- */

/* out = softmax(scores) V with scores = scale Q K^T, bent and hidden as the parameters say, on plain arrays: exact (float64),
 * standard (Algorithm 0 of Dao et al. 2022, FlashAttention) and flash (its Algorithm 1), forward and backward; over a paged cache; and
 * the layers that projections make of it. MHA, GQA and MQA are values of heads and kv_heads. A row is one query of one head.
 *
 * A score is softcap(scale q.k), less slopes[h] |position of the query - key|, plus the bias. A bias of 1e8 or more in
 * magnitude replaces the score, as the rounding of float32 does: a row whose scores are all -1e9 is uniform. A row that sees no
 * key gives 0 and a log-sum-exp of -infinity. Values that are not finite are the caller's affair: they spread along their rows. */

typedef struct nb_attention_stride { /* values from one to the next; the values of a row of one head are adjacent */
    size_t batch, head, row;
} nb_attention_stride;

typedef struct nb_attention_params {
    size_t batch;
    size_t heads, kv_heads; /* heads is a multiple of kv_heads; query head h reads kv head h / (heads / kv_heads) */
    size_t k_dim, v_dim;    /* of queries and keys, and of values: 1..512 */
    size_t queries, keys;   /* rows of q, and of k and v */
    nb_float type;          /* of q, k and v; all else is float32 */
    nb_attention_stride q, k, v, out; /* gradients lie as what they are of */
    float scale;
    float softcap;          /* cap tanh(score / cap); 0: none (Gemma 2) */

    int64_t offset;         /* query i stands at the position of key i + offset */
    bool causal;            /* keys after the query's position are hidden */
    int64_t left, right;    /* keys before and after the query's position that a window shows; below 0: no window */
    size_t dilation;        /* of the window: only every so many-th key from the query's position counts (Beltagy et al. 2020); 1..65536 */
    const uint32_t *globals; /* ascending positions of tokens that see all and are seen by all, whatever the window */
    size_t global_count;
    size_t sink_tokens;     /* first keys that are seen whatever the window (Xiao et al. 2024) */
    const size_t *key_lengths; /* [batch] keys that are there, the others being padding; NULL: all are */
    const uint8_t *mask;    /* 0: the query does not see the key; NULL: none. Strides of 0 share one among heads, rows or a batch */
    nb_attention_stride mask_stride;
    float mask_fill;        /* what the score of a key becomes that the mask hides: -INFINITY, or -1e9 as masked_fill has it */
    const float *bias;      /* added to scores; NULL: none */
    nb_attention_stride bias_stride;
    const float *slopes;    /* [heads] ALiBi (Press et al. 2022); NULL: none */
    const float *sinks;     /* [heads] learned logits that join the softmax's sum without a value (gpt-oss); NULL: none */
    float dropout;          /* share of the weights that become 0, the others growing by 1 / (1 - dropout); 0 <= dropout < 1 */
    uint64_t seed;          /* of the dropout: a weight's fate hangs on seed, batch, head, query and key alone */
} nb_attention_params;

/* One batch, float32, [queries][heads][dim] and [keys][kv_heads][dim] without gaps, scale 1 / sqrt(dim), the last query at the last
 * key, all keys seen. */
NB_API nb_attention_params nb_attention_defaults(size_t heads, size_t kv_heads, size_t dim, size_t queries, size_t keys);

/* What a call did. A tile is tile_rows rows of one kv head by tile_keys keys. */
typedef struct nb_attention_stats {
    size_t tile_rows, tile_keys;
    uint64_t tiles_visited, tiles_skipped; /* computed; left out because no row sees any of its keys */
    uint64_t bytes_moved;                  /* between memory and the caches' scratch: inputs, outputs and, standard, matrices */
    size_t scratch_bytes;                  /* taken for the call */
} nb_attention_stats;

/* The definition in float64, rounded nowhere: the oracle of the others. Slow: for tests and for measuring errors. out, lse, dq, dk,
 * dv: float64, strides as the parameters have them; lse [batch][heads][queries] (natural logarithm) may be NULL. */
NB_API nb_status nb_attention_exact(const nb_attention_params *p, const void *q, const void *k, const void *v, double *out,
                                    double *lse, nb_error *err);
NB_API nb_status nb_attention_exact_backward(const nb_attention_params *p, const void *q, const void *k, const void *v,
                                             const float *dout, double *dq, double *dk, double *dv, nb_error *err);

/* Algorithm 0: the whole matrix of scores is made, then that of weights. scores (before the softmax; hidden ones are -INFINITY)
 * and alphas (the weights, after dropout): [batch][heads][queries][keys] float32, each may be NULL. Takes memory for one head's
 * matrix. lse: [batch][heads][queries]; lse, stats and team may be NULL. */
NB_API nb_status nb_attention_standard(const nb_attention_params *p, const void *q, const void *k, const void *v, float *out,
                                       float *lse, float *scores, float *alphas, nb_attention_stats *stats, nb_team *team,
                                       nb_error *err);

/* Algorithm 1: tiles, a running maximum and sum, memory in proportion to the lengths. Tiles that the parameters empty are
 * skipped; a window's cost is in proportion to its width, dilated or not. Results do not depend on the team. Subnormal bfloat16
 * queries and keys may count as 0; values are summed before they are divided, so keys times the largest must fit a float. */
NB_API nb_status nb_attention_flash(const nb_attention_params *p, const void *q, const void *k, const void *v, float *out, float *lse,
                                    nb_attention_stats *stats, nb_team *team, nb_error *err);
/* Gradients of sum(out * dout) by recomputing weights from lse: out and lse are the forward call's. */
NB_API nb_status nb_attention_flash_backward(const nb_attention_params *p, const void *q, const void *k, const void *v,
                                             const float *out, const float *lse, const float *dout, float *dq, float *dk, float *dv,
                                             nb_attention_stats *stats, nb_team *team, nb_error *err);

/* Keys and values of one sequence in pages of 64 positions: what a session keeps of a layer. type: "f32", "f16", "bf16", "q8_0"
 * or "q4_0" (blocks of 32, dims are multiples of 32, after a Hadamard rotation of each head that spreads outliers; queries are
 * rotated likewise and outputs back). Room for `capacity` positions is taken at once. */
typedef struct nb_kv_cache nb_kv_cache;
NB_API nb_status nb_kv_cache_new(const char *type, size_t kv_heads, size_t k_dim, size_t v_dim, size_t capacity, nb_kv_cache **cache,
                                 nb_error *err);
NB_API void nb_kv_cache_free(nb_kv_cache *cache); /* NULL is fine */
/* k: [count][kv_heads][k_dim], v: [count][kv_heads][v_dim], finite. NB_ERR_LIMIT when the capacity would be passed: nothing is appended then. */
NB_API nb_status nb_kv_cache_append(nb_kv_cache *cache, const float *k, const float *v, size_t count, nb_error *err);
NB_API size_t nb_kv_cache_length(const nb_kv_cache *cache);
NB_API size_t nb_kv_cache_bytes(const nb_kv_cache *cache); /* of the pages that the length fills */
/* One position as it is stored: k [kv_heads][k_dim], v [kv_heads][v_dim]. NB_ERR_ARGUMENT past the length. */
NB_API nb_status nb_kv_cache_read(const nb_kv_cache *cache, size_t position, float *k, float *v, nb_error *err);
NB_API void nb_kv_cache_truncate(nb_kv_cache *cache, size_t length); /* forgets everything from `length` on */

/* Decode: p->queries queries at the cache's last positions (one, as a rule), causal, over all that it holds; chunks of the keys are
 * shared out among the team and merged by log-sum-exp. Of the parameters count heads, scale, softcap, left, slopes and sinks, and
 * the strides of q and out (float32) between rows; dims, kv_heads and keys must be the cache's, heads adjacent. NB_ERR_UNSUPPORTED for
 * others that ask for something. lse: [heads][queries], with which the output may be merged with that over other keys; lse and team
 * may be NULL. */
NB_API nb_status nb_attention_decode(const nb_kv_cache *cache, const nb_attention_params *p, const float *q, float *out, float *lse,
                                     nb_team *team, nb_error *err);

/* Layers of attention as a lecture builds them in PyTorch: projections of queries, keys and values around it. */
typedef enum nb_attention_layer_kind {
    NB_ATTENTION_SINGLE,   /* one head of d_model: its context is the output */
    NB_ATTENTION_SEPARATE, /* each head has d_model and projections of its own; contexts are concatenated and projected */
    NB_ATTENTION_CHUNKED   /* one projection, cut into heads of d_model / heads (Vaswani et al. 2017) */
} nb_attention_layer_kind;

typedef struct nb_projection { /* y = W x + b */
    const float *weight;       /* [outputs][inputs] */
    const float *bias;         /* [outputs] or NULL */
} nb_projection;

typedef struct nb_attention_layer_params {
    nb_attention_layer_kind kind;
    size_t heads;     /* SINGLE: 1 */
    size_t d_model;   /* SINGLE and SEPARATE: of each head */
    size_t input_dim; /* of queries and keys; CHUNKED: d_model */
    bool proj_values; /* else values are the keys as they came (SINGLE, and SEPARATE with input_dim d_model) */
    float dropout;    /* of the weights while training; 0 to use a layer */
    uint64_t seed;
    const nb_projection *query, *key, *value; /* [heads] for SEPARATE, else one; value: NULL without proj_values */
    const nb_projection *out;                 /* [d_model][heads * d_model], CHUNKED [d_model][d_model]; SINGLE: NULL */
} nb_attention_layer_params;

typedef struct nb_attention_layer nb_attention_layer;

/* Copies params, not the arrays of weights: these must live as long as the layer. */
NB_API nb_status nb_attention_layer_new(const nb_attention_layer_params *params, nb_attention_layer **layer, nb_error *err);
NB_API void nb_attention_layer_free(nb_attention_layer *layer); /* NULL is fine */
/* keys: [batch][length][input_dim], projected and kept until the next call; the array itself is copied. */
NB_API nb_status nb_attention_layer_init_keys(nb_attention_layer *layer, const float *keys, size_t batch, size_t length, nb_error *err);
/* query: [batch][queries][input_dim]; mask: [batch][queries][length], 0 hides a key by a score of -1e9, or NULL.
 * out: [batch][queries][nb_attention_layer_width]. */
NB_API nb_status nb_attention_layer_forward(nb_attention_layer *layer, const float *query, size_t queries, const uint8_t *mask,
                                            float *out, nb_error *err);
NB_API size_t nb_attention_layer_width(const nb_attention_layer *layer); /* values of an output */
/* The last call's weights, owned by the layer, valid until its next: SINGLE [batch][queries][length], SEPARATE
 * [heads][batch][queries][length], CHUNKED [batch][heads][queries][length]; *count values. NULL before the first. */
NB_API const float *nb_attention_layer_alphas(const nb_attention_layer *layer, size_t *count);

/* ---- 8-bit optimizers ---------------------------------------------------------------------------- */

/* Optimizers whose states are 8-bit blocks of 256 with the dynamic maps (Dettmers et al. 2022); tensors of fewer than
 * min_8bit_size values keep float32 states. One nb_optimizer holds the states of one tensor. */
typedef enum nb_optimizer_kind {
    NB_OPTIMIZER_ADAM,     /* Kingma & Ba 2015; weight decay, if any, is decoupled, as in bitsandbytes */
    NB_OPTIMIZER_ADAMW,    /* Loshchilov & Hutter 2019 */
    NB_OPTIMIZER_LION,     /* Chen et al. 2023 */
    NB_OPTIMIZER_MOMENTUM, /* SGD with momentum; weight decay is added to the gradient */
    NB_OPTIMIZER_RMSPROP,  /* weight decay is added to the gradient */
    NB_OPTIMIZER_ADAGRAD   /* weight decay is added to the gradient */
} nb_optimizer_kind;

typedef struct nb_optimizer_params {
    double learning_rate;
    double beta1;         /* momentum; RMSprop's alpha; unused by Adagrad */
    double beta2;         /* Adam, AdamW, Lion */
    double epsilon;       /* added to the root; unused by Lion and momentum */
    double weight_decay;
    size_t min_8bit_size; /* tensors with fewer values keep float32 states */
} nb_optimizer_params;

typedef struct nb_optimizer nb_optimizer;

/* bitsandbytes' defaults, except the learning rate of momentum, which has none there: 1e-3. min_8bit_size is 4096. */
NB_API nb_optimizer_params nb_optimizer_defaults(nb_optimizer_kind kind);
/* States of a tensor of n values, all 0. params: NULL for the defaults. */
NB_API nb_status nb_optimizer_new(nb_optimizer_kind kind, const nb_optimizer_params *params, size_t n, nb_optimizer **optimizer,
                                  nb_error *err);
NB_API void nb_optimizer_free(nb_optimizer *optimizer); /* NULL is fine */
NB_API void nb_optimizer_set_learning_rate(nb_optimizer *optimizer, double learning_rate);

/* One step: values [n] change by their gradients [n]. A gradient that is not finite is NB_ERR_ARGUMENT; nothing has
 * changed then. */
NB_API nb_status nb_optimizer_step(nb_optimizer *optimizer, float *values, const float *gradients, nb_team *team, nb_error *err);

/* The states, to be saved or loaded: pointers into the optimizer, valid until it is freed. In 8-bit form codes and absmax
 * are set, else values; the other pointers are NULL, as is all of a state that the kind does not have. absmax: a scale for
 * each block of 256 (nb_bnb_blocks(n, 256) floats); that of state 1 is fitted to its codes after a step. */
typedef struct nb_optimizer_state {
    uint8_t *codes;
    float *absmax;
    float *values;
} nb_optimizer_state;

NB_API nb_optimizer_state nb_optimizer_state_of(nb_optimizer *optimizer, int which); /* 1 or 2 */
NB_API uint64_t nb_optimizer_steps(const nb_optimizer *optimizer);                   /* steps taken */
NB_API void nb_optimizer_set_steps(nb_optimizer *optimizer, uint64_t steps);         /* after loading states */

#ifdef __cplusplus
}
#endif
#endif
