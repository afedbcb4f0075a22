/* Every architecture's row bound to a tiny GGUF, right and then wrong in one place: each hyperparameter at its extremes, of
 * another kind, missing; each tensor missing, of another shape or type. Errors name the file and the key or tensor. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "format/gguf_builder.h"
#include "model/plan.h"
#include "support/sanitized.h"

enum {
    LAYERS = 2,
    EMBD = 64,
    FF = 96,
    HEADS = 4,
    KV_HEADS = 2,
    HEAD = 32,
    VOCAB = 40,
    CONTEXT = 64,
    TYPES = 2,
    EXPERTS = 5,
    EXPERTS_USED = 3,
    EXPERT_FF = 32,
    SHARED_FF = 64,
    LATENT = 32, /* of latent attention, where half of a key turns */
    Q_RANK = 64,
    LIMIT_MS = 100
};

/* kinds as the file numbers them */
enum { U32 = 4, I32 = 5, F32 = 6, BOOL = 7, STRING = 8, ARRAY = 9, U64 = 10, I64 = 11, F64 = 12 };

typedef struct key {
    const char *name;
    int kind;
    double number;
    const char *text;
    bool required;
    const char *only;       /* read by these architectures alone; NULL: by all */
    unsigned with, without; /* read by architectures with these traits and none of those */
    unsigned refuses;       /* of numbers that must not pass */
} key;

enum { ZERO = 1, ONE = 2, MOST = 4, NEGATIVE = 8, SIZE = ZERO | MOST | NEGATIVE, ANY_NUMBER = SIZE | ONE };
#define ROTARY .without = NB_ARCH_POSITIONS

static const key keys[] = {
    {"block_count", U32, LAYERS, .required = true, .refuses = SIZE},
    {"embedding_length", U32, EMBD, .required = true, .refuses = SIZE | ONE},
    {"feed_forward_length", U32, FF, .required = true, .refuses = SIZE | ONE},
    {"attention.head_count", U32, HEADS, .required = true, .refuses = SIZE | ONE},
    {"attention.head_count_kv", U32, KV_HEADS, .refuses = SIZE | ONE},
    {"attention.key_length", U32, HEAD, .refuses = SIZE | ONE},
    {"attention.value_length", U32, HEAD, .refuses = SIZE | ONE},
    {"context_length", U32, CONTEXT, .required = true, .refuses = ZERO | NEGATIVE},
    {"attention.layer_norm_rms_epsilon", F32, 1e-5, .required = true, .without = NB_ARCH_LAYER_NORM,
     .refuses = MOST | NEGATIVE},
    {"attention.layer_norm_epsilon", F32, 1e-5, .required = true, .with = NB_ARCH_LAYER_NORM,
     .refuses = MOST | NEGATIVE},
    {"attention.sliding_window", U32, 16, .refuses = MOST | NEGATIVE},
    {"attention.causal", BOOL, 1, .refuses = ANY_NUMBER},
    {"pooling_type", U32, 1, .refuses = MOST | NEGATIVE},
    {"embedding_normalize", BOOL, 1, .refuses = ANY_NUMBER},
    {"rope.dimension_count", U32, HEAD, ROTARY, .refuses = SIZE | ONE},
    {"rope.freq_base", F32, 10000, ROTARY, .refuses = ZERO | ONE | NEGATIVE},
    {"rope.scaling.type", STRING, 0, "yarn", ROTARY, .refuses = 0},
    {"rope.scaling.factor", F32, 4, ROTARY, .refuses = ZERO | NEGATIVE},
    {"rope.scaling.original_context_length", U32, 128, ROTARY, .refuses = ZERO | NEGATIVE},
    {"rope.scaling.attn_factor", F32, 1, ROTARY, .refuses = ZERO | NEGATIVE},
    {"rope.scaling.yarn_attn_factor", F32, 1, ROTARY, .refuses = ZERO | NEGATIVE},
    {"rope.scaling.yarn_beta_fast", F32, 32, ROTARY, .refuses = ZERO | NEGATIVE},
    {"rope.scaling.yarn_beta_slow", F32, 1, ROTARY, .refuses = ZERO | NEGATIVE},
    {"rope.scale_linear", F32, 1, ROTARY, .refuses = 0},
    {"attention.sliding_window_pattern", U32, 6, .only = "gemma2 gemma3 gemma-embedding olmo2 cohere2 qwen2 qwen3 exaone4 llama gptneo",
     .refuses = SIZE},
    {"rope.freq_base_swa", F32, 10000, .only = "gemma3 gemma-embedding olmo2", .refuses = ZERO | ONE | NEGATIVE},
    {"final_logit_softcapping", F32, 30, .only = "gemma2 gemma3"},
    {"attn_logit_softcapping", F32, 50, .only = "gemma2"},
    {"attention.scale", F32, 0.25, .refuses = NEGATIVE},
    {"embedding_scale", F32, 12, .only = "granite granitemoe minicpm"},
    {"residual_scale", F32, 0.25, .only = "granite granitemoe minicpm"},
    {"logit_scale", F32, 8, .only = "granite granitemoe minicpm command-r cohere2"},
    {"attention.temperature_scale", F32, 0.1, .only = "mistral3"},
    {"xielu.alpha_p", F32, 0.5, .only = "apertus", .required = true}, /* its name is not the architecture's */
    {"xielu.alpha_n", F32, 0.5, .only = "apertus", .required = true},
    {"xielu.beta", F32, 0.5, .only = "apertus", .required = true},
    {"xielu.eps", F32, -1e-6, .only = "apertus", .required = true},
    {"rope.skip_interval", U32, 4, .only = "smollm3", .refuses = MOST | NEGATIVE},
    {"token_embedding_length", U32, EMBD / 2, .only = "opt", .refuses = SIZE | ONE},
    {"expert_count", U32, EXPERTS, .with = NB_ARCH_EXPERTS, .refuses = SIZE | ONE},
    {"expert_used_count", U32, EXPERTS_USED, .with = NB_ARCH_EXPERTS, .required = true, .refuses = SIZE},
    {"expert_feed_forward_length", U32, EXPERT_FF, .with = NB_ARCH_EXPERTS, .refuses = SIZE | ONE},
    {"expert_shared_feed_forward_length", U32, SHARED_FF, .with = NB_ARCH_EXPERTS, .refuses = MOST | NEGATIVE},
    {"expert_group_count", U32, 1, .with = NB_ARCH_EXPERTS, .refuses = MOST | NEGATIVE},
    {"expert_group_used_count", U32, 1, .with = NB_ARCH_EXPERTS, .refuses = SIZE},
    {"expert_shared_count", U32, 2, .only = "deepseek2", .refuses = MOST | NEGATIVE},
    {"attention.kv_lora_rank", U32, LATENT, .only = "deepseek2", .required = true, .refuses = SIZE | ONE},
    {"attention.q_lora_rank", U32, Q_RANK, .only = "deepseek2", .refuses = SIZE | ONE},
    {"expert_gating_func", U32, 1, .with = NB_ARCH_EXPERTS, .refuses = SIZE},
    {"expert_weights_norm", BOOL, 1, .with = NB_ARCH_EXPERTS, .refuses = ANY_NUMBER},
    {"expert_weights_scale", F32, 2, .with = NB_ARCH_EXPERTS, .refuses = NEGATIVE},
    {"norm_first", BOOL, 1, .only = "opt", .refuses = ANY_NUMBER},
    {"activation", STRING, 0, "gelu", .only = "opt"},
    {"hidden_activation", STRING, 0, "gelu_new", .only = "bert falcon gptneox mpnet mpt starcoder starcoder2 gptj gptneo"},
    {"use_parallel_residual", BOOL, 1, .only = "gptneox falcon", .refuses = ANY_NUMBER},
    {"attention.max_alibi_bias", F32, 8, .only = "mpt falcon", .refuses = MOST | NEGATIVE},
    {"attention.clamp_kqv", F32, 2, .only = "mpt olmo olmoe", .refuses = NEGATIVE},
};
enum { KEYS = sizeof keys / sizeof *keys };

/* ---- what is wrong in a file ---- */

typedef enum mutation { RIGHT, NUMBER, OTHER_KIND, STRINGS, DIFFERENT, EQUAL, EMPTY, NOT_FINITE, MISSING } mutation;
typedef enum damage { WHOLE, NO_TENSOR, COLUMNS, ROWS, THIRD, TYPE_I32, TYPE_Q8_0, ZEROS, DAMAGES } damage;

typedef struct wrong {
    int key; /* -1: none */
    mutation how;
    double number;
    const char *tensor; /* NULL: none */
    damage damage;
    bool shared;              /* tensors that several roles can share are written so */
    const char *architecture; /* NULL: the right one */
    int window_list;          /* 0: none; else a list of so many bools less one instead of a pattern */
} wrong;

static char path[400];

static void put_number(builder *x, int kind, double number)
{
    uint32_t u32 = number > 0 ? (uint32_t)number : 0;
    int64_t i64 = isnan(number) ? 0 : (int64_t)number;
    float f32 = (float)number;
    if (kind == F32)
        put_bytes(x, &f32, 4);
    else if (kind == F64)
        put_bytes(x, &number, 8);
    else if (kind == I64)
        put_bytes(x, &i64, 8);
    else if (kind == BOOL)
        put_bytes(x, &u32, 1);
    else
        put_u32(x, u32);
}

static void put_numbers(builder *x, const char *name, double first, double second)
{
    put_key_array(x, name, U32, 2);
    put_number(x, U32, first);
    put_number(x, U32, second);
}

static void put_hyperparameter(builder *x, const char *arch, const key *k, const wrong *w, bool here)
{
    char name[128];
    bool doubled = strcmp(arch, "qwen") == 0 && strcmp(k->name, "feed_forward_length") == 0;
    bool halved = strcmp(arch, "deepseek2") == 0 && strcmp(k->name, "rope.dimension_count") == 0;
    double right = k->number * (doubled ? 2 : halved ? 0.5 : 1);
    if (strncmp(k->name, "xielu.", 6) == 0)
        snprintf(name, sizeof name, "%s", k->name);
    else
        snprintf(name, sizeof name, "%s.%s", arch, k->name);
    mutation how = here ? w->how : RIGHT;
    if (how == MISSING)
        return;
    if (w->window_list && strcmp(k->name, "attention.sliding_window_pattern") == 0) {
        put_key_array(x, name, BOOL, (uint64_t)w->window_list - 1);
        for (int i = 0; i < w->window_list - 1; i++)
            put_number(x, BOOL, i % 2 == 0);
        return;
    }
    if (how == DIFFERENT || how == EQUAL) {
        put_numbers(x, name, right, how == EQUAL ? right : right + 1);
    } else if (how == EMPTY || how == STRINGS) {
        put_key_array(x, name, how == EMPTY ? U32 : STRING, how == EMPTY ? 0 : 1);
        if (how == STRINGS)
            put_str(x, "7");
    } else if (how == OTHER_KIND ? k->kind != STRING : k->kind == STRING && how == RIGHT) {
        put_key(x, name, STRING);
        put_str(x, how == RIGHT ? k->text : "7");
    } else {
        int kind = how == RIGHT ? k->kind : how == NOT_FINITE ? F64 : w->number < 0 ? I64 : k->kind == F32 ? F64 : U32;
        put_key(x, name, (uint32_t)kind);
        put_number(x, kind, how == RIGHT ? right : how == NOT_FINITE ? NAN : w->number);
    }
}

static uint64_t size_of(nb_dim dim)
{
    switch (dim) {
    case NB_DIM_NONE: return 0;
    case NB_DIM_EMBD: return EMBD;
    case NB_DIM_FF: return FF;
    case NB_DIM_Q:
    case NB_DIM_O: return HEADS * HEAD;
    case NB_DIM_K:
    case NB_DIM_V: return KV_HEADS * HEAD;
    case NB_DIM_K_HEAD: return HEAD;
    case NB_DIM_HEADS: return HEADS;
    case NB_DIM_KV_HEADS: return KV_HEADS;
    case NB_DIM_ROPE: return HEAD / 2;
    case NB_DIM_VOCAB: return VOCAB;
    case NB_DIM_TOKEN: return EMBD / 2;
    case NB_DIM_POSITIONS: return CONTEXT;
    case NB_DIM_ANY: return TYPES;
    case NB_DIM_QKV: return (HEADS + 2 * KV_HEADS) * HEAD;
    case NB_DIM_GATE_UP: return 2 * FF;
    case NB_DIM_ONE: return 1;
    case NB_DIM_EXPERTS: return EXPERTS;
    case NB_DIM_EXPERT_FF: return EXPERT_FF;
    case NB_DIM_SHARED_FF: return SHARED_FF;
    case NB_DIM_RANGES: return 32;
    case NB_DIM_LATENT: return LATENT;
    case NB_DIM_ROTATED:
    case NB_DIM_KEY_PLAIN: return HEAD / 2;
    case NB_DIM_LATENT_KEY: return LATENT + HEAD / 2;
    case NB_DIM_Q_RANK: return Q_RANK;
    case NB_DIM_HEADS_KEY:
    case NB_DIM_HEADS_VALUE: return HEADS * HEAD;
    case NB_DIM_HEADS_LATENT: return HEADS * LATENT;
    case NB_DIM_HEADS_BOTH: return HEADS * (HEAD / 2 + HEAD);
    }
    return 0;
}

typedef struct tensors { /* the infos and the data, beside each other */
    builder infos, data;
    uint64_t count;
} tensors;

static void put_tensor(tensors *t, const nb_tensor_row *row, int layer, const wrong *w)
{
    char name[96];
    snprintf(name, sizeof name, row->name, layer);
    damage d = w->tensor && strcmp(w->tensor, name) == 0 ? w->damage : WHOLE;
    bool matrix = row->rows != NB_DIM_NONE;
    uint64_t columns = size_of(row->whole && !matrix ? row->whole : row->columns) + (d == COLUMNS ? 32 : 0);
    uint64_t rows = size_of(row->whole && matrix ? row->whole : row->rows) + (d == ROWS ? 1 : 0);
    bool stack = row->flags & NB_TENSOR_STACK;
    if (stack && !matrix)
        rows = EXPERTS + (d == ROWS ? 1 : 0);
    uint64_t third = (stack && matrix ? EXPERTS : 1) * (d == THIRD ? 2 : 1);
    uint64_t values = columns * (rows ? rows : 1) * third;
    if (d == NO_TENSOR)
        return;
    put_data(&t->data, 32, 0);
    put_str(&t->infos, name);
    put_u32(&t->infos, third > 1 ? 3 : rows ? 2 : 1);
    put_u64(&t->infos, columns);
    if (rows || third > 1)
        put_u64(&t->infos, rows ? rows : 1);
    if (third > 1)
        put_u64(&t->infos, third);
    put_u32(&t->infos, d == TYPE_I32 ? 26 : d == TYPE_Q8_0 ? 8 : 0);
    put_u64(&t->infos, t->data.b.len);
    float one = d == ZEROS ? 0.0f : 1.0f;
    if (d == TYPE_Q8_0)
        put_data(&t->data, 1, (size_t)(values / 32 * 34));
    else
        for (uint64_t i = 0; i < values; i++)
            put_bytes(&t->data, &one, 4);
    t->count++;
}

/* of the rows that can stand for a role, the first that is of the kind that is written, and of each tensor the first */
static bool is_written(const nb_arch *arch, const nb_tensor_row *row, bool shared)
{
    bool single = row->role == NB_ATTN_LATENT || row->role == NB_ATTN_LATENT_ROPE; /* which stand in one tensor always */
    if (row->whole && !shared && !single)
        return false;
    for (const nb_tensor_row *r = arch->tensors; r < row; r++)
        if ((shared && r->whole && r->role == row->role) || (row->whole == r->whole && strcmp(r->name, row->name) == 0))
            return false;
    return true;
}

/* The first layer of a family that may have experts has none, the second has, unless all must. */
static bool is_of_layer(const nb_arch *arch, const nb_tensor_row *row, int layer)
{
    if (!(arch->traits & NB_ARCH_EXPERTS))
        return true;
    bool sparse = row->flags & NB_TENSOR_SPARSE || row->role == NB_FFN_ROUTER || row->role == NB_FFN_ROUTER_BIAS ||
                  row->role == NB_FFN_ROUTER_CHOICE;
    for (const nb_tensor_row *r = arch->tensors; r->name; r++)
        if (r->role == NB_FFN_ROUTER && !(r->flags & NB_TENSOR_OPTIONAL))
            return !(row->flags & NB_TENSOR_DENSE); /* all layers have some */
    return layer == 0 ? !sparse : !(row->flags & NB_TENSOR_DENSE);
}

static void write_model(const nb_arch *arch, const wrong *w)
{
    builder x = {0};
    tensors t = {0};
    for (const nb_tensor_row *row = arch->tensors; row->name; row++)
        for (int layer = 0; is_written(arch, row, w->shared) && layer < (row->flags & NB_TENSOR_LAYER ? LAYERS : 1);
             layer++)
            if (is_of_layer(arch, row, layer))
                put_tensor(&t, row, layer, w);
    put_header(&x, 3, t.count, KEYS + 1 - (w->key >= 0 && w->how == MISSING));
    put_key(&x, "general.architecture", STRING);
    put_str(&x, w->architecture ? w->architecture : arch->name);
    for (int i = 0; i < KEYS; i++)
        put_hyperparameter(&x, arch->name, &keys[i], w, w->key == i);
    put_bytes(&x, t.infos.b.data, t.infos.b.len);
    put_data(&x, 32, 0);
    put_bytes(&x, t.data.b.data, t.data.b.len);
    assert_true(builder_save(&x, path));
    nb_buf_free(&x.b);
    nb_buf_free(&t.infos.b);
    nb_buf_free(&t.data.b);
}

/* ---- what becomes of it ---- */

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static nb_status open_model(const nb_arch *arch, const wrong *w, nb_error *err)
{
    nb_gguf *g = NULL;
    nb_model_def *m = NULL;
    nb_plan plan = {0};
    write_model(arch, w);
    *err = (nb_error){0};
    double start = cpu_ms();
    nb_status status = nb_gguf_open(path, &g, err);
    if (status == NB_OK)
        status = nb_model_def_new(g, &m, err);
    if (status == NB_OK)
        status = nb_plan_build(m, &plan, err);
    if (status == NB_OK)
        assert_true(plan.op_count > 0 && plan.hidden >= 0 && plan.hidden_ops <= plan.op_count);
    nb_plan_free(&plan);
    nb_model_def_free(m);
    nb_gguf_close(g);
    assert_true(cpu_ms() - start < LIMIT_MS);
    if (status != NB_OK && (err->code != status || !strstr(err->message, path)))
        fail_msg("%s: the message names no file: %s", arch->name, err->message);
    return status;
}

static const wrong nothing_wrong = {.key = -1};

static void test_right(void **state)
{
    (void)state;
    for (size_t a = 0; a < nb_arch_count(); a++) {
        nb_error err;
        if (open_model(nb_arch_at(a), &nothing_wrong, &err) != NB_OK)
            fail_msg("%s", err.message);
        if (open_model(nb_arch_at(a), &(wrong){.key = -1, .shared = true}, &err) != NB_OK)
            fail_msg("shared tensors: %s", err.message);
    }
}

/* name is one of the words of list */
static bool is_listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = strstr(list, name); at; at = strstr(at + n, name))
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
            return true;
    return false;
}

static bool has_role(const nb_arch *arch, nb_role role)
{
    const nb_tensor_row *row = arch->tensors;
    while (row->name && row->role != role)
        row++;
    return row->name;
}

static void check_key(const nb_arch *arch, int i, mutation how, double number, bool must_fail)
{
    nb_error err;
    const key *k = &keys[i];
    wrong w = {.key = i, .how = how, .number = number};
    nb_status status = open_model(arch, &w, &err);
    bool read = (!k->only || is_listed(k->only, arch->name)) && (arch->traits & k->with) == k->with &&
                !(arch->traits & k->without) &&
                (strcmp(k->name, "attention.head_count_kv") != 0 || has_role(arch, NB_ATTN_K)) && /* or one, of latents */
                (strcmp(k->name, "feed_forward_length") != 0 || has_role(arch, NB_FFN_DOWN)); /* all may be experts */
    if (must_fail && read && status == NB_OK)
        fail_msg("%s.%s: way %d (%g) passed", arch->name, k->name, how, number);
    if (!must_fail && !read && status != NB_OK)
        fail_msg("%s does not read %s: %s", arch->name, k->name, err.message);
    char own[40]; /* another key may be named that no longer fits this one */
    snprintf(own, sizeof own, "%s.", arch->name);
    if (status != NB_OK && !strstr(err.message, k->name) && !strstr(err.message, own) &&
        !strstr(err.message, ".weight"))
        fail_msg("%s.%s: way %d (%g): the message names neither key nor tensor: %s", arch->name, k->name, how, number,
                 err.message);
}

static void test_hyperparameters(void **state)
{
    (void)state;
    for (size_t a = 0; a < nb_arch_count(); a++)
        for (int i = 0; i < KEYS; i++) {
            const nb_arch *arch = nb_arch_at(a);
            const key *k = &keys[i];
            bool text = k->kind == STRING;
            check_key(arch, i, NUMBER, 0, text || k->refuses & ZERO);
            check_key(arch, i, NUMBER, 1, text || k->refuses & ONE);
            check_key(arch, i, NUMBER, UINT32_MAX, text || k->refuses & MOST);
            check_key(arch, i, NUMBER, -1, text || k->refuses & NEGATIVE);
            check_key(arch, i, NUMBER, -0x1p63, text || k->refuses & NEGATIVE);
            check_key(arch, i, OTHER_KIND, 7, true);
            check_key(arch, i, STRINGS, 0, true);
            check_key(arch, i, EMPTY, 0, true);
            check_key(arch, i, DIFFERENT, 0, true);
            check_key(arch, i, EQUAL, 0, k->kind != U32);
            check_key(arch, i, NOT_FINITE, 0, true);
            check_key(arch, i, MISSING, 0, k->required);
        }
}

/* all that a tensor could be, others that are there are already (falcon's attn_norm) */
static bool is_replaced(const nb_arch *arch, const nb_tensor_row *row)
{
    for (const nb_tensor_row *r = arch->tensors; r->name; r++) {
        const nb_tensor_row *first = arch->tensors;
        while (first->name && (first->role != r->role || first->whole))
            first++;
        if (strcmp(r->name, row->name) == 0 && (!first->name || strcmp(first->name, r->name) == 0))
            return false;
    }
    return true;
}

static void check_tensor(const nb_arch *arch, const nb_tensor_row *row, int layer, damage d)
{
    char name[96];
    nb_error err;
    snprintf(name, sizeof name, row->name, layer);
    wrong w = {.key = -1, .tensor = name, .damage = d, .shared = row->whole};
    nb_status status = open_model(arch, &w, &err);
    bool factors = row->role == NB_ROPE_FREQS || row->role == NB_ROPE_FACTORS_SHORT ||
                   row->role == NB_ROPE_FACTORS_LONG;
    bool projects = row->role == NB_TOKEN_PROJ || row->role == NB_OUTPUT_PROJ, matrix = row->rows != NB_DIM_NONE;
    bool counts = row->rows == NB_DIM_ANY || (row->role == NB_TOKEN_EMBD && !has_role(arch, NB_OUTPUT));
    bool narrow = row->columns == NB_DIM_HEADS || row->columns == NB_DIM_KEY_PLAIN; /* no whole block of Q8_0 */
    bool router = row->role == NB_FFN_ROUTER; /* without one the layer lacks what others have */
    bool shared = row->role == NB_FFN_GATE_SHARED || row->role == NB_FFN_UP_SHARED || row->role == NB_FFN_DOWN_SHARED;
    if (row->role == NB_ATTN_LATENT || row->role == NB_ATTN_LATENT_ROPE) /* the tensor's name is said, the other one's shape, too */
        shared = true;
    bool latent = row->role == NB_ATTN_Q_A || row->role == NB_ATTN_Q_A_NORM; /* needed where there is a rank */
    bool may_pass = (d == NO_TENSOR && row->flags & NB_TENSOR_OPTIONAL && !projects && !router && !shared && !latent &&
                     !(row->whole && matrix)) ||
                    (!row->whole && is_replaced(arch, row)) || (d == ROWS && counts) ||
                    (d == THIRD && row->rows == NB_DIM_ANY) || /* the tensor says how many there are */
                    (d >= TYPE_I32 && d <= TYPE_Q8_0 && row->rows != NB_DIM_NONE && !(d == TYPE_Q8_0 && narrow)) || (d == ZEROS && !factors) ||
                    d == WHOLE;
    /* the embedding's rows are the vocabulary; with an output matrix of its own it must have as many */
    if (row->role == NB_TOKEN_EMBD && d == ROWS && !counts) {
        assert_int_not_equal(status, NB_OK);
        assert_non_null(strstr(err.message, "output.weight"));
        return;
    }
    if (may_pass ? status != NB_OK : status == NB_OK)
        fail_msg("%s: %s, damage %d: %s", arch->name, name, d, status == NB_OK ? "passed" : err.message);
    if (status != NB_OK && !strstr(err.message, name) && !(row->whole && d == NO_TENSOR) &&
        !(router && d == NO_TENSOR && strstr(err.message, ".ffn_")))
        fail_msg("%s: %s, damage %d is not named: %s", arch->name, name, d, err.message);
}

static void test_tensors(void **state)
{
    (void)state;
    for (size_t a = 0; a < nb_arch_count(); a++)
        for (const nb_tensor_row *row = nb_arch_at(a)->tensors; row->name; row++)
            for (int layer = 0; layer < (row->flags & NB_TENSOR_LAYER ? LAYERS : 1); layer++)
                for (damage d = is_of_layer(nb_arch_at(a), row, layer) ? WHOLE : DAMAGES; d < DAMAGES; d++)
                    check_tensor(nb_arch_at(a), row, layer, d);
}

static void test_architecture(void **state)
{
    (void)state;
    nb_error err;
    wrong w = {.key = -1, .architecture = "llama5"};
    assert_int_equal(open_model(nb_arch_at(0), &w, &err), NB_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "\"llama5\" is not supported"));
    for (size_t a = 0; a < nb_arch_count(); a++)
        assert_non_null(strstr(err.message, nb_arch_at(a)->name));
    w.architecture = "";
    assert_int_equal(open_model(nb_arch_at(0), &w, &err), NB_ERR_UNSUPPORTED);
    char longest[400];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    w.architecture = longest;
    assert_int_equal(open_model(nb_arch_at(0), &w, &err), NB_ERR_UNSUPPORTED);
    for (size_t a = 0; a < nb_arch_count(); a++) /* another architecture's keys are missing */
        if (a != 1) {
            w.architecture = nb_arch_at(a)->name;
            assert_int_not_equal(open_model(nb_arch_at(1), &w, &err), NB_OK);
            assert_non_null(strstr(err.message, "block_count"));
        }
}

/* the file is right, the model in it is not; frees what was built */
static void refuse_built(builder *x, nb_error *err)
{
    nb_gguf *g;
    nb_model_def *m;
    assert_true(builder_save(x, path));
    nb_buf_free(&x->b);
    assert_int_equal(nb_gguf_open(path, &g, err), NB_OK);
    assert_int_equal(nb_model_def_new(g, &m, err), NB_ERR_FORMAT);
    assert_null(m);
    nb_gguf_close(g);
}

/* metadata without general.architecture, or with another kind of it */
static void test_no_architecture(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        builder x = {0};
        nb_error err;
        put_header(&x, 3, 0, (uint64_t)way);
        if (way == 1)
            put_key_u32(&x, "general.architecture", 7);
        put_data(&x, 32, 32);
        refuse_built(&x, &err);
        assert_non_null(strstr(err.message, path));
        assert_non_null(strstr(err.message, "general.architecture"));
    }
}

/* windows of some layers as a list of bool: long enough, or an error */
static void test_window_list(void **state)
{
    (void)state;
    const nb_arch *arch = nb_arch_find(NB_STR("cohere2"));
    for (int count = 0; count <= LAYERS + 1; count++) {
        nb_error err;
        nb_gguf *g;
        nb_model_def *m;
        wrong w = {.key = -1, .window_list = count + 1};
        write_model(arch, &w);
        assert_int_equal(nb_gguf_open(path, &g, &err), NB_OK);
        nb_status status = nb_model_def_new(g, &m, &err);
        if (count < LAYERS) {
            assert_int_equal(status, NB_ERR_FORMAT);
            assert_non_null(strstr(err.message, "sliding_window_pattern"));
        } else {
            assert_int_equal(status, NB_OK);
            assert_true(nb_model_layer_is_local(m, 0) && nb_model_layer_rotates(m, 0));
            assert_true(!nb_model_layer_is_local(m, 1) && !nb_model_layer_rotates(m, 1));
        }
        nb_model_def_free(m);
        nb_gguf_close(g);
    }
}

/* all numbers zero, in every architecture */
static void test_all_zero(void **state)
{
    (void)state;
    for (size_t a = 0; a < nb_arch_count(); a++) {
        builder x = {0};
        nb_error err;
        char name[128];
        put_header(&x, 3, 0, KEYS + 1);
        put_key(&x, "general.architecture", STRING);
        put_str(&x, nb_arch_at(a)->name);
        for (int i = 0; i < KEYS; i++) {
            snprintf(name, sizeof name, "%s.%s", nb_arch_at(a)->name, keys[i].name);
            put_key_u32(&x, name, 0);
        }
        put_data(&x, 32, 32);
        refuse_built(&x, &err);
        assert_non_null(strstr(err.message, "block_count"));
    }
}

/* a count of layers with tensors for none of them costs nothing: only the file can make memory grow */
static void test_memory(void **state)
{
    (void)state;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("peak memory: %ld KiB\n", usage.ru_maxrss);
#ifndef NB_SANITIZED
    assert_true(usage.ru_maxrss < 64 << 10);
#endif
}

static int make_directory(void **state)
{
    int failed = nb_folder_make(state);
    snprintf(path, sizeof path, "%s", failed ? "" : nb_folder_path("model.gguf"));
    return failed;
}

static int remove_directory(void **state)
{
    unlink(path);
    return nb_folder_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),        cmocka_unit_test(test_hyperparameters), cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_architecture), cmocka_unit_test(test_no_architecture), cmocka_unit_test(test_all_zero),
        cmocka_unit_test(test_window_list),
        cmocka_unit_test(test_memory), /* last: of all before it */
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
