#include "text/jinja_lexer.h"

#include <errno.h>
#include <stdlib.h>

/* Deeper brackets than this are no template's. */
#define MAX_BRACKETS 256
/* A longer number is an attack or a mistake: 64-bit integers have 20 digits, doubles 17 that count. */
#define MAX_NUMBER 400

typedef struct lexer {
    nb_arena *arena;
    const char *s;
    size_t n, pos;
    uint32_t line;
    bool line_starting; /* what was consumed last ended with a newline */
    nb_jtoken *tokens;
    size_t count, cap;
    char brackets[MAX_BRACKETS];
    size_t depth;
    nb_error *err;
} lexer;

static nb_status fail(lexer *l, const char *what)
{
    return nb_fail(l->err, NB_ERR_FORMAT, "template line %u: %s", l->line, what);
}

static nb_status push(lexer *l, nb_jtok type, nb_str text)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256;
        nb_jtoken *grown = NB_ARRAY(l->arena, nb_jtoken, cap);
        if (!grown)
            return nb_fail_memory(l->err, "template tokens", cap * sizeof *grown);
        if (l->count)
            memcpy(grown, l->tokens, l->count * sizeof *grown);
        l->tokens = grown;
        l->cap = cap;
    }
    l->tokens[l->count++] = (nb_jtoken){.type = type, .line = l->line, .text = text};
    return NB_OK;
}

static bool at(const lexer *l, size_t pos, const char *z)
{
    size_t n = strlen(z);
    return pos <= l->n && l->n - pos >= n && memcmp(l->s + pos, z, n) == 0;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_word(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static size_t skip_space(const lexer *l, size_t pos)
{
    while (pos < l->n && is_space(l->s[pos]))
        pos++;
    return pos;
}

/* Moves to end and counts the lines passed. */
static void advance(lexer *l, size_t end)
{
    for (size_t i = l->pos; i < end; i++)
        l->line += l->s[i] == '\n';
    if (end > l->pos)
        l->line_starting = l->s[end - 1] == '\n';
    l->pos = end;
}

/* The end of a closing tag at pos (0: there is none): its sign, the bracket, and the whitespace it eats. */
static size_t closing(const lexer *l, size_t pos, const char *bracket, bool plus, bool trim)
{
    if (at(l, pos, bracket)) {
        pos += 2;
        return trim && pos < l->n && l->s[pos] == '\n' ? pos + 1 : pos;
    }
    if (pos < l->n && l->s[pos] == '-' && at(l, pos + 1, bracket))
        return skip_space(l, pos + 3);
    if (plus && pos < l->n && l->s[pos] == '+' && at(l, pos + 1, bracket))
        return pos + 3;
    return 0;
}

/* The text [start, end) before a tag, without what the tag's sign or lstrip_blocks takes from its end. */
static nb_str stripped(const lexer *l, size_t start, size_t end, char sign, bool variable)
{
    const char *s = l->s;
    if (sign == '-') {
        while (end > start && is_space(s[end - 1]))
            end--;
    } else if (sign != '+' && !variable) {
        size_t line = end;
        while (line > start && s[line - 1] != '\n')
            line--;
        bool blank = line < end;
        for (size_t i = line; i < end && blank; i++)
            blank = is_space(s[i]);
        if (blank && (line > start || l->line_starting))
            end = line;
    }
    return (nb_str){s + start, end - start};
}

/* "{%- raw -%}" at pos: where it ends, or 0. */
static size_t raw_begin(const lexer *l, size_t pos)
{
    pos += 2;
    if (pos < l->n && (l->s[pos] == '-' || l->s[pos] == '+'))
        pos++;
    pos = skip_space(l, pos);
    if (!at(l, pos, "raw"))
        return 0;
    return closing(l, skip_space(l, pos + 3), "%}", false, false);
}

static size_t raw_end(const lexer *l, size_t pos)
{
    if (!at(l, pos, "{%"))
        return 0;
    pos += 2;
    if (pos < l->n && (l->s[pos] == '-' || l->s[pos] == '+'))
        pos++;
    pos = skip_space(l, pos);
    if (!at(l, pos, "endraw"))
        return 0;
    return closing(l, skip_space(l, pos + 6), "%}", true, true);
}

static nb_status lex_raw(lexer *l)
{
    size_t start = l->pos;
    for (size_t p = start; p < l->n; p++) {
        size_t end = l->s[p] == '{' ? raw_end(l, p) : 0;
        if (!end)
            continue;
        nb_str text = stripped(l, start, p, l->s[p + 2], false);
        if (text.n)
            NB_TRY(push(l, NB_JT_DATA, text));
        advance(l, end);
        return NB_OK;
    }
    return fail(l, "{% raw %} without {% endraw %}");
}

static nb_status lex_comment(lexer *l)
{
    for (size_t p = l->pos; p < l->n; p++) {
        size_t end = closing(l, p, "#}", true, true);
        if (end) {
            advance(l, end);
            return NB_OK;
        }
    }
    return fail(l, "{# without #}");
}

static size_t digits(const lexer *l, size_t pos, bool (*is)(char))
{
    while (pos < l->n && (is(l->s[pos]) || (l->s[pos] == '_' && pos + 1 < l->n && is(l->s[pos + 1]))))
        pos++;
    return pos;
}

static bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
static bool is_octal(char c) { return c >= '0' && c <= '7'; }
static bool is_binary(char c) { return c == '0' || c == '1'; }
static bool is_zero(char c) { return c == '0'; }

/* Where a float at pos ends, or 0: digits, then a fraction, an exponent or both. */
static size_t float_end(const lexer *l, size_t pos)
{
    if (pos > 0 && l->s[pos - 1] == '.')
        return 0;
    size_t end = digits(l, pos, is_digit), best = 0;
    if (end + 1 < l->n && l->s[end] == '.' && is_digit(l->s[end + 1]))
        best = end = digits(l, end + 1, is_digit);
    if (end < l->n && (l->s[end] == 'e' || l->s[end] == 'E')) {
        size_t e = end + 1;
        if (e < l->n && (l->s[e] == '+' || l->s[e] == '-'))
            e++;
        if (e < l->n && is_digit(l->s[e]))
            best = digits(l, e, is_digit);
    }
    return best;
}

static size_t integer_end(const lexer *l, size_t pos, int *base, size_t *start)
{
    char c = pos + 1 < l->n ? (char)(l->s[pos + 1] | 0x20) : 0;
    bool (*is)(char) = c == 'x' ? is_hex : c == 'o' ? is_octal : is_binary;
    if (l->s[pos] == '0' && (c == 'x' || c == 'o' || c == 'b')) {
        size_t end = digits(l, pos + 2, is);
        if (end > pos + 2) {
            *base = c == 'x' ? 16 : c == 'o' ? 8 : 2;
            *start = pos + 2;
            return end;
        }
    }
    *base = 10;
    *start = pos;
    return digits(l, pos, l->s[pos] == '0' ? is_zero : is_digit);
}

static nb_status lex_number(lexer *l)
{
    char text[MAX_NUMBER + 1];
    size_t n = 0, start = l->pos, end = float_end(l, l->pos);
    bool is_float = end != 0;
    int base = 10;
    if (!is_float)
        end = integer_end(l, l->pos, &base, &start);
    for (size_t i = start; i < end; i++) {
        if (n == MAX_NUMBER)
            return fail(l, "a number of more than 400 digits");
        if (l->s[i] != '_')
            text[n++] = l->s[i];
    }
    text[n] = 0;
    NB_TRY(push(l, is_float ? NB_JT_FLOAT : NB_JT_INT, (nb_str){l->s + l->pos, end - l->pos}));
    errno = 0;
    if (is_float)
        l->tokens[l->count - 1].number.f = strtod(text, NULL);
    else
        l->tokens[l->count - 1].number.i = strtoll(text, NULL, base);
    if (!is_float && errno)
        return nb_fail(l->err, NB_ERR_LIMIT, "template line %u: an integer of more than 64 bits", l->line);
    advance(l, end);
    return NB_OK;
}

static int hex_value(char c) { return is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10; }

/* width hex digits at pos of s, or -1 */
static int64_t hex_run(nb_str s, size_t pos, size_t width)
{
    int64_t value = 0;
    if (s.n - pos < width)
        return -1;
    for (size_t i = 0; i < width; i++) {
        if (!is_hex(s.p[pos + i]))
            return -1;
        value = value * 16 + hex_value(s.p[pos + i]);
    }
    return value;
}

/* A \x, \u or \U escape whose letter is at pos; surrogates come in pairs or not at all. */
static nb_status hex_escape(lexer *l, nb_str s, size_t *pos, nb_buf *out)
{
    size_t width = s.p[*pos] == 'x' ? 2 : s.p[*pos] == 'u' ? 4 : 8;
    int64_t c = hex_run(s, *pos + 1, width);
    if (c < 0 || c > 0x10FFFF)
        return fail(l, "a \\x, \\u or \\U escape that is no character");
    *pos += 1 + width;
    if (c >= 0xD800 && c < 0xDC00 && *pos + 1 < s.n && s.p[*pos] == '\\' && s.p[*pos + 1] == 'u') {
        int64_t low = hex_run(s, *pos + 2, 4);
        if (low >= 0xDC00 && low < 0xE000) {
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
            *pos += 6;
        }
    }
    nb_buf_utf8(out, c >= 0xD800 && c < 0xE000 ? 0xFFFD : (uint32_t)c);
    return NB_OK;
}

/* One escape, the backslash just before *pos. An unknown one stays as written, as in Python. */
static nb_status escape(lexer *l, nb_str s, size_t *pos, nb_buf *out)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = s.p[*pos];
    const char *found = c ? strchr(from, c) : NULL;
    if (found) {
        nb_buf_char(out, to[found - from]);
        ++*pos;
    } else if (c == '\n') {
        ++*pos;
    } else if (is_octal(c)) {
        uint32_t value = 0;
        for (int i = 0; i < 3 && *pos < s.n && is_octal(s.p[*pos]); i++, ++*pos)
            value = value * 8 + (uint32_t)(s.p[*pos] - '0');
        nb_buf_utf8(out, value);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        return hex_escape(l, s, pos, out);
    } else if (c == 'N') {
        return nb_fail(l->err, NB_ERR_UNSUPPORTED, "template line %u: \\N{...} names are not supported, use \\u",
                       l->line);
    } else {
        nb_buf_char(out, '\\');
    }
    return NB_OK;
}

static nb_status unescape(lexer *l, nb_str s, nb_str *out)
{
    nb_buf b = {0};
    nb_status status = NB_OK;
    for (size_t i = 0; i < s.n && status == NB_OK;) {
        if (s.p[i] != '\\') {
            nb_buf_char(&b, s.p[i++]);
            continue;
        }
        i++;
        status = escape(l, s, &i, &b);
    }
    nb_str view = nb_buf_view(&b);
    char *copy = status == NB_OK && !b.failed ? nb_arena_strdup(l->arena, view) : NULL;
    if (status == NB_OK && !copy)
        status = nb_fail_memory(l->err, "template string", s.n);
    *out = (nb_str){copy, view.n};
    nb_buf_free(&b);
    return status;
}

static nb_status lex_string(lexer *l)
{
    char quote = l->s[l->pos];
    size_t end = l->pos + 1;
    bool escapes = false;
    while (end < l->n && l->s[end] != quote) {
        if (l->s[end] == '\\') {
            escapes = true;
            end++;
        }
        end++;
    }
    if (end >= l->n)
        return fail(l, "a string without its closing quote");
    nb_str text = {l->s + l->pos + 1, end - l->pos - 1};
    if (escapes)
        NB_TRY(unescape(l, text, &text));
    NB_TRY(push(l, NB_JT_STRING, text));
    advance(l, end + 1);
    return NB_OK;
}

static const struct {
    const char *text;
    nb_jtok type;
} operators[] = {/* longer ones first */
                 {"**", NB_JT_POW},   {"//", NB_JT_FLOORDIV}, {"==", NB_JT_EQ},      {"!=", NB_JT_NE},
                 {"<=", NB_JT_LE},    {">=", NB_JT_GE},       {"+", NB_JT_ADD},      {"-", NB_JT_SUB},
                 {"*", NB_JT_MUL},    {"/", NB_JT_DIV},       {"%", NB_JT_MOD},      {"~", NB_JT_TILDE},
                 {"(", NB_JT_LPAREN}, {")", NB_JT_RPAREN},    {"[", NB_JT_LBRACKET}, {"]", NB_JT_RBRACKET},
                 {"{", NB_JT_LBRACE}, {"}", NB_JT_RBRACE},    {"<", NB_JT_LT},       {">", NB_JT_GT},
                 {"=", NB_JT_ASSIGN}, {".", NB_JT_DOT},       {":", NB_JT_COLON},    {"|", NB_JT_PIPE},
                 {",", NB_JT_COMMA},  {";", NB_JT_SEMICOLON}};

static nb_status balance(lexer *l, nb_jtok type)
{
    char want = type == NB_JT_LPAREN ? ')' : type == NB_JT_LBRACKET ? ']' : type == NB_JT_LBRACE ? '}' : 0;
    if (want) {
        if (l->depth == MAX_BRACKETS)
            return nb_fail(l->err, NB_ERR_LIMIT, "template line %u: more than %d open brackets", l->line, MAX_BRACKETS);
        l->brackets[l->depth++] = want;
    } else if (type == NB_JT_RPAREN || type == NB_JT_RBRACKET || type == NB_JT_RBRACE) {
        if (l->depth == 0 || l->brackets[l->depth - 1] != l->s[l->pos])
            return nb_fail(l->err, NB_ERR_FORMAT, "template line %u: unexpected '%c'", l->line, l->s[l->pos]);
        l->depth--;
    }
    return NB_OK;
}

static nb_status lex_operator(lexer *l)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!at(l, l->pos, operators[i].text))
            continue;
        NB_TRY(balance(l, operators[i].type));
        NB_TRY(push(l, operators[i].type, nb_str_of(operators[i].text)));
        advance(l, l->pos + strlen(operators[i].text));
        return NB_OK;
    }
    return nb_fail(l->err, NB_ERR_FORMAT, "template line %u: unexpected character 0x%02x", l->line,
                   (unsigned char)l->s[l->pos]);
}

static nb_status lex_word(lexer *l)
{
    size_t end = l->pos;
    while (end < l->n && is_word(l->s[end]))
        end++;
    NB_TRY(push(l, NB_JT_NAME, (nb_str){l->s + l->pos, end - l->pos}));
    advance(l, end);
    return NB_OK;
}

/* The inside of {{ }} or {% %}, with its end. */
static nb_status lex_tag(lexer *l, bool variable)
{
    uint32_t opened = l->line;
    l->depth = 0;
    for (;;) {
        size_t end = l->depth ? 0 : closing(l, l->pos, variable ? "}}" : "%}", !variable, !variable);
        if (end) {
            NB_TRY(push(l, variable ? NB_JT_VAR_END : NB_JT_BLOCK_END, (nb_str){l->s + l->pos, 2}));
            advance(l, end);
            return NB_OK;
        }
        if (l->pos >= l->n)
            return nb_fail(l->err, NB_ERR_FORMAT, "template line %u: a tag that is never closed", opened);
        char c = l->s[l->pos];
        if (is_space(c))
            advance(l, skip_space(l, l->pos));
        else if (is_digit(c))
            NB_TRY(lex_number(l));
        else if (is_word(c))
            NB_TRY(lex_word(l));
        else if (c == '"' || c == '\'')
            NB_TRY(lex_string(l));
        else
            NB_TRY(lex_operator(l));
    }
}

/* The tag at p (text before it starts at l->pos). */
static nb_status lex_opening(lexer *l, size_t p)
{
    char kind = l->s[p + 1], sign = p + 2 < l->n ? l->s[p + 2] : 0;
    nb_str text = stripped(l, l->pos, p, sign, kind == '{');
    if (text.n)
        NB_TRY(push(l, NB_JT_DATA, text));
    size_t raw = kind == '%' ? raw_begin(l, p) : 0;
    advance(l, raw ? raw : sign == '-' || sign == '+' ? p + 3 : p + 2);
    if (raw)
        return lex_raw(l);
    if (kind == '#')
        return lex_comment(l);
    NB_TRY(push(l, kind == '{' ? NB_JT_VAR_BEGIN : NB_JT_BLOCK_BEGIN, (nb_str){l->s + p, 2}));
    return lex_tag(l, kind == '{');
}

static nb_status lex_all(lexer *l)
{
    for (;;) {
        size_t p = l->pos;
        while (p < l->n && !at(l, p, "{{") && !at(l, p, "{%") && !at(l, p, "{#")) {
            const char *next = memchr(l->s + p + 1, '{', l->n - p - 1);
            p = next ? (size_t)(next - l->s) : l->n;
        }
        if (p >= l->n)
            break;
        NB_TRY(lex_opening(l, p));
    }
    if (l->pos < l->n)
        NB_TRY(push(l, NB_JT_DATA, (nb_str){l->s + l->pos, l->n - l->pos}));
    return push(l, NB_JT_EOF, NB_STR("end of template"));
}

/* The source with every \r\n and \r as \n, without one newline at its end. */
static char *normalized(nb_arena *arena, nb_str source, size_t *n)
{
    char *s = nb_arena_strdup(arena, source);
    *n = 0;
    for (size_t i = 0; s && i < source.n; i++) {
        if (source.p[i] == '\r' && i + 1 < source.n && source.p[i + 1] == '\n')
            continue;
        s[(*n)++] = source.p[i] == '\r' ? '\n' : source.p[i];
    }
    if (*n && s[*n - 1] == '\n')
        --*n;
    return s;
}

nb_status nb_jinja_tokenize(nb_arena *arena, nb_str source, nb_jtoken **tokens, size_t *count, nb_error *err)
{
    lexer l = {.arena = arena, .line = 1, .line_starting = true, .err = err};
    l.s = normalized(arena, source, &l.n);
    if (!l.s)
        return nb_fail_memory(err, "template", source.n);
    NB_TRY(lex_all(&l));
    *tokens = l.tokens;
    *count = l.count;
    return NB_OK;
}
