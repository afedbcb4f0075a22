/* download.h - one file by parallel ranged requests into an nb_partial. A part is written only behind a 206 whose Content-Range
 * is what was asked for. A server without ranges gets one plain request. Drops, stalls, 429 and 5xx are waited out, as long
 * as something arrives now and then. */
#ifndef NB_REGISTRY_DOWNLOAD_H
#define NB_REGISTRY_DOWNLOAD_H

#include "registry/partial.h"
#include "registry/web.h"

/* Told of progress a few times a second; false stops. */
typedef bool nb_download_tell_fn(void *user, uint64_t done, uint64_t total);

typedef struct nb_download {
    const char *url;  /* at the web client's place */
    const char *etag; /* what the place calls this content, when it says; NULL: anything goes */
    const char *what; /* for messages: "the blob 0123456789ab" */
    nb_download_tell_fn *tell;
    void *user;
} nb_download;

/* Fills what p lacks. Bytes are as the server sent them: the caller checks the digest. */
nb_status nb_download_run(nb_web *w, const nb_download *d, nb_partial *p, nb_error *err);

#endif
