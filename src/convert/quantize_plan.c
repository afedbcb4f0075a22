/* Which tensor gets which type, and whether it can be made. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

#include "convert/quantize_internal.h"

/* ---- --tensor-type ---- */

enum { MATCH_LIMIT = 100000, MATCH_HEAP = 1 << 16 /* KiB */ };

static nb_status bad_pattern(const char *expression, int code, nb_error *err)
{
    PCRE2_UCHAR message[120] = "";
    pcre2_get_error_message(code, message, sizeof message);
    return nb_fail(err, NB_ERR_ARGUMENT, "the tensor pattern '%s': %s", expression, (const char *)message);
}

/* Gives the pattern's type to the matrices it is found in, where no earlier pattern was. */
static nb_status apply_pattern(const nb_source *s, const nb_type_pattern *p, const nb_type_info **chosen, nb_error *err)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)p->expression, PCRE2_ZERO_TERMINATED, 0, &code, &at, NULL);
    if (!re)
        return bad_pattern(p->expression, code, err);
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(re, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    nb_status status = match && limits ? NB_OK : nb_fail_memory(err, "a tensor pattern", 0);
    if (limits) {
        pcre2_set_match_limit(limits, MATCH_LIMIT);
        pcre2_set_heap_limit(limits, MATCH_HEAP);
    }
    for (size_t i = 0; i < s->tensor_count && status == NB_OK; i++) {
        nb_str name = s->tensors[i].name;
        int found = pcre2_match(re, (PCRE2_SPTR)name.p, name.n, 0, 0, match, limits);
        if (found >= 0 && !chosen[i])
            chosen[i] = p->type;
        if (found < 0 && found != PCRE2_ERROR_NOMATCH)
            status = bad_pattern(p->expression, found, err);
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    return status;
}

static nb_status types_of_mix(const nb_source *s, const nb_quantize_params *p, const nb_type_info **types,
                              size_t *fallbacks, nb_error *err)
{
    const nb_type_info **chosen = calloc(s->tensor_count + 1, sizeof *chosen);
    nb_status status = chosen ? NB_OK : nb_fail_memory(err, s->path, s->tensor_count * sizeof *chosen);
    for (size_t i = 0; i < p->pattern_count && status == NB_OK; i++)
        status = apply_pattern(s, &p->patterns[i], chosen, err);
    nb_mix_options options = {
        .imatrix = p->imatrix != NULL,
        .pure = p->pure,
        .keep_output = p->keep_output,
        .output_type = p->output_type,
        .embedding_type = p->embedding_type,
        .chosen = chosen,
    };
    if (status == NB_OK)
        status = nb_mix_types(p->mix, s, &options, types, fallbacks, err);
    free(chosen);
    return status;
}

/* ---- can it be made ---- */

const nb_imatrix_entry *nb_quantize_importance(const nb_quantize_params *p, const nb_source_tensor *t)
{
    return p->imatrix ? nb_imatrix_find(p->imatrix, t->name) : NULL;
}

/* The importance matrix must be of this model, and be there where the type cannot do without. */
static nb_status check_importance(const nb_source *s, const nb_quantize_params *p, size_t i, const nb_type_info *type,
                                  float *weight, nb_quantize_result *result, nb_error *err)
{
    const nb_source_tensor *t = &s->tensors[i];
    const nb_imatrix_entry *e = nb_quantize_importance(p, t);
    bool needed = p->mix && nb_mix_needs_imatrix(p->mix, t->name, type);
    bool embedding = nb_str_eqz(t->name, "token_embd.weight"); /* rows are looked up: what was seen is not its input */
    if (e && !nb_imatrix_weights_of(e, (size_t)t->dims[0], (size_t)(t->dims[2] * t->dims[3]), 0, weight) && !embedding)
        return nb_fail(
            err, NB_ERR_FORMAT,
            "%s: the importance matrix has %zu x %zu values for tensor '%.*s' of %llu x %llu; it is of another "
            "model: make one of this model with 'nibble imatrix'",
            s->path, e->columns, e->matrices, NB_STR_ARG(t->name), (unsigned long long)t->dims[0],
            (unsigned long long)(t->dims[2] * t->dims[3]));
    if (e || !needed)
        return NB_OK;
    result->needs_imatrix = true;
    if (p->dry_run)
        return NB_OK;
    return nb_fail(
        err, NB_ERR_ARGUMENT,
        "%s: %s of tensor '%.*s' would be poor without an importance matrix%s; make one with 'nibble imatrix "
        "MODEL --text FILE -o OUT' and give it with --imatrix",
        s->path, type->name, NB_STR_ARG(t->name), p->imatrix ? ", and this one has no entry for it" : "");
}

static nb_status check_tensor(const nb_source *s, const nb_quantize_params *p, size_t i, const nb_type_info *type,
                              float *weight, nb_quantize_result *result, nb_error *err)
{
    const nb_source_tensor *t = &s->tensors[i];
    size_t in = 0, out = 0;
    if (t->dims[0] == 0 || !nb_type_row_bytes(t->type, t->dims[0], &in) || !nb_type_row_bytes(type, t->dims[0], &out))
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: %llu columns of tensor '%.*s' are no multiple of %s's %u", s->path,
                       (unsigned long long)t->dims[0], NB_STR_ARG(t->name), type->name, type->block_values);
    result->source_bytes += in * nb_source_rows(t);
    result->bytes += out * nb_source_rows(t);
    result->values += t->dims[0] * nb_source_rows(t);
    if (type == t->type)
        return NB_OK;
    result->quantized++;
    NB_TRY(check_importance(s, p, i, type, weight, result, err));
    if (p->dry_run)
        return NB_OK;
    if (!type->quantize)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: tensor '%.*s' cannot be made %s; choose another type", s->path,
                       NB_STR_ARG(t->name), type->name);
    if (t->type->block_values > 1 && !p->allow_requantize)
        return nb_fail(
            err, NB_ERR_ARGUMENT,
            "%s: tensor '%.*s' is quantized already (%s), and would lose again; start from F16, BF16 or F32, or "
            "give --allow-requantize",
            s->path, NB_STR_ARG(t->name), t->type->name);
    return NB_OK;
}

static nb_status check_all(const nb_source *s, const nb_quantize_params *p, const nb_type_info *const *types,
                           nb_quantize_result *result, nb_error *err)
{
    uint64_t columns = 1;
    for (size_t i = 0; i < s->tensor_count; i++)
        columns = p->imatrix && s->tensors[i].dims[0] > columns ? s->tensors[i].dims[0] : columns;
    size_t bytes = 0;
    float *weight = nb_mul((size_t)columns, sizeof *weight, &bytes) ? malloc(bytes) : NULL;
    nb_status status = weight ? NB_OK : nb_fail_memory(err, "importance", bytes);
    for (size_t i = 0; i < s->tensor_count && status == NB_OK; i++)
        status = check_tensor(s, p, i, types[i], weight, result, err);
    free(weight);
    return status;
}

nb_status nb_quantize_plan(const nb_source *s, const nb_quantize_params *p, const nb_type_info **types,
                           nb_quantize_result *result, nb_error *err)
{
    nb_quantize_files files;
    *result = (nb_quantize_result){0};
    if (!p->types && !p->mix)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: no type is given", s->path);
    if (p->types)
        memcpy(types, p->types, s->tensor_count * sizeof *types);
    else
        NB_TRY(types_of_mix(s, p, types, &result->fallbacks, err));
    NB_TRY(check_all(s, p, types, result, err));
    nb_status status = nb_quantize_files_make(s, p, types, &files, err);
    result->files = files.count;
    result->file_bytes = files.bytes;
    nb_quantize_files_free(&files);
    return status;
}
