/* nibble ps: the models that a server has loaded. */
#include <math.h>
#include <time.h>

#include "cli/command.h"
#include "cli/models.h"
#include "cli/table.h"

static void write_processor(const json_t *m, char text[40])
{
    double size = json_number_value(json_object_get(m, "size")),
           gpu = json_number_value(json_object_get(m, "size_vram"));
    if (gpu == 0)
        snprintf(text, 40, "100%% CPU");
    else if (gpu == size)
        snprintf(text, 40, "100%% GPU");
    else if (gpu > size || size <= 0)
        snprintf(text, 40, "Unknown");
    else
        snprintf(text, 40, "%.0f%%/%.0f%% CPU/GPU", round((size - gpu) / size * 100),
                 100 - round((size - gpu) / size * 100));
}

static void add_model(nb_table *t, const json_t *m, double now)
{
    char size[24], processor[40], context[24], until[48] = "Never";
    double at;
    nb_human_bytes((uint64_t)json_integer_value(json_object_get(m, "size")), size);
    write_processor(m, processor);
    snprintf(context, sizeof context, "%lld", (long long)json_integer_value(json_object_get(m, "context_length")));
    if (nb_time_parse(nb_models_text(m, "expires_at"), &at)) {
        if (at < now)
            snprintf(until, sizeof until, "Stopping...");
        else
            nb_human_time(at - now, until);
    }
    nb_str id = nb_str_of(nb_models_text(m, "digest"));
    id.n = nb_min_size(id.n, 12);
    nb_table_row(t,
                 (const nb_str[]){nb_str_of(nb_models_text(m, "name")), id, nb_str_of(size), nb_str_of(processor),
                                  nb_str_of(context), nb_str_of(until)},
                 6);
}

static nb_status list_running(nb_error *err)
{
    nb_client *api;
    json_t *answer = NULL;
    const json_t *m;
    size_t i;
    struct timespec now;
    NB_TRY(nb_client_open(&api, err));
    nb_status status = nb_client_ask(api, "GET", "/api/ps", NULL, &answer, err);
    nb_client_close(api);
    NB_TRY(status);
    clock_gettime(CLOCK_REALTIME, &now);
    nb_table t = {.headed = true};
    nb_table_row(&t,
                 (const nb_str[]){NB_STR("NAME"), NB_STR("ID"), NB_STR("SIZE"), NB_STR("PROCESSOR"), NB_STR("CONTEXT"),
                                  NB_STR("UNTIL")},
                 6);
    json_array_foreach(json_object_get(answer, "models"), i, m)
        add_model(&t, m, (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
    json_decref(answer);
    return nb_table_print(&t, stdout, err);
}

int nb_cmd_ps(int argc, char **argv)
{
    nb_option options[] = {{.name = ""}};
    nb_error err;
    int code = nb_options_parse("ps", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc > 1)
        return nb_report_usage("ps", "ps takes no arguments, but '%s' follows", argv[1]);
    return list_running(&err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
