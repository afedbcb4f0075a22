#include "measure/logits_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { HEADER = 20, ROW_HEADER = 8, DEPTH = 16, CODES = 65535 };

static const char magic[8] = {'_', 'l', 'o', 'g', 'i', 't', 's', '_'};

struct nb_logits_file {
    char *name;
    nb_map map;
    bool mapped;
    nb_logits_shape shape;
    size_t row_bytes;
};

static size_t bytes_of_row(size_t vocabulary) { return ROW_HEADER + 2 * (vocabulary + vocabulary % 2); }

bool nb_logits_file_is(const char *path)
{
    char begin[sizeof magic];
    FILE *f = fopen(path, "rb");
    bool is = f && fread(begin, 1, sizeof begin, f) == sizeof begin && memcmp(begin, magic, sizeof magic) == 0;
    if (f)
        fclose(f);
    return is;
}

/* ---- reading ---- */

static int32_t int_at(const nb_logits_file *f, size_t at)
{
    int32_t value;
    memcpy(&value, f->map.data + at, sizeof value);
    return value;
}

static nb_status parse(nb_logits_file *f, nb_error *err)
{
    nb_logits_shape *s = &f->shape;
    size_t tokens, rows, bytes;
    if (f->map.size < HEADER || memcmp(f->map.data, magic, sizeof magic) != 0)
        return nb_fail(err, NB_ERR_FORMAT, "%s does not begin as a file of logits does", f->name);
    int32_t window = int_at(f, 8), vocabulary = int_at(f, 12), windows = int_at(f, 16);
    if (window < 4 || vocabulary < 1 || windows < 1)
        return nb_fail(err, NB_ERR_FORMAT, "%s: %d windows of %d tokens over a vocabulary of %d: the file is damaged",
                       f->name, windows, window, vocabulary);
    s->window = (size_t)window;
    s->vocabulary = (size_t)vocabulary;
    s->windows = (size_t)windows;
    s->rows = s->window - 1 - s->window / 2;
    f->row_bytes = bytes_of_row(s->vocabulary);
    if (!nb_mul(s->window, s->windows, &tokens) || !nb_mul(tokens, 4, &tokens) ||
        !nb_mul(s->rows * s->windows, f->row_bytes, &rows) || !nb_add(tokens, rows, &bytes) ||
        bytes != f->map.size - HEADER)
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: %d windows of %d tokens over a vocabulary of %d take other than the %zu bytes there are; "
                       "the file is damaged or not whole: make it again",
                       f->name, windows, window, vocabulary, f->map.size);
    for (size_t i = 0; i < tokens / 4; i++) {
        int32_t id = int_at(f, HEADER + 4 * i);
        if (id < 0 || id >= vocabulary)
            return nb_fail(err, NB_ERR_FORMAT, "%s: byte %zu: token %zu is %d; ids are 0 to %d", f->name,
                           HEADER + 4 * i, i, id, vocabulary - 1);
    }
    return NB_OK;
}

static nb_status finish(nb_logits_file *f, nb_status status, nb_logits_file **out, nb_error *err)
{
    if (status == NB_OK)
        status = parse(f, err);
    if (status != NB_OK)
        nb_logits_file_close(f);
    else
        *out = f;
    return status;
}

static nb_logits_file *file_new(const char *name)
{
    nb_logits_file *f = calloc(1, sizeof *f);
    if (f && !(f->name = strdup(name))) {
        free(f);
        f = NULL;
    }
    return f;
}

nb_status nb_logits_file_open(const char *path, nb_logits_file **out, nb_error *err)
{
    nb_logits_file *f = file_new(path);
    *out = NULL;
    if (!f)
        return nb_fail_memory(err, path, sizeof *f);
    nb_status status = nb_map_open(path, &f->map, err);
    f->mapped = status == NB_OK;
    return finish(f, status, out, err);
}

nb_status nb_logits_file_open_memory(const char *name, const void *bytes, size_t size, nb_logits_file **out,
                                     nb_error *err)
{
    nb_logits_file *f = file_new(name);
    *out = NULL;
    if (!f)
        return nb_fail_memory(err, name, sizeof *f);
    f->map = (nb_map){bytes, size};
    return finish(f, NB_OK, out, err);
}

void nb_logits_file_close(nb_logits_file *f)
{
    if (!f)
        return;
    if (f->mapped)
        nb_map_close(&f->map);
    free(f->name);
    free(f);
}

nb_logits_shape nb_logits_file_shape(const nb_logits_file *f) { return f->shape; }

void nb_logits_file_tokens(const nb_logits_file *f, size_t window, int32_t *tokens)
{
    size_t bytes = f->shape.window * sizeof *tokens;
    memcpy(tokens, f->map.data + HEADER + window * bytes, bytes);
}

nb_status nb_logits_file_row(const nb_logits_file *f, size_t window, size_t row, float *log_probability, nb_error *err)
{
    const nb_logits_shape *s = &f->shape;
    size_t at = HEADER + 4 * s->window * s->windows + (window * s->rows + row) * f->row_bytes;
    float head[2];
    memcpy(head, f->map.data + at, sizeof head);
    double greatest = (double)head[0] * CODES + (double)head[1];
    if (!(head[0] >= 0) || !(head[1] > -1e6F) || !(greatest < 1e-2))
        return nb_fail(err, NB_ERR_FORMAT,
                       "%s: byte %zu: log-probabilities from %g in steps of %g: the file is damaged", f->name, at,
                       (double)head[1], (double)head[0]);
    const unsigned char *codes = f->map.data + at + ROW_HEADER;
    for (size_t i = 0; i < s->vocabulary; i++) {
        uint16_t code;
        memcpy(&code, codes + 2 * i, sizeof code);
        log_probability[i] = head[0] * (float)code + head[1];
    }
    return NB_OK;
}

/* ---- writing ---- */

struct nb_logits_writer {
    nb_writer *file;
    nb_logits_shape shape;
    size_t added;
    uint16_t *row;
};

nb_status nb_logits_writer_open(const char *path, const nb_logits_shape *shape, const int32_t *tokens,
                                nb_logits_writer **out, nb_error *err)
{
    nb_logits_writer *w = calloc(1, sizeof *w);
    uint32_t numbers[3] = {(uint32_t)shape->window, (uint32_t)shape->vocabulary, (uint32_t)shape->windows};
    *out = NULL;
    if (w)
        w->row = calloc(1, bytes_of_row(shape->vocabulary));
    if (!w || !w->row) {
        nb_logits_writer_abort(w);
        return nb_fail_memory(err, path, bytes_of_row(shape->vocabulary));
    }
    w->shape = *shape;
    nb_status status = nb_writer_open(path, &w->file, err);
    if (status == NB_OK)
        status = nb_writer_write(w->file, magic, sizeof magic, err);
    if (status == NB_OK)
        status = nb_writer_write(w->file, numbers, sizeof numbers, err);
    if (status == NB_OK)
        status = nb_writer_write(w->file, tokens, shape->window * shape->windows * sizeof *tokens, err);
    if (status != NB_OK) {
        nb_logits_writer_abort(w);
        return status;
    }
    *out = w;
    return NB_OK;
}

nb_status nb_logits_writer_add(nb_logits_writer *w, const float *logits, nb_error *err)
{
    size_t n = w->shape.vocabulary;
    float most = logits[0], least = logits[0], head[2];
    double sum = 0;
    for (size_t i = 1; i < n; i++) {
        most = fmaxf(most, logits[i]);
        least = fminf(least, logits[i]);
    }
    least = fmaxf(least, most - DEPTH);
    for (size_t i = 0; i < n; i++)
        sum += (double)expf(logits[i] - most);
    head[0] = (most - least) / CODES;
    head[1] = (float)((double)least - (double)most - log(sum));
    memcpy(w->row, head, sizeof head);
    for (size_t i = 0; i < n; i++) {
        float code = head[0] > 0 && logits[i] > least ? rintf((logits[i] - least) / head[0]) : 0;
        w->row[4 + i] = (uint16_t)fminf(code, CODES);
    }
    w->added++;
    return nb_writer_write(w->file, w->row, bytes_of_row(n), err);
}

nb_status nb_logits_writer_commit(nb_logits_writer *w, nb_error *err)
{
    nb_status status = NB_OK;
    if (w->added != w->shape.rows * w->shape.windows)
        status = nb_fail(err, NB_ERR_INTERNAL, "%zu of %zu rows of logits came", w->added,
                         w->shape.rows * w->shape.windows);
    if (status == NB_OK) {
        status = nb_writer_commit(w->file, err);
        w->file = NULL;
    }
    nb_logits_writer_abort(w);
    return status;
}

void nb_logits_writer_abort(nb_logits_writer *w)
{
    if (!w)
        return;
    if (w->file)
        nb_writer_abort(w->file);
    free(w->row);
    free(w);
}
