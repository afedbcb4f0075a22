/* pages.h - who holds which page of the cache. Pages are counted: a sequence holds those of its blocks of NB_PAGE tokens, and
 * a tree of prefixes holds those of blocks that are computed, so that what begins alike is computed once. What only the tree
 * holds is taken back when a page is needed: the longest unused first, ends before beginnings.
 *
 * A node is a block: its tokens behind those of its parents, its page of the global layers and, while it is kept, its page of
 * the window layers. A whole block's pages are shared. The beginning of a block, whole or not, is copied into a page of
 * one's own: an unfinished one may be written behind its tokens by the sequence that goes on there. One thread at a time. */
#ifndef NB_ENGINE_PAGES_H
#define NB_ENGINE_PAGES_H

#include "model/backend.h"

typedef struct nb_page_pool nb_page_pool;
#define NB_PAGE_NONE UINT32_MAX
#define NB_NODE_NONE UINT32_MAX

/* count[g]: pages of each group; 0: the model has no such layers. */
nb_status nb_page_pool_new(const size_t count[NB_GROUPS], nb_page_pool **out, nb_error *err);
void nb_page_pool_delete(nb_page_pool *p); /* NULL is fine */

/* A page, held once; NB_PAGE_NONE when sequences hold all. */
uint32_t nb_page_take(nb_page_pool *p, int group);
void nb_page_hold(nb_page_pool *p, int group, uint32_t page);
void nb_page_leave(nb_page_pool *p, int group, uint32_t page); /* NB_PAGE_NONE is passed over */
size_t nb_page_count(const nb_page_pool *p, int group);
size_t nb_page_unused(const nb_page_pool *p, int group); /* taken by nobody */
size_t nb_page_kept(const nb_page_pool *p, int group);   /* by the tree alone */

/* ---- prefixes ---- */

/* The block with these NB_PAGE tokens behind `parent` (NB_NODE_NONE: at the beginning of texts of that kind: texts of different
 * kinds share nothing). NB_NODE_NONE: unknown. */
uint32_t nb_prefix_find(const nb_page_pool *p, uint64_t kind, uint32_t parent, const int32_t *tokens);
/* Of the blocks behind `parent`, whole or not, the one that begins with the most of these tokens: *common of them, at least 1.
 * window: it has a window page. NB_NODE_NONE: there is none. */
uint32_t nb_prefix_near(const nb_page_pool *p, uint64_t kind, uint32_t parent, const int32_t *tokens, size_t count,
                        bool window, size_t *common);
/* Adds it (the tree holds the pages as well), or finds it and gives it a window page when it has none. The node is held.
 * count < NB_PAGE: an unfinished block, a leaf; NB_NODE_NONE: another block begins so already. */
uint32_t nb_prefix_add(nb_page_pool *p, uint64_t kind, uint32_t parent, const int32_t *tokens, size_t count,
                       const uint32_t page[NB_GROUPS]);
/* Forgets an unfinished block that the caller alone holds. */
void nb_prefix_drop(nb_page_pool *p, uint32_t node);
/* Its page; of a window group NB_PAGE_NONE when it was taken back. Looking makes it the youngest. */
uint32_t nb_prefix_page(nb_page_pool *p, uint32_t node, int group);
void nb_prefix_hold(nb_page_pool *p, uint32_t node);
void nb_prefix_leave(nb_page_pool *p, uint32_t node); /* NB_NODE_NONE is passed over */

#endif
