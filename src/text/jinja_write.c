/* Values as text: str(), repr() and json.dumps() of Python. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "text/jinja_text.h"

void nb_jwrite(nb_jinja *j, nb_buf *b, nb_str s)
{
    if (!nb_jspend_bytes(j, s.n))
        return;
    if (b->len > j->out_limit || s.n > j->out_limit - b->len) {
        nb_jfail(j, NB_ERR_LIMIT, "more than %zu bytes of text", j->out_limit);
        return;
    }
    nb_buf_str(b, s);
}

static void write_z(nb_jinja *j, nb_buf *b, const char *z) { nb_jwrite(j, b, nb_str_of(z)); }

/* The fewest digits that read back equal, laid out as Python does: 1.0, 0.0001, 1e-05, 1e+16. */
void nb_jformat_float(double f, char text[40])
{
    if (!isfinite(f)) {
        snprintf(text, 40, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    char e[40];
    for (int digits = 0; digits <= 16; digits++) {
        snprintf(e, sizeof e, "%.*e", digits, f);
        if (strtod(e, NULL) == f)
            break;
    }
    char *mark = strchr(e, 'e');
    int exponent = atoi(mark + 1), digits = 0;
    if (exponent < -4 || exponent >= 16) {
        snprintf(text, 40, "%s", e);
        return;
    }
    for (const char *c = e; c < mark; c++)
        digits += *c >= '0' && *c <= '9';
    int decimals = digits - 1 - exponent;
    snprintf(text, 40, "%.*f", decimals > 1 ? decimals : 1, f);
}

/* ---- repr ---- */

static bool printable(uint32_t c)
{
    if (c < 0x7F)
        return c >= 0x20;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k != UTF8PROC_CATEGORY_CN && !(k >= UTF8PROC_CATEGORY_ZS && k <= UTF8PROC_CATEGORY_CO);
}

static void repr_char(nb_buf *b, uint32_t c, char quote)
{
    if (c == (uint32_t)quote || c == '\\') {
        nb_buf_char(b, '\\');
        nb_buf_char(b, (char)c);
    } else if (c == '\n') {
        nb_buf_z(b, "\\n");
    } else if (c == '\r') {
        nb_buf_z(b, "\\r");
    } else if (c == '\t') {
        nb_buf_z(b, "\\t");
    } else if (printable(c)) {
        nb_buf_utf8(b, c);
    } else {
        nb_buf_printf(b, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    }
}

static void repr_string(nb_jinja *j, nb_buf *b, nb_jval v)
{
    nb_str s = v.u.s;
    bool single = s.n && memchr(s.p, '\'', s.n) != NULL, twofold = s.n && memchr(s.p, '"', s.n) != NULL;
    char quote = single && !twofold ? '"' : '\'';
    if (!nb_jspend(j, s.n / 4))
        return;
    nb_buf_z(b, v.safe ? "Markup(" : "");
    nb_buf_char(b, quote);
    for (size_t pos = 0; pos < s.n;)
        repr_char(b, nb_jnext_char(s, &pos), quote);
    nb_buf_char(b, quote);
    nb_buf_z(b, v.safe ? ")" : "");
}

static void repr_items(nb_jinja *j, nb_buf *b, const nb_jlist *list, const char *open, const char *close)
{
    write_z(j, b, open);
    if (nb_jenter(j)) {
        for (size_t i = 0; i < list->count && nb_jspend(j, 1); i++) {
            write_z(j, b, i ? ", " : "");
            nb_jwrite_repr(j, b, list->items[i]);
        }
        nb_jleave(j);
    }
    write_z(j, b, close);
}

static void repr_dict(nb_jinja *j, nb_buf *b, const nb_jdict *dict)
{
    nb_jentry *e;
    bool first = true;
    write_z(j, b, "{");
    if (nb_jenter(j)) {
        for (size_t at = 0; (e = nb_jdict_next(dict, &at)) != NULL && nb_jspend(j, 1); first = false) {
            write_z(j, b, first ? "" : ", ");
            nb_jwrite_repr(j, b, e->key);
            write_z(j, b, ": ");
            nb_jwrite_repr(j, b, e->value);
        }
        nb_jleave(j);
    }
    write_z(j, b, "}");
}

static void repr_range(nb_buf *b, const nb_jlist *r)
{
    nb_buf_printf(b, "range(%lld, %lld", (long long)r->start, (long long)r->stop);
    if (r->step != 1)
        nb_buf_printf(b, ", %lld", (long long)r->step);
    nb_buf_char(b, ')');
}

static void repr_object(nb_jinja *j, nb_buf *b, const nb_jobject *o)
{
    nb_buf_printf(b, "<%s", o->type);
    if (o->name.n) {
        nb_buf_char(b, ' ');
        repr_string(j, b, nb_jstr(o->name));
    }
    nb_buf_char(b, '>');
}

void nb_jwrite_repr(nb_jinja *j, nb_buf *b, nb_jval v)
{
    char text[40];
    if (!nb_jok(j))
        return;
    switch ((nb_jkind)v.kind) {
    case NB_J_MISSING: break;
    case NB_J_UNDEFINED: write_z(j, b, "Undefined"); break;
    case NB_J_NONE: write_z(j, b, "None"); break;
    case NB_J_BOOL: write_z(j, b, v.u.b ? "True" : "False"); break;
    case NB_J_INT: nb_buf_printf(b, "%lld", (long long)v.u.i); break;
    case NB_J_FLOAT:
        nb_jformat_float(v.u.f, text);
        nb_buf_z(b, text);
        break;
    case NB_J_STR: repr_string(j, b, v); break;
    case NB_J_LIST: repr_items(j, b, v.u.list, "[", "]"); break;
    case NB_J_TUPLE: repr_items(j, b, v.u.list, "(", v.u.list->count == 1 ? ",)" : ")"); break;
    case NB_J_RANGE: repr_range(b, v.u.list); break;
    case NB_J_VIEW:
        write_z(j, b, v.u.list->label);
        repr_items(j, b, v.u.list, "([", "])");
        break;
    case NB_J_ITER: nb_buf_printf(b, "<%s>", v.u.list->label); break;
    case NB_J_DICT: repr_dict(j, b, v.u.dict); break;
    case NB_J_NAMESPACE:
        write_z(j, b, "<Namespace ");
        repr_dict(j, b, v.u.dict);
        write_z(j, b, ">");
        break;
    case NB_J_OBJECT: repr_object(j, b, v.u.object); break;
    }
}

void nb_jwrite_str(nb_jinja *j, nb_buf *b, nb_jval v)
{
    if (v.kind == NB_J_STR)
        nb_jwrite(j, b, v.u.s);
    else if (v.kind != NB_J_UNDEFINED)
        nb_jwrite_repr(j, b, v);
}

nb_str nb_jto_str(nb_jinja *j, nb_jval v)
{
    if (v.kind == NB_J_STR)
        return v.u.s;
    nb_buf b = {0};
    nb_jwrite_str(j, &b, v);
    nb_jval s = nb_jstr_take(j, &b);
    return s.kind == NB_J_STR ? s.u.s : NB_STR("");
}

/* ---- JSON ---- */

static void json_char(nb_buf *b, uint32_t c, bool ascii)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *found = c && c < 0x80 ? strchr(from, (int)c) : NULL;
    if (found) {
        nb_buf_char(b, '\\');
        nb_buf_char(b, to[found - from]);
    } else if (c < 0x20 || (ascii && c >= 0x7F && c < 0x10000 && c != 0x7F)) {
        nb_buf_printf(b, "\\u%04x", c);
    } else if (ascii && c >= 0x10000) {
        nb_buf_printf(b, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + ((c - 0x10000) & 0x3FF));
    } else {
        nb_buf_utf8(b, c);
    }
}

static void json_string(nb_jinja *j, nb_buf *b, nb_str s, bool ascii)
{
    if (!nb_jspend(j, s.n / 8))
        return;
    nb_buf_char(b, '"');
    for (size_t pos = 0; pos < s.n;)
        json_char(b, nb_jnext_char(s, &pos), ascii);
    nb_buf_char(b, '"');
}

static void json_float(nb_buf *b, double f)
{
    char text[40];
    nb_jformat_float(f, text);
    nb_buf_z(b, isnan(f) ? "NaN" : isinf(f) ? (f < 0 ? "-Infinity" : "Infinity") : text);
}

static void json_newline(nb_jinja *j, nb_buf *b, const nb_jjson *style, int level)
{
    if (!style->pretty)
        return;
    write_z(j, b, "\n");
    for (int i = 0; i < level; i++)
        nb_jwrite(j, b, style->indent);
}

static void json_value(nb_jinja *j, nb_buf *b, nb_jval v, const nb_jjson *style, int level);

static void json_array(nb_jinja *j, nb_buf *b, const nb_jlist *list, const nb_jjson *style, int level)
{
    write_z(j, b, "[");
    for (size_t i = 0; i < list->count && nb_jspend(j, 1); i++) {
        if (i)
            nb_jwrite(j, b, style->item);
        json_newline(j, b, style, level + 1);
        json_value(j, b, list->items[i], style, level + 1);
    }
    if (list->count)
        json_newline(j, b, style, level);
    write_z(j, b, "]");
}

static void json_key(nb_jinja *j, nb_buf *b, nb_jval key, bool ascii)
{
    if (key.kind == NB_J_STR) {
        json_string(j, b, key.u.s, ascii);
    } else if (key.kind == NB_J_NONE || nb_jis_number(key)) {
        nb_buf_char(b, '"');
        json_value(j, b, key, &(nb_jjson){0}, 0);
        nb_buf_char(b, '"');
    } else {
        nb_str type = nb_jtype_name(key);
        nb_jfail(j, NB_ERR_ARGUMENT, "tojson: keys must be str, int, float, bool or None, not %.*s", NB_STR_ARG(type));
    }
}

/* The dict's entries in the order to write them. */
static nb_jval json_keys(nb_jinja *j, nb_jval dict, bool sorted)
{
    nb_jval keys = nb_jitems(j, dict);
    for (size_t i = 1; sorted && nb_jok(j) && i < keys.u.list->count; i++) { /* insertion: objects are small */
        nb_jval *items = keys.u.list->items, key = items[i];
        size_t at = i;
        for (; at > 0 && nb_jcompare(j, items[at - 1], key) > 0 && nb_jok(j); at--)
            items[at] = items[at - 1];
        items[at] = key;
    }
    return keys;
}

static void json_object(nb_jinja *j, nb_buf *b, nb_jval dict, const nb_jjson *style, int level)
{
    nb_jval keys = json_keys(j, dict, style->sort_keys);
    write_z(j, b, "{");
    for (size_t i = 0; nb_jok(j) && i < keys.u.list->count; i++) {
        nb_jentry *e = nb_jdict_find(j, dict.u.dict, keys.u.list->items[i]);
        if (!e)
            continue;
        if (i)
            nb_jwrite(j, b, style->item);
        json_newline(j, b, style, level + 1);
        json_key(j, b, e->key, style->ascii);
        nb_jwrite(j, b, style->key);
        json_value(j, b, e->value, style, level + 1);
    }
    if (dict.u.dict->live)
        json_newline(j, b, style, level);
    write_z(j, b, "}");
}

static void json_value(nb_jinja *j, nb_buf *b, nb_jval v, const nb_jjson *style, int level)
{
    if (!nb_jenter(j))
        return;
    switch ((nb_jkind)v.kind) {
    case NB_J_NONE: write_z(j, b, "null"); break;
    case NB_J_BOOL: write_z(j, b, v.u.b ? "true" : "false"); break;
    case NB_J_INT: nb_buf_printf(b, "%lld", (long long)v.u.i); break;
    case NB_J_FLOAT: json_float(b, v.u.f); break;
    case NB_J_STR: json_string(j, b, v.u.s, style->ascii); break;
    case NB_J_LIST:
    case NB_J_TUPLE: json_array(j, b, v.u.list, style, level); break;
    case NB_J_DICT: json_object(j, b, v, style, level); break;
    default: {
        nb_str type = nb_jtype_name(v);
        nb_jfail(j, NB_ERR_ARGUMENT, "tojson: an object of type %.*s is not JSON serializable", NB_STR_ARG(type));
    }
    }
    nb_jleave(j);
}

void nb_jwrite_json(nb_jinja *j, nb_buf *b, nb_jval v, const nb_jjson *style) { json_value(j, b, v, style, 0); }
