/* templates.h - what tests write into copies of tiny models (gguf_edit.h): templates that know tools and thinking, and a vocabulary with
 * tokens to fill in. */
#ifndef NB_TESTS_TEMPLATES_H
#define NB_TESTS_TEMPLATES_H

#include <stdlib.h>
#include <string.h>

#include "support/gguf_edit.h"

/* A template that shows tools and calls, as Qwen's does. */
static inline void put_tools_template(nb_gguf_writer *w, const void *user)
{
    (void)user;
    nb_gguf_put_str(w, "tokenizer.chat_template",
                    NB_STR("{% if tools %}T:{% for t in tools %}{{ t.function.name }} {% endfor %}\n{% endif %}"
                           "{% for m in messages %}[{{ m.role }}]{{ m.content or '' }}{% if m.tool_calls %}"
                           "{% for c in m.tool_calls %}<tool_call>\n{\"name\": \"{{ c.function.name }}\", "
                           "\"arguments\": {{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}{% endif %}\n"
                           "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"));
}

/* One that shows tools, and no tags around calls. */
static inline void put_bare_tools_template(nb_gguf_writer *w, const void *user)
{
    (void)user;
    nb_gguf_put_str(w, "tokenizer.chat_template",
                    NB_STR("{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}[{{ m.role }}]"
                           "{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}"
                           "{% endfor %}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"));
}

/* Replies of this one begin inside their thinking. */
static inline void put_thinking_template(nb_gguf_writer *w, const void *user)
{
    (void)user;
    nb_gguf_put_str(w, "tokenizer.chat_template",
                    NB_STR("{% for m in messages %}[{{ m.role }}]{% if m.reasoning_content %}<think>"
                           "{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{% endfor %}"
                           "{% if add_generation_prompt %}[assistant]<think>{% endif %}"));
}

/* The last three words of the vocabulary of the file `path` become tokens to fill in: Qwen's, or a file's own names with the
 * metadata that says which they are. */
static inline void put_infill_words(nb_gguf_writer *w, const char *path, bool by_name)
{
    static const char *const names[2][3] = {{"<prefix here>", "<suffix here>", "<middle here>"},
                                            {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}};
    static const char *const keys[] = {"tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.fim_suf_token_id",
                                       "tokenizer.ggml.fim_mid_token_id"};
    nb_gguf *g;
    if (nb_gguf_open(path, &g, NULL) != NB_OK)
        abort();
    const nb_gguf_value *v = nb_gguf_find(g, "tokenizer.ggml.tokens"),
                        *t = nb_gguf_find(g, "tokenizer.ggml.token_type");
    nb_str *words = calloc(v->count, sizeof *words);
    int32_t *types = calloc(v->count, sizeof *types);
    const unsigned char *p = v->data;
    if (!words || !types)
        abort();
    memcpy(types, t->data, v->count * sizeof *types);
    for (uint64_t i = 0, n; i < v->count; i++, p += 8 + n) {
        memcpy(&n, p, sizeof n);
        words[i] = (nb_str){(const char *)p + 8, (size_t)n};
    }
    for (size_t i = 0; i < 3; i++) {
        size_t id = v->count - 3 + i;
        words[id] = nb_str_of(names[by_name][i]);
        types[id] = 3; /* a control token */
        if (!by_name)
            nb_gguf_put_u32(w, keys[i], (uint32_t)id);
    }
    nb_gguf_put_strings(w, "tokenizer.ggml.tokens", words, v->count);
    nb_gguf_put_array(w, "tokenizer.ggml.token_type", NB_GGUF_I32, types, v->count);
    free(words);
    free(types);
    nb_gguf_close(g);
}

static inline void put_infill_by_name(nb_gguf_writer *w, const void *path) { put_infill_words(w, path, true); }
static inline void put_infill_by_key(nb_gguf_writer *w, const void *path) { put_infill_words(w, path, false); }

#endif
