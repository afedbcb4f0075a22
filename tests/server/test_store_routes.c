/* The routes that change a store, over HTTP: blobs as they come, models created, copied, deleted; and what strangers try: paths in
 * names and digests, digests that are short, files that are told by errors. */
#include "support/server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <jansson.h>
#include <sys/stat.h>

#include "base/file.h"
#include "store/digest.h"
#include "support/folder.h"

#define GGUF NB_TEST_DATA "/archs/llama-2-mha.gguf"
#define CHECKPOINT NB_TEST_DATA "/hf/llama-2-mha"
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" /* sha256sum of "abc" */

static ts_server server;
static char root[300];

static int start(void **state)
{
    (void)state;
    nb_error err = {0};
    nb_http_params p = {.host = "127.0.0.1"};
    nb_service_params s = {.threads = 2};
    unsetenv("OLLAMA_NOPRUNE");
    snprintf(root, sizeof root, "%s", temporary_directory());
    if (nb_library_open(&(nb_library_params){.root = root}, &server.library, &err) != NB_OK ||
        nb_service_new(server.library, &s, &server.service, &err) != NB_OK ||
        nb_http_start(server.service, server.library, &p, &server.http, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    server.port = nb_http_port(server.http);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    char command[400];
    ts_stop(&server);
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static int files_in(const char *folder)
{
    char path[600];
    int count = 0;
    snprintf(path, sizeof path, "%s/%s", root, folder);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        count += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return count;
}

static void ask(int status, const char *method, const char *path, const char *body, const char *part)
{
    hc_reply r = hc_ask(server.port, method, path, "Content-Type: application/json\r\n", body);
    if (r.status != status || (part && !strstr(r.body, part)))
        fail_msg("%s %s %.300s: status %d\n%s", method, path, body ? body : "", r.status, r.body);
    hc_free(&r);
}

/* Sends a file as a blob; digest: its own, "sha256:HEX". */
static void send_file(const char *path, char digest[80])
{
    nb_buf bytes = {0};
    nb_error err;
    hc_connection c = {0};
    char target[120], headers[100];
    size_t n;
    if (nb_file_read(path, 1 << 26, &bytes, &err) != NB_OK)
        fail_msg("%s", err.message);
    strcpy(digest, "sha256:");
    assert_int_equal(nb_digest_bytes(bytes.data, bytes.len, digest + 7, &err), NB_OK);
    snprintf(target, sizeof target, "/api/blobs/%s", digest);
    snprintf(headers, sizeof headers, "Content-Length: %zu\r\n", bytes.len);
    c.fd = hc_connect(server.port);
    char *text = hc_request("POST", target, headers, bytes.data, bytes.len, &n);
    assert_true(hc_send(c.fd, text, n) && hc_read_head(&c, false));
    assert_true(c.status == 201 || c.status == 200);
    free(text);
    hc_reply r = hc_rest(&c);
    hc_free(&r);
    nb_buf_free(&bytes);
}

static void blobs(void **state)
{
    (void)state;
    ask(404, "HEAD", "/api/blobs/sha256:" ABC, NULL, NULL);
    ask(201, "POST", "/api/blobs/sha256:" ABC, "abc", NULL);
    ask(200, "HEAD", "/api/blobs/sha256:" ABC, NULL, NULL);
    ask(200, "POST", "/api/blobs/sha256:" ABC, "abc", NULL);
    ask(200, "HEAD", "/api/blobs/sha256-" ABC, NULL, NULL);
    ask(405, "GET", "/api/blobs/sha256:" ABC, NULL, NULL);
    /* another content than its name */
    ask(400, "POST", "/api/blobs/sha256:0000000000000000000000000000000000000000000000000000000000000000", "abc",
        "its digest is sha256:" ABC);
    assert_int_equal(files_in("blobs"), 1);
    assert_int_equal(files_in(".nibble/new"), 0);
    /* nothing at all */
    ask(201, "POST", "/api/blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "", NULL);
    /* what is no digest is nothing, whatever lies there (CVE-2024-37032, 2024-39722, 2025-1975) */
    static const char *const bad[] = {
        "sha256:ba7816bf",
        "sha256:",
        "x",
        "sha512:" ABC,
        ABC,
        "sha256:" ABC "00",
        "sha256:../../../../../../../../../../../../../../../../../../../../../../etc/passwd",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "sha256-..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a%00",
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ag"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char path[300];
        snprintf(path, sizeof path, "/api/blobs/%s", bad[i]);
        ask(400, "HEAD", path, NULL, NULL);
        ask(400, "POST", path, "abc", "invalid digest");
    }
    assert_int_equal(files_in("blobs"), 2);
}

/* Far more than a body may otherwise have, in pieces, while another is left in the middle. */
static void large_blobs(void **state)
{
    (void)state;
    enum { PIECE = 1 << 20, PIECES = 80 };
    static char piece[PIECE];
    nb_hash *h = nb_hash_new();
    char hex[NB_DIGEST_TEXT], head[600];
    hc_connection c = {0}, left = {0};
    assert_non_null(h);
    for (int i = 0; i < PIECES; i++) {
        memset(piece, i + 1, PIECE);
        nb_hash_add(h, piece, PIECE);
    }
    assert_int_equal(nb_hash_finish(h, hex, NULL), NB_OK);
    nb_hash_free(h);
    snprintf(head, sizeof head, "POST /api/blobs/sha256:%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n",
             hex, PIECE * PIECES);
    c.fd = hc_connect(server.port);
    left.fd = hc_connect(server.port);
    assert_true(hc_send(c.fd, head, strlen(head)) && hc_send(left.fd, head, strlen(head)));
    for (int i = 0; i < PIECES; i++) {
        memset(piece, i + 1, PIECE);
        assert_true(hc_send(c.fd, piece, PIECE));
        if (i == 3)
            assert_true(hc_send(left.fd, piece, PIECE));
        if (i == 5)
            hc_hang_up(&left);
    }
    assert_true(hc_read_head(&c, false));
    assert_int_equal(c.status, 201);
    hc_hang_up(&c);
    for (int i = 0; files_in(".nibble/new") && i < 500; i++)
        usleep(10000); /* the server sees who left */
    assert_int_equal(files_in(".nibble/new"), 0);
    snprintf(head, sizeof head, "test \"$(sha256sum < '%s/blobs/sha256-%s' | cut -c-64)\" = %s", root, hex, hex);
    assert_int_equal(system(head), 0);
    /* other routes take as much as before */
    snprintf(head, sizeof head, "POST /api/create HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n",
             PIECE * PIECES);
    c.fd = hc_connect(server.port);
    assert_true(hc_send(c.fd, head, strlen(head)) && hc_read_head(&c, false));
    assert_int_equal(c.status, 413);
    hc_hang_up(&c);
}

/* ---- models ---- */

static void is_status(const char *line, const char *begins)
{
    json_t *o = json_loads(line, JSON_ALLOW_NUL, NULL);
    const char *text = json_string_value(json_object_get(o, "status"));
    if (!text || strncmp(text, begins, strlen(begins)) != 0)
        fail_msg("%s is not %s", line, begins);
    json_decref(o);
}

static void creates(void **state)
{
    (void)state;
    char digest[80], body[900], line[2000];
    hc_connection c;
    send_file(GGUF, digest);
    snprintf(
        body, sizeof body,
        "{\"model\":\"sent\",\"files\":{\"model.gguf\":\"%s\"},\"template\":\"{{ .Prompt }}\",\"system\":\"Be brief.\","
        "\"license\":[\"MIT\",\"and more\"],\"parameters\":{\"temperature\":0.5,\"stop\":[\"x\"]},"
        "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"requires\":\"0.14.0\"}",
        digest);
    assert_true(hc_open(&c, server.port, "POST", "/api/create", NULL, body));
    assert_int_equal(c.status, 200);
    static const char *const lines[] = {"gathering model components", "using existing layer sha256:",
                                        "creating new layer sha256:", "creating new layer sha256:",
                                        "creating new layer sha256:", "creating new layer sha256:",
                                        "creating new layer sha256:", "creating new layer sha256:",
                                        "writing manifest",           "success"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        assert_true(hc_line(&c, line, sizeof line));
        is_status(line, lines[i]);
    }
    assert_false(hc_line(&c, line, sizeof line));
    assert_true(c.whole);
    hc_hang_up(&c);
    ask(200, "GET", "/api/tags", NULL, "\"sent:latest\"");
    ask(200, "POST", "/api/show", "{\"model\":\"sent\"}", "\"template\":\"{{ .Prompt }}\"");
    ask(200, "POST", "/api/show", "{\"model\":\"sent\"}", "\"requires\":\"0.14.0\"");
    ask(200, "POST", "/api/show", "{\"model\":\"sent\"}", "\"license\":\"MIT\\nand more\"");
    ask(200, "POST", "/api/show", "{\"model\":\"sent\"}", "temperature                    0.5");
    /* from another, which keeps what is not said */
    ask(200, "POST", "/api/create",
        "{\"model\":\"me/other:v2\",\"from\":\"sent\",\"system\":\"Be long.\",\"stream\":false}",
        "{\"status\":\"success\"}");
    ask(200, "POST", "/api/show", "{\"model\":\"me/other:v2\"}", "SYSTEM Be long.\\n");
    ask(200, "POST", "/api/show", "{\"model\":\"me/other:v2\"}", "\"template\":\"{{ .Prompt }}\"");
    /* it runs */
    ask(200, "POST", "/api/generate",
        "{\"model\":\"me/other:v2\",\"prompt\":\"a\",\"stream\":false,\"options\":{\"num_predict\":2}}",
        "\"done\":true");
    ask(200, "POST", "/api/copy", "{\"source\":\"sent\",\"destination\":\"copied\"}", NULL);
    ask(200, "GET", "/api/tags", NULL, "\"copied:latest\"");
    ask(404, "POST", "/api/copy", "{\"source\":\"nobody\",\"destination\":\"x\"}", "model 'nobody:latest' not found");
    ask(400, "POST", "/api/copy", "{\"source\":\"sent\",\"destination\":\"../../x\"}", "invalid model name");
    hc_reply r = hc_ask(server.port, "DELETE", "/api/delete", NULL, "{\"model\":\"sent\"}");
    assert_true(r.status == 200 && r.bytes == 0);
    hc_free(&r);
    ask(200, "DELETE", "/api/delete", "{\"name\":\"COPIED\"}", NULL);
    ask(404, "DELETE", "/api/delete", "{\"model\":\"sent\"}", "model 'sent:latest' not found");
    ask(200, "DELETE", "/api/delete", "{\"model\":\"me/other:v2\"}", NULL);
    ask(200, "GET", "/api/tags", NULL, "{\"models\":[]}");
    assert_int_equal(files_in("manifests"), 0);
}

/* A checkpoint sent file by file, quantized on the way. */
static void converts(void **state)
{
    (void)state;
    char digest[80], path[500];
    nb_buf body = {0};
    struct dirent *e;
    DIR *d = opendir(CHECKPOINT);
    assert_non_null(d);
    nb_buf_z(&body, "{\"model\":\"checkpoint\",\"quantize\":\"q8_0\",\"stream\":false,\"files\":{");
    for (bool first = true; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", CHECKPOINT, e->d_name);
        send_file(path, digest);
        nb_buf_printf(&body, "%s\"%s\":\"%s\"", first ? "" : ",", e->d_name, digest);
        first = false;
    }
    closedir(d);
    nb_buf_z(&body, "}}");
    ask(200, "POST", "/api/create", body.data, "success");
    ask(200, "POST", "/api/show", "{\"model\":\"checkpoint\"}", "\"quantization_level\":\"Q8_0\"");
    assert_int_equal(files_in(".nibble/new"), 0);
    ask(200, "DELETE", "/api/delete", "{\"model\":\"checkpoint\"}", NULL);
    nb_buf_free(&body);
}

static void refuses(void **state)
{
    (void)state;
    char digest[80], body[900];
    send_file(GGUF, digest);
    static const struct {
        int status;
        const char *body, *part; /* DIGEST stands for the model's */
    } rows[] = {
        {400, "", "the body is empty"},
        {400, "{}", "\\\"model\\\" is missing"},
        {400, "{\"model\":\"x\"}", "neither 'from' or 'files' was specified"},
        {400, "{\"model\":\"../x\",\"from\":\"y\"}", "invalid model name"},
        {500, "{\"model\":\"x\",\"from\":\"http://127.0.0.1:1/me/nobody\",\"stream\":false}",
         "127.0.0.1:1 cannot be reached"},
        /* a path is no model name, there or not (CVE-2024-39719, 39722) */
        {400, "{\"model\":\"x\",\"from\":\"/etc/passwd\"}", "invalid model name '/etc/passwd'"},
        {400, "{\"model\":\"x\",\"from\":\"/nowhere/passwd\"}", "invalid model name '/nowhere/passwd'"},
        {400, "{\"model\":\"x\",\"from\":\"../../etc\"}", "invalid model name"},
        {400, "{\"model\":\"x\",\"files\":{\"../../../tmp/x.safetensors\":\"DIGEST\"}}", "invalid file name"},
        {400, "{\"model\":\"x\",\"files\":{\"/etc/x.gguf\":\"DIGEST\"}}", "invalid file name"},
        {400, "{\"model\":\"x\",\"files\":{\"a/../../x.json\":\"DIGEST\"}}", "invalid file name"},
        {400, "{\"model\":\"x\",\"files\":{\"a//x.json\":\"DIGEST\"}}", "invalid file name"},
        {400, "{\"model\":\"x\",\"files\":{\"a/b/c/d/x.json\":\"DIGEST\"}}", "invalid file name"},
        {400, "{\"model\":\"x\",\"files\":{\"\":\"DIGEST\"}}", "invalid file name"},
        {400, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"sha256:../../../../etc/passwd\"}}", "invalid digest"},
        {400, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"sha256:12\"}}", "invalid digest"},
        {404, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"sha256:" ABC "\"}}", "there is no blob"},
        {400, "{\"model\":\"x\",\"files\":{\"m.gguf\":7}}", "has to be a string"},
        {400, "{\"model\":\"x\",\"files\":{\"a.gguf\":\"DIGEST\",\"b.gguf\":\"DIGEST\"}}", "is a second model"},
        {400, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"DIGEST\"},\"quantize\":\"Q9\"}", "nothing to quantize to"},
        {400, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"DIGEST\"},\"quantize\":\"kld=0.1\"}", "needs the text"},
        {400, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"DIGEST\"},\"template\":\"{{ if }}\"}", "no Go template"},
        {400, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"DIGEST\"},\"parameters\":{\"top_k\":\"a\"}}",
         "of type integer"},
        {400, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"DIGEST\"},\"parameters\":{\"x\":{}}}", "is no number"},
        {400, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"DIGEST\"},\"messages\":[{}]}", "has no role"},
        {400, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"DIGEST\"},\"license\":7}", "a text or a list"},
        {400, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"DIGEST\"},\"requires\":\"new\"}", "no version to require"},
        {400, "{\"model\":\"x\",\"files\":{\"config.json\":\"DIGEST\"}}", "config.json"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_buf text = {0};
        for (const char *p = rows[i].body; *p; p++)
            if (strncmp(p, "DIGEST", 6) == 0) {
                nb_buf_z(&text, digest);
                p += 5;
            } else {
                nb_buf_char(&text, *p);
            }
        ask(rows[i].status, "POST", "/api/create", text.data ? text.data : "", rows[i].part);
        nb_buf_free(&text);
    }
    /* what is no model, sent as one: refused before anything is read past its end */
    char path[500], short_digest[80];
    snprintf(path, sizeof path, "%s/cut.gguf", root);
    snprintf(body, sizeof body, "head -c 100000 '%s' > '%s'", GGUF, path);
    assert_int_equal(system(body), 0);
    send_file(path, short_digest);
    unlink(path);
    snprintf(body, sizeof body, "{\"model\":\"x\",\"files\":{\"m.gguf\":\"%s\"}}", short_digest);
    ask(400, "POST", "/api/create", body, "tensor");
    ask(200, "GET", "/api/tags", NULL, "{\"models\":[]}");
    assert_int_equal(files_in(".nibble/new"), 0);
}

/* A server without a store says so. */
static void storeless(void **state)
{
    (void)state;
    ts_server s;
    const char *const files[] = {GGUF};
    ts_start(&s, files, 1, NULL, NULL);
    hc_reply r = hc_ask(s.port, "POST", "/api/blobs/sha256:" ABC, NULL, "abc");
    assert_int_equal(r.status, 400);
    assert_non_null(strstr(r.body, "no model store"));
    hc_free(&r);
    r = hc_ask(s.port, "DELETE", "/api/delete", NULL, "{\"model\":\"llama-2-mha\"}");
    assert_int_equal(r.status, 400);
    hc_free(&r);
    ts_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(blobs, start, stop),
                                       cmocka_unit_test_setup_teardown(large_blobs, start, stop),
                                       cmocka_unit_test_setup_teardown(creates, start, stop),
                                       cmocka_unit_test_setup_teardown(converts, start, stop),
                                       cmocka_unit_test_setup_teardown(refuses, start, stop),
                                       cmocka_unit_test(storeless)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
