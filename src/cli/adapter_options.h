/* adapter_options.h - --adapter FILE[=SCALE], by which commands take LoRA adapters. */
#ifndef NB_CLI_ADAPTER_OPTIONS_H
#define NB_CLI_ADAPTER_OPTIONS_H

#include "cli/cli.h"

enum { NB_ADAPTERS = 32 };

typedef struct nb_adapter_options {
    nb_option_list list; /* as given; freed by nb_adapter_options_finish */
    nb_model_adapter items[NB_ADAPTERS];
    size_t count;
    char text[8192]; /* the paths */
} nb_adapter_options;

/* A row for an nb_option table; O is an nb_adapter_options. */
#define NB_ADAPTER_OPTION_ROW(O, HELP)                                                                                 \
    {                                                                                                                  \
        "adapter", 0, NB_OPTION_LIST, &(O).list, "F[=SCALE]", HELP                                                     \
    }

/* Returns -1 to go on, else the exit code. */
int nb_adapter_options_finish(const char *command, nb_adapter_options *o);

#endif
