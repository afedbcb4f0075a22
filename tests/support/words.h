/* words.h - a small vocabulary as byte-level BPE has them: all single bytes, pieces of JSON and of text that begin and end
 * anywhere, some of them in the middle of a character, control tokens, and two tokens that end a reply. */
#ifndef NB_TESTS_WORDS_H
#define NB_TESTS_WORDS_H

#include <stdio.h>

#include "text/tokenizer.h"

enum { NB_WORDS_CONTROL = 256, NB_WORDS_THINK = 257, NB_WORDS_END = 258, NB_WORDS_END_TURN = 259, NB_WORDS_TEXT = 260 };

static const char *const nb_words_text[] = {"{\"",
                                            "\":",
                                            "\": ",
                                            "\":\"",
                                            "\", \"",
                                            "\",\"",
                                            "\"}",
                                            "\"]",
                                            "}}",
                                            "]}",
                                            "},",
                                            "], ",
                                            "[[",
                                            "[]",
                                            "{}",
                                            "[\"",
                                            ",\n  ",
                                            "\n",
                                            "\n    ",
                                            " ",
                                            "  ",
                                            "    ",
                                            "\t\t",
                                            "true",
                                            " true",
                                            "false",
                                            "null",
                                            "tr",
                                            "ull",
                                            "12",
                                            "123",
                                            "0.",
                                            ".5",
                                            "e1",
                                            "-1",
                                            "99",
                                            "2024",
                                            "-0",
                                            "00",
                                            "10",
                                            "the",
                                            " the",
                                            "a",
                                            "an",
                                            "name",
                                            "kind",
                                            "circle",
                                            "box",
                                            "value",
                                            "children",
                                            "red",
                                            "green",
                                            "blue",
                                            "abc",
                                            "ABC",
                                            "x_1",
                                            "hello world",
                                            "\\n",
                                            "\\\"",
                                            "\\u00",
                                            "\\u",
                                            "\\ud83d",
                                            "\\",
                                            "\\\\",
                                            "\xC3",
                                            "\xC3\xA9",
                                            "\xE6\x97\xA5",
                                            "\xE6\x97",
                                            "\xA5",
                                            "\xF0\x9F",
                                            "\xF0\x9F\xA6\x99",
                                            "\xA6\x99",
                                            "caf\xC3",
                                            "\x80",
                                            "\xFF",
                                            "\"a\":",
                                            "\"b\":",
                                            "a\":",
                                            "\"a",
                                            "b\"",
                                            "1,",
                                            ", 2",
                                            "[1",
                                            "1]",
                                            "\"\"",
                                            "\"x\"",
                                            "{\"a\":1}",
                                            "the",
                                            "T12:",
                                            "-02-",
                                            "@",
                                            ".com",
                                            "Z",
                                            "+00:00",
                                            "AB-",
                                            "abc\n",
                                            "\x01",
                                            "n_",
                                            "s_",
                                            "ab\"",
                                            " name",
                                            " value",
                                            "longer words of many letters",
                                            "======",
                                            "a b c d e f g h i j k l m n o p q r s t"};

enum { NB_WORDS_COUNT = NB_WORDS_TEXT + (int)(sizeof nb_words_text / sizeof *nb_words_text) };

/* a byte in GPT-2's alphabet */
static inline void nb_words_letter(nb_buf *b, unsigned char byte)
{
    uint32_t letter = byte;
    if (!((byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173))) {
        letter = 256;
        for (unsigned k = 0; k < byte; k++)
            letter += !((k >= 33 && k <= 126) || (k >= 161 && k != 173));
    }
    nb_buf_utf8(b, letter);
}

static inline nb_str nb_words_piece(nb_arena *arena, const char *text, size_t n)
{
    nb_buf b = {0};
    for (size_t i = 0; i < n; i++)
        nb_words_letter(&b, (unsigned char)text[i]);
    nb_str piece = {nb_arena_strdup(arena, nb_buf_view(&b)), b.len};
    nb_buf_free(&b);
    return piece;
}

/* NULL when it cannot be made; the arena must outlive it */
static inline nb_tokenizer *nb_words_tokenizer(nb_arena *arena)
{
    static const char *const special[] = {"<|start|>", "<think>", "<|endoftext|>", "<|im_end|>"};
    nb_str *tokens = NB_ARRAY(arena, nb_str, NB_WORDS_COUNT);
    int32_t *types = NB_ARRAY(arena, int32_t, NB_WORDS_COUNT);
    nb_tokenizer *t = NULL;
    nb_vocab vocab;
    nb_error err;
    for (int i = 0; i < NB_WORDS_COUNT; i++) {
        char byte = (char)i;
        types[i] = i >= NB_WORDS_CONTROL && i < NB_WORDS_TEXT ? NB_TOKEN_CONTROL : NB_TOKEN_NORMAL;
        if (i < NB_WORDS_CONTROL)
            tokens[i] = nb_words_piece(arena, &byte, 1);
        else if (i < NB_WORDS_TEXT)
            tokens[i] = nb_str_of(special[i - NB_WORDS_CONTROL]);
        else
            tokens[i] = nb_words_piece(arena, nb_words_text[i - NB_WORDS_TEXT],
                                       strlen(nb_words_text[i - NB_WORDS_TEXT]));
    }
    nb_vocab_defaults(&vocab, NB_STR("gpt2"));
    vocab.count = NB_WORDS_COUNT;
    vocab.tokens = tokens;
    vocab.types = types;
    vocab.eos = NB_WORDS_END;
    if (nb_tokenizer_new(&vocab, &t, &err) != NB_OK)
        fprintf(stderr, "%s\n", err.message);
    return t;
}

#endif
