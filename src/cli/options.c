#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/command.h"

enum { GO_ON = -1, HELP_COLUMN = 28 };

typedef struct parser {
    const char *command;
    const nb_option *options;
    int argc;
    char **argv;
    int at;   /* the argument being read */
    int kept; /* arguments left for the command */
} parser;

/* ---- help ---- */

/* prints text in the column that starts at HELP_COLUMN, broken at spaces */
static void print_wrapped(const char *text, int width)
{
    int room = width - HELP_COLUMN < 20 ? 20 : width - HELP_COLUMN, used = 0;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (used > 0 && used + 1 + word > room) {
            printf("\n%*s", HELP_COLUMN, "");
            used = 0;
        }
        used += printf("%s%.*s", used ? " " : "", word, text);
        text += word;
        text += strspn(text, " ");
    }
    putchar('\n');
}

static void print_option(const nb_option *o, int width)
{
    char head[128], letter[8] = "    ";
    if (o->letter)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    const char *before = !o->value ? "" : o->kind == NB_OPTION_MAYBE ? "[=" : " ";
    snprintf(head, sizeof head, "  %s--%s%s%s%s", letter, o->name, before, o->value ? o->value : "",
             o->kind == NB_OPTION_MAYBE ? "]" : "");
    if (strlen(head) + 2 > HELP_COLUMN)
        printf("%s\n%*s", head, HELP_COLUMN, "");
    else
        printf("%-*s", HELP_COLUMN, head);
    print_wrapped(o->help, width);
}

static int print_help(const parser *p)
{
    const nb_command *command = nb_command_find(p->command);
    int width = nb_stdout_is_terminal() ? nb_terminal_width() : 100;
    printf("usage: nibble %s [OPTIONS]%s%s\n", p->command, command && *command->arguments ? " " : "",
           command ? command->arguments : "");
    if (command)
        printf("%s\n", command->summary);
    printf("\noptions:\n");
    for (const nb_option *o = p->options; *o->name; o++)
        print_option(o, width);
    print_option(&(nb_option){.name = "help", .letter = 'h', .help = "print this help"}, width);
    return NB_EXIT_OK;
}

/* ---- values ---- */

static bool parse_i64(const char *text, int64_t low, int64_t high, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text) || value < low || value > high)
        return false;
    *out = value;
    return true;
}

static bool parse_u64(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || !isdigit((unsigned char)*text))
        return false;
    *out = value;
    return true;
}

static bool parse_float(const char *text, float *out)
{
    char *end;
    errno = 0;
    float value = strtof(text, &end);
    if (end == text || *end || isspace((unsigned char)*text) || !isfinite(value))
        return false;
    *out = value;
    return true;
}

static bool add_to_list(nb_option_list *list, const char *value)
{
    const char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items)
        return false;
    list->items = items;
    items[list->count++] = value;
    return true;
}

/* stores a value; NULL on success, else what was wanted */
static const char *store(const nb_option *o, const char *value)
{
    int64_t i64;
    switch (o->kind) {
    case NB_OPTION_FLAG: *(bool *)o->to = true; return NULL;
    case NB_OPTION_INT:
        if (!parse_i64(value, INT_MIN, INT_MAX, &i64))
            return "a whole number";
        *(int *)o->to = (int)i64;
        return NULL;
    case NB_OPTION_I64: return parse_i64(value, INT64_MIN, INT64_MAX, o->to) ? NULL : "a whole number";
    case NB_OPTION_U64: return parse_u64(value, o->to) ? NULL : "a whole number from 0";
    case NB_OPTION_FLOAT: return parse_float(value, o->to) ? NULL : "a number";
    case NB_OPTION_STRING: *(const char **)o->to = value; return NULL;
    case NB_OPTION_MAYBE: *(const char **)o->to = value ? value : ""; return NULL;
    case NB_OPTION_LIST: return add_to_list(o->to, value) ? NULL : "more memory than there is";
    }
    return "another kind";
}

static int store_or_complain(const parser *p, const nb_option *o, const char *value)
{
    const char *wanted = store(o, value);
    return wanted ? nb_report_usage(p->command, "option --%s wants %s, not '%s'", o->name, wanted, value) : GO_ON;
}

/* ---- names ---- */

static const nb_option *find_name(const nb_option *options, const char *name, size_t length)
{
    for (const nb_option *o = options; *o->name; o++)
        if (strlen(o->name) == length && memcmp(o->name, name, length) == 0)
            return o;
    return NULL;
}

static const nb_option *find_letter(const nb_option *options, char letter)
{
    for (const nb_option *o = options; *o->name; o++)
        if (letter && o->letter == letter)
            return o;
    return NULL;
}

/* the flag that --no-NAME turns off */
static const nb_option *find_negated(const nb_option *options, const char *name, size_t length)
{
    const nb_option *o = length > 3 && memcmp(name, "no-", 3) == 0 ? find_name(options, name + 3, length - 3) : NULL;
    return o && o->kind == NB_OPTION_FLAG ? o : NULL;
}

static int unknown_option(const parser *p, const char *name, size_t length)
{
    char given[64];
    snprintf(given, sizeof given, "%.*s", (int)nb_min_size(length, sizeof given - 1), name);
    nb_nearest nearest = {.given = given};
    for (const nb_option *o = p->options; *o->name; o++)
        nb_nearest_offer(&nearest, o->name);
    nb_nearest_offer(&nearest, "help");
    if (nearest.best)
        return nb_report_usage(p->command, "unknown option '--%s'; did you mean '--%s'?", given, nearest.best);
    return nb_report_usage(p->command, "unknown option '--%s'", given);
}

/* Whether the text is an option of this command: then it is not the value of the option before it. */
static bool is_known_option(const nb_option *options, const char *text)
{
    if (text[0] != '-' || text[1] == '\0')
        return false;
    if (text[1] != '-')
        return text[2] == '\0' && find_letter(options, text[1]);
    size_t length = strcspn(text + 2, "=");
    return length == 0 || find_name(options, text + 2, length) || find_negated(options, text + 2, length);
}

static bool is_number(const char *text)
{
    float ignored;
    return parse_float(text, &ignored);
}

/* ---- arguments ---- */

static int take_next_value(parser *p, const nb_option *o)
{
    if (p->at + 1 >= p->argc)
        return nb_report_usage(p->command, "option --%s needs a value (%s)", o->name, o->value ? o->value : "VALUE");
    const char *value = p->argv[p->at + 1];
    if (!is_number(value) && is_known_option(p->options, value))
        return nb_report_usage(p->command,
                               "option --%s needs a value (%s), but '%s' follows; write --%s=%s if it is meant",
                               o->name, o->value ? o->value : "VALUE", value, o->name, value);
    p->at++;
    return store_or_complain(p, o, value);
}

static int read_long(parser *p, const char *text)
{
    size_t length = strcspn(text, "=");
    const char *value = text[length] == '=' ? text + length + 1 : NULL;
    const nb_option *o = find_name(p->options, text, length);
    if (!o) {
        if (length == 4 && memcmp(text, "help", 4) == 0)
            return print_help(p);
        if (!(o = find_negated(p->options, text, length)))
            return unknown_option(p, text, length);
        if (value)
            return nb_report_usage(p->command, "option --no-%s takes no value", o->name);
        *(bool *)o->to = false;
        return GO_ON;
    }
    if (o->kind == NB_OPTION_FLAG && value)
        return nb_report_usage(p->command, "option --%s takes no value", o->name);
    if (o->kind == NB_OPTION_FLAG || o->kind == NB_OPTION_MAYBE || value)
        return store_or_complain(p, o, value);
    return take_next_value(p, o);
}

/* -x, -xVALUE, -x VALUE, and flags together: -ab */
static int read_letters(parser *p, const char *text)
{
    for (; *text; text++) {
        const nb_option *o = find_letter(p->options, *text);
        if (!o && *text == 'h')
            return print_help(p);
        if (!o)
            return nb_report_usage(p->command, "unknown option '-%c'", *text);
        if (o->kind != NB_OPTION_FLAG)
            return text[1] ? store_or_complain(p, o, text + 1) : take_next_value(p, o);
        store(o, NULL);
    }
    return GO_ON;
}

void nb_options_free(const nb_option *options)
{
    for (; options->name[0]; options++)
        if (options->kind == NB_OPTION_LIST) {
            nb_option_list *list = options->to;
            free(list->items);
            *list = (nb_option_list){0};
        }
}

int nb_options_parse(const char *command, const nb_option *options, int *argc, char **argv)
{
    parser p = {command, options, *argc, argv, 1, 1};
    for (; p.at < p.argc; p.at++) {
        char *text = argv[p.at];
        int code = GO_ON;
        if (strcmp(text, "--") == 0) {
            while (++p.at < p.argc)
                argv[p.kept++] = argv[p.at];
            break;
        }
        if (text[0] != '-' || text[1] == '\0' || is_number(text))
            argv[p.kept++] = text;
        else
            code = text[1] == '-' ? read_long(&p, text + 2) : read_letters(&p, text + 1);
        if (code != GO_ON) {
            nb_options_free(options);
            return code;
        }
    }
    argv[p.kept] = NULL;
    *argc = p.kept;
    return GO_ON;
}
