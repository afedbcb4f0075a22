/* sentence-transformers: what its files beside a checkpoint do with the tokens' rows. modules.json names the modules (pooling,
 * dense layers, normalization), N_Pooling and N_Dense hold their settings and weights, sentence_bert_config.json the longest
 * text, config_sentence_transformers.json the prompts. What we cannot do as it does is refused by its name. */
#include <stdio.h>

#include "format/embedding_keys.h"
#include "hf/hf_rows.h"

enum { PROMPTS_MOST = 256 };

typedef struct chain { /* modules so far */
    nb_hf *h;
    nb_tree modules;
    int dense;
    bool pooled, normalized;
} chain;

static bool ends_in(nb_str s, const char *end)
{
    size_t n = strlen(end);
    return s.n >= n && memcmp(s.p + s.n - n, end, n) == 0;
}

/* the folder of a module: beside modules.json, nowhere else */
static nb_status module_path(const chain *c, const nb_node *module, char path[128], nb_error *err)
{
    const nb_node *n = nb_node_get_kind(module, "path", '"');
    if (!n || n->str.n == 0 || n->str.n > 64 || memchr(n->str.p, '/', n->str.n) || n->str.p[0] == '.' ||
        memchr(n->str.p, 0, n->str.n))
        return nb_tree_bad(&c->modules, n ? n : module, err, NB_ERR_FORMAT, "has no path of a folder beside it");
    snprintf(path, 128, "%.*s", NB_STR_ARG(n->str));
    return NB_OK;
}

/* ---- pooling ---- */

static const struct {
    const char *flag, *mode;
    uint32_t type; /* as GGUF numbers it; 0: it has no number */
} poolings[] = {{"pooling_mode_mean_tokens", "mean", 1},
                {"pooling_mode_cls_token", "cls", 2},
                {"pooling_mode_lasttoken", "lasttoken", 3},
                {"pooling_mode_max_tokens", "max", 0},
                {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", 0},
                {"pooling_mode_weightedmean_tokens", "weightedmean", 0}};

static bool asks_for(const nb_node *config, size_t i)
{
    const nb_node *mode = nb_node_get(config, "pooling_mode");
    for (const nb_node *n = mode && mode->kind == '[' ? mode->list.first : NULL; n; n = n->next)
        if (n->kind == '"' && nb_str_eqz(n->str, poolings[i].mode))
            return true;
    return mode ? mode->kind == '"' && nb_str_eqz(mode->str, poolings[i].mode)
                : nb_node_flag(config, poolings[i].flag, false);
}

static nb_status take_pooling(nb_hf *h, const nb_tree *t, nb_error *err)
{
    const char *asked = NULL;
    uint32_t type = 0;
    for (size_t i = 0; i < sizeof poolings / sizeof *poolings; i++) {
        if (!asks_for(t->root, i))
            continue;
        if (asked || !poolings[i].type)
            return nb_tree_bad(t, NULL, err, NB_ERR_UNSUPPORTED,
                               "asks for the pooling \"%s\"%s%s; one of mean, cls and lasttoken alone is supported",
                               poolings[i].mode, asked ? " beside " : "", asked ? asked : "");
        asked = poolings[i].mode;
        type = poolings[i].type;
    }
    if (!asked)
        return nb_tree_bad(t, NULL, err, NB_ERR_UNSUPPORTED,
                           "asks for a pooling that is none of mean, cls and lasttoken");
    if (!nb_node_flag(t->root, "include_prompt", true))
        return nb_tree_bad(t, nb_node_get(t->root, "include_prompt"), err, NB_ERR_UNSUPPORTED,
                           "is false: leaving the prompt's tokens out of an embedding is not supported");
    nb_hf_put_u32(h, nb_hf_key(h, "pooling_type"), type);
    return NB_OK;
}

static nb_status read_pooling(chain *c, const nb_node *module, nb_error *err)
{
    char path[128], name[160];
    nb_tree tree;
    if (c->pooled)
        return nb_tree_bad(&c->modules, module, err, NB_ERR_UNSUPPORTED, "is a second Pooling");
    NB_TRY(module_path(c, module, path, err));
    snprintf(name, sizeof name, "%s/config.json", path);
    NB_TRY(nb_tree_open(c->h->dir, name, NB_HF_CONFIG_BYTES, false, &tree, err));
    nb_status status = take_pooling(c->h, &tree, err);
    nb_tree_free(&tree);
    c->pooled = true;
    return status;
}

/* ---- dense layers ---- */

static nb_status take_activation(chain *c, const nb_tree *t, nb_error *err)
{
    char key[64];
    nb_str name = NB_STR("torch.nn.modules.activation.Tanh"); /* Dense's own */
    const nb_node *n = nb_node_get(t->root, "activation_function");
    if (nb_node_flag(t->root, "use_residual", false))
        return nb_tree_bad(t, nb_node_get(t->root, "use_residual"), err, NB_ERR_UNSUPPORTED,
                           "is true, which is not supported");
    if (n)
        NB_TRY(nb_node_str(t, n, &name, err));
    if (ends_in(name, ".Identity"))
        return NB_OK;
    if (!ends_in(name, ".Tanh"))
        return nb_tree_bad(t, n, err, NB_ERR_UNSUPPORTED, "is %.*s; dense layers with Identity and Tanh are supported",
                           NB_STR_ARG(name));
    snprintf(key, sizeof key, "dense_%d_activation", c->dense + 2);
    nb_hf_put_str(c->h, nb_hf_key(c->h, key), NB_STR("tanh"));
    return NB_OK;
}

static nb_status take_weights(chain *c, const nb_checkpoint *weights, nb_error *err)
{
    static const char *const parts[] = {"weight", "bias"};
    char name[64];
    for (size_t i = 0; i < nb_checkpoint_count(weights); i++) {
        const nb_checkpoint_tensor *t = nb_checkpoint_at(weights, i);
        size_t part = nb_str_eqz(t->name, "linear.bias");
        if (!part && !nb_str_eqz(t->name, "linear.weight"))
            return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: tensor '%.*s' is none of a dense layer", t->file,
                           NB_STR_ARG(t->name));
        if (t->n_dims != 2 - part)
            return nb_fail(err, NB_ERR_FORMAT, "%s: tensor '%.*s' has not %zu dimensions", t->file, NB_STR_ARG(t->name),
                           2 - part);
        snprintf(name, sizeof name, "dense_%d.%s", c->dense + 2, parts[part]);
        NB_TRY(nb_hf_add_tensor(c->h, name, t, err));
        if (part)
            continue;
        snprintf(name, sizeof name, "dense_%d_feat_in", c->dense + 2);
        nb_hf_put_u32(c->h, nb_hf_key(c->h, name), (uint32_t)t->dims[1]);
        snprintf(name, sizeof name, "dense_%d_feat_out", c->dense + 2);
        nb_hf_put_u32(c->h, nb_hf_key(c->h, name), (uint32_t)t->dims[0]);
    }
    return NB_OK;
}

/* The first is dense_2, as llama.cpp has it: modules 0 and 1 are the model and its pooling. */
static nb_status read_dense(chain *c, const nb_node *module, nb_error *err)
{
    char path[128], name[4096];
    nb_tree tree;
    nb_checkpoint **weights = &c->h->modules[c->dense];
    if (!c->pooled || c->normalized || c->dense == NB_HF_MODULES)
        return nb_tree_bad(&c->modules, module, err, NB_ERR_UNSUPPORTED,
                           "is a Dense before the Pooling, behind Normalize, or the ninth");
    NB_TRY(module_path(c, module, path, err));
    snprintf(name, sizeof name, "%s/config.json", path);
    NB_TRY(nb_tree_open(c->h->dir, name, NB_HF_CONFIG_BYTES, false, &tree, err));
    nb_status status = take_activation(c, &tree, err);
    nb_tree_free(&tree);
    int n = snprintf(name, sizeof name, "%s/%s", c->h->dir, path);
    if (status == NB_OK && (n < 0 || (size_t)n >= sizeof name))
        status = nb_fail(err, NB_ERR_LIMIT, "%s: the path is too long", c->h->dir);
    if (status == NB_OK)
        status = nb_checkpoint_open(name, weights, err);
    if (status == NB_OK)
        status = take_weights(c, *weights, err);
    c->dense++;
    return status;
}

/* ---- the modules ---- */

static nb_status read_module(chain *c, const nb_node *module, nb_error *err)
{
    const nb_node *n = nb_node_get_kind(module, "type", '"');
    nb_str type = n ? n->str : NB_STR("");
    if (ends_in(type, ".Pooling"))
        return read_pooling(c, module, err);
    if (ends_in(type, ".Dense"))
        return read_dense(c, module, err);
    if (ends_in(type, ".Normalize"))
        c->normalized = true;
    if (ends_in(type, ".Transformer") || ends_in(type, ".Normalize") || ends_in(type, ".Dropout"))
        return NB_OK;
    return nb_tree_bad(&c->modules, n ? n : module, err, NB_ERR_UNSUPPORTED,
                       "is a module that is not supported; Transformer, Pooling, Dense and Normalize are");
}

static nb_status read_modules(chain *c, nb_error *err)
{
    NB_TRY(nb_tree_open_any(c->h->dir, "modules.json", NB_HF_CONFIG_BYTES, true, &c->modules, err));
    if (!c->modules.root || c->modules.root->kind != '[')
        return NB_OK;
    for (const nb_node *m = c->modules.root->list.first; m; m = m->next)
        NB_TRY(read_module(c, m, err));
    if (c->pooled && !c->normalized)
        nb_hf_put_bool(c->h, nb_hf_key(c->h, "embedding_normalize"), false);
    return NB_OK;
}

/* ---- what goes in ---- */

static bool lowers(const nb_hf *h)
{
    const nb_gguf_value *v = nb_source_find(&h->source, "tokenizer.ggml.normalizer.lowercase");
    return v && v->kind == NB_GGUF_BOOL && v->data[0];
}

static nb_status read_length(nb_hf *h, nb_error *err)
{
    nb_tree t;
    uint64_t most = 0;
    NB_TRY(nb_tree_open(h->dir, "sentence_bert_config.json", NB_HF_CONFIG_BYTES, true, &t, err));
    const nb_node *length = nb_node_get(t.root, "max_seq_length"), *lower = nb_node_get(t.root, "do_lower_case");
    nb_status status = length ? nb_node_u64(&t, length, 1, UINT32_MAX, &most, err) : NB_OK;
    if (status == NB_OK && lower && lower->kind == 't' && !lowers(h))
        status = nb_tree_bad(&t, lower, err, NB_ERR_UNSUPPORTED,
                             "is true, but the tokenizer keeps capitals: lowering them before it is not supported");
    if (status == NB_OK && most)
        nb_hf_put_u32(h, NB_EMBEDDING_LENGTH, (uint32_t)most);
    nb_tree_free(&t);
    return status;
}

static nb_status take_prompts(nb_hf *h, const nb_tree *t, nb_error *err)
{
    nb_str names[PROMPTS_MOST], texts[PROMPTS_MOST], otherwise;
    size_t count = 0;
    const nb_node *prompts = nb_node_get_kind(t->root, "prompts", '{'),
                  *n = nb_node_get(t->root, "default_prompt_name");
    for (const nb_node *p = prompts ? prompts->list.first : NULL; p; p = p->next) {
        if (p->kind == 'n')
            continue;
        if (p->kind != '"' || count == PROMPTS_MOST)
            return nb_tree_bad(t, p, err, NB_ERR_FORMAT, "is no text, or not one of the first %d prompts",
                               PROMPTS_MOST);
        names[count] = p->key;
        texts[count++] = p->str;
    }
    if (count) {
        nb_hf_put_strings(h, NB_EMBEDDING_PROMPT_NAMES, names, count);
        nb_hf_put_strings(h, NB_EMBEDDING_PROMPTS, texts, count);
    }
    if (!n)
        return NB_OK;
    NB_TRY(nb_node_str(t, n, &otherwise, err));
    for (size_t i = 0; i < count; i++)
        if (nb_str_eq(names[i], otherwise)) {
            nb_hf_put_str(h, NB_EMBEDDING_DEFAULT_PROMPT, otherwise);
            return NB_OK;
        }
    return nb_tree_bad(t, n, err, NB_ERR_FORMAT, "is none of the prompts");
}

static nb_status read_prompts(nb_hf *h, nb_error *err)
{
    nb_tree t;
    NB_TRY(nb_tree_open(h->dir, "config_sentence_transformers.json", NB_HF_CONFIG_BYTES, true, &t, err));
    nb_status status = take_prompts(h, &t, err);
    nb_tree_free(&t);
    return status;
}

nb_status nb_hf_sentence(nb_hf *h, nb_error *err)
{
    chain c = {.h = h};
    nb_status status = read_modules(&c, err);
    bool is = c.modules.root != NULL;
    nb_tree_free(&c.modules);
    if (status != NB_OK || !is)
        return status;
    NB_TRY(read_length(h, err));
    return read_prompts(h, err);
}
