/* jinja_scope.h - what the two halves of the evaluator (expressions, statements) share: frames of variables. */
#ifndef NB_TEXT_JINJA_SCOPE_H
#define NB_TEXT_JINJA_SCOPE_H

#include "text/jinja_parser.h"
#include "text/jinja_value.h"

typedef struct nb_jvar {
    nb_str name;
    nb_jval value;
    struct nb_jvar *next;
} nb_jvar;

/* A scope: the template, one pass of a loop, a macro's call. Macros keep the frame they were defined in. */
typedef struct nb_jframe {
    struct nb_jframe *parent;
    nb_jvar *vars;
} nb_jframe;

typedef enum nb_jflow { NB_JFLOW_NEXT, NB_JFLOW_BREAK, NB_JFLOW_CONTINUE } nb_jflow;

nb_jframe *nb_jframe_push(nb_jinja *j, nb_jframe *parent); /* becomes j->frame; NULL on error */
void nb_jassign(nb_jinja *j, nb_str name, nb_jval value);  /* in j->frame */
nb_jval nb_jfunction(nb_jinja *j, nb_str name);            /* range, dict, ...; undefined if there is none */
nb_jval nb_jeval(nb_jinja *j, const nb_jnode *n);
nb_jargs nb_jeval_args(nb_jinja *j, const nb_jnode *first);
nb_jval nb_jeval_filters(nb_jinja *j, const nb_jnode *n, nb_jval input); /* a block's chain of filters */
nb_jflow nb_jexec(nb_jinja *j, const nb_jnode *first);

#endif
