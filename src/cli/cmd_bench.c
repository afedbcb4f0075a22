/* nibble bench MODEL: prefill and decode, beside the machine's ceilings measured in the same run. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/json_write.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "engine/engine.h"
#include "kernel/ceiling.h"

enum { READ_BYTES = 256 << 20, MOST_REPEATS = 1000 };

typedef struct series { /* one figure a repetition */
    double value[MOST_REPEATS];
    int count;
} series;

typedef struct bench {
    nb_model_options model;
    int prompt, decode, repeats;
    bool json;
    nb_model *m;
    nb_session *s;
    nb_team *team; /* for the ceilings, while the session rests */
    void *memory;
    int32_t *ids;
    double load_seconds, operations, bytes; /* of a prompt token; read for a decoded one */
    series prefill, generate, read, int8, prefill_fraction, decode_fraction;
} bench;

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const series *s)
{
    double sorted[MOST_REPEATS];
    if (s->count == 0)
        return 0;
    memcpy(sorted, s->value, (size_t)s->count * sizeof *sorted);
    qsort(sorted, (size_t)s->count, sizeof *sorted, by_size);
    return s->count % 2 ? sorted[s->count / 2] : (sorted[s->count / 2 - 1] + sorted[s->count / 2]) / 2;
}

/* what a token must compute and read: every matrix of the plan once, the head only for wanted outputs */
static void count_work(bench *b)
{
    const nb_plan *plan = &b->m->plan;
    for (size_t i = 0; i < plan->op_count; i++) {
        const nb_op *op = &plan->ops[i];
        if (op->kind != NB_OP_MATMUL)
            continue;
        const nb_gguf_tensor *t = b->m->def->weights[op->weight].tensor;
        b->bytes += (double)t->bytes;
        if (!plan->buffers[op->out].outputs)
            b->operations += 2 * (double)t->dims[0] * (double)t->dims[1];
    }
}

/* The machine's bandwidth drifts within seconds: it is measured right before and right after what is told as a fraction
 * of it, the best of three passes each time. */
static double read_ceiling(bench *b)
{
    double best = 0;
    for (int i = 0; i < 3; i++) {
        double rate = nb_ceiling_read(b->team, b->memory, READ_BYTES, 1);
        best = rate > best ? rate : best;
    }
    return best;
}

static void add(series *s, double value) { s->value[s->count++] = value; }

static nb_status measure_prefill(bench *b, bool keep, nb_error *err)
{
    double ceiling = nb_ceiling_int8(b->team, nb_cpu_best());
    NB_TRY(nb_session_rewind(b->s, 0, err));
    double start = nb_seconds();
    NB_TRY(nb_session_eval(b->s, b->ids, (size_t)b->prompt, NB_LOGITS_LAST, err));
    double rate = b->prompt / (nb_seconds() - start);
    if (keep) {
        add(&b->prefill, rate);
        add(&b->int8, ceiling);
        add(&b->prefill_fraction, ceiling > 0 ? rate * b->operations / ceiling : 0);
    }
    return NB_OK;
}

static nb_status measure_decode(bench *b, bool keep, nb_error *err)
{
    double before = read_ceiling(b);
    NB_TRY(nb_session_rewind(b->s, 0, err));
    double start = nb_seconds();
    for (int i = 0; i < b->decode; i++)
        NB_TRY(nb_session_eval(b->s, b->ids + i % 16, 1, NB_LOGITS_LAST, err));
    double rate = b->decode / (nb_seconds() - start), ceiling = (before + read_ceiling(b)) / 2;
    if (keep) {
        add(&b->generate, rate);
        add(&b->read, ceiling);
        add(&b->decode_fraction, rate * b->bytes / ceiling);
    }
    return NB_OK;
}

static nb_status measure_once(bench *b, bool keep, nb_error *err)
{
    if (b->prompt > 0)
        NB_TRY(measure_prefill(b, keep, err));
    return b->decode > 0 ? measure_decode(b, keep, err) : NB_OK;
}

static nb_status open_all(bench *b, const char *path, nb_error *err)
{
    double start = nb_seconds();
    size_t longest = (size_t)(b->prompt > b->decode ? b->prompt : b->decode);
    if (!b->model.session.context)
        b->model.session.context = longest;
    b->ids = calloc(longest + 16, sizeof *b->ids);
    b->memory = nb_pages_alloc(READ_BYTES);
    if (!b->ids || !b->memory)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    memset(b->memory, 1, READ_BYTES);
    NB_TRY(nb_model_open(path, &b->model.model, &b->m, err));
    NB_TRY(nb_session_open(b->m, &b->model.session, &b->s, err));
    b->load_seconds = nb_seconds() - start;
    for (size_t i = 0; i < longest + 16; i++)
        b->ids[i] = (int32_t)((i * 7919 + 11) % nb_model_vocabulary(b->m));
    count_work(b);
    return nb_team_new(b->model.model.threads, true, &b->team, err);
}

static nb_status run_bench(bench *b, const char *path, nb_error *err)
{
    NB_TRY(open_all(b, path, err));
    NB_TRY(measure_once(b, false, err)); /* warms caches and threads */
    for (int i = 0; i < b->repeats && !nb_interrupted(); i++)
        NB_TRY(measure_once(b, true, err));
    return NB_OK;
}

static void print_text(const bench *b, const char *path)
{
    double pp = median(&b->prefill), tg = median(&b->generate), read = median(&b->read), int8 = median(&b->int8);
    printf("%s\n%s, level %s, %d threads\n", path, nb_cpu_model(), nb_cpu_level_name(nb_cpu_current()),
           nb_team_size(b->team));
    printf("load     %8.0f ms\n", b->load_seconds * 1e3);
    if (b->prompt > 0)
        printf("prefill  %8.1f tok/s of %d tokens: %.0f GOP/s, %.1f %% of %.0f (8-bit dot products)\n", pp, b->prompt,
               pp * b->operations * 1e-9, 100 * median(&b->prefill_fraction), int8 * 1e-9);
    if (b->decode > 0)
        printf("decode   %8.1f tok/s of %d tokens: %.1f GB/s, %.1f %% of %.1f (reading memory)\n", tg, b->decode,
               tg * b->bytes * 1e-9, 100 * median(&b->decode_fraction), read * 1e-9);
}

static void json_series(nb_json *j, const char *name, const series *s, int tokens, double ceiling_fraction)
{
    nb_json_key(j, name);
    nb_json_open(j, '{');
    nb_json_put_int(j, "tokens", tokens);
    nb_json_put_num(j, "tok_s", median(s));
    nb_json_put_num(j, "fraction", ceiling_fraction);
    nb_json_key(j, "all");
    nb_json_open(j, '[');
    for (int i = 0; i < s->count; i++)
        nb_json_num(j, s->value[i]);
    nb_json_close(j, ']');
    nb_json_close(j, '}');
}

static nb_status print_json(const bench *b, const char *path, nb_error *err)
{
    nb_buf out = {0};
    nb_json j = nb_json_begin(&out, true);
    double read = median(&b->read), int8 = median(&b->int8);
    nb_json_open(&j, '{');
    nb_json_put_z(&j, "model", path);
    nb_json_put_z(&j, "cpu", nb_cpu_model());
    nb_json_put_z(&j, "level", nb_cpu_level_name(nb_cpu_current()));
    nb_json_put_int(&j, "threads", nb_team_size(b->team));
    nb_json_put_num(&j, "load_ms", b->load_seconds * 1e3);
    if (b->prompt > 0)
        json_series(&j, "prefill", &b->prefill, b->prompt, median(&b->prefill_fraction));
    if (b->decode > 0)
        json_series(&j, "decode", &b->generate, b->decode, median(&b->decode_fraction));
    nb_json_key(&j, "ceiling");
    nb_json_open(&j, '{');
    nb_json_put_num(&j, "read_bytes_s", read);
    nb_json_put_num(&j, "int8_ops_s", int8);
    nb_json_close(&j, '}');
    nb_json_put_num(&j, "bytes_a_token", b->bytes);
    nb_json_put_num(&j, "operations_a_token", b->operations);
    nb_json_close(&j, '}');
    return nb_print_json(&out, err);
}

int nb_cmd_bench(int argc, char **argv)
{
    static bench b = {.prompt = 512, .decode = 64, .repeats = 5};
    b.model = nb_model_options_defaults();
    nb_option options[] = {
        {"prompt", 'p', NB_OPTION_INT, &b.prompt, "N", "tokens of prefill (default 512; 0: none)"},
        {"decode", 'n', NB_OPTION_INT, &b.decode, "N", "tokens to decode (default 64; 0: none)"},
        {"repeat", 'r', NB_OPTION_INT, &b.repeats, "N", "repetitions; medians are reported (default 5)"},
        {"json", 0, NB_OPTION_FLAG, &b.json, NULL, "machine-readable"},
        NB_MODEL_OPTION_ROWS(b.model),
        {.name = ""},
    };
    int code = nb_options_parse("bench", options, &argc, argv);
    if (code < 0)
        code = nb_model_options_finish("bench", &b.model);
    if (code >= 0)
        return code;
    if (argc != 2)
        return nb_report_usage("bench", "which model? give one GGUF file");
    if (b.prompt < 0 || b.decode < 0 || (b.prompt == 0 && b.decode == 0) || b.repeats < 1 || b.repeats > MOST_REPEATS)
        return nb_report_usage("bench", "-p and -n cannot both be 0 or negative, and -r is 1 to %d", MOST_REPEATS);
    nb_error err;
    nb_interrupt_watch();
    nb_status status = run_bench(&b, argv[1], &err);
    if (status == NB_OK && b.json)
        status = print_json(&b, argv[1], &err);
    else if (status == NB_OK)
        print_text(&b, argv[1]);
    nb_team_free(b.team);
    nb_session_close(b.s);
    nb_model_close(b.m);
    nb_pages_free(b.memory, READ_BYTES);
    free(b.ids);
    return status == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
}
