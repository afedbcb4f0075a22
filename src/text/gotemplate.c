/* Ollama's rules around text/template: what a conversation becomes for a template. */
#include "text/gotemplate.h"

#include <ctype.h>
#include <stdlib.h>

#include "text/gotemplate_exec.h"
#include "text/gotemplate_text.h"

/* No Modelfile's template comes near it. */
#define MAX_SOURCE ((size_t)256 << 10)

nb_status nb_gotemplate_compile(nb_str source, nb_gotemplate **out, nb_error *err)
{
    *out = NULL;
    if (source.n > MAX_SOURCE)
        return nb_fail(err, NB_ERR_LIMIT, "the template has %zu bytes; at most %zu are read", source.n, MAX_SOURCE);
    nb_gotemplate *t = calloc(1, sizeof *t);
    if (!t)
        return nb_fail_memory(err, "template", sizeof *t);
    t->arena.limit = NB_GO_MEMORY;
    char *copy = nb_arena_strdup(&t->arena, source);
    nb_status status = copy ? nb_go_parse(t, (nb_str){copy, source.n}, err) : nb_fail_memory(err, "template", source.n);
    if (status == NB_OK)
        status = nb_go_infer(t, err);
    if (status != NB_OK) {
        nb_gotemplate_free(t);
        return status;
    }
    *out = t;
    return NB_OK;
}

void nb_gotemplate_free(nb_gotemplate *t)
{
    if (!t)
        return;
    nb_arena_free(&t->arena);
    free(t);
}

/* ---- messages ---- */

static nb_str role_of(nb_go_value message) { return message.u.fields[NB_GO_MESSAGE_ROLE].u.s; }
static nb_str content_of(nb_go_value message) { return message.u.fields[NB_GO_MESSAGE_CONTENT].u.s; }

static nb_str lower_case(nb_go *g, nb_str s)
{
    char *to = nb_go_memory(g, s.n, 1);
    for (size_t i = 0; to && i < s.n; i++)
        to[i] = (char)tolower((unsigned char)s.p[i]);
    return to ? (nb_str){to, s.n} : NB_STR("");
}

static nb_go_value message_of(nb_go *g, const nb_chat_message *m)
{
    nb_go_value v = m->extra.n ? nb_go_read_json(g, m->extra, &nb_go_message_type, "a message's further fields")
                               : nb_go_struct(g, &nb_go_message_type);
    if (nb_go_ok(g) && nb_go_kind_of(v) == NB_GO_STRUCT) {
        nb_go_fields(v)[NB_GO_MESSAGE_ROLE] = nb_go_str(lower_case(g, m->role));
        nb_go_fields(v)[NB_GO_MESSAGE_CONTENT] = nb_go_str(m->content.n ? m->content : NB_STR(""));
    }
    return v;
}

/* The contents of messages, or of those of one role, with an empty line between them. */
static nb_str joined(nb_go *g, const nb_go_value *messages, size_t count, const char *role)
{
    nb_buf b = {0};
    bool any = false;
    for (size_t i = 0; i < count && nb_go_ok(g); i++) {
        if (role && !nb_str_eqz(role_of(messages[i]), role))
            continue;
        nb_go_write_z(g, &b, any ? "\n\n" : "");
        nb_go_write(g, &b, content_of(messages[i]));
        any = true;
    }
    nb_go_value text = nb_go_str_take(g, &b);
    return text.type ? text.u.s : NB_STR("");
}

typedef struct conversation {
    nb_go_value *messages; /* neighbours of one role merged */
    size_t count;
    nb_str system; /* all system messages */
} conversation;

/* The first of merged messages keeps its other fields. */
static void merge_neighbours(nb_go *g, conversation *c)
{
    size_t kept = 0;
    for (size_t i = 0, end; i < c->count && nb_go_ok(g); i = end) {
        nb_go_value first = c->messages[i];
        bool tool = nb_str_eqz(role_of(first), "tool");
        for (end = i + 1; end < c->count && !tool && nb_str_eq(role_of(c->messages[end]), role_of(first));)
            end++;
        if (end > i + 1)
            nb_go_fields(first)[NB_GO_MESSAGE_CONTENT] = nb_go_str(joined(g, c->messages + i, end - i, NULL));
        c->messages[kept++] = first;
    }
    c->count = kept;
}

static conversation converse(nb_go *g, const nb_gotemplate_input *in)
{
    conversation c = {.messages = nb_go_memory(g, in->count, sizeof *c.messages), .count = in->count};
    for (size_t i = 0; i < in->count && nb_go_ok(g); i++)
        c.messages[i] = message_of(g, &in->messages[i]);
    if (!nb_go_ok(g))
        return c;
    c.system = joined(g, c.messages, c.count, "system");
    merge_neighbours(g, &c);
    return c;
}

static nb_go_value messages_value(nb_go *g, const conversation *c)
{
    nb_go_value v = nb_go_zero(&nb_go_messages_type);
    nb_go_list *list = nb_go_memory(g, 1, sizeof *list);
    nb_go_value *pointers = nb_go_memory(g, c->count, sizeof *pointers);
    if (!list || !pointers || !c->count)
        return v;
    for (size_t i = 0; i < c->count; i++)
        pointers[i] = (nb_go_value){.type = nb_go_messages_type.elem, .u.to = &c->messages[i]};
    *list = (nb_go_list){pointers, c->count};
    v.u.list = list;
    return v;
}

/* ---- data ---- */

typedef struct data { /* the root of what a template sees */
    nb_go_entry entries[12];
    size_t count;
} data;

static void put(data *d, const char *key, nb_go_value v) { d->entries[d->count++] = (nb_go_entry){nb_str_of(key), v}; }

static data common_data(const nb_gotemplate_input *in, nb_str response)
{
    data d = {.count = 0};
    put(&d, "Response", nb_go_str(response));
    put(&d, "Think", nb_go_bool(in->think));
    put(&d, "ThinkLevel", nb_go_str(in->think_level.n ? in->think_level : NB_STR("")));
    put(&d, "IsThinkSet", nb_go_bool(in->think_set));
    return d;
}

static void run(nb_go *g, const nb_go_node *root, data *d)
{
    nb_go_value dot = nb_go_map_of(g, &nb_go_any_map_type, d->entries, d->count);
    if (nb_go_ok(g))
        nb_go_run(g, root, dot);
}

static void render_fill(nb_go *g, const nb_gotemplate_input *in)
{
    data d = common_data(in, NB_STR(""));
    put(&d, "Prompt", nb_go_str(in->prompt));
    put(&d, "Suffix", nb_go_str(in->suffix));
    run(g, g->template->turn, &d);
}

static void render_messages(nb_go *g, const nb_gotemplate_input *in, const conversation *c)
{
    data d = common_data(in, NB_STR(""));
    put(&d, "System", nb_go_str(c->system));
    put(&d, "Messages", messages_value(g, c));
    put(&d, "Tools",
        in->tools.n ? nb_go_read_json(g, in->tools, &nb_go_tools_type, "the tools") : nb_go_zero(&nb_go_tools_type));
    run(g, g->template->root, &d);
}

/* ---- templates without .Messages ---- */

typedef struct turn {
    nb_str system, prompt, response;
} turn;

static void render_turn(nb_go *g, const nb_gotemplate_input *in, const nb_go_node *root, turn *t)
{
    data d = common_data(in, t->response);
    put(&d, "System", nb_go_str(t->system));
    put(&d, "Prompt", nb_go_str(t->prompt));
    run(g, root, &d);
    *t = (turn){NB_STR(""), NB_STR(""), NB_STR("")};
}

/* A turn ends where another message of an earlier part of it comes; the last one is what the model is asked. */
static void render_turns(nb_go *g, const nb_gotemplate_input *in, const conversation *c)
{
    turn t = {NB_STR(""), NB_STR(""), NB_STR("")};
    for (size_t i = 0; i < c->count && nb_go_ok(g); i++) {
        nb_str role = role_of(c->messages[i]), content = content_of(c->messages[i]);
        if (nb_str_eqz(role, "system")) {
            if (t.prompt.n || t.response.n)
                render_turn(g, in, g->template->turn, &t);
            t.system = content;
        } else if (nb_str_eqz(role, "user")) {
            if (t.response.n)
                render_turn(g, in, g->template->turn, &t);
            t.prompt = content;
        } else if (nb_str_eqz(role, "assistant"))
            t.response = content;
    }
    if (nb_go_ok(g))
        render_turn(g, in, g->template->prompt, &t);
}

/* ---- rendering ---- */

/* Half a prompt is none. */
static nb_status finish(nb_go *g, nb_buf *out, size_t before)
{
    nb_go_end(g);
    if (g->status != NB_OK && out->data) {
        out->len = before;
        out->data[before] = 0;
    }
    return g->status;
}

nb_status nb_gotemplate_render(const nb_gotemplate *t, const nb_gotemplate_input *input, nb_buf *out, nb_error *err)
{
    nb_go g;
    size_t before = out->len;
    nb_go_begin(&g, t, out, input->now, err);
    if (input->prompt.n && input->suffix.n) {
        render_fill(&g, input);
        return finish(&g, out, before);
    }
    conversation c = converse(&g, input);
    if (nb_go_ok(&g) && t->uses_messages)
        render_messages(&g, input, &c);
    else if (nb_go_ok(&g))
        render_turns(&g, input, &c);
    return finish(&g, out, before);
}

nb_status nb_gotemplate_render_data(const nb_gotemplate *t, nb_str json, int64_t now, nb_buf *out, nb_error *err)
{
    nb_go g;
    size_t before = out->len;
    nb_go_begin(&g, t, out, now, err);
    nb_go_value dot = nb_go_read_json(&g, json, &nb_go_interface_type, "the data");
    if (nb_go_ok(&g))
        nb_go_run(&g, t->root, nb_go_unwrap(dot));
    return finish(&g, out, before);
}
