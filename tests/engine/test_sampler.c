/* Every stage against the plainest way to write it (sort everything, doubles), the generator against published
 * numbers, the draw against its probabilities. */
#include "engine/sampler_support.h"

#include "base/cpu.h"
#include "support/allocations.h"

/* ---- the reference ---- */

typedef struct entry {
    int id;
    double x, p, order; /* order: what it is sorted by, least first */
} entry;
typedef struct list {
    size_t n;
    bool unsure; /* the last decision hung on less than the rounding of float */
    entry e[MOST];
} list;

static int by_order(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    return x->order != y->order ? (x->order > y->order) - (x->order < y->order) : (x->id > y->id) - (x->id < y->id);
}
static void sort_by_logit(list *l)
{
    for (size_t i = 0; i < l->n; i++)
        l->e[i].order = -l->e[i].x;
    qsort(l->e, l->n, sizeof *l->e, by_order);
}
static void sort_by_id(list *l)
{
    for (size_t i = 0; i < l->n; i++)
        l->e[i].order = l->e[i].id;
    qsort(l->e, l->n, sizeof *l->e, by_order);
}
static double softmax(list *l)
{
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < l->n; i++)
        max = fmax(max, l->e[i].x);
    for (size_t i = 0; i < l->n; i++)
        sum += l->e[i].p = l->e[i].x == max ? 1 : exp(l->e[i].x - max);
    for (size_t i = 0; i < l->n; i++)
        l->e[i].p /= sum;
    return max;
}
static void ref_top_k(list *l, size_t k)
{
    sort_by_logit(l);
    l->n = nb_min_size(l->n, k);
}
static void ref_accumulate(list *l, double p, size_t keep, bool strict)
{
    double sum = 0;
    for (size_t i = 0; i < l->n; i++) {
        sum += l->e[i].p;
        if (near(sum, p, 3e-6))
            l->unsure = true;
        if ((strict ? sum > p : sum >= p) && i + 1 >= keep) {
            if (i + 1 < l->n && l->e[i].x != l->e[i + 1].x && near(l->e[i].order, l->e[i + 1].order, 1e-5))
                l->unsure = true; /* which of the two comes first */
            l->n = i + 1;
            return;
        }
    }
}
static void ref_top_p(list *l, double p, size_t keep)
{
    softmax(l);
    sort_by_logit(l);
    ref_accumulate(l, p, keep, false);
}
static void ref_typical(list *l, double p, size_t keep)
{
    double max = softmax(l), entropy = 0;
    for (size_t i = 0; i < l->n; i++)
        if (l->e[i].p > 0)
            entropy -= l->e[i].p * log(l->e[i].p);
    double log_sum = 0;
    for (size_t i = 0; i < l->n; i++)
        log_sum = l->e[i].x == max ? -log(l->e[i].p) : log_sum;
    for (size_t i = 0; i < l->n; i++)
        l->e[i].order = fabs((l->e[i].x == max ? 0 : max - l->e[i].x) + log_sum - entropy);
    qsort(l->e, l->n, sizeof *l->e, by_order);
    ref_accumulate(l, p, keep, true);
    l->unsure |= isinf(max) && keep > 1; /* all but the best are equally far away: any of them will do */
}
static void ref_min_p(list *l, double p, size_t keep)
{
    softmax(l);
    sort_by_logit(l);
    size_t i = 1;
    for (; i < l->n; i++) {
        if (near(l->e[i].p / l->e[0].p, p, 1e-5))
            l->unsure = true;
        if (l->e[i].p < p * l->e[0].p && i >= keep)
            break;
    }
    l->n = i;
}
static void ref_top_n_sigma(list *l, double n)
{
    double max = softmax(l), sum = 0, squares = 0, count = 0;
    for (size_t i = 0; i < l->n; i++)
        if (isfinite(l->e[i].x)) {
            sum += l->e[i].x;
            count++;
        }
    for (size_t i = 0; i < l->n; i++)
        if (isfinite(l->e[i].x))
            squares += pow(l->e[i].x - sum / count, 2);
    double least = isinf(max) ? max : max - n * sqrt(squares / count);
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++) {
        if (isfinite(max) && l->e[i].x != max && near(l->e[i].x, least, 1e-6))
            l->unsure = true;
        if (l->e[i].x >= least)
            l->e[kept++] = l->e[i];
    }
    l->n = kept;
}
static void ref_xtc(list *l, double threshold, size_t keep)
{
    softmax(l);
    sort_by_logit(l);
    size_t last = 0;
    for (size_t i = 0; i < l->n; i++) {
        if (near(l->e[i].p, threshold, 1e-5))
            l->unsure = true;
        if (l->e[i].p >= threshold)
            last = i;
    }
    if (last == 0 || l->n - last < keep)
        return;
    memmove(l->e, l->e + last, (l->n - last) * sizeof *l->e);
    l->n -= last;
}
static void ref_temperature(list *l, double t)
{
    double max = softmax(l);
    if (t <= 0 || (isfinite(max) && isinf((float)(max / t)))) { /* overflow: as good as zero */
        ref_top_k(l, 1);
        return;
    }
    for (size_t i = 0; i < l->n; i++)
        l->e[i].x = (float)(l->e[i].x / t);
}
static void ref_dynamic(list *l, double t, double range, double exponent)
{
    if (l->n < 2)
        return;
    softmax(l);
    double entropy = 0, low = fmax(0, t - range), high = t + range;
    for (size_t i = 0; i < l->n; i++)
        if (l->e[i].p > 0)
            entropy -= l->e[i].p * log(l->e[i].p);
    l->unsure = entropy < 1e-4; /* and so may t be: then its rounding shows */
    ref_temperature(l, low + (high - low) * pow(entropy / log((double)l->n), exponent));
}

static void ref_stage(list *l, stage which, const nb_sampler_params *p)
{
    size_t keep = p->min_keep > 1 ? (size_t)p->min_keep : 1;
    l->unsure = false;
    switch (which) {
    case STAGE_TOP_K: ref_top_k(l, (size_t)p->top_k); break;
    case STAGE_TOP_P: ref_top_p(l, (double)p->top_p, keep); break;
    case STAGE_TYPICAL: ref_typical(l, (double)p->typical_p, keep); break;
    case STAGE_MIN_P: ref_min_p(l, (double)p->min_p, keep); break;
    case STAGE_TOP_N_SIGMA: ref_top_n_sigma(l, (double)p->top_n_sigma); break;
    case STAGE_XTC: ref_xtc(l, (double)p->xtc_threshold, keep); break;
    case STAGE_TEMPERATURE:
        if (p->dynatemp_range > 0)
            ref_dynamic(l, (double)p->temperature, (double)p->dynatemp_range, (double)p->dynatemp_exponent);
        else
            ref_temperature(l, (double)p->temperature);
        break;
    default: fail();
    }
    sort_by_id(l);
}

static void load(list *l, const float *x, size_t n)
{
    l->n = n;
    for (size_t i = 0; i < n; i++)
        l->e[i] = (entry){.id = (int)i, .x = isnan(x[i]) ? -INFINITY : (double)x[i]};
}

/* ---- stages ---- */

static void assert_same(const nb_sampler *s, const list *l, const char *what)
{
    bool same = s->n == l->n;
    for (size_t i = 0; same && i < s->n; i++) {
        double x = isnan(s->x[i]) ? -INFINITY : (double)s->x[i];
        same = (s->whole ? (int)i : s->id[i]) == l->e[i].id && (x == l->e[i].x || near(x, l->e[i].x, 1e-4));
    }
    if (!same) {
        for (size_t i = 0; i < s->n || i < l->n; i++)
            print_error("%3zu: ours %d %.9g, plain %d %.9g\n", i,
                        i >= s->n  ? -1
                        : s->whole ? (int)i
                                   : s->id[i],
                        i < s->n ? (double)s->x[i] : 0, i < l->n ? l->e[i].id : -1, i < l->n ? l->e[i].x : 0);
        fail_msg("%s: of %zu candidates ours keeps %zu, the plain way %zu", what, s->vocabulary, s->n, l->n);
    }
}

static const char *const stage_name[] = {"penalties", "dry",   "top_n_sigma", "top_k",      "typ_p",
                                         "top_p",     "min_p", "xtc",         "temperature"};

static nb_sampler_params random_params(void)
{
    nb_sampler_params p = off();
    static const float shares[] = {0, 0.01f, 0.1f, 0.3f, 0.5f, 0.7f, 0.9f, 0.95f, 0.99f, 0.9999f};
    p.top_k = (int)(any(3) ? 1 + any(100) : 1 + any(MOST));
    p.top_p = shares[any(10)];
    p.min_p = shares[any(10)];
    p.min_p = p.min_p > 0 ? p.min_p : 1e-6f;
    p.typical_p = shares[any(10)];
    p.top_n_sigma = 0.2f + (float)uniform() * 3;
    p.xtc_probability = 1;
    p.xtc_threshold = (float)uniform() * 0.2f;
    p.temperature = any(8) ? 0.1f + (float)uniform() * 2 : 0;
    p.dynatemp_range = any(3) ? 0 : (float)uniform();
    p.dynatemp_exponent = any(2) ? 1 : (float)uniform() * 3;
    p.min_keep = any(3) ? 0 : (int)any(50);
    return p;
}

static void each_stage_is_the_plain_one(void **unused)
{
    (void)unused;
    static const size_t sizes[] = {1, 2, 3, 10, 63, 64, 65, 128, 1000, MOST};
    static const stage stages[] = {STAGE_TOP_N_SIGMA, STAGE_TOP_K, STAGE_TYPICAL,    STAGE_TOP_P,
                                   STAGE_MIN_P,       STAGE_XTC,   STAGE_TEMPERATURE};
    static float x[MOST];
    static list l;
    int unsure[STAGES] = {0}, all[STAGES] = {0};
    for (int round = 0; round < 4000; round++) {
        size_t n = sizes[any(round % 16 ? 8 : 10)];
        int kind = (int)any(8);
        fill(x, n, kind < 4 ? kind : 0);
        nb_sampler_params p = random_params();
        nb_sampler *s = make(&p, n);
        s->lanes = any(2) ? s->lanes : &nb_sampler_lanes_ref;
        start(s, x);
        load(&l, x, n);
        for (size_t k = 0; k < 3; k++) { /* three in a row: cuts of cuts */
            stage which = stages[any(7)];
            ref_stage(&l, which, &p);
            nb_sampler_stage(s, which);
            all[which]++;
            unsure[which] += l.unsure;
            if (l.unsure)
                break;
            assert_same(s, &l, stage_name[which]);
            assert_true(s->n > 0);
        }
        nb_sampler_free(s);
    }
    for (int i = STAGE_TOP_N_SIGMA; i < STAGES; i++) {
        assert_true(all[i] > 500);
        assert_true(unsure[i] * 8 < all[i]);
    }
}

/* Where sums are exact in binary the edge is exact too: "at least p" and "more than p". */
static void edges_are_exact(void **unused)
{
    (void)unused;
    float x[4] = {2, 2, 2, 2};
    nb_sampler_params p = off();
    p.top_p = 0.5f;
    nb_sampler *s = make(&p, 4);
    start(s, x);
    nb_sampler_stage(s, STAGE_TOP_P);
    assert_int_equal(s->n, 2);
    assert_int_equal(s->id[1], 1); /* ties: the lower ids */
    s->p.typical_p = 0.5f;
    start(s, x);
    nb_sampler_stage(s, STAGE_TYPICAL);
    assert_int_equal(s->n, 3);
    s->p.xtc_threshold = 0.25f;
    s->p.xtc_probability = 1;
    start(s, x);
    nb_sampler_stage(s, STAGE_XTC);
    assert_int_equal(s->n, 1);
    assert_int_equal(s->id[0], 3);
    nb_sampler_free(s);
}

static void big_cuts_are_the_plain_ones(void **unused)
{
    (void)unused;
    enum { N = 100000 };
    float *x = malloc(N * sizeof *x);
    entry *e = malloc(N * sizeof *e);
    for (int kind = 0; kind < 4; kind++)
        for (int round = 0; round < 3; round++) {
            fill(x, N, kind);
            for (size_t i = 0; i < N; i++)
                e[i] = (entry){.id = (int)i, .order = isnan(x[i]) ? INFINITY : -(double)x[i]};
            qsort(e, N, sizeof *e, by_order);
            nb_sampler_params p = off();
            p.top_k = (int[]){1, 40, 3000}[round];
            nb_sampler *s = make(&p, N);
            start(s, x);
            nb_sampler_stage(s, STAGE_TOP_K);
            assert_int_equal(s->n, p.top_k);
            char *kept = calloc(N, 1);
            for (size_t i = 0; i < s->n; i++)
                kept[s->id[i]] = 1;
            for (int i = 0; i < p.top_k; i++)
                assert_int_equal(kept[e[i].id], 1);
            free(kept);
            nb_sampler_free(s);
        }
    free(x);
    free(e);
}

/* ---- greedy ---- */

static void greedy_is_the_first_best(void **unused)
{
    (void)unused;
    static float x[MOST];
    for (int round = 0; round < 2000; round++) {
        size_t n = 1 + any(round % 10 ? 200 : MOST);
        fill(x, n, (int)any(4));
        nb_sampler_params p = nb_sampler_defaults();
        p.temperature = any(2) ? 0 : -1;
        nb_sampler *s = make(&p, n);
        size_t best = n;
        for (size_t i = 0; i < n; i++)
            if (!isnan(x[i]) && (best == n ? x[i] > -INFINITY : x[i] > x[best]))
                best = i;
        assert_int_equal(nb_sampler_pick(s, x), best == n ? 0 : best);
        nb_sampler_free(s);
    }
}

static void cold_is_greedy(void **unused)
{
    (void)unused;
    float x[] = {1, 3, 2.9999f, -5}, below[] = {-2, -1, -1.0001f, -9};
    nb_sampler_params p = off();
    p.temperature = 1e-45f;
    nb_sampler *s = make(&p, 4);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(nb_sampler_pick(s, x), 1);
        assert_int_equal(nb_sampler_pick(s, below), 1);
    }
    nb_sampler_free(s);
}

/* ---- arithmetic ---- */

static void generator_gives_the_published_numbers(void **unused)
{
    (void)unused;
    nb_rng r = {{1, 2, 3, 4}};
    static const uint64_t outputs[] = {41943041u,
                                       58720359u,
                                       3588806011781223u,
                                       3591011842654386u,
                                       9228616714210784205u,
                                       9973669472204895162u,
                                       14011001112246962877u,
                                       12406186145184390807u};
    for (size_t i = 0; i < 8; i++)
        assert_true(nb_rng_next(&r) == outputs[i]);
    nb_rng_seed(&r, 1234567); /* splitmix64 */
    assert_true(r.s[0] == 6457827717110365317u && r.s[1] == 3203168211198807973u);
    assert_true(r.s[2] == 9817491932198370423u && r.s[3] == 4593380528125082431u);
}

static void functions_are_the_library_s(void **unused)
{
    (void)unused;
    for (int i = 0; i < 200000; i++) {
        double x = (uniform() - 0.5) * 1400, y = exp(x);
        assert_true(fabs(nb_exp(x) - y) <= 4e-16 * y + 1e-320 + fabs(x) * 1e-18 * y);
        double l = log(y > 0 ? y : 1), ours = nb_log(y > 0 ? y : 1);
        assert_true(fabs(ours - l) <= 1e-15 * fabs(l) + 1e-16);
        double z = 1 + (uniform() - 0.5) * 1e-3;
        assert_true(fabs(nb_log(z) - log(z)) <= 1e-15 * fabs(log(z)) + 1e-17);
    }
    assert_true(nb_exp(0) == 1 && nb_log(1) == 0 && nb_exp(-INFINITY) == 0 && nb_exp(INFINITY) == INFINITY);
    assert_true(nb_exp(NAN) == 0 && nb_log(0) == -INFINITY && nb_log(INFINITY) == INFINITY && nb_pow(0, 0) == 1);
    assert_true(nb_powi(2, 10) == 1024 && nb_powi(1.5, 0) == 1 && nb_powi(3, 5) == 243);
}

static void weights_are_exponentials(void **unused)
{
    (void)unused;
    float x[SAMPLER_BLOCK];
    uint64_t ref[SAMPLER_BLOCK], best[SAMPLER_BLOCK];
    nb_sampler_params p = off();
    nb_sampler *s = make(&p, 1);
    for (int round = 0; round < 5000; round++) {
        float max = (float)(uniform() - 0.5) * 60;
        for (int i = 0; i < SAMPLER_BLOCK; i++)
            x[i] = max - (float)(uniform() * uniform()) * 40;
        x[3] = max;
        x[4] = NAN;
        x[5] = -INFINITY;
        uint64_t sum = 0, ref_sum = nb_sampler_lanes_ref.weigh(x, max, ref);
        assert_true(s->lanes->weigh(x, max, best) == ref_sum);
        assert_memory_equal(ref, best, sizeof ref);
        for (int i = 0; i < SAMPLER_BLOCK; i++) {
            double w = isnan(x[i]) ? 0 : 0x1p40 * exp((double)x[i] - (double)max);
            assert_true(fabs((double)ref[i] - w) <= 0.51 + 4e-6 * w);
            sum += ref[i];
        }
        assert_true(sum == ref_sum && ref[3] == UINT64_C(1) << 40);
    }
    nb_sampler_free(s);
}

/* ---- the draw ---- */

/* Probabilities of a chain by the plain stages; then 100,000 draws. */
static void assert_drawn(const nb_sampler_params *p, const float *x, size_t n, const double *expected)
{
    enum { DRAWS = 100000 };
    size_t *count = calloc(n, sizeof *count);
    nb_sampler *s = make(p, n);
    for (int i = 0; i < DRAWS; i++)
        count[nb_sampler_pick(s, x)]++;
    double chi = 0, rest = 0, rest_count = 0;
    int freedom = -1;
    for (size_t i = 0; i < n; i++) {
        double e = expected[i] * DRAWS, c = (double)count[i];
        if (expected[i] == 0)
            assert_int_equal(count[i], 0);
        if (e < 5) {
            rest += e;
            rest_count += c;
            continue;
        }
        chi += (c - e) * (c - e) / e;
        freedom++;
    }
    if (rest >= 5) {
        chi += (rest_count - rest) * (rest_count - rest) / rest;
        freedom++;
    }
    if (chi > freedom + 4 * sqrt(2.0 * freedom) + 4)
        fail_msg("chi-square %g with %d degrees of freedom", chi, freedom);
    nb_sampler_free(s);
    free(count);
}

static void draws_follow_the_probabilities(void **unused)
{
    (void)unused;
    static list l;
    static float x[1000];
    static double expected[1000];
    const stage usual[] = {STAGE_TOP_K, STAGE_TOP_P, STAGE_MIN_P, STAGE_TEMPERATURE};
    for (int chain = 0; chain < 3; chain++) {
        size_t n = (size_t[]){2, 100, 1000}[chain];
        do
            fill(x, n, 0);
        while (fabsf(x[0] - x[1]) > 3);
        nb_sampler_params p = nb_sampler_defaults();
        for (int all = 0; all < 2; all++) {
            p.seed = 42 + (uint64_t)chain;
            load(&l, x, n);
            for (int i = 0; i < 4 && all == 0; i++) {
                ref_stage(&l, usual[i], &p);
                assert_false(l.unsure);
            }
            softmax(&l);
            memset(expected, 0, sizeof expected);
            for (size_t i = 0; i < l.n; i++)
                expected[l.e[i].id] = l.e[i].p;
            assert_drawn(&p, x, n, expected);
            p = off();
        }
    }
}

static void impossible_is_never_drawn(void **unused)
{
    (void)unused;
    float two[] = {-INFINITY, 3}, infinite[] = {1, INFINITY, 2, INFINITY, NAN}, nothing[] = {-INFINITY, NAN, -INFINITY};
    nb_sampler_params p = off();
    nb_sampler *a = make(&p, 2), *b = make(&p, 5), *c = make(&p, 3);
    int seen[5] = {0}, any_of_three[3] = {0};
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(nb_sampler_pick(a, two), 1);
        seen[nb_sampler_pick(b, infinite)]++;
        any_of_three[nb_sampler_pick(c, nothing)]++;
    }
    assert_true(seen[0] == 0 && seen[2] == 0 && seen[4] == 0 && abs(seen[1] - seen[3]) < 300);
    assert_true(any_of_three[0] > 850 && any_of_three[1] > 850 && any_of_three[2] > 850);
    nb_sampler_free(a);
    nb_sampler_free(b);
    nb_sampler_free(c);
}

static void nothing_crashes(void **unused)
{
    (void)unused;
    static float x[300];
    for (int round = 0; round < 3000; round++) {
        size_t n = 1 + any(300);
        fill(x, n, 2);
        if (any(4) == 0)
            for (size_t i = 0; i < n; i++)
                x[i] = any(2) ? NAN : any(2) ? -INFINITY : INFINITY;
        nb_sampler_params p = random_params();
        p.mirostat = any(3) ? 0 : 1 + (int)any(2);
        p.repeat_penalty = 1.3f;
        p.dry_multiplier = 1;
        p.dry_breakers = (const char *const[]){NULL};
        nb_sampler *s = make(&p, n);
        for (int i = 0; i < 20; i++) {
            int32_t id = nb_sampler_pick(s, x);
            assert_true(id >= 0 && (size_t)id < n);
            nb_sampler_accept(s, id);
        }
        nb_sampler_accept(s, -1);
        nb_sampler_accept(s, (int32_t)n);
        nb_sampler_free(s);
    }
}

static void seeds_reproduce(void **unused)
{
    (void)unused;
    static float x[1000];
    fill(x, 1000, 0);
    nb_sampler_params p = off();
    p.xtc_probability = 0.5f;
    p.repeat_penalty = 1.1f;
    p.seed = NB_SEED_RANDOM;
    nb_sampler *a = make(&p, 1000), *c = make(&p, 1000);
    assert_true(nb_sampler_seed(a) != nb_sampler_seed(c) && nb_sampler_seed(a) != NB_SEED_RANDOM);
    p.seed = nb_sampler_seed(a);
    nb_cpu_level level = nb_cpu_current();
    nb_cpu_set_level(NB_CPU_REF);
    nb_sampler *b = make(&p, 1000);
    nb_cpu_set_level(level);
    int32_t first[200];
    int different = 0;
    for (int i = 0; i < 200; i++) {
        first[i] = nb_sampler_pick(a, x);
        assert_int_equal(first[i], nb_sampler_pick(b, x));
        different += first[i] != nb_sampler_pick(c, x);
        nb_sampler_accept(a, first[i]);
        nb_sampler_accept(b, first[i]);
    }
    assert_true(different > 50);
    nb_sampler_reset(a);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(nb_sampler_pick(a, x), first[i]);
        nb_sampler_accept(a, first[i]);
    }
    nb_sampler_free(a);
    nb_sampler_free(b);
    nb_sampler_free(c);
}

/* These ids must never change: texts made with a seed would. */
static void a_seed_means_these_tokens(void **unused)
{
    (void)unused;
    static const int32_t tokens[2][16] = {
        {262, 152, 124, 221, 387, 415, 498, 332, 55, 193, 304, 415, 276, 249, 179, 442},
        {262, 152, 135, 220, 387, 415, 498, 332, 55, 193, 304, 415, 276, 249, 179, 453},
    };
    float x[512];
    for (int i = 0; i < 512; i++)
        x[i] = (float)(i * 37 % 512) / 64;
    for (int chain = 0; chain < 2; chain++) {
        nb_sampler_params p = chain ? off() : nb_sampler_defaults();
        p.temperature = 0.8f;
        p.seed = 2024;
        nb_sampler *s = make(&p, 512);
        for (size_t i = 0; i < 16; i++)
            assert_int_equal(nb_sampler_pick(s, x), tokens[chain][i]);
        nb_sampler_free(s);
    }
}

static void xtc_tosses_its_own_coin(void **unused)
{
    (void)unused;
    float x[] = {2, 2, 2, -9};
    nb_sampler_params p = off();
    p.xtc_probability = 0.3f;
    nb_sampler *s = make(&p, 4);
    int cut = 0;
    for (int i = 0; i < 10000; i++) {
        start(s, x);
        nb_sampler_stage(s, STAGE_XTC);
        cut += s->n == 2;
    }
    assert_in_range(cut, 2800, 3200);
    nb_sampler_free(s);
}

/* ---- mirostat ---- */

static double mirostat_surprise(int version, double tau)
{
    static float x[1000];
    for (int i = 0; i < 1000; i++) /* Zipf's law */
        x[i] = -1.1f * logf((float)(i * 7 % 1000) + 1);
    nb_sampler_params p = off();
    p.mirostat = version;
    p.mirostat_tau = (float)tau;
    nb_sampler *s = make(&p, 1000);
    static list l;
    load(&l, x, 1000);
    softmax(&l);
    double sum = 0;
    for (int i = 0; i < 6000; i++) {
        int32_t id = nb_sampler_pick(s, x);
        sum -= i >= 1000 ? log2(l.e[id].p) : 0;
        /* mu moves by eta (tau - surprise): while it stays in bounds the mean surprise is tau */
        assert_true(s->mu > -2 && s->mu < 25);
    }
    nb_sampler_free(s);
    return sum / 5000;
}

static void mirostat_keeps_the_surprise(void **unused)
{
    (void)unused;
    /* What it steers is the surprise after the cut; that of the whole follows. */
    double last[3] = {0};
    for (double tau = 2; tau <= 6; tau++)
        for (int version = 1; version <= 2; version++) {
            double got = mirostat_surprise(version, tau);
            assert_true(got > last[version]);
            last[version] = got;
        }
}

/* One step of each version, written out. */
static void mirostat_step(void **unused)
{
    (void)unused;
    static float x[300];
    static list l;
    for (int round = 0; round < 400; round++) {
        size_t n = 1 + any(300);
        fill(x, n, 0);
        nb_sampler_params p = off();
        p.mirostat = 1 + round % 2;
        p.mirostat_tau = 1 + (float)uniform() * 5;
        nb_sampler *s = make(&p, n);
        double mu = s->mu;
        load(&l, x, n);
        softmax(&l);
        sort_by_logit(&l);
        double k = 0;
        if (p.mirostat == 1 && n > 1) {
            double tb = 0, tt = 0;
            for (size_t i = 0; i < 99 && i + 1 < n; i++) {
                double t = log((double)(i + 2) / (double)(i + 1)), b = log(l.e[i].p / l.e[i + 1].p);
                tb += t * b;
                tt += t * t;
            }
            double e = tb / tt - 1;
            k = pow(e * pow(2, mu) / (1 - pow((double)n, -e)), 1 / (tb / tt));
            if (near(k, floor(k + 0.5), 1e-3))
                k = NAN; /* float decides */
            else
                l.n = k > (double)n ? n : k < 1 ? 1 : (size_t)k;
        } else
            for (size_t i = l.n; i-- > 1;) {
                if (near(-log2(l.e[i].p), mu, 1e-5))
                    k = NAN;
                if (-log2(l.e[i].p) > mu)
                    l.n = i;
            }
        int32_t id = nb_sampler_pick(s, x);
        if (!isnan(k) && n > 1) {
            softmax(&l);
            double got = NAN;
            for (size_t i = 0; i < l.n; i++)
                got = l.e[i].id == id ? -log2(l.e[i].p) : got;
            assert_false(isnan(got)); /* it is one of those kept */
            assert_int_equal(s->n, l.n);
            assert_true(near(s->mu, mu - 0.1 * (got - (double)p.mirostat_tau), 1e-4));
        }
        nb_sampler_free(s);
    }
}

/* ---- parameters ---- */

static void assert_refused(nb_sampler_params p, nb_status status, const char *part)
{
    nb_sampler *s = (nb_sampler *)&p;
    nb_error err;
    assert_int_equal(nb_sampler_new(&p, 10, NULL, &s, &err), status);
    assert_null(s);
    if (!strstr(err.message, part))
        fail_msg("\"%s\" says nothing of \"%s\"", err.message, part);
}

static void wrong_parameters_are_refused(void **unused)
{
    (void)unused;
    nb_sampler_params p = off();
    p.order = "top_k;tfs_z";
    assert_refused(p, NB_ERR_ARGUMENT,
                   "\"tfs_z\": the samplers are penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temp");
    p.order = "top_k;;min_p";
    assert_refused(p, NB_ERR_ARGUMENT, "unknown sampler \"\"");
    p.order = "top_k;";
    assert_refused(p, NB_ERR_ARGUMENT, "ends in ';'");
    p.order = "top_k;top-k";
    assert_refused(p, NB_ERR_ARGUMENT, "named twice");
    p.order = "a_name_that_is_far_too_long_for_any_sampler";
    assert_refused(p, NB_ERR_ARGUMENT, "the samplers are");
    p = off();
    p.temperature = NAN;
    assert_refused(p, NB_ERR_ARGUMENT, "temperature must be a finite number");
    p = off();
    p.repeat_penalty = 0;
    assert_refused(p, NB_ERR_ARGUMENT, "repeat_penalty is 0: it must be greater than 0");
    p = off();
    p.mirostat = 3;
    assert_refused(p, NB_ERR_ARGUMENT, "mirostat is 3");
    p = off();
    p.bias = &(nb_logit_bias){10, 1};
    p.bias_count = 1;
    assert_refused(p, NB_ERR_ARGUMENT, "token 10, but the vocabulary is 0 to 9");
    p.bias = &(nb_logit_bias){1, NAN};
    assert_refused(p, NB_ERR_ARGUMENT, "not a number");
    p = off();
    p.dry_multiplier = 1;
    assert_refused(p, NB_ERR_ARGUMENT, "needs a tokenizer");
    p.dry_breakers = no_breakers;
    p.dry_penalty_last_n = 1 << 20;
    assert_refused(p, NB_ERR_LIMIT, "dry_penalty_last_n is 1048576");
    p.dry_penalty_last_n = 64;
    p.dry_allowed_length = -1;
    assert_refused(p, NB_ERR_ARGUMENT, "dry_allowed_length is -1");
    nb_sampler *s;
    nb_error err;
    assert_int_equal(nb_sampler_new(&p, 0, NULL, &s, &err), NB_ERR_LIMIT);
}

static void order_is_kept(void **unused)
{
    (void)unused;
    nb_sampler_params p = nb_sampler_defaults();
    p.order = "Temperature;min-p;topk";
    nb_sampler *s = make(&p, 100);
    assert_int_equal(s->stage_count, 3);
    assert_true(s->stages[0] == STAGE_TEMPERATURE && s->stages[1] == STAGE_MIN_P && s->stages[2] == STAGE_TOP_K);
    nb_sampler_free(s);
    p.order = NULL; /* only what does something, in the default order */
    s = make(&p, 100);
    assert_int_equal(s->stage_count, 4);
    assert_true(s->stages[0] == STAGE_TOP_K && s->stages[1] == STAGE_TOP_P && s->stages[2] == STAGE_MIN_P);
    nb_sampler_free(s);
    p.order = "";
    s = make(&p, 100);
    assert_int_equal(s->stage_count, 0);
    nb_sampler_free(s);
}

static void picking_allocates_nothing(void **unused)
{
    (void)unused;
    static float x[MOST];
    fill(x, MOST, 0);
    nb_sampler_params p = nb_sampler_defaults();
    p.repeat_penalty = 1.1f;
    p.dry_multiplier = 1;
    p.dry_breakers = no_breakers;
    p.typical_p = 0.9f;
    p.top_n_sigma = 3;
    p.xtc_probability = 0.5f;
    p.dynatemp_range = 0.3f;
    for (int mirostat = 0; mirostat < 3; mirostat++) {
        p.mirostat = mirostat;
        nb_sampler *s = make(&p, MOST);
        long before = nb_allocations.count;
        for (int i = 0; i < 300; i++)
            nb_sampler_accept(s, nb_sampler_pick(s, x));
        assert_int_equal(nb_allocations.count, before);
        nb_sampler_free(s);
    }
}

static void out_of_memory_is_an_error(void **unused)
{
    (void)unused;
#ifndef NB_SANITIZED /* their allocators are their own */
    nb_tokenizer *tokenizer = make_tokenizer();
    nb_sampler_params p = dry_params();
    p.dry_breakers = NULL;
    p.repeat_penalty = 1.1f;
    nb_status status = NB_ERR_MEMORY;
    int failures = 0;
    for (; status != NB_OK; failures++) {
        nb_sampler *s;
        nb_error err = {0};
        nb_allocations.count = 0;
        nb_allocations.fail_at = failures + 1;
        status = nb_sampler_new(&p, 200000, tokenizer, &s, &err);
        nb_allocations.fail_at = 0;
        assert_true(status == NB_OK || (status == NB_ERR_MEMORY && err.message[0] && !s));
        nb_sampler_free(s);
    }
    assert_true(failures > 10);
    nb_tokenizer_free(tokenizer);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_stage_is_the_plain_one),
        cmocka_unit_test(edges_are_exact),
        cmocka_unit_test(big_cuts_are_the_plain_ones),
        cmocka_unit_test(greedy_is_the_first_best),
        cmocka_unit_test(cold_is_greedy),
        cmocka_unit_test(generator_gives_the_published_numbers),
        cmocka_unit_test(functions_are_the_library_s),
        cmocka_unit_test(weights_are_exponentials),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(impossible_is_never_drawn),
        cmocka_unit_test(nothing_crashes),
        cmocka_unit_test(seeds_reproduce),
        cmocka_unit_test(a_seed_means_these_tokens),
        cmocka_unit_test(xtc_tosses_its_own_coin),
        cmocka_unit_test(mirostat_keeps_the_surprise),
        cmocka_unit_test(mirostat_step),
        cmocka_unit_test(wrong_parameters_are_refused),
        cmocka_unit_test(order_is_kept),
        cmocka_unit_test(picking_allocates_nothing),
        cmocka_unit_test(out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
