#include "lab/lab_model.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "hf/hf.h"

typedef struct found {
    char path[1024];
    bool directory;
    off_t size;
} found;

static bool is_better(const found *a, const found *best)
{
    if (!best->path[0] || a->directory != best->directory)
        return !best->path[0] || a->directory;
    return a->directory ? strcmp(a->path, best->path) < 0 : a->size < best->size;
}

static void look_at(const char *folder, const char *name, nb_lab_need need, found *best)
{
    struct stat info;
    found f = {{0}, false, 0};
    size_t n = strlen(name);
    if (name[0] == '.' || (size_t)snprintf(f.path, sizeof f.path, "%s/%s", folder, name) >= sizeof f.path ||
        stat(f.path, &info) != 0)
        return;
    f.directory = S_ISDIR(info.st_mode) && nb_hf_is_model(f.path);
    f.size = info.st_size;
    bool file = S_ISREG(info.st_mode) && n > 5 && strcmp(name + n - 5, ".gguf") == 0;
    if ((file || (f.directory && need == NB_LAB_WEIGHTS)) && is_better(&f, best))
        *best = f;
}

nb_status nb_lab_find_model(const nb_lab_params *p, nb_lab_need need, char path[1024], nb_error *err)
{
    char folder[900];
    found best = {{0}, false, 0};
    const char *cache = getenv("NIBBLE_CACHE"), *home = getenv("HOME");
    if (p->model) {
        snprintf(path, 1024, "%s", p->model);
        return NB_OK;
    }
    if (cache && *cache)
        snprintf(folder, sizeof folder, "%s/models", cache);
    else
        snprintf(folder, sizeof folder, "%s/.cache/nibble/models", home ? home : ".");
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        look_at(folder, e->d_name, need, &best);
    if (d)
        closedir(d);
    if (!best.path[0])
        return nb_fail(err, NB_ERR_NOT_FOUND,
                       "there is no model in %s; give --model FILE, or run `tools/fetch-model %s`", folder,
                       need == NB_LAB_WEIGHTS ? "minilm" : "smollm2-135m");
    memcpy(path, best.path, sizeof best.path);
    return NB_OK;
}

const char *nb_lab_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

double nb_lab_normal(nb_rng *r)
{
    double u = 1 - nb_rng_unit(r); /* above zero */
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * nb_rng_unit(r));
}
