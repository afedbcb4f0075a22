/* Opening a directory: configuration, architecture, metadata, tensors. */
#include "hf/hf.h"

#include <stdlib.h>

#include "hf/hf_missing.h"
#include "hf/hf_quant.h"
#include "hf/hf_wrapped.h"

bool nb_hf_is_model(const char *path) { return nb_hf_is_directory(path); }

/* of what config.json itself says, when it does not name the class */
static nb_status no_class(const nb_hf *h, nb_error *err)
{
    const nb_node *type = nb_node_get_kind(h->config.root, "model_type", '"'),
                  *part = nb_node_get_kind(h->config.root, "_class_name", '"');
    const nb_hf_arch *arch = NULL;
    if (part)
        return nb_tree_bad(&h->config, part, err, NB_ERR_UNSUPPORTED,
                           "is %.*s, a part of a pipeline of diffusers, which makes pictures or sound; give the "
                           "directory of a language model",
                           NB_STR_ARG(part->str));
    for (size_t i = 0; type && nb_hf_arch_at(i) && !arch; i++)
        if (nb_str_eqz(type->str, nb_hf_arch_at(i)->model_type))
            arch = nb_hf_arch_at(i);
    if (arch)
        return nb_tree_bad(&h->config, type, err, NB_ERR_FORMAT,
                           "is %.*s, but there is no \"architectures\" with the name of the model's class; add "
                           "\"architectures\": [\"%s\"] if that is it",
                           NB_STR_ARG(type->str), arch->classes[0]);
    return nb_tree_bad(&h->config, NULL, err, NB_ERR_FORMAT,
                       "has no \"architectures\" with the name of the model's class; this is no checkpoint of a model");
}

static nb_status find_arch(nb_hf *h, nb_error *err)
{
    const nb_node *list = nb_node_get_kind(h->config.root, "architectures", '[');
    if (!list || !list->list.first || list->list.first->kind != '"')
        return no_class(h, err);
    h->class_name = list->list.first->str;
    h->arch = nb_hf_arch_of_class(h->class_name);
    const nb_hf_arch *instead = h->arch && h->arch->instead ? h->arch->instead(h) : NULL;
    h->arch = instead ? instead : h->arch;
    return h->arch ? NB_OK : nb_hf_unwrap(h, list, err);
}

static nb_status read_config(nb_hf *h, nb_error *err)
{
    if (!nb_hf_holds(h->dir, "config.json"))
        return nb_hf_no_config(h->dir, err);
    NB_TRY(nb_tree_open(h->dir, "config.json", NB_HF_CONFIG_BYTES, false, &h->config, err));
    h->text = nb_node_get_kind(h->config.root, "text_config", '{');
    h->text = h->text ? h->text : h->config.root;
    NB_TRY(find_arch(h, err));
    return nb_hf_quant_config(h, err);
}

/* rows of the embedding: the vocabulary that the files of the tokenizer are padded to */
static uint64_t vocabulary(const nb_hf *h)
{
    const nb_source_tensor *t = nb_source_find_tensor(&h->source, NB_STR("token_embd.weight"));
    return t ? t->dims[1] : 0;
}

static nb_status open_all(nb_hf *h, nb_error *err)
{
    NB_TRY(read_config(h, err));
    if (!nb_checkpoint_is_in(h->dir))
        return nb_hf_no_weights(h->dir, err);
    NB_TRY(nb_checkpoint_open(h->dir, &h->checkpoint, err));
    nb_hf_put_str(h, "general.architecture", nb_str_of(h->arch->gguf));
    NB_TRY(nb_hf_bind(h, err));
    NB_TRY(nb_hf_card(h, err));
    NB_TRY(nb_hf_keys(h, err));
    if (h->arch->configure)
        NB_TRY(h->arch->configure(h, err));
    NB_TRY(nb_hf_tokenizer(h, vocabulary(h), err));
    NB_TRY(nb_hf_sentence(h, err));
    return h->failed ? nb_fail_memory(err, h->dir, h->arena.used) : NB_OK;
}

static void free_hf(nb_source *s)
{
    nb_hf *h = (nb_hf *)s;
    nb_team_free(h->team);
    nb_checkpoint_close(h->checkpoint);
    for (int i = 0; i < NB_HF_MODULES; i++)
        nb_checkpoint_close(h->modules[i]);
    nb_tree_free(&h->config);
    nb_tree_free(&h->quant_file);
    nb_tree_free(&h->qmap);
    nb_arena_free(&h->arena);
    free(h->values);
    free(h->tensors);
    free(h->made);
    free(h);
}

nb_status nb_hf_open(const char *path, nb_source **out, nb_error *err)
{
    return nb_hf_open_as(path, &(nb_hf_params){0}, out, err);
}

nb_status nb_hf_open_as(const char *path, const nb_hf_params *params, nb_source **out, nb_error *err)
{
    *out = NULL;
    nb_hf *h = calloc(1, sizeof *h);
    if (!h)
        return nb_fail_memory(err, path, sizeof *h);
    h->source.free = free_hf;
    h->params = *params;
    nb_hf_set_readers(h);
    h->dir = nb_arena_strdup(&h->arena, nb_str_of(path));
    nb_status status = h->dir ? NB_OK : nb_fail_memory(err, path, strlen(path));
    for (size_t n = h->dir ? strlen(h->dir) : 0; n > 1 && h->dir[n - 1] == '/'; n--)
        h->dir[n - 1] = '\0';
    h->source.path = h->dir;
    if (status == NB_OK)
        status = open_all(h, err);
    if (status != NB_OK) {
        free_hf(&h->source);
        return status;
    }
    *out = &h->source;
    return NB_OK;
}
