/* nibble list: the models of a running server, or of the store. */
#include <time.h>

#include "cli/command.h"
#include "cli/models.h"
#include "cli/table.h"

static void add_model(nb_table *t, const json_t *m, double now)
{
    char size[24], modified[48] = "Never";
    double at;
    nb_human_bytes((uint64_t)json_integer_value(json_object_get(m, "size")), size);
    if (nb_time_parse(nb_models_text(m, "modified_at"), &at))
        nb_human_time(at - now, modified);
    nb_str id = nb_str_of(nb_models_text(m, "digest"));
    id.n = nb_min_size(id.n, 12);
    nb_table_row(t, (const nb_str[]){nb_str_of(nb_models_text(m, "name")), id, nb_str_of(size), nb_str_of(modified)},
                 4);
}

static bool begins_with(const char *name, const char *prefix)
{
    return !prefix || nb_str_starts(nb_str_of(name), nb_str_of(prefix));
}

static nb_status list(const char *prefix, nb_error *err)
{
    json_t *answer;
    NB_TRY(nb_models_list(&answer, err));
    nb_table t = {.headed = true};
    const json_t *m;
    size_t i;
    nb_table_row(&t, (const nb_str[]){NB_STR("NAME"), NB_STR("ID"), NB_STR("SIZE"), NB_STR("MODIFIED")}, 4);
    json_array_foreach(json_object_get(answer, "models"), i, m) if (begins_with(nb_models_text(m, "name"), prefix))
        add_model(&t, m, (double)time(NULL));
    json_decref(answer);
    return nb_table_print(&t, stdout, err);
}

int nb_cmd_list(int argc, char **argv)
{
    nb_option options[] = {{.name = ""}};
    nb_error err;
    int code = nb_options_parse("list", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc > 2)
        return nb_report_usage("list", "list takes the beginning of a name at most, but '%s' follows", argv[2]);
    return list(argv[1], &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
