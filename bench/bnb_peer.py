#!/usr/bin/env python3
"""Times bitsandbytes on this CPU for bench_bnb, which starts it: one JSON object, seconds by case (the best of several).

usage: bnb_peer.py [threads]      (needs torch and bitsandbytes)
"""
import json
import sys
import time

import bitsandbytes as bnb
import bitsandbytes.functional as F
import torch

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads())
torch.set_grad_enabled(False)


def best(f, runs):
    f()
    f()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        f()
        times.append(time.perf_counter() - begin)
    return min(times)


res = {"version": bnb.__version__, "avx512_bf16": bool(F.has_avx512bf16())}
for side in (512, 1024, 4096):
    runs = 5 if side == 4096 else 60
    x = torch.randn(side, side)
    res[f"quantize nf4 {side}"] = best(lambda: F.quantize_4bit(x, quant_type="nf4"), 3 if side == 4096 else 10)
    q, s = F.quantize_4bit(x, quant_type="nf4")
    res[f"dequantize nf4 {side} f32"] = best(lambda: F.dequantize_4bit(q, s), runs)
    s.dtype = torch.bfloat16
    res[f"dequantize nf4 {side} bf16"] = best(lambda: F.dequantize_4bit(q, s), runs)
    res[f"quantize 8bit {side}"] = best(lambda: F.quantize_blockwise(x), 3 if side == 4096 else 10)
    q8, s8 = F.quantize_blockwise(x)
    res[f"dequantize 8bit {side}"] = best(lambda: F.dequantize_blockwise(q8, s8), runs)

rows, columns = 8192, 16384
layer = bnb.nn.Linear4bit(columns, rows, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
w = torch.randn(rows, columns, dtype=torch.bfloat16)
layer.weight = bnb.nn.Params4bit(w, requires_grad=False, quant_type="nf4")
del w
layer = layer.to("cpu").eval()
x = torch.randn(1, columns, dtype=torch.bfloat16)
res["linear nf4 8192x16384"] = best(lambda: layer(x), 25)
# its kernel for AVX512-BF16 ran: Linear4bit has repacked the weight for it
res["linear packed"] = bool(getattr(layer.weight.quant_state, "packing_format_for_cpu", False))

torch.set_grad_enabled(True)
p = torch.nn.Parameter(torch.randn(1 << 22))
p.grad = torch.randn_like(p)
for name in ("Adam8bit", "Lion8bit"):
    o = getattr(bnb.optim, name)([p], lr=1e-3)
    res[f"{name.lower()} step 4M"] = best(o.step, 5)
print(json.dumps(res))
