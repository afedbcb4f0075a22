/* Attention on the shapes of real models. Prefill: the multiply-adds of causal attention (each query its own keys only)
 * against the float32 peak. Decode: the cache's bytes against the read bandwidth (long) and time a layer (short).
 *   bench_attention [threads] */
#include <stdio.h>

#include "attention/attention.h"
#include "base/clock.h"
#include "kernel/ceiling.h"
#include "median.h"

typedef struct shape {
    const char *name;
    int heads, kv_heads, dim;
    int64_t window;
} shape;

static const shape shapes[] = {{"smollm2", 9, 3, 64, 0},
                               {"qwen-1.5b", 12, 2, 128, 0},
                               {"qwen-0.5b", 14, 2, 64, 0},
                               {"gemma-270m", 4, 1, 256, 512},
                               {"gemma-270m-global", 4, 1, 256, 0}};

typedef struct setup {
    nb_attention_spec spec;
    nb_kv_layout layout;
    nb_attention_span span;
    void **pages;
    size_t page_bytes, layers; /* pages of `layers` layers one after another: decode runs through all */
    float *q, *out;
    void *scratch;
    nb_team *team;
    size_t repeat;
} setup;

static bool setup_new(setup *s, const shape *of, nb_type type, size_t positions, size_t queries, size_t layers,
                      nb_team *team)
{
    size_t width = (size_t)of->heads * (size_t)of->dim, kv = (size_t)of->kv_heads * (size_t)of->dim;
    *s = (setup){.team = team, .layers = layers, .repeat = 1};
    s->spec = (nb_attention_spec){.heads = of->heads,
                                  .kv_heads = of->kv_heads,
                                  .k_dim = of->dim,
                                  .v_dim = of->dim,
                                  .scale = 0.1f,
                                  .window = of->window,
                                  .causal = true};
    s->layout = (nb_kv_layout){type, of->kv_heads, of->dim, of->dim};
    s->page_bytes = nb_kv_page_bytes(&s->layout);
    size_t pages = (positions + NB_PAGE - 1) / NB_PAGE, bytes = pages * layers * s->page_bytes;
    s->pages = malloc(pages * layers * sizeof(void *));
    char *store = nb_pages_alloc(bytes);
    s->q = malloc(queries * width * sizeof(float));
    s->out = malloc(queries * width * sizeof(float));
    float *row = malloc(kv * sizeof(float));
    s->scratch = nb_pages_alloc(nb_attention_scratch(&s->spec, &s->layout, 1, queries, positions, nb_team_size(team)));
    if (!s->pages || !store || !s->q || !s->out || !row || !s->scratch)
        return false;
    for (size_t i = 0; i < queries * width; i++)
        s->q[i] = (float)(i * 2654435761u % 2001) / 1000.0f - 1.0f;
    for (size_t p = 0; p < pages * layers * NB_PAGE; p++) {
        for (size_t i = 0; i < kv; i++)
            row[i] = (float)((p * kv + i) * 2246822519u % 2001) / 1000.0f - 1.0f;
        s->pages[p / NB_PAGE] = store + p / NB_PAGE * s->page_bytes;
        nb_kv_store(&s->layout, s->pages[p / NB_PAGE], (int)(p % NB_PAGE), row, row, 0, of->kv_heads);
    }
    free(row);
    s->span = (nb_attention_span){
        s->pages, pages, (int64_t)(positions - queries), (int64_t)positions, queries, s->q, s->out, width, width, NULL};
    return true;
}

static void setup_free(setup *s)
{
    nb_pages_free(s->pages[0], s->span.page_count * s->layers * s->page_bytes);
    nb_pages_free(s->scratch, nb_attention_scratch(&s->spec, &s->layout, 1, s->span.n_queries,
                                                   (size_t)s->span.n_positions, nb_team_size(s->team)));
    free(s->pages);
    free(s->q);
    free(s->out);
}

static void run_member(void *context, int member, int members)
{
    setup *s = context;
    for (size_t r = 0; r < s->repeat; r++)
        for (size_t layer = 0; layer < s->layers; layer++) {
            nb_attention_span span = s->span;
            span.pages += layer * span.page_count;
            nb_attention_run(&s->spec, &s->layout, &span, 1, false, s->scratch, s->team, member, members);
            if (members > 1)
                nb_team_barrier(s->team);
        }
}

/* median seconds of one layer's attention */
static double seconds_of(setup *s)
{
    double times[9];
    run_member(s, 0, 1);
    for (int i = 0; i < 9; i++) {
        double begin = nb_seconds();
        nb_team_run(s->team, run_member, s);
        times[i] = (nb_seconds() - begin) / (double)(s->repeat * s->layers);
    }
    return median(times, 9);
}

static void bench_prefill(const shape *of, size_t positions, size_t queries, nb_team *team)
{
    setup s;
    if (!setup_new(&s, of, NB_TYPE_F16, positions, queries, 1, team))
        return;
    double seen = 0, peak = nb_ceiling_f32(team, nb_cpu_current());
    for (size_t i = positions - queries; i < positions; i++)
        seen += of->window > 0 && (int64_t)i >= of->window ? (double)of->window : (double)i + 1;
    double rate = 4.0 * seen * of->heads * of->dim / seconds_of(&s);
    printf("prefill %-18s %4zu of %4zu: %6.1f GFLOP/s of %6.1f: %4.1f %%\n", of->name, queries, positions, rate * 1e-9,
           peak * 1e-9, 100 * rate / peak);
    setup_free(&s);
}

/* bytes a second from memory, best of five */
static double read_ceiling(nb_team *team)
{
    const size_t bytes = (size_t)256 << 20;
    double best = 0;
    void *memory = nb_pages_alloc(bytes);
    if (!memory)
        return 0;
    memset(memory, 1, bytes);
    for (int i = 0; i < 5; i++) {
        double rate = nb_ceiling_read(team, memory, bytes, 1);
        best = rate > best ? rate : best;
    }
    nb_pages_free(memory, bytes);
    return best;
}

static void bench_decode(const shape *of, nb_type type, size_t positions, size_t layers, nb_team *team)
{
    setup s;
    if (!setup_new(&s, of, type, positions, 1, layers, team))
        return;
    size_t seen = of->window > 0 ? nb_min_size(positions, (size_t)of->window) : positions;
    double bytes = (double)s.page_bytes / NB_PAGE * (double)seen;
    s.repeat = bytes * (double)layers < 1e7 ? 1 + (size_t)(1e7 / bytes / (double)layers) : 1;
    double peak = read_ceiling(team), seconds = seconds_of(&s);
    printf("decode  %-18s %-4s %6zu x %2zu layers: %8.2f us a layer, %5.1f GB/s of %5.1f: %5.1f %%\n", of->name,
           nb_type_get(type)->name, positions, layers, seconds * 1e6, bytes / seconds * 1e-9, peak * 1e-9,
           100 * bytes / seconds / peak);
    setup_free(&s);
}

/* One token's keys and values, as decode stores them: a slot further each time, a page a layer. */
static void bench_store(const shape *of, nb_type type, nb_team *team)
{
    enum { LAYERS = 24, ROUNDS = 50 };
    setup s;
    if (!setup_new(&s, of, type, NB_PAGE, 1, LAYERS, team))
        return;
    static float row[1024];
    double times[9];
    for (int i = 0; i < 9; i++) {
        double begin = nb_seconds();
        for (int slot = 0; slot < ROUNDS; slot++)
            for (int layer = 0; layer < LAYERS; layer++)
                nb_kv_store(&s.layout, s.pages[layer], slot, row, row, 0, of->kv_heads);
        times[i] = (nb_seconds() - begin) / ROUNDS / LAYERS;
    }
    printf("store   %-18s %-4s: %.3f us a token and layer\n", of->name, nb_type_get(type)->name,
           median(times, 9) * 1e6);
    setup_free(&s);
}

int main(int argc, char **argv)
{
    nb_team *team;
    nb_error err;
    if (nb_team_new(argc > 1 ? atoi(argv[1]) : 0, true, &team, &err) != NB_OK) {
        fprintf(stderr, "bench_attention: %s\n", err.message);
        return 1;
    }
    printf("level %s, %d threads\n", nb_cpu_level_name(nb_cpu_current()), nb_team_size(team));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        bench_prefill(&shapes[i], 512, 512, team);
        bench_prefill(&shapes[i], 2048, 512, team);
    }
    static const nb_type types[] = {NB_TYPE_F16, NB_TYPE_BF16, NB_TYPE_Q8_0, NB_TYPE_F32};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        bench_decode(&shapes[i], NB_TYPE_F16, 32, 24, team);
        bench_decode(&shapes[i], NB_TYPE_F16, 128, 24, team);
        bench_decode(&shapes[i], NB_TYPE_F16, 512, 24, team);
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t t = 0; t < 4; t++)
            bench_decode(&shapes[i], types[t], 8192, 24, team);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t t = 0; t < 4; t++)
            bench_store(&shapes[i], types[t], team);
    nb_team_free(team);
    return 0;
}
