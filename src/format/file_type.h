/* file_type.h - the names of general.file_type: the mix of tensor types a file was quantized to. The ids are
 * llama.cpp's; the actual types are the tensors' own. */
#ifndef NB_FORMAT_FILE_TYPE_H
#define NB_FORMAT_FILE_TYPE_H

#include <stdint.h>

/* "Q4_K_M" for 15; NULL for an unknown or removed id. */
const char *nb_file_type_name(uint64_t id);

#endif
