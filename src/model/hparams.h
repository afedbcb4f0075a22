/* hparams.h - reads and checks what every architecture has in common. */
#ifndef NB_MODEL_HPARAMS_H
#define NB_MODEL_HPARAMS_H

#include "model/model.h"

nb_status nb_hparams_read(const nb_gguf *g, const nb_arch *arch, nb_hparams *h, nb_error *err);

#endif
