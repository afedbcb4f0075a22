/* routes.h - the functions of routes.def. */
#ifndef NB_SERVER_ROUTES_H
#define NB_SERVER_ROUTES_H

#include "server/http.h"

#define ROUTE(method, path, flavor, function) nb_route_fn function;
#include "server/routes.def"
#undef ROUTE

#endif
