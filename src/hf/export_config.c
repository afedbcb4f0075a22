/* config.json from GGUF's metadata. */
#include <math.h>

#include "hf/export_internal.h"
#include "hf/hf_rows.h"

void nb_hf_export_float(nb_json *j, double value)
{
    size_t at = j->out->len;
    nb_json_f32(j, (float)value);
    if (j->out->len > at && !strpbrk(j->out->data + at, ".en"))
        nb_buf_z(j->out, ".0");
}

/* the first of "a|b" */
static void put_key(nb_json *j, const char *names) { nb_json_key_str(j, (nb_str){names, strcspn(names, "|")}); }

static bool wrote_before(const nb_hf_exporter *x, const nb_hf_key_row *row)
{
    for (const nb_hf_key_row *r = x->arch->keys; r < row; r++)
        if (strcmp(r->config, row->config) == 0)
            return true;
    return strcmp(row->gguf, "vocab_size") == 0; /* the embedding says it better */
}

static bool is_window(const nb_hf_key_row *row) { return strcmp(row->config, "sliding_window") == 0; }

/* what a file that lacks the key means, where transformers would take something else */
static const uint64_t *meant(const nb_hf_exporter *x, const nb_hf_key_row *row)
{
    return strcmp(row->gguf, "attention.head_count_kv") == 0             ? &x->kv_heads
           : strcmp(row->gguf, "attention.key_length") == 0              ? &x->head_dim
           : strcmp(row->gguf, "expert_feed_forward_length") == 0        ? &x->expert_ff
           : strcmp(row->gguf, "expert_shared_feed_forward_length") == 0 ? &x->shared_ff
                                                                         : NULL;
}

/* what a file without the key says */
static nb_status put_absent(nb_hf_exporter *x, nb_json *j, const nb_hf_key_row *row, nb_error *err)
{
    bool said = row->otherwise && *row->otherwise, flag = row->kind == NB_HF_BOOL && said;
    if (meant(x, row)) {
        put_key(j, row->config);
        nb_json_uint(j, *meant(x, row));
    } else if (!row->otherwise) {
        return nb_fail(err, NB_ERR_FORMAT, "%s: has no %s.%s; convert the model again", x->s->path, x->arch->gguf,
                       row->gguf);
    } else if (row->kind == NB_HF_STR && said) {
        put_key(j, row->config);
        nb_json_z(j, row->otherwise);
    } else if (flag || (is_window(row) && strcmp(row->otherwise, "0") == 0)) {
        put_key(j, row->config);
        if (flag)
            nb_json_bool(j, strcmp(row->otherwise, "true") == 0);
        else
            nb_json_null(j);
    }
    return NB_OK;
}

static nb_status put_row(nb_hf_exporter *x, nb_json *j, const nb_hf_key_row *row, nb_error *err)
{
    char name[128] = ".";
    double value = 0;
    nb_str text = NB_STR("");
    if (wrote_before(x, row))
        return NB_OK;
    strncat(name, row->gguf, sizeof name - 2);
    if (!nb_hf_export_find(x, name))
        return put_absent(x, j, row, err);
    bool is_text = row->kind == NB_HF_STR && nb_hf_export_str(x, name, &text);
    bool number = nb_hf_export_f64(x, name, &value) && (row->kind == NB_HF_F32 || (value >= 0 && value <= UINT32_MAX));
    if (!is_text && row->kind != NB_HF_BOOL && !number)
        return nb_fail(err, NB_ERR_FORMAT, "%s: %s.%s is not a number that can be; convert the model again", x->s->path,
                       x->arch->gguf, row->gguf);
    put_key(j, row->config);
    if (is_text)
        nb_json_str(j, text);
    else if (row->kind == NB_HF_BOOL)
        nb_json_bool(j, nb_hf_export_flag(x, name, false));
    else if (value == 0 && is_window(row))
        nb_json_null(j); /* none: 0 would let a token see nothing */
    else if (row->kind == NB_HF_U32)
        nb_json_uint(j, (uint64_t)value);
    else
        nb_hf_export_float(j, value);
    return NB_OK;
}

static void put_shape(const nb_hf_exporter *x, nb_json *j)
{
    nb_json_put_uint(j, "vocab_size", x->vocabulary);
    nb_json_key(j, "tie_word_embeddings");
    nb_json_bool(j, x->tied);
}

void nb_hf_put_biases(const nb_hf_exporter *x, nb_json *j, bool mlp)
{
    nb_json_key(j, "attention_bias");
    nb_json_bool(j, x->attention_bias);
    if (mlp) {
        nb_json_key(j, "mlp_bias");
        nb_json_bool(j, x->mlp_bias);
    }
}

/* which layers have experts, and what the family's files leave to the program */
void nb_hf_put_qwen_moe(nb_hf_exporter *x, nb_json *j)
{
    bool qwen3 = strcmp(x->arch->gguf, "qwen3moe") == 0;
    nb_json_put_z(j, "hidden_act", "silu");
    nb_hf_put_late_windows(x, j);
    nb_json_put_uint(j, "decoder_sparse_step", 1);
    nb_json_key(j, "mlp_only_layers");
    nb_json_open(j, '[');
    for (uint64_t i = 0; i < x->blocks; i++)
        if (!nb_hf_export_is_sparse(x, i))
            nb_json_uint(j, i);
    nb_json_close(j, ']');
    if (qwen3 && !nb_hf_export_find(x, ".expert_weights_norm")) {
        nb_json_key(j, "norm_topk_prob");
        nb_json_bool(j, true);
    }
    nb_json_key(j, qwen3 ? "attention_bias" : "qkv_bias");
    nb_json_bool(j, x->attention_bias);
}

static void put_ids(const nb_hf_exporter *x, nb_json *j)
{
    static const char *const rows[][2] = {{"tokenizer.ggml.bos_token_id", "bos_token_id"},
                                          {"tokenizer.ggml.eos_token_id", "eos_token_id"},
                                          {"tokenizer.ggml.padding_token_id", "pad_token_id"}};
    nb_str tokenizer = NB_STR("");
    bool words = nb_hf_export_str(x, "tokenizer.ggml.model", &tokenizer) && nb_str_eqz(tokenizer, "bert");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t id = i == 2 ? x->pad : UINT64_MAX;
        nb_json_key(j, rows[i][1]);
        if (i == 2 || !words) /* BERT's have names of their own */
            nb_hf_export_u64(x, rows[i][0], &id);
        if (id < x->vocabulary)
            nb_json_uint(j, id);
        else
            nb_json_null(j);
    }
}

static nb_status put_config(nb_hf_exporter *x, nb_json *j, nb_error *err)
{
    nb_json_key(j, "architectures");
    nb_json_open(j, '[');
    nb_json_z(j, x->class_name);
    nb_json_close(j, ']');
    nb_json_put_z(j, "model_type", x->model_type);
    nb_json_put_z(j, "torch_dtype",
                  x->dtype == NB_DTYPE_F32   ? "float32"
                  : x->dtype == NB_DTYPE_F16 ? "float16"
                                             : "bfloat16");
    for (const nb_hf_key_row *row = x->arch->keys; row->gguf; row++)
        NB_TRY(put_row(x, j, row, err));
    put_shape(x, j);
    x->arch->put(x, j);
    put_ids(x, j);
    return nb_source_find_tensor(x->s, NB_STR("position_embd.weight")) ? NB_OK : nb_hf_export_rope(x, j, err);
}

nb_status nb_hf_export_config(nb_hf_exporter *x, nb_error *err)
{
    nb_buf b = {0};
    nb_json j = nb_json_begin(&b, true);
    nb_json_open(&j, '{');
    nb_status status = put_config(x, &j, err);
    nb_json_close(&j, '}');
    nb_buf_char(&b, '\n');
    if (status == NB_OK)
        status = nb_hf_export_file(x, "config.json", &b, err);
    nb_buf_free(&b);
    return status;
}
