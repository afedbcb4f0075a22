/* A GGUF file of the hub's, in the store: so that it is listed, shown, run, copied and removed as other models are. The bytes stay the
 * cache's where a hard link can be made. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "convert/mix.h"
#include "registry/fields.h"
#include "registry/hub.h"
#include "registry/place.h"
#include "store/create.h"
#include "store/library.h"

/* Of "m-Q4_K_M.gguf", as hf.co has it, "Q4_K_M"; the whole name, which hf.co takes as well, where no type is told. */
static nb_str tag_of(nb_str file)
{
    nb_str stem = {file.p, file.n - strlen(".gguf")};
    size_t at = stem.n;
    while (at > 0 && stem.p[at - 1] != '-' && stem.p[at - 1] != '.')
        at--;
    nb_str last = {stem.p + at, stem.n - at};
    return nb_mix_by_name(last) ? last : file;
}

/* The model of this name is made of this blob already. */
static bool is_listed(const char *root, const char *text, nb_str hex)
{
    nb_library *l;
    nb_entry *e = NULL;
    const nb_contents *c;
    bool is = false;
    if (hex.n != 64 || nb_library_open(&(nb_library_params){.root = root}, &l, NULL) != NB_OK)
        return false;
    if (nb_library_find(l, nb_str_of(text), &e, NULL) == NB_OK && nb_entry_check(e, NULL) == NB_OK &&
        nb_entry_contents(e, &c, NULL) == NB_OK && c->model) {
        size_t n = strlen(c->model);
        is = n > 64 && memcmp(c->model + n - 64, hex.p, 64) == 0;
    }
    nb_entry_release(e);
    nb_library_close(l);
    return is;
}

static bool keeps_on(void *params, const char *status, uint64_t done, uint64_t total)
{
    const nb_transfer_params *p = params;
    (void)status, (void)done, (void)total;
    return !p->stop || !p->stop(p->user);
}

static nb_status make(const char *text, const char *path, const nb_transfer_params *p, nb_error *err)
{
    nb_store *s = NULL;
    nb_create_file file = {.path = path};
    nb_create_params c = {
        .files = &file, .file_count = 1, .link = true, .status = keeps_on, .user = (void *)(uintptr_t)p};
    NB_TRY(nb_name_parse(nb_str_of(text), &c.name, err));
    nb_transfer_tell(p, "verifying sha256 digest", NULL, 0, 0);
    NB_TRY(nb_store_open(p->root, &s, err));
    nb_status status = nb_create(s, &c, err);
    if (status == NB_ERR_IO) { /* no link into another file system: a copy */
        c.link = false;
        status = nb_create(s, &c, err);
    }
    nb_store_close(s);
    return status;
}

nb_status nb_hub_listed(const nb_hub_spec *spec, const char *path, const nb_transfer_params *p, nb_error *err)
{
    char text[2 * NB_NAME_TEXT], line[1200]; /* a name that is too long for a model is refused as such */
    size_t digits;
    unsigned number, parts;
    const char *slash = strrchr(path, '/');
    nb_str file = nb_str_of(slash ? slash + 1 : path);
    bool gguf = file.n > 5 && memcmp(file.p + file.n - 5, ".gguf", 5) == 0;
    if (!gguf || nb_shard_parse(file, &digits, &number, &parts))
        return NB_OK;
    snprintf(text, sizeof text, NB_HUB_HOST "/%.*s/%.*s:%.*s", NB_STR_ARG(spec->user), NB_STR_ARG(spec->repo),
             NB_STR_ARG(tag_of(file)));
    char *real = realpath(path, NULL); /* the cache's blob, named by its hash */
    if (!real)
        return nb_fail_memory(err, path, strlen(path));
    nb_error why = {0};
    const char *blob = strrchr(real, '/');
    nb_status status = is_listed(p->root, text, nb_str_of(blob ? blob + 1 : "")) ? NB_OK : make(text, real, p, &why);
    free(real);
    if (status == NB_ERR_CANCELLED)
        return nb_fail(err, status, "%s", why.message);
    if (status == NB_OK)
        snprintf(line, sizeof line, "listed as %s", text);
    else /* a file of the hub's can be used by its path all the same */
        snprintf(line, sizeof line, "not listed: %s", why.message);
    nb_transfer_tell(p, line, NULL, 0, 0);
    return NB_OK;
}
