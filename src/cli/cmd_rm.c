/* nibble rm MODEL...: removes models from the store, and of their files those that no other model has. */
#include <stdio.h>

#include "cli/command.h"
#include "store/write.h"

static nb_status remove_one(nb_store *store, const char *text, nb_error *err)
{
    nb_name name;
    NB_TRY(nb_name_parse(nb_str_of(text), &name, err));
    return nb_model_delete(store, &name, err);
}

int nb_cmd_rm(int argc, char **argv)
{
    const nb_option options[] = {{.name = ""}};
    nb_error err;
    nb_store *store;
    int code = nb_options_parse("rm", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc < 2)
        return nb_report_usage("rm", "give the names of the models to remove");
    if (nb_store_open(NULL, &store, &err) != NB_OK)
        return nb_report_error(&err);
    code = NB_EXIT_OK;
    for (int i = 1; i < argc; i++)
        if (remove_one(store, argv[i], &err) == NB_OK)
            printf("deleted '%s'\n", argv[i]);
        else
            code = nb_report_error(&err); /* the others all the same */
    nb_store_close(store);
    return code;
}
