/* transfer_bar.h - what pull and push show of a transfer, on stderr: on a terminal a bar a blob with its rate and the time left, the
 * last one redrawn; else a plain line when a blob is there, and one every 5 s before. */
#ifndef NB_CLI_TRANSFER_BAR_H
#define NB_CLI_TRANSFER_BAR_H

#include "registry/registry.h"

typedef struct nb_transfer_bar nb_transfer_bar;

nb_transfer_bar *nb_transfer_bar_start(void); /* NULL: no memory; then a no-op */
/* An nb_transfer_fn: user is the bar. */
void nb_transfer_bar_tell(void *bar, const nb_transfer_event *event);
void nb_transfer_bar_end(nb_transfer_bar *bar); /* frees it */

/* One line without its end, in at most `width` columns (0: no bar, as long as it gets): "pulling a8cc1361f314:  67% ▕███   ▏ 6.2 GB/9.3 GB
 * 11 MB/s   4m28s". rate: bytes a second, 0: unknown. */
void nb_transfer_bar_line(const nb_transfer_event *event, double rate, int width, nb_buf *out);

#endif
