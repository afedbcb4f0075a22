/* Anthropic's /v1/models: the library's list in pages. */
#include <stdlib.h>

#include "server/anthropic.h"
#include "server/ollama.h"

enum { LIMIT = 20, MOST_LIMIT = 1000 };

void nb_anthropic_put_model(nb_json *j, nb_entry *e)
{
    char created[40];
    nb_time_text((int64_t)nb_entry_modified(e).tv_sec * 1000000000, created); /* in whole seconds */
    nb_json_open(j, '{');
    nb_json_put_z(j, "type", "model");
    nb_json_put_z(j, "id", nb_entry_text(e));
    nb_json_put_z(j, "display_name", nb_entry_text(e));
    nb_json_put_z(j, "created_at", created);
    nb_json_close(j, '}');
}

/* The place of a model that a request names; the list's length: it has none of that name. */
static size_t find(const nb_entry_list *list, const char *id)
{
    size_t i = 0, n = nb_entry_list_count(list);
    while (i < n && strcmp(nb_entry_text(nb_entry_list_at(list, i)), id) != 0)
        i++;
    return i;
}

/* Models [*from, *to) are the page. */
static nb_status choose(const nb_http_request *r, const nb_entry_list *list, size_t *from, size_t *to, nb_error *err)
{
    const char *after = nb_http_argument(r, "after_id"), *before = nb_http_argument(r, "before_id");
    const char *limit = nb_http_argument(r, "limit"), *id = after ? after : before;
    size_t n = nb_entry_list_count(list), at = id ? find(list, id) : 0;
    char *end = NULL;
    long most = limit ? strtol(limit, &end, 10) : LIMIT;
    if (most < 1 || most > MOST_LIMIT || (end && *end))
        return nb_fail(err, NB_ERR_ARGUMENT, "\"limit\" has to be between 1 and %d", MOST_LIMIT);
    if (after && before)
        return nb_fail(err, NB_ERR_ARGUMENT, "\"after_id\" and \"before_id\" cannot be given both");
    if (id && at == n)
        return nb_fail(err, NB_ERR_ARGUMENT, "\"%s\" names %.200s, which is not in the list",
                       after ? "after_id" : "before_id", id);
    *from = after ? at + 1 : before && at > (size_t)most ? at - (size_t)most : 0;
    *to = before ? at : nb_min_size(n, *from + (size_t)most);
    return NB_OK;
}

static void put_id(nb_json *j, const char *key, const nb_entry_list *list, size_t i, bool none)
{
    nb_json_key(j, key);
    if (none)
        nb_json_null(j);
    else
        nb_json_str(j, nb_str_of(nb_entry_text(nb_entry_list_at(list, i))));
}

void nb_anthropic_models(nb_http_request *r)
{
    nb_entry_list *list;
    nb_error err;
    nb_buf out = {0};
    size_t from = 0, to = 0;
    nb_status status = nb_library_list(nb_http_library(r), &list, &err);
    if (status == NB_OK && choose(r, list, &from, &to, &err) != NB_OK) {
        nb_entry_list_release(list);
        status = err.code;
    }
    if (status != NB_OK) {
        nb_http_fail(r, 0, &err);
        return;
    }
    nb_json j = nb_json_begin(&out, false);
    nb_json_open(&j, '{');
    nb_json_key(&j, "data");
    nb_json_open(&j, '[');
    for (size_t i = from; i < to; i++)
        nb_anthropic_put_model(&j, nb_entry_list_at(list, i));
    nb_json_close(&j, ']');
    nb_json_key(&j, "has_more");
    nb_json_bool(&j, nb_http_argument(r, "before_id") ? from > 0 : to < nb_entry_list_count(list));
    put_id(&j, "first_id", list, from, from == to);
    put_id(&j, "last_id", list, to - 1, from == to);
    nb_json_close(&j, '}');
    nb_entry_list_release(list);
    nb_http_json(r, 200, &out);
}
