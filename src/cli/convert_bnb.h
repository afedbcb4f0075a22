/* convert_bnb.h - nibble convert DIR OUTDIR --to bitsandbytes-nf4. */
#ifndef NB_CLI_CONVERT_BNB_H
#define NB_CLI_CONVERT_BNB_H

#include "cli/load_options.h"

/* Reads --to into the options and finishes them. Returns -1 to go on, else the exit code. */
int nb_convert_bnb_finish(const char *to, const char *out, nb_load_options *o, const nb_load_params **load);

/* True when a checkpoint of bitsandbytes is to be written: --to, or --load-in-... with an output that is not NAME.gguf. */
bool nb_convert_is_bnb(const char *to, const char *out, const nb_load_options *o);

/* nibble quantize IN OUT --linear FORM: w8a16, w8a8 or w4g128. Returns the exit code. */
int nb_quantize_linear(const char *in, const char *out, const char *form, int threads);

/* type: "" or F32, F16, BF16; split: NULL, or bytes of a shard. Returns the exit code. */
int nb_convert_bnb(const char *in, const char *out, const char *type, const nb_load_options *o, const char *split,
                   int threads);

#endif
