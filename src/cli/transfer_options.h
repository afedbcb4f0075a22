/* transfer_options.h - the options of pull and push, and what both do around a transfer: progress and Ctrl-C. */
#ifndef NB_CLI_TRANSFER_OPTIONS_H
#define NB_CLI_TRANSFER_OPTIONS_H

#include "cli/transfer_bar.h"

typedef struct nb_transfer_options {
    nb_transfer_params params;
    nb_transfer_bar *bar;
    bool stop;
} nb_transfer_options;

#define NB_TRANSFER_OPTION_ROWS(o, direction)                                                                          \
    {"insecure", 0, NB_OPTION_FLAG, &(o).params.insecure, NULL, "over http instead of https"},                         \
    {                                                                                                                  \
        "registry", 0, NB_OPTION_STRING, &(o).params.registry, "URL",                                                  \
            direction " here, whatever the name's host and HF_ENDPOINT say"                                            \
    }

/* Before and after the transfer itself, which takes o->params. */
void nb_transfer_options_begin(nb_transfer_options *o);
void nb_transfer_options_end(nb_transfer_options *o);

#endif
