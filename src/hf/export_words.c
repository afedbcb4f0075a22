/* The tokenizers of encoders: WordPiece as BERT's files have it, Unigram as XLM-R's and T5's do. */
#include "hf/export_vocab.h"

/* ---- WordPiece ---- */

nb_str nb_hf_word_text(const nb_hf_words *v, size_t id, nb_buf *b)
{
    nb_str s = v->tokens[id];
    if (!nb_str_eqz(v->model, "bert") || nb_hf_words_type(v, id) == NB_TOKEN_CONTROL)
        return s;
    if (nb_str_starts(s, NB_STR(NB_HF_SPACE)))
        return (nb_str){s.p + 3, s.n - 3};
    nb_buf_clear(b);
    nb_buf_z(b, "##");
    nb_buf_str(b, s);
    return nb_buf_view(b);
}

static void put_bert_normalizer(const nb_hf_words *v, nb_json *j)
{
    bool lower = nb_hf_export_flag(v->x, "tokenizer.ggml.normalizer.lowercase", true);
    nb_json_key(j, "normalizer");
    nb_hf_put_step(j, "BertNormalizer");
    nb_hf_put_flag(j, "clean_text", true);
    nb_hf_put_flag(j, "handle_chinese_chars", true);
    if (nb_hf_export_find(v->x, "tokenizer.ggml.normalizer.strip_accents"))
        nb_hf_put_flag(j, "strip_accents", nb_hf_export_flag(v->x, "tokenizer.ggml.normalizer.strip_accents", lower));
    else
        nb_hf_put_null(j, "strip_accents"); /* as lowercase */
    nb_hf_put_flag(j, "lowercase", lower);
    nb_json_close(j, '}');
}

static void put_unknown(const nb_hf_words *v, nb_json *j)
{
    uint64_t id;
    nb_json_key(j, "unk_token");
    nb_json_str(j, nb_hf_export_u64(v->x, "tokenizer.ggml.unknown_token_id", &id) && id < v->count ? v->tokens[id]
                                                                                                   : NB_STR("[UNK]"));
}

nb_status nb_hf_put_wordpiece(const nb_hf_words *v, nb_json *j)
{
    nb_buf b = {0};
    put_bert_normalizer(v, j);
    nb_json_key(j, "pre_tokenizer");
    nb_hf_put_step(j, "BertPreTokenizer");
    nb_json_close(j, '}');
    nb_json_key(j, "decoder");
    nb_hf_put_step(j, "WordPiece");
    nb_json_put_z(j, "prefix", "##");
    nb_hf_put_flag(j, "cleanup", true);
    nb_json_close(j, '}');
    nb_json_key(j, "model");
    nb_hf_put_step(j, "WordPiece");
    put_unknown(v, j);
    nb_json_put_z(j, "continuing_subword_prefix", "##");
    nb_json_put_uint(j, "max_input_chars_per_word", 100);
    nb_json_key(j, "vocab");
    nb_json_open(j, '{');
    for (size_t id = 0; id < v->count; id++) {
        nb_json_key_str(j, nb_hf_word_text(v, id, &b));
        nb_json_uint(j, id);
    }
    nb_json_close(j, '}');
    nb_json_close(j, '}');
    j->out->failed = j->out->failed || b.failed;
    nb_buf_free(&b);
    return NB_OK;
}

/* ---- Unigram ---- */

static void put_base64(nb_json *j, const unsigned char *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    nb_buf b = {0};
    for (size_t i = 0; i < n; i += 3) {
        uint32_t bits = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        for (size_t k = 0; k < 4; k++)
            nb_buf_char(&b, i + k > n ? '=' : digits[bits >> (18 - 6 * k) & 63]);
    }
    nb_json_str(j, nb_buf_view(&b));
    j->out->failed = j->out->failed || b.failed;
    nb_buf_free(&b);
}

static void put_unigram_normalizer(const nb_hf_words *v, nb_json *j)
{
    const nb_gguf_value *map = nb_hf_export_find(v->x, "tokenizer.ggml.precompiled_charsmap");
    nb_str form = {0};
    nb_json_key(j, "normalizer");
    if (map && map->kind == NB_GGUF_ARRAY && map->bytes == map->count) {
        nb_hf_put_step(j, "Precompiled");
        nb_json_key(j, "precompiled_charsmap");
        put_base64(j, map->data, map->bytes);
        nb_json_close(j, '}');
    } else if (nb_hf_export_str(v->x, "nibble.tokenizer.normalizer", &form) && nb_str_eqz(form, "nfkc")) {
        nb_hf_put_step(j, "NFKC");
        nb_json_close(j, '}');
    } else {
        nb_json_null(j);
    }
}

static void put_metaspace(nb_json *j, const char *scheme)
{
    nb_hf_put_step(j, "Metaspace");
    nb_json_put_z(j, "replacement", NB_HF_SPACE);
    nb_json_put_z(j, "prepend_scheme", scheme);
    nb_hf_put_flag(j, "split", true);
    nb_json_close(j, '}');
}

static void put_spaces(const nb_hf_words *v, nb_json *j)
{
    nb_json_key(j, "pre_tokenizer");
    if (!nb_hf_export_flag(v->x, "tokenizer.ggml.remove_extra_whitespaces", false)) {
        put_metaspace(j, v->prefix ? "always" : "never");
        return;
    }
    nb_hf_put_step(j, "Sequence");
    nb_json_key(j, "pretokenizers");
    nb_json_open(j, '[');
    nb_hf_put_step(j, "WhitespaceSplit");
    nb_json_close(j, '}');
    put_metaspace(j, "always");
    nb_json_close(j, ']');
    nb_json_close(j, '}');
}

nb_status nb_hf_put_unigram(const nb_hf_words *v, nb_json *j, nb_error *err)
{
    uint64_t unknown = 2;
    bool bytes = false;
    nb_hf_export_u64(v->x, "tokenizer.ggml.unknown_token_id", &unknown);
    if (unknown >= v->count)
        return nb_fail(err, NB_ERR_FORMAT, "%s: its unknown token is none of its %zu tokens; convert the model again",
                       v->x->s->path, v->count);
    put_unigram_normalizer(v, j);
    put_spaces(v, j);
    nb_json_key(j, "decoder");
    put_metaspace(j, "always");
    nb_json_key(j, "model");
    nb_hf_put_step(j, "Unigram");
    nb_json_put_uint(j, "unk_id", unknown);
    nb_json_key(j, "vocab");
    nb_json_open(j, '[');
    for (size_t id = 0; id < v->count; id++) {
        bytes = bytes || nb_hf_words_type(v, id) == NB_TOKEN_BYTE;
        nb_json_open(j, '[');
        nb_json_str(j, v->tokens[id]);
        nb_json_f32(j, (float)nb_gguf_elem_f64(v->scores, id));
        nb_json_close(j, ']');
    }
    nb_json_close(j, ']');
    nb_hf_put_flag(j, "byte_fallback", bytes);
    nb_json_close(j, '}');
    return NB_OK;
}
