/* Special tokens, what is put before and after a text, and the chat template: tokenizer_config.json, special_tokens_map.json,
 * the post_processor of tokenizer.json, chat_template.jinja, config.json. */
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "hf/hf_vocab.h"

typedef enum role { BOS, EOS, UNK, SEP, PAD, CLS, MASK, EOT, ROLES } role;

static const struct {
    const char *token, *id, *add, *key, *add_key;
} rows[ROLES] = {
    {"bos_token", "bos_token_id", "add_bos_token", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token"},
    {"eos_token", "eos_token_id", "add_eos_token", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_eos_token"},
    {"unk_token", "unk_token_id", NULL, "tokenizer.ggml.unknown_token_id", NULL},
    {"sep_token", "sep_token_id", "add_sep_token", "tokenizer.ggml.seperator_token_id", "tokenizer.ggml.add_sep_token"},
    {"pad_token", "pad_token_id", NULL, "tokenizer.ggml.padding_token_id", NULL},
    {"cls_token", "cls_token_id", NULL, "tokenizer.ggml.cls_token_id", NULL},
    {"mask_token", "mask_token_id", NULL, "tokenizer.ggml.mask_token_id", NULL},
    {NULL, NULL, NULL, "tokenizer.ggml.eot_token_id", NULL},
};

typedef struct specials {
    nb_str text[ROLES]; /* n 0: none */
    int add[ROLES];     /* -1: nobody said */
} specials;

/* a token as a string, or as an object with its content */
static nb_str token_text(const nb_node *n)
{
    if (n && n->kind == '{')
        n = nb_node_get_kind(n, "content", '"');
    return n && n->kind == '"' ? n->str : NB_STR("");
}

static void read_texts(const nb_hf_vocab *v, specials *s)
{
    for (int r = 0; r < ROLES; r++) {
        s->add[r] = -1;
        if (!rows[r].token)
            continue;
        s->text[r] = token_text(nb_node_get(v->config.root, rows[r].token));
        if (s->text[r].n == 0)
            s->text[r] = token_text(nb_node_get(v->map.root, rows[r].token));
    }
    if (s->text[BOS].n == 0)
        s->text[BOS] = s->text[CLS];
    if (s->text[EOS].n == 0)
        s->text[EOS] = s->text[SEP];
}

/* what XLM-RoBERTa's and CamemBERT's tokenizers do without being told */
static void usual_fairseq(specials *s)
{
    static const char *const usual[ROLES] = {[BOS] = "<s>",   [EOS] = "</s>", [UNK] = "<unk>",  [SEP] = "</s>",
                                             [PAD] = "<pad>", [CLS] = "<s>",  [MASK] = "<mask>"};
    for (int r = 0; r < ROLES; r++)
        if (s->text[r].n == 0 && usual[r])
            s->text[r] = nb_str_of(usual[r]);
    s->add[BOS] = s->add[EOS] = s->add[SEP] = 1;
}

/* ---- the post-processor ---- */

static nb_str template_token(const nb_node *item)
{
    const nb_node *id = nb_node_get_kind(nb_node_get(item, "SpecialToken"), "id", '"');
    return id ? id->str : NB_STR("");
}

static bool is_sep(const specials *s, nb_str text)
{
    return text.n && (nb_str_eq(text, s->text[SEP]) || nb_str_eq(text, s->text[EOS]));
}

/* what stands between the two texts of a pair: sequence A, separators, sequence B */
static void read_pair(const nb_node *pair, specials *s)
{
    const nb_node *n = pair ? pair->list.first : NULL;
    while (n && !nb_node_get(n, "Sequence"))
        n = n->next;
    n = n ? n->next : NULL;
    if (!n || !template_token(n).n)
        return;
    bool last = s->add[EOS] == 1;
    const nb_node *second = n->next && template_token(n->next).n ? n->next : NULL;
    s->add[SEP] = (is_sep(s, template_token(n)) && !last) || (second && is_sep(s, template_token(second)));
}

static void read_template(const nb_node *step, specials *s)
{
    const nb_node *single = nb_node_get_kind(step, "single", '['), *last = single ? single->list.first : NULL;
    if (!last || single->list.count < 2)
        return;
    nb_str first_text = template_token(last);
    while (last->next)
        last = last->next;
    nb_str last_text = template_token(last);
    if (first_text.n) {
        if (s->text[BOS].n == 0)
            s->text[BOS] = first_text;
        s->add[BOS] = nb_str_eq(first_text, s->text[BOS]) || nb_str_eq(first_text, s->text[CLS]);
    }
    if (last_text.n) {
        if (!nb_str_eq(last_text, s->text[EOS])) {
            s->text[EOT] = s->text[EOS];
            s->text[EOS] = last_text;
        }
        s->add[EOS] = 1;
    }
    read_pair(nb_node_get_kind(step, "pair", '['), s);
}

static void read_processor(const nb_node *step, specials *s)
{
    const nb_node *list = nb_node_get_kind(step, "processors", '[');
    for (const nb_node *n = list ? list->list.first : NULL; n; n = n->next)
        read_processor(n, s);
    if (nb_node_is(step, "type", "RobertaProcessing"))
        s->add[BOS] = s->add[EOS] = s->add[SEP] = 1;
    if (nb_node_is(step, "type", "TemplateProcessing"))
        read_template(step, s);
}

/* ---- ids ---- */

static void put_id(nb_hf_vocab *v, const specials *s, role r)
{
    int32_t id = s->text[r].n ? nb_hf_vocab_find(v, s->text[r]) : -1;
    const nb_node *n = id < 0 && rows[r].id ? nb_hf_config(v->h, rows[r].id) : NULL;
    n = n && n->kind == '[' ? n->list.first : n; /* several: the first */
    if (n && n->kind == '0' && n->num >= 0 && n->num < (double)v->rows)
        id = (int32_t)n->num;
    if (id >= 0)
        nb_hf_put_u32(v->h, rows[r].key, (uint32_t)id);
}

static void put_flags(nb_hf_vocab *v, specials *s)
{
    for (int r = 0; r < ROLES; r++) {
        const nb_node *n = rows[r].add ? nb_node_get_kind(v->config.root, rows[r].add, 't') : NULL;
        if (n)
            s->add[r] = n->kind == 't';
        if (r == BOS && s->add[r] < 0 && strcmp(v->kind, "gpt2") == 0)
            s->add[r] = 0; /* readers take other values for some pre-tokenizers */
        if (s->add[r] >= 0 && rows[r].add_key)
            nb_hf_put_bool(v->h, rows[r].add_key, s->add[r]);
    }
}

/* ---- the chat template ---- */

static nb_status put_templates(nb_hf_vocab *v, const nb_node *list, nb_error *err)
{
    nb_str names[64];
    size_t count = 0;
    char key[160];
    for (const nb_node *n = list->list.first; n; n = n->next) {
        const nb_node *name = nb_node_get_kind(n, "name", '"'), *text = nb_node_get_kind(n, "template", '"');
        if (!name || !text || name->str.n == 0 || name->str.n > 100)
            return nb_tree_bad(&v->config, list, err, NB_ERR_FORMAT, "has a template without name or text");
        if (nb_str_eqz(name->str, "default")) {
            nb_hf_put_str(v->h, "tokenizer.chat_template", text->str);
            continue;
        }
        size_t at = (size_t)snprintf(key, sizeof key, "tokenizer.chat_template.");
        for (size_t i = 0; i < name->str.n; i++) { /* keys are of letters, digits and '_' */
            char c = name->str.p[i];
            bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
            key[at++] = plain ? c : '_';
        }
        key[at] = '\0';
        nb_hf_put_str(v->h, key, text->str);
        if (count < 64)
            names[count++] = name->str;
    }
    if (count)
        nb_hf_put_strings(v->h, "tokenizer.chat_templates", names, count);
    return NB_OK;
}

static nb_status chat_template(nb_hf_vocab *v, nb_error *err)
{
    const nb_node *n = nb_node_get(v->config.root, "chat_template");
    char path[PATH_MAX];
    struct stat info;
    nb_buf text = {0};
    if (n && n->kind == '[')
        return put_templates(v, n, err);
    if (n && n->kind == '"') {
        nb_hf_put_str(v->h, "tokenizer.chat_template", n->str);
        return NB_OK;
    }
    int m = snprintf(path, sizeof path, "%s/chat_template.jinja", v->h->dir);
    if (m < 0 || (size_t)m >= sizeof path || stat(path, &info) != 0)
        return NB_OK;
    nb_status status = nb_file_read(path, 16 << 20, &text, err);
    if (status == NB_OK)
        nb_hf_put_str(v->h, "tokenizer.chat_template", nb_buf_view(&text));
    nb_buf_free(&text);
    return status;
}

nb_status nb_hf_special(nb_hf_vocab *v, nb_error *err)
{
    specials s = {0};
    read_texts(v, &s);
    if (v->fairseq)
        usual_fairseq(&s);
    read_processor(nb_node_get_kind(v->json.root, "post_processor", '{'), &s);
    for (int r = 0; r < ROLES; r++)
        put_id(v, &s, (role)r);
    put_flags(v, &s);
    return chat_template(v, err);
}
