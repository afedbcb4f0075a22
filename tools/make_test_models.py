#!/usr/bin/env python3
"""Writes the tiny GGUF models of tests/data: archs/NAME.gguf with NAME.logits.bin and
NAME.tokens.json, and types/TYPE.gguf.

usage: make_test_models.py archs CHECKPOINTS OUT [NAME...]
       make_test_models.py types OUT LLAMA_QUANTIZE

archs: each CHECKPOINTS/NAME (or those named) is a Hugging Face checkpoint with expected.safetensors {input_ids, logits} and expected.json
       {tokenizer} from transformers in float32 (tests/data/README.md says how they were made). Keys, tensor names, the order of q and k rows and the +1
       of Gemma's norms are those that llama.cpp's converter gives.
types: a random llama model for each weight type. gguf-py quantizes the types it can; LLAMA_QUANTIZE (llama.cpp's
       program) the K types.

Needs gguf, numpy, safetensors, sentencepiece.
"""
import json
import os
import struct
import subprocess
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType, quants
from safetensors import safe_open
from sentencepiece import SentencePieceProcessor

# Files in another type than their checkpoint's: bfloat16 numbers are exact in float32 too, and both are to be read.
IN_F32 = {
    "llama-3.2-rope-scaled", "qwen2", "mistral-sliding", "opt-350m-post-norm", "bert", "qwen3", "gemma-2",
    "phi-3-sliding",
    "baichuan2-7b", "baichuan2-13b",  # its head is scaled
}
# model_type of config.json, and llama.cpp's name
GGUF_ARCH = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "mixtral": "llama",
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
    "granitemoe": "granitemoe",
    "granitemoeshared": "granitemoe",
    "gpt_oss": "gpt-oss",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "gpt2": "gpt2",
    "olmo2": "olmo2",
    "olmo3": "olmo2",
    "granite": "granite",
    "smollm3": "smollm3",
    "cohere": "command-r",
    "cohere2": "cohere2",
    "opt": "opt",
    "phi": "phi2",
    "phi3": "phi3",
    "bert": "bert",
    "falcon": "falcon",
    "gpt_neox": "gptneox",
    "gpt_bigcode": "starcoder",
    "starcoder2": "starcoder2",
    "stablelm": "stablelm",
    "bloom": "bloom",
    "mpt": "mpt",
    "olmo": "olmo",
    "olmoe": "olmoe",
    "glm": "chatglm",
    "chatglm": "chatglm",
    "glm4": "glm4",
    "internlm2": "internlm2",
    "exaone": "exaone",
    "exaone4": "exaone4",
    "seed_oss": "seed_oss",
    "ernie4_5": "ernie4_5",
    "hunyuan_v1_dense": "hunyuan-dense",
    "minicpm": "minicpm",
    "nemotron": "nemotron",
    "arcee": "arcee",
    "apertus": "apertus",
    "qwen": "qwen",
    "ministral3": "mistral3",
    "xverse": "xverse",
    "orion": "orion",
    "gptj": "gptj",
    "codegen": "gptj",
    "gpt_neo": "gptneo",
    "baichuan": "baichuan",
    "deepseek_v2": "deepseek2",
    "deepseek_v3": "deepseek2",
    "helium": "llama",
    "granitemoehybrid": "granite",
    "ministral": "llama",
    "internlm3": "llama",
}
# As files were before llama.cpp put the matrices of all experts into one tensor.
SPLIT_EXPERTS = {"mixtral-split"}
# As llama.cpp's converter writes latent attention now: keys' and values' matrices apart.
LATENTS_APART = {"deepseek-v2-apart", "deepseek-v3-apart"}
# Who reads the logits has no use for them: the tokenizers have tests of their own.
WITH_TOKENS = {"llama-2-mha", "llama-3.2-rope-scaled", "llama-mqa-wide-head", "qwen2", "mistral-sliding"}
# llama.cpp has no opt; docs/gguf-keys.md
OPT_NAMES = {
    "embed_tokens": "token_embd", "project_in": "token_embd_proj_in", "project_out": "output_proj",
    "embed_positions": "position_embd", "final_layer_norm": "output_norm",
    "self_attn_layer_norm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.out_proj": "attn_output", "layers.final_layer_norm": "ffn_norm",
    "fc1": "ffn_up", "fc2": "ffn_down", "lm_head": "output",
}
FILE_TYPE = {Type.F32: LlamaFileType.ALL_F32, Type.F16: LlamaFileType.MOSTLY_F16, Type.BF16: LlamaFileType.MOSTLY_BF16,
             Type.Q4_0: LlamaFileType.MOSTLY_Q4_0, Type.Q4_1: LlamaFileType.MOSTLY_Q4_1,
             Type.Q5_0: LlamaFileType.MOSTLY_Q5_0, Type.Q5_1: LlamaFileType.MOSTLY_Q5_1,
             Type.Q8_0: LlamaFileType.MOSTLY_Q8_0}


# ---- the checkpoint ----


DTYPES = {"BF16": Type.BF16, "F16": Type.F16, "F32": Type.F32, "U8": Type.MXFP4}  # bytes: of MXFP4 only


def to_f32(raw, dtype, shape):
    """numpy has no bfloat16"""
    if dtype == "U8":
        return np.frombuffer(raw, np.uint8).reshape(shape)
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    return np.frombuffer(raw, {"F16": "<f2", "F32": "<f4"}[dtype]).astype(np.float32).reshape(shape)


def read_safetensors(path):
    """All tensors of a file: name, type, and values as float32."""
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
        data = f.read()
    for name, info in header.items():
        if name != "__metadata__":
            begin, end = info["data_offsets"]
            yield name, DTYPES[info["dtype"]], to_f32(data[begin:end], info["dtype"], info["shape"])


def checkpoint_tensors(folder):
    """tensors by name, and the type that they all have"""
    files = sorted(f for f in os.listdir(folder) if f.startswith("model") and f.endswith(".safetensors"))
    items = [item for f in files for item in read_safetensors(os.path.join(folder, f))]
    (kind,) = {kind for _, kind, _ in items if kind != Type.MXFP4}
    return {name: x for name, _, x in items}, kind


# ---- metadata ----


def head_dim_of(config):
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def add_experts(w, config):
    experts = config.get("num_experts") or config.get("num_local_experts")
    if not experts:
        return
    w.add_expert_count(experts)
    w.add_expert_used_count(config["num_experts_per_tok"])
    if "moe_intermediate_size" in config:
        w.add_expert_feed_forward_length(config["moe_intermediate_size"])
    for key in ("shared_expert_intermediate_size", "shared_intermediate_size"):
        if key in config:
            w.add_expert_shared_feed_forward_length(config[key])
    # The converter leaves it to the program, which knows one value of each family.
    if "norm_topk_prob" in config:
        w.add_expert_weights_norm(config["norm_topk_prob"])


def window_layers(config):
    """True for each layer with the window, where not all or none have it."""
    if config.get("layer_types"):
        return [t == "sliding_attention" for t in config["layer_types"]]
    if config.get("use_sliding_window") and config["model_type"] == "qwen2_moe":
        return [i % 2 == 0 and i < config["max_window_layers"] for i in range(config["num_hidden_layers"])]
    if config.get("use_sliding_window") and config["model_type"] != "qwen3_moe":  # which has it in all layers
        return [i >= config["max_window_layers"] for i in range(config["num_hidden_layers"])]
    return None


def add_scales(w, config):
    if "attention_multiplier" in config:
        w.add_attention_scale(config["attention_multiplier"])
        w.add_embedding_scale(config["embedding_multiplier"])
        w.add_residual_scale(config["residual_multiplier"])
        w.add_logit_scale(config["logits_scaling"])
    if config.get("logit_scale") is not None:
        w.add_logit_scale(config["logit_scale"])
    if "scale_emb" in config:
        w.add_embedding_scale(config["scale_emb"])
        w.add_residual_scale(config["scale_depth"] / config["num_hidden_layers"] ** 0.5)
        w.add_logit_scale(config["hidden_size"] / config["dim_model_base"])


def rope_of(config):
    """The parameters of rotary positions, whichever way config.json spells them."""
    params = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    params = params.get("full_attention", params)
    params.setdefault("rope_type", params.get("type"))
    params.setdefault("rope_theta", config.get("rope_theta"))
    if params["rope_type"] in ("llama3", "longrope", "yarn"):
        params["original_max_position_embeddings"] = config.get(
            "original_max_position_embeddings",
            params.get("original_max_position_embeddings", config["max_position_embeddings"]))
    return params


def add_yarn(w, rope, arch):
    """The factor of cos and sin as one number: llama.cpp makes 0.1 ln(factor) + 1 of it unless another is multiplied."""
    def logarithm(multiplier):
        return 0.1 * multiplier * np.log(rope["factor"]) + 1

    w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    w.add_rope_scaling_factor(rope["factor"])
    w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if arch == "mistral3" and rope["mscale"] == 1:
        w.add_rope_scaling_yarn_log_mul(rope["mscale_all_dim"])
    elif "mscale_all_dim" in rope and arch != "deepseek2":
        w.add_rope_scaling_attn_factors(logarithm(rope["mscale"]) / logarithm(rope["mscale_all_dim"]) / logarithm(1))
    if "attention_factor" in rope:
        w.add_rope_scaling_attn_factors(rope["attention_factor"] / logarithm(1))
    if "beta_fast" in rope:
        w.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        w.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    if not rope.get("truncate", True):
        w.add_bool(arch + ".rope.scaling.yarn_truncate", False)


def add_rope_scaling(w, config, arch):
    rope = rope_of(config)
    if rope["rope_type"] == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "dynamic":
        w.add_float32(arch + ".rope.scaling.dynamic_factor", rope["factor"])
    if rope["rope_type"] == "longrope":
        w.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "yarn":
        add_yarn(w, rope, arch)


def add_hyperparameters(w, config, arch):
    add_rope_scaling(w, config, arch)
    w.add_block_count(config["num_hidden_layers"])
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_feed_forward_length(config.get("intermediate_size") or config["ffn_dim"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config.get("num_key_value_heads") or config["num_attention_heads"])
    if "rms_norm_eps" in config:
        w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    else:
        w.add_layer_norm_eps(config.get("layer_norm_eps", 1e-5))
    if "rope_theta" in config:
        w.add_rope_freq_base(config["rope_theta"])
    if "partial_rotary_factor" in config:
        w.add_rope_dimension_count(int(head_dim_of(config) * config["partial_rotary_factor"]))
    if "attn_logit_softcapping" in config:
        w.add_attn_logit_softcapping(config["attn_logit_softcapping"] or 0)
    if "final_logit_softcapping" in config:
        w.add_final_logit_softcapping(config["final_logit_softcapping"] or 0)
    if "query_pre_attn_scalar" in config:
        w.add_attention_scale(config["query_pre_attn_scalar"] ** -0.5)
    add_experts(w, config)
    if config.get("no_rope_layer_interval", 4) != 4:
        w.add_uint32(arch + ".rope.skip_interval", config["no_rope_layer_interval"])
    add_scales(w, config)
    if arch == "opt":
        w.add_bool("opt.norm_first", config["do_layer_norm_before"])
        w.add_string("opt.activation", config["activation_function"])
        w.add_uint32("opt.token_embedding_length", config["word_embed_proj_dim"])
    if config.get("alibi_max") is not None and arch != "bloom":  # of which it is said nowhere
        w.add_max_alibi_bias(config["alibi_max"])
    if config.get("clip_qkv") is not None:
        w.add_clamp_kqv(config["clip_qkv"])
    if config.get("softmax_scale"):
        w.add_attention_scale(config["softmax_scale"])
    if "use_parallel_residual" in config:
        w.add_parallel_residual(config["use_parallel_residual"])
    if arch in ("falcon", "gptneox", "starcoder", "starcoder2", "gptj", "gptneo"):
        w.add_string(arch + ".hidden_activation", config["hidden_act"])
    if not config.get("scale_attn_weights", True):
        w.add_float32(arch + ".attention.scale", 1.0)
    if arch == "bert":
        w.add_causal_attention(False)
        w.add_pooling_type(gguf.PoolingType.MEAN)
        w.add_token_type_count(config["type_vocab_size"])
    if config.get("head_dim"):
        w.add_key_length(config["head_dim"])
        w.add_value_length(config["head_dim"])
    if arch == "llama":
        w.add_vocab_size(config["vocab_size"])
        w.add_rope_dimension_count(head_dim_of(config))
    if "rope_local_base_freq" in config:
        w.add_rope_freq_base_swa(config["rope_local_base_freq"])
    # The converter leaves Mistral's window out; without it the answer is another one.
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        w.add_sliding_window(config["sliding_window"])
        if window_layers(config):
            w.add_sliding_window_pattern(window_layers(config))


def add_latents(w, config, joined):
    """llama.cpp's keys of latent attention, older and newer"""
    rope, plain = config["qk_rope_head_dim"], config["qk_nope_head_dim"]
    third = config["model_type"] == "deepseek_v3"
    w.add_leading_dense_block_count(config["first_k_dense_replace"])
    if config["q_lora_rank"]:
        w.add_q_lora_rank(config["q_lora_rank"])
    w.add_kv_lora_rank(config["kv_lora_rank"])
    w.add_key_length(plain + rope if joined else config["kv_lora_rank"] + rope)
    w.add_value_length(config["v_head_dim"] if joined else config["kv_lora_rank"])
    if not joined:
        w.add_key_length_mla(plain + rope)
        w.add_value_length_mla(config["v_head_dim"])
    w.add_rope_dimension_count(rope)
    w.add_expert_feed_forward_length(config["moe_intermediate_size"])
    w.add_expert_count(config["n_routed_experts"])
    w.add_expert_used_count(config["num_experts_per_tok"])
    w.add_expert_shared_count(config["n_shared_experts"])
    w.add_expert_weights_scale(config["routed_scaling_factor"])
    w.add_expert_weights_norm(config["norm_topk_prob"])
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID if third else gguf.ExpertGatingFuncType.SOFTMAX)
    if third or config["topk_method"] != "greedy":
        w.add_expert_group_count(config["n_group"])
        w.add_expert_group_used_count(config["topk_group"])
    s = rope_of(config)
    if s.get("mscale_all_dim"):
        w.add_rope_scaling_yarn_log_mul(0.1 * s["mscale_all_dim"])
        if s["mscale"] != s["mscale_all_dim"]:  # docs/gguf-keys.md
            more = [0.1 * s[key] * np.log(s["factor"]) + 1 for key in ("mscale", "mscale_all_dim")]
            w.add_float32("deepseek2.rope.scaling.attn_factor", more[0] / more[1])


def latents_apart(tensors, config):
    for name, x in tensors.items():
        if ".kv_b_proj." in name:
            plain, value = config["qk_nope_head_dim"], config["v_head_dim"]
            x = x.reshape(config["num_attention_heads"], plain + value, -1)
            yield name.replace("kv_b_proj", "k_b_proj"), np.ascontiguousarray(x[:, :plain].swapaxes(1, 2))
            yield name.replace("kv_b_proj", "v_b_proj"), np.ascontiguousarray(x[:, plain:])
        else:
            yield name, x


def add_sentencepiece(w, path, size, arch):
    sp = SentencePieceProcessor()
    sp.LoadFromFile(path)
    assert sp.vocab_size() == size
    kinds = [(sp.IsUnknown, gguf.TokenType.UNKNOWN), (sp.IsControl, gguf.TokenType.CONTROL),
             (sp.IsUnused, gguf.TokenType.UNUSED), (sp.IsByte, gguf.TokenType.BYTE)]
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list([sp.IdToPiece(i).encode() for i in range(size)])
    w.add_token_scores([sp.GetScore(i) for i in range(size)])
    w.add_token_types([next((k for is_kind, k in kinds if is_kind(i)), gguf.TokenType.NORMAL) for i in range(size)])
    if arch.startswith("gemma"):
        w.add_add_space_prefix(False)


def add_bpe(w, path, size):
    with open(path, encoding="utf-8") as f:
        tokenizer = json.load(f)
    text = {i: t for t, i in tokenizer["model"]["vocab"].items()}
    special = {t["id"]: t["content"] for t in tokenizer["added_tokens"]}
    text.update(special)
    assert sorted(text) == list(range(size))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([text[i].encode() for i in range(size)])
    w.add_token_types([gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(size)])


def add_wordpiece(w, path):
    """Pieces that begin a word get a mark in front; the ## of the others goes."""
    with open(path, encoding="utf-8") as f:
        tokens = f.read().split("\n")[:-1]
    special = [t.startswith("[") and t.endswith("]") for t in tokens]
    w.add_tokenizer_model("bert")
    w.add_tokenizer_pre("jina-v2-en")
    w.add_token_list([t if s else t[2:] if t.startswith("##") else "\u2581" + t for t, s in zip(tokens, special)])
    w.add_token_types([gguf.TokenType.CONTROL if s else gguf.TokenType.NORMAL for s in special])
    for key, token in [("cls_token_id", "[CLS]"), ("seperator_token_id", "[SEP]"), ("unknown_token_id", "[UNK]"),
                       ("padding_token_id", "[PAD]"), ("mask_token_id", "[MASK]")]:
        w.add_uint32("tokenizer.ggml." + key, tokens.index(token))


def add_tokenizer(w, folder, config, arch):
    sp = os.path.join(folder, "tokenizer.model")
    if arch == "bert":
        add_wordpiece(w, os.path.join(folder, "vocab.txt"))
        return
    if not os.path.exists(os.path.join(folder, "tokenizer.json")):
        w.add_tokenizer_model("no_vocab")
        if arch != "llama":
            w.add_vocab_size(config["vocab_size"])
        return
    if os.path.exists(sp):
        add_sentencepiece(w, sp, config["vocab_size"], arch)
    else:
        add_bpe(w, os.path.join(folder, "tokenizer.json"), config["vocab_size"])
    special = gguf.SpecialVocab(folder, load_merges=not os.path.exists(sp), n_vocab=config["vocab_size"])
    special.add_to_gguf(w, quiet=True)


# ---- tensors ----


NEIGHBOURS = ("llama", "olmo", "granite", "granitemoe", "smollm3", "internlm2", "minicpm", "arcee", "mistral3", "xverse",
              "baichuan")
ONE_IS_ADDED = ("gemma", "gemma2", "gemma3", "nemotron")  # to norm weights


def interleave(x, heads):
    """From halves (i, i + n/2) to neighbours (2i, 2i + 1): llama's rope turns neighbours."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def llama3_rope_factors(config):
    s, f32 = rope_of(config), np.float32
    n = head_dim_of(config)
    freq = f32(1) / f32(s["rope_theta"]) ** (np.arange(0, n, 2, dtype=np.float32) / f32(n))
    length, low, high = s["original_max_position_embeddings"], s["low_freq_factor"], s["high_freq_factor"]
    wave = f32(2 * np.pi) / freq
    smooth = (f32(length) / wave - f32(low)) / f32(high - low)
    middle = f32(1) / ((f32(1) - smooth) / f32(s["factor"]) + smooth)
    return np.where(wave < length / high, f32(1), np.where(wave > length / low, f32(s["factor"]), middle))


def longrope_factors(config):
    for kind in ("short", "long"):
        yield f"rope_factors_{kind}.weight", np.array(rope_of(config)[kind + "_factor"], np.float32)


def opt_name(name):
    parts = name.removeprefix("model.decoder.").split(".")
    last, layer = parts.pop(), None
    if parts[0] == "layers":
        layer = parts[1]
        parts = parts[2:]
    middle = ".".join(parts)
    key = "layers." + middle if layer and middle == "final_layer_norm" else middle
    return (f"blk.{layer}." if layer else "") + OPT_NAMES[key] + "." + last


def converted_opt(tensors):
    for name, x in tensors.items():
        yield opt_name(name), x[2:] if "embed_positions" in name else x


def fused_qkv(tensors):
    """As older files of phi-2 have them, biases too."""
    for name, x in tensors.items():
        if ".q_proj." in name:
            x = np.concatenate([tensors[name.replace(".q_", k)] for k in (".q_", ".k_", ".v_")])
            yield name.replace("self_attn.q_proj", "attn_qkv").replace("model.layers", "blk"), x
        elif ".k_proj." not in name and ".v_proj." not in name:
            yield name, x


def queries_first(x, config):
    """Of groups of queries with their key and value: all queries, all keys, all values."""
    x = x.reshape(config["num_key_value_heads"], -1, head_dim_of(config), *x.shape[1:])
    return np.concatenate([p.reshape(-1, *x.shape[3:]) for p in (x[:, :-2], x[:, -2], x[:, -1])])


def split_queries(tensors, config):
    """internlm2: what a key head's queries, its key and its value have in one tensor, in three."""
    rows = config["num_attention_heads"] * head_dim_of(config)
    for name, x in tensors.items():
        if ".wqkv." in name:
            q, kv = np.split(queries_first(x, config), [rows])
            for part, values in zip("qkv", (q, *np.split(kv, 2))):
                yield name.replace("attention.wqkv", f"self_attn.{part}_proj"), values
        else:
            yield name, x


def codegen_parts(tensors):
    """Four times a quarter of the queries, of the values, of the keys."""
    for name, x in tensors.items():
        if ".qkv_proj." in name:
            for i, part in enumerate("qvk"):
                yield name.replace("qkv", part), np.concatenate([np.split(q, 3)[i] for q in np.split(x, 4)])
        else:
            yield name, x


def baichuan_parts(config, tensors):
    """Queries, keys and values in three tensors; the second generation's head with rows of length 1."""
    for name, x in tensors.items():
        if ".W_pack." in name:
            for part, values in zip("qkv", np.split(x, 3)):
                yield name.replace("W_pack", part + "_proj"), values
        elif name == "lm_head.weight" and "z_loss_weight" in config:
            yield name, x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True).astype(np.float32)
        else:
            yield name, x


GPTNEO_NAMES = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm", "ln_1": "attn_norm", "ln_2": "ffn_norm",
                "attn.attention.q_proj": "attn_q", "attn.attention.k_proj": "attn_k", "attn.attention.v_proj": "attn_v",
                "attn.attention.out_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}


def converted_gptneo(tensors):
    """llama.cpp has no gptneo; docs/gguf-keys.md"""
    for name, x in tensors.items():
        parts = name.removeprefix("transformer.").split(".")
        block = f"blk.{parts[1]}." if parts[0] == "h" else ""
        middle = ".".join(parts[2:-1] if block else parts[:-1])
        yield block + GPTNEO_NAMES.get(middle, "output") + "." + parts[-1], x


def add_xielu(w, tensors):
    """Each layer's own numbers: lists of metadata."""
    for name in ("alpha_p", "alpha_n", "beta", "eps"):
        layers = [n for n in tensors if n.endswith(".act_fn." + name)]
        layers.sort(key=lambda n: int(n.split(".")[2]))
        w.add_array("xielu." + name, [float(tensors.pop(n).reshape(())) for n in layers])


def stacked_experts(tensors):
    """One tensor for the matrices of all experts of a layer, where each has its own."""
    stacks = {}
    for name, x in tensors.items():
        before, experts, behind = name.partition(".experts.")
        number, _, rest = behind.partition(".")
        if experts and number.isdigit():
            stacks.setdefault(before + experts + rest, {})[int(number)] = x
        else:
            yield name, x
    for name, stack in stacks.items():
        yield name, np.stack([stack[i] for i in range(len(stack))])


def granite_halves(tensors):
    """Gate and up are the halves of one tensor, of the experts and of the one that all tokens pass."""
    sparse = any(".block_sparse_moe." in name for name in tensors)
    for name, x in tensors.items():
        block = name.replace("model.layers.", "blk.").split(".")[:2]
        if name.endswith(".input_linear.weight"):
            end = "_exps" if ".block_sparse_moe." in name else "_shexp" if sparse else ""
            for part, half in zip(("gate", "up"), np.split(x, 2, axis=-2)):
                yield ".".join(block) + f".ffn_{part}{end}.weight", half
        elif name.endswith(".output_linear.weight") and not sparse:
            yield ".".join(block) + ".ffn_down.weight", x
        else:
            yield name, x


def mxfp4_rows(blocks, scales):
    """From values i and i + 1 in a byte to values i and i + 16, the exponent in front: bytes of GGUF's rows."""
    codes = np.stack([blocks & 15, blocks >> 4], -1).reshape(*blocks.shape[:-1], 32)
    packed = codes[..., :16] | codes[..., 16:] << 4
    return np.concatenate([scales[..., None], packed], -1).reshape(*blocks.shape[:2], -1)


def gpt_oss_experts(tensors):
    """Gate and up in turn in one tensor of inputs by outputs; in MXFP4 of outputs by inputs."""
    for name, x in tensors.items():
        before, experts, end = name.partition(".mlp.experts.")
        if not experts:
            yield name + (".weight" if name.endswith(".sinks") else ""), x
            continue
        if end.endswith("_scales"):
            continue
        if end.endswith("_blocks"):
            x = mxfp4_rows(x, tensors[name.replace("_blocks", "_scales")])
        elif not end.endswith("_bias"):
            x = x.swapaxes(1, 2)
        kind = ".bias" if end.endswith("_bias") else ".weight"
        if end.startswith("gate_up"):
            yield before + experts + "gate_proj" + kind, x[:, ::2]
            yield before + experts + "up_proj" + kind, x[:, 1::2]
        else:
            yield before + experts + "down_proj" + kind, x


def stacked_norms(tensors):
    """A norm for each head: one tensor with a row a head."""
    rows = {}
    for name, x in tensors.items():
        if ".norms." in name:
            rows.setdefault(name.split(".norms.")[0] + ".weight", []).append((int(name.split(".")[-2]), x))
        else:
            yield name, x
    for name, heads in rows.items():
        yield name, np.stack([x for _, x in sorted(heads, key=lambda h: h[0])])


def converted(config, arch, tensors):
    if arch == "opt":
        yield from converted_opt(tensors)
        return
    if arch == "gptneo":
        yield from converted_gptneo(tensors)
        return
    if arch == "phi2":
        tensors = dict(fused_qkv(tensors))
    if arch == "stablelm":
        tensors = dict(stacked_norms(tensors))
    if config["model_type"] == "codegen":
        tensors = dict(codegen_parts(tensors))
    if arch == "baichuan":
        tensors = dict(baichuan_parts(config, tensors))
    tensors = dict(stacked_experts(tensors))
    tensors = {name.replace("e_score_correction_bias", "e_score_correction.bias"): x for name, x in tensors.items()}
    if arch == "internlm2":
        tensors = dict(split_queries(tensors, config))
    if "transformer.encoder.final_layernorm.weight" in tensors:  # chatglm's own
        tensors = {name.removeprefix("transformer."): x for name, x in tensors.items()}
    if arch in ("granite", "granitemoe"):
        tensors = dict(granite_halves(tensors))
    if arch == "gpt-oss":
        tensors = dict(gpt_oss_experts(tensors))
    names = gguf.get_tensor_name_map(next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == arch),
                                     config["num_hidden_layers"])
    dense_names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    if rope_of(config)["rope_type"] == "llama3":
        yield "rope_freqs.weight", llama3_rope_factors(config)
    if rope_of(config)["rope_type"] == "longrope":
        yield from longrope_factors(config)
    for name, x in tensors.items():
        if name.endswith((".attn.bias", ".attn.masked_bias")):  # masks
            continue
        if arch == "gpt2" and not name.startswith(("transformer.", "lm_head.")):
            name = "transformer." + name
        if arch == "bloom":
            name = name.removeprefix("transformer.")
        if config["model_type"] == "helium":  # they are neighbours there, too
            yield names.get_name(name, try_suffixes=(".weight", ".bias")), x
            continue
        if arch in NEIGHBOURS and ".q_proj." in name:
            x = interleave(x, config["num_attention_heads"])
        if arch in NEIGHBOURS and ".k_proj." in name:
            x = interleave(x, config.get("num_key_value_heads") or config["num_attention_heads"])
        if arch in ONE_IS_ADDED and name.endswith("norm.weight"):
            x = x + np.float32(1)
        if name.startswith("pooler."):
            continue
        if arch in ("falcon", "gptneox", "starcoder", "bloom") and (".query_key_value." in name or ".c_attn." in name):
            x = queries_first(x, config)
        if arch == "phi2" and "_layernorm." in name and ".self_attn." in name:  # no name in gguf-py
            yield name.replace("self_attn.", "attn_").replace("_layernorm", "_norm").replace("model.layers", "blk"), x
            continue
        if arch == "gpt2" and ".c_" in name and x.ndim > 1:  # Conv1D keeps columns first
            x = np.ascontiguousarray(x.T)
        if arch == "falcon" and ".post_attention_layernorm." in name:  # Falcon-RW's, of which gguf-py has no name
            yield name.replace("transformer.h", "blk").replace("post_attention_layernorm", "ffn_norm"), x
            continue
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if not known:  # a layer without experts in a family of experts
            known = dense_names.get_name(name, try_suffixes=(".weight", ".bias"))
        yield name if name.startswith("blk.") else known, x


def split_experts(tensors):
    for name, x in tensors:
        if "_exps." not in name:
            yield name, x
        for expert in range(len(x) if "_exps." in name else 0):
            yield name.replace("_exps.", f".{expert}."), x[expert]


def add_tensor(w, name, x, kind):
    if x.dtype == np.uint8:
        w.add_tensor(name, np.ascontiguousarray(x), raw_dtype=Type.MXFP4)
        return
    float32 = ("_norm.weight", "_gate_inp.weight", "_gate_inp_shexp.weight", ".bias")
    kind = kind if x.ndim > 1 and not name.endswith(float32) else Type.F32
    w.add_tensor(name, quants.quantize(np.ascontiguousarray(x), kind), raw_dtype=kind)


def finish(w, kind):
    w.add_file_type(FILE_TYPE[kind])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def in_common_words(config):
    """What some families call otherwise, or leave to transformers."""
    rope = config.get("rope_parameters") or {}
    kind, more = config["model_type"], dict(rope.get("full_attention", rope))
    if "sliding_attention" in rope:
        more["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    if "model_max_length" in config:
        more["max_position_embeddings"] = config["model_max_length"]
    if kind in ("gpt2", "gpt_bigcode"):
        more |= {"hidden_size": config["n_embd"], "num_hidden_layers": config["n_layer"],
                 "num_attention_heads": config["n_head"], "max_position_embeddings": config["n_positions"],
                 "intermediate_size": config.get("n_inner") or 4 * config["n_embd"],
                 "layer_norm_eps": config["layer_norm_epsilon"], "hidden_act": config["activation_function"]}
    if kind == "gpt_bigcode":
        more["num_key_value_heads"] = 1 if config["multi_query"] else config["n_head"]
    if kind == "falcon":
        heads = config["num_attention_heads"]
        more |= {"intermediate_size": config.get("ffn_hidden_size") or 4 * config["hidden_size"],
                 "max_position_embeddings": config.get("max_position_embeddings", 2048),
                 "layer_norm_eps": config["layer_norm_epsilon"], "hidden_act": config.get("activation", "gelu"),
                 "num_key_value_heads": config["num_kv_heads"] if config["new_decoder_architecture"] else
                 1 if config["multi_query"] else heads}
        if config.get("alibi"):
            more["alibi_max"] = 8.0
        if not config.get("parallel_attn", True):
            more["use_parallel_residual"] = False
    if kind == "bloom":
        more |= {"hidden_size": config.get("hidden_size") or config["n_embed"],
                 "num_hidden_layers": config.get("num_hidden_layers") or config["n_layer"],
                 "num_attention_heads": config.get("num_attention_heads") or config["n_head"],
                 "max_position_embeddings": config.get("seq_length", 2048), "layer_norm_eps": config["layer_norm_epsilon"]}
        more["intermediate_size"] = 4 * more["hidden_size"]
        more["num_key_value_heads"] = more["num_attention_heads"]
    if kind == "mpt":
        attention = config["attn_config"]
        more |= {"hidden_size": config["d_model"], "num_hidden_layers": config["n_layers"],
                 "num_attention_heads": config["n_heads"], "max_position_embeddings": config["max_seq_len"],
                 "intermediate_size": config["expansion_ratio"] * config["d_model"],
                 "layer_norm_eps": config.get("layer_norm_epsilon", 1e-5), "clip_qkv": attention.get("clip_qkv"),
                 "softmax_scale": attention.get("softmax_scale"),
                 "alibi_max": float(attention.get("alibi_bias_max", 8)) if attention["alibi"] else 0.0}
    if kind == "gpt_neox":
        more["num_key_value_heads"] = config["num_attention_heads"]
        if "rotary_pct" in config:
            more |= {"partial_rotary_factor": config["rotary_pct"], "rope_theta": float(config["rotary_emb_base"])}
    if kind == "gpt_oss":
        more["moe_intermediate_size"] = config["intermediate_size"]
        more.setdefault("layer_types", ["full_attention" if i % 2 else "sliding_attention"
                                        for i in range(config["num_hidden_layers"])])
    if kind in ("gptj", "codegen"):
        more |= {"hidden_size": config["n_embd"], "num_hidden_layers": config["n_layer"],
                 "num_attention_heads": config["n_head"], "max_position_embeddings": config["n_positions"],
                 "intermediate_size": config["n_inner"] or 4 * config["n_embd"], "rope_theta": 10000.0,
                 "layer_norm_eps": config["layer_norm_epsilon"], "hidden_act": config["activation_function"],
                 "partial_rotary_factor": config["rotary_dim"] / (config["n_embd"] // config["n_head"])}
    if kind == "gpt_neo":
        kinds = [k for some, times in config["attention_types"] for _ in range(times) for k in some]
        more |= {"num_hidden_layers": config["num_layers"], "num_attention_heads": config["num_heads"],
                 "intermediate_size": config["intermediate_size"] or 4 * config["hidden_size"],
                 "layer_norm_eps": config["layer_norm_epsilon"], "hidden_act": config["activation_function"],
                 "sliding_window": config["window_size"],
                 "layer_types": ["sliding_attention" if k == "local" else "full_attention" for k in kinds]}
    if kind == "granitemoehybrid":
        more["intermediate_size"] = config["shared_intermediate_size"]
    for key in ("norm_epsilon", "norm_eps"):
        if key in config:
            more["layer_norm_eps"] = config[key]
    if kind in ("exaone", "qwen"):
        more["rms_norm_eps"] = config["layer_norm_epsilon"]
    if kind == "exaone":
        more["num_hidden_layers"] = config["num_layers"]
    if kind == "qwen":
        more |= {"rope_theta": float(config["rotary_emb_base"]), "max_position_embeddings": config["seq_length"]}
    if kind == "orion":
        more["layer_norm_eps"] = config.pop("rms_norm_eps")
    if kind == "chatglm":
        more |= {"num_hidden_layers": config["num_layers"], "intermediate_size": config["ffn_hidden_size"],
                 "max_position_embeddings": config["seq_length"], "rms_norm_eps": config["layernorm_epsilon"],
                 "head_dim": config["kv_channels"], "rope_theta": 10000.0 * config["rope_ratio"],
                 "partial_rotary_factor": 0.5}
        if config["multi_query_attention"]:
            more["num_key_value_heads"] = config["multi_query_group_num"]
    if kind == "hunyuan_v1_dense" and (config.get("rope_scaling") or {}).get("alpha"):
        n = head_dim_of(config)
        more["rope_theta"] = config["rope_theta"] * config.pop("rope_scaling")["alpha"] ** (n / (n - 2))
    return more


def write_arch(folder, out, name):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    config |= in_common_words(config)
    arch = GGUF_ARCH[config["model_type"]]
    w = gguf.GGUFWriter(os.path.join(out, name + ".gguf"), arch)
    w.add_type("model")
    w.add_name(name)
    add_hyperparameters(w, config, arch)
    add_tokenizer(w, folder, config, arch)
    tensors, kind = checkpoint_tensors(folder)
    if name in IN_F32:
        kind = Type.F32
    if arch == "apertus":
        add_xielu(w, tensors)
    if "llama_4_scaling_beta" in rope_of(config):
        w.add_attn_temperature_scale(rope_of(config)["llama_4_scaling_beta"])
    if arch == "deepseek2":
        add_latents(w, config, name not in LATENTS_APART)
        tensors = dict(latents_apart(tensors, config)) if name in LATENTS_APART else tensors
    made = converted(config, arch, tensors)
    for tensor, x in split_experts(made) if name in SPLIT_EXPERTS else made:
        add_tensor(w, tensor, x, kind)
    finish(w, kind)


def write_logits(folder, path, names=("logits", "last_hidden")):
    with safe_open(os.path.join(folder, "expected.safetensors"), "numpy") as f:
        here = [name for name in names if name in f.keys()]
        if not here:
            return
        ids, logits = f.get_tensor("input_ids"), f.get_tensor(here[0])
    with open(path, "wb") as f:
        f.write(np.array(logits.shape, "<i4").tobytes() + ids.astype("<i4").tobytes() + logits.astype("<f4").tobytes())


def write_tokens(folder, path):
    with open(os.path.join(folder, "expected.json"), encoding="utf-8") as f:
        cases = json.load(f)["tokenizer"]
    with open(path, "w", encoding="utf-8") as f:
        lines = (json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
        f.write("[\n" + ",\n".join(lines) + "\n]\n")


# ---- a random model for each weight type ----

LEGACY = [Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]
K_TYPES = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
VOCAB = 300


def random_model(path, kind, hidden, layers, heads, ffn):
    """Heads of 32, one kv head, tied output. The embedding is small beside what the blocks add, so that the logits do
    not just name the last token again."""
    rng = np.random.default_rng(20)
    config = {"num_hidden_layers": layers, "max_position_embeddings": 256, "hidden_size": hidden, "head_dim": 32,
              "intermediate_size": ffn, "num_attention_heads": heads, "num_key_value_heads": 1, "rms_norm_eps": 1e-5,
              "rope_theta": 10000.0, "vocab_size": VOCAB}
    w = gguf.GGUFWriter(path, "llama")
    w.add_type("model")
    w.add_name("random")
    add_hyperparameters(w, config, "llama")
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    pieces = ["▁", "e", "t", "a", "o", "n", "i", "s", "r", "h", "l", "d", "u", "c", "m", "w", "f", "g", "y", "p", "b", "v",
              "k", "▁t", "he", "▁a", "in", "▁the", "er", "▁o", "re", "on", "▁s", "an", "at", "en", "or", "▁w", "ou", "is", "it"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + pieces
    assert len(tokens) == VOCAB
    w.add_token_list([t.encode() for t in tokens])
    w.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(pieces))])
    w.add_token_types([gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.BYTE] * 256 +
                      [gguf.TokenType.NORMAL] * len(pieces))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)

    def matrix(name, rows, columns, scale=1.0):
        x = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(scale / np.sqrt(columns))
        add_tensor(w, name, x, kind)

    def norm(name, scale=1.0):
        add_tensor(w, name, (rng.uniform(0.5, 1.5, hidden) * scale).astype(np.float32), kind)

    matrix("token_embd.weight", VOCAB, hidden, 0.1 * np.sqrt(hidden))
    for i in range(layers):
        norm(f"blk.{i}.attn_norm.weight")
        matrix(f"blk.{i}.attn_q.weight", heads * 32, hidden, 2)
        matrix(f"blk.{i}.attn_k.weight", 32, hidden, 2)
        matrix(f"blk.{i}.attn_v.weight", 32, hidden)
        matrix(f"blk.{i}.attn_output.weight", hidden, heads * 32)
        norm(f"blk.{i}.ffn_norm.weight")
        matrix(f"blk.{i}.ffn_gate.weight", ffn, hidden)
        matrix(f"blk.{i}.ffn_up.weight", ffn, hidden)
        matrix(f"blk.{i}.ffn_down.weight", hidden, ffn, 2)
    norm("output_norm.weight", 2)
    finish(w, kind)


def write_types(out, llama_quantize):
    for kind in LEGACY:
        random_model(os.path.join(out, kind.name + ".gguf"), kind, 96, 2, 3, 160)
    source = os.path.join(out, "source.gguf")
    random_model(source, Type.F32, 256, 1, 8, 256)
    for name in K_TYPES:
        # the mixes' names end in _S; --pure takes their base type for every matrix
        mix = name if name in ("Q2_K", "Q6_K") else name + "_S"
        subprocess.run([llama_quantize, "--pure", source, os.path.join(out, name + ".gguf"), mix], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.remove(source)


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in ("archs", "types"):
        sys.exit(__doc__)
    if sys.argv[1] == "types":
        write_types(sys.argv[2], sys.argv[3])
        return
    checkpoints, out = sys.argv[2:4]
    for name in sys.argv[4:] or sorted(os.listdir(checkpoints)):
        folder = os.path.join(checkpoints, name)
        write_arch(folder, out, name)
        write_logits(folder, os.path.join(out, name + ".logits.bin"))
        write_logits(folder, os.path.join(out, name + ".steps.bin"), ["logits_steps"])
        if name in WITH_TOKENS:
            write_tokens(folder, os.path.join(out, name + ".tokens.json"))


main()
