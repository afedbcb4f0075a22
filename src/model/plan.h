/* plan.h - the plan: what one step computes, as a fixed list of ops over named buffers. It holds no pointers: a backend
 * gives the buffers memory and runs the ops. Built once for a model; any number of tokens up to the backend's maximum.
 *
 * Buffers are rows of floats, a row a token (or, after NB_OP_GATHER, a row a wanted output). */
#ifndef NB_MODEL_PLAN_H
#define NB_MODEL_PLAN_H

#include "model/model.h"

typedef enum nb_op_kind {
    NB_OP_EMBED,   /* out = scale * row of weight, one a token: the row of its id, its position or its type */
    NB_OP_RMSNORM, /* out = rmsnorm(in) * weight, over groups of `group` values, which have one weight or each its own */
    NB_OP_LAYERNORM, /* out = layernorm(in) * weight + bias, likewise */
    NB_OP_MATMUL,    /* out (+)= in weight^T + bias */
    NB_OP_ROPE,      /* rotates in = out in place, heads of `group` values; local: the local frequencies */
    NB_OP_KV_STORE,  /* in (keys) and in2 (values) into the layer's cache */
    NB_OP_ATTENTION, /* out = attention of in (queries) over the layer's cache; weight: its sinks */
    NB_OP_GATED,     /* out = activation(in) * in2; in2 -1: activation(in) */
    NB_OP_ADD,       /* out = in + scale * in2 */
    NB_OP_GATHER,    /* out = the rows of in whose outputs are wanted */
    NB_OP_SOFTCAP,   /* out = scale * tanh(in / scale) */
    NB_OP_SCALE,     /* out = scale * in */
    NB_OP_CLAMP,     /* out = in, but not below -scale nor above scale */
    NB_OP_EXPERTS,   /* out = sum of weight * down(activation(gate in) * up in) over the experts that in2, the router's
                        logits, chooses for a token, in the order of their numbers */
    NB_OP_TEMPERATURE, /* out = (1 + scale * ln(1 + floor(position / group))) * in */
    NB_OP_ROW_GATE,    /* out = in * sigmoid(in2), in2 one value a row */
    NB_OP_JOIN,        /* out = in, then in2 behind it */
    NB_OP_UNBIAS,      /* out = in (keys) less nb_model_shared_key of bias */
    /* latent attention, head by head, weight a matrix for each (nb_op_latent): */
    NB_OP_LATENT_QUERY, /* out = [the part of in that turns, what the other does to latents] */
    NB_OP_LATENT_VALUE, /* out = values of the latent in */
    NB_OP_KINDS
} nb_op_kind;

typedef enum nb_embed_row { NB_EMBED_TOKEN, NB_EMBED_POSITION, NB_EMBED_TYPE } nb_embed_row;

typedef struct nb_op_experts { /* weights of the model, a matrix or vector for each expert; -1: none */
    int gate, up, down, gate_bias, up_bias, down_bias;
    int choice; /* NB_FFN_ROUTER_CHOICE */
} nb_op_experts;

typedef struct nb_op_latent { /* sizes of one head */
    size_t latent, plain, rotated; /* plain: of QUERY; VALUE: values */
    size_t stride, first; /* rows of a head in the weight, and where these begin */
    bool turned;          /* QUERY: the matrix has a row for each value of the latent, not of the key */
} nb_op_latent;

enum { NB_PLAN_BUFFERS = 88 }; /* of models fewer than 56; adapters take up to 32 */

typedef struct nb_op {
    nb_op_kind kind;
    int layer;        /* -1: none */
    int in, in2, out; /* buffers; -1: none */
    int weight, bias; /* weights of the model; -1: none (LAYERNORM: then it is 1, and 0) */
    bool add;         /* MATMUL: out += */
    bool local;       /* ROPE: of a window layer */
    bool each;        /* RMSNORM, LAYERNORM: each group has weights of its own */
    nb_activation activation;
    float xielu[4]; /* its parameters, as nb_vec_xielu has them */
    nb_embed_row row;
    size_t group;
    nb_op_experts experts; /* EXPERTS */
    nb_op_latent latent;   /* LATENT_ */
    float scale;           /* EMBED, ADD, SOFTCAP, SCALE, CLAMP, TEMPERATURE; RMSNORM, LAYERNORM: epsilon */
} nb_op;

typedef struct nb_plan_buffer {
    const char *name;
    size_t width; /* floats a row */
    bool outputs; /* rows are wanted outputs, not tokens */
} nb_plan_buffer;

typedef struct nb_plan {
    nb_op *ops;
    size_t op_count, op_cap;
    nb_plan_buffer buffers[NB_PLAN_BUFFERS];
    int buffer_count;
    int logits;        /* the buffer of the result; -1: the model has no head, hidden is the result */
    int hidden;        /* the buffer of what the head reads, a row a wanted output: embeddings are made of it */
    size_t hidden_ops; /* ops until hidden is complete; those after them are the head's */
    bool failed;       /* out of memory while building */
} nb_plan;

/* Emits the whole step of a model. Free with nb_plan_free. */
nb_status nb_plan_build(const nb_model_def *model, nb_plan *plan, nb_error *err);
void nb_plan_free(nb_plan *plan);

/* The matrices, or stacks of them, that an op multiplies by; their number. */
int nb_op_matrices(const nb_op *op, int weights[3]);

/* ---- for arch files ---- */
int nb_plan_buffer_new(nb_plan *p, const char *name, size_t width, bool outputs);
void nb_emit_embed(nb_plan *p, const nb_model_def *m, nb_role weight, nb_embed_row row, float scale, int out);
/* RMSNorm or LayerNorm, as the architecture has it. bias NB_ROLES: none. */
void nb_emit_norm(nb_plan *p, const nb_model_def *m, int layer, nb_role weight, nb_role bias, int in, int out,
                  size_t group);
void nb_emit_matmul(nb_plan *p, const nb_model_def *m, int layer, nb_role weight, nb_role bias, int in, int out,
                    bool add);
void nb_emit_rope(nb_plan *p, const nb_model_def *m, int layer, int buffer, size_t head);
void nb_emit_op(nb_plan *p, nb_op op);

/* What families differ in that neither tensors nor hyperparameters tell; the block itself is written once (block.c). */
typedef struct nb_block_flags {
    bool headless; /* no logits: the last layer's result is the model's */
} nb_block_flags;

/* Embedding, layers, final norm and head of a transformer with grouped-query attention and an MLP. Wherever the file has
 * the tensors: learned positions, token types, a norm of the embedding, a gate, norms of queries and keys, norms after
 * attention and MLP, biases, projections to and from the embedding's own width. */
void nb_build_transformer(const nb_model_def *m, nb_plan *p, nb_block_flags flags);

#endif
