#!/usr/bin/env python3
"""Checkpoints as torch and safetensors save them, for tests/format: tests/data/format/{dtypes.safetensors, dtypes.bin, views.bin,
nested.bin, protocol*.bin} and, as .f32.safetensors, the values that torch reads from them, as float32.
Needs torch and safetensors. Usage: make_checkpoint_vectors.py [DIRECTORY]"""
import os
import sys
from collections import OrderedDict

import torch
from safetensors.torch import save_file
from test_digest import seeded_bytes

OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../tests/data/format")
TORCH = {"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16, "I16": torch.int16,
         "U32": torch.uint32, "I32": torch.int32, "U64": torch.uint64, "I64": torch.int64,
         "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
         "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


def seeded(seed, n):
    return torch.from_numpy(seeded_bytes(seed, n))


def values(name, dtype, seed):
    if dtype == torch.bool:
        return (seeded(seed, 64) & 1).to(torch.bool)
    if name.startswith("F8"):
        return torch.arange(256, dtype=torch.uint8).view(dtype)
    if dtype == torch.float64:  # halfway cases of the rounding to float32 too
        x = torch.from_numpy(seeded_bytes(seed, 400).view("<f4").copy()).nan_to_num(1.5).double()
        return torch.cat([x, x * (1 + 2.0**-24), x * (1 + 3 * 2.0**-24), torch.tensor([1e300, -1e-310, float("inf"), float("nan")]).double()])
    return seeded(seed, 64 * dtype.itemsize).view(dtype)


def plain():
    t = OrderedDict()
    for i, (name, dtype) in enumerate(TORCH.items()):
        t["dtype." + name] = values(name, dtype, i + 1)
    t["scalar"] = torch.tensor(0.25)
    t["empty"] = torch.zeros(0, 3)
    t["odd"] = torch.tensor([1, 2, 3], dtype=torch.uint8)  # what follows it need not be aligned
    t["matrix"] = torch.arange(35, dtype=torch.float32).reshape(5, 7) / 8
    t["deep"] = torch.arange(256, dtype=torch.int16).reshape(2, 2, 2, 2, 2, 2, 2, 2)
    return t


def views():
    base = torch.arange(5 * 6 * 7, dtype=torch.float32).reshape(5, 6, 7) / 4
    half = base.half()
    embedding = torch.nn.Parameter(torch.arange(24, dtype=torch.float32).reshape(6, 4).bfloat16())
    return OrderedDict([
        ("tied.a", embedding), ("tied.b", embedding),
        ("transposed", base[0].t()), ("permuted", half.permute(2, 0, 1)), ("sliced", base[1:4, ::2, 1:6:3]),
        ("row", base[2, 3]), ("column", half[:, 1, 2]), ("expanded", base[0, 0, :3].expand(4, 3)), ("whole", base),
        ("long", torch.arange(3000, dtype=torch.int32).reshape(1500, 2).t()),
        ("parameter", torch.nn.Parameter(base[3].clone())), ("buffer", torch.tensor(7)),
    ])


def save_expected(name, tensors):
    save_file({k: v.detach().to(torch.float32).contiguous().clone() for k, v in tensors.items()},
              os.path.join(OUT, name + ".f32.safetensors"))


def main():
    t = plain()
    save_file(t, os.path.join(OUT, "dtypes.safetensors"), metadata={"format": "pt", "made by": "caf\u00e9 \"torch\""})
    save_expected("dtypes", t)
    torch.save(t, os.path.join(OUT, "dtypes.bin"))
    v = views()
    torch.save(v, os.path.join(OUT, "views.bin"))
    save_expected("views", v)
    small = OrderedDict([("a.weight", torch.arange(6.0).reshape(2, 3)), ("a.bias", torch.arange(2.0).half())])
    save_expected("small", small)
    save_file({k: v.float() for k, v in small.items()}, os.path.join(OUT, "pt.safetensors"), metadata={"format": "pt"})
    for protocol in (2, 3, 4):
        torch.save(small, os.path.join(OUT, f"protocol{protocol}.bin"), pickle_protocol=protocol)
    model = torch.nn.Module()
    model.a = torch.nn.Linear(3, 2)
    model.a.weight.data = small["a.weight"]
    model.a.bias.data = small["a.bias"]
    torch.save({"epoch": 3, "loss": 0.5, "best": None, "done": False, "name": "x", "shape": (2, 3), "big": 1 << 70,
                "config": {"lr": 1e-3, "betas": [0.9, 0.999], "order": {"b", "a"}},
                "state_dict": model.state_dict(),  # with its _metadata attribute
                "optimizer": {"state": {0: {"exp_avg": torch.ones(2, 3)}}}}, os.path.join(OUT, "nested.bin"))
    torch.save(small, os.path.join(OUT, "legacy.bin"), _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
