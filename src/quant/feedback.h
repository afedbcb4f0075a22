/* feedback.h - rounding with error feedback: what a column's rounding does to a matrix's outputs is made good by the columns
 * after it, as far as their inputs go together. Given the second moments H of a matrix's inputs, H = (U + 1) D (U + 1)^T with
 * U strictly upper triangular and D diagonal, and column k of the weights w is rounded to
 *     q_k = round(w_k + sum over i < k of (w_i - q_i) U[i][k]),
 * which has the least expected squared error of the outputs of all rules of this form; D weighs what is left of a column's
 * error. Sources: Frantar et al. 2023 (GPTQ), in the form of Chee et al. 2023 (QuIP, section 3: LDLQ). Scales are looked for
 * block by block, by the type's own search on the weights as they then are. */
#ifndef NB_QUANT_FEEDBACK_H
#define NB_QUANT_FEEDBACK_H

#include "base/team.h"
#include "quant/quant.h"

enum {
    NB_FEEDBACK_ROWS = 32,  /* rounded together, one a lane */
    NB_FEEDBACK_GRAIN = 32, /* columns come in multiples of it */
    NB_FEEDBACK_PANEL = 8   /* columns of U that lie side by side */
};

/* U and D of `columns` neighbouring columns. Panel p: rows 0 .. 8 p + 7 of columns 8 p .. 8 p + 7 of U. */
typedef struct nb_feedback {
    size_t columns;
    float *panels; /* [nb_feedback_panels(columns)], the caller's */
    float *weight; /* [columns]: D, the caller's */
} nb_feedback;

size_t nb_feedback_panels(size_t columns); /* floats */

/* Fills f from correlations (lower triangle, [columns][columns], destroyed) and root mean squares of the inputs. Moments are
 * estimates from a text: to the mean squares `floor` times their mean is added, then `damping` times each. All members of the
 * team call it. */
typedef struct nb_feedback_input {
    nb_feedback *f;
    float *correlations, *rms; /* rms: changed */
    float *panel;              /* room for NB_FEEDBACK_FACTOR * columns floats */
    float floor, damping;
} nb_feedback_input;
enum { NB_FEEDBACK_FACTOR = 64 };
void nb_feedback_make(const nb_feedback_input *in, nb_team *team, int member, int members);

/* Types of blocks whose values have codes of their own, or in eights, under the block's scales: all but those of one bit. */
bool nb_feedback_can(const nb_type_info *type);

/* Rounds `rows` <= NB_FEEDBACK_ROWS rows of f->columns finite values at x, x_stride floats apart, to blocks of such a type at dst,
 * dst_stride bytes apart. The columns are a multiple of the type's block. The bytes depend on neither level nor threads. */
size_t nb_feedback_scratch(size_t columns); /* bytes, aligned to 64 */
void nb_feedback_round(const nb_feedback *f, const nb_type_info *type, const float *x, size_t x_stride, size_t rows,
                       void *dst, size_t dst_stride, void *scratch);

#endif
