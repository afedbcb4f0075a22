#include "server/http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAITING = 511, TRIES = 16 };

static const void *bytes_of(const struct sockaddr *at)
{
    return at->sa_family == AF_INET ? (const void *)&((const struct sockaddr_in *)(const void *)at)->sin_addr
                                    : &((const struct sockaddr_in6 *)(const void *)at)->sin6_addr;
}

static in_port_t *port_of(struct sockaddr *at)
{
    return at->sa_family == AF_INET ? &((struct sockaddr_in *)(void *)at)->sin_port
                                    : &((struct sockaddr_in6 *)(void *)at)->sin6_port;
}

static bool is_loopback(const char *address) { return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0; }

/* One address more, at the port of those before; errno says what is wrong. An only one of IPv6 takes IPv4 as well ("::"). */
static bool add(nb_listening *l, struct addrinfo *to, bool only)
{
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1, apart = !only;
    socklen_t size = to->ai_addrlen;
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (to->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &apart, sizeof apart);
    *port_of(to->ai_addr) = htons((in_port_t)l->port);
    if (bind(fd, to->ai_addr, size) != 0 || listen(fd, WAITING) != 0 || getsockname(fd, to->ai_addr, &size) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return false;
    }
    l->port = ntohs(*port_of(to->ai_addr));
    l->fd[l->count++] = fd;
    return true;
}

/* Of a name that has it twice, the first. */
static bool is_new(nb_listening *l, const struct addrinfo *to)
{
    char *text = l->address[l->count];
    if ((to->ai_family != AF_INET && to->ai_family != AF_INET6) ||
        !inet_ntop(to->ai_family, bytes_of(to->ai_addr), text, NB_LISTEN_TEXT))
        return false;
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->address[i], text) == 0)
            return false;
    return true;
}

/* 0, or what is wrong. */
static int add_all(nb_listening *l, struct addrinfo *list)
{
    int why = EADDRNOTAVAIL;
    for (struct addrinfo *to = list; to && l->count < NB_LISTEN_MOST; to = to->ai_next) {
        if (!is_new(l, to))
            continue;
        bool loopback = is_loopback(l->address[l->count]);
        if (add(l, to, !list->ai_next)) {
            l->loopback &= loopback;
            continue;
        }
        why = errno;
        if (why == EADDRINUSE || why == EACCES) /* otherwise it is no address of this machine: then the others */
            return why;
    }
    return l->count ? 0 : why;
}

nb_status nb_listen(const char *host, int port, nb_listening *l, nb_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list;
    int why = EADDRINUSE, found = getaddrinfo(host, NULL, &hints, &list);
    if (found != 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: %s; give an address of this machine", host, gai_strerror(found));
    for (int i = 0; why == EADDRINUSE && i < (port ? 1 : TRIES); i++) { /* a port free at the first address only */
        *l = (nb_listening){.port = port, .loopback = true};
        why = add_all(l, list);
        if (why)
            nb_listen_close(l);
    }
    freeaddrinfo(list);
    if (why == EADDRINUSE)
        return nb_fail(err, NB_ERR_IO,
                       "port %d is in use: another program listens there (OLLAMA_HOST=%s:PORT chooses another one)",
                       port, host);
    return why ? nb_fail(err, NB_ERR_IO, "cannot listen on %s:%d: %s", host, port, strerror(why)) : NB_OK;
}

void nb_listen_close(nb_listening *l)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->fd[i] >= 0)
            close(l->fd[i]);
    l->count = 0;
}
