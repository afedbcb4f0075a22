/* text_width.h - what a terminal shows of UTF-8: characters as people see them (grapheme clusters) and the columns they take.
 *
 * Terminals do not agree on clusters of several code points: some give a family joined by U+200D two columns, others each
 * of its members. nb_glyph_joins says what this one does; line_edit.c asks it. */
#ifndef NB_CLI_TEXT_WIDTH_H
#define NB_CLI_TEXT_WIDTH_H

#include "base/mem.h"

typedef struct nb_glyph {
    size_t bytes; /* of the cluster; a byte that is no UTF-8 is one of its own */
    int width;    /* columns; -1: a control character, whatever it does */
    bool joined;  /* terminals may disagree on its width */
} nb_glyph;

/* The cluster at the beginning of s (not empty). */
nb_glyph nb_glyph_at(nb_str s);
/* The beginning of the cluster that ends at `at` (> 0). */
size_t nb_glyph_before(nb_str s, size_t at);
/* `at` when a cluster begins or the text ends there, else the end of the cluster that it is in. */
size_t nb_glyph_border(nb_str s, size_t at);
/* Columns of a text; control characters count as one. */
int nb_text_width(nb_str s);

/* Kinds of clusters that a terminal may or may not join. */
enum {
    NB_JOIN_ZWJ = 1,      /* emoji with U+200D between them */
    NB_JOIN_MODIFIER = 2, /* an emoji and the colour of its skin */
    NB_JOIN_STYLE = 4     /* a sign and U+FE0F: shown as an emoji, two columns wide */
};
extern const char *const nb_join_samples[3]; /* one of each kind, in the order of the bits; 2 columns when joined */
void nb_glyph_joins(unsigned kinds);         /* the program's terminal joins these; at first none */

#endif
