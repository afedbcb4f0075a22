/* /health and /metrics: Prometheus' text form, under our names and those that dashboards of vLLM look for. */
#include <stdio.h>
#include <stdlib.h>

#include "server/routes.h"

enum { MODELS = 256 };

void nb_route_health(nb_http_request *r) { nb_http_reply(r, 200, "application/json", NB_STR("{\"status\":\"ok\"}")); }

static void put_head(nb_buf *out, const char *name, const char *type, const char *help)
{
    nb_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_value(nb_buf *out, double value) { nb_buf_printf(out, " %.15g\n", value); }

static void put(nb_buf *out, const char *name, const char *type, const char *help, double value)
{
    put_head(out, name, type, help);
    nb_buf_z(out, name);
    put_value(out, value);
}

/* NAME{model_name="..." and what `more` says */
static void put_labelled(nb_buf *out, const char *name, const nb_model_load *m, const char *more, double value)
{
    nb_buf_printf(out, "%s{model_name=\"", name);
    for (const char *c = m->name; *c; c++) {
        if (*c == '\\' || *c == '"')
            nb_buf_char(out, '\\');
        nb_buf_z(out, *c == '\n' ? "\\n" : (char[]){*c, 0});
    }
    nb_buf_printf(out, "\"%s}", more);
    put_value(out, value);
}

static void put_histogram(nb_buf *out, const char *name, const nb_model_load *m, const nb_histogram *h)
{
    char part[96], more[64], bound[32];
    uint64_t below = 0;
    snprintf(part, sizeof part, "%s_bucket", name);
    for (size_t i = 0; i <= h->bound_count; i++) {
        below += h->counts[i];
        if (i < h->bound_count)
            snprintf(bound, sizeof bound, "%.15g", h->bounds[i]);
        else
            snprintf(bound, sizeof bound, "+Inf");
        snprintf(more, sizeof more, ",le=\"%s\"", bound);
        put_labelled(out, part, m, more, (double)below);
    }
    snprintf(part, sizeof part, "%s_sum", name);
    put_labelled(out, part, m, "", h->sum);
    snprintf(part, sizeof part, "%s_count", name);
    put_labelled(out, part, m, "", (double)below);
}

static void put_histograms(nb_buf *out, const char *prefix, const nb_model_load *m, size_t count)
{
    char name[64];
    snprintf(name, sizeof name, "%stime_to_first_token_seconds", prefix);
    put_head(out, name, "histogram", "Seconds from a request to its first token.");
    for (size_t i = 0; i < count; i++)
        put_histogram(out, name, &m[i], &m[i].first);
    snprintf(name, sizeof name, "%stime_per_output_token_seconds", prefix);
    put_head(out, name, "histogram", "Seconds from each token to the next one of its reply.");
    for (size_t i = 0; i < count; i++)
        put_histogram(out, name, &m[i], &m[i].next);
}

static void put_service(nb_buf *out, const nb_service_load *l)
{
    put(out, "nibble_requests_total", "counter", "Requests that ended.", (double)l->requests);
    put(out, "nibble_requests_failed_total", "counter", "Of these, those that failed.", (double)l->failures);
    put(out, "nibble_requests_cancelled_total", "counter", "Of these, those whose client left.", (double)l->cancelled);
    put(out, "nibble_requests_refused_total", "counter", "Requests that found the queue full, or the server stopping.",
        (double)l->refused);
    put(out, "nibble_requests_running", "gauge", "Replies that are computed now.", (double)l->running);
    put(out, "nibble_requests_waiting", "gauge", "Requests in line.", (double)l->waiting);
    put(out, "nibble_prompt_tokens_total", "counter", "Tokens of prompts.", (double)l->prompt_tokens);
    put(out, "nibble_prompt_tokens_reused_total", "counter", "Of these, those found in the cache.",
        (double)l->reused_tokens);
    put(out, "nibble_reply_tokens_total", "counter", "Tokens of replies.", (double)l->tokens);
    put(out, "nibble_cache_usage", "gauge", "Share of the cache's pages in use, of the fullest model.", l->cache_usage);
    put(out, "nibble_models_loaded", "gauge", "Models in memory.", (double)l->models);
}

/* vLLM's gauges, one a model. Who scales by them needs a value when no model was asked for yet, too. */
static void put_gauges(nb_buf *out, const nb_model_load *m, size_t count)
{
    static const struct {
        const char *name, *help;
    } gauges[] = {{"vllm:num_requests_running", "As nibble_requests_running, of each model."},
                  {"vllm:num_requests_waiting", "As nibble_requests_waiting, of each model."},
                  {"vllm:kv_cache_usage_perc", "As nibble_cache_usage, of each model; 1 is all."}};
    for (size_t g = 0; g < 3; g++) {
        put_head(out, gauges[g].name, "gauge", gauges[g].help);
        for (size_t i = 0; i < count; i++)
            put_labelled(out, gauges[g].name, &m[i], "",
                         g == 0   ? (double)m[i].running
                         : g == 1 ? (double)m[i].waiting
                                  : m[i].cache_usage);
        if (count == 0)
            nb_buf_printf(out, "%s 0\n", gauges[g].name);
    }
}

void nb_route_metrics(nb_http_request *r)
{
    nb_service_load l = nb_service_look(nb_http_service(r));
    nb_model_load *m = calloc(MODELS, sizeof *m);
    nb_buf out = {0};
    if (!m) {
        nb_http_fail(r, 500, &(nb_error){NB_ERR_MEMORY, "out of memory"});
        return;
    }
    size_t count = nb_min_size(nb_service_look_models(nb_http_service(r), m, MODELS), MODELS);
    put_service(&out, &l);
    put_gauges(&out, m, count);
    put_histograms(&out, "nibble_", m, count);
    put_histograms(&out, "vllm:", m, count);
    free(m);
    nb_http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", nb_buf_view(&out));
    nb_buf_free(&out);
}
