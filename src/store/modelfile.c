#include "store/modelfile.h"

#include <strings.h>

#include "text/utf8.h"

#define TEXT_BYTES ((size_t)8 << 20)
#define LINES 100000

static const char *const names[] = {"FROM",   "ADAPTER",  "DRAFT",     "TEMPLATE", "SYSTEM", "RENDERER",
                                    "PARSER", "REQUIRES", "PARAMETER", "LICENSE",  "MESSAGE"};
enum { COMMANDS = sizeof names / sizeof *names };

typedef struct reader {
    const char *p, *end;
    int line;
    nb_modelfile *m;
    size_t room;
    nb_error *err;
} reader;

static bool is_space(char c) { return c == ' ' || c == '\t'; }
static bool is_newline(char c) { return c == '\n' || c == '\r'; }
static bool is_blank(char c) { return is_space(c) || is_newline(c) || c == '\v' || c == '\f'; }
static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static nb_str trimmed(const char *p, const char *end)
{
    while (end > p && is_blank(end[-1]))
        end--;
    while (p < end && is_blank(*p))
        p++;
    return (nb_str){p, (size_t)(end - p)};
}

static void step(reader *r)
{
    r->line += *r->p == '\n' || (*r->p == '\r' && !(r->end - r->p > 1 && r->p[1] == '\n'));
    r->p++;
}

/* what is between here and the next character that is no letter, digit or '_' */
static nb_str word(reader *r)
{
    const char *begin = r->p;
    while (r->p < r->end && (is_letter(*r->p) || (*r->p >= '0' && *r->p <= '9') || *r->p == '_'))
        r->p++;
    return (nb_str){begin, (size_t)(r->p - begin)};
}

/* ---- values ---- */

/* what opens a value that goes on over lines; 0: nothing does */
static size_t opening(nb_str s) { return s.n >= 3 && memcmp(s.p, "\"\"\"", 3) == 0 ? 3 : s.n && s.p[0] == '"' ? 1 : 0; }

static bool closed(nb_str s, size_t quotes)
{
    return s.n >= 2 * quotes && memcmp(s.p + s.n - quotes, "\"\"\"", quotes) == 0;
}

/* Quotes are closed by those that end a line. */
static nb_status read_value(reader *r, nb_str *out)
{
    int line = r->line;
    while (r->p < r->end && is_space(*r->p))
        r->p++;
    const char *begin = r->p;
    size_t quotes = opening((nb_str){begin, (size_t)(r->end - begin)});
    for (;; step(r)) {
        while (r->p < r->end && !is_newline(*r->p))
            r->p++;
        *out = trimmed(begin, r->p);
        if (!quotes || closed(*out, quotes))
            break;
        if (r->p == r->end)
            return nb_fail(r->err, NB_ERR_FORMAT, "(line %d): the %.*s opened here does not end a line further on",
                           line, (int)quotes, "\"\"\"");
    }
    *out = (nb_str){out->p + quotes, out->n - 2 * quotes};
    return NB_OK;
}

/* ---- statements ---- */

static nb_status unknown_command(const reader *r, nb_str given)
{
    return nb_fail(r->err, NB_ERR_FORMAT,
                   "(line %d): '%.*s' is no command; there are FROM, TEMPLATE, SYSTEM, PARAMETER, MESSAGE, ADAPTER, "
                   "LICENSE, REQUIRES, RENDERER, PARSER, DRAFT",
                   r->line, NB_STR_ARG(given));
}

static nb_status read_command(reader *r, nb_modelfile_command *out)
{
    const char *begin = r->p;
    while (r->p < r->end && is_letter(*r->p))
        r->p++;
    nb_str given = {begin, (size_t)(r->p - begin)};
    size_t i = 0;
    while (i < COMMANDS && !(strlen(names[i]) == given.n && strncasecmp(names[i], given.p, given.n) == 0))
        i++;
    if (i == COMMANDS || (r->p < r->end && !is_blank(*r->p))) {
        while (r->p < r->end && !is_blank(*r->p))
            r->p++;
        return unknown_command(r, (nb_str){begin, (size_t)(r->p - begin)});
    }
    *out = (nb_modelfile_command)i;
    return NB_OK;
}

static nb_status read_key(reader *r, nb_modelfile_line *l)
{
    bool message = l->command == NB_MODELFILE_MESSAGE;
    while (r->p < r->end && is_space(*r->p))
        r->p++;
    l->key = word(r);
    if (message && !nb_str_eqz(l->key, "system") && !nb_str_eqz(l->key, "user") && !nb_str_eqz(l->key, "assistant"))
        return nb_fail(r->err, NB_ERR_FORMAT, "(line %d): a message's role is system, user or assistant, not '%.*s'",
                       l->line, NB_STR_ARG(l->key));
    if (l->key.n == 0 || r->p == r->end || !is_space(*r->p))
        return nb_fail(r->err, NB_ERR_FORMAT, "(line %d): write %s and a value", l->line,
                       message ? "MESSAGE, a role" : "PARAMETER, a name");
    return NB_OK;
}

static nb_status add_line(reader *r, const nb_modelfile_line *l)
{
    nb_modelfile *m = r->m;
    if (m->count == LINES)
        return nb_fail(r->err, NB_ERR_LIMIT, "(line %d): there are more than %d commands", l->line, LINES);
    if (m->count == r->room) {
        size_t room = r->room ? 2 * r->room : 16;
        nb_modelfile_line *bigger = NB_ARRAY(&m->arena, nb_modelfile_line, room);
        if (!bigger)
            return nb_fail_memory(r->err, "Modelfile", room * sizeof *bigger);
        if (m->count)
            memcpy(bigger, m->lines, m->count * sizeof *bigger);
        m->lines = bigger;
        r->room = room;
    }
    m->lines[m->count++] = *l;
    return NB_OK;
}

static nb_status read_statement(reader *r)
{
    nb_error why;
    nb_modelfile_line l = {.line = r->line, .key = NB_STR("")};
    NB_TRY(read_command(r, &l.command));
    if (l.command == NB_MODELFILE_PARAMETER || l.command == NB_MODELFILE_MESSAGE)
        NB_TRY(read_key(r, &l));
    NB_TRY(read_value(r, &l.value));
    bool text = l.command == NB_MODELFILE_TEMPLATE || l.command == NB_MODELFILE_SYSTEM ||
                l.command == NB_MODELFILE_LICENSE || l.command == NB_MODELFILE_MESSAGE;
    if (l.value.n == 0 && !text && !nb_str_eqz(l.key, "stop"))
        return nb_fail(r->err, NB_ERR_FORMAT, "(line %d): %s has no value", l.line, names[l.command]);
    if (l.command == NB_MODELFILE_PARAMETER && nb_param_parse(l.key, l.value, &l.param, &why) != NB_OK)
        return nb_fail(r->err, why.code, "(line %d): %s", l.line, why.message);
    return add_line(r, &l);
}

static nb_status read_all(reader *r)
{
    bool from = false;
    while (r->p < r->end) {
        if (is_blank(*r->p)) {
            step(r);
        } else if (*r->p == '#') {
            while (r->p < r->end && !is_newline(*r->p))
                r->p++;
        } else {
            NB_TRY(read_statement(r));
            from |= r->m->lines[r->m->count - 1].command == NB_MODELFILE_FROM;
        }
    }
    return from ? NB_OK
                : nb_fail(r->err, NB_ERR_FORMAT,
                          "no FROM line: say what the model is made of, as FROM llama3.2 or "
                          "FROM ./model.gguf");
}

static nb_status check_utf8(nb_str s, nb_error *err)
{
    int line = 1;
    uint32_t cp;
    for (size_t i = 0, n; i < s.n; i += n) {
        n = nb_utf8_decode((const unsigned char *)s.p + i, s.n - i, &cp);
        if (n == 0 || s.p[i] == 0)
            return nb_fail(err, NB_ERR_FORMAT, "(line %d): byte %zu is not UTF-8 text; save the file as UTF-8", line,
                           i);
        line += s.p[i] == '\n';
    }
    return NB_OK;
}

nb_status nb_modelfile_parse(nb_str text, nb_modelfile *out, nb_error *err)
{
    *out = (nb_modelfile){0};
    if (text.n > TEXT_BYTES)
        return nb_fail(err, NB_ERR_LIMIT, "the Modelfile has %zu bytes, more than the %zu that are read", text.n,
                       TEXT_BYTES);
    NB_TRY(check_utf8(text, err));
    const char *copy = nb_arena_strdup(&out->arena, text);
    if (!copy)
        return nb_fail_memory(err, "Modelfile", text.n);
    reader r = {.p = copy, .end = copy + text.n, .line = 1, .m = out, .err = err};
    if (nb_str_starts(text, NB_STR("\xef\xbb\xbf")))
        r.p += 3;
    nb_status status = read_all(&r);
    if (status != NB_OK)
        nb_modelfile_free(out);
    return status;
}

void nb_modelfile_free(nb_modelfile *m)
{
    nb_arena_free(&m->arena);
    *m = (nb_modelfile){0};
}

/* ---- writing ---- */

void nb_modelfile_quote(nb_str s, nb_buf *out)
{
    bool quote = s.n == 0 || is_blank(s.p[0]) || is_blank(s.p[s.n - 1]) || s.p[0] == '"' || memchr(s.p, '\n', s.n) ||
                 memchr(s.p, '\r', s.n);
    const char *mark = !quote ? "" : s.n && memchr(s.p, '"', s.n) ? "\"\"\"" : "\"";
    nb_buf_z(out, mark);
    nb_buf_str(out, s);
    nb_buf_z(out, mark);
}

void nb_modelfile_write(const nb_modelfile *m, nb_buf *out)
{
    for (size_t i = 0; i < m->count; i++) {
        const nb_modelfile_line *l = &m->lines[i];
        nb_buf_printf(out, "%s ", names[l->command]);
        if (l->key.n) {
            nb_buf_str(out, l->key);
            nb_buf_char(out, ' ');
        }
        nb_modelfile_quote(l->value, out);
        nb_buf_char(out, '\n');
    }
}
