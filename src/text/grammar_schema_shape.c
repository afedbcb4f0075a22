/* grammar_schema_shape.c - what all schemas of a term together say of types, values, numbers and lengths. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "text/grammar_schema.h"

/* ---- values ---- */

unsigned nb_json_type(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_NULL: return NB_JSON_NULL;
    case JSON_TRUE:
    case JSON_FALSE: return NB_JSON_BOOL;
    case JSON_INTEGER: return NB_JSON_WHOLE;
    case JSON_REAL: return json_real_value(v) == trunc(json_real_value(v)) ? NB_JSON_WHOLE : NB_JSON_FRACTION;
    case JSON_STRING: return NB_JSON_STRING;
    case JSON_ARRAY: return NB_JSON_ARRAY;
    case JSON_OBJECT: return NB_JSON_OBJECT;
    }
    return 0;
}

static bool same_number(const json_t *a, const json_t *b)
{
    if (json_is_integer(a) && json_is_integer(b))
        return json_integer_value(a) == json_integer_value(b);
    return json_number_value(a) == json_number_value(b);
}

/* Equal as JSON sees it: 1 is 1.0, and the order of properties does not matter. */
bool nb_json_same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return same_number(a, b);
    if (json_typeof(a) != json_typeof(b))
        return false;
    if (json_is_array(a)) {
        bool same = json_array_size(a) == json_array_size(b);
        for (size_t i = 0; same && i < json_array_size(a); i++)
            same = nb_json_same(json_array_get(a, i), json_array_get(b, i));
        return same;
    }
    if (json_is_object(a)) {
        const char *key;
        json_t *value;
        bool same = json_object_size(a) == json_object_size(b);
        json_object_foreach((json_t *)(uintptr_t)a, key, value)
        {
            const json_t *other = json_object_get(b, key);
            same = same && other && nb_json_same(value, other);
        }
        return same;
    }
    return json_is_string(a) ? nb_str_eq(nb_json_text(a), nb_json_text(b)) : true;
}

/* ---- keywords ---- */

nb_status nb_schema_number(nb_schema *s, const json_t *node, const char *key, const json_t *value,
                           const nb_decimal **out)
{
    char text[40];
    nb_decimal *d = NB_NEW(&s->arena, nb_decimal);
    if (!d)
        return nb_schema_memory(s);
    if (!json_is_number(value))
        return nb_schema_fail(s, node, key, NB_ERR_ARGUMENT, "a number should be here");
    if (json_is_integer(value))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    else
        nb_format_double(json_real_value(value), text);
    *out = d;
    return nb_schema_at(s, nb_decimal_read(nb_str_of(text), &s->arena, d, s->err), node, key);
}

nb_status nb_schema_count(nb_schema *s, const nb_term *t, const char *key, bool max, size_t *out)
{
    for (size_t i = 0; i < t->count; i++) {
        const json_t *v = json_object_get(t->atoms[i], key);
        if (!v)
            continue;
        double n = json_is_number(v) ? json_number_value(v) : -1;
        if (n < 0 || n != trunc(n))
            return nb_schema_fail(s, t->atoms[i], key, NB_ERR_ARGUMENT, "a whole number, 0 or more, should be here");
        size_t count = n > 1e15 ? (max ? SIZE_MAX : (size_t)1e15) : (size_t)n;
        *out = max ? nb_min_size(*out, count) : nb_max_size(*out, count);
    }
    return NB_OK;
}

static nb_status type_named(nb_schema *s, const json_t *node, const json_t *name, unsigned *out)
{
    static const struct {
        const char *name;
        unsigned types;
    } known[] = {{"null", NB_JSON_NULL},     {"boolean", NB_JSON_BOOL},
                 {"integer", NB_JSON_WHOLE}, {"number", NB_JSON_WHOLE | NB_JSON_FRACTION},
                 {"string", NB_JSON_STRING}, {"array", NB_JSON_ARRAY},
                 {"object", NB_JSON_OBJECT}, {"any", NB_JSON_ALL}};
    for (size_t i = 0; json_is_string(name) && i < sizeof known / sizeof *known; i++)
        if (nb_str_eqz(nb_json_text(name), known[i].name)) {
            *out |= known[i].types;
            return NB_OK;
        }
    return nb_schema_fail(s, node, "type", NB_ERR_ARGUMENT, "there is no such type");
}

static nb_status types_of(nb_schema *s, const json_t *node, unsigned *out)
{
    const json_t *type = json_object_get(node, "type");
    unsigned types = 0;
    if (!type)
        return NB_OK;
    if (!json_is_array(type))
        NB_TRY(type_named(s, node, type, &types));
    for (size_t i = 0; i < json_array_size(type); i++)
        NB_TRY(type_named(s, node, json_array_get(type, i), &types));
    if (json_is_true(json_object_get(node, "nullable")))
        types |= NB_JSON_NULL;
    *out &= types;
    return NB_OK;
}

/* The tighter of two bounds stays; of equal ones, that which leaves out the bound itself. */
static void tighten(const nb_decimal **bound, bool *strict, const nb_decimal *other, bool other_strict, bool is_low)
{
    int order = *bound ? nb_decimal_compare(other, *bound) : is_low ? 1 : -1;
    if (order == 0)
        *strict |= other_strict;
    else if ((order > 0) == is_low) {
        *bound = other;
        *strict = other_strict;
    }
}

static nb_status bound_of(nb_schema *s, const json_t *node, bool is_low, nb_number_range *range)
{
    const char *key = is_low ? "minimum" : "maximum", *strict_key = is_low ? "exclusiveMinimum" : "exclusiveMaximum";
    const json_t *plain = json_object_get(node, key), *strict = json_object_get(node, strict_key);
    const nb_decimal **bound = is_low ? &range->low : &range->high, *value;
    bool *leave = is_low ? &range->above : &range->below;
    if (plain) {
        NB_TRY(nb_schema_number(s, node, key, plain, &value));
        tighten(bound, leave, value, json_is_true(strict), is_low); /* draft 4: true beside minimum */
    }
    if (strict && !json_is_boolean(strict)) {
        NB_TRY(nb_schema_number(s, node, strict_key, strict, &value));
        tighten(bound, leave, value, true, is_low);
    }
    return NB_OK;
}

/* OpenAPI's formats of integers are ranges. */
static nb_status format_range(nb_schema *s, const json_t *node, nb_number_range *range)
{
    static const struct {
        const char *name, *low, *high;
    } known[] = {{"int8", "-128", "127"},
                 {"uint8", "0", "255"},
                 {"int16", "-32768", "32767"},
                 {"uint16", "0", "65535"},
                 {"int32", "-2147483648", "2147483647"},
                 {"uint32", "0", "4294967295"},
                 {"int64", "-9223372036854775808", "9223372036854775807"},
                 {"uint64", "0", "18446744073709551615"},
                 {"uint", "0", "18446744073709551615"}};
    const json_t *format = json_object_get(node, "format");
    for (size_t i = 0; json_is_string(format) && i < sizeof known / sizeof *known; i++) {
        nb_decimal *bound = NB_ARRAY(&s->arena, nb_decimal, 2);
        if (!nb_str_eqz(nb_json_text(format), known[i].name))
            continue;
        if (!bound)
            return nb_schema_memory(s);
        NB_TRY(nb_decimal_read(nb_str_of(known[i].low), &s->arena, &bound[0], s->err));
        NB_TRY(nb_decimal_read(nb_str_of(known[i].high), &s->arena, &bound[1], s->err));
        tighten(&range->low, &range->above, &bound[0], false, true);
        tighten(&range->high, &range->below, &bound[1], false, false);
    }
    return NB_OK;
}

static nb_status numbers_of(nb_schema *s, const json_t *node, nb_shape *shape)
{
    const json_t *multiple = json_object_get(node, "multipleOf");
    NB_TRY(bound_of(s, node, true, &shape->range));
    NB_TRY(bound_of(s, node, false, &shape->range));
    if (shape->types & NB_JSON_WHOLE)
        NB_TRY(format_range(s, node, &shape->range));
    if (!multiple)
        return NB_OK;
    if (shape->multiple_count == sizeof shape->multiples / sizeof *shape->multiples)
        return nb_schema_fail(s, node, "multipleOf", NB_ERR_LIMIT, "too many of these hold at once");
    const nb_decimal **of = &shape->multiples[shape->multiple_count++];
    NB_TRY(nb_schema_number(s, node, "multipleOf", multiple, of));
    if ((*of)->negative || (*of)->count == 0)
        return nb_schema_fail(s, node, "multipleOf", NB_ERR_ARGUMENT, "a number above 0 should be here");
    return NB_OK;
}

/* ---- enum, const and not ---- */

static bool is_among(const json_t *list, const json_t *v)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (nb_json_same(json_array_get(list, i), v))
            return true;
    return false;
}

static nb_status choose(nb_schema *s, const json_t *node, nb_shape *shape)
{
    const json_t *list = json_object_get(node, "enum"), *one = json_object_get(node, "const");
    if (list && !json_is_array(list))
        return nb_schema_fail(s, node, "enum", NB_ERR_ARGUMENT, "a list of values should be here");
    size_t n = list ? json_array_size(list) : 1, kept = 0;
    if (!list && !one)
        return NB_OK;
    if (!shape->chosen) {
        shape->values = NB_ARRAY(&s->arena, const json_t *, n);
        if (!shape->values)
            return nb_schema_memory(s);
        for (size_t i = 0; i < n; i++)
            shape->values[shape->value_count++] = list ? json_array_get(list, i) : one;
        shape->chosen = true;
    }
    NB_TRY(nb_schema_work(s, shape->value_count + n));
    for (size_t i = 0; i < shape->value_count; i++)
        if ((!list || is_among(list, shape->values[i])) && (!one || nb_json_same(one, shape->values[i])))
            shape->values[kept++] = shape->values[i];
    shape->value_count = kept;
    return NB_OK;
}

/* not: of a type, or of values where these can be left out. */
static nb_status leave_out(nb_schema *s, const json_t *node, nb_shape *shape)
{
    const json_t *not = json_object_get(node, "not"), *list = json_object_get(not, "enum"),
                 *one = json_object_get(not, "const");
    unsigned types = NB_JSON_ALL;
    size_t kept = 0;
    if (!not || json_is_false(not ))
        return NB_OK;
    if (json_is_true(not ) || (json_is_object(not ) && json_object_size(not ) == 0)) {
        shape->types = 0;
        return NB_OK;
    }
    if (json_object_size(not ) == 1 && json_object_get(not, "type")) {
        NB_TRY(types_of(s, not, &types));
        shape->types &= ~types;
        return NB_OK;
    }
    if (json_object_size(not ) != 1 || (!list && !one) || !shape->chosen)
        return nb_schema_fail(s, node, "not", NB_ERR_UNSUPPORTED,
                              "only a type can be excluded, or values from an enum; say what is allowed instead");
    for (size_t i = 0; i < shape->value_count; i++)
        if (list ? !is_among(list, shape->values[i]) : !nb_json_same(one, shape->values[i]))
            shape->values[kept++] = shape->values[i];
    shape->value_count = kept;
    return NB_OK;
}

/* ---- do the chosen values fit the rest? ---- */

static nb_status number_fits(nb_schema *s, const nb_term *t, const nb_shape *shape, const json_t *v, bool *fits)
{
    const nb_number_range *r = &shape->range;
    const nb_decimal *d;
    char text[40];
    NB_TRY(nb_schema_number(s, t->atoms[0], "enum", v, &d));
    int low = r->low ? nb_decimal_compare(d, r->low) : 1, high = r->high ? nb_decimal_compare(d, r->high) : -1;
    *fits = low >= r->above && high <= -(int)r->below;
    for (size_t i = 0; i < shape->multiple_count && *fits; i++) {
        nb_dfa *of;
        NB_TRY(
            nb_schema_at(s, nb_multiple_dfa(shape->multiples[i], &s->arena, &of, s->err), t->atoms[0], "multipleOf"));
        nb_format_double(json_number_value(v), text);
        if (strchr(text, 'e') || fabs(json_number_value(v)) > 0x1p53)
            return nb_schema_fail(s, t->atoms[0], "enum", NB_ERR_UNSUPPORTED, "%s beside multipleOf is not supported",
                                  text);
        *fits = nb_dfa_accepts(of, nb_str_of(text));
    }
    return NB_OK;
}

static size_t length_of(nb_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

/* Lists and objects are compared whole; further conditions on their parts are not looked at, so there must be none. */
static nb_status check_parts(nb_schema *s, const nb_term *t)
{
    static const char *const parts[] = {"properties",
                                        "required",
                                        "additionalProperties",
                                        "patternProperties",
                                        "propertyNames",
                                        "minProperties",
                                        "maxProperties",
                                        "items",
                                        "prefixItems",
                                        "minItems",
                                        "maxItems",
                                        "uniqueItems",
                                        "additionalItems",
                                        "unevaluatedProperties"};
    for (size_t i = 0; i < t->count; i++)
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
            if (json_object_get(t->atoms[i], parts[k]))
                return nb_schema_fail(s, t->atoms[i], parts[k], NB_ERR_UNSUPPORTED,
                                      "beside an enum or const of lists or objects this is not supported");
    return NB_OK;
}

static nb_status value_fits(nb_schema *s, const nb_term *t, const nb_shape *shape, const json_t *v, bool *fits)
{
    unsigned type = nb_json_type(v);
    *fits = (shape->types & type) != 0;
    if (!*fits)
        return NB_OK;
    if (type & (NB_JSON_WHOLE | NB_JSON_FRACTION)) {
        if (s->rounded && fabs(json_number_value(v)) >= 0x1p53)
            return nb_schema_fail(s, t->atoms[0], NULL, NB_ERR_UNSUPPORTED, "a value that does not fit 64 bits");
        return number_fits(s, t, shape, v, fits);
    }
    if (type & (NB_JSON_ARRAY | NB_JSON_OBJECT))
        return check_parts(s, t);
    if (type == NB_JSON_STRING) {
        size_t n = length_of(nb_json_text(v));
        *fits = shape->has_text ? nb_dfa_accepts(shape->text, nb_json_text(v))
                                : n >= shape->min_length && n <= shape->max_length;
    }
    return NB_OK;
}

nb_status nb_schema_shape(nb_schema *s, const nb_term *t, nb_shape *out)
{
    size_t kept = 0;
    *out = (nb_shape){.types = NB_JSON_ALL, .max_length = SIZE_MAX};
    NB_TRY(nb_schema_work(s, t->count));
    for (size_t i = 0; i < t->count; i++)
        NB_TRY(types_of(s, t->atoms[i], &out->types));
    for (size_t i = 0; i < t->count; i++) {
        NB_TRY(numbers_of(s, t->atoms[i], out));
        NB_TRY(choose(s, t->atoms[i], out));
    }
    for (size_t i = 0; i < t->count; i++)
        NB_TRY(leave_out(s, t->atoms[i], out));
    NB_TRY(nb_schema_count(s, t, "minLength", false, &out->min_length));
    NB_TRY(nb_schema_count(s, t, "maxLength", true, &out->max_length));
    if (out->types & NB_JSON_STRING)
        NB_TRY(nb_schema_text(s, t, out));
    unsigned left = 0;
    for (size_t i = 0; i < out->value_count; i++) {
        bool fits;
        NB_TRY(value_fits(s, t, out, out->values[i], &fits));
        if (fits) {
            left |= nb_json_type(out->values[i]);
            out->values[kept++] = out->values[i];
        }
    }
    out->value_count = kept;
    if (out->chosen)
        out->types = left;
    out->range.whole = !(out->types & NB_JSON_FRACTION);
    if ((out->types & NB_JSON_FRACTION) && !(out->types & NB_JSON_WHOLE) && !out->chosen)
        return nb_schema_fail(s, t->atoms[0], "not", NB_ERR_UNSUPPORTED,
                              "numbers without the integers are not supported");
    return NB_OK;
}
