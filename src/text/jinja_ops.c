/* Operators, attributes, subscripts and calls, with Python's meaning. */
#include <math.h>

#include "text/jinja_defs.h"
#include "text/jinja_eval.h"
#include "text/jinja_text.h"

/* ---- arithmetic ---- */

static nb_jval fail_overflow(nb_jinja *j) { return nb_jfail(j, NB_ERR_LIMIT, "the result is beyond 64-bit integers"); }

static const char *op_text(nb_jtok op)
{
    switch (op) {
    case NB_JT_ADD: return "+";
    case NB_JT_SUB: return "-";
    case NB_JT_MUL: return "*";
    case NB_JT_DIV: return "/";
    case NB_JT_FLOORDIV: return "//";
    case NB_JT_MOD: return "%";
    default: return "**";
    }
}

static nb_jval fail_operands(nb_jinja *j, nb_jtok op, nb_jval a, nb_jval b)
{
    if (a.kind == NB_J_UNDEFINED || b.kind == NB_J_UNDEFINED)
        return nb_jfail_undefined(j, a.kind == NB_J_UNDEFINED ? a : b);
    nb_str ta = nb_jtype_name(a), tb = nb_jtype_name(b);
    return nb_jfail(j, NB_ERR_ARGUMENT, "'%s' does not work on '%.*s' and '%.*s'", op_text(op), NB_STR_ARG(ta),
                    NB_STR_ARG(tb));
}

static nb_jval int_power(nb_jinja *j, int64_t base, int64_t exponent)
{
    if (exponent < 0)
        return base == 0 ? nb_jfail(j, NB_ERR_ARGUMENT, "0 cannot be raised to a negative power")
                         : nb_jfloat(pow((double)base, (double)exponent));
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return fail_overflow(j);
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base))
            return fail_overflow(j);
    }
    return nb_jint(result);
}

/* Quotient and remainder rounded to minus infinity. */
static nb_jval int_divide(nb_jinja *j, nb_jtok op, int64_t x, int64_t y)
{
    if (y == 0)
        return nb_jfail(j, NB_ERR_ARGUMENT, "division by zero");
    if (op == NB_JT_DIV)
        return nb_jfloat((double)x / (double)y);
    if (y == -1) {
        if (op == NB_JT_MOD)
            return nb_jint(0);
        return x == INT64_MIN ? fail_overflow(j) : nb_jint(-x);
    }
    int64_t quotient = x / y, rest = x % y;
    if (rest != 0 && (rest < 0) != (y < 0)) {
        quotient--;
        rest += y;
    }
    return nb_jint(op == NB_JT_MOD ? rest : quotient);
}

static nb_jval int_arithmetic(nb_jinja *j, nb_jtok op, int64_t x, int64_t y)
{
    int64_t r;
    bool over;
    switch (op) {
    case NB_JT_ADD: over = __builtin_add_overflow(x, y, &r); break;
    case NB_JT_SUB: over = __builtin_sub_overflow(x, y, &r); break;
    case NB_JT_MUL: over = __builtin_mul_overflow(x, y, &r); break;
    case NB_JT_POW: return int_power(j, x, y);
    default: return int_divide(j, op, x, y);
    }
    return over ? fail_overflow(j) : nb_jint(r);
}

static nb_jval float_arithmetic(nb_jinja *j, nb_jtok op, double x, double y)
{
    if (y == 0 && (op == NB_JT_DIV || op == NB_JT_FLOORDIV || op == NB_JT_MOD))
        return nb_jfail(j, NB_ERR_ARGUMENT, "division by zero");
    double rest;
    switch (op) {
    case NB_JT_ADD: return nb_jfloat(x + y);
    case NB_JT_SUB: return nb_jfloat(x - y);
    case NB_JT_MUL: return nb_jfloat(x * y);
    case NB_JT_DIV: return nb_jfloat(x / y);
    case NB_JT_POW:
        rest = pow(x, y);
        if ((isnan(rest) && !isnan(x) && !isnan(y)) || (isinf(rest) && !isinf(x) && !isinf(y)))
            return nb_jfail(j, NB_ERR_ARGUMENT, "the power is not a finite real number");
        return nb_jfloat(rest);
    default: break;
    }
    rest = fmod(x, y);
    if (rest != 0 && (rest < 0) != (y < 0))
        rest += y;
    else if (rest == 0)
        rest = copysign(0.0, y);
    if (op == NB_JT_MOD)
        return nb_jfloat(rest);
    double quotient = (x - rest) / y, whole = floor(quotient);
    return nb_jfloat(quotient - whole > 0.5 ? whole + 1 : whole);
}

/* ---- sequences ---- */

static nb_jval concat_strings(nb_jinja *j, nb_jval a, nb_jval b)
{
    bool safe = a.safe || b.safe;
    if (safe) {
        a = nb_jescape(j, a);
        b = nb_jescape(j, b);
        if (!nb_jok(j))
            return a;
    }
    size_t n = a.u.s.n + b.u.s.n;
    char *joined = nb_jspend_bytes(j, n) ? nb_arena_alloc(&j->arena, n + 1, 1) : NULL;
    if (!joined)
        return nb_jfail_memory(j);
    if (a.u.s.n)
        memcpy(joined, a.u.s.p, a.u.s.n);
    if (b.u.s.n)
        memcpy(joined + a.u.s.n, b.u.s.p, b.u.s.n);
    nb_jval v = nb_jstr((nb_str){joined, n});
    v.safe = safe;
    return v;
}

static nb_jval concat_lists(nb_jinja *j, nb_jval a, nb_jval b)
{
    size_t n = a.u.list->count + b.u.list->count;
    nb_jval v = nb_jspend(j, n) ? nb_jlist_new(j, (nb_jkind)a.kind, n) : nb_jnone();
    for (size_t i = 0; i < a.u.list->count && nb_jok(j); i++)
        nb_jlist_push(j, v, a.u.list->items[i]);
    for (size_t i = 0; i < b.u.list->count && nb_jok(j); i++)
        nb_jlist_push(j, v, b.u.list->items[i]);
    return v;
}

static nb_jval repeat(nb_jinja *j, nb_jval v, int64_t times)
{
    size_t count = times > 0 ? (size_t)times : 0, n = v.kind == NB_J_STR ? v.u.s.n : v.u.list->count, total;
    if (!nb_mul(count, n, &total) || total > j->out_limit)
        return nb_jfail(j, NB_ERR_LIMIT, "a repetition of more than %zu", j->out_limit);
    if (!nb_jspend(j, v.kind == NB_J_STR ? total / 32 : total))
        return nb_jnone();
    if (v.kind != NB_J_STR) {
        nb_jval list = nb_jlist_new(j, (nb_jkind)v.kind, total);
        for (size_t i = 0; i < total && nb_jok(j); i++)
            nb_jlist_push(j, list, v.u.list->items[i % n]);
        return list;
    }
    char *text = nb_arena_alloc(&j->arena, total + 1, 1);
    if (!text)
        return nb_jfail_memory(j);
    for (size_t i = 0; n && i < count; i++)
        memcpy(text + i * n, v.u.s.p, n);
    nb_jval s = nb_jstr((nb_str){text, total});
    s.safe = v.safe;
    return s;
}

static bool repeats(nb_jval v) { return v.kind == NB_J_STR || v.kind == NB_J_LIST || v.kind == NB_J_TUPLE; }

nb_jval nb_jbinary(nb_jinja *j, nb_jtok op, nb_jval a, nb_jval b)
{
    if (!nb_jok(j))
        return a;
    if (nb_jis_number(a) && nb_jis_number(b)) {
        if (a.kind == NB_J_FLOAT || b.kind == NB_J_FLOAT)
            return float_arithmetic(j, op, nb_jfloat_of(a), nb_jfloat_of(b));
        return int_arithmetic(j, op, nb_jint_of(a), nb_jint_of(b));
    }
    if (op == NB_JT_ADD && a.kind == b.kind && a.kind == NB_J_STR)
        return concat_strings(j, a, b);
    if (op == NB_JT_ADD && a.kind == b.kind && (a.kind == NB_J_LIST || a.kind == NB_J_TUPLE))
        return concat_lists(j, a, b);
    if (op == NB_JT_MUL && repeats(a) && nb_jis_integral(b))
        return repeat(j, a, nb_jint_of(b));
    if (op == NB_JT_MUL && repeats(b) && nb_jis_integral(a))
        return repeat(j, b, nb_jint_of(a));
    if (op == NB_JT_MOD && a.kind == NB_J_STR)
        return nb_jformat_percent(j, a.u.s, b);
    return fail_operands(j, op, a, b);
}

nb_jval nb_junary(nb_jinja *j, bool negate, nb_jval v)
{
    if (!nb_jok(j))
        return v;
    if (v.kind == NB_J_FLOAT)
        return nb_jfloat(negate ? -v.u.f : v.u.f);
    if (nb_jis_integral(v)) {
        int64_t i = nb_jint_of(v);
        return negate && i == INT64_MIN ? fail_overflow(j) : nb_jint(negate ? -i : i);
    }
    if (v.kind == NB_J_UNDEFINED)
        return nb_jfail_undefined(j, v);
    nb_str type = nb_jtype_name(v);
    return nb_jfail(j, NB_ERR_ARGUMENT, "bad operand type for unary %s: '%.*s'", negate ? "-" : "+", NB_STR_ARG(type));
}

/* ---- attributes and subscripts ---- */

static nb_jval call_method(nb_jinja *j, nb_jobject *self, const nb_jargs *args)
{
    return nb_jdef_call(j, self->data, self->self, args);
}

static nb_jval method(nb_jinja *j, nb_jval object, nb_str name)
{
    nb_jdef_table table;
    switch ((nb_jkind)object.kind) {
    case NB_J_STR: table = NB_JDEF_STR_METHODS; break;
    case NB_J_LIST: table = NB_JDEF_LIST_METHODS; break;
    case NB_J_TUPLE:
    case NB_J_RANGE: table = NB_JDEF_TUPLE_METHODS; break;
    case NB_J_DICT: table = NB_JDEF_DICT_METHODS; break;
    default: return (nb_jval){.kind = NB_J_MISSING};
    }
    const nb_jdef *def = nb_jdef_find(table, name);
    if (!def)
        return (nb_jval){.kind = NB_J_MISSING};
    return nb_jobject_new(
        j, (nb_jobject){.type = "built-in method", .name = name, .call = call_method, .data = def, .self = object});
}

/* What Python's getattr would find: methods, and the attributes of template objects. */
static nb_jval own_attribute(nb_jinja *j, nb_jval object, nb_str name)
{
    if (object.kind == NB_J_NAMESPACE) {
        nb_jentry *e = nb_jdict_findz(j, object.u.dict, name);
        return e ? e->value : (nb_jval){.kind = NB_J_MISSING};
    }
    if (object.kind == NB_J_OBJECT) {
        nb_jobject *o = object.u.object;
        return o->attr ? o->attr(j, o, name) : (nb_jval){.kind = NB_J_MISSING};
    }
    if (object.kind == NB_J_TUPLE && object.u.list->label == nb_jgroup_label) {
        if (nb_str_eqz(name, "grouper"))
            return object.u.list->items[0];
        if (nb_str_eqz(name, "list"))
            return object.u.list->items[1];
    }
    return method(j, object, name);
}

static nb_jval undefined_attribute(nb_jval object, nb_str name)
{
    nb_jval v = nb_jundefined(name);
    v.of = object.kind;
    return v;
}

nb_jval nb_jgetattr(nb_jinja *j, nb_jval object, nb_str name)
{
    if (!nb_jok(j))
        return object;
    if (object.kind == NB_J_UNDEFINED)
        return nb_jfail_undefined(j, object);
    nb_jval v = own_attribute(j, object, name);
    if (v.kind != NB_J_MISSING || !nb_jok(j))
        return v;
    if (object.kind == NB_J_DICT) {
        nb_jentry *e = nb_jdict_findz(j, object.u.dict, name);
        if (e)
            return e->value;
    }
    return undefined_attribute(object, name);
}

static nb_jval item_at(nb_jinja *j, nb_jval object, int64_t index)
{
    size_t n = 0;
    if (object.kind == NB_J_STR) {
        nb_jspend_bytes(j, object.u.s.n);
        n = index < 0 ? nb_jchar_count(object.u.s) : object.u.s.n;
    } else {
        n = object.u.list->count;
    }
    if (index < 0)
        index += (int64_t)n;
    if (index < 0 || index >= (int64_t)n)
        return (nb_jval){.kind = NB_J_MISSING};
    if (object.kind != NB_J_STR)
        return object.u.list->items[index];
    nb_str s = object.u.s;
    size_t start = nb_jchar_offset(s, (size_t)index), end = start;
    if (start >= s.n)
        return (nb_jval){.kind = NB_J_MISSING};
    nb_jnext_char(s, &end);
    nb_jval v = nb_jstr((nb_str){s.p + start, end - start});
    v.safe = object.safe;
    return v;
}

nb_jval nb_jgetitem(nb_jinja *j, nb_jval object, nb_jval key)
{
    nb_jval v = {.kind = NB_J_MISSING};
    if (!nb_jok(j))
        return object;
    if (object.kind == NB_J_UNDEFINED)
        return nb_jfail_undefined(j, object);
    bool sequence = object.kind == NB_J_STR || (object.kind >= NB_J_LIST && object.kind <= NB_J_RANGE);
    if (sequence && nb_jis_integral(key)) {
        v = item_at(j, object, nb_jint_of(key));
    } else if (object.kind == NB_J_DICT && key.kind != NB_J_LIST && key.kind != NB_J_DICT) {
        nb_jentry *e = nb_jdict_find(j, object.u.dict, key);
        if (e)
            v = e->value;
    }
    if (v.kind == NB_J_MISSING && key.kind == NB_J_STR && nb_jok(j))
        v = own_attribute(j, object, key.u.s);
    if (v.kind != NB_J_MISSING)
        return v;
    return undefined_attribute(object, nb_jto_str(j, key));
}

/* A slice's bounds as Python clips them; returns how many items it takes. */
static size_t clip(nb_jinja *j, nb_jval start, nb_jval stop, int64_t step, int64_t n, int64_t *from)
{
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n, end;
    *from = step < 0 ? high : low;
    end = step < 0 ? low : high;
    if (start.kind != NB_J_NONE) {
        int64_t i = nb_jneed_int(j, start, "a slice's start");
        i += i < 0 ? n : 0;
        *from = i < low ? low : i > high ? high : i;
    }
    if (stop.kind != NB_J_NONE) {
        int64_t i = nb_jneed_int(j, stop, "a slice's end");
        i += i < 0 ? n : 0;
        end = i < low ? low : i > high ? high : i;
    }
    if (step > 0)
        return *from < end ? ((uint64_t)(end - *from) - 1) / (uint64_t)step + 1 : 0;
    return end < *from ? ((uint64_t)(*from - end) - 1) / (0 - (uint64_t)step) + 1 : 0;
}

static nb_jval slice_string(nb_jinja *j, nb_jval object, nb_jval start, nb_jval stop, int64_t step)
{
    nb_str s = object.u.s;
    if (!nb_jspend_bytes(j, s.n))
        return object;
    int64_t from;
    size_t count = clip(j, start, stop, step, (int64_t)nb_jchar_count(s), &from);
    if (!nb_jok(j))
        return object;
    nb_jval v;
    if (step == 1 || count == 0) {
        size_t begin = count ? nb_jchar_offset(s, (size_t)from) : 0;
        nb_str rest = {s.p + begin, s.n - begin};
        v = nb_jstr((nb_str){rest.p, nb_jchar_offset(rest, count)});
    } else {
        nb_buf b = {0};
        nb_jval chars = nb_jitems(j, object);
        for (size_t i = 0; i < count && nb_jok(j); i++)
            nb_jwrite(j, &b, chars.u.list->items[from + (int64_t)i * step].u.s);
        v = nb_jstr_take(j, &b);
    }
    v.safe = object.safe;
    return v;
}

nb_jval nb_jslice(nb_jinja *j, nb_jval object, nb_jval start, nb_jval stop, nb_jval step)
{
    int64_t by = step.kind == NB_J_NONE ? 1 : nb_jneed_int(j, step, "a slice's step"), from;
    if (!nb_jok(j))
        return object;
    if (object.kind == NB_J_UNDEFINED)
        return nb_jfail_undefined(j, object);
    if (by == 0)
        return nb_jfail(j, NB_ERR_ARGUMENT, "a slice's step cannot be zero");
    if (object.kind == NB_J_STR)
        return slice_string(j, object, start, stop, by);
    if (object.kind < NB_J_LIST || object.kind > NB_J_RANGE) {
        nb_str type = nb_jtype_name(object);
        return nb_jfail(j, NB_ERR_ARGUMENT, "'%.*s' object cannot be sliced", NB_STR_ARG(type));
    }
    size_t count = clip(j, start, stop, by, (int64_t)object.u.list->count, &from);
    if (!nb_jspend(j, count))
        return object;
    nb_jval v = nb_jlist_new(j, (nb_jkind)object.kind, count);
    for (size_t i = 0; i < count && nb_jok(j); i++)
        nb_jlist_push(j, v, object.u.list->items[from + (int64_t)i * by]);
    if (nb_jok(j) && object.kind == NB_J_RANGE)
        v.kind = NB_J_LIST;
    return v;
}

nb_jval nb_jcall(nb_jinja *j, nb_jval callee, const nb_jargs *args)
{
    if (!nb_jok(j))
        return callee;
    if (callee.kind == NB_J_UNDEFINED)
        return nb_jfail_undefined(j, callee);
    if (callee.kind != NB_J_OBJECT || !callee.u.object->call) {
        nb_str type = nb_jtype_name(callee);
        return nb_jfail(j, NB_ERR_ARGUMENT, "'%.*s' object is not callable", NB_STR_ARG(type));
    }
    nb_jval result = nb_jnone();
    if (nb_jenter(j)) {
        result = callee.u.object->call(j, callee.u.object, args);
        nb_jleave(j);
    }
    return result;
}
