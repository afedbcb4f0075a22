/* reply_internal.h - the parser of replies from the inside. `text` is what has not left yet, from where the undecided begins;
 * offsets count from there. Nothing leaves while a call is read, so that it can come as content after all. */
#ifndef NB_TEXT_REPLY_INTERNAL_H
#define NB_TEXT_REPLY_INTERNAL_H

#include "base/json_read.h"
#include "text/reply.h"

/* ---- syntax ---- */

typedef enum nb_call_body { NB_BODY_JSON, NB_BODY_NAMED, NB_BODY_ANY } nb_call_body;
typedef struct nb_call_row {
    nb_str open, name_end, close;
    nb_call_body body;
} nb_call_row;
typedef struct nb_tag_pair {
    nb_str open, close;
} nb_tag_pair;
extern const nb_call_row nb_call_rows[NB_CALL_SYNTAXES];
extern const nb_tag_pair nb_think_rows[NB_THINKS], nb_section_rows[], nb_said_rows[];
extern const size_t nb_section_count, nb_said_count;

/* ---- the request's tools ---- */

typedef struct nb_tool_param {
    nb_str name;
    bool text; /* its schema wants a string */
} nb_tool_param;
typedef struct nb_tool {
    nb_str name;
    nb_tool_param *params;
    size_t param_count;
} nb_tool;
typedef struct nb_tools {
    nb_tool *items;
    size_t count;
} nb_tools;

nb_status nb_tools_read(nb_str json, nb_arena *arena, nb_tools *out, nb_error *err);
const nb_tool *nb_tools_find(const nb_tools *t, nb_str name); /* NULL: unknown */

/* ---- one call, understood ---- */

typedef struct nb_call {
    const nb_tool *tool;
    nb_str id, arguments; /* arguments: a JSON object; both live in the arena or in the text */
} nb_call;

/* A call as a JSON object, in any of the usual keys; false: it is none, or names no known tool. */
bool nb_call_from_object(const nb_tools *tools, nb_str json, nb_arena *arena, nb_call *out);
bool nb_json_is_object(nb_str json, nb_arena *arena);
/* Arguments as <parameter=NAME>, <parameter name="NAME"> or <arg_key>, <arg_value>, appended as JSON. */
bool nb_call_from_tags(const nb_tool *tool, nb_str text, nb_buf *json);
/* "a=1, b='x'" as a JSON object. */
bool nb_call_from_python(nb_str text, nb_buf *json);

/* ---- arguments that are not whole yet ---- */

typedef struct nb_json_prefix { /* zero: nothing read */
    uint8_t state, part, hex;
    bool is_key;
    int depth;
    bool list[NB_JSON_DEPTH];
    const char *word; /* what is left of true, false or null */
} nb_json_prefix;

/* As much of what comes next as a JSON object may have there; after the first byte that it cannot have, nothing. */
nb_str nb_json_prefix_of(nb_json_prefix *p, nb_str more);

/* ---- the parser ---- */

typedef enum nb_match { NB_NO, NB_MORE, NB_YES } nb_match; /* MORE: undecided until more text comes */
typedef enum nb_step { NB_WAIT, NB_ON } nb_step;

typedef enum nb_reply_state {
    NB_AT_START, /* thinking may begin */
    NB_AT_THINKING,
    NB_AT_SAID,
    NB_AT_SECTION, /* behind the opening of a section of calls */
    NB_AT_CALL,
    NB_AFTER_CALL,
    NB_AT_HARMONY
} nb_reply_state;

typedef enum nb_call_phase {
    NB_CALL_OPEN, /* behind the opening tag */
    NB_CALL_LIST, /* behind '[' or ',' */
    NB_CALL_NAME,
    NB_CALL_ARGS, /* behind the name */
    NB_CALL_JSON_OBJECT,
    NB_CALL_XML,
    NB_CALL_PY
} nb_call_phase;

typedef struct nb_call_reading {
    const nb_call_row *row;
    nb_call_phase phase;
    size_t open;              /* bytes that come as content if this is no call */
    size_t at;                /* read up to here */
    size_t begin;             /* of the object, name or arguments */
    bool list, fenced, whole; /* in [ ]; in ``` ```; the object is the whole call, not its arguments */
    nb_str name_end;
    const nb_tool *tool; /* of NAMED */
    size_t id_at, id_n;
    /* scanning an object */
    int depth;
    bool in_string, escaped, wants_key;
    size_t string_at, key_at, key_n, args_at, args_end;
    const nb_tool *seen; /* the tool that the object named so far */
    bool announced;
    size_t sent; /* arguments handed out up to here */
    nb_json_prefix prefix;
} nb_call_reading;

typedef struct nb_harmony {
    bool body, call, thinking;
    const nb_tool *tool;
    size_t at, body_at;
    bool announced;
    size_t sent;
    nb_json_prefix prefix;
} nb_harmony;

struct nb_reply {
    nb_arena arena;   /* of the tools */
    nb_arena scratch; /* of one call */
    nb_reply_format format;
    nb_call_row prefix;
    nb_tools tools;
    nb_reply_fn *event;
    void *user;
    bool stream, over, failed;
    uint64_t seed;
    int index, ended;
    char id[10];
    nb_buf hold, built;
    size_t head; /* in hold, of the undecided text */
    const char *text;
    size_t size;
    nb_reply_state state;
    bool fresh;     /* nothing said yet: the reply may be a bare call */
    bool eating;    /* white space at the beginning of what is thought is markup */
    char last;      /* the byte before text */
    size_t scanned; /* no tag begins before it */
    size_t section; /* bytes of a section's opening */
    nb_call_reading call;
    nb_harmony harmony;
};

static inline bool nb_reply_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

nb_match nb_reply_starts(const nb_reply *r, size_t at, nb_str s);
/* Skips white space from *at; false: it goes to the end of the text, and more may come. */
bool nb_reply_skip_space(const nb_reply *r, size_t *at);
/* Where s begins at or after `from`; SIZE_MAX when nowhere, *part then is where a beginning of it may be, or the size. */
size_t nb_reply_search(const nb_reply *r, size_t from, nb_str s, size_t *part);

void nb_reply_leave(nb_reply *r, nb_reply_kind kind, size_t n); /* the first n bytes leave */
void nb_reply_announce(nb_reply *r, const nb_tool *tool, nb_str id);
void nb_reply_arguments(nb_reply *r, nb_str json);
void nb_reply_end_call(nb_reply *r, size_t n);  /* the first n bytes were the call */
void nb_reply_void_call(nb_reply *r, size_t n); /* the first n bytes leave with it */

void nb_reply_begin_call(nb_reply *r, const nb_call_row *row, size_t open, size_t at);
nb_step nb_reply_step_call(nb_reply *r);
nb_step nb_reply_step_after(nb_reply *r);
nb_step nb_reply_step_harmony(nb_reply *r);

#endif
