/* team.h - a fixed team of threads that runs one function at a time on all its members.
 *
 * The caller is member 0. Workers spin at most 50 us for the next region and then sleep; barriers inside
 * a region spin, then yield. One thread at a time may call nb_team_run on a team. */
#ifndef NB_BASE_TEAM_H
#define NB_BASE_TEAM_H

#include "base/status.h"

typedef struct nb_team nb_team;
typedef void nb_team_fn(void *context, int member, int members);

/* threads: 1..256, 0 = one for each processor. pin: bind member i to the i-th allowed processor (run and bench
 * do; a server does not). The caller's own thread is pinned too and stays so. */
nb_status nb_team_new(int threads, bool pin, nb_team **team, nb_error *err);
void nb_team_free(nb_team *team); /* NULL is fine */
int nb_team_size(const nb_team *team);

/* Runs fn(context, member, members) on every member and returns when all have. */
void nb_team_run(nb_team *team, nb_team_fn *fn, void *context);

/* Inside a region: waits until every member is here; what any wrote before is seen by all after. */
void nb_team_barrier(nb_team *team);

/* The share [*begin, *end) of `items` that falls to a member, in whole multiples of `grain` from 0. */
void nb_team_share(size_t items, size_t grain, int member, int members, size_t *begin, size_t *end);

#endif
