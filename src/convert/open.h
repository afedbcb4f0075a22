/* open.h - a model by its path, whatever it is: a GGUF file (sharded ones too) or a directory of Hugging Face. */
#ifndef NB_CONVERT_OPEN_H
#define NB_CONVERT_OPEN_H

#include "convert/mix.h"
#include "format/adapter.h"
#include "hf/hf.h"

nb_status nb_source_open(const char *path, nb_source **out, nb_error *err);

/* To be written as a file. */
typedef struct nb_write_source {
    const nb_load_params *load; /* NULL, or how a directory is quantized before that */
    bool keep_types;            /* no type was asked for */
    int threads;                /* 0: one a processor */
    bool again;                 /* answer: what bitsandbytes has quantized will be quantized once more */
    const nb_mix *mix;          /* answer: what that needs when no type was asked for; else NULL */
} nb_write_source;
nb_status nb_source_open_to_write(const char *path, nb_write_source *how, nb_source **out, nb_error *err);

/* As a GGUF: a file is mapped; of a directory, what is to be run as it lies in its files is mapped too, the rest is made in
 * memory, in the checkpoint's own types. threads: 0, one a processor. */
nb_status nb_gguf_open_model(const char *path, int threads, nb_gguf **out, nb_error *err);
/* The same with weights quantized on the way. A GGUF file has to hold them as floats then; its tensors are quantized row by
 * row, without double quantization. */
nb_status nb_gguf_open_model_as(const char *path, const nb_hf_params *params, nb_gguf **out, nb_error *err);

/* An adapter by its path, whatever it is: a GGUF file or a PEFT directory. base: of the model it is for. */
nb_status nb_adapter_open(const char *path, const nb_adapter_base *base, nb_adapter **out, nb_error *err);

#endif
