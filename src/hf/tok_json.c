/* tokenizer.json: the model (BPE over bytes, BPE over SentencePiece's pieces, Unigram, WordPiece), its added tokens and its
 * normalizer. Source: the file format of Hugging Face's tokenizers. */
#include "hf/hf_vocab.h"

static nb_status bad(const nb_hf_vocab *v, const nb_node *at, nb_error *err, const char *what)
{
    return nb_tree_bad(&v->json, at, err, NB_ERR_FORMAT, "%s; download the file again", what);
}

static nb_status unknown(const nb_hf_vocab *v, const nb_node *at, nb_error *err, const char *what)
{
    return nb_tree_bad(&v->json, at, err, NB_ERR_UNSUPPORTED, "%s: such a tokenizer is not supported", what);
}

/* ---- looking for a step of a normalizer, pre_tokenizer or decoder, alone or in sequences ---- */

static const nb_node *find_step(const nb_node *step, const char *list, const char *type)
{
    if (!step || nb_node_is(step, "type", type))
        return step;
    const nb_node *steps = nb_node_is(step, "type", "Sequence") ? nb_node_get_kind(step, list, '[') : NULL;
    for (const nb_node *n = steps ? steps->list.first : NULL; n; n = n->next) {
        const nb_node *found = find_step(n, list, type);
        if (found)
            return found;
    }
    return NULL;
}

static const nb_node *pre_step(const nb_hf_vocab *v, const char *type)
{
    return find_step(nb_node_get_kind(v->json.root, "pre_tokenizer", '{'), "pretokenizers", type);
}

static const nb_node *normalizer_step(const nb_hf_vocab *v, const char *type)
{
    return find_step(nb_node_get_kind(v->json.root, "normalizer", '{'), "normalizers", type);
}

/* ---- added tokens ---- */

static nb_status add_added(nb_hf_vocab *v, bool wordpiece, nb_error *err)
{
    const nb_node *list = nb_node_get_kind(v->json.root, "added_tokens", '[');
    const nb_node *unk = nb_node_get_kind(nb_node_get(v->json.root, "model"), "unk_token", '"');
    for (const nb_node *n = list ? list->list.first : NULL; n; n = n->next) {
        const nb_node *number = nb_node_get_kind(n, "id", '0'), *content = nb_node_get_kind(n, "content", '"');
        uint64_t id = 0;
        if (!number || !content)
            return bad(v, n, err, "is an added token without id or content");
        NB_TRY(nb_node_u64(&v->json, number, 0, INT32_MAX, &id, err));
        nb_str text = content->str;
        bool control = nb_node_flag(n, "special", false) || nb_hf_looks_special(text);
        nb_token_type type = control ? NB_TOKEN_CONTROL : NB_TOKEN_USER_DEFINED;
        if (v->scored && unk && nb_str_eq(unk->str, text))
            type = NB_TOKEN_UNKNOWN;
        if (type == NB_TOKEN_USER_DEFINED && !wordpiece)
            NB_TRY(nb_hf_vocab_plain(v, text, &text, err));
        if (wordpiece)
            NB_TRY(nb_hf_vocab_word(v, id, text, type, true, err));
        else
            NB_TRY(nb_hf_vocab_set(v, id, text, type, -1000, true, err));
    }
    return NB_OK;
}

/* ---- BPE ---- */

/* "left right" of a merge; a space within a piece is spelt as byte-level BPE spells one */
static nb_status read_merge(nb_hf_vocab *v, const nb_node *n, nb_str *out, nb_error *err)
{
    const nb_node *left = n->kind == '[' && n->list.count == 2 ? n->list.first : NULL;
    nb_buf b = {0};
    if (n->kind == '"') {
        const char *space = memchr(n->str.p, ' ', n->str.n);
        if (!space || space == n->str.p || space + 1 == n->str.p + n->str.n)
            return bad(v, n, err, "is a merge that is not two pieces with a space between");
        *out = n->str;
        return NB_OK;
    }
    if (!left || left->kind != '"' || left->next->kind != '"')
        return bad(v, n, err, "is a merge that is not two strings");
    for (const nb_node *part = left; part; part = part->next) {
        for (size_t i = 0; i < part->str.n; i++) {
            if (part->str.p[i] == ' ')
                nb_buf_z(&b, "\xC4\xA0");
            else
                nb_buf_char(&b, part->str.p[i]);
        }
        if (part == left)
            nb_buf_char(&b, ' ');
    }
    *out = (nb_str){nb_arena_strdup(&v->arena, nb_buf_view(&b)), b.len};
    nb_status status = b.failed || !out->p ? nb_fail_memory(err, "merges", b.len) : NB_OK;
    nb_buf_free(&b);
    return status;
}

static nb_status read_merges(nb_hf_vocab *v, const nb_node *model, nb_error *err)
{
    const nb_node *list = nb_node_get_kind(model, "merges", '[');
    if (!list)
        return bad(v, model, err, "has no merges");
    v->merges = NB_ARRAY(&v->arena, nb_str, list->list.count + 1);
    if (!v->merges)
        return nb_fail_memory(err, "merges", list->list.count * sizeof(nb_str));
    for (const nb_node *n = list->list.first; n; n = n->next)
        NB_TRY(read_merge(v, n, &v->merges[v->merge_count++], err));
    return NB_OK;
}

static nb_status read_vocab(nb_hf_vocab *v, const nb_node *model, nb_error *err)
{
    const nb_node *vocab = nb_node_get_kind(model, "vocab", '{'), *unk = nb_node_get_kind(model, "unk_token", '"');
    bool bytes = nb_node_flag(model, "byte_fallback", false);
    if (!vocab || !vocab->list.first)
        return bad(v, model, err, "has no vocab");
    for (const nb_node *n = vocab->list.first; n; n = n->next) {
        uint64_t id = 0;
        nb_token_type type = NB_TOKEN_NORMAL;
        NB_TRY(nb_node_u64(&v->json, n, 0, INT32_MAX, &id, err));
        if (bytes && n->key.n == 6 && memcmp(n->key.p, "<0x", 3) == 0)
            type = NB_TOKEN_BYTE;
        else if (unk && v->scored && nb_str_eq(unk->str, n->key))
            type = NB_TOKEN_UNKNOWN;
        NB_TRY(nb_hf_vocab_set(v, id, n->key, type, -1e6f, false, err));
    }
    return NB_OK;
}

/* A piece's score says when it is made: the earlier merge first. A pair is merged by its rank there and by the score of
 * what it makes here; in a list that came from a SentencePiece model the two are the same order. */
static nb_status score_merges(nb_hf_vocab *v, nb_error *err)
{
    nb_buf b = {0};
    NB_TRY(nb_hf_vocab_index(v, err));
    for (size_t i = 0; i < v->merge_count && !b.failed; i++) {
        nb_str m = v->merges[i];
        const char *space = memchr(m.p, ' ', m.n);
        size_t left = (size_t)(space - m.p);
        nb_buf_clear(&b);
        nb_buf_add(&b, m.p, left);
        nb_buf_add(&b, space + 1, m.n - left - 1);
        int32_t id = nb_hf_vocab_find(v, nb_buf_view(&b));
        if (id >= 0 && v->types[id] == NB_TOKEN_NORMAL && v->scores[id] < -(float)i)
            v->scores[id] = -(float)i;
    }
    bool failed = b.failed;
    nb_buf_free(&b);
    v->merge_count = 0;
    return failed ? nb_fail_memory(err, "merges", 0) : NB_OK;
}

static nb_status read_normal_form(nb_hf_vocab *v, nb_error *err)
{
    static const char *const forms[][2] = {{"NFC", "nfc"}, {"NFD", "nfd"}, {"NFKC", "nfkc"}, {"NFKD", "nfkd"}};
    const nb_node *n = nb_node_get_kind(v->json.root, "normalizer", '{');
    const nb_node *list = nb_node_is(n, "type", "Sequence") ? nb_node_get_kind(n, "normalizers", '[') : NULL;
    if (list && list->list.count == 0)
        return NB_OK;
    n = list && list->list.count == 1 ? list->list.first : n;
    for (size_t i = 0; n && i < 4; i++)
        if (nb_node_is(n, "type", forms[i][0])) {
            v->normalizer = nb_str_of(forms[i][1]);
            return NB_OK;
        }
    return n ? unknown(v, n, err, "is none of NFC, NFD, NFKC and NFKD") : NB_OK;
}

static nb_status byte_level(nb_hf_vocab *v, const nb_node *model, nb_error *err)
{
    v->kind = "gpt2";
    v->ignore_merges = nb_node_flag(model, "ignore_merges", false);
    NB_TRY(read_vocab(v, model, err));
    NB_TRY(add_added(v, false, err));
    NB_TRY(read_merges(v, model, err));
    NB_TRY(read_normal_form(v, err));
    return nb_hf_pre_tokenizer(v, err);
}

/* a space before the text: by a normalizer that prepends one, or by Metaspace */
static void read_prefix(nb_hf_vocab *v)
{
    const nb_node *meta = pre_step(v, "Metaspace"), *prepend = normalizer_step(v, "Prepend");
    if (meta && nb_node_get_kind(meta, "prepend_scheme", '"'))
        v->add_space = !nb_node_is(meta, "prepend_scheme", "never");
    else if (meta)
        v->add_space = nb_node_flag(meta, "add_prefix_space", true);
    else
        v->add_space = prepend != NULL;
}

static nb_status pieces(nb_hf_vocab *v, const nb_node *model, nb_error *err)
{
    const nb_node *replace = normalizer_step(v, "Replace");
    if (!pre_step(v, "Metaspace") && !(replace && nb_node_is(replace, "content", "\xE2\x96\x81")))
        return unknown(v, model, err, "is BPE over neither bytes nor pieces with U+2581 for spaces");
    v->kind = "llama";
    v->scored = true;
    NB_TRY(read_vocab(v, model, err));
    NB_TRY(add_added(v, false, err));
    NB_TRY(read_merges(v, model, err));
    read_prefix(v);
    return score_merges(v, err);
}

static nb_status bpe(nb_hf_vocab *v, const nb_node *model, nb_error *err)
{
    const nb_node *prefix = nb_node_get_kind(model, "continuing_subword_prefix", '"');
    const nb_node *suffix = nb_node_get_kind(model, "end_of_word_suffix", '"');
    const nb_node *decoder = find_step(nb_node_get_kind(v->json.root, "decoder", '{'), "decoders", "ByteLevel");
    if ((prefix && prefix->str.n) || (suffix && suffix->str.n))
        return unknown(v, model, err, "marks the parts of words (continuing_subword_prefix, end_of_word_suffix)");
    return pre_step(v, "ByteLevel") || decoder ? byte_level(v, model, err) : pieces(v, model, err);
}

/* ---- Unigram ---- */

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = c ? strchr(digits, c) : NULL;
    return p ? (int)(p - digits) : -1;
}

static nb_status put_charsmap(nb_hf_vocab *v, const nb_node *map, nb_error *err)
{
    unsigned char *bytes = nb_arena_alloc(&v->arena, map->str.n / 4 * 3 + 3, 1);
    uint32_t bits = 0;
    size_t n = 0, length = map->str.n;
    if (!bytes)
        return nb_fail_memory(err, "precompiled_charsmap", map->str.n);
    while (length && map->str.p[length - 1] == '=')
        length--;
    for (size_t i = 0; i < length; i++) {
        int digit = base64_digit(map->str.p[i]);
        if (digit < 0)
            return bad(v, map, err, "is not base64");
        bits = bits << 6 | (uint32_t)digit;
        if (i % 4)
            bytes[n++] = (unsigned char)(bits >> (6 - i % 4 * 2));
    }
    nb_hf_put_array(v->h, "tokenizer.ggml.precompiled_charsmap", NB_GGUF_U8, bytes, n, 1);
    return NB_OK;
}

static nb_status unigram_pieces(nb_hf_vocab *v, const nb_node *model, nb_error *err)
{
    const nb_node *vocab = nb_node_get_kind(model, "vocab", '['), *unk = nb_node_get_kind(model, "unk_id", '0');
    uint64_t id = 0;
    if (!vocab || !vocab->list.first)
        return bad(v, model, err, "has no vocab");
    for (const nb_node *n = vocab->list.first; n; n = n->next, id++) {
        const nb_node *text = n->kind == '[' && n->list.count == 2 ? n->list.first : NULL;
        if (!text || text->kind != '"' || text->next->kind != '0')
            return bad(v, n, err, "is not a piece and its score");
        nb_token_type type = unk && unk->num == (double)id ? NB_TOKEN_UNKNOWN : NB_TOKEN_NORMAL;
        NB_TRY(nb_hf_vocab_set(v, id, text->str, type, (float)text->next->num, false, err));
    }
    return NB_OK;
}

/* spaces that follow each other are one: by an expression, or since text is cut at white space first */
static bool squeezes(const nb_hf_vocab *v)
{
    const nb_node *n = nb_node_get_kind(v->json.root, "normalizer", '{');
    const nb_node *list = nb_node_get_kind(n, "normalizers", '[');
    for (const nb_node *s = list ? list->list.first : NULL; s; s = s->next) {
        const nb_node *regex = nb_node_get_kind(nb_node_get(s, "pattern"), "Regex", '"');
        if (regex && nb_str_starts(regex->str, NB_STR(" {2,}")))
            return true;
    }
    return pre_step(v, "WhitespaceSplit") != NULL;
}

static nb_status unigram(nb_hf_vocab *v, const nb_node *model, nb_error *err)
{
    const nb_node *map = nb_node_get_kind(normalizer_step(v, "Precompiled"), "precompiled_charsmap", '"');
    v->kind = "t5";
    v->scored = true;
    NB_TRY(unigram_pieces(v, model, err));
    NB_TRY(add_added(v, false, err));
    read_prefix(v);
    nb_hf_put_bool(v->h, "tokenizer.ggml.remove_extra_whitespaces", squeezes(v));
    if (!map && normalizer_step(v, "NFKC"))
        v->normalizer = NB_STR("nfkc");
    return map ? put_charsmap(v, map, err) : NB_OK;
}

/* ---- WordPiece ---- */

static nb_status wordpiece_normalizer(nb_hf_vocab *v, nb_error *err)
{
    const nb_node *bert = normalizer_step(v, "BertNormalizer");
    const nb_node *strip = nb_node_get(bert, "strip_accents");
    if (bert && (!nb_node_flag(bert, "clean_text", true) || !nb_node_flag(bert, "handle_chinese_chars", true)))
        return unknown(v, bert, err, "leaves text uncleaned or Chinese characters together");
    bool lower = bert ? nb_node_flag(bert, "lowercase", true) : normalizer_step(v, "Lowercase") != NULL;
    bool accents = bert ? lower : normalizer_step(v, "StripAccents") != NULL;
    nb_hf_put_bool(v->h, "tokenizer.ggml.normalizer.lowercase", lower);
    if (strip || !bert)
        nb_hf_put_bool(v->h, "tokenizer.ggml.normalizer.strip_accents", strip ? strip->kind == 't' : accents);
    return NB_OK;
}

static nb_status wordpiece(nb_hf_vocab *v, const nb_node *model, nb_error *err)
{
    const nb_node *vocab = nb_node_get_kind(model, "vocab", '{');
    if (!vocab || !vocab->list.first)
        return bad(v, model, err, "has no vocab");
    if (nb_node_get(model, "continuing_subword_prefix") && !nb_node_is(model, "continuing_subword_prefix", "##"))
        return unknown(v, nb_node_get(model, "continuing_subword_prefix"), err, "is not ##");
    v->kind = "bert";
    for (const nb_node *n = vocab->list.first; n; n = n->next) {
        uint64_t id = 0;
        NB_TRY(nb_node_u64(&v->json, n, 0, INT32_MAX, &id, err));
        NB_TRY(nb_hf_vocab_word(v, id, n->key, NB_TOKEN_NORMAL, false, err));
    }
    NB_TRY(add_added(v, true, err));
    return wordpiece_normalizer(v, err);
}

nb_status nb_hf_vocab_json(nb_hf_vocab *v, nb_error *err)
{
    const nb_node *model = nb_node_get_kind(v->json.root, "model", '{');
    if (!model)
        return bad(v, NULL, err, "has no model");
    if (nb_node_is(model, "type", "BPE"))
        return bpe(v, model, err);
    if (nb_node_is(model, "type", "Unigram"))
        return unigram(v, model, err);
    if (nb_node_is(model, "type", "WordPiece"))
        return wordpiece(v, model, err);
    if (!nb_node_get(model, "type") && nb_node_get(model, "merges")) /* files from before 2020 do not say */
        return bpe(v, model, err);
    return unknown(v, model, err, "is none of BPE, Unigram and WordPiece");
}
