/* token.h - tokens of registries: the answer that holds one, and Ollama's way to ask for one signed with a key of the user's
 * (~/.ollama/id_ed25519, an OpenSSH key without a passphrase). */
#ifndef NB_REGISTRY_TOKEN_H
#define NB_REGISTRY_TOKEN_H

#include "base/mem.h"

enum { NB_TOKEN_MAX = 16 << 10 };

/* {"token": "..."} or {"access_token": "..."}; printable ASCII of at most NB_TOKEN_MAX bytes. */
nb_status nb_token_parse(nb_str json, nb_arena *arena, nb_str *token, nb_error *err);

/* An OpenSSH private key ("-----BEGIN OPENSSH PRIVATE KEY-----") of ed25519, not encrypted: its seed, and its public half as
 * it stands in id_ed25519.pub (base64, appended). NB_ERR_UNSUPPORTED: another kind, or encrypted. */
nb_status nb_key_parse(const char *name, nb_str text, unsigned char seed[32], nb_buf *public_half, nb_error *err);

/* Adds time and nonce to a realm's URL and appends the header "Authorization: PUBLIC:SIGNATURE" over it. Nothing happens when
 * there is no such key file. Source: Ollama, auth/auth.go and server/auth.go. */
nb_status nb_token_sign(const char *key_path, nb_buf *url, nb_buf *header, nb_error *err);

#endif
