#define _GNU_SOURCE
#include "hf/bnb_write.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "format/safetensors_write.h"
#include "hf/bnb_write_parts.h"

/* ---- which tensors ---- */

nb_status nb_bnb_add(nb_bnb_writing *w, nb_bnb_part part, const char *end, size_t cut, nb_dtype dtype, uint64_t rows,
                     uint64_t columns, nb_error *err)
{
    if (w->count == w->capacity) {
        size_t capacity = w->capacity ? w->capacity * 2 : 256;
        nb_bnb_item *grown = realloc(w->items, capacity * sizeof *grown);
        if (!grown)
            return nb_fail_memory(err, w->out, capacity * sizeof *grown);
        w->items = grown;
        w->capacity = capacity;
    }
    nb_bnb_item *it = &w->items[w->count];
    *it = (nb_bnb_item){.part = part, .tensor = w->tensor, .linear = w->linear, .dtype = dtype};
    it->dims[0] = rows;
    it->dims[1] = columns;
    it->n_dims = rows == 0 ? 0 : columns == 0 ? 1 : 2;
    it->bytes = (rows ? rows : 1) * (columns ? columns : 1) * nb_dtype_bytes(dtype);
    nb_buf name = {0};
    nb_buf_printf(&name, "%.*s%s", (int)(w->tensor->name.n - cut), w->tensor->name.p, end);
    it->name = (nb_str){name.failed ? NULL : nb_arena_strdup(&w->arena, nb_buf_view(&name)), name.len};
    nb_buf_free(&name);
    if (!it->name.p)
        return nb_fail_memory(err, w->out, w->tensor->name.n);
    w->count++;
    return NB_OK;
}

static nb_status add_4bit(nb_bnb_writing *w, nb_error *err)
{
    static const nb_dtype plain = NB_DTYPE_F32;
    const nb_hf_linear *l = w->linear;
    uint64_t blocks = nb_hf_linear_blocks(l), packed = (nb_hf_linear_values(l) + 1) / 2;
    size_t size = nb_dtype_bytes(w->storage);
    nb_buf text = {0};
    if (packed % size != 0)
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "%s: tensor '%.*s' has %" PRIu64 " bytes of codes, no whole number of %s; give "
                       "--bnb-4bit-quant-storage uint8",
                       w->tensor->file, NB_STR_ARG(w->tensor->name), packed, nb_dtype_name(w->storage));
    NB_TRY(nb_bnb_add(w, NB_BNB_CODES, "", 0, w->storage, packed / size, 1, err));
    NB_TRY(nb_bnb_add(w, NB_BNB_ABSMAX, ".absmax", 0, l->nested_codes ? NB_DTYPE_U8 : plain, blocks, 0, err));
    NB_TRY(nb_bnb_add(w, NB_BNB_MAP, ".quant_map", 0, plain, 16, 0, err));
    if (l->nested_codes) {
        NB_TRY(nb_bnb_add(w, NB_BNB_NESTED_ABSMAX, ".nested_absmax", 0, plain, nb_bnb_blocks(blocks, l->nested_block),
                          0, err));
        NB_TRY(nb_bnb_add(w, NB_BNB_NESTED_MAP, ".nested_quant_map", 0, plain, 256, 0, err));
    }
    nb_bnb_state_text(w, &text);
    nb_status status = text.failed ? nb_fail_memory(err, w->out, text.len) : NB_OK;
    if (status == NB_OK)
        status = nb_bnb_add(w, NB_BNB_STATE,
                            l->code == NB_CODE_NF4 ? ".quant_state.bitsandbytes__nf4"
                                                   : ".quant_state.bitsandbytes__fp4",
                            0, NB_DTYPE_U8, text.len, 0, err);
    nb_buf_free(&text);
    return status;
}

static nb_status add_tensor(nb_bnb_writing *w, nb_error *err)
{
    enum { WEIGHT = sizeof ".weight" - 1 };
    const nb_checkpoint_tensor *t = w->tensor;
    const nb_hf_linear *l = w->linear;
    if (!l) {
        NB_TRY(nb_bnb_add(w, NB_BNB_PLAIN, "", 0, nb_bnb_dtype(w, t->dtype), 0, 0, err));
        nb_bnb_item *it = &w->items[w->count - 1];
        it->n_dims = t->n_dims;
        memcpy(it->dims, t->dims, sizeof it->dims);
        it->bytes = t->values * nb_dtype_bytes(it->dtype);
        return NB_OK;
    }
    w->quantized++;
    if (w->p->quanto)
        return nb_quanto_add(w, err);
    if (!l->int8)
        return add_4bit(w, err);
    NB_TRY(nb_bnb_add(w, NB_BNB_CODES, "", 0, NB_DTYPE_I8, l->rows, l->columns, err));
    NB_TRY(nb_bnb_add(w, NB_BNB_SCB, ".SCB", WEIGHT, NB_DTYPE_F32, l->rows, 0, err));
    return nb_bnb_add(w, NB_BNB_FORMAT, ".weight_format", WEIGHT, NB_DTYPE_U8, 0, 0, err);
}

/* as safetensors orders what it saves: large dtypes first, then by name */
static int by_place(const void *a, const void *b)
{
    const nb_bnb_item *x = a, *y = b;
    if (x->dtype != y->dtype)
        return x->dtype > y->dtype ? -1 : 1;
    int c = memcmp(x->name.p, y->name.p, nb_min_size(x->name.n, y->name.n));
    return c ? c : x->name.n < y->name.n ? -1 : x->name.n > y->name.n;
}

static int by_tensor(const void *a, const void *b)
{
    const nb_hf_made *x = *(const nb_hf_made *const *)a, *y = *(const nb_hf_made *const *)b;
    return (x->from > y->from) - (x->from < y->from);
}

/* A tensor of the checkpoint may be several of the model. What the model does not know is left out, as transformers does. */
static nb_status list_tensors(nb_bnb_writing *w, nb_error *err)
{
    const nb_hf *h = (const nb_hf *)w->source;
    size_t n = h->source.tensor_count;
    nb_status status = NB_OK;
    const nb_hf_made **made = calloc(n + 1, sizeof *made);
    if (!made)
        return nb_fail_memory(err, w->out, n * sizeof *made);
    for (size_t i = 0; i < n; i++)
        made[i] = &h->made[i];
    qsort(made, n, sizeof *made, by_tensor);
    for (size_t i = 0; i < n && status == NB_OK; i++) {
        if (!made[i]->from || (i && made[i]->from == made[i - 1]->from))
            continue;
        w->tensor = made[i]->from;
        w->linear = made[i]->linear;
        status = add_tensor(w, err);
    }
    free(made);
    NB_TRY(status);
    qsort(w->items, w->count, sizeof *w->items, by_place);
    for (size_t i = 0; i < w->count; i++)
        w->all += w->items[i].bytes;
    return NB_OK;
}

/* ---- the files ---- */

static nb_status write_tensors(nb_bnb_writing *w, nb_error *err)
{
    nb_status status = NB_OK;
    NB_TRY(nb_safetensors_writer_open(w->out, w->p->shard_bytes, &w->file, err));
    for (size_t i = 0; i < w->count; i++)
        nb_safetensors_put(w->file, w->items[i].name, w->items[i].dtype, w->items[i].n_dims, w->items[i].dims);
    for (size_t i = 0; i < w->count && status == NB_OK; i++)
        status = nb_bnb_write_item(w, &w->items[i], err);
    if (status == NB_OK)
        return nb_safetensors_writer_commit(w->file, err);
    nb_safetensors_writer_abort(w->file);
    return status;
}

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* Not weights in any form, nor what describes them. */
static bool is_copied(const char *name)
{
    static const char *const others[] = {".safetensors", ".bin",  ".pt",   ".pth",  ".ckpt",      ".h5",
                                         ".msgpack",     ".onnx", ".gguf", ".part", ".index.json"};
    if (name[0] == '.' || strcmp(name, "config.json") == 0)
        return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (ends_in(name, others[i]))
            return false;
    return true;
}

static nb_status write_file(const char *dir, const char *name, const nb_buf *text, nb_error *err)
{
    char *path;
    nb_writer *file;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        return nb_fail_memory(err, dir, strlen(name));
    nb_status status = nb_writer_open(path, &file, err);
    free(path);
    NB_TRY(status);
    status = nb_writer_write(file, text->data, text->len, err);
    if (status == NB_OK)
        return nb_writer_commit(file, err);
    nb_writer_abort(file);
    return status;
}

static nb_status copy_file(const char *from, const char *to, const char *name, nb_error *err)
{
    char *path;
    struct stat info;
    nb_buf text = {0};
    if (asprintf(&path, "%s/%s", from, name) < 0)
        return nb_fail_memory(err, from, strlen(name));
    bool is_file = stat(path, &info) == 0 && S_ISREG(info.st_mode);
    nb_status status = is_file ? nb_file_read(path, NB_HF_TOKENIZER_BYTES, &text, err) : NB_OK;
    free(path);
    if (is_file && status == NB_OK)
        status = write_file(to, name, &text, err);
    nb_buf_free(&text);
    return status;
}

static nb_status copy_files(const char *from, const char *to, nb_error *err)
{
    nb_status status = NB_OK;
    DIR *d = opendir(from);
    if (!d)
        return nb_fail(err, NB_ERR_IO, "%s: cannot be listed: %s", from, strerror(errno));
    for (struct dirent *e; status == NB_OK && (e = readdir(d));)
        if (is_copied(e->d_name))
            status = copy_file(from, to, e->d_name, err);
    closedir(d);
    return status;
}

/* The text of config.json, with the dtype that floats have been given. */
static void put_config(const nb_bnb_writing *w, nb_str text, nb_buf *b)
{
    static const char *const names[] = {
        [NB_FLOAT_F32] = "\"float32\"", [NB_FLOAT_F16] = "\"float16\"", [NB_FLOAT_BF16] = "\"bfloat16\""};
    const nb_hf *h = (const nb_hf *)w->source;
    const nb_node *n = nb_node_get_kind(h->config.root, "torch_dtype", '"');
    n = n ? n : nb_node_get_kind(h->config.root, "dtype", '"');
    size_t end = n ? n->at + n->str.n + 2 : 0; /* its quotes; a name with escapes would be longer, and is none */
    if (!w->p->has_dtype || !n || end > text.n || text.p[end - 1] != '"') {
        nb_buf_str(b, text);
        return;
    }
    nb_buf_add(b, text.p, n->at);
    nb_buf_z(b, names[w->p->dtype]);
    nb_buf_add(b, text.p + end, text.n - end);
}

/* The text stays as it is; the new member goes behind its last one. */
static nb_status write_config(const nb_bnb_writing *w, nb_error *err)
{
    const nb_hf *h = (const nb_hf *)w->source;
    nb_str text = nb_buf_view(&h->config.text);
    nb_buf b = {0};
    while (text.n && text.p[text.n - 1] != '}')
        text.n--;
    text.n -= text.n > 0;
    while (text.n && strchr(" \t\r\n", text.p[text.n - 1]))
        text.n--;
    put_config(w, text, &b);
    nb_buf_z(&b, text.n && text.p[text.n - 1] == '{' ? "\n" : ",\n");
    if (w->p->quanto)
        nb_quanto_config_text(w->p, &b);
    else
        nb_bnb_config_text(w->p, &b);
    nb_buf_z(&b, "}\n");
    nb_status status = b.failed ? nb_fail_memory(err, w->out, b.len) : write_file(w->out, "config.json", &b, err);
    nb_buf_free(&b);
    return status;
}

static nb_status write_map(const nb_bnb_writing *w, nb_error *err)
{
    nb_buf b = {0};
    nb_quanto_map_text(w, &b);
    nb_status status = b.failed ? nb_fail_memory(err, w->out, b.len) : write_file(w->out, "quanto_qmap.json", &b, err);
    nb_buf_free(&b);
    return status;
}

static nb_status prepare(const nb_bnb_writing *w, const char *dir, nb_error *err)
{
    struct stat from, to;
    if (mkdir(w->out, 0777) != 0 && errno != EEXIST)
        return nb_fail(err, NB_ERR_IO, "%s: cannot make the directory: %s", w->out, strerror(errno));
    if (stat(dir, &from) != 0 || stat(w->out, &to) != 0)
        return nb_fail(err, NB_ERR_IO, "%s: cannot look at it: %s", w->out, strerror(errno));
    if (!S_ISDIR(to.st_mode))
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: is there already and is no directory", w->out);
    if (from.st_dev == to.st_dev && from.st_ino == to.st_ino)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: is what is read; give the output another name", w->out);
    return NB_OK;
}

static nb_status write_all(nb_bnb_writing *w, const char *dir, nb_error *err)
{
    NB_TRY(list_tensors(w, err));
    if (!w->quantized)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s: has no linear layer that is to be quantized; skip fewer modules",
                       dir);
    NB_TRY(prepare(w, dir, err));
    NB_TRY(copy_files(dir, w->out, err));
    NB_TRY(write_tensors(w, err));
    if (w->p->quanto)
        NB_TRY(write_map(w, err));
    return write_config(w, err);
}

static nb_dtype storage_of(const char *name)
{
    return strcmp(name, "float32") == 0    ? NB_DTYPE_F32
           : strcmp(name, "float16") == 0  ? NB_DTYPE_F16
           : strcmp(name, "bfloat16") == 0 ? NB_DTYPE_BF16
                                           : NB_DTYPE_U8;
}

nb_status nb_bnb_write(const char *dir, const char *out, const nb_bnb_write_params *p,
                       nb_bnb_write_progress_fn *progress, void *user, nb_bnb_write_result *result, nb_error *err)
{
    nb_bnb_writing w = {.p = p, .out = out, .storage = storage_of(p->storage), .progress = progress, .user = user};
    nb_hf_params hf = {.load = &p->load, .rounds = p->has_dtype, .taken = p->dtype, .threads = p->threads};
    NB_TRY(nb_hf_open_as(dir, &hf, &w.source, err));
    nb_status status = write_all(&w, dir, err);
    if (result)
        *result = (nb_bnb_write_result){w.all, w.count, w.quantized};
    nb_source_free(w.source);
    nb_arena_free(&w.arena);
    free(w.items);
    return status;
}
