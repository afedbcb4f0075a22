#include "cli/transfer_options.h"

#include "cli/cli.h"

static bool stopped(void *user)
{
    nb_transfer_options *o = user;
    o->stop |= nb_interrupted();
    return o->stop;
}

static void tell(void *user, const nb_transfer_event *e)
{
    nb_transfer_bar_tell(((nb_transfer_options *)user)->bar, e);
}

void nb_transfer_options_begin(nb_transfer_options *o)
{
    nb_interrupt_watch();
    o->bar = nb_transfer_bar_start();
    o->params.tell = tell;
    o->params.stop = stopped;
    o->params.user = o;
}

void nb_transfer_options_end(nb_transfer_options *o) { nb_transfer_bar_end(o->bar); }
