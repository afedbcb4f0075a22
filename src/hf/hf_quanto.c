/* Checkpoints in optimum-quanto's form: P.weight._data (int8 rows, or 4-bit codes of groups, the first half of the groups in
 * the low bits), P.weight._scale, P.weight._shift, and scales of static activations, which are not used. */
#include <stdio.h>

#include "hf/hf_quant.h"
#include "num/half.h"

static nb_status configure(nb_hf *h, const nb_tree *tree, const nb_node *q, nb_error *err)
{
    if (!nb_node_is(q, "weights", "int8") && !nb_node_is(q, "weights", "int4"))
        return nb_tree_bad(tree, q, err, NB_ERR_UNSUPPORTED,
                           "has weights that are neither int8 nor int4; make the checkpoint again with one of them");
    NB_TRY(nb_tree_open(h->dir, "quanto_qmap.json", NB_HF_CONFIG_BYTES, true, &h->qmap, err));
    if (h->params.packed && nb_node_is(q, "weights", "int8") && !nb_node_is(q, "activations", "int8"))
        nb_hf_put_f32(h, NB_HF_INT8_THRESHOLD, -1);
    return NB_OK;
}

static bool is_part(const nb_hf *h, nb_str name)
{
    if (nb_hf_strip(&name, "._scale") || nb_hf_strip(&name, "._shift"))
        return nb_hf_beside(h, name, "._data") || nb_hf_beside(h, name, "._data._data");
    return (nb_hf_strip(&name, ".input_scale") || nb_hf_strip(&name, ".output_scale")) &&
           (nb_hf_beside(h, name, ".weight._data") || nb_hf_beside(h, name, ".weight._data._data"));
}

/* The floats of a part: as many as there are groups. */
static nb_status take(nb_hf *h, const nb_checkpoint_tensor *data, nb_str weight, const char *end, uint64_t count,
                      nb_dtype *dtype, const float **out, nb_error *err)
{
    const nb_checkpoint_tensor *t = nb_hf_beside(h, weight, end);
    if (!t || t->values != count || (t->dtype != NB_DTYPE_F32 && t->dtype != NB_DTYPE_F16 && t->dtype != NB_DTYPE_BF16))
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: tensor '%.*s%s' is missing or not %llu values of F32, F16 or BF16; download the checkpoint "
                       "again",
                       data->file, NB_STR_ARG(weight), end, (unsigned long long)count);
    float *copy = NB_ARRAY(&h->arena, float, (size_t)count);
    if (!copy)
        return nb_fail_memory(err, data->file, (size_t)count * sizeof *copy);
    nb_checkpoint_read_f32(t, 0, count, copy);
    *dtype = t->dtype;
    *out = copy;
    return NB_OK;
}

/* "shape" of the module in quanto_qmap.json */
static nb_status find_size(const nb_hf *h, nb_str weight, const nb_node *size[2], nb_error *err)
{
    char module[1024];
    nb_str name = weight;
    nb_hf_strip(&name, ".weight");
    snprintf(module, sizeof module, "%.*s", (int)nb_min_size(name.n, sizeof module - 1), name.p);
    const nb_node *list = nb_node_get_kind(nb_node_get(h->qmap.root, module), "shape", '[');
    if (!list || list->list.count != 2)
        return nb_fail(
            err, NB_ERR_UNSUPPORTED,
            "%s/quanto_qmap.json: has no \"shape\" of %s, without which nothing says how long a row of 4-bit "
            "groups is; make the checkpoint with nibble quantize --linear w4g128",
            h->dir, module);
    size[0] = list->list.first;
    size[1] = size[0]->next;
    return NB_OK;
}

/* The tensor's own shape is that of groups. */
static nb_status shape4(const nb_hf *h, nb_hf_linear *l, nb_str weight, nb_error *err)
{
    const nb_checkpoint_tensor *t = l->weight;
    const nb_node *size[2];
    if (t->dtype != NB_DTYPE_U8 || t->n_dims != 2 || !t->contiguous || t->values == 0 || t->values > (uint64_t)1 << 47)
        return nb_hf_bad_part(t, err, "is no matrix of bytes");
    NB_TRY(find_size(h, weight, size, err));
    NB_TRY(nb_node_u64(&h->qmap, size[0], 1, 1 << 24, &l->rows, err));
    NB_TRY(nb_node_u64(&h->qmap, size[1], 1, 1 << 24, &l->columns, err));
    l->group = (size_t)t->dims[1];
    if (l->columns % l->group != 0 || (l->rows * (l->columns / l->group) + 1) / 2 != t->dims[0])
        return nb_hf_bad_part(t, err, "is not as long as its shape and groups say");
    return NB_OK;
}

static nb_status fill(nb_hf *h, nb_hf_linear *l, nb_str weight, nb_error *err)
{
    nb_dtype dtype = NB_DTYPE_F32, other;
    const nb_checkpoint_tensor *t = l->weight;
    if (l->int8) {
        if (t->dtype != NB_DTYPE_I8 || t->n_dims != 2 || !t->contiguous || t->values == 0)
            return nb_hf_bad_part(t, err, "is no matrix of int8");
        l->rows = t->dims[0];
        l->columns = t->dims[1];
        NB_TRY(take(h, t, weight, "._scale", l->rows, &dtype, &l->scale, err));
    } else {
        NB_TRY(shape4(h, l, weight, err));
        uint64_t groups = l->rows * (l->columns / l->group);
        NB_TRY(take(h, t, weight, "._scale", groups, &dtype, &l->scale, err));
        NB_TRY(take(h, t, weight, "._shift", groups, &other, &l->shift, err));
    }
    l->dtype = dtype == NB_DTYPE_F32 ? NB_FLOAT_F32 : dtype == NB_DTYPE_F16 ? NB_FLOAT_F16 : NB_FLOAT_BF16;
    return NB_OK;
}

static nb_status find(nb_hf *h, const nb_checkpoint_tensor *data, const nb_hf_linear **out, nb_error *err)
{
    nb_str weight = data->name;
    *out = NULL;
    bool four = nb_hf_strip(&weight, "._data._data");
    if (!four && !nb_hf_strip(&weight, "._data"))
        return NB_OK;
    nb_hf_linear *l = NB_NEW(&h->arena, nb_hf_linear);
    if (!l)
        return nb_fail_memory(err, data->file, sizeof *l);
    l->weight = data;
    l->quanto = true;
    l->int8 = !four;
    NB_TRY(fill(h, l, weight, err));
    *out = l;
    return NB_OK;
}

static const char *const ends[] = {".weight._data", ".weight._data._data", NULL};
const nb_hf_quant nb_hf_quant_quanto = {"quanto", ends, configure, find, is_part};

/* ---- rows: each operation rounds to the scale's type, as torch does ---- */

static float rounded(float x, nb_float dtype)
{
    return dtype == NB_FLOAT_F32   ? x
           : dtype == NB_FLOAT_F16 ? nb_f16_to_f32(nb_f32_to_f16(x))
                                   : nb_bf16_to_f32(nb_f32_to_bf16(x));
}

static void store(void *dst, size_t i, float x, nb_float dtype)
{
    if (dtype == NB_FLOAT_F32)
        ((float *)dst)[i] = x;
    else
        ((uint16_t *)dst)[i] = dtype == NB_FLOAT_F16 ? nb_f32_to_f16(x) : nb_f32_to_bf16(x);
}

nb_status nb_hf_quanto_row8(const nb_hf_linear *l, const int8_t *codes, float scale, void *dst)
{
    for (size_t i = 0; i < l->columns; i++)
        store(dst, i, (float)codes[i] * scale, l->dtype);
    return NB_OK;
}

nb_status nb_hf_quanto_rows4(const nb_hf_linear *l, uint64_t row, uint64_t count, void *dst)
{
    const uint8_t *packed = l->weight->data;
    size_t groups = (size_t)(l->rows * (l->columns / l->group)), half = (groups + 1) / 2, at = 0;
    size_t first = (size_t)(row * (l->columns / l->group)), end = first + (size_t)(count * (l->columns / l->group));
    for (size_t g = first; g < end; g++)
        for (size_t i = 0; i < l->group; i++, at++) {
            unsigned two = packed[g % half * l->group + i], code = g < half ? two & 15 : two >> 4;
            store(dst, at, rounded((float)code * l->scale[g], l->dtype) - l->shift[g], l->dtype);
        }
    return NB_OK;
}
