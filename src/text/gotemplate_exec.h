/* gotemplate_exec.h - runs a parsed Go template, and the functions it can call. */
#ifndef NB_TEXT_GOTEMPLATE_EXEC_H
#define NB_TEXT_GOTEMPLATE_EXEC_H

#include "text/gotemplate_node.h"

typedef enum nb_go_arguments { NB_GO_ARGS_ANY, NB_GO_ARGS_TEXT_FIRST, NB_GO_ARGS_TEXT } nb_go_arguments;

struct nb_go_function {
    const char *name;
    int least, most;         /* arguments; most -1: any number */
    nb_go_arguments accepts; /* which of them must be strings */
    char stops_at;           /* and, or: 'f' or 't', the truth at which evaluation ends; else 0 */
    nb_go_value (*run)(nb_go *g, const nb_go_value *args, size_t count);
};

/* A rendering into out, which the caller ends with nb_go_end. */
void nb_go_begin(nb_go *g, const nb_gotemplate *t, nb_buf *out, int64_t now, nb_error *err);
nb_status nb_go_run(nb_go *g, const nb_go_node *root, nb_go_value dot);
void nb_go_end(nb_go *g);

#endif
