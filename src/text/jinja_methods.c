/* Methods of strings, lists and dicts, as Python's. Lists and dicts may be changed: templates written for other
 * engines do so, and what they change is this rendering's own. */
#include "text/jinja_defs.h"
#include "text/jinja_eval.h"
#include "text/jinja_text.h"

#define METHOD(name) static nb_jval name(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args)
#define UNUSED ((void)j, (void)self, (void)a, (void)args)

static bool given(nb_jval v) { return v.kind > NB_J_NONE; }

static nb_jval as_safe_as(nb_jval from, nb_jval v)
{
    v.safe = v.kind == NB_J_STR && from.safe;
    return v;
}

/* ---- strings ---- */

static nb_jval strip(nb_jinja *j, nb_jval self, nb_jval chars, bool left, bool right)
{
    nb_str set = given(chars) ? nb_jneed_str(j, chars, "the characters to strip") : (nb_str){0};
    nb_jspend_bytes(j, self.u.s.n);
    return as_safe_as(self, nb_jstr(nb_jstrip(self.u.s, given(chars) ? &set : NULL, left, right)));
}

METHOD(s_strip) { return UNUSED, strip(j, self, a[0], true, true); }
METHOD(s_lstrip) { return UNUSED, strip(j, self, a[0], true, false); }
METHOD(s_rstrip) { return UNUSED, strip(j, self, a[0], false, true); }
METHOD(s_upper) { return UNUSED, as_safe_as(self, nb_jrecase(j, self.u.s, NB_JCASE_UPPER)); }
METHOD(s_lower) { return UNUSED, as_safe_as(self, nb_jrecase(j, self.u.s, NB_JCASE_LOWER)); }
METHOD(s_title) { return UNUSED, as_safe_as(self, nb_jrecase(j, self.u.s, NB_JCASE_TITLE)); }
METHOD(s_capitalize) { return UNUSED, as_safe_as(self, nb_jrecase(j, self.u.s, NB_JCASE_CAPITALIZE)); }
METHOD(s_swapcase) { return UNUSED, as_safe_as(self, nb_jrecase(j, self.u.s, NB_JCASE_SWAP)); }
METHOD(s_splitlines) { return UNUSED, nb_jsplitlines(j, self.u.s, nb_jtruth(a[0])); }
METHOD(s_format) { return UNUSED, nb_jformat_braces(j, self.u.s, args); }

METHOD(s_replace)
{
    UNUSED;
    nb_str old = nb_jneed_str(j, a[0], "replace's old"), new_ = nb_jneed_str(j, a[1], "replace's new");
    int64_t count = a[2].kind ? nb_jneed_int(j, a[2], "replace's count") : -1;
    return nb_jok(j) ? as_safe_as(self, nb_jreplace(j, self.u.s, old, new_, count)) : self;
}

/* Runs of anything but whitespace, at most max cuts, from the left. */
static void split_space(nb_jinja *j, nb_jval out, nb_str s, int64_t max)
{
    for (s = nb_jstrip(s, NULL, true, false); s.n && nb_jspend(j, 1); s = nb_jstrip(s, NULL, true, false)) {
        size_t end = 0;
        if (max == 0) {
            nb_jlist_push(j, out, nb_jstr(s));
            return;
        }
        for (size_t pos = 0; pos < s.n && !nb_jis_space(nb_jnext_char(s, &pos));)
            end = pos;
        nb_jspend_bytes(j, end);
        nb_jlist_push(j, out, nb_jstr((nb_str){s.p, end}));
        s = (nb_str){s.p + end, s.n - end};
        max -= max > 0;
    }
}

static void rsplit_space(nb_jinja *j, nb_jval out, nb_str s, int64_t max)
{
    for (s = nb_jstrip(s, NULL, false, true); s.n && nb_jspend(j, 1); s = nb_jstrip(s, NULL, false, true)) {
        if (max == 0) {
            nb_jlist_push(j, out, nb_jstr(s));
            return;
        }
        size_t start = 0; /* after the last whitespace */
        for (size_t pos = 0; pos < s.n;)
            if (nb_jis_space(nb_jnext_char(s, &pos)))
                start = pos;
        nb_jspend_bytes(j, s.n);
        nb_jlist_push(j, out, nb_jstr((nb_str){s.p + start, s.n - start}));
        s.n = start;
        max -= max > 0;
    }
}

static void split_at(nb_jinja *j, nb_jval out, nb_str s, nb_str sep, int64_t max)
{
    while (nb_jspend(j, 1)) {
        size_t at = max == 0 ? SIZE_MAX : nb_jfind(s, sep, 0);
        if (at == SIZE_MAX)
            break;
        nb_jspend_bytes(j, at);
        nb_jlist_push(j, out, nb_jstr((nb_str){s.p, at}));
        s = (nb_str){s.p + at + sep.n, s.n - at - sep.n};
        max -= max > 0;
    }
    nb_jlist_push(j, out, nb_jstr(s));
}

static void rsplit_at(nb_jinja *j, nb_jval out, nb_str s, nb_str sep, int64_t max)
{
    while (nb_jspend(j, 1)) {
        size_t at = max == 0 ? SIZE_MAX : nb_jfind_last(s, sep);
        if (at == SIZE_MAX)
            break;
        nb_jspend_bytes(j, s.n - at);
        nb_jlist_push(j, out, nb_jstr((nb_str){s.p + at + sep.n, s.n - at - sep.n}));
        s.n = at;
        max -= max > 0;
    }
    nb_jlist_push(j, out, nb_jstr(s));
}

static nb_jval split(nb_jinja *j, nb_jval self, const nb_jval *a, bool from_right)
{
    nb_jval out = nb_jlist_new(j, NB_J_LIST, 0);
    nb_str sep = given(a[0]) ? nb_jneed_str(j, a[0], "the separator") : (nb_str){0};
    int64_t max = a[1].kind ? nb_jneed_int(j, a[1], "maxsplit") : -1;
    nb_jspend_bytes(j, self.u.s.n);
    if (!nb_jok(j))
        return out;
    if (given(a[0]) && sep.n == 0)
        return nb_jfail(j, NB_ERR_ARGUMENT, "split: empty separator");
    if (given(a[0]))
        (from_right ? rsplit_at : split_at)(j, out, self.u.s, sep, max);
    else
        (from_right ? rsplit_space : split_space)(j, out, self.u.s, max);
    if (from_right && nb_jok(j)) {
        nb_jlist *list = out.u.list;
        for (size_t i = 0; i < list->count / 2; i++) {
            nb_jval t = list->items[i];
            list->items[i] = list->items[list->count - 1 - i];
            list->items[list->count - 1 - i] = t;
        }
    }
    return out;
}

METHOD(s_split) { return UNUSED, split(j, self, a, false); }
METHOD(s_rsplit) { return UNUSED, split(j, self, a, true); }

static nb_jval partition(nb_jinja *j, nb_jval self, nb_jval sep, bool from_right)
{
    nb_str s = self.u.s, by = nb_jneed_str(j, sep, "the separator");
    if (nb_jok(j) && by.n == 0)
        return nb_jfail(j, NB_ERR_ARGUMENT, "partition: empty separator");
    nb_jspend_bytes(j, s.n);
    size_t at = from_right ? nb_jfind_last(s, by) : nb_jfind(s, by, 0);
    nb_str head = s, tail = NB_STR("");
    if (at != SIZE_MAX) {
        head.n = at;
        tail = (nb_str){s.p + at + by.n, s.n - at - by.n};
    } else {
        by.n = 0;
        if (from_right) {
            tail = s;
            head.n = 0;
        }
    }
    nb_jval out = nb_jpair(j, nb_jstr(head), nb_jstr(by));
    nb_jlist_push(j, out, nb_jstr(tail));
    return out;
}

METHOD(s_partition) { return UNUSED, partition(j, self, a[0], false); }
METHOD(s_rpartition) { return UNUSED, partition(j, self, a[0], true); }

static bool affix(nb_str s, nb_str part, bool end)
{
    if (s.n < part.n)
        return false;
    return nb_str_eq((nb_str){s.p + (end ? s.n - part.n : 0), part.n}, part);
}

/* [start:end] of self in characters, as the arguments say */
static nb_str window(nb_jinja *j, nb_jval self, nb_jval start, nb_jval end)
{
    if (!given(start) && !given(end))
        return self.u.s;
    nb_jval v = nb_jslice(j, self, given(start) ? start : nb_jnone(), given(end) ? end : nb_jnone(), nb_jnone());
    return v.kind == NB_J_STR ? v.u.s : NB_STR("");
}

static nb_jval has_affix(nb_jinja *j, nb_jval self, const nb_jval *a, bool end)
{
    nb_str s = window(j, self, a[1], a[2]);
    if (a[0].kind != NB_J_TUPLE)
        return nb_jbool(affix(s, nb_jneed_str(j, a[0], "a prefix or suffix"), end));
    bool found = false;
    for (size_t i = 0; i < a[0].u.list->count && !found && nb_jspend(j, 1); i++)
        found = affix(s, nb_jneed_str(j, a[0].u.list->items[i], "a prefix or suffix"), end);
    return nb_jbool(found);
}

METHOD(s_startswith) { return UNUSED, has_affix(j, self, a, false); }
METHOD(s_endswith) { return UNUSED, has_affix(j, self, a, true); }

METHOD(s_removeprefix)
{
    UNUSED;
    nb_str s = self.u.s, part = nb_jneed_str(j, a[0], "a prefix");
    return affix(s, part, false) ? nb_jstr((nb_str){s.p + part.n, s.n - part.n}) : self;
}

METHOD(s_removesuffix)
{
    UNUSED;
    nb_str s = self.u.s, part = nb_jneed_str(j, a[0], "a suffix");
    return affix(s, part, true) ? nb_jstr((nb_str){s.p, s.n - part.n}) : self;
}

/* Where a[0] stands in self, in characters; -1 when it does not. */
static int64_t position(nb_jinja *j, nb_jval self, const nb_jval *a, bool last)
{
    nb_str s = window(j, self, a[1], a[2]), needle = nb_jneed_str(j, a[0], "what to find");
    if (!nb_jok(j) || !nb_jspend_bytes(j, self.u.s.n))
        return -1;
    size_t at = last ? nb_jfind_last(s, needle) : nb_jfind(s, needle, 0);
    return at == SIZE_MAX ? -1 : (int64_t)nb_jchar_count((nb_str){self.u.s.p, (size_t)(s.p - self.u.s.p) + at});
}

METHOD(s_find) { return UNUSED, nb_jint(position(j, self, a, false)); }
METHOD(s_rfind) { return UNUSED, nb_jint(position(j, self, a, true)); }

METHOD(s_index)
{
    UNUSED;
    int64_t at = position(j, self, a, false);
    return at < 0 ? nb_jfail(j, NB_ERR_ARGUMENT, "index: substring not found") : nb_jint(at);
}

METHOD(s_count)
{
    UNUSED;
    nb_str s = window(j, self, a[1], a[2]), needle = nb_jneed_str(j, a[0], "what to count");
    int64_t count = 0;
    if (!nb_jok(j) || !nb_jspend_bytes(j, s.n))
        return self;
    if (needle.n == 0)
        return nb_jint((int64_t)nb_jchar_count(s) + 1);
    for (size_t at = nb_jfind(s, needle, 0); at != SIZE_MAX; at = nb_jfind(s, needle, at + needle.n))
        count++;
    return nb_jint(count);
}

METHOD(s_join)
{
    UNUSED;
    nb_jval items = nb_jitems(j, a[0]);
    nb_buf b = {0};
    for (size_t i = 0; nb_jspend(j, 1) && i < items.u.list->count; i++) {
        if (i)
            nb_jwrite(j, &b, self.u.s);
        nb_jwrite(j, &b, nb_jneed_str(j, items.u.list->items[i], "an item to join"));
    }
    return as_safe_as(self, nb_jstr_take(j, &b));
}

static nb_jval all(nb_jinja *j, nb_str s, bool (*is)(uint32_t), bool (*or_is)(uint32_t))
{
    nb_jspend_bytes(j, s.n);
    for (size_t pos = 0; pos < s.n;) {
        uint32_t c = nb_jnext_char(s, &pos);
        if (!is(c) && !(or_is && or_is(c)))
            return nb_jbool(false);
    }
    return nb_jbool(s.n > 0);
}

static bool is_alnum(uint32_t c) { return c != '_' && nb_jis_word(c); }

METHOD(s_isdigit) { return UNUSED, all(j, self.u.s, nb_jis_digit, NULL); }
METHOD(s_isalpha) { return UNUSED, all(j, self.u.s, nb_jis_alpha, NULL); }
METHOD(s_isalnum) { return UNUSED, all(j, self.u.s, is_alnum, NULL); }
METHOD(s_isspace) { return UNUSED, all(j, self.u.s, nb_jis_space, NULL); }
METHOD(s_isupper) { return UNUSED, nb_jdef_call(j, nb_jdef_find(NB_JDEF_TESTS, NB_STR("upper")), self, args); }
METHOD(s_islower) { return UNUSED, nb_jdef_call(j, nb_jdef_find(NB_JDEF_TESTS, NB_STR("lower")), self, args); }

/* Padded to a width with fill: on the left, the right or both. */
static nb_jval pad(nb_jinja *j, nb_jval self, nb_jval width, nb_jval fill, bool left, bool right)
{
    nb_jval with = given(fill) ? fill : nb_jstr(NB_STR(" "));
    int64_t want = nb_jneed_int(j, width, "a width"), n = (int64_t)nb_jchar_count(self.u.s);
    if (nb_jchar_count(nb_jneed_str(j, with, "the fill")) != 1)
        return nb_jfail(j, NB_ERR_ARGUMENT, "the fill must be exactly one character");
    if (!nb_jok(j) || want <= n)
        return self;
    int64_t more = want - n, before = left && right ? more / 2 + (more & want & 1) : left ? more : 0;
    nb_jval head = nb_jbinary(j, NB_JT_MUL, with, nb_jint(before));
    nb_jval tail = nb_jbinary(j, NB_JT_MUL, with, nb_jint(more - before));
    return nb_jbinary(j, NB_JT_ADD, nb_jbinary(j, NB_JT_ADD, head, self), tail);
}

METHOD(s_ljust) { return UNUSED, pad(j, self, a[0], a[1], false, true); }
METHOD(s_rjust) { return UNUSED, pad(j, self, a[0], a[1], true, false); }
METHOD(s_center) { return UNUSED, pad(j, self, a[0], a[1], true, true); }

METHOD(s_zfill)
{
    UNUSED;
    bool sign = self.u.s.n && (self.u.s.p[0] == '-' || self.u.s.p[0] == '+');
    nb_jval digits = nb_jstr((nb_str){self.u.s.p + sign, self.u.s.n - sign});
    int64_t width = nb_jneed_int(j, a[0], "a width");
    if (!nb_jok(j) || width <= 1)
        return self;
    digits = pad(j, digits, nb_jint(width - sign), nb_jstr(NB_STR("0")), true, false);
    return sign ? nb_jbinary(j, NB_JT_ADD, nb_jstr((nb_str){self.u.s.p, 1}), digits) : digits;
}

const nb_jdef nb_jstr_methods[] = {{"strip", s_strip, "chars", 0},
                                   {"lstrip", s_lstrip, "chars", 0},
                                   {"rstrip", s_rstrip, "chars", 0},
                                   {"split", s_split, "sep,maxsplit", 0},
                                   {"rsplit", s_rsplit, "sep,maxsplit", 0},
                                   {"splitlines", s_splitlines, "keepends", 0},
                                   {"startswith", s_startswith, "prefix,start,end", 1},
                                   {"endswith", s_endswith, "suffix,start,end", 1},
                                   {"removeprefix", s_removeprefix, "prefix", 1},
                                   {"removesuffix", s_removesuffix, "suffix", 1},
                                   {"upper", s_upper, "", 0},
                                   {"lower", s_lower, "", 0},
                                   {"title", s_title, "", 0},
                                   {"capitalize", s_capitalize, "", 0},
                                   {"swapcase", s_swapcase, "", 0},
                                   {"casefold", s_lower, "", 0},
                                   {"replace", s_replace, "old,new,count", 2},
                                   {"find", s_find, "sub,start,end", 1},
                                   {"rfind", s_rfind, "sub,start,end", 1},
                                   {"index", s_index, "sub,start,end", 1},
                                   {"count", s_count, "sub,start,end", 1},
                                   {"join", s_join, "iterable", 1},
                                   {"format", s_format, "*", 0},
                                   {"partition", s_partition, "sep", 1},
                                   {"rpartition", s_rpartition, "sep", 1},
                                   {"ljust", s_ljust, "width,fillchar", 1},
                                   {"rjust", s_rjust, "width,fillchar", 1},
                                   {"center", s_center, "width,fillchar", 1},
                                   {"zfill", s_zfill, "width", 1},
                                   {"isdigit", s_isdigit, "", 0},
                                   {"isdecimal", s_isdigit, "", 0},
                                   {"isnumeric", s_isdigit, "", 0},
                                   {"isalpha", s_isalpha, "", 0},
                                   {"isalnum", s_isalnum, "", 0},
                                   {"isspace", s_isspace, "", 0},
                                   {"isupper", s_isupper, "", 0},
                                   {"islower", s_islower, "", 0},
                                   {0}};

/* ---- lists and tuples ---- */

METHOD(l_append)
{
    UNUSED;
    nb_jlist_push(j, self, a[0]);
    return nb_jnone();
}

METHOD(l_extend)
{
    UNUSED;
    nb_jval items = nb_jitems(j, a[0]);
    for (size_t i = 0; nb_jspend(j, 1) && i < items.u.list->count; i++)
        nb_jlist_push(j, self, items.u.list->items[i]);
    return nb_jnone();
}

METHOD(l_insert)
{
    UNUSED;
    nb_jlist *list = self.u.list;
    int64_t n = (int64_t)list->count, at = nb_jneed_int(j, a[0], "insert's index");
    at = at < 0 ? (at + n < 0 ? 0 : at + n) : at > n ? n : at;
    nb_jspend(j, (size_t)(n - at) / 4);
    nb_jlist_push(j, self, a[1]);
    if (nb_jok(j)) {
        memmove(list->items + at + 1, list->items + at, (size_t)(n - at) * sizeof *list->items);
        list->items[at] = a[1];
    }
    return nb_jnone();
}

METHOD(l_pop)
{
    UNUSED;
    nb_jlist *list = self.u.list;
    int64_t n = (int64_t)list->count, at = a[0].kind ? nb_jneed_int(j, a[0], "pop's index") : -1;
    at += at < 0 ? n : 0;
    if (at < 0 || at >= n)
        return nb_jfail(j, NB_ERR_ARGUMENT, "pop: index out of range");
    nb_jval v = list->items[at];
    nb_jspend(j, (size_t)(n - at) / 4);
    memmove(list->items + at, list->items + at + 1, (size_t)(n - at - 1) * sizeof *list->items);
    list->count--;
    return v;
}

METHOD(l_index)
{
    UNUSED;
    for (size_t i = 0; i < self.u.list->count && nb_jok(j); i++)
        if (nb_jequal(j, self.u.list->items[i], a[0]))
            return nb_jint((int64_t)i);
    return nb_jfail(j, NB_ERR_ARGUMENT, "index: the value is not in the list");
}

METHOD(l_count)
{
    UNUSED;
    int64_t count = 0;
    for (size_t i = 0; i < self.u.list->count && nb_jok(j); i++)
        count += nb_jequal(j, self.u.list->items[i], a[0]);
    return nb_jint(count);
}

METHOD(l_remove)
{
    nb_jval at = l_index(j, self, a, args);
    if (nb_jok(j))
        l_pop(j, self, &at, args);
    return nb_jnone();
}

METHOD(l_reverse)
{
    UNUSED;
    nb_jval reversed = nb_jslice(j, self, nb_jnone(), nb_jnone(), nb_jint(-1));
    if (nb_jok(j) && self.u.list->count)
        memcpy(self.u.list->items, reversed.u.list->items, self.u.list->count * sizeof *self.u.list->items);
    return nb_jnone();
}

METHOD(l_copy) { return UNUSED, nb_jitems(j, self); }

METHOD(l_clear)
{
    UNUSED;
    self.u.list->count = 0;
    return nb_jnone();
}

const nb_jdef nb_jlist_methods[] = {{"append", l_append, "object", 1},
                                    {"extend", l_extend, "iterable", 1},
                                    {"insert", l_insert, "index,object", 2},
                                    {"pop", l_pop, "index", 0},
                                    {"index", l_index, "value", 1},
                                    {"count", l_count, "value", 1},
                                    {"remove", l_remove, "value", 1},
                                    {"reverse", l_reverse, "", 0},
                                    {"copy", l_copy, "", 0},
                                    {"clear", l_clear, "", 0},
                                    {0}};
const nb_jdef nb_jtuple_methods[] = {{"index", l_index, "value", 1}, {"count", l_count, "value", 1}, {0}};

/* ---- dicts ---- */

static nb_jval view(nb_jinja *j, nb_jval self, const char *label, bool keys, bool values)
{
    nb_jval out = nb_jlist_new(j, NB_J_VIEW, self.u.dict->live);
    nb_jentry *e;
    if (nb_jok(j))
        out.u.list->label = label;
    for (size_t at = 0; nb_jspend(j, 1) && (e = nb_jdict_next(self.u.dict, &at)) != NULL;)
        nb_jlist_push(j, out, keys && values ? nb_jpair(j, e->key, e->value) : keys ? e->key : e->value);
    return out;
}

METHOD(d_items) { return UNUSED, view(j, self, "dict_items", true, true); }
METHOD(d_keys) { return UNUSED, view(j, self, "dict_keys", true, false); }
METHOD(d_values) { return UNUSED, view(j, self, "dict_values", false, true); }

METHOD(d_get)
{
    UNUSED;
    nb_jentry *e = nb_jdict_find(j, self.u.dict, a[0]);
    return e ? e->value : a[1].kind ? a[1] : nb_jnone();
}

METHOD(d_pop)
{
    UNUSED;
    nb_jentry *e = nb_jdict_find(j, self.u.dict, a[0]);
    if (!e)
        return a[1].kind ? a[1] : nb_jfail(j, NB_ERR_ARGUMENT, "pop: the dict has no such key");
    nb_jval v = e->value;
    nb_jdict_remove(self.u.dict, e);
    return v;
}

METHOD(d_setdefault)
{
    nb_jentry *e = nb_jdict_find(j, self.u.dict, a[0]);
    nb_jval v = e ? e->value : a[1].kind ? a[1] : nb_jnone();
    (void)args;
    if (!e)
        nb_jdict_set(j, self.u.dict, a[0], v);
    return v;
}

METHOD(d_update)
{
    (void)a;
    nb_jval more = nb_jdef_call(j, nb_jdef_find(NB_JDEF_FUNCTIONS, NB_STR("dict")), self, args);
    nb_jentry *e;
    for (size_t at = 0; nb_jspend(j, 1) && (e = nb_jdict_next(more.u.dict, &at)) != NULL;)
        nb_jdict_set(j, self.u.dict, e->key, e->value);
    return nb_jnone();
}

METHOD(d_copy)
{
    (void)a;
    (void)args;
    nb_jargs one = {&self, 1, NULL, 0};
    return nb_jdef_call(j, nb_jdef_find(NB_JDEF_FUNCTIONS, NB_STR("dict")), self, &one);
}

METHOD(d_clear)
{
    UNUSED;
    *self.u.dict = (nb_jdict){0};
    return nb_jnone();
}

const nb_jdef nb_jdict_methods[] = {{"get", d_get, "key,default", 1}, {"items", d_items, "", 0},
                                    {"keys", d_keys, "", 0},          {"values", d_values, "", 0},
                                    {"pop", d_pop, "key,default", 1}, {"setdefault", d_setdefault, "key,default", 1},
                                    {"update", d_update, "*", 0},     {"copy", d_copy, "", 0},
                                    {"clear", d_clear, "", 0},        {0}};
