#include "store/digest.h"

#include <stdlib.h>

#include <openssl/evp.h>

struct nb_hash {
    EVP_MD_CTX *context;
    bool failed;
};

nb_hash *nb_hash_new(void)
{
    nb_hash *h = calloc(1, sizeof *h);
    if (h && (h->context = EVP_MD_CTX_new()) && EVP_DigestInit_ex(h->context, EVP_sha256(), NULL) == 1)
        return h;
    nb_hash_free(h);
    return NULL;
}

void nb_hash_add(nb_hash *h, const void *bytes, size_t n)
{
    h->failed |= n && EVP_DigestUpdate(h->context, bytes, n) != 1;
}

nb_status nb_hash_finish(nb_hash *h, char hex[NB_DIGEST_TEXT], nb_error *err)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    hex[0] = 0;
    if (h->failed || EVP_DigestFinal_ex(h->context, sum, &length) != 1 || length != 32)
        return nb_fail(err, NB_ERR_INTERNAL,
                       "libcrypto made no SHA-256; check that this machine's OpenSSL provides it");
    for (size_t i = 0; i < 32; i++) {
        hex[2 * i] = "0123456789abcdef"[sum[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[sum[i] & 15];
    }
    hex[64] = 0;
    return NB_OK;
}

void nb_hash_free(nb_hash *h)
{
    if (h)
        EVP_MD_CTX_free(h->context);
    free(h);
}

nb_status nb_digest_bytes(const void *bytes, size_t n, char hex[NB_DIGEST_TEXT], nb_error *err)
{
    nb_hash *h = nb_hash_new();
    hex[0] = 0;
    if (!h)
        return nb_fail_memory(err, "a SHA-256", sizeof *h);
    nb_hash_add(h, bytes, n);
    nb_status status = nb_hash_finish(h, hex, err);
    nb_hash_free(h);
    return status;
}
