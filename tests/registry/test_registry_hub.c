/* The hub's files by its API: which ones a name means, the cache that its own tools share, tokens, hashes; and what a name, header
 * field or answer is taken for. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "registry/fields.h"
#include "registry/hub.h"
#include "registry/token.h"
#include "store/library.h"
#include "support/hostile.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static hostile server;
static char home[96], store[96];

static int begin(void **state)
{
    (void)state;
    hostile_alone();
    if (!hostile_start(&server))
        return -1;
    snprintf(home, sizeof home, "%s/hf", server.folder);
    snprintf(store, sizeof store, "%s/store", server.folder);
    setenv("HF_HOME", home, 1);
    setenv("HF_ENDPOINT", server.at, 1);
    return 0;
}

static int end(void **state)
{
    (void)state;
    hostile_stop(&server);
    return 0;
}

static int fresh(void **state)
{
    (void)state;
    hostile_remove(home);
    hostile_remove(store);
    hostile_forget(&server);
    return 0;
}

static nb_transfer_params quick(void)
{
    return (nb_transfer_params){.root = store, .attempts = 3, .backoff_ms = 20, .connections = 3, .part_bytes = 100000};
}

static nb_status pull(const char *name, nb_buf *where, nb_error *err)
{
    nb_transfer_params p = quick();
    nb_buf_clear(where);
    *err = (nb_error){0};
    return nb_pull(name, &p, where, err);
}

/* The path it gives ends so, below the cache of u/REPO. */
static void pulls(const char *name, const char *repo, const char *file, nb_buf *where)
{
    nb_error err;
    char wanted[300];
    if (pull(name, where, &err) != NB_OK)
        fail_msg("%s: %s", name, err.message);
    snprintf(wanted, sizeof wanted, "%s/hub/models--u--%s/snapshots/" COMMIT "%s", home, repo, file);
    assert_string_equal(where->data, wanted);
}

static void check_file(const char *path, const char *content)
{
    nb_buf a = {0}, b = {0};
    char wanted[160];
    nb_error err;
    snprintf(wanted, sizeof wanted, "%s/content/%s", server.folder, content);
    if (nb_file_read(path, 1 << 22, &a, &err) != NB_OK || nb_file_read(wanted, 1 << 22, &b, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    nb_buf_free(&a);
    nb_buf_free(&b);
}

static bool is_there(const char *folder, const char *file)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return access(path, R_OK) == 0;
}

static void fetches_a_checkpoint_as_a_directory(void **state)
{
    nb_buf where = {0};
    char path[400];
    (void)state;
    pulls("hf://u/ck", "ck", "", &where);
    snprintf(path, sizeof path, "%s/model-00001-of-00002.safetensors", where.data);
    check_file(path, "ck1");
    snprintf(path, sizeof path, "%s/model-00002-of-00002.safetensors", where.data);
    check_file(path, "ck2");
    assert_true(is_there(where.data, "config.json") && is_there(where.data, "tokenizer.json"));
    assert_false(is_there(where.data, "README.md") || is_there(where.data, "consolidated.00.safetensors") ||
                 is_there(where.data, "onnx"));
    /* as huggingface_hub lays it out: a link to a blob under its ETag, and the branch's commit */
    char target[200];
    ssize_t n = readlink(path, target, sizeof target - 1);
    assert_true(n > 0);
    target[n] = 0;
    assert_int_equal(strncmp(target, "../../blobs/", 12), 0);
    assert_int_equal(strlen(target), 12 + 64);
    nb_buf ref = {0};
    snprintf(path, sizeof path, "%s/hub/models--u--ck/refs/main", home);
    assert_int_equal(nb_file_read(path, 100, &ref, NULL), NB_OK);
    assert_string_equal(ref.data, COMMIT);
    /* again: only the list is asked for */
    hostile_forget(&server);
    pulls("hf://u/ck@main", "ck", "", &where);
    assert_int_equal(hostile_asked(&server, "A", "").requests, 1);
    assert_int_equal(hostile_asked(&server, "B", "").requests, 0);
    nb_buf_free(&ref);
    nb_buf_free(&where);
}

static void fetches_all_parts_of_a_file(void **state)
{
    nb_buf where = {0};
    nb_error err;
    char path[400];
    (void)state;
    pulls("hf://u/shards/q/m-Q8_0-00002-of-00003.gguf", "shards", "/q/m-Q8_0-00001-of-00003.gguf", &where);
    for (int i = 1; i <= 3; i++) {
        char content[16];
        snprintf(path, sizeof path, "%.*s/m-Q8_0-%05d-of-00003.gguf", (int)(strrchr(where.data, '/') - where.data),
                 where.data, i);
        snprintf(content, sizeof content, "shard%d", i);
        check_file(path, content);
    }
    pulls("hf://u/shards", "shards", "/q/m-Q8_0-00001-of-00003.gguf", &where);
    assert_int_equal(pull("hf://u/missing/q/m-Q8_0-00001-of-00003.gguf", &where, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "part 2 is missing"));
    nb_buf_free(&where);
}

static void chooses_among_files(void **state)
{
    nb_buf where = {0};
    nb_error err;
    (void)state;
    pulls("hf://u/two", "two", "/m-Q4_K_M.gguf", &where);
    check_file(where.data, "two1");
    pulls("hf://u/two/m-Q8_0.gguf", "two", "/m-Q8_0.gguf", &where);
    check_file(where.data, "two2");
    assert_int_equal(pull("hf://u/many", &where, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "a-Q8_0.gguf, b-Q6_K.gguf"));
    assert_int_equal(pull("hf://u/two/none.gguf", &where, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "m-Q8_0.gguf"));
    assert_int_equal(pull("hf://u/nobody", &where, &err), NB_ERR_NOT_FOUND);
    pulls("hf://u/nolist", "nolist", "/m-Q4_K_M.gguf", &where); /* sizes and hashes by HEAD */
    check_file(where.data, "two1");
    nb_buf_free(&where);
}

static void uses_what_the_cache_has(void **state)
{
    nb_buf where = {0}, offline = {0};
    nb_error err;
    nb_transfer_params p = quick();
    (void)state;
    pulls("hf://u/two/m-Q8_0.gguf", "two", "/m-Q8_0.gguf", &where);
    p.registry = "http://127.0.0.1:1"; /* nobody */
    if (nb_pull("hf://u/two/m-Q8_0.gguf", &p, &offline, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_string_equal(where.data, offline.data);
    assert_int_equal(nb_pull("hf://u/two/m-Q4_K_M.gguf", &p, NULL, &err), NB_ERR_IO);
    hostile_forget(&server); /* a commit cannot change: nobody is asked */
    pulls("hf://u/two/m-Q8_0.gguf@" COMMIT, "two", "/m-Q8_0.gguf", &where);
    assert_int_equal(hostile_asked(&server, "A", "").requests, 0);
    nb_buf_free(&where);
    nb_buf_free(&offline);
}

/* ---- in the store ---- */

static void hear(void *user, const nb_transfer_event *e)
{
    if (strstr(e->status, "listed"))
        snprintf(user, 300, "%s", e->status);
}

static bool listed(const char *name)
{
    nb_library *l;
    nb_entry *e = NULL;
    const nb_facts *facts;
    assert_int_equal(nb_library_open(&(nb_library_params){.root = store}, &l, NULL), NB_OK);
    bool is = nb_library_find(l, nb_str_of(name), &e, NULL) == NB_OK && nb_entry_facts(e, &facts, NULL) == NB_OK &&
              nb_str_eqz(facts->architecture, "llama");
    nb_entry_release(e);
    nb_library_close(l);
    return is;
}

/* The same bytes, not a copy of them; by the name that hf.co has for it. What is no model is said to be none. */
static void lists_what_it_fetches(void **state)
{
    nb_buf where = {0};
    nb_error err = {0};
    char heard[300] = "", command[500];
    nb_transfer_params p = quick();
    (void)state;
    p.tell = hear;
    p.user = heard;
    for (int again = 0; again < 2; again++) {
        nb_buf_clear(&where);
        if (nb_pull("hf://u/real/tiny-BF16.gguf", &p, &where, &err) != NB_OK)
            fail_msg("%s", err.message);
        assert_string_equal(heard, "listed as hf.co/u/real:BF16");
        assert_true(listed("hf.co/u/real:BF16"));
    }
    snprintf(command, sizeof command, "test %s -ef %s/blobs/sha256-$(sha256sum < %s | cut -c 1-64)", where.data, store,
             where.data);
    assert_int_equal(system(command), 0);
    assert_int_equal(nb_pull("hf://u/real/sub/odd.gguf", &p, &where, &err), NB_OK);
    assert_true(listed("hf.co/u/real:odd.gguf"));
    assert_int_equal(nb_pull("hf://u/two/m-Q8_0.gguf", &p, &where, &err), NB_OK);
    assert_int_equal(strncmp(heard, "not listed: ", 12), 0);
    assert_false(listed("hf.co/u/two:Q8_0"));
    /* without the store the file is fetched all the same */
    snprintf(command, sizeof command, "rm -rf %s && touch %s", store, store);
    assert_int_equal(system(command), 0);
    assert_int_equal(nb_pull("hf://u/real/tiny-BF16.gguf", &p, &where, &err), NB_OK);
    assert_int_equal(strncmp(heard, "not listed: ", 12), 0);
    nb_buf_free(&where);
}

static void sends_the_token_to_the_hub_alone(void **state)
{
    nb_buf where = {0};
    nb_error err;
    (void)state;
    assert_int_equal(pull("hf://u/gated", &where, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "HF_TOKEN"));
    setenv("HF_TOKEN", "hf_secret", 1);
    hostile_forget(&server);
    pulls("hf://u/gated", "gated", "/m-Q4_K_M.gguf", &where);
    unsetenv("HF_TOKEN");
    assert_true(hostile_asked(&server, "A", "").with_token >= 2);
    assert_true(hostile_asked(&server, "B", "/cdn/hub/gated").requests >= 1);
    assert_int_equal(hostile_asked(&server, "B", "").with_token, 0);
    nb_buf_free(&where);
}

static void refuses_damage_and_tricks(void **state)
{
    nb_buf where = {0};
    nb_error err;
    (void)state;
    assert_int_equal(pull("hf://u/corrupt", &where, &err), NB_ERR_FORMAT);
    assert_non_null(strstr(err.message, "hash"));
    assert_int_equal(pull("hf://u/changed", &where, &err), NB_ERR_FORMAT);
    assert_non_null(strstr(err.message, "changed"));
    assert_int_equal(pull("hf://u/evil", &where, &err), NB_ERR_FORMAT);
    assert_non_null(strstr(err.message, "leads out"));
    static const char *const names[] = {"hf://",       "hf://u",       "hf://u/",          "hf:///r",
                                        "hf://u/..",   "hf://../r",    "hf://u/r/../x",    "hf://u/r/",
                                        "hf://u/r//x", "hf://u/r@",    "hf://u/r@../main", "hf://u/r/x\ny",
                                        "hf://u/.r",   "hf://u/r@a b", "hf://u/r/./x",     "hf://u/r/x\\y"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(pull(names[i], &where, &err), NB_ERR_ARGUMENT);
    nb_buf_free(&where);
}

/* ---- header fields ---- */

static void reads_ranges(void **state)
{
    nb_range r;
    uint64_t n;
    (void)state;
    assert_true(nb_range_parse(NB_STR("bytes 0-9/100"), &r) && r.first == 0 && r.last == 9 && r.total == 100);
    assert_true(nb_range_parse(NB_STR("Bytes 5-5/*"), &r) && r.first == 5 && r.total == UINT64_MAX);
    static const char *const bad[] = {"",
                                      "bytes",
                                      "bytes */10",
                                      "bytes 9-0/100",
                                      "bytes 0-100/100",
                                      "bytes 0-9/100x",
                                      "bytes -1-9/10",
                                      "items 0-9/100",
                                      "bytes 0-9",
                                      "bytes 18446744073709551616-1/2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(nb_range_parse(nb_str_of(bad[i]), &r));
    assert_true(nb_upload_range_parse(NB_STR("0-99"), &n) && n == 100);
    assert_true(nb_upload_range_parse(NB_STR("bytes=0-0"), &n) && n == 1);
    assert_false(nb_upload_range_parse(NB_STR("1-99"), &n) ||
                 nb_upload_range_parse(NB_STR("0-18446744073709551615"), &n));
    assert_true(nb_length_parse(NB_STR("18446744073709551615"), &n) && n == UINT64_MAX);
    assert_false(nb_length_parse(NB_STR("18446744073709551616"), &n) || nb_length_parse(NB_STR("+1"), &n) ||
                 nb_length_parse(NB_STR(""), &n) || nb_length_parse(NB_STR("1 "), &n));
}

static void reads_challenges(void **state)
{
    nb_challenge c;
    (void)state;
    assert_true(nb_challenge_parse(
        NB_STR("Bearer realm=\"https://a/token\",service=\"a b\", scope=\"repository:x/y:pull,push\""), &c));
    assert_true(nb_str_eqz(c.realm, "https://a/token") && nb_str_eqz(c.service, "a b") &&
                nb_str_eqz(c.scope, "repository:x/y:pull,push"));
    assert_true(nb_challenge_parse(NB_STR("bearer REALM=abc , error = \"x\""), &c) && nb_str_eqz(c.realm, "abc"));
    static const char *const bad[] = {"",
                                      "Bearer",
                                      "Basic realm=\"x\"",
                                      "Bearer service=\"x\"",
                                      "Bearer realm=\"x",
                                      "Bearer realm=\"x\",realm=\"y\"",
                                      "Bearer realm=\"x\\\"y\"",
                                      "Bearer realm=\"x\ty\"",
                                      "Bearerrealm=\"x\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(nb_challenge_parse(nb_str_of(bad[i]), &c));
}

static void reads_etags_shards_and_tokens(void **state)
{
    nb_str s;
    size_t at;
    unsigned number, count;
    nb_arena arena = {0};
    (void)state;
    assert_true(nb_etag_parse(NB_STR("W/\"abc-1.z\""), &s) && nb_str_eqz(s, "abc-1.z"));
    assert_true(nb_etag_parse(NB_STR("abc"), &s));
    assert_false(nb_etag_parse(NB_STR("\"../x\""), &s) || nb_etag_parse(NB_STR("\"\""), &s) ||
                 nb_etag_parse(NB_STR("\"a"), &s) || nb_etag_parse(NB_STR("a/b"), &s));
    assert_true(nb_shard_parse(NB_STR("a/m-00002-of-00013.gguf"), &at, &number, &count) && at == 4 && number == 2 &&
                count == 13);
    assert_false(nb_shard_parse(NB_STR("m-00014-of-00013.gguf"), &at, &number, &count) ||
                 nb_shard_parse(NB_STR("m-00000-of-00013.gguf"), &at, &number, &count) ||
                 nb_shard_parse(NB_STR("-00001-of-00002.gguf"), &at, &number, &count) ||
                 nb_shard_parse(NB_STR("m.gguf"), &at, &number, &count));
    assert_int_equal(nb_token_parse(NB_STR("{\"expires_in\":3,\"access_token\":\"ab.c\"}"), &arena, &s, NULL), NB_OK);
    assert_true(nb_str_eqz(s, "ab.c"));
    assert_int_equal(nb_token_parse(NB_STR("{\"token\":\"a\\r\\nb\"}"), &arena, &s, NULL), NB_ERR_FORMAT);
    assert_int_equal(nb_token_parse(NB_STR("{}"), &arena, &s, NULL), NB_ERR_FORMAT);
    nb_arena_free(&arena);
}

/* The key and its public half are ssh-keygen's, the signature's check is openssl's. */
static void signs_as_ollama_does(void **state)
{
    char key[128], public_path[160], command[600];
    nb_buf url = {0}, header = {0}, half = {0};
    nb_error err;
    (void)state;
    snprintf(key, sizeof key, "%s/id_ed25519", server.folder);
    snprintf(command, sizeof command,
             "cp " NB_TEST_DATA "/registry/id_ed25519 %s && cp " NB_TEST_DATA "/registry/id_ed25519.pub %s.pub", key,
             key);
    assert_int_equal(system(command), 0);
    nb_buf_z(&url, "https://ollama.com/token?service=x");
    if (nb_token_sign(key, &url, &header, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_non_null(strstr(url.data, "&ts="));
    assert_non_null(strstr(url.data, "&nonce="));
    snprintf(public_path, sizeof public_path, "%s.pub", key);
    assert_int_equal(nb_file_read(public_path, 1000, &half, &err), NB_OK);
    char *begin = strchr(half.data, ' ') + 1, *colon = strrchr(header.data, ':');
    assert_int_equal(strncmp(header.data, "Authorization: ", 15), 0);
    assert_int_equal(strncmp(header.data + 15, begin, strcspn(begin, " \n")), 0);
    /* what was signed: GET, the address, the base64 of the hex of the empty text's SHA-256 */
    snprintf(command, sizeof command, "%s/signed", server.folder);
    FILE *f = fopen(command, "w");
    fprintf(
        f, "GET,%s,ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ==", url.data);
    fclose(f);
    snprintf(command, sizeof command,
             "cd %s && echo %s | base64 -d > signature && openssl pkeyutl -verify -pubin -inkey " NB_TEST_DATA
             "/registry/id_ed25519.pem -rawin -in signed -sigfile signature > verified",
             server.folder, colon + 1);
    assert_int_equal(system(command), 0);
    nb_buf_free(&url);
    nb_buf_free(&header);
    nb_buf_free(&half);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(fetches_a_checkpoint_as_a_directory, fresh),
        cmocka_unit_test_setup(fetches_all_parts_of_a_file, fresh),
        cmocka_unit_test_setup(chooses_among_files, fresh),
        cmocka_unit_test_setup(uses_what_the_cache_has, fresh),
        cmocka_unit_test_setup(lists_what_it_fetches, fresh),
        cmocka_unit_test_setup(sends_the_token_to_the_hub_alone, fresh),
        cmocka_unit_test_setup(refuses_damage_and_tricks, fresh),
        cmocka_unit_test(reads_ranges),
        cmocka_unit_test(reads_challenges),
        cmocka_unit_test(reads_etags_shards_and_tokens),
        cmocka_unit_test(signs_as_ollama_does),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
