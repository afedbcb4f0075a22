/* logits_file.h - reads tests/data/archs/NAME.logits.bin: what transformers computes in float32 from a tiny model.
 * Little-endian: int32 sequences, tokens, vocabulary; int32 ids [sequences][tokens];
 * float32 logits [sequences][tokens][vocabulary], after each token. */
#ifndef NB_TESTS_LOGITS_FILE_H
#define NB_TESTS_LOGITS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct nb_logits_file {
    int32_t sequences, tokens, vocabulary;
    int32_t *ids;
    float *logits;
} nb_logits_file;

static inline void nb_logits_free(nb_logits_file *f)
{
    free(f->ids);
    free(f->logits);
    *f = (nb_logits_file){0};
}

/* False, and nothing to free, unless the file is whole and exactly as long as its header says. */
static inline bool nb_logits_read(const char *path, nb_logits_file *out)
{
    int32_t n[3] = {0};
    *out = (nb_logits_file){0};
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    bool ok = fread(n, sizeof n, 1, f) == 1;
    for (int i = 0; i < 3; i++)
        ok = ok && n[i] > 0 && n[i] <= 1 << 16;
    if (ok) {
        size_t places = (size_t)n[0] * (size_t)n[1], numbers = places * (size_t)n[2];
        *out = (nb_logits_file){n[0], n[1], n[2], malloc(places * sizeof(int32_t)), malloc(numbers * sizeof(float))};
        ok = out->ids && out->logits && fread(out->ids, sizeof(int32_t), places, f) == places &&
             fread(out->logits, sizeof(float), numbers, f) == numbers && fgetc(f) == EOF;
    }
    fclose(f);
    if (!ok)
        nb_logits_free(out);
    return ok;
}

/* the ids of a sequence: [tokens] */
static inline const int32_t *nb_logits_ids(const nb_logits_file *f, int32_t sequence)
{
    return f->ids + (size_t)sequence * (size_t)f->tokens;
}

/* the logits after token `token` of a sequence: [vocabulary] */
static inline const float *nb_logits_at(const nb_logits_file *f, int32_t sequence, int32_t token)
{
    return f->logits + ((size_t)sequence * (size_t)f->tokens + (size_t)token) * (size_t)f->vocabulary;
}

/* Sum of squared differences over the sum of squares of what is wanted; NaN when a number of got is. */
static inline double nb_nmse(const float *got, const float *want, size_t n)
{
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)got[i] - (double)want[i];
        error += d * d;
        size += (double)want[i] * (double)want[i];
    }
    return error / size;
}

#endif
