/* nibble push NAME: a model of the store to a registry. */
#include "cli/command.h"
#include "cli/transfer_options.h"

int nb_cmd_push(int argc, char **argv)
{
    nb_transfer_options o = {0};
    const nb_option options[] = {
        NB_TRANSFER_OPTION_ROWS(o, "to"),
        {.name = ""},
    };
    nb_error err;
    int code = nb_options_parse("push", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc != 2)
        return nb_report_usage("push", "give one name of a model: [HOST/]NAMESPACE/MODEL[:TAG]");
    nb_transfer_options_begin(&o);
    nb_status status = nb_push(argv[1], &o.params, &err);
    nb_transfer_options_end(&o);
    return status == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
