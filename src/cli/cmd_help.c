#include <stdio.h>
#include <stdlib.h>

#include "base/env.h"
#include "cli/command.h"

static const struct {
    const char *name, *fallback, *meaning;
} variables[] = {
#define NB_ENV(name, fallback, meaning) {#name, fallback, meaning},
#include "cli/env.def"
#undef NB_ENV
};

static void print_environment(void)
{
    printf("Environment variables and their values; in brackets what holds where one is not set.\n\n");
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        const char *name = variables[i].name, *value = getenv(name);
        printf("%s\n    %s\n", name, variables[i].meaning);
        if (value && *value && nb_env_is_secret(name))
            printf("    = (set)\n");
        else if (value && *value)
            printf("    = %s\n", value);
        else
            printf("    (%s)\n", *variables[i].fallback ? variables[i].fallback : "not set");
    }
}

int nb_cmd_help(int argc, char **argv)
{
    nb_option options[] = {{.name = ""}};
    int code = nb_options_parse("help", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc > 2)
        return nb_report_usage("help", "help takes one command, but '%s' follows", argv[2]);
    if (argc < 2) {
        nb_command_print_all();
        return NB_EXIT_OK;
    }
    if (strcmp(argv[1], "env") == 0) {
        print_environment();
        return NB_EXIT_OK;
    }
    const nb_command *command = nb_command_find(argv[1]);
    if (!command)
        return nb_command_unknown(argv[1]);
    char ask[] = "--help";
    char *arguments[] = {(char *)(uintptr_t)command->name, ask, NULL};
    return command->run(2, arguments);
}
