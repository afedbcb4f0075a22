/* hf_rows.h - rows that many architectures' tables share. */
#ifndef NB_HF_HF_ROWS_H
#define NB_HF_HF_ROWS_H

#include "hf/hf_internal.h"

#define NB_HF_ACTIVATIONS "gelu|gelu_new|gelu_fast|gelu_pytorch_tanh|relu|silu|swish" /* nb_arch_get_activation */
#define NB_HF_BLOCKS "num_hidden_layers|n_layer|n_layers|num_layers"

/* clang-format off */
#define NB_HF_SIZE_KEYS(CONTEXT)                                                                                       \
    {"block_count", NB_HF_BLOCKS, NB_HF_U32, NULL},                                                                    \
    {"context_length", "max_position_embeddings|n_ctx|n_positions", NB_HF_U32, CONTEXT},                               \
    {"embedding_length", "hidden_size|n_embd|dim", NB_HF_U32, NULL}

#define NB_HF_HEAD_KEYS                                                                                                \
    {"attention.head_count", "num_attention_heads|n_head|n_heads", NB_HF_U32, NULL},                                   \
    {"attention.head_count_kv", "num_key_value_heads|n_kv_heads", NB_HF_U32, ""},                                      \
    {"attention.key_length", "head_dim", NB_HF_U32, ""},                                                               \
    {"attention.value_length", "head_dim", NB_HF_U32, ""}
/* clang-format on */

/* Rows of decoders whose checkpoints have llama's names. Q and K: what becomes of the rows of queries and keys. */
/* clang-format off */
#define NB_HF_BEGIN_ROWS                                                                                               \
    {"token_embd", "~embed_tokens", NB_HF_AS_IS, 0}
#define NB_HF_ATTENTION_ROWS(Q, K)                                                                                     \
    {"blk.%d.attn_q", "~layers.%d.self_attn.q_proj", Q, NB_HF_BIAS_OPTIONAL},                                          \
    {"blk.%d.attn_k", "~layers.%d.self_attn.k_proj", K, NB_HF_BIAS_OPTIONAL},                                          \
    {"blk.%d.attn_v", "~layers.%d.self_attn.v_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},                                \
    {"blk.%d.attn_output", "~layers.%d.self_attn.o_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL}
#define NB_HF_NORM_ROWS(FLAGS)                                                                                         \
    {"blk.%d.attn_norm", "~layers.%d.input_layernorm", NB_HF_AS_IS, FLAGS},                                            \
    {"blk.%d.ffn_norm", "~layers.%d.post_attention_layernorm", NB_HF_AS_IS, FLAGS}
#define NB_HF_UP_DOWN_ROWS                                                                                             \
    {"blk.%d.ffn_up", "~layers.%d.mlp.up_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL},                                     \
    {"blk.%d.ffn_down", "~layers.%d.mlp.down_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL}
#define NB_HF_MLP_ROWS                                                                                                 \
    {"blk.%d.ffn_gate", "~layers.%d.mlp.gate_proj", NB_HF_AS_IS, NB_HF_BIAS_OPTIONAL}, NB_HF_UP_DOWN_ROWS
#define NB_HF_END_ROWS                                                                                                 \
    {"output_norm", "~norm", NB_HF_AS_IS, 0}, {"output", "lm_head", NB_HF_AS_IS, NB_HF_TIED}
/* clang-format on */

/* An MLP with a gate and no biases; the norms of queries and keys. */
/* clang-format off */
#define NB_HF_PLAIN_MLP_ROWS                                                                                           \
    {"blk.%d.ffn_gate", "~layers.%d.mlp.gate_proj", NB_HF_AS_IS, 0},                                                   \
    {"blk.%d.ffn_up", "~layers.%d.mlp.up_proj", NB_HF_AS_IS, 0},                                                       \
    {"blk.%d.ffn_down", "~layers.%d.mlp.down_proj", NB_HF_AS_IS, 0}
#define NB_HF_QK_NORM_ROWS(CHANGE, FLAGS)                                                                              \
    {"blk.%d.attn_q_norm", "~layers.%d.self_attn.q_norm", CHANGE, FLAGS},                                              \
    {"blk.%d.attn_k_norm", "~layers.%d.self_attn.k_norm", CHANGE, FLAGS}
/* queries, keys and values alone */
#define NB_HF_QKV_ROWS(FLAGS)                                                                                          \
    {"blk.%d.attn_q", "~layers.%d.self_attn.q_proj", NB_HF_AS_IS, FLAGS},                                              \
    {"blk.%d.attn_k", "~layers.%d.self_attn.k_proj", NB_HF_AS_IS, FLAGS},                                              \
    {"blk.%d.attn_v", "~layers.%d.self_attn.v_proj", NB_HF_AS_IS, FLAGS}
/* clang-format on */

/* Values of a head: head_dim, or the width over the heads. */
nb_status nb_hf_head_dim(const nb_hf *h, uint64_t *dim, nb_error *err);

/* nb_hf_rope for models that turn a part of each head: `names` of the part, and what transformers takes without. */
nb_status nb_hf_partial_rope(nb_hf *h, const char *names, double otherwise, nb_error *err);

/* An MLP with a gate, and the same of each expert: names behind the layer's. */
#define NB_HF_EXPERT_ROWS(ROUTER, EACH, GATE, UP, DOWN)                                                                \
    {"blk.%d.ffn_gate_inp", ROUTER, NB_HF_AS_IS, NB_HF_SPARSE | NB_HF_ALL_F32},                                        \
    {"blk.%d.ffn_gate_exps", EACH ".%e." GATE "|" EACH ".gate_up_proj", NB_HF_EXPERTS_GATE, NB_HF_SPARSE},             \
    {"blk.%d.ffn_up_exps", EACH ".%e." UP "|" EACH ".gate_up_proj", NB_HF_EXPERTS_UP, NB_HF_SPARSE},                   \
    {"blk.%d.ffn_down_exps", EACH ".%e." DOWN "|" EACH ".down_proj", NB_HF_EXPERTS, NB_HF_SPARSE}

/* attention.sliding_window_pattern by layer_types or sliding_window_pattern of config.json. usual: every so many'th layer is
 * global when neither is there; then, and where they say the same, no key is needed. */
nb_status nb_hf_window_layers(nb_hf *h, uint64_t usual, nb_error *err);
/* The same for models with use_sliding_window: sliding_window too, in the layers from max_window_layers on. */
nb_status nb_hf_late_windows(nb_hf *h, nb_error *err);
/* And for those with experts, as transformers has it: Qwen 2's in every second layer before max_window_layers, unless
 * layer_types is there; Qwen 3's in all. */
nb_status nb_hf_moe_windows(nb_hf *h, nb_error *err);
/* layer_types of what these wrote; usual 0: all layers have the window. */
void nb_hf_put_layer_types(const struct nb_hf_exporter *x, struct nb_json *j, uint64_t usual);
void nb_hf_put_all_full(const struct nb_hf_exporter *x, struct nb_json *j); /* no layer has it */
void nb_hf_put_late_windows(const struct nb_hf_exporter *x, struct nb_json *j);

/* Gemma's query_pre_attn_scalar as attention.scale, where it is not what readers take: the head's size, or in models of
 * `large` layers (the 27B) the width over the heads. */
nb_status nb_hf_query_scale(nb_hf *h, uint64_t large, nb_error *err);
void nb_hf_put_query_scale(const struct nb_hf_exporter *x, struct nb_json *j, uint64_t large);

/* `configure` of Granite's models, and of Qwen's with experts. */
nb_status nb_hf_configure_granite(nb_hf *h, nb_error *err);
nb_status nb_hf_configure_qwen_moe(nb_hf *h, nb_error *err);
/* `put` of Qwen's models with experts. */
void nb_hf_put_qwen_moe(struct nb_hf_exporter *x, struct nb_json *j);
/* The part of each head that turns, under the name that the family has for it. */
void nb_hf_put_partial_rope(const struct nb_hf_exporter *x, struct nb_json *j, const char *name);
/* attention_bias, and mlp_bias. */
void nb_hf_put_biases(const struct nb_hf_exporter *x, struct nb_json *j, bool mlp);

#endif
