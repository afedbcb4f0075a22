/* grammar_schema_write.c - values as rules: what text of JSON stands for them. */
#include <stdio.h>

#include "base/json_write.h"
#include "text/grammar_schema.h"
#include "text/utf8.h"

/* ---- between values ---- */

static void make_space(nb_schema *s)
{
    nb_rule rule;
    s->space = nb_rules_add(&s->r, (nb_str){0}) + 1;
    rule = nb_rules_at(&s->r, s->space - 1);
    nb_rules_empty(&s->r, rule.start, rule.end);
    if (s->compact)
        return;
    uint32_t space = nb_rules_add(&s->r, (nb_str){0}), tab = nb_rules_add(&s->r, (nb_str){0});
    uint32_t line = nb_rules_text(&s->r, rule.start, NB_STR("\n"));
    nb_rules_bytes(&s->r, nb_rules_at(&s->r, space).start, nb_rules_at(&s->r, space).end, ' ', ' ');
    nb_rules_bytes(&s->r, nb_rules_at(&s->r, tab).start, nb_rules_at(&s->r, tab).end, '\t', '\t');
    nb_rules_bytes(&s->r, rule.start, rule.end, ' ', ' ');
    nb_rules_call(&s->r, line, rule.end, space, 0, 40);
    nb_rules_call(&s->r, line, rule.end, tab, 1, 10);
}

uint32_t nb_schema_space(nb_schema *s, uint32_t from)
{
    if (s->compact)
        return from;
    if (!s->space)
        make_space(s);
    uint32_t to = nb_rules_state(&s->r);
    nb_rules_call(&s->r, from, to, s->space - 1, 1, 1);
    return to;
}

uint32_t nb_schema_colon(nb_schema *s, uint32_t from)
{
    uint32_t colon = nb_rules_text(&s->r, from, NB_STR(":"));
    if (s->compact)
        return colon;
    uint32_t to = nb_rules_text(&s->r, colon, NB_STR(" "));
    nb_rules_empty(&s->r, colon, to);
    return to;
}

uint32_t nb_schema_comma(nb_schema *s, uint32_t from)
{
    return nb_schema_space(s, nb_rules_text(&s->r, from, NB_STR(",")));
}

/* ---- strings ---- */

/* One of the characters from low to high as it stands in quotes. */
static void write_chars(nb_schema *s, uint32_t from, uint32_t to, uint32_t low, uint32_t high)
{
    static const uint32_t plain[][2] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x10FFFF}};
    static const char short_for[] = "\b\f\n\r\t\"\\", shorts[] = "bfnrt\"\\";
    nb_rules *r = &s->r;
    for (size_t i = 0; i < 3; i++)
        if (low <= plain[i][1] && high >= plain[i][0])
            nb_rules_chars(r, from, to, low > plain[i][0] ? low : plain[i][0], high < plain[i][1] ? high : plain[i][1]);
    for (uint32_t c = low; c <= high && c <= '\\'; c++) {
        const char *at = c > 0 ? memchr(short_for, (int)c, 7) : NULL;
        if (at) {
            uint32_t back = nb_rules_text(r, from, NB_STR("\\"));
            nb_rules_bytes(r, back, to, (unsigned char)shorts[at - short_for], (unsigned char)shorts[at - short_for]);
        } else if (c < 0x20) {
            uint32_t digits = nb_rules_text(r, from, c < 0x10 ? NB_STR("\\u000") : NB_STR("\\u001"));
            unsigned low_digit = c & 15;
            nb_rules_bytes(r, digits, to, low_digit < 10 ? '0' + low_digit : 'a' + low_digit - 10,
                           low_digit < 10 ? '0' + low_digit : 'a' + low_digit - 10);
            if (low_digit >= 10)
                nb_rules_bytes(r, digits, to, 'A' + low_digit - 10, 'A' + low_digit - 10);
        }
    }
}

uint32_t nb_schema_write_quoted(nb_schema *s, nb_str text, uint32_t from)
{
    uint32_t cp = 0;
    from = nb_rules_text(&s->r, from, NB_STR("\""));
    for (size_t i = 0, step; i < text.n; i += step) {
        step = nb_utf8_decode((const unsigned char *)text.p + i, text.n - i, &cp);
        step = step ? step : 1;
        uint32_t to = nb_rules_state(&s->r);
        write_chars(s, from, to, cp, cp);
        from = to;
    }
    return nb_rules_text(&s->r, from, NB_STR("\""));
}

void nb_schema_write_dfa(nb_schema *s, const nb_dfa *d, bool json, uint32_t from, uint32_t to)
{
    uint32_t first = nb_rules_state(&s->r);
    if (d->count == 0)
        return;
    for (uint32_t i = 1; i < d->count; i++)
        nb_rules_state(&s->r); /* first + i */
    if (s->r.status != NB_OK)
        return;
    nb_rules_empty(&s->r, from, first);
    for (uint32_t i = 0; i < d->count; i++) {
        if (d->ends[i])
            nb_rules_empty(&s->r, first + i, to);
        for (uint32_t k = d->at[i]; k < d->at[i + 1]; k++)
            if (json)
                write_chars(s, first + i, first + d->edges[k].to, d->edges[k].low, d->edges[k].high);
            else
                nb_rules_chars(&s->r, first + i, first + d->edges[k].to, d->edges[k].low, d->edges[k].high);
    }
}

static uint32_t hex_digits(nb_rules *r, uint32_t from, int n)
{
    for (; n > 0; n--) {
        uint32_t to = nb_rules_state(r);
        nb_rules_bytes(r, from, to, '0', '9');
        nb_rules_bytes(r, from, to, 'A', 'F');
        nb_rules_bytes(r, from, to, 'a', 'f');
        from = to;
    }
    return from;
}

static uint32_t either_case(nb_rules *r, uint32_t from, char a, char b, uint32_t to)
{
    nb_rules_bytes(r, from, to, (unsigned char)a, (unsigned char)b);
    if (a > '9')
        nb_rules_bytes(r, from, to, (unsigned char)(a | 0x20), (unsigned char)(b | 0x20));
    return to;
}

/* Any one character of a string: as it is, or with any escape JSON has; \u in whole pairs. */
static void make_letter(nb_schema *s)
{
    nb_rules *r = &s->r;
    s->letter = nb_rules_add(r, (nb_str){0}) + 1;
    nb_rule rule = nb_rules_at(r, s->letter - 1);
    uint32_t d, high, low;
    nb_rules_chars(r, rule.start, rule.end, 0x20, 0x21);
    nb_rules_chars(r, rule.start, rule.end, 0x23, 0x5B);
    nb_rules_chars(r, rule.start, rule.end, 0x5D, 0x10FFFF);
    uint32_t back = nb_rules_text(r, rule.start, NB_STR("\\")), u = nb_rules_text(r, back, NB_STR("u"));
    for (const char *c = "\"\\/bfnrt"; *c; c++)
        nb_rules_bytes(r, back, rule.end, (unsigned char)*c, (unsigned char)*c);
    uint32_t last = nb_rules_state(r), three = nb_rules_state(r);
    nb_rules_empty(r, last, rule.end);
    nb_rules_bytes(r, u, three, '0', '9'); /* 0xxx to Cxxx, E, F */
    either_case(r, u, 'A', 'C', three);
    either_case(r, u, 'E', 'F', three);
    nb_rules_empty(r, hex_digits(r, three, 3), last);
    d = either_case(r, u, 'D', 'D', nb_rules_state(r));
    uint32_t two = nb_rules_state(r);
    nb_rules_bytes(r, d, two, '0', '7');
    nb_rules_empty(r, hex_digits(r, two, 2), last);
    high = nb_rules_state(r); /* D8 to DB: the first half of a pair */
    nb_rules_bytes(r, d, high, '8', '9');
    either_case(r, d, 'A', 'B', high);
    low = nb_rules_text(r, hex_digits(r, high, 2), NB_STR("\\u"));
    low = either_case(r, low, 'D', 'D', nb_rules_state(r));
    low = either_case(r, low, 'C', 'F', nb_rules_state(r));
    nb_rules_empty(r, hex_digits(r, low, 2), last);
}

static void write_letters(nb_schema *s, uint32_t from, uint32_t to, size_t least, size_t most)
{
    if (!s->letter)
        make_letter(s);
    uint32_t high = most >= UINT32_MAX ? NB_RULES_ANY : (uint32_t)most;
    if (least <= most && least < UINT32_MAX)
        nb_rules_call(&s->r, from, to, s->letter - 1, (uint32_t)least, high);
}

static void call_plain_string(nb_schema *s, uint32_t from, uint32_t to)
{
    if (!s->plain_string) {
        s->plain_string = nb_rules_add(&s->r, (nb_str){0}) + 1;
        nb_rule rule = nb_rules_at(&s->r, s->plain_string - 1);
        uint32_t inside = nb_rules_text(&s->r, rule.start, NB_STR("\"")), end = nb_rules_state(&s->r);
        write_letters(s, inside, end, 0, SIZE_MAX);
        nb_rules_empty(&s->r, nb_rules_text(&s->r, end, NB_STR("\"")), rule.end);
    }
    nb_rules_call(&s->r, from, to, s->plain_string - 1, 1, 1);
}

nb_status nb_schema_write_string(nb_schema *s, const nb_shape *shape, uint32_t from, uint32_t to)
{
    if (!shape->has_text && shape->min_length == 0 && shape->max_length == SIZE_MAX) {
        call_plain_string(s, from, to);
        return s->r.status;
    }
    uint32_t inside = nb_rules_text(&s->r, from, NB_STR("\"")), end = nb_rules_state(&s->r);
    if (shape->has_text)
        nb_schema_write_dfa(s, shape->text, true, inside, end);
    else
        write_letters(s, inside, end, shape->min_length, shape->max_length);
    nb_rules_empty(&s->r, nb_rules_text(&s->r, end, NB_STR("\"")), to);
    return s->r.status;
}

/* ---- numbers ---- */

static nb_status number_dfa(nb_schema *s, const nb_term *t, const nb_shape *shape, nb_dfa **out)
{
    const json_t *node = t->count ? t->atoms[0] : NULL;
    nb_number_range range = shape->range;
    range.exact = shape->multiple_count > 0;
    NB_TRY(nb_schema_at(s, nb_number_dfa(&range, &s->arena, out, s->err), node, NULL));
    for (size_t i = 0; i < shape->multiple_count; i++) {
        nb_dfa *of;
        NB_TRY(nb_schema_at(s, nb_multiple_dfa(shape->multiples[i], &s->arena, &of, s->err), node, "multipleOf"));
        NB_TRY(nb_schema_at(s, nb_dfa_both(*out, of, false, &s->arena, out, s->err), node, "multipleOf"));
    }
    return NB_OK;
}

static nb_status write_number(nb_schema *s, const nb_term *t, const nb_shape *shape, uint32_t from, uint32_t to)
{
    bool plain = !shape->range.low && !shape->range.high && shape->multiple_count == 0;
    uint32_t *made = shape->range.whole ? &s->plain_integer : &s->plain_number;
    nb_dfa *dfa;
    if (plain && *made) {
        nb_rules_call(&s->r, from, to, *made - 1, 1, 1);
        return s->r.status;
    }
    if (plain) /* what nb_number_dfa says of no bounds at all, a hundred times sooner */
        NB_TRY(nb_regex_dfa(shape->range.whole ? NB_STR("^(0|-?[1-9][0-9]{0,17})$")
                                               : NB_STR("^(0|-?[1-9][0-9]{0,17}|-?(0|[1-9][0-9]{0,17})[.][0-9]{1,17})"
                                                        "([eE][+-]?[0-9]{1,2})?$"),
                            &s->arena, &dfa, s->err));
    else
        NB_TRY(number_dfa(s, t, shape, &dfa));
    if (plain) {
        *made = nb_rules_add(&s->r, (nb_str){0}) + 1;
        nb_rule rule = nb_rules_at(&s->r, *made - 1);
        nb_rules_call(&s->r, from, to, *made - 1, 1, 1);
        from = rule.start;
        to = rule.end;
    }
    nb_schema_write_dfa(s, dfa, false, from, to);
    return s->r.status;
}

/* ---- values that are known ---- */

static nb_status write_parts(nb_schema *s, const json_t *v, uint32_t from, uint32_t to)
{
    const char *key;
    size_t i, n = 0;
    json_t *part, *all = (json_t *)(uintptr_t)v;
    bool object = json_is_object(v);
    uint32_t at = nb_schema_space(s, nb_rules_text(&s->r, from, object ? NB_STR("{") : NB_STR("[")));
    json_object_foreach(all, key, part)
    {
        at = n++ ? nb_schema_comma(s, at) : at;
        uint32_t behind = nb_rules_state(&s->r);
        NB_TRY(
            nb_schema_write_value(s, part, nb_schema_colon(s, nb_schema_write_quoted(s, nb_str_of(key), at)), behind));
        at = behind;
    }
    json_array_foreach(all, i, part)
    {
        at = i ? nb_schema_comma(s, at) : at;
        uint32_t behind = nb_rules_state(&s->r);
        NB_TRY(nb_schema_write_value(s, part, at, behind));
        at = behind;
    }
    nb_rules_empty(&s->r, nb_rules_text(&s->r, nb_schema_space(s, at), object ? NB_STR("}") : NB_STR("]")), to);
    return s->r.status;
}

nb_status nb_schema_write_value(nb_schema *s, const json_t *v, uint32_t from, uint32_t to)
{
    char text[40] = "null";
    switch (json_typeof(v)) {
    case JSON_ARRAY:
    case JSON_OBJECT: return write_parts(s, v, from, to);
    case JSON_STRING: nb_rules_empty(&s->r, nb_schema_write_quoted(s, nb_json_text(v), from), to); return s->r.status;
    case JSON_INTEGER: snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v)); break;
    case JSON_REAL: nb_format_double(json_real_value(v), text); break;
    case JSON_TRUE: snprintf(text, sizeof text, "true"); break;
    case JSON_FALSE: snprintf(text, sizeof text, "false"); break;
    case JSON_NULL: break;
    }
    nb_rules_empty(&s->r, nb_rules_text(&s->r, from, nb_str_of(text)), to);
    return s->r.status;
}

nb_status nb_schema_write(nb_schema *s, const nb_term *t, const nb_shape *shape, uint32_t from, uint32_t to)
{
    unsigned types = shape->types;
    for (size_t i = 0; i < shape->value_count; i++)
        NB_TRY(nb_schema_write_value(s, shape->values[i], from, to));
    if (shape->chosen)
        return s->r.status;
    if (types & NB_JSON_NULL)
        nb_rules_empty(&s->r, nb_rules_text(&s->r, from, NB_STR("null")), to);
    if (types & NB_JSON_BOOL) {
        nb_rules_empty(&s->r, nb_rules_text(&s->r, from, NB_STR("true")), to);
        nb_rules_empty(&s->r, nb_rules_text(&s->r, from, NB_STR("false")), to);
    }
    if (types & NB_JSON_WHOLE)
        NB_TRY(write_number(s, t, shape, from, to));
    if (types & NB_JSON_STRING)
        NB_TRY(nb_schema_write_string(s, shape, from, to));
    if (types & NB_JSON_ARRAY)
        NB_TRY(nb_schema_array(s, t, from, to));
    if (types & NB_JSON_OBJECT)
        NB_TRY(nb_schema_object(s, t, from, to));
    return s->r.status;
}
