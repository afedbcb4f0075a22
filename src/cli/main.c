/* nibble COMMAND ...: finds the row of the command and calls it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cpu.h"
#include "cli/command.h"

/* A standard stream that the caller closed must not become the number of the next file opened. */
static void open_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd)
            return;
}

/* Output that cannot be written is a failure, except into a pipe whose reader has seen enough. */
static int finish(int code)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    int error = errno;
    if (error == EPIPE || nb_stdout_closed())
        return code;
    if (code == NB_EXIT_OK) {
        nb_error err;
        nb_fail(&err, NB_ERR_IO, "cannot write to standard output: %s", error ? strerror(error) : "a write failed");
        return nb_report_error(&err);
    }
    return code;
}

static int dispatch(int argc, char **argv)
{
    nb_error err;
    if (argc < 2) {
        nb_command_print_all();
        return NB_EXIT_OK;
    }
    if (nb_cpu_check_env(&err) != NB_OK) {
        nb_report_error(&err);
        return NB_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    else if (name[0] == '-')
        return nb_report_usage(NULL, "unknown option '%s' before the command", name);
    const nb_command *command = nb_command_find(name);
    if (!command)
        return nb_command_unknown(name);
    argv[1] = (char *)(uintptr_t)command->name;
    return command->run(argc - 1, argv + 1);
}

/* Models are mapped: a file that somebody cuts short is missed when it is read. */
static void on_lost_file(int number)
{
    static const char words[] =
        "nibble: error: a file in use was cut short, or its disk failed; put new files in place "
        "by renaming them, not by writing into old ones\n";
    ssize_t said = write(STDERR_FILENO, words, sizeof words - 1);
    (void)number, (void)said;
    _exit(NB_EXIT_FAILED);
}

int main(int argc, char **argv)
{
    open_standard_streams();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* the write fails, and is said to */
    signal(SIGBUS, on_lost_file);
    return finish(dispatch(argc, argv));
}
