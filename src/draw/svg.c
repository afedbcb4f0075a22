#include "draw/svg.h"

#include <math.h>
#include <stdio.h>

enum { LEFT = 64, RIGHT = 16, TOP = 12, BOTTOM = 46, CHARACTER = 7, LABEL_HEIGHT = 14 };

/* ---- axes ---- */

static double round_step(double rough)
{
    static const double nice[] = {1, 2, 5, 10};
    double power = pow(10, floor(log10(rough)));
    for (size_t i = 0; i < 4; i++)
        if (rough <= nice[i] * power * (1 + 1e-9))
            return nice[i] * power;
    return 10 * power;
}

nb_axis nb_axis_linear(const char *label, double lo, double hi)
{
    nb_axis a = {.label = label};
    if (!isfinite(lo) || !isfinite(hi)) {
        lo = 0;
        hi = 1;
    }
    if (hi <= lo)
        hi = lo + fmax(fabs(lo) * 0.1, 1e-3);
    double step = round_step((hi - lo) / 6), first = floor(lo / step + 1e-9), last = ceil(hi / step - 1e-9);
    a.lo = first * step;
    a.hi = last * step;
    for (double i = first; i <= last && a.tick_count < NB_TICKS; i++)
        a.ticks[a.tick_count++] = i == 0 ? 0 : i * step;
    return a;
}

/* ticks of a log axis: powers of ten, and between them 2 and 5 where there is room */
static void log_ticks(nb_axis *a)
{
    static const double nice[] = {1, 2, 5};
    double decades = log10(a->hi) - log10(a->lo);
    int every = decades > 2.5 ? 3 : 1, skip = decades > 12 ? (int)ceil(decades / 12) : 1;
    for (int power = (int)floor(log10(a->lo) - 1e-9); power <= (int)ceil(log10(a->hi)); power += skip)
        for (int i = 0; i < 3; i += every) {
            double tick = nice[i] * pow(10, power);
            if (tick >= a->lo * (1 - 1e-9) && tick <= a->hi * (1 + 1e-9) && a->tick_count < NB_TICKS)
                a->ticks[a->tick_count++] = tick;
        }
}

static double round_log(double value, bool up)
{
    static const double nice[] = {1, 2, 5, 10};
    double power = pow(10, floor(log10(value) + 1e-12)), below = power;
    for (size_t i = 0; i < 4; i++) {
        double at = nice[i] * power;
        if (up && at >= value * (1 - 1e-9))
            return at;
        if (at <= value * (1 + 1e-9))
            below = at;
    }
    return below;
}

nb_axis nb_axis_log(const char *label, double lo, double hi)
{
    nb_axis a = {.label = label, .log = true, .lo = 1, .hi = 10};
    if (lo > 0 && isfinite(hi) && hi >= lo) {
        a.lo = round_log(lo, false);
        a.hi = round_log(hi, true);
    }
    if (a.hi <= a.lo)
        a.hi = a.lo * 10;
    log_ticks(&a);
    return a;
}

nb_axis nb_axis_names(const char *label, const char *const *names, size_t count)
{
    nb_axis a = {.label = label, .names = names, .lo = -0.5, .hi = (double)(count ? count : 1) - 0.5};
    a.tick_count = nb_min_size(count, NB_TICKS);
    for (size_t i = 0; i < a.tick_count; i++)
        a.ticks[i] = (double)i;
    return a;
}

double nb_axis_at(const nb_axis *a, double value)
{
    value = fmin(fmax(value, a->lo), a->hi);
    double share = a->log ? (log(value) - log(a->lo)) / (log(a->hi) - log(a->lo)) : (value - a->lo) / (a->hi - a->lo);
    return a->from + share * (a->to - a->from);
}

void nb_axis_format(const nb_axis *a, double value, char text[32])
{
    double size = fabs(value);
    if (a->names)
        snprintf(text, 32, "%.31s", a->names[(size_t)value]);
    else if (size > 0 && (size < 1e-3 || size >= 1e6))
        snprintf(text, 32, "%.0fe%.0f", value / pow(10, floor(log10(size) + 1e-9)), floor(log10(size) + 1e-9));
    else
        snprintf(text, 32, "%.6g", value);
}

/* ---- text ---- */

void nb_svg_text(nb_buf *out, nb_str text)
{
    for (size_t i = 0; i < text.n; i++) {
        switch (text.p[i]) {
        case '<': nb_buf_z(out, "&lt;"); break;
        case '>': nb_buf_z(out, "&gt;"); break;
        case '&': nb_buf_z(out, "&amp;"); break;
        case '"': nb_buf_z(out, "&quot;"); break;
        default: nb_buf_char(out, text.p[i]);
        }
    }
}

void nb_svg_label(nb_buf *out, double x, double y, const char *anchor, const char *class, const char *text)
{
    nb_buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x, y, anchor, class);
    nb_svg_text(out, nb_str_of(text));
    nb_buf_z(out, "</text>\n");
}

/* ---- the frame of a chart ---- */

static void draw_x(nb_chart *c, bool slanted)
{
    char text[32];
    double bottom = c->y.from;
    for (size_t i = 0; i < c->x.tick_count; i++) {
        double at = nb_axis_at(&c->x, c->x.ticks[i]);
        nb_axis_format(&c->x, c->x.ticks[i], text);
        nb_buf_printf(c->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"grid\"/>\n", at, c->y.to,
                      at, bottom);
        if (slanted) {
            nb_buf_printf(c->out, "<g transform=\"translate(%.1f %.1f) rotate(-35)\">", at + 4, bottom + 14);
            nb_svg_label(c->out, 0, 0, "end", "tick", text);
            nb_buf_z(c->out, "</g>\n");
        } else {
            nb_svg_label(c->out, at, bottom + 16, "middle", "tick", text);
        }
    }
    nb_svg_label(c->out, (c->x.from + c->x.to) / 2, c->height - 6, "middle", "axis", c->x.label);
}

static void draw_y(nb_chart *c)
{
    char text[32];
    for (size_t i = 0; i < c->y.tick_count; i++) {
        double at = nb_axis_at(&c->y, c->y.ticks[i]);
        nb_axis_format(&c->y, c->y.ticks[i], text);
        nb_buf_printf(c->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"grid\"/>\n", c->x.from, at,
                      c->x.to, at);
        nb_svg_label(c->out, c->x.from - 8, at + 4, "end", "tick", text);
    }
    if (c->y.label[0]) {
        nb_buf_printf(c->out, "<g transform=\"translate(14 %.1f) rotate(-90)\">", (c->y.from + c->y.to) / 2);
        nb_svg_label(c->out, 0, 0, "middle", "axis", c->y.label);
        nb_buf_z(c->out, "</g>\n");
    }
}

void nb_svg_open(nb_buf *out, const char *title, double width, double height)
{
    /* on narrow screens a wide figure is moved sideways rather than made too small to read */
    nb_buf_printf(out,
                  "<svg viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" style=\"--least:%.0fpx\" "
                  "role=\"img\">\n<title>",
                  width, height, width, height, fmin(width, 680));
    nb_svg_text(out, nb_str_of(title));
    nb_buf_z(out, "</title>\n");
}

/* a shape a series, so that colors need not be told apart; about the middle, within 5 pixels */
static const char *const shapes[NB_SERIES] = {"M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
                                              "M-3.5 -3.5h7v7h-7z",
                                              "M0 -4.8L4.6 3.4H-4.6z",
                                              "M0 -5L5 0L0 5L-5 0z",
                                              "M0 4.8L-4.6 -3.4H4.6z",
                                              "M-1.5 -4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
                                              "M-4.8 0L3.4 -4.6V4.6z",
                                              "M4.8 0L-3.4 4.6V-4.6z"};

static void put_shape(nb_buf *out, double x, double y, size_t series)
{
    nb_buf_printf(out, "<path class=\"dot s%zu\" transform=\"translate(%.1f %.1f)\" d=\"%s\">", series % NB_SERIES, x,
                  y, shapes[series % NB_SERIES]);
}

/* Room to the right of the frame: half of what is written below its end. */
static double right_margin(const nb_axis *x, bool slanted)
{
    char text[32];
    size_t last = x->tick_count - 1;
    if (slanted || x->names || x->tick_count == 0 || x->ticks[last] < x->hi)
        return RIGHT;
    nb_axis_format(x, x->ticks[last], text);
    return fmax(RIGHT, 2 + CHARACTER * (double)strlen(text) / 2);
}

/* Names above the frame, in as many lines as they need; returns the height. */
static double draw_keys(nb_chart *c, const nb_chart_key *keys, size_t count)
{
    enum { SAMPLE = 34, GAP = 18, LINE = 18 };
    double x = LEFT, y = TOP;
    for (size_t i = 0; i < count; i++) {
        double width = SAMPLE + CHARACTER * (double)strlen(keys[i].name) + GAP;
        if (x > LEFT && x + width - GAP > c->width) {
            x = LEFT;
            y += LINE;
        }
        if (keys[i].filled)
            nb_buf_printf(c->out, "<rect class=\"bars s%zu\" x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"10\"/>\n",
                          i % NB_SERIES, x + 10, y - 5);
        else if (!keys[i].no_line)
            nb_buf_printf(c->out, "<path class=\"line s%zu\" d=\"M%.1f %.1fh28\"/>\n", i % NB_SERIES, x, y);
        if (!keys[i].filled && !keys[i].no_dots) {
            put_shape(c->out, x + 14, y, i);
            nb_buf_z(c->out, "</path>\n");
        }
        nb_svg_label(c->out, x + SAMPLE, y + 4, "start", "key", keys[i].name);
        x += width;
    }
    return count ? y - TOP + LINE : 0;
}

void nb_chart_begin(nb_chart *c, nb_buf *out, const char *title, double width, double height, nb_axis x, nb_axis y)
{
    nb_chart_begin_keys(c, out, title, width, height, x, y, NULL, 0);
}

void nb_chart_begin_keys(nb_chart *c, nb_buf *out, const char *title, double width, double height, nb_axis x, nb_axis y,
                         const nb_chart_key *keys, size_t count)
{
    size_t longest = 0;
    for (size_t i = 0; x.names && i < x.tick_count; i++)
        longest = nb_max_size(longest, strlen(x.names[i]));
    bool slanted = (double)(longest * CHARACTER) > width / (double)(x.tick_count + 1);
    *c = (nb_chart){.out = out, .width = width, .height = height, .x = x, .y = y};
    c->x.from = LEFT;
    c->x.to = width - right_margin(&x, slanted);
    c->y.from = height - BOTTOM - (slanted ? 4 * (double)nb_min_size(longest, 16) : 0);
    nb_svg_open(out, title, width, height);
    c->y.to = TOP + draw_keys(c, keys, count);
    draw_x(c, slanted);
    draw_y(c);
}

void nb_chart_end(nb_chart *c) { nb_buf_z(c->out, "</svg>\n"); }

/* ---- what is in it ---- */

static bool shown(const nb_chart *c, double x, double y)
{
    return isfinite(x) && isfinite(y) && (!c->x.log || x > 0) && (!c->y.log || y > 0);
}

void nb_chart_line(nb_chart *c, const double *x, const double *y, size_t n, size_t series)
{
    bool pen = false;
    nb_buf_printf(c->out, "<path class=\"line s%zu\" d=\"", series % NB_SERIES);
    for (size_t i = 0; i < n; i++) {
        if (shown(c, x[i], y[i]))
            nb_buf_printf(c->out, "%c%.1f %.1f", pen ? 'L' : 'M', nb_axis_at(&c->x, x[i]), nb_axis_at(&c->y, y[i]));
        pen = shown(c, x[i], y[i]);
    }
    nb_buf_z(c->out, "\"/>\n");
}

void nb_chart_steps(nb_chart *c, const double *x, const double *y, size_t n)
{
    nb_buf_z(c->out, "<path class=\"frontier\" d=\"");
    for (size_t i = 0, drawn = 0; i < n; i++) {
        if (!shown(c, x[i], y[i]))
            continue;
        if (drawn++)
            nb_buf_printf(c->out, "H%.1fV%.1f", nb_axis_at(&c->x, x[i]), nb_axis_at(&c->y, y[i]));
        else
            nb_buf_printf(c->out, "M%.1f %.1f", nb_axis_at(&c->x, x[i]), nb_axis_at(&c->y, y[i]));
    }
    nb_buf_z(c->out, "\"/>\n");
}

void nb_chart_point(nb_chart *c, double x, double y, size_t series, const char *hint)
{
    if (!shown(c, x, y))
        return;
    double px = nb_axis_at(&c->x, x), py = nb_axis_at(&c->y, y);
    put_shape(c->out, px, py, series);
    nb_buf_z(c->out, "<title>");
    nb_svg_text(c->out, nb_str_of(hint));
    nb_buf_z(c->out, "</title></path>\n");
    if (c->placed_count < NB_PLACED) {
        c->point_count = c->placed_count + 1;
        double box[4] = {px - 5, py - 5, px + 5, py + 5};
        memcpy(c->placed[c->placed_count++], box, sizeof box);
    }
}

static bool is_free(const nb_chart *c, const double box[4])
{
    if (box[0] < c->x.from || box[2] > c->x.to + 4 || box[1] < c->y.to - TOP || box[3] > c->y.from)
        return false;
    for (size_t i = 0; i < c->placed_count; i++) {
        const double *p = c->placed[i];
        if (box[0] < p[2] && p[0] < box[2] && box[1] < p[3] && p[1] < box[3])
            return false;
    }
    return true;
}

/* Whether no other point is clearly nearer to what is written in the box than (x, y). */
static bool is_nearest(const nb_chart *c, const double box[4], double x, double y)
{
    double px = fmin(fmax(x, box[0]), box[2]), py = (box[1] + box[3]) / 2, own = hypot(px - x, py - y);
    for (size_t i = 0; i < c->point_count; i++) {
        double ox = (c->placed[i][0] + c->placed[i][2]) / 2, oy = (c->placed[i][1] + c->placed[i][3]) / 2;
        if (hypot(fmin(fmax(ox, box[0]), box[2]) - ox, py - oy) < own - 3)
            return false;
    }
    return true;
}

/* Beside the point, or where that is taken further away, at the end of a line. */
void nb_chart_label(nb_chart *c, double x, double y, const char *text)
{
    enum { NEAR = 8, PLACES = 16 };
    if (!shown(c, x, y))
        return;
    double px = nb_axis_at(&c->x, x), py = nb_axis_at(&c->y, y), width = CHARACTER * (double)strlen(text);
    const double left[NEAR] = {px + 5,         px + 8,         px + 5,         px - 5 - width,
                               px - 8 - width, px - 5 - width, px - width / 2, px - width / 2};
    const double middle[NEAR] = {py - 12, py, py + 12, py - 12, py, py + 12, py - 16, py + 16};
    double box[4] = {0};
    size_t chosen = 0;
    for (size_t i = 0; i < PLACES && (i == 0 || !chosen); i++) {
        double far = (double)(i / 2) * (i % 2 ? 8.0 : -8.0), at = i < NEAR ? left[i] : px + 28;
        double candidate[4] = {at, (i < NEAR ? middle[i] : py + far) - LABEL_HEIGHT / 2.0, at + width, 0};
        candidate[3] = candidate[1] + LABEL_HEIGHT;
        if (is_free(c, candidate) && (i >= NEAR || is_nearest(c, candidate, px, py)))
            chosen = i + 1;
        if (i == 0 || chosen)
            memcpy(box, candidate, sizeof box);
    }
    if (c->placed_count < NB_PLACED)
        memcpy(c->placed[c->placed_count++], box, sizeof box);
    if (chosen > NEAR)
        nb_buf_printf(c->out, "<path class=\"lead\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n", px, py, box[0] - 2,
                      (box[1] + box[3]) / 2);
    nb_svg_label(c->out, box[0], (box[1] + box[3]) / 2 + 4, "start", "label", text);
}

void nb_chart_bars(nb_chart *c, double lo, double hi, const double *heights, size_t n, size_t series)
{
    double bottom = c->y.from;
    nb_buf_printf(c->out, "<path class=\"bars s%zu\" d=\"", series % NB_SERIES);
    for (size_t i = 0; i < n; i++) {
        double left = nb_axis_at(&c->x, lo + (hi - lo) * (double)i / (double)n);
        double right = nb_axis_at(&c->x, lo + (hi - lo) * (double)(i + 1) / (double)n);
        if (heights[i] > 0 && isfinite(heights[i]))
            nb_buf_printf(c->out, "M%.2f %.1fV%.1fH%.2fV%.1fZ", left, bottom, nb_axis_at(&c->y, heights[i]), right,
                          bottom);
    }
    nb_buf_z(c->out, "\"/>\n");
}

void nb_chart_columns(nb_chart *c, const double *x, const double *heights, size_t n, size_t series, size_t side,
                      size_t sides)
{
    double share = 0.8 / (double)(sides ? sides : 1);
    nb_buf_printf(c->out, "<path class=\"bars s%zu\" d=\"", series % NB_SERIES);
    for (size_t i = 0; i < n; i++) {
        double left = nb_axis_at(&c->x, x[i] - 0.4 + share * (double)side);
        double right = nb_axis_at(&c->x, x[i] - 0.4 + share * ((double)side + 0.94));
        if (shown(c, x[i], heights[i]))
            nb_buf_printf(c->out, "M%.2f %.1fV%.1fH%.2fV%.1fZ", left, c->y.from, nb_axis_at(&c->y, heights[i]), right,
                          c->y.from);
    }
    nb_buf_z(c->out, "\"/>\n");
}

void nb_chart_stems(nb_chart *c, const double *x, const double *y, size_t n, size_t series)
{
    nb_buf_printf(c->out, "<path class=\"stroke s%zu\" d=\"", series % NB_SERIES);
    for (size_t i = 0; i < n; i++)
        if (shown(c, x[i], y[i]))
            nb_buf_printf(c->out, "M%.1f %.1fV%.1f", nb_axis_at(&c->x, x[i]), c->y.from, nb_axis_at(&c->y, y[i]));
    nb_buf_z(c->out, "\"/>\n");
}

void nb_legend(nb_buf *out, const char *const *names, size_t count)
{
    nb_buf_z(out, "<p class=\"legend\">");
    for (size_t i = 0; i < count; i++) {
        nb_buf_printf(out, "<span><svg width=\"30\" height=\"12\"><path class=\"key line s%zu\" d=\"M0 6H30\"/>",
                      i % NB_SERIES);
        put_shape(out, 15, 6, i);
        nb_buf_z(out, "</path></svg> ");
        nb_svg_text(out, nb_str_of(names[i]));
        nb_buf_z(out, "</span>\n");
    }
    nb_buf_z(out, "</p>\n");
}

/* ---- heat maps: one path a color ---- */

size_t nb_heat_level(double value, double limit)
{
    double half = NB_HEAT_LEVELS / 2;
    if (!(limit > 0) || isnan(value))
        return NB_HEAT_LEVELS / 2;
    return (size_t)lrint(half + half * fmin(fmax(value / limit, -1), 1));
}

void nb_heat_map(nb_buf *out, const char *title, const float *values, size_t rows, size_t columns, double limit,
                 double cell)
{
    nb_svg_open(out, title, cell * (double)columns, cell * (double)rows);
    nb_buf_printf(out, "<g transform=\"scale(%.3g)\" shape-rendering=\"crispEdges\">\n", cell);
    nb_buf_printf(out, "<rect width=\"%zu\" height=\"%zu\" class=\"h%d\"/>\n", columns, rows, NB_HEAT_LEVELS / 2);
    for (size_t level = 0; level < NB_HEAT_LEVELS; level++) {
        bool any = false;
        if (level == NB_HEAT_LEVELS / 2)
            continue;
        for (size_t i = 0; i < rows * columns; i++) {
            if (nb_heat_level((double)values[i], limit) != level)
                continue;
            if (!any)
                nb_buf_printf(out, "<path class=\"h%zu\" d=\"", level);
            any = true;
            nb_buf_printf(out, "M%zu %zuh1v1h-1z", i % columns, i / columns);
        }
        if (any)
            nb_buf_z(out, "\"/>\n");
    }
    nb_buf_z(out, "</g></svg>\n");
}

void nb_heat_scale(nb_buf *out, double limit, double width)
{
    char text[32];
    double step = width / NB_HEAT_LEVELS;
    nb_svg_open(out, "colors of the heat map", width + 40, 30);
    for (size_t i = 0; i < NB_HEAT_LEVELS; i++)
        nb_buf_printf(out, "<rect x=\"%.2f\" y=\"0\" width=\"%.2f\" height=\"12\" class=\"h%zu\"/>\n",
                      20 + step * (double)i, step + 0.3, i);
    for (int side = -1; side <= 1; side++) {
        snprintf(text, sizeof text, "%.2g", side * limit);
        nb_svg_label(out, 20 + width / 2 * (1 + side), 26, "middle", "tick", text);
    }
    nb_buf_z(out, "</svg>\n");
}
