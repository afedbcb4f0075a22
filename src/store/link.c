/* link.c - what a hard link's file was like when it became a blob: somebody else owns the file and may change it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "store/link.h"

#define RECORD_BYTES 16384

/* "INODE SIZE SECONDS.NANOSECONDS PATH" */
nb_status nb_link_record(nb_store *s, nb_str digest, const char *source, const struct stat *st, nb_error *err)
{
    nb_buf path = {0}, temporary = {0}, text = {0};
    int fd = -1;
    nb_buf_printf(&text, "%llu %lld %lld.%09ld %s", (unsigned long long)st->st_ino, (long long)st->st_size,
                  (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, source);
    nb_status status = text.failed ? nb_fail_memory(err, source, text.len)
                                   : nb_store_own_path(s->root, NB_STORE_LINKED, digest, &path, err);
    if (status == NB_OK)
        status = nb_store_temporary(s, &temporary, &fd, err);
    if (status == NB_OK)
        status = nb_store_write_all(fd, temporary.data, text.data, text.len, err);
    if (status == NB_OK && (fsync(fd) != 0 || rename(temporary.data, path.data) != 0))
        status = nb_store_fail(err, path.data, "write");
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && status != NB_OK)
        unlink(temporary.data);
    nb_buf_free(&path);
    nb_buf_free(&temporary);
    nb_buf_free(&text);
    return status;
}

void nb_link_forget(nb_store *s, nb_str digest)
{
    nb_buf path = {0};
    if (nb_store_own_path(s->root, NB_STORE_LINKED, digest, &path, NULL) == NB_OK)
        unlink(path.data);
    nb_buf_free(&path);
}

/* Only a store puts files into blobs: one of another inode is no longer the link, but the store's own. */
static nb_status compare(const char *blob, const char *record, nb_error *err)
{
    unsigned long long inode;
    long long size, seconds;
    long nanoseconds;
    int n = 0;
    struct stat st;
    if (sscanf(record, "%llu %lld %lld.%9ld %n", &inode, &size, &seconds, &nanoseconds, &n) != 4 || n == 0)
        return nb_fail(err, NB_ERR_IO, "%s: what its linked file was like cannot be read; create the model again",
                       blob);
    if (stat(blob, &st) != 0 || (unsigned long long)st.st_ino != inode)
        return NB_OK; /* who opens it says that it is missing */
    if (st.st_size == size && st.st_mtim.tv_sec == seconds && st.st_mtim.tv_nsec == nanoseconds)
        return NB_OK;
    return nb_fail(err, NB_ERR_IO,
                   "%s: it was linked into the model store and has changed since; create the model again", record + n);
}

nb_status nb_link_check(const char *root, nb_str digest, nb_error *err)
{
    nb_buf path = {0}, record = {0}, blob = {0};
    nb_status status = nb_store_own_path(root, NB_STORE_LINKED, digest, &path, err);
    if (status == NB_OK && access(path.data, F_OK) != 0) {
        nb_buf_free(&path);
        return NB_OK; /* the usual case: a blob of the store's own */
    }
    if (status == NB_OK)
        status = nb_file_read(path.data, RECORD_BYTES, &record, err);
    if (status == NB_OK)
        status = nb_store_path(root, NULL, digest, &blob, err);
    if (status == NB_OK)
        status = compare(blob.data, record.data ? record.data : "", err);
    nb_buf_free(&path);
    nb_buf_free(&record);
    nb_buf_free(&blob);
    return status;
}
