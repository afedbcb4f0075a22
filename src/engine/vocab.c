#include "engine/vocab.h"

#include <math.h>
#include <strings.h>

#include "text/pretokenizer.h"

#define KEY "tokenizer.ggml."
#define OWN "nibble.tokenizer."

static nb_status bad(const nb_gguf *g, nb_error *err, const char *key, const char *what)
{
    return nb_fail(err, NB_ERR_FORMAT, "%s: " KEY "%s %s; convert the model again", nb_gguf_path(g), key, what);
}

/* A number array with an entry for each token; NULL where the key is absent. */
static nb_status find_table(const nb_gguf *g, const char *key, const char *name, bool floats, size_t count,
                            const nb_gguf_value **out, nb_error *err)
{
    const nb_gguf_value *v = *out = nb_gguf_find(g, key);
    if (!v)
        return NB_OK;
    bool is_float = v->element == NB_GGUF_F32 || v->element == NB_GGUF_F64;
    bool is_number = v->element <= NB_GGUF_F32 || (v->element >= NB_GGUF_U64 && v->element <= NB_GGUF_F64);
    if (v->kind != NB_GGUF_ARRAY || !is_number || is_float != floats)
        return bad(g, err, name, floats ? "is not an array of floats" : "is not an array of integers");
    if (v->count < count)
        return nb_fail(err, NB_ERR_FORMAT, "%s: %s has %zu entries for %zu tokens; convert the model again",
                       nb_gguf_path(g), key, v->count, count);
    return NB_OK;
}

static nb_status read_scores(const nb_gguf *g, nb_vocab *v, nb_arena *arena, nb_error *err)
{
    const nb_gguf_value *table;
    NB_TRY(find_table(g, KEY "scores", "scores", true, v->count, &table, err));
    if (!table)
        return NB_OK;
    float *scores = NB_ARRAY(arena, float, v->count);
    if (!scores)
        return nb_fail_memory(err, "token scores", v->count * sizeof *scores);
    for (size_t i = 0; i < v->count; i++) {
        scores[i] = (float)nb_gguf_elem_f64(table, i);
        if (isnan(scores[i]))
            return bad(g, err, "scores", "holds a NaN");
    }
    v->scores = scores;
    return NB_OK;
}

static nb_status read_types(const nb_gguf *g, nb_vocab *v, nb_arena *arena, nb_error *err)
{
    const nb_gguf_value *table;
    NB_TRY(find_table(g, KEY "token_type", "token_type", false, v->count, &table, err));
    if (!table)
        return NB_OK;
    int32_t *types = NB_ARRAY(arena, int32_t, v->count);
    if (!types)
        return nb_fail_memory(err, "token types", v->count * sizeof *types);
    for (size_t i = 0; i < v->count; i++) {
        int64_t type = nb_gguf_elem_i64(table, i);
        if (type < NB_TOKEN_UNDEFINED || type > NB_TOKEN_BYTE)
            return bad(g, err, "token_type", "holds a type that is not 0 to 6");
        types[i] = (int32_t)type;
    }
    v->types = types;
    return NB_OK;
}

/* keys of our own: how text is brought into a normal form and cut, where no name says it */
static nb_status read_cutting(const nb_gguf *g, nb_vocab *v, nb_arena *arena, nb_error *err)
{
    static const char *const forms[] = {"", "nfc", "nfd", "nfkc", "nfkd"}; /* by nb_normal_form */
    nb_str form = NB_STR("");
    nb_str *expressions;
    if (nb_gguf_find(g, OWN "normalizer"))
        NB_TRY(nb_gguf_get_str(g, OWN "normalizer", &form, err));
    while (v->normal_form <= NB_NORMAL_NFKD && !nb_str_eqz(form, forms[v->normal_form]))
        v->normal_form++;
    if (v->normal_form > NB_NORMAL_NFKD)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: " OWN "normalizer \"%.*s\" is not known (nfc, nfd, nfkc, nfkd are)", nb_gguf_path(g),
                       NB_STR_ARG(form));
    if (!nb_gguf_find(g, OWN "pre_expressions") || !nb_str_eqz(v->model, "gpt2"))
        return NB_OK;
    NB_TRY(nb_gguf_get_strings(g, OWN "pre_expressions", arena, &expressions, &v->expression_count, err));
    v->expressions = expressions;
    return nb_gguf_find(g, OWN "ignore_merges") ? nb_gguf_get_bool(g, OWN "ignore_merges", &v->ignore_merges, err)
                                                : NB_OK;
}

static nb_status read_tables(const nb_gguf *g, nb_vocab *v, nb_arena *arena, nb_error *err)
{
    nb_str *tokens, *merges;
    NB_TRY(nb_gguf_get_strings(g, KEY "tokens", arena, &tokens, &v->count, err));
    v->tokens = tokens;
    if (v->count == 0)
        return bad(g, err, "tokens", "is empty");
    NB_TRY(read_scores(g, v, arena, err));
    NB_TRY(read_types(g, v, arena, err));
    if (nb_str_eqz(v->model, "gpt2")) {
        NB_TRY(nb_gguf_get_strings(g, KEY "merges", arena, &merges, &v->merge_count, err));
        v->merges = merges;
    }
    NB_TRY(read_cutting(g, v, arena, err));
    const nb_gguf_value *map = nb_gguf_find(g, KEY "precompiled_charsmap");
    if (map && nb_str_eqz(v->model, "t5")) {
        if (map->kind != NB_GGUF_ARRAY || (map->element != NB_GGUF_U8 && map->element != NB_GGUF_I8))
            return bad(g, err, "precompiled_charsmap", "is not an array of bytes");
        v->charsmap = map->data;
        v->charsmap_bytes = map->bytes;
    }
    return NB_OK;
}

/* An optional id. 2^32 - 1 is how some writers say "none". */
static nb_status read_id(const nb_gguf *g, const char *key, size_t count, int32_t *id, nb_error *err)
{
    uint64_t value;
    if (*id >= 0 && (size_t)*id >= count)
        *id = -1; /* the default of the kind is not for so small a vocabulary */
    if (!nb_gguf_find(g, key))
        return NB_OK;
    if (nb_gguf_get_u64(g, key, &value, err) != NB_OK) {
        int64_t negative = 0;
        if (nb_gguf_get_i64(g, key, &negative, NULL) != NB_OK || negative != -1)
            return err ? err->code : NB_ERR_FORMAT;
        value = UINT32_MAX;
    }
    if (value == UINT32_MAX)
        *id = -1;
    else if (value >= count)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: %s is %llu, but the vocabulary has %zu tokens; correct the key or convert again",
                       nb_gguf_path(g), key, (unsigned long long)value, count);
    else
        *id = (int32_t)value;
    return NB_OK;
}

static nb_status read_ids(const nb_gguf *g, nb_vocab *v, nb_error *err)
{
    const struct {
        const char *key;
        int32_t *id;
    } ids[] = {
        {KEY "cls_token_id", &v->cls},     {KEY "bos_token_id", &v->bos},       {KEY "eos_token_id", &v->eos},
        {KEY "eot_token_id", &v->eot},     {KEY "eom_token_id", &v->eom},       {KEY "unknown_token_id", &v->unk},
        {KEY "padding_token_id", &v->pad}, {KEY "seperator_token_id", &v->sep}, {KEY "mask_token_id", &v->mask},
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        NB_TRY(read_id(g, ids[i].key, v->count, ids[i].id, err));
    if (nb_str_eqz(v->model, "bert")) { /* newer files give only one of the two */
        bool has_bos = nb_gguf_find(g, KEY "bos_token_id"), has_cls = nb_gguf_find(g, KEY "cls_token_id");
        if (has_bos)
            v->cls = v->bos;
        else if (has_cls)
            v->bos = v->cls;
    }
    return NB_OK;
}

static nb_status read_flag(const nb_gguf *g, const char *key, bool *flag, nb_error *err)
{
    return nb_gguf_find(g, key) ? nb_gguf_get_bool(g, key, flag, err) : NB_OK;
}

static nb_status read_flags(const nb_gguf *g, nb_vocab *v, nb_error *err)
{
    if (nb_str_eqz(v->model, "gpt2"))
        v->add_bos = nb_pretokenizer_flags(v->pre) & NB_PRE_ADD_BOS;
    NB_TRY(read_flag(g, KEY "add_bos_token", &v->add_bos, err));
    NB_TRY(read_flag(g, KEY "add_eos_token", &v->add_eos, err));
    NB_TRY(read_flag(g, KEY "add_space_prefix", &v->add_space_prefix, err));
    NB_TRY(read_flag(g, KEY "remove_extra_whitespaces", &v->remove_extra_whitespaces, err));
    NB_TRY(read_flag(g, KEY "normalizer.lowercase", &v->lowercase, err));
    if (nb_gguf_find(g, KEY "normalizer.lowercase"))
        v->strip_accents = v->lowercase;
    return read_flag(g, KEY "normalizer.strip_accents", &v->strip_accents, err);
}

/* Phi-3's special tokens take the whitespace after them; the file has no key for it but the model's name. */
static bool is_phi3(const nb_gguf *g)
{
    nb_str name;
    if (nb_gguf_get_str(g, "general.name", &name, NULL) != NB_OK)
        return false;
    for (size_t i = 0; i + 4 <= name.n; i++)
        if (strncasecmp(name.p + i, "phi3", 4) == 0 || (i + 5 <= name.n && strncasecmp(name.p + i, "phi-3", 5) == 0))
            return true;
    return false;
}

/* A model without a tokenizer: as many tokens as the embedding has rows, none of which any text gives. */
static nb_status make_nothing(const nb_gguf *g, nb_vocab *v, nb_arena *arena, nb_error *err)
{
    const nb_gguf_tensor *embedding = nb_gguf_find_tensor(g, NB_STR("token_embd.weight"));
    v->count = embedding ? embedding->dims[1] : 0;
    nb_str *tokens = v->count <= INT32_MAX ? NB_ARRAY(arena, nb_str, v->count + 1) : NULL;
    int32_t *types = tokens ? NB_ARRAY(arena, int32_t, v->count + 1) : NULL;
    float *scores = types ? NB_ARRAY(arena, float, v->count + 1) : NULL;
    if (!scores)
        return nb_fail_memory(err, "vocabulary", v->count * sizeof *tokens);
    for (size_t i = 0; i < v->count; i++) {
        tokens[i] = NB_STR("");
        types[i] = NB_TOKEN_UNUSED;
        scores[i] = 0;
    }
    v->tokens = tokens;
    v->types = types;
    v->scores = scores;
    v->bos = v->eos = v->unk = -1;
    return NB_OK;
}

nb_status nb_tokenizer_from_gguf(const nb_gguf *g, const char *pre_override, nb_tokenizer **out, nb_error *err)
{
    nb_vocab v;
    nb_str model, pre = NB_STR("");
    nb_arena arena = {0};
    *out = NULL;
    NB_TRY(nb_gguf_get_str(g, KEY "model", &model, err));
    if (nb_gguf_find(g, KEY "pre"))
        NB_TRY(nb_gguf_get_str(g, KEY "pre", &pre, err));
    if (nb_str_eqz(model, "gemma4")) { /* BPE over characters, with a name of its own */
        model = NB_STR("gpt2");
        pre = NB_STR("gemma4");
    }
    bool nothing = nb_str_eqz(model, "no_vocab") || nb_str_eqz(model, "none");
    nb_vocab_defaults(&v, nothing ? NB_STR("llama") : model);
    v.pre = pre_override ? nb_str_of(pre_override) : pre;
    v.special_eats_space = is_phi3(g);
    nb_status status = nothing ? make_nothing(g, &v, &arena, err) : read_tables(g, &v, &arena, err);
    if (status == NB_OK && !nothing)
        status = read_ids(g, &v, err);
    if (status == NB_OK && !nothing)
        status = read_flags(g, &v, err);
    if (status == NB_OK) {
        status = nb_tokenizer_new(&v, out, err);
        if (status != NB_OK)
            nb_fail_prefix(err, status, "%s", nb_gguf_path(g));
    }
    nb_arena_free(&arena);
    return status;
}
