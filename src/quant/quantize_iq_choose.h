/* quantize_iq_choose.h - the body of nb_iq_choose_*: include with CHOOSE defined as its name. */
#include "quant/quant_lanes.h"
#include "quant/quantize_iq.h"

enum { TAG = 127 }; /* the low bits of a cost that say which half it is of: 2^-16 of the cost */

/* Costs of what half an entry can be; flipped: with exactly one sign turned, the cheapest one. */
typedef struct halves {
    qv plain[IQ_HALVES], flipped[IQ_HALVES];
} halves;

/* the best entry: its cost and code (as bits of a float) */
typedef struct best {
    qv cost, code;
} best;

QV_INLINE void value_costs(const float *x, const float *w, qv s, const float *level, int n, bool flips, qv *plain,
                           qv *flipped)
{
    qv vx = qv_load(x), vw = qv_load(w);
    for (int l = 0; l < n; l++) {
        qv q = s * qv_set(level[l]), e = vx - q;
        plain[l] = vw * e * e;
        if (flips) {
            e = vx + q;
            flipped[l] = vw * e * e;
        }
    }
}

/* the bits of mask, and those of code */
QV_INLINE qv tag(qv cost, int32_t mask, int32_t code) { return (qv)(((qi)cost & mask) | code); }

/* costs of two things together: all combinations, the first counting least */
QV_INLINE void combine(const qv *a, const qv *a_flipped, const qv *b, const qv *b_flipped, int n, bool flips, qv *plain,
                       qv *flipped)
{
    for (int j = 0; j < n; j++)
        for (int i = 0; i < n; i++) {
            plain[j * n + i] = a[i] + b[j];
            if (flips)
                flipped[j * n + i] = qv_min(a_flipped[i] + b[j], a[i] + b_flipped[j]);
        }
}

QV_INLINE void half_costs(const float (*x)[IQ_LANES], const float (*w)[IQ_LANES], qv s, const float *level, int levels,
                          bool flips, bool tagged, halves *h)
{
    qv one[4][8], one_flipped[4][8], two[2][9], two_flipped[2][9];
    int n = levels == 3 ? 81 : 64;
    for (int i = 0; i < (levels == 3 ? 4 : 2); i++)
        value_costs(x[i], w[i], s, level, levels, flips, one[i], one_flipped[i]);
    if (levels == 3) {
        for (int i = 0; i < 2; i++)
            combine(one[2 * i], one_flipped[2 * i], one[2 * i + 1], one_flipped[2 * i + 1], 3, flips, two[i],
                    two_flipped[i]);
        combine(two[0], two_flipped[0], two[1], two_flipped[1], 9, flips, h->plain, h->flipped);
    } else {
        combine(one[0], one_flipped[0], one[1], one_flipped[1], 8, flips, h->plain, h->flipped);
    }
    for (int i = 0; tagged && i < n; i++) {
        h->plain[i] = tag(h->plain[i], ~TAG, i);
        if (flips)
            h->flipped[i] = tag(h->flipped[i], ~TAG, i);
    }
}

QV_INLINE void take(best *b, qv cost, qv low, int high)
{
    qi better = (qi)(cost < b->cost);
    b->code = qv_select(better, tag(low, TAG, high << 7), b->code);
    b->cost = qv_min(cost, b->cost);
}

/* The least of a run's low halves. Two chains: a minimum waits two cycles for the one before. */
QV_INLINE void run_least(const iq_book *book, int run, const qv *low, qv *least)
{
    const uint8_t *k = book->low + book->start[run], *end = book->low + book->start[run + 1];
    qv a = low[*k], b = a;
    for (k += (end - k) % 2; k < end; k += 2) {
        a = qv_min(a, low[k[0]]);
        b = qv_min(b, low[k[1]]);
    }
    *least = qv_min(a, b);
}

QV_INLINE void scan(const iq_book *book, const halves *low, const halves *high, bool flips, best *plain, best *flipped)
{
    plain->cost = flipped->cost = qv_set(3e38f);
    plain->code = flipped->code = qv_set(0);
    for (int r = 0; r < book->runs; r++) {
        int h = book->high[r];
        qv u, v;
        run_least(book, r, low->plain, &u);
        if (flips)
            run_least(book, r, low->flipped, &v);
        take(plain, high->plain[h] + u, u, h);
        if (flips) {
            qv in_high = high->flipped[h] + u, in_low = high->plain[h] + v;
            qi m = (qi)(in_high < in_low);
            take(flipped, qv_min(in_high, in_low), qv_select(m, u, v), h);
        }
    }
}

QV_INLINE void entry(const iq_book *book, const iq_batch *b, int at, int levels, const float *level, qv s, bool flips,
                     best *plain, best *flipped)
{
    halves low, high;
    int half = levels == 3 ? 4 : 2;
    const float(*x)[IQ_LANES] = b->x + at;
    const float(*w)[IQ_LANES] = b->w + at;
    half_costs(x, w, s, level, levels, flips, true, &low);
    half_costs(x + half, w + half, s, level, levels, flips, false, &high);
    scan(book, &low, &high, flips, plain, flipped);
}

QV_INLINE void put_code(uint32_t *to, qv code) { memcpy(to, &code, sizeof code); }

QV_INLINE qv choose_free(const iq_format *f, const iq_book *book, const iq_batch *b, qv s, int levels,
                         uint32_t (*code)[IQ_LANES])
{
    int size = levels == 3 ? 8 : 4;
    qv sum = qv_set(0);
    for (int e = 0; e < f->values / size; e++) {
        best p, unused;
        entry(book, b, e * size, levels, f->level, s, false, &p, &unused);
        sum += p.cost;
        put_code(code[e], p.code);
    }
    return sum;
}

QV_INLINE qv choose_even_3(const iq_format *f, const iq_book *book, const iq_batch *b, qv s, uint32_t (*code)[IQ_LANES])
{
    qv sum = qv_set(0);
    for (int e = 0; e < f->values / 8; e++) {
        best p, q;
        entry(book, b, e * 8, 3, f->level, s, true, &p, &q);
        qi odd = (qi)(qv_load(b->odd[e]) > 0);
        sum += qv_select(odd, q.cost, p.cost);
        put_code(code[e], qv_select(odd, q.code, p.code));
    }
    return sum;
}

/* two entries share the eight signs: the turned one is in the first or in the second */
QV_INLINE qv choose_even_8(const iq_format *f, const iq_book *book, const iq_batch *b, qv s, uint32_t (*code)[IQ_LANES])
{
    qv sum = qv_set(0);
    for (int e = 0; e < f->values / 4; e += 2) {
        best p[2], q[2];
        for (int i = 0; i < 2; i++)
            entry(book, b, (e + i) * 4, 8, f->level, s, true, &p[i], &q[i]);
        qi odd = (qi)(qv_load(b->odd[e / 2]) > 0);
        qv first = q[0].cost + p[1].cost, second = p[0].cost + q[1].cost;
        qi in_first = (qi)(first < second);
        sum += qv_select(odd, qv_min(first, second), p[0].cost + p[1].cost);
        put_code(code[e], qv_select(odd, qv_select(in_first, q[0].code, p[0].code), p[0].code));
        put_code(code[e + 1], qv_select(odd, qv_select(in_first, p[1].code, q[1].code), p[1].code));
    }
    return sum;
}

QV_INLINE qv choose_signed(const iq_format *f, const iq_book *book, const iq_batch *b, qv s, uint32_t (*code)[IQ_LANES])
{
    float up[3], down[3];
    for (int i = 0; i < 3; i++) {
        up[i] = f->level[i] + 0.125f;
        down[i] = f->level[i] - 0.125f;
    }
    qv sum[2] = {qv_set(0), qv_set(0)}, least = qv_set(0), codes[IQ_ENTRIES][2];
    for (int e = 0; e < f->values / 8; e++) {
        best p[2], unused;
        for (int i = 0; i < 2; i++) {
            entry(book, b, e * 8, 3, i ? down : up, s, false, &p[i], &unused);
            sum[i] += p[i].cost;
            codes[e][i] = i ? tag(p[i].code, -1, IQ_CODE_DOWN) : p[i].code;
        }
        least += qv_min(p[0].cost, p[1].cost);
        put_code(code[e], qv_select((qi)(p[1].cost < p[0].cost), codes[e][1], codes[e][0]));
    }
    if (f->signs == IQ_SIGNS_IN_ENTRY_8)
        return least;
    qi is_down = (qi)(sum[1] < sum[0]);
    for (int e = 0; e < f->values / 8; e++)
        put_code(code[e], qv_select(is_down, codes[e][1], codes[e][0]));
    return qv_min(sum[0], sum[1]);
}

void CHOOSE(const iq_format *f, const iq_book *book, const iq_batch *b, const float scale[IQ_LANES],
            float cost[IQ_LANES], uint32_t code[IQ_ENTRIES][IQ_LANES])
{
    qv s = qv_load(scale), sum;
    if (f->signs == IQ_SIGNS_EVEN)
        sum = f->levels == 3 ? choose_even_3(f, book, b, s, code) : choose_even_8(f, book, b, s, code);
    else if (f->signs == IQ_SIGNS_FREE)
        sum = f->levels == 3 ? choose_free(f, book, b, s, 3, code) : choose_free(f, book, b, s, 8, code);
    else
        sum = choose_signed(f, book, b, s, code);
    qv_store(cost, sum);
}
