#include "text/tokenizer.h"

#include <math.h>
#include <stdlib.h>

#include <utf8proc.h>

#include "text/tokenizer_internal.h"

/* ---- lists of ids ---- */
bool nb_ids_reserve(nb_ids *ids, size_t more)
{
    size_t need, bytes;
    if (!nb_add(ids->count, more, &need))
        return false;
    if (need <= ids->cap)
        return true;
    size_t cap = nb_max_size(nb_max_size(ids->cap * 2, need), 16);
    int32_t *grown = nb_mul(cap, sizeof *grown, &bytes) ? realloc(ids->id, bytes) : NULL;
    if (!grown)
        return false;
    ids->id = grown;
    ids->cap = cap;
    return true;
}

bool nb_ids_add(nb_ids *ids, int32_t id)
{
    if (!nb_ids_reserve(ids, 1))
        return false;
    ids->id[ids->count++] = id;
    return true;
}

void nb_ids_free(nb_ids *ids)
{
    free(ids->id);
    *ids = (nb_ids){0};
}

/* ---- making one ---- */
void nb_vocab_defaults(nb_vocab *vocab, nb_str model)
{
    *vocab = (nb_vocab){.model = model,
                        .bos = -1,
                        .eos = -1,
                        .eot = -1,
                        .eom = -1,
                        .unk = -1,
                        .sep = -1,
                        .pad = -1,
                        .cls = -1,
                        .mask = -1};
    if (nb_str_eqz(model, "llama")) {
        vocab->bos = 1;
        vocab->eos = 2;
        vocab->unk = 0;
        vocab->add_bos = vocab->add_space_prefix = true;
    } else if (nb_str_eqz(model, "bert")) {
        vocab->bos = vocab->cls = 101;
        vocab->unk = 100;
        vocab->sep = 102;
        vocab->pad = 0;
        vocab->mask = 103;
        vocab->add_bos = vocab->lowercase = vocab->strip_accents = true;
    } else if (nb_str_eqz(model, "t5")) {
        vocab->eos = 1;
        vocab->unk = 2;
        vocab->pad = 0;
        vocab->add_eos = true;
    }
}

static const nb_token_model *find_model(nb_str name)
{
    static const nb_token_model *const models[] = {&nb_model_bpe, &nb_model_spm, &nb_model_wordpiece,
                                                   &nb_model_unigram};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (nb_str_eqz(name, models[i]->name))
            return models[i];
    return NULL;
}

static nb_status check_vocab(const nb_vocab *v, nb_error *err)
{
    const struct {
        const char *name;
        int32_t id;
    } ids[] = {{"bos", v->bos}, {"eos", v->eos}, {"eot", v->eot}, {"eom", v->eom},  {"unk", v->unk},
               {"sep", v->sep}, {"pad", v->pad}, {"cls", v->cls}, {"mask", v->mask}};
    if (v->count == 0 || v->count > INT32_MAX)
        return nb_fail(err, NB_ERR_FORMAT, "vocabulary: %zu tokens; there must be 1 to %d", v->count, INT32_MAX);
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i].id < -1 || (ids[i].id >= 0 && (size_t)ids[i].id >= v->count))
            return nb_fail(err, NB_ERR_FORMAT, "vocabulary: its %s token is %d, but there are only %zu tokens",
                           ids[i].name, ids[i].id, v->count);
    for (size_t i = 0; i < v->count; i++) {
        if (v->tokens[i].n > UINT16_MAX)
            return nb_fail(err, NB_ERR_FORMAT, "vocabulary: token %zu has %zu bytes, more than any real one", i,
                           v->tokens[i].n);
        if (v->scores && isnan(v->scores[i]))
            return nb_fail(err, NB_ERR_FORMAT, "vocabulary: the score of token %zu is not a number", i);
        if (v->types && (v->types[i] < 0 || v->types[i] > NB_TOKEN_BYTE))
            return nb_fail(err, NB_ERR_FORMAT, "vocabulary: token %zu has type %d; types are 0 to %d", i, v->types[i],
                           NB_TOKEN_BYTE);
    }
    return NB_OK;
}

int32_t nb_tokenizer_find_hashed(const nb_tokenizer *t, const char *p, size_t n)
{
    if (n > t->longest)
        return -1;
    uint32_t hash = (uint32_t)nb_hash(p, n);
    for (size_t i = hash & t->slot_mask;; i = (i + 1) & t->slot_mask) {
        const nb_slot *slot = &t->slots[i];
        if (slot->id < 0)
            return -1;
        if (slot->hash == hash && t->pieces[slot->id].n == n && memcmp(t->pieces[slot->id].p, p, n) == 0)
            return slot->id;
    }
}

/* of equal pieces the last one is found, as in the reader that files are made for */
static void index_piece(nb_tokenizer *t, int32_t id)
{
    nb_str s = t->pieces[id];
    uint32_t hash = (uint32_t)nb_hash(s.p, s.n);
    size_t i = hash & t->slot_mask;
    while (t->slots[i].id >= 0 && !(t->slots[i].hash == hash && nb_str_eq(t->pieces[t->slots[i].id], s)))
        i = (i + 1) & t->slot_mask;
    t->slots[i] = (nb_slot){.hash = hash, .id = id};
}

static nb_status build_index(nb_tokenizer *t, const nb_vocab *vocab, nb_error *err)
{
    size_t n = vocab->count, cap = 16;
    while (cap / 2 < n)
        cap *= 2;
    t->pieces = NB_ARRAY(&t->arena, nb_str, n);
    t->types = NB_ARRAY(&t->arena, unsigned char, n);
    t->ends = NB_ARRAY(&t->arena, unsigned char, n);
    t->scores = vocab->scores ? NB_ARRAY(&t->arena, float, n) : NULL;
    t->slots = NB_ARRAY(&t->arena, nb_slot, cap);
    if (!t->pieces || !t->types || !t->ends || !t->slots || (vocab->scores && !t->scores))
        return nb_fail_memory(err, "vocabulary", cap * sizeof(nb_slot) + n * 24);
    t->slot_mask = cap - 1;
    memset(t->slots, 0xFF, cap * sizeof *t->slots);
    memcpy(t->pieces, vocab->tokens, n * sizeof *t->pieces);
    if (t->scores)
        memcpy(t->scores, vocab->scores, n * sizeof *t->scores);
    for (size_t i = 0; i < n; i++) {
        t->types[i] = vocab->types ? (unsigned char)vocab->types[i] : NB_TOKEN_NORMAL;
        t->longest = nb_max_size(t->longest, t->pieces[i].n);
        if (t->pieces[i].n)
            index_piece(t, (int32_t)i);
    }
    return NB_OK;
}

int nb_piece_byte(nb_str s)
{
    int value = 0;
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        char c = s.p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static void find_byte_tokens(nb_tokenizer *t)
{
    for (int byte = 0; byte < 256; byte++)
        t->byte_id[byte] = -1;
    for (size_t i = 0; i < t->vocab.count; i++) {
        int byte = t->types[i] == NB_TOKEN_BYTE || t->types[i] == NB_TOKEN_NORMAL ? nb_piece_byte(t->pieces[i]) : -1;
        if (byte >= 0 && (t->byte_id[byte] < 0 || t->types[i] == NB_TOKEN_BYTE))
            t->byte_id[byte] = (int32_t)i;
    }
}

/* ---- what ends a reply ---- */
static bool has(const nb_tokenizer *t, const char *piece) { return nb_tokenizer_find(t, nb_str_of(piece)) >= 0; }

static void mark_end(nb_tokenizer *t, const char *piece)
{
    int32_t id = nb_tokenizer_find(t, nb_str_of(piece));
    if (id < 0)
        return;
    t->ends[id] = 1;
    if (t->types[id] == NB_TOKEN_NORMAL || t->types[id] == NB_TOKEN_USER_DEFINED)
        t->types[id] = NB_TOKEN_CONTROL; /* files that mark them as text are mistaken */
}

static void find_ends(nb_tokenizer *t)
{
    static const char *const turn_ends[] = {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>",         "<|endoftext|>",     "<|end_of_text|>",
        "<EOT>",      "_<EOT>",     "[EOT]",   "<｜end▁of▁sentence｜>", "<end_of_utterance>"};
    static const char *const other_ends[] = {"<|return|>",       "<|call|>",      "<|flush|>",   "<|calls|>",
                                             "<|eom_id|>",       "[EOS]",         "<eos>",       "<turn|>",
                                             "<|tool_response>", "[e~[",          "<|fim_pad|>", "<|file_sep|>",
                                             "<|fim_repo|>",     "<|repo_name|>", "<reponame>",  "<fim_pad>"};
    static const char *const shown[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};
    bool harmony = has(t, "<|end|>") && ((has(t, "<|return|>") && has(t, "<|call|>")) ||
                                         (has(t, "<|flush|>") && (has(t, "<|call|>") || has(t, "<|calls|>"))));
    for (size_t i = 0; i < sizeof turn_ends / sizeof *turn_ends; i++) {
        int32_t id = nb_tokenizer_find(t, nb_str_of(turn_ends[i]));
        if (harmony && nb_str_eqz(nb_str_of(turn_ends[i]), "<|end|>"))
            continue; /* there it ends a message, not the reply */
        mark_end(t, turn_ends[i]);
        if (id >= 0 && t->vocab.eot < 0)
            t->vocab.eot = id;
    }
    for (size_t i = 0; i < sizeof other_ends / sizeof *other_ends; i++)
        mark_end(t, other_ends[i]);
    if (!has(t, "<|tool_response>"))
        mark_end(t, "</s>");
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        int32_t id = nb_tokenizer_find(t, nb_str_of(shown[i]));
        if (id >= 0)
            t->types[id] = NB_TOKEN_USER_DEFINED; /* gpt-oss: whoever reads the reply needs them */
    }
    if (t->vocab.eom < 0)
        t->vocab.eom = nb_tokenizer_find(t, NB_STR("<|eom_id|>"));
    int32_t ids[] = {t->vocab.eos, t->vocab.eot, t->vocab.eom};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        if (ids[i] >= 0)
            t->ends[ids[i]] = 1;
}

static nb_status build(nb_tokenizer *t, const nb_vocab *vocab, nb_error *err)
{
    NB_TRY(build_index(t, vocab, err));
    find_byte_tokens(t);
    if (t->model != &nb_model_wordpiece)
        find_ends(t);
    NB_TRY(nb_special_build(t, err));
    return t->model->build(t, vocab, err);
}

nb_status nb_tokenizer_new(const nb_vocab *vocab, nb_tokenizer **out, nb_error *err)
{
    *out = NULL;
    const nb_token_model *model = find_model(vocab->model);
    if (!model)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "tokenizer model '%.*s' is not known; gpt2, llama, bert and t5 are",
                       NB_STR_ARG(vocab->model));
    NB_TRY(check_vocab(vocab, err));
    nb_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return nb_fail_memory(err, "tokenizer", sizeof *t);
    t->vocab = *vocab;
    t->vocab.tokens = t->vocab.merges = NULL;
    t->vocab.scores = NULL;
    t->vocab.types = NULL;
    t->vocab.expressions = NULL;
    t->vocab.charsmap = NULL;
    t->model = model;
    nb_status status = build(t, vocab, err);
    if (status != NB_OK) {
        nb_tokenizer_free(t);
        return status;
    }
    *out = t;
    return NB_OK;
}

void nb_tokenizer_free(nb_tokenizer *t)
{
    if (!t)
        return;
    nb_pretokenizer_free(t->pre);
    nb_arena_free(&t->arena);
    free(t);
}

/* ---- words of one call ---- */
struct nb_memo {
    uint32_t hash, offset, first; /* first: of its ids in the output */
    uint16_t bytes, ids;          /* bytes 0: empty */
};

enum { MEMO_FROM = 256, MEMO_LEAST = 64, MEMO_MOST = 1 << 15 };

static bool memo_init(nb_run *run, size_t text_bytes)
{
    size_t entries = MEMO_LEAST;
    if (text_bytes < MEMO_FROM)
        return true;
    while (entries < MEMO_MOST && entries < text_bytes / 8)
        entries *= 2;
    run->memo = calloc(entries, sizeof *run->memo);
    run->memo_mask = entries - 1;
    return run->memo != NULL;
}

bool nb_memo_find(nb_run *run, const char *base, size_t offset, size_t n, uint64_t hash)
{
    const nb_memo *memo = run->memo ? &run->memo[hash & run->memo_mask] : NULL;
    if (!memo || memo->bytes != n || memo->hash != hash >> 32 || memcmp(base + memo->offset, base + offset, n) != 0 ||
        !nb_ids_reserve(run->out, memo->ids))
        return false;
    for (size_t i = 0; i < memo->ids; i++)
        run->out->id[run->out->count + i] = run->out->id[memo->first + i];
    run->out->count += memo->ids;
    return true;
}

void nb_memo_put(nb_run *run, size_t offset, size_t n, uint64_t hash, size_t first)
{
    size_t ids = run->out->count - first;
    if (!run->memo || n == 0 || n > UINT16_MAX || ids > UINT16_MAX || first > UINT32_MAX)
        return;
    run->memo[hash & run->memo_mask] = (nb_memo){.hash = (uint32_t)(hash >> 32),
                                                 .offset = (uint32_t)offset,
                                                 .first = (uint32_t)first,
                                                 .bytes = (uint16_t)n,
                                                 .ids = (uint16_t)ids};
}

nb_status nb_run_byte(nb_run *run, unsigned char byte, nb_error *err)
{
    int32_t id = run->t->byte_id[byte];
    if (id < 0)
        id = run->t->vocab.unk;
    if (id < 0)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "text: the vocabulary has no token for byte 0x%02X and none for the unknown", byte);
    return nb_ids_add(run->out, id) ? NB_OK : nb_fail_memory(err, "token ids", run->out->cap * 2 * sizeof(int32_t));
}

void nb_run_mark_spaces(nb_run *run, nb_str text)
{
    if (!nb_buf_reserve(&run->text, text.n))
        return;
    while (text.n > 0) {
        const char *space = memchr(text.p, ' ', text.n);
        size_t plain = space ? (size_t)(space - text.p) : text.n;
        nb_buf_add(&run->text, text.p, plain);
        if (space)
            nb_buf_add(&run->text, "\xE2\x96\x81", 3);
        plain += space != NULL;
        text.p += plain;
        text.n -= plain;
    }
}

/* ---- encoding ---- */
static nb_status add_id(nb_run *run, int32_t id, nb_error *err)
{
    return nb_ids_add(run->out, id) ? NB_OK : nb_fail_memory(err, "token ids", run->out->cap * 2 * sizeof(int32_t));
}

static nb_status add_before(nb_run *run, nb_error *err)
{
    const nb_vocab *v = &run->t->vocab;
    if (run->t->model == &nb_model_wordpiece)
        return v->cls >= 0 ? add_id(run, v->cls, err) : v->bos >= 0 ? add_id(run, v->bos, err) : NB_OK;
    return v->add_bos && v->bos >= 0 ? add_id(run, v->bos, err) : NB_OK;
}

static nb_status add_after(nb_run *run, nb_error *err)
{
    const nb_vocab *v = &run->t->vocab;
    if (run->t->model == &nb_model_wordpiece)
        return v->sep >= 0 ? add_id(run, v->sep, err) : NB_OK;
    return v->add_eos && v->eos >= 0 ? add_id(run, v->eos, err) : NB_OK;
}

static nb_status encode_fragments(nb_run *run, nb_str text, const nb_fragments *fragments, nb_error *err)
{
    for (size_t i = 0; i < fragments->count; i++) {
        const nb_fragment *f = &fragments->at[i];
        if (f->id >= 0) {
            NB_TRY(add_id(run, f->id, err));
            run->after_special = true;
        } else {
            NB_TRY(run->t->model->encode(run, (nb_str){text.p + f->begin, f->end - f->begin}, err));
            run->after_special = false;
        }
    }
    return NB_OK;
}

/* The text in the vocabulary's normal form; *memory is the copy to free, NULL where the text is as it should be. */
static nb_status normalize(const nb_tokenizer *t, nb_str *text, utf8proc_uint8_t **memory, nb_error *err)
{
    static const utf8proc_option_t forms[] = {
        [NB_NORMAL_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [NB_NORMAL_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [NB_NORMAL_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [NB_NORMAL_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    bool ascii = true;
    *memory = NULL;
    for (size_t i = 0; i < text->n && ascii && t->vocab.normal_form != NB_NORMAL_NONE; i++)
        ascii = (unsigned char)text->p[i] < 128;
    if (ascii)
        return NB_OK;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text->p, (utf8proc_ssize_t)text->n, memory,
                                      forms[t->vocab.normal_form]);
    if (n == UTF8PROC_ERROR_NOMEM)
        return nb_fail_memory(err, "normalized text", text->n);
    if (n >= 0)
        *text = (nb_str){(const char *)*memory, (size_t)n};
    return NB_OK;
}

static nb_status encode(const nb_tokenizer *t, nb_str text, unsigned flags, nb_ids *out, nb_error *err)
{
    nb_run run = {.t = t, .out = out, .after_special = true, .source = text};
    nb_fragments fragments = {0};
    size_t before = out->count;
    nb_status status = nb_special_split(t, text, flags & NB_ENCODE_PARSE_SPECIAL, &fragments, err);
    if (status == NB_OK && !memo_init(&run, text.n))
        status = nb_fail_memory(err, "tokenizer", MEMO_MOST * sizeof(nb_memo));
    if (status == NB_OK && flags & NB_ENCODE_ADD_SPECIAL)
        status = add_before(&run, err);
    if (status == NB_OK)
        status = encode_fragments(&run, text, &fragments, err);
    if (status == NB_OK && flags & NB_ENCODE_ADD_SPECIAL)
        status = add_after(&run, err);
    if (status != NB_OK)
        out->count = before;
    nb_merger_free(&run.merger);
    nb_words_free(&run.words);
    nb_buf_free(&run.text);
    nb_buf_free(&run.scratch);
    free(run.memo);
    free(fragments.at);
    return status;
}

nb_status nb_tokenizer_encode(const nb_tokenizer *t, nb_str text, unsigned flags, nb_ids *out, nb_error *err)
{
    utf8proc_uint8_t *memory;
    if (text.n > INT32_MAX / 4)
        return nb_fail(err, NB_ERR_LIMIT, "text: %zu bytes, more than the %d that can be tokenized at once", text.n,
                       INT32_MAX / 4);
    NB_TRY(normalize(t, &text, &memory, err));
    nb_status status = encode(t, text, flags, out, err);
    free(memory);
    return status;
}

/* ---- looking ---- */
size_t nb_tokenizer_count(const nb_tokenizer *t) { return t->vocab.count; }

nb_str nb_tokenizer_piece(const nb_tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->vocab.count ? t->pieces[id] : NB_STR("");
}

nb_token_type nb_tokenizer_type(const nb_tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->vocab.count ? (nb_token_type)t->types[id] : NB_TOKEN_UNDEFINED;
}

int32_t nb_tokenizer_find(const nb_tokenizer *t, nb_str piece)
{
    return piece.n ? nb_tokenizer_find_hashed(t, piece.p, piece.n) : -1;
}

const nb_vocab *nb_tokenizer_vocab(const nb_tokenizer *t) { return &t->vocab; }

bool nb_tokenizer_ends(const nb_tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->vocab.count && t->ends[id];
}
