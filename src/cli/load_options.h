/* load_options.h - the options that quantize weights while they are read, by the names that transformers and bitsandbytes gave
 * them. */
#ifndef NB_CLI_LOAD_OPTIONS_H
#define NB_CLI_LOAD_OPTIONS_H

#include "cli/cli.h"

enum { NB_LOAD_SKIPS = 64 };

typedef struct nb_load_options {
    bool in_4bit, in_8bit, double_quant, offload, fp16_weight;
    const char *quant_type, *compute_dtype, *quant_storage, *skip; /* NULL: not given */
    float threshold;
    nb_load_params params;
    char skip_text[2048]; /* cut at its commas */
    const char *skip_names[NB_LOAD_SKIPS];
} nb_load_options;

static inline nb_load_options nb_load_options_defaults(void) { return (nb_load_options){.threshold = -1}; }

/* Rows for an nb_option table; O is an nb_load_options. */
/* clang-format off */
#define NB_LOAD_OPTION_ROWS(O)                                                                                         \
    {"load-in-4bit", 0, NB_OPTION_FLAG, &(O).in_4bit, NULL, "quantize linear layers to 4 bits while reading"},         \
    {"load-in-8bit", 0, NB_OPTION_FLAG, &(O).in_8bit, NULL, "the same to 8 bits, LLM.int8()"},                         \
    {"bnb-4bit-quant-type", 0, NB_OPTION_STRING, &(O).quant_type, "T", "fp4 (default) or nf4"},                        \
    {"bnb-4bit-use-double-quant", 0, NB_OPTION_FLAG, &(O).double_quant, NULL, "scales in 8 bits, too"},                \
    {"bnb-4bit-compute-dtype", 0, NB_OPTION_STRING, &(O).compute_dtype, "T", "float32, float16 or bfloat16"},          \
    {"bnb-4bit-quant-storage", 0, NB_OPTION_STRING, &(O).quant_storage, "T", "uint8, float32, float16 or bfloat16"},   \
    {"llm-int8-threshold", 0, NB_OPTION_FLOAT, &(O).threshold, "X", "activations multiplied in float (default 6)"},    \
    {"llm-int8-skip-modules", 0, NB_OPTION_STRING, &(O).skip, "A,B", "modules to leave (default: the head)"},          \
    {"llm-int8-enable-fp32-cpu-offload", 0, NB_OPTION_FLAG, &(O).offload, NULL, "accepted; all is on the CPU"},        \
    {"llm-int8-has-fp16-weight", 0, NB_OPTION_FLAG, &(O).fp16_weight, NULL, "accepted; weights are kept in 8 bits"}
/* clang-format on */

/* Checks what the parser cannot and fills params; *load is &params when something is to be quantized, else NULL. writes: the
 * result goes to a checkpoint, in which dtypes are kept. Returns -1 to go on, else the exit code. */
int nb_load_options_finish(const char *command, nb_load_options *o, bool writes, const nb_load_params **load);

#endif
