/* Values of config.json, and the keys that follow from an architecture's table. */
#include <math.h>
#include <stdlib.h>

#include "hf/hf_internal.h"

static nb_str next_name(const char **names)
{
    size_t n = strcspn(*names, "|");
    nb_str name = {*names, n};
    *names += n + ((*names)[n] == '|');
    return name;
}

const nb_node *nb_hf_config(const nb_hf *h, const char *names)
{
    const nb_node *const places[] = {h->text, h->config.root};
    while (*names) {
        nb_str name = next_name(&names);
        for (int p = 0; p < 2; p++)
            for (const nb_node *n = places[p]->list.first; n; n = n->next)
                if (nb_str_eq(n->key, name) && n->kind != 'n')
                    return n;
    }
    return NULL;
}

bool nb_hf_config_is_null(const nb_hf *h, const char *name)
{
    for (const nb_node *n = h->text->list.first; n; n = n->next)
        if (nb_str_eqz(n->key, name))
            return n->kind == 'n';
    return false;
}

bool nb_hf_config_flag(const nb_hf *h, const char *names, bool otherwise)
{
    const nb_node *n = nb_hf_config(h, names);
    return n && (n->kind == 't' || n->kind == 'f') ? n->kind == 't' : otherwise;
}

nb_status nb_hf_config_u64(const nb_hf *h, const char *names, uint64_t least, uint64_t most, uint64_t *out,
                           nb_error *err)
{
    const nb_node *n = nb_hf_config(h, names);
    return n ? nb_node_u64(&h->config, n, least, most, out, err) : NB_OK;
}

nb_status nb_hf_config_f64(const nb_hf *h, const char *names, double *out, nb_error *err)
{
    const nb_node *n = nb_hf_config(h, names);
    if (n && (n->kind != '0' || !isfinite((float)n->num)))
        return nb_tree_bad(&h->config, n, err, NB_ERR_FORMAT, "is not a number of float32; correct it");
    if (n)
        *out = n->num;
    return NB_OK;
}

nb_status nb_hf_expect(const nb_hf *h, const char *names, const char *wanted, nb_error *err)
{
    const nb_node *n = nb_hf_config(h, names);
    nb_str value;
    const char *list = wanted;
    if (!n)
        return NB_OK;
    NB_TRY(nb_node_str(&h->config, n, &value, err));
    while (*list)
        if (nb_str_eq(value, next_name(&list)))
            return NB_OK;
    return nb_tree_bad(&h->config, n, err, NB_ERR_UNSUPPORTED,
                       "is \"%.*s\"; models of this architecture are run with %s only", NB_STR_ARG(value), wanted);
}

static nb_status missing(const nb_hf *h, const nb_hf_key_row *row, nb_error *err)
{
    const char *names = row->config;
    nb_str name = next_name(&names);
    return nb_fail(err, NB_ERR_FORMAT, "%s: %.*s is missing; %.*s needs it: download the file again", h->config.path,
                   NB_STR_ARG(name), NB_STR_ARG(h->class_name));
}

static nb_status put_number(nb_hf *h, const nb_hf_key_row *row, nb_error *err)
{
    uint64_t whole = 0;
    double value = row->otherwise && *row->otherwise ? strtod(row->otherwise, NULL) : 0;
    if (row->kind == NB_HF_F32) {
        NB_TRY(nb_hf_config_f64(h, row->config, &value, err));
        nb_hf_put_f32(h, nb_hf_key(h, row->gguf), value);
        return NB_OK;
    }
    whole = (uint64_t)value;
    NB_TRY(nb_hf_config_u64(h, row->config, 0, UINT32_MAX, &whole, err));
    nb_hf_put_u32(h, nb_hf_key(h, row->gguf), (uint32_t)whole);
    return NB_OK;
}

static nb_status put_row(nb_hf *h, const nb_hf_key_row *row, nb_error *err)
{
    const nb_node *n = nb_hf_config(h, row->config);
    nb_str text = nb_str_of(row->otherwise);
    if (!n && !row->otherwise)
        return missing(h, row, err);
    if (!n && !*row->otherwise)
        return NB_OK;
    switch (row->kind) {
    case NB_HF_U32:
    case NB_HF_F32: return put_number(h, row, err);
    case NB_HF_BOOL:
        if (n && n->kind != 't' && n->kind != 'f')
            return nb_tree_bad(&h->config, n, err, NB_ERR_FORMAT, "is neither true nor false; correct it");
        nb_hf_put_bool(h, nb_hf_key(h, row->gguf), n ? n->kind == 't' : nb_str_eqz(text, "true"));
        return NB_OK;
    case NB_HF_STR:
        if (n)
            NB_TRY(nb_node_str(&h->config, n, &text, err));
        nb_hf_put_str(h, nb_hf_key(h, row->gguf), text);
        return NB_OK;
    }
    return NB_OK;
}

nb_status nb_hf_keys(nb_hf *h, nb_error *err)
{
    for (const nb_hf_key_row *row = h->arch->keys; row->gguf; row++)
        NB_TRY(put_row(h, row, err));
    return NB_OK;
}
