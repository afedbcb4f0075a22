#!/usr/bin/env python3
"""Puts the checkpoints of tools/make_embedding_checkpoints.py into tests/data.

usage: make_embedding_models.py CHECKPOINTS DATA

DATA/archs/NAME.gguf by gguf-py, with the keys and names that llama.cpp's converter gives, and NAME.logits.bin, the last hidden
states (tests/support/logits_file.h); DATA/hf/NAME, the directory without what is computed from it; DATA/embed/NAME.json, texts
and their embeddings. The GGUF files have no vocabulary: tokenizers have tests of their own, and DATA/hf has it.

Needs gguf, numpy, safetensors.
"""
import json
import os
import shutil
import struct
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import quants
from safetensors import safe_open

ARCH = {"nomic_bert": "nomic-bert", "bert": "bert", "roberta": "bert", "xlm-roberta": "bert",
        "gemma3_text": "gemma-embedding", "qwen3": "qwen3", "distilbert": "bert", "mpnet": "mpnet"}
# gguf-py has no mpnet; docs/gguf-keys.md
MPNET = {"attention.attn.q": "attn_q", "attention.attn.k": "attn_k", "attention.attn.v": "attn_v",
         "attention.attn.o": "attn_output", "attention.LayerNorm": "attn_output_norm", "intermediate.dense": "ffn_up",
         "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}
WIDE = {"nomic-bert", "xlm-roberta"}  # float32 matrices; the others bfloat16: both are exact
POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}
KEPT = ("config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "sentence_bert_config.json",
        "config_sentence_transformers.json", "model.safetensors")


def load(folder, name, otherwise=None):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return otherwise
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def read_safetensors(path):
    """All tensors as float32: numpy has no bfloat16, so the bytes are read here."""
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(size)), f.read()
    for name, info in header.items():
        if name == "__metadata__":
            continue
        raw = data[slice(*info["data_offsets"])]
        x = ((np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32) if info["dtype"] == "BF16" else
             np.frombuffer(raw, "<f4"))
        yield name, x.reshape(info["shape"])


def in_common_words(config):
    hub = {"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers",
           "n_inner": "intermediate_size", "layer_norm_epsilon": "layer_norm_eps", "rotary_emb_base": "rope_theta",
           "max_trained_positions": "max_position_embeddings", "dim": "hidden_size", "n_heads": "num_attention_heads",
           "n_layers": "num_hidden_layers", "hidden_dim": "intermediate_size", "activation": "hidden_act"}
    if config["model_type"] == "distilbert":
        config = config | {"layer_norm_eps": 1e-12}
    return config | {hub[k]: v for k, v in config.items() if k in hub}


def add_rope(w, config):
    rope = config.get("rope_parameters") or {}
    full = rope.get("full_attention", rope)
    w.add_rope_freq_base(float(full.get("rope_theta") or config["rope_theta"]))
    if full.get("rope_type") == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(full["factor"])
    local = rope.get("sliding_attention", {}).get("rope_theta") or config.get("rope_local_base_freq")
    if local:
        w.add_rope_freq_base_swa(local)


def add_hyperparameters(w, config, arch):
    roberta = config["model_type"] in ("roberta", "xlm-roberta", "mpnet")
    w.add_block_count(config["num_hidden_layers"])
    w.add_context_length(config["max_position_embeddings"] - (config["pad_token_id"] + 1 if roberta else 0))
    w.add_embedding_length(config["hidden_size"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_head_count_kv(config.get("num_key_value_heads") or config["num_attention_heads"])
    if "head_dim" in config:
        w.add_key_length(config["head_dim"])
        w.add_value_length(config["head_dim"])
    if arch in ("qwen3", "gemma-embedding"):
        w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    else:
        w.add_layer_norm_eps(config["layer_norm_eps"])
        if "type_vocab_size" in config:
            w.add_token_type_count(config["type_vocab_size"])
    if arch != "qwen3":
        w.add_causal_attention(False)
    if arch not in ("bert", "mpnet"):
        add_rope(w, config)
    elif config["hidden_act"] != "gelu":
        w.add_string(arch + ".hidden_activation", config["hidden_act"])
    if arch == "gemma-embedding":
        w.add_sliding_window(config["sliding_window"])
        if "layer_types" in config:
            w.add_uint32(arch + ".attention.sliding_window_pattern", config["layer_types"].index("full_attention") + 1)


def add_modules(w, folder, arch):
    """pooling and dense layers"""
    modules = load(folder, "modules.json")
    if modules is None:
        w.add_pooling_type(gguf.PoolingType.RANK)
        w.add_classifier_output_labels(list(load(folder, "config.json")["id2label"].values()))
        return
    pooling = load(folder, "1_Pooling/config.json")
    mode = pooling.get("pooling_mode") or next(k for k in pooling if pooling[k] is True)
    w.add_pooling_type(gguf.PoolingType(next(v for k, v in POOLING.items() if k in mode)))
    if not any(m["type"].endswith("Normalize") for m in modules):
        w.add_bool(arch + ".embedding_normalize", False)
    for m in modules:
        if not m["type"].endswith("Dense"):
            continue
        config, name = load(folder, m["path"] + "/config.json"), f"dense_{m['idx']}"
        for key in ("in", "out"):
            w.add_uint32(f"{arch}.{name}_feat_{key}", config[key + "_features"])
        if config["activation_function"].endswith("Tanh"):
            w.add_string(f"{arch}.{name}_activation", "tanh")
        for tensor, x in read_safetensors(os.path.join(folder, m["path"], "model.safetensors")):
            add_tensor(w, tensor.replace("linear", name), x, Type.F32)


def add_tensor(w, name, x, kind):
    kind = kind if x.ndim > 1 else Type.F32
    w.add_tensor(name, quants.quantize(np.ascontiguousarray(x), kind), raw_dtype=kind)


def converted_mpnet(tensors):
    for name, x in tensors:
        name = name.removeprefix("mpnet.")
        if name.startswith(("lm_head", "pooler")):
            continue
        if name == "embeddings.position_embeddings.weight":
            x = x[2:]
        parts = name.rsplit(".", 1)[0].split(".", 3)
        found = (f"blk.{parts[2]}." + MPNET[parts[3]] if name.startswith("encoder.layer.") else
                 {"word_embeddings": "token_embd", "position_embeddings": "position_embd", "LayerNorm": "token_embd_norm",
                  "relative_attention_bias": "attn_rel_b"}[parts[1]])
        yield found + "." + name.rsplit(".", 1)[1], x


def converted(config, arch, tensors):
    if arch == "mpnet":
        yield from converted_mpnet(tensors)
        return
    names = gguf.get_tensor_name_map(next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == arch),
                                     config["num_hidden_layers"])
    for name, x in tensors:
        if name.split(".")[0] in ("lm_head", "cls", "pooler") or name.startswith("vocab_"):
            continue
        if name.startswith("bert.pooler."):  # of a classifier; llama.cpp's converter leaves it out
            yield name.replace("bert.pooler.dense", "cls"), x
            continue
        if name.startswith("classifier.") and config["model_type"] == "bert":
            yield name.replace("classifier", "cls.output"), x
            continue
        if name.startswith("classifier."):
            yield name.replace("classifier.dense", "cls").replace("classifier.out_proj", "cls.output"), x
            continue
        name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
        for prefix in ("bert.", "roberta.", "nomic_bert.", "distilbert."):
            name = name.removeprefix(prefix)
        if name == "embeddings.position_embeddings.weight" and config["model_type"] not in ("bert", "distilbert"):
            x = x[config["pad_token_id"] + 1:]
        if arch == "gemma-embedding" and name.endswith("norm.weight"):
            x = x + np.float32(1)
        found = names.get_name(name, try_suffixes=(".weight", ".bias")) or names.get_name(
            "model." + name, try_suffixes=(".weight", ".bias"))
        assert found, name
        yield found, x


def write_gguf(folder, path, name, kind):
    config = in_common_words(load(folder, "config.json"))
    arch = ARCH[config["model_type"]]
    w = gguf.GGUFWriter(path, arch)
    w.add_type("model")
    w.add_name(name)
    add_hyperparameters(w, config, arch)
    w.add_tokenizer_model("no_vocab")
    for tensor, x in converted(config, arch, read_safetensors(os.path.join(folder, "model.safetensors"))):
        small = tensor.startswith(("position_embd", "token_types", "attn_rel_b"))
        add_tensor(w, tensor, x, Type.F32 if small else kind)
    add_modules(w, folder, arch)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_hidden(folder, path):
    with safe_open(os.path.join(folder, "expected.safetensors"), "numpy") as f:
        ids, hidden = f.get_tensor("input_ids"), f.get_tensor("last_hidden")
    with open(path, "wb") as f:
        f.write(np.array(hidden.shape, "<i4").tobytes() + ids.astype("<i4").tobytes() + hidden.astype("<f4").tobytes())


def copy_directory(folder, out):
    os.makedirs(out, exist_ok=True)
    for name in KEPT:
        if os.path.exists(os.path.join(folder, name)):
            shutil.copyfile(os.path.join(folder, name), os.path.join(out, name))
    for m in load(folder, "modules.json", []):
        if m["path"] and os.path.isdir(os.path.join(folder, m["path"])):
            shutil.copytree(os.path.join(folder, m["path"]), os.path.join(out, m["path"]), dirs_exist_ok=True)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    checkpoints, data = sys.argv[1:]
    for name in sorted(os.listdir(checkpoints)):
        folder = os.path.join(checkpoints, name)
        if not name.startswith("qwen"):  # decoders: their hidden states are no model's result
            write_gguf(folder, os.path.join(data, "archs", name + ".gguf"), name, Type.F32 if name in WIDE else Type.BF16)
            write_hidden(folder, os.path.join(data, "archs", name + ".logits.bin"))
        copy_directory(folder, os.path.join(data, "hf", name))
        shutil.copyfile(os.path.join(folder, "embed.json"), os.path.join(data, "embed", name + ".json"))


main()
