/* gotemplate.h - renders a conversation with the TEMPLATE of an Ollama Modelfile: Go's text/template with missingkey=zero,
 * Ollama's data and its functions json, currentDate, yesterdayDate, toTypeScriptType. A template that never mentions .Messages
 * is run once a turn with .System, .Prompt and .Response, the last time up to .Response. Beyond Ollama: what is defined by
 * {{define}} is known there too, and {{template "x"}} needs no argument. Complex numbers are refused. */
#ifndef NB_TEXT_GOTEMPLATE_H
#define NB_TEXT_GOTEMPLATE_H

#include "text/chat.h"

typedef struct nb_gotemplate_input {
    /* `extra` may hold thinking, images, tool_calls, tool_name and tool_call_id, as in Ollama's API; other keys are skipped.
     * Neighbours of one role become one message, except tools'. */
    const nb_chat_message *messages;
    size_t count;
    nb_str tools;          /* JSON array of tools, or empty */
    nb_str prompt, suffix; /* both not empty: text to fill between; messages and tools are not used then */
    bool think, think_set; /* .Think, .IsThinkSet: whether the caller said anything about thinking */
    nb_str think_level;    /* .ThinkLevel: "high", "medium", "low" or empty */
    int64_t now;           /* seconds since 1970 for currentDate, which is in local time; tests fix it */
} nb_gotemplate_input;

/* A compiled template; immutable, may be shared by threads. Errors name the line. */
typedef struct nb_gotemplate nb_gotemplate;
nb_status nb_gotemplate_compile(nb_str source, nb_gotemplate **out, nb_error *err);
void nb_gotemplate_free(nb_gotemplate *t);

/* Appends the rendered prompt to out. Limits on steps, depth and output make a hostile template an error. */
nb_status nb_gotemplate_render(const nb_gotemplate *t, const nb_gotemplate_input *input, nb_buf *out, nb_error *err);
/* The same with any JSON value as the template's data, as text/template alone would do. */
nb_status nb_gotemplate_render_data(const nb_gotemplate *t, nb_str json, int64_t now, nb_buf *out, nb_error *err);

/* Does it mention .NAME anywhere, in any case: "tools", "suffix", "messages", "system", "thinking", "response"? */
bool nb_gotemplate_uses(const nb_gotemplate *t, const char *name);
/* What a tool call begins with: the text in front of the first one that the template writes, or "{". */
nb_str nb_gotemplate_tool_prefix(const nb_gotemplate *t);
/* What thinking is written between, such as <think> and </think>; false when the template does not tell both. */
bool nb_gotemplate_thinking_tags(const nb_gotemplate *t, nb_str *open, nb_str *close);

#endif
