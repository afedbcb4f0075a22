/* chat.h - a conversation at a terminal or through a pipe: what was said, what the user has set, and how replies are shown. */
#ifndef NB_CLI_CHAT_H
#define NB_CLI_CHAT_H

#include "cli/talk.h"
#include "cli/word_wrap.h"

/* Opens the model of a name for a conversation: what `nibble run MODEL` does. */
typedef nb_status nb_chat_open_fn(void *user, const char *model, nb_talker **out, nb_error *err);

typedef struct nb_chat {
    nb_talker *talker;
    nb_chat_open_fn *open; /* for /load */
    void *open_user;
    json_t *options, *format; /* options: an object in Ollama's words */
    int think;
    char think_level[8];
    const char *keep_alive;
    char *system;                                          /* NULL: the model's own */
    bool raw, verbose, hide_thinking, word_wrap, going_on; /* going_on: more messages will follow */
    /* what was said; texts are allocated one by one */
    nb_talk_message *messages;
    size_t count, cap;
} nb_chat;

nb_chat nb_chat_new(void);
void nb_chat_free(nb_chat *c); /* its talker as well */

nb_status nb_chat_add(nb_chat *c, const char *role, nb_str content, nb_str thinking, nb_error *err);
void nb_chat_forget(nb_chat *c, size_t from); /* messages from there on */

/* Loads the model, with a sign of life on stderr. Ctrl-C: NB_ERR_CANCELLED. */
nb_status nb_chat_load(nb_chat *c, nb_error *err);
/* Says `text` and shows the reply on stdout as it comes; both are added to the conversation. Ctrl-C ends the reply, which stays as far
 * as it came. After a failure the conversation is what it was. */
nb_status nb_chat_say(nb_chat *c, nb_str text, nb_error *err);

/* Sets one of Ollama's options from words, as /set parameter and PARAMETER have it: a number, true or false, or texts. */
nb_status nb_chat_set(nb_chat *c, const char *name, const char *const *values, size_t count, nb_error *err);

#endif
