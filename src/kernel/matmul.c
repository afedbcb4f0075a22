/* The order of the work: which tiles, chunks of k and panels meet when. The arithmetic is in matmul_tile.h. */
#include "kernel/matmul.h"

#include <assert.h>

#include "kernel/matmul_tile.h"
#include "kernel/outliers.h"

/* Measured on Zen 4 (32 KB L1, 1 MB L2). Each tile meets the panels of PANEL_BYTES before the next tile. 8-bit: all of k
 * in one pass, so that sums stay in registers (k = 8960: 68 % of the ceiling, where chunks of 1024 k with sums in memory
 * reach 62 %). Floats, four times as large: CHUNK of k at a time, and GROUP_TILES by a chunk before the next one.
 * UNPACK_PANELS: from how many panels on unpacking a tile first pays. */
enum { PANEL_BYTES = 2 << 20, CHUNK = 1024, GROUP_TILES = 8, UNPACK_PANELS = 3, SPAN = 256 };

/* Scales first; low and high bits of the first blocks by turns, since both are read together; then low bits alone.
 * In the file's order the hardware's prefetchers lose the stream: Q6_K ran at 29 % of the read bandwidth. */
#define EIGHT(i, step) i, i + step, i + 2 * step, i + 3 * step, i + 4 * step, i + 5 * step, i + 6 * step, i + 7 * step
static const uint8_t place_q3_k[27] = {EIGHT(4, 2), EIGHT(3, 2), EIGHT(19, 1), 0, 1, 2};
static const uint8_t place_q5_k[43] = {0, 1, 2, EIGHT(4, 2), EIGHT(3, 2), EIGHT(19, 1), EIGHT(27, 1), EIGHT(35, 1)};
static const uint8_t place_q6_k[52] = {
    EIGHT(4, 2), EIGHT(20, 1), EIGHT(28, 2), EIGHT(44, 1), EIGHT(5, 2), EIGHT(29, 2), 0, 1, 2, 3};

static const nb_tile_type tile_types[NB_TYPE_LIMIT] = {
#define NB_MATMUL_Q(type, d, d_bytes, m, at, n, place, order, subs, shift, bits)                                       \
    [NB_TYPE_##type] = {d,                                                                                             \
                        d_bytes,                                                                                       \
                        m,                                                                                             \
                        at,                                                                                            \
                        n,                                                                                             \
                        place,                                                                                         \
                        order,                                                                                         \
                        subs,                                                                                          \
                        0,                                                                                             \
                        NB_TYPE_VALUES_##type,                                                                         \
                        NB_TYPE_BYTES_##type,                                                                          \
                        NB_PACKED_BYTES(d_bytes, m, n)},
#define NB_MATMUL_F(type, bytes, values)                                                                               \
    [NB_TYPE_##type] = {0, 0, -1, 0, 0, NULL, NB_AS_IT_IS, 0, bytes, values, bytes, bytes},
#include "kernel/matmul.def"
#undef NB_MATMUL_Q
#undef NB_MATMUL_F
};

const nb_tile_type *nb_tile_type_get(nb_type type)
{
    return type < NB_TYPE_LIMIT && tile_types[type].file_bytes ? &tile_types[type] : NULL;
}

static const nb_matmul_level *current_level(void)
{
    switch (nb_cpu_current()) {
#if defined(__x86_64__)
    case NB_CPU_BF16:
    case NB_CPU_AVX512: return &nb_matmul_avx512;
    case NB_CPU_FMA: return &nb_matmul_fma;
    case NB_CPU_AVX2: return &nb_matmul_avx2;
#endif
    default: return &nb_matmul_ref;
    }
}

/* ---- activations ---- */

static bool has_blocks(nb_act_format format) { return format == NB_ACT_Q8 || format == NB_ACT_INT8; }

static size_t token_bytes(nb_act_format format, size_t k)
{
    return has_blocks(format) ? k / 32 * NB_PANEL_Q8_BYTES : k * (format == NB_ACT_BF16 ? 2 : sizeof(float));
}

/* width of the panel that holds the last 1..7 tokens; 8 for the whole ones */
static size_t panel_width(size_t n_tokens, size_t panel)
{
    size_t left = n_tokens - panel * NB_PANEL_TOKENS;
    return left > 4 ? 8 : left > 2 ? 4 : left;
}

size_t nb_act_panels(size_t n_tokens) { return (n_tokens + NB_PANEL_TOKENS - 1) / NB_PANEL_TOKENS; }

size_t nb_act_bytes(nb_act_format format, size_t k, size_t n_tokens)
{
    size_t whole = n_tokens / NB_PANEL_TOKENS, columns = whole * NB_PANEL_TOKENS;
    if (columns < n_tokens)
        columns += panel_width(n_tokens, whole);
    size_t bytes = columns * token_bytes(format, k);
    return format == NB_ACT_INT8 ? nb_round_up(bytes, 64) + columns * nb_outliers_bytes(k) : bytes;
}

void nb_act_write(nb_act_format format, const float *x, size_t x_stride, size_t n_tokens, size_t k, size_t panel_begin,
                  size_t panel_end, size_t k_begin, size_t k_end, void *out)
{
    nb_act_write_rows(format, x, x_stride, NULL, n_tokens, k, panel_begin, panel_end, k_begin, k_end, out);
}

void nb_act_write_rows(nb_act_format format, const float *x, size_t x_stride, const uint32_t *rows, size_t n_tokens,
                       size_t k, size_t panel_begin, size_t panel_end, size_t k_begin, size_t k_end, void *out)
{
    const nb_matmul_level *level = current_level();
    assert(format != NB_ACT_INT8);
    for (size_t p = panel_begin; p < panel_end; p++) {
        size_t first = p * NB_PANEL_TOKENS, n = nb_min_size(n_tokens - first, NB_PANEL_TOKENS);
        size_t width = panel_width(n_tokens, p);
        const float *tokens[NB_PANEL_TOKENS];
        for (size_t t = 0; t < n; t++)
            tokens[t] = x + (rows ? rows[first + t] : first + t) * x_stride;
        uint8_t *panel = (uint8_t *)out + first * token_bytes(format, k);
        if (format == NB_ACT_Q8)
            level->act_q8(tokens, n, width, k_begin, k_end, panel);
#if defined(__x86_64__)
        else if (format == NB_ACT_BF16)
            nb_act_bf16(tokens, n, width, k_begin, k_end, panel);
#endif
        else
            level->act_f32(tokens, n, width, k_begin, k_end, (float *)panel);
    }
}

void nb_act_write_int8(const float *x, size_t x_stride, size_t n_tokens, size_t k, size_t panel_begin, size_t panel_end,
                       float threshold, void *out)
{
    enum { PIECE = 256 };
    float rest[NB_PANEL_TOKENS][PIECE];
    const float *tokens[NB_PANEL_TOKENS];
    for (size_t p = panel_begin; p < panel_end; p++) {
        size_t first = p * NB_PANEL_TOKENS, n = nb_min_size(n_tokens - first, NB_PANEL_TOKENS);
        size_t width = panel_width(n_tokens, p);
        uint8_t *panel = (uint8_t *)out + first * token_bytes(NB_ACT_INT8, k);
        for (size_t t = 0; t < n; t++) {
            nb_outliers_find(x + (first + t) * x_stride, k, threshold, nb_outliers_at(out, k, n_tokens, first + t));
            tokens[t] = rest[t];
        }
        for (size_t k0 = 0; k0 < k; k0 += PIECE) {
            size_t values = nb_min_size(PIECE, k - k0);
            for (size_t t = 0; t < n; t++)
                nb_outliers_leave_out(x + (first + t) * x_stride + k0, values, threshold, rest[t]);
            current_level()->act_q8(tokens, n, width, 0, values, panel + k0 / 32 * NB_PANEL_Q8_BYTES * width);
        }
    }
}

/* ---- weights ---- */

static bool has_codes(nb_type type)
{
    const nb_tile_type *t = nb_tile_type_get(type);
    return t && t->words;
}

nb_act_format nb_matmul_act_format(nb_type type, size_t k)
{
    if (type == NB_TYPE_BF16 && k % 2 == 0 && nb_cpu_current() >= NB_CPU_BF16)
        return NB_ACT_BF16;
    return has_codes(type) ? NB_ACT_Q8 : NB_ACT_F32;
}

bool nb_matmul_packs(nb_type type, size_t rows, size_t k)
{
    const nb_tile_type *t = nb_tile_type_get(type);
    return t && rows > 0 && k % t->block_values == 0;
}

static size_t row_bytes(nb_type type, size_t k)
{
    const nb_type_info *info = nb_type_get(type);
    return k / info->block_values * info->block_bytes;
}

static size_t packed_row_bytes(nb_type type, size_t k)
{
    const nb_tile_type *t = nb_tile_type_get(type);
    return k / t->block_values * t->packed_bytes;
}

bool nb_packed_bytes(nb_type type, size_t rows, size_t k, size_t *bytes)
{
    const nb_tile_type *t = nb_tile_type_get(type);
    size_t row, up;
    return nb_matmul_packs(type, rows, k) && nb_mul(k / t->block_values, t->packed_bytes, &row) &&
           nb_add(rows, NB_TILE_ROWS - 1, &up) && nb_mul(up / NB_TILE_ROWS * NB_TILE_ROWS, row, bytes);
}

void nb_pack(nb_type type, const void *src, size_t rows, size_t k, void *dst, size_t tile_begin, size_t tile_end)
{
    const nb_tile_type *t = nb_tile_type_get(type);
    size_t row = row_bytes(type, k);
    for (size_t tile = tile_begin; tile < tile_end; tile++) {
        size_t first = tile * NB_TILE_ROWS, n = nb_min_size(rows - first, NB_TILE_ROWS);
        current_level()->pack(t, (const uint8_t *)src + first * row, row, n, k / t->block_values,
                              (uint8_t *)dst + first * packed_row_bytes(type, k));
    }
}

/* ---- the product ---- */

/* k values worked on at once */
static size_t chunk_values(nb_act_format format, size_t k) { return format == NB_ACT_F32 ? nb_min_size(k, CHUNK) : k; }

/* panels that meet one tile before the next */
static size_t panels_together(nb_act_format format, size_t chunk)
{
    return nb_max_size(1, PANEL_BYTES / (NB_PANEL_TOKENS * token_bytes(format, chunk)));
}

enum { PANEL_SUMS = NB_PANEL_TOKENS * NB_TILE_ROWS };

/* Scratch of one thread, one after the other, each a multiple of 64 bytes. */
typedef struct areas {
    size_t sums;   /* f32 [8][16]; where k is cut in chunks, of each panel and tile of a group */
    size_t tile;   /* a packed tile made from file rows; or file rows, aligned or unpacked */
    size_t codes;  /* a tile as codes, or a chunk of it as f32 [k][16] */
    size_t floats; /* f32 [16][SPAN]: dequantized rows */
} areas;

static areas plan_areas(nb_type type, nb_act_format format, size_t k, size_t n_tokens)
{
    const nb_tile_type *t = nb_tile_type_get(type);
    size_t chunk = chunk_values(format, k);
    size_t kept = chunk < k ? GROUP_TILES * nb_min_size(nb_act_panels(n_tokens), panels_together(format, chunk)) : 1;
    size_t tile = nb_max_size(row_bytes(type, k), t ? packed_row_bytes(type, k) : 0);
    areas a = {.sums = kept * PANEL_SUMS * sizeof(float), .tile = nb_round_up(16 * tile, 64)};
    if (has_blocks(format))
        a.codes = k / 32 * nb_codes_bytes(t->subs, nb_tile_has_min(t));
    else if (format == NB_ACT_F32) {
        a.codes = chunk * 64;
        a.floats = SPAN * 64;
    }
    return a;
}

size_t nb_matmul_scratch(nb_type type, nb_act_format format, size_t k, size_t n_tokens)
{
    areas a = plan_areas(type, format, k, n_tokens);
    return a.sums + a.tile + a.codes + a.floats;
}

typedef struct job {
    const nb_matmul *m;
    const nb_tile_type *t; /* NULL: only file rows, only float32 */
    const nb_tile_kernels *kernels, *f32;
    const nb_matmul_level *level;
    size_t row_bytes;
    bool unpack;
    float *sums;
    uint8_t *tile, *codes;
    float *floats;
} job;

static job make_job(const nb_matmul *m)
{
    areas a = plan_areas(m->type, m->format, m->k, m->n_tokens);
    uint8_t *s = m->scratch;
    const nb_matmul_level *level = current_level();
    const nb_tile_kernels *kernels = &level->types[m->type];
#if defined(__x86_64__)
    if (m->format == NB_ACT_BF16)
        kernels = &nb_matmul_bf16;
#endif
    return (job){
        .m = m,
        .t = nb_tile_type_get(m->type),
        .kernels = kernels,
        .f32 = &level->types[NB_TYPE_F32],
        .level = level,
        .row_bytes = row_bytes(m->type, m->k),
        .unpack = has_blocks(m->format) && kernels->unpack && m->n_tokens >= UNPACK_PANELS * NB_PANEL_TOKENS,
        .sums = (float *)s,
        .tile = s + a.sums,
        .codes = s + a.sums + a.tile,
        .floats = (float *)(s + a.sums + a.tile + a.codes),
    };
}

/* A tile, or a chunk of it, in the form that the kernels read. */
typedef struct operand {
    const nb_tile_kernels *kernels;
    const void *w;
    size_t n;          /* in units of the kernel */
    const void *codes; /* NULL when not unpacked */
} operand;

/* The chunk that begins `first` bytes into the rows of a tile at `at`, as file bytes: where it lies if that can be. */
static const uint8_t *file_rows(const job *j, const uint8_t *at, size_t rows, size_t first, size_t bytes,
                                size_t *stride)
{
    const nb_type_info *info = nb_type_get(j->m->type);
    *stride = bytes;
    if (j->m->packed) {
        size_t skipped = first / info->block_bytes * j->t->packed_bytes * NB_TILE_ROWS;
        nb_unpack_rows(j->t, at + skipped, bytes / info->block_bytes, j->tile, bytes);
        return j->tile;
    }
    /* dequantizers want their blocks aligned: to the number of a float type, to the f16 scale of others */
    size_t align = info->block_values == 1 ? info->block_bytes : _Alignof(nb_f16);
    if (((uintptr_t)at | j->row_bytes) % align == 0) {
        *stride = j->row_bytes;
        return at + first;
    }
    for (size_t r = 0; r < rows; r++)
        memcpy(j->tile + r * bytes, at + r * j->row_bytes + first, bytes);
    return j->tile;
}

static operand dequantized(const job *j, const uint8_t *at, size_t rows, size_t k0, size_t k1)
{
    const nb_type_info *info = nb_type_get(j->m->type);
    size_t stride;
    const uint8_t *src = file_rows(j, at, rows, row_bytes(j->m->type, k0), row_bytes(j->m->type, k1 - k0), &stride);
    for (size_t k = 0; k < k1 - k0; k += SPAN) {
        size_t n = nb_min_size(SPAN, k1 - k0 - k);
        for (size_t r = 0; r < rows; r++)
            info->dequantize(src + r * stride + row_bytes(j->m->type, k), j->floats + r * n, n);
        memset(j->floats + rows * n, 0, (NB_TILE_ROWS - rows) * n * sizeof(float));
        j->level->transpose16(j->floats, n, (float *)j->codes + k * NB_TILE_ROWS);
    }
    return (operand){j->f32, j->codes, k1 - k0, NULL};
}

static operand load_tile(const job *j, size_t tile, size_t k0, size_t k1)
{
    const nb_matmul *m = j->m;
    const nb_tile_type *t = j->t;
    size_t stride = m->packed ? packed_row_bytes(m->type, m->k) : j->row_bytes;
    const uint8_t *at = (const uint8_t *)m->weights + tile * NB_TILE_ROWS * stride;
    size_t rows = nb_min_size(m->rows - tile * NB_TILE_ROWS, NB_TILE_ROWS);
    if (!t || (m->format == NB_ACT_F32 && !(m->packed && t->float_bytes)))
        return dequantized(j, at, rows, k0, k1);
    operand w = {j->kernels, at + packed_row_bytes(m->type, k0) * NB_TILE_ROWS, (k1 - k0) / t->block_values, NULL};
    if (!m->packed) {
        j->level->pack(t, at, j->row_bytes, rows, w.n, j->tile);
        w.w = j->tile;
    }
    if (j->unpack) {
        j->kernels->unpack(w.w, w.n, j->codes);
        w.codes = j->codes;
    }
    return w;
}

/* a row of a tile's results; unaligned */
typedef float tile_row __attribute__((vector_size(NB_TILE_ROWS * sizeof(float)), aligned(sizeof(float)), may_alias));

static void write_whole_rows(const nb_matmul *m, size_t row, size_t token, size_t n_tokens, const float *sums)
{
    tile_row bias = {0};
    if (m->bias)
        memcpy(&bias, m->bias + row, sizeof bias);
    for (size_t t = 0; t < n_tokens; t++, sums += NB_TILE_ROWS) {
        tile_row *y = (tile_row *)(void *)(m->y + (token + t) * m->y_stride + row);
        tile_row v = *(const tile_row *)(const void *)sums;
        if (m->bias)
            v += bias;
        if (m->add)
            v += *y;
        *y = v;
    }
}

static void write_out(const nb_matmul *m, size_t tile, size_t token, size_t n_tokens, const float *sums)
{
    size_t row = tile * NB_TILE_ROWS, n = nb_min_size(m->rows - row, NB_TILE_ROWS);
    if (n == NB_TILE_ROWS) {
        write_whole_rows(m, row, token, n_tokens, sums);
        return;
    }
    for (size_t t = 0; t < n_tokens; t++, sums += NB_TILE_ROWS) {
        float *y = m->y + (token + t) * m->y_stride + row;
        for (size_t r = 0; r < n; r++) {
            float v = m->bias ? sums[r] + m->bias[row + r] : sums[r];
            y[r] = m->add ? y[r] + v : v;
        }
    }
}

/* the lines of y that a panel's results are added to: asked for before the product, there when it is done */
static void prefetch_out(const nb_matmul *m, size_t tile, size_t token, size_t n_tokens)
{
    for (size_t t = 0; t < n_tokens; t++)
        __builtin_prefetch(m->y + (token + t) * m->y_stride + tile * NB_TILE_ROWS, 1);
}

/* Values [k0, k1) of a tile by panels [panel_begin, panel_end). kept: f32 [panels][8][16] from chunk to chunk. */
static void run_tile(const job *j, size_t tile, size_t panel_begin, size_t panel_end, size_t k0, size_t k1, float *kept)
{
    const nb_matmul *m = j->m;
    operand w = load_tile(j, tile, k0, k1);
    bool whole = k0 == 0 && k1 == m->k;
    /* sums that need nothing more go to y at once: 5 % at k = 1536, 13 % at 576 */
    bool plain = whole && !m->bias && !m->add && (tile + 1) * NB_TILE_ROWS <= m->rows;
    for (size_t p = panel_begin; p < panel_end; p++) {
        size_t token = p * NB_PANEL_TOKENS, width = panel_width(m->n_tokens, p);
        size_t n_tokens = nb_min_size(m->n_tokens - token, NB_PANEL_TOKENS);
        const uint8_t *panel = (const uint8_t *)m->act + token * token_bytes(m->format, m->k) +
                               width * token_bytes(m->format, k0);
        float *sums = whole ? j->sums : kept + (p - panel_begin) * PANEL_SUMS;
        bool direct = plain && n_tokens == width;
        nb_sums acc = {sums, NB_TILE_ROWS, k0 == 0};
        if (direct)
            acc = (nb_sums){m->y + token * m->y_stride + tile * NB_TILE_ROWS, m->y_stride, true};
        if (m->add && k1 == m->k)
            prefetch_out(m, tile, token, n_tokens);
        if (w.codes && width == 8)
            w.kernels->dot_codes(w.codes, panel, m->k / 32, acc);
        else
            w.kernels->dot[nb_log2_width(width)](w.w, panel, w.n, acc);
        for (size_t t = 0; m->format == NB_ACT_INT8 && t < n_tokens; t++)
            nb_outliers_multiply(w.w, nb_outliers_at(m->act, m->k, m->n_tokens, token + t), m->k,
                                 acc.at + t * acc.stride);
        if (!direct && k1 == m->k)
            write_out(m, tile, token, n_tokens, sums);
    }
}

void nb_matmul_run(const nb_matmul *m, size_t row_begin, size_t row_end)
{
    assert(row_begin % NB_TILE_ROWS == 0 &&
           (m->format == NB_ACT_F32 || m->format == nb_matmul_act_format(m->type, m->k) ||
            (m->format == NB_ACT_INT8 && m->type == NB_TYPE_INT8)));
    job j = make_job(m);
    size_t panels = nb_act_panels(m->n_tokens), tile_end = (row_end + NB_TILE_ROWS - 1) / NB_TILE_ROWS;
    size_t chunk = chunk_values(m->format, m->k);
    if (m->packed && j.t->float_bytes && (panels < UNPACK_PANELS || m->type != NB_TYPE_F32))
        chunk = m->k; /* decode wants one stream of memory; tiles of halves fit in L2 */
    size_t together = panels_together(m->format, chunk), group = chunk < m->k ? GROUP_TILES : 1;
    for (size_t p = 0; p < panels; p += together) {
        size_t p_end = nb_min_size(panels, p + together);
        for (size_t g = row_begin / NB_TILE_ROWS; g < tile_end; g += group)
            for (size_t k0 = 0; k0 < m->k; k0 += chunk)
                for (size_t tile = g; tile < nb_min_size(g + group, tile_end); tile++)
                    run_tile(&j, tile, p, p_end, k0, nb_min_size(m->k, k0 + chunk),
                             j.sums + (tile - g) * (p_end - p) * PANEL_SUMS);
    }
}
