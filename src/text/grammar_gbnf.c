/* grammar_gbnf.c - llama.cpp's GBNF. Source: grammars/README.md of llama.cpp, and what its parser accepts. */
#include <stdio.h>
#include <stdlib.h>

#include "text/grammar_rules.h"
#include "text/utf8.h"

enum { NESTING = 256, RANGES = 1024 };

typedef struct name { /* a rule that was defined or used */
    nb_str text;
    uint32_t rule;
    const char *used; /* where first; NULL: nowhere */
    bool defined;
} name;

typedef struct parser {
    nb_str text;
    const char *p, *end;
    const nb_tokenizer *tokenizer;
    nb_rules r;
    nb_grown names, slots; /* slots: a hash of names, by number from 1 up */
    size_t name_count, slot_count;
    nb_error *err;
    int depth;
} parser;

typedef struct part { /* states that lead from one to the other, and nowhere else yet */
    uint32_t from, to;
} part;

/* "line L, column C: ..."; columns count characters */
static nb_status fail(const parser *g, const char *at, nb_status code, const char *format, ...) NB_PRINTF(4, 5);
static nb_status fail(const parser *g, const char *at, nb_status code, const char *format, ...)
{
    char what[400];
    size_t line = 1, column = 1;
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    for (const char *p = g->text.p; p < at; p++) {
        column += ((unsigned char)*p & 0xC0) != 0x80;
        if (*p == '\n') {
            line++;
            column = 1;
        }
    }
    return nb_fail(g->err, code, "grammar, line %zu, column %zu: %s", line, column, what);
}

static int peek(const parser *g) { return g->p < g->end ? (unsigned char)*g->p : -1; }

static void skip_space(parser *g, bool lines)
{
    for (int c; (c = peek(g)) == ' ' || c == '\t' || c == '#' || (lines && (c == '\r' || c == '\n'));) {
        if (c != '#')
            g->p++;
        else
            while (peek(g) >= 0 && peek(g) != '\r' && peek(g) != '\n')
                g->p++;
    }
}

static bool is_digit(int c) { return c >= '0' && c <= '9'; }
static bool is_name(int c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || is_digit(c); }

/* ---- names ---- */

static uint64_t hash_name(nb_str s)
{
    uint64_t h = 1469598103934665603u; /* FNV-1a */
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 1099511628211u;
    return h ^ h >> 32;
}

static bool grow_names(parser *g)
{
    if (!nb_grown_reserve(&g->names, g->name_count + 1, sizeof(name)))
        return false;
    if (2 * g->name_count < g->slot_count)
        return true;
    g->slot_count = g->slot_count ? 2 * g->slot_count : 256;
    if (!nb_grown_reserve(&g->slots, g->slot_count, sizeof(uint32_t)))
        return false;
    uint32_t *slots = g->slots.p;
    memset(slots, 0, g->slot_count * sizeof *slots);
    for (size_t i = 0; i < g->name_count; i++) {
        size_t at = hash_name(((name *)g->names.p)[i].text);
        while (slots[at &= g->slot_count - 1])
            at++;
        slots[at] = (uint32_t)i + 1;
    }
    return true;
}

static name *find_name(parser *g, nb_str text)
{
    if (!grow_names(g)) {
        g->r.status = nb_fail_memory(g->err, "the rules of a grammar", g->name_count * sizeof(name));
        return NULL;
    }
    uint32_t *slots = g->slots.p;
    name *names = g->names.p;
    size_t at = hash_name(text);
    for (; slots[at &= g->slot_count - 1]; at++)
        if (nb_str_eq(names[slots[at] - 1].text, text))
            return &names[slots[at] - 1];
    names[g->name_count] = (name){.text = text, .rule = nb_rules_add(&g->r, text)};
    slots[at] = (uint32_t)g->name_count + 1;
    return &names[g->name_count++];
}

static nb_status read_name(parser *g, nb_str *out)
{
    const char *begin = g->p;
    while (is_name(peek(g)))
        g->p++;
    if (g->p == begin)
        return fail(g, begin, NB_ERR_ARGUMENT, "a rule's name should be here (letters, digits and '-')");
    *out = (nb_str){begin, (size_t)(g->p - begin)};
    return NB_OK;
}

/* ---- characters ---- */

static nb_status read_hex(parser *g, int digits, uint32_t *out)
{
    const char *begin = g->p;
    *out = 0;
    for (int i = 0; i < digits; i++, g->p++) {
        int c = peek(g), low = c | 0x20;
        if (!is_digit(c) && (low < 'a' || low > 'f'))
            return fail(g, begin, NB_ERR_ARGUMENT, "%d hexadecimal digits should follow the escape", digits);
        *out = *out << 4 | (uint32_t)(is_digit(c) ? c - '0' : low - 'a' + 10);
    }
    if (*out > 0x10FFFF)
        return fail(g, begin, NB_ERR_ARGUMENT, "U+%X is not a character: the last one is U+10FFFF", *out);
    return NB_OK;
}

static nb_status read_char(parser *g, uint32_t *out)
{
    const char *begin = g->p;
    if (g->p == g->end)
        return fail(g, begin, NB_ERR_ARGUMENT, "the grammar ends within quotes or brackets");
    if (*g->p != '\\') {
        size_t n = nb_utf8_decode((const unsigned char *)g->p, (size_t)(g->end - g->p), out);
        g->p += n;
        return n ? NB_OK : fail(g, begin, NB_ERR_ARGUMENT, "a byte that is not UTF-8");
    }
    g->p += 2;
    switch (g->p <= g->end ? g->p[-1] : 0) {
    case 'x': return read_hex(g, 2, out);
    case 'u': return read_hex(g, 4, out);
    case 'U': return read_hex(g, 8, out);
    case 't': *out = '\t'; return NB_OK;
    case 'r': *out = '\r'; return NB_OK;
    case 'n': *out = '\n'; return NB_OK;
    case '\\':
    case '"':
    case '[':
    case ']': *out = (unsigned char)g->p[-1]; return NB_OK;
    default:
        return fail(g, begin, NB_ERR_ARGUMENT,
                    "an unknown escape: there are \\x \\u \\U \\t \\r \\n \\\\ \\\" \\[ \\]");
    }
}

static nb_status read_literal(parser *g, part out)
{
    const char *begin = g->p++;
    uint32_t at = out.from, c;
    while (peek(g) != '"') {
        NB_TRY(read_char(g, &c));
        if (c >= 0xD800 && c <= 0xDFFF)
            return fail(g, begin, NB_ERR_ARGUMENT, "U+%X is half of a pair, not a character: no text has it", c);
        uint32_t next = nb_rules_state(&g->r);
        nb_rules_chars(&g->r, at, next, c, c);
        at = next;
    }
    g->p++;
    nb_rules_empty(&g->r, at, out.to);
    return NB_OK;
}

typedef struct range {
    uint32_t low, high;
} range;

static int by_low(const void *a, const void *b)
{
    uint32_t x = ((const range *)a)->low, y = ((const range *)b)->low;
    return x < y ? -1 : x > y;
}

static nb_status read_ranges(parser *g, range ranges[RANGES], size_t *count)
{
    while (peek(g) != ']') {
        const char *begin = g->p;
        range one;
        NB_TRY(read_char(g, &one.low));
        one.high = one.low;
        if (peek(g) == '-' && g->end - g->p > 1 && g->p[1] != ']') {
            g->p++;
            NB_TRY(read_char(g, &one.high));
        }
        if (one.high < one.low)
            return fail(g, begin, NB_ERR_ARGUMENT, "a range that ends before it begins: turn it round");
        if (*count == RANGES)
            return fail(g, begin, NB_ERR_LIMIT, "more than %d ranges between brackets", RANGES);
        ranges[(*count)++] = one;
    }
    g->p++;
    return NB_OK;
}

static nb_status read_class(parser *g, part out)
{
    const char *begin = g->p++;
    range ranges[RANGES];
    size_t count = 0;
    uint32_t low = 0;
    bool other = peek(g) == '^';
    g->p += other;
    NB_TRY(read_ranges(g, ranges, &count));
    if (count == 0)
        return fail(g, begin, NB_ERR_ARGUMENT, "there is no character between the brackets");
    qsort(ranges, count, sizeof *ranges, by_low);
    for (size_t i = 0; i < count; i++) {
        if (!other && ranges[i].high >= low)
            nb_rules_chars(&g->r, out.from, out.to, ranges[i].low > low ? ranges[i].low : low, ranges[i].high);
        else if (other && ranges[i].low > low)
            nb_rules_chars(&g->r, out.from, out.to, low, ranges[i].low - 1);
        if (ranges[i].high >= low)
            low = ranges[i].high + 1;
    }
    if (other && low <= 0x10FFFF)
        nb_rules_chars(&g->r, out.from, out.to, low, 0x10FFFF);
    return NB_OK;
}

/* ---- tokens: <text>, <[id]>, and either with ! before it ---- */

static nb_status read_number(parser *g, uint32_t *out)
{
    const char *begin = g->p;
    uint64_t n = 0;
    for (; is_digit(peek(g)); g->p++)
        if ((n = 10 * n + (uint64_t)(*g->p - '0')) > 1000000000)
            return fail(g, begin, NB_ERR_LIMIT, "a number above 1000000000");
    if (g->p == begin)
        return fail(g, begin, NB_ERR_ARGUMENT, "a number should be here");
    *out = (uint32_t)n;
    return NB_OK;
}

static nb_status expect(parser *g, char c)
{
    if (peek(g) != c)
        return fail(g, g->p, NB_ERR_ARGUMENT, "'%c' should be here", c);
    g->p++;
    return NB_OK;
}

/* A text that is one token; it is looked up as it stands, brackets included. */
static nb_status find_token(parser *g, const char *begin, uint32_t *id)
{
    nb_ids ids = {0};
    const char *end = memchr(begin, '>', (size_t)(g->end - begin));
    if (!end)
        return fail(g, begin, NB_ERR_ARGUMENT, "a token without '>' at its end");
    g->p = end + 1;
    nb_str text = {begin, (size_t)(end + 1 - begin)};
    nb_status status = nb_tokenizer_encode(g->tokenizer, text, NB_ENCODE_PARSE_SPECIAL, &ids, g->err);
    if (status == NB_OK && ids.count != 1)
        status = fail(g, begin, NB_ERR_ARGUMENT, "\"%.*s\" is not one token of this vocabulary but %zu",
                      NB_STR_ARG(text), ids.count);
    if (status == NB_OK)
        *id = (uint32_t)ids.id[0];
    nb_ids_free(&ids);
    return status;
}

static nb_status read_token(parser *g, part out)
{
    const char *begin = g->p;
    bool other = *begin == '!';
    uint32_t id = 0;
    g->p += other;
    const char *open = g->p;
    NB_TRY(expect(g, '<'));
    if (!g->tokenizer)
        return fail(g, begin, NB_ERR_UNSUPPORTED, "a token, but this grammar is read without a vocabulary");
    if (peek(g) == '[') {
        g->p++;
        NB_TRY(read_number(g, &id));
        NB_TRY(expect(g, ']'));
        NB_TRY(expect(g, '>'));
        if (id >= nb_tokenizer_count(g->tokenizer))
            return fail(g, begin, NB_ERR_ARGUMENT, "token %u is not in the vocabulary of %zu", id,
                        nb_tokenizer_count(g->tokenizer));
    } else {
        NB_TRY(find_token(g, open, &id));
    }
    nb_rules_token(&g->r, out.from, out.to, id, other);
    return NB_OK;
}

/* ---- what is made of them ---- */

static part new_part(parser *g)
{
    uint32_t from = nb_rules_state(&g->r), to = nb_rules_state(&g->r);
    return (part){from, to};
}

static nb_status read_alternates(parser *g, part out, bool nested);

static nb_status read_group(parser *g, part out)
{
    const char *begin = g->p++;
    if (g->depth == NESTING)
        return fail(g, begin, NB_ERR_LIMIT, "parentheses within parentheses more than %d deep", NESTING);
    g->depth++;
    skip_space(g, true);
    NB_TRY(read_alternates(g, out, true));
    g->depth--;
    if (peek(g) != ')')
        return fail(g, peek(g) < 0 ? begin : g->p, NB_ERR_ARGUMENT,
                    peek(g) < 0 ? "a '(' without ')'" : "')' or another item should be here");
    g->p++;
    return NB_OK;
}

static nb_status read_reference(parser *g, part out)
{
    const char *begin = g->p;
    nb_str text;
    NB_TRY(read_name(g, &text));
    name *n = find_name(g, text);
    if (!n)
        return g->r.status;
    if (!n->used)
        n->used = begin;
    nb_rules_call(&g->r, out.from, out.to, n->rule, 1, 1);
    return NB_OK;
}

/* One item into a fresh part; out->from == out->to: there is none. */
static nb_status read_item(parser *g, part *out)
{
    int c = peek(g);
    bool is = c == '"' || c == '[' || c == '<' || c == '!' || c == '(' || c == '.' || is_name(c);
    *out = is ? new_part(g) : (part){0};
    NB_TRY(g->r.status);
    switch (c) {
    case '"': return read_literal(g, *out);
    case '[': return read_class(g, *out);
    case '<':
    case '!': return read_token(g, *out);
    case '(': return read_group(g, *out);
    case '.':
        g->p++;
        nb_rules_chars(&g->r, out->from, out->to, 0, 0x10FFFF);
        return NB_OK;
    default: return is ? read_reference(g, *out) : NB_OK;
    }
}

/* {m}, {m,} or {m,n} */
static nb_status read_times(parser *g, bool nested, uint32_t *least, uint32_t *most)
{
    const char *begin = g->p++;
    skip_space(g, nested);
    NB_TRY(read_number(g, least));
    skip_space(g, nested);
    *most = *least;
    if (peek(g) == ',') {
        g->p++;
        skip_space(g, nested);
        *most = NB_RULES_ANY;
        if (is_digit(peek(g)))
            NB_TRY(read_number(g, most));
        skip_space(g, nested);
    }
    if (*most < *least)
        return fail(g, begin, NB_ERR_ARGUMENT, "at least %u times but at most %u", *least, *most);
    return expect(g, '}');
}

/* The part, so many times, in a fresh part. */
static part repeat(parser *g, part one, uint32_t least, uint32_t most)
{
    part all = new_part(g);
    bool loop = least <= 1 && (most == NB_RULES_ANY || most == 1);
    if (!loop) {
        nb_rules_call(&g->r, all.from, all.to, nb_rules_add_part(&g->r, one.from, one.to), least, most);
        return all;
    }
    uint32_t inner = nb_rules_state(&g->r); /* entered from `all` alone: all.from stays without ways back */
    nb_rules_empty(&g->r, all.from, inner);
    nb_rules_empty(&g->r, inner, one.from);
    nb_rules_empty(&g->r, one.to, all.to);
    if (least == 0)
        nb_rules_empty(&g->r, all.from, all.to);
    if (most == NB_RULES_ANY)
        nb_rules_empty(&g->r, one.to, inner);
    return all;
}

static nb_status read_postfixes(parser *g, part *item, bool nested)
{
    for (;;) {
        uint32_t least = 0, most = NB_RULES_ANY;
        switch (peek(g)) {
        case '*': g->p++; break;
        case '+':
            g->p++;
            least = 1;
            break;
        case '?':
            g->p++;
            most = 1;
            break;
        case '{': NB_TRY(read_times(g, nested, &least, &most)); break;
        default: return NB_OK;
        }
        *item = repeat(g, *item, least, most);
        skip_space(g, nested);
    }
}

static nb_status read_sequence(parser *g, part out, bool nested)
{
    uint32_t at = nb_rules_state(&g->r);
    nb_rules_empty(&g->r, out.from, at);
    for (;;) {
        part item;
        NB_TRY(read_item(g, &item));
        if (item.from == item.to) {
            int c = peek(g);
            if (c == '*' || c == '+' || c == '?' || c == '{')
                return fail(g, g->p, NB_ERR_ARGUMENT, "'%c' without an item before it", c);
            break;
        }
        skip_space(g, nested);
        NB_TRY(read_postfixes(g, &item, nested));
        nb_rules_empty(&g->r, at, item.from);
        at = item.to;
    }
    nb_rules_empty(&g->r, at, out.to);
    return g->r.status;
}

static nb_status read_alternates(parser *g, part out, bool nested)
{
    NB_TRY(read_sequence(g, out, nested));
    while (peek(g) == '|') {
        g->p++;
        skip_space(g, true);
        NB_TRY(read_sequence(g, out, nested));
    }
    return NB_OK;
}

/* NAME ::= ALTERNATES; of two rules with one name the later one holds, as in llama.cpp */
static nb_status read_rule(parser *g)
{
    nb_str text;
    NB_TRY(read_name(g, &text));
    skip_space(g, false);
    if (g->end - g->p < 3 || memcmp(g->p, "::=", 3) != 0)
        return fail(g, g->p, NB_ERR_ARGUMENT, "'::=' should follow the name of rule \"%.*s\"", NB_STR_ARG(text));
    g->p += 3;
    skip_space(g, true);
    name *n = find_name(g, text);
    if (!n)
        return g->r.status;
    part body = new_part(g);
    bool again = n->defined;
    n->defined = true;
    uint32_t rule = n->rule;
    NB_TRY(read_alternates(g, body, false));
    nb_rule at = nb_rules_at(&g->r, rule);
    if (again)
        nb_rules_forget(&g->r, at.start);
    nb_rules_empty(&g->r, at.start, body.from);
    nb_rules_empty(&g->r, body.to, at.end);
    int c = peek(g);
    if (c >= 0 && c != '\r' && c != '\n')
        return fail(g, g->p, NB_ERR_ARGUMENT, "an item, '|' or the end of the line should be here");
    skip_space(g, true);
    return g->r.status;
}

static nb_status read_grammar(parser *g, nb_grammar **out)
{
    skip_space(g, true);
    while (g->p < g->end)
        NB_TRY(read_rule(g));
    const name *names = g->names.p, *root = NULL;
    for (size_t i = 0; i < g->name_count; i++) {
        if (!names[i].defined)
            return fail(g, names[i].used, NB_ERR_ARGUMENT, "rule \"%.*s\" is used but not defined",
                        NB_STR_ARG(names[i].text));
        if (nb_str_eqz(names[i].text, "root"))
            root = &names[i];
    }
    if (!root)
        return nb_fail(g->err, NB_ERR_ARGUMENT, "the grammar has no rule named root: that is where a reply begins");
    return nb_rules_compile(&g->r, root->rule, "rule \"root\"", out, g->err);
}

nb_status nb_grammar_from_gbnf(nb_str text, const nb_tokenizer *tokenizer, nb_grammar **out, nb_error *err)
{
    *out = NULL;
    if (text.n > NB_GRAMMAR_TEXT)
        return nb_fail(err, NB_ERR_LIMIT, "a grammar of %zu bytes: at most %d can be read", text.n, NB_GRAMMAR_TEXT);
    parser *g = calloc(1, sizeof *g);
    if (!g)
        return nb_fail_memory(err, "a grammar", sizeof *g);
    g->text = text;
    g->p = text.p;
    g->end = text.p + text.n;
    g->tokenizer = tokenizer;
    g->err = g->r.err = err;
    nb_status status = read_grammar(g, out);
    nb_rules_free(&g->r);
    nb_grown_free(&g->names);
    nb_grown_free(&g->slots);
    free(g);
    return status;
}
