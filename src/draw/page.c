#include "draw/page.h"

#include <stdio.h>

#include "draw/style.h"

static const char style[] =
    "*{box-sizing:border-box}"
    "body{margin:0 auto;padding:24px 20px 60px;max-width:1080px;background:var(--page);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif}"
    "h1{font-size:26px;line-height:1.25;margin:8px 0 4px}h2{font-size:19px;margin:40px 0 8px}"
    "p{margin:8px 0;max-width:76ch}figure{margin:16px 0;break-inside:avoid}"
    "figcaption{color:var(--soft);font-size:13.5px;max-width:86ch;margin-top:4px}"
    "svg{max-width:100%;height:auto;display:block}"
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

void nb_page_begin(nb_buf *out, const char *title)
{
    nb_buf_z(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<meta name=\"color-scheme\" content=\"light dark\">\n<title>");
    nb_svg_text(out, nb_str_of(title));
    nb_buf_z(out, "</title>\n<style>\n");
    nb_style_put(out);
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
