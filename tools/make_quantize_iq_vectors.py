#!/usr/bin/env python3
"""Writes tests/data/quant/mxfp4_nearest.txt (digests of gguf-py's bytes) and, given a libggml-base.so, the column `peer`
of tests/data/quant/quality_iq.csv: the weighted squared error of ggml_quantize_chunk over the weighted energy.

usage: make_quantize_iq_vectors.py [libggml-base.so]      (needs numpy and gguf; tests/quant/test_quantize_*.c read them)

The rows are those of quality_iq_rows.bin: 8 of 1536 from a normal distribution, 4 of ffn_gate of layer 10 and 4 of
ffn_up of layer 25 of Qwen2.5-Coder-1.5B, all F16, and one of the importance of ffn_gate's columns, F32.
A line of mxfp4_nearest.txt: SEED POWER DIGEST: 64 blocks, each value an int32 of the seeded bytes times 2^POWER; for
POWER 0 the seeded bytes are floats instead, their exponents kept in 2^-60..2^67, every fourth with all mantissa bits set.
"""
import ctypes
import os
import sys

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T

sys.path.insert(0, os.path.dirname(__file__))
from test_digest import digest_u32, seeded_bytes  # noqa: E402

DATA = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "quant")
TYPES = "IQ4_NL IQ4_XS MXFP4 NVFP4 IQ3_S IQ3_XXS IQ2_XS IQ2_XXS IQ2_S IQ1_S IQ1_M".split()


def mxfp4():
    with open(os.path.join(DATA, "mxfp4_nearest.txt"), "w") as out:
        for seed, power in [(1, -120), (2, -60), (3, -36), (4, -31), (5, 30), (6, 0), (7, 0), (8, 0)]:
            raw = np.frombuffer(bytes(seeded_bytes(seed, 64 * 32 * 4)), "<u4")
            if power:
                x = (raw.astype(np.int32).astype(np.float64) * 2.0 ** power).astype(np.float32)
            else:
                bits = (raw & 0x807FFFFF) | ((raw >> 23 & 127) + 67) << 23
                bits[::4] |= 0x7FFFFF
                x = bits.view(np.float32)
            packed = quants.quantize(x.reshape(-1, 32), T.MXFP4)
            out.write(f"{seed} {power} {digest_u32(np.ascontiguousarray(packed).reshape(-1).view('<u4')):016x}\n")


def peer(lib):
    raw = open(os.path.join(DATA, "quality_iq_rows.bin"), "rb").read()
    x = np.frombuffer(raw, "<f2", 16 * 1536).astype(np.float32).reshape(16, 1536)
    importance = np.frombuffer(raw, "<f4", 1536, 16 * 1536 * 2).copy()
    ggml = ctypes.CDLL(lib)
    path = os.path.join(DATA, "quality_iq.csv")
    old = dict()
    if os.path.exists(path):
        for line in open(path).read().split()[1:]:
            f = line.split(",")
            old[f[0], f[1], f[2]] = f[3]
    with open(path, "w") as out:
        out.write("type,rows,weights,ours,peer\n")
        for name in TYPES:
            t = T[name]
            block, size = GGML_QUANT_SIZES[t]
            ggml.ggml_quantize_init(int(t))
            for rows, a, b in [("normal", 0, 8), ("ffn_gate", 8, 12), ("ffn_up", 12, 16)]:
                for label, w in [("none", None), ("imatrix", importance)]:
                    part = np.ascontiguousarray(x[a:b])
                    got = np.zeros((b - a, 1536 // block * size), np.uint8)
                    used = np.ones(1536, np.float32) if w is None else w
                    needed = w is not None or name in ("IQ2_XXS", "IQ2_XS", "IQ1_S")
                    ggml.ggml_quantize_chunk(int(t), ctypes.c_void_p(part.ctypes.data), ctypes.c_void_p(got.ctypes.data),
                                             ctypes.c_int64(0), ctypes.c_int64(b - a), ctypes.c_int64(1536),
                                             ctypes.c_void_p(used.ctypes.data if needed else None))
                    back = quants.dequantize(got, t).astype(np.float64)
                    error = (used * (back - part) ** 2).sum() / (used * part.astype(np.float64) ** 2).sum()
                    out.write(f"{name},{rows},{label},{old.get((name, rows, label), '0')},{error:.4e}\n")


mxfp4()
if len(sys.argv) > 1:
    peer(sys.argv[1])
