/* tokenizer.json and tokenizer_config.json from GGUF's vocabulary: byte-level BPE as it is, SentencePiece's BPE as BPE over its
 * pieces with bytes for what they do not cover, the form in which transformers keeps it; others: export_words.c. */
#include <stdlib.h>

#include "hf/export_vocab.h"
#include "text/pretokenizer.h"

static uint64_t hash(nb_str s)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 0x100000001B3u;
    return h ^ h >> 29;
}

static uint32_t *slot_of(const nb_hf_words *v, nb_str s)
{
    size_t i = hash(s) & v->mask;
    while (v->slots[i] && !nb_str_eq(v->tokens[v->slots[i] - 1], s))
        i = (i + 1) & v->mask;
    return &v->slots[i];
}

static nb_status index_tokens(nb_hf_words *v, nb_error *err)
{
    size_t slots = 64;
    while (slots < 2 * v->count)
        slots *= 2;
    v->slots = calloc(slots, sizeof *v->slots);
    v->mask = slots - 1;
    if (!v->slots)
        return nb_fail_memory(err, "vocabulary", slots * sizeof *v->slots);
    for (size_t id = 0; id < v->count; id++) {
        uint32_t *slot = slot_of(v, v->tokens[id]);
        if (*slot)
            return nb_fail(err, NB_ERR_UNSUPPORTED,
                           "%s: tokens %u and %zu are both '%.*s', which tokenizer.json cannot hold", v->x->s->path,
                           *slot - 1, id, NB_STR_ARG(v->tokens[id]));
        *slot = (uint32_t)id + 1;
    }
    return NB_OK;
}

/* ---- SentencePiece's merges: every way to make a piece of two others, pieces of higher score first ---- */

static nb_status add_merge(nb_hf_words *v, nb_hf_merge m, nb_error *err)
{
    if (v->merge_count == v->merge_capacity) {
        size_t capacity = v->merge_capacity ? 2 * v->merge_capacity : 4096;
        nb_hf_merge *grown = realloc(v->merges, capacity * sizeof *grown);
        if (!grown)
            return nb_fail_memory(err, "merges", capacity * sizeof *grown);
        v->merges = grown;
        v->merge_capacity = capacity;
    }
    v->merges[v->merge_count++] = m;
    return NB_OK;
}

static int compare_merges(const void *a, const void *b)
{
    const nb_hf_merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->made != y->made)
        return x->made < y->made ? -1 : 1;
    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

static nb_status make_merges(nb_hf_words *v, nb_error *err)
{
    for (size_t id = 0; id < v->count; id++) {
        nb_str s = v->tokens[id];
        for (size_t cut = 1; nb_hf_words_type(v, id) == NB_TOKEN_NORMAL && cut < s.n; cut++) {
            if ((s.p[cut] & 0xc0) == 0x80)
                continue;
            uint32_t left = *slot_of(v, (nb_str){s.p, cut}), right = *slot_of(v, (nb_str){s.p + cut, s.n - cut});
            if (left && right && nb_hf_words_type(v, left - 1) == NB_TOKEN_NORMAL &&
                nb_hf_words_type(v, right - 1) == NB_TOKEN_NORMAL)
                NB_TRY(add_merge(
                    v, (nb_hf_merge){left - 1, right - 1, (uint32_t)id, (float)nb_gguf_elem_f64(v->scores, id)}, err));
        }
    }
    if (v->merge_count > 1)
        qsort(v->merges, v->merge_count, sizeof *v->merges, compare_merges);
    return NB_OK;
}

/* ---- parts of tokenizer.json ---- */

static bool is_added(nb_token_type type)
{
    return type == NB_TOKEN_CONTROL || type == NB_TOKEN_USER_DEFINED || type == NB_TOKEN_UNKNOWN;
}

static void put_replace(nb_json *j, const char *from, const char *to)
{
    nb_hf_put_step(j, "Replace");
    nb_json_key(j, "pattern");
    nb_json_open(j, '{');
    nb_json_put_z(j, "String", from);
    nb_json_close(j, '}');
    nb_json_put_z(j, "content", to);
    nb_json_close(j, '}');
}

static void put_byte_level(nb_json *j)
{
    nb_hf_put_step(j, "ByteLevel");
    nb_hf_put_flag(j, "add_prefix_space", false);
    nb_hf_put_flag(j, "trim_offsets", false);
    nb_hf_put_flag(j, "use_regex", false);
    nb_json_close(j, '}');
}

static void put_added(const nb_hf_words *v, nb_json *j)
{
    nb_buf b = {0};
    nb_json_key(j, "added_tokens");
    nb_json_open(j, '[');
    for (size_t id = 0; id < v->count; id++) {
        nb_token_type type = nb_hf_words_type(v, id);
        if (!is_added(type))
            continue;
        nb_json_open(j, '{');
        nb_json_put_uint(j, "id", id);
        nb_json_key(j, "content");
        nb_json_str(j, nb_hf_word_text(v, id, &b));
        nb_hf_put_flag(j, "single_word", false);
        nb_hf_put_flag(j, "lstrip", false);
        nb_hf_put_flag(j, "rstrip", false);
        nb_hf_put_flag(j, "normalized", false);
        nb_hf_put_flag(j, "special", type != NB_TOKEN_USER_DEFINED);
        nb_json_close(j, '}');
    }
    nb_json_close(j, ']');
    nb_buf_free(&b);
}

static void put_normalizer(const nb_hf_words *v, nb_json *j, bool pieces)
{
    static const char *const forms[][2] = {{"nfc", "NFC"}, {"nfd", "NFD"}, {"nfkc", "NFKC"}, {"nfkd", "NFKD"}};
    nb_str form = {0};
    nb_hf_export_str(v->x, "nibble.tokenizer.normalizer", &form);
    nb_json_key(j, "normalizer");
    if (pieces) {
        nb_hf_put_step(j, "Sequence");
        nb_json_key(j, "normalizers");
        nb_json_open(j, '[');
        if (v->prefix) {
            nb_hf_put_step(j, "Prepend");
            nb_json_put_z(j, "prepend", NB_HF_SPACE);
            nb_json_close(j, '}');
        }
        put_replace(j, " ", NB_HF_SPACE);
        nb_json_close(j, ']');
        nb_json_close(j, '}');
        return;
    }
    for (size_t i = 0; i < 4; i++)
        if (nb_str_eqz(form, forms[i][0])) {
            nb_hf_put_step(j, forms[i][1]);
            nb_json_close(j, '}');
            return;
        }
    nb_json_null(j);
}

static void put_split(nb_json *j, nb_str expression)
{
    nb_hf_put_step(j, "Split");
    nb_json_key(j, "pattern");
    nb_json_open(j, '{');
    nb_json_key(j, "Regex");
    nb_json_str(j, expression);
    nb_json_close(j, '}');
    nb_json_put_z(j, "behavior", "Isolated");
    nb_hf_put_flag(j, "invert", false);
    nb_json_close(j, '}');
}

static nb_status put_pre_tokenizer(const nb_hf_words *v, nb_json *j, nb_error *err)
{
    nb_str pre = NB_STR("default"), *own = NULL;
    size_t count, own_count;
    nb_hf_export_str(v->x, "tokenizer.ggml.pre", &pre);
    NB_TRY(nb_hf_export_strings(v->x, "nibble.tokenizer.pre_expressions", &own, &own_count, err));
    const char *const *known = nb_pretokenizer_expressions(pre, &count);
    bool raw = nb_pretokenizer_flags(pre) & NB_PRE_RAW;
    for (size_t i = 0; known && i < count && !own_count; i++)
        raw = raw || known[i][0] == '@';
    if (!own_count && (!known || raw))
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: the pre-tokenizer '%.*s' cannot be written as tokenizer.json has them", v->x->s->path,
                       NB_STR_ARG(pre));
    nb_json_key(j, "pre_tokenizer");
    nb_hf_put_step(j, "Sequence");
    nb_json_key(j, "pretokenizers");
    nb_json_open(j, '[');
    for (size_t i = 0; i < (own_count ? own_count : count); i++)
        put_split(j, own_count ? own[i] : nb_str_of(known[i]));
    put_byte_level(j);
    nb_json_close(j, ']');
    nb_json_close(j, '}');
    return NB_OK;
}

static bool special_id(const nb_hf_words *v, const char *key, uint64_t *id)
{
    return nb_hf_export_u64(v->x, key, id) && *id < v->count;
}

typedef enum end { BOS, EOS, SEP, ENDS } end; /* what stands around texts */

typedef struct ends {
    bool add[ENDS];
    uint64_t id[ENDS];
} ends;

static ends ends_of(const nb_hf_words *v)
{
    static const struct {
        const char *id, *other, *add;
    } rows[ENDS] = {
        {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.cls_token_id", "tokenizer.ggml.add_bos_token"},
        {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.add_eos_token"},
        {"tokenizer.ggml.seperator_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_sep_token"},
    };
    nb_str pre = NB_STR("");
    nb_hf_export_str(v->x, "tokenizer.ggml.pre", &pre);
    bool words = nb_str_eqz(v->model, "bert"), pieces = nb_str_eqz(v->model, "llama");
    const bool otherwise[ENDS] = {words || pieces || nb_pretokenizer_flags(pre) & NB_PRE_ADD_BOS,
                                  words || nb_str_eqz(v->model, "t5"), false};
    ends e = {0};
    for (int i = 0; i < ENDS; i++)
        e.add[i] = (special_id(v, rows[i].id, &e.id[i]) || special_id(v, rows[i].other, &e.id[i])) &&
                   nb_hf_export_flag(v->x, rows[i].add, otherwise[i]);
    return e;
}

static void put_template_token(nb_json *j, const char *kind, nb_str id, uint64_t text)
{
    nb_json_open(j, '{');
    nb_json_key(j, kind);
    nb_json_open(j, '{');
    nb_json_key(j, "id");
    nb_json_str(j, id);
    nb_json_put_uint(j, "type_id", text);
    nb_json_close(j, '}');
    nb_json_close(j, '}');
}

/* An encoder's pair begins once, and its halves are counted: [CLS] A [SEP] B [SEP] */
static void put_template(const nb_hf_words *v, nb_json *j, const char *key, uint64_t texts, const ends *e)
{
    bool words = nb_str_eqz(v->model, "bert"), encoder = words || e->add[SEP];
    nb_json_key(j, key);
    nb_json_open(j, '[');
    for (uint64_t i = 0; i < texts; i++) {
        uint64_t type = words ? i : 0;
        if (e->add[BOS] && (i == 0 || !encoder))
            put_template_token(j, "SpecialToken", v->tokens[e->id[BOS]], type);
        if (e->add[SEP] && i > 0)
            put_template_token(j, "SpecialToken", v->tokens[e->id[SEP]], type);
        put_template_token(j, "Sequence", i ? NB_STR("B") : NB_STR("A"), type);
        if (e->add[EOS])
            put_template_token(j, "SpecialToken", v->tokens[e->id[EOS]], type);
    }
    nb_json_close(j, ']');
}

static void put_template_special(const nb_hf_words *v, nb_json *j, uint64_t id)
{
    nb_json_key_str(j, v->tokens[id]);
    nb_json_open(j, '{');
    nb_json_key(j, "id");
    nb_json_str(j, v->tokens[id]);
    nb_json_key(j, "ids");
    nb_json_open(j, '[');
    nb_json_uint(j, id);
    nb_json_close(j, ']');
    nb_json_key(j, "tokens");
    nb_json_open(j, '[');
    nb_json_str(j, v->tokens[id]);
    nb_json_close(j, ']');
    nb_json_close(j, '}');
}

static void put_post_processor(const nb_hf_words *v, nb_json *j)
{
    ends e = ends_of(v);
    nb_json_key(j, "post_processor");
    if (!e.add[BOS] && !e.add[EOS]) {
        nb_json_null(j);
        return;
    }
    nb_hf_put_step(j, "TemplateProcessing");
    put_template(v, j, "single", 1, &e);
    put_template(v, j, "pair", 2, &e);
    nb_json_key(j, "special_tokens");
    nb_json_open(j, '{');
    for (int i = 0; i < ENDS; i++) {
        bool said = false;
        for (int k = 0; k < i; k++)
            said = said || (e.add[k] && e.id[k] == e.id[i]);
        if (e.add[i] && !said)
            put_template_special(v, j, e.id[i]);
    }
    nb_json_close(j, '}');
    nb_json_close(j, '}');
}

static void put_decoder(const nb_hf_words *v, nb_json *j, bool pieces)
{
    nb_json_key(j, "decoder");
    if (!pieces) {
        put_byte_level(j);
        return;
    }
    nb_hf_put_step(j, "Sequence");
    nb_json_key(j, "decoders");
    nb_json_open(j, '[');
    put_replace(j, NB_HF_SPACE, " ");
    nb_hf_put_step(j, "ByteFallback");
    nb_json_close(j, '}');
    nb_hf_put_step(j, "Fuse");
    nb_json_close(j, '}');
    if (v->prefix) {
        nb_hf_put_step(j, "Strip");
        nb_json_put_z(j, "content", " ");
        nb_json_put_uint(j, "start", 1);
        nb_json_put_uint(j, "stop", 0);
        nb_json_close(j, '}');
    }
    nb_json_close(j, ']');
    nb_json_close(j, '}');
}

static void put_pair(nb_json *j, nb_str left, nb_str right)
{
    nb_json_open(j, '[');
    nb_json_str(j, left);
    nb_json_str(j, right);
    nb_json_close(j, ']');
}

static nb_status put_merges(nb_hf_words *v, nb_json *j, bool pieces, nb_error *err)
{
    nb_str *merges = NULL;
    size_t count;
    nb_json_key(j, "merges");
    nb_json_open(j, '[');
    for (size_t i = 0; pieces && i < v->merge_count; i++)
        put_pair(j, v->tokens[v->merges[i].left], v->tokens[v->merges[i].right]);
    NB_TRY(nb_hf_export_strings(v->x, "tokenizer.ggml.merges", &merges, &count, err));
    for (size_t i = 0; !pieces && i < count; i++) {
        nb_str m = merges[i];
        const char *space = m.n > 1 ? memchr(m.p + 1, ' ', m.n - 1) : NULL;
        if (!space)
            return nb_fail(err, NB_ERR_FORMAT, "%s: merge %zu has no space between two pieces; convert the model again",
                           v->x->s->path, i);
        put_pair(j, (nb_str){m.p, (size_t)(space - m.p)}, (nb_str){space + 1, (size_t)(m.p + m.n - space - 1)});
    }
    nb_json_close(j, ']');
    return NB_OK;
}

static nb_status put_model(nb_hf_words *v, nb_json *j, bool pieces, nb_error *err)
{
    uint64_t unknown;
    nb_str pre = NB_STR("");
    nb_hf_export_str(v->x, "tokenizer.ggml.pre", &pre);
    nb_json_key(j, "model");
    nb_hf_put_step(j, "BPE");
    nb_hf_put_null(j, "dropout");
    nb_json_key(j, "unk_token");
    if (pieces && special_id(v, "tokenizer.ggml.unknown_token_id", &unknown))
        nb_json_str(j, v->tokens[unknown]);
    else
        nb_json_null(j);
    nb_hf_put_null(j, "continuing_subword_prefix");
    nb_hf_put_null(j, "end_of_word_suffix");
    nb_hf_put_flag(j, "fuse_unk", pieces);
    nb_hf_put_flag(j, "byte_fallback", pieces);
    nb_hf_put_flag(j, "ignore_merges",
                   !pieces && nb_hf_export_flag(v->x, "nibble.tokenizer.ignore_merges",
                                                nb_pretokenizer_flags(pre) & NB_PRE_IGNORE_MERGES));
    nb_json_key(j, "vocab");
    nb_json_open(j, '{');
    for (size_t id = 0; id < v->count; id++) {
        nb_json_key_str(j, v->tokens[id]);
        nb_json_uint(j, id);
    }
    nb_json_close(j, '}');
    NB_TRY(put_merges(v, j, pieces, err));
    nb_json_close(j, '}');
    return NB_OK;
}

/* BPE over bytes or over SentencePiece's pieces */
static nb_status put_bpe(nb_hf_words *v, nb_json *j, nb_error *err)
{
    bool pieces = nb_str_eqz(v->model, "llama");
    put_normalizer(v, j, pieces);
    if (pieces)
        nb_hf_put_null(j, "pre_tokenizer");
    else
        NB_TRY(put_pre_tokenizer(v, j, err));
    put_decoder(v, j, pieces);
    return put_model(v, j, pieces, err);
}

static nb_status write_tokenizer(nb_hf_words *v, nb_error *err)
{
    nb_buf b = {0};
    nb_json j = nb_json_begin(&b, true);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "version", "1.0");
    nb_hf_put_null(&j, "truncation");
    nb_hf_put_null(&j, "padding");
    put_added(v, &j);
    put_post_processor(v, &j);
    nb_status status = nb_str_eqz(v->model, "bert") ? nb_hf_put_wordpiece(v, &j)
                       : nb_str_eqz(v->model, "t5") ? nb_hf_put_unigram(v, &j, err)
                                                    : put_bpe(v, &j, err);
    nb_json_close(&j, '}');
    nb_buf_char(&b, '\n');
    if (status == NB_OK)
        status = nb_hf_export_file(v->x, "tokenizer.json", &b, err);
    nb_buf_free(&b);
    return status;
}

/* ---- tokenizer_config.json ---- */

static nb_status write_config(const nb_hf_words *v, nb_error *err)
{
    static const char *const rows[][2] = {
        {"tokenizer.ggml.bos_token_id", "bos_token"},     {"tokenizer.ggml.eos_token_id", "eos_token"},
        {"tokenizer.ggml.unknown_token_id", "unk_token"}, {"tokenizer.ggml.padding_token_id", "pad_token"},
        {"tokenizer.ggml.cls_token_id", "cls_token"},     {"tokenizer.ggml.seperator_token_id", "sep_token"},
        {"tokenizer.ggml.mask_token_id", "mask_token"}};
    ends e = ends_of(v);
    nb_buf b = {0};
    nb_json j = nb_json_begin(&b, true);
    nb_str chat;
    uint64_t id, context;
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "tokenizer_class", "PreTrainedTokenizerFast");
    for (size_t i = nb_str_eqz(v->model, "bert") ? 2 : 0; i < sizeof rows / sizeof *rows; i++)
        if (special_id(v, rows[i][0], &id)) {
            nb_json_key(&j, rows[i][1]);
            nb_json_str(&j, v->tokens[id]);
        }
    nb_hf_put_flag(&j, "add_bos_token", e.add[BOS]);
    nb_hf_put_flag(&j, "add_eos_token", e.add[EOS]);
    nb_hf_put_flag(&j, "add_prefix_space", v->prefix);
    nb_hf_put_flag(&j, "clean_up_tokenization_spaces", false);
    if (nb_hf_export_u64(v->x, ".context_length", &context))
        nb_json_put_uint(&j, "model_max_length", context);
    if (nb_hf_export_str(v->x, "tokenizer.chat_template", &chat)) {
        nb_json_key(&j, "chat_template");
        nb_json_str(&j, chat);
    }
    nb_json_close(&j, '}');
    nb_buf_char(&b, '\n');
    nb_status status = nb_hf_export_file(v->x, "tokenizer_config.json", &b, err);
    nb_buf_free(&b);
    return status;
}

/* ---- the whole ---- */

static nb_status read_vocabulary(nb_hf_words *v, nb_error *err)
{
    v->types = nb_hf_export_find(v->x, "tokenizer.ggml.token_type");
    v->scores = nb_hf_export_find(v->x, "tokenizer.ggml.scores");
    NB_TRY(nb_hf_export_strings(v->x, "tokenizer.ggml.tokens", &v->tokens, &v->count, err));
    bool types = !v->types ||
                 (v->types->kind == NB_GGUF_ARRAY && v->types->element == NB_GGUF_I32 && v->types->count == v->count);
    bool scores = v->scores && v->scores->kind == NB_GGUF_ARRAY && v->scores->element == NB_GGUF_F32 &&
                  v->scores->count == v->count;
    if (v->count == 0 || !types || ((nb_str_eqz(v->model, "llama") || nb_str_eqz(v->model, "t5")) && !scores))
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: the tokenizer's tokens, types and scores are not of one length; convert the "
                       "model again",
                       v->x->s->path);
    while (v->count > 0 && nb_hf_words_type(v, v->count - 1) == NB_TOKEN_UNUSED) /* they only fill up the embedding */
        v->count--;
    return index_tokens(v, err);
}

nb_status nb_hf_export_tokenizer(nb_hf_exporter *x, nb_error *err)
{
    nb_hf_words v = {.x = x};
    if (!nb_hf_export_str(x, "tokenizer.ggml.model", &v.model) || nb_str_eqz(v.model, "no_vocab"))
        return NB_OK; /* a model without one */
    bool pieces = nb_str_eqz(v.model, "llama");
    if (!pieces && !nb_str_eqz(v.model, "gpt2") && !nb_str_eqz(v.model, "bert") && !nb_str_eqz(v.model, "t5"))
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: a tokenizer of kind '%.*s' is not written", x->s->path,
                       NB_STR_ARG(v.model));
    v.prefix = nb_hf_export_flag(x, "tokenizer.ggml.add_space_prefix", pieces);
    nb_status status = read_vocabulary(&v, err);
    if (status == NB_OK && pieces)
        status = make_merges(&v, err);
    if (status == NB_OK)
        status = write_tokenizer(&v, err);
    if (status == NB_OK)
        status = write_config(&v, err);
    free(v.slots);
    free(v.merges);
    return status;
}
