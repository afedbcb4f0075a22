#include "registry/fields.h"

#include <strings.h>

enum { VALUE_MAX = 2048, ETAG_MAX = 128 };

/* ---- a cursor over a value; what does not fit leaves it where it was ---- */

static bool digit(char c) { return c >= '0' && c <= '9'; }

static bool take_number(nb_str *s, uint64_t *out)
{
    uint64_t n = 0;
    size_t i = 0;
    for (; i < s->n && digit(s->p[i]); i++)
        if (__builtin_mul_overflow(n, 10u, &n) || __builtin_add_overflow(n, (uint64_t)(s->p[i] - '0'), &n))
            return false;
    if (i == 0)
        return false;
    *s = (nb_str){s->p + i, s->n - i};
    *out = n;
    return true;
}

static bool take_char(nb_str *s, char c)
{
    if (s->n == 0 || *s->p != c)
        return false;
    *s = (nb_str){s->p + 1, s->n - 1};
    return true;
}

static void skip_spaces(nb_str *s)
{
    while (take_char(s, ' ') || take_char(s, '\t'))
        ;
}

static bool take_word(nb_str *s, const char *word) /* letters' case aside */
{
    size_t n = strlen(word);
    if (s->n < n || strncasecmp(s->p, word, n) != 0)
        return false;
    *s = (nb_str){s->p + n, s->n - n};
    return true;
}

/* ---- lengths and ranges ---- */

bool nb_length_parse(nb_str value, uint64_t *out)
{
    uint64_t n;
    if (!take_number(&value, &n) || value.n != 0)
        return false;
    *out = n;
    return true;
}

bool nb_range_parse(nb_str value, nb_range *out)
{
    nb_range r = {.total = UINT64_MAX};
    if (!take_word(&value, "bytes"))
        return false;
    skip_spaces(&value);
    if (!take_number(&value, &r.first) || !take_char(&value, '-') || !take_number(&value, &r.last) ||
        !take_char(&value, '/'))
        return false;
    if (!take_char(&value, '*') && !take_number(&value, &r.total))
        return false;
    if (value.n != 0 || r.last < r.first || r.last >= r.total)
        return false;
    *out = r;
    return true;
}

bool nb_upload_range_parse(nb_str value, uint64_t *held)
{
    uint64_t first, last;
    if (take_word(&value, "bytes="))
        skip_spaces(&value);
    if (!take_number(&value, &first) || !take_char(&value, '-') || !take_number(&value, &last) || value.n != 0 ||
        first != 0 || last == UINT64_MAX)
        return false;
    *held = last + 1;
    return true;
}

/* ---- WWW-Authenticate ---- */

static bool token_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || digit(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static nb_str take_token(nb_str *s)
{
    size_t n = 0;
    while (n < s->n && token_char(s->p[n]))
        n++;
    nb_str t = {s->p, n};
    *s = (nb_str){s->p + n, s->n - n};
    return t;
}

static bool take_value(nb_str *s, nb_str *out)
{
    if (!take_char(s, '"')) {
        *out = take_token(s);
        return out->n > 0 && out->n <= VALUE_MAX;
    }
    size_t n = 0;
    while (n < s->n && s->p[n] != '"') {
        if ((unsigned char)s->p[n] < 0x20 || (unsigned char)s->p[n] >= 0x7f || s->p[n] == '\\')
            return false;
        n++;
    }
    *out = (nb_str){s->p, n};
    if (n == s->n || n > VALUE_MAX)
        return false;
    *s = (nb_str){s->p + n + 1, s->n - n - 1};
    return true;
}

bool nb_challenge_parse(nb_str value, nb_challenge *out)
{
    nb_challenge c = {0};
    skip_spaces(&value);
    if (!take_word(&value, "Bearer") || !(take_char(&value, ' ') || take_char(&value, '\t')))
        return false;
    for (;;) {
        nb_str text;
        skip_spaces(&value);
        nb_str key = take_token(&value);
        skip_spaces(&value);
        if (key.n == 0 || !take_char(&value, '='))
            break; /* another challenge, or the end */
        skip_spaces(&value);
        if (!take_value(&value, &text))
            return false;
        nb_str *to = key.n == 5 && strncasecmp(key.p, "realm", 5) == 0     ? &c.realm
                     : key.n == 7 && strncasecmp(key.p, "service", 7) == 0 ? &c.service
                     : key.n == 5 && strncasecmp(key.p, "scope", 5) == 0   ? &c.scope
                                                                           : NULL;
        if (to && to->p)
            return false; /* twice: which one is meant? */
        if (to)
            *to = text;
        skip_spaces(&value);
        if (!take_char(&value, ','))
            break;
    }
    if (c.realm.n == 0)
        return false;
    *out = c;
    return true;
}

/* ---- names ---- */

bool nb_etag_parse(nb_str value, nb_str *out)
{
    if (nb_str_starts(value, NB_STR("W/")))
        value = (nb_str){value.p + 2, value.n - 2};
    if (take_char(&value, '"')) {
        if (value.n == 0 || value.p[value.n - 1] != '"')
            return false;
        value.n--;
    }
    if (value.n == 0 || value.n > ETAG_MAX || *value.p == '.' || *value.p == '-')
        return false;
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || digit(c) || c == '-' || c == '_' || c == '.'))
            return false;
    }
    *out = value;
    return true;
}

static bool five_digits(const char *p, unsigned *out)
{
    unsigned n = 0;
    for (int i = 0; i < 5; i++) {
        if (!digit(p[i]))
            return false;
        n = n * 10 + (unsigned)(p[i] - '0');
    }
    *out = n;
    return true;
}

bool nb_shard_parse(nb_str name, size_t *at, unsigned *number, unsigned *count)
{
    enum { LENGTH = 15 }; /* "-00001-of-00003" */
    size_t dot = name.n;
    while (dot > 0 && name.p[dot - 1] != '.' && name.p[dot - 1] != '/')
        dot--;
    if (dot < LENGTH + 2 || name.p[dot - 1] != '.')
        return false;
    const char *p = name.p + dot - 1 - LENGTH;
    if (p[0] != '-' || memcmp(p + 6, "-of-", 4) != 0 || !five_digits(p + 1, number) || !five_digits(p + 10, count) ||
        *number < 1 || *number > *count)
        return false;
    *at = (size_t)(p + 1 - name.p);
    return true;
}
