/* Linear quantization (nibble.h): ranges to scales, numbers to codes and back, and layers that use them. */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "num/fp8.h"
#include "num/number.h"

static bool is_float8(nb_linear_code code) { return code == NB_LINEAR_F8_E4M3 || code == NB_LINEAR_F8_E5M2; }

static nb_number number_of(nb_linear_code code)
{
    return code == NB_LINEAR_F8_E4M3 ? NB_NUMBER_F8_E4M3 : NB_NUMBER_F8_E5M2;
}

int nb_linear_bits(nb_linear_code code) { return code == NB_LINEAR_INT2 ? 2 : code == NB_LINEAR_INT4 ? 4 : 8; }

nb_status nb_linear_limits(nb_linear_code code, nb_linear_form form, int *qmin, int *qmax, nb_error *err)
{
    int half = 1 << (nb_linear_bits(code) - 1);
    if (is_float8(code))
        return nb_fail(err, NB_ERR_ARGUMENT, "float8 has no whole numbers to span; ask nb_linear_scale instead");
    *qmin = form == NB_LINEAR_SHIFT ? 0 : -half;
    *qmax = form == NB_LINEAR_SHIFT ? 2 * half - 1 : half - 1;
    return NB_OK;
}

/* the length that a scale stands for along its axis */
static size_t run_of(const nb_linear_params *p, size_t rows, size_t columns)
{
    return p->group ? p->group : p->axis == NB_LINEAR_ROW ? columns : rows;
}

size_t nb_linear_scales(const nb_linear_params *p, size_t rows, size_t columns)
{
    size_t length = p->axis == NB_LINEAR_ROW ? columns : rows, run = run_of(p, rows, columns);
    if (p->axis == NB_LINEAR_TENSOR)
        return p->group == 0;
    if (run == 0 || length % run != 0)
        return 0;
    return (p->axis == NB_LINEAR_ROW ? rows : columns) * (length / run);
}

static nb_status check(const nb_linear_params *p, size_t rows, size_t columns, nb_error *err)
{
    size_t values;
    if (is_float8(p->code) && p->form != NB_LINEAR_SYMMETRIC)
        return nb_fail(err, NB_ERR_ARGUMENT, "float8 is quantized symmetrically; it has no zero point");
    if (rows == 0 || columns == 0 || !nb_mul(rows, columns, &values))
        return nb_fail(err, NB_ERR_ARGUMENT, "%zu rows of %zu columns are no matrix", rows, columns);
    if (nb_linear_scales(p, rows, columns) == 0)
        return nb_fail(err, NB_ERR_ARGUMENT, "groups of %zu do not divide %zu rows of %zu columns along this axis",
                       p->group, rows, columns);
    return NB_OK;
}

static nb_status check_finite(const float *x, size_t n, nb_error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return nb_fail(err, NB_ERR_ARGUMENT, "value %zu is %g: only finite numbers can be quantized", i,
                           (double)x[i]);
    return NB_OK;
}

/* ---- scales ---- */

nb_status nb_linear_scale(nb_linear_code code, nb_linear_form form, float min, float max, float *scale, float *offset,
                          nb_error *err)
{
    float most = fmaxf(fabsf(min), fabsf(max));
    int qmin = 0, qmax = 0;
    if (!(min <= max) || !isfinite(min) || !isfinite(max))
        return nb_fail(err, NB_ERR_ARGUMENT, "%g to %g is no range", (double)min, (double)max);
    if (is_float8(code)) {
        *scale = most > 0 ? most / (float)nb_number_get(number_of(code)).max : 1;
        return NB_OK;
    }
    NB_TRY(nb_linear_limits(code, form, &qmin, &qmax, err));
    if (form == NB_LINEAR_SYMMETRIC) {
        *scale = most > 0 ? most / (float)qmax : 1;
        return NB_OK;
    }
    float extent = max - min;
    if (!isfinite(extent))
        return nb_fail(err, NB_ERR_ARGUMENT, "the range %g to %g is too wide for float32", (double)min, (double)max);
    *scale = extent / (float)(qmax - qmin);
    if (form == NB_LINEAR_SHIFT) {
        *scale = *scale > 0 ? *scale : 1;
        *offset = -min;
        return NB_OK;
    }
    if (!(*scale > 0)) /* one number only: it is a multiple of the scale */
        *scale = most > 0 ? most / (float)qmax : 1;
    double zero = rint((double)qmin - (double)min / (double)*scale);
    *offset = (float)fmin(fmax(zero, qmin), qmax);
    return NB_OK;
}

/* ---- codes ---- */

static int8_t encode(const nb_linear_params *p, float x, float scale, float offset, float qmin, float qmax)
{
    if (is_float8(p->code))
        return (int8_t)nb_number_encode(number_of(p->code), (double)(x / scale), NB_OVERFLOW_SATURATE);
    float q = p->form == NB_LINEAR_SHIFT    ? rintf((x + offset) / scale)
              : p->form == NB_LINEAR_AFFINE ? rintf(x / scale + offset)
                                            : rintf(x / scale);
    return (int8_t)(int)fminf(fmaxf(q, qmin), qmax);
}

static float decode(const nb_linear_params *p, int8_t code, float scale, float offset)
{
    switch (p->form) {
    case NB_LINEAR_AFFINE: return scale * ((float)code - offset);
    case NB_LINEAR_SHIFT: return scale * (float)(uint8_t)code - offset;
    default: break;
    }
    if (p->code == NB_LINEAR_F8_E4M3)
        return scale * nb_f8_e4m3_to_f32((uint8_t)code);
    if (p->code == NB_LINEAR_F8_E5M2)
        return scale * nb_f8_e5m2_to_f32((uint8_t)code);
    return scale * (float)code;
}

/* the scale of value [row][column] */
static size_t scale_index(const nb_linear_params *p, size_t rows, size_t columns, size_t row, size_t column)
{
    size_t run = run_of(p, rows, columns);
    if (p->axis == NB_LINEAR_TENSOR)
        return 0;
    return p->axis == NB_LINEAR_ROW ? row * (columns / run) + column / run : column * (rows / run) + row / run;
}

nb_status nb_linear_encode(const nb_linear_params *p, const float *x, size_t rows, size_t columns, const float *scale,
                           const float *offset, int8_t *codes, nb_error *err)
{
    int qmin = 0, qmax = 0;
    NB_TRY(check(p, rows, columns, err));
    NB_TRY(check_finite(x, rows * columns, err));
    if (!is_float8(p->code))
        NB_TRY(nb_linear_limits(p->code, p->form, &qmin, &qmax, err));
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) {
            size_t s = scale_index(p, rows, columns, r, c), i = r * columns + c;
            codes[i] = encode(p, x[i], scale[s], offset ? offset[s] : 0, (float)qmin, (float)qmax);
        }
    return NB_OK;
}

nb_status nb_linear_quantize(const nb_linear_params *p, const float *x, size_t rows, size_t columns, int8_t *codes,
                             float *scale, float *offset, nb_error *err)
{
    NB_TRY(check(p, rows, columns, err));
    NB_TRY(check_finite(x, rows * columns, err));
    size_t scales = nb_linear_scales(p, rows, columns);
    float *min = calloc(2 * scales, sizeof *min), *max = min + scales;
    nb_status status = NB_OK;
    if (!min)
        return nb_fail_memory(err, "ranges", 2 * scales * sizeof *min);
    for (size_t s = 0; s < scales; s++)
        min[s] = INFINITY, max[s] = -INFINITY;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) {
            size_t s = scale_index(p, rows, columns, r, c);
            float v = x[r * columns + c];
            min[s] = v < min[s] ? v : min[s];
            max[s] = v > max[s] ? v : max[s];
        }
    for (size_t s = 0; s < scales && status == NB_OK; s++)
        status = nb_linear_scale(p->code, p->form, min[s], max[s], &scale[s], offset ? &offset[s] : NULL, err);
    free(min);
    return status == NB_OK ? nb_linear_encode(p, x, rows, columns, scale, offset, codes, err) : status;
}

nb_status nb_linear_dequantize(const nb_linear_params *p, const int8_t *codes, const float *scale, const float *offset,
                               size_t rows, size_t columns, float *x, nb_error *err)
{
    NB_TRY(check(p, rows, columns, err));
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) {
            size_t s = scale_index(p, rows, columns, r, c), i = r * columns + c;
            x[i] = decode(p, codes[i], scale[s], offset ? offset[s] : 0);
        }
    return NB_OK;
}

/* ---- packing ---- */

static nb_status check_bits(int bits, nb_error *err)
{
    if (bits == 2 || bits == 4 || bits == 8)
        return NB_OK;
    return nb_fail(err, NB_ERR_ARGUMENT, "codes of %d bits are not packed; use 2, 4 or 8", bits);
}

nb_status nb_linear_pack(const int8_t *codes, size_t n, int bits, uint8_t *packed, nb_error *err)
{
    NB_TRY(check_bits(bits, err));
    size_t together = 8 / (size_t)bits;
    unsigned mask = (1u << bits) - 1;
    for (size_t i = 0; i < n; i += together) {
        unsigned byte = 0;
        for (size_t j = 0; j < together && i + j < n; j++)
            byte |= ((uint8_t)codes[i + j] & mask) << j * (size_t)bits;
        packed[i / together] = (uint8_t)byte;
    }
    return NB_OK;
}

nb_status nb_linear_unpack(const uint8_t *packed, size_t n, int bits, bool signs, int8_t *codes, nb_error *err)
{
    NB_TRY(check_bits(bits, err));
    size_t together = 8 / (size_t)bits;
    int half = 1 << (bits - 1), mask = 2 * half - 1;
    for (size_t i = 0; i < n; i++) {
        int code = packed[i / together] >> i % together * (size_t)bits & mask;
        codes[i] = (int8_t)(signs && code >= half ? code - 2 * half : code);
    }
    return NB_OK;
}

/* ---- ranges of activations ---- */

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* the value below which `share` of the sorted ones lie, between two neighbours in proportion */
static float quantile(const float *sorted, size_t n, double share)
{
    double at = share * (double)(n - 1);
    size_t low = (size_t)at;
    float next = sorted[low + 1 < n ? low + 1 : low];
    return sorted[low] + (float)(at - (double)low) * (next - sorted[low]);
}

static double squared_error(nb_linear_code code, nb_linear_form form, const float *x, size_t n, float min, float max)
{
    nb_linear_params p = {.code = code, .form = form};
    float scale = 1, offset = 0;
    int qmin = 0, qmax = 0;
    double sum = 0;
    if (nb_linear_scale(code, form, min, max, &scale, &offset, NULL) != NB_OK)
        return INFINITY;
    nb_linear_limits(code, form, &qmin, &qmax, NULL);
    for (size_t i = 0; i < n; i++) {
        int8_t q = encode(&p, x[i], scale, offset, (float)qmin, (float)qmax);
        double e = (double)x[i] - (double)decode(&p, q, scale, offset);
        sum += e * e;
    }
    return sum;
}

static void best_part(nb_linear_code code, nb_linear_form form, const float *x, size_t n, float *min, float *max)
{
    float low = *min, high = *max;
    double best = INFINITY;
    for (int part = 100; part > 0; part--) {
        float a = low * (float)part / 100, b = high * (float)part / 100;
        double e = squared_error(code, form, x, n, a, b);
        if (e < best) {
            best = e;
            *min = a;
            *max = b;
        }
    }
}

nb_status nb_linear_calibrate(nb_linear_range method, nb_linear_code code, nb_linear_form form, const float *x,
                              size_t n, double share, float *min, float *max, nb_error *err)
{
    bool symmetric = form == NB_LINEAR_SYMMETRIC;
    if (n == 0 || (method == NB_LINEAR_PERCENTILE && !(share > 0 && share <= 1)))
        return nb_fail(err, NB_ERR_ARGUMENT, n ? "a share of %g is not between 0 and 1" : "a range needs values",
                       share);
    NB_TRY(check_finite(x, n, err));
    float *sorted = malloc(n * sizeof *sorted);
    if (!sorted)
        return nb_fail_memory(err, "a sorted sample", n * sizeof *sorted);
    for (size_t i = 0; i < n; i++)
        sorted[i] = symmetric ? fabsf(x[i]) : x[i];
    qsort(sorted, n, sizeof *sorted, by_value);
    double outside = method == NB_LINEAR_PERCENTILE ? 1 - share : 0;
    *max = quantile(sorted, n, symmetric ? 1 - outside : 1 - outside / 2);
    *min = symmetric ? -*max : quantile(sorted, n, outside / 2);
    free(sorted);
    if (method == NB_LINEAR_MSE)
        best_part(code, form, x, n, min, max);
    return NB_OK;
}

/* ---- layers ---- */

static float narrowed(float x, nb_linear_activation activation)
{
    return activation == NB_LINEAR_A16     ? nb_f16_to_f32(nb_f32_to_f16(x))
           : activation == NB_LINEAR_ABF16 ? nb_bf16_to_f32(nb_f32_to_bf16(x))
                                           : x;
}

static void forward_float(const nb_linear_weight *w, const float *x, const float *bias, nb_linear_activation activation,
                          float *y)
{
    for (size_t r = 0; r < w->rows; r++) {
        double sum = 0;
        for (size_t c = 0; c < w->columns; c++) {
            size_t s = scale_index(&w->params, w->rows, w->columns, r, c);
            float weight = decode(&w->params, w->codes[r * w->columns + c], w->scale[s], w->offset ? w->offset[s] : 0);
            sum += (double)weight * (double)narrowed(x[c], activation);
        }
        y[r] = (float)(sum + (bias ? (double)bias[r] : 0));
    }
}

static nb_status forward_int8(const nb_linear_weight *w, const float *x, const float *bias, float scale, int8_t *codes,
                              float *y, nb_error *err)
{
    nb_linear_params p = {.code = NB_LINEAR_INT8, .form = NB_LINEAR_SYMMETRIC};
    if (scale > 0)
        NB_TRY(nb_linear_encode(&p, x, 1, w->columns, &scale, NULL, codes, err));
    else
        NB_TRY(nb_linear_quantize(&p, x, 1, w->columns, codes, &scale, NULL, err));
    for (size_t r = 0; r < w->rows; r++) {
        int64_t sum = 0;
        for (size_t c = 0; c < w->columns; c++)
            sum += w->codes[r * w->columns + c] * codes[c];
        float weight_scale = w->scale[scale_index(&w->params, w->rows, w->columns, r, 0)];
        y[r] = (float)((double)sum * (double)scale * (double)weight_scale + (bias ? (double)bias[r] : 0));
    }
    return NB_OK;
}

nb_status nb_linear_forward(const nb_linear_weight *w, const float *x, size_t tokens, const float *bias,
                            nb_linear_activation activation, float activation_scale, float *y, nb_error *err)
{
    const nb_linear_params *p = &w->params;
    bool integers = activation == NB_LINEAR_A8_STATIC || activation == NB_LINEAR_A8_DYNAMIC;
    NB_TRY(check(p, w->rows, w->columns, err));
    if (integers &&
        (p->code != NB_LINEAR_INT8 || p->form != NB_LINEAR_SYMMETRIC || p->axis == NB_LINEAR_COLUMN || p->group))
        return nb_fail(err, NB_ERR_ARGUMENT,
                       "8-bit activations want symmetric int8 weights with a scale a tensor or a row");
    if (activation == NB_LINEAR_A8_STATIC && !(activation_scale > 0 && isfinite(activation_scale)))
        return nb_fail(err, NB_ERR_ARGUMENT, "a static scale of %g is not usable; calibrate one",
                       (double)activation_scale);
    NB_TRY(check_finite(x, tokens * w->columns, err));
    int8_t *codes = integers ? malloc(w->columns) : NULL;
    nb_status status = NB_OK;
    if (integers && !codes)
        return nb_fail_memory(err, "8-bit activations", w->columns);
    for (size_t t = 0; t < tokens && status == NB_OK; t++) {
        const float *in = x + t * w->columns;
        if (integers)
            status = forward_int8(w, in, bias, activation == NB_LINEAR_A8_STATIC ? activation_scale : 0, codes,
                                  y + t * w->rows, err);
        else
            forward_float(w, in, bias, activation, y + t * w->rows);
    }
    free(codes);
    return status;
}
