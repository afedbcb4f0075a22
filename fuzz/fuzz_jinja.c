/* The template interpreter on any source: it refuses it, or it renders it; either way within its limits. */
#include <stdlib.h>

#include "text/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const nb_chat_message messages[] = {
        {NB_STR("system"), NB_STR("Be brief."), {0}},
        {NB_STR("user"), NB_STR("Hi <b> \xC3\xA9 \xF0\x9F\xA6\x99\n"), {0}},
        {NB_STR("assistant"), NB_STR(""),
         NB_STR("{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}}]}")},
        {NB_STR("tool"), NB_STR("\xFF not UTF-8"), {0}}};
    const nb_chat_input input = {.messages = messages,
                                 .count = 4,
                                 .add_generation_prompt = true,
                                 .now = 1753000000,
                                 .bos_token = NB_STR("<s>"),
                                 .eos_token = NB_STR("</s>"),
                                 .tools = NB_STR("[{\"name\":\"f\",\"n\":[1,2.5,null,true]}]"),
                                 .variables = NB_STR("{\"s\":\"text\",\"n\":3,\"l\":[3,1,2],\"d\":{\"a\":1}}")};
    nb_template *t;
    nb_error err = {0};
    nb_buf out = {0};
    if (nb_template_compile((nb_str){(const char *)data, size}, &t, &err) != NB_OK)
        return t == NULL && err.code != NB_OK && err.message[0] ? 0 : (abort(), 0);
    nb_status status = nb_template_render(t, &input, &out, &err);
    if (status == NB_ERR_INTERNAL || (status != NB_OK && (!err.message[0] || out.len)))
        abort();
    nb_buf_free(&out);
    nb_template_free(t);
    return 0;
}
