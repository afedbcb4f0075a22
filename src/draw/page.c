#include "draw/page.h"

#include <stdio.h>

typedef struct color {
    int r, g, b;
} color;

/* eight colors that stay apart for those who see red and green alike (after Okabe and Ito 2008), dark enough for white
 * pages; and lighter ones for dark pages */
static const char *const on_light[NB_SERIES] = {"#0072b2", "#d55e00", "#009e73", "#b4508c",
                                                "#8a6d00", "#3f90c9", "#5b5b5b", "#7a3e00"};
static const char *const on_dark[NB_SERIES] = {"#5ab4f0", "#ff9145", "#3fd1a5", "#ec9bcb",
                                               "#f0d24a", "#9ad5f7", "#bdbdbd", "#d9a066"};

/* from one end over the page's color to the other */
static color heat(size_t level, color low, color middle, color high)
{
    int half = NB_HEAT_LEVELS / 2, away = (int)level - half;
    color end = away < 0 ? low : high;
    int share = away < 0 ? -away : away;
    return (color){middle.r + (end.r - middle.r) * share / half, middle.g + (end.g - middle.g) * share / half,
                   middle.b + (end.b - middle.b) * share / half};
}

static void put_colors(nb_buf *out, bool dark)
{
    for (size_t i = 0; i < NB_SERIES; i++)
        nb_buf_printf(out, ".s%zu{--c:%s}", i, dark ? on_dark[i] : on_light[i]);
    for (size_t i = 0; i < NB_HEAT_LEVELS; i++) {
        color c = dark ? heat(i, (color){90, 180, 255}, (color){34, 36, 40}, (color){255, 150, 80})
                       : heat(i, (color){8, 74, 140}, (color){246, 246, 244}, (color){178, 50, 12});
        nb_buf_printf(out, ".h%zu{fill:#%02x%02x%02x}", i, (unsigned)c.r, (unsigned)c.g, (unsigned)c.b);
    }
    nb_buf_char(out, '\n');
}

static const char style[] =
    "*{box-sizing:border-box}"
    "body{margin:0 auto;padding:24px 20px 60px;max-width:1080px;background:var(--page);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif}"
    "h1{font-size:26px;line-height:1.25;margin:8px 0 4px}h2{font-size:19px;margin:40px 0 8px}"
    "p{margin:8px 0;max-width:76ch}figure{margin:16px 0;break-inside:avoid}"
    "figcaption{color:var(--soft);font-size:13.5px;max-width:86ch;margin-top:4px}"
    "svg{max-width:100%;height:auto;display:block}.grid{stroke:var(--line);stroke-width:1}"
    "text{font:12px system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif;fill:var(--ink)}"
    ".tick{fill:var(--soft)}.axis{font-size:13px}.label{paint-order:stroke;stroke:var(--page);stroke-width:5px}"
    ".line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}"
    ".s1{stroke-dasharray:8 4}.s2{stroke-dasharray:2 3}.s3{stroke-dasharray:9 3 2 3}.s4{stroke-dasharray:5 3}"
    ".s5{stroke-dasharray:12 3}.s6{stroke-dasharray:3 5}.s7{stroke-dasharray:9 3 2 3 2 3}.dot{stroke-dasharray:none}"
    ".dot{fill:var(--c);stroke:var(--page);stroke-width:1}.bars{fill:var(--c)}"
    ".lead{stroke:var(--soft);stroke-width:.7}"
    ".frontier{fill:none;stroke:var(--soft);stroke-width:1.5;stroke-dasharray:5 4}"
    ".legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13.5px;margin:4px 0}"
    ".legend span{display:inline-flex;align-items:center;gap:6px}.legend svg{flex:none}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;margin:12px 0}"
    "th,td{padding:5px 9px;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}"
    "th{color:var(--soft);font-weight:600;white-space:normal;vertical-align:bottom}td.n{text-align:right;"
    "font-variant-numeric:tabular-nums}"
    "pre{background:var(--box);padding:12px 14px;border-radius:6px;overflow-x:auto;font:13px/1.5 ui-monospace,"
    "\"DejaVu Sans Mono\",monospace;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".row{display:flex;flex-wrap:wrap;gap:14px 18px}.row figure{margin:6px 0}.row figcaption{width:0;min-width:100%}"
    "@media screen{figure{overflow-x:auto}figure svg{min-width:var(--least)}}"
    "@media print{body{padding:0;max-width:none;font-size:12px}h2{break-after:avoid}figcaption{font-size:11px}"
    ".wide{overflow:visible}table{font-size:9.5px;width:100%}th,td{padding:2px 4px}"
    ".row{flex-wrap:nowrap;break-inside:avoid}.row figure{min-width:0}.row figcaption{font-size:9.5px}}\n";

static const char light[] = ":root{--page:#fff;--ink:#1c1e21;--soft:#5c6269;--line:#e1e4e8;--box:#f4f5f7}";
static const char dark[] = ":root{--page:#16181c;--ink:#e6e8eb;--soft:#a0a7b0;--line:#33373d;--box:#22252a}";

void nb_page_begin(nb_buf *out, const char *title)
{
    nb_buf_z(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
    nb_svg_text(out, nb_str_of(title));
    nb_buf_z(out, "</title>\n<style>\n");
    nb_buf_z(out, light);
    put_colors(out, false);
    nb_buf_z(out, "@media screen and (prefers-color-scheme:dark){");
    nb_buf_z(out, dark);
    put_colors(out, true);
    nb_buf_z(out, "}\n");
    nb_buf_z(out, style);
    nb_buf_z(out, "</style>\n</head>\n<body>\n<section>\n<h1>");
    nb_svg_text(out, nb_str_of(title));
    nb_buf_z(out, "</h1>\n");
}

void nb_page_end(nb_buf *out) { nb_buf_z(out, "</section>\n</body>\n</html>\n"); }

void nb_page_section(nb_buf *out, const char *title)
{
    nb_buf_z(out, "</section>\n<section>\n<h2>");
    nb_svg_text(out, nb_str_of(title));
    nb_buf_z(out, "</h2>\n");
}

static void put_escaped(nb_buf *out, const char *format, va_list args) NB_PRINTF(2, 0);
static void put_escaped(nb_buf *out, const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    nb_svg_text(out, nb_str_of(text));
}

#define PUT_BETWEEN(before, after)                                                                                     \
    do {                                                                                                               \
        va_list args;                                                                                                  \
        va_start(args, format);                                                                                        \
        nb_buf_z(out, before);                                                                                         \
        put_escaped(out, format, args);                                                                                \
        nb_buf_z(out, after);                                                                                          \
        va_end(args);                                                                                                  \
    } while (0)

void nb_page_paragraph(nb_buf *out, const char *format, ...) { PUT_BETWEEN("<p>", "</p>\n"); }
void nb_page_cell(nb_buf *out, const char *format, ...) { PUT_BETWEEN("<td>", "</td>"); }
void nb_page_number(nb_buf *out, const char *format, ...) { PUT_BETWEEN("<td class=\"n\">", "</td>"); }

void nb_page_figure_begin(nb_buf *out) { nb_buf_z(out, "<figure>\n"); }
void nb_page_figure_end(nb_buf *out, const char *format, ...)
{
    PUT_BETWEEN("<figcaption>", "</figcaption>\n</figure>\n");
}

void nb_page_code(nb_buf *out, nb_str text)
{
    nb_buf_z(out, "<pre>");
    nb_svg_text(out, text);
    nb_buf_z(out, "</pre>\n");
}

void nb_page_table_begin(nb_buf *out, const char *const *heads, size_t count)
{
    nb_buf_z(out, "<div class=\"wide\"><table>\n<thead><tr>");
    for (size_t i = 0; i < count; i++) {
        nb_buf_z(out, "<th>");
        nb_svg_text(out, nb_str_of(heads[i]));
        nb_buf_z(out, "</th>");
    }
    nb_buf_z(out, "</tr></thead>\n<tbody>\n");
}

void nb_page_row_begin(nb_buf *out) { nb_buf_z(out, "<tr>"); }
void nb_page_row_end(nb_buf *out) { nb_buf_z(out, "</tr>\n"); }
void nb_page_table_end(nb_buf *out) { nb_buf_z(out, "</tbody></table></div>\n"); }
