/* place.h - where a name leads, with what token: for pull, push and the hub. */
#ifndef NB_REGISTRY_PLACE_H
#define NB_REGISTRY_PLACE_H

#include "registry/registry.h"
#include "store/name.h"

#define NB_HUB_HOST "hf.co"

/* A client for the registry of a name: hf.co's is HF_ENDPOINT's when that is set. HF_TOKEN goes to the hub alone, and never
 * without TLS, except within this machine. NB_ERR_ARGUMENT: an address that is none. */
nb_status nb_place_open(const nb_name *name, const nb_transfer_params *params, nb_web **out, nb_error *err);
/* The hub itself, for its API. */
nb_status nb_place_open_hub(const nb_transfer_params *params, nb_web **out, nb_error *err);

void nb_transfer_tell(const nb_transfer_params *p, const char *status, const char *digest, uint64_t total,
                      uint64_t completed);
/* Waits; NB_ERR_CANCELLED when it is to stop. */
nb_status nb_transfer_sleep(const nb_transfer_params *p, int ms, nb_error *err);

/* "pulling 0123456789ab": the verb and the first digits of a digest. */
void nb_transfer_status(const char *verb, nb_str digest, char text[64]);

#endif
