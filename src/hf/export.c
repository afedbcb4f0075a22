#define _GNU_SOURCE
#include "hf/export.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "hf/export_tensors.h"

/* ---- values of the source ---- */

const nb_gguf_value *nb_hf_export_find(const nb_hf_exporter *x, const char *name)
{
    char key[160];
    if (name[0] != '.')
        return nb_source_find(x->s, name);
    snprintf(key, sizeof key, "%s%s", x->arch->gguf, name);
    return nb_source_find(x->s, key);
}

static bool is_number(const nb_gguf_value *v)
{
    return v && v->kind != NB_GGUF_STRING && v->kind != NB_GGUF_ARRAY && v->kind != NB_GGUF_BOOL;
}

bool nb_hf_export_u64(const nb_hf_exporter *x, const char *name, uint64_t *out)
{
    const nb_gguf_value *v = nb_hf_export_find(x, name);
    if (!is_number(v) || v->kind == NB_GGUF_F32 || v->kind == NB_GGUF_F64)
        return false;
    *out = nb_gguf_elem_u64(v, 0);
    return true;
}

bool nb_hf_export_f64(const nb_hf_exporter *x, const char *name, double *out)
{
    const nb_gguf_value *v = nb_hf_export_find(x, name);
    if (!is_number(v) || !isfinite(nb_gguf_elem_f64(v, 0)))
        return false;
    *out = nb_gguf_elem_f64(v, 0);
    return true;
}

bool nb_hf_export_str(const nb_hf_exporter *x, const char *name, nb_str *out)
{
    const nb_gguf_value *v = nb_hf_export_find(x, name);
    if (!v || v->kind != NB_GGUF_STRING)
        return false;
    *out = (nb_str){(const char *)v->data, v->bytes};
    return true;
}

bool nb_hf_export_flag(const nb_hf_exporter *x, const char *name, bool otherwise)
{
    const nb_gguf_value *v = nb_hf_export_find(x, name);
    return v && v->kind == NB_GGUF_BOOL ? v->data[0] != 0 : otherwise;
}

nb_status nb_hf_export_strings(nb_hf_exporter *x, const char *name, nb_str **out, size_t *count, nb_error *err)
{
    const nb_gguf_value *v = nb_hf_export_find(x, name);
    *count = 0;
    if (!v || v->kind != NB_GGUF_ARRAY || v->element != NB_GGUF_STRING)
        return NB_OK;
    nb_str *table = NB_ARRAY(&x->arena, nb_str, v->count + 1);
    const unsigned char *p = v->data;
    if (!table)
        return nb_fail_memory(err, name, v->count * sizeof *table);
    for (size_t i = 0; i < v->count; i++) {
        uint64_t n;
        memcpy(&n, p, sizeof n);
        table[i] = (nb_str){(const char *)p + 8, (size_t)n};
        p += 8 + n;
    }
    *out = table;
    *count = v->count;
    return NB_OK;
}

nb_status nb_hf_export_file(const nb_hf_exporter *x, const char *name, const nb_buf *text, nb_error *err)
{
    char *path;
    nb_writer *w;
    if (text->failed || asprintf(&path, "%s/%s", x->dir, name) < 0)
        return nb_fail_memory(err, name, text->len);
    nb_status status = nb_writer_open(path, &w, err);
    free(path);
    NB_TRY(status);
    status = nb_writer_write(w, text->data, text->len, err);
    if (status == NB_OK)
        return nb_writer_commit(w, err);
    nb_writer_abort(w);
    return status;
}

/* ---- the whole ---- */

bool nb_hf_exports(nb_str architecture)
{
    const nb_hf_arch *arch = nb_hf_arch_of_gguf(architecture);
    return arch && arch->put;
}

/* of most values; what is quantized fits F16 as well as it can be told */
static nb_dtype choose_dtype(const nb_source *s)
{
    uint64_t values[3] = {0}; /* F32, BF16, others */
    for (size_t i = 0; i < s->tensor_count; i++) {
        uint32_t id = s->tensors[i].type->id;
        values[id == NB_TYPE_F32    ? 0
               : id == NB_TYPE_BF16 ? 1
                                    : 2] += nb_source_rows(&s->tensors[i]) * s->tensors[i].dims[0];
    }
    if (values[1] >= values[0] && values[1] >= values[2])
        return NB_DTYPE_BF16;
    return values[0] >= values[2] ? NB_DTYPE_F32 : NB_DTYPE_F16;
}

const nb_type_info *nb_hf_export_type(const nb_source *s)
{
    nb_dtype dtype = choose_dtype(s);
    return nb_type_get(dtype == NB_DTYPE_F32 ? NB_TYPE_F32 : dtype == NB_DTYPE_F16 ? NB_TYPE_F16 : NB_TYPE_BF16);
}

static nb_status missing(const nb_hf_exporter *x, const char *key, nb_error *err)
{
    return nb_fail(err, NB_ERR_FORMAT, "%s: has no %s%s of a size that can be; convert the model again", x->s->path,
                   x->arch->gguf, key);
}

/* RoBERTa's kind has no WordPiece; DistilBERT no token types; a classifier is theirs or BERT's. */
static nb_str encoder_class(const nb_hf_exporter *x, bool roberta)
{
    if (nb_source_find_tensor(x->s, NB_STR("cls.weight")))
        return roberta ? NB_STR("XLMRobertaForSequenceClassification") : NB_STR("BertForSequenceClassification");
    if (roberta)
        return NB_STR("RobertaModel");
    return nb_source_find_tensor(x->s, NB_STR("token_types.weight")) ? NB_STR("BertModel") : NB_STR("DistilBertModel");
}

/* One name of GGUF's stands for several classes. */
static void choose_class(nb_hf_exporter *x, uint64_t experts)
{
    uint64_t window = 0, gating = 0;
    nb_str tokenizer = NB_STR("");
    const char *gguf = x->arch->gguf;
    if (experts && strcmp(gguf, "llama") == 0)
        x->arch = nb_hf_arch_of_class(NB_STR("MixtralForCausalLM"));
    bool unigram = nb_hf_export_str(x, "tokenizer.ggml.model", &tokenizer) && nb_str_eqz(tokenizer, "t5");
    if (strcmp(gguf, "bert") == 0)
        x->arch = nb_hf_arch_of_class(encoder_class(x, unigram || nb_str_eqz(tokenizer, "gpt2")));
    bool roberta = strcmp(x->arch->model_type, "roberta") == 0, ranker = roberta && strchr(x->arch->classes[0], 'S');
    bool windows = nb_hf_export_u64(x, ".attention.sliding_window", &window);
    x->class_name = x->arch->classes[0];
    x->model_type = x->arch->model_type;
    x->mistral = strcmp(x->model_type, "llama") == 0 && windows;
    if (x->mistral) {
        bool some = nb_hf_export_find(x, ".attention.sliding_window_pattern");
        x->class_name = some ? "MinistralForCausalLM" : "MistralForCausalLM";
        x->model_type = some ? "ministral" : "mistral";
    } else if (strcmp(gguf, "olmo2") == 0 && windows) {
        x->class_name = "Olmo3ForCausalLM";
        x->model_type = "olmo3";
    } else if (strcmp(gguf, "deepseek2") == 0 && (!nb_hf_export_u64(x, ".expert_gating_func", &gating) || gating != 2)) {
        x->arch = nb_hf_arch_of_class(NB_STR("DeepseekV2ForCausalLM"));
        x->class_name = x->arch->classes[0];
        x->model_type = x->arch->model_type;
    } else if (strcmp(gguf, "baichuan") == 0 && x->blocks == 40) {
        x->class_name = "BaichuanForCausalLM";
    } else if (strcmp(gguf, "mistral3") == 0 && !nb_hf_export_find(x, ".attention.temperature_scale")) {
        x->class_name = "MistralForCausalLM"; /* of Mistral Small 3.1; the same names */
        x->model_type = "mistral";
    } else if (roberta && (unigram || ranker)) {
        x->class_name = ranker ? x->class_name : "XLMRobertaModel";
        x->model_type = "xlm-roberta";
    } else if (strcmp(gguf, "granitemoe") == 0 && nb_hf_export_tensor(x, "blk.%d.ffn_up_shexp", 0)) {
        x->class_name = "GraniteMoeSharedForCausalLM";
        x->model_type = "granitemoeshared";
    }
}

static nb_status read_shape(nb_hf_exporter *x, nb_error *err)
{
    const nb_source_tensor *embedding = nb_source_find_tensor(x->s, NB_STR("token_embd.weight"));
    uint64_t experts = 0;
    if (!nb_hf_export_u64(x, ".block_count", &x->blocks) || x->blocks == 0 || x->blocks > 4096)
        return missing(x, ".block_count", err);
    if (!nb_hf_export_u64(x, ".embedding_length", &x->width) || x->width == 0)
        return missing(x, ".embedding_length", err);
    if (!nb_hf_export_u64(x, ".attention.head_count", &x->heads) || x->heads == 0 || x->heads > 1 << 16)
        return missing(x, ".attention.head_count", err);
    x->kv_heads = x->heads;
    nb_hf_export_u64(x, ".attention.head_count_kv", &x->kv_heads);
    if (x->kv_heads == 0 || x->kv_heads > x->heads)
        return missing(x, ".attention.head_count_kv", err);
    x->head_dim = x->width / x->heads;
    nb_hf_export_u64(x, ".attention.key_length", &x->head_dim);
    nb_hf_export_u64(x, ".expert_count", &experts);
    choose_class(x, experts);
    x->vocabulary = embedding ? embedding->dims[1] : 0;
    for (uint64_t block = 0; block < x->blocks && x->expert_ff == 0; block++) {
        const nb_source_tensor *up = nb_hf_export_tensor(x, "blk.%d.ffn_up_exps", block),
                               *shared = nb_hf_export_tensor(x, "blk.%d.ffn_up_shexp", block);
        x->expert_ff = up ? up->dims[1] : 0;
        x->shared_ff = shared ? shared->dims[1] : 0;
    }
    return NB_OK;
}

nb_status nb_hf_export_directory(const char *dir, nb_error *err)
{
    if (mkdir(dir, 0777) == 0 || errno == EEXIST)
        return NB_OK;
    return nb_fail(err, NB_ERR_IO, "%s: cannot make the directory: %s", dir, strerror(errno));
}

static nb_status export(nb_hf_exporter *x, nb_hf_items *l, nb_hf_sentences *beside, uint64_t shard_bytes,
                        nb_hf_progress *p, nb_error *err)
{
    x->used = NB_ARRAY(&x->arena, bool, x->s->tensor_count + 1);
    if (!x->used)
        return nb_fail_memory(err, "tensors", x->s->tensor_count);
    NB_TRY(read_shape(x, err));
    NB_TRY(nb_hf_sentences_list(x, beside, err));
    NB_TRY(nb_hf_items_list(x, l, err));
    if (x->mistral && (x->attention_bias || x->mlp_bias))
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: has a window and biases, which no class of transformers has together", x->s->path);
    p->all = l->bytes;
    for (uint64_t i = 0; i < beside->dense; i++)
        p->all += beside->layers[i].bytes;
    NB_TRY(nb_hf_export_directory(x->dir, err));
    NB_TRY(nb_hf_export_tokenizer(x, err));
    NB_TRY(nb_hf_items_write(x, l, x->dir, shard_bytes, p, err));
    NB_TRY(nb_hf_sentences_write(x, beside, p, err));
    return nb_hf_export_config(x, err);
}

static nb_status not_exported(const nb_source *s, nb_str name, nb_error *err)
{
    nb_buf known = {0};
    for (size_t i = 0; nb_hf_arch_at(i); i++) {
        nb_str row = nb_str_of(nb_hf_arch_at(i)->gguf);
        if (nb_hf_exports(row) && nb_hf_arch_of_gguf(row) == nb_hf_arch_at(i)) /* several rows may have one name */
            nb_buf_printf(&known, "%s%.*s", known.len ? ", " : "", NB_STR_ARG(row));
    }
    nb_fail(err, NB_ERR_UNSUPPORTED,
            "%s: models of architecture '%.*s' are not written as directories; these are: %.*s", s->path,
            NB_STR_ARG(name), (int)known.len, known.len ? known.data : "");
    nb_buf_free(&known);
    return NB_ERR_UNSUPPORTED;
}

nb_status nb_hf_export(const nb_source *s, const char *dir, const nb_hf_export_params *params,
                       nb_hf_export_progress_fn *call, void *user, nb_hf_export_result *result, nb_error *err)
{
    nb_str name = nb_source_text(s, "general.architecture");
    nb_hf_exporter x = {.s = s, .dir = dir, .arch = nb_hf_arch_of_gguf(name), .dtype = choose_dtype(s), .pad = UINT64_MAX};
    nb_hf_items l = {0};
    nb_hf_sentences beside = {0};
    nb_hf_progress p = {call, user, 0, 0};
    if (!nb_hf_exports(name) || !x.arch)
        return not_exported(s, name, err);
    if (params->type &&
        (params->type->id == NB_TYPE_F32 || params->type->id == NB_TYPE_F16 || params->type->id == NB_TYPE_BF16))
        x.dtype = params->type->id == NB_TYPE_F32   ? NB_DTYPE_F32
                  : params->type->id == NB_TYPE_F16 ? NB_DTYPE_F16
                                                    : NB_DTYPE_BF16;
    else if (params->type)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: a directory of Hugging Face cannot hold %s; give --type F32, F16 or BF16", dir,
                       params->type->name);
    nb_status status = export(&x, &l, &beside, params->shard_bytes, &p, err);
    if (result)
        *result = (nb_hf_export_result){x.dtype, p.all, l.count};
    nb_hf_items_free(&l);
    nb_hf_sentences_free(&beside);
    nb_arena_free(&x.arena);
    return status;
}
