/* nibble logits MODEL --ids "1,2,3" --out F.npy: float32 [tokens, vocabulary], for outside checks. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "engine/engine.h"

enum { ROWS_AT_A_TIME = 64 };

/* the header of NumPy's format 1.0: a dict padded so that the data begins at a multiple of 64 */
static nb_status write_npy_header(nb_writer *w, size_t rows, size_t columns, nb_error *err)
{
    char header[128];
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
    int n = snprintf(header + 10, sizeof header - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }",
                     rows, columns);
    header[10 + n] = ' ';
    header[sizeof header - 1] = '\n';
    return nb_writer_write(w, header, sizeof header, err);
}

static nb_status write_rows(nb_session *s, nb_writer *w, const int32_t *ids, size_t count, size_t vocabulary,
                            nb_error *err)
{
    for (size_t done = 0; done < count;) {
        size_t n = nb_min_size(count - done, ROWS_AT_A_TIME);
        NB_TRY(nb_session_eval(s, ids + done, n, NB_LOGITS_ALL, err));
        for (size_t i = 0; i < n; i++)
            NB_TRY(nb_writer_write(w, nb_session_row(s, i), vocabulary * sizeof(float), err));
        done += n;
    }
    return NB_OK;
}

static nb_status run_logits(const char *path, nb_model_options *o, const int32_t *ids, size_t count, const char *out,
                            nb_error *err)
{
    nb_model *m = NULL;
    nb_session *s = NULL;
    nb_writer *w = NULL;
    o->session.outputs = o->session.batch = ROWS_AT_A_TIME;
    if (!o->session.context)
        o->session.context = count;
    nb_status status = nb_model_open(path, &o->model, &m, err);
    if (status == NB_OK)
        status = nb_session_open(m, &o->session, &s, err);
    if (status == NB_OK)
        status = nb_writer_open(out, &w, err);
    if (status == NB_OK)
        status = write_npy_header(w, count, nb_model_vocabulary(m), err);
    if (status == NB_OK)
        status = write_rows(s, w, ids, count, nb_model_vocabulary(m), err);
    if (status == NB_OK) {
        status = nb_writer_commit(w, err);
        w = NULL;
    }
    nb_writer_abort(w);
    nb_session_close(s);
    nb_model_close(m);
    return status;
}

int nb_cmd_logits(int argc, char **argv)
{
    nb_model_options o = nb_model_options_defaults();
    const char *list = NULL, *out = NULL;
    nb_option options[] = {
        {"ids", 0, NB_OPTION_STRING, &list, "LIST", "token ids with commas between"},
        {"out", 'o', NB_OPTION_STRING, &out, "FILE", "where to write float32 [tokens, vocabulary] as .npy"},
        NB_MODEL_OPTION_ROWS(o),
        {.name = ""},
    };
    int code = nb_options_parse("logits", options, &argc, argv);
    if (code < 0)
        code = nb_model_options_finish("logits", &o);
    if (code >= 0)
        return code;
    if (argc != 2 || !list || !out)
        return nb_report_usage("logits", "give a model, --ids and --out");
    nb_error err;
    int32_t *ids = NULL;
    size_t count = 0;
    nb_status status = nb_parse_ids(list, &ids, &count, &err);
    if (status == NB_OK && count == 0)
        status = nb_fail(&err, NB_ERR_ARGUMENT, "--ids holds no ids");
    if (status == NB_OK)
        status = run_logits(argv[1], &o, ids, count, out, &err);
    free(ids);
    return status == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
