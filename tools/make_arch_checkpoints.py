#!/usr/bin/env python3
"""Makes tiny seeded checkpoints as Hugging Face's hub lays them out, and what transformers computes from them in float32.

usage: make_arch_checkpoints.py SHAPES.json OUT [NAME...]

SHAPES.json (tools/arch_shapes.json) maps a name to
  config     config.json as on the hub, older or newer spelling; written as it is
  tokenizer  "bpe", "spm", "wordpiece" or null: trained here, on texts that every Debian has
  stand_in   config.json of a class of transformers that computes the same, for families that it does not have: its
             tensors are written under the family's own names, rows where the family has them (OWN_FORMS)
  unit_head  true: the head's rows are scaled to length 1 before it is used, in the computation alone
  alibi      true: scores fall with the distance as Baichuan 13B computes it, and nothing is rotated; in the computation alone
  class      "causal" (default), or "encoder": its last hidden states are kept instead of logits
  dtype      of the weights in the file: "bfloat16" (default), "float16", "float32". Weights are numbers of it, so that a
             float32 computation is exact up to its order of summation
  tokens_in  length of the sequences; 48
  sequences  how many; 2
  attention  transformers' implementation; "eager" (default), or "sdpa" where eager adds ALiBi twice (falcon, 5.23)
  gain       of matrices; 1.5. Less for deep models, in which float32's roundings grow
  seed       of the weights; default: made of the name
  steps      lengths: the sequence is also computed through transformers' cache, in calls that end there (generate's way)
  shard_size of the safetensors files
  quantize   "mxfp4": the experts' matrices in blocks of 32 with a power of two, as gpt-oss has them

Each OUT/NAME gets the checkpoint and
  expected.safetensors  input_ids [S, T], logits [S, T, V] or last_hidden [S, T, H]; logits_steps where `steps` is given
  expected.json         texts and their ids by the checkpoint's tokenizer, with special tokens and without

Norm weights and every bias are random, so that a missing one shows. T is longer than every sliding window.
Needs torch, transformers, tokenizers, sentencepiece, safetensors.
"""
import json
import math
import os
import shutil
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, Mxfp4Config

TEXT_FILES = ["/usr/share/common-licenses/" + name for name in ("GPL-3", "Apache-2.0", "Artistic")]
CASES = ["", " ", "Hello world", " Hello  world\n\n", "The licence's terms: 12345.67 (see §4)", "naïve café — 日本語 🦙",
         "\tif (x <= 0x1F) { return; }", "don't we'll I'VE", "<|end|> not special", "a" * 40]


def write_json(directory, name, value):
    with open(os.path.join(directory, name), "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1, ensure_ascii=name != "expected.json")


def train_bpe(directory, vocab):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.train(TEXT_FILES, trainers.BpeTrainer(vocab_size=vocab, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
              initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.save(os.path.join(directory, "tokenizer.json"))
    json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "model_max_length": 2048,
               "chat_template": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
                                "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"},
              open(os.path.join(directory, "tokenizer_config.json"), "w"), indent=1)
    return tok


def train_spm(directory, vocab):
    import sentencepiece as spm
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, AddedToken
    from sentencepiece import sentencepiece_model_pb2 as pb
    prefix = os.path.join(directory, "tokenizer")
    spm.SentencePieceTrainer.train(input=",".join(TEXT_FILES), model_prefix=prefix, vocab_size=vocab, model_type="bpe", byte_fallback=True,
                                   character_coverage=0.9995, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, normalization_rule_name="identity",
                                   remove_extra_whitespaces=False, split_digits=True, minloglevel=2)
    os.remove(prefix + ".vocab")
    proto = pb.ModelProto(); proto.ParseFromString(open(prefix + ".model", "rb").read())
    pieces = [p.piece for p in proto.pieces]
    ids = {p: i for i, p in enumerate(pieces)}
    merges = []
    for p in sorted((p for p in proto.pieces if p.type == 1), key=lambda p: -p.score):
        merges += sorted(((p.piece[:i], p.piece[i:]) for i in range(1, len(p.piece)) if p.piece[:i] in ids and p.piece[i:] in ids), key=lambda m: (ids[m[0]], ids[m[1]]))
    tok = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    tok.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tok.save(os.path.join(directory, "tokenizer.json"))
    json.dump({"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True,
               "add_eos_token": False, "legacy": True, "model_max_length": 2048}, open(os.path.join(directory, "tokenizer_config.json"), "w"), indent=1)
    return tok


def train_wordpiece(directory, vocab):
    from tokenizers import BertWordPieceTokenizer
    tok = BertWordPieceTokenizer(lowercase=True)
    tok.train(TEXT_FILES, vocab_size=vocab, min_frequency=1, limit_alphabet=200, show_progress=False,
              special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tok.save_model(directory)
    from tokenizers.processors import BertProcessing
    tok._tokenizer.post_processor = BertProcessing(("[SEP]", tok.token_to_id("[SEP]")), ("[CLS]", tok.token_to_id("[CLS]")))
    tok.save(os.path.join(directory, "tokenizer.json"))
    json.dump({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]",
               "unk_token": "[UNK]", "mask_token": "[MASK]"}, open(os.path.join(directory, "tokenizer_config.json"), "w"), indent=1)
    return tok


# Their norms multiply by 1 + weight.
ZERO_CENTRED = ("gemma", "gemma2", "gemma3_text", "nemotron")
# Linear layers that keep columns first.
COLUMNS_FIRST = ("gpt2",)


# Experts' matrices of inputs by outputs.
INPUTS_FIRST = ("gpt_oss",)


def renamed(name, names):
    for old, new in names.items():
        name = name.replace(old, new)
    return name


def exaone_form(config, tensors):
    names = {"model.layers": "transformer.h", "model.embed_tokens": "transformer.wte", "model.norm": "transformer.ln_f",
             "input_layernorm": "ln_1", "post_attention_layernorm": "ln_2", "self_attn.o_proj": "attn.attention.out_proj",
             "self_attn": "attn.attention", "gate_proj": "c_fc_0", "up_proj": "c_fc_1", "down_proj": "c_proj"}
    return {renamed(name, names): x for name, x in tensors.items()}


def fused(tensors, parts, join):
    """What is named like the first of `parts` becomes one tensor of all of them."""
    for name, x in tensors.items():
        if parts[0] in name:
            yield name, join([tensors[name.replace(parts[0], p)] for p in parts])
        elif not any(p in name for p in parts):
            yield name, x


QKV = ("q_proj", "k_proj", "v_proj")


def internlm2_form(config, tensors):
    """The rows of each key head: its queries, the key, the value."""
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    head = config["hidden_size"] // heads
    names = {"self_attn.q_proj": "attention.wqkv", "self_attn.o_proj": "attention.wo", "input_layernorm": "attention_norm",
             "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3",
             "mlp.down_proj": "feed_forward.w2", "embed_tokens": "tok_embeddings", "lm_head": "output"}

    def join(qkv):
        parts = [x.reshape(groups, -1, head, *x.shape[1:]) for x in qkv]
        return torch.cat(parts, 1).reshape(-1, *qkv[0].shape[1:])
    return {renamed(name, names): x for name, x in fused(tensors, QKV, join) if ".mlp." not in name or "bias" not in name}


def qwen_form(config, tensors):
    names = {"model.layers": "transformer.h", "model.embed_tokens": "transformer.wte", "model.norm": "transformer.ln_f",
             "input_layernorm": "ln_1", "post_attention_layernorm": "ln_2", "self_attn.q_proj": "attn.c_attn",
             "self_attn.o_proj": "attn.c_proj", "gate_proj": "w2", "up_proj": "w1", "mlp.down_proj": "mlp.c_proj"}
    return {renamed(name, names): x for name, x in fused(tensors, QKV, torch.cat)}


def chatglm_form(config, tensors):
    names = {"model.layers": "transformer.encoder.layers", "model.embed_tokens": "transformer.embedding.word_embeddings",
             "model.norm": "transformer.encoder.final_layernorm", "lm_head": "transformer.output_layer",
             "self_attn.q_proj": "self_attention.query_key_value", "self_attn.o_proj": "self_attention.dense",
             "gate_up_proj": "dense_h_to_4h", "down_proj": "dense_4h_to_h"}
    return {renamed(name, names): x for name, x in fused(tensors, QKV, torch.cat)}


def baichuan_form(config, tensors):
    return {name.replace("q_proj", "W_pack"): x for name, x in fused(tensors, QKV, torch.cat)}


OWN_FORMS = {"exaone": exaone_form, "internlm2": internlm2_form, "qwen": qwen_form, "chatglm": chatglm_form,
             "baichuan": baichuan_form}


def randomize(model, seed, dtype, gain):
    generator = torch.Generator().manual_seed(seed)
    kind = model.config.model_type
    for name, p in model.named_parameters():
        low = name.lower()
        noise = torch.randn(p.shape, generator=generator)
        if p.dim() == 1 and low.endswith("weight") and any(n in low for n in ("norm", "ln_", "layernorm", "layer_norm")):
            p.data = (0.0 if kind in ZERO_CENTRED else 1.0) + 0.2 * noise
        elif p.dim() == 1:
            p.data = (1.0 if low.endswith("sinks") else 0.1) * noise
        elif low.endswith("gate_up_proj_bias"):  # so that some values are beyond the limit of gpt-oss
            p.data = 4.0 * noise
        elif low.endswith("_proj_bias"):
            p.data = 0.1 * noise
        elif "embed" in low or "wte" in low or "wpe" in low or "embd" in low:
            p.data = 0.5 * noise
        else:
            turned = kind in COLUMNS_FIRST or (kind in INPUTS_FIRST and p.dim() == 3)
            p.data = (gain / p.shape[-2 if turned else -1] ** 0.5) * noise
        p.data = p.data.to(dtype).float()
    for name, b in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            b.data = (0.2 * torch.randn(b.shape, generator=generator)).to(dtype).float()


def mxfp4_blocks(x):
    """[..., k] as [..., k / 32, 16] bytes of two values of E2M1, the low one first, and [..., k / 32] exponents."""
    x = x.float().reshape(*x.shape[:-1], -1, 32)
    exponent = torch.floor(torch.log2(x.abs().amax(-1).clamp(min=2.0**-100))) - 2
    scaled = x / torch.exp2(exponent)[..., None]
    steps = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    code = (scaled.abs()[..., None] - steps).abs().argmin(-1) + 8 * (scaled < 0)
    return (code[..., ::2] | code[..., 1::2] << 4).to(torch.uint8), (exponent + 127).to(torch.uint8)


def quantize_experts(directory):
    path = os.path.join(directory, "model.safetensors")
    tensors = {}
    for name, x in load_file(path).items():
        if x.dim() == 3 and name.endswith(("gate_up_proj", "down_proj")):
            tensors[name + "_blocks"], tensors[name + "_scales"] = mxfp4_blocks(x.transpose(1, 2))
        else:
            tensors[name] = x
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"format": "pt"})


def write_checkpoint(directory, spec, name):
    """save_pretrained undoes transformers' internal renames, so the names on disk are the hub's"""
    dtype = getattr(torch, spec.get("dtype", "bfloat16"))
    auto = AutoModel if spec.get("class") == "encoder" else AutoModelForCausalLM
    torch.manual_seed(0)
    attention = spec.get("attention", "eager")
    model = auto.from_config(AutoConfig.from_pretrained(directory), attn_implementation=attention).float().eval()
    randomize(model, spec.get("seed", sum(map(ord, name))), dtype, spec.get("gain", 1.5))
    model.tie_weights()
    with tempfile.TemporaryDirectory() as saved:
        model.to(dtype).save_pretrained(saved, max_shard_size=spec.get("shard_size", "10GB"))
        for f in os.listdir(saved):
            if f.startswith("model"):
                shutil.copy(os.path.join(saved, f), directory)
    # what counts is what a reader of the files gets: load them again, compute in float32
    more = {}
    if spec.get("quantize") == "mxfp4":
        quantize_experts(directory)
        more["quantization_config"] = Mxfp4Config(dequantize=True)
    model, info = auto.from_pretrained(directory, dtype=torch.float32, attn_implementation=attention,
                                       output_loading_info=True, **more)
    model = model.float()
    assert not info["missing_keys"] and not info["unexpected_keys"], (name, info)
    if spec.get("unit_head"):
        model.lm_head.weight.data = torch.nn.functional.normalize(model.lm_head.weight.data)
    return model.eval()


def write_own_form(stand_in, directory, config):
    """The stand-in's checkpoint as the family has it."""
    form = OWN_FORMS.get(config["model_type"], lambda config, tensors: tensors)
    tensors = load_file(os.path.join(stand_in, "model.safetensors"))
    tensors = {name: x.contiguous().clone() for name, x in form(config, tensors).items()}
    save_file(tensors, os.path.join(directory, "model.safetensors"), metadata={"format": "pt"})


def logits_in_steps(model, ids, ends):
    """Each call sees the cache of those before, as generate does it: prepare_inputs_for_generation may drop the cache."""
    rows = []
    for sequence in ids:
        cache, begin, parts = None, 0, []
        for end in ends:
            inputs = model.prepare_inputs_for_generation(
                sequence[None, :end], past_key_values=cache, use_cache=True, attention_mask=torch.ones(1, end),
                next_sequence_length=None if cache is None else end - begin)
            cache_before = inputs.get("past_key_values")
            out = model(**{k: v for k, v in inputs.items() if k != "logits_to_keep"})
            assert cache_before is None or out.logits.shape[1] == end - begin, out.logits.shape
            parts.append(out.logits[0, -(end - begin):])
            cache, begin = out.past_key_values, end
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def alibi_mask(heads, length):
    """Baichuan 13B's: slopes of a power of two of heads, then every second one of twice as many"""
    def slopes(n):
        start = 2.0 ** (-2.0 ** -(math.log2(n) - 3))
        return [start ** (i + 1) for i in range(n)]
    power = 2 ** math.floor(math.log2(heads))
    s = torch.tensor(slopes(power) + slopes(2 * power)[0::2][:heads - power])
    future = torch.triu(torch.full((length, length), float("-inf")), 1)
    return (s[:, None, None] * (torch.arange(length) - length + 1.0) + future)[None]


class NothingRotates(torch.nn.Module):
    def forward(self, x, position_ids, *more):
        shape = (*position_ids.shape, x.shape[-1])
        return torch.ones(shape), torch.zeros(shape)


def alibi_logits(model, ids, heads):
    layer = model.model.layers[0].self_attn
    rotary = NothingRotates()
    model.model.rotary_emb.forward = lambda x, position_ids, *more: rotary(x[..., :layer.head_dim], position_ids)
    mask = alibi_mask(heads, ids.shape[1]).expand(len(ids), -1, -1, -1)
    return model(input_ids=ids, attention_mask=mask).logits


def make(name, spec, out):
    directory = os.path.join(out, name)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    vocab = spec["config"]["vocab_size"]
    tokenizer = None
    if spec.get("tokenizer"):
        train = {"bpe": train_bpe, "spm": train_spm, "wordpiece": train_wordpiece}[spec["tokenizer"]]
        tokenizer = train(directory, spec.get("tokens", vocab))
    write_json(directory, "config.json", spec["config"])
    if "stand_in" in spec:
        with tempfile.TemporaryDirectory() as stand_in:
            write_json(stand_in, "config.json", spec["stand_in"])
            model = write_checkpoint(stand_in, spec, name)
            write_own_form(stand_in, directory, spec["config"])
    else:
        model = write_checkpoint(directory, spec, name)
    length = spec.get("tokens_in", 48)
    ids = torch.randint(5, min(vocab, 300), (spec.get("sequences", 2), length), generator=torch.Generator().manual_seed(7))
    result = {"input_ids": ids.to(torch.int32)}
    with torch.no_grad():
        output = None if spec.get("alibi") else model(input_ids=ids)
        if spec.get("alibi"):
            result["logits"] = alibi_logits(model, ids, spec["config"]["num_attention_heads"]).float()
        elif spec.get("class") == "encoder":
            result["last_hidden"] = output.last_hidden_state.float()
        else:
            result["logits"] = output.logits.float()
        if "steps" in spec:
            result["logits_steps"] = logits_in_steps(model, ids, spec["steps"]).float()
    save_file({k: v.contiguous().clone() for k, v in result.items()}, os.path.join(directory, "expected.safetensors"))
    write_json(directory, "expected.json", {
        "architecture": spec["config"]["architectures"][0],
        "tokenizer": [{"text": t, "ids": tokenizer.encode(t).ids,
                       "ids_plain": tokenizer.encode(t, add_special_tokens=False).ids} for t in CASES] if tokenizer else []})
    size = sum(os.path.getsize(os.path.join(directory, f)) for f in os.listdir(directory))
    print(f"{name:32s} {sum(p.numel() for p in model.parameters()):8d} parameters  {size // 1024:5d} KiB", flush=True)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as f:
        shapes = json.load(f)
    for name in sys.argv[3:] or shapes:
        make(name, shapes[name], sys.argv[2])


main()
