#include "cli/load_options.h"

static bool is_one_of(const char *given, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(given, *names) == 0)
            return true;
    return false;
}

static int check_names(const char *command, const nb_load_options *o)
{
    static const char *const types[] = {"fp4", "nf4", NULL}, *const floats[] = {"float32", "float16", "bfloat16", NULL},
                             *const storages[] = {"uint8", "float32", "float16", "bfloat16", NULL};
    if (o->quant_type && !is_one_of(o->quant_type, types))
        return nb_report_usage(command, "--bnb-4bit-quant-type %s: there are fp4 and nf4", o->quant_type);
    if (o->compute_dtype && !is_one_of(o->compute_dtype, floats))
        return nb_report_usage(command, "--bnb-4bit-compute-dtype %s: there are float32, float16 and bfloat16",
                               o->compute_dtype);
    if (o->quant_storage && !is_one_of(o->quant_storage, storages))
        return nb_report_usage(command, "--bnb-4bit-quant-storage %s: there are uint8, float32, float16 and bfloat16",
                               o->quant_storage);
    return -1;
}

static int check_company(const char *command, const nb_load_options *o)
{
    bool of_4bit = o->quant_type || o->double_quant || o->compute_dtype || o->quant_storage;
    bool of_8bit = o->threshold != -1 || o->offload || o->fp16_weight;
    if (o->in_4bit && o->in_8bit)
        return nb_report_usage(command, "--load-in-4bit and --load-in-8bit exclude each other");
    if (of_4bit && !o->in_4bit)
        return nb_report_usage(command, "--bnb-4bit-... say how --load-in-4bit is done; give it, too");
    if (of_8bit && !o->in_8bit)
        return nb_report_usage(command, "--llm-int8-... say how --load-in-8bit is done; give it, too");
    if (o->skip && !o->in_4bit && !o->in_8bit)
        return nb_report_usage(command, "--llm-int8-skip-modules goes with --load-in-8bit or --load-in-4bit");
    if (o->threshold != -1 && !(o->threshold >= 0 && o->threshold < 1e30f))
        return nb_report_usage(command, "--llm-int8-threshold %g: give a number from 0 on", (double)o->threshold);
    return -1;
}

static void note_what_does_nothing(const nb_load_options *o, bool writes)
{
    if (o->compute_dtype && !writes)
        nb_note(
            "--bnb-4bit-compute-dtype: without effect; products are computed in 8 bits and float32, with --exact in "
            "float32");
    if (o->quant_storage && !writes)
        nb_note("--bnb-4bit-quant-storage: without effect; nothing is stored");
    if (o->offload && !writes)
        nb_note("--llm-int8-enable-fp32-cpu-offload: without effect; the whole model is on the CPU, in 8 bits");
    if (o->fp16_weight)
        nb_note("--llm-int8-has-fp16-weight: without effect; weights are quantized once, while they are read");
}

/* "a,b" in pieces */
static int take_skips(const char *command, nb_load_options *o)
{
    size_t n = strlen(o->skip);
    char *at = o->skip_text;
    if (n >= sizeof o->skip_text)
        return nb_report_usage(command, "--llm-int8-skip-modules: longer than %zu bytes", sizeof o->skip_text - 1);
    memcpy(at, o->skip, n + 1);
    for (char *comma = at; comma; at = comma + 1) {
        comma = strchr(at, ',');
        if (comma)
            *comma = '\0';
        if (!*at)
            return nb_report_usage(command, "--llm-int8-skip-modules %s: a name between the commas is missing",
                                   o->skip);
        if (o->params.skip_count == NB_LOAD_SKIPS)
            return nb_report_usage(command, "--llm-int8-skip-modules: more than %d names", NB_LOAD_SKIPS);
        o->skip_names[o->params.skip_count++] = at;
        if (!comma)
            break;
    }
    o->params.skip = o->skip_names;
    return -1;
}

int nb_load_options_finish(const char *command, nb_load_options *o, bool writes, const nb_load_params **load)
{
    *load = NULL;
    int code = check_company(command, o);
    if (code < 0)
        code = check_names(command, o);
    if (code >= 0 || (!o->in_4bit && !o->in_8bit))
        return code;
    bool nf4 = o->quant_type && strcmp(o->quant_type, "nf4") == 0;
    o->params = nb_load_defaults(o->in_8bit ? NB_LOAD_INT8 : nf4 ? NB_LOAD_NF4 : NB_LOAD_FP4);
    o->params.double_quant = o->double_quant;
    if (o->threshold != -1)
        o->params.int8_threshold = o->threshold;
    note_what_does_nothing(o, writes);
    *load = &o->params;
    return o->skip ? take_skips(command, o) : -1;
}
