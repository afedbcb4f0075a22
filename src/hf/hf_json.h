/* hf_json.h - a JSON file of a model directory as a tree that remembers where each value stands, so that a value that makes no
 * sense can be named by file, byte and key. Trees are immutable; strings point into the file's text or the arena. */
#ifndef NB_HF_HF_JSON_H
#define NB_HF_HF_JSON_H

#include "base/json_read.h"

typedef struct nb_jnode_list {
    const struct nb_node *first;
    size_t count;
} nb_jnode_list;

typedef struct nb_node {
    nb_str key; /* of a member of an object */
    union {
        nb_str str;         /* '"' */
        double num;         /* '0' */
        nb_jnode_list list; /* '{' '[' */
    };
    const struct nb_node *next; /* the next member or element */
    size_t at;                  /* byte in the file */
    char kind;                  /* '{' '[' '"' '0' 't' 'f' 'n' */
} nb_node;

typedef struct nb_tree {
    const char *path; /* in the arena */
    const nb_node *root;
    nb_buf text;
    nb_arena arena;
} nb_tree;

/* {0} is a valid empty tree. A file that is absent leaves it empty when `optional`. The root must be an object. */
nb_status nb_tree_open(const char *dir, const char *name, size_t limit, bool optional, nb_tree *tree, nb_error *err);
/* The same for any root. */
nb_status nb_tree_open_any(const char *dir, const char *name, size_t limit, bool optional, nb_tree *tree,
                           nb_error *err);
void nb_tree_free(nb_tree *tree);

/* Member of an object; NULL when absent, null, or when `object` is NULL or no object. */
const nb_node *nb_node_get(const nb_node *object, const char *key);

/* Member of an object when it is of that kind ('t' stands for both truths), else NULL. */
const nb_node *nb_node_get_kind(const nb_node *object, const char *key, char kind);
bool nb_node_flag(const nb_node *object, const char *key, bool otherwise);
bool nb_node_is(const nb_node *object, const char *key, const char *value); /* a string that equals value */

/* "FILE: byte AT: KEY ..." */
nb_status nb_tree_bad(const nb_tree *tree, const nb_node *node, nb_error *err, nb_status code, const char *format, ...)
    NB_PRINTF(5, 6);

/* A whole number from least to most. */
nb_status nb_node_u64(const nb_tree *tree, const nb_node *node, uint64_t least, uint64_t most, uint64_t *out,
                      nb_error *err);
/* A string. */
nb_status nb_node_str(const nb_tree *tree, const nb_node *node, nb_str *out, nb_error *err);

#endif
