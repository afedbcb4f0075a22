#include "cli/command.h"

#include <stdio.h>

const nb_command nb_commands[] = {
#define NB_COMMAND(name, function, arguments, summary) {#name, function, arguments, summary},
#include "cli/commands.def"
#undef NB_COMMAND
    {NULL, NULL, NULL, NULL},
};

enum { LONGEST = 63 };

const nb_command *nb_command_find(const char *name)
{
    if (strcmp(name, "ls") == 0)
        name = "list";
    for (const nb_command *c = nb_commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

void nb_command_print_all(void)
{
    printf("usage: nibble COMMAND [OPTIONS] [ARGUMENTS]\n"
           "Runs language models from GGUF files on this machine.\n\ncommands:\n");
    for (const nb_command *c = nb_commands; c->name; c++)
        printf("  %-10s %s\n", c->name, c->summary);
    printf("\n'nibble COMMAND --help' lists a command's options, 'nibble help env' what the environment may say.\n");
}

int nb_command_unknown(const char *name)
{
    nb_nearest nearest = {.given = name};
    for (const nb_command *c = nb_commands; c->name; c++)
        nb_nearest_offer(&nearest, c->name);
    if (nearest.best)
        return nb_report_usage(NULL, "unknown command '%s'; did you mean '%s'?", name, nearest.best);
    return nb_report_usage(NULL, "unknown command '%s'", name);
}

static size_t least(size_t a, size_t b, size_t c) { return nb_min_size(a, nb_min_size(b, c)); }

size_t nb_edit_distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b), rows[3][LONGEST + 1];
    if (la > LONGEST || lb > LONGEST)
        return SIZE_MAX;
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= lb; j++)
        row[j] = j;
    for (size_t i = 1; i <= la; i++) {
        size_t *oldest = before;
        before = last;
        last = row;
        row = oldest;
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            row[j] = least(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = nb_min_size(row[j], before[j - 2] + 1);
        }
    }
    return row[lb];
}

/* A third of the letters may be wrong (at least one); a beginning of at least two letters counts as one mistake. */
void nb_nearest_offer(nb_nearest *nearest, const char *candidate)
{
    size_t given = strlen(nearest->given), distance = nb_edit_distance(nearest->given, candidate);
    if (given >= 2 && strncmp(candidate, nearest->given, given) == 0)
        distance = nb_min_size(distance, 1);
    if (distance <= nb_max_size(1, given / 3) && distance < strlen(candidate) &&
        (!nearest->best || distance < nearest->distance)) {
        nearest->best = candidate;
        nearest->distance = distance;
    }
}
