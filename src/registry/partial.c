#define _GNU_SOURCE
#include "registry/partial.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

enum { RECORD_MS = 400, RECORD_MAX = 1 << 20, PARTS_MAX = 4096, HASH_BLOCK = 1 << 20 };
static const uint64_t part_least = 4 << 20, part_most = 64 << 20; /* what a drop loses at most, and a request's worth */

struct nb_partial {
    char *path, *data, *record, *fresh; /* fresh: the record while it is written */
    int fd;
    uint64_t size;
    nb_part *parts;
    size_t count;
    pthread_mutex_t lock; /* of `done` in parts, and of: */
    pthread_cond_t wake;
    bool ending, changed;
    pthread_t keeper;
    bool keeping;
};

static void sync_folder(const char *path)
{
    char *copy = strdup(path);
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(copy);
}

/* ---- the record: text, a line a part ---- */

nb_part *nb_partial_parse(nb_str text, uint64_t size, nb_arena *arena, size_t *count)
{
    uint64_t said, at = 0;
    int used = 0;
    char *z = nb_arena_strdup(arena, text);
    *count = 0;
    if (!z || strlen(z) != text.n || sscanf(z, "nibble-ranges 1 %20" SCNu64 " %n", &said, &used) != 1 || used == 0 ||
        said != size)
        return NULL;
    size_t lines = 0;
    for (size_t i = 0; i < text.n; i++)
        lines += z[i] == '\n';
    nb_part *parts = lines <= PARTS_MAX + 1 ? NB_ARRAY(arena, nb_part, lines + 1) : NULL;
    for (const char *p = z + used; parts && *p; p += used) {
        nb_part *q = &parts[*count];
        used = 0;
        if (*count >= lines ||
            sscanf(p, "%20" SCNu64 " %20" SCNu64 " %20" SCNu64 " %n", &q->begin, &q->end, &q->done, &used) != 3 ||
            used == 0 || q->begin != at || q->end <= at || q->end > size || q->done > q->end - q->begin)
            return NULL;
        at = q->end;
        ++*count;
    }
    return parts && at == size ? parts : NULL;
}

static bool write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t done = write(fd, p, n);
        if (done <= 0 && errno != EINTR)
            return false;
        p += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
    return true;
}

/* The bytes are synced before the record that speaks of them is there. A failure loses no more than the record. */
static void write_record(const nb_partial *p, const nb_part *parts, size_t count)
{
    nb_buf text = {0};
    if (fdatasync(p->fd) != 0)
        return;
    nb_buf_printf(&text, "nibble-ranges 1 %" PRIu64 "\n", p->size);
    for (size_t i = 0; i < count; i++)
        nb_buf_printf(&text, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", parts[i].begin, parts[i].end, parts[i].done);
    int fd = text.failed ? -1 : open(p->fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd >= 0) {
        bool good = write_all(fd, text.data, text.len) && fdatasync(fd) == 0;
        close(fd);
        if (good)
            rename(p->fresh, p->record);
    }
    nb_buf_free(&text);
}

static void *keep(void *partial)
{
    nb_partial *p = partial;
    pthread_mutex_lock(&p->lock);
    nb_part *copy = malloc((p->count + 1) * sizeof *copy);
    while (!p->ending) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += RECORD_MS * 1000000L;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&p->wake, &p->lock, &t);
        if (!p->changed || !copy)
            continue;
        p->changed = false;
        size_t count = p->count;
        memcpy(copy, p->parts, count * sizeof *copy);
        pthread_mutex_unlock(&p->lock);
        write_record(p, copy, count);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    free(copy);
    return NULL;
}

static nb_status start_keeper(nb_partial *p, nb_error *err)
{
    p->ending = p->changed = false;
    if (pthread_create(&p->keeper, NULL, keep, p) != 0)
        return nb_fail(err, NB_ERR_MEMORY, "%s: no thread for its record", p->data);
    p->keeping = true;
    return NB_OK;
}

static void end_keeper(nb_partial *p)
{
    if (!p->keeping)
        return;
    pthread_mutex_lock(&p->lock);
    p->ending = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->keeper, NULL);
    p->keeping = false;
}

/* ---- opening ---- */

static bool lay_out(nb_partial *p, uint64_t part_bytes)
{
    uint64_t step = part_bytes ? part_bytes : p->size / 64;
    if (!part_bytes)
        step = step < part_least ? part_least : step > part_most ? part_most : step;
    if (p->size / step >= PARTS_MAX)
        step = p->size / (PARTS_MAX - 1) + 1;
    p->count = (size_t)((p->size + step - 1) / step);
    p->parts = calloc(p->count + 1, sizeof *p->parts);
    for (size_t i = 0; p->parts && i < p->count; i++) {
        p->parts[i].begin = i * step;
        p->parts[i].end = i + 1 < p->count ? (i + 1) * step : p->size;
    }
    return p->parts != NULL;
}

static void read_record(nb_partial *p)
{
    nb_arena arena = {0};
    nb_buf text = {0};
    size_t count;
    struct stat s;
    /* a data file of another size is no file of this record */
    bool whole = fstat(p->fd, &s) == 0 && (uint64_t)s.st_size == p->size;
    if (whole && nb_file_read(p->record, RECORD_MAX, &text, NULL) == NB_OK) {
        nb_part *parts = nb_partial_parse(nb_buf_view(&text), p->size, &arena, &count);
        nb_part *kept = parts ? malloc((count + 1) * sizeof *kept) : NULL;
        if (kept) {
            memcpy(kept, parts, count * sizeof *kept);
            p->parts = kept;
            p->count = count;
        }
    }
    nb_buf_free(&text);
    nb_arena_free(&arena);
}

static void free_partial(nb_partial *p)
{
    if (p->fd >= 0)
        close(p->fd); /* and with it the lock */
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    free(p->path);
    free(p->data);
    free(p->record);
    free(p->fresh);
    free(p->parts);
    free(p);
}

/* Opens and locks the data file. False with errno 0: another has it. */
static bool open_data(nb_partial *p)
{
    struct stat here, there;
    errno = 0;
    p->fd = open(p->data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (p->fd < 0)
        return false;
    if (flock(p->fd, LOCK_EX | LOCK_NB) != 0) {
        errno = errno == EWOULDBLOCK ? 0 : errno;
        return false;
    }
    /* it may have got its final name between the two calls: then this is no partial file any more */
    if (fstat(p->fd, &here) != 0 || !S_ISREG(here.st_mode) || stat(p->data, &there) != 0 ||
        here.st_ino != there.st_ino || here.st_dev != there.st_dev) {
        errno = 0;
        return false;
    }
    return true;
}

nb_status nb_partial_open(const char *path, uint64_t size, uint64_t part_bytes, nb_partial **out, nb_error *err)
{
    nb_partial *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p)
        return nb_fail_memory(err, "a download", sizeof *p);
    p->fd = -1;
    p->size = size;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->path = strdup(path);
    bool named = p->path && asprintf(&p->data, "%s.part", path) > 0 && asprintf(&p->record, "%s.ranges", path) > 0 &&
                 asprintf(&p->fresh, "%s.ranges.new", path) > 0;
    if (!named || !open_data(p)) {
        int why = errno;
        nb_status status = !named ? nb_fail_memory(err, "a download", sizeof *p)
                           : why  ? nb_fail(err, NB_ERR_IO, "%s: cannot be written: %s", p->data, strerror(why))
                                  : NB_OK;
        free_partial(p);
        return status;
    }
    read_record(p);
    nb_status status = NB_OK;
    if (!p->parts) {
        unlink(p->record);
        if (!lay_out(p, part_bytes))
            status = nb_fail_memory(err, "a download", sizeof *p);
        else if (ftruncate(p->fd, 0) != 0 || ftruncate(p->fd, (off_t)size) != 0)
            status = nb_fail(err, NB_ERR_IO, "%s: cannot take %" PRIu64 " bytes: %s", p->data, size, strerror(errno));
    }
    if (status == NB_OK)
        status = start_keeper(p, err);
    if (status != NB_OK) {
        free_partial(p);
        return status;
    }
    *out = p;
    return NB_OK;
}

void nb_partial_close(nb_partial *p)
{
    if (!p)
        return;
    end_keeper(p);
    write_record(p, p->parts, p->count);
    free_partial(p);
}

/* ---- what is there ---- */

size_t nb_partial_count(const nb_partial *p) { return p->count; }
nb_part nb_partial_part(const nb_partial *p, size_t i) { return p->parts[i]; }
uint64_t nb_partial_size(const nb_partial *p) { return p->size; }
const char *nb_partial_data(const nb_partial *p) { return p->data; }

static uint64_t sum_done(const nb_part *parts, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += parts[i].done;
    return sum;
}

uint64_t nb_partial_done(const nb_partial *p) { return sum_done(p->parts, p->count); }

uint64_t nb_partial_there(const char *path, uint64_t size)
{
    nb_arena arena = {0};
    nb_buf text = {0}, name = {0};
    size_t count = 0;
    nb_part *parts = NULL;
    nb_buf_printf(&name, "%s.ranges", path);
    if (!name.failed && nb_file_read(name.data, RECORD_MAX, &text, NULL) == NB_OK)
        parts = nb_partial_parse(nb_buf_view(&text), size, &arena, &count);
    uint64_t sum = parts ? sum_done(parts, count) : 0;
    nb_buf_free(&name);
    nb_buf_free(&text);
    nb_arena_free(&arena);
    return sum;
}

/* ---- writing ---- */

nb_status nb_partial_write(nb_partial *p, size_t i, const void *bytes, size_t n, nb_error *err)
{
    nb_part *q = &p->parts[i];
    const char *from = bytes;
    if (n > q->end - q->begin - q->done)
        return nb_fail(err, NB_ERR_INTERNAL, "%s: %zu bytes beyond the end of a part", p->data, n);
    for (size_t left = n; left > 0;) {
        ssize_t done = pwrite(p->fd, from, left, (off_t)(q->begin + q->done + (n - left)));
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return nb_fail(err, NB_ERR_IO, "%s: cannot be written: %s; what is there already is kept", p->data,
                           strerror(errno));
        from += done;
        left -= (size_t)done;
    }
    pthread_mutex_lock(&p->lock);
    q->done += n;
    p->changed = true;
    pthread_mutex_unlock(&p->lock);
    return NB_OK;
}

nb_status nb_partial_restart(nb_partial *p, bool one, nb_error *err)
{
    end_keeper(p); /* or it might write down what is forgotten now */
    if (one && p->count > 1) {
        p->parts[0].end = p->size;
        p->count = 1;
    }
    for (size_t i = 0; i < p->count; i++)
        p->parts[i].done = 0;
    unlink(p->record);
    sync_folder(p->path);
    if (ftruncate(p->fd, 0) != 0 || ftruncate(p->fd, (off_t)p->size) != 0)
        return nb_fail(err, NB_ERR_IO, "%s: cannot be emptied: %s", p->data, strerror(errno));
    return start_keeper(p, err);
}

/* ---- the end ---- */

static nb_status hash_bytes(nb_partial *p, EVP_MD_CTX *c, bool (*stop)(void *user), void *user, nb_error *err)
{
    char *block = malloc(HASH_BLOCK);
    nb_status status = block ? NB_OK : nb_fail_memory(err, "a block to check", HASH_BLOCK);
    for (uint64_t at = 0; status == NB_OK && at < p->size;) {
        ssize_t n = pread(p->fd, block, HASH_BLOCK, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (stop && stop(user))
            status = nb_fail(err, NB_ERR_CANCELLED, "%s: stopped while it was checked", p->data);
        else if (n <= 0)
            status = nb_fail(err, NB_ERR_IO, "%s: cannot be read: %s", p->data, n ? strerror(errno) : "it ends early");
        else if (EVP_DigestUpdate(c, block, (size_t)n) != 1)
            status = nb_fail(err, NB_ERR_INTERNAL, "libcrypto cannot hash");
        at += n > 0 ? (uint64_t)n : 0;
    }
    free(block);
    return status;
}

nb_status nb_partial_hash(nb_partial *p, bool git, bool (*stop)(void *user), void *user, char hex[65], nb_error *err)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    char head[40];
    int n = snprintf(head, sizeof head, "blob %" PRIu64, p->size) + 1; /* its zero as well */
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    nb_status status = NB_OK;
    if (!c || EVP_DigestInit_ex(c, git ? EVP_sha1() : EVP_sha256(), NULL) != 1 ||
        (git && EVP_DigestUpdate(c, head, (size_t)n) != 1))
        status = nb_fail(err, NB_ERR_INTERNAL, "libcrypto cannot hash; check that this machine's OpenSSL can");
    if (status == NB_OK)
        status = hash_bytes(p, c, stop, user, err);
    if (status == NB_OK && (EVP_DigestFinal_ex(c, sum, &length) != 1 || length > 32))
        status = nb_fail(err, NB_ERR_INTERNAL, "libcrypto cannot hash");
    for (unsigned i = 0; status == NB_OK && i < length; i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    EVP_MD_CTX_free(c);
    return status;
}

nb_status nb_partial_commit(nb_partial *p, nb_error *err)
{
    nb_status status = NB_OK;
    end_keeper(p);
    if (fsync(p->fd) != 0 || rename(p->data, p->path) != 0)
        status = nb_fail(err, NB_ERR_IO, "%s: cannot get its name: %s", p->path, strerror(errno));
    if (status == NB_OK) {
        unlink(p->record);
        sync_folder(p->path);
    }
    free_partial(p);
    return status;
}

void nb_partial_taken(nb_partial *p)
{
    end_keeper(p);
    unlink(p->record);
    free_partial(p);
}

void nb_partial_forget(const char *path)
{
    static const char *const endings[] = {".part", ".ranges", ".ranges.new"};
    for (int i = 0; i < 3; i++) {
        nb_buf name = {0};
        nb_buf_printf(&name, "%s%s", path, endings[i]);
        bool good = !name.failed && (i == 0 ? access(name.data, F_OK) != 0 : (unlink(name.data), true));
        nb_buf_free(&name);
        if (!good) /* somebody fetches it, whatever for */
            return;
    }
}

void nb_partial_remove(nb_partial *p)
{
    end_keeper(p);
    unlink(p->record);
    unlink(p->fresh);
    unlink(p->data);
    free_partial(p);
}
