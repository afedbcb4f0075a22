/* describe.h - what a model's own file says of it, in the words of Ollama's /api/tags and /api/show. */
#ifndef NB_STORE_DESCRIBE_H
#define NB_STORE_DESCRIBE_H

#include "base/json_write.h"
#include "format/source.h"

typedef struct nb_facts {
    nb_str architecture;      /* "llama"; empty when unsaid */
    uint64_t parameters;      /* values of all tensors */
    char parameter_size[24];  /* "1.5B" */
    const char *quantization; /* "Q4_K_M"; of what has no file type, the type most values have */
    uint64_t context_length, embedding_length, block_count; /* 0: unsaid */
    bool embeds;                                            /* made for embeddings: it says how tokens are pooled */
    bool infills;                                           /* has tokens for text before, after and between */
    nb_str chat_template;                                   /* empty: none */
    nb_str bos_token, eos_token;
} nb_facts;

/* Texts are copied into arena: the source may go. */
nb_status nb_facts_read(const nb_source *s, nb_arena *arena, nb_facts *out, nb_error *err);

/* 134515008: "134.52M", 1500000000: "1.5B", 7000000: "7M" */
void nb_parameter_size(uint64_t count, char text[24]);

/* One JSON object of all metadata, keys sorted, with general.parameter_count and without general.name and the chat template,
 * which /api/show has elsewhere. Unless verbose, arrays of more than five are []. */
void nb_model_info_write(const nb_source *s, uint64_t parameters, bool verbose, nb_json *j);
/* One JSON array: name, type and shape of each tensor. */
void nb_tensors_write(const nb_source *s, nb_json *j);

#endif
