#define _GNU_SOURCE
#include "cli/table.h"

#include <math.h>
#include <time.h>

#include "cli/text_width.h"

typedef struct nb_table_row {
    struct nb_table_row *next;
    size_t count;
    nb_str cells[];
} row;

/* A copy without what would steer a terminal. */
static nb_str clean(nb_table *t, nb_str s)
{
    char *copy = nb_arena_strdup(&t->arena, s);
    if (!copy) {
        t->failed = true;
        return NB_STR("");
    }
    for (size_t i = 0; i < s.n;) {
        nb_glyph g = nb_glyph_at((nb_str){copy + i, s.n - i});
        if (g.width < 0)
            memset(copy + i, '?', g.bytes);
        i += g.bytes;
    }
    return (nb_str){copy, s.n};
}

void nb_table_row(nb_table *t, const nb_str *cells, size_t count)
{
    row *r = nb_arena_alloc(&t->arena, sizeof *r + count * sizeof *cells, _Alignof(row));
    if (!r) {
        t->failed = true;
        return;
    }
    r->count = count;
    for (size_t i = 0; i < count; i++)
        r->cells[i] = clean(t, cells[i]);
    if (t->last)
        t->last->next = r;
    else
        t->first = r;
    t->last = r;
}

nb_status nb_table_print(nb_table *t, FILE *out, nb_error *err)
{
    int widths[NB_TABLE_COLUMNS] = {0};
    bool failed = t->failed;
    for (const row *r = t->first; r; r = r->next)
        for (size_t i = 0; i < r->count; i++) {
            int width = nb_text_width(r->cells[i]);
            widths[i] = width > widths[i] ? width : widths[i];
        }
    for (const row *r = t->first; r && !failed; r = r->next) {
        for (size_t i = 0; i < r->count; i++) {
            bool last_head = t->headed && r == t->first && i + 1 == r->count; /* has one space behind it, not four */
            fwrite(r->cells[i].p, 1, r->cells[i].n, out);
            fprintf(out, "%*s", widths[i] - nb_text_width(r->cells[i]) + (last_head ? 1 : 4), "");
        }
        fputc('\n', out);
    }
    nb_arena_free(&t->arena);
    *t = (nb_table){0};
    return failed ? nb_fail_memory(err, "a table", 0) : NB_OK;
}

void nb_human_bytes(uint64_t bytes, char text[24])
{
    static const struct {
        uint64_t one;
        const char *name;
    } units[] = {{1000000000000, "TB"}, {1000000000, "GB"}, {1000000, "MB"}, {1000, "KB"}, {1, "B"}};
    size_t u = 0;
    while (units[u].one > 1 && bytes < units[u].one)
        u++;
    double value = (double)bytes / (double)units[u].one;
    snprintf(text, 24, value < 10 && value != floor(value) ? "%.1f %s" : "%.0f %s", value < 10 ? value : floor(value),
             units[u].name);
}

/* A length of time, roughly. */
static void human_duration(double seconds, char text[32])
{
    long s = (long)seconds, minutes = s / 60, hours = lround(seconds / 3600);
    if (s < 1)
        snprintf(text, 32, "Less than a second");
    else if (s < 60)
        snprintf(text, 32, s == 1 ? "%ld second" : "%ld seconds", s);
    else if (minutes < 60)
        snprintf(text, 32, minutes == 1 ? "About a minute" : "%ld minutes", minutes);
    else if (hours < 48)
        snprintf(text, 32, hours == 1 ? "About an hour" : "%ld hours", hours);
    else if (hours < 24 * 7 * 2)
        snprintf(text, 32, "%ld days", hours / 24);
    else if (hours < 24 * 30 * 2)
        snprintf(text, 32, "%ld weeks", hours / 24 / 7);
    else if (hours < 24 * 365 * 2)
        snprintf(text, 32, "%ld months", hours / 24 / 30);
    else
        snprintf(text, 32, "%ld years", hours / 24 / 365);
}

void nb_human_time(double seconds, char text[48])
{
    char length[32];
    if (seconds > 21.0 * 365 * 86400) {
        snprintf(text, 48, "Forever");
        return;
    }
    human_duration(fabs(seconds), length);
    snprintf(text, 48, "%s %s", length, seconds >= 1 ? "from now" : "ago");
}

bool nb_time_parse(const char *text, double *seconds)
{
    struct tm t = {0};
    int zone_hours = 0, zone_minutes = 0;
    double fraction = 0;
    const char *at = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &t) : NULL;
    if (!at)
        return false;
    if (*at == '.') {
        double scale = 0.1;
        for (at++; *at >= '0' && *at <= '9'; at++, scale /= 10)
            fraction += scale * (*at - '0');
    }
    if ((*at == '+' || *at == '-') && sscanf(at + 1, "%2d:%2d", &zone_hours, &zone_minutes) != 2)
        return false;
    double zone = 3600.0 * zone_hours + 60.0 * zone_minutes;
    *seconds = (double)timegm(&t) + fraction - (*at == '-' ? -zone : zone);
    return true;
}
