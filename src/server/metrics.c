/* /health and /metrics: Prometheus' text form, under our names and those that dashboards of vLLM look for. */
#include "server/routes.h"

void nb_route_health(nb_http_request *r) { nb_http_reply(r, 200, "application/json", NB_STR("{\"status\":\"ok\"}")); }

static void put(nb_buf *out, const char *name, const char *type, const char *help, double value)
{
    nb_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name, value);
}

void nb_route_metrics(nb_http_request *r)
{
    nb_service_load l = nb_service_look(nb_http_service(r));
    nb_buf out = {0};
    put(&out, "nibble_requests_total", "counter", "Requests that ended.", (double)l.requests);
    put(&out, "nibble_requests_failed_total", "counter", "Of these, those that failed.", (double)l.failures);
    put(&out, "nibble_requests_cancelled_total", "counter", "Of these, those whose client left.", (double)l.cancelled);
    put(&out, "nibble_requests_running", "gauge", "Replies that are computed now.", (double)l.running);
    put(&out, "nibble_requests_waiting", "gauge", "Requests in line.", (double)l.waiting);
    put(&out, "nibble_prompt_tokens_total", "counter", "Tokens of prompts.", (double)l.prompt_tokens);
    put(&out, "nibble_prompt_tokens_reused_total", "counter", "Of these, those found in the cache.",
        (double)l.reused_tokens);
    put(&out, "nibble_reply_tokens_total", "counter", "Tokens of replies.", (double)l.tokens);
    put(&out, "nibble_cache_usage", "gauge", "Share of the cache's pages in use, of the fullest model.", l.cache_usage);
    put(&out, "nibble_models_loaded", "gauge", "Models in memory.", (double)l.models);
    put(&out, "vllm:num_requests_running", "gauge", "As nibble_requests_running.", (double)l.running);
    put(&out, "vllm:num_requests_waiting", "gauge", "As nibble_requests_waiting.", (double)l.waiting);
    put(&out, "vllm:kv_cache_usage_perc", "gauge", "As nibble_cache_usage.", l.cache_usage);
    nb_http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", nb_buf_view(&out));
    nb_buf_free(&out);
}
