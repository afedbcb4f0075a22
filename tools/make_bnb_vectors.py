#!/usr/bin/env python3
"""What bitsandbytes computes beyond plain quantization: whole LLM.int8() layers, blocks of 32, odd lengths and one zero tail,
8-bit blocks with both maps, and single steps of its 8-bit optimizers.

usage: make_bnb_vectors.py tests/data/bitsandbytes        (needs torch, bitsandbytes 0.50, safetensors; CPU)

layers.safetensors      CASE.{x, w, [bias], codes, scale, dequant, y}, CASE = int8.T<tokens>.t<threshold>[.bias][.bf16]
blocks.safetensors      x_* inputs and CASE.{packed, absmax, [nested_absmax, offset], dequant}; q8.MAP.{codes, absmax, x}
linear4.safetensors     KIND.BLOCK.<rows>x<columns>.{packed, absmax, x, y, magnitude}: y = dequantized W times x in float64
optimizers.safetensors  p0, grads [3, n]; KIND.{p, state1, absmax1, [state2, absmax2]}.<steps taken> and small.KIND.p.3 (float32)
"""
import os
import sys

import bitsandbytes as bnb
import bitsandbytes.functional as F
import torch
from safetensors.torch import save_file

out = sys.argv[1]
g = torch.Generator().manual_seed(41)


def save(name, tensors):
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, os.path.join(out, name))


def layer(res, tokens, threshold, bias, dtype=torch.float16, inputs=192, outputs=56):
    x = torch.randn(tokens, inputs, generator=g).to(dtype)
    x[0, 11] = 9.5
    x[tokens - 1, 100] = -31.0
    if tokens > 2:
        x[2] = 0
    m = bnb.nn.Linear8bitLt(inputs, outputs, bias=bias, has_fp16_weights=False, threshold=threshold)
    w = (torch.randn(outputs, inputs, generator=g) * 0.05).half()
    w[3] = 0
    m.weight = bnb.nn.Int8Params(w.clone(), requires_grad=False, has_fp16_weights=False)
    if bias:
        m.bias = torch.nn.Parameter(torch.randn(outputs, generator=g).to(dtype), requires_grad=False)
    m = m.to("cpu").eval()
    with torch.no_grad():
        y = m(x)
    codes, scale, _ = F.int8_vectorwise_quant(w.clone())
    k = f"int8.T{tokens}.t{threshold:g}" + (".bias" if bias else "") + (".bf16" if dtype == torch.bfloat16 else "")
    res |= {k + ".x": x, k + ".w": w, k + ".codes": codes, k + ".scale": scale, k + ".y": y,
            k + ".dequant": F.int8_vectorwise_dequant(codes, scale).float()}
    if bias:
        res[k + ".bias"] = m.bias.data


layers = {}
for tokens, threshold, bias in ((1, 6.0, True), (1, 0.0, False), (7, 6.0, False), (7, 6.0, True), (7, 0.0, True), (24, 3.0, True)):
    layer(layers, tokens, threshold, bias)
layer(layers, 5, 6.0, True, torch.bfloat16)
save("layers.safetensors", layers)

blocks = {}
for name, n in (("whole", 1024), ("odd", 1001), ("short", 17), ("zero_tail", 640 + 20)):
    x = torch.randn(n, generator=g)
    if name == "zero_tail":
        x[640:] = 0
    blocks["x_" + name] = x
    for kind in ("nf4", "fp4"):
        for size in (32, 64, 4096):
            q, s = F.quantize_4bit(x, blocksize=size, quant_type=kind)
            k = f"{kind}.{size}.{name}"
            blocks |= {k + ".packed": q.flatten(), k + ".absmax": s.absmax, k + ".dequant": F.dequantize_4bit(q, s).float()}
for signed in (True, False):
    x = torch.randn(4096 + 100, generator=g)
    x = x if signed else x.abs()
    q, s = F.quantize_blockwise(x, code=F.create_dynamic_map(signed), blocksize=256)
    k = "q8." + ("signed" if signed else "unsigned")
    blocks |= {k + ".x": x, k + ".codes": q, k + ".absmax": s.absmax, k + ".dequant": F.dequantize_blockwise(q, s)}
save("blocks.safetensors", blocks)

linear4 = {}
g4 = torch.Generator().manual_seed(43)
for kind in ("nf4", "fp4"):
    for size, rows, columns in ((32, 6, 288), (64, 13, 320), (128, 8, 1024), (64, 5, 100)):
        q, s = F.quantize_4bit(torch.randn(rows, columns, generator=g4), blocksize=size, quant_type=kind)
        x = torch.randn(columns, generator=g4)
        w = F.dequantize_4bit(q, s).double()
        k = f"{kind}.{size}.{rows}x{columns}"
        linear4 |= {k + ".packed": q.flatten(), k + ".absmax": s.absmax, k + ".x": x, k + ".y": (w @ x.double()).float(),
                    k + ".magnitude": (w.abs() @ x.abs().double()).float()}
save("linear4.safetensors", linear4)

n = 4096 + 100
p0 = torch.randn(n, generator=g)
grads = torch.randn(3, n, generator=g) * torch.linspace(0.1, 2.0, n)
opt = {"p0": p0, "grads": grads}
KINDS = {
    "adam": lambda p, b: (bnb.optim.Adam8bit if b else bnb.optim.Adam)(p, lr=1e-3),
    "adamw": lambda p, b: (bnb.optim.AdamW8bit if b else bnb.optim.AdamW)(p, lr=1e-3, weight_decay=0.1),
    "lion": lambda p, b: (bnb.optim.Lion8bit if b else bnb.optim.Lion)(p, lr=1e-3, weight_decay=0.1),
    "momentum": lambda p, b: (bnb.optim.SGD8bit if b else bnb.optim.SGD)(p, lr=1e-3, momentum=0.9, weight_decay=0.1),
    "rmsprop": lambda p, b: (bnb.optim.RMSprop8bit if b else bnb.optim.RMSprop)(p, lr=1e-3, weight_decay=0.1),
    "adagrad": lambda p, b: (bnb.optim.Adagrad8bit if b else bnb.optim.Adagrad)(p, lr=1e-3, weight_decay=0.1),
}
for kind, make in KINDS.items():
    p = torch.nn.Parameter(p0.clone())
    o = make([p], True)
    for i in range(3):
        p.grad = grads[i].clone()
        o.step()
        if i >= 1:
            opt[f"{kind}.p.{i + 1}"] = p.detach().clone()
            for k, v in o.state[p].items():
                if k in ("state1", "state2", "absmax1", "absmax2"):
                    assert v.dtype == (torch.uint8 if k.startswith("state") else torch.float32)
                    opt[f"{kind}.{k}.{i + 1}"] = v.clone()
    small = torch.nn.Parameter(p0[:300].clone())
    o = make([small], False)
    for i in range(3):
        small.grad = grads[i, :300].clone()
        o.step()
    opt[f"small.{kind}.p.3"] = small.detach().clone()
save("optimizers.safetensors", opt)
