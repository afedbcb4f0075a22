/* lab.h - runs a topic of the lab and checks what holds for all of them: 80 columns, JSON that parses, well-formed pictures. Include
 * after cmocka.h and jansson.h. */
#ifndef NB_TESTS_LAB_H
#define NB_TESTS_LAB_H

#include <time.h>

#include "lab/lab.h"
#include "support/markup.h"

typedef struct nb_lab_views {
    nb_buf text, html, svg;
    json_t *json;
} nb_lab_views;

static inline const nb_lab_topic *nb_lab_topic_named(const char *name)
{
    const nb_lab_topic *t = nb_lab_topics;
    while (t->name && strcmp(t->name, name) != 0)
        t++;
    assert_non_null(t->name);
    return t;
}

static inline void nb_lab_check_columns(const char *text)
{
    for (size_t width = 0; *text; text++) {
        width = *text == '\n' ? 0 : width + (((unsigned char)*text & 0xc0) != 0x80);
        if (width > 80)
            fail_msg("a line is wider than 80 columns: ...%.60s", text - 40);
    }
}

static inline nb_lab_views nb_lab_views_of(const char *name, const nb_lab_params *params)
{
    nb_error err = {0};
    nb_lab *lab;
    nb_lab_views v = {0};
    nb_buf json = {0};
    clock_t start = clock(); /* of the processor: other tests run beside */
    if (nb_lab_run(nb_lab_topic_named(name), params, &lab, &err) != NB_OK)
        fail_msg("%s: %s", name, err.message);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    if (!NB_TEST_SLOW && seconds > 20)
        fail_msg("%s took %.1f s", name, seconds);
    nb_lab_text(lab, &v.text);
    nb_lab_html(lab, &v.html);
    nb_lab_svg(lab, &v.svg);
    nb_lab_json(lab, &json);
    nb_lab_free(lab);
    assert_false(v.text.failed || v.html.failed || v.svg.failed || json.failed);
    nb_lab_check_columns(v.text.data);
    nb_markup_check(v.html.data);
    nb_markup_check(v.svg.data);
    assert_null(strstr(v.svg.data, "nan"));
    assert_null(strstr(v.html.data, "http")); /* nothing from the network */
    json_error_t where;
    v.json = json_loads(json.data, JSON_REJECT_DUPLICATES, &where);
    if (!v.json)
        fail_msg("%s: JSON: %s at %d", name, where.text, where.position);
    nb_buf_free(&json);
    return v;
}

static inline void nb_lab_views_free(nb_lab_views *v)
{
    nb_buf_free(&v->text);
    nb_buf_free(&v->html);
    nb_buf_free(&v->svg);
    json_decref(v->json);
}

/* sections.SECTION.PART.KEY; fails when it is not there */
static inline const json_t *nb_lab_find(const nb_lab_views *v, const char *section, const char *part, const char *key)
{
    const json_t *found = json_object_get(
        json_object_get(json_object_get(json_object_get(v->json, "sections"), section), part), key);
    if (!found)
        fail_msg("there is no %s.%s.%s", section, part, key);
    return found;
}

static inline double nb_lab_fact_of(const nb_lab_views *v, const char *section, const char *key)
{
    const json_t *value = nb_lab_find(v, section, "facts", key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* The row of a table whose `column` is the text `value`. */
static inline const json_t *nb_lab_row(const json_t *table, const char *column, const char *value)
{
    for (size_t i = 0; i < json_array_size(table); i++) {
        const char *text = json_string_value(json_object_get(json_array_get(table, i), column));
        if (text && strcmp(text, value) == 0)
            return json_array_get(table, i);
    }
    fail_msg("no row has %s '%s'", column, value);
    return NULL;
}

static inline double nb_lab_number(const json_t *row, const char *key)
{
    const json_t *value = json_object_get(row, key);
    if (!json_is_number(value))
        fail_msg("'%s' is not a number", key);
    return json_number_value(value);
}

static inline void nb_lab_expect_text(const nb_lab_views *v, const char *part)
{
    if (!strstr(v->text.data, part))
        fail_msg("'%s' is not in:\n%s", part, v->text.data);
}

#endif
