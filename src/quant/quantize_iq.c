/* The search for IQ1, IQ2 and IQ3: the scale of each sub-block as if it were free, then the scale of the super-block
 * for which the sub-blocks' whole multiples of it do least harm, then both again around the least squares fit. Every
 * candidate is judged by its true error, entries chosen anew. */
#include "quant/quantize_iq.h"

#include <math.h>

#include "base/cpu.h"
#include "num/half.h"

enum { COARSE = 8, STEPS = 96, CANDIDATES = 4, REFITS = 1 };

typedef struct search {
    const iq_format *f;
    const iq_book *book;
    const iq_batch *b;
    iq_choose_fn *choose;
    int lanes; /* of a super-block */
    float most[IQ_LANES], energy[IQ_LANES], ideal[IQ_LANES];
    float inverse[IQ_LANES]; /* of the ideal scales */
} search;

iq_choose_fn *nb_iq_choose(void)
{
#if defined(__x86_64__)
    nb_cpu_level level = nb_cpu_current();
    if (level >= NB_CPU_AVX512)
        return nb_iq_choose_avx512;
    if (level >= NB_CPU_AVX2)
        return nb_iq_choose_avx2;
#endif
    return nb_iq_choose_ref;
}

/* ---- the book ---- */

static int half_number(const iq_format *f, unsigned byte)
{
    if (f->levels == 8)
        return (int)(byte & 7) + 8 * (int)(byte >> 4);
    return (int)(byte & 3) + 3 * (int)(byte >> 2 & 3) + 9 * (int)(byte >> 4 & 3) + 27 * (int)(byte >> 6);
}

static unsigned half_byte(const iq_format *f, unsigned number)
{
    if (f->levels == 8)
        return number % 8 | number / 8 << 4;
    return number % 3 | number / 3 % 3 << 2 | number / 9 % 3 << 4 | number / 27 << 6;
}

/* Runs of the same length are put side by side: a loop over a run that ends where the last one did is guessed right. */
void nb_iq_book_make(const iq_format *f, iq_book *book)
{
    int starts[IQ_HALVES + 1], runs = 0, put = 0, entries = 0;
    for (int i = 0; i < f->entries; i++)
        if (i == 0 || f->grid[i] >> 8 != f->grid[i - 1] >> 8)
            starts[runs++] = i;
    starts[runs] = f->entries;
    for (int length = 1; put < runs; length++)
        for (int r = 0; r < runs; r++) {
            if (starts[r + 1] - starts[r] != length)
                continue;
            book->high[put] = (uint8_t)half_number(f, f->grid[starts[r]] >> 8);
            book->start[put++] = (uint16_t)entries;
            for (int i = starts[r]; i < starts[r + 1]; i++)
                book->low[entries++] = (uint8_t)half_number(f, f->grid[i] & 255);
        }
    book->runs = runs;
    book->start[runs] = (uint16_t)entries;
}

uint16_t nb_iq_entry(const iq_format *f, uint32_t code)
{
    return (uint16_t)(half_byte(f, code & 127) | half_byte(f, code >> 7 & 127) << 8);
}

void nb_iq_levels(const iq_format *f, const uint32_t code[IQ_ENTRIES][IQ_LANES], int lane, int eight, float q[8])
{
    uint16_t entry = nb_iq_entry(f, code[f->levels == 8 ? eight * 2 : eight][lane]);
    if (f->levels == 8) {
        uint16_t second = nb_iq_entry(f, code[eight * 2 + 1][lane]);
        for (int i = 0; i < 4; i++) {
            q[i] = f->level[entry >> i * 4 & 7];
            q[i + 4] = f->level[second >> i * 4 & 7];
        }
        return;
    }
    float move = 0;
    if (f->signs == IQ_SIGNS_IN_ENTRY || f->signs == IQ_SIGNS_IN_ENTRY_8)
        move = code[eight][lane] & IQ_CODE_DOWN ? -0.125f : 0.125f;
    for (int i = 0; i < 8; i++)
        q[i] = f->level[entry >> i * 2 & 3] + move;
}

/* Of eight values at those levels the one whose sign does least harm when turned. */
static int cheapest_turn(const iq_batch *b, int lane, int eight, const float q[8])
{
    int best = 0;
    float least = INFINITY;
    for (int i = 0; i < 8; i++) {
        float cost = b->w[eight * 8 + i][lane] * b->x[eight * 8 + i][lane] * q[i];
        if (cost < least) {
            best = i;
            least = cost;
        }
    }
    return best;
}

static bool must_turn(const iq_format *f, const iq_batch *b, int lane, int eight)
{
    return f->signs == IQ_SIGNS_EVEN && b->odd[eight][lane] > 0;
}

int nb_iq_turned(const iq_format *f, const iq_batch *b, const uint32_t code[IQ_ENTRIES][IQ_LANES], int lane, int eight)
{
    float q[8];
    if (!must_turn(f, b, lane, eight))
        return -1;
    nb_iq_levels(f, code, lane, eight, q);
    return cheapest_turn(b, lane, eight, q);
}

/* ---- the search ---- */

static void fill(float *x, float value)
{
    for (int lane = 0; lane < IQ_LANES; lane++)
        x[lane] = value;
}

static float odd_number(int l) { return (float)(2 * l + 1); }

/* the l with 2 l + 1 nearest to scale / d */
static int nearest_l(const search *s, float scale_by_d)
{
    float l = 0.5f * scale_by_d;
    return l < 1 ? 0 : l >= (float)s->f->top ? s->f->top : (int)l;
}

static void measure(search *s)
{
    for (int lane = 0; lane < IQ_LANES; lane++) {
        s->most[lane] = s->energy[lane] = 0;
        for (int i = 0; i < s->f->values; i++) {
            float x = s->b->x[i][lane], a = x < 0 ? -x : x;
            s->most[lane] = a > s->most[lane] ? a : s->most[lane];
            s->energy[lane] += s->b->w[i][lane] * x * x;
        }
    }
}

static void find_ideal_scales(search *s)
{
    float scale[IQ_LANES], cost[IQ_LANES], least[IQ_LANES];
    uint32_t code[IQ_ENTRIES][IQ_LANES];
    fill(least, INFINITY);
    for (int k = 0; k < COARSE; k++) {
        float part = s->f->low + (s->f->high - s->f->low) * (float)k / (COARSE - 1);
        for (int lane = 0; lane < IQ_LANES; lane++)
            scale[lane] = s->most[lane] / s->f->level[s->f->levels - 1] * part;
        s->choose(s->f, s->book, s->b, scale, cost, code);
        for (int lane = 0; lane < IQ_LANES; lane++)
            if (cost[lane] < least[lane]) {
                least[lane] = cost[lane];
                s->ideal[lane] = scale[lane];
            }
    }
    for (int lane = 0; lane < IQ_LANES; lane++)
        s->inverse[lane] = s->ideal[lane] > 0 ? 1 / s->ideal[lane] : 0;
}

/* Multiples of d for all lanes of a super-block: the error added to the ideal scales', to second order. */
static float harm(const search *s, int first, float d)
{
    float sum = 0, inverse = d > 0 ? 1 / d : 0;
    for (int lane = first; lane < first + s->lanes; lane++) {
        if (s->ideal[lane] > 0) {
            float wanted = s->ideal[lane] * inverse;
            float off = d * odd_number(nearest_l(s, wanted)) * s->inverse[lane] - 1;
            sum += s->energy[lane] * off * off;
        }
    }
    return sum;
}

static float f16_of(float x) { return nb_f16_to_f32(nb_f32_to_f16(x < 65504 ? x : 65504)); }

/* The best d of each of CANDIDATES equal parts of the range. */
static void find_candidates(const search *s, int first, float d[CANDIDATES])
{
    float most = 0, least = 0;
    for (int lane = first; lane < first + s->lanes; lane++)
        most = s->ideal[lane] > most ? s->ideal[lane] : most;
    most /= odd_number(s->f->top);
    for (int k = 0; k < STEPS; k++) {
        float try = f16_of(most * (0.8f + 0.6f * (float)k / STEPS)), h = harm(s, first, try);
        if (k % (STEPS / CANDIDATES) == 0 || h < least) {
            least = h;
            d[k / (STEPS / CANDIDATES)] = try;
        }
    }
}

/* Tries, for the lanes' d, the l nearest to the aim and `around` more on its sides; keeps what is better than found. */
static void try_d(const search *s, const float d[IQ_LANES], const float aim[IQ_LANES], int around, float total[2],
                  iq_found *found)
{
    float cost[IQ_LANES], scale[IQ_LANES], least[IQ_LANES], sum[2] = {0, 0};
    iq_found now = {0};
    uint32_t code[IQ_ENTRIES][IQ_LANES];
    fill(least, INFINITY);
    for (int k = 0; k <= around; k++) {
        int l[IQ_LANES];
        for (int lane = 0; lane < IQ_LANES; lane++) {
            int middle = nearest_l(s, d[lane] > 0 ? aim[lane] / d[lane] : 0),
                up = aim[lane] > d[lane] * odd_number(middle) ? 1 : -1;
            l[lane] = middle + (k == 0 ? 0 : k == 1 ? up : -up);
            l[lane] = l[lane] < 0 ? 0 : l[lane] > s->f->top ? s->f->top : l[lane];
            scale[lane] = d[lane] * odd_number(l[lane]);
        }
        s->choose(s->f, s->book, s->b, scale, cost, code);
        for (int lane = 0; lane < IQ_LANES; lane++)
            if (cost[lane] < least[lane]) {
                least[lane] = cost[lane];
                now.l[lane] = l[lane];
                for (int e = 0; e < IQ_ENTRIES; e++)
                    now.code[e][lane] = code[e][lane];
            }
    }
    for (int lane = 0; lane < IQ_LANES; lane++)
        sum[lane / s->lanes] += least[lane];
    for (int lane = 0; lane < IQ_LANES; lane++)
        if (sum[lane / s->lanes] < total[lane / s->lanes]) {
            found->d[lane] = d[lane];
            found->l[lane] = now.l[lane];
            for (int e = 0; e < IQ_ENTRIES; e++)
                found->code[e][lane] = now.code[e][lane];
        }
    for (int i = 0; i < 2; i++)
        total[i] = sum[i] < total[i] ? sum[i] : total[i];
}

/* The d of least squares for what was found. */
static float refit(const search *s, int first, const iq_found *found)
{
    float xq = 0, qq = 0, q[8];
    for (int lane = first; lane < first + s->lanes; lane++) {
        float l = odd_number(found->l[lane]);
        for (int eight = 0; eight < s->f->values / 8; eight++) {
            nb_iq_levels(s->f, found->code, lane, eight, q);
            if (must_turn(s->f, s->b, lane, eight)) {
                int turned = cheapest_turn(s->b, lane, eight, q);
                q[turned] = -q[turned];
            }
            for (int i = 0; i < 8; i++) {
                float wq = s->b->w[eight * 8 + i][lane] * q[i] * l;
                xq += wq * s->b->x[eight * 8 + i][lane];
                qq += wq * q[i] * l;
            }
        }
    }
    return xq > 0 && qq > 0 ? f16_of(xq / qq) : found->d[first];
}

static void search_scales(search *s, iq_found *found)
{
    float total[2] = {3e38f, 3e38f}, d[CANDIDATES][IQ_LANES], aim[IQ_LANES];
    find_ideal_scales(s);
    for (int first = 0; first < IQ_LANES; first += s->lanes) {
        float block[CANDIDATES];
        find_candidates(s, first, block);
        for (int k = 0; k < CANDIDATES; k++)
            for (int lane = first; lane < first + s->lanes; lane++)
                d[k][lane] = block[k];
    }
    for (int k = 0; k < CANDIDATES; k++)
        try_d(s, d[k], s->ideal, 1, total, found);
    for (int k = 0; k < REFITS; k++) {
        for (int first = 0; first < IQ_LANES; first += s->lanes) {
            float fit = refit(s, first, found);
            for (int lane = first; lane < first + s->lanes; lane++) {
                d[0][lane] = fit;
                aim[lane] = fit * odd_number(found->l[lane]);
            }
        }
        try_d(s, d[0], aim, 2, total, found);
    }
}

/* The plain formula: the largest magnitude of a super-block is the last level times the largest scale, that of a
 * sub-block the last level times the nearest one. */
static void take_scales(search *s, iq_found *found)
{
    float total[2] = {3e38f, 3e38f}, d[IQ_LANES];
    for (int first = 0; first < IQ_LANES; first += s->lanes) {
        float most = 0;
        for (int lane = first; lane < first + s->lanes; lane++) {
            s->ideal[lane] = s->most[lane] / s->f->level[s->f->levels - 1];
            most = s->ideal[lane] > most ? s->ideal[lane] : most;
        }
        for (int lane = first; lane < first + s->lanes; lane++)
            d[lane] = f16_of(most / odd_number(s->f->top));
    }
    try_d(s, d, s->ideal, 0, total, found);
}

void nb_iq_search(const iq_format *f, const iq_book *book, const iq_batch *b, nb_rounding rounding, iq_found *found)
{
    search s = {.f = f, .book = book, .b = b, .choose = nb_iq_choose(), .lanes = 256 / f->values};
    measure(&s);
    if (rounding == NB_ROUND_SEARCH)
        search_scales(&s, found);
    else
        take_scales(&s, found);
}
