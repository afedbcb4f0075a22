#include "cli/model_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

nb_model_options nb_model_options_defaults(void)
{
    nb_model_options o = {
        .model = nb_model_defaults(), .session = nb_session_defaults(), .load = nb_load_options_defaults()};
    o.model.pin_threads = true;
    return o;
}

int nb_model_options_finish(const char *command, nb_model_options *o)
{
    int code = nb_adapter_options_finish(command, &o->adapters);
    if (code >= 0)
        return code;
    if (o->context < 0)
        return nb_report_usage(command, "--ctx %lld: a context has at least one token", (long long)o->context);
    if (o->model.threads < 0 || o->model.threads > 256)
        return nb_report_usage(command, "-t %d: give 1 to 256 threads", o->model.threads);
    o->session.context = (size_t)o->context;
    o->model.adapters = o->adapters.items;
    o->model.adapter_count = o->adapters.count;
    code = nb_rope_options_finish(command, &o->rope, &o->model.rope);
    if (code >= 0)
        return code;
    return nb_load_options_finish(command, &o->load, false, &o->model.load);
}

nb_status nb_parse_ids(const char *text, int32_t **ids, size_t *count, nb_error *err)
{
    static const char between[] = ", \t\r\n";
    *count = 0;
    *ids = calloc(strlen(text) / 2 + 1, sizeof **ids); /* an id takes a digit and a separator */
    if (!*ids)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    for (const char *at = text + strspn(text, between); *at; at += strspn(at, between)) {
        char *end;
        errno = 0;
        long id = *at >= '0' && *at <= '9' ? strtol(at, &end, 10) : -1;
        if (id < 0 || errno || id > INT32_MAX || (*end && !strchr(between, *end))) {
            free(*ids);
            *ids = NULL;
            return nb_fail(err, NB_ERR_ARGUMENT, "\"%.20s\" is not a token id; give whole numbers with commas between",
                           at);
        }
        (*ids)[(*count)++] = (int32_t)id;
        at = end;
    }
    return NB_OK;
}

nb_status nb_read_stdin(nb_buf *out, nb_error *err)
{
    for (;;) {
        if (!nb_buf_reserve(out, 65536))
            return nb_fail(err, NB_ERR_MEMORY, "standard input: out of memory");
        ssize_t n = read(0, out->data + out->len, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return nb_fail(err, NB_ERR_IO, "standard input: cannot read: %s", strerror(errno));
        if (n == 0)
            return NB_OK;
        out->len += (size_t)n;
        out->data[out->len] = 0;
    }
}
