/* embed_prompt.h - the prompts that a file has for texts to embed (sentence-transformers' "query", "document"). */
#ifndef NB_ENGINE_EMBED_PROMPT_H
#define NB_ENGINE_EMBED_PROMPT_H

#include "format/gguf.h"

/* The prompt of that name, in the file; NULL: the file's default, empty where it has none; "": empty. */
nb_status nb_embed_prompt(const nb_gguf *g, const char *name, nb_str *prompt, nb_error *err);

#endif
