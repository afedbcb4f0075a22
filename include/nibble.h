/* nibble.h - the public C API of libnibble: the only header that is installed.
 *
 * Every function that can fail returns an nb_status (0 is success) and takes an nb_error as its last
 * argument, which may be NULL; on failure it says what, where and what to do. The library never exits,
 * aborts or prints. Handles are opaque; whoever opens one closes it. A model may be shared by threads;
 * a session belongs to one thread at a time.
 */
#ifndef NIBBLE_H
#define NIBBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NB_API __attribute__((visibility("default")))
#define NB_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define NB_API
#define NB_PRINTF(fmt, args)
#endif

#define NB_VERSION "0.1.0"

/* ---- status ------------------------------------------------------------------------------------- */

typedef enum nb_status {
    NB_OK = 0,
    NB_ERR_ARGUMENT,    /* the caller asked for something that makes no sense */
    NB_ERR_MEMORY,      /* an allocation failed */
    NB_ERR_IO,          /* the system refused to read or write */
    NB_ERR_NOT_FOUND,   /* no such file, model, tensor or key */
    NB_ERR_FORMAT,      /* the file is damaged or not what it claims to be */
    NB_ERR_UNSUPPORTED, /* well formed, but not something this build can do */
    NB_ERR_LIMIT,       /* a stated limit (context, steps, depth, size) was reached */
    NB_ERR_CANCELLED,   /* the caller's callback asked to stop */
    NB_ERR_INTERNAL     /* a bug of ours */
} nb_status;

typedef struct nb_error {
    nb_status code;
    char message[1024]; /* one line: what happened, where, what to do; always terminated */
} nb_error;

/* "out of memory", "not found", ...: the class of a status, in plain words. Never NULL. */
NB_API const char *nb_status_name(nb_status status);

/* The library's version, as NB_VERSION of the header it was built with. */
NB_API const char *nb_version(void);

#ifdef __cplusplus
}
#endif
#endif
