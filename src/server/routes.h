/* routes.h - the functions of routes.def. */
#ifndef NB_SERVER_ROUTES_H
#define NB_SERVER_ROUTES_H

#include "server/http.h"

#define ROUTE(method, path, flavor, function) nb_route_fn function;
#define ROUTE_TAKES(method, path, flavor, function, take)                                                              \
    nb_route_fn function;                                                                                              \
    nb_take_fn take;
#include "server/routes.def"
#undef ROUTE
#undef ROUTE_TAKES

#endif
