#include "server/options_use.h"

#include "server/service_internal.h"

enum { MOST_KEY = 40, MOST_LIST = 400 }; /* bytes of a client's words in the log */

static void on_idle(void *list, nb_str key, bool known)
{
    nb_buf *b = list;
    if (b->len > MOST_LIST)
        return;
    nb_buf_printf(b, "%s%.*s%s", b->len ? ", " : "", (int)nb_min_size(key.n, MOST_KEY), key.p,
                  known ? "" : " (unknown)");
    if (b->len > MOST_LIST)
        nb_buf_z(b, ", ...");
}

/* One line a request, however many there are. */
static void tell_idle(nb_service *s, nb_buf *list)
{
    if (list->len)
        nb_service_say(s, "options without effect here: %.*s", NB_STR_ARG(nb_buf_view(list)));
    nb_buf_free(list);
}

static nb_status use(const nb_options *o, nb_arena *arena, nb_job_params *p, nb_error *err)
{
    nb_sampler_params *s = &p->task.sampling;
    s->seed = o->seed < 0 ? NB_SEED_RANDOM : (uint64_t)o->seed;
    s->temperature = (float)o->temperature;
    s->top_k = (int)o->top_k;
    s->top_p = (float)o->top_p;
    s->min_p = (float)o->min_p;
    s->typical_p = (float)o->typical_p;
    s->repeat_last_n = (int)o->repeat_last_n;
    s->repeat_penalty = (float)o->repeat_penalty;
    s->presence_penalty = (float)o->presence_penalty;
    s->frequency_penalty = (float)o->frequency_penalty;
    s->mirostat = (int)o->mirostat;
    s->mirostat_tau = (float)o->mirostat_tau;
    s->mirostat_eta = (float)o->mirostat_eta;
    p->task.keep = o->num_keep < 0 ? SIZE_MAX / 4 : (size_t)o->num_keep;
    p->task.max_tokens = o->num_predict < 0 ? -1 : o->num_predict;
    p->load.context = o->num_ctx > 0 ? (size_t)o->num_ctx : 0;
    p->load.threads = o->num_thread > 0 ? (int)o->num_thread : 0;
    const char **stops = NB_ARRAY(arena, const char *, o->stop_count + 1);
    if (!stops)
        return nb_fail_memory(err, "stop strings", o->stop_count * sizeof *stops);
    for (size_t i = 0; i < o->stop_count; i++)
        if (!(stops[i] = nb_arena_strdup(arena, o->stop[i])))
            return nb_fail_memory(err, "stop strings", o->stop[i].n);
    p->task.stops = stops;
    p->task.stop_count = o->stop_count;
    return NB_OK;
}

nb_status nb_use_options(nb_service *s, nb_entry *entry, nb_str options, nb_arena *arena, nb_job_params *p,
                         nb_error *err)
{
    nb_options o = nb_options_defaults();
    const nb_contents *own;
    nb_param *params;
    size_t count;
    if (entry) {
        NB_TRY(nb_entry_contents(entry, &own, err));
        NB_TRY(nb_options_apply(&o, own->params, own->param_count, arena, NULL, NULL, err));
    }
    if (options.n) {
        nb_buf idle = {0};
        NB_TRY(nb_params_read("options", options, arena, &params, &count, err));
        nb_status status = nb_options_apply(&o, params, count, arena, on_idle, &idle, err);
        tell_idle(s, &idle);
        NB_TRY(status);
    }
    return use(&o, arena, p, err);
}

/* ---- durations ---- */

int64_t nb_duration_seconds(double seconds) { return seconds < 0 ? -1 : seconds > 9e9 ? -1 : (int64_t)(seconds * 1e9); }

static double unit_of(const char **at)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"ns", 1e-9}, {"us", 1e-6}, {"µs", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strncmp(*at, units[i].name, strlen(units[i].name)) == 0 &&
            !(units[i].name[0] == 'm' && units[i].name[1] == 0 && (*at)[1] == 's')) {
            *at += strlen(units[i].name);
            return units[i].seconds;
        }
    return 0;
}

/* "12.5": digits and at most one point, whatever the locale; no exponent. False: there is no digit. */
static bool read_number(const char **at, double *value)
{
    bool any = false, point = false;
    double scale = 1;
    *value = 0;
    for (; (**at >= '0' && **at <= '9') || (**at == '.' && !point); ++*at) {
        point |= **at == '.';
        if (**at == '.')
            continue;
        any = true;
        *value = *value * 10 + (**at - '0');
        scale *= point ? 10 : 1;
    }
    *value /= scale;
    return any;
}

bool nb_duration_parse(nb_str text, int64_t *ns)
{
    char copy[64];
    double sum = 0, sign = 1, value;
    if (text.n == 0 || text.n >= sizeof copy)
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    const char *at = copy;
    if (*at == '-' || *at == '+')
        sign = *at++ == '-' ? -1 : 1;
    for (bool first = true; *at; first = false) {
        if (!read_number(&at, &value))
            return false;
        double unit = *at ? unit_of(&at) : first ? 1 : 0;
        if (unit == 0)
            return false;
        sum += value * unit;
    }
    *ns = sign < 0 && sum > 0 ? -1 : nb_duration_seconds(sum);
    return true;
}
