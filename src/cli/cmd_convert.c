/* nibble convert DIR OUT.gguf: a checkpoint as a GGUF file, quantized on the way; FILE.gguf DIR: the way back; DIR OUTDIR --to
 * bitsandbytes-nf4: a checkpoint as bitsandbytes saves it. */
#include "cli/adapter_options.h"
#include "cli/command.h"
#include "cli/convert_bnb.h"
#include "cli/convert_export.h"
#include "cli/quantize_options.h"
#include "hf/hf.h"

/* Returns -1 to go on, else the exit code. */
static int check_merge(bool merge, const nb_adapter_options *adapters, const char *to)
{
    if (merge != (adapters->count > 0))
        return nb_report_usage("convert",
                               "--merge and --adapter F[=SCALE] go together: the adapters are added to the weights");
    if (merge && to)
        return nb_report_usage("convert", "--merge and --to exclude each other; merge into a directory first");
    return -1;
}

int nb_cmd_convert(int argc, char **argv)
{
    nb_quantize_options q = {.params = nb_quantize_defaults()};
    nb_load_options load = nb_load_options_defaults();
    nb_adapter_options adapters = {0};
    const char *type = "", *to = NULL;
    bool merge = false;
    const nb_option options[] = {
        {"type", 0, NB_OPTION_STRING, &type, "TYPE",
         "of the matrices (default: the checkpoint's own; Q8_0 of quantized ones)"},
        {"to", 0, NB_OPTION_STRING, &to, "FORM", "directory of bitsandbytes-nf4, bitsandbytes-fp4, bitsandbytes-int8"},
        {"merge", 0, NB_OPTION_FLAG, &merge, NULL,
         "add the adapters to a model's weights; the model may be a GGUF file"},
        NB_ADAPTER_OPTION_ROW(adapters, "a LoRA adapter, GGUF or PEFT, to be merged (may be repeated)"),
        {"allow-requantize", 0, NB_OPTION_FLAG, &q.params.allow_requantize, NULL,
         "of tensors that are quantized already"},
        NB_LOAD_OPTION_ROWS(load),
        NB_QUANTIZE_OPTION_ROWS(q),
        {.name = ""},
    };
    nb_error err;
    int code = nb_options_parse("convert", options, &argc, argv);
    if (code >= 0)
        return code;
    code = nb_adapter_options_finish("convert", &adapters);
    if (code >= 0)
        return code;
    if (argc != 3)
        return nb_report_usage(
            "convert", "give a checkpoint's directory and the name of the new file, or a GGUF file and a directory");
    code = check_merge(merge, &adapters, to);
    if (code < 0)
        code = nb_convert_bnb_finish(to, argv[2], &load, &q.load);
    if (code < 0 && nb_convert_is_bnb(to, argv[2], &load))
        code = nb_convert_bnb(argv[1], argv[2], type, &load, q.split, q.params.threads);
    if (code >= 0) {
        nb_options_free(options);
        return code;
    }
    q.type_is_default = !*type;
    q.adapters = adapters.items;
    q.adapter_count = adapters.count;
    type = *type ? type : "COPY";
    q.params.mix = nb_mix_named(nb_str_of(type), &q.params.pure);
    code = q.params.mix ? nb_quantize_options_finish("convert", &q) : nb_quantize_unknown("convert", type);
    if (code < 0 && nb_convert_exports(argv[1], argv[2], merge))
        code = nb_convert_export(argv[1], argv[2], type, q.adapters, q.adapter_count, q.params.split_bytes);
    if (code < 0 && !merge && !nb_hf_is_model(argv[1]))
        code = nb_report_usage("convert", "'%s' is no directory with a config.json", argv[1]);
    if (code < 0) {
        nb_interrupt_watch();
        code = nb_quantize_run(&q, argv[1], argv[2], &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
    }
    nb_quantize_options_free(&q);
    nb_options_free(options);
    return code;
}
