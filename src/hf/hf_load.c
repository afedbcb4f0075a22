/* Which linear layers are quantized while they are read. The rule is transformers' (quantizers_utils.should_convert_module): a
 * name given to be skipped is the end of a module's name, or an expression that fits its beginning up to a point. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "hf/hf_quant.h"

enum { MATCH_LIMIT = 100000, MATCH_HEAP = 1 << 16 /* KiB */ };

nb_load_params nb_load_defaults(nb_load_form form) { return (nb_load_params){.form = form, .int8_threshold = 6}; }

static nb_status bad_name(const char *name, int code, nb_error *err)
{
    PCRE2_UCHAR message[120] = "";
    pcre2_get_error_message(code, message, sizeof message);
    return nb_fail(err, NB_ERR_ARGUMENT, "the module to skip '%s': %s", name, (const char *)message);
}

static nb_status fits(const char *name, nb_str module, bool *is, nb_error *err)
{
    int code;
    PCRE2_SIZE at;
    nb_buf text = {0};
    nb_buf_printf(&text, "(?:%s)(?:(?<=\\.)|(?=\\.|$))", name);
    pcre2_code *re = text.failed ? NULL
                                 : pcre2_compile((PCRE2_SPTR)text.data, text.len, PCRE2_ANCHORED, &code, &at, NULL);
    nb_buf_free(&text);
    if (!re)
        return bad_name(name, code, err);
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(re, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    nb_status status = match && limits ? NB_OK : nb_fail_memory(err, "the name of a module", 0);
    if (status == NB_OK) {
        pcre2_set_match_limit(limits, MATCH_LIMIT);
        pcre2_set_heap_limit(limits, MATCH_HEAP);
        int found = pcre2_match(re, (PCRE2_SPTR)module.p, module.n, 0, 0, match, limits);
        *is = found >= 0;
        if (found < 0 && found != PCRE2_ERROR_NOMATCH)
            status = bad_name(name, found, err);
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    return status;
}

static nb_status is_skipped(const nb_load_params *p, nb_str module, bool *is, nb_error *err)
{
    *is = false;
    for (size_t i = 0; i < p->skip_count && !*is; i++) {
        nb_str name = nb_str_of(p->skip[i]);
        *is = name.n <= module.n && memcmp(module.p + module.n - name.n, name.p, name.n) == 0;
        if (!*is)
            NB_TRY(fits(p->skip[i], module, is, err));
    }
    return NB_OK;
}

/* What has no linear layer behind it: a table in which rows are looked up, or the router of experts, which is a parameter of its
 * own in transformers, as experts' matrices are. */
static bool is_no_linear(const char *gguf)
{
    nb_str name = nb_str_of(gguf);
    if (nb_hf_strip(&name, ".ffn_gate_inp.weight"))
        return true;
    static const char *const tables[] = {"token_embd.weight", "position_embd.weight", "token_types.weight"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (strcmp(gguf, tables[i]) == 0)
            return true;
    return false;
}

static nb_status nest(nb_hf *h, nb_hf_linear *l, nb_error *err)
{
    size_t blocks = nb_hf_linear_blocks(l), nested = nb_bnb_blocks(blocks, NB_HF_LINEAR_NEST);
    uint8_t *codes = NB_ARRAY(&h->arena, uint8_t, blocks);
    float *absmax = NB_ARRAY(&h->arena, float, nested);
    if (!codes || !absmax)
        return nb_fail_memory(err, l->weight->file, blocks);
    if (!h->team)
        NB_TRY(nb_team_new(h->params.threads, false, &h->team, err));
    return nb_hf_linear_nest(l, codes, absmax, h->team, err);
}

static bool is_float(nb_dtype dtype)
{
    return dtype == NB_DTYPE_F32 || dtype == NB_DTYPE_F16 || dtype == NB_DTYPE_BF16 || dtype == NB_DTYPE_F64 ||
           dtype == NB_DTYPE_F8_E4M3 || dtype == NB_DTYPE_F8_E5M2;
}

nb_status nb_hf_load_find(nb_hf *h, const char *gguf, const nb_checkpoint_tensor *w, const nb_hf_linear **out,
                          nb_error *err)
{
    const nb_load_params *p = h->params.load;
    static const char end[] = ".weight";
    bool skipped = strcmp(gguf, "output.weight") == 0;
    nb_str module = {w->name.p, w->name.n - (sizeof end - 1)};
    *out = NULL;
    if (!p || w->n_dims != 2 || w->values == 0 || w->name.n < sizeof end || is_no_linear(gguf) || !is_float(w->dtype) ||
        memcmp(module.p + module.n, end, sizeof end - 1) != 0)
        return NB_OK;
    if (p->skip_count)
        NB_TRY(is_skipped(p, module, &skipped, err));
    if (skipped)
        return NB_OK;
    nb_hf_linear *l = NB_NEW(&h->arena, nb_hf_linear);
    if (!l)
        return nb_fail_memory(err, w->file, sizeof *l);
    *l = (nb_hf_linear){.weight = w, .rows = w->dims[0], .columns = w->dims[1], .dtype = NB_FLOAT_F32, .made = true};
    l->int8 = p->form == NB_LOAD_INT8;
    l->code = p->form == NB_LOAD_FP4 ? NB_CODE_FP4 : NB_CODE_NF4;
    l->block = NB_HF_LINEAR_BLOCK;
    l->as_cpu = h->params.as_cpu;
    l->taken = h->params.rounds ? h->params.taken : NB_FLOAT_F32;
    l->map = nb_bnb_map4(l->code);
    if (p->double_quant && !l->int8)
        NB_TRY(nest(h, l, err));
    *out = l;
    return NB_OK;
}
