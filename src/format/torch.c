#include "format/checkpoint_parse.h"

nb_status nb_torch_parse(nb_checkpoint *c, const nb_checkpoint_file *f, nb_error *err)
{
    (void)c;
    return nb_fail_at(f->path, 0, err, NB_ERR_UNSUPPORTED, "this is a file of torch.save; save it as safetensors");
}
