/* Keys for the line editor, in two ways. The first byte chooses:
 *  - keys of a table, several at once or one by one: the text and the cursor are a simple model's, and what the terminal shows is what
 *    drawing from nothing shows;
 *  - any bytes, with pauses and other sizes of the window: no byte that would steer the terminal is written, the cursor is
 *    between two clusters, the text is UTF-8.
 * The editor's calls of the system are ours; the terminal is that of the tests. */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <termios.h>
#include <unistd.h>

static int fuzz_ppoll(struct pollfd *p, nfds_t n, const struct timespec *limit, const sigset_t *mask);
static ssize_t fuzz_read(int fd, void *bytes, size_t n);
static ssize_t fuzz_write(int fd, const void *bytes, size_t n);
static int fuzz_ioctl(int fd, unsigned long what, struct winsize *size);
static int fuzz_modes(void);

#define ppoll fuzz_ppoll
#define read fuzz_read
#define write fuzz_write
#define ioctl fuzz_ioctl
#define tcgetattr(fd, modes) ((void)(modes), fuzz_modes())
#define tcsetattr(fd, when, modes) ((void)(modes), fuzz_modes())
#define sigaction(number, new, old) ((void)(new), 0)
#define sigprocmask(how, set, old) 0
#define raise(number) 0

#include <utf8proc.h>

#define terminal modes_of_terminal /* another thing in the tests */
#include "../src/cli/line_edit.c"
#undef terminal
#include "../tests/support/terminal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SCREEN = 1, REPORTS = 100, TOKENS = 4096, PAUSE = 0xff };

static terminal t;
static const uint8_t *left;
static size_t left_n;
static char reports[4096], batch[65536];
static size_t reports_n, batch_n;
static bool by_table;
static nb_line_edit *editor;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s\n", #condition);                                                                       \
            tt_dump(&t);                                                                                               \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* ---- the model: tokens that are a cluster each, and the cursor between two ---- */

enum { TYPED = 0x200 };
static const struct {
    const char *bytes;
    int key; /* TYPED: the bytes are a token */
} keys[] = {{"a", TYPED},
            {"b", TYPED},
            {" ", TYPED},
            {"\t", TYPED},
            {"\xe4\xbd\xa0", TYPED},
            {"e\xcc\x81", TYPED},
            {"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80", TYPED},
            {"\xf0\x9f\x87\xa9\xf0\x9f\x87\xaa", TYPED},
            {"\xc3\xa4", TYPED},
            {"\xe4\xb8\x96", TYPED},
            {"\033\r", KEY_NEW_LINE},
            {"\001", CONTROL('A')},
            {"\005", CONTROL('E')},
            {"\033[D", KEY_LEFT},
            {"\033[C", KEY_RIGHT},
            {"\033[A", KEY_UP},
            {"\033[B", KEY_DOWN},
            {"\033b", KEY_WORD_LEFT},
            {"\033[1;5C", KEY_WORD_RIGHT},
            {"\013", CONTROL('K')},
            {"\025", CONTROL('U')},
            {"\027", CONTROL('W')},
            {"\033d", KEY_WORD_DELETE},
            {"\177", CONTROL('H')},
            {"\033[3~", KEY_DELETE},
            {"\014", CONTROL('L')},
            {"\033[200~x\xe4\xbd\xa0\033[31m\r\ny\001\033[201~", KEY_PASTE}};
enum { KEYS = sizeof keys / sizeof *keys };

static const char *tokens[TOKENS];
static size_t count, cursor;
static bool vertical; /* it went up or down: where, only the editor knows */

static void put(const char *token)
{
    if (count == TOKENS)
        return;
    memmove(tokens + cursor + 1, tokens + cursor, (count - cursor) * sizeof *tokens);
    tokens[cursor++] = token;
    count++;
}

static void cut(size_t from, size_t to)
{
    memmove(tokens + from, tokens + to, (count - to) * sizeof *tokens);
    count -= to - from;
    cursor = from;
}

static bool is(size_t i, const char *any) { return tokens[i][1] == 0 && strchr(any, tokens[i][0]); }

static size_t edge(bool left_of_it)
{
    size_t i = cursor;
    if (left_of_it)
        while (i > 0 && !is(i - 1, "\n"))
            i--;
    else
        while (i < count && !is(i, "\n"))
            i++;
    return i;
}

static size_t word(bool left_of_it)
{
    size_t i = cursor;
    for (int space = 1; space >= 0; space--)
        if (left_of_it)
            while (i > 0 && is(i - 1, " \t\n") == (space == 1))
                i--;
        else
            while (i < count && is(i, " \t\n") == (space == 1))
                i++;
    return i;
}

static void apply(size_t which)
{
    static const char *const pasted[] = {"x", "\xe4\xbd\xa0", "[", "3", "1", "m", "\n", "y"};
    switch (keys[which].key) {
    case TYPED: put(keys[which].bytes); break;
    case KEY_NEW_LINE: put("\n"); break;
    case CONTROL('A'): cursor = edge(true); break;
    case CONTROL('E'): cursor = edge(false); break;
    case KEY_LEFT: cursor -= cursor > 0; break;
    case KEY_RIGHT: cursor += cursor < count; break;
    case KEY_WORD_LEFT: cursor = word(true); break;
    case KEY_WORD_RIGHT: cursor = word(false); break;
    case CONTROL('K'): cut(cursor, cursor < edge(false) ? edge(false) : cursor + (cursor < count)); break;
    case CONTROL('U'): cut(edge(true) < cursor ? edge(true) : cursor - (cursor > 0), cursor); break;
    case CONTROL('W'): cut(word(true), cursor); break;
    case KEY_WORD_DELETE: cut(cursor, word(false)); break;
    case CONTROL('H'): cut(cursor - (cursor > 0), cursor); break;
    case KEY_DELETE: cut(cursor, cursor + (cursor < count)); break;
    case KEY_PASTE:
        for (size_t i = 0; i < sizeof pasted / sizeof *pasted; i++)
            put(pasted[i]);
        break;
    case KEY_UP:
    case KEY_DOWN: vertical = true; break;
    default: break;
    }
}

/* The next keys that come at once. After a move up or down nothing more: where the cursor is then is asked first. */
static void take_keys(void)
{
    batch_n = 0;
    while (left_n && batch_n < 512 && count < TOKENS - 16) {
        uint8_t byte = *left++;
        size_t which = (byte & 0x3f) % KEYS;
        left_n--;
        memcpy(batch + batch_n, keys[which].bytes, strlen(keys[which].bytes));
        batch_n += strlen(keys[which].bytes);
        apply(which);
        if (vertical || !(byte & 0x40))
            break;
    }
}

/* ---- what must hold ---- */

static void check_border(const nb_line_edit *e)
{
    nb_str s = nb_buf_view(&e->text);
    size_t at = 0;
    while (at < e->at) {
        at += nb_glyph_at((nb_str){s.p + at, s.n - at}).bytes;
        CHECK(at <= e->at);
    }
}

static void check_text(const nb_line_edit *e)
{
    size_t at = 0, here = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(tokens[i]);
        CHECK(at + n <= e->text.len && memcmp(e->text.data + at, tokens[i], n) == 0);
        if (vertical && at == e->at)
            cursor = i;
        if (i == cursor)
            here = at;
        at += n;
    }
    if ((vertical && e->at == at) || cursor == count) {
        cursor = count;
        here = at;
    }
    vertical = false;
    CHECK(at == e->text.len);
    CHECK(here == e->at);
}

static void show(terminal *on, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        on->input[on->input_n++] = bytes[i];
        if (tt_take(on) || on->input_n == sizeof on->input)
            on->input_n = 0;
    }
}

static void clear(terminal *on, int columns, int rows, bool joins)
{
    for (int y = 0; y < rows; y++)
        memset(on->cell[y], 0, (size_t)columns * TT_CELL);
    on->fd = REPORTS;
    on->columns = columns;
    on->rows = rows;
    on->joins = joins;
    on->x = on->y = on->above_count = 0;
    on->full = on->joined = false;
    on->input_n = 0;
}

static bool same_row(const terminal *a, int y, const terminal *b, int z)
{
    for (int x = 0; x < a->columns; x++) {
        const char *one = a->cell[y][x], *other = b->cell[z][x];
        if (strcmp(*one ? one : " ", *other ? other : " ") != 0)
            return false;
    }
    return true;
}

static void check_screen(const nb_line_edit *e)
{
    static terminal fresh;
    nb_screen s = e->screen;
    nb_buf out = {0};
    s.rows = NULL;
    s.cap = s.count = 0;
    s.cursor_row = s.top;
    nb_screen_draw(&s, nb_buf_view(&e->text), e->at, &out);
    clear(&fresh, t.columns, t.rows, t.joins);
    show(&fresh, out.data, out.len);
    int first = t.y - (int)(e->screen.cursor_row - e->screen.top);
    CHECK(first >= 0 && t.x == fresh.x && t.y - first == fresh.y && !t.full);
    for (int y = first; y < t.rows; y++)
        CHECK(same_row(&t, y, &fresh, y - first));
    nb_screen_free(&s);
    nb_buf_free(&out);
}

/* ---- the system ---- */

/* A pause: nothing comes for a while, or the window has another size. */
static bool take_pause(void)
{
    if (by_table || !left_n || *left != PAUSE)
        return false;
    left++;
    left_n--;
    if (left_n && (*left & 1)) {
        tt_resize(&t, 6 + *left % 50, 1 + *left % 12);
        left++;
        left_n--;
    }
    return true;
}

static int fuzz_ppoll(struct pollfd *p, nfds_t n, const struct timespec *limit, const sigset_t *mask)
{
    (void)p, (void)n, (void)mask;
    if (reports_n || (by_table && batch_n))
        return 1;
    if (limit)
        return !by_table && left_n && !take_pause();
    if (editor->screen.drawn && !editor->stale) {
        check_border(editor);
        if (by_table) {
            check_text(editor);
            check_screen(editor);
        }
    }
    if (by_table)
        take_keys();
    else if (take_pause())
        return 0;
    return 1; /* without a byte it is the end */
}

static ssize_t fuzz_read(int fd, void *bytes, size_t n)
{
    (void)fd;
    if (reports_n) {
        CHECK(n >= reports_n);
        memcpy(bytes, reports, n = reports_n);
        reports_n = 0;
    } else if (by_table) {
        memcpy(bytes, batch, n = batch_n < n ? batch_n : n);
        memmove(batch, batch + n, batch_n -= n);
    } else {
        size_t some = 0;
        while (some < n && some < left_n && left[some] != PAUSE)
            some++;
        memcpy(bytes, left, n = some);
        left += n;
        left_n -= n;
    }
    return (ssize_t)n;
}

static ssize_t fuzz_write(int fd, const void *bytes, size_t n)
{
    if (fd == SCREEN)
        show(&t, bytes, n);
    else if (n <= sizeof reports - reports_n)
        memcpy(reports + reports_n, bytes, n), reports_n += n;
    return (ssize_t)n;
}

static int fuzz_ioctl(int fd, unsigned long what, struct winsize *size)
{
    if (fd == SCREEN && what == TIOCGWINSZ)
        *size = (struct winsize){.ws_col = (unsigned short)t.columns, .ws_row = (unsigned short)t.rows};
    return 0;
}

static int fuzz_modes(void) { return 0; }

/* ---- a run ---- */

static bool is_open(nb_str text) { return text.n > 0 && text.p[0] == '"' && text.p[text.n - 1] != '"'; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_line_edit_params p = {
        .in = 0, .out = SCREEN, .prompt = ">>> ", .more = "... ", .placeholder = "Send", .open = is_open};
    nb_line_end end = NB_LINE_ENTERED;
    nb_str text;
    if (size < 3 || !setlocale(LC_CTYPE, "C.UTF-8"))
        return 0;
    by_table = data[0] & 1;
    clear(&t, 6 + data[1] % 50, 1 + data[2] % 12, data[0] & 2);
    left = data + 3;
    left_n = size - 3;
    reports_n = batch_n = count = cursor = 0;
    nb_glyph_joins(0);
    if (nb_line_edit_new(&p, &editor, NULL) != NB_OK)
        return 0;
    while (end != NB_LINE_OVER) {
        vertical = false;
        CHECK(nb_line_edit_read(editor, &end, &text, NULL) == NB_OK);
        for (size_t i = 0; i < text.n;) {
            utf8proc_int32_t c;
            utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text.p + i, (utf8proc_ssize_t)(text.n - i),
                                                  &c);
            CHECK(n > 0 && (c >= 0x20 || c == '\n' || c == '\t') && !(c >= 0x7f && c < 0xa0));
            i += (size_t)n;
        }
    }
    nb_line_edit_free(editor);
    return 0;
}
