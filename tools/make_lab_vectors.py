#!/usr/bin/env python3
"""Writes what the tests of `nibble lab` compare with: answers of numpy, ml_dtypes, PyTorch, bitsandbytes and gguf-py.

usage: tools/make_lab_vectors.py OUT_DIR      (tests/data/lab)
"""
import json
import sys

import ml_dtypes
import numpy as np
import torch
from bitsandbytes import functional as bnb
from gguf import GGUFReader, GGMLQuantizationType
from gguf.quants import dequantize, quantize

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


def relative(x, back):
    return float(np.sqrt(np.square(back.astype(np.float64) - x).sum() / np.square(x.astype(np.float64)).sum()))


def bnb_4bit(x, kind, nested):
    # one long row: its CPU kernel takes wrong scales where blocks cross rows
    q, state = bnb.quantize_4bit(torch.from_numpy(x.reshape(1, -1)), blocksize=64, quant_type=kind, compress_statistics=nested)
    return bnb.dequantize_4bit(q, state).numpy().reshape(x.shape), q.numpy().ravel()


def quant(path, tensor):
    """One matrix by bitsandbytes, gguf-py and numpy."""
    x = next(t for t in GGUFReader(path).tensors if t.name == tensor).data.astype(np.float32)
    nf4, codes = bnb_4bit(x, "nf4", False)
    values = np.linalg.svd(x.astype(np.float64), compute_uv=False)
    errors = np.linalg.svd(nf4.astype(np.float64) - x, compute_uv=False)
    unpacked = np.stack([codes >> 4, codes & 15], axis=1).ravel()
    result = {"rows": x.shape[0], "columns": x.shape[1], "errors": {
        "NF4": relative(x, nf4), "FP4": relative(x, bnb_4bit(x, "fp4", False)[0]),
        "NF4 nested": relative(x, bnb_4bit(x, "nf4", True)[0]),
        "F16": 0.0, "BF16": relative(x, x.astype(ml_dtypes.bfloat16).astype(np.float32))}}
    codes8, scale, _ = bnb.int8_vectorwise_quant(torch.from_numpy(x).half())
    result["errors"]["LLM.int8()"] = relative(x, codes8.float().numpy() * scale.float().numpy()[:, None] / 127)
    for name in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        kind = GGMLQuantizationType[name]
        result["errors"][name] = relative(x, dequantize(quantize(x, kind), kind))
    result["weights"] = [float(values[i]) for i in (0, len(values) // 2, -1)]
    result["nf4_error"] = [float(errors[i]) for i in (0, len(errors) // 2, -1)]
    result["nf4_used"] = [float(v) for v in np.bincount(unpacked, minlength=16) / unpacked.size]
    result["nf4_map"] = bnb.get_4bit_type("nf4", device="cpu").tolist()
    return result


def attention():
    """Head #0 of the lecture in PyTorch, with the masks that the topic draws."""
    q = torch.tensor([[0.23, 0.03], [0.27, 0.61], [0.79, 0.23], [0.11, 0.1], [0.07, 0.01]])
    k = torch.tensor([[0.08, 0.41], [0.7, 0.77], [0.77, 0.29], [0.94, 0.36], [0.76, 1.0]])
    scores = q @ k.T / np.sqrt(2)
    i, j = torch.arange(5)[:, None], torch.arange(5)[None, :]
    masks = {"alphas": i >= 0 * j, "causal": j <= i, "window": (j <= i) & (i - j < 2), "sink": (j <= i) & ((i - j < 2) | (j == 0)),
             "padding": (j < 3) & (i >= 0)}
    return {"scores": scores.tolist(),
            **{n: torch.softmax(scores.masked_fill(~m, -1e9), dim=-1).tolist() for n, m in masks.items()}}


def main():
    out = sys.argv[1]
    with open(f"{out}/attention.json", "w") as f:
        json.dump(attention(), f, indent=0)
        f.write("\n")
    with open(f"{out}/quant.json", "w") as f:
        json.dump(quant(f"{out}/../types/F16.gguf", "blk.1.ffn_down.weight"), f, indent=0)
        f.write("\n")
    with open(f"{out}/linear.json", "w") as f:
        json.dump({m: linear_cases(m) for m in MATRICES}, f, indent=0)
        f.write("\n")
    result = {"values": {v: [one(v, n, d) for n, d in FORMATS.items()] for v in VALUES},
              "finfo": [finfo(n, d) for n, d in FORMATS.items()]}
    with open(f"{out}/dtypes.json", "w") as f:
        json.dump(result, f, indent=0)
        f.write("\n")


main()
