/* What a LoRA adapter costs while a model runs: one of a rank on every matrix of the blocks, beside none, in turn.
 *   bench_adapter MODEL.gguf [RANK [THREADS [ROUNDS]]]        rank 16, a thread a processor, 5 rounds
 * Prefill of 256 tokens and 32 decoded ones; medians, and what the adapter adds in percent beside its multiplications and
 * bytes over the matrices'. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "format/gguf_write.h"
#include "median.h"

enum { PROMPT = 256, DECODED = 32, MOST_ROUNDS = 99 };

static char file[] = "/tmp/bench-adapter-XXXXXX";
static nb_error err;

static void must(nb_status status)
{
    if (status == NB_OK)
        return;
    fprintf(stderr, "bench_adapter: %s\n", err.message);
    unlink(file);
    exit(1);
}

static bool is_adapted(const nb_gguf_tensor *t)
{
    static const char end[] = ".weight";
    size_t n = sizeof end - 1;
    return nb_str_starts(t->name, NB_STR("blk.")) && t->n_dims == 2 && t->name.n > n && t->name.n < 56 &&
           memcmp(t->name.p + t->name.n - n, end, n) == 0;
}

typedef struct share { /* of the adapter over the matrices */
    double multiplications, bytes;
} share;

/* a pair of small numbers, float32, for every matrix of the blocks */
static share write_adapter(const nb_gguf *g, uint64_t rank)
{
    nb_gguf_writer *w;
    nb_str architecture;
    double own = 0, all = 0, bytes = 0;
    must(nb_gguf_get_str(g, "general.architecture", &architecture, &err));
    must(nb_gguf_writer_open(file, 0, &w, &err));
    nb_gguf_put_str(w, "general.type", NB_STR("adapter"));
    nb_gguf_put_str(w, "general.architecture", architecture);
    nb_gguf_put_str(w, "adapter.type", NB_STR("lora"));
    nb_gguf_put_f32(w, "adapter.lora.alpha", (float)rank);
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        char name[80];
        if (!is_adapted(t))
            continue;
        bytes += (double)t->bytes;
        all += (double)t->dims[0] * (double)t->dims[1];
        own += (double)rank * (double)(t->dims[0] + t->dims[1]);
        snprintf(name, sizeof name, "%.*s.lora_a", NB_STR_ARG(t->name));
        nb_gguf_put_tensor(w, nb_str_of(name), nb_type_get(NB_TYPE_F32), 2, (const uint64_t[]){t->dims[0], rank});
        snprintf(name, sizeof name, "%.*s.lora_b", NB_STR_ARG(t->name));
        nb_gguf_put_tensor(w, nb_str_of(name), nb_type_get(NB_TYPE_F32), 2, (const uint64_t[]){rank, t->dims[1]});
    }
    for (size_t i = 0; i < nb_gguf_tensor_count(g); i++) {
        const nb_gguf_tensor *t = nb_gguf_tensor_at(g, i);
        size_t a = (size_t)(rank * t->dims[0]), b = (size_t)(rank * t->dims[1]), n = a > b ? a : b;
        if (!is_adapted(t))
            continue;
        float *values = malloc(n * sizeof *values);
        for (size_t k = 0; values && k < n; k++)
            values[k] = 1e-3f * (float)((int)(k % 7) - 3);
        must(values ? NB_OK : nb_fail_memory(&err, "values", n * sizeof *values));
        must(nb_gguf_writer_data(w, values, a * sizeof *values, &err));
        must(nb_gguf_writer_data(w, values, b * sizeof *values, &err));
        free(values);
    }
    must(nb_gguf_writer_commit(w, &err));
    return (share){own / all, own * sizeof(float) / bytes};
}

typedef struct runner {
    nb_model *model;
    nb_session *session;
    double prefill[MOST_ROUNDS], decode[MOST_ROUNDS];
} runner;

static void open_runner(runner *r, const char *path, int threads, const nb_model_adapter *adapter)
{
    nb_model_params p = nb_model_defaults();
    nb_session_params s = nb_session_defaults();
    p.threads = threads;
    p.adapters = adapter;
    p.adapter_count = adapter != NULL;
    s.context = PROMPT + DECODED;
    must(nb_model_open(path, &p, &r->model, &err));
    must(nb_session_open(r->model, &s, &r->session, &err));
}

static void run(runner *r, int round, const int32_t *ids)
{
    must(nb_session_rewind(r->session, 0, &err));
    double start = nb_seconds();
    must(nb_session_eval(r->session, ids, PROMPT, NB_LOGITS_LAST, &err));
    double middle = nb_seconds();
    for (int i = 0; i < DECODED; i++)
        must(nb_session_eval(r->session, ids + i, 1, NB_LOGITS_LAST, &err));
    r->prefill[round] = middle - start;
    r->decode[round] = nb_seconds() - middle;
}

static void tell(const char *what, double *without, double *with, size_t rounds, double tokens, const share *of)
{
    double a = median(without, rounds), b = median(with, rounds);
    printf("%-8s %9.1f tokens/s without, %9.1f with: %+.1f %% (multiplications %+.1f %%, bytes %+.1f %%)\n", what,
           tokens / a, tokens / b, 100 * (b / a - 1), 100 * of->multiplications, 100 * of->bytes);
}

int main(int argc, char **argv)
{
    static runner none, one;
    int32_t ids[PROMPT];
    nb_gguf *g;
    uint64_t rank = argc > 2 ? strtoull(argv[2], NULL, 10) : 16;
    int threads = argc > 3 ? atoi(argv[3]) : 0, rounds = argc > 4 ? atoi(argv[4]) : 5, fd = mkstemp(file);
    if (argc < 2 || rank == 0 || rank > 1024 || rounds < 1 || rounds > MOST_ROUNDS || fd < 0) {
        fprintf(stderr, "usage: bench_adapter MODEL.gguf [RANK [THREADS [ROUNDS]]]\n");
        return 2;
    }
    close(fd);
    must(nb_gguf_open(argv[1], &g, &err));
    share of = write_adapter(g, rank);
    nb_gguf_close(g);
    nb_model_adapter adapter = {file, 1};
    open_runner(&none, argv[1], threads, NULL);
    open_runner(&one, argv[1], threads, &adapter);
    for (int i = 0; i < PROMPT; i++)
        ids[i] = 100 + i * 7 % 1000;
    run(&none, 0, ids); /* warm */
    run(&one, 0, ids);
    for (int i = 0; i < rounds; i++) {
        run(i % 2 ? &one : &none, i, ids);
        run(i % 2 ? &none : &one, i, ids);
    }
    printf("rank %llu on every matrix of the blocks:\n", (unsigned long long)rank);
    tell("prefill", none.prefill, one.prefill, (size_t)rounds, PROMPT, &of);
    tell("decode", none.decode, one.decode, (size_t)rounds, DECODED, &of);
    nb_session_close(none.session);
    nb_session_close(one.session);
    nb_model_close(none.model);
    nb_model_close(one.model);
    unlink(file);
    return 0;
}
