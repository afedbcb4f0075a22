#!/usr/bin/env python3
"""Make the LoRA adapters of tests/data/lora and what transformers and peft compute with them in float32.

usage: make_lora_vectors.py CHECKPOINTS OUT [CONVERTER [NAME...]]      (needs torch, transformers, peft, safetensors)

CHECKPOINTS, folders with ':' between, hold the tiny models of tests/data/archs as checkpoints (NAME/config.json ...; most are in
tests/data/hf). Adapters are seeded; their B is not zero, so that each of them changes the logits. OUT gets, for each case below,
or for those that are named:
  NAME-a/, NAME-b/       PEFT directories
  NAME-a.logits.bin      logits with adapter a alone; NAME-ab.logits.bin: with both, a times 0.75 and b times -1.5 (the form is
                         that of tests/data/archs: tests/support/logits_file.h)
  NAME-a.gguf            where adapter a has no patterns: what CONVERTER (llama.cpp's convert_lora_to_gguf.py) makes of it; not
                         of gpt2, whose pairs it transposes with the weights although PEFT does not store them so
"""
import json
import os
import struct
import subprocess
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

TOKENS = 16
SCALES = {"a": 0.75, "b": -1.5}

CASES = {
    "llama-3.2-rope-scaled": {
        "a": dict(r=8, lora_alpha=12, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
                  rank_pattern={"layers.1.mlp.down_proj": 3, ".*k_proj": 16}, alpha_pattern={"q_proj": 5, "layers.2.mlp.*": 2.5}, dtype=torch.bfloat16),
        "b": dict(r=3, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "v_proj"], dtype=torch.bfloat16, bin=True),
    },
    "llama-mqa-wide-head": {
        "a": dict(r=5, lora_alpha=16, target_modules=["q_proj", "k_proj", "down_proj", "lm_head"], dtype=torch.bfloat16),
        "b": dict(r=16, lora_alpha=16, use_rslora=True, target_modules=["k_proj", "o_proj"], dtype=torch.float16),
    },
    "gemma-3": {
        "a": dict(r=16, lora_alpha=8, target_modules=r"model\.layers\.[05]\..*_proj", dtype=torch.float16),
        "b": dict(r=4, lora_alpha=4, target_modules=["gate_proj", "k_proj"], layers_to_transform=[5, 6], dtype=torch.float32),
    },
    "qwen2": {
        "a": dict(r=3, lora_alpha=7, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], dtype=torch.bfloat16),
        "b": dict(r=8, lora_alpha=16, target_modules=["up_proj", "down_proj", "lm_head"], dtype=torch.bfloat16),
    },
    "phi-3-sliding": {
        "a": dict(r=8, lora_alpha=16, target_modules="all-linear", dtype=torch.float16),
        "b": dict(r=3, lora_alpha=3, use_rslora=True, target_modules=["qkv_proj", "gate_up_proj"]),
    },
    "pythia": {
        "a": dict(r=3, lora_alpha=6, target_modules=["query_key_value", "dense_h_to_4h"], dtype=torch.float16),
        "b": dict(r=8, lora_alpha=8, target_modules=["query_key_value"], dtype=torch.float16),
    },
    "falcon-40b": {
        "a": dict(r=4, lora_alpha=6, target_modules=["query_key_value", "dense"], dtype=torch.float16),
        "b": dict(r=3, lora_alpha=8, target_modules=["query_key_value"], dtype=torch.float16),
    },
    "gpt2": {
        "a": dict(r=8, lora_alpha=16, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True, dtype=torch.float16),
        "b": dict(r=3, lora_alpha=6, target_modules=["c_attn"], fan_in_fan_out=True),
    },
    "phi-2-grouped": {
        "a": dict(r=4, lora_alpha=6, target_modules=["q_proj", "k_proj", "v_proj"], dtype=torch.float16),
        "b": dict(r=3, lora_alpha=8, target_modules=["k_proj", "dense", "fc1"], dtype=torch.float16),
    },
    "granite-moe-shared": {
        "a": dict(r=3, lora_alpha=9, target_modules=r".*shared_mlp\.(in|out)put_linear", dtype=torch.float16),
        "b": dict(r=4, lora_alpha=4, target_modules=r".*(q_proj|shared_mlp\.input_linear)", dtype=torch.float16),
    },
}


def make_adapter(base, name, which, config, out):
    config = dict(config)
    dtype, as_bin = config.pop("dtype", torch.float32), config.pop("bin", False)
    torch.manual_seed(sum(map(ord, name + which)))
    model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", **config))
    for key, value in model.named_parameters():
        if ".lora_A." in key:
            value.data = (torch.randn_like(value) / value.shape[1] ** 0.5).to(dtype)
        if ".lora_B." in key:
            value.data = (torch.randn_like(value) * 0.2).to(dtype)
    directory = os.path.join(out, f"{name}-{which}")
    model.save_pretrained(directory, safe_serialization=not as_bin, save_embedding_layers=False)
    os.remove(os.path.join(directory, "README.md"))
    path = os.path.join(directory, "adapter_config.json")
    saved = json.load(open(path))
    saved["base_model_name_or_path"] = name
    json.dump(saved, open(path, "w"), indent=1, sort_keys=True)
    open(path, "a").write("\n")
    return directory


def logits_of(base, directories, scales, ids):
    model = base()
    for which, directory in directories.items():
        if isinstance(model, PeftModel):
            model.load_adapter(directory, which)
        else:
            model = PeftModel.from_pretrained(model, directory, adapter_name=which)
    if directories:
        model.base_model.set_adapter(list(directories))
        for module in model.modules():
            for which in directories:
                if isinstance(getattr(module, "scaling", None), dict) and which in module.scaling:
                    module.scaling[which] *= scales[which]
    with torch.no_grad():
        return model.eval()(ids).logits.float()


def write_logits(path, ids, logits):
    with open(path, "wb") as f:
        f.write(struct.pack("<3i", *logits.shape))
        f.write(ids.to(torch.int32).numpy().tobytes())
        f.write(logits.numpy().tobytes())


def main(checkpoints, out, converter=None, *names):
    os.makedirs(out, exist_ok=True)
    for name in names or CASES:
        adapters = CASES[name]
        path = next(p for p in (os.path.join(c, name) for c in checkpoints.split(":")) if os.path.exists(p))

        def base():
            return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").float()

        directories = {which: make_adapter(base, name, which, config, out) for which, config in adapters.items()}
        vocabulary = base().config.vocab_size
        torch.manual_seed(1)
        ids = torch.randint(3, vocabulary, (1, TOKENS))
        plain = logits_of(base, {}, {}, ids)
        for file, which, scales in (("a", ["a"], {"a": 1}), ("ab", ["a", "b"], SCALES)):
            logits = logits_of(base, {w: directories[w] for w in which}, scales, ids)
            change = ((logits - plain) ** 2).sum() / (plain**2).sum()
            print(f"{name}-{file}: the adapters change the logits by an NMSE of {change:.3g}")
            assert change > 1e-3
            write_logits(os.path.join(out, f"{name}-{file}.logits.bin"), ids, logits)
        if converter and "rank_pattern" not in adapters["a"] and name != "gpt2":
            subprocess.run([sys.executable, converter, "--base", path, "--outfile", os.path.join(out, f"{name}-a.gguf"),
                            "--outtype", "f16" if name == "gemma-3" else "f32", directories["a"]], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main(*sys.argv[1:])
