/* hf_adapter.h - a PEFT directory (adapter_config.json, adapter_model.safetensors or .bin) as an adapter: modules' names
 * become GGUF's through the tables of the model's architecture, and B's rows are put in the order of the model's. What PEFT
 * can do besides LoRA on matrices (DoRA, biases, whole modules, embeddings, ...) is refused by name. */
#ifndef NB_HF_HF_ADAPTER_H
#define NB_HF_HF_ADAPTER_H

#include "format/adapter.h"

/* True when path is a directory: nb_hf_adapter_open says what is missing in one that holds no adapter. */
bool nb_hf_is_adapter(const char *path);

nb_status nb_hf_adapter_open(const char *path, const nb_adapter_base *base, nb_adapter **out, nb_error *err);

#endif
