/* mix.h - the file types of llama-quantize ("Q4_K_M"): which tensor gets which type. A row a file type in mixes.def; the rules
 * follow llama.cpp's so that files of one name have one layout everywhere (checked tensor by tensor). */
#ifndef NB_CONVERT_MIX_H
#define NB_CONVERT_MIX_H

#include "format/source.h"

typedef struct nb_mix nb_mix;

const nb_mix *nb_mix_by_name(nb_str name);              /* any case; NULL when unknown */
const nb_mix *nb_mix_of_type(const nb_type_info *type); /* the file type that is that type throughout, NULL: none */
size_t nb_mix_count(void);
const nb_mix *nb_mix_at(size_t i);
const char *nb_mix_name(const nb_mix *mix);
uint32_t nb_mix_file_type(const nb_mix *mix);       /* general.file_type */
const nb_type_info *nb_mix_type(const nb_mix *mix); /* of most matrices */

typedef struct nb_mix_options {
    bool imatrix; /* some mixes choose otherwise when there is one */
    bool pure, keep_output;
    const nb_type_info *output_type, *embedding_type;
} nb_mix_options;

/* types[i]: of tensor i of the source, fallbacks for columns that do not fit included; *fallbacks counts those. */
nb_status nb_mix_types(const nb_mix *mix, const nb_source *s, const nb_mix_options *options, const nb_type_info **types,
                       size_t *fallbacks, nb_error *err);

#endif
