/* svg.h - figures as inline SVG: axes with round ticks, points with labels, lines, bars, heat maps. Everything is appended
 * to a buffer (its sticky `failed` says when memory ran out). Colors are classes that page.h's style defines, for light
 * pages, dark ones and paper. Coordinates in the data's units, sizes in CSS pixels. */
#ifndef NB_DRAW_SVG_H
#define NB_DRAW_SVG_H

#include "base/mem.h"

enum { NB_TICKS = 24, NB_SERIES = 8, NB_PLACED = 64 };

typedef struct nb_axis {
    const char *label;
    bool log;
    double lo, hi;            /* what is shown */
    const char *const *names; /* of categories 0, 1, ...; NULL: numbers */
    size_t tick_count;
    double ticks[NB_TICKS];
    double from, to; /* pixels of lo and hi; the chart sets them */
} nb_axis;

/* Axes whose ends are round numbers around [lo, hi]. A log axis needs lo > 0; without a usable range it shows 1 to 10. */
nb_axis nb_axis_linear(const char *label, double lo, double hi);
nb_axis nb_axis_log(const char *label, double lo, double hi);
nb_axis nb_axis_names(const char *label, const char *const *names, size_t count);
double nb_axis_at(const nb_axis *axis, double value); /* in pixels; values outside lie at the nearer end */
void nb_axis_format(const nb_axis *axis, double value, char text[32]);

void nb_svg_text(nb_buf *out, nb_str text);                                    /* escaped for HTML and SVG */
void nb_svg_open(nb_buf *out, const char *title, double width, double height); /* "</svg>" ends it */
/* anchor: "start", "middle", "end"; class: "tick", "axis", "label", "key", "on" (over dark colors) */
void nb_svg_label(nb_buf *out, double x, double y, const char *anchor, const char *class, const char *text);

typedef struct nb_chart {
    nb_buf *out;
    double width, height;
    nb_axis x, y;
    double placed[NB_PLACED][4]; /* boxes of points, then of their labels, so that they do not cover each other */
    size_t placed_count, point_count;
} nb_chart;

/* title: said to those who cannot see the figure. */
void nb_chart_begin(nb_chart *c, nb_buf *out, const char *title, double width, double height, nb_axis x, nb_axis y);
typedef struct nb_chart_key { /* of series i */
    const char *name;
    bool filled; /* bars, not a line */
    bool no_line, no_dots;
} nb_chart_key;
/* The same with the names of `count` series above the frame. */
void nb_chart_begin_keys(nb_chart *c, nb_buf *out, const char *title, double width, double height, nb_axis x, nb_axis y,
                         const nb_chart_key *keys, size_t count);
/* NaN (and what a log axis cannot show) breaks the line. series: its color, shape and dashes, modulo NB_SERIES. */
void nb_chart_line(nb_chart *c, const double *x, const double *y, size_t n, size_t series);
/* A step line in the color of the axes: the frontier. */
void nb_chart_steps(nb_chart *c, const double *x, const double *y, size_t n);
/* All points of a chart first, then their labels. hint: shown when the pointer rests on it. */
void nb_chart_point(nb_chart *c, double x, double y, size_t series, const char *hint);
void nb_chart_label(nb_chart *c, double x, double y, const char *text);
/* n bars of equal width over [lo, hi], from the axis up. */
void nb_chart_bars(nb_chart *c, double lo, double hi, const double *heights, size_t n, size_t series);
/* Bars at x[i] of an axis of names: the side-th of `sides` that stand side by side. */
void nb_chart_columns(nb_chart *c, const double *x, const double *heights, size_t n, size_t series, size_t side,
                      size_t sides);
/* A line from the axis up to each point. */
void nb_chart_stems(nb_chart *c, const double *x, const double *y, size_t n, size_t series);
void nb_chart_end(nb_chart *c);

/* Colors, shapes, dashes and names in one line above or below figures. */
void nb_legend(nb_buf *out, const char *const *names, size_t count);

enum { NB_HEAT_LEVELS = 33 }; /* the middle one is zero */

size_t nb_heat_level(double value, double limit); /* the class of its color is "hLEVEL" */

/* rows x columns values as squares of `cell` pixels, from -limit (one color) over 0 to limit (another). */
void nb_heat_map(nb_buf *out, const char *title, const float *values, size_t rows, size_t columns, double limit,
                 double cell);
/* The scale of heat maps with this limit. */
void nb_heat_scale(nb_buf *out, double limit, double width);

#endif
