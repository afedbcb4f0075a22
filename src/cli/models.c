#include "cli/models.h"

#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/table.h"
#include "cli/text_width.h"
#include "server/ollama.h"

enum { TEXT_LINES = 2, TEXT_COLUMNS = 100, ARRAY_COLUMNS = 10 };

/* ---- asking ---- */

bool nb_models_is_path(const char *model)
{
    struct stat s;
    nb_name name;
    if (stat(model, &s) != 0)
        return model[0] == '/' || model[0] == '.' || nb_name_parse(nb_str_of(model), &name, NULL) != NB_OK;
    return S_ISREG(s.st_mode) || S_ISDIR(s.st_mode);
}

static nb_status parse(nb_buf *text, json_t **out, nb_error *err)
{
    json_error_t problem;
    *out = json_loadb(text->data, text->len, 0, &problem);
    nb_buf_free(text);
    return *out ? NB_OK : nb_fail(err, NB_ERR_INTERNAL, "what a model says cannot be read back: %s", problem.text);
}

static void note_problem(void *user, const char *text)
{
    (void)user;
    nb_note("nibble: %s", text);
}

static nb_status list_store(json_t **out, nb_error *err)
{
    nb_library *library;
    nb_buf text = {0};
    NB_TRY(nb_library_open(&(nb_library_params){0}, &library, err));
    nb_status status = nb_ollama_tags(library, &text, note_problem, NULL, err);
    nb_library_close(library);
    if (status == NB_OK)
        return parse(&text, out, err);
    nb_buf_free(&text);
    return status;
}

static void note_silence(const nb_client *api, const nb_client_server *server)
{
    if (server->named && !server->answers)
        nb_note("no server answers at %s; this is what the store here holds", nb_client_url(api));
}

nb_status nb_models_list(json_t **out, nb_error *err)
{
    nb_client *api;
    NB_TRY(nb_client_open(&api, err));
    nb_client_server server = nb_client_look(api);
    note_silence(api, &server);
    nb_status status = server.answers ? nb_client_ask(api, "GET", "/api/tags", NULL, out, err) : list_store(out, err);
    nb_client_close(api);
    return status;
}

nb_status nb_models_describe(nb_entry *e, bool verbose, json_t **out, nb_error *err)
{
    nb_buf text = {0};
    nb_status status = nb_ollama_show(e, verbose, &text, err);
    if (status == NB_OK)
        return parse(&text, out, err);
    nb_buf_free(&text);
    return status;
}

static nb_status show_here(const char *model, bool verbose, json_t **out, nb_error *err)
{
    nb_library *library;
    nb_entry *e;
    bool path = nb_models_is_path(model);
    nb_library_params p = {.no_store = path, .files = &model, .file_count = path};
    NB_TRY(nb_library_open(&p, &library, err));
    nb_status status = NB_OK;
    if (path) {
        nb_entry_list *list;
        status = nb_library_list(library, &list, err);
        e = status == NB_OK ? nb_entry_retain(nb_entry_list_at(list, 0)) : NULL;
        if (status == NB_OK)
            nb_entry_list_release(list);
    } else {
        status = nb_library_find(library, nb_str_of(model), &e, err);
    }
    if (status == NB_OK) {
        status = nb_models_describe(e, verbose, out, err);
        nb_entry_release(e);
    }
    nb_library_close(library);
    return status;
}

static nb_status stored_file(nb_library *library, const char *model, nb_buf *path, nb_error *err)
{
    const nb_contents *contents;
    nb_entry *e;
    NB_TRY(nb_library_find(library, nb_str_of(model), &e, err));
    nb_status status = nb_entry_check(e, err);
    if (status == NB_OK)
        status = nb_entry_contents(e, &contents, err);
    if (status == NB_OK && !contents->model)
        status = nb_fail(err, NB_ERR_UNSUPPORTED, "%s has no model file of its own", model);
    if (status == NB_OK)
        nb_buf_z(path, contents->model);
    nb_entry_release(e);
    return status;
}

nb_status nb_models_file(const char *model, nb_buf *path, nb_error *err)
{
    nb_library *library;
    nb_status status = NB_OK;
    if (nb_models_is_path(model)) {
        nb_buf_z(path, model);
    } else {
        NB_TRY(nb_library_open(&(nb_library_params){0}, &library, err));
        status = stored_file(library, model, path, err);
        nb_library_close(library);
    }
    return status == NB_OK && path->failed ? nb_fail_memory(err, "a path", 0) : status;
}

nb_status nb_models_show(const char *model, bool verbose, json_t **out, nb_error *err)
{
    nb_client *api;
    if (nb_models_is_path(model))
        return show_here(model, verbose, out, err);
    NB_TRY(nb_client_open(&api, err));
    nb_client_server server = nb_client_look(api);
    note_silence(api, &server);
    nb_status status;
    if (server.answers) {
        json_t *body = json_pack("{s:s, s:b}", "model", model, "verbose", verbose);
        status = body ? nb_client_ask(api, "POST", "/api/show", body, out, err) : nb_fail_memory(err, "a request", 0);
        json_decref(body);
    } else {
        status = show_here(model, verbose, out, err);
    }
    nb_client_close(api);
    return status;
}

/* ---- printing ---- */

const char *nb_models_text(const json_t *shown, const char *key)
{
    const char *text = json_string_value(json_object_get(shown, key));
    return text ? text : "";
}

bool nb_models_can(const json_t *shown, const char *what)
{
    const json_t *v;
    size_t i;
    json_array_foreach(json_object_get(shown, "capabilities"), i,
                       v) if (json_is_string(v) && strcmp(json_string_value(v), what) == 0) return true;
    return false;
}

static void row(nb_table *t, const char *name, const char *value)
{
    nb_table_row(t, (const nb_str[]){NB_STR(""), nb_str_of(name), nb_str_of(value)}, value ? 3 : 2);
}

static nb_status end_section(nb_table *t, const char *head, FILE *out, nb_error *err)
{
    fprintf(out, "  %s\n", head);
    NB_TRY(nb_table_print(t, out, err));
    fputc('\n', out);
    return NB_OK;
}

static void number_row(nb_table *t, const json_t *info, const char *architecture, const char *key, const char *name)
{
    char full[200], text[32];
    snprintf(full, sizeof full, "%s.%s", architecture, key);
    const json_t *v = json_object_get(info, full);
    if (!json_is_number(v))
        return;
    snprintf(text, sizeof text, "%.0f", json_number_value(v));
    row(t, name, text);
}

static nb_status print_model(const json_t *shown, FILE *out, nb_error *err)
{
    nb_table t = {0};
    const json_t *info = json_object_get(shown, "model_info"), *details = json_object_get(shown, "details");
    const char *architecture = nb_models_text(info, "general.architecture");
    const char *family = *architecture ? architecture : nb_models_text(details, "family");
    const char *size = nb_models_text(details, "parameter_size");
    if (*family)
        row(&t, "architecture", family);
    if (*size)
        row(&t, "parameters", size);
    number_row(&t, info, architecture, "context_length", "context length");
    number_row(&t, info, architecture, "embedding_length", "embedding length");
    row(&t, "quantization", nb_models_text(details, "quantization_level"));
    if (*nb_models_text(shown, "requires"))
        row(&t, "requires", nb_models_text(shown, "requires"));
    return end_section(&t, "Model", out, err);
}

static nb_status print_capabilities(const json_t *shown, FILE *out, nb_error *err)
{
    nb_table t = {0};
    const json_t *list = json_object_get(shown, "capabilities"), *v;
    size_t i;
    if (json_array_size(list) == 0)
        return NB_OK;
    json_array_foreach(list, i, v) row(&t, json_is_string(v) ? json_string_value(v) : "?", NULL);
    return end_section(&t, "Capabilities", out, err);
}

/* Lines of words, a cell a word. */
static nb_status print_parameters(const json_t *shown, FILE *out, nb_error *err)
{
    nb_table t = {0};
    const char *at = nb_models_text(shown, "parameters");
    if (!*at)
        return NB_OK;
    while (*at) {
        nb_str cells[NB_TABLE_COLUMNS] = {NB_STR("")};
        size_t count = 1, line = strcspn(at, "\n");
        const char *end = at + line;
        while (at < end) {
            size_t gap = strspn(at, " \t"), n = strcspn(at + gap, " \t\n");
            if (count + 1 == NB_TABLE_COLUMNS) /* the rest in one */
                n = (size_t)(end - at) - gap;
            if (n)
                cells[count++] = (nb_str){at + gap, n};
            at += gap + n;
        }
        if (count > 1)
            nb_table_row(&t, cells, count);
        at += *at == '\n';
    }
    return end_section(&t, "Parameters", out, err);
}

/* The first lines that are not empty, broken at 100 columns. */
static nb_status print_text(const json_t *shown, const char *key, const char *head, FILE *out, nb_error *err)
{
    nb_table t = {0};
    const char *at = nb_models_text(shown, key);
    if (!*at)
        return NB_OK;
    for (int lines = 0; *at && lines <= TEXT_LINES;) {
        size_t n = strcspn(at, "\n");
        nb_str line = {at, n};
        at += n + (at[n] == '\n');
        while (line.n && strchr(" \t\r", line.p[0]))
            line = (nb_str){line.p + 1, line.n - 1};
        while (line.n && strchr(" \t\r", line.p[line.n - 1]))
            line.n--;
        if (line.n == 0)
            continue;
        if (lines++ == TEXT_LINES) {
            row(&t, "...", NULL);
            break;
        }
        while (line.n) {
            size_t end = 0, space = 0;
            for (int width = 0; end < line.n;) {
                nb_glyph g = nb_glyph_at((nb_str){line.p + end, line.n - end});
                if ((width += g.width < 0 ? 1 : g.width) > TEXT_COLUMNS)
                    break;
                space = line.p[end] == ' ' ? end : space;
                end += g.bytes;
            }
            size_t cut = end < line.n && space ? space : end;
            nb_table_row(&t, (const nb_str[]){NB_STR(""), {line.p, cut}}, 2);
            cut += cut < line.n && line.p[cut] == ' ';
            line = (nb_str){line.p + cut, line.n - cut};
        }
    }
    return end_section(&t, head, out, err);
}

static void print_value(const json_t *v, nb_buf *out)
{
    char number[32];
    switch (json_typeof(v)) {
    case JSON_STRING: nb_buf_z(out, json_string_value(v)); break;
    case JSON_TRUE: nb_buf_z(out, "true"); break;
    case JSON_FALSE: nb_buf_z(out, "false"); break;
    case JSON_INTEGER: nb_buf_printf(out, "%lld", (long long)json_integer_value(v)); break;
    case JSON_REAL:
        nb_format_double(json_real_value(v), number);
        nb_buf_z(out, number);
        break;
    default: nb_buf_z(out, "null");
    }
}

/* "[a b ...+98 more]" */
static void print_array(const json_t *v, nb_buf *out)
{
    size_t shown = 0, count = json_array_size(v);
    nb_buf_char(out, '[');
    for (int width = 1; shown < count; shown++) {
        nb_buf item = {0};
        print_value(json_array_get(v, shown), &item);
        width += nb_text_width(nb_buf_view(&item)) + (shown ? 2 : 0);
        bool fits = width <= ARRAY_COLUMNS || shown == 0;
        if (fits) {
            nb_buf_z(out, shown ? " " : "");
            nb_buf_str(out, nb_buf_view(&item));
        }
        nb_buf_free(&item);
        if (!fits)
            break;
    }
    if (shown < count)
        nb_buf_printf(out, " ...+%zu more", count - shown);
    nb_buf_char(out, ']');
}

static nb_status print_metadata(const json_t *shown, FILE *out, nb_error *err)
{
    nb_table t = {0};
    const char *key;
    json_t *v, *info = json_object_get(shown, "model_info");
    json_object_foreach(info, key, v)
    {
        nb_buf value = {0};
        if (json_is_array(v))
            print_array(v, &value);
        else
            print_value(v, &value);
        row(&t, key, value.data ? value.data : "");
        t.failed |= value.failed;
        nb_buf_free(&value);
    }
    return end_section(&t, "Metadata", out, err);
}

static nb_status print_tensors(const json_t *shown, FILE *out, nb_error *err)
{
    nb_table t = {0};
    const json_t *list = json_object_get(shown, "tensors"), *v;
    size_t i, k;
    if (json_array_size(list) == 0)
        return NB_OK;
    json_array_foreach(list, i, v)
    {
        nb_buf shape = {0};
        const json_t *dimensions = json_object_get(v, "shape");
        for (k = 0; k < json_array_size(dimensions); k++)
            nb_buf_printf(&shape, "%s%lld", k ? " " : "[",
                          (long long)json_integer_value(json_array_get(dimensions, k)));
        nb_buf_char(&shape, ']');
        nb_table_row(&t,
                     (const nb_str[]){NB_STR(""), nb_str_of(nb_models_text(v, "name")),
                                      nb_str_of(nb_models_text(v, "type")), nb_buf_view(&shape)},
                     4);
        t.failed |= shape.failed;
        nb_buf_free(&shape);
    }
    return end_section(&t, "Tensors", out, err);
}

nb_status nb_models_print_info(const json_t *shown, bool verbose, FILE *out, nb_error *err)
{
    NB_TRY(print_model(shown, out, err));
    NB_TRY(print_capabilities(shown, out, err));
    NB_TRY(print_parameters(shown, out, err));
    if (verbose) {
        NB_TRY(print_metadata(shown, out, err));
        NB_TRY(print_tensors(shown, out, err));
    }
    NB_TRY(print_text(shown, "system", "System", out, err));
    return print_text(shown, "license", "License", out, err);
}
