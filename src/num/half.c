#include "num/half_rows.h"

#include "base/cpu.h"

NB_HALF_LOOP(nb_f16_to_f32_row, ref, nb_f16_to_f32, uint16_t, float)
NB_HALF_LOOP(nb_f32_to_f16_row, ref, nb_f32_to_f16, float, uint16_t)
NB_HALF_LOOP(nb_bf16_to_f32_row, ref, nb_bf16_to_f32, uint16_t, float)
NB_HALF_LOOP(nb_f32_to_bf16_row, ref, nb_f32_to_bf16, float, uint16_t)

#ifdef __x86_64__
#define BY_LEVEL(name)                                                                                                 \
    (nb_cpu_current() >= NB_CPU_AVX512 ? name##_avx512 : nb_cpu_current() >= NB_CPU_FMA ? name##_fma : name##_ref)
#else
#define BY_LEVEL(name) name##_ref
#endif

void nb_f16_to_f32_row(const uint16_t *src, float *dst, size_t n) { BY_LEVEL(nb_f16_to_f32_row)(src, dst, n); }
void nb_f32_to_f16_row(const float *src, uint16_t *dst, size_t n) { BY_LEVEL(nb_f32_to_f16_row)(src, dst, n); }
void nb_bf16_to_f32_row(const uint16_t *src, float *dst, size_t n) { BY_LEVEL(nb_bf16_to_f32_row)(src, dst, n); }
void nb_f32_to_bf16_row(const float *src, uint16_t *dst, size_t n) { BY_LEVEL(nb_f32_to_bf16_row)(src, dst, n); }
