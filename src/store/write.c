/* write.c - a store opened for writing: its folders, its lock, what is cleaned; and the manifests of models. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/env.h"
#include "base/file.h"
#include "base/json_write.h"
#include "store/library.h"
#include "store/link.h"

enum { PARTIAL_SECONDS = 14 * 24 * 3600 }; /* an interrupted download is kept for so long */

/* ---- small things ---- */

nb_status nb_store_fail(nb_error *err, const char *path, const char *what)
{
    int e = errno;
    const char *remedy = e == ENOSPC || e == EDQUOT ? "; free some space"
                         : e == EACCES || e == EPERM || e == EROFS
                             ? "; write as the user it belongs to, or set OLLAMA_MODELS to a folder of your own"
                             : "";
    return nb_fail(err, NB_ERR_IO, "%s: cannot %s: %s%s", path, what, strerror(e), remedy);
}

nb_status nb_store_own_path(const char *root, const char *kind, nb_str digest, nb_buf *path, nb_error *err)
{
    nb_buf own = {0};
    nb_buf_printf(&own, "%s/" NB_STORE_OWN "/%s", root, kind);
    nb_status status = own.failed ? nb_fail_memory(err, "a path in the model store", own.len)
                                  : nb_store_path(own.data, NULL, digest, path, err);
    nb_buf_free(&own);
    return status;
}

nb_status nb_store_write_all(int fd, const char *path, const void *bytes, size_t n, nb_error *err)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return nb_store_fail(err, path, "write");
        p += done;
        n -= (size_t)done;
    }
    return NB_OK;
}

nb_status nb_store_sync_folder(const char *path, nb_error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = strndup(path, slash ? (size_t)(slash - path) : 0);
    if (!folder)
        return nb_fail_memory(err, path, strlen(path));
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 ? fsync(fd) == 0 || errno == EINVAL /* some file systems sync no folders */
                      : errno == ENOENT;                  /* removed: what was in it went after this call's file */
    if (!ok)
        nb_store_fail(err, folder, "sync");
    if (fd >= 0)
        close(fd);
    free(folder);
    return ok ? NB_OK : NB_ERR_IO;
}

nb_status nb_store_scratch(nb_store *s, nb_buf *path, nb_error *err)
{
    static atomic_uint counter;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    nb_buf_printf(path, "%s/" NB_STORE_OWN "/new/%ld-%u-%lx%08lx", s->root, (long)getpid(),
                  atomic_fetch_add(&counter, 1), (unsigned long)now.tv_sec, (unsigned long)now.tv_nsec);
    return path->failed ? nb_fail_memory(err, "a path in the model store", path->len) : NB_OK;
}

nb_status nb_store_temporary(nb_store *s, nb_buf *path, int *fd, nb_error *err)
{
    NB_TRY(nb_store_scratch(s, path, err));
    *fd = open(path->data, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (*fd >= 0)
        return NB_OK;
    nb_store_fail(err, path->data, "write");
    path->len = 0;
    return NB_ERR_IO;
}

nb_status nb_store_mark(nb_store *s, nb_str digest, int64_t keep, nb_error *err)
{
    nb_buf path = {0};
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) + (keep > 0 ? keep : 0)}};
    nb_status status = nb_store_own_path(s->root, NB_STORE_PENDING, digest, &path, err);
    int fd = status == NB_OK ? open(path.data, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (status == NB_OK && (fd < 0 || (keep >= 0 && futimens(fd, times) != 0)))
        status = nb_store_fail(err, path.data, "write");
    if (fd >= 0)
        close(fd);
    nb_buf_free(&path);
    return status;
}

/* ---- opening ---- */

/* Makes the folders of path from byte `from` on: each part that a slash ends, and the last with `whole`. Sets errno. */
static nb_status make_folders(const char *path, size_t from, bool whole, nb_error *err)
{
    nb_status status = NB_OK;
    char *copy = strdup(path);
    if (!copy)
        return nb_fail_memory(err, path, strlen(path));
    for (char *p = copy + nb_max_size(from, 1); status == NB_OK && (p = strchr(p, '/')); *p++ = '/') {
        *p = 0;
        if (mkdir(copy, 0777) == 0)
            status = nb_store_sync_folder(copy, err);
        else if (errno != EEXIST)
            status = nb_store_fail(err, copy, "make this folder");
    }
    if (status == NB_OK && whole && mkdir(copy, 0777) == 0)
        status = nb_store_sync_folder(copy, err);
    else if (status == NB_OK && whole && errno != EEXIST)
        status = nb_store_fail(err, copy, "make this folder");
    int why = errno;
    free(copy);
    errno = why;
    return status;
}

/* Atomic also from shared to exclusive: on failure the lock that was held stays. */
static bool take_lock(int fd, short type, bool wait)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
    int done;
    while ((done = fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock)) != 0 && errno == EINTR)
        ;
    return done == 0;
}

static nb_status prepare(nb_store *s, nb_error *err)
{
    static const char *const folders[] = {"manifests",
                                          "blobs",
                                          NB_STORE_OWN "/new",
                                          NB_STORE_OWN "/" NB_STORE_PENDING "/blobs",
                                          NB_STORE_OWN "/" NB_STORE_LINKED "/blobs",
                                          NB_STORE_OWN "/" NB_STORE_PARTIAL "/blobs"};
    nb_buf path = {0};
    nb_status status = NB_OK;
    for (size_t i = 0; i < sizeof folders / sizeof *folders && status == NB_OK; i++) {
        nb_buf_clear(&path);
        nb_buf_printf(&path, "%s/%s", s->root, folders[i]);
        if (path.failed)
            status = nb_fail_memory(err, "a path in the model store", path.len);
        else if (access(path.data, W_OK | X_OK) != 0)
            status = errno == ENOENT ? make_folders(path.data, 0, true, err) : nb_store_fail(err, path.data, "write");
    }
    nb_buf_clear(&path);
    nb_buf_printf(&path, "%s/" NB_STORE_OWN "/lock", s->root);
    if (status == NB_OK && path.failed)
        status = nb_fail_memory(err, "a path in the model store", path.len);
    if (status == NB_OK && (s->lock = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC, 0666)) < 0)
        status = nb_store_fail(err, path.data, "write");
    if (status == NB_OK && !take_lock(s->lock, F_RDLCK, true)) /* waits for who is cleaning */
        status = nb_store_fail(err, path.data, "lock");
    nb_buf_free(&path);
    return status;
}

nb_status nb_store_open(const char *root, nb_store **out, nb_error *err)
{
    nb_buf path = {0};
    *out = NULL;
    nb_store *s = calloc(1, sizeof *s);
    if (!s)
        return nb_fail_memory(err, "model store", sizeof *s);
    s->lock = -1;
    if (root)
        nb_buf_z(&path, root);
    nb_status status = root ? NB_OK : nb_store_root(&path, err);
    if (status == NB_OK && (path.failed || path.len == 0))
        status = nb_fail(err, NB_ERR_ARGUMENT, "the model store has no path; set OLLAMA_MODELS to a folder");
    s->root = path.data; /* the store's from here on */
    while (status == NB_OK && path.len > 1 && path.data[path.len - 1] == '/')
        path.data[--path.len] = 0;
    if (status == NB_OK)
        status = prepare(s, err);
    if (status == NB_OK)
        nb_store_clean(s, NULL, NULL); /* what cannot be cleaned now harms nobody */
    if (status == NB_OK)
        *out = s;
    else
        nb_store_close(s);
    return status;
}

void nb_store_close(nb_store *s)
{
    if (!s)
        return;
    if (s->lock >= 0)
        close(s->lock); /* and the lock with it */
    free(s->root);
    free(s);
}

const char *nb_store_path_of(const nb_store *s) { return s->root; }

nb_status nb_store_partial(nb_store *s, nb_str digest, nb_buf *path, nb_error *err)
{
    return nb_store_own_path(s->root, NB_STORE_PARTIAL, digest, path, err);
}

/* ---- walking the manifests ---- */

typedef struct walk {
    nb_buf path;
    char parts[4][NB_NAME_HOST_MAX + 1];
    /* name: NULL where the file's place makes none */
    nb_status (*visit)(void *user, const char *path, const nb_name *name, nb_error *err);
    void *user;
} walk;

static nb_status walk_folder(walk *w, int depth, nb_error *err);

static nb_status walk_member(walk *w, int depth, const char *member, nb_error *err)
{
    struct stat st;
    nb_name name;
    size_t length = w->path.len;
    nb_buf_printf(&w->path, "/%s", member);
    if (w->path.failed)
        return nb_fail_memory(err, "a path in the model store", length);
    nb_status status = NB_OK;
    snprintf(w->parts[depth], sizeof w->parts[depth], "%s", member);
    if (stat(w->path.data, &st) != 0)
        status = errno == ENOENT ? NB_OK : nb_store_fail(err, w->path.data, "look at it");
    else if (S_ISDIR(st.st_mode) && depth < 3)
        status = walk_folder(w, depth + 1, err);
    else if (S_ISREG(st.st_mode)) {
        bool named = depth == 3 && nb_name_from_parts(w->parts[0], w->parts[1], w->parts[2], w->parts[3], &name);
        status = w->visit(w->user, w->path.data, named ? &name : NULL, err);
    }
    w->path.len = length;
    w->path.data[length] = 0;
    return status;
}

static nb_status walk_folder(walk *w, int depth, nb_error *err)
{
    DIR *d = opendir(w->path.data);
    if (!d)
        return errno == ENOENT ? NB_OK : nb_store_fail(err, w->path.data, "read this folder");
    nb_status status = NB_OK;
    for (struct dirent *member; status == NB_OK && (member = readdir(d));)
        if (member->d_name[0] != '.')
            status = walk_member(w, depth, member->d_name, err);
    closedir(d);
    return status;
}

static nb_status walk_manifests(nb_store *s, walk *w, nb_error *err)
{
    nb_buf_printf(&w->path, "%s/manifests", s->root);
    nb_status status = w->path.failed ? nb_fail_memory(err, "a path in the model store", w->path.len)
                                      : walk_folder(w, 0, err);
    nb_buf_free(&w->path);
    return status;
}

/* ---- cleaning ---- */

typedef struct mark {
    char file[80]; /* "sha256-HEX" */
    bool kept, named;
} mark;

typedef struct marks {
    mark *items;
    size_t count, cap;
} marks;

static nb_status add_mark(marks *m, const char *file, bool kept, nb_error *err)
{
    if (m->count == m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 64;
        mark *bigger = realloc(m->items, cap * sizeof *bigger);
        if (!bigger)
            return nb_fail_memory(err, "blobs to clean", cap * sizeof *bigger);
        m->items = bigger;
        m->cap = cap;
    }
    mark *one = &m->items[m->count++];
    snprintf(one->file, sizeof one->file, "%s", file);
    one->kept = kept;
    one->named = false;
    return NB_OK;
}

static int by_file(const void *a, const void *b) { return strcmp(((const mark *)a)->file, ((const mark *)b)->file); }

/* "sha256-HEX" of a digest: the last part of its path */
static bool blob_file(nb_str digest, char file[80])
{
    nb_buf path = {0};
    bool ok = nb_store_path("", NULL, digest, &path, NULL) == NB_OK;
    if (ok)
        snprintf(file, 80, "%s", strrchr(path.data, '/') + 1);
    nb_buf_free(&path);
    return ok;
}

/* Digests of a manifest that was read are valid: only memory can be out, and then nothing may be removed. */
static nb_status name_blob(marks *m, nb_str digest, nb_error *err)
{
    mark key, *found;
    if (digest.n == 0)
        return NB_OK; /* no configuration */
    if (!blob_file(digest, key.file))
        return nb_fail_memory(err, "blobs to clean", sizeof key);
    found = bsearch(&key, m->items, m->count, sizeof key, by_file);
    if (found)
        found->named = true;
    return NB_OK;
}

/* A manifest that cannot be read may name any blob: then none is removed. */
static nb_status name_blobs_of(void *user, const char *path, const nb_name *name, nb_error *err)
{
    (void)name;
    nb_manifest *m;
    nb_status status = nb_manifest_read(path, &m, err);
    if (status == NB_ERR_NOT_FOUND)
        return NB_OK;
    NB_TRY(status);
    status = name_blob(user, m->config.digest, err);
    for (size_t i = 0; i < m->count && status == NB_OK; i++)
        status = name_blob(user, m->layers[i].digest, err);
    nb_manifest_free(m);
    return status;
}

/* under the exclusive lock */
static void remove_marked(nb_store *s, const mark *m, uint64_t *bytes)
{
    nb_buf blob = {0}, pending = {0};
    struct stat st;
    nb_str digest = nb_str_of(m->file);
    bool paths = nb_store_path(s->root, NULL, digest, &blob, NULL) == NB_OK &&
                 nb_store_own_path(s->root, NB_STORE_PENDING, digest, &pending, NULL) == NB_OK;
    bool gone = paths && (m->named || lstat(blob.data, &st) != 0);
    if (paths && !gone && unlink(blob.data) == 0) {
        *bytes += (uint64_t)st.st_size;
        gone = true;
    }
    if (gone && !m->named)
        nb_link_forget(s, digest);
    if (gone)
        unlink(pending.data);
    nb_buf_free(&blob);
    nb_buf_free(&pending);
}

/* sorted, each once */
static void sort_marks(marks *m)
{
    size_t kept = 0;
    qsort(m->items, m->count, sizeof *m->items, by_file);
    for (size_t i = 0; i < m->count; i++)
        if (kept == 0 || by_file(&m->items[kept - 1], &m->items[i]) != 0)
            m->items[kept++] = m->items[i];
    m->count = kept;
}

/* Under the exclusive lock: of the marked blobs those go that no manifest names, of the others the marks. */
static nb_status sweep(nb_store *s, marks *m, uint64_t *bytes, nb_error *err)
{
    walk w = {.visit = name_blobs_of, .user = m};
    if (m->count == 0)
        return NB_OK;
    sort_marks(m);
    NB_TRY(walk_manifests(s, &w, err));
    for (size_t i = 0; i < m->count; i++)
        if (m->items[i].named || !m->items[i].kept)
            remove_marked(s, &m->items[i], bytes);
    return NB_OK;
}

static nb_status read_marks(const char *folder, marks *m, nb_error *err)
{
    nb_status status = NB_OK;
    struct stat st;
    char file[80];
    DIR *d = opendir(folder);
    if (!d)
        return nb_store_fail(err, folder, "read this folder");
    for (struct dirent *member; status == NB_OK && (member = readdir(d));)
        if (blob_file(nb_str_of(member->d_name), file) && fstatat(dirfd(d), member->d_name, &st, 0) == 0)
            status = add_mark(m, member->d_name, st.st_mtim.tv_sec > time(NULL), err);
    closedir(d);
    return status;
}

/* what is in an open folder, which is closed; links are not followed */
static void empty_folder(int fd, int depth, uint64_t *bytes)
{
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct stat st;
    if (!d && fd >= 0)
        close(fd);
    for (struct dirent *member; d && (member = readdir(d));) {
        const char *name = member->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || fstatat(dirfd(d), name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        bool folder = S_ISDIR(st.st_mode);
        if (folder && depth > 0)
            empty_folder(openat(dirfd(d), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), depth - 1, bytes);
        if (unlinkat(dirfd(d), name, folder ? AT_REMOVEDIR : 0) == 0 && !folder)
            *bytes += (uint64_t)st.st_size;
    }
    if (d)
        closedir(d);
}

void nb_store_empty(const char *folder, uint64_t *bytes)
{
    empty_folder(open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), 8, bytes);
}

/* files of a folder that did not change for so long */
static void remove_old(const char *folder, int64_t seconds, uint64_t *bytes)
{
    DIR *d = opendir(folder);
    struct stat st;
    for (struct dirent *member; d && (member = readdir(d));)
        if (fstatat(dirfd(d), member->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            time(NULL) - st.st_mtime > seconds && unlinkat(dirfd(d), member->d_name, 0) == 0)
            *bytes += (uint64_t)st.st_size;
    if (d)
        closedir(d);
}

nb_status nb_store_clean(nb_store *s, uint64_t *bytes, nb_error *err)
{
    nb_buf path = {0};
    marks m = {0};
    uint64_t freed = 0;
    nb_status status = NB_OK;
    if (!nb_env_flag("OLLAMA_NOPRUNE") && take_lock(s->lock, F_WRLCK, false)) {
        nb_buf_printf(&path, "%s/" NB_STORE_OWN "/new", s->root);
        if (!path.failed)
            nb_store_empty(path.data, &freed);
        nb_buf_clear(&path);
        nb_buf_printf(&path, "%s/" NB_STORE_OWN "/" NB_STORE_PARTIAL "/blobs", s->root);
        if (!path.failed)
            remove_old(path.data, PARTIAL_SECONDS, &freed);
        nb_buf_clear(&path);
        nb_buf_printf(&path, "%s/" NB_STORE_OWN "/" NB_STORE_PENDING "/blobs", s->root);
        status = path.failed ? nb_fail_memory(err, s->root, path.len) : read_marks(path.data, &m, err);
        if (status == NB_OK)
            status = sweep(s, &m, &freed, err);
        take_lock(s->lock, F_RDLCK, false);
    }
    if (bytes)
        *bytes = freed;
    free(m.items);
    nb_buf_free(&path);
    return status;
}

static nb_status mark_blobs(nb_store *s, const nb_manifest *m, nb_error *err)
{
    if (m->config.digest.n)
        NB_TRY(nb_store_mark(s, m->config.digest, 0, err));
    for (size_t i = 0; i < m->count; i++)
        NB_TRY(nb_store_mark(s, m->layers[i].digest, 0, err));
    return NB_OK;
}

static nb_status add_blobs(marks *to, const nb_manifest *m)
{
    char file[80];
    if (m->config.digest.n && blob_file(m->config.digest, file))
        NB_TRY(add_mark(to, file, false, NULL));
    for (size_t i = 0; i < m->count; i++)
        if (blob_file(m->layers[i].digest, file))
            NB_TRY(add_mark(to, file, false, NULL));
    return NB_OK;
}

/* Sweeps the blobs of these manifests alone (b may be NULL): others of this process may not be in one yet. Left to the next
 * writer when others are at work. */
static void sweep_manifests(nb_store *s, const nb_manifest *a, const nb_manifest *b)
{
    marks of = {0};
    uint64_t bytes = 0;
    if (!take_lock(s->lock, F_WRLCK, false))
        return;
    if (add_blobs(&of, a) == NB_OK && (!b || add_blobs(&of, b) == NB_OK))
        sweep(s, &of, &bytes, NULL);
    take_lock(s->lock, F_RDLCK, false);
    free(of.items);
}

/* ---- models ---- */

static nb_status no_such_model(const nb_name *name, nb_error *err)
{
    char text[NB_NAME_TEXT];
    nb_name_print(name, text);
    return nb_fail(err, NB_ERR_NOT_FOUND, "model '%s' not found", text);
}

/* As Ollama has it: each part that a name in the store has in other letters' case, from the host on, is written so. */
static nb_status adapt_name(void *user, const char *path, const nb_name *there, nb_error *err)
{
    nb_name *n = user;
    (void)path, (void)err;
    if (!there || strcasecmp(there->host, n->host) != 0)
        return NB_OK;
    strcpy(n->host, there->host);
    if (strcasecmp(there->space, n->space) != 0)
        return NB_OK;
    strcpy(n->space, there->space);
    if (strcasecmp(there->model, n->model) != 0)
        return NB_OK;
    strcpy(n->model, there->model);
    if (strcasecmp(there->tag, n->tag) == 0)
        strcpy(n->tag, there->tag);
    return NB_OK;
}

/* The path of the manifest that the name means: the one that is there, whatever letters' case, or where it will be. */
static nb_status manifest_path(nb_store *s, const nb_name *name, nb_buf *path, nb_error *err)
{
    nb_name as = *name;
    walk w = {.visit = adapt_name, .user = &as};
    NB_TRY(nb_store_path(s->root, name, NB_STR(""), path, err));
    if (access(path->data, F_OK) == 0)
        return NB_OK;
    path->len = 0;
    NB_TRY(walk_manifests(s, &w, err));
    return nb_store_path(s->root, &as, NB_STR(""), path, err);
}

static nb_status check_blob(nb_store *s, const nb_layer *l, nb_error *err)
{
    uint64_t size;
    NB_TRY(nb_blob_find(s, l->digest, &size, err));
    if (size == l->size)
        return NB_OK;
    return nb_fail(err, NB_ERR_FORMAT, "the blob %.*s has %llu bytes, not %llu as the manifest says; pull it again",
                   NB_STR_ARG(l->digest), (unsigned long long)size, (unsigned long long)l->size);
}

/* All are there, and stay when the power goes: who put one there may not have come to syncing its name. */
static nb_status check_blobs(nb_store *s, const nb_manifest *m, nb_error *err)
{
    nb_buf path = {0};
    if (m->config.digest.n)
        NB_TRY(check_blob(s, &m->config, err));
    for (size_t i = 0; i < m->count; i++)
        NB_TRY(check_blob(s, &m->layers[i], err));
    nb_buf_printf(&path, "%s/blobs/", s->root);
    nb_status status = path.failed ? nb_fail_memory(err, s->root, path.len) : nb_store_sync_folder(path.data, err);
    nb_buf_free(&path);
    return status;
}

/* A folder that is made may be gone before the file is in it: deletions remove empty ones. */
static nb_status place(nb_store *s, const char *from, const char *to, nb_error *err)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        nb_status status = make_folders(to, strlen(s->root) + 1, false, NULL);
        if (status == NB_OK && rename(from, to) == 0)
            return nb_store_sync_folder(to, err);
        if (errno != ENOENT)
            break;
    }
    return nb_store_fail(err, to, "write");
}

static nb_status write_manifest(nb_store *s, nb_str bytes, const char *to, nb_error *err)
{
    nb_buf path = {0};
    int fd = -1;
    nb_status status = nb_store_temporary(s, &path, &fd, err);
    if (status == NB_OK)
        status = nb_store_write_all(fd, path.data, bytes.p, bytes.n, err);
    if (status == NB_OK && fsync(fd) != 0)
        status = nb_store_fail(err, path.data, "write");
    if (fd >= 0)
        close(fd);
    if (status == NB_OK)
        status = place(s, path.data, to, err);
    if (status != NB_OK && path.len)
        unlink(path.data);
    nb_buf_free(&path);
    return status;
}

nb_status nb_model_put_bytes(nb_store *s, const nb_name *name, nb_str bytes, nb_error *err)
{
    char text[NB_NAME_TEXT];
    nb_buf path = {0};
    nb_manifest *m = NULL, *old = NULL;
    nb_name_print(name, text);
    nb_status status = nb_manifest_parse(text, bytes, &m, err);
    if (status == NB_OK && (status = check_blobs(s, m, err)) != NB_OK)
        status = nb_fail_prefix(err, status, "%s", text);
    if (status == NB_OK)
        status = manifest_path(s, name, &path, err);
    if (status == NB_OK && !nb_env_flag("OLLAMA_NOPRUNE") && nb_manifest_read(path.data, &old, NULL) == NB_OK)
        status = mark_blobs(s, old, err); /* a damaged one is simply replaced */
    if (status == NB_OK)
        status = write_manifest(s, bytes, path.data, err);
    if (status == NB_OK)
        sweep_manifests(s, m, old);
    nb_manifest_free(m);
    nb_manifest_free(old);
    nb_buf_free(&path);
    return status;
}

static void write_layer(nb_json *j, const nb_layer *l)
{
    nb_json_open(j, '{');
    nb_json_key(j, "mediaType");
    nb_json_str(j, l->media);
    nb_json_key(j, "digest");
    nb_json_str(j, l->digest);
    nb_json_put_uint(j, "size", l->size);
    if (l->from.n) {
        nb_json_key(j, "from");
        nb_json_str(j, l->from);
    }
    if (l->name.n) {
        nb_json_key(j, "name");
        nb_json_str(j, l->name);
    }
    nb_json_close(j, '}');
}

nb_status nb_model_put(nb_store *s, const nb_name *name, const nb_layer *config, const nb_layer *layers, size_t count,
                       nb_error *err)
{
    nb_buf text = {0};
    nb_json j = nb_json_begin(&text, false);
    nb_json_open(&j, '{');
    nb_json_put_int(&j, "schemaVersion", 2);
    nb_json_put_z(&j, "mediaType", "application/vnd.docker.distribution.manifest.v2+json");
    nb_json_key(&j, "config");
    write_layer(&j, config);
    nb_json_key(&j, "layers");
    nb_json_open(&j, '[');
    for (size_t i = 0; i < count; i++)
        write_layer(&j, &layers[i]);
    nb_json_close(&j, ']');
    nb_json_close(&j, '}');
    nb_buf_char(&text, '\n');
    nb_status status = text.failed ? nb_fail_memory(err, "manifest", text.len)
                                   : nb_model_put_bytes(s, name, nb_buf_view(&text), err);
    nb_buf_free(&text);
    return status;
}

nb_status nb_model_copy(nb_store *s, const nb_name *from, const nb_name *to, nb_error *err)
{
    nb_buf path = {0}, text = {0};
    nb_status status = manifest_path(s, from, &path, err);
    if (status == NB_OK && (status = nb_file_read(path.data, (size_t)16 << 20, &text, err)) == NB_ERR_NOT_FOUND)
        status = no_such_model(from, err);
    if (status == NB_OK)
        status = nb_model_put_bytes(s, to, nb_buf_view(&text), err);
    nb_buf_free(&path);
    nb_buf_free(&text);
    return status;
}

/* the folders above a manifest that are empty now */
static void remove_empty(const char *root, char *path)
{
    size_t keep = strlen(root) + strlen("/manifests");
    for (char *slash; (slash = strrchr(path, '/')) && (size_t)(slash - path) > keep;) {
        *slash = 0;
        if (rmdir(path) != 0)
            return;
    }
}

nb_status nb_model_delete(nb_store *s, const nb_name *name, nb_error *err)
{
    nb_buf path = {0};
    nb_manifest *m = NULL;
    nb_status status = manifest_path(s, name, &path, err);
    if (status == NB_OK && nb_manifest_read(path.data, &m, NULL) == NB_OK) /* a damaged one goes all the same */
        status = mark_blobs(s, m, err);
    if (status == NB_OK && unlink(path.data) != 0)
        status = errno == ENOENT || errno == ENOTDIR ? no_such_model(name, err)
                                                     : nb_store_fail(err, path.data, "remove");
    if (status == NB_OK)
        status = nb_store_sync_folder(path.data, err);
    if (status == NB_OK) {
        remove_empty(s->root, path.data);
        if (m)
            sweep_manifests(s, m, NULL);
    }
    nb_manifest_free(m);
    nb_buf_free(&path);
    return status;
}
