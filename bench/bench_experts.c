/* Speed of a layer of experts as the CPU backend runs it: router, grouping of tokens by expert, the chosen experts' matrices.
 *     bench_experts [-t THREADS] [--type NAME] [--experts N] [--used N] [--json]
 * decode: one token; bytes of the chosen experts' matrices a second, ceiling: reading memory. prefill: 512 tokens; operations of
 * their matrices, ceiling: 8-bit dot products (float types: fma) from registers. Repetitions and ceilings alternate, the
 * fraction is the median of the paired ratios. Experts of 768 x 2048, as of Qwen3-30B-A3B. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "convert/quantize.h"
#include "cpu/cpu.h"
#include "kernel/ceiling.h"
#include "kernel/matmul.h"
#include "median.h"

enum { REPEATS = 9, TOKENS = 512, EMBD = 2048, FF = 768, EXPERTS_MOST = 128 };
enum { TABLE, ROUTER, GATE, UP, DOWN, WEIGHTS };

static int threads, experts = 32, used = 8;
static bool json, first_line = true;

static void die(const nb_error *err)
{
    fprintf(stderr, "bench_experts: %s\n", err->message);
    exit(1);
}

/* ---- a layer of any bytes ---- */

static nb_status read_rows(const nb_source *s, size_t i, uint64_t row, uint64_t count, void *dst, nb_error *err)
{
    size_t bytes = 0;
    const nb_source_tensor *t = &s->tensors[i];
    (void)err;
    nb_type_row_bytes(t->type, (size_t)t->dims[0], &bytes);
    uint64_t first = row * bytes, n = count * bytes;
    for (uint64_t k = 0; t->type->id != NB_TYPE_F32 && k < n; k++)
        ((uint8_t *)dst)[k] = (uint8_t)((first + k) * 2654435761u >> 13 & 0x3f); /* no infinities in any type */
    for (uint64_t k = 0; t->type->id == NB_TYPE_F32 && k < n / 4; k++)
        ((float *)dst)[k] = (float)((first / 4 + k) * 2654435761u >> 9 & 1023) * 0.002f - 1;
    return NB_OK;
}

static void keep(nb_source *s) { (void)s; }

typedef struct layer {
    nb_gguf *gguf;
    nb_model_def model;
    nb_weight weight[WEIGHTS];
    int index[2 * NB_ROLES];
    nb_plan plan;
    nb_weights *weights;
    nb_context *context;
    size_t expert_bytes; /* of one expert's matrices */
} layer;

static void make_file(layer *l, nb_type type)
{
    static const char *const names[] = {"token_embd.weight", "blk.0.ffn_gate_inp.weight", "blk.0.ffn_gate_exps.weight",
                                        "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight"};
    static const nb_role roles[] = {NB_TOKEN_EMBD, NB_FFN_ROUTER, NB_FFN_GATE_EXPERTS, NB_FFN_UP_EXPERTS,
                                    NB_FFN_DOWN_EXPERTS};
    nb_error err;
    nb_source_tensor t[WEIGHTS];
    nb_source s = {.path = "experts", .tensors = t, .tensor_count = WEIGHTS, .read = read_rows, .free = keep};
    nb_quantize_params p = nb_quantize_defaults();
    p.mix = nb_mix_by_name(NB_STR("COPY"));
    p.threads = 1;
    for (int i = 0; i < WEIGHTS; i++)
        t[i] = (nb_source_tensor){.name = nb_str_of(names[i]),
                                  .type = nb_type_get(i < GATE ? NB_TYPE_F32 : type),
                                  .n_dims = i < GATE ? 2 : 3,
                                  .dims = {i == DOWN ? FF : EMBD,
                                           i == TABLE    ? TOKENS
                                           : i == DOWN   ? EMBD
                                           : i == ROUTER ? (uint64_t)experts
                                                         : FF,
                                           i < GATE ? 1 : (uint64_t)experts, 1}};
    if (nb_quantize_to_memory(&s, &p, &l->gguf, &err) != NB_OK)
        die(&err);
    for (int i = 0; i < WEIGHTS; i++)
        l->weight[i] = (nb_weight){
            .tensor = nb_gguf_find_tensor(l->gguf, nb_str_of(names[i])), .role = roles[i], .layer = i ? 0 : -1};
    l->expert_bytes = 0;
    for (int i = GATE; i < WEIGHTS; i++)
        l->expert_bytes += l->weight[i].tensor->bytes / (size_t)experts;
}

static void make_plan(layer *l)
{
    nb_plan *p = &l->plan;
    *p = (nb_plan){.logits = -1};
    int x = nb_plan_buffer_new(p, "x", EMBD, false), logits = nb_plan_buffer_new(p, "router", (size_t)experts, false);
    p->hidden = nb_plan_buffer_new(p, "y", EMBD, false);
    nb_op op = {.layer = -1, .in = -1, .in2 = -1, .out = -1, .weight = -1, .bias = -1};
    nb_op embed = op, matmul = op, run = op;
    embed.kind = NB_OP_EMBED, embed.out = x, embed.weight = TABLE, embed.scale = 1;
    matmul.kind = NB_OP_MATMUL, matmul.in = x, matmul.out = logits, matmul.weight = ROUTER;
    run.kind = NB_OP_EXPERTS, run.layer = 0, run.in = x, run.in2 = logits, run.out = p->hidden;
    run.experts = (nb_op_experts){GATE, UP, DOWN, -1, -1, -1, -1};
    nb_emit_op(p, embed);
    nb_emit_op(p, matmul);
    nb_emit_op(p, run);
    p->hidden_ops = p->op_count;
}

static void layer_open(layer *l, nb_type type)
{
    nb_error err;
    make_file(l, type);
    make_plan(l);
    l->model = (nb_model_def){.gguf = l->gguf, .weights = l->weight, .weight_count = WEIGHTS, .index = l->index};
    for (int i = 0; i < 2 * NB_ROLES; i++)
        l->index[i] = -1; /* the plan names them itself */
    l->model.h = (nb_hparams){.layers = 1,
                              .embd = EMBD,
                              .heads = 1,
                              .kv_heads = 1,
                              .k_dim = 32,
                              .v_dim = 32,
                              .vocab = TOKENS,
                              .context = TOKENS,
                              .causal = true,
                              .experts = experts,
                              .experts_used = used,
                              .expert_ff = FF,
                              .expert_gating = NB_GATING_SOFTMAX,
                              .expert_norm = true,
                              .expert_scale = 1};
    nb_weights_params w = {.threads = threads, .pin = true, .repack = true};
    nb_context_params c = {.max_tokens = TOKENS,
                           .max_outputs = 1,
                           .max_spans = 1,
                           .max_positions = TOKENS,
                           .pages = {8, 8},
                           .max_pages = {8, 8},
                           .kv_type = NB_TYPE_F16,
                           .hidden = true};
    if (nb_backend_cpu.weights_new(&l->model, &l->plan, &w, &l->weights, &err) != NB_OK ||
        nb_backend_cpu.context_new(l->weights, &c, &l->context, &err) != NB_OK)
        die(&err);
}

static void layer_close(layer *l)
{
    nb_backend_cpu.context_free(l->context);
    nb_backend_cpu.weights_free(l->weights);
    nb_plan_free(&l->plan);
    nb_gguf_close(l->gguf);
}

/* ---- steps ---- */

static double step(layer *l, size_t tokens, int times)
{
    static int32_t ids[TOKENS];
    static uint32_t pages[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    static int32_t next;
    nb_error err;
    nb_span span = {.count = tokens, .pages = {pages, pages}, .page_count = {8, 8}};
    nb_batch batch = {.tokens = ids, .n_tokens = tokens, .spans = &span, .n_spans = 1};
    double start = nb_seconds();
    for (int i = 0; i < times; i++) {
        for (size_t k = 0; k < tokens; k++)
            ids[k] = next++ % TOKENS; /* other experts each time */
        if (nb_backend_cpu.run(l->context, &batch, &err) != NB_OK)
            die(&err);
    }
    return (nb_seconds() - start) / times;
}

static void print(const char *kind, nb_type type, double *value, const char *unit, double *ceiling, double *part)
{
    const char *name = nb_type_get(type)->name;
    double v = median(value, REPEATS), c = median(ceiling, REPEATS), f = median(part, REPEATS);
    if (json)
        printf("%s{\"kind\":\"%s\",\"type\":\"%s\",\"experts\":%d,\"used\":%d,\"value\":%.4g,\"unit\":\"%s\","
               "\"ceiling\":%.4g,\"fraction\":%.4g}",
               first_line ? "" : ",\n", kind, name, experts, used, v, unit, c, f);
    else
        printf("%-7s %-6s %3d of %3d experts %8.1f %-5s ceiling %7.1f  %5.1f %%\n", kind, name, used, experts, v, unit,
               c, f * 100);
    first_line = false;
    fflush(stdout);
}

static void bench(nb_type type, nb_team *team)
{
    layer l;
    double rate[REPEATS], top[REPEATS], part[REPEATS];
    double operations = 2.0 * 3 * EMBD * FF * used * TOKENS;
    layer_open(&l, type);
    double chosen = (double)l.expert_bytes * used;
    const nb_gguf_tensor *up = l.weight[UP].tensor;
    step(&l, TOKENS, 1);
    for (int i = 0; i < REPEATS; i++) {
        top[i] = nb_ceiling_read(team, up->data, up->bytes, 2) * 1e-9;
        rate[i] = chosen / step(&l, 1, 16) * 1e-9;
        part[i] = rate[i] / top[i];
    }
    print("decode", type, rate, "GB/s", top, part);
    nb_act_format format = nb_matmul_act_format(type, EMBD);
    for (int i = 0; i < REPEATS; i++) {
        top[i] = (format == NB_ACT_F32    ? nb_ceiling_f32(team, nb_cpu_best())
                  : format == NB_ACT_BF16 ? nb_ceiling_bf16(team, nb_cpu_best())
                                          : nb_ceiling_int8(team, nb_cpu_best())) *
                 1e-9;
        rate[i] = operations / step(&l, TOKENS, 1) * 1e-9;
        part[i] = top[i] > 0 ? rate[i] / top[i] : 0;
    }
    print("prefill", type, rate, "GOP/s", top, part);
    layer_close(&l);
}

int main(int argc, char **argv)
{
    static const nb_type usual[] = {NB_TYPE_MXFP4, NB_TYPE_Q4_K, NB_TYPE_Q8_0, NB_TYPE_BF16};
    const nb_type_info *only = NULL;
    bool good = true;
    nb_team *team;
    nb_error err;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "-t") == 0 && more)
            good = (threads = atoi(argv[++i])) >= 1 && threads <= 256 && good;
        else if (strcmp(argv[i], "--type") == 0 && more)
            good = (only = nb_type_by_name(nb_str_of(argv[++i]))) != NULL && good;
        else if (strcmp(argv[i], "--experts") == 0 && more)
            good = (experts = atoi(argv[++i])) >= 1 && experts <= EXPERTS_MOST && good;
        else if (strcmp(argv[i], "--used") == 0 && more)
            good = (used = atoi(argv[++i])) >= 1 && good;
        else
            good = false;
    }
    if (!good || used > experts) {
        fprintf(stderr, "usage: bench_experts [-t THREADS] [--type NAME] [--experts N] [--used N] [--json]\n");
        return 2;
    }
    if (nb_team_new(threads, true, &team, &err) != NB_OK)
        die(&err);
    if (json)
        printf("[\n");
    else
        printf("%s, %d threads, level %s\n", nb_cpu_model(), nb_team_size(team), nb_cpu_level_name(nb_cpu_current()));
    for (size_t i = 0; i < (only ? 1 : sizeof usual / sizeof *usual); i++)
        bench(only ? (nb_type)only->id : usual[i], team);
    if (json)
        printf("\n]\n");
    nb_team_free(team);
    return 0;
}
