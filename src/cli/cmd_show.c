/* nibble show MODEL: what a model is, can do and says. */
#include "cli/command.h"
#include "cli/models.h"

typedef struct show_options {
    bool license, modelfile, parameters, system, source, verbose;
} show_options;

/* The one text that was asked for; NULL: the overview. */
static const char *wanted(const show_options *o)
{
    return o->license      ? "license"
           : o->modelfile  ? "modelfile"
           : o->parameters ? "parameters"
           : o->system     ? "system"
           : o->source     ? "template"
                           : NULL;
}

static nb_status show(const char *model, const show_options *o, nb_error *err)
{
    json_t *shown;
    const char *key = wanted(o);
    NB_TRY(nb_models_show(model, o->verbose, &shown, err));
    nb_status status = NB_OK;
    if (key) {
        const char *text = nb_models_text(shown, key);
        size_t n = strlen(text);
        fputs(text, stdout);
        if (n == 0 || text[n - 1] != '\n')
            putchar('\n');
    } else {
        status = nb_models_print_info(shown, o->verbose, stdout, err);
    }
    json_decref(shown);
    return status;
}

int nb_cmd_show(int argc, char **argv)
{
    show_options o = {0};
    nb_option options[] = {
        {"license", 0, NB_OPTION_FLAG, &o.license, NULL, "only its license"},
        {"modelfile", 0, NB_OPTION_FLAG, &o.modelfile, NULL, "only the Modelfile that makes it"},
        {"parameters", 0, NB_OPTION_FLAG, &o.parameters, NULL, "only its parameters"},
        {"system", 0, NB_OPTION_FLAG, &o.system, NULL, "only its system message"},
        {"template", 0, NB_OPTION_FLAG, &o.source, NULL, "only its chat template"},
        {"verbose", 'v', NB_OPTION_FLAG, &o.verbose, NULL, "metadata and tensors as well"},
        {.name = ""},
    };
    nb_error err;
    int code = nb_options_parse("show", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc != 2)
        return nb_report_usage("show", argc < 2 ? "which model? 'nibble list' names them" : "show takes one model");
    if (o.license + o.modelfile + o.parameters + o.system + o.source > 1)
        return nb_report_usage(
            "show", "only one of --license, --modelfile, --parameters, --system and --template can be asked for");
    return show(argv[1], &o, &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
