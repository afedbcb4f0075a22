/* chat.h - renders a conversation with a model's chat template (Jinja, as Hugging Face uses it). */
#ifndef NB_TEXT_CHAT_H
#define NB_TEXT_CHAT_H

#include "base/mem.h"

typedef struct nb_chat_message {
    nb_str role; /* "system", "user", "assistant", "tool" */
    nb_str content;
    nb_str extra; /* JSON object of further fields (tool_calls, name, ...) or empty */
} nb_chat_message;

typedef struct nb_chat_input {
    const nb_chat_message *messages;
    size_t count;
    nb_str tools;     /* JSON array of tools, or empty */
    nb_str variables; /* JSON object of further template variables, or empty */
    nb_str bos_token, eos_token;
    bool add_generation_prompt;
    int64_t now; /* seconds since 1970 (UTC) for strftime_now; tests fix it */
} nb_chat_input;

/* A compiled template; immutable, may be shared by threads. */
typedef struct nb_template nb_template;
nb_status nb_template_compile(nb_str source, nb_template **out, nb_error *err);
void nb_template_free(nb_template *t);
/* Appends the rendered prompt to out. Limits on steps, depth and output make a hostile template an error. */
nb_status nb_template_render(const nb_template *t, const nb_chat_input *input, nb_buf *out, nb_error *err);

#endif
