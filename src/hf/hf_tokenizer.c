/* The tokenizer of a directory as GGUF metadata: which files it has, and what they say put together. */
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "hf/hf_missing.h"
#include "hf/hf_vocab.h"
#include "text/pretokenizer.h"

/* ---- the vocabulary ---- */

nb_status nb_hf_vocab_set(nb_hf_vocab *v, uint64_t id, nb_str text, nb_token_type type, float score, bool added,
                          nb_error *err)
{
    if (id >= v->rows && added)
        return NB_OK; /* no row of the embedding: it can never be used */
    if (id >= v->rows)
        return nb_fail(
            err, NB_ERR_FORMAT,
            "%s: token '%.*s' of its tokenizer has id %llu, but the embedding has only %zu rows; the files are "
            "not of one model",
            v->h->dir, NB_STR_ARG(text), (unsigned long long)id, v->rows);
    if (v->tokens[id].p && !added)
        return nb_fail(err, NB_ERR_FORMAT, "%s: tokens '%.*s' and '%.*s' of its tokenizer have the same id %llu",
                       v->h->dir, NB_STR_ARG(v->tokens[id]), NB_STR_ARG(text), (unsigned long long)id);
    v->tokens[id] = text;
    v->types[id] = type;
    v->scores[id] = score;
    return NB_OK;
}

static uint64_t hash(nb_str s)
{
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 0x100000001B3u;
    return h ^ h >> 29;
}

nb_status nb_hf_vocab_index(nb_hf_vocab *v, nb_error *err)
{
    size_t slots = 64;
    while (slots < v->rows * 2)
        slots *= 2;
    if (!v->slots)
        v->slots = NB_ARRAY(&v->arena, int32_t, slots);
    if (!v->slots)
        return nb_fail_memory(err, "vocabulary", slots * sizeof *v->slots);
    v->slot_mask = slots - 1;
    memset(v->slots, 0xFF, slots * sizeof *v->slots);
    for (size_t id = 0; id < v->rows; id++) {
        if (!v->tokens[id].p)
            continue;
        size_t i = hash(v->tokens[id]) & v->slot_mask;
        while (v->slots[i] >= 0 && !nb_str_eq(v->tokens[v->slots[i]], v->tokens[id]))
            i = (i + 1) & v->slot_mask;
        if (v->slots[i] < 0)
            v->slots[i] = (int32_t)id;
    }
    return NB_OK;
}

int32_t nb_hf_vocab_find(const nb_hf_vocab *v, nb_str text)
{
    for (size_t i = hash(text) & v->slot_mask;; i = (i + 1) & v->slot_mask)
        if (v->slots[i] < 0 || nb_str_eq(v->tokens[v->slots[i]], text))
            return v->slots[i];
}

nb_status nb_hf_vocab_plain(nb_hf_vocab *v, nb_str text, nb_str *out, nb_error *err)
{
    char *copy = nb_arena_alloc(&v->arena, text.n + 1, 1);
    size_t n = 0;
    if (!copy)
        return nb_fail_memory(err, "vocabulary", text.n);
    for (size_t i = 0; i < text.n;) {
        bool space = text.n - i >= 3 && memcmp(text.p + i, "\xE2\x96\x81", 3) == 0;
        copy[n++] = space ? ' ' : text.p[i];
        i += space ? 3 : 1;
    }
    *out = (nb_str){copy, n};
    return NB_OK;
}

bool nb_hf_looks_special(nb_str s)
{
    static const char *const names[] = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    static const char *const pairs[][2] = {{"<|", "|>"}, {"<\xEF\xBD\x9C", "\xEF\xBD\x9C>"}, {"<unused", ">"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (nb_str_eqz(s, names[i]))
            return true;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        nb_str end = nb_str_of(pairs[i][1]);
        if (nb_str_starts(s, nb_str_of(pairs[i][0])) && s.n >= end.n && memcmp(s.p + s.n - end.n, end.p, end.n) == 0)
            return true;
    }
    return false;
}

/* ---- what other files add to tokenizer.model ---- */

static nb_status overlay(nb_hf_vocab *v, uint64_t id, nb_str text, bool special, nb_error *err)
{
    nb_token_type type = special || nb_hf_looks_special(text) ? NB_TOKEN_CONTROL : NB_TOKEN_USER_DEFINED;
    if (id < v->rows && v->types[id] == NB_TOKEN_UNKNOWN && nb_str_eq(v->tokens[id], text))
        return NB_OK; /* said better by the model itself */
    if (type == NB_TOKEN_USER_DEFINED)
        NB_TRY(nb_hf_vocab_plain(v, text, &text, err));
    return nb_hf_vocab_set(v, id, text, type, -1000, true, err);
}

/* added_tokens.json: {"text": id}; nobody says which are special */
static nb_status add_file(nb_hf_vocab *v, nb_error *err)
{
    nb_tree added;
    nb_status status = NB_OK;
    NB_TRY(nb_tree_open(v->h->dir, "added_tokens.json", NB_HF_CONFIG_BYTES, true, &added, err));
    for (const nb_node *n = added.root ? added.root->list.first : NULL; n && status == NB_OK; n = n->next) {
        uint64_t id = 0;
        nb_str text = {nb_arena_strdup(&v->arena, n->key), n->key.n};
        status = text.p ? nb_node_u64(&added, n, 0, INT32_MAX, &id, err) : nb_fail_memory(err, "vocabulary", n->key.n);
        if (status == NB_OK)
            status = overlay(v, id, text, false, err);
    }
    nb_tree_free(&added);
    return status;
}

/* added_tokens_decoder of tokenizer_config.json: {"id": {"content", "special"}} */
static nb_status add_decoder(nb_hf_vocab *v, nb_error *err)
{
    const nb_node *list = nb_node_get_kind(v->config.root, "added_tokens_decoder", '{');
    for (const nb_node *n = list ? list->list.first : NULL; n; n = n->next) {
        const nb_node *content = nb_node_get_kind(n, "content", '"');
        uint64_t id = 0;
        bool number = n->key.n > 0 && n->key.n < 10;
        for (size_t i = 0; i < n->key.n && number; i++) {
            number = n->key.p[i] >= '0' && n->key.p[i] <= '9';
            id = id * 10 + (uint64_t)(n->key.p[i] - '0');
        }
        if (!number || !content)
            return nb_tree_bad(&v->config, n, err, NB_ERR_FORMAT, "is no id of an added token, or has no content");
        NB_TRY(overlay(v, id, content->str, nb_node_flag(n, "special", false), err));
    }
    return NB_OK;
}

/* ---- choosing the files ---- */

static bool exists(const nb_hf_vocab *v, const char *name, char path[PATH_MAX])
{
    struct stat info;
    int n = snprintf(path, PATH_MAX, "%s/%s", v->h->dir, name);
    return n > 0 && n < PATH_MAX && stat(path, &info) == 0;
}

static nb_status read_if(nb_hf_vocab *v, const char *name, bool *found, nb_error *err)
{
    char path[PATH_MAX];
    *found = exists(v, name, path);
    v->name = name;
    return *found ? nb_hf_read_file(path, NB_HF_TOKENIZER_BYTES, &v->model, err) : NB_OK;
}

/* SentencePiece's model, and what other files add to it */
static nb_status read_pieces(nb_hf_vocab *v, nb_error *err)
{
    NB_TRY(nb_hf_vocab_sentencepiece(v, err));
    NB_TRY(add_file(v, err));
    return add_decoder(v, err);
}

/* sentencepiece.bpe.model is of a model that fairseq trained: XLM-RoBERTa or CamemBERT */
static nb_status read_other_pieces(nb_hf_vocab *v, bool *found, nb_error *err)
{
    NB_TRY(read_if(v, "sentencepiece.bpe.model", found, err));
    if (*found)
        v->fairseq = nb_str_starts(v->h->class_name, NB_STR("Camembert")) ? 4 : 1;
    else
        NB_TRY(read_if(v, "spiece.model", found, err));
    return *found ? read_pieces(v, err) : NB_OK;
}

/* tokenizer.model before tokenizer.json: it is what the other was made from, and has the scores */
static nb_status read_files(nb_hf_vocab *v, nb_error *err)
{
    const char *dir = v->h->dir;
    bool found;
    NB_TRY(nb_tree_open(dir, "tokenizer_config.json", NB_HF_TOKENIZER_BYTES, true, &v->config, err));
    NB_TRY(nb_tree_open(dir, "special_tokens_map.json", NB_HF_CONFIG_BYTES, true, &v->map, err));
    NB_TRY(nb_tree_open(dir, "tokenizer.json", NB_HF_TOKENIZER_BYTES, true, &v->json, err));
    NB_TRY(read_if(v, "tokenizer.model", &found, err));
    if (found)
        return read_pieces(v, err);
    if (v->json.root)
        return nb_hf_vocab_json(v, err);
    NB_TRY(read_other_pieces(v, &found, err));
    if (found)
        return NB_OK;
    NB_TRY(nb_tree_open(dir, "vocab.json", NB_HF_TOKENIZER_BYTES, true, &v->vocab, err));
    NB_TRY(read_if(v, v->vocab.root ? "merges.txt" : "vocab.txt", &found, err));
    if (!found)
        return NB_OK;
    NB_TRY(v->vocab.root ? nb_hf_vocab_merges(v, err) : nb_hf_vocab_words(v, err));
    NB_TRY(add_file(v, err));
    return add_decoder(v, err);
}

/* ---- writing the keys ---- */

static nb_status fill_gaps(nb_hf_vocab *v, nb_error *err)
{
    for (size_t id = 0; id < v->rows; id++) {
        char text[32];
        if (v->tokens[id].p)
            continue;
        snprintf(text, sizeof text, "[PAD%zu]", id);
        char *copy = nb_arena_strdup(&v->arena, nb_str_of(text));
        if (!copy)
            return nb_fail_memory(err, "vocabulary", sizeof text);
        v->tokens[id] = nb_str_of(copy);
        v->types[id] = NB_TOKEN_UNUSED;
        v->scores[id] = -10000;
    }
    return NB_OK;
}

static void put_pre(nb_hf_vocab *v)
{
    nb_str list[NB_HF_EXPRESSIONS];
    const char *name = "default";
    if (strcmp(v->kind, "gpt2") == 0) {
        const char *known = nb_pretokenizer_name(v->expressions, v->expression_count, v->ignore_merges);
        for (size_t i = 0; i < v->expression_count; i++)
            list[i] = nb_str_of(v->expressions[i]);
        if (!known) {
            nb_hf_put_strings(v->h, "nibble.tokenizer.pre_expressions", list, v->expression_count);
            nb_hf_put_bool(v->h, "nibble.tokenizer.ignore_merges", v->ignore_merges);
        }
        name = known ? known : name;
    }
    nb_hf_put_str(v->h, "tokenizer.ggml.pre", nb_str_of(name));
}

/* Written when it is not what readers take without: a space for "llama", none for the others. */
static void put_space(nb_hf_vocab *v)
{
    const nb_node *n = nb_node_get_kind(v->config.root, "add_prefix_space", 't');
    if (v->json.root && n == NULL && v->add_space < 0)
        return;
    int add = v->add_space >= 0 ? v->add_space : n ? n->kind == 't' : -1;
    if (add >= 0 && (n || add != (strcmp(v->kind, "llama") == 0) || strcmp(v->kind, "t5") == 0))
        nb_hf_put_bool(v->h, "tokenizer.ggml.add_space_prefix", add);
}

static nb_status put_all(nb_hf_vocab *v, nb_error *err)
{
    nb_hf *h = v->h;
    NB_TRY(nb_hf_vocab_index(v, err));
    NB_TRY(fill_gaps(v, err));
    nb_hf_put_str(h, "tokenizer.ggml.model", nb_str_of(v->kind));
    put_pre(v);
    nb_hf_put_strings(h, "tokenizer.ggml.tokens", v->tokens, v->rows);
    if (v->scored)
        nb_hf_put_array(h, "tokenizer.ggml.scores", NB_GGUF_F32, v->scores, v->rows, sizeof *v->scores);
    nb_hf_put_array(h, "tokenizer.ggml.token_type", NB_GGUF_I32, v->types, v->rows, sizeof *v->types);
    if (v->merge_count)
        nb_hf_put_strings(h, "tokenizer.ggml.merges", v->merges, v->merge_count);
    if (v->normalizer.n)
        nb_hf_put_str(h, "nibble.tokenizer.normalizer", v->normalizer);
    put_space(v);
    return nb_hf_special(v, err);
}

/* tiktoken's files: ranks, and the rest in the model's own code */
nb_status nb_hf_vocab_ranks(const nb_hf_vocab *v, const char *name, nb_error *err)
{
    return nb_fail(err, NB_ERR_UNSUPPORTED,
                   "%s/%s: is a tokenizer of tiktoken's ranks alone, which is not read; put a tokenizer.json beside it (that of "
                   "a later release of the model, or what transformers makes of it)",
                   v->h->dir, name);
}

static nb_status make(nb_hf_vocab *v, nb_error *err)
{
    static const char *const ranks[] = {"qwen.tiktoken", "tiktoken.model"};
    v->tokens = NB_ARRAY(&v->arena, nb_str, v->rows + 1);
    v->scores = NB_ARRAY(&v->arena, float, v->rows + 1);
    v->types = NB_ARRAY(&v->arena, int32_t, v->rows + 1);
    if (!v->tokens || !v->scores || !v->types)
        return nb_fail_memory(err, "vocabulary", v->rows * 24);
    NB_TRY(read_files(v, err));
    if (v->kind)
        return put_all(v, err);
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
        if (nb_hf_holds(v->h->dir, ranks[i]))
            return nb_hf_vocab_ranks(v, ranks[i], err);
    nb_hf_put_str(v->h, "tokenizer.ggml.model", NB_STR("no_vocab"));
    nb_hf_put_u32(v->h, nb_hf_key(v->h, "vocab_size"), (uint32_t)v->rows); /* llama.cpp asks for it then */
    return NB_OK;
}

nb_status nb_hf_tokenizer(nb_hf *h, uint64_t vocab_size, nb_error *err)
{
    nb_hf_vocab v = {.h = h, .rows = (size_t)vocab_size, .add_space = -1};
    if (vocab_size == 0 || vocab_size > 1 << 24)
        return nb_fail(err, NB_ERR_LIMIT, "%s: an embedding of %llu rows; vocabularies have 1 to %d", h->dir,
                       (unsigned long long)vocab_size, 1 << 24);
    nb_status status = make(&v, err);
    nb_tree_free(&v.json);
    nb_tree_free(&v.config);
    nb_tree_free(&v.map);
    nb_tree_free(&v.vocab);
    nb_buf_free(&v.model);
    nb_arena_free(&v.arena);
    return status;
}
