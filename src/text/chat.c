#include "text/chat.h"

#include <stdlib.h>

#include "text/jinja_eval.h"
#include "text/jinja_text.h"

/* No model's template comes near it. */
#define MAX_SOURCE ((size_t)4 << 20)

struct nb_template {
    nb_arena arena;
    nb_jnode *body;
};

nb_status nb_template_compile(nb_str source, nb_template **out, nb_error *err)
{
    *out = NULL;
    if (source.n > MAX_SOURCE)
        return nb_fail(err, NB_ERR_LIMIT, "the chat template has %zu bytes; at most %zu are read", source.n,
                       MAX_SOURCE);
    nb_template *t = calloc(1, sizeof *t);
    if (!t)
        return nb_fail_memory(err, "chat template", sizeof *t);
    t->arena.limit = NB_JINJA_MEMORY;
    nb_status status = nb_jinja_parse(&t->arena, source, &t->body, err);
    if (status != NB_OK) {
        nb_template_free(t);
        return status;
    }
    *out = t;
    return NB_OK;
}

void nb_template_free(nb_template *t)
{
    if (!t)
        return;
    nb_arena_free(&t->arena);
    free(t);
}

/* JSON from the caller; an error names which part it was. */
static nb_jval parsed(nb_jinja *j, nb_str json, nb_jkind want, const char *what)
{
    nb_error why;
    nb_jval v = nb_jnone();
    if (!nb_jparse_json(j, json, &v, &why))
        return nb_jfail(j, why.code, "%s: %s", what, why.message);
    if (v.kind != want)
        return nb_jfail(j, NB_ERR_ARGUMENT, "%s must be a JSON %s", what, want == NB_J_LIST ? "array" : "object");
    return v;
}

static void merge(nb_jinja *j, nb_jdict *into, nb_jval from)
{
    nb_jentry *e;
    for (size_t at = 0; nb_jok(j) && (e = nb_jdict_next(from.u.dict, &at)) != NULL;)
        nb_jdict_set(j, into, e->key, e->value);
}

static nb_jval message_value(nb_jinja *j, const nb_chat_message *m)
{
    nb_jval dict = nb_jdict_new(j);
    if (!nb_jok(j))
        return dict;
    nb_jdict_setz(j, dict.u.dict, "role", nb_jstr(m->role));
    nb_jdict_setz(j, dict.u.dict, "content", nb_jstr(m->content));
    if (m->extra.n)
        merge(j, dict.u.dict, parsed(j, m->extra, NB_J_DICT, "a message's further fields"));
    return dict;
}

static void set_variables(nb_jinja *j, const nb_chat_input *in)
{
    nb_jval messages = nb_jlist_new(j, NB_J_LIST, in->count);
    for (size_t i = 0; i < in->count && nb_jok(j); i++)
        nb_jlist_push(j, messages, message_value(j, &in->messages[i]));
    nb_jdict_setz(j, j->globals, "messages", messages);
    nb_jdict_setz(j, j->globals, "tools", in->tools.n ? parsed(j, in->tools, NB_J_LIST, "the tools") : nb_jnone());
    nb_jdict_setz(j, j->globals, "documents", nb_jnone());
    nb_jdict_setz(j, j->globals, "add_generation_prompt", nb_jbool(in->add_generation_prompt));
    nb_jdict_setz(j, j->globals, "bos_token", nb_jstr(in->bos_token));
    nb_jdict_setz(j, j->globals, "eos_token", nb_jstr(in->eos_token));
    if (in->variables.n)
        merge(j, j->globals, parsed(j, in->variables, NB_J_DICT, "the template's variables"));
}

nb_status nb_template_render(const nb_template *t, const nb_chat_input *input, nb_buf *out, nb_error *err)
{
    nb_jinja j;
    size_t before = out->len;
    nb_status status = nb_jinja_begin(&j, out, input->now, err);
    if (status == NB_OK) {
        set_variables(&j, input);
        status = j.status;
    }
    if (status == NB_OK)
        status = nb_jinja_run(&j, t->body);
    nb_jinja_end(&j);
    if (status != NB_OK && out->data) { /* half a prompt is none */
        out->len = before;
        out->data[before] = 0;
    }
    return status;
}
