/* word_wrap.h - a reply on its way to a terminal: broken at words as it streams, by display width. A word that does not fit its
 * line is taken back and begins the next one. Control characters of a model never reach the terminal. */
#ifndef NB_CLI_WORD_WRAP_H
#define NB_CLI_WORD_WRAP_H

#include "base/mem.h"

typedef struct nb_wrap {
    int width;      /* columns of the terminal; 0: nothing is broken, the terminal may */
    int column;     /* where the next character goes */
    int word;       /* columns of the word being written */
    nb_buf text;    /* its bytes */
    nb_buf cluster; /* the last cluster's: more may belong to it */
    int cluster_width;
} nb_wrap;

/* Appends to out what is to be written for the next piece; pieces may be cut anywhere between code points. */
void nb_wrap_add(nb_wrap *w, nb_str piece, nb_buf *out);
void nb_wrap_reset(nb_wrap *w); /* the cursor is at the beginning of a line again */
void nb_wrap_free(nb_wrap *w);

#endif
