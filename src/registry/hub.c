/* hf://: the files a name means, each fetched into the hub's cache and checked by the hash the hub knows it by. */
#define _GNU_SOURCE
#include "registry/hub.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/env.h"
#include "base/file.h"
#include "registry/download.h"
#include "registry/fields.h"
#include "registry/place.h"

enum { INFO_MAX = 32 << 20, HEAD_MAX = 64 << 10, HOPS = 5, WAIT_MS = 200 };

typedef struct hub {
    const nb_transfer_params *p;
    nb_hub_spec spec;
    nb_web *web;
    nb_arena arena;
    nb_buf folder; /* CACHE/models--USER--REPO */
    nb_hub_info info;
    size_t *chosen, count;
    bool single;
} hub;

static nb_status find_folder(hub *h, nb_error *err)
{
    nb_buf *b = &h->folder;
    if (nb_env_text("HF_HUB_CACHE"))
        nb_buf_z(b, nb_env_text("HF_HUB_CACHE"));
    else if (nb_env_text("HF_HOME"))
        nb_buf_printf(b, "%s/hub", nb_env_text("HF_HOME"));
    else if (nb_env_text("XDG_CACHE_HOME"))
        nb_buf_printf(b, "%s/huggingface/hub", nb_env_text("XDG_CACHE_HOME"));
    else if (nb_env_text("HOME"))
        nb_buf_printf(b, "%s/.cache/huggingface/hub", nb_env_text("HOME"));
    else
        return nb_fail(err, NB_ERR_ARGUMENT, "there is no place for the hub's files; set HF_HOME to a folder");
    nb_buf_printf(b, "/models--%.*s--%.*s", NB_STR_ARG(h->spec.user), NB_STR_ARG(h->spec.repo));
    return b->failed ? nb_fail_memory(err, "a path", b->len) : NB_OK;
}

/* Makes the folders above the last part of path. */
static nb_status make_folders(const char *path, nb_error *err)
{
    char *copy = strdup(path);
    nb_status status = copy ? NB_OK : nb_fail_memory(err, "a path", strlen(path));
    for (char *slash = copy ? strchr(copy + 1, '/') : NULL; slash && status == NB_OK; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(copy, 0777) != 0 && errno != EEXIST)
            status = nb_fail(err, NB_ERR_IO, "%s: cannot be made: %s; set HF_HOME to a folder of your own", copy,
                             strerror(errno));
        *slash = '/';
    }
    free(copy);
    return status;
}

/* ---- what the hub says ---- */

static void add_escaped(nb_buf *out, nb_str path) /* slashes stay */
{
    for (size_t i = 0; i < path.n; i++) {
        unsigned char c = (unsigned char)path.p[i];
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-_.~/", c);
        if (plain)
            nb_buf_char(out, (char)c);
        else
            nb_buf_printf(out, "%%%02X", c);
    }
}

static nb_status ask_info(hub *h, nb_error *err)
{
    nb_buf url = {0};
    nb_answer a = {0};
    char what[240];
    nb_buf_printf(&url, "/api/models/%.*s/%.*s/revision/", NB_STR_ARG(h->spec.user), NB_STR_ARG(h->spec.repo));
    for (size_t i = 0; i < h->spec.revision.n; i++) /* a branch may have slashes: here it is one part of the path */
        if (h->spec.revision.p[i] == '/')
            nb_buf_z(&url, "%2F");
        else
            nb_buf_char(&url, h->spec.revision.p[i]);
    nb_buf_z(&url, "?blobs=true");
    snprintf(what, sizeof what, "the repository %.*s/%.*s", NB_STR_ARG(h->spec.user), NB_STR_ARG(h->spec.repo));
    nb_request q = {.method = "GET", .url = url.data, .limit = INFO_MAX};
    nb_status status = url.failed ? nb_fail_memory(err, "an address", url.len) : nb_web_send(h->web, &q, &a, err);
    if (status == NB_OK && a.status != 200)
        status = nb_answer_fail(&a, what, err);
    if (status == NB_OK) {
        char *json = nb_arena_strdup(&h->arena, nb_buf_view(&a.body));
        status = json ? nb_hub_info_parse((nb_str){json, a.body.len}, &h->arena, &h->info, err)
                      : nb_fail_memory(err, "the hub's answer", a.body.len);
    }
    nb_answer_free(&a);
    nb_buf_free(&url);
    return status;
}

static void resolve_url(const hub *h, const nb_hub_file *f, nb_buf *url)
{
    nb_buf_printf(url, "/%.*s/%.*s/resolve/%.*s/", NB_STR_ARG(h->spec.user), NB_STR_ARG(h->spec.repo),
                  NB_STR_ARG(h->info.commit));
    add_escaped(url, f->name);
}

/* Size and hash of a file that the list said nothing of: what a HEAD of it says. */
static nb_status ask_file(hub *h, nb_hub_file *f, nb_error *err)
{
    nb_buf url = {0};
    nb_answer a = {0};
    nb_str etag = {0};
    nb_status status = NB_OK;
    resolve_url(h, f, &url);
    nb_request q = {.method = "HEAD", .limit = HEAD_MAX, .stay = true};
    for (int hop = 0; status == NB_OK && hop < HOPS; hop++) {
        q.url = url.data;
        status = url.failed ? nb_fail_memory(err, "an address", url.len) : nb_web_send(h->web, &q, &a, err);
        if (status != NB_OK || !nb_web_is_redirect(a.status) || nb_answer_field(&a, NB_FIELD_LINKED_ETAG).n)
            break;
        status = nb_web_redirect(h->web, &a, &url, err);
    }
    if (status == NB_OK && a.status != 200 && !nb_web_is_redirect(a.status))
        status = nb_answer_fail(&a, "asking for a file", err);
    bool linked = nb_answer_field(&a, NB_FIELD_LINKED_ETAG).n > 0;
    if (status == NB_OK &&
        (!nb_etag_parse(nb_answer_field(&a, linked ? NB_FIELD_LINKED_ETAG : NB_FIELD_ETAG), &etag) ||
         !nb_length_parse(nb_answer_field(&a, linked ? NB_FIELD_LINKED_SIZE : NB_FIELD_CONTENT_LENGTH), &f->size)))
        status = nb_fail(err, NB_ERR_FORMAT, "%.*s: it says neither the size nor the hash of %.*s; is it a hub?",
                         NB_STR_ARG(nb_url_host(a.url.data)), NB_STR_ARG(f->name));
    if (status == NB_OK) {
        f->etag = (nb_str){nb_arena_strdup(&h->arena, etag), etag.n};
        status = f->etag.p ? NB_OK : nb_fail_memory(err, "a hash", etag.n);
    }
    nb_answer_free(&a);
    nb_buf_free(&url);
    return status;
}

/* ---- the cache ---- */

static void snapshot_path(const hub *h, nb_str commit, nb_str file, nb_buf *out)
{
    nb_buf_printf(out, "%s/snapshots/%.*s", h->folder.data, NB_STR_ARG(commit));
    if (file.n) {
        nb_buf_char(out, '/');
        nb_buf_str(out, file);
    }
}

static bool file_there(const char *path, uint64_t size)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode) && (size == UINT64_MAX || (uint64_t)s.st_size == size);
}

/* The snapshot's file is a link to the blob, as many folders up as its name has. */
static nb_status link_snapshot(const hub *h, const nb_hub_file *f, nb_error *err)
{
    nb_buf path = {0}, to = {0};
    snapshot_path(h, h->info.commit, f->name, &path);
    nb_buf_z(&to, "../../");
    for (size_t i = 0; i < f->name.n; i++)
        if (f->name.p[i] == '/')
            nb_buf_z(&to, "../");
    nb_buf_printf(&to, "blobs/%.*s", NB_STR_ARG(f->etag));
    nb_status status = path.failed || to.failed ? nb_fail_memory(err, "a path", path.len)
                                                : make_folders(path.data, err);
    if (status == NB_OK && !file_there(path.data, f->size)) {
        unlink(path.data); /* a link that leads nowhere, or to something else */
        if (symlink(to.data, path.data) != 0 && errno != EEXIST)
            status = nb_fail(err, NB_ERR_IO, "%s: cannot be made: %s", path.data, strerror(errno));
    }
    nb_buf_free(&path);
    nb_buf_free(&to);
    return status;
}

static nb_status write_ref(const hub *h, nb_error *err)
{
    nb_buf path = {0};
    nb_writer *w = NULL;
    nb_buf_printf(&path, "%s/refs/%.*s", h->folder.data, NB_STR_ARG(h->spec.revision));
    nb_status status = path.failed ? nb_fail_memory(err, "a path", path.len) : make_folders(path.data, err);
    if (status == NB_OK)
        status = nb_writer_open(path.data, &w, err);
    if (status == NB_OK && (status = nb_writer_write(w, h->info.commit.p, h->info.commit.n, err)) != NB_OK)
        nb_writer_abort(w);
    else if (status == NB_OK)
        status = nb_writer_commit(w, err);
    nb_buf_free(&path);
    return status;
}

/* What an earlier run left, when the hub cannot be asked: all parts of the file, or a directory with its configuration. */
static bool use_cache(const hub *h, nb_buf *where)
{
    nb_buf ref = {0}, path = {0}, commit = {0};
    size_t digits;
    unsigned number, parts = 1;
    bool commit_said = h->spec.revision.n == 40, good;
    nb_buf_printf(&ref, "%s/refs/%.*s", h->folder.data, NB_STR_ARG(h->spec.revision));
    if (commit_said)
        nb_buf_str(&commit, h->spec.revision);
    good = !ref.failed && (commit_said || nb_file_read(ref.data, 128, &commit, NULL) == NB_OK) && commit.len == 40 &&
           strspn(commit.data, "0123456789abcdef") == 40;
    bool sharded = nb_shard_parse(h->spec.file, &digits, &number, &parts);
    for (unsigned i = 1; good && i <= parts; i++) {
        nb_buf_clear(&path);
        snapshot_path(h, nb_buf_view(&commit), h->spec.file, &path);
        if (h->spec.file.n == 0)
            nb_buf_z(&path, "/config.json");
        if (sharded && !path.failed) {
            char five[8];
            snprintf(five, sizeof five, "%05u", i % 100000);
            memcpy(path.data + path.len - h->spec.file.n + digits, five, 5);
        }
        good = !path.failed && file_there(path.data, UINT64_MAX);
    }
    if (good)
        snapshot_path(h, nb_buf_view(&commit), h->spec.file, where);
    nb_buf_free(&ref);
    nb_buf_free(&path);
    nb_buf_free(&commit);
    return good;
}

static nb_status check_space(const hub *h, nb_error *err)
{
    struct statvfs v;
    uint64_t needed = 0;
    for (size_t i = 0; i < h->count; i++) {
        const nb_hub_file *f = &h->info.files[h->chosen[i]];
        nb_buf path = {0};
        nb_buf_printf(&path, "%s/blobs/%.*s", h->folder.data, NB_STR_ARG(f->etag));
        if (!path.failed && !file_there(path.data, f->size) &&
            __builtin_add_overflow(needed, f->size - nb_partial_there(path.data, f->size), &needed))
            needed = UINT64_MAX;
        nb_buf_free(&path);
    }
    nb_buf path = {0};
    nb_buf_printf(&path, "%s/blobs/x", h->folder.data);
    nb_status status = path.failed ? nb_fail_memory(err, "a path", path.len) : make_folders(path.data, err);
    nb_buf_free(&path);
    NB_TRY(status);
    if (statvfs(h->folder.data, &v) != 0 || needed <= (uint64_t)v.f_bavail * v.f_frsize)
        return NB_OK;
    return nb_fail(err, NB_ERR_LIMIT,
                   "%s: %" PRIu64 " MB are to come and %" PRIu64 " MB are free; make room, or set HF_HOME",
                   h->folder.data, needed / 1000000 + 1, (uint64_t)v.f_bavail * v.f_frsize / 1000000);
}

/* ---- one file ---- */

typedef struct telling {
    const hub *h;
    char status[300], digest[80];
} telling;

static bool tell(void *user, uint64_t done, uint64_t total)
{
    const telling *t = user;
    nb_transfer_tell(t->h->p, t->status, t->digest, total, done);
    return true;
}

static nb_status check_hash(const hub *h, const nb_hub_file *f, nb_partial *p, nb_error *err)
{
    char hex[65];
    if (f->etag.n != 40 && f->etag.n != 64)
        return NB_OK; /* a mirror's own ETag says nothing of the content */
    nb_transfer_tell(h->p, "verifying the hash", NULL, 0, 0);
    NB_TRY(nb_partial_hash(p, f->etag.n == 40, h->p->stop, h->p->user, hex, err));
    if (nb_str_eqz(f->etag, hex))
        return NB_OK;
    return nb_fail(
        err, NB_ERR_FORMAT,
        "%.*s arrived with the hash %.12s, not %.12s: it was damaged or exchanged on the way; it is removed, "
        "pull again to fetch it anew",
        NB_STR_ARG(f->name), hex, f->etag.p);
}

static nb_status download(hub *h, const nb_hub_file *f, telling *t, nb_partial *p, nb_error *err)
{
    nb_buf url = {0};
    char etag[130];
    resolve_url(h, f, &url);
    snprintf(etag, sizeof etag, "%.*s", NB_STR_ARG(f->etag));
    nb_download d = {.url = url.data, .etag = etag, .what = t->status + 8, .tell = tell, .user = t};
    nb_status status = url.failed ? nb_fail_memory(err, "an address", url.len) : nb_download_run(h->web, &d, p, err);
    bool arrived = status == NB_OK;
    if (arrived)
        status = check_hash(h, f, p, err);
    if (status == NB_OK)
        status = nb_partial_commit(p, err);
    else if (arrived && status == NB_ERR_FORMAT)
        nb_partial_remove(p);
    else
        nb_partial_close(p);
    nb_buf_free(&url);
    return status;
}

static nb_status fetch(hub *h, const nb_hub_file *f, nb_error *err)
{
    telling t = {.h = h};
    nb_buf path = {0};
    nb_partial *p = NULL;
    nb_status status = NB_OK;
    snprintf(t.status, sizeof t.status, "pulling %.*s", NB_STR_ARG(f->name));
    snprintf(t.digest, sizeof t.digest, "%s:%.64s", f->etag.n == 64 ? "sha256" : "git", f->etag.p);
    nb_buf_printf(&path, "%s/blobs/%.*s", h->folder.data, NB_STR_ARG(f->etag));
    if (path.failed)
        return nb_fail_memory(err, "a path", path.len);
    while (status == NB_OK && !p && !file_there(path.data, f->size)) {
        status = nb_partial_open(path.data, f->size, h->p->part_bytes, &p, err);
        if (p && file_there(path.data, f->size)) {
            nb_partial_remove(p);
            p = NULL;
        } else if (status == NB_OK && !p) {
            tell(&t, nb_partial_there(path.data, f->size), f->size);
            status = nb_transfer_sleep(h->p, WAIT_MS, err);
        }
    }
    if (status == NB_OK && !p)
        nb_partial_forget(path.data);
    if (status == NB_OK) {
        tell(&t, p ? nb_partial_done(p) : f->size, f->size);
        status = p ? download(h, f, &t, p, err) : NB_OK;
    }
    if (status == NB_OK)
        status = link_snapshot(h, f, err);
    nb_buf_free(&path);
    return status;
}

/* ---- the whole ---- */

static nb_status fetch_all(hub *h, nb_buf *where, nb_error *err)
{
    for (size_t i = 0; i < h->count; i++) {
        nb_hub_file *f = &h->info.files[h->chosen[i]];
        if (f->etag.n == 0 || f->size == UINT64_MAX)
            NB_TRY(ask_file(h, f, err));
    }
    NB_TRY(check_space(h, err));
    for (size_t i = 0; i < h->count; i++)
        NB_TRY(fetch(h, &h->info.files[h->chosen[i]], err));
    NB_TRY(write_ref(h, err));
    snapshot_path(h, h->info.commit, h->single ? h->info.files[h->chosen[0]].name : (nb_str){0}, where);
    return NB_OK;
}

static nb_status run(hub *h, nb_buf *where, nb_error *err)
{
    NB_TRY(find_folder(h, err));
    nb_transfer_tell(h->p, "pulling manifest", NULL, 0, 0);
    bool fixed = h->spec.revision.n == 40 && h->spec.file.n; /* nothing can have changed */
    if (fixed && use_cache(h, where))
        return NB_OK;
    nb_status status = ask_info(h, err);
    if (status == NB_ERR_IO && use_cache(h, where))
        return NB_OK;
    NB_TRY(status);
    NB_TRY(nb_hub_choose(&h->info, h->spec.file, &h->arena, &h->chosen, &h->count, &h->single, err));
    return fetch_all(h, where, err);
}

nb_status nb_hub_pull(const char *text, const nb_transfer_params *p, nb_buf *where, nb_error *err)
{
    hub h = {.p = p};
    nb_buf path = {0};
    NB_TRY(nb_hub_parse(nb_str_of(text), &h.spec, err));
    nb_status status = nb_place_open_hub(p, &h.web, err);
    if (status == NB_OK)
        status = run(&h, &path, err);
    if (status == NB_OK && where)
        nb_buf_str(where, nb_buf_view(&path));
    if (status == NB_OK && (path.failed || (where && where->failed)))
        status = nb_fail_memory(err, "a path", path.len);
    if (status == NB_OK)
        status = nb_hub_listed(&h.spec, path.data, p, err);
    if (status == NB_OK)
        nb_transfer_tell(p, "success", NULL, 0, 0);
    nb_web_close(h.web);
    nb_arena_free(&h.arena);
    nb_buf_free(&h.folder);
    nb_buf_free(&path);
    return status;
}
