#include "hf/hf_json.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fail_at.h"
#include "hf/hf_missing.h"

enum { CHECKED_MEMBERS = 256 }; /* in larger objects (vocabularies) whoever reads them finds keys given twice */

static nb_node *read_value(nb_json_reader *r, nb_arena *arena);

static bool has_key(const nb_node *first, nb_str key)
{
    for (const nb_node *n = first; n; n = n->next)
        if (nb_str_eq(n->key, key))
            return true;
    return false;
}

static void read_members(nb_json_reader *r, nb_arena *arena, nb_node *node)
{
    nb_node *last = NULL;
    nb_json_read_enter(r, node->kind);
    while (nb_json_read_more(r)) {
        size_t at = r->at;
        nb_str key = node->kind == '{' ? nb_json_read_key(r) : NB_STR("");
        if (node->kind == '{' && node->list.count < CHECKED_MEMBERS && has_key(node->list.first, key)) {
            nb_json_read_fail(r, at, NB_ERR_FORMAT, "\"%.*s\" is given twice", NB_STR_ARG(key));
            return;
        }
        nb_node *child = read_value(r, arena);
        if (!child)
            return;
        child->key = key;
        if (last)
            last->next = child;
        else
            node->list.first = child;
        last = child;
        node->list.count++;
    }
}

/* recursion: the reader limits the depth */
static nb_node *read_value(nb_json_reader *r, nb_arena *arena)
{
    char kind = nb_json_read_peek(r);
    nb_node *node = NB_NEW(arena, nb_node);
    if (!node) {
        nb_json_read_fail(r, r->at, NB_ERR_MEMORY, "out of memory");
        return NULL;
    }
    node->kind = kind;
    node->at = r->at;
    switch (kind) {
    case '{':
    case '[': read_members(r, arena, node); break;
    case '"': node->str = nb_json_read_str(r); break;
    case '0': node->num = nb_json_read_num(r); break;
    default: nb_json_read_skip(r); break;
    }
    return r->status == NB_OK ? node : NULL;
}

static nb_status parse(nb_tree *tree, nb_error *err)
{
    nb_json_reader r = nb_json_read_begin(tree->path, nb_buf_view(&tree->text), &tree->arena, err);
    tree->root = read_value(&r, &tree->arena);
    return nb_json_read_end(&r);
}

nb_status nb_tree_open(const char *dir, const char *name, size_t limit, bool optional, nb_tree *tree, nb_error *err)
{
    NB_TRY(nb_tree_open_any(dir, name, limit, optional, tree, err));
    if (!tree->root || tree->root->kind == '{')
        return NB_OK;
    nb_status status = nb_tree_bad(tree, NULL, err, NB_ERR_FORMAT, "not a JSON object; download the file again");
    nb_tree_free(tree);
    return status;
}

nb_status nb_tree_open_any(const char *dir, const char *name, size_t limit, bool optional, nb_tree *tree, nb_error *err)
{
    char path[4096];
    struct stat info;
    *tree = (nb_tree){0};
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return nb_fail(err, NB_ERR_LIMIT, "%s: the path is too long", dir);
    if (optional && stat(path, &info) != 0)
        return NB_OK;
    nb_status status = nb_hf_read_file(path, limit, &tree->text, err);
    if (status == NB_OK) {
        tree->path = nb_arena_strdup(&tree->arena, nb_str_of(path));
        status = tree->path ? parse(tree, err) : nb_fail_memory(err, path, (size_t)n);
    }
    if (status != NB_OK)
        nb_tree_free(tree);
    return status;
}

void nb_tree_free(nb_tree *tree)
{
    nb_buf_free(&tree->text);
    nb_arena_free(&tree->arena);
    *tree = (nb_tree){0};
}

const nb_node *nb_node_get(const nb_node *object, const char *key)
{
    if (!object || object->kind != '{')
        return NULL;
    for (const nb_node *n = object->list.first; n; n = n->next)
        if (nb_str_eqz(n->key, key))
            return n->kind == 'n' ? NULL : n;
    return NULL;
}

const nb_node *nb_node_get_kind(const nb_node *object, const char *key, char kind)
{
    const nb_node *n = nb_node_get(object, key);
    return n && (n->kind == kind || (kind == 't' && n->kind == 'f')) ? n : NULL;
}

bool nb_node_flag(const nb_node *object, const char *key, bool otherwise)
{
    const nb_node *n = nb_node_get_kind(object, key, 't');
    return n ? n->kind == 't' : otherwise;
}

bool nb_node_is(const nb_node *object, const char *key, const char *value)
{
    const nb_node *n = nb_node_get_kind(object, key, '"');
    return n && nb_str_eqz(n->str, value);
}

nb_status nb_tree_bad(const nb_tree *tree, const nb_node *node, nb_error *err, nb_status code, const char *format, ...)
{
    char message[400];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (node && node->key.n)
        return nb_fail_at(tree->path, node->at, err, code, "%.*s %s", NB_STR_ARG(node->key), message);
    return nb_fail_at(tree->path, node ? node->at : 0, err, code, "%s", message);
}

nb_status nb_node_u64(const nb_tree *tree, const nb_node *node, uint64_t least, uint64_t most, uint64_t *out,
                      nb_error *err)
{
    if (node->kind != '0' || !(node->num >= (double)least && node->num <= (double)most) ||
        node->num != floor(node->num))
        return nb_tree_bad(tree, node, err, NB_ERR_FORMAT,
                           "is not a whole number from %llu to %llu; correct it or download the file again",
                           (unsigned long long)least, (unsigned long long)most);
    *out = (uint64_t)node->num;
    return NB_OK;
}

nb_status nb_node_str(const nb_tree *tree, const nb_node *node, nb_str *out, nb_error *err)
{
    if (node->kind != '"')
        return nb_tree_bad(tree, node, err, NB_ERR_FORMAT, "is not a string; correct it or download the file again");
    *out = node->str;
    return NB_OK;
}
