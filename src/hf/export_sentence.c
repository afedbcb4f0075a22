/* sentence-transformers' files beside a checkpoint: modules.json, pooling, dense layers, the longest text and the prompts; what
 * hf_sentence.c reads. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/embedding_keys.h"
#include "hf/export_tensors.h"

enum { MEAN = 1, CLS = 2, LAST = 3 }; /* as GGUF numbers poolings */

void nb_hf_sentences_free(nb_hf_sentences *s)
{
    for (int i = 0; i < NB_HF_EXPORT_DENSE; i++)
        nb_hf_items_free(&s->layers[i]);
}

static const nb_source_tensor *dense_part(const nb_hf_exporter *x, uint64_t i, const char *part)
{
    char name[64];
    int n = snprintf(name, sizeof name, "dense_%" PRIu64 ".%s", i + 2, part);
    return nb_source_find_tensor(x->s, (nb_str){name, (size_t)n});
}

nb_status nb_hf_sentences_list(nb_hf_exporter *x, nb_hf_sentences *s, nb_error *err)
{
    bool pools = nb_hf_export_u64(x, ".pooling_type", &s->pooling) && s->pooling >= MEAN && s->pooling <= LAST;
    s->is = pools;
    for (; s->dense < NB_HF_EXPORT_DENSE && dense_part(x, s->dense, "weight"); s->dense++) {
        const nb_source_tensor *w = dense_part(x, s->dense, "weight"), *b = dense_part(x, s->dense, "bias");
        if (!pools || w->n_dims != 2)
            return nb_fail(err, NB_ERR_UNSUPPORTED,
                           "%s: tensor '%.*s' is %s; a dense layer follows a pooling by mean, first or last token",
                           x->s->path, NB_STR_ARG(w->name), pools ? "no matrix" : "there, but no pooling_type");
        NB_TRY(nb_hf_items_add(x, &s->layers[s->dense], w, "linear.weight", err));
        if (b)
            NB_TRY(nb_hf_items_add(x, &s->layers[s->dense], b, "linear.bias", err));
    }
    return NB_OK;
}

/* ---- files ---- */

static nb_status write_json(const nb_hf_exporter *x, const char *name, nb_buf *b, nb_error *err)
{
    nb_buf_char(b, '\n');
    nb_status status = nb_hf_export_file(x, name, b, err);
    nb_buf_free(b);
    return status;
}

static nb_status make_folder(const nb_hf_exporter *x, const char *name, char **path, nb_error *err)
{
    if (asprintf(path, "%s/%s", x->dir, name) < 0) {
        *path = NULL;
        return nb_fail_memory(err, x->dir, strlen(name));
    }
    return nb_hf_export_directory(*path, err);
}

static void put_module(nb_json *j, uint64_t i, const char *kind)
{
    char text[80];
    nb_json_open(j, '{');
    nb_json_put_uint(j, "idx", i);
    snprintf(text, sizeof text, "%" PRIu64, i);
    nb_json_put_z(j, "name", text);
    snprintf(text, sizeof text, "%" PRIu64 "_%s", i, kind);
    nb_json_put_z(j, "path", i ? text : "");
    snprintf(text, sizeof text, "sentence_transformers.models.%s", kind);
    nb_json_put_z(j, "type", text);
    nb_json_close(j, '}');
}

static nb_status write_modules(const nb_hf_exporter *x, const nb_hf_sentences *s, nb_error *err)
{
    nb_buf b = {0};
    nb_json j = nb_json_begin(&b, true);
    nb_json_open(&j, '[');
    put_module(&j, 0, "Transformer");
    put_module(&j, 1, "Pooling");
    for (uint64_t i = 0; i < s->dense; i++)
        put_module(&j, i + 2, "Dense");
    if (nb_hf_export_flag(x, ".embedding_normalize", true))
        put_module(&j, s->dense + 2, "Normalize");
    nb_json_close(&j, ']');
    return write_json(x, "modules.json", &b, err);
}

static nb_status write_pooling(const nb_hf_exporter *x, const nb_hf_sentences *s, nb_error *err)
{
    static const char *const flags[] = {
        [CLS] = "pooling_mode_cls_token", [MEAN] = "pooling_mode_mean_tokens", [LAST] = "pooling_mode_lasttoken",
        "pooling_mode_max_tokens",        "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens"};
    char *folder;
    nb_buf b = {0};
    nb_status status = make_folder(x, "1_Pooling", &folder, err);
    free(folder);
    NB_TRY(status);
    nb_json j = nb_json_begin(&b, true);
    nb_json_open(&j, '{');
    nb_json_put_uint(&j, "word_embedding_dimension", x->width);
    for (size_t i = MEAN; i < sizeof flags / sizeof *flags; i++) {
        nb_json_key(&j, flags[i]);
        nb_json_bool(&j, i == s->pooling);
    }
    nb_json_key(&j, "include_prompt");
    nb_json_bool(&j, true);
    nb_json_close(&j, '}');
    return write_json(x, "1_Pooling/config.json", &b, err);
}

static nb_status write_dense(const nb_hf_exporter *x, const nb_hf_sentences *s, uint64_t i, nb_hf_progress *p,
                             nb_error *err)
{
    char name[64], *folder;
    nb_buf b = {0};
    nb_str activation = NB_STR("");
    const nb_source_tensor *w = dense_part(x, i, "weight");
    snprintf(name, sizeof name, "%" PRIu64 "_Dense", i + 2);
    nb_status status = make_folder(x, name, &folder, err);
    if (status == NB_OK)
        status = nb_hf_items_write(x, &s->layers[i], folder, 0, p, err);
    free(folder);
    NB_TRY(status);
    snprintf(name, sizeof name, ".dense_%" PRIu64 "_activation", i + 2);
    nb_hf_export_str(x, name, &activation);
    nb_json j = nb_json_begin(&b, true);
    nb_json_open(&j, '{');
    nb_json_put_uint(&j, "in_features", w->dims[0]);
    nb_json_put_uint(&j, "out_features", w->dims[1]);
    nb_json_key(&j, "bias");
    nb_json_bool(&j, dense_part(x, i, "bias") != NULL);
    nb_json_put_z(&j, "activation_function",
                  nb_str_eqz(activation, "tanh") ? "torch.nn.modules.activation.Tanh"
                                                 : "torch.nn.modules.linear.Identity");
    nb_json_close(&j, '}');
    snprintf(name, sizeof name, "%" PRIu64 "_Dense/config.json", i + 2);
    return write_json(x, name, &b, err);
}

static nb_status write_length(const nb_hf_exporter *x, nb_error *err)
{
    nb_buf b = {0};
    uint64_t most;
    if (!nb_hf_export_u64(x, NB_EMBEDDING_LENGTH, &most))
        return NB_OK;
    nb_json j = nb_json_begin(&b, true);
    nb_json_open(&j, '{');
    nb_json_put_uint(&j, "max_seq_length", most);
    nb_json_key(&j, "do_lower_case"); /* the tokenizer does it */
    nb_json_bool(&j, false);
    nb_json_close(&j, '}');
    return write_json(x, "sentence_bert_config.json", &b, err);
}

static nb_status write_prompts(nb_hf_exporter *x, nb_error *err)
{
    nb_str *names = NULL, *texts = NULL, otherwise;
    size_t count, same;
    nb_buf b = {0};
    NB_TRY(nb_hf_export_strings(x, NB_EMBEDDING_PROMPT_NAMES, &names, &count, err));
    NB_TRY(nb_hf_export_strings(x, NB_EMBEDDING_PROMPTS, &texts, &same, err));
    if (count == 0 || same != count)
        return NB_OK;
    nb_json j = nb_json_begin(&b, true);
    nb_json_open(&j, '{');
    nb_json_key(&j, "prompts");
    nb_json_open(&j, '{');
    for (size_t i = 0; i < count; i++) {
        nb_json_key_str(&j, names[i]);
        nb_json_str(&j, texts[i]);
    }
    nb_json_close(&j, '}');
    nb_json_key(&j, "default_prompt_name");
    if (nb_hf_export_str(x, NB_EMBEDDING_DEFAULT_PROMPT, &otherwise))
        nb_json_str(&j, otherwise);
    else
        nb_json_null(&j);
    nb_json_put_z(&j, "similarity_fn_name", "cosine");
    nb_json_close(&j, '}');
    return write_json(x, "config_sentence_transformers.json", &b, err);
}

nb_status nb_hf_sentences_write(nb_hf_exporter *x, const nb_hf_sentences *s, nb_hf_progress *p, nb_error *err)
{
    if (!s->is)
        return NB_OK;
    NB_TRY(write_pooling(x, s, err));
    for (uint64_t i = 0; i < s->dense; i++)
        NB_TRY(write_dense(x, s, i, p, err));
    NB_TRY(write_length(x, err));
    NB_TRY(write_prompts(x, err));
    return write_modules(x, s, err);
}
