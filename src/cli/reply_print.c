#include "cli/reply_print.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cli/cli.h"

static const double patience = 0.4; /* seconds before a sign of life */

void nb_reply_print_begin(nb_reply_print *p, bool word_wrap, bool hide_thinking)
{
    *p = (nb_reply_print){.terminal = nb_stdout_is_terminal(), .hide_thinking = hide_thinking, .began = nb_seconds()};
    p->color = nb_color_wanted(p->terminal);
    p->wrap.width = word_wrap && p->terminal ? nb_terminal_width() : 0;
}

void nb_reply_print_wait(nb_reply_print *p)
{
    static const char *const frames[] = {"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"};
    double waited = nb_seconds() - p->began;
    if (!p->terminal || !p->color || !nb_stderr_is_terminal() || p->content.len + p->thinking.len || waited < patience)
        return;
    fprintf(stderr, "\r%s \033[K", frames[(int)(waited * 10) % 10]);
    fflush(stderr);
    p->waits = true;
}

static void end_wait(nb_reply_print *p)
{
    if (p->waits)
        fputs("\r\033[K", stderr);
    p->waits = false;
}

static void put(nb_reply_print *p, nb_str text)
{
    nb_buf_clear(&p->out);
    if (p->wrap.width)
        p->wrap.width = nb_terminal_width(); /* the window may have changed */
    if (p->terminal)
        nb_wrap_add(&p->wrap, text, &p->out);
    else
        nb_buf_str(&p->out, text);
    if (fwrite(p->out.data, 1, p->out.len, stdout) != p->out.len || fflush(stdout) != 0 || p->out.failed)
        p->failed = true;
}

static bool ends_line(const nb_buf *b) { return b->len == 0 || b->data[b->len - 1] == '\n'; }

static void end_thinking(nb_reply_print *p)
{
    if (!ends_line(&p->thinking))
        putchar('\n');
    printf("...done thinking.");
    if (p->color)
        nb_terminal_dim(false);
    printf("\n\n");
    p->is_thinking = false;
    nb_wrap_reset(&p->wrap);
}

void nb_reply_print_said(nb_reply_print *p, bool thinking, nb_str text)
{
    end_wait(p);
    if (thinking && !p->hide_thinking && !p->is_thinking) {
        if (p->color)
            nb_terminal_dim(true);
        printf("Thinking...\n");
        p->is_thinking = p->thought = true;
    }
    nb_buf_str(thinking ? &p->thinking : &p->content, text);
    if (!thinking && p->is_thinking)
        end_thinking(p);
    while (!thinking && p->thought && !p->talks && text.n && (text.p[0] == '\n' || text.p[0] == ' '))
        text = (nb_str){text.p + 1, text.n - 1};
    p->talks |= !thinking && text.n;
    if (!thinking || !p->hide_thinking)
        put(p, text);
}

void nb_reply_print_end(nb_reply_print *p)
{
    end_wait(p);
    if (p->is_thinking)
        end_thinking(p);
    else if (!ends_line(&p->content))
        putchar('\n');
    fflush(stdout);
}

void nb_reply_print_free(nb_reply_print *p)
{
    nb_wrap_free(&p->wrap);
    nb_buf_free(&p->out);
    nb_buf_free(&p->content);
    nb_buf_free(&p->thinking);
}
