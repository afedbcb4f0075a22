/* address.h - where a server listens, as OLLAMA_HOST says it. */
#ifndef NB_CLI_ADDRESS_H
#define NB_CLI_ADDRESS_H

#include <stdbool.h>

enum { NB_ADDRESS_PORT = 11434 };

typedef struct nb_address {
    char host[256]; /* without brackets */
    int port;       /* -1: unsaid */
    bool secure;    /* https:// stood before it */
    bool scheme;    /* it had one */
} nb_address;

/* "host:port", "host", ":port", "http://host:port", "[::1]:port"; an absent host stays as it is. False: it is none of these. */
bool nb_address_parse(const char *text, nb_address *out);

#endif
