#include "cli/rope_options.h"

int nb_rope_options_finish(const char *command, nb_rope_options *o, const nb_rope_params **rope)
{
    const float numbers[] = {o->scale, o->base, o->attention, o->fast, o->slow};
    bool given = o->scaling || o->original != 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        given |= numbers[i] != 0;
        if (!(numbers[i] >= 0))
            return nb_report_usage(command, "%g: numbers of rope scalings are above 0", (double)numbers[i]);
    }
    if (o->original < 0)
        return nb_report_usage(command, "--yarn-orig-ctx %lld: a context has at least one token",
                               (long long)o->original);
    o->params = (nb_rope_params){.scaling = o->scaling,
                                 .factor = (double)o->scale,
                                 .base = (double)o->base,
                                 .original_context = (size_t)o->original,
                                 .attention_factor = (double)o->attention,
                                 .beta_fast = (double)o->fast,
                                 .beta_slow = (double)o->slow};
    *rope = given ? &o->params : NULL;
    return -1;
}
