/* nibble cp SOURCE TARGET: another name for a model of the store; nothing is copied but the manifest. */
#include <stdio.h>

#include "cli/command.h"
#include "store/write.h"

int nb_cmd_cp(int argc, char **argv)
{
    const nb_option options[] = {{.name = ""}};
    nb_error err;
    nb_name from, to;
    nb_store *store = NULL;
    int code = nb_options_parse("cp", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc != 3)
        return nb_report_usage("cp", "give the name of a model and its other name");
    nb_status status = nb_name_parse(nb_str_of(argv[1]), &from, &err);
    if (status == NB_OK)
        status = nb_name_parse(nb_str_of(argv[2]), &to, &err);
    if (status == NB_OK)
        status = nb_store_open(NULL, &store, &err);
    if (status == NB_OK)
        status = nb_model_copy(store, &from, &to, &err);
    nb_store_close(store);
    if (status != NB_OK)
        return nb_report_error(&err);
    printf("copied '%s' to '%s'\n", argv[1], argv[2]);
    return NB_EXIT_OK;
}
