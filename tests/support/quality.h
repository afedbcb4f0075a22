/* quality.h - the error of quantizers on the rows of tests/data/quant/quality_iq_rows.bin, against the table
 * quality_iq.csv: what ours was when the table was written, and what libggml's is (tools/make_quantize_iq_vectors.py). */
#ifndef NB_TESTS_QUALITY_H
#define NB_TESTS_QUALITY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "num/half.h"
#include "quant/quant.h"

enum { QUALITY_COLUMNS = 1536, QUALITY_ROWS = 16 };

typedef struct quality_rows {
    float x[QUALITY_ROWS][QUALITY_COLUMNS], importance[QUALITY_COLUMNS];
} quality_rows;

static inline const quality_rows *quality_rows_read(void)
{
    static quality_rows rows;
    static uint16_t half[QUALITY_ROWS * QUALITY_COLUMNS];
    FILE *f = fopen(NB_TEST_DATA "/quant/quality_iq_rows.bin", "rb");
    assert_non_null(f);
    assert_int_equal(fread(half, sizeof half, 1, f), 1);
    assert_int_equal(fread(rows.importance, sizeof rows.importance, 1, f), 1);
    fclose(f);
    nb_f16_to_f32_row(half, rows.x[0], QUALITY_ROWS * QUALITY_COLUMNS);
    return &rows;
}

/* The weighted squared error of rows first..end - 1 over their weighted energy. weight may be NULL. */
static inline double quality_of(const nb_type_info *type, const quality_rows *rows, int first, int end,
                                const float *weight, nb_rounding rounding)
{
    static _Alignas(64) uint8_t blocks[QUALITY_COLUMNS * 4];
    static float back[QUALITY_COLUMNS];
    double error = 0, energy = 0;
    for (int r = first; r < end; r++) {
        type->quantize(rows->x[r], weight, QUALITY_COLUMNS, rounding, blocks);
        type->dequantize(blocks, back, QUALITY_COLUMNS);
        for (int i = 0; i < QUALITY_COLUMNS; i++) {
            double w = weight ? (double)weight[i] : 1, x = (double)rows->x[r][i], e = (double)back[i] - x;
            error += w * e * e;
            energy += w * x * x;
        }
    }
    return error / energy;
}

/* Checks the lines of the types for which `mine` is true; returns how many there were. */
static inline int quality_check(bool (*mine)(const nb_type_info *type))
{
    const quality_rows *rows = quality_rows_read();
    FILE *f = fopen(NB_TEST_DATA "/quant/quality_iq.csv", "r");
    char name[16], part[16], weights[16], ours[16], now[16];
    double peer;
    int lines = 0, wrong = 0;
    assert_non_null(f);
    assert_int_equal(fscanf(f, "type,rows,weights,ours,peer\n"), 0);
    while (fscanf(f, "%15[^,],%15[^,],%15[^,],%15[^,],%lf\n", name, part, weights, ours, &peer) == 5) {
        const nb_type_info *type = nb_type_by_name(nb_str_of(name));
        assert_non_null(type);
        if (!mine(type))
            continue;
        int first = strcmp(part, "normal") == 0 ? 0 : strcmp(part, "ffn_gate") == 0 ? 8 : 12;
        double e = quality_of(type, rows, first, first == 0 ? 8 : first + 4,
                              strcmp(weights, "none") == 0 ? NULL : rows->importance, NB_ROUND_SEARCH);
        snprintf(now, sizeof now, "%.4e", e);
        if (strcmp(now, ours) != 0 || e > peer) {
            print_error("quality_iq.csv says otherwise: %s,%s,%s,%s,%.4e\n", name, part, weights, now, peer);
            wrong++;
        }
        lines++;
    }
    assert_true(feof(f));
    fclose(f);
    assert_int_equal(wrong, 0);
    return lines;
}

/* Rows that must neither crash nor loop nor come back as something that is not finite: kind 0.. QUALITY_KINDS - 1. */
enum { QUALITY_KINDS = 12 };
static inline void quality_hostile(int kind, float *x, size_t n)
{
    static const float one[QUALITY_KINDS] = {0, -0.0f, 1e-45f, 1e-30f, 1e-7f, 65504, 1e20f, 1.7e38f, 1, 0, 0, 0};
    for (size_t i = 0; i < n; i++)
        x[i] = i % 3 ? one[kind] : -one[kind];
    for (size_t i = 0; kind >= 9 && i < n; i++)
        x[i] = kind == 9 ? (i % 5 ? 1 : (float)NAN) : kind == 10 ? (i % 7 ? 0.5f : -(float)INFINITY) : i == n / 2;
}

static inline void quality_check_hostile(const nb_type_info *type)
{
    static _Alignas(64) uint8_t blocks[768 * 4];
    static float x[768], back[768], weight[768];
    for (int kind = 0; kind < QUALITY_KINDS; kind++)
        for (int w = 0; w < 4; w++)
            for (int rounding = 0; rounding < 2; rounding++) {
                quality_hostile(kind, x, 768);
                for (int i = 0; i < 768; i++)
                    weight[i] = w == 1 ? (float)(i == 700) : w == 2 ? 1e30f * (float)(i % 2) : 1e-42f * (float)(i % 3);
                type->quantize(x, w ? weight : NULL, 768, (nb_rounding)rounding, blocks);
                type->dequantize(blocks, back, 768);
                for (int i = 0; i < 768; i++) {
                    if (!(back[i] - back[i] == 0))
                        fail_msg("%s, kind %d, weights %d: value %d is %g", type->name, kind, w, i, (double)back[i]);
                    if (kind < 2 && back[i] != 0)
                        fail_msg("%s: zeros come back as %g", type->name, (double)back[i]);
                }
            }
}

#endif
