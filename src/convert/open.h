/* open.h - a model by its path, whatever it is: a GGUF file (sharded ones too) or a directory of Hugging Face. */
#ifndef NB_CONVERT_OPEN_H
#define NB_CONVERT_OPEN_H

#include "format/source.h"

nb_status nb_source_open(const char *path, nb_source **out, nb_error *err);

/* As a GGUF: a file is mapped; of a directory, what is to be run as it lies in its files is mapped too, the rest is made in
 * memory, in the checkpoint's own types. threads: 0, one a processor. */
nb_status nb_gguf_open_model(const char *path, int threads, nb_gguf **out, nb_error *err);

#endif
