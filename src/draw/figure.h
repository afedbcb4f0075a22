/* figure.h - figures with names and numbers in them: matrices in colors, number lines, the bits of numbers; and several figures
 * on one sheet. Each says how large it is. */
#ifndef NB_DRAW_FIGURE_H
#define NB_DRAW_FIGURE_H

#include "draw/svg.h"

typedef struct nb_size {
    double width, height;
} nb_size;

typedef struct nb_matrix {
    const char *title; /* for those who cannot see it */
    size_t rows, columns;
    const float *values;
    double limit;                                       /* > 0: colors reach from -limit to limit */
    bool from_zero;                                     /* from 0 to limit instead */
    int digits;                                         /* behind the point, in the cells; -1: none */
    const char *row_label, *column_label, *unit;        /* NULL: none */
    const char *const *row_names, *const *column_names; /* NULL: none */
} nb_matrix;
/* width: what it may take. With the scale of its colors below it. */
nb_size nb_matrix_draw(nb_buf *out, const nb_matrix *matrix, double width);

typedef struct nb_stroke_row {
    const char *name;
    const double *values;
    size_t n;
} nb_stroke_row;
/* Numbers as strokes, a line a row, over one axis; what lies outside it is not drawn. */
nb_size nb_number_line(nb_buf *out, const char *title, nb_axis x, const nb_stroke_row *rows, size_t count,
                       double width);

typedef struct nb_bit_row {
    const char *name;
    const char *bits,
        *fields; /* "0101", "seef": sign, exponent, fraction, 'i' whole number; '0' to '7': colors without a meaning */
    const char *note; /* NULL: none */
} nb_bit_row;
nb_size nb_bit_boxes(nb_buf *out, const char *title, const nb_bit_row *rows, size_t count);

/* One SVG file of several figures, side by side where they fit, captions below them. {0} is none. */
typedef struct nb_sheet {
    nb_buf body;
    double x, y, line; /* where the next figure goes; the height of this line of them */
} nb_sheet;
enum { NB_SHEET_WIDTH = 1040 };
void nb_sheet_title(nb_sheet *s, const char *title);
void nb_sheet_place(nb_sheet *s, const nb_buf *figure, nb_size size, const char *caption);
void nb_sheet_end(nb_sheet *s, const char *title, nb_buf *out); /* frees s */

#endif
