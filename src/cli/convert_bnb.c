#include "cli/convert_bnb.h"

#include <stdio.h>
#include <strings.h>

#include "base/clock.h"
#include "hf/bnb_write.h"

bool nb_convert_is_bnb(const char *to, const char *out, const nb_load_options *o)
{
    size_t n = strlen(out);
    return to || ((o->in_4bit || o->in_8bit) && !(n >= 5 && strcasecmp(out + n - 5, ".gguf") == 0));
}

int nb_convert_bnb_finish(const char *to, const char *out, nb_load_options *o, const nb_load_params **load)
{
    static const char prefix[] = "bitsandbytes-";
    const char *form = to && strncmp(to, prefix, sizeof prefix - 1) == 0 ? to + sizeof prefix - 1 : to;
    bool int8 = form && strcmp(form, "int8") == 0;
    if (form && !int8 && strcmp(form, "nf4") != 0 && strcmp(form, "fp4") != 0)
        return nb_report_usage("convert", "--to %s: there are bitsandbytes-nf4, bitsandbytes-fp4 and bitsandbytes-int8",
                               to);
    if (form && (o->quant_type || (int8 ? o->in_4bit : o->in_8bit)))
        return nb_report_usage("convert", "--to %s says already which type is meant", to);
    if (form && int8)
        o->in_8bit = true;
    else if (form) {
        o->in_4bit = true;
        o->quant_type = form;
    }
    return nb_load_options_finish("convert", o, nb_convert_is_bnb(to, out, o), load);
}

static int on_progress(void *user, uint64_t done, uint64_t all)
{
    nb_progress **p = user;
    if (!*p)
        *p = nb_progress_start("quantizing", all, "B");
    nb_progress_at(*p, done);
    return nb_interrupted();
}

static int write_checkpoint(const char *in, const char *out, const nb_bnb_write_params *p)
{
    nb_bnb_write_result result;
    nb_progress *progress = NULL;
    nb_error err;
    double start = nb_seconds();
    char bytes[24];
    nb_interrupt_watch();
    nb_status status = nb_bnb_write(in, out, p, on_progress, &progress, &result, &err);
    nb_progress_end(progress, status == NB_OK);
    if (status != NB_OK)
        return nb_report_error(&err);
    nb_format_bytes(result.bytes, bytes);
    printf("%s: %zu linear layers quantized, %zu tensors, %s, in %.1f s\n", out, result.quantized, result.tensors,
           bytes, nb_seconds() - start);
    return NB_EXIT_OK;
}

int nb_convert_bnb(const char *in, const char *out, const char *type, const nb_load_options *o, const char *split,
                   int threads)
{
    nb_bnb_write_params p = {.load = o->params,
                             .has_dtype = *type != '\0',
                             .storage = o->quant_storage ? o->quant_storage : "uint8",
                             .compute_dtype = o->compute_dtype ? o->compute_dtype : "float32",
                             .offload = o->offload,
                             .fp16_weight = o->fp16_weight,
                             .threads = threads};
    static const char *const names[] = {[NB_FLOAT_F32] = "F32", [NB_FLOAT_F16] = "F16", [NB_FLOAT_BF16] = "BF16"};
    int dtype = 0;
    while (*type && dtype < 3 && strcasecmp(type, names[dtype]) != 0)
        dtype++;
    if (dtype == 3)
        return nb_report_usage("convert", "--type %s: what is not quantized can be F32, F16 or BF16", type);
    if (split && !nb_parse_bytes(split, &p.shard_bytes))
        return nb_report_usage("convert", "--split-max-size %s: give a size such as 500M or 2G", split);
    p.dtype = (nb_float)dtype;
    return write_checkpoint(in, out, &p);
}

int nb_quantize_linear(const char *in, const char *out, const char *form, int threads)
{
    static const char *const forms[] = {
        [NB_QUANTO_W8A16] = "w8a16", [NB_QUANTO_W8A8] = "w8a8", [NB_QUANTO_W4G128] = "w4g128"};
    nb_bnb_write_params p = {.load = nb_load_defaults(NB_LOAD_INT8),
                             .has_dtype = true,
                             .dtype = NB_FLOAT_F32,
                             .storage = "uint8",
                             .compute_dtype = "float32",
                             .threads = threads};
    for (int i = NB_QUANTO_W8A16; i <= NB_QUANTO_W4G128; i++)
        if (strcmp(form, forms[i]) == 0)
            p.quanto = (nb_quanto_form)i;
    return p.quanto ? write_checkpoint(in, out, &p)
                    : nb_report_usage("quantize", "--linear %s: there are w8a16, w8a8 and w4g128", form);
}
