/* rope_options.h - the options that scale rotary positions, by llama.cpp's names. */
#ifndef NB_CLI_ROPE_OPTIONS_H
#define NB_CLI_ROPE_OPTIONS_H

#include "cli/cli.h"

typedef struct nb_rope_options {
    const char *scaling; /* NULL: not given */
    float scale, base, attention, fast, slow; /* 0: not given */
    int64_t original;
    nb_rope_params params;
} nb_rope_options;

/* Rows for an nb_option table; O is an nb_rope_options. */
/* clang-format off */
#define NB_ROPE_OPTION_ROWS(O)                                                                                         \
    {"rope-scaling", 0, NB_OPTION_STRING, &(O).scaling, "T", "none, linear, yarn or dynamic, for contexts beyond the model's"}, \
    {"rope-scale", 0, NB_OPTION_FLOAT, &(O).scale, "X", "how many times the context it was trained for"},              \
    {"rope-freq-base", 0, NB_OPTION_FLOAT, &(O).base, "X", "base of the rotary frequencies (default: the model's)"},   \
    {"yarn-orig-ctx", 0, NB_OPTION_I64, &(O).original, "N", "the context it was trained for (default: the model's)"},  \
    {"yarn-attn-factor", 0, NB_OPTION_FLOAT, &(O).attention, "X", "of cos and sin (default: 0.1 ln scale + 1)"},       \
    {"yarn-beta-fast", 0, NB_OPTION_FLOAT, &(O).fast, "X", "turns from where frequencies stay (default 32)"},          \
    {"yarn-beta-slow", 0, NB_OPTION_FLOAT, &(O).slow, "X", "turns up to where they are divided (default 1)"}
/* clang-format on */

/* Fills params; *rope is &params when an option was given, else NULL. Returns -1 to go on, else the exit code. */
int nb_rope_options_finish(const char *command, nb_rope_options *o, const nb_rope_params **rope);

#endif
