/* Names of models and the one function that makes paths of names and digests. The valid and invalid names, and what they
 * print as, are Ollama's rules; the refused paths are the holes that stores like this one have had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/digest.h"
#include "store/name.h"

static void parses(void **state)
{
    (void)state;
    static const char *const rows[][6] = {
        /* text, host, namespace, model, tag, printed */
        {"llama3.2", "registry.ollama.ai", "library", "llama3.2", "latest", "llama3.2:latest"},
        {"llama3.2:1b", "registry.ollama.ai", "library", "llama3.2", "1b", "llama3.2:1b"},
        {"library/x", "registry.ollama.ai", "library", "x", "latest", "x:latest"},
        {"Library/X:L", "registry.ollama.ai", "Library", "X", "L", "X:L"},
        {"user/x:t", "registry.ollama.ai", "user", "x", "t", "user/x:t"},
        {"REGISTRY.OLLAMA.AI/user/x", "REGISTRY.OLLAMA.AI", "user", "x", "latest", "user/x:latest"},
        {"hf.co/user/Repo-GGUF:Q4_K_M", "hf.co", "user", "Repo-GGUF", "Q4_K_M", "hf.co/user/Repo-GGUF:Q4_K_M"},
        {"localhost:5000/ns/m", "localhost:5000", "ns", "m", "latest", "localhost:5000/ns/m:latest"},
        {"http://localhost:5000/ns/m:t", "localhost:5000", "ns", "m", "t", "localhost:5000/ns/m:t"},
        {"https://example.com/ns/m", "example.com", "ns", "m", "latest", "example.com/ns/m:latest"},
        {"_a/_b:_c", "registry.ollama.ai", "_a", "_b", "_c", "_a/_b:_c"},
        {"a.b-c_d:1.2-3_4", "registry.ollama.ai", "library", "a.b-c_d", "1.2-3_4", "a.b-c_d:1.2-3_4"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_name n;
        nb_error err;
        char text[NB_NAME_TEXT];
        if (nb_name_parse(nb_str_of(rows[i][0]), &n, &err) != NB_OK)
            fail_msg("%s", err.message);
        assert_string_equal(n.host, rows[i][1]);
        assert_string_equal(n.space, rows[i][2]);
        assert_string_equal(n.model, rows[i][3]);
        assert_string_equal(n.tag, rows[i][4]);
        assert_int_equal(n.plain, strncmp(rows[i][0], "http:", 5) == 0);
        nb_name_print(&n, text);
        assert_string_equal(text, rows[i][5]);
    }
}

static void refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      ":",
                                      "/",
                                      "a/",
                                      "/a",
                                      "a:",
                                      ":t",
                                      "a/b/",
                                      "a//b",
                                      "../x",
                                      "x/..",
                                      "..",
                                      ".",
                                      "a/../b",
                                      "-a",
                                      ".hidden",
                                      "a/-b",
                                      "a b",
                                      "a\tb",
                                      "a\nb",
                                      "n.s/m",
                                      "a/b/c/d",
                                      "host:port/m",
                                      "a@sha256:00",
                                      "a\\b",
                                      "a/b:c/d",
                                      "a:b:c",
                                      "\xc3\xa9",
                                      "a%2fb",
                                      "file:///etc/passwd",
                                      "hf://user/repo",
                                      "a:t t",
                                      "a:..",
                                      "a:.t",
                                      "a?b",
                                      "~",
                                      "$HOME",
                                      "*"};
    char longest[200];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        nb_name n;
        nb_error err = {0};
        if (nb_name_parse(nb_str_of(bad[i]), &n, &err) != NB_ERR_ARGUMENT)
            fail_msg("taken: %s", bad[i]);
        assert_non_null(strstr(err.message, "invalid model name"));
    }
    nb_name n;
    assert_int_equal(nb_name_parse((nb_str){"a\0b", 3}, &n, NULL), NB_ERR_ARGUMENT);
    memset(longest, 'a', sizeof longest);
    assert_int_equal(nb_name_parse((nb_str){longest, 80}, &n, NULL), NB_OK);
    assert_int_equal(nb_name_parse((nb_str){longest, 81}, &n, NULL), NB_ERR_ARGUMENT);
}

static void same_names(void **state)
{
    (void)state;
    nb_name a, b;
    assert_int_equal(nb_name_parse(NB_STR("hf.co/User/Repo:Q4_K_M"), &a, NULL), NB_OK);
    assert_int_equal(nb_name_parse(NB_STR("HF.co/user/repo:q4_k_m"), &b, NULL), NB_OK);
    assert_true(nb_name_same(&a, &b));
    assert_int_equal(nb_name_parse(NB_STR("HF.co/user/repo:q4_k_s"), &b, NULL), NB_OK);
    assert_false(nb_name_same(&a, &b));
}

static void stems(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"Qwen2.5-0.5B-Instruct-Q4_K_M", "Qwen2.5-0.5B-Instruct-Q4_K_M"},
                                          {"my model (new)", "my-model-new"},
                                          {"..hidden", "hidden"},
                                          {"--", "model"},
                                          {"", "model"},
                                          {"\xc3\xa9t\xc3\xa9", "t"},
                                          {"a/b", "a-b"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_name n, back;
        char text[NB_NAME_TEXT];
        nb_name_from_stem(nb_str_of(rows[i][0]), &n);
        assert_string_equal(n.model, rows[i][1]);
        nb_name_print(&n, text);
        assert_int_equal(nb_name_parse(nb_str_of(text), &back, NULL), NB_OK);
        assert_true(nb_name_same(&n, &back));
    }
    char longest[300];
    nb_name n;
    memset(longest, 'x', sizeof longest);
    nb_name_from_stem((nb_str){longest, sizeof longest}, &n);
    assert_int_equal(strlen(n.model), 80);
}

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"

static void paths(void **state)
{
    (void)state;
    nb_name n;
    nb_buf path = {0};
    assert_int_equal(nb_name_parse(NB_STR("user/m:t"), &n, NULL), NB_OK);
    assert_int_equal(nb_store_path("/s", &n, NB_STR(""), &path, NULL), NB_OK);
    assert_string_equal(path.data, "/s/manifests/registry.ollama.ai/user/m/t");
    nb_buf_clear(&path);
    assert_int_equal(nb_store_path("/s", NULL, NB_STR("sha256:" HEX), &path, NULL), NB_OK);
    assert_string_equal(path.data, "/s/blobs/sha256-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    nb_buf_clear(&path);
    assert_int_equal(nb_store_path("/s", NULL, NB_STR("sha256-" HEX), &path, NULL), NB_OK);
    nb_buf_free(&path);
}

static void no_paths(void **state)
{
    (void)state;
    static const char *const digests[] = {"",
                                          "sha256:",
                                          "sha256:0",
                                          "sha256:" HEX "0", /* CVE-2025-1975: a short one */
                                          "sha256:../../../../etc/passwd",
                                          "../../etc/passwd",
                                          "sha256-../" HEX, /* CVE-2024-37032: Probllama */
                                          "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789/../.",
                                          "sha512:" HEX,
                                          "SHA256:" HEX,
                                          HEX,
                                          "sha256_" HEX,
                                          "sha256:g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                                          " sha256:" HEX,
                                          "sha256:" HEX "\n",
                                          "/etc/passwd",
                                          "sha256:%2e%2e%2f9abcdef0123456789abcdef0123456789abcdef0123456789abcdef0"};
    nb_buf path = {0};
    nb_buf_z(&path, "kept");
    for (size_t i = 0; i < sizeof digests / sizeof *digests; i++) {
        nb_error err = {0};
        if (nb_store_path("/s", NULL, nb_str_of(digests[i]), &path, &err) != NB_ERR_ARGUMENT)
            fail_msg("taken: %s", digests[i]);
        assert_non_null(strstr(err.message, "invalid digest"));
        assert_string_equal(path.data, "kept");
    }
    assert_int_equal(nb_store_path("/s", NULL, (nb_str){"sha256:" HEX "\0x", 73}, &path, NULL), NB_ERR_ARGUMENT);
    nb_name parts[] = {{.host = "..", .space = "a", .model = "b", .tag = "c"},
                       {.host = "h", .space = "..", .model = "b", .tag = "c"},
                       {.host = "h", .space = "a", .model = "../../b", .tag = "c"},
                       {.host = "h", .space = "a", .model = "b", .tag = ".."},
                       {.host = "h", .space = "a", .model = "b", .tag = ""},
                       {.host = "h/x", .space = "a", .model = "b", .tag = "c"}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        assert_int_equal(nb_store_path("/s", &parts[i], NB_STR(""), &path, NULL), NB_ERR_ARGUMENT);
    assert_int_equal(nb_name_parse(NB_STR("m"), &parts[0], NULL), NB_OK);
    assert_int_equal(nb_store_path("/s", &parts[0], NB_STR("sha256:" HEX), &path, NULL), NB_ERR_ARGUMENT); /* both */
    assert_string_equal(path.data, "kept");
    nb_buf_free(&path);
}

static void digests(void **state)
{
    (void)state; /* FIPS 180-4's examples */
    char hex[NB_DIGEST_TEXT];
    assert_int_equal(nb_digest_bytes("", 0, hex, NULL), NB_OK);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(nb_digest_bytes("abc", 3, hex, NULL), NB_OK);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses), cmocka_unit_test(refuses),  cmocka_unit_test(same_names), cmocka_unit_test(stems),
        cmocka_unit_test(paths),  cmocka_unit_test(no_paths), cmocka_unit_test(digests)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
