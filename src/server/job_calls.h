/* job_calls.h - what a reply has to be where some tool has to be called. */
#ifndef NB_SERVER_JOB_CALLS_H
#define NB_SERVER_JOB_CALLS_H

#include "server/job.h"

bool nb_job_must_call(const nb_job_params *p);
/* Several calls may come: not where one function is named. */
bool nb_job_may_call_more(const nb_job_params *p);
/* A JSON schema of a call of one of the tools that may be called, {"name": ..., "arguments": ...}; or_list: or of a list of these. */
nb_status nb_job_call_schema(const nb_job_params *p, bool or_list, nb_buf *out, nb_error *err);

#endif
