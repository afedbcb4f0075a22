/* scanner.h - the two families of pre-tokenizer expressions that most models use, written out by hand: PCRE2 needs
 * about ten times as long for the same words. tests/text/test_scanner.c holds them equal to the expressions. */
#ifndef NB_TEXT_SCANNER_H
#define NB_TEXT_SCANNER_H

#include "base/mem.h"

/* Bytes of the first word of s (n >= 1). */
typedef size_t nb_scan_fn(const unsigned char *s, size_t n);

nb_scan_fn nb_scan_gpt2;        /* GPT-2's own expression */
nb_scan_fn nb_scan_gpt2_digits; /* each number alone first, then GPT-2's */
nb_scan_fn nb_scan_llama3;      /* numbers in threes */
nb_scan_fn nb_scan_qwen2;       /* the same with each number alone */

#endif
