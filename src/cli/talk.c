#include "cli/talk.h"

#include <stdlib.h>

void nb_talk_close(nb_talker *t)
{
    if (!t)
        return;
    free(t->model);
    t->close(t);
}

const char *nb_talk_model(const nb_talker *t) { return t->model; }
bool nb_talk_has_template(const nb_talker *t) { return t->has_template; }
bool nb_talk_writes(const nb_talker *t) { return !t->embeds; }
bool nb_talk_limits(const nb_talker *t) { return t->limits; }
nb_status nb_talk_show(nb_talker *t, json_t **out, nb_error *err) { return t->show(t, out, err); }
nb_status nb_talk_save_as(nb_talker *t, const nb_talk_save *save, nb_error *err) { return t->save(t, save, err); }
nb_status nb_talk_load(nb_talker *t, const nb_talk_request *request, nb_error *err) { return t->load(t, request, err); }

nb_status nb_talk(nb_talker *t, const nb_talk_request *request, nb_talk_stats *stats, nb_error *err)
{
    *stats = (nb_talk_stats){0};
    return t->talk(t, request, stats, err);
}
