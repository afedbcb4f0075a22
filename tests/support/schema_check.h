/* schema_check.h - does a JSON value fit a schema? Straight from the specification, value by value, for the keywords that
 * tests use; it shares nothing with the grammars. Unknown keywords end the program: a test must not pass by them. */
#ifndef NB_TESTS_SCHEMA_CHECK_H
#define NB_TESTS_SCHEMA_CHECK_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <arpa/inet.h>
#include <jansson.h>
#include <math.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline bool sc_matches(const char *pattern, const char *text, size_t n)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_DOLLAR_ENDONLY, &code,
                                   &at, NULL);
    if (!re)
        abort();
    pcre2_match_data *m = pcre2_match_data_create_from_pattern(re, NULL);
    bool found = pcre2_match(re, (PCRE2_SPTR)text, n, 0, 0, m, NULL) >= 0;
    pcre2_match_data_free(m);
    pcre2_code_free(re);
    return found;
}

static inline bool sc_date(const char *s, size_t n)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int y, m, d, used = 0;
    if (n != 10 || sscanf(s, "%4d-%2d-%2d%n", &y, &m, &d, &used) != 3 || used != 10 || m < 1 || m > 12 || d < 1)
        return false;
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return d <= days[m - 1] + (m == 2 && leap);
}

static inline bool sc_time(const char *s)
{
    int h, m, sec, zh, zm, used = 0;
    char sign;
    if (sscanf(s, "%2d:%2d:%2d%n", &h, &m, &sec, &used) != 3 || used != 8 || h > 23 || m > 59 || sec > 59)
        return false;
    s += 8;
    if (*s == '.')
        for (s++; *s >= '0' && *s <= '9';)
            s++;
    if (strcmp(s, "Z") == 0)
        return true;
    return strlen(s) == 6 && sscanf(s, "%c%2d:%2d", &sign, &zh, &zm) == 3 && (sign == '+' || sign == '-') && zh < 24 &&
           zm < 60;
}

static inline bool sc_format(const char *format, const char *s, size_t n)
{
    unsigned char address[16];
    char day[11] = {0};
    if (strcmp(format, "date") == 0)
        return sc_date(s, n);
    if (strcmp(format, "time") == 0)
        return sc_time(s);
    if (strcmp(format, "date-time") == 0) {
        memcpy(day, s, n < 10 ? n : 10);
        return n > 11 && sc_date(day, strlen(day)) && s[10] == 'T' && sc_time(s + 11);
    }
    if (strcmp(format, "ipv4") == 0)
        return inet_pton(AF_INET, s, address) == 1;
    if (strcmp(format, "ipv6") == 0)
        return inet_pton(AF_INET6, s, address) == 1;
    if (strcmp(format, "uuid") == 0)
        return n == 36 && sc_matches("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", s, n);
    if (strcmp(format, "email") == 0)
        return sc_matches("^[^@ ]+@[^@ .]+(\\.[^@ .]+)+$", s, n);
    fprintf(stderr, "no check for format %s\n", format);
    abort();
}

static inline bool sc_type(const char *type, const json_t *v)
{
    if (strcmp(type, "integer") == 0)
        return json_is_integer(v) || (json_is_real(v) && json_real_value(v) == trunc(json_real_value(v)));
    return (strcmp(type, "null") == 0 && json_is_null(v)) || (strcmp(type, "boolean") == 0 && json_is_boolean(v)) ||
           (strcmp(type, "number") == 0 && json_is_number(v)) || (strcmp(type, "string") == 0 && json_is_string(v)) ||
           (strcmp(type, "array") == 0 && json_is_array(v)) || (strcmp(type, "object") == 0 && json_is_object(v));
}

static inline bool sc_equal(json_t *a, json_t *b)
{
    return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b)
                                                  : json_equal(a, b) == 1;
}

static inline size_t sc_length(const json_t *v)
{
    size_t n = 0;
    for (size_t i = 0; i < json_string_length(v); i++)
        n += ((unsigned char)json_string_value(v)[i] & 0xC0) != 0x80;
    return n;
}

static inline bool sc_fits(json_t *root, json_t *schema, json_t *v);

static inline size_t sc_count(json_t *root, json_t *list, json_t *v)
{
    size_t i, n = 0;
    json_t *part;
    json_array_foreach(list, i, part) n += sc_fits(root, part, v);
    return n;
}

static inline bool sc_object(json_t *root, json_t *schema, json_t *v)
{
    const char *key, *pattern;
    json_t *value, *part, *properties = json_object_get(schema, "properties");
    json_t *patterns = json_object_get(schema, "patternProperties"),
           *others = json_object_get(schema, "additionalProperties");
    size_t i;
    json_array_foreach(json_object_get(schema, "required"), i,
                       value) if (!json_object_get(v, json_string_value(value))) return false;
    json_object_foreach(v, key, value)
    {
        bool described = json_object_get(properties, key) != NULL;
        if (described && !sc_fits(root, json_object_get(properties, key), value))
            return false;
        json_object_foreach(patterns, pattern, part) if (sc_matches(pattern, key, strlen(key)))
        {
            described = true;
            if (!sc_fits(root, part, value))
                return false;
        }
        if (!described && others && !sc_fits(root, others, value))
            return false;
    }
    return true;
}

static inline bool sc_array(json_t *root, json_t *schema, json_t *v)
{
    json_t *item, *prefix = json_object_get(schema, "prefixItems"), *items = json_object_get(schema, "items");
    size_t i;
    json_array_foreach(v, i, item)
    {
        json_t *of = i < json_array_size(prefix) ? json_array_get(prefix, i) : items;
        if (of && !sc_fits(root, of, item))
            return false;
        for (size_t k = 0; k < i && json_is_true(json_object_get(schema, "uniqueItems")); k++)
            if (sc_equal(item, json_array_get(v, k)))
                return false;
    }
    return true;
}

/* keywords that compare a size */
static inline bool sc_size(const char *key, double bound, json_t *v, bool *known)
{
    static const char *const keys[] = {"minLength", "maxLength",     "minItems",
                                       "maxItems",  "minProperties", "maxProperties"};
    bool applies[] = {json_is_string(v), json_is_array(v), json_is_object(v)};
    double sizes[] = {json_is_string(v) ? (double)sc_length(v) : 0, (double)json_array_size(v),
                      (double)json_object_size(v)};
    *known = true;
    for (int i = 0; i < 6; i++)
        if (strcmp(key, keys[i]) == 0)
            return !applies[i / 2] || (i % 2 ? sizes[i / 2] <= bound : sizes[i / 2] >= bound);
    double x = json_number_value(v);
    if (strcmp(key, "minimum") == 0)
        return !json_is_number(v) || x >= bound;
    if (strcmp(key, "maximum") == 0)
        return !json_is_number(v) || x <= bound;
    if (strcmp(key, "exclusiveMinimum") == 0)
        return !json_is_number(v) || x > bound;
    if (strcmp(key, "exclusiveMaximum") == 0)
        return !json_is_number(v) || x < bound;
    if (strcmp(key, "multipleOf") == 0)
        return !json_is_number(v) ||
               (json_is_integer(v) && bound == trunc(bound) ? json_integer_value(v) % (json_int_t)bound == 0
                                                            : x / bound == trunc(x / bound));
    *known = false;
    return true;
}

static inline bool sc_keyword(json_t *root, json_t *schema, const char *key, json_t *of, json_t *v)
{
    static const char *const elsewhere[] = {"properties", "patternProperties", "additionalProperties", "required",
                                            "items",      "prefixItems",       "uniqueItems",          "$defs",
                                            "title",      "description",       "discriminator"};
    bool known;
    size_t i;
    json_t *one;
    if (!sc_size(key, json_number_value(of), v, &known) || known)
        return known && sc_size(key, json_number_value(of), v, &known);
    if (strcmp(key, "type") == 0) {
        bool any = json_is_string(of) && sc_type(json_string_value(of), v);
        json_array_foreach(of, i, one) any |= sc_type(json_string_value(one), v);
        return any;
    }
    if (strcmp(key, "enum") == 0) {
        bool any = false;
        json_array_foreach(of, i, one) any |= sc_equal(one, v);
        return any;
    }
    if (strcmp(key, "const") == 0)
        return sc_equal(of, v);
    if (strcmp(key, "pattern") == 0)
        return !json_is_string(v) || sc_matches(json_string_value(of), json_string_value(v), json_string_length(v));
    if (strcmp(key, "format") == 0)
        return !json_is_string(v) || sc_format(json_string_value(of), json_string_value(v), json_string_length(v));
    if (strcmp(key, "allOf") == 0)
        return sc_count(root, of, v) == json_array_size(of);
    if (strcmp(key, "anyOf") == 0)
        return sc_count(root, of, v) > 0;
    if (strcmp(key, "oneOf") == 0)
        return sc_count(root, of, v) == 1;
    if (strcmp(key, "$ref") == 0) /* "#/$defs/NAME" */
        return sc_fits(root, json_object_get(json_object_get(root, "$defs"), json_string_value(of) + 8), v);
    for (i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++)
        if (strcmp(key, elsewhere[i]) == 0)
            return true;
    fprintf(stderr, "no check for keyword %s\n", key);
    (void)schema;
    abort();
}

static inline bool sc_fits(json_t *root, json_t *schema, json_t *v)
{
    const char *key;
    json_t *of;
    if (json_is_boolean(schema))
        return json_is_true(schema);
    json_object_foreach(schema, key, of) if (!sc_keyword(root, schema, key, of, v)) return false;
    return (!json_is_object(v) || sc_object(root, schema, v)) && (!json_is_array(v) || sc_array(root, schema, v));
}

#endif
