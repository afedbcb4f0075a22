#include "store/create_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "store/write_internal.h"

enum { NAME_BYTES = 200, DEPTH = 3, MOST_FILES = 10000 };

nb_status nb_create_check_name(nb_str name, nb_error *err)
{
    int parts = 1;
    bool good = name.n > 0 && name.n <= NAME_BYTES;
    for (size_t i = 0; good && i < name.n; i++) {
        bool begins = i == 0 || name.p[i - 1] == '/';
        good = (unsigned char)name.p[i] >= ' ' && name.p[i] != 0x7f && name.p[i] != '\\' &&
               !(begins && (name.p[i] == '.' || name.p[i] == '/'));
        parts += name.p[i] == '/';
    }
    if (good && name.p[name.n - 1] != '/' && parts <= DEPTH)
        return NB_OK;
    return nb_fail(err, NB_ERR_ARGUMENT, "invalid file name '%.*s': write one such as model.safetensors",
                   NB_STR_ARG(name));
}

/* the number of the shard that a name says it is; 0: none */
static int shard_of(nb_str name)
{
    char tail[21];
    int number, shards, n = 0;
    if (name.n < 20)
        return 0;
    memcpy(tail, name.p + name.n - 20, 20);
    tail[20] = 0;
    return sscanf(tail, "-%5d-of-%5d.gguf%n", &number, &shards, &n) == 2 && n == 20 ? number : 0;
}

bool nb_create_is_shard(nb_str name) { return shard_of(name) > 0; }

static int is_gguf(const struct dirent *e)
{
    nb_str name = nb_str_of(e->d_name);
    return name.n > 5 && e->d_name[0] != '.' && memcmp(name.p + name.n - 5, ".gguf", 5) == 0 && shard_of(name) < 2;
}

nb_status nb_create_each_gguf(const char *folder, nb_status (*add)(void *user, const char *path, nb_error *err),
                              void *user, size_t *found, nb_error *err)
{
    struct dirent **names = NULL;
    int count = scandir(folder, &names, is_gguf, alphasort);
    nb_status status = count < 0 ? nb_store_fail(err, folder, "read this folder") : NB_OK;
    *found = count > 0 ? (size_t)count : 0;
    for (int i = 0; i < count; i++) {
        nb_buf path = {0};
        nb_buf_printf(&path, "%s/%s", folder, names[i]->d_name);
        if (status == NB_OK)
            status = path.failed ? nb_fail_memory(err, folder, path.len) : add(user, path.data, err);
        nb_buf_free(&path);
        free(names[i]);
    }
    free(names);
    return status;
}

/* ---- a folder of links ---- */

static nb_status link_file(nb_store *s, const char *folder, const nb_create_file *f, nb_error *err)
{
    nb_buf blob = {0}, path = {0};
    nb_status status = nb_store_path(nb_store_path_of(s), NULL, f->digest, &blob, err);
    char *real = status == NB_OK ? realpath(blob.data, NULL) : NULL; /* the folder may be looked at from elsewhere */
    nb_buf_printf(&path, "%s/%.*s", folder, (int)f->name.n, f->name.p);
    if (status == NB_OK && (path.failed || !real))
        status = nb_fail(err, NB_ERR_IO, "%.*s: its blob is gone; send it again", NB_STR_ARG(f->name));
    for (char *p = path.data + strlen(folder) + 1; status == NB_OK && (p = strchr(p, '/')); *p++ = '/') {
        *p = 0;
        if (mkdir(path.data, 0777) != 0 && errno != EEXIST)
            status = nb_store_fail(err, path.data, "make this folder");
    }
    if (status == NB_OK && symlink(real, path.data) != 0)
        status = errno == EEXIST || errno == ENOTDIR
                     ? nb_fail(err, NB_ERR_ARGUMENT, "two files are called %.*s", NB_STR_ARG(f->name))
                     : nb_store_fail(err, path.data, "write");
    free(real);
    nb_buf_free(&blob);
    nb_buf_free(&path);
    return status;
}

nb_status nb_create_link_files(nb_store *s, const nb_create_file *files, size_t count, nb_buf *path, nb_error *err)
{
    if (count > MOST_FILES)
        return nb_fail(err, NB_ERR_LIMIT, "%zu files are more than the %d of a model", count, MOST_FILES);
    NB_TRY(nb_store_scratch(s, path, err));
    if (mkdir(path->data, 0777) != 0)
        return nb_store_fail(err, path->data, "make this folder");
    for (size_t i = 0; i < count; i++)
        if (!files[i].path)
            NB_TRY(link_file(s, path->data, &files[i], err));
    return NB_OK;
}

void nb_create_remove_files(nb_buf *path)
{
    uint64_t bytes = 0;
    if (path->len) {
        nb_store_empty(path->data, &bytes);
        rmdir(path->data);
    }
    path->len = 0;
}
