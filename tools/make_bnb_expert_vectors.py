#!/usr/bin/env python3
"""Tiny models with experts, and the logits of transformers when bitsandbytes quantizes their linear layers on the way: experts'
matrices and routers are parameters without a linear layer in transformers 5, which stay as they are.

usage: make_bnb_expert_vectors.py TOKENIZER.json tests/data/bitsandbytes
(needs torch, transformers 5, bitsandbytes 0.50, safetensors; CPU)

moe-NAME/config.json, tokenizer.json, model.safetensors, expected.safetensors {input_ids [tokens], and by the name of the way
logits [tokens, vocabulary]}. They are of the weights that
bitsandbytes dequantizes.
"""
import json
import os
import shutil
import sys

import torch
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, BitsAndBytesConfig, GraniteMoeSharedConfig, GraniteMoeSharedForCausalLM,
                          Qwen2MoeConfig, Qwen2MoeForCausalLM)

TOKENIZER, OUT = sys.argv[1:]
SIZE = dict(vocab_size=270, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
            max_position_embeddings=128, bos_token_id=0, eos_token_id=1, pad_token_id=None, num_experts_per_tok=2)
WAYS = {"nf4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32),
        "int8": BitsAndBytesConfig(load_in_8bit=True)}


def make(name, config, model_class):
    path = os.path.join(OUT, "moe-" + name)
    os.makedirs(path, exist_ok=True)
    torch.manual_seed(len(name))
    model = model_class._from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_((1 + torch.randn_like(p) * 0.2 if "norm" in key else torch.randn_like(p) * 0.2).bfloat16().float())
    model.to(torch.bfloat16).save_pretrained(path)
    os.chmod(os.path.join(path, "model.safetensors"), 0o644)
    for extra in ("generation_config.json",):
        if os.path.exists(os.path.join(path, extra)):
            os.remove(os.path.join(path, extra))
    shutil.copy(TOKENIZER, os.path.join(path, "tokenizer.json"))
    ids = torch.arange(3, 3 + 10 * 23, 23) % SIZE["vocab_size"]
    result = {"input_ids": ids.to(torch.int32)}
    for way, quantization in WAYS.items():
        loaded = AutoModelForCausalLM.from_pretrained(path, quantization_config=quantization, dtype=torch.float32,
                                                      attn_implementation="eager")
        layers = sorted(k for k, m in loaded.named_modules() if type(m).__module__.startswith("bitsandbytes"))
        assert layers and not any(k.endswith((".gate", ".experts", ".router")) for k in layers), layers
        loaded = loaded.dequantize().float()  # the CPU kernel takes no layer of one output, as the shared expert's router is
        with torch.no_grad():
            result[way] = loaded(input_ids=ids[None].long()).logits[0].float().contiguous()
        print(name, way, layers)
    save_file(result, os.path.join(path, "expected.safetensors"))


make("qwen2", Qwen2MoeConfig(**SIZE, num_experts=3, moe_intermediate_size=32, shared_expert_intermediate_size=64,
                             intermediate_size=64, tie_word_embeddings=True), Qwen2MoeForCausalLM)
make("granite", GraniteMoeSharedConfig(**SIZE, num_local_experts=3, intermediate_size=32, shared_intermediate_size=64,
                                       embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.5,
                                       attention_multiplier=0.25, tie_word_embeddings=True), GraniteMoeSharedForCausalLM)
