/* Modelfiles: what Ollama's documentation and its parser's tests take, and what is refused with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/modelfile.h"

static const char *const words[] = {"from",   "adapter",  "draft",     "template", "system", "renderer",
                                    "parser", "requires", "parameter", "license",  "message"};

/* "command[ key]=value|", a line each */
static void spell(const nb_modelfile *m, nb_buf *out)
{
    for (size_t i = 0; i < m->count; i++) {
        const nb_modelfile_line *l = &m->lines[i];
        nb_buf_printf(out, "%s%s%.*s=%.*s|", words[l->command], l->key.n ? " " : "", (int)l->key.n, l->key.p,
                      (int)l->value.n, l->value.p);
    }
}

static void reads_as(const char *text, const char *want)
{
    nb_modelfile m, again;
    nb_error err;
    nb_buf got = {0}, written = {0}, twice = {0};
    if (nb_modelfile_parse(nb_str_of(text), &m, &err) != NB_OK)
        fail_msg("%s\n%s", text, err.message);
    spell(&m, &got);
    if (strcmp(got.data, want) != 0)
        fail_msg("%s\nis %s\nnot %s", text, got.data, want);
    /* what is written is read as the same */
    nb_modelfile_write(&m, &written);
    if (nb_modelfile_parse(nb_buf_view(&written), &again, &err) != NB_OK)
        fail_msg("%s\n%s", written.data, err.message);
    spell(&again, &twice);
    assert_string_equal(twice.data, want);
    nb_modelfile_free(&m);
    nb_modelfile_free(&again);
    nb_buf_free(&got);
    nb_buf_free(&written);
    nb_buf_free(&twice);
}

static void takes(void **state)
{
    (void)state;
    reads_as("FROM llama3.2", "from=llama3.2|");
    reads_as("\xef\xbb\xbf"
             "from \t ./a b.gguf \t\r\n",
             "from=./a b.gguf|");
    reads_as("# comment\n  \n\tFrOm foo\n#PARAMETER x\nADAPTER adapter1\nLICENSE MIT\nPARAMETER top_k 3\n"
             "PARAMETER temperature 0.7\nTEMPLATE x\nRENDERER r1\nPARSER p1\nREQUIRES 0.14.0\nDRAFT d\n",
             "from=foo|adapter=adapter1|license=MIT|parameter top_k=3|parameter temperature=0.7|template=x|renderer=r1|"
             "parser=p1|requires=0.14.0|draft=d|");
    reads_as(
        "FROM foo\nMESSAGE system You are a file parser.\nMESSAGE user Hey there!\nMESSAGE assistant Hello: I want!",
        "from=foo|message system=You are a file parser.|message user=Hey there!|"
        "message assistant=Hello: I want!|");
    /* '#' within a value is none of a comment */
    reads_as("FROM foo # bar\nSYSTEM # x", "from=foo # bar|system=# x|");
    /* quotes */
    reads_as("FROM foo\nSYSTEM \"a  b \"", "from=foo|system=a  b |");
    reads_as("FROM foo\nSYSTEM \"\"\"\nThis is a\nmultiline.\n\"\"\"\n", "from=foo|system=\nThis is a\nmultiline.\n|");
    reads_as("FROM foo\nSYSTEM \"\"\"multi\nline\"\"\" \n", "from=foo|system=multi\nline|");
    reads_as("FROM foo\nTEMPLATE \"a\nb\"\nSYSTEM x", "from=foo|template=a\nb|system=x|");
    reads_as("FROM foo\nSYSTEM \"say \"this\" twice\"", "from=foo|system=say \"this\" twice|");
    reads_as("FROM foo\nSYSTEM a \"quoted\" word", "from=foo|system=a \"quoted\" word|");
    reads_as("FROM foo\nSYSTEM \"\"", "from=foo|system=|");
    reads_as("FROM foo\nSYSTEM \"\"\"\"\"\"", "from=foo|system=|");
    reads_as("FROM foo\nSYSTEM", "from=foo|system=|");
    reads_as("FROM foo\nSYSTEM \"\"\"\"\"\"\"", "from=foo|system=\"|");
    reads_as("FROM foo\nPARAMETER stop \"<|end|>\"\nPARAMETER stop \"\n\"\n",
             "from=foo|parameter stop=<|end|>|parameter stop=\n|");
    reads_as("FROM foo\r\nSYSTEM \"\"\"\r\nx\r\n\"\"\"\r\nLICENSE y\r\n", "from=foo|system=\r\nx\r\n|license=y|");
    reads_as("FROM foo\nMESSAGE user \" two\nlines\"\n", "from=foo|message user= two\nlines|");
    reads_as("FROM \xe2\x80\xaa/caf\xc3\xa9\xf0\x9f\xa6\x99", "from=\xe2\x80\xaa/caf\xc3\xa9\xf0\x9f\xa6\x99|");
    /* several: who makes the model decides */
    reads_as("FROM a\nFROM b\nSYSTEM 1\nSYSTEM 2\nLICENSE 1\nLICENSE 2", "from=a|from=b|system=1|system=2|license=1|"
                                                                         "license=2|");
}

static void parameters(void **state)
{
    (void)state;
    static const struct {
        const char *line, *json;
    } rows[] = {{"num_ctx 4096", "{\"num_ctx\":4096}"},
                {"temperature 0.7", "{\"temperature\":0.7}"},
                {"temperature 1", "{\"temperature\":1}"},
                {"temperature 1e-3", "{\"temperature\":0.001}"},
                {"seed -1", "{\"seed\":-1}"},
                {"use_mmap T", "{\"use_mmap\":true}"},
                {"use_mmap 0", "{\"use_mmap\":false}"},
                {"stop \"a\"\"", "{\"stop\":[\"a\\\"\"]}"},
                {"stop user:", "{\"stop\":[\"user:\"]}"},
                {"num_gpu 99", "{\"num_gpu\":99}"},
                {"low_vram true", "{\"low_vram\":true}"},
                {"top_p 0.95", "{\"top_p\":0.95}"},
                {"seed 1048576000", "{\"seed\":1048576000}"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_modelfile m;
        nb_error err;
        nb_buf text = {0}, json = {0};
        nb_buf_printf(&text, "FROM x\nPARAMETER %s\n", rows[i].line);
        if (nb_modelfile_parse(nb_buf_view(&text), &m, &err) != NB_OK)
            fail_msg("%s", err.message);
        nb_params_write(&m.lines[1].param, 1, &json);
        assert_true(json.len > 1 && json.data[json.len - 1] == '\n');
        json.data[json.len - 1] = 0;
        assert_string_equal(json.data, rows[i].json);
        nb_modelfile_free(&m);
        nb_buf_free(&text);
        nb_buf_free(&json);
    }
}

static void merges(void **state)
{
    (void)state;
    nb_arena arena = {0};
    nb_param *base, *over, *both;
    size_t n, m, k;
    nb_buf json = {0};
    assert_int_equal(
        nb_params_read("a", NB_STR("{\"top_k\":1,\"stop\":[\"x\",\"y\"],\"seed\":3}"), &arena, &base, &n, NULL), NB_OK);
    assert_int_equal(nb_params_read("b", NB_STR("{\"stop\":[\"z\"],\"top_k\":2.5}"), &arena, &over, &m, NULL), NB_OK);
    assert_int_equal(nb_params_merge(base, n, over, m, &arena, &both, &k, NULL), NB_OK);
    nb_params_write(both, k, &json);
    assert_string_equal(json.data, "{\"seed\":3,\"stop\":[\"z\"],\"top_k\":2.5}\n");
    nb_buf_free(&json);
    assert_int_equal(nb_params_read("b", NB_STR("{\"stop\":[]}"), &arena, &over, &m, NULL), NB_OK);
    assert_int_equal(nb_params_merge(base, n, over, m, &arena, &both, &k, NULL), NB_OK);
    nb_params_write(both, k, &json);
    assert_string_equal(json.data, "{\"seed\":3,\"stop\":[],\"top_k\":1}\n");
    nb_buf_free(&json);
    nb_arena_free(&arena);
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *what;
    } rows[] = {
        {"", "no FROM line"},
        {"# FROM x\n", "no FROM line"},
        {"PARAMETER top_k 1\n", "no FROM line"},
        {"\nBADCOMMAND x\nFROM y", "(line 2): 'BADCOMMAND' is no command"},
        {"FROM x\n\n\nFROMX y", "(line 4): 'FROMX' is no command"},
        {"FROM\n", "(line 1): FROM has no value"},
        {"FROM \"\"\n", "(line 1): FROM has no value"},
        {"FROM: x\n", "(line 1): 'FROM:' is no command"},
        {"<html>", "(line 1): '<html>' is no command"},
        {"FROM x\nSYSTEM \"\"\"a\nb\nc\n", "(line 2): the \"\"\" opened here"},
        {"FROM x\nSYSTEM \"a\nb\n", "(line 2): the \" opened here"},
        {"FROM x\nSYSTEM \"\"\"a\"\"\" b\n", "(line 2): the \"\"\" opened here"},
        {"FROM x\nMESSAGE tool hi", "(line 2): a message's role is system, user or assistant, not 'tool'"},
        {"FROM x\nMESSAGE user\n", "(line 2): write MESSAGE, a role and a value"},
        {"FROM x\nPARAMETER top_k\n", "(line 2): write PARAMETER, a name and a value"},
        {"FROM x\nPARAMETER \"top_k\" 3\n", "(line 2): write PARAMETER"},
        {"FROM x\nPARAMETER foo 1\n", "(line 2): unknown parameter 'foo'"},
        {"FROM x\n\nPARAMETER top_k 1.5\n", "(line 3): the parameter top_k has the invalid int value '1.5'"},
        {"FROM x\nPARAMETER top_k 0x10\n", "invalid int value"},
        {"FROM x\nPARAMETER temperature warm\n", "invalid float value 'warm'"},
        {"FROM x\nPARAMETER temperature nan\n", "invalid float value"},
        {"FROM x\nPARAMETER temperature inf\n", "invalid float value"},
        {"FROM x\nPARAMETER use_mmap yes\n", "invalid bool value 'yes'"},
        {"FROM x\nPARAMETER seed 1e30\n", "invalid int value"},
        {"FROM x\r\nSYSTEM \"\"\"\r\n\r\n\r\n\"\"\"\r\nX", "(line 6): 'X'"},
        {"FROM x\nSYSTEM a\xff\n", "(line 2): byte 15 is not UTF-8"},
        {"\xff\xfe", "(line 1): byte 0 is not UTF-8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_modelfile m;
        nb_error err = {0};
        if (nb_modelfile_parse(nb_str_of(rows[i].text), &m, &err) == NB_OK || !strstr(err.message, rows[i].what))
            fail_msg("%s\n%s", rows[i].text, err.message);
        assert_true(m.count == 0 && !m.arena.head);
    }
    nb_modelfile m;
    assert_int_equal(nb_modelfile_parse((nb_str){"FROM x\0y", 8}, &m, NULL), NB_ERR_FORMAT);
    nb_buf many = {0};
    nb_buf_z(&many, "FROM x\n");
    for (int i = 0; i < 100001; i++)
        nb_buf_z(&many, "LICENSE a\n");
    assert_int_equal(nb_modelfile_parse(nb_buf_view(&many), &m, NULL), NB_ERR_LIMIT);
    nb_buf_free(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(takes), cmocka_unit_test(parameters), cmocka_unit_test(merges),
                                       cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
