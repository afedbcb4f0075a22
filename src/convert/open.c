#include "convert/open.h"

#include <stdlib.h>

#include "convert/quantize.h"
#include "hf/hf_adapter.h"

nb_status nb_source_open(const char *path, nb_source **out, nb_error *err)
{
    return nb_hf_is_model(path) ? nb_hf_open(path, out, err) : nb_source_open_gguf(path, out, err);
}

nb_status nb_source_open_to_write(const char *path, nb_write_source *how, nb_source **out, nb_error *err)
{
    nb_hf_params p = {.load = how->load, .threads = how->threads, .stored = how->keep_types};
    how->again = false;
    how->mix = NULL;
    if (!nb_hf_is_model(path))
        return nb_source_open_gguf(path, out, err);
    NB_TRY(nb_hf_open_as(path, &p, out, err));
    how->again = how->load || nb_hf_is_quantized(*out);
    if (how->again)
        how->mix = nb_mix_by_name(NB_STR("Q8_0"));
    return NB_OK;
}

static nb_status open_directory(const char *path, const nb_hf_params *params, nb_gguf **out, nb_error *err)
{
    nb_quantize_params p = nb_quantize_defaults();
    nb_source *s;
    p.mix = nb_mix_by_name(NB_STR("COPY"));
    p.threads = params->threads;
    NB_TRY(nb_hf_open_as(path, params, &s, err));
    return nb_quantize_to_memory(s, &p, out, err);
}

/* ---- a GGUF file, quantized while it is read ---- */

static const nb_type_info *loaded_type(const nb_load_params *load)
{
    static const nb_type types[] = {
        [NB_LOAD_NF4] = NB_TYPE_NF4, [NB_LOAD_FP4] = NB_TYPE_FP4, [NB_LOAD_INT8] = NB_TYPE_INT8};
    return nb_type_get(types[load->form]);
}

/* the matrices of blocks, routers of experts excepted: GGUF's names say no more about modules */
static bool is_linear(const nb_source_tensor *t)
{
    static const char end[] = ".weight", router[] = ".ffn_gate_inp.weight";
    if (t->name.n > sizeof router &&
        memcmp(t->name.p + t->name.n - (sizeof router - 1), router, sizeof router - 1) == 0)
        return false;
    return nb_str_starts(t->name, NB_STR("blk.")) && t->n_dims == 2 && t->name.n > sizeof end &&
           memcmp(t->name.p + t->name.n - (sizeof end - 1), end, sizeof end - 1) == 0;
}

static nb_status choose_types(const nb_source *s, const nb_load_params *load, const nb_type_info **types, nb_error *err)
{
    const nb_type_info *type = loaded_type(load);
    for (size_t i = 0; i < s->tensor_count; i++) {
        const nb_source_tensor *t = &s->tensors[i];
        types[i] = t->type;
        if (!is_linear(t))
            continue;
        if (t->type->block_values != 1)
            return nb_fail(err, NB_ERR_ARGUMENT,
                           "%s: tensor '%.*s' is quantized already (%s); run the file without --load-in-4bit or "
                           "--load-in-8bit",
                           s->path, NB_STR_ARG(t->name), t->type->name);
        if (t->dims[0] % type->block_values == 0)
            types[i] = type;
    }
    return NB_OK;
}

static nb_status open_file(const char *path, const nb_hf_params *params, nb_gguf **out, nb_error *err)
{
    nb_quantize_params p = nb_quantize_defaults();
    nb_source *s;
    if (params->load->double_quant || params->load->skip_count)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: double quantization and modules to skip are for directories of Hugging Face; leave "
                       "these options out, or give the model's directory",
                       path);
    NB_TRY(nb_source_open_gguf(path, &s, err));
    const nb_type_info **types = calloc(s->tensor_count + 1, sizeof *types);
    nb_status status = types ? choose_types(s, params->load, types, err)
                             : nb_fail_memory(err, path, s->tensor_count * sizeof *types);
    p.types = types;
    p.threads = params->threads;
    if (status == NB_OK)
        status = nb_quantize_to_memory(s, &p, out, err);
    else
        nb_source_free(s);
    free(types);
    return status;
}

nb_status nb_gguf_open_model_as(const char *path, const nb_hf_params *params, nb_gguf **out, nb_error *err)
{
    *out = NULL;
    if (nb_hf_is_model(path))
        return open_directory(path, params, out, err);
    return params->load ? open_file(path, params, out, err) : nb_gguf_open(path, out, err);
}

nb_status nb_gguf_open_model(const char *path, int threads, nb_gguf **out, nb_error *err)
{
    return nb_gguf_open_model_as(path, &(nb_hf_params){.threads = threads}, out, err);
}

nb_status nb_adapter_open(const char *path, const nb_adapter_base *base, nb_adapter **out, nb_error *err)
{
    return nb_hf_is_adapter(path) ? nb_hf_adapter_open(path, base, out, err)
                                  : nb_adapter_open_gguf(path, base, out, err);
}
