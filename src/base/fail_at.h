/* fail_at.h - errors about a place in a file. */
#ifndef NB_BASE_FAIL_AT_H
#define NB_BASE_FAIL_AT_H

#include "base/status.h"

/* "FILE: byte AT: ..." and code; of a long path the end is shown. */
nb_status nb_fail_at(const char *path, uint64_t at, nb_error *err, nb_status code, const char *format, ...)
    NB_PRINTF(5, 6);

#endif
