/* The page about quantized files, from tiny models: what it says against what is measured by other means. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "base/file.h"
#include "measure/loss.h"
#include "measure/report.h"
#include "support/markup.h"

#define TYPES NB_TEST_DATA "/types/"

static char *const files[] = {TYPES "Q8_0.gguf", TYPES "Q4_0.gguf", TYPES "Q5_1.gguf"};

/* ---- tensors ---- */

static nb_source *open_source(const char *path)
{
    nb_source *s;
    nb_error err = {0};
    if (nb_source_open_gguf(path, &s, &err) != NB_OK)
        fail_msg("%s", err.message);
    return s;
}

/* the plain sum over one tensor, value by value */
static double relative_error(const nb_source *base, const nb_source *quantized, const char *name)
{
    const nb_source_tensor *t = nb_source_find_tensor(base, nb_str_of(name));
    const nb_source_tensor *q = nb_source_find_tensor(quantized, nb_str_of(name));
    size_t n = (size_t)(nb_source_rows(t) * t->dims[0]);
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
    double error = 0, norm = 0;
    t->type->dequantize(t->data, x, n);
    q->type->dequantize(q->data, y, n);
    for (size_t i = 0; i < n; i++) {
        error += pow((double)x[i] - (double)y[i], 2);
        norm += pow((double)x[i], 2);
    }
    free(x);
    free(y);
    return error / norm;
}

static void losses(void **state)
{
    (void)state;
    nb_source *base = open_source(TYPES "F16.gguf"), *q = open_source(TYPES "Q4_0.gguf");
    nb_team *team;
    nb_arena arena = {0};
    nb_loss one, three;
    assert_int_equal(nb_team_new(1, false, &team, NULL), NB_OK);
    assert_int_equal(nb_loss_measure(base, q, NULL, team, &arena, &one, NULL), NB_OK);
    nb_team_free(team);
    assert_int_equal(nb_team_new(3, false, &team, NULL), NB_OK);
    assert_int_equal(nb_loss_measure(base, q, NULL, team, &arena, &three, NULL), NB_OK);
    assert_int_equal(one.count, 15); /* embeddings, and seven matrices in each of two layers */
    for (size_t i = 0; i < one.count; i++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", NB_STR_ARG(one.tensors[i].name));
        double expected = relative_error(base, q, name);
        assert_true(fabs(one.tensors[i].error / one.tensors[i].norm - expected) < 1e-9 * expected);
        assert_true(three.tensors[i].error == one.tensors[i].error); /* whatever the number of threads */
        assert_int_equal(one.tensors[i].type->id, NB_TYPE_Q4_0);
    }
    const nb_tensor_loss *last = &one.tensors[one.count - 1];
    assert_true(last->layer == 1 || last->layer == -1);
    double down = nb_loss_relative(&one, 1, NB_STR("ffn_down"), false);
    assert_true(fabs(down - relative_error(base, q, "blk.1.ffn_down.weight")) < 1e-9 * down);
    assert_true(nb_loss_relative(&one, NB_LOSS_ALL_LAYERS, NB_STR("token_embd"), false) > 0);
    assert_true(isnan(nb_loss_relative(&one, 7, (nb_str){0}, false)));
    assert_true(isnan(nb_loss_relative(&one, 1, (nb_str){0}, true)));
    nb_team_free(team);
    nb_arena_free(&arena);
    nb_source_free(base);
    nb_source_free(q);
}

/* weighing every column alike changes nothing; weighing one alone counts that one */
static void weighted_losses(void **state)
{
    (void)state;
    nb_source *base = open_source(TYPES "F16.gguf"), *q = open_source(TYPES "Q4_0.gguf");
    nb_team *team;
    nb_arena arena = {0};
    nb_loss loss;
    nb_imatrix *m;
    nb_imatrix_entry *e;
    assert_int_equal(nb_team_new(2, false, &team, NULL), NB_OK);
    assert_int_equal(nb_imatrix_new(&m, NULL), NB_OK);
    assert_int_equal(nb_imatrix_add(m, NB_STR("blk.0.attn_q.weight"), 96, 1, &e, NULL), NB_OK);
    e->count[0] = 2;
    for (size_t i = 0; i < 96; i++)
        e->sum[i] = 6;
    assert_int_equal(nb_imatrix_add(m, NB_STR("blk.0.attn_k.weight"), 95, 1, &e, NULL), NB_OK); /* does not fit */
    assert_int_equal(nb_loss_measure(base, q, m, team, &arena, &loss, NULL), NB_OK);
    for (size_t i = 0; i < loss.count; i++) {
        const nb_tensor_loss *t = &loss.tensors[i];
        if (nb_str_eqz(t->name, "blk.0.attn_q.weight"))
            assert_true(fabs(t->weighted_error - 3 * t->error) < 1e-9 * t->error &&
                        fabs(t->weighted_norm - 3 * t->norm) < 1e-9 * t->norm);
        else
            assert_true(t->weighted_norm == 0);
    }
    nb_imatrix_free(m);
    nb_team_free(team);
    nb_arena_free(&arena);
    nb_source_free(base);
    nb_source_free(q);
}

/* ---- the page ---- */

static nb_report_params params(nb_buf *text)
{
    nb_report_params p = {.base = TYPES "F16.gguf",
                          .paths = files,
                          .count = 3,
                          .text_name = "text.txt",
                          .window = 32,
                          .windows = 3,
                          .command = "nibble report <these>",
                          .model = nb_model_defaults()};
    p.model.exact = true;
    if (text) {
        assert_int_equal(nb_file_read(NB_TEST_DATA "/measure/text.txt", 1 << 20, text, NULL), NB_OK);
        p.text = nb_buf_view(text);
    }
    return p;
}

static void expect(const nb_buf *html, const char *part)
{
    if (!strstr(html->data, part))
        fail_msg("'%s' is not on the page", part);
}

static void page_with_text(void **state)
{
    (void)state;
    nb_buf html = {0}, text = {0};
    nb_error err = {0};
    nb_report_params p = params(&text);
    if (nb_report_write(&p, &html, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_markup_check(html.data);
    assert_null(strstr(html.data, "http"));
    assert_null(strstr(html.data, "<script"));
    expect(&html, "What quantizing F16.gguf costs");
    expect(&html, "nibble report &lt;these&gt;");
    expect(&html, "nibble eval " TYPES "Q8_0.gguf");
    expect(&html, "One tensor: blk.1.ffn_down.weight");
    expect(&html, "mean KL divergence");
    /* the same number as an evaluation gives */
    char row[64];
    nb_model *base, *model;
    nb_evaluation e;
    assert_int_equal(nb_model_open(p.base, &p.model, &base, NULL), NB_OK);
    assert_int_equal(nb_model_open(files[1], &p.model, &model, NULL), NB_OK);
    assert_int_equal(nb_evaluate(model, base, p.text, 32, 3, NULL, NULL, NULL, &e, NULL), NB_OK);
    nb_model_close(model);
    nb_model_close(base);
    snprintf(row, sizeof row, "%.4g ± %.2g", e.kl_mean, e.kl_error);
    expect(&html, row);
    /* three points with labels; a source's and three files' histograms and heat maps */
    const char *frontier = strstr(html.data, "class=\"frontier\"");
    assert_true(frontier && nb_markup_count(html.data, "class=\"label\"") == 3);
    assert_int_equal(nb_markup_count(html.data, "class=\"bars"), 7);
    assert_int_equal(nb_markup_count(html.data, "shape-rendering"), 7);
    assert_int_equal(nb_markup_count(html.data, "class=\"line"), 3); /* a line a file over the layers */
    nb_buf_free(&html);
    nb_buf_free(&text);
}

/* Directories of Hugging Face as source and as candidate, one of them quantized by bitsandbytes: with what a directory
 * weighs, its own types, and a loss that is that of the same weights from their files. */
static void directories(void **state)
{
    (void)state;
    nb_buf html = {0}, text = {0};
    nb_error err = {0};
    char *const paths[] = {NB_TEST_DATA "/bitsandbytes/qwen2-int8/", NB_TEST_DATA "/archs/qwen2.gguf"};
    nb_report_params p = params(&text);
    p.base = NB_TEST_DATA "/hf/qwen2";
    p.paths = paths;
    p.count = 2;
    if (nb_report_write(&p, &html, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_markup_check(html.data);
    expect(&html, "What quantizing qwen2 costs");
    expect(&html, "<td>qwen2-int8</td>");
    expect(&html, "<td>INT8</td>");
    expect(&html, "The matrices of a directory are shown as nibble runs them");
    /* the file has the directory's own weights */
    const char *same = strstr(html.data, "<td>qwen2</td>");
    assert_true(same && strstr(same, "<td class=\"n\">0</td>") && strstr(same, "<td class=\"n\">100.00</td>"));
    nb_buf_free(&html);
    nb_buf_free(&text);
}

static void page_without_text(void **state)
{
    (void)state;
    nb_buf html = {0};
    nb_error err = {0};
    nb_report_params p = params(NULL);
    p.tensor = "blk.0.attn_q.weight";
    p.count = 1;
    if (nb_report_write(&p, &html, &err) != NB_OK)
        fail_msg("%s", err.message);
    nb_markup_check(html.data);
    expect(&html, "One tensor: blk.0.attn_q.weight");
    expect(&html, "only the weights are compared");
    assert_null(strstr(html.data, "KL divergence"));
    nb_buf_free(&html);
}

static void refuses(void **state)
{
    (void)state;
    nb_buf html = {0};
    nb_error err = {0};
    nb_report_params p = params(NULL);
    p.tensor = "blk.9.attn_q.weight";
    assert_int_equal(nb_report_write(&p, &html, &err), NB_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "no matrix 'blk.9.attn_q.weight'"));
    p.tensor = NULL;
    p.base = NB_TEST_DATA "/archs/qwen2.gguf";
    assert_int_equal(nb_report_write(&p, &html, &err), NB_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "not the same model"));
    p.base = "/nowhere.gguf";
    assert_int_equal(nb_report_write(&p, &html, &err), NB_ERR_NOT_FOUND);
    assert_int_equal(html.len, 0);
    nb_buf_free(&html);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses),         cmocka_unit_test(weighted_losses),
        cmocka_unit_test(page_with_text), cmocka_unit_test(page_without_text),
        cmocka_unit_test(refuses),        cmocka_unit_test(directories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
