/* Grammars of replies: compiled once for the same text, with what their masks have learnt. */
#include <stdlib.h>

#include "server/service_internal.h"

enum { KEPT = 16 };

static void free_grammar(nb_served_grammar *g)
{
    nb_grammar_cache_free(g->cache);
    nb_grammar_free(g->grammar);
    free(g->text);
    free(g);
}

void nb_served_free_grammars(nb_served *m)
{
    while (m->grammars) {
        nb_served_grammar *g = m->grammars;
        m->grammars = g->next;
        free_grammar(g);
    }
    nb_grammar_vocab_free(m->vocab);
}

/* takes it out of the list when it is there */
static nb_served_grammar *find(nb_served *m, nb_grammar_kind kind, nb_str text)
{
    for (nb_served_grammar **at = &m->grammars; *at; at = &(*at)->next) {
        nb_served_grammar *g = *at;
        if (g->kind == kind && nb_str_eq((nb_str){g->text, g->bytes}, text)) {
            *at = g->next;
            return g;
        }
    }
    return NULL;
}

static nb_status compile(nb_served *m, nb_served_grammar *g, nb_str text, nb_error *err)
{
    const nb_tokenizer *tokenizer = m->model->tokenizer;
    g->text = malloc(text.n + 1);
    if (!g->text)
        return nb_fail_memory(err, "a grammar", text.n);
    memcpy(g->text, text.p, text.n);
    g->bytes = text.n;
    if (!m->vocab)
        NB_TRY(nb_grammar_vocab_new(tokenizer, &m->vocab, err));
    static const nb_grammar_frame calls = {{"<tool_call>\n", 12}, {"\n</tool_call>", 13}, {"\n", 1}, NB_CALLS_MOST};
    NB_TRY(g->kind == NB_GRAMMAR_GBNF     ? nb_grammar_from_gbnf(text, tokenizer, &g->grammar, err)
           : g->kind == NB_GRAMMAR_TAGGED ? nb_grammar_from_schema_in(text, &calls, &g->grammar, err)
                                          : nb_grammar_from_schema(text, false, &g->grammar, err));
    return nb_grammar_cache_new(g->grammar, m->vocab, &g->cache, err);
}

/* the longest unused ones that nobody uses go */
static void forget(nb_served *m)
{
    size_t count = 0;
    for (nb_served_grammar **at = &m->grammars; *at;) {
        nb_served_grammar *g = *at;
        if (++count > KEPT && atomic_load(&g->users) == 0) {
            *at = g->next;
            free_grammar(g);
        } else {
            at = &g->next;
        }
    }
}

nb_status nb_service_grammar(nb_served *m, nb_grammar_kind kind, nb_str text, nb_served_grammar **out, nb_error *err)
{
    nb_status status = NB_OK;
    *out = NULL;
    pthread_mutex_lock(&m->lock);
    nb_served_grammar *g = find(m, kind, text);
    if (!g) {
        g = calloc(1, sizeof *g);
        status = g ? NB_OK : nb_fail_memory(err, "a grammar", sizeof *g);
        if (g) {
            g->kind = kind;
            status = compile(m, g, text, err);
        }
        if (status != NB_OK && g) {
            free_grammar(g);
            g = NULL;
        }
    }
    if (g) {
        atomic_fetch_add(&g->users, 1);
        g->next = m->grammars;
        m->grammars = *out = g;
        forget(m);
    }
    pthread_mutex_unlock(&m->lock);
    return status;
}

void nb_service_grammar_release(nb_served_grammar *g)
{
    if (g)
        atomic_fetch_sub(&g->users, 1);
}
