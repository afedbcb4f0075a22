/* inspect_set.h - nibble inspect --set: a copy of a GGUF file with other metadata. */
#ifndef NB_CLI_INSPECT_SET_H
#define NB_CLI_INSPECT_SET_H

#include "cli/cli.h"

/* Each of sets is KEY=VALUE: the value takes the type that the key has in the file; of a new key it is guessed (true, 12,
 * 0.5, else a string) or said, KEY=TYPE:VALUE with GGUF's names (u8 ... f64, bool, string). Tensors are copied. */
nb_status nb_inspect_set(const char *path, const char *out, const nb_option_list *sets, nb_error *err);

#endif
