/* deepseek2: DeepSeek-V2, V2-Lite, V3 and R1 (DeepSeek-AI 2024): latent attention (block.c), a few dense layers, then experts of
 * which the best groups' are chosen, and some that all tokens pass. Older files have keys' and values' matrices in one tensor. */
#include "model/plan.h"

#include <math.h>

#define LATENT_PART(r, rows_, ...)                                                                                     \
    NB_PART(r, "attn_kv_a_mqa.weight", NB_DIM_EMBD, rows_, NB_DIM_LATENT_KEY, __VA_ARGS__)

static const nb_tensor_row tensors[] = {
    NB_ENDS_ROWS,
    NB_LAYER(NB_ATTN_NORM, "attn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_Q_A, "attn_q_a.weight", NB_DIM_EMBD, NB_DIM_Q_RANK),
    NB_LAYER_OPTIONAL(NB_ATTN_Q_A_NORM, "attn_q_a_norm.weight", NB_DIM_Q_RANK, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_Q, "attn_q_b.weight", NB_DIM_Q_RANK, NB_DIM_HEADS_KEY),
    NB_LAYER(NB_ATTN_Q, "attn_q.weight", NB_DIM_EMBD, NB_DIM_HEADS_KEY),
    LATENT_PART(NB_ATTN_LATENT, NB_DIM_LATENT, NB_DIM_NONE),
    LATENT_PART(NB_ATTN_LATENT_ROPE, NB_DIM_ROTATED, NB_DIM_LATENT),
    NB_LAYER(NB_ATTN_LATENT_NORM, "attn_kv_a_norm.weight", NB_DIM_LATENT, NB_DIM_NONE),
    NB_LAYER_OPTIONAL(NB_ATTN_KV_B, "attn_kv_b.weight", NB_DIM_LATENT, NB_DIM_HEADS_BOTH),
    NB_LAYER_OPTIONAL(NB_ATTN_K_B, "attn_k_b.weight", NB_DIM_KEY_PLAIN, NB_DIM_HEADS_LATENT),
    NB_LAYER_OPTIONAL(NB_ATTN_V_B, "attn_v_b.weight", NB_DIM_LATENT, NB_DIM_HEADS_VALUE),
    NB_LAYER(NB_ATTN_O, "attn_output.weight", NB_DIM_HEADS_VALUE, NB_DIM_EMBD),
    NB_LAYER(NB_FFN_NORM, "ffn_norm.weight", NB_DIM_EMBD, NB_DIM_NONE),
    NB_EXPERTS,
    NB_LAYER_OPTIONAL(NB_FFN_ROUTER_CHOICE, "exp_probs_b.bias", NB_DIM_EXPERTS, NB_DIM_NONE),
    NB_SHARED_EXPERT(NB_TENSOR_OPTIONAL),
    NB_DENSE(NB_FFN_GATE, "ffn_gate.weight", NB_DIM_EMBD, NB_DIM_FF),
    NB_DENSE(NB_FFN_UP, "ffn_up.weight", NB_DIM_EMBD, NB_DIM_FF),
    NB_DENSE(NB_FFN_DOWN, "ffn_down.weight", NB_DIM_FF, NB_DIM_EMBD),
    {0},
};

/* One head of keys and values in the cache, made of what the file says of the heads. */
static nb_status read_latent(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    int64_t latent = 0, rank = 0, key = h->k_dim, value = h->v_dim;
    NB_TRY(nb_arch_get_i64(g, "attention.kv_lora_rank", true, 1, 1023, &latent, err));
    NB_TRY(nb_arch_get_i64(g, "attention.q_lora_rank", false, 0, 1 << 20, &rank, err));
    NB_TRY(nb_arch_get_i64(g, "attention.key_length_mla", false, 1, 1024, &key, err));
    NB_TRY(nb_arch_get_i64(g, "attention.value_length_mla", false, 1, 1024, &value, err));
    if (key <= (int64_t)h->rope.dim || latent + (int64_t)h->rope.dim > 1024)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: attention.key_length %lld, rope.dimension_count %zu and attention.kv_lora_rank %lld do not fit each "
                       "other: the first is above the second, and the last two are 1024 together at most",
                       nb_gguf_path(g), (long long)key, h->rope.dim, (long long)latent);
    h->latent = (int)latent;
    h->q_rank = (int)rank;
    h->key_plain = (int)key - (int)h->rope.dim;
    h->head_value = (int)value;
    h->kv_heads = 1;
    h->k_dim = (int)latent + (int)h->rope.dim;
    h->v_dim = (int)latent;
    h->attention_scale = 1 / sqrtf((float)key);
    return NB_OK;
}

/* YaRN's factor is in the scores, where yarn_log_multiplier is a tenth of mscale_all_dim, and not in cos and sin. */
static nb_status read_yarn(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    double multiplier = 0, logarithm = h->rope.factor > 1 ? log(h->rope.factor) : 0, more = 1;
    NB_TRY(nb_arch_get_f64(g, "rope.scaling.yarn_log_multiplier", false, &multiplier, err));
    NB_TRY(nb_arch_get_f64(g, "rope.scaling.attn_factor", false, &more, err));
    double scale = 1 + multiplier * logarithm;
    h->attention_scale *= (float)(scale * scale);
    if (h->rope.scaling == NB_ROPE_YARN)
        h->rope.attention_factor = more * (multiplier > 0 ? 1 : 1 + 0.1 * logarithm);
    return NB_OK;
}

static nb_status read(const nb_gguf *g, nb_hparams *h, nb_error *err)
{
    int64_t shared = 0;
    NB_TRY(read_latent(g, h, err));
    NB_TRY(read_yarn(g, h, err));
    NB_TRY(nb_arch_get_i64(g, "expert_shared_count", false, 0, 64, &shared, err));
    if (h->shared_ff == 0)
        h->shared_ff = h->expert_ff * (int)shared;
    h->expert_norm = false;
    h->rope_local = h->rope;
    return NB_OK;
}

static void build(const nb_model_def *m, nb_plan *p) { nb_build_transformer(m, p, (nb_block_flags){0}); }

const nb_arch nb_arch_deepseek2 = {"deepseek2", tensors, read, build, NB_ARCH_EXPERTS};
