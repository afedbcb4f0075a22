#include "base/fail_at.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

nb_status nb_fail_at(const char *path, uint64_t at, nb_error *err, nb_status code, const char *format, ...)
{
    enum { SHOWN = 400 }; /* of a path: the end of it says which file, and the rest of the message must fit */
    char what[500];
    size_t n = strlen(path);
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return nb_fail(err, code, "%s%s: byte %" PRIu64 ": %s", n > SHOWN ? "..." : "", path + (n > SHOWN ? n - SHOWN : 0),
                   at, what);
}
