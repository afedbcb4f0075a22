/* What transformers and bitsandbytes write about a quantized model, byte by byte. */
#include "hf/bnb_write_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "num/half.h"

/* ---- dtypes ---- */

static const nb_dtype dtypes[] = {
    [NB_FLOAT_F32] = NB_DTYPE_F32, [NB_FLOAT_F16] = NB_DTYPE_F16, [NB_FLOAT_BF16] = NB_DTYPE_BF16};

nb_dtype nb_bnb_dtype(const nb_bnb_writing *w, nb_dtype dtype)
{
    switch (dtype) {
    case NB_DTYPE_F64:
    case NB_DTYPE_F32: return w->p->has_dtype ? dtypes[w->p->dtype] : NB_DTYPE_F32;
    case NB_DTYPE_F16: return w->p->has_dtype ? dtypes[w->p->dtype] : NB_DTYPE_F16;
    case NB_DTYPE_BF16:
    case NB_DTYPE_F8_E4M3: /* all their values are numbers of BF16 */
    case NB_DTYPE_F8_E5M2: return w->p->has_dtype ? dtypes[w->p->dtype] : NB_DTYPE_BF16;
    default: return dtype;
    }
}

/* ---- texts ---- */

/* as Python prints a float */
static void put_python_float(nb_buf *out, double value)
{
    char text[32];
    nb_format_double(value, text);
    nb_buf_printf(out, "%s%s", text, strpbrk(text, ".en") ? "" : ".0");
}

void nb_bnb_state_text(const nb_bnb_writing *w, nb_buf *out)
{
    const nb_hf_linear *l = w->linear;
    nb_dtype dtype = nb_bnb_dtype(w, w->tensor->dtype);
    nb_buf_printf(
        out, "{\"quant_type\": \"%s\", \"blocksize\": %zu, \"dtype\": \"%s\", \"shape\": [%" PRIu64 ", %" PRIu64 "]",
        l->code == NB_CODE_NF4 ? "nf4" : "fp4", l->block,
        dtype == NB_DTYPE_F32   ? "float32"
        : dtype == NB_DTYPE_F16 ? "float16"
                                : "bfloat16",
        l->rows, l->columns);
    if (l->nested_codes) {
        nb_buf_printf(
            out, ", \"nested_blocksize\": %zu, \"nested_dtype\": \"float32\", \"nested_offset\": ", l->nested_block);
        put_python_float(out, (double)l->nested_offset);
    }
    nb_buf_z(out, "}");
}

static void put_flag(nb_buf *b, const char *key, bool value)
{
    nb_buf_printf(b, "    \"%s\": %s,\n", key, value ? "true" : "false");
}

static void put_skips(nb_buf *b, const nb_load_params *p)
{
    nb_json j = nb_json_begin(b, false);
    nb_buf_z(b, "    \"llm_int8_skip_modules\": ");
    if (p->skip_count) {
        nb_json_open(&j, '[');
        for (size_t i = 0; i < p->skip_count; i++)
            nb_json_z(&j, p->skip[i]);
        nb_json_close(&j, ']');
    } else {
        nb_buf_z(b, "null");
    }
    nb_buf_z(b, ",\n");
}

void nb_bnb_config_text(const nb_bnb_write_params *p, nb_buf *b)
{
    bool int8 = p->load.form == NB_LOAD_INT8;
    nb_buf_z(b, "  \"quantization_config\": {\n");
    put_flag(b, "_load_in_4bit", !int8);
    put_flag(b, "_load_in_8bit", int8);
    nb_buf_printf(b, "    \"bnb_4bit_compute_dtype\": \"%s\",\n    \"bnb_4bit_quant_storage\": \"%s\",\n",
                  p->compute_dtype, p->storage);
    nb_buf_printf(b, "    \"bnb_4bit_quant_type\": \"%s\",\n", p->load.form == NB_LOAD_NF4 ? "nf4" : "fp4");
    put_flag(b, "bnb_4bit_use_double_quant", p->load.double_quant);
    put_flag(b, "llm_int8_enable_fp32_cpu_offload", p->offload);
    put_flag(b, "llm_int8_has_fp16_weight", p->fp16_weight);
    put_skips(b, &p->load);
    nb_buf_z(b, "    \"llm_int8_threshold\": ");
    put_python_float(b, (double)p->load.int8_threshold);
    nb_buf_z(b, ",\n");
    put_flag(b, "load_in_4bit", !int8);
    put_flag(b, "load_in_8bit", int8);
    nb_buf_z(b, "    \"quant_method\": \"bitsandbytes\"\n  }\n");
}

/* ---- bytes ---- */

nb_status nb_bnb_put(nb_bnb_writing *w, const void *bytes, size_t n, nb_error *err)
{
    NB_TRY(nb_safetensors_data(w->file, bytes, n, err));
    w->done += n;
    if (w->progress && w->progress(w->user, w->done, w->all))
        return nb_fail(err, NB_ERR_CANCELLED, "%s: interrupted; nothing is left of it", w->out);
    return NB_OK;
}

static nb_status bad_value(const nb_bnb_item *it, uint64_t at, float v, nb_error *err)
{
    return nb_fail(err, NB_ERR_UNSUPPORTED,
                   "%s: value %" PRIu64 " of tensor '%.*s' is %g, too large for F16; give --type BF16 or F32",
                   it->tensor->file, at, NB_STR_ARG(it->name), (double)v);
}

static nb_status narrow(const nb_bnb_item *it, uint64_t at, const float *v, size_t n, uint16_t *out, nb_error *err)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = it->dtype == NB_DTYPE_F16 ? nb_f32_to_f16(v[i]) : nb_f32_to_bf16(v[i]);
        if (it->dtype == NB_DTYPE_F16 && v[i] - v[i] == 0 && (out[i] & 0x7fff) == 0x7c00)
            return bad_value(it, at + i, v[i], err);
    }
    return NB_OK;
}

static nb_status write_plain(nb_bnb_writing *w, const nb_bnb_item *it, nb_error *err)
{
    enum { PIECE = 4096 };
    const nb_checkpoint_tensor *t = it->tensor;
    size_t size = nb_dtype_bytes(it->dtype);
    float values[PIECE];
    uint16_t halves[PIECE];
    uint64_t raw[PIECE];
    for (uint64_t at = 0; at < t->values; at += PIECE) {
        size_t n = nb_min_size(PIECE, (size_t)(t->values - at));
        const void *bytes = raw;
        if (t->dtype == it->dtype) {
            nb_checkpoint_read_raw(t, at, n, raw);
        } else {
            nb_checkpoint_read_f32(t, at, n, values);
            bytes = it->dtype == NB_DTYPE_F32 ? (const void *)values : halves;
            if (it->dtype != NB_DTYPE_F32)
                NB_TRY(narrow(it, at, values, n, halves, err));
        }
        NB_TRY(nb_bnb_put(w, bytes, n * size, err));
    }
    return NB_OK;
}

/* codes or scales of a 4-bit weight, made span by span */
static nb_status write_spans(nb_bnb_writing *w, const nb_bnb_item *it, nb_error *err)
{
    const nb_hf_linear *l = it->linear;
    nb_hf_linear_span s;
    size_t blocks = nb_hf_linear_blocks(l), together = NB_HF_LINEAR_SPAN / l->block;
    for (size_t b = 0; b < blocks; b += together) {
        size_t n = nb_min_size(together, blocks - b);
        NB_TRY(nb_hf_linear_span_load(l, b, n, &s, err));
        if (it->part == NB_BNB_CODES)
            NB_TRY(nb_bnb_put(w, s.packed, (s.values + 1) / 2, err));
        else
            NB_TRY(nb_bnb_put(w, s.absmax, n * sizeof *s.absmax, err));
    }
    return NB_OK;
}

/* codes or scales of an 8-bit weight */
static nb_status write_rows(nb_bnb_writing *w, const nb_bnb_item *it, nb_error *err)
{
    const nb_hf_linear *l = it->linear;
    size_t n = (size_t)l->columns;
    nb_status status = NB_OK;
    float *values = malloc(n * (sizeof *values + 1));
    if (!values)
        return nb_fail_memory(err, "a row of weights", n * (sizeof *values + 1));
    for (uint64_t r = 0; r < l->rows && status == NB_OK; r++) {
        const int8_t *codes;
        float scale;
        status = nb_hf_linear_row8(l, r, values, (int8_t *)(values + n), &codes, &scale, err);
        if (status == NB_OK)
            status = it->part == NB_BNB_CODES ? nb_bnb_put(w, codes, n, err) : nb_bnb_put(w, &scale, sizeof scale, err);
    }
    free(values);
    return status;
}

static nb_status write_state(nb_bnb_writing *w, const nb_bnb_item *it, nb_error *err)
{
    nb_buf text = {0};
    w->tensor = it->tensor;
    w->linear = it->linear;
    nb_bnb_state_text(w, &text);
    nb_status status = text.failed ? nb_fail_memory(err, w->out, text.len) : nb_bnb_put(w, text.data, text.len, err);
    nb_buf_free(&text);
    return status;
}

nb_status nb_bnb_write_item(nb_bnb_writing *w, const nb_bnb_item *it, nb_error *err)
{
    const nb_hf_linear *l = it->linear;
    switch (it->part) {
    case NB_BNB_PLAIN: return write_plain(w, it, err);
    case NB_BNB_CODES:
    case NB_BNB_SCB: return l->int8 ? write_rows(w, it, err) : write_spans(w, it, err);
    case NB_BNB_ABSMAX:
        return l->nested_codes ? nb_bnb_put(w, l->nested_codes, it->bytes, err) : write_spans(w, it, err);
    case NB_BNB_MAP: return nb_bnb_put(w, l->map, it->bytes, err);
    case NB_BNB_NESTED_ABSMAX: return nb_bnb_put(w, l->nested_absmax, it->bytes, err);
    case NB_BNB_NESTED_MAP: return nb_bnb_put(w, l->nested_map, it->bytes, err);
    case NB_BNB_STATE: return write_state(w, it, err);
    case NB_BNB_FORMAT: return nb_bnb_put(w, "", 1, err);
    case NB_QUANTO_DATA:
    case NB_QUANTO_SCALE:
    case NB_QUANTO_SHIFT:
    case NB_QUANTO_ONE: return nb_quanto_write_item(w, it, err);
    }
    return NB_OK;
}
