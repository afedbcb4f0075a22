#!/usr/bin/env python3
"""Writes tests/data/attention/standard.txt: attention by numpy, whole matrices in float64, for tests/attention.

    python3 tools/make_attention_vectors.py > tests/data/attention/standard.txt

A case is a line of numbers (heads kv_heads k_dim v_dim queries position positions scale softcap window causal sinks),
then q, k, v, the sinks if any, and the output, each on a line.
"""
import numpy as np

CASES = [
    # heads, kv_heads, k_dim, v_dim, queries, position, positions, softcap, window, causal, sinks
    (1, 1, 4, 4, 3, 0, 3, 0.0, 0, 1, 0),
    (4, 2, 8, 8, 2, 5, 7, 0.0, 0, 1, 0),
    (3, 1, 5, 7, 4, 0, 4, 0.0, 2, 1, 0),
    (6, 3, 6, 3, 2, 9, 11, 2.5, 4, 1, 0),
    (2, 2, 16, 16, 3, 1, 8, 0.0, 0, 0, 0),
    (4, 1, 8, 4, 3, 3, 6, 0.0, 0, 1, 1),
    (2, 1, 4, 4, 3, 4, 10, 1.0, 3, 0, 1),
    (2, 2, 6, 4, 12, 0, 12, 0.0, 4, 0, 0),
    (3, 1, 4, 5, 4, 2, 9, 0.0, 1, 0, 0),
]


def attention(q, k, v, position, scale, softcap, window, causal, sinks):
    queries, heads, _ = q.shape
    positions, kv_heads, _ = k.shape
    k, v = (np.repeat(x, heads // kv_heads, axis=1) for x in (k, v))
    s = np.einsum("ihd,jhd->hij", q, k) * scale
    if softcap:
        s = softcap * np.tanh(s / softcap)
    i = position + np.arange(queries)[:, None]
    j = np.arange(positions)[None, :]
    seen = np.ones((queries, positions), bool)
    if causal:
        seen &= j <= i
    if window:
        seen &= abs(i - j) < window
    s = np.where(seen, s, -np.inf)
    if sinks is not None:
        s = np.concatenate([s, np.broadcast_to(sinks[:, None, None], (heads, queries, 1))], axis=2)
    p = np.exp(s - s.max(axis=2, keepdims=True))
    p /= p.sum(axis=2, keepdims=True)
    return np.einsum("hij,jhd->ihd", p[:, :, :positions], v)


def line(x):
    print(" ".join(f"{float(y):.9g}" for y in np.ravel(x)))


def main():
    rng = np.random.default_rng(3)
    for heads, kv_heads, k_dim, v_dim, queries, position, positions, softcap, window, causal, has_sinks in CASES:
        def numbers(*shape):
            return rng.standard_normal(shape).astype(np.float32)

        q, k, v = numbers(queries, heads, k_dim), numbers(positions, kv_heads, k_dim), numbers(positions, kv_heads, v_dim)
        sinks = numbers(heads) if has_sinks else None
        scale = np.float32(1 / np.sqrt(k_dim))
        wide = [x.astype(np.float64) for x in (q, k, v)]
        out = attention(*wide, position, float(scale), softcap, window, causal,
                        sinks.astype(np.float64) if has_sinks else None)
        line([heads, kv_heads, k_dim, v_dim, queries, position, positions, scale, softcap, window, causal, has_sinks])
        for x in (q, k, v):
            line(x)
        if has_sinks:
            line(sinks)
        line(out)


main()
