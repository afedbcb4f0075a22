/* Names, digests, manifests, configurations and parameters of any bytes: refused with a message, or such that every path
 * made of them lies in the store. The first byte chooses which. */
#include <stdlib.h>
#include <string.h>

#include "store/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ROOT/manifests/a/b/c/d or ROOT/blobs/sha256-hex, and nothing that leads elsewhere */
static void check_path(const nb_buf *path, bool blob)
{
    const char *p = path->data;
    int slashes = 0;
    if (strlen(p) != path->len || strncmp(p, blob ? "/r/blobs/sha256-" : "/r/manifests/", blob ? 16 : 13) != 0)
        abort();
    for (size_t i = 0; i < path->len; i++) {
        slashes += p[i] == '/';
        if (p[i] == '/' && (p[i + 1] == '.' || p[i + 1] == '/' || p[i + 1] == 0))
            abort();
        if ((unsigned char)p[i] <= ' ' || (unsigned char)p[i] >= 0x7f || p[i] == '\\')
            abort();
    }
    if (slashes != (blob ? 3 : 6) || (blob && path->len != 16 + 64))
        abort();
}

static void check_digest(nb_str digest)
{
    nb_buf path = {0};
    if (nb_store_path("/r", NULL, digest, &path, NULL) == NB_OK)
        check_path(&path, true);
    else if (path.len)
        abort();
    nb_buf_free(&path);
}

static void fuzz_name(nb_str text)
{
    nb_name name, again;
    nb_error err = {0};
    nb_buf path = {0};
    char printed[NB_NAME_TEXT];
    nb_name_from_stem(text, &name);
    nb_name_print(&name, printed);
    if (nb_name_parse(nb_str_of(printed), &again, NULL) != NB_OK || !nb_name_same(&name, &again))
        abort();
    check_digest(text);
    if (nb_name_parse(text, &name, &err) != NB_OK) {
        if (!err.message[0])
            abort();
        return;
    }
    nb_name_print(&name, printed);
    if (nb_name_parse(nb_str_of(printed), &again, NULL) != NB_OK || !nb_name_same(&name, &again) ||
        nb_store_path("/r", &name, NB_STR(""), &path, NULL) != NB_OK)
        abort();
    check_path(&path, false);
    nb_buf_free(&path);
}

static void fuzz_manifest(nb_str text)
{
    nb_manifest *m;
    nb_error err = {0};
    uint64_t sum;
    if (nb_manifest_parse("fuzz", text, &m, &err) != NB_OK) {
        if (m || !err.message[0])
            abort();
        return;
    }
    sum = m->config.size;
    for (size_t i = 0; i < m->count; i++) {
        nb_buf path = {0};
        sum += m->layers[i].size;
        if (nb_store_path("/r", NULL, m->layers[i].digest, &path, NULL) != NB_OK)
            abort();
        check_path(&path, true);
        nb_buf_free(&path);
    }
    if (sum != m->size || strlen(m->digest) != 64)
        abort();
    nb_manifest_free(m);
}

static void fuzz_params(nb_str text)
{
    nb_arena arena = {0};
    nb_buf out = {0};
    nb_param *params;
    size_t count;
    nb_options o = nb_options_defaults();
    if (nb_params_read("fuzz", text, &arena, &params, &count, NULL) == NB_OK) {
        nb_params_print(params, count, &out);
        if (nb_options_apply(&o, params, count, &arena, NULL, NULL, NULL) == NB_OK)
            for (size_t i = 0; i < o.stop_count; i++)
                if (o.stop[i].n > text.n)
                    abort();
    }
    nb_buf_free(&out);
    nb_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_arena arena = {0};
    nb_config config;
    if (size == 0)
        return 0;
    nb_str text = {(const char *)data + 1, size - 1};
    switch (data[0] % 4) {
    case 0: fuzz_name(text); break;
    case 1: fuzz_manifest(text); break;
    case 2: fuzz_params(text); break;
    case 3: nb_config_parse("fuzz", text, &arena, &config, NULL); break;
    }
    nb_arena_free(&arena);
    return 0;
}
