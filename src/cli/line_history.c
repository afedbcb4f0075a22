#include "cli/line_history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEPT = 1000, LONGEST = 1 << 20 };

struct nb_history {
    char *path;
    nb_str *items;
    size_t count, cap;
};

/* Takes text, which is allocated. */
static void keep(nb_history *h, char *text, size_t n)
{
    if (h->count == h->cap) {
        size_t cap = h->cap ? 2 * h->cap : 64;
        nb_str *items = realloc(h->items, cap * sizeof *items);
        if (!items) {
            free(text);
            return;
        }
        h->items = items;
        h->cap = cap;
    }
    h->items[h->count++] = (nb_str){text, n};
}

static bool is_last(const nb_history *h, nb_str text) { return h->count && nb_str_eq(h->items[h->count - 1], text); }

static void drop_oldest(nb_history *h, size_t most)
{
    if (h->count <= most)
        return;
    size_t gone = h->count - most;
    for (size_t i = 0; i < gone; i++)
        free((char *)(uintptr_t)h->items[i].p);
    memmove(h->items, h->items + gone, most * sizeof *h->items);
    h->count = most;
}

/* ---- the file: a line an entry, \n and \\ for what a line cannot hold ---- */

static void write_entry(nb_buf *out, nb_str text)
{
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\n' || text.p[i] == '\\')
            nb_buf_char(out, '\\');
        nb_buf_char(out, text.p[i] == '\n' ? 'n' : text.p[i]);
    }
    nb_buf_char(out, '\n');
}

/* As this program writes them: what would steer the terminal is in none. */
static bool is_entry(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)line[i] < 0x20 && line[i] != '\t') || line[i] == 0x7f)
            return false;
    return true;
}

static void read_entry(nb_history *h, const char *line, size_t n)
{
    char *text = is_entry(line, n) ? malloc(n + 1) : NULL;
    size_t length = 0;
    if (!text)
        return;
    for (size_t i = 0; i < n; i++) {
        bool escaped = line[i] == '\\' && i + 1 < n;
        i += escaped;
        text[length++] = escaped && line[i] == 'n' ? '\n' : line[i];
    }
    if (length == 0 || is_last(h, (nb_str){text, length}))
        free(text);
    else
        keep(h, text, length);
}

/* The file with its last entries only, under its own name at once. */
static void shorten(const nb_history *h)
{
    nb_buf all = {0}, name = {0};
    for (size_t i = 0; i < h->count; i++)
        write_entry(&all, h->items[i]);
    nb_buf_printf(&name, "%s.%ld", h->path, (long)getpid());
    int fd = all.failed || name.failed ? -1 : open(name.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        bool whole = write(fd, all.data, all.len) == (ssize_t)all.len;
        whole = close(fd) == 0 && whole;
        if (!whole || rename(name.data, h->path) != 0)
            unlink(name.data);
    }
    nb_buf_free(&all);
    nb_buf_free(&name);
}

static void load(nb_history *h)
{
    FILE *file = fopen(h->path, "re");
    char *line = NULL;
    size_t cap = 0, lines = 0;
    if (!file)
        return;
    for (ssize_t n; (n = getline(&line, &cap, file)) > 0 && n < LONGEST; lines++)
        read_entry(h, line, (size_t)n - (line[n - 1] == '\n'));
    free(line);
    fclose(file);
    drop_oldest(h, KEPT);
    if (lines > 2 * KEPT)
        shorten(h);
}

static void make_folders(const char *path)
{
    char *copy = strdup(path);
    for (char *p = copy ? strchr(copy + 1, '/') : NULL; p; p = strchr(p + 1, '/')) {
        *p = 0;
        mkdir(copy, 0700);
        *p = '/';
    }
    free(copy);
}

static void append(const nb_history *h, nb_str text)
{
    nb_buf line = {0};
    write_entry(&line, text);
    int fd = open(h->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 && errno == ENOENT) {
        make_folders(h->path);
        fd = open(h->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    }
    if (fd >= 0) {
        ssize_t ignored = line.failed ? 0 : write(fd, line.data, line.len); /* done without when the disk is full */
        (void)ignored;
        close(fd);
    }
    nb_buf_free(&line);
}

/* ---- all of it ---- */

nb_history *nb_history_open(const char *path)
{
    nb_history *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->path = path ? strdup(path) : NULL;
    if (h->path)
        load(h);
    return h;
}

void nb_history_close(nb_history *h)
{
    if (!h)
        return;
    drop_oldest(h, 0);
    free(h->items);
    free(h->path);
    free(h);
}

void nb_history_add(nb_history *h, nb_str text)
{
    if (text.n == 0 || text.n >= LONGEST / 2 || is_last(h, text))
        return;
    char *copy = malloc(text.n);
    if (!copy)
        return;
    memcpy(copy, text.p, text.n);
    keep(h, copy, text.n);
    if (h->path)
        append(h, text);
}

size_t nb_history_count(const nb_history *h) { return h->count; }
nb_str nb_history_at(const nb_history *h, size_t i) { return h->items[i]; }
