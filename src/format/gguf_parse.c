#define _GNU_SOURCE
#include "format/gguf_parse.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are read as they lie in the file");
_Static_assert(sizeof(size_t) == 8, "sizes in files have 64 bits");

#define DAMAGED "the file is damaged: get it again"
#define TRUNCATED "the file is truncated: get it again, and compare its size with the source's"
#define WRONG_WRITER "the file was written wrongly: convert the model again"

static const struct kind_row {
    const char *name;
    size_t bytes;
} kinds[NB_GGUF_KINDS] = {
    [NB_GGUF_U8] = {"u8", 1},       [NB_GGUF_I8] = {"i8", 1},     [NB_GGUF_U16] = {"u16", 2},
    [NB_GGUF_I16] = {"i16", 2},     [NB_GGUF_U32] = {"u32", 4},   [NB_GGUF_I32] = {"i32", 4},
    [NB_GGUF_F32] = {"f32", 4},     [NB_GGUF_BOOL] = {"bool", 1}, [NB_GGUF_STRING] = {"string", 0},
    [NB_GGUF_ARRAY] = {"array", 0}, [NB_GGUF_U64] = {"u64", 8},   [NB_GGUF_I64] = {"i64", 8},
    [NB_GGUF_F64] = {"f64", 8},
};

const char *nb_gguf_kind_name(nb_gguf_kind kind)
{
    return (uint32_t)kind < NB_GGUF_KINDS ? kinds[kind].name : "unknown";
}

size_t nb_gguf_kind_bytes(uint32_t kind) { return kind < NB_GGUF_KINDS ? kinds[kind].bytes : 0; }

nb_status nb_gguf_fail(const char *path, uint64_t at, nb_error *err, nb_status code, const char *format, ...)
{
    enum { SHOWN = 400 }; /* of a path: the end of it says which file, and the rest of the message must fit */
    char what[500];
    size_t n = strlen(path);
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return nb_fail(err, code, "%s%s: byte %" PRIu64 ": %s", n > SHOWN ? "..." : "", path + (n > SHOWN ? n - SHOWN : 0),
                   at, what);
}

/* ---- names ---- */

const char *nb_gguf_name_problem(nb_str name, size_t limit)
{
    if (name.n == 0)
        return "is empty";
    if (name.n > limit)
        return "is too long";
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] < 0x20 || name.p[i] > 0x7e)
            return "holds a byte that is not printable ASCII";
    return NULL;
}

/* by length first: cheaper, and no order is promised to anybody */
static int compare_names(nb_str a, nb_str b)
{
    if (a.n != b.n)
        return a.n < b.n ? -1 : 1;
    return a.n ? memcmp(a.p, b.p, a.n) : 0;
}

typedef struct name_table {
    const char *first;
    size_t stride;
} name_table;

static nb_str name_at(const name_table *t, size_t i)
{
    return *(const nb_str *)(const void *)(t->first + i * t->stride);
}

static int compare_indices(const void *a, const void *b, void *table)
{
    return compare_names(name_at(table, *(const uint32_t *)a), name_at(table, *(const uint32_t *)b));
}

/* Sorted rather than hashed: nobody can choose names that make it slow. */
uint32_t *nb_gguf_sort_names(const nb_str *first, size_t stride, size_t count)
{
    name_table table = {(const char *)first, stride};
    uint32_t *order = malloc((count + 1) * sizeof *order);
    if (!order)
        return NULL;
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    if (count > 1)
        qsort_r(order, count, sizeof *order, compare_indices, &table);
    return order;
}

size_t nb_gguf_find_name(const nb_str *first, size_t stride, const uint32_t *order, size_t count, nb_str name)
{
    name_table table = {(const char *)first, stride};
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int c = compare_names(name_at(&table, order[middle]), name);
        if (c == 0)
            return order[middle];
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return count;
}

/* ---- the cursor: reads past the end give zeros and a sticky error ---- */

typedef struct cursor {
    const nb_gguf_file *file;
    size_t at;
    nb_error *err;
    nb_status status;
    size_t string_bytes; /* in string arrays so far */
} cursor;

#define FAIL_AT(c, position, code, ...)                                                                                \
    ((c)->status = nb_gguf_fail((c)->file->path, (position), (c)->err, (code), __VA_ARGS__))

static size_t remaining(const cursor *c) { return c->file->map.size - c->at; }

static bool need(cursor *c, uint64_t bytes, const char *what)
{
    if (c->status != NB_OK)
        return false;
    if (bytes <= remaining(c))
        return true;
    FAIL_AT(c, c->at, NB_ERR_FORMAT, "%s needs %" PRIu64 " bytes, but the file ends after %zu more; " TRUNCATED, what,
            bytes, remaining(c));
    return false;
}

static uint64_t read_uint(cursor *c, size_t bytes, const char *what)
{
    uint64_t x = 0;
    if (need(c, bytes, what)) {
        memcpy(&x, c->file->map.data + c->at, bytes);
        c->at += bytes;
    }
    return x;
}

static uint32_t read_u32(cursor *c, const char *what) { return (uint32_t)read_uint(c, 4, what); }
static uint64_t read_u64(cursor *c, const char *what) { return read_uint(c, 8, what); }

static nb_str read_str(cursor *c, const char *what)
{
    uint64_t n = read_u64(c, what);
    if (!need(c, n, what))
        return (nb_str){"", 0};
    nb_str s = {(const char *)c->file->map.data + c->at, (size_t)n};
    c->at += (size_t)n;
    return s;
}

/* a key or a tensor's name, fit to be printed once this has passed */
static nb_str read_name(cursor *c, const char *what, size_t limit)
{
    size_t at = c->at;
    nb_str name = read_str(c, what);
    if (c->status != NB_OK)
        return name;
    const char *problem = nb_gguf_name_problem(name, limit);
    if (problem)
        FAIL_AT(c, at, NB_ERR_FORMAT, "%s %s (%zu bytes; 1 to %zu are allowed); " WRONG_WRITER, what, problem, name.n,
                limit);
    return name;
}

/* ---- header ---- */

/* What people hand in by mistake. */
static const struct magic_row {
    const char *magic, *what;
} other_magics[] = {
    {"PK\003\004", "a zip archive (perhaps a PyTorch checkpoint); convert the model to GGUF first"},
    {"vers", "a Git LFS pointer, not the file itself; run 'git lfs pull' or download it again"},
    {"<!DO", "a web page, not a model; download the file itself"},
    {"<htm", "a web page, not a model; download the file itself"},
    {"lmgg", "an old GGML file from before GGUF; convert the model again"},
    {"fmgg", "an old GGMF file from before GGUF; convert the model again"},
    {"tjgg", "an old GGJT file from before GGUF; convert the model again"},
    {"algg", "an old GGLA adapter from before GGUF; convert it again"},
};

static void check_magic(cursor *c)
{
    const nb_map *map = &c->file->map;
    if (map->size == 0) {
        FAIL_AT(c, 0, NB_ERR_FORMAT, "the file is empty; get it again");
        return;
    }
    if (!need(c, 4, "the magic 'GGUF'"))
        return;
    c->at = 4;
    if (memcmp(map->data, "GGUF", 4) == 0)
        return;
    for (size_t i = 0; i < sizeof other_magics / sizeof *other_magics; i++)
        if (memcmp(map->data, other_magics[i].magic, 4) == 0) {
            FAIL_AT(c, 0, NB_ERR_FORMAT, "this is %s", other_magics[i].what);
            return;
        }
    if (map->size > 8 && map->data[8] == '{')
        FAIL_AT(c, 0, NB_ERR_FORMAT, "this looks like safetensors, not GGUF; convert the model to GGUF first");
    else
        FAIL_AT(c, 0, NB_ERR_FORMAT, "no 'GGUF' at the start, but %02x %02x %02x %02x; give a GGUF file", map->data[0],
                map->data[1], map->data[2], map->data[3]);
}

static uint32_t read_version(cursor *c)
{
    uint32_t version = read_u32(c, "the version");
    if (c->status != NB_OK || version == 2 || version == 3)
        return version;
    uint32_t swapped = __builtin_bswap32(version);
    if (swapped >= 1 && swapped <= 3)
        FAIL_AT(
            c, 4, NB_ERR_UNSUPPORTED,
            "this is a big-endian GGUF file (version %u with its bytes swapped); get the little-endian file or convert "
            "it with gguf-convert-endian",
            swapped);
    else if (version == 1)
        FAIL_AT(c, 4, NB_ERR_UNSUPPORTED, "GGUF version 1 is not read any more; convert the model again (version 3)");
    else
        FAIL_AT(c, 4, version > 3 && version < 100 ? NB_ERR_UNSUPPORTED : NB_ERR_FORMAT,
                "GGUF version %u is unknown, 2 and 3 are read; get a newer nibble or convert the model again", version);
    return version;
}

/* A count, capped by what the bytes that remain could hold and by `limit`. */
static size_t read_count(cursor *c, const char *what, size_t least_bytes, size_t limit)
{
    size_t at = c->at;
    uint64_t n = read_u64(c, what);
    if (c->status != NB_OK)
        return 0;
    if (n > remaining(c) / least_bytes)
        FAIL_AT(c, at, NB_ERR_FORMAT,
                "%s is %" PRIu64
                ", more than the %zu bytes that remain can hold; the file is truncated or damaged: get it "
                "again",
                what, n, remaining(c));
    else if (n > limit)
        FAIL_AT(c, at, NB_ERR_LIMIT, "%s is %" PRIu64 ", more than the %zu that are read; " WRONG_WRITER, what, n,
                limit);
    return c->status == NB_OK ? (size_t)n : 0;
}

/* ---- metadata ---- */

static void skip_strings(cursor *c, const nb_gguf_value *v)
{
    size_t begin = c->at;
    if (v->count > NB_GGUF_MAX_STRINGS) {
        FAIL_AT(c, c->at - 8, NB_ERR_LIMIT, "'%.*s' has %zu strings, more than the %d that are read; " WRONG_WRITER,
                NB_STR_ARG(v->key), v->count, NB_GGUF_MAX_STRINGS);
        return;
    }
    for (size_t i = 0; i < v->count; i++) {
        uint64_t n;
        if (remaining(c) < 8 || (memcpy(&n, c->file->map.data + c->at, 8), n > remaining(c) - 8)) {
            FAIL_AT(c, c->at, NB_ERR_FORMAT, "string %zu of %zu of '%.*s' ends past the file's end; " TRUNCATED, i,
                    v->count, NB_STR_ARG(v->key));
            return;
        }
        c->at += 8 + (size_t)n;
        if (c->at - begin > NB_GGUF_MAX_STRING_BYTES - c->string_bytes) {
            FAIL_AT(c, c->at, NB_ERR_LIMIT, "'%.*s' brings the string arrays over %d MiB; " WRONG_WRITER,
                    NB_STR_ARG(v->key), NB_GGUF_MAX_STRING_BYTES >> 20);
            return;
        }
    }
    c->string_bytes += c->at - begin;
}

static void read_array(cursor *c, nb_gguf_value *v)
{
    size_t at = c->at;
    uint32_t element = read_u32(c, "an array's element type");
    if (c->status != NB_OK)
        return;
    if (element == NB_GGUF_ARRAY) {
        FAIL_AT(c, at, NB_ERR_UNSUPPORTED, "'%.*s' is an array of arrays, which no model uses; " WRONG_WRITER,
                NB_STR_ARG(v->key));
        return;
    }
    if (element >= NB_GGUF_KINDS) {
        FAIL_AT(c, at, NB_ERR_FORMAT, "'%.*s' is an array of the unknown type %u; " DAMAGED, NB_STR_ARG(v->key),
                element);
        return;
    }
    size_t bytes = nb_gguf_kind_bytes(element), count_at = c->at;
    v->element = (nb_gguf_kind)element;
    uint64_t count = read_u64(c, "an array's length");
    if (c->status != NB_OK)
        return;
    if (count > remaining(c) / (bytes ? bytes : 8)) {
        FAIL_AT(c, count_at, NB_ERR_FORMAT,
                "'%.*s' is an array of %" PRIu64
                " values of type %s, more than the %zu bytes that remain can hold; the file "
                "is truncated or damaged: get it again",
                NB_STR_ARG(v->key), count, kinds[element].name, remaining(c));
        return;
    }
    v->count = (size_t)count;
    v->data = c->file->map.data + c->at;
    if (bytes)
        c->at += v->count * bytes;
    else
        skip_strings(c, v);
    v->bytes = (size_t)(c->file->map.data + c->at - v->data);
}

static void read_value(cursor *c, nb_gguf_value *v)
{
    v->key = read_name(c, "a metadata key", NB_GGUF_MAX_KEY);
    size_t at = c->at;
    uint32_t kind = read_u32(c, "a metadata value's type");
    if (c->status != NB_OK)
        return;
    if (kind >= NB_GGUF_KINDS) {
        FAIL_AT(c, at, NB_ERR_FORMAT, "'%.*s' has the unknown value type %u; " DAMAGED, NB_STR_ARG(v->key), kind);
        return;
    }
    v->kind = v->element = (nb_gguf_kind)kind;
    v->count = 1;
    if (kind == NB_GGUF_ARRAY) {
        read_array(c, v);
    } else if (kind == NB_GGUF_STRING) {
        nb_str s = read_str(c, "a metadata string");
        v->data = (const unsigned char *)s.p;
        v->bytes = s.n;
    } else if (need(c, kinds[kind].bytes, "a metadata value")) {
        v->data = c->file->map.data + c->at;
        v->bytes = kinds[kind].bytes;
        c->at += v->bytes;
        if (kind == NB_GGUF_BOOL && v->data[0] > 1)
            FAIL_AT(c, c->at - 1, NB_ERR_FORMAT, "'%.*s' is a bool of value %u, not 0 or 1; " DAMAGED,
                    NB_STR_ARG(v->key), v->data[0]);
    }
}

static void read_values(cursor *c, nb_gguf_file *file, size_t count)
{
    file->values = calloc(count + 1, sizeof *file->values);
    if (!file->values) {
        c->status = nb_fail_memory(c->err, file->path, count * sizeof *file->values);
        return;
    }
    for (size_t i = 0; i < count && c->status == NB_OK; i++) {
        read_value(c, &file->values[i]);
        file->value_count = i + 1;
    }
    if (c->status != NB_OK)
        return;
    file->order = nb_gguf_sort_names(&file->values->key, sizeof *file->values, count);
    if (!file->order) {
        c->status = nb_fail_memory(c->err, file->path, count * sizeof *file->order);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        nb_str a = file->values[file->order[i - 1]].key, b = file->values[file->order[i]].key;
        if (nb_str_eq(a, b)) {
            nb_str later = a.p > b.p ? a : b;
            FAIL_AT(c, (size_t)(later.p - (const char *)file->map.data), NB_ERR_FORMAT,
                    "the metadata key '%.*s' is there twice; " WRONG_WRITER, NB_STR_ARG(later));
            return;
        }
    }
}

static void read_alignment(cursor *c, nb_gguf_file *file)
{
    file->alignment = NB_GGUF_DEFAULT_ALIGNMENT;
    size_t i = nb_gguf_find_name(&file->values->key, sizeof *file->values, file->order, file->value_count,
                                 NB_STR("general.alignment"));
    if (i == file->value_count)
        return;
    const nb_gguf_value *v = &file->values[i];
    size_t at = (size_t)(v->data - file->map.data);
    if (v->kind != NB_GGUF_U32 && v->kind != NB_GGUF_U64) {
        FAIL_AT(c, at, NB_ERR_FORMAT, "general.alignment has type %s, not u32; " WRONG_WRITER, kinds[v->kind].name);
        return;
    }
    uint64_t n = nb_gguf_elem_u64(v, 0);
    if (n < NB_GGUF_MIN_ALIGNMENT || (n & (n - 1)) != 0)
        FAIL_AT(c, at, NB_ERR_FORMAT,
                "general.alignment is %" PRIu64 ", not a power of two of at least %d; " WRONG_WRITER, n,
                NB_GGUF_MIN_ALIGNMENT);
    else
        file->alignment = (size_t)n;
}

/* ---- tensors ---- */

static bool align_up(size_t n, size_t alignment, size_t *out)
{
    if (!nb_add(n, alignment - 1, out))
        return false;
    *out &= ~(alignment - 1);
    return true;
}

static void read_dims(cursor *c, nb_gguf_tensor *t)
{
    size_t at = c->at;
    uint32_t n = read_u32(c, "a tensor's number of dimensions");
    if (c->status != NB_OK)
        return;
    if (n > 4) {
        FAIL_AT(c, at, NB_ERR_FORMAT, "tensor '%.*s' has %u dimensions, at most 4 are possible; " DAMAGED,
                NB_STR_ARG(t->name), n);
        return;
    }
    t->n_dims = n ? n : 1; /* no dimensions: one value */
    for (uint32_t i = 0; i < 4; i++) {
        at = c->at;
        t->dims[i] = i < n ? read_u64(c, "a tensor's dimension") : 1;
        if (c->status == NB_OK && (t->dims[i] == 0 || t->dims[i] > INT64_MAX))
            FAIL_AT(c, at, NB_ERR_FORMAT, "tensor '%.*s' has dimension %u of size %" PRIu64 "; " DAMAGED,
                    NB_STR_ARG(t->name), i, t->dims[i]);
    }
}

static void read_type(cursor *c, nb_gguf_tensor *t)
{
    size_t at = c->at;
    uint32_t id = read_u32(c, "a tensor's type");
    if (c->status != NB_OK)
        return;
    t->type = id < NB_TYPE_FILE_LIMIT ? nb_type_get(id) : NULL; /* the others exist in memory only */
    if (!t->type) {
        bool removed = strcmp(nb_type_why_missing(id), "removed") == 0;
        FAIL_AT(c, at, removed || id < 1000 ? NB_ERR_UNSUPPORTED : NB_ERR_FORMAT,
                "tensor '%.*s' has the %s type %u; %s", NB_STR_ARG(t->name), nb_type_why_missing(id), id,
                removed ? "quantize the model again to a type of today" : "get a newer nibble, or get the file again");
        return;
    }
    size_t bytes = 0;
    if (t->dims[0] % t->type->block_values != 0) {
        FAIL_AT(c, at, NB_ERR_FORMAT,
                "tensor '%.*s' of type %s has rows of %" PRIu64 " values, not a multiple of %u; " DAMAGED,
                NB_STR_ARG(t->name), t->type->name, t->dims[0], t->type->block_values);
        return;
    }
    bool fits = nb_type_row_bytes(t->type, t->dims[0], &bytes);
    for (int i = 1; i < 4; i++)
        fits = fits && nb_mul(bytes, (size_t)t->dims[i], &bytes);
    t->bytes = bytes;
    if (!fits)
        FAIL_AT(c, at, NB_ERR_FORMAT,
                "tensor '%.*s' of %" PRIu64 " x %" PRIu64 " x %" PRIu64 " x %" PRIu64
                " values is too large for any file; " DAMAGED,
                NB_STR_ARG(t->name), t->dims[0], t->dims[1], t->dims[2], t->dims[3]);
}

/* Tensors follow each other in the table's order, each padded to the alignment: *expected is where the next one is. */
static void read_offset(cursor *c, nb_gguf_tensor *t, size_t *expected)
{
    size_t at = c->at, next = 0;
    t->offset = read_u64(c, "a tensor's offset");
    if (c->status != NB_OK)
        return;
    if (t->offset % c->file->alignment != 0)
        FAIL_AT(c, at, NB_ERR_FORMAT,
                "tensor '%.*s' has offset %" PRIu64 ", not a multiple of the alignment %zu; " WRONG_WRITER,
                NB_STR_ARG(t->name), t->offset, c->file->alignment);
    else if (t->offset < *expected)
        FAIL_AT(c, at, NB_ERR_FORMAT,
                "tensor '%.*s' has offset %" PRIu64
                " and overlaps the tensor before it, which ends at %zu; " WRONG_WRITER,
                NB_STR_ARG(t->name), t->offset, *expected);
    else if (t->offset > *expected)
        FAIL_AT(c, at, NB_ERR_FORMAT,
                "tensor '%.*s' has offset %" PRIu64 ", but %zu follows from the tensors before it; " WRONG_WRITER,
                NB_STR_ARG(t->name), t->offset, *expected);
    else if (!align_up(t->bytes, c->file->alignment, &next) || !nb_add(*expected, next, expected))
        FAIL_AT(c, at, NB_ERR_FORMAT,
                "tensor '%.*s' of %zu bytes at offset %" PRIu64 " is too large for any file; " DAMAGED,
                NB_STR_ARG(t->name), t->bytes, t->offset);
}

/* Relative offsets become absolute, once the data's start is known. The last tensor's padding may be missing. */
static void place_tensors(cursor *c, nb_gguf_tensor *tensors, size_t count, int shard)
{
    const nb_map *map = &c->file->map;
    size_t data_at, begin, end;
    if (!align_up(c->at, c->file->alignment, &data_at) || data_at > map->size) {
        FAIL_AT(c, c->at, NB_ERR_FORMAT,
                "the tensor data should follow (aligned to %zu), but the file ends at byte %zu; " TRUNCATED,
                c->file->alignment, map->size);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        nb_gguf_tensor *t = &tensors[i];
        if (!nb_add(data_at, (size_t)t->offset, &begin) || !nb_add(begin, t->bytes, &end) || end > map->size) {
            FAIL_AT(c, begin < data_at ? data_at : begin, NB_ERR_FORMAT,
                    "tensor '%.*s' of %zu bytes starts here, but the file ends at byte %zu; " TRUNCATED,
                    NB_STR_ARG(t->name), t->bytes, map->size);
            return;
        }
        t->offset = begin;
        t->data = map->data + begin;
        t->shard = shard;
    }
}

static void read_tensors(cursor *c, nb_gguf *g, int shard, size_t count)
{
    size_t total = g->tensor_count + count, expected = 0;
    if (total > NB_GGUF_MAX_TENSORS) {
        FAIL_AT(c, 8, NB_ERR_LIMIT,
                "with this shard's there are %zu tensors, more than the %d that are read; " WRONG_WRITER, total,
                NB_GGUF_MAX_TENSORS);
        return;
    }
    nb_gguf_tensor *tensors = realloc(g->tensors, (total + 1) * sizeof *tensors);
    if (!tensors) {
        c->status = nb_fail_memory(c->err, c->file->path, total * sizeof *tensors);
        return;
    }
    g->tensors = tensors;
    tensors += g->tensor_count;
    for (size_t i = 0; i < count && c->status == NB_OK; i++) {
        tensors[i] = (nb_gguf_tensor){.name = read_name(c, "a tensor's name", NB_GGUF_MAX_TENSOR_NAME)};
        read_dims(c, &tensors[i]);
        read_type(c, &tensors[i]);
        read_offset(c, &tensors[i], &expected);
    }
    if (c->status == NB_OK && count > 0)
        place_tensors(c, tensors, count, shard);
    if (c->status == NB_OK)
        g->tensor_count = total;
}

nb_status nb_gguf_parse(nb_gguf *g, int shard, nb_error *err)
{
    enum { LEAST_TENSOR = 8 + 1 + 4 + 4 + 8, LEAST_VALUE = 8 + 1 + 4 + 1 };
    nb_gguf_file *file = &g->files[shard];
    cursor c = {.file = file, .err = err};
    check_magic(&c);
    file->version = read_version(&c);
    file->tensor_count = read_count(&c, "the number of tensors", LEAST_TENSOR, NB_GGUF_MAX_TENSORS);
    size_t values = read_count(&c, "the number of metadata values", LEAST_VALUE, NB_GGUF_MAX_VALUES);
    if (c.status == NB_OK)
        read_values(&c, file, values);
    if (c.status == NB_OK)
        read_alignment(&c, file);
    if (c.status == NB_OK)
        read_tensors(&c, g, shard, file->tensor_count);
    return c.status;
}
