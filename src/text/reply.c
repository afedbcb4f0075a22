/* reply.c - the parser's frame: what is held, events, thinking, and what is said up to where a call may begin. */
#include <stdlib.h>

#include "text/reply_internal.h"

/* ---- the table ---- */

const nb_call_row nb_call_rows[NB_CALL_SYNTAXES] = {
#define NB_CALL_ROW(id, open, body, name_end, close)                                                                   \
    [NB_CALL_##                                                                                                        \
        id] = {{open, sizeof open - 1}, {name_end, sizeof name_end - 1}, {close, sizeof close - 1}, NB_BODY_##body},
#include "text/reply_syntax.def"
};

const nb_tag_pair nb_think_rows[NB_THINKS] = {
#define NB_THINK_ROW(id, open, close) [NB_THINK_##id] = {{open, sizeof open - 1}, {close, sizeof close - 1}},
#include "text/reply_syntax.def"
};

const nb_tag_pair nb_section_rows[] = {
#define NB_SECTION_ROW(open, close) {{open, sizeof open - 1}, {close, sizeof close - 1}},
#include "text/reply_syntax.def"
};

const nb_tag_pair nb_said_rows[] = {
#define NB_SAID_ROW(open, close) {{open, sizeof open - 1}, {close, sizeof close - 1}},
#include "text/reply_syntax.def"
};

const size_t nb_section_count = sizeof nb_section_rows / sizeof *nb_section_rows;
const size_t nb_said_count = sizeof nb_said_rows / sizeof *nb_said_rows;

/* ---- what is held ---- */

nb_match nb_reply_starts(const nb_reply *r, size_t at, nb_str s)
{
    size_t n = nb_min_size(r->size - at, s.n);
    if (n && memcmp(r->text + at, s.p, n) != 0)
        return NB_NO;
    return n == s.n ? NB_YES : r->over ? NB_NO : NB_MORE;
}

bool nb_reply_skip_space(const nb_reply *r, size_t *at)
{
    while (*at < r->size && nb_reply_space(r->text[*at]))
        ++*at;
    return *at < r->size;
}

size_t nb_reply_search(const nb_reply *r, size_t from, nb_str s, size_t *part)
{
    for (size_t at = from; at < r->size; at++) {
        const char *next = memchr(r->text + at, s.p[0], r->size - at);
        if (!next)
            break;
        at = (size_t)(next - r->text);
        nb_match m = nb_reply_starts(r, at, s);
        if (m == NB_YES)
            return at;
        if (m == NB_MORE) {
            *part = at;
            return SIZE_MAX;
        }
    }
    *part = r->size;
    return SIZE_MAX;
}

static void drop(nb_reply *r, size_t n)
{
    if (n)
        r->last = r->text[n - 1];
    r->head += n;
    if (r->head > 4096 && r->head > r->hold.len / 2) {
        memmove(r->hold.data, r->hold.data + r->head, r->hold.len - r->head);
        r->hold.len -= r->head;
        r->hold.data[r->hold.len] = 0;
        r->head = 0;
    }
    r->text = r->hold.data + r->head;
    r->size = r->hold.len - r->head;
    r->scanned = r->scanned > n ? r->scanned - n : 0;
}

void nb_reply_leave(nb_reply *r, nb_reply_kind kind, size_t n)
{
    if (n == 0)
        return;
    nb_reply_event e = {.kind = kind, .text = {r->text, n}, .index = r->index};
    if (kind == NB_REPLY_CONTENT)
        r->fresh = false;
    r->event(r->user, &e);
    drop(r, n);
}

/* ---- events of calls ---- */

/* Nine letters and digits: Mistral's templates take no other length. */
static nb_str make_id(nb_reply *r)
{
    uint64_t x = r->seed + 0x9e3779b97f4a7c15u * (uint64_t)(r->index + 1);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    for (int i = 0; i < 9; i++, x /= 62)
        r->id[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[x % 62];
    return (nb_str){r->id, 9};
}

void nb_reply_announce(nb_reply *r, const nb_tool *tool, nb_str id)
{
    nb_reply_event e = {.kind = NB_REPLY_CALL, .index = r->index, .id = id, .name = tool->name};
    if (id.n == 0)
        e.id = make_id(r);
    r->event(r->user, &e);
}

void nb_reply_arguments(nb_reply *r, nb_str json)
{
    nb_reply_event e = {.kind = NB_REPLY_ARGUMENTS, .index = r->index, .arguments = json};
    if (json.n)
        r->event(r->user, &e);
}

void nb_reply_end_call(nb_reply *r, size_t n)
{
    nb_reply_event e = {.kind = NB_REPLY_CALL_END, .index = r->index, .text = {r->text, n}};
    r->event(r->user, &e);
    drop(r, n);
    r->fresh = false;
    r->index++;
    r->ended++;
}

void nb_reply_void_call(nb_reply *r, size_t n)
{
    nb_reply_event e = {.kind = NB_REPLY_CALL_VOID, .index = r->index, .text = {r->text, n}};
    r->event(r->user, &e);
    drop(r, n);
    r->index++;
}

/* ---- thinking ---- */

static nb_step step_start(nb_reply *r)
{
    size_t at = 0;
    if (!nb_reply_skip_space(r, &at) && !r->over)
        return NB_WAIT;
    nb_match m = at < r->size ? nb_reply_starts(r, at, nb_think_rows[r->format.think].open) : NB_NO;
    if (m == NB_MORE)
        return NB_WAIT;
    if (m == NB_YES) {
        nb_reply_leave(r, NB_REPLY_MARKUP, at + nb_think_rows[r->format.think].open.n);
        r->eating = true;
        r->state = NB_AT_THINKING;
    } else {
        r->state = NB_AT_SAID;
    }
    return NB_ON;
}

/* White space on both sides of what is thought is markup. */
static nb_step step_thinking(nb_reply *r)
{
    nb_str open = nb_think_rows[r->format.think].open, close = nb_think_rows[r->format.think].close;
    size_t at = 0, part;
    if (r->eating) {
        bool more = nb_reply_skip_space(r, &at);
        nb_match again = more && r->fresh ? nb_reply_starts(r, at, open) : NB_NO; /* though the prompt has opened it */
        if ((!more && !r->over) || again == NB_MORE)
            return NB_WAIT;
        nb_reply_leave(r, NB_REPLY_MARKUP, again == NB_YES ? at + open.n : at);
        r->eating = again == NB_YES;
        r->fresh &= again != NB_YES;
        if (r->eating)
            return NB_ON;
    }
    size_t found = nb_reply_search(r, r->scanned, close, &part), end = found == SIZE_MAX ? part : found;
    while (end > 0 && nb_reply_space(r->text[end - 1]) && !(r->over && found == SIZE_MAX))
        end--;
    nb_reply_leave(r, NB_REPLY_THINKING, end);
    if (found == SIZE_MAX) {
        r->scanned = part - end;
        return NB_WAIT;
    }
    size_t behind = found - end + close.n;
    nb_reply_leave(r, NB_REPLY_MARKUP, behind);
    r->scanned = 0;
    r->fresh = true;
    r->eating = true;
    r->state = NB_AT_SAID;
    return NB_ON;
}

/* ---- what is said ---- */

/* Tags that may stand at `at` while something is said. */
typedef struct tag {
    const nb_call_row *row; /* a call begins */
    bool section;
    size_t n;
} tag;

static void consider(const nb_reply *r, size_t at, nb_str s, tag t, nb_match *best, tag *out)
{
    nb_match m = s.n ? nb_reply_starts(r, at, s) : NB_NO;
    t.n = s.n;
    if (m == NB_MORE || (m == NB_YES && *best != NB_MORE && (*best == NB_NO || t.n > out->n))) {
        *best = m;
        *out = t;
    }
}

static nb_match tag_at(const nb_reply *r, size_t at, tag *out)
{
    nb_match best = NB_NO;
    bool line = (at ? r->text[at - 1] : r->last) == '\n';
    for (int i = 0; i < NB_CALL_SYNTAXES && r->tools.count; i++) {
        const nb_call_row *row = i == NB_CALL_PREFIX ? &r->prefix : &nb_call_rows[i];
        char first = row->open.n ? row->open.p[0] : 0;
        bool word = (first >= 'A' && first <= 'Z') || (first >= 'a' && first <= 'z'); /* only where a line begins */
        if ((r->format.calls >> i & 1) && (!word || line))
            consider(r, at, row->open, (tag){.row = row}, &best, out);
    }
    for (size_t i = 0; i < nb_section_count && r->tools.count; i++)
        consider(r, at, nb_section_rows[i].open, (tag){.section = true}, &best, out);
    for (size_t i = 0; i < nb_said_count && r->format.think; i++) {
        consider(r, at, nb_said_rows[i].open, (tag){0}, &best, out);
        consider(r, at, nb_said_rows[i].close, (tag){0}, &best, out);
    }
    return best;
}

static bool may_begin(const nb_reply *r, char c)
{
    return c == '<' || c == '[' || c == '`' || c == 'f' || c == 'A' || (r->prefix.open.n && c == r->prefix.open.p[0]);
}

/* The whole reply may be a call. */
static nb_step step_bare(nb_reply *r, size_t at)
{
    char c = r->text[at];
    r->fresh = false;
    if ((r->format.calls >> NB_CALL_BARE & 1) && r->tools.count && (c == '{' || c == '[' || c == '`'))
        nb_reply_begin_call(r, &nb_call_rows[NB_CALL_BARE], 0, at);
    return NB_ON;
}

/* A tag behind `space` bytes of white space, which go where the tag does. */
static void found_tag(nb_reply *r, const tag *t, size_t space)
{
    r->scanned = 0;
    if (t->row) {
        nb_reply_begin_call(r, t->row, space + t->n, space + t->n);
    } else if (t->section) {
        r->section = space + t->n;
        r->state = NB_AT_SECTION;
    } else {
        nb_reply_leave(r, NB_REPLY_MARKUP, space + t->n);
        r->eating = true;
    }
}

static nb_step step_said(nb_reply *r)
{
    size_t at = 0;
    tag t = {0};
    nb_match m = NB_NO;
    if (r->fresh || r->eating) {
        if (!nb_reply_skip_space(r, &at) && !r->over)
            return NB_WAIT;
        if (r->eating)
            nb_reply_leave(r, NB_REPLY_MARKUP, at);
        at = r->eating ? 0 : at;
        r->eating = false;
        if (r->fresh && at < r->size)
            return step_bare(r, at);
    }
    for (at = r->scanned; at < r->size && m == NB_NO; at += m == NB_NO)
        if (may_begin(r, r->text[at]))
            m = tag_at(r, at, &t);
    r->scanned = at;
    size_t end = at; /* white space before a call is the call's */
    while (end > 0 && r->tools.count && nb_reply_space(r->text[end - 1]) && !(r->over && m == NB_NO))
        end--;
    size_t space = at - end;
    nb_reply_leave(r, NB_REPLY_CONTENT, end);
    if (m != NB_YES)
        return NB_WAIT;
    found_tag(r, &t, space);
    return NB_ON;
}

static nb_step step_section(nb_reply *r)
{
    size_t at = r->section;
    tag t = {0};
    if (!nb_reply_skip_space(r, &at) && !r->over)
        return NB_WAIT;
    nb_match m = at < r->size ? tag_at(r, at, &t) : NB_NO;
    if (m == NB_MORE)
        return NB_WAIT;
    if (m == NB_YES && t.row) {
        nb_reply_begin_call(r, t.row, at + t.n, at + t.n);
    } else {
        nb_reply_leave(r, NB_REPLY_CONTENT, r->section);
        r->state = NB_AT_SAID;
    }
    return NB_ON;
}

/* ---- the frame ---- */

static nb_step step(nb_reply *r)
{
    switch (r->state) {
    case NB_AT_START: return step_start(r);
    case NB_AT_THINKING: return step_thinking(r);
    case NB_AT_SAID: return step_said(r);
    case NB_AT_SECTION: return step_section(r);
    case NB_AT_CALL: return nb_reply_step_call(r);
    case NB_AFTER_CALL: return nb_reply_step_after(r);
    case NB_AT_HARMONY: return nb_reply_step_harmony(r);
    }
    return NB_WAIT;
}

static nb_status advance(nb_reply *r, nb_error *err)
{
    r->text = r->hold.data ? r->hold.data + r->head : "";
    r->size = r->hold.len - r->head;
    while (!r->failed && (r->size || r->over) && step(r) == NB_ON && (r->size || r->state == NB_AT_CALL))
        ;
    if (r->hold.failed || r->built.failed || r->failed)
        return nb_fail_memory(err, "model's reply", r->hold.len);
    return NB_OK;
}

nb_status nb_reply_feed(nb_reply *r, nb_str piece, nb_error *err)
{
    nb_buf_str(&r->hold, piece);
    return advance(r, err);
}

nb_status nb_reply_finish(nb_reply *r, nb_error *err)
{
    r->over = true;
    return advance(r, err);
}

int nb_reply_calls(const nb_reply *r) { return r->ended; }

nb_status nb_reply_new(const nb_reply_params *params, nb_reply **out, nb_error *err)
{
    *out = NULL;
    nb_reply *r = calloc(1, sizeof *r);
    if (!r)
        return nb_fail_memory(err, "parser of replies", sizeof *r);
    r->format = params->format;
    r->event = params->event;
    r->user = params->user;
    r->stream = params->stream_arguments;
    r->seed = params->seed;
    r->fresh = true;
    r->last = '\n';
    r->text = "";
    if (!r->format.calls) /* tools that the template does not know of were told in words */
        r->format.calls = 1ull << NB_CALL_BARE | 1ull << NB_CALL_FENCE;
    if (params->keep_thinking)
        r->format.think = NB_THINK_NONE;
    r->prefix = nb_call_rows[NB_CALL_PREFIX];
    r->prefix.open = nb_str_of(r->format.prefix);
    nb_status status = params->tools.n ? nb_tools_read(params->tools, &r->arena, &r->tools, err) : NB_OK;
    r->state = r->format.harmony ? NB_AT_HARMONY : r->format.think == NB_THINK_NONE ? NB_AT_SAID : NB_AT_START;
    if (r->state == NB_AT_START && params->thinking_open) {
        r->state = NB_AT_THINKING;
        r->eating = true;
    }
    if (status == NB_OK)
        *out = r;
    else
        nb_reply_free(r);
    return status;
}

void nb_reply_free(nb_reply *r)
{
    if (!r)
        return;
    nb_arena_free(&r->arena);
    nb_arena_free(&r->scratch);
    nb_buf_free(&r->hold);
    nb_buf_free(&r->built);
    free(r);
}
