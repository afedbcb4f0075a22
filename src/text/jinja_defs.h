/* jinja_defs.h - the tables of what templates can name: filters, tests, methods and functions. */
#ifndef NB_TEXT_JINJA_DEFS_H
#define NB_TEXT_JINJA_DEFS_H

#include "text/jinja_value.h"

#define NB_JINJA_SLOTS 6

/* self: the filter's input, the tested value or the method's object. a: the arguments bound to the names in `params`,
 * NB_J_MISSING where not given. args: as they were written, for the few that take any number. */
typedef nb_jval nb_jfn(nb_jinja *j, nb_jval self, const nb_jval *a, const nb_jargs *args);

typedef struct nb_jdef {
    const char *name;
    nb_jfn *fn;
    const char *params; /* "width,first,blank"; "*": any, unchecked */
    int required;       /* so many of them must be given */
} nb_jdef;

typedef enum nb_jdef_table {
    NB_JDEF_FILTERS,
    NB_JDEF_TESTS,
    NB_JDEF_FUNCTIONS,
    NB_JDEF_STR_METHODS,
    NB_JDEF_LIST_METHODS,
    NB_JDEF_TUPLE_METHODS,
    NB_JDEF_DICT_METHODS,
    NB_JDEF_TABLES
} nb_jdef_table;

const nb_jdef *nb_jdef_find(nb_jdef_table table, nb_str name);

/* Binds the arguments and calls. */
nb_jval nb_jdef_call(nb_jinja *j, const nb_jdef *def, nb_jval self, const nb_jargs *args);

/* The tables themselves, each ended by a row without a name. */
extern const nb_jdef nb_jfilters_text[], nb_jfilters_list[], nb_jtests[], nb_jfunctions[];
extern const nb_jdef nb_jstr_methods[], nb_jlist_methods[], nb_jtuple_methods[], nb_jdict_methods[];

#endif
