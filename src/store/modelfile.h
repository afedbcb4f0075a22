/* modelfile.h - the text that says how a model is made: FROM, TEMPLATE, PARAMETER and so on, as Ollama has it. Commands in any
 * case, '#' comments at the start of a statement; a value runs to the end of its line, or in "..." or """...""" over lines,
 * and there are no escapes. UTF-8, with or without a byte order mark. */
#ifndef NB_STORE_MODELFILE_H
#define NB_STORE_MODELFILE_H

#include "store/options.h"

typedef enum nb_modelfile_command {
    NB_MODELFILE_FROM,
    NB_MODELFILE_ADAPTER,
    NB_MODELFILE_DRAFT,
    NB_MODELFILE_TEMPLATE,
    NB_MODELFILE_SYSTEM,
    NB_MODELFILE_RENDERER,
    NB_MODELFILE_PARSER,
    NB_MODELFILE_REQUIRES,
    NB_MODELFILE_PARAMETER,
    NB_MODELFILE_LICENSE,
    NB_MODELFILE_MESSAGE
} nb_modelfile_command;

typedef struct nb_modelfile_line {
    nb_modelfile_command command;
    int line;       /* that it begins in, from 1 */
    nb_str key;     /* of PARAMETER its name, of MESSAGE the role */
    nb_str value;   /* without quotes */
    nb_param param; /* of PARAMETER */
} nb_modelfile_line;

typedef struct nb_modelfile {
    nb_arena arena;
    nb_modelfile_line *lines;
    size_t count;
} nb_modelfile;

/* Texts are copied. Failures say "(line N): ..."; without a FROM there is none. */
nb_status nb_modelfile_parse(nb_str text, nb_modelfile *out, nb_error *err);
void nb_modelfile_free(nb_modelfile *m);

/* Appends it so that it is read as the same. */
void nb_modelfile_write(const nb_modelfile *m, nb_buf *out);
/* Appends a value, in quotes where the reader would otherwise cut something off. One that has quotes in it and a line ending in
 * three of them cannot be said in a Modelfile. */
void nb_modelfile_quote(nb_str value, nb_buf *out);

#endif
