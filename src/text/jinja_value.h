/* jinja_value.h - what a template computes with: Python's values, as far as templates can see them, and the
 * state of one rendering. Everything lives in the rendering's arena; errors are sticky: after the first one every
 * function returns at once and the caller need not look until it matters. One thread a rendering. */
#ifndef NB_TEXT_JINJA_VALUE_H
#define NB_TEXT_JINJA_VALUE_H

#include "base/mem.h"

/* ---- limits of one rendering ---- */
#define NB_JINJA_STEPS 2000000ull /* templates of the wild stay below 100000 in a conversation */
#define NB_JINJA_DEPTH 500 /* about half a megabyte of stack */
#define NB_JINJA_OUTPUT ((size_t)64 << 20)
#define NB_JINJA_MEMORY ((size_t)256 << 20)

typedef enum nb_jkind {
    NB_J_MISSING, /* an argument that was not given; never seen by templates */
    NB_J_UNDEFINED,
    NB_J_NONE,
    NB_J_BOOL,
    NB_J_INT,
    NB_J_FLOAT,
    NB_J_STR,
    NB_J_LIST,
    NB_J_TUPLE,
    NB_J_RANGE,
    NB_J_VIEW, /* dict.keys(), values(), items(): a copy */
    NB_J_ITER, /* what map, select, ... return: can be walked once */
    NB_J_DICT,
    NB_J_NAMESPACE,
    NB_J_OBJECT /* loop, macros, bound methods, cycler, joiner, functions */
} nb_jkind;

typedef struct nb_jlist nb_jlist;
typedef struct nb_jdict nb_jdict;
typedef struct nb_jobject nb_jobject;

typedef struct nb_jval {
    uint8_t kind;
    bool safe;  /* of a string: marked as safe HTML (Markup) */
    uint8_t of; /* of an undefined: the nb_jkind whose attribute was asked for, or 0 for a variable */
    union {
        bool b;
        int64_t i;
        double f;
        nb_str s; /* of an undefined: the name that was asked for */
        nb_jlist *list;
        nb_jdict *dict;
        nb_jobject *object;
    } u;
} nb_jval;

struct nb_jlist {
    nb_jval *items;
    size_t count, cap;
    size_t taken;              /* NB_J_ITER: items already walked */
    int64_t start, stop, step; /* NB_J_RANGE */
    const char *label;         /* NB_J_VIEW: "dict_keys"...; NB_J_ITER: what repr says */
};

typedef struct nb_jentry {
    nb_jval key, value; /* key.kind is NB_J_MISSING once removed */
    uint64_t hash;
} nb_jentry;

struct nb_jdict {
    nb_jentry *entries; /* in order of insertion */
    size_t count, cap;  /* entries used, removed ones included */
    size_t live;
    uint32_t *index; /* open addressing, entry + 1; NULL while the dict is small */
    size_t index_cap;
};

typedef struct nb_jkeyword {
    nb_str name;
    nb_jval value;
} nb_jkeyword;

typedef struct nb_jargs {
    nb_jval *pos;
    size_t count;
    nb_jkeyword *kw;
    size_t kw_count;
} nb_jargs;

typedef struct nb_jinja nb_jinja;
typedef nb_jval nb_jcall_fn(nb_jinja *j, nb_jobject *self, const nb_jargs *args);
typedef nb_jval nb_jattr_fn(nb_jinja *j, nb_jobject *self, nb_str name); /* NB_J_MISSING: no such attribute */

struct nb_jobject {
    const char *type; /* as Python's repr would name it */
    nb_str name;
    nb_jcall_fn *call; /* NULL: not callable */
    nb_jattr_fn *attr; /* NULL: no attributes */
    const void *data;  /* the owner's */
    nb_jval self;      /* bound methods: the object; others: the owner's */
    void *state;
};

struct nb_jframe;
struct nb_jinja {
    nb_arena arena;
    nb_error *err;
    nb_status status;
    uint64_t steps; /* left; each node costs one, each 32 bytes or items of bulk work one */
    int depth;
    uint32_t line; /* being evaluated, for messages */
    nb_buf *out;
    size_t out_limit;
    struct nb_jframe *frame;
    nb_jdict *globals;
    int64_t now;
};

/* ---- errors and limits ---- */
nb_jval nb_jfail(nb_jinja *j, nb_status code, const char *format, ...) NB_PRINTF(3, 4); /* returns undefined */
nb_jval nb_jfail_memory(nb_jinja *j);
static inline bool nb_jok(const nb_jinja *j) { return j->status == NB_OK; }
bool nb_jspend(nb_jinja *j, size_t units); /* false (and an error) once the steps are used up */
bool nb_jspend_bytes(nb_jinja *j, size_t bytes);
bool nb_jenter(nb_jinja *j); /* one level deeper; false (and an error) beyond the limit, then no leave */
static inline void nb_jleave(nb_jinja *j) { j->depth--; }

/* ---- making values ---- */
static inline nb_jval nb_jnone(void) { return (nb_jval){.kind = NB_J_NONE}; }
static inline nb_jval nb_jundefined(nb_str name) { return (nb_jval){.kind = NB_J_UNDEFINED, .u.s = name}; }
static inline nb_jval nb_jbool(bool b) { return (nb_jval){.kind = NB_J_BOOL, .u.b = b}; }
static inline nb_jval nb_jint(int64_t i) { return (nb_jval){.kind = NB_J_INT, .u.i = i}; }
static inline nb_jval nb_jfloat(double f) { return (nb_jval){.kind = NB_J_FLOAT, .u.f = f}; }
static inline nb_jval nb_jstr(nb_str s) { return (nb_jval){.kind = NB_J_STR, .u.s = s}; } /* s must outlive it */
nb_jval nb_jstr_copy(nb_jinja *j, nb_str s);
nb_jval nb_jstr_take(nb_jinja *j, nb_buf *b); /* copies b into the arena and frees it; reports b->failed */
nb_jval nb_jlist_new(nb_jinja *j, nb_jkind kind, size_t cap);
void nb_jlist_push(nb_jinja *j, nb_jval list, nb_jval item);
nb_jval nb_jpair(nb_jinja *j, nb_jval a, nb_jval b); /* a tuple */
nb_jval nb_jdict_new(nb_jinja *j);
nb_jval nb_jobject_new(nb_jinja *j, nb_jobject object);

/* ---- dicts ---- */
bool nb_jhash(nb_jinja *j, nb_jval key, uint64_t *hash); /* false and an error for an unhashable one */
nb_jentry *nb_jdict_find(nb_jinja *j, const nb_jdict *d, nb_jval key);
nb_jentry *nb_jdict_findz(nb_jinja *j, const nb_jdict *d, nb_str key);
void nb_jdict_set(nb_jinja *j, nb_jdict *d, nb_jval key, nb_jval value);
void nb_jdict_setz(nb_jinja *j, nb_jdict *d, const char *key, nb_jval value);
void nb_jdict_remove(nb_jdict *d, nb_jentry *entry);
/* The next live entry from *at, or NULL. */
nb_jentry *nb_jdict_next(const nb_jdict *d, size_t *at);

extern const char nb_jgroup_label[]; /* the label of groupby's pairs, which have .grouper and .list */

/* ---- asking ---- */
static inline bool nb_jis_list(nb_jval v) { return v.kind >= NB_J_LIST && v.kind <= NB_J_ITER; }
static inline bool nb_jis_number(nb_jval v) { return v.kind >= NB_J_BOOL && v.kind <= NB_J_FLOAT; }
static inline bool nb_jis_integral(nb_jval v) { return v.kind == NB_J_BOOL || v.kind == NB_J_INT; }
static inline int64_t nb_jint_of(nb_jval v) { return v.kind == NB_J_BOOL ? v.u.b : v.u.i; }
static inline double nb_jfloat_of(nb_jval v) { return v.kind == NB_J_FLOAT ? v.u.f : (double)nb_jint_of(v); }
bool nb_jtruth(nb_jval v);
bool nb_jequal(nb_jinja *j, nb_jval a, nb_jval b);
int nb_jcompare(nb_jinja *j, nb_jval a, nb_jval b); /* <0, 0, >0; 2 for NaN; an error for what has no order */
bool nb_jcontains(nb_jinja *j, nb_jval container, nb_jval item);
bool nb_jlength(nb_jval v, size_t *n); /* false: has no length */
bool nb_jiterable(nb_jval v);
/* The items of anything iterable as a list value of its own (strings: characters, dicts: keys); walks iterators to
 * their end. An error for what cannot be walked. */
nb_jval nb_jitems(nb_jinja *j, nb_jval v);
nb_str nb_jtype_name(nb_jval v); /* as Python says it */
/* The error for using an undefined value, as jinja2 words it. */
nb_jval nb_jfail_undefined(nb_jinja *j, nb_jval v);
/* v as an index or count; an error when it is no integer. */
int64_t nb_jneed_int(nb_jinja *j, nb_jval v, const char *what);
nb_str nb_jneed_str(nb_jinja *j, nb_jval v, const char *what);

#endif
