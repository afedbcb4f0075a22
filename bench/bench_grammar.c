/* bench_grammar - what a grammar costs a token: the mask, when it is made and when it is known, and the step after it.
 *
 *     bench_grammar MODEL.gguf [SCHEMA.json|GRAMMAR.gbnf REPLY]
 *
 * Without files: an object as clients ask for, and a reply of 190 tokens or so. Each turn begins with an empty cache, so that a
 * mask is made where the reply needs it ("first reply"), then the reply is said once more ("second"). The floor is a copy of
 * one mask. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/file.h"
#include "engine/vocab.h"
#include "median.h"
#include "text/grammar.h"

enum { TURNS = 15, TOKENS = 4096 };

static const char own_schema[] =
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"born\":{\"type\":\"integer\",\"minimum\":0,"
    "\"maximum\":2100},\"fields\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"maxItems\":10},\"quote\":{"
    "\"type\":"
    "\"string\",\"maxLength\":400},\"address\":{\"$ref\":\"#/$defs/"
    "address\"},\"score\":{\"type\":\"number\"},\"works\":{"
    "\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"title\":{\"type\":\"string\"},\"date\":{"
    "\"type\":"
    "\"string\",\"format\":\"date\"},\"kind\":{\"enum\":[\"note\",\"letter\",\"program\"]}},\"required\":[\"title\","
    "\"kind\"]}},"
    "\"note\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}},\"required\":[\"name\",\"born\"],\"$defs\":{"
    "\"address\":{"
    "\"type\":\"object\",\"properties\":{\"street\":{\"type\":\"string\"},\"city\":{\"type\":\"string\"},\"zip\":{"
    "\"type\":"
    "\"string\",\"pattern\":\"^[A-Z0-9 ]+$\"}},\"required\":[\"city\"]}}}";
static const char own_reply[] =
    "{\n  \"name\": \"Ada Lovelace\",\n  \"born\": 1815,\n  \"fields\": [\n    \"mathematics\",\n    \"computing\"\n  "
    "],\n  \"quote\": "
    "\"That brain of mine is something more than merely mortal; as time will show. \\\"Caf\xC3\xA9\\\" na\xC3\xAFve "
    "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E\",\n  \"address\": {\n    \"street\": \"12 St James's Square\",\n    "
    "\"city\": \"London\",\n    "
    "\"zip\": \"SW1Y 4JH\"\n  },\n  \"score\": 12.5,\n  \"works\": [\n    {\n      \"title\": \"Notes on the "
    "Analytical Engine\",\n      "
    "\"date\": \"1843-09-01\",\n      \"kind\": \"note\"\n    },\n    {\n      \"title\": \"A letter to Babbage\",\n   "
    "   \"kind\": "
    "\"letter\"\n    }\n  ],\n  \"note\": null\n}";

static void check(nb_status status, const nb_error *err)
{
    if (status == NB_OK)
        return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double share(double *times, size_t n, double of) /* sorts */
{
    qsort(times, n, sizeof *times, by_value);
    return times[(size_t)(of * (double)(n - 1))];
}

/* Says the reply; mask and step: seconds of each token. */
static void say(nb_grammar_cache *c, const nb_ids *ids, double *mask, double *step)
{
    nb_grammar_state *s;
    nb_error err;
    check(nb_grammar_state_new(c, &s, &err), &err);
    for (size_t i = 0; i < ids->count; i++) {
        const uint32_t *bits;
        double t0 = nb_seconds();
        check(nb_grammar_mask(s, &bits, &err), &err);
        double t1 = nb_seconds();
        check(nb_grammar_accept(s, ids->id[i], &err), &err);
        mask[i] = t1 - t0;
        step[i] = nb_seconds() - t1;
    }
    nb_grammar_state_free(s);
}

static double mean(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

/* The least time of each token over the turns: what others did to the machine meanwhile is not the grammar's. */
static void keep_least(double *least, const double *now, size_t n, int turn)
{
    for (size_t i = 0; i < n; i++)
        least[i] = turn == 0 || now[i] < least[i] ? now[i] : least[i];
}

static void measure(const nb_grammar *g, const nb_grammar_vocab *v, const nb_ids *ids)
{
    static double mask[TOKENS], step[TOKENS], first[TOKENS], first_step[TOKENS], second[TOKENS], second_step[TOKENS];
    nb_error err;
    for (int turn = 0; turn < TURNS; turn++) {
        nb_grammar_cache *c;
        check(nb_grammar_cache_new(g, v, &c, &err), &err);
        say(c, ids, mask, step);
        keep_least(first, mask, ids->count, turn);
        keep_least(first_step, step, ids->count, turn);
        say(c, ids, mask, step);
        keep_least(second, mask, ids->count, turn);
        keep_least(second_step, step, ids->count, turn);
        nb_grammar_cache_free(c);
    }
    size_t made = 0;
    for (size_t i = 0; i < ids->count; i++)
        made += first[i] > 2e-6;
    printf("%zu tokens, %zu masks made; microseconds a token\n%-14s%10s%10s%10s%10s%10s\n", ids->count, made, "",
           "mean", "median", "95 %", "worst", "step");
    printf("%-14s%10.2f", "first reply", 1e6 * mean(first, ids->count));
    printf("%10.2f%10.2f", 1e6 * share(first, ids->count, 0.5), 1e6 * share(first, ids->count, 0.95));
    printf("%10.2f%10.2f\n", 1e6 * share(first, ids->count, 1), 1e6 * mean(first_step, ids->count));
    printf("%-14s%10.2f", "second", 1e6 * mean(second, ids->count));
    printf("%10.2f%10.2f", 1e6 * share(second, ids->count, 0.5), 1e6 * share(second, ids->count, 0.95));
    printf("%10.2f%10.2f\n", 1e6 * share(second, ids->count, 1), 1e6 * mean(second_step, ids->count));
}

static double copy_time(size_t words)
{
    double times[31];
    uint32_t *from = calloc(words, 4), *to = calloc(words, 4);
    for (int i = 0; i < 31 && from && to; i++) {
        double t0 = nb_seconds();
        memcpy(to, from, words * 4);
        __asm__ volatile("" : : "r"(to) : "memory");
        times[i] = nb_seconds() - t0;
    }
    free(from);
    free(to);
    return median(times, 31);
}

int main(int argc, char **argv)
{
    nb_gguf *file;
    nb_tokenizer *t;
    nb_grammar_vocab *v;
    nb_grammar *g;
    nb_error err;
    nb_buf grammar = {0}, reply = {0};
    nb_ids ids = {0};
    if (argc != 2 && argc != 4) {
        fprintf(stderr, "bench_grammar MODEL.gguf [SCHEMA.json|GRAMMAR.gbnf REPLY]\n");
        return 2;
    }
    check(nb_gguf_open(argv[1], &file, &err), &err);
    check(nb_tokenizer_from_gguf(file, NULL, &t, &err), &err);
    bool gbnf = argc == 4 && strlen(argv[2]) > 5 && strcmp(argv[2] + strlen(argv[2]) - 5, ".gbnf") == 0;
    if (argc == 4) {
        check(nb_file_read(argv[2], NB_GRAMMAR_TEXT, &grammar, &err), &err);
        check(nb_file_read(argv[3], NB_GRAMMAR_TEXT, &reply, &err), &err);
    } else {
        nb_buf_z(&grammar, own_schema);
        nb_buf_z(&reply, own_reply);
    }
    double t0 = nb_seconds();
    check(nb_grammar_vocab_new(t, &v, &err), &err);
    double t1 = nb_seconds();
    check(gbnf ? nb_grammar_from_gbnf(nb_buf_view(&grammar), t, &g, &err)
               : nb_grammar_from_schema(nb_buf_view(&grammar), false, &g, &err),
          &err);
    double t2 = nb_seconds();
    check(nb_tokenizer_encode(t, nb_buf_view(&reply), NB_ENCODE_PLAIN, &ids, &err), &err);
    ids.count = nb_min_size(ids.count, TOKENS);
    printf("%zu words in %.1f ms; grammar in %.2f ms; one mask copied in %.2f us\n", nb_tokenizer_count(t),
           1e3 * (t1 - t0), 1e3 * (t2 - t1), 1e6 * copy_time(nb_grammar_vocab_words(v)));
    measure(g, v, &ids);
    nb_ids_free(&ids);
    nb_buf_free(&grammar);
    nb_buf_free(&reply);
    nb_grammar_free(g);
    nb_grammar_vocab_free(v);
    nb_tokenizer_free(t);
    nb_gguf_close(file);
    return 0;
}
