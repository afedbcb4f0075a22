/* Linear layers in optimum-quanto's form: symmetric rows of 8 bits, or 4-bit groups with a shift (nibble.h's
 * NB_LINEAR_SYMMETRIC and NB_LINEAR_SHIFT). */
#include <stdlib.h>

#include "base/json_write.h"
#include "hf/bnb_write_parts.h"

static nb_linear_params params_of(const nb_bnb_writing *w, const nb_hf_linear *l)
{
    size_t group = 128, n = (size_t)l->columns;
    if (w->p->quanto != NB_QUANTO_W4G128)
        return (nb_linear_params){NB_LINEAR_INT8, NB_LINEAR_SYMMETRIC, NB_LINEAR_ROW, 0};
    while (n > 128 && n % group != 0 && group > 32)
        group -= 32;
    return (nb_linear_params){NB_LINEAR_INT4, NB_LINEAR_SHIFT, NB_LINEAR_ROW, n > 128 && n % group == 0 ? group : n};
}

nb_status nb_quanto_add(nb_bnb_writing *w, nb_error *err)
{
    enum { WEIGHT = sizeof ".weight" - 1 };
    const nb_hf_linear *l = w->linear;
    nb_linear_params p = params_of(w, l);
    uint64_t groups = nb_linear_scales(&p, (size_t)l->rows, (size_t)l->columns);
    if (p.group) {
        NB_TRY(nb_bnb_add(w, NB_QUANTO_DATA, "._data._data", 0, NB_DTYPE_U8, (groups + 1) / 2, p.group, err));
        NB_TRY(nb_bnb_add(w, NB_QUANTO_SHIFT, "._shift", 0, NB_DTYPE_F32, groups, 1, err));
    } else {
        NB_TRY(nb_bnb_add(w, NB_QUANTO_DATA, "._data", 0, NB_DTYPE_I8, l->rows, l->columns, err));
    }
    NB_TRY(nb_bnb_add(w, NB_QUANTO_SCALE, "._scale", 0, NB_DTYPE_F32, groups, 1, err));
    NB_TRY(nb_bnb_add(w, NB_QUANTO_ONE, ".input_scale", WEIGHT, NB_DTYPE_F32, 0, 0, err));
    return nb_bnb_add(w, NB_QUANTO_ONE, ".output_scale", WEIGHT, NB_DTYPE_F32, 0, 0, err);
}

typedef struct room {
    float *x, *scale, *shift;
    int8_t *codes;
} room;

/* The first half of the groups in the low bits, the second in the high ones. */
static nb_status put_packed(nb_bnb_writing *w, const int8_t *codes, size_t groups, size_t group, nb_error *err)
{
    size_t half = (groups + 1) / 2 * group, all = groups * group;
    uint8_t bytes[4096];
    for (size_t at = 0; at < half; at += sizeof bytes) {
        size_t n = nb_min_size(sizeof bytes, half - at);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(codes[at + i] | (at + i + half < all ? codes[at + i + half] : 0) << 4);
        NB_TRY(nb_bnb_put(w, bytes, n, err));
    }
    return NB_OK;
}

static nb_status put_part(nb_bnb_writing *w, const nb_bnb_item *it, const room *r, nb_error *err)
{
    const nb_hf_linear *l = it->linear;
    nb_linear_params p = params_of(w, l);
    size_t rows = (size_t)l->rows, columns = (size_t)l->columns, groups = nb_linear_scales(&p, rows, columns);
    nb_error why;
    nb_checkpoint_read_f32(l->weight, 0, rows * columns, r->x);
    nb_status status = nb_linear_quantize(&p, r->x, rows, columns, r->codes, r->scale, r->shift, &why);
    if (status != NB_OK)
        return nb_fail(err, status, "%s: tensor '%.*s': %.300s", l->weight->file, NB_STR_ARG(l->weight->name),
                       why.message);
    if (it->part == NB_QUANTO_SCALE)
        return nb_bnb_put(w, r->scale, groups * sizeof *r->scale, err);
    if (it->part == NB_QUANTO_SHIFT)
        return nb_bnb_put(w, r->shift, groups * sizeof *r->shift, err);
    return p.group ? put_packed(w, r->codes, groups, p.group, err) : nb_bnb_put(w, r->codes, rows * columns, err);
}

nb_status nb_quanto_write_item(nb_bnb_writing *w, const nb_bnb_item *it, nb_error *err)
{
    static const float one = 1;
    if (it->part == NB_QUANTO_ONE)
        return nb_bnb_put(w, &one, sizeof one, err);
    size_t n = (size_t)nb_hf_linear_values(it->linear), bytes;
    nb_linear_params p = params_of(w, it->linear);
    size_t groups = nb_linear_scales(&p, (size_t)it->linear->rows, (size_t)it->linear->columns);
    if (!nb_mul(n, sizeof(float), &bytes))
        return nb_fail_memory(err, "a weight", SIZE_MAX);
    room r = {malloc(bytes), malloc(groups * sizeof(float)), malloc(groups * sizeof(float)), malloc(n)};
    nb_status status = r.x && r.scale && r.shift && r.codes ? put_part(w, it, &r, err)
                                                            : nb_fail_memory(err, "a weight", bytes);
    free(r.x);
    free(r.scale);
    free(r.shift);
    free(r.codes);
    return status;
}

void nb_quanto_config_text(const nb_bnb_write_params *p, nb_buf *out)
{
    nb_buf_printf(
        out,
        "  \"quantization_config\": {\n    \"activations\": %s,\n    \"modules_to_not_convert\": [\"lm_head\"],\n"
        "    \"quant_method\": \"quanto\",\n    \"weights\": \"%s\"\n  }\n",
        p->quanto == NB_QUANTO_W8A8 ? "\"int8\"" : "null", p->quanto == NB_QUANTO_W4G128 ? "int4" : "int8");
}

void nb_quanto_map_text(const nb_bnb_writing *w, nb_buf *out)
{
    nb_json j = nb_json_begin(out, true);
    nb_json_open(&j, '{');
    for (size_t i = 0; i < w->count; i++) {
        const nb_bnb_item *it = &w->items[i];
        if (it->part != NB_QUANTO_DATA)
            continue;
        nb_str name = it->linear->weight->name;
        name.n -= sizeof ".weight" - 1;
        nb_json_key_str(&j, name);
        nb_json_open(&j, '{');
        nb_json_put_z(&j, "weights", w->p->quanto == NB_QUANTO_W4G128 ? "qint4" : "qint8");
        nb_json_put_z(&j, "activations", "none"); /* ours are dynamic: nothing of them is in the file */
        nb_json_key(&j, "shape");
        nb_json_open(&j, '[');
        nb_json_uint(&j, it->linear->rows);
        nb_json_uint(&j, it->linear->columns);
        nb_json_close(&j, ']');
        nb_json_close(&j, '}');
    }
    nb_json_close(&j, '}');
    nb_buf_char(out, '\n');
}
