#include "store/name.h"

#include <stdio.h>
#include <strings.h>

enum part { HOST, SPACE, MODEL, TAG };
static const char *const part_names[] = {"host", "namespace", "model", "tag"};

static bool alphanumeric(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

/* A part begins with a letter, digit or '_': "..", hidden files and options cannot be one. */
static bool valid_part(enum part part, nb_str s)
{
    size_t most = part == HOST ? NB_NAME_HOST_MAX : NB_NAME_PART_MAX;
    if (s.n == 0 || s.n > most || !(alphanumeric(s.p[0]) || s.p[0] == '_'))
        return false;
    for (size_t i = 1; i < s.n; i++) {
        char c = s.p[i];
        bool good = alphanumeric(c) || c == '_' || c == '-' || (c == '.' && part != SPACE) ||
                    (c == ':' && part == HOST);
        if (!good)
            return false;
    }
    return true;
}

static nb_status take(enum part part, nb_str s, nb_str whole, char *to, nb_error *err)
{
    if (!valid_part(part, s))
        return nb_fail(
            err, NB_ERR_ARGUMENT, "invalid model name '%.*s': the %s '%.*s' %s; write [host/][namespace/]model[:tag]",
            NB_STR_ARG(whole), part_names[part], NB_STR_ARG(s),
            s.n == 0                                                             ? "is empty"
            : s.n > (part == HOST ? (size_t)NB_NAME_HOST_MAX : NB_NAME_PART_MAX) ? "is too long"
            : part == SPACE ? "may hold letters, digits, '_' and '-', the first no '-'"
                            : "may hold letters, digits, '_', '-' and '.', the first a letter, digit or '_'");
    memcpy(to, s.p, s.n);
    to[s.n] = 0;
    return NB_OK;
}

/* Cuts s at its last c: what follows goes to *after. */
static bool cut_last(nb_str *s, char c, nb_str *after)
{
    for (size_t i = s->n; i-- > 0;)
        if (s->p[i] == c) {
            *after = (nb_str){s->p + i + 1, s->n - i - 1};
            s->n = i;
            return true;
        }
    return false;
}

static nb_status take_scheme(nb_str *s, nb_name *out, nb_error *err)
{
    out->plain = nb_str_starts(*s, NB_STR("http://"));
    size_t skip = out->plain ? 7 : nb_str_starts(*s, NB_STR("https://")) ? 8 : 0;
    for (size_t i = 0; skip == 0 && i + 3 <= s->n; i++)
        if (memcmp(s->p + i, "://", 3) == 0)
            return nb_fail(err, NB_ERR_ARGUMENT,
                           "invalid model name '%.*s': it begins with neither http:// nor https://", NB_STR_ARG(*s));
    s->p += skip;
    s->n -= skip;
    return NB_OK;
}

nb_status nb_name_parse(nb_str text, nb_name *out, nb_error *err)
{
    nb_str tag = NB_STR(NB_NAME_TAG), space = NB_STR(NB_NAME_SPACE), host = NB_STR(NB_NAME_HOST), after;
    nb_str s = text, model;
    *out = (nb_name){0};
    NB_TRY(take_scheme(&s, out, err));
    nb_str head = s;
    if (cut_last(&head, ':', &after) && (after.n == 0 || !memchr(after.p, '/', after.n))) {
        tag = after;
        s = head;
    }
    if (cut_last(&s, '/', &model)) {
        if (cut_last(&s, '/', &space))
            host = s;
        else
            space = s;
    } else {
        model = s;
    }
    NB_TRY(take(HOST, host, text, out->host, err));
    NB_TRY(take(SPACE, space, text, out->space, err));
    NB_TRY(take(MODEL, model, text, out->model, err));
    return take(TAG, tag, text, out->tag, err);
}

bool nb_name_from_parts(const char *host, const char *space, const char *model, const char *tag, nb_name *out)
{
    nb_str none = NB_STR("");
    *out = (nb_name){0};
    return take(HOST, nb_str_of(host), none, out->host, NULL) == NB_OK &&
           take(SPACE, nb_str_of(space), none, out->space, NULL) == NB_OK &&
           take(MODEL, nb_str_of(model), none, out->model, NULL) == NB_OK &&
           take(TAG, nb_str_of(tag), none, out->tag, NULL) == NB_OK;
}

bool nb_name_same(const nb_name *a, const nb_name *b)
{
    return strcasecmp(a->host, b->host) == 0 && strcasecmp(a->space, b->space) == 0 &&
           strcasecmp(a->model, b->model) == 0 && strcasecmp(a->tag, b->tag) == 0;
}

void nb_name_print(const nb_name *name, char text[NB_NAME_TEXT])
{
    if (strcasecmp(name->host, NB_NAME_HOST) != 0)
        snprintf(text, NB_NAME_TEXT, "%s/%s/%s:%s", name->host, name->space, name->model, name->tag);
    else if (strcasecmp(name->space, NB_NAME_SPACE) != 0)
        snprintf(text, NB_NAME_TEXT, "%s/%s:%s", name->space, name->model, name->tag);
    else
        snprintf(text, NB_NAME_TEXT, "%s:%s", name->model, name->tag);
}

void nb_name_from_stem(nb_str stem, nb_name *out)
{
    size_t n = 0;
    *out = (nb_name){.host = NB_NAME_HOST, .space = NB_NAME_SPACE, .tag = NB_NAME_TAG};
    for (size_t i = 0; i < stem.n && n < NB_NAME_PART_MAX; i++) {
        char c = stem.p[i];
        bool good = alphanumeric(c) || c == '_' || (n > 0 && (c == '-' || c == '.'));
        if (good)
            out->model[n++] = c;
        else if (n > 0 && out->model[n - 1] != '-')
            out->model[n++] = '-';
    }
    while (n > 0 && (out->model[n - 1] == '-' || out->model[n - 1] == '.'))
        n--;
    out->model[n] = 0;
    if (n == 0)
        strcpy(out->model, "model");
}

static bool hex_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

static nb_status blob_path(const char *root, nb_str digest, nb_buf *path, nb_error *err)
{
    bool good = digest.n == 7 + 64 &&
                (nb_str_starts(digest, NB_STR("sha256:")) || nb_str_starts(digest, NB_STR("sha256-")));
    for (size_t i = 7; good && i < digest.n; i++)
        good = hex_digit(digest.p[i]);
    if (!good)
        return nb_fail(err, NB_ERR_ARGUMENT, "invalid digest '%.*s': it is not sha256: and 64 hex digits",
                       NB_STR_ARG(digest));
    nb_buf_printf(path, "%s/blobs/sha256-", root);
    for (size_t i = 7; i < digest.n; i++) {
        char c = digest.p[i];
        nb_buf_char(path, c >= 'A' && c <= 'F' ? (char)(c + 32) : c);
    }
    return NB_OK;
}

nb_status nb_store_path(const char *root, const nb_name *name, nb_str digest, nb_buf *path, nb_error *err)
{
    nb_name checked;
    size_t before = path->len;
    if (!name)
        NB_TRY(blob_path(root, digest, path, err));
    else if (digest.n || !nb_name_from_parts(name->host, name->space, name->model, name->tag, &checked))
        return nb_fail(err, NB_ERR_ARGUMENT, "invalid model name: a part is empty or holds what no name may");
    else
        nb_buf_printf(path, "%s/manifests/%s/%s/%s/%s", root, checked.host, checked.space, checked.model, checked.tag);
    if (!path->failed)
        return NB_OK;
    path->len = before;
    return nb_fail_memory(err, "a path in the model store", NB_NAME_TEXT);
}
