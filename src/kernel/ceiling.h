/* ceiling.h - what this machine can do at best, measured: so that every speed can be told as a fraction of it. */
#ifndef NB_KERNEL_CEILING_H
#define NB_KERNEL_CEILING_H

#include "base/cpu.h"
#include "base/team.h"

/* Operations a second (a multiply and an add are two) of all members together, from registers, with what `level` and
 * this machine have: dot products of 8 bits and of bfloat16 (0 where there is no instruction for them); float32
 * multiply-adds. The best of five runs, 1 ms together. */
double nb_ceiling_int8(nb_team *team, nb_cpu_level level);
double nb_ceiling_bf16(nb_team *team, nb_cpu_level level);
double nb_ceiling_f32(nb_team *team, nb_cpu_level level);

/* Bytes a second of reading `bytes` bytes, each member its share, `passes` times. */
double nb_ceiling_read(nb_team *team, const void *data, size_t bytes, int passes);

#endif
