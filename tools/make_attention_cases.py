#!/usr/bin/env python3
"""Writes tests/data/attention/cases.txt and cases.bin: attention and its gradients by PyTorch's autograd in float64, 200 cases
that cover each field of nb_attention_params, for tests/attention/test_attention_cases.c.

    python3 tools/make_attention_cases.py tests/data/attention      (needs torch)

Inputs are not stored: both sides make them with the hash of tests/attention/specs.h. A line of cases.txt is a case: name=value
pairs; cases.bin holds, case by case in float32, out [batch][queries][heads][v_dim], lse [batch][heads][queries], and, where grad is
1, dq [batch][queries][heads][k_dim], dk and dv [batch][keys][kv_heads][dim].
"""
import random
import sys

import numpy as np
import torch

U = np.uint64
TYPES = [torch.float32, torch.float16, torch.bfloat16]


def hash_at(seed, n):
    with np.errstate(over="ignore"):
        z = U(seed) + (np.arange(n, dtype=U) + U(1)) * U(0x9E3779B97F4A7C15)
        z = (z ^ z >> U(30)) * U(0xBF58476D1CE4E5B9)
        z = (z ^ z >> U(27)) * U(0x94D049BB133111EB)
        return z ^ z >> U(31)


def normal(seed, n):
    h, low = hash_at(seed, n), U(0xFFFF)
    parts = [(h >> U(s) & low).astype(np.float64) for s in (0, 16, 32, 48)]
    return ((parts[0] + parts[1] + parts[2] + parts[3] - 131070) / 37837.2275).astype(np.float32)


def kept(seed, row, query, keys, dropout):
    """1 / (1 - dropout) or 0 a key: src/attention/rule.h"""
    z, mask, m32 = seed, (1 << 64) - 1, (1 << 32) - 1
    for part in (row, query):
        z = (z + part * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        z ^= z >> 31
    a, b = z & m32, z >> 32
    p = float(np.float32(dropout))
    least, grow = int(p * 2**32), float(np.float32(1) / (np.float32(1) - np.float32(dropout)))
    result = []
    for key in range(keys):
        x = ((key ^ a) * 0x9E3779B1 + b) & m32
        x = (x ^ x >> 16) * 0x85EBCA6B & m32
        x = (x ^ x >> 13) * 0xC2B2AE35 & m32
        x ^= x >> 16
        result.append(grow if x >= least else 0.0)
    return result


def seen(c):
    """[batch][queries][keys]: by position alone"""
    i = torch.arange(c["queries"])[:, None] + c["offset"]
    j = torch.arange(c["keys"])[None, :]
    window = torch.ones(c["queries"], c["keys"], dtype=torch.bool)
    if c["left"] >= 0:
        window &= i - j <= c["left"] * c["dilation"]
    if c["right"] >= 0:
        window &= j - i <= c["right"] * c["dilation"]
    window &= (i - j) % c["dilation"] == 0
    for g in c["globals"]:
        window |= (i == g) | (j == g)
    window |= j < c["sink_tokens"]
    if c["causal"]:
        window &= j <= i
    return torch.stack([window & (j < c["lengths"][b] if c["lengths"] else torch.tensor(True)) for b in range(c["batch"])])


def attention(c):
    b, h, g, lq, lk, d, dv = (c[x] for x in ("batch", "heads", "kv_heads", "queries", "keys", "k_dim", "v_dim"))
    seed, kind = c["seed"], TYPES[c["type"]]

    def tensor(add, *shape):
        x = torch.from_numpy(normal(seed + add, int(np.prod(shape)))).reshape(shape)
        return x.to(kind).to(torch.float64).requires_grad_()

    q, k, v = tensor(0, b, lq, h, d), tensor(1, b, lk, g, d), tensor(2, b, lk, g, dv)
    dout = torch.from_numpy(normal(seed + 3, b * lq * h * dv)).double().reshape(b, lq, h, dv)
    wide_k, wide_v = (x.repeat_interleave(h // g, dim=2).transpose(1, 2) for x in (k, v))
    scale = float(np.float32(1 / np.sqrt(d)))
    s = torch.matmul(q.transpose(1, 2), wide_k.transpose(2, 3)) * scale
    if c["softcap"]:
        s = c["softcap"] * torch.tanh(s / c["softcap"])
    i = torch.arange(lq)[:, None] + c["offset"]
    j = torch.arange(lk)[None, :]
    if c["slopes"]:
        s = s - (2.0 ** -torch.arange(1, h + 1).double())[:, None, None] * (i - j).abs()
    rows = torch.arange(lq)[:, None].expand(lq, lk)
    if c["bias"]:
        bias = torch.from_numpy(normal(seed + 11, h * lq * lk)).double().reshape(h, lq, lk)
        hidden = torch.from_numpy((hash_at(seed + 12, h * lq * lk) % U(10)).astype(np.int64)).reshape(h, lq, lk) == 0
        bias = torch.where(hidden, -torch.inf, bias)
        bias = torch.where(rows % 5 == 2, -1e9, bias)
        s = torch.where(bias.abs() >= 1e8, bias + (s - s.detach()), s + bias)
    visible = seen(c)[:, None].expand(b, h, lq, lk)
    if c["mask"]:
        mask = torch.from_numpy((hash_at(seed + 10, lq * lk) % U(10)).astype(np.int64)).reshape(lq, lk) < 6
        mask &= rows % 7 != 3
        s = s.masked_fill(~mask, float(c["fill"]))
    s = s.masked_fill(~visible, -torch.inf)
    if c["sinks"]:
        logits = torch.from_numpy(normal(seed + 13, h)).double()[None, :, None, None].expand(b, h, lq, 1)
        s = torch.cat([s, logits], dim=3)
    lse = torch.logsumexp(s, dim=3)
    p = torch.softmax(s, dim=3)
    p = torch.where(lse[..., None] == -torch.inf, torch.zeros(()).double(), p)[..., :lk]
    if c["dropout"]:
        keep = [[[kept(seed + 20, x * h + y, z, lk, c["dropout"]) for z in range(lq)] for y in range(h)] for x in range(b)]
        p = p * torch.tensor(keep, dtype=torch.float64)
    out = torch.matmul(p, wide_v).transpose(1, 2)
    plain = not (c["softcap"] or c["slopes"] or c["bias"] or c["mask"] or c["sinks"] or c["dropout"])
    if plain and bool(visible.any(dim=3).all()):
        same = torch.nn.functional.scaled_dot_product_attention(q.transpose(1, 2), wide_k, wide_v, attn_mask=visible, scale=scale)
        assert torch.allclose(same.transpose(1, 2), out, atol=1e-12, rtol=0)
    results = [out.detach(), lse.detach()]
    if c["grad"]:
        # rows that see nothing have no gradient; PyTorch's softmax makes NaN of them
        grads = torch.autograd.grad((out * dout).sum(), (q, k, v), allow_unused=True)
        results += [torch.zeros_like(x) if y is None else y for x, y in zip((q, k, v), grads)]
        if any(bool(x.isnan().any()) for x in results[2:]):
            c["grad"] = 0
            results = results[:2]
    return results


VARIANTS = [
    {}, {"causal": 1}, {"causal": 1, "offset": 5}, {"causal": 1, "offset": -4}, {"left": 5, "right": 3},
    {"left": 9, "right": 0, "causal": 1}, {"left": 2, "right": 2, "dilation": 3}, {"left": -1, "right": -1, "dilation": 2, "causal": 1},
    {"left": 3, "right": 3, "globals": [0, 7, 33]}, {"left": 2, "right": 0, "causal": 1, "globals": [1, 9], "dilation": 4},
    {"left": 4, "right": 0, "causal": 1, "sink_tokens": 4}, {"softcap": 2.5}, {"slopes": 1, "causal": 1}, {"mask": 1},
    {"mask": 1, "fill": "-1e9", "causal": 1}, {"bias": 1}, {"lengths": 1}, {"sinks": 1, "left": 6, "right": 0}, {"dropout": 0.3},
    {"softcap": 4.0, "slopes": 1, "mask": 1, "bias": 1, "lengths": 1, "sinks": 1, "dropout": 0.2, "left": 11, "right": 5, "dilation": 2,
     "globals": [3], "sink_tokens": 2, "causal": 1},
]


def main():
    random.seed(8)
    text, data = [], []
    for n in range(200):
        r = random.Random(n)
        keys, g, d = r.choice([3, 9, 17, 40, 66, 70]), r.choice([1, 1, 2]), r.choice([1, 3, 4, 8, 13, 16])
        c = {"seed": 1000 * (n + 1), "batch": r.choice([1, 1, 2]) if keys < 40 else 1, "heads": g * r.choice([1, 2, 3]), "kv_heads": g,
             "k_dim": d, "v_dim": r.choice([d, d, 5]), "queries": r.choice([1, 4, 8, 13]), "keys": keys, "type": n // 20 % 3,
             "causal": 0, "left": -1, "right": -1, "dilation": 1, "globals": [], "sink_tokens": 0, "lengths": [], "mask": 0,
             "fill": "-inf", "bias": 0, "slopes": 0, "sinks": 0, "softcap": 0, "dropout": 0, "grad": 1}
        c["offset"] = keys - c["queries"]
        c.update(VARIANTS[n % 20])
        c["globals"] = [x for x in c["globals"] if x < keys]
        if c["lengths"]:
            c["lengths"] = [r.randint(0 if n % 40 < 20 else 1, keys) for _ in range(c["batch"])]
        data += [x.to(torch.float32).numpy().ravel() for x in attention(c)]
        text.append(" ".join(f"{k}={','.join(map(str, v)) if isinstance(v, list) else v}" for k, v in c.items()))
    open(f"{sys.argv[1]}/cases.txt", "w").write("\n".join(text) + "\n")
    np.concatenate(data).astype("<f4").tofile(f"{sys.argv[1]}/cases.bin")


main()
