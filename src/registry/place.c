#include "registry/place.h"

#include <stdio.h>
#include <strings.h>
#include <time.h>

#include "base/env.h"
#include "base/file.h"

enum { TOKEN_FILE = 4 << 10 };

void nb_transfer_tell(const nb_transfer_params *p, const char *status, const char *digest, uint64_t total,
                      uint64_t completed)
{
    nb_transfer_event e = {.status = status, .digest = digest, .total = total, .completed = completed};
    if (p->tell)
        p->tell(p->user, &e);
}

nb_status nb_transfer_sleep(const nb_transfer_params *p, int ms, nb_error *err)
{
    if (p->stop && p->stop(p->user))
        return nb_fail(err, NB_ERR_CANCELLED, "stopped");
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
    return NB_OK;
}

void nb_transfer_status(const char *verb, nb_str digest, char text[64])
{
    nb_str hex = digest.n > 7 ? (nb_str){digest.p + 7, digest.n - 7} : digest;
    snprintf(text, 64, "%s %.*s", verb, (int)nb_min_size(hex.n, 12), hex.p);
}

/* HF_TOKEN, else the file that the hub's own tools keep it in. */
static void read_hub_token(nb_buf *out)
{
    const char *token = nb_env_text("HF_TOKEN"), *file = nb_env_text("HF_TOKEN_PATH"), *home = nb_env_text("HF_HOME"),
               *cache = nb_env_text("XDG_CACHE_HOME");
    nb_buf path = {0};
    if (token)
        nb_buf_z(out, token);
    else if (file)
        nb_buf_z(&path, file);
    else if (home)
        nb_buf_printf(&path, "%s/token", home);
    else if (cache)
        nb_buf_printf(&path, "%s/huggingface/token", cache);
    else if (nb_env_text("HOME"))
        nb_buf_printf(&path, "%s/.cache/huggingface/token", nb_env_text("HOME"));
    if (path.len && nb_file_read(path.data, TOKEN_FILE, out, NULL) != NB_OK)
        nb_buf_clear(out);
    while (out->len && (unsigned char)out->data[out->len - 1] <= ' ')
        out->data[--out->len] = 0;
    nb_buf_free(&path);
}

static bool within_machine(const char *base)
{
    nb_str host = nb_url_host(base);
    const char *own[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        size_t n = strlen(own[i]);
        if (host.n >= n && strncasecmp(host.p, own[i], n) == 0 && (host.n == n || host.p[n] == ':'))
            return true;
    }
    return false;
}

/* "https://host" of what may lack its scheme and end in slashes. */
static void add_base(nb_buf *out, const char *text, bool plain)
{
    if (!strstr(text, "://"))
        nb_buf_z(out, plain ? "http://" : "https://");
    nb_buf_z(out, text);
    while (out->len && out->data[out->len - 1] == '/')
        out->data[--out->len] = 0;
}

static nb_status open_web(nb_buf *base, bool hub, const nb_transfer_params *p, nb_web **out, nb_error *err)
{
    nb_buf token = {0}, key = {0};
    *out = NULL;
    if (hub)
        read_hub_token(&token);
    if (strncasecmp(base->data ? base->data : "", "https://", 8) != 0 && !within_machine(base->data ? base->data : ""))
        nb_buf_clear(&token);
    if (nb_env_text("HOME"))
        nb_buf_printf(&key, "%s/.ollama/id_ed25519", nb_env_text("HOME"));
    nb_web_params w = {.base = base->data,
                       .token = token.len ? token.data : NULL,
                       .challenges = true,
                       .key = key.len ? key.data : NULL,
                       .stop = p->stop,
                       .user = p->user,
                       .attempts = p->attempts,
                       .backoff_ms = p->backoff_ms,
                       .stall_seconds = p->stall_seconds,
                       .connections = p->connections,
                       .part_bytes = p->part_bytes};
    nb_status status = base->failed || token.failed || key.failed ? nb_fail_memory(err, "an address", base->len)
                                                                  : nb_web_open(&w, out, err);
    nb_buf_free(base);
    nb_buf_free(&token);
    nb_buf_free(&key);
    return status;
}

nb_status nb_place_open(const nb_name *name, const nb_transfer_params *p, nb_web **out, nb_error *err)
{
    bool hub = strcasecmp(name->host, NB_HUB_HOST) == 0 || strcasecmp(name->host, "huggingface.co") == 0;
    bool plain = p->insecure || name->plain;
    nb_buf base = {0};
    const char *endpoint = hub ? nb_env_text("HF_ENDPOINT") : NULL;
    add_base(&base, p->registry ? p->registry : endpoint ? endpoint : name->host, plain);
    return open_web(&base, hub && !p->registry, p, out, err);
}

nb_status nb_place_open_hub(const nb_transfer_params *p, nb_web **out, nb_error *err)
{
    const char *endpoint = nb_env_text("HF_ENDPOINT");
    nb_buf base = {0};
    add_base(&base, p->registry ? p->registry : endpoint ? endpoint : "https://huggingface.co", p->insecure);
    return open_web(&base, true, p, out, err);
}
