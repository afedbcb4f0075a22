/* style.h - the colors and the look of figures as CSS, for light pages, dark ones and paper: in a page (page.h) or in a sheet
 * (sheet.h). */
#ifndef NB_DRAW_STYLE_H
#define NB_DRAW_STYLE_H

#include "base/mem.h"

void nb_style_put(nb_buf *out); /* what stands in a <style> */

#endif
