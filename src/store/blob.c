/* blob.c - blobs: written, imported, adopted, found. Whichever way, the last steps are publish()'s: mark, sync, rename. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/digest.h"
#include "store/link.h"

#define CHUNK ((size_t)1 << 20)

struct nb_blob {
    nb_store *store;
    nb_buf path; /* the temporary one; empty when it is gone */
    int fd;
    nb_hash *hash;
    uint64_t size;
    char *buffer; /* of CHUNK bytes, allocated for the first small write */
    size_t held;
};

static nb_status set_layer(nb_arena *arena, const char *hex, uint64_t size, nb_layer *layer, nb_error *err)
{
    char text[7 + NB_DIGEST_TEXT] = "sha256:";
    memcpy(text + 7, hex, NB_DIGEST_TEXT);
    char *copy = nb_arena_strdup(arena, nb_str_of(text));
    if (!copy)
        return nb_fail_memory(err, "a digest", sizeof text);
    layer->digest = (nb_str){copy, 7 + 64};
    layer->size = size;
    return NB_OK;
}

/* "sha256:HEX" or "sha256-HEX", in any case, is hex */
static bool same_digest(nb_str expected, const char *hex)
{
    nb_buf want = {0}, got = {0};
    char text[7 + NB_DIGEST_TEXT] = "sha256:";
    memcpy(text + 7, hex, NB_DIGEST_TEXT);
    bool same = nb_store_path("", NULL, expected, &want, NULL) == NB_OK &&
                nb_store_path("", NULL, nb_str_of(text), &got, NULL) == NB_OK &&
                nb_str_eq(nb_buf_view(&want), nb_buf_view(&got));
    nb_buf_free(&want);
    nb_buf_free(&got);
    return same;
}

static nb_status check_expected(const char *path, nb_str expected, const char *hex, nb_error *err)
{
    if (expected.n == 0 || same_digest(expected, hex))
        return NB_OK;
    return nb_fail(err, NB_ERR_FORMAT, "%s: its digest is sha256:%s, not %.*s as announced; send it again", path, hex,
                   NB_STR_ARG(expected));
}

/* The file at `path`, whole and synced, gets its blob's name. linked: the stat of the file it is a link to, at source. */
static nb_status publish(nb_store *s, const char *path, nb_layer *layer, const char *source, const struct stat *linked,
                         nb_error *err)
{
    nb_buf blob = {0};
    nb_str digest = layer->digest;
    nb_status status = nb_store_path(s->root, NULL, digest, &blob, err);
    layer->found = status == NB_OK && access(blob.data, F_OK) == 0;
    if (status == NB_OK)
        status = nb_store_mark(s, digest, -1, err);
    if (status == NB_OK && linked)
        status = nb_link_record(s, digest, source, linked, err);
    if (status == NB_OK && rename(path, blob.data) != 0)
        status = nb_store_fail(err, blob.data, "write");
    if (status == NB_OK && !linked)
        nb_link_forget(s, digest);
    if (status == NB_OK)
        status = nb_store_sync_folder(blob.data, err);
    nb_buf_free(&blob);
    return status;
}

/* ---- written ---- */

nb_status nb_blob_begin(nb_store *s, nb_blob **out, nb_error *err)
{
    *out = NULL;
    nb_blob *b = calloc(1, sizeof *b);
    if (!b)
        return nb_fail_memory(err, "a blob", sizeof *b);
    b->store = s;
    b->fd = -1;
    b->hash = nb_hash_new();
    nb_status status = b->hash ? nb_store_temporary(s, &b->path, &b->fd, err)
                               : nb_fail_memory(err, "a blob", sizeof *b);
    if (status == NB_OK)
        *out = b;
    else
        nb_blob_abandon(b);
    return status;
}

static nb_status flush(nb_blob *b, nb_error *err)
{
    nb_status status = nb_store_write_all(b->fd, b->path.data, b->buffer, b->held, err);
    b->held = 0;
    return status;
}

nb_status nb_blob_write(nb_blob *b, const void *bytes, size_t n, nb_error *err)
{
    nb_hash_add(b->hash, bytes, n);
    b->size += n;
    if (n < CHUNK && !b->buffer && !(b->buffer = malloc(CHUNK)))
        return nb_fail_memory(err, b->path.data, CHUNK);
    if (b->held && n > CHUNK - b->held)
        NB_TRY(flush(b, err));
    if (n >= CHUNK)
        return nb_store_write_all(b->fd, b->path.data, bytes, n, err);
    if (n)
        memcpy(b->buffer + b->held, bytes, n);
    b->held += n;
    return NB_OK;
}

static nb_status finish(nb_blob *b, nb_str expected, nb_arena *arena, nb_layer *layer, nb_error *err)
{
    char hex[NB_DIGEST_TEXT];
    NB_TRY(flush(b, err));
    NB_TRY(nb_hash_finish(b->hash, hex, err));
    NB_TRY(check_expected("what was sent", expected, hex, err));
    NB_TRY(set_layer(arena, hex, b->size, layer, err));
    if (fsync(b->fd) != 0)
        return nb_store_fail(err, b->path.data, "write");
    return publish(b->store, b->path.data, layer, NULL, NULL, err);
}

nb_status nb_blob_finish(nb_blob *b, nb_str expected, nb_arena *arena, nb_layer *layer, nb_error *err)
{
    nb_status status = finish(b, expected, arena, layer, err);
    if (status == NB_OK)
        b->path.len = 0;
    nb_blob_abandon(b);
    return status;
}

void nb_blob_abandon(nb_blob *b)
{
    if (!b)
        return;
    if (b->fd >= 0)
        close(b->fd);
    if (b->path.len)
        unlink(b->path.data);
    nb_buf_free(&b->path);
    nb_hash_free(b->hash);
    free(b->buffer);
    free(b);
}

nb_status nb_blob_put(nb_store *s, nb_str bytes, const char *media, nb_arena *arena, nb_layer *layer, nb_error *err)
{
    nb_blob *b;
    *layer = (nb_layer){.media = nb_str_of(media), .from = NB_STR(""), .name = NB_STR("")};
    NB_TRY(nb_blob_begin(s, &b, err));
    nb_status status = nb_blob_write(b, bytes.p, bytes.n, err);
    if (status == NB_OK)
        return nb_blob_finish(b, NB_STR(""), arena, layer, err);
    nb_blob_abandon(b);
    return status;
}

/* ---- a file that is there ---- */

typedef struct reading {
    const char *path;
    int fd;
    struct stat st; /* before it was read */
    nb_store_progress_fn *progress;
    void *user;
} reading;

static nb_status open_file(reading *r, nb_error *err)
{
    r->fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (r->fd < 0 && errno == ENOENT)
        return nb_fail(err, NB_ERR_NOT_FOUND, "%s: there is no such file; check the path", r->path);
    if (r->fd < 0 || fstat(r->fd, &r->st) != 0)
        return nb_store_fail(err, r->path, "read");
    if (!S_ISREG(r->st.st_mode))
        return nb_fail(err, NB_ERR_IO, "%s: is no regular file; give one", r->path);
    return NB_OK;
}

static bool changed(const struct stat *a, const struct stat *b)
{
    return a->st_size != b->st_size || a->st_ino != b->st_ino || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
           a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

static nb_status tell(const reading *r, uint64_t done, double *next, nb_error *err)
{
    uint64_t total = (uint64_t)r->st.st_size;
    if (!r->progress || (nb_seconds() < *next && done < total))
        return NB_OK;
    *next = nb_seconds() + 0.2;
    return r->progress(r->user, done, total) ? NB_OK : nb_fail(err, NB_ERR_CANCELLED, "%s: stopped", r->path);
}

/* Hashes the file, writing it to `to` (when >= 0, called to_path) as it goes. */
static nb_status read_all(const reading *r, int to, const char *to_path, nb_hash *hash, nb_error *err)
{
    char *buffer = malloc(CHUNK);
    nb_status status = buffer ? NB_OK : nb_fail_memory(err, r->path, CHUNK);
    uint64_t done = 0;
    double next = nb_seconds() + 0.2;
    struct stat now;
    while (status == NB_OK) {
        ssize_t n = read(r->fd, buffer, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = nb_store_fail(err, r->path, "read");
        if (n <= 0)
            break;
        nb_hash_add(hash, buffer, (size_t)n);
        done += (uint64_t)n;
        if (to >= 0)
            status = nb_store_write_all(to, to_path, buffer, (size_t)n, err);
        if (status == NB_OK)
            status = tell(r, done, &next, err);
    }
    free(buffer);
    if (status == NB_OK && (fstat(r->fd, &now) != 0 || changed(&now, &r->st) || done != (uint64_t)now.st_size))
        status = nb_fail(err, NB_ERR_IO, "%s: changed while it was read; try again when it is whole", r->path);
    return status;
}

/* A temporary file with the content: a clone where the file system makes one, else a copy. */
static nb_status copy_file(nb_store *s, const reading *r, nb_buf *path, nb_hash *hash, nb_error *err)
{
    int fd;
    NB_TRY(nb_store_temporary(s, path, &fd, err));
    bool cloned = ioctl(fd, FICLONE, r->fd) == 0;
    nb_status status = read_all(r, cloned ? -1 : fd, path->data, hash, err);
    if (status == NB_OK && fsync(fd) != 0)
        status = nb_store_fail(err, path->data, "write");
    close(fd);
    return status;
}

static nb_status link_file(nb_store *s, const reading *r, nb_buf *path, nb_hash *hash, nb_error *err)
{
    char name[64];
    struct stat st;
    NB_TRY(nb_store_scratch(s, path, err));
    snprintf(name, sizeof name, "/proc/self/fd/%d", r->fd); /* the file that is open, whatever has its name by now */
    if (linkat(AT_FDCWD, name, AT_FDCWD, path->data, AT_SYMLINK_FOLLOW) != 0) {
        path->len = 0; /* nothing to remove */
        return nb_fail(err, NB_ERR_IO,
                       "%s: cannot link it into the model store %s: %s; create without --link copies it", r->path,
                       s->root, errno == EXDEV ? "it is on another file system" : strerror(errno));
    }
    if (stat(path->data, &st) != 0 || changed(&st, &r->st))
        return nb_fail(err, NB_ERR_IO, "%s: changed while it was read; try again when it is whole", r->path);
    if (fsync(r->fd) != 0) /* whoever wrote it may not have */
        return nb_store_fail(err, r->path, "sync");
    return read_all(r, -1, NULL, hash, err);
}

/* the file is a blob of this store already, by its name and its inode */
static bool is_blob(nb_store *s, const reading *r, char hex[NB_DIGEST_TEXT])
{
    nb_buf path = {0};
    struct stat st;
    char *real = realpath(r->path, NULL);
    const char *slash = real ? strrchr(real, '/') : NULL;
    nb_str digest = nb_str_of(slash ? slash + 1 : "");
    bool is = nb_store_path(s->root, NULL, digest, &path, NULL) == NB_OK && stat(path.data, &st) == 0 &&
              st.st_ino == r->st.st_ino && st.st_dev == r->st.st_dev;
    if (is)
        memcpy(hex, path.data + path.len - 64, NB_DIGEST_TEXT);
    nb_buf_free(&path);
    free(real);
    return is;
}

static nb_status import(nb_store *s, const reading *r, bool link, nb_arena *arena, nb_layer *layer, nb_error *err)
{
    char hex[NB_DIGEST_TEXT];
    nb_buf path = {0};
    char *real = realpath(r->path, NULL);
    nb_hash *hash = nb_hash_new();
    nb_status status = hash && real ? NB_OK : nb_fail_memory(err, r->path, CHUNK);
    if (status == NB_OK)
        status = link ? link_file(s, r, &path, hash, err) : copy_file(s, r, &path, hash, err);
    if (status == NB_OK)
        status = nb_hash_finish(hash, hex, err);
    if (status == NB_OK)
        status = set_layer(arena, hex, (uint64_t)r->st.st_size, layer, err);
    if (status == NB_OK)
        status = publish(s, path.data, layer, real, link ? &r->st : NULL, err);
    if (path.len && (status != NB_OK || link)) /* a rename between two links of one file leaves both */
        unlink(path.data);
    nb_hash_free(hash);
    nb_buf_free(&path);
    free(real);
    return status;
}

nb_status nb_blob_import(nb_store *s, const char *path, const char *media, bool link, nb_arena *arena, nb_layer *layer,
                         nb_store_progress_fn *progress, void *user, nb_error *err)
{
    char hex[NB_DIGEST_TEXT];
    reading r = {.path = path, .fd = -1, .progress = progress, .user = user};
    *layer = (nb_layer){.media = nb_str_of(media), .from = NB_STR(""), .name = NB_STR("")};
    nb_status status = open_file(&r, err);
    if (status == NB_OK && is_blob(s, &r, hex)) {
        status = set_layer(arena, hex, (uint64_t)r.st.st_size, layer, err);
        layer->found = true;
        if (status == NB_OK)
            status = nb_link_check(s->root, layer->digest, err);
    } else if (status == NB_OK) {
        status = import(s, &r, link, arena, layer, err);
    }
    if (r.fd >= 0)
        close(r.fd);
    return status;
}

static nb_status adopt(nb_store *s, const reading *r, nb_str expected, nb_arena *arena, nb_layer *layer, nb_error *err)
{
    char hex[NB_DIGEST_TEXT];
    nb_hash *hash = nb_hash_new();
    nb_status status = hash ? read_all(r, -1, NULL, hash, err) : nb_fail_memory(err, r->path, CHUNK);
    if (status == NB_OK)
        status = nb_hash_finish(hash, hex, err);
    nb_hash_free(hash);
    NB_TRY(status);
    NB_TRY(check_expected(r->path, expected, hex, err));
    NB_TRY(set_layer(arena, hex, (uint64_t)r->st.st_size, layer, err));
    if (fsync(r->fd) != 0)
        return nb_store_fail(err, r->path, "write");
    return publish(s, r->path, layer, NULL, NULL, err);
}

nb_status nb_blob_adopt(nb_store *s, const char *path, nb_str expected, const char *media, nb_arena *arena,
                        nb_layer *layer, nb_store_progress_fn *progress, void *user, nb_error *err)
{
    reading r = {.path = path, .fd = -1, .progress = progress, .user = user};
    *layer = (nb_layer){.media = nb_str_of(media), .from = NB_STR(""), .name = NB_STR("")};
    nb_status status = open_file(&r, err);
    if (status == NB_OK)
        status = adopt(s, &r, expected, arena, layer, err);
    if (r.fd >= 0)
        close(r.fd);
    return status;
}

/* ---- found ---- */

nb_status nb_blob_find(nb_store *s, nb_str digest, uint64_t *size, nb_error *err)
{
    nb_buf path = {0};
    struct stat st;
    *size = 0;
    nb_status status = nb_store_path(s->root, NULL, digest, &path, err);
    if (status == NB_OK && (stat(path.data, &st) != 0 || !S_ISREG(st.st_mode)))
        status = nb_fail(err, NB_ERR_NOT_FOUND, "there is no blob %.*s", NB_STR_ARG(digest));
    else if (status == NB_OK && nb_link_check(s->root, digest, err) != NB_OK)
        status = err ? (err->code = NB_ERR_NOT_FOUND) : NB_ERR_NOT_FOUND;
    else if (status == NB_OK)
        *size = (uint64_t)st.st_size;
    nb_buf_free(&path);
    return status;
}

nb_status nb_blob_keep(nb_store *s, nb_str digest, int64_t seconds, nb_error *err)
{
    return nb_store_mark(s, digest, seconds, err);
}
