/* body.h - a request's JSON body, read field by field over jansson: a wrong type is an error that names the field. Errors are
 * sticky: look at status once at the end. */
#ifndef NB_SERVER_BODY_H
#define NB_SERVER_BODY_H

#include <jansson.h>

#include "base/mem.h"

typedef struct nb_body {
    json_t *root; /* an object */
    nb_arena arena;
    nb_status status;
    nb_error error;
} nb_body;

/* NB_ERR_ARGUMENT in status when it is no JSON object (what and where). Free in any case. */
void nb_body_open(nb_body *b, nb_str text);
void nb_body_close(nb_body *b);
void nb_body_fail(nb_body *b, const char *format, ...) NB_PRINTF(2, 3); /* the first failure stays */

/* Of an object: absent and null leave *out as it is and return false. */
bool nb_body_text(nb_body *b, const json_t *object, const char *key, nb_str *out);
bool nb_body_bool(nb_body *b, const json_t *object, const char *key, bool *out);
bool nb_body_int(nb_body *b, const json_t *object, const char *key, int64_t *out); /* 3.0 is one */
bool nb_body_number(nb_body *b, const json_t *object, const char *key, double *out);
json_t *nb_body_object(nb_body *b, const json_t *object, const char *key); /* borrowed; NULL: absent */
json_t *nb_body_array(nb_body *b, const json_t *object, const char *key);
/* Any value as compact JSON text, in the arena. */
nb_str nb_body_dump(nb_body *b, const json_t *value);
nb_str nb_body_str(const json_t *text); /* a JSON string's bytes */

#endif
