/* cpu_internal.h - shared by the files of the CPU backend.
 *
 * The plan is lowered once to steps: its ops, plus the writing of activation panels where matrices read them (once for all
 * that share an input), plus where the team must meet. Each step splits its work one way (nb_split); a barrier stands only
 * where a step reads or overwrites what another member may have written or may still read. */
#ifndef NB_CPU_CPU_INTERNAL_H
#define NB_CPU_CPU_INTERNAL_H

#include <stdatomic.h>

#include "base/team.h"
#include "kernel/matmul.h"
#include "model/backend.h"

typedef enum nb_split_kind {
    NB_SPLIT_TOKENS,  /* by panels of 8 tokens */
    NB_SPLIT_OUTPUTS, /* by panels of 8 wanted outputs */
    NB_SPLIT_COLUMNS, /* by columns of the buffer (rows of the weights), in 32s */
    NB_SPLIT_OWN      /* the step divides the work itself: its parts match nobody else's */
} nb_split_kind;

typedef struct nb_split {
    nb_split_kind kind;
    size_t width; /* of NB_SPLIT_COLUMNS */
} nb_split;

typedef struct nb_panels { /* a buffer's activations in the form that matrices read */
    int buffer;
    nb_act_format format;
    size_t bytes;  /* for the context's maximum of rows */
    size_t offset; /* in the context's memory */
} nb_panels;

typedef struct nb_step {
    const nb_op *op; /* NULL: write panels */
    int panels;      /* written (op NULL) or read (matmul); -1 none */
    nb_split split;
    bool barrier;        /* before the step */
    size_t column_bytes; /* of weights, that a column reads */
} nb_step;

typedef struct nb_program {
    nb_step *steps;
    size_t step_count;
    size_t hidden_steps; /* those that the plan's hidden buffer needs: the first ones */
    nb_panels *panels;
    size_t panels_count;
} nb_program;

/* The activation format that products with a weight read. */
nb_act_format nb_cpu_weight_format(const nb_model_def *model, int weight, const nb_weights_params *params);
nb_status nb_cpu_lower(const nb_model_def *model, const nb_plan *plan, const nb_weights_params *params, nb_program *program,
                       nb_error *err);
void nb_program_free(nb_program *program);

typedef struct nb_cpu_weight {
    const void *data; /* of a matrix: packed or file rows; of a vector: floats */
    bool packed;
    size_t stride; /* bytes from one expert's matrix to the next */
    const nb_gguf_tensor *const *each; /* file rows of experts that lie apart, instead of data; else NULL */
} nb_cpu_weight;

/* Row `row` of an expert's matrix, the first of a tile. */
const void *nb_cpu_expert_rows(const nb_cpu_weight *w, const nb_gguf_tensor *t, size_t expert, size_t row);

struct nb_weights {
    const nb_model_def *model;
    const nb_plan *plan;
    nb_weights_params params;
    nb_program program;
    nb_team *team;
    nb_cpu_weight *weight; /* [model->weight_count] */
    float **shared_key;    /* [model's layers] of NB_OP_UNBIAS */
    void *memory;          /* packed matrices, float vectors, shared keys */
    size_t bytes;
};

typedef struct nb_rope_table { /* of one kind of layer */
    float magnitude;
    size_t pairs, slots; /* slots: max_spans where frequencies follow the length of a sequence, else 1 */
    float *frequency;    /* [slots][pairs] */
    size_t *kind;        /* [slots] nb_rope_kind of what is there; 0: nothing */
    float *cos_sin;   /* [max_tokens][pairs][2] of the step */
} nb_rope_table;

/* What has been taken of a member's columns in one chain of steps: low half, blocks its owner took from the front; high
 * half, blocks that others took from the back. Slots are used in turn; lowering sees to it that there is a barrier at
 * least every NB_CLAIMS / 4 steps, so a slot can be cleared half a turn ahead without being in use. */
enum { NB_CLAIMS = 64 };
typedef struct nb_claim {
    _Alignas(64) atomic_uint_fast64_t taken;
} nb_claim;

/* ---- experts (cpu_experts.c) ---- */

typedef struct nb_expert_rows { /* an expert that was chosen */
    uint32_t expert;
    size_t first, count;   /* its rows among all experts' */
    size_t in, in2, down; /* bytes, where its panels begin */
} nb_expert_rows;

/* What a step of experts writes beside its buffers: room for the largest, used by one after the other. */
typedef struct nb_expert_room {
    uint32_t *chosen;       /* [rows][used] ascending */
    float *weight;          /* [rows][used] */
    uint32_t *row;          /* [rows * used] by expert */
    float *row_weight;      /* [rows * used] */
    nb_expert_rows *expert; /* [active] */
    size_t active;
    uint32_t *count;      /* [experts] */
    nb_claim *claims;     /* [2] of hidden, of down */
    char *in, *in2;       /* panels of what the experts read; in2: in the format of gate, where up has another */
    char *down;           /* of hidden */
    float *hidden;        /* [rows * used][ff] */
    float *sums;          /* [members][sums_count] */
    size_t sums_count;
} nb_expert_room;

struct nb_context {
    nb_weights *weights;
    nb_context_params params;
    nb_kv_layout kv;
    size_t page_bytes, group_layers[NB_GROUPS];
    int *layer_slot;       /* [layers] place in its group */
    char *pool[NB_GROUPS]; /* [layer of group][page][page_bytes] */
    float *buffer[NB_PLAN_BUFFERS]; /* of the plan */
    char *panels[128];     /* of the program */
    nb_rope_table rope[NB_GROUPS];
    void **page_pointers;         /* [layers][max_spans][max of max_pages] */
    nb_attention_span *attention; /* [layers][max_spans] */
    int64_t *token_position;      /* [max_tokens] */
    uint32_t *token_span;         /* [max_tokens] */
    nb_claim *claims;        /* [members][NB_CLAIMS] */
    char *scratch;                /* [members][scratch_bytes] */
    size_t scratch_bytes;
    void *attention_scratch;
    nb_expert_room experts;
    const nb_batch *batch; /* of the step in progress */
    nb_tap_fn *tap;        /* NULL: nobody looks */
    void *tap_user;
    bool (*given_up)(void *user); /* NULL: never */
    void *given_up_user;
    atomic_bool halts[2]; /* what member 0 was told before a barrier, for all after it; in turns */
    void *memory;
    size_t bytes;
};

nb_status nb_cpu_weights_memory(const nb_model_def *m, const nb_plan *plan, const nb_weights_params *params,
                                nb_memory *memory, nb_error *err);
nb_status nb_cpu_weights_new(const nb_model_def *m, const nb_plan *plan, const nb_weights_params *params,
                             nb_weights **out, nb_error *err);
void nb_cpu_weights_free(nb_weights *w);
nb_status nb_cpu_context_memory(const nb_model_def *model, const nb_plan *plan, const nb_weights_params *weights,
                                const nb_context_params *params, nb_memory *memory, nb_error *err);
nb_status nb_cpu_context_new(nb_weights *w, const nb_context_params *params, nb_context **out, nb_error *err);
void nb_cpu_context_free(nb_context *x);

/* Hands out aligned pieces of a block, or only counts them while base is NULL. */
typedef struct nb_carver {
    char *base;
    size_t used;
    bool failed;
} nb_carver;
void *nb_carve(nb_carver *c, size_t count, size_t size, size_t *total);

typedef struct nb_experts_need {
    const nb_model_def *model;
    const nb_plan *plan;
    const nb_weights_params *params;
    size_t op_count;        /* that are run */
    size_t tokens, outputs; /* at most */
    int members;
} nb_experts_need;
void nb_experts_layout(nb_carver *c, const nb_experts_need *need, nb_expert_room *room, size_t *buffers);

/* y = activation(gate) * up; up NULL: activation(gate) */
void nb_cpu_activate(nb_activation activation, const float *gate, const float *up, size_t n, float *y);

/* The whole op, by all members. */
void nb_cpu_run_experts(nb_context *x, const nb_op *op, size_t rows, int member, int members);

/* Runs the step's program on one member of the team. */
void nb_cpu_run_member(void *context, int member, int members);

#endif
