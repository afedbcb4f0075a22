/* reply_prefix.c - whether bytes can still become a JSON object: of arguments that are handed out before they are whole. It
 * takes every beginning of what nb_json_is_object takes, byte by byte, so that a client that reads along never meets what no
 * JSON begins with. Escapes and text in strings are looked at as RFC 8259 has them; that both halves of a surrogate are there
 * and the UTF-8 is left to the reading of the whole. */
#include "text/reply_internal.h"

enum { VALUE, FIRST_VALUE, KEY, FIRST_KEY, COLON, NEXT, STRING, ESCAPE, NUMBER, WORD, OVER, BAD };
enum { SIGN, ZERO, DIGITS, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, POWER }; /* where a number is */

static bool digit(char c) { return c >= '0' && c <= '9'; }

static uint8_t behind_value(const nb_json_prefix *p) { return p->depth ? NEXT : OVER; }

static uint8_t open(nb_json_prefix *p, char c)
{
    if (p->depth == NB_JSON_DEPTH)
        return BAD;
    p->list[p->depth++] = c == '[';
    return c == '[' ? FIRST_VALUE : FIRST_KEY;
}

static uint8_t close(nb_json_prefix *p, char c)
{
    if (p->list[p->depth - 1] != (c == ']'))
        return BAD;
    p->depth--;
    return behind_value(p);
}

static uint8_t begin_value(nb_json_prefix *p, char c)
{
    if (p->depth == 0)
        return c == '{' ? open(p, c) : BAD;
    if (c == '{' || c == '[')
        return open(p, c);
    if (c == ']' && p->state == FIRST_VALUE)
        return close(p, c);
    if (c == '"') {
        p->is_key = false;
        return STRING;
    }
    if (c == '-' || digit(c)) {
        p->part = c == '-' ? SIGN : c == '0' ? ZERO : DIGITS;
        return NUMBER;
    }
    p->word = c == 't' ? "rue" : c == 'f' ? "alse" : c == 'n' ? "ull" : NULL;
    return p->word ? WORD : BAD;
}

static uint8_t in_string(nb_json_prefix *p, char c)
{
    if (p->hex) {
        p->hex--;
        return digit(c) || ((c | 32) >= 'a' && (c | 32) <= 'f') ? STRING : BAD;
    }
    if (c == '\\')
        return ESCAPE;
    if (c == '"')
        return p->is_key ? COLON : NEXT;
    return (unsigned char)c < 0x20 ? BAD : STRING;
}

static uint8_t in_escape(nb_json_prefix *p, char c)
{
    p->hex = c == 'u' ? 4 : 0;
    return c && strchr("\"\\/bfnrtu", c) ? STRING : BAD;
}

/* Where the number is behind c; -1: c is no part of it. */
static int go_on(int part, char c)
{
    bool e = c == 'e' || c == 'E';
    switch (part) {
    case SIGN: return c == '0' ? ZERO : digit(c) ? DIGITS : -1;
    case ZERO: return c == '.' ? POINT : e ? EXPONENT : -1;
    case DIGITS: return digit(c) ? DIGITS : c == '.' ? POINT : e ? EXPONENT : -1;
    case POINT: return digit(c) ? FRACTION : -1;
    case FRACTION: return digit(c) ? FRACTION : e ? EXPONENT : -1;
    case EXPONENT: return digit(c) ? POWER : c == '+' || c == '-' ? EXPONENT_SIGN : -1;
    default: return digit(c) ? POWER : -1;
    }
}

static uint8_t between(nb_json_prefix *p, char c)
{
    if (nb_reply_space(c))
        return p->state;
    switch (p->state) {
    case KEY:
    case FIRST_KEY: p->is_key = true; return c == '"' ? STRING : c == '}' && p->state == FIRST_KEY ? close(p, c) : BAD;
    case COLON: return c == ':' ? VALUE : BAD;
    case NEXT: return c == ',' ? (p->list[p->depth - 1] ? VALUE : KEY) : c == '}' || c == ']' ? close(p, c) : BAD;
    case OVER: return BAD;
    default: return begin_value(p, c);
    }
}

static uint8_t in_number(nb_json_prefix *p, char c)
{
    int part = go_on(p->part, c);
    if (part >= 0) {
        p->part = (uint8_t)part;
        return NUMBER;
    }
    if (p->part != ZERO && p->part != DIGITS && p->part != FRACTION && p->part != POWER)
        return BAD;
    p->state = NEXT;
    return between(p, c);
}

static uint8_t in_word(nb_json_prefix *p, char c)
{
    if (c != *p->word++)
        return BAD;
    return *p->word ? WORD : NEXT;
}

static uint8_t step(nb_json_prefix *p, char c)
{
    switch (p->state) {
    case STRING: return in_string(p, c);
    case ESCAPE: return in_escape(p, c);
    case NUMBER: return in_number(p, c);
    case WORD: return in_word(p, c);
    case BAD: return BAD;
    default: return between(p, c);
    }
}

nb_str nb_json_prefix_of(nb_json_prefix *p, nb_str more)
{
    size_t n = 0;
    while (n < more.n && (p->state = step(p, more.p[n])) != BAD)
        n++;
    return (nb_str){more.p, n};
}
