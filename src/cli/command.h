/* command.h - the table of commands, expanded from commands.def, and the nearest name to a misspelt one. */
#ifndef NB_CLI_COMMAND_H
#define NB_CLI_COMMAND_H

#include "cli/cli.h"

#define NB_COMMAND(name, function, arguments, summary) int function(int argc, char **argv);
#include "cli/commands.def"
#undef NB_COMMAND

extern const nb_command nb_commands[]; /* a NULL name ends it */

const nb_command *nb_command_find(const char *name); /* NULL: none */

/* The summary of all commands, as `nibble` and `nibble help` print it. */
void nb_command_print_all(void);

/* "unknown command ..." with the nearest name, on stderr; returns the exit code. */
int nb_command_unknown(const char *name);

/* Candidates are offered one by one; `best` is then the nearest that is near enough to suggest, or NULL. */
typedef struct nb_nearest {
    const char *given;
    const char *best;
    size_t distance; /* of best */
} nb_nearest;

void nb_nearest_offer(nb_nearest *nearest, const char *candidate);

/* Damerau-Levenshtein (optimal string alignment): insertions, deletions, changes and swaps of neighbours. SIZE_MAX when
 * a word is longer than 63 bytes: no name of ours is. */
size_t nb_edit_distance(const char *a, const char *b);

#endif
