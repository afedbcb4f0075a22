/* Which layers have a window: three ways to say it in config.json, one key in GGUF. */
#include <stdlib.h>

#include "hf/export_internal.h"
#include "hf/hf_rows.h"

enum { LAYERS_MOST = 4096 };

typedef struct windows {
    bool has[LAYERS_MOST];
    uint64_t layers, count; /* count: of those that have it */
} windows;

static void set(windows *w, uint64_t layer, bool has)
{
    w->has[layer] = has;
    w->count += has;
}

static nb_status read_types(const nb_hf *h, const nb_node *types, windows *w, nb_error *err)
{
    uint64_t i = 0;
    for (const nb_node *n = types->list.first; n && i < w->layers; n = n->next) {
        bool window = n->kind == '"' && nb_str_eqz(n->str, "sliding_attention");
        if (!window && !(n->kind == '"' && nb_str_eqz(n->str, "full_attention")))
            return nb_tree_bad(&h->config, types, err, NB_ERR_UNSUPPORTED,
                               "has another kind of layer than full_attention and sliding_attention");
        set(w, i++, window);
    }
    if (i < w->layers)
        return nb_tree_bad(&h->config, types, err, NB_ERR_FORMAT, "has %llu values for %llu layers; correct it",
                           (unsigned long long)i, (unsigned long long)w->layers);
    return NB_OK;
}

/* every so many'th layer is global, if that is how it is; 0: not so */
static uint64_t period(const windows *w)
{
    uint64_t first = 0;
    while (first < w->layers && w->has[first])
        first++;
    for (uint64_t i = 0; i < w->layers; i++)
        if (w->has[i] != ((i + 1) % (first + 1) != 0))
            return 0;
    return first + 1;
}

/* no key where readers find the same without */
static void put_pattern(nb_hf *h, const windows *w, uint64_t usual)
{
    bool same = true;
    uint64_t pattern = period(w);
    for (uint64_t i = 0; i < w->layers; i++)
        same = same && w->has[i] == (usual == 0 || (i + 1) % usual != 0);
    if (same)
        return;
    if (pattern)
        nb_hf_put_u32(h, nb_hf_key(h, "attention.sliding_window_pattern"), (uint32_t)pattern);
    else
        nb_hf_put_array(h, nb_hf_key(h, "attention.sliding_window_pattern"), NB_GGUF_BOOL, w->has, (size_t)w->layers,
                        sizeof *w->has);
}

static nb_status new_windows(const nb_hf *h, windows **w, nb_error *err)
{
    uint64_t layers = 0;
    NB_TRY(nb_hf_config_u64(h, NB_HF_BLOCKS, 1, LAYERS_MOST, &layers, err));
    *w = calloc(1, sizeof **w);
    if (!*w)
        return nb_fail_memory(err, "config.json", sizeof **w);
    (*w)->layers = layers;
    return NB_OK;
}

static nb_status fill(nb_hf *h, uint64_t usual, windows *w, nb_error *err)
{
    const nb_node *types = nb_hf_config(h, "layer_types");
    uint64_t pattern = usual;
    if (types && types->kind == '[') {
        NB_TRY(read_types(h, types, w, err));
    } else if (usual == 0) {
        for (uint64_t i = 0; i < w->layers; i++)
            set(w, i, true);
    } else {
        NB_TRY(nb_hf_config_u64(h, "sliding_window_pattern|_sliding_window_pattern", 1, LAYERS_MOST, &pattern, err));
        for (uint64_t i = 0; i < w->layers; i++)
            set(w, i, (i + 1) % pattern != 0);
    }
    put_pattern(h, w, usual);
    return NB_OK;
}

nb_status nb_hf_window_layers(nb_hf *h, uint64_t usual, nb_error *err)
{
    windows *w;
    NB_TRY(new_windows(h, &w, err));
    nb_status status = fill(h, usual, w, err);
    free(w);
    return status;
}

/* which layers have the window where layer_types does not say */
typedef bool rule_fn(uint64_t layer, uint64_t most);

static bool from_most_on(uint64_t layer, uint64_t most) { return layer >= most; }
static bool second_before(uint64_t layer, uint64_t most) { return layer % 2 == 0 && layer < most; }
static bool all_layers(uint64_t layer, uint64_t most)
{
    (void)layer, (void)most;
    return true;
}

static nb_status fill_by(nb_hf *h, rule_fn *rule, windows *w, nb_error *err)
{
    const nb_node *types = rule == all_layers ? NULL : nb_hf_config(h, "layer_types");
    uint64_t most = 28, window = 4096;
    NB_TRY(nb_hf_config_u64(h, "max_window_layers", 0, UINT32_MAX, &most, err));
    NB_TRY(nb_hf_config_u64(h, "sliding_window", 1, INT32_MAX, &window, err));
    if (types && types->kind == '[')
        NB_TRY(read_types(h, types, w, err));
    for (uint64_t i = 0; (!types || types->kind != '[') && i < w->layers; i++)
        set(w, i, rule(i, most));
    if (w->count == 0)
        return NB_OK;
    nb_hf_put_u32(h, nb_hf_key(h, "attention.sliding_window"), (uint32_t)window);
    put_pattern(h, w, 0);
    return NB_OK;
}

static nb_status used_windows(nb_hf *h, rule_fn *rule, nb_error *err)
{
    windows *w;
    if (!nb_hf_config_flag(h, "use_sliding_window", false) || nb_hf_config_is_null(h, "sliding_window"))
        return NB_OK;
    NB_TRY(new_windows(h, &w, err));
    nb_status status = fill_by(h, rule, w, err);
    free(w);
    return status;
}

nb_status nb_hf_late_windows(nb_hf *h, nb_error *err) { return used_windows(h, from_most_on, err); }

nb_status nb_hf_moe_windows(nb_hf *h, nb_error *err)
{
    bool third = strcmp(h->arch->gguf, "qwen3moe") == 0;
    return used_windows(h, third ? all_layers : second_before, err);
}

/* ---- and back ---- */

void nb_hf_put_layer_types(const nb_hf_exporter *x, nb_json *j, uint64_t usual)
{
    const nb_gguf_value *v = nb_hf_export_find(x, ".attention.sliding_window_pattern");
    bool list = v && v->kind == NB_GGUF_ARRAY && v->element == NB_GGUF_BOOL && v->count >= x->blocks;
    uint64_t pattern = usual;
    nb_hf_export_u64(x, ".attention.sliding_window_pattern", &pattern);
    nb_json_key(j, "layer_types");
    nb_json_open(j, '[');
    for (uint64_t i = 0; i < x->blocks; i++)
        nb_json_z(j, (list ? v->data[i] != 0 : pattern == 0 || (i + 1) % pattern != 0) ? "sliding_attention"
                                                                                       : "full_attention");
    nb_json_close(j, ']');
}

void nb_hf_put_all_full(const nb_hf_exporter *x, nb_json *j)
{
    nb_json_key(j, "layer_types");
    nb_json_open(j, '[');
    for (uint64_t i = 0; i < x->blocks; i++)
        nb_json_z(j, "full_attention");
    nb_json_close(j, ']');
}

void nb_hf_put_late_windows(const nb_hf_exporter *x, nb_json *j)
{
    uint64_t window = 0;
    nb_hf_export_u64(x, ".attention.sliding_window", &window);
    nb_json_key(j, "use_sliding_window");
    nb_json_bool(j, window > 0);
    if (window > 0) {
        nb_json_put_uint(j, "sliding_window", window);
        nb_json_put_uint(j, "max_window_layers", 0);
        nb_hf_put_layer_types(x, j, 0);
    }
}
