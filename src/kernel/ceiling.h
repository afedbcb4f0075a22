/* ceiling.h - what this machine can do at best, measured: so that every speed can be told as a fraction of it. */
#ifndef NB_KERNEL_CEILING_H
#define NB_KERNEL_CEILING_H

#include "base/team.h"

/* Operations a second (a multiply and an add are two) of all members together, from registers, at the best level of the
 * machine: 8-bit dot products; float32 fused multiply-adds. 0 where there is no such instruction. About 1 ms. */
double nb_ceiling_int8(nb_team *team);
double nb_ceiling_f32(nb_team *team);

/* Bytes a second of reading `bytes` bytes once, each member its share. */
double nb_ceiling_read(nb_team *team, const void *data, size_t bytes);

#endif
