/* The factors of second moments that feedback.h rounds by: a blocked Cholesky factorization from the last column to the first,
 * whose rows a team of threads shares. */
#include <math.h>

#include "quant/feedback_table.h"

enum { NB = NB_FEEDBACK_FACTOR, LEAST_PIVOT_BITS = 20 };

size_t nb_feedback_panels(size_t columns)
{
    size_t panels = columns / NB_FEEDBACK_PANEL;
    return (size_t)(NB_FEEDBACK_PANEL * NB_FEEDBACK_PANEL) * (panels * (panels + 1) / 2);
}

/* What is left of a column that others explain wholly is rounding error: it is never less than this part. */
static float pivot(float x) { return fmaxf(x, 1.0f / (1 << LEAST_PIVOT_BITS)); }

/* mean squares with damping, and correlations to them: c[i][j] s_i s_j stays the moment */
static void damp(const nb_feedback_input *in, int member, int members, nb_team *team)
{
    size_t n = in->f->columns;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)in->rms[i] * (double)in->rms[i];
    float more = sum > 0 ? in->floor * (float)(sum / (double)n) : 1;
    for (size_t i = 0; member == 0 && i < n; i++)
        in->panel[i] = in->rms[i] / sqrtf(in->rms[i] * in->rms[i] + more);
    nb_team_barrier(team);
    for (size_t i = (size_t)member; i < n; i += (size_t)members) {
        float *row = in->correlations + i * n;
        for (size_t j = 0; j < i; j++)
            row[j] *= in->panel[i] * in->panel[j];
        row[i] = 1 + in->damping;
    }
    nb_team_barrier(team);
    for (size_t i = 0; member == 0 && i < n; i++)
        in->rms[i] = sqrtf(in->rms[i] * in->rms[i] + more);
}

/* Rows [low, high) of the factor, within their own columns. */
static void factor_corner(float *c, size_t n, size_t low, size_t high)
{
    for (size_t k = high; k-- > low;) {
        float *row = c + k * n;
        for (size_t r = k + 1; r < high; r++)
            for (size_t i = low; i <= k; i++)
                row[i] -= c[r * n + k] * c[r * n + i];
        float root = sqrtf(pivot(row[k]));
        for (size_t i = low; i < k; i++)
            row[i] /= root;
        row[k] = root;
    }
}

/* The same rows in columns [begin, end) before the corner, and their negatives. */
static void factor_rows(const nb_feedback_input *in, size_t low, size_t high, size_t begin, size_t end)
{
    size_t n = in->f->columns;
    for (size_t k = high; k-- > low;) {
        float *row = in->correlations + k * n, inverse = 1 / row[k];
        for (size_t r = k + 1; r < high; r++) {
            const float *done = in->correlations + r * n;
            float factor = done[k];
            for (size_t i = begin; i < end; i++)
                row[i] -= factor * done[i];
        }
        for (size_t i = begin; i < end; i++) {
            row[i] *= inverse;
            in->panel[(k - low) * n + i] = -row[i];
        }
    }
}

/* What those rows take from the rows before them; a little beyond the diagonal is written, too. */
static void update(const nb_feedback_input *in, nb_outer_fn *outer, size_t low, size_t high, int member, int members)
{
    size_t n = in->f->columns;
    for (size_t j = (size_t)member * NB_FEEDBACK_PANEL; j < low; j += (size_t)members * NB_FEEDBACK_PANEL)
        for (size_t i = 0; i < j + NB_FEEDBACK_PANEL; i += NB_FEEDBACK_ROWS)
            outer(in->panel + j, n, in->correlations + low * n + i, n, high - low, in->correlations + j * n + i, n);
}

/* U's panels from the factor's rows S: U[i][k] = S[k][i] s_i / (S[k][k] s_k). */
static void pack(const nb_feedback_input *in, int member, int members)
{
    size_t n = in->f->columns;
    for (size_t p = (size_t)member; p < n / NB_FEEDBACK_PANEL; p += (size_t)members) {
        float *panel = in->f->panels + nb_feedback_panels(p * NB_FEEDBACK_PANEL);
        for (size_t j = 0; j < NB_FEEDBACK_PANEL; j++) {
            size_t k = p * NB_FEEDBACK_PANEL + j;
            const float *row = in->correlations + k * n;
            float unit = 1 / (row[k] * in->rms[k]), left = row[k] * in->rms[k];
            for (size_t i = 0; i < (p + 1) * NB_FEEDBACK_PANEL; i++)
                panel[i * NB_FEEDBACK_PANEL + j] = i < k ? row[i] * in->rms[i] * unit : 0;
            in->f->weight[k] = left * left;
        }
    }
}

void nb_feedback_make(const nb_feedback_input *in, nb_team *team, int member, int members)
{
    nb_outer_fn *outer = nb_feedback_level()->outer;
    size_t n = in->f->columns;
    damp(in, member, members, team);
    nb_team_barrier(team);
    for (size_t high = n, low; high > 0; high = low) {
        size_t begin, end;
        low = (high - 1) / NB * NB;
        if (member == 0)
            factor_corner(in->correlations, n, low, high);
        nb_team_barrier(team);
        nb_team_share(low, 16, member, members, &begin, &end);
        factor_rows(in, low, high, begin, end);
        nb_team_barrier(team);
        update(in, outer, low, high, member, members);
        nb_team_barrier(team);
    }
    pack(in, member, members);
    nb_team_barrier(team);
}
