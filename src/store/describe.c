#include "store/describe.h"

#include <stdio.h>
#include <stdlib.h>

#include "format/file_type.h"
#include "text/infill.h"

/* ---- metadata ---- */

static bool is_integer(const nb_gguf_value *v)
{
    return v->kind <= NB_GGUF_I32 || v->kind == NB_GGUF_U64 || v->kind == NB_GGUF_I64;
}

static bool get_u64(const nb_source *s, const char *key, uint64_t *out)
{
    const nb_gguf_value *v = nb_source_find(s, key);
    if (!v || !is_integer(v) || nb_gguf_elem_i64(v, 0) < 0)
        return false;
    *out = nb_gguf_elem_u64(v, 0);
    return true;
}

/* a number under "ARCHITECTURE.key", 0 when unsaid */
static uint64_t own_u64(const nb_source *s, nb_str architecture, const char *key)
{
    char whole[200];
    uint64_t value = 0;
    int n = snprintf(whole, sizeof whole, "%.*s.%s", NB_STR_ARG(architecture), key);
    if (n > 0 && (size_t)n < sizeof whole)
        get_u64(s, whole, &value);
    return value;
}

static bool has_own(const nb_source *s, nb_str architecture, const char *key)
{
    char whole[200];
    int n = snprintf(whole, sizeof whole, "%.*s.%s", NB_STR_ARG(architecture), key);
    return n > 0 && (size_t)n < sizeof whole && nb_source_find(s, whole);
}

static nb_str string_at(const nb_gguf_value *v, uint64_t index)
{
    const unsigned char *p = v->data;
    uint64_t n = 0;
    for (uint64_t i = 0;; i++, p += 8 + n) { /* the file's reader has checked the lengths */
        memcpy(&n, p, sizeof n);
        if (i == index)
            return (nb_str){(const char *)p + 8, (size_t)n};
    }
}

static nb_str token(const nb_source *s, const char *key)
{
    const nb_gguf_value *words = nb_source_find(s, "tokenizer.ggml.tokens");
    uint64_t id;
    if (!words || words->kind != NB_GGUF_ARRAY || words->element != NB_GGUF_STRING || !get_u64(s, key, &id) ||
        id >= words->count)
        return NB_STR("");
    return string_at(words, id);
}

/* All three names of a family are among the words. */
static bool knows_infill_names(const nb_source *s)
{
    const nb_gguf_value *words = nb_source_find(s, "tokenizer.ggml.tokens");
    unsigned found[NB_INFILL_FAMILIES] = {0};
    uint64_t n = 0;
    if (!words || words->kind != NB_GGUF_ARRAY || words->element != NB_GGUF_STRING)
        return false;
    const unsigned char *p = words->data;
    for (uint64_t i = 0; i < words->count; i++, p += 8 + n) { /* the file's reader has checked the lengths */
        memcpy(&n, p, sizeof n);
        nb_str word = {(const char *)p + 8, (size_t)n};
        if (n < 5 || (p[8] != '<' && p[8] < 0x80))
            continue;
        for (int f = 0; f < NB_INFILL_FAMILIES; f++)
            for (int k = 0; k < 3; k++) {
                found[f] |= nb_str_eqz(word, nb_infill_names[f][k]) ? 1u << k : 0;
                if (found[f] == 7)
                    return true;
            }
    }
    return false;
}

static bool infills(const nb_source *s)
{
    bool keys = true;
    for (int i = 0; i < 3; i++)
        keys &= nb_source_find(s, nb_infill_keys[i][0]) || nb_source_find(s, nb_infill_keys[i][1]);
    return keys || knows_infill_names(s);
}

/* ---- tensors ---- */

static uint64_t values_of(const nb_source_tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < 4; i++)
        if (__builtin_mul_overflow(n, t->dims[i], &n))
            return UINT64_MAX; /* no file that was opened has such a tensor */
    return n;
}

static void count_values(const nb_source *s, nb_facts *f, const char **most)
{
    uint64_t by_type[NB_TYPE_LIMIT] = {0}, best = 0;
    *most = "unknown";
    for (size_t i = 0; i < s->tensor_count; i++) {
        const nb_type_info *type = s->tensors[i].type;
        uint64_t n = values_of(&s->tensors[i]);
        if (__builtin_add_overflow(f->parameters, n, &f->parameters))
            f->parameters = UINT64_MAX;
        if (type->id < NB_TYPE_LIMIT && (by_type[type->id] += n) > best) {
            best = by_type[type->id];
            *most = type->name;
        }
    }
}

void nb_parameter_size(uint64_t count, char text[24])
{
    const uint64_t million = 1000000, billion = 1000000000;
    if (count >= billion)
        snprintf(text, 24, count % billion ? "%.1fB" : "%.0fB", (double)count / 1e9);
    else if (count >= million)
        snprintf(text, 24, count % million ? "%.2fM" : "%.0fM", (double)count / 1e6);
    else if (count >= 1000)
        snprintf(text, 24, "%.0fK", (double)count / 1e3);
    else
        snprintf(text, 24, "%llu", (unsigned long long)count);
}

/* ---- facts ---- */

static bool keep(nb_arena *arena, nb_str from, nb_str *to)
{
    const char *copy = nb_arena_strdup(arena, from);
    *to = (nb_str){copy, from.n};
    return copy != NULL;
}

nb_status nb_facts_read(const nb_source *s, nb_arena *arena, nb_facts *out, nb_error *err)
{
    const char *most;
    uint64_t file_type;
    nb_facts f = {0};
    nb_str arch = nb_source_text(s, "general.architecture");
    count_values(s, &f, &most);
    nb_parameter_size(f.parameters, f.parameter_size);
    f.quantization = get_u64(s, "general.file_type", &file_type) ? nb_file_type_name(file_type) : NULL;
    if (!f.quantization)
        f.quantization = most;
    f.context_length = own_u64(s, arch, "context_length");
    f.embedding_length = own_u64(s, arch, "embedding_length");
    f.block_count = own_u64(s, arch, "block_count");
    f.embeds = has_own(s, arch, "pooling_type");
    f.infills = infills(s);
    if (!keep(arena, arch, &f.architecture) || !keep(arena, nb_source_text(s, "tokenizer.chat_template"), &f.chat_template) ||
        !keep(arena, token(s, "tokenizer.ggml.bos_token_id"), &f.bos_token) ||
        !keep(arena, token(s, "tokenizer.ggml.eos_token_id"), &f.eos_token))
        return nb_fail_memory(err, "what the model says of itself", arch.n);
    *out = f;
    return NB_OK;
}

/* ---- JSON ---- */

static void write_element(const nb_gguf_value *v, size_t i, nb_json *j)
{
    switch (v->element) {
    case NB_GGUF_F32: nb_json_f32(j, (float)nb_gguf_elem_f64(v, i)); break;
    case NB_GGUF_F64: nb_json_num(j, nb_gguf_elem_f64(v, i)); break;
    case NB_GGUF_BOOL: nb_json_bool(j, nb_gguf_elem_u64(v, i) != 0); break;
    case NB_GGUF_U8:
    case NB_GGUF_U16:
    case NB_GGUF_U32:
    case NB_GGUF_U64: nb_json_uint(j, nb_gguf_elem_u64(v, i)); break;
    default: nb_json_int(j, nb_gguf_elem_i64(v, i)); break;
    }
}

static void write_strings(const nb_gguf_value *v, nb_json *j)
{
    const unsigned char *p = v->data;
    for (size_t i = 0; i < v->count; i++) {
        uint64_t n;
        memcpy(&n, p, sizeof n);
        nb_json_str(j, (nb_str){(const char *)p + 8, (size_t)n});
        p += 8 + n;
    }
}

static void write_value(const nb_gguf_value *v, bool verbose, nb_json *j)
{
    if (v->kind == NB_GGUF_STRING) {
        nb_json_str(j, (nb_str){(const char *)v->data, v->bytes});
        return;
    }
    if (v->kind != NB_GGUF_ARRAY) {
        write_element(v, 0, j);
        return;
    }
    nb_json_open(j, '[');
    if (verbose || v->count <= 5) {
        if (v->element == NB_GGUF_STRING)
            write_strings(v, j);
        else if (v->element != NB_GGUF_ARRAY)
            for (size_t i = 0; i < v->count; i++)
                write_element(v, i, j);
    }
    nb_json_close(j, ']');
}

static int by_key(const void *a, const void *b)
{
    nb_str x = (*(const nb_gguf_value *const *)a)->key, y = (*(const nb_gguf_value *const *)b)->key;
    int order = memcmp(x.p, y.p, nb_min_size(x.n, y.n));
    return order ? order : (x.n > y.n) - (x.n < y.n);
}

void nb_model_info_write(const nb_source *s, uint64_t parameters, bool verbose, nb_json *j)
{
    static const char counted[] = "general.parameter_count";
    size_t count = 0;
    nb_gguf_value own = {.key = nb_str_of(counted), .kind = NB_GGUF_U64, .element = NB_GGUF_U64, .count = 1};
    const nb_gguf_value **sorted = malloc((s->value_count + 1) * sizeof *sorted);
    own.data = (const unsigned char *)&parameters;
    own.bytes = sizeof parameters;
    if (!sorted) {
        j->out->failed = true;
        return;
    }
    for (size_t i = 0; i < s->value_count; i++) {
        nb_str key = s->values[i].key;
        if (!nb_str_eqz(key, "general.name") && !nb_str_eqz(key, "tokenizer.chat_template") &&
            !nb_str_eqz(key, counted))
            sorted[count++] = &s->values[i];
    }
    sorted[count++] = &own;
    qsort(sorted, count, sizeof *sorted, by_key);
    nb_json_open(j, '{');
    for (size_t i = 0; i < count; i++) {
        nb_json_key_str(j, sorted[i]->key);
        write_value(sorted[i], verbose, j);
    }
    nb_json_close(j, '}');
    free(sorted);
}

void nb_tensors_write(const nb_source *s, nb_json *j)
{
    nb_json_open(j, '[');
    for (size_t i = 0; i < s->tensor_count; i++) {
        const nb_source_tensor *t = &s->tensors[i];
        nb_json_open(j, '{');
        nb_json_key(j, "name");
        nb_json_str(j, t->name);
        nb_json_put_z(j, "type", t->type->name);
        nb_json_key(j, "shape");
        nb_json_open(j, '[');
        for (uint32_t d = 0; d < t->n_dims; d++)
            nb_json_uint(j, t->dims[d]);
        nb_json_close(j, ']');
        nb_json_close(j, '}');
    }
    nb_json_close(j, ']');
}
