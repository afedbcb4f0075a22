/* digest.h - SHA-256, by which a store names what it holds. */
#ifndef NB_STORE_DIGEST_H
#define NB_STORE_DIGEST_H

#include "store/name.h"

/* The digest of n bytes in lower-case hex. */
nb_status nb_digest_bytes(const void *bytes, size_t n, char hex[NB_DIGEST_TEXT], nb_error *err);

#endif
