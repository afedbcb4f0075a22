#define _GNU_SOURCE
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/env.h"
#include "cli/cli.h"
#include "cli/text_width.h"

/* ---- messages ---- */

/* Messages quote files and arguments: what would steer the terminal is shown as '?'. */
static void print_safely(nb_str text)
{
    for (size_t i = 0; i < text.n; i++) {
        const unsigned char *p = (const unsigned char *)text.p + i;
        bool c1 = *p == 0xc2 && i + 1 < text.n && p[1] >= 0x80 && p[1] < 0xa0;
        i += c1;
        fputc(c1 || (*p < 0x20 && *p != '\t') || *p == 0x7f ? '?' : *p, stderr);
    }
}

static size_t count_of(nb_str text, bool spaces)
{
    size_t n = 0;
    while (n < text.n && (text.p[n] == ' ') == spaces)
        n++;
    return n;
}

/* One message, its first character at `column`: on a terminal broken at words; what goes on from an indented line is further in. */
static void print_message(nb_str text, int column)
{
    size_t indent = count_of(text, true);
    indent += indent ? 2 : 0;
    int room = nb_stderr_is_terminal() ? nb_terminal_width() - 1 : INT_MAX;
    for (bool first = true; text.n > 0; first = false) {
        nb_str gap = {text.p, count_of(text, true)}, word = {text.p + gap.n, 0};
        word.n = count_of((nb_str){word.p, text.n - gap.n}, false);
        int width = nb_text_width(word);
        if (!first && width > 0 && width + (int)gap.n > room - column) {
            fprintf(stderr, "\n%*s", (int)indent, "");
            column = (int)indent;
        } else {
            print_safely(gap);
            column += (int)gap.n;
        }
        print_safely(word);
        column += width;
        text = (nb_str){word.p + word.n, text.n - gap.n - word.n};
    }
    fputc('\n', stderr);
}

static void print_error(const char *message)
{
    bool color = nb_color_wanted(nb_stderr_is_terminal());
    fflush(stdout); /* so that both streams keep their order on a terminal */
    fprintf(stderr, "nibble: %serror:%s ", color ? "\033[1;31m" : "", color ? "\033[0m" : "");
    print_message(nb_str_of(message), (int)strlen("nibble: error: "));
}

int nb_report_error(const nb_error *err)
{
    print_error(err->message);
    return NB_EXIT_FAILED;
}

int nb_report_usage(const char *command, const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    print_error(message);
    if (command)
        fprintf(stderr, "'nibble %s --help' lists its options.\n", command);
    else
        fprintf(stderr, "'nibble help' lists the commands.\n");
    return NB_EXIT_USAGE;
}

void nb_note(const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fflush(stdout);
    print_message(nb_str_of(message), 0);
}

nb_status nb_print_json(nb_buf *json, nb_error *err)
{
    nb_status status = json->failed ? nb_fail_memory(err, "the JSON", json->len) : NB_OK;
    if (status == NB_OK)
        printf("%s\n", json->data);
    nb_buf_free(json);
    return status;
}

/* ---- the terminal ---- */

bool nb_stdout_is_terminal(void) { return isatty(STDOUT_FILENO); }
bool nb_stderr_is_terminal(void) { return isatty(STDERR_FILENO); }

static bool is_dumb(void)
{
    const char *term = getenv("TERM");
    return term && strcmp(term, "dumb") == 0;
}

bool nb_live_wanted(void) { return nb_stderr_is_terminal() && !is_dumb(); }
bool nb_color_wanted(bool terminal) { return terminal && !nb_env_text("NO_COLOR") && !is_dumb(); }

int nb_terminal_width(void)
{
    struct winsize size;
    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
        if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
            return size.ws_col;
    return 80;
}

bool nb_stdout_closed(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};
    return poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP));
}

/* ---- units ---- */

void nb_format_bytes(uint64_t bytes, char text[24])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 999.5; unit++)
        value /= 1000;
    int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(text, 24, "%.*f %s", decimals, value, units[unit]);
}

void nb_format_seconds(double seconds, char text[24])
{
    double s = seconds > 0 ? seconds : 0;
    if (s < 0.9995)
        snprintf(text, 24, "%.0f ms", s * 1000);
    else if (s < 59.95)
        snprintf(text, 24, "%.*f s", s < 9.995 ? 2 : 1, s);
    else if (s < 3599.5)
        snprintf(text, 24, "%d min %02d s", (int)(s + 0.5) / 60, (int)(s + 0.5) % 60);
    else if (s < 3.6e9)
        snprintf(text, 24, "%d h %02d min", (int)((s + 30) / 3600), (int)((s + 30) / 60) % 60);
    else
        snprintf(text, 24, "forever");
}

/* ---- Ctrl-C ---- */

enum { PATIENCE = 3 };
static atomic_int interrupts; /* that nobody asked for yet */
static atomic_bool patient;
static atomic_llong last_interrupt; /* ns */
static atomic_bool is_dim;

void nb_terminal_dim(bool on)
{
    atomic_store(&is_dim, on);
    fputs(on ? "\033[2m" : "\033[0m", stdout);
}

static bool is_enough(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long ns = now.tv_sec * 1000000000LL + now.tv_nsec, before = atomic_exchange(&last_interrupt, ns);
    if (atomic_load(&patient))
        return atomic_load(&interrupts) + 1 >= PATIENCE;
    return before && ns - before < 1000000000LL;
}

static void on_interrupt(int signal_number)
{
    if (is_enough()) {
        static const char plain[] = "\033[0m\n";
        ssize_t ignored = atomic_load(&is_dim) ? write(STDOUT_FILENO, plain, sizeof plain - 1) : 0;
        (void)ignored;
        if (atomic_load(&patient))
            raise(SIGTERM); /* whose handler gives the terminal back */
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
    atomic_fetch_add(&interrupts, 1);
}

void nb_interrupt_watch(void)
{
    /* a write that is going on goes on: stdio would lose its text and call the stream broken */
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    atomic_store(&last_interrupt, 0);
    sigaction(SIGINT, &action, NULL);
}

void nb_interrupt_watch_patiently(void)
{
    nb_interrupt_watch();
    atomic_store(&patient, true);
}

bool nb_interrupted(void) { return atomic_exchange(&interrupts, 0) > 0; }
