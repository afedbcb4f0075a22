/* lab.h - `nibble lab`: a topic of the lecture, computed here and now. A topic writes one document (sections, sentences, facts,
 * tables, figures); its text, its JSON and its picture are three views of it, so that they cannot disagree.
 * To add a topic: a row in topics.def and a file lab_NAME.c with nb_lab_NAME. */
#ifndef NB_LAB_LAB_H
#define NB_LAB_LAB_H

#include "base/mem.h"

/* ---- what the user asked for ---- */

typedef struct nb_lab_params { /* a field an option: lab_options.def; 0 and NULL: the topic's own default */
#define NB_LAB_STRING(field, name, value, help) const char *field;
#define NB_LAB_WHOLE(field, name, preset, value, help) int64_t field;
#define NB_LAB_REAL(field, name, preset, value, help) float field;
#include "lab/lab_options.def"
#undef NB_LAB_STRING
#undef NB_LAB_WHOLE
#undef NB_LAB_REAL
    char *const *arguments; /* what follows the topic's name */
    size_t argument_count;
} nb_lab_params;

nb_lab_params nb_lab_defaults(void);

/* ---- topics ---- */

typedef struct nb_lab nb_lab; /* a document */
typedef nb_status nb_lab_fn(const nb_lab_params *params, nb_lab *lab, nb_error *err);

#define NB_LAB_TOPIC(name, arguments, options, summary) nb_lab_fn nb_lab_##name;
#include "lab/topics.def"
#undef NB_LAB_TOPIC

typedef struct nb_lab_topic {
    const char *name;
    const char *arguments; /* "VALUE..."; "": none */
    const char *options;   /* names of the options it takes, between spaces */
    const char *summary;
    nb_lab_fn *run;
} nb_lab_topic;

extern const nb_lab_topic nb_lab_topics[]; /* in reading order; a NULL name ends it */
bool nb_lab_takes(const nb_lab_topic *topic, const char *option);

/* Runs a topic. Free *out with nb_lab_free. */
nb_status nb_lab_run(const nb_lab_topic *topic, const nb_lab_params *params, nb_lab **out, nb_error *err);
void nb_lab_free(nb_lab *lab); /* NULL is fine */

/* The views; each appends to out. */
void nb_lab_text(const nb_lab *lab, nb_buf *out); /* 80 columns */
void nb_lab_json(const nb_lab *lab, nb_buf *out);
void nb_lab_html(const nb_lab *lab, nb_buf *out); /* everything on one page */
void nb_lab_svg(const nb_lab *lab, nb_buf *out);  /* the figures on one sheet */

/* ---- writing a document. Everything is copied. What fails for want of memory is told once, by nb_lab_run. Keys name
 * things in the JSON: lower case, '_' between words, unique in their section. ---- */

nb_arena *nb_lab_arena(nb_lab *lab); /* for what a topic keeps until its document is written */

void nb_lab_section(nb_lab *lab, const char *key, const char *format, ...) NB_PRINTF(3, 4);
/* A paragraph; views break its lines. */
void nb_lab_say(nb_lab *lab, const char *format, ...) NB_PRINTF(2, 3);
/* A line that stays as it is: a formula, a computation, a command. At most 76 columns. */
void nb_lab_code(nb_lab *lab, const char *format, ...) NB_PRINTF(2, 3);

typedef enum nb_lab_style {
    NB_LAB_TEXT,
    NB_LAB_COUNT,   /* a whole number, with ' between thousands */
    NB_LAB_FIXED,   /* `digits` behind the point */
    NB_LAB_DIGITS,  /* `digits` significant ones, with an exponent where that is shorter */
    NB_LAB_BYTES,   /* "98.4 MB" */
    NB_LAB_SECONDS, /* "12.3 ms" */
    NB_LAB_PERCENT  /* of a share: 0.25 is "25.00 %" with 2 digits; JSON has the share */
} nb_lab_style;

/* One number with its name, beside the facts before and after it. unit: NULL: none. */
void nb_lab_fact(nb_lab *lab, const char *key, const char *label, nb_lab_style style, int digits, double value,
                 const char *unit);
void nb_lab_fact_text(nb_lab *lab, const char *key, const char *label, const char *format, ...) NB_PRINTF(4, 5);

typedef struct nb_lab_column {
    const char *key;
    const char *head;
    nb_lab_style style;
    int digits;
} nb_lab_column;

/* Cells follow row by row. A table is at most 78 columns wide with two spaces between. */
typedef struct nb_lab_table nb_lab_table;
nb_lab_table *nb_lab_table_begin(nb_lab *lab, const char *key, const nb_lab_column *columns, size_t count);
void nb_lab_cell(nb_lab_table *table, double value); /* NaN: "-" and null */
void nb_lab_cell_text(nb_lab_table *table, const char *format, ...) NB_PRINTF(2, 3);

/* ---- figures: axes say what and in which unit; captions are sentences. ---- */

typedef struct nb_lab_axis {
    const char *label;
    bool log;
    const char *const *names; /* of 0, 1, 2 ...: categories; NULL: numbers */
    size_t name_count;
    double lo, hi; /* what is shown, if lo < hi; else what the data needs */
} nb_lab_axis;

typedef enum nb_lab_mark {
    NB_LAB_LINE,      /* with points where there are few */
    NB_LAB_POINTS,    /* names: a label each */
    NB_LAB_BARS,      /* of categories: x is 0, 1, ...; several series stand side by side */
    NB_LAB_HISTOGRAM, /* y[i] over x[i] to x[i + 1]; x has n + 1 values */
    NB_LAB_STEMS      /* a line from the axis up to each point */
} nb_lab_mark;

typedef struct nb_lab_chart nb_lab_chart;
nb_lab_chart *nb_lab_chart_begin(nb_lab *lab, const char *key, nb_lab_axis x, nb_lab_axis y);
void nb_lab_series(nb_lab_chart *chart, const char *name, nb_lab_mark mark, const double *x, const double *y, size_t n);
/* Labels of the points of the series added last. */
void nb_lab_series_labels(nb_lab_chart *chart, const char *const *labels);

/* A matrix in colors. Small ones show their numbers, in the text too; larger ones are shaded there when `from_zero`, else
 * left to the picture. */
typedef struct nb_lab_grid {
    size_t rows, columns;
    const char *row_label, *column_label;               /* what rows and columns are; NULL: nothing */
    const char *const *row_names, *const *column_names; /* NULL: none */
    const char *unit;
    double limit;   /* colors reach from -limit to limit; 0: what the values need */
    bool from_zero; /* from 0 to limit instead: shares, magnitudes */
    int digits;     /* shown behind the point in cells; -1: no numbers */
} nb_lab_grid;
void nb_lab_grid_add(nb_lab *lab, const char *key, const nb_lab_grid *grid, const float *values);

/* Numbers as strokes on one line a row, over a common axis. */
typedef struct nb_lab_strokes nb_lab_strokes;
nb_lab_strokes *nb_lab_strokes_begin(nb_lab *lab, const char *key, nb_lab_axis x);
void nb_lab_strokes_row(nb_lab_strokes *strokes, const char *name, const double *values, size_t n);

/* The bits of numbers in boxes: fields[i] of bits[i]: 's' sign, 'e' exponent, 'f' fraction, 'i' whole number; '0' to
 * '7': a color each, without a name. */
typedef struct nb_lab_boxes nb_lab_boxes;
nb_lab_boxes *nb_lab_boxes_begin(nb_lab *lab, const char *key);
void nb_lab_boxes_row(nb_lab_boxes *boxes, const char *name, const char *bits, const char *fields, const char *note);

/* A drawing of the topic's own: SVG elements (nested <svg> wide x high), for pictures only; put its numbers in a table. */
void nb_lab_art(nb_lab *lab, const char *key, double width, double height, const nb_buf *svg);

/* The caption of the figure (or table) added last. */
void nb_lab_caption(nb_lab *lab, const char *format, ...) NB_PRINTF(2, 3);

#endif
