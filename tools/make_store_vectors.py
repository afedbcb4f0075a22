#!/usr/bin/env python3
"""Makes tests/data/store: a small model store as Ollama lays it out, and what its list, show and details should say.

usage: tools/make_store_vectors.py OUT

The files are written with Python's hashlib and json as Ollama's `create` and `pull` leave them (manifest in Go's compact JSON
with a newline, blobs named by digest); the models by gguf-py. expected.json follows from the inputs and from Ollama's rules,
not from Nibble. Needs gguf and numpy.
"""
import hashlib
import json
import os
import sys

import gguf
import numpy as np

OLLAMA = "application/vnd.ollama.image."
CHAT = ("{%- if tools %}<tools>{{ tools | tojson }}</tools>{%- endif %}{%- for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content }}{%- for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{%- endfor %}"
        "<|im_end|>\n{%- endfor %}{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}")
GO = ("{{- if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ range .Messages }}<|{{ .Role }}|>"
      "{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}{{ end }}{{ end }}")


def make_gguf(path, arch, file_type, shape, chat=None, pooling=None, name="probe"):
    w = gguf.GGUFWriter(path, arch)
    w.add_string("general.name", name)
    if file_type is not None:
        w.add_uint32("general.file_type", file_type)
    w.add_uint32(f"{arch}.context_length", 2048)
    w.add_uint32(f"{arch}.embedding_length", shape[-1])
    w.add_uint32(f"{arch}.block_count", 2)
    w.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)
    w.add_float64(f"{arch}.odd", 0.1)
    w.add_bool("tokenizer.ggml.add_bos_token", True)
    w.add_int32("general.negative", -7)
    w.add_array("general.tags", ["a", "b\"c", "\u00e9"])
    w.add_array("tokenizer.ggml.tokens", ["<s>", "</s>", "a", "b", "c", "d"])
    w.add_array(f"{arch}.small", [1, 2, 3, 4, 5])
    w.add_uint32("tokenizer.ggml.bos_token_id", 0)
    w.add_uint32("tokenizer.ggml.eos_token_id", 1)
    if pooling is not None:
        w.add_uint32(f"{arch}.pooling_type", pooling)
    if chat:
        w.add_string("tokenizer.chat_template", chat)
    w.add_tensor("token_embd.weight", np.zeros(shape, np.float16 if file_type == 1 else np.float32))
    w.add_tensor("output_norm.weight", np.zeros(shape[-1:], np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def model_info(path, verbose):
    """Metadata as /api/show has it."""
    def plain(x):
        return float(str(x)) if isinstance(x, np.float32) else x.item() if isinstance(x, np.generic) else x
    info, count = {}, 0
    reader = gguf.GGUFReader(path)
    for t in reader.tensors:
        count += int(t.n_elements)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.name", "tokenizer.chat_template"):
            continue
        if field.types[0] == gguf.GGUFValueType.ARRAY:
            values = [field.contents(i) if field.types[-1] == gguf.GGUFValueType.STRING else plain(field.parts[d][0])
                      for i, d in enumerate(field.data)]
            info[field.name] = values if verbose or len(values) <= 5 else []
        elif field.types[0] == gguf.GGUFValueType.STRING:
            info[field.name] = field.contents()
        else:
            info[field.name] = plain(field.parts[field.data[0]][0])
    info["general.parameter_count"] = count
    return info, count


class Store:
    def __init__(self, root):
        self.root, self.expected = root, []
        os.makedirs(f"{root}/blobs", exist_ok=True)

    def blob(self, data):
        digest = hashlib.sha256(data).hexdigest()
        with open(f"{self.root}/blobs/sha256-{digest}", "wb") as f:
            f.write(data)
        return "sha256:" + digest, len(data)

    def layer(self, kind, data, **more):
        digest, size = self.blob(data)
        return {"mediaType": OLLAMA + kind if kind else "application/vnd.docker.container.image.v1+json",
                "digest": digest, "size": size, **more}

    def model(self, path, config, layers, **expected):
        config = self.layer("", json.dumps(config, separators=(",", ":")).encode())
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                    "config": config, "layers": layers}
        text = json.dumps(manifest, separators=(",", ":")).encode() + b"\n"
        full = f"{self.root}/manifests/{path}"
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as f:
            f.write(text)
        self.expected.append({"digest": hashlib.sha256(text).hexdigest(),
                              "size": config["size"] + sum(x["size"] for x in layers), **expected})


def blob_path(layer):
    return "blobs/" + layer["digest"].replace(":", "-")


def main(out):
    store, scratch = Store(out), f"{out}/scratch.gguf"

    def gguf_layer(**kw):
        more = kw.pop("more", {})
        make_gguf(scratch, **kw)
        with open(scratch, "rb") as f:
            layer = store.layer("model", f.read(), **more)
        infos = [model_info(scratch, v) for v in (False, True)]
        os.remove(scratch)
        return layer, infos

    # 1: pulled, everything there is
    model, infos = gguf_layer(arch="llama", file_type=1, shape=(300, 4), chat=CHAT)
    params = {"stop": ["<|im_end|>", "say \"x\"\n"], "temperature": 0.7, "num_ctx": 4096, "seed": 1048576, "use_mmap": True}
    license_, system = "MIT\n\nAs is.\n", "You are \"terse\"."
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " two\nlines"}]
    layers = [model, store.layer("template", GO.encode()), store.layer("system", system.encode()),
              store.layer("params", json.dumps(params).encode()), store.layer("messages", json.dumps(messages).encode()),
              store.layer("license", license_.encode()), store.layer("license", b"second")]
    head = ("# Modelfile generated by \"nibble show\"\n# To build a new Modelfile based on this, replace FROM with:\n"
            "# FROM {}\n\nFROM {{ROOT}}/{}\n")
    store.model("registry.ollama.ai/library/tiny/latest",
                {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"], "model_type": "1.23K",
                 "file_type": "F16", "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}},
                layers, name="tiny:latest", format="gguf", family="llama", families=["llama"], parameter_size="1.23K",
                quantization="F16", context_length=2048, embedding_length=4, parameters=infos[0][1], parent="",
                capabilities=["completion", "insert", "thinking"], system=system, license=[license_, "second"],
                messages=messages, template=GO, go=True, model_info=infos[0][0], model_info_verbose=infos[1][0],
                tensors=[{"name": "token_embd.weight", "type": "F16", "shape": [4, 300]},
                         {"name": "output_norm.weight", "type": "F32", "shape": [4]}],
                parameters_text="\n".join(["num_ctx                        4096", "seed                           1048576",
                                           "stop                           \"<|im_end|>\"",
                                           "stop                           \"say \\\"x\\\"\\n\"",
                                           "temperature                    0.7", "use_mmap                       true"]),
                modelfile=head.format("tiny:latest", blob_path(model)) + f"TEMPLATE {GO}\nSYSTEM {system}\n"
                "PARAMETER num_ctx 4096\nPARAMETER seed 1048576\nPARAMETER stop <|im_end|>\n"
                "PARAMETER stop \"\"\"say \"x\"\n\"\"\"\nPARAMETER temperature 0.7\nPARAMETER use_mmap true\n"
                f"LICENSE \"{license_}\"\nLICENSE second\nMESSAGE user Hi\nMESSAGE assistant \" two\nlines\"\n")
    # 2: from hf.co, made from another, its own Jinja template, no file type in the configuration
    model, infos = gguf_layer(arch="qwen2", file_type=15, shape=(30, 32), chat=CHAT, more={"from": "qwen2:latest"})
    store.model("hf.co/Some-User/Some-Model-GGUF/Q4_K_M",
                {"model_format": "gguf", "model_family": "qwen2", "model_families": None, "model_type": "992",
                 "file_type": "unknown", "architecture": "amd64", "os": "linux"}, [model],
                name="hf.co/Some-User/Some-Model-GGUF:Q4_K_M", format="gguf", family="qwen2", families=["qwen2"],
                parameter_size="992", quantization="Q4_K_M", context_length=2048, embedding_length=32,
                parameters=infos[0][1], parent="qwen2:latest", capabilities=["completion", "tools"], system="", license=[],
                messages=[], template=CHAT, go=False, model_info=infos[0][0], model_info_verbose=infos[1][0],
                tensors=[{"name": "token_embd.weight", "type": "F32", "shape": [32, 30]},
                         {"name": "output_norm.weight", "type": "F32", "shape": [32]}], parameters_text="",
                modelfile=head.format("hf.co/Some-User/Some-Model-GGUF:Q4_K_M", blob_path(model)))
    # 3: an embedding model of somebody, without a configuration's details
    model, infos = gguf_layer(arch="bert", file_type=0, shape=(7, 3), pooling=1)
    store.model("registry.ollama.ai/some_body/embed/v1.5", {}, [model], name="some_body/embed:v1.5", format="", family="bert",
                families=["bert"], parameter_size="24", quantization="F32", context_length=2048, embedding_length=3,
                parameters=24, parent="", capabilities=["embedding"], system="", license=[], messages=[], template="", go=False,
                model_info=infos[0][0], model_info_verbose=infos[1][0],
                tensors=[{"name": "token_embd.weight", "type": "F32", "shape": [3, 7]},
                         {"name": "output_norm.weight", "type": "F32", "shape": [3]}], parameters_text="",
                modelfile=head.format("some_body/embed:v1.5", blob_path(model)))
    # 4: one that runs elsewhere
    store.model("registry.ollama.ai/library/far/cloud",
                {"model_format": "", "model_family": "gptoss", "model_families": ["gptoss"], "model_type": "120B",
                 "file_type": "MXFP4", "remote_host": "https://example.com:443", "remote_model": "far",
                 "capabilities": ["completion", "tools", "vision"], "context_length": 131072, "embedding_length": 2880}, [],
                name="far:cloud", format="", family="gptoss", families=["gptoss"], parameter_size="120B", quantization="MXFP4",
                context_length=131072, embedding_length=2880, parameters=0, parent="", capabilities=["completion", "tools"],
                system="", license=[], messages=[], template=None, go=False, model_info=None, parameters_text="",
                modelfile=head.split("FROM {{ROOT}}")[0].format("far:cloud") + "FROM far:cloud\n")
    with open(f"{out}/expected.json", "w", encoding="utf-8") as f:
        json.dump(store.expected, f, indent=1, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
