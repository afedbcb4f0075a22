/* nibble serve [FILE...]: the APIs of Ollama, OpenAI and Anthropic over the models of a store and loose files. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/cpu.h"
#include "base/env.h"
#include "cli/address.h"
#include "cli/command.h"
#include "server/http_log.h"
#include "server/options_use.h"

typedef struct serve_options {
    const char *host, *cache, *keep_alive, *memory, *certificate, *key, *key_file, *log;
    int port, threads, parallel, queue, models;
    int64_t context;
    bool no_store, no_reuse;
} serve_options;

/* ---- the log: a line an event, with the time ---- */

static nb_log_style log_style;

static void print_log(const char *message, const nb_http_record *record)
{
    char now[32];
    struct tm t;
    time_t seconds = time(NULL);
    nb_buf line = {0};
    localtime_r(&seconds, &t);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%S%z", &t);
    if (record)
        nb_log_request(&log_style, now, record, &line);
    else
        nb_log_message(&log_style, now, message, &line);
    if (!line.failed)
        fwrite(line.data, 1, line.len, stderr);
    nb_buf_free(&line);
}

static void log_line(void *user, const char *line)
{
    (void)user;
    print_log(line, NULL);
}

static void log_request(void *user, const nb_http_record *record)
{
    (void)user;
    print_log(NULL, record);
}

/* ---- what the environment says, in Ollama's names ---- */

/* What an option says comes first. */
static nb_status read_counts(const serve_options *o, nb_service_params *s, nb_error *err)
{
    NB_TRY(nb_env_count("OLLAMA_NUM_PARALLEL", &s->replies, err));
    NB_TRY(nb_env_count("OLLAMA_MAX_QUEUE", &s->queue, err));
    NB_TRY(nb_env_count("OLLAMA_MAX_LOADED_MODELS", &s->max_models, err));
    NB_TRY(nb_env_count("OLLAMA_CONTEXT_LENGTH", &s->context, err));
    s->replies = o->parallel ? (size_t)o->parallel : s->replies;
    s->queue = o->queue ? (size_t)o->queue : s->queue;
    s->max_models = o->models ? (size_t)o->models : s->max_models;
    s->context = o->context ? (size_t)o->context : s->context;
    return NB_OK;
}

static int read_environment(const serve_options *o, nb_service_params *s, nb_http_params *h)
{
    const char *keep = o->keep_alive ? o->keep_alive : nb_env_text("OLLAMA_KEEP_ALIVE"),
               *load = nb_env_text("OLLAMA_LOAD_TIMEOUT");
    nb_error err;
    if (read_counts(o, s, &err) != NB_OK)
        return nb_report_usage("serve", "%s", err.message);
    s->no_reuse = o->no_reuse;
    s->debug = nb_env_flag("OLLAMA_DEBUG");
    s->kv_type = o->cache ? o->cache : nb_env_text("OLLAMA_KV_CACHE_TYPE");
    if (keep && !nb_duration_parse(nb_str_of(keep), &s->keep_alive_ns))
        return nb_report_usage("serve", "keep-alive %s: give seconds or a duration such as 5m", keep);
    if (load && !nb_duration_parse(nb_str_of(load), &s->load_timeout_ns))
        return nb_report_usage("serve", "OLLAMA_LOAD_TIMEOUT=%s: give seconds or a duration such as 5m", load);
    if (keep && s->keep_alive_ns == 0)
        s->keep_alive_ns = 1; /* 0 would be the default */
    h->api_keys = nb_env_text("NIBBLE_API_KEYS");
    h->api_key_file = o->key_file ? o->key_file : nb_env_text("NIBBLE_API_KEY_FILE");
    h->origins = nb_env_text("OLLAMA_ORIGINS");
    h->allowed_hosts = nb_env_text("NIBBLE_ALLOWED_HOSTS");
    h->certificate = o->certificate;
    h->key = o->key;
    if (o->log && strcmp(o->log, "text") != 0 && strcmp(o->log, "json") != 0)
        return nb_report_usage("serve", "--log %s: it is text or json", o->log);
    log_style = (nb_log_style){.json = o->log && strcmp(o->log, "json") == 0,
                               .prompts = nb_env_flag("NIBBLE_LOG_PROMPTS")};
    return -1;
}

/* ---- serving ---- */

/* What is set of the variables that serve goes by; keys are not for the log. */
static void log_settings(void)
{
    static const char *const names[] = {
#define NB_ENV(name, fallback, meaning) #name,
#include "cli/env.def"
#undef NB_ENV
    };
    char line[1000];
    snprintf(line, sizeof line, "nibble %s, instructions %s, %d processors", nb_version(),
             nb_cpu_level_name(nb_cpu_current()), nb_cpu_count());
    print_log(line, NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = nb_env_text(names[i]);
        bool ours = strncmp(names[i], "OLLAMA_", 7) == 0 || strncmp(names[i], "NIBBLE_", 7) == 0;
        if (!value || !ours || nb_env_is_secret(names[i]))
            continue;
        snprintf(line, sizeof line, "%s=%s", names[i], value);
        print_log(line, NULL);
    }
}

static nb_status wait_for_signal(void)
{
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigwait(&set, &number);
    return NB_OK;
}

/* All threads of the server are to inherit this mask: the signals come to sigwait. */
static void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Each request holds tables as wide as the vocabulary. The C library takes to keeping blocks of that size once some were freed:
 * after 300 clients at once 725 MB stayed where 230 were needed. With a fixed limit they go back. It also gives threads heaps of
 * their own, eight to a core, and malloc_trim does not give back the end of such a heap when freed blocks of the "fast" lists are
 * merged into it: after some rounds of those clients 5 MB stayed, after others none. Without these lists, and with two heaps, it
 * is always the same, and no slower: each thread still has a cache of small blocks. */
static void give_memory_back(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_MXFAST, 0);
    mallopt(M_ARENA_MAX, 2);
#endif
}

/* Many systems give a program 1024 descriptors unless it asks for what it may have; connections alone may be 900. */
static void take_descriptors(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
}

/* The address, as it was given; of a name, what it stands for. */
static void say_listening(const nb_http_params *h, const nb_http *http)
{
    nb_buf known = {0};
    const char *address;
    bool bare = strchr(h->host, ':') != NULL;
    for (size_t i = 0; (address = nb_http_address(http, i)) && strcmp(address, h->host) != 0; i++)
        nb_buf_printf(&known, "%s%s", i ? ", " : " (", address);
    if (known.len)
        nb_buf_char(&known, ')');
    nb_note("nibble %s listens on %s://%s%s%s:%d%.*s; Ctrl-C stops it", nb_version(), h->certificate ? "https" : "http",
            bare ? "[" : "", h->host, bare ? "]" : "", nb_http_port(http), NB_STR_ARG(nb_buf_view(&known)));
    nb_buf_free(&known);
}

static nb_status serve(const nb_library_params *l, const nb_service_params *s, const nb_http_params *h, nb_error *err)
{
    nb_library *library = NULL;
    nb_service *service = NULL;
    nb_http *http = NULL;
    block_signals();
    give_memory_back();
    take_descriptors();
    if (s->debug)
        log_settings();
    nb_status status = nb_library_open(l, &library, err);
    if (status == NB_OK)
        status = nb_service_new(library, s, &service, err);
    if (status == NB_OK)
        status = nb_http_start(service, library, h, &http, err);
    if (status == NB_OK) {
        say_listening(h, http);
        wait_for_signal();
        nb_note("stopping: replies that run have 10 s to finish");
        nb_http_quiesce(http);
        nb_service_stop(service, (int64_t)10 * 1000000000);
    }
    nb_http_stop(http);
    nb_service_free(service);
    nb_library_close(library);
    return status;
}

int nb_cmd_serve(int argc, char **argv)
{
    serve_options o = {0};
    nb_option options[] = {
        {"host", 0, NB_OPTION_STRING, &o.host, "ADDRESS", "listen here (default: OLLAMA_HOST, or 127.0.0.1)"},
        {"port", 0, NB_OPTION_INT, &o.port, "N", "and on this port (default: 11434)"},
        {"threads", 't', NB_OPTION_INT, &o.threads, "N", "threads that compute (default: one a processor)"},
        {"parallel", 0, NB_OPTION_INT, &o.parallel, "N",
         "replies computed at once (default: OLLAMA_NUM_PARALLEL, or 16)"},
        {"queue", 0, NB_OPTION_INT, &o.queue, "N", "requests that may wait (default: OLLAMA_MAX_QUEUE, or 512)"},
        {"max-models", 0, NB_OPTION_INT, &o.models, "N", "models loaded at once (default: as memory allows)"},
        {"ctx", 'c', NB_OPTION_I64, &o.context, "N", "context of models (default: as trained, as far as memory goes)"},
        {"memory", 0, NB_OPTION_STRING, &o.memory, "N", "bytes that models may take: 8G (default: nine tenths)"},
        {"cache-type", 0, NB_OPTION_STRING, &o.cache, "TYPE", "of keys and values: f16, bf16, q8_0, q4_0, f32"},
        {"keep-alive", 0, NB_OPTION_STRING, &o.keep_alive, "TIME", "how long an idle model stays (default: 5m)"},
        {"cert", 0, NB_OPTION_STRING, &o.certificate, "FILE", "serve https with this certificate (PEM)"},
        {"key", 0, NB_OPTION_STRING, &o.key, "FILE", "and its key"},
        {"api-keys", 0, NB_OPTION_STRING, &o.key_file, "FILE", "ask for one of these API keys, one a line"},
        {"no-reuse", 0, NB_OPTION_FLAG, &o.no_reuse, NULL, "compute every prompt whole, to compare"},
        {"log", 0, NB_OPTION_STRING, &o.log, "text|json", "a line a request on standard error (default: text)"},
        {"no-store", 0, NB_OPTION_FLAG, &o.no_store, NULL, "only the files that are named here"},
        {.name = ""},
    };
    nb_error err;
    int code = nb_options_parse("serve", options, &argc, argv);
    nb_service_params s = {.threads = o.threads, .log = log_line};
    nb_address at = {.host = "127.0.0.1", .port = -1};
    const char *address = o.host ? o.host : nb_env_text("OLLAMA_HOST");
    if (code < 0 && address && !nb_address_parse(address, &at))
        code = nb_report_usage("serve", "%s is no address; give HOST, HOST:PORT or [::1]:PORT", address);
    nb_http_params h = {.host = at.host, .port = at.port < 0 ? NB_ADDRESS_PORT : at.port, .log = log_request};
    if (o.port)
        h.port = o.port;
    if (code < 0 && o.memory && !nb_parse_bytes(o.memory, &s.memory))
        code = nb_report_usage("serve", "--memory %s: give bytes, as 8G", o.memory);
    if (code < 0 && (o.parallel < 0 || o.queue < 0 || o.models < 0 || o.context < 0 || o.threads < 0))
        code = nb_report_usage("serve", "--parallel, --queue, --max-models, --ctx and --threads are not below 0");
    if (code < 0)
        code = read_environment(&o, &s, &h);
    nb_library_params l = {
        .no_store = o.no_store, .files = (const char *const *)argv + 1, .file_count = (size_t)(argc - 1)};
    if (code < 0)
        code = serve(&l, &s, &h, &err) == NB_OK ? NB_EXIT_OK : nb_report_error(&err);
    nb_options_free(options);
    return code;
}
