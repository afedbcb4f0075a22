/* hf_quant.h - how the weights of a checkpoint are quantized: a row in quant_methods.def, and a file hf_NAME.c that defines
 * nb_hf_quant_NAME. What config.json says of it is looked at once; each weight is found by the names of its tensors, and what is
 * there is compared with what it should be before a row is read. Immutable but for the nb_hf that is being opened. */
#ifndef NB_HF_HF_QUANT_H
#define NB_HF_HF_QUANT_H

#include "hf/hf_internal.h"

struct nb_hf_quant {
    const char *name; /* for messages */
    const char *const
        *ends; /* of the names of quantized weights behind the module's, ".weight" excepted; ends with NULL */
    /* `config`: the quantization_config. What it says and the rest needs is kept in h->quant_state. */
    nb_status (*configure)(nb_hf *h, const nb_tree *tree, const nb_node *config, nb_error *err);
    /* Of a tensor whose name ends in one of `ends` or ".weight": the weight that it is a part of; NULL: it is not quantized. */
    nb_status (*find)(nb_hf *h, const nb_checkpoint_tensor *weight, const nb_hf_linear **out, nb_error *err);
    bool (*is_part)(const nb_hf *h,
                    nb_str name); /* of a quantized weight: scales and the like, also what is not used */
};

#define NB_HF_QUANT(name, names) extern const nb_hf_quant nb_hf_quant_##name;
#include "hf/quant_methods.def"
#undef NB_HF_QUANT

/* h->quant by the quantization_config; NULL: the weights are floats. */
nb_status nb_hf_quant_config(nb_hf *h, nb_error *err);

/* ---- names of tensors ---- */
bool nb_hf_strip(nb_str *name, const char *end); /* takes the end off, false: it has another */
/* The tensor MODULE and END; NULL: absent. */
const nb_checkpoint_tensor *nb_hf_beside(const nb_hf *h, nb_str module, const char *end);
/* "FILE: tensor 'NAME' WHAT; download the checkpoint again" */
nb_status nb_hf_bad_part(const nb_checkpoint_tensor *t, nb_error *err, const char *format, ...) NB_PRINTF(3, 4);
/* As nb_hf_beside, NB_ERR_FORMAT when absent. */
nb_status nb_hf_need(const nb_hf *h, const nb_checkpoint_tensor *weight, nb_str module, const char *end,
                     const nb_checkpoint_tensor **out, nb_error *err);

#endif
