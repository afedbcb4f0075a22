/* jinja_eval.h - runs a parsed template. */
#ifndef NB_TEXT_JINJA_EVAL_H
#define NB_TEXT_JINJA_EVAL_H

#include "text/jinja_parser.h"
#include "text/jinja_value.h"

/* Ready to set variables in j->globals; nb_jinja_end whatever this returns. */
nb_status nb_jinja_begin(nb_jinja *j, nb_buf *out, int64_t now, nb_error *err);
nb_status nb_jinja_run(nb_jinja *j, const nb_jnode *body);
void nb_jinja_end(nb_jinja *j);

/* ---- operations on values that run or reach into the template (jinja_ops.c) ---- */
nb_jval nb_jbinary(nb_jinja *j, nb_jtok op, nb_jval a, nb_jval b);
nb_jval nb_junary(nb_jinja *j, bool negate, nb_jval v);
nb_jval nb_jgetattr(nb_jinja *j, nb_jval object, nb_str name); /* object.name */
nb_jval nb_jgetitem(nb_jinja *j, nb_jval object, nb_jval key); /* object[key] */
nb_jval nb_jslice(nb_jinja *j, nb_jval object, nb_jval start, nb_jval stop, nb_jval step);
nb_jval nb_jcall(nb_jinja *j, nb_jval callee, const nb_jargs *args);

#endif
