#define PCRE2_CODE_UNIT_WIDTH 8
#include "hf/hf_adapter_config.h"

#include <math.h>
#include <pcre2.h>

enum { CONFIG_BYTES = 1 << 20, MATCH_LIMIT = 10000, MATCH_HEAP = 1 << 12 /* KiB */ };

/* ---- what is refused ---- */

#define MERGE "merge the adapter with peft's merge_and_unload and convert the model"

/* Keys that ask for something else when they are neither null nor false nor empty. */
static const struct refused_row {
    const char *key, *what;
} refused[] = {
    {"use_dora", "DoRA"},
    {"modules_to_save", "whole modules"},
    {"lora_bias", "biases of its own"},
    {"layer_replication", "layers that are there several times"},
    {"trainable_token_indices", "single rows of the embedding"},
    {"target_parameters", "parameters that are no modules (experts)"},
    {"alora_invocation_tokens", "activation after certain tokens"},
    {"use_qalora", "QALoRA"},
    {"use_bdlora", "block-diagonal matrices"},
    {"arrow_config", "a router of adapters"},
    {"kasa_config", "KaSA"},
    {"monteclora_config", "MonteCLoRA"},
};

/* Ways to begin that change the model's own weights, too: the adapter alone is not what was trained. */
static const char *const changing_starts[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};

static bool is_set(const nb_node *n)
{
    return n && n->kind != 'f' && !((n->kind == '[' || n->kind == '{') && n->list.count == 0);
}

static nb_status refuse_others(const nb_tree *t, nb_error *err)
{
    const nb_node *root = t->root, *type = nb_node_get(root, "peft_type"), *bias = nb_node_get(root, "bias"),
                  *start = nb_node_get_kind(root, "init_lora_weights", '"');
    if (!type || type->kind != '"')
        return nb_tree_bad(t, type, err, NB_ERR_FORMAT, "has no \"peft_type\"; this is no adapter of PEFT");
    if (!nb_str_eqz(type->str, "LORA"))
        return nb_tree_bad(t, type, err, NB_ERR_UNSUPPORTED, "%.*s is not supported, only LORA is",
                           NB_STR_ARG(type->str));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const nb_node *n = nb_node_get(root, refused[i].key);
        if (is_set(n))
            return nb_tree_bad(t, n, err, NB_ERR_UNSUPPORTED, "asks for %s, not supported; " MERGE, refused[i].what);
    }
    if (bias && !(bias->kind == '"' && nb_str_eqz(bias->str, "none")))
        return nb_tree_bad(t, bias, err, NB_ERR_UNSUPPORTED,
                           "is not \"none\": trained biases are not supported; " MERGE);
    for (size_t i = 0; start && i < sizeof changing_starts / sizeof *changing_starts; i++)
        if (nb_str_starts(start->str, nb_str_of(changing_starts[i])))
            return nb_tree_bad(t, start, err, NB_ERR_UNSUPPORTED,
                               "%.*s changes the model's own weights, too; save the adapter again with peft's "
                               "path_initial_model_for_weight_conversion",
                               NB_STR_ARG(start->str));
    return NB_OK;
}

/* ---- numbers ---- */

static nb_status read_number(const nb_tree *t, const nb_node *n, const char *key, double least, double *out,
                             nb_error *err)
{
    if (!n)
        return nb_tree_bad(t, NULL, err, NB_ERR_FORMAT, "has no \"%s\"; get the adapter again", key);
    if (n->kind != '0' || !isfinite(n->num) || !(n->num >= least) || fabs(n->num) > 1e9)
        return nb_tree_bad(t, n, err, NB_ERR_FORMAT, "is no number that makes sense; get the adapter again");
    *out = n->num;
    return NB_OK;
}

static nb_status read_config(nb_hf_adapter_config *c, nb_error *err)
{
    const nb_node *root = c->tree.root;
    NB_TRY(refuse_others(&c->tree, err));
    NB_TRY(read_number(&c->tree, nb_node_get(root, "r"), "r", 1, &c->rank, err));
    NB_TRY(read_number(&c->tree, nb_node_get(root, "lora_alpha"), "lora_alpha", -1e9, &c->alpha, err));
    c->root = nb_node_flag(root, "use_rslora", false);
    return NB_OK;
}

nb_status nb_hf_adapter_config_read(const char *directory, nb_hf_adapter_config *c, nb_error *err)
{
    *c = (nb_hf_adapter_config){0};
    NB_TRY(nb_tree_open(directory, "adapter_config.json", CONFIG_BYTES, false, &c->tree, err));
    nb_status status = read_config(c, err);
    if (status != NB_OK)
        nb_hf_adapter_config_free(c);
    return status;
}

void nb_hf_adapter_config_free(nb_hf_adapter_config *c) { nb_tree_free(&c->tree); }

/* ---- patterns: PEFT takes the first key that, as an expression, is the end of the module's name from a point on ---- */

static nb_status bad_pattern(const nb_tree *t, const nb_node *n, int code, nb_error *err)
{
    PCRE2_UCHAR message[120] = "";
    pcre2_get_error_message(code, message, sizeof message);
    return nb_tree_bad(t, n, err, NB_ERR_FORMAT, "is no expression for names of modules: %s", (const char *)message);
}

static nb_status fits(const nb_tree *t, const nb_node *n, nb_str module, bool *is, nb_error *err)
{
    int code = 0;
    PCRE2_SIZE at;
    nb_buf text = {0};
    nb_buf_z(&text, "(?:.*\\.)?(?:");
    nb_buf_str(&text, n->key);
    nb_buf_z(&text, ")$");
    pcre2_code *re = text.failed ? NULL
                                 : pcre2_compile((PCRE2_SPTR)text.data, text.len, PCRE2_ANCHORED | PCRE2_DOLLAR_ENDONLY,
                                                 &code, &at, NULL);
    nb_buf_free(&text);
    if (!re)
        return code ? bad_pattern(t, n, code, err) : nb_fail_memory(err, t->path, n->key.n);
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(re, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    nb_status status = match && limits ? NB_OK : nb_fail_memory(err, t->path, 0);
    if (status == NB_OK) {
        pcre2_set_match_limit(limits, MATCH_LIMIT);
        pcre2_set_heap_limit(limits, MATCH_HEAP);
        int found = pcre2_match(re, (PCRE2_SPTR)module.p, module.n, 0, 0, match, limits);
        *is = found >= 0;
        if (found < 0 && found != PCRE2_ERROR_NOMATCH)
            status = bad_pattern(t, n, found, err);
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    return status;
}

/* *value stays when no pattern of that key fits */
static nb_status apply_patterns(const nb_tree *t, const char *key, double least, nb_str module, double *value,
                                nb_error *err)
{
    const nb_node *patterns = nb_node_get(t->root, key);
    bool is = false;
    if (!patterns)
        return NB_OK;
    if (patterns->kind != '{')
        return nb_tree_bad(t, patterns, err, NB_ERR_FORMAT, "is no object of names and numbers; get the adapter again");
    for (const nb_node *n = patterns->list.first; n && !is; n = n->next) {
        NB_TRY(fits(t, n, module, &is, err));
        if (is)
            NB_TRY(read_number(t, n, key, least, value, err));
    }
    return NB_OK;
}

nb_status nb_hf_adapter_scale(const nb_hf_adapter_config *c, nb_str module, uint64_t rank, float *scale, nb_error *err)
{
    double r = c->rank, alpha = c->alpha;
    NB_TRY(apply_patterns(&c->tree, "rank_pattern", 1, module, &r, err));
    NB_TRY(apply_patterns(&c->tree, "alpha_pattern", -1e9, module, &alpha, err));
    if (r != (double)rank)
        return nb_tree_bad(&c->tree, NULL, err, NB_ERR_FORMAT,
                           "gives '%.*s' rank %g, but its tensors have %llu; the files do not belong together: get the "
                           "adapter again",
                           NB_STR_ARG(module), r, (unsigned long long)rank);
    *scale = (float)(alpha / (c->root ? sqrt(r) : r));
    return NB_OK;
}
