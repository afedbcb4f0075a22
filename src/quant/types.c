#include "quant/quant.h"

#include <strings.h>

#define NB_TYPE(name, id, values, block, bytes, dequantize, quantize)                                                  \
    _Static_assert(sizeof(block) == (bytes), #name ": the block struct has padding or a wrong field");
#include "quant/types.def"
#undef NB_TYPE

static const nb_type_info types[NB_TYPE_LIMIT] = {
#define NB_TYPE(name, id, values, block, bytes, dequantize, quantize)                                                  \
    [id] = {#name, id, values, sizeof(block), dequantize, quantize},
#include "quant/types.def"
#undef NB_TYPE
};

const nb_type_info *nb_type_get(uint32_t id) { return id < NB_TYPE_LIMIT && types[id].name ? &types[id] : NULL; }

const nb_type_info *nb_type_by_name(nb_str name)
{
    for (uint32_t id = 0; id < NB_TYPE_LIMIT; id++)
        if (types[id].name && strlen(types[id].name) == name.n && strncasecmp(types[id].name, name.p, name.n) == 0)
            return &types[id];
    return NULL;
}

const char *nb_type_why_missing(uint32_t id) { return id < NB_TYPE_FILE_LIMIT ? "removed" : "unknown"; }

bool nb_type_row_bytes(const nb_type_info *type, uint64_t columns, size_t *bytes)
{
    return columns % type->block_values == 0 &&
           nb_mul((size_t)(columns / type->block_values), type->block_bytes, bytes);
}
