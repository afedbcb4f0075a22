/* hf.h - a model directory of Hugging Face (config.json, tokenizer files, safetensors or torch files) as a source: its tensors
 * under GGUF's names, permuted and shaped as GGUF wants them, its configuration, tokenizer and chat template as GGUF
 * metadata, with the keys that llama.cpp writes. Nothing of it is executed; every file is hostile until checked. */
#ifndef NB_HF_HF_H
#define NB_HF_HF_H

#include "format/source.h"

/* True when path is a directory: nb_hf_open says what is missing in one that holds no model. */
bool nb_hf_is_model(const char *path);

/* load: NULL, or how linears are quantized while they are read; rounds: their floats are rounded to `taken` before that.
 * packed: quantized linears come as rows of NF4, FP4 and INT8 where their shapes allow, or of what is nearest among Q4_0, Q4_1,
 * Q8_0, MXFP4, F16 and BF16, else as what they dequantize to.
 * stored, unless packed: those of other ways than bitsandbytes' and quanto's come in a type of GGUF where one holds the same
 * numbers, Q4_0, Q8_0 or MXFP4.
 * as_cpu: 4 bits to the bit as bitsandbytes dequantizes them on a CPU with AVX-512, a slip of its kernel included.
 * threads: for what has to be seen whole before it can be read; 0: one a processor. */
typedef struct nb_hf_params {
    const nb_load_params *load; /* needed until nb_hf_open_as returns */
    bool rounds;
    nb_float taken;
    bool packed, stored, as_cpu;
    int threads;
} nb_hf_params;

/* Checkpoints that bitsandbytes saved are read, too. */
nb_status nb_hf_open(const char *path, nb_source **out, nb_error *err);
nb_status nb_hf_open_as(const char *path, const nb_hf_params *params, nb_source **out, nb_error *err);
/* True when bitsandbytes quantized what this source, which nb_hf_open gave, reads. */
bool nb_hf_is_quantized(const nb_source *s);

/* Metadata of a source with rows of INT8, F32: activations from this on are multiplied in float. Files do not have it. */
#define NB_HF_INT8_THRESHOLD "bitsandbytes.llm_int8_threshold"

#endif
