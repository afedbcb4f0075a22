/* terminal.h - a small terminal for tests: a program runs on a pseudo terminal, what it writes becomes a screen of cells. Wraps,
 * scrolls, reflows when it becomes narrower, answers where the cursor is. Widths are libc's. */
#ifndef NB_TESTS_TERMINAL_H
#define NB_TESTS_TERMINAL_H

#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

enum { TT_ROWS = 60, TT_COLUMNS = 200, TT_CELL = 64, TT_HISTORY = 400 };
#define TT_WIDE "\001" /* the second half of a wide character */

typedef struct terminal {
    int fd;
    pid_t child;
    int columns, rows, x, y;
    bool full;   /* the last column was written: the next character goes to the next row */
    bool joins;  /* emoji with U+200D and the like are one character of two columns */
    bool pastes; /* the program wants pastes in brackets */
    bool joined; /* the last code point was U+200D */
    int last_x, last_y;
    char cell[TT_ROWS][TT_COLUMNS][TT_CELL];
    char above[TT_HISTORY][TT_COLUMNS * 4]; /* rows that were scrolled off */
    int above_count;
    char input[64]; /* a sequence or code point that is not whole */
    size_t input_n;
    char all[1 << 18]; /* every byte */
    size_t all_n;
} terminal;

static inline const char *tt_row(const terminal *t, int y)
{
    static char text[4][TT_COLUMNS * 8];
    static int which;
    char *row = text[which++ % 4];
    size_t n = 0, end = 0;
    for (int x = 0; x < t->columns; x++) {
        const char *c = t->cell[y][x];
        if (*c == 1)
            continue;
        n += (size_t)sprintf(row + n, "%s", *c ? c : " ");
        if (*c && *c != ' ')
            end = n;
    }
    row[end] = 0;
    return row;
}

static inline void tt_scroll(terminal *t)
{
    if (t->above_count < TT_HISTORY)
        snprintf(t->above[t->above_count++], sizeof t->above[0], "%s", tt_row(t, 0));
    memmove(t->cell[0], t->cell[1], (size_t)(t->rows - 1) * sizeof t->cell[0]);
    memset(t->cell[t->rows - 1], 0, sizeof t->cell[0]);
}

static inline void tt_line_feed(terminal *t)
{
    t->full = false;
    if (t->y + 1 < t->rows)
        t->y++;
    else
        tt_scroll(t);
}

static inline void tt_append(terminal *t, const char *bytes)
{
    char *cell = t->cell[t->last_y][t->last_x];
    if (strlen(cell) + strlen(bytes) < TT_CELL)
        strcat(cell, bytes);
}

static inline void tt_put(terminal *t, wchar_t c, const char *bytes)
{
    int width = wcwidth(c);
    bool follows = t->joins && (t->joined || (c >= 0x1f3fb && c <= 0x1f3ff));
    t->joined = c == 0x200d;
    if (width <= 0 || follows) {
        tt_append(t, bytes);
        bool grows = t->joins && c == 0xfe0f && t->last_x + 1 == t->x && t->x < t->columns;
        if (grows) {
            strcpy(t->cell[t->y][t->x], TT_WIDE);
            t->x++;
        }
        return;
    }
    if (t->full || t->x + width > t->columns) {
        t->x = 0;
        tt_line_feed(t);
    }
    strcpy(t->cell[t->y][t->x], bytes);
    if (width == 2)
        strcpy(t->cell[t->y][t->x + 1], TT_WIDE);
    t->last_x = t->x;
    t->last_y = t->y;
    t->x += width;
    if (t->x >= t->columns) {
        t->x = t->columns - 1;
        t->full = true;
    }
}

static inline void tt_clear(terminal *t, int y, int from, int to)
{
    for (int x = from; x < to; x++)
        t->cell[y][x][0] = 0;
}

static inline void tt_csi(terminal *t, const char *text, char final)
{
    int n = atoi(text), one = n ? n : 1;
    switch (final) {
    case 'A': t->y = t->y > one ? t->y - one : 0; break;
    case 'B': t->y = t->y + one < t->rows ? t->y + one : t->rows - 1; break;
    case 'C': t->x = t->x + one < t->columns ? t->x + one : t->columns - 1; break;
    case 'D': t->x = t->x > one ? t->x - one : 0; break;
    case 'H': t->x = t->y = 0; break;
    case 'K': tt_clear(t, t->y, t->x, t->columns); break;
    case 'J':
        tt_clear(t, t->y, n == 2 ? 0 : t->x, t->columns);
        for (int y = n == 2 ? 0 : t->y + 1; y < t->rows; y++)
            tt_clear(t, y, 0, t->columns);
        break;
    case 'n': {
        char report[40];
        int length = snprintf(report, sizeof report, "\033[%d;%dR", t->y + 1, t->x + 1 + t->full);
        if (write(t->fd, report, (size_t)length) != length)
            abort();
        return;
    }
    case 'h':
    case 'l':
        if (strcmp(text, "?2004") == 0)
            t->pastes = final == 'h';
        return;
    case 'm': return;
    default: fprintf(stderr, "the terminal does not know ESC [ %s %c\n", text, final); abort();
    }
    t->full = false;
}

/* A whole code point or sequence; false: more bytes are needed. */
static inline bool tt_take(terminal *t)
{
    unsigned char first = (unsigned char)t->input[0];
    char bytes[8] = {0};
    wchar_t c;
    if (first == 0x1b) {
        char final = t->input[t->input_n - 1];
        if (t->input_n < 3 || final < 0x40)
            return false;
        t->input[t->input_n - 1] = 0;
        tt_csi(t, t->input + 2, final);
        return true;
    }
    if (first == '\r')
        t->x = 0, t->full = false;
    else if (first == '\n')
        tt_line_feed(t);
    else if (first < 0x20)
        fprintf(stderr, "the terminal was sent the control character %d\n", first), abort();
    else if (first < 0x80)
        bytes[0] = (char)first, tt_put(t, first, bytes);
    else {
        size_t n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
        if (t->input_n < n)
            return false;
        memcpy(bytes, t->input, n);
        if (mbrtowc(&c, bytes, n, &(mbstate_t){0}) != n)
            fprintf(stderr, "the terminal was sent what is no UTF-8\n"), abort();
        tt_put(t, c, bytes);
    }
    return true;
}

/* What the program wrote within ms; false: nothing, or it has ended. */
static inline bool tt_read(terminal *t, int ms)
{
    char bytes[4096];
    struct pollfd ready = {.fd = t->fd, .events = POLLIN};
    if (poll(&ready, 1, ms) <= 0)
        return false;
    ssize_t n = read(t->fd, bytes, sizeof bytes);
    for (ssize_t i = 0; i < n; i++) {
        if (t->all_n < sizeof t->all - 1)
            t->all[t->all_n++] = bytes[i];
        t->input[t->input_n++] = bytes[i];
        if (tt_take(t) || t->input_n == sizeof t->input)
            t->input_n = 0;
    }
    return n > 0;
}

static inline void tt_dump(const terminal *t)
{
    for (int y = 0; y < t->rows; y++)
        fprintf(stderr, "%2d |%s|\n", y, tt_row(t, y));
    fprintf(stderr, "cursor %d,%d\n", t->x + t->full, t->y);
}

static inline void tt_send(terminal *t, const char *keys)
{
    for (size_t n = strlen(keys); n > 0;) {
        ssize_t done = write(t->fd, keys, n < 512 ? n : 512); /* a terminal takes 4096 at once */
        if (done < 0 && errno != EAGAIN && errno != EINTR)
            abort();
        keys += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
        while (n && tt_read(t, 1))
            ;
    }
}

static inline double tt_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Rows that are longer than the new width are broken, as terminals do it. */
static inline void tt_resize(terminal *t, int columns, int rows)
{
    static terminal n;
    memset(&n, 0, sizeof n);
    int y = 0;
    for (int from = 0; from < t->rows && y + TT_COLUMNS / columns + 1 < TT_ROWS; from++) {
        int length = 0, x = 0;
        for (int i = 0; i < t->columns; i++)
            length = t->cell[from][i][0] ? i + 1 : length;
        if (from == t->y)
            n.y = y + t->x / columns, n.x = t->x % columns;
        for (int i = 0; i < length; i++, x++) {
            bool wide = i + 1 < length && t->cell[from][i + 1][0] == 1;
            if (x + wide >= columns)
                x = 0, y++;
            memcpy(n.cell[y][x], t->cell[from][i], TT_CELL);
        }
        y++;
        if (from >= t->y && length == 0)
            break;
    }
    t->columns = columns;
    t->rows = rows;
    int off = n.y >= rows ? n.y - rows + 1 : 0;
    memset(t->cell, 0, sizeof t->cell);
    memcpy(t->cell, n.cell[off], (size_t)rows * sizeof t->cell[0]);
    t->x = n.x;
    t->y = n.y - off;
    t->full = false;
    struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
    ioctl(t->fd, TIOCSWINSZ, &size);
}

/* Runs `main` (NULL: the program argv) on a new terminal. */
static inline void tt_start(terminal *t, int columns, int rows, int (*child)(void *user), void *user, char **argv,
                            char **environment)
{
    struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        abort();
    memset(t, 0, sizeof *t);
    t->columns = columns;
    t->rows = rows;
    fflush(NULL);
    t->child = forkpty(&t->fd, NULL, NULL, &size);
    if (t->child < 0)
        abort();
    if (t->child == 0) {
        if (child)
            _exit(child(user));
        execve(argv[0], argv, environment);
        _exit(127);
    }
}

/* The exit code, after the program has ended; 128 + a signal. */
static inline int tt_end(terminal *t)
{
    int status;
    double give_up = tt_now() + 20;
    while (waitpid(t->child, &status, WNOHANG) == 0) {
        tt_read(t, 20);
        if (tt_now() > give_up) {
            tt_dump(t);
            kill(t->child, SIGKILL);
            give_up = tt_now() + 20;
        }
    }
    while (tt_read(t, 0))
        ;
    close(t->fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Whether the screen comes to hold the text in some row within seconds. */
static inline bool tt_shows(terminal *t, const char *text, double seconds)
{
    for (double end = tt_now() + seconds;;) {
        for (int y = 0; y < t->rows; y++)
            if (strstr(tt_row(t, y), text))
                return true;
        if (tt_now() > end)
            return false;
        tt_read(t, 20);
    }
}

#endif
