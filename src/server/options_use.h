/* options_use.h - a model's parameters and a request's options, in Ollama's words, as what a reply is sampled by. */
#ifndef NB_SERVER_OPTIONS_USE_H
#define NB_SERVER_OPTIONS_USE_H

#include "server/job.h"

/* Sampling, limits, stop strings and load options of p from the model's own parameters (entry NULL: none) and, over them, a
 * JSON object of options (empty: none). Stop strings live in arena. Options that mean nothing are told to the service's log,
 * one line each. */
nb_status nb_use_options(nb_service *s, nb_entry *entry, nb_str options, nb_arena *arena, nb_job_params *p,
                         nb_error *err);

/* A keep_alive: nanoseconds; below 0: for ever. `text` is a Go duration ("5m", "1h30m", "-1s", "300ms") or a number of seconds;
 * false: it is neither. */
bool nb_duration_parse(nb_str text, int64_t *ns);
int64_t nb_duration_seconds(double seconds); /* as nanoseconds, within range */

#endif
