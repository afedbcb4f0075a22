/* cpu.h - what this processor can do, decided once, and the instruction-set level the kernels use. */
#ifndef NB_BASE_CPU_H
#define NB_BASE_CPU_H

#include "base/status.h"

/* Each level includes those before it (on x86-64). The plain C level runs everywhere. */
typedef enum nb_cpu_level {
    NB_CPU_REF,    /* plain C */
    NB_CPU_AVX2,   /* AVX2 without FMA */
    NB_CPU_FMA,    /* AVX2 + FMA + F16C */
    NB_CPU_AVX512, /* AVX-512 F, BW, DQ, VL, VBMI, VNNI */
    NB_CPU_BF16,   /* and AVX512-BF16: as the level before, except where both factors of a product are bfloat16 */
    NB_CPU_LEVELS
} nb_cpu_level;

/* The best level this machine has, whatever the mask says. */
nb_cpu_level nb_cpu_best(void);

/* The level in use: nb_cpu_best(), lowered by NIBBLE_CPU=ref|avx2|fma|avx512|bf16 (read once), or by nb_cpu_set_level. */
nb_cpu_level nb_cpu_current(void);

/* For tests: from now on `level` (clamped to the best). Tables chosen earlier are not changed. */
void nb_cpu_set_level(nb_cpu_level level);

/* NB_ERR_ARGUMENT when NIBBLE_CPU holds a name that is not a level (the message lists them). */
nb_status nb_cpu_check_env(nb_error *err);

const char *nb_cpu_level_name(nb_cpu_level level); /* "ref", "avx2", "fma", "avx512", "bf16" */
const char *nb_cpu_model(void);                    /* the processor's own name, "unknown" if it has none */

int nb_cpu_count(void); /* processors this process was given */
void nb_cpu_pin(int i); /* binds the calling thread to the i-th of them (modulo their count) */

#endif
