#!/usr/bin/env python3
"""Writes tests/data/attention/bias.txt: what scores gain by distance, by PyTorch and transformers, for tests/attention.

    python3 tools/make_bias_vectors.py > tests/data/attention/bias.txt

First ALiBi's slopes: a line "heads most", then the slopes, as Bloom's and MPT's code in transformers makes them (which agree).
After a line "0 0" cases: "kind heads kv_heads k_dim v_dim queries position positions scale softcap window causal reach", then q,
k, v, the bias's own numbers (slopes, or a table of each head), and the output, each on a line. kind 0: ALiBi, the bias from
Bloom's build_alibi_tensor (both sides: -slope |i - j|, as JinaBERT has it); 1: Falcon's, in BF16; 2: MPNet's
compute_position_bias, as a table by distance. Scores, softmax and output are in float64.
"""
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.falcon.modeling_falcon import build_alibi_tensor as build_rounded
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

ALIBI, ROUNDED, TABLE = range(3)
CASES = [
    # kind, heads, kv_heads, k_dim, v_dim, queries, position, positions, softcap, window, causal
    (ALIBI, 8, 8, 8, 8, 4, 0, 4, 0, 0, 1),
    (ALIBI, 6, 2, 8, 4, 3, 97, 100, 0, 0, 1),
    (ALIBI, 12, 4, 3, 4, 3, 60, 140, 0, 0, 0),
    (ALIBI, 3, 1, 4, 2, 2, 600, 602, 2.5, 0, 1),
    (ALIBI, 2, 2, 4, 4, 5, 90, 95, 0, 30, 1),
    (ROUNDED, 16, 4, 4, 4, 3, 77, 80, 0, 0, 1),
    (ROUNDED, 12, 1, 3, 3, 2, 700, 702, 0, 0, 1),
    (TABLE, 4, 2, 4, 2, 6, 0, 300, 0, 0, 0),
    (TABLE, 5, 5, 3, 2, 70, 20, 90, 0, 0, 0),
    (TABLE, 3, 1, 6, 6, 4, 150, 154, 0, 0, 1),
]
REACH = 128


def slopes_of(heads):
    return build_alibi_tensor(torch.ones(1, 2, dtype=torch.long), heads, torch.float32)[:, 0, 1]


def table_of(heads, generator):
    """by distance -REACH .. REACH: the first and the last hold beyond"""
    embedding = torch.nn.Embedding.from_pretrained(torch.round(64 * torch.randn(32, heads, generator=generator)) / 64)
    distance = torch.arange(-REACH, REACH + 1)
    buckets = MPNetEncoder.relative_position_bucket(distance, num_buckets=32)
    far = MPNetEncoder.relative_position_bucket(torch.tensor([-5000, 5000]), num_buckets=32)
    assert far[0] == buckets[0] and far[1] == buckets[-1]
    return embedding(buckets).T.contiguous()


def bias_of(kind, heads, i, j, scale, generator):
    if kind == TABLE:
        table = table_of(heads, generator)
        return table, table[:, (j[None] - i[:, None]).clamp(-REACH, REACH) + REACH].double()
    ones = torch.ones(1, len(j), dtype=torch.long)
    if kind == ROUNDED:
        return slopes_of(heads).bfloat16().float(), build_rounded(ones, heads, torch.float32).double() * scale
    return slopes_of(heads), -slopes_of(heads).double()[:, None, None] * (i[:, None] - j[None]).abs().double()


def line(x):
    print(" ".join(f"{float(y):.9g}" for y in torch.as_tensor(x).flatten()))


def case(kind, heads, kv_heads, k_dim, v_dim, queries, position, positions, softcap, window, causal, generator):
    q, k, v = (torch.round(8 * torch.randn(*shape, generator=generator)) / 8 for shape in
               ((queries, heads, k_dim), (positions, kv_heads, k_dim), (positions, kv_heads, v_dim)))
    scale = float(torch.tensor(k_dim ** -0.5, dtype=torch.float32))
    i, j = position + torch.arange(queries), torch.arange(positions)
    numbers, bias = bias_of(kind, heads, i, j, scale, generator)
    wide = [x.double().repeat_interleave(heads // x.shape[1], dim=1) for x in (k, v)]
    s = torch.einsum("ihd,jhd->hij", q.double(), wide[0]) * scale
    s = (softcap * torch.tanh(s / softcap) if softcap else s) + bias
    seen = (j[None] <= i[:, None]) if causal else torch.ones(queries, positions, dtype=torch.bool)
    if window:
        seen &= (i[:, None] - j[None]).abs() < window
    p = s.masked_fill(~seen, -torch.inf).softmax(-1)
    line([kind, heads, kv_heads, k_dim, v_dim, queries, position, positions, scale, softcap, window, causal,
          REACH if kind == TABLE else 0])
    for x in (q, k, v, numbers, torch.einsum("hij,jhd->ihd", p, wide[1])):
        line(x)


def main():
    for heads in list(range(1, 21)) + [32, 40, 64, 71, 112]:
        slopes = slopes_of(heads)
        other = -build_mpt_alibi_tensor(heads, 2)[:, 0, 0]
        assert torch.allclose(slopes, other, rtol=1e-6, atol=0), heads
        print(heads, 8)
        line(slopes)
    for heads in (4, 12):
        print(heads, 16)
        line(-build_mpt_alibi_tensor(heads, 2, alibi_bias_max=16)[:, 0, 0])
    print(0, 0)
    generator = torch.Generator().manual_seed(11)
    for numbers in CASES:
        case(*numbers, generator)


main()
