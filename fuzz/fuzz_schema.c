/* JSON schemas: refused, or a grammar whose replies, drawn byte by byte from what it allows, are JSON. */
#include <jansson.h>
#include <stdlib.h>

#include "text/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const nb_buf *reply)
{
    json_error_t error;
    json_t *v = json_loadb(reply->data, reply->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    enum json_error_code code = v ? json_error_unknown : json_error_code(&error);
    /* jansson holds fewer numbers, names and depths than JSON has */
    if (!v && code != json_error_numeric_overflow && code != json_error_null_byte_in_key &&
        code != json_error_stack_overflow)
        abort();
    json_decref(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_grammar *g;
    nb_grammar_cache *c = NULL;
    nb_grammar_state *s = NULL;
    nb_error err = {0};
    nb_buf reply = {0};
    uint32_t seed = 12345;
    if (nb_grammar_from_schema((nb_str){(const char *)data, size}, size % 2, &g, &err) != NB_OK)
        return g == NULL && err.code != NB_OK && err.code != NB_ERR_INTERNAL && err.message[0] ? 0 : (abort(), 0);
    if (nb_grammar_cache_new(g, NULL, &c, &err) == NB_OK && nb_grammar_state_new(c, &s, &err) == NB_OK) {
        for (int misses = 0; misses < 300 && reply.len < 300 && !nb_grammar_can_end(s);) {
            char byte = (char)((seed = seed * 1664525 + 1013904223) >> 24);
            bool taken = nb_grammar_accept_bytes(s, (nb_str){&byte, 1}, &err) == NB_OK;
            misses = taken ? 0 : misses + 1;
            if (taken)
                nb_buf_char(&reply, byte);
        }
        if (nb_grammar_can_end(s))
            check(&reply);
    }
    nb_buf_free(&reply);
    nb_grammar_state_free(s);
    nb_grammar_cache_free(c);
    nb_grammar_free(g);
    return 0;
}
