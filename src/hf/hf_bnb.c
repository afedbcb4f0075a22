/* Checkpoints that bitsandbytes saved: a weight's codes, and beside them its scales and its quant_state, a JSON object as bytes.
 * Everything is compared with the weight's own shape before anything is read. */
#include <math.h>
#include <stdio.h>

#include "hf/hf_quant.h"
#include "num/half.h"

static nb_status configure(nb_hf *h, const nb_tree *tree, const nb_node *q, nb_error *err)
{
    const nb_node *n = nb_node_get(q, "llm_int8_threshold");
    if (n && !(n->kind == '0' && n->num >= 0 && isfinite((float)n->num)))
        return nb_tree_bad(tree, n, err, NB_ERR_FORMAT, "is no threshold; give a number from 0 on");
    if (h->params.packed && nb_node_flag(q, "load_in_8bit", false))
        nb_hf_put_f32(h, NB_HF_INT8_THRESHOLD, n ? n->num : 6);
    return NB_OK;
}

bool nb_hf_is_quantized(const nb_source *s) { return ((const nb_hf *)s)->quant == &nb_hf_quant_bnb; }

/* ---- what lies beside a weight ---- */

enum { STATE_BYTES = 1 << 16 };
static const char state_ends[2][40] = {
    [NB_CODE_NF4] = ".quant_state.bitsandbytes__nf4", [NB_CODE_FP4] = ".quant_state.bitsandbytes__fp4"};

/* `weight` without its last `cut` bytes, and with `end`; NULL: absent */
static const nb_checkpoint_tensor *beside(const nb_hf *h, const nb_checkpoint_tensor *weight, size_t cut,
                                          const char *end)
{
    char name[1024];
    int n = weight->name.n < sizeof name
                ? snprintf(name, sizeof name, "%.*s%s", (int)(weight->name.n - cut), weight->name.p, end)
                : -1;
    return n < 0 || (size_t)n >= sizeof name ? NULL : nb_checkpoint_find(h->checkpoint, (nb_str){name, (size_t)n});
}

static bool is_part(const nb_hf *h, nb_str name)
{
    static const char *const parts[] = {".absmax",     ".quant_map",  ".nested_absmax", ".nested_quant_map",
                                        state_ends[0], state_ends[1], ".SCB",           ".weight_format"};
    char weight[1024];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (nb_hf_strip(&name, parts[i])) {
            int n = snprintf(weight, sizeof weight, "%.*s%s", (int)nb_min_size(name.n, sizeof weight), name.p,
                             i < 6 ? "" : ".weight");
            const nb_checkpoint_tensor *t = (size_t)n < sizeof weight
                                                ? nb_checkpoint_find(h->checkpoint, nb_str_of(weight))
                                                : NULL;
            return t && (i < 6 ? nb_str_eq(t->name, name) : t->dtype == NB_DTYPE_I8);
        }
    return false;
}

static nb_status bad_part(const nb_checkpoint_tensor *t, nb_error *err, const char *what)
{
    return nb_fail(err, NB_ERR_FORMAT, "%s: tensor '%.*s' %s; download the checkpoint again", t->file,
                   NB_STR_ARG(t->name), what);
}

/* A part that has to be there, with `count` values of that dtype in one row. */
static nb_status take(const nb_hf *h, const nb_checkpoint_tensor *weight, size_t cut, const char *end, nb_dtype dtype,
                      uint64_t count, const nb_checkpoint_tensor **out, nb_error *err)
{
    char what[120];
    *out = beside(h, weight, cut, end);
    if (!*out)
        return nb_fail(err, NB_ERR_FORMAT, "%s: tensor '%.*s%s' is missing, without which '%.*s' says nothing; %s",
                       weight->file, (int)nb_min_size(weight->name.n - cut, 200), weight->name.p, end,
                       NB_STR_ARG(weight->name), "download the checkpoint again");
    snprintf(what, sizeof what, "is not %llu values of %s", (unsigned long long)count, nb_dtype_name(dtype));
    const nb_checkpoint_tensor *t = *out;
    if (t->dtype != dtype || t->values != count || !t->contiguous)
        return bad_part(t, err, what);
    return NB_OK;
}

/* As take, floats: where they lie, or a copy that is aligned. */
static nb_status take_floats(nb_hf *h, const nb_checkpoint_tensor *weight, size_t cut, const char *end, uint64_t count,
                             const float **out, nb_error *err)
{
    const nb_checkpoint_tensor *t;
    NB_TRY(take(h, weight, cut, end, NB_DTYPE_F32, count, &t, err));
    *out = t->data;
    if ((uintptr_t)t->data % sizeof(float) == 0)
        return NB_OK;
    float *copy = NB_ARRAY(&h->arena, float, (size_t)count);
    if (!copy)
        return nb_fail_memory(err, t->file, (size_t)count * sizeof *copy);
    nb_checkpoint_read_f32(t, 0, count, copy);
    *out = copy;
    return NB_OK;
}

/* ---- quant_state ---- */

typedef struct state {
    nb_str type, dtype, nested_dtype;
    uint64_t block, dims[2], nested_block;
    size_t n_dims;
    double offset;
    bool has_offset;
} state;

static const char *const state_keys[] = {"quant_type",       "blocksize",    "dtype",        "shape",
                                         "nested_blocksize", "nested_dtype", "nested_offset"};

static void read_shape(nb_json_reader *r, state *s)
{
    nb_json_read_enter(r, '[');
    while (nb_json_read_more(r)) {
        uint64_t d = nb_json_read_u64(r);
        if (s->n_dims < 2)
            s->dims[s->n_dims] = d;
        s->n_dims++;
    }
}

static void read_member(nb_json_reader *r, size_t key, state *s)
{
    switch (key) {
    case 0: s->type = nb_json_read_str(r); break;
    case 1: s->block = nb_json_read_u64(r); break;
    case 2: s->dtype = nb_json_read_str(r); break;
    case 3: read_shape(r, s); break;
    case 4: s->nested_block = nb_json_read_u64(r); break;
    case 5: s->nested_dtype = nb_json_read_str(r); break;
    case 6:
        s->offset = nb_json_read_num(r);
        s->has_offset = true;
        break;
    default: nb_json_read_skip(r); break;
    }
}

static nb_status read_state(nb_hf *h, const nb_checkpoint_tensor *t, state *s, nb_error *err)
{
    enum { KEYS = sizeof state_keys / sizeof *state_keys };
    char name[400];
    unsigned seen = 0;
    *s = (state){0};
    if (t->dtype != NB_DTYPE_U8 || !t->contiguous || t->values > STATE_BYTES)
        return bad_part(t, err, "is not a short JSON text in bytes");
    snprintf(name, sizeof name, "%.180s: tensor '%.*s'", t->file, NB_STR_ARG(t->name));
    nb_json_reader r = nb_json_read_begin(name, (nb_str){t->data, (size_t)t->values}, &h->arena, err);
    nb_json_read_enter(&r, '{');
    while (nb_json_read_more(&r)) {
        size_t key = 0, at = r.at;
        nb_str text = nb_json_read_key(&r);
        while (key < KEYS && !nb_str_eqz(text, state_keys[key]))
            key++;
        if (key < KEYS && seen >> key & 1)
            nb_json_read_fail(&r, at, NB_ERR_FORMAT, "\"%s\" is given twice", state_keys[key]);
        seen |= 1u << key;
        read_member(&r, key, s);
    }
    return nb_json_read_end(&r);
}

static bool float_of(nb_str name, nb_float *out)
{
    static const char *const names[] = {
        [NB_FLOAT_F32] = "float32", [NB_FLOAT_F16] = "float16", [NB_FLOAT_BF16] = "bfloat16"};
    for (int i = 0; i < 3; i++)
        if (nb_str_eqz(name, names[i])) {
            *out = (nb_float)i;
            return true;
        }
    return false;
}

/* the state by itself */
static nb_status check_state(const nb_checkpoint_tensor *t, const state *s, nb_hf_linear *l, nb_error *err)
{
    uint64_t values;
    if (!nb_str_eqz(s->type, l->code == NB_CODE_NF4 ? "nf4" : "fp4"))
        return bad_part(t, err, "has another quant_type than its name says");
    if (s->block < 32 || s->block > 4096 || (s->block & (s->block - 1)))
        return bad_part(t, err, "has a blocksize that is no power of two from 32 to 4096");
    if (!float_of(s->dtype, &l->dtype))
        return bad_part(t, err, "has a dtype that is none of float32, float16 and bfloat16");
    if (s->n_dims != 2 || !s->dims[0] || !s->dims[1] || __builtin_mul_overflow(s->dims[0], s->dims[1], &values) ||
        values > (uint64_t)1 << 48)
        return bad_part(t, err, "has a shape that is none of a matrix");
    l->rows = s->dims[0];
    l->columns = s->dims[1];
    l->block = (size_t)s->block;
    return NB_OK;
}

/* Codes are stored as bytes, or as the same bytes under the name of a float type. */
static nb_status check_packed(const nb_checkpoint_tensor *w, const nb_hf_linear *l, nb_error *err)
{
    size_t size = nb_dtype_bytes(w->dtype);
    bool storage = w->dtype == NB_DTYPE_U8 || w->dtype == NB_DTYPE_I8 || w->dtype == NB_DTYPE_F16 ||
                   w->dtype == NB_DTYPE_BF16 || w->dtype == NB_DTYPE_F32;
    uint64_t want = (nb_hf_linear_values(l) + 1) / 2;
    if (!storage)
        return bad_part(w, err, "holds 4-bit codes in a dtype that bitsandbytes does not store them in");
    if (!w->contiguous || w->values != (want + size - 1) / size || (w->n_dims == 2 && w->dims[0] != w->values))
        return bad_part(w, err, "is not as long as its quant_state says");
    return NB_OK;
}

static nb_status take_nested(nb_hf *h, const nb_checkpoint_tensor *w, const nb_checkpoint_tensor *text, const state *s,
                             nb_hf_linear *l, nb_error *err)
{
    const nb_checkpoint_tensor *codes;
    size_t blocks = nb_hf_linear_blocks(l);
    if (!s->has_offset || !isfinite((float)s->offset) || !s->nested_block || s->nested_block > 1 << 20 ||
        (s->nested_dtype.n && !nb_str_eqz(s->nested_dtype, "float32")))
        return bad_part(text, err, "has nested_blocksize, nested_dtype or nested_offset that make no sense");
    NB_TRY(take(h, w, 0, ".absmax", NB_DTYPE_U8, blocks, &codes, err));
    l->nested_codes = codes->data;
    l->nested_block = (size_t)s->nested_block;
    l->nested_offset = (float)s->offset;
    NB_TRY(take_floats(h, w, 0, ".nested_quant_map", 256, &l->nested_map, err));
    return take_floats(h, w, 0, ".nested_absmax", nb_bnb_blocks(blocks, l->nested_block), &l->nested_absmax, err);
}

static nb_status find_4bit(nb_hf *h, const nb_checkpoint_tensor *w, const nb_checkpoint_tensor *text, nb_hf_linear *l,
                           nb_error *err)
{
    state s;
    NB_TRY(read_state(h, text, &s, err));
    NB_TRY(check_state(text, &s, l, err));
    NB_TRY(check_packed(w, l, err));
    NB_TRY(take_floats(h, w, 0, ".quant_map", 16, &l->map, err));
    if (s.nested_block || s.has_offset || beside(h, w, 0, ".nested_absmax"))
        return take_nested(h, w, text, &s, l, err);
    return take_floats(h, w, 0, ".absmax", nb_hf_linear_blocks(l), &l->absmax, err);
}

/* ---- 8 bits ---- */

static nb_status find_8bit(nb_hf *h, const nb_checkpoint_tensor *w, size_t cut, nb_hf_linear *l, nb_error *err)
{
    const nb_checkpoint_tensor *format = beside(h, w, cut, ".weight_format");
    if (w->n_dims != 2 || w->values == 0 || !w->contiguous)
        return bad_part(w, err, "is no matrix");
    if (format && (format->dtype != NB_DTYPE_U8 || format->values != 1))
        return bad_part(format, err, "is not one byte");
    if (format && *(const uint8_t *)format->data != 0)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: tensor '%.*s' is %d: codes in an order made for certain GPUs; save the checkpoint again "
                       "with a bitsandbytes of 0.45 or later",
                       format->file, NB_STR_ARG(format->name), *(const uint8_t *)format->data);
    l->int8 = true;
    l->rows = w->dims[0];
    l->columns = w->dims[1];
    l->dtype = NB_FLOAT_F32;
    return take_floats(h, w, cut, ".SCB", l->rows, &l->scale, err);
}

static nb_status find(nb_hf *h, const nb_checkpoint_tensor *w, const nb_hf_linear **out, nb_error *err)
{
    nb_str module = w->name;
    *out = NULL;
    if (!nb_hf_strip(&module, ".weight"))
        return NB_OK;
    const nb_checkpoint_tensor *nf4 = beside(h, w, 0, state_ends[NB_CODE_NF4]);
    const nb_checkpoint_tensor *text = nf4 ? nf4 : beside(h, w, 0, state_ends[NB_CODE_FP4]);
    if (!text && w->dtype != NB_DTYPE_I8)
        return w->dtype == NB_DTYPE_U8
                   ? nb_fail(err, NB_ERR_FORMAT,
                             "%s: tensor '%.*s' holds codes, but '%.*s.quant_state.bitsandbytes__nf4' (or __fp4) is "
                             "missing; download the checkpoint again",
                             w->file, NB_STR_ARG(w->name), NB_STR_ARG(w->name))
                   : NB_OK;
    nb_hf_linear *l = NB_NEW(&h->arena, nb_hf_linear);
    if (!l)
        return nb_fail_memory(err, w->file, sizeof *l);
    l->weight = w;
    l->as_cpu = h->params.as_cpu;
    l->code = nf4 ? NB_CODE_NF4 : NB_CODE_FP4;
    NB_TRY(text ? find_4bit(h, w, text, l, err) : find_8bit(h, w, w->name.n - module.n, l, err));
    *out = l;
    return NB_OK;
}

static const char *const ends[] = {NULL};
const nb_hf_quant nb_hf_quant_bnb = {"bitsandbytes", ends, configure, find, is_part};
