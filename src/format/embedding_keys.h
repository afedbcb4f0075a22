/* embedding_keys.h - keys of our own for what sentence-transformers keeps beside a checkpoint; docs/gguf-keys.md. */
#ifndef NB_FORMAT_EMBEDDING_KEYS_H
#define NB_FORMAT_EMBEDDING_KEYS_H

#define NB_EMBEDDING_LENGTH "nibble.embedding.max_tokens"             /* u32: where a text that is cut ends */
#define NB_EMBEDDING_PROMPT_NAMES "nibble.embedding.prompt_names"     /* strings */
#define NB_EMBEDDING_PROMPTS "nibble.embedding.prompts"               /* strings, in the same order */
#define NB_EMBEDDING_DEFAULT_PROMPT "nibble.embedding.default_prompt" /* string: one of the names */

#endif
