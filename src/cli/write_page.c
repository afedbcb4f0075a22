#include "base/file.h"
#include "cli/cli.h"

nb_status nb_write_page(const char *path, const nb_buf *page, nb_error *err)
{
    nb_writer *w;
    if (page->failed)
        return nb_fail_memory(err, "the page", page->len);
    NB_TRY(nb_writer_open(path, &w, err));
    nb_status status = nb_writer_write(w, page->data, page->len, err);
    if (status != NB_OK) {
        nb_writer_abort(w);
        return status;
    }
    return nb_writer_commit(w, err);
}
