#include "engine/sampler_impl.h"

/* ---- the last tokens ---- */

static nb_status ring_new(nb_sampler *s, ring *r, const char *what, int window, nb_error *err)
{
    if (window > SAMPLER_HISTORY_MAX)
        return nb_fail(err, NB_ERR_LIMIT, "%s is %d, the most is %d: lower it%s", what, window, SAMPLER_HISTORY_MAX,
                       &s->penalties.recent == r ? " or use -1 for all" : "");
    r->window = window < 0 ? SAMPLER_HISTORY_MAX : (size_t)window;
    r->token = NB_ARRAY(&s->arena, int32_t, r->window);
    return r->token ? NB_OK : nb_fail_memory(err, what, r->window * sizeof *r->token);
}

/* Returns the token that fell out, or -1. */
static int32_t ring_add(ring *r, int32_t id)
{
    int32_t old = r->count == r->window ? r->token[r->next] : -1;
    r->token[r->next] = id;
    r->next = r->next + 1 == r->window ? 0 : r->next + 1;
    r->count += old < 0;
    return old;
}

static void ring_reset(ring *r) { r->count = r->next = 0; }

/* ---- penalties: repetition (Keskar et al. 2019), frequency and presence ---- */

nb_status nb_sampler_penalties_new(nb_sampler *s, nb_error *err)
{
    penalties *p = &s->penalties;
    p->all = s->p.repeat_last_n < 0;
    if (!p->all)
        NB_TRY(ring_new(s, &p->recent, "repeat_last_n", s->p.repeat_last_n, err));
    p->count = NB_ARRAY(&s->arena, uint32_t, s->vocabulary);
    p->distinct = NB_ARRAY(&s->arena, int32_t, s->vocabulary);
    p->slot = NB_ARRAY(&s->arena, uint32_t, s->vocabulary);
    if (!p->count || !p->distinct || !p->slot)
        return nb_fail_memory(err, "the sampler's penalties", 3 * s->vocabulary * sizeof *p->count);
    return NB_OK;
}

void nb_sampler_penalties_accept(penalties *p, int32_t id)
{
    if (!p->count)
        return;
    if (p->count[id]++ == 0) {
        p->slot[id] = (uint32_t)p->distinct_count;
        p->distinct[p->distinct_count++] = id;
    }
    int32_t old = p->all ? -1 : ring_add(&p->recent, id);
    if (old >= 0 && --p->count[old] == 0) {
        int32_t moved = p->distinct[--p->distinct_count];
        p->distinct[p->slot[old]] = moved;
        p->slot[moved] = p->slot[old];
    }
}

void nb_sampler_penalties_reset(nb_sampler *s)
{
    penalties *p = &s->penalties;
    for (size_t i = 0; i < p->distinct_count; i++)
        p->count[p->distinct[i]] = 0;
    p->distinct_count = 0;
    ring_reset(&p->recent);
}

void nb_sampler_penalties_apply(nb_sampler *s)
{
    const penalties *p = &s->penalties;
    if (p->distinct_count == 0)
        return;
    nb_sampler_own(s);
    for (size_t i = 0; i < p->distinct_count; i++) {
        float *x = nb_sampler_find(s, p->distinct[i]);
        if (!x)
            continue;
        /* dividing a negative logit would make the token likelier */
        *x = *x > 0 ? *x / s->p.repeat_penalty : *x * s->p.repeat_penalty;
        *x -= (float)p->count[p->distinct[i]] * s->p.frequency_penalty + s->p.presence_penalty;
    }
}

/* ---- DRY, "don't repeat yourself" (p-e-w 2024): a token that would extend a repetition of the text's end pays
 * multiplier * base^(length - allowed_length) ---- */

nb_status nb_sampler_dry_new(nb_sampler *s, const nb_sampler_params *params, const nb_tokenizer *tokenizer,
                             nb_error *err)
{
    static const char *const usual[] = {"\n", ":", "\"", "*"};
    dry *d = &s->dry;
    NB_TRY(ring_new(s, &d->recent, "dry_penalty_last_n", s->p.dry_penalty_last_n, err));
    d->reversed = NB_ARRAY(&s->arena, int32_t, d->recent.window);
    d->overlap = NB_ARRAY(&s->arena, uint32_t, d->recent.window);
    d->longest = NB_ARRAY(&s->arena, uint32_t, s->vocabulary);
    d->breaks = NB_ARRAY(&s->arena, unsigned char, s->vocabulary);
    if (!d->reversed || !d->overlap || !d->longest || !d->breaks)
        return nb_fail_memory(err, "DRY's history", d->recent.window * 8 + s->vocabulary * 5);
    if (s->p.dry_base > 1.000001f)
        d->max_exponent = (unsigned)(88.7228391 / nb_log((double)s->p.dry_base));
    if (params->dry_breakers)
        return nb_sampler_breakers_new(s, params->dry_breakers, params->dry_breaker_count, tokenizer, err);
    return nb_sampler_breakers_new(s, usual, sizeof usual / sizeof *usual, tokenizer, err);
}

void nb_sampler_dry_accept(dry *d, int32_t id)
{
    if (d->longest)
        ring_add(&d->recent, id);
}

void nb_sampler_dry_reset(dry *d) { ring_reset(&d->recent); }

/* How many of the newest n tokens follow the last breaker; reversed is newest first. */
static size_t since_breaker(const dry *d, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t low = 0, high = d->breaker_count, longest = 0;
        bool found = d->breaks[d->reversed[i]];
        while (low < high) {
            size_t middle = low + (high - low) / 2;
            if (d->breakers[middle].head < d->reversed[i])
                low = middle + 1;
            else
                high = middle;
        }
        for (; low < d->breaker_count && d->breakers[low].head == d->reversed[i]; low++) {
            const breaker *b = &d->breakers[low];
            size_t same = 0;
            while (same < b->tail_count && same < i && d->tails[b->tail + same] == d->reversed[i - same - 1])
                same++;
            if (same == b->tail_count) {
                found = true;
                longest = nb_max_size(longest, same);
            }
        }
        if (found)
            return i - longest;
    }
    return n;
}

/* Z-array: overlap[k] is how many tokens from k on, going back, equal those from the end on. Linear. */
static void overlaps(dry *d, size_t n)
{
    const int32_t *t = d->reversed;
    size_t left = 0, right = 0; /* [left, right): the match that reaches farthest back */
    for (size_t k = 1; k < n; k++) {
        size_t same = k < right ? nb_min_size(d->overlap[k - left], right - k) : 0;
        while (k + same < n && t[same] == t[k + same])
            same++;
        d->overlap[k] = (uint32_t)same;
        if (k + same > right) {
            left = k;
            right = k + same;
        }
    }
}

static void dry_charge(nb_sampler *s, int32_t id)
{
    dry *d = &s->dry;
    uint32_t length = d->longest[id];
    d->longest[id] = 0;
    float *x = length && !d->breaks[id] ? nb_sampler_find(s, id) : NULL;
    if (!x)
        return;
    unsigned exponent = length - 1 - (unsigned)s->p.dry_allowed_length; /* stored plus one */
    if (d->max_exponent > 0 && exponent > d->max_exponent)
        exponent = d->max_exponent;
    *x -= (float)((double)s->p.dry_multiplier * nb_powi((double)s->p.dry_base, exponent));
}

void nb_sampler_dry_apply(nb_sampler *s)
{
    dry *d = &s->dry;
    ring *r = &d->recent;
    size_t n = r->count, allowed = (size_t)s->p.dry_allowed_length;
    if (n <= allowed)
        return;
    for (size_t i = 0; i < n; i++)
        d->reversed[i] = r->token[r->next > i ? r->next - 1 - i : r->window + r->next - 1 - i];
    size_t limit = since_breaker(d, n);
    if (limit < allowed)
        return;
    overlaps(d, n);
    nb_sampler_own(s);
    for (size_t k = 1; k < n; k++) {
        size_t length = nb_min_size(d->overlap[k], limit);
        uint32_t *longest = &d->longest[d->reversed[k - 1]];
        if (length >= allowed && length + 1 > *longest)
            *longest = (uint32_t)length + 1; /* plus one: 0 stays "none" */
    }
    for (size_t k = 1; k < n; k++)
        dry_charge(s, d->reversed[k - 1]);
}
