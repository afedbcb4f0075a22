/* digest.h - SHA-256, by which a store names what it holds. */
#ifndef NB_STORE_DIGEST_H
#define NB_STORE_DIGEST_H

#include "store/name.h"

/* The digest of n bytes in lower-case hex. */
nb_status nb_digest_bytes(const void *bytes, size_t n, char hex[NB_DIGEST_TEXT], nb_error *err);

/* The digest of bytes as they come. */
typedef struct nb_hash nb_hash;
nb_hash *nb_hash_new(void); /* NULL: out of memory, or libcrypto has no SHA-256 */
void nb_hash_add(nb_hash *h, const void *bytes, size_t n);
nb_status nb_hash_finish(nb_hash *h, char hex[NB_DIGEST_TEXT], nb_error *err); /* h is then only to be freed */
void nb_hash_free(nb_hash *h);                                                 /* NULL is fine */

#endif
