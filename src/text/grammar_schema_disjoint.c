/* grammar_schema_disjoint.c - oneOf: a value must fit one branch alone. Nothing is written for a branch until it is shown
 * that what is written for it never fits another; where that cannot be shown, the schema is refused. */
#include <stdlib.h>

#include "text/grammar_schema.h"

enum { DEEP = 12 };

static nb_status apart_lists(nb_schema *s, nb_all *a, nb_all *b, int depth, bool *apart);

/* The alternatives that differ in a branch of a oneOf. */
static const json_t *differ(const nb_term *a, const nb_term *b)
{
    for (const nb_choice *x = a->choices; x; x = x->next)
        for (const nb_choice *y = b->choices; y; y = y->next)
            if (x->of == y->of && x->branch != y->branch)
                return x->of;
    return NULL;
}

static bool apart_ranges(const nb_number_range *a, const nb_number_range *b)
{
    for (int turn = 0; turn < 2; turn++) {
        int order = a->high && b->low ? nb_decimal_compare(a->high, b->low) : 1;
        if (order < 0 || (order == 0 && (a->below || b->above)))
            return true;
        const nb_number_range *swap = a;
        a = b;
        b = swap;
    }
    return false;
}

static nb_status apart_strings(nb_schema *s, const nb_shape *a, const nb_shape *b, bool *apart)
{
    nb_dfa *both;
    *apart = a->max_length < b->min_length || b->max_length < a->min_length;
    if (*apart || !a->has_text || !b->has_text)
        return NB_OK;
    NB_TRY(nb_schema_work(s, 256));
    NB_TRY(nb_dfa_both(a->text, b->text, false, &s->arena, &both, s->err));
    *apart = both->count == 0;
    return NB_OK;
}

static nb_status apart_arrays(nb_schema *s, const nb_term *a, const nb_term *b, int depth, bool *apart)
{
    size_t least[2] = {0}, most[2] = {SIZE_MAX, SIZE_MAX};
    const nb_term *t[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        NB_TRY(nb_schema_count(s, t[i], "minItems", false, &least[i]));
        NB_TRY(nb_schema_count(s, t[i], "maxItems", true, &most[i]));
    }
    *apart = most[0] < least[1] || most[1] < least[0];
    size_t known = nb_min_size(nb_max_size(least[0], least[1]),
                               1 + nb_max_size(nb_schema_prefix(a), nb_schema_prefix(b)));
    for (size_t i = 0; i < known && !*apart; i++) {
        nb_all *x, *y;
        NB_TRY(nb_schema_item(s, a, i, &x));
        NB_TRY(nb_schema_item(s, b, i, &y));
        NB_TRY(apart_lists(s, x, y, depth + 1, apart));
    }
    return NB_OK;
}

/* Whether a property that one of them requires keeps objects written for a from fitting b. */
static nb_status apart_by(nb_schema *s, const nb_term *a, const nb_term *b, nb_str name, int depth, bool *apart)
{
    nb_all *x, *y;
    bool declared, may = true;
    if (nb_schema_requires(b, name))
        NB_TRY(nb_schema_may_have(s, a, name, &may));
    *apart = !may;
    if (*apart)
        return NB_OK;
    NB_TRY(nb_schema_property(s, a, name, &x, &declared));
    NB_TRY(nb_schema_property(s, b, name, &y, &declared));
    return apart_lists(s, x, y, depth + 1, apart);
}

static nb_status apart_objects(nb_schema *s, const nb_term *a, const nb_term *b, int depth, bool *apart)
{
    const nb_term *t[2] = {a, b};
    size_t k;
    json_t *name;
    for (int i = 0; i < 2; i++)
        for (size_t n = 0; n < t[i]->count; n++)
            json_array_foreach(json_object_get(t[i]->atoms[n], "required"), k, name)
            {
                if (*apart || !json_is_string(name) || strlen(json_string_value(name)) != json_string_length(name))
                    continue;
                NB_TRY(apart_by(s, a, b, nb_json_text(name), depth, apart));
            }
    return NB_OK;
}

/* A chosen value is held against the other side's types, values, numbers and texts; lists and objects only by type. */
static nb_status apart_values(nb_schema *s, const nb_shape *chosen, const nb_shape *other, bool *apart)
{
    *apart = true;
    for (size_t i = 0; i < chosen->value_count && *apart; i++) {
        const json_t *v = chosen->values[i];
        unsigned type = nb_json_type(v);
        nb_number_range point = {0};
        if (other->chosen) {
            for (size_t k = 0; k < other->value_count && *apart; k++)
                *apart = !nb_json_same(v, other->values[k]);
        } else if (other->types & type) {
            *apart = false;
            if (type & (NB_JSON_WHOLE | NB_JSON_FRACTION)) {
                NB_TRY(nb_schema_number(s, NULL, NULL, v, &point.low));
                point.high = point.low;
                *apart = apart_ranges(&point, &other->range);
            } else if (type == NB_JSON_STRING && other->has_text) {
                *apart = !nb_dfa_accepts(other->text, nb_json_text(v));
            }
        }
    }
    return NB_OK;
}

static nb_status apart_terms(nb_schema *s, const nb_term *a, const nb_term *b, int depth, bool *apart)
{
    nb_shape x, y;
    NB_TRY(nb_schema_shape(s, a, &x));
    NB_TRY(nb_schema_shape(s, b, &y));
    unsigned common = x.types & y.types;
    *apart = common == 0;
    if (*apart)
        return NB_OK;
    if (x.chosen || y.chosen)
        return x.chosen ? apart_values(s, &x, &y, apart) : apart_values(s, &y, &x, apart);
    *apart = !(common & (NB_JSON_NULL | NB_JSON_BOOL));
    if (*apart && (common & NB_JSON_WHOLE))
        *apart = apart_ranges(&x.range, &y.range);
    if (*apart && (common & NB_JSON_STRING))
        NB_TRY(apart_strings(s, &x, &y, apart));
    if (*apart && (common & NB_JSON_ARRAY)) {
        *apart = false;
        NB_TRY(apart_arrays(s, a, b, depth, apart));
    }
    if (*apart && (common & NB_JSON_OBJECT)) {
        *apart = false;
        NB_TRY(apart_objects(s, a, b, depth, apart));
    }
    return NB_OK;
}

static nb_status apart_lists(nb_schema *s, nb_all *a, nb_all *b, int depth, bool *apart)
{
    const nb_term *x, *y;
    *apart = false;
    if (a == b || depth > DEEP)
        return NB_OK;
    NB_TRY(nb_schema_terms(s, a, &x));
    NB_TRY(nb_schema_terms(s, b, &y));
    *apart = true;
    for (; x && *apart; x = x->next)
        for (const nb_term *z = y; z && *apart; z = z->next) {
            NB_TRY(nb_schema_work(s, 8));
            NB_TRY(apart_terms(s, x, z, depth, apart));
        }
    return NB_OK;
}

nb_status nb_schema_check_one_of(nb_schema *s, const nb_term *terms)
{
    for (const nb_term *a = terms; a; a = a->next)
        for (const nb_term *b = terms; b; b = b->next) {
            const json_t *of = differ(a, b);
            bool apart;
            if (!of)
                continue;
            NB_TRY(nb_schema_work(s, 8));
            NB_TRY(apart_terms(s, a, b, 0, &apart));
            if (!apart)
                return nb_schema_fail(
                    s, of, "oneOf", NB_ERR_UNSUPPORTED,
                    "a value may fit two of the alternatives: tell them apart by a const property that each "
                    "requires, or use anyOf");
        }
    return NB_OK;
}
