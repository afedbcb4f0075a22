/* nibble plan MODEL: what running it takes, to the byte, before anything is taken. */
#include <stdio.h>

#include "base/json_write.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "engine/engine.h"

static void print_row(const char *what, size_t bytes, const char *note)
{
    char text[24];
    nb_format_bytes(bytes, text);
    printf("%-10s %14zu  %10s  %s\n", what, bytes, text, note);
}

static void print_text(const nb_model *m, const nb_context_params *p, const nb_memory *y)
{
    char note[96];
    printf("%s: %s, %zu positions in %s, steps of at most %zu tokens\n\n", nb_gguf_path(m->gguf), m->def->arch->name,
           p->max_positions, nb_type_get(p->kv_type)->name, p->max_tokens);
    print_row("weights", y->weights_mapped, "read in place from the file");
    print_row("", y->weights_copied, "packed or converted copies");
    if (p->pages[NB_GROUP_LOCAL])
        snprintf(note, sizeof note, "%zu pages of %d positions a layer, %zu a window layer", p->pages[NB_GROUP_GLOBAL],
                 NB_PAGE, p->pages[NB_GROUP_LOCAL]);
    else
        snprintf(note, sizeof note, "%zu pages of %d positions a layer", p->pages[NB_GROUP_GLOBAL], NB_PAGE);
    print_row("cache", y->cache, note);
    print_row("buffers", y->buffers, "activations of a step and its logits");
    print_row("scratch", y->scratch, "of the threads");
    print_row("tables", y->tables, "positions and pages");
    print_row("session", y->cache + y->buffers + y->scratch + y->tables, "one allocation");
    print_row("total", y->weights_mapped + y->weights_copied + y->cache + y->buffers + y->scratch + y->tables, "");
}

static nb_status print_json(const nb_model *m, const nb_context_params *p, const nb_memory *y, nb_error *err)
{
    nb_buf b = {0};
    nb_json j = nb_json_begin(&b, true);
    struct {
        const char *key;
        size_t value;
    } rows[] = {
        {"context", p->max_positions},
        {"batch", p->max_tokens},
        {"weights_mapped", y->weights_mapped},
        {"weights_copied", y->weights_copied},
        {"cache", y->cache},
        {"buffers", y->buffers},
        {"scratch", y->scratch},
        {"tables", y->tables},
        {"session", y->cache + y->buffers + y->scratch + y->tables},
        {"total", y->weights_mapped + y->weights_copied + y->cache + y->buffers + y->scratch + y->tables},
    };
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "model", nb_gguf_path(m->gguf));
    nb_json_put_z(&j, "architecture", m->def->arch->name);
    nb_json_put_z(&j, "kv_type", nb_type_get(p->kv_type)->name);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_json_put_uint(&j, rows[i].key, rows[i].value);
    }
    nb_json_close(&j, '}');
    return nb_print_json(&b, err);
}

int nb_cmd_plan(int argc, char **argv)
{
    nb_model_options o = nb_model_options_defaults();
    bool json = false;
    nb_option options[] = {
        {"json", 0, NB_OPTION_FLAG, &json, NULL, "machine-readable"},
        NB_MODEL_OPTION_ROWS(o),
        {.name = ""},
    };
    int code = nb_options_parse("plan", options, &argc, argv);
    if (code < 0)
        code = nb_model_options_finish("plan", &o);
    if (code >= 0)
        return code;
    if (argc != 2)
        return nb_report_usage("plan", "which model? give one GGUF file");
    nb_error err;
    nb_model *m = NULL;
    nb_context_params params;
    nb_memory memory;
    nb_status status = nb_model_look(argv[1], &o.model, &m, &err);
    if (status == NB_OK)
        status = nb_session_plan(m, &o.session, &params, &err);
    if (status == NB_OK)
        status = nb_session_memory(m, &params, &memory, &err);
    if (status == NB_OK && json)
        status = print_json(m, &params, &memory, &err);
    else if (status == NB_OK)
        print_text(m, &params, &memory);
    nb_model_close(m);
    return status == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
