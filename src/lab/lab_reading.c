#include "lab/lab_reading.h"

#include <stdio.h>

enum { NONE = -1 };

const char *const nb_lab_default_text =
    "The library of Alexandria was one of the largest of the ancient world. It was built in the third century before "
    "our era, and "
    "scholars came to it from all around the Mediterranean Sea. They copied every book that a ship brought into the "
    "harbour: the copy went back to the owner, the original stayed. Nobody knows how many scrolls there were; some say "
    "40,000, others 700,000. What is certain is that most of what they wrote is lost, and that we know of it only "
    "because "
    "someone, somewhere, made another copy.";

static void note(nb_lab_input *in, size_t column, float size, float threshold)
{
    in->largest[column] = fmaxf(in->largest[column], size);
    in->past[column] += size >= threshold;
}

static void take(void *user, int weight, size_t matrix, const float *x, size_t stride, size_t rows, size_t first,
                 size_t columns)
{
    nb_lab_reading *r = user;
    nb_lab_input *in = &r->inputs[weight];
    if (in->columns == 0 || matrix != 0 || rows > r->tokens.count || first + columns > in->columns)
        return;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            note(in, first + j, fabsf(x[i * stride + j]), r->threshold);
    for (size_t i = 0; in->values && r->kept == (size_t)weight && i < rows; i++)
        memcpy(in->values + i * in->columns + first, x + i * stride, columns * sizeof *x);
}

/* Matrices of the layers; experts are left out: each reads only some tokens. */
static nb_status make_inputs(nb_lab_reading *r, nb_error *err)
{
    const nb_model_def *def = r->model->def;
    r->count = def->weight_count;
    r->inputs = NB_ARRAY(&r->arena, nb_lab_input, r->count);
    if (!r->inputs)
        return nb_fail_memory(err, "activations", r->count * sizeof *r->inputs);
    for (size_t i = 0; i < r->model->plan.op_count; i++) {
        int weights[3];
        for (int n = nb_op_matrices(&r->model->plan.ops[i], weights); n > 0; n--) {
            const nb_weight *w = &def->weights[weights[n - 1]];
            nb_lab_input *in = &r->inputs[weights[n - 1]];
            if (w->layer == NONE || w->tensor->dims[2] > 1 || in->columns)
                continue;
            snprintf(in->name, sizeof in->name, "%.*s", NB_STR_ARG(w->tensor->name));
            in->layer = w->layer;
            in->columns = (size_t)w->tensor->dims[0];
            in->largest = NB_ARRAY(&r->arena, float, in->columns);
            in->past = NB_ARRAY(&r->arena, uint32_t, in->columns);
            if (!in->largest || !in->past)
                return nb_fail_memory(err, "activations", in->columns * sizeof *in->largest);
        }
    }
    return NB_OK;
}

static nb_status read_text(nb_lab_reading *r, nb_error *err)
{
    NB_TRY(nb_session_rewind(r->session, 0, err));
    /* logits of all: after the last layer's attention only wanted tokens go on */
    return nb_session_eval(r->session, r->tokens.id, r->tokens.count, NB_LOGITS_ALL, err);
}

nb_status nb_lab_reading_open(const char *path, const char *text, float threshold, bool exact, nb_lab_reading *r,
                              nb_error *err)
{
    nb_model_params params = nb_model_defaults();
    nb_session_params session = nb_session_defaults();
    *r = (nb_lab_reading){.threshold = threshold};
    params.exact = exact;
    NB_TRY(nb_model_open(path, &params, &r->model, err));
    if (!r->model->backend->tap)
        return nb_fail(err, NB_ERR_UNSUPPORTED, "the %s backend does not show what matrices read",
                       r->model->backend->name);
    NB_TRY(nb_tokenizer_encode(r->model->tokenizer, nb_str_of(text), NB_ENCODE_ADD_SPECIAL, &r->tokens, err));
    if (r->tokens.count == 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "--text '%s' has no tokens", text);
    size_t most = nb_min_size(NB_LAB_READING_TOKENS, nb_model_context(r->model));
    r->tokens.count = nb_min_size(r->tokens.count, most);
    NB_TRY(make_inputs(r, err));
    session.context = session.batch = session.outputs = r->tokens.count;
    NB_TRY(nb_session_open(r->model, &session, &r->session, err));
    r->model->backend->tap(r->session->context, take, r);
    return read_text(r, err);
}

nb_status nb_lab_reading_keep(nb_lab_reading *r, size_t input, nb_error *err)
{
    nb_lab_input *in = &r->inputs[input];
    in->values = NB_ARRAY(&r->arena, float, r->tokens.count * in->columns);
    if (!in->values)
        return nb_fail_memory(err, "activations", r->tokens.count * in->columns * sizeof *in->values);
    r->kept = input;
    for (size_t i = 0; i < r->count; i++) /* they are counted again */
        if (r->inputs[i].columns)
            memset(r->inputs[i].past, 0, r->inputs[i].columns * sizeof *r->inputs[i].past);
    return read_text(r, err);
}

void nb_lab_reading_close(nb_lab_reading *r)
{
    nb_session_close(r->session);
    nb_model_close(r->model);
    nb_ids_free(&r->tokens);
    nb_arena_free(&r->arena);
    *r = (nb_lab_reading){0};
}

size_t nb_lab_outliers(const nb_lab_input *in, float threshold)
{
    size_t n = 0;
    for (size_t j = 0; j < in->columns; j++)
        n += in->largest[j] >= threshold;
    return n;
}

void nb_lab_input_kind(const nb_lab_input *in, char kind[64])
{
    const char *p = in->name;
    int dots = 0;
    while (*p && dots < 2)
        dots += *p++ == '.';
    snprintf(kind, 64, "%.*s", (int)strcspn(p, "."), p);
}

/* Tokens past the threshold in a column that has any, on average; 0 where more than a twentieth of the columns have. */
static double regularity(const nb_lab_input *in)
{
    size_t columns = 0, tokens = 0;
    for (size_t j = 0; j < in->columns; j++) {
        columns += in->past[j] > 0;
        tokens += in->past[j];
    }
    return columns > 0 && columns * 20 <= in->columns ? (double)tokens / (double)columns : 0;
}

nb_status nb_lab_reading_choose(const nb_lab_reading *r, const char *tensor, size_t *input, nb_error *err)
{
    double best = -1;
    for (size_t i = 0; i < r->count; i++) {
        const nb_lab_input *in = &r->inputs[i];
        double score = in->columns ? regularity(in) : -1;
        if (in->columns && (tensor ? strcmp(tensor, in->name) == 0 : score > best)) {
            best = score;
            *input = i;
        }
    }
    if (best < 0)
        return nb_fail(err, NB_ERR_NOT_FOUND,
                       "the model has no matrix '%s' in its layers; `nibble inspect --tensors` lists them",
                       tensor ? tensor : "");
    return NB_OK;
}
