#define _GNU_SOURCE
#include "cli/line_edit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli/line_history.h"
#include "cli/line_screen.h"
#include "cli/text_width.h"

enum { INPUT = 4096, ESCAPE_MS = 60, REPORT_MS = 300, LONGEST = 16 << 20 };

/* What keys mean. Bytes of control keys are their own; sequences of the terminal become these. */
enum key {
    KEY_NONE = 0x100,
    KEY_LEFT,
    KEY_RIGHT,
    KEY_UP,
    KEY_DOWN,
    KEY_HOME,
    KEY_END,
    KEY_DELETE,
    KEY_WORD_LEFT,
    KEY_WORD_RIGHT,
    KEY_WORD_DELETE, /* behind the cursor */
    KEY_NEW_LINE,
    KEY_PASTE
};
#define CONTROL(letter) ((letter)-64)

struct nb_line_edit {
    nb_line_edit_params p;
    nb_screen screen;
    nb_history *history;
    bool remember, over, stale, asked; /* stale: the screen shows an earlier text */
    struct termios before;
    nb_buf text, draft, out; /* draft: what was being written when an older text was fetched */
    size_t at;               /* the cursor */
    int goal;                /* the column that it goes up and down by; below 0: its own */
    size_t entry;            /* of the history; its count: the draft */
    char in[INPUT];
    size_t in_at, in_n;
};

/* ---- the terminal's modes; what signals restore is static ---- */

static struct {
    int fd, out;
    struct termios modes, ours;
    volatile sig_atomic_t changed, pastes, continued;
} terminal;

static void say(const char *text, size_t n)
{
    ssize_t ignored = write(terminal.out, text, n);
    (void)ignored;
}

#define SAY(literal) say(literal, sizeof(literal) - 1)

static void restore(void)
{
    if (terminal.changed) {
        if (terminal.pastes)
            SAY("\033[?2004l");
        tcsetattr(terminal.fd, TCSADRAIN, &terminal.modes);
        terminal.changed = false;
    }
}

static void on_end(int number)
{
    if (terminal.changed)
        SAY("\033[0m"); /* a thought is dim */
    restore();
    signal(number, SIG_DFL);
    raise(number);
}

/* The shell finds the terminal as it left it, and the reply goes on with ours, unless it goes on in the background. */
static void on_stop(int number)
{
    struct sigaction stop, ours;
    sigset_t only;
    int before = errno;
    bool changed = terminal.changed, pastes = terminal.pastes;
    restore();
    stop.sa_handler = SIG_DFL;
    stop.sa_flags = 0;
    sigemptyset(&stop.sa_mask);
    sigaction(number, &stop, &ours);
    raise(number);
    sigemptyset(&only);
    sigaddset(&only, number);
    pthread_sigmask(SIG_UNBLOCK, &only, NULL); /* it stops here */
    sigaction(number, &ours, NULL);
    if (changed && tcgetpgrp(terminal.fd) == getpgrp()) {
        terminal.changed = true;
        tcsetattr(terminal.fd, TCSADRAIN, &terminal.ours);
        if (pastes)
            SAY("\033[?2004h");
    }
    terminal.continued = true;
    errno = before;
}

static void on_resize(int number) { (void)number; }

static void watch_signals(bool on)
{
    static const int ends[] = {SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction end = {.sa_handler = on ? on_end : SIG_DFL}, resize = {.sa_handler = on ? on_resize : SIG_DFL};
    struct sigaction stop = {.sa_handler = on ? on_stop : SIG_DFL, .sa_flags = SA_RESTART};
    sigset_t size;
    sigemptyset(&size);
    sigaddset(&size, SIGWINCH);
    sigprocmask(on ? SIG_BLOCK : SIG_UNBLOCK, &size, NULL); /* it comes while a key is waited for, and then only */
    sigemptyset(&end.sa_mask);
    sigemptyset(&resize.sa_mask);
    sigfillset(&stop.sa_mask);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        sigaction(ends[i], &end, NULL);
    sigaction(SIGWINCH, &resize, NULL); /* without SA_RESTART: waiting for a key ends */
    sigaction(SIGTSTP, &stop, NULL);
}

/* Keys as they come. Between texts Ctrl-C is a signal; what is typed then waits unseen. */
static void set_modes(nb_line_edit *e, bool reading)
{
    struct termios modes = e->before;
    modes.c_lflag &= ~(tcflag_t)(ECHO | ICANON | IEXTEN | (reading ? ISIG : 0));
    modes.c_lflag |= NOFLSH; /* Ctrl-C must not cut off half a character or a sequence of what was written */
    modes.c_iflag &= ~(tcflag_t)(IXON | ISTRIP | (reading ? ICRNL | INLCR : 0));
    modes.c_cc[VMIN] = 1;
    modes.c_cc[VTIME] = 0;
    terminal.fd = e->p.in;
    terminal.out = e->p.out;
    terminal.modes = e->before;
    terminal.ours = modes;
    terminal.pastes = reading;
    terminal.changed = true;
    tcsetattr(e->p.in, TCSADRAIN, &modes);
}

static void put_out(nb_line_edit *e)
{
    for (size_t done = 0; done < e->out.len && !e->out.failed;) {
        ssize_t n = write(e->p.out, e->out.data + done, e->out.len - done);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd ready = {.fd = e->p.out, .events = POLLOUT};
            poll(&ready, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            e->over = true;
            break;
        } else if (n > 0) {
            done += (size_t)n;
        }
    }
    nb_buf_clear(&e->out);
}

static void look_at_size(nb_line_edit *e)
{
    struct winsize size = {0};
    if (ioctl(e->p.out, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        size = (struct winsize){.ws_col = 80, .ws_row = 24};
    if (size.ws_col == e->screen.columns && size.ws_row == e->screen.lines)
        return;
    nb_screen_resize(&e->screen, size.ws_col, size.ws_row, &e->out);
    e->stale = true;
}

/* ---- input ---- */

/* More bytes within ms (-1: however long it takes). False: none came, or the window changed, or it is over. */
static bool fill(nb_line_edit *e, int ms)
{
    struct pollfd ready = {.fd = e->p.in, .events = POLLIN};
    struct timespec limit = {ms / 1000, (ms % 1000) * 1000000L};
    sigset_t during;
    sigprocmask(SIG_SETMASK, NULL, &during);
    sigdelset(&during, SIGWINCH);
    if (e->in_at > 0) {
        memmove(e->in, e->in + e->in_at, e->in_n - e->in_at);
        e->in_n -= e->in_at;
        e->in_at = 0;
    }
    if (e->over || e->in_n == INPUT || ppoll(&ready, 1, ms < 0 ? NULL : &limit, &during) <= 0)
        return false;
    ssize_t n = read(e->p.in, e->in + e->in_n, INPUT - e->in_n);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
        e->over = true;
    e->in_n += n > 0 ? (size_t)n : 0;
    return n > 0;
}

static bool has_byte(nb_line_edit *e, int ms) { return e->in_at < e->in_n || fill(e, ms); }

/* The next byte of a sequence; -1: it ends here. */
static int next(nb_line_edit *e) { return has_byte(e, ESCAPE_MS) ? (unsigned char)e->in[e->in_at++] : -1; }

/* "[" or "O" and what follows */
static int read_sequence(nb_line_edit *e, int kind)
{
    int number[2] = {0, 0}, which = 0, c = next(e);
    for (; kind == '[' && c >= 0x20 && c < 0x40; c = next(e)) {
        if (c >= '0' && c <= '9' && number[which] < 10000)
            number[which] = 10 * number[which] + c - '0';
        else if (c == ';')
            which = 1;
    }
    if (kind == '[' && c == '[') { /* F1 to F5 of Linux's console */
        next(e);
        return KEY_NONE;
    }
    if (c >= 0 && c < 0x20) /* no sequence after all */
        e->in_at--;
    bool word = number[1] == 3 || number[1] == 5;
    switch (c) {
    case 'A': return KEY_UP;
    case 'B': return KEY_DOWN;
    case 'C': return word ? KEY_WORD_RIGHT : KEY_RIGHT;
    case 'D': return word ? KEY_WORD_LEFT : KEY_LEFT;
    case 'H': return KEY_HOME;
    case 'F': return KEY_END;
    case '~': break;
    default: return KEY_NONE;
    }
    switch (number[0]) {
    case 1:
    case 7: return KEY_HOME;
    case 3: return word ? KEY_WORD_DELETE : KEY_DELETE;
    case 4:
    case 8: return KEY_END;
    case 200: return KEY_PASTE;
    default: return KEY_NONE;
    }
}

static int read_escape(nb_line_edit *e)
{
    int c = next(e);
    switch (c) {
    case '[':
    case 'O': return read_sequence(e, c);
    case 'b': return KEY_WORD_LEFT;
    case 'f': return KEY_WORD_RIGHT;
    case 'd': return KEY_WORD_DELETE;
    case 0x7f:
    case 0x08: return CONTROL('W');
    case '\r':
    case '\n': return KEY_NEW_LINE;
    default: e->in_at -= c >= 0 && c < 0x20; return KEY_NONE;
    }
}

/* ---- asking the terminal how wide clusters are ---- */

/* "ESC [ row ; column R" among what comes; other bytes stay to be read. -1: no answer. */
static int read_report(nb_line_edit *e)
{
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (;;) {
        for (size_t i = e->in_at; i + 5 < e->in_n; i++) {
            size_t k = i + 2, semicolon = 0;
            int column = 0;
            if (e->in[i] != 0x1b || e->in[i + 1] != '[')
                continue;
            for (; k < e->in_n && ((e->in[k] >= '0' && e->in[k] <= '9') || e->in[k] == ';'); k++) {
                if (e->in[k] == ';')
                    semicolon = k;
                column = e->in[k] == ';' || column > 10000 ? 0 : 10 * column + e->in[k] - '0';
            }
            if (k >= e->in_n || e->in[k] != 'R' || semicolon == 0)
                continue;
            memmove(e->in + i, e->in + k + 1, e->in_n - k - 1);
            e->in_n -= k + 1 - i;
            return column;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t ms = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
        if (ms >= REPORT_MS || e->over || e->in_n == INPUT)
            return -1;
        fill(e, (int)(REPORT_MS - ms));
    }
}

/* Once, when a cluster is met that terminals show in different ways: samples are written where the text will be. */
static void ask_widths(nb_line_edit *e)
{
    unsigned joined = 0;
    e->asked = true;
    nb_screen_home(&e->screen, &e->out);
    for (int i = 0; i < 3; i++)
        nb_buf_printf(&e->out, "\r%s\033[6n", nb_join_samples[i]);
    nb_buf_z(&e->out, "\r\033[K");
    put_out(e);
    for (int i = 0; i < 3; i++) {
        int column = read_report(e);
        if (column < 0)
            break;
        joined |= column == 3 ? 1u << i : 0u;
    }
    nb_glyph_joins(joined);
}

static bool has_joined(nb_str text)
{
    for (size_t i = 0; i < text.n;) {
        nb_glyph g = nb_glyph_at((nb_str){text.p + i, text.n - i});
        if (g.joined)
            return true;
        i += g.bytes;
    }
    return false;
}

/* Characters that meet by an edit may become one cluster, with the cursor in it. Not after each of them: more of the cluster that is
 * typed may follow. */
static void leave_cluster(nb_line_edit *e) { e->at = nb_glyph_border(nb_buf_view(&e->text), e->at); }

static void refresh(nb_line_edit *e)
{
    leave_cluster(e);
    nb_str text = nb_buf_view(&e->text);
    if (!e->asked && has_joined(text))
        ask_widths(e);
    nb_screen_draw(&e->screen, text, e->at, &e->out);
    put_out(e);
    e->stale = false;
}

/* ---- editing ---- */

static void insert(nb_line_edit *e, nb_str s)
{
    if (e->text.len + s.n > LONGEST || !nb_buf_reserve(&e->text, s.n))
        return;
    memmove(e->text.data + e->at + s.n, e->text.data + e->at, e->text.len - e->at);
    memcpy(e->text.data + e->at, s.p, s.n);
    e->text.len += s.n;
    e->text.data[e->text.len] = 0;
    e->at += s.n;
}

static void erase(nb_line_edit *e, size_t from, size_t to)
{
    if (to <= from)
        return;
    memmove(e->text.data + from, e->text.data + to, e->text.len - to);
    e->text.len -= to - from;
    e->text.data[e->text.len] = 0;
    e->at = from;
}

static void replace(nb_line_edit *e, nb_str s)
{
    nb_buf_clear(&e->text);
    nb_buf_str(&e->text, s);
    e->at = e->text.len;
}

static size_t left_of(const nb_line_edit *e, size_t at) { return at ? nb_glyph_before(nb_buf_view(&e->text), at) : 0; }

static size_t right_of(const nb_line_edit *e, size_t at)
{
    return at < e->text.len ? at + nb_glyph_at((nb_str){e->text.data + at, e->text.len - at}).bytes : at;
}

static size_t line_begin(const nb_line_edit *e)
{
    size_t i = e->at;
    while (i > 0 && e->text.data[i - 1] != '\n')
        i--;
    return i;
}

static size_t line_end(const nb_line_edit *e)
{
    size_t i = e->at;
    while (i < e->text.len && e->text.data[i] != '\n')
        i++;
    return i;
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n'; }

static size_t word_left(const nb_line_edit *e)
{
    size_t i = e->at;
    while (i > 0 && is_space(e->text.data[i - 1]))
        i--;
    while (i > 0 && !is_space(e->text.data[i - 1]))
        i--;
    return i;
}

static size_t word_right(const nb_line_edit *e)
{
    size_t i = e->at;
    while (i < e->text.len && is_space(e->text.data[i]))
        i++;
    while (i < e->text.len && !is_space(e->text.data[i]))
        i++;
    return i;
}

static void fetch(nb_line_edit *e, bool older)
{
    size_t count = nb_history_count(e->history);
    if (older ? e->entry == 0 : e->entry >= count)
        return;
    if (e->entry == count) {
        nb_buf_clear(&e->draft);
        nb_buf_str(&e->draft, nb_buf_view(&e->text));
    }
    e->entry += older ? (size_t)-1 : 1;
    replace(e, e->entry == count ? nb_buf_view(&e->draft) : nb_history_at(e->history, e->entry));
}

/* Up and down go through the text's rows, and on into the history. */
static void go_vertical(nb_line_edit *e, int by)
{
    refresh(e); /* rows as they are now */
    if (!nb_screen_move(&e->screen, nb_buf_view(&e->text), e->at, by, &e->goal, &e->at))
        fetch(e, by < 0);
}

/* ---- what is typed and pasted ---- */

/* The code point that begins with this byte, put together as its bytes come. What is none is passed over. */
static void insert_typed(nb_line_edit *e, unsigned char first)
{
    char bytes[4] = {(char)first};
    size_t n = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    for (size_t i = 1; i < n; i++) {
        int c = has_byte(e, ESCAPE_MS) ? (unsigned char)e->in[e->in_at] : -1;
        if (c < 0x80 || c >= 0xc0)
            return;
        bytes[i] = (char)c;
        e->in_at++;
    }
    nb_glyph g = nb_glyph_at((nb_str){bytes, n});
    if (g.bytes == n && g.width >= 0)
        insert(e, (nb_str){bytes, n});
}

static void insert_pasted(nb_line_edit *e)
{
    static const char end[] = "\033[201~";
    size_t matched = 0;
    bool returned = false;
    for (int c; matched < sizeof end - 1 && (c = has_byte(e, 2000) ? (unsigned char)e->in[e->in_at++] : -1) >= 0;) {
        if (c == end[matched]) {
            matched++;
            continue;
        }
        for (size_t i = 1; i < matched; i++) /* no end after all: without its control character */
            insert(e, (nb_str){&end[i], 1});
        matched = c == end[0];
        if (c == '\r' || (c == '\n' && !returned))
            insert(e, NB_STR("\n"));
        else if (c == '\t')
            insert(e, NB_STR("\t"));
        else if (c >= 0x20 && c != 0x7f)
            insert_typed(e, (unsigned char)c);
        returned = c == '\r';
    }
}

/* ---- keys ---- */

static void suspend(nb_line_edit *e)
{
    nb_screen_leave(&e->screen, nb_buf_view(&e->text), &e->out);
    put_out(e);
    raise(SIGTSTP);
    set_modes(e, true);
    nb_buf_z(&e->out, "\033[?2004h");
    terminal.continued = false;
}

/* Stopped from elsewhere while a key was waited for: what the shell wrote meanwhile is above. */
static void look_at_stop(nb_line_edit *e)
{
    if (!terminal.continued)
        return;
    terminal.continued = false;
    e->screen.drawn = false;
    e->stale = true;
    set_modes(e, true);
    nb_buf_z(&e->out, "\033[?2004h\r");
}

static void clear_screen(nb_line_edit *e)
{
    nb_screen_home(&e->screen, &e->out);
    nb_buf_z(&e->out, "\033[H\033[2J");
}

/* Moves and edits; false: the key is none of these. */
static bool edit(nb_line_edit *e, int key)
{
    if (key != KEY_UP && key != KEY_DOWN)
        e->goal = -1;
    switch (key) {
    case CONTROL('A'):
    case KEY_HOME: e->at = line_begin(e); break;
    case CONTROL('E'):
    case KEY_END: e->at = line_end(e); break;
    case CONTROL('B'):
    case KEY_LEFT: e->at = left_of(e, e->at); break;
    case CONTROL('F'):
    case KEY_RIGHT: e->at = right_of(e, e->at); break;
    case KEY_WORD_LEFT: e->at = word_left(e); break;
    case KEY_WORD_RIGHT: e->at = word_right(e); break;
    case CONTROL('K'): erase(e, e->at, e->at == line_end(e) ? right_of(e, e->at) : line_end(e)); break;
    case CONTROL('U'): erase(e, e->at == line_begin(e) ? left_of(e, e->at) : line_begin(e), e->at); break;
    case CONTROL('W'): erase(e, word_left(e), e->at); break;
    case KEY_WORD_DELETE: erase(e, e->at, word_right(e)); break;
    case 0x7f:
    case CONTROL('H'): erase(e, left_of(e, e->at), e->at); break;
    case CONTROL('D'):
    case KEY_DELETE: erase(e, e->at, right_of(e, e->at)); break;
    case CONTROL('P'): fetch(e, true); break;
    case CONTROL('N'): fetch(e, false); break;
    case KEY_UP: go_vertical(e, -1); break;
    case KEY_DOWN: go_vertical(e, 1); break;
    case KEY_NEW_LINE: insert(e, NB_STR("\n")); break;
    case '\t': insert(e, NB_STR("\t")); break;
    case KEY_PASTE: insert_pasted(e); break;
    case CONTROL('L'): clear_screen(e); break;
    case CONTROL('Z'): suspend(e); break;
    default: return false;
    }
    return true;
}

/* The end of the text when the key is one. */
static bool is_end(nb_line_edit *e, int key, nb_line_end *end)
{
    nb_str text = nb_buf_view(&e->text);
    if (key == CONTROL('C') || (key == CONTROL('D') && text.n == 0)) {
        *end = key == CONTROL('C') ? NB_LINE_INTERRUPTED : NB_LINE_OVER;
        return true;
    }
    if (key != '\r' && key != '\n')
        return false;
    if (e->p.open && e->p.open(text)) {
        insert(e, NB_STR("\n"));
        return false;
    }
    *end = NB_LINE_ENTERED;
    return true;
}

static bool is_character(int key) { return key >= 0x20 && key < KEY_NONE && key != 0x7f; }

static void read_keys(nb_line_edit *e, nb_line_end *end)
{
    for (;;) {
        look_at_size(e);
        look_at_stop(e);
        if (e->stale && e->in_at == e->in_n && !fill(e, 0))
            refresh(e);
        if (!has_byte(e, -1)) {
            if (!e->over)
                continue;
            *end = NB_LINE_OVER;
            return;
        }
        int key = (unsigned char)e->in[e->in_at++];
        if (key == 0x1b)
            key = read_escape(e);
        if (is_end(e, key, end))
            return;
        if (!is_character(key))
            leave_cluster(e);
        if (!edit(e, key) && is_character(key))
            insert_typed(e, (unsigned char)key);
        e->stale = true;
    }
}

/* ---- all of it ---- */

nb_status nb_line_edit_new(const nb_line_edit_params *params, nb_line_edit **out, nb_error *err)
{
    nb_line_edit *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e)
        return nb_fail_memory(err, "the prompt", sizeof *e);
    e->p = *params;
    e->remember = true;
    e->history = nb_history_open(params->history);
    e->screen = (nb_screen){
        .prompt = params->prompt, .more = params->more, .placeholder = params->placeholder, .color = params->color};
    if (!e->history || tcgetattr(params->in, &e->before) != 0) {
        nb_history_close(e->history);
        free(e);
        return nb_fail(err, NB_ERR_IO, "the terminal does not tell its modes");
    }
    watch_signals(true);
    set_modes(e, false);
    *out = e;
    return NB_OK;
}

void nb_line_edit_free(nb_line_edit *e)
{
    if (!e)
        return;
    restore();
    watch_signals(false);
    nb_history_close(e->history);
    nb_screen_free(&e->screen);
    nb_buf_free(&e->text);
    nb_buf_free(&e->draft);
    nb_buf_free(&e->out);
    free(e);
}

nb_status nb_line_edit_read(nb_line_edit *e, nb_line_end *end, nb_str *text, nb_error *err)
{
    nb_buf_clear(&e->text);
    e->at = 0;
    e->goal = -1;
    e->entry = nb_history_count(e->history);
    e->stale = true;
    e->screen.drawn = false;
    set_modes(e, true);
    nb_buf_z(&e->out, "\033[?2004h");
    terminal.continued = false;
    read_keys(e, end);
    *text = nb_buf_view(&e->text);
    nb_screen_leave(&e->screen, *text, &e->out);
    nb_buf_z(&e->out, "\033[?2004l");
    put_out(e);
    set_modes(e, false);
    if (e->screen.failed)
        return nb_fail_memory(err, "a prompt", e->text.len);
    if (*end == NB_LINE_ENTERED && e->remember)
        nb_history_add(e->history, *text);
    return NB_OK;
}

void nb_line_edit_remember(nb_line_edit *e, bool on) { e->remember = on; }
