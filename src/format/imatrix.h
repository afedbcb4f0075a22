/* imatrix.h - importance matrices: for each matrix of a model the sums of squared activations of its input columns, over a
 * calibration text. Reads and writes the GGUF form and the older binary form of llama.cpp. */
#ifndef NB_FORMAT_IMATRIX_H
#define NB_FORMAT_IMATRIX_H

#include "base/mem.h"

/* How the inputs of a matrix go together: for each block of neighbouring columns the lower triangle of their correlations (about
 * 0), row after row, diagonals included. With the mean squares they are the second moments that rounding with error feedback
 * needs (quant/feedback.h). Entries whose matrices read the same share one. */
typedef struct nb_moments {
    size_t columns, block;       /* blocks of that many columns; the last may be shorter */
    const uint16_t *correlation; /* F16 */
} nb_moments;

/* Columns of a block where at most `most` are wanted (at least 256): equal parts, in multiples of 256 or else of 32; 0 for
 * columns that are no multiple of 32. */
size_t nb_moments_block(size_t columns, size_t most);
size_t nb_moments_values(size_t columns, size_t block);
/* Where the triangle of the block with that first column begins. */
static inline size_t nb_moments_at(const nb_moments *m, size_t first)
{
    return first / m->block * (m->block * (m->block + 1) / 2);
}

typedef struct nb_imatrix_entry {
    nb_str name;               /* of the tensor: "blk.0.ffn_down.weight" */
    size_t columns;            /* of the matrix */
    size_t matrices;           /* experts; 1 for most */
    float *sum;                /* [matrices][columns] sums of squares */
    float *count;              /* [matrices] tokens that were seen */
    const nb_moments *moments; /* NULL: not known */
} nb_imatrix_entry;

typedef struct nb_imatrix nb_imatrix;

nb_status nb_imatrix_new(nb_imatrix **out, nb_error *err);
nb_status nb_imatrix_open(const char *path, nb_imatrix **out, nb_error *err); /* either form */
/* The same of a file that lies in memory; name is for messages. Nothing points into bytes afterwards. */
nb_status nb_imatrix_open_memory(const char *name, const void *bytes, size_t size, nb_imatrix **out, nb_error *err);
void nb_imatrix_free(nb_imatrix *m); /* NULL is fine */

/* Adds an entry of zeros. Entries are kept in the order of their names; pointers to them stay valid. */
nb_status nb_imatrix_add(nb_imatrix *m, nb_str name, size_t columns, size_t matrices, nb_imatrix_entry **out,
                         nb_error *err);
/* Gives an entry of one matrix moments, zeros to be filled in (nb_moments_values of them at *correlation), or those of another. */
nb_status nb_imatrix_add_moments(nb_imatrix_entry *e, size_t block, uint16_t **correlation, nb_error *err);
nb_status nb_imatrix_share_moments(nb_imatrix_entry *e, const nb_imatrix_entry *of, nb_error *err);
size_t nb_imatrix_count(const nb_imatrix *m);
const nb_imatrix_entry *nb_imatrix_at(const nb_imatrix *m, size_t i);
const nb_imatrix_entry *nb_imatrix_find(const nb_imatrix *m, nb_str name); /* NULL when absent */
nb_imatrix_entry *nb_imatrix_entry_of(nb_imatrix *m, nb_str name);         /* the same, to be changed */
/* Mean squares of an entry's matrix, as quantizers take them: [columns]. An expert that was never chosen weighs 1. */
void nb_imatrix_weights(const nb_imatrix_entry *e, size_t matrix, float *weight);
/* The same for one matrix of a tensor of this shape; false when the entry cannot be of such a tensor. Entries of the older
 * form, and of tensors whose matrices are always used together, have one count for all: those may be split here. */
bool nb_imatrix_weights_of(const nb_imatrix_entry *e, size_t columns, size_t matrices, size_t matrix, float *weight);

/* Adds all of src to m, entry by entry. chunk_tokens: of a chunk, for a src of the older form, whose counts are chunks. */
nb_status nb_imatrix_merge(nb_imatrix *m, const nb_imatrix *src, uint32_t chunk_tokens, nb_error *err);

/* What it was made from: chunks of `chunk_tokens` of the named texts. An empty name adds no text. chunk_tokens 0: not known,
 * and counts are chunks (the older form). Memory that was short here is an error of nb_imatrix_write. */
void nb_imatrix_set_origin(nb_imatrix *m, nb_str text_name, uint32_t chunks, uint32_t chunk_tokens);
uint32_t nb_imatrix_chunks(const nb_imatrix *m);
uint32_t nb_imatrix_chunk_tokens(const nb_imatrix *m);
size_t nb_imatrix_texts(const nb_imatrix *m);
nb_str nb_imatrix_text(const nb_imatrix *m, size_t i);

typedef enum nb_imatrix_form { NB_IMATRIX_GGUF, NB_IMATRIX_BINARY } nb_imatrix_form;
/* What no token reached is left out of the older form, which cannot say so. */
nb_status nb_imatrix_write(const nb_imatrix *m, const char *path, nb_imatrix_form form, nb_error *err);

#endif
