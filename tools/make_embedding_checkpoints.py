#!/usr/bin/env python3
"""Makes tiny seeded checkpoints of models for embeddings, as sentence-transformers' directories lie on the hub, and what
transformers and sentence-transformers compute from them in float32.

usage: make_embedding_checkpoints.py OUT [NAME...]

Each OUT/NAME has the directory's files, and beside them
  expected.safetensors  input_ids [2, length], last_hidden [2, length, width], 48 or more: transformers, eager attention, float32;
  expected.json         the architecture;
  embed.json            texts, with the name of a prompt or null, and their embeddings by SentenceTransformer.encode, one at a
                        time; texts longer than max_seq_length are cut there. Or pairs and their scores, by transformers.
tools/make_test_models.py archs writes tests/data/archs from them, tools/make_hf_vectors.py tests/data/hf.
Weights are bfloat16 numbers; norms and biases are random, so that a missing one shows.

Needs torch, transformers 5, sentence-transformers 6, tokenizers, sentencepiece, safetensors.
"""
import json
import os
import shutil
import sys
import tempfile

import sentencepiece as spm
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors,
                        trainers)

TRAINED_ON = "/usr/share/common-licenses/GPL-3"
TEXTS = ["Hello world", "The licence's terms: 12345.67 (see 4)", "", "naïve café",
         "Everyone is permitted to copy and distribute verbatim copies of this license document.", "a",
         "The precise terms and conditions for copying, distribution and modification follow. " * 6]

MEAN, CLS, LAST = "pooling_mode_mean_tokens", "pooling_mode_cls_token", "pooling_mode_lasttoken"
TYPES = "sentence_transformers.models."
NEW_TYPES = {"Transformer": "sentence_transformers.base.modules.transformer.Transformer",
             "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
             "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
             "Dense": "sentence_transformers.base.modules.dense.Dense"}

BERT = {"attention_probs_dropout_prob": 0.1, "hidden_dropout_prob": 0.1, "initializer_range": 0.02}
SPECS = {
    # as nomic-embed-text-v1.5 is configured, in the words of its own code
    "nomic-bert": {"tokenizer": "wordpiece", "pooling": MEAN, "length": 40,
                   "prompts": {"query": "search_query: ", "document": "search_document: "},
                   "read": {"model_type": "nomic_bert", "hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2,
                            "intermediate_size": 80, "vocab_size": 300, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
                            "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
                            "max_position_embeddings": 2048},
                   "config": {"architectures": ["NomicBertModel"], "model_type": "nomic_bert", "activation_function": "swiglu",
                              "causal": False, "n_embd": 48, "n_head": 4, "n_inner": 80, "n_layer": 2, "n_positions": 8192,
                              "max_trained_positions": 2048, "layer_norm_epsilon": 1e-12, "mlp_fc1_bias": False,
                              "mlp_fc2_bias": False, "parallel_block": False, "prenorm": False, "qkv_proj_bias": False,
                              "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False,
                              "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "type_vocab_size": 2,
                              "use_rms_norm": False, "vocab_size": 300}},
    # as transformers 5 writes it; heads that do not make up the width, one token type
    "nomic-bert-native": {"tokenizer": "wordpiece", "pooling": CLS, "normalize": True, "new": True, "masked": True,
                          "config": {"architectures": ["NomicBertForMaskedLM"], "model_type": "nomic_bert", "hidden_size": 40,
                                     "num_attention_heads": 3, "head_dim": 16, "num_hidden_layers": 3,
                                     "intermediate_size": 56, "vocab_size": 311, "type_vocab_size": 1, "hidden_act": "silu",
                                     "layer_norm_eps": 1e-5, "max_position_embeddings": 128,
                                     "rope_parameters": {"rope_type": "default", "rope_theta": 20000.0}}},
    # bge: the first token, scaled; the masked model's names, layer norms by their older ones
    "bert-cls": {"tokenizer": "wordpiece", "pooling": CLS, "normalize": True, "masked": True, "older_norms": True, "length": 30,
                 "prompts": {"query": "Represent this sentence: "}, "default_prompt": "query",
                 "config": {"architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_size": 40,
                            "num_attention_heads": 5, "num_hidden_layers": 3, "intermediate_size": 104, "vocab_size": 313,
                            "type_vocab_size": 2, "hidden_act": "gelu_new", "layer_norm_eps": 1e-12,
                            "max_position_embeddings": 96, "pad_token_id": 0} | BERT},
    "xlm-roberta": {"tokenizer": "unigram", "pooling": CLS, "normalize": True, "length": 64,
                    "config": {"architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "hidden_size": 48,
                               "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 307,
                               "type_vocab_size": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
                               "max_position_embeddings": 130, "pad_token_id": 1, "bos_token_id": 0,
                               "eos_token_id": 2} | BERT},
    # as bge-reranker: scores of pairs, by a classifier over the first token
    "xlm-roberta-ranker": {"tokenizer": "unigram", "ranks": True,
                           "config": {"architectures": ["XLMRobertaForSequenceClassification"],
                                      "model_type": "xlm-roberta", "hidden_size": 32, "num_attention_heads": 2,
                                      "num_hidden_layers": 2, "intermediate_size": 48, "vocab_size": 301,
                                      "type_vocab_size": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
                                      "max_position_embeddings": 258, "pad_token_id": 1, "bos_token_id": 0,
                                      "eos_token_id": 2, "id2label": {"0": "LABEL_0"},
                                      "label2id": {"LABEL_0": 0}} | BERT},
    # as the MS MARCO cross-encoders: BERT's pooler and a classifier; the second text has a token type of its own
    "bert-ranker": {"tokenizer": "wordpiece-pairs", "ranks": True,
                    "config": {"architectures": ["BertForSequenceClassification"], "model_type": "bert", "hidden_size": 32,
                               "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 48,
                               "vocab_size": 305, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
                               "max_position_embeddings": 256, "pad_token_id": 0, "id2label": {"0": "LABEL_0"},
                               "label2id": {"LABEL_0": 0}} | BERT},
    # several labels
    "bert-ranker-labels": {"tokenizer": "wordpiece-pairs", "ranks": True,
                           "config": {"architectures": ["BertForSequenceClassification"], "model_type": "bert",
                                      "hidden_size": 40, "num_attention_heads": 5, "num_hidden_layers": 3,
                                      "intermediate_size": 56, "vocab_size": 299, "type_vocab_size": 2,
                                      "hidden_act": "relu", "layer_norm_eps": 1e-6, "max_position_embeddings": 128,
                                      "pad_token_id": 0, "id2label": {"0": "contradiction", "1": "entailment",
                                                                      "2": "neutral"},
                                      "label2id": {"contradiction": 0, "entailment": 1, "neutral": 2}} | BERT},
    "distilbert": {"tokenizer": "wordpiece", "pooling": MEAN, "length": 60,
                   "config": {"architectures": ["DistilBertModel"], "model_type": "distilbert", "dim": 48, "hidden_dim": 80,
                              "n_heads": 4, "n_layers": 2, "vocab_size": 303, "activation": "gelu",
                              "max_position_embeddings": 128, "pad_token_id": 0, "sinusoidal_pos_embds": False}},
    "distilbert-masked": {"tokenizer": "wordpiece", "pooling": CLS, "normalize": True, "masked": True, "new": True,
                          "config": {"architectures": ["DistilBertForMaskedLM"], "model_type": "distilbert", "dim": 40,
                                     "hidden_dim": 72, "n_heads": 5, "n_layers": 3, "vocab_size": 297,
                                     "activation": "relu", "max_position_embeddings": 200, "pad_token_id": 0,
                                     "sinusoidal_pos_embds": True}},
    # all-mpnet-base-v2; texts reach beyond 128 tokens, where all distances are alike
    "mpnet": {"tokenizer": "wordpiece-mpnet", "pooling": MEAN, "normalize": True, "length": 180,
              "config": {"architectures": ["MPNetForMaskedLM"], "model_type": "mpnet", "hidden_size": 48,
                         "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 311,
                         "hidden_act": "gelu", "layer_norm_eps": 1e-5, "max_position_embeddings": 258,
                         "relative_attention_num_buckets": 32, "pad_token_id": 1, "bos_token_id": 0,
                         "eos_token_id": 2} | BERT, "masked": True, "hidden": 160},
    "mpnet-odd": {"tokenizer": "wordpiece-mpnet", "pooling": CLS, "new": True, "length": 100,
                  "config": {"architectures": ["MPNetModel"], "model_type": "mpnet", "hidden_size": 40,
                             "num_attention_heads": 5, "num_hidden_layers": 3, "intermediate_size": 56, "vocab_size": 301,
                             "hidden_act": "gelu_new", "layer_norm_eps": 1e-12, "max_position_embeddings": 130,
                             "relative_attention_num_buckets": 32, "pad_token_id": 1, "bos_token_id": 0,
                             "eos_token_id": 2} | BERT},
    # another width after the pooling, as the distiluse models have
    "roberta-dense": {"tokenizer": "bpe", "pooling": MEAN, "dense": [(56, 24, True, "activation.Tanh")], "masked": True,
                      "config": {"architectures": ["RobertaForMaskedLM"], "model_type": "roberta", "hidden_size": 56,
                                 "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 40,
                                 "vocab_size": 401, "type_vocab_size": 1, "hidden_act": "relu", "layer_norm_eps": 1e-5,
                                 "max_position_embeddings": 160, "pad_token_id": 1, "bos_token_id": 0,
                                 "eos_token_id": 2} | BERT},
    "gemma-embedding": {"tokenizer": "pieces", "pooling": MEAN, "normalize": True, "length": 128,
                        "dense": [(32, 72, False, "linear.Identity"), (72, 32, False, "linear.Identity")],
                        "prompts": {"query": "task: search result | query: ", "document": "title: none | text: "},
                        "config": {"architectures": ["Gemma3TextModel"], "model_type": "gemma3_text", "hidden_size": 32,
                                   "intermediate_size": 48, "num_hidden_layers": 7, "num_attention_heads": 2,
                                   "num_key_value_heads": 1, "head_dim": 24, "vocab_size": 400, "rms_norm_eps": 1e-6,
                                   "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "rope_scaling": None,
                                   "sliding_window": 16, "_sliding_window_pattern": 6, "query_pre_attn_scalar": 24,
                                   "use_bidirectional_attention": True, "max_position_embeddings": 256,
                                   "attention_bias": False, "attn_logit_softcapping": None, "final_logit_softcapping": None,
                                   "hidden_activation": "gelu_pytorch_tanh", "bos_token_id": 1, "eos_token_id": 2,
                                   "pad_token_id": 0}},
    "gemma-embedding-plain": {"tokenizer": "pieces", "pooling": MEAN, "new": True,
                              "config": {"architectures": ["Gemma3TextModel"], "model_type": "gemma3_text",
                                         "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4,
                                         "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16,
                                         "vocab_size": 389, "rms_norm_eps": 1e-5, "sliding_window": 7,
                                         "layer_types": ["sliding_attention", "full_attention"] * 2,
                                         "rope_parameters": {
                                             "full_attention": {"rope_type": "linear", "rope_theta": 500000.0,
                                                                "factor": 4.0},
                                             "sliding_attention": {"rope_type": "default", "rope_theta": 8000.0}},
                                         "query_pre_attn_scalar": 16, "use_bidirectional_attention": True,
                                         "max_position_embeddings": 200, "hidden_activation": "gelu_pytorch_tanh",
                                         "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}},
    "qwen2-embedding": {"tokenizer": "bpe-end", "pooling": LAST, "normalize": True, "length": 100,
                        "prompts": {"query": "Instruct: retrieve\nQuery: "},
                        "config": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 40,
                                   "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 5,
                                   "num_key_value_heads": 1, "vocab_size": 397, "rms_norm_eps": 1e-6,
                                   "rope_theta": 1000000.0, "max_position_embeddings": 256,
                                   "tie_word_embeddings": True, "hidden_act": "silu", "use_sliding_window": False,
                                   "bos_token_id": 0, "eos_token_id": 0}},
    # a causal model whose last token, the end of text that the tokenizer puts there, is the embedding
    "qwen3-embedding": {"tokenizer": "bpe-end", "pooling": LAST, "normalize": True,
                        "prompts": {"query": "Instruct: retrieve\nQuery:", "document": ""},
                        "config": {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 40,
                                   "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                                   "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 403, "rms_norm_eps": 1e-6,
                                   "rope_theta": 1000000, "rope_scaling": None, "max_position_embeddings": 256,
                                   "tie_word_embeddings": True, "hidden_act": "silu", "attention_bias": False,
                                   "sliding_window": None, "use_sliding_window": False, "max_window_layers": 2,
                                   "bos_token_id": 0, "eos_token_id": 0}},
}


# ---- tokenizers ----


def read_text():
    with open(TRAINED_ON, encoding="utf-8") as f:
        return f.read()


def around(t, first, last):
    """special tokens by name before and after a text"""
    names = [n for n in (first, last) if n]
    template = " ".join(([first] if first else []) + ["$A"] + ([last] if last else []))
    t.post_processor = processors.TemplateProcessing(single=template, special_tokens=[(n, t.token_to_id(n)) for n in names])
    return t


def wordpiece(size):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator([read_text()], trainers.WordPieceTrainer(vocab_size=size, special_tokens=special,
                                                                   show_progress=False))
    return around(t, "[CLS]", "[SEP]"), {
        "tokenizer_class": "BertTokenizer", "do_lower_case": True, "cls_token": "[CLS]", "sep_token": "[SEP]",
        "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]", "model_max_length": 512}


def wordpiece_pairs(size):
    t, settings = wordpiece(size)
    t.post_processor = processors.BertProcessing(("[SEP]", t.token_to_id("[SEP]")), ("[CLS]", t.token_to_id("[CLS]")))
    return t, settings


def wordpiece_mpnet(size):
    """BERT's words with RoBERTa's special tokens"""
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    t.train_from_iterator([read_text()], trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=["<s>", "<pad>", "</s>", "[UNK]", "<mask>"], show_progress=False))
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    return t, {"tokenizer_class": "MPNetTokenizer", "do_lower_case": True, "bos_token": "<s>", "cls_token": "<s>",
               "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "[UNK]",
               "mask_token": "<mask>", "model_max_length": 512}


def byte_level(size, special):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([read_text()], trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def bpe(size):
    t = byte_level(size, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    return t, {"tokenizer_class": "RobertaTokenizer", "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>",
               "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>",
               "add_prefix_space": False, "model_max_length": 158}


def bpe_end(size):
    t = byte_level(size, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return around(t, None, "<|endoftext|>"), {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "model_max_length": 256}


def train_sentencepiece(size, kind, **more):
    """SentencePiece's model; unigram: white space is a space, and letters with an accent of their own are one"""
    with tempfile.TemporaryDirectory() as folder:
        rules = os.path.join(folder, "rules.tsv")
        with open(rules, "w", encoding="ascii") as f:
            f.write("".join(f"{c:X}\t20\n" for c in (0x09, 0x0A, 0x0D, 0xA0, 0x3000)) + "FB01\t66 69\n65 301\tE9\n")
        more |= {"normalization_rule_tsv": rules} if kind == "unigram" else {
            "normalization_rule_name": "identity", "remove_extra_whitespaces": False, "byte_fallback": True}
        spm.SentencePieceTrainer.train(input=TRAINED_ON, model_prefix=os.path.join(folder, "t"), vocab_size=size,
                                       model_type=kind, minloglevel=2, num_threads=1, **more)
        with open(os.path.join(folder, "t.model"), "rb") as f:
            return sentencepiece_model_pb2.ModelProto.FromString(f.read())


def unigram(size):
    """XLM-RoBERTa's: its four special tokens first, <mask> last"""
    proto = train_sentencepiece(size - 2, "unigram")
    vocab = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab += [(p.piece, p.score) for p in proto.pieces if p.type == 1] + [("<mask>", 0.0)]
    assert len(vocab) == size, len(vocab)
    t = Tokenizer(models.Unigram(vocab, unk_id=3))
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
                                         normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")])
    t.decoder = decoders.Metaspace()
    t.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)])
    t.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
                                                     special_tokens=[("<s>", 0), ("</s>", 2)])
    return t, {"tokenizer_class": "XLMRobertaTokenizer", "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>",
               "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>",
               "model_max_length": 128}


def pieces(size):
    """Gemma's: BPE over pieces with bytes for what they lack, no space in front; begin and end of text around it"""
    proto = train_sentencepiece(size, "bpe", pad_id=0, bos_id=1, eos_id=2, unk_id=3)
    ids = {p.piece: i for i, p in enumerate(proto.pieces)}
    merges = []
    for p in sorted((p for p in proto.pieces if p.type == 1), key=lambda p: -p.score):
        cuts = [(p.piece[:i], p.piece[i:]) for i in range(1, len(p.piece))]
        merges += sorted((m for m in cuts if m[0] in ids and m[1] in ids), key=lambda m: (ids[m[0]], ids[m[1]]))
    t = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Replace(" ", "▁")
    t.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    t.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
    return around(t, "<s>", "</s>"), {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>",
        "unk_token": "<unk>", "add_bos_token": True, "add_eos_token": True, "model_max_length": 256}


TOKENIZERS = {"wordpiece": wordpiece, "wordpiece-pairs": wordpiece_pairs, "wordpiece-mpnet": wordpiece_mpnet, "bpe": bpe, "bpe-end": bpe_end, "unigram": unigram, "pieces": pieces}


# ---- the checkpoint ----


def randomize(model, seed):
    gen = torch.Generator().manual_seed(seed)
    zero_centred = model.config.model_type == "gemma3_text"
    for name, p in model.named_parameters():
        low = name.lower()
        if p.dim() == 1 and low.endswith("weight") and "norm" in low:
            p.data = (0.0 if zero_centred else 1.0) + 0.2 * torch.randn(p.shape, generator=gen)
        elif p.dim() == 1:
            p.data = 0.1 * torch.randn(p.shape, generator=gen)
        elif "embed" in low:
            p.data = 0.5 * torch.randn(p.shape, generator=gen)
        else:
            p.data = 1.5 / p.shape[-1] ** 0.5 * torch.randn(p.shape, generator=gen)
        p.data = p.data.to(torch.bfloat16).float()
    model.tie_weights()


def write_json(folder, name, value):
    os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=1)


def write_model(folder, spec, seed):
    """The model's weights by transformers, under the names they have on the hub."""
    write_json(folder, "config.json", spec.get("read", spec["config"]))
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = (transformers.AutoModelForMaskedLM if spec.get("masked") else
            transformers.AutoModelForSequenceClassification if spec.get("ranks") else transformers.AutoModel)
    model = kind.from_config(config, attn_implementation="eager").float()
    randomize(model, seed)
    with tempfile.TemporaryDirectory() as saved:
        model.to(torch.bfloat16).save_pretrained(saved)
        tensors = load_file(os.path.join(saved, "model.safetensors"))
    if spec.get("older_norms"):
        tensors = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
                   for k, v in tensors.items()}
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


def write_modules(folder, spec, width, seed):
    """modules.json and its folders, in the words of sentence-transformers up to 5, or of 6"""
    new = spec.get("new")
    names = ["Transformer", "Pooling"] + ["Dense"] * len(spec.get("dense", [])) + ["Normalize"] * bool(spec.get("normalize"))
    write_json(folder, "modules.json", [
        {"idx": i, "name": str(i), "path": f"{i}_{n}" if i else "", "type": NEW_TYPES[n] if new else TYPES + n}
        for i, n in enumerate(names)])
    modes = {MEAN: "mean", CLS: "cls", LAST: "lasttoken"}
    write_json(folder, "1_Pooling/config.json",
               {"embedding_dimension": width, "pooling_mode": modes[spec["pooling"]], "include_prompt": True} if new else
               {"word_embedding_dimension": width, CLS: False, MEAN: False, "pooling_mode_max_tokens": False,
                "pooling_mode_mean_sqrt_len_tokens": False, spec["pooling"]: True})
    gen = torch.Generator().manual_seed(seed + 1)
    for i, (columns, rows, bias, activation) in enumerate(spec.get("dense", []), 2):
        write_json(folder, f"{i}_Dense/config.json",
                   {"in_features": columns, "out_features": rows, "bias": bias,
                    "activation_function": "torch.nn.modules." + activation})
        tensors = {"linear.weight": torch.randn(rows, columns, generator=gen) / columns ** 0.5}
        if bias:
            tensors["linear.bias"] = 0.2 * torch.randn(rows, generator=gen)
        save_file({k: v.to(torch.bfloat16).float() for k, v in tensors.items()},
                  os.path.join(folder, f"{i}_Dense", "model.safetensors"), metadata={"format": "pt"})
    if "length" in spec:
        write_json(folder, "sentence_bert_config.json", {"max_seq_length": spec["length"], "do_lower_case": False})
    if "prompts" in spec:
        write_json(folder, "config_sentence_transformers.json", {
            "prompts": spec["prompts"], "default_prompt_name": spec.get("default_prompt"), "similarity_fn_name": "cosine"})


# ---- what comes out ----


def write_hidden(folder, vocab, length):
    model, info = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                         output_loading_info=True)
    missing = [k for k in info["missing_keys"] if "pooler" not in k]
    assert not missing, missing
    ids = torch.randint(5, min(vocab, 300), (2, length), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        hidden = model.eval()(input_ids=ids).last_hidden_state
    save_file({"input_ids": ids.to(torch.int32), "last_hidden": hidden.contiguous()},
              os.path.join(folder, "expected.safetensors"))
    return hidden


def write_embeddings(folder, spec):
    st = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"})
    cases = []
    for prompt in [None] + sorted(spec.get("prompts", {})):
        for text in TEXTS if prompt is None else TEXTS[:2]:
            vector = st.encode([text], prompt_name=prompt, batch_size=1, convert_to_tensor=True)[0]
            cases.append({"text": text, "prompt": prompt, "embedding": [float(f"{x:.9g}") for x in vector.tolist()]})
    lines = (json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    with open(os.path.join(folder, "embed.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(lines) + "\n]\n")
    return len(cases)


def write_scores(folder):
    """The classifier's numbers for a query and each text, and the ids of the pairs."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32,
                                                                            attn_implementation="eager").eval()
    lines = []
    for query in TEXTS[:2]:
        for text in [t for t in TEXTS[:6] if t]:
            inputs = tokenizer(query, text, return_tensors="pt")
            with torch.no_grad():
                scores = model(**inputs).logits[0]
            lines.append(json.dumps({"query": query, "text": text, "ids": inputs["input_ids"][0].tolist(),
                                     "scores": [float(f"{x:.9g}") for x in scores.tolist()]}, ensure_ascii=False,
                                    separators=(",", ":")))
    with open(os.path.join(folder, "embed.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(lines) + "\n]\n")
    return len(lines)


def make(out, name, spec):
    folder, seed, config = os.path.join(out, name), sum(map(ord, name)), spec["config"]
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    tokenizer, settings = TOKENIZERS[spec["tokenizer"]](config["vocab_size"])
    assert tokenizer.get_vocab_size() == config["vocab_size"], tokenizer.get_vocab_size()
    tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
    write_json(folder, "tokenizer_config.json", settings)
    write_model(folder, spec, seed)
    if "ranks" not in spec:
        write_modules(folder, spec, config.get("hidden_size") or config.get("dim") or config["n_embd"], seed)
    hidden = write_hidden(folder, config["vocab_size"], spec.get("hidden", 48))
    cases = write_scores(folder) if "ranks" in spec else write_embeddings(folder, spec)
    write_json(folder, "config.json", config | {"torch_dtype": "bfloat16"})
    write_json(folder, "expected.json", {"architecture": config["architectures"][0], "tokenizer": []})
    print(f"{name:24s} hidden {list(hidden.shape)} std {hidden.std():.3f}, {cases} texts", flush=True)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for name, spec in SPECS.items():
        if len(sys.argv) == 2 or name in sys.argv[2:]:
            make(sys.argv[1], name, spec)


main()
