/* cli.h - what the commands share: the table of commands, options, the terminal. Text on stdout only; everything else
 * on stderr; exit 0 (done), 1 (failed), 2 (usage). */
#ifndef NB_CLI_CLI_H
#define NB_CLI_CLI_H

#include "base/bytes.h"
#include "base/mem.h"

enum { NB_EXIT_OK = 0, NB_EXIT_FAILED = 1, NB_EXIT_USAGE = 2 };

/* A row a command (commands.def): nibble NAME ... calls run with argv[0] = NAME. */
typedef struct nb_command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *arguments; /* "MODEL [PROMPT...]" */
    const char *summary;   /* one line */
} nb_command;

typedef enum nb_option_kind {
    NB_OPTION_FLAG,   /* bool *: set true; --no-NAME sets false */
    NB_OPTION_INT,    /* int * */
    NB_OPTION_I64,    /* int64_t * */
    NB_OPTION_U64,    /* uint64_t * */
    NB_OPTION_FLOAT,  /* float * */
    NB_OPTION_STRING, /* const char ** */
    NB_OPTION_MAYBE,  /* const char **: a value only as --NAME=VALUE; --NAME alone is "" */
    NB_OPTION_LIST    /* nb_option_list *: may be given several times */
} nb_option_kind;

typedef struct nb_option_list {
    const char **items; /* allocated by the parser; the command frees it */
    size_t count;
} nb_option_list;

typedef struct nb_option {
    const char *name; /* without the dashes; "" ends the table */
    char letter;      /* 0: none */
    nb_option_kind kind;
    void *to;
    const char *value; /* name of the value in the help: "N", "FILE"; NULL for a flag */
    const char *help;
} nb_option;

/* Parses argv in place: options may stand anywhere before "--"; what remains is left in argv[1..] and counted in *argc.
 * --help prints the command's help on stdout. Returns -1 to go on, else the exit code. A usage error names the option,
 * suggests the nearest one, and is printed on stderr. --NAME=VALUE, --NAME VALUE, -x VALUE and -xVALUE are understood; a
 * negative number is a value. */
int nb_options_parse(const char *command, const nb_option *options, int *argc, char **argv);
void nb_options_free(const nb_option *options); /* the lists of a table; after an exit code they are free already */

/* stderr: "nibble: error: MESSAGE" ("error" is red only on a terminal without NO_COLOR; control characters become '?'; a
 * terminal gets it broken at words).
 * Return the exit code. A usage error ends in a line that names the command's help (NULL: the list of commands). */
int nb_report_error(const nb_error *err);
int nb_report_usage(const char *command, const char *format, ...) NB_PRINTF(2, 3);
void nb_note(const char *format, ...) NB_PRINTF(1, 2); /* one line on stderr */

/* A whole JSON text as a line on stdout; frees it. Fails when memory ran out while it was written. */
nb_status nb_print_json(nb_buf *json, nb_error *err);

/* A page or picture as a file, there only when whole. Fails too when memory ran out while it was made. */
nb_status nb_write_page(const char *path, const nb_buf *page, nb_error *err);

bool nb_stdout_is_terminal(void);
bool nb_stderr_is_terminal(void);
bool nb_live_wanted(void);           /* stderr is a terminal that can draw a line again */
bool nb_color_wanted(bool terminal); /* false under NO_COLOR or TERM=dumb */
void nb_terminal_dim(bool on);       /* what follows on stdout; ends with the process, too, when Ctrl-C ends it */
int nb_terminal_width(void);         /* columns; 80 when unknown */
enum { NB_BEHIND = 3 };              /* columns that a line drawn again leaves free, for the "^C" of a terminal */
bool nb_stdout_closed(void);         /* the reader of our pipe is gone: long work may stop, quietly */

/* Progress of long work, on stderr: a redrawn line (what, done/total, rate, time left) on a terminal, else a plain line at
 * most every 5 s and at the end. unit: "B" prints decimal bytes; else the word itself. */
typedef struct nb_progress nb_progress;
/* NULL on no memory: then a no-op */
nb_progress *nb_progress_start(const char *what, uint64_t total, const char *unit);
void nb_progress_at(nb_progress *p, uint64_t done);
void nb_progress_end(nb_progress *p, bool finished); /* frees p */

/* "98.4 MB", "1.12 GB" (decimal) and "1 h 02 min", "12.3 s" for people. */
void nb_format_bytes(uint64_t bytes, char text[24]);
void nb_format_seconds(double seconds, char text[24]);

/* Ctrl-C: after nb_interrupt_watch the first one only sets a flag (a second within a second ends the process). */
void nb_interrupt_watch(void);
/* The same for who answers each of them: only the third that nobody asked for yet ends the process. */
void nb_interrupt_watch_patiently(void);
bool nb_interrupted(void); /* true once for each Ctrl-C; clears the flag */

#endif
