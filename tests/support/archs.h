/* archs.h - the tiny models that are there: who adds one adds files, and no name anywhere. */
#ifndef NB_TESTS_ARCHS_H
#define NB_TESTS_ARCHS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NB_ARCHS_MOST = 512, NB_ARCHS_NAME = 64 };

typedef struct nb_archs_list {
    char names[NB_ARCHS_MOST][NB_ARCHS_NAME];
    size_t count;
} nb_archs_list;

static inline bool nb_archs_exist(const char *folder, const char *name, const char *end)
{
    char path[512];
    int n = snprintf(path, sizeof path, "%s/%s%s", folder, name, end);
    return n > 0 && (size_t)n < sizeof path && access(path, R_OK) == 0;
}

/* The names for which data/archs has NAME.logits.bin and `folder` has NAME and `end`, in alphabetical order. Ends the
 * program when a folder cannot be read or has none. */
static inline void nb_archs_find(const char *data, const char *folder, const char *end, nb_archs_list *out)
{
    static const char logits[] = ".logits.bin";
    char archs[400];
    struct dirent **files;
    snprintf(archs, sizeof archs, "%s/archs", data);
    int n = scandir(archs, &files, NULL, alphasort);
    out->count = 0;
    for (int i = 0; i < n; i++) {
        size_t length = strlen(files[i]->d_name), tail = sizeof logits - 1;
        if (length > tail && length - tail < NB_ARCHS_NAME && out->count < NB_ARCHS_MOST &&
            strcmp(files[i]->d_name + length - tail, logits) == 0) {
            char *name = out->names[out->count];
            memcpy(name, files[i]->d_name, length - tail);
            name[length - tail] = 0;
            out->count += nb_archs_exist(folder, name, end);
        }
        free(files[i]);
    }
    if (n > 0)
        free(files);
    if (out->count == 0 || out->count == NB_ARCHS_MOST) {
        fprintf(stderr, "%s: %zu models with logits\n", archs, out->count);
        abort();
    }
}

#endif
