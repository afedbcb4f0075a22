/* Go templates of any source: refused, or rendered as a Modelfile's and over plain data; either way within limits. */
#include <stdlib.h>

#include "text/gotemplate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(nb_status status, const nb_error *err, nb_buf *out)
{
    if (status == NB_ERR_INTERNAL || (status != NB_OK && (!err->message[0] || out->len)))
        abort();
    nb_buf_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const nb_chat_message messages[] = {
        {NB_STR("system"), NB_STR("Be brief."), {0}},
        {NB_STR("user"), NB_STR("Hi <b> \xC3\xA9 \xF0\x9F\xA6\x99\n"), {0}},
        {NB_STR("assistant"), NB_STR(""),
         NB_STR("{\"thinking\":\"hm\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}}]}")},
        {NB_STR("tool"), NB_STR("\xFF not UTF-8"), {0}}};
    const nb_gotemplate_input input = {
        .messages = messages,
        .count = 4,
        .tools = NB_STR("[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\","
                        "\"properties\":{\"x\":{\"type\":[\"number\",\"null\"],\"enum\":[1]}}}}}]"),
        .now = 1753000000};
    const nb_str values = NB_STR("{\"a\":\"text\",\"n\":3.5,\"l\":[3,null,[true]],\"m\":{\"x\":{\"y\":1}}}");
    nb_gotemplate *t;
    nb_error err = {0};
    nb_str open, close;
    nb_buf out = {0};
    if (nb_gotemplate_compile((nb_str){(const char *)data, size}, &t, &err) != NB_OK)
        return t == NULL && err.code != NB_OK && err.message[0] ? 0 : (abort(), 0);
    if (nb_gotemplate_tool_prefix(t).n == 0)
        abort();
    nb_gotemplate_thinking_tags(t, &open, &close);
    err = (nb_error){0};
    nb_status status = nb_gotemplate_render(t, &input, &out, &err);
    check(status, &err, &out);
    err = (nb_error){0};
    out = (nb_buf){0};
    status = nb_gotemplate_render_data(t, values, 0, &out, &err);
    check(status, &err, &out);
    nb_gotemplate_free(t);
    return 0;
}
