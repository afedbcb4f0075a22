/* checkpoint_parse.h - inside of the checkpoint reader: checkpoint.c finds the files and joins what they hold, safetensors.c and
 * torch.c each read one file, checkpoint_read.c gives out values. */
#ifndef NB_FORMAT_CHECKPOINT_PARSE_H
#define NB_FORMAT_CHECKPOINT_PARSE_H

#include "base/fail_at.h"
#include "format/checkpoint.h"

/* Limits that keep the cost of a hostile file within 100 ms and 64 MiB. The largest real ones have 92,000 tensors (and 9 MB
 * of index) over 163 files. */
enum {
    NB_CHECKPOINT_MAX_TENSORS = 1 << 17,
    NB_CHECKPOINT_MAX_HEADER = 16 << 20,  /* of one file, or an index */
    NB_CHECKPOINT_MAX_HEADERS = 32 << 20, /* of all files together */
    NB_CHECKPOINT_MAX_FILES = 2048,
    NB_CHECKPOINT_MAX_NAME = 512,
    NB_CHECKPOINT_MAX_METADATA = 1024
};

#define NB_CHECKPOINT_DAMAGED "; the file is damaged: get it again"
#define NB_CHECKPOINT_TRUNCATED "; the file is truncated: get it again, and compare its size with the source's"
#define NB_CHECKPOINT_WRITER "; the file was written wrongly: save the model again"

typedef struct nb_checkpoint_file {
    char *path;
    nb_map map;
    bool mapped; /* map is ours to close */
} nb_checkpoint_file;

typedef struct nb_checkpoint_pair {
    nb_str key, value;
} nb_checkpoint_pair;

struct nb_checkpoint {
    nb_checkpoint_file *files;
    size_t file_count;
    nb_checkpoint_tensor *tensors; /* as the files have them */
    uint32_t *order;               /* sorted by name */
    size_t count, capacity;
    nb_checkpoint_pair *metadata; /* of the first file */
    size_t metadata_count;
    size_t header_bytes; /* of all files */
    nb_arena arena;      /* strings that do not lie in a file as they are */
};

/* Appends the tensors of a file whose path and map are set. */
nb_status nb_safetensors_parse(nb_checkpoint *c, const nb_checkpoint_file *f, nb_error *err);
nb_status nb_torch_parse(nb_checkpoint *c, const nb_checkpoint_file *f, nb_error *err);

/* A new tensor at the end, zeroed; NULL: out of memory or over the limit, and *status says so. `at`: of its name, for messages. */
nb_checkpoint_tensor *nb_checkpoint_add(nb_checkpoint *c, const nb_checkpoint_file *f, size_t at, nb_status *status,
                                        nb_error *err);

/* Sets t->values from its dims; false when it does not fit 63 bits together with its bytes. */
bool nb_checkpoint_shape(nb_checkpoint_tensor *t);

/* False: no such dtype here. Names are safetensors' own. */
bool nb_dtype_by_name(nb_str name, nb_dtype *out);

/* As nb_checkpoint_open, of one file that lies in memory already; name is for messages. The bytes outlive *out. */
nb_status nb_checkpoint_open_memory(const char *name, const void *bytes, size_t size, nb_checkpoint **out,
                                    nb_error *err);

#endif
