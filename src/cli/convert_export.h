/* convert_export.h - nibble convert FILE.gguf DIR: the way back, a directory that transformers loads. */
#ifndef NB_CLI_CONVERT_EXPORT_H
#define NB_CLI_CONVERT_EXPORT_H

#include "cli/cli.h"

/* True when convert's arguments ask for this direction: a file, or whatever adapters are merged into, and a name that is no GGUF
 * file's. */
bool nb_convert_exports(const char *in, const char *out, bool merge);

/* type: "COPY" chooses by the file. adapters are merged. shard_bytes 0: one file. Prints what became of it; returns the exit
 * code. */
int nb_convert_export(const char *in, const char *dir, const char *type, const nb_model_adapter *adapters, size_t count,
                      uint64_t shard_bytes);

#endif
