#include "kernel/vec.h"

#include "base/cpu.h"
#include "kernel/vec_table.h"

static const nb_vec_table *const tables[NB_CPU_LEVELS] = {
    [NB_CPU_REF] = &nb_vec_table_ref,
#if defined(__x86_64__)
    [NB_CPU_AVX2] = &nb_vec_table_avx2,
    [NB_CPU_FMA] = &nb_vec_table_fma,
    [NB_CPU_AVX512] = &nb_vec_table_avx512,
    [NB_CPU_BF16] = &nb_vec_table_avx512,
#endif
};

#define NB_VEC(name, type, give, params, args)                                                                         \
    type nb_vec_##name params { give tables[nb_cpu_current()]->name args; }
#include "kernel/kernels.def"
#undef NB_VEC
