#!/usr/bin/env python3
"""Writes tests/data/attention/layers.txt: the three attention classes of the lecture (Attention, MultiHeadAttention,
MultiHeadedAttention) with seeded weights, for tests/attention/test_layer.c.

    python3 tools/make_attention_layer_vectors.py > tests/data/attention/layers.txt      (needs torch)

A case is a line of numbers (kind heads d_model input_dim proj_values batch length queries masked), then, each on a line: the
projections' weights and biases (query, key, value of each set, then out where there is one), keys, queries, the mask if any, the
output, the alphas.
"""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Attention(nn.Module):
    def __init__(self, hidden_dim, input_dim=None, proj_values=False):
        super().__init__()
        self.d_k = hidden_dim
        self.input_dim = hidden_dim if input_dim is None else input_dim
        self.proj_values = proj_values
        self.linear_query = nn.Linear(self.input_dim, hidden_dim)
        self.linear_key = nn.Linear(self.input_dim, hidden_dim)
        self.linear_value = nn.Linear(self.input_dim, hidden_dim)
        self.alphas = None

    def init_keys(self, keys):
        self.keys = keys
        self.proj_keys = self.linear_key(self.keys)
        self.values = self.linear_value(self.keys) if self.proj_values else self.keys

    def score_function(self, query):
        dot_products = torch.bmm(self.linear_query(query), self.proj_keys.permute(0, 2, 1))
        return dot_products / np.sqrt(self.d_k)

    def forward(self, query, mask=None):
        scores = self.score_function(query)
        if mask is not None:
            scores = scores.masked_fill(mask == 0, -1e9)
        alphas = F.softmax(scores, dim=-1)
        self.alphas = alphas.detach()
        return torch.bmm(alphas, self.values)


class MultiHeadAttention(nn.Module):
    def __init__(self, n_heads, d_model, input_dim=None, proj_values=True):
        super().__init__()
        self.linear_out = nn.Linear(n_heads * d_model, d_model)
        self.attn_heads = nn.ModuleList(
            [Attention(d_model, input_dim=input_dim, proj_values=proj_values) for _ in range(n_heads)])

    def init_keys(self, key):
        for attn in self.attn_heads:
            attn.init_keys(key)

    @property
    def alphas(self):
        return torch.stack([attn.alphas for attn in self.attn_heads], dim=0)

    def forward(self, query, mask=None):
        return self.linear_out(torch.cat([attn(query, mask=mask) for attn in self.attn_heads], axis=-1))


class MultiHeadedAttention(nn.Module):
    def __init__(self, n_heads, d_model, dropout=0.1):
        super().__init__()
        self.n_heads = n_heads
        self.d_model = d_model
        self.d_k = int(d_model / n_heads)
        self.linear_query = nn.Linear(d_model, d_model)
        self.linear_key = nn.Linear(d_model, d_model)
        self.linear_value = nn.Linear(d_model, d_model)
        self.linear_out = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(p=dropout)
        self.alphas = None

    def make_chunks(self, x):
        return x.view(x.size(0), x.size(1), self.n_heads, self.d_k).transpose(1, 2)

    def init_keys(self, key):
        self.proj_key = self.make_chunks(self.linear_key(key))
        self.proj_value = self.make_chunks(self.linear_value(key))

    def forward(self, query, mask=None):
        if mask is not None:
            mask = mask.unsqueeze(1)
        proj_query = self.make_chunks(self.linear_query(query))
        scores = torch.matmul(proj_query, self.proj_key.transpose(-2, -1)) / np.sqrt(self.d_k)
        if mask is not None:
            scores = scores.masked_fill(mask == 0, -1e9)
        alphas = self.dropout(F.softmax(scores, dim=-1))
        self.alphas = alphas.detach()
        context = torch.matmul(alphas, self.proj_value).transpose(1, 2).contiguous()
        return self.linear_out(context.view(query.size(0), -1, self.d_model))


CASES = [
    # kind, heads, d_model, input_dim, proj_values, batch, length, queries, masked
    (0, 1, 4, 4, 0, 1, 2, 1, 0), (0, 1, 6, 4, 0, 2, 5, 1, 1), (0, 1, 6, 4, 1, 2, 3, 4, 1), (0, 1, 33, 17, 1, 1, 70, 3, 0),
    (1, 2, 4, 4, 1, 1, 3, 1, 0), (1, 3, 6, 4, 1, 2, 5, 1, 1), (1, 2, 5, 5, 0, 2, 4, 3, 1), (1, 3, 7, 7, 0, 1, 6, 2, 0),
    (2, 2, 8, 8, 1, 1, 4, 4, 0), (2, 4, 16, 16, 1, 2, 6, 6, 1), (2, 1, 6, 6, 1, 3, 5, 2, 1), (2, 3, 24, 24, 1, 1, 67, 9, 1),
]


def line(x):
    print(" ".join(f"{float(y):.9g}" for y in np.ravel(x.detach().numpy())))


def linear(layer):
    line(layer.weight)
    line(layer.bias)


def main():
    torch.manual_seed(13)
    for case in CASES:
        kind, heads, d_model, input_dim, proj_values, batch, length, queries, masked = case
        if kind == 0:
            net = Attention(d_model, input_dim, bool(proj_values))
        elif kind == 1:
            net = MultiHeadAttention(heads, d_model, input_dim, bool(proj_values))
        else:
            net = MultiHeadedAttention(heads, d_model)
        net.eval()
        keys, query = torch.randn(batch, length, input_dim), torch.randn(batch, queries, input_dim)
        mask = (torch.rand(batch, queries, length) < 0.6).int() if masked else None
        if masked:
            mask[0, 0] = 0  # a row that is hidden whole: uniform alphas
        print(*case)
        for part in net.attn_heads if kind == 1 else [net]:
            for layer in (part.linear_query, part.linear_key, part.linear_value):
                linear(layer)
        if kind:
            linear(net.linear_out)
        line(keys)
        line(query)
        if masked:
            line(mask)
        net.init_keys(keys)
        line(net(query, mask))
        line(net.alphas)


main()
