/* line_edit.h - reads what a person types at a terminal: a text of one or more lines that is edited as a whole, with history,
 * pasting, any script, any size of the window. Ours because no C library in Debian has these together.
 *
 * Columns are the terminal's own where it may be asked (text_width.h). Bytes from the terminal are hostile: control characters
 * of a pasted text are dropped. One at a time in a process: signals restore the terminal. */
#ifndef NB_CLI_LINE_EDIT_H
#define NB_CLI_LINE_EDIT_H

#include "base/mem.h"

typedef struct nb_line_edit nb_line_edit;

typedef struct nb_line_edit_params {
    int in, out;               /* terminals */
    const char *prompt;        /* before the first line: ">>> " */
    const char *more;          /* before the others, as wide */
    const char *placeholder;   /* shown while there is no text */
    bool color;                /* the placeholder is grey */
    const char *history;       /* the file; NULL: none */
    bool (*open)(nb_str text); /* Enter does not end this text but its line; may be NULL */
} nb_line_edit_params;

typedef enum nb_line_end {
    NB_LINE_ENTERED,
    NB_LINE_INTERRUPTED, /* Ctrl-C: the text is what was dropped */
    NB_LINE_OVER         /* Ctrl-D in an empty text, or the terminal is gone */
} nb_line_end;

/* Texts of params live as long. */
nb_status nb_line_edit_new(const nb_line_edit_params *params, nb_line_edit **out, nb_error *err);
void nb_line_edit_free(nb_line_edit *e); /* gives the terminal back as it was; NULL is fine */

/* The next text; its bytes are good until the next call. Between calls nothing typed is shown, and Ctrl-C is a signal. */
nb_status nb_line_edit_read(nb_line_edit *e, nb_line_end *end, nb_str *text, nb_error *err);

void nb_line_edit_remember(nb_line_edit *e, bool on); /* whether what is entered goes into the history */

#endif
