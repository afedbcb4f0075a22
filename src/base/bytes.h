/* bytes.h - sizes as people write them. */
#ifndef NB_BASE_BYTES_H
#define NB_BASE_BYTES_H

#include <stdbool.h>
#include <stdint.h>

/* "300M", "1.5G", "4096": decimal, k M G T and a B are understood. False for anything else, and for 0. */
bool nb_parse_bytes(const char *text, uint64_t *bytes);

#endif
