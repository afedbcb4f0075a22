/* mix.h - the file types of llama-quantize ("Q4_K_M"): which tensor gets which type. A row a file type in mixes.def; the rules
 * follow llama.cpp's so that files of one name have one layout everywhere (checked tensor by tensor). */
#ifndef NB_CONVERT_MIX_H
#define NB_CONVERT_MIX_H

#include "format/source.h"

typedef struct nb_mix nb_mix;

/* Any case; also the number of a file type, and "COPY", whose tensors all keep their types. NULL when unknown. */
const nb_mix *nb_mix_by_name(nb_str name);
/* The file type that is that type, or nearest to it, throughout; NULL: none. */
const nb_mix *nb_mix_of_type(const nb_type_info *type);
/* The mix of that name, or the one of the tensor type of that name (then *pure is set); NULL: no such name. */
const nb_mix *nb_mix_named(nb_str name, bool *pure);
size_t nb_mix_count(void);
const nb_mix *nb_mix_at(size_t i);
const char *nb_mix_name(const nb_mix *mix);
uint32_t nb_mix_file_type(const nb_mix *mix);       /* general.file_type; of COPY it is the source's */
const nb_type_info *nb_mix_type(const nb_mix *mix); /* of most matrices; NULL: COPY */

typedef struct nb_mix_options {
    bool imatrix; /* some mixes choose otherwise when there is one */
    bool pure, keep_output;
    const nb_type_info *output_type, *embedding_type;
    const nb_type_info *const *chosen; /* NULL, or a tensor each: the type somebody chose for it, NULL: nobody did */
} nb_mix_options;

/* True when the mix makes such a matrix badly without an importance matrix, so that llama-quantize refuses to. */
bool nb_mix_needs_imatrix(const nb_mix *mix, nb_str tensor, const nb_type_info *type);

/* types[i]: of tensor i of the source, fallbacks for columns that do not fit included; *fallbacks counts those. */
nb_status nb_mix_types(const nb_mix *mix, const nb_source *s, const nb_mix_options *options, const nb_type_info **types,
                       size_t *fallbacks, nb_error *err);

#endif
