/* Grammars in GBNF: what they accept and refuse, as llama.cpp reads them (tests/data/grammar/gbnf.txt has its answers);
 * masks against one token at a time; limits; memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/allocations.h"
#include "support/cases.h"
#include "support/words.h"
#include "text/grammar.h"

static nb_arena arena;
static nb_tokenizer *tokenizer;
static nb_grammar_vocab *vocab;

static int make_vocab(void **state)
{
    nb_error err;
    (void)state;
    tokenizer = nb_words_tokenizer(&arena);
    if (!tokenizer || nb_grammar_vocab_new(tokenizer, &vocab, &err) != NB_OK)
        return -1;
    return 0;
}

static int free_vocab(void **state)
{
    (void)state;
    nb_grammar_vocab_free(vocab);
    nb_tokenizer_free(tokenizer);
    nb_arena_free(&arena);
    return 0;
}

/* ---- a grammar in use ---- */

typedef struct use {
    nb_grammar *g;
    nb_grammar_cache *c;
    nb_grammar_state *s;
} use;

static use begin(const char *text)
{
    use u = {0};
    nb_error err = {0};
    if (nb_grammar_from_gbnf(nb_str_of(text), tokenizer, &u.g, &err) != NB_OK ||
        nb_grammar_cache_new(u.g, vocab, &u.c, &err) != NB_OK || nb_grammar_state_new(u.c, &u.s, &err) != NB_OK)
        fail_msg("%s\n%s", text, err.message);
    return u;
}

static void end(use *u)
{
    nb_grammar_state_free(u->s);
    nb_grammar_cache_free(u->c);
    nb_grammar_free(u->g);
}

static bool accepts(const use *u, nb_str text)
{
    nb_grammar_state *s;
    nb_error err;
    assert_int_equal(nb_grammar_state_new(u->c, &s, &err), NB_OK);
    bool yes = nb_grammar_accept_bytes(s, text, &err) == NB_OK && nb_grammar_can_end(s);
    nb_grammar_state_free(s);
    return yes;
}

static const uint32_t *mask(const use *u)
{
    const uint32_t *bits;
    nb_error err;
    if (nb_grammar_mask(u->s, &bits, &err) != NB_OK)
        fail_msg("%s", err.message);
    return bits;
}

static bool allowed(const use *u, int32_t id) { return mask(u)[id / 32] >> id % 32 & 1; }
static int32_t word(const char *text)
{
    for (int32_t i = 0; i < NB_WORDS_COUNT - NB_WORDS_TEXT; i++)
        if (strcmp(nb_words_text[i], text) == 0)
            return NB_WORDS_TEXT + i;
    fail_msg("no word %s", text);
    return -1;
}

static void accept(const use *u, const char *text)
{
    nb_error err;
    if (nb_grammar_accept_bytes(u->s, nb_str_of(text), &err) != NB_OK)
        fail_msg("%s", err.message);
}

/* ---- llama.cpp's answers: lines of "g GRAMMAR" and then "+ TEXT" or "- TEXT" in hex ---- */

static void same_as_llama_cpp(void **state)
{
    nb_cases cases;
    nb_buf text = {0};
    nb_str line;
    use u = {0};
    int grammars = 0, texts = 0;
    (void)state;
    assert_true(nb_cases_open(&cases, "grammar/gbnf.txt"));
    while (nb_cases_next(&cases, &line)) {
        char kind = nb_case_field(&line).p[0];
        nb_case_text(&line, &text);
        if (kind == 'g') {
            end(&u);
            u = begin(text.data);
            grammars++;
        } else {
            if (accepts(&u, nb_buf_view(&text)) != (kind == '+'))
                fail_msg("grammar %d: \"%s\" should be %s", grammars, text.data, kind == '+' ? "accepted" : "refused");
            texts++;
        }
    }
    end(&u);
    nb_buf_free(&text);
    nb_cases_close(&cases);
    assert_true(grammars == 45 && texts == 195);
}

static void refuses(void **state)
{
    static const struct {
        const char *text;
        nb_status status;
        const char *message;
    } cases[] = {
        {"", NB_ERR_ARGUMENT, "no rule named root"},
        {"a ::= \"x\"", NB_ERR_ARGUMENT, "no rule named root"},
        {"root ::= a\n\nb ::= \"x\"", NB_ERR_ARGUMENT, "line 1, column 10: rule \"a\" is used but not defined"},
        {"root ::= \"x\" ]", NB_ERR_ARGUMENT, "line 1, column 14"},
        {"root = \"x\"", NB_ERR_ARGUMENT, "line 1, column 6: '::=' should follow"},
        {"root ::= (\"a\" | \"b\"", NB_ERR_ARGUMENT, "line 1, column 10: a '(' without ')'"},
        {"root ::= \"\xC3\xA9\" [z-a]", NB_ERR_ARGUMENT, "line 1, column 15: a range that ends before it begins"},
        {"root ::= \"a", NB_ERR_ARGUMENT, "ends within quotes"},
        {"root ::= \"\\q\"", NB_ERR_ARGUMENT, "unknown escape"},
        {"root ::= \"\\u12\"", NB_ERR_ARGUMENT, "4 hexadecimal digits"},
        {"root ::= \"\\U00110000\"", NB_ERR_ARGUMENT, "not a character"},
        {"root ::= \"\\uD800\"", NB_ERR_ARGUMENT, "half of a pair"},
        {"root ::= \"\xFF\"", NB_ERR_ARGUMENT, "not UTF-8"},
        {"root ::= *", NB_ERR_ARGUMENT, "'*' without an item"},
        {"root ::= \"a\"{3,2}", NB_ERR_ARGUMENT, "at least 3 times but at most 2"},
        {"root ::= \"a\"{2000000000}", NB_ERR_LIMIT, "above 1000000000"},
        {"root ::= \"a\"{x}", NB_ERR_ARGUMENT, "a number should be here"},
        {"root ::= []", NB_ERR_ARGUMENT, "no character between the brackets"},
        {"root ::= <nothing-like-it>", NB_ERR_ARGUMENT, "not one token"},
        {"root ::= <[99999]>", NB_ERR_ARGUMENT, "token 99999 is not in the vocabulary"},
        {"root ::= \"a\" root", NB_ERR_ARGUMENT, "no text can ever match rule \"root\""},
        {"root ::= list\nlist ::= list \",\" \"a\" | \"a\"", NB_ERR_UNSUPPORTED, "rule \"list\" calls itself"},
        {"root ::= a\na ::= b? a \"x\" | \"y\"\nb ::= \"z\"", NB_ERR_UNSUPPORTED, "left recursion"},
        {"root ::= a\na ::= (b \"x\" | \"y\")\nb ::= \"z\"* a", NB_ERR_UNSUPPORTED, "left recursion"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nb_grammar *g;
        nb_error err = {0};
        assert_int_equal(nb_grammar_from_gbnf(nb_str_of(cases[i].text), tokenizer, &g, &err), cases[i].status);
        assert_null(g);
        if (!strstr(err.message, cases[i].message))
            fail_msg("%s\n%s", cases[i].text, err.message);
    }
    nb_grammar *g;
    assert_int_equal(nb_grammar_from_gbnf(NB_STR("root ::= <think>"), NULL, &g, NULL), NB_ERR_UNSUPPORTED);
}

/* ---- counts that llama.cpp has no room for ---- */

static void large_counts(void **state)
{
    nb_buf text = {0};
    use u = begin("root ::= [a-c]{99999,100000} (\"x\"? \"y\"{0,3}){2,5000}");
    (void)state;
    for (int i = 0; i < 99998; i++)
        nb_buf_char(&text, "abc"[i % 3]);
    assert_false(accepts(&u, nb_buf_view(&text)));
    nb_buf_char(&text, 'a');
    assert_true(accepts(&u, nb_buf_view(&text)));
    nb_buf_char(&text, 'b');
    assert_true(accepts(&u, nb_buf_view(&text)));
    nb_buf_z(&text, "xyyyxyxxx");
    assert_true(accepts(&u, nb_buf_view(&text)));
    nb_buf_z(&text, "a");
    assert_false(accepts(&u, nb_buf_view(&text)));
    nb_buf_free(&text);
    end(&u);
}

/* ---- masks ---- */

static void same_one_by_one(const use *u, const char *name)
{
    const uint32_t *bits = mask(u);
    uint32_t copy[(NB_WORDS_COUNT + 31) / 32];
    memcpy(copy, bits, sizeof copy);
    for (int32_t id = 0; id < NB_WORDS_COUNT; id++)
        if ((copy[id / 32] >> id % 32 & 1) != nb_grammar_allows(u->s, id))
            fail_msg("%s: token %d", name, id);
}

static void masks_are_exact(void **state)
{
    static const char *const grammars[] = {
        "root ::= \"\\\"\" [^\"\\\\\\x00-\\x1F]* \"\\\"\"",
        "root ::= \"\\\"\" ([^\"\\\\] | \"\\\\\" [\"\\\\nu]){0,5} \"\\\"\" [ ]*",
        "root ::= \"\\\"\" ([^\"\\\\]){0,2000} \"\\\"\"",
        "root ::= .*",
        "root ::= [a-z ]+",
        "root ::= [^a-z]+",
        "root ::= ([a-z]{2} [0-9]{2})+",
        "root ::= \"{\" (\"\\\"\" [a-z]+ \"\\\":\" [0-9]+ \",\"?)* \"}\"",
        "root ::= [\xC3\xA0-\xC3\xBF]+ | \"caf\xC3\xA9\" | [\xE6\x97\xA5\xE6\x9C\xAC]{1,3}",
        "root ::= !<think>* <think> .*",
        "root ::= <[300]> \"the\" | \"the\" !<[300]>",
        "root ::= value\nvalue ::= \"[\" (value (\",\" value)*)? \"]\" | [0-9]+",
    };
    static const char *const texts[] = {"",
                                        "\"",
                                        "\"abc",
                                        "a",
                                        "ab",
                                        "ab1",
                                        "{",
                                        "{\"a",
                                        "{\"a\":",
                                        "\xC3",
                                        "caf\xC3",
                                        "\xE6\x97",
                                        "\xE6\x97\xA5",
                                        "[",
                                        "[[1",
                                        "the",
                                        "12",
                                        "\"caf\xC3\xA9\\",
                                        "\xF0\x9F"};
    int looked = 0;
    (void)state;
    for (size_t i = 0; i < sizeof grammars / sizeof *grammars; i++)
        for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
            use u = begin(grammars[i]);
            if (nb_grammar_accept_bytes(u.s, nb_str_of(texts[k]), NULL) == NB_OK) {
                same_one_by_one(&u, grammars[i]);
                looked++;
            }
            end(&u);
        }
    assert_true(looked >= 60);
}

static void only_ends_and_names(void **state)
{
    use u = begin("root ::= \"a\" <think> \"the\"?");
    nb_error err;
    (void)state;
    assert_false(allowed(&u, NB_WORDS_END) || allowed(&u, NB_WORDS_THINK) || allowed(&u, NB_WORDS_CONTROL));
    assert_int_equal(nb_grammar_accept(u.s, NB_WORDS_END, &err), NB_ERR_ARGUMENT);
    accept(&u, "a");
    assert_true(allowed(&u, NB_WORDS_THINK));
    assert_false(allowed(&u, word("the")) || allowed(&u, '<'));
    assert_int_equal(nb_grammar_accept(u.s, word("the"), &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_grammar_accept(u.s, NB_WORDS_THINK, &err), NB_OK);
    assert_true(allowed(&u, NB_WORDS_END) && allowed(&u, NB_WORDS_END_TURN) && allowed(&u, word("the")));
    assert_true(nb_grammar_can_end(u.s));
    assert_int_equal(nb_grammar_accept(u.s, NB_WORDS_END_TURN, &err), NB_OK);
    assert_int_equal(nb_grammar_accept(u.s, 99999, &err), NB_ERR_ARGUMENT);
    accept(&u, "the");
    for (int32_t id = 0; id < NB_WORDS_COUNT; id++)
        assert_int_equal(allowed(&u, id), id == NB_WORDS_END || id == NB_WORDS_END_TURN);
    end(&u);
    /* "the" is there twice: both are it */
    u = begin("root ::= \"the\"");
    int twice = 0;
    for (int32_t id = NB_WORDS_TEXT; id < NB_WORDS_COUNT; id++)
        twice += allowed(&u, id);
    assert_int_equal(twice, 2);
    end(&u);
}

static void forced(void **state)
{
    use u = begin("root ::= \"{\\\"name\\\": \\\"\" [a-z]+ \"\\\"}\" | \"{\\\"namen\\\"\"");
    nb_buf text = {0};
    nb_error err;
    (void)state;
    assert_int_equal(nb_grammar_forced(u.s, &text, &err), NB_OK);
    assert_string_equal(text.data, "{\"name");
    accept(&u, "{\"name\"");
    nb_buf_clear(&text);
    assert_int_equal(nb_grammar_forced(u.s, &text, &err), NB_OK);
    assert_string_equal(text.data, ": \"");
    accept(&u, ": \"abc\"");
    nb_buf_clear(&text);
    assert_int_equal(nb_grammar_forced(u.s, &text, &err), NB_OK);
    assert_string_equal(text.data, "}");
    nb_buf_free(&text);
    end(&u);
}

/* A refused text changes nothing, and a copy goes its own way. */
static void copies(void **state)
{
    use u = begin("root ::= \"ab\" (\"c\" | \"d\")");
    nb_grammar_state *other;
    nb_error err;
    (void)state;
    accept(&u, "a");
    assert_int_equal(nb_grammar_accept_bytes(u.s, NB_STR("bx"), &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "\"bx\""));
    assert_int_equal(nb_grammar_state_clone(u.s, &other, &err), NB_OK);
    accept(&u, "bc");
    assert_true(nb_grammar_can_end(u.s) && !nb_grammar_can_end(other));
    assert_int_equal(nb_grammar_accept_bytes(other, NB_STR("bd"), &err), NB_OK);
    assert_true(nb_grammar_can_end(other));
    nb_grammar_state_free(u.s);
    u.s = other;
    end(&u);
}

/* ---- limits ---- */

static void deep_and_ambiguous(void **state)
{
    nb_error err;
    (void)state;
    use u = begin("root ::= \"(\" root \")\" | \"x\"");
    nb_status status = NB_OK;
    int n = 0;
    for (; n < 5000 && status == NB_OK; n++)
        status = nb_grammar_accept_bytes(u.s, NB_STR("("), &err);
    assert_int_equal(status, NB_ERR_LIMIT);
    assert_true(n > 1000);
    end(&u);
    u = begin("root ::= \"a\" root root | \"a\"");
    for (n = 0, status = NB_OK; n < 5000 && status == NB_OK; n++)
        status = nb_grammar_accept_bytes(u.s, NB_STR("a"), &err);
    assert_int_equal(status, NB_ERR_LIMIT);
    end(&u);
    u = begin("root ::= ((\"a\"* \"a\"*)* | (\"a\" | \"a\")*)*"); /* as many ways as one likes, all the same */
    for (n = 0; n < 5000; n++)
        accept(&u, "a");
    assert_true(nb_grammar_can_end(u.s));
    end(&u);
}

/* More states than are kept: the first are forgotten, those in use are not. */
static void forgets(void **state)
{
    use u = begin("root ::= ([a-z]{3} \"-\"){0,900000} \"!\"");
    nb_grammar_state *early;
    nb_error err;
    (void)state;
    accept(&u, "abc-ab");
    assert_int_equal(nb_grammar_state_clone(u.s, &early, &err), NB_OK);
    assert_false(allowed(&u, '!'));
    for (int i = 0; i < (NB_TEST_SLOW ? 1000 : 300000); i++)
        accept(&u, "c-ab");
    assert_false(allowed(&u, '!'));
    assert_true(allowed(&u, 'x'));
    assert_int_equal(nb_grammar_accept_bytes(early, NB_STR("c"), &err), NB_OK);
    assert_false(nb_grammar_can_end(early));
    assert_int_equal(nb_grammar_accept_bytes(early, NB_STR("-!"), &err), NB_OK);
    assert_true(nb_grammar_can_end(early));
    nb_grammar_state_free(early);
    end(&u);
}

/* ---- memory ---- */

static nb_status use_once(nb_error *err)
{
    const uint32_t *bits;
    use u = {0};
    nb_str text = NB_STR("root ::= \"[\" item (\",\" item){0,300} \"]\"\nitem ::= [^,\\]]+ | (\"a\" <think>)?");
    nb_status status = nb_grammar_from_gbnf(text, tokenizer, &u.g, err);
    if (status == NB_OK)
        status = nb_grammar_cache_new(u.g, vocab, &u.c, err);
    if (status == NB_OK)
        status = nb_grammar_state_new(u.c, &u.s, err);
    if (status == NB_OK)
        status = nb_grammar_mask(u.s, &bits, err);
    if (status == NB_OK)
        status = nb_grammar_accept_bytes(u.s, NB_STR("[abc,d"), err);
    if (status == NB_OK)
        status = nb_grammar_mask(u.s, &bits, err);
    end(&u);
    return status;
}

static void out_of_memory(void **state)
{
    nb_status status = NB_ERR_MEMORY;
    (void)state;
#ifndef NB_SANITIZED
    for (long n = 1; status != NB_OK; n++) {
        nb_error err = {0};
        long live = nb_allocations.live;
        nb_allocations.count = 0;
        nb_allocations.fail_at = n;
        status = use_once(&err);
        nb_allocations.fail_at = 0;
        assert_int_equal(nb_allocations.live, live);
        assert_true(status == NB_OK || (status == NB_ERR_MEMORY && err.message[0]));
        assert_true(n < 100000);
    }
#else
    status = use_once(NULL);
#endif
    assert_int_equal(status, NB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_llama_cpp),
        cmocka_unit_test(refuses),
        cmocka_unit_test(large_counts),
        cmocka_unit_test(masks_are_exact),
        cmocka_unit_test(only_ends_and_names),
        cmocka_unit_test(forced),
        cmocka_unit_test(copies),
        cmocka_unit_test(deep_and_ambiguous),
        cmocka_unit_test(forgets),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, make_vocab, free_vocab);
}
