#!/usr/bin/env python3
"""Answers of PyTorch and ml_dtypes for every number format, as digests and limits.

usage: tools/make_number_vectors.py > tests/data/num/numbers.txt     (needs torch, ml_dtypes, numpy)

Lines: "decode FORMAT DIGEST" over all codes; "encode FORMAT saturate|special DIGEST" over the inputs of encode_inputs();
"limits FORMAT bits max min epsilon tiny least". tests/num/test_number.c makes the same inputs and digests.
"""
import ml_dtypes
import numpy as np
import torch

FORMATS = {  # name: (bits, torch type, ml_dtypes type)
    "f16": (16, torch.float16, None),
    "bf16": (16, torch.bfloat16, ml_dtypes.bfloat16),
    "f8_e4m3": (8, torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn),
    "f8_e5m2": (8, torch.float8_e5m2, ml_dtypes.float8_e5m2),
    "e8m0": (8, torch.float8_e8m0fnu, ml_dtypes.float8_e8m0fnu),
    "f6_e2m3": (6, None, ml_dtypes.float6_e2m3fn),
    "f6_e3m2": (6, None, ml_dtypes.float6_e3m2fn),
    "f4_e2m1": (4, None, ml_dtypes.float4_e2m1fn),
}


def mix64(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def digest(words):
    """nb_digest of 32-bit words (tests/support/digest.h)"""
    words = np.asarray(words, dtype=np.uint64)
    with np.errstate(over="ignore"):
        places = (np.arange(len(words), dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        return int(mix64(words + places).sum(dtype=np.uint64))


def float_bits(x):
    bits = np.asarray(x, dtype=np.float32).view(np.uint32).copy()
    bits[(bits & 0x7FFFFFFF) > 0x7F800000] = 0x7FC00000
    return bits


def decode(name):
    bits, torch_type, ml_type = FORMATS[name]
    if torch_type is not None:
        codes = np.arange(1 << bits, dtype=np.uint16 if bits == 16 else np.uint8)
        t = torch.from_numpy(codes.view(np.int16) if bits == 16 else codes).view(torch_type)
        return t.to(torch.float32).numpy()
    return np.arange(1 << bits, dtype=np.uint8).view(ml_type).astype(np.float32)


def encode_inputs(name):
    """Around every boundary: each finite number and each middle of two neighbours, with the two floats beside it; both signs; a
    stride through all floats."""
    values = np.unique(decode(name)[np.isfinite(decode(name))])
    values = np.abs(values[values >= 0].astype(np.float64))  # no negative zero
    edges = np.concatenate([values, (values[1:] + values[:-1]) / 2, [values[-1] + (values[-1] - values[-2]) / 2]])
    edges = np.sort(edges.astype(np.float32))
    edges = edges[np.isfinite(edges)]
    near = edges.view(np.uint32).astype(np.int64)
    bits = np.unique(np.clip(np.concatenate([near - 1, near, near + 1]), 0, 0x7F800000)).astype(np.uint32)
    bits = np.concatenate([bits, np.arange(1 << 17, dtype=np.uint32) * np.uint32(16411) & np.uint32(0x7FFFFFFF),
                           np.array([0x7F800000, 0x7FC00000, 0x7F7FFFFF], dtype=np.uint32)])
    if name == "e8m0":  # PyTorch rounds what lies between 2^-127 and 1.5 * 2^-127 up; the nearest power is below
        bits = bits[(bits <= 0x00400000) | (bits >= 0x00600000)]
    return np.concatenate([bits, bits | np.uint32(0x80000000)])


def encode(name, mode):
    bits, torch_type, ml_type = FORMATS[name]
    x = encode_inputs(name).view(np.float32)
    largest = np.float32(np.nanmax(np.where(np.isfinite(decode(name)), decode(name), 0)))
    if mode == "saturate":
        x = np.where(np.isnan(x), x, np.clip(x, -largest, largest))
    if torch_type is not None and not (name == "f8_e4m3" and mode == "special"):  # PyTorch's E4M3 saturates
        t = torch.from_numpy(x.copy()).to(torch_type)
        codes = t.view(torch.int16 if bits == 16 else torch.uint8).numpy()
        codes = codes.view(np.uint16 if bits == 16 else np.uint8)
    else:
        with np.errstate(invalid="ignore"):
            codes = x.astype(ml_type).view(np.uint8)
    codes = codes.astype(np.uint64)
    nan = np.isnan(x)
    codes[nan] = 0xFFFFFFFF  # which NaN is not compared
    return digest(codes)


def main():
    for name, (bits, torch_type, ml_type) in FORMATS.items():
        print(f"decode {name} {digest(float_bits(decode(name))):016x}")
        print(f"inputs {name} {digest(encode_inputs(name)):016x}")
        for mode in ("saturate", "special"):
            print(f"encode {name} {mode} {encode(name, mode):016x}")
        i = torch.finfo(torch_type) if torch_type is not None else ml_dtypes.finfo(ml_type)
        least = float(ml_dtypes.finfo(ml_type).smallest_subnormal) if ml_type is not None else 2.0**-24
        print(f"limits {name} {i.bits} {float(i.max)!r} {float(i.min)!r} {float(i.eps)!r} {float(i.tiny)!r} {least!r} "
              f"{float(i.resolution)!r}")
    for name, t in (("f32", torch.float32), ("f64", torch.float64)):
        i = torch.finfo(t)
        least = float(np.finfo(np.float32 if name == "f32" else np.float64).smallest_subnormal)
        print(f"limits {name} {i.bits} {i.max!r} {i.min!r} {i.eps!r} {i.tiny!r} {least!r} {i.resolution!r}")
    for name, t in (("i8", torch.int8), ("u8", torch.uint8), ("i16", torch.int16), ("i32", torch.int32), ("i64", torch.int64),
                    ("u16", torch.uint16), ("u32", torch.uint32), ("u64", torch.uint64)):
        i = torch.iinfo(t)
        print(f"integer {name} {i.bits} {i.min} {i.max}")
    for name, t in (("i4", ml_dtypes.int4), ("u4", ml_dtypes.uint4)):
        i = ml_dtypes.iinfo(t)
        print(f"integer {name} {i.bits} {int(i.min)} {int(i.max)}")


main()
