#!/usr/bin/env python3
"""Makes tests/data/hf: directories as the hub lays them out, and what other programs make of their texts.

  make_hf_vectors.py CHECKPOINTS OUT [NAME...]

CHECKPOINTS: folder with the tiny checkpoints that tools/make_test_models.py reads; all (or those named, and nothing else is made)
are copied without what is computed from them (tests/data/archs has that). Then, for each kind of tokenizer, a directory with a tokenizer trained here on
TEXT by `tokenizers`, a checkpoint of one small layer around it, and cases.json: texts with the ids that `tokenizers` gives, with
and without special tokens. "older-*": the same in older files; tokenizer.model by `sentencepiece`. Needs: tokenizers,
sentencepiece, protobuf, safetensors, numpy."""
import json
import os
import shutil
import sys

import numpy as np
import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2
from safetensors.numpy import save_file
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

KEPT = ("config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt")

TEXT = """The quick brown fox jumps over the lazy dog. She sells sea shells; he sold 1234567 of them in 1999!
It's what they'll say: we've been there, I'd go, they're late, you're not. WHAT? Don't SHOUT, that's rude.
def f(x):\n    return x * 2  # twice\n\n\tif (a >= b && c != d) { printf("%d\\n", a); }
Naïve café, Ärger über Öl, señor, 東京の天気は良いです。 Привет, мир! Γειά σου Κόσμε. 안녕하세요. שלום. مرحبا
An idea is a good idea if the other ideas are worse ideas; the reader reads, the writer writes, the runner runs.
"""
CASES = ["", "a", " ", "The quick brown fox", " leading and  double   spaces ", "tail \n\n line ends\r\n\ttabs",
         "It's 1234567 o'clock, they'LL say 3.14159", "naïve café Ärger", "e\u0301 A\u030a combining \u212b", "東京の天気は良いです。",
         "Привет, мир! Γειά", "emoji 🙂👍🏽 and ﬁ ligature", "!!! ??? ... --- ### $$$ <=> a<=b", "def f(x):\n    return x*2",
         "before <|end|> after", "user<tool>defined", "UPPER lower MiXeD camelCaseWord", "x" * 40, "¼ ½ ² ³ ٣٤ Ⅷ",
         "no\u00a0break\u3000wide"]

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def byte_level(pre, normalizer=None):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre
    if normalizer:
        t.normalizer = normalizer
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|begin|>", "<|end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_tokens([AddedToken("<tool>", normalized=False)])
    return t


def split(expression):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def begin_template(t):
    t.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", t.token_to_id("<|begin|>"))])
    return t


def pieces(prefix):
    """SentencePiece's BPE: with a space put in front as Llama 2 has it, and without, as newer models"""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if prefix:
        t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    t.train_from_iterator(TEXT.split("\n"), trainers.BpeTrainer(vocab_size=640, special_tokens=special,
                                                                show_progress=False))
    return t


def unspecial(t, first):
    """trainers make bytes special tokens; in the models' own files they are plain ones of the vocabulary"""
    j = json.loads(t.to_str())
    j["added_tokens"] = [a for a in j["added_tokens"] if a["id"] < first]
    return Tokenizer.from_str(json.dumps(j))


def train_sentencepiece(folder, kind, size, **more):
    """tokenizer.model; a unigram one normalizes: white space of all kinds is a space, some letters change. Llama's do not"""
    os.makedirs(folder, exist_ok=True)
    rules, text = os.path.join(folder, "rules.tsv"), os.path.join(folder, "text.txt")
    with open(rules, "w", encoding="ascii") as f:
        for c in (0x09, 0x0A, 0x0D, 0xA0, 0x3000):
            f.write(f"{c:X}\t20\n")
        f.write("FB01\t66 69\n65 301\tE9\nB2\t32\n")
    with open(text, "w", encoding="utf-8") as f:
        f.write(TEXT)
    spm.SentencePieceTrainer.train(
        input=text, model_prefix=os.path.join(folder, "tokenizer"), model_type=kind, vocab_size=size,
        minloglevel=2, num_threads=1, **({"normalization_rule_tsv": rules} if kind == "unigram" else
                                         {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}),
        **more)
    for name in ("rules.tsv", "text.txt", "tokenizer.vocab"):
        os.remove(os.path.join(folder, name))
    return spm.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))


def unigram(out):
    """the same model in both files, as T5's is"""
    folder = os.path.join(out, "older-unigram")
    sp = train_sentencepiece(folder, "unigram", 140, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    with open(os.path.join(folder, "tokenizer.model"), "rb") as f:
        proto = sentencepiece_model_pb2.ModelProto.FromString(f.read())
    t = Tokenizer(models.Unigram([(p.piece, p.score) for p in proto.pieces], unk_id=2))
    t.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(),
                                               pre_tokenizers.Metaspace(prepend_scheme="always")])
    t.add_special_tokens(["<pad>", "</s>", "<unk>"])
    t.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    write_sentencepiece(folder, sp, {"eos_token": "</s>", "add_eos_token": True}, [], [1])
    return t


def write_sentencepiece(folder, sp, config, before, after):
    write_checkpoint(folder, sp.vocab_size() + 3)
    write_json(folder, "tokenizer_config.json", config)
    write_json(folder, "cases.json", [
        {"text": c, "ids": before + sp.encode(c) + after, "ids_plain": sp.encode(c)} for c in CASES])


def wordpiece(lowercase):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.train_from_iterator([TEXT], trainers.WordPieceTrainer(
        vocab_size=400, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))])
    return t


def kinds(out):
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bert = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    sp = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": False}
    plain = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "chat_template": "{{ messages }}"}
    yield "gpt2", byte_level(gpt2), plain
    yield "llama3", begin_template(byte_level(split(LLAMA3))), dict(plain, chat_template=[
        {"name": "default", "template": "{{ bos_token }}"}, {"name": "tool use", "template": "{{ eos_token }}"}])
    yield "qwen2-nfc", byte_level(split(QWEN2), normalizers.NFC()), plain
    yield "digits", byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])), plain
    yield "unknown-expressions", byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(" ", "isolated"), pre_tokenizers.Punctuation("contiguous"),
        pre_tokenizers.Split(Regex(r"\p{Lu}?[\p{Ll}\p{M}]+|\d{1,2}"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])), plain
    yield "pieces-bytes", unspecial(pieces(True), 3), sp
    yield "pieces-no-prefix", unspecial(pieces(False), 3), sp
    yield "unigram", unigram(out), {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    yield "wordpiece", wordpiece(True), bert
    yield "wordpiece-cased", wordpiece(False), bert


def write_checkpoint(folder, rows):
    n = np.random.default_rng(7)
    shapes = {"model.embed_tokens": (rows, 8), "model.norm": (8,), "lm_head": (rows, 8)}
    for name, shape in {"input_layernorm": (8,), "post_attention_layernorm": (8,), "self_attn.q_proj": (8, 8),
                        "self_attn.k_proj": (8, 8), "self_attn.v_proj": (8, 8), "self_attn.o_proj": (8, 8),
                        "mlp.gate_proj": (8, 8), "mlp.up_proj": (8, 8), "mlp.down_proj": (8, 8)}.items():
        shapes["model.layers.0." + name] = shape
    save_file({k + ".weight": n.standard_normal(s).astype(np.float16) for k, s in shapes.items()},
              os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    write_json(folder, "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": rows,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "rope_parameters": {"rope_type": "default",
                                                                                "rope_theta": 10000.0}})


def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False)


def write_kind(out, name, t, config):
    folder = os.path.join(out, "tokenizer-" + name)
    os.makedirs(folder, exist_ok=True)
    write_checkpoint(folder, t.get_vocab_size() + 3)
    t.save(os.path.join(folder, "tokenizer.json"), pretty=False)
    write_json(folder, "tokenizer_config.json", config)
    write_json(folder, "cases.json", [
        {"text": c, "ids": t.encode(c).ids, "ids_plain": t.encode(c, add_special_tokens=False).ids} for c in CASES])
    return folder


def fairseq(out):
    """sentencepiece.bpe.model alone: as XLM-RoBERTa's tokenizer has it, ids are one more, <unk> is 3, around them 0 and 2"""
    folder = os.path.join(out, "older-fairseq")
    sp = train_sentencepiece(folder, "unigram", 140)
    os.rename(os.path.join(folder, "tokenizer.model"), os.path.join(folder, "sentencepiece.bpe.model"))
    write_checkpoint(folder, sp.vocab_size() + 2)
    cases = [(c, [i + 1 if i else 3 for i in sp.encode(c)]) for c in CASES]
    write_json(folder, "cases.json", [{"text": c, "ids": [0] + ids + [2], "ids_plain": ids} for c, ids in cases])


def spiece(out):
    """the same as older-unigram under the name that T5 has"""
    source, folder = os.path.join(out, "older-unigram"), os.path.join(out, "older-spiece")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    os.rename(os.path.join(folder, "tokenizer.model"), os.path.join(folder, "spiece.model"))


def write_older(out):
    """the same vocabularies in the older files"""
    for name, files in (("gpt2", ("vocab.json", "merges.txt")), ("wordpiece", ("vocab.txt",))):
        source = os.path.join(out, "tokenizer-" + name)
        folder = os.path.join(out, "older-" + name)
        os.makedirs(folder, exist_ok=True)
        for f in ("config.json", "model.safetensors", "tokenizer_config.json", "cases.json"):
            shutil.copyfile(os.path.join(source, f), os.path.join(folder, f))
        with open(os.path.join(source, "tokenizer.json"), encoding="utf-8") as f:
            tok = json.load(f)
        vocab = tok["model"]["vocab"]
        if "vocab.json" in files:
            write_json(folder, "vocab.json", vocab)
            write_json(folder, "added_tokens.json", {a["content"]: a["id"] for a in tok["added_tokens"]})
            with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
                f.write("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in tok["model"]["merges"]))
        else:
            with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as f:
                f.write("".join(w + "\n" for w in sorted(vocab, key=vocab.get)))


    folder = os.path.join(out, "older-pieces")
    sp = train_sentencepiece(folder, "bpe", 400, byte_fallback=True)
    write_sentencepiece(folder, sp, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}, [1], [])
    fairseq(out)
    spiece(out)


def main():
    checkpoints, out = sys.argv[1:3]
    for name in sys.argv[3:] or sorted(os.listdir(checkpoints)):
        source, folder = os.path.join(checkpoints, name), os.path.join(out, name)
        os.makedirs(folder, exist_ok=True)
        for f in sorted(os.listdir(source)):
            if f in KEPT or (f.startswith("model") and "safetensors" in f):
                shutil.copyfile(os.path.join(source, f), os.path.join(folder, f))
    if len(sys.argv) > 3:
        return
    for name, t, config in kinds(out):
        write_kind(out, name, t, config)
    write_older(out)


main()
