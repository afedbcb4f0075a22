#include "measure/windows.h"

enum { LEAST = 4 };

static nb_status check_length(const nb_model *model, size_t window, nb_error *err)
{
    if (window < LEAST)
        return nb_fail(err, NB_ERR_ARGUMENT, "windows of %zu tokens are too short; give %d or more", window, LEAST);
    if (window > nb_model_context(model))
        return nb_fail(err, NB_ERR_LIMIT,
                       "windows of %zu tokens are longer than the model's context; give --ctx %zu or less", window,
                       nb_model_context(model));
    return NB_OK;
}

nb_status nb_windows_cut(const nb_model *model, nb_str text, size_t window, size_t most, nb_windows *out, nb_error *err)
{
    const nb_vocab *vocab = nb_tokenizer_vocab(model->tokenizer);
    *out = (nb_windows){.window = window, .bos = vocab->add_bos ? vocab->bos : -1};
    NB_TRY(check_length(model, window, err));
    NB_TRY(nb_tokenizer_encode(model->tokenizer, text, NB_ENCODE_ADD_SPECIAL, &out->ids, err));
    out->count = out->ids.count / window;
    if (most && most < out->count)
        out->count = most;
    if (out->count > 0)
        return NB_OK;
    nb_status status = nb_fail(err, NB_ERR_ARGUMENT, "the text has %zu tokens, less than one window of %zu",
                               out->ids.count, window);
    nb_windows_free(out);
    return status;
}

void nb_windows_free(nb_windows *w)
{
    nb_ids_free(&w->ids);
    *w = (nb_windows){0};
}

void nb_windows_get(const nb_windows *w, size_t i, int32_t *tokens)
{
    memcpy(tokens, w->ids.id + i * w->window, w->window * sizeof *tokens);
    if (w->bos >= 0)
        tokens[0] = w->bos;
}
