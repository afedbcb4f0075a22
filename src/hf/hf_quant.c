/* Which way a checkpoint is quantized, and what the files of these ways share. */
#include "hf/hf_quant.h"

#include <stdarg.h>
#include <stdio.h>

static const struct row {
    const nb_hf_quant *quant;
    const char *names;
} rows[] = {
#define NB_HF_QUANT(name, names) {&nb_hf_quant_##name, names},
#include "hf/quant_methods.def"
#undef NB_HF_QUANT
};
enum { ROWS = sizeof rows / sizeof *rows };

static bool is_one_of(nb_str name, const char *names)
{
    while (*names) {
        size_t n = strcspn(names, "|");
        if (nb_str_eq(name, (nb_str){names, n}))
            return true;
        names += n + (names[n] == '|');
    }
    return false;
}

/* Old checkpoints of bitsandbytes do not name it. */
static nb_str method_of(const nb_node *config)
{
    const nb_node *n = nb_node_get_kind(config, "quant_method", '"');
    if (n)
        return n->str;
    if (nb_node_flag(config, "load_in_4bit", false) || nb_node_flag(config, "load_in_8bit", false))
        return NB_STR("bitsandbytes");
    return NB_STR("an unnamed method");
}

static nb_status refuse(const nb_tree *tree, const nb_node *config, nb_str name, nb_error *err)
{
    nb_buf known = {0};
    for (int i = 0; i < ROWS; i++)
        nb_buf_printf(&known, "%s%.*s", i ? ", " : "", (int)strcspn(rows[i].names, "|"), rows[i].names);
    nb_status status = nb_tree_bad(
        tree, config, err, NB_ERR_UNSUPPORTED,
        "is that of %.*s: such a checkpoint is not read; take the one it was made from, or one "
        "of %s",
        (int)nb_min_size(name.n, 64), name.p, known.data ? known.data : "");
    nb_buf_free(&known);
    return status;
}

/* Before config.json had a quantization_config, AutoGPTQ and AutoAWQ wrote a file of their own. */
static nb_status find_config(nb_hf *h, const nb_tree **tree, const nb_node **config, nb_str *name, nb_error *err)
{
    static const char *const files[] = {"quantize_config.json", "quant_config.json"};
    *tree = &h->config;
    *config = nb_hf_config(h, "quantization_config|compression_config");
    if (*config)
        *name = method_of(*config);
    for (int i = 0; i < 2 && !*config; i++) {
        NB_TRY(nb_tree_open(h->dir, files[i], NB_HF_CONFIG_BYTES, true, &h->quant_file, err));
        const nb_node *root = h->quant_file.root;
        if (!nb_node_get(root, "bits") && !nb_node_get(root, "w_bit")) {
            nb_tree_free(&h->quant_file); /* is there no such file, or another's */
            continue;
        }
        *tree = &h->quant_file;
        *config = root;
        *name = nb_node_get(root, "quant_method") ? method_of(root) : i ? NB_STR("awq") : NB_STR("gptq");
    }
    return NB_OK;
}

nb_status nb_hf_quant_config(nb_hf *h, nb_error *err)
{
    const nb_load_params *load = h->params.load;
    const nb_tree *tree;
    const nb_node *config;
    nb_str name = {0};
    NB_TRY(find_config(h, &tree, &config, &name, err));
    if (!config && load && load->form == NB_LOAD_INT8 && h->params.packed)
        nb_hf_put_f32(h, NB_HF_INT8_THRESHOLD, (double)load->int8_threshold);
    if (!config)
        return NB_OK;
    for (int i = 0; i < ROWS && !h->quant; i++)
        if (is_one_of(name, rows[i].names))
            h->quant = rows[i].quant;
    if (!h->quant)
        return refuse(tree, config, name, err);
    if (load)
        return nb_tree_bad(tree, config, err, NB_ERR_ARGUMENT,
                           "is there: the checkpoint is quantized already; run it without --load-in-4bit or "
                           "--load-in-8bit");
    return h->quant->configure(h, tree, config, err);
}

bool nb_hf_strip(nb_str *name, const char *end)
{
    nb_str e = nb_str_of(end);
    if (name->n <= e.n || memcmp(name->p + name->n - e.n, e.p, e.n) != 0)
        return false;
    name->n -= e.n;
    return true;
}

const nb_checkpoint_tensor *nb_hf_beside(const nb_hf *h, nb_str module, const char *end)
{
    char name[1024];
    int n = snprintf(name, sizeof name, "%.*s%s", (int)nb_min_size(module.n, sizeof name), module.p, end);
    return (size_t)n < sizeof name ? nb_checkpoint_find(h->checkpoint, (nb_str){name, (size_t)n}) : NULL;
}

nb_status nb_hf_bad_part(const nb_checkpoint_tensor *t, nb_error *err, const char *format, ...)
{
    char what[200];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return nb_fail(err, NB_ERR_FORMAT, "%s: tensor '%.*s' %s; download the checkpoint again", t->file,
                   NB_STR_ARG(t->name), what);
}

nb_status nb_hf_need(const nb_hf *h, const nb_checkpoint_tensor *weight, nb_str module, const char *end,
                     const nb_checkpoint_tensor **out, nb_error *err)
{
    *out = nb_hf_beside(h, module, end);
    if (*out)
        return NB_OK;
    return nb_fail(err, NB_ERR_FORMAT, "%s: tensor '%.*s%s' is missing, without which '%.*s' says nothing; %s",
                   weight->file, (int)nb_min_size(module.n, 200), module.p, end, (int)nb_min_size(weight->name.n, 200),
                   weight->name.p, "download the checkpoint again");
}
