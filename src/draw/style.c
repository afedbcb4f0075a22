#include "draw/style.h"

#include "draw/svg.h"

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

static const char figures[] =
    ".grid{stroke:var(--line);stroke-width:1}"
    "text{font:12px system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif;fill:var(--ink)}"
    ".tick{fill:var(--soft)}.axis{font-size:13px}.label{paint-order:stroke;stroke:var(--page);stroke-width:5px}"
    ".line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round}"
    ".s1{stroke-dasharray:8 4}.s2{stroke-dasharray:2 3}.s3{stroke-dasharray:9 3 2 3}.s4{stroke-dasharray:5 3}"
    ".s5{stroke-dasharray:12 3}.s6{stroke-dasharray:3 5}.s7{stroke-dasharray:9 3 2 3 2 3}.dot{stroke-dasharray:none}"
    ".dot{fill:var(--c);stroke:var(--page);stroke-width:1}.bars{fill:var(--c)}"
    ".stroke{fill:none;stroke:var(--c);stroke-width:1.2;stroke-dasharray:none}"
    ".box{fill:var(--c);stroke:var(--page);stroke-width:1.5;stroke-dasharray:none}"
    "text.on{fill:var(--page)}.bit{font-family:ui-monospace,\"DejaVu Sans Mono\",monospace}"
    ".lead{stroke:var(--soft);stroke-width:.7}"
    ".frontier{fill:none;stroke:var(--soft);stroke-width:1.5;stroke-dasharray:5 4}"
    ".title{font-size:15px;font-weight:600}.sheet{fill:var(--page)}";

static const char light[] = ":root{--page:#fff;--ink:#1c1e21;--soft:#5c6269;--line:#e1e4e8;--box:#f4f5f7}";
static const char dark[] = ":root{--page:#16181c;--ink:#e6e8eb;--soft:#a0a7b0;--line:#33373d;--box:#22252a}";

void nb_style_put(nb_buf *out)
{
    nb_buf_z(out, light);
    put_colors(out, false);
    nb_buf_z(out, "@media screen and (prefers-color-scheme:dark){");
    nb_buf_z(out, dark);
    put_colors(out, true);
    nb_buf_z(out, "}\n");
    nb_buf_z(out, figures);
    nb_buf_char(out, '\n');
}
