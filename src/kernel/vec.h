/* vec.h - the elementwise and reducing steps of a transformer, at the current instruction-set level. All are batch
 * invariant: a row's result depends on that row only. Float32 in, float32 out; in-place (y == x) is allowed. */
#ifndef NB_KERNEL_VEC_H
#define NB_KERNEL_VEC_H

#include <stddef.h>

/* y = x / sqrt(mean(x^2) + eps) * w   (Zhang & Sennrich 2019). w: [n]; NULL means ones. */
void nb_vec_rmsnorm(const float *x, const float *w, size_t n, float eps, float *y);
/* y = (x - mean) / sqrt(var + eps) * w + b. w, b: [n] or NULL. */
void nb_vec_layernorm(const float *x, const float *w, const float *b, size_t n, float eps, float *y);
/* y = silu(gate) * up; gelu_tanh(gate) * up (the tanh approximation); gelu_erf(gate) * up. up NULL: activation alone. */
void nb_vec_silu_mul(const float *gate, const float *up, size_t n, float *y);
void nb_vec_gelu_tanh_mul(const float *gate, const float *up, size_t n, float *y);
void nb_vec_gelu_erf_mul(const float *gate, const float *up, size_t n, float *y);
void nb_vec_relu_mul(const float *gate, const float *up, size_t n, float *y);
void nb_vec_relu2_mul(const float *gate, const float *up, size_t n, float *y); /* relu(gate)^2 * up (So et al. 2021) */
/* xIELU (Huang & Schlag 2024, section 3): p x^2 + b x above 0, else n (e^m - 1 - x) + b x with m = min(x, e); parameters
 * are p, n, b and e. */
void nb_vec_xielu(const float *x, const float parameters[4], size_t n, float *y);
/* y = (up + 1) gate sigmoid(1.702 gate), gate at most 7, up between -7 and 7 (gpt-oss). up NULL: zeros. */
void nb_vec_clamped_mul(const float *gate, const float *up, size_t n, float *y);
void nb_vec_add_scaled(const float *a, const float *b, float s, size_t n, float *y); /* y = a + s b */
void nb_vec_scale(const float *x, float s, size_t n, float *y);      /* y = s x */
void nb_vec_softcap(const float *x, float cap, size_t n, float *y);  /* y = cap tanh(x / cap) */
float nb_vec_dot(const float *a, const float *b, size_t n);
float nb_vec_max(const float *x, size_t n); /* -inf when n is 0 */
/* y = exp(x - shift); returns the sum of y */
float nb_vec_exp_sum(const float *x, float shift, size_t n, float *y);

/* Rotary embedding of one head vector in place: pairs (i, i + rot/2) when neox, else (2i, 2i + 1), for i < rot/2.
 * cos_sin: [rot/2][2], the cosine and sine of each pair's angle, scaled already. (Su et al. 2021) */
void nb_vec_rope(float *x, const float *cos_sin, size_t rot, int neox);

#endif
