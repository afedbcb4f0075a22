/* page.h - one HTML page that holds everything it shows: no scripts, no network. Light, dark (as the reader's system says)
 * and paper. Everything is appended to a buffer. */
#ifndef NB_DRAW_PAGE_H
#define NB_DRAW_PAGE_H

#include "draw/svg.h"

void nb_page_begin(nb_buf *out, const char *title);
void nb_page_end(nb_buf *out);

void nb_page_section(nb_buf *out, const char *title); /* begins one; the one before ends */
void nb_page_paragraph(nb_buf *out, const char *format, ...) NB_PRINTF(2, 3);
void nb_page_code(nb_buf *out, nb_str text);

/* What comes between is one figure, never split between two pages of paper. */
void nb_page_figure_begin(nb_buf *out);
void nb_page_figure_end(nb_buf *out, const char *format, ...) NB_PRINTF(2, 3); /* the caption */

/* Tables: a cell is text; those of a numeric column stand on the right. */
void nb_page_table_begin(nb_buf *out, const char *const *heads, size_t count);
void nb_page_row_begin(nb_buf *out);
void nb_page_cell(nb_buf *out, const char *format, ...) NB_PRINTF(2, 3);
void nb_page_number(nb_buf *out, const char *format, ...) NB_PRINTF(2, 3);
void nb_page_row_end(nb_buf *out);
void nb_page_table_end(nb_buf *out);

#endif
