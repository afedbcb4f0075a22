/* create_convert.c - what is no single GGUF file of the right types yet: written as one, by the code of `nibble convert` and
 * `nibble quantize`, into the store's own folder. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"
#include "convert/open.h"
#include "measure/budget.h"
#include "store/create_internal.h"

/* ---- what is wished for ---- */

static bool positive(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == 0 && *out > 0 && *out < 1e6;
}

nb_status nb_create_wish_read(const char *text, bool has_text, nb_create_wish *out, nb_error *err)
{
    *out = (nb_create_wish){.given = text && *text};
    if (!out->given || (out->mix = nb_mix_named(nb_str_of(text), &out->pure)))
        return NB_OK;
    bool good = strncmp(text, "bpw=", 4) == 0    ? positive(text + 4, &out->bits)
                : strncmp(text, "kld=", 4) == 0  ? positive(text + 4, &out->divergence)
                : strncmp(text, "size=", 5) == 0 ? nb_parse_bytes(text + 5, &out->bytes)
                                                 : nb_parse_bytes(text, &out->bytes);
    if (!good)
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "'%.60s' is nothing to quantize to; give a type such as Q4_K_M, a size such as 300M, bits a "
                       "weight as bpw=4.5, or a divergence as kld=0.05 with a text",
                       text);
    if (out->divergence > 0 && !has_text)
        return nb_fail(err, NB_ERR_ARGUMENT, "%s needs the text to measure on", text);
    return NB_OK;
}

/* ---- choosing types ---- */

typedef struct told {
    const nb_creation *c;
    char what[160];
    nb_error *err;
} told;

static int on_budget(void *user, const char *what, size_t done, size_t all)
{
    told *t = user;
    return nb_creation_tell(t->c, what, done, all, t->err) != NB_OK;
}

static nb_status choose(nb_creation *c, const nb_source *s, const char *path, nb_quantize_params *p,
                        const nb_type_info **types, nb_error *err)
{
    nb_budget_result result;
    told t = {.c = c, .err = err};
    nb_budget_params budget = {.in = path,
                               .quantize = p,
                               .bytes = c->wish.bytes,
                               .bits = c->wish.bits,
                               .divergence = c->wish.divergence,
                               .text = c->p->text,
                               .model = nb_model_defaults(),
                               .session = nb_session_defaults(),
                               .progress = on_budget,
                               .user = &t};
    budget.model.threads = p->threads;
    NB_TRY(nb_budget_types(s, &budget, types, &result, err));
    p->mix = NULL;
    p->types = types;
    if (c->wish.divergence > 0)
        return nb_creation_say(c, err, "chosen types have a KL divergence of %.4g (%.4g on text that was held back)",
                               result.divergence, result.held_back);
    return NB_OK;
}

/* ---- writing ---- */

static int on_quantize(void *user, nb_str tensor, uint64_t done, uint64_t all)
{
    told *t = user;
    (void)tensor;
    return nb_creation_tell(t->c, t->what, done, all, t->err) != NB_OK;
}

static nb_status describe(nb_creation *c, const nb_source *s, told *t)
{
    nb_facts f;
    nb_arena arena = {0};
    nb_status status = nb_facts_read(s, &arena, &f, t->err);
    if (status == NB_OK && !c->wish.given)
        snprintf(t->what, sizeof t->what, "converting model");
    else if (status == NB_OK)
        snprintf(t->what, sizeof t->what, "quantizing %s model to %s", f.quantization,
                 c->wish.mix ? nb_mix_name(c->wish.mix) : c->p->quantize);
    nb_arena_free(&arena);
    return status;
}

/* Ends in ".gguf": where the names of shards would come from. */
static nb_status scratch_file(nb_creation *c, nb_buf *path, nb_error *err)
{
    NB_TRY(nb_store_scratch(c->store, path, err));
    nb_buf_z(path, ".gguf");
    return path->failed ? nb_fail_memory(err, "a path in the model store", path->len) : NB_OK;
}

static nb_status write_file(nb_creation *c, const nb_source *s, const char *path, const nb_mix *mix, const char *out,
                            nb_error *err)
{
    told t = {.c = c, .err = err};
    nb_quantize_result result;
    nb_quantize_params p = c->p->options ? *c->p->options : nb_quantize_defaults();
    const nb_type_info **types = calloc(s->tensor_count + 1, sizeof *types);
    p.mix = mix;
    p.types = NULL;
    p.pure |= c->wish.pure;
    p.keep_split = false;
    p.split_bytes = 0;
    p.dry_run = false;
    nb_status status = types ? describe(c, s, &t) : nb_fail_memory(err, path, s->tensor_count * sizeof *types);
    if (status == NB_OK)
        status = nb_creation_say(c, err, "%s", t.what);
    if (status == NB_OK && c->wish.given && !c->wish.mix)
        status = choose(c, s, path, &p, types, err);
    if (status == NB_OK)
        status = nb_quantize(s, out, &p, on_quantize, &t, &result, err);
    free(types);
    return status;
}

nb_status nb_creation_convert(nb_creation *c, const char *path, nb_layer *layer, nb_error *err)
{
    nb_source *s;
    nb_buf out = {0};
    nb_write_source how = {.keep_types = !c->wish.given, .threads = c->p->options ? c->p->options->threads : 0};
    NB_TRY(nb_source_open_to_write(path, &how, &s, err));
    const nb_mix *mix = c->wish.given ? c->wish.mix : how.mix ? how.mix : nb_mix_by_name(NB_STR("COPY"));
    nb_status status = scratch_file(c, &out, err);
    if (status == NB_OK)
        status = write_file(c, s, path, mix, out.data, err);
    nb_source_free(s);
    if (status == NB_OK)
        status = nb_blob_adopt(c->store, out.data, NB_STR(""), NB_MEDIA("model"), &c->arena, layer, nb_creation_hashed,
                               c, err);
    if (status != NB_OK && out.len)
        unlink(out.data);
    nb_buf_free(&out);
    return status;
}
