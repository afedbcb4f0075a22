#define _GNU_SOURCE
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static nb_status refuse_kind(const char *path, mode_t mode, nb_error *err)
{
    const char *kind = S_ISDIR(mode)                    ? "a directory"
                       : S_ISFIFO(mode)                 ? "a FIFO"
                       : S_ISCHR(mode) || S_ISBLK(mode) ? "a device"
                       : S_ISSOCK(mode)                 ? "a socket"
                                                        : "not a regular file";
    return nb_fail(err, NB_ERR_IO, "%s: is %s; give a regular file", path, kind);
}

/* opens a regular file without ever blocking on a FIFO */
static nb_status open_regular(const char *path, int *fd, size_t *size, nb_error *err)
{
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0) {
        int e = errno;
        if (e == ENXIO || e == ENODEV)
            return nb_fail(err, NB_ERR_IO, "%s: is a device or socket; give a regular file", path);
        return nb_fail(err, e == ENOENT ? NB_ERR_NOT_FOUND : NB_ERR_IO, "%s: cannot open: %s%s", path, strerror(e),
                       e == ENOENT   ? "; check the path"
                       : e == EACCES ? "; check its permissions"
                                     : "");
    }
    nb_status status = NB_OK;
    if (fstat(*fd, &st) != 0)
        status = nb_fail(err, NB_ERR_IO, "%s: cannot look at it: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        status = refuse_kind(path, st.st_mode, err);
    else
        *size = (size_t)st.st_size;
    if (status != NB_OK) {
        close(*fd);
        *fd = -1;
    }
    return status;
}

nb_status nb_map_open(const char *path, nb_map *map, nb_error *err)
{
    int fd;
    size_t size = 0;
    *map = (nb_map){0};
    NB_TRY(open_regular(path, &fd, &size, err));
    void *p = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    int e = errno;
    close(fd);
    if (p == MAP_FAILED)
        return nb_fail(err, NB_ERR_IO, "%s: cannot map %zu bytes: %s", path, size, strerror(e));
    map->data = p;
    map->size = size;
    return NB_OK;
}

void nb_map_close(nb_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (nb_map){0};
}

static void advise(const nb_map *map, size_t offset, size_t bytes, int advice, bool inner)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), end = offset + bytes;
    if (!map->data || offset > map->size || bytes > map->size - offset)
        return;
    size_t from = inner ? nb_round_up(offset, page) : offset / page * page, to = inner ? end / page * page : end;
    if (from < to)
        madvise((void *)(uintptr_t)(map->data + from), to - from, advice);
}

void nb_map_will_need(const nb_map *map, size_t offset, size_t bytes)
{
    advise(map, offset, bytes, MADV_WILLNEED, false);
}

void nb_map_dont_need(const nb_map *map, size_t offset, size_t bytes)
{
    advise(map, offset, bytes, MADV_DONTNEED, true);
}

nb_status nb_file_read(const char *path, size_t limit, nb_buf *out, nb_error *err)
{
    int fd;
    size_t size = 0;
    NB_TRY(open_regular(path, &fd, &size, err));
    nb_status status = NB_OK;
    if (size > limit)
        status = nb_fail(err, NB_ERR_LIMIT, "%s: %zu bytes, more than the %zu that are read here", path, size, limit);
    else if (!nb_buf_reserve(out, size))
        status = nb_fail_memory(err, path, size);
    while (status == NB_OK && size > 0) {
        ssize_t n = read(fd, out->data + out->len, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = nb_fail(err, NB_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        if (n <= 0)
            break;
        out->len += (size_t)n;
        size -= (size_t)n;
        out->data[out->len] = 0;
    }
    close(fd);
    return status;
}

struct nb_writer {
    FILE *file;
    char *path, *temporary;
};

static void writer_free(nb_writer *w)
{
    if (w->file)
        fclose(w->file);
    free(w->path);
    free(w->temporary);
    free(w);
}

nb_status nb_writer_open(const char *path, nb_writer **out, nb_error *err)
{
    *out = NULL;
    nb_writer *w = calloc(1, sizeof *w);
    if (!w || !(w->path = strdup(path)) || asprintf(&w->temporary, "%s.part-XXXXXX", path) < 0) {
        if (w)
            w->temporary = NULL;
        nb_writer_abort(w);
        return nb_fail(err, NB_ERR_MEMORY, "%s: out of memory", path);
    }
    int fd = mkostemp(w->temporary, O_CLOEXEC);
    if (fd < 0) {
        int e = errno;
        writer_free(w);
        return nb_fail(err, NB_ERR_IO, "%s: cannot write beside it: %s", path, strerror(e));
    }
    mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);
    w->file = fdopen(fd, "wb");
    if (!w->file) {
        close(fd);
        nb_writer_abort(w);
        return nb_fail(err, NB_ERR_MEMORY, "%s: out of memory", path);
    }
    *out = w;
    return NB_OK;
}

nb_status nb_writer_write(nb_writer *w, const void *bytes, size_t n, nb_error *err)
{
    if (n && fwrite(bytes, 1, n, w->file) != n)
        return nb_fail(err, NB_ERR_IO, "%s: cannot write: %s", w->path, strerror(errno));
    return NB_OK;
}

nb_status nb_writer_patch(nb_writer *w, uint64_t offset, const void *bytes, size_t n, nb_error *err)
{
    const char *p = bytes;
    bool ok = fflush(w->file) == 0;
    while (ok && n > 0) { /* a disk that fills up writes a part first, and says why the next time */
        ssize_t done = pwrite(fileno(w->file), p, n, (off_t)offset);
        ok = done > 0 || (done < 0 && errno == EINTR);
        if (done > 0) {
            p += done;
            n -= (size_t)done;
            offset += (uint64_t)done;
        }
    }
    return ok ? NB_OK : nb_fail(err, NB_ERR_IO, "%s: cannot write: %s", w->path, strerror(errno));
}

nb_status nb_writer_commit(nb_writer *w, nb_error *err)
{
    bool ok = fflush(w->file) == 0 && fsync(fileno(w->file)) == 0;
    ok = fclose(w->file) == 0 && ok;
    w->file = NULL;
    ok = ok && rename(w->temporary, w->path) == 0;
    nb_status status = ok ? NB_OK : nb_fail(err, NB_ERR_IO, "%s: cannot write: %s", w->path, strerror(errno));
    if (!ok)
        unlink(w->temporary);
    writer_free(w);
    return status;
}

void nb_writer_abort(nb_writer *w)
{
    if (!w)
        return;
    if (w->temporary)
        unlink(w->temporary);
    writer_free(w);
}
