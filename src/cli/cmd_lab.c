/* nibble lab [TOPIC]: the lecture as a program: what it teaches, computed, explained and drawn. */
#include <stdio.h>
#include <stdlib.h>

#include "base/json_write.h"
#include "cli/command.h"
#include "lab/lab.h"

enum { MAX_OPTIONS = 64 };

static int list_as_json(void)
{
    nb_error err;
    nb_buf text = {0};
    nb_json j = nb_json_begin(&text, false);
    nb_json_open(&j, '{');
    nb_json_key(&j, "topics");
    nb_json_open(&j, '[');
    for (const nb_lab_topic *t = nb_lab_topics; t->name; t++) {
        nb_json_open(&j, '{');
        nb_json_put_z(&j, "name", t->name);
        nb_json_put_z(&j, "summary", t->summary);
        nb_json_close(&j, '}');
    }
    nb_json_close(&j, ']');
    nb_json_close(&j, '}');
    return nb_print_json(&text, &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}

static int list_topics(void)
{
    printf("The topics, in reading order:\n\n");
    for (const nb_lab_topic *t = nb_lab_topics; t->name; t++)
        printf("  %-10s %s\n", t->name, t->summary);
    printf("\n'nibble lab TOPIC' computes, explains and prints one in seconds;\n"
           "'-o FILE.svg' draws its figures, '-o FILE.html' writes a page of all of it,\n"
           "'--json' prints the numbers, '--help' lists its options.\n");
    return NB_EXIT_OK;
}

static const nb_lab_topic *find_topic(const char *name)
{
    nb_nearest nearest = {.given = name};
    for (const nb_lab_topic *t = nb_lab_topics; t->name; t++) {
        if (strcmp(t->name, name) == 0)
            return t;
        nb_nearest_offer(&nearest, t->name);
    }
    if (nearest.best)
        nb_report_usage("lab", "there is no topic '%s'; did you mean '%s'?", name, nearest.best);
    else
        nb_report_usage("lab", "there is no topic '%s'; 'nibble lab' lists them", name);
    return NULL;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static nb_status draw(const nb_lab *lab, const char *path, nb_error *err)
{
    nb_buf picture = {0};
    if (ends_in(path, ".svg"))
        nb_lab_svg(lab, &picture);
    else
        nb_lab_html(lab, &picture);
    nb_status status = nb_write_page(path, &picture, err);
    nb_buf_free(&picture);
    return status;
}

static nb_status print(const nb_lab *lab, bool json, nb_error *err)
{
    nb_buf text = {0};
    nb_status status = NB_OK;
    if (json) {
        nb_lab_json(lab, &text);
        return nb_print_json(&text, err);
    }
    nb_lab_text(lab, &text);
    if (text.failed)
        status = nb_fail_memory(err, "the text", text.len);
    else
        fwrite(text.data, 1, text.len, stdout);
    nb_buf_free(&text);
    return status;
}

static int run_topic(const nb_lab_topic *topic, const nb_lab_params *p, const char *out, bool json)
{
    nb_error err;
    nb_lab *lab;
    nb_status status = nb_lab_run(topic, p, &lab, &err);
    if (status != NB_OK)
        return nb_report_error(&err);
    status = print(lab, json, &err);
    if (status == NB_OK && out)
        status = draw(lab, out, &err);
    nb_lab_free(lab);
    if (status != NB_OK)
        return nb_report_error(&err);
    if (out)
        nb_note("%s is written", out);
    return NB_EXIT_OK;
}

/* The options of one topic; without one, of all: for the help. */
static void make_options(nb_option options[MAX_OPTIONS], const nb_lab_topic *topic, nb_lab_params *p)
{
    const nb_option all[] = {
#define NB_LAB_STRING(field, name, value, help) {name, 0, NB_OPTION_STRING, &p->field, value, help},
#define NB_LAB_WHOLE(field, name, preset, value, help) {name, 0, NB_OPTION_I64, &p->field, value, help},
#define NB_LAB_REAL(field, name, preset, value, help) {name, 0, NB_OPTION_FLOAT, &p->field, value, help},
#include "lab/lab_options.def"
#undef NB_LAB_STRING
#undef NB_LAB_WHOLE
#undef NB_LAB_REAL
    };
    size_t n = 0;
    while (options[n].name[0])
        n++;
    for (size_t i = 0; i < sizeof all / sizeof *all && n + 1 < MAX_OPTIONS; i++)
        if (!topic || nb_lab_takes(topic, all[i].name))
            options[n++] = all[i];
    options[n] = (nb_option){.name = ""};
}

static const char *first_word(int argc, char **argv) { return argc > 1 && argv[1][0] != '-' ? argv[1] : NULL; }

int nb_cmd_lab(int argc, char **argv)
{
    nb_lab_params p = nb_lab_defaults();
    const nb_lab_topic *topic = NULL;
    const char *out = NULL;
    bool json = false;
    nb_option options[MAX_OPTIONS] = {
        {"out", 'o', NB_OPTION_STRING, &out, "FILE", "draw: FILE.svg the figures, FILE.html a page of everything"},
        {"json", 0, NB_OPTION_FLAG, &json, NULL, "print the numbers as JSON"},
        {.name = ""},
    };
    if (first_word(argc, argv) && !(topic = find_topic(argv[1])))
        return NB_EXIT_USAGE;
    make_options(options, topic, &p);
    int code = nb_options_parse("lab", options, &argc, argv);
    if (code >= 0)
        return code;
    if (!topic && argc > 1)
        return nb_report_usage("lab", "name the topic first: nibble lab %s ...", argv[1]);
    if (!topic)
        return json ? list_as_json() : list_topics();
    if (argc > 2 && !topic->arguments[0])
        return nb_report_usage("lab", "%s takes no '%s'", topic->name, argv[2]);
    if (out && !ends_in(out, ".svg") && !ends_in(out, ".html"))
        return nb_report_usage("lab", "-o %s: give a name that ends in .svg or .html", out);
    p.arguments = argv + 2;
    p.argument_count = (size_t)argc - 2;
    return run_topic(topic, &p, out, json);
}
