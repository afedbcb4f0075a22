/* whole_store.h - whether a store is whole: every manifest names blobs that are there and have their digests; and clean: nothing
 * else is there. Reads the folders itself. */
#ifndef NB_TESTS_WHOLE_STORE_H
#define NB_TESTS_WHOLE_STORE_H

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "store/digest.h"
#include "store/manifest.h"

enum { WS_BLOBS = 400 };

typedef struct ws_store {
    const char *root;
    char named[WS_BLOBS][72]; /* "sha256-HEX" */
    size_t named_count, models;
    char why[900]; /* empty: whole */
} ws_store;

static inline void ws_blob(ws_store *w, const char *manifest, nb_str digest, uint64_t size)
{
    char path[700], hex[NB_DIGEST_TEXT];
    nb_buf bytes = {0};
    if (w->named_count == WS_BLOBS || digest.n != 71)
        snprintf(w->why, sizeof w->why, "%.300s names too much, or no digest", manifest);
    if (w->why[0])
        return;
    snprintf(w->named[w->named_count++], sizeof w->named[0], "sha256-%.64s", digest.p + 7);
    snprintf(path, sizeof path, "%s/blobs/sha256-%.64s", w->root, digest.p + 7);
    if (nb_file_read(path, 1 << 26, &bytes, NULL) != NB_OK || bytes.len != size ||
        nb_digest_bytes(bytes.data ? bytes.data : "", bytes.len, hex, NULL) != NB_OK ||
        memcmp(hex, digest.p + 7, 64) != 0)
        snprintf(w->why, sizeof w->why, "%.300s: %.300s is missing or not what it should be", manifest, path);
    nb_buf_free(&bytes);
}

static inline void ws_manifest(ws_store *w, const char *path)
{
    nb_manifest *m;
    nb_error err;
    if (nb_manifest_read(path, &m, &err) != NB_OK) {
        snprintf(w->why, sizeof w->why, "%.800s", err.message);
        return;
    }
    w->models++;
    ws_blob(w, path, m->config.digest, m->config.size);
    for (size_t i = 0; i < m->count; i++)
        ws_blob(w, path, m->layers[i].digest, m->layers[i].size);
    nb_manifest_free(m);
}

static inline void ws_walk(ws_store *w, const char *folder)
{
    DIR *d = opendir(folder);
    struct stat st;
    char path[600];
    for (struct dirent *e; d && (e = readdir(d)) && !w->why[0];) {
        int n = snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] == '.' || n < 0 || (size_t)n >= sizeof path || stat(path, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode))
            ws_walk(w, path);
        else
            ws_manifest(w, path);
    }
    if (d)
        closedir(d);
}

/* Whether all models of the store at root are whole; how many there are. */
static inline bool ws_whole(ws_store *w, const char *root)
{
    char path[600];
    memset(w, 0, sizeof *w);
    w->root = root;
    snprintf(path, sizeof path, "%s/manifests", root);
    ws_walk(w, path);
    return !w->why[0];
}

static inline size_t ws_count(const char *root, const char *folder, const ws_store *named)
{
    char path[600];
    size_t count = 0;
    snprintf(path, sizeof path, "%s/%s", root, folder);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        bool known = e->d_name[0] == '.';
        for (size_t i = 0; named && !known && i < named->named_count; i++)
            known = strcmp(named->named[i], e->d_name) == 0;
        count += !known;
    }
    if (d)
        closedir(d);
    return count;
}

/* After ws_whole: whether there is nothing but what the models name. */
static inline bool ws_clean(ws_store *w)
{
    size_t blobs = ws_count(w->root, "blobs", w), files = ws_count(w->root, ".nibble/new", NULL),
           marks = ws_count(w->root, ".nibble/pending/blobs", NULL);
    if (blobs || files || marks)
        snprintf(w->why, sizeof w->why, "%zu blobs nobody names, %zu temporary files, %zu marks", blobs, files, marks);
    return !w->why[0];
}

#endif
