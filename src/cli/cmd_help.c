#include "cli/command.h"

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
    const nb_command *command = nb_command_find(argv[1]);
    if (!command)
        return nb_command_unknown(argv[1]);
    char ask[] = "--help";
    char *arguments[] = {(char *)(uintptr_t)command->name, ask, NULL};
    return command->run(2, arguments);
}
