#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/json_read.h"
#include "format/checkpoint_parse.h"
#include "format/gguf_parse.h"

/* ---- tensors ---- */

nb_checkpoint_tensor *nb_checkpoint_add(nb_checkpoint *c, const nb_checkpoint_file *f, size_t at, nb_status *status,
                                        nb_error *err)
{
    if (c->count == NB_CHECKPOINT_MAX_TENSORS) {
        *status = nb_fail_at(f->path, at, err, NB_ERR_LIMIT, "more than %d tensors" NB_CHECKPOINT_WRITER,
                             NB_CHECKPOINT_MAX_TENSORS);
        return NULL;
    }
    if (c->count == c->capacity) {
        size_t capacity = c->capacity ? c->capacity * 2 : 256;
        nb_checkpoint_tensor *grown = realloc(c->tensors, capacity * sizeof *grown);
        if (!grown) {
            *status = nb_fail_memory(err, f->path, capacity * sizeof *grown);
            return NULL;
        }
        c->tensors = grown;
        c->capacity = capacity;
    }
    nb_checkpoint_tensor *t = &c->tensors[c->count++];
    *t = (nb_checkpoint_tensor){.file = f->path};
    return t;
}

static int compare_names(nb_str a, nb_str b)
{
    int c = memcmp(a.p, b.p, nb_min_size(a.n, b.n));
    return c ? c : a.n < b.n ? -1 : a.n > b.n;
}

static int compare_tensors(const void *a, const void *b, void *tensors)
{
    const nb_checkpoint_tensor *t = tensors;
    return compare_names(t[*(const uint32_t *)a].name, t[*(const uint32_t *)b].name);
}

static nb_status sort_tensors(nb_checkpoint *c, nb_error *err)
{
    c->order = malloc((c->count + 1) * sizeof *c->order);
    if (!c->order)
        return nb_fail_memory(err, c->files[0].path, c->count * sizeof *c->order);
    for (size_t i = 0; i < c->count; i++)
        c->order[i] = (uint32_t)i;
    if (c->count > 1)
        qsort_r(c->order, c->count, sizeof *c->order, compare_tensors, c->tensors);
    for (size_t i = 1; i < c->count; i++) {
        const nb_checkpoint_tensor *a = &c->tensors[c->order[i - 1]], *b = &c->tensors[c->order[i]];
        if (nb_str_eq(a->name, b->name))
            return nb_fail(err, NB_ERR_FORMAT, "%s: tensor '%.*s' is there twice%s%s" NB_CHECKPOINT_WRITER, b->file,
                           NB_STR_ARG(b->name), a->file == b->file ? "" : ", the other time in ",
                           a->file == b->file ? "" : a->file);
    }
    return NB_OK;
}

/* ---- one file ---- */

/* What people hand in by mistake. */
static const struct magic_row {
    const char *magic, *what;
} other_magics[] = {
    {"GGUF", "a GGUF file already, not a checkpoint; open it as such"},
    {"vers", "a Git LFS pointer, not the file itself; run 'git lfs pull' or download it again"},
    {"<!DO", "a web page, not a model; download the file itself"},
    {"<htm", "a web page, not a model; download the file itself"},
    {"\x89HDF", "an HDF5 file of TensorFlow; get the safetensors file of the model"},
};

static nb_status parse_file(nb_checkpoint *c, const nb_checkpoint_file *f, nb_error *err)
{
    const unsigned char *p = f->map.data;
    if (f->map.size == 0)
        return nb_fail_at(f->path, 0, err, NB_ERR_FORMAT, "the file is empty; get it again");
    for (size_t i = 0; f->map.size >= 4 && i < sizeof other_magics / sizeof *other_magics; i++)
        if (memcmp(p, other_magics[i].magic, 4) == 0)
            return nb_fail_at(f->path, 0, err, NB_ERR_FORMAT, "this is %s", other_magics[i].what);
    /* a header that long (0x80) or of those two bytes would not fit the limit: a pickle, a zip archive, a tar archive */
    bool pickle = p[0] == 0x80 && f->map.size >= 2 && p[1] <= 5 && (f->map.size < 9 || p[8] != '{');
    bool tar = f->map.size > 262 && memcmp(p + 257, "ustar", 5) == 0;
    if (pickle || tar || (f->map.size >= 4 && memcmp(p, "PK", 2) == 0 && p[2] <= 8 && p[3] <= 8))
        return nb_torch_parse(c, f, err);
    return nb_safetensors_parse(c, f, err);
}

/* ---- the index of shards: {"metadata": {...}, "weight_map": {"TENSOR": "FILE", ...}} ---- */

typedef struct index_row {
    nb_str name;
    uint32_t file;
} index_row;

typedef struct shard_index {
    char *path;
    nb_map map;
    nb_json_reader json;
    index_row *rows;
    size_t count, capacity;
    nb_str *shards;  /* the files' names */
    uint32_t *order; /* of shards, sorted by name */
    size_t shard_count, last;
} shard_index;

/* A plain name beside the index, whoever wrote it. */
static const char *shard_name_problem(nb_str name)
{
    const char *problem = nb_gguf_name_problem(name, 255);
    if (problem)
        return problem;
    if (memchr(name.p, '/', name.n) || memchr(name.p, '\\', name.n))
        return "leads out of the folder";
    return name.p[0] == '.' ? "begins with a point" : NULL;
}

static size_t shard_of(shard_index *x, size_t at, nb_str name)
{
    size_t low = 0, high = x->shard_count;
    if (high > 0 && nb_str_eq(x->shards[x->last], name))
        return x->last;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int c = compare_names(x->shards[x->order[middle]], name);
        if (c == 0)
            return x->last = x->order[middle];
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    const char *problem = shard_name_problem(name);
    if (problem)
        nb_json_read_fail(&x->json, at, NB_ERR_FORMAT,
                          "the shard's name that starts here %s; only files beside the index are opened: get it again",
                          problem);
    else if (x->shard_count == NB_CHECKPOINT_MAX_FILES)
        nb_json_read_fail(&x->json, at, NB_ERR_LIMIT, "more than %d shards" NB_CHECKPOINT_WRITER,
                          NB_CHECKPOINT_MAX_FILES);
    if (x->json.status != NB_OK)
        return 0;
    memmove(x->order + low + 1, x->order + low, (x->shard_count - low) * sizeof *x->order);
    x->order[low] = (uint32_t)x->shard_count;
    x->shards[x->shard_count] = name;
    return x->last = x->shard_count++;
}

static void read_row(shard_index *x)
{
    nb_json_read_peek(&x->json);
    size_t at = x->json.at;
    nb_str name = nb_json_read_key(&x->json);
    nb_json_read_peek(&x->json);
    size_t file_at = x->json.at;
    nb_str file = nb_json_read_str(&x->json);
    const char *problem = nb_gguf_name_problem(name, NB_CHECKPOINT_MAX_NAME);
    if (problem)
        nb_json_read_fail(&x->json, at, NB_ERR_FORMAT, "the tensor name that starts here %s" NB_CHECKPOINT_WRITER,
                          problem);
    if (x->count == NB_CHECKPOINT_MAX_TENSORS)
        nb_json_read_fail(&x->json, at, NB_ERR_LIMIT, "more than %d tensors" NB_CHECKPOINT_WRITER,
                          NB_CHECKPOINT_MAX_TENSORS);
    size_t shard = x->json.status == NB_OK ? shard_of(x, file_at, file) : 0;
    if (x->json.status != NB_OK)
        return;
    if (x->count == x->capacity) {
        size_t capacity = x->capacity ? x->capacity * 2 : 256;
        index_row *grown = realloc(x->rows, capacity * sizeof *grown);
        if (!grown) {
            x->json.status = nb_fail_memory(x->json.err, x->path, capacity * sizeof *grown);
            return;
        }
        x->rows = grown;
        x->capacity = capacity;
    }
    x->rows[x->count++] = (index_row){name, (uint32_t)shard};
}

static nb_status read_index(shard_index *x, nb_error *err)
{
    bool found = false;
    if (x->map.size > NB_CHECKPOINT_MAX_HEADER)
        return nb_fail_at(x->path, NB_CHECKPOINT_MAX_HEADER, err, NB_ERR_LIMIT,
                          "the index has %zu bytes, more than the %d that are read" NB_CHECKPOINT_WRITER, x->map.size,
                          NB_CHECKPOINT_MAX_HEADER);
    nb_json_read_enter(&x->json, '{');
    while (nb_json_read_more(&x->json)) {
        size_t at = x->json.at;
        if (!nb_str_eqz(nb_json_read_key(&x->json), "weight_map")) {
            nb_json_read_skip(&x->json);
            continue;
        }
        if (found)
            nb_json_read_fail(&x->json, at, NB_ERR_FORMAT, "'weight_map' is there twice%s", NB_CHECKPOINT_DAMAGED);
        found = true;
        nb_json_read_enter(&x->json, '{');
        while (nb_json_read_more(&x->json))
            read_row(x);
    }
    NB_TRY(nb_json_read_end(&x->json));
    return found && x->count > 0
               ? NB_OK
               : nb_fail_at(x->path, 0, err, NB_ERR_FORMAT, "the index has no 'weight_map' that names tensors%s",
                            NB_CHECKPOINT_DAMAGED);
}

static nb_status check_index(const nb_checkpoint *c, const shard_index *x, nb_error *err)
{
    nb_status status = NB_OK;
    uint32_t *order = nb_gguf_sort_names(&x->rows->name, sizeof *x->rows, x->count);
    if (!order)
        return nb_fail_memory(err, x->path, x->count * sizeof *order);
    for (size_t i = 0; i < x->count && status == NB_OK; i++) {
        const index_row *row = &x->rows[order[i]], *twin = i > 0 ? &x->rows[order[i - 1]] : row;
        bool twice = twin != row && nb_str_eq(row->name, twin->name);
        row = twice && twin > row ? twin : row;                        /* the later one is named */
        size_t at = (size_t)(row->name.p - (const char *)x->map.data); /* in the text, but for names with escapes */
        at = at < x->map.size ? at : 0;
        const nb_checkpoint_tensor *t = nb_checkpoint_find(c, row->name);
        if (twice)
            status = nb_fail_at(x->path, at, err, NB_ERR_FORMAT, "tensor '%.*s' is there twice" NB_CHECKPOINT_DAMAGED,
                                NB_STR_ARG(row->name));
        else if (!t || t->file != c->files[row->file].path)
            status = nb_fail_at(x->path, at, err, NB_ERR_FORMAT,
                                "tensor '%.*s' should be in %.*s, but is %s%s; get the index and all shards again",
                                NB_STR_ARG(row->name), NB_STR_ARG(x->shards[row->file]), t ? "in " : "not there",
                                t ? t->file : "");
    }
    free(order);
    return status;
}

/* ---- open and close ---- */

static nb_status open_file(nb_checkpoint *c, char *path, nb_error *err) /* takes path */
{
    nb_checkpoint_file *f = &c->files[c->file_count++];
    f->path = path;
    if (!path)
        return nb_fail_memory(err, "a checkpoint's path", 1);
    NB_TRY(nb_map_open(path, &f->map, err));
    f->mapped = true;
    return parse_file(c, f, err);
}

static char *path_beside(const char *path, nb_str name)
{
    const char *slash = strrchr(path, '/');
    char *out;
    int n = asprintf(&out, "%.*s%.*s", slash ? (int)(slash + 1 - path) : 0, path, (int)name.n, name.p);
    return n < 0 ? NULL : out;
}

static nb_status open_shards(nb_checkpoint *c, shard_index *x, nb_error *err)
{
    nb_status status = nb_map_open(x->path, &x->map, err);
    x->shards = calloc(NB_CHECKPOINT_MAX_FILES, sizeof *x->shards);
    x->order = calloc(NB_CHECKPOINT_MAX_FILES, sizeof *x->order);
    c->files = calloc(NB_CHECKPOINT_MAX_FILES, sizeof *c->files);
    if (status == NB_OK && (!x->shards || !x->order || !c->files))
        status = nb_fail_memory(err, x->path, NB_CHECKPOINT_MAX_FILES * sizeof *x->shards);
    x->json = nb_json_read_begin(x->path, (nb_str){(const char *)x->map.data, x->map.size}, &c->arena, err);
    if (status == NB_OK)
        status = read_index(x, err);
    for (size_t i = 0; i < x->shard_count && status == NB_OK; i++) {
        status = open_file(c, path_beside(x->path, x->shards[i]), err);
        if (status == NB_ERR_NOT_FOUND || status == NB_ERR_IO)
            status = nb_fail_prefix(err, status, "shard %zu of %zu cannot be opened, and all are needed", i + 1,
                                    x->shard_count);
    }
    if (status == NB_OK)
        status = sort_tensors(c, err);
    if (status == NB_OK)
        status = check_index(c, x, err);
    return status;
}

static nb_status open_indexed(nb_checkpoint *c, const char *path, nb_error *err)
{
    shard_index x = {.path = strdup(path)};
    nb_status status = x.path ? open_shards(c, &x, err) : nb_fail_memory(err, path, strlen(path));
    nb_map_close(&x.map);
    free(x.path);
    free(x.rows);
    free(x.shards);
    free(x.order);
    return status;
}

static nb_status open_single(nb_checkpoint *c, const char *path, nb_error *err)
{
    c->files = calloc(1, sizeof *c->files);
    if (!c->files)
        return nb_fail_memory(err, path, sizeof *c->files);
    NB_TRY(open_file(c, strdup(path), err));
    return sort_tensors(c, err);
}

static bool is_index(const char *path)
{
    static const char end[] = ".index.json";
    size_t n = strlen(path);
    return n >= sizeof end - 1 && strcmp(path + n - (sizeof end - 1), end) == 0;
}

/* The checkpoint in a directory; NULL when none is there. */
static nb_status find_in_directory(const char *path, char **found, nb_error *err)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                                        "pytorch_model.bin.index.json"};
    struct stat st;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (asprintf(found, "%s/%s", path, names[i]) < 0) {
            *found = NULL;
            return nb_fail_memory(err, path, strlen(path));
        }
        if (stat(*found, &st) == 0)
            return NB_OK;
        free(*found);
        *found = NULL;
    }
    return nb_fail(err, NB_ERR_NOT_FOUND,
                   "%s: has no model.safetensors, no pytorch_model.bin and no index of shards "
                   "(model.safetensors.index.json); get the whole model",
                   path);
}

bool nb_checkpoint_is_in(const char *directory)
{
    char *found;
    nb_error unread;
    bool is = find_in_directory(directory, &found, &unread) == NB_OK;
    free(found);
    return is;
}

static nb_status open_path(nb_checkpoint *c, const char *path, nb_error *err)
{
    struct stat st;
    char *found = NULL;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        NB_TRY(find_in_directory(path, &found, err));
        path = found;
    }
    nb_status status = is_index(path) ? open_indexed(c, path, err) : open_single(c, path, err);
    free(found);
    return status;
}

static nb_status finish(nb_checkpoint *c, nb_status status, nb_checkpoint **out)
{
    if (status == NB_OK)
        *out = c;
    else
        nb_checkpoint_close(c);
    return status;
}

nb_status nb_checkpoint_open(const char *path, nb_checkpoint **out, nb_error *err)
{
    *out = NULL;
    nb_checkpoint *c = calloc(1, sizeof *c);
    return c ? finish(c, open_path(c, path, err), out) : nb_fail_memory(err, path, sizeof *c);
}

nb_status nb_checkpoint_open_memory(const char *name, const void *bytes, size_t size, nb_checkpoint **out,
                                    nb_error *err)
{
    *out = NULL;
    nb_checkpoint *c = calloc(1, sizeof *c);
    if (!c || !(c->files = calloc(1, sizeof *c->files)) || !(c->files[0].path = strdup(name))) {
        nb_checkpoint_close(c);
        return nb_fail_memory(err, name, sizeof *c);
    }
    c->file_count = 1;
    c->files[0].map = (nb_map){bytes, size};
    nb_status status = parse_file(c, &c->files[0], err);
    if (status == NB_OK)
        status = sort_tensors(c, err);
    return finish(c, status, out);
}

void nb_checkpoint_close(nb_checkpoint *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->file_count; i++) {
        if (c->files[i].mapped)
            nb_map_close(&c->files[i].map);
        free(c->files[i].path);
    }
    free(c->files);
    free(c->tensors);
    free(c->order);
    nb_arena_free(&c->arena);
    free(c);
}

/* ---- questions ---- */

size_t nb_checkpoint_count(const nb_checkpoint *c) { return c->count; }
const nb_checkpoint_tensor *nb_checkpoint_at(const nb_checkpoint *c, size_t i) { return &c->tensors[c->order[i]]; }

const nb_checkpoint_tensor *nb_checkpoint_find(const nb_checkpoint *c, nb_str name)
{
    size_t low = 0, high = c->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const nb_checkpoint_tensor *t = nb_checkpoint_at(c, middle);
        int order = compare_names(t->name, name);
        if (order == 0)
            return t;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

bool nb_checkpoint_metadata(const nb_checkpoint *c, const char *key, nb_str *value)
{
    for (size_t i = 0; i < c->metadata_count; i++)
        if (nb_str_eqz(c->metadata[i].key, key)) {
            *value = c->metadata[i].value;
            return true;
        }
    return false;
}
