/* bench_tokenizer - MB of text a second that a tokenizer encodes and decodes on one core, beside what copying the text takes
 * (the floor), and the time to make it.
 *
 * usage: bench_tokenizer MODEL.gguf TEXT [RUNS]     medians of RUNS (default 9)
 * To compare with llama.cpp, time its llama_tokenize on the same file and text. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "engine/vocab.h"
#include "median.h"

enum { MOST_RUNS = 101 };

static void report(const char *what, double *seconds, int runs, size_t bytes)
{
    double middle = median(seconds, (size_t)runs);
    printf("%-8s %9.1f MB/s   median of %d, best %.1f\n", what, (double)bytes / middle / 1e6, runs,
           (double)bytes / seconds[0] / 1e6); /* sorted */
}

static nb_status measure(const nb_tokenizer *t, nb_str text, int runs, nb_error *err)
{
    double encode[MOST_RUNS], decode[MOST_RUNS], copy[MOST_RUNS];
    nb_status status = NB_OK;
    nb_ids ids = {0};
    nb_buf out = {0};
    for (int i = 0; i < runs && status == NB_OK; i++) {
        ids.count = 0;
        nb_buf_clear(&out);
        double a = nb_seconds();
        status = nb_tokenizer_encode(t, text, NB_ENCODE_PLAIN, &ids, err);
        double b = nb_seconds();
        if (status == NB_OK)
            status = nb_tokenizer_decode(t, ids.id, ids.count, false, &out, err);
        double c = nb_seconds();
        nb_buf_clear(&out);
        nb_buf_str(&out, text);
        encode[i] = b - a;
        decode[i] = c - b;
        copy[i] = nb_seconds() - c;
    }
    if (status == NB_OK) {
        printf("%zu bytes, %zu ids, %.2f bytes an id\n", text.n, ids.count, (double)text.n / (double)ids.count);
        report("encode", encode, runs, text.n);
        report("decode", decode, runs, text.n);
        report("copy", copy, runs, text.n);
    }
    nb_ids_free(&ids);
    nb_buf_free(&out);
    return status;
}

int main(int argc, char **argv)
{
    nb_error err = {0};
    nb_gguf *g = NULL;
    nb_tokenizer *t = NULL;
    nb_buf text = {0};
    int runs = argc > 3 ? atoi(argv[3]) : 9;
    if (argc < 3 || runs < 1 || runs > MOST_RUNS) {
        fprintf(stderr, "usage: bench_tokenizer MODEL.gguf TEXT [RUNS]\n");
        return 2;
    }
    nb_status status = nb_gguf_open(argv[1], &g, &err);
    double a = nb_seconds();
    if (status == NB_OK)
        status = nb_tokenizer_from_gguf(g, NULL, &t, &err);
    double b = nb_seconds();
    if (status == NB_OK)
        status = nb_file_read(argv[2], 1u << 28, &text, &err);
    if (status == NB_OK) {
        printf("made in %.1f ms\n", (b - a) * 1e3);
        status = measure(t, nb_buf_view(&text), runs, &err);
    }
    if (status != NB_OK)
        fprintf(stderr, "%s\n", err.message);
    nb_buf_free(&text);
    nb_tokenizer_free(t);
    nb_gguf_close(g);
    return status == NB_OK ? 0 : 1;
}
