/* hf_wrapped.h - models of pictures and text: a known model of text, with a tower for pictures before it that writes into its
 * input. Their text is read and the tower passed over: fed with text alone they are the model of text. */
#ifndef NB_HF_HF_WRAPPED_H
#define NB_HF_HF_WRAPPED_H

#include "hf/hf_internal.h"

/* What "architectures" names is none of archs.def: finds h->arch and h->class_name of the text, or says what is known. */
nb_status nb_hf_unwrap(nb_hf *h, const nb_node *list, nb_error *err);

/* Where the text's tensors lie, instead of nb_hf_arch's prefixes; ends with NULL. */
extern const char *const nb_hf_wrapped_prefixes[];

#endif
