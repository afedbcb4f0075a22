/* Replies of any bytes in any format: no byte is lost, calls are of known tools with JSON objects as arguments, and how the
 * reply is cut changes nothing. The first bytes choose the format. */
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"
#include "text/reply.h"
#include "text/template_probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"a\":"
    "{\"type\":\"string\"}}}}},{\"name\":\"g\",\"input_schema\":{}}]";

typedef struct seen {
    nb_buf raw, by_kind[NB_REPLY_MARKUP + 1], arguments;
    bool open;
} seen;

static void take(void *user, const nb_reply_event *e)
{
    seen *s = user;
    nb_buf_str(&s->raw, e->text);
    if (e->kind != NB_REPLY_MARKUP)
        nb_buf_str(&s->by_kind[e->kind], e->kind == NB_REPLY_ARGUMENTS ? e->arguments : e->text);
    if (e->kind == NB_REPLY_CALL) {
        if (s->open || e->name.n != 1 || (e->name.p[0] != 'f' && e->name.p[0] != 'g') || !e->id.n)
            abort();
        s->open = true;
        nb_buf_clear(&s->arguments);
    } else if (e->kind == NB_REPLY_ARGUMENTS) {
        if (!s->open)
            abort();
        nb_buf_str(&s->arguments, e->arguments);
    } else if (e->kind == NB_REPLY_CALL_END) {
        nb_arena arena = {0};
        nb_json_reader r = nb_json_read_begin("", nb_buf_view(&s->arguments), &arena, NULL);
        if (!s->open || nb_json_read_peek(&r) != '{')
            abort();
        nb_json_read_skip(&r);
        if (nb_json_read_end(&r) != NB_OK)
            abort();
        nb_arena_free(&arena);
    }
    if (e->kind == NB_REPLY_CALL_END || e->kind == NB_REPLY_CALL_VOID)
        s->open = false;
}

static void run(nb_reply_params p, nb_str reply, size_t piece, seen *s)
{
    nb_reply *r;
    memset(s, 0, sizeof *s);
    p.event = take;
    p.user = s;
    if (nb_reply_new(&p, &r, NULL) != NB_OK)
        abort();
    for (size_t at = 0; at < reply.n; at += piece)
        if (nb_reply_feed(r, (nb_str){reply.p + at, nb_min_size(piece, reply.n - at)}, NULL) != NB_OK)
            abort();
    if (nb_reply_finish(r, NULL) != NB_OK || s->open || s->raw.len != reply.n ||
        (reply.n && memcmp(s->raw.data, reply.p, reply.n) != 0))
        abort();
    nb_reply_free(r);
}

static void done(seen *s)
{
    nb_buf_free(&s->raw);
    nb_buf_free(&s->arguments);
    for (int i = 0; i <= NB_REPLY_MARKUP; i++)
        nb_buf_free(&s->by_kind[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    seen whole, cut;
    nb_template_traits traits;
    nb_reply_params p = {.tools = nb_str_of(tools)};
    if (size < 4)
        return 0;
    nb_str reply = {(const char *)data + 4, size - 4};
    p.format.harmony = data[0] & 1;
    p.stream_arguments = data[0] & 2;
    p.thinking_open = data[0] & 4;
    p.keep_thinking = data[0] & 8;
    p.format.think = (nb_think)(data[1] % NB_THINKS);
    p.format.calls = data[2] < 128 ? 1ull << data[2] % NB_CALL_SYNTAXES : (1ull << NB_CALL_SYNTAXES) - 1;
    if (data[0] & 16)
        strcpy(p.format.prefix, "@@");
    run(p, reply, size, &whole);
    run(p, reply, 1 + data[3] % 5, &cut);
    for (int i = 0; i < NB_REPLY_MARKUP; i++)
        if (!nb_str_eq(nb_buf_view(&whole.by_kind[i]), nb_buf_view(&cut.by_kind[i])))
            abort();
    done(&whole);
    done(&cut);
    p.format = nb_reply_detect(reply); /* as a template */
    nb_template_probe_go(reply, &traits);
    run(p, reply, size, &whole);
    done(&whole);
    return 0;
}
