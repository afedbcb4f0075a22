/* entry.c - one model of a library: made of a manifest or of a loose file; its texts, facts and details, read once. */
#include "store/entry.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "hf/hf.h"
#include "hf/hf_missing.h"
#include "store/digest.h"
#include "store/write.h"
#include "text/reply.h"
#include "text/template_probe.h"

/* ---- stamps ---- */

bool nb_stamp_take(const char *path, nb_stamp *out)
{
    struct stat st;
    *out = (nb_stamp){0};
    if (stat(path, &st) != 0)
        return false;
    *out = (nb_stamp){st.st_dev, st.st_ino, st.st_size, st.st_mtim, st.st_ctim};
    return true;
}

static bool same_time(struct timespec a, struct timespec b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

bool nb_stamp_same(const nb_stamp *a, const nb_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           same_time(a->modified, b->modified) && same_time(a->changed, b->changed);
}

bool nb_stamp_settled(const nb_stamp *s)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double age = (double)(now.tv_sec - s->changed.tv_sec) + 1e-9 * (double)(now.tv_nsec - s->changed.tv_nsec);
    return age > 0.05; /* the coarsest tick is 10 ms */
}

/* ---- making and freeing ---- */

static nb_entry *entry_new(nb_entry_kind kind, const char *path, const nb_name *name, const nb_stamp *stamp)
{
    nb_entry *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->references = 1;
    e->kind = kind;
    e->name = *name;
    nb_name_print(name, e->text);
    e->stamp = *stamp;
    e->settled = nb_stamp_settled(stamp);
    e->path = strdup(path);
    pthread_mutex_init(&e->lock, NULL);
    if (e->path)
        return e;
    nb_entry_release(e);
    return NULL;
}

nb_entry *nb_entry_new_stored(const char *root, const char *path, const nb_name *name, const nb_stamp *stamp)
{
    nb_entry *e = entry_new(NB_ENTRY_STORED, path, name, stamp);
    if (e && !(e->root = strdup(root))) {
        nb_entry_release(e);
        return NULL;
    }
    if (e && nb_manifest_read(path, &e->manifest, &e->bad) == NB_OK) {
        e->bad.code = NB_OK;
        memcpy(e->digest, e->manifest->digest, sizeof e->digest);
        e->size = e->manifest->size;
    }
    return e;
}

nb_entry *nb_entry_retain(nb_entry *e)
{
    atomic_fetch_add(&e->references, 1);
    return e;
}

void nb_entry_release(nb_entry *e)
{
    if (!e || atomic_fetch_sub(&e->references, 1) != 1)
        return;
    nb_manifest_free(e->manifest);
    nb_contents_free(e->contents);
    nb_arena_free(&e->arena);
    pthread_mutex_destroy(&e->lock);
    free(e->path);
    free(e->root);
    free(e);
}

/* ---- loose files ---- */

static bool ends_with(nb_str s, const char *end)
{
    size_t n = strlen(end);
    return s.n >= n && memcmp(s.p + s.n - n, end, n) == 0;
}

/* "-00001-of-00003" at the end of a stem: its length, else 0; the number of shards */
static size_t shard_suffix(nb_str stem, int *shards)
{
    int first, n = 0;
    char tail[16];
    if (stem.n < 15)
        return 0;
    memcpy(tail, stem.p + stem.n - 15, 15);
    tail[15] = 0;
    return sscanf(tail, "-%5d-of-%5d%n", &first, shards, &n) == 2 && n == 15 ? 15 : 0;
}

static nb_str stem_of(nb_str base, int *shards)
{
    *shards = 1;
    if (ends_with(base, ".gguf")) {
        base.n -= 5;
        base.n -= shard_suffix(base, shards);
    }
    return base;
}

static uint64_t directory_bytes(const char *path)
{
    char file[PATH_MAX];
    uint64_t bytes = 0;
    DIR *d = opendir(path);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        nb_stamp stamp;
        nb_str name = nb_str_of(entry->d_name);
        int n = snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        if ((ends_with(name, ".safetensors") || ends_with(name, ".bin")) && n > 0 && (size_t)n < sizeof file &&
            nb_stamp_take(file, &stamp))
            bytes += (uint64_t)stamp.size;
    }
    if (d)
        closedir(d);
    return bytes;
}

/* of all shards of path, whose stem ends in "-00001-of-" and their number */
static uint64_t shard_bytes(const char *path, int shards)
{
    char file[PATH_MAX];
    uint64_t bytes = 0;
    size_t head = strlen(path) - strlen("-00001-of-00001.gguf");
    for (int i = 1; i <= shards; i++) {
        nb_stamp stamp;
        int n = snprintf(file, sizeof file, "%.*s-%05d-of-%05d.gguf", (int)head, path, i, shards);
        if (n > 0 && (size_t)n < sizeof file && nb_stamp_take(file, &stamp))
            bytes += (uint64_t)stamp.size;
    }
    return bytes;
}

static nb_status loose_digest(nb_entry *e, nb_error *err)
{
    nb_buf text = {0};
    nb_buf_printf(&text, "%s\n%llu\n%lld.%09ld\n", e->path, (unsigned long long)e->size,
                  (long long)e->stamp.modified.tv_sec, e->stamp.modified.tv_nsec);
    nb_status status = text.failed ? nb_fail_memory(err, e->path, 0)
                                   : nb_digest_bytes(text.data, text.len, e->digest, err);
    nb_buf_free(&text);
    return status;
}

/* What the file or directory is called: as the caller names it, not as links resolve, which may be a digest. */
static nb_str base_of(const char *path, char *real)
{
    nb_str s = nb_str_of(path);
    while (s.n > 1 && s.p[s.n - 1] == '/')
        s.n--;
    for (size_t i = s.n; i-- > 0;)
        if (s.p[i] == '/') {
            s = (nb_str){s.p + i + 1, s.n - i - 1};
            break;
        }
    if (s.n == 0 || nb_str_eqz(s, ".") || nb_str_eqz(s, "..")) {
        const char *slash = realpath(path, real) ? strrchr(real, '/') : NULL;
        s = nb_str_of(slash ? slash + 1 : "");
    }
    return s;
}

nb_status nb_entry_new_loose(const char *path, nb_entry **out, nb_error *err)
{
    nb_name name;
    nb_stamp stamp;
    struct stat st;
    char real[PATH_MAX];
    int shards;
    *out = NULL;
    if (stat(path, &st) != 0)
        return nb_fail(err, errno == ENOENT ? NB_ERR_NOT_FOUND : NB_ERR_IO, "%s: cannot open: %s; check the path", path,
                       strerror(errno));
    bool directory = S_ISDIR(st.st_mode);
    if (directory && !nb_hf_holds(path, "config.json"))
        return nb_hf_no_config(path, err);
    if (!directory && !S_ISREG(st.st_mode))
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: is no model; give a GGUF file or a directory with a config.json",
                       path);
    nb_stamp_take(path, &stamp);
    nb_name_from_stem(stem_of(base_of(path, real), &shards), &name);
    nb_entry *e = entry_new(directory ? NB_ENTRY_DIRECTORY : NB_ENTRY_FILE, path, &name, &stamp);
    if (!e)
        return nb_fail_memory(err, path, sizeof *e);
    e->size = directory ? directory_bytes(path) : shards > 1 ? shard_bytes(path, shards) : (uint64_t)stamp.size;
    nb_status status = loose_digest(e, err);
    if (status == NB_OK)
        *out = e;
    else
        nb_entry_release(e);
    return status;
}

/* ---- what is fixed ---- */

nb_entry_kind nb_entry_kind_of(const nb_entry *e) { return e->kind; }
const nb_name *nb_entry_name(const nb_entry *e) { return &e->name; }
const char *nb_entry_text(const nb_entry *e) { return e->text; }
const char *nb_entry_digest(const nb_entry *e) { return e->digest; }
uint64_t nb_entry_size(const nb_entry *e) { return e->size; }
struct timespec nb_entry_modified(const nb_entry *e) { return e->stamp.modified; }

/* ---- contents ---- */

static nb_status loose_contents(const nb_entry *e, nb_contents **out, nb_error *err)
{
    nb_contents *c = calloc(1, sizeof *c);
    if (!c || !(c->model = nb_arena_strdup(&c->arena, nb_str_of(e->path)))) {
        nb_contents_free(c);
        return nb_fail_memory(err, e->text, sizeof *c);
    }
    c->config.format = e->kind == NB_ENTRY_FILE ? NB_STR("gguf") : NB_STR("safetensors");
    *out = c;
    return NB_OK;
}

/* with the lock held */
static nb_status need_contents(nb_entry *e, nb_error *err)
{
    if (e->contents)
        return NB_OK;
    if (e->kind != NB_ENTRY_STORED)
        return loose_contents(e, &e->contents, err);
    if (nb_contents_read(e->root, e->manifest, &e->contents, err) == NB_OK)
        return NB_OK;
    return nb_fail_prefix(err, err ? err->code : NB_ERR_IO, "%s", e->text);
}

nb_status nb_entry_contents(nb_entry *e, const nb_contents **out, nb_error *err)
{
    pthread_mutex_lock(&e->lock);
    nb_status status = need_contents(e, err);
    *out = e->contents;
    pthread_mutex_unlock(&e->lock);
    return status;
}

/* ---- the file ---- */

nb_status nb_entry_check(const nb_entry *e, nb_error *err)
{
    for (size_t i = 0; e->manifest && i < e->manifest->count; i++)
        NB_TRY(nb_link_check(e->root, e->manifest->layers[i].digest, err));
    return NB_OK;
}

static nb_status open_source(const nb_entry *e, nb_source **out, nb_error *err)
{
    const nb_contents *c = e->contents;
    nb_stamp stamp;
    nb_hf_params as = {.packed = true};
    *out = NULL;
    if (e->kind == NB_ENTRY_DIRECTORY)
        return nb_hf_open_as(e->path, &as, out, err);
    if (c->config.remote_host.n)
        return nb_fail(err, NB_ERR_UNSUPPORTED,
                       "%s: it runs on %.*s, not on this machine; pull one that has its weights", e->text,
                       NB_STR_ARG(c->config.remote_host));
    if (!c->model)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "%s: it holds no GGUF file (its format is '%.*s'); pull one that does",
                       e->text, NB_STR_ARG(c->config.format));
    if (!nb_stamp_take(c->model, &stamp) && errno == ENOENT)
        return nb_fail(err, NB_ERR_IO, "%s: %s is missing; pull or create the model again", e->text, c->model);
    NB_TRY(nb_entry_check(e, err));
    return nb_source_open_gguf(c->model, out, err);
}

nb_status nb_entry_open(nb_entry *e, nb_source **out, nb_error *err)
{
    const nb_contents *c;
    *out = NULL;
    NB_TRY(nb_entry_contents(e, &c, err));
    return open_source(e, out, err);
}

/* with the lock held */
static nb_status need_facts(nb_entry *e, nb_error *err)
{
    nb_source *s;
    if (e->has_facts)
        return NB_OK;
    NB_TRY(need_contents(e, err));
    NB_TRY(open_source(e, &s, err));
    nb_status status = nb_facts_read(s, &e->arena, &e->facts, err);
    nb_source_free(s);
    e->has_facts = status == NB_OK;
    return status;
}

nb_status nb_entry_facts(nb_entry *e, const nb_facts **out, nb_error *err)
{
    pthread_mutex_lock(&e->lock);
    nb_status status = need_facts(e, err);
    *out = status == NB_OK ? &e->facts : NULL;
    pthread_mutex_unlock(&e->lock);
    return status;
}

/* ---- details ---- */

static const char *const capability_names[NB_CAPABILITIES] = {"completion", "tools", "insert", "embedding", "thinking"};

const char *nb_capability_name(int i) { return capability_names[i]; }

static unsigned said_capabilities(const nb_config *c)
{
    unsigned bits = 0;
    for (size_t i = 0; i < c->capability_count; i++)
        for (int b = 0; b < NB_CAPABILITIES; b++)
            if (nb_str_eqz(c->capabilities[i], capability_names[b]))
                bits |= 1u << b;
    return bits;
}

static unsigned template_capabilities(const nb_entry *e)
{
    const nb_contents *c = e->contents;
    nb_template_traits t = {0};
    nb_reply_format parser;
    unsigned bits = 0;
    if (c->has_template)
        nb_template_probe_go(c->go_template, &t);
    else if (e->has_facts && e->facts.chat_template.n)
        nb_template_probe_source(e->facts.chat_template, &t);
    if (nb_reply_named(c->config.parser, &parser)) {
        t.tools |= parser.calls != 0 || parser.harmony;
        t.thinking |= parser.think != NB_THINK_NONE || parser.harmony;
    }
    if (nb_str_eqz(c->config.family, "gptoss") || nb_str_eqz(c->config.family, "gpt-oss"))
        t.thinking = true;
    bits |= t.tools ? NB_CAN_TOOLS : 0;
    bits |= t.thinking ? NB_CAN_THINK : 0;
    bits |= t.suffix ? NB_CAN_INSERT : 0;
    return bits;
}

static void details_from_facts(nb_entry *e, nb_details *d)
{
    const nb_facts *f = &e->facts;
    if (!d->family.n)
        d->family = f->architecture;
    if (!d->family_count && d->family.n) {
        d->families = &e->details.family;
        d->family_count = 1;
    }
    if (!d->parameter_size.n)
        d->parameter_size = nb_str_of(f->parameter_size);
    if (!d->quantization_level.n || nb_str_eqz(d->quantization_level, "unknown"))
        d->quantization_level = nb_str_of(f->quantization);
    if (!d->context_length)
        d->context_length = f->context_length;
    if (!d->embedding_length)
        d->embedding_length = f->embedding_length;
    d->parameters = f->parameters;
    d->capabilities |= f->embeds ? NB_CAN_EMBED : NB_CAN_COMPLETE;
    d->capabilities |= f->infills ? NB_CAN_INSERT : 0;
}

/* with the lock held */
static nb_status need_details(nb_entry *e, nb_error *err)
{
    if (e->has_details)
        return NB_OK;
    NB_TRY(need_contents(e, err));
    const nb_config *c = &e->contents->config;
    nb_status facts = need_facts(e, NULL);
    if (facts == NB_ERR_MEMORY)
        return nb_fail_memory(err, e->text, sizeof e->facts);
    nb_details *d = &e->details;
    *d = (nb_details){.parent_model = e->contents->parent,
                      .format = c->format,
                      .family = c->family,
                      .parameter_size = c->type,
                      .quantization_level = c->file_type,
                      .families = c->families,
                      .family_count = c->family_count,
                      .context_length = c->context_length,
                      .embedding_length = c->embedding_length,
                      .capabilities = said_capabilities(c)};
    if (facts == NB_OK)
        details_from_facts(e, d);
    if (!(d->capabilities & NB_CAN_EMBED) && !c->remote_host.n)
        d->capabilities |= template_capabilities(e);
    e->has_details = true;
    return NB_OK;
}

nb_status nb_entry_details(nb_entry *e, const nb_details **out, nb_error *err)
{
    pthread_mutex_lock(&e->lock);
    nb_status status = need_details(e, err);
    *out = status == NB_OK ? &e->details : NULL;
    pthread_mutex_unlock(&e->lock);
    return status;
}

nb_status nb_entry_template(nb_entry *e, nb_str *source, bool *is_go, nb_error *err)
{
    *source = NB_STR("");
    *is_go = false;
    pthread_mutex_lock(&e->lock);
    nb_status status = need_contents(e, err);
    if (status == NB_OK && e->contents->has_template) {
        *is_go = true;
        *source = e->contents->go_template;
    } else if (status == NB_OK && (status = need_facts(e, err)) == NB_OK) {
        *source = e->facts.chat_template;
    }
    pthread_mutex_unlock(&e->lock);
    return status;
}
