#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *nb_status_name(nb_status status)
{
    switch (status) {
    case NB_OK: return "ok";
    case NB_ERR_ARGUMENT: return "bad argument";
    case NB_ERR_MEMORY: return "out of memory";
    case NB_ERR_IO: return "input/output error";
    case NB_ERR_NOT_FOUND: return "not found";
    case NB_ERR_FORMAT: return "damaged or wrong format";
    case NB_ERR_UNSUPPORTED: return "not supported";
    case NB_ERR_LIMIT: return "limit reached";
    case NB_ERR_CANCELLED: return "cancelled";
    case NB_ERR_INTERNAL: return "internal error";
    }
    return "unknown status";
}

const char *nb_version(void) { return NB_VERSION; }

nb_status nb_fail(nb_error *err, nb_status code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
    }
    return code;
}

nb_status nb_fail_prefix(nb_error *err, nb_status code, const char *format, ...)
{
    if (err) {
        char old[sizeof err->message];
        memcpy(old, err->message, sizeof old);
        va_list args;
        va_start(args, format);
        int n = vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        if (n > 0 && (size_t)n < sizeof err->message)
            snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", old);
        err->code = code;
    }
    return code;
}

nb_status nb_fail_memory(nb_error *err, const char *what, size_t bytes)
{
    return nb_fail(err, NB_ERR_MEMORY, "%s: out of memory (%zu bytes wanted)", what, bytes);
}
