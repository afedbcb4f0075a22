/* status.h - errors: fill one on a cold path and hand its code on. */
#ifndef NB_BASE_STATUS_H
#define NB_BASE_STATUS_H

#include "nibble.h"

/* Fills err (when not NULL) with the formatted message, cut to fit, and returns code. */
nb_status nb_fail(nb_error *err, nb_status code, const char *format, ...) NB_PRINTF(3, 4);

/* Prefixes the message already in err: "PREFIX: MESSAGE". Returns err's code (NB_ERR_INTERNAL without err). */
nb_status nb_fail_prefix(nb_error *err, nb_status code, const char *format, ...) NB_PRINTF(3, 4);

/* The same for an out-of-memory: what was being made and how many bytes it needed. */
nb_status nb_fail_memory(nb_error *err, const char *what, size_t bytes);

/* Hands on a failure: NB_TRY(nb_thing(...)) returns from the caller unless the call gave NB_OK. */
#define NB_TRY(call)                                                                                                   \
    do {                                                                                                               \
        nb_status nb_try_status_ = (call);                                                                             \
        if (nb_try_status_ != NB_OK)                                                                                   \
            return nb_try_status_;                                                                                     \
    } while (0)

#endif
