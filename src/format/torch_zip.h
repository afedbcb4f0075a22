/* torch_zip.h - the zip container of torch.save: names and bytes of its entries, which lie in the file as they are. Compressed and
 * encrypted entries are refused, and whatever lets one byte belong to two entries.
 * Source: PKWARE APPNOTE.TXT 6.3.10. */
#ifndef NB_FORMAT_TORCH_ZIP_H
#define NB_FORMAT_TORCH_ZIP_H

#include "format/checkpoint_parse.h"

enum { NB_TORCH_MAX_ENTRIES = 1 << 16, NB_TORCH_MAX_DIRECTORY = 8 << 20 };

typedef struct nb_zip_entry {
    nb_str name;
    const unsigned char *data;
    size_t bytes;
    size_t begin; /* of its local header in the file */
} nb_zip_entry;

typedef struct nb_zip {
    nb_zip_entry *entries;
    uint32_t *order; /* sorted by name */
    size_t count;
} nb_zip;

nb_status nb_zip_open(const nb_checkpoint_file *f, nb_zip *zip, nb_error *err);
void nb_zip_close(nb_zip *zip);
const nb_zip_entry *nb_zip_find(const nb_zip *zip, nb_str name); /* NULL when absent */

#endif
