/* run_options.h - what `nibble run` samples by. What Ollama's API has a word for becomes one of its options; the rest only a
 * model in this process can be told. */
#ifndef NB_CLI_RUN_OPTIONS_H
#define NB_CLI_RUN_OPTIONS_H

#include <jansson.h>

#include "cli/cli.h"
#include "nibble.h"

typedef struct nb_run_options {
    nb_sampler_params s; /* numbers: unsaid ones are NAN and INT_MIN */
    int64_t predict, seed, context;
    int threads;
    nb_option_list stops, biases;
    nb_logit_bias *bias; /* of biases */
} nb_run_options;

nb_run_options nb_run_options_unsaid(void);
void nb_run_options_free(nb_run_options *o); /* the lists are the table's */

/* Rows for an nb_option table; O is an nb_run_options. */
/* clang-format off */
#define NB_RUN_OPTION_ROWS(O)                                                                                          \
    {"predict", 'n', NB_OPTION_I64, &(O).predict, "N", "at most N tokens (default: until the reply ends)"},            \
    {"stop", 0, NB_OPTION_LIST, &(O).stops, "TEXT", "end the reply before TEXT (may be repeated)"},                    \
    {"seed", 's', NB_OPTION_I64, &(O).seed, "N", "seed of the sampling (default: a fresh one)"},                       \
    {"temp", 0, NB_OPTION_FLOAT, &(O).s.temperature, "X", "temperature; 0 takes the likeliest token"},                 \
    {"dynatemp-range", 0, NB_OPTION_FLOAT, &(O).s.dynatemp_range, "X", "temperature varies by this with the entropy"}, \
    {"dynatemp-exp", 0, NB_OPTION_FLOAT, &(O).s.dynatemp_exponent, "X", "how it does"},                                \
    {"top-k", 0, NB_OPTION_INT, &(O).s.top_k, "N", "only the N likeliest; 0: all"},                                    \
    {"top-p", 0, NB_OPTION_FLOAT, &(O).s.top_p, "X", "the likeliest that together have probability X"},                \
    {"min-p", 0, NB_OPTION_FLOAT, &(O).s.min_p, "X", "at least X times the likeliest"},                                \
    {"typical", 0, NB_OPTION_FLOAT, &(O).s.typical_p, "X", "locally typical sampling"},                                \
    {"top-n-sigma", 0, NB_OPTION_FLOAT, &(O).s.top_n_sigma, "X", "logits within X deviations of the best"},            \
    {"xtc-probability", 0, NB_OPTION_FLOAT, &(O).s.xtc_probability, "X", "how often the top choices are excluded"},    \
    {"xtc-threshold", 0, NB_OPTION_FLOAT, &(O).s.xtc_threshold, "X", "which they are"},                                \
    {"repeat-last-n", 0, NB_OPTION_INT, &(O).s.repeat_last_n, "N", "tokens that penalties look back on; -1: all"},     \
    {"repeat-penalty", 0, NB_OPTION_FLOAT, &(O).s.repeat_penalty, "X", "penalty of repeated tokens; 1: none"},         \
    {"presence-penalty", 0, NB_OPTION_FLOAT, &(O).s.presence_penalty, "X", "penalty of tokens already used"},          \
    {"frequency-penalty", 0, NB_OPTION_FLOAT, &(O).s.frequency_penalty, "X", "penalty by how often they were"},        \
    {"dry-multiplier", 0, NB_OPTION_FLOAT, &(O).s.dry_multiplier, "X", "DRY: penalty of repeated sequences; 0: none"}, \
    {"dry-base", 0, NB_OPTION_FLOAT, &(O).s.dry_base, "X", "DRY: its growth"},                                         \
    {"dry-allowed-length", 0, NB_OPTION_INT, &(O).s.dry_allowed_length, "N", "DRY: repeats this long are free"},       \
    {"dry-penalty-last-n", 0, NB_OPTION_INT, &(O).s.dry_penalty_last_n, "N", "DRY: how far back; -1: all"},            \
    {"mirostat", 0, NB_OPTION_INT, &(O).s.mirostat, "N", "mirostat 1 or 2 instead of the cuts"},                       \
    {"mirostat-lr", 0, NB_OPTION_FLOAT, &(O).s.mirostat_eta, "X", "its learning rate"},                                \
    {"mirostat-ent", 0, NB_OPTION_FLOAT, &(O).s.mirostat_tau, "X", "its target entropy"},                              \
    {"logit-bias", 0, NB_OPTION_LIST, &(O).biases, "ID=X", "adds X to a token's logit (may be repeated)"},             \
    {"samplers", 0, NB_OPTION_STRING, &(O).s.order, "LIST", "the stages in order, with semicolons"}
/* clang-format on */

/* Reads the biases. Returns -1 to go on, else the exit code. */
int nb_run_options_finish(nb_run_options *o);
/* Adds what was said to an object of Ollama's options. */
nb_status nb_run_options_say(const nb_run_options *o, json_t *options, nb_error *err);
/* Something was said that no server takes. */
bool nb_run_options_only_here(const nb_run_options *o);
/* Puts that over `sampling`. */
void nb_run_options_sample(const nb_run_options *o, nb_sampler_params *sampling);

#endif
