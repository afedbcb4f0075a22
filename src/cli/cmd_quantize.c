/* nibble quantize IN [OUT] TYPE|--size N|--bpw X|--kld X: the same model in other tensor types. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "cli/command.h"
#include "cli/convert_bnb.h"
#include "cli/quantize_options.h"

typedef struct quantize_options {
    nb_quantize_options q;
    const char *in, *out;
    char *own_out; /* out, when the name is made here */
} quantize_options;

/* "DIR/model-Q4_K_M.gguf" beside "DIR/model.gguf", or beside the directory "DIR/model/" */
static char *name_output(const char *in, const char *suffix)
{
    size_t n = strlen(in);
    char *name;
    int no, count, end = 0;
    while (n > 1 && in[n - 1] == '/')
        n--;
    if (n > 5 && strncmp(in + n - 5, ".gguf", 5) == 0)
        n -= 5;
    if (n > 15 && sscanf(in + n - 15, "-%5d-of-%5d%n", &no, &count, &end) == 2 && end == 15)
        n -= 15;
    return asprintf(&name, "%.*s%s%s.gguf", (int)n, in, *suffix ? "-" : "", suffix) < 0 ? NULL : name;
}

/* IN OUT TYPE, IN TYPE, and where tensors are only put into other files IN OUT or IN. */
static int take_arguments(quantize_options *o, int argc, char **argv)
{
    bool copies = o->q.merge_shards || o->q.split;
    o->in = argc > 1 ? argv[1] : NULL;
    o->q.params.mix = argc > 2 ? nb_mix_named(nb_str_of(argv[argc - 1]), &o->q.params.pure) : NULL;
    bool typed = o->q.params.mix != NULL;
    if (!typed && argc > 2 && !(copies && argc == 3))
        return nb_quantize_unknown("quantize", argv[argc - 1]);
    if (!typed && copies)
        o->q.params.mix = nb_mix_by_name(NB_STR("COPY"));
    if (!o->in || !o->q.params.mix || argc > (typed ? 4 : 3))
        return nb_report_usage("quantize", "give a model, the name of the new file, and a type such as Q4_K_M");
    bool named = argc == (typed ? 4 : 3);
    o->out = named ? argv[2] : NULL;
    if (!named)
        o->out = o->own_out = name_output(o->in, nb_mix_type(o->q.params.mix) ? nb_mix_name(o->q.params.mix) : "");
    return o->out ? -1 : nb_report_usage("quantize", "give the name of the new file");
}

/* IN OUT or IN, when a result is asked for. */
static int take_budget_arguments(quantize_options *o, int argc, char **argv)
{
    char name[64];
    const nb_quantize_budget *b = &o->q.budget;
    if (argc < 2 || argc > 3)
        return nb_report_usage("quantize", "with --size, --bpw or --kld give a model and the new file, no type");
    if (o->q.params.pure)
        return nb_report_usage("quantize", "--pure leaves --size, --bpw and --kld nothing to choose");
    o->in = argv[1];
    nb_quantize_budget_name(b, name);
    o->out = argc > 2 ? argv[2] : (o->own_out = name_output(o->in, name));
    return o->out ? -1 : nb_report_usage("quantize", "give the name of the new file");
}

int nb_cmd_quantize(int argc, char **argv)
{
    quantize_options o = {.q.params = nb_quantize_defaults()};
    nb_quantize_params *p = &o.q.params;
    const char *linear = NULL;
    const nb_option options[] = {
        {"linear", 0, NB_OPTION_STRING, &linear, "FORM", "OUT is a directory: linear layers as w8a16, w8a8 or w4g128"},
        NB_QUANTIZE_OPTION_ROWS(o.q),
        NB_QUANTIZE_BUDGET_ROWS(o.q.budget),
        {"allow-requantize", 0, NB_OPTION_FLAG, &p->allow_requantize, NULL, "also from quantized tensors"},
        {"keep-split", 0, NB_OPTION_FLAG, &p->keep_split, NULL, "shards as the source has them"},
        {"merge-shards", 0, NB_OPTION_FLAG, &o.q.merge_shards, NULL,
         "one file of all shards; without a TYPE, unchanged"},
        {.name = ""},
    };
    nb_error err;
    int code = nb_options_parse("quantize", options, &argc, argv);
    if (code >= 0)
        return code;
    if (linear) {
        code = argc == 3 ? nb_quantize_linear(argv[1], argv[2], linear, p->threads)
                         : nb_report_usage("quantize", "--linear takes two directories");
        nb_options_free(options);
        return code;
    }
    code = nb_quantize_budget_finish(&o.q.budget);
    if (code < 0)
        code = nb_quantize_budget_given(&o.q.budget) ? take_budget_arguments(&o, argc, argv)
                                                     : take_arguments(&o, argc, argv);
    if (code < 0)
        code = nb_quantize_options_finish("quantize", &o.q);
    if (code < 0) {
        nb_interrupt_watch();
        code = nb_quantize_run(&o.q, o.in, o.out, &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
    }
    nb_quantize_options_free(&o.q);
    free(o.own_out);
    nb_options_free(options);
    return code;
}
