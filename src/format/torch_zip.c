#include "format/torch_zip.h"

#include <inttypes.h>
#include <stdlib.h>

#include "format/gguf_parse.h"

enum {
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR64_BYTES = 20,
    COMMENT_MAX = 65535,
    ZIP64_EXTRA = 1
};

static uint64_t load(const unsigned char *p, size_t bytes)
{
    uint64_t x = 0;
    memcpy(&x, p, bytes);
    return x;
}

#define FAIL(at, code, ...) nb_fail_at(f->path, (at), err, (code), __VA_ARGS__)

typedef struct directory {
    uint64_t at, bytes, count; /* as the end record says */
    size_t end;                /* where the end record begins: the entries lie before it */
} directory;

/* ---- the end record ---- */

/* Its comment reaches to the end of the file, so only one place can be it. */
static nb_status find_end(const nb_checkpoint_file *f, size_t *end, nb_error *err)
{
    size_t size = f->map.size;
    for (size_t back = END_BYTES; back <= size && back <= END_BYTES + COMMENT_MAX; back++) {
        const unsigned char *p = f->map.data + size - back;
        if (memcmp(p, "PK\5\6", 4) == 0 && load(p + 20, 2) == back - END_BYTES) {
            *end = size - back;
            return NB_OK;
        }
    }
    return FAIL(size, NB_ERR_FORMAT, "no zip directory at the end%s", NB_CHECKPOINT_TRUNCATED);
}

/* Larger archives have their true figures in a second record before the first one. */
static nb_status read_end64(const nb_checkpoint_file *f, directory *d, nb_error *err)
{
    size_t locator = d->end - LOCATOR64_BYTES;
    if (d->end < LOCATOR64_BYTES || memcmp(f->map.data + locator, "PK\6\7", 4) != 0)
        return NB_OK;
    uint64_t at = load(f->map.data + locator + 8, 8);
    if (locator < END64_BYTES || at > locator - END64_BYTES || memcmp(f->map.data + at, "PK\6\6", 4) != 0)
        return FAIL(locator, NB_ERR_FORMAT, "the zip64 end record is not where its locator says%s",
                    NB_CHECKPOINT_DAMAGED);
    const unsigned char *p = f->map.data + at;
    d->count = load(p + 32, 8);
    d->bytes = load(p + 40, 8);
    d->at = load(p + 48, 8);
    d->end = (size_t)at;
    return NB_OK;
}

static nb_status read_end(const nb_checkpoint_file *f, directory *d, nb_error *err)
{
    NB_TRY(find_end(f, &d->end, err));
    const unsigned char *p = f->map.data + d->end;
    if (load(p + 4, 2) != load(p + 6, 2))
        return FAIL(d->end + 4, NB_ERR_UNSUPPORTED, "a zip archive of several disks; save the model again in one file");
    d->count = load(p + 10, 2);
    d->bytes = load(p + 12, 4);
    d->at = load(p + 16, 4);
    NB_TRY(read_end64(f, d, err));
    if (d->at > d->end || d->bytes > d->end - d->at)
        return FAIL(d->end, NB_ERR_FORMAT,
                    "the zip directory (%" PRIu64 " bytes at %" PRIu64 ") ends past its end record%s", d->bytes, d->at,
                    NB_CHECKPOINT_DAMAGED);
    if (d->count > d->bytes / CENTRAL_BYTES)
        return FAIL(d->end, NB_ERR_FORMAT, "%" PRIu64 " zip entries do not fit a directory of %" PRIu64 " bytes%s",
                    d->count, d->bytes, NB_CHECKPOINT_DAMAGED);
    if (d->count > NB_TORCH_MAX_ENTRIES || d->bytes > NB_TORCH_MAX_DIRECTORY)
        return FAIL(d->end, NB_ERR_LIMIT, "%" PRIu64 " zip entries, more than the %d that are read%s", d->count,
                    NB_TORCH_MAX_ENTRIES, NB_CHECKPOINT_WRITER);
    return NB_OK;
}

/* ---- entries ---- */

typedef struct central {
    uint64_t packed, bytes, begin;
    nb_str extra;
    size_t at;
} central;

/* Sizes and offset that do not fit 32 bits stand in an extra field, each only if it is needed. */
static bool read_extra(central *c)
{
    uint64_t *wanted[] = {&c->bytes, &c->packed, &c->begin};
    bool needed = false;
    for (size_t i = 0; i < 3; i++)
        needed = needed || *wanted[i] == UINT32_MAX;
    for (nb_str x = c->extra; needed && x.n >= 4;) {
        const unsigned char *p = (const unsigned char *)x.p;
        size_t id = load(p, 2), n = load(p + 2, 2), used = 0;
        if (n > x.n - 4)
            return false;
        for (size_t i = 0; id == ZIP64_EXTRA && i < 3; i++) {
            if (*wanted[i] != UINT32_MAX)
                continue;
            if (n - used < 8)
                return false;
            *wanted[i] = load(p + 4 + used, 8);
            used += 8;
        }
        if (id == ZIP64_EXTRA)
            return true;
        x = (nb_str){x.p + 4 + n, x.n - 4 - n};
    }
    return !needed;
}

static nb_status check_entry(const nb_checkpoint_file *f, const central *c, nb_str name, unsigned flags,
                             unsigned method, nb_error *err)
{
    const char *problem = nb_gguf_name_problem(name, NB_CHECKPOINT_MAX_NAME);
    if (problem)
        return FAIL(c->at, NB_ERR_FORMAT, "the name of a zip entry %s%s", problem, NB_CHECKPOINT_WRITER);
    if (flags & 0x41)
        return FAIL(c->at, NB_ERR_UNSUPPORTED, "'%.*s' is encrypted; save the model without a password",
                    NB_STR_ARG(name));
    if (method != 0)
        return FAIL(
            c->at, NB_ERR_UNSUPPORTED,
            "'%.*s' is compressed (method %u), which torch.save does not do; unpack it and save it with torch.save",
            NB_STR_ARG(name), method);
    if (c->packed != c->bytes)
        return FAIL(c->at, NB_ERR_FORMAT, "'%.*s' is stored, but has two sizes, %" PRIu64 " and %" PRIu64 "%s",
                    NB_STR_ARG(name), c->packed, c->bytes, NB_CHECKPOINT_DAMAGED);
    return NB_OK;
}

/* The entry's own header, which must agree with the directory; its data follows. */
static nb_status read_local(const nb_checkpoint_file *f, const central *c, size_t room, nb_zip_entry *e, nb_error *err)
{
    if (c->begin > room || room - c->begin < LOCAL_BYTES || memcmp(f->map.data + c->begin, "PK\3\4", 4) != 0)
        return FAIL(c->at, NB_ERR_FORMAT, "'%.*s' should begin at byte %" PRIu64 ", but no zip entry is there%s",
                    NB_STR_ARG(e->name), c->begin, NB_CHECKPOINT_DAMAGED);
    const unsigned char *p = f->map.data + c->begin;
    size_t name_bytes = load(p + 26, 2), extra_bytes = load(p + 28, 2), left = room - c->begin - LOCAL_BYTES;
    if (name_bytes + extra_bytes > left || c->bytes > left - name_bytes - extra_bytes)
        return FAIL(c->at, NB_ERR_FORMAT, "'%.*s' of %" PRIu64 " bytes ends past the zip directory's begin%s",
                    NB_STR_ARG(e->name), c->bytes, NB_CHECKPOINT_TRUNCATED);
    if (!nb_str_eq(e->name, (nb_str){(const char *)p + LOCAL_BYTES, name_bytes}) || load(p + 8, 2) != 0)
        return FAIL(c->begin, NB_ERR_FORMAT,
                    "the zip entry here has another name or form than '%.*s' in the directory%s", NB_STR_ARG(e->name),
                    NB_CHECKPOINT_DAMAGED);
    e->begin = (size_t)c->begin;
    e->data = p + LOCAL_BYTES + name_bytes + extra_bytes;
    e->bytes = (size_t)c->bytes;
    return NB_OK;
}

static nb_status read_entry(const nb_checkpoint_file *f, const directory *d, size_t *at, nb_zip_entry *e, nb_error *err)
{
    size_t left = (size_t)(d->at + d->bytes) - *at;
    const unsigned char *p = f->map.data + *at;
    if (left < CENTRAL_BYTES || memcmp(p, "PK\1\2", 4) != 0)
        return FAIL(*at, NB_ERR_FORMAT, "no entry of the zip directory where one should be%s", NB_CHECKPOINT_DAMAGED);
    size_t name_bytes = load(p + 28, 2), extra_bytes = load(p + 30, 2), comment_bytes = load(p + 32, 2);
    if (name_bytes + extra_bytes + comment_bytes > left - CENTRAL_BYTES)
        return FAIL(*at, NB_ERR_FORMAT, "an entry of the zip directory ends past it%s", NB_CHECKPOINT_DAMAGED);
    central c = {.packed = load(p + 20, 4), .bytes = load(p + 24, 4), .begin = load(p + 42, 4), .at = *at};
    e->name = (nb_str){(const char *)p + CENTRAL_BYTES, name_bytes};
    c.extra = (nb_str){e->name.p + name_bytes, extra_bytes};
    if (!read_extra(&c))
        return FAIL(*at, NB_ERR_FORMAT, "a zip entry's 64-bit sizes are missing%s", NB_CHECKPOINT_DAMAGED);
    NB_TRY(check_entry(f, &c, e->name, (unsigned)load(p + 8, 2), (unsigned)load(p + 10, 2), err));
    *at += CENTRAL_BYTES + name_bytes + extra_bytes + comment_bytes;
    return read_local(f, &c, (size_t)d->at, e, err);
}

static int compare_begins(const void *a, const void *b)
{
    const nb_zip_entry *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static nb_status check_entries(const nb_checkpoint_file *f, nb_zip *zip, nb_error *err)
{
    nb_zip_entry *e = zip->entries;
    if (zip->count > 1)
        qsort(e, zip->count, sizeof *e, compare_begins);
    for (size_t i = 1; i < zip->count; i++)
        if (e[i].begin < (size_t)(e[i - 1].data - f->map.data) + e[i - 1].bytes)
            return FAIL(e[i].begin, NB_ERR_FORMAT, "the zip entries '%.*s' and '%.*s' overlap%s",
                        NB_STR_ARG(e[i - 1].name), NB_STR_ARG(e[i].name), NB_CHECKPOINT_DAMAGED);
    zip->order = nb_gguf_sort_names(&e->name, sizeof *e, zip->count);
    if (!zip->order)
        return nb_fail_memory(err, f->path, zip->count * sizeof *zip->order);
    for (size_t i = 1; i < zip->count; i++)
        if (nb_str_eq(e[zip->order[i]].name, e[zip->order[i - 1]].name))
            return FAIL(e[zip->order[i]].begin, NB_ERR_FORMAT, "the zip entry '%.*s' is there twice%s",
                        NB_STR_ARG(e[zip->order[i]].name), NB_CHECKPOINT_DAMAGED);
    return NB_OK;
}

nb_status nb_zip_open(const nb_checkpoint_file *f, nb_zip *zip, nb_error *err)
{
    directory d = {0};
    *zip = (nb_zip){0};
    NB_TRY(read_end(f, &d, err));
    zip->entries = calloc(d.count + 1, sizeof *zip->entries);
    if (!zip->entries)
        return nb_fail_memory(err, f->path, d.count * sizeof *zip->entries);
    size_t at = (size_t)d.at;
    nb_status status = NB_OK;
    for (; zip->count < d.count && status == NB_OK; zip->count++)
        status = read_entry(f, &d, &at, &zip->entries[zip->count], err);
    if (status == NB_OK)
        status = check_entries(f, zip, err);
    if (status != NB_OK)
        nb_zip_close(zip);
    return status;
}

void nb_zip_close(nb_zip *zip)
{
    free(zip->entries);
    free(zip->order);
    *zip = (nb_zip){0};
}

const nb_zip_entry *nb_zip_find(const nb_zip *zip, nb_str name)
{
    size_t i = nb_gguf_find_name(&zip->entries->name, sizeof *zip->entries, zip->order, zip->count, name);
    return i < zip->count ? &zip->entries[i] : NULL;
}
