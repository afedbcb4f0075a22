/* reply.h - takes a model's reply apart while it streams: what it thinks, what it says, which tools it calls. How models write
 * these is told by their chat template, not by their name.
 *
 * Every byte of a reply leaves in one event's text, in order: said and thought as they are, a call with its END, tags and the
 * white space around them as MARKUP. Only what may still become a tag is held back, and a call until it is whole (or, when
 * arguments are streamed, until its name is known). What looks like a call and is none, for its JSON is broken or it names no
 * known tool, comes as content. Pieces may be cut anywhere; the events are the same up to where deltas are cut.
 *
 * The reply must hold the text of special tokens that mark something (nb_reply_markers). One thread a reply. */
#ifndef NB_TEXT_REPLY_H
#define NB_TEXT_REPLY_H

#include "base/mem.h"

/* ---- formats ---- */

typedef enum nb_think {
    NB_THINK_NONE,
#define NB_THINK_ROW(id, open, close) NB_THINK_##id,
#include "text/reply_syntax.def"
    NB_THINKS
} nb_think;

/* How a call is written: bits, for a model may know several. */
typedef enum nb_call_syntax {
#define NB_CALL_ROW(id, open, body, name_end, close) NB_CALL_##id,
#include "text/reply_syntax.def"
    NB_CALL_SYNTAXES
} nb_call_syntax;

enum { NB_REPLY_PREFIX = 48 };

typedef struct nb_reply_format {
    nb_think think;
    uint64_t calls;               /* 1 << nb_call_syntax */
    char prefix[NB_REPLY_PREFIX]; /* of NB_CALL_PREFIX: what stands before a call's JSON, terminated */
    bool harmony;                 /* channels: everything else is unused */
} nb_reply_format;

/* Of a chat template's source, Jinja or Go; what shows neither tools nor thinking has an empty format. */
nb_reply_format nb_reply_detect(nb_str template_source);
/* Of a parser's name in a Modelfile or configuration ("qwen3", "harmony"); false: unknown. */
bool nb_reply_named(nb_str name, nb_reply_format *out);
/* True when a rendered prompt ends inside a thinking block that the reply goes on with. */
bool nb_reply_opened(const nb_reply_format *format, nb_str prompt);
/* The texts that a reply may hold of special tokens: the detokenizer must not drop these. Returns their count, writes at most
 * `room`. */
size_t nb_reply_markers(const nb_reply_format *format, const char **out, size_t room);

/* ---- replies ---- */

typedef enum nb_reply_kind {
    NB_REPLY_CONTENT,   /* text: more of what it says */
    NB_REPLY_THINKING,  /* text: more of what it thinks */
    NB_REPLY_CALL,      /* a call begins: index, id, name */
    NB_REPLY_ARGUMENTS, /* more of the call's arguments in JSON: index, arguments; together one object */
    NB_REPLY_CALL_END,  /* text: all that the call was made of */
    NB_REPLY_CALL_VOID, /* streamed arguments broke off: index, text. The reply ended within them: text has what the call was
                         * made of. Or they are no JSON: what was written comes as content */
    NB_REPLY_MARKUP /* text: tags and white space that mean nothing else */
} nb_reply_kind;

typedef struct nb_reply_event {
    nb_reply_kind kind;
    nb_str text;     /* of the reply */
    int index;       /* of the call, from 0 */
    nb_str id, name; /* id: the model's own, else one made of nine letters and digits, which every template takes */
    nb_str arguments;
} nb_reply_event;

/* Texts are the parser's until the function returns. */
typedef void nb_reply_fn(void *user, const nb_reply_event *event);

typedef struct nb_reply_params {
    nb_reply_format format;
    nb_str tools;       /* the request's JSON array of tools (as nb_chat_input.tools); empty: no calls are looked for */
    bool keep_thinking; /* thinking stays where it is, in the content, tags and all */
    bool thinking_open; /* the prompt ends inside a thinking block: nb_reply_opened */
    bool
        stream_arguments; /* arguments in JSON are handed out as they come, before they are known to be whole; never what
                            * no JSON object begins with */
    uint64_t seed;        /* of ids */
    nb_reply_fn *event;
    void *user;
} nb_reply_params;

typedef struct nb_reply nb_reply;
nb_status nb_reply_new(const nb_reply_params *params, nb_reply **out, nb_error *err);
nb_status nb_reply_feed(nb_reply *r, nb_str piece, nb_error *err);
nb_status nb_reply_finish(nb_reply *r, nb_error *err); /* the reply is over: what was held back comes out */
int nb_reply_calls(const nb_reply *r);                 /* calls that ended */
void nb_reply_free(nb_reply *r);                       /* NULL is fine */

#endif
