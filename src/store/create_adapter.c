/* create_adapter.c - LoRA adapters as layers: a store keeps them as GGUF files, so a directory of PEFT becomes one. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "convert/open.h"
#include "format/gguf_write.h"
#include "hf/hf_adapter.h"
#include "store/create_internal.h"

/* One alpha stands for all pairs of a GGUF adapter: theirs when they agree, else 0, which means a scale of 1, and every B is
 * written with its scale in it. */
static double common_alpha(const nb_adapter *a)
{
    double alpha = (double)a->pairs[0].scale * (double)a->pairs[0].a->dims[1];
    for (size_t i = 1; i < a->count; i++)
        if ((float)(alpha / (double)a->pairs[i].a->dims[1]) != a->pairs[i].scale)
            return 0;
    return alpha;
}

static void put_name(nb_gguf_writer *w, nb_str name, const char *end, const nb_gguf_tensor *t, const nb_type_info *type)
{
    char full[128];
    int n = snprintf(full, sizeof full, "%.*s%s", NB_STR_ARG(name), end);
    size_t length = n < 0 ? 0 : nb_min_size((size_t)n, sizeof full - 1); /* what is too long, the writer refuses */
    nb_gguf_put_tensor(w, (nb_str){full, length}, type, t->n_dims, t->dims);
}

static nb_status put_scaled(nb_gguf_writer *w, const nb_gguf_tensor *t, float scale, nb_error *err)
{
    size_t columns = (size_t)t->dims[0], stride = t->bytes / (size_t)t->dims[1], bytes = 0;
    float *row = nb_mul(columns, sizeof *row, &bytes) ? malloc(bytes) : NULL;
    nb_status status = row ? NB_OK : nb_fail_memory(err, "an adapter's row", bytes);
    for (size_t i = 0; i < t->dims[1] && status == NB_OK; i++) {
        t->type->dequantize((const char *)t->data + i * stride, row, columns);
        for (size_t j = 0; j < columns; j++)
            row[j] *= scale;
        status = nb_gguf_writer_data(w, row, bytes, err);
    }
    free(row);
    return status;
}

static nb_status put_all(nb_gguf_writer *w, const nb_adapter *a, nb_error *err)
{
    double alpha = common_alpha(a);
    const nb_type_info *f32 = nb_type_get(NB_TYPE_F32);
    nb_gguf_put_str(w, "general.architecture", a->architecture);
    nb_gguf_put_str(w, "general.type", NB_STR("adapter"));
    nb_gguf_put_str(w, "adapter.type", NB_STR("lora"));
    nb_gguf_put_f32(w, "adapter.lora.alpha", (float)alpha);
    for (size_t i = 0; i < a->count; i++) {
        put_name(w, a->pairs[i].name, ".lora_a", a->pairs[i].a, a->pairs[i].a->type);
        put_name(w, a->pairs[i].name, ".lora_b", a->pairs[i].b, alpha == 0 ? f32 : a->pairs[i].b->type);
    }
    for (size_t i = 0; i < a->count; i++) {
        const nb_adapter_pair *p = &a->pairs[i];
        NB_TRY(nb_gguf_writer_data(w, p->a->data, p->a->bytes, err));
        if (alpha == 0)
            NB_TRY(put_scaled(w, p->b, p->scale, err));
        else
            NB_TRY(nb_gguf_writer_data(w, p->b->data, p->b->bytes, err));
    }
    return NB_OK;
}

static nb_status convert(nb_creation *c, const nb_adapter *a, nb_layer *layer, nb_error *err)
{
    nb_buf out = {0};
    nb_gguf_writer *w = NULL;
    NB_TRY(nb_creation_say(c, err, "converting adapter"));
    nb_status status = nb_store_scratch(c->store, &out, err);
    if (status == NB_OK)
        status = nb_gguf_writer_open(out.data, 0, &w, err);
    if (status == NB_OK && (status = put_all(w, a, err)) == NB_OK)
        status = nb_gguf_writer_commit(w, err);
    else
        nb_gguf_writer_abort(w);
    if (status == NB_OK)
        status = nb_blob_adopt(c->store, out.data, NB_STR(""), NB_MEDIA("adapter"), &c->arena, layer, NULL, NULL, err);
    if (status != NB_OK && out.len)
        unlink(out.data);
    nb_buf_free(&out);
    return status;
}

nb_status nb_creation_adapter(nb_creation *c, const char *path, bool link, nb_layer *layer, nb_error *err)
{
    nb_source *model = NULL;
    nb_adapter_base base;
    nb_adapter *a = NULL;
    const char *model_path;
    if (!c->model)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: there is no GGUF model for this adapter", path);
    NB_TRY(nb_creation_blob(c, c->model->digest, &model_path, err));
    nb_status status = nb_source_open_gguf(model_path, &model, err);
    if (status == NB_OK)
        status = nb_adapter_base_of(model->values, model->value_count, model_path, &base, err);
    if (status == NB_OK)
        status = nb_adapter_open(path, &base, &a, err); /* checks it, too */
    if (status == NB_OK)
        status = nb_hf_is_adapter(path) ? convert(c, a, layer, err)
                                        : nb_blob_import(c->store, path, NB_MEDIA("adapter"), link, &c->arena, layer,
                                                         nb_creation_copied, c, err);
    nb_adapter_free(a);
    nb_source_free(model);
    return status;
}
