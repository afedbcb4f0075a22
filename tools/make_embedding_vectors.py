#!/usr/bin/env python3
"""Writes tests/data/embed/minilm.json: what all-MiniLM-L6-v2 makes of some texts in float32.

usage: make_embedding_vectors.py CHECKPOINT OUT

Each text goes through the model alone, without padding; the mean of the last hidden states is scaled to length 1, as the
checkpoint's modules.json says. `ids` are the tokenizer's, special tokens included. The long text has nearly as many tokens as
the model has positions.

Needs transformers and torch.
"""
import json
import os
import sys

import torch
from transformers import AutoModel, AutoTokenizer

TEXTS = [
    "Hello world",
    "The quick brown fox jumps over the lazy dog.",
    "",
    "Embeddings of different lengths share one step without padding between them.",
    "Ünïcödé, 数字 и кириллица: naïve café!",
    "A package is a file that holds other files, and says what it needs. " * 31,
    "x",
]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModel.from_pretrained(sys.argv[1], dtype=torch.float32, attn_implementation="eager").eval()
    cases = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state[0]
        vector = torch.nn.functional.normalize(hidden.mean(0), dim=0)
        cases.append({"text": text, "ids": inputs["input_ids"][0].tolist(),
                      "embedding": [float(f"{x:.9g}") for x in vector.tolist()]})
    os.makedirs(sys.argv[2], exist_ok=True)
    with open(os.path.join(sys.argv[2], "minilm.json"), "w", encoding="utf-8") as f:
        lines = (json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
        f.write("[\n" + ",\n".join(lines) + "\n]\n")
    print(*(len(case["ids"]) for case in cases))


main()
