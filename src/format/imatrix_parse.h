/* imatrix_parse.h - inside of the importance matrices: what their reader, writer and container share. */
#ifndef NB_FORMAT_IMATRIX_PARSE_H
#define NB_FORMAT_IMATRIX_PARSE_H

#include "base/file.h"
#include "format/imatrix.h"

enum {
    NB_IMATRIX_MAX_ENTRIES = 16384, /* real files: 7 a layer */
    NB_IMATRIX_MAX_NAME = 255       /* of a tensor, in the older form */
};

/* Names in the GGUF form. Moments are ours: programs that do not know them pass over them. */
#define NB_IMATRIX_SUMS ".in_sum2"
#define NB_IMATRIX_COUNTS ".counts"
#define NB_IMATRIX_MOMENTS ".moments"
#define NB_IMATRIX_BLOCKS "nibble.moments.blocks" /* columns of a block, for each tensor of moments in their order */
#define NB_IMATRIX_SHARED "nibble.moments.shared" /* entries that read what another one reads */
#define NB_IMATRIX_SHARED_OF "nibble.moments.shared_of" /* the other one */

/* A file that moments are read in place from; the last user closes it. */
typedef struct nb_moments_file {
    nb_map map;
    size_t users;
} nb_moments_file;

/* As nb_imatrix_add_moments, of values that lie in a file. */
nb_status nb_imatrix_map_moments(nb_imatrix_entry *e, size_t block, const uint16_t *correlation, nb_moments_file *file,
                                 nb_error *err);
void nb_moments_file_leave(nb_moments_file *file);

bool nb_imatrix_failed(const nb_imatrix *m); /* a text's name had no room */

#endif
