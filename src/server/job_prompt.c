#include "server/job_prompt.h"

#include <jansson.h>
#include <stdlib.h>
#include <time.h>

#include "server/service_internal.h"
#include "text/infill.h"

struct nb_prompt_template {
    bool is_go;
    nb_template *jinja;
    nb_gotemplate *go;
    nb_status status; /* of compiling it */
    nb_error error;
    nb_template_traits traits;
    nb_reply_format format;
};

/* ---- templates ---- */

void nb_prompt_template_free(nb_prompt_template *t)
{
    if (!t)
        return;
    nb_template_free(t->jinja);
    nb_gotemplate_free(t->go);
    free(t);
}

static nb_prompt_template *compile(nb_str source, bool is_go)
{
    nb_prompt_template *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->is_go = is_go;
    if (source.n == 0)
        return t;
    t->format = nb_reply_detect(source);
    t->status = is_go ? nb_gotemplate_compile(source, &t->go, &t->error)
                      : nb_template_compile(source, &t->jinja, &t->error);
    if (t->status == NB_OK && is_go)
        nb_template_probe_go(source, &t->traits);
    else if (t->status == NB_OK)
        nb_template_probe(t->jinja, source, &t->traits);
    return t;
}

/* The model's own, made once; the parser that its configuration names says how replies are written. */
static nb_status own_template(nb_served *m, const nb_prompt_template **out, nb_error *err)
{
    nb_str source;
    bool is_go;
    const nb_contents *contents;
    NB_TRY(nb_entry_template(m->entry, &source, &is_go, err));
    NB_TRY(nb_entry_contents(m->entry, &contents, err));
    pthread_mutex_lock(&m->lock);
    if (!m->chat) {
        m->chat = compile(source, is_go);
        if (m->chat && contents->config.parser.n)
            nb_reply_named(contents->config.parser, &m->chat->format);
    }
    *out = m->chat;
    pthread_mutex_unlock(&m->lock);
    return *out ? NB_OK : nb_fail_memory(err, "a template", sizeof **out);
}

static bool is_empty(const nb_prompt_template *t) { return !t->jinja && !t->go && t->status == NB_OK; }

/* ---- messages ---- */

typedef struct conversation {
    nb_arena arena;
    nb_job_message *items;
    nb_chat_message *chat;
    size_t count;
    nb_str begun; /* of the reply: what a last message of the assistant says, which the reply goes on with */
} conversation;

static bool is_system(const nb_job_message *m)
{
    return nb_str_eqz(m->role, "system") || nb_str_eqz(m->role, "developer");
}

static nb_str join(nb_arena *arena, nb_str a, nb_str b)
{
    char *text = a.n ? NB_ARRAY(arena, char, a.n + b.n + 3) : NULL;
    if (!text)
        return b;
    if (a.n)
        memcpy(text, a.p, a.n);
    memcpy(text + a.n, "\n\n", 2);
    if (b.n)
        memcpy(text + a.n + 2, b.p, b.n);
    return (nb_str){text, a.n + 2 + b.n};
}

/* What a template without system messages is told in the first user message. */
static void fold_system(conversation *c)
{
    nb_job_message *user = c->items;
    while (user < c->items + c->count && !nb_str_eqz(user->role, "user"))
        user++;
    if (user == c->items + c->count)
        return;
    for (size_t i = c->count; i-- > 0;)
        if (is_system(&c->items[i]))
            user->content = join(&c->arena, c->items[i].content, user->content);
    size_t kept = 0;
    for (size_t i = 0; i < c->count; i++)
        if (!is_system(&c->items[i]))
            c->items[kept++] = c->items[i];
    c->count = kept;
}

static void add_messages(conversation *c, const nb_job_message *messages, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        c->items[c->count] = messages[i];
        if (is_system(&messages[i]))
            c->items[c->count].role = NB_STR("system");
        c->count++;
    }
}

/* The model's own system text and messages, then the request's. */
static nb_status gather(nb_served *m, const nb_job_params *p, const nb_prompt_template *t, conversation *c,
                        nb_error *err)
{
    const nb_contents *own;
    NB_TRY(nb_entry_contents(m->entry, &own, err));
    size_t most = own->message_count + p->message_count + 2;
    bool says_system = p->has_system;
    c->items = NB_ARRAY(&c->arena, nb_job_message, most);
    c->chat = NB_ARRAY(&c->arena, nb_chat_message, most);
    if (!c->items || !c->chat)
        return nb_fail_memory(err, "messages", most * sizeof *c->items);
    for (size_t i = 0; i < p->message_count; i++)
        says_system |= is_system(&p->messages[i]);
    nb_str system = p->has_system ? p->system : says_system ? NB_STR("") : own->system;
    if (system.n)
        c->items[c->count++] = (nb_job_message){.role = NB_STR("system"), .content = system};
    size_t leading = 0; /* system messages that the request begins with come before what the model says was said */
    while (leading < p->message_count && is_system(&p->messages[leading]))
        leading++;
    add_messages(c, p->messages, leading);
    for (size_t i = 0; i < own->message_count; i++)
        c->items[c->count++] = (nb_job_message){.role = own->messages[i].role, .content = own->messages[i].content};
    if (leading < p->message_count) /* of a prompt alone there are no messages to point into */
        add_messages(c, p->messages + leading, p->message_count - leading);
    if (p->is_prompt)
        c->items[c->count++] = (nb_job_message){.role = NB_STR("user"), .content = p->prompt};
    if (!t->is_go && !t->traits.system)
        fold_system(c);
    return NB_OK;
}

static void put_text(json_t *object, const char *key, nb_str text)
{
    if (text.n)
        json_object_set_new(object, key, json_stringn(text.p, text.n));
}

/* The further fields of a message, as one JSON object. */
static nb_status extra_fields(conversation *c, const nb_prompt_template *t, const nb_job_message *m, nb_str *out,
                              nb_error *err)
{
    nb_buf fields = {0};
    nb_template_traits go = {.thinking_key = "thinking"};
    *out = NB_STR("");
    if (m->call_count || m->thinking.n || t->traits.content_parts)
        NB_TRY(nb_template_message_fields(t->is_go ? &go : &t->traits, m->content, m->calls, m->call_count, m->thinking,
                                          &fields, err));
    json_t *object = fields.len ? json_loadb(fields.data, fields.len, 0, NULL) : json_object();
    nb_buf_free(&fields);
    put_text(object, "tool_call_id", m->tool_call_id);
    put_text(object, "tool_name", m->tool_name);
    put_text(object, "name", t->is_go ? NB_STR("") : m->tool_name);
    char *text = json_object_size(object) ? json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    bool failed = json_object_size(object) && !text;
    json_decref(object);
    if (text) {
        *out = nb_str_of(nb_arena_strdup(&c->arena, nb_str_of(text)));
        failed = !out->p;
        free(text);
    }
    return failed ? nb_fail_memory(err, "a message", 0) : NB_OK;
}

static nb_status fill_chat(conversation *c, const nb_prompt_template *t, nb_error *err)
{
    for (size_t i = 0; i < c->count; i++) {
        c->chat[i] = (nb_chat_message){.role = c->items[i].role, .content = c->items[i].content};
        NB_TRY(extra_fields(c, t, &c->items[i], &c->chat[i].extra, err));
    }
    return NB_OK;
}

/* ---- rendering ---- */

/* The caller's variables, and what thinking is switched by. Free it. */
static char *variables(const nb_job_params *p, const nb_prompt_template *t, bool begun)
{
    json_t *object = p->template_kwargs.n ? json_loadb(p->template_kwargs.p, p->template_kwargs.n, 0, NULL)
                                          : json_object();
    if (!json_is_object(object)) {
        json_decref(object);
        object = json_object();
    }
    bool said = begun || p->schema.n ||
                p->grammar.n; /* what a grammar holds, or is said already, cannot be thought about */
    int think = p->think < 0 && said ? 0 : p->think;
    if (t->traits.switch_name && think >= 0 && !json_object_get(object, t->traits.switch_name))
        json_object_set_new(object, t->traits.switch_name, json_boolean(think));
    put_text(object, "reasoning_effort", p->think_level);
    char *text = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(object);
    return text;
}

static nb_status render_jinja(nb_served *m, const nb_job_params *p, const nb_prompt_template *t, const conversation *c,
                              nb_buf *out, nb_error *err)
{
    char *more = variables(p, t, c->begun.n > 0);
    nb_str tools = p->tool_choice == NB_TOOL_NONE ? NB_STR("") : p->tools;
    nb_chat_input in = {.messages = c->chat,
                        .count = c->count,
                        .tools = tools.n                 ? tools
                                 : t->traits.empty_tools ? NB_STR("[]")
                                                         : NB_STR(""),
                        .variables = nb_str_of(more),
                        .bos_token = m->model->bos,
                        .eos_token = m->model->eos,
                        .add_generation_prompt = true,
                        .now = (int64_t)time(NULL)};
    nb_status status = more ? nb_template_render(t->jinja, &in, out, err) : nb_fail_memory(err, "a prompt", 0);
    free(more);
    nb_buf_str(out, c->begun);
    return status;
}

/* A last message of the assistant is what the reply goes on with. Go templates leave it open by themselves, and so do texts
 * without a template. Where a template makes every reply begin with thinking, it stays a message. */
static void take_begun(nb_served *m, const nb_job_params *p, const nb_prompt_template *t, conversation *c)
{
    nb_buf text = {0};
    const nb_job_message *last = c->count ? &c->items[c->count - 1] : NULL;
    if (!t->jinja || c->count < 2 || !nb_str_eqz(last->role, "assistant") || last->content.n == 0 || last->call_count ||
        p->think > 0)
        return;
    c->begun = last->content;
    c->count--;
    if (render_jinja(m, p, t, c, &text, NULL) != NB_OK || text.failed ||
        nb_reply_opened(&t->format, (nb_str){text.data, text.len - c->begun.n})) {
        c->begun = NB_STR("");
        c->count++;
    }
    nb_buf_free(&text);
}

static nb_status render_go(const nb_job_params *p, const nb_prompt_template *t, const conversation *c, nb_buf *out,
                           nb_error *err)
{
    nb_gotemplate_input in = {.messages = c->chat,
                              .count = c->count,
                              .tools = p->tool_choice == NB_TOOL_NONE ? NB_STR("") : p->tools,
                              .prompt = p->suffix.n ? p->prompt : NB_STR(""),
                              .suffix = p->suffix,
                              .think = p->think > 0,
                              .think_set = p->think >= 0,
                              .think_level = p->think_level,
                              .now = (int64_t)time(NULL)};
    return nb_gotemplate_render(t->go, &in, out, err);
}

static nb_status check_abilities(const nb_served *m, const nb_job_params *p, const nb_prompt_template *t, nb_error *err)
{
    const char *name = nb_entry_text(m->entry);
    if (t->status != NB_OK)
        return nb_fail(err, t->status, "%s: its template: %.600s", name, t->error.message);
    if (p->tools.n && p->tool_choice != NB_TOOL_NONE && !t->traits.tools)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s does not support tools", name);
    if (p->think > 0 && !t->traits.thinking && t->format.think == NB_THINK_NONE && !t->format.harmony)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s does not support thinking", name);
    return NB_OK;
}

/* Without a template: texts as they are. */
static void render_plain(const conversation *c, nb_buf *out)
{
    for (size_t i = 0; i < c->count; i++) {
        if (i)
            nb_buf_z(out, "\n\n");
        nb_buf_str(out, c->items[i].content);
    }
}

/* Of one of the tokens that fill in, by the file's metadata. -1: it says nothing, or nonsense. */
static int32_t infill_token(const nb_served *m, int which)
{
    const nb_tokenizer *t = m->model->tokenizer;
    for (int i = 0; i < 2; i++) {
        const nb_gguf_value *v = nb_gguf_find(m->model->gguf, nb_infill_keys[which][i]);
        int64_t id = v && (v->kind <= NB_GGUF_I32 || v->kind == NB_GGUF_U64 || v->kind == NB_GGUF_I64)
                         ? nb_gguf_elem_i64(v, 0)
                         : -1;
        if (id >= 0 && (uint64_t)id < nb_tokenizer_count(t))
            return (int32_t)id;
    }
    return -1;
}

/* The texts of those three tokens: by metadata, or by the names that families give them. */
static bool infill_marks(const nb_served *m, nb_str mark[3])
{
    const nb_tokenizer *t = m->model->tokenizer;
    int known = 0;
    for (int k = 0; k < 3; k++) {
        int32_t id = infill_token(m, k);
        mark[k] = id >= 0 ? nb_tokenizer_piece(t, id) : (nb_str){0};
        known += mark[k].n > 0;
    }
    for (int f = 0; f < NB_INFILL_FAMILIES && known < 3; f++) {
        known = 0;
        for (int k = 0; k < 3; k++) {
            mark[k] = nb_str_of(nb_infill_names[f][k]);
            known += nb_tokenizer_find(t, mark[k]) >= 0;
        }
    }
    return known == 3;
}

/* Without a template that knows .Suffix: by the vocabulary's own tokens. */
static nb_status fill_between(const nb_served *m, const nb_job_params *p, nb_job_prompt *out, nb_error *err)
{
    nb_str mark[3];
    if (!infill_marks(m, mark))
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s does not support insert: it has no tokens for text before and after",
                       nb_entry_text(m->entry));
    nb_buf_str(&out->text, mark[0]);
    nb_buf_str(&out->text, p->prompt);
    nb_buf_str(&out->text, mark[1]);
    nb_buf_str(&out->text, p->suffix);
    nb_buf_str(&out->text, mark[2]);
    return NB_OK;
}

static nb_status tokenize(const nb_served *m, const nb_job_params *p, nb_job_prompt *out, nb_error *err)
{
    const nb_tokenizer *t = m->model->tokenizer;
    nb_str text = nb_buf_view(&out->text);
    bool has_bos = m->model->bos.n && nb_str_starts(text, m->model->bos);
    unsigned flags = NB_ENCODE_PARSE_SPECIAL | (has_bos || p->context_count ? 0u : NB_ENCODE_ADD_SPECIAL);
    if (out->text.failed)
        return nb_fail_memory(err, "a prompt", text.n);
    out->ids.count = 0;
    for (size_t i = 0; i < p->context_count; i++)
        if (!nb_ids_add(&out->ids, p->context[i]))
            return nb_fail_memory(err, "a prompt", p->context_count * sizeof(int32_t));
    return nb_tokenizer_encode(t, text, flags, &out->ids, err);
}

static nb_status render_and_tokenize(nb_served *m, const nb_job_params *p, const nb_prompt_template *t, conversation *c,
                                     nb_job_prompt *out, nb_error *err)
{
    nb_buf_clear(&out->text);
    out->chats = !p->raw && !is_empty(t);
    if (p->suffix.n && !(t->is_go && t->traits.suffix)) {
        out->chats = false;
        NB_TRY(fill_between(m, p, out, err));
    } else if (p->raw) {
        nb_buf_str(&out->text, p->prompt);
    } else if (t->is_go && t->go) {
        NB_TRY(render_go(p, t, c, &out->text, err));
    } else if (t->jinja) {
        NB_TRY(render_jinja(m, p, t, c, &out->text, err));
    } else {
        render_plain(c, &out->text);
    }
    return tokenize(m, p, out, err);
}

/* ---- what does not fit ---- */

/* the oldest message that may go: not a system one, not the last */
static bool drop_oldest(conversation *c)
{
    for (size_t i = 0; i + 1 < c->count; i++)
        if (!is_system(&c->items[i])) {
            memmove(c->items + i, c->items + i + 1, (c->count - i - 1) * sizeof *c->items);
            memmove(c->chat + i, c->chat + i + 1, (c->count - i - 1) * sizeof *c->chat);
            c->count--;
            return true;
        }
    return false;
}

static void cut_ids(nb_ids *ids, size_t keep, size_t most)
{
    keep = nb_min_size(keep, most / 2);
    size_t gone = ids->count - most;
    memmove(ids->id + keep, ids->id + keep + gone, (ids->count - keep - gone) * sizeof *ids->id);
    ids->count = most;
}

static nb_status fit(nb_served *m, const nb_job_params *p, const nb_prompt_template *t, conversation *c,
                     nb_job_prompt *out, nb_error *err)
{
    size_t most = nb_served_context(m) - 1, whole = out->ids.count;
    if (whole <= most || p->overflow == NB_OVERFLOW_KEEP)
        return NB_OK;
    if (p->overflow == NB_OVERFLOW_ERROR)
        return nb_fail(err, NB_ERR_LIMIT, "the request has %zu tokens; the context of %s holds %zu, reply included",
                       whole, nb_entry_text(m->entry), most + 1);
    while (!p->is_prompt && out->ids.count > most && drop_oldest(c))
        NB_TRY(render_and_tokenize(m, p, t, c, out, err));
    if (out->ids.count > most)
        cut_ids(&out->ids, p->task.keep, most);
    out->truncated = whole - out->ids.count;
    return NB_OK;
}

/* ---- all of it ---- */

static nb_status make(nb_served *m, const nb_job_params *p, const nb_prompt_template *t, conversation *c,
                      nb_job_prompt *out, nb_error *err)
{
    if (!p->raw)
        NB_TRY(check_abilities(m, p, t, err));
    if (!p->raw && !(p->is_prompt && p->suffix.n)) {
        NB_TRY(gather(m, p, t, c, err));
        NB_TRY(fill_chat(c, t, err));
        take_begun(m, p, t, c);
    }
    NB_TRY(render_and_tokenize(m, p, t, c, out, err));
    NB_TRY(fit(m, p, t, c, out, err));
    out->format = t->format;
    out->thinking_open = out->chats && nb_reply_opened(&t->format, nb_buf_view(&out->text));
    return NB_OK;
}

nb_status nb_job_prompt_make(nb_served *m, const nb_job_params *p, nb_job_prompt *out, nb_error *err)
{
    const nb_prompt_template *t;
    nb_prompt_template *given = NULL;
    conversation c = {0};
    *out = (nb_job_prompt){0};
    if (p->has_template) {
        t = given = compile(p->go_template, true);
        if (!given)
            return nb_fail_memory(err, "a template", p->go_template.n);
    } else {
        NB_TRY(own_template(m, &t, err));
    }
    nb_status status = make(m, p, t, &c, out, err);
    nb_prompt_template_free(given);
    nb_arena_free(&c.arena);
    if (status != NB_OK)
        nb_job_prompt_free(out);
    return status;
}

void nb_job_prompt_free(nb_job_prompt *p)
{
    nb_buf_free(&p->text);
    nb_ids_free(&p->ids);
    *p = (nb_job_prompt){0};
}
