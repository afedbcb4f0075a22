/* The tables' look-up and call, and the functions a template finds without asking: range, dict, namespace, joiner,
 * cycler, and Hugging Face's raise_exception and strftime_now. */
#include <time.h>

#include "text/jinja_defs.h"
#include "text/jinja_scope.h"
#include "text/jinja_text.h"

#define MAX_RANGE 100000 /* the sandbox's own */

/* ---- tables ---- */

static const nb_jdef *find_in(const nb_jdef *def, nb_str name)
{
    for (; def->name; def++)
        if (nb_str_eqz(name, def->name))
            return def;
    return NULL;
}

const nb_jdef *nb_jdef_find(nb_jdef_table table, nb_str name)
{
    static const nb_jdef *const tables[NB_JDEF_TABLES] = {
        [NB_JDEF_FILTERS] = nb_jfilters_text,      [NB_JDEF_TESTS] = nb_jtests,
        [NB_JDEF_FUNCTIONS] = nb_jfunctions,       [NB_JDEF_STR_METHODS] = nb_jstr_methods,
        [NB_JDEF_LIST_METHODS] = nb_jlist_methods, [NB_JDEF_TUPLE_METHODS] = nb_jtuple_methods,
        [NB_JDEF_DICT_METHODS] = nb_jdict_methods};
    const nb_jdef *def = find_in(tables[table], name);
    return def || table != NB_JDEF_FILTERS ? def : find_in(nb_jfilters_list, name);
}

/* The position of name in "a,b,c", or -1; with name empty, how many there are. */
static int param_index(const char *params, nb_str name)
{
    int at = 0;
    for (const char *p = params; *p; at++) {
        size_t n = strcspn(p, ",");
        if (name.n && nb_str_eq(name, (nb_str){p, n}))
            return at;
        p += n + (p[n] == ',');
    }
    return name.n ? -1 : at;
}

static bool bind_keywords(nb_jinja *j, const nb_jdef *def, const nb_jargs *args, nb_jval *slots)
{
    for (size_t i = 0; i < args->kw_count; i++) {
        int at = param_index(def->params, args->kw[i].name);
        if (at < 0 || slots[at].kind != NB_J_MISSING) {
            nb_jfail(j, NB_ERR_ARGUMENT, "%s got an unexpected keyword argument '%.*s'", def->name,
                     NB_STR_ARG(args->kw[i].name));
            return false;
        }
        slots[at] = args->kw[i].value;
    }
    return true;
}

nb_jval nb_jdef_call(nb_jinja *j, const nb_jdef *def, nb_jval self, const nb_jargs *args)
{
    nb_jval slots[NB_JINJA_SLOTS] = {{.kind = NB_J_MISSING}};
    if (!nb_jspend(j, 1))
        return self;
    if (def->params[0] != '*') {
        size_t params = (size_t)param_index(def->params, NB_STR(""));
        if (args->count > params)
            return nb_jfail(j, NB_ERR_ARGUMENT, "%s takes at most %zu arguments, %zu given", def->name, params,
                            args->count);
        for (size_t i = 0; i < args->count; i++)
            slots[i] = args->pos[i];
        if (!bind_keywords(j, def, args, slots))
            return self;
        for (int i = 0; i < def->required; i++)
            if (slots[i].kind == NB_J_MISSING)
                return nb_jfail(j, NB_ERR_ARGUMENT, "%s misses an argument (it takes %s)", def->name, def->params);
    }
    return def->fn(j, self, slots, args);
}

/* ---- functions ---- */

static nb_jval call_function(nb_jinja *j, nb_jobject *self, const nb_jargs *args)
{
    return nb_jdef_call(j, self->data, nb_jnone(), args);
}

nb_jval nb_jfunction(nb_jinja *j, nb_str name)
{
    const nb_jdef *def = nb_jdef_find(NB_JDEF_FUNCTIONS, name);
    if (!def)
        return nb_jundefined(name);
    return nb_jobject_new(j, (nb_jobject){.type = "function", .name = name, .call = call_function, .data = def});
}

static nb_jval fn_range(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args)
{
    (void)self;
    int64_t start = args->count > 1 ? nb_jneed_int(j, a[0], "range's start") : 0;
    int64_t stop = nb_jneed_int(j, args->count > 1 ? a[1] : a[0], "range's end");
    int64_t step = args->count > 2 ? nb_jneed_int(j, a[2], "range's step") : 1;
    if (!nb_jok(j))
        return self;
    if (step == 0)
        return nb_jfail(j, NB_ERR_ARGUMENT, "range's step cannot be zero");
    uint64_t count = 0;
    if (step > 0 && start < stop)
        count = ((uint64_t)stop - (uint64_t)start - 1) / (uint64_t)step + 1;
    else if (step < 0 && start > stop)
        count = ((uint64_t)start - (uint64_t)stop - 1) / (0 - (uint64_t)step) + 1;
    if (count > MAX_RANGE)
        return nb_jfail(j, NB_ERR_LIMIT, "a range of more than %d items", MAX_RANGE);
    nb_jval v = nb_jspend(j, (size_t)count / 4) ? nb_jlist_new(j, NB_J_RANGE, (size_t)count) : nb_jnone();
    for (uint64_t i = 0; i < count && nb_jok(j); i++)
        nb_jlist_push(j, v, nb_jint((int64_t)((uint64_t)start + i * (uint64_t)step)));
    if (nb_jok(j)) {
        v.u.list->start = start;
        v.u.list->stop = stop;
        v.u.list->step = step;
    }
    return v;
}

/* dict(mapping or pairs, **more) into a new dict */
static nb_jval fn_dict(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args)
{
    (void)self;
    (void)a;
    nb_jval dict = nb_jdict_new(j);
    if (args->count > 1)
        return nb_jfail(j, NB_ERR_ARGUMENT, "dict takes at most one positional argument");
    if (nb_jok(j) && args->count == 1 && args->pos[0].kind == NB_J_DICT) {
        nb_jentry *e;
        for (size_t at = 0; nb_jok(j) && (e = nb_jdict_next(args->pos[0].u.dict, &at)) != NULL;)
            nb_jdict_set(j, dict.u.dict, e->key, e->value);
    } else if (nb_jok(j) && args->count == 1) {
        nb_jval pairs = nb_jitems(j, args->pos[0]);
        for (size_t i = 0; nb_jok(j) && i < pairs.u.list->count; i++) {
            nb_jval pair = nb_jitems(j, pairs.u.list->items[i]);
            if (nb_jok(j) && pair.u.list->count != 2)
                return nb_jfail(j, NB_ERR_ARGUMENT, "dict needs pairs");
            if (nb_jok(j))
                nb_jdict_set(j, dict.u.dict, pair.u.list->items[0], pair.u.list->items[1]);
        }
    }
    for (size_t i = 0; i < args->kw_count && nb_jok(j); i++)
        nb_jdict_set(j, dict.u.dict, nb_jstr(args->kw[i].name), args->kw[i].value);
    return dict;
}

static nb_jval fn_namespace(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args)
{
    nb_jval v = fn_dict(j, self, a, args);
    if (nb_jok(j))
        v.kind = NB_J_NAMESPACE;
    return v;
}

static nb_jval call_joiner(nb_jinja *j, nb_jobject *self, const nb_jargs *args)
{
    (void)j;
    (void)args;
    nb_jval now = self->data ? self->self : nb_jstr(NB_STR(""));
    self->data = self; /* any but NULL: used once */
    return now;
}

static nb_jval fn_joiner(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args)
{
    (void)self;
    (void)args;
    nb_jval separator = a[0].kind == NB_J_MISSING ? nb_jstr(NB_STR(", ")) : a[0];
    return nb_jobject_new(j, (nb_jobject){.type = "Joiner", .call = call_joiner, .self = separator});
}

/* A cycler's list keeps its place in `taken`. */
static nb_jval cycler_next(nb_jinja *j, nb_jobject *self, const nb_jargs *args)
{
    (void)j;
    (void)args;
    nb_jlist *list = self->self.u.list;
    nb_jval v = list->items[list->taken];
    list->taken = (list->taken + 1) % list->count;
    return v;
}

static nb_jval cycler_reset(nb_jinja *j, nb_jobject *self, const nb_jargs *args)
{
    (void)j;
    (void)args;
    self->self.u.list->taken = 0;
    return nb_jnone();
}

static nb_jval cycler_attr(nb_jinja *j, nb_jobject *self, nb_str name)
{
    const nb_jlist *list = self->self.u.list;
    if (nb_str_eqz(name, "current"))
        return list->items[list->taken];
    bool next = nb_str_eqz(name, "next");
    if (!next && !nb_str_eqz(name, "reset"))
        return (nb_jval){.kind = NB_J_MISSING};
    return nb_jobject_new(
        j, (nb_jobject){
               .type = "bound method", .name = name, .self = self->self, .call = next ? cycler_next : cycler_reset});
}

static nb_jval fn_cycler(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args)
{
    (void)self;
    (void)a;
    if (args->count == 0)
        return nb_jfail(j, NB_ERR_ARGUMENT, "cycler needs at least one item");
    nb_jval list = nb_jlist_new(j, NB_J_LIST, args->count);
    for (size_t i = 0; i < args->count; i++)
        nb_jlist_push(j, list, args->pos[i]);
    return nb_jobject_new(j, (nb_jobject){.type = "Cycler", .attr = cycler_attr, .self = list});
}

static nb_jval fn_raise_exception(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args)
{
    (void)self;
    (void)args;
    nb_str message = nb_jto_str(j, a[0]);
    return nb_jfail(j, NB_ERR_ARGUMENT, "the template refuses this conversation: %.*s", NB_STR_ARG(message));
}

static nb_jval fn_strftime_now(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args)
{
    (void)self;
    (void)args;
    char format[256], text[1024];
    nb_str s = nb_jneed_str(j, a[0], "strftime_now's format");
    time_t now = (time_t)j->now;
    struct tm tm;
    if (!nb_jok(j))
        return self;
    if (s.n >= sizeof format || (s.n && memchr(s.p, 0, s.n)) || !gmtime_r(&now, &tm))
        return nb_jfail(j, NB_ERR_ARGUMENT, "strftime_now: the format is too long or the time out of range");
    if (s.n)
        memcpy(format, s.p, s.n);
    format[s.n] = 0;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof text, format, &tm);
#pragma GCC diagnostic pop
    if (n == 0 && s.n)
        return nb_jfail(j, NB_ERR_LIMIT, "strftime_now: more than 1024 bytes");
    return nb_jstr_copy(j, (nb_str){text, n});
}

const nb_jdef nb_jfunctions[] = {{"range", fn_range, "start,stop,step", 1},
                                 {"dict", fn_dict, "*", 0},
                                 {"namespace", fn_namespace, "*", 0},
                                 {"joiner", fn_joiner, "sep", 0},
                                 {"cycler", fn_cycler, "*", 0},
                                 {"raise_exception", fn_raise_exception, "message", 1},
                                 {"strftime_now", fn_strftime_now, "format", 1},
                                 {0}};
