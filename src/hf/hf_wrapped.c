#include "hf/hf_wrapped.h"

#include "hf/hf_rows.h"

const char *const nb_hf_wrapped_prefixes[] = {"model.language_model.", "language_model.model.", "model.text_model.",
                                              "model.", NULL};

/* those whose text goes through the model of text as it would without them */
static const char *const wrappers[] = {
    "LlavaForConditionalGeneration",      "LlavaNextForConditionalGeneration", "LlavaOnevisionForConditionalGeneration",
    "VipLlavaForConditionalGeneration",   "Mistral3ForConditionalGeneration",  "Idefics3ForConditionalGeneration",
    "SmolVLMForConditionalGeneration",    "InternVLForConditionalGeneration",  "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
};

/* "model_type" of text_config, or of config.json where the text's keys stand beside it */
static const char *const texts[][2] = {
    {"llama", "LlamaForCausalLM"},           {"mistral", "MistralForCausalLM"},
    {"ministral3", "Ministral3ForCausalLM"}, {"qwen2", "Qwen2ForCausalLM"},
    {"qwen3", "Qwen3ForCausalLM"},           {"phi3", "Phi3ForCausalLM"},
    {"gemma2", "Gemma2ForCausalLM"},         {"smollm3", "SmolLM3ForCausalLM"},
    {"granite", "GraniteForCausalLM"},       {"qwen2_vl", "Qwen2ForCausalLM"},
    {"qwen2_vl_text", "Qwen2ForCausalLM"},   {"qwen2_5_vl", "Qwen2ForCausalLM"},
    {"qwen2_5_vl_text", "Qwen2ForCausalLM"},
};

static const nb_node *text_type(const nb_hf *h)
{
    const nb_node *n = nb_node_get_kind(h->text, "model_type", '"');
    return n ? n : nb_node_get_kind(h->config.root, "model_type", '"');
}

static bool is_wrapper(nb_str name)
{
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++)
        if (nb_str_eqz(name, wrappers[i]))
            return true;
    return false;
}

static nb_status unknown(const nb_hf *h, const nb_node *list, nb_error *err)
{
    nb_buf known = {0};
    nb_hf_arch_classes(&known);
    nb_status status = nb_tree_bad(&h->config, list, err, NB_ERR_UNSUPPORTED, "names %.*s, which is not known; %s are",
                                   NB_STR_ARG(h->class_name), known.data ? known.data : "");
    nb_buf_free(&known);
    return status;
}

static nb_status not_plain(const nb_hf *h, const nb_node *list, const nb_node *type, nb_error *err)
{
    return nb_tree_bad(
        &h->config, list, err, NB_ERR_UNSUPPORTED,
        "names %.*s, a model of more than text around one of text (%.*s), which is not known; the text of "
        "LLaVA, Mistral 3, Idefics 3, SmolVLM, InternVL, Qwen2-VL and Gemma 3 is read",
        NB_STR_ARG(h->class_name), type ? (int)type->str.n : 0, type ? type->str.p : "");
}

nb_status nb_hf_unwrap(nb_hf *h, const nb_node *list, nb_error *err)
{
    const nb_node *type = text_type(h);
    bool is = is_wrapper(h->class_name);
    if (!is && h->text == h->config.root)
        return unknown(h, list, err);
    for (size_t i = 0; is && type && i < sizeof texts / sizeof *texts; i++)
        if (nb_str_eqz(type->str, texts[i][0])) {
            h->class_name = nb_str_of(texts[i][1]);
            h->arch = nb_hf_arch_of_class(h->class_name);
            h->wrapped = true;
        }
    return h->arch ? NB_OK : not_plain(h, list, type, err);
}
