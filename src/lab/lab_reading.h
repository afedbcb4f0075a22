/* lab_reading.h - what the matrices of a real model read while it reads a text: activations. */
#ifndef NB_LAB_LAB_READING_H
#define NB_LAB_LAB_READING_H

#include "engine/engine.h"
#include "lab/lab_model.h"

extern const char *const nb_lab_default_text; /* some sentences */

typedef struct nb_lab_input { /* of one matrix of the layers */
    char name[64];
    int layer;
    size_t columns;
    float *largest; /* [columns] of the magnitudes, over all tokens */
    uint32_t *past; /* [columns] tokens with a magnitude from the threshold on */
    float *values;  /* [tokens][columns]; NULL unless kept */
} nb_lab_input;

typedef struct nb_lab_reading {
    nb_model *model;
    nb_ids tokens;
    nb_lab_input *inputs; /* [count], in the order of the model's weights; those with columns 0 are not read */
    size_t count;
    nb_session *session;
    size_t kept; /* whose values are kept */
    float threshold;
    nb_arena arena;
} nb_lab_reading;

enum { NB_LAB_READING_TOKENS = 256 }; /* at most; a longer text is cut */

/* Opens the model and lets it read the text; threshold: from which magnitude on values are counted; exact: in float32, the cache
 * too. Free with nb_lab_reading_close, after a failure too. */
nb_status nb_lab_reading_open(const char *path, const char *text, float threshold, bool exact, nb_lab_reading *r,
                              nb_error *err);
/* Reads it again and keeps what one matrix reads. */
nb_status nb_lab_reading_keep(nb_lab_reading *r, size_t input, nb_error *err);
void nb_lab_reading_close(nb_lab_reading *r);

size_t nb_lab_outliers(const nb_lab_input *in, float threshold); /* columns with a value from threshold on */
/* "ffn_down" of "blk.3.ffn_down.weight" */
void nb_lab_input_kind(const nb_lab_input *in, char kind[64]);
/* The matrix that --tensor names; NULL: the one whose outliers are most of a kind: few columns, past the threshold in most
 * tokens. */
nb_status nb_lab_reading_choose(const nb_lab_reading *r, const char *tensor, size_t *input, nb_error *err);

#endif
