/* matmul_rows.h - a level's table: a set of functions for each row of matmul.def, made of the inline functions of the
 * file that includes it: dot_tile, dot_codes, unpack_tile, dot_float. LEVEL: the table's name; UNPACK_PAYS(words,
 * order, bits): whether prefill unpacks a type's tiles first; PACK, TRANSPOSE16, ACT_Q8, ACT_F32: the rest of the table. */
#define DOT_WIDTH(type, width)                                                                                         \
    static void dot##width##_##type(const void *w, const void *panel, size_t n, nb_sums acc)                           \
    {                                                                                                                  \
        dot_tile(NB_TYPE_##type, shape_##type, unpack_##type, w, panel, width, n, acc);                                \
    }
#define NB_MATMUL_Q(type, d, d_bytes, m, words_at, words, place, order, subs, shift, bits)                             \
    static const shape shape_##type = {subs,                                                                           \
                                       shift,                                                                          \
                                       bits,                                                                           \
                                       NB_TYPE_VALUES_##type / 32,                                                     \
                                       16 * NB_PACKED_BYTES(d_bytes, m, words),                                        \
                                       16 * NB_PACKED_BYTES(d_bytes, m, 0),                                            \
                                       m >= 0};                                                                        \
    static void unpack_##type(const void *tile, size_t n, void *codes)                                                 \
    {                                                                                                                  \
        unpack_tile(NB_TYPE_##type, shape_##type, tile, n, codes);                                                     \
    }                                                                                                                  \
    DOT_WIDTH(type, 1)                                                                                                 \
    DOT_WIDTH(type, 2)                                                                                                 \
    DOT_WIDTH(type, 4)                                                                                                 \
        DOT_WIDTH(type, 8) static void dot_codes_##type(const void *codes, const void *panel, size_t n, nb_sums acc)   \
    {                                                                                                                  \
        dot_codes(shape_##type, codes, panel, 8, n, acc);                                                              \
    }
#define DOT_FLOAT(type, width, values)                                                                                         \
    static void dot##width##_##type(const void *w, const void *panel, size_t n, nb_sums acc)                           \
    {                                                                                                                  \
        dot_float(NB_TYPE_##type, w, panel, width, n * values, acc);                                                            \
    }
#define NB_MATMUL_F(type, bytes, values)                                                                               \
    DOT_FLOAT(type, 1, values) DOT_FLOAT(type, 2, values) DOT_FLOAT(type, 4, values) DOT_FLOAT(type, 8, values)
#include "kernel/matmul.def"
#undef NB_MATMUL_Q
#undef NB_MATMUL_F

const nb_matmul_level LEVEL = {
    .types =
        {
#define DOTS(type)                                                                                                     \
    {                                                                                                                  \
        dot1_##type, dot2_##type, dot4_##type, dot8_##type                                                             \
    }
#define NB_MATMUL_Q(type, d, d_bytes, m, words_at, words, place, order, subs, shift, bits)                             \
    [NB_TYPE_##type] = {DOTS(type), UNPACK_PAYS(words, order, bits) ? unpack_##type : NULL, dot_codes_##type},
#define NB_MATMUL_F(type, bytes, values) [NB_TYPE_##type] = {DOTS(type), NULL, NULL},
#include "kernel/matmul.def"
#undef NB_MATMUL_Q
#undef NB_MATMUL_F
        },
    .pack = PACK,
    .transpose16 = TRANSPOSE16,
    .act_q8 = ACT_Q8,
    .act_f32 = ACT_F32,
};
