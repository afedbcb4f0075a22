/* lab_doc.h - inside of the lab: a document as its views see it, a list of blocks. */
#ifndef NB_LAB_LAB_DOC_H
#define NB_LAB_LAB_DOC_H

#include "lab/lab.h"

typedef enum nb_lab_kind {
    NB_LAB_BLOCK_SECTION,
    NB_LAB_BLOCK_SAY,
    NB_LAB_BLOCK_CODE,
    NB_LAB_BLOCK_FACT,
    NB_LAB_BLOCK_TABLE,
    NB_LAB_BLOCK_CHART, /* figures from here on */
    NB_LAB_BLOCK_GRID,
    NB_LAB_BLOCK_STROKES,
    NB_LAB_BLOCK_BOXES,
    NB_LAB_BLOCK_ART
} nb_lab_kind;

typedef struct nb_lab_value { /* text, or a number */
    const char *text;
    double number;
} nb_lab_value;

typedef struct nb_lab_block {
    nb_lab_kind kind;
    const char *key;
    const char *text; /* of a section, paragraph, line or fact; the caption of others: "" when there is none */
    const void *content;
    struct nb_lab_block *next;
} nb_lab_block;

typedef struct nb_lab_fact_content {
    nb_lab_value value;
    nb_lab_style style;
    int digits;
    const char *unit;
} nb_lab_fact_content;

struct nb_lab_table {
    nb_lab *lab;
    const nb_lab_column *columns;
    size_t column_count;
    nb_lab_value *cells; /* [cell_count], whole rows once written */
    size_t cell_count, room;
};

typedef struct nb_lab_series_content {
    const char *name;
    nb_lab_mark mark;
    const double *x, *y; /* x: n + 1 of a histogram */
    size_t n;
    const char *const *labels;
} nb_lab_series_content;

enum { NB_LAB_SERIES = 8 };

struct nb_lab_chart {
    nb_lab *lab;
    nb_lab_axis x, y;
    nb_lab_series_content series[NB_LAB_SERIES];
    size_t series_count;
};

typedef struct nb_lab_grid_content {
    nb_lab_grid grid;
    const float *values;
} nb_lab_grid_content;

typedef struct nb_lab_stroke_row {
    const char *name;
    const double *values;
    size_t n;
} nb_lab_stroke_row;

enum { NB_LAB_ROWS = 32 };

struct nb_lab_strokes {
    nb_lab *lab;
    nb_lab_axis x;
    nb_lab_stroke_row rows[NB_LAB_ROWS];
    size_t row_count;
};

struct nb_lab_boxes {
    nb_lab *lab;
    struct {
        const char *name, *bits, *fields, *note;
    } rows[NB_LAB_ROWS];
    size_t row_count;
};

typedef struct nb_lab_art_content {
    double width, height;
    nb_str svg;
} nb_lab_art_content;

struct nb_lab {
    const nb_lab_topic *topic;
    int64_t seed;
    nb_lab_block *first, *last;
    nb_arena arena;
    bool failed; /* memory ran out */
};

/* A number (or text) as people read it; unit not included. */
void nb_lab_format(nb_lab_value value, nb_lab_style style, int digits, char text[64]);

#endif
