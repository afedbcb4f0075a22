/* gguf_edit.h - writes a copy of a GGUF file with a key left out and others put, for tests of what files may say. */
#ifndef NB_TESTS_GGUF_EDIT_H
#define NB_TESTS_GGUF_EDIT_H

#include "format/gguf_write.h"

typedef struct gguf_edit {
    const char *drop;                                  /* a key left out, or NULL */
    void (*put)(nb_gguf_writer *w, const void *user); /* puts keys, or NULL */
    const void *user;
    const char *add; /* a vector of floats added as a tensor, or NULL */
    const float *values;
    uint64_t count;
} gguf_edit;

static inline nb_status gguf_edit_data(nb_gguf_writer *w, const nb_gguf *g, const gguf_edit *e, nb_error *err)
{
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++)
        NB_TRY(nb_gguf_writer_data(w, nb_gguf_tensor_at(g, i)->data, nb_gguf_tensor_at(g, i)->bytes, err));
    return e->add ? nb_gguf_writer_data(w, e->values, e->count * sizeof(float), err) : NB_OK;
}

static inline nb_status gguf_edit_write(const char *from, const char *to, gguf_edit e, nb_error *err)
{
    nb_gguf *g;
    nb_gguf_writer *w = NULL;
    NB_TRY(nb_gguf_open(from, &g, err));
    nb_status status = nb_gguf_writer_open(to, 0, &w, err);
    for (size_t i = 0; status == NB_OK && i < nb_gguf_value_count(g); i++) {
        const nb_gguf_value *v = nb_gguf_value_at(g, i);
        if (!e.drop || !nb_str_eqz(v->key, e.drop))
            nb_gguf_put_value(w, v);
    }
    if (status == NB_OK && e.put)
        e.put(w, e.user);
    for (size_t i = 0; status == NB_OK && i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        nb_gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dims);
    }
    if (status == NB_OK && e.add)
        nb_gguf_put_tensor(w, nb_str_of(e.add), nb_type_get(NB_TYPE_F32), 1, &e.count);
    if (status == NB_OK)
        status = gguf_edit_data(w, g, &e, err);
    if (status == NB_OK)
        status = nb_gguf_writer_commit(w, err);
    else
        nb_gguf_writer_abort(w);
    nb_gguf_close(g);
    return status;
}

#endif
