#!/usr/bin/env python3
"""Tiny checkpoints quantized as the hub has them, and the logits of transformers with the weights dequantized in float32.

usage: make_quantized_checkpoint_vectors.py GPTQMODEL tests/data/hfquant [NAME...]
(needs torch, transformers 5, tokenizers, safetensors, compressed-tensors 0.20, bitsandbytes; CPU. GPTQMODEL: the unpacked sources of
gptqmodel 7.7, of which only the linear layers are imported, without what the whole package needs)

NAME/config.json, tokenizer.json, model.safetensors, expected.safetensors {input_ids [tokens], logits [tokens, vocabulary]}

Who packs and who dequantizes: gptq-* GPTQModel's TorchLinear; awq-* GPTQModel's AwqTorchLinear and dequantize_gemm; ct-*
compressed-tensors' compressors; moe-bnb-* bitsandbytes; fp8-* torch's float8 casts and transformers' Fp8Dequantize (partial blocks and rows: the
scale repeated over its block). Scales go into the dequantizers as float32, so that nothing else is rounded. Codes and scales are
rounded to nearest here: which ones they are does not matter.
mxfp4.safetensors: blocks and scales with what transformers' convert_moe_packed_tensors makes of them.
"""
import json
import os
import shutil
import sys
import types

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                          Qwen3MoeConfig, Qwen3MoeForCausalLM)

SOURCE, OUT, *ONLY = sys.argv[1:]
torch.set_num_threads(1)
for package in ("gptqmodel", "gptqmodel.models", "gptqmodel.looper"):
    module = types.ModuleType(package)
    module.__path__ = [os.path.join(SOURCE, *package.split("."))]
    sys.modules[package] = module
sys.modules["gptqmodel"].DEBUG_ON = False
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

VOCABULARY, TOKENS = 270, 10


CLASSES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM),
           "mixtral": (MixtralConfig, MixtralForCausalLM), "qwen3-moe": (Qwen3MoeConfig, Qwen3MoeForCausalLM)}
MIXTRAL = {"num_local_experts": 3, "num_experts_per_tok": 2, "num_hidden_layers": 1, "intermediate_size": 64}
QWEN3_MOE = {"num_experts": 3, "num_experts_per_tok": 2, "num_hidden_layers": 1, "moe_intermediate_size": 64, "head_dim": 16,
             "norm_topk_prob": True}


def write_tokenizer(path):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<s>", "</s>"])
    t.train_from_iterator(["the number of the numbers in the rows of the weights"] * 4, trainer)
    t.save(path)
    assert t.get_vocab_size() <= VOCABULARY, t.get_vocab_size()


def make_model(kind, seed, **changes):
    size = dict(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=128, bos_token_id=0, eos_token_id=1, pad_token_id=None,
                tie_word_embeddings=kind == "qwen2") | changes
    torch.manual_seed(seed)
    config_class, model_class = CLASSES[kind]
    config = config_class(**size)
    model = model_class._from_config(config, attn_implementation="eager")
    model = model.float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_((1 + torch.randn_like(p) * 0.2 if "norm" in name else torch.randn_like(p) * 0.15).half().float())
    return model, config


def affine(w, bits, sym, groups):
    """scale and zero point [outputs, groups] as half and integers, for group numbers of the columns"""
    most, count = 2**bits - 1, int(groups.max()) + 1
    scale, zero = torch.zeros(w.shape[0], count), torch.zeros(w.shape[0], count, dtype=torch.int64)
    for g in range(count):
        part = w[:, groups == g]
        low, high = part.min(1).values.clamp(max=0), part.max(1).values.clamp(min=0)
        if sym:
            high = torch.maximum(-low, high)
            low = -high
        scale[:, g] = ((high - low) / most).half().float()
        zero[:, g] = (most + 1) // 2 if sym else torch.round(-low / scale[:, g]).clamp(1, most).long()
    return scale, zero


def codes_of(w, scale, zero, groups, bits):
    q = (torch.round(w / scale[:, groups]) + zero[:, groups]).clamp(0, 2**bits - 1)
    return q, (q - zero[:, groups]) * scale[:, groups]


def gptq(bits, group, sym, order, v2, bias_zeros=False):
    def quantize(name, linear):
        inputs, outputs = linear.in_features, linear.out_features
        size = group if group > 0 else inputs
        groups = torch.arange(inputs) // size
        if order:
            groups = groups[torch.randperm(inputs)]
        scale, zero = affine(linear.weight.data, bits, sym, groups)
        _, dense = codes_of(linear.weight.data, scale, zero, groups, bits)
        layer = torch.nn.Linear(inputs, outputs, bias=linear.bias is not None)
        layer.weight.data = dense.clone()
        if linear.bias is not None:
            layer.bias.data = linear.bias.data
        m = TorchLinear(bits=bits, group_size=group, sym=sym, desc_act=order, in_features=inputs, out_features=outputs,
                        bias=linear.bias is not None)
        m.pack_original(layer, scale, zero, groups.to(torch.int32))
        m.post_init()
        stored = m.scales.clone()
        m.scales = stored.float()
        dense = m.dequantize_weight().T.contiguous().float()
        if not v2:
            m.qzero_format(format=2)
            convert_gptq_v2_to_v1_format_module(m, types.SimpleNamespace(bits=bits, pack_dtype=torch.int32))
        parts = {"qweight": m.qweight, "qzeros": m.qzeros, "scales": stored}
        if order or bits != 8:
            parts["g_idx"] = m.g_idx.to(torch.int32)
        if linear.bias is None and bias_zeros:
            parts["bias"] = torch.zeros(outputs, dtype=torch.float16)
        return parts, dense

    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": sym, "desc_act": order,
              "checkpoint_format": "gptq_v2" if v2 else "gptq"}
    if not v2:
        del config["checkpoint_format"]
    return quantize, config, []


def awq(group, skip):
    def quantize(name, linear):
        inputs, outputs = linear.in_features, linear.out_features
        groups = torch.arange(inputs) // (group if group > 0 else inputs)
        scale, zero = affine(linear.weight.data, 4, False, groups)
        layer = torch.nn.Linear(inputs, outputs, bias=linear.bias is not None)
        _, layer.weight.data = codes_of(linear.weight.data, scale, zero, groups, 4)
        if linear.bias is not None:
            layer.bias.data = linear.bias.data
        m = AwqTorchLinear(bits=4, group_size=group if group > 0 else inputs, sym=False, desc_act=False, in_features=inputs,
                           out_features=outputs, bias=linear.bias is not None)
        m.pack(layer, scale.half(), zero.half())
        dense = dequantize_gemm(qweight=m.qweight, qzeros=m.qzeros, scales=m.scales.float(), bits=4,
                                group_size=group if group > 0 else inputs)
        return {"qweight": m.qweight, "qzeros": m.qzeros, "scales": m.scales.half()}, dense.T.contiguous().float()

    return quantize, {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm",
                      "modules_to_not_convert": skip}, skip


def blocks_of(x, rows, columns, shape):
    return x.repeat_interleave(rows, 0)[: shape[0]].repeat_interleave(columns, 1)[:, : shape[1]]


def fp8(kind):
    block = {"block": (32, 32), "partial": (128, 128)}.get(kind)

    def quantize(name, linear):
        w = linear.weight.data
        rows, columns = block or ((1, w.shape[1]) if kind == "row" else w.shape)
        padded = torch.zeros(-(-w.shape[0] // rows) * rows, -(-w.shape[1] // columns) * columns)
        padded[: w.shape[0], : w.shape[1]] = w
        most = padded.view(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns).abs().amax((1, 3))
        scale = most / 448
        codes = (w / blocks_of(scale, rows, columns, w.shape)).to(torch.float8_e4m3fn)
        if kind == "block":
            dense = Fp8Dequantize(None)._dequantize_one(codes, scale, torch.float32)
        else:
            dense = codes.float() * blocks_of(scale, rows, columns, w.shape)
        if block:
            return {"weight": codes, "weight_scale_inv": scale}, dense
        if kind == "row":
            return {"weight": codes, "weight_scale": scale, "input_scale_ub": torch.tensor([1200.0])}, dense
        return {"weight": codes, "weight_scale": scale.reshape(()), "input_scale": torch.tensor(0.02)}, dense

    config = {"quant_method": "fbgemm_fp8" if kind == "row" else "fp8", "activation_scheme": "dynamic" if block else "static"}
    if block:
        config["weight_block_size"] = list(block)
    return quantize, config, ["lm_head"]


def compressed(schemes, form, skip=(), scale_dtype=torch.bfloat16, order=False, cache=False):
    """schemes: (target, QuantizationArgs' members)"""
    import re

    def scheme_of(name):
        for target, members in schemes:
            if target.startswith("re:") and re.match(target[3:], name):
                return members
        return next(members for target, members in schemes if target == "Linear")

    def quantize(name, linear):
        members = scheme_of(name)
        args = QuantizationArgs(**members)
        w = linear.weight.data
        inputs = w.shape[1]
        size = args.group_size if args.strategy == "group" else inputs
        groups = torch.arange(inputs) // size
        if order:
            groups = groups[torch.randperm(inputs)]
        parts = {"weight": w.clone()}
        if args.type == "float":
            rows, columns = args.block_structure if args.strategy == "block" else (1, inputs) if args.strategy == "channel" else w.shape
            most = w.view(w.shape[0] // rows, rows, inputs // columns, columns).abs().amax((1, 3))
            parts["weight_scale"] = (most / 448).to(scale_dtype).reshape((1,) if args.strategy == "tensor" else most.shape)
        else:
            scale, zero = affine(w, args.num_bits, args.symmetric, groups)
            parts["weight_scale"] = scale.to(scale_dtype)
            if not args.symmetric:
                parts["weight_zero_point"] = (zero - 2 ** (args.num_bits - 1)).to(torch.int8)
        if order:
            parts["weight_g_idx"] = groups.to(torch.int32)
        exact = dict(parts, weight_scale=parts["weight_scale"].float())
        scheme = QuantizationScheme(targets=["Linear"], weights=args)
        compressor = BaseCompressor.load_from_registry(form)
        perm = None
        if order:  # compressed-tensors' own compressor takes columns in the order of their groups
            perm = torch.argsort(groups, stable=True)
            exact["weight"] = exact["weight"][:, perm]
            exact.pop("weight_g_idx")
        packed = compressor.compress(exact, scheme)
        dense = compressor.decompress(dict(packed), scheme)["weight"].float()
        if order:  # the columns go back, as vLLM and LLM Compressor store them
            back = torch.argsort(perm)
            dense = dense[:, back]
            from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
            codes = unpack_from_int32(packed["weight_packed"], args.num_bits, w.shape)[:, back].contiguous()
            packed["weight_packed"] = pack_to_int32(codes, args.num_bits)
            packed["weight_g_idx"] = parts["weight_g_idx"]
        packed["weight_scale"] = parts["weight_scale"]
        if cache and name.endswith("k_proj"):
            packed["output_scale"] = torch.tensor([0.5])
        return packed, dense

    config = {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
              "ignore": list(skip) + ["lm_head"], "kv_cache_scheme": None,
              "config_groups": {f"group_{i}": {"targets": [target], "weights": members, "input_activations": None,
                                               "output_activations": None} for i, (target, members) in enumerate(schemes)}}
    return quantize, config, list(skip) + ["lm_head"]


def nf4():
    """As bitsandbytes saved experts while transformers had a linear layer for each matrix."""
    from bitsandbytes import functional

    def quantize(name, linear):
        codes, state = functional.quantize_4bit(linear.weight.data.clone(), blocksize=64, quant_type="nf4")
        parts = {"weight": codes} | {f"weight.{k}": v for k, v in state.as_dict(packed=True).items()}
        return parts, functional.dequantize_4bit(codes, state).float()

    return quantize, {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, []


def quantize_experts(model, kind, quantize, tensors):
    """transformers has gate and up of all experts in one; the hub each matrix of each expert."""
    names = ("w1", "w3", "w2") if kind == "mixtral" else ("gate_proj", "up_proj", "down_proj")
    for module_name, module in model.named_modules():
        if not hasattr(module, "gate_up_proj"):
            continue
        half = module.gate_up_proj.shape[1] // 2
        for e in range(module.gate_up_proj.shape[0]):
            places = (module.gate_up_proj[e][:half], module.gate_up_proj[e][half:], module.down_proj[e])
            for name, place in zip(names, places):
                linear = torch.nn.Linear(place.shape[1], place.shape[0], bias=False)
                linear.weight.data = place.clone()
                full = f"{module_name}.{e}.{name}"
                parts, dense = quantize(full, linear)
                tensors |= {f"{full}.{k}": v for k, v in parts.items()}
                place.copy_(dense)
        tensors[module_name] = None


def stack_experts(tensors):
    """As transformers has them in memory: EXPERTS.gate_up_proj and EXPERTS.gate_up_proj_scale_inv of all experts."""
    stacked, stacks = {}, {}
    for name, x in tensors.items():
        before, experts, behind = name.partition(".experts.")
        if experts:
            number, part, end = behind.split(".")
            stacks.setdefault((before + experts, end), {}).setdefault(int(number), {})[part] = x
        else:
            stacked[name] = x
    for (prefix, end), experts in stacks.items():
        end = end.removeprefix("weight")
        rows = [experts[e] for e in sorted(experts)]
        stacked[f"{prefix}gate_up_proj{end}"] = torch.stack([torch.cat([x["gate_proj"], x["up_proj"]]) for x in rows])
        stacked[f"{prefix}down_proj{end}"] = torch.stack([x["down_proj"] for x in rows])
    return stacked


def hub_name(name, kind):
    return name.replace(".mlp.", ".block_sparse_moe.") if kind == "mixtral" else name


def make(name, kind, seed, way, stacked=False, **changes):
    quantize, quantization, skip = way
    if ONLY and name not in ONLY:
        return
    model, config = make_model(kind, seed, **changes)
    tensors = {}
    with torch.no_grad():
        for module_name, module in model.named_modules():
            if not isinstance(module, torch.nn.Linear) or any(s in module_name for s in skip + ["lm_head"]):
                continue
            parts, dense = quantize(module_name, module)
            tensors |= {f"{module_name}.{k}": v for k, v in parts.items()}
            module.weight.copy_(dense)
            tensors[module_name] = None
        quantize_experts(model, kind, quantize, tensors)
        for k, v in model.state_dict().items():
            module_name, _, end = k.rpartition(".")
            if not (module_name in tensors and end in ("weight", "gate_up_proj", "down_proj")) and not (k == "lm_head.weight" and config.tie_word_embeddings):
                tensors.setdefault(k, v.half())
        ids = torch.arange(3, 3 + TOKENS * 23, 23) % VOCABULARY
        logits = model(input_ids=ids[None]).logits[0].contiguous()
    tensors = {hub_name(k, kind): v.contiguous().clone() for k, v in tensors.items() if v is not None}
    tensors = stack_experts(tensors) if stacked else tensors
    path = os.path.join(OUT, name)
    os.makedirs(path, exist_ok=True)
    save_file(tensors, os.path.join(path, "model.safetensors"), metadata={"format": "pt"})
    save_file({"input_ids": ids.to(torch.int32), "logits": logits}, os.path.join(path, "expected.safetensors"))
    shutil.copy(os.path.join(OUT, "tokenizer.json"), path)
    written = {k: v for k, v in config.to_dict().items() if v is not None and k not in ("transformers_version", "_name_or_path")}
    written |= {"architectures": [type(model).__name__], "dtype": "float16", "quantization_config": quantization}
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump(written, f, indent=1)
    print(name, sum(os.path.getsize(os.path.join(path, f)) for f in os.listdir(path)) // 1000, "KB")


def mxfp4():
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    blocks = torch.randint(0, 256, (3, 40, 2, 16), dtype=torch.uint8)
    scales = torch.randint(100, 140, (3, 40, 2), dtype=torch.uint8)
    values = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)  # [experts, columns, rows]
    save_file({"model.layers.0.mlp.experts.down_proj_blocks": blocks, "model.layers.0.mlp.experts.down_proj_scales": scales,
               "values": values.transpose(1, 2).contiguous()}, os.path.join(OUT, "mxfp4.safetensors"))


os.makedirs(OUT, exist_ok=True)
write_tokenizer(os.path.join(OUT, "tokenizer.json"))
INT = dict(type="int", observer=None)
make("gptq-4-sym", "llama", 1, gptq(4, 32, True, False, False, bias_zeros=True))
make("gptq-4-asym-order", "qwen2", 2, gptq(4, 32, False, True, True))
make("gptq-4-asym", "llama", 3, gptq(4, 64, False, False, False), intermediate_size=128)
make("gptq-4-odd-group", "qwen2", 4, gptq(4, 16, True, False, False))
make("gptq-3", "llama", 5, gptq(3, 32, False, False, False))
make("gptq-3-order", "llama", 6, gptq(3, 32, True, True, True))
make("gptq-2", "qwen2", 7, gptq(2, -1, False, False, True), num_hidden_layers=1)
make("gptq-8", "llama", 8, gptq(8, 32, True, False, False), num_hidden_layers=1)
make("gptq-8-asym", "qwen2", 9, gptq(8, 64, False, False, True), num_hidden_layers=1)
make("awq", "qwen2", 10, awq(32, ["layers.1.mlp.down_proj"]))
make("awq-whole", "llama", 11, awq(-1, []), num_key_value_heads=4, num_hidden_layers=1)
make("fp8-block", "llama", 12, fp8("block"), num_hidden_layers=1)
make("fp8-partial-block", "qwen2", 13, fp8("partial"), num_hidden_layers=1, intermediate_size=160)
make("fp8-tensor", "llama", 14, fp8("tensor"), num_hidden_layers=1)
make("fp8-row", "llama", 15, fp8("row"), num_hidden_layers=1)
G32 = dict(INT, num_bits=4, strategy="group", group_size=32)
make("ct-int4-sym", "llama", 16, compressed([("Linear", dict(G32, symmetric=True))], "pack-quantized"))
make("ct-int4-asym", "qwen2", 17, compressed([("Linear", dict(G32, symmetric=False))], "pack-quantized", ["down_proj"],
                                             scale_dtype=torch.float16))
make("ct-int4-order", "llama", 18, compressed([("Linear", dict(G32, symmetric=True))], "pack-quantized",
                                              order=True))
make("ct-int8-packed", "llama", 19, compressed([("Linear", dict(INT, num_bits=8, strategy="channel", symmetric=True))],
                                               "pack-quantized", scale_dtype=torch.float32), num_hidden_layers=1)
make("ct-int8", "qwen2", 20, compressed([("Linear", dict(INT, num_bits=8, strategy="channel", symmetric=True))],
                                        "int-quantized"), num_hidden_layers=1)
make("ct-int8-asym", "llama", 21, compressed([("Linear", dict(INT, num_bits=8, strategy="channel", symmetric=False))],
                                             "int-quantized"), num_hidden_layers=1)
make("ct-mixed", "llama", 22, compressed([("Linear", dict(G32, symmetric=True)),
                                          ("re:.*down_proj", dict(INT, num_bits=8, strategy="channel", symmetric=True)),
                                          ("re:.*layers.0.mlp.up_proj$", dict(INT, num_bits=3, strategy="group", group_size=16,
                                                                              symmetric=False))], "pack-quantized"))
FLOAT = dict(type="float", num_bits=8, symmetric=True, observer=None)
make("ct-fp8-tensor", "llama", 23, compressed([("Linear", dict(FLOAT, strategy="tensor"))], "float-quantized", cache=True),
     num_hidden_layers=1)
make("ct-fp8-channel", "qwen2", 24, compressed([("Linear", dict(FLOAT, strategy="channel"))], "float-quantized"),
     num_hidden_layers=1)
make("ct-fp8-block", "llama", 25, compressed([("Linear", dict(FLOAT, strategy="block", block_structure=[32, 16]))],
                                             "float-quantized"), num_hidden_layers=1)
make("moe-gptq", "mixtral", 26, gptq(4, 32, True, False, False), **MIXTRAL)
make("moe-gptq-order", "qwen3-moe", 27, gptq(4, 32, False, True, True), **QWEN3_MOE)
make("moe-awq", "qwen3-moe", 28, awq(32, ["gate"]), **QWEN3_MOE)
make("moe-fp8", "qwen3-moe", 29, fp8("block"), **QWEN3_MOE)
make("moe-fp8-stacked", "qwen3-moe", 33, fp8("block"), stacked=True, **QWEN3_MOE)
make("moe-ct-int4", "qwen3-moe", 30, compressed([("Linear", dict(G32, symmetric=False))], "pack-quantized"), **QWEN3_MOE)
make("moe-ct-mixed", "mixtral", 31, compressed([
    ("Linear", dict(G32, symmetric=True)), ("re:.*experts.1.w1", dict(G32, symmetric=False)),
    ("re:.*experts.[02].w2", dict(INT, num_bits=8, strategy="channel", symmetric=True))], "pack-quantized"), **MIXTRAL)
make("moe-ct-fp8", "mixtral", 32, compressed([("Linear", dict(FLOAT, strategy="channel"))], "float-quantized"), **MIXTRAL)
make("moe-bnb-nf4", "mixtral", 34, nf4(), **MIXTRAL)
mxfp4()
os.remove(os.path.join(OUT, "tokenizer.json"))
