/* entry.h - an entry of a library from the inside. What is fixed when it is made is read without a lock; what is read from
 * disk later is made once, under the entry's. */
#ifndef NB_STORE_ENTRY_H
#define NB_STORE_ENTRY_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "store/library.h"

/* What stat says of a file: another file under its name, or other content, has another stamp. */
typedef struct nb_stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
} nb_stamp;

bool nb_stamp_take(const char *path, nb_stamp *out); /* false: it is not there */
bool nb_stamp_same(const nb_stamp *a, const nb_stamp *b);
/* False for what changed in the last instants: the clock that stamps files is coarse, a second change may look the same. */
bool nb_stamp_settled(const nb_stamp *s);

struct nb_entry {
    atomic_int references;
    nb_entry_kind kind;
    nb_name name;
    char text[NB_NAME_TEXT];
    char digest[NB_DIGEST_TEXT];
    uint64_t size;
    char *path, *root; /* of the manifest, or of the loose file or directory */
    nb_stamp stamp;
    bool settled;
    nb_manifest *manifest; /* NULL: a loose file */
    nb_error bad;          /* code: NB_OK, or why the manifest cannot be read */

    pthread_mutex_t lock; /* of what follows */
    nb_contents *contents;
    nb_arena arena;
    bool has_facts, has_details;
    nb_facts facts;
    nb_details details;
};

/* path: of the manifest. An entry whose manifest cannot be read has `bad`. NULL: out of memory. */
nb_entry *nb_entry_new_stored(const char *root, const char *path, const nb_name *name, const nb_stamp *stamp);
nb_status nb_entry_new_loose(const char *path, nb_entry **out, nb_error *err);

#endif
