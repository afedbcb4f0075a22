/* hf_adapter_config.h - adapter_config.json of a PEFT directory: what scales each pair, and what is asked for beyond LoRA on
 * matrices, which is refused. */
#ifndef NB_HF_HF_ADAPTER_CONFIG_H
#define NB_HF_HF_ADAPTER_CONFIG_H

#include "hf/hf_json.h"

typedef struct nb_hf_adapter_config {
    nb_tree tree;
    double rank, alpha;
    bool root; /* use_rslora: alpha over the rank's root */
} nb_hf_adapter_config;

nb_status nb_hf_adapter_config_read(const char *directory, nb_hf_adapter_config *c, nb_error *err);
void nb_hf_adapter_config_free(nb_hf_adapter_config *c);

/* Of a module's pair, whose tensors have that rank: alpha_pattern and rank_pattern, else lora_alpha and r. The rank must be the
 * configuration's. */
nb_status nb_hf_adapter_scale(const nb_hf_adapter_config *c, nb_str module, uint64_t rank, float *scale, nb_error *err);

#endif
