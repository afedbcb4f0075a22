/* create.h - makes a model of a store out of files, checkpoints, blobs that a client sent, or another model, with texts and
 * parameters: what a Modelfile or a request to /api/create asks for. What is not GGUF is converted, what should be smaller is
 * quantized, on the way. A sharded GGUF becomes one file: a store's model is one blob, whose name says nothing of shards. */
#ifndef NB_STORE_CREATE_H
#define NB_STORE_CREATE_H

#include "convert/quantize.h"
#include "store/modelfile.h"
#include "store/write.h"

/* Told what is being done, and of bytes or other units done of `total` (0: a line of its own). False stops the work with
 * NB_ERR_CANCELLED. */
typedef bool nb_create_status_fn(void *user, const char *status, uint64_t done, uint64_t total);

typedef struct nb_create_file {
    const char *path; /* a GGUF file or a directory; NULL: */
    nb_str name;      /* what a client calls the file, "model.safetensors", "1_Pooling/config.json", */
    nb_str digest;    /* and the blob, which is in the store */
} nb_create_file;

typedef struct nb_create_params {
    nb_name name;
    nb_str from;                 /* a model of the store whose layers are taken; empty: none */
    const nb_create_file *files; /* the model, and projectors; those of a client are one model, or one directory's */
    size_t file_count;
    const nb_create_file *adapters; /* LoRA: GGUF files or directories of PEFT */
    size_t adapter_count;
    nb_create_file draft; /* a GGUF file; empty: none */
    bool has_template, has_system;
    nb_str go_template, system; /* empty: as if the model taken had none */
    nb_str renderer, parser, requires_;
    const nb_str *licenses;
    size_t license_count;
    const nb_param *params; /* sorted by nb_params_merge; those of the model taken stay where these say nothing */
    size_t param_count;
    const nb_stored_message *messages; /* none: those of the model taken */
    size_t message_count;
    const char *quantize; /* a type or mix, a size ("300M"), "bpw=4.5" or "kld=0.05"; NULL or "": as it is */
    nb_str text;          /* what a size and bits may be, and a divergence is, measured on */
    const nb_quantize_params *options; /* of quantizing; the type is not looked at. NULL: the defaults */
    bool link;                         /* GGUF files by hard links */
    nb_create_status_fn *status;       /* may be NULL */
    void *user;
} nb_create_params;

/* NB_ERR_NOT_FOUND: "model 'x' not found" of what it is made from; files and blobs are named as they were given. */
nb_status nb_create(nb_store *s, const nb_create_params *params, nb_error *err);

/* What a Modelfile asks for; paths in it are from `folder`. `out` points into m and arena. */
nb_status nb_create_read(const nb_modelfile *m, const char *folder, nb_arena *arena, nb_create_params *out,
                         nb_error *err);

#endif
