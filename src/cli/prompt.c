#define _GNU_SOURCE
#include "cli/prompt.h"

#include <ctype.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/env.h"
#include "cli/cli.h"
#include "cli/line_edit.h"
#include "cli/models.h"
#include "store/options.h"

enum { WORDS = 32 };

typedef struct prompt {
    nb_chat *chat;
    nb_line_edit *edit; /* NULL: the terminal cannot place a cursor, or shows nothing of ours */
    nb_buf plain;       /* what was read without it */
    bool over;
} prompt;

/* A command's words, terminated in a copy of its line; `rest` is where the third one begins, to the end of the text. */
typedef struct command {
    char *copy;
    const char *word[WORDS];
    size_t count;
    nb_str rest;
} command;

static void help(void)
{
    nb_note("Commands:");
    nb_note("  /set             what this session goes by: /? set");
    nb_note("  /show            what the model is: /? show");
    nb_note("  /load MODEL      talk to another model");
    nb_note("  /save MODEL      keep this session as a model of that name");
    nb_note("  /clear           forget what was said");
    nb_note("  /bye             leave");
    nb_note("  /? shortcuts     keys that edit");
    nb_note("Begin with \"\"\" for a message of several lines, and end it with \"\"\".");
}

static void help_set(void)
{
    nb_note("Commands:");
    nb_note("  /set parameter NAME VALUE   a parameter: temperature, num_ctx ... (/set parameter lists them)");
    nb_note("  /set system TEXT            the system message; \"\"\" for several lines");
    nb_note("  /set history, nohistory     whether what is entered is kept for later sessions");
    nb_note("  /set wordwrap, nowordwrap   whether replies are broken at words");
    nb_note("  /set format json, noformat  whether replies are JSON");
    nb_note("  /set verbose, quiet         whether counts and rates follow a reply");
    nb_note("  /set think, nothink         whether the model thinks first (think low, medium, high)");
}

static void help_show(void)
{
    nb_note("Commands:");
    nb_note("  /show info         what the model is and can do");
    nb_note("  /show license      its license");
    nb_note("  /show modelfile    the Modelfile that makes it");
    nb_note("  /show parameters   its parameters, and those set here");
    nb_note("  /show system       the system message");
    nb_note("  /show template     its chat template");
}

static void help_keys(void)
{
    nb_note("Keys:");
    nb_note("  Ctrl-A, Home     to the beginning of the line");
    nb_note("  Ctrl-E, End      to its end");
    nb_note("  Alt-B, Alt-F     a word back, a word on");
    nb_note("  Ctrl-K, Ctrl-U   erase what is behind, before the cursor in the line");
    nb_note("  Ctrl-W           erase the word before the cursor");
    nb_note("  Up, Down         lines of the message, then earlier ones");
    nb_note("  Alt-Enter        a new line in the message");
    nb_note("  Ctrl-L           clear the screen");
    nb_note("  Ctrl-C           stop the reply");
    nb_note("  Ctrl-D           leave");
}

static void help_parameters(void)
{
    static const char *const names[] = {
#define NB_OPTION(name, kind, fallback) #name,
#define NB_OPTION_NOTHING(name)
#include "store/options.def"
#undef NB_OPTION
#undef NB_OPTION_NOTHING
    };
    nb_note("/set parameter NAME VALUE..., one of:");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        nb_note("  %s", names[i]);
}

static void help_about(const command *k)
{
    const char *about = k->count > 1 ? k->word[1] : "";
    about += *about == '/';
    if (strcmp(about, "set") == 0)
        help_set();
    else if (strcmp(about, "show") == 0)
        help_show();
    else if (strncmp(about, "shortcut", 8) == 0)
        help_keys();
    else
        help();
}

/* ---- /set ---- */

/* Without the quotes of a text of several lines. */
static nb_str unquote(nb_str s)
{
    if (!nb_str_starts(s, NB_STR("\"\"\"")))
        return s;
    s = (nb_str){s.p + 3, s.n - 3};
    if (s.n >= 3 && memcmp(s.p + s.n - 3, "\"\"\"", 3) == 0)
        s.n -= 3;
    if (s.n && s.p[0] == '\n')
        s = (nb_str){s.p + 1, s.n - 1};
    s.n -= s.n && s.p[s.n - 1] == '\n';
    return s;
}

static nb_status set_system(prompt *p, const command *k, nb_error *err)
{
    nb_str text = unquote(k->rest);
    char *copy = strndup(text.n ? text.p : "", text.n);
    if (!copy)
        return nb_fail_memory(err, "a message", text.n);
    free(p->chat->system);
    p->chat->system = copy;
    nb_note("Set system message.");
    return NB_OK;
}

static bool can_think(nb_talker *t)
{
    json_t *shown = NULL;
    if (nb_talk_show(t, &shown, NULL) != NB_OK)
        return true; /* the model itself will say */
    bool can = nb_models_can(shown, "thinking");
    json_decref(shown);
    return can;
}

static void set_think(prompt *p, const command *k)
{
    const char *level = k->count > 2 ? k->word[2] : "";
    if (*level && strcmp(level, "low") != 0 && strcmp(level, "medium") != 0 && strcmp(level, "high") != 0) {
        nb_note("think %s: it is low, medium or high, or nothing", level);
        return;
    }
    if (!can_think(p->chat->talker)) {
        nb_note("%s does not support thinking", nb_talk_model(p->chat->talker));
        return;
    }
    p->chat->think = 1;
    snprintf(p->chat->think_level, sizeof p->chat->think_level, "%s", level);
    nb_note(*level ? "Set 'think' mode to '%s'." : "Set 'think' mode.", level);
}

static nb_status set_parameter(prompt *p, const command *k, nb_error *err)
{
    nb_buf all = {0};
    if (k->count < 4) {
        help_parameters();
        return NB_OK;
    }
    NB_TRY(nb_chat_set(p->chat, k->word[2], k->word + 3, k->count - 3, err));
    for (size_t i = 3; i < k->count; i++)
        nb_buf_printf(&all, "%s%s", i > 3 ? ", " : "", k->word[i]);
    nb_note("Set parameter '%s' to '%s'", k->word[2], all.data ? all.data : "");
    nb_buf_free(&all);
    return NB_OK;
}

static void set_format(prompt *p, const command *k)
{
    bool json = k->count > 2 && strcmp(k->word[2], "json") == 0;
    if (!json) {
        nb_note("Which format? '/set format json' is the one there is.");
        return;
    }
    json_decref(p->chat->format);
    p->chat->format = json_string("json");
    nb_note("Set format to 'json' mode.");
}

/* The words without an argument. */
static bool set_switch(prompt *p, const char *what)
{
    nb_chat *c = p->chat;
    bool no = strncmp(what, "no", 2) == 0;
    if (strcmp(what + 2 * no, "history") == 0) {
        if (p->edit)
            nb_line_edit_remember(p->edit, !no);
        nb_note(no ? "What is entered is not kept." : "What is entered is kept.");
    } else if (strcmp(what + 2 * no, "wordwrap") == 0) {
        c->word_wrap = !no;
        nb_note("Set '%s' mode.", what);
    } else if (strcmp(what, "verbose") == 0 || strcmp(what, "quiet") == 0) {
        c->verbose = *what == 'v';
        nb_note("Set '%s' mode.", what);
    } else if (strcmp(what, "noformat") == 0) {
        json_decref(c->format);
        c->format = NULL;
        nb_note("Disabled format.");
    } else if (strcmp(what, "nothink") == 0) {
        c->think = 0;
        c->think_level[0] = 0;
        nb_note("Set 'nothink' mode.");
    } else {
        return false;
    }
    return true;
}

static nb_status set(prompt *p, const command *k, nb_error *err)
{
    const char *what = k->count > 1 ? k->word[1] : "";
    if (!*what)
        help_set();
    else if (strcmp(what, "parameter") == 0)
        return set_parameter(p, k, err);
    else if (strcmp(what, "system") == 0 && k->count > 2)
        return set_system(p, k, err);
    else if (strcmp(what, "system") == 0)
        help_set();
    else if (strcmp(what, "think") == 0)
        set_think(p, k);
    else if (strcmp(what, "format") == 0)
        set_format(p, k);
    else if (!set_switch(p, what))
        nb_note("Unknown command '/set %s'. Type /? for help", what);
    return NB_OK;
}

/* ---- /show ---- */

/* Lines as they are, but for what would steer the terminal. */
static void print_lines(const char *indent, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        for (size_t at = 0; at < n || at == 0;) { /* a note is one line of some length at most */
            size_t part = n - at > 900 ? 900 : n - at;
            while (part < n - at && ((unsigned char)text[at + part] & 0xc0) == 0x80)
                part--;
            nb_note("%s%.*s", indent, (int)part, text + at);
            at += part ? part : 1;
        }
        text += n + (text[n] == '\n');
    }
}

static void print_or(const char *text, const char *otherwise) { print_lines("", *text ? text : otherwise); }

static void show_parameters(const prompt *p, const json_t *shown)
{
    const char *key;
    json_t *v;
    nb_note("Parameters of the model:");
    print_lines("  ", *nb_models_text(shown, "parameters") ? nb_models_text(shown, "parameters") : "(none of its own)");
    if (json_object_size(p->chat->options))
        nb_note("Parameters set here:");
    json_object_foreach(p->chat->options, key, v)
    {
        char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        nb_note("  %-30s %s", key, text ? text : "");
        free(text);
    }
}

static nb_status show(prompt *p, const command *k, nb_error *err)
{
    const char *what = k->count > 1 ? k->word[1] : "";
    json_t *shown;
    if (!*what) {
        help_show();
        return NB_OK;
    }
    NB_TRY(nb_talk_show(p->chat->talker, &shown, err));
    nb_status status = NB_OK;
    if (strcmp(what, "info") == 0)
        status = nb_models_print_info(shown, false, stderr, err);
    else if (strcmp(what, "license") == 0)
        print_or(nb_models_text(shown, "license"), "No license was specified for this model.");
    else if (strcmp(what, "modelfile") == 0)
        print_or(nb_models_text(shown, "modelfile"), "");
    else if (strcmp(what, "parameters") == 0)
        show_parameters(p, shown);
    else if (strcmp(what, "system") == 0)
        print_or(p->chat->system ? p->chat->system : nb_models_text(shown, "system"),
                 "No system message was specified for this model.");
    else if (strcmp(what, "template") == 0)
        print_or(nb_models_text(shown, "template"), "No prompt template was specified for this model.");
    else
        nb_note("Unknown command '/show %s'. Type /? for help", what);
    json_decref(shown);
    return status;
}

/* ---- /load, /save, /clear ---- */

/* What the model's own messages say has been said. */
static void print_own_messages(const prompt *p)
{
    json_t *shown = NULL, *v;
    size_t i;
    if (nb_talk_show(p->chat->talker, &shown, NULL) != NB_OK)
        return;
    json_array_foreach(json_object_get(shown, "messages"), i, v)
    {
        const char *role = nb_models_text(v, "role");
        if (strcmp(role, "system") != 0)
            print_lines(strcmp(role, "user") == 0 ? ">>> " : "", nb_models_text(v, "content"));
        if (strcmp(role, "assistant") == 0)
            nb_note("%s", "");
    }
    json_decref(shown);
}

static nb_status load(prompt *p, const command *k, nb_error *err)
{
    nb_chat *c = p->chat;
    nb_talker *other, *before = c->talker;
    if (k->count != 2) {
        nb_note("Which one? /load MODEL");
        return NB_OK;
    }
    nb_note("Loading model '%s'", k->word[1]);
    NB_TRY(c->open(c->open_user, k->word[1], &other, err));
    c->talker = other;
    nb_status status = nb_chat_load(c, err);
    if (status != NB_OK) {
        c->talker = before;
        nb_talk_close(other);
        return status;
    }
    nb_talk_close(before);
    nb_chat_forget(c, 0);
    print_own_messages(p);
    return NB_OK;
}

static nb_status save(const prompt *p, const command *k, nb_error *err)
{
    const nb_chat *c = p->chat;
    if (k->count != 2) {
        nb_note("Under which name? /save MODEL");
        return NB_OK;
    }
    nb_talk_save s = {
        .name = k->word[1], .system = c->system, .options = c->options, .messages = c->messages, .count = c->count};
    NB_TRY(nb_talk_save_as(c->talker, &s, err));
    nb_note("Created new model '%s'", k->word[1]);
    return NB_OK;
}

/* ---- commands ---- */

static bool parse(nb_str text, command *k)
{
    *k = (command){.copy = strndup(text.p, text.n)};
    if (!k->copy)
        return false;
    for (char *at = k->copy; k->count < WORDS;) {
        at += strspn(at, " \t\n");
        if (!*at)
            break;
        if (k->count == 2) {
            size_t from = (size_t)(at - k->copy);
            k->rest = (nb_str){text.p + from, text.n - from};
        }
        k->word[k->count++] = at;
        at += strcspn(at, " \t\n");
        if (*at)
            *at++ = 0;
    }
    return true;
}

static nb_status run(prompt *p, const command *k, nb_error *err)
{
    const char *name = k->word[0];
    if (strcmp(name, "/set") == 0)
        return set(p, k, err);
    if (strcmp(name, "/show") == 0)
        return show(p, k, err);
    if (strcmp(name, "/load") == 0)
        return load(p, k, err);
    if (strcmp(name, "/save") == 0)
        return save(p, k, err);
    if (strcmp(name, "/clear") == 0) {
        nb_chat_forget(p->chat, 0);
        nb_note("Cleared session context");
    } else if (strcmp(name, "/bye") == 0 || strcmp(name, "/exit") == 0) {
        p->over = true;
    } else if (strcmp(name, "/?") == 0 || strcmp(name, "/help") == 0) {
        help_about(k);
    } else {
        nb_note("Unknown command '%s'. Type /? for help", name);
    }
    return NB_OK;
}

static nb_status take(prompt *p, nb_str text, nb_error *err)
{
    command k;
    while (text.n && isspace((unsigned char)text.p[text.n - 1]))
        text.n--;
    if (text.n == 0)
        return NB_OK;
    if (text.p[0] != '/') {
        NB_TRY(nb_chat_say(p->chat, unquote(text), err));
        fputc('\n', stderr);
        return NB_OK;
    }
    if (!parse(text, &k))
        return nb_fail_memory(err, "a command", text.n);
    nb_status status = run(p, &k, err);
    free(k.copy);
    return status;
}

/* ---- reading ---- */

/* A text in three quotes that has not ended. */
static bool is_open(nb_str text)
{
    static const char quotes[] = "\"\"\"", system[] = "/set system ";
    if (nb_str_starts(text, NB_STR("/set system ")))
        text = (nb_str){text.p + sizeof system - 1, text.n - sizeof system + 1};
    if (!nb_str_starts(text, NB_STR("\"\"\"")))
        return false;
    while (text.n > 3 && isspace((unsigned char)text.p[text.n - 1]))
        text.n--;
    return text.n < 6 || memcmp(text.p + text.n - 3, quotes, 3) != 0;
}

/* $XDG_STATE_HOME/nibble/history; empty: there is no home. */
static void history_path(nb_buf *path)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state && *state == '/')
        nb_buf_printf(path, "%s/nibble/history", state);
    else if (home && *home)
        nb_buf_printf(path, "%s/.local/state/nibble/history", home);
}

static nb_status open_edit(prompt *p, nb_buf *path, nb_error *err)
{
    const char *term = getenv("TERM");
    int out = isatty(STDOUT_FILENO) ? STDOUT_FILENO : STDERR_FILENO;
    if (!term || !*term || strcmp(term, "dumb") == 0 || !isatty(out))
        return NB_OK;
    bool keep = !nb_env_flag("OLLAMA_NOHISTORY");
    if (keep)
        history_path(path);
    nb_line_edit_params e = {.in = STDIN_FILENO,
                             .out = out,
                             .prompt = ">>> ",
                             .more = "... ",
                             .placeholder = "Send a message (/? for help)",
                             .color = nb_color_wanted(isatty(out)),
                             .history = path->len ? path->data : NULL,
                             .open = is_open};
    NB_TRY(nb_line_edit_new(&e, &p->edit, err));
    nb_line_edit_remember(p->edit, keep);
    return NB_OK;
}

/* False: Ctrl-C came first. Unlike a read, waiting ends on it; and on being stopped for a while. */
static bool wait_for_line(void)
{
    struct pollfd ready = {.fd = STDIN_FILENO, .events = POLLIN};
    sigset_t interrupt, before;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before); /* it comes while ppoll waits, never between the look and the wait */
    bool stopped = nb_interrupted();
    while (!stopped && ppoll(&ready, 1, NULL, &before) < 0)
        stopped = nb_interrupted();
    sigprocmask(SIG_SETMASK, &before, NULL);
    return !stopped;
}

/* Whole lines, as the terminal itself lets them be edited. */
static nb_status read_plain(prompt *p, nb_line_end *end, nb_str *text, nb_error *err)
{
    char *line = NULL;
    size_t cap = 0;
    *end = NB_LINE_ENTERED;
    nb_buf_clear(&p->plain);
    do {
        fputs(p->plain.len ? "... " : ">>> ", stderr);
        bool stopped = !wait_for_line();
        ssize_t n = stopped ? -1 : getline(&line, &cap, stdin);
        if (n < 0) {
            *end = stopped ? NB_LINE_INTERRUPTED : NB_LINE_OVER;
            clearerr(stdin);
            fputc('\n', stderr);
            break;
        }
        nb_buf_add(&p->plain, line, (size_t)n);
    } while (is_open(nb_buf_view(&p->plain)));
    free(line);
    *text = *end == NB_LINE_ENTERED ? nb_buf_view(&p->plain) : NB_STR("");
    return p->plain.failed ? nb_fail_memory(err, "a message", p->plain.len) : NB_OK;
}

static int loop(prompt *p)
{
    nb_error err;
    nb_line_end end;
    nb_str text;
    while (!p->over) {
        if ((p->edit ? nb_line_edit_read(p->edit, &end, &text, &err) : read_plain(p, &end, &text, &err)) != NB_OK)
            return nb_report_error(&err);
        if (end == NB_LINE_OVER)
            break;
        if (end == NB_LINE_INTERRUPTED && text.n == 0)
            nb_note("Use Ctrl-D or /bye to leave.");
        if (end == NB_LINE_ENTERED && take(p, text, &err) != NB_OK)
            nb_report_error(&err);
    }
    return NB_EXIT_OK;
}

int nb_prompt(nb_chat *c)
{
    prompt p = {.chat = c};
    nb_error err;
    nb_buf path = {0};
    c->going_on = true;
    nb_interrupt_watch_patiently();
    int code = open_edit(&p, &path, &err) == NB_OK && nb_chat_load(c, &err) == NB_OK ? NB_EXIT_OK
                                                                                     : nb_report_error(&err);
    if (code == NB_EXIT_OK) {
        print_own_messages(&p);
        code = loop(&p);
    }
    nb_line_edit_free(p.edit);
    nb_buf_free(&path);
    nb_buf_free(&p.plain);
    return code;
}
