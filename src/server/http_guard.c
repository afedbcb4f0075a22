#include "server/http_guard.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "base/file.h"

enum { MOST_KEYS = 4096, MOST_KEY = 512, KEY_FILE = 1 << 20 };

typedef struct words {
    nb_str *items;
    size_t count, cap;
} words;

struct nb_guard {
    nb_arena arena;
    words keys, origins, hosts;
    bool loopback, any_host, asks_key;
    char machine[256];
};

static nb_status add_word(nb_guard *g, words *w, nb_str word, nb_error *err)
{
    while (word.n && (word.p[0] == ' ' || word.p[0] == '\t'))
        word.p++, word.n--;
    while (word.n && strchr(" \t\r\n", word.p[word.n - 1]))
        word.n--;
    if (word.n == 0 || word.p[0] == '#')
        return NB_OK;
    if (w->count == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 16;
        nb_str *more = NB_ARRAY(&g->arena, nb_str, cap);
        if (!more)
            return nb_fail_memory(err, "a list of names", cap * sizeof *more);
        if (w->count)
            memcpy(more, w->items, w->count * sizeof *more);
        w->items = more;
        w->cap = cap;
    }
    const char *copy = nb_arena_strdup(&g->arena, word);
    if (!copy)
        return nb_fail_memory(err, "a list of names", word.n);
    w->items[w->count++] = (nb_str){copy, word.n};
    return NB_OK;
}

static nb_status add_words(nb_guard *g, words *w, nb_str text, char separator, nb_error *err)
{
    while (text.n) {
        const char *end = memchr(text.p, separator, text.n);
        size_t n = end ? (size_t)(end - text.p) : text.n;
        NB_TRY(add_word(g, w, (nb_str){text.p, n}, err));
        n += end != NULL;
        text.p += n;
        text.n -= n;
    }
    return NB_OK;
}

static nb_status read_keys(nb_guard *g, const nb_http_params *p, nb_error *err)
{
    NB_TRY(add_words(g, &g->keys, nb_str_of(p->api_keys), ',', err));
    if (p->api_key_file) {
        nb_buf text = {0};
        nb_status status = nb_file_read(p->api_key_file, KEY_FILE, &text, err);
        if (status == NB_OK)
            status = add_words(g, &g->keys, nb_buf_view(&text), '\n', err);
        nb_buf_free(&text);
        NB_TRY(status);
    }
    g->asks_key = p->api_keys || p->api_key_file;
    if (g->asks_key && g->keys.count == 0)
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "API keys are asked for, and there are none: name one in NIBBLE_API_KEYS or the file");
    for (size_t i = 0; i < g->keys.count; i++)
        if (g->keys.items[i].n > MOST_KEY || g->keys.count > MOST_KEYS)
            return nb_fail(err, NB_ERR_ARGUMENT, "at most %d API keys of at most %d bytes", MOST_KEYS, MOST_KEY);
    return NB_OK;
}

nb_status nb_guard_new(const nb_http_params *p, bool loopback, nb_guard **out, nb_error *err)
{
    nb_guard *g = *out = calloc(1, sizeof *g);
    if (!g)
        return nb_fail_memory(err, "a server", sizeof *g);
    g->loopback = loopback;
    if (gethostname(g->machine, sizeof g->machine - 1) != 0)
        g->machine[0] = 0;
    nb_status status = read_keys(g, p, err);
    if (status == NB_OK)
        status = add_words(g, &g->origins, nb_str_of(p->origins), ',', err);
    if (status == NB_OK)
        status = add_words(g, &g->hosts, nb_str_of(p->allowed_hosts), ',', err);
    for (size_t i = 0; i < g->hosts.count; i++)
        g->any_host |= nb_str_eqz(g->hosts.items[i], "*");
    if (status != NB_OK) {
        nb_guard_free(g);
        *out = NULL;
    }
    return status;
}

void nb_guard_free(nb_guard *g)
{
    if (!g)
        return;
    nb_arena_free(&g->arena);
    free(g);
}

/* ---- keys ---- */

/* Reads all of both, whatever they hold. */
static bool equal_in_constant_time(nb_str a, const char *b, size_t n)
{
    unsigned char difference = a.n != n;
    for (size_t i = 0; i < a.n; i++)
        difference |= (unsigned char)(a.p[i] ^ (n ? b[i % n] : 0));
    return difference == 0;
}

bool nb_guard_asks_key(const nb_guard *g) { return g->asks_key; }

bool nb_guard_key(const nb_guard *g, const char *authorization, const char *key, uint64_t *user)
{
    bool found = !g->asks_key;
    if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0)
        key = authorization + 7;
    size_t n = key ? strlen(key) : 0;
    for (size_t i = 0; i < g->keys.count; i++)
        if (equal_in_constant_time(g->keys.items[i], key ? key : "", n) && key) {
            found = true;
            *user = i + 1;
        }
    return found;
}

/* ---- hosts ---- */

static bool is_address(const char *name)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

/* 127.evil.example is a name: only an address is taken by its first number. */
static bool is_local(const char *name)
{
    return strcasecmp(name, "localhost") == 0 || strcmp(name, "::1") == 0 || strcmp(name, "0.0.0.0") == 0 ||
           (is_address(name) && strncmp(name, "127.", 4) == 0);
}

/* name without port and brackets; false: it is none */
static bool split_host(const char *host, char name[256])
{
    const char *begin = host[0] == '[' ? host + 1 : host,
               *end = host[0] == '[' ? strchr(host, ']') : strrchr(host, ':');
    if (host[0] == '[' && !end)
        return false;
    const char *port = !end ? "" : host[0] == '[' ? end + 1 : end;
    if (*port && (*port != ':' || port[1 + strspn(port + 1, "0123456789")]))
        return false;
    size_t n = end ? (size_t)(end - begin) : strlen(begin);
    if (n == 0 || n >= 256)
        return false;
    memcpy(name, begin, n);
    name[n] = 0;
    if (name[n - 1] == '.')
        name[n - 1] = 0;
    return true;
}

bool nb_guard_host(const nb_guard *g, const char *host)
{
    char name[256];
    if (!host || g->any_host)
        return true;
    if (!split_host(host, name))
        return false;
    for (size_t i = 0; i < g->hosts.count; i++) {
        nb_str h = g->hosts.items[i];
        bool below = h.p[0] == '.' && strlen(name) > h.n && strcasecmp(name + strlen(name) - h.n, h.p) == 0;
        if (below || strcasecmp(h.p, name) == 0)
            return true;
    }
    if (g->loopback)
        return is_local(name);
    return is_local(name) || is_address(name) || !strchr(name, '.') || strcasecmp(name, g->machine) == 0;
}

/* ---- origins ---- */

static bool has_scheme(const char *origin, const char *scheme)
{
    return strncasecmp(origin, scheme, strlen(scheme)) == 0;
}

/* `pattern` may hold one '*' for any text. */
static bool fits(const char *pattern, const char *text)
{
    const char *star = strchr(pattern, '*');
    if (!star)
        return strcasecmp(pattern, text) == 0;
    size_t before = (size_t)(star - pattern), behind = strlen(star + 1), n = strlen(text);
    return n >= before + behind && strncasecmp(pattern, text, before) == 0 &&
           strcasecmp(star + 1, text + n - behind) == 0;
}

/* The page came from this very server, whose name nb_guard_host has looked at. */
static bool is_own(const char *origin, const char *host)
{
    const char *name = strstr(origin, "://");
    return name && host && strcasecmp(name + 3, host) == 0;
}

bool nb_guard_origin(const nb_guard *g, const char *origin, const char *host)
{
    static const char *const apps[] = {"app://*", "file://*", "tauri://*", "vscode-*"};
    char name[256];
    if (is_own(origin, host))
        return true;
    for (size_t i = 0; i < sizeof apps / sizeof *apps; i++)
        if (fits(apps[i], origin))
            return true;
    for (size_t i = 0; i < g->origins.count; i++)
        if (fits(g->origins.items[i].p, origin))
            return true;
    const char *rest = has_scheme(origin, "http://") ? origin + 7 : has_scheme(origin, "https://") ? origin + 8 : NULL;
    return rest && split_host(rest, name) && is_local(name);
}
