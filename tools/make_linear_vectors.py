#!/usr/bin/env python3
"""Linear quantization by optimum-quanto and by the textbook formulas in PyTorch.

usage: tools/make_linear_vectors.py > tests/data/quant/linear.safetensors    (needs torch, optimum-quanto, safetensors)

x [16][128], input [5][128], bias [16]; for each case CODE.FORM.AXIS.GROUP (group 0: none):
  .codes (one a byte), .scale, .offset (where the form has one), .dequant
  .a32 .a16 .abf16 (float64 products, rounded once), and for int8 symmetric rows .a8_static .a8_dynamic
calibrate: ranges of the sample `input` by percentile.
"""
import sys

import torch
from optimum.quanto import MaxOptimizer, AbsmaxOptimizer, qfloat8_e4m3fn, qfloat8_e5m2, qint2, qint4, qint8, quantize_weight
from optimum.quanto.tensor.grouped import ungroup
from safetensors.torch import save

g = torch.Generator().manual_seed(5)
x = torch.randn(16, 128, generator=g)
x[3] *= 100
x[5, 7] = 12.0
x[7] = x[7].abs() + 1  # all positive: no zero in the range
x[:, 9] *= 5
tokens = torch.randn(5, 128, generator=g)
tokens[2, 3] = 9.5
bias = torch.randn(16, generator=g)
out = {"x": x, "input": tokens, "bias": bias}


def layer(name, weight):
    w = weight.double()
    for kind, t in (("a32", tokens), ("a16", tokens.half().float()), ("abf16", tokens.bfloat16().float())):
        out[f"{name}.{kind}"] = (t.double() @ w.t() + bias.double()).float()


def keep(name, codes, scale, offset, dequant):
    out[name + ".codes"] = codes.contiguous().view(torch.uint8)
    out[name + ".scale"] = scale.reshape(-1).contiguous()
    if offset is not None:
        out[name + ".offset"] = offset.reshape(-1).float().contiguous()
    out[name + ".dequant"] = dequant.contiguous()
    layer(name, dequant)


for label, t in (("int8", qint8), ("f8_e4m3", qfloat8_e4m3fn), ("f8_e5m2", qfloat8_e5m2)):
    for axis_name, axis in (("row", 0), ("column", -1)):
        scale = AbsmaxOptimizer()(x, t, axis=axis)
        q = quantize_weight(x, t, axis=axis, scale=scale, optimized=False)
        keep(f"{label}.symmetric.{axis_name}.0", q._data, scale, None, q.dequantize())
    scale = x.abs().max() / t.qmax
    data = torch.ops.quanto.quantize_symmetric(x, dtype=t.dtype, axis=None, scale=scale)
    keep(f"{label}.symmetric.tensor.0", data, scale, None, scale * data.float())

for label, t in (("int4", qint4), ("int2", qint2)):
    for axis_name, axis, group in (("row", 0, 128), ("row", 0, 32), ("column", -1, 16), ("column", -1, 4)):
        scale, shift = MaxOptimizer()(x, t, axis=axis, group_size=group)
        q = quantize_weight(x, t, axis=axis, scale=scale, shift=shift, group_size=group, optimized=False)
        codes = ungroup(q._data.unpack(), axis, x.shape)
        keep(f"{label}.shift.{axis_name}.{group}", codes, scale, shift, q.dequantize())

for label, bits in (("int8", 8), ("int4", 4), ("int2", 2)):  # affine with an integer zero point, as courses write it
    qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for axis_name, values in (("tensor", x.reshape(1, -1)), ("row", x), ("column", x.t())):
        lo, hi = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
        scale = (hi - lo) / (qmax - qmin)
        zero = torch.clamp(torch.round(qmin - lo.double() / scale.double()), qmin, qmax).float()
        codes = torch.clamp(torch.round(values / scale + zero), qmin, qmax)
        dequant = scale * (codes - zero)
        back = (lambda v: v.reshape(16, 128)) if axis_name != "column" else (lambda v: v.t())
        keep(f"{label}.affine.{axis_name}.0", back(codes).to(torch.int8).contiguous(), scale, zero, back(dequant))

w = out["int8.symmetric.row.0.codes"].view(torch.int8).double()
ws = out["int8.symmetric.row.0.scale"].double()
static = tokens.abs().max() / 127
for kind, s in (("a8_static", static.expand(5, 1)), ("a8_dynamic", tokens.abs().amax(1, keepdim=True) / 127)):
    q = torch.clamp(torch.round(tokens / s), -128, 127).double()
    out["int8.symmetric.row.0." + kind] = ((q @ w.t()) * s.double() * ws + bias.double()).float()
out["static_scale"] = static.reshape(1)
flat = tokens.reshape(-1).double()
out["percentile"] = torch.stack([torch.quantile(flat, 0.005), torch.quantile(flat, 0.995), torch.quantile(flat.abs(), 0.99)]).float()
sys.stdout.buffer.write(save({k: v.contiguous().clone() for k, v in out.items()}))
