/* gguf_edit.h - writes a copy of a GGUF file with keys put by a callback, for tests of what files may say. */
#ifndef NB_TESTS_GGUF_EDIT_H
#define NB_TESTS_GGUF_EDIT_H

#include "format/gguf_write.h"

static inline nb_status gguf_edit_write(const char *from, const char *to,
                                        void (*put)(nb_gguf_writer *w, const void *user), const void *user,
                                        nb_error *err)
{
    nb_gguf *g;
    nb_gguf_writer *w = NULL;
    NB_TRY(nb_gguf_open(from, &g, err));
    nb_status status = nb_gguf_writer_open(to, 0, &w, err);
    for (size_t i = 0; status == NB_OK && i < nb_gguf_value_count(g); i++)
        nb_gguf_put_value(w, nb_gguf_value_at(g, i));
    if (status == NB_OK)
        put(w, user);
    for (size_t i = 0; status == NB_OK && i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        nb_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dims);
    }
    for (size_t i = 0; status == NB_OK && i < nb_gguf_tensor_count(g); i++)
        status = nb_gguf_writer_data(w, nb_gguf_tensor_at(g, i)->data, nb_gguf_tensor_at(g, i)->bytes, err);
    if (status == NB_OK)
        status = nb_gguf_writer_commit(w, err);
    else
        nb_gguf_writer_abort(w);
    nb_gguf_close(g);
    return status;
}

#endif
