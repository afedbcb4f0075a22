#include "cli/pull_missing.h"

#include "cli/cli.h"
#include "cli/models.h"
#include "cli/transfer_options.h"

nb_status nb_pull_here(const char *name, bool insecure, nb_buf *where, nb_error *err)
{
    nb_transfer_options o = {.params.insecure = insecure};
    nb_transfer_options_begin(&o);
    nb_status status = nb_pull(name, &o.params, where, err);
    nb_transfer_options_end(&o);
    return status;
}

static bool on_line(void *user, const json_t *line)
{
    const nb_transfer_options *o = user;
    nb_transfer_event e = {.status = nb_models_text(line, "status"),
                           .digest = json_string_value(json_object_get(line, "digest")),
                           .total = (uint64_t)json_integer_value(json_object_get(line, "total")),
                           .completed = (uint64_t)json_integer_value(json_object_get(line, "completed"))};
    o->params.tell(o->params.user, &e);
    return true;
}

static bool is_stopped(void *user)
{
    const nb_transfer_options *o = user;
    return o->params.stop(o->params.user);
}

nb_status nb_pull_there(nb_client *client, const char *name, bool insecure, nb_error *err)
{
    nb_transfer_options o = {0};
    json_t *body = json_pack("{s:s, s:b, s:b}", "model", name, "insecure", insecure, "stream", 1);
    if (!body)
        return nb_fail_memory(err, "a request", 0);
    nb_transfer_options_begin(&o);
    nb_status status =
        nb_client_do(client, &(nb_client_call){"POST", "/api/pull", body, on_line, &o, is_stopped}, err);
    nb_transfer_options_end(&o);
    json_decref(body);
    return status;
}
