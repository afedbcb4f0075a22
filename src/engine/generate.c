/* A reply: prompt in, sampled tokens out as certain text. */
#include "engine/engine.h"

#include "base/clock.h"
#include "engine/stop.h"

nb_generate_params nb_generate_defaults(void)
{
    return (nb_generate_params){.sampling = nb_sampler_defaults(), .max_tokens = -1};
}

typedef struct reply {
    nb_session *session;
    const nb_generate_params *params;
    nb_sampler *sampler;
    nb_stop *stop;
    nb_detok detok;
    nb_buf text, certain; /* of one token; past the stop strings */
    nb_stop_reason reason;
} reply;

/* hands certain text to the caller; false: the caller wants no more */
static bool deliver(reply *r)
{
    bool go_on = true;
    if (r->certain.len && r->params->on_text)
        go_on = r->params->on_text(r->params->user, r->certain.data, r->certain.len) == 0;
    nb_buf_clear(&r->certain);
    return go_on;
}

/* one chosen token: text, stop strings, delivery. *more: the reply goes on. */
static nb_status take_token(reply *r, int32_t id, bool *more, nb_error *err)
{
    *more = false;
    nb_sampler_accept(r->sampler, id);
    if (!r->params->ignore_end && nb_tokenizer_ends(r->session->model->tokenizer, id)) {
        r->reason = NB_STOP_END;
        return NB_OK;
    }
    nb_buf_clear(&r->text);
    NB_TRY(nb_detok_push(&r->detok, id, &r->text, err));
    bool stopped = nb_stop_push(r->stop, nb_buf_view(&r->text), &r->certain);
    if (r->text.failed || r->certain.failed)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    if (!deliver(r)) {
        r->reason = NB_STOP_CALLER;
        return NB_OK;
    }
    r->reason = NB_STOP_STRING;
    *more = !stopped;
    return NB_OK;
}

/* why no further token may be chosen now; false: one may */
static bool must_stop(reply *r, size_t tokens)
{
    if (r->params->max_tokens >= 0 && (int64_t)tokens >= r->params->max_tokens)
        r->reason = NB_STOP_LENGTH;
    else if (tokens > 0 && nb_session_position(r->session) == nb_session_capacity(r->session))
        r->reason = NB_STOP_CONTEXT;
    else
        return false;
    return true;
}

/* text that was held back for a stop string or a code point is certain once the reply is over */
static nb_status deliver_rest(reply *r, nb_error *err)
{
    nb_buf_clear(&r->text);
    nb_detok_flush(&r->detok, &r->text);
    if (nb_stop_push(r->stop, nb_buf_view(&r->text), &r->certain) || nb_stop_flush(r->stop, &r->certain))
        r->reason = NB_STOP_STRING;
    if (r->text.failed || r->certain.failed)
        return nb_fail(err, NB_ERR_MEMORY, "out of memory");
    deliver(r);
    return NB_OK;
}

static nb_status run_reply(reply *r, nb_generate_stats *stats, nb_error *err)
{
    double start = nb_seconds(), first = start;
    int32_t id = 0;
    for (bool more = true; more && !must_stop(r, stats->tokens);) {
        if (stats->tokens > 0)
            NB_TRY(nb_session_eval(r->session, &id, 1, NB_LOGITS_LAST, err));
        id = nb_sampler_pick(r->sampler, nb_session_row(r->session, 0));
        if (stats->tokens++ == 0)
            first = nb_seconds();
        NB_TRY(take_token(r, id, &more, err));
    }
    stats->first_token_seconds += first - start;
    stats->seconds = nb_seconds() - first;
    return r->reason != NB_STOP_STRING && r->reason != NB_STOP_CALLER ? deliver_rest(r, err) : NB_OK;
}

/* Rows of the embedding beyond the tokenizer's tokens (padding) have no text and are never chosen. */
static nb_status open_reply(reply *r, const int32_t *prompt, size_t count, nb_error *err)
{
    nb_session *s = r->session;
    const nb_tokenizer *tokenizer = s->model->tokenizer;
    NB_TRY(nb_sampler_new(&r->params->sampling, nb_tokenizer_count(tokenizer), tokenizer, &r->sampler, err));
    NB_TRY(nb_stop_new(r->params->stops, r->params->stop_count, &r->stop, err));
    NB_TRY(nb_session_eval(s, prompt, count, NB_LOGITS_LAST, err));
    for (size_t i = 0; i < s->position; i++) /* penalties look back on all that the session holds */
        nb_sampler_accept(r->sampler, s->tokens[i]);
    return NB_OK;
}

nb_status nb_generate(nb_session *session, const int32_t *prompt, size_t count, const nb_generate_params *params,
                      nb_generate_stats *stats, nb_error *err)
{
    nb_generate_stats local;
    nb_generate_params defaults = nb_generate_defaults();
    reply r = {.session = session, .params = params ? params : &defaults, .reason = NB_STOP_LENGTH};
    r.detok = (nb_detok){.tokenizer = session->model->tokenizer, .special = r.params->special};
    stats = stats ? stats : &local;
    *stats = (nb_generate_stats){.prompt_tokens = count};
    double start = nb_seconds();
    nb_status status = open_reply(&r, prompt, count, err);
    stats->prompt_seconds = stats->first_token_seconds = nb_seconds() - start;
    if (status == NB_OK) {
        stats->seed = nb_sampler_seed(r.sampler);
        status = run_reply(&r, stats, err);
    }
    stats->reason = r.reason;
    nb_sampler_free(r.sampler);
    nb_stop_free(r.stop);
    nb_buf_free(&r.text);
    nb_buf_free(&r.certain);
    return status;
}
