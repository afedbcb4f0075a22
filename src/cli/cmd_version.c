#include <stdio.h>

#include "base/cpu.h"
#include "cli/command.h"

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

int nb_cmd_version(int argc, char **argv)
{
    nb_option options[] = {{.name = ""}};
    int code = nb_options_parse("version", options, &argc, argv);
    if (code >= 0)
        return code;
    if (argc > 1)
        return nb_report_usage("version", "version takes no argument, but got '%s'", argv[1]);
    int count = nb_cpu_count();
    printf("nibble %s\n", nb_version());
    printf("compiler: %s\n", COMPILER);
    printf("cpu: %s, %d %s, level %s (best %s)\n", nb_cpu_model(), count, count == 1 ? "processor" : "processors",
           nb_cpu_level_name(nb_cpu_current()), nb_cpu_level_name(nb_cpu_best()));
    return NB_EXIT_OK;
}
