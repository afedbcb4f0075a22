/* grammar_schema_object.c - objects: the properties that are described, in their order, then others. */
#include <stdlib.h>

#include "text/grammar_schema.h"

enum { COUNTS = 1024, PLACES = 1 << 18 };

typedef struct property {
    nb_str name;
    nb_all *all;
    bool required;
} property;

typedef struct object {
    nb_schema *s;
    const nb_term *t;
    property *properties;
    size_t count;
    size_t least, most;   /* properties */
    size_t cap;           /* counts above this one are alike */
    uint32_t extra, more; /* rules, 1 up: another property; a comma and another property. 0: there are none */
} object;

/* ---- what is said of a name ---- */

static nb_status pattern_dfa(nb_schema *s, const json_t *atom, nb_str pattern, nb_dfa **out)
{
    NB_TRY(nb_schema_work(s, 64 + pattern.n));
    return nb_schema_at(s, nb_regex_dfa(pattern, &s->arena, out, s->err), atom, "patternProperties");
}

static nb_status matching(nb_schema *s, const json_t *atom, nb_str name, const json_t **nodes, size_t *n)
{
    const char *pattern;
    json_t *value;
    json_object_foreach(json_object_get(atom, "patternProperties"), pattern, value)
    {
        nb_dfa *dfa;
        NB_TRY(pattern_dfa(s, atom, nb_str_of(pattern), &dfa));
        if (nb_dfa_accepts(dfa, name))
            nodes[(*n)++] = value;
    }
    return NB_OK;
}

nb_status nb_schema_property(nb_schema *s, const nb_term *t, nb_str name, nb_all **out, bool *declared)
{
    size_t room = 0, n = 0;
    *declared = false;
    for (size_t i = 0; i < t->count; i++)
        room += 2 + json_object_size(json_object_get(t->atoms[i], "patternProperties"));
    const json_t **nodes = NB_ARRAY(&s->arena, const json_t *, room);
    if (!nodes)
        return nb_schema_memory(s);
    for (size_t i = 0; i < t->count; i++) {
        size_t before = n;
        const json_t *own = json_object_get(json_object_get(t->atoms[i], "properties"), name.p);
        const json_t *other = json_object_get(t->atoms[i], "additionalProperties");
        if (own)
            nodes[n++] = own;
        NB_TRY(matching(s, t->atoms[i], name, nodes, &n));
        *declared |= n > before;
        if (n == before && other)
            nodes[n++] = other;
    }
    return nb_schema_all(s, nodes, n, out);
}

bool nb_schema_requires(const nb_term *t, nb_str name)
{
    for (size_t i = 0; i < t->count; i++) {
        const json_t *list = json_object_get(t->atoms[i], "required");
        for (size_t k = 0; k < json_array_size(list); k++)
            if (json_is_string(json_array_get(list, k)) && nb_str_eq(nb_json_text(json_array_get(list, k)), name))
                return true;
    }
    return false;
}

/* The names that propertyNames allows; *out NULL: all. */
static nb_status allowed_names(nb_schema *s, const nb_term *t, nb_dfa **out)
{
    *out = NULL;
    for (size_t i = 0; i < t->count; i++) {
        const json_t *names = json_object_get(t->atoms[i], "propertyNames");
        const nb_term *terms;
        nb_shape shape;
        nb_all *all;
        nb_dfa *dfa = NULL;
        if (!names)
            continue;
        NB_TRY(nb_schema_all(s, &names, 1, &all));
        NB_TRY(nb_schema_terms(s, all, &terms));
        if (terms && terms->next)
            return nb_schema_fail(s, t->atoms[i], "propertyNames", NB_ERR_UNSUPPORTED,
                                  "alternatives are not supported here");
        if (terms) {
            NB_TRY(nb_schema_shape(s, terms, &shape));
            NB_TRY(nb_schema_strings(s, terms, &shape, &dfa));
        } else {
            NB_TRY(nb_schema_words(s, NULL, 0, &dfa));
        }
        if (*out)
            NB_TRY(nb_dfa_both(*out, dfa, false, &s->arena, &dfa, s->err));
        *out = dfa;
    }
    return NB_OK;
}

/* ---- the list of properties ---- */

static bool has_name(const object *o, nb_str name)
{
    for (size_t i = 0; i < o->count; i++)
        if (nb_str_eq(o->properties[i].name, name))
            return true;
    return false;
}

static nb_status add_property(object *o, nb_str name, const nb_dfa *names)
{
    bool declared;
    property *p = &o->properties[o->count];
    if (has_name(o, name))
        return NB_OK;
    NB_TRY(nb_schema_work(o->s, o->count / 8 + o->t->count));
    *p = (property){.name = name, .required = nb_schema_requires(o->t, name)};
    NB_TRY(nb_schema_property(o->s, o->t, name, &p->all, &declared));
    if ((names && !nb_dfa_accepts(names, name)) || (o->t->closed && !declared && !p->all->count)) {
        const json_t *never = json_false();
        NB_TRY(nb_schema_all(o->s, &never, 1, &p->all));
    }
    o->count++;
    return NB_OK;
}

static nb_status list_properties(object *o, const nb_dfa *names)
{
    const nb_term *t = o->t;
    size_t room = 0, k;
    json_t *value;
    const char *key;
    for (size_t i = 0; i < t->count; i++)
        room += json_object_size(json_object_get(t->atoms[i], "properties")) +
                json_array_size(json_object_get(t->atoms[i], "required"));
    if (!(o->properties = NB_ARRAY(&o->s->arena, property, room)))
        return nb_schema_memory(o->s);
    for (size_t i = 0; i < t->count; i++)
        json_object_foreach(json_object_get(t->atoms[i], "properties"), key, value)
            NB_TRY(add_property(o, nb_str_of(key), names));
    for (size_t i = 0; i < t->count; i++)
        json_array_foreach(json_object_get(t->atoms[i], "required"), k, value)
        {
            if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
                return nb_schema_fail(o->s, t->atoms[i], "required", NB_ERR_ARGUMENT, "a name should be here");
            NB_TRY(add_property(o, nb_json_text(value), names));
        }
    return NB_OK;
}

/* ---- others ---- */

typedef struct key_pattern {
    const json_t *atom, *value;
    nb_dfa *dfa;
} key_pattern;

static nb_status list_patterns(object *o, key_pattern patterns[NB_SCHEMA_KEYS], size_t *count)
{
    const char *key;
    json_t *value;
    *count = 0;
    for (size_t i = 0; i < o->t->count; i++)
        json_object_foreach(json_object_get(o->t->atoms[i], "patternProperties"), key, value)
        {
            if (*count == NB_SCHEMA_KEYS)
                return nb_schema_fail(o->s, o->t->atoms[i], "patternProperties", NB_ERR_UNSUPPORTED,
                                      "more than %d patterns for one object are not supported", NB_SCHEMA_KEYS);
            key_pattern *p = &patterns[(*count)++];
            *p = (key_pattern){o->t->atoms[i], value, NULL};
            NB_TRY(pattern_dfa(o->s, p->atom, nb_str_of(key), &p->dfa));
        }
    return NB_OK;
}

/* Whether properties that nothing describes are written at all. */
static bool is_open(const nb_term *t)
{
    bool described = false, asked = false;
    for (size_t i = 0; i < t->count; i++) {
        const json_t *other = json_object_get(t->atoms[i], "additionalProperties");
        described |= json_object_size(json_object_get(t->atoms[i], "properties")) > 0 ||
                     json_object_size(json_object_get(t->atoms[i], "patternProperties")) > 0;
        asked |= other && !json_is_false(other);
    }
    return asked || (!described && !t->closed);
}

/* The names that match just these patterns, are none of the described ones, and are allowed; *out NULL: any name. */
static nb_status names_of(object *o, const key_pattern *patterns, size_t count, unsigned set, const nb_dfa *names,
                          nb_dfa **out)
{
    nb_schema *s = o->s;
    nb_str *words = NB_ARRAY(&s->arena, nb_str, o->count);
    nb_dfa *dfa = NULL, *taken;
    *out = NULL;
    if (!words)
        return nb_schema_memory(s);
    if (count == 0 && o->count == 0 && !names)
        return NB_OK;
    NB_TRY(nb_dfa_length(0, SIZE_MAX, &s->arena, &dfa, s->err));
    for (size_t i = 0; i < count; i++)
        NB_TRY(nb_dfa_both(dfa, patterns[i].dfa, !(set >> i & 1), &s->arena, &dfa, s->err));
    for (size_t i = 0; i < o->count; i++)
        words[i] = o->properties[i].name;
    NB_TRY(nb_schema_words(s, words, o->count, &taken));
    NB_TRY(nb_dfa_both(dfa, taken, true, &s->arena, &dfa, s->err));
    if (names)
        NB_TRY(nb_dfa_both(dfa, names, false, &s->arena, &dfa, s->err));
    *out = dfa;
    return NB_OK;
}

/* What holds for the value of such a name. */
static nb_status value_of(object *o, const key_pattern *patterns, size_t count, unsigned set, nb_all **out)
{
    const json_t **nodes = NB_ARRAY(&o->s->arena, const json_t *, o->t->count + count);
    size_t n = 0;
    if (!nodes)
        return nb_schema_memory(o->s);
    for (size_t i = 0; i < o->t->count; i++) {
        size_t before = n;
        for (size_t k = 0; k < count; k++)
            if ((set >> k & 1) && patterns[k].atom == o->t->atoms[i])
                nodes[n++] = patterns[k].value;
        const json_t *other = json_object_get(o->t->atoms[i], "additionalProperties");
        if (n == before && other)
            nodes[n++] = other;
    }
    return nb_schema_all(o->s, nodes, n, out);
}

/* One more property, its name matching just these patterns, from one state to the other. */
static nb_status write_extra(object *o, const key_pattern *patterns, size_t count, unsigned set, const nb_dfa *names,
                             nb_rule rule)
{
    nb_schema *s = o->s;
    nb_shape name = {.max_length = SIZE_MAX};
    nb_all *all;
    nb_dfa *dfa;
    NB_TRY(names_of(o, patterns, count, set, names, &dfa));
    NB_TRY(value_of(o, patterns, count, set, &all));
    uint32_t quoted = nb_rules_state(&s->r);
    name.has_text = dfa != NULL;
    name.text = dfa;
    NB_TRY(nb_schema_write_string(s, &name, rule.start, quoted));
    nb_rules_call(&s->r, nb_schema_colon(s, quoted), rule.end, all->rule, 1, 1);
    return s->r.status;
}

static nb_status write_extras(object *o, const nb_dfa *names)
{
    nb_schema *s = o->s;
    key_pattern patterns[NB_SCHEMA_KEYS];
    size_t count;
    bool open = is_open(o->t);
    NB_TRY(list_patterns(o, patterns, &count));
    if (count == 0 && !open)
        return NB_OK;
    o->extra = nb_rules_add(&s->r, (nb_str){0}) + 1;
    o->more = nb_rules_add(&s->r, (nb_str){0}) + 1;
    for (unsigned set = open ? 0 : 1; set < 1u << count; set++)
        NB_TRY(write_extra(o, patterns, count, set, names, nb_rules_at(&s->r, o->extra - 1)));
    nb_rule more = nb_rules_at(&s->r, o->more - 1);
    nb_rules_call(&s->r, nb_schema_comma(s, more.start), more.end, o->extra - 1, 1, 1);
    return s->r.status;
}

/* ---- all together ---- */

/* After the described properties, with `count` of them written. Names may come twice among the others: of these, only the
 * first counts for the least number. */
static void write_end(object *o, uint32_t from, size_t count, uint32_t to)
{
    nb_rules *r = &o->s->r;
    if (count >= o->least)
        nb_rules_empty(r, from, to);
    if (!o->extra || count + 1 > o->most || count + 1 < o->least)
        return;
    size_t rest = o->most - count - 1;
    uint32_t behind = nb_rules_state(r);
    nb_rules_call(r, from, behind, count ? o->more - 1 : o->extra - 1, 1, 1);
    nb_rules_call(r, behind, to, o->more - 1, 0,
                  o->most == SIZE_MAX || rest >= UINT32_MAX ? NB_RULES_ANY : (uint32_t)rest);
}

/* States by how many properties were written; each property leads from one row of them to the next. */
static nb_status write_properties(object *o, uint32_t from, uint32_t to)
{
    nb_rules *r = &o->s->r;
    uint32_t now[COUNTS + 2] = {from}, next[COUNTS + 2];
    size_t used = 1;
    for (size_t i = 0; i < o->count; i++) {
        const property *p = &o->properties[i];
        size_t rows = nb_min_size(used + 1, o->cap + 1);
        for (size_t k = 0; k < rows; k++)
            next[k] = nb_rules_state(r);
        for (size_t k = 0; k < used; k++) {
            size_t then = nb_min_size(k + 1, o->cap);
            if (!p->required)
                nb_rules_empty(r, now[k], next[k]);
            if (k + 1 > o->most)
                continue;
            uint32_t key = nb_schema_write_quoted(o->s, p->name, k ? nb_schema_comma(o->s, now[k]) : now[k]);
            nb_rules_call(r, nb_schema_colon(o->s, key), next[then], p->all->rule, 1, 1);
        }
        memcpy(now, next, rows * sizeof *now);
        used = rows;
    }
    for (size_t k = 0; k < used; k++)
        write_end(o, now[k], k, to);
    return r->status;
}

nb_status nb_schema_object(nb_schema *s, const nb_term *t, uint32_t from, uint32_t to)
{
    object o = {.s = s, .t = t, .most = SIZE_MAX};
    const json_t *node = t->count ? t->atoms[0] : NULL;
    nb_dfa *names;
    NB_TRY(nb_schema_count(s, t, "minProperties", false, &o.least));
    NB_TRY(nb_schema_count(s, t, "maxProperties", true, &o.most));
    NB_TRY(allowed_names(s, t, &names));
    NB_TRY(list_properties(&o, names));
    NB_TRY(write_extras(&o, names));
    if (!o.extra && o.most >= o.count)
        o.most = SIZE_MAX;
    if (o.least > o.count + (o.extra != 0)) {
        if (o.extra)
            return nb_schema_fail(s, node, "minProperties", NB_ERR_UNSUPPORTED,
                                  "only properties that are described, and one more, can be counted on");
        return NB_OK; /* never so many */
    }
    o.cap = nb_max_size(nb_max_size(o.least, o.most == SIZE_MAX ? 0 : nb_min_size(o.most, o.count)), 1);
    if (o.cap > COUNTS || (o.cap + 1) * (o.count + 1) > PLACES)
        return nb_schema_fail(s, node, "maxProperties", NB_ERR_LIMIT, "too many properties to be counted");
    uint32_t last = nb_rules_state(&s->r);
    NB_TRY(write_properties(&o, nb_schema_space(s, nb_rules_text(&s->r, from, NB_STR("{"))), last));
    nb_rules_empty(&s->r, nb_rules_text(&s->r, nb_schema_space(s, last), NB_STR("}")), to);
    return s->r.status;
}

nb_status nb_schema_may_have(nb_schema *s, const nb_term *t, nb_str name, bool *out)
{
    for (size_t i = 0; i < t->count; i++)
        if (json_object_get(json_object_get(t->atoms[i], "properties"), name.p) ||
            json_object_get(t->atoms[i], "patternProperties")) {
            *out = true;
            return NB_OK;
        }
    nb_all *all;
    bool declared;
    NB_TRY(nb_schema_property(s, t, name, &all, &declared));
    *out = is_open(t) || nb_schema_requires(t, name);
    for (size_t i = 0; i < all->count && *out; i++)
        *out = !json_is_false(all->nodes[i]);
    return NB_OK;
}
