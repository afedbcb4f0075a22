/* link.h - the records of blobs that are hard links (nb_link_check, which reads them, is in write.h). */
#ifndef NB_STORE_LINK_H
#define NB_STORE_LINK_H

#include <sys/stat.h>

#include "store/write_internal.h"

/* Keeps what the file at source was like, before it becomes the blob of digest. */
nb_status nb_link_record(nb_store *s, nb_str digest, const char *source, const struct stat *st, nb_error *err);
void nb_link_forget(nb_store *s, nb_str digest);

#endif
