#include "cli/convert_export.h"

#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cli/command.h"
#include "convert/merge.h"
#include "convert/open.h"
#include "hf/export.h"

bool nb_convert_exports(const char *in, const char *out, bool merge)
{
    struct stat info;
    size_t n = strlen(out);
    return !(n >= 5 && strcasecmp(out + n - 5, ".gguf") == 0) && stat(in, &info) == 0 &&
           (S_ISREG(info.st_mode) || merge);
}

static int on_progress(void *user, nb_str tensor, uint64_t done, uint64_t all)
{
    nb_progress **p = user;
    (void)tensor;
    if (!*p)
        *p = nb_progress_start("writing", all, "B");
    nb_progress_at(*p, done);
    return nb_interrupted();
}

/* adapters are added up in float32 and written in the model's own type, unless another was asked for */
static nb_status open_source(const char *in, const nb_model_adapter *adapters, size_t count,
                             nb_hf_export_params *params, nb_source **s, nb_error *err)
{
    NB_TRY(nb_source_open(in, s, err));
    if (count == 0)
        return NB_OK;
    if (!params->type)
        params->type = nb_hf_export_type(*s);
    return nb_source_merge(*s, adapters, count, false, s, err);
}

static nb_status run(const char *in, const char *dir, const nb_model_adapter *adapters, size_t count,
                     nb_hf_export_params *params, nb_error *err)
{
    nb_source *s;
    nb_hf_export_result result;
    nb_progress *progress = NULL;
    double start = nb_seconds();
    char bytes[24];
    NB_TRY(open_source(in, adapters, count, params, &s, err));
    nb_status status = nb_hf_export(s, dir, params, on_progress, &progress, &result, err);
    nb_progress_end(progress, status == NB_OK);
    nb_source_free(s);
    NB_TRY(status);
    nb_format_bytes(result.bytes, bytes);
    printf("%s: %zu tensors as %s, %s, in %.1f s\n", dir, result.tensors, nb_dtype_name(result.dtype), bytes,
           nb_seconds() - start);
    return NB_OK;
}

int nb_convert_export(const char *in, const char *dir, const char *type, const nb_model_adapter *adapters, size_t count,
                      uint64_t shard_bytes)
{
    nb_hf_export_params params = {.shard_bytes = shard_bytes};
    nb_error err;
    if (strcasecmp(type, "COPY") != 0) {
        params.type = nb_type_by_name(nb_str_of(type));
        if (!params.type)
            return nb_report_usage("convert", "--type %s: a directory can hold F32, F16 and BF16", type);
    }
    nb_interrupt_watch();
    return run(in, dir, adapters, count, &params, &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
