#include "text/gotemplate_lexer.h"

#include <stdio.h>

#include "text/gotemplate_text.h"
#include "text/jinja_text.h"

static const nb_str LEFT = {"{{", 2}, RIGHT = {"}}", 2};

nb_go_lexer nb_go_lex_begin(nb_str source) { return (nb_go_lexer){.source = source, .line = 1, .start_line = 1}; }

static nb_str rest(const nb_go_lexer *l, size_t at)
{
    return at < l->source.n ? (nb_str){l->source.p + at, l->source.n - at} : NB_STR("");
}

static bool is_space(int c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* the byte at `at`, -1 at the end */
static int byte_at(const nb_go_lexer *l, size_t at) { return at < l->source.n ? (unsigned char)l->source.p[at] : -1; }

/* Moves to `at`, counting lines. */
static void move_to(nb_go_lexer *l, size_t at)
{
    for (const char *p = l->source.p + l->at, *end = l->source.p + at;
         p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL; p++)
        l->line++;
    l->at = at;
}

static void ignore(nb_go_lexer *l)
{
    l->start = l->at;
    l->start_line = l->line;
}

static nb_go_token emit(nb_go_lexer *l, nb_go_token_kind kind)
{
    nb_go_token t = {kind, l->start_line, {l->source.p + l->start, l->at - l->start}};
    ignore(l);
    return t;
}

/* An error ends the text: nothing is read after it. */
static nb_go_token bad(nb_go_lexer *l, const char *what, nb_str of)
{
    int shown = (int)nb_min_size(of.n, 40);
    snprintf(l->error, sizeof l->error, "%s%s%.*s", what, of.n ? ": " : "", shown, of.p);
    nb_go_token t = {NB_GO_T_ERROR, l->start_line, nb_str_of(l->error)};
    l->at = l->start = l->source.n;
    l->inside = false;
    return t;
}

static bool trims_left(nb_str s) { return s.n >= 2 && s.p[0] == '-' && is_space((unsigned char)s.p[1]); }

/* Is there a closing delimiter, and does it trim? */
static bool at_right(const nb_go_lexer *l, size_t at, bool *trims)
{
    nb_str s = rest(l, at);
    *trims = s.n >= 2 && is_space((unsigned char)s.p[0]) && s.p[1] == '-' && nb_str_starts(rest(l, at + 2), RIGHT);
    return *trims || nb_str_starts(s, RIGHT);
}

/* Past a closing delimiter that at_right found, and the space it trims. */
static void skip_right(nb_go_lexer *l, bool trims)
{
    size_t at = l->at + (trims ? 2 : 0) + RIGHT.n;
    while (trims && is_space(byte_at(l, at)))
        at++;
    move_to(l, at);
}

/* A comment whose delimiter and trim marker have been read; NULL, or what is wrong. */
static const char *skip_comment(nb_go_lexer *l)
{
    size_t end = nb_jfind(rest(l, l->at + 2), NB_STR("*/"), 0);
    bool trims;
    if (end == SIZE_MAX)
        return "unclosed comment";
    move_to(l, l->at + 2 + end + 2);
    if (!at_right(l, l->at, &trims))
        return "comment ends before closing delimiter";
    skip_right(l, trims);
    ignore(l);
    return NULL;
}

/* Text up to the next action, then its opening delimiter; comments are skipped. */
static nb_go_token lex_outside(nb_go_lexer *l)
{
    for (;;) {
        size_t length = nb_jfind(rest(l, l->at), LEFT, 0);
        if (length == SIZE_MAX) {
            move_to(l, l->source.n);
            return emit(l, l->at > l->start ? NB_GO_T_TEXT : NB_GO_T_END_OF_FILE);
        }
        size_t delimiter = l->at + length, end = delimiter;
        bool trims = trims_left(rest(l, delimiter + LEFT.n));
        while (trims && end > l->at && is_space(byte_at(l, end - 1)))
            end--;
        if (end > l->at) {
            move_to(l, end);
            return emit(l, NB_GO_T_TEXT);
        }
        move_to(l, delimiter);
        ignore(l);
        move_to(l, delimiter + LEFT.n);
        size_t after = l->at + (trims ? 2 : 0);
        if (!nb_str_starts(rest(l, after), NB_STR("/*"))) {
            nb_go_token t = emit(l, NB_GO_T_LEFT);
            move_to(l, after);
            ignore(l);
            l->inside = true;
            l->parens = 0;
            return t;
        }
        move_to(l, after);
        ignore(l);
        const char *wrong = skip_comment(l);
        if (wrong)
            return bad(l, wrong, NB_STR(""));
    }
}

/* May an identifier end here? */
static bool at_end_of_word(const nb_go_lexer *l)
{
    int c = byte_at(l, l->at);
    return c == -1 || is_space(c) || (c && strchr(".,|:)(", c)) || nb_str_starts(rest(l, l->at), RIGHT);
}

static void skip_word(nb_go_lexer *l)
{
    bool valid;
    for (size_t next = l->at; next < l->source.n; l->at = next)
        if (!nb_go_is_letter_or_digit(nb_go_next_char(l->source, &next, &valid)))
            return;
}

static nb_go_token bad_character(nb_go_lexer *l)
{
    bool valid;
    size_t next = l->at;
    nb_go_next_char(l->source, &next, &valid);
    return bad(l, "bad character", (nb_str){l->source.p + l->at, next - l->at});
}

static nb_go_token_kind keyword(nb_str word)
{
    static const struct {
        const char *name;
        nb_go_token_kind kind;
    } words[] = {{"block", NB_GO_T_BLOCK},
                 {"break", NB_GO_T_BREAK},
                 {"continue", NB_GO_T_CONTINUE},
                 {"define", NB_GO_T_DEFINE},
                 {"else", NB_GO_T_ELSE},
                 {"end", NB_GO_T_END},
                 {"if", NB_GO_T_IF},
                 {"nil", NB_GO_T_NIL},
                 {"range", NB_GO_T_RANGE},
                 {"with", NB_GO_T_WITH},
                 {"true", NB_GO_T_BOOL},
                 {"false", NB_GO_T_BOOL},
                 {"template", NB_GO_T_TEMPLATE}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (nb_str_eqz(word, words[i].name))
            return words[i].kind;
    return NB_GO_T_IDENTIFIER;
}

static nb_go_token lex_word(nb_go_lexer *l)
{
    skip_word(l);
    if (!at_end_of_word(l))
        return bad_character(l);
    return emit(l, keyword((nb_str){l->source.p + l->start, l->at - l->start}));
}

/* .X or $x, whose first character has been read */
static nb_go_token lex_name(nb_go_lexer *l, nb_go_token_kind kind)
{
    if (at_end_of_word(l))
        return emit(l, kind == NB_GO_T_FIELD ? NB_GO_T_DOT : kind);
    skip_word(l);
    return at_end_of_word(l) ? emit(l, kind) : bad_character(l);
}

static nb_go_token lex_space(nb_go_lexer *l)
{
    size_t at = l->at;
    bool trims;
    while (is_space(byte_at(l, at)))
        at++;
    if (at_right(l, at - 1, &trims) && trims) { /* the last space belongs to " -}}" */
        if (at - 1 == l->at) {
            move_to(l, at - 1);
            ignore(l);
            skip_right(l, true);
            l->inside = false;
            return emit(l, NB_GO_T_RIGHT);
        }
        at--;
    }
    move_to(l, at);
    return emit(l, NB_GO_T_SPACE);
}

/* "..." or '...', whose quote has been read */
static nb_go_token lex_quoted(nb_go_lexer *l, char quote)
{
    for (size_t at = l->at; at < l->source.n && l->source.p[at] != '\n'; at++) {
        if (l->source.p[at] == quote) {
            l->at = at + 1;
            return emit(l, quote == '"' ? NB_GO_T_STRING : NB_GO_T_CHAR);
        }
        if (l->source.p[at] == '\\' && byte_at(l, ++at) == '\n')
            break;
    }
    return bad(l, quote == '"' ? "unterminated quoted string" : "unterminated character constant", NB_STR(""));
}

static nb_go_token lex_raw(nb_go_lexer *l)
{
    size_t length = nb_jfind(rest(l, l->at), NB_STR("`"), 0);
    if (length == SIZE_MAX)
        return bad(l, "unterminated raw quoted string", NB_STR(""));
    move_to(l, l->at + length + 1);
    return emit(l, NB_GO_T_STRING);
}

static bool accept(nb_go_lexer *l, const char *set)
{
    int c = byte_at(l, l->at);
    if (c <= 0 || !strchr(set, c))
        return false;
    l->at++;
    return true;
}

static void accept_run(nb_go_lexer *l, const char *set)
{
    while (accept(l, set))
        ;
}

/* What looks like a number; whether it is one is seen when it is converted. */
static nb_go_token lex_number(nb_go_lexer *l)
{
    static const char decimal[] = "0123456789_", hex[] = "0123456789abcdefABCDEF_";
    const char *digits = decimal;
    accept(l, "+-");
    if (accept(l, "0"))
        digits = accept(l, "xX") ? hex : accept(l, "oO") ? "01234567_" : accept(l, "bB") ? "01_" : decimal;
    accept_run(l, digits);
    if (accept(l, "."))
        accept_run(l, digits);
    if ((digits == decimal && accept(l, "eE")) || (digits == hex && accept(l, "pP"))) {
        accept(l, "+-");
        accept_run(l, decimal);
    }
    accept(l, "i");
    size_t next = l->at;
    bool valid, word = next < l->source.n && nb_go_is_letter_or_digit(nb_go_next_char(l->source, &next, &valid));
    if (word || accept(l, "+-")) {
        l->at = word ? next : l->at;
        return bad(l, "bad number syntax", (nb_str){l->source.p + l->start, l->at - l->start});
    }
    return emit(l, NB_GO_T_NUMBER);
}

static nb_go_token lex_paren(nb_go_lexer *l, int c)
{
    l->parens += c == '(' ? 1 : -1;
    if (l->parens < 0)
        return bad(l, "unexpected right paren", NB_STR(""));
    return emit(l, c == '(' ? NB_GO_T_OPEN : NB_GO_T_CLOSE);
}

static nb_go_token lex_inside(nb_go_lexer *l)
{
    bool trims, valid;
    if (at_right(l, l->at, &trims)) {
        if (l->parens)
            return bad(l, "unclosed left paren", NB_STR(""));
        skip_right(l, trims);
        l->inside = false;
        return emit(l, NB_GO_T_RIGHT);
    }
    int c = byte_at(l, l->at), after = byte_at(l, l->at + 1);
    if (c == -1)
        return bad(l, "unclosed action", NB_STR(""));
    if (is_space(c))
        return lex_space(l);
    bool digit = (c >= '0' && c <= '9') || (c == '.' && after >= '0' && after <= '9');
    if (digit || c == '+' || c == '-' || (c == '.' && after == -1))
        return lex_number(l);
    size_t next = l->at;
    uint32_t code = nb_go_next_char(l->source, &next, &valid);
    if (nb_go_is_letter_or_digit(code))
        return lex_word(l);
    l->at = next;
    switch (c) {
    case '=': return emit(l, NB_GO_T_ASSIGN);
    case ':': return accept(l, "=") ? emit(l, NB_GO_T_DECLARE) : bad(l, "expected :=", NB_STR(""));
    case '|': return emit(l, NB_GO_T_PIPE);
    case '"':
    case '\'': return lex_quoted(l, (char)c);
    case '`': return lex_raw(l);
    case '$': return lex_name(l, NB_GO_T_VARIABLE);
    case '.': return lex_name(l, NB_GO_T_FIELD);
    case '(':
    case ')': return lex_paren(l, c);
    default: break;
    }
    if (c > ' ' && c < 0x7F)
        return emit(l, NB_GO_T_OTHER);
    return bad(l, "unrecognized character in action", (nb_str){l->source.p + l->start, l->at - l->start});
}

nb_go_token nb_go_lex(nb_go_lexer *l) { return l->inside ? lex_inside(l) : lex_outside(l); }
