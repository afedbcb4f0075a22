/* grammar_schema_array.c - arrays: items one by one, then all alike. */
#include "text/grammar_schema.h"

enum { DIFFERENT = 8 }; /* values of which a list without repetition may be made */

static const json_t *prefix_of(const json_t *atom)
{
    const json_t *prefix = json_object_get(atom, "prefixItems"), *items = json_object_get(atom, "items");
    return prefix ? prefix : json_is_array(items) ? items : NULL; /* draft 7 has them in items */
}

size_t nb_schema_prefix(const nb_term *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->count; i++)
        n = nb_max_size(n, json_array_size(prefix_of(t->atoms[i])));
    return n;
}

nb_status nb_schema_item(nb_schema *s, const nb_term *t, size_t i, nb_all **out)
{
    const json_t **nodes = NB_ARRAY(&s->arena, const json_t *, t->count);
    size_t n = 0;
    if (!nodes)
        return nb_schema_memory(s);
    for (size_t k = 0; k < t->count; k++) {
        const json_t *prefix = prefix_of(t->atoms[k]), *items = json_object_get(t->atoms[k], "items");
        const json_t *rest = json_is_array(items) ? json_object_get(t->atoms[k], "additionalItems") : items;
        if (i < json_array_size(prefix))
            nodes[n++] = json_array_get(prefix, i);
        else if (rest)
            nodes[n++] = rest;
    }
    return nb_schema_all(s, nodes, n, out);
}

/* ---- without repetition ---- */

/* The values that an item may have, each once; NB_ERR_UNSUPPORTED when they are too many. */
static nb_status different_values(nb_schema *s, const nb_term *t, const json_t *node, const json_t *values[DIFFERENT],
                                  size_t *count)
{
    nb_all *item;
    const nb_term *terms;
    bool few = nb_schema_prefix(t) == 0;
    *count = 0;
    NB_TRY(nb_schema_item(s, t, 0, &item));
    NB_TRY(nb_schema_terms(s, item, &terms));
    for (; terms && few; terms = terms->next) {
        nb_shape shape;
        NB_TRY(nb_schema_shape(s, terms, &shape));
        few = shape.chosen;
        for (size_t i = 0; i < shape.value_count && few; i++) {
            bool known = false;
            for (size_t k = 0; k < *count && !known; k++)
                known = nb_json_same(values[k], shape.values[i]);
            few = known || *count < DIFFERENT;
            if (!known && few)
                values[(*count)++] = shape.values[i];
        }
    }
    if (!few)
        return nb_schema_fail(s, node, "uniqueItems", NB_ERR_UNSUPPORTED,
                              "only lists of at most %d values from an enum can be kept without repetition", DIFFERENT);
    return NB_OK;
}

/* A state for each set of values that were said. */
static nb_status write_different(nb_schema *s, const json_t *const *values, size_t count, size_t least, size_t most,
                                 uint32_t from, uint32_t to)
{
    uint32_t at[1 << DIFFERENT], rule[DIFFERENT];
    for (size_t i = 0; i < count; i++) {
        rule[i] = nb_rules_add(&s->r, (nb_str){0});
        NB_TRY(nb_schema_write_value(s, values[i], nb_rules_at(&s->r, rule[i]).start, nb_rules_at(&s->r, rule[i]).end));
    }
    for (unsigned set = 0; set < 1u << count; set++)
        at[set] = set ? nb_rules_state(&s->r) : from;
    for (unsigned set = 0; set < 1u << count; set++) {
        size_t said = (size_t)__builtin_popcount(set);
        if (said >= least && said <= most)
            nb_rules_empty(&s->r, at[set], to);
        uint32_t next = said == 0 || said >= most ? at[set] : nb_schema_comma(s, at[set]);
        for (unsigned i = 0; i < count && said < most; i++)
            if (!(set >> i & 1))
                nb_rules_call(&s->r, next, at[set | 1u << i], rule[i], 1, 1);
    }
    return s->r.status;
}

/* ---- with it ---- */

static nb_status write_rest(nb_schema *s, const nb_term *t, size_t prefix, size_t least, size_t most, uint32_t from,
                            uint32_t to)
{
    nb_all *item;
    NB_TRY(nb_schema_item(s, t, prefix, &item));
    uint32_t many = nb_rules_add(&s->r, (nb_str){0}); /* a comma and an item */
    nb_rule rule = nb_rules_at(&s->r, many);
    nb_rules_call(&s->r, nb_schema_comma(s, rule.start), rule.end, item->rule, 1, 1);
    size_t done = prefix;
    if (prefix == 0 && most > 0) { /* the first has no comma */
        uint32_t first = nb_rules_state(&s->r);
        nb_rules_call(&s->r, from, first, item->rule, 1, 1);
        if (least == 0)
            nb_rules_empty(&s->r, from, to);
        from = first;
        done = 1;
    }
    size_t low = least > done ? least - done : 0, high = most - nb_min_size(done, most);
    if (low >= UINT32_MAX || low > high)
        return NB_OK; /* never so many: no way out */
    nb_rules_call(&s->r, from, to, many, (uint32_t)low, high >= UINT32_MAX ? NB_RULES_ANY : (uint32_t)high);
    return s->r.status;
}

static nb_status write_items(nb_schema *s, const nb_term *t, size_t least, size_t most, uint32_t from, uint32_t to)
{
    size_t prefix = nb_schema_prefix(t);
    for (size_t i = 0; i < prefix && i < most; i++) {
        nb_all *item;
        uint32_t behind = nb_rules_state(&s->r);
        NB_TRY(nb_schema_item(s, t, i, &item));
        if (i >= least)
            nb_rules_empty(&s->r, from, to);
        nb_rules_call(&s->r, i ? nb_schema_comma(s, from) : from, behind, item->rule, 1, 1);
        from = behind;
    }
    if (most > prefix || least > prefix)
        return write_rest(s, t, prefix, least, most, from, to);
    nb_rules_empty(&s->r, from, to);
    return s->r.status;
}

nb_status nb_schema_array(nb_schema *s, const nb_term *t, uint32_t from, uint32_t to)
{
    size_t least = 0, most = SIZE_MAX, count;
    const json_t *unique = NULL, *values[DIFFERENT];
    NB_TRY(nb_schema_count(s, t, "minItems", false, &least));
    NB_TRY(nb_schema_count(s, t, "maxItems", true, &most));
    for (size_t i = 0; i < t->count; i++)
        if (json_is_true(json_object_get(t->atoms[i], "uniqueItems")))
            unique = t->atoms[i];
    uint32_t first = nb_schema_space(s, nb_rules_text(&s->r, from, NB_STR("["))), last = nb_rules_state(&s->r);
    if (least > most)
        return s->r.status;
    if (unique && most > 1) {
        NB_TRY(different_values(s, t, unique, values, &count));
        NB_TRY(write_different(s, values, count, least, most, first, last));
    } else {
        NB_TRY(write_items(s, t, least, most, first, last));
    }
    nb_rules_empty(&s->r, nb_rules_text(&s->r, nb_schema_space(s, last), NB_STR("]")), to);
    return s->r.status;
}
