/* cpu.h - the CPU backend: runs a plan on a team of threads. */
#ifndef NB_CPU_CPU_H
#define NB_CPU_CPU_H

#include "model/backend.h"

extern const nb_backend nb_backend_cpu;

#endif
