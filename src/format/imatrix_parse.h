/* imatrix_parse.h - inside of the importance matrices: what their reader, writer and container share. */
#ifndef NB_FORMAT_IMATRIX_PARSE_H
#define NB_FORMAT_IMATRIX_PARSE_H

#include "format/imatrix.h"

enum {
    NB_IMATRIX_MAX_ENTRIES = 16384, /* real files: 7 a layer */
    NB_IMATRIX_MAX_NAME = 255       /* of a tensor, in the older form */
};

bool nb_imatrix_failed(const nb_imatrix *m); /* a text's name had no room */

#endif
