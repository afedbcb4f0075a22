/* gotemplate_value.h - what a Go template computes with: Go's values, as far as templates can see them, and the state of one
 * rendering. Values are immutable and live in the rendering's arena or the caller's memory; errors are sticky: after the
 * first one every function returns at once and the caller need not look until it matters. One thread a rendering. */
#ifndef NB_TEXT_GOTEMPLATE_VALUE_H
#define NB_TEXT_GOTEMPLATE_VALUE_H

#include "base/mem.h"

/* ---- limits of one rendering ---- */
#define NB_GO_STEPS 1000000ull /* templates of the wild stay below 50000 in a conversation */
#define NB_GO_DEPTH 500      /* about half a megabyte of stack */
#define NB_GO_CALL_STEPS 4   /* what calling a function costs, beside its work */
#define NB_GO_FLOAT_STEPS 16 /* what printing a float costs */
#define NB_GO_OUTPUT ((size_t)16 << 20)
#define NB_GO_MEMORY ((size_t)128 << 20)

typedef enum nb_go_kind {
    NB_GO_INVALID,   /* no value: nil, or what a missing key became on its way through a pipeline */
    NB_GO_INTERFACE, /* of a type: holds anything; of a value: a nil in a list, map or field */
    NB_GO_BOOL,
    NB_GO_INT,
    NB_GO_UINT8, /* a byte of a string */
    NB_GO_FLOAT,
    NB_GO_STRING,
    NB_GO_SLICE,
    NB_GO_MAP, /* keys are strings */
    NB_GO_STRUCT,
    NB_GO_POINTER
} nb_go_kind;

/* what Ollama's types can do that their kind does not say */
typedef enum nb_go_trait {
    NB_GO_PLAIN,
    NB_GO_JSON_TEXT,     /* prints as JSON (a String method) */
    NB_GO_PROPERTY_TYPE, /* a list of names that prints as, and in JSON is, the name when there is one */
    NB_GO_PROPERTY,      /* has the method ToTypeScriptType */
    NB_GO_ORDERED        /* a struct that templates cannot look into: a map, in JSON in the order it came */
} nb_go_trait;

typedef struct nb_go_type nb_go_type;

typedef struct nb_go_field {
    const char *name;
    const char *json; /* its key in JSON that is written */
    const char *key;  /* its key in JSON that is read */
    const nb_go_type *type;
    bool omit_empty;
} nb_go_field;

struct nb_go_type {
    nb_go_kind kind;
    nb_go_trait trait;
    const char *name;       /* as %T prints it */
    const nb_go_type *elem; /* of slices, maps, pointers */
    const nb_go_field *fields;
    size_t field_count;
};

typedef struct nb_go_list nb_go_list;
typedef struct nb_go_map nb_go_map;

typedef struct nb_go_value {
    const nb_go_type *type; /* NULL: no value */
    union {
        bool b;
        int64_t i;
        double f;
        nb_str s;
        const nb_go_list *list; /* NULL: a nil slice */
        const nb_go_map *map;   /* NULL: a nil map */
        const struct nb_go_value *fields;
        const struct nb_go_value *to; /* NULL: a nil pointer */
    } u;
} nb_go_value;

struct nb_go_list {
    const nb_go_value *items;
    size_t count;
};

typedef struct nb_go_entry {
    nb_str key;
    nb_go_value value;
} nb_go_entry;

struct nb_go_map {
    const nb_go_entry *entries; /* sorted by the bytes of their keys; NB_GO_ORDERED: as they came */
    size_t count;
};

extern const nb_go_type nb_go_interface_type, nb_go_bool_type, nb_go_int_type, nb_go_uint8_type, nb_go_float_type,
    nb_go_string_type, nb_go_any_list_type, nb_go_any_map_type;

typedef struct nb_go_variable {
    nb_str name;
    nb_go_value value;
} nb_go_variable;

struct nb_go_node;
struct nb_gotemplate;

typedef struct nb_go {
    nb_arena arena;
    nb_error *err;
    nb_status status;
    uint64_t steps; /* left; a node costs one, so do 32 bytes of bulk work */
    int depth;
    const struct nb_go_node *node; /* being evaluated, for messages */
    const struct nb_gotemplate *template;
    nb_buf *out;
    size_t out_limit; /* of out->len */
    nb_go_variable *variables;
    size_t variable_count, variable_cap;
    size_t frame; /* the first variable that is seen: templates do not see their caller's */
    int64_t now;
} nb_go;

/* ---- errors and limits ---- */
nb_go_value nb_go_fail(nb_go *g, nb_status code, const char *format, ...) NB_PRINTF(3, 4); /* returns no value */
nb_go_value nb_go_fail_memory(nb_go *g);
static inline bool nb_go_ok(const nb_go *g) { return g->status == NB_OK; }
bool nb_go_spend(nb_go *g, size_t units); /* false (and an error) once the steps are used up */
bool nb_go_enter(nb_go *g);               /* one level deeper; false (and an error) beyond the limit, then no leave */
static inline void nb_go_leave(nb_go *g) { g->depth--; }
/* Appends to b within the limits of the rendering's output. */
void nb_go_write(nb_go *g, nb_buf *b, nb_str s);
void nb_go_write_z(nb_go *g, nb_buf *b, const char *z);

/* ---- making values ---- */
static inline nb_go_value nb_go_none(void) { return (nb_go_value){0}; }
static inline nb_go_value nb_go_bool(bool b) { return (nb_go_value){.type = &nb_go_bool_type, .u.b = b}; }
static inline nb_go_value nb_go_int(int64_t i) { return (nb_go_value){.type = &nb_go_int_type, .u.i = i}; }
static inline nb_go_value nb_go_float(double f) { return (nb_go_value){.type = &nb_go_float_type, .u.f = f}; }
static inline nb_go_value nb_go_str(nb_str s) { return (nb_go_value){.type = &nb_go_string_type, .u.s = s}; }
nb_go_value nb_go_str_take(nb_go *g, nb_buf *b);            /* copies b into the arena and frees it */
nb_go_value nb_go_zero(const nb_go_type *type);             /* of a struct: its fields are missing */
nb_go_value nb_go_struct(nb_go *g, const nb_go_type *type); /* all fields zero */
nb_go_value *nb_go_fields(nb_go_value v);                   /* of a struct that is being made */
void *nb_go_memory(nb_go *g, size_t count, size_t size);    /* from the arena; NULL and an error when it is used up */
nb_go_value nb_go_map_of(nb_go *g, const nb_go_type *type, nb_go_entry *entries, size_t count); /* sorts the entries */

/* ---- asking ---- */
static inline nb_go_kind nb_go_kind_of(nb_go_value v) { return v.type ? v.type->kind : NB_GO_INVALID; }
static inline bool nb_go_is_integer(nb_go_value v)
{
    return nb_go_kind_of(v) == NB_GO_INT || nb_go_kind_of(v) == NB_GO_UINT8;
}
const char *nb_go_type_name(nb_go_value v); /* "<nil>" for no value */
bool nb_go_has_length(nb_go_value v);       /* strings, slices, maps */
size_t nb_go_length(nb_go_value v);
nb_go_value nb_go_item(nb_go_value v, size_t i); /* of a string: a byte */
/* The value of a key; false when there is none. */
bool nb_go_find(nb_go_value map, nb_str key, nb_go_value *out);
/* What pointers point to in the end; *nil when there is nothing (a nil pointer, or a nil in an interface). */
nb_go_value nb_go_indirect(nb_go_value v, bool *nil);
static inline nb_go_value nb_go_unwrap(nb_go_value v) /* a nil in an interface is no value */
{
    return nb_go_kind_of(v) == NB_GO_INTERFACE ? nb_go_none() : v;
}
bool nb_go_truth(nb_go_value v);
bool nb_go_is_nil(nb_go_value v);
/* The text of a value that has a String method; false when it has none. */
bool nb_go_text_of(nb_go *g, nb_go_value v, nb_str *text);
nb_str nb_go_typescript(nb_go *g, nb_go_value property);

#endif
