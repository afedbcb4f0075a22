/* nibble stop MODEL: a server gives a model's memory back now. */
#include "cli/api_client.h"
#include "cli/command.h"

static nb_status stop(const char *model, nb_error *err)
{
    nb_client *api;
    NB_TRY(nb_client_open(&api, err));
    json_t *body = json_pack("{s:s, s:i}", "model", model, "keep_alive", 0);
    nb_status status = body ? nb_client_ask(api, "POST", "/api/generate", body, NULL, err)
                            : nb_fail_memory(err, "a request", 0);
    if (status == NB_ERR_NOT_FOUND)
        nb_fail(err, status, "couldn't find model \"%s\" to stop", model);
    json_decref(body);
    nb_client_close(api);
    return status;
}

int nb_cmd_stop(int argc, char **argv)
{
    nb_option options[] = {{.name = ""}};
    nb_error err;
    int code = nb_options_parse("stop", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc != 2)
        return nb_report_usage("stop", argc < 2 ? "which model? 'nibble ps' lists those that are loaded"
                                                : "stop takes one model");
    return stop(argv[1], &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
