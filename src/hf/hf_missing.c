#include "hf/hf_missing.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "hf/hf_json.h"

enum { PATH = 4096, NAME = 256 };

bool nb_hf_is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool nb_hf_holds(const char *dir, const char *name)
{
    char path[PATH];
    struct stat info;
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && (size_t)n < sizeof path && stat(path, &info) == 0;
}

nb_status nb_hf_read_file(const char *path, size_t limit, nb_buf *out, nb_error *err)
{
    NB_TRY(nb_file_read(path, limit, out, err));
    if (!nb_str_starts(nb_buf_view(out), NB_STR("version https://git-lfs")))
        return NB_OK;
    return nb_fail(err, NB_ERR_FORMAT,
                   "%s: this is a Git LFS pointer, not the file itself; run 'git lfs pull' or download it again", path);
}

/* ---- what is there: a row a mistake, the first that fits is told ---- */

#define WHOLE "download the whole model, config.json and all *.safetensors"
#define OWN_FORM "download the one in the form of transformers, which has a config.json"

typedef struct row {
    const char *begin, *end; /* of a file's name */
    const char *inside;      /* it is a folder that holds this; NULL: it is no folder */
    const char *what;        /* behind "DIR: "; %s is the file's name */
} row;

static const row without_config[] = {
    {"model_index.json", "", NULL,
     "is a pipeline of diffusers (%s), which makes pictures or sound; give the directory of a language model"},
    {"", ".gguf", NULL, "has no config.json, but the GGUF file %s; give that file"},
    {"", "", "config.json", "has no config.json, but its folder %s has one; give that folder"},
    {"params.json", "", NULL, "holds a model in the form of its makers (%s); " OWN_FORM},
    {"consolidated", "", NULL, "holds a model in the form of its makers (%s); " OWN_FORM},
    {"", ".safetensors", NULL,
     "has weights (%s), but no config.json, which says what model they are; download config.json to them"},
    {"", ".bin", NULL,
     "has weights (%s), but no config.json, which says what model they are; download config.json to them"},
    {"", ".safetensors.index.json", NULL, "has an index of shards (%s) alone; " WHOLE},
    {"tokenizer", "", NULL, "has the files of a tokenizer alone (%s, no config.json); " WHOLE},
    {"vocab.", "", NULL, "has the files of a tokenizer alone (%s, no config.json); " WHOLE},
    {"", "", NULL, "has no config.json, as the directory of a model has; give one, or a GGUF file"},
    {0},
};

static const row without_weights[] = {
    {"model-", ".safetensors", NULL,
     "has %s, but no model.safetensors.index.json, which says what shards there are; download it and all shards"},
    {"pytorch_model-", ".bin", NULL,
     "has %s, but no pytorch_model.bin.index.json, which says what shards there are; download it and all shards"},
    {"", ".gguf", NULL, "has config.json and no weights of its own, but the GGUF file %s; give that file"},
    {"consolidated", "", NULL, "holds weights in the form of its makers alone (%s); download model*.safetensors"},
    {"", ".safetensors", NULL,
     "has no model.safetensors and no index of shards, but %s; if that is the whole model, rename it to "
     "model.safetensors"},
    {"", ".h5", NULL, "has weights for TensorFlow alone (%s); download model*.safetensors or pytorch_model*.bin"},
    {"", ".msgpack", NULL, "has weights for Flax alone (%s); download model*.safetensors or pytorch_model*.bin"},
    {"", ".onnx", NULL, "has weights for ONNX alone (%s); download model*.safetensors or pytorch_model*.bin"},
    {0},
};

static const row without_adapter[] = {
    {"config.json", "", NULL,
     "is a model (%s), no adapter: it has no adapter_config.json; give it as the model, and the adapter's directory "
     "or GGUF file as the adapter"},
    {"", ".gguf", NULL, "has no adapter_config.json, but the GGUF file %s; give that file"},
    {"", "", "adapter_config.json", "has no adapter_config.json, but its folder %s has one; give that folder"},
    {"adapter_model", "", NULL,
     "has weights (%s), but no adapter_config.json, which says how they are scaled; download it to them"},
    {0},
};

static bool fits(const row *r, const char *dir, const char *name)
{
    char path[PATH];
    size_t n = strlen(name), end = strlen(r->end);
    if (name[0] == '.' || strncmp(name, r->begin, strlen(r->begin)) != 0 || n < end ||
        strcmp(name + n - end, r->end) != 0)
        return false;
    int length = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return false;
    return r->inside ? nb_hf_is_directory(path) && nb_hf_holds(path, r->inside) : !nb_hf_is_directory(path);
}

/* the first file, in the order of names, that fits the row */
static bool find(const row *r, const char *dir, char found[NAME])
{
    DIR *d = opendir(dir);
    found[0] = '\0';
    for (const struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d))
        if (fits(r, dir, e->d_name) && strlen(e->d_name) < NAME && (!found[0] || strcmp(e->d_name, found) < 0))
            strcpy(found, e->d_name);
    if (d)
        closedir(d);
    return found[0];
}

/* NB_OK: no row fits */
static nb_status tell(const row *rows, const char *dir, nb_error *err)
{
    char found[NAME];
    for (const row *r = rows; r->what; r++) {
        if (!find(r, dir, found))
            continue;
        const char *hole = strstr(r->what, "%s");
        return nb_fail(err, NB_ERR_NOT_FOUND, "%s: %.*s%s%s", dir, hole ? (int)(hole - r->what) : (int)strlen(r->what),
                       r->what, hole ? found : "", hole ? hole + 2 : "");
    }
    return NB_OK;
}

/* an adapter where a model is wanted */
static nb_status tell_adapter(const char *dir, nb_error *err)
{
    nb_tree t;
    nb_error unread;
    const nb_node *base = NULL;
    if (nb_tree_open(dir, "adapter_config.json", 1 << 20, true, &t, &unread) == NB_OK)
        base = nb_node_get_kind(t.root, "base_model_name_or_path", '"');
    nb_status status = nb_fail(err, NB_ERR_NOT_FOUND,
                               "%s: is an adapter (adapter_config.json), no model; give the model that it was trained "
                               "on%s%.*s%s, and this with --adapter",
                               dir, base ? " (" : "", base ? (int)nb_min_size(base->str.n, 200) : 0,
                               base ? base->str.p : "", base ? ")" : "");
    nb_tree_free(&t);
    return status;
}

static nb_status check_directory(const char *dir, nb_error *err)
{
    return nb_hf_is_directory(dir)
               ? NB_OK
               : nb_fail(err, NB_ERR_NOT_FOUND, "%s: is not there, or no directory; correct the path", dir);
}

nb_status nb_hf_no_config(const char *dir, nb_error *err)
{
    NB_TRY(check_directory(dir, err));
    if (nb_hf_holds(dir, "adapter_config.json"))
        return tell_adapter(dir, err);
    NB_TRY(tell(without_config, dir, err));
    return nb_fail(err, NB_ERR_NOT_FOUND, "%s: has no files, and so no config.json; give the directory of a model",
                   dir);
}

nb_status nb_hf_no_weights(const char *dir, nb_error *err)
{
    if (nb_hf_holds(dir, "adapter_config.json"))
        return tell_adapter(dir, err);
    NB_TRY(tell(without_weights, dir, err));
    return nb_fail(err, NB_ERR_NOT_FOUND,
                   "%s: has a config.json, but no model.safetensors, no pytorch_model.bin and no index of shards "
                   "(model.safetensors.index.json); download the weights, too",
                   dir);
}

nb_status nb_hf_no_adapter(const char *dir, nb_error *err)
{
    NB_TRY(check_directory(dir, err));
    NB_TRY(tell(without_adapter, dir, err));
    return nb_fail(err, NB_ERR_NOT_FOUND,
                   "%s: has no adapter_config.json, as an adapter of PEFT has; give its directory, or a GGUF file",
                   dir);
}
