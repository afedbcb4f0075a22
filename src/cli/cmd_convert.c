/* nibble convert DIR OUT.gguf: a checkpoint as a GGUF file, quantized on the way; FILE.gguf DIR: the way back. */
#include "cli/command.h"
#include "cli/convert_export.h"
#include "cli/quantize_options.h"
#include "hf/hf.h"

int nb_cmd_convert(int argc, char **argv)
{
    nb_quantize_options q = {.params = nb_quantize_defaults()};
    const char *type = "COPY";
    const nb_option options[] = {
        {"type", 0, NB_OPTION_STRING, &type, "TYPE", "of the matrices (default: the checkpoint's own)"},
        NB_QUANTIZE_OPTION_ROWS(q),
        {.name = ""},
    };
    nb_error err;
    int code = nb_options_parse("convert", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc != 3)
        return nb_report_usage("convert", "give a checkpoint's directory and the name of the new file, or a GGUF file and a directory");
    q.params.mix = nb_quantize_mix(type, &q.params.pure);
    code = q.params.mix ? nb_quantize_options_finish("convert", &q) : nb_quantize_unknown("convert", type);
    if (code < 0 && nb_convert_exports(argv[1], argv[2]))
        code = nb_convert_export(argv[1], argv[2], type, q.params.split_bytes);
    if (code < 0 && !nb_hf_is_model(argv[1]))
        code = nb_report_usage("convert", "'%s' is no directory with a config.json", argv[1]);
    if (code < 0) {
        nb_interrupt_watch();
        code = nb_quantize_run(&q, argv[1], argv[2], &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
    }
    nb_quantize_options_free(&q);
    nb_options_free(options);
    return code;
}
