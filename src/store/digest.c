#include "store/digest.h"

#include <openssl/evp.h>

nb_status nb_digest_bytes(const void *bytes, size_t n, char hex[NB_DIGEST_TEXT], nb_error *err)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    hex[0] = 0;
    if (EVP_Digest(bytes, n, sum, &length, EVP_sha256(), NULL) != 1 || length != 32)
        return nb_fail(err, NB_ERR_INTERNAL,
                       "libcrypto made no SHA-256; check that this machine's OpenSSL provides it");
    for (size_t i = 0; i < 32; i++) {
        hex[2 * i] = "0123456789abcdef"[sum[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[sum[i] & 15];
    }
    hex[64] = 0;
    return NB_OK;
}
