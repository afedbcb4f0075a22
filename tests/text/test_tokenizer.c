/* Tokenizers of small vocabularies that are written out here: rules that can be checked by hand, properties on random text,
 * and the merging loop against the plain way of doing it. */
/* cmocka.h needs the others first */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <pthread.h>

#include "support/cases.h"
#include "text/merge.h"
#include "text/tokenizer.h"

enum { MOST = 600 };

typedef struct small { /* a vocabulary under construction */
    nb_vocab v;
    nb_arena arena;
    nb_str tokens[MOST], merges[MOST];
    float scores[MOST];
    int32_t types[MOST];
} small;

static void small_init(small *s, const char *model)
{
    memset(s, 0, sizeof *s);
    nb_vocab_defaults(&s->v, nb_str_of(model));
    s->v.bos = s->v.eos = s->v.unk = s->v.pad = s->v.sep = s->v.cls = s->v.mask = -1;
    s->v.tokens = s->tokens;
    s->v.types = s->types;
    s->v.scores = s->scores;
    s->v.merges = s->merges;
}

static int32_t add(small *s, const char *piece, int type, float score)
{
    assert_true(s->v.count < MOST);
    nb_str text = nb_str_of(piece);
    s->tokens[s->v.count] = (nb_str){nb_arena_strdup(&s->arena, text), text.n};
    s->types[s->v.count] = type;
    s->scores[s->v.count] = score;
    return (int32_t)s->v.count++;
}

static int32_t merge(small *s, const char *left, const char *right) /* and the piece it makes */
{
    nb_buf text = {0};
    nb_buf_printf(&text, "%s %s", left, right);
    s->merges[s->v.merge_count++] = (nb_str){nb_arena_strdup(&s->arena, nb_buf_view(&text)), text.len};
    nb_buf_clear(&text);
    nb_buf_printf(&text, "%s%s", left, right);
    int32_t id = add(s, text.data, NB_TOKEN_NORMAL, 0);
    nb_buf_free(&text);
    return id;
}

static void add_bytes(small *s) /* GPT-2's alphabet: ids 0 to 255 are the bytes */
{
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; b++) {
        nb_buf text = {0};
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        nb_buf_utf8(&text, plain ? b : next++);
        add(s, text.data, NB_TOKEN_NORMAL, 0);
        nb_buf_free(&text);
    }
}

static nb_tokenizer *make(small *s)
{
    nb_tokenizer *t;
    nb_error err;
    if (nb_tokenizer_new(&s->v, &t, &err) != NB_OK)
        fail_msg("%s", err.message);
    return t;
}

static void done(small *s, nb_tokenizer *t)
{
    nb_tokenizer_free(t);
    nb_arena_free(&s->arena);
}

static nb_str str(const char *z) { return nb_str_of(z); }

static void expect(const nb_tokenizer *t, const char *text, unsigned flags, const int32_t *want, size_t n)
{
    nb_ids ids = {0};
    nb_error err;
    if (nb_tokenizer_encode(t, str(text), flags, &ids, &err) != NB_OK)
        fail_msg("%s", err.message);
    bool same = ids.count == n;
    for (size_t i = 0; same && i < n; i++)
        same = ids.id[i] == want[i];
    if (!same) {
        for (size_t i = 0; i < ids.count; i++)
            print_message(" %d", ids.id[i]);
        fail_msg("'%s' gave these %zu ids", text, ids.count);
    }
    nb_ids_free(&ids);
}
#define EXPECT(t, text, flags, ...)                                                                                    \
    expect(t, text, flags, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* ---- byte-level BPE ---- */
static void test_merge_order(void **state)
{
    (void)state;
    small s;
    small_init(&s, "gpt2");
    add_bytes(&s);
    int32_t bc = merge(&s, "b", "c"), ab = merge(&s, "a", "b"), abc = merge(&s, "a", "bc"), aa = merge(&s, "a", "a");
    nb_tokenizer *t = make(&s);
    EXPECT(t, "abc", 0, abc);     /* b c first, for its rank */
    EXPECT(t, "abab", 0, ab, ab); /* leftmost first */
    EXPECT(t, "aaa", 0, aa, 'a'); /* likewise */
    EXPECT(t, "aab", 0, 'a', ab); /* by rank, not from the left */
    EXPECT(t, "bcb", 0, bc, 'b');
    EXPECT(t, "\xFF\x80", 0, 0xFF, 0x80); /* not UTF-8 */
    done(&s, t);
}

static void test_ignore_merges(void **state)
{
    (void)state;
    small s;
    small_init(&s, "gpt2");
    s.v.pre = NB_STR("llama-bpe");
    add_bytes(&s);
    int32_t whole = add(&s, "whole", NB_TOKEN_NORMAL, 0), wh = merge(&s, "w", "h");
    nb_tokenizer *t = make(&s);
    EXPECT(t, "whole", 0, whole); /* no merge leads to it */
    EXPECT(t, "whol", 0, wh, 'o', 'l');
    nb_tokenizer_free(t);
    s.v.pre = NB_STR("gpt-2");
    t = make(&s);
    EXPECT(t, "whole", 0, wh, 'o', 'l', 'e');
    done(&s, t);
}

static void test_special(void **state)
{
    (void)state;
    small s;
    small_init(&s, "gpt2");
    add_bytes(&s);
    int32_t lt = add(&s, "<|a|>", NB_TOKEN_CONTROL, 0), longer = add(&s, "<|a|>>", NB_TOKEN_CONTROL, 0);
    int32_t user = add(&s, "XY", NB_TOKEN_USER_DEFINED, 0), cover = add(&s, "YXYX", NB_TOKEN_USER_DEFINED, 0);
    s.v.bos = lt;
    s.v.add_bos = true;
    nb_tokenizer *t = make(&s);
    EXPECT(t, "<|a|>", 0, '<', '|', 'a', '|', '>');
    EXPECT(t, "<|a|>", NB_ENCODE_PARSE_SPECIAL, lt);
    EXPECT(t, "<|a|>>", NB_ENCODE_PARSE_SPECIAL, longer);
    EXPECT(t, "b", NB_ENCODE_ADD_SPECIAL, lt, 'b');
    EXPECT(t, "aXYb", 0, 'a', user, 'b');
    EXPECT(t, "XYXYX", 0, 'X', cover); /* the longest first, though XY begins before it */
    EXPECT(t, "XYXYXYXYX", 0, 'X', cover, cover);
    EXPECT(t, "XYXYXY", 0, 'X', cover, 'Y');
    done(&s, t);
}

static void test_byte_round_trip(void **state)
{
    (void)state;
    small s;
    small_init(&s, "gpt2");
    add_bytes(&s);
    merge(&s, "t", "h");
    merge(&s, "th", "e");
    uint64_t seed = 7;
    nb_buf text = {0}, back = {0};
    nb_ids ids = {0};
    const char *const *names;
    size_t count = nb_pretokenizer_names(&names);
    for (size_t k = 0; k < count; k++) {
        s.v.pre = str(names[k]);
        if (nb_str_eqz(s.v.pre, "gemma4") || nb_str_eqz(s.v.pre, "sarvam-moe") ||
            nb_str_eqz(s.v.pre, "granite-embed-multi-311m"))
            continue; /* not byte-level */
        nb_tokenizer *t = make(&s);
        for (int i = 0; i < 300; i++) {
            nb_buf_clear(&text);
            for (uint64_t n = nb_random(&seed) % 100; n > 0; n--) {
                uint64_t r = nb_random(&seed);
                if (r % 4)
                    nb_buf_char(&text, (char)(r >> 8));
                else
                    nb_buf_z(&text, r % 8 ? "the 123" : "\xE6\x97\xA5\n ");
            }
            ids.count = 0;
            nb_buf_clear(&back);
            assert_int_equal(nb_tokenizer_encode(t, nb_buf_view(&text), 0, &ids, NULL), NB_OK);
            assert_int_equal(nb_tokenizer_decode(t, ids.id, ids.count, false, &back, NULL), NB_OK);
            assert_true(nb_str_eq(nb_buf_view(&text), nb_buf_view(&back)));
        }
        nb_tokenizer_free(t);
    }
    nb_ids_free(&ids);
    nb_buf_free(&text);
    nb_buf_free(&back);
    nb_arena_free(&s.arena);
}

/* ---- SentencePiece BPE ---- */
#define MARK "\xE2\x96\x81"

static void test_scores(void **state)
{
    (void)state;
    small s;
    small_init(&s, "llama");
    int32_t unk = s.v.unk = add(&s, "<unk>", NB_TOKEN_UNKNOWN, 0), bos = s.v.bos = add(&s, "<s>", NB_TOKEN_CONTROL, 0);
    int32_t x41 = add(&s, "<0xC3>", NB_TOKEN_BYTE, 0), xa9 = add(&s, "<0xA9>", NB_TOKEN_BYTE, 0);
    int32_t mark = add(&s, MARK, NB_TOKEN_NORMAL, -9), a = add(&s, "a", NB_TOKEN_NORMAL, -9),
            b = add(&s, "b", NB_TOKEN_NORMAL, -9);
    int32_t ab = add(&s, "ab", NB_TOKEN_NORMAL, -2), ba = add(&s, "ba", NB_TOKEN_NORMAL, -1),
            aa = add(&s, "aa", NB_TOKEN_NORMAL, -2);
    int32_t marked = add(&s, MARK "a", NB_TOKEN_NORMAL, -3), user = add(&s, "[u]", NB_TOKEN_USER_DEFINED, 0);
    nb_tokenizer *t = make(&s);
    EXPECT(t, "bab", 0, mark, ba, b);         /* the higher score */
    EXPECT(t, "aaab", 0, mark, aa, ab);       /* of equal ones the left */
    EXPECT(t, "a", 0, marked);                /* the space before the text */
    EXPECT(t, " a", 0, mark, marked);         /* comes besides the text's own */
    EXPECT(t, "\xC3\xA9", 0, mark, x41, xa9); /* bytes of what is no piece */
    EXPECT(t, "z", 0, mark, unk);
    EXPECT(t, "<s>a", NB_ENCODE_PARSE_SPECIAL | NB_ENCODE_ADD_SPECIAL, bos, bos, marked);
    EXPECT(t, "a[u]a", 0, marked, user, marked); /* and after a special token */
    EXPECT(t, "", NB_ENCODE_ADD_SPECIAL, bos);
    nb_tokenizer_free(t);
    s.v.add_space_prefix = false;
    t = make(&s);
    EXPECT(t, "a a", 0, a, marked);
    done(&s, t);
}

static void test_marked_round_trip(void **state)
{
    (void)state;
    small s;
    small_init(&s, "llama");
    s.v.unk = add(&s, "<unk>", NB_TOKEN_UNKNOWN, 0);
    for (int byte = 0; byte < 256; byte++) {
        char piece[8];
        snprintf(piece, sizeof piece, "<0x%02X>", byte);
        add(&s, piece, NB_TOKEN_BYTE, 0);
    }
    static const char *const pieces[] = {MARK,           "a",       "b",        "ab", (MARK "a"), "\n",
                                         "\xE6\x97\xA5", MARK MARK, ("b" MARK), "ba"};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        add(&s, pieces[i], NB_TOKEN_NORMAL, -(float)i);
    add(&s, "<x>", NB_TOKEN_CONTROL, 0);
    add(&s, "[u]", NB_TOKEN_USER_DEFINED, 0);
    static const char *const parts[] = {
        " ", "a", "ab", "b ", "  ", "\n", "\xE6\x97\xA5", "\xC3\xA9", "<x>", "[u]", "z", "\xF0\x9F\xA6\x99"};
    uint64_t seed = 5;
    nb_buf text = {0}, back = {0};
    nb_ids ids = {0};
    for (int prefix = 0; prefix < 2; prefix++) {
        s.v.add_space_prefix = prefix;
        nb_tokenizer *t = make(&s);
        for (int i = 0; i < 3000; i++) {
            nb_buf_clear(&text);
            for (uint64_t n = nb_random(&seed) % 30; n > 0; n--)
                nb_buf_z(&text, parts[nb_random(&seed) % (sizeof parts / sizeof *parts)]);
            ids.count = 0;
            nb_buf_clear(&back);
            assert_int_equal(nb_tokenizer_encode(t, nb_buf_view(&text), NB_ENCODE_PARSE_SPECIAL, &ids, NULL), NB_OK);
            assert_int_equal(nb_tokenizer_decode(t, ids.id, ids.count, true, &back, NULL), NB_OK);
            assert_true(nb_str_eq(nb_buf_view(&text), nb_buf_view(&back)));
        }
        nb_tokenizer_free(t);
    }
    nb_ids_free(&ids);
    nb_buf_free(&text);
    nb_buf_free(&back);
    nb_arena_free(&s.arena);
}

/* ---- the merging loop: three ways to find the next pair must agree with looking at all of them each time ---- */
typedef struct rules {
    uint32_t modulus, salt;
} rules;

static bool random_pair(const void *context, const nb_symbol *a, const nb_symbol *b, uint32_t *priority, int32_t *id)
{
    const rules *r = context;
    uint32_t h = ((uint32_t)a->id * 2654435761u ^ (uint32_t)b->id * 40503u ^ r->salt) * 2246822519u;
    *priority = (h >> 8) % r->modulus; /* joined ids may well have a better priority than what they were made of */
    *id = (int32_t)(h >> 16 & 15);
    return (h & 7) < 5;
}

static size_t merge_plainly(nb_symbol *s, size_t n, const rules *r)
{
    for (;;) {
        size_t best = n;
        uint32_t least = 0, priority;
        int32_t id, best_id = 0;
        for (size_t i = 0; i + 1 < n; i++)
            if (random_pair(r, &s[i], &s[i + 1], &priority, &id) && (best == n || priority < least)) {
                best = i;
                least = priority;
                best_id = id;
            }
        if (best == n)
            return n;
        s[best].id = best_id;
        s[best].bytes += s[best + 1].bytes;
        memmove(&s[best + 1], &s[best + 2], (n - best - 2) * sizeof *s);
        n--;
    }
}

static void test_merge_loop(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 9, 23, 24, 25, 60, 300, 2047, 2049, 2500};
    uint64_t seed = 3;
    nb_merger m = {0};
    nb_symbol *plain = malloc(2500 * sizeof *plain);
    assert_non_null(plain);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int round = 0; round < (sizes[k] < 1000 ? 60 : 4); round++) {
            size_t n = sizes[k];
            rules r = {.modulus = round % 3 == 0   ? 3
                                  : round % 3 == 1 ? 40
                                                   : 1u << 24,
                       .salt = (uint32_t)nb_random(&seed)};
            assert_true(nb_merger_reserve(&m, n));
            m.count = n;
            for (size_t i = 0; i < n; i++)
                plain[i] = m.symbols[i] = (nb_symbol){
                    .id = (int32_t)(nb_random(&seed) % 3), .start = (uint32_t)i, .bytes = 1};
            assert_true(nb_merger_run(&m, random_pair, &r));
            assert_int_equal(m.count, merge_plainly(plain, n, &r));
            assert_memory_equal(m.symbols, plain, m.count * sizeof *plain);
        }
    free(plain);
    nb_merger_free(&m);
}

/* ---- streaming ---- */
static void stream(const nb_tokenizer *t, const int32_t *ids, size_t n, const char *want)
{
    nb_detok d = {.tokenizer = t};
    nb_buf out = {0};
    for (size_t i = 0; i < n; i++) {
        size_t before = out.len;
        assert_int_equal(nb_detok_push(&d, ids[i], &out, NULL), NB_OK);
        for (size_t k = before; k < out.len; k++) /* what comes begins with a code point and ends with one */
            assert_true(k > before || ((unsigned char)out.data[k] & 0xC0) != 0x80);
    }
    nb_detok_flush(&d, &out);
    assert_string_equal(out.data ? out.data : "", want);
    nb_buf_free(&out);
}

static void test_streaming(void **state)
{
    (void)state;
    small s;
    small_init(&s, "gpt2");
    add_bytes(&s);
    nb_tokenizer *t = make(&s);
    stream(t, (const int32_t[]){'a', 0xF0, 0x9F, 0xA6, 0x99, 'b'}, 6,
           "a\xF0\x9F\xA6\x99"
           "b");
    stream(t, (const int32_t[]){0xE6, 0x97}, 2, "\xEF\xBF\xBD"); /* cut off */
    stream(t, (const int32_t[]){0xE6, 0x97, 'x', 0x80}, 4,
           "\xEF\xBF\xBD"
           "x\xEF\xBF\xBD"); /* never whole */
    stream(t, (const int32_t[]){0xE6, 0xC3, 0xA9}, 3, "\xEF\xBF\xBD\xC3\xA9");
    stream(t, (const int32_t[]){0xED, 0xA0, 0x80}, 3, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"); /* a surrogate */
    nb_detok d = {.tokenizer = t};
    nb_buf out = {0};
    nb_error err;
    assert_int_equal(nb_detok_push(&d, 256, &out, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_detok_push(&d, -1, &out, &err), NB_ERR_ARGUMENT);
    assert_int_equal(nb_tokenizer_decode(t, (const int32_t[]){300}, 1, false, &out, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "300"));
    nb_buf_free(&out);
    done(&s, t);
}

/* ---- what ends a reply ---- */
static void test_ends(void **state)
{
    (void)state;
    small s;
    small_init(&s, "gpt2");
    add_bytes(&s);
    int32_t eos = s.v.eos = add(&s, "<|endoftext|>", NB_TOKEN_CONTROL, 0),
            end = add(&s, "<|im_end|>", NB_TOKEN_NORMAL, 0);
    int32_t start = add(&s, "<|im_start|>", NB_TOKEN_CONTROL, 0);
    nb_tokenizer *t = make(&s);
    assert_true(nb_tokenizer_ends(t, eos));
    assert_true(nb_tokenizer_ends(t, end));
    assert_int_equal(nb_tokenizer_type(t, end), NB_TOKEN_CONTROL); /* whatever the file says */
    assert_false(nb_tokenizer_ends(t, start));
    assert_false(nb_tokenizer_ends(t, 'a'));
    assert_false(nb_tokenizer_ends(t, -1));
    assert_false(nb_tokenizer_ends(t, 100000));
    assert_int_equal(nb_tokenizer_find(t, NB_STR("<|im_end|>")), end);
    assert_int_equal(nb_tokenizer_find(t, NB_STR("nothing")), -1);
    assert_int_equal(nb_tokenizer_piece(t, -5).n, 0);
    done(&s, t);
}

/* ---- vocabularies that make no sense ---- */
static void refuse(small *s, const char *why)
{
    nb_tokenizer *t;
    nb_error err = {0};
    assert_true(nb_tokenizer_new(&s->v, &t, &err) != NB_OK);
    assert_null(t);
    if (!strstr(err.message, why))
        fail_msg("'%s' does not say '%s'", err.message, why);
}

static void test_refusals(void **state)
{
    (void)state;
    small s;
    small_init(&s, "llama");
    refuse(&s, "0 tokens");
    add(&s, "a", NB_TOKEN_NORMAL, 0);
    s.v.eos = 1;
    refuse(&s, "eos");
    s.v.eos = -7;
    refuse(&s, "-7");
    s.v.eos = -1;
    s.scores[0] = (float)strtod("nan", NULL);
    refuse(&s, "score");
    s.scores[0] = 0;
    s.types[0] = 7;
    refuse(&s, "type 7");
    s.types[0] = 1;
    s.v.scores = NULL;
    refuse(&s, "score");
    s.v.model = NB_STR("rwkv");
    refuse(&s, "'rwkv'");
    s.v.model = NB_STR("bert");
    refuse(&s, "unknown token");
    s.v.model = NB_STR("t5");
    refuse(&s, "score");
    s.v.model = NB_STR("gpt2");
    s.v.pre = NB_STR("no-such");
    refuse(&s, "--pre");
    s.v.model = NB_STR("t5");
    s.v.scores = s.scores;
    s.v.unk = 0;
    for (size_t bytes = 1; bytes < 12; bytes++) { /* a map that claims more than there is */
        s.v.charsmap = (const unsigned char *)"\x08\0\0\0\0\0\0\0\0\0\0\1";
        s.v.charsmap_bytes = bytes;
        refuse(&s, "charsmap");
    }
    nb_arena_free(&s.arena);
}

/* ---- one tokenizer, several threads ---- */
typedef struct shared {
    const nb_tokenizer *t;
    nb_str text;
    nb_ids ids;
    nb_status status;
} shared;

static void *encode_many(void *arg)
{
    shared *x = arg;
    for (int i = 0; i < 20 && x->status == NB_OK; i++) {
        x->ids.count = 0;
        x->status = nb_tokenizer_encode(x->t, x->text, 0, &x->ids, NULL);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    small s;
    small_init(&s, "gpt2");
    s.v.pre = NB_STR("tekken"); /* through PCRE2 */
    add_bytes(&s);
    merge(&s, "a", "b");
    nb_tokenizer *t = make(&s);
    nb_buf text = {0};
    for (int i = 0; i < 500; i++)
        nb_buf_printf(&text, "ab%d Cab ", i);
    shared x[4] = {0};
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) {
        x[i] = (shared){.t = t, .text = nb_buf_view(&text)};
        assert_int_equal(pthread_create(&thread[i], NULL, encode_many, &x[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(x[i].status, NB_OK);
        assert_int_equal(x[i].ids.count, x[0].ids.count);
        assert_memory_equal(x[i].ids.id, x[0].ids.id, x[0].ids.count * sizeof(int32_t));
    }
    for (int i = 0; i < 4; i++)
        nb_ids_free(&x[i].ids);
    nb_buf_free(&text);
    done(&s, t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge_order),
        cmocka_unit_test(test_ignore_merges),
        cmocka_unit_test(test_special),
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_marked_round_trip),
        cmocka_unit_test(test_byte_round_trip),
        cmocka_unit_test(test_merge_loop),
        cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
