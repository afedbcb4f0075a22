#!/usr/bin/env python3
"""Writes what the tests of `nibble lab` compare with: answers of numpy and ml_dtypes (and PyTorch for linear quantization).

usage: tools/make_lab_vectors.py OUT_DIR      (tests/data/lab)
"""
import json
import sys

import ml_dtypes
import numpy as np
import torch

FORMATS = {
    "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f8_e4m3": ml_dtypes.float8_e4m3fn,
    "f8_e5m2": ml_dtypes.float8_e5m2, "f6_e2m3": ml_dtypes.float6_e2m3fn, "f6_e3m2": ml_dtypes.float6_e3m2fn,
    "f4_e2m1": ml_dtypes.float4_e2m1fn,
}
VALUES = ["0.1", "-3.14159", "70000", "1e-6", "-5e-8", "448", "0.3", "1", "0", "6.1e-5", "-65519", "1e-45"]


def plain(x):
    x = float(x)
    return x if np.isfinite(x) else None


def kind(x, value, info):
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else "infinite"
    if info.bits < 8 and abs(x) > float(info.max):  # no infinity, no NaN
        return "clipped"
    if value == 0:
        return "zero"
    return "subnormal" if abs(value) < float(info.smallest_normal) else "normal"


def code_numbers(dtype, bits):
    if bits > 16:
        return None
    codes = np.arange(1 << bits, dtype=np.uint16 if bits == 16 else np.uint8)
    with np.errstate(invalid="ignore"):
        values = codes.view(dtype).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


def one(text, name, dtype):
    info = ml_dtypes.finfo(dtype)
    x = float(text)
    with np.errstate(over="ignore"):
        value = float(np.float64(x).astype(dtype))
    all_numbers = code_numbers(dtype, info.bits)
    if not np.isfinite(value):
        below = above = None
    elif all_numbers is not None:
        at = int(np.searchsorted(all_numbers, value))
        below = float(all_numbers[at - 1]) if at > 0 else None
        above = float(all_numbers[at + 1]) if at + 1 < len(all_numbers) else None
    else:
        below = plain(np.nextafter(np.float32(value), np.float32(-np.inf)))
        above = plain(np.nextafter(np.float32(value), np.float32(np.inf)))
    return {"format": name, "stored": plain(value), "kind": kind(x, value, info), "below": below, "above": above}


def finfo(name, dtype):
    i = ml_dtypes.finfo(dtype)
    return {"format": name, "bits": int(i.bits), "exponent_bits": int(i.nexp), "fraction_bits": int(i.nmant), "max": float(i.max),
            "least_normal": float(i.smallest_normal), "least": float(i.smallest_subnormal), "epsilon": float(i.eps)}


def limits(bits):
    return -2 ** (bits - 1), 2 ** (bits - 1) - 1


def linear(x, bits, form):
    """The formulas of the lecture in PyTorch, float32."""
    low, high = limits(bits)
    if form == "affine":
        scale = (x.max() - x.min()) / (high - low)
        zero = torch.clamp(torch.round(low - x.min() / scale), low, high)
    else:
        scale, zero = x.abs().max() / high, torch.tensor(0.0)
    codes = torch.clamp(torch.round(x / scale + zero), low, high)
    back = scale * (codes - zero)
    return {"bits": bits, "form": form, "scale": float(scale), "zero_point": int(zero), "codes": codes.int().tolist(),
            "mean_square_error": float((back.double() - x.double()).square().mean()),
            "largest_error": float((back.double() - x.double()).abs().max())}


MATRICES = ["191.6 -13.5 728.6; 92.14 295.5 -184; 0 684.6 245.5", "0.23 0.03 0.1 0.3; 0.27 0.61 0.7 0.02; 0.79 0.23 0.03 0.28",
            "-1.5 -2.25 -0.75; -3 -1 -2"]


def linear_cases(text):
    x = torch.tensor([[float(v) for v in row.split()] for row in text.split(";")], dtype=torch.float32)
    return [linear(x, bits, form) for bits in (8, 4, 2) for form in ("symmetric", "affine")]


def main():
    out = sys.argv[1]
    with open(f"{out}/linear.json", "w") as f:
        json.dump({m: linear_cases(m) for m in MATRICES}, f, indent=0)
        f.write("\n")
    result = {"values": {v: [one(v, n, d) for n, d in FORMATS.items()] for v in VALUES},
              "finfo": [finfo(n, d) for n, d in FORMATS.items()]}
    with open(f"{out}/dtypes.json", "w") as f:
        json.dump(result, f, indent=0)
        f.write("\n")


main()
