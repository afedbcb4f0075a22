/* Names of the hub's files, what its API says of a repository, and which files a name means. */
#include <stdio.h>
#include <strings.h>

#include "base/json_read.h"
#include "registry/fields.h"
#include "registry/hub.h"

enum { NAME_MAX_BYTES = 96, FILE_MAX = 512, REVISION_MAX = 128 };

/* ---- names ---- */

static bool word_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
}

static bool good_word(nb_str s, size_t most)
{
    if (s.n == 0 || s.n > most || *s.p == '.' || *s.p == '-')
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!word_char(s.p[i]) || (s.p[i] == '.' && i + 1 < s.n && s.p[i + 1] == '.'))
            return false;
    return true;
}

/* Parts between slashes that are neither empty nor . nor .. nor hold controls. */
static bool good_path(nb_str s, size_t most)
{
    if (s.n == 0 || s.n > most)
        return false;
    for (size_t i = 0, from = 0; i <= s.n; i++) {
        if (i < s.n && s.p[i] != '/') {
            if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f || s.p[i] == '\\')
                return false;
            continue;
        }
        nb_str part = {s.p + from, i - from};
        if (part.n == 0 || part.n > 255 || nb_str_eqz(part, ".") || nb_str_eqz(part, ".."))
            return false;
        from = i + 1;
    }
    return true;
}

static bool cut(nb_str *s, char c, nb_str *before)
{
    const char *at = s->n ? memchr(s->p, c, s->n) : NULL;
    if (!at)
        return false;
    *before = (nb_str){s->p, (size_t)(at - s->p)};
    *s = (nb_str){at + 1, s->n - before->n - 1};
    return true;
}

nb_status nb_hub_parse(nb_str text, nb_hub_spec *out, nb_error *err)
{
    nb_hub_spec spec = {.revision = NB_STR("main")};
    nb_str s = text, rest = {0};
    bool good = nb_str_starts(s, NB_STR(NB_HUB_SCHEME));
    s = good ? (nb_str){s.p + 5, s.n - 5} : s;
    if (good && cut(&s, '@', &rest)) {
        spec.revision = s;
        s = rest;
    }
    good = good && cut(&s, '/', &spec.user);
    if (good && !cut(&s, '/', &spec.repo))
        spec.repo = s;
    else
        spec.file = s;
    good = good && good_word(spec.user, NAME_MAX_BYTES) && good_word(spec.repo, NAME_MAX_BYTES) &&
           good_path(spec.revision, REVISION_MAX) && (spec.file.p == NULL || good_path(spec.file, FILE_MAX));
    for (size_t i = 0; good && i < spec.revision.n; i++)
        good = word_char(spec.revision.p[i]) || spec.revision.p[i] == '/';
    if (!good)
        return nb_fail(err, NB_ERR_ARGUMENT, "'%.*s' is no name on the hub; write hf://USER/REPO[/FILE][@REVISION]",
                       NB_STR_ARG(text));
    *out = spec;
    return NB_OK;
}

/* ---- the API's answer ---- */

static bool is_hex(nb_str s, size_t n)
{
    for (size_t i = 0; i < s.n; i++)
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f')))
            return false;
    return s.n == n;
}

static void read_lfs(nb_json_reader *r, nb_hub_file *f)
{
    nb_json_read_enter(r, '{');
    while (nb_json_read_more(r)) {
        nb_str key = nb_json_read_key(r);
        if (nb_str_eqz(key, "sha256") || nb_str_eqz(key, "oid")) {
            nb_str hash = nb_json_read_str(r);
            if (is_hex(hash, 64))
                f->etag = hash;
        } else if (nb_str_eqz(key, "size")) {
            f->size = nb_json_read_u64(r);
        } else {
            nb_json_read_skip(r);
        }
    }
}

static void read_file(nb_json_reader *r, nb_hub_file *f)
{
    nb_str git = {0};
    *f = (nb_hub_file){.size = UINT64_MAX};
    nb_json_read_enter(r, '{');
    while (nb_json_read_more(r)) {
        nb_str key = nb_json_read_key(r);
        char next = nb_json_read_peek(r);
        if (nb_str_eqz(key, "rfilename"))
            f->name = nb_json_read_str(r);
        else if (nb_str_eqz(key, "size") && next == '0')
            f->size = nb_json_read_u64(r);
        else if (nb_str_eqz(key, "blobId") && next == '"')
            git = nb_json_read_str(r);
        else if (nb_str_eqz(key, "lfs") && next == '{')
            read_lfs(r, f);
        else
            nb_json_read_skip(r);
    }
    if (f->etag.n == 0 && is_hex(git, 40))
        f->etag = git;
    if (r->status == NB_OK && !good_path(f->name, FILE_MAX))
        nb_json_read_fail(r, r->at, NB_ERR_FORMAT, "a file's name leads out of the repository");
}

static size_t count_files(nb_json_reader r) /* a copy: the text is read twice */
{
    size_t n = 0;
    r.err = NULL;
    nb_json_read_enter(&r, '[');
    for (; nb_json_read_more(&r); n++)
        nb_json_read_skip(&r);
    return n;
}

nb_status nb_hub_info_parse(nb_str json, nb_arena *arena, nb_hub_info *out, nb_error *err)
{
    nb_json_reader r = nb_json_read_begin("the hub's answer", json, arena, err);
    *out = (nb_hub_info){0};
    nb_json_read_enter(&r, '{');
    while (nb_json_read_more(&r)) {
        nb_str key = nb_json_read_key(&r);
        if (nb_str_eqz(key, "sha") && nb_json_read_peek(&r) == '"') {
            out->commit = nb_json_read_str(&r);
        } else if (nb_str_eqz(key, "siblings") && nb_json_read_peek(&r) == '[' && !out->files) {
            size_t n = count_files(r);
            out->files = NB_ARRAY(arena, nb_hub_file, n + 1);
            if (!out->files)
                return nb_fail_memory(err, "the hub's list of files", n * sizeof *out->files);
            nb_json_read_enter(&r, '[');
            while (nb_json_read_more(&r) && out->count < n)
                read_file(&r, &out->files[out->count++]);
        } else {
            nb_json_read_skip(&r);
        }
    }
    NB_TRY(nb_json_read_end(&r));
    if (!is_hex(out->commit, 40))
        return nb_fail(err, NB_ERR_FORMAT, "the hub's answer names no commit; is HF_ENDPOINT or --registry a hub?");
    return NB_OK;
}

/* ---- which files ---- */

static bool ends(nb_str s, const char *end)
{
    size_t n = strlen(end);
    return s.n >= n && strncasecmp(s.p + s.n - n, end, n) == 0;
}

static bool contains(nb_str s, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= s.n; i++)
        if (strncasecmp(s.p + i, word, n) == 0)
            return true;
    return false;
}

static const nb_hub_file *find(const nb_hub_info *info, nb_str name, size_t *at)
{
    for (size_t i = 0; i < info->count; i++)
        if (nb_str_eq(info->files[i].name, name)) {
            *at = i;
            return &info->files[i];
        }
    return NULL;
}

static nb_status no_file(const nb_hub_info *info, nb_str file, const char *end, nb_error *err)
{
    char list[300] = "";
    size_t used = 0, shown = 0;
    for (size_t i = 0; i < info->count && used + 1 < sizeof list && shown < 12; i++)
        if (ends(info->files[i].name, end)) {
            int n = snprintf(list + used, sizeof list - used, "%s%.*s", shown++ ? ", " : "",
                             NB_STR_ARG(info->files[i].name));
            used += n > 0 ? (size_t)n : 0;
        }
    if (file.n)
        return nb_fail(err, NB_ERR_NOT_FOUND, "the repository has no file %.*s%s%s", NB_STR_ARG(file),
                       shown ? "; it has " : "", list);
    return nb_fail(err, NB_ERR_NOT_FOUND,
                   shown ? "the repository has several models; name one, as hf://USER/REPO/FILE: %s"
                         : "the repository has neither a checkpoint nor a GGUF file%s",
                   list);
}

/* A file, with all of its parts. */
static nb_status choose_file(const nb_hub_info *info, nb_str file, nb_arena *arena, size_t *chosen, size_t *count,
                             nb_error *err)
{
    size_t at, digits;
    unsigned number, parts;
    const char *dot = file.n > 5 && ends(file, ".gguf") ? ".gguf" : ".safetensors";
    if (!find(info, file, &at))
        return no_file(info, file, dot, err);
    chosen[(*count)++] = at;
    if (!nb_shard_parse(file, &digits, &number, &parts))
        return NB_OK;
    *count = 0;
    char *name = nb_arena_strdup(arena, file);
    for (unsigned i = 1; name && i <= parts; i++) { /* names differ: no more than there are files */
        char five[8];
        snprintf(five, sizeof five, "%05u", i % 100000);
        memcpy(name + digits, five, 5);
        if (!find(info, (nb_str){name, file.n}, &at))
            return nb_fail(err, NB_ERR_NOT_FOUND, "%.*s is one of %u parts, and part %u is missing in the repository",
                           NB_STR_ARG(file), parts, i);
        chosen[(*count)++] = at;
    }
    return name ? NB_OK : nb_fail_memory(err, "a name", file.n);
}

/* Files beside which a directory is a model; weights of one kind only. */
static bool of_checkpoint(nb_str name, const char *weights, bool named_model)
{
    static const char *const others[] = {".json", ".txt", ".model", ".jinja", ".tiktoken"};
    if (memchr(name.p, '/', name.n))
        return false;
    if (ends(name, weights))
        return !named_model || !nb_str_starts(name, NB_STR("consolidated"));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (ends(name, others[i]))
            return true;
    return false;
}

static bool choose_checkpoint(const nb_hub_info *info, const char *weights, size_t *chosen, size_t *count)
{
    bool any = false, named_model = false;
    for (size_t i = 0; i < info->count; i++) {
        nb_str name = info->files[i].name;
        bool top = !memchr(name.p, '/', name.n);
        any |= top && ends(name, weights);
        named_model |= top && ends(name, weights) && nb_str_starts(name, NB_STR("model"));
    }
    for (size_t i = 0; any && i < info->count; i++)
        if (of_checkpoint(info->files[i].name, weights, named_model))
            chosen[(*count)++] = i;
    return any;
}

/* The one GGUF file of a repository, or the first part of it; of several the usual one. */
static bool choose_gguf(const nb_hub_info *info, nb_str *file)
{
    size_t digits, models = 0, usual = 0;
    unsigned number, parts;
    nb_str only = {0}, best = {0};
    for (size_t i = 0; i < info->count; i++) {
        nb_str name = info->files[i].name;
        if (!ends(name, ".gguf") || contains(name, "mmproj") ||
            (nb_shard_parse(name, &digits, &number, &parts) && number > 1))
            continue;
        models++;
        only = name;
        if (contains(name, "Q4_K_M")) {
            usual++;
            best = name;
        }
    }
    *file = models == 1 ? only : best;
    return models == 1 || usual == 1;
}

nb_status nb_hub_choose(const nb_hub_info *info, nb_str file, nb_arena *arena, size_t **chosen, size_t *count,
                        bool *single, nb_error *err)
{
    *count = 0;
    *single = true;
    *chosen = NB_ARRAY(arena, size_t, info->count + 1);
    if (!*chosen)
        return nb_fail_memory(err, "a list of files", info->count * sizeof **chosen);
    if (file.n == 0) {
        *single = false;
        if (choose_checkpoint(info, ".safetensors", *chosen, count))
            return NB_OK;
        *single = true;
        if (!choose_gguf(info, &file)) {
            *single = false;
            return choose_checkpoint(info, ".bin", *chosen, count) ? NB_OK : no_file(info, file, ".gguf", err);
        }
    }
    return choose_file(info, file, arena, *chosen, count, err);
}
