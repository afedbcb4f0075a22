#!/usr/bin/env python3
"""Writes tests/data/quant/quantize.txt (digests of what gguf-py quantizes), rows.f16 (rows of a model) and quality.csv.

usage: make_quantize_vectors.py LIBGGML_BASE.so [MODEL.gguf] < table      (needs numpy and gguf)

A line of quantize.txt: TYPE KIND SEED BLOCKS DIGEST, of the bytes that come of the values `values` makes; Q1_0 and Q2_0,
which gguf-py does not write, come from libggml. With MODEL.gguf, rows.f16 is made anew: two rows of each of four
tensors, dequantized and spread by half a step of their block with seeded noise, 1536 columns.
quality.csv has our and the peer's (libggml's) normalized mean squared error of each type; the peer's is measured here, ours
is read from standard input: lines of TYPE,ROWS,WEIGHTS,OURS, which test_quantize_quality prints.
"""
import ctypes
import os
import sys

import numpy as np
from gguf import GGUFReader, quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type

sys.path.insert(0, os.path.dirname(__file__))
from test_digest import digest_u32, seeded_bytes  # noqa: E402

DATA = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "quant")
NEAREST = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0"]
QUALITY = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0"]
NOT_IN_GGUF = {"Q1_0": (41, 128, 18), "Q2_0": (42, 64, 18)}
SIZES = {**{t.name: (t.value, *GGML_QUANT_SIZES[t]) for t in Type}, **NOT_IN_GGUF}


def words(seed, n):
    return seeded_bytes(seed, 4 * n).view("<i4")


def values(kind, seed, n):
    """even: uniform in -1..1; small: bytes over 16, so that ties abound; wide: blocks of 32 at powers of two from
    2^-100 to 2^27; half: powers near those where a binary16 scale is subnormal; sparse: even, but most are 0."""
    u = words(seed, n)
    x = u.astype(np.float32) * np.float32(2.0 ** -31)
    if kind == "small":
        return ((u >> 24).astype(np.float32) / np.float32(16)).astype(np.float32)
    if kind in ("wide", "half"):
        e = words(seed + 1, n // 32) & 127
        power = (e - 100 if kind == "wide" else e % 24 - 22).astype(np.int32)
        return np.ldexp(x.reshape(-1, 32), power[:, None]).astype(np.float32).reshape(-1)
    if kind == "sparse":
        return np.where((words(seed + 1, n) & 31) == 0, x, np.float32(0)).astype(np.float32)
    return x


class Init(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Peer:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.ggml_init.argtypes, self.lib.ggml_init.restype = [Init], ctypes.c_void_p
        self.lib.ggml_init(Init(1 << 20, None, False))
        p, i = ctypes.c_void_p, ctypes.c_int64
        self.lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, p, p, i, i, i, p]
        self.lib.ggml_quantize_chunk.restype = ctypes.c_size_t

    def quantize(self, name, x, weight=None):
        number, block, size = SIZES[name]
        x = np.ascontiguousarray(x, np.float32)
        out = np.zeros((x.shape[0], x.shape[1] // block * size), np.uint8)
        self.lib.ggml_quantize_chunk(number, x.ctypes.data, out.ctypes.data, 0, x.shape[0], x.shape[1],
                                     None if weight is None else weight.ctypes.data)
        return out


def dequantize(name, b, columns):
    b = b.reshape(-1, SIZES[name][2])
    if name not in NOT_IN_GGUF:
        return quants.dequantize(b, Type[name]).reshape(-1, columns)
    d = b[:, :2].copy().view(np.float16).astype(np.float32)
    if name == "Q1_0":
        bits = np.unpackbits(b[:, 2:], axis=1, bitorder="little")
        return np.where(bits == 1, d, -d).reshape(-1, columns)
    q = ((b[:, 2:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3).reshape(len(b), 64)
    return (d * (q.astype(np.float32) - 1)).reshape(-1, columns)


def write_nearest(peer):
    with open(os.path.join(DATA, "quantize.txt"), "w") as f:
        for name in NEAREST:
            for seed, kind in enumerate(["even", "small", "wide", "half", "sparse"], 1):
                n = 256 * 64
                x = values(kind, seed * 100, n)
                if name not in NOT_IN_GGUF:
                    raw = quants.quantize(x.reshape(1, -1), Type[name]).view(np.uint8)
                else:
                    raw = peer.quantize(name, x.reshape(1, -1))
                f.write(f"{name} {kind} {seed * 100} {n} {digest_u32(raw):016x}\n")


def gaussian(rows, columns):  # Box-Muller in double
    u = (words(7, 2 * rows * columns).astype(np.float64) + 2147483648.5) / 4294967296.0
    r = np.sqrt(-2 * np.log(u[0::2])) * np.cos(2 * np.pi * u[1::2])
    return r.astype(np.float32).reshape(rows, columns)


def importance(columns):  # 1 to 256, most of them small
    u = (words(8, columns) >> 8 & 0xFFFFFF).astype(np.float32) * np.float32(2.0 ** -24) + np.float32(1)
    for _ in range(3):
        u = u * u
    return u


def real_rows(model=None):
    path = os.path.join(DATA, "rows.f16")
    if model:
        rng, rows, tensors = np.random.default_rng(1), [], {t.name: t for t in GGUFReader(model).tensors}
        for name in ["blk.3.ffn_up.weight", "blk.12.attn_q.weight", "blk.20.ffn_down.weight", "blk.5.attn_v.weight"]:
            t = tensors[name]
            x = quants.dequantize(t.data[[5, 100]], t.tensor_type).astype(np.float32)
            b = x.reshape(-1, 16 if t.tensor_type == Type.Q6_K else 32)
            d = np.diff(np.sort(b, axis=1), axis=1)
            step = np.where(d > np.abs(b).max(1, keepdims=True) * 1e-4, d, np.inf).min(1, keepdims=True)
            step[~np.isfinite(step)] = 0
            b = b + step * (rng.random(b.shape, dtype=np.float32) - 0.5)
            rows.append(b.reshape(x.shape)[:, :1536].astype("<f2"))
        np.concatenate(rows).tofile(path)
    return np.fromfile(path, "<f2").astype(np.float32).reshape(-1, 1536)


def write_quality(peer, model):
    ours = dict(line.strip().rsplit(",", 1) for line in sys.stdin if line.strip())
    sources = {"gauss": gaussian(16, 4096), "real": real_rows(model)}
    with open(os.path.join(DATA, "quality.csv"), "w") as f:
        f.write("type,rows,weights,ours,peer\n")
        for name in QUALITY:
            for rows, x in sources.items():
                for weights in ["none", "importance"]:
                    w = importance(x.shape[1]) if weights == "importance" else None
                    y = dequantize(name, peer.quantize(name, x, w), x.shape[1]).astype(np.float64)
                    factor = np.ones(x.shape[1]) if w is None else w.astype(np.float64)
                    error = ((x - y) ** 2 * factor).sum() / ((x.astype(np.float64) ** 2) * factor).sum()
                    key = f"{name},{rows},{weights}"
                    f.write(f"{key},{ours.get(key, '0')},{error:.6e}\n")


def main():
    peer = Peer(sys.argv[1])
    write_nearest(peer)
    write_quality(peer, sys.argv[2] if len(sys.argv) > 2 else None)


main()
