#define _GNU_SOURCE
#include "cli/address.h"

#include <stdlib.h>
#include <string.h>

bool nb_address_parse(const char *text, nb_address *out)
{
    const char *at = strstr(text, "://"), *colon;
    out->port = -1;
    out->scheme = at != NULL;
    out->secure = at && strncmp(text, "https://", 8) == 0;
    text = at ? at + 3 : text;
    size_t n = strcspn(text, "/");
    colon = text[0] == '[' ? memchr(text, ']', n) : memrchr(text, ':', n);
    if (text[0] == '[' && !colon)
        return false;
    const char *begin = text[0] == '[' ? text + 1 : text, *end = colon ? colon : text + n;
    if (text[0] == '[')
        colon = colon[1] == ':' ? colon + 1 : NULL;
    if ((size_t)(end - begin) >= sizeof out->host)
        return false;
    if (end > begin) {
        memcpy(out->host, begin, (size_t)(end - begin));
        out->host[end - begin] = 0;
    }
    if (!colon)
        return true;
    char *rest;
    long number = strtol(colon + 1, &rest, 10);
    if (rest == colon + 1 || (*rest && *rest != '/') || number < 0 || number > 65535)
        return false;
    out->port = (int)number;
    return true;
}
