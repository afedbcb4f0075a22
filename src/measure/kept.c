#define _GNU_SOURCE
#include "measure/kept.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const uint64_t most_kept_bytes = UINT64_C(4) << 30;

bool nb_kept_fits(const nb_model *base, size_t windows, size_t window)
{
    uint64_t row = 8 + 2 * (uint64_t)nb_model_vocabulary(base);
    return windows <= most_kept_bytes / row / window;
}

static nb_status open_nameless(const char *path, nb_kept *k, nb_error *err)
{
    k->file = open(path, O_RDONLY | O_CLOEXEC);
    if (k->file < 0)
        return nb_fail(err, NB_ERR_IO, "%s: cannot be opened", path);
    snprintf(k->path, sizeof k->path, "/proc/self/fd/%d", k->file);
    return NB_OK;
}

nb_status nb_kept_make(nb_model *base, nb_str text, const nb_evaluate_params *params, nb_kept *out, nb_error *err)
{
    const char *folder = getenv("TMPDIR");
    char path[512], file[540];
    nb_evaluation found;
    nb_evaluate_params p = *params;
    *out = (nb_kept){.file = -1};
    int n = snprintf(path, sizeof path, "%s/nibble-XXXXXX", folder && *folder ? folder : "/tmp");
    if (n < 0 || (size_t)n >= sizeof path || !mkdtemp(path))
        return nb_fail(err, NB_ERR_IO, "%s: no folder for temporary files can be made there; set TMPDIR", path);
    snprintf(file, sizeof file, "%s/logits", path);
    p.save = file;
    nb_status status = nb_evaluate_models(&base, 1, text, &p, &found, err);
    if (status == NB_OK)
        status = open_nameless(file, out, err);
    unlink(file);
    rmdir(path);
    return status;
}

void nb_kept_close(nb_kept *k)
{
    if (k->path[0])
        close(k->file);
    *k = (nb_kept){0};
}
