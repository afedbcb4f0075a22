/* quantize_budget.h - the options that ask for a result instead of a type: a size, bits a weight, a divergence. */
#ifndef NB_CLI_QUANTIZE_BUDGET_H
#define NB_CLI_QUANTIZE_BUDGET_H

#include "cli/cli.h"
#include "convert/quantize.h"

typedef struct nb_quantize_budget {
    const char *size, *bits, *divergence; /* as they were given; at most one */
    const char *text_path;
    int64_t chunks;
    uint64_t window; /* tokens; 0: 512 */
    uint64_t bytes;  /* what was asked for, read */
    double bits_asked, divergence_asked;
    const nb_type_info **types; /* the answer */
} nb_quantize_budget;

/* Rows for an nb_option table; B is an nb_quantize_budget. */
/* clang-format off */
#define NB_QUANTIZE_BUDGET_ROWS(B)                                                                                     \
    {"size", 0, NB_OPTION_STRING, &(B).size, "N[M|G]", "choose types: a file of at most so many bytes"},               \
    {"bpw", 0, NB_OPTION_STRING, &(B).bits, "X", "choose types: at most so many bits a weight"},                       \
    {"kld", 0, NB_OPTION_STRING, &(B).divergence, "X", "choose types: at most this KL divergence on --text"},          \
    {"text", 0, NB_OPTION_STRING, &(B).text_path, "FILE", "to measure on; without it --size and --bpw use a table"},   \
    {"chunks", 0, NB_OPTION_I64, &(B).chunks, "N", "only the first N windows of the text"},                            \
    {"ctx", 'c', NB_OPTION_U64, &(B).window, "N", "tokens a window (default 512)"}
/* clang-format on */

bool nb_quantize_budget_given(const nb_quantize_budget *b);
/* Checks and reads the options. Returns -1 to go on, else the exit code. */
int nb_quantize_budget_finish(nb_quantize_budget *b);
/* What is put into the file's name: "500M", "4.5bpw". */
void nb_quantize_budget_name(const nb_quantize_budget *b, char name[64]);
/* Sets p->types, and prints what was found. */
nb_status nb_quantize_budget_choose(nb_quantize_budget *b, const nb_source *s, const char *in, nb_quantize_params *p,
                                    nb_error *err);
void nb_quantize_budget_free(nb_quantize_budget *b);

#endif
