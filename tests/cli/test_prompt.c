/* The prompt of `nibble run MODEL` on a terminal: messages, every command, Ctrl-C, a full context, thinking. Tiny models. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/folder.h"
#include "support/gguf_edit.h"
#include "support/terminal.h"

#define PLAIN NB_TEST_DATA "/archs/llama-2-mha.gguf"

static terminal t;
static char store[400], home[400], thinker[400];
static char home_variable[420], store_variable[420];
static char *environment[] = {"PATH=/usr/bin:/bin", "TERM=xterm", home_variable, store_variable, NULL, NULL};

/* Replies of this one begin inside their thinking. */
static void put_thinking(nb_gguf_writer *w, const void *user)
{
    (void)user;
    nb_gguf_put_str(w, "tokenizer.chat_template",
                    NB_STR("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
                           "{% if add_generation_prompt %}[assistant]<think>{% endif %}"));
}

static int make_files(void **state)
{
    if (nb_folder_make(state) != 0)
        return -1;
    snprintf(store, sizeof store, "%s", nb_folder_path("store"));
    snprintf(home, sizeof home, "%s", nb_folder_path("home"));
    snprintf(thinker, sizeof thinker, "%s", nb_folder_path("thinker.gguf"));
    snprintf(home_variable, sizeof home_variable, "HOME=%s", home);
    snprintf(store_variable, sizeof store_variable, "OLLAMA_MODELS=%s", store);
    mkdir(home, 0700);
    return gguf_edit_write(PLAIN, thinker, put_thinking, NULL, NULL) == NB_OK ? 0 : -1;
}

static int remove_files(void **state)
{
    char command[500];
    snprintf(command, sizeof command, "rm -r '%s'", nb_folder);
    (void)state;
    return system(command);
}

/* ---- a session ---- */

static void begin_at(int columns, int rows, const char *model, const char *const *options)
{
    char *argv[24] = {(char *)NB_TEST_BINARY, "run", "--no-server", "-t", "2", (char *)(uintptr_t)model};
    for (int i = 6; options && *options; i++, options++)
        argv[i] = (char *)(uintptr_t)*options;
    tt_start(&t, columns, rows, NULL, NULL, argv, environment);
}

#define BEGIN(model, ...) begin_at(80, 24, model, (const char *const[]){__VA_ARGS__, NULL})

static void see(const char *text)
{
    if (!tt_shows(&t, text, 20)) {
        tt_dump(&t);
        fail_msg("the screen does not show '%s'", text);
    }
}

static void see_prompt(void)
{
    for (double end = tt_now() + 20;;) {
        if (strcmp(tt_row(&t, t.y), ">>> Send a message (/? for help)") == 0 && t.x == 4)
            return;
        tt_read(&t, 20);
        if (tt_now() > end) {
            tt_dump(&t);
            fail_msg("there is no prompt");
        }
    }
}

/* Enters a line and waits for the next prompt. The screen is clear but for what came of it. */
static void enter(const char *line)
{
    see_prompt();
    tt_send(&t, "\014");
    tt_send(&t, line);
    for (double end = tt_now() + 20; strncmp(tt_row(&t, 0), ">>> ", 4) != 0 || tt_row(&t, 0)[4] != line[0];) {
        assert_true(tt_now() < end);
        tt_read(&t, 20);
    }
    tt_send(&t, "\r");
    see_prompt(); /* the one above has a text now */
}

static void end_session(void)
{
    see_prompt();
    tt_send(&t, "/bye\r");
    assert_int_equal(tt_end(&t), 0);
}

/* What another run of the program prints. */
static const char *output(const char *arguments)
{
    static char text[16384];
    char command[1500];
    snprintf(command, sizeof command, "%s %s OLLAMA_HOST=127.0.0.1:1 TERM=xterm '%s' %s </dev/null 2>&1", home_variable,
             store_variable, NB_TEST_BINARY, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    text[fread(text, 1, sizeof text - 1, pipe)] = 0;
    pclose(pipe);
    return text;
}

/* ---- messages ---- */

static void strip_spaces(const char *from, char *to)
{
    for (; *from; from++)
        if ((unsigned char)*from > 0x20 && *from != 0x7f && *from != '?') /* control characters are shown as ? */
            *to++ = *from;
    *to = 0;
}

/* The reply on the screen, between the message and the next prompt, is the one that a pipe gets; broken to fit. */
static void check_reply(int columns, int rows)
{
    static const char *const options[] = {"--temp", "0", "-n", "24", "--ignore-eos", NULL};
    static char shown[1 << 14], wanted[1 << 14], text[1 << 14];
    size_t n = 0;
    snprintf(text, sizeof text, "%s", output("run " PLAIN " Once --temp 0 -n 24 --ignore-eos"));
    strip_spaces(text, wanted);
    begin_at(columns, rows, PLAIN, options);
    see_prompt();
    tt_send(&t, "Once");
    see(">>> Once");
    tt_send(&t, "\r");
    see_prompt();
    for (int i = 0; i < t.above_count; i++)
        n += (size_t)sprintf(text + n, "%s\n", t.above[i]);
    for (int y = 0; y < t.y; y++) {
        assert_true(strncmp(tt_row(&t, y), ">>> ", 4) == 0 || t.cell[y][columns - 1][0] == 0);
        n += (size_t)sprintf(text + n, "%s\n", tt_row(&t, y));
    }
    const char *reply = strstr(text, ">>> Once\n");
    assert_non_null(reply);
    strip_spaces(reply + 9, shown);
    assert_string_equal(shown, wanted);
    end_session();
}

static void test_replies(void **state)
{
    (void)state;
    check_reply(80, 24);
    check_reply(40, 10);
}

/* As Ctrl-S and Ctrl-Q do; lets a while go by. */
static void hold_output(bool on)
{
    int fd = open(ptsname(t.fd), O_RDWR | O_NOCTTY);
    assert_true(fd >= 0);
    usleep(on ? 0 : 100000);
    assert_int_equal(tcflow(fd, on ? TCOOFF : TCOON), 0);
    usleep(on ? 100000 : 0);
    close(fd);
}

/* Ctrl-C ends a reply that would take minutes, and nothing else. */
static void test_stop(void **state)
{
    (void)state;
    BEGIN(PLAIN, "--ignore-eos", "--ctx", "300000", "--allow-long-context");
    see_prompt();
    for (int i = 0; i < 3; i++) {
        size_t before = t.all_n;
        tt_send(&t, "Once upon a time\r");
        for (double end = tt_now() + 20; t.all_n < before + 600 && tt_now() < end;)
            tt_read(&t, 20);
        assert_true(t.all_n >= before + 600);
        if (i == 2)
            hold_output(true);                     /* it is in the middle of writing, then */
        tt_send(&t, i == 1 ? "\003\003" : "\003"); /* once too often does no harm */
        if (i == 2)
            hold_output(false);
        see_prompt();
        while (tt_read(&t, 100))
            ;
    }
    tt_send(&t, "\003");
    see("Use Ctrl-D or /bye to leave.");
    see_prompt();
    tt_send(&t, "\004");
    assert_int_equal(tt_end(&t), 0);
}

/* ---- stopped and continued ---- */

/* What a shell does: the program is a job, and when it stops the terminal has to be as it was. */
static int shell(void *arguments)
{
    char **argv = arguments;
    struct termios before, after;
    int status = 0;
    signal(SIGTTOU, SIG_IGN);
    tcgetattr(0, &before);
    pid_t job = fork();
    if (job == 0) {
        setpgid(0, 0);
        tcsetpgrp(0, getpid());
        signal(SIGTTOU, SIG_DFL);
        execve(argv[0], argv, environment);
        _exit(127);
    }
    setpgid(job, job);
    while (waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status)) {
        tcsetpgrp(0, getpgrp());
        tcgetattr(0, &after);
        if (after.c_lflag != before.c_lflag || after.c_iflag != before.c_iflag)
            return 99;
        printf("\n[stopped]\n");
        fflush(stdout);
        tcsetpgrp(0, job);
        kill(-job, SIGCONT);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

static void wait_for_bytes(size_t more)
{
    size_t before = t.all_n;
    for (double end = tt_now() + 20; t.all_n < before + more && tt_now() < end;)
        tt_read(&t, 20);
    assert_true(t.all_n >= before + more);
}

static void test_suspend(void **state)
{
    (void)state;
    char *argv[] = {(char *)NB_TEST_BINARY, "run", "--no-server", "-t", "2", PLAIN, "--ignore-eos", "--ctx", "300000",
                    "--allow-long-context", NULL};
    tt_start(&t, 80, 24, shell, argv, NULL, NULL);
    see_prompt();
    tt_send(&t, "Once upon");
    see(">>> Once upon");
    tt_send(&t, "\032"); /* Ctrl-Z: the text is there again */
    see("[stopped]");
    see(">>> Once upon");
    tt_send(&t, " a time\r");
    wait_for_bytes(600);
    tt_send(&t, "\014\032"); /* in the middle of a reply */
    wait_for_bytes(600);
    assert_non_null(strstr(strstr(t.all, "[stopped]") + 1, "[stopped]"));
    tt_send(&t, "\003");
    see_prompt();
    while (tt_read(&t, 100))
        ;
    assert_null(strstr(t.all, "^C")); /* nothing is echoed: the terminal is the prompt's again */
    see_prompt();
    kill(tcgetpgrp(t.fd), SIGTSTP); /* by somebody else, while a key is waited for */
    see("[stopped]");
    see_prompt();
    end_session();
}

static void test_full_context(void **state)
{
    (void)state;
    BEGIN(PLAIN, "--ctx", "16", "--ignore-eos", "--temp", "0");
    enter("Once upon a time");
    see("the context of 16 tokens is full");
    enter("and then they went on and on until nothing was left to be told of them");
    see("left out");
    see("/set parameter num_ctx");
    enter("/set parameter num_ctx 64");
    enter("/clear");
    enter("Once");
    see("the context of 64 tokens is full");
    end_session();
}

static void test_thinking(void **state)
{
    (void)state;
    BEGIN(thinker, "-n", "12", "--ignore-eos", "--temp", "0");
    enter("Hm");
    see("Thinking...");
    see("...done thinking.");
    assert_non_null(strstr(t.all, "\033[2mThinking..."));
    end_session();
    BEGIN(thinker, "-n", "12", "--ignore-eos", "--hidethinking");
    enter("Hm");
    end_session();
    assert_null(strstr(t.all, "hinking"));
    BEGIN(thinker, "--ignore-eos", "--ctx", "300000", "--allow-long-context"); /* stopped while it thinks */
    see_prompt();
    tt_send(&t, "Hm\r");
    wait_for_bytes(600);
    tt_send(&t, "\003");
    see("...done thinking.");
    see_prompt();
    const char *dim = strstr(t.all, "\033[2m"), *done = strstr(t.all, "...done thinking.\033[0m");
    assert_true(dim && done && dim < done && !strstr(done, "\033[2m"));
    end_session();
    BEGIN(PLAIN, "-n", "4");
    enter("/set think");
    see("does not support thinking");
    enter("/set think perhaps");
    see("it is low, medium or high");
    end_session();
    BEGIN(thinker, "-n", "4");
    enter("/set think high");
    see("Set 'think' mode to 'high'.");
    enter("/set nothink");
    see("Set 'nothink' mode.");
    end_session();
}

/* ---- commands ---- */

static void test_help(void **state)
{
    (void)state;
    BEGIN(PLAIN, "-n", "4");
    enter("/?");
    see("/load MODEL");
    see("several lines");
    enter("/help set");
    see("/set system TEXT");
    enter("/? /show");
    see("/show modelfile");
    enter("/? shortcuts");
    see("Alt-Enter");
    enter("/set");
    see("/set parameter NAME VALUE");
    enter("/show");
    see("/show license");
    enter("/set parameter");
    see("temperature");
    enter("/frob x");
    see("Unknown command '/frob'. Type /? for help");
    enter("/set frob");
    see("Unknown command '/set frob'. Type /? for help");
    enter("/show frob");
    see("Unknown command '/show frob'. Type /? for help");
    end_session();
}

static void test_show(void **state)
{
    (void)state;
    BEGIN(thinker, "-n", "4");
    enter("/show info");
    see("    architecture        llama");
    see("    context length      512");
    enter("/show license");
    see("No license was specified for this model.");
    enter("/show modelfile");
    see("FROM ");
    enter("/show parameters");
    see("Parameters of the model:");
    see("num_predict");
    enter("/show template");
    see("{% for m in messages %}");
    enter("/show system");
    see("No system message was specified for this model.");
    enter("/set system You are \"terse\".");
    see("Set system message.");
    enter("/show system");
    see("You are \"terse\".");
    end_session();
}

static void test_set(void **state)
{
    (void)state;
    BEGIN(PLAIN, "--ignore-eos", "-n", "9");
    enter("/set verbose");
    see("Set 'verbose' mode.");
    enter("Once");
    see("eval count:           9 token(s)");
    enter("/set parameter num_predict 3");
    see("Set parameter 'num_predict' to '3'");
    enter("Once");
    see("eval count:           3 token(s)");
    enter("/set parameter stop one \"two\"");
    see("Set parameter 'stop' to 'one, \"two\"'");
    enter("/show parameters");
    see("num_predict                    3");
    enter("/set quiet");
    see("Set 'quiet' mode.");
    enter("Once");
    for (int y = 0; y < t.rows; y++)
        assert_null(strstr(tt_row(&t, y), "eval count"));
    enter("/set parameter temperature warm");
    see("temperature has the invalid float value 'warm'");
    enter("/set parameter num_ctx 1.5");
    see("num_ctx has the invalid int value '1.5'");
    enter("/set parameter top_k 1 2");
    see("'top_k' wants one value, not 2");
    enter("/set parameter frob 1");
    see("unknown parameter 'frob'");
    enter("/set nowordwrap");
    see("Set 'nowordwrap' mode.");
    enter("/set wordwrap");
    see("Set 'wordwrap' mode.");
    enter("/set format xml");
    see("'/set format json'");
    enter("/set format json");
    see("Set format to 'json' mode.");
    enter("/set parameter num_predict 40");
    enter("Once");
    bool object = false;
    for (int y = 0; y < t.rows; y++)
        object |= tt_row(&t, y)[0] == '{';
    assert_true(object);
    enter("/set noformat");
    see("Disabled format.");
    end_session();
}

/* A session is kept as a model, whose modelfile says all of it, and talked to again. */
static void test_save_and_load(void **state)
{
    (void)state;
    BEGIN(thinker, "-n", "6", "--ignore-eos", "--hidethinking");
    enter("/save");
    see("/save MODEL");
    enter("/load");
    see("/load MODEL");
    enter("/load 127.0.0.1:1/a/missing");
    see("not found here");
    enter("/save no/such/name/at:all/");
    see("error:");
    enter("/set system \"\"\"Two\033\rlines.\"\"\"");
    enter("/set parameter temperature 0");
    enter("/set parameter stop END");
    enter("Hello");
    enter("/save mine");
    see("Created new model 'mine'");
    end_session();
    const char *text = output("show mine --modelfile");
    const char *const parts[] = {"SYSTEM \"Two\nlines.\"", "PARAMETER temperature 0", "PARAMETER num_predict 6",
                                 "PARAMETER stop END",     "MESSAGE user Hello\n",    "MESSAGE assistant"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(text, parts[i]))
            fail_msg("%s is not in %s", parts[i], text);
    BEGIN(PLAIN, "-n", "4");
    enter("/load mine");
    see("Loading model 'mine'");
    see(">>> Hello");
    enter("/show system");
    see("lines.");
    enter("again");
    enter("/save other");
    end_session();
    text = output("show other --modelfile");
    assert_non_null(strstr(text, "MESSAGE user Hello\n"));
    assert_non_null(strstr(text, "MESSAGE user again\n"));
    assert_non_null(strstr(output("list"), "other:latest"));
}

/* ---- history ---- */

static void test_history(void **state)
{
    (void)state;
    BEGIN(PLAIN, "-n", "2");
    enter("/set quiet");
    enter("/set nohistory");
    see("What is entered is not kept.");
    enter("/set verbose");
    enter("/set history");
    enter("/set wordwrap");
    end_session();
    BEGIN(PLAIN, "-n", "2");
    see_prompt();
    tt_send(&t, "\033[A");
    see(">>> /bye");
    tt_send(&t, "\033[A");
    see(">>> /set wordwrap");
    tt_send(&t, "\033[A");
    see(">>> /set nohistory"); /* which was entered before it held; what came after it was not kept */
    tt_send(&t, "\025");
    end_session();
    environment[4] = "OLLAMA_NOHISTORY=1";
    BEGIN(PLAIN, "-n", "2");
    see_prompt();
    tt_send(&t, "\033[Ax");
    see(">>> x");
    tt_send(&t, "\025");
    end_session();
    environment[4] = NULL;
}

/* ---- terminals that are none ---- */

static void test_dumb(void **state)
{
    (void)state;
    environment[1] = "TERM=dumb";
    BEGIN(PLAIN, "-n", "4", "--temp", "0");
    see(">>>");
    tt_send(&t, "\"\"\"Once\n");
    see("...");
    tt_send(&t, "upon\"\"\"\n/set verbose\n");
    see("Set 'verbose' mode.");
    tt_send(&t, "\003");
    see("Use Ctrl-D or /bye to leave.");
    kill(t.child, SIGSTOP);
    kill(t.child, SIGCONT);
    tt_send(&t, "/?\n");
    see("/bye");
    tt_send(&t, "\004");
    assert_int_equal(tt_end(&t), 0);
    assert_null(strchr(t.all, '\033'));
    environment[1] = "TERM=xterm";
}

/* Keys come from a terminal, and both outputs go into files: nothing that places a cursor is in them. */
static void test_no_screen(void **state)
{
    (void)state;
    static char command[1500], out[450], err[450], text[4096];
    snprintf(out, sizeof out, "%s", nb_folder_path("out"));
    snprintf(err, sizeof err, "%s", nb_folder_path("err"));
    snprintf(command, sizeof command, "exec '%s' run --no-server -t 2 -n 4 --ignore-eos " PLAIN " >'%s' 2>'%s'",
             NB_TEST_BINARY, out, err);
    char *argv[] = {"/bin/sh", "-c", command, NULL};
    tt_start(&t, 80, 24, NULL, NULL, argv, environment);
    tt_send(&t, "Once\n/bye\n");
    assert_int_equal(tt_end(&t), 0);
    const char *const files[] = {out, err};
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(files[i], "r");
        assert_non_null(file);
        text[fread(text, 1, sizeof text - 1, file)] = 0;
        fclose(file);
        assert_null(strchr(text, '\033'));
        assert_true(strlen(text) > 4);
    }
}

static void test_start_that_fails(void **state)
{
    (void)state;
    begin_at(80, 24, "127.0.0.1:1/a/nothing", NULL);
    see("model '127.0.0.1:1/a/nothing' not found here");
    assert_int_equal(tt_end(&t), 1);
    begin_at(80, 24, PLAIN, (const char *const[]){"--ctx", "4096", NULL});
    see("--allow-long-context");
    assert_int_equal(tt_end(&t), 1);
}

/* All that is and was on the screen, in one line, spaces squeezed: words that a line broke show as two. */
static const char *in_one_line(void)
{
    static char all[1 << 15];
    size_t n = 0;
    for (int y = -t.above_count; y < t.rows; y++) {
        const char *row = y < 0 ? t.above[y + t.above_count] : tt_row(&t, y);
        for (const char *p = row; *p && n < sizeof all - 2; p++)
            if (*p != ' ' || (n > 0 && all[n - 1] != ' '))
                all[n++] = *p;
        if (n > 0 && all[n - 1] != ' ')
            all[n++] = ' ';
    }
    all[n] = 0;
    return all;
}

static void see_whole(const char *text)
{
    for (double end = tt_now() + 20; !strstr(in_one_line(), text); tt_read(&t, 20))
        if (tt_now() > end) {
            tt_dump(&t);
            fail_msg("in no line: %s", text);
        }
}

/* Notes and errors break at words; what a terminal 40 columns wide would cut in two is whole on the next line. */
static void test_narrow(void **state)
{
    (void)state;
    begin_at(40, 10, PLAIN, (const char *const[]){"-n", "4", NULL});
    enter("/set frobnicate");
    see_whole("Unknown command '/set frobnicate'. Type /? for help ");
    enter("/? set");
    see_whole(
        "/set parameter NAME VALUE a parameter: temperature, num_ctx ... (/set parameter lists them) /set system ");
    enter("/? shortcuts");
    see_whole("Ctrl-K, Ctrl-U erase what is behind, before the cursor in the line ");
    end_session();
    begin_at(40, 10, "127.0.0.1:1/a/nothing", NULL);
    see_whole("nibble: error: model '127.0.0.1:1/a/nothing' not found here, and it cannot be pulled: ");
    assert_int_equal(tt_end(&t), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_narrow),       cmocka_unit_test(test_replies),
        cmocka_unit_test(test_stop),         cmocka_unit_test(test_suspend),
        cmocka_unit_test(test_full_context), cmocka_unit_test(test_thinking),
        cmocka_unit_test(test_help),         cmocka_unit_test(test_show),
        cmocka_unit_test(test_set),          cmocka_unit_test(test_save_and_load),
        cmocka_unit_test(test_history),      cmocka_unit_test(test_dumb),
        cmocka_unit_test(test_no_screen),    cmocka_unit_test(test_start_that_fails),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
