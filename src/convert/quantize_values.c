/* The metadata of a quantized file: the source's, what was done to it, and what the user wants otherwise. */
#include <errno.h>
#include <stdlib.h>

#include "convert/quantize_internal.h"
#include "format/gguf_parse.h"

enum { OWN_VALUES = 8, QUANTIZATION_VERSION = 2 };

/* Room for one value more is there: counted beforehand. */
static nb_status set(nb_quantize_values *v, nb_str key, nb_gguf_kind kind, const void *bytes, size_t n, nb_error *err)
{
    char *copy = nb_arena_strdup(&v->arena, key);
    unsigned char *data = nb_arena_alloc(&v->arena, n ? n : 1, 8);
    if (!copy || !data)
        return nb_fail_memory(err, "metadata", n);
    if (n)
        memcpy(data, bytes, n);
    size_t i = 0;
    while (i < v->count && !nb_str_eq(v->items[i].key, key))
        i++;
    v->items[i] = (nb_gguf_value){{copy, key.n}, kind, kind, 1, data, n};
    v->count += i == v->count;
    return NB_OK;
}

static nb_status set_u32(nb_quantize_values *v, const char *key, uint32_t value, nb_error *err)
{
    return set(v, nb_str_of(key), NB_GGUF_U32, &value, sizeof value, err);
}

static nb_status set_str(nb_quantize_values *v, const char *key, nb_str value, nb_error *err)
{
    return set(v, nb_str_of(key), NB_GGUF_STRING, value.p, value.n, err);
}

/* ---- KEY=TYPE:VALUE ---- */

typedef struct override {
    const char *text; /* all of it, for messages */
    nb_str key;
    nb_gguf_kind kind;
    bool exact; /* the user named GGUF's own type */
    const char *value;
} override;

static nb_status bad_override(const override *o, const char *problem, nb_error *err)
{
    return nb_fail(
        err, NB_ERR_ARGUMENT,
        "%s: %s; give KEY=TYPE:VALUE with TYPE int, float, bool or str (or u8 i8 u16 i16 u32 i32 u64 i64 f32 "
        "f64)",
        o->text, problem);
}

static bool kind_by_name(nb_str name, override *o)
{
    static const struct {
        const char *name;
        nb_gguf_kind kind;
    } words[] = {{"int", NB_GGUF_I64},
                 {"float", NB_GGUF_F64},
                 {"bool", NB_GGUF_BOOL},
                 {"str", NB_GGUF_STRING},
                 {"string", NB_GGUF_STRING}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (nb_str_eqz(name, words[i].name)) {
            o->kind = words[i].kind;
            o->exact = false;
            return true;
        }
    for (int kind = 0; kind < NB_GGUF_KINDS; kind++)
        if (nb_gguf_kind_bytes((uint32_t)kind) > 0 && nb_str_eqz(name, nb_gguf_kind_name((nb_gguf_kind)kind))) {
            o->kind = (nb_gguf_kind)kind;
            o->exact = true;
            return true;
        }
    return false;
}

static nb_status split_override(const char *text, override *o, nb_error *err)
{
    *o = (override){.text = text};
    const char *equals = strchr(text, '='), *colon = equals ? strchr(equals, ':') : NULL;
    if (!colon)
        return bad_override(o, equals ? "no type" : "no '='", err);
    o->key = (nb_str){text, (size_t)(equals - text)};
    o->value = colon + 1;
    const char *problem = nb_gguf_name_problem(o->key, NB_GGUF_MAX_KEY);
    if (problem)
        return bad_override(o, "the key cannot be one", err);
    return kind_by_name((nb_str){equals + 1, (size_t)(colon - equals - 1)}, o) ? NB_OK
                                                                               : bad_override(o, "unknown type", err);
}

/* Bits and sign of an integer kind; 0 bits for others. */
static int integer_bits(nb_gguf_kind kind, bool *is_signed)
{
    *is_signed = kind == NB_GGUF_I8 || kind == NB_GGUF_I16 || kind == NB_GGUF_I32 || kind == NB_GGUF_I64;
    return kind == NB_GGUF_BOOL || kind == NB_GGUF_F32 || kind == NB_GGUF_F64 ? 0 : 8 * (int)nb_gguf_kind_bytes(kind);
}

static bool integer_fits(nb_gguf_kind kind, bool negative, uint64_t bits)
{
    bool is_signed;
    int n = integer_bits(kind, &is_signed);
    if (n == 0 || (negative && !is_signed))
        return false;
    if (negative)
        return n == 64 || (int64_t)bits >= -(INT64_C(1) << (n - 1));
    int room = is_signed ? n - 1 : n;
    return room == 64 || bits >> room == 0;
}

static nb_status set_integer(nb_quantize_values *v, const override *o, const nb_gguf_value *old, nb_error *err)
{
    static const nb_gguf_kind usual[] = {NB_GGUF_U32, NB_GGUF_I32, NB_GGUF_I64, NB_GGUF_U64};
    char *end;
    bool negative = o->value[0] == '-', found = false;
    errno = 0;
    uint64_t bits = negative ? (uint64_t)strtoll(o->value, &end, 0) : strtoull(o->value, &end, 0);
    if (errno != 0 || end == o->value || *end != '\0')
        return bad_override(o, "the value is not a whole number of 64 bits", err);
    nb_gguf_kind kind = o->kind;
    if (!o->exact && old && (found = integer_fits(old->kind, negative, bits)))
        kind = old->kind;
    for (size_t i = 0; !o->exact && !found && i < 4; i++)
        if ((found = integer_fits(usual[i], negative, bits)))
            kind = usual[i];
    if (!integer_fits(kind, negative, bits))
        return bad_override(o, "the value does not fit its type", err);
    return set(v, o->key, kind, &bits, nb_gguf_kind_bytes(kind), err);
}

static nb_status set_real(nb_quantize_values *v, const override *o, const nb_gguf_value *old, nb_error *err)
{
    char *end;
    double wide = strtod(o->value, &end);
    float narrow = (float)wide;
    if (end == o->value || *end != '\0')
        return bad_override(o, "the value is not a number", err);
    if (o->exact ? o->kind == NB_GGUF_F64 : old && old->kind == NB_GGUF_F64)
        return set(v, o->key, NB_GGUF_F64, &wide, sizeof wide, err);
    return set(v, o->key, NB_GGUF_F32, &narrow, sizeof narrow, err);
}

static nb_status set_override(nb_quantize_values *v, const nb_source *s, const char *text, nb_error *err)
{
    override o;
    NB_TRY(split_override(text, &o, err));
    const nb_gguf_value *old = NULL;
    for (size_t i = 0; i < s->value_count && !old; i++)
        old = nb_str_eq(s->values[i].key, o.key) ? &s->values[i] : NULL;
    if (o.kind == NB_GGUF_STRING)
        return set(v, o.key, NB_GGUF_STRING, o.value, strlen(o.value), err);
    if (o.kind == NB_GGUF_F32 || o.kind == NB_GGUF_F64)
        return set_real(v, &o, old, err);
    if (o.kind != NB_GGUF_BOOL)
        return set_integer(v, &o, old, err);
    uint8_t truth = strcmp(o.value, "true") == 0;
    if (!truth && strcmp(o.value, "false") != 0)
        return bad_override(&o, "the value is neither true nor false", err);
    return set(v, o.key, NB_GGUF_BOOL, &truth, 1, err);
}

/* ---- all ---- */

static bool passed_over(nb_str key)
{
    return nb_str_eqz(key, "split.no") || nb_str_eqz(key, "split.count") || nb_str_eqz(key, "split.tensors.count") ||
           nb_str_eqz(key, "general.alignment");
}

/* The file type of the type that most bytes have; false where it has none. */
static bool prevalent_file_type(const nb_source *s, const nb_type_info *const *types, uint32_t *file_type)
{
    uint64_t bytes[NB_TYPE_LIMIT] = {0};
    uint32_t most = 0;
    for (size_t i = 0; i < s->tensor_count; i++) {
        size_t row = 0;
        if (nb_type_row_bytes(types[i], s->tensors[i].dims[0], &row))
            bytes[types[i]->id] += row * nb_source_rows(&s->tensors[i]);
        most = bytes[types[i]->id] > bytes[most] ? types[i]->id : most;
    }
    const nb_mix *mix = s->tensor_count ? nb_mix_of_type(nb_type_get(most)) : NULL;
    if (mix)
        *file_type = nb_mix_file_type(mix);
    return mix != NULL;
}

static nb_status set_what_was_done(nb_quantize_values *v, const nb_source *s, const nb_quantize_params *p,
                                   const nb_type_info *const *types, nb_error *err)
{
    uint32_t file_type = p->mix ? nb_mix_file_type(p->mix) : 0;
    if (p->mix && !nb_mix_type(p->mix))
        return NB_OK; /* copied */
    NB_TRY(set_u32(v, "general.quantization_version", QUANTIZATION_VERSION, err));
    if (p->mix || prevalent_file_type(s, types, &file_type))
        NB_TRY(set_u32(v, "general.file_type", file_type, err));
    if (!p->imatrix)
        return NB_OK;
    NB_TRY(set_str(v, "quantize.imatrix.file", nb_str_of(p->imatrix_name ? p->imatrix_name : ""), err));
    if (nb_imatrix_texts(p->imatrix) > 0)
        NB_TRY(set_str(v, "quantize.imatrix.dataset", nb_imatrix_text(p->imatrix, 0), err));
    NB_TRY(set_u32(v, "quantize.imatrix.entries_count", (uint32_t)nb_imatrix_count(p->imatrix), err));
    return set_u32(v, "quantize.imatrix.chunks_count", nb_imatrix_chunks(p->imatrix), err);
}

nb_status nb_quantize_values_make(const nb_source *s, const nb_quantize_params *p, const nb_type_info *const *types,
                                  nb_quantize_values *out, nb_error *err)
{
    *out = (nb_quantize_values){.items = calloc(s->value_count + OWN_VALUES + p->override_count, sizeof *out->items)};
    if (!out->items)
        return nb_fail_memory(err, s->path, s->value_count * sizeof *out->items);
    for (size_t i = 0; i < s->value_count; i++)
        if (!passed_over(s->values[i].key))
            out->items[out->count++] = s->values[i];
    NB_TRY(set_what_was_done(out, s, p, types, err));
    for (size_t i = 0; i < p->override_count; i++)
        NB_TRY(set_override(out, s, p->override_kv[i], err));
    return NB_OK;
}
