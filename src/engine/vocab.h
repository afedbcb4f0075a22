/* vocab.h - makes a tokenizer from the tokenizer.ggml.* keys of a GGUF file. */
#ifndef NB_ENGINE_VOCAB_H
#define NB_ENGINE_VOCAB_H

#include "format/gguf.h"
#include "text/tokenizer.h"

/* pre_override: the pre-tokenizer's name instead of the file's; NULL: the file's. The tokenizer points into g and must be
 * freed before it. Keys that are absent take the defaults of the tokenizer's kind; values that make no sense are
 * NB_ERR_FORMAT and named. */
nb_status nb_tokenizer_from_gguf(const nb_gguf *g, const char *pre_override, nb_tokenizer **out, nb_error *err);

#endif
