/* nibble embed MODEL [TEXT...|-]: vectors of texts; or, by a model that ranks, their scores for a query. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json_write.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/models.h"

typedef struct embed_options {
    nb_model_options model;
    nb_embed_params embed;
    const char *file, *pooling, *rank;
    bool json;
} embed_options;

typedef struct inputs {
    nb_embed_input *list;
    size_t count, cap;
} inputs;

static nb_status add_input(inputs *in, const char *text, size_t bytes, nb_error *err)
{
    if (in->count == in->cap) {
        size_t cap = in->cap ? in->cap * 2 : 64;
        nb_embed_input *list = realloc(in->list, cap * sizeof *list);
        if (!list)
            return nb_fail(err, NB_ERR_MEMORY, "out of memory");
        in->list = list;
        in->cap = cap;
    }
    in->list[in->count++] = (nb_embed_input){.text = text, .bytes = bytes};
    return NB_OK;
}

/* a text a line; the end of the last line may be missing */
static nb_status add_lines(inputs *in, nb_str text, nb_error *err)
{
    while (text.n > 0) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t line = end ? (size_t)(end - text.p) : text.n, next = end ? line + 1 : line;
        NB_TRY(add_input(in, text.p, line > 0 && text.p[line - 1] == '\r' ? line - 1 : line, err));
        text.p += next;
        text.n -= next;
    }
    return NB_OK;
}

/* the texts of the command line, or of --file, or of standard input whole but for the last line's end */
static nb_status gather(inputs *in, const embed_options *o, int argc, char **argv, nb_map *map, nb_buf *input,
                        nb_error *err)
{
    if (o->file) {
        NB_TRY(nb_map_open(o->file, map, err));
        return add_lines(in, (nb_str){(const char *)map->data, map->size}, err);
    }
    if (argc == 2 || (argc == 3 && strcmp(argv[2], "-") == 0)) {
        NB_TRY(nb_read_stdin(input, err));
        size_t end = input->len > 0 && input->data[input->len - 1] == '\n';
        return add_input(in, input->data, input->len - end, err);
    }
    for (int i = 2; i < argc; i++)
        NB_TRY(add_input(in, argv[i], strlen(argv[i]), err));
    return NB_OK;
}

static void write_json(nb_buf *out, const char *model, const char *what, const float *vectors, size_t count,
                       size_t width, size_t tokens)
{
    nb_json j = nb_json_begin(out, false);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "model", model);
    nb_json_key(&j, what);
    nb_json_open(&j, '[');
    for (size_t i = 0; i < count; i++) {
        nb_json_open(&j, '[');
        for (size_t k = 0; k < width; k++)
            nb_json_f32(&j, vectors[i * width + k]);
        nb_json_close(&j, ']');
    }
    nb_json_close(&j, ']');
    nb_json_put_uint(&j, "tokens", tokens);
    nb_json_close(&j, '}');
}

static void write_text(nb_buf *out, const float *vectors, size_t count, size_t width)
{
    char number[32];
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < width; k++) {
            nb_format_float(vectors[i * width + k], number);
            nb_buf_printf(out, "%s%c", number, k + 1 < width ? ' ' : '\n');
        }
}

/* A file, a directory, or a name of the store; what is none of them is told as a missing file. */
static nb_status open_model(const char *name, const nb_model_params *params, nb_model **m, nb_error *err)
{
    nb_buf file = {0};
    nb_status status = nb_models_file(name, &file, err);
    if (status == NB_OK || status == NB_ERR_NOT_FOUND)
        status = nb_model_open(status == NB_OK ? file.data : name, params, m, err);
    nb_buf_free(&file);
    return status;
}

static nb_status embed(const char *path, const embed_options *o, const inputs *in, nb_error *err)
{
    nb_model *m = NULL;
    nb_buf out = {0};
    size_t tokens = 0, width = 0, bytes;
    float *vectors = NULL;
    nb_status status = open_model(path, &o->model.model, &m, err);
    if (status == NB_OK) {
        width = o->rank && nb_model_labels(m) ? nb_model_labels(m) : nb_model_embedding(m);
        vectors = nb_mul(in->count, width * sizeof *vectors, &bytes) ? malloc(bytes ? bytes : 1) : NULL;
        status = !vectors  ? nb_fail(err, NB_ERR_MEMORY, "no memory for %zu embeddings of %zu values", in->count, width)
                 : o->rank ? nb_rank(m, o->rank, strlen(o->rank), in->list, in->count, &o->embed, vectors, &tokens, err)
                           : nb_embed(m, in->list, in->count, &o->embed, vectors, &tokens, err);
    }
    if (status == NB_OK && o->json) {
        write_json(&out, path, o->rank ? "scores" : "embeddings", vectors, in->count, width, tokens);
        status = nb_print_json(&out, err);
    } else if (status == NB_OK) {
        write_text(&out, vectors, in->count, width);
        if (out.failed)
            status = nb_fail(err, NB_ERR_MEMORY, "no memory for the output of %zu embeddings", in->count);
        else
            fwrite(out.data, 1, out.len, stdout);
        nb_buf_free(&out);
    }
    free(vectors);
    nb_model_close(m);
    return status;
}

static int finish_options(embed_options *o, int argc)
{
    static const char *const poolings[] = {
        [NB_POOLING_MEAN] = "mean", [NB_POOLING_CLS] = "cls", [NB_POOLING_LAST] = "last"};
    int code = nb_model_options_finish("embed", &o->model);
    if (code >= 0)
        return code;
    for (int i = NB_POOLING_MEAN; o->pooling && i <= NB_POOLING_LAST; i++)
        if (strcmp(o->pooling, poolings[i]) == 0)
            o->embed.pooling = (nb_pooling)i;
    if (o->pooling && o->embed.pooling == NB_POOLING_MODEL)
        return nb_report_usage("embed", "--pooling %.40s: mean, cls and last are known", o->pooling);
    if (argc < 2)
        return nb_report_usage("embed", "which MODEL?");
    if (o->file && argc > 2)
        return nb_report_usage("embed", "give texts or --file, not both");
    return -1;
}

int nb_cmd_embed(int argc, char **argv)
{
    embed_options o = {.model = nb_model_options_defaults(), .embed = nb_embed_defaults()};
    bool normalize = true;
    nb_option options[] = {
        {"json", 0, NB_OPTION_FLAG, &o.json, NULL, "print one JSON object"},
        {"pooling", 0, NB_OPTION_STRING, &o.pooling, "P", "mean, cls or last (default: as the model says)"},
        {"normalize", 0, NB_OPTION_FLAG, &normalize, NULL, "scale to a length of 1 (default; --no-normalize)"},
        {"truncate", 0, NB_OPTION_FLAG, &o.embed.truncate, NULL,
         "cut texts that are longer than the model says (max_seq_length), or than its positions"},
        {"rank", 0, NB_OPTION_STRING, &o.rank, "QUERY",
         "print how well each text answers QUERY, by a model that ranks"},
        {"prompt-name", 0, NB_OPTION_STRING, &o.embed.prompt_name, "NAME",
         "put this prompt of the model (query, document...) before each text; \"\": none"},
        {"file", 'f', NB_OPTION_STRING, &o.file, "FILE", "embed each line of FILE"},
        {"threads", 't', NB_OPTION_INT, &o.model.model.threads, "N", "threads (default: one a processor)"},
        {"exact", 0, NB_OPTION_FLAG, &o.model.model.exact, NULL, "float32 throughout: slow, the reference"},
        {"repack", 0, NB_OPTION_FLAG, &o.model.model.repack, NULL,
         "copy weights into a faster layout (default; --no-repack)"},
        NB_MODEL_ADAPTER_ROW(o.model),
        NB_LOAD_OPTION_ROWS(o.model.load),
        {.name = ""},
    };
    nb_error err;
    inputs in = {0};
    nb_map map = {0};
    nb_buf input = {0};
    int code = nb_options_parse("embed", options, &argc, argv);
    if (code < 0)
        code = finish_options(&o, argc);
    if (code >= 0)
        return code;
    if (!normalize)
        o.embed.normalize = NB_NORMALIZE_NO;
    nb_status status = gather(&in, &o, argc, argv, &map, &input, &err);
    if (status == NB_OK)
        status = embed(argv[1], &o, &in, &err);
    free(in.list);
    nb_map_close(&map);
    nb_buf_free(&input);
    return status == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
