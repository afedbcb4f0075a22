/* infill.h - the tokens between which a model writes what is missing in the middle: how families call them, and the metadata
 * that says which they are. In this order: what stands before the text's beginning, its end, and the missing middle. */
#ifndef NB_TEXT_INFILL_H
#define NB_TEXT_INFILL_H

enum { NB_INFILL_FAMILIES = 5 };
extern const char *const nb_infill_names[NB_INFILL_FAMILIES][3];
extern const char *const nb_infill_keys[3][2]; /* today's key, and the older one */

#endif
