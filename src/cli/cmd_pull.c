/* nibble pull NAME: a model from a registry into the store, or the hub's files into its cache; then their path is printed. */
#include <stdio.h>

#include "cli/command.h"
#include "cli/transfer_options.h"

int nb_cmd_pull(int argc, char **argv)
{
    nb_transfer_options o = {0};
    const nb_option options[] = {
        NB_TRANSFER_OPTION_ROWS(o, "from"),
        {.name = ""},
    };
    nb_error err;
    nb_buf where = {0};
    int code = nb_options_parse("pull", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc != 2)
        return nb_report_usage("pull",
                               "give one name: llama3.2, hf.co/USER/REPO:Q4_K_M, hf://USER/REPO[/FILE][@REVISION]");
    nb_transfer_options_begin(&o);
    nb_status status = nb_pull(argv[1], &o.params, &where, &err);
    nb_transfer_options_end(&o);
    if (status == NB_OK && where.len)
        printf("%s\n", where.data);
    nb_buf_free(&where);
    return status == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
