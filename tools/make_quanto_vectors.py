#!/usr/bin/env python3
"""What optimum-quanto makes of a tiny checkpoint's linear layers, and the logits it then computes.

usage: make_quanto_vectors.py CHECKPOINT OUT_DIR     (needs torch, transformers, optimum-quanto, safetensors; CPU)

OUT_DIR/int8.safetensors, int4.safetensors: the quantized layers' tensors as quanto names them, input_ids [tokens], logits [tokens, vocabulary]
"""
import os, sys
import torch
from optimum.quanto import freeze, qint4, qint8, quantize
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

source, out = sys.argv[1:3]
os.makedirs(out, exist_ok=True)
ids = torch.arange(5, 5 + 24 * 19, 19, dtype=torch.int32)
for name, weights in (("int8", qint8), ("int4", qint4)):
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
    quantize(model, weights=weights, exclude="lm_head")
    freeze(model)
    kept = {k: v.contiguous().clone() for k, v in model.state_dict().items() if "weight._" in k or k.endswith("put_scale")}
    with torch.no_grad():
        kept["logits"] = model(input_ids=ids[None].long()).logits[0].contiguous()
    kept["input_ids"] = ids
    save_file(kept, os.path.join(out, name + ".safetensors"))
