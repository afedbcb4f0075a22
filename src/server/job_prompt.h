/* job_prompt.h - from a request to the ids of its prompt: the template is compiled and looked at once a model. */
#ifndef NB_SERVER_JOB_PROMPT_H
#define NB_SERVER_JOB_PROMPT_H

#include "server/job.h"
#include "text/gotemplate.h"

typedef struct nb_prompt_template nb_prompt_template;

typedef struct nb_job_prompt {
    nb_buf text;
    nb_ids ids;
    size_t truncated;
    nb_reply_format format;
    bool chats;         /* went through a template: replies are taken apart */
    bool thinking_open; /* ends inside a thinking block */
} nb_job_prompt;

/* NB_ERR_UNSUPPORTED: the model has no tools, no thinking or cannot fill in. */
nb_status nb_job_prompt_make(nb_served *m, const nb_job_params *p, nb_job_prompt *out, nb_error *err);
void nb_job_prompt_free(nb_job_prompt *p);
void nb_prompt_template_free(nb_prompt_template *t); /* NULL is fine */

#endif
