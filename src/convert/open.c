#include "convert/open.h"

#include "convert/quantize.h"
#include "hf/hf.h"

nb_status nb_source_open(const char *path, nb_source **out, nb_error *err)
{
    return nb_hf_is_model(path) ? nb_hf_open(path, out, err) : nb_source_open_gguf(path, out, err);
}

nb_status nb_gguf_open_model(const char *path, int threads, nb_gguf **out, nb_error *err)
{
    nb_quantize_params p = nb_quantize_defaults();
    nb_source *s;
    *out = NULL;
    if (!nb_hf_is_model(path))
        return nb_gguf_open(path, out, err);
    p.mix = nb_mix_by_name(NB_STR("COPY"));
    p.threads = threads;
    NB_TRY(nb_hf_open(path, &s, err));
    return nb_quantize_to_memory(s, &p, out, err);
}
