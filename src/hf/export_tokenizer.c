/* tokenizer.json and tokenizer_config.json from GGUF's vocabulary: byte-level BPE as it is, SentencePiece's BPE as BPE over its
 * pieces with bytes for what they do not cover, the form in which transformers keeps it. */
#include <stdlib.h>

#include "hf/export_internal.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"

#define SPACE "\xE2\x96\x81" /* U+2581, for a space */

typedef struct merge {
    uint32_t left, right, made;
    float score;
} merge;

typedef struct vocabulary {
    nb_hf_exporter *x;
    nb_str model;   /* tokenizer.ggml.model */
    nb_str *tokens; /* [count] */
    size_t count;
    const nb_gguf_value *types, *scores;
    uint32_t *slots; /* hash of the tokens: id + 1, 0 for none */
    size_t mask;
    merge *merges; /* of pieces */
    size_t merge_count, merge_capacity;
    bool prefix; /* a space is put before a text */
} vocabulary;

static nb_token_type type_of(const vocabulary *v, size_t id)
{
    return v->types ? (nb_token_type)nb_gguf_elem_i64(v->types, id) : NB_TOKEN_NORMAL;
}

static uint64_t hash(nb_str s)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 0x100000001B3u;
    return h ^ h >> 29;
}

static uint32_t *slot_of(const vocabulary *v, nb_str s)
{
    size_t i = hash(s) & v->mask;
    while (v->slots[i] && !nb_str_eq(v->tokens[v->slots[i] - 1], s))
        i = (i + 1) & v->mask;
    return &v->slots[i];
}

static nb_status index_tokens(vocabulary *v, nb_error *err)
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

static nb_status add_merge(vocabulary *v, merge m, nb_error *err)
{
    if (v->merge_count == v->merge_capacity) {
        size_t capacity = v->merge_capacity ? 2 * v->merge_capacity : 4096;
        merge *grown = realloc(v->merges, capacity * sizeof *grown);
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
    const merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->made != y->made)
        return x->made < y->made ? -1 : 1;
    if (x->left != y->left)
        return x->left < y->left ? -1 : 1;
    return x->right < y->right ? -1 : x->right > y->right;
}

static nb_status make_merges(vocabulary *v, nb_error *err)
{
    for (size_t id = 0; id < v->count; id++) {
        nb_str s = v->tokens[id];
        for (size_t cut = 1; type_of(v, id) == NB_TOKEN_NORMAL && cut < s.n; cut++) {
            if ((s.p[cut] & 0xc0) == 0x80)
                continue;
            uint32_t left = *slot_of(v, (nb_str){s.p, cut}), right = *slot_of(v, (nb_str){s.p + cut, s.n - cut});
            if (left && right && type_of(v, left - 1) == NB_TOKEN_NORMAL && type_of(v, right - 1) == NB_TOKEN_NORMAL)
                NB_TRY(add_merge(v, (merge){left - 1, right - 1, (uint32_t)id, (float)nb_gguf_elem_f64(v->scores, id)},
                                 err));
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

static void put_flag(nb_json *j, const char *key, bool value)
{
    nb_json_key(j, key);
    nb_json_bool(j, value);
}

static void put_null(nb_json *j, const char *key)
{
    nb_json_key(j, key);
    nb_json_null(j);
}

static void put_step(nb_json *j, const char *type) /* the caller closes it */
{
    nb_json_open(j, '{');
    nb_json_put_z(j, "type", type);
}

static void put_replace(nb_json *j, const char *from, const char *to)
{
    put_step(j, "Replace");
    nb_json_key(j, "pattern");
    nb_json_open(j, '{');
    nb_json_put_z(j, "String", from);
    nb_json_close(j, '}');
    nb_json_put_z(j, "content", to);
    nb_json_close(j, '}');
}

static void put_byte_level(nb_json *j)
{
    put_step(j, "ByteLevel");
    put_flag(j, "add_prefix_space", false);
    put_flag(j, "trim_offsets", false);
    put_flag(j, "use_regex", false);
    nb_json_close(j, '}');
}

static void put_added(const vocabulary *v, nb_json *j)
{
    nb_json_key(j, "added_tokens");
    nb_json_open(j, '[');
    for (size_t id = 0; id < v->count; id++) {
        nb_token_type type = type_of(v, id);
        if (!is_added(type))
            continue;
        nb_json_open(j, '{');
        nb_json_put_uint(j, "id", id);
        nb_json_key(j, "content");
        nb_json_str(j, v->tokens[id]);
        put_flag(j, "single_word", false);
        put_flag(j, "lstrip", false);
        put_flag(j, "rstrip", false);
        put_flag(j, "normalized", false);
        put_flag(j, "special", type != NB_TOKEN_USER_DEFINED);
        nb_json_close(j, '}');
    }
    nb_json_close(j, ']');
}

static void put_normalizer(const vocabulary *v, nb_json *j, bool pieces)
{
    static const char *const forms[][2] = {{"nfc", "NFC"}, {"nfd", "NFD"}, {"nfkc", "NFKC"}, {"nfkd", "NFKD"}};
    nb_str form = {0};
    nb_hf_export_str(v->x, "nibble.tokenizer.normalizer", &form);
    nb_json_key(j, "normalizer");
    if (pieces) {
        put_step(j, "Sequence");
        nb_json_key(j, "normalizers");
        nb_json_open(j, '[');
        if (v->prefix) {
            put_step(j, "Prepend");
            nb_json_put_z(j, "prepend", SPACE);
            nb_json_close(j, '}');
        }
        put_replace(j, " ", SPACE);
        nb_json_close(j, ']');
        nb_json_close(j, '}');
        return;
    }
    for (size_t i = 0; i < 4; i++)
        if (nb_str_eqz(form, forms[i][0])) {
            put_step(j, forms[i][1]);
            nb_json_close(j, '}');
            return;
        }
    nb_json_null(j);
}

static void put_split(nb_json *j, nb_str expression)
{
    put_step(j, "Split");
    nb_json_key(j, "pattern");
    nb_json_open(j, '{');
    nb_json_key(j, "Regex");
    nb_json_str(j, expression);
    nb_json_close(j, '}');
    nb_json_put_z(j, "behavior", "Isolated");
    put_flag(j, "invert", false);
    nb_json_close(j, '}');
}

static nb_status put_pre_tokenizer(const vocabulary *v, nb_json *j, nb_error *err)
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
    put_step(j, "Sequence");
    nb_json_key(j, "pretokenizers");
    nb_json_open(j, '[');
    for (size_t i = 0; i < (own_count ? own_count : count); i++)
        put_split(j, own_count ? own[i] : nb_str_of(known[i]));
    put_byte_level(j);
    nb_json_close(j, ']');
    nb_json_close(j, '}');
    return NB_OK;
}

static bool special_id(const vocabulary *v, const char *key, uint64_t *id)
{
    return nb_hf_export_u64(v->x, key, id) && *id < v->count;
}

static void put_template_token(nb_json *j, const char *kind, nb_str id)
{
    nb_json_open(j, '{');
    nb_json_key(j, kind);
    nb_json_open(j, '{');
    nb_json_key(j, "id");
    nb_json_str(j, id);
    nb_json_put_uint(j, "type_id", 0);
    nb_json_close(j, '}');
    nb_json_close(j, '}');
}

static void put_template(const vocabulary *v, nb_json *j, const char *key, int texts, bool bos, bool eos,
                         const uint64_t id[2])
{
    nb_json_key(j, key);
    nb_json_open(j, '[');
    for (int i = 0; i < texts; i++) {
        if (bos)
            put_template_token(j, "SpecialToken", v->tokens[id[0]]);
        put_template_token(j, "Sequence", i ? NB_STR("B") : NB_STR("A"));
        if (eos)
            put_template_token(j, "SpecialToken", v->tokens[id[1]]);
    }
    nb_json_close(j, ']');
}

static bool adds(const vocabulary *v, int which, uint64_t *id)
{
    nb_str pre = NB_STR("");
    nb_hf_export_str(v->x, "tokenizer.ggml.pre", &pre);
    bool pieces = nb_str_eqz(v->model, "llama"),
         otherwise = which == 0 && (pieces || nb_pretokenizer_flags(pre) & NB_PRE_ADD_BOS);
    return special_id(v, which ? "tokenizer.ggml.eos_token_id" : "tokenizer.ggml.bos_token_id", id) &&
           nb_hf_export_flag(v->x, which ? "tokenizer.ggml.add_eos_token" : "tokenizer.ggml.add_bos_token", otherwise);
}

static void put_post_processor(const vocabulary *v, nb_json *j)
{
    uint64_t id[2] = {0, 0};
    bool add[2] = {adds(v, 0, &id[0]), adds(v, 1, &id[1])};
    nb_json_key(j, "post_processor");
    if (!add[0] && !add[1]) {
        nb_json_null(j);
        return;
    }
    put_step(j, "TemplateProcessing");
    put_template(v, j, "single", 1, add[0], add[1], id);
    put_template(v, j, "pair", 2, add[0], add[1], id);
    nb_json_key(j, "special_tokens");
    nb_json_open(j, '{');
    for (int i = 0; i < 2; i++) {
        if (!add[i] || (i == 1 && add[0] && id[0] == id[1]))
            continue;
        nb_json_key_str(j, v->tokens[id[i]]);
        nb_json_open(j, '{');
        nb_json_key(j, "id");
        nb_json_str(j, v->tokens[id[i]]);
        nb_json_key(j, "ids");
        nb_json_open(j, '[');
        nb_json_uint(j, id[i]);
        nb_json_close(j, ']');
        nb_json_key(j, "tokens");
        nb_json_open(j, '[');
        nb_json_str(j, v->tokens[id[i]]);
        nb_json_close(j, ']');
        nb_json_close(j, '}');
    }
    nb_json_close(j, '}');
    nb_json_close(j, '}');
}

static void put_decoder(const vocabulary *v, nb_json *j, bool pieces)
{
    nb_json_key(j, "decoder");
    if (!pieces) {
        put_byte_level(j);
        return;
    }
    put_step(j, "Sequence");
    nb_json_key(j, "decoders");
    nb_json_open(j, '[');
    put_replace(j, SPACE, " ");
    put_step(j, "ByteFallback");
    nb_json_close(j, '}');
    put_step(j, "Fuse");
    nb_json_close(j, '}');
    if (v->prefix) {
        put_step(j, "Strip");
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

static nb_status put_merges(vocabulary *v, nb_json *j, bool pieces, nb_error *err)
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

static nb_status put_model(vocabulary *v, nb_json *j, bool pieces, nb_error *err)
{
    uint64_t unknown;
    nb_str pre = NB_STR("");
    nb_hf_export_str(v->x, "tokenizer.ggml.pre", &pre);
    nb_json_key(j, "model");
    put_step(j, "BPE");
    put_null(j, "dropout");
    nb_json_key(j, "unk_token");
    if (pieces && special_id(v, "tokenizer.ggml.unknown_token_id", &unknown))
        nb_json_str(j, v->tokens[unknown]);
    else
        nb_json_null(j);
    put_null(j, "continuing_subword_prefix");
    put_null(j, "end_of_word_suffix");
    put_flag(j, "fuse_unk", pieces);
    put_flag(j, "byte_fallback", pieces);
    put_flag(j, "ignore_merges",
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

static nb_status write_tokenizer(vocabulary *v, bool pieces, nb_error *err)
{
    nb_buf b = {0};
    nb_json j = nb_json_begin(&b, true);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "version", "1.0");
    put_null(&j, "truncation");
    put_null(&j, "padding");
    put_added(v, &j);
    put_normalizer(v, &j, pieces);
    if (pieces)
        put_null(&j, "pre_tokenizer");
    nb_status status = pieces ? NB_OK : put_pre_tokenizer(v, &j, err);
    put_post_processor(v, &j);
    put_decoder(v, &j, pieces);
    if (status == NB_OK)
        status = put_model(v, &j, pieces, err);
    nb_json_close(&j, '}');
    nb_buf_char(&b, '\n');
    if (status == NB_OK)
        status = nb_hf_export_file(v->x, "tokenizer.json", &b, err);
    nb_buf_free(&b);
    return status;
}

/* ---- tokenizer_config.json ---- */

static nb_status write_config(const vocabulary *v, nb_error *err)
{
    static const char *const rows[][2] = {{"tokenizer.ggml.bos_token_id", "bos_token"},
                                          {"tokenizer.ggml.eos_token_id", "eos_token"},
                                          {"tokenizer.ggml.unknown_token_id", "unk_token"},
                                          {"tokenizer.ggml.padding_token_id", "pad_token"}};
    nb_buf b = {0};
    nb_json j = nb_json_begin(&b, true);
    nb_str chat;
    uint64_t id, context;
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "tokenizer_class", "PreTrainedTokenizerFast");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (special_id(v, rows[i][0], &id)) {
            nb_json_key(&j, rows[i][1]);
            nb_json_str(&j, v->tokens[id]);
        }
    put_flag(&j, "add_bos_token", adds(v, 0, &id));
    put_flag(&j, "add_eos_token", adds(v, 1, &id));
    put_flag(&j, "add_prefix_space", v->prefix);
    put_flag(&j, "clean_up_tokenization_spaces", false);
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

static nb_status read_vocabulary(vocabulary *v, nb_error *err)
{
    v->types = nb_hf_export_find(v->x, "tokenizer.ggml.token_type");
    v->scores = nb_hf_export_find(v->x, "tokenizer.ggml.scores");
    NB_TRY(nb_hf_export_strings(v->x, "tokenizer.ggml.tokens", &v->tokens, &v->count, err));
    bool types = !v->types ||
                 (v->types->kind == NB_GGUF_ARRAY && v->types->element == NB_GGUF_I32 && v->types->count == v->count);
    bool scores = v->scores && v->scores->kind == NB_GGUF_ARRAY && v->scores->element == NB_GGUF_F32 &&
                  v->scores->count == v->count;
    if (v->count == 0 || !types || (nb_str_eqz(v->model, "llama") && !scores))
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: the tokenizer's tokens, types and scores are not of one length; convert the "
                       "model again",
                       v->x->s->path);
    while (v->count > 0 && type_of(v, v->count - 1) == NB_TOKEN_UNUSED) /* they only fill up the embedding */
        v->count--;
    return index_tokens(v, err);
}

nb_status nb_hf_export_tokenizer(nb_hf_exporter *x, nb_error *err)
{
    vocabulary v = {.x = x};
    if (!nb_hf_export_str(x, "tokenizer.ggml.model", &v.model) || nb_str_eqz(v.model, "no_vocab"))
        return NB_OK; /* a model without one */
    bool pieces = nb_str_eqz(v.model, "llama");
    if (!pieces && !nb_str_eqz(v.model, "gpt2"))
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: a tokenizer of kind '%.*s' is not written", x->s->path,
                       NB_STR_ARG(v.model));
    v.prefix = nb_hf_export_flag(x, "tokenizer.ggml.add_space_prefix", pieces);
    nb_status status = read_vocabulary(&v, err);
    if (status == NB_OK && pieces)
        status = make_merges(&v, err);
    if (status == NB_OK)
        status = write_tokenizer(&v, pieces, err);
    if (status == NB_OK)
        status = write_config(&v, err);
    free(v.slots);
    free(v.merges);
    return status;
}
