/* The line editor on a terminal: what is on the screen, where the cursor is, and what is read. */
#define _GNU_SOURCE
#include "cli/line_edit.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <termios.h>

#include <cmocka.h>

#include "support/folder.h"
#include "support/terminal.h"

static terminal t;

/* ---- the program: reads texts and hands them out through a pipe ---- */

typedef struct program {
    int results;
    const char *history;
    bool forgets;
    int texts; /* to read; then it ends */
} program;

static bool is_open(nb_str text)
{
    return nb_str_starts(text, NB_STR("\"\"\"")) && (text.n < 6 || memcmp(text.p + text.n - 3, "\"\"\"", 3) != 0);
}

static int run(void *user)
{
    const program *p = user;
    nb_line_edit *e;
    nb_line_edit_params params = {.in = 0,
                                  .out = 1,
                                  .prompt = ">>> ",
                                  .more = "... ",
                                  .placeholder = "Send a message (/? for help)",
                                  .color = true,
                                  .history = p->history,
                                  .open = is_open};
    nb_str text;
    nb_line_end end;
    struct termios before, after;
    tcgetattr(0, &before);
    if (nb_line_edit_new(&params, &e, NULL) != NB_OK)
        return 3;
    nb_line_edit_remember(e, !p->forgets);
    for (int i = 0; i < p->texts; i++) {
        if (nb_line_edit_read(e, &end, &text, NULL) != NB_OK)
            return 4;
        char code = (char)end;
        if (write(p->results, &code, 1) != 1 || write(p->results, &text.n, sizeof text.n) < 0 ||
            write(p->results, text.p, text.n) < 0)
            return 5;
    }
    nb_line_edit_free(e);
    tcgetattr(0, &after);
    return before.c_lflag == after.c_lflag && before.c_iflag == after.c_iflag && before.c_oflag == after.c_oflag ? 0
                                                                                                                 : 6;
}

static int results;

static void begin_with(int columns, int rows, program p)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    p.results = ends[1];
    p.texts = p.texts ? p.texts : 1;
    tt_start(&t, columns, rows, run, &p, NULL, NULL);
    close(ends[1]);
    results = ends[0];
    assert_true(tt_shows(&t, columns > 20 ? "Send a message" : ">", 10)); /* what is typed earlier is echoed */
}

static void begin(int columns, int rows) { begin_with(columns, rows, (program){0}); }

/* What was read, and how it ended. */
static const char *result(nb_line_end *end)
{
    static char text[1 << 17];
    char code;
    size_t n, done = 0;
    struct pollfd ready = {.fd = results, .events = POLLIN};
    for (double give_up = tt_now() + 10; poll(&ready, 1, 0) == 0;) {
        tt_read(&t, 20);
        if (tt_now() > give_up) {
            tt_dump(&t);
            fail_msg("nothing was read");
        }
    }
    assert_int_equal(read(results, &code, 1), 1);
    assert_int_equal(read(results, &n, sizeof n), sizeof n);
    assert_true(n < sizeof text);
    while (done < n) {
        ssize_t got = read(results, text + done, n - done);
        assert_true(got > 0);
        done += (size_t)got;
    }
    text[n] = 0;
    *end = (nb_line_end)code;
    return text;
}

static void finish(void)
{
    assert_int_equal(tt_end(&t), 0); /* the terminal's modes are what they were */
    close(results);
}

static void assert_read(const char *wanted)
{
    nb_line_end end;
    assert_string_equal(result(&end), wanted);
    assert_int_equal(end, NB_LINE_ENTERED);
}

/* Rows from the top, "|" between them, and the cursor. */
static bool is_screen(const char *wanted, int x, int y)
{
    char copy[4096], *save = NULL;
    int row = 0;
    snprintf(copy, sizeof copy, "%s", wanted);
    for (char *line = strtok_r(copy, "|", &save); line; line = strtok_r(NULL, "|", &save), row++)
        if (strcmp(tt_row(&t, row), strcmp(line, " ") == 0 ? "" : line) != 0)
            return false;
    for (; row < t.rows; row++)
        if (*tt_row(&t, row))
            return false;
    return t.x == x && t.y == y && !t.full;
}

static void assert_screen(const char *wanted, int x, int y)
{
    for (double end = tt_now() + 10; !is_screen(wanted, x, y);) {
        tt_read(&t, 20);
        if (tt_now() > end) {
            tt_dump(&t);
            fail_msg("the screen is not %s with the cursor at %d,%d", wanted, x, y);
        }
    }
}

/* ---- keys ---- */

static void test_keys(void **state)
{
    (void)state;
    begin(80, 24);
    assert_screen(">>> Send a message (/? for help)", 4, 0);
    tt_send(&t, "two words here");
    assert_screen(">>> two words here", 18, 0);
    tt_send(&t, "\001x"); /* Ctrl-A */
    assert_screen(">>> xtwo words here", 5, 0);
    tt_send(&t, "\004"); /* Ctrl-D: what is under the cursor */
    assert_screen(">>> xwo words here", 5, 0);
    tt_send(&t, "\033[D\033[3~t"); /* left, delete */
    assert_screen(">>> two words here", 5, 0);
    tt_send(&t, "\033f"); /* Alt-F */
    assert_screen(">>> two words here", 7, 0);
    tt_send(&t, "\006\006-"); /* Ctrl-F */
    assert_screen(">>> two w-ords here", 10, 0);
    tt_send(&t, "\002\177\033OF"); /* Ctrl-B, backspace, End as some terminals send it */
    assert_screen(">>> two -ords here", 18, 0);
    tt_send(&t, "\033b\033b\033[3~"); /* Alt-B twice */
    assert_screen(">>> two ords here", 8, 0);
    tt_send(&t, "w\005!"); /* Ctrl-E */
    assert_screen(">>> two words here!", 19, 0);
    tt_send(&t, "\027"); /* Ctrl-W */
    assert_screen(">>> two words", 14, 0);
    tt_send(&t, "\033b\013"); /* Ctrl-K */
    assert_screen(">>> two", 8, 0);
    tt_send(&t, "x y\033[1;5D\033[1;5D\025"); /* a word left by Ctrl and an arrow; Ctrl-U */
    assert_screen(">>> x y", 4, 0);
    tt_send(&t, "\033[1~a\033[4~z\033[Hb\033[F\r"); /* Home and End, both kinds */
    assert_read("bax yz");
    finish();
}

static void test_ends(void **state)
{
    (void)state;
    nb_line_end end;
    begin_with(80, 24, (program){.texts = 3});
    tt_send(&t, "dropped");
    assert_screen(">>> dropped", 11, 0);
    tt_send(&t, "\003");
    assert_string_equal(result(&end), "dropped");
    assert_int_equal(end, NB_LINE_INTERRUPTED);
    assert_screen(">>> dropped|>>> Send a message (/? for help)", 4, 1);
    tt_send(&t, "here\014");
    assert_screen(">>> here", 8, 0); /* Ctrl-L */
    tt_send(&t, "\r");
    assert_string_equal(result(&end), "here");
    tt_send(&t, "\004");
    assert_string_equal(result(&end), "");
    assert_int_equal(end, NB_LINE_OVER);
    finish();
    assert_false(t.pastes);
}

/* A signal that ends the program leaves a terminal that works. */
static void test_killed(void **state)
{
    (void)state;
    struct termios modes;
    begin(80, 24);
    tt_send(&t, "abc");
    assert_screen(">>> abc", 7, 0);
    assert_true(t.pastes);
    int slave = open(ptsname(t.fd), O_RDWR | O_NOCTTY);
    tcgetattr(slave, &modes);
    assert_false(modes.c_lflag & ECHO);
    kill(t.child, SIGTERM);
    assert_int_equal(waitpid(t.child, NULL, 0), t.child);
    tcgetattr(slave, &modes);
    assert_true(modes.c_lflag & ECHO && modes.c_lflag & ICANON);
    while (tt_read(&t, 0))
        ;
    assert_false(t.pastes);
    close(slave);
    close(t.fd);
    close(results);
}

/* ---- columns ---- */

static void test_wrap(void **state)
{
    (void)state;
    begin(40, 10);
    tt_send(&t, "123456789012345678901234567890123456"); /* to the last column */
    assert_screen(">>> 123456789012345678901234567890123456| ", 0, 1);
    tt_send(&t, "ab");
    assert_screen(">>> 123456789012345678901234567890123456|ab", 2, 1);
    tt_send(&t, "\033[A");                                              /* up, within the text */
    assert_screen(">>> 123456789012345678901234567890123456|ab", 4, 0); /* not into the prompt */
    tt_send(&t, "\033[B\005\177\177\177");
    assert_screen(">>> 12345678901234567890123456789012345", 39, 0);
    tt_send(&t, "\r");
    assert_read("12345678901234567890123456789012345");
    finish();
}

static void test_wide(void **state)
{
    (void)state;
    begin(40, 10);
    tt_send(&t, "a你好世界你好世界你好世界你好世界你好"); /* 1 + 36 columns: the last one does not fit */
    assert_screen(">>> a你好世界你好世界你好世界你好世界你|好", 2, 1);
    tt_send(&t, "\033[D"); /* between: at the beginning of the second row */
    assert_screen(">>> a你好世界你好世界你好世界你好世界你|好", 0, 1);
    tt_send(&t, "\033[D\177");
    assert_screen(">>> a你好世界你好世界你好世界你好世你好", 35, 0);
    tt_send(&t, "\001\033[3~");
    assert_screen(">>> 你好世界你好世界你好世界你好世你好", 4, 0);
    tt_send(&t, "\005e\314\201x\033[D\033[D\177"); /* e and its accent are one */
    assert_screen(">>> 你好世界你好世界你好世界你好世你e\314\201x", 36, 0);
    tt_send(&t, "\r");
    assert_read("你好世界你好世界你好世界你好世你e\314\201x");
    finish();
}

/* Clusters of several code points, in terminals that join them and terminals that do not. */
static void check_emoji(int columns, int rows, bool joins)
{
    static const char astronaut[] = "👩‍🚀", thumb[] = "👍🏽", heart[] = "❤️", flag[] = "🇩🇪";
    char screen[200];
    int a = joins ? 2 : 4, h = joins ? 2 : 1;
    begin(columns, rows);
    t.joins = joins;
    assert_screen(">>> Send a message (/? for help)", 4, 0);
    tt_send(&t, astronaut);
    snprintf(screen, sizeof screen, ">>> %s", astronaut);
    assert_screen(screen, 4 + a, 0);
    tt_send(&t, thumb);
    tt_send(&t, heart);
    tt_send(&t, flag);
    tt_send(&t, "x");
    snprintf(screen, sizeof screen, ">>> %s%s%s%sx", astronaut, thumb, heart, flag);
    assert_screen(screen, 4 + a + a + h + 2 + 1, 0);
    tt_send(&t, "\033[D\033[D");
    assert_screen(screen, 4 + a + a + h, 0);
    tt_send(&t, "\033[D\033[D");
    assert_screen(screen, 4 + a, 0);
    tt_send(&t, "\177"); /* all of the astronaut */
    snprintf(screen, sizeof screen, ">>> %s%s%sx", thumb, heart, flag);
    assert_screen(screen, 4, 0);
    tt_send(&t, "\r");
    snprintf(screen, sizeof screen, "%s%s%sx", thumb, heart, flag);
    assert_read(screen);
    finish();
}

static void test_emoji(void **state)
{
    (void)state;
    check_emoji(80, 24, true);
    check_emoji(80, 24, false);
    check_emoji(40, 10, true);
    check_emoji(40, 10, false);
}

/* ---- lines ---- */

static void test_lines(void **state)
{
    (void)state;
    begin_with(80, 24, (program){.texts = 2});
    tt_send(&t, "\"\"\"one\rtwo\r");
    assert_screen(">>> \"\"\"one|... two|...", 4, 2);
    tt_send(&t, "three\033[A\033[A!"); /* up twice: column 9, past the end of the second line */
    assert_screen(">>> \"\"\"on!e|... two|... three", 10, 0);
    tt_send(&t, "\033[B\033[B\005\"\"\"\r");
    assert_read("\"\"\"on!e\ntwo\nthree\"\"\"");
    tt_send(&t, "first\033\rsecond\001>\177\177"); /* Alt-Enter; the newline is erased again */
    assert_screen(">>> \"\"\"on!e|... two|... three\"\"\"|>>> firstsecond", 9, 3);
    tt_send(&t, "\r");
    assert_read("firstsecond");
    finish();
}

static void test_paste(void **state)
{
    (void)state;
    begin(40, 10);
    assert_screen(">>> Send a message (/? for help)", 4, 0);
    assert_true(t.pastes);
    tt_send(&t, "say: \033[200~one\r\ntwo\n\ttab\033[31m \001\177\302\233three\033[201~ end");
    assert_screen(">>> say: one|... two|...     tab[31m three end", 25, 2);
    tt_send(&t, "\r");
    assert_read("say: one\ntwo\n\ttab[31m three end");
    finish();
}

/* 100 kB at once, in brackets and without. */
static void test_long_paste(void **state)
{
    (void)state;
    enum { LINES = 2000 };
    static char text[LINES * 60], wanted[LINES * 60];
    size_t n = 0, m = 0;
    for (int i = 0; i < LINES; i++)
        n += (size_t)sprintf(text + n, "line %d of a text that is pasted, 世界\r", i);
    begin(40, 10);
    assert_screen(">>> Send a message (/? for help)", 4, 0);
    tt_send(&t, "\033[200~");
    tt_send(&t, text);
    tt_send(&t, "\033[201~");
    for (size_t i = 0; i < n; i++)
        wanted[m++] = text[i] == '\r' ? '\n' : text[i];
    assert_true(tt_shows(&t, "line 1999 of a text", 20));
    tt_send(&t, "\r");
    assert_read(wanted);
    assert_true(t.all_n > m); /* all of it was drawn at the end, so that it can be scrolled back to */
    finish();
}

static void test_longer_than_screen(void **state)
{
    (void)state;
    begin(40, 10);
    tt_send(&t, "\"\"\"0\r1\r2\r3\r4\r5\r6\r7\r8\r9\r10\r11\r12\r13");
    assert_screen("... 4|... 5|... 6|... 7|... 8|... 9|... 10|... 11|... 12|... 13", 6, 9);
    for (int i = 0; i < 11; i++)
        tt_send(&t, "\033[A");
    assert_screen("... 2|... 3|... 4|... 5|... 6|... 7|... 8|... 9|... 10|... 11", 5, 0);
    tt_send(&t, "!");
    assert_screen("... 2!|... 3|... 4|... 5|... 6|... 7|... 8|... 9|... 10|... 11", 6, 0);
    for (int i = 0; i < 11; i++)
        tt_send(&t, "\033[B");
    tt_send(&t, "\"\"\"\r");
    assert_read("\"\"\"0\n1\n2!\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\"\"\"");
    finish();
    /* all of it can be scrolled back to */
    assert_string_equal(tt_row(&t, t.y - 1), "... 13\"\"\"");
    int first = t.above_count - 14 + t.y;
    assert_true(first >= 0);
    assert_string_equal(t.above[first], ">>> \"\"\"0");
    assert_string_equal(t.above[first + 2], "... 2!");
}

static void test_resize(void **state)
{
    (void)state;
    begin(80, 24);
    tt_send(&t, "0123456789012345678901234567890123456789012345678901234567890123456789 end");
    assert_screen(">>> 0123456789012345678901234567890123456789012345678901234567890123456789 end", 78, 0);
    tt_resize(&t, 40, 10);
    assert_screen(">>> 012345678901234567890123456789012345|6789012345678901234567890123456789 end", 38, 1);
    tt_send(&t, "\001");
    assert_screen(">>> 012345678901234567890123456789012345|6789012345678901234567890123456789 end", 4, 0);
    tt_resize(&t, 60, 12);
    assert_screen(">>> 01234567890123456789012345678901234567890123456789012345|67890123456789 end", 4, 0);
    tt_send(&t, "\005");
    assert_screen(">>> 01234567890123456789012345678901234567890123456789012345|67890123456789 end", 18, 1);
    tt_resize(&t, 80, 24);
    assert_screen(">>> 0123456789012345678901234567890123456789012345678901234567890123456789 end", 78, 0);
    tt_send(&t, "\r");
    assert_read("0123456789012345678901234567890123456789012345678901234567890123456789 end");
    finish();
}

/* A window that is hardly one. */
static void test_tiny_window(void **state)
{
    (void)state;
    begin(5, 2);
    tt_send(&t, "abc你");
    assert_screen(">>> a|bc你", 4, 1);
    tt_send(&t, "\001\033[C\033[3~\r");
    assert_read("ac你");
    finish();
}

/* Characters that meet by what is typed or erased between them become one: the cursor stands behind it. */
static void test_meeting(void **state)
{
    (void)state;
    begin(80, 24);
    tt_send(&t, "x\314\201\001\033[3~\314\201b\001"); /* an accent alone, before a letter */
    assert_screen(">>> \314\201b", 4, 0);
    tt_send(&t, "e");
    assert_screen(">>> e\314\201b", 5, 0);
    tt_send(&t, "!\002\002"); /* Ctrl-B twice: over each of them */
    assert_screen(">>> e\314\201!b", 4, 0);
    tt_send(&t, "\005\025🇫🇷\001🇩🇪"); /* a flag is two code points, and so is what is behind it */
    assert_screen(">>> 🇩🇪🇫🇷", 6, 0);
    tt_send(&t, "\r");
    assert_read("🇩🇪🇫🇷");
    finish();
}

/* Where the last row is full and the window's last, nothing is cleared below it: that would scroll. */
static void test_full_window(void **state)
{
    (void)state;
    begin(20, 3);
    tt_send(&t, "0123456789abcdef0123456789abcdefghij0123456789abcdefghij0123456789\001\014");
    assert_screen(">>> 0123456789abcdef|0123456789abcdefghij|0123456789abcdefghij", 4, 0);
    tt_send(&t, "\033[3~x");
    assert_screen(">>> x123456789abcdef|0123456789abcdefghij|0123456789abcdefghij", 5, 0);
    tt_send(&t, "\r");
    assert_read("x123456789abcdef0123456789abcdefghij0123456789abcdefghij0123456789");
    finish();
}

/* F1 of Linux's console is "ESC [ [ A". */
static void test_console_keys(void **state)
{
    (void)state;
    begin(80, 24);
    tt_send(&t, "a\033[[Ab");
    assert_screen(">>> ab", 6, 0);
    tt_send(&t, "\r");
    assert_read("ab");
    finish();
}

/* ---- history ---- */

static void test_history(void **state)
{
    (void)state;
    static char path[400];
    snprintf(path, sizeof path, "%s", nb_folder_path("deep/down/history"));
    begin_with(80, 24, (program){.history = path, .texts = 3});
    tt_send(&t, "first\r");
    assert_read("first");
    tt_send(&t, "two\\\033\rlines\r");
    assert_read("two\\\nlines");
    tt_send(&t, "two\\\033\rlines\r"); /* the same again */
    assert_read("two\\\nlines");
    finish();
    begin_with(80, 24, (program){.history = path, .texts = 2, .forgets = true});
    tt_send(&t, "draft\033[A");
    assert_screen(">>> two\\|... lines", 9, 1);
    tt_send(&t, "\033[A\033[A");
    assert_screen(">>> first", 9, 0);
    tt_send(&t, "\033[A\016\016"); /* no further; Ctrl-N back to the draft */
    assert_screen(">>> draft", 9, 0);
    tt_send(&t, "\020\020!\r"); /* Ctrl-P; what was is edited, not changed */
    assert_read("first!");
    tt_send(&t, "\020\020\r");
    assert_read("first");
    finish();
    FILE *file = fopen(path, "r");
    char text[200] = "";
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    assert_string_equal(text, "first\ntwo\\\\\\nlines\n"); /* what came with .forgets is not in it */
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("good\nba\033[2Jd\n", file); /* what would steer the terminal is left out */
    assert_int_equal(fclose(file), 0);
    begin_with(80, 24, (program){.history = path});
    tt_send(&t, "\033[A");
    assert_screen(">>> good", 8, 0);
    tt_send(&t, "\r");
    assert_read("good");
    finish();
    remove(path);
    rmdir(nb_folder_path("deep/down"));
    rmdir(nb_folder_path("deep"));
}

/* ---- what no person types ---- */

static void test_hostile_bytes(void **state)
{
    (void)state;
    begin(80, 24);
    tt_send(&t, "a\377\300\257b\302\302x\355\240\200c"); /* bytes that are no UTF-8, one a surrogate */
    tt_send(&t, "\033[99999999;99999999;1;2;3~\033[?u\033Oz\033zd\302\205e");
    tt_send(&t, "\033[200"); /* a sequence that ends in mid-air */
    assert_true(tt_shows(&t, ">>> abxc", 10) || tt_shows(&t, ">>> abx", 1));
    tt_send(&t, "\r");
    nb_line_end end;
    const char *text = result(&end);
    for (const char *p = text; *p; p++)
        assert_true((unsigned char)*p >= 0x20);
    assert_int_equal(text[0], 'a');
    assert_non_null(strstr(text, "de"));
    finish();
}

static void test_hang_up(void **state)
{
    (void)state;
    nb_line_end end;
    begin(80, 24);
    tt_send(&t, "unsent");
    assert_screen(">>> unsent", 10, 0);
    signal(SIGHUP, SIG_IGN);
    close(t.fd); /* SIGHUP ends it */
    int status;
    assert_int_equal(waitpid(t.child, &status, 0), t.child);
    assert_true(WIFSIGNALED(status) || WIFEXITED(status));
    close(results);
    (void)end;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_wide),
        cmocka_unit_test(test_emoji),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_paste),
        cmocka_unit_test(test_long_paste),
        cmocka_unit_test(test_longer_than_screen),
        cmocka_unit_test(test_meeting),
        cmocka_unit_test(test_full_window),
        cmocka_unit_test(test_console_keys),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_tiny_window),
        cmocka_unit_test_setup_teardown(test_history, nb_folder_make, nb_folder_remove),
        cmocka_unit_test(test_hostile_bytes),
        cmocka_unit_test(test_hang_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
