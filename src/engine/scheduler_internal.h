/* scheduler_internal.h - the scheduler from the inside: tasks in line and running (scheduler.c), the batch of a step
 * (scheduler_batch.c), what a computed token becomes (scheduler_token.c). */
#ifndef NB_ENGINE_SCHEDULER_INTERNAL_H
#define NB_ENGINE_SCHEDULER_INTERNAL_H

#include "engine/pages.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/stop.h"

struct nb_reply_task {
    nb_reply_task *next, *before; /* in line or among the running, the oldest first */
    nb_task_params p;             /* without what is not kept */
    nb_arena arena;               /* of the copies */
    int32_t *ids;                 /* [context] the prompt, then the reply */
    size_t count, prompt;         /* tokens; of them the prompt's */
    size_t position;              /* computed */
    size_t chunk;                 /* in this step */
    uint32_t *pages[NB_GROUPS];   /* [max_pages] NB_PAGE_NONE where there is none */
    size_t blocks;                /* whose pages are taken: those before it */
    uint32_t node;                /* of the last block that is in the tree */
    size_t known;                 /* blocks in the tree */
    uint32_t tail;                /* of the block behind them, as far as it is in the tree */
    size_t kind[NB_GROUPS];       /* nb_rope_kind of what is computed */
    bool running, again;          /* again: was put back, or shifted: its prompt has ended already */
    nb_sampler *sampler;
    nb_stop *stop;
    nb_grammar_state *grammar;
    nb_detok detok;
    nb_buf text, certain, piece;
    int32_t *markers;
    size_t marker_count;
    nb_task_stats stats;
    double added, began, first; /* seconds */
    bool counted;               /* `began` is set */
};

typedef struct nb_task_list {
    nb_reply_task *first, *last;
    size_t count;
} nb_task_list;

struct nb_scheduler {
    nb_model *model;
    nb_context *context;
    nb_context_params cp;
    nb_page_pool *pages;
    bool reuse;
    size_t window_blocks; /* before a block, those that its window layers see */
    nb_task_list waiting, running;
    /* of a step */
    int32_t *tokens;
    nb_span *spans;
    uint32_t *outputs;
    nb_reply_task **rows; /* whose logits row i is */
    nb_top_token *top;
    nb_batch batch;
    nb_scheduler_load load;
};

/* ---- scheduler.c ---- */
void nb_task_unlink(nb_task_list *list, nb_reply_task *t);
void nb_task_append(nb_task_list *list, nb_reply_task *t);
void nb_task_prepend(nb_task_list *list, nb_reply_task *t);
/* Gives its pages back and calls on_end; the task is gone. */
void nb_task_finish(nb_scheduler *s, nb_reply_task *t, nb_task_end end, const nb_error *error);

/* ---- scheduler_batch.c ---- */
/* Chooses what is computed now; tasks whose pages do not fit go back into line. False: nothing. */
bool nb_scheduler_form(nb_scheduler *s);
/* Takes the longest known beginning of a task's text. */
void nb_task_reuse(nb_scheduler *s, nb_reply_task *t);
/* Makes blocks that are whole now known, and the rest of a prompt that is computed. */
void nb_task_publish(nb_scheduler *s, nb_reply_task *t);
/* Makes all that is computed known. */
void nb_task_publish_tail(nb_scheduler *s, nb_reply_task *t);
void nb_task_drop_pages(nb_scheduler *s, nb_reply_task *t);

/* ---- scheduler_token.c ---- */
nb_status nb_task_prepare_text(nb_scheduler *s, nb_reply_task *t, nb_error *err);
/* Chooses the next token from a row of logits; may finish the task. */
void nb_task_take_row(nb_scheduler *s, nb_reply_task *t, const float *logits);
void nb_task_free_text(nb_reply_task *t);

#endif
