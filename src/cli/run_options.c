#include "cli/run_options.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

#include "base/json_write.h"

typedef struct number {
    size_t offset; /* in nb_sampler_params */
    bool whole;
    const char *option; /* Ollama's word; NULL: it has none */
} number;

static const number numbers[] = {
#define FLOAT(field, option)                                                                                           \
    {                                                                                                                  \
        offsetof(nb_sampler_params, field), false, option                                                              \
    }
#define INT(field, option)                                                                                             \
    {                                                                                                                  \
        offsetof(nb_sampler_params, field), true, option                                                               \
    }
    FLOAT(temperature, "temperature"),
    INT(top_k, "top_k"),
    FLOAT(top_p, "top_p"),
    FLOAT(min_p, "min_p"),
    FLOAT(typical_p, "typical_p"),
    INT(repeat_last_n, "repeat_last_n"),
    FLOAT(repeat_penalty, "repeat_penalty"),
    FLOAT(presence_penalty, "presence_penalty"),
    FLOAT(frequency_penalty, "frequency_penalty"),
    INT(mirostat, "mirostat"),
    FLOAT(mirostat_eta, "mirostat_eta"),
    FLOAT(mirostat_tau, "mirostat_tau"),
    FLOAT(dynatemp_range, NULL),
    FLOAT(dynatemp_exponent, NULL),
    FLOAT(top_n_sigma, NULL),
    FLOAT(xtc_probability, NULL),
    FLOAT(xtc_threshold, NULL),
    FLOAT(dry_multiplier, NULL),
    FLOAT(dry_base, NULL),
    INT(dry_allowed_length, NULL),
    INT(dry_penalty_last_n, NULL),
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

static void *field_of(const nb_sampler_params *s, const number *n) { return (char *)(uintptr_t)s + n->offset; }

static bool is_said(const nb_run_options *o, const number *n)
{
    const void *field = field_of(&o->s, n);
    return n->whole ? *(const int *)field != INT_MIN : !isnan(*(const float *)field);
}

nb_run_options nb_run_options_unsaid(void)
{
    nb_run_options o = {.s = nb_sampler_defaults(), .predict = INT64_MIN, .seed = INT64_MIN};
    for (size_t i = 0; i < NUMBERS; i++) {
        if (numbers[i].whole)
            *(int *)field_of(&o.s, &numbers[i]) = INT_MIN;
        else
            *(float *)field_of(&o.s, &numbers[i]) = NAN;
    }
    o.s.order = NULL;
    return o;
}

void nb_run_options_free(nb_run_options *o)
{
    free(o->bias);
    o->bias = NULL;
}

/* "ID=BIAS", "ID+BIAS" or "ID-BIAS" */
int nb_run_options_finish(nb_run_options *o)
{
    o->bias = calloc(o->biases.count + 1, sizeof *o->bias);
    if (!o->bias)
        return NB_EXIT_FAILED;
    for (size_t i = 0; i < o->biases.count; i++) {
        char *end, *last;
        long id = strtol(o->biases.items[i], &end, 10);
        float bias = strtof(*end == '=' ? end + 1 : end, &last);
        if (end == o->biases.items[i] || last == end || *last || id < 0 || id > INT32_MAX)
            return nb_report_usage("run", "--logit-bias %s: give a token id and a bias, as 42=-1.5",
                                   o->biases.items[i]);
        o->bias[i] = (nb_logit_bias){(int32_t)id, bias};
    }
    return -1;
}

static json_t *value_of(const nb_run_options *o, const number *n)
{
    char text[32];
    if (n->whole)
        return json_integer(*(const int *)field_of(&o->s, n));
    nb_format_float(*(const float *)field_of(&o->s, n), text); /* 0.1, not 0.10000000149 */
    return json_real(strtod(text, NULL));
}

nb_status nb_run_options_say(const nb_run_options *o, json_t *options, nb_error *err)
{
    int failed = 0;
    for (size_t i = 0; i < NUMBERS; i++)
        if (numbers[i].option && is_said(o, &numbers[i]))
            failed |= json_object_set_new(options, numbers[i].option, value_of(o, &numbers[i]));
    if (o->predict != INT64_MIN)
        failed |= json_object_set_new(options, "num_predict", json_integer(o->predict));
    if (o->seed != INT64_MIN)
        failed |= json_object_set_new(options, "seed", json_integer(o->seed));
    if (o->context > 0)
        failed |= json_object_set_new(options, "num_ctx", json_integer(o->context));
    if (o->threads > 0)
        failed |= json_object_set_new(options, "num_thread", json_integer(o->threads));
    if (o->stops.count) {
        json_t *list = json_array();
        for (size_t i = 0; i < o->stops.count; i++)
            failed |= json_array_append_new(list, json_string(o->stops.items[i]));
        failed |= json_object_set_new(options, "stop", list);
    }
    return failed ? nb_fail(err, NB_ERR_ARGUMENT, "the options cannot be written as JSON: is a text no UTF-8?") : NB_OK;
}

bool nb_run_options_only_here(const nb_run_options *o)
{
    bool any = o->biases.count || o->s.order;
    for (size_t i = 0; i < NUMBERS; i++)
        any |= !numbers[i].option && is_said(o, &numbers[i]);
    return any;
}

void nb_run_options_sample(const nb_run_options *o, nb_sampler_params *sampling)
{
    for (size_t i = 0; i < NUMBERS; i++) {
        void *to = field_of(sampling, &numbers[i]);
        const void *from = field_of(&o->s, &numbers[i]);
        if (numbers[i].option || !is_said(o, &numbers[i]))
            continue;
        if (numbers[i].whole)
            *(int *)to = *(const int *)from;
        else
            *(float *)to = *(const float *)from;
    }
    sampling->order = o->s.order;
    sampling->bias = o->bias;
    sampling->bias_count = o->biases.count;
}
