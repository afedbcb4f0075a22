#include "cli/adapter_options.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "cli/command.h"

/* Bytes of the path: all, unless a number stands behind the last '='. */
static size_t split(const char *given, float *scale)
{
    const char *equals = strrchr(given, '=');
    char *end;
    *scale = 1;
    if (!equals || !equals[1])
        return strlen(given);
    errno = 0;
    float value = strtof(equals + 1, &end);
    if (*end || errno)
        return strlen(given);
    *scale = value;
    return (size_t)(equals - given);
}

static int take(const char *command, nb_adapter_options *o)
{
    size_t used = 0;
    if (o->list.count > NB_ADAPTERS)
        return nb_report_usage(command, "--adapter is given %zu times; at most %d are taken", o->list.count,
                               NB_ADAPTERS);
    for (size_t i = 0; i < o->list.count; i++) {
        const char *given = o->list.items[i];
        nb_model_adapter *a = &o->items[i];
        size_t n = split(given, &a->scale);
        if (n == 0 || !isfinite(a->scale))
            return nb_report_usage(command, "--adapter %s: give a file or directory, and behind '=' a number", given);
        if (n >= sizeof o->text - used)
            return nb_report_usage(command, "--adapter: the paths together are longer than %zu bytes",
                                   sizeof o->text - 1);
        a->path = memcpy(o->text + used, given, n);
        o->text[used + n] = '\0';
        used += n + 1;
        o->count++;
    }
    return -1;
}

int nb_adapter_options_finish(const char *command, nb_adapter_options *o)
{
    int code = take(command, o);
    free(o->list.items);
    o->list = (nb_option_list){0};
    return code;
}
