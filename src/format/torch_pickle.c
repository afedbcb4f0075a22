#include "format/torch_pickle.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    MAX_STACK = 1 << 17,
    MAX_MEMO = 1 << 18,
    MAX_NAME = 256 /* of a module or what it holds */
};

typedef enum global_kind {
    IS_DTYPE,
    IS_STORAGE,
    IS_BYTES, /* the storage without a type */
    IS_DICT,
    IS_TENSOR_V1,
    IS_TENSOR_V2,
    IS_TENSOR_V3,
    IS_PARAMETER,
    IS_SIZE,
    IS_NOTHING /* called or not, what it gives is not looked at */
} global_kind;

typedef struct nb_pickle_global {
    const char *module, *name;
    global_kind kind;
    nb_dtype dtype;
} global;

/* All names that are known. */
static const global globals[] = {
    {"collections", "OrderedDict", IS_DICT, 0},
    {"torch._utils", "_rebuild_tensor", IS_TENSOR_V1, 0},
    {"torch._utils", "_rebuild_tensor_v2", IS_TENSOR_V2, 0},
    {"torch._utils", "_rebuild_tensor_v3", IS_TENSOR_V3, 0},
    {"torch._utils", "_rebuild_parameter", IS_PARAMETER, 0},
    {"torch", "BoolStorage", IS_STORAGE, NB_DTYPE_BOOL},
    {"torch", "ByteStorage", IS_STORAGE, NB_DTYPE_U8},
    {"torch", "CharStorage", IS_STORAGE, NB_DTYPE_I8},
    {"torch", "ShortStorage", IS_STORAGE, NB_DTYPE_I16},
    {"torch", "IntStorage", IS_STORAGE, NB_DTYPE_I32},
    {"torch", "LongStorage", IS_STORAGE, NB_DTYPE_I64},
    {"torch", "HalfStorage", IS_STORAGE, NB_DTYPE_F16},
    {"torch", "BFloat16Storage", IS_STORAGE, NB_DTYPE_BF16},
    {"torch", "FloatStorage", IS_STORAGE, NB_DTYPE_F32},
    {"torch", "DoubleStorage", IS_STORAGE, NB_DTYPE_F64},
    {"torch.storage", "UntypedStorage", IS_BYTES, 0},
    {"torch", "UntypedStorage", IS_BYTES, 0},
    {"torch", "bool", IS_DTYPE, NB_DTYPE_BOOL},
    {"torch", "uint8", IS_DTYPE, NB_DTYPE_U8},
    {"torch", "int8", IS_DTYPE, NB_DTYPE_I8},
    {"torch", "uint16", IS_DTYPE, NB_DTYPE_U16},
    {"torch", "int16", IS_DTYPE, NB_DTYPE_I16},
    {"torch", "uint32", IS_DTYPE, NB_DTYPE_U32},
    {"torch", "int32", IS_DTYPE, NB_DTYPE_I32},
    {"torch", "uint64", IS_DTYPE, NB_DTYPE_U64},
    {"torch", "int64", IS_DTYPE, NB_DTYPE_I64},
    {"torch", "float8_e4m3fn", IS_DTYPE, NB_DTYPE_F8_E4M3},
    {"torch", "float8_e5m2", IS_DTYPE, NB_DTYPE_F8_E5M2},
    {"torch", "float8_e8m0fnu", IS_DTYPE, NB_DTYPE_F8_E8M0},
    {"torch", "float16", IS_DTYPE, NB_DTYPE_F16},
    {"torch", "bfloat16", IS_DTYPE, NB_DTYPE_BF16},
    {"torch", "float32", IS_DTYPE, NB_DTYPE_F32},
    {"torch", "float64", IS_DTYPE, NB_DTYPE_F64},
    {"torch", "Size", IS_SIZE, 0},
    {"torch", "device", IS_NOTHING, 0},
    {"__builtin__", "set", IS_NOTHING, 0},
    {"builtins", "set", IS_NOTHING, 0},
    {"builtins", "frozenset", IS_NOTHING, 0},
};

typedef nb_pickle_value value;

typedef struct machine {
    const char *path;
    nb_str code;
    uint64_t base;
    size_t at, op; /* of the next byte, of the opcode that runs */
    nb_arena *arena;
    nb_error *err;
    nb_status status;
    value *stack, *memo;
    size_t depth, stack_capacity, memo_count, memo_capacity;
    bool stopped;
} machine;

#define FAIL(m, code, ...) fail((m), (code), __VA_ARGS__)
static void fail(machine *m, nb_status code, const char *format, ...) NB_PRINTF(3, 4);

static void fail(machine *m, nb_status code, const char *format, ...)
{
    char what[400];
    va_list args;
    if (m->status != NB_OK)
        return;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    m->status = nb_fail_at(m->path, m->base + m->op, m->err, code, "%s", what);
}

static void too_large(machine *m)
{
    if (m->arena->limit && m->arena->used > m->arena->limit / 4)
        FAIL(m, NB_ERR_LIMIT, "the pickle makes more than %zu MiB of objects" NB_CHECKPOINT_WRITER,
             m->arena->limit >> 20);
    else if (m->status == NB_OK)
        m->status = nb_fail_memory(m->err, m->path, m->arena->used);
}

/* ---- bytes of the pickle ---- */

static const unsigned char *take(machine *m, uint64_t n)
{
    if (m->status != NB_OK)
        return NULL;
    if (n > m->code.n - m->at) {
        FAIL(m, NB_ERR_FORMAT, "the pickle ends within this opcode%s", NB_CHECKPOINT_DAMAGED);
        return NULL;
    }
    m->at += (size_t)n;
    return (const unsigned char *)m->code.p + m->at - n;
}

static uint64_t take_uint(machine *m, size_t bytes)
{
    uint64_t x = 0;
    const unsigned char *p = take(m, bytes);
    if (p)
        memcpy(&x, p, bytes);
    return x;
}

static nb_str take_str(machine *m, size_t length_bytes)
{
    uint64_t n = take_uint(m, length_bytes);
    const unsigned char *p = take(m, n);
    return p ? (nb_str){(const char *)p, (size_t)n} : (nb_str){"", 0};
}

static nb_str take_line(machine *m)
{
    const char *begin = m->code.p + m->at, *end = memchr(begin, '\n', nb_min_size(m->code.n - m->at, MAX_NAME));
    if (!end) {
        FAIL(m, NB_ERR_FORMAT, "a name without an end%s", NB_CHECKPOINT_DAMAGED);
        return (nb_str){"", 0};
    }
    m->at += (size_t)(end - begin) + 1;
    return (nb_str){begin, (size_t)(end - begin)};
}

/* ---- the stack ---- */

static bool grow(machine *m, value **array, size_t *capacity, size_t needed)
{
    if (needed <= *capacity)
        return true;
    size_t n = *capacity ? *capacity : 256;
    while (n < needed)
        n *= 2;
    value *grown = realloc(*array, n * sizeof *grown);
    if (!grown) {
        if (m->status == NB_OK)
            m->status = nb_fail_memory(m->err, m->path, n * sizeof *grown);
        return false;
    }
    *array = grown;
    *capacity = n;
    return true;
}

static void push(machine *m, value v)
{
    if (m->depth == MAX_STACK)
        FAIL(m, NB_ERR_LIMIT, "the pickle stacks more than %d values" NB_CHECKPOINT_WRITER, MAX_STACK);
    else if (m->status == NB_OK && grow(m, &m->stack, &m->stack_capacity, m->depth + 1))
        m->stack[m->depth++] = v;
}

static void push_kind(machine *m, nb_pickle_kind kind) { push(m, (value){.kind = kind}); }
static void push_int(machine *m, int64_t i) { push(m, (value){.kind = NB_PICKLE_INT, .i = i}); }
static void push_str(machine *m, nb_str s) { push(m, (value){.kind = NB_PICKLE_STR, .s = s}); }

/* the top value; MARK after a failure, or when there is none above the last mark */
static value pop(machine *m)
{
    if (m->status == NB_OK && (m->depth == 0 || m->stack[m->depth - 1].kind == NB_PICKLE_MARK))
        FAIL(m, NB_ERR_FORMAT, "this opcode finds no value on the stack%s", NB_CHECKPOINT_DAMAGED);
    return m->status == NB_OK ? m->stack[--m->depth] : (value){.kind = NB_PICKLE_MARK};
}

/* Takes everything above the last mark, and the mark; *count values from the result on, which is good until the next push. */
static value *pop_to_mark(machine *m, size_t *count)
{
    size_t end = m->depth;
    *count = 0;
    while (m->status == NB_OK && m->depth > 0)
        if (m->stack[--m->depth].kind == NB_PICKLE_MARK) {
            *count = end - m->depth - 1;
            return &m->stack[m->depth + 1];
        }
    FAIL(m, NB_ERR_FORMAT, "this opcode finds no mark on the stack%s", NB_CHECKPOINT_DAMAGED);
    return m->stack;
}

/* ---- containers ---- */

static void append(machine *m, nb_pickle_items *to, const value *from, size_t count)
{
    if (m->status != NB_OK || count == 0)
        return;
    if (count > to->capacity - to->count) {
        size_t capacity = nb_max_size(to->count + count, to->capacity * 2);
        value *grown = NB_ARRAY(m->arena, value, capacity);
        if (!grown) {
            too_large(m);
            return;
        }
        if (to->count)
            memcpy(grown, to->at, to->count * sizeof *grown);
        to->at = grown;
        to->capacity = capacity;
    }
    memcpy(to->at + to->count, from, count * sizeof *from);
    to->count += count;
}

static void push_items(machine *m, nb_pickle_kind kind, const value *from, size_t count)
{
    nb_pickle_items *items = m->status == NB_OK ? NB_NEW(m->arena, nb_pickle_items) : NULL;
    if (!items) {
        too_large(m);
        return;
    }
    append(m, items, from, count); /* before the stack can move */
    push(m, (value){.kind = kind, .items = items});
}

static void tuple_of(machine *m, size_t n)
{
    value v[3];
    for (size_t i = n; i-- > 0;)
        v[i] = pop(m);
    push_items(m, NB_PICKLE_TUPLE, v, n);
}

static void add_to(machine *m, nb_pickle_kind kind, const value *from, size_t count)
{
    if (m->status == NB_OK && kind == NB_PICKLE_DICT && count % 2)
        FAIL(m, NB_ERR_FORMAT, "a dictionary gets a key without a value%s", NB_CHECKPOINT_DAMAGED);
    if (m->status == NB_OK &&
        (m->depth == 0 || (m->stack[m->depth - 1].kind != kind && m->stack[m->depth - 1].kind != NB_PICKLE_OTHER)))
        FAIL(m, NB_ERR_FORMAT, "this opcode finds no %s on the stack%s", kind == NB_PICKLE_DICT ? "dictionary" : "list",
             NB_CHECKPOINT_DAMAGED);
    if (m->status == NB_OK && m->stack[m->depth - 1].kind == kind)
        append(m, m->stack[m->depth - 1].items, from, count);
}

static void add_one(machine *m, nb_pickle_kind kind, size_t n)
{
    value v[2];
    for (size_t i = n; i-- > 0;)
        v[i] = pop(m);
    add_to(m, kind, v, n);
}

static void add_many(machine *m, nb_pickle_kind kind)
{
    size_t n;
    value *v = pop_to_mark(m, &n);
    add_to(m, kind, v, n);
}

/* ---- memo ---- */

static void memo_put(machine *m, uint64_t i)
{
    if (m->status == NB_OK && (m->depth == 0 || m->stack[m->depth - 1].kind == NB_PICKLE_MARK))
        FAIL(m, NB_ERR_FORMAT, "this opcode finds no value on the stack%s", NB_CHECKPOINT_DAMAGED);
    if (i >= MAX_MEMO)
        FAIL(m, NB_ERR_LIMIT, "the pickle remembers more than %d values" NB_CHECKPOINT_WRITER, MAX_MEMO);
    if (m->status != NB_OK || !grow(m, &m->memo, &m->memo_capacity, (size_t)i + 1))
        return;
    for (; m->memo_count <= i; m->memo_count++)
        m->memo[m->memo_count] = (value){.kind = NB_PICKLE_MARK};
    m->memo[i] = m->stack[m->depth - 1];
}

static void memo_get(machine *m, uint64_t i)
{
    if (i >= m->memo_count || m->memo[i].kind == NB_PICKLE_MARK)
        FAIL(m, NB_ERR_FORMAT, "the pickle wants value %llu back, which it did not keep%s", (unsigned long long)i,
             NB_CHECKPOINT_DAMAGED);
    else
        push(m, m->memo[i]);
}

/* ---- names ---- */

static int printable(nb_str s)
{
    size_t n = 0;
    while (n < s.n && n < 100 && s.p[n] > 0x20 && s.p[n] < 0x7f)
        n++;
    return (int)n;
}

static void push_global(machine *m, nb_str module, nb_str name)
{
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (nb_str_eqz(module, globals[i].module) && nb_str_eqz(name, globals[i].name)) {
            push(m, (value){.kind = NB_PICKLE_GLOBAL, .global = &globals[i]});
            return;
        }
    FAIL(m, NB_ERR_UNSUPPORTED,
         "the pickle names '%.*s.%.*s', which rebuilds no tensor: nibble refuses to run it. Do not load this file with "
         "torch "
         "either unless you trust it; get the model as safetensors",
         printable(module), module.p, printable(name), name.p);
}

static void stack_global(machine *m)
{
    value name = pop(m), module = pop(m);
    if (m->status == NB_OK && (name.kind != NB_PICKLE_STR || module.kind != NB_PICKLE_STR))
        FAIL(m, NB_ERR_FORMAT, "a name that is not two strings%s", NB_CHECKPOINT_DAMAGED);
    if (m->status == NB_OK)
        push_global(m, module.s, name.s);
}

/* ---- storages and tensors ---- */

static bool is_global(value v, global_kind kind) { return v.kind == NB_PICKLE_GLOBAL && v.global->kind == kind; }

/* ("storage", TYPE, "KEY", "DEVICE", values) */
static void persistent(machine *m)
{
    value id = pop(m);
    const value *v = id.kind == NB_PICKLE_TUPLE && id.items->count == 5 ? id.items->at : NULL;
    bool known = v && v[0].kind == NB_PICKLE_STR && nb_str_eqz(v[0].s, "storage") && v[2].kind == NB_PICKLE_STR &&
                 v[4].kind == NB_PICKLE_INT && v[4].i >= 0 &&
                 (is_global(v[1], IS_STORAGE) || is_global(v[1], IS_BYTES));
    if (m->status != NB_OK)
        return;
    if (!known) {
        FAIL(m, NB_ERR_FORMAT, "the pickle refers to something that is not a tensor's storage%s", NB_CHECKPOINT_WRITER);
        return;
    }
    nb_pickle_storage *s = NB_NEW(m->arena, nb_pickle_storage);
    if (!s) {
        too_large(m);
        return;
    }
    s->key = v[2].s;
    s->typed = v[1].global->kind == IS_STORAGE;
    s->dtype = s->typed ? v[1].global->dtype : NB_DTYPE_U8;
    s->values = (uint64_t)v[4].i;
    push(m, (value){.kind = NB_PICKLE_STORAGE, .storage = s});
}

/* a tuple of numbers that are not negative, into at most NB_CHECKPOINT_DIMS places */
static bool sizes(value v, uint64_t *out, size_t *n)
{
    if (v.kind != NB_PICKLE_TUPLE || v.items->count > NB_CHECKPOINT_DIMS)
        return false;
    *n = v.items->count;
    for (size_t i = 0; i < *n; i++) {
        if (v.items->at[i].kind != NB_PICKLE_INT || v.items->at[i].i < 0)
            return false;
        out[i] = (uint64_t)v.items->at[i].i;
    }
    return true;
}

/* The last value that the view reaches lies within the storage; a view that repeats values stays small. */
static void check_bounds(machine *m, const nb_pickle_tensor *t)
{
    enum { REPEATED = 1 << 20 };
    uint64_t room = t->storage->values * nb_dtype_bytes(t->storage->dtype) / nb_dtype_bytes(t->dtype);
    uint64_t last = t->offset, values = 1;
    bool fits = t->storage->values < INT64_MAX / 8, empty = false;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        uint64_t step = 0;
        empty = empty || t->dims[i] == 0;
        fits = fits && !__builtin_mul_overflow(t->dims[i] ? t->dims[i] - 1 : 0, t->stride[i], &step) &&
               !__builtin_add_overflow(last, step, &last) &&
               !__builtin_mul_overflow(values, t->dims[i] ? t->dims[i] : 1, &values) && values < INT64_MAX / 8;
    }
    if (!fits || t->offset > room || (!empty && last >= room))
        FAIL(m, NB_ERR_FORMAT, "a tensor reaches past its storage of %llu values%s", (unsigned long long)room,
             NB_CHECKPOINT_DAMAGED);
    else if (!empty && values > room && values > REPEATED)
        FAIL(m, NB_ERR_LIMIT, "a tensor repeats %llu values %llu times" NB_CHECKPOINT_WRITER, (unsigned long long)room,
             (unsigned long long)(values / room));
}

/* (storage, offset, size, stride, requires_grad, hooks[, metadata]); v3 has the dtype after the hooks, v1 ends with stride */
static void rebuild_tensor(machine *m, global_kind kind, const nb_pickle_items *args)
{
    size_t least = kind == IS_TENSOR_V1 ? 4 : kind == IS_TENSOR_V2 ? 6 : 7, dims = 0, strides = 0;
    const value *v = args->at;
    nb_pickle_tensor *t = NB_NEW(m->arena, nb_pickle_tensor);
    if (!t) {
        too_large(m);
        return;
    }
    if (args->count < least || args->count > least + 1 || v[0].kind != NB_PICKLE_STORAGE ||
        v[1].kind != NB_PICKLE_INT || v[1].i < 0 || !sizes(v[2], t->dims, &dims) || !sizes(v[3], t->stride, &strides) ||
        dims != strides || (kind == IS_TENSOR_V3 ? !is_global(v[6], IS_DTYPE) : !v[0].storage->typed)) {
        FAIL(m, NB_ERR_FORMAT, "a tensor is not made of storage, offset, at most %d sizes and as many strides%s",
             NB_CHECKPOINT_DIMS, NB_CHECKPOINT_WRITER);
        return;
    }
    if (args->count > least && !(v[least].kind == NB_PICKLE_DICT && v[least].items->count == 0) &&
        v[least].kind != NB_PICKLE_NONE) {
        FAIL(m, NB_ERR_UNSUPPORTED, "a tensor is a conjugate or negative view; save it resolved%s", "");
        return;
    }
    t->storage = v[0].storage;
    t->dtype = kind == IS_TENSOR_V3 ? v[6].global->dtype : t->storage->dtype;
    t->n_dims = (uint32_t)dims;
    t->offset = (uint64_t)v[1].i;
    t->at = m->op;
    check_bounds(m, t);
    push(m, (value){.kind = NB_PICKLE_TENSOR, .tensor = t});
}

static void reduce(machine *m)
{
    value args = pop(m), callee = pop(m);
    if (m->status != NB_OK)
        return;
    if (callee.kind != NB_PICKLE_GLOBAL || args.kind != NB_PICKLE_TUPLE) {
        FAIL(m, NB_ERR_FORMAT, "the pickle calls something that is no function%s", NB_CHECKPOINT_DAMAGED);
        return;
    }
    const nb_pickle_items *a = args.items;
    switch (callee.global->kind) {
    case IS_DICT:
        if (a->count == 0)
            push_items(m, NB_PICKLE_DICT, NULL, 0);
        else
            FAIL(m, NB_ERR_UNSUPPORTED, "a dictionary made from a list%s", NB_CHECKPOINT_WRITER);
        break;
    case IS_TENSOR_V1:
    case IS_TENSOR_V2:
    case IS_TENSOR_V3: rebuild_tensor(m, callee.global->kind, a); break;
    case IS_PARAMETER:
    case IS_SIZE: {
        nb_pickle_kind kind = callee.global->kind == IS_SIZE ? NB_PICKLE_TUPLE : NB_PICKLE_TENSOR;
        if (a->count > 0 && a->at[0].kind == kind)
            push(m, a->at[0]);
        else
            FAIL(m, NB_ERR_FORMAT, "'%s' gets something else than it takes%s", callee.global->name,
                 NB_CHECKPOINT_WRITER);
        break;
    }
    case IS_NOTHING: push_kind(m, NB_PICKLE_OTHER); break;
    case IS_DTYPE:
    case IS_STORAGE:
    case IS_BYTES:
        FAIL(m, NB_ERR_UNSUPPORTED, "the pickle calls '%s.%s', which nibble refuses to run%s", callee.global->module,
             callee.global->name, NB_CHECKPOINT_WRITER);
        break;
    }
}

/* Attributes of a dictionary (state_dict's _metadata) say nothing about tensors. */
static void build(machine *m)
{
    value state = pop(m);
    if (m->status == NB_OK &&
        (state.kind != NB_PICKLE_DICT || m->depth == 0 || m->stack[m->depth - 1].kind != NB_PICKLE_DICT))
        FAIL(m, NB_ERR_UNSUPPORTED, "the pickle sets the state of something that is no dictionary: nibble refuses to%s",
             NB_CHECKPOINT_WRITER);
}

/* ---- opcodes ---- */

static void take_long(machine *m, size_t length_bytes)
{
    uint64_t n = take_uint(m, length_bytes), x = 0;
    const unsigned char *p = take(m, n);
    if (!p)
        return;
    if (n > 8) {
        push_kind(m, NB_PICKLE_OTHER);
        return;
    }
    memcpy(&x, p, n);
    if (n > 0 && n < 8 && p[n - 1] & 0x80)
        x |= ~(uint64_t)0 << 8 * n;
    push_int(m, (int64_t)x);
}

/* Names of the opcodes that are known and refused. */
static const struct refused_row {
    unsigned char op;
    const char *name;
} refused[] = {
    {'i', "INST"},        {'o', "OBJ"},          {0x81, "NEWOBJ"},          {0x92, "NEWOBJ_EX"}, {0x82, "EXT1"},
    {0x83, "EXT2"},       {0x84, "EXT4"},        {'P', "PERSID"},           {'I', "INT"},        {'L', "LONG"},
    {'F', "FLOAT"},       {'S', "STRING"},       {'V', "UNICODE"},          {'p', "PUT"},        {'g', "GET"},
    {0x96, "BYTEARRAY8"}, {0x97, "NEXT_BUFFER"}, {0x98, "READONLY_BUFFER"},
};

static void refuse(machine *m, unsigned char op)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (refused[i].op == op) {
            FAIL(m, NB_ERR_UNSUPPORTED,
                 "the pickle has the opcode %s, which torch.save does not need for tensors: nibble refuses to run it; "
                 "get the "
                 "model as safetensors",
                 refused[i].name);
            return;
        }
    FAIL(m, NB_ERR_FORMAT, "the pickle has the unknown opcode %02x%s", op, NB_CHECKPOINT_DAMAGED);
}

static void check_protocol(machine *m)
{
    uint64_t protocol = take_uint(m, 1);
    if (m->status == NB_OK && (protocol < 2 || protocol > 5))
        FAIL(m, NB_ERR_UNSUPPORTED, "pickle protocol %u; 2 to 5 are read: save the model again, with safetensors",
             (unsigned)protocol);
}

static void check_frame(machine *m)
{
    uint64_t n = take_uint(m, 8);
    if (m->status == NB_OK && n > m->code.n - m->at)
        FAIL(m, NB_ERR_FORMAT, "a frame of the pickle ends past it%s", NB_CHECKPOINT_DAMAGED);
}

static bool run_scalar(machine *m, unsigned char op) /* false: not one of these */
{
    switch (op) {
    case 'N': push_kind(m, NB_PICKLE_NONE); return true;
    case 0x88:
    case 0x89: push(m, (value){.kind = NB_PICKLE_BOOL, .i = op == 0x88}); return true;
    case 'J': push_int(m, (int32_t)take_uint(m, 4)); return true;
    case 'K': push_int(m, (int64_t)take_uint(m, 1)); return true;
    case 'M': push_int(m, (int64_t)take_uint(m, 2)); return true;
    case 0x8a: take_long(m, 1); return true;
    case 0x8b: take_long(m, 4); return true;
    case 'G': take(m, 8), push_kind(m, NB_PICKLE_OTHER); return true;
    case 'X':
    case 'T':
    case 'B': push_str(m, take_str(m, 4)); return true;
    case 'U':
    case 'C':
    case 0x8c: push_str(m, take_str(m, 1)); return true;
    case 0x8d:
    case 0x8e: push_str(m, take_str(m, 8)); return true;
    case 'q': memo_put(m, take_uint(m, 1)); return true;
    case 'r': memo_put(m, take_uint(m, 4)); return true;
    case 0x94: memo_put(m, m->memo_count); return true;
    case 'h': memo_get(m, take_uint(m, 1)); return true;
    case 'j': memo_get(m, take_uint(m, 4)); return true;
    default: return false;
    }
}

static bool run_container(machine *m, unsigned char op)
{
    size_t n;
    value *v;
    switch (op) {
    case '(': push_kind(m, NB_PICKLE_MARK); return true;
    case '0': pop(m); return true;
    case '1': pop_to_mark(m, &n); return true;
    case ']': push_items(m, NB_PICKLE_LIST, NULL, 0); return true;
    case '}': push_items(m, NB_PICKLE_DICT, NULL, 0); return true;
    case ')': push_items(m, NB_PICKLE_TUPLE, NULL, 0); return true;
    case 0x85:
    case 0x86:
    case 0x87: tuple_of(m, op - 0x84u); return true;
    case 't': v = pop_to_mark(m, &n), push_items(m, NB_PICKLE_TUPLE, v, n); return true;
    case 'l': v = pop_to_mark(m, &n), push_items(m, NB_PICKLE_LIST, v, n); return true;
    case 'd':
        v = pop_to_mark(m, &n), push_items(m, NB_PICKLE_DICT, NULL, 0), add_to(m, NB_PICKLE_DICT, v, n);
        return true;
    case 'a': add_one(m, NB_PICKLE_LIST, 1); return true;
    case 'e': add_many(m, NB_PICKLE_LIST); return true;
    case 's': add_one(m, NB_PICKLE_DICT, 2); return true;
    case 'u': add_many(m, NB_PICKLE_DICT); return true;
    case 0x8f: push_kind(m, NB_PICKLE_OTHER); return true; /* a set, and what is put into it */
    case 0x90: add_many(m, NB_PICKLE_LIST); return true;
    case 0x91: pop_to_mark(m, &n), push_kind(m, NB_PICKLE_OTHER); return true;
    default: return false;
    }
}

static void run(machine *m)
{
    m->op = m->at;
    const unsigned char *op = take(m, 1);
    if (!op || run_scalar(m, *op) || run_container(m, *op))
        return;
    switch (*op) {
    case 0x80: check_protocol(m); break;
    case 0x95: check_frame(m); break;
    case 'c': {
        nb_str module = take_line(m), name = take_line(m);
        if (m->status == NB_OK)
            push_global(m, module, name);
        break;
    }
    case 0x93: stack_global(m); break;
    case 'R': reduce(m); break;
    case 'b': build(m); break;
    case 'Q': persistent(m); break;
    case '.': m->stopped = true; break;
    default: refuse(m, *op); break;
    }
}

nb_status nb_pickle_read(const char *path, nb_str pickle, uint64_t base, nb_arena *arena, nb_pickle_value *out,
                         nb_error *err)
{
    machine m = {.path = path, .code = pickle, .base = base, .arena = arena, .err = err};
    while (m.status == NB_OK && !m.stopped)
        run(&m);
    value result = pop(&m);
    if (m.status == NB_OK && (m.depth > 0 || m.at != m.code.n))
        FAIL(&m, NB_ERR_FORMAT, "the pickle stops here, but more follows or is left%s", NB_CHECKPOINT_DAMAGED);
    *out = result;
    free(m.stack);
    free(m.memo);
    return m.status;
}
