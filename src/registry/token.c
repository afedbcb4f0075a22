#define _GNU_SOURCE
#include "registry/token.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json_read.h"
#include "store/digest.h"

enum { KEY_FILE = 16 << 10, KEY_TYPE = 11, PUBLIC_BLOB = 4 + KEY_TYPE + 4 + 32 };

nb_status nb_token_parse(nb_str json, nb_arena *arena, nb_str *token, nb_error *err)
{
    nb_json_reader r = nb_json_read_begin("the answer with the token", json, arena, err);
    nb_str found = {0};
    nb_json_read_enter(&r, '{');
    while (nb_json_read_more(&r)) {
        nb_str key = nb_json_read_key(&r);
        bool wanted = nb_str_eqz(key, "token") || nb_str_eqz(key, "access_token");
        if (wanted && found.n == 0 && nb_json_read_peek(&r) == '"')
            found = nb_json_read_str(&r);
        else
            nb_json_read_skip(&r);
    }
    NB_TRY(nb_json_read_end(&r));
    bool good = found.n > 0 && found.n <= NB_TOKEN_MAX;
    for (size_t i = 0; good && i < found.n; i++)
        good = (unsigned char)found.p[i] > 0x20 && (unsigned char)found.p[i] < 0x7f;
    if (!good)
        return nb_fail(err, NB_ERR_FORMAT, "the registry's answer holds no token that can be sent");
    *token = found;
    return NB_OK;
}

/* ---- keys: OpenSSH's PROTOCOL.key ---- */

static bool take_u32(nb_str *s, uint32_t *out)
{
    if (s->n < 4)
        return false;
    const unsigned char *p = (const unsigned char *)s->p;
    *out = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    *s = (nb_str){s->p + 4, s->n - 4};
    return true;
}

static bool take_string(nb_str *s, nb_str *out)
{
    uint32_t n;
    if (!take_u32(s, &n) || n > s->n)
        return false;
    *out = (nb_str){s->p, n};
    *s = (nb_str){s->p + n, s->n - n};
    return true;
}

static bool append_base64(const void *bytes, size_t n, nb_buf *out)
{
    if (n > INT_MAX / 2 || !nb_buf_reserve(out, 4 * ((n + 2) / 3) + 1))
        return false;
    out->len += (size_t)EVP_EncodeBlock((unsigned char *)out->data + out->len, bytes, (int)n);
    return true;
}

static bool decode_armor(nb_str text, nb_buf *out)
{
    static const char begin[] = "-----BEGIN OPENSSH PRIVATE KEY-----", end[] = "-----END OPENSSH PRIVATE KEY-----";
    const char *a = memmem(text.p, text.n, begin, sizeof begin - 1), *b = memmem(text.p, text.n, end, sizeof end - 1);
    EVP_ENCODE_CTX *c = EVP_ENCODE_CTX_new();
    int n = 0, last = 0;
    bool good = a && b && c && (a += sizeof begin - 1) <= b && nb_buf_reserve(out, (size_t)(b - a) + 16);
    if (good) {
        EVP_DecodeInit(c);
        unsigned char *to = (unsigned char *)out->data;
        good = EVP_DecodeUpdate(c, to, &n, (const unsigned char *)a, (int)(b - a)) >= 0 &&
               EVP_DecodeFinal(c, to + n, &last) == 1;
        out->len = good ? (size_t)(n + last) : 0;
    }
    EVP_ENCODE_CTX_free(c);
    return good;
}

nb_status nb_key_parse(const char *name, nb_str text, unsigned char seed[32], nb_buf *public_half, nb_error *err)
{
    nb_buf raw = {0};
    nb_str cipher = {0}, kdf, kdf_options, public_key = {0}, private_keys, type = {0}, half = {0}, both = {0};
    uint32_t count = 0, check1 = 0, check2 = 1;
    bool good = text.n <= KEY_FILE && decode_armor(text, &raw);
    nb_str s = nb_buf_view(&raw);
    good = good && nb_str_starts(s, (nb_str){"openssh-key-v1", 15});
    if (good)
        s = (nb_str){s.p + 15, s.n - 15};
    good = good && take_string(&s, &cipher) && take_string(&s, &kdf) && take_string(&s, &kdf_options) &&
           take_u32(&s, &count) && count == 1 && take_string(&s, &public_key) && take_string(&s, &private_keys);
    bool open = good && nb_str_eqz(cipher, "none");
    if (open)
        good = take_u32(&private_keys, &check1) && take_u32(&private_keys, &check2) && check1 == check2 &&
               take_string(&private_keys, &type) && nb_str_eqz(type, "ssh-ed25519") &&
               take_string(&private_keys, &half) && half.n == 32 && take_string(&private_keys, &both) && both.n == 64 &&
               public_key.n == PUBLIC_BLOB && memcmp(public_key.p + PUBLIC_BLOB - 32, half.p, 32) == 0;
    if (good && open) {
        memcpy(seed, both.p, 32);
        good = append_base64(public_key.p, public_key.n, public_half);
    }
    nb_buf_free(&raw);
    if (good && open)
        return NB_OK;
    return nb_fail(err, good ? NB_ERR_UNSUPPORTED : NB_ERR_FORMAT,
                   good ? "%s: the key is encrypted; give one without a passphrase, or move it away to log in by none"
                        : "%s: this is no ed25519 key of OpenSSH; move it away to log in by none",
                   name);
}

/* ---- signing ---- */

static bool sign(const unsigned char seed[32], nb_str text, unsigned char signature[64])
{
    size_t n = 64;
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool good = key && c && EVP_DigestSignInit(c, NULL, NULL, NULL, key) == 1 &&
                EVP_DigestSign(c, signature, &n, (const unsigned char *)text.p, text.n) == 1 && n == 64;
    EVP_MD_CTX_free(c);
    EVP_PKEY_free(key);
    return good;
}

static bool add_nonce(nb_buf *url)
{
    unsigned char bytes[16];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    nb_buf_printf(url, "%cts=%lld&nonce=", memchr(url->data, '?', url->len) ? '&' : '?', (long long)time(NULL));
    for (size_t i = 0; i < sizeof bytes; i++)
        nb_buf_printf(url, "%02x", bytes[i]);
    return true;
}

nb_status nb_token_sign(const char *key_path, nb_buf *url, nb_buf *header, nb_error *err)
{
    unsigned char seed[32], signature[64];
    char empty[NB_DIGEST_TEXT];
    nb_buf file = {0}, half = {0}, text = {0};
    if (access(key_path, F_OK) != 0)
        return NB_OK;
    nb_status status = nb_file_read(key_path, KEY_FILE, &file, err);
    if (status == NB_OK)
        status = nb_key_parse(key_path, nb_buf_view(&file), seed, &half, err);
    if (status == NB_OK)
        status = nb_digest_bytes("", 0, empty, err);
    if (status == NB_OK) {
        bool good = add_nonce(url);
        nb_buf_z(&text, "GET,");
        nb_buf_str(&text, nb_buf_view(url));
        nb_buf_char(&text, ',');
        good = good && append_base64(empty, 64, &text) && !text.failed && sign(seed, nb_buf_view(&text), signature);
        nb_buf_z(header, "Authorization: ");
        nb_buf_str(header, nb_buf_view(&half));
        nb_buf_char(header, ':');
        if (!good || !append_base64(signature, sizeof signature, header))
            status = nb_fail(err, NB_ERR_INTERNAL, "%s: libcrypto cannot sign with ed25519", key_path);
    }
    explicit_bzero(seed, sizeof seed);
    if (file.data)
        explicit_bzero(file.data, file.len);
    nb_buf_free(&file);
    nb_buf_free(&half);
    nb_buf_free(&text);
    return status;
}
