/* line_screen.h - draws a text that is being edited: rows of a terminal, the cursor among them, as much as fits the window. */
#ifndef NB_CLI_LINE_SCREEN_H
#define NB_CLI_LINE_SCREEN_H

#include "base/mem.h"

typedef struct nb_screen_row {
    size_t begin, end; /* bytes of the text */
    int width;         /* columns taken, prompt included */
    bool first;        /* of its line: has a prompt before it */
} nb_screen_row;

typedef struct nb_screen {
    const char *prompt, *more, *placeholder;
    bool color;
    int columns, lines; /* of the window */
    /* as drawn last */
    nb_screen_row *rows;
    size_t count, cap;
    size_t top;        /* the first row in the window */
    size_t cursor_row; /* among all rows */
    int cursor_column;
    bool drawn;
    bool stale; /* rows of an earlier draw may lie below the cursor */
    bool failed; /* for want of memory */
} nb_screen;

/* Appends to out what shows the text with the cursor at byte `at`, in place of what was drawn before. */
void nb_screen_draw(nb_screen *s, nb_str text, size_t at, nb_buf *out);
/* The window has another size: what was drawn lies on other rows now, the terminal having broken those that were longer. */
void nb_screen_resize(nb_screen *s, int columns, int lines, nb_buf *out);
/* Draws all of the text, so that it can be scrolled back to, and leaves it: what comes next is below it. */
void nb_screen_leave(nb_screen *s, nb_str text, nb_buf *out);
/* Goes to where the text begins; the next draw begins here, over what is there. */
void nb_screen_home(nb_screen *s, nb_buf *out);
/* The place one row up (-1) or down (1), at the column *goal or before it (below 0: it becomes the cursor's); false: there is no
 * such row. */
bool nb_screen_move(nb_screen *s, nb_str text, size_t at, int by, int *goal, size_t *to);
void nb_screen_free(nb_screen *s);

#endif
