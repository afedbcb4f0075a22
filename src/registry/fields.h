/* fields.h - what registries and hubs say in header fields, read strictly: every byte is hostile. No memory is taken. */
#ifndef NB_REGISTRY_FIELDS_H
#define NB_REGISTRY_FIELDS_H

#include "base/mem.h"

/* Content-Range: "bytes FIRST-LAST/TOTAL", of a 206. False for anything else, as "bytes * /TOTAL" and what is empty. */
typedef struct nb_range {
    uint64_t first, last; /* both are sent */
    uint64_t total;       /* UINT64_MAX: "*" */
} nb_range;
bool nb_range_parse(nb_str value, nb_range *out);

/* Range of an upload's answer: "0-LAST" or "bytes=0-LAST"; *held: how many bytes the registry has. */
bool nb_upload_range_parse(nb_str value, uint64_t *held);

/* Decimal digits alone, as Content-Length. */
bool nb_length_parse(nb_str value, uint64_t *out);

/* WWW-Authenticate: Bearer realm="...",service="...",scope="...". Values are as they stand, of the first Bearer challenge;
 * those left out are empty. False without a realm, and for escapes, controls and what is too long. RFC 9110, 11.6.1. */
typedef struct nb_challenge {
    nb_str realm, service, scope;
} nb_challenge;
bool nb_challenge_parse(nb_str value, nb_challenge *out);

/* The opaque part of an ETag: W/"abc" and "abc" give abc. False for what is empty or no token of letters, digits and -._ :
 * it becomes the name of a file. */
bool nb_etag_parse(nb_str value, nb_str *out);

/* "model-00001-of-00003.gguf": *count parts, *number this one's, digits of `name` from *at (five each). */
bool nb_shard_parse(nb_str name, size_t *at, unsigned *number, unsigned *count);

#endif
