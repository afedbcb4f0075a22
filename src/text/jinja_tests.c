/* What stands after "is". */
#include "text/jinja_defs.h"
#include "text/jinja_eval.h"
#include "text/jinja_text.h"

#define TEST(name) static nb_jval name(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args)
#define UNUSED ((void)j, (void)self, (void)a, (void)args)

TEST(t_defined) { return UNUSED, nb_jbool(self.kind != NB_J_UNDEFINED); }
TEST(t_undefined) { return UNUSED, nb_jbool(self.kind == NB_J_UNDEFINED); }
TEST(t_none) { return UNUSED, nb_jbool(self.kind == NB_J_NONE); }
TEST(t_boolean) { return UNUSED, nb_jbool(self.kind == NB_J_BOOL); }
TEST(t_true) { return UNUSED, nb_jbool(self.kind == NB_J_BOOL && self.u.b); }
TEST(t_false) { return UNUSED, nb_jbool(self.kind == NB_J_BOOL && !self.u.b); }
TEST(t_integer) { return UNUSED, nb_jbool(self.kind == NB_J_INT); }
TEST(t_float) { return UNUSED, nb_jbool(self.kind == NB_J_FLOAT); }
TEST(t_number) { return UNUSED, nb_jbool(nb_jis_number(self)); }
TEST(t_string) { return UNUSED, nb_jbool(self.kind == NB_J_STR); }
TEST(t_mapping) { return UNUSED, nb_jbool(self.kind == NB_J_DICT); }
TEST(t_iterable) { return UNUSED, nb_jbool(nb_jiterable(self)); }
TEST(t_callable) { return UNUSED, nb_jbool(self.kind == NB_J_OBJECT && self.u.object->call); }
TEST(t_escaped) { return UNUSED, nb_jbool(self.kind == NB_J_STR && self.safe); }

/* has a length and can be subscripted */
TEST(t_sequence)
{
    UNUSED;
    return nb_jbool(self.kind == NB_J_STR || self.kind == NB_J_DICT || self.kind == NB_J_UNDEFINED ||
                    (self.kind >= NB_J_LIST && self.kind <= NB_J_RANGE));
}

static nb_jval cased(nb_jinja *j, nb_jval self, bool (*wanted)(uint32_t), bool (*other)(uint32_t))
{
    nb_str s = nb_jto_str(j, self);
    bool any = false;
    nb_jspend_bytes(j, s.n);
    for (size_t pos = 0; pos < s.n;) {
        uint32_t c = nb_jnext_char(s, &pos);
        if (other(c))
            return nb_jbool(false);
        any |= wanted(c);
    }
    return nb_jbool(any);
}

TEST(t_lower) { return UNUSED, cased(j, self, nb_jis_lower, nb_jis_upper); }
TEST(t_upper) { return UNUSED, cased(j, self, nb_jis_upper, nb_jis_lower); }

static nb_jval rest_is(nb_jinja *j, nb_jval self, nb_jval by, int64_t rest)
{
    nb_jval r = nb_jbinary(j, NB_JT_MOD, self, by);
    return nb_jbool(nb_jok(j) && nb_jequal(j, r, nb_jint(rest)));
}

TEST(t_odd) { return UNUSED, rest_is(j, self, nb_jint(2), 1); }
TEST(t_even) { return UNUSED, rest_is(j, self, nb_jint(2), 0); }
TEST(t_divisibleby) { return UNUSED, rest_is(j, self, a[0], 0); }

TEST(t_eq) { return UNUSED, nb_jbool(nb_jequal(j, self, a[0])); }
TEST(t_ne) { return UNUSED, nb_jbool(!nb_jequal(j, self, a[0])); }
TEST(t_in) { return UNUSED, nb_jbool(nb_jcontains(j, a[0], self)); }

TEST(t_lt) { return UNUSED, nb_jbool(nb_jcompare(j, self, a[0]) < 0); }
TEST(t_gt) { return UNUSED, nb_jbool(nb_jcompare(j, self, a[0]) == 1); }

TEST(t_le)
{
    UNUSED;
    int order = nb_jcompare(j, self, a[0]);
    return nb_jbool(order <= 0);
}

TEST(t_ge)
{
    UNUSED;
    int order = nb_jcompare(j, self, a[0]);
    return nb_jbool(order == 0 || order == 1);
}

/* the same object: for what has no identity here, the same kind and value */
TEST(t_sameas)
{
    UNUSED;
    if (self.kind != a[0].kind)
        return nb_jbool(false);
    if (nb_jis_list(self))
        return nb_jbool(self.u.list == a[0].u.list);
    if (self.kind == NB_J_DICT)
        return nb_jbool(self.u.dict == a[0].u.dict);
    return nb_jbool(nb_jequal(j, self, a[0]));
}

TEST(t_filter) { return UNUSED, nb_jbool(self.kind == NB_J_STR && nb_jdef_find(NB_JDEF_FILTERS, self.u.s)); }
TEST(t_test) { return UNUSED, nb_jbool(self.kind == NB_J_STR && nb_jdef_find(NB_JDEF_TESTS, self.u.s)); }

/* not jinja2's, but written by templates that were made for other engines */
TEST(t_startingwith)
{
    UNUSED;
    return nb_jbool(nb_str_starts(nb_jto_str(j, self), nb_jneed_str(j, a[0], "startingwith's prefix")));
}

TEST(t_endingwith)
{
    UNUSED;
    nb_str s = nb_jto_str(j, self), end = nb_jneed_str(j, a[0], "endingwith's suffix");
    return nb_jbool(s.n >= end.n && nb_str_eq((nb_str){s.p + s.n - end.n, end.n}, end));
}

const nb_jdef nb_jtests[] = {{"defined", t_defined, "", 0},
                             {"undefined", t_undefined, "", 0},
                             {"none", t_none, "", 0},
                             {"boolean", t_boolean, "", 0},
                             {"true", t_true, "", 0},
                             {"false", t_false, "", 0},
                             {"integer", t_integer, "", 0},
                             {"float", t_float, "", 0},
                             {"number", t_number, "", 0},
                             {"string", t_string, "", 0},
                             {"mapping", t_mapping, "", 0},
                             {"sequence", t_sequence, "", 0},
                             {"iterable", t_iterable, "", 0},
                             {"callable", t_callable, "", 0},
                             {"escaped", t_escaped, "", 0},
                             {"lower", t_lower, "", 0},
                             {"upper", t_upper, "", 0},
                             {"odd", t_odd, "", 0},
                             {"even", t_even, "", 0},
                             {"divisibleby", t_divisibleby, "num", 1},
                             {"eq", t_eq, "other", 1},
                             {"equalto", t_eq, "other", 1},
                             {"==", t_eq, "other", 1},
                             {"ne", t_ne, "other", 1},
                             {"!=", t_ne, "other", 1},
                             {"lt", t_lt, "other", 1},
                             {"lessthan", t_lt, "other", 1},
                             {"<", t_lt, "other", 1},
                             {"le", t_le, "other", 1},
                             {"<=", t_le, "other", 1},
                             {"gt", t_gt, "other", 1},
                             {"greaterthan", t_gt, "other", 1},
                             {">", t_gt, "other", 1},
                             {"ge", t_ge, "other", 1},
                             {">=", t_ge, "other", 1},
                             {"in", t_in, "seq", 1},
                             {"sameas", t_sameas, "other", 1},
                             {"filter", t_filter, "", 0},
                             {"test", t_test, "", 0},
                             {"startingwith", t_startingwith, "prefix", 1},
                             {"endingwith", t_endingwith, "suffix", 1},
                             {0}};
