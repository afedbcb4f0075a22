#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cli/cli.h"

enum { NAME_BYTES = 80, LINE_BYTES = 256 };

struct nb_progress {
    char what[NAME_BYTES];
    char unit[16];
    uint64_t total, done;
    double start, shown; /* seconds */
    bool live;           /* a line that is redrawn */
};

nb_progress *nb_progress_start(const char *what, uint64_t total, const char *unit)
{
    nb_progress *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    snprintf(p->what, sizeof p->what, "%s", what);
    snprintf(p->unit, sizeof p->unit, "%s", unit);
    p->total = total;
    p->start = p->shown = nb_seconds();
    p->live = nb_live_wanted();
    return p;
}

static void format_amount(const nb_progress *p, double amount, char text[24])
{
    if (strcmp(p->unit, "B") == 0)
        nb_format_bytes((uint64_t)amount, text);
    else
        snprintf(text, 24, amount < 10 && amount != (double)(uint64_t)amount ? "%.1f" : "%.0f", amount);
}

static void format_line(const nb_progress *p, double seconds, bool ended, char line[LINE_BYTES])
{
    char done[24], total[24], rate[24], time[24];
    bool bytes = strcmp(p->unit, "B") == 0;
    double speed = seconds > 0 ? (double)p->done / seconds : 0;
    format_amount(p, (double)p->done, done);
    format_amount(p, (double)p->total, total);
    format_amount(p, speed, rate);
    nb_format_seconds(ended ? seconds : speed > 0 ? (double)(p->total - p->done) / speed : 1e10, time);
    const char *space = bytes ? "" : " ", *unit = bytes ? "" : p->unit;
    snprintf(line, LINE_BYTES, "%s: %s/%s%s%s, %s%s%s/s, %s%s", p->what, done, total, space, unit, rate, space, unit,
             time, ended ? "" : " left");
}

static void show(nb_progress *p, double at, bool ended)
{
    char line[LINE_BYTES];
    format_line(p, at - p->start, ended, line);
    p->shown = at;
    if (p->live)
        fprintf(stderr, "\r%.*s\033[K%s", nb_terminal_width() - NB_BEHIND, line, ended ? "\n" : "");
    else
        fprintf(stderr, "%s\n", line);
}

void nb_progress_at(nb_progress *p, uint64_t done)
{
    if (!p)
        return;
    p->done = done < p->total ? done : p->total;
    double at = nb_seconds();
    if (at - p->shown >= (p->live ? 0.1 : 5))
        show(p, at, false);
}

void nb_progress_end(nb_progress *p, bool finished)
{
    if (!p)
        return;
    if (finished)
        p->done = p->total;
    show(p, nb_seconds(), true);
    free(p);
}
