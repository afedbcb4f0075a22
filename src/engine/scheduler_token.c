/* What a computed token becomes: the next token, its text, and perhaps the end of the reply. */
#include "engine/scheduler_internal.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"

/* ---- what a task needs for it ---- */

static nb_status find_markers(nb_scheduler *s, nb_reply_task *t, nb_error *err)
{
    t->markers = NB_ARRAY(&t->arena, int32_t, t->p.marker_count + 1);
    if (!t->markers)
        return nb_fail_memory(err, "a reply", t->p.marker_count * sizeof *t->markers);
    for (size_t i = 0; i < t->p.marker_count; i++) {
        int32_t id = nb_tokenizer_find(s->model->tokenizer, nb_str_of(t->p.markers[i]));
        if (id >= 0)
            t->markers[t->marker_count++] = id;
    }
    return NB_OK;
}

nb_status nb_task_prepare_text(nb_scheduler *s, nb_reply_task *t, nb_error *err)
{
    const nb_tokenizer *tokenizer = s->model->tokenizer;
    NB_TRY(nb_sampler_new(&t->p.sampling, nb_tokenizer_count(tokenizer), tokenizer, &t->sampler, err));
    NB_TRY(nb_stop_new(t->p.stops, t->p.stop_count, &t->stop, err));
    if (t->p.grammar)
        NB_TRY(nb_grammar_state_new(t->p.grammar, &t->grammar, err));
    NB_TRY(find_markers(s, t, err));
    t->detok = (nb_detok){.tokenizer = tokenizer, .special = t->p.special, .started = t->p.goes_on};
    for (size_t i = 0; i < t->count; i++) /* penalties look back on the prompt */
        nb_sampler_accept(t->sampler, t->ids[i]);
    return NB_OK;
}

void nb_task_free_text(nb_reply_task *t)
{
    nb_sampler_free(t->sampler);
    nb_stop_free(t->stop);
    nb_grammar_state_free(t->grammar);
    nb_buf_free(&t->text);
    nb_buf_free(&t->certain);
    nb_buf_free(&t->piece);
}

/* ---- probabilities ---- */

/* log of the sum of exp(logits), in double */
static double log_sum(const float *logits, size_t n)
{
    float most = -INFINITY;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        most = logits[i] > most ? logits[i] : most;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)(logits[i] - most));
    return (double)most + log(sum);
}

/* the likeliest first; of equal ones the lower id */
static size_t find_top(const float *logits, size_t n, double log_total, size_t room, nb_top_token *top)
{
    size_t count = 0;
    for (size_t i = 0; i < n && room > 0; i++) {
        float logprob = (float)((double)logits[i] - log_total);
        if (count == room && !(logprob > top[count - 1].logprob))
            continue;
        size_t at = count < room ? count++ : count - 1;
        for (; at > 0 && logprob > top[at - 1].logprob; at--)
            top[at] = top[at - 1];
        top[at] = (nb_top_token){(int32_t)i, logprob};
    }
    return count;
}

/* ---- the token ---- */

static bool is_marker(const nb_reply_task *t, int32_t id)
{
    for (size_t i = 0; i < t->marker_count; i++)
        if (t->markers[i] == id)
            return true;
    return false;
}

/* Its text, as far as it is certain; *stopped: a stop string is complete. */
static nb_status write_token(nb_reply_task *t, int32_t id, bool *stopped, nb_error *err)
{
    nb_buf_clear(&t->text);
    nb_buf_clear(&t->certain);
    t->detok.special = t->p.special || is_marker(t, id);
    NB_TRY(nb_detok_push(&t->detok, id, &t->text, err));
    *stopped = nb_stop_push(t->stop, nb_buf_view(&t->text), &t->certain);
    return t->text.failed || t->certain.failed ? nb_fail_memory(err, "a reply's text", t->text.len) : NB_OK;
}

/* What was held back is certain at the end. True: a stop string lies in it. */
static bool write_rest(nb_reply_task *t)
{
    nb_buf_clear(&t->text);
    nb_buf_clear(&t->certain);
    nb_detok_flush(&t->detok, &t->text);
    return nb_stop_push(t->stop, nb_buf_view(&t->text), &t->certain) || nb_stop_flush(t->stop, &t->certain);
}

static void tell(nb_scheduler *s, nb_reply_task *t, int32_t id, const float *logits)
{
    size_t n = nb_tokenizer_count(s->model->tokenizer);
    nb_token_event event = {.id = id, .text = nb_buf_view(&t->certain)};
    if (!t->p.on_token)
        return;
    nb_buf_clear(&t->piece);
    if (nb_tokenizer_bytes(s->model->tokenizer, id, &t->piece, NULL) == NB_OK && t->piece.len == 0)
        nb_tokenizer_decode(s->model->tokenizer, &id, 1, true, &t->piece, NULL); /* a control token's name */
    event.piece = nb_buf_view(&t->piece);
    if (t->p.logprobs >= 0) {
        double total = log_sum(logits, n);
        event.logprob = (float)((double)logits[id] - total);
        event.top = s->top;
        event.top_count = find_top(logits, n, total, nb_min_size((size_t)t->p.logprobs, 20), s->top);
    }
    t->p.on_token(t->p.user, &event);
}

static void end(nb_scheduler *s, nb_reply_task *t, nb_task_end why)
{
    bool stopped = why != NB_TASK_STRING && write_rest(t);
    if (why == NB_TASK_STRING)
        nb_buf_clear(&t->certain);
    t->stats.which = nb_stop_which(t->stop);
    nb_task_finish(s, t, stopped ? NB_TASK_STRING : why, NULL);
}

/* Half of what is behind the first `keep` tokens is forgotten; the rest is computed again. */
static void shift(nb_scheduler *s, nb_reply_task *t)
{
    size_t keep = nb_min_size(t->p.keep, s->cp.max_positions / 2), gone = nb_max_size((t->count - keep) / 2, 1);
    memmove(t->ids + keep, t->ids + keep + gone, (t->count - keep - gone) * sizeof *t->ids);
    t->count -= gone;
    t->prompt = t->prompt > keep ? nb_max_size(keep, t->prompt - nb_min_size(gone, t->prompt - keep)) : t->prompt;
    t->stats.shifted_tokens += gone;
    t->again = true;
    nb_task_drop_pages(s, t);
    nb_task_reuse(s, t);
}

/* After a token: the end, or on. */
static void go_on(nb_scheduler *s, nb_reply_task *t, bool stopped)
{
    if (stopped)
        end(s, t, NB_TASK_STRING);
    else if (t->p.max_tokens >= 0 && (int64_t)t->stats.tokens >= t->p.max_tokens)
        end(s, t, NB_TASK_LENGTH);
    else if (t->count > s->cp.max_positions && t->p.shift)
        shift(s, t);
    else if (t->count > s->cp.max_positions)
        end(s, t, NB_TASK_CONTEXT);
}

static nb_status choose(nb_reply_task *t, const float *logits, int32_t *id, nb_error *err)
{
    const uint32_t *allowed;
    if (t->grammar) {
        NB_TRY(nb_grammar_mask(t->grammar, &allowed, err));
        *id = nb_sampler_pick_allowed(t->sampler, logits, allowed);
        NB_TRY(nb_grammar_accept(t->grammar, *id, err));
    } else {
        *id = nb_sampler_pick(t->sampler, logits);
    }
    nb_sampler_accept(t->sampler, *id);
    return NB_OK;
}

void nb_task_take_row(nb_scheduler *s, nb_reply_task *t, const float *logits)
{
    nb_error error;
    int32_t id = 0;
    bool stopped = false;
    if (t->p.max_tokens == 0) {
        end(s, t, NB_TASK_LENGTH);
        return;
    }
    nb_status status = choose(t, logits, &id, &error);
    if (status == NB_OK && t->stats.tokens == 0)
        t->first = nb_seconds();
    if (status == NB_OK && !t->p.ignore_end && nb_tokenizer_ends(s->model->tokenizer, id)) {
        end(s, t, NB_TASK_STOP);
        return;
    }
    if (status == NB_OK)
        status = write_token(t, id, &stopped, &error);
    if (status != NB_OK) {
        nb_buf_clear(&t->certain);
        nb_task_finish(s, t, NB_TASK_FAILED, &error);
        return;
    }
    t->ids[t->count++] = id;
    t->stats.tokens++;
    s->load.tokens++;
    tell(s, t, id, logits);
    go_on(s, t, stopped);
}
