/* Grammars of JSON schemas. Documents of the JSON Schema Test Suite and of schemas as clients send them
 * (tests/data/grammar/schemas.json): what does not validate is never accepted. Random schemas, answered by tokens drawn from
 * the masks with equal chances: every reply that ends validates, by a checker that shares nothing with the grammars. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/allocations.h"
#include "support/cases.h"
#include "support/schema_check.h"
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
    return tokenizer && nb_grammar_vocab_new(tokenizer, &vocab, &err) == NB_OK ? 0 : -1;
}

static int free_vocab(void **state)
{
    (void)state;
    nb_grammar_vocab_free(vocab);
    nb_tokenizer_free(tokenizer);
    nb_arena_free(&arena);
    return 0;
}

static bool accepts(nb_grammar_cache *c, nb_str text)
{
    nb_grammar_state *s;
    nb_error err;
    assert_int_equal(nb_grammar_state_new(c, &s, &err), NB_OK);
    bool yes = nb_grammar_accept_bytes(s, text, &err) == NB_OK && nb_grammar_can_end(s);
    nb_grammar_state_free(s);
    return yes;
}

/* ---- documents whose answer is known ---- */

typedef struct tally {
    int groups, refused, never, valid, invalid, unsaid;
} tally;

/* Places where some valid documents are not said, as grammar.h has it. */
static bool may_be_unsaid(const char *place)
{
    static const char *const known[] = {"additionalProperties",
                                        "anyOf",
                                        "const",
                                        "enum",
                                        "not",
                                        "patternProperties",
                                        "properties",
                                        "ref",
                                        "type",
                                        "format",
                                        "date-time",
                                        "unevaluatedProperties",
                                        "duration",
                                        "email",
                                        "hostname",
                                        "ipv6",
                                        "time",
                                        "uri",
                                        "uri-reference"};
    const char *file = strchr(place, '/');
    for (size_t i = 0; file && i < sizeof known / sizeof *known; i++)
        if (strcmp(file + 1, known[i]) == 0)
            return true;
    return false;
}

static void check_documents(json_t *group, nb_grammar_cache *c, tally *n)
{
    const char *place = json_string_value(json_object_get(group, "place")),
               *name = json_string_value(json_object_get(group, "name"));
    size_t i;
    json_t *test;
    json_array_foreach(json_object_get(group, "tests"), i, test)
    {
        json_t *text = json_array_get(test, 0);
        bool valid = json_is_true(json_array_get(test, 1));
        bool said = c && accepts(c, (nb_str){json_string_value(text), json_string_length(text)});
        if (said && !valid)
            fail_msg("%s, %s: %s is not valid", place, name, json_string_value(text));
        if (!said && valid && !may_be_unsaid(place))
            fail_msg("%s, %s: %s is valid", place, name, json_string_value(text));
        n->unsaid += valid && !said;
        n->valid += said;
        n->invalid += !said && !valid;
    }
}

static void check_group(json_t *group, tally *n)
{
    char *schema = json_dumps(json_object_get(group, "schema"), JSON_COMPACT | JSON_ENCODE_ANY);
    nb_grammar *g = NULL;
    nb_grammar_cache *c = NULL;
    nb_error err = {0};
    nb_status status = nb_grammar_from_schema(nb_str_of(schema), false, &g, &err);
    bool never = status == NB_ERR_ARGUMENT && strstr(err.message, "no text can ever match") != NULL;
    n->groups++;
    n->never += never;
    if (status == NB_OK)
        assert_int_equal(nb_grammar_cache_new(g, NULL, &c, &err), NB_OK);
    if (status == NB_OK || never) {
        check_documents(group, c, n);
    } else {
        n->refused++;
        if (status != NB_ERR_UNSUPPORTED || strncmp(err.message, "schema, /", 9) != 0)
            fail_msg("%s: %s", schema, err.message);
    }
    nb_grammar_cache_free(c);
    nb_grammar_free(g);
    free(schema);
}

static void known_documents(void **state)
{
    json_error_t error;
    json_t *groups = json_load_file(NB_TEST_DATA "/grammar/schemas.json", JSON_ALLOW_NUL, &error), *group;
    tally n = {0};
    size_t i;
    (void)state;
    if (!groups)
        fail_msg("%s", error.text);
    json_array_foreach(groups, i, group) check_group(group, &n);
    json_decref(groups);
    print_message("%d groups, %d refused, %d never; %d documents said, %d not valid, %d valid but not said\n", n.groups,
                  n.refused, n.never, n.valid, n.invalid, n.unsaid);
    assert_true(n.groups >= 440 && n.refused <= 150 && n.valid >= 860 && n.invalid >= 680 && n.unsaid <= 90);
}

static void refuses(void **state)
{
    static const struct {
        const char *schema, *message;
    } cases[] = {
        {"{", "schema, line 1"},
        {"[1]", "schema, at its top: a schema is an object"},
        {"{\"properties\":{\"a\":{\"type\":\"strin\"}}}", "schema, /properties/a/type: there is no such type"},
        {"{\"properties\":{\"a/b\":{\"contains\":{}}}}",
         "schema, /properties/a~1b/contains: this keyword is not supported"},
        {"{\"items\":[{},{\"pattern\":\"(?=a)\"}]}",
         "schema, /items/1/pattern: pattern \"(?=a)\", byte 0: looking ahead"},
        {"{\"pattern\":\"(a\"}", "a '(' without ')'"},
        {"{\"pattern\":\"a{30000}\"}", "schema, /pattern"},
        {"{\"pattern\":\"((a{99}){99}){99}\"}", "schema, /pattern: the automaton for it is too large"},
        {"{\"pattern\":\"[ab]*a[ab]{40}\"}", "schema, /pattern: the automaton for it is too large"},
        {"{\"pattern\":\"(a)\\\\1\"}", "references back to a group"},
        {"{\"type\":\"string\",\"format\":\"colour\"}", "schema, /format: this format is not supported"},
        {"{\"multipleOf\":0.00000001}", ""},
        {"{\"multipleOf\":123456789}", "schema, /multipleOf"},
        {"{\"multipleOf\":-1}", "schema, /multipleOf: a number above 0"},
        {"{\"minItems\":-1}", "schema, /minItems: a whole number"},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "schema, /uniqueItems"},
        {"{\"if\":{},\"then\":{}}", "schema, /if: conditions"},
        {"{\"$ref\":\"other.json\"}", "schema, /$ref: \"other.json\" leads out of the schema"},
        {"{\"$ref\":\"#/$defs/a\"}", "schema, /$ref: there is nothing at \"#/$defs/a\""},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", "schema, /oneOf: a value may fit two"},
        {"{\"properties\":{\"a\":{\"oneOf\":[{\"type\":\"object\"},{\"type\":\"object\",\"required\":[\"k\"]}]}}}",
         "schema, /properties/a/oneOf"},
        {"{\"not\":{\"minimum\":3}}", "schema, /not"},
        {"{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", "no text can ever match the schema"},
        {"{\"$defs\":{\"a\":{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/$defs/"
         "a\"}},\"required\":[\"a\"]}},"
         "\"$ref\":\"#/$defs/a\"}",
         "no text can ever match the schema"},
        {"{\"enum\":[]}", "no text can ever match the schema"},
        {"{\"a\":1,\"a\":2}", "schema, line 1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        nb_grammar *g = NULL;
        nb_error err = {0};
        nb_status status = nb_grammar_from_schema(nb_str_of(cases[i].schema), false, &g, &err);
        if (cases[i].message[0] == 0) {
            assert_int_equal(status, NB_OK);
            nb_grammar_free(g);
        } else if (status == NB_OK || g || !strstr(err.message, cases[i].message)) {
            fail_msg("%s\n%s", cases[i].schema, err.message);
        }
    }
}

/* Order and white space, as grammar.h has them. */
static void layout(void **state)
{
    static const struct {
        const char *text;
        bool loose, compact;
    } cases[] = {{"{\"a\":1,\"b\":[]}", true, true},
                 {"{\"a\": 1, \"b\": [ ]}", true, false},
                 {"{\n  \"a\": 1,\n  \"b\": [\n    2,\n    3\n  ]\n}", true, false},
                 {"{\n\t\"a\": 1,\n\t\t\"b\":[]\n}", true, false},
                 {"{  \"a\":1,\"b\":[]}", false, false},
                 {"{\"a\" :1,\"b\":[]}", false, false},
                 {"{\n\n\"a\":1,\"b\":[]}", false, false},
                 {" {\"a\":1,\"b\":[]}", false, false},
                 {"{\"a\":1,\"b\":[]} ", false, false},
                 {"{\"b\":[],\"a\":1}", false, false},
                 {"{\"a\":1}", true, true},
                 {"{\"a\":1,\"c\":1}", false, false}};
    nb_str schema = NB_STR(
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"array\"}},"
        "\"required\":[\"a\"]}");
    (void)state;
    for (int compact = 0; compact < 2; compact++) {
        nb_grammar *g;
        nb_grammar_cache *c;
        nb_error err;
        assert_int_equal(nb_grammar_from_schema(schema, compact, &g, &err), NB_OK);
        assert_int_equal(nb_grammar_cache_new(g, NULL, &c, &err), NB_OK);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            if (accepts(c, nb_str_of(cases[i].text)) != (compact ? cases[i].compact : cases[i].loose))
                fail_msg("compact %d: %s", compact, cases[i].text);
        nb_grammar_cache_free(c);
        nb_grammar_free(g);
    }
}

/* Documents in a frame: at least one, at most as many as there may be, and nothing beside them. */
static void framed(void **state)
{
    static const nb_grammar_frame frame = {{"<c>", 3}, {"</c>", 4}, {", ", 2}, 3};
    static const struct {
        const char *text;
        bool fits;
    } cases[] = {{"<c>1</c>", true},
                 {"<c>1</c>, <c>2</c>", true},
                 {"<c>2</c>, <c>1</c>, <c>2</c>", true},
                 {"<c>1</c>, <c>1</c>, <c>1</c>, <c>1</c>", false},
                 {"", false},
                 {"1", false},
                 {"<c>3</c>", false},
                 {"<c>1</c>, ", false},
                 {"<c>1</c><c>1</c>", false},
                 {"<c>1, 2</c>", false}};
    nb_grammar *g;
    nb_grammar_cache *c;
    nb_error err;
    (void)state;
    assert_int_equal(nb_grammar_from_schema_in(NB_STR("{\"enum\":[1,2]}"), &frame, &g, &err), NB_OK);
    assert_int_equal(nb_grammar_cache_new(g, NULL, &c, &err), NB_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (accepts(c, nb_str_of(cases[i].text)) != cases[i].fits)
            fail_msg("%s", cases[i].text);
    nb_grammar_cache_free(c);
    nb_grammar_free(g);
    assert_int_equal(nb_grammar_from_schema_in(NB_STR("false"), &frame, &g, &err), NB_ERR_ARGUMENT);
}

/* ---- random schemas ---- */

static uint64_t seed;
static unsigned below(unsigned n) { return (unsigned)(nb_random(&seed) >> 20) % n; }
static bool one_in(unsigned n) { return below(n) == 0; }

static json_t *random_schema(int depth);

static void put_bounds(json_t *s, const char *least, const char *most, int low, int spread)
{
    int from = low + (int)below((unsigned)spread);
    if (one_in(2))
        json_object_set_new(s, least, json_integer(from));
    if (one_in(2))
        json_object_set_new(s, most, json_integer(from + (int)below((unsigned)spread)));
}

static json_t *random_string(void)
{
    static const char *const patterns[] = {
        "^[a-c]{1,4}$", "x",        "^\\d{3}-[A-Z]+$",   "^(red|green|blue)$", "b$", "^\\S+ \\S+$", "^[^a-z]*$",
        "^.{2,6}$",     "(ab|cd)+", "^\\w+\\.(txt|md)$", "^\xC3\xA9?[\"\\\\]x"};
    static const char *const formats[] = {"date", "time", "date-time", "ipv4", "ipv6", "uuid", "email"};
    json_t *s = json_pack("{s:s}", "type", "string");
    if (one_in(3))
        put_bounds(s, "minLength", "maxLength", 0, 9);
    if (one_in(3))
        json_object_set_new(s, "pattern", json_string(patterns[below(sizeof patterns / sizeof *patterns)]));
    else if (one_in(4))
        json_object_set_new(s, "format", json_string(formats[below(sizeof formats / sizeof *formats)]));
    return s;
}

static json_t *random_number(void)
{
    bool whole = one_in(2);
    json_t *s = json_pack("{s:s}", "type", whole ? "integer" : "number");
    double low = ((double)below(4001) - 2000) / (one_in(2) ? 1 : 8), spread = (double)below(500) / (one_in(2) ? 1 : 4);
    if (one_in(2))
        json_object_set_new(s, one_in(3) ? "exclusiveMinimum" : "minimum", json_real(low));
    if (one_in(2))
        json_object_set_new(s, one_in(3) ? "exclusiveMaximum" : "maximum", json_real(low + spread));
    if (one_in(4))
        json_object_set_new(s, "multipleOf",
                            whole ? json_integer(1 + (int)below(40)) : json_real(one_in(2) ? 0.25 : 1.5));
    return s;
}

static json_t *random_value(void)
{
    switch (below(6)) {
    case 0: return json_null();
    case 1: return json_boolean(one_in(2));
    case 2: return json_integer((int)below(2000) - 1000);
    case 3: return json_real(((double)below(2000) - 1000) / 16);
    case 4: return json_pack("[i, s, n]", (int)below(9), "x\"\\\n\xC3\xA9");
    default: return json_string(nb_words_text[40 + below(8)]);
    }
}

static json_t *random_array(int depth)
{
    json_t *s = json_pack("{s:s}", "type", "array");
    if (one_in(4)) {
        json_object_set_new(s, "uniqueItems", json_true());
        json_object_set_new(s, "items", json_pack("{s:[s, s, i, n]}", "enum", "a", "b", 1));
    } else if (one_in(4)) {
        json_object_set_new(s, "prefixItems", json_pack("[o, o]", random_schema(depth - 1), random_schema(depth - 1)));
        if (one_in(2))
            json_object_set_new(s, "items", one_in(2) ? json_false() : random_schema(depth - 1));
    } else {
        json_object_set_new(s, "items", random_schema(depth - 1));
    }
    put_bounds(s, "minItems", "maxItems", 0, 4);
    return s;
}

static json_t *random_object(int depth)
{
    json_t *s = json_pack("{s:s}", "type", "object"), *properties = json_object(), *required = json_array();
    static const char *const names[] = {"a", "b", "name", "value", "x_1", "caf\xC3\xA9", "a b", "q\"", "children"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (one_in(3)) {
            json_object_set_new(properties, names[i], random_schema(depth - 1));
            if (one_in(2))
                json_array_append_new(required, json_string(names[i]));
        }
    if (one_in(8))
        json_array_append_new(required, json_string("extra"));
    if (one_in(6))
        json_object_set_new(s, "patternProperties",
                            json_pack("{s:o, s:o}", "^n_", random_schema(depth - 1), "_", json_object()));
    if (one_in(6))
        put_bounds(s, "minProperties", "maxProperties", 0, 3);
    if (one_in(2))
        json_object_set_new(s, "additionalProperties",
                            one_in(2)   ? json_false()
                            : one_in(2) ? json_true()
                                        : random_schema(depth - 1));
    json_object_set_new(s, "properties", properties);
    json_object_set_new(s, "required", required);
    return s;
}

/* Branches that a const tells apart, or types, or ranges. */
static json_t *random_one_of(int depth)
{
    if (one_in(3))
        return json_pack("{s:[o, {s:s}, {s:s}]}", "oneOf", random_string(), "type", "null", "type", "boolean");
    if (one_in(3))
        return json_pack("{s:[{s:s, s:i}, {s:s, s:i}, o]}", "oneOf", "type", "integer", "maximum", 5, "type", "number",
                         "exclusiveMinimum", 5, random_array(depth - 1));
    json_t *list = json_array();
    for (int i = 0; i < 3; i++) {
        json_t *branch = random_object(depth - 1), *kind = json_pack("{s:s}", "const", nb_words_text[45 + i]);
        json_object_set_new(json_object_get(branch, "properties"), "kind", kind);
        json_array_append_new(json_object_get(branch, "required"), json_string("kind"));
        json_array_append_new(list, branch);
    }
    return json_pack("{s:o}", "oneOf", list);
}

static json_t *random_all_of(int depth)
{
    json_t *a, *b;
    switch (below(3)) {
    case 0:
        a = random_string();
        b = random_string();
        break;
    case 1:
        a = random_number();
        b = random_number();
        break;
    default: a = random_object(depth - 1); b = random_object(depth - 1);
    }
    return json_pack("{s:[o], s:[o]}", "allOf", a, one_in(2) ? "anyOf" : "allOf", b);
}

static json_t *random_schema(int depth)
{
    unsigned kind = below(depth > 0 ? 14 : 6);
    switch (kind) {
    case 0: return one_in(3) ? json_pack("{s:[s, s]}", "type", "null", "boolean") : random_string();
    case 1: return random_number();
    case 2: return json_pack("{s:[o, o, o]}", "enum", random_value(), random_value(), random_value());
    case 3: return json_pack("{s:o}", "const", random_value());
    case 4: return one_in(2) ? json_true() : json_pack("{s:[s, s], s:i}", "type", "string", "integer", "maxLength", 3);
    case 5: return random_string();
    case 6:
    case 7: return random_array(depth);
    case 8:
    case 9: return random_object(depth);
    case 10: return json_pack("{s:[o, o]}", "anyOf", random_schema(depth - 1), random_schema(depth - 1));
    case 11: return random_one_of(depth);
    case 12: return random_all_of(depth);
    default: return json_pack("{s:s}", "$ref", one_in(2) ? "#/$defs/tree" : "#/$defs/any");
    }
}

static json_t *random_root(void)
{
    json_t *s = random_schema(3);
    json_t *tree = json_pack("{s:s, s:{s:o, s:{s:s, s:{s:s}}}, s:[s], s:b}", "type", "object", "properties", "value",
                             random_schema(1), "children", "type", "array", "items", "$ref", "#/$defs/tree", "required",
                             "value", "additionalProperties", 0);
    if (!json_is_object(s)) {
        json_decref(s);
        s = json_object();
    }
    json_object_set_new(s, "$defs", json_pack("{s:o, s:o}", "tree", tree, "any", random_schema(0)));
    return s;
}

/* ---- random replies ---- */

/* Any allowed token; once the reply is long, one that closes something, if there is one. */
static int32_t draw(const uint32_t *bits, int step)
{
    static const char closing[] = "\"}]";
    int32_t some[NB_WORDS_COUNT], n = 0;
    if (step > 60)
        for (int32_t id = NB_WORDS_END; id <= NB_WORDS_END_TURN; id++)
            if (bits[id / 32] >> id % 32 & 1)
                return id;
    for (int i = 0; i < 3 && step > 60 && step % 5; i++)
        if (bits[closing[i] / 32] >> closing[i] % 32 & 1)
            return closing[i];
    for (int32_t id = 0; id < NB_WORDS_COUNT; id++)
        if (bits[id / 32] >> id % 32 & 1)
            some[n++] = id;
    return some[below((unsigned)n)];
}

static void compare_some(nb_grammar_state *s, const uint32_t *bits, const char *written, const nb_buf *text)
{
    uint32_t copy[(NB_WORDS_COUNT + 31) / 32];
    memcpy(copy, bits, sizeof copy);
    for (int i = 0; i < 8; i++) {
        int32_t id = (int32_t)below(NB_WORDS_COUNT);
        if ((copy[id / 32] >> id % 32 & 1) != nb_grammar_allows(s, id))
            fail_msg("token %d of %s is%s in the mask, after %s", id, written, nb_grammar_allows(s, id) ? " not" : "",
                     text->len ? text->data : "nothing");
    }
}

/* Writes a reply; false when it does not end in time. */
static bool random_reply(nb_grammar_cache *c, const char *written, nb_buf *text)
{
    nb_grammar_state *s;
    nb_error err;
    bool ended = false;
    nb_buf_clear(text);
    assert_int_equal(nb_grammar_state_new(c, &s, &err), NB_OK);
    for (int step = 0; step < 3000 && !ended; step++) {
        const uint32_t *bits;
        if (nb_grammar_mask(s, &bits, &err) != NB_OK)
            fail_msg("%s\nafter %s", err.message, text->len ? text->data : "");
        compare_some(s, bits, written, text);
        assert_int_equal(nb_grammar_mask(s, &bits, &err), NB_OK);
        int32_t id = draw(bits, step);
        ended = nb_tokenizer_ends(tokenizer, id);
        if (nb_grammar_accept(s, id, &err) != NB_OK)
            fail_msg("%s: token %d after %s: %s", written, id, text->len ? text->data : "nothing", err.message);
        if (!ended)
            assert_int_equal(nb_tokenizer_bytes(tokenizer, id, text, &err), NB_OK);
    }
    nb_grammar_state_free(s);
    return ended;
}

static void check_reply(json_t *schema, const char *written, const nb_buf *text)
{
    json_error_t error;
    json_t *v = json_loadb(text->data, text->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!v && json_error_code(&error) != json_error_null_byte_in_key) /* which jansson cannot hold */
        fail_msg("%s\nwrote %s: %s", written, text->data, error.text);
    if (v && !sc_fits(schema, schema, v))
        fail_msg("%s\nwrote %s", written, text->data);
    json_decref(v);
}

static void random_schemas(void **state)
{
    int schemas = NB_TEST_SLOW ? 100 : 700, made = 0, never = 0, refused = 0, replies = 0, unfinished = 0;
    nb_buf text = {0};
    (void)state;
    for (int i = 0; i < schemas; i++) {
        nb_grammar *g;
        nb_grammar_cache *c;
        nb_error err = {0};
        seed = 0x9E3779B97F4A7C15u * (uint64_t)(i + 1);
        json_t *schema = random_root();
        char *written = json_dumps(schema, JSON_COMPACT);
        nb_status status = nb_grammar_from_schema(nb_str_of(written), one_in(4), &g, &err);
        never += status == NB_ERR_ARGUMENT && strstr(err.message, "no text can ever match");
        refused += status == NB_ERR_UNSUPPORTED;
        if (status != NB_OK && status != NB_ERR_UNSUPPORTED && !strstr(err.message, "no text can ever match"))
            fail_msg("%s\n%s", written, err.message);
        if (status == NB_OK) {
            made++;
            assert_int_equal(nb_grammar_cache_new(g, vocab, &c, &err), NB_OK);
            for (int k = 0; k < 4; k++) {
                bool ended = random_reply(c, written, &text);
                replies += ended;
                unfinished += !ended;
                if (ended)
                    check_reply(schema, written, &text);
            }
            nb_grammar_cache_free(c);
            nb_grammar_free(g);
        }
        free(written);
        json_decref(schema);
    }
    nb_buf_free(&text);
    print_message("%d schemas, %d refused, %d never; %d replies, %d not ended\n", made, refused, never, replies,
                  unfinished);
    assert_true(made >= schemas * 7 / 10 && unfinished * 20 < replies);
}

/* ---- memory ---- */

static nb_status compile_once(nb_error *err)
{
    nb_grammar *g;
    nb_str schema = NB_STR(
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"^[a-f]{2}$\"},"
        "\"b\":{\"anyOf\":[{\"type\":\"integer\",\"minimum\":3},{\"$ref\":\"#\"}]},\"c\":{\"enum\":[1,\"x\"]},"
        "\"d\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":9}}},"
        "\"additionalProperties\":{\"type\":\"null\"}}");
    nb_status status = nb_grammar_from_schema(schema, false, &g, err);
    nb_grammar_free(g);
    return status;
}

static void out_of_memory(void **state)
{
    nb_status status = NB_ERR_MEMORY;
    (void)state;
#ifndef NB_SANITIZED
    for (long n = 1; status != NB_OK; n += 1 + n / 200) {
        nb_error err = {0};
        long live = nb_allocations.live;
        nb_allocations.count = 0;
        nb_allocations.fail_at = n;
        status = compile_once(&err);
        nb_allocations.fail_at = 0;
        assert_int_equal(nb_allocations.live, live);
        assert_true(status == NB_OK || err.message[0]);
        assert_true(n < 1000000);
    }
#else
    status = compile_once(NULL);
#endif
    assert_int_equal(status, NB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_documents), cmocka_unit_test(refuses),
                                       cmocka_unit_test(layout),          cmocka_unit_test(framed),
                                       cmocka_unit_test(random_schemas),  cmocka_unit_test(out_of_memory)};
    return cmocka_run_group_tests(tests, make_vocab, free_vocab);
}
