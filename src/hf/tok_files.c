/* Vocabularies in the older files: vocab.json with merges.txt (GPT-2), vocab.txt (BERT). */
#include <stdio.h>

#include "base/fail_at.h"
#include "hf/hf_vocab.h"

static nb_str next_line(nb_str *text)
{
    const char *end = text->n ? memchr(text->p, '\n', text->n) : NULL;
    nb_str line = {text->p, end ? (size_t)(end - text->p) : text->n};
    size_t step = line.n + (end != NULL);
    *text = (nb_str){text->p + step, text->n - step};
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static size_t count_lines(nb_str text)
{
    size_t n = 0;
    while (text.n) {
        next_line(&text);
        n++;
    }
    return n;
}

static nb_status read_merges(nb_hf_vocab *v, nb_error *err)
{
    char path[4096];
    nb_str text = nb_buf_view(&v->model);
    nb_str all = text;
    snprintf(path, sizeof path, "%s/merges.txt", v->h->dir);
    v->merges = NB_ARRAY(&v->arena, nb_str, count_lines(text) + 1);
    if (!v->merges)
        return nb_fail_memory(err, "merges", text.n);
    while (text.n) {
        size_t at = (size_t)(text.p - all.p);
        nb_str line = next_line(&text);
        if (line.n == 0 || (at == 0 && nb_str_starts(line, NB_STR("#version"))))
            continue;
        const char *space = memchr(line.p, ' ', line.n);
        if (!space || space == line.p || space + 1 == line.p + line.n ||
            memchr(space + 1, ' ', line.n - (size_t)(space + 1 - line.p)))
            return nb_fail_at(path, at, err, NB_ERR_FORMAT,
                              "not two pieces with a space between; download the file again");
        v->merges[v->merge_count++] = line;
    }
    return NB_OK;
}

nb_status nb_hf_vocab_merges(nb_hf_vocab *v, nb_error *err)
{
    NB_TRY(read_merges(v, err));
    for (const nb_node *n = v->vocab.root->list.first; n; n = n->next) {
        uint64_t id = 0;
        NB_TRY(nb_node_u64(&v->vocab, n, 0, INT32_MAX, &id, err));
        NB_TRY(nb_hf_vocab_set(v, id, n->key, NB_TOKEN_NORMAL, 0, false, err));
    }
    v->kind = "gpt2";
    v->expressions[0] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    v->expression_count = 1;
    return NB_OK;
}

/* "##ing" inside a word, "▁sing" at its start: how GGUF spells what WordPiece has as "##ing" and "sing" */
nb_status nb_hf_vocab_word(nb_hf_vocab *v, uint64_t id, nb_str word, nb_token_type type, bool added, nb_error *err)
{
    if (type != NB_TOKEN_CONTROL && nb_str_starts(word, NB_STR("##"))) {
        word = (nb_str){word.p + 2, word.n - 2};
    } else if (type != NB_TOKEN_CONTROL) {
        char *copy = nb_arena_alloc(&v->arena, word.n + 3, 1);
        if (!copy)
            return nb_fail_memory(err, "vocabulary", word.n + 3);
        memcpy(copy, "\xE2\x96\x81", 3);
        if (word.n)
            memcpy(copy + 3, word.p, word.n);
        word = (nb_str){copy, word.n + 3};
    }
    return nb_hf_vocab_set(v, id, word, type, 0, added, err);
}

/* the special tokens that vocab.txt cannot mark */
static bool is_special(const nb_hf_vocab *v, nb_str word)
{
    static const char *const names[] = {"cls_token", "sep_token", "pad_token", "unk_token", "mask_token"};
    static const char *const usual[] = {"[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const nb_node *n = nb_node_get_kind(v->config.root, names[i], '"');
        if (n ? nb_str_eq(n->str, word) : nb_str_eqz(word, usual[i]))
            return true;
    }
    return false;
}

nb_status nb_hf_vocab_words(nb_hf_vocab *v, nb_error *err)
{
    nb_str text = nb_buf_view(&v->model);
    bool lower = nb_node_flag(v->config.root, "do_lower_case", true);
    for (uint64_t id = 0; text.n; id++) {
        nb_str word = next_line(&text);
        NB_TRY(nb_hf_vocab_word(v, id, word, is_special(v, word) ? NB_TOKEN_CONTROL : NB_TOKEN_NORMAL, false, err));
    }
    v->kind = "bert";
    nb_hf_put_bool(v->h, "tokenizer.ggml.normalizer.lowercase", lower);
    return NB_OK;
}
