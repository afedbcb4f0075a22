#!/usr/bin/env python3
"""Times PyTorch's scaled_dot_product_attention on this CPU for bench_flash, which starts it: one JSON object, seconds by case (the
best of several).

usage: attention_peer.py [threads]      (needs torch)
"""
import json
import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads())


def best(f):
    f()
    times = []
    while len(times) < 2 or (sum(times) < 0.5 and len(times) < 30):
        begin = time.perf_counter()
        f()
        times.append(time.perf_counter() - begin)
    return min(times)


res = {"version": torch.__version__}
for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
    for dim in (64, 128, 256):
        heads = 4 if dim == 256 else 8
        for length in (512, 2048, 16384):
            q, k, v = (torch.randn(1, heads, length, dim, dtype=dtype) for _ in range(3))
            for causal in (False, True):
                key = f"{name} {dim} {length} {'causal' if causal else 'dense'}"
                res[key] = best(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal))
for dim in (64, 128):
    for length in (512, 2048):
        q, k, v = (torch.randn(1, 8, length, dim, requires_grad=True) for _ in range(3))
        for causal in (False, True):
            out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
            dout = torch.randn_like(out)
            key = f"f32 backward {dim} {length} {'causal' if causal else 'dense'}"
            res[key] = best(lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True))
print(json.dumps(res))
