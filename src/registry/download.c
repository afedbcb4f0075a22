#include "registry/download.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "registry/fields.h"

enum { SLOTS_MAX = 32, HOPS = 10, TOKENS = 3, TELL_MS = 100, REFUSAL = 64 << 10 };
static const uint64_t progress_least = 256 << 10; /* that makes failures before it forgotten */

/* One connection, with the part it fetches. */
typedef struct slot {
    struct fetch *f;
    nb_exchange x;
    nb_buf url;
    size_t part;
    bool busy, checked; /* checked: the header fields are what they should be */
    unsigned token;     /* that it was sent with */
    bool redirected;    /* its address is from a redirect */
    bool no_ranges;     /* it answered 200 */
    uint64_t left;      /* bytes that may still come */
    size_t ignored;     /* bytes of an answer that is no content */
    nb_status failed;
    nb_error error;
} slot;

typedef struct part_state {
    bool busy;
    int tries, hops;
    uint64_t mark;   /* done when it failed last */
    double ready_at; /* not before */
} part_state;

typedef struct fetch {
    nb_web *w;
    const nb_download *d;
    nb_partial *p;
    CURLM *multi;
    slot *slots;
    int count, running;
    part_state *parts;
    nb_buf direct;  /* where a redirect led; empty: unknown */
    bool plain;     /* the server has no ranges */
    bool known;     /* one part began to arrive: the others may be asked for */
    int tokens;     /* asked for since something arrived */
    unsigned token; /* which one it is */
    double told_at;
    nb_error *err;
} fetch;

/* ---- what arrives ---- */

static nb_status lie(slot *s, const char *format, ...) NB_PRINTF(2, 3);
static nb_status lie(slot *s, const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return s->failed = nb_fail(&s->error, NB_ERR_FORMAT, "%.*s: %s: %s; nothing of it is kept as checked",
                               NB_STR_ARG(nb_url_host(s->url.data)), s->f->d->what, text);
}

static nb_status check_partial_answer(slot *s)
{
    nb_part q = nb_partial_part(s->f->p, s->part);
    uint64_t first = q.begin + q.done, size = nb_partial_size(s->f->p), length;
    nb_str said = nb_answer_field(&s->x.answer, NB_FIELD_CONTENT_RANGE);
    nb_str told = nb_answer_field(&s->x.answer, NB_FIELD_CONTENT_LENGTH);
    nb_range r;
    if (!nb_range_parse(said, &r))
        return lie(s, "it answered 206 without saying which bytes these are");
    if (r.first != first || r.last >= q.end)
        return lie(s, "it sent bytes %" PRIu64 "-%" PRIu64 " where %" PRIu64 "-%" PRIu64 " were asked for", r.first,
                   r.last, first, q.end - 1);
    if (r.total != UINT64_MAX && r.total != size)
        return lie(s, "it has %" PRIu64 " bytes there, but said %" PRIu64 " before", r.total, size);
    s->left = r.last - r.first + 1;
    if (told.n && (!nb_length_parse(told, &length) || length != s->left))
        return lie(s, "its Content-Length and Content-Range differ");
    return NB_OK;
}

static nb_status check_whole_answer(slot *s)
{
    uint64_t size = nb_partial_size(s->f->p), length;
    nb_str told = nb_answer_field(&s->x.answer, NB_FIELD_CONTENT_LENGTH);
    if (!s->f->plain) { /* it does not know ranges: the whole is asked for next */
        s->no_ranges = true;
        return s->failed = nb_fail(&s->error, NB_ERR_UNSUPPORTED, "no ranges");
    }
    s->left = size;
    if (told.n && (!nb_length_parse(told, &length) || length != size))
        return lie(s, "it sends %.*s bytes, but said %" PRIu64 " before", NB_STR_ARG(told), size);
    return NB_OK;
}

static nb_status check_etag(slot *s)
{
    nb_str etag = nb_answer_field(&s->x.answer, NB_FIELD_LINKED_ETAG);
    if (!etag.n)
        etag = nb_answer_field(&s->x.answer, NB_FIELD_ETAG);
    if (!s->f->d->etag || !s->x.at_home || !etag.n || !nb_etag_parse(etag, &etag) || nb_str_eqz(etag, s->f->d->etag))
        return NB_OK;
    return lie(s, "it changed while it was fetched (its ETag is %.*s now); fetch it anew", NB_STR_ARG(etag));
}

static size_t take(char *bytes, size_t size, size_t n, void *user)
{
    slot *s = user;
    long status = 0;
    n *= size;
    curl_easy_getinfo(s->x.easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200 && status != 206) { /* words about a failure */
        s->ignored += n;
        return s->ignored > REFUSAL ? 0 : n;
    }
    if (!s->checked) {
        if (s->x.answer.fields[NB_FIELD_CONTENT_ENCODING].len)
            lie(s, "it is sent compressed, though that was not asked for");
        else if (check_etag(s) == NB_OK)
            (void)(status == 206 && !s->f->plain ? check_partial_answer(s) : check_whole_answer(s));
        if (s->failed != NB_OK)
            return 0;
        s->checked = s->f->known = true;
        s->f->tokens = 0;
    }
    if (n > s->left) {
        lie(s, "it sends more bytes than it said");
        return 0;
    }
    s->failed = nb_partial_write(s->f->p, s->part, bytes, n, &s->error);
    s->left -= s->failed == NB_OK ? n : 0;
    return s->failed == NB_OK ? n : 0;
}

/* ---- asking ---- */

static nb_status begin_part(fetch *f, slot *s, size_t part)
{
    nb_part q = nb_partial_part(f->p, part);
    char range[64];
    snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, q.begin + q.done, q.end - 1);
    s->f = f;
    s->part = part;
    s->token = f->token;
    s->checked = s->no_ranges = false;
    s->failed = NB_OK;
    s->left = 0;
    s->ignored = 0;
    s->redirected = f->direct.len > 0;
    nb_buf_clear(&s->url);
    if (s->redirected) {
        nb_buf_str(&s->url, nb_buf_view(&f->direct));
    } else {
        if (*f->d->url == '/')
            nb_buf_z(&s->url, nb_web_params_of(f->w)->base);
        nb_buf_z(&s->url, f->d->url);
    }
    if (s->url.failed)
        return nb_fail_memory(f->err, "an address", s->url.len);
    nb_status status = nb_exchange_begin(f->w, s->url.data, f->plain ? NULL : range, &s->x, f->err);
    if (status != NB_OK) {
        nb_exchange_free(&s->x);
        return status;
    }
    curl_easy_setopt(s->x.easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(s->x.easy, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->x.easy, CURLOPT_PRIVATE, s);
    curl_easy_setopt(s->x.easy, CURLOPT_BUFFERSIZE, 256L << 10);
    curl_multi_add_handle(f->multi, s->x.easy);
    s->busy = f->parts[part].busy = true;
    f->running++;
    return NB_OK;
}

static void end_slot(fetch *f, slot *s)
{
    if (!s->busy)
        return;
    curl_multi_remove_handle(f->multi, s->x.easy);
    nb_exchange_free(&s->x);
    f->parts[s->part].busy = s->busy = false;
    f->running--;
}

static bool part_done(const fetch *f, size_t i)
{
    nb_part q = nb_partial_part(f->p, i);
    return q.done == q.end - q.begin;
}

/* Gives idle connections work. The first part goes alone: it finds where the bytes are, and whether there are ranges. */
static nb_status begin_parts(fetch *f, bool *all_done)
{
    double now = nb_seconds();
    int most = f->known && !f->plain ? f->count : 1;
    *all_done = true;
    for (size_t i = 0; i < nb_partial_count(f->p); i++) {
        if (part_done(f, i))
            continue;
        *all_done = false;
        if (f->parts[i].busy || f->parts[i].ready_at > now)
            continue;
        if (f->running >= most)
            break;
        slot *s = f->slots;
        while (s->busy)
            s++;
        NB_TRY(begin_part(f, s, i));
    }
    return NB_OK;
}

/* ---- what became of a part ---- */

static nb_status again(fetch *f, part_state *q, uint64_t done, const nb_answer *a, nb_status failure)
{
    if (done >= q->mark + progress_least)
        q->tries = 0;
    q->mark = done;
    if (++q->tries >= nb_web_params_of(f->w)->attempts)
        return failure;
    q->ready_at = nb_seconds() + nb_web_pause(f->w, q->tries, a) / 1000.0;
    return NB_OK;
}

/* The server has no ranges: everything is asked for once more, in one piece, and so it is after each failure. */
static nb_status go_plain(fetch *f)
{
    for (int i = 0; i < f->count; i++)
        end_slot(f, &f->slots[i]);
    f->plain = true;
    return nb_partial_restart(f->p, true, f->err);
}

static nb_status after_redirect(fetch *f, slot *s, part_state *q)
{
    if (++q->hops > HOPS)
        return nb_fail(f->err, NB_ERR_FORMAT, "%.*s: %s: more than %d redirects; is it the right address?",
                       NB_STR_ARG(nb_url_host(s->url.data)), f->d->what, HOPS);
    nb_status status = check_etag(s);
    if (status != NB_OK) {
        if (f->err)
            *f->err = s->error;
        return status;
    }
    return nb_web_redirect(f->w, &s->x.answer, &f->direct, f->err);
}

/* What this part was told is asked for anew, unless another part did so already. */
static void forget_address(fetch *f, const slot *s)
{
    if (nb_str_eq(nb_buf_view(&f->direct), nb_buf_view(&s->url)))
        nb_buf_clear(&f->direct);
}

static nb_status after_answer(fetch *f, slot *s, part_state *q, uint64_t done)
{
    const nb_answer *a = &s->x.answer;
    if (nb_web_is_redirect(a->status))
        return after_redirect(f, s, q);
    if (a->status == 401 && s->x.at_home && nb_web_params_of(f->w)->challenges) {
        if (s->token != f->token) /* another part got a new one meanwhile */
            return NB_OK;
        if (f->tokens++ < TOKENS) {
            f->token++;
            return nb_web_authorize(f->w, a, f->err);
        }
    }
    nb_status failure = nb_answer_fail(a, f->d->what, f->err);
    /* an address that a redirect gave may have had its time: the place gives another */
    if (s->redirected && a->status >= 400 && a->status < 500) {
        forget_address(f, s);
        q->hops = 0;
        return again(f, q, done, a, failure);
    }
    return nb_web_is_passing(a->status) ? again(f, q, done, a, failure) : failure;
}

static nb_status after_slot(fetch *f, slot *s, CURLcode code)
{
    part_state *q = &f->parts[s->part];
    nb_part part = nb_partial_part(f->p, s->part);
    long answer = 0;
    curl_easy_getinfo(s->x.easy, CURLINFO_RESPONSE_CODE, &answer);
    s->x.answer.status = (int)answer;
    if (s->no_ranges)
        return go_plain(f);
    if (s->failed != NB_OK) {
        if (f->err)
            *f->err = s->error;
        return s->failed;
    }
    if (s->x.too_much)
        return nb_fail(f->err, NB_ERR_FORMAT, "%.*s: %s: header fields without end",
                       NB_STR_ARG(nb_url_host(s->url.data)), f->d->what);
    bool content = answer == 200 || answer == 206;
    if (code == CURLE_OK && !content)
        return after_answer(f, s, q, part.done);
    if (code == CURLE_OK && part_done(f, s->part))
        return NB_OK;
    nb_status failure = code == CURLE_OK
                            ? nb_fail(f->err, NB_ERR_IO,
                                      "%.*s: %s: it sends less than it said; try again, what is there is kept",
                                      NB_STR_ARG(nb_url_host(s->url.data)), f->d->what)
                            : nb_web_fail(s->url.data, &s->x, code, f->err);
    if (code != CURLE_OK && !nb_web_passing_failure(code))
        return failure;
    uint64_t done = part.done;
    if (f->plain) { /* what came is of no use: there is no asking for the rest */
        NB_TRY(nb_partial_restart(f->p, true, f->err));
        done = q->mark = 0;
    }
    if (q->tries > 1)
        forget_address(f, s); /* perhaps another one serves better */
    q->hops = 0;
    return again(f, q, done, NULL, failure);
}

static nb_status collect(fetch *f)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(f->multi, &left));) {
        slot *s = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&s);
        nb_status status = after_slot(f, s, code);
        end_slot(f, s);
        NB_TRY(status);
    }
    return NB_OK;
}

/* ---- the whole ---- */

static nb_status report(fetch *f, bool last)
{
    double now = nb_seconds();
    if (!last && now - f->told_at < TELL_MS / 1000.0)
        return NB_OK;
    f->told_at = now;
    bool go_on = !f->d->tell || f->d->tell(f->d->user, nb_partial_done(f->p), nb_partial_size(f->p));
    if (go_on && !nb_web_stopped(f->w))
        return NB_OK;
    return nb_fail(f->err, NB_ERR_CANCELLED, "%s: stopped; what is there already is kept", f->d->what);
}

static nb_status loop(fetch *f)
{
    int running;
    for (;;) {
        bool all_done;
        NB_TRY(begin_parts(f, &all_done));
        if (all_done)
            return report(f, true);
        curl_multi_perform(f->multi, &running);
        NB_TRY(collect(f));
        NB_TRY(report(f, false));
        curl_multi_poll(f->multi, NULL, 0, f->running ? TELL_MS : 20, NULL);
    }
}

nb_status nb_download_run(nb_web *w, const nb_download *d, nb_partial *p, nb_error *err)
{
    fetch f = {.w = w, .d = d, .p = p, .err = err};
    int wanted = nb_web_params_of(w)->connections;
    f.count = wanted < SLOTS_MAX ? wanted : SLOTS_MAX;
    f.multi = curl_multi_init();
    f.slots = calloc((size_t)f.count, sizeof *f.slots);
    f.parts = calloc(nb_partial_count(p) + 1, sizeof *f.parts);
    nb_status status = f.multi && f.slots && f.parts ? loop(&f)
                                                     : nb_fail_memory(err, "a download", sizeof *f.slots * SLOTS_MAX);
    for (int i = 0; f.slots && i < f.count; i++) {
        end_slot(&f, &f.slots[i]);
        nb_buf_free(&f.slots[i].url);
    }
    curl_multi_cleanup(f.multi);
    nb_buf_free(&f.direct);
    free(f.slots);
    free(f.parts);
    return status;
}
