/* The pre_tokenizer of tokenizer.json as expressions, in the form of src/text/pretokenizers.def. */
#include "hf/hf_vocab.h"

static const char gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char punctuation[] = "[\\p{P}\\$\\+<=>\\^~\\|`]";

static nb_status add(nb_hf_vocab *v, const nb_node *at, nb_str expression, nb_error *err)
{
    if (v->expression_count == NB_HF_EXPRESSIONS)
        return nb_tree_bad(&v->json, at, err, NB_ERR_UNSUPPORTED, "has more than %d steps that cut text",
                           NB_HF_EXPRESSIONS);
    char *copy = nb_arena_strdup(&v->arena, expression);
    if (!copy)
        return nb_fail_memory(err, "pre-tokenizer", expression.n);
    v->expressions[v->expression_count++] = copy;
    return NB_OK;
}

static nb_status unknown(nb_hf_vocab *v, const nb_node *at, nb_error *err, const char *what)
{
    return nb_tree_bad(&v->json, at, err, NB_ERR_UNSUPPORTED, "%s, which byte-level BPE is not known to use", what);
}

/* A literal text as an expression. */
static void quote(nb_buf *b, nb_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (strchr("\\^$.[]|()?*+{}", s.p[i]) && s.p[i])
            nb_buf_char(b, '\\');
        nb_buf_char(b, s.p[i]);
    }
}

/* what Oniguruma and PCRE2 read differently, outside of what the models use */
static bool differs(nb_str s)
{
    for (size_t i = 0; i + 1 < s.n; i++) {
        if (s.p[i] != '\\')
            continue;
        if (strchr("hHRXyY", s.p[i + 1]))
            return true;
        i++;
    }
    return memchr(s.p, 0, s.n) != NULL;
}

static nb_status add_split(nb_hf_vocab *v, const nb_node *step, nb_error *err)
{
    const nb_node *pattern = nb_node_get_kind(step, "pattern", '{');
    const nb_node *regex = nb_node_get_kind(pattern, "Regex", '"'), *text = nb_node_get_kind(pattern, "String", '"');
    bool inverted = nb_node_flag(step, "invert", false);
    nb_buf b = {0};
    /* with "Removed" and inverted, what the expression leaves out would vanish: those in use leave out nothing */
    if (!(nb_node_is(step, "behavior", "Isolated") && !inverted) &&
        !(nb_node_is(step, "behavior", "Removed") && inverted))
        return unknown(v, step, err, "splits in a way (behavior, invert) other than Isolated");
    if (!regex && !text)
        return unknown(v, step, err, "splits without a pattern");
    if (regex && differs(regex->str))
        return unknown(v, step, err, "has an expression with \\h, \\R, \\X or \\y");
    if (regex)
        return add(v, step, regex->str, err);
    quote(&b, text->str);
    nb_status status = b.failed ? nb_fail_memory(err, "pre-tokenizer", text->str.n)
                                : add(v, step, nb_buf_view(&b), err);
    nb_buf_free(&b);
    return status;
}

static nb_status add_step(nb_hf_vocab *v, const nb_node *step, nb_error *err)
{
    char text[64] = "";
    if (nb_node_is(step, "type", "ByteLevel")) {
        if (nb_node_flag(step, "add_prefix_space", false))
            v->add_space = 1;
        return nb_node_flag(step, "use_regex", true) ? add(v, step, nb_str_of(gpt2), err) : NB_OK;
    }
    if (nb_node_is(step, "type", "Split"))
        return add_split(v, step, err);
    if (nb_node_is(step, "type", "Digits"))
        return add(v, step, nb_str_of(nb_node_flag(step, "individual_digits", false) ? "\\p{N}" : "\\p{N}+"), err);
    if (nb_node_is(step, "type", "Punctuation")) {
        bool runs = nb_node_is(step, "behavior", "Contiguous");
        if (!runs && nb_node_get(step, "behavior") && !nb_node_is(step, "behavior", "Isolated"))
            return unknown(v, step, err, "cuts punctuation in a way other than Isolated or Contiguous");
        memcpy(text, punctuation, sizeof punctuation);
        return add(v, step, nb_str_of(runs ? strcat(text, "+") : text), err);
    }
    const nb_node *type = nb_node_get_kind(step, "type", '"');
    return nb_tree_bad(&v->json, step, err, NB_ERR_UNSUPPORTED,
                       "is of type \"%.*s\", which byte-level BPE is not known to use",
                       NB_STR_ARG(type ? type->str : NB_STR("")));
}

/* steps of one pre_tokenizer: recursion is limited by the depth of JSON */
static nb_status add_all(nb_hf_vocab *v, const nb_node *step, nb_error *err)
{
    if (!nb_node_is(step, "type", "Sequence"))
        return add_step(v, step, err);
    const nb_node *list = nb_node_get_kind(step, "pretokenizers", '[');
    for (const nb_node *n = list ? list->list.first : NULL; n; n = n->next)
        NB_TRY(add_all(v, n, err));
    return NB_OK;
}

nb_status nb_hf_pre_tokenizer(nb_hf_vocab *v, nb_error *err)
{
    const nb_node *pre = nb_node_get_kind(v->json.root, "pre_tokenizer", '{');
    return pre ? add_all(v, pre, err) : NB_OK;
}
