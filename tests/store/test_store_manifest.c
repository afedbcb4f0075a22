/* Manifests, configurations and layers that are damaged or mean harm: refused with the file, the place and the remedy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/stat.h>

#include "store/manifest.h"
#include "support/folder.h"

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define IMAGE "application/vnd.ollama.image."

static void takes(void **state)
{
    (void)state;
    nb_manifest *m;
    nb_error err;
    static const char text[] = "{\"schemaVersion\":2,\"other\":[{}],\"config\":{\"digest\":\"" D1
                               "\",\"size\":10,\"mediaType\":\"c\"},"
                               "\"layers\":[{\"mediaType\":\"" IMAGE "model\",\"digest\":\"" D2
                               "\",\"size\":4294967296,\"from\":\"base\"},"
                               "{\"mediaType\":\"odd\",\"digest\":\"" D1 "\",\"size\":1,\"name\":null}]} \n";
    if (nb_manifest_parse("m", nb_str_of(text), &m, &err) != NB_OK)
        fail_msg("%s", err.message);
    assert_int_equal(m->count, 2);
    assert_int_equal(m->size, 4294967296 + 11);
    assert_true(nb_str_eqz(m->layers[0].from, "base") && nb_str_eqz(m->layers[0].digest, D2));
    nb_manifest_free(m);
    assert_int_equal(nb_manifest_parse("m", NB_STR("{\"layers\":null,\"config\":null}"), &m, &err), NB_OK);
    assert_true(m->count == 0 && m->size == 0 && m->config.digest.n == 0);
    nb_manifest_free(m);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *what;
        nb_status status;
    } rows[] = {
        {"", "JSON ends", NB_ERR_FORMAT},
        {"[]", "an object", NB_ERR_FORMAT},
        {"{\"layers\":{}}", "an array", NB_ERR_FORMAT},
        {"{\"layers\":[7]}", "an object", NB_ERR_FORMAT},
        {"{\"layers\":[{\"mediaType\":\"x\",\"size\":1}]}", "invalid digest", NB_ERR_FORMAT},
        {"{\"layers\":[{\"digest\":\"sha256:../../../../../../../../etc/passwd\",\"size\":1}]}", "invalid digest",
         NB_ERR_FORMAT},
        {"{\"layers\":[{\"digest\":\"sha256:11\",\"size\":1}]}", "invalid digest", NB_ERR_FORMAT},
        {"{\"config\":{\"digest\":\"/etc/passwd\",\"size\":1}}", "invalid digest", NB_ERR_FORMAT},
        {"{\"layers\":[{\"digest\":\"" D1 "\",\"size\":-1}]}", "byte", NB_ERR_FORMAT},
        {"{\"layers\":[{\"digest\":\"" D1 "\",\"size\":1.5}]}", "byte", NB_ERR_FORMAT},
        {"{\"layers\":[{\"digest\":\"" D1 "\",\"size\":\"1\"}]}", "byte", NB_ERR_FORMAT},
        {"{\"layers\":[{\"digest\":17,\"size\":1}]}", "byte", NB_ERR_FORMAT},
        {"{\"layers\":[{\"digest\":\"" D1 "\",\"size\":18446744073709551615},{\"digest\":\"" D1 "\",\"size\":1}]}",
         "63 bits", NB_ERR_FORMAT},
        {"{\"layers\":[{\"digest\":\"" D1 "\",\"size\":9223372036854775807},{\"digest\":\"" D1 "\",\"size\":1}]}",
         "63 bits", NB_ERR_FORMAT},
        {"{\"layers\":[],\"layers\":[]}", "twice", NB_ERR_FORMAT},
        {"{\"schemaVersion\":1,\"layers\":[]}", "only 2 is read", NB_ERR_UNSUPPORTED},
        {"{\"layers\":[]} x", "byte", NB_ERR_FORMAT},
        {"{\"layers\":[{\"mediaType\":\"\xff\",\"digest\":\"" D1 "\"}]}", "UTF-8", NB_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_manifest *m;
        nb_error err = {0};
        if (nb_manifest_parse("the/file", nb_str_of(rows[i].text), &m, &err) != rows[i].status || m)
            fail_msg("%s: %s", rows[i].text, err.message);
        if (!strstr(err.message, rows[i].what) || !strstr(err.message, "the/file"))
            fail_msg("%s: %s", rows[i].text, err.message);
    }
    nb_buf deep = {0};
    nb_manifest *m;
    nb_buf_z(&deep, "{\"a\":");
    for (int i = 0; i < 100000; i++)
        nb_buf_char(&deep, '[');
    assert_int_equal(nb_manifest_parse("m", nb_buf_view(&deep), &m, NULL), NB_ERR_LIMIT);
    nb_buf_free(&deep);
}

/* ---- files ---- */

static const char *root;

static void put(const char *name, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int make(void **state)
{
    (void)state;
    char path[600];
    root = temporary_directory();
    snprintf(path, sizeof path, "%s/blobs", root);
    return mkdir(path, 0755);
}

static int remove_all(void **state)
{
    (void)state;
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

#define BLOB1 "blobs/sha256-1111111111111111111111111111111111111111111111111111111111111111"
#define BLOB2 "blobs/sha256-2222222222222222222222222222222222222222222222222222222222222222"

static nb_status contents(const char *layers, nb_contents **out, nb_error *err)
{
    nb_manifest *m;
    nb_buf text = {0};
    nb_buf_printf(&text, "{\"config\":{\"digest\":\"" D1 "\",\"size\":1},\"layers\":[%s]}", layers);
    assert_int_equal(nb_manifest_parse("m", nb_buf_view(&text), &m, NULL), NB_OK);
    nb_status status = nb_contents_read(root, m, out, err);
    nb_manifest_free(m);
    nb_buf_free(&text);
    return status;
}

static void configurations(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "[]",
                                      "{\"model_format\":7}",
                                      "{\"model_families\":\"llama\"}",
                                      "{\"model_families\":[7]}",
                                      "{\"context_length\":-1}",
                                      "{\"context_length\":\"x\"}",
                                      "{\"a\":1",
                                      "{} {}"};
    nb_contents *c;
    nb_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put(BLOB1, bad[i]);
        if (contents("", &c, &err) != NB_ERR_FORMAT || c || !strstr(err.message, "sha256-1111") ||
            !strstr(err.message, "byte"))
            fail_msg("%s: %s", bad[i], err.message);
    }
    put(BLOB1, "{\"model_format\":null,\"model_families\":null,\"model_family\":\"\\u00e9\",\"rootfs\":{\"x\":[1]}}");
    assert_int_equal(contents("", &c, &err), NB_OK);
    assert_true(nb_str_eqz(c->config.family, "\xc3\xa9") && c->config.family_count == 0 && !c->model &&
                !c->has_template);
    nb_contents_free(c);
}

#define LAYER(kind) "{\"mediaType\":\"" IMAGE kind "\",\"digest\":\"" D2 "\",\"size\":1}"

static void layers(void **state)
{
    (void)state;
    nb_contents *c;
    nb_error err;
    char path[600], other[600];
    put(BLOB1, "{}");
    snprintf(path, sizeof path, "%s/" BLOB2, root);
    /* missing: texts say so, what is only a path does not care */
    unlink(path);
    assert_int_equal(contents(LAYER("system"), &c, &err), NB_ERR_IO);
    assert_non_null(strstr(err.message, "is missing; pull or create the model again"));
    assert_non_null(strstr(err.message, "sha256-2222"));
    assert_int_equal(
        contents(LAYER("model") "," LAYER("adapter") "," LAYER("adapter") "," LAYER("projector"), &c, &err), NB_OK);
    assert_string_equal(c->model, path);
    assert_true(c->adapter_count == 2 && c->projector_count == 1);
    nb_contents_free(c);
    /* wrong JSON in its places */
    put(BLOB2, "{\"stop\":");
    assert_int_equal(contents(LAYER("params"), &c, &err), NB_ERR_FORMAT);
    assert_int_equal(contents(LAYER("messages"), &c, &err), NB_ERR_FORMAT);
    assert_int_equal(contents(LAYER("license"), &c, &err), NB_OK); /* any text will do */
    assert_true(nb_str_eqz(c->licenses[0], "{\"stop\":"));
    nb_contents_free(c);
    put(BLOB2, "[{\"role\":1}]");
    assert_int_equal(contents(LAYER("messages"), &c, &err), NB_ERR_FORMAT);
    put(BLOB2, "[{\"role\":\"user\",\"images\":[\"x\"],\"content\":\"a\"},{}]");
    assert_int_equal(contents(LAYER("messages") "," LAYER("unheard-of"), &c, &err), NB_OK);
    assert_true(c->message_count == 2 && c->messages[1].role.n == 0);
    nb_contents_free(c);
    /* a link to a file is a blob, one to a folder, to a FIFO or to nowhere is none, and nothing waits for a FIFO */
    put("real", "linked");
    snprintf(other, sizeof other, "%s/real", root);
    unlink(path);
    assert_int_equal(symlink(other, path), 0);
    assert_int_equal(contents(LAYER("system"), &c, &err), NB_OK);
    assert_true(nb_str_eqz(c->system, "linked"));
    nb_contents_free(c);
    unlink(path);
    assert_int_equal(symlink(root, path), 0);
    assert_int_equal(contents(LAYER("system"), &c, &err), NB_ERR_IO);
    unlink(path);
    assert_int_equal(symlink("/nowhere/at/all", path), 0);
    assert_int_equal(contents(LAYER("system"), &c, &err), NB_ERR_IO);
    unlink(path);
    assert_int_equal(mkfifo(path, 0644), 0);
    assert_int_equal(contents(LAYER("system"), &c, &err), NB_ERR_IO);
    unlink(path);
    assert_int_equal(symlink("/dev/zero", path), 0);
    assert_int_equal(contents(LAYER("system"), &c, &err), NB_ERR_IO);
    unlink(path);
    /* too large to be a text: sparse, nothing is read of it */
    put(BLOB2, "x");
    assert_int_equal(truncate(path, (off_t)1 << 40), 0);
    assert_int_equal(contents(LAYER("template"), &c, &err), NB_ERR_LIMIT);
    unlink(path);
}

static void manifest_files(void **state)
{
    (void)state;
    nb_manifest *m;
    nb_error err;
    char path[600];
    snprintf(path, sizeof path, "%s/manifest", root);
    assert_int_equal(nb_manifest_read(path, &m, &err), NB_ERR_NOT_FOUND);
    assert_int_equal(mkfifo(path, 0644), 0);
    assert_int_equal(nb_manifest_read(path, &m, &err), NB_ERR_IO);
    unlink(path);
    put("manifest", "{}");
    assert_int_equal(truncate(path, 1 << 28), 0);
    assert_int_equal(nb_manifest_read(path, &m, &err), NB_ERR_LIMIT);
    put("manifest", "{\"layers\":[]}");
    assert_int_equal(nb_manifest_read(path, &m, &err), NB_OK);
    assert_string_equal(m->digest, "c824a9aa7d2e3471306648c6d4baa1abbcb97ff0276181ab4722ca27127cdba0");
    nb_manifest_free(m);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(takes), cmocka_unit_test(refuses),
                                       cmocka_unit_test(configurations), cmocka_unit_test(layers),
                                       cmocka_unit_test(manifest_files)};
    return cmocka_run_group_tests(tests, make, remove_all);
}
