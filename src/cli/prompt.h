/* prompt.h - the prompt of `nibble run MODEL`: messages and commands in turn, until it is left. */
#ifndef NB_CLI_PROMPT_H
#define NB_CLI_PROMPT_H

#include "cli/chat.h"

/* Standard input is a terminal. Failures of replies and commands are told and change nothing; returns the exit code. */
int nb_prompt(nb_chat *c);

#endif
