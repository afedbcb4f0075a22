#!/usr/bin/env python3
"""Writes tests/data/rope/rope.json: frequencies and magnitudes of rotary embeddings in float64.

usage: make_rope_vectors.py           (needs numpy; tests/engine/test_rope.c reads the file)

The formulas are those of the papers, with the defaults that transformers documents for rope_scaling: linear (Chen et al.
2023), llama3 (the Llama 3.1 release), yarn (Peng et al. 2023), longrope (Ding et al. 2024). "keys" are what a converted
GGUF file of such a model holds after "llama.rope."; cases without it are of settings that GGUF says by tensors.
"""
import json
import math
import os

import numpy as np

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "rope", "rope.json")


def default(dim, base):
    return base ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)


def linear(dim, base, factor):
    return default(dim, base) / factor


def llama3(dim, base, factor, low_freq, high_freq, original):
    out = []
    for f in default(dim, base):
        turns = original * f / (2 * math.pi)  # in the original context
        if turns < low_freq:
            out.append(f / factor)
        elif turns > high_freq:
            out.append(f)
        else:
            keep = (turns - low_freq) / (high_freq - low_freq)
            out.append((1 - keep) * f / factor + keep * f)
    return np.array(out)


def yarn(dim, base, factor, original, beta_fast=32.0, beta_slow=1.0):
    def dimension(turns):
        return dim * math.log(original / (2 * math.pi * turns)) / (2 * math.log(base))

    low = max(math.floor(dimension(beta_fast)), 0)
    high = min(math.ceil(dimension(beta_slow)), dim - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low), 0, 1)
    extrapolated = default(dim, base)
    return extrapolated / factor * ramp + extrapolated * (1 - ramp)


def yarn_magnitude(factor):
    return 0.1 * math.log(factor) + 1 if factor > 1 else 1.0


def longrope_magnitude(factor, original):
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


def case(name, dim, base, frequencies, magnitude, context=512, keys=None, **rope):
    return {"name": name, "dim": dim, "base": base, "context": context, "rope": rope, "keys": keys,
            "frequencies": [float(f) for f in frequencies], "magnitude": float(magnitude)}


def cases():
    yield case("none", 16, 1e4, default(16, 1e4), 1, keys={})
    yield case("none, wide", 128, 5e5, default(128, 5e5), 1, scaling="none")
    yield case("type none with a factor", 16, 1e4, default(16, 1e4), 1,
               keys={"scaling.type": "none", "scaling.factor": 4.0})
    for keys in ({"scaling.type": "linear", "scaling.factor": 4.0}, {"scaling.factor": 4.0}, {"scale_linear": 4.0},
                 {"scaling.type": "linear", "scale_linear": 4.0}):
        yield case("linear: " + ", ".join(keys), 16, 1e4, linear(16, 1e4, 4), 1, keys=keys)
    yield case("linear with attn_factor", 16, 1e4, linear(16, 1e4, 2), 1.25,
               keys={"scaling.type": "linear", "scaling.factor": 2.0, "scaling.attn_factor": 1.25})
    for dim, base, factor, original in ((128, 5e5, 8.0, 8192.0), (64, 5e5, 32.0, 8192.0), (16, 1e4, 4.0, 64.0)):
        yield case(f"llama3 {dim}", dim, base, llama3(dim, base, factor, 1, 4, original), 1, context=131072, scaling="llama3",
                   factor=factor, low_freq=1.0, high_freq=4.0, original_context=original)
    for dim, base, factor, original in ((128, 1e6, 4.0, 32768.0), (64, 1e4, 16.0, 4096.0), (16, 1e4, 4.0, 128.0), (16, 1e4, 8.0, 64.0),
                                        (80, 1e4, 2.0, 2048.0)):
        yield case(f"yarn {dim}, {factor:g}", dim, base, yarn(dim, base, factor, original), yarn_magnitude(factor), scaling="yarn",
                   factor=factor, original_context=original, beta_fast=32.0, beta_slow=1.0)
    yarn_keys = {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.original_context_length": 128}
    yield case("yarn keys", 16, 1e4, yarn(16, 1e4, 4, 128), yarn_magnitude(4), keys=yarn_keys)
    yield case("yarn, the context is the original one", 16, 1e4, yarn(16, 1e4, 4, 512), yarn_magnitude(4),
               keys={"scaling.type": "yarn", "scaling.factor": 4.0})
    yield case("yarn with betas", 16, 1e4, yarn(16, 1e4, 4, 128, 16, 2), yarn_magnitude(4),
               keys={**yarn_keys, "scaling.yarn_beta_fast": 16.0, "scaling.yarn_beta_slow": 2.0})
    yield case("yarn with attn_factor", 16, 1e4, yarn(16, 1e4, 4, 128), yarn_magnitude(4) * 1.25,
               keys={**yarn_keys, "scaling.attn_factor": 1.25})
    yield case("yarn with an attention factor of its own", 16, 1e4, yarn(16, 1e4, 4, 128), 0.75,
               keys={**yarn_keys, "scaling.yarn_attn_factor": 0.75})
    short, long = [1 + 0.05 * i for i in range(48)], [1 + 0.9 * i for i in range(48)]
    for context, factors in ((4096, short), (4097, long), (131072, long)):
        yield case(f"longrope in {context}", 96, 1e4, default(96, 1e4) / np.array(factors), longrope_magnitude(32, 4096), context=context,
                   scaling="longrope", factor=32.0, original_context=4096.0, short=short, long=long)


os.makedirs(os.path.dirname(OUT), exist_ok=True)
with open(OUT, "w", encoding="utf-8") as f:
    f.write("[\n" + ",\n".join(json.dumps(c) for c in cases()) + "\n]\n")
