/* Filters over sequences and mappings. What jinja2 gives as a generator is NB_J_ITER here: computed at once, walked
 * once. */
#include "text/jinja_defs.h"
#include "text/jinja_eval.h"
#include "text/jinja_text.h"

#define FILTER(name) static nb_jval name(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args)
#define UNUSED_ARGS ((void)a, (void)args)

static nb_jval as_iterator(nb_jinja *j, nb_jval list)
{
    if (nb_jok(j) && list.kind == NB_J_LIST)
        list.kind = NB_J_ITER;
    return list;
}

FILTER(f_default)
{
    UNUSED_ARGS;
    (void)j;
    bool use = self.kind == NB_J_UNDEFINED || (nb_jtruth(a[1]) && !nb_jtruth(self));
    return !use ? self : a[0].kind ? a[0] : nb_jstr(NB_STR(""));
}

FILTER(f_length)
{
    UNUSED_ARGS;
    size_t n;
    if (nb_jlength(self, &n)) {
        nb_jspend_bytes(j, self.kind == NB_J_STR ? self.u.s.n : 0);
        return nb_jint((int64_t)n);
    }
    nb_str type = nb_jtype_name(self);
    return nb_jfail(j, NB_ERR_ARGUMENT, "object of type '%.*s' has no len()", NB_STR_ARG(type));
}

FILTER(f_list) { return UNUSED_ARGS, nb_jitems(j, self); }

FILTER(f_items)
{
    UNUSED_ARGS;
    nb_jval out = nb_jlist_new(j, NB_J_ITER, 0);
    if (self.kind == NB_J_UNDEFINED)
        return out;
    if (self.kind != NB_J_DICT)
        return nb_jfail(j, NB_ERR_ARGUMENT, "items: can only get item pairs from a mapping");
    nb_jentry *e;
    for (size_t at = 0; nb_jspend(j, 1) && (e = nb_jdict_next(self.u.dict, &at)) != NULL;)
        nb_jlist_push(j, out, nb_jpair(j, e->key, e->value));
    return out;
}

FILTER(f_first)
{
    UNUSED_ARGS;
    if (self.kind == NB_J_ITER && self.u.list->taken < self.u.list->count)
        return self.u.list->items[self.u.list->taken++];
    nb_jval items = nb_jitems(j, self);
    return nb_jok(j) && items.u.list->count ? items.u.list->items[0] : nb_jundefined(NB_STR("first of nothing"));
}

FILTER(f_last)
{
    UNUSED_ARGS;
    if (self.kind == NB_J_ITER)
        return nb_jfail(j, NB_ERR_ARGUMENT, "last: a generator cannot be reversed, use |list first");
    nb_jval items = nb_jitems(j, self);
    return nb_jok(j) && items.u.list->count ? items.u.list->items[items.u.list->count - 1]
                                            : nb_jundefined(NB_STR("last of nothing"));
}

FILTER(f_reverse)
{
    UNUSED_ARGS;
    if (self.kind == NB_J_STR)
        return nb_jslice(j, self, nb_jnone(), nb_jnone(), nb_jint(-1));
    nb_jval items = nb_jitems(j, self);
    return as_iterator(j, nb_jok(j) ? nb_jslice(j, items, nb_jnone(), nb_jnone(), nb_jint(-1)) : items);
}

/* ---- attributes by path: "a.b.0" ---- */

static bool all_digits(nb_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return s.n > 0 && s.n < 18;
}

/* item's attribute by path; the item itself without one. otherwise (unless MISSING) stands for what is undefined. */
static nb_jval by_path(nb_jinja *j, nb_jval item, nb_jval path, nb_jval otherwise)
{
    if (path.kind <= NB_J_NONE)
        return item;
    if (path.kind != NB_J_STR) {
        item = nb_jgetitem(j, item, path);
        return item.kind == NB_J_UNDEFINED && otherwise.kind ? otherwise : item;
    }
    nb_str rest = path.u.s;
    for (bool more = true; more && nb_jok(j);) {
        const char *dot = rest.n ? memchr(rest.p, '.', rest.n) : NULL;
        nb_str part = {rest.p, dot ? (size_t)(dot - rest.p) : rest.n};
        int64_t index = 0;
        for (size_t i = 0; all_digits(part) && i < part.n; i++)
            index = index * 10 + (part.p[i] - '0');
        item = nb_jgetitem(j, item, all_digits(part) ? nb_jint(index) : nb_jstr(part));
        if (item.kind == NB_J_UNDEFINED && otherwise.kind)
            item = otherwise;
        more = dot != NULL;
        if (more)
            rest = (nb_str){dot + 1, rest.n - part.n - 1};
    }
    return item;
}

static const nb_jval missing = {.kind = NB_J_MISSING};

static nb_jval fold_case(nb_jinja *j, nb_jval v, bool case_sensitive)
{
    return v.kind == NB_J_STR && !case_sensitive ? nb_jrecase(j, v.u.s, NB_JCASE_LOWER) : v;
}

static nb_jval folded_path(nb_jinja *j, nb_jval item, nb_jval path, bool case_sensitive)
{
    return fold_case(j, by_path(j, item, path, missing), case_sensitive);
}

/* What sort compares: a list, of the attributes "a,b" or of one; equal ones in it need no order. */
static nb_jval key_list(nb_jinja *j, nb_jval item, nb_jval path, bool case_sensitive)
{
    nb_jval key = nb_jlist_new(j, NB_J_LIST, 1);
    if (path.kind != NB_J_STR) {
        nb_jlist_push(j, key, folded_path(j, item, path, case_sensitive));
        return key;
    }
    for (nb_str rest = path.u.s; nb_jok(j);) {
        const char *comma = rest.n ? memchr(rest.p, ',', rest.n) : NULL;
        nb_str part = {rest.p, comma ? (size_t)(comma - rest.p) : rest.n};
        nb_jlist_push(j, key, folded_path(j, item, nb_jstr(part), case_sensitive));
        if (!comma)
            break;
        rest = (nb_str){comma + 1, rest.n - part.n - 1};
    }
    return key;
}

/* ---- order ---- */

typedef nb_jval key_fn(nb_jinja *j, nb_jval item, nb_jval path, bool case_sensitive);

typedef struct keyed {
    nb_jval key, value;
} keyed;

/* Merge sort: stable, and it ends whatever the comparison says. */
static void merge_sort(nb_jinja *j, keyed *items, keyed *scratch, size_t n, bool reverse)
{
    if (n < 2 || !nb_jspend(j, 1))
        return;
    size_t half = n / 2, left = 0, right = half;
    merge_sort(j, items, scratch, half, reverse);
    merge_sort(j, items + half, scratch, n - half, reverse);
    for (size_t i = 0; i < n && nb_jok(j); i++) {
        bool take_right = left == half;
        if (!take_right && right < n) {
            int order = nb_jcompare(j, items[right].key, items[left].key);
            take_right = reverse ? order == 1 : order < 0;
        }
        scratch[i] = take_right ? items[right++] : items[left++];
    }
    if (nb_jok(j))
        memcpy(items, scratch, n * sizeof *items);
}

static nb_jval sorted(nb_jinja *j, nb_jval items, key_fn *key, nb_jval path, bool case_sensitive, bool reverse)
{
    size_t n = nb_jok(j) ? items.u.list->count : 0;
    keyed *k = NB_ARRAY(&j->arena, keyed, n), *scratch = NB_ARRAY(&j->arena, keyed, n);
    if (!k || !scratch)
        return nb_jfail_memory(j);
    for (size_t i = 0; i < n && nb_jok(j); i++)
        k[i] = (keyed){key(j, items.u.list->items[i], path, case_sensitive), items.u.list->items[i]};
    merge_sort(j, k, scratch, n, reverse);
    nb_jval out = nb_jlist_new(j, NB_J_LIST, n);
    for (size_t i = 0; i < n && nb_jok(j); i++)
        nb_jlist_push(j, out, k[i].value);
    return out;
}

FILTER(f_sort)
{
    (void)args;
    return sorted(j, nb_jitems(j, self), key_list, a[2], nb_jtruth(a[1]), nb_jtruth(a[0]));
}

FILTER(f_dictsort)
{
    nb_jval path = nb_jint(0);
    if (a[1].kind) {
        nb_str by = nb_jneed_str(j, a[1], "dictsort's by");
        if (nb_str_eqz(by, "value"))
            path = nb_jint(1);
        else if (!nb_str_eqz(by, "key"))
            return nb_jfail(j, NB_ERR_ARGUMENT, "dictsort: by must be \"key\" or \"value\"");
    }
    if (self.kind == NB_J_UNDEFINED)
        return nb_jfail_undefined(j, self);
    nb_jval pairs = nb_jitems(j, f_items(j, self, NULL, args));
    return sorted(j, pairs, folded_path, path, nb_jtruth(a[0]), nb_jtruth(a[2]));
}

static nb_jval extreme(nb_jinja *j, nb_jval self, const nb_jval *a, int sign)
{
    nb_jval items = nb_jitems(j, self), best = nb_jundefined(NB_STR("extreme of nothing")), best_key = best;
    for (size_t i = 0; nb_jok(j) && i < items.u.list->count; i++) {
        nb_jval key = folded_path(j, items.u.list->items[i], a[1], nb_jtruth(a[0]));
        if (i == 0 || nb_jcompare(j, key, best_key) == sign) {
            best = items.u.list->items[i];
            best_key = key;
        }
    }
    return best;
}

FILTER(f_min) { return (void)args, extreme(j, self, a, -1); }
FILTER(f_max) { return (void)args, extreme(j, self, a, 1); }

FILTER(f_unique)
{
    (void)args;
    nb_jval items = nb_jitems(j, self), seen = nb_jdict_new(j), out = nb_jlist_new(j, NB_J_ITER, 0);
    for (size_t i = 0; nb_jok(j) && i < items.u.list->count; i++) {
        nb_jval key = fold_case(j, by_path(j, items.u.list->items[i], a[1], missing), nb_jtruth(a[0]));
        if (nb_jok(j) && !nb_jdict_find(j, seen.u.dict, key)) {
            nb_jdict_set(j, seen.u.dict, key, nb_jnone());
            nb_jlist_push(j, out, items.u.list->items[i]);
        }
    }
    return out;
}

FILTER(f_groupby)
{
    (void)args;
    bool case_sensitive = nb_jtruth(a[2]);
    nb_jval out = nb_jlist_new(j, NB_J_LIST, 0), last = missing, members = missing;
    nb_jval items = nb_jitems(j, self), keys = nb_jlist_new(j, NB_J_LIST, 0);
    for (size_t i = 0; nb_jok(j) && i < items.u.list->count; i++) {
        nb_jval key = by_path(j, items.u.list->items[i], a[0], a[1].kind > NB_J_NONE ? a[1] : missing);
        nb_jlist_push(j, keys,
                      nb_jpair(j, fold_case(j, key, case_sensitive), nb_jpair(j, key, items.u.list->items[i])));
    }
    keys = nb_jok(j) ? sorted(j, keys, folded_path, nb_jint(0), true, false) : keys;
    for (size_t i = 0; nb_jok(j) && i < keys.u.list->count; i++) {
        const nb_jlist *entry = keys.u.list->items[i].u.list;
        const nb_jlist *original = entry->items[1].u.list;
        if (last.kind == NB_J_MISSING || !nb_jequal(j, last, entry->items[0])) {
            last = entry->items[0];
            members = nb_jlist_new(j, NB_J_LIST, 0);
            nb_jval group = nb_jpair(j, original->items[0], members);
            if (nb_jok(j))
                group.u.list->label = nb_jgroup_label;
            nb_jlist_push(j, out, group);
        }
        nb_jlist_push(j, members, original->items[1]);
    }
    return out;
}

FILTER(f_sum)
{
    (void)args;
    nb_jval items = nb_jitems(j, self), total = a[1].kind ? a[1] : nb_jint(0);
    for (size_t i = 0; nb_jok(j) && i < items.u.list->count; i++)
        total = nb_jbinary(j, NB_JT_ADD, total, by_path(j, items.u.list->items[i], a[0], missing));
    return total;
}

FILTER(f_join)
{
    (void)args;
    nb_str with = a[0].kind ? nb_jto_str(j, a[0]) : NB_STR("");
    nb_jval items = nb_jitems(j, self);
    nb_buf b = {0};
    for (size_t i = 0; nb_jspend(j, 1) && i < items.u.list->count; i++) {
        if (i)
            nb_jwrite(j, &b, with);
        nb_jwrite_str(j, &b, by_path(j, items.u.list->items[i], a[1], missing));
    }
    return nb_jstr_take(j, &b);
}

/* ---- cutting ---- */

FILTER(f_batch)
{
    (void)args;
    int64_t size = nb_jneed_int(j, a[0], "batch's size");
    nb_jval items = nb_jitems(j, self), out = nb_jlist_new(j, NB_J_ITER, 0), row = missing;
    if (nb_jok(j) && size < 1)
        return nb_jfail(j, NB_ERR_ARGUMENT, "batch's size must be at least 1");
    for (size_t i = 0; nb_jspend(j, 1) && i < items.u.list->count; i++) {
        if (i % (uint64_t)size == 0) {
            row = nb_jlist_new(j, NB_J_LIST, 0);
            nb_jlist_push(j, out, row);
        }
        nb_jlist_push(j, row, items.u.list->items[i]);
    }
    while (row.kind && a[1].kind > NB_J_NONE && nb_jspend(j, 1) && (int64_t)row.u.list->count < size)
        nb_jlist_push(j, row, a[1]);
    return out;
}

FILTER(f_slice)
{
    (void)args;
    int64_t slices = nb_jneed_int(j, a[0], "slice's count");
    nb_jval items = nb_jitems(j, self), out = nb_jlist_new(j, NB_J_ITER, 0);
    if (!nb_jok(j) || slices < 1)
        return nb_jfail(j, NB_ERR_ARGUMENT, "slice's count must be at least 1");
    int64_t n = (int64_t)items.u.list->count, each = n / slices, extra = n % slices, at = 0;
    for (int64_t i = 0; i < slices && nb_jspend(j, 1); i++) {
        nb_jval row = nb_jlist_new(j, NB_J_LIST, 0);
        for (int64_t end = at + each + (i < extra); at < end; at++)
            nb_jlist_push(j, row, items.u.list->items[at]);
        if (i >= extra && a[1].kind > NB_J_NONE)
            nb_jlist_push(j, row, a[1]);
        nb_jlist_push(j, out, row);
    }
    return out;
}

/* ---- map and select ---- */

static const nb_jkeyword *keyword(const nb_jargs *args, const char *name)
{
    for (size_t i = 0; i < args->kw_count; i++)
        if (nb_str_eqz(args->kw[i].name, name))
            return &args->kw[i];
    return NULL;
}

/* The filter or test that args->pos[at] names; an error when there is none. */
static const nb_jdef *named(nb_jinja *j, nb_jdef_table table, const nb_jargs *args, size_t at)
{
    nb_str name = nb_jneed_str(j, args->pos[at], "the name of a filter or test");
    const nb_jdef *def = nb_jok(j) ? nb_jdef_find(table, name) : NULL;
    if (!def)
        nb_jfail(j, NB_ERR_UNSUPPORTED, "there is no %s named '%.*s'", table == NB_JDEF_TESTS ? "test" : "filter",
                 NB_STR_ARG(name));
    return def;
}

static nb_jval call_with_rest(nb_jinja *j, const nb_jdef *def, nb_jval item, const nb_jargs *args, size_t from)
{
    nb_jargs rest = {args->pos + from, args->count - from, args->kw, args->kw_count};
    nb_jval v = nb_jnone();
    if (nb_jenter(j)) {
        v = nb_jdef_call(j, def, item, &rest);
        nb_jleave(j);
    }
    return v;
}

FILTER(f_map)
{
    (void)a;
    const nb_jkeyword *attribute = keyword(args, "attribute"), *otherwise = keyword(args, "default");
    nb_jval out = nb_jlist_new(j, NB_J_ITER, 0);
    const nb_jdef *def = NULL;
    if (!nb_jtruth(self)) /* none and 0 too give nothing */
        return out;
    nb_jval items = nb_jitems(j, self);
    if (args->count)
        def = named(j, NB_JDEF_FILTERS, args, 0);
    else if (!attribute)
        return nb_jfail(j, NB_ERR_ARGUMENT, "map needs the name of a filter or attribute=");
    for (size_t i = 0; nb_jspend(j, 1) && i < items.u.list->count; i++) {
        nb_jval item = items.u.list->items[i];
        item = def ? call_with_rest(j, def, item, args, 1)
                   : by_path(j, item, attribute->value,
                             otherwise && otherwise->value.kind != NB_J_NONE ? otherwise->value : missing);
        nb_jlist_push(j, out, item);
    }
    return out;
}

static nb_jval selection(nb_jinja *j, nb_jval self, const nb_jargs *args, bool by_attribute, bool keep)
{
    size_t at = by_attribute ? 1 : 0;
    nb_jval out = nb_jlist_new(j, NB_J_ITER, 0);
    if (!nb_jtruth(self))
        return out;
    nb_jval items = nb_jitems(j, self);
    if (args->count < at)
        return nb_jfail(j, NB_ERR_ARGUMENT, "selectattr and rejectattr need an attribute's name");
    const nb_jdef *def = args->count > at ? named(j, NB_JDEF_TESTS, args, at) : NULL;
    for (size_t i = 0; nb_jspend(j, 1) && i < items.u.list->count; i++) {
        nb_jval item = items.u.list->items[i];
        nb_jval tested = by_attribute ? by_path(j, item, args->pos[0], missing) : item;
        if (def)
            tested = call_with_rest(j, def, tested, args, at + 1);
        if (nb_jtruth(tested) == keep)
            nb_jlist_push(j, out, item);
    }
    return out;
}

FILTER(f_select) { return (void)a, selection(j, self, args, false, true); }
FILTER(f_reject) { return (void)a, selection(j, self, args, false, false); }
FILTER(f_selectattr) { return (void)a, selection(j, self, args, true, true); }
FILTER(f_rejectattr) { return (void)a, selection(j, self, args, true, false); }

FILTER(f_attr)
{
    (void)args;
    return nb_jgetattr(j, self, nb_jneed_str(j, a[0], "attr's name"));
}

FILTER(f_xmlattr)
{
    (void)args;
    nb_buf b = {0};
    if (self.kind != NB_J_DICT)
        return nb_jfail(j, NB_ERR_ARGUMENT, "xmlattr needs a mapping");
    nb_jentry *e;
    for (size_t at = 0; nb_jspend(j, 1) && (e = nb_jdict_next(self.u.dict, &at)) != NULL;) {
        if (e->value.kind == NB_J_NONE || e->value.kind == NB_J_UNDEFINED)
            continue;
        nb_str key = nb_jneed_str(j, e->key, "an attribute's name");
        for (size_t i = 0; i < key.n; i++)
            if (key.p[i] == 0 || strchr(" \t\n\r\f\v/>=", key.p[i]))
                nb_jfail(j, NB_ERR_ARGUMENT, "xmlattr: invalid character in an attribute's name");
        nb_jwrite(j, &b, b.len || a[0].kind == NB_J_MISSING || nb_jtruth(a[0]) ? NB_STR(" ") : NB_STR(""));
        nb_jwrite_str(j, &b, nb_jescape(j, e->key));
        nb_jwrite(j, &b, NB_STR("=\""));
        nb_jwrite_str(j, &b, nb_jescape(j, e->value));
        nb_jwrite(j, &b, NB_STR("\""));
    }
    return nb_jstr_take(j, &b);
}

const nb_jdef nb_jfilters_list[] = {{"default", f_default, "default_value,boolean", 0},
                                    {"d", f_default, "default_value,boolean", 0},
                                    {"length", f_length, "", 0},
                                    {"count", f_length, "", 0},
                                    {"list", f_list, "", 0},
                                    {"items", f_items, "", 0},
                                    {"first", f_first, "", 0},
                                    {"last", f_last, "", 0},
                                    {"reverse", f_reverse, "", 0},
                                    {"sort", f_sort, "reverse,case_sensitive,attribute", 0},
                                    {"dictsort", f_dictsort, "case_sensitive,by,reverse", 0},
                                    {"min", f_min, "case_sensitive,attribute", 0},
                                    {"max", f_max, "case_sensitive,attribute", 0},
                                    {"unique", f_unique, "case_sensitive,attribute", 0},
                                    {"groupby", f_groupby, "attribute,default,case_sensitive", 1},
                                    {"sum", f_sum, "attribute,start", 0},
                                    {"join", f_join, "d,attribute", 0},
                                    {"batch", f_batch, "linecount,fill_with", 1},
                                    {"slice", f_slice, "slices,fill_with", 1},
                                    {"map", f_map, "*", 0},
                                    {"select", f_select, "*", 0},
                                    {"reject", f_reject, "*", 0},
                                    {"selectattr", f_selectattr, "*", 0},
                                    {"rejectattr", f_rejectattr, "*", 0},
                                    {"attr", f_attr, "name", 1},
                                    {"xmlattr", f_xmlattr, "autospace", 0},
                                    {0}};
