#include "engine/embed_prompt.h"

#include "base/mem.h"
#include "format/embedding_keys.h"

static nb_status unknown(const nb_gguf *g, nb_str name, const nb_str *names, size_t count, nb_error *err)
{
    nb_buf known = {0};
    for (size_t i = 0; i < count; i++)
        nb_buf_printf(&known, "%s%.*s", i ? ", " : "", NB_STR_ARG(names[i]));
    if (count)
        nb_fail(err, NB_ERR_ARGUMENT, "%s: has no prompt \"%.*s\"; it has %s", nb_gguf_path(g), NB_STR_ARG(name),
                known.data ? known.data : "");
    else
        nb_fail(err, NB_ERR_ARGUMENT, "%s: has no prompt \"%.*s\", nor any other", nb_gguf_path(g), NB_STR_ARG(name));
    nb_buf_free(&known);
    return NB_ERR_ARGUMENT;
}

static nb_status find(const nb_gguf *g, nb_str name, nb_arena *arena, nb_str *prompt, nb_error *err)
{
    nb_str *names = NULL, *texts = NULL;
    size_t count = 0, others = 0;
    if (nb_gguf_find(g, NB_EMBEDDING_PROMPT_NAMES)) {
        NB_TRY(nb_gguf_get_strings(g, NB_EMBEDDING_PROMPT_NAMES, arena, &names, &count, err));
        NB_TRY(nb_gguf_get_strings(g, NB_EMBEDDING_PROMPTS, arena, &texts, &others, err));
    }
    if (count != others)
        return nb_fail(err, NB_ERR_FORMAT, "%s: %s and %s differ in length", nb_gguf_path(g), NB_EMBEDDING_PROMPT_NAMES,
                       NB_EMBEDDING_PROMPTS);
    for (size_t i = 0; i < count; i++)
        if (nb_str_eq(names[i], name)) {
            *prompt = texts[i];
            return NB_OK;
        }
    return unknown(g, name, names, count, err);
}

nb_status nb_embed_prompt(const nb_gguf *g, const char *name, nb_str *prompt, nb_error *err)
{
    nb_arena arena = {0};
    nb_str wanted = nb_str_of(name ? name : "");
    *prompt = NB_STR("");
    if (!name && nb_gguf_find(g, NB_EMBEDDING_DEFAULT_PROMPT))
        NB_TRY(nb_gguf_get_str(g, NB_EMBEDDING_DEFAULT_PROMPT, &wanted, err));
    if (wanted.n == 0)
        return NB_OK;
    nb_status status = find(g, wanted, &arena, prompt, err);
    nb_arena_free(&arena);
    return status;
}
