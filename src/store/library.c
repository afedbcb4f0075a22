/* library.c - what is in the store and beside it, looked at again when it changed. */
#include "store/library.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

#include "store/entry.h"

#define MOST 100000 /* models; a tree of more is no model store */

typedef struct folder {
    char *path;
    nb_stamp stamp;
    bool there;
} folder;

struct nb_entry_list {
    atomic_int references;
    nb_entry **entries; /* good ones first, the newest before */
    size_t count, good, cap;
    char **problems;
    size_t problem_count, problem_cap;
    folder *folders;
    size_t folder_count, folder_cap;
    bool settled; /* no folder had just changed when it was read */
};

struct nb_library {
    char *root; /* NULL: no store */
    char **files;
    size_t file_count;
    pthread_mutex_t lock; /* of current */
    nb_entry_list *current;
};

/* ---- where ---- */

nb_status nb_store_root(nb_buf *path, nb_error *err)
{
    const char *given = getenv("OLLAMA_MODELS"), *home = getenv("HOME");
    nb_str s = nb_str_of(given);
    while (s.n && strchr(" \t\r\n\"'", s.p[s.n - 1]))
        s.n--;
    while (s.n && strchr(" \t\r\n\"'", s.p[0]))
        s.p++, s.n--;
    if (s.n)
        nb_buf_str(path, s);
    else if (home && *home)
        nb_buf_printf(path, "%s/.ollama/models", home);
    else
        return nb_fail(err, NB_ERR_NOT_FOUND,
                       "no model store: HOME is not set; set OLLAMA_MODELS to the store's folder");
    return path->failed ? nb_fail_memory(err, "path of the model store", s.n) : NB_OK;
}

const char *nb_library_root(const nb_library *l) { return l->root ? l->root : ""; }

/* ---- lists ---- */

static bool room(void **items, size_t *cap, size_t count, size_t size)
{
    if (count < *cap)
        return true;
    size_t more = *cap ? 2 * *cap : 16;
    void *bigger = realloc(*items, more * size);
    if (!bigger)
        return false;
    *items = bigger;
    *cap = more;
    return true;
}

void nb_entry_list_release(nb_entry_list *list)
{
    if (!list || atomic_fetch_sub(&list->references, 1) != 1)
        return;
    for (size_t i = 0; i < list->count; i++)
        nb_entry_release(list->entries[i]);
    for (size_t i = 0; i < list->problem_count; i++)
        free(list->problems[i]);
    for (size_t i = 0; i < list->folder_count; i++)
        free(list->folders[i].path);
    free(list->entries);
    free(list->problems);
    free(list->folders);
    free(list);
}

size_t nb_entry_list_count(const nb_entry_list *list) { return list->good; }
nb_entry *nb_entry_list_at(const nb_entry_list *list, size_t i) { return list->entries[i]; }
size_t nb_entry_list_problems(const nb_entry_list *list) { return list->problem_count; }
const char *nb_entry_list_problem(const nb_entry_list *list, size_t i) { return list->problems[i]; }

/* ---- reading the store ---- */

typedef struct scan {
    nb_library *library;
    nb_entry_list *list;
    const nb_entry_list *before; /* the last one, for entries that are as they were; may be NULL */
    nb_buf path;
    const char *parts[4];
    bool failed; /* out of memory */
} scan;

static void note_problem(scan *s, const char *text)
{
    nb_entry_list *l = s->list;
    char *copy = strdup(text);
    if (!copy || !room((void **)&l->problems, &l->problem_cap, l->problem_count, sizeof *l->problems)) {
        free(copy);
        s->failed = true;
        return;
    }
    l->problems[l->problem_count++] = copy;
}

static void add_entry(scan *s, nb_entry *e)
{
    nb_entry_list *l = s->list;
    if (!e || !room((void **)&l->entries, &l->cap, l->count, sizeof *l->entries)) {
        nb_entry_release(e);
        s->failed = true;
        return;
    }
    l->entries[l->count++] = e;
}

static nb_entry *as_before(const scan *s, const char *path, const nb_stamp *stamp)
{
    for (size_t i = 0; s->before && i < s->before->count; i++) {
        nb_entry *e = s->before->entries[i];
        if (e->settled && strcmp(e->path, path) == 0 && nb_stamp_same(&e->stamp, stamp))
            return nb_entry_retain(e);
    }
    return NULL;
}

static void read_tag(scan *s)
{
    nb_name name;
    nb_stamp stamp;
    const char *path = s->path.data;
    if (!nb_name_from_parts(s->parts[0], s->parts[1], s->parts[2], s->parts[3], &name)) {
        nb_buf text = {0};
        nb_buf_printf(&text, "%s: is no model name; remove the file", path);
        note_problem(s, text.failed ? "" : text.data);
        nb_buf_free(&text);
        return;
    }
    if (s->list->count >= MOST || !nb_stamp_take(path, &stamp))
        return;
    nb_entry *e = as_before(s, path, &stamp);
    if (!e)
        e = nb_entry_new_stored(s->library->root, path, &name, &stamp);
    if (e && e->bad.code != NB_OK)
        note_problem(s, e->bad.message);
    add_entry(s, e);
}

/* Remembers the folder with the stamp it had before it was read. */
static bool add_folder(scan *s, nb_stamp *stamp)
{
    nb_entry_list *l = s->list;
    char *copy = strdup(s->path.data);
    if (!copy || !room((void **)&l->folders, &l->folder_cap, l->folder_count, sizeof *l->folders)) {
        free(copy);
        s->failed = true;
        return false;
    }
    bool there = nb_stamp_take(copy, stamp);
    l->settled &= !there || nb_stamp_settled(stamp);
    l->folders[l->folder_count++] = (folder){copy, *stamp, there};
    return there;
}

static void read_folder(scan *s, int depth);

/* "PATH: WHAT: why; check its permissions" */
static void note_unreadable(scan *s, const char *what)
{
    nb_buf text = {0};
    nb_buf_printf(&text, "%s: %s: %s; check its permissions", s->path.data, what, strerror(errno));
    note_problem(s, text.failed ? "" : text.data);
    nb_buf_free(&text);
}

static void read_member(scan *s, int depth, const char *name)
{
    struct stat st;
    size_t length = s->path.len;
    nb_buf_printf(&s->path, "/%s", name);
    if (s->path.failed) {
        s->failed = true;
        return;
    }
    s->parts[depth] = name;
    if (stat(s->path.data, &st) != 0) {
        if (errno != ENOENT) /* a link to nowhere, or gone in this moment */
            note_unreadable(s, "cannot look at it");
    } else if (depth == 3 && !S_ISDIR(st.st_mode)) {
        read_tag(s);
    } else if (depth < 3 && S_ISDIR(st.st_mode)) {
        read_folder(s, depth + 1);
    }
    s->path.len = length;
    s->path.data[length] = 0;
}

/* the folder at s->path, whose members are hosts (0), namespaces, models or tags (3) */
static void read_folder(scan *s, int depth)
{
    nb_stamp stamp;
    if (!add_folder(s, &stamp))
        return;
    DIR *d = opendir(s->path.data);
    if (!d) {
        note_unreadable(s, "cannot read this folder");
        return;
    }
    for (struct dirent *member; !s->failed && (member = readdir(d));)
        if (member->d_name[0] != '.') /* the folders themselves, and what desktops leave behind */
            read_member(s, depth, member->d_name);
    closedir(d);
}

static int newest_first(const void *a, const void *b)
{
    const nb_entry *x = *(nb_entry *const *)a, *y = *(nb_entry *const *)b;
    if ((x->bad.code != NB_OK) != (y->bad.code != NB_OK))
        return x->bad.code != NB_OK ? 1 : -1;
    if (x->stamp.modified.tv_sec != y->stamp.modified.tv_sec)
        return x->stamp.modified.tv_sec > y->stamp.modified.tv_sec ? -1 : 1;
    if (x->stamp.modified.tv_nsec != y->stamp.modified.tv_nsec)
        return x->stamp.modified.tv_nsec > y->stamp.modified.tv_nsec ? -1 : 1;
    return strcmp(x->text, y->text);
}

/* A loose file hides the stored model of its name. */
static void hide_stored(nb_entry_list *l, size_t loose)
{
    for (size_t i = loose, kept = loose; i <= l->count; i++) {
        bool hidden = false;
        if (i == l->count) {
            l->count = kept;
            break;
        }
        for (size_t j = 0; j < loose; j++)
            hidden |= nb_name_same(&l->entries[j]->name, &l->entries[i]->name);
        if (hidden)
            nb_entry_release(l->entries[i]);
        else
            l->entries[kept++] = l->entries[i];
    }
}

static void read_loose(scan *s)
{
    for (size_t i = 0; i < s->library->file_count && !s->failed; i++) {
        nb_error why;
        nb_entry *e;
        nb_stamp stamp;
        const char *path = s->library->files[i];
        e = nb_stamp_take(path, &stamp) ? as_before(s, path, &stamp) : NULL;
        if (!e && nb_entry_new_loose(path, &e, &why) != NB_OK)
            note_problem(s, why.message);
        else
            add_entry(s, e);
    }
}

static nb_status read_library(nb_library *l, nb_entry_list **out, nb_error *err)
{
    scan s = {.library = l, .before = l->current};
    s.list = calloc(1, sizeof *s.list);
    *out = NULL;
    if (!s.list)
        return nb_fail_memory(err, "list of models", sizeof *s.list);
    s.list->references = 1;
    s.list->settled = true;
    read_loose(&s);
    size_t loose = s.list->count;
    if (l->root && !s.failed) {
        nb_buf_printf(&s.path, "%s/manifests", l->root);
        s.failed |= s.path.failed;
        if (!s.failed)
            read_folder(&s, 0);
        hide_stored(s.list, loose);
    }
    nb_buf_free(&s.path);
    if (s.failed) {
        nb_entry_list_release(s.list);
        return nb_fail_memory(err, "list of models", MOST);
    }
    if (s.list->count)
        qsort(s.list->entries, s.list->count, sizeof *s.list->entries, newest_first);
    while (s.list->good < s.list->count && s.list->entries[s.list->good]->bad.code == NB_OK)
        s.list->good++;
    *out = s.list;
    return NB_OK;
}

/* ---- looking again ---- */

static bool entry_unchanged(const nb_entry *e)
{
    nb_stamp now;
    return e->settled && nb_stamp_take(e->path, &now) && nb_stamp_same(&now, &e->stamp);
}

static bool unchanged(const nb_entry_list *l)
{
    for (size_t i = 0; i < l->folder_count; i++) {
        nb_stamp now;
        bool there = nb_stamp_take(l->folders[i].path, &now);
        if (there != l->folders[i].there || !nb_stamp_same(&now, &l->folders[i].stamp))
            return false;
    }
    for (size_t i = 0; i < l->count; i++)
        if (!entry_unchanged(l->entries[i]))
            return false;
    return l->settled;
}

/* with the lock held */
static nb_status refresh(nb_library *l, nb_error *err)
{
    nb_entry_list *fresh;
    if (l->current && unchanged(l->current))
        return NB_OK;
    NB_TRY(read_library(l, &fresh, err));
    nb_entry_list_release(l->current);
    l->current = fresh;
    return NB_OK;
}

nb_status nb_library_list(nb_library *l, nb_entry_list **out, nb_error *err)
{
    *out = NULL;
    pthread_mutex_lock(&l->lock);
    nb_status status = refresh(l, err);
    if (status == NB_OK) {
        atomic_fetch_add(&l->current->references, 1);
        *out = l->current;
    }
    pthread_mutex_unlock(&l->lock);
    return status;
}

/* the one written exactly so before those that differ in letters' case */
static nb_entry *look_up(const nb_entry_list *list, const nb_name *name)
{
    char text[NB_NAME_TEXT];
    nb_entry *similar = NULL;
    nb_name_print(name, text);
    for (size_t i = 0; list && i < list->count; i++) {
        nb_entry *e = list->entries[i];
        if (strcmp(e->text, text) == 0)
            return e;
        if (!similar && nb_name_same(&e->name, name))
            similar = e;
    }
    return similar;
}

nb_status nb_library_find(nb_library *l, nb_str text, nb_entry **out, nb_error *err)
{
    nb_name name;
    nb_status status = NB_OK;
    *out = NULL;
    NB_TRY(nb_name_parse(text, &name, err));
    pthread_mutex_lock(&l->lock);
    nb_entry *e = look_up(l->current, &name);
    if (!e || !entry_unchanged(e)) {
        status = refresh(l, err);
        e = status == NB_OK ? look_up(l->current, &name) : NULL;
    }
    if (e && e->bad.code == NB_OK)
        *out = nb_entry_retain(e);
    else if (e)
        status = nb_fail(err, e->bad.code, "%s", e->bad.message);
    else if (status == NB_OK)
        status = nb_fail(err, NB_ERR_NOT_FOUND, "model '%.*s' not found", NB_STR_ARG(text));
    pthread_mutex_unlock(&l->lock);
    return status;
}

/* ---- opening ---- */

/* Every file has to be there and no two may have one name: found out now, not by the first request. */
static nb_status check_files(const nb_library *l, nb_error *err)
{
    nb_entry **seen = calloc(l->file_count ? l->file_count : 1, sizeof *seen);
    nb_status status = seen ? NB_OK : nb_fail_memory(err, "files", l->file_count * sizeof *seen);
    for (size_t i = 0; i < l->file_count && status == NB_OK; i++) {
        status = nb_entry_new_loose(l->files[i], &seen[i], err);
        for (size_t j = 0; j < i && status == NB_OK; j++)
            if (nb_name_same(&seen[i]->name, &seen[j]->name))
                status = nb_fail(err, NB_ERR_ARGUMENT, "%s and %s would both be named %s; rename one of them",
                                 l->files[j], l->files[i], seen[i]->text);
    }
    for (size_t i = 0; seen && i < l->file_count; i++)
        nb_entry_release(seen[i]);
    free(seen);
    return status;
}

static nb_status take_root(nb_library *l, const char *given, nb_error *err)
{
    nb_buf path = {0};
    struct stat st;
    nb_status status = NB_OK;
    if (given)
        nb_buf_z(&path, given);
    else
        status = nb_store_root(&path, err);
    if (status == NB_OK && (path.failed || !(l->root = strdup(path.data ? path.data : ""))))
        status = nb_fail_memory(err, "path of the model store", path.len);
    if (status == NB_OK && stat(l->root, &st) == 0 && !S_ISDIR(st.st_mode))
        status = nb_fail(err, NB_ERR_ARGUMENT, "%s: the model store is no folder; set OLLAMA_MODELS to one", l->root);
    nb_buf_free(&path);
    return status;
}

static nb_status take_files(nb_library *l, const nb_library_params *p, nb_error *err)
{
    l->files = calloc(p->file_count ? p->file_count : 1, sizeof *l->files);
    if (!l->files)
        return nb_fail_memory(err, "files", p->file_count * sizeof *l->files);
    for (; l->file_count < p->file_count; l->file_count++)
        if (!(l->files[l->file_count] = strdup(p->files[l->file_count])))
            return nb_fail_memory(err, "files", p->file_count * sizeof *l->files);
    return check_files(l, err);
}

nb_status nb_library_open(const nb_library_params *params, nb_library **out, nb_error *err)
{
    *out = NULL;
    nb_library *l = calloc(1, sizeof *l);
    if (!l)
        return nb_fail_memory(err, "model library", sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    nb_status status = params->no_store ? NB_OK : take_root(l, params->root, err);
    if (status == NB_OK)
        status = take_files(l, params, err);
    if (status == NB_OK)
        *out = l;
    else
        nb_library_close(l);
    return status;
}

void nb_library_close(nb_library *l)
{
    if (!l)
        return;
    nb_entry_list_release(l->current);
    for (size_t i = 0; i < l->file_count; i++)
        free(l->files[i]);
    free(l->files);
    free(l->root);
    pthread_mutex_destroy(&l->lock);
    free(l);
}
