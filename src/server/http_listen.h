/* http_listen.h - the sockets that a server takes connections from: one for each address that its host stands for. */
#ifndef NB_SERVER_HTTP_LISTEN_H
#define NB_SERVER_HTTP_LISTEN_H

#include "base/status.h"

enum { NB_LISTEN_MOST = 8, NB_LISTEN_TEXT = 50 };

typedef struct nb_listening {
    int fd[NB_LISTEN_MOST]; /* -1: somebody else closes it */
    char address[NB_LISTEN_MOST][NB_LISTEN_TEXT];
    size_t count;
    int port;      /* of all */
    bool loopback; /* all of them are */
} nb_listening;

/* host: an address or a name, whose addresses that this machine has not are passed over; at least one is listened on. port 0:
 * any. */
nb_status nb_listen(const char *host, int port, nb_listening *out, nb_error *err);
void nb_listen_close(nb_listening *l);

#endif
