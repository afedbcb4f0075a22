/* template_probe.h - what a chat template can do, found out by rendering it with and without something and looking at what
 * shows up: no list of model names. Templates fail and surprise: what cannot be rendered counts as not supported. */
#ifndef NB_TEXT_TEMPLATE_PROBE_H
#define NB_TEXT_TEMPLATE_PROBE_H

#include "text/chat.h"

typedef struct nb_template_traits {
    bool system;             /* a system message shows up; else put it before the first user message */
    bool tools;              /* tools show up */
    bool tool_calls;         /* calls of earlier replies show up */
    bool parallel_calls;     /* several calls of one reply do */
    bool tool_results;       /* a message of the role "tool" does */
    bool arguments_text;     /* calls' arguments must be given as JSON text; else as an object */
    bool content_null;       /* a reply that is only calls needs content null, not "" */
    bool empty_tools;        /* without tools it wants an empty list, not none: give tools as "[]" */
    bool content_parts;      /* content must be a list of {"type": "text", "text": ...} */
    bool thinking;           /* replies may begin with thinking */
    bool thinking_switch;    /* the variable enable_thinking (or thinking) changes the prompt */
    bool opens_thinking;     /* prompts end inside a thinking block */
    bool suffix;             /* Go: fills in the middle */
    const char *switch_name; /* of that variable */
    const char *
        thinking_key; /* the field that carries an earlier reply's thinking: "reasoning_content", "thinking"; NULL: none */
} nb_template_traits;

/* Of a compiled Jinja template and its source. */
void nb_template_probe(const nb_template *t, nb_str source, nb_template_traits *out);
/* Compiles it first; a template that cannot be compiled has no traits. */
void nb_template_probe_source(nb_str source, nb_template_traits *out);
/* Of a Go template: by the fields that its actions mention. */
void nb_template_probe_go(nb_str source, nb_template_traits *out);

/* True when an action of a Go template mentions the field: {{ if .Tools }} has "Tools". */
bool nb_go_mentions(nb_str source, const char *field);

/* One earlier call, to be shown to a template. */
typedef struct nb_past_call {
    nb_str id, name;
    nb_str arguments; /* a JSON object; empty: none */
} nb_past_call;

/* Appends the JSON object that nb_chat_message.extra takes for an earlier message, in the form that the template wants: a
 * reply's tool_calls as OpenAI has them, their arguments as object or text, its thinking; content as a list of parts, or as
 * null where there are only calls. NB_ERR_ARGUMENT: arguments are no JSON object. */
nb_status nb_template_message_fields(const nb_template_traits *traits, nb_str content, const nb_past_call *calls,
                                     size_t count, nb_str thinking, nb_buf *out, nb_error *err);

#endif
