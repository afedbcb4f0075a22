/* lab_model.h - what topics take from real models: a file to begin with, and its weights as floats. */
#ifndef NB_LAB_LAB_MODEL_H
#define NB_LAB_LAB_MODEL_H

#include "engine/sampler_math.h"
#include "format/source.h"
#include "lab/lab.h"

typedef enum nb_lab_need {
    NB_LAB_WEIGHTS, /* floats if there are any: a directory of Hugging Face, then the smallest GGUF file */
    NB_LAB_WRITER   /* that continues a text: the smallest GGUF file */
} nb_lab_need;

/* --model, or one that tools/fetch-model brought. NB_ERR_NOT_FOUND says how to get one. */
nb_status nb_lab_find_model(const nb_lab_params *params, nb_lab_need need, char path[1024], nb_error *err);

/* The last part of a path. */
const char *nb_lab_base_name(const char *path);

/* Of the standard normal distribution. */
double nb_lab_normal(nb_rng *r);

#endif
