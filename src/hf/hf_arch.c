#include "hf/hf_arch.h"

#include "hf/hf_rows.h"

#define NB_HF_ARCH(name) extern const nb_hf_arch nb_hf_arch_##name;
#include "hf/archs.def"
#undef NB_HF_ARCH

static const nb_hf_arch *const archs[] = {
#define NB_HF_ARCH(name) &nb_hf_arch_##name,
#include "hf/archs.def"
#undef NB_HF_ARCH
};

enum { ARCHS = sizeof archs / sizeof *archs };

const nb_hf_arch *nb_hf_arch_of_class(nb_str name)
{
    for (int i = 0; i < ARCHS; i++)
        for (const char *const *c = archs[i]->classes; *c; c++)
            if (nb_str_eqz(name, *c))
                return archs[i];
    return NULL;
}

const nb_hf_arch *nb_hf_arch_of_gguf(nb_str name)
{
    for (int i = 0; i < ARCHS; i++)
        if (nb_str_eqz(name, archs[i]->gguf))
            return archs[i];
    return NULL;
}

const nb_hf_arch *nb_hf_arch_at(size_t i) { return i < ARCHS ? archs[i] : NULL; }

void nb_hf_arch_classes(nb_buf *out)
{
    for (int i = 0; i < ARCHS; i++)
        nb_buf_printf(out, "%s%s", i ? ", " : "", archs[i]->classes[0]);
}

nb_status nb_hf_head_dim(const nb_hf *h, uint64_t *dim, nb_error *err)
{
    uint64_t width = 0, heads = 1;
    NB_TRY(nb_hf_config_u64(h, "hidden_size|n_embd|n_embed|d_model|dim", 1, 1 << 20, &width, err));
    NB_TRY(nb_hf_config_u64(h, "num_attention_heads|n_head|n_heads", 1, 1 << 16, &heads, err));
    *dim = width / heads;
    NB_TRY(nb_hf_config_u64(h, "head_dim", 1, 1 << 16, dim, err));
    if (*dim == 0 || *dim > 1 << 16)
        return nb_fail(err, NB_ERR_FORMAT, "%s: hidden_size %llu over num_attention_heads %llu makes no head",
                       h->config.path, (unsigned long long)width, (unsigned long long)heads);
    return NB_OK;
}
