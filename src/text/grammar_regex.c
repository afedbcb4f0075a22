/* grammar_regex.c - ECMAScript's regular expressions as automata. Source: ECMA-262, 22.2.1, with the u flag where it makes
 * a difference (code points, \p), and the leniency of annex B for braces that are no quantifiers. */
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "text/grammar_regular.h"
#include "text/utf8.h"

enum { NESTING = 200, TIMES = 20000, RANGES = 4096, PROPERTIES = 16 };

typedef struct range {
    uint32_t low, high;
} range;

typedef struct ranges {
    range *at; /* [RANGES] */
    size_t count;
} ranges;

typedef struct parser {
    nb_str text;
    size_t p;
    nb_regular r;
    nb_error *err;
    int depth, properties;
} parser;

static nb_status fail(const parser *x, size_t at, nb_status code, const char *what)
{
    return nb_fail(x->err, code, "pattern \"%.*s\", byte %zu: %s", NB_STR_ARG(x->text), at, what);
}

static int peek(const parser *x) { return x->p < x->text.n ? (unsigned char)x->text.p[x->p] : -1; }
static int peek_at(const parser *x, size_t n) { return n < x->text.n - x->p ? (unsigned char)x->text.p[x->p + n] : -1; }
static bool is_digit(int c) { return c >= '0' && c <= '9'; }

static bool take(parser *x, const char *what)
{
    nb_str rest = {x->text.p + x->p, x->text.n - x->p};
    if (!nb_str_starts(rest, nb_str_of(what)))
        return false;
    x->p += strlen(what);
    return true;
}

/* ---- sets of characters ---- */

static nb_status add_range(parser *x, ranges *set, uint32_t low, uint32_t high)
{
    if (set->count > 0 && set->at[set->count - 1].high + 1 == low) {
        set->at[set->count - 1].high = high;
        return NB_OK;
    }
    if (set->count == RANGES)
        return fail(x, x->p, NB_ERR_LIMIT, "too many characters and ranges between brackets");
    set->at[set->count++] = (range){low, high};
    return NB_OK;
}

static int by_low(const void *a, const void *b)
{
    uint32_t x = ((const range *)a)->low, y = ((const range *)b)->low;
    return x < y ? -1 : x > y;
}

/* All characters that are not in the set from `first` on. */
static void invert(ranges *set, size_t first)
{
    uint32_t low = 0;
    size_t kept = first;
    bool all = false;
    qsort(set->at + first, set->count - first, sizeof *set->at, by_low);
    for (size_t i = first; i < set->count; i++) {
        range r = set->at[i];
        if (all || r.high < low)
            continue;
        if (r.low > low)
            set->at[kept++] = (range){low, r.low - 1};
        low = r.high + 1;
        all = r.high >= NB_CHAR_LAST;
    }
    set->count = kept;
    if (!all && kept < RANGES)
        set->at[set->count++] = (range){low, NB_CHAR_LAST};
}

/* \d \w \s and their opposites; false: it is none of them */
static bool add_escape_class(parser *x, ranges *set, int c, nb_status *status)
{
    static const range digit[] = {{'0', '9'}}, word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                       space[] = {{9, 13},          {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680},
                                  {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                                  {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    int low = c | 0x20;
    const range *from = low == 'd' ? digit : low == 'w' ? word : space;
    size_t n = low == 'd' ? 1 : low == 'w' ? 4 : 10, first = set->count;
    if (low != 'd' && low != 'w' && low != 's')
        return false;
    if (set->count + n + 1 > RANGES) {
        *status = fail(x, x->p, NB_ERR_LIMIT, "too many characters and ranges between brackets");
        return true;
    }
    memcpy(set->at + set->count, from, n * sizeof *from);
    set->count += n;
    if (c != low)
        invert(set, first);
    return true;
}

/* \p{L}, \p{Lu}, \p{Letter} and the like, behind the p */
static nb_status add_property(parser *x, ranges *set, bool other)
{
    static const struct {
        const char *name, *code;
    } longer[] = {{"Letter", "L"},
                  {"Mark", "M"},
                  {"Number", "N"},
                  {"Punctuation", "P"},
                  {"Symbol", "S"},
                  {"Separator", "Z"},
                  {"Uppercase_Letter", "Lu"},
                  {"Lowercase_Letter", "Ll"},
                  {"Decimal_Number", "Nd"}};
    const char *open = x->text.p + x->p, *end = memchr(open, '}', x->text.n - x->p);
    if (peek(x) != '{' || !end || ++x->properties > PROPERTIES)
        return fail(x, x->p, NB_ERR_UNSUPPORTED, "a property that is not of the form \\p{L}, or too many of them");
    nb_str name = {open + 1, (size_t)(end - open) - 1};
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++)
        if (nb_str_eqz(name, longer[i].name))
            name = nb_str_of(longer[i].code);
    if (name.n < 1 || name.n > 2 || !memchr("LMNPSZC", name.p[0], 7))
        return fail(x, x->p, NB_ERR_UNSUPPORTED,
                    "of properties, the general categories are known: \\p{L}, \\p{Lu}, \\p{Nd}");
    bool seen = false, inside = false;
    for (uint32_t cp = 0; cp <= NB_CHAR_LAST; cp++) {
        const char *category = utf8proc_category_string((utf8proc_int32_t)cp);
        bool in = (category[0] == name.p[0] && (name.n == 1 || category[1] == name.p[1])) != other;
        if (in && !inside)
            NB_TRY(add_range(x, set, cp, cp));
        else if (in)
            set->at[set->count - 1].high = cp;
        seen |= in;
        inside = in;
    }
    x->p += (size_t)(end - open) + 1;
    return seen ? NB_OK : fail(x, x->p, NB_ERR_UNSUPPORTED, "a property that no character has");
}

static nb_status read_hex(parser *x, int digits, uint32_t *out)
{
    *out = 0;
    for (int i = 0; digits ? i < digits : peek(x) != '}'; i++, x->p++) {
        int c = peek(x), low = c | 0x20;
        if ((!is_digit(c) && (low < 'a' || low > 'f')) || *out > NB_CHAR_LAST)
            return fail(x, x->p, NB_ERR_ARGUMENT, "a hexadecimal digit should be here, and the character should exist");
        *out = *out << 4 | (uint32_t)(is_digit(c) ? c - '0' : low - 'a' + 10);
    }
    return *out <= NB_CHAR_LAST ? NB_OK : fail(x, x->p, NB_ERR_ARGUMENT, "there is no such character");
}

static nb_status read_unicode(parser *x, uint32_t *out)
{
    uint32_t second;
    if (take(x, "{")) {
        NB_TRY(read_hex(x, 0, out));
        x->p++;
        return NB_OK;
    }
    NB_TRY(read_hex(x, 4, out));
    if (*out >= 0xD800 && *out <= 0xDBFF && take(x, "\\u")) {
        NB_TRY(read_hex(x, 4, &second));
        if (second < 0xDC00 || second > 0xDFFF)
            return fail(x, x->p, NB_ERR_UNSUPPORTED, "half of a pair is no character");
        *out = 0x10000 + ((*out - 0xD800) << 10) + (second - 0xDC00);
    }
    return NB_OK;
}

static nb_status read_char(parser *x, uint32_t *out)
{
    size_t n = nb_utf8_decode((const unsigned char *)x->text.p + x->p, x->text.n - x->p, out);
    x->p += n;
    return n ? NB_OK : fail(x, x->p, NB_ERR_ARGUMENT, "a byte that is not UTF-8");
}

/* The character behind a backslash. */
static nb_status read_escape(parser *x, bool in_class, uint32_t *out)
{
    static const char names[] = "tnvfr", values[] = "\t\n\v\f\r";
    size_t at = x->p;
    int c = peek(x);
    x->p++;
    const char *known = c > 0 ? memchr(names, c, 5) : NULL;
    *out = known ? (unsigned char)values[known - names] : (uint32_t)c;
    if (known)
        return NB_OK;
    if (c == 'x')
        return read_hex(x, 2, out);
    if (c == 'u')
        return read_unicode(x, out);
    if (c == '0' && !is_digit(peek(x))) {
        *out = 0;
        return NB_OK;
    }
    if (c == 'b' && in_class) {
        *out = 8;
        return NB_OK;
    }
    if (c == 'c' && ((peek(x) | 0x20) >= 'a' && (peek(x) | 0x20) <= 'z')) {
        *out = (uint32_t)(x->text.p[x->p++] & 31);
        return NB_OK;
    }
    if (c == 'b' || c == 'B')
        return fail(x, at, NB_ERR_UNSUPPORTED,
                    "word boundaries (\\b) are not supported: write out what may stand there");
    if (is_digit(c) || c == 'k')
        return fail(x, at, NB_ERR_UNSUPPORTED, "references back to a group are not supported");
    if (c < 0 || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
        return fail(x, at, NB_ERR_ARGUMENT, "an unknown escape");
    if (c < 0x80)
        return NB_OK;
    x->p--;
    return read_char(x, out);
}

/* One member of brackets; *single: it is one character, which a range may begin or end with. */
static nb_status read_member(parser *x, ranges *set, uint32_t *c, bool *single)
{
    nb_status status = NB_OK;
    *single = false;
    if (!take(x, "\\")) {
        *single = true;
        return read_char(x, c);
    }
    int next = peek(x);
    if (add_escape_class(x, set, next, &status)) {
        x->p++;
        return status;
    }
    if (next == 'p' || next == 'P') {
        x->p++;
        return add_property(x, set, next == 'P');
    }
    *single = true;
    return read_escape(x, true, c);
}

static nb_status read_brackets(parser *x, ranges *set)
{
    size_t begin = x->p++;
    bool other = take(x, "^"), single, last;
    uint32_t low = 0, high = 0;
    while (peek(x) != ']') {
        if (peek(x) < 0)
            return fail(x, begin, NB_ERR_ARGUMENT, "a '[' without ']'");
        NB_TRY(read_member(x, set, &low, &single));
        if (peek(x) == '-' && peek_at(x, 1) != ']' && peek_at(x, 1) >= 0) {
            x->p++;
            NB_TRY(read_member(x, set, &high, &last));
            if (!single || !last || high < low)
                return fail(x, begin, NB_ERR_ARGUMENT, "a range between brackets that is none");
            NB_TRY(add_range(x, set, low, high));
        } else if (single) {
            NB_TRY(add_range(x, set, low, low));
        }
    }
    x->p++;
    if (other)
        invert(set, 0);
    return NB_OK;
}

/* ---- what is made of them ---- */

static nb_status read_alternatives(parser *x, uint32_t from, uint32_t to);

static nb_status read_group(parser *x, uint32_t from, uint32_t to)
{
    size_t begin = x->p++;
    if (take(x, "?")) {
        if (peek(x) == '=' || peek(x) == '!' || (peek(x) == '<' && (peek_at(x, 1) == '=' || peek_at(x, 1) == '!')))
            return fail(x, begin, NB_ERR_UNSUPPORTED, "looking ahead or behind is not supported");
        if (take(x, "<")) {
            while (peek(x) >= 0 && peek(x) != '>')
                x->p++;
            x->p += peek(x) == '>';
        } else if (!take(x, ":")) {
            return fail(x, begin, NB_ERR_UNSUPPORTED, "an unknown kind of group");
        }
    }
    if (x->depth == NESTING)
        return fail(x, begin, NB_ERR_LIMIT, "groups within groups too deep");
    x->depth++;
    NB_TRY(read_alternatives(x, from, to));
    x->depth--;
    return take(x, ")") ? NB_OK : fail(x, begin, NB_ERR_ARGUMENT, "a '(' without ')'");
}

static nb_status read_set(parser *x, ranges *set)
{
    nb_status status = NB_OK;
    uint32_t c = 0;
    if (peek(x) == '[')
        return read_brackets(x, set);
    if (take(x, ".")) {
        static const range lines[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
        memcpy(set->at, lines, sizeof lines);
        set->count = 3;
        invert(set, 0);
        return NB_OK;
    }
    if (!take(x, "\\")) {
        NB_TRY(read_char(x, &c));
    } else if (add_escape_class(x, set, peek(x), &status)) {
        x->p++;
        return status;
    } else if (peek(x) == 'p' || peek(x) == 'P') {
        x->p++;
        return add_property(x, set, x->text.p[x->p - 1] == 'P');
    } else {
        NB_TRY(read_escape(x, false, &c));
    }
    return add_range(x, set, c, c);
}

static nb_status read_atom(parser *x, uint32_t from, uint32_t to)
{
    if (peek(x) == '(')
        return read_group(x, from, to);
    range at[RANGES];
    ranges set = {at, 0};
    NB_TRY(read_set(x, &set));
    for (size_t i = 0; i < set.count; i++)
        nb_regular_chars(&x->r, from, to, set.at[i].low, set.at[i].high);
    return x->r.status;
}

/* {m}, {m,}, {m,n} at the cursor; false, and nothing read, when the brace is no quantifier. */
static bool read_braces(parser *x, uint32_t *least, uint32_t *most)
{
    uint32_t bound[2] = {0, UINT32_MAX};
    size_t n = 1;
    if (peek(x) != '{' || !is_digit(peek_at(x, 1)))
        return false;
    for (int i = 0; i < 2; i++) {
        uint64_t value = 0;
        bool some = is_digit(peek_at(x, n));
        for (; is_digit(peek_at(x, n)); n++)
            value = value > TIMES ? value : 10 * value + (uint64_t)(peek_at(x, n) - '0');
        if (some)
            bound[i] = (uint32_t)(value > TIMES ? TIMES + 1 : value);
        if (i == 0 && peek_at(x, n) == '}')
            bound[1] = bound[0];
        if (peek_at(x, n) != ',' || i == 1)
            break;
        n++;
    }
    if (peek_at(x, n) != '}')
        return false;
    x->p += n + 1;
    *least = bound[0];
    *most = bound[1];
    return true;
}

/* The atom at `begin` again, so that there are from least to most of it between from and to; one was read already. */
static nb_status repeat(parser *x, size_t begin, uint32_t least, uint32_t most, uint32_t from, uint32_t to)
{
    size_t behind = x->p;
    uint32_t at = from, copies = most == UINT32_MAX ? least + 1 : most;
    if (most < least || (most != UINT32_MAX && most > TIMES) || least > TIMES)
        return fail(x, begin, NB_ERR_LIMIT, "a number of repetitions that is too large, or the wrong way round");
    for (uint32_t i = 0; i < copies && x->r.status == NB_OK; i++) {
        uint32_t next = nb_regular_state(&x->r);
        bool loop = most == UINT32_MAX && i == least;
        if (i >= least)
            nb_regular_empty(&x->r, at, to);
        x->p = begin;
        NB_TRY(read_atom(x, at, loop ? at : next));
        at = loop ? at : next;
    }
    nb_regular_empty(&x->r, at, to);
    x->p = behind;
    return x->r.status;
}

static nb_status read_term(parser *x, uint32_t from, uint32_t *to)
{
    size_t begin = x->p;
    uint32_t least = 1, most = 1, first = nb_regular_state(&x->r);
    if (peek(x) == '*' || peek(x) == '+' || peek(x) == '?')
        return fail(x, begin, NB_ERR_ARGUMENT, "there is nothing to repeat");
    *to = nb_regular_state(&x->r);
    size_t edges = x->r.edge_count, states = x->r.state_count;
    nb_regular_empty(&x->r, from, first); /* a loop on `first` stays apart from what came before */
    NB_TRY(read_atom(x, first, *to));
    if (take(x, "*")) {
        least = 0;
        most = UINT32_MAX;
    } else if (take(x, "+")) {
        most = UINT32_MAX;
    } else if (take(x, "?")) {
        least = 0;
    } else if (!read_braces(x, &least, &most)) {
        return x->r.status;
    }
    x->r.edge_count = edges + 1; /* it is read again, as often as it is asked for */
    x->r.state_count = (uint32_t)states;
    NB_TRY(repeat(x, begin, least, most, first, *to));
    if (!take(x, "?")) /* lazy or not, it is the same set of texts */
        return x->r.status;
    return x->r.status;
}

static nb_status read_sequence(parser *x, uint32_t from, uint32_t to)
{
    for (int c; (c = peek(x)) >= 0 && c != '|' && c != ')';) {
        uint32_t next = 0;
        if (c == '^' || c == '$') {
            x->p++;
            next = nb_regular_state(&x->r);
            nb_regular_assert(&x->r, from, next, c == '$');
        } else {
            NB_TRY(read_term(x, from, &next));
        }
        from = next;
    }
    nb_regular_empty(&x->r, from, to);
    return x->r.status;
}

static nb_status read_alternatives(parser *x, uint32_t from, uint32_t to)
{
    NB_TRY(read_sequence(x, from, to));
    while (take(x, "|"))
        NB_TRY(read_sequence(x, from, to));
    return NB_OK;
}

nb_status nb_regex_dfa(nb_str pattern, nb_arena *arena, nb_dfa **out, nb_error *err)
{
    parser x = {.text = pattern, .err = err, .r = {.err = err}};
    uint32_t start = nb_regular_state(&x.r), open = nb_regular_state(&x.r);
    *out = NULL;
    nb_regular_chars(&x.r, start, start, 0, NB_CHAR_LAST); /* found anywhere */
    uint32_t from = nb_regular_state(&x.r), to = nb_regular_state(&x.r);
    nb_regular_empty(&x.r, start, from);
    nb_status status = read_alternatives(&x, from, to);
    if (status == NB_OK && x.p < pattern.n)
        status = fail(&x, x.p, NB_ERR_ARGUMENT, "a ')' without '('");
    nb_regular_empty(&x.r, to, open);
    if (status == NB_OK)
        status = nb_regular_dfa(&x.r, start, to, open, arena, out);
    nb_regular_free(&x.r);
    return status;
}
