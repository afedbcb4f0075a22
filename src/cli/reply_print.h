/* reply_print.h - shows a reply as it comes: broken at words on a terminal, thinking dim; as it is into a file or pipe. */
#ifndef NB_CLI_REPLY_PRINT_H
#define NB_CLI_REPLY_PRINT_H

#include "cli/word_wrap.h"

typedef struct nb_reply_print {
    bool terminal, color, hide_thinking;
    nb_wrap wrap;
    nb_buf out;                /* of one piece */
    nb_buf content, thinking;  /* all that was said and thought */
    bool is_thinking, thought, talks; /* within thinking; any was shown; words of the reply were */
    bool waits;                /* a sign of life is on the screen */
    double began;
    bool failed; /* standard output takes no more */
} nb_reply_print;

void nb_reply_print_begin(nb_reply_print *p, bool word_wrap, bool hide_thinking);
/* Called while nothing comes: after a moment, a sign of life on stderr. */
void nb_reply_print_wait(nb_reply_print *p);
void nb_reply_print_said(nb_reply_print *p, bool thinking, nb_str text);
void nb_reply_print_end(nb_reply_print *p); /* the cursor is at the beginning of a line then */
void nb_reply_print_free(nb_reply_print *p);

#endif
