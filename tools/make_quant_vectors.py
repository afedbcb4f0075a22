#!/usr/bin/env python3
"""Writes tests/data/num/half.txt and tests/data/quant/dequantize.txt: digests of what numpy and gguf-py answer.

usage: make_quant_vectors.py          (needs numpy and gguf; tests/num and tests/quant read the files)

A line of dequantize.txt: TYPE BLOCKS SEED FILL PATCHES DIGEST. The blocks are BLOCKS * block size bytes, all FILL (two
hex digits) or, where FILL is -, the bytes of tests/support/digest.h for SEED; then in every block the bytes of PATCHES
(OFFSET:HEX, separated by commas; - for none) replace what was there. DIGEST is of the floats.
"""
import os
import sys

import numpy as np
from gguf import quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

sys.path.insert(0, os.path.dirname(__file__))
from test_digest import digest_floats, digest_u32, seeded_bytes  # noqa: E402

DATA = os.path.join(os.path.dirname(__file__), "..", "tests", "data")
BLOCKS = 64
# zero, both signs; least and greatest subnormal; least and greatest normal; infinities; NaNs; one; a common scale
HALVES = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFFFF, 0x3C00, 0x211E]


def plain(dtype):
    return lambda b: b.view(dtype).astype(np.float32)


def half(b, offset):
    return b[:, offset:offset + 2].copy().view(np.float16).astype(np.float32)


def q8_1(b):  # d, sum, 32 x int8
    return half(b, 0) * b[:, 4:].view(np.int8).astype(np.float32)


def q8_k(b):  # float d, 256 x int8, 16 sums
    return b[:, :4].copy().view(np.float32) * b[:, 4:260].view(np.int8).astype(np.float32)


def q1_0(b):  # d, 128 x 1 bit, low bit first: -d or d
    bits = np.unpackbits(b[:, 2:], axis=1, bitorder="little")
    return np.where(bits == 1, half(b, 0), -half(b, 0))


def q2_0(b):  # d, 64 x 2 bits, low bits first: -1, 0, 1, 2
    q = (b[:, 2:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    return half(b, 0) * (q.reshape(len(b), 64).astype(np.float32) - 1)


# What gguf-py has no answer for: (values, bytes, decoder).
OURS = {
    "F32": (1, 4, plain(np.float32)), "F64": (1, 8, plain(np.float64)),
    "I8": (1, 1, plain(np.int8)), "I16": (1, 2, plain(np.int16)),
    "I32": (1, 4, plain(np.int32)), "I64": (1, 8, plain(np.int64)),
    "Q8_1": (32, 36, q8_1), "Q8_K": (256, 292, q8_k), "Q1_0": (128, 18, q1_0), "Q2_0": (64, 18, q2_0),
}
# Byte offsets of the binary16 numbers in a block.
HALF_AT = {
    "F16": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q8_1": [0], "Q2_K": [80, 82],
    "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0],
    "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64],
    "Q1_0": [0], "Q2_0": [0],
}
FROM_GGUF = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_XXS",
             "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "IQ1_M", "TQ1_0", "TQ2_0", "MXFP4",
             "NVFP4"]


def decoder(name):
    if name in OURS:
        return OURS[name]
    kind = GGMLQuantizationType[name]
    values, size = GGML_QUANT_SIZES[kind]
    return values, size, lambda b: quants.dequantize(b, kind)


def half_patches(name):
    """Every special number in every scale, the others as they are; then the same number in all scales at once."""
    if name == "IQ1_M":  # its scale lies in the top nibbles of four words
        for h in HALVES:
            yield ",".join(f"{49 + 2 * i}:{(h >> 4 * i & 15) << 4:02x}" for i in range(4))
        return
    offsets = HALF_AT.get(name, [])
    for h in HALVES:
        raw = f"{h & 255:02x}{h >> 8:02x}"
        yield from (f"{at}:{raw}" for at in offsets)
        if len(offsets) > 1:
            yield ",".join(f"{at}:{raw}" for at in offsets)


def other_patches(name):
    if name == "MXFP4":
        yield from (f"0:{e:02x}" for e in (0, 1, 2, 127, 128, 254, 255))
    if name == "NVFP4":
        yield from (f"0:{s}" for s in ("00010708", "7e7f80ff", "0f103877"))
    if name == "Q8_K":
        yield from (f"0:{d}" for d in ("00000000", "01000000", "0000807f", "ffff7fff", "ffff7f7f"))


def blocks_of(size, seed, fill, patches):
    raw = seeded_bytes(seed, BLOCKS * size) if fill == "-" else np.full(BLOCKS * size, int(fill, 16), np.uint8)
    raw = raw.reshape(BLOCKS, size)
    for patch in patches.split(",") if patches != "-" else []:
        at, text = patch.split(":")
        new = np.frombuffer(bytes.fromhex(text), np.uint8)
        raw[:, int(at):int(at) + new.size] = new
    return raw


def dequantize_lines(name):
    values, size, decode = decoder(name)
    cases = [(1, "-", "-"), (2, "-", "-"), (3, "-", "-"), (0, "00", "-"), (0, "ff", "-"), (0, "80", "-"), (0, "7f", "-")]
    cases += [(4 + i, "-", p) for i, p in enumerate([*half_patches(name), *other_patches(name)])]
    for seed, fill, patches in cases:
        x = decode(blocks_of(size, seed, fill, patches))
        assert x.size == BLOCKS * values and x.dtype == np.float32, name
        yield f"{name} {BLOCKS} {seed} {fill} {patches} {digest_floats(x):016x}"


def rounding_inputs():
    """Floats around every place where the two narrow formats change their answer: the order of tests/num/test_half.c."""
    low = [0, 1, 0x0FFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x2FFF, 0x3000, 0x3001, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
    top = np.arange(65536, dtype=np.uint32) << np.uint32(16)
    near = (top[:, None] | np.array(low, np.uint32)).reshape(-1)
    finite = np.arange(0x7C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    finite[-1] = 65536
    middle = ((finite[:-1] + finite[1:]) / 2).view(np.uint32)
    positive = (middle[:, None] + np.array([-1, 0, 1], np.int64)).reshape(-1).astype(np.uint32)
    signed = np.stack([positive, positive | np.uint32(0x80000000)], axis=1).reshape(-1)
    stride = (np.arange(1 << 20, dtype=np.uint64) * np.uint64(4099)).astype(np.uint32)
    return np.concatenate([near, signed, stride]).view(np.float32)


def half_lines():
    every = np.arange(65536, dtype=np.uint16)
    x = rounding_inputs()
    bf16 = GGMLQuantizationType.BF16
    widened = quants.dequantize(every.view(np.uint8).reshape(-1, 2), bf16)
    yield f"f16_to_f32 {digest_u32(every.view(np.float16).astype(np.float32).view(np.uint32)):016x}"
    yield f"bf16_to_f32 {digest_u32(widened.view(np.uint32)):016x}"
    yield f"f32_to_f16 {digest_u32(x.astype(np.float16).view(np.uint16)):016x}"
    yield f"f32_to_bf16 {digest_u32(quants.quantize(x.reshape(-1, 1), bf16).view(np.uint16)):016x}"


def write(path, lines):
    with open(os.path.join(DATA, path), "w", encoding="ascii") as f:
        f.writelines(line + "\n" for line in lines)


np.seterr(all="ignore")
write("num/half.txt", half_lines())
write("quant/dequantize.txt", (line for name in FROM_GGUF + list(OURS) for line in dequantize_lines(name)))
