/* hf.h - a model directory of Hugging Face (config.json, tokenizer files, safetensors or torch files) as a source: its tensors
 * under GGUF's names, permuted and shaped as GGUF wants them, its configuration, tokenizer and chat template as GGUF
 * metadata, with the keys that llama.cpp writes. Nothing of it is executed; every file is hostile until checked. */
#ifndef NB_HF_HF_H
#define NB_HF_HF_H

#include "format/source.h"

/* True when path is a directory with a config.json: what nb_hf_open takes. */
bool nb_hf_is_model(const char *path);

nb_status nb_hf_open(const char *path, nb_source **out, nb_error *err);

#endif
