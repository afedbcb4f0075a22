#include "cli/transfer_bar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/table.h"

enum { SAMPLES = 32, LEAST_BAR = 6, TAIL = 1 + 13 + 10 + 8 };

struct nb_transfer_bar {
    bool live, open; /* open: the line has no end yet */
    char status[304], digest[80];
    uint64_t total, done;
    double shown;
    struct {
        double time;
        uint64_t done;
    } samples[SAMPLES]; /* of the last seconds: the rate that is shown */
    size_t count;
};

nb_transfer_bar *nb_transfer_bar_start(void)
{
    nb_transfer_bar *b = calloc(1, sizeof *b);
    if (b)
        b->live = nb_live_wanted();
    return b;
}

/* ---- a line ---- */

static void format_left(double seconds, char text[24])
{
    long s = seconds < 8.64e6 ? (long)(seconds + 0.5) : -1;
    if (s < 0)
        snprintf(text, 24, "forever");
    else if (s < 60)
        snprintf(text, 24, "%lds", s);
    else if (s < 3600)
        snprintf(text, 24, "%ldm%02lds", s / 60, s % 60);
    else
        snprintf(text, 24, "%ldh%02ldm", s / 3600, s / 60 % 60);
}

static void add_bar(double part, int cells, nb_buf *out)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int full = (int)(part * cells * 8 + 0.5), i = 0;
    nb_buf_z(out, "▕");
    for (; i < full / 8; i++)
        nb_buf_z(out, "█");
    if (full % 8 && i < cells) {
        nb_buf_z(out, eighths[full % 8]);
        i++;
    }
    for (; i < cells; i++)
        nb_buf_char(out, ' ');
    nb_buf_z(out, "▏");
}

/* The columns that Ollama has, so that bars lie under each other: bytes of bytes, rate, time left. */
static void format_tail(const nb_transfer_event *e, double rate, bool sizes, char out[96])
{
    char done[24], total[24], speed[24], left[24];
    bool over = e->completed >= e->total;
    out[0] = 0;
    nb_human_bytes(e->completed, done);
    nb_human_bytes(e->total, total);
    nb_human_bytes((uint64_t)rate, speed);
    if (sizes && over)
        snprintf(out, 96, " %6s", total);
    else if (sizes)
        snprintf(out, 96, " %6s/%6s", done, total);
    if (over || rate <= 0)
        return;
    format_left((double)(e->total - e->completed) / rate, left);
    size_t n = strlen(out);
    snprintf(out + n, 96 - n, "  %6s/s  %6s", speed, left);
}

/* A narrow terminal has no bar, then no whole name, then no sizes; never a second row. */
void nb_transfer_bar_line(const nb_transfer_event *e, double rate, int width, nb_buf *out)
{
    char tail[96], head[400];
    double part = e->total ? (double)e->completed / (double)e->total : 1;
    int percent = part < 1 ? (int)(part * 100) : 100, words = (int)strlen(e->status), least = (int)strlen("pulling ");
    size_t begin = out->len;
    format_tail(e, rate, true, tail);
    if (width == 0) { /* a line of its own: nothing to align with */
        nb_human_bytes(e->total, head);
        nb_buf_printf(out, "%s: %3d%% %s", e->status, percent, percent == 100 ? head : tail);
        return;
    }
    int cells = width - TAIL - 9 - words;
    if (cells < LEAST_BAR) { /* without a bar the tail need not lie at a place */
        int left = width - (int)strlen(tail) - 6;
        if (left < least) {
            format_tail(e, rate, false, tail);
            left = width - (int)strlen(tail) - 6;
        }
        words = words < left ? words : left > least ? left : least;
    }
    snprintf(head, sizeof head, "%.*s: %3d%%", words, e->status, percent);
    nb_buf_z(out, head);
    if (cells >= LEAST_BAR) {
        nb_buf_char(out, ' ');
        add_bar(part < 1 ? part : 1, cells, out);
    }
    nb_buf_z(out, tail);
    if (cells < LEAST_BAR && !out->failed && out->len > begin + (size_t)width)
        out->data[out->len = begin + (size_t)width] = 0;
}

/* ---- what is shown ---- */

static double rate_of(const nb_transfer_bar *b)
{
    if (b->count < 2)
        return 0;
    size_t first = b->count > SAMPLES ? b->count % SAMPLES : 0, last = (b->count - 1) % SAMPLES;
    double seconds = b->samples[last].time - b->samples[first].time;
    uint64_t from = b->samples[first].done, to = b->samples[last].done;
    return seconds > 0.2 && to > from ? (double)(to - from) / seconds : 0;
}

static void draw(nb_transfer_bar *b)
{
    nb_transfer_event e = {b->status, b->digest, b->total, b->done};
    nb_buf line = {0};
    nb_transfer_bar_line(&e, rate_of(b), b->live ? nb_terminal_width() - NB_BEHIND : 0, &line);
    fflush(stdout);
    fprintf(stderr, b->live ? "\r%s\033[K" : "%s\n", line.data ? line.data : "");
    b->open = b->live;
    nb_buf_free(&line);
}

static void close_line(nb_transfer_bar *b)
{
    if (b->open)
        fputc('\n', stderr);
    b->open = false;
    b->status[0] = 0;
}

/* Names of files come from a hub: what would steer the terminal is shown as '?'. */
static void copy_safely(char *to, size_t size, const char *from)
{
    size_t n = 0;
    for (; *from && n + 1 < size; from++)
        to[n++] = (unsigned char)*from < 0x20 || *from == 0x7f ? '?' : *from;
    to[n] = 0;
}

void nb_transfer_bar_tell(void *bar, const nb_transfer_event *e)
{
    nb_transfer_bar *b = bar;
    double now = nb_seconds();
    if (!b)
        return;
    if (!e->digest) {
        close_line(b);
        if (strncmp(e->status, "verifying", 9) != 0 || b->live)
            nb_note("%s", e->status);
        return;
    }
    bool fresh = strcmp(b->digest, e->digest) != 0 || !b->status[0];
    if (fresh) {
        close_line(b);
        copy_safely(b->status, sizeof b->status, e->status);
        snprintf(b->digest, sizeof b->digest, "%s", e->digest);
        b->count = 0;
        b->shown = b->live ? 0 : now; /* plain lines: nothing before there is something to say */
        b->done = 0;
    }
    bool over = e->completed >= e->total, was_over = !fresh && b->done >= b->total;
    b->total = e->total;
    b->done = e->completed;
    if (b->count == 0 || now - b->samples[(b->count - 1) % SAMPLES].time >= 0.2) {
        b->samples[b->count % SAMPLES].time = now;
        b->samples[b->count++ % SAMPLES].done = e->completed;
    }
    if ((over && was_over) || (!over && now - b->shown < (b->live ? 0.1 : 5)))
        return;
    b->shown = now;
    draw(b);
}

void nb_transfer_bar_end(nb_transfer_bar *b)
{
    if (!b)
        return;
    close_line(b);
    free(b);
}
