/* adapt.h - LoRA adapters on a model: pairs are bound to the model's matrices before its plan is built, and the plan then
 * has three small ops behind each product of such a matrix. A backend sees ordinary weights. */
#ifndef NB_MODEL_ADAPT_H
#define NB_MODEL_ADAPT_H

#include "format/adapter.h"
#include "model/plan.h"

/* Binds every pair of the adapter, which must outlive the model. What a pair is for must be a matrix of the model, of its
 * shape; fused tensors take the pairs of their parts and the other way round. scale multiplies the adapter's own; with 0
 * everything is checked and nothing is computed. Call it before nb_plan_build, once for each adapter. */
nb_status nb_model_adapt(nb_model_def *m, const nb_adapter *a, float scale, nb_error *err);

/* ---- for plan.c ---- */
/* out += scale * b (a in) for all adapters of the product that was just emitted */
void nb_emit_adapted(nb_plan *p, const nb_model_def *m, const nb_op *product);
/* Every pair is in the plan. */
nb_status nb_plan_check_adapted(const nb_plan *p, const nb_model_def *m, nb_error *err);

#endif
