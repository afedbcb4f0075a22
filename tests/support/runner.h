/* runner.h - runs a tiny GGUF through the CPU backend without an engine: one sequence, any chunks. */
#ifndef NB_TESTS_CPU_RUNNER_H
#define NB_TESTS_CPU_RUNNER_H

#include <stdio.h>
#include <stdlib.h>

#include "cpu/cpu.h"

typedef struct runner {
    nb_gguf *gguf;
    nb_model_def *model;
    nb_plan plan;
    nb_weights *weights;
    nb_context *context;
    size_t width; /* of a row of results: logits, or hidden states where there is no head */
    uint32_t pages[64];
    size_t max_pages[NB_GROUPS];
} runner;

typedef struct runner_options {
    bool exact, repack, hidden;
    int threads;
    nb_type kv;
} runner_options;

enum { RUNNER_BATCH = 512, RUNNER_CONTEXT = 512 };

static inline void runner_die(const nb_error *err)
{
    fprintf(stderr, "runner: %s\n", err->message);
    abort();
}

/* takes gguf */
static inline void runner_open_gguf(runner *r, nb_gguf *gguf, runner_options o)
{
    nb_error err;
    *r = (runner){.gguf = gguf};
    nb_weights_params w = {.threads = o.threads, .repack = o.repack, .exact = o.exact};
    if (nb_model_def_new(r->gguf, &r->model, &err) != NB_OK || nb_plan_build(r->model, &r->plan, &err) != NB_OK ||
        nb_backend_cpu.weights_new(r->model, &r->plan, &w, &r->weights, &err) != NB_OK)
        runner_die(&err);
    for (uint32_t i = 0; i < 64; i++)
        r->pages[i] = (i + 3) % 8; /* not in order: the page table must be used */
    r->max_pages[NB_GROUP_GLOBAL] = RUNNER_CONTEXT / NB_PAGE;
    r->max_pages[NB_GROUP_LOCAL] = RUNNER_CONTEXT / NB_PAGE;
    nb_context_params p = {.max_tokens = RUNNER_BATCH,
                           .max_outputs = RUNNER_BATCH,
                           .max_spans = 4,
                           .max_positions = nb_min_size(RUNNER_CONTEXT, r->model->h.context),
                           .pages = {8, 8},
                           .max_pages = {8, 8},
                           .kv_type = o.kv,
                           .hidden = o.hidden || r->plan.logits < 0};
    r->width = r->plan.buffers[p.hidden ? r->plan.hidden : r->plan.logits].width;
    if (nb_backend_cpu.context_new(r->weights, &p, &r->context, &err) != NB_OK)
        runner_die(&err);
}

static inline void runner_open(runner *r, const char *path, runner_options o)
{
    nb_error err;
    nb_gguf *gguf;
    if (nb_gguf_open(path, &gguf, &err) != NB_OK)
        runner_die(&err);
    runner_open_gguf(r, gguf, o);
}

static inline void runner_close(runner *r)
{
    nb_backend_cpu.context_free(r->context);
    nb_backend_cpu.weights_free(r->weights);
    nb_plan_free(&r->plan);
    nb_model_def_free(r->model);
    nb_gguf_close(r->gguf);
}

/* one step of tokens of one sequence, all their logits */
static inline void runner_step(runner *r, const nb_batch *batch)
{
    nb_error err;
    if (nb_backend_cpu.run(r->context, batch, &err) != NB_OK)
        runner_die(&err);
}

static inline const uint32_t *runner_outputs(void)
{
    static uint32_t outputs[RUNNER_BATCH];
    for (uint32_t i = 0; i < RUNNER_BATCH; i++)
        outputs[i] = i;
    return outputs;
}

static inline nb_span runner_span(const runner *r, size_t first, size_t count, size_t position)
{
    return (nb_span){.first = first,
                     .count = count,
                     .position = (int64_t)position,
                     .pages = {r->pages, r->pages},
                     .page_count = {r->max_pages[0], r->max_pages[1]}};
}

/* logits [count][width] of a sequence from position 0, computed in steps of `chunk` tokens */
static inline void runner_logits(runner *r, const int32_t *ids, size_t count, size_t chunk, float *logits)
{
    for (size_t at = 0; at < count; at += chunk) {
        size_t n = count - at < chunk ? count - at : chunk;
        nb_span span = runner_span(r, 0, n, at);
        span.length = count;
        nb_batch batch = {.tokens = ids + at,
                          .n_tokens = n,
                          .spans = &span,
                          .n_spans = 1,
                          .outputs = runner_outputs(),
                          .n_outputs = n};
        runner_step(r, &batch);
        for (size_t i = 0; i < n; i++)
            memcpy(logits + (at + i) * r->width, nb_backend_cpu.logits(r->context, i), r->width * sizeof *logits);
    }
}

#endif
