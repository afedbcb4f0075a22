#!/usr/bin/env python3
"""Makes tests/data/tokenizers: what other programs say about the texts that the tokenizer tests use.

  make_tokenizer_vectors.py VOCABS BERT [MODELS LLAMA_TOKENIZE]

VOCABS holds llama.cpp's ggml-vocab-*.gguf with their .inp and .out; BERT is a checkpoint with
vocab.txt and expected.json (texts and their ids from transformers); MODELS holds the real models of tools/fetch-model;
LLAMA_TOKENIZE is llama.cpp's program. Needs the packages gguf, tokenizers, sentencepiece and protobuf.

NAME.gguf            a vocabulary cut down to the tokens that occur in its texts (the others can take no part in encoding them)
NAME.cases           a text a line: its bytes in hex, then the ids (in the cut vocabulary) that llama.cpp's .out file gives
bert.cases           the same from the `tokenizers` package; unigram.gguf and unigram.cases from sentencepiece
words.cases          pre-tokenizer name, text in hex, the ends of its words in bytes, from `tokenizers` (Oniguruma)
real.cases           model, flags, text in hex, count and FNV-1a of the ids that llama.cpp gives
"""
import json, os, random, re, subprocess, sys, tempfile, unicodedata
import gguf
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "../tests/data/tokenizers")
PIECES = ["the", " quick", " brown", " fox", "'s", "'ll", "'RE", " 'T", "'ſ", "Hello", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "1",
          "123", "45678", " 9", " 1234567", "!", "...", "?!", "(x)", " {", " == ", "é", "ñandú", "日本語", "中文字", "한국어", "🦙",
          "👩\u200d👩\u200d👧", "ß", "İ", "ſ", "ﬁ", "²", "½", "٣", "\u00a0", "\u3000", "\u200b", "\u2028", "\x85", "\u180e", "e\u0301",
          "ก็", "हिन्दी", "a", "I", "'", "’s", "don't", " WE'VE", "if (a<b) return a;", "#include <x.h>", "http://a.b/c?d=1", "____",
          "----", "\\n", "%%", "A", "Ab", "aB", "CamelCaseWord", "x86_64", "3.14159", "$5.00", "€", "\n\n\n\n", "     ", "\t\t", " /\n",
          "//\r\n", "IMGIMGABCZ", "<sentinel:12>", "…", "。", "، ", "12a", "1234_", "1234567,", "ΑΒΓαβγ", "ЖЖжж", "ǅ", "ʰ"]
SPECIALS = ["<s>", "</s>", "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<unk>", "<pad>", "<bos>", "<end_of_turn>", "<0x0A>"]


def random_text(rnd, pieces, length):
    text = ""
    for _ in range(rnd.randint(1, length)):
        z = rnd.random()
        if z < 0.7:
            text += rnd.choice(pieces)
        elif z < 0.85:
            text += chr(rnd.randint(9, 126))
        else:
            lo, hi = rnd.choice([(0x80, 0x24F), (0x370, 0x5FF), (0x900, 0x1FFF), (0x2000, 0x33FF), (0x4E00, 0xD7FF), (0xF900, 0xFFEF),
                                 (0x1F300, 0x1FAFF), (0x10000, 0x11FFF), (0x20000, 0x20100)])
            text += chr(rnd.randint(lo, hi))
    text = "".join(c for c in text if unicodedata.category(c) != "Cn")  # versions of Unicode differ there
    return text or "x"


def hexed(text):
    return text.encode().hex() or "-"


def gpt2_alphabet():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def read(path):
    fields = gguf.GGUFReader(path).fields
    return {k[len("tokenizer.ggml."):]: v.contents() for k, v in fields.items() if k.startswith("tokenizer.ggml.")}


def write(name, v, keep=None, arch="llama", title=None):
    keep = keep if keep is not None else list(range(len(v["tokens"])))
    new = {old: i for i, old in enumerate(keep)}
    w = gguf.GGUFWriter(os.path.join(OUT, name + ".gguf"), arch)
    if title:
        w.add_name(title)
    w.add_tokenizer_model(v["model"])
    if "pre" in v:
        w.add_tokenizer_pre(v["pre"])
    w.add_token_list([v["tokens"][i] for i in keep])
    if "scores" in v:
        w.add_token_scores([v["scores"][i] for i in keep])
    if "token_type" in v:
        w.add_token_types([v["token_type"][i] for i in keep])
    if "merges" in v:
        have = {v["tokens"][i] for i in keep}
        w.add_token_merges([m for m in v["merges"] if m.replace(" ", "") in have])
    for key, value in v.items():
        if key.endswith("_token_id"):
            w.add_uint32("tokenizer.ggml." + key, new[value])
        elif isinstance(value, bool):
            w.add_bool("tokenizer.ggml." + key, value)
        elif key == "precompiled_charsmap":
            w.add_precompiled_charsmap(value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()
    return new


def write_cases(name, lines):
    with open(os.path.join(OUT, name), "w") as f:
        f.write("\n".join(lines) + "\n")


def llama_vocabs(folder):
    alphabet = gpt2_alphabet()
    for file in sorted(os.listdir(folder)):
        path = os.path.join(folder, file)
        if not file.endswith(".gguf") or not os.path.exists(path + ".inp"):
            continue
        name = file[len("ggml-vocab-"):-len(".gguf")]
        v = read(path)
        texts = open(path + ".inp", encoding="utf8", newline="").read().split("\n__ggml_vocab_test__\n")
        ids = [[int(x) for x in line.split()] for line in open(path + ".out").read().split("\n")]
        if v["model"] == "gpt2":
            whole = "\0".join("".join(alphabet[b] for b in t.encode()) for t in texts)
        elif v["model"] == "bert":
            whole = "\0".join("▁" + t.lower().replace(" ", "▁") for t in texts) + "".join(v["tokens"][i] for l in ids for i in l)
        else:
            whole = "\0".join("▁" + t.replace(" ", "▁") for t in texts)
        used = {i for line in ids for i in line} | {x for k, x in v.items() if k.endswith("_token_id")}
        types = v.get("token_type", [1] * len(v["tokens"]))
        keep = [i for i, t in enumerate(v["tokens"])
                if t in whole or i in used or types[i] in (2, 3, 6) or t in alphabet.values() and v["model"] == "gpt2"]
        title = {"phi-3": "Phi3"}.get(name)
        new = write(name, v, keep, title=title)
        write_cases(name + ".cases", [hexed(t) + "".join(f" {new[i]}" for i in l) for t, l in zip(texts, ids)])


def bert(folder):
    v = read(os.path.join(folder, "ggml-vocab-bert-bge.gguf"))
    special = [i for i, k in enumerate(v["token_type"]) if k == 3]
    words = {}
    for i, t in enumerate(v["tokens"]):
        words[t if i in special or t.startswith("[unused") else t[1:] if t.startswith("▁") else "##" + t] = i
    tok = Tokenizer(models.WordPiece(words, unk_token="[UNK]", max_input_chars_per_word=100))
    tok.normalizer = normalizers.BertNormalizer()
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rnd = random.Random(5)
    pieces = PIECES + ["naïve café ", " Ünï", "“quoted” ", "[unused1]", "##ing", "Σ", "\u00ad", "a" * 99 + " ", "b" * 101 + " "]
    texts = [random_text(rnd, pieces, 20) for _ in range(120)]
    ids = [tok.encode(t, add_special_tokens=False).ids for t in texts]
    letters = {i for i, t in enumerate(v["tokens"]) if len(t.lstrip("▁")) <= 2}
    used = {i for l in ids for i in l} | set(special) | letters
    whole = "\0".join("▁" + t.lower().replace(" ", "▁") for t in texts)
    keep = [i for i, t in enumerate(v["tokens"]) if i in used or t.lstrip("▁") in whole]
    new = write("bert", v, keep, arch="bert")
    write_cases("bert.cases", [hexed(t) + "".join(f" {new[i]}" for i in l) for t, l in zip(texts, ids)])


def bert_checkpoint(folder):
    """A Hugging Face checkpoint with vocab.txt and expected.json, which holds texts and the ids transformers gives them."""
    tokens = open(os.path.join(folder, "vocab.txt"), encoding="utf8").read().split("\n")
    tokens = tokens if tokens[-1] else tokens[:-1]
    special = {"[PAD]": "padding", "[UNK]": "unknown", "[CLS]": "cls", "[SEP]": "seperator", "[MASK]": "mask"}
    v = {"model": "bert", "tokens": [t if t in special else t[2:] if t.startswith("##") else "▁" + t for t in tokens],
         "token_type": [3 if t in special else 1 for t in tokens]}
    v.update({f"{name}_token_id": tokens.index(t) for t, name in special.items()})
    write("bert-checkpoint", v, arch="bert")
    cases = json.load(open(os.path.join(folder, "expected.json")))["tokenizer"]
    write_cases("bert-checkpoint.cases", [hexed(c["text"]) + "".join(f" {i}" for i in c["ids_plain"]) for c in cases])


def unigram():
    import sentencepiece as sp
    from sentencepiece import sentencepiece_model_pb2 as pb
    rnd = random.Random(11)
    words = ["".join(rnd.choice("etaoinshrdlucmfwypvbgkjqxz"[:rnd.randint(5, 26)]) for _ in range(rnd.randint(1, 9))) for _ in range(400)]
    lines = [" ".join(rnd.choice(words) for _ in range(rnd.randint(3, 12))) for _ in range(2000)]
    lines += [random_text(rnd, PIECES, 8).replace("\n", " ") for _ in range(300)]
    with tempfile.TemporaryDirectory() as d:
        open(d + "/text", "w").write("\n".join(lines))
        sp.SentencePieceTrainer.train(input=d + "/text", model_prefix=d + "/m", vocab_size=700, model_type="unigram", hard_vocab_limit=False,
                                      character_coverage=0.99, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
                                      user_defined_symbols=["<extra>"], normalization_rule_name="nmt_nfkc")
        s = sp.SentencePieceProcessor(model_file=d + "/m.model")
        proto = pb.ModelProto.FromString(open(d + "/m.model", "rb").read())
    kinds = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}
    v = {"model": "t5", "tokens": [p.piece for p in proto.pieces], "scores": [p.score for p in proto.pieces],
         "token_type": [kinds[p.type] for p in proto.pieces], "eos_token_id": 1, "unknown_token_id": 2, "padding_token_id": 0,
         "add_space_prefix": True, "remove_extra_whitespaces": True, "add_eos_token": True, "add_bos_token": False,
         "precompiled_charsmap": proto.normalizer_spec.precompiled_charsmap}
    write("unigram", v, arch="t5")
    texts = lines[:40] + lines[-60:] + ["", " ", "   a  b ", "ﬁne ２３ ①", "\u3000x", "😀😀"]
    write_cases("unigram.cases", [hexed(t) + "".join(f" {i}" for i in s.encode(t)) for t in texts])


def expressions():
    source = open(os.path.join(HERE, "../src/text/pretokenizers.def"), encoding="utf8").read()
    families = {}
    for m in re.finditer(r"NB_PRE\((\w+), (\w+),\n(.*?)\)\n(?=NB_PRE|#undef)", source, re.S):
        found, current = [], ""
        for token in re.finditer(r'"((?:[^"\\]|\\.)*)"|,', m.group(3)):
            if token.group(0) == ",":
                found.append(current)
                current = ""
            else:
                current += re.sub(r"\\(.)", lambda k: {"n": "\n", "r": "\r"}.get(k.group(1), k.group(1)), token.group(1))
        families[m.group(1)] = found + [current]
    first = {}
    for name, family in re.findall(r'NB_PRE_NAME\("([^"]+)", (\w+),', source):
        first.setdefault(family, name)
    return [(first[f], e) for f, e in families.items()]


def words():
    rnd = random.Random(7)
    lines = []
    for name, found in expressions():
        steps = []
        for e in found:
            e = {"@digits-of-words": r"\d{1,3}(?=(?:\d{3})*\b)", "@digits": r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"}.get(e, e)
            e = e.replace("p{sc:Han}", "p{Han}").replace(r"(?<!\s)\s++$", r"\s+\z")  # how Oniguruma spells them
            steps.append(pre_tokenizers.Split(Regex(e), "isolated"))
        split = pre_tokenizers.Sequence(steps)
        for _ in range(40):
            text, end, ends = random_text(rnd, PIECES, 25), 0, []
            for word, _ in split.pre_tokenize_str(text):
                end += len(word.encode())
                ends.append(end)
            lines.append(f"{name} {hexed(text)}" + "".join(f" {e}" for e in ends))
    write_cases("words.cases", lines)


def fnv(ids):
    h = 0xCBF29CE484222325
    for i in ids:
        for b in i.to_bytes(4, "little"):
            h = (h ^ b) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def real(folder, program):
    lines = []
    for model in ["smollm2-135m-instruct-q4_1.gguf", "gemma-3-270m-q4_k_m.gguf"]:
        rnd = random.Random(13)
        for n in range(24):
            text = random_text(rnd, PIECES + SPECIALS, 25 if n % 2 else 200).replace("\u2581", "")
            special = n % 3 == 0
            with tempfile.NamedTemporaryFile() as f:
                f.write(text.encode())
                f.flush()
                args = [program, "-m", os.path.join(folder, model), "-f", f.name, "--ids", "--log-disable", "--no-escape"]
                args += [] if special else ["--no-bos", "--no-parse-special"]
                out = subprocess.run(args, capture_output=True, check=True, text=True).stdout
            ids = [int(x) for x in re.findall(r"\d+", out)]
            lines.append(f"{model} {3 if special else 0} {hexed(text)} {len(ids)} {fnv(ids):016x}")
    write_cases("real.cases", lines)


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    llama_vocabs(sys.argv[1])
    bert(sys.argv[1])
    bert_checkpoint(sys.argv[2])
    unigram()
    words()
    if len(sys.argv) > 4:
        real(sys.argv[3], sys.argv[4])
