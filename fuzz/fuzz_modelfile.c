/* Modelfiles of any bytes: refused with a message, or written so that they are read as the same. */
#include <stdlib.h>
#include <string.h>

#include "store/modelfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const nb_modelfile *a, const nb_modelfile *b)
{
    if (a->count != b->count)
        abort();
    for (size_t i = 0; i < a->count; i++)
        if (a->lines[i].command != b->lines[i].command || !nb_str_eq(a->lines[i].key, b->lines[i].key) ||
            !nb_str_eq(a->lines[i].value, b->lines[i].value))
            abort();
}

static void check_params(const nb_modelfile *m)
{
    nb_arena arena = {0};
    for (size_t i = 0; i < m->count; i++) {
        nb_buf json = {0};
        nb_param *p;
        size_t n;
        if (m->lines[i].command != NB_MODELFILE_PARAMETER)
            continue;
        nb_params_write(&m->lines[i].param, 1, &json);
        if (nb_params_read("params", nb_buf_view(&json), &arena, &p, &n, NULL) != NB_OK || n != 1)
            abort();
        nb_options o = nb_options_defaults();
        if (nb_options_apply(&o, p, n, &arena, NULL, NULL, NULL) != NB_OK)
            abort();
        nb_buf_free(&json);
    }
    nb_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_modelfile m, again;
    nb_error err = {0};
    nb_buf text = {0};
    if (nb_modelfile_parse((nb_str){(const char *)data, size}, &m, &err) != NB_OK) {
        if (!err.message[0])
            abort();
        return 0;
    }
    nb_modelfile_write(&m, &text);
    if (text.failed || nb_modelfile_parse(nb_buf_view(&text), &again, NULL) != NB_OK)
        abort();
    check_same(&m, &again);
    check_params(&m);
    nb_modelfile_free(&m);
    nb_modelfile_free(&again);
    nb_buf_free(&text);
    return 0;
}
