/* Opening a model: file, description, plan, tokenizer, template, weights. */
#include "engine/engine.h"

#include <stdlib.h>
#include <time.h>

#include "base/cpu.h"
#include "convert/open.h"
#include "cpu/cpu.h"
#include "engine/vocab.h"
#include "model/adapt.h"

nb_model_params nb_model_defaults(void) { return (nb_model_params){.repack = true}; }

static nb_status check_vocabulary(const nb_model *m, nb_error *err)
{
    size_t tokens = nb_tokenizer_count(m->tokenizer);
    if (tokens > m->def->h.vocab)
        return nb_fail(err, NB_ERR_FORMAT, "%s: the tokenizer has %zu tokens, but token_embd.weight has only %zu rows",
                       nb_gguf_path(m->gguf), tokens, m->def->h.vocab);
    return NB_OK;
}

static nb_status load_template(nb_model *m, nb_error *err)
{
    nb_str source = {0};
    const nb_vocab *vocab = nb_tokenizer_vocab(m->tokenizer);
    m->bos = vocab->bos >= 0 ? nb_tokenizer_piece(m->tokenizer, vocab->bos) : NB_STR("");
    m->eos = vocab->eos >= 0 ? nb_tokenizer_piece(m->tokenizer, vocab->eos) : NB_STR("");
    if (nb_gguf_get_str(m->gguf, "tokenizer.chat_template", &source, NULL) != NB_OK || source.n == 0)
        return NB_OK;
    /* a template that we cannot read does not keep the model from running: whoever asks for it gets the reason */
    m->chat_status = nb_template_compile(source, &m->chat, &m->chat_error);
    if (m->chat_status == NB_ERR_MEMORY)
        return nb_fail_memory(err, nb_gguf_path(m->gguf), source.n);
    return NB_OK;
}

static nb_status load_adapters(nb_model *m, const nb_model_params *params, nb_error *err)
{
    nb_adapter_base base;
    if (params->adapter_count == 0)
        return NB_OK;
    NB_TRY(nb_adapter_base_of(nb_gguf_value_at(m->gguf, 0), nb_gguf_value_count(m->gguf), nb_gguf_path(m->gguf), &base,
                              err));
    m->adapters = calloc(params->adapter_count, sizeof *m->adapters);
    if (!m->adapters)
        return nb_fail_memory(err, "adapters", params->adapter_count * sizeof *m->adapters);
    for (size_t i = 0; i < params->adapter_count; i++) {
        NB_TRY(nb_adapter_open(params->adapters[i].path, &base, &m->adapters[i], err));
        m->adapter_count++;
        NB_TRY(nb_model_adapt(m->def, m->adapters[i], params->adapters[i].scale, err));
    }
    return NB_OK;
}

/* m->gguf: NULL, then it is what lies at path */
static nb_status look(nb_model *m, const char *path, const nb_model_params *params, nb_error *err)
{
    NB_TRY(nb_cpu_check_env(err));
    nb_hf_params source = {.load = params->load,
                           .packed = !params->exact,
                           .stored = params->exact,
                           .as_cpu = params->exact,
                           .threads = params->threads};
    if (!m->gguf)
        NB_TRY(nb_gguf_open_model_as(path, &source, &m->gguf, err));
    NB_TRY(nb_model_def_new(m->gguf, &m->def, err));
    if (params->rope)
        NB_TRY(nb_hparams_scale_rope(&m->def->h, params->rope, err));
    const nb_gguf_value *threshold = nb_gguf_find(m->gguf, NB_HF_INT8_THRESHOLD);
    if (threshold && threshold->kind == NB_GGUF_F32)
        m->weights_params.int8_threshold = (float)nb_gguf_elem_f64(threshold, 0);
    NB_TRY(load_adapters(m, params, err));
    NB_TRY(nb_plan_build(m->def, &m->plan, err));
    NB_TRY(nb_embed_head_read(m->gguf, m->plan.buffers[m->plan.hidden].width, &m->embed_head, err));
    NB_TRY(nb_embed_classifier_read(m->gguf, m->plan.buffers[m->plan.hidden].width, &m->classifier, err));
    NB_TRY(nb_tokenizer_from_gguf(m->gguf, params->pre_tokenizer, &m->tokenizer, err));
    NB_TRY(check_vocabulary(m, err));
    return load_template(m, err);
}

static nb_status look_new(nb_gguf *g, const char *path, const nb_model_params *params, nb_model **out, nb_error *err)
{
    *out = NULL;
    nb_model *m = calloc(1, sizeof *m);
    if (!m) {
        nb_status status = nb_fail(err, NB_ERR_MEMORY, "%s: out of memory", path);
        nb_gguf_close(g);
        return status;
    }
    m->gguf = g;
    pthread_mutex_init(&m->lock, NULL);
    m->backend = &nb_backend_cpu;
    m->weights_params = (nb_weights_params){
        .threads = params->threads, .pin = params->pin_threads, .repack = params->repack, .exact = params->exact};
    nb_status status = look(m, path, params, err);
    if (status != NB_OK) {
        nb_model_close(m);
        return status;
    }
    *out = m;
    return NB_OK;
}

nb_status nb_model_look(const char *path, const nb_model_params *params, nb_model **out, nb_error *err)
{
    return look_new(NULL, path, params, out, err);
}

nb_status nb_model_fill(nb_model *m, nb_error *err)
{
    return m->backend->weights_new(m->def, &m->plan, &m->weights_params, &m->weights, err);
}

static nb_status open_new(nb_gguf *g, const char *path, const nb_model_params *params, nb_model **out, nb_error *err)
{
    nb_model_params defaults = nb_model_defaults();
    nb_model *m;
    *out = NULL;
    NB_TRY(look_new(g, path, params ? params : &defaults, &m, err));
    nb_status status = nb_model_fill(m, err);
    if (status != NB_OK) {
        nb_model_close(m);
        return status;
    }
    *out = m;
    return NB_OK;
}

nb_status nb_model_open(const char *path, const nb_model_params *params, nb_model **out, nb_error *err)
{
    return open_new(NULL, path, params, out, err);
}

nb_status nb_model_open_gguf(nb_gguf *g, const nb_model_params *params, nb_model **out, nb_error *err)
{
    return open_new(g, nb_gguf_path(g), params, out, err);
}

void nb_model_close(nb_model *m)
{
    if (!m)
        return;
    if (m->weights)
        m->backend->weights_free(m->weights);
    nb_template_free(m->chat);
    nb_tokenizer_free(m->tokenizer);
    nb_plan_free(&m->plan);
    nb_model_def_free(m->def);
    for (size_t i = 0; i < m->adapter_count; i++)
        nb_adapter_free(m->adapters[i]);
    free(m->adapters);
    nb_gguf_close(m->gguf);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

size_t nb_model_vocabulary(const nb_model *m) { return m->def->h.vocab; }
size_t nb_model_context(const nb_model *m) { return m->def->h.context; }
bool nb_model_has_chat(const nb_model *m) { return m->chat || m->chat_status != NB_OK; }
bool nb_model_ends_reply(const nb_model *m, int32_t id) { return nb_tokenizer_ends(m->tokenizer, id); }

nb_status nb_tokenize(const nb_model *m, const char *text, size_t bytes, unsigned flags, int32_t *ids, size_t capacity,
                      size_t *count, nb_error *err)
{
    nb_ids all = {0};
    nb_status status = nb_tokenizer_encode(m->tokenizer, (nb_str){text, bytes}, flags, &all, err);
    if (status == NB_OK) {
        *count = all.count;
        if (all.count && capacity)
            memcpy(ids, all.id, nb_min_size(all.count, capacity) * sizeof *ids);
    }
    nb_ids_free(&all);
    return status;
}

/* hands a buffer's bytes to a caller's array, as far as they fit, and frees it */
static nb_status hand_out(nb_buf *b, nb_status status, char *text, size_t capacity, size_t *bytes, nb_error *err)
{
    if (status == NB_OK && b->failed)
        status = nb_fail(err, NB_ERR_MEMORY, "out of memory");
    if (status == NB_OK) {
        *bytes = b->len;
        if (b->len && capacity)
            memcpy(text, b->data, nb_min_size(b->len, capacity));
    }
    nb_buf_free(b);
    return status;
}

nb_status nb_detokenize(const nb_model *m, const int32_t *ids, size_t count, char *text, size_t capacity, size_t *bytes,
                        nb_error *err)
{
    nb_buf b = {0};
    nb_status status = nb_tokenizer_decode(m->tokenizer, ids, count, false, &b, err);
    return hand_out(&b, status, text, capacity, bytes, err);
}

nb_status nb_model_chat(const nb_model *m, const nb_chat_message *messages, size_t count, nb_buf *out, nb_error *err)
{
    if (m->chat_status != NB_OK)
        return nb_fail(err, m->chat_status, "%s: tokenizer.chat_template: %.500s; --raw does without it",
                       nb_gguf_path(m->gguf), m->chat_error.message);
    if (!m->chat)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: has no chat template; use it as plain text (--raw)",
                       nb_gguf_path(m->gguf));
    nb_chat_input input = {.messages = messages,
                           .count = count,
                           .bos_token = m->bos,
                           .eos_token = m->eos,
                           .add_generation_prompt = true,
                           .now = (int64_t)time(NULL)};
    return nb_template_render(m->chat, &input, out, err);
}

nb_status nb_chat_prompt(const nb_model *m, const nb_message *messages, size_t count, char *text, size_t capacity,
                         size_t *bytes, nb_error *err)
{
    nb_buf b = {0};
    nb_chat_message *list = calloc(count ? count : 1, sizeof *list);
    if (!list)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++)
        list[i] = (nb_chat_message){.role = nb_str_of(messages[i].role), .content = nb_str_of(messages[i].content)};
    nb_status status = nb_model_chat(m, list, count, &b, err);
    free(list);
    return hand_out(&b, status, text, capacity, bytes, err);
}
