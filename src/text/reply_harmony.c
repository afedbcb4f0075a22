/* reply_harmony.c - replies in channels, as gpt-oss writes them: <|channel|>analysis<|message|>...<|end|><|start|>assistant
 * <|channel|>final<|message|>..., and calls as messages to=functions.NAME whose body is the arguments.
 * Source: OpenAI's description of the harmony response format. */
#include "text/reply_internal.h"

#define HEADER_MOST 1000

/* NB_STR without its cast: an initializer */
#define TEXT(literal)                                                                                                  \
    {                                                                                                                  \
        (literal), sizeof(literal) - 1                                                                                 \
    }

static const nb_str message = TEXT("<|message|>"), start = TEXT("<|start|>"), channel = TEXT("<|channel|>"),
                    constrain = TEXT("<|constrain|>");
static const nb_str ends[] = {TEXT("<|end|>"), TEXT("<|call|>"), TEXT("<|return|>"), TEXT("<|start|>")};
enum { ENDS = sizeof ends / sizeof *ends };

/* ---- headers ---- */

/* The word behind `mark` in the header, up to white space or the next mark. */
static nb_str word_behind(nb_str header, nb_str mark)
{
    for (size_t i = 0; i + mark.n <= header.n; i++) {
        if (memcmp(header.p + i, mark.p, mark.n) != 0)
            continue;
        nb_str word = {header.p + i + mark.n, 0};
        while (i + mark.n + word.n < header.n && !nb_reply_space(word.p[word.n]) && word.p[word.n] != '<')
            word.n++;
        return word;
    }
    return NB_STR("");
}

/* A header begins with a mark or with " to="; whatever else is said plainly. */
static nb_match header_begins(const nb_reply *r)
{
    size_t at = 0;
    const nb_str begins[] = {start, channel, message, constrain, NB_STR("to=")};
    nb_match best = NB_NO;
    while (at < r->size && r->text[at] == ' ')
        at++;
    if (at == r->size)
        return r->over ? NB_NO : NB_MORE;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        nb_match m = nb_reply_starts(r, at, begins[i]);
        best = m > best ? m : best;
    }
    return best;
}

static void plain(nb_reply *r, size_t header)
{
    nb_reply_leave(r, NB_REPLY_CONTENT, header);
    r->harmony = (nb_harmony){.body = true};
}

static nb_step step_header(nb_reply *r)
{
    nb_harmony *h = &r->harmony;
    size_t part, found;
    nb_match m = h->at ? NB_YES : header_begins(r);
    if (m == NB_MORE)
        return NB_WAIT;
    if (m == NB_NO) {
        plain(r, 0);
        return NB_ON;
    }
    found = nb_reply_search(r, h->at, message, &part);
    h->at = part;
    if (found == SIZE_MAX) {
        if (!r->over && part < HEADER_MOST)
            return NB_WAIT;
        plain(r, part);
        return NB_ON;
    }
    nb_str header = {r->text, found}, to = word_behind(header, NB_STR("to=")), name = word_behind(header, channel);
    const nb_tool *tool = NULL;
    if (nb_str_starts(to, NB_STR("functions.")))
        to = (nb_str){to.p + 10, to.n - 10};
    if (to.n)
        tool = nb_tools_find(&r->tools, to);
    size_t behind = found + message.n;
    if (to.n && !tool) {
        plain(r, behind); /* no tool that was asked for: nothing is lost */
        return NB_ON;
    }
    *h = (nb_harmony){.body = true, .call = tool != NULL, .tool = tool};
    h->thinking = !tool && nb_str_eqz(name, "analysis");
    h->at = h->body_at = tool ? behind : 0;
    if (!tool)
        nb_reply_leave(r, NB_REPLY_MARKUP, behind);
    return NB_ON;
}

/* ---- bodies ---- */

/* Where a body ends, at or after `from`; *n: bytes of what ends it. MORE: at *at a mark may begin. */
static nb_match body_end(const nb_reply *r, size_t from, size_t *at, size_t *n)
{
    for (*at = from; *at < r->size; ++*at) {
        const char *next = memchr(r->text + *at, '<', r->size - *at);
        if (!next)
            break;
        *at = (size_t)(next - r->text);
        for (int i = 0; i < ENDS; i++) {
            nb_match m = nb_reply_starts(r, *at, ends[i]);
            *n = i == ENDS - 1 ? 0 : ends[i].n; /* the next message's start stays */
            if (m != NB_NO)
                return m;
        }
    }
    *at = r->size;
    return NB_NO;
}

static nb_str trimmed(const nb_reply *r, size_t from, size_t to)
{
    while (from < to && nb_reply_space(r->text[from]))
        from++;
    while (to > from && nb_reply_space(r->text[to - 1]))
        to--;
    return (nb_str){r->text + from, to - from};
}

static void stream(nb_reply *r, size_t to)
{
    nb_harmony *h = &r->harmony;
    nb_str json = trimmed(r, h->body_at, to);
    size_t from = (size_t)(json.p - r->text), end = from + json.n;
    if (!r->stream || json.n == 0 || json.p[0] != '{')
        return;
    if (!h->announced)
        nb_reply_announce(r, h->tool, NB_STR(""));
    if (!h->announced)
        h->sent = from;
    h->announced = true;
    if (end > h->sent)
        nb_reply_arguments(r, nb_json_prefix_of(&h->prefix, (nb_str){r->text + h->sent, end - h->sent}));
    h->sent = nb_max_size(h->sent, end);
}

static nb_step step_call_body(nb_reply *r, nb_match m, size_t end, size_t mark)
{
    nb_harmony *h = &r->harmony;
    nb_str json = trimmed(r, h->body_at, end);
    stream(r, end);
    h->at = end;
    if (m != NB_YES && !r->over)
        return NB_WAIT;
    nb_arena_free(&r->scratch);
    r->scratch = (nb_arena){0};
    if (json.n == 0)
        json = NB_STR("{}");
    if (nb_json_is_object(json, &r->scratch)) {
        if (!h->announced) {
            nb_reply_announce(r, h->tool, NB_STR(""));
            nb_reply_arguments(r, json);
        }
        nb_reply_end_call(r, end + mark);
        r->harmony = (nb_harmony){0};
    } else if (h->announced && m != NB_YES) {
        nb_reply_void_call(r, r->size);
        r->harmony = (nb_harmony){0};
    } else {
        if (h->announced)
            nb_reply_void_call(r, 0);
        plain(r, end);
    }
    return NB_ON;
}

nb_step nb_reply_step_harmony(nb_reply *r)
{
    nb_harmony *h = &r->harmony;
    size_t end, mark = 0;
    if (!h->body)
        return step_header(r);
    nb_match m = body_end(r, h->at, &end, &mark);
    if (m != NB_YES)
        mark = 0;
    if (h->call)
        return step_call_body(r, m, end, mark);
    nb_reply_leave(r, h->thinking ? NB_REPLY_THINKING : NB_REPLY_CONTENT, end);
    h->at = 0;
    if (m != NB_YES)
        return NB_WAIT;
    nb_reply_leave(r, NB_REPLY_MARKUP, mark);
    r->harmony = (nb_harmony){0};
    return NB_ON;
}
