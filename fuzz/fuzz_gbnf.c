/* Grammars in GBNF: refused, or matched against a text, then random steps of what it allows. */
#include <stdlib.h>

#include "text/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_grammar *g;
    nb_grammar_cache *c = NULL;
    nb_grammar_state *s = NULL;
    nb_error err = {0};
    nb_buf forced = {0};
    if (nb_grammar_from_gbnf((nb_str){(const char *)data, size}, NULL, &g, &err) != NB_OK)
        return g == NULL && err.code != NB_OK && err.code != NB_ERR_INTERNAL && err.message[0] ? 0 : (abort(), 0);
    if (nb_grammar_cache_new(g, NULL, &c, &err) == NB_OK && nb_grammar_state_new(c, &s, &err) == NB_OK) {
        for (size_t i = 0; i < size && i < 256; i++)
            (void)nb_grammar_accept_bytes(s, (nb_str){(const char *)data + i, 1}, &err);
        size_t before = forced.len;
        if (nb_grammar_forced(s, &forced, &err) == NB_OK && forced.len > before &&
            nb_grammar_accept_bytes(s, nb_buf_view(&forced), &err) != NB_OK)
            abort();
    }
    nb_buf_free(&forced);
    nb_grammar_state_free(s);
    nb_grammar_cache_free(c);
    nb_grammar_free(g);
    return 0;
}
