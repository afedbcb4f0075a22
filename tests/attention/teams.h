/* teams.h - teams[1] of two members and teams[2] of three, for a group of tests; teams[0] is NULL: no team. */
#ifndef NB_TEST_TEAMS_H
#define NB_TEST_TEAMS_H

#include "base/team.h"

static nb_team *teams[3];

static inline int teams_new(void **state)
{
    (void)state;
    return nb_team_new(2, false, &teams[1], NULL) != NB_OK || nb_team_new(3, false, &teams[2], NULL) != NB_OK;
}

static inline int teams_free(void **state)
{
    (void)state;
    nb_team_free(teams[1]);
    nb_team_free(teams[2]);
    return 0;
}

#endif
