/* http_log.h - what the operator's log says of a request: a line, as text or JSON. No byte of a prompt or a reply is in it
 * unless prompts are asked for. */
#ifndef NB_SERVER_HTTP_LOG_H
#define NB_SERVER_HTTP_LOG_H

#include "server/http.h"

enum { NB_LOG_BODY = 16 << 10 }; /* bytes of a request that are shown at most */

typedef struct nb_log_style {
    bool json;
    bool prompts; /* the request's body, and errors of the client's, which may quote it */
} nb_log_style;

/* A line, with its end. `time`: as it is to appear. */
void nb_log_request(const nb_log_style *style, const char *time, const nb_http_record *r, nb_buf *out);
/* Anything else that happens. */
void nb_log_message(const nb_log_style *style, const char *time, const char *message, nb_buf *out);

#endif
